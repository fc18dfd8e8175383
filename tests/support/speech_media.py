"""What tests of sound share: decoded sound, true turns; and the skip where model files are missing."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from diarization_score import LabelledTurn, parse_rttm

from annotators.models import weights
from annotators.protocols_speech import FloatArray
from schemas.time import AUDIO_HZ


def need(*names: str) -> None:
    """Skip, saying how to get them, where model files are not on this machine."""
    missing = [name for name in names if weights.find(name) is None]
    if missing:
        pytest.skip(f"no model files {', '.join(missing)}: fetch them with `lpm models fetch`")


def load_audio(path: Path) -> FloatArray:
    """Decode a file's sound to mono 16 kHz."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=AUDIO_HZ)
    parts = []
    with av.open(str(path)) as container:
        for frame in [*container.decode(audio=0), None]:
            parts += [part.to_ndarray().reshape(-1) for part in resampler.resample(frame)]
    return np.concatenate(parts)


def cut(audio: FloatArray, start_s: float, end_s: float) -> FloatArray:
    """Return the samples of [start_s, end_s)."""
    return audio[round(start_s * AUDIO_HZ) : round(end_s * AUDIO_HZ)]


def read_rttm(path: Path) -> list[LabelledTurn]:
    """Return the turns of an RTTM file."""
    return parse_rttm(path.read_text())
