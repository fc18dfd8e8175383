"""The best crop of one person: the framing nearest to the wanted one that leaves out what does not belong. Pure.

Crops of several sizes and places are compared. Every one holds the face throughout, with the least margins but for
moments, and stays in its bounds; those that show overlaid text, a graphic, an inset or another face are taken only
when all do. A wide framing (half body) is tried first, then head and shoulders, then narrower ones. A still crop is
preferred; where it would have to be much wider than the person, because they move or the camera zooms, or where no
still one is clean, the crop follows. 5 to 50 milliseconds a clip.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

from schemas.time import GRID_HZ
from stages.clip_plan.crop_path import SIGMAS_S, CropPath, FloatArray, knot_places, smoothed
from stages.clip_plan.framing import CropShape, Rect

Framing = Literal["half_body", "shoulders", "narrowed", "tight"]

_SIZES, _PLACES = 14, 7
_FULL = 0.92
"""A crop of this share of the wanted height counts as that framing."""
_BODY = 0.8
"""Half body needs this share of the wanted height: less shows no hands."""
_OFF_CENTRE = 8.0
"""Cost of a face away from its place by a crop side, squared; that of a crop 1 / e as high as wanted is 1."""
_UNWANTED, _UNWANTED_AREA = 1.5, 2.0
"""Cost of showing a place where text usually stands, at all and a share of the crop."""
_NEAR = 3.0
"""Cost of the hair and shoulders of others, a share of the crop."""
_BESIDE = 0.1
"""Another face is kept out with this much of its size around its box."""
_HAIR = 0.5
"""Its hair and shoulders reach about this far."""
_CLEAR = 1e-6
"""Room between a crop and what it stands flush with, in units: rounding must not make them meet."""
_DIRTY = 50.0
"""Cost of what must not be seen, a share of the crop: only a choice among crops that all show some."""
_NOD = 0.05
"""The least margin at a side may be short in this share of a clip: a quick nod must not decide. The face never is."""
_WANDERS = 1.45
"""A still crop this much higher than a following one needs to be is too wide."""
_ZOOMS = 1.3
"""A face that becomes this much larger or smaller within the clip is zoomed at."""


@dataclass(frozen=True)
class Scene:
    """What is in the picture during a clip; rectangles are x0, y0, x1, y1 in pixels.

    `face` [n, 4] is the person's face on each grid point; `others` [n, m, 4] other faces, nan where not seen;
    `unwanted` [k, 4] what must not be in the crop; `usual` [k, 4] places where text usually stands; `margins` [k, 4]
    what had better not be in it either, as it stands close around what is unwanted.
    """

    face: FloatArray
    others: FloatArray
    unwanted: FloatArray
    usual: FloatArray
    bounds: Rect
    margins: FloatArray = field(default_factory=lambda: np.zeros((0, 4)))


@dataclass(frozen=True)
class Found:
    """A crop, how much of the person it shows, and its cost (0 = as wanted; `_DIRTY` and more = not clean)."""

    path: CropPath
    framing: Framing
    cost: float
    clean: bool


@dataclass(frozen=True)
class _Base:
    """Origin [t, 2] and unit [t] of coordinates in which the face stands nearly still, at grid points `places` [t].

    A still crop's base has one place.
    """

    places: npt.NDArray[np.int64]
    centre: FloatArray
    unit: FloatArray

    @property
    def still(self) -> bool:
        """Say whether it is a still crop's."""
        return len(self.places) == 1


def best_crop(scene: Scene, shape: CropShape) -> Found:
    """Return the best crop of a scene.

    Raises ValueError when the person has no face box or it lies outside the bounds.
    """
    if not len(scene.face):
        raise ValueError("no face box: the person is never seen in this stretch")
    face = np.asarray(scene.face, np.float64)
    limits = np.array([scene.bounds.x0, scene.bounds.y0] * 2), np.array([scene.bounds.x1, scene.bounds.y1] * 2)
    held = np.clip(face, *limits)
    if (held[:, 2:] - held[:, :2]).max() <= 0:
        raise ValueError(f"the face lies outside {scene.bounds}")
    fixed = _leveled(scene, _still_base(held), shape)
    if fixed.clean and not _wanders(held, fixed, shape):
        return fixed
    places = knot_places(len(held))
    for sigma_s in SIGMAS_S:
        if len(places) < 3:
            break
        # Faces are let out of the bounds here: how near a border they stand must not move the crop.
        lines = smoothed(np.column_stack([(face[:, :2] + face[:, 2:]) / 2, np.log(face[:, 3] - face[:, 1])]), sigma_s)
        moving = _leveled(scene, _Base(places, lines[places, :2], np.exp(lines[places, 2])), shape)
        if moving.path.speed <= shape.max_speed and moving.path.zoom <= shape.max_zoom:
            better = moving.clean >= fixed.clean and (moving.cost < fixed.cost or fixed.clean)
            return moving if better else fixed
    return fixed


