"""What goes into each packed sample: a kept segment joined with everything that the tables hold of it.

No media is read. The joins are DuckDB's, slice by slice; a few thousand samples are in memory at once.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar, cast, get_args

import duckdb

from curation.dataset import Dataset
from curation.decisions.survey import slices
from curation.labels.apply import said_words
from curation.pack.splits import WITHHELD, split_of
from curation.storage.batches import batches
from schemas import tables as t
from schemas.packed import Part
from schemas.samples import sample as s
from schemas.samples.members import FIRST
from schemas.table import Column, Row, Table
from schemas.tables.output import ClipRow
from schemas.tables.pairing import SegmentRow, TimelineRow
from schemas.tables.people import ReferenceRow
from schemas.tables.performance import EventRow
from schemas.tables.plans import ClipPlanRow
from schemas.tables.sessions import SessionPairRow
from schemas.tables.speech import WordRow
from schemas.time import PACKED_AUDIO_HZ
from schemas.units import packed_columns

R = TypeVar("R", bound=Row)


class PackError(RuntimeError):
    """Samples cannot be gathered; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A kept segment with everything that goes into its sample, except the bytes."""

    sample: s.Sample
    uri: str
    clip_file: str
    refs: tuple[tuple[str, str, str, int, tuple[float, ...]], ...]
    """(name, source_id, track_id, grid index, part of the portrait) of each reference image, `ref.jpg` first"""


BATCH = 2000
"""Kept segments whose samples are put together at once."""


class Side(Protocol):
    """A kept segment of an exchange."""

    @property
    def pair_id(self) -> str | None:
        """The exchange."""

    @property
    def track_id(self) -> str:
        """Whose side it is."""


class PairedSide(Side, Protocol):
    """A kept segment that says who is on the other side."""

    @property
    def partner_track_id(self) -> str | None:
        """The other person's face."""


@dataclass(frozen=True, slots=True)
class OtherSide:
    """A kept segment of another source, in an exchange across files."""

    pair_id: str
    track_id: str


def kept_entries(dataset: Dataset, identities: Mapping[str, dict[str, str]], policy_id: str) -> Iterator[Entry]:
    """Yield the samples of the segments that the ledger keeps, in order of id, each with the files of its bytes.

    `identities` are the stages' back-ends and weights' hashes, written into every sample. Raises PackError where a kept
    segment has no encoded clip or is in state `discard`.
    """
    _refuse_discarded(dataset)
    older: dict[str, str] | None = None
    if not dataset.files(t.SPLITS):  # before splits had their own table
        sql = "SELECT identity_id, coalesce(nullif(split, ''), 'train') FROM identities"
        older = dict(dataset.query(sql).fetchall())
    tables = {**_joined(), **{table: unit.id for unit, table, _ in packed_columns()}}
    with contextlib.closing(dataset.connect(tables=[t.SESSION_PAIRS, t.DECISIONS])) as everywhere:
        for part in dataset.slices():
            with contextlib.closing(dataset.connect(tables=[t.DECISIONS, *tables], part=part)) as con:
                for sources in _gathered(con, tables):
                    rows = _Rows(con, sources)
                    others = _other_sides(everywhere, rows.of(t.SESSION_PAIRS))
                    joined = _Joined(rows, others, older, identities, policy_id)
                    yield from [joined.entry(seg) for seg in joined.segments]


def _joined() -> dict[Table, str]:
    """Return the tables that samples are made of, beside packed columns, and the id that each is joined on."""
    segments = (t.SEGMENTS, t.SESSION_PAIRS, t.CLIPS, t.CLIP_PLANS, t.REFERENCES, t.EVENTS)
    sources = (t.SOURCES, t.INPUTS, t.SPLITS, t.AUDIO, t.TRACK_IDENTITIES, t.WORDS, t.WORD_LABELS, t.TIMELINE)
    return {**dict.fromkeys(segments, "segment_id"), **dict.fromkeys(sources, "source_id")}


