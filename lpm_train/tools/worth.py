"""What a dataset is worth to a run: do its clips fit the sizes, how often is it repeated, what do its states weigh?

Read off the manifest alone, before anything is decoded. Sizes that crop away a tenth of a clip or enlarge it are not
accepted: others are proposed, of the clips' own aspects and of about the same cost. Milliseconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lpm_train.batch import STATES
from lpm_train.clip import cover
from lpm_train.config import Config
from lpm_train.make import choose_bucket
from lpm_train.order import Bucket
from lpm_train.shards import Row, Shape

LEAST_KEPT = 0.9  # share of a clip's area

# Up to 4 passes over the data are nearly as good as new data, and beyond some 16 little is learnt (Muennighoff et al.
# 2023, arXiv 2305.16264, measured on text; nobody has measured it for such video).
GOOD_PASSES, MOST_PASSES = 4, 16

_LEAST_SHARE = 0.1  # of what is drawn: a state below that is hardly learnt

_MOST_SIZES = 4  # that are proposed: each fills batches of its own


Clips = Counter[Shape] | Sequence[Row]
"""Clips by shape, since a great many have few shapes, or one by one."""


def counted(clips: Clips) -> Counter[Shape]:
    """Count clips by their shape."""
    return clips if isinstance(clips, Counter) else Counter(r.shape for r in clips)


@dataclass(frozen=True)
class Fit:
    """How clips fit the sizes they are cut to."""

    fitting: int  # clips that keep enough of their area and are not enlarged
    cropped: int  # clips that keep less than LEAST_KEPT of it
    enlarged: int
    too_short: int  # clips shorter than every size
    area: float  # mean share of the area that is kept
    largest: float  # largest enlargement; 1 and less: none


def kept(width: int, height: int, bucket: Bucket) -> tuple[float, float]:
    """Return the share of a clip's area that a size keeps, and how much it is enlarged (above 1) or reduced."""
    w, h, _, _ = cover(width, height, bucket[2], bucket[1])
    return bucket[1] * bucket[2] / (w * h), max(w / width, h / height)


def fit(clips: Clips, sizes: Sequence[Bucket]) -> Fit:
    """Cut every clip to its size, on paper."""
    shapes = counted(clips)
    found = [(s, choose_bucket(s.n_frames, s.width, s.height, sizes), n) for s, n in shapes.items()]
    cuts = [(*kept(s.width, s.height, b), n) for s, b, n in found if b is not None]
    used = sum(n for *_, n in cuts)
    return Fit(
        fitting=sum(n for area, scale, n in cuts if area >= LEAST_KEPT and scale <= 1),
        cropped=sum(n for area, _, n in cuts if area < LEAST_KEPT), enlarged=sum(n for _, s, n in cuts if s > 1),
        too_short=shapes.total() - used, area=sum(a * n for a, _, n in cuts) / max(1, used),
        largest=max((s for _, s, _ in cuts), default=0.0),
    )  # fmt: skip


