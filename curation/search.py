"""Find packed samples by their vectors: what is nearest to a vector, and what is nearly the same.

Exact, and over the manifest alone: DuckDB compares every sample's vector with the one that is wanted. Costs about
0.7 s for 100,000 samples of 512 numbers (`benchmarks/search.py`), and memory that does not grow with the dataset; pairs
take 2 KB a sample and time that grows with its square.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.dataset import Dataset
from schemas.tables import MANIFEST
from schemas.tables.output import ManifestRow

BLOCK = 2048
"""Samples that are compared with as many others at once: 16 MiB of similarities."""

Vectors = npt.NDArray[np.float32]


class SearchError(ValueError):
    """A search that cannot be made; the message says why and what to do."""


@dataclass(frozen=True, eq=False)
class Wanted:
    """What is looked for: a vector [E] of a model, and a sample that is not to be found."""

    vector: Vectors
    model: str
    but: str = ""


@dataclass(frozen=True)
class Among:
    """Which samples are looked through: those of a state, and those for which SQL over the manifest holds."""

    state: str | None = None
    where: str | None = None

    @property
    def sql(self) -> str:
        """The condition; `$state` is a parameter."""
        asked = "" if self.where is None else f" AND ({self.where}\n)"
        return f"($state IS NULL OR state = $state){asked}"


def vector_model(dataset: Dataset) -> str:
    """Return the model whose vectors the dataset's samples have. Raises SearchError where none or several have any."""
    with _manifest(dataset) as con:
        found = con.execute(
            "SELECT vector_model, count(*) FROM manifest WHERE vector IS NOT NULL GROUP BY 1 ORDER BY 1"
        ).fetchall()
    if not found:
        raise SearchError(
            f"no sample of {dataset.store.uri} has a vector: put the stage clip_vectors into its workflow, choose a "
            "model (docs/models.md), and run it again"
        )
    if len(found) > 1:
        shown = ", ".join(f"{n} by {model}" for model, n in found)
        raise SearchError(f"samples have vectors of several models ({shown}): `lpm run` makes them all by one")
    return str(found[0][0])


def like(dataset: Dataset, segment_id: str) -> Wanted:
    """Return a sample's own vector. Raises SearchError where there is none."""
    with _manifest(dataset) as con:
        row = con.execute("SELECT vector, vector_model FROM manifest WHERE segment_id = ?", [segment_id]).fetchone()
    if row is None:
        raise SearchError(f"there is no sample {segment_id!r} in the manifest of {dataset.store.uri}")
    if row[0] is None:
        raise SearchError(f"sample {segment_id} has no vector: run the stage clip_vectors with a model")
    return Wanted(np.asarray(row[0], np.float32), str(row[1]), segment_id)


def nearest(dataset: Dataset, wanted: Wanted, among: Among, limit: int) -> pa.Table:
    """Return the samples nearest to a vector, most similar first (cosine). Raises SearchError for a wrong condition."""
    size = len(wanted.vector)
    sql = f"""
        WITH hits AS (
            SELECT segment_id, array_cosine_similarity(vector::FLOAT[{size}], $vector::FLOAT[{size}]) AS similarity
            FROM manifest WHERE vector_model = $model AND segment_id <> $but AND {among.sql}
            ORDER BY similarity DESC, segment_id LIMIT {limit:d}
        )
        SELECT similarity, segment_id, state, split, duration_s, caption FROM hits JOIN manifest USING (segment_id)
        ORDER BY similarity DESC, segment_id
    """
    return _run(dataset, sql, wanted, among)


def nearest_references(dataset: Dataset, wanted: Wanted, among: Among, limit: int) -> pa.Table:
    """Return the reference images nearest to a vector; one that stands beside several samples once, with the first."""
    size = len(wanted.vector)
    sql = f"""
        WITH shown AS (
            SELECT segment_id, identity_id, unnest(reference_vectors) AS one,
                segment_id || '.' || unnest(reference_names) AS member
            FROM manifest WHERE vector_model = $model AND segment_id <> $but AND {among.sql}
        )
        SELECT array_cosine_similarity(any_value(one)::FLOAT[{size}], $vector::FLOAT[{size}]) AS similarity,
            min(member) AS member, min(segment_id) AS segment_id, min(identity_id) AS identity_id, count(*) AS n_samples
        FROM shown WHERE one IS NOT NULL GROUP BY hash(one)
        ORDER BY similarity DESC, member LIMIT {limit:d}
    """
    return _run(dataset, sql, wanted, among)


