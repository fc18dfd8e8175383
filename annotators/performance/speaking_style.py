"""How a person speaks, from pitch, level and syllable rate: numbers, and the few words that they support.

Limits are hand-set on conversations in six languages, in which syllable nuclei come at 2 to 6 a second of speech
(median 3.5; a third fewer than syllables are spoken) and pitch moves within 3 to 12 semitones. They are heuristics: a
word is given only well beyond what is usual. Level is judged against the same voice elsewhere in its source, as its
absolute value says more of the microphone. Pure; microseconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.time import GRID_HZ

Series = npt.NDArray[np.float64]

FAST_HZ, SLOW_HZ = 4.7, 2.3
MONOTONE_ST, LIVELY_ST = 2.5, 12.0
RAISED_DB, SOFT_DB = 5.0, -6.0
MIN_SPEECH_S, MIN_VOICED_S, MIN_USUAL_S = 1.5, 0.6, 3.0
_STEP_ST, _RUN = 4.0, 3


@dataclass(frozen=True, slots=True)
class SpeakingStyle:
    """Figures of a voice over a segment, None where not measured, and the style terms they support."""

    pitch_hz: float | None = None
    pitch_range_st: float | None = None
    syllables_per_s: float | None = None
    level_over_usual_db: float | None = None
    terms: tuple[str, ...] = ()


NO_STYLE = SpeakingStyle()


def speaking_style(
    speech: npt.NDArray[np.bool_], level_db: Series, pitch_hz: Series, syllables: Series, usual_db: float | None = None
) -> SpeakingStyle:
    """Return the style of a stretch [T] of the 25 Hz grid in which one person speaks.

    `speech` marks frames with speech, `pitch_hz` is nan where unvoiced, `usual_db` the voice's usual level (see
    `usual_level`). Below 1.5 s of speech nothing is said.
    """
    seconds = float(speech.sum()) / GRID_HZ
    if seconds < MIN_SPEECH_S:
        return NO_STYLE
    rate = float(syllables[speech].sum()) / seconds
    level = _level(level_db[speech])
    over = None if usual_db is None else level - usual_db
    steady = _steady(pitch_hz, speech)
    pitch = spread = None
    if len(steady) >= MIN_VOICED_S * GRID_HZ:
        pitch = float(np.median(steady))
        low, high = np.percentile(12 * np.log2(steady / pitch), [10, 90])
        spread = float(high - low)
    return SpeakingStyle(pitch, spread, rate, over, _terms(rate, spread, over))


def usual_level(level_db: Series, speech: npt.NDArray[np.bool_]) -> float | None:
    """Return the level of a voice over all its speech [T], in dBFS; None below 3 s of it."""
    return _level(level_db[speech]) if speech.sum() >= MIN_USUAL_S * GRID_HZ else None


def _terms(rate: float, spread: float | None, over: float | None) -> tuple[str, ...]:
    fast, slow = rate >= FAST_HZ, 0 < rate <= SLOW_HZ
    lively = spread is not None and spread >= LIVELY_ST
    raised = over is not None and over >= RAISED_DB
    terms = []
    if lively and (fast or raised):
        terms.append("energetic")
    terms += [name for name, holds in (("fast", fast), ("slow", slow), ("raised", raised)) if holds]
    if over is not None and over <= SOFT_DB:
        terms.append("soft")
    if spread is not None and spread <= MONOTONE_ST:
        terms.append("monotone")
    elif lively and "energetic" not in terms:
        terms.append("lively")
    return tuple(terms)


def _level(level_db: Series) -> float:
    return float(10 * np.log10(np.mean(10 ** (level_db / 10))))


def _steady(pitch_hz: Series, speech: npt.NDArray[np.bool_]) -> Series:
    """Return the pitches of runs of three frames and more without jumps, and within an octave of their median.

    Single frames and jumps are octave errors and noise.
    """
    kept: list[float] = []
    run: list[float] = []
    for value in [*np.where(speech, pitch_hz, np.nan).tolist(), np.nan]:
        if run and np.isfinite(value) and abs(12 * np.log2(value / run[-1])) <= _STEP_ST:
            run.append(value)
            continue
        kept += run if len(run) >= _RUN else []
        run = [value] if np.isfinite(value) else []
    found = np.array(kept)
    return found[np.abs(np.log2(found / np.median(found))) <= 1.0] if len(found) else found
