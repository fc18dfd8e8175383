"""Packed samples of a dataset, one at a time, with the members that a form asks for."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb

from curation.dataset import Dataset
from schemas import tables as t
from schemas.samples.members import MEMBERS
from schemas.samples.sample import FPS, Sample
from schemas.tables.output import ManifestRow


class ExportError(ValueError):
    """A dataset that cannot be written in a form; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A sample's row of the manifest, its record, and bytes of members by suffix."""

    row: ManifestRow
    sample: Sample
    members: dict[str, bytes]


def selected(dataset: Dataset, where: str | None) -> list[ManifestRow]:
    """Return the manifest's rows for which a SQL condition holds, in order of id.

    Raises:
        ExportError: the condition is wrong, or there is no such sample.
    """
    sql = f"SELECT * FROM manifest WHERE (\n{where or 'true'}\n) ORDER BY segment_id"
    try:
        con = dataset.connect(tables=[t.MANIFEST], shut=True)
        # By itself too: parentheses that close what is put around it are no condition.
        con.extract_statements(f"SELECT 1 WHERE {where or 'true'}")
        rows = t.MANIFEST.rows(con.sql(sql).to_arrow_table())
    except (duckdb.Error, AttributeError) as e:
        raise ExportError(f"--where {where!r} is not a condition over the manifest's columns: {e}") from e
    if not rows:
        raise ExportError("there is no such packed sample; `lpm pack` packs what is kept")
    return rows


def read(dataset: Dataset, rows: Collection[ManifestRow], suffixes: Collection[str]) -> Iterator[Packed]:
    """Yield samples with these of their members, and their records."""
    wanted = set(suffixes) | {MEMBERS[3]}
    for row in rows:
        members = {
            suffix: dataset.store.read(f"shards/{row.shard}", m["offset"], m["size"])
            for m in row.members
            if (suffix := m["name"].split(".", 1)[1]) in wanted
        }
        yield Packed(row, Sample.model_validate_json(members[MEMBERS[3]]), members)


def frame_states(sample: Sample) -> list[str]:
    """Return the state in the middle of each video frame; where none is clear, that of the whole sample."""
    out = [str(sample.state)] * sample.video.n_frames
    for run in sample.states:
        if run.state != "discard":
            for i in range(len(out)):
                if run.start_s <= (i + 0.5) / FPS < run.end_s:
                    out[i] = run.state
    return out


def fresh(out: Path) -> Path:
    """Return a folder to write to. Raises ExportError where something is in it already."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ExportError(f"{out} is not an empty folder; name another")
    out.mkdir(parents=True, exist_ok=True)
    return out
