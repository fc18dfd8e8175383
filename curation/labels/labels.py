"""Human labels in a dataset: take them in from annotators' files, give timelines out for correction.

An import is all or nothing: everything is checked before the first file is written, under the dataset's lock. The
same import twice changes nothing. Of one author the newest import replaces what it overlaps; others' labels stay.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from curation.audit.follow import NEAR
from curation.dataset import Dataset
from curation.engine.run import locked
from curation.labels.apply import said_words
from curation.labels.formats import BESIDE, FORMATS, SUFFIXES, Entry, Format, Heard, LabelError, read, write
from curation.storage.store import table_file
from schemas import tables as t
from schemas.tables.labels import LabelRow
from schemas.tables.pairing import TimelineRow
from schemas.tables.registry import InputRow, SourceRow
from schemas.tables.tracks import TrackRow
from schemas.time import GRID_HZ, Interval, grid_range

OFF_SCREEN = "off_screen"
"""The partner who is neither a track nor a voice."""

_SOURCE_IN_NAME = re.compile(r"\.([0-9a-f]{16})$")
"""How `export` names the source of a file among several."""

Stretch = TypeVar("Stretch", LabelRow, TimelineRow)


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did: labels taken in, labels that were there already, sources that changed."""

    added: int
    known: int
    sources: int
    nowhere: int = 0
    """labels among them at whose place and time no face is followed: they hold once a scan finds one there"""


def find_source(dataset: Dataset, name: str) -> str:
    """Return the source id of an id or file name. Raises LabelError when there is none, or several."""
    rows = t.INPUTS.rows(dataset.table(t.INPUTS))
    found = {r.source_id for r in rows if name in (r.source_id, r.name)}
    if len(found) == 1:
        return found.pop()
    how = "several sources have this name: use the id" if found else "no such source"
    raise LabelError(f'{name!r}: {how}; list them: lpm query DATASET "SELECT source_id, name FROM inputs"')


def format_of(path: Path, form: str | None) -> Format:
    """Return the format asked for, or the one that the file's suffix says. Raises LabelError."""
    chosen = form or SUFFIXES.get(path.suffix.lower())
    for known in FORMATS:
        if chosen == known:
            return known
    raise LabelError(f"{path.name}: which format? Use --format with one of {', '.join(FORMATS)}")


def timeline(dataset: Dataset, source_id: str | None = None) -> list[Entry]:
    """Return the present timelines, with human labels on top (those too that no run has used yet)."""
    tracks = {r.track_id: r for r in t.TRACKS.rows(dataset.table(t.TRACKS))}
    out: list[Entry] = []
    labels = [r for r in t.LABELS.rows(dataset.table(t.LABELS)) if source_id in (None, r.source_id)]
    by_track: dict[tuple[str, str], list[LabelRow]] = defaultdict(list)
    for label in sorted(labels, key=lambda r: (r.labelled_at, r.label_id)):
        key = (label.source_id, label.track_id)  # two sources may have labels at a place under one invented id
        by_track[key] = [p for o in by_track[key] for p in cut(o, label)] + [label]
    for r in t.TIMELINE.rows(dataset.table(t.TIMELINE)):
        if source_id not in (None, r.source_id) or r.track_id not in tracks:
            continue
        pieces = [r]
        for label in by_track[r.source_id, r.track_id]:
            pieces = [p for o in pieces for p in cut(o, label)]
        track = tracks[r.track_id]
        # A label's run in the timeline ends on the grid; what sticks out from under the label is no state of its own.
        least_s = 1 / GRID_HZ if r.reason == "human_label" else 0.0005
        pieces = [p for p in pieces if p is r or p.end_s - p.start_s >= least_s]
        out += [_entry(p, track.center_x, track.center_y) for p in pieces]
    out += [_entry(r, r.center_x, r.center_y, r) for rows in by_track.values() for r in rows]
    kept = [e for e in out if e.end_s > e.start_s]
    return sorted(kept, key=lambda e: (e.source_id, e.track_id, e.start_s))


