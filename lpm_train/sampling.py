"""The random choices inside one sample: which window of the clip, which references, what counts as silence.

Each choice is drawn from a generator seeded by (seed, turn, sample id) and its purpose, so that it does not depend on
who draws it or what was drawn before. Pure; costs microseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lpm_train.batch import sample_seed
from lpm_train.order import Bucket
from lpm_train.storage import DataError
from schemas.sample import ReferenceRef


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How samples are cut and how often inputs are varied."""

    hop_frames: int = 1  # windows start at multiples of this many frames (rounded up to whole latents)
    # Reference slots K in a batch; a sample uses a random number of them, at least one where it has any.
    max_refs: int = 4
    drop_ref: float = 0.15  # how often a single reference other than the first is left out
    silence: float = 0.1  # how often a stream that is off is given as true silence instead of 'not in this mode'

    def __post_init__(self) -> None:
        if self.hop_frames < 1 or self.max_refs < 0:
            raise DataError(f"hop_frames {self.hop_frames} must be at least 1, max_refs {self.max_refs} not negative")
        if not 0 <= min(self.drop_ref, self.silence) <= max(self.drop_ref, self.silence) <= 1:
            raise DataError(f"drop_ref {self.drop_ref} and silence {self.silence} must be probabilities")


def generator(purpose: str, seed: int, turn: int, sample_id: str) -> np.random.Generator:
    """Return the generator of one choice for one sample on one turn."""
    return np.random.default_rng(sample_seed(purpose, seed, turn, sample_id))


def choose_bucket(n_frames: int, width: int, height: int, buckets: Sequence[Bucket]) -> Bucket | None:
    """Return the bucket a clip is cut to: nearest in aspect, then longest, then largest; None if all are longer."""

    def badness(b: Bucket) -> tuple[float, int, int]:
        return round(abs(float(np.log(b[2] / b[1]) - np.log(width / height))), 6), -b[0], -b[1] * b[2]

    return min((b for b in buckets if b[0] <= n_frames), key=badness, default=None)


def window_starts(n_frames: int, frames: int, hop: int) -> range:
    """Return the frames at which a window of `frames` may start, every `hop` frames."""
    if frames > n_frames:
        raise DataError(f"a window of {frames} frames does not fit a clip of {n_frames}")
    return range(0, n_frames - frames + 1, hop)


def choose_references(
    references: Sequence[ReferenceRef],
    window_s: tuple[float, float],
    source_id: str,
    rules: Sampling,
    rng: np.random.Generator,
) -> list[int]:
    """Choose reference pictures of a sample: indices into `references`, in the order of their slots.

    Pictures from outside of the clip are used alone where there are any; otherwise those outside of the window; else
    the one farthest from its middle. A picture out of the frames to be generated would be copied, not learnt from.

    Args:
        references: what the sample has.
        window_s: (start, end) of the window on its source's clock, seconds.
        source_id: the clip's source.
        rules: how many, and how often one is left out.
        rng: decides.
    """
    if not references or not rules.max_refs:
        return []
    outside = [i for i, r in enumerate(references) if not r.overlaps_clip]
    if not outside:

        def inside(r: ReferenceRef) -> bool:
            return r.source_id == source_id and window_s[0] <= r.time_s < window_s[1]

        farthest = max(range(len(references)), key=lambda i: abs(references[i].time_s - sum(window_s) / 2))
        outside = [i for i, r in enumerate(references) if not inside(r)] or [farthest]
    mixed = rng.permutation(outside).tolist()
    first = next((i for i in mixed if references[i].kind == "global"), mixed[0])  # always there, as in the paper
    rest = [i for i in mixed if i != first and rng.random() >= rules.drop_ref]
    chosen = [first, *rest[: int(rng.integers(0, rules.max_refs))]]
    return [int(i) for i in rng.permutation(chosen)]
