"""Is every sample what the tables say, and every row of the manifest what its sample says?

The samples are put together again from the tables, as packing does, some thousand at a time, and held against the
manifest row by row. What a later version of the program measures besides is no difference.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa

from curation.dataset import Dataset
from curation.pack.samples import BATCH, Entry, kept_entries
from curation.pack.vectors import SampleVectors
from curation.storage.batches import batches
from curation.verify.few import Few
from curation.verify.finding import Finding, Mend
from schemas import tables as t
from schemas.samples.manifest import manifest_row
from schemas.samples.sample import Sample
from schemas.tables.output import ManifestRow as M

_PLACES = {M.shard_sha256.name, M.shard.name, M.members.name, M.member_sha256.name}
"""Columns that say where the bytes are, which is held against the shards."""
_VECTORS = {M.vector.name, M.vector_model.name, M.reference_vectors.name}


def unlike(dataset: Dataset) -> Iterator[Finding]:
    """Say which samples and which rows of the manifest differ from what the tables say."""
    if not dataset.files(t.MANIFEST):
        return
    vectors = SampleVectors(dataset)
    texts = Few("sample {} is not what the tables say; run `lpm pack`")
    found: dict[str, Few] = {}
    columns = present(dataset)
    pairs = ((pair, 1.0) for pair in _pairs(dataset))
    for batch in batches(pairs, BATCH):
        shown = {row.segment_id: [(s, k, n) for _, s, k, n, _ in entry.refs] for row, entry in batch}
        samples = [_as_packed(entry.sample, row) for row, entry in batch]
        rows = [manifest_row(x, entry.uri, row.shard, [], []) for (row, entry), x in zip(batch, samples, strict=True)]
        made = vectors.filled(t.MANIFEST.from_rows(rows), shown)
        given = t.MANIFEST.from_rows([_plain(row) for row, _ in batch])
        for name, ids in differences(given, made, columns - _PLACES):
            said = f"manifest.parquet: {name} of sample {{}} is not what the tables say; run `lpm pack`"
            found.setdefault(name, Few(said)).add(ids)
        texts.add(row.segment_id for (row, _), x in zip(batch, samples, strict=True) if not _same_text(dataset, row, x))
    for few in (*found.values(), texts):
        yield from (Finding(said, (Mend("pack", "manifest.parquet"),)) for said in few.said())


def present(dataset: Dataset) -> set[str]:
    """Return the columns that the manifest has; an older one lacks some."""
    import pyarrow.parquet as pq

    with dataset.store.filesystem().open_input_file(dataset.store.path("manifest.parquet")) as f:
        return set(pq.read_schema(f).names) & set(t.MANIFEST.column_names)


def differences(given: pa.Table, made: pa.Table, columns: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield each column in which two tables of the manifest differ, and the samples that do; both in the same order."""
    ids = M.segment_id.values(given)
    for name in sorted(columns):
        if not given[name].equals(made[name]):
            pairs = zip(ids, given[name].to_pylist(), made[name].to_pylist(), strict=True)
            if wrong := [i for i, a, b in pairs if a != b and not (a != a and b != b)]:
                yield name, wrong


def _plain(row: M) -> M:
    """Return a row without its members, which are not compared here."""
    return row.but(members=[], member_sha256=[])


def _pairs(dataset: Dataset) -> Iterator[tuple[M, Entry]]:
    """Yield rows of the manifest with what the tables say of the same sample, in order of id."""
    with contextlib.closing(dataset.connect(tables=[t.MANIFEST])) as con:
        found = con.sql(f"SELECT * FROM {t.MANIFEST.name} ORDER BY {M.segment_id.name}").to_arrow_reader(BATCH)
        rows = (row for batch in found for row in t.MANIFEST.rows(pa.Table.from_batches([batch])))
        entries = kept_entries(dataset, {}, "")
        row, entry = next(rows, None), next(entries, None)
        while row is not None and entry is not None:
            if row.segment_id == entry.sample.sample_id:
                yield row, entry
                row = next(rows, None)
            elif row.segment_id < entry.sample.sample_id:
                row = next(rows, None)
            else:
                entry = next(entries, None)


def _as_packed(sample: Sample, row: M) -> Sample:
    """Return a sample with what its row alone tells: what measured it, and the policy that kept it."""
    try:
        annotators = json.loads(row.annotators)
    except ValueError:
        annotators = {}
    return sample.model_copy(update={"annotators": annotators, "policy_id": row.policy_id})


def _same_text(dataset: Dataset, row: M, sample: Sample) -> bool:
    """Say whether the packed record is the sample; a field that it does not have is of a later version."""
    names = [m["name"].partition(".")[2] for m in row.members]
    if "json" not in names:
        return True  # what is wrong there, the shards tell
    at = names.index("json")
    text = sample.model_dump_json(indent=1).encode()
    digests = row.member_sha256
    if digests is not None and at < len(digests) and digests[at] == hashlib.sha256(text).hexdigest():
        return True
    place = row.members[at]
    try:
        packed = json.loads(dataset.store.read(f"shards/{row.shard}", place["offset"], place["size"]))
    except Exception:  # the shards tell
        return True
    return _within(packed, json.loads(text))


def _within(packed: Any, made: Any) -> bool:
    if isinstance(packed, dict) and isinstance(made, dict):
        return all(key in made and _within(value, made[key]) for key, value in packed.items())
    if isinstance(packed, list) and isinstance(made, list):
        return len(packed) == len(made) and all(_within(a, b) for a, b in zip(packed, made, strict=True))
    return bool(packed == made)
