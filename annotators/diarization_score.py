"""How far found turns are from true ones: RTTM in, diarization error rate out. Pure; milliseconds a minute."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

LabelledTurn = tuple[float, float, str]
"""(start_s, end_s, speaker)"""

_STEP_S = 0.005


def parse_rttm(text: str) -> list[LabelledTurn]:
    """Return the turns of an RTTM file's text."""
    rows = [line.split() for line in text.splitlines() if line.strip()]
    return [(float(row[3]), float(row[3]) + float(row[4]), row[7]) for row in rows]


def diarization_error_rate(truth: Sequence[LabelledTurn], found: Sequence[LabelledTurn], duration_s: float) -> float:
    """Return (missed + false + confused speaker time) / true speaker time: no collar, overlap scored, in 5 ms steps.

    Speakers are matched one to one as fits best. Raises ValueError where nobody speaks in truth.
    """
    if not truth:
        raise ValueError("nobody speaks in the truth: the error rate is not defined")
    true, guess = _frames(truth, duration_s), _frames(found, duration_s)
    rows, columns = linear_sum_assignment(-(true.T.astype(int) @ guess.astype(int)))
    correct = sum(int((true[:, i] & guess[:, j]).sum()) for i, j in zip(rows, columns, strict=True))
    needed = int(np.maximum(true.sum(axis=1), guess.sum(axis=1)).sum())
    return (needed - correct) / int(true.sum())


def _frames(turns: Sequence[LabelledTurn], duration_s: float) -> npt.NDArray[np.bool_]:
    labels = sorted({label for _, _, label in turns}) or [""]
    grid = np.zeros((round(duration_s / _STEP_S), len(labels)), bool)
    for start_s, end_s, label in turns:
        grid[round(start_s / _STEP_S) : round(end_s / _STEP_S), labels.index(label)] = True
    return grid
