"""Copies of recordings from which bytes are lost."""

from __future__ import annotations

from pathlib import Path

import av


def with_a_hole(path: Path, out: Path, frame: int, kind: str = "video") -> Path:
    """Copy a file with zeros over the packet of one frame of its picture or sound, by order of decoding."""
    with av.open(str(path)) as container:
        at, size = [(p.pos, p.size) for p in container.demux(**{kind: 0}) if p.size][frame]
    data = bytearray(path.read_bytes())
    data[at : at + size] = bytes(size)
    out.write_bytes(bytes(data))
    return out
