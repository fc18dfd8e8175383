"""How a manifest was opened and ordered before it was kept in columns: what the present way must equal."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lpm_train.batch import sample_seed
from lpm_train.data.order import Bucket, spread
from lpm_train.data.shards import Row
from schemas.tables.output import MANIFEST


def read(path: Path) -> pa.Table:
    """Return a manifest without its vectors."""
    file = pq.ParquetFile(path)
    return file.read([n for n in file.schema_arrow.names if n not in ("vector", "reference_vectors")])


def select(table: pa.Table, where: str | None) -> pa.Table:
    """Return the rows for which a condition holds, sorted by segment_id."""
    if where is not None:
        with duckdb.connect() as connection:
            connection.register("manifest", table.append_column("_i", pa.array(range(table.num_rows))))
            hits = connection.sql(f"SELECT _i FROM manifest WHERE ({where})").fetchall()
        table = table.take(pa.array([h[0] for h in hits], pa.int64()))
    return table.sort_by("segment_id")


def rows(table: pa.Table) -> list[Row]:
    """Return the rows of a selected table."""
    out = []
    for row in table.to_pylist():
        start = len(row["segment_id"]) + 1
        members = {m["name"][start:]: (m["offset"], m["size"]) for m in row["members"]}
        out.append(Row(**{n: row[n] for n in Row.__dataclass_fields__ if n != "members"}, members=members))
    return out


def hash_of(table: pa.Table) -> str:
    """Hash all values of the declared columns of a selected table."""
    names = [c.name for c in MANIFEST.columns if c.name in table.column_names]
    digest, sink = hashlib.sha256("\x1f".join(names).encode()), pa.BufferOutputStream()
    plain = table.select(names).replace_schema_metadata(None).combine_chunks()
    with pa.ipc.new_stream(sink, plain.schema) as writer:
        writer.write_table(plain)
    digest.update(sink.getvalue())
    return digest.hexdigest()


class Order:
    """The order of all batches over a plain mapping."""

    def __init__(
        self, samples: Mapping[str, tuple[Bucket, str]], global_batch: int, seed: int = 0,
        balance: Mapping[str, float] | None = None,
    ) -> None:  # fmt: skip
        self.samples, self.global_batch, self.seed, self.balance = samples, global_batch, seed, balance
        found: dict[Bucket, dict[str, list[str]]] = {}
        for sample_id in sorted(samples):
            bucket, state = samples[sample_id]
            if balance is None or balance.get(state, 0) > 0:
                found.setdefault(bucket, {}).setdefault("" if balance is None else state, []).append(sample_id)
        self.buckets = {bucket: dict(sorted(groups.items())) for bucket, groups in sorted(found.items())}

    def schedule(self, epoch: int) -> list[tuple[Bucket, int]]:
        """Return an epoch's batches as (bucket, number of the batch in the bucket's stream)."""
        batches = []
        for bucket, groups in self.buckets.items():
            size = sum(map(len, groups.values()))
            first, stop = (e * size // self.global_batch for e in (epoch, epoch + 1))
            batches += [(bucket, j) for j in range(first, stop)]
        mix = np.random.default_rng(sample_seed(self.seed, "schedule", epoch)).permutation(len(batches))
        turns = {bucket: iter([b for b in batches if b[0] == bucket]) for bucket in self.buckets}
        return [next(turns[batches[i][0]]) for i in mix]

    def batch(self, epoch: int, cursor: int) -> list[tuple[str, int, Bucket]]:
        """Return the draws of a batch as (sample, turn, bucket)."""
        bucket, number = self.schedule(epoch)[cursor]
        groups, draws = list(self.buckets[bucket].items()), []
        deal = spread([1.0], 1) if self.balance is None else spread([self.balance[g] for g, _ in groups], 1000)
        for slot in range(number * self.global_batch, (number + 1) * self.global_batch):
            cycle, place = divmod(slot, len(deal))
            name, ids = groups[group := int(deal[place])]
            before = cycle * int((deal == group).sum()) + int((deal[:place] == group).sum())
            turn, at = divmod(before, len(ids))
            seed = sample_seed(self.seed, "order", f"{bucket}/{name}", turn)
            draws.append((ids[np.random.default_rng(seed).permutation(len(ids))[at]], turn, bucket))
        return draws

    @property
    def fingerprint(self) -> str:
        """Hash of all that the meaning of (epoch, cursor) depends on, but the seed."""
        shares = sorted(self.balance.items()) if self.balance is not None else None
        text: Any = repr((sorted(self.samples.items()), self.global_batch, shares))
        return hashlib.sha256(text.encode()).hexdigest()[:16]
