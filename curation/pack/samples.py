"""What goes into each packed sample: a kept segment joined with everything that the tables hold of it.

No media is read. The joins are DuckDB's, slice by slice; a few thousand samples are in memory at once.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import duckdb

from curation.dataset import Dataset
from curation.decisions.survey import slices
from curation.pack.splits import WITHHELD, split_of
from curation.storage.batches import batches
from schemas import sample as s
from schemas import tables as t
from schemas.table import Table
from schemas.time import PACKED_AUDIO_HZ


class PackError(RuntimeError):
    """Samples cannot be gathered; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A kept segment with everything that goes into its sample, except the bytes."""

    sample: s.Sample
    clip_file: str
    refs: tuple[tuple[str, str, str, int, tuple[float, ...]], ...]
    """(member suffix, source_id, track_id, grid index, part of the portrait) of each reference image"""


BATCH = 2000
"""Kept segments whose samples are put together at once."""

_OF_SEGMENTS: tuple[Table[Any], ...] = (t.SEGMENTS, t.SESSION_PAIRS, t.CAPTIONS, t.CLIPS, t.CLIP_PLANS, t.REFERENCES)
_OF_SOURCES: tuple[Table[Any], ...] = (t.SOURCES, t.INPUTS, t.SPLITS, t.AUDIO, t.TRACK_IDENTITIES, t.WORDS, t.TIMELINE)

Rows = list[dict[str, Any]]


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
    tables: list[Table[Any]] = [t.DECISIONS, *_OF_SEGMENTS, *_OF_SOURCES]
    with contextlib.closing(dataset.connect(tables=[t.SESSION_PAIRS, t.DECISIONS])) as everywhere:
        for part in dataset.slices():
            with contextlib.closing(dataset.connect(tables=tables, part=part)) as con:
                for sources in _gathered(con):
                    rows = {table: _of(con, table, sources) for table in (*_OF_SEGMENTS, *_OF_SOURCES)}
                    others = _other_sides(everywhere, rows[t.SESSION_PAIRS])
                    yield from _entries(rows, others, older, identities, policy_id)


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


def _gathered(con: duckdb.DuckDBPyConnection) -> Iterator[list[str]]:
    """Take what kept segments need of every table into memory; yield sources in order, some segments' worth at once."""
    con.execute(
        "CREATE TEMP TABLE kept AS SELECT unit_id AS segment_id, source_id AS kept_source FROM decisions "
        "WHERE unit = 'segments' AND outcome = 'kept' ORDER BY 1"
    )
    for table in _OF_SEGMENTS:
        con.execute(
            f'CREATE TEMP TABLE of_{table.name} AS SELECT x.*, kept_source FROM "{table.name}" x '
            "JOIN kept USING (segment_id)"
        )
    for table in _OF_SOURCES:
        con.execute(
            f'CREATE TEMP TABLE of_{table.name} AS SELECT *, source_id AS kept_source FROM "{table.name}" '
            "WHERE source_id IN (SELECT kept_source FROM kept)"
        )
    counts = con.execute("SELECT kept_source, count(*) FROM kept GROUP BY 1 ORDER BY 1").fetchall()
    yield from batches(((str(s), float(n)) for s, n in counts), BATCH)


def _of(con: duckdb.DuckDBPyConnection, table: Table, sources: list[str]) -> Rows:
    """Return the rows of some neighbouring sources, in order of the table's key."""
    columns, keys = ", ".join(f'"{c}"' for c in table.column_names), ", ".join(table.key)
    sql = f"SELECT {columns} FROM of_{table.name} WHERE kept_source BETWEEN ? AND ? ORDER BY {keys}"
    rows: Rows = con.sql(sql, params=[sources[0], sources[-1]]).to_arrow_table().to_pylist()
    return rows


def _other_sides(everywhere: duckdb.DuckDBPyConnection, rows: Rows) -> Rows:
    """Return (pair_id, track_id) of all kept segments, of any source, in the exchanges across files of some."""
    ids = sorted({r["session_pair_id"] for r in rows if r["session_pair_id"] is not None})
    if not ids:
        return []
    sql = (
        "SELECT DISTINCT session_pair_id, regexp_replace(segment_id, '-[0-9]+$', '') FROM session_pairs "
        "JOIN decisions ON unit_id = segment_id "
        "WHERE unit = 'segments' AND outcome = 'kept' AND list_contains(?, session_pair_id)"
    )
    return [{"pair_id": p, "track_id": track} for p, track in everywhere.execute(sql, [ids]).fetchall()]


