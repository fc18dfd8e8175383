"""Faces by an SCRFD network of your own in ONNX, such as that of InsightFace's packs, run by insightface.

No package carries such weights, so neither accuracy nor cost was measured with published ones. A picture is searched
at two sizes, a small one for faces that fill it; one picture a call, since insightface's runner takes no more.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import Field

from annotators.face.boxes import in_tiles, merge
from annotators.face.insightface_pack import made_of_network
from annotators.models.onnx_session import Device, open_session
from annotators.parts import Made
from annotators.protocols import FaceBox, Image

_SMALL_PX = 128
"""At this size too a picture is searched: a face that fills a larger input is beyond what the network was made for."""


class ScrfdDetector:
    """Finds faces by SCRFD. Boxes reach from the forehead to the chin, a little above those of MediaPipe.

    `min_score` in (0, 1) is the lowest score returned. `tiles` > 1 also searches tiles x tiles overlapping parts of
    the frame, for small faces in wide shots. A network whose input has a fixed size is used at that size.
    """

    def __init__(
        self,
        model: str,
        min_score: float = 0.4,
        tiles: int = 1,
        size_px: Annotated[int, Field(ge=64, multiple_of=32)] = 640,
        device: Device = "cpu",
    ) -> None:
        """Open the network.

        Args:
            model: the ONNX file or a pack's directory, by path or by its name in a directory of OPENLPM_MODELS.
            min_score: lowest score returned.
            tiles: parts a side that are searched too.
            size_px: side of the square that the picture is fitted into, in pixels.
            device: cpu or cuda.

        Raises:
            WeightsNotFound: no such network.
            PartNotInstalledError: insightface, or CUDA where it is asked for, is not there.
        """
        if tiles < 1:
            raise ValueError(f"tiles is {tiles}, must be 1 (whole frame) or more per side")
        made = self.made_of(model)
        from insightface.model_zoo.scrfd import SCRFD

        (file,) = made.weights
        self.name, self.weights = made.name, made.weights
        self._tiles = tiles
        self._network: Any = SCRFD(file, open_session(file, device=device), static_shape_sessions=False)
        self._network.prepare(
            0, det_thresh=min_score, input_size=[(side, side) for side in sorted({_SMALL_PX, size_px})]
        )

    @classmethod
    def made_of(cls, model: str, **_: object) -> Made:
        """Name the back-end and its file. Raises WeightsNotFound, PartNotInstalledError."""
        return made_of_network(model, "detection", "insightface-scrfd")

    def detect(self, rgb: Image) -> list[FaceBox]:
        """Return the faces in image pixels, highest score first; one box a face."""
        sizes = list(self._network.input_sizes)
        return merge(
            [*self._boxes(rgb, sizes), *in_tiles(rgb, self._tiles, lambda part: self._boxes(part, sizes[-1:]))]
        )

    def _boxes(self, rgb: Image, sizes: list[tuple[int, int]]) -> list[FaceBox]:
        height, width = rgb.shape[:2]
        if min(height, width) * min(min(size) for size in sizes) <= max(height, width):
            return []  # fitted into the input, such a strip is less than a pixel wide
        found, _ = self._network.detect(np.ascontiguousarray(rgb[..., ::-1]), input_size=sizes)
        boxes = (FaceBox(*map(float, (x0, y0, x1 - x0, y1 - y0, score))) for x0, y0, x1, y1, score in found)
        return [box for box in boxes if box.w > 0 and box.h > 0]

    def close(self) -> None:
        """Release the network; the detector cannot be used afterwards."""
        self._network = None