def _entry(r: TimelineRow | LabelRow, x: float, y: float, label: LabelRow | None = None) -> Entry:
    entry = Entry(
        r.track_id, round(r.start_s, 3), round(r.end_s, 3), r.state, r.source_id, r.partner,
        center_x=round(x, 4), center_y=round(y, 4),
    )  # fmt: skip
    if label is None:
        return entry
    return replace(entry, note=label.note, author=label.author, labelled_at=label.labelled_at)


def media_url(path: str, media: str | None) -> str:
    """Return where a tool finds a source: under the address `media` by its name, or where it lies."""
    if media is not None:
        return f"{media.rstrip('/')}/{quote(Path(path).name)}"
    return path if "://" in path else Path(path).as_uri()


def _heard(dataset: Dataset, source_id: str, media: str, form: Format) -> Heard:
    """Return what is heard in a source, where the format shows it: each voice's turns, and its words."""
    if form != "elan":
        return Heard(media)
    turns = t.TURNS.rows(dataset.table(t.TURNS, None, [source_id]))
    corrected = t.WORD_LABELS.rows(dataset.table(t.WORD_LABELS, None, [source_id]))
    words = said_words(t.WORDS.rows(dataset.table(t.WORDS, None, [source_id])), corrected)
    # ELAN refuses annotations of one tier that overlap, as a recogniser's words sometimes do by a few milliseconds.
    said = [(f"{BESIDE[0]}{r.speaker_id}", r.start_s, r.end_s, "speaks") for r in turns]
    said += [(f"{BESIDE[1]}{r.speaker_id or '?'}", r.start_s, r.end_s, r.word or f"[{r.guess}]") for r in words]
    out: list[tuple[str, float, float, str]] = []
    for tier, start_s, end_s, text in sorted(said):
        first_s = max(start_s, out[-1][2]) if out and out[-1][0] == tier else start_s
        if end_s - first_s >= 0.001:
            out.append((tier, first_s, end_s, text))
    return Heard(media, out)


def export(
    dataset: Dataset, out: Path, form: Format, source_id: str | None = None, media: str | None = None
) -> list[Path]:
    """Write timelines to a file, or, for ELAN and Audacity and several sources, to a folder with one file a source.

    `media` is an address under which a tool finds the sources by their names; without it their own places are named.
    """
    entries = timeline(dataset, source_id)
    if not entries:
        raise LabelError("there is no timeline to export; `lpm run` makes one")
    inputs = {r.source_id: r for r in t.INPUTS.rows(dataset.table(t.INPUTS))}
    sources = sorted({e.source_id for e in entries})
    heard = {sid: _heard(dataset, sid, media_url(inputs[sid].path, media), form) for sid in sources}
    if form in ("csv", "json", "rttm", "label-studio") or len(sources) == 1:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(write(entries, form, heard), encoding="utf-8")
        return [out]
    out.mkdir(parents=True, exist_ok=True)
    suffix = next(s for s, f in SUFFIXES.items() if f == form)
    files = []
    for sid in sources:
        file = out / f"{Path(inputs[sid].name).stem}.{sid}{suffix}"
        mine = [e for e in entries if e.source_id == sid]
        file.write_text(write(mine, form, heard), encoding="utf-8")
        files.append(file)
    return files


def read_files(files: Sequence[Path], form: str | None) -> list[Entry]:
    """Return the entries of label files; a folder stands for those in it, as `export` writes it. Raises LabelError."""
    out: list[Entry] = []
    for file in (f for named in files for f in _files(named, form)):
        try:
            text = file.read_text(encoding="utf-8")
        except FileNotFoundError as e:
            raise LabelError(f"{file}: there is no such file or folder; check its name") from e
        except UnicodeDecodeError as e:
            raise LabelError(f"{file}: not UTF-8 text ({e}); save it as UTF-8") from e
        except OSError as e:
            raise LabelError(f"{file}: cannot be read: {e.strerror or e}") from e
        found = read(text, format_of(file, form), file.name)
        named_by = _SOURCE_IN_NAME.search(file.stem)
        out += found if named_by is None else [replace(e, file_source=named_by[1]) for e in found]
    return out