def near_duplicates(dataset: Dataset, above: float, among: Among, limit: int) -> pa.Table:
    """Return pairs of samples of different sources whose vectors are at least `above` alike, most alike first.

    Raises SearchError for a wrong condition, and where samples have no vectors or those of several models.
    """
    model = vector_model(dataset)
    sql = f"""
        SELECT segment_id, vector, dense_rank() OVER (ORDER BY source_id) AS source
        FROM manifest WHERE vector_model = $model AND {among.sql} ORDER BY segment_id
    """
    rows = _run(dataset, sql, Wanted(np.zeros(0, np.float32), model), among)
    chunks: list[Any] = ManifestRow.vector.of(rows).chunks
    flat = [np.asarray(chunk.flatten(), np.float32) for chunk in chunks]
    vectors = np.concatenate([*flat, np.zeros(0, np.float32)]).reshape(rows.num_rows, -1 if rows.num_rows else 1)
    found = near_pairs(vectors, rows["source"].to_numpy(), above, limit)
    ids = ManifestRow.segment_id.of(rows)
    return pa.table(
        {
            "similarity": pa.array([alike for alike, _, _ in found], pa.float32()),
            "segment_id": pa.array([ids[i].as_py() for _, i, _ in found], pa.string()),
            "other_id": pa.array([ids[j].as_py() for _, _, j in found], pa.string()),
        }
    )


def near_pairs(
    vectors: Vectors, groups: npt.NDArray[np.int_], above: float, limit: int
) -> list[tuple[float, int, int]]:
    """Return (similarity, i, j) of the `limit` most similar pairs i < j of different groups, from `above` on.

    Args:
        vectors: [N, E], of length 1.
        groups: [N]; members of one group make no pair.
        above: least cosine.
        limit: most pairs.
    """
    best: list[tuple[float, int, int]] = []
    for a in range(0, len(vectors), BLOCK):
        for b in range(a, len(vectors), BLOCK):
            alike = vectors[a : a + BLOCK] @ vectors[b : b + BLOCK].T
            rows, columns = np.nonzero(alike >= above)
            apart = (a + rows < b + columns) & (groups[a + rows] != groups[b + columns])
            rows, columns = rows[apart], columns[apart]
            values = alike[rows, columns]
            keep = np.argsort(-values, kind="stable")[:limit]
            best += [(float(values[n]), int(a + rows[n]), int(b + columns[n])) for n in keep]
            best = sorted(best, key=lambda pair: (-pair[0], pair[1:]))[:limit]
    return best


def nearest_earlier(vectors: Vectors, groups: npt.NDArray[np.int_]) -> tuple[npt.NDArray[np.int_], Vectors]:
    """Return for each vector [N, E] the most similar one before it in another group [N], and how similar it is.

    Places are -1, and similarities minus infinity, where no other group comes before it.
    """
    place, best = np.full(len(vectors), -1), np.full(len(vectors), -np.inf, np.float32)
    for b in range(0, len(vectors), BLOCK):
        mine = slice(b, b + BLOCK)
        own = np.arange(b, min(b + BLOCK, len(vectors)))
        for a in range(0, b + BLOCK, BLOCK):
            alike = vectors[mine] @ vectors[a : a + BLOCK].T
            others = np.arange(a, a + alike.shape[1])
            alike[(others[None] >= own[:, None]) | (groups[mine, None] == groups[None, others])] = -np.inf
            if not alike.size:
                continue
            top = alike.argmax(axis=1)
            value = alike[np.arange(len(own)), top]
            better = value > best[mine]
            best[mine], place[mine] = np.where(better, value, best[mine]), np.where(better, a + top, place[mine])
    return place, best


@contextlib.contextmanager
def _manifest(dataset: Dataset) -> Iterator[duckdb.DuckDBPyConnection]:
    with contextlib.closing(dataset.connect(tables=[MANIFEST], shut=True)) as con:
        yield con


def _run(dataset: Dataset, sql: str, wanted: Wanted, among: Among) -> pa.Table:
    given = {"vector": wanted.vector.tolist(), "model": wanted.model, "but": wanted.but, "state": among.state}
    with _manifest(dataset) as con:
        try:
            asked = {name: value for name, value in given.items() if f"${name}" in sql}
            rows: pa.Table = con.sql(sql, params=asked).to_arrow_table()
        except duckdb.Error as e:
            why = str(e).splitlines()[0]
            raise SearchError(f"the manifest cannot be searched by {among.where!r}: {why}") from e
    return rows
