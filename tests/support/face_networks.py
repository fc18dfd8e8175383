"""Tiny real networks in ONNX, shaped as InsightFace's are: one that recognises, one that finds red squares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE = 16
"""Numbers that the recognition network gives."""

FOUND_PX = 64
"""Side of the red squares that the detection network finds, in pixels of its input."""

_STRIDES = (8, 16, 32)


def arcface(path: Path, seed: int = 0, batch: str | int = "n", side: int = 112) -> Path:
    """Write a recognition model: the mean colours of places of 16 px, projected on 16 numbers."""
    w = np.random.default_rng(seed).standard_normal((3 * (side // 16) ** 2, SIZE)).astype(np.float32)
    nodes = [
        helper.make_node("AveragePool", ["x"], ["p"], kernel_shape=[16, 16], strides=[16, 16]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    return _write(path, nodes, [batch, 3, side, side], {"y": [batch, SIZE]}, {"w": w})


def scrfd(path: Path, side: int | None = None, points: bool = True) -> Path:
    """Write a detection model of SCRFD's shape: three strides, two anchors, with or without points.

    At stride 16 the score tells how red the 64 px square is that begins at the anchor, from half of it on; the other
    strides find nothing.
    """
    nodes: list[Any] = [helper.make_node("Conv", ["x", "red"], ["redness"])]
    constants = {"red": np.array([0.5, -0.5, 0.0], np.float32).reshape(1, 3, 1, 1)}
    outputs: dict[str, list[Any]] = {}
    heads = {"score": 1, "box": 4, **({"points": 10} if points else {})}
    for stride in _STRIDES:
        kernel = FOUND_PX if stride == 16 else stride
        nodes.append(
            helper.make_node(
                "AveragePool", ["redness"], [f"pool{stride}"], kernel_shape=[kernel] * 2, strides=[stride] * 2,
                pads=[0, 0, kernel - stride, kernel - stride], count_include_pad=1,
            )
        )  # fmt: skip
    for head, width in heads.items():
        for stride in _STRIDES:
            at = f"{head}{stride}"
            weight, bias = np.zeros((2 * width, 1, 1, 1), np.float32), np.zeros(2 * width, np.float32)
            if head == "score" and stride == 16:
                weight[0], bias[0] = 2.0, -1.0
            elif head == "box":
                bias[:] = np.tile([0, 0, FOUND_PX / stride, FOUND_PX / stride], 2)
            constants |= {f"w_{at}": weight, f"b_{at}": bias, f"s_{at}": np.array([-1, width], np.int64)}
            nodes += [
                helper.make_node("Conv", [f"pool{stride}", f"w_{at}", f"b_{at}"], [f"c_{at}"]),
                helper.make_node("Transpose", [f"c_{at}"], [f"t_{at}"], perm=[0, 2, 3, 1]),
                helper.make_node("Reshape", [f"t_{at}", f"s_{at}"], [at]),
            ]
            outputs[at] = ["candidates", width]
    return _write(path, nodes, [1, 3, side or "height", side or "width"], outputs, constants)


def _write(
    path: Path, nodes: list[Any], shape: list[Any], outputs: dict[str, list[Any]], constants: dict[str, Any]
) -> Path:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.save(model, str(path))
    return path
