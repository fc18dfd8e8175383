"""What was laid over or around the video: bars, text, graphics, insets and split screens, in a streaming pass.

Feed `OverlayMeter.add` about five pictures a second (captions that pop up word by word need that; two and a half do
for the rest), call `measure` every two to four seconds, `reset` at each cut.
All of it is measured on the shot so far, as one picture cannot tell an overlay from the scene.
Cost on one core: add 1 ms, measure 50 ms, nearly all of it the text network, at 640 x 360; a busy machine: 150 ms.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import cv2
import numpy as np

from annotators.picture.bars import BarMeter, Bars
from annotators.picture.overlay_samples import WORK_PX, ShotSamples
from annotators.picture.overlay_text import BRIEF_S, HOLD_S, overlaid
from annotators.picture.panels import Region, insets, panels
from annotators.picture.picture import scale_to
from annotators.picture.static_graphic import MIN_SAMPLES, NAME, graphics
from annotators.picture.text_detector import TextLine
from annotators.protocols import Image

_MERGE = 0.5  # an inset and a graphic that share this much of the smaller one are the same thing


class TextDetecting(Protocol):
    """Finds lines of text in an RGB picture."""

    name: str
    weights: tuple[str, ...]

    def detect(self, rgb: Image) -> list[TextLine]:
        """Return the text lines of a picture uint8 [height, width, 3]."""
        ...


@dataclass(frozen=True)
class Layout:
    """Bars, overlays and panels at one time; all coordinates are shares of the picture's width and height.

    `panels` tile the picture: one whole panel without a split screen. `n_samples` is how many pictures of the shot
    this rests on: below 4, graphics, insets and panels are not looked for, and text needs two.
    """

    t: float
    n_samples: int
    bars: Bars = field(default_factory=Bars)
    text: tuple[Region, ...] = ()
    graphics: tuple[Region, ...] = ()
    insets: tuple[Region, ...] = ()
    panels: tuple[Region, ...] = field(default=(Region(0.0, 0.0, 1.0, 1.0, 1.0),))

    @property
    def text_area(self) -> float:
        """Share of the picture covered by overlaid text, 0-1."""
        return covered(self.text)

    @property
    def logo_area(self) -> float:
        """Share of the picture covered by overlaid graphics, 0-1."""
        return covered(self.graphics)


class OverlayMeter:
    """Measures the layout of a shot from its sampled pictures.

    `text` is the text detector, or None to leave text out (`text_area` is then 0, and `name` says so).
    """

    name: ClassVar[str] = NAME

    def __init__(self, text: TextDetecting | None) -> None:
        self._text = text
        self._samples = ShotSamples()
        self._bars = BarMeter()

    @property
    def annotator(self) -> str:
        """What goes into the table's annotator column."""
        return f"{self._text.name if self._text else 'no-text'}+{self.name}"

    def add(self, rgb: Image, t: float) -> None:
        """Take a picture uint8 [height, width, 3] at `t` seconds; all pictures of a shot have one size."""
        gray = _luma(rgb)
        self._samples.add(gray, t)
        self._bars.add(gray)

    def measure(self, rgb: Image, t: float) -> Layout:
        """Measure the shot up to the picture at `t` seconds, which may have been added already, but need not."""
        lines = self._lines(rgb, t)
        text = tuple(Region(line.x0, line.y0, line.x1, line.y1, line.score) for line in lines)
        bars = self._bars.measure()
        if self._samples.n < MIN_SAMPLES:
            return Layout(t, self._samples.n, bars, text)
        step_x, step_y = self._samples.steps
        height, width = step_x.shape
        top, bottom = round(bars.top * height), height - round(bars.bottom * height)
        left, right = round(bars.left * width), width - round(bars.right * width)
        if bottom - top < 32 or right - left < 32:
            return Layout(t, self._samples.n, bars, text)
        inside = (slice(top, bottom), slice(left, right))
        strength, constant = self._samples.persistence

        def whole(region: Region) -> Region:
            """From shares of the picture within the bars to shares of the whole."""
            w, h = right - left, bottom - top
            return Region(
                (left + region.x0 * w) / width,
                (top + region.y0 * h) / height,
                (left + region.x1 * w) / width,
                (top + region.y1 * h) / height,
                region.score,
            )

        found_insets = tuple(whole(r) for r in insets(step_x[inside], step_y[inside]))
        found_graphics = (whole(r) for r in graphics(strength[inside], constant[inside]))
        return Layout(
            t,
            self._samples.n,
            bars,
            text,
            tuple(g for g in found_graphics if not any(_shared(g, i) > _MERGE for i in found_insets)),
            found_insets,
            tuple(whole(r) for r in panels(step_x[inside], step_y[inside])),
        )

    def _lines(self, rgb: Image, t: float) -> list[TextLine]:
        earlier, just_before = self._samples.before(t, *HOLD_S), self._samples.before(t, *BRIEF_S)
        if self._text is None or not (earlier or just_before):
            return []
        return overlaid(self._text.detect(rgb), _luma(rgb), earlier, just_before)

    def reset(self) -> None:
        """Forget the shot, at a cut."""
        self._samples.reset()
        self._bars.reset()


def covered(regions: tuple[Region, ...], grid: int = 512) -> float:
    """Return the share of the picture that the regions cover together, 0-1, to about 1 / `grid`."""
    mask = np.zeros((grid, grid), bool)
    for r in regions:
        mask[round(r.y0 * grid) : round(r.y1 * grid), round(r.x0 * grid) : round(r.x1 * grid)] = True
    return float(mask.mean())


def _shared(a: Region, b: Region) -> float:
    """Share of the smaller of two regions that lies in both."""
    w, h = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
    smaller = min((r.x1 - r.x0) * (r.y1 - r.y0) for r in (a, b))
    return max(0.0, w) * max(0.0, h) / smaller if smaller > 0 else 0.0


def _luma(rgb: Image) -> Image:
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.size == 0:
        raise ValueError(f"expected an RGB image uint8 [height, width, 3], got {rgb.dtype} {rgb.shape}")
    return scale_to(np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8), WORK_PX)
