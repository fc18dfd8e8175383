"""How far found turns are from true ones: RTTM in, diarization error rate out. Pure; milliseconds a minute."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

LabelledTurn = tuple[float, float, str]
"""(start_s, end_s, speaker)"""

_STEP_S = 0.005


@dataclass(frozen=True)
class DiarizationErrors:
    """Speaker seconds, two who talk at once counted twice: true, missed, falsely found, given to another.

    `overlap_true_s` and `overlap_found_s` are seconds in which two or more talk, by truth and as found.
    """

    true_s: float
    missed_s: float
    false_s: float
    confused_s: float
    overlap_true_s: float
    overlap_found_s: float

    @property
    def rate(self) -> float:
        """The diarization error rate, in shares of the true speaker time. Raises ValueError where nobody speaks."""
        if not self.true_s:
            raise ValueError("nobody speaks in the truth: the error rate is not defined")
        return (self.missed_s + self.false_s + self.confused_s) / self.true_s


def summed(errors: Iterable[DiarizationErrors]) -> DiarizationErrors:
    """Return the errors of several recordings taken together."""
    rows = [(e.true_s, e.missed_s, e.false_s, e.confused_s, e.overlap_true_s, e.overlap_found_s) for e in errors]
    return DiarizationErrors(*(float(sum(column)) for column in zip(*rows, strict=True)))


def parse_rttm(text: str) -> list[LabelledTurn]:
    """Return the turns of an RTTM file's text."""
    rows = [line.split() for line in text.splitlines() if line.strip()]
    return [(float(row[3]), float(row[3]) + float(row[4]), row[7]) for row in rows]


def diarization_errors(
    truth: Sequence[LabelledTurn],
    found: Sequence[LabelledTurn],
    duration_s: float,
    unknown: Sequence[tuple[float, float]] = (),
) -> DiarizationErrors:
    """Return the errors of found turns: no collar, overlap scored, in steps of 5 ms, nothing inside `unknown` (s).

    Speakers are matched one to one as fits best.
    """
    known = np.ones(round(duration_s / _STEP_S), bool)
    for start_s, end_s in unknown:
        known[round(start_s / _STEP_S) : round(end_s / _STEP_S)] = False
    true, guess = _frames(truth, duration_s)[known], _frames(found, duration_s)[known]
    rows, columns = linear_sum_assignment(-(true.T.astype(int) @ guess.astype(int)))
    right = sum(int((true[:, i] & guess[:, j]).sum()) for i, j in zip(rows, columns, strict=True))
    n_true, n_guess = true.sum(axis=1), guess.sum(axis=1)
    counts = (
        n_true.sum(),
        np.maximum(n_true - n_guess, 0).sum(),
        np.maximum(n_guess - n_true, 0).sum(),
        np.minimum(n_true, n_guess).sum() - right,
        (n_true > 1).sum(),
        (n_guess > 1).sum(),
    )
    return DiarizationErrors(*(float(count) * _STEP_S for count in counts))


def _frames(turns: Sequence[LabelledTurn], duration_s: float) -> npt.NDArray[np.bool_]:
    labels = sorted({label for _, _, label in turns}) or [""]
    grid = np.zeros((round(duration_s / _STEP_S), len(labels)), bool)
    for start_s, end_s, label in turns:
        grid[round(start_s / _STEP_S) : round(end_s / _STEP_S), labels.index(label)] = True
    return grid
