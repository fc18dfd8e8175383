"""Lip-audio offset: exact where loudness drives the mouth, silent (nan) where there is nothing to compare."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotators.lips.lip_signals import articulation, fill_gaps, moving_mean, speech_band_level_db
from annotators.lips.lip_sync import EnvelopeLipSync
from annotators.protocols_speech import FloatArray, LipSync

FRAMES = 250


def synthetic_talker(shift_frames: int, seed: int = 0) -> tuple[FloatArray, FloatArray]:
    """Return noise whose loudness follows random syllables, and a mouth that opened with it `shift_frames` before."""
    rng = np.random.default_rng(seed)
    syllables = np.convolve(rng.random(FRAMES + 60) > 0.8, np.hanning(7), "same")
    mouth = (0.1 * syllables[30 : 30 + FRAMES]).astype(np.float32)
    loud = syllables[30 - shift_frames : 30 - shift_frames + FRAMES]
    audio = rng.normal(0, 1, FRAMES * 640) * np.repeat(0.001 + 0.1 * loud, 640)
    return audio.astype(np.float32), mouth


@settings(max_examples=15, deadline=None)
@given(st.integers(-12, 12), st.integers(0, 5))
def test_a_known_shift_is_found_and_late_sound_is_positive(shift_frames: int, seed: int) -> None:
    measure = EnvelopeLipSync().measure(*synthetic_talker(shift_frames, seed))
    assert measure.offset_ms == pytest.approx(40 * shift_frames, abs=30)
    assert measure.confidence > 0.4
    assert measure.correlation == pytest.approx(float(measure.curve.max()))


def test_unrelated_sound_has_less_confidence() -> None:
    own = EnvelopeLipSync().measure(*synthetic_talker(0, 1))
    other = EnvelopeLipSync().measure(synthetic_talker(0, 2)[0], synthetic_talker(0, 1)[1])
    assert other.confidence < own.confidence / 2


def test_missing_faces_are_bridged() -> None:
    audio, mouth = synthetic_talker(4)
    mouth[60:90] = np.nan
    assert EnvelopeLipSync().measure(audio, mouth).offset_ms == pytest.approx(160, abs=30)


@pytest.mark.parametrize("still", [np.full(FRAMES, 0.02), np.full(FRAMES, np.nan)])
def test_a_still_or_unseen_mouth_has_no_offset(still: FloatArray) -> None:
    measure = EnvelopeLipSync().measure(synthetic_talker(0)[0], still.astype(np.float32))
    assert np.isnan([measure.offset_ms, measure.confidence, measure.correlation]).all()


def test_a_silent_track_has_no_offset() -> None:
    measure = EnvelopeLipSync().measure(np.zeros(FRAMES * 640, np.float32), synthetic_talker(0)[1])
    assert np.isnan(measure.offset_ms)


def test_wrong_lengths_are_refused() -> None:
    sync = EnvelopeLipSync()
    assert isinstance(sync, LipSync)
    with pytest.raises(ValueError, match="need"):
        sync.measure(np.zeros(1000, np.float32), np.zeros(100, np.float32))
    with pytest.raises(ValueError, match="at least"):
        sync.measure(np.zeros(40 * 640, np.float32), np.zeros(40, np.float32))


def test_the_level_does_not_depend_on_blocks_and_sees_the_speech_band_alone() -> None:
    time_s = np.arange(70 * 16000) / 16000
    in_band = speech_band_level_db((0.1 * np.sin(2 * np.pi * 1000 * time_s)).astype(np.float32))
    assert in_band == pytest.approx(-23.0, abs=0.5)
    hum = speech_band_level_db((0.1 * np.sin(2 * np.pi * 50 * time_s)).astype(np.float32))
    assert hum[25:-25].max() < -60


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=60), st.sampled_from([1, 3, 25]))
def test_a_moving_mean_stays_within_the_values(values: list[float], width: int) -> None:
    mean = moving_mean(np.array(values, np.float32), width)
    assert len(mean) == len(values)
    assert min(values) - 1e-4 <= mean.min() <= mean.max() <= max(values) + 1e-4


def test_gaps_are_filled_and_drift_removed() -> None:
    assert fill_gaps(np.array([np.nan, 1, np.nan, 3, np.nan], np.float32)).tolist() == [1, 1, 2, 3, 3]
    with pytest.raises(ValueError, match="no frame"):
        fill_gaps(np.full(5, np.nan, np.float32))
    assert np.abs(articulation(np.linspace(0.1, 0.2, 100).astype(np.float32))).max() < 0.02