def _files(named: Path, form: str | None) -> list[Path]:
    if not named.is_dir():
        return [named]
    wanted = "json" if form == "label-studio" else form
    suffixes = [s for s, f in SUFFIXES.items() if wanted in (None, f)]
    found = sorted(f for f in named.iterdir() if f.suffix.lower() in suffixes and f.is_file())
    if not found:
        raise LabelError(f"{named}: a folder without label files ({', '.join(suffixes)}); name files")
    return found


def take_in(dataset: Dataset, entries: Iterable[Entry], author: str, *, changes_only: bool = False) -> Imported:
    """Import entries as labels of `author`, all or none; return what changed.

    `changes_only` leaves out entries whose state the present timeline has over all of their time; that somebody
    speaks, from a format that tells no more, is so where they do `both`.

    Raises:
        LabelError: an unknown source or track, a time outside of it, or overlapping entries.
        RunStoppedError: another command is writing the dataset.
    """
    if not author.strip():
        raise LabelError("--author is empty; name who made the labels")
    store = dataset.store
    at = datetime.now(UTC).isoformat(timespec="microseconds")
    with locked(store):
        checked = _checked(dataset, list(entries), author.strip(), at)
        if changes_only:
            present = _states(timeline(dataset))
            checked = [(e, r) for e, r in checked if any(present.get((*_who(r), k)) not in _agree(e) for k in _ks(r))]
        rows = [r for _, r in checked]
        by_source: dict[str, list[LabelRow]] = defaultdict(list)
        for r in rows:
            by_source[r.source_id].append(r)
        written: dict[str, list[LabelRow]] = {}
        added = 0
        for sid, new in sorted(by_source.items()):
            file = table_file(t.LABELS, sid)
            old = t.LABELS.rows(store.read_table(file, t.LABELS)) if store.exists(file) else []
            merged = merge(old, new)
            fresh = {r.label_id for r in new} - {r.label_id for r in old}
            if fresh:
                written[sid], added = merged, added + len(fresh)
        tables = {sid: t.LABELS.from_rows(m) for sid, m in written.items()}  # validated before the first is written
        for sid, table in tables.items():
            store.write_table(table_file(t.LABELS, sid), t.LABELS, table)
        if tables:
            dataset.write_catalog()
        tracks = t.TRACKS.rows(dataset.table(t.TRACKS, None, sorted(by_source)))
    return Imported(added, len(rows) - added, len(tables), sum(not _seen(r, tracks) for r in rows))


def _seen(label: LabelRow, tracks: Sequence[TrackRow]) -> bool:
    """Say whether a face is followed at a label's place in its time, or under its track id."""
    span = Interval(label.start_s, label.end_s)
    return any(
        x.track_id == label.track_id
        or (
            x.source_id == label.source_id
            and math.hypot(x.center_x - label.center_x, x.center_y - label.center_y) <= NEAR
            and span.overlap_s(Interval(x.start_s, x.end_s)) > 0
        )
        for x in tracks
    )


def merge(old: list[LabelRow], new: list[LabelRow]) -> list[LabelRow]:
    """Return labels after an import: known ones stay, the author's own older ones give way where new ones overlap."""
    known = {r.label_id for r in old}
    fresh = [r for r in new if r.label_id not in known]
    out = old
    for r in fresh:
        out = [
            _replace_id(p) if p is not o else o
            for o in out
            for p in (cut(o, r) if (o.author, o.track_id) == (r.author, r.track_id) else [o])
        ]
    return [*out, *fresh]


def cut(row: Stretch, by: LabelRow) -> list[Stretch]:
    """Return what is left of a stretch outside another: itself where they do not overlap, or up to two pieces."""
    a, b = by.start_s, by.end_s
    if b <= row.start_s or a >= row.end_s:
        return [row]
    out: list[Stretch] = []
    if a > row.start_s:
        out.append(row.but(end_s=a))
    if b < row.end_s:
        out.append(row.but(start_s=b))
    return out


