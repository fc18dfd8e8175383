"""Does every id name something that is there? In SQL, slice by slice; ids of other sources are looked up by source."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import duckdb

from curation.dataset import Dataset
from curation.pack.splits import WITHHELD
from curation.verify.few import Few
from curation.verify.part import Part, drawn
from schemas import tables as t
from schemas.column import Column
from schemas.table import Table
from schemas.tables.output import ManifestRow
from schemas.tables.pairing import SegmentRow
from schemas.tables.people import IdentityRow, ReferenceRow
from schemas.tables.registry import InputRow, SourceRow
from schemas.tables.sessions import SessionPairRow
from schemas.tables.speech import SpeakerRow
from schemas.tables.tracks import ShotRow, TrackRow

Place = tuple[Table[Any], Column[Any]]

_NAMED_BY: tuple[tuple[Place, tuple[Place, ...]], ...] = (
    (
        (t.INPUTS, InputRow.source_id),
        (
            (t.SESSIONS, t.SESSIONS.row.source_id),
            *((x, x.row.source_id) for x in t.LABEL_TABLES),
            (t.AUDITS, t.AUDITS.row.source_id),
            (t.IDENTITY_REGISTRY, t.IDENTITY_REGISTRY.row.source_id),
            (t.IDENTITY_DECISIONS, t.IDENTITY_DECISIONS.row.source_id),
            (t.SPLITS, t.SPLITS.row.source_id),
            (t.MANIFEST, t.MANIFEST.row.source_id),
            (t.DECISIONS, t.DECISIONS.row.source_id),
        ),
    ),
    ((t.SOURCES, SourceRow.source_id), ((t.SHOTS, t.SHOTS.row.source_id),)),
    (
        (t.SHOTS, ShotRow.shot_id),
        ((t.TRACKS, t.TRACKS.row.shot_id), (t.SEGMENTS, t.SEGMENTS.row.shot_id)),
    ),
    (
        (t.TRACKS, TrackRow.track_id),
        (
            (t.TRACKLETS, t.TRACKLETS.row.track_id),
            (t.SEGMENTS, t.SEGMENTS.row.track_id),
            (t.SEGMENTS, t.SEGMENTS.row.partner_track_id),
            (t.SESSION_PAIRS, t.SESSION_PAIRS.row.session_partner_track_id),
            (t.TIMELINE, t.TIMELINE.row.track_id),
            (t.ASD_FRAMES, t.ASD_FRAMES.row.track_id),
            (t.BINDINGS, t.BINDINGS.row.track_id),
            (t.FACE_EMBEDDINGS, t.FACE_EMBEDDINGS.row.track_id),
            (t.REFERENCES, t.REFERENCES.row.ref_track_id),
            (t.TRACK_IDENTITIES, t.TRACK_IDENTITIES.row.track_id),
        ),
    ),
    (
        (t.SPEAKERS, SpeakerRow.speaker_id),
        (
            (t.TURNS, t.TURNS.row.speaker_id),
            (t.WORDS, t.WORDS.row.speaker_id),
            (t.VOICES, t.VOICES.row.diarized_as),
        ),
    ),
    (
        (t.VOICES, t.VOICES.row.speaker_id),
        ((t.VOICE_TURNS, t.VOICE_TURNS.row.speaker_id), (t.BINDINGS, t.BINDINGS.row.speaker_id)),
    ),
    (
        (t.SEGMENTS, SegmentRow.segment_id),
        (
            (t.SESSION_PAIRS, t.SESSION_PAIRS.row.segment_id),
            (t.BODY_FRAMES, t.BODY_FRAMES.row.segment_id),
            (t.BODIES, t.BODIES.row.segment_id),
            (t.CAPTIONS, t.CAPTIONS.row.segment_id),
            (t.CLIPS, t.CLIPS.row.segment_id),
            (t.REFERENCES, t.REFERENCES.row.segment_id),
            (t.MANIFEST, t.MANIFEST.row.segment_id),
        ),
    ),
    (
        (t.IDENTITIES, IdentityRow.identity_id),
        ((t.TRACK_IDENTITIES, t.TRACK_IDENTITIES.row.identity_id),),
    ),
)
"""Of each table that has ids, where they are named."""

_ACROSS = {SegmentRow.partner_track_id, SessionPairRow.session_partner_track_id, ReferenceRow.ref_track_id}
"""Columns that may name what is of another source."""


def orphans(dataset: Dataset, of: Part | None = None) -> Iterator[str]:
    """Say which ids name nothing, and which people are in two splits."""
    tables = list(dict.fromkeys(table for (there, _), named in _NAMED_BY for table in (there, *(x for x, _ in named))))
    lost: dict[tuple[Place, Place], Few] = {}
    slices = {str(i): part for i, part in enumerate(dataset.slices())}
    for part in (slices[i] for i in drawn(of, "slices of tables", slices)):
        with contextlib.closing(dataset.connect(tables=tables, part=part)) as con:
            for there, named in _NAMED_BY:
                for place in named:
                    ids = _lost(con, place, there)
                    if ids and place[1] in _ACROSS:
                        ids = _nowhere(dataset, ids, there)
                    sentence = f"{place[0].name}.{place[1].name} {{}} has no row in {there[0].name}"
                    lost.setdefault((place, there), Few(sentence)).add(ids)
    for few in lost.values():
        yield from few.said()
    yield from _in_two_splits(dataset)


def _lost(con: duckdb.DuckDBPyConnection, place: Place, there: Place) -> list[str]:
    (table, column), (other, key) = place, there
    ids = f'SELECT DISTINCT "{column.name}" AS id FROM "{table.name}"'
    sql = f'SELECT id FROM ({ids}) ANTI JOIN "{other.name}" ON "{key.name}" = id WHERE id <> \'\' ORDER BY 1'
    return [str(i) for (i,) in con.execute(sql).fetchall()]


def _nowhere(dataset: Dataset, ids: list[str], there: Place) -> list[str]:
    """Return the ids that are not in their own sources' tables either."""
    table, key = there
    with contextlib.closing(dataset.connect(tables=[table], sources={i[:16] for i in ids})) as con:
        sql = f'SELECT "{key.name}" FROM "{table.name}" WHERE list_contains(?, "{key.name}")'
        known = {i for (i,) in con.execute(sql, [ids]).fetchall()}
    return [i for i in ids if i not in known]


def _in_two_splits(dataset: Dataset) -> Iterator[str]:
    identity, split = ManifestRow.identity_id.name, ManifestRow.split.name
    sql = (
        f"SELECT {identity} FROM {t.MANIFEST.name} SEMI JOIN {t.IDENTITIES.name} USING ({identity}) "
        f"WHERE {split} <> '{WITHHELD}' GROUP BY 1 HAVING count(DISTINCT {split}) > 1 ORDER BY 1"
    )
    for (person,) in dataset.query(sql).fetchall():
        yield f"identity {person} is in two splits"