def blocked(scene: Scene, shape: CropShape) -> bool:
    """Say whether what is unwanted comes so near the face at some time that no crop with the least margins is clean."""
    limits = np.array([scene.bounds.x0, scene.bounds.y0] * 2), np.array([scene.bounds.x1, scene.bounds.y1] * 2)
    # At each of its four sides the margin may be short for as long as a nod lasts.
    for boxes, most in ((scene.face, 0.0), (_least(scene.face, shape), 4 * _NOD)):
        held = np.clip(boxes, *limits)[:, None]
        met = np.concatenate([overlap(held, scene.unwanted[None]), overlap(held, scene.others)], axis=1) > 0
        if met.shape[1] and float(met.mean(axis=0).max()) > most:
            return True
    return False


def _least(face: FloatArray, shape: CropShape) -> FloatArray:
    """Return what a crop must hold of faces [n, 4]: them with the least margins."""
    size = face[:, 2:] - face[:, :2]
    grow = np.column_stack([size[:, 0] * shape.least_beside, size[:, 1] * shape.least_above,
                            size[:, 0] * shape.least_beside, size[:, 1] * shape.least_below])  # fmt: skip
    return np.asarray(face + grow * np.array([-1, -1, 1, 1]))


def _wanders(face: FloatArray, fixed: Found, shape: CropShape) -> bool:
    heights = smoothed(face[:, 3:] - face[:, 1:2], 0.3)[:, 0]
    low, high = np.quantile(heights, [0.05, 0.95])
    wanted = float(np.median(heights)) * (shape.above + 1 + shape.below)
    if fixed.framing == "half_body":
        wanted = float(np.median(heights)) * (shape.above + 1 + shape.below_body)
    return bool(fixed.path.knots[0, 4] > _WANDERS * wanted or high > _ZOOMS * low)


def _still_base(face: FloatArray) -> _Base:
    low, high = face[:, :2].min(axis=0), face[:, 2:].max(axis=0)
    size = np.array([np.median(face[:, 3] - face[:, 1])])
    return _Base(np.zeros(1, np.int64), (low + high)[None] / 2, size)


def _leveled(scene: Scene, base: _Base, shape: CropShape) -> Found:
    """Return the best of half body, where it is clean and there is room, and head and shoulders."""
    if shape.below_body > shape.below:
        wide = _search(scene, base, shape, shape.below_body)
        if wide is not None and wide[1].clean and wide[0] >= _BODY and wide[1].cost < _UNWANTED:
            return Found(wide[1].path, "half_body", wide[1].cost, True)
    near = _search(scene, base, shape, shape.below)
    if near is not None:
        return near[1]
    return _unsquare(scene, base, shape)


