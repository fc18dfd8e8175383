"""Samples get their own vectors and those of their references, in the order of their members."""

from __future__ import annotations

from pathlib import Path

import pytest
from table_rows import row

from curation.dataset import Dataset
from curation.pack.vectors import SampleVectors
from curation.storage.store import Store, table_file
from schemas import tables as t
from schemas.table import Table
from schemas.tables.output import ManifestRow as M

A, B = "a" * 16, "b" * 16
TRACKS = {A: f"{A}-t0000", B: f"{B}-t0000"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(str(tmp_path / "d"))
    store.write_json("dataset.json", {"format": 1, "name": "openlpm"})
    return store


def _write(store: Store, table: Table, source: str, rows: list[dict[str, object]]) -> None:
    made = table.from_rows(row(table, source_id=source, annotator="m", **r) for r in rows)
    store.write_table(table_file(table, source), table, made)


def test_each_sample_has_its_own_vector_and_its_references_in_order(store: Store) -> None:
    for source, sign in ((A, 1.0), (B, -1.0)):
        _write(store, t.CLIP_VECTORS, source, [{"segment_id": f"{TRACKS[source]}-1", "vector": [sign, 0.0]}])
        portraits = [{"track_id": TRACKS[source], "k": k, "vector": [sign, float(k)]} for k in range(3)]
        _write(store, t.PORTRAIT_VECTORS, source, portraits)
    ids = [f"{TRACKS[B]}-1", f"{TRACKS[A]}-1", f"{TRACKS[A]}-2", f"{TRACKS[B]}-3"]
    rows = t.MANIFEST.from_rows(row(t.MANIFEST, segment_id=i, source_id=i[:16]) for i in ids)
    shown = {
        ids[0]: [(B, TRACKS[B], 2), (A, TRACKS[A], 0), (B, TRACKS[B], 0)],
        ids[1]: [(A, TRACKS[A], 1), (A, TRACKS[A], 9)],
        ids[2]: [(A, TRACKS[A], 9)],
        ids[3]: [],
    }
    filled = SampleVectors(Dataset(store.uri)).filled(rows, shown)
    assert filled.schema == t.MANIFEST.schema and M.segment_id.values(filled) == sorted(ids)
    got = {r.segment_id: (r.vector, r.vector_model, r.reference_vectors) for r in t.MANIFEST.rows(filled)}
    assert got[ids[0]] == ([-1, 0], "m", [[-1, 2], [1, 0], [-1, 0]])
    assert got[ids[1]] == ([1, 0], "m", [[1, 1], None])
    assert got[ids[2]] == got[ids[3]] == (None, None, None)


def test_without_vectors_rows_stay_as_they_are(store: Store) -> None:
    rows = t.MANIFEST.from_rows([row(t.MANIFEST, segment_id=f"{TRACKS[A]}-1", source_id=A)])
    assert SampleVectors(Dataset(store.uri)).filled(rows, {f"{TRACKS[A]}-1": []}) is rows
