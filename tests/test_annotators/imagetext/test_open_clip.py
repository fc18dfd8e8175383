"""OpenClip on a small real checkpoint made here, and what is said where something is missing."""

from __future__ import annotations

import json
import re
import shutil
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from clip_models import CONFIG, DIMENSION, write_model

from annotators.imagetext.open_clip import OpenClip, model_files
from annotators.models import weights
from annotators.models.weights import WeightsMismatch, WeightsNotFound
from annotators.optional_parts import PartNotInstalledError
from annotators.protocols import Image
from schemas.settings.use import UseError
from stages.image_text.clip_vectors import ClipVectorsSettings

RNG = np.random.default_rng(3)
PICTURES: list[Image] = [
    RNG.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((32, 32), (1, 1), (7, 301), (90, 5))
]
GREY: Image = np.repeat(RNG.integers(0, 256, (20, 30, 1), dtype=np.uint8), 3, axis=2)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("clip") / "tiny")


@pytest.fixture(scope="module")
def embedder(model: Path) -> OpenClip:
    return OpenClip(str(model), batch=2)


@pytest.mark.full
def test_vectors_are_of_length_one_whatever_is_shown_or_said(embedder: OpenClip) -> None:
    for vectors, n in (
        (embedder.pictures([*PICTURES, GREY]), 5),
        (embedder.texts(["a woman laughs", "", "grün 笑 🙂", "word " * 500]), 4),
        (embedder.pictures([]), 0),
        (embedder.texts([]), 0),
    ):
        assert vectors.shape == (n, DIMENSION) == (n, embedder.dimension) and vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


@pytest.mark.full
def test_one_at_a_time_or_many_at_once_is_the_same(embedder: OpenClip, model: Path) -> None:
    together, texts = OpenClip(str(model), batch=64), ["red", "a blue dog", "listening"]
    alone = np.concatenate([embedder.pictures([p]) for p in PICTURES])
    np.testing.assert_allclose(together.pictures(PICTURES), alone, atol=1e-5)
    np.testing.assert_allclose(together.texts(texts), np.concatenate([embedder.texts([x]) for x in texts]), atol=1e-5)
    assert (embedder.pictures(PICTURES) == embedder.pictures(PICTURES)).all()
    assert not np.allclose(alone[0], alone[2], atol=1e-3), "other pictures, other vectors"


