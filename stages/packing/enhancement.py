"""A clip's sound with its noise taken away, and what that changed.

Both sounds are measured before they are divided into the two tracks, by the same measure as a source's sound.
Arithmetic: a millisecond; the enhancer costs its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from annotators.protocols_speech import Segment, SpeechEnhancer
from annotators.sound.audio_quality import audio_quality
from curation.media.sound import resample
from schemas.time import AUDIO_HZ, PACKED_AUDIO_HZ
from stages.packing.audio import Samples, level_db

CONTEXT_S = 1
"""Sound on both sides of a clip that an enhancer hears with it, to have settled where the clip begins (seconds)."""


@dataclass(frozen=True, slots=True)
class Change:
    """What an enhancer did to a clip's sound; values are None where they cannot be told."""

    enhancer: str | None = None
    snr_before_db: float | None = None
    snr_after_db: float | None = None
    removed_db: float | None = None


UNCHANGED = Change()


def enhanced(sound: Samples, enhancer: SpeechEnhancer) -> Samples:
    """Return sound [N] at 48 kHz with its noise taken away, [N]. Raises ValueError where the enhancer changes times."""
    given = resample(sound[None], PACKED_AUDIO_HZ, enhancer.rate_hz)[0]
    out = np.asarray(enhancer.enhance(given), np.float32)
    if out.shape != given.shape:
        raise ValueError(f"{enhancer.name} returned {out.shape} for sound of {given.shape}: it must keep the length")
    return resample(out[None], enhancer.rate_hz, PACKED_AUDIO_HZ)[0, : len(sound)]


def change(enhancer: SpeechEnhancer, before: Samples, after: Samples, speech: Sequence[tuple[int, int]]) -> Change:
    """Return what was changed between two sounds [N] at 48 kHz; `speech` are samples [first, last) of any voice."""
    was_db, removed_db = level_db(before), level_db(before - after)
    spoken = [Segment(a / PACKED_AUDIO_HZ, b / PACKED_AUDIO_HZ) for a, b in speech]
    return Change(
        enhancer.name,
        _snr_db(before, spoken),
        _snr_db(after, spoken),
        None if was_db is None or removed_db is None else removed_db - was_db,
    )


def _snr_db(sound: Samples, speech: Sequence[Segment]) -> float | None:
    """Return the signal to noise ratio in dB; None without speech, and where it does not rise above the noise."""
    if not speech:
        return None
    snr_db = audio_quality(resample(sound[None], PACKED_AUDIO_HZ, AUDIO_HZ)[0], speech).snr_db
    return snr_db if np.isfinite(snr_db) else None
