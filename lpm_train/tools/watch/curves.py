"""Curves over training steps as SVG text. Pure; every piece of text is escaped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

Points = Sequence[tuple[float, float]]

_WIDTH, _HEIGHT = 520.0, 190.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 54.0, 10.0, 8.0, 24.0
_MOST = 400  # points of a drawn curve; more are averaged, neighbour by neighbour
_LOG_FROM = 20.0  # a curve whose largest value is so many times its smallest is drawn over a logarithmic axis


@dataclass(frozen=True)
class Curve:
    """Values over steps."""

    name: str
    points: Points  # (step, value), steps ascending
    dots: bool = False  # few values, each of which counts


def thinned(points: Points, most: int = _MOST) -> list[tuple[float, float]]:
    """Average neighbours until at most `most` points are left."""
    size = -(-len(points) // most)
    parts = [points[i : i + size] for i in range(0, len(points), max(1, size))]
    return [(sum(x for x, _ in p) / len(p), sum(y for _, y in p) / len(p)) for p in parts]


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Return round numbers in [low, high], some `about` of them: multiples of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
    return [round(i * step, 12) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _decades(low: float, high: float) -> list[float]:
    return [10.0**i for i in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)] or [low, high]


def chart(title: str, curves: Sequence[Curve], last_step: float, linear: bool = False) -> Markup:
    """Draw curves over steps 0 to `last_step` in one frame; those without a finite value are left out.

    The axis is logarithmic where values span a factor of 20 and more, unless `linear`.
    """
    shown = [Curve(c.name, p, c.dots) for c in curves if (p := [q for q in c.points if math.isfinite(q[1])])]
    if not shown:
        return Markup("")
    drawn = [c.points if c.dots else thinned(c.points) for c in shown]
    values = [y for points in drawn for _, y in points]
    low, high = min(values), max(values)
    log = not linear and low > 0 and high / low >= _LOG_FROM
    if not log:
        room = 0.05 * (high - low) or 0.05 * abs(high) or 0.5
        low, high = (0.0 if 0 <= low < high / 2 else low - room), high + room
    bottom, end = _HEIGHT - _BOTTOM, max(last_step, 1.0)

    def x(step: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * step / end

    def y(value: float) -> float:
        share = math.log(value / low) / math.log(high / low) if log else (value - low) / (high - low)
        return bottom - (bottom - _TOP) * share

    parts = [f'<svg role="img" aria-label="{escape(title)}" viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}">']
    for value in _decades(low, high) if log else ticks(low, high):
        at = y(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{at + 3.5:.1f}" text-anchor="end">{value:.3g}</text>')
    for step in ticks(0, end, 5):
        parts.append(f'<text x="{x(step):.1f}" y="{_HEIGHT - 8}" text-anchor="middle">{step:,.0f}</text>')
    for i, points in enumerate(drawn):
        places = [(x(step), y(value)) for step, value in points]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
        parts.append(f'<polyline class="c{i % 6}" points="{path}"/>')
        if shown[i].dots or len(places) == 1:
            parts += [
                f'<circle class="c{i % 6}" cx="{a:.1f}" cy="{b:.1f}" r="3"><title>{escape(shown[i].name)} at step '
                f"{step:,.0f}: {value:.4g}</title></circle>"
                for (a, b), (step, value) in zip(places, points, strict=True)
            ]
    keys = [
        f'<span class="key"><i class="c{i % 6}"></i>{escape(c.name)} <b>{c.points[-1][1]:.4g}</b></span>'
        for i, c in enumerate(shown)
    ]
    axis = ' <span class="soft">logarithmic</span>' if log else ""
    head = f"<figcaption><b>{escape(title)}</b>{axis}<br>{''.join(keys)}</figcaption>"
    return Markup(f"<figure>{head}{''.join(parts)}</svg></figure>")


def lanes(runs: Sequence[tuple[str, float, float]], seconds: float, what: str) -> Markup:
    """Draw (name, start_s, end_s) as blocks over one time axis, coloured by `what` they are and by name."""
    width = 300.0
    label = f'class="lane {escape(what)}" role="img" aria-label="{escape(what)} over time"'
    parts = [f'<svg {label} viewBox="0 0 {width:.0f} 16">']
    for name, start, end in runs:
        a, b = width * start / seconds, width * end / seconds
        said = escape(f"{name} {start:.2f}–{end:.2f} s")
        parts.append(
            f'<rect class="{escape(name)}" x="{a:.1f}" y="0" width="{max(0.5, b - a - 0.5):.1f}" height="16" rx="2">'
            f"<title>{said}</title></rect>"
        )
        if b - a > 7.0 * len(name):
            parts.append(f'<text x="{(a + b) / 2:.1f}" y="12" text-anchor="middle">{escape(name)}</text>')
    return Markup("".join([*parts, "</svg>"]))
