"""Write WebDataset tars whose every member can also be read by (shard, offset, size).

Deterministic: no clock times, no user names; equal samples give equal bytes. Costs one pass over the bytes. The bytes
are those of webdataset's own writer (a test holds that), which tells no offsets and imports torch where it can.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Protocol

from curation.storage.store import Store
from schemas.samples.tar import BLOCK, END, member_header, padding, tar_bytes

INDEX = "shards/index.json"

__all__ = [
    "INDEX", "ShardIndex", "end_of_archive", "member_header", "read_members", "stored_size", "tar_bytes",
    "write_members",
]  # fmt: skip


class Sink(Protocol):
    """What takes bytes."""

    def write(self, data: bytes, /) -> object:
        """Take some."""


@dataclass(slots=True)
class ShardIndex:
    """shards/index.json: what was packed, and the hash of all that is in it ("" = to be packed again)."""

    plan: str
    samples: int = 0
    shards: list[str] = field(default_factory=list)
    bytes: int = 0
    """of the shards; in a dry run of the clips alone"""
    sha256: dict[str, str] = field(default_factory=dict)
    """of each shard and each sidecar by its name under shards/; empty = packed before hashes were kept"""

    @classmethod
    def read(cls, store: Store) -> ShardIndex | None:
        """Return the index of a dataset; None where there is none."""
        data = store.read_json(INDEX)
        return None if data is None else cls(**data)

    def write(self, store: Store) -> None:
        """Put it into the dataset."""
        store.write_json(INDEX, asdict(self))


def write_members(out: Sink, members: Iterable[tuple[str, bytes]], offset: int = 0) -> list[tuple[str, int, int]]:
    """Append members to a tar stream at byte `offset`; return (name, offset of the data, size) for each."""
    index = []
    for name, data in members:
        out.write(member_header(name, len(data)))
        index.append((name, offset + BLOCK, len(data)))
        out.write(data)
        out.write(padding(len(data)))
        offset += stored_size([len(data)])
    return index


def end_of_archive(out: Sink) -> None:
    """Close a tar stream: two zero blocks."""
    out.write(END)


def stored_size(sizes: Iterable[int]) -> int:
    """Return how many bytes members of these sizes take in a tar, without the end mark."""
    return sum(BLOCK + s + (-s % BLOCK) for s in sizes)


def read_members(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield (name, bytes) of the plain files in a tar."""
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
        for info in tar:
            member = tar.extractfile(info) if info.isfile() else None
            if member is not None:
                yield info.name, member.read()