def propose(clips: Clips, frames: int, area: int, unit: tuple[int, int]) -> tuple[Bucket, ...]:
    """Choose sizes from what was packed, those that most clips fit first.

    Args:
        clips: what was packed.
        frames: of every size.
        area: pixels that a size may have at most, so that a step costs no more.
        unit: rows and columns of which sides are multiples.

    Returns:
        At most four sizes; clips that none of them fits are left out of account.
    """
    counts = Counter[tuple[int, int]]()
    for s, n in counted(clips).items():
        if s.n_frames >= frames:
            counts[s.width, s.height] += n
    candidates: set[Bucket] = set()
    for width, height in counts:
        scale = min(1.0, (area / (width * height)) ** 0.5)
        high, wide = (int(side * scale) // n * n for side, n in zip((height, width), unit, strict=True))
        if high and wide:
            candidates.add((frames, high, wide))
    left, chosen = dict(counts), list[Bucket]()

    def held(bucket: Bucket) -> list[tuple[int, int]]:
        cuts = ((wh, kept(*wh, bucket)) for wh in left)
        return [wh for wh, (share, scale) in cuts if share >= LEAST_KEPT and scale <= 1]

    while left and len(chosen) < _MOST_SIZES:
        best = max(candidates, key=lambda b: (sum(left[wh] for wh in held(b)), b[1] * b[2], b), default=None)
        if best is None or not (covered := held(best)):
            break
        chosen.append(best)
        left = {wh: n for wh, n in left.items() if wh not in covered}
    return tuple(chosen)


@dataclass(frozen=True)
class Worth:
    """See the module's text."""

    fit: Fit
    proposed: tuple[Bucket, ...]  # empty where the sizes fit
    windows: int  # clip lengths that the data hold end to end
    passes: float  # over the data, in all steps of the run
    good_steps: int  # steps of GOOD_PASSES
    most_steps: int
    shares: dict[str, float]  # what is drawn of each state
    advice: list[str]  # what does not fit, a sentence each

    def lines(self) -> Iterator[str]:
        """Yield the findings for people."""
        f, shares = self.fit, ", ".join(f"{n} {s:.0%}" for n, s in self.shares.items())
        yield f"sizes: {f.area:.0%} of the area kept, {f.fitting} clips fit, {f.too_short} too short; drawn: {shares}"
        yield (
            f"worth {self.good_steps} steps ({GOOD_PASSES} passes over {self.windows} clip lengths), {self.most_steps} "
            f"at most; run.steps is {self.passes:.1f} passes"
        )
        yield from (f"ADVICE {said}" for said in self.advice)

    def as_dict(self) -> dict[str, Any]:
        """Return the findings as JSON values."""
        return asdict(self)


def judge(clips: Clips, config: Config, stride: tuple[int, int, int]) -> Worth:
    """Hold clips against a configuration.

    Args:
        clips: those that would be trained on.
        config: of the run: sizes, batch, steps, balance, patch.
        stride: of its codec.
    """
    data, sizes = config.data, config.data.sizes
    shapes = counted(clips)
    found = fit(shapes, sizes)
    by_state, lengths = Counter[str](), Counter[str]()
    for s, n in shapes.items():
        if bucket := choose_bucket(s.n_frames, s.width, s.height, sizes):
            by_state[s.state] += n
            lengths[s.state] += n * (s.n_frames // bucket[0])
    used = by_state.total()
    wanted = {s: n for s, n in data.balance.items() if n > 0} or {s: float(n) for s, n in by_state.items()}
    drawn = {s: n for s, n in wanted.items() if by_state[s]}
    shares = {s: drawn[s] / sum(drawn.values()) for s in STATES if s in drawn}
    windows = {s: lengths[s] for s in shares}
    total, samples = sum(windows.values()), config.run.steps * data.batch
    advice, proposed = [], tuple[Bucket, ...]()
    if bad := used - found.fitting:
        unit = (stride[1] * config.model.patch, stride[2] * config.model.patch)
        proposed = propose(shapes, data.frames, data.height * data.width, unit)
        advice.append(_sizes_said(bad, used, found, proposed))
    if found.too_short:
        frames = _tenth(shapes)
        advice.append(f"{found.too_short} clips are shorter than every size: nine of ten have {frames} frames and more")
    advice += [
        f"no clip is in the state {s} of data.balance" if s in data.balance else f"no clip shows the state {s}"
        for s in ("speak", "listen")
        if s not in shares and (not data.balance or s in data.balance)
    ]
    for state, share in shares.items():
        passes = samples * share / max(1, windows[state])
        if share < _LEAST_SHARE and state in ("speak", "listen"):
            advice.append(f"{share:.0%} of what is drawn is {state}: raise it with data.balance")
        if passes > MOST_PASSES:
            advice.append(f"{state} is repeated {passes:.0f} times in {config.run.steps} steps: fewer, or more data")
    return Worth(
        found, proposed, total, samples / max(1, total), GOOD_PASSES * total // data.batch,
        MOST_PASSES * total // data.batch, shares, advice,
    )  # fmt: skip


def _tenth(shapes: Counter[Shape]) -> int:
    """Return the frames that nine of ten clips have at least."""
    left = shapes.total() // 10
    for shape, n in sorted(shapes.items()):
        if left < n:
            return shape.n_frames
        left -= n
    return 0


def _sizes_said(bad: int, of: int, found: Fit, proposed: tuple[Bucket, ...]) -> str:
    text = (
        f"the sizes do not fit {bad} of {of} clips: {found.cropped} keep less than {LEAST_KEPT:.0%} of their area, "
        f"{found.enlarged} are enlarged (up to {found.largest:.2f} times)"
    )
    if not proposed:
        return f"{text}; no size of these clips' own fits: pack them larger, or take a codec or patch of smaller stride"
    first, *more = proposed
    settings = f"data.frames={first[0]} data.height={first[1]} data.width={first[2]}"
    rest = f" data.more_sizes={[list(b) for b in more]}".replace(" ", "") if more else ""
    return f"{text}; what was packed fits --set {settings}{' ' if rest else ''}{rest}"
