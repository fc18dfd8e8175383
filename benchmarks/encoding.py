"""What a packed clip's picture costs, weighs and keeps, by x264's preset and quality.

    python benchmarks/encoding.py [FOLDER] [--seconds S] [--json FILE]

The middle of every video in FOLDER is cut to a square, scaled to 512 x 512 at 25 Hz and encoded as packing does, once a
choice of preset and CRF, the choices by turns on each video. Told as medians of ratios to the first choice: ffmpeg's
CPU seconds and bytes; and in decibels what is lost of the PSNR against the pictures before encoding (as RGB). With
--json also by video.
"""

from __future__ import annotations

import resource
import statistics
import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import record

from curation.media.encode import encode_clip
from curation.media.grid import frames_on_grid
from curation.media.video import iter_frames

SIDE_PX = 512
CHOICES = (("medium", 18.0), ("fast", 18.0), ("faster", 18.0), ("veryfast", 18.0), ("veryfast", 17.0),
           ("superfast", 18.0))  # fmt: skip


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=record.MEDIA.parent / "wild")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    videos = {path.name: one(path, args.seconds) for path in sorted(args.folder.glob("*.mp4"))}
    first = _name(*CHOICES[0])
    table = {
        _name(*choice): {
            "cpu_ratio": _median(v[_name(*choice)]["cpu_s"] / v[first]["cpu_s"] for v in videos.values()),
            "bytes_ratio": _median(v[_name(*choice)]["bytes"] / v[first]["bytes"] for v in videos.values()),
            "psnr_db_less": _median(v[first]["psnr_db"] - v[_name(*choice)]["psnr_db"] for v in videos.values()),
            "psnr_db_less_worst": round(
                max(v[first]["psnr_db"] - v[_name(*choice)]["psnr_db"] for v in videos.values()), 3
            ),
        }
        for choice in CHOICES
    }
    result = {**record.today_here(), "seconds": args.seconds, "against": first, "choices": table, "videos": videos}
    print(record.as_json(table))
    record.write(args.json, result)


def one(path: Path, seconds: float) -> dict[str, dict[str, float]]:
    """Encode a video's pictures in every way; return CPU seconds, bytes and PSNR of each."""
    pictures = list(squares(path, round(seconds * 25)))
    out: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="openlpm-encoding-") as folder:
        file = Path(folder) / "clip.mp4"
        for preset, crf in CHOICES:
            before = _children_s()
            encode_clip(file, pictures, crf=crf, preset=preset)
            cpu_s = _children_s() - before
            read = (frame.rgb() for frame in iter_frames(file))
            errors = [np.square(a.astype(np.float32) - b).mean() for a, b in zip(pictures, read, strict=True)]
            out[_name(preset, crf)] = {
                "cpu_s": round(cpu_s, 3),
                "bytes": file.stat().st_size,
                "psnr_db": round(float(10 * np.log10(255**2 / np.mean(errors))), 3),
            }
    return out


def squares(path: Path, n: int) -> Any:
    """Yield up to `n` pictures [512, 512, 3] of a video's beginning, 25 a second, cut from its middle."""
    for frame in islice(frames_on_grid(iter_frames(path, 0.0, n / 25), 0.0, n, 25), n):
        rgb = frame.rgb()
        height, width = rgb.shape[:2]
        side = min(height, width)
        y, x = (height - side) // 2, (width - side) // 2
        way = cv2.INTER_AREA if side > SIDE_PX else cv2.INTER_CUBIC
        part = np.ascontiguousarray(rgb[y : y + side, x : x + side])
        yield np.asarray(cv2.resize(part, (SIDE_PX, SIDE_PX), interpolation=way), np.uint8)


def _name(preset: str, crf: float) -> str:
    return f"{preset} {crf:g}"


def _median(values: Any) -> float:
    return round(statistics.median(values), 3)


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
