"""What sizes clips are cut to: what a size keeps of a clip, which sizes fit the clips of a dataset, what is refused.

A clip is scaled until it covers its size and cut from the middle. A size fits it that keeps nine tenths of its area and
enlarges nothing (`data.min_kept`, `data.upscale`). Pure functions over counts of shapes, since a great many clips have
few shapes: milliseconds, and half a second for `choose` where every clip has a shape of its own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lpm_train.config import Data
from lpm_train.data.clip import cover
from lpm_train.data.order import Bucket
from lpm_train.data.shards import Row, Shape

_LEAST_GAIN = 0.01  # of all pixels that could be shown: a size that adds less is not worth batches of its own

_SHAPES = 500  # commonest shapes that sizes are chosen by
_NEAR = 64  # sizes that are considered for each of them

F64 = NDArray[np.float64]

Clips = Counter[Shape] | Sequence[Row]
"""Clips by shape, or one by one."""


def counted(clips: Clips) -> Counter[Shape]:
    """Count clips by their shape."""
    return clips if isinstance(clips, Counter) else Counter(r.shape for r in clips)


def kept(width: int, height: int, bucket: Bucket) -> tuple[float, float]:
    """Return the share of a clip's area that a size keeps, and how much it is enlarged (above 1) or reduced."""
    w, h, _, _ = cover(width, height, bucket[2], bucket[1])
    return bucket[1] * bucket[2] / (w * h), max(w / width, h / height)


class Rule(NamedTuple):
    """Which size fits a clip."""

    min_kept: float = Data.min_kept  # share of its area
    upscale: bool = Data.upscale  # whether it may be enlarged

    @classmethod
    def of(cls, data: Data) -> Rule:
        """Take it from settings."""
        return cls(data.min_kept, data.upscale)

    def holds(self, width: int, height: int, bucket: Bucket) -> bool:
        """Say whether a size fits a clip of that width and height."""
        share, scale = kept(width, height, bucket)
        return share >= self.min_kept and (self.upscale or scale <= 1)


def choose_bucket(
    n_frames: int, width: int, height: int, buckets: Sequence[Bucket], rule: Rule | None = None
) -> Bucket | None:
    """Return the size that a clip is cut to; None if all are longer, or if a rule is given that none of them meets.

    Sizes that fit come first: among them the longest, then the one that shows most of the clip. Where none fits, it is
    the nearest in aspect, then the longest, then the largest.
    """

    def badness(b: Bucket) -> tuple[float, int, float]:
        if (rule or Rule()).holds(width, height, b):
            return -1.0, -b[0], -b[1] * b[2] * kept(width, height, b)[0]
        return round(abs(math.log(b[2] / b[1]) - math.log(width / height)), 6), -b[0], -b[1] * b[2]

    best = min((b for b in buckets if b[0] <= n_frames), key=badness, default=None)
    return None if best is None or (rule and not rule.holds(width, height, best)) else best


@dataclass(frozen=True)
class Fit:
    """How clips fit the sizes they are cut to."""

    clips: int
    fitting: int  # clips that keep enough of their area and are not enlarged, unless that is wanted
    cropped: int  # clips that keep less
    enlarged: int
    too_short: int  # clips shorter than every size
    area: float  # mean share of the area that is kept
    least: float  # smallest one
    largest: float  # largest enlargement; 1 and less: none

    @property
    def misfits(self) -> int:
        """Clips that are long enough and fit no size."""
        return self.clips - self.too_short - self.fitting


def fit(clips: Clips, sizes: Sequence[Bucket], rule: Rule | None = None) -> Fit:
    """Cut every clip to its size, on paper."""
    shapes, rule, cuts, fitting = counted(clips), rule or Rule(), list[tuple[float, float, int]](), 0
    for s, n in shapes.items():
        nearest = choose_bucket(s.n_frames, s.width, s.height, sizes, rule) or choose_bucket(
            s.n_frames, s.width, s.height, sizes
        )
        if nearest is not None:
            cuts.append((*kept(s.width, s.height, nearest), n))
            fitting += n * rule.holds(s.width, s.height, nearest)
    used = sum(n for *_, n in cuts)
    return Fit(
        clips=shapes.total(), fitting=fitting, cropped=sum(n for share, _, n in cuts if share < rule.min_kept),
        enlarged=sum(n for _, scale, n in cuts if scale > 1), too_short=shapes.total() - used,
        area=sum(share * n for share, _, n in cuts) / max(1, used), least=min((share for share, *_ in cuts), default=1),
        largest=max((scale for _, scale, _ in cuts), default=0.0),
    )  # fmt: skip


