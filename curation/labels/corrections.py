"""Corrections that people make while they watch: each is a label that the next run puts over the machine's work.

Stored under the dataset's lock with author and time, a file a source and kind; nothing of the machine's is overwritten,
so what is taken back leaves no trace. Of one thing said twice the newest holds.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError, create_model

from curation.dataset import Dataset
from curation.engine.run import locked
from curation.labels import identities
from curation.labels.formats import unwritable
from curation.storage.store import table_file
from schemas import tables as t
from schemas.row import Row
from schemas.samples.caption import PerformanceCaption, time_words
from schemas.table import Table
from schemas.tables.labels import CaptionLabelRow, CutLabelRow, LabelRow, VoiceLabelRow, WordLabelRow
from schemas.tables.tracks import TrackRow
from schemas.time import GRID_HZ

CAPTION_FIELDS = (
    "prose", "emotions", "expressions", "head_motion", "gaze", "stance", "shot_type", "body_motion", "hands",
    "posture", "speaking_style", "camera", "clothing", "hair", "glasses", "place",
)  # fmt: skip
NO_CUT_S = 0.12
"""To either side of a cut that is none, no new shot begins: cuts nearer than a fifth of a second are one."""
AGAIN = {
    "labels": "states and clips", "voice_labels": "voices, states and clips", "word_labels": "words",
    "caption_labels": "the caption", "cut_labels": "shots, faces and all that follows, around the cut",
    "identity_decisions": "people, references and splits",
}  # fmt: skip
"""What a run computes again for a correction."""

Run = tuple[float, float, str]
"""start_s, end_s and state"""


class CorrectionError(ValueError):
    """A correction that cannot be stored; the message says why and what can be done."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A correction that no run has used yet."""

    kind: str
    """the table that holds it"""
    source_id: str
    author: str
    at: str
    n: int
    """rows that it consists of"""


def states(dataset: Dataset, track_id: str, runs: Sequence[Run], author: str) -> None:
    """Say which states a person has over stretches of time. Raises CorrectionError, RunStoppedError."""
    who, at = _name(author), _now()
    track = _track(dataset, track_id)
    rows: list[LabelRow] = []
    for start_s, end_s, is_ in runs:
        if is_ not in t.LABEL_STATES:
            raise CorrectionError(f"{is_!r} is no state; there are {', '.join(t.LABEL_STATES)}")
        start_s, end_s = max(_on_grid(start_s), track.start_s), min(_on_grid(end_s), track.end_s)
        if end_s - start_s < 0.5 / GRID_HZ:
            raise CorrectionError(
                f"the stretch is empty, or outside of the time in which the face is followed "
                f"({track.start_s:.2f}-{track.end_s:.2f} s)"
            )
        rows.append(
            LabelRow(
                label_id=_id((track_id, start_s, end_s, is_), who, at), source_id=track.source_id, track_id=track_id,
                start_s=start_s, end_s=end_s, state=is_, partner=None, note=None, author=who, labelled_at=at,
                center_x=track.center_x, center_y=track.center_y,
            )
        )  # fmt: skip
    for one, next_ in itertools.pairwise(sorted(rows, key=lambda r: (r.start_s, r.end_s))):
        if next_.start_s < one.end_s:
            raise CorrectionError(
                f"{one.start_s:.2f}-{one.end_s:.2f} s and {next_.start_s:.2f}-{next_.end_s:.2f} s overlap; a person "
                "has one state at a time, cut one"
            )
    _add(dataset, t.LABELS, rows, track.source_id)


def voice(dataset: Dataset, speaker_id: str, at_s: float, track_id: str | None, author: str) -> None:
    """Say whose face a voice is, heard at a time; None = nobody in view. Raises CorrectionError, RunStoppedError."""
    who, at = _name(author), _now()
    source_id = speaker_id[:16]
    con = dataset.connect(tables=[t.VOICE_TURNS], sources=[source_id])
    turns = con.execute(
        "SELECT start_s, end_s FROM voice_turns WHERE speaker_id = ? ORDER BY greatest(start_s - ?, ? - end_s, 0), 1",
        [speaker_id, at_s, at_s],
    ).fetchall()
    if not turns:
        raise CorrectionError(f"no voice {speaker_id!r} is heard now; load the clip again")
    track = None if track_id is None else _track(dataset, track_id)
    if track is not None and track.source_id != source_id:
        raise CorrectionError(f"{track_id} is in another source than the voice")
    start_s, end_s = turns[0]
    row = VoiceLabelRow(
        label_id=_id((speaker_id, start_s, track_id), who, at), source_id=source_id, start_s=start_s, end_s=end_s,
        speaker_id=speaker_id, track_id=track_id, center_x=None if track is None else track.center_x,
        center_y=None if track is None else track.center_y, author=who, labelled_at=at,
    )  # fmt: skip
    _add(dataset, t.VOICE_LABELS, [row], source_id)


