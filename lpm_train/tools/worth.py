"""What a dataset is worth to a run: do its clips fit the sizes, how often is it repeated, what do its states weigh?

Read off the manifest alone, before anything is decoded, in milliseconds. Sizes are judged as `run` does
(`lpm_train.data.sizes`), repeats and states by rules of thumb.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from lpm_train.batch import STATES
from lpm_train.config import Config
from lpm_train.data.order import Bucket
from lpm_train.data.shards import Shape
from lpm_train.data.sizes import Clips, Fit, Rule, choose, choose_bucket, counted, fit

# Up to 4 passes over the data are nearly as good as new data, and beyond some 16 little is learnt (Muennighoff et al.
# 2023, arXiv 2305.16264, measured on text; nobody has measured it for such video).
GOOD_PASSES, MOST_PASSES = 4, 16

_LEAST_SHARE = 0.1  # of what is drawn: a state below that is hardly learnt


@dataclass(frozen=True)
class Worth:
    """See the module's text."""

    fit: Fit
    proposed: tuple[Bucket, ...]  # what `data.auto_sizes` would choose; empty where the sizes fit
    windows: int  # clip lengths that the data hold end to end
    passes: float  # over the data, in all steps of the run
    good_steps: int  # steps of GOOD_PASSES
    most_steps: int
    shares: dict[str, float]  # what is drawn of each state
    advice: list[str]  # what does not fit, a sentence each

    def lines(self) -> Iterator[str]:
        """Yield the findings for people."""
        f, shares = self.fit, ", ".join(f"{n} {s:.0%}" for n, s in self.shares.items())
        yield (
            f"sizes: {f.area:.0%} of the area kept, {f.fitting} clips fit, {f.misfits} do not, {f.too_short} too "
            f"short; drawn: {shares}"
        )
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
    data, sizes, rule = config.data, config.data.sizes, Rule.of(config.data)
    shapes = counted(clips)
    found = fit(shapes, sizes, rule)
    by_state, lengths = Counter[str](), Counter[str]()
    only = rule if data.misfits == "leave" else None  # misfits that are not left out are cut to the nearest
    for s, n in shapes.items():
        if bucket := choose_bucket(s.n_frames, s.width, s.height, sizes, only):
            by_state[s.state] += n
            lengths[s.state] += n * (s.n_frames // bucket[0])
    wanted = {s: n for s, n in data.balance.items() if n > 0} or {s: float(n) for s, n in by_state.items()}
    drawn = {s: n for s, n in wanted.items() if by_state[s]}
    shares = {s: drawn[s] / sum(drawn.values()) for s in STATES if s in drawn}
    windows = {s: lengths[s] for s in shares}
    total, samples = sum(windows.values()), config.run.steps * data.batch
    advice, proposed = [], tuple[Bucket, ...]()
    if found.misfits:
        unit = (stride[1] * config.model.patch, stride[2] * config.model.patch)
        proposed = choose(shapes, data.frames, data.most_pixels, unit, rule=rule)
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
