"""LR-ASD's visual encoder for inference: the same function of a face of any length, several times cheaper on a CPU.

Norms are folded into the weights, and every convolution is run in two dimensions on channels-last memory. Frames come
in pieces that fit the processor's cache. Each convolution over time keeps the few frames before a piece that its next
outputs need, so no frame is computed twice: context around each piece, cut off again, would cost 9 frames on each side.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_weights

from annotators.lips.lr_asd import PIXEL_MEAN, PIXEL_STD, VisualEncoder

PIECE_FRAMES = 32
"""Frames to give at once: fewer cost more for each call, more leave the processor's cache and are slower."""

_Weights = tuple[Tensor, Tensor]


class FoldedVisualEncoder:
    """The visual encoder with its norms folded. Holds no frames: each face that is read has its own `_Block`s."""

    def __init__(self, encoder: VisualEncoder) -> None:
        blocks = (encoder.block1, encoder.block2, encoder.block3)
        self._weights = [[_folded(*pair) for pair in block.pairs()] for block in blocks]
        self._strides = [int(block.s_1.stride[1]) for block in blocks]

    def __call__(self, crops: Tensor) -> Tensor:
        """Map crops [B, T, 112, 112] in 0..255 to features [B, T, 128]."""
        return torch.cat(list(self.pieces([crops])), dim=1)

    def pieces(self, crops: Iterable[Tensor]) -> Iterator[Tensor]:
        """Map pieces [B, n, 112, 112] in a row to features [B, m, 128] in a row, as many in all.

        A piece's last 9 frames come with the next one, since they depend on what follows. As many as are given at
        once take memory, 0.4 MB a frame and array of the first block.
        """
        blocks = [_Block(weights, stride) for weights, stride in zip(self._weights, self._strides, strict=True)]
        for piece, last in _and_whether_last(crops):
            x: Tensor | None = ((piece.float() / 255 - PIXEL_MEAN) / PIXEL_STD).unsqueeze(4)
            for number, block in enumerate(blocks):
                x = None if x is None else block(x, last, pooled=number > 0)
            if x is not None:
                yield x.amax(dim=(2, 3))


class _Block:
    """Two spatial and two temporal convolutions over one face's frames, piece after piece."""

    def __init__(self, weights: list[_Weights], stride: int) -> None:
        self._s_1, self._s_2, t_1, t_2 = weights
        self._stride = stride
        self._in_time = (_InTime(t_1), _InTime(t_2))

    def __call__(self, x: Tensor, last: bool, *, pooled: bool) -> Tensor | None:
        """Map [B, n, H, W, C] to [B, m, H', W', C'], or None while too few frames were given."""
        batch, frames = x.shape[:2]
        x = x.flatten(0, 1).permute(0, 3, 1, 2)
        if pooled:
            x = functional.max_pool2d(x, 3, 2, 1)
        x = functional.conv2d(x, *self._s_1, self._stride, padding=2).relu_()
        x = functional.conv2d(x, *self._s_2, padding=1).relu_()
        _, channels, height, width = x.shape
        out: Tensor | None = x.permute(0, 2, 3, 1).reshape(batch, frames, height * width, channels)
        for convolution in self._in_time:
            out = None if out is None else convolution(out, last)
        return None if out is None else out.reshape(batch, -1, height, width, channels)


class _InTime:
    """One convolution over time that is padded with zeros at a face's two ends and nowhere between."""

    def __init__(self, weights: _Weights) -> None:
        self._weights = weights
        self._around = weights[0].shape[2] // 2
        self._held: Tensor | None = None

    def __call__(self, x: Tensor, last: bool) -> Tensor | None:
        """Map frames [B, n, P, C] to the outputs [B, m, P, C] that they complete, or None."""
        batch, _, places, channels = x.shape
        zeros = x.new_zeros(batch, self._around, places, channels)
        x = torch.cat([zeros if self._held is None else self._held, x, *([zeros] if last else [])], dim=1)
        if x.shape[1] <= 2 * self._around:
            self._held = x
            return None
        self._held = x[:, -2 * self._around :].clone()  # a view would hold all of the piece
        return functional.conv2d(x.permute(0, 3, 1, 2), *self._weights).relu_().permute(0, 2, 3, 1)


def _and_whether_last(pieces: Iterable[Tensor]) -> Iterator[tuple[Tensor, bool]]:
    held: Tensor | None = None
    for piece in pieces:
        if held is not None:
            yield held, False
        held = piece
    if held is not None:
        yield held, True


def _folded(convolution: nn.Conv3d, norm: nn.BatchNorm3d) -> _Weights:
    """Return weight (2-d, channels last) and bias of a convolution without bias followed by its batch norm."""
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("a batch norm without running statistics cannot be folded")
    weight, bias = fuse_conv_bn_weights(
        convolution.weight, None, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    flat = weight.detach().squeeze(-1) if convolution.kernel_size[0] > 1 else weight.detach().squeeze(2)
    return flat.contiguous(memory_format=torch.channels_last), bias.detach()
