"""`lpm train ...` and `lpm stream`: a thin edge over the trainer; every expected error is one sentence.

Commands print for people, write JSON where asked, and return the exit code: 0 all well, 1 the request could not be
carried out or the data has problems (2 is wrong usage). Called from Python they are plain functions that raise. torch
is imported inside of them, so that `lpm` stays quick to start for those who do not train.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

train = typer.Typer(no_args_is_help=True, help="Train a generator on packed shards.")

Dataset = Annotated[str, typer.Argument(help="a packed dataset: a directory or an s3:// prefix")]
Checkpoint = Annotated[Path, typer.Argument(help="a checkpoint directory, or a run's directory for its best one")]
Where = Annotated[str | None, typer.Option(help="SQL over the manifest, e.g. \"state = 'listen' AND duration_s >= 4\"")]
Codec = Annotated[str, typer.Option(help="patch:TxHxW, principal:FILE, tiny:FILE, wan:DIR or ltx:DIR")]
Audio = Annotated[str, typer.Option(help="logmel:QxMELS, wav2vec2:DIR or whisper:DIR")]
Text = Annotated[str, typer.Option(help="hashed-words:WIDTHxLENGTH, minilm:DIR, t5:DIR or clip:DIR")]
Buckets = Annotated[str, typer.Option(help="FRAMESxHEIGHTxWIDTH, several with commas")]
Device = Annotated[str, typer.Option(help="cpu or cuda")]

_F = TypeVar("_F", bound=Callable[..., int])


def told(function: _F) -> Callable[..., None]:
    """Make a command of a function: its result is the exit code, and errors that answer the user are one sentence."""

    @functools.wraps(function)
    def run(*args: object, **options: object) -> None:
        from lpm_train.checkpoint import CheckpointError
        from lpm_train.config import ConfigError
        from lpm_train.loop import TrainingError
        from lpm_train.storage import DataError

        try:
            code = function(*args, **options)
        except (CheckpointError, ConfigError, DataError, TrainingError) as e:
            typer.echo(f"lpm: {e}", err=True)
            code = 1
        raise typer.Exit(code)

    return run


def command(name: str) -> Callable[[_F], _F]:
    """Register a function as `lpm train NAME`; the function itself stays as it is."""

    def register(function: _F) -> _F:
        train.command(name)(told(function))
        return function

    return register


@command("run")
def run(
    dataset: Dataset,
    out: Annotated[Path, typer.Option(help="directory of the run: checkpoints, configuration, log")],
    preset: Annotated[str, typer.Option(help="toy, small or h200_1b3, or module:function")] = "small",
    stage: Annotated[str | None, typer.Option(help="pretrain, causal, consistency or distill")] = None,
    init: Annotated[Path | None, typer.Option(help="run or checkpoint of the stage before")] = None,
    teacher: Annotated[Path | None, typer.Option(help="distill: run that judges; default: --init")] = None,
    where: Where = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="section.field=value, e.g. optim.lr=1e-4")] = None,
) -> int:
    """Run one stage, or go on with it: pretrain, then causal, then distill, each from the best of the one before."""
    from lpm_train.session import resolve, run_stage

    run_stage(resolve(preset, stage, dataset, where, settings or []), out, init, teacher)
    return 0


@command("precompute")
def precompute(
    dataset: Dataset,
    name: Annotated[str, typer.Option(help="name of the set under precomputed/")] = "default",
    codec: Codec = "patch:4x8x8",
    audio: Audio = "logmel:2x80",
    text: Text = "hashed-words:64x48",
    buckets: Buckets = "64x256x256",
    where: Where = None,
    device: Device = "cpu",
    hop_frames: Annotated[int | None, typer.Option(help="frames between windows; default: end to end")] = None,
    dtype: Annotated[str, typer.Option(help="float16 or float32")] = "float16",
    workers: int = 2,
) -> int:
    """Write latents, audio features and text embeddings beside the shards; continues where it stopped."""
    from lpm_train import precompute as p
    from lpm_train.session import make_encoders, parse_buckets

    counts = p.precompute(
        dataset, name, make_encoders(codec, audio, text, device), parse_buckets(buckets), where=where,
        hop_frames=hop_frames, dtype=dtype, workers=workers,
        report=lambda shard, n: print(f"{shard}: {n} samples", flush=True),
    )  # fmt: skip
    print(
        f"precomputed/{name}: {counts['samples']} samples of {counts['shards']} shards written "
        f"({counts['bytes'] / 1e6:.1f} MB), {counts['kept']} were there, {counts['too_short']} are too short"
    )
    return 0


@command("doctor")
def doctor(
    dataset: Dataset,
    sheet: Annotated[str | None, typer.Option(help="write a contact sheet of a real batch to this PNG")] = None,
    report: Annotated[str | None, typer.Option(help="write the findings to this JSON")] = None,
    codec: Codec = "patch:4x8x8",
    audio: Audio = "logmel:2x80",
    text: Text = "hashed-words:64x48",
    buckets: Buckets = "64x256x256",
    where: Where = None,
    precomputed: Annotated[str | None, typer.Option(help="name of a precomputed set to load")] = None,
    batch: Annotated[int, typer.Option(help="samples in a batch")] = 4,
    workers: int = 2,
    batches: Annotated[int, typer.Option(help="batches to time")] = 8,
) -> int:
    """Check that every sample decodes and its sound fits its picture; time reading, decoding and loading."""
    from lpm_train.extras.doctor import examine
    from lpm_train.loader import LoaderConfig
    from lpm_train.session import make_encoders, parse_buckets

    config = LoaderConfig(
        buckets=parse_buckets(buckets), where=where, global_batch=batch, precomputed=precomputed, workers=workers
    )

    def progress(done: int, total: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{done}/{total} samples", end="" if done < total else "\n", file=sys.stderr, flush=True)

    found = examine(dataset, config, make_encoders(codec, audio, text), sheet=sheet, batches=batches, report=progress)
    print("\n".join(found.lines()))
    if sheet is not None and found.loader:
        print(f"contact sheet: {sheet}")
    if report is not None:
        Path(report).write_text(json.dumps(found.as_dict(), indent=1) + "\n", encoding="utf-8")
    return 0 if found.healthy else 1


@command("codec")
def codec(
    dataset: Dataset,
    out: Annotated[str, typer.Option(help="file to write; used then as tiny:FILE")],
    stride: Annotated[str, typer.Option(help="frames, rows and columns in a latent")] = "4x8x8",
    channels: int = 16,
    width: int = 64,
    bucket: Annotated[str, typer.Option(help="FRAMESxHEIGHTxWIDTH of the training windows")] = "16x128x128",
    steps: int = 5000,
    batch: int = 8,
    lr: float = 1e-3,
    where: Where = None,
    device: Device = "cpu",
    seed: int = 0,
) -> int:
    """Train the small video autoencoder on a dataset's own pictures."""
    from lpm_train.extras.codec_fit import fit_codec
    from lpm_train.extras.codec_tiny import TinyConfig
    from lpm_train.session import parse_buckets

    def progress(step: int, loss: float) -> None:
        if step % max(1, steps // 20) == 0:
            print(f"step {step}: loss {loss:.4f}", flush=True)

    shape = TinyConfig(stride=parse_buckets(stride)[0], channels=channels, width=width)
    found = fit_codec(
        dataset, out, shape, parse_buckets(bucket)[0], steps=steps, batch=batch, lr=lr, where=where, device=device,
        seed=seed, report=progress,
    )  # fmt: skip
    whose = "held-out" if found["held_out"] else "training (the split val is empty)"
    print(
        f"{out}: {found['psnr_db']:.1f} dB on {whose} clips; the mean of each block alone has "
        f"{found['psnr_blocks_db']:.1f} dB"
    )
    return 0


@command("eval")
def evaluate(
    checkpoint: Checkpoint,
    dataset: Dataset,
    where: Where = "split = 'val'",
    batches: Annotated[int, typer.Option(help="held-out batches")] = 4,
    out: Annotated[Path | None, typer.Option(help="also write the figures to this JSON")] = None,
) -> int:
    """Print held-out loss by state, condition gaps, and drift, motion and speed of a rollout of 20 clip lengths."""
    from lpm_train.checkpoint import find
    from lpm_train.session import load_model, run_eval

    config, model = load_model(checkpoint)
    figures = run_eval(config, model, dataset, where, batches)
    print(f"{find(checkpoint)} ({config.run.stage}), {batches} batches where {where}")
    print("\n".join(f"  {name:28s} {value:.4g}" for name, value in figures.items()))
    if out is not None:
        out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


@told
def stream(
    checkpoint: Checkpoint,
    image: Annotated[Path, typer.Option(help="picture of the character: its global reference")],
    out: Annotated[Path, typer.Option(help="MP4 to write")],
    ref: Annotated[list[str] | None, typer.Option(help="more pictures: PATH, view:PATH or expression:PATH")] = None,
    speak: Annotated[Path | None, typer.Option(help="what the character says; none: it does not speak")] = None,
    listen: Annotated[Path | None, typer.Option(help="what the character hears; none: nobody is heard")] = None,
    text: Annotated[str, typer.Option(help="what the character does")] = "",
    seconds: Annotated[float | None, typer.Option(help="length; default: that of the longer sound")] = None,
    seed: int = 0,
) -> int:
    """Generate a video block by block, as a live stream would be, and report first-chunk latency and speed."""
    from lpm_train.perform import perform
    from lpm_train.session import load_model

    config, model = load_model(checkpoint)
    print(perform(model, config, image, out, ref or [], speak, listen, words=text, seconds=seconds, seed=seed))
    return 0


if __name__ == "__main__":
    train(prog_name="lpm train")  # what torchrun starts
