"""An ONNX file put together node by node, for networks that onnxruntime computes faster than torch does. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from annotators.models import onnx_bytes
from annotators.models.onnx_bytes import Axis


class OnnxGraph:
    """Nodes and constants in the order in which they are added; values go by their names."""

    def __init__(self) -> None:
        self._nodes: list[bytes] = []
        self._constants: list[bytes] = []
        self._inputs: list[bytes] = []

    def input(self, name: str, shape: Sequence[Axis]) -> str:
        """Add an input of float32 and return its name."""
        self._inputs.append(onnx_bytes.end(name, shape))
        return name

    def constant(self, value: npt.NDArray[Any]) -> str:
        """Add a constant, float32 or int64, and return its name."""
        name = f"c{len(self._constants)}"
        self._constants.append(onnx_bytes.constant(name, value))
        return name

    def node(self, operation: str, *inputs: str, **attributes: int | Sequence[int]) -> str:
        """Add an operation on named values and return the name of its one result."""
        name = f"n{len(self._nodes)}"
        self._nodes.append(onnx_bytes.node(operation, inputs, name, attributes))
        return name

    def file(self, output: str, shape: Sequence[Axis]) -> bytes:
        """Return the file of the graph with one output."""
        return onnx_bytes.file("g", self._nodes, self._constants, self._inputs, onnx_bytes.end(output, shape))
