"""Find files that were cut short, from the sizes that the container itself declares.

MP4/MOV, AVI and Matroska write the size of what follows before it, so a missing tail is a fact and not a guess
from durations, which healthy files state wrongly all the time. Reads a few headers and seeks; no packet is read.
Box layout: ISO/IEC 14496-12 section 4.2; EBML: RFC 8794 section 4; RIFF: a four-letter tag and a 32-bit size.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

_MP4_FIRST = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp", b"moof", b"sidx", b"pnot"}
_EBML_HEADER = b"\x1a\x45\xdf\xa3"
_SEGMENT = b"\x18\x53\x80\x67"
_MAX_BOXES = 1_000_000


def missing_bytes(path: Path) -> int:
    """Return how many bytes the container's structure declares beyond the end of the file; 0 if none.

    An MP4 with media data but no index (`moov`) counts as at least one missing byte. Unknown containers give 0.
    """
    size = path.stat().st_size
    with path.open("rb") as f:
        head = f.read(12)
        f.seek(0)
        if head[4:8] in _MP4_FIRST:
            return _missing_in_mp4(f, size)
        if head[:4] == b"RIFF":
            return _missing_in_riff(f, size)
        if head[:4] == _EBML_HEADER:
            return _missing_in_matroska(f, size)
    return 0


def missing_from_index(container: Any, size: int) -> int:
    """Return how many bytes of indexed packets lie beyond the end of an open MP4 file of `size` bytes."""
    if "mp4" not in container.format.name:
        return 0
    end = 0
    for stream in container.streams:
        entries = stream.index_entries
        if entries is not None and len(entries):
            # Samples are stored in order in each track in all but odd files; the largest is looked for anyway.
            end = max(end, max(e.pos + e.size for e in entries))
    return max(0, int(end) - size)


def _missing_in_mp4(f: BinaryIO, size: int) -> int:
    position, seen = 0, set[bytes]()
    for _ in range(_MAX_BOXES):
        f.seek(position)
        header = f.read(16)
        if len(header) < 8:
            break
        length, kind = struct.unpack(">I4s", header[:8])
        seen.add(kind)
        if length == 1 and len(header) == 16:
            length = struct.unpack(">Q", header[8:])[0]
        if length == 0:  # reaches to the end of the file
            position = size
            break
        if length < 8:
            return 0  # not a box: some other damage, which opening the file will report
        position += length
        if position >= size:
            break
    overhang = max(0, position - size)
    if b"moov" not in seen:
        return max(1, overhang) if b"mdat" in seen or overhang else 0
    # With the index at hand, only indexed packets count: recorders leave sloppy sizes on complete files.
    fragmented = b"moof" in seen
    return overhang if fragmented or kind == b"moov" else 0


def _missing_in_riff(f: BinaryIO, size: int) -> int:
    position, end = 0, 0
    while position + 12 <= size:  # files above 1 GiB hold several RIFF chunks (OpenDML)
        f.seek(position)
        header = f.read(8)
        if header[:4] != b"RIFF":
            break
        length = struct.unpack("<I", header[4:])[0]
        if length in (0, 0xFFFFFFFF):  # left open by a streaming writer
            break
        end = position + 8 + length
        position = end + (length & 1)
    return max(0, end - size)


def _missing_in_matroska(f: BinaryIO, size: int) -> int:
    f.seek(4)
    header_length = _vint(f)
    if header_length is None:
        return 0
    f.seek(header_length, 1)
    while True:  # Void elements may stand before the Segment
        tag = f.read(1)
        if tag == b"\xec":
            skip = _vint(f)
            if skip is None:
                return 0
            f.seek(skip, 1)
            continue
        if tag + f.read(3) != _SEGMENT:
            return 0
        length = _vint(f)
        return 0 if length is None else max(0, f.tell() + length - size)


def _vint(f: BinaryIO) -> int | None:
    """Read an EBML size; None if it is marked unknown or cannot be read."""
    first = f.read(1)
    if not first or first[0] == 0:
        return None
    extra = 8 - first[0].bit_length()
    rest = f.read(extra)
    value = int.from_bytes(bytes([first[0] & ((1 << (7 - extra)) - 1)]) + rest, "big")
    return None if value == (1 << (7 * (extra + 1))) - 1 else value
