"""Read tables that were gathered into larger files: which parts a bucket's `compact/` files hold, and each of them.

A compact file is plain Parquet with the rows of many small table files one after the other, each part in row groups of
its own; its footer lists the parts. A part keeps the name of the file it came from (its logical name), so commits and
stages go on naming it. Three rules make every state that a killed process can leave readable:

- a small file is newer than a compacted part of the same name, and hides it;
- a mark `<name>.gone` hides a part that was deleted;
- a part found in several compact files counts once.

`curation.storage.compaction` writes compact files and, at the end of each run, clears away what is hidden.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from curation.storage.batches import batches
from curation.storage.recalled import Recalled

FOOTER = b"openlpm.parts"
FOLDER = "compact"
GONE = ".gone"


_FOOTERS = 1024
"""Compact files of which the parts are kept: those of a bucket, and of a few more; some 200 KB each at the most."""


_RUN_BYTES = 4 * 2**20
"""Parts of a file that follow one another are read at once up to so many bytes of rows."""


_AHEAD_PARTS, _AHEAD_ROWS = 64, 8192
"""With one part, so many that follow it are read, with so many rows, where one asks for one after the other."""


_OPENED = 12
"""Compact files of which the whole footer is kept, some 10 MB each at the most: sources that follow one another lie in
the same files, one a table, and to read a footer takes longer than to read a part."""


@dataclass(frozen=True, slots=True)
class Part:
    """A small file's rows inside a compact file."""

    name: str
    """logical name: the relative path of the file it came from"""
    sha256: str
    """of that file's bytes"""
    rows: int
    file: str
    """relative path of the compact file"""
    groups: tuple[int, ...]
    """its row groups there; none for an empty table"""


@dataclass(frozen=True, slots=True)
class Folder:
    """A bucket of a table: its small files with sizes, compact files and marks, by relative name."""

    small: dict[str, int] = field(default_factory=dict)
    compact: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)

    @property
    def hidden(self) -> list[str]:
        """Names of which no compacted part counts."""
        return [*self.small, *(mark.removesuffix(GONE) for mark in self.gone)]

    @property
    def plain(self) -> bool:
        """Every row of every file counts, as one can tell without opening any."""
        return not self.compact or (len(self.compact) == 1 and not self.small and not self.gone)