def choose(
    clips: Clips, frames: int, pixels: int, unit: tuple[int, int], most: int = 4, rule: Rule | None = None
) -> tuple[Bucket, ...]:
    """Choose sizes from the clips' own, the one that shows most first.

    One after another is taken that adds most to the pixels shown, as a share of those that each clip could show; none
    that adds less than a hundredth, unless clips fit it that fit no other.

    Args:
        clips: what was packed; by the commonest 500 shapes of those that are long enough sizes are chosen.
        frames: of every size.
        pixels: that a size may have at most, so that a step costs no more.
        unit: rows and columns of which sides are multiples: a token's.
        most: sizes at most.
        rule: what fits.

    Returns:
        Sizes; none where no clip is long enough or large enough. There may be clips that none of them fits.
    """
    rule, counts = rule or Rule(), Counter[tuple[int, int]]()
    for s, n in counted(clips).items():
        if s.n_frames >= frames:
            counts[s.width, s.height] += n
    common = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_SHAPES]
    if not common:
        return ()
    sides, n_N = np.array([wh for wh, _ in common], np.int64), np.array([n for _, n in common], np.float64)
    grid = _grid(int(sides[:, 1].max()), int(sides[:, 0].max()), pixels, unit)
    near = set[int]()
    for wh in sides:
        value = _shown(wh, grid, pixels, rule)
        near |= {int(i) for i in np.argsort(-value, kind="stable")[:_NEAR] if value[i] > 0}
    if not near:
        return ()
    grid = grid[sorted(near)]  # the largest first: of equal ones it is taken
    value_NM = np.stack([_shown(wh, grid, pixels, rule) for wh in sides])
    best_N, chosen = np.zeros(len(sides)), list[Bucket]()
    while len(chosen) < most:
        gain_M = n_N @ np.maximum(value_NM - best_N[:, None], 0)
        new_M = (value_NM[best_N == 0] > 0).any(0)
        gain_M[~new_M & (gain_M < _LEAST_GAIN * n_N.sum())] = 0
        if not gain_M.max() > 0:
            break
        k = int(gain_M.argmax())
        chosen.append((frames, int(grid[k, 0]), int(grid[k, 1])))
        best_N = np.maximum(best_N, value_NM[:, k])
    return tuple(chosen)


def _grid(height: int, width: int, pixels: int, unit: tuple[int, int]) -> NDArray[np.int64]:
    """List all (height, width) of whole units that are not larger, the largest area first: [M, 2]."""
    axes = (np.arange(u, side + 1, u, dtype=np.int64) for u, side in zip(unit, (height, width), strict=True))
    grid: NDArray[np.int64] = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
    grid = grid[grid.prod(1) <= pixels]
    order = np.lexsort((grid[:, 0], -grid.prod(1)))
    return grid.take(order, axis=0)


def _shown(wh: NDArray[np.int64], sizes_M2: NDArray[np.int64], pixels: int, rule: Rule) -> F64:
    """Return what each size shows of the pixels that a clip could show, in [0, 1]; 0 where it does not fit: [M].

    The share that is kept counts twice: of two sizes that show as many pixels the one that crops less is better.
    """
    width, height = int(wh[0]), int(wh[1])
    high, wide = sizes_M2[:, 0], sizes_M2[:, 1]
    scale = np.maximum(wide / width, high / height)
    w, h = np.maximum(wide, np.rint(width * scale)), np.maximum(high, np.rint(height * scale))
    share, area = high * wide / (w * h), min(width * height, pixels)
    good = (share >= rule.min_kept) & (rule.upscale | (np.maximum(w / width, h / height) <= 1))
    out: F64 = np.where(good, share**2 * np.minimum(1.0, high * wide / area), 0.0)
    return out


def said(sizes: Sequence[Bucket], clips: Clips, rule: Rule) -> str:
    """Say how many clips go to each size."""
    counts = Counter[Bucket | None]()
    for s, n in counted(clips).items():
        counts[choose_bucket(s.n_frames, s.width, s.height, sizes, rule)] += n
    return ", ".join(f"{'x'.join(map(str, size))} ({counts[size]} clips)" for size in sizes)


def refusal(found: Fit, rule: Rule, proposed: Sequence[Bucket] | None = None) -> str:
    """Say why sizes are refused, and what to do.

    Args:
        found: how clips fit.
        rule: what was asked for.
        proposed: sizes that `data.auto_sizes` would choose; None: they are not known.
    """
    parts = [f"{found.cropped} keep less than {rule.min_kept:.0%} of their area"] * bool(found.cropped)
    parts += [f"{found.enlarged} are enlarged (up to {found.largest:.2f} times)"] * bool(
        found.enlarged and not rule.upscale
    )
    text = f"the sizes do not fit {found.misfits} of {found.clips} clips: {', '.join(parts)}"
    as_is = [f"--set data.min_kept={math.floor(found.least * 100) / 100:g}"] * (found.least < rule.min_kept)
    as_is += ["--set data.upscale=true"] * (found.largest > 1 and not rule.upscale)
    do = []
    if proposed is None or proposed:
        here = f" (here {', '.join('x'.join(map(str, size)) for size in proposed)})" if proposed else ""
        do.append(f"--set data.auto_sizes=4 chooses sizes from the clips' own{here}")
    else:
        do.append("no size of these clips' own fits: pack them larger, or take a codec or patch of smaller stride")
    do += ["--set data.misfits=leave trains without them"] * bool(found.fitting)
    do.append(f"{' '.join(as_is)} takes them so")
    return f"{text}; {', '.join(do)}"


def chosen_for(data: Data, sizes: Sequence[Bucket]) -> Data:
    """Write sizes that were chosen from clips into the settings, as later stages will find them."""
    (frames, height, width), *more = sizes
    return replace(
        data, frames=frames, height=height, width=width, more_sizes=tuple(more), auto_sizes=0, misfits="leave",
        pixels=data.most_pixels,
    )  # fmt: skip