def _refuse_discarded(dataset: Dataset) -> None:
    unusable: list[str] = []
    n = 0
    for _, con in slices(dataset):
        sql = (
            "SELECT count(*), min(segment_id) FROM segments JOIN decisions ON unit_id = segment_id "
            "WHERE unit = 'segments' AND outcome = 'kept' AND state = 'discard'"
        )
        ((count, first),) = con.execute(sql).fetchall()
        n += count
        unusable += [first] if count else []
    if unusable:
        raise PackError(
            f"the policy keeps {n} segments in state 'discard', such as {unusable[0]}, which are nobody's "
            "performance: add a rule on segments that keeps \"state <> 'discard'\""
        )


def _gathered(con: duckdb.DuckDBPyConnection, tables: Mapping[Table, str]) -> Iterator[list[str]]:
    """Take what kept segments need of every table into memory; yield sources in order, some segments' worth at once."""
    con.execute(
        "CREATE TEMP TABLE kept AS SELECT segment_id, s.track_id, s.shot_id, s.source_id, s.source_id AS kept_source "
        "FROM segments s JOIN decisions ON unit_id = segment_id WHERE unit = 'segments' AND outcome = 'kept'"
    )
    for table, key in tables.items():
        con.execute(
            f'CREATE TEMP TABLE of_{table.name} AS SELECT x.*, kept_source FROM "{table.name}" x '
            f"JOIN (SELECT DISTINCT {key}, kept_source FROM kept) USING ({key})"
        )
    counts = con.execute("SELECT kept_source, count(*) FROM kept GROUP BY 1 ORDER BY 1").fetchall()
    yield from batches(((str(s), float(n)) for s, n in counts), BATCH)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of some neighbouring sources, of every table that was gathered."""

    con: duckdb.DuckDBPyConnection
    sources: list[str]
    _read: dict[str, list[Any]] = field(default_factory=dict)

    def of(self, table: Table[R]) -> list[R]:
        """Return a table's rows, in order of its key."""
        if table.name not in self._read:
            self._read[table.name] = self._of(table)
        return self._read[table.name]

    def many(self, table: Table[R], column: str) -> dict[str, list[R]]:
        """Return a table's rows by what a column holds."""
        out: dict[str, list[R]] = defaultdict(list)
        for row in self.of(table):
            out[str(row[column])].append(row)
        return out

    def one(self, table: Table[R]) -> dict[str, R]:
        """Return a table's rows by the one column of its key."""
        return {str(row[table.key[0]]): row for row in self.of(table)}

    def _of(self, table: Table[R]) -> list[R]:
        columns, keys = ", ".join(f'"{c}"' for c in table.column_names), ", ".join(table.key)
        sql = f"SELECT {columns} FROM of_{table.name} WHERE kept_source BETWEEN ? AND ? ORDER BY {keys}"
        found = self.con.sql(sql, params=[self.sources[0], self.sources[-1]])
        return table.rows(found.to_arrow_table())


def _other_sides(everywhere: duckdb.DuckDBPyConnection, rows: Iterable[SessionPairRow]) -> list[OtherSide]:
    """Return all kept segments, of any source, in the exchanges across files of some."""
    # An older version's rows may lack it.
    ids = sorted({r.session_pair_id for r in rows if r.session_pair_id is not None})
    if not ids:
        return []
    sql = (
        "SELECT DISTINCT session_pair_id, regexp_replace(segment_id, '-[0-9]+$', '') FROM session_pairs "
        "JOIN decisions ON unit_id = segment_id "
        "WHERE unit = 'segments' AND outcome = 'kept' AND list_contains(?, session_pair_id)"
    )
    return [OtherSide(p, track) for p, track in everywhere.execute(sql, [ids]).fetchall()]


Measured = Mapping[Part, Mapping[Column[Any], object]]
"""Values of packed columns by the part of the sample that takes them."""


def _measured(rows: _Rows) -> Callable[[SegmentRow], Measured]:
    """Return what gives the packed columns of a segment: from its own rows and those of its track, shot and source."""
    columns = list(packed_columns())
    by_unit = {
        table: {str(r[unit.id]): r for r in rows.of(table)}
        for table, unit in {table: unit for unit, table, _ in columns}.items()
    }

    def of(segment: SegmentRow) -> Measured:
        out: dict[Part, dict[Column[Any], object]] = {part: {} for part in get_args(Part)}
        for unit, table, column in columns:
            row = by_unit[table].get(str(segment[unit.id]))
            value = None if row is None else row[column.name]
            if column.packed is not None:
                out[column.packed.part][column] = column.absent if value is None else value
        return out

    return of


