"""Pixels of turned rectangles in a picture, as a network's input. About 0.5 ms for 256 x 256."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from annotators.protocols import FloatArray, Image


class Sampler:
    """Samples rectangles of pictures to squares of `size_px`, as MediaPipe's OpenCV does; its memory is reused.

    Pixel i lies at i / size of the rectangle and shows what is at the picture's pixel of the same share, interpolated
    linearly on a grid of 1 / 32 pixel. Beyond the picture its edges go on, or it is black.
    """

    def __init__(self, size_px: int, black: bool = False) -> None:
        shape = (size_px, size_px)
        self._border = cv2.BORDER_CONSTANT if black else cv2.BORDER_REPLICATE
        self._at = np.arange(size_px) / size_px
        self._places = np.empty((2, *shape), np.float32)
        self._pixel, self._part = np.empty((*shape, 2), np.int16), np.empty(shape, np.uint16)
        self._sampled = np.empty((*shape, 3), np.uint8)

    def of(self, rgb: Image, to_pixels: npt.NDArray[np.float64]) -> Image:
        """Return a rectangle of a picture as [size, size, 3], valid until the next call.

        `to_pixels` [2, 3] is the affine map from the rectangle's own unit square to the picture's pixels.
        """
        along = (to_pixels[:, :1] * self._at).astype(np.float32)
        down = (to_pixels[:, 1:2] * self._at + to_pixels[:, 2:]).astype(np.float32)
        x, y = np.add(along[:, None], down[:, :, None], out=self._places)
        cv2.convertMaps(x, y, cv2.CV_16SC2, self._pixel, self._part)
        cv2.remap(rgb, self._pixel, self._part, cv2.INTER_LINEAR, self._sampled, self._border)
        return self._sampled


def give(cut: Image, network_input: FloatArray, signed: bool = False) -> None:
    """Write a cut [side, side, 3] to a network's input [1, side, side, 3], in [0, 1] or, signed, in [-1, 1]."""
    np.multiply(cut, np.float32(1 / 127.5 if signed else 1 / 255), out=network_input[0])
    if signed:
        np.subtract(network_input, np.float32(1), out=network_input)
