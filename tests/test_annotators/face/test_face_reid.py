"""Intel's face embedder: conversion gives the registered bytes, alignment undoes a camera's place, people differ."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
from footage import every_nth
from hypothesis import given, settings
from hypothesis import strategies as st
from speech_media import need

from annotators.face.boxes import crop_box, cut_square
from annotators.face.face_reid import _TEMPLATE, WEIGHT, FaceReid, similarity
from annotators.face.faces import FaceDetector
from annotators.face.landmarker import CROP_SIZE_PX, FaceLandmarker
from annotators.face.mesh import five_points, to_frame
from annotators.face.portrait_embedder import ReidPortraits
from annotators.models import weights, weights_fetch
from annotators.models.openvino_onnx import to_onnx
from annotators.models.weights_fetch import Downloads, FetchError
from annotators.models.weights_registry import OpenVino
from annotators.protocols import Box

# ------------------------------------------------------------------ conversion


def _layer(number: int, kind: str, data: str, channels: int = 0, size: int = 0) -> str:
    dims = "".join(f"<dim>{d}</dim>" for d in (1, channels, size, size)) if channels else ""
    return f'<layer id="{number}" type="{kind}"><data {data}/><output><port id="0">{dims}</port></output></layer>'


def _net(kind: str = "Sigmoid") -> tuple[bytes, bytes, np.ndarray, np.ndarray]:
    """A two-layer network: grouped convolution with stride, slopes a channel, mean over the picture, then `kind`."""
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(2, 1, 1, 3, 3)).astype(np.float16)
    slopes = np.array([0.1, 0.3], np.float16)
    blob = kernel.tobytes() + slopes.tobytes()
    how = 'strides="2, 2" pads_begin="1, 1" pads_end="1, 1" dilations="1, 1" auto_pad="explicit"'
    pool = 'kernel="4, 4" strides="4, 4" pads_begin="0, 0" pads_end="0, 0" exclude-pad="true" rounding_type="floor"'
    layers = [
        _layer(0, "Parameter", 'shape="1,2,8,8" element_type="f32"', 2, 8),
        _layer(1, "Const", f'element_type="f16" shape="2, 1, 1, 3, 3" offset="0" size="{kernel.nbytes}"'),
        _layer(2, "Convert", 'destination_type="f32"'),
        _layer(3, "GroupConvolution", how, 2, 4),
        _layer(4, "Const", f'element_type="f16" shape="2" offset="{kernel.nbytes}" size="{slopes.nbytes}"'),
        _layer(5, "Convert", 'destination_type="f32"'),
        _layer(6, "PReLU", "", 2, 4),
        _layer(7, "AvgPool", pool, 2, 1),
        _layer(8, kind, "", 2, 1),
        _layer(9, "Result", ""),
    ]
    edges = [(0, 3, 0), (1, 2, 0), (2, 3, 1), (3, 6, 0), (4, 5, 0), (5, 6, 1), (6, 7, 0), (7, 8, 0), (8, 9, 0)]
    wires = "".join(f'<edge from-layer="{a}" from-port="0" to-layer="{b}" to-port="{p}"/>' for a, b, p in edges)
    xml = f'<net name="t"><layers>{"".join(layers)}</layers><edges>{wires}</edges></net>'.encode()
    return xml, blob, kernel.astype(np.float32), slopes.astype(np.float32)


def test_a_converted_network_computes_the_same(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    xml, blob, kernel, slopes = _net()
    session = onnxruntime.InferenceSession(to_onnx(xml, blob, "in", "out"), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).normal(size=(3, 2, 8, 8)).astype(np.float32)
    (got,) = session.run(["out"], {"in": x})
    f = torch.nn.functional
    y = f.conv2d(torch.from_numpy(x), torch.from_numpy(kernel.reshape(2, 1, 3, 3)), stride=2, padding=1, groups=2)
    expected = torch.sigmoid(f.avg_pool2d(f.prelu(y, torch.from_numpy(slopes)), 4)).numpy()
    np.testing.assert_allclose(got, expected, atol=1e-6)
    assert to_onnx(xml, blob, "in", "out") == to_onnx(xml, blob, "in", "out")


def test_what_the_converter_does_not_know_is_refused() -> None:
    xml, blob, _, _ = _net("Softmax")
    with pytest.raises(ValueError, match="layer 8: the operation Softmax"):
        to_onnx(xml, blob, "in", "out")
    xml, blob, _, _ = _net()
    with pytest.raises(ValueError, match="end too early"):
        to_onnx(xml, blob[:10], "in", "out")
    with pytest.raises(ValueError, match="explicit padding"):
        to_onnx(xml.replace(b'"explicit"', b'"same_upper"'), blob, "in", "out")


def test_the_published_network_becomes_the_registered_file() -> None:
    """The files that the registry's place delivers give, byte for byte, the file whose hash it states."""
    place = weights.registry()[WEIGHT].files[0].places[0]
    assert isinstance(place, OpenVino)
    name = place.stem.rsplit("/", 1)[1]
    found = [p for root in weights.model_directories() for p in sorted(root.glob(f"**/{name}.xml"))]
    if not found:
        pytest.skip("no OpenVINO files in OPENLPM_MODELS")
    xml, blob = found[0].read_bytes(), found[0].with_suffix(".bin").read_bytes()
    assert hashlib.sha256(xml).hexdigest() == place.xml_sha256
    assert hashlib.sha256(blob).hexdigest() == place.bin_sha256
    converted = to_onnx(xml, blob, place.input, place.output)
    assert hashlib.sha256(converted).hexdigest() == weights.sha256(WEIGHT)