def _search(scene: Scene, base: _Base, shape: CropShape, below: float) -> tuple[float, Found] | None:
    """Return (height / wanted height, the best crop) with a wanted room below; None where the aspect does not fit."""
    b = scene.bounds
    face, need = _normal(scene, base, shape)
    ratio = float(np.median((scene.face[:, 2] - scene.face[:, 0]) / (scene.face[:, 3] - scene.face[:, 1])))
    high = max(
        face.h + shape.above + below,
        (face.w + 2 * shape.beside * ratio) / shape.aspect,
    )
    most = min(b.h, b.w / shape.aspect) / float(base.unit.max())
    least = max(need.h, need.w / shape.aspect)
    if least > most + 1e-6:
        return None
    heights = np.geomspace(max(least, 1e-3), max(least, min(high, most)), _SIZES)
    share = shape.above / (shape.above + below)
    boxes, costs = [], []
    for h in heights:
        w = h * shape.aspect
        x_wish, y_wish = face.x0 + (face.w - w) / 2, face.y0 - share * (h - face.h)
        xs = _spots(need.x1 - w, need.x0, x_wish, w, scene, base, 0)
        ys = _spots(need.y1 - h, need.y0, y_wish, h, scene, base, 1)
        grid = np.stack(np.meshgrid(xs, ys, indexing="ij"), axis=-1).reshape(-1, 2)
        boxes.append(np.column_stack([grid, np.full(len(grid), w), np.full(len(grid), h)]))
        off = ((grid[:, 0] - x_wish) / w) ** 2 + ((grid[:, 1] - y_wish) / h) ** 2
        costs.append(np.log(max(high, h) / h) + _OFF_CENTRE * off)
    candidates, cost = np.concatenate(boxes), np.concatenate(costs)
    rects = _placed(candidates, base, b, shape.aspect)
    dirt, soft = _dirt(scene, base, rects)
    cost = cost + soft + np.where(dirt > 0, 1 + _DIRTY * dirt, 0)
    best = int(np.argmin(cost))
    h = float(candidates[best, 3])
    clean = bool(dirt[best] <= 0)
    framing: Framing = "shoulders" if h >= _FULL * high else "narrowed"
    return h / high, Found(_path(rects[best], base), framing, float(cost[best]), clean)


def _unsquare(scene: Scene, base: _Base, shape: CropShape) -> Found:
    """Return a crop whose aspect gives way, as the least margins do not fit otherwise: as large as the bounds allow."""
    b = scene.bounds
    _, need = _normal(scene, base, shape)
    unit = float(base.unit.max())
    h = min(max(need.h, (need.w / shape.aspect)), b.h / unit)
    w = min(max(need.w, h * shape.aspect), b.w / unit)
    x, y = need.x0 + (need.w - w) / 2, need.y0 + (need.h - h) / 2
    rects = _placed(np.array([[x, y, w, h]]), base, b, None)
    dirt, soft = _dirt(scene, base, rects)
    fits = bool(need.w <= w + 1e-6 and need.h <= h + 1e-6)
    cost = 2.0 + float(soft[0]) + (1 + _DIRTY * float(dirt[0]) if dirt[0] > 0 else 0.0)
    return Found(_path(rects[0], base), "narrowed" if fits else "tight", cost, bool(dirt[0] <= 0))


def _normal(scene: Scene, base: _Base, shape: CropShape) -> tuple[Rect, Rect]:
    """Return, in the base's coordinates, all places of the face and what a crop must hold: it with least margins."""
    b, face = scene.bounds, scene.face
    need = _least(face, shape)
    limits = np.array([b.x0, b.y0, b.x0, b.y0]), np.array([b.x1, b.y1, b.x1, b.y1])
    k = np.arange(len(face))
    centre = np.column_stack([np.interp(k, base.places, base.centre[:, i]) for i in range(2)])
    unit = np.interp(k, base.places, base.unit)[:, None]
    own, wide = ((np.clip(boxes, *limits) - np.tile(centre, 2)) / unit for boxes in (face, need))
    low, high = own[:, :2].min(axis=0), own[:, 2:].max(axis=0)
    low_wide = np.minimum(low, np.quantile(wide[:, :2], _NOD, axis=0))
    high_wide = np.maximum(high, np.quantile(wide[:, 2:], 1 - _NOD, axis=0))
    held, needed = ((*(float(v) for v in a), *(float(v) for v in b)) for a, b in ((low, high), (low_wide, high_wide)))
    return Rect(*held), Rect(*needed)


def _spots(low: float, high: float, wish: float, size: float, scene: Scene, base: _Base, axis: int) -> FloatArray:
    """Return starts of a crop's side along an axis: even ones, the wished one, those flush with what is unwanted."""
    found: list[FloatArray] = [np.linspace(low, high, _PLACES), np.array([wish])]
    if base.still:
        c, u = float(base.centre[0, axis]), float(base.unit[0])
        edges = (scene.bounds.x0, scene.bounds.x1) if axis == 0 else (scene.bounds.y0, scene.bounds.y1)
        low, high = max(low, (edges[0] - c) / u), min(high, (edges[1] - c) / u - size)
    blocks = (scene.unwanted[None], scene.margins[None], scene.usual[None], _grown(_seen(scene, base), _BESIDE))
    for block in blocks:
        local = (block[..., axis::2] - base.centre[:, None, axis, None]) / base.unit[:, None, None]
        if local.size:
            # Flush with the block at the time when it comes nearest.
            found += [np.nanmax(local[..., 1], axis=0) + _CLEAR, np.nanmin(local[..., 0], axis=0) - size - _CLEAR]
    spots = np.concatenate(found)
    spots = spots[np.isfinite(spots)]
    return np.unique(np.clip(spots, low, max(low, high)))


