"""What a person does is packed with its times on the clip's own clock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from table_rows import row

from curation import Dataset
from curation.pack.samples import kept_entries
from curation.storage.store import Store, table_file
from schemas import tables as t
from schemas.samples.sample import EventRef, Sample
from schemas.table import Table

SOURCE = "0" * 16
TRACK = f"{SOURCE}-t0000"


def packed(folder: Path, *events: tuple[str, float, float]) -> Sample:
    """Pack a segment from 10 to 14 s of its source, with events at times of the source."""
    of, segment = {"source_id": SOURCE, "track_id": TRACK, "shot_id": f"{SOURCE}-s0000"}, f"{TRACK}-00010000"
    rows: dict[Table, list[dict[str, Any]]] = {
        t.SOURCES: [{"source_id": SOURCE}],
        t.INPUTS: [{"path": "x", "source_id": SOURCE}],
        t.SPLITS: [{"source_id": SOURCE, "split": "train"}],
        t.SEGMENTS: [{**of, "segment_id": segment, "state": "idle", "start_s": 10.0, "end_s": 14.0}],
        t.CLIPS: [{"segment_id": segment, "source_id": SOURCE}],
        t.DECISIONS: [{"unit": "segments", "unit_id": segment, "source_id": SOURCE, "outcome": "kept"}],
        t.EVENTS: [
            {
                "segment_id": segment, "source_id": SOURCE, "track_id": TRACK, "n": n, "event": name,
                "kind": "head_motion", "start_s": start, "end_s": end, "confidence": 0.5,
            }
            for n, (name, start, end) in enumerate(events)
        ],
    }  # fmt: skip
    store = Store(str(folder))
    store.write_json("dataset.json", {"format": 1, "name": "openlpm"})
    for table, given in rows.items():
        store.write_table(table_file(table, SOURCE), table, table.from_rows([row(table, **values) for values in given]))
    (entry,) = kept_entries(Dataset(store.uri), {}, "p")
    return entry.sample


def test_events_lie_inside_the_clip(tmp_path: Path) -> None:
    events = packed(
        tmp_path, ("raise", 9.5, 10.25), ("nod", 11.0, 11.5), ("turn_left", 13.5, 15.0), ("shake", 14.0, 15.0)
    )
    assert [(e.event, e.start_s, e.end_s) for e in events.events] == [
        ("raise", 0.0, 0.25), ("nod", 1.0, 1.5), ("turn_left", 3.5, 4.0),
    ]  # fmt: skip
    assert events.events[1] == EventRef(event="nod", kind="head_motion", start_s=1.0, end_s=1.5, confidence=0.5)
    assert Sample.model_validate_json(events.model_dump_json()) == events


def test_a_sample_packed_before_there_were_events_can_be_read(tmp_path: Path) -> None:
    said = packed(tmp_path).model_dump(exclude={"events"})
    assert Sample.model_validate(said).events == []