def _entries(
    rows: Mapping[Table, Rows],
    others: Rows,
    older: Mapping[str, str] | None,
    identities: Mapping[str, dict[str, str]],
    policy_id: str,
) -> list[Entry]:
    """Return the samples of some sources, whose rows of every table are at hand."""
    across = {r["segment_id"]: r for r in rows[t.SESSION_PAIRS]}
    segments = [across_files(r, across) for r in rows[t.SEGMENTS]]
    sources = {r["source_id"]: r for r in rows[t.SOURCES]}
    inputs = {r["source_id"]: r for r in reversed(rows[t.INPUTS])}
    audio = {r["source_id"]: r for r in rows[t.AUDIO]}
    captions = {r["segment_id"]: r for r in rows[t.CAPTIONS]}
    clips = {r["segment_id"]: r for r in rows[t.CLIPS]}
    plans = {r["segment_id"]: r for r in rows[t.CLIP_PLANS]}
    people = {r["track_id"]: r["identity_id"] for r in rows[t.TRACK_IDENTITIES]}
    splits = {r["source_id"]: split_of(r) for r in rows[t.SPLITS]}
    words, runs, refs = defaultdict(list), defaultdict(list), defaultdict(list)
    for r in rows[t.WORDS]:
        words[r["source_id"]].append(r)
    for r in rows[t.TIMELINE]:
        runs[r["track_id"]].append(r)
    for r in rows[t.REFERENCES]:
        refs[r["segment_id"]].append(r)
    sides = kept_sides([*segments, *others])
    out = []
    for seg in sorted(segments, key=lambda r: str(r["segment_id"])):
        clip = clips.get(seg["segment_id"])
        if clip is None:
            raise PackError(f"kept segment {seg['segment_id']} has no encoded clip; run `lpm run` again to encode it")
        sid, identity = seg["source_id"], people.get(seg["track_id"], "")
        mine = refs[seg["segment_id"]]
        member = {id(r): f"ref_{r['kind']}_{r['n']}.jpg" for r in mine}
        sample = s.Sample(
            sample_id=seg["segment_id"],
            state=seg["state"],
            category=seg["category"],
            split=splits.get(sid, WITHHELD) if older is None else older.get(identity, "train"),
            identity_id=identity,
            text=seg["text"],
            language=audio[sid]["language"] if sid in audio else None,
            source=s.SourceRef(
                source_id=sid, sha256=sources[sid]["sha256"], name=inputs[sid]["name"], start_s=seg["start_s"],
                end_s=seg["end_s"], shot_id=seg["shot_id"], track_id=seg["track_id"], session=inputs[sid]["session"],
            ),
            rights=s.Rights(**{k: inputs[sid][k] for k in ("license", "rights_holder", "consent")}),
            video=s.Video(
                width=clip["width"], height=clip["height"], fps=s.FPS, n_frames=clip["n_frames"],
                crop_xywh=clip["crop_xywh"], median_face_px=seg["median_face_px"],
                **_framing(plans.get(seg["segment_id"])),
            ),
            audio=s.Audio(
                rate_hz=PACKED_AUDIO_HZ, n_samples=clip["n_audio_samples"], shift_ms=clip["audio_shift_ms"],
                **{k: clip[k] for k in _SOUND_SCORES},
            ),
            words=[_word(w, seg) for w in words[sid] if w["word"] is not None and _middle_inside(w, seg)],
            states=[_run(r, seg) for r in runs[seg["track_id"]] if _overlaps(r, seg)],
            partner=seg["partner"],
            partner_track_id=seg["partner_track_id"],
            pair_id=seg["pair_id"],
            pair_status=pair_status(seg, sides),
            performance=_performance(captions.get(seg["segment_id"])),
            references=[_reference(r, member[id(r)]) for r in mine],
            scores=s.Scores(
                state_confidence=seg["confidence"], asd_mean=seg["asd_mean"], sync_offset_ms=seg["sync_offset_ms"],
                sync_confidence=seg["sync_confidence"], speech_ratio=seg["speech_ratio"],
                overlap_ratio=seg["overlap_ratio"], visible_ratio=seg["visible_ratio"],
                music=seg["music"], singing=seg["singing"], laughter=seg["laughter"], noise=seg["noise"],
            ),
            annotators=dict(identities),
            policy_id=policy_id,
        )  # fmt: skip
        keys = tuple(
            (member[id(r)], r["ref_source_id"], r["ref_track_id"], r["ref_k"], tuple(r["part_xywh"])) for r in mine
        )
        out.append(Entry(sample, clip["file"], keys))
    return out


