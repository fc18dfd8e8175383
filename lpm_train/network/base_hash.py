"""One hash of all bytes of a base's tensors, however files split them; of files that have not changed it is remembered.

It begins with `all:`. Earlier runs hold a hash without a prefix, of samples of each tensor (`base.Files.samples`).
Remembered hashes lie in the folder `bases` of `OPENLPM_CACHE` (`~/.cache/openlpm`), a file for each base, and hold as
long as path, size and time of change of all its files, and those samples, are what they were. Ranks of a machine wait
for the first one to hash, under a lock that ends with its process. Where the folder cannot be written each process
hashes for itself, and says so.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lpm_train.config import ConfigError
from schemas.files.model_files import cache_folder
from schemas.files.places import replacing

ALL = "all:"
WORTH = 1 << 26
"""Bytes of a base's files from which on its hash is remembered; fewer are hashed in a moment."""
_AT_ONCE = 1 << 20  # bytes that a thread holds
_THREADS = 4
_log = logging.getLogger(__name__)
_made: dict[bytes, str] = {}  # by stamp: where the folder cannot be written, this process hashes once all the same


def hashed(tensors: Mapping[str, Path]) -> str:
    """Hash names, types, shapes and all bytes of tensors.

    Args:
        tensors: names, and the safetensors file that each lies in.

    Returns:
        `all:` and 64 hex digits.

    Raises:
        ConfigError: a file cannot be read, or is shorter than it says.
    """
    heads = {file: _head(file) for file in set(tensors.values())}
    digest = hashlib.sha256()
    with ThreadPoolExecutor(_THREADS) as pool:
        for one in pool.map(lambda name: _of_one(tensors[name], name, *heads[tensors[name]]), sorted(tensors)):
            digest.update(one)
    return ALL + digest.hexdigest()


def remembered(tensors: Mapping[str, Path], samples: str) -> str:
    """Return `hashed` of tensors, from memory where their files are what they were.

    Args:
        tensors: names, and the safetensors file that each lies in.
        samples: a quick hash of the same tensors; another one is another base, whatever its files' times say.

    Raises:
        ConfigError: as `hashed` does.
    """
    files = sorted(set(tensors.values()))
    if sum(_stat(file)[0] for file in files) < WORTH:
        return hashed(tensors)
    stamp = _stamp(files, samples)
    key = hashlib.sha256(json.dumps([str(file.absolute()) for file in files]).encode()).hexdigest()[:32]
    entry = cache_folder("bases") / key
    if (found := _read(entry, stamp)) is not None:
        return found
    with _locked(entry):
        found = _read(entry, stamp) or _made.get(stamp)
        if found is None:
            found = hashed(tensors)
            if _stamp(files, samples) == stamp:  # else they were written meanwhile, and nobody knows what was read
                _keep(entry, stamp, found)
        return found


def _head(file: Path) -> tuple[int, Mapping[str, Any]]:
    """Return where the tensors' bytes begin, and what the file says of each."""
    with _legible(file), file.open("rb") as data:
        size = int.from_bytes(data.read(8), "little")
        return 8 + size, json.loads(data.read(size))


def _of_one(file: Path, name: str, begin: int, head: Mapping[str, Any]) -> bytes:
    said = head[name]
    first, end = said["data_offsets"]
    digest = hashlib.sha256(json.dumps([name, said["dtype"], said["shape"]]).encode())
    piece = memoryview(bytearray(min(end - first, _AT_ONCE)))
    with _legible(file), file.open("rb", buffering=0) as data:
        data.seek(begin + first)
        while first < end:
            if not (n := data.readinto(piece[: end - first])):
                raise EOFError(f"it ends inside of {name}")
            digest.update(piece[:n])
            first += n
    return digest.digest()


@contextlib.contextmanager
def _legible(file: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError) as e:
        raise ConfigError(f"{file} is missing or damaged: {e}") from e


def _stat(file: Path) -> tuple[int, int]:
    """Return size in bytes and time of change in nanoseconds."""
    with _legible(file):
        found = file.stat()
        return found.st_size, found.st_mtime_ns


def _stamp(files: list[Path], samples: str) -> bytes:
    """Say what files are, on one line."""
    return json.dumps([samples, *([str(file.absolute()), *_stat(file)] for file in files)]).encode()


def _read(entry: Path, stamp: bytes) -> str | None:
    with contextlib.suppress(OSError, UnicodeDecodeError):  # damaged is as good as missing
        found, _, of = entry.read_bytes().partition(b"\n")
        return found.decode() if of == stamp else None
    return None


def _keep(entry: Path, stamp: bytes, found: str) -> None:
    _made[stamp] = found
    try:
        with replacing(entry) as out:
            out.write(found.encode() + b"\n" + stamp)
    except OSError as e:
        _log.warning(
            "lpm: the hash of a base cannot be remembered (%s), so every start reads all its weights for it: free some "
            "room in %s, or name another folder by OPENLPM_CACHE", e, entry.parent,
        )  # fmt: skip


@contextlib.contextmanager
def _locked(entry: Path) -> Iterator[None]:
    """Let one process of this machine hash, and others wait; without a lock where none can be had."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, ImportError):
            import fcntl

            entry.parent.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(entry.with_suffix(".lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
