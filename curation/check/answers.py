"""Answers for one measured file: is it in sync, who speaks when, who is seen. Each is SQL over the tables of a run."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.dataset import Dataset, DatasetError
from schemas import tables as t


@dataclass(frozen=True, slots=True)
class FaceSync:
    """One face's lips against the sound; times in s, centre as shares of the picture, nulls where nothing is known."""

    person: str
    start_s: float
    end_s: float
    center_x: float
    center_y: float
    face_px: float
    offset_ms: float | None
    confidence: float | None
    own_voice: float | None
    evidence_s: float
    method: str


@dataclass(frozen=True, slots=True)
class SyncAnswer:
    """The face whose own voice is the most surely heard, or none, and all faces."""

    best: FaceSync | None
    faces: list[FaceSync]


@dataclass(frozen=True, slots=True)
class Run:
    """A stretch of one state."""

    person: str
    start_s: float
    end_s: float
    state: str
    reason: str
    confidence: float
    partner: str | None


@dataclass(frozen=True, slots=True)
class PersonStates:
    """One person's states over time, and the seconds of each."""

    person: str
    seconds: dict[str, float]
    runs: list[Run]


@dataclass(frozen=True, slots=True)
class Place:
    """Where and when a person is seen: one track."""

    track: str
    start_s: float
    end_s: float
    center_x: float
    center_y: float
    face_px: float


@dataclass(slots=True)
class Person:
    """Somebody who is seen."""

    person: str
    seen_s: float
    places: list[Place]
    method: str
    portrait: str | None = None
    """file of a picture, where one was asked for"""


_SYNC = """
SELECT right(t.track_id, 5) AS person, t.start_s, t.end_s, t.center_x, t.center_y, t.median_face_px AS face_px,
  y.offset_ms, y.confidence, y.own_voice, y.evidence_s, y.annotator AS method
FROM tracks t JOIN sync y USING (track_id) ORDER BY y.evidence_s DESC, t.track_id
"""
_STATES = """
SELECT right(l.track_id, 5) AS person, l.start_s, l.end_s, l.state, l.reason, l.confidence, l.partner
FROM timeline l ORDER BY l.track_id, l.start_s
"""
_PEOPLE = """
SELECT i.identity_id, i.annotator, right(t.track_id, 5), t.start_s, t.end_s, t.center_x, t.center_y, t.median_face_px
FROM tracks t JOIN track_identities i USING (track_id) ORDER BY t.start_s, t.track_id
"""
_PORTRAITS = """
SELECT i.identity_id, arg_max(p.image, coalesce(g.quality, -1)) FROM portraits p JOIN tracklets l USING (tracklet_id)
JOIN track_identities i ON i.track_id = l.track_id
LEFT JOIN face_embeddings g ON g.track_id = l.track_id AND g.k = p.k GROUP BY 1
"""


def sync(dataset: Dataset) -> SyncAnswer:
    """Return offset and confidence of each face, and the one that answers for the file."""
    faces = [FaceSync(*row) for row in _rows(dataset, _SYNC)]
    told = [f for f in faces if f.offset_ms is not None]
    return SyncAnswer(max(told, key=lambda f: ((f.own_voice or 0) >= 0.5, f.evidence_s), default=None), faces)


def states(dataset: Dataset) -> list[PersonStates]:
    """Return each person's runs of speak, listen, idle, both or discard."""
    people: dict[str, PersonStates] = {}
    for run in (Run(*row) for row in _rows(dataset, _STATES)):
        of = people.setdefault(run.person, PersonStates(run.person, {}, []))
        of.runs.append(run)
        of.seconds[run.state] = of.seconds.get(run.state, 0.0) + run.end_s - run.start_s
    return list(people.values())


def people(dataset: Dataset, portraits: Path | None = None) -> list[Person]:
    """Return who is seen, those seen longest first; one portrait file each where a folder is named."""
    found: dict[str, Person] = {}
    for identity_id, method, *place in _rows(dataset, _PEOPLE):
        person = found.setdefault(identity_id, Person(identity_id, 0.0, [], method))
        person.places.append(Place(*place))
        person.seen_s += person.places[-1].end_s - person.places[-1].start_s
    if portraits is not None:
        portraits.mkdir(parents=True, exist_ok=True)
        for identity_id, image in _rows(dataset, _PORTRAITS):
            if identity_id in found and image is not None:
                file = portraits / f"{identity_id}.jpg"
                file.write_bytes(image)
                found[identity_id].portrait = str(file)
    return sorted(found.values(), key=lambda p: (-p.seen_s, p.person))


def refuse_unreadable(dataset: Dataset) -> None:
    """Raise DatasetError with the reason where the file could not be read or measured."""
    errors = t.ERRORS.rows(dataset.table(t.ERRORS))
    for e in errors:
        if e.unit_id == e.source_id:
            raise DatasetError(e.message)


def _rows(dataset: Dataset, sql: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(dataset.connect()) as con:
        rows: list[tuple[Any, ...]] = con.execute(sql).fetchall()
        return rows