class Compacted:
    """The compact files of one dataset, looked up folder by folder."""

    def __init__(self, fs: pafs.FileSystem, root: str) -> None:
        self._fs, self._root = fs, root
        self._footers: dict[str, tuple[dict[str, Part], frozenset[str]]] = {}
        self._opened: dict[str, pq.FileMetaData] = {}
        self.recalled: Recalled | None = None
        """what its store holds in mind, while it does"""

    def files(self, folder: str) -> list[str]:
        """Return the relative names of the compact files of a bucket's folder, sorted."""
        known = {} if self.recalled is None else self.recalled.folders
        if folder not in known:
            selector = pafs.FileSelector(f"{self._root}/{folder}/{FOLDER}", allow_not_found=True)
            found = (i.path[len(self._root) + 1 :] for i in self._fs.get_file_info(selector))
            whole = (n for n in found if n.endswith(".parquet") and not n.rsplit("/", 1)[-1].startswith(".tmp-"))
            known[folder] = sorted(whole)
        return known[folder]

    def parts(self, file: str) -> tuple[Part, ...]:
        """Return the parts of a compact file."""
        return tuple(self._by_name(file).values())

    def columns(self, file: str) -> frozenset[str]:
        """Return the names of the columns of a compact file."""
        return self._footer(file)[1]

    def _by_name(self, file: str) -> dict[str, Part]:
        """Return the parts of a compact file by name."""
        return self._footer(file)[0]

    def _footer(self, file: str) -> tuple[dict[str, Part], frozenset[str]]:
        """Return a compact file's parts by name and its columns; its own name says its content: they are read once."""
        if file not in self._footers:
            with self._fs.open_input_file(f"{self._root}/{file}") as f:
                reader = pq.ParquetFile(f)
                listed = json.loads((reader.metadata.metadata or {})[FOOTER])
            while len(self._footers) >= _FOOTERS:
                del self._footers[next(iter(self._footers))]
            parts = {
                p["name"]: Part(
                    p["name"], p["sha256"], p["rows"], file, tuple(range(p["first"], p["first"] + p["groups"]))
                )
                for p in listed
            }
            self._footers[file] = parts, frozenset(reader.schema_arrow.names)
        return self._footers[file]

    def find(self, name: str) -> Part | None:
        """Return the part of that logical name unless it is marked as deleted; small files are not looked at."""
        folder = name.rpartition("/")[0]
        for file in self.files(folder):
            part = self._by_name(file).get(name)
            if part is not None:
                return None if self._marked(name) else part
        return None

    def _marked(self, name: str) -> bool:
        listed = None if self.recalled is None else self.recalled.files.get(name.rpartition("/")[0])
        if listed is not None:
            return name + GONE in listed
        return bool(self._fs.get_file_info(f"{self._root}/{name}{GONE}").type == pafs.FileType.File)

    def read(self, part: Part, schema: pa.Schema, columns: list[str] | None = None) -> pa.Table:
        """Read one part's rows, all columns or some; those that the table has got since are not in it.

        Who goes through many of a folder (`Recalled.listing`) gets the next ones with it: of a small part most of the
        time goes into finding its columns.
        """
        if self.recalled is None or not self.recalled.listing:
            return next(self.read_each([part], schema, columns))
        place = part.file.rpartition("/")[0], tuple(columns or ())
        if part not in self.recalled.ahead.get(place, {}):
            parts = self.parts(part.file)
            follow = batches(((p, float(p.rows)) for p in parts[parts.index(part) :]), _AHEAD_ROWS, _AHEAD_PARTS)
            first = next(follow)
            self.recalled.ahead[place] = dict(zip(first, self.read_each(first, schema, columns), strict=True))
        return self.recalled.ahead[place][part]

    def read_each(
        self, parts: Iterable[Part], schema: pa.Schema, columns: list[str] | None = None
    ) -> Iterator[pa.Table]:
        """Yield the rows of each part as `read` does; a file is opened once for its parts that follow one another."""
        for file, mine in itertools.groupby(parts, lambda p: p.file):
            with self._fs.open_input_file(f"{self._root}/{file}") as f:
                reader = self._reader(file, f)
                held = set(reader.schema_arrow.names)
                names = [c for c in (columns or schema.names) if c in held]
                empty = pa.schema([schema.field(c) for c in names]).empty_table()
                for run in batches(((p, _bytes(reader, p)) for p in mine), _RUN_BYTES):
                    rows = empty
                    if groups := [g for p in run for g in p.groups]:
                        rows = reader.read_row_groups(groups, columns=names, use_threads=False)
                        rows = rows.select(names).cast(empty.schema)
                    first = 0
                    for part in run:
                        yield rows.slice(first, part.rows)
                        first += part.rows

    def _reader(self, file: str, source: pa.NativeFile) -> pq.ParquetFile:
        """Return a reader of an open compact file; the name of one says its content, so its footer is read once."""
        reader = pq.ParquetFile(source, metadata=self._opened.pop(file, None))
        while len(self._opened) >= _OPENED:
            del self._opened[next(iter(self._opened))]
        self._opened[file] = reader.metadata  # last again: the one that was not asked for the longest goes first
        return reader


def _bytes(reader: pq.ParquetFile, part: Part) -> float:
    """Return the bytes of a part's rows in memory, about."""
    return float(sum(reader.metadata.row_group(g).total_byte_size for g in part.groups))


def live_parts(compacts: Iterable[tuple[Part, ...]], hidden: Iterable[str]) -> list[tuple[Part, ...]]:
    """Return, per compact file, the parts that count: not hidden, and not in an earlier file."""
    seen = set(hidden)
    out = []
    for parts in compacts:
        mine = tuple(p for p in parts if p.name not in seen)
        seen |= {p.name for p in mine}
        out.append(mine)
    return out
