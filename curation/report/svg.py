"""Small charts as SVG text: bars, histograms and lanes. Pure functions; every piece of text is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from schemas.tables import LABEL_STATES

KINDS = {
    "mine": "this face", "face": "other faces", "crop": "planned clip", "text": "text", "logo": "logo",
    "inset": "inset", "bars": "bars",
}  # fmt: skip
"""What boxes in pictures stand for."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in a picture, and what it stands for (`KINDS`)."""

    kind: str
    x: float
    y: float
    w: float
    h: float


def picture(uri: str, shape: tuple[int, ...], size: tuple[int, int], boxes: Sequence[Box], said: str) -> Markup:
    """Draw boxes over a picture.

    Args:
        uri: the picture, as a data URI.
        shape: its height and width in pixels.
        size: width and height of the picture in which the boxes are measured.
        boxes: those drawn later lie on top.
        said: what it shows, in words.
    """
    height, width = shape
    head = f'<svg class="frame" role="img" aria-label="{escape(said)}" viewBox="0 0 {width} {height}">'
    parts = [head, f'<image width="{width}" height="{height}" href="{uri}"/>']
    across, down = width / size[0], height / size[1]
    for b in boxes:
        x, y, w, h = b.x * across, b.y * down, max(0.0, b.w * across), max(0.0, b.h * down)
        parts.append(f'<rect class="box {b.kind}" x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}"/>')
    return Markup("".join([*parts, "</svg>"]))


def histogram(values: Sequence[float], marks: Sequence[tuple[float, str]], unit: str, bins: int = 32) -> Markup:
    """Draw the distribution of `values` with thresholds marked as (value, operator); the axis covers both."""
    low, high = _range([*values, *(m for m, _ in marks)])
    counts = [0] * bins
    for v in values:
        counts[min(bins - 1, int((v - low) / (high - low) * bins))] += 1
    top = max(counts, default=1) or 1
    width, height = 300.0, 92.0
    parts = [f'<svg class="chart" role="img" aria-label="distribution" viewBox="0 0 {width:.0f} 118">']
    for i, n in enumerate(counts):
        if n:
            h = height * n / top
            x = i * width / bins
            parts.append(
                f'<rect class="ours" x="{x:.1f}" y="{height - h:.1f}" width="{width / bins - 1:.1f}" height="{h:.1f}"/>'
            )
    parts.append(f'<line class="axis" x1="0" x2="{width:.0f}" y1="{height}" y2="{height}"/>')
    for value, operator in marks:
        x = (value - low) / (high - low) * width
        anchor = "end" if x > width * 0.7 else "start"
        shift = -4 if anchor == "end" else 4
        parts.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height}"/>')
        text = escape(f"{operator} {value:g}")
        parts.append(f'<text class="marktext" x="{x + shift:.1f}" y="11" text-anchor="{anchor}">{text}</text>')
    parts.append(f'<text class="note" x="0" y="110">{low:.3g}</text>')
    parts.append(f'<text class="note" x="{width:.0f}" y="110" text-anchor="end">{high:.3g} {escape(unit)}</text>')
    return Markup("".join([*parts, "</svg>"]))


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values, default=0.0), max(values, default=1.0)
    return (low - 0.5, high + 0.5) if high - low < 1e-9 else (low, high + (high - low) * 1e-6)


