"""Which images of a person go beside one clip: global, views, expressions. Pure.

Images outside the clip come before images inside it, clean ones before ones with burnt-in text, verified ones before
doubtful ones, whole ones before those from which text was cut off, good ones before poor ones; only the global one may
lie in the clip or hold text, where there is no other, and a clean one in the clip is better than much text. No image is
given twice, and two from one track lie some time apart unless they show another view or expression. Expressions are
those that a person would name so, and of two kinds at least: one alone shows no range. Costs about a tenth of a
millisecond a segment: a person's pool is cut down once, not looked through each time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from annotators.face.views import FRONTAL_LEAST_DEG
from schemas.time import Interval

Kind = Literal["global", "view", "expression"]

NAMED = {"neutral": "neutral", "smile": "smile", "open_smile": "smile", "surprise": "surprise", "frown": "frown"}
"""Expressions that serve as references, and the kind each is of. An open mouth is speech and closed eyes are mostly a
blink; neither would be named an expression."""
_MIN_EXPRESSIONS = 2
MAX_TEXT = 0.005
"""Share of an image under text from which the text counts: a tenth of its width, a twentieth of its height."""
_MUCH_TEXT = 0.05
"""And from which an image of the clip itself is the better reference: a line of captions over a third of the width."""


@dataclass(frozen=True, slots=True)
class Image:
    """One portrait of a person; `t_s` is on its source's clock, `distance` is to the person's mean embedding."""

    source_id: str
    track_id: str
    k: int
    t_s: float
    distance: float
    quality: float
    yaw_deg: float | None
    view: str
    expression: str
    expression_score: float
    text_area: float | None = None
    part_xywh: tuple[float, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether no burnt-in text was found in it."""
        return self.text_area is None or self.text_area <= MAX_TEXT

    @property
    def covered(self) -> bool:
        """Whether so much text lies over it that it shows text and not a person."""
        return self.text_area is not None and self.text_area > _MUCH_TEXT

    @property
    def key(self) -> tuple[str, int]:
        """What makes an image that image."""
        return self.track_id, self.k


@dataclass(frozen=True, slots=True)
class Rules:
    """Limits of the choice; see the stage's settings."""

    max_distance: float
    min_gap_s: float
    clip_margin_s: float
    max_views: int
    max_expressions: int
    min_expression_score: float


@dataclass(frozen=True, slots=True)
class Clip:
    """The segment that images are chosen for."""

    source_id: str
    track_id: str
    span: Interval


def inside(image: Image, clip: Clip) -> bool:
    """Say whether an image lies in the clip's own time and source (whoever's track it is)."""
    return image.source_id == clip.source_id and clip.span.contains(image.t_s)


def nearness(image: Image, clip: Clip, margin_s: float) -> int:
    """Return 2 for an image inside the clip, 1 for one within `margin_s` of it, which shows nearly the same, else 0."""
    if inside(image, clip):
        return 2
    gap_s = max(clip.span.start_s - image.t_s, image.t_s - clip.span.end_s)
    return int(image.source_id == clip.source_id and gap_s < margin_s)


def pool(images: Iterable[Image], rules: Rules, per_label: int = 24) -> list[Image]:
    """Cut a person's images down to the best `per_label` of each (view, expression), spread over tracks.

    Images beyond `rules.max_distance` are left out unless nothing else is there.
    """
    everything = list(images)
    verified = [i for i in everything if i.distance <= rules.max_distance] or everything
    by_label: dict[tuple[str, str], dict[str, list[Image]]] = defaultdict(lambda: defaultdict(list))
    for image in sorted(verified, key=_rank):
        by_label[image.view, image.expression][image.track_id].append(image)
    kept: list[Image] = []
    for tracks in by_label.values():
        # Round-robin over tracks: the best of each, then the second best, ...
        turns = sorted((n, _rank(image), image) for found in tracks.values() for n, image in enumerate(found))
        kept += [image for _, _, image in turns[:per_label]]
    return sorted(kept, key=_rank)


def choose(clip: Clip, own: Sequence[Image], person: Sequence[Image], rules: Rules) -> list[tuple[Kind, Image]]:
    """Return the references of one clip in order: the global one, then views, then expressions.

    Args:
        clip: the segment.
        own: all images of the clip's own track.
        person: the person's pool (see `pool`), any track.

    Returns an empty list only when there is no image at all.
    """
    known = {i.key: i for i in [*person, *own]}
    sure = [i for i in known.values() if i.distance <= rules.max_distance]
    # The clip's own track shows the right person by construction, however far an embedding lies.
    near = {i.key: nearness(i, clip, rules.clip_margin_s) for i in [*sure, *own]}
    everything = sorted(sure or own, key=lambda i: (near[i.key], *_rank(i)))
    if not everything:
        return []

    def order(i: Image) -> tuple[object, ...]:
        placed = (i.covered, near[i.key] == 2, not i.clean, near[i.key])
        return (*placed, not _faces_us(i), _eyes_shut(i), bool(i.part_xywh), *_rank(i))

    chosen: list[tuple[Kind, Image]] = [("global", min(everything, key=order))]
    candidates = [i for i in everything if near[i.key] < 2 and i.clean]
    _add(chosen, "view", candidates, [i.view for i in candidates if i.view != "unknown"], rules.max_views, rules)
    clear = [i for i in candidates if i.expression_score >= rules.min_expression_score and i.expression in NAMED]
    clear.sort(key=lambda i: (near[i.key], -i.expression_score * i.quality, i.key))
    n = len(chosen)
    _add(chosen, "expression", clear, [i.expression for i in clear], rules.max_expressions, rules)
    shown = {NAMED[i.expression] for _, i in (chosen[0], *chosen[n:]) if i.expression in NAMED}
    return chosen if len(shown) >= _MIN_EXPRESSIONS else chosen[:n]


def _add(
    chosen: list[tuple[Kind, Image]],
    kind: Kind,
    candidates: Sequence[Image],
    labels: Sequence[str],
    most: int,
    rules: Rules,
) -> None:
    """Add the first fresh candidate of each label, labels in order of their best candidate."""
    for label in list(dict.fromkeys(labels))[:most]:
        for image in candidates:
            shown = image.view if kind == "view" else image.expression
            if shown == label and all(_fresh(image, other, rules) for _, other in chosen):
                chosen.append((kind, image))
                break


def _fresh(image: Image, other: Image, rules: Rules) -> bool:
    """Say whether an image adds something beside another one."""
    if image.key == other.key:
        return False
    if image.track_id != other.track_id or abs(image.t_s - other.t_s) >= rules.min_gap_s:
        return True
    return image.view != other.view or image.expression != other.expression


def _faces_us(image: Image) -> bool:
    """Say whether body and head face the camera: a chest that does says nothing of a head turned aside, and no yaw is
    measured of a head in profile."""
    return image.view == "frontal" and image.yaw_deg is not None and abs(image.yaw_deg) <= 180.0 - FRONTAL_LEAST_DEG


def _eyes_shut(image: Image) -> bool:
    return image.expression == "eyes_closed"


def _rank(image: Image) -> tuple[float, float, tuple[str, int]]:
    """Order by quality, less what the distance takes away; ties by key."""
    return (-image.quality * (1.0 - min(1.0, image.distance)), image.distance, image.key)
