"""Pitch, syllables and speaking style on made voices: what is there is found, and nothing is said without evidence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotators.performance.speaking_style import FAST_HZ, MIN_SPEECH_S, NO_STYLE, speaking_style, usual_level
from annotators.speech.voice_signals import pitch_hz, syllables
from schemas.samples.vocabulary import SPEAKING_STYLES

RATE = 16000


def voice(hz: float, seconds: float = 2.0, syllable_hz: float = 0.0, noise: float = 0.0) -> Any:
    """Return a pulse-like voice, its loudness swinging `syllable_hz` times a second."""
    t = np.arange(round(seconds * RATE)) / RATE
    tone = sum(np.sin(2 * np.pi * hz * n * t) / n for n in range(1, 12))
    swing = 0.5 - 0.5 * np.cos(2 * np.pi * syllable_hz * t) if syllable_hz else 1.0
    sound = 0.1 * tone * swing + noise * np.random.default_rng(0).standard_normal(len(t))
    return sound.astype(np.float32)


@settings(max_examples=20, deadline=None)
@given(st.floats(80, 400))
def test_a_voices_pitch_is_found(hz: float) -> None:
    found = pitch_hz(voice(hz, noise=0.01))[2:-2]
    assert np.isfinite(found).mean() > 0.9
    assert np.nanmedian(found) == pytest.approx(hz, rel=0.03)


def test_noise_and_silence_have_no_pitch() -> None:
    assert not np.isfinite(pitch_hz(np.zeros(RATE, np.float32))).any()
    noise = 0.1 * np.random.default_rng(0).standard_normal(2 * RATE).astype(np.float32)
    assert np.isfinite(pitch_hz(noise)).mean() < 0.1
    assert len(pitch_hz(np.zeros(100, np.float32))) == 0


@pytest.mark.parametrize("rate_hz", [2.0, 4.0, 6.0])
def test_syllables_are_counted(rate_hz: float) -> None:
    sound = voice(150, 4.0, rate_hz, noise=0.001)
    assert syllables(sound, pitch_hz(sound)).sum() == pytest.approx(4 * rate_hz, abs=2)


def test_what_is_not_voiced_has_no_syllables() -> None:
    assert syllables(np.zeros(RATE, np.float32), pitch_hz(np.zeros(RATE, np.float32))).sum() == 0


def style(
    seconds: float = 4.0, rate_hz: float = 3.5, range_st: float = 6.0, level: float = -25.0, usual: float | None = -25.0
) -> Any:
    n = round(seconds * 25)
    steps = np.linspace(-range_st / 0.8 / 2, range_st / 0.8 / 2, n)
    per_frame = np.zeros(n)
    per_frame[np.linspace(0, n - 1, round(rate_hz * seconds)).astype(int)] += 1
    return speaking_style(np.ones(n, bool), np.full(n, level), 150 * 2 ** (steps / 12), per_frame, usual)


@pytest.mark.parametrize(
    ("facts", "terms"),
    [
        ({}, ()),
        ({"rate_hz": 5.5}, ("fast",)),
        ({"rate_hz": 1.5}, ("slow",)),
        ({"range_st": 14.0}, ("lively",)),
        ({"range_st": 1.0}, ("monotone",)),
        ({"level": -18.0}, ("raised",)),
        ({"level": -33.0}, ("soft",)),
        ({"level": -18.0, "usual": None}, ()),
        ({"rate_hz": 5.5, "range_st": 14.0}, ("energetic", "fast")),
        ({"seconds": 1.2, "rate_hz": 6.0}, ()),
    ],
)
def test_words_follow_the_measures(facts: dict[str, float], terms: tuple[str, ...]) -> None:
    found = style(**facts)
    assert found.terms == terms
    assert set(found.terms) <= set(SPEAKING_STYLES.names)


def test_measures_are_what_was_put_in() -> None:
    found = style(level=-20.0)
    assert found.syllables_per_s == pytest.approx(3.5, abs=0.1)
    assert found.pitch_range_st == pytest.approx(6.0, abs=0.3)
    assert found.level_over_usual_db == pytest.approx(5.0)


@given(
    st.lists(st.booleans(), min_size=1, max_size=200),
    st.floats(60, 500) | st.just(float("nan")),
    st.floats(-90, 0),
    st.none() | st.floats(-90, 0),
)
def test_little_speech_has_no_style(speech: list[bool], hz: float, level: float, usual: float | None) -> None:
    n = len(speech)
    found = speaking_style(np.array(speech), np.full(n, level), np.full(n, hz), np.zeros(n), usual)
    if sum(speech) < MIN_SPEECH_S * 25:
        assert found == NO_STYLE
    assert len(set(found.terms)) == len(found.terms)
    assert not {"raised", "soft"} <= set(found.terms) and not {"fast", "slow"} <= set(found.terms)
    assert found.syllables_per_s is None or found.syllables_per_s < FAST_HZ


def test_an_octave_error_widens_no_range() -> None:
    n = 100
    hz = np.full(n, 150.0)
    hz[::10] = 300.0
    found = speaking_style(np.ones(n, bool), np.full(n, -20.0), hz, np.zeros(n))
    assert found.pitch_range_st == pytest.approx(0.0)


def test_a_voice_heard_too_little_has_no_usual_level() -> None:
    assert usual_level(np.full(100, -20.0), np.arange(100) < 50) is None
    assert usual_level(np.full(100, -20.0), np.ones(100, bool)) == pytest.approx(-20.0)
