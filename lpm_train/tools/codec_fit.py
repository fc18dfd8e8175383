"""Fit the small video autoencoder to a dataset's own pictures, and say how well it does on clips it has not seen.

Reads video members alone, in the loader's order, windows and sizes. One bucket is enough: the codec is convolutional
and works at other sizes afterwards. On one core a step of 4 windows of 16 frames at 64 x 64 takes about half a second
at width 32; on a GPU a codec for 256 x 256 is a matter of an hour or two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from lpm_train.batch import sample_seed
from lpm_train.data.clip import read_video, to_unit
from lpm_train.data.make import cut, generator, window_starts
from lpm_train.data.order import Bucket, Draw, Order
from lpm_train.data.shards import Shards
from lpm_train.extras.codec_tiny import TinyConfig, TinyVideoAE, train_codec
from lpm_train.storage import DataError
from lpm_train.tools.outputs import whole
from lpm_train.training.loop import TrainingError


def _picture_clips(shards: Shards, bucket: Bucket, batch: int, seed: int = 0, workers: int = 2) -> Iterator[Tensor]:
    """Yield endless batches of windows, float32 [B, F', 3, H, W] in [-1, 1], one batch decoded ahead.

    Raises:
        DataError: every clip is shorter than the bucket.
    """
    fits = cut(shards, [bucket])
    if not fits:
        raise DataError(f"every clip is shorter than {bucket[0]} frames: use a shorter bucket")
    order, at = Order(fits, batch, seed), (0, 0)

    def window(draw: Draw) -> Tensor:
        row = shards[draw.sample_id]
        starts = window_starts(row.n_frames, bucket[0], 1)
        start = starts[int(generator("window", seed, draw.turn, draw.sample_id).integers(len(starts)))]
        return to_unit(read_video(shards.read(row, ["mp4"])["mp4"], bucket[1:], start, bucket[0]))

    with ThreadPoolExecutor(max(1, workers)) as pool:
        ahead = None
        while True:
            at = order.normal(*at)
            coming = [pool.submit(window, d) for d in order.batch(*at)]
            at = (at[0], at[1] + 1)
            if ahead is not None:
                yield torch.stack([f.result() for f in ahead])
            ahead = coming


def psnr_db(a: Tensor, b: Tensor) -> float:
    """Return the peak signal-to-noise ratio of pictures in [-1, 1], decibels."""
    return float(10 * torch.log10(4 / (a - b).square().mean().clamp_min(1e-10)))


def _must_work(codec: TinyVideoAE, x_BFCHW: Tensor, losses: Sequence[float]) -> None:
    """Raise TrainingError where a fit did not stay finite, its last update included."""
    with torch.no_grad():
        score = psnr_db(codec.decode(codec.encode(x_BFCHW))[0], x_BFCHW)
    if wrong := [i for i, loss in enumerate(losses) if not math.isfinite(loss)]:
        raise TrainingError(f"the loss is {losses[wrong[0]]} at step {wrong[0]}: lower --lr; nothing was written")
    if not math.isfinite(score):
        raise TrainingError(f"the codec gives no pictures after {len(losses)} steps: lower --lr; nothing was written")


def fit_codec(
    root: str | Path, out: str | Path, config: TinyConfig, bucket: Bucket, *, steps: int, batch: int = 4,
    lr: float = 1e-3, where: str | None = None, held_out: str = "split = 'val'", device: str = "cpu", seed: int = 0,
    report: Callable[[int, float], None] | None = None,
) -> dict[str, float]:  # fmt: skip
    """Train a codec on the pictures of a dataset, write it to `out`, and measure it.

    Args:
        root: the dataset.
        out: file to write, the `path` of the codec `tiny`.
        config: shape of the codec.
        bucket: (frames, height, width) of training windows.
        steps: updates.
        batch: windows in an update.
        lr: highest learning rate.
        where: SQL condition; what it selects, less the held-out samples, is trained on.
        held_out: SQL condition of samples to measure on; where none are, the training samples serve.
        device: cpu or cuda.
        seed: of weights, order and noise.
        report: called with (step, loss).

    Returns:
        psnr_db, psnr_blocks_db (of the mean of each block alone: what a codec must beat), first_loss, last_loss,
        and held_out: 1.0 where the figures are of samples not trained on.

    Raises:
        ConfigError: `out` is a folder, or its folder cannot be made.
        DataError: nothing is selected, or every clip is shorter than the bucket.
        TrainingError: it came to nothing: a loss or a picture is no number. Nothing is written then.
    """
    train, test = _parted(root, f"({where or 'true'})", held_out)
    with torch.random.fork_rng():
        torch.manual_seed(sample_seed("codec", seed))
        codec = TinyVideoAE(config).to(device)
        losses = train_codec(codec, _picture_clips(train, bucket, batch, seed), steps, lr=lr, report=report)
    _must_work(codec, next(_picture_clips(train, bucket, 1, seed)).to(device), losses)
    with whole(Path(out)) as (partial,):
        codec.save(partial)
    clips = islice(_picture_clips(test, bucket, 1, seed + 1), min(8, len(test)))
    score, of_blocks = _scores(codec, (x.to(device) for x in clips))
    return {
        "psnr_db": score,
        "psnr_blocks_db": of_blocks,
        "first_loss": losses[0],
        "last_loss": sum(losses[-10:]) / len(losses[-10:]),
        "held_out": float(test is not train),
    }


def _parted(root: str | Path, clause: str, held_out: str) -> tuple[Shards, Shards]:
    """Open what is trained on and what is measured on: the held-out samples, or the same where there are none."""
    train = Shards(root, f"{clause} AND NOT coalesce(({held_out}), false)")
    try:
        return train, Shards(root, f"{clause} AND ({held_out})")
    except DataError:
        return train, train


@torch.no_grad()
def _scores(codec: TinyVideoAE, clips: Iterable[Tensor]) -> tuple[float, float]:
    """Return the mean score of clips that were encoded and decoded, and that of the mean of each block; decibels."""
    scores, blocks = [], []
    for x in clips:
        scores.append(psnr_db(codec.decode(codec.encode(x))[0], x))
        means = torch.nn.functional.avg_pool3d(x.transpose(1, 2), codec.stride)
        blocks.append(psnr_db(torch.nn.functional.interpolate(means, x.shape[1:2] + x.shape[3:]).transpose(1, 2), x))
    return sum(scores) / len(scores), sum(blocks) / len(blocks)
