"""Hearing who speaks when: channels are told from stereo, bleed from speech, and a call is heard for what it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from perform_voices import frames_right
from speech_media import load_audio, need, read_rttm

from annotators.protocols_speech import FloatArray, SpeechProbability, Turn
from annotators.speech.speaker_segmentation import SEGMENTATION_WEIGHT
from annotators.speech.voices import CAMPPLUS_WEIGHT
from curation.media.audio import AudioReader
from schemas.time import AUDIO_HZ
from workflows.performing.hearing import bleed, diarized, in_channels, load, one_sided, speech_settings
from workflows.performing.voices import spoken_s, the_two
from workflows.usage import UsageError


def levels(*pairs: tuple[float, float]) -> FloatArray:
    return np.repeat(np.array(pairs, np.float32).T, 25, axis=1)


def test_channels_of_a_person_each_are_told_from_stereo() -> None:
    speech = np.ones((2, 75), bool)
    assert one_sided(levels((-20, -45), (-48, -22), (-21, -22)), speech) == (
        pytest.approx(2 / 3),
        pytest.approx((1 / 3,) * 2),
    )
    assert one_sided(levels((-20, -24), (-22, -20), (-21, -22)), speech)[0] == 0
    assert one_sided(levels((-20, -20), (-22, -20), (-21, -22)), ~speech) == (0.0, (0.0, 0.0))


def test_bleed_is_judged_against_each_channels_own_loudness() -> None:
    found = bleed(levels((-20, -60), (-45, -38), (-21, -39)), np.array([[1] * 25 + [0] * 25 + [1] * 25] * 2, bool))
    assert [found[0, 25 * n] for n in range(3)] == [False, True, False]
    assert [found[1, 25 * n] for n in range(3)] == [True, False, False]
    # A channel that only hears the other is not a soft person's.
    speech = np.ones((2, 75), bool)
    assert bleed(levels((-20, -50), (-22, -52), (-20, -50)), speech)[1].all()


class Loud:
    """Voice activity by level."""

    name, weights = "loud", ()

    def probability(self, audio: FloatArray) -> SpeechProbability:
        power = np.square(audio[: len(audio) // 512 * 512].reshape(-1, 512)).mean(axis=1)
        return SpeechProbability((power > 1e-6).astype(np.float32), 512 / AUDIO_HZ, len(audio) / AUDIO_HZ)


def test_two_channels_become_two_people_and_stereo_does_not(tmp_path: Path) -> None:
    t = np.arange(6 * AUDIO_HZ) / AUDIO_HZ
    tone = (0.3 * np.sin(2 * np.pi * 200 * t)).astype(np.float32)
    a, b = tone * ((t > 0.5) & (t < 2.5)), tone * ((t > 2) & (t < 5))
    settings = speech_settings(None)
    settings = settings.model_copy(
        update={"vad": type("P", (), {"build": lambda s: Loud(), "provenance": lambda s, n: {n: "loud"}})()}
    )
    apart = np.stack([a + 0.02 * b, b + 0.02 * a]).astype(np.float32)
    found = in_channels(apart, 10.0, settings, asked=False)
    assert found is not None and "channel-levels-heuristic" in found.notes[0]
    assert found.by == {"vad": "loud", "channels": "channel-levels-heuristic"}
    spans = {p: [(t.start_s, t.end_s) for t in found.turns if t.speaker == p] for p in "ab"}
    assert spans["a"] == [pytest.approx((10.5, 12.5), abs=0.08)] and spans["b"] == [pytest.approx((12, 15), abs=0.08)]
    stereo = np.stack([0.6 * a + 0.4 * b, 0.4 * a + 0.6 * b]).astype(np.float32)
    assert in_channels(stereo, 0.0, settings, asked=False) is None
    assert in_channels(stereo, 0.0, settings, asked=True) is not None


def test_a_stretch_is_read_whole_and_no_more(tmp_path: Path) -> None:
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, (45 * AUDIO_HZ, 2)).astype(np.float32)
    soundfile.write(tmp_path / "x.wav", sound, AUDIO_HZ, subtype="FLOAT")
    with AudioReader(tmp_path / "x.wav", AUDIO_HZ, mono=False) as reader:
        np.testing.assert_array_equal(load(reader, 1.5, 44.0), sound.T[:, round(1.5 * AUDIO_HZ) : 44 * AUDIO_HZ])


def test_a_diarizer_is_chosen_as_in_a_workflow() -> None:
    assert speech_settings("clustering").diarizer.settled == "clustering"
    with pytest.raises(UsageError, match=r"--diarizer: .*clustering"):
        speech_settings("clusterin")


@pytest.mark.slow
def test_a_telephone_call_is_heard_by_the_real_diarizer(media: Path) -> None:
    """See `benchmarks/perform_voices.py` for real conversations."""
    need(SEGMENTATION_WEIGHT, CAMPPLUS_WEIGHT)
    audio = load_audio(media / "telephone_two_speakers.wav")
    found = diarized(audio, 100.0, speech_settings(None))
    assert set(found.by) > {"vad", "diarizer", "embedder"} and found.notes == []
    assert set(spoken_s(found.turns)) == {"speaker_0", "speaker_1"}
    truth = [Turn(a + 100, b + 100, who) for a, b, who in read_rttm(media / "telephone_two_speakers.rttm")]
    right = frames_right(truth, the_two(found.turns, None), 750, 100.0)
    assert min(right.values()) > 0.9
