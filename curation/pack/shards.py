"""Write WebDataset tars whose every member can also be read by (shard, offset, size).

Deterministic: no clock times, no user names; equal samples give equal bytes. Costs one pass over the bytes. The bytes
are those of webdataset's own writer (a test holds that), which tells no offsets and imports torch where it can.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import IO

from curation.storage.store import Store

_BLOCK = 512
INDEX = "shards/index.json"


@dataclass(slots=True)
class ShardIndex:
    """shards/index.json: what was packed, and the hash of all that is in it ("" = to be packed again)."""

    plan: str
    samples: int = 0
    shards: list[str] = field(default_factory=list)
    bytes: int = 0
    """of the shards; in a dry run of the clips alone"""

    @classmethod
    def read(cls, store: Store) -> ShardIndex | None:
        """Return the index of a dataset; None where there is none."""
        data = store.read_json(INDEX)
        return None if data is None else cls(**data)

    def write(self, store: Store) -> None:
        """Put it into the dataset."""
        store.write_json(INDEX, asdict(self))


def member_header(name: str, size: int) -> bytes:
    """Return the 512-byte ustar header of a plain file.

    Raises:
        ValueError: the name is too long for one header block (over 100 bytes).
    """
    if len(name.encode()) > 100:
        raise ValueError(f"member name is longer than 100 bytes: {name!r}")
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info.tobuf(format=tarfile.USTAR_FORMAT)


def write_members(out: IO[bytes], members: Iterable[tuple[str, bytes]], offset: int = 0) -> list[tuple[str, int, int]]:
    """Append members to a tar stream at byte `offset`; return (name, offset of the data, size) for each."""
    index = []
    for name, data in members:
        out.write(member_header(name, len(data)))
        index.append((name, offset + _BLOCK, len(data)))
        padding = -len(data) % _BLOCK
        out.write(data)
        out.write(b"\0" * padding)
        offset += _BLOCK + len(data) + padding
    return index


def end_of_archive(out: IO[bytes]) -> None:
    """Close a tar stream: two zero blocks."""
    out.write(b"\0" * (2 * _BLOCK))


def stored_size(sizes: Iterable[int]) -> int:
    """Return how many bytes members of these sizes take in a tar, without the end mark."""
    return sum(_BLOCK + s + (-s % _BLOCK) for s in sizes)


def tar_bytes(members: Iterable[tuple[str, bytes]]) -> bytes:
    """Return a whole small tar."""
    out = io.BytesIO()
    write_members(out, members)
    end_of_archive(out)
    return out.getvalue()


def read_members(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield (name, bytes) of the plain files in a tar."""
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
        for info in tar:
            member = tar.extractfile(info) if info.isfile() else None
            if member is not None:
                yield info.name, member.read()
