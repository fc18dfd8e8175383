"""YAMNet on real speech and made sounds, and its scores on the grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from annotators.sound.audio_events import EVENTS, HOP_S, WINDOW_S, YamnetAudioEvents, log_mel, on_grid
from annotators.sound.mel_filters import mel_filters
from curation.media.audio import read_audio


@pytest.fixture(scope="module")
def yamnet() -> YamnetAudioEvents:
    return YamnetAudioEvents()


def heard(yamnet: YamnetAudioEvents, audio: np.ndarray) -> dict[str, float]:
    return {name: float(scores.mean()) for name, scores in yamnet.events(audio.astype(np.float32)).scores.items()}


def chord(seconds: float) -> np.ndarray:
    """A plucked A minor chord, twice a second: strings that die away, with their overtones."""
    t = np.arange(round(seconds * 16000)) / 16000
    strings = sum(np.sin(2 * np.pi * f * h * t) / h for f in (220.0, 261.6, 329.6) for h in (1, 2, 3, 4))
    return 0.05 * np.asarray(strings) * np.exp(-4.0 * (t % 0.5))


def test_speech_is_speech_and_nothing_else(media: Path, yamnet: YamnetAudioEvents) -> None:
    audio = read_audio(media / "talk_woman_garden.mp4", 0.0, 7.0, 16000)
    assert audio is not None
    found = heard(yamnet, audio)
    assert found["speech"] > 0.8
    assert max(found[name] for name in ("music", "singing", "laughter", "noise")) < 0.05


def test_speech_of_many_people_is_no_laughter_and_no_song(media: Path, yamnet: YamnetAudioEvents) -> None:
    for path in sorted((media / "talkers").glob("*.mp4"))[:6]:
        audio = read_audio(path, 0.0, 6.0, 16000)
        assert audio is not None
        scores = yamnet.events(audio).scores
        assert max(scores["laughter"].max(), scores["singing"].max()) < 0.3, path.name


def test_music_and_noise_are_no_speech(yamnet: YamnetAudioEvents) -> None:
    music = heard(yamnet, chord(5.0))
    assert music["music"] > 0.5 > music["speech"]
    hiss = heard(yamnet, np.random.default_rng(0).normal(0.0, 0.05, 80000))
    assert hiss["noise"] > 0.5 > max(hiss["speech"], hiss["music"])
    assert max(heard(yamnet, np.zeros(80000)).values()) < 0.05


def test_every_sample_lies_in_a_window_and_length_changes_nothing_before(yamnet: YamnetAudioEvents) -> None:
    sound = chord(3.0).astype(np.float32)
    for n in (0, 1, 15599, 15600, 15601, 15600 + 7680, 15600 + 7681, 48000):
        events = yamnet.events(sound[:n])
        assert len(events) == 0 if n == 0 else (len(events) - 1) * HOP_S + 0.975 >= n / 16000
        assert len(events) < 2 or (len(events) - 2) * HOP_S + 0.975 < n / 16000, "no window of silence alone"
    whole, part = yamnet.events(sound), yamnet.events(sound[:40000])
    assert all(np.array_equal(whole.scores[e][:3], part.scores[e][:3]) for e in EVENTS)
    with pytest.raises(ValueError, match="mono"):
        yamnet.events(np.zeros((2, 16000), np.float32))


def test_front_end_has_the_published_shape() -> None:
    bank = mel_filters(64, 125.0, 7500.0, 512)
    assert bank.shape == (257, 64)
    assert bank[0].sum() == 0 and (bank.sum(axis=0) > 0).all() and bank.max() <= 1.0
    centres = bank.argmax(axis=0) * 16000 / 512
    assert centres[0] < 200 and 7000 < centres[-1] < 7500 and (np.diff(centres) >= 0).all()
    assert log_mel(np.zeros(400 + 95 * 160, np.float32), bank).shape == (96, 64)


def test_scores_on_the_grid_are_the_mean_of_the_windows_that_hold_it() -> None:
    scores = np.array([1.0, 0.0, 0.5], np.float32)
    found = on_grid(scores, 60, 25)
    assert found[0] == found[11] == 1.0 and found[12] == found[23] == 0.5, "alone, then with the second"
    assert found[24] == 0.25 and found[36] == 0.5 and found[47] == 0.5
    assert not found[round((2 * HOP_S + WINDOW_S) * 25) :].any()
    assert not on_grid(np.zeros(0, np.float32), 5, 25).any()
