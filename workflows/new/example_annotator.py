"""Back-end `example_annotator`: speech where it is loud, for the stage `speech`.

Put it beside a workflow's YAML and name it in the stage's settings:

    speech: {settings: {vad: {use: "example_annotator:ExampleAnnotator", loud_db: -40}}}
"""

from __future__ import annotations

import numpy as np

from annotators.protocols_speech import FloatArray, SpeechProbability
from schemas.time import AUDIO_HZ


class ExampleAnnotator:
    """Voice activity by level: whatever is loud is speech. Its arguments are its settings."""

    name = "example_annotator"
    """stands beside its numbers in the tables"""
    weights: tuple[str, ...] = ()
    """names of model files: of the registry, or in a directory of OPENLPM_MODELS; their hashes are recorded"""

    def __init__(self, loud_db: float = -35.0, step_s: float = 0.032) -> None:
        """Load models here.

        Args:
            loud_db: level (dBFS) that is as likely speech as not; 6 dB more or less make it sure.
            step_s: length of a step in seconds.
        """
        self.loud_db, self.step_s = loud_db, step_s

    def probability(self, audio: FloatArray) -> SpeechProbability:
        """Return the speech probability of each step of audio [N] at 16 kHz."""
        step = round(self.step_s * AUDIO_HZ)
        blocks = np.pad(audio, (0, -len(audio) % step)).reshape(-1, step)
        level_db = 10 * np.log10(np.maximum(np.mean(blocks.astype(np.float64) ** 2, axis=1), 1e-12))
        sure = np.clip((level_db - self.loud_db) / 12 + 0.5, 0, 1).astype(np.float32)
        return SpeechProbability(sure, step / AUDIO_HZ, len(audio) / AUDIO_HZ)
