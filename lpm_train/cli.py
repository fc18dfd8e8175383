"""`lpm train ...` and `lpm stream`: a thin edge over the trainer; every expected error is one sentence.

torch is imported inside the commands, so that `lpm` stays quick to start for those who do not train.
Exit codes: 0 all well, 1 the request could not be carried out or the data has problems, 2 wrong usage.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

train = typer.Typer(no_args_is_help=True, help="Train a generator on packed shards.")

Dataset = Annotated[str, typer.Argument(help="a packed dataset: a directory or an s3:// prefix")]
Checkpoint = Annotated[Path, typer.Argument(help="a checkpoint directory, or a run's directory for its best one")]
Where = Annotated[str | None, typer.Option(help="SQL over the manifest, e.g. \"state = 'listen' AND duration_s >= 4\"")]
Codec = Annotated[str, typer.Option(help="patch:TxHxW, principal:FILE, tiny:FILE, wan:DIR or ltx:DIR")]
Audio = Annotated[str, typer.Option(help="logmel:QxMELS, wav2vec2:DIR or whisper:DIR")]
Text = Annotated[str, typer.Option(help="hashed-words:WIDTHxLENGTH, minilm:DIR, t5:DIR or clip:DIR")]
Buckets = Annotated[str, typer.Option(help="FRAMESxHEIGHTxWIDTH, several with commas")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="section.field=value, e.g. optim.lr=1e-4")]


@contextmanager
def told() -> Iterator[None]:
    """Turn errors that are answers to the user into one sentence and exit code 1."""
    from lpm_train.checkpoint import CheckpointError
    from lpm_train.config import ConfigError
    from lpm_train.loop import TrainingError
    from lpm_train.storage import DataError

    try:
        yield
    except (CheckpointError, ConfigError, DataError, TrainingError) as e:
        typer.echo(f"lpm: {e}", err=True)
        raise typer.Exit(1) from e


@train.command()
def run(
    dataset: Dataset,
    out: Annotated[Path, typer.Option(help="directory of the run: checkpoints, configuration, log")],
    preset: Annotated[str, typer.Option(help="toy, small or h200_1b3, or module:function")] = "small",
    stage: Annotated[str | None, typer.Option(help="pretrain, causal, consistency or distill")] = None,
    init: Annotated[Path | None, typer.Option(help="run or checkpoint of the stage before")] = None,
    teacher: Annotated[
        Path | None, typer.Option(help="distill: run or checkpoint that judges; default: --init")
    ] = None,
    where: Where = None,
    settings: Settings = None,
) -> None:
    """Run one stage, or go on with it: pretrain, then causal, then distill, each from the best of the one before."""
    from lpm_train.commands_train import run_stage

    with told():
        raise typer.Exit(run_stage(dataset, out, preset, stage, init, teacher, where, settings or []))


@train.command()
def precompute(
    dataset: Dataset,
    name: Annotated[str, typer.Option(help="name of the set under precomputed/")] = "default",
    codec: Codec = "patch:4x8x8",
    audio: Audio = "logmel:2x80",
    text: Text = "hashed-words:64x48",
    buckets: Buckets = "64x256x256",
    where: Where = None,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    hop_frames: Annotated[
        int | None, typer.Option(help="a window starts every so many frames; default: end to end")
    ] = None,
    dtype: Annotated[str, typer.Option(help="float16 or float32")] = "float16",
    workers: int = 2,
) -> None:
    """Write latents, audio features and text embeddings beside the shards; continues where it stopped."""
    from lpm_train.commands_data import run_precompute

    with told():
        raise typer.Exit(
            run_precompute(
                dataset, name=name, buckets=buckets, codec=codec, audio=audio, text=text, device=device, where=where,
                hop_frames=hop_frames, dtype=dtype, workers=workers,
            )
        )  # fmt: skip


@train.command()
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
) -> None:
    """Check that every sample decodes and its sound fits its picture; time reading, decoding and loading."""
    from lpm_train.commands_data import run_doctor

    with told():
        raise typer.Exit(
            run_doctor(
                dataset, sheet=sheet, report=report, buckets=buckets, codec=codec, audio=audio, text=text, where=where,
                precomputed=precomputed, global_batch=batch, workers=workers, batches=batches,
            )
        )  # fmt: skip


@train.command()
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
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    seed: int = 0,
) -> None:
    """Train the small video autoencoder on a dataset's own pictures."""
    from lpm_train.commands_data import run_codec

    with told():
        raise typer.Exit(
            run_codec(
                dataset, out, stride=stride, channels=channels, width=width, bucket=bucket, steps=steps, batch=batch,
                lr=lr, where=where, device=device, seed=seed,
            )
        )  # fmt: skip


@train.command("eval")
def evaluate(
    checkpoint: Checkpoint,
    dataset: Dataset,
    where: Where = "split = 'val'",
    batches: Annotated[int, typer.Option(help="held-out batches")] = 4,
    out: Annotated[Path | None, typer.Option(help="also write the figures to this JSON")] = None,
) -> None:
    """Print held-out loss by state, condition gaps, and drift, motion and speed of a rollout of 20 clip lengths."""
    from lpm_train.commands_train import run_eval

    with told():
        raise typer.Exit(run_eval(checkpoint, dataset, where, batches, out))


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
) -> None:
    """Generate a video block by block, as a live stream would be, and report first-chunk latency and speed."""
    from lpm_train.commands_train import run_stream

    with told():
        raise typer.Exit(run_stream(checkpoint, image, out, ref or [], speak, listen, text, seconds, seed))


if __name__ == "__main__":
    train(prog_name="lpm train")  # what torchrun starts