def word(dataset: Dataset, source_id: str, start_s: float, end_s: float, text: str | None, author: str) -> None:
    """Say what is said in a stretch; None or nothing = no word. Raises CorrectionError, RunStoppedError."""
    who, at = _name(author), _now()
    said = " ".join((text or "").split()) or None
    if said is not None and len(said) > 200:
        raise CorrectionError("a word has at most 200 characters; correct the words one by one")
    if said is not None and (found := unwritable(said)):
        raise CorrectionError(f"a word holds {found}, which is no character of a text; type it again")
    _inside(dataset, source_id, start_s, end_s)
    row = WordLabelRow(
        label_id=_id((start_s, end_s, said), who, at), source_id=source_id, start_s=start_s, end_s=end_s, word=said,
        author=who, labelled_at=at,
    )  # fmt: skip
    _add(dataset, t.WORD_LABELS, [row], source_id)


def caption(dataset: Dataset, segment_id: str, name: str, value: object, author: str) -> None:
    """Say what a field of a clip's caption is. Raises CorrectionError, RunStoppedError."""
    who, at = _name(author), _now()
    con = dataset.connect(tables=[t.SEGMENTS], sources=[segment_id[:16]])
    found = con.execute(
        "SELECT track_id, start_s, end_s, state FROM segments WHERE segment_id = ?", [segment_id]
    ).fetchall()
    if not found:
        raise CorrectionError(f"there is no clip {segment_id!r} now; draw the list again")
    ((track_id, start_s, end_s, now),) = found
    clean = _value(name, value, now)
    track = _track(dataset, track_id)
    row = CaptionLabelRow(
        label_id=_id((segment_id, name, clean), who, at), source_id=track.source_id, track_id=track_id,
        start_s=start_s, end_s=end_s, center_x=track.center_x, center_y=track.center_y, field=name, value=clean,
        author=who, labelled_at=at,
    )  # fmt: skip
    _add(dataset, t.CAPTION_LABELS, [row], track.source_id)


def cut(dataset: Dataset, source_id: str, none_s: float | None, new_s: float | None, author: str) -> None:
    """Say that no new shot begins at a time, that one does at another, or both: a cut that lay wrong.

    Raises:
        CorrectionError: neither is given, or a time is outside of the source.
        RunStoppedError: another command is writing the dataset.
    """
    who, at = _name(author), _now()
    rows = []
    for is_, t_s in ((False, none_s), (True, new_s)):
        if t_s is None:
            continue
        _inside(dataset, source_id, t_s, t_s + 1 / GRID_HZ)
        start_s, end_s = (t_s, t_s + 1 / GRID_HZ) if is_ else (max(0.0, t_s - NO_CUT_S), t_s + NO_CUT_S)
        rows.append(
            CutLabelRow(
                label_id=_id((t_s, is_), who, at), source_id=source_id, start_s=start_s, end_s=end_s, cut=is_,
                author=who, labelled_at=at,
            )
        )  # fmt: skip
    if not rows:
        raise CorrectionError("say where a cut is, or where none is")
    _add(dataset, t.CUT_LABELS, rows, source_id)


def undo(dataset: Dataset, author: str) -> Waiting:
    """Take an author's newest correction back, whatever its kind; what was given at one moment goes together.

    Raises:
        CorrectionError: the author corrected nothing.
        RunStoppedError: another command is writing the dataset.
    """
    who = _name(author)
    with locked(dataset.store):
        mine = [w for w in _all(dataset, "WHERE author = ?", [who]) if w.author == who]
        if not mine:
            raise CorrectionError(f"there is no correction by {who!r} to take back")
        newest = max(mine, key=lambda w: w.at)
        if newest.kind == t.IDENTITY_DECISIONS.name:
            identities.undo(dataset, identities.decision_of(dataset, who, newest.at))
            return newest
        table = t.TABLES[newest.kind]
        rows = _of_source(dataset, table, newest.source_id)
        _write(dataset, table, newest.source_id, [r for r in rows if (r.author, r.labelled_at) != (who, newest.at)])
    return newest


def last_run(dataset: Dataset) -> str:
    """Return when the last run that ended began, as ISO 8601 in UTC: what was said before it was heard."""
    ended = sorted(dataset.store.names("runs", "outcome.json"))
    last = dataset.store.read_json(ended[-1].replace("outcome.json", "run.json")) if ended else None
    return "" if last is None else datetime.fromisoformat(last["started"]).astimezone(UTC).isoformat()


