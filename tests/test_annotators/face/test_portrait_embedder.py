"""Portraits through an ArcFace network: alignment, scale, errors, and that its bytes are part of the fingerprint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from annotators.face.dlib_embedder import SAME_PERSON_DISTANCE
from annotators.face.portrait_embedder import ARCFACE_SAME_PERSON_COSINE, ArcFacePortraits, DlibPortraits
from annotators.models import weights
from annotators.models.weights import WeightsNotFound
from annotators.protocols import Box
from stages.references.embedding import Embedding, EmbeddingSettings

SIZE = 16


def network(path: Path, seed: int = 0) -> Path:
    """Write a real, tiny recognition model: the mean colours of 7 x 7 places of 112 px, projected on 16 numbers."""
    w = np.random.default_rng(seed).standard_normal((3 * 49, SIZE)).astype(np.float32)
    nodes = [
        helper.make_node("AveragePool", ["x"], ["p"], kernel_shape=[16, 16], strides=[16, 16]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 112, 112])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", SIZE])
    graph = helper.make_graph(nodes, "tiny", [x], [y], [numpy_helper.from_array(w, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.save(model, str(path))
    return path


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
    embedder = ArcFacePortraits(str(network(tmp_path / "tiny.onnx")))
    upright = embedder.chip(*face(), BOX)
    assert upright.shape == (112, 112, 3) and tuple(upright[52, 38]) == (220, 60, 60)  # RGB: the image-left eye is red
    for change in ({"shift": 9.0}, {"angle_deg": 25.0}, {"scale": 1.2}):
        moved = embedder.chip(*face(**change), BOX)
        assert np.abs(moved.astype(int) - upright).mean() < 6, change
        near = np.linalg.norm(embedder.embed(*face(**change), BOX) - embedder.embed(*face(), BOX))
        assert near < 0.3 * SAME_PERSON_DISTANCE


def test_vectors_have_the_length_that_makes_the_threshold_fit(tmp_path: Path) -> None:
    embedder = ArcFacePortraits(str(network(tmp_path / "tiny.onnx")))
    vector = embedder.embed(*face(), BOX)
    assert vector.shape == (SIZE,) and vector.dtype == np.float32
    length = float(np.linalg.norm(vector))
    assert length * np.sqrt(2 - 2 * ARCFACE_SAME_PERSON_COSINE) == pytest.approx(SAME_PERSON_DISTANCE, rel=1e-5)
    assert np.array_equal(vector, embedder.embed(*face(), BOX))
    unaligned = embedder.embed(face()[0], None, BOX)
    assert np.linalg.norm(unaligned) == pytest.approx(length, rel=1e-5)


def test_the_file_is_found_named_and_fingerprinted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    network(tmp_path / "models" / "mine.onnx")
    monkeypatch.setenv("OPENLPM_MODELS", str(tmp_path / "models"))
    settings = EmbeddingSettings(backend={"use": "arcface", "model": "mine.onnx"})
    identity = settings.provenance()
    assert identity["backend"] == "insightface-arcface:mine.onnx" and len(identity["mine.onnx"]) == 64
    assert Embedding(settings)._embedder.name == identity["backend"]
    other = network(tmp_path / "mine.onnx", seed=1)
    assert EmbeddingSettings(backend={"use": "arcface", "model": str(other)}).provenance() != identity
    dlib = {n: weights.sha256(n) for n in DlibPortraits.weights}
    assert EmbeddingSettings().provenance().items() >= dlib.items()
    with pytest.raises(WeightsNotFound, match=r"no model file 'none.onnx'.*OPENLPM_MODELS"):
        Embedding(EmbeddingSettings(backend={"use": "arcface", "model": "none.onnx"}))