def _replace_id(r: LabelRow) -> LabelRow:
    """Return the label with the id that its content makes."""
    content = (r.source_id, r.track_id, r.start_s, r.end_s, r.state, r.partner, r.note, r.author)
    said = "\0".join(str(value) for value in content)
    return r.but(label_id=hashlib.sha256(said.encode()).hexdigest()[:16])


def _ks(r: LabelRow) -> range:
    return grid_range(Interval(r.start_s, r.end_s))


def _agree(e: Entry) -> tuple[str, ...]:
    """Return the states of the timeline that an entry does not change."""
    return ("speak", "both") if e.heard_only and e.state == "speak" else (e.state,)


def _who(r: Entry | LabelRow) -> tuple[str, str]:
    return r.source_id, r.track_id


def _states(entries: Iterable[Entry]) -> dict[tuple[str, str, int], str]:
    return {(*_who(e), k): e.state for e in entries for k in grid_range(Interval(e.start_s, e.end_s))}


def _checked(dataset: Dataset, entries: list[Entry], author: str, at: str) -> list[tuple[Entry, LabelRow]]:
    """Return entries with their LABELS rows. Raises LabelError at the first that does not fit the dataset."""
    tracks = {r.track_id: r for r in t.TRACKS.rows(dataset.table(t.TRACKS))}
    sources = dataset.table(t.SOURCES)
    durations = dict(zip(SourceRow.source_id.values(sources), SourceRow.duration_s.values(sources), strict=True))
    inputs = set(InputRow.source_id.values(dataset.table(t.INPUTS)))
    placed = _placed(dataset, {e.track_id for e in entries} - set(tracks))
    rows = []
    partners: dict[str, set[str]] = {}
    last: dict[tuple[str, str], Entry] = {}
    for e in sorted(entries, key=lambda e: (e.track_id, e.start_s)):
        row = _row(e, tracks, placed[e.track_id], durations, inputs, dataset, author, at)
        before = last.get((row.source_id, e.track_id))
        if before is not None and e.start_s < before.end_s:
            raise LabelError(f"{e.where}: overlaps {before.where} on track {e.track_id}; one state at a time, cut one")
        last[row.source_id, e.track_id] = e
        if row.partner is not None:
            if row.source_id not in partners:
                partners[row.source_id] = _partners(dataset, row.source_id)
            _check_partner(e, row.partner, row.source_id, partners[row.source_id])
        rows.append((e, row))
    return rows


def _placed(dataset: Dataset, ids: set[str]) -> dict[str, list[LabelRow]]:
    """Return the labels that were given at a place, under ids that no track has.

    Most formats tell neither their place nor their source, and an export that nobody changed must be taken in.
    """
    out: dict[str, list[LabelRow]] = defaultdict(list)
    for r in t.LABELS.rows(dataset.table(t.LABELS)) if ids else ():
        if r.track_id in ids:
            out[r.track_id].append(r)
    return out


def _partners(dataset: Dataset, source_id: str) -> set[str]:
    """Return whom a label of a source may name: its tracks and voices, and whom its timeline and labels name already.

    The last are ids of an earlier run at times, and an export that nobody changed must be taken in.
    """
    tracks = t.TRACKS.rows(dataset.table(t.TRACKS, None, [source_id]))
    voices = t.VOICE_TURNS.rows(dataset.table(t.VOICE_TURNS, None, [source_id]))
    turns = t.TURNS.rows(dataset.table(t.TURNS, None, [source_id]))
    named = [
        *(r.partner for r in t.TIMELINE.rows(dataset.table(t.TIMELINE, None, [source_id]))),
        *(r.partner for r in t.LABELS.rows(dataset.table(t.LABELS, None, [source_id]))),
    ]
    kinds = ("track:", "voice:")
    return {
        OFF_SCREEN,
        *(f"track:{r.track_id}" for r in tracks),
        *(f"voice:{r.speaker_id}" for r in voices),
        *(f"voice:{r.speaker_id}" for r in turns),
        *(p for p in named if p is not None and p.startswith(kinds)),
    }