class Lanes:
    """A drawing of lanes over one time axis, built from the top down; widths in a 1000-unit viewBox."""

    LEFT, WIDTH = 120.0, 870.0

    def __init__(self, duration_s: float) -> None:
        self._duration_s = max(duration_s, 1e-3)
        self._parts: list[str] = []
        self._y = 4.0

    def x(self, t_s: float) -> float:
        """Return the horizontal position of a time, kept inside the lanes."""
        share = min(1.0, max(0.0, t_s / self._duration_s))
        return self.LEFT + self.WIDTH * share

    def label(self, text: str, dy: float = 13.0) -> None:
        """Write the lane's name at its left."""
        self._parts.append(
            f'<text class="label" x="{self.LEFT - 8}" y="{self._y + dy:.1f}" text-anchor="end">{escape(text)}</text>'
        )

    def runs(self, runs: Sequence[tuple[float, float, str, str]], height: float = 18.0) -> None:
        """Draw (start_s, end_s, CSS class, tooltip) as blocks; the class name is written where it fits."""
        for start, end, css, tip in runs:
            x0, x1 = self.x(start), self.x(end)
            self._parts.append(
                f'<rect class="{escape(css)}" x="{x0:.1f}" y="{self._y:.1f}" width="{max(0.8, x1 - x0 - 0.6):.1f}" '
                f'height="{height}" rx="2"><title>{escape(tip)}</title></rect>'
            )
            if x1 - x0 > 7.0 * len(css) and css in LABEL_STATES:
                self._parts.append(
                    f'<text class="onstate" x="{(x0 + x1) / 2:.1f}" y="{self._y + 13:.1f}" '
                    f'text-anchor="middle">{escape(css)}</text>'
                )
        self._y += height + 3

    def curve(self, points: Sequence[tuple[float, float]], low: float, high: float, height: float = 30.0) -> None:
        """Draw (time, value) as a line between `low` and `high`, with a line at zero."""
        if points:
            span = high - low
            zero = self._y + height * (high / span)
            self._parts.append(
                f'<line class="axis" x1="{self.LEFT}" x2="{self.LEFT + self.WIDTH}" y1="{zero:.1f}" y2="{zero:.1f}"/>'
            )
            path = " ".join(
                f"{self.x(t):.1f},{self._y + height * (high - min(high, max(low, v))) / span:.1f}" for t, v in points
            )
            self._parts.append(f'<polyline class="curve" points="{path}"/>')
        self._y += height + 3

    def words(self, words: Sequence[tuple[float, float, str]], height: float = 15.0) -> None:
        """Write words at their times, leaving out those that would run into the one before."""
        free = self.LEFT
        for start, _, text in words:
            x = self.x(start)
            if x >= free:
                self._parts.append(f'<text class="word" x="{x:.1f}" y="{self._y + 11:.1f}">{escape(text)}</text>')
                free = x + 5.4 * len(text) + 4
        self._y += height

    def strip(self, images: Sequence[tuple[float, str, str]], height: float = 56.0) -> None:
        """Place pictures (time, data URI, alternative text) along the axis, skipping those without room."""
        free = self.LEFT
        for t_s, uri, alt in images:
            x = self.x(t_s)
            if x >= free - 0.5 and x + height <= self.LEFT + self.WIDTH + 8:
                self._parts.append(
                    f'<image x="{x:.1f}" y="{self._y:.1f}" width="{height}" height="{height}" href="{uri}" '
                    f'preserveAspectRatio="xMidYMid slice"><title>{escape(alt)}</title></image>'
                )
                free = x + height + 2
        self._y += height + 4

    def gap(self, height: float = 8.0) -> None:
        """Leave room."""
        self._y += height

    def finish(self, cuts: Sequence[float], title: str) -> Markup:
        """Add cut lines and the time axis, and return the drawing."""
        bottom = self._y
        for c in cuts:
            self._parts.append(
                f'<line class="cut" x1="{self.x(c):.1f}" x2="{self.x(c):.1f}" y1="0" y2="{bottom:.1f}"/>'
            )
        n = min(10, max(1, int(self._duration_s)))
        for i in range(n + 1):
            t = self._duration_s * i / n
            self._parts.append(
                f'<text class="note" x="{self.x(t):.1f}" y="{bottom + 12:.1f}" text-anchor="middle">{t:.1f}</text>'
            )
        body = "".join(self._parts)
        head = f'<svg class="lanes" role="img" aria-label="{escape(title)}" viewBox="0 0 1000 {bottom + 18:.0f}">'
        return Markup(f"{head}{body}</svg>")
