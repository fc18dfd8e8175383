"""The bytes of an ONNX file, written directly: a message of protocol buffers is a row of tagged fields. Pure.

So no converter has to be installed, and equal networks always give equal bytes, which can be told by their SHA-256.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_IR_VERSION, _OPSET = 8, 13
_FLOAT, _INT64 = 1, 7  # ONNX's codes of a tensor's type
_INT, _INTS = 2, 7  # and of an attribute's

Axis = int | str
"""A length, or the name of one that is free."""
Attributes = Mapping[str, int | Sequence[int]]


def node(operation: str, inputs: Iterable[str], output: str, attributes: Attributes) -> bytes:
    """Return an operation on named values with one result, its attributes in the order given."""
    fields = [*(_field(1, i.encode()) for i in inputs), _field(2, output.encode()), _field(4, operation.encode())]
    return b"".join([*fields, *(_field(5, _attribute(key, value)) for key, value in attributes.items())])


def constant(name: str, value: npt.NDArray[Any]) -> bytes:
    """Return a constant by its name: integers as int64, all else as float32."""
    kind, element = (_INT64, "<i8") if value.dtype.kind == "i" else (_FLOAT, "<f4")
    dims = b"".join(_number(1, n) for n in value.shape)
    raw = np.ascontiguousarray(value, element).tobytes()
    return dims + _number(2, kind) + _field(8, name.encode()) + _field(9, raw)


def end(name: str, shape: Sequence[Axis]) -> bytes:
    """Return an input or output of float32 by its name."""
    axes = [_field(1, _field(2, n.encode()) if isinstance(n, str) else _number(1, n)) for n in shape]
    tensor = _number(1, _FLOAT) + _field(2, b"".join(axes))
    return _field(1, name.encode()) + _field(2, _field(1, tensor))


def file(
    name: str, nodes: Iterable[bytes], constants: Iterable[bytes], inputs: Iterable[bytes], output: bytes
) -> bytes:
    """Return the file of a graph of that name."""
    graph = [*(_field(1, n) for n in nodes), _field(2, name.encode()), *(_field(5, c) for c in constants)]
    graph += [*(_field(11, i) for i in inputs), _field(12, output)]
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
