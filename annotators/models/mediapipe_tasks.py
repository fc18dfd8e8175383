"""MediaPipe task bundles from the bare networks that its wheel ships: metadata added, then zipped without compression.

The tasks library wants to read in a model's own metadata how pixels become its numbers, and it wants detector and
landmark model in one archive; the networks of the older solutions have neither. Both are added here in memory, with
the library's own flatbuffer schemas. The same networks always give the same bytes. About 50 ms a bundle.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np

from annotators.models.weights import resolve

_METADATA_NAME = b"TFLITE_METADATA"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold: no clock in the bytes


@dataclass(frozen=True, slots=True)
class Pixels:
    """How a network reads a picture: (value - mean) / deviation of each 8-bit value."""

    mean: float
    deviation: float


SIGNED, UNIT = Pixels(127.5, 127.5), Pixels(0.0, 255.0)
"""Values in [-1, 1], as the pose detector was trained on, and in [0, 1], as the others: MediaPipe's own graphs of the
older solutions say so (`image_to_tensor`, output range)."""


@dataclass(frozen=True, slots=True)
class Part:
    """One network of a bundle: its name there, the weight it is, and how it reads pixels."""

    member: str
    weight: str
    pixels: Pixels
    unread: int | None = None
    """number of an output that nobody reads, so that what only it needs is not computed; it is zeros then"""


POSE = (
    Part("pose_detector.tflite", "pose_detection.tflite", SIGNED),
    Part("pose_landmarks_detector.tflite", "pose_landmark_full.tflite", UNIT, unread=2),  # the person's mask
)
HANDS = (
    Part("hand_detector.tflite", "palm_detection_full.tflite", UNIT),
    Part("hand_landmarks_detector.tflite", "hand_landmark_full.tflite", UNIT),
)


def task_bundle(parts: tuple[Part, ...]) -> bytes:
    """Return a task bundle of weights of the registry. Raises WeightsNotFound."""
    return zipped({p.member: _member(p) for p in parts})


def _member(part: Part) -> bytes:
    network = resolve(part.weight).read_bytes()
    return with_metadata(network if part.unread is None else without_output(network, part.unread), part.pixels)


def zipped(members: Mapping[str, bytes]) -> bytes:
    """Return a stored zip archive of the members in their order; the tasks library maps them into memory."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)
    return out.getvalue()


def without_output(network: bytes, output: int) -> bytes:
    """Return a TFLite network whose output of this number is zeros, without the operators that only it needed.

    The other outputs are the same numbers. Raises ValueError for other bytes.
    """
    model = _read(network)
    graph = model.subgraphs[0]
    needed = {int(tensor) for number, tensor in enumerate(graph.outputs) if number != output}
    kept = []
    for operator in reversed(graph.operators):
        if needed.intersection(operator.outputs):
            kept.append(operator)
            needed.update(int(tensor) for tensor in operator.inputs)
    graph.operators = kept[::-1]
    unread = graph.tensors[graph.outputs[output]]
    unread.buffer = len(model.buffers)
    model.buffers.append(_buffer(np.zeros(unread.shape, np.float32).tobytes()))
    return _written(model, len(network))


def with_metadata(network: bytes, pixels: Pixels) -> bytes:
    """Return a TFLite network with a statement of how its one picture is read. Raises ValueError for other bytes."""
    from mediapipe.tasks.metadata import schema_py_generated as model_fb

    model = _read(network)
    entry: Any = model_fb.MetadataT()
    entry.name, entry.buffer = _METADATA_NAME, len(model.buffers)
    model.metadata = [m for m in model.metadata or () if m.name != _METADATA_NAME] + [entry]
    model.buffers.append(_buffer(_metadata(pixels, len(model.subgraphs[0].outputs))))
    return _written(model, len(network))


def _read(network: bytes) -> Any:
    from mediapipe.tasks.metadata import schema_py_generated as model_fb

    if network[4:8] != b"TFL3":
        raise ValueError("this is no TFLite network: the file identifier is missing")
    return model_fb.ModelT.InitFromObj(model_fb.Model.GetRootAsModel(network, 0))


def _buffer(data: bytes) -> Any:
    from mediapipe.tasks.metadata import schema_py_generated as model_fb

    buffer: Any = model_fb.BufferT()
    buffer.data = np.frombuffer(data, np.uint8)
    return buffer


def _written(model: Any, about: int) -> bytes:
    builder = flatbuffers.Builder(about + 4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _metadata(pixels: Pixels, n_outputs: int) -> bytes:
    from mediapipe.tasks.metadata import metadata_schema_py_generated as metadata_fb

    normal: Any = metadata_fb.NormalizationOptionsT()
    normal.mean, normal.std = [pixels.mean], [pixels.deviation]
    unit: Any = metadata_fb.ProcessUnitT()
    unit.optionsType, unit.options = metadata_fb.ProcessUnitOptions.NormalizationOptions, normal
    colours: Any = metadata_fb.ImagePropertiesT()
    colours.colorSpace = metadata_fb.ColorSpaceType.RGB
    content: Any = metadata_fb.ContentT()
    content.contentPropertiesType, content.contentProperties = metadata_fb.ContentProperties.ImageProperties, colours
    picture: Any = metadata_fb.TensorMetadataT()
    picture.name, picture.content, picture.processUnits = b"image", content, [unit]
    graph: Any = metadata_fb.SubGraphMetadataT()
    graph.inputTensorMetadata = [picture]
    graph.outputTensorMetadata = [metadata_fb.TensorMetadataT() for _ in range(n_outputs)]
    whole: Any = metadata_fb.ModelMetadataT()
    whole.subgraphMetadata = [graph]
    builder = flatbuffers.Builder(512)
    builder.Finish(whole.Pack(builder), b"M001")
    return bytes(builder.Output())
