"""Where files lie: a directory, an s3:// prefix or another URI as Arrow's file system, and writes that appear whole."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from urllib.parse import unquote_to_bytes, urlsplit

import pyarrow as pa
import pyarrow.fs as pafs


class StoreError(RuntimeError):
    """A dataset cannot be opened, read or written; ends the run (it is no fault of an item)."""


def local_path(place: str) -> Path | None:
    """Return the path of a file on this machine; None of one elsewhere."""
    if place.startswith("file://"):
        return Path(os.fsdecode(unquote_to_bytes(urlsplit(place).path)))
    return None if "://" in place else Path(place)


def written(path: Path) -> str:
    """Return an absolute path as tables hold it: as it is, or as a file:// URI where its bytes are not UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return path.as_uri()
    return str(path)


def open_place(uri: str) -> tuple[pafs.FileSystem, str]:
    """Return the file system of a directory or URI, and its root there without a slash at the end.

    What Arrow does not speak itself goes through fsspec. Raises StoreError, for an empty place too.
    """
    if not uri:
        raise StoreError(
            "the path of a dataset is empty, as a variable that is not set leaves it; name a directory or s3:// prefix"
        )
    if "://" not in uri:
        return pafs.LocalFileSystem(), str(Path(uri).absolute())
    try:
        fs, root = pafs.FileSystem.from_uri(with_endpoint(uri))
    except pa.ArrowInvalid as e:
        try:
            import fsspec

            other, root = fsspec.core.url_to_fs(uri)
        except (ImportError, ValueError):
            raise StoreError(f"cannot open {uri}: {e}") from e
        atexit.unregister(_let_arrow_end)
        atexit.register(_let_arrow_end)
        fs = pafs.PyFileSystem(pafs.FSSpecHandler(other))  # type: ignore[abstract]
    except OSError as e:
        raise StoreError(f"cannot open {uri}: {e}") from e
    return fs, str(root).rstrip("/")


def _let_arrow_end() -> None:
    """Give Arrow's threads time to let go of Python's files: one that does so while Python ends aborts the process."""
    time.sleep(0.2)


def inside(root: str, name: str) -> str:
    """Return the path of a relative name under a root. Raises StoreError for one that leaves it."""
    if name.startswith("/") or ".." in name.split("/") or "\0" in name:
        raise StoreError(f"unsafe path inside the dataset: {name!r}")
    return f"{root}/{name}"


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[IO[bytes]]:
    """Open a local file under a temporary name; it takes its own, whole and on disk, when the block ends well."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".tmp-{uuid.uuid4().hex}"
    try:
        with temporary.open("wb") as f:
            yield f
            f.flush()
            os.fsync(f.fileno())
        temporary.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def link(source: Path, target: Path) -> None:
    """Give a local file a second name, or copy it where the file system knows no links; the name appears whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".tmp-{uuid.uuid4().hex}"
    try:
        temporary.hardlink_to(source)
    except OSError:
        with replacing(target) as out, source.open("rb") as data:
            shutil.copyfileobj(data, out)
        return
    temporary.replace(target)


def with_endpoint(uri: str) -> str:
    """Add to an s3:// URI how Arrow is to reach it: AWS_ENDPOINT_URL where it is set, one PUT for a small file.

    Other S3 servers than Amazon's are named by that variable everywhere.
    """
    if not uri.startswith("s3://"):
        return uri
    if "allow_delayed_open" not in uri:  # else Arrow begins an upload in parts before it knows the size
        uri = f"{uri}{_mark(uri)}allow_delayed_open=true"
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if not endpoint or "endpoint_override" in uri:
        return uri
    scheme, _, host = endpoint.partition("://")
    return f"{uri}&endpoint_override={host}&scheme={scheme}&allow_bucket_creation=true"


def _mark(uri: str) -> str:
    return "&" if "?" in uri else "?"