class _Joined:
    """Kept segments of some sources, and all that goes into their samples by the id that it is looked up by."""

    def __init__(
        self,
        rows: _Rows,
        others: Sequence[OtherSide],
        older: Mapping[str, str] | None,
        identities: Mapping[str, dict[str, str]],
        policy_id: str,
    ) -> None:
        across = rows.one(t.SESSION_PAIRS)
        self.segments = sorted((across_files(r, across) for r in rows.of(t.SEGMENTS)), key=lambda r: r.segment_id)
        self._sources, self._audio = rows.one(t.SOURCES), rows.one(t.AUDIO)
        self._inputs = {r.source_id: r for r in reversed(rows.of(t.INPUTS))}  # of several paths the first
        self._clips, self._plans, self._people = rows.one(t.CLIPS), rows.one(t.CLIP_PLANS), rows.one(t.TRACK_IDENTITIES)
        self._splits = {source: split_of(r) for source, r in rows.one(t.SPLITS).items()}
        heard, fixed = rows.many(t.WORDS, "source_id"), rows.many(t.WORD_LABELS, "source_id")
        self._words = {sid: said_words(heard[sid], fixed[sid]) for sid in {r.source_id for r in self.segments}}
        self._runs = rows.many(t.TIMELINE, "track_id")
        self._refs, self._seen = rows.many(t.REFERENCES, "segment_id"), rows.many(t.EVENTS, "segment_id")
        self._sides, self._measured = kept_sides([*self.segments, *others]), _measured(rows)
        self._older, self._identities, self._policy_id = older, identities, policy_id

    def entry(self, seg: SegmentRow) -> Entry:
        """Return a segment's sample with the files of its bytes. Raises PackError."""
        clip = self._clips.get(seg.segment_id)
        if clip is None:
            raise PackError(f"kept segment {seg.segment_id} has no encoded clip; run `lpm run` again to encode it")
        refs = named(self._refs[seg.segment_id])
        keys = tuple((name, r.ref_source_id, r.ref_track_id, r.ref_k, tuple(r.part_xywh)) for name, r in refs)
        return Entry(self._sample(seg, clip, refs), self._inputs[seg.source_id].path, clip.file, keys)

    def _sample(self, seg: SegmentRow, clip: ClipRow, refs: list[tuple[str, ReferenceRow]]) -> s.Sample:
        sid, parts = seg.source_id, self._measured(seg)
        given, audio = self._inputs[sid], self._audio.get(sid)
        identity = self._people[seg.track_id].identity_id if seg.track_id in self._people else ""
        return s.Sample(
            sample_id=seg.segment_id,
            state=cast(s.State, seg.state),
            category=seg.category,
            split=self._splits.get(sid, WITHHELD) if self._older is None else self._older.get(identity, "train"),
            identity_id=identity,
            text=seg.text,
            language=None if audio is None else audio.language,
            source=s.SourceRef(
                source_id=sid, sha256=self._sources[sid].sha256, name=given.name, start_s=seg.start_s,
                end_s=seg.end_s, shot_id=seg.shot_id, track_id=seg.track_id, session=given.session,
            ),
            rights=s.Rights(license=given.license, rights_holder=given.rights_holder, consent=given.consent),
            video=_video(clip, seg, self._plans.get(seg.segment_id)),
            audio=s.Audio.of(
                parts["audio"], rate_hz=PACKED_AUDIO_HZ, n_samples=clip.n_audio_samples, shift_ms=clip.audio_shift_ms
            ),
            words=[_word(w, seg) for w in self._words[sid] if w.word is not None and _middle_inside(w, seg)],
            states=[_run(r, seg) for r in self._runs[seg.track_id] if _during(r, seg)],
            events=[_event(e, seg) for e in self._seen[seg.segment_id] if _during(e, seg)],
            partner=seg.partner,
            partner_track_id=seg.partner_track_id,
            pair_id=seg.pair_id,
            pair_status=pair_status(seg, self._sides),
            performance=s.Performance.of(parts["performance"]),
            references=[_reference(name, r) for name, r in refs],
            scores=s.Scores.of(parts["scores"], state_confidence=seg.confidence),
            annotators=dict(self._identities),
            policy_id=self._policy_id,
        )  # fmt: skip


