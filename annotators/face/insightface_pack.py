"""Packs of InsightFace's networks: which file of a directory finds faces, which tells them apart, and their licence.

A network is known by its inputs and outputs, as insightface knows it; names mean nothing. The whole file is read for
that, once a process.
"""

from __future__ import annotations

import importlib.metadata
from functools import cache
from pathlib import Path
from typing import Literal

from annotators.models import weights
from annotators.models.weights import WeightsNotFound
from annotators.optional_parts import PartNotInstalledError
from annotators.parts import Made

Task = Literal["detection", "recognition"]

RESEARCH_ONLY = "for research that is not commercial, as InsightFace's published networks are"
"""What a network counts as whose licence the settings do not say."""

_SCRFD_OUTPUTS = (6, 9, 10, 15)  # scores and boxes, with or without points, at three or five strides
_ARCFACE_LEAST_PX, _ARCFACE_STEP_PX, _LANDMARKS_PX = 112, 16, 192


def made_of_network(model: str, task: Task, kind: str) -> Made:
    """Name a back-end, the file it runs and insightface's version.

    Raises PartNotInstalledError without insightface; WeightsNotFound as `_network_file` does.
    """
    try:
        library = {"insightface": importlib.metadata.version("insightface")}
    except importlib.metadata.PackageNotFoundError as e:
        raise PartNotInstalledError(
            f"{model} is run by insightface, which is not installed: "
            "`pip install --no-deps insightface onnx scikit-image` (docs/models.md)"
        ) from e
    file = _network_file(model, task)
    return Made(f"{kind}:{file.name}", (str(file),), library, private=("model",), licence=RESEARCH_ONLY)


def _network_file(model: str, task: Task) -> Path:
    """Return the file of the network for a task: `model` itself, or the one such file of the directory it names.

    Args:
        model: path of an ONNX file or of a pack's directory, or its name in a directory of OPENLPM_MODELS.
        task: what the network is for.

    Raises:
        WeightsNotFound: there is no such file, it is another kind of network, or a directory holds none or several.
    """
    place = weights.locate(model, folders=True)
    if place.is_file():
        if _task(place) != task:
            raise WeightsNotFound(
                f"{place} is no {task} network by its inputs and outputs; name one, or a pack's folder"
            )
        return place
    files = sorted(place.glob("*.onnx"))
    found = [file for file in files if _task(file) == task]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(file.name for file in found)
        raise WeightsNotFound(f"{place} holds {len(found)} {task} networks ({names}): name the file that is meant")
    held = ", ".join(file.name for file in files) or "no .onnx file"
    raise WeightsNotFound(f"{place} holds no {task} network ({held}): name a pack's folder, or the network's file")


def _task(file: Path) -> Task | None:
    facts = file.stat()
    return _task_of(file, facts.st_size, facts.st_mtime_ns)


@cache
def _task_of(file: Path, size: int, mtime_ns: int) -> Task | None:
    """Say what a network is for; size and time are part of the memory's key, so that a changed file is read anew."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load(str(file), load_external_data=False).graph
    except DecodeError:
        return None
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [i for i in graph.input if i.name not in constants]
    if len(inputs) != 1 or len(inputs[0].type.tensor_type.shape.dim) != 4:
        return None
    if len(graph.output) in _SCRFD_OUTPUTS:
        return "detection"
    height, width = (int(d.dim_value) for d in inputs[0].type.tensor_type.shape.dim[2:])
    square = height == width >= _ARCFACE_LEAST_PX and width % _ARCFACE_STEP_PX == 0 and width != _LANDMARKS_PX
    return "recognition" if square and len(graph.output) == 1 else None
