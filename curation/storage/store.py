"""The dataset store: a directory or an s3:// prefix holding tables, commits, clips and shards.

Every write is atomic (temporary name, fsync, rename; one PUT on object stores), so a killed run leaves no half
file. Parquet is written deterministically: equal tables give equal bytes, and their SHA-256 is their identity.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from curation.storage.checked import json_bytes
from curation.storage.compacted import FOLDER, GONE, Compacted, Folder, Part, live_parts
from curation.storage.recalled import SMALL_BYTES, Recalled
from curation.storage.writers import written
from curation.storage.writers.conditional import Conditional, boto3_there
from curation.storage.writers.written import Hashing
from schemas.files.places import OBJECT_STORES, inside, open_place, replacing
from schemas.files.places import StoreError as StoreError
from schemas.table import Table

ROW_GROUP = 65_536
"""Rows of a Parquet row group, at most."""

_BLOCK = 1 << 22  # bytes read at once
_RECALLED = ("commits/", "tables/")
"""What `Store.recalling` holds: small, read often, written by steps alone."""


DAMAGED = "`lpm verify` says what else is, `lpm verify --repair` mends what can be mended"

FATAL = {
    errno.ENOSPC: "the disk is full: free some space and run the same command again; finished work is kept",
    errno.EDQUOT: "the disk quota is used up: free some space and run the same command again",
    errno.EROFS: "the output is read-only: choose a writable --out",
    errno.EACCES: "no permission to write: choose a writable --out",
    errno.EPERM: "not permitted to write: choose a writable --out",
}


class Store:
    """Files under one root, named by relative POSIX paths. Picklable: workers reopen it."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._fs, self.root = open_place(uri)
        self.local = isinstance(self._fs, pafs.LocalFileSystem)
        self.compacted = Compacted(self._fs, self.root)
        self._recalled: Recalled | None = None
        self._objects: Conditional | None = None
        self._tags: dict[str, str] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Store, (self.uri,)

    def path(self, name: str) -> str:
        """Return the file system path of a relative name; refuses names that leave the root."""
        return inside(self.root, name)

    def place(self, name: str) -> str:
        """Return where a file is, as a user names it: its local path, or its URI."""
        return self.path(name) if self.local else f"{self.uri.partition('://')[0]}://{self.path(name)}"

    def local_path(self, name: str) -> Path:
        """Return the local path of a file, for libraries that need one; local stores only."""
        if not self.local:
            raise StoreError(f"{self.uri} is not a local directory")
        return Path(self.path(name))

    @contextlib.contextmanager
    def recalling(self, *, listing: bool = False) -> Iterator[None]:
        """Ask for each small commit and table once inside the block, in which nobody else writes those asked for.

        `listing`: find out what exists by listing whole folders, for who asks about all of their files.
        """
        before = self._recalled
        self._recalled = self.compacted.recalled = before or Recalled(listing)
        try:
            yield
        finally:
            self._recalled = self.compacted.recalled = before

    # ------------------------------------------------------------------ bytes

    def write(self, name: str, data: bytes) -> str:
        """Write a file atomically and return the SHA-256 of its bytes."""
        target = self._to_write(name)
        try:
            if self.local:
                self._write_local(Path(target), data)
            else:
                with self._fs.open_output_stream(target) as f:
                    f.write(data)
        except OSError as e:
            raise StoreError(f"cannot write {target}: {FATAL.get(e.errno or 0, str(e))}") from e
        return self._wrote(name, data)

    def _wrote(self, name: str, data: bytes) -> str:
        """Keep in mind what was written, and return its hash."""
        digest = hashlib.sha256(data).hexdigest()
        written.note(self.root, name, digest)
        if self._recalled is not None and name.startswith(_RECALLED):
            self._recalled.put(name, data)
        return digest

    def replace(self, name: str, data: bytes, *, last: bool) -> None:
        """Write a small file that nobody else may have written since this store did, `last` for the last time.

        An object store is asked to refuse it otherwise, so that a writer which was stopped between looking and writing
        does no harm; on a disk the lock keeps others out.

        Raises:
            StoreError: somebody else has; nothing is written any more.
        """
        if not self.uri.startswith("s3://"):
            self.write(name, data)
            return
        self._to_write(name)
        tag = self.conditional().write(name, data, self._tags.pop(name, None))
        if tag is None:
            written.forbid(self.root, f"another process has written {name} meanwhile")
            self._to_write(name)
        elif not last:
            self._tags[name] = tag
        self._wrote(name, data)

    def check(self) -> None:
        """Raise StoreError where somebody else writes the dataset."""
        self._to_write(".")

    def tag(self, name: str) -> str | None:
        """Return what `swap` needs to know of a file: "" = there is none, None where the store tells nothing."""
        if not self.uri.startswith("s3://"):
            return None
        found = self.conditional().small(name, 1)
        return "" if found is None else found[2]

    def swap(self, name: str, data: bytes, tag: str | None) -> bool:
        """Write a file where it is as its tag says, and say whether it was; elsewhere than on s3:// it always is."""
        if tag is None:
            self.write(name, data)
            return True
        self._to_write(name)
        if self.conditional().write(name, data, tag) is None:
            return False
        self._wrote(name, data)
        return True

    def conditional(self) -> Conditional:
        """Return writes of objects that are refused where another is in their place; of an s3:// prefix only."""
        if self._objects is None:
            self._objects = Conditional(self.uri, self.root)
        return self._objects

    def _to_write(self, name: str) -> str:
        """Return the path of a file that is to be written. Raises StoreError where somebody else writes the dataset."""
        if (why := written.look(self.root)) is not None:
            raise StoreError(f"{self.uri} is written no more: {why}; run the same command again")
        return self.path(name)

    @staticmethod
    def _write_local(target: Path, data: bytes) -> None:
        with replacing(target) as f:
            f.write(data)

    def append(self, name: str, data: bytes) -> None:
        """Add bytes to the end of a file, which nobody else writes, and have them on disk; local stores only.

        Where this fails or is killed, a part of the bytes may be there.
        """
        target = Path(self._to_write(name))
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("ab") as f:
                f.write(data)
                f.flush()
                os.fsync(f.fileno())
        except OSError as e:
            raise StoreError(f"cannot write {target}: {FATAL.get(e.errno or 0, str(e))}") from e

    @contextlib.contextmanager
    def open_output(self, name: str) -> Iterator[Hashing]:
        """Open a large file for writing; it appears under its name only when the block ends without error.

        The stream tells the hash of what went through it.
        """
        target = self._to_write(name)
        try:
            with replacing(Path(target)) if self.local else self._uploaded(target) as f:
                stream = Hashing(f)
                yield stream
            written.note(self.root, name, stream.hexdigest())
        except OSError as e:
            raise StoreError(f"cannot write {target}: {FATAL.get(e.errno or 0, str(e))}") from e

    @contextlib.contextmanager
    def _uploaded(self, target: str) -> Iterator[IO[bytes]]:
        """Take what is to become an object on this machine's disk, and send it when the block ends without error.

        A stream to the store would end its object with what it has got, whatever the reason.
        """
        with tempfile.TemporaryFile() as spool:
            yield spool
            spool.seek(0)
            with self._fs.open_output_stream(target) as out:
                shutil.copyfileobj(spool, out, _BLOCK)

    def _open(self, name: str) -> pa.NativeFile:
        """Open a file for reading. Raises FileNotFoundError."""
        known = self._recalled if name.startswith(_RECALLED) else None
        if known is None:
            return self._fs.open_input_file(self.path(name))
        if name not in known:
            try:
                if known.listing and is_part(name) and name not in self._listed(known, name):
                    raise FileNotFoundError(errno.ENOENT, "no such file", name)
                data = self._small(name)
            except FileNotFoundError:
                known.put(name, None)
                raise
            if data is None:
                return self._fs.open_input_file(self.path(name))
            known.put(name, data)
        data = known.get(name)
        if data is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", name)
        return pa.BufferReader(data)

    def _small(self, name: str) -> bytes | None:
        """Return the bytes of a small file; None of one that is not. Raises FileNotFoundError."""
        if self.uri.startswith("s3://") and boto3_there():
            found = self.conditional().small(name, SMALL_BYTES)
            if found is None:
                raise FileNotFoundError(errno.ENOENT, "no such file", name)
            return found[0] if found[1] else None
        with self._fs.open_input_file(self.path(name)) as f:
            return None if f.size() > SMALL_BYTES else bytes(f.read())

    def held(self, name: str) -> object:
        """Return what stands for the content of a source's table: equal again only where the content is the same.

        What is not held in memory (see `recalling`) equals nothing, so that asking never costs more than reading.
        """
        known = self._recalled
        if known is None:
            return object()
        if name not in known:
            with contextlib.suppress(FileNotFoundError):
                self._open(name).close()
        if name not in known:
            return object()
        data = known.get(name)
        return self.compacted.find(name) if data is None else data

    def read(self, name: str, offset: int = 0, size: int | None = None) -> bytes:
        """Read a file, or `size` bytes of it from `offset`. Raises FileNotFoundError."""
        with self._open(name) as f:
            f.seek(offset)
            return bytes(f.read(size))

    def lines(self, name: str) -> Iterator[str]:
        """Yield the lines of a text file, a few at a time in memory. Raises FileNotFoundError."""
        with self._fs.open_input_file(self.path(name)) as f, io.TextIOWrapper(cast(IO[bytes], f), "utf-8") as text:
            yield from text

    def exists(self, name: str) -> bool:
        """Say whether a file of that name exists; a table's file may also be a part of a compact file."""
        known = self._recalled
        if known is not None and name in known:
            if known.get(name) is not None:
                return True
        elif known is not None and known.listing and is_part(name):
            if name in self._listed(known, name):
                return True
        elif self._fs.get_file_info(self.path(name)).type == pafs.FileType.File:
            return True
        return is_part(name) and self.compacted.find(name) is not None

    def _listed(self, known: Recalled, name: str) -> set[str]:
        """Return the names of the files beside a table's file."""
        folder = name.rpartition("/")[0]
        if folder not in known.files:
            known.files[folder] = set(self.top(folder))
        return known.files[folder]

    def size(self, name: str) -> int:
        """Return a file's size in bytes."""
        return int(self._fs.get_file_info(self.path(name)).size)

    def delete(self, name: str) -> None:
        """Delete a file if it exists; a part of a compact file is marked as gone."""
        self.delete_file(name)
        if is_part(name) and self.compacted.find(name) is not None:
            self.write(name + GONE, b"")

    def delete_file(self, name: str) -> None:
        """Delete a file by its own name if it exists. Raises StoreError."""
        target = self._to_write(name)
        try:
            with contextlib.suppress(FileNotFoundError):
                if self.local:
                    Path(target).unlink()
                else:
                    self._fs.delete_file(target)
        except OSError as e:
            raise StoreError(f"cannot delete {target}: {FATAL.get(e.errno or 0, str(e))}") from e
        if self._recalled is not None:
            self._recalled.drop(name)
        written.note(self.root, name, None)

    def top(self, prefix: str = "") -> list[str]:
        """Return the relative names of the files right under a directory, sorted, temporary ones left out."""
        found = self._fs.get_file_info(pafs.FileSelector(self.path(prefix), allow_not_found=True))
        names = (i.path[len(self.root) + 1 :] for i in found if i.type == pafs.FileType.File)
        return sorted(n for n in names if not n.rsplit("/", 1)[-1].startswith(".tmp-"))

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return the relative names and bytes of all files under a directory, temporary ones left out."""
        selector = pafs.FileSelector(self.path(prefix), allow_not_found=True, recursive=True)
        found = (i for i in self._fs.get_file_info(selector) if i.type == pafs.FileType.File)
        sizes = {i.path[len(self.root) + 1 :]: int(i.size) for i in found}
        return {n: sizes[n] for n in sorted(sizes) if not n.rsplit("/", 1)[-1].startswith(".tmp-")}

    def times(self, prefix: str, *, recursive: bool) -> Iterator[tuple[str, float]]:
        """Yield the relative names of files under a directory, and when each was written (seconds since 1970)."""
        selector = pafs.FileSelector(self.path(prefix), allow_not_found=True, recursive=recursive)
        for i in self._fs.get_file_info(selector):
            name = i.path[len(self.root) + 1 :]
            if i.type == pafs.FileType.File and not name.rsplit("/", 1)[-1].startswith(".tmp-"):
                yield name, i.mtime_ns / 1e9 if i.mtime_ns else 0.0

    def directories(self, prefix: str) -> list[str]:
        """Return the relative names of the directories right under one, sorted; none where it does not exist."""
        found = self._fs.get_file_info(pafs.FileSelector(self.path(prefix), allow_not_found=True))
        return sorted(i.path[len(self.root) + 1 :] for i in found if i.type == pafs.FileType.Directory)

    def names(self, prefix: str, suffix: str = "") -> Iterator[str]:
        """Yield the relative names of files under a directory, sorted; temporary files are left out."""
        yield from (name for name in self.sizes(prefix) if name.endswith(suffix))

    def first(self, most: int) -> list[str]:
        """Return the relative names of at most so many files; costs one request on an s3:// prefix, however full."""
        if self.uri.startswith("s3://"):
            return self.conditional().first(most)
        return list(itertools.islice(self.names(""), most))

    def folders(self, prefix: str) -> dict[str, Folder]:
        """Return the buckets of a table by relative name, sorted; `prefix` is the table's directory or one bucket."""
        out: dict[str, Folder] = {}
        for name, size in self.sizes(prefix).items():
            parent, _, base = name.rpartition("/")
            inside, _, last = parent.rpartition("/")
            if last == FOLDER and base.endswith(".parquet"):
                out.setdefault(inside, Folder()).compact.append(name)
            elif base.endswith(GONE):
                out.setdefault(parent, Folder()).gone.append(name)
            elif base.endswith(".parquet"):
                out.setdefault(parent, Folder()).small[name] = size
        return dict(sorted(out.items()))

    def tables(self, prefix: str) -> dict[str, Part | None]:
        """Return the table files under a directory by logical name, sorted: None for a file, or its compacted part."""
        out: dict[str, Part | None] = {}
        for folder in self.folders(prefix).values():
            out |= dict.fromkeys(folder.small)
            for parts in live_parts((self.compacted.parts(n) for n in folder.compact), folder.hidden):
                out |= {part.name: part for part in parts}
        return dict(sorted(out.items()))

    def missing_bucket(self) -> str | None:
        """Return the name of the bucket where an object store says that it has none of that name; one request.

        None also where it does not tell, as to who may only read.
        """
        bucket = self.root.partition("/")[0]
        if not self.uri.startswith(tuple(f"{scheme}://" for scheme in OBJECT_STORES)):
            return None
        try:
            found = self._fs.get_file_info(bucket)
        except OSError:
            return None
        return bucket if found.type == pafs.FileType.NotFound else None

    def remove_temporaries(self) -> int:
        """Delete temporary files that a killed run left behind; return how many. Local stores only."""
        if not self.local or not Path(self.root).is_dir():
            return 0
        stale = [p for p in Path(self.root).rglob(".tmp-*") if p.is_file()]
        for p in stale:
            p.unlink(missing_ok=True)
        return len(stale)

    # ------------------------------------------------------------------ json and tables

    def write_json(self, name: str, value: Any, *, sort: bool = True) -> str:
        """Write JSON, keys sorted unless their order means something; return its SHA-256."""
        return self.write(name, json_bytes(value, sort=sort))

    def read_json(self, name: str) -> Any | None:
        """Read JSON, or None when there is no such file. Raises StoreError for what is not JSON."""
        try:
            return json.loads(self.read(name))
        except FileNotFoundError:
            return None
        except ValueError as e:
            raise StoreError(f"{name} of {self.uri} is damaged ({e}); {DAMAGED}") from e

    def write_table(self, name: str, table: Table, rows: pa.Table) -> str:
        """Validate rows against their table and write them as Parquet; return the SHA-256 of the bytes."""
        rows = table.validated(rows)
        # A source's many small files would grow by it; the catalogue tells of their columns.
        return self.write(name, parquet_bytes(rows.cast(table.described) if table.grain == "dataset" else rows))

    def read_table(self, name: str, table: Table, columns: list[str] | None = None) -> pa.Table:
        """Read a Parquet file of `table`, or the part of a compact file it became. Raises FileNotFoundError."""
        try:
            with self._open(name) as f:
                rows = _rows(pq.ParquetFile(f), columns)
                return rows if columns is None else rows.select(columns)
        except FileNotFoundError:
            part = self.compacted.find(name) if is_part(name) else None
            if part is None:
                raise
            return self.compacted.read(part, table.schema, columns)
        except (pa.ArrowException, KeyError) as e:
            raise StoreError(f"{name} of {self.uri} is damaged ({_first_line(e)}); {DAMAGED}") from e

    def read_whole(self, name: str, table: Table, columns: list[str]) -> pa.Table | None:
        """Read columns of a source's table; None where it is not there, or an older version wrote it with others."""
        wanted = set(table.column_names)
        try:
            with self._open(name) as f:
                file = pq.ParquetFile(f)
                return _rows(file, columns).select(columns) if wanted <= set(file.schema_arrow.names) else None
        except FileNotFoundError:
            part = self.compacted.find(name)
            if part is None or not wanted <= self.compacted.columns(part.file):
                return None
            return self.compacted.read(part, table.schema, columns)
        except (pa.ArrowException, KeyError) as e:
            raise StoreError(f"{name} of {self.uri} is damaged ({_first_line(e)}); {DAMAGED}") from e

    def filesystem(self) -> pafs.FileSystem:
        """Return the Arrow file system beneath, for readers that take one."""
        return self._fs


