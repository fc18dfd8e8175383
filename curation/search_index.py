"""An index over the samples' vectors, for datasets in which comparing all of them takes long.

Vectors are divided into cells around centres (k-means), and a search looks through the cells nearest to what is
wanted: an inverted file (Sivic and Zisserman 2003, as faiss's IVFFlat). The vectors lie in one Parquet file in order of
cell, so that a search reads those cells alone, also from object storage. It may miss what lies in another cell; what it
finds is compared exactly. Packing and forgetting delete it: it holds the samples' vectors once more.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt
from typing import IO, Any, cast

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.dataset import Dataset
from curation.search import Among, SearchError, Vectors, Wanted, vector_model
from curation.storage.store import Store, table_file
from schemas.tables import MANIFEST
from schemas.tables.output import ManifestRow

CELLS, ABOUT = "search/cells.parquet", "search/about.json"
PAYS_FROM = 200_000
"""Samples from which on an index is spoken of: a search of as many takes 1.5 CPU s (`benchmarks/search.py`)."""
PROBES = 64
"""Cells that a search looks through; recall of the ten nearest is in docs/models.md."""

_A_CENTRE = 64
"""Vectors from which k-means learns one centre."""
_BLOCK = 8192


@dataclass(frozen=True, eq=False)
class Index:
    """An index that belongs to the manifest as it is: its model and its centres [C, E], of length 1."""

    model: str
    samples: int
    centres: Vectors


def build(dataset: Dataset) -> Index:
    """Make the index of a dataset's samples and write it beside the manifest.

    Memory: one block of vectors and 64 for each centre; the vectors once more on the disk for temporary files.
    Raises SearchError where samples have no vectors, or those of several models.
    """
    import pyarrow.dataset as pads  # see curation.dataset

    model = vector_model(dataset)
    store = dataset.store
    drop(store)
    manifest = pads.dataset(store.path(table_file(MANIFEST)), MANIFEST.schema, "parquet", store.filesystem())
    mine = pc.field(ManifestRow.vector_model.name) == model
    samples = manifest.count_rows(filter=mine)
    centres = _centres(manifest, mine, samples)
    assigned = [_nearest(centres, vectors) for _, vectors in _blocks(manifest, mine)]
    cell = np.concatenate(assigned)
    with tempfile.TemporaryFile() as file:
        place = np.empty(samples, np.int64)
        place[np.argsort(cell, kind="stable")] = np.arange(samples)
        ordered: npt.NDArray[np.float32] = np.memmap(file, np.float32, "w+", shape=(samples, centres.shape[1]))
        ids = np.empty(samples, object)
        at = 0
        for names, vectors in _blocks(manifest, mine):
            to = place[at : at + len(names)]
            ordered[to], ids[to] = vectors, names
            at += len(names)
        _write(store, ids, np.sort(cell), ordered)
    saved = io.BytesIO()
    np.save(saved, centres)
    about = {"stamp": stamp(store), "model": model, "samples": samples, "centres": saved.getvalue().hex()}
    store.write_json(ABOUT, about)
    return Index(model, samples, centres)


def opened(dataset: Dataset) -> Index | None:
    """Return the index of a dataset; None where there is none, or one of another manifest."""
    about = dataset.store.read_json(ABOUT)
    if about is None or about["stamp"] != stamp(dataset.store):
        return None
    return Index(about["model"], about["samples"], np.load(io.BytesIO(bytes.fromhex(about["centres"]))))


def drop(store: Store) -> None:
    """Delete the index."""
    for name in (ABOUT, CELLS):
        store.delete_file(name)


def nearest(dataset: Dataset, index: Index, wanted: Wanted, among: Among, limit: int, probes: int = PROBES) -> pa.Table:
    """Return the samples nearest to a vector in the cells nearest to it, most similar first (cosine).

    Fewer than `limit` rows mean that the condition leaves no more of these cells. Raises SearchError for a wrong
    condition.
    """
    import pyarrow.dataset as pads

    size = len(wanted.vector)
    cells = np.argsort(-(index.centres @ wanted.vector), kind="stable")[:probes]
    file = dataset.store.path(CELLS)
    stored = pads.dataset(file, format="parquet", filesystem=dataset.store.filesystem())
    near = stored.to_table(columns=["segment_id", "vector"], filter=pc.field("cell").isin(cells.tolist()))
    sql = f"""
        WITH alike AS (
            SELECT segment_id, array_cosine_similarity(vector::FLOAT[{size}], $vector::FLOAT[{size}]) AS similarity
            FROM near
        )
        SELECT similarity, segment_id, state, split, duration_s, caption FROM alike JOIN manifest USING (segment_id)
        WHERE segment_id <> $but AND {among.sql} ORDER BY similarity DESC, segment_id LIMIT {limit:d}
    """
    given = {"vector": wanted.vector.tolist(), "but": wanted.but, "state": among.state}
    with contextlib.closing(dataset.connect(tables=[MANIFEST], shut=True)) as con:
        con.register("near", near)
        try:
            rows: pa.Table = con.sql(sql, params=given).to_arrow_table()
        except duckdb.Error as e:
            why = str(e).splitlines()[0]
            raise SearchError(f"the manifest cannot be searched by {among.where!r}: {why}") from e
    return rows


def rows(store: Store) -> int:
    """Return how many samples the manifest holds."""
    with store.filesystem().open_input_file(store.path(table_file(MANIFEST))) as file:
        return int(pq.ParquetFile(file).metadata.num_rows)


def stamp(store: Store) -> str:
    """Return what a manifest is known by: a hash of its footer, which says where each of its pages lies."""
    name = table_file(MANIFEST)
    size = store.size(name)
    (footer,) = struct.unpack("<I", store.read(name, size - 8, 4))
    return hashlib.sha256(store.read(name, size - 8 - footer) + str(size).encode()).hexdigest()


def _blocks(manifest: Any, mine: Any) -> Iterator[tuple[Any, Any]]:
    """Yield ids [n] and vectors [n, E], in the manifest's order."""
    for batch in manifest.to_batches(
        columns=["segment_id", "vector"], filter=mine, batch_size=_BLOCK, fragment_readahead=1
    ):
        if batch.num_rows:
            flat = np.asarray(batch.column(1).flatten(), np.float32)
            yield batch.column(0).to_numpy(zero_copy_only=False), flat.reshape(batch.num_rows, -1)