def test_both_files_are_checked_before_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    xml, blob, _, _ = _net()
    files = {"https://models.example/net.xml": xml, "https://models.example/net.bin": blob}
    monkeypatch.setattr(weights_fetch, "_copy_url", lambda url, out, limit: out.write(files[url]))
    digests = [hashlib.sha256(data).hexdigest() for data in (xml, blob)]
    target = tmp_path / "net.onnx"
    with Downloads() as downloads:
        downloads.write(OpenVino("https://models.example/net", *digests, "in", "out"), target, 10**6)
        assert target.read_bytes() == to_onnx(xml, blob, "in", "out")
        with pytest.raises(FetchError, match=r"net\.bin has SHA-256"):
            downloads.write(OpenVino("https://models.example/net", digests[0], "0" * 64, "in", "out"), target, 10**6)


# ------------------------------------------------------------------ alignment


@settings(deadline=None)
@given(st.floats(0.2, 5), st.floats(-3.1, 3.1), st.floats(-300, 300), st.floats(-300, 300))
def test_alignment_undoes_turn_scale_and_shift(scale: float, angle: float, dx: float, dy: float) -> None:
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    place = similarity(_TEMPLATE @ turn.T + [dx, dy], _TEMPLATE)
    back = (_TEMPLATE @ turn.T + [dx, dy]) @ place[:, :2].T + place[:, 2]
    np.testing.assert_allclose(back, _TEMPLATE, atol=1e-6)


def test_points_that_are_no_face_are_refused() -> None:
    with pytest.raises(ValueError, match="one place"):
        similarity(np.zeros((5, 2)), _TEMPLATE)
    for bad in (np.full((5, 2), np.nan), np.zeros((4, 2))):
        with pytest.raises(ValueError, match="finite points"):
            similarity(bad, _TEMPLATE)


# ------------------------------------------------------------------ the network


@pytest.fixture(scope="module")
def embedder() -> ReidPortraits:
    need(WEIGHT)
    return ReidPortraits()


def test_one_person_is_near_and_others_are_far(media: Path, embedder: ReidPortraits) -> None:
    need(*FaceDetector.weights, *FaceLandmarker.weights)
    people: list[list[np.ndarray]] = []
    with FaceDetector() as detector, FaceLandmarker() as landmarker:
        for clip in ("talk_woman_garden", "talk_woman_studio", "listen_woman_red"):
            people.append([])
            for frame in every_nth(media / f"{clip}.mp4", 40, 2):
                face = detector.detect(frame)[0]
                square = crop_box(face)
                mesh = landmarker.landmarks(cut_square(frame, square, CROP_SIZE_PX))
                assert mesh is not None
                five = five_points(to_frame(mesh.points, square, CROP_SIZE_PX))
                people[-1].append(embedder.embed(frame, five, face))
    for i, a in enumerate(people):
        for j, b in enumerate(people):
            gaps = [float(np.linalg.norm(x - y)) for x in a for y in b]
            assert max(gaps) < 0.9 if i == j else min(gaps) > 1.05


def test_vectors_have_length_one_and_do_not_depend_on_the_pictures_place(embedder: ReidPortraits) -> None:
    rng = np.random.default_rng(0)
    picture = cv2.GaussianBlur(rng.integers(0, 255, (300, 300, 3)).astype(np.uint8), (0, 0), 6)
    five = (_TEMPLATE + 60).astype(np.float32)
    vector = embedder.embed(picture, five, Box(80.0, 80.0, 100.0, 110.0))
    assert vector.shape == (256,) and vector.dtype == np.float32
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-6)
    assert np.array_equal(vector, embedder.embed(picture, five, Box(80.0, 80.0, 100.0, 110.0)))
    shifted = np.roll(picture, (17, 29), axis=(0, 1))
    again = embedder.embed(shifted, five + np.float32([29, 17]), Box(0.0, 0.0, 1.0, 1.0))
    np.testing.assert_allclose(again, vector, atol=1e-5)
    unaligned = embedder.embed(picture, None, Box(80.0, 80.0, 100.0, 110.0))
    assert np.linalg.norm(unaligned) == pytest.approx(1.0, abs=1e-6)


def test_only_chips_are_embedded(embedder: ReidPortraits) -> None:
    network = FaceReid()
    with pytest.raises(ValueError, match="128"):
        network.embed(np.zeros((112, 112, 3), np.uint8))


def test_without_its_weights_dlib_stands_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from annotators.face.dlib_embedder import FaceEmbedder
    from curation.engine.workflow import resolve
    from stages.references.embedding import EmbeddingSettings
    from workflows import catalog
    from workflows.stand_ins import sentence, stand_ins

    pipeline = resolve(catalog.workflow("conversation"))
    if weights.find(WEIGHT) is not None:
        assert WEIGHT in EmbeddingSettings().provenance()
        assert WEIGHT not in stand_ins(pipeline)
    monkeypatch.setenv("OPENLPM_CACHE", str(tmp_path))
    directories = os.environ.get("OPENLPM_MODELS", "").split(os.pathsep)
    monkeypatch.setenv("OPENLPM_MODELS", os.pathsep.join(d for d in directories if not (Path(d) / WEIGHT).exists()))
    assert EmbeddingSettings().provenance()["backend"] == FaceEmbedder.name
    assert stand_ins(pipeline)[WEIGHT] == FaceEmbedder.name
    assert f"lpm models fetch {WEIGHT}" in sentence(WEIGHT, FaceEmbedder.name)
