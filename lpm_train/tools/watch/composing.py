"""Two videos as one, data left and model right, with the conversation's sound. Pure; about a millisecond a frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from lpm_train.tools.judge.faces import F32, U8

_LEAST_PX = 256  # small pictures are enlarged by a whole factor to at least this height
_BAR_PX, _GAP_PX = 24, 4
_DARK, _LIGHT = (24, 24, 24), (235, 235, 235)


def side_by_side(data: Iterable[U8], model: Iterable[U8], labels: tuple[str, str]) -> Iterator[U8]:
    """Lay frames [H, W, 3] beside each other under their labels: frames [H', W', 3] of even sides, as H.264 needs.

    Raises:
        ValueError: one has more frames than the other.
    """
    bar: U8 | None = None
    for left, right in zip(data, model, strict=True):
        times = max(1, -(-_LEAST_PX // left.shape[0]))
        left, right = (x.repeat(times, axis=0).repeat(times, axis=1) for x in (left, right))
        gap = np.full((left.shape[0], _GAP_PX, 3), _DARK, np.uint8)
        if bar is None:
            bars = [_bar(text, x.shape[1]) for text, x in zip(labels, (left, right), strict=True)]
            bar = np.concatenate([bars[0], np.full((_BAR_PX, _GAP_PX, 3), _DARK, np.uint8), bars[1]], 1)
        frame = np.concatenate([bar, np.concatenate([left, gap, right], 1)])
        yield np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), mode="edge")


def _bar(text: str, width: int) -> U8:
    canvas = np.full((_BAR_PX, width, 3), _DARK, np.uint8)
    cv2.putText(canvas, text, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, _LIGHT, 1, cv2.LINE_AA)
    return canvas


def mixed(speech_N: F32, heard_N: F32) -> F32:
    """Mix what is said and what is heard to one sound; where the sum would clip, all of it is turned down."""
    both = speech_N + heard_N
    return np.asarray(both / max(1.0, float(np.abs(both).max(initial=0.0))), np.float32)
