"""The commands around training: `lpm train precompute | doctor | codec | eval | budget | export`, and `lpm stream`.

Thin edges like `lpm_train.cli`, whose `lpm train` they join when this module is imported. They write JSON where asked;
exit code 1 also says that the data has problems.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from lpm_train.cli import Dataset, Preset, Settings, Where, command, told
from lpm_train.cli import train as train

Checkpoint = Annotated[Path, typer.Argument(help="a checkpoint directory, or a run's directory for its best one")]
Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:N")]
Workers = Annotated[int, typer.Option(min=1, help="threads that decode")]

LOOKED_AT = ("data", "eval", "flow", "stream")
"""Sections of settings that `lpm train eval` uses; `flow` is how a model that sees both directions is sampled."""


def parse_buckets(text: str) -> tuple[tuple[int, int, int], ...]:
    """Read "FRAMESxHEIGHTxWIDTH[,...]".

    Raises:
        DataError: it is not of that form, or a number is not positive.
    """
    from lpm_train.storage import DataError

    try:
        out = [tuple(int(n) for n in part.split("x")) for part in text.split(",")]
        sizes = tuple((frames, height, width) for frames, height, width in out)
        if min(map(min, sizes)) < 1:
            raise ValueError(text)
        return sizes
    except ValueError as e:
        raise DataError(
            f"buckets {text!r}: write positive FRAMESxHEIGHTxWIDTH, several with commas, e.g. 64x256x256"
        ) from e


def progress(what: str) -> Callable[[int, int], None]:
    """Return what shows progress: one line that changes on a terminal, elsewhere a line for each tenth."""
    tenth = -1

    def tell(done: int, total: int) -> None:
        nonlocal tenth
        if sys.stderr.isatty():
            print(f"\r{done}/{total} {what}", end="" if done < total else "\n", file=sys.stderr, flush=True)
        elif (now := 10 * done // max(1, total)) > tenth:
            tenth = now
            print(f"{done}/{total} {what}", file=sys.stderr, flush=True)

    return tell


@command("precompute")
def precompute(
    dataset: Dataset,
    name: Annotated[str, typer.Option(help="name of the set under precomputed/")] = "default",
    preset: Preset = None,
    settings: Settings = None,
    where: Where = None,
    device: Device = "cpu",
    hop_frames: Annotated[int | None, typer.Option(min=1, help="frames between windows; default: end to end")] = None,
    dtype: Annotated[str, typer.Option(help="float16 or float32")] = "float16",
    workers: Workers = 2,
) -> int:
    """Write latents, audio features and text embeddings beside the shards; continues where it stopped.

    Encoders and sizes are those of the preset (small) and of --set data.*, as `run` takes them.
    """
    from lpm_train.data.sizes import Rule
    from lpm_train.fitting import sized
    from lpm_train.resolve import resolve
    from lpm_train.session import make_encoders, usable
    from lpm_train.tools import precompute as p

    usable(device)
    config = resolve(preset, dataset, where, settings or [])
    config = replace(config, data=replace(config.data, precomputed=name))
    encoders = make_encoders(config.data, device)
    data = sized(config, encoders, partial(print, flush=True)).data
    counts = p.precompute(
        dataset, name, encoders, data.sizes, where=data.where or None, hop_frames=hop_frames, dtype=dtype,
        workers=workers, timed=data.prompts == "timed", rule=Rule.of(data), report=progress("samples"),
    )  # fmt: skip
    print(
        f"precomputed/{name}: {counts['samples']} samples of {counts['shards']} shards written "
        f"({counts['bytes'] / 1e6:.1f} MB), {counts['kept']} were there, "
        f"{counts['left_out']} are too short or fit no size\n"
        f"train on it with --set data.precomputed={name} and the same encoders and sizes"
    )
    return 0


@command("doctor")
def doctor(
    dataset: Dataset,
    sheet: Annotated[str | None, typer.Option(help="write a contact sheet of a real batch to this PNG")] = None,
    report: Annotated[str | None, typer.Option(help="write the findings to this JSON")] = None,
    preset: Preset = None,
    settings: Settings = None,
    where: Where = None,
    precomputed: Annotated[str | None, typer.Option(help="name of a precomputed set to load")] = None,
    batch: Annotated[int, typer.Option(min=1, help="samples in a batch")] = 4,
    workers: Workers = 2,
    batches: Annotated[int, typer.Option(min=1, help="batches to time")] = 8,
) -> int:
    """Check that every sample decodes and its sound fits its picture; time reading, decoding and loading.

    Then say how well steps and balance of the settings fit what `run` would train on (the split train) and what the
    other splits are good for: advice, no problem. A person or source that lies in two splits is one: exit code 1. Sizes
    that `run` would refuse are refused in the end. And how many chains of clips there are for a distillation whose
    rollouts are longer than a clip (--set distill.rollout=N).
    Without a preset, pictures and words of the batch go through encoders that need no weights.
    """
    from lpm_train.data.shards import trained_on
    from lpm_train.resolve import resolve
    from lpm_train.session import make_encoders
    from lpm_train.tools.doctor import chains, examine, must_run, of_manifest, sized_or_refused
    from lpm_train.tools.outputs import must_write

    must_write(sheet, report)
    plain = [] if preset else ["data.codec=patch", "data.codec.stride=[4, 8, 8]", "data.text=hashed-words"]
    config = resolve(preset, dataset, where, [*plain, *(settings or [])])
    config = replace(config, data=replace(config.data, precomputed=precomputed or config.data.precomputed))
    encoders = make_encoders(config.data)
    config, refused = sized_or_refused(config, encoders)
    figures, clean = of_manifest(config, encoders)
    if refused:  # all else is looked at as if the sizes were wanted
        config = replace(config, data=replace(config.data, auto_sizes=0, min_kept=0.0, upscale=True))
    data = replace(config.data, batch=batch, workers=workers)
    train = trained_on(data)
    found = examine(data, encoders, sheet=sheet, batches=batches, report=progress("samples"), loaded=train)
    print("\n".join(found.lines()))
    figures = found.as_dict() | figures | {"refused": refused, "chains": chains(config, train, encoders)}
    if sheet is not None and found.loader:
        print(f"contact sheet: {sheet}")
    if report is not None:
        Path(report).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    must_run(config, train, encoders, refused)
    return 0 if found.healthy and clean else 1


@command("codec")
def codec(
    dataset: Dataset,
    out: Annotated[str, typer.Option(help="file to write; then data.codec=tiny with data.codec.path=FILE")],
    stride: Annotated[str, typer.Option(help="frames, rows and columns in a latent")] = "4x8x8",
    channels: Annotated[int, typer.Option(min=1, help="of a latent")] = 16,
    width: Annotated[int, typer.Option(min=1, help="channels of a layer")] = 64,
    bucket: Annotated[str, typer.Option(help="FRAMESxHEIGHTxWIDTH of the training windows")] = "16x128x128",
    steps: Annotated[int, typer.Option(min=1, help="updates")] = 5000,
    batch: Annotated[int, typer.Option(min=1, help="windows in an update")] = 8,
    lr: Annotated[float, typer.Option(min=0, help="highest learning rate")] = 1e-3,
    where: Where = None,
    device: Device = "cpu",
    seed: int = 0,
) -> int:
    """Train the small video autoencoder on a dataset's own pictures."""
    from lpm_train.extras.codec_tiny import TinyConfig
    from lpm_train.session import usable
    from lpm_train.tools.codec_fit import fit_codec
    from lpm_train.tools.outputs import must_write

    def progress(step: int, loss: float) -> None:
        if step % max(1, steps // 20) == 0:
            print(f"step {step}: loss {loss:.4f}", flush=True)

    usable(device)
    shape = TinyConfig(stride=parse_buckets(stride)[0], channels=channels, width=width)
    window = parse_buckets(bucket)[0]
    must_write(out)
    found = fit_codec(
        dataset, out, shape, window, steps=steps, batch=batch, lr=lr, where=where, device=device,
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
    batches: Annotated[int, typer.Option(min=1, help="held-out batches")] = 4,
    settings: Settings = None,
    out: Annotated[Path | None, typer.Option(help="also write the figures to this JSON")] = None,
    device: Device = "cpu",
) -> int:
    """Print held-out loss by state, condition gaps, drift of long streams, identity, lip sync and mouths of faces.

    --set stream.bf16=true looks at the model as it streams in half precision, stream.fp8=true in float8 besides.

    Faces are looked at where the pipeline's face models are here; --set eval.faces=none leaves them out. Mouths are
    measured where the character speaks, is silent and listens, at the lengths of --set eval.lengths, beside the data's.
    """
    from lpm_train.config import Optim, override
    from lpm_train.session import load_model
    from lpm_train.tools.judge.evaluate import Evaluated, run_eval
    from lpm_train.tools.judge.faces import open_faces
    from lpm_train.tools.judge.mouth import lines
    from lpm_train.tools.outputs import must_write
    from lpm_train.tools.stream_files import about_use
    from lpm_train.training.checkpoint import find

    chosen = about_use(settings or [], LOOKED_AT)
    must_write(out)
    trained, model = load_model(checkpoint, device, [s for s in chosen if s.startswith("data.codec")])
    asked = vars(trained) | {"optim": Optim()}  # nothing is trained: no parts of a batch need divide it
    config = override(Evaluated(**asked), chosen)
    reader, missing = open_faces(config.eval.faces)
    with closing(reader) if reader is not None else nullcontext():
        found = run_eval(config, model, dataset, where, batches, reader)
    print(f"{find(checkpoint)} ({config.run.stage}), {batches} batches where {where}")
    if reader is None:
        print(f"  faces were not looked at: {missing}")
    for name, value in found.values.items():
        if not name.startswith(("mouth.", "data.mouth.")):
            print(f"  {name:28s} " + (f"{value:.4g}" if value is not None else f"not measured: {found.reasons[name]}"))
    if reader is not None:
        print("\n".join(lines(found)))
    if out is not None:
        out.write_text(json.dumps(found.values | {"reasons": found.reasons}, indent=1) + "\n", encoding="utf-8")
    return 0


@command("budget")
def budget(
    preset: Preset = None,
    settings: Settings = None,
    fps: Annotated[list[float] | None, typer.Option(min=1, help="pictures a second; several are told apart")] = None,
    efficiency: Annotated[float, typer.Option(min=0.01, max=1, help="share of the peak of operations reached")] = 0.5,
    bandwidth: Annotated[float, typer.Option(min=0.01, max=1, help="share of the peak of bytes reached")] = 0.7,
    out: Annotated[Path | None, typer.Option(help="also write the figures to this JSON")] = None,
) -> int:
    """Say what a streamed block costs, part by part, and what share of one H200 that is: counted, not measured.

    --set stream.steps=4, stream.window=6, data.height=256 and the like ask for other streams.
    """
    from lpm_train.resolve import resolve
    from lpm_train.tools.budget import lines, stream_budget
    from lpm_train.tools.outputs import must_write

    must_write(out)
    found = stream_budget(resolve(preset, "", settings=settings or []))
    tables = [found.table(rate, efficiency, bandwidth) for rate in fps or [25.0]]
    for table in tables:
        print("\n".join(lines(table)))
    print(f"cache: {found.cache_bytes / 1e9:.2f} GB, whatever the length")
    if out is not None:
        out.write_text(json.dumps(tables, indent=1) + "\n", encoding="utf-8")
    return 0


@command("export")
def export(
    checkpoint: Checkpoint,
    out: Annotated[Path, typer.Option(help="directory to write")],
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16")] = "float32",
    licence: Annotated[str, typer.Option(help="of the base, for the card")] = "apache-2.0",
) -> int:
    """Write a model on a Wan base as files: the base as diffusers loads it, the added part, a model card."""
    from lpm_train.session import load_model
    from lpm_train.tools import export as e
    from lpm_train.tools.outputs import must_hold

    must_hold(out)
    config, model = load_model(checkpoint)
    print(e.export(config, model, checkpoint, out, dtype, licence))
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
    seconds: Annotated[float | None, typer.Option(min=0, help="length; default: that of the longer sound")] = None,
    seed: int = 0,
    settings: Settings = None,
    device: Device = "cpu",
) -> int:
    """Generate a video block by block, as a live stream would be, and report first-chunk latency and speed.

    On a GPU: --device cuda --set stream.cache=static --set stream.compile=true --set stream.bf16=true, and for float8
    --set stream.fp8=true besides.
    """
    from lpm_train.session import load_model
    from lpm_train.tools.outputs import must_spare, must_write
    from lpm_train.tools.stream_files import about_use, must_last, named_pictures, stream_files

    must_last(seconds)
    must_spare([*(path for _, path in named_pictures(image, ref or [])), speak, listen], out)
    must_write(out)
    config, model = load_model(checkpoint, device, about_use(settings or []))
    print(stream_files(model, config, image, out, ref or [], speak, listen, words=text, seconds=seconds, seed=seed))
    return 0
