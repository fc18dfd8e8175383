"""What the audio tests share: decoded sound, needed weights, and the diarization error rate."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from annotators import weights
from annotators.protocols_speech import SAMPLE_RATE_HZ, FloatArray

LabelledTurn = tuple[float, float, str]


def need(*names: str) -> None:
    """Skip, saying how to get them, where model files are not on this machine."""
    missing = [name for name in names if weights.find(name) is None]
    if missing:
        pytest.skip(f"no model files {', '.join(missing)}: fetch them with `lpm models fetch`")


def load_audio(path: Path) -> FloatArray:
    """Decode a file's sound to mono 16 kHz."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE_HZ)
    parts = []
    with av.open(str(path)) as container:
        for frame in [*container.decode(audio=0), None]:
            parts += [part.to_ndarray().reshape(-1) for part in resampler.resample(frame)]
    return np.concatenate(parts)


def cut(audio: FloatArray, start_s: float, end_s: float) -> FloatArray:
    """Return the samples of [start_s, end_s)."""
    return audio[round(start_s * SAMPLE_RATE_HZ) : round(end_s * SAMPLE_RATE_HZ)]


def read_rttm(path: Path) -> list[LabelledTurn]:
    """Return the turns of an RTTM file."""
    rows = [line.split() for line in path.read_text().splitlines() if line.strip()]
    return [(float(row[3]), float(row[3]) + float(row[4]), row[7]) for row in rows]


def diarization_error_rate(truth: list[LabelledTurn], found: list[LabelledTurn], duration_s: float) -> float:
    """Return (missed + false + confused speaker time) / true speaker time, no collar, overlap scored, in 5 ms steps."""
    step_s = 0.005

    def frames(turns: list[LabelledTurn]) -> np.ndarray:
        labels = sorted({label for _, _, label in turns}) or [""]
        grid = np.zeros((round(duration_s / step_s), len(labels)), bool)
        for start_s, end_s, label in turns:
            grid[round(start_s / step_s) : round(end_s / step_s), labels.index(label)] = True
        return grid

    true, guess = frames(truth), frames(found)
    rows, columns = linear_sum_assignment(-(true.T.astype(int) @ guess.astype(int)))
    correct = sum((true[:, i] & guess[:, j]).sum() for i, j in zip(rows, columns, strict=True))
    needed = np.maximum(true.sum(axis=1), guess.sum(axis=1)).sum()
    return float((needed - correct) / true.sum())
