"""A pipeline of the user's: read from its configuration, run on the weights at hand, refused in a sentence."""

from __future__ import annotations

import itertools
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from diarization_score import diarization_errors
from speech_media import cut, load_audio, need, read_rttm

from annotators.models import weights
from annotators.models.weights import WeightsNotFound
from annotators.protocols_speech import Diarizer, FloatArray, Segment
from annotators.speech.pyannote_diarizer import PyannoteDiarizer
from annotators.speech.pyannote_pipeline import configured
from annotators.speech.quiet_import import imported
from annotators.speech.speaker_segmentation import SEGMENTATION_WEIGHT
from annotators.speech.voices import CAMPPLUS_WEIGHT
from stages.speech.speech import SpeechSettings

HEAD = "pipeline:\n  name: pyannote.audio.pipelines.SpeakerDiarization\n  params:\n"
PLAIN = "    clustering: AgglomerativeClustering\n    segmentation: $model/seg\n    embedding: voices\n"


def folder_with(tmp_path: Path, config: str) -> Path:
    for name in ("seg", "voices"):
        (tmp_path / "mine" / name).mkdir(parents=True, exist_ok=True)
    (tmp_path / "mine" / "config.yaml").write_text(config, encoding="utf-8")
    return tmp_path / "mine"


def test_models_are_directories_of_this_machine(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, HEAD + PLAIN + "    token: hf_secret\nparams: {clustering: {threshold: 0.7}}\n")
    found = configured(str(folder))
    assert found.arguments == {
        "clustering": "AgglomerativeClustering",
        "segmentation": folder / "seg",
        "embedding": folder / "voices",
    }
    assert found.parameters == {"clustering": {"threshold": 0.7}}
    assert found.folders == {"pipeline": folder}


def test_a_model_elsewhere_is_named_beside_the_pipeline(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    folder = folder_with(tmp_path, HEAD + PLAIN.replace("voices", str(tmp_path / "other")))
    assert configured(str(folder)).folders == {"pipeline": folder, "embedding": tmp_path / "other"}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("", "holds no settings"),
        ("[1", "cannot be read"),
        ("pipeline: {name: os.system}\n", "no pipeline of the class"),
        (HEAD + "    segmentation: $model/seg\n", "names no embedding"),
        (HEAD + PLAIN.replace("    clustering: AgglomerativeClustering\n", ""), "names no plda"),
        (HEAD + PLAIN.replace("$model/seg", "$model/gone"), "is missing, which"),
        (HEAD + PLAIN.replace("$model/seg", "acme/segmentation"), "set HF_TOKEN"),
        (HEAD + PLAIN.replace("$model/seg", "[1]"), "segmentation must be"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str, said: str
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(WeightsNotFound, match=said) as refused:
        configured(str(folder_with(tmp_path, config)))
    assert "\n" not in str(refused.value)


def test_a_directory_without_a_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsNotFound, match=r"config\.yaml is missing"):
        configured(str(tmp_path))


def no_network(*_: object) -> None:
    raise AssertionError("a pipeline asked for the network")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need(SEGMENTATION_WEIGHT, CAMPPLUS_WEIGHT)
    made: Path = imported("pyannote_case").write_pipeline(tmp_path_factory.mktemp("pipelines") / "mine")
    return made


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> Iterator[PyannoteDiarizer]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", no_network)
        patch.setattr(socket, "getaddrinfo", no_network)
        yield PyannoteDiarizer(pipeline=str(folder))


@pytest.fixture(scope="module")
def call(media: Path) -> FloatArray:
    return load_audio(media / "telephone_two_speakers.wav")


@pytest.mark.full
def test_its_turns_are_those_of_two_voices(pipeline: PyannoteDiarizer, call: FloatArray, media: Path) -> None:
    assert isinstance(pipeline, Diarizer)
    turns = pipeline.diarize(call, [Segment(0.0, 30.0)])
    assert list(dict.fromkeys(t.speaker for t in turns)) == ["speaker_0", "speaker_1"]
    found = [(t.start_s, t.end_s, t.speaker) for t in turns]
    assert diarization_errors(read_rttm(media / "telephone_two_speakers.rttm"), found, 30.0).rate < 0.12
    for speaker in {t.speaker for t in turns}:
        mine = [t for t in turns if t.speaker == speaker]
        assert all(a.end_s <= b.start_s + 1e-9 for a, b in itertools.pairwise(mine))


@pytest.mark.full
def test_little_or_no_sound_is_no_error(pipeline: PyannoteDiarizer, call: FloatArray) -> None:
    assert pipeline.diarize(np.zeros(32_000, np.float32), []) == []
    assert pipeline.diarize(np.zeros(32_000, np.float32), [Segment(0.0, 2.0)]) == []
    turns = pipeline.diarize(cut(call, 11.0, 11.5), [Segment(0.0, 0.5)])
    assert all(0.0 <= t.start_s < t.end_s <= 0.5 for t in turns)


@pytest.mark.full
def test_all_its_files_are_named_with_their_hashes(folder: Path) -> None:
    settings = SpeechSettings(diarizer={"use": "pyannote", "pipeline": str(folder)})
    found = settings.provenance()
    files = ("config.yaml", "embedding/pytorch_model.bin", "segmentation/pytorch_model.bin")
    assert {n for n in found if n.startswith("pipeline/")} == {f"pipeline/{n}" for n in files}
    assert found["pipeline/config.yaml"] == weights.sha256(str(folder / "config.yaml"))
    assert found["diarizer"] == "pyannote.audio+mine" and SEGMENTATION_WEIGHT not in found


@pytest.mark.full
def test_a_damaged_model_is_refused_in_a_sentence(folder: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / "segmentation" / "pytorch_model.bin").write_bytes(b"no checkpoint")
    with pytest.raises(WeightsNotFound, match="pyannote cannot load the pipeline of"):
        PyannoteDiarizer(pipeline=str(broken))
