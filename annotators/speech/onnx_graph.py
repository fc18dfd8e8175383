"""An ONNX file written node by node, for networks that onnxruntime computes faster than torch does. Pure.

The bytes are written directly (a message of protocol buffers is a row of tagged fields), so that no converter has to be
installed, and equal networks always give equal bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_IR_VERSION, _OPSET = 8, 13
_FLOAT, _INT64 = 1, 7  # ONNX's codes of a tensor's type
_INT, _INTS = 2, 7  # and of an attribute's
_Axis = int | str  # a length, or the name of one that is free


class OnnxGraph:
    """Nodes and constants in the order in which they are added; values go by their names."""

    def __init__(self) -> None:
        self._nodes: list[bytes] = []
        self._constants: list[bytes] = []
        self._inputs: list[bytes] = []

    def input(self, name: str, shape: Sequence[_Axis]) -> str:
        """Add an input of float32 and return its name."""
        self._inputs.append(_end(name, shape))
        return name

    def constant(self, value: npt.NDArray[Any]) -> str:
        """Add a constant, float32 or int64, and return its name."""
        kind, element = (_INT64, "<i8") if value.dtype.kind == "i" else (_FLOAT, "<f4")
        name = f"c{len(self._constants)}"
        dims = b"".join(_number(1, n) for n in value.shape)
        raw = np.ascontiguousarray(value, element).tobytes()
        self._constants.append(dims + _number(2, kind) + _field(8, name.encode()) + _field(9, raw))
        return name

    def node(self, operation: str, *inputs: str, **attributes: int | Sequence[int]) -> str:
        """Add an operation on named values and return the name of its one result."""
        name = f"n{len(self._nodes)}"
        fields = [*(_field(1, i.encode()) for i in inputs), _field(2, name.encode()), _field(4, operation.encode())]
        fields += [_field(5, _attribute(key, value)) for key, value in attributes.items()]
        self._nodes.append(b"".join(fields))
        return name

    def file(self, output: str, shape: Sequence[_Axis]) -> bytes:
        """Return the file of the graph with one output."""
        graph = [*(_field(1, n) for n in self._nodes), _field(2, b"g"), *(_field(5, c) for c in self._constants)]
        graph += [*(_field(11, i) for i in self._inputs), _field(12, _end(output, shape))]
        opset = _field(1, b"") + _number(2, _OPSET)
        return _number(1, _IR_VERSION) + _field(7, b"".join(graph)) + _field(8, opset)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _field(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _attribute(name: str, value: int | Sequence[int]) -> bytes:
    if isinstance(value, int):
        return _field(1, name.encode()) + _number(3, value) + _number(20, _INT)
    return _field(1, name.encode()) + b"".join(_number(8, v) for v in value) + _number(20, _INTS)


def _end(name: str, shape: Sequence[_Axis]) -> bytes:
    axes = [_field(1, _field(2, n.encode()) if isinstance(n, str) else _number(1, n)) for n in shape]
    tensor = _number(1, _FLOAT) + _field(2, b"".join(axes))
    return _field(1, name.encode()) + _field(2, _field(1, tensor))
