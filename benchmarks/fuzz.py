"""Mutated files of five container formats through `lpm run`: none may end the run, none may be unaccounted for.

    python benchmarks/fuzz.py CLIP [--files 1000] [--seed 0] [--crashing DIR] [--dir DIR] [--json FILE]

One second of CLIP is written as MP4 (H.264, AAC), MKV (H.264, Opus), WebM (VP9, Opus), MOV (MPEG-4, PCM) and AVI
(MPEG-4, MP3). Each file takes one of them in turn and damages it by random numbers of its own: bytes changed anywhere,
in the first 2 KiB or the last 8 KiB; a length of four bytes replaced; cut short; a stretch zeroed, doubled, left out or
moved. `--crashing` adds a folder of other files, such as some that once ended a process. Then one `lpm run` of the
workflow `conversation` takes them all: `accounted` = kept + filtered + quarantined, of `files` that differ;
`ended_processes` = attempts that ended with the stage's process; `errors` counts the reasons of the quarantine.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import record

from curation import Dataset

FORMATS: dict[str, tuple[str, str, str, str]] = {
    "mp4": ("mp4", "libx264", "aac", "yuv420p"),
    "mkv": ("matroska", "libx264", "libopus", "yuv420p"),
    "webm": ("webm", "libvpx-vp9", "libopus", "yuv420p"),
    "mov": ("mov", "mpeg4", "pcm_s16le", "yuv420p"),
    "avi": ("avi", "mpeg4", "libmp3lame", "yuv420p"),
}
"""Suffix: container, codec of pictures, codec of sound, pixels."""

RATE, WIDTH, SECONDS = 48_000, 320, 1.0

Mutation = Callable[[np.random.Generator, bytearray], bytes]


def written(clip: Path, kind: str) -> bytes:
    """Return the clip's first second in a format."""
    container, video, audio, pixels = FORMATS[kind]
    out = io.BytesIO()
    with av.open(str(clip)) as source, av.open(out, "w", container) as target:
        rate = Fraction(25)
        pictures, sound = target.add_stream(video, rate), target.add_stream(audio, RATE)
        shown = source.streams.video[0]
        pictures.width, pictures.height = WIDTH, WIDTH * shown.height // shown.width // 2 * 2
        pictures.pix_fmt = pixels
        for n, frame in enumerate(source.decode(video=0)):
            if n >= SECONDS * rate:
                break
            frame = frame.reformat(pictures.width, pictures.height, pixels)
            frame.pts, frame.time_base = n, 1 / rate
            target.mux(pictures.encode(frame))
        target.mux(pictures.encode(None))
        source.seek(0)
        resampler = av.AudioResampler(sound.format, sound.layout, RATE)
        for frame in source.decode(audio=0):
            if frame.time is not None and frame.time >= SECONDS:
                break
            for part in resampler.resample(frame):
                target.mux(sound.encode(part))
        target.mux(sound.encode(None))
    return out.getvalue()


def _flips(rng: np.random.Generator, data: bytearray, first: int, last: int) -> bytes:
    for at in rng.integers(first, max(last, first + 1), int(rng.integers(1, 200))):
        data[at] = int(rng.integers(256))
    return bytes(data)


def _block(rng: np.random.Generator, data: bytearray) -> tuple[int, int]:
    size = int(rng.integers(1, max(2, len(data) // 4)))
    at = int(rng.integers(0, len(data) - size))
    return at, at + size


def _length(rng: np.random.Generator, data: bytearray) -> bytes:
    at = int(rng.integers(0, min(4096, len(data) - 4)))
    data[at : at + 4] = rng.choice([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\1", rng.bytes(4)])
    return bytes(data)


def _moved(rng: np.random.Generator, data: bytearray) -> bytes:
    (a, b), (c, _) = _block(rng, data), _block(rng, data)
    stretch, rest = data[a:b], data[:a] + data[b:]
    return bytes(rest[:c] + stretch + rest[c:])


def _zeroed(rng: np.random.Generator, data: bytearray) -> bytes:
    a, b = _block(rng, data)
    return bytes(data[:a]) + bytes(b - a) + bytes(data[b:])


def _doubled(rng: np.random.Generator, data: bytearray) -> bytes:
    a, b = _block(rng, data)
    return bytes(data[:b] + data[a:])


def _left_out(rng: np.random.Generator, data: bytearray) -> bytes:
    a, b = _block(rng, data)
    return bytes(data[:a] + data[b:])


MUTATIONS: dict[str, Mutation] = {
    "bytes": lambda rng, data: _flips(rng, data, 0, len(data)),
    "head": lambda rng, data: _flips(rng, data, 0, min(2048, len(data))),
    "tail": lambda rng, data: _flips(rng, data, max(0, len(data) - 8192), len(data)),
    "length": _length,
    "cut_short": lambda rng, data: bytes(data[: int(rng.integers(1, len(data)))]),
    "zeroed": _zeroed,
    "doubled": _doubled,
    "left_out": _left_out,
    "moved": _moved,
}


def damaged(whole: dict[str, bytes], number: int, seed: int) -> tuple[str, bytes]:
    """Return the name and bytes of a mutated file."""
    rng = np.random.default_rng((seed, number))
    kind = list(whole)[number % len(whole)]
    how = str(rng.choice(list(MUTATIONS)))
    return f"{number:05d}-{how}.{kind}", MUTATIONS[how](rng, bytearray(whole[kind]))


def main() -> None:
    """Write the files, run, and count."""
    parser = record.parser(__doc__)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--crashing", type=Path)
    parser.add_argument("--dir", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.dir or Path(temporary)
        videos = folder / "videos"
        videos.mkdir(parents=True)
        whole = {kind: written(given.clip, kind) for kind in FORMATS}
        for number in range(given.files):
            name, data = damaged(whole, number, given.seed)
            (videos / name).write_bytes(data)
        for file in sorted(given.crashing.iterdir()) if given.crashing else []:
            shutil.copy(file, videos / f"crashing-{file.name}")
        command = [sys.executable, "-m", "workflows.cli", "run", str(videos), "--out", str(folder / "dataset")]
        done = subprocess.run([*command, "--engine", "local"], capture_output=True, text=True)
        record.write(given.json, record.today_here() | counted(folder / "dataset", done, len(list(videos.iterdir()))))


def counted(out: Path, done: subprocess.CompletedProcess[str], files: int) -> dict[str, Any]:
    """Return what became of the files."""
    dataset = Dataset(str(out))
    (named,) = dataset.query("SELECT count(DISTINCT source_id) FROM inputs").fetchall()[0]
    outcomes = dict(
        dataset.query("SELECT outcome, count(*) FROM decisions WHERE unit = 'sources' GROUP BY 1 ORDER BY 1").fetchall()
    )
    errors = dataset.query("SELECT stage || ': ' || error, count(*) FROM errors GROUP BY 1 ORDER BY 2 DESC").fetchall()
    ended: Counter[str] = Counter()
    for log in (out / "runs").glob("*/steps/*.jsonl"):
        for said in (said for line in log.read_text().splitlines() for said in json.loads(line)["said"]):
            ended[said] += 1
    return {
        "files": files, "differing": named, "exit_code": done.returncode, "outcomes": outcomes,
        "accounted": sum(n for o, n in outcomes.items() if o != "pending"), "errors": dict(errors),
        "ended_processes": dict(ended), "traceback": "Traceback" in done.stderr,
    }  # fmt: skip


if __name__ == "__main__":
    main()
