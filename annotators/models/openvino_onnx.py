"""Turn an OpenVINO network (an .xml graph with a .bin of weights) into an ONNX file, for onnxruntime. Pure.

Knows the few operations of a convolutional network and refuses any other. One operation becomes one node, half
precision weights become float32, and the batch size becomes free. Equal files always give equal bytes: the result can
be told by its SHA-256. A million parameters take about 50 ms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from annotators.models import onnx_bytes

_ELEMENTS: dict[str, np.dtype[Any]] = {"f16": np.dtype("<f2"), "f32": np.dtype("<f4")}
_PLAIN = {"Add": "Add", "Multiply": "Mul", "PReLU": "PRelu", "Sigmoid": "Sigmoid"}
_CONVOLUTIONS = ("Convolution", "GroupConvolution")


@dataclass(frozen=True)
class _Layer:
    number: int
    kind: str
    data: Mapping[str, str]
    shape: tuple[int, ...]


def to_onnx(xml: bytes, weights: bytes, input_name: str, output_name: str) -> bytes:
    """Return the ONNX file of an OpenVINO network with one input and one output, named as asked for.

    Raises ValueError for an operation or an attribute that is not known here.
    """
    net = ElementTree.fromstring(xml)
    layers = {layer.number: layer for layer in map(_layer, net.iterfind("layers/layer"))}
    sources: dict[int, list[int]] = {}
    for edge in sorted(net.iterfind("edges/edge"), key=lambda e: int(e.attrib["to-port"])):
        sources.setdefault(int(edge.attrib["to-layer"]), []).append(int(edge.attrib["from-layer"]))
    (last,) = (sources[n][0] for n, layer in layers.items() if layer.kind == "Result")

    names: dict[int, str] = {}
    constants: dict[int, npt.NDArray[np.float32]] = {}
    nodes: list[bytes] = []
    initialisers: list[bytes] = []
    entry = b""
    for number, layer in layers.items():
        inputs = sources.get(number, [])
        if layer.kind == "Parameter":
            names[number] = input_name
            entry = onnx_bytes.end(input_name, ("n", *layer.shape[1:]))
        elif layer.kind == "Const":
            constants[number] = _constant(layer, weights)
        elif layer.kind == "Convert" and inputs[0] in constants:
            constants[number] = constants[inputs[0]]
        elif layer.kind != "Result":
            operands = []
            for place, source in enumerate(inputs):
                if source in constants:
                    name, value = _operand(layer, place, source, constants[source])
                    initialisers.append(onnx_bytes.constant(name, value))
                    operands.append(name)
                else:
                    operands.append(names[source])
            names[number] = output_name if number == last else f"n{number}"
            nodes.append(_node(layer, operands, names[number], [constants.get(i) for i in inputs]))
    return onnx_bytes.file(
        "ir", nodes, initialisers, [entry], onnx_bytes.end(output_name, ("n", *layers[last].shape[1:]))
    )


def _layer(element: ElementTree.Element) -> _Layer:
    data = element.find("data")
    dims = element.findall("output/port/dim")
    return _Layer(
        number=int(element.attrib["id"]),
        kind=element.attrib["type"],
        data={} if data is None else dict(data.attrib),
        shape=tuple(int(d.text or 0) for d in dims),
    )


def _constant(layer: _Layer, weights: bytes) -> npt.NDArray[np.float32]:
    kind = layer.data["element_type"]
    if kind not in _ELEMENTS:
        raise ValueError(f"layer {layer.number}: constants of type {kind} are not known")
    shape = tuple(_numbers(layer.data["shape"]))
    start, size = int(layer.data["offset"]), int(layer.data["size"])
    raw = weights[start : start + size]
    if len(raw) != size or size != _ELEMENTS[kind].itemsize * int(np.prod(shape)):
        raise ValueError(f"layer {layer.number}: the weights end too early, or are not of the shape {shape}")
    return np.asarray(np.frombuffer(raw, _ELEMENTS[kind]).reshape(shape), np.float32)


def _operand(
    layer: _Layer, place: int, source: int, value: npt.NDArray[np.float32]
) -> tuple[str, npt.NDArray[np.float32]]:
    """Return a constant's name and its value in the shape that ONNX wants it in."""
    kind = layer.kind
    if kind in _CONVOLUTIONS and place == 1:
        # OpenVINO keeps the groups as an axis of their own, before the outputs of each.
        grouped = kind == "GroupConvolution"
        return f"w{layer.number}", value.reshape(-1, *value.shape[2:]) if grouped else value
    if kind == "PReLU":
        # One slope a channel must broadcast over height and width.
        return f"s{layer.number}", value.reshape(-1, 1, 1) if value.size > 1 else value
    return f"c{source}", value


def _node(layer: _Layer, inputs: list[str], output: str, constants: list[npt.NDArray[np.float32] | None]) -> bytes:
    kind, data = layer.kind, layer.data
    attributes: dict[str, int | Sequence[int]] = {}
    if kind in _CONVOLUTIONS or kind == "AvgPool":
        if data.get("auto_pad", "explicit") != "explicit" or data.get("rounding_type", "floor") != "floor":
            raise ValueError(f"layer {layer.number}: only explicit padding and rounding down are known")
        pads = [*_numbers(data["pads_begin"]), *_numbers(data["pads_end"])]
        if kind == "AvgPool":
            op = "AveragePool"
            attributes = {
                "ceil_mode": 0,
                "count_include_pad": int(data["exclude-pad"] == "false"),
                "kernel_shape": _numbers(data["kernel"]),
                "pads": pads,
                "strides": _numbers(data["strides"]),
            }
        else:
            op = "Conv"
            weight = constants[1]
            if weight is None:
                raise ValueError(f"layer {layer.number}: a convolution by a computed weight is not known")
            attributes = {
                "dilations": _numbers(data["dilations"]),
                "group": weight.shape[0] if kind == "GroupConvolution" else 1,
                "pads": pads,
                "strides": _numbers(data["strides"]),
            }
    elif kind in _PLAIN:
        op = _PLAIN[kind]
    else:
        raise ValueError(f"layer {layer.number}: the operation {kind} is not known")
    return onnx_bytes.node(op, inputs, output, attributes)


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part.strip()]
