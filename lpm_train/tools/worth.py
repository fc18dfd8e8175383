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
from lpm_train.shards import Row

LEAST_KEPT = 0.9  # share of a clip's area

# Up to 4 passes over the data are nearly as good as new data, and beyond some 16 little is learnt (Muennighoff et al.
# 2023, arXiv 2305.16264, measured on text; nobody has measured it for such video).
GOOD_PASSES, MOST_PASSES = 4, 16

_LEAST_SHARE = 0.1  # of what is drawn: a state below that is hardly learnt

_MOST_SIZES = 4  # that are proposed: each fills batches of its own


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


def fit(rows: Sequence[Row], sizes: Sequence[Bucket]) -> Fit:
    """Cut every clip to its size, on paper."""
    found = [(r, choose_bucket(r.n_frames, r.width, r.height, sizes)) for r in rows]
    cuts = [kept(r.width, r.height, b) for r, b in found if b is not None]
    good = sum(area >= LEAST_KEPT and scale <= 1 for area, scale in cuts)
    return Fit(
        fitting=good, cropped=sum(area < LEAST_KEPT for area, _ in cuts), enlarged=sum(s > 1 for _, s in cuts),
        too_short=len(rows) - len(cuts), area=sum(a for a, _ in cuts) / max(1, len(cuts)),
        largest=max((s for _, s in cuts), default=0.0),
    )  # fmt: skip


def propose(rows: Sequence[Row], frames: int, area: int, unit: tuple[int, int]) -> tuple[Bucket, ...]:
    """Choose sizes from what was packed, those that most clips fit first.

    Args:
        rows: the clips.
        frames: of every size.
        area: pixels that a size may have at most, so that a step costs no more.
        unit: rows and columns of which sides are multiples.

    Returns:
        At most four sizes; clips that none of them fits are left out of account.
    """
    counts = Counter((r.width, r.height) for r in rows if r.n_frames >= frames)
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


def judge(rows: Sequence[Row], config: Config, stride: tuple[int, int, int]) -> Worth:
    """Hold clips against a configuration.

    Args:
        rows: the clips that would be trained on.
        config: of the run: sizes, batch, steps, balance, patch.
        stride: of its codec.
    """
    data, sizes = config.data, config.data.sizes
    found, used = fit(rows, sizes), [r for r in rows if choose_bucket(r.n_frames, r.width, r.height, sizes)]
    by_state = Counter(r.state for r in used)
    wanted = {s: n for s, n in data.balance.items() if n > 0} or {s: float(n) for s, n in by_state.items()}
    drawn = {s: n for s, n in wanted.items() if by_state[s]}
    shares = {s: drawn[s] / sum(drawn.values()) for s in STATES if s in drawn}
    windows = {s: 0 for s in shares}
    for r in used:
        bucket = choose_bucket(r.n_frames, r.width, r.height, sizes)
        if r.state in windows and bucket:
            windows[r.state] += r.n_frames // bucket[0]
    total, samples = sum(windows.values()), config.run.steps * data.batch
    advice, proposed = [], tuple[Bucket, ...]()
    if bad := len(used) - found.fitting:
        unit = (stride[1] * config.model.patch, stride[2] * config.model.patch)
        proposed = propose(rows, data.frames, data.height * data.width, unit)
        advice.append(_sizes_said(bad, len(used), found, proposed))
    if found.too_short:
        frames = sorted(r.n_frames for r in rows)[len(rows) // 10]
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