_SOUND_SCORES = (
    "speak_level_db", "listen_level_db", "speak_wrong_energy", "listen_wrong_energy", "overlap_s", "separated_s",
)  # fmt: skip


def _framing(plan: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the crop's knots where it moves, and how much of the person it shows."""
    if plan is None:
        return {}
    flat = [round(float(v), 3) for v in plan["crop_path"]] if plan["crop_moves"] else []
    return {"crop_path": [flat[i : i + 5] for i in range(0, len(flat), 5)], "framing": plan["framing"]}


def across_files(seg: dict[str, Any], across: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return a segment with the partner and exchange that its session's other files give it, where they do."""
    row = across.get(seg["segment_id"])
    if row is None:
        return seg
    told = {c: row[f"session_{c}"] for c in ("partner", "partner_track_id", "pair_id")}
    # One file alone cannot tell a silent listener's dialogue from a narration; the other file can.
    heard = seg["category"] == "Listen_nondialogue" and told["partner_track_id"] is not None
    return {**seg, **told, "category": "Listen_dialogue" if heard else seg["category"]}


PairStatus = Literal["paired", "orphan", "off_screen"]


def kept_sides(segments: Iterable[Mapping[str, Any]]) -> dict[str, set[str]]:
    """Return, per pair id, the tracks with a kept segment in that exchange."""
    out: dict[str, set[str]] = defaultdict(set)
    for seg in segments:
        if seg["pair_id"] is not None:
            out[seg["pair_id"]].add(seg["track_id"])
    return out


def pair_status(seg: Mapping[str, Any], sides: Mapping[str, set[str]]) -> PairStatus | None:
    """Say whether the other side of a kept segment's exchange is kept too; None without an exchange."""
    if seg["pair_id"] is None:
        return None
    if sides[seg["pair_id"]] - {seg["track_id"]}:
        return "paired"
    return "orphan" if seg["partner_track_id"] is not None else "off_screen"


def _overlaps(run: Mapping[str, Any], seg: Mapping[str, Any]) -> bool:
    return bool(run["start_s"] < seg["end_s"] and run["end_s"] > seg["start_s"])


def _middle_inside(word: Mapping[str, Any], seg: Mapping[str, Any]) -> bool:
    return bool(seg["start_s"] <= (word["start_s"] + word["end_s"]) / 2 < seg["end_s"])


def _word(w: Mapping[str, Any], seg: Mapping[str, Any]) -> s.WordRef:
    start, end = (round(w[k] - seg["start_s"], 3) for k in ("start_s", "end_s"))
    return s.WordRef(word=w["word"], start_s=start, end_s=end, probability=w["probability"], speaker_id=w["speaker_id"])


def _run(r: Mapping[str, Any], seg: Mapping[str, Any]) -> s.StateRun:
    start = max(0.0, r["start_s"] - seg["start_s"])
    end = min(seg["end_s"], r["end_s"]) - seg["start_s"]
    return s.StateRun(
        state=r["state"], start_s=round(start, 3), end_s=round(end, 3), confidence=r["confidence"], reason=r["reason"]
    )


def _performance(row: Mapping[str, Any] | None) -> s.Performance:
    if row is None:
        return s.Performance(
            caption="", emotions=[], expressions=[], head_motion=[], gaze="", stance=None, shot_type="",
            body_motion="", contradictions=[], annotator="none",
        )  # fmt: skip
    return s.Performance(**{k: row[k] for k in s.Performance.model_fields if k in row})


def _reference(r: Mapping[str, Any], member: str) -> s.ReferenceRef:
    return s.ReferenceRef(
        member=member, kind=r["kind"], source_id=r["ref_source_id"], time_s=r["ref_t_s"], distance=r["distance"],
        view=r["view"], expression=r["expression"], quality=r["quality"], overlaps_clip=r["overlaps_clip"],
    )  # fmt: skip