@pytest.mark.full
@pytest.mark.parametrize("wrong", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_no_picture_is_refused(embedder: OpenClip, wrong: Image) -> None:
    with pytest.raises(ValueError, match="a picture is RGB, uint8"):
        embedder.pictures([wrong])


@pytest.mark.full
def test_a_model_is_told_by_its_contents_and_not_by_its_place(model: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(model, tmp_path / "moved"))
    other = write_model(tmp_path / "other", seed=1)
    names = [OpenClip.made_of(str(place)).name for place in (model, moved, other)]
    assert names[0] == names[1] != names[2]
    assert OpenClip(str(other)).name == names[2]
    part = ClipVectorsSettings.model_validate({"embedder": {"use": "open_clip", "model": str(model)}}).embedder
    provenance = part.provenance("embedder")
    file = "open_clip_model.safetensors"
    assert provenance["embedder"] == names[0] and provenance[file] == weights.sha256(str(model / file))
    assert "open_clip_torch" in provenance and str(model) not in json.dumps(provenance)


@pytest.mark.full
def test_an_architecture_goes_with_a_checkpoint_file(tmp_path: Path) -> None:
    import open_clip
    import torch

    torch.manual_seed(0)
    network = open_clip.create_model("RN50", load_weights=False)
    file = tmp_path / "rn50.pt"
    torch.save({"state_dict": network.state_dict()}, file)
    vectors = OpenClip("RN50", str(file)).texts(["a", "b"])
    assert vectors.shape == (2, 1024)
    with pytest.raises(WeightsMismatch, match=r"is not what ViT-B-32 needs \(Error\(s\) in loading state_dict"):
        OpenClip("ViT-B-32", str(file))
    with pytest.raises(WeightsNotFound, match="open_clip has no architecture 'Nothing-B-32'"):
        OpenClip("Nothing-B-32", str(file))
    with pytest.raises(WeightsNotFound, match="the text side of xlm-roberta-base-ViT-B-32 lies on a hub"):
        OpenClip("xlm-roberta-base-ViT-B-32", str(file))


@pytest.mark.full
def test_wrong_files_are_named_in_one_sentence(model: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(model, tmp_path / "broken"))
    (broken / "open_clip_model.safetensors").write_bytes(b"no weights at all")
    wide = deepcopy(CONFIG)
    wide["model_cfg"]["embed_dim"] = 2 * DIMENSION
    grown = Path(shutil.copytree(model, tmp_path / "grown"))
    (grown / "open_clip_config.json").write_text(json.dumps(wide))
    for folder in (broken, grown):
        with pytest.raises(WeightsMismatch, match=f"{re.escape(str(folder))}.* is not what .* needs") as caught:
            OpenClip(str(folder))
        assert "\n" not in str(caught.value)


@pytest.mark.full
def test_a_device_that_is_not_here_is_refused(model: Path) -> None:
    import torch

    if torch.cuda.is_available():
        on_gpu = OpenClip(str(model), device="cuda").pictures(PICTURES)
        np.testing.assert_allclose(on_gpu, OpenClip(str(model)).pictures(PICTURES), atol=1e-3)
    else:
        with pytest.raises(PartNotInstalledError, match="torch finds no CUDA device here: choose device=cpu"):
            OpenClip(str(model), device="cuda")


def _folder(path: Path, config: object = CONFIG, *files: str) -> str:
    path.mkdir()
    (path / "open_clip_config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    for name in files:
        (path / name).write_bytes(b"x")
    return str(path)


def test_a_models_files_are_found_without_the_library(tmp_path: Path) -> None:
    both = _folder(tmp_path / "both", CONFIG, "open_clip_pytorch_model.bin", "open_clip_model.safetensors", "a.pt")
    assert model_files(both, None).checkpoint.name == "open_clip_model.safetensors"
    assert model_files(f"local-dir:{both}", None) == model_files(both, None)
    assert model_files(_folder(tmp_path / "own", CONFIG, "mine.bin"), None).checkpoint.name == "mine.bin"


def test_what_is_missing_or_would_be_downloaded_is_said(tmp_path: Path) -> None:
    hub_text = deepcopy(CONFIG)
    hub_text["model_cfg"]["text_cfg"] = {"hf_model_name": "xlm-roberta-base"}
    hub_words = deepcopy(CONFIG)
    hub_words["model_cfg"]["text_cfg"] = {"hf_tokenizer_name": "t5-base"}
    (tmp_path / "empty").mkdir()
    cases = {
        "hf-hub:laion/CLIP": "hf-hub:laion/CLIP would be downloaded",
        str(tmp_path / "absent"): "no model file",
        str(tmp_path / "empty"): "is no directory with open_clip_config.json",
        _folder(tmp_path / "bare"): "holds no weights",
        _folder(
            tmp_path / "text", hub_text, "m.bin"
        ): "takes its text tower's architecture, 'xlm-roberta-base', from a",
        _folder(tmp_path / "words", hub_words, "m.bin"): "lacks the files of its tokenizer",
        _folder(tmp_path / "odd", "[1]", "m.bin"): "is not open_clip's configuration of a model",
        _folder(tmp_path / "bad", "{", "m.bin"): "is not open_clip's configuration of a model",
    }
    for model, said in cases.items():
        with pytest.raises(WeightsNotFound, match=re.escape(said)):
            model_files(model, None)
    with pytest.raises(WeightsNotFound, match=r"no model file 'absent\.pt'"):
        model_files("ViT-B-32", "absent.pt")


def test_without_the_library_the_choice_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    with pytest.raises(PartNotInstalledError, match="needs open_clip_torch, which is not part of the small set"):
        OpenClip.made_of("anything")


@pytest.mark.parametrize("settings", [{"device": "tpu"}, {"batch": 0}, {"size": 3}])
def test_wrong_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises((UseError, ValueError), match="OpenClip"):
        ClipVectorsSettings.model_validate({"embedder": {"use": "open_clip", "model": "x", **settings}})
