"""What every separator of voices does, on a small network made here; and what is said where it cannot be opened."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import numpy as np
import pytest
from enhancement_score import si_sdr_db
from separation_case import LAYERS, RATE_HZ, voices, write_separator

from annotators.models.weights import WeightsMismatch, WeightsNotFound
from annotators.optional_parts import PartNotInstalledError
from annotators.protocols_speech import SourceSeparator
from annotators.sound.conv_tasnet import ConvTasNetSeparator
from stages.packing.packing import PackingSettings


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_separator(tmp_path_factory.mktemp("separator") / "tasnet.pt")


@pytest.fixture(scope="module")
def separator(model: Path) -> SourceSeparator:
    return ConvTasNetSeparator(str(model), rate_hz=RATE_HZ, layers=LAYERS)


@pytest.mark.full
def test_voices_are_nearer_to_what_was_said(separator: SourceSeparator) -> None:
    true = voices(RATE_HZ, seed=7)
    mixture = true.sum(axis=0)
    found = separator.separate(mixture)
    for estimate, voice in zip(found, true, strict=True):
        assert si_sdr_db(estimate, voice) > si_sdr_db(mixture, voice) + 6


@pytest.mark.full
@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 12_345])
def test_length_is_kept_whatever_it_is(separator: SourceSeparator, n: int) -> None:
    out = separator.separate(voices(20_000, seed=1).sum(axis=0)[:n])
    assert out.shape == (2, n) and out.dtype == np.float32 and np.isfinite(out).all()


@pytest.mark.full
def test_the_same_sound_comes_out_the_same_whatever_came_before(separator: SourceSeparator) -> None:
    sound, other = voices(9000, seed=2).sum(axis=0), voices(4000, seed=3).sum(axis=0)
    before = sound.copy()
    first = separator.separate(sound)
    separator.separate(other)
    np.testing.assert_array_equal(separator.separate(sound), first)
    np.testing.assert_array_equal(sound, before)


@pytest.mark.full
@pytest.mark.parametrize("sound", [np.full(800, np.nan, np.float32), np.zeros((2, 800), np.float32)])
def test_what_is_no_mono_sound_is_refused(separator: SourceSeparator, sound: np.ndarray) -> None:
    with pytest.raises(ValueError, match="mono and finite"):
        separator.separate(sound)


@pytest.mark.full
def test_a_stage_is_given_the_network_and_names_it(separator: SourceSeparator, model: Path) -> None:
    chosen = {"use": "conv_tasnet", "model": str(model), "rate_hz": RATE_HZ, "layers": LAYERS}
    settings = PackingSettings.model_validate({"separator": chosen})
    made, said = settings.separator.build(), settings.provenance()
    assert isinstance(made, SourceSeparator) and made.rate_hz == RATE_HZ
    sound = voices(4000, seed=5).sum(axis=0)
    np.testing.assert_array_equal(made.separate(sound), separator.separate(sound))
    assert said["separator"] == "conv-tasnet:tasnet.pt" and len(said["tasnet.pt"]) == 64
    assert said["torchaudio"] == importlib.metadata.version("torchaudio")


@pytest.mark.full
def test_a_state_of_another_network_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsMismatch, match="no whole number of stacks"):
        ConvTasNetSeparator(str(model), layers=4)
    (tmp_path / "other.pt").write_bytes(b"no state")
    with pytest.raises(WeightsMismatch, match="no state of torchaudio's ConvTasNet"):
        ConvTasNetSeparator(str(tmp_path / "other.pt"))


def test_without_the_package_or_the_weights_a_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "2.11.0")
    with pytest.raises(WeightsNotFound, match=r"nowhere\.pt"):
        ConvTasNetSeparator.made_of("nowhere.pt")

    def absent(_: str) -> str:
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(importlib.metadata, "version", absent)
    with pytest.raises(PartNotInstalledError, match="make setup-full"):
        ConvTasNetSeparator.made_of("nowhere.pt")
