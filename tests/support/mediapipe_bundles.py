"""MediaPipe's own tasks for bodies and hands, against which the bare networks are held.

The tasks library wants to read in a model's own metadata how pixels become its numbers, and it wants detector and
landmark model in one archive; the networks of the older solutions have neither. Both are added here in memory.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import flatbuffers
import numpy as np

from annotators.body import hand, pose
from annotators.models.mediapipe_runtime import Task, local_options, quiet_stderr, vision
from annotators.models.weights import resolve

Member = tuple[str, str, float, float]
"""Its name in a bundle, the weight it is, and mean and deviation by which it reads 8-bit values."""

_POSE: tuple[Member, ...] = (
    ("pose_detector.tflite", pose.DETECTOR, 127.5, 127.5),
    ("pose_landmarks_detector.tflite", pose.LANDMARKS, 0.0, 255.0),
)
_HANDS: tuple[Member, ...] = (
    ("hand_detector.tflite", hand.DETECTOR, 0.0, 255.0),
    ("hand_landmarks_detector.tflite", hand.LANDMARKS, 0.0, 255.0),
)


@contextmanager
def pose_task(at_most: int, tmp: Any) -> Iterator[Task]:
    """Open the task that finds up to `at_most` bodies; `tmp` is a folder for its bundle."""
    options = vision().PoseLandmarkerOptions(
        base_options=_options(_POSE, tmp / "pose.task"), num_poses=at_most,
        min_pose_detection_confidence=0.5, min_pose_presence_confidence=0.5,
    )  # fmt: skip
    yield from _opened(vision().PoseLandmarker, options)


@contextmanager
def hand_task(tmp: Any) -> Iterator[Task]:
    """Open the task that finds up to two hands; `tmp` is a folder for its bundle."""
    options = vision().HandLandmarkerOptions(
        base_options=_options(_HANDS, tmp / "hands.task"), num_hands=2,
        min_hand_detection_confidence=0.5, min_hand_presence_confidence=0.5,
    )  # fmt: skip
    yield from _opened(vision().HandLandmarker, options)


def _opened(kind: Any, options: Any) -> Iterator[Task]:
    with quiet_stderr():
        task = Task(kind.create_from_options(options))
        task.detect(np.zeros((256, 256, 3), np.uint8))
    yield task
    task.close()


def _options(members: Sequence[Member], path: Any) -> Any:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, weight, mean, deviation in members:
            archive.writestr(name, _with_metadata(resolve(weight).read_bytes(), mean, deviation))
    path.write_bytes(out.getvalue())
    return local_options(path)


def _with_metadata(network: bytes, mean: float, deviation: float) -> bytes:
    from ai_edge_litert import schema_py_generated as model_fb

    model: Any = model_fb.ModelT.InitFromObj(model_fb.Model.GetRootAsModel(network, 0))
    buffer: Any = model_fb.BufferT()
    buffer.data = np.frombuffer(_metadata(mean, deviation, len(model.subgraphs[0].outputs)), np.uint8)
    entry: Any = model_fb.MetadataT()
    entry.name, entry.buffer = b"TFLITE_METADATA", len(model.buffers)
    model.metadata = [m for m in model.metadata or () if m.name != entry.name] + [entry]
    model.buffers.append(buffer)
    return _packed(model, len(network) + 4096, b"TFL3")


def _metadata(mean: float, deviation: float, n_outputs: int) -> bytes:
    from mediapipe.tasks.metadata import metadata_schema_py_generated as metadata_fb

    normal: Any = metadata_fb.NormalizationOptionsT()
    normal.mean, normal.std = [mean], [deviation]
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
    return _packed(whole, 512, b"M001")


def _packed(table: Any, about: int, kind: bytes) -> bytes:
    builder = flatbuffers.Builder(about)
    builder.Finish(table.Pack(builder), kind)
    return bytes(builder.Output())
