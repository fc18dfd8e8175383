"""What stands behind `lpm train precompute` and `lpm train doctor`: plain functions of plain values.

They print for people, write JSON where asked, and return the exit code: 0 done, 1 the data has problems. Errors that a
user can mend come up as `DataError`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from lpm_train.audio import make_audio
from lpm_train.codec import make_codec
from lpm_train.codec_fit import fit_codec
from lpm_train.codec_tiny import TinyConfig
from lpm_train.extras.doctor import examine
from lpm_train.loader import LoaderConfig
from lpm_train.make import Encoders
from lpm_train.order import Bucket
from lpm_train.precompute import precompute
from lpm_train.storage import DataError
from lpm_train.text import make_text

# Encoders and shapes when none are named.
DEFAULTS = {"codec": "patch:4x8x8", "audio": "logmel:2x80", "text": "hashed-words:64x48", "buckets": "64x256x256"}


def parse_buckets(text: str) -> tuple[Bucket, ...]:
    """Read "FRAMESxHEIGHTxWIDTH[,...]".

    Raises:
        DataError: it is not of that form.
    """
    try:
        out = [tuple(int(n) for n in part.split("x")) for part in text.split(",")]
        return tuple((frames, height, width) for frames, height, width in out)
    except ValueError as e:
        raise DataError(f"buckets {text!r}: write FRAMESxHEIGHTxWIDTH, several with commas, e.g. 64x256x256") from e


def make_encoders(
    codec: str = DEFAULTS["codec"], audio: str = DEFAULTS["audio"], text: str = DEFAULTS["text"], device: str = "cpu"
) -> Encoders:
    """Make the encoders that names stand for; the codec goes to `device`."""
    made = make_codec(codec)
    if device != "cpu" and hasattr(made, "to"):
        made = made.to(device)
    return Encoders(made, make_audio(audio), make_text(text), device)


def run_precompute(
    dataset: str,
    *,
    name: str = "default",
    buckets: str = DEFAULTS["buckets"],
    codec: str = DEFAULTS["codec"],
    audio: str = DEFAULTS["audio"],
    text: str = DEFAULTS["text"],
    device: str = "cpu",
    where: str | None = None,
    hop_frames: int | None = None,
    dtype: str = "float16",
    workers: int = 2,
) -> int:
    """Write latents, audio features and text embeddings beside the shards; continues where it stopped."""
    counts = precompute(
        dataset, name, make_encoders(codec, audio, text, device), parse_buckets(buckets),
        where=where, hop_frames=hop_frames, dtype=dtype, workers=workers,
        report=lambda shard, n: print(f"{shard}: {n} samples", flush=True),
    )  # fmt: skip
    print(
        f"precomputed/{name}: {counts['samples']} samples of {counts['shards']} shards written "
        f"({counts['bytes'] / 1e6:.1f} MB), {counts['kept']} were there, {counts['too_short']} are too short"
    )
    return 0


def run_doctor(
    dataset: str,
    *,
    sheet: str | None = None,
    report: str | None = None,
    buckets: str = DEFAULTS["buckets"],
    codec: str = DEFAULTS["codec"],
    audio: str = DEFAULTS["audio"],
    text: str = DEFAULTS["text"],
    where: str | None = None,
    precomputed: str | None = None,
    global_batch: int = 4,
    workers: int = 2,
    batches: int = 8,
) -> int:
    """Check every sample, time reading, decoding and loading, draw a batch; 1 if a sample has a problem."""
    config = LoaderConfig(
        buckets=parse_buckets(buckets), where=where, global_batch=global_batch, precomputed=precomputed, workers=workers
    )

    def progress(done: int, total: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{done}/{total} samples", end="" if done < total else "\n", file=sys.stderr, flush=True)

    found = examine(dataset, config, make_encoders(codec, audio, text), sheet=sheet, batches=batches, report=progress)
    for line in found.lines():
        print(line)
    if sheet is not None and found.loader:
        print(f"contact sheet: {sheet}")
    if report is not None:
        Path(report).write_text(json.dumps(found.as_dict(), indent=1) + "\n", encoding="utf-8")
    return 0 if found.healthy else 1


def run_codec(
    dataset: str,
    out: str,
    *,
    stride: str = "4x8x8",
    channels: int = 16,
    width: int = 64,
    bucket: str = "16x128x128",
    steps: int = 5000,
    batch: int = 8,
    lr: float = 1e-3,
    where: str | None = None,
    device: str = "cpu",
    seed: int = 0,
) -> int:
    """Train the small video autoencoder on a dataset's pictures; use it then as `tiny:OUT`."""
    shape = TinyConfig(stride=parse_buckets(stride)[0], channels=channels, width=width)

    def progress(step: int, loss: float) -> None:
        if step % max(1, steps // 20) == 0:
            print(f"step {step}: loss {loss:.4f}", flush=True)

    found = fit_codec(
        dataset, out, shape, parse_buckets(bucket)[0],
        steps=steps, batch=batch, lr=lr, where=where, device=device, seed=seed, report=progress,
    )  # fmt: skip
    whose = "held-out" if found["held_out"] else "training (the split val is empty)"
    print(
        f"{out}: {found['psnr_db']:.1f} dB on {whose} clips; the mean of each block alone has "
        f"{found['psnr_blocks_db']:.1f} dB"
    )
    return 0