def _video(clip: ClipRow, segment: SegmentRow, plan: ClipPlanRow | None) -> s.Video:
    return s.Video(
        width=clip.width,
        height=clip.height,
        fps=s.FPS,
        n_frames=clip.n_frames,
        crop_xywh=clip.crop_xywh,
        median_face_px=segment.median_face_px,
        crop_path=_knots(plan),
        framing=plan.framing if plan else "",
    )


def _knots(plan: ClipPlanRow | None) -> list[list[float]]:
    """Return the crop's knots where it moves."""
    flat = [round(float(v), 3) for v in plan.crop_path] if plan is not None and plan.crop_moves else []
    return [flat[i : i + 5] for i in range(0, len(flat), 5)]


def across_files(seg: SegmentRow, across: Mapping[str, SessionPairRow]) -> SegmentRow:
    """Return a segment with the partner and exchange that its session's other files give it, where they do."""
    row = across.get(seg.segment_id)
    if row is None:
        return seg
    # One file alone cannot tell a silent listener's dialogue from a narration; the other file can.
    heard = seg.category == "Listen_nondialogue" and row.session_partner_track_id is not None
    return seg.but(
        partner=row.session_partner, partner_track_id=row.session_partner_track_id, pair_id=row.session_pair_id,
        category="Listen_dialogue" if heard else seg.category,
    )  # fmt: skip


PairStatus = Literal["paired", "orphan", "off_screen"]


def kept_sides(segments: Iterable[Side]) -> dict[str, set[str]]:
    """Return, per pair id, the tracks with a kept segment in that exchange."""
    out: dict[str, set[str]] = defaultdict(set)
    for seg in segments:
        if seg.pair_id is not None:
            out[seg.pair_id].add(seg.track_id)
    return out


def pair_status(seg: PairedSide, sides: Mapping[str, set[str]]) -> PairStatus | None:
    """Say whether the other side of a kept segment's exchange is kept too; None without an exchange."""
    if seg.pair_id is None:
        return None
    if sides[seg.pair_id] - {seg.track_id}:
        return "paired"
    return "orphan" if seg.partner_track_id is not None else "off_screen"


def _during(r: TimelineRow | EventRow, seg: SegmentRow) -> bool:
    return r.start_s < seg.end_s and r.end_s > seg.start_s


def _middle_inside(word: WordRow, seg: SegmentRow) -> bool:
    return seg.start_s <= (word.start_s + word.end_s) / 2 < seg.end_s


def _word(w: WordRow, seg: SegmentRow) -> s.WordRef:
    start, end = (round(at - seg.start_s, 3) for at in (w.start_s, w.end_s))
    return s.WordRef(word=w.word or "", start_s=start, end_s=end, probability=w.probability, speaker_id=w.speaker_id)


def _run(r: TimelineRow, seg: SegmentRow) -> s.StateRun:
    start = max(0.0, r.start_s - seg.start_s)
    end = min(seg.end_s, r.end_s) - seg.start_s
    return s.StateRun(
        state=r.state, start_s=round(start, 3), end_s=round(end, 3), confidence=r.confidence, reason=r.reason
    )


def _event(e: EventRow, seg: SegmentRow) -> s.EventRef:
    start, end = max(0.0, e.start_s - seg.start_s), min(seg.end_s, e.end_s) - seg.start_s
    return s.EventRef(
        event=e.event, kind=e.kind, start_s=round(start, 3), end_s=round(end, 3), confidence=e.confidence,
        direction=e.direction,
    )  # fmt: skip


def named(rows: Iterable[ReferenceRow]) -> list[tuple[str, ReferenceRow]]:
    """Return references with their names: one that stands for the person in general first, where there is one."""
    ordered = sorted(rows, key=lambda r: (r.kind != "global", r.kind, r.n))
    return [(f"ref_{r.kind}_{r.n}.jpg" if i else FIRST, r) for i, r in enumerate(ordered)]


def _reference(name: str, r: ReferenceRow) -> s.ReferenceRef:
    return s.ReferenceRef(
        member=name, kind=cast(s.ReferenceKind, r.kind), source_id=r.ref_source_id, time_s=r.ref_t_s,
        distance=r.distance, view=r.view, expression=r.expression, quality=r.quality, overlaps_clip=r.overlaps_clip,
    )  # fmt: skip
