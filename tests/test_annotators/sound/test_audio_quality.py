"""Audio measures on signals whose values are known, and on real speech."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from speech_media import load_audio

from annotators.protocols_speech import FloatArray, Segment
from annotators.sound.audio_quality import audio_quality

TIME_S = np.arange(5 * 16000) / 16000


def sine(amplitude: float, hz: float = 440.0) -> FloatArray:
    return (amplitude * np.sin(2 * np.pi * hz * TIME_S)).astype(np.float32)


def noise(level: float, samples: int = len(TIME_S)) -> FloatArray:
    return np.random.default_rng(0).normal(0, level, samples).astype(np.float32)


@given(st.floats(0.001, 0.99))
@settings(max_examples=20, deadline=None)
def test_levels_of_a_sine(amplitude: float) -> None:
    quality = audio_quality(sine(amplitude))
    assert quality.peak_dbfs == pytest.approx(20 * np.log10(amplitude), abs=0.05)
    assert quality.rms_dbfs == pytest.approx(quality.peak_dbfs - 3.01, abs=0.05)
    assert quality.clipping_ratio == 0


def test_clipped_samples_are_counted_and_a_single_peak_is_not() -> None:
    clipped = audio_quality(np.clip(sine(2.0), -1, 1))
    assert clipped.clipping_ratio == pytest.approx(2 / 3, abs=0.02)
    once = sine(0.5)
    once[100] = 1.0
    assert audio_quality(once).clipping_ratio == 0


def test_silence_is_measured_and_has_no_signal() -> None:
    quality = audio_quality(np.zeros(16000, np.float32))
    assert (quality.silence_ratio, quality.rms_dbfs, quality.noise_floor_db) == (1.0, -120.0, -120.0)
    assert np.isnan(quality.snr_db)


def test_signal_to_noise_is_what_was_mixed() -> None:
    audio = noise(0.01)
    audio[32_000:64_000] += sine(0.1)[32_000:64_000]
    quality = audio_quality(audio, [Segment(2.0, 4.0)])
    assert quality.noise_floor_db == pytest.approx(-40, abs=0.5)
    assert quality.snr_db == pytest.approx(10 * np.log10(0.005 / 0.0001), abs=0.5)


def test_noise_and_quietness_of_real_clips_are_seen(media: Path) -> None:
    voice = [Segment(0.2, 5.0)]
    clean, noisy, quiet = (
        audio_quality(load_audio(media / f"{name}.mp4")[: 5 * 16000], voice)
        for name in ("talk_woman_garden", "noisy_speech", "quiet_speech")
    )
    assert clean.snr_db > noisy.snr_db + 5
    assert clean.rms_dbfs - quiet.rms_dbfs == pytest.approx(26, abs=1)


def test_blocks_join(monkeypatch: pytest.MonkeyPatch) -> None:
    audio = noise(0.1, 5 * 16000)
    whole = audio_quality(audio)
    monkeypatch.setattr("annotators.sound.audio_quality._BLOCK_FRAMES", 50)
    parts = audio_quality(audio)
    assert parts.rms_dbfs == pytest.approx(whole.rms_dbfs, abs=1e-6)
    assert parts.snr_db == pytest.approx(whole.snr_db, abs=1e-6)


def test_unusable_audio_is_refused() -> None:
    with pytest.raises(ValueError, match="at least"):
        audio_quality(np.zeros(100, np.float32))
    with pytest.raises(ValueError, match="not finite"):
        audio_quality(np.full(1000, np.nan, np.float32))