def _placed(candidates: FloatArray, base: _Base, b: Rect, aspect: float | None) -> FloatArray:
    """Return rectangles [c, n, 4] (edges, pixels) of candidates (x, y, w, h in units), moved into the bounds."""
    unit = base.unit[None, :]
    w, h = candidates[:, 2:3] * unit, candidates[:, 3:4] * unit
    if aspect is not None:
        fit = np.minimum(1.0, np.minimum(b.h / h, b.w / w))
        w, h = w * fit, h * fit
    else:
        w, h = np.minimum(w, b.w), np.minimum(h, b.h)
    x = np.clip(base.centre[None, :, 0] + candidates[:, 0:1] * unit, b.x0, np.maximum(b.x0, b.x1 - w))
    y = np.clip(base.centre[None, :, 1] + candidates[:, 1:2] * unit, b.y0, np.maximum(b.y0, b.y1 - h))
    return np.stack([x, y, x + w, y + h], axis=-1)


def _path(rects: FloatArray, base: _Base) -> CropPath:
    x0, y0, x1, y1 = rects.T
    return CropPath(np.column_stack([base.places / GRID_HZ, x0, y0, x1 - x0, y1 - y0]))


def _dirt(scene: Scene, base: _Base, rects: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return, for each candidate, the share of it that must not be seen, and the cost of what had better not be."""
    area = (rects[..., 2] - rects[..., 0]) * (rects[..., 3] - rects[..., 1])
    others = _seen(scene, base)

    def share(boxes: FloatArray) -> FloatArray:
        """Summed overlaps of [t or 1, m, 4] over the crop's area, at their most over time."""
        if not boxes.shape[1]:
            return np.zeros(len(rects))
        found = np.zeros(area.shape)
        for i in range(boxes.shape[1]):
            found += overlap(rects, boxes[None, :, i])
        return np.asarray((found / area).max(axis=1))

    faces = share(_grown(others, _BESIDE))
    dirt = share(scene.unwanted[None]) + faces
    usual = share(scene.usual[None]) + share(scene.margins[None])
    soft = np.where(usual > 0, _UNWANTED + _UNWANTED_AREA * usual, 0) + _NEAR * share(_grown(others, _HAIR))
    return np.where(dirt > 1e-9, dirt, 0.0), soft


def _seen(scene: Scene, base: _Base) -> FloatArray:
    """Return other faces [t, m, 4] around each of the base's places; nan where one is not seen then."""
    if base.still:
        return _over_time(scene.others)[None]
    # All that is seen between the middles of the knots before and after.
    edges = [0, *((base.places[1:] + base.places[:-1]) // 2), len(scene.others)]
    return np.stack([_over_time(scene.others[max(0, a - 1) : b + 1], keep=True) for a, b in pairwise(edges)])


def overlap(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return the area that rectangles [..., 4] (edges) share; 0 where one is nan."""
    w = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0])
    h = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1])
    return np.where((w > 0) & (h > 0), w * h, 0.0)


def _over_time(others: FloatArray, keep: bool = False) -> FloatArray:
    """Return [m, 4] around all places of each other face; one never seen is nan with `keep`, else left out."""
    if not others.size:
        return np.zeros((others.shape[1] if keep else 0, 4))
    seen = np.isfinite(others[..., :1])
    low = np.where(seen, others[..., :2], np.inf).min(axis=0)
    high = np.where(seen, others[..., 2:], -np.inf).max(axis=0)
    out = np.concatenate([low, high], axis=1)
    out[~np.isfinite(out)] = np.nan
    return out if keep else out[np.isfinite(out).all(axis=1)]


def _grown(boxes: FloatArray, share: float) -> FloatArray:
    """Return boxes [..., 4] grown at each side by a share of their size."""
    by = share * (boxes[..., 2:] - boxes[..., :2])
    return np.concatenate([boxes[..., :2] - by, boxes[..., 2:] + by], axis=-1)
