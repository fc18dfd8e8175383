"""How much of the damage in a recording is found: against the same recording without it, frame by frame.

    python benchmarks/damage.py VIDEO... [--seeds 3] [--json FILE]

Each video is damaged in three ways, once for each seed: `holes` of zeros as an incomplete copy has (8 KiB, one for
every 4 s), `bytes` overwritten within a packet of picture (half of it, likewise), `lost` packets of MPEG-TS (seven of
188 bytes, likewise; the picture's packets are copied into a transport stream first). A frame is wrong where a pixel in
a hundred or more differs by over 24 of 255 from what the undamaged file shows then, at 320 pixels of longer side.
`found`: of the wrong frames, those that lie in a stretch that the reader calls damaged; `spared`: of the right ones,
those outside.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
from record import parser, today_here, write

from curation.media.errors import MediaError
from curation.media.video import DecodeReport, iter_frames

EVERY_S = 4.0
_SIDE, _FAR, _AREA = 320, 24, 0.01


def _places(path: Path) -> list[tuple[int, int]]:
    with av.open(str(path)) as container:
        return [(p.pos, p.size) for p in container.demux(video=0) if p.size and p.pos is not None]


def holes(path: Path, out: Path, draw: random.Random, n: int) -> None:
    """Write zeros over 8 KiB, in so many places among the picture's packets."""
    data = bytearray(path.read_bytes())
    for at, _ in draw.sample(_places(path), n):
        size = min(8192, len(data) - at)
        data[at : at + size] = bytes(size)
    out.write_bytes(bytes(data))


def overwritten(path: Path, out: Path, draw: random.Random, n: int) -> None:
    """Write random bytes over half of so many packets."""
    data = bytearray(path.read_bytes())
    for at, size in draw.sample(_places(path), n):
        data[at + size // 4 : at + size // 4 + size // 2] = draw.randbytes(size // 2)
    out.write_bytes(bytes(data))


def lost(path: Path, out: Path, draw: random.Random, n: int) -> None:
    """Leave out seven packets of a transport stream in so many places; its beginning stays."""
    data, size = path.read_bytes(), 188
    gone = {i + j for i in draw.sample(range(40, len(data) // size - 8), n) for j in range(7)}
    out.write_bytes(b"".join(data[i * size : (i + 1) * size] for i in range(len(data) // size) if i not in gone))


WAYS: dict[str, Callable[[Path, Path, random.Random, int], None]] = {
    "holes": holes, "bytes": overwritten, "lost": lost,
}  # fmt: skip


def as_transport(path: Path, out: Path) -> Path:
    """Copy the picture into a transport stream."""
    with av.open(str(path)) as source, av.open(str(out), "w", format="mpegts") as target:
        stream = source.streams.video[0]
        copied = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.stream = copied
                target.mux(packet)
    return out


def pictures(path: Path, report: DecodeReport | None = None) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (time in ms, small picture)."""
    for frame in iter_frames(path, max_side=_SIDE, report=report):
        yield round(1000 * frame.pts_s), frame.rgb().astype(np.int16)


def is_wrong(picture: np.ndarray, right: np.ndarray) -> bool:
    """Say whether a picture shows something else than it should."""
    return bool((np.abs(picture - right).max(axis=2) > _FAR).mean() >= _AREA)


def compare(right: dict[int, np.ndarray], path: Path) -> dict[str, int]:
    """Count frames by whether they are wrong and whether they are called damaged."""
    report = DecodeReport()
    count = {"wrong": 0, "found": 0, "right": 0, "spared": 0, "gone": 0, "gone_found": 0}
    try:
        shown = {t: is_wrong(p, right[t]) for t, p in pictures(path, report) if t in right}
    except MediaError:
        return count | {"refused": 1}
    damaged = [(1000 * a - 1, 1000 * b - 1) for a, b in report.damaged]
    for t in right:
        inside = any(a <= t < b for a, b in damaged)
        if t not in shown:
            count["gone"] += 1
            count["gone_found"] += inside
        elif shown[t]:
            count["wrong"] += 1
            count["found"] += inside
        else:
            count["right"] += 1
            count["spared"] += not inside
    return count


def main() -> None:
    asked = parser(__doc__)
    asked.add_argument("videos", nargs="+", type=Path)
    asked.add_argument("--seeds", type=int, default=3)
    asked.add_argument("--json", type=Path)
    args = asked.parse_args()
    totals: dict[str, dict[str, int]] = {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for video in args.videos:
            with av.open(str(video)) as container:
                codec = container.streams.video[0].codec_context.name
            for way, spoil in WAYS.items():
                whole = as_transport(video, work / "whole.ts") if way == "lost" else video
                right = dict(pictures(whole))
                if not right:  # MPEG-4 Part 2 leaves its header behind in MP4
                    continue
                n = max(1, round((max(right) - min(right)) / 1000 / EVERY_S))
                for seed in range(args.seeds):
                    spoilt = work / f"spoilt{whole.suffix}"
                    spoil(whole, spoilt, random.Random(seed), n)
                    found = compare(right, spoilt)
                    mine = totals.setdefault(f"{codec} {way}", {})
                    for key, value in found.items():
                        mine[key] = mine.get(key, 0) + value
    for name, c in sorted(totals.items()):
        share = c["found"] / c["wrong"] if c["wrong"] else float("nan")
        spared = c["spared"] / c["right"] if c["right"] else float("nan")
        print(f"{name:16} wrong {c['wrong']:5} found {share:.2f}   right {c['right']:5} spared {spared:.2f}  {c}")
    write(args.json, today_here() | {"videos": len(args.videos), "seeds": args.seeds, "by": totals})


if __name__ == "__main__":
    main()
