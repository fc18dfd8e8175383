"""Copies of the beginning of recordings, as they are coded: what a test shows in three seconds costs it no six."""

from __future__ import annotations

from pathlib import Path

import av


def shortened(path: Path, folder: Path, seconds: float) -> Path:
    """Copy about the first seconds of a recording into a folder, under its name; no frame among them is missing."""
    out = folder / path.name
    with av.open(str(path)) as container:
        times = [p.pts * float(p.time_base) for p in container.demux(video=0) if p.pts is not None]
    # A frame may be coded before ones that are shown before it: the copy ends where none of those is left out.
    ends = [n for n in range(1, len(times)) if max(times[:n]) < min(times[n:]) <= seconds]
    end_s = min(times[ends[-1] :])
    with av.open(str(path)) as container, av.open(str(out), "w") as copy:
        held = [*container.streams.video, *container.streams.audio]
        streams = {s.index: copy.add_stream_from_template(s) for s in held}
        for packet in container.demux(*held):
            if packet.pts is not None and packet.pts * float(packet.time_base) < end_s:
                packet.stream = streams[packet.stream.index]
                copy.mux(packet)
    return out
