"""Does this face speak what is heard: evidence of several measures weighed together, frame by frame.

No single measure decides. A logistic model weighs the active speaker score (short and longer means), what the mouth
itself does, voice activity, and how the other faces in view score; its log-odds are calibrated on real conversations
with hand-made states and on composed ones (`benchmarks/fit_speaking.py`, which also says how it does on clips left
out). The sequence of speaking and not speaking is then the most likely one when a change costs something (Viterbi,
"Error bounds for convolutional codes", 1967). Weights are in `speaking.json`, a set for LR-ASD and one for the
heuristic that stands in without it. Costs microseconds a frame.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from annotators.lips.lip_signals import moving_mean
from annotators.models import weights

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

MODEL_FILE = "speaking.json"
"""Beside this module; in OPENLPM_MODELS or the cache a file of that name comes first, as for lip sync."""
FEATURES = (
    "score_200ms",
    "score_600ms",
    "voice_nearby",
    "voice_600ms",
    "rival",
    "rival_seen",
    "mouth_motion",
    "mouth_motion_beside",
)
NO_RIVAL = -4.0
"""Rival score where no other face is in view."""
CHANGE_NATS = 1.0
"""What a change between speaking and not speaking costs against the log-odds of single frames, which are not
independent. 0.5 to 4 gave the same accuracy within 0.5 points on clips left out."""
_SHORT, _LONG = 5, 15
_SCORE_LIMIT = 6.0
_STILL, _LEAST, _MOST, _UNKNOWN = 0.007, 0.001, 0.2, 0.02


@dataclass(frozen=True, slots=True)
class SpeakingModel:
    """Weights [8] of standardised `FEATURES`, and the offset; `name` goes beside the states."""

    name: str
    mean: Floats
    scale: Floats
    weights: Floats
    offset: float

    def log_odds(self, features: Floats) -> Floats:
        """Return [T] log-odds that the face speaks, of features [T, 8]; nan where a feature is."""
        return np.asarray(((features - self.mean) / self.scale) @ self.weights + self.offset, np.float64)


def features(score: Floats, mouth: Floats, beside: Floats, voice: Floats, rival: Floats) -> Floats:
    """Return `FEATURES` [T, 8] of one face.

    Args:
        score: [T] active speaker score without gaps (nan = never measured).
        mouth: [T] deviation of the mouth's opening over 1.6 s (`lip_signals.mouth_motion`), nan = lips not seen.
        beside: [T] the lesser of its deviations before and after (`mouth_motion_beside`), nan likewise.
        voice: [T] probability of speech, 0-1.
        rival: [T] the highest smoothed score of the other faces in view, nan where there is none.
    """
    limited = np.clip(score, -_SCORE_LIMIT, _SCORE_LIMIT)
    alone = np.isnan(rival)
    return np.stack(
        [
            _mean(limited, _SHORT),
            _mean(limited, _LONG),
            _highest(voice, _LONG),
            _mean(voice, _LONG),
            np.where(alone, NO_RIVAL, rival),
            (~alone).astype(np.float64),
            _motion(mouth),
            _motion(beside),
        ],
        axis=1,
    )


def smoothed_score(score: Floats) -> Floats:
    """Return [T] the score as it counts against other faces."""
    return _mean(np.clip(score, -_SCORE_LIMIT, _SCORE_LIMIT), _SHORT)


def speaking(log_odds: Floats, change: float = CHANGE_NATS) -> Bools:
    """Return [T] the most likely sequence of speaking; frames without evidence (nan) go with their neighbours."""
    evidence = np.nan_to_num(log_odds, nan=0.0)
    length = len(evidence)
    if not length:
        return np.zeros(0, bool)
    off, on = 0.0, float(evidence[0])
    came_from = np.zeros((length, 2), bool)
    for i in range(1, length):
        to_off, to_on = on - change > off, on >= off - change
        came_from[i] = to_off, to_on
        off, on = (on - change if to_off else off), (on if to_on else off - change) + float(evidence[i])
    out = np.zeros(length, bool)
    state = on > off
    for i in range(length - 1, -1, -1):
        out[i] = state
        state = bool(came_from[i, int(state)])
    return out


class SpeakingEvidence(Protocol):
    """Weighs what speaks for a face's speaking, for the scores of one active speaker back-end."""

    name: str
    weights: tuple[str, ...]

    def model(self, score_name: str) -> SpeakingModel:
        """Return the model for scores of an active speaker back-end by its `name`."""
        ...


class FittedSpeaking:
    """The weights of `speaking.json`."""

    name = "speaking-logistic-viterbi"
    weights: tuple[str, ...] = (MODEL_FILE,)

    def model(self, score_name: str) -> SpeakingModel:
        """Return the weights for scores of an active speaker back-end by its `name`; see `speaking_model`."""
        return speaking_model(score_name)


def speaking_model(score_name: str) -> SpeakingModel:
    """Return the weights for scores of an active speaker back-end by its `name`.

    A back-end that no weights were fitted for is read on LR-ASD's scale (> 0 speaks, talkers +1 to +4).
    """
    kind = score_name.split("(")[0].split(" ")[0]
    sets = _read()["sets"]
    return model_of(kind, sets.get(kind, sets["lr-asd"]))


def model_of(kind: str, found: Mapping[str, Any]) -> SpeakingModel:
    """Return a model from its JSON form. Raises ValueError where the features differ."""
    if tuple(found["features"]) != FEATURES:
        raise ValueError(f"{MODEL_FILE} was fitted on other features: {found['features']}")
    mean, scale, weights_ = (np.array(found[x], np.float64) for x in ("mean", "scale", "weights"))
    return SpeakingModel(f"speaking-logistic-{kind}", mean, scale, weights_, float(found["offset"]))


@cache
def _parsed(path: Path, changed_ns: int) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _read() -> Any:
    path = weights.locate(MODEL_FILE)
    return _parsed(path, path.stat().st_mtime_ns)


def _mean(x: Floats, width: int) -> Floats:
    return np.asarray(moving_mean(x.astype(np.float32), width), np.float64)


def _highest(x: Floats, width: int) -> Floats:
    padded = np.pad(x, width // 2, mode="edge") if len(x) else np.zeros(width - 1)
    return np.asarray(np.lib.stride_tricks.sliding_window_view(padded, width).max(axis=1), np.float64)


def _motion(x: Floats) -> Floats:
    """Return the logarithm of mouth motion over what still lips have at most; unseen lips count as undecided."""
    return np.asarray(np.log(np.clip(np.where(np.isnan(x), _UNKNOWN, x), _LEAST, _MOST) / _STILL), np.float64)