def waiting(dataset: Dataset) -> list[Waiting]:
    """Return the corrections that no run has used yet, oldest first."""
    return sorted(_all(dataset, "WHERE labelled_at > ?", [last_run(dataset)]), key=lambda w: w.at)


def _all(dataset: Dataset, where: str, values: list[str]) -> list[Waiting]:
    """Return corrections, those of one author, moment and source together."""
    con = dataset.connect(tables=[*t.LABEL_TABLES, t.IDENTITY_DECISIONS])
    out = []
    for table in (*t.LABEL_TABLES, t.IDENTITY_DECISIONS):
        people = table is t.IDENTITY_DECISIONS
        at, source = ("decided_at", "min(source_id)") if people else ("labelled_at", "source_id")
        sql = (
            f"SELECT {source}, author, {at}, count(*) FROM {table.name} {where.replace('labelled_at', at)} "
            f"GROUP BY {'' if people else 'source_id, '}author, {at}"
        )
        out += [Waiting(table.name, *row) for row in con.execute(sql, values).fetchall()]
    return out


def _value(name: str, value: object, now: str) -> str:
    """Return a caption field's value as JSON. Raises CorrectionError where the field cannot have it."""
    if name not in CAPTION_FIELDS:
        raise CorrectionError(f"a caption has no field {name!r} to correct; there are {', '.join(CAPTION_FIELDS)}")
    field = PerformanceCaption.model_fields[name]
    kind: Any = field.annotation
    one = create_model("Value", value=(kind, field))
    try:
        clean = one.model_validate({"value": value}).model_dump(mode="json")["value"]
    except ValidationError as e:
        raise CorrectionError(f"{name}: {e.errors()[0]['msg'].removeprefix('Value error, ')}") from e
    if name == "prose" and now == "listen" and (found := time_words(str(clean))):
        raise CorrectionError(f"a listener's caption says what holds for the whole clip, without {', '.join(found)}")
    if name == "stance" and clean is not None and now != "listen":
        raise CorrectionError(f"only a listener has a stance, and this clip is {now}")
    if any(unwritable(x) for x in (clean if isinstance(clean, list) else [clean]) if isinstance(x, str)):
        raise CorrectionError(f"{name}: a control code or half of a character is in it; type it again")
    return json.dumps(clean, ensure_ascii=False)


def _add(dataset: Dataset, table: Table[Any], rows: Sequence[Row], source_id: str) -> None:
    with locked(dataset.store):
        _write(dataset, table, source_id, [*_of_source(dataset, table, source_id), *rows])


def _of_source(dataset: Dataset, table: Table[Any], source_id: str) -> list[Any]:
    return table.rows(dataset.table(table, sources=[source_id]))


def _write(dataset: Dataset, table: Table[Any], source_id: str, rows: list[Any]) -> None:
    first = not dataset.files(table)
    dataset.store.write_table(table_file(table, source_id), table, table.from_rows(rows))
    if first:  # from then on the catalogue's view knows where to look
        dataset.write_catalog()


def _track(dataset: Dataset, track_id: str) -> TrackRow:
    rows = t.TRACKS.rows(dataset.table(t.TRACKS, sources=[track_id[:16]]))
    found = next((r for r in rows if r.track_id == track_id), None)
    if found is None:
        raise CorrectionError(f"no face {track_id!r} is followed now; load the clip again")
    return found


def _inside(dataset: Dataset, source_id: str, start_s: float, end_s: float) -> None:
    con = dataset.connect(tables=[t.SOURCES], sources=[source_id])
    found = con.execute("SELECT duration_s FROM sources WHERE source_id = ?", [source_id]).fetchall()
    if not found:
        raise CorrectionError(f"no source {source_id!r} is measured now")
    length_s = float(found[0][0])
    if not 0 <= start_s < end_s <= length_s + 1 / GRID_HZ:
        raise CorrectionError(f"{start_s:.2f}-{end_s:.2f} s is no stretch of the source, which lasts {length_s:.2f} s")


def _name(author: str) -> str:
    if not author.strip():
        raise CorrectionError("who corrects? A correction needs a name")
    if found := unwritable(author):
        raise CorrectionError(f"the name of who corrects holds {found}, which is no character of a text")
    return author.strip()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _on_grid(t_s: float) -> float:
    return round(t_s * GRID_HZ) / GRID_HZ


def _id(content: tuple[object, ...], author: str, at: str) -> str:
    return hashlib.sha256("\0".join(map(str, (*content, author, at))).encode()).hexdigest()[:16]
