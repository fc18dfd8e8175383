"""`example_annotator` hears a loud stretch and no quiet one, and can be chosen in the stage `speech`."""

from __future__ import annotations

import numpy as np
from example_annotator import ExampleAnnotator

from annotators.protocols_speech import VoiceActivity
from stages.speech.speech import SpeechSettings


def test_loud_is_speech() -> None:
    """Noise below the level is none, noise above it is."""
    audio = np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32)
    audio[:16_000] *= 1e-4
    vad = ExampleAnnotator(loud_db=-30)
    assert isinstance(vad, VoiceActivity)
    found = vad.probability(audio)
    times = np.arange(len(found.values)) * found.step_s
    assert found.values[times < 0.9].max() == 0 and found.values[times > 1.1].min() == 1


def test_it_can_be_chosen() -> None:
    """The stage takes it, and names it with the hash of its code."""
    chosen = {"use": "example_annotator:ExampleAnnotator", "loud_db": -40}
    identity = SpeechSettings.model_validate({"vad": chosen}).provenance()
    assert identity["vad"] == "example_annotator" and "vad.code" in identity