def _centres(manifest: Any, mine: Any, samples: int) -> Vectors:
    """Return the centres [C, E] that k-means finds in some of the vectors; about as many as the root of all."""
    from sklearn.cluster import MiniBatchKMeans  # takes a second to import, and only this needs it

    cells = max(1, isqrt(samples))
    step = max(1, samples // (_A_CENTRE * cells))
    some, at = [], 0
    for names, vectors in _blocks(manifest, mine):
        some.append(vectors[(-at) % step :: step])
        at += len(names)
    learned = MiniBatchKMeans(cells, random_state=0, n_init=1, max_iter=10, batch_size=4 * 1024)
    centres = learned.fit(np.concatenate(some)).cluster_centers_.astype(np.float32)
    return np.asarray(centres / np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-9), np.float32)


def _nearest(centres: Vectors, vectors: Vectors) -> npt.NDArray[np.int32]:
    return np.asarray((vectors @ centres.T).argmax(axis=1), np.int32)


def _write(store: Store, ids: npt.NDArray[Any], cell: npt.NDArray[np.int32], vectors: Vectors) -> None:
    """Write ids [N], cells [N] in order, and vectors [N, E]; small row groups, so that few cells are read at once."""
    size = vectors.shape[1]
    kinds = {"cell": pa.int32(), "segment_id": pa.string(), "vector": pa.list_(pa.float32(), size)}
    schema = pa.schema([pa.field(name, kind) for name, kind in kinds.items()])
    with store.open_output(CELLS) as out, pq.ParquetWriter(cast(IO[bytes], out), schema, compression="none") as writer:
        for a in range(0, len(ids), 2048):
            b = min(a + 2048, len(ids))
            flat = pa.array(np.ascontiguousarray(vectors[a:b]).ravel())
            lists = pa.FixedSizeListArray.from_arrays(flat, size)
            writer.write_table(pa.table([pa.array(cell[a:b]), pa.array(ids[a:b], pa.string()), lists], schema=schema))
