"""Rows of Parquet, CSV and JSON lines: clips that lie in them as bytes (as Hugging Face writes them), or what they say
of files beside them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.json as pajson
import pyarrow.parquet as pq

from curation.check.declared import Fact, flat
from curation.check.samples import Sample, place, role_of

TABLES = frozenset({".parquet", ".csv", ".jsonl"})
FILE_COLUMNS = (
    "file_name", "video_file_name", "filename", "file", "path", "video", "video_path", "video_file", "clip",
    "clip_path", "mp4",
)  # fmt: skip
_KEYS = ("__key__", "key", "id", "clip_id", "sample_id", "file_name", "name")
_ROWS = 16
"""Rows with media that are held in memory at once."""
_HEADS = (
    (4, b"ftyp", ".mp4"), (0, b"\x1a\x45\xdf\xa3", ".mkv"), (8, b"AVI ", ".avi"), (8, b"WAVE", ".wav"),
    (0, b"fLaC", ".flac"), (0, b"OggS", ".ogg"), (0, b"ID3", ".mp3"), (0, b"\xff\xfb", ".mp3"),
)  # fmt: skip
_VIDEOS = (".mp4", ".mkv", ".avi")


def has_media(table: Path) -> bool:
    """Say whether a Parquet file has a column that can hold the bytes of files."""
    if table.suffix.lower() != ".parquet":
        return False
    return bool(_media_columns(pq.read_schema(table)))


def _media_columns(schema: pa.Schema) -> list[str]:
    return [f.name for f in schema if _binary(f.type) or (pa.types.is_struct(f.type) and _holds_bytes(f.type))]


def _holds_bytes(kind: pa.StructType) -> bool:
    at = kind.get_field_index("bytes")
    return bool(at >= 0 and _binary(kind.field(at).type))


def _binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def samples_of_parquet(table: Path, shown: str, folder: Path) -> Iterator[Sample]:
    """Yield the clips that lie in rows of a Parquet file, taken out into `folder`. Raises OSError, ArrowInvalid."""
    changed, n = table.stat().st_mtime_ns, 0
    with pq.ParquetFile(table) as file:
        media = _media_columns(file.schema_arrow)
        for batch in file.iter_batches(batch_size=_ROWS):
            for row in batch.to_pylist():
                yield _row_sample(row, media, f"{shown}::{_row_key(row, n)}", folder / f"{n:06d}", changed)
                n += 1


def _row_key(row: dict[str, Any], n: int) -> str:
    return next((str(row[k]) for k in _KEYS if isinstance(row.get(k), str | int)), f"row {n}")


def _row_sample(row: dict[str, Any], media: list[str], name: str, target: Path, changed: int) -> Sample:
    picture: Path | None = None
    sounds: dict[str, Path] = {}
    for column in media:
        value = row[column]
        data = value.get("bytes") if isinstance(value, dict) else value
        suffix = None if not data else next((s for at, head, s in _HEADS if data[at : at + len(head)] == head), None)
        if data is None or suffix is None:
            continue
        if suffix in _VIDEOS and picture is None:
            picture = place(data, len(data), target.with_suffix(suffix), changed)
        elif suffix not in _VIDEOS:
            role = role_of(column)
            sounds[role] = place(data, len(data), target.with_name(f"{target.name}-{role}{suffix}"), changed)
    facts = flat({k: v for k, v in row.items() if k not in media})
    why = None if picture is not None else f"no video in its columns ({', '.join(media)})"
    return Sample(name, picture, sounds, facts, why)


def rows_by_file(table: Path) -> dict[str, dict[str, Fact]] | None:
    """Return what a table says of files, by the name that it gives them; None where it has no column of names.

    Raises OSError, ArrowInvalid.
    """
    readers: dict[str, Any] = {".parquet": pq.read_table, ".csv": pacsv.read_csv, ".jsonl": pajson.read_json}
    rows = readers[table.suffix.lower()](table)
    column = next((c for c in FILE_COLUMNS if c in rows.column_names and pa.types.is_string(rows[c].type)), None)
    if column is None:
        return None
    return {str(row[column]): flat(row) for row in rows.to_pylist() if row[column]}
