"""Truth files as one thing: who stands where in which frame and in which state, and where the cuts are.

Two forms are read. Composed footage names a `place` (full, left, right) for each person; hand-made truth of real
conversations gives the `x` (and `y`) range of each face's centre, faces that are `unsure`, and the kind and extent of
each cut. Frames are the points k / 25 s of the grid that lie in a span.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas.time import Interval, grid_range

IDLE_MIN_S = 1.0
"""Idle stretches under this length are not scored where truth was made by hand: nobody can tell them from a pause."""

SHORT_IDLE = "idle under a second"
"""Why such a stretch is not scored."""

STATES = ("speak", "listen", "idle", "discard")


@dataclass(frozen=True)
class Face:
    """One person in view: where, and in which state; `scored` False keeps the state out of the figures."""

    person: str | None
    state: str | None
    place: str = "full"
    x: tuple[float, float] | None = None
    y: tuple[float, float] | None = None
    scored: bool = True
    why: str = ""

    @property
    def expected(self) -> str | None:
        """The state to be found: who speaks while another speaks, speaks."""
        return "speak" if self.state == "both" else self.state


@dataclass(frozen=True)
class Span:
    """A stretch of a clip in which nobody's state changes; `voice` is who is heard, as the truth file says it."""

    start_s: float
    end_s: float
    faces: tuple[Face, ...]
    voice: str | None = None

    @property
    def frames(self) -> range:
        """The grid points inside."""
        return grid_range(Interval(self.start_s, self.end_s))


@dataclass(frozen=True)
class Cut:
    """A true cut: the first clean frame of the new shot, its kind, and the extent of a transition in seconds."""

    t_s: float
    kind: str
    extent: tuple[float, float]


@dataclass(frozen=True)
class Truth:
    """What is known of one video; `cuts` is None where nothing is said of them."""

    video: str
    spans: tuple[Span, ...] = ()
    cuts: tuple[Cut, ...] | None = None
    by_hand: bool = False
    whole_state: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def clip(self) -> str:
        """The video's name without its suffix."""
        return Path(self.video).stem

    def faces(self) -> Iterator[tuple[int, tuple[Face, ...]]]:
        """Yield (grid point, everybody in view there)."""
        for span in self.spans:
            for k in span.frames:
                yield k, span.faces


def read_truths(media: Path) -> dict[str, Truth]:
    """Return the truth of every video in a directory that has one, by file name."""
    out: dict[str, Truth] = {}
    for file in sorted(media.glob("*.truth.json")):
        data = json.loads(file.read_text(encoding="utf-8"))
        if "files" in data:
            for name in data["files"]:
                out[name] = Truth(name, whole_state=data["states"][name])
            continue
        base = file.name.removesuffix(".truth.json")
        videos = sorted(p for p in media.glob(f"{base}.*") if not p.name.endswith(".json"))
        if videos:
            out[videos[0].name] = parse(videos[0].name, data)
    return out


def parse(video: str, data: dict[str, Any]) -> Truth:
    """Return the truth that one file holds."""
    spans = tuple(_span(s) for s in data.get("shots", []))
    by_hand = any(f.x is not None for s in spans for f in s.faces)
    facts = {k: v for k, v in data.items() if k not in ("shots", "cuts", "cut_kinds", "cut_spans")}
    return Truth(video, without_short_idle(spans) if by_hand else spans, _cuts(data), by_hand, facts=facts)


def whole(truth: Truth, duration_s: float) -> Truth:
    """Return the truth of a file that is in one state throughout, as one span of its measured length."""
    face = Face(None, truth.whole_state)
    return Truth(truth.video, (Span(0.0, duration_s, (face,)),), whole_state=truth.whole_state)


def without_short_idle(spans: Sequence[Span]) -> tuple[Span, ...]:
    """Return the spans with everybody's idle stretches under a second taken out of the score."""
    runs: dict[str, list[list[int]]] = defaultdict(list)
    for i, span in enumerate(spans):
        for face in span.faces:
            if face.person is None or face.state != "idle" or not face.scored:
                continue
            mine = runs[face.person]
            if mine and mine[-1][-1] == i - 1:
                mine[-1].append(i)
            else:
                mine.append([i])
    short = {
        (i, person)
        for person, stretches in runs.items()
        for at in stretches
        if spans[at[-1]].end_s - spans[at[0]].start_s < IDLE_MIN_S - 1e-9
        for i in at
    }
    return tuple(
        Span(s.start_s, s.end_s, tuple(_unscored(f) if (i, f.person) in short else f for f in s.faces), s.voice)
        for i, s in enumerate(spans)
    )


def _unscored(face: Face) -> Face:
    if not face.scored or face.state != "idle":
        return face
    return Face(face.person, face.state, face.place, face.x, face.y, False, SHORT_IDLE)


def _span(data: dict[str, Any]) -> Span:
    known = [_face(p, scored=p.get("state") is not None) for p in data["people"]]
    unsure = [_face(p, scored=False) for p in data.get("unsure", [])]
    return Span(float(data["start"]), float(data["end"]), (*known, *unsure), data.get("voice"))


def _face(data: dict[str, Any], scored: bool) -> Face:
    return Face(
        data.get("person"), data.get("state"), data.get("place", "full"), _range(data, "x"), _range(data, "y"),
        scored, data.get("why", ""),
    )  # fmt: skip


def _range(data: dict[str, Any], key: str) -> tuple[float, float] | None:
    return (float(data[key][0]), float(data[key][1])) if key in data else None


def _cuts(data: dict[str, Any]) -> tuple[Cut, ...] | None:
    if "cuts" in data:
        times = [float(c) for c in data["cuts"]]
    elif "shots" in data:
        times = [float(s["start"]) for s in data["shots"][1:]]
    else:
        return None
    kinds = data.get("cut_kinds") or ["exact"] * len(times)
    spans = data.get("cut_spans") or [(c, c) for c in times]
    return tuple(Cut(c, k, (float(a), float(b))) for c, k, (a, b) in zip(times, kinds, spans, strict=True))
