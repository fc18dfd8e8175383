"""CAM++ for inference: the same function by onnxruntime, more than twice as cheap on one core as torch.

Torch multiplies one clip's short matrices at 50 to 80 billion operations a second on a current core, and onnxruntime at
120 to 170. Norms are folded into the weights. In the dense layers norm and ReLU come before the convolution: there
relu(s x + b) = s relu(x + b / s) for s > 0, and the same with the lesser of 0 and x + b / s for s < 0, which leaves a
sum and a comparison. Masks are computed once for each 100 frames, not for each frame.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from annotators.models.onnx_session import open_session
from annotators.speech.campplus import CONTEXT_FRAMES, MEL_BINS, CamPlusPlus
from annotators.speech.onnx_graph import OnnxGraph

FloatArray = npt.NDArray[np.float32]

_Layer = Any  # part of the network: those that are known by name alone have no type


class FoldedCamPlusPlus:
    """Filter banks [B, F, 80] (F >= 4) to embeddings [B, 192], not normalised, as `CamPlusPlus` in evaluation."""

    def __init__(self, network: CamPlusPlus) -> None:
        last: _Layer = network.xvector.dense
        with torch.inference_mode():
            self._session = open_session(_Writer().file(network), arena=False)
            scale, shift = _scale_shift(last.nonlinear.batchnorm)
            self._weight = (last.linear.weight[:, :, 0] * scale[:, None]).T.float().numpy()
            self._shift = shift.float().numpy()

    def __call__(self, features: FloatArray) -> FloatArray:
        """Return the embeddings [B, 192] of filter banks [B, F, 80]."""
        pool, spread = _contexts((features.shape[1] + 1) // 2)
        feed = {"mel": np.ascontiguousarray(features.transpose(0, 2, 1))[:, None], "pool": pool, "spread": spread}
        (voice,) = self._session.run(None, feed)
        statistics = np.concatenate((voice.mean(axis=-1), voice.std(axis=-1, ddof=1)), axis=1)
        return cast(FloatArray, statistics @ self._weight + self._shift)


class _Writer:
    """Writes the network up to its statistics as a graph; values go by their names in it."""

    def __init__(self) -> None:
        self._graph = OnnxGraph()

    def file(self, network: CamPlusPlus) -> bytes:
        """Return the file; inputs mel [B, 1, 80, F], pool and spread of `_contexts`, output [B, 512, T]."""
        graph = self._graph
        layers: _Layer = network.xvector
        x = self._head(graph.input("mel", ("B", 1, MEL_BINS, "F")), network.head)
        graph.input("pool", ("T", "S"))
        graph.input("spread", ("S", "T"))
        x = graph.node("Reshape", x, graph.constant(np.array([0, layers.tdnn.linear.in_channels, -1])))
        x = self._relu(self._normed(x, layers.tdnn.linear, layers.tdnn.nonlinear.batchnorm))
        for number in (1, 2, 3):
            for layer in getattr(layers, f"block{number}"):
                x = graph.node("Concat", x, self._dense(x, layer), axis=1)
            x = self._transit(x, getattr(layers, f"transit{number}"))
        scale, shift = _scale_shift(layers.out_nonlinear.batchnorm)
        x = graph.node("Add", graph.node("Mul", x, self._constant(scale[:, None])), self._constant(shift[:, None]))
        return graph.file(self._relu(x), ("B", len(scale), "T"))

    def _head(self, x: str, head: _Layer) -> str:
        x = self._relu(self._normed(x, head.conv1, head.bn1))
        for block in (*head.layer1, *head.layer2):
            inner = self._normed(self._relu(self._normed(x, block.conv1, block.bn1)), block.conv2, block.bn2)
            beside = self._normed(x, *block.shortcut) if len(block.shortcut) else x
            x = self._relu(self._graph.node("Add", inner, beside))
        return self._relu(self._normed(x, head.conv2, head.bn2))

    def _dense(self, x: str, layer: _Layer) -> str:
        x, scale = self._cut(x, layer.nonlinear1.batchnorm)
        scale2, shift2 = _scale_shift(layer.nonlinear2.batchnorm)
        weight = layer.linear1.weight * scale[:, None] * scale2[:, None, None]
        x = self._relu(self._convolved(x, layer.linear1, weight, shift2))
        masked = layer.cam_layer
        local = self._convolved(x, masked.linear_local, masked.linear_local.weight)
        return self._graph.node("Mul", local, self._mask(x, masked))

    def _mask(self, x: str, masked: _Layer) -> str:
        node = self._graph.node
        context = node("MatMul", x, "pool")
        for linear, activation in ((masked.linear1, "Relu"), (masked.linear2, "Sigmoid")):
            context = node("MatMul", self._constant(linear.weight[:, :, 0]), context)
            context = node(activation, node("Add", context, self._constant(linear.bias[:, None])))
        return node("MatMul", context, "spread")

    def _transit(self, x: str, transit: _Layer) -> str:
        x, scale = self._cut(x, transit.nonlinear.batchnorm)
        return self._convolved(x, transit.linear, transit.linear.weight * scale[:, None])

    def _cut(self, x: str, norm: _Layer) -> tuple[str, Tensor]:
        """Return cut(x) and s, for which relu(norm(x)) = s cut(x). Raises ValueError where s is zero."""
        scale, shift = _scale_shift(norm)
        if not scale.all():
            raise ValueError("a norm that multiplies a channel by zero cannot be folded")
        falling = (scale < 0)[:, None]
        x = self._graph.node("Add", x, self._constant((shift / scale)[:, None]))
        if not falling.any():
            return self._relu(x), scale
        zero = torch.zeros(falling.shape)
        x = self._graph.node("Max", x, self._constant(zero.masked_fill(falling, -torch.inf)))
        return self._graph.node("Min", x, self._constant(zero.masked_fill(~falling, torch.inf))), scale

    def _normed(self, x: str, convolution: _Layer, norm: _Layer) -> str:
        """Add a convolution without bias and the norm after it."""
        scale, shift = _scale_shift(norm)
        weight = convolution.weight
        return self._convolved(x, convolution, weight * scale.reshape(-1, *[1] * (weight.ndim - 1)), shift)

    def _convolved(self, x: str, like: _Layer, weight: Tensor, bias: Tensor | None = None) -> str:
        """Add a convolution with a layer's strides and padding, and weights of its own."""
        weights = [self._constant(w) for w in (weight, bias) if w is not None]
        pads, strides, dilations = like.padding * 2, like.stride, like.dilation
        return self._graph.node("Conv", x, *weights, pads=pads, strides=strides, dilations=dilations)

    def _relu(self, x: str) -> str:
        return self._graph.node("Relu", x)

    def _constant(self, value: Tensor) -> str:
        return self._graph.constant(value.numpy())


def _scale_shift(norm: _Layer) -> tuple[Tensor, Tensor]:
    """Return s [C] and b [C] of norm(x) = s x + b, in float64: their products are rounded once."""
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * norm.weight
    shift = -norm.running_mean * scale
    return scale, shift + norm.bias if norm.affine else shift


def _contexts(frames: int) -> tuple[FloatArray, FloatArray]:
    """Return pool [T, S], the mean of each 100 frames plus that of all, and spread [S, T], back to the frames."""
    part = np.arange(frames) // CONTEXT_FRAMES
    spread = (part == np.arange(part[-1] + 1)[:, None]).astype(np.float32)
    pool = spread.T / spread.sum(axis=1) + 1 / frames
    return pool.astype(np.float32), spread
