"""TransNetV2 as a second opinion about shot boundaries, asked only where something else raised a doubt.

Costs about 0.4 CPU seconds for a window of 50 frames (100 with the frames around it), 0.2 s a second of video if it
were asked everywhere; `docs/models.md` says how much of a video is asked. The network and its weights are loaded when
first asked.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from annotators.models import weights
from annotators.picture.shot_change import Thumbnails

if TYPE_CHECKING:
    from torch import Tensor

WEIGHT = "transnetv2.pth"
WINDOW = 50
"""Frames that one pass of the network decides; it reads 25 more on either side."""
_CONTEXT = 25


class ShotChanges(Protocol):
    """A second opinion on where a new shot begins."""

    name: str
    weights: tuple[str, ...]

    def probabilities(self, thumbs: Thumbnails, wanted: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        """Return the probability [N] that a new shot begins with each wanted frame; see `ShotNetwork`."""
        ...


class ShotNetwork:
    """The probability that a new shot begins with a frame."""

    name = "transnetv2"
    weights: tuple[str, ...] = (WEIGHT,)

    def __init__(self) -> None:
        """Find the weights; the network is built when it is first asked. Raises WeightsNotFound."""
        self._path = weights.resolve(WEIGHT)

    def probabilities(self, thumbs: Thumbnails, wanted: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        """Return the probability [N] that a new shot begins with each frame; 0 where it was not asked.

        Args:
            thumbs: thumbnails uint8 [N, 27, 48, 3] at 24 to 30 a second, frames before and after the wanted included.
            wanted: the frames asked about [N].
        """
        out = np.zeros(len(thumbs))
        for first, last in windows(wanted):
            start = first - (WINDOW - (last - first + 1)) // 2
            index = np.clip(np.arange(start - _CONTEXT, start + WINDOW + _CONTEXT), 0, len(thumbs) - 1)
            # The network marks the last frame of the old shot; here the first of the new one is meant.
            found = np.r_[0.0, self._pass(thumbs[index])][_CONTEXT : _CONTEXT + WINDOW]
            out[first : last + 1] = found[first - start : last + 1 - start]
        return np.where(wanted, out, 0.0)

    def _pass(self, thumbs: Thumbnails) -> npt.NDArray[np.float64]:
        return run(str(self._path), thumbs)


def windows(wanted: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Group wanted frames into stretches (first, last) of at most `WINDOW` frames, in order."""
    out: list[tuple[int, int]] = []
    for i in np.flatnonzero(wanted).tolist():
        if out and i - out[-1][0] < WINDOW:
            out[-1] = (out[-1][0], i)
        else:
            out.append((i, i))
    return out


def run(path: str, thumbs: Thumbnails) -> npt.NDArray[np.float64]:
    """Return the network's probability [N] that each thumbnail uint8 [N, 27, 48, 3] is the last of its shot."""
    import torch

    with torch.inference_mode():
        return np.asarray(_network(path)(torch.from_numpy(np.ascontiguousarray(thumbs))[None])[0, :, 0], np.float64)


@cache
def _network(path: str) -> Callable[[Tensor], Tensor]:
    import torch

    from annotators.picture.transnet import Folded, TransNetV2

    network = TransNetV2()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return Folded(network.eval().requires_grad_(False))