def parquet_bytes(rows: pa.Table) -> bytes:
    """Serialise rows; equal rows give equal bytes (single row-group writer, fixed codec)."""
    sink = io.BytesIO()
    # Where a table is cut into chunks depends on how it was put together; pages must not.
    pq.write_table(rows.combine_chunks(), sink, compression="zstd", compression_level=3, row_group_size=ROW_GROUP)
    return sink.getvalue()


def _rows(file: pq.ParquetFile, columns: list[str] | None) -> pa.Table:
    """Read a file: a small one without threads, which take longer to be told than to do it."""
    return file.read(columns, use_threads=file.metadata.num_rows > ROW_GROUP)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def is_part(name: str) -> bool:
    """Say whether files of that name may be gathered into compact ones: a source's tables."""
    return name.startswith("tables/") and "/bucket=" in name


def table_file(table: Table, source_id: str = "", window: int | None = None) -> str:
    """Return the relative name of a table's file: a source's, one of its windows', or the dataset's."""
    if table.grain == "dataset":
        return "manifest.parquet" if table.name == "manifest" else f"tables/{table.name}/dataset.parquet"
    tail = "" if window is None else f".w{window:04d}"
    return f"tables/{table.name}/bucket={source_id[:2]}/{source_id}{tail}.parquet"