def _check_partner(e: Entry, partner: str, source_id: str, known: set[str]) -> None:
    if partner not in known:
        raise LabelError(
            f"{e.where}: unknown partner {partner!r}; write track:ID or voice:ID of a track or voice of source "
            f"{source_id}, {OFF_SCREEN}, or nothing"
        )
    if partner == f"track:{e.track_id}":
        raise LabelError(f"{e.where}: partner {partner!r} is the person themself; name another, or nothing")


def _row(
    e: Entry, tracks: Mapping[str, TrackRow], placed: Sequence[LabelRow], durations: Mapping[str, float],
    inputs: set[str], dataset: Dataset, author: str, at: str,
) -> LabelRow:  # fmt: skip
    track = tracks.get(e.track_id)
    sid = e.source_id or _source_of(e, placed) or e.track_id[:16]
    try:
        sid = sid if sid in inputs else find_source(dataset, sid)
    except LabelError as error:
        raise LabelError(f"{e.where}: unknown source: {error}") from error
    x, y = _place(e, [r for r in placed if r.source_id == sid]) if track is None else (track.center_x, track.center_y)
    if track is not None and track.source_id != sid:
        raise LabelError(f"{e.where}: track {e.track_id} is not of source {sid}; correct one of them")
    start_s, end_s = (0.0, durations.get(sid, math.inf)) if track is None else (track.start_s, track.end_s)
    if e.start_s < start_s - 1 / GRID_HZ or e.end_s > end_s + 1 / GRID_HZ:
        raise LabelError(
            f"{e.where}: {e.start_s:g}-{e.end_s:g} s lies outside of {e.track_id} ({start_s:.3f}-{end_s:.3f} s); "
            "cut it to that"
        )
    return _replace_id(
        LabelRow(
            label_id="",
            source_id=sid,
            track_id=e.track_id,
            start_s=e.start_s,
            end_s=e.end_s,
            state=e.state,
            partner=e.partner,
            note=e.note,
            author=author,
            labelled_at=at,
            center_x=x,
            center_y=y,
        )
    )


def _place(e: Entry, placed: Sequence[LabelRow]) -> tuple[float, float]:
    """Return where in the picture somebody is whom no track follows: as told, or as in the nearest of earlier labels.

    Raises LabelError where nothing tells, where it lies outside, and for an id that would not be read from ELAN.
    """
    x, y = e.center_x, e.center_y
    if x is None or y is None:
        known = min(placed, key=lambda r: max(r.start_s - e.end_s, e.start_s - r.end_s), default=None)
        x, y = (None, None) if known is None else (known.center_x, known.center_y)
    if x is None or y is None:
        raise LabelError(
            f"{e.where}: unknown track {e.track_id!r}; take ids from `lpm labels export`, or give center_x and center_y"
        )
    if e.track_id.startswith(BESIDE):
        raise LabelError(
            f"{e.where}: the id {e.track_id!r} begins as ELAN's tiers of what is heard do, which are not taken in; "
            "name it otherwise"
        )
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise LabelError(
            f"{e.where}: center_x {x:g}, center_y {y:g} is outside of the picture; write shares of its width and "
            "height, 0 to 1"
        )
    return x, y


def _source_of(e: Entry, placed: Sequence[LabelRow]) -> str | None:
    """Return the source of an id that labels at a place go by; None where there are none. Raises LabelError."""
    sources = sorted({r.source_id for r in placed})
    if e.file_source in sources:
        return e.file_source
    if len(sources) > 1:
        raise LabelError(
            f"{e.where}: labels of {len(sources)} sources are under {e.track_id!r}; name the file after one of them, "
            f"NAME.{sources[0]}.SUFFIX, as `lpm labels export` does, or use csv, which says the source"
        )
    return sources[0] if sources else None
