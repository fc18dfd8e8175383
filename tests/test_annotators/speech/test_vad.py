"""Voice activity: true edges on real footage, and the rule from probabilities to segments as properties."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from speech_media import load_audio, need

from annotators.protocols_speech import Segment, SpeechProbability, VoiceActivity
from annotators.speech import vad
from annotators.speech.vad import SegmentRule, SileroVoiceActivity, speech_segments


@pytest.fixture(scope="module")
def silero() -> SileroVoiceActivity:
    need(*SileroVoiceActivity.weights)
    return SileroVoiceActivity()


def series(values: list[float]) -> SpeechProbability:
    return SpeechProbability(np.array(values, np.float32), 0.032, len(values) * 0.032)


def test_edges_of_a_voice_and_of_a_silence_lie_within_a_tenth_of_a_second(
    silero: SileroVoiceActivity, media: Path
) -> None:
    audio = load_audio(media / "interview_cuts.mp4")
    segments = speech_segments(silero.probability(audio))
    silence = next((a.end_s, b.start_s) for a, b in pairwise(segments) if b.start_s > 14)
    assert silence == pytest.approx((11.6, 14.6), abs=0.1)


def test_a_clip_without_voice_has_no_speech(silero: SileroVoiceActivity, media: Path) -> None:
    assert speech_segments(silero.probability(load_audio(media / "lips_without_voice.mp4"))) == []


def test_a_voice_26_db_quieter_is_found_as_long(silero: SileroVoiceActivity, media: Path) -> None:
    segments = speech_segments(silero.probability(load_audio(media / "quiet_speech.mp4")))
    assert sum(part.duration_s for part in segments) > 6.5


def test_blocks_change_nothing_and_neither_does_a_second_run(
    silero: SileroVoiceActivity, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audio = load_audio(media / "telephone_two_speakers.wav")
    whole = silero.probability(audio)
    monkeypatch.setattr(vad, "_BLOCK_CHUNKS", 100)
    np.testing.assert_allclose(silero.probability(audio).values, whole.values, atol=1e-5)
    assert np.array_equal(silero.probability(audio).values, silero.probability(audio).values)
    assert whole.duration_s == len(audio) / 16000


def test_empty_audio_has_no_probability_and_stereo_is_refused(silero: SileroVoiceActivity) -> None:
    assert isinstance(silero, VoiceActivity)
    assert len(silero.probability(np.zeros(0, np.float32)).values) == 0
    with pytest.raises(ValueError, match="mono"):
        silero.probability(np.zeros((2, 100), np.float32))


def test_hysteresis_keeps_speech_through_a_dip_and_drops_a_blip() -> None:
    rule = SegmentRule(pad_s=0)
    dip = series([0.9] * 10 + [0.4] * 20 + [0.9] * 10)
    assert speech_segments(dip, rule) == [Segment(0.0, pytest.approx(40 * 0.032))]
    assert speech_segments(series([0.0] * 10 + [0.9] * 3 + [0.0] * 10), rule) == []


def test_short_pauses_are_bridged_and_long_ones_not() -> None:
    rule = SegmentRule(pad_s=0, min_silence_s=0.2)
    assert len(speech_segments(series([0.9] * 10 + [0.0] * 5 + [0.9] * 10), rule)) == 1
    assert len(speech_segments(series([0.9] * 10 + [0.0] * 8 + [0.9] * 10), rule)) == 2


@given(
    st.lists(st.floats(0, 1, width=32), max_size=200),
    st.floats(0, 0.5),
    st.floats(0, 0.5),
    st.floats(0, 0.5),
)
def test_segments_are_in_order_apart_and_inside(
    values: list[float], min_speech_s: float, min_silence_s: float, pad_s: float
) -> None:
    probability = series(values)
    rule = SegmentRule(min_speech_s=min_speech_s, min_silence_s=min_silence_s, pad_s=pad_s)
    segments = speech_segments(probability, rule)
    edges = [time_s for part in segments for time_s in (part.start_s, part.end_s)]
    assert all(a <= b + 1e-9 for a, b in pairwise(edges))
    assert all(-1e-9 <= time_s <= probability.duration_s + 1e-9 for time_s in edges)
    assert all(part.duration_s >= min_speech_s - 1e-9 for part in segments)


def test_wrong_rules_are_refused() -> None:
    with pytest.raises(ValueError, match="off_threshold"):
        SegmentRule(on_threshold=0.3, off_threshold=0.5)
    with pytest.raises(ValueError, match="negative"):
        SegmentRule(pad_s=-1)
