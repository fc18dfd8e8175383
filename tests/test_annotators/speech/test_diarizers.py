"""What every diarizer does, and what is said where the one asked for is not installed."""

from __future__ import annotations

import importlib.metadata
import itertools
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from diarization_score import diarization_errors
from speech_media import cut, load_audio, need, read_rttm

from annotators.optional_parts import PartNotInstalledError
from annotators.protocols_speech import Diarizer, FloatArray, Segment, Turn
from annotators.speech.diarizer import ClusteringDiarizer, DiarizationRule
from annotators.speech.pyannote_diarizer import PyannoteDiarizer
from annotators.speech.speaker_segmentation import SEGMENTATION_WEIGHT
from annotators.speech.voices import CAMPPLUS_WEIGHT
from stages.speech.speech import SpeechSettings
from workflows import cli

BACKENDS: dict[str, Callable[[], Diarizer]] = {"clustering": ClusteringDiarizer, "pyannote": PyannoteDiarizer}


def no_network(*_: object) -> None:
    raise AssertionError("a diarizer asked for the network")


def unreachable(*_: object, **__: object) -> None:
    raise OSError("no network here")


@pytest.fixture(scope="module", params=["clustering", pytest.param("pyannote", marks=pytest.mark.full)])
def diarizer(request: pytest.FixtureRequest) -> Iterator[Diarizer]:
    need(SEGMENTATION_WEIGHT, CAMPPLUS_WEIGHT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", no_network)
        patch.setattr(socket, "getaddrinfo", no_network)
        yield BACKENDS[request.param]()


@pytest.fixture(scope="module")
def call(media: Path) -> FloatArray:
    return load_audio(media / "telephone_two_speakers.wav")


def within(turns: list[Turn], speech: list[Segment]) -> bool:
    margin_s = DiarizationRule().speech_margin_s + 0.02  # half a frame of the segmentation, rounded up
    return all(any(s.start_s - margin_s <= t.start_s and t.end_s <= s.end_s + margin_s for s in speech) for t in turns)


def test_a_telephone_call_has_two_voices_and_their_overlap(diarizer: Diarizer, call: FloatArray, media: Path) -> None:
    turns = diarizer.diarize(call, [Segment(0.0, 30.0)])
    assert [t.start_s for t in turns] == sorted(t.start_s for t in turns)
    assert list(dict.fromkeys(t.speaker for t in turns)) == ["speaker_0", "speaker_1"]
    found = [(t.start_s, t.end_s, t.speaker) for t in turns]
    errors = diarization_errors(read_rttm(media / "telephone_two_speakers.rttm"), found, 30.0)
    assert errors.rate < 0.12
    assert errors.overlap_found_s == pytest.approx(errors.overlap_true_s, abs=0.8)
    assert errors.overlap_found_s == pytest.approx(sum(t.end_s - t.start_s for t in turns if t.overlap) / 2, abs=0.02)


def test_turns_lie_in_speech_and_no_voice_talks_twice_at_once(diarizer: Diarizer, call: FloatArray) -> None:
    speech = [Segment(6.5, 9.0), Segment(10.5, 12.0)]
    turns = diarizer.diarize(cut(call, 0, 13), speech)
    assert turns and within(turns, speech)
    assert all(t.start_s < t.end_s for t in turns)
    for speaker in {t.speaker for t in turns}:
        mine = [t for t in turns if t.speaker == speaker]
        assert all(a.end_s <= b.start_s + 1e-9 for a, b in itertools.pairwise(mine))


def test_the_same_sound_has_the_same_turns(diarizer: Diarizer, call: FloatArray) -> None:
    sound, speech = cut(call, 5, 12), [Segment(0.0, 7.0)]
    before = sound.copy()
    assert diarizer.diarize(sound, speech) == diarizer.diarize(sound, speech)
    np.testing.assert_array_equal(sound, before)


def test_sound_without_speech_has_no_turns(diarizer: Diarizer) -> None:
    assert diarizer.diarize(np.zeros(32_000, np.float32), []) == []
    assert diarizer.diarize(np.zeros(32_000, np.float32), [Segment(0.0, 2.0)]) == []


@pytest.mark.parametrize("seconds", [0.04, 0.5])
def test_a_very_short_sound_is_no_error(diarizer: Diarizer, call: FloatArray, seconds: float) -> None:
    turns = diarizer.diarize(cut(call, 11.0, 11.0 + seconds), [Segment(0.0, seconds)])
    assert all(0.0 <= t.start_s < t.end_s <= seconds for t in turns)


def test_a_diarizer_says_what_it_is(diarizer: Diarizer) -> None:
    assert isinstance(diarizer, Diarizer)
    assert "segmentation-3.0" in diarizer.name and set(diarizer.weights) == {SEGMENTATION_WEIGHT, CAMPPLUS_WEIGHT}


@pytest.mark.full
def test_pyannote_reports_nothing_to_its_maker() -> None:
    PyannoteDiarizer()
    from pyannote.audio.telemetry.metrics import is_metrics_enabled

    assert os.environ["PYANNOTE_METRICS_ENABLED"] == "0" and not is_metrics_enabled()


def without_pyannote(name: str) -> str:
    if name == "pyannote.audio":
        raise importlib.metadata.PackageNotFoundError(name)
    return "1"


def test_a_diarizer_that_is_not_installed_stops_the_run_before_it_starts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    need(SEGMENTATION_WEIGHT, CAMPPLUS_WEIGHT)
    monkeypatch.setattr(importlib.metadata, "version", without_pyannote)
    monkeypatch.setattr(socket, "getaddrinfo", unreachable)  # other stages may look for weights
    monkeypatch.setattr(socket.socket, "connect", unreachable)
    with pytest.raises(PartNotInstalledError, match="make setup-full"):
        SpeechSettings(diarizer="pyannote").provenance()
    assert "pyannote.audio" not in SpeechSettings().provenance()
    (tmp_path / "clip.mp4").write_bytes(b"never opened")
    command = ["run", str(tmp_path), "--out", str(tmp_path / "out"), "--engine", "local", "--set"]
    with pytest.raises(SystemExit) as stopped:
        cli.main([*command, "speech.diarizer=pyannote"])
    assert stopped.value.code == 1
    assert "make setup-full" in capsys.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "out" / "tables").exists() and not (tmp_path / "out" / "runs").exists()


def test_a_chosen_diarizer_is_part_of_the_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    need(SEGMENTATION_WEIGHT, CAMPPLUS_WEIGHT)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "4.0.7")
    assert SpeechSettings(diarizer="pyannote").provenance()["pyannote.audio"] == "4.0.7"
