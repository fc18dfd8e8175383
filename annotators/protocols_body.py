"""What the stages ask of a body annotator: one person's posture and hands, given where the face is.

Images are RGB, uint8, [height, width, 3]; pixel coordinates have their origin at the top left corner. "Left" and
"right" are the subject's own, as in the networks, unless a name speaks of the image. Costs nothing: types only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from annotators.protocols import Box, FloatArray, Image

NOSE, SHOULDERS, ELBOWS, WRISTS, HIPS, KNEES = 0, (11, 12), (13, 14), (15, 16), (23, 24), (25, 26)
"""Indices of body points, (left, right), in the order of the 33 points of BlazePose."""


@dataclass(frozen=True, eq=False)
class Body:
    """One person's body in one picture.

    `points` [33, 2] are picture pixels and may lie outside of it: the network guesses what it does not see.
    `visibility` [33] in [0, 1] is its own estimate that a point is in the picture and not hidden. `world` [33, 3] are
    metres from the middle of the hips, x to image right, y down, z away from the camera. `hands` are the probabilities
    that a hand was seen at the (left, right) wrist: 0 where one was looked for in vain, None where there was nothing
    to look at, because the wrist is hidden or outside the picture.

    By `palms`, the points [21, 2] of the hands that were found, an analyzer finds them again in the next picture.
    `passed` says at which wrists `hands` is 0 since that was found in the picture before, and was not looked at again.
    """

    points: FloatArray
    visibility: FloatArray
    world: FloatArray
    hands: tuple[float | None, float | None]
    palms: tuple[FloatArray | None, FloatArray | None] = (None, None)
    passed: tuple[bool, bool] = (False, False)


class BodyAnalyzer(Protocol):
    """Finds the body that belongs to a face."""

    name: str
    weights: tuple[str, ...]

    def measure(
        self, rgb: Image, face: Box, others: Sequence[Box] = (), hands: bool = True, before: Body | None = None
    ) -> Body | None:
        """Return the body of the person with this face; None where no body fits it.

        `others` are the other faces of the picture, so that two people are not confused. Without `hands` none is
        looked for. `before` is the person's body in a picture of the same camera less than half a second away, in the
        same pixels: its hands may be looked for where they were.
        """
        ...

    def close(self) -> None:
        """Release the models."""
        ...
