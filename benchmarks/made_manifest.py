"""A manifest of any number of rows, as wide as packing leaves them, made without media; for other programs here.

Rows are made and written one row group at a time, so memory does not grow with them. What differs from sample to sample
in a real dataset differs here (ids, sizes, words, captions); the vectors are null, as without a model of them. Members'
hashes are a few thousand again and again: as wide as real ones, but a third of the file's bytes less.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from made_tables import filled

from schemas.samples.members import MEMBERS
from schemas.tables.output import MANIFEST

GROUP = 65_536
"""Rows of a row group, as packing writes them."""
PER_SOURCE = 31
PER_SHARD = 600
"""Samples of a shard of 512 MiB."""
STATES = ["speak", "listen", "idle", "both"]
SIDES = np.array([222, 256, 384, 480, 512, 640, 720])
WORDS = np.array([
    "a", "the", "person", "woman", "man", "in", "white", "speaks", "listens", "calmly", "quickly", "nods", "smiles",
    "looks", "turns", "away", "at", "camera", "then", "raises", "lowers", "eyebrows", "leans", "back", "medium", "warm",
    "close-up", "shot", "static", "light", "room", "while", "other", "talks",
])  # fmt: skip
HASHES = [np.random.default_rng(i).bytes(32).hex() for i in range(4096)]

ANNOTATORS = json.dumps({f"stage-{i}": {"backend": "x" * 40, "weights": "0" * 64} for i in range(24)})
SCHEMA = pa.schema([f.with_type(pa.dictionary(pa.int32(), pa.string())) if f.name == "annotators" else f
                    for f in MANIFEST.schema])  # fmt: skip
"""A manifest's, but for a column of kilobytes that are the same in all rows: coded here, plain in the file."""


def write(folder: Path, rows: int) -> None:
    """Write `manifest.parquet`, and empty shards of the names that it holds."""
    (folder / "shards").mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(
        folder / "manifest.parquet", SCHEMA, compression="zstd", compression_level=3, store_schema=False
    ) as writer:
        for first in range(0, rows, GROUP):
            writer.write_table(made(first, min(GROUP, rows - first), rows), row_group_size=GROUP)
    for number in range(-(-rows // PER_SHARD)):
        (folder / "shards" / f"train-{number:06d}.tar").touch()


def made(first: int, n: int, rows: int) -> pa.Table:
    """Return the rows [first, first + n) of a manifest of `rows`, in order of their ids."""
    rng, row = np.random.default_rng([rows, first]), np.arange(first, first + n)
    source, segment = np.divmod(row, PER_SOURCE)
    step = 2**60 // (rows // PER_SOURCE + 1)
    sources = [f"{s * step:016x}" for s in source.tolist()]
    tracks = [f"{s}-t{k // 8:04d}" for s, k in zip(sources, segment.tolist(), strict=True)]
    start = segment % 8 * 6000 + rng.integers(0, 1500, n) // 40 * 40
    ids = [f"{t}-{ms:08d}" for t, ms in zip(tracks, start.tolist(), strict=True)]
    frames, side = rng.integers(75, 201, n), SIDES[rng.integers(0, len(SIDES), (n, 2))]
    state = pa.array(STATES).take(pa.array(np.minimum(rng.geometric(0.45, n) - 1, 3)))
    table = filled(
        MANIFEST, n, segment_id=ids, source_id=sources, name=[f"video-{s:07d}.mp4" for s in source.tolist()],
        uri=[f"s3://footage/videos/video-{s:07d}.mp4" for s in source.tolist()], track_id=tracks,
        identity_id=[f"p-{s % 0xFFFFF:012x}" for s in (source * 7919).tolist()],
        split=pa.array(["train", "val"]).take(pa.array((source % 50 == 0).astype(int))), state=state,
        category="Conversation",
        start_s=start / 1000, end_s=start / 1000 + frames / 25, duration_s=frames / 25, width=side[:, 0],
        height=side[:, 1], fps=25.0, n_frames=frames, n_audio_samples=frames * 1920, language="en",
        text=_said(rng, n, 22), confidence=rng.random(n), median_face_px=rng.random(n) * 200,
        partner_track_id=tracks, pair_id=[f"{s}-p{k:04d}" for s, k in zip(sources, segment.tolist(), strict=True)],
        pair_status="paired", n_references=2, reference_names=pa.repeat(pa.scalar(["ref.jpg", "ref_view_0.jpg"]), n),
        shard=[f"train-{i:06d}.tar" for i in (row // PER_SHARD).tolist()], members=_members(rng, ids, row),
        member_sha256=_lists(_hashes(rng, n * len(MEMBERS)), n), shard_sha256=_shard_hashes(row),
        annotators="",
        policy_id="8384d41b306d", asd_mean=rng.random(n), music=rng.random(n), singing=rng.random(n),
        laughter=rng.random(n), noise=rng.random(n), caption=_said(rng, n, 40),
        emotions=pa.repeat(pa.scalar(["neutral"]), n),
    )  # fmt: skip
    said = pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), [ANNOTATORS])
    return table.set_column(SCHEMA.get_field_index("annotators"), SCHEMA.field("annotators"), said)


def _said(rng: np.random.Generator, n: int, words: int) -> Any:
    """Return texts of `words` random words."""
    picked = pa.array(WORDS).take(pa.array(rng.integers(0, len(WORDS), n * words)))
    return pc.binary_join(_lists(picked, n), " ")


def _lists(flat: Any, n: int) -> Any:
    return pa.ListArray.from_arrays(pa.array(np.arange(n + 1) * (len(flat) // n), pa.int32()), flat)


def _hashes(rng: np.random.Generator, n: int) -> Any:
    return pa.array(HASHES).take(pa.array(rng.integers(0, len(HASHES), n)))


def _shard_hashes(row: Any) -> list[str]:
    return [f"{i * 0x9E3779B97F4A7C15 % 2**64:064x}" for i in (row // PER_SHARD).tolist()]


def _members(rng: np.random.Generator, ids: list[str], row: Any) -> Any:
    """Return the members as they lie in a tar: each after a header, padded to 512 bytes."""
    n, kinds = len(ids), len(MEMBERS)
    mean = np.array([400_000, 180_000, 180_000, 9_000, 15_000, 80_000])
    size = (mean * rng.uniform(0.5, 1.5, (n, kinds))).astype(np.int64)
    stored = 512 + -(-size // 512) * 512
    ends = np.cumsum(stored.ravel()).reshape(n, kinds)
    begin = ends - stored
    place = np.arange(n) - row % PER_SHARD  # the row of the block at which its shard begins
    base = np.where(place > 0, begin[np.maximum(place, 0), 0], 0)
    offset = begin - base[:, None] + 512
    suffix = pa.array(MEMBERS * n)
    names = pc.binary_join_element_wise(pa.array(ids).take(pa.array(np.repeat(np.arange(n), kinds))), suffix, ".")
    places = pa.StructArray.from_arrays(
        [names, pa.array(offset.ravel()), pa.array(size.ravel())], names=["name", "offset", "size"]
    )
    return _lists(places, n)
