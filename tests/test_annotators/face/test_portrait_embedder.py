"""Portraits through an ArcFace network: alignment, scale, errors, and that its bytes are part of the fingerprint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from face_networks import SIZE, arcface, scrfd

from annotators.face.dlib_embedder import SAME_PERSON_DISTANCE
from annotators.face.portrait_embedder import ARCFACE_SAME_PERSON_COSINE, ArcFacePortraits, DlibPortraits, embed_each
from annotators.models import weights
from annotators.models.weights import WeightsNotFound
from annotators.optional_parts import PartNotInstalledError
from annotators.protocols import Box
from stages.references.embedding import Embedding, EmbeddingSettings


def face(shift: float = 0.0, angle_deg: float = 0.0, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Draw five blobs of different colours where a face's points lie; -> (picture, points)."""
    template = np.array([[38.3, 51.7], [73.5, 51.5], [56.0, 71.7], [41.5, 92.4], [70.7, 92.2]]) - 56
    a = np.deg2rad(angle_deg)
    turned = scale * template @ np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])
    points = (turned + 128 + shift).astype(np.float32)
    picture = np.full((256, 256, 3), 90, np.uint8)
    yy, xx = np.mgrid[:256, :256]
    for (x, y), colour in zip(points, np.eye(3, dtype=int)[[0, 1, 2, 0, 1]] * 160 + 60, strict=True):
        picture[np.hypot(xx - x, yy - y) < 8 * scale] = colour
    return picture, points


BOX = Box(70.0, 70.0, 110.0, 120.0)


def test_faces_are_turned_and_scaled_to_one_place(tmp_path: Path) -> None:
    embedder = ArcFacePortraits(str(arcface(tmp_path / "tiny.onnx")))
    upright = embedder.chip(*face(), BOX)
    assert upright.shape == (112, 112, 3) and tuple(upright[52, 38]) == (220, 60, 60)  # RGB: the image-left eye is red
    for change in ({"shift": 9.0}, {"angle_deg": 25.0}, {"scale": 1.2}):
        moved = embedder.chip(*face(**change), BOX)
        assert np.abs(moved.astype(int) - upright).mean() < 6, change
        near = np.linalg.norm(embedder.embed(*face(**change), BOX) - embedder.embed(*face(), BOX))
        assert near < 0.3 * SAME_PERSON_DISTANCE


def test_vectors_have_the_length_that_makes_the_threshold_fit(tmp_path: Path) -> None:
    embedder = ArcFacePortraits(str(arcface(tmp_path / "tiny.onnx")))
    vector = embedder.embed(*face(), BOX)
    assert vector.shape == (SIZE,) and vector.dtype == np.float32
    length = float(np.linalg.norm(vector))
    assert length * np.sqrt(2 - 2 * ARCFACE_SAME_PERSON_COSINE) == pytest.approx(SAME_PERSON_DISTANCE, rel=1e-5)
    assert np.array_equal(vector, embedder.embed(*face(), BOX))
    unaligned = embedder.embed(face()[0], None, BOX)
    assert np.linalg.norm(unaligned) == pytest.approx(length, rel=1e-5)


def test_the_file_is_found_named_and_fingerprinted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    arcface(tmp_path / "models" / "mine.onnx")
    monkeypatch.setenv("OPENLPM_MODELS", str(tmp_path / "models"))
    settings = EmbeddingSettings(backend={"use": "arcface", "model": "mine.onnx"})
    identity = settings.provenance()
    assert identity["backend"] == "insightface-arcface:mine.onnx" and len(identity["mine.onnx"]) == 64
    assert Embedding(settings)._embedder.name == identity["backend"]
    other = arcface(tmp_path / "mine.onnx", seed=1)
    assert EmbeddingSettings(backend={"use": "arcface", "model": str(other)}).provenance() != identity
    dlib = {n: weights.sha256(n) for n in DlibPortraits.weights}
    assert EmbeddingSettings().provenance().items() >= dlib.items()
    with pytest.raises(WeightsNotFound, match=r"no model file 'none.onnx'.*OPENLPM_MODELS"):
        Embedding(EmbeddingSettings(backend={"use": "arcface", "model": "none.onnx"}))


@pytest.mark.parametrize("batch", ["n", 1])
def test_a_batch_gives_what_single_calls_give_in_the_same_order(tmp_path: Path, batch: str | int) -> None:
    embedder = ArcFacePortraits(str(arcface(tmp_path / "tiny.onnx", batch=batch)))
    shown = [(*face(shift=float(i % 5), angle_deg=3.0 * i), BOX) for i in range(35)]
    together = embed_each(embedder, shown)
    assert len(together) == 35 and embed_each(embedder, []) == []
    for vector, portrait in zip(together, shown, strict=True):
        assert vector.shape == (SIZE,) and np.allclose(vector, embedder.embed(*portrait), atol=1e-5)


def test_a_batch_that_does_not_fit_is_halved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = ArcFacePortraits(str(arcface(tmp_path / "tiny.onnx")))
    shown = [(*face(shift=float(i)), BOX) for i in range(5)]
    network, sizes = embedder._network.get_feat, []

    def small_gpu(chips: list[np.ndarray]) -> np.ndarray:
        if len(chips) > 2:
            raise onnxruntime.capi.onnxruntime_pybind11_state.RuntimeException(
                "Failed to allocate memory for requested buffer of size 8388608"
            )
        sizes.append(len(chips))
        return network(chips)

    whole = embedder.embed_many(shown)
    monkeypatch.setattr(embedder._network, "get_feat", small_gpu)
    assert np.allclose(embedder.embed_many(shown), whole, atol=1e-5) and sizes == [2, 2, 1]


def test_a_pack_is_a_directory_and_the_network_is_known_by_its_shape(tmp_path: Path) -> None:
    pack = tmp_path / "buffalo_x"
    pack.mkdir()
    with pytest.raises(WeightsNotFound, match=r"buffalo_x holds no recognition network \(no .onnx file\)"):
        ArcFacePortraits(str(pack))
    scrfd(pack / "a.onnx")
    arcface(pack / "landmarks.onnx", side=192)
    (pack / "broken.onnx").write_bytes(b"no network at all")
    with pytest.raises(WeightsNotFound, match=r"no recognition network \(a.onnx, broken.onnx, landmarks.onnx\)"):
        ArcFacePortraits(str(pack))
    arcface(pack / "b.onnx")
    assert ArcFacePortraits(str(pack)).name == "insightface-arcface:b.onnx"
    arcface(pack / "c.onnx", seed=1)
    with pytest.raises(WeightsNotFound, match=r"2 recognition networks \(b.onnx, c.onnx\): name the file"):
        ArcFacePortraits(str(pack))
    assert ArcFacePortraits(str(pack / "c.onnx")).name == "insightface-arcface:c.onnx"
    with pytest.raises(WeightsNotFound, match=r"a.onnx is no recognition network by its inputs and outputs"):
        ArcFacePortraits(str(pack / "a.onnx"))


def test_cuda_is_refused_where_there_is_none(tmp_path: Path) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(PartNotInstalledError, match=r"device=cuda needs onnxruntime-gpu.*or choose device=cpu"):
        ArcFacePortraits(str(arcface(tmp_path / "tiny.onnx")), device="cuda")
