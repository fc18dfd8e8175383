"""Plain tars of equal bytes for equal members: no clock times, no user names."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable

BLOCK = 512
END = b"\0" * (2 * BLOCK)
"""What closes a tar."""


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


def padding(size: int) -> bytes:
    """Return the zeros after a member of so many bytes."""
    return b"\0" * (-size % BLOCK)


def tar_bytes(members: Iterable[tuple[str, bytes]]) -> bytes:
    """Return a whole small tar."""
    return (
        b"".join(part for n, data in members for part in (member_header(n, len(data)), data, padding(len(data)))) + END
    )
