"""Where checkpoints lie: a directory, or a prefix of an object store (s3:// and what else Arrow opens).

In a directory a checkpoint is written under another name and renamed when complete. Objects have no other name: there
the file that makes a checkpoint one, `meta.json`, is written last and deleted first. torch.distributed.checkpoint reads
and writes both through Arrow, each rank its own files.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
from torch.distributed.checkpoint.filesystem import FileSystemBase, FileSystemReader, FileSystemWriter

from lpm_train.storage import Storage

Place = Path | str  # a directory, or a URI

WHOLE = "meta.json"  # a checkpoint that has it is whole
TENSORS = "tensors"


def placed(said: Place) -> Place:
    """Read what a user or a configuration wrote: a URI stays text, all else is a path."""
    return str(said).rstrip("/") if "://" in str(said) else Path(said)


def below(at: Place, name: str) -> Place:
    """Return the place of a name within a place."""
    return at / name if isinstance(at, Path) else f"{at}/{name}"


class Folder:
    """The checkpoints of a run, by name."""

    def __init__(self, at: Place) -> None:
        """Open it; it need not exist. Raises StoreError where it cannot be reached."""
        self.at = placed(at)
        self.store = Storage(self.at)

    def whole(self) -> list[str]:
        """List the complete checkpoints."""
        names = self._names()
        sizes = self.store.sizes(f"{n}/{WHOLE}" for n in names)
        return sorted(n for n in names if sizes[f"{n}/{WHOLE}"] >= 0)

    def _names(self) -> list[str]:
        found = pafs.FileSelector(self.store.path("").rstrip("/"), allow_not_found=True)
        try:
            infos = self.store.filesystem.get_file_info(found)
        except FileNotFoundError:  # of a folder that another rank makes just now: PyArrow looks twice, and sees both
            infos = self.store.filesystem.get_file_info(found)
        return [i.base_name for i in infos if i.type == pafs.FileType.Directory]

    def begin(self, name: str) -> str:
        """Make room for a checkpoint, and clear away what was never finished; returns the name to write under."""
        under = f"partial_{name}" if self.store.local else name
        for left in self._names():
            if left.startswith("partial_") or left == under:
                self.drop(left)
        self.store.filesystem.create_dir(self.store.path(under))
        return under

    def finish(self, under: str, name: str, files: dict[str, str]) -> None:
        """Add files, `meta.json` the last, to a checkpoint that was written under a name; it is then whole."""
        for file, text in files.items():
            self.store.write(f"{under}/{file}", text.encode())
        if under != name:
            if name in self._names():
                self.drop(name)
            Path(self.store.path(under)).rename(self.store.path(name))

    def drop(self, name: str) -> None:
        """Delete a checkpoint; from the first moment it is none."""
        if self.store.sizes([f"{name}/{WHOLE}"])[f"{name}/{WHOLE}"] >= 0:
            self.store.filesystem.delete_file(self.store.path(f"{name}/{WHOLE}"))
        self.store.filesystem.delete_dir(self.store.path(name))

    def writer(self, name: str) -> FileSystemWriter:
        """Return what writes the tensors of a checkpoint."""
        out = FileSystemWriter(f"{self.store.path(name)}/{TENSORS}")
        if not self.store.local:
            self._by_arrow(out, name)
            out.sync_files = False  # an object that is closed is stored
        return out

    def reader(self, name: str) -> FileSystemReader:
        """Return what reads the tensors of a checkpoint."""
        if self.store.local:
            return FileSystemReader(f"{self.store.path(name)}/{TENSORS}")
        out = _ByRange(f"{self.store.path(name)}/{TENSORS}")
        self._by_arrow(out, name)
        return out

    def _by_arrow(self, torch_s: Any, name: str) -> None:
        torch_s.fs, torch_s.path = _Arrow(self.store.filesystem), f"{self.store.path(name)}/{TENSORS}"


class _ByRange(FileSystemReader):
    """Reads each tensor by one request: torch's own format is read in many small steps."""

    def _slice_file(self, file: Any, sinfo: Any) -> Any:
        return io.BytesIO(file.read_at(sinfo.length, sinfo.offset))


class _Arrow(FileSystemBase):  # type: ignore[misc]
    """What torch asks of a file system, by Arrow; paths are texts."""

    def __init__(self, filesystem: pafs.FileSystem) -> None:
        self._fs = filesystem

    @contextmanager
    def create_stream(self, path: Any, mode: str) -> Iterator[Any]:
        """Open a file to be read from any place, or to be written from its start."""
        with self._fs.open_input_file(path) if "r" in mode else self._fs.open_output_stream(path) as stream:
            yield stream

    def concat_path(self, path: Any, suffix: str) -> Any:
        """Return the path of a name."""
        return f"{path}/{suffix}"

    def rename(self, path: Any, new_path: Any) -> None:
        """Copy and delete."""
        self._fs.move(path, new_path)

    def init_path(self, path: Any) -> Any:
        """Return a path as it is."""
        return path

    def mkdir(self, path: Any) -> None:
        """Make a directory."""
        self._fs.create_dir(path)

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Any) -> bool:
        """Leave it to Arrow."""
        return True

    def exists(self, path: Any) -> bool:
        """Whether there is such a file."""
        return bool(self._fs.get_file_info([path])[0].type == pafs.FileType.File)

    def rm_file(self, path: Any) -> None:
        """Delete a file."""
        self._fs.delete_file(path)
