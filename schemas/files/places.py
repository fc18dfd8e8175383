"""Where files lie: a directory, an s3:// prefix or another URI as Arrow's file system, and writes that appear whole."""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from urllib.parse import unquote_to_bytes, urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

OBJECT_STORES = ("s3", "gs", "gcs")
"""Schemes of the object stores from which single files are read."""
_RETRY_S = 30
"""Google's store is asked again for so long (s); Arrow's own 15 minutes look like a hang, and no signal ends them."""
_OPTIONS = re.compile(
    r"\?(?:(?:region|scheme|endpoint_override|project_id|default_bucket_location|retry_limit_seconds"
    r"|allow_bucket_creation|allow_bucket_deletion|allow_delayed_open)=[\w.:-]+(?:&|$))+$"
)
"""What may follow an object's URI to say how Arrow is to reach it; any other question mark is the key's."""


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
    if one_slash := re.match(r"([A-Za-z][A-Za-z0-9+.-]+):/(?!/)", uri):
        raise StoreError(
            f"{uri} has one slash where a URI has two; name {one_slash[1]}://{uri[one_slash.end() :]}, or ./{uri} "
            "for a directory of that name"
        )
    if uri.startswith("s3://") and not uri[5:].partition("?")[0].strip("/"):
        raise StoreError(f"{uri} names no bucket; name one, as in s3://BUCKET/PREFIX")
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


def open_object(uri: str) -> tuple[pafs.FileSystem, str]:
    """Return the file system of an object or prefix, and its path there.

    The key is taken as it is, never as a part of a URI: a space, `#`, `?` or `%20` in it is one of its characters.

    Raises:
        StoreError: no such store is read, or no bucket is named.
        ValueError: the key is none that can be asked for.
    """
    scheme, _, rest = uri.partition("://")
    if scheme not in OBJECT_STORES:
        raise StoreError(
            f"{uri}: no file is read from {scheme}://; name a file on this machine, an s3:// object or an s3:// prefix"
        )
    asked = _OPTIONS.search(rest)
    options = asked.group() if asked else ""
    bucket, _, key = rest.removesuffix(options).rstrip("/").partition("/")
    if not bucket:
        raise StoreError(f"{uri} names no bucket; name one, as in {scheme}://BUCKET/PREFIX")
    if key and not can_be_asked_for(key):
        raise ValueError("its key has nothing, . or .. between slashes; copy it to another key")
    fs, root = pafs.FileSystem.from_uri(with_endpoint(f"{scheme}://{bucket}{options}"))
    return fs, f"{root}/{key}" if key else str(root)


def can_be_asked_for(key: str) -> bool:
    """Tell whether a store is asked for an object by its own key: `.` and `..` are resolved on the way to it."""
    return {"", ".", ".."}.isdisjoint(key.split("/"))


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

    Other S3 servers than Amazon's are named by that variable everywhere. Google's store is not asked without end.

    Raises:
        StoreError: the variable does not say how to reach the server.
    """
    if uri.startswith(("gs://", "gcs://")) and "retry_limit_seconds" not in uri:
        return f"{uri}{_mark(uri)}retry_limit_seconds={_RETRY_S}"
    if not uri.startswith("s3://"):
        return uri
    if "allow_delayed_open" not in uri:  # else Arrow begins an upload in parts before it knows the size
        uri = f"{uri}{_mark(uri)}allow_delayed_open=true"
    name = "AWS_ENDPOINT_URL_S3" if os.environ.get("AWS_ENDPOINT_URL_S3") else "AWS_ENDPOINT_URL"
    endpoint = os.environ.get(name)
    if not endpoint or "endpoint_override" in uri:
        return uri
    scheme, _, host = endpoint.partition("://")
    if scheme not in ("http", "https") or not host:  # else Arrow would ask Amazon
        raise StoreError(f"{name}={endpoint} does not begin with http:// or https://; set it as in http://HOST:PORT")
    return f"{uri}&endpoint_override={host}&scheme={scheme}&allow_bucket_creation=true"


def _mark(uri: str) -> str:
    return "&" if "?" in uri else "?"
