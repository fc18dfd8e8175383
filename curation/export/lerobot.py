"""Packed clips as a LeRobot dataset, version 3.0: one episode a clip, one row a video frame of 40 ms.

A row holds the frame's 1920 samples of both sounds and the person's state; the caption is the episode's task. Videos
are the shards' own, not encoded again, so all of one dataset have one size: the others are left out and counted.
Statistics are of sound alone. Costs a copy of the videos and, before compression, 15 KB a frame for the sound.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curation.dataset import Dataset
from curation.export.samples import ExportError, Packed, frame_states, fresh, read
from schemas.samples.sample import FPS, SAMPLES_PER_FRAME
from schemas.tables.output import ManifestRow
from schemas.tables.performance import CaptionRow

VIDEO = "observation.images.person"
SOUNDS = {"observation.speak": "speak.flac", "observation.listen": "listen.flac"}
_CHUNK, _EPISODES = 1000, 200
"""Files a folder, as LeRobot has it, and episodes a file of rows: some hundred MB."""
_SOUND = pa.list_(pa.float32(), SAMPLES_PER_FRAME)
_FIELDS: list[pa.Field[Any]] = [
    pa.field("timestamp", pa.float32()), pa.field("frame_index", pa.int64()), pa.field("episode_index", pa.int64()),
    pa.field("index", pa.int64()), pa.field("task_index", pa.int64()), pa.field("state", pa.string()),
    *(pa.field(name, _SOUND) for name in SOUNDS),
]  # fmt: skip
_ROWS = pa.schema(_FIELDS)


@dataclass
class _Sums:
    """Running figures of one sound."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    least: float = 0.0
    most: float = 0.0

    def add(self, wave: np.ndarray[Any, Any]) -> None:
        wide = wave.astype(np.float64)
        self.count, self.total = self.count + wide.size, self.total + float(wide.sum())
        self.squares += float(np.square(wide).sum())
        self.least, self.most = min(self.least, float(wide.min())), max(self.most, float(wide.max()))

    def figures(self, frames: int) -> dict[str, list[float]]:
        mean = self.total / max(1, self.count)
        spread = max(0.0, self.squares / max(1, self.count) - mean * mean) ** 0.5
        named = {"min": self.least, "max": self.most, "mean": mean, "std": spread}
        return {**{name: [value] * SAMPLES_PER_FRAME for name, value in named.items()}, "count": [frames]}


@dataclass
class _Made:
    episodes: list[dict[str, Any]] = field(default_factory=list)
    tasks: dict[str, int] = field(default_factory=dict)
    sums: dict[str, _Sums] = field(default_factory=lambda: {name: _Sums() for name in SOUNDS})
    frames: int = 0


def export(dataset: Dataset, rows: Sequence[ManifestRow], out: Path) -> tuple[int, int]:
    """Write samples into an empty folder; return how many, and how many were left out as of another size.

    Raises:
        ExportError: the folder is not empty.
    """
    (size, _), *_ = Counter((r.width, r.height) for r in rows).most_common(1)
    mine = [r for r in rows if (r.width, r.height) == size]
    made, folder = _Made(), fresh(out)
    for first in range(0, len(mine), _EPISODES):
        number = first // _EPISODES
        with pq.ParquetWriter(_file(folder, "data", number, "parquet"), _ROWS, compression="zstd") as writer:
            for one in read(dataset, mine[first : first + _EPISODES], ["mp4", *SOUNDS.values()]):
                writer.write_table(_episode(folder, made, one, number))
    _meta(folder, made, size)
    return len(mine), len(rows) - len(mine)


def _file(folder: Path, prefix: str, number: int, suffix: str) -> Path:
    path = folder / prefix / f"chunk-{number // _CHUNK:03d}" / f"file-{number % _CHUNK:03d}.{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _episode(folder: Path, made: _Made, one: Packed, number: int) -> pa.Table:
    import soundfile

    n, i = one.sample.video.n_frames, len(made.episodes)
    task = one.sample.performance[CaptionRow.caption] or one.row.category
    task_index = made.tasks.setdefault(task, len(made.tasks))
    _file(folder, f"videos/{VIDEO}", i, "mp4").write_bytes(one.members["mp4"])
    heard: dict[str, pa.Array[Any]] = {}
    for name, member in SOUNDS.items():
        wave, _ = soundfile.read(io.BytesIO(one.members[member]), dtype="float32")
        if len(wave) != n * SAMPLES_PER_FRAME:
            raise ExportError(f"{one.row.segment_id} has {len(wave)} samples for {n} frames; `lpm verify` says more")
        made.sums[name].add(wave)
        heard[name] = pa.FixedSizeListArray.from_arrays(pa.array(wave), SAMPLES_PER_FRAME)
    frame = np.arange(n)
    columns: dict[str, Any] = {
        "timestamp": (frame / FPS).astype(np.float32), "frame_index": frame, "episode_index": np.full(n, i),
        "index": made.frames + frame, "task_index": np.full(n, task_index), "state": frame_states(one.sample), **heard,
    }  # fmt: skip
    row = one.row
    made.episodes.append({
        "episode_index": i, "tasks": [task], "length": n, "dataset_from_index": made.frames,
        "dataset_to_index": made.frames + n, "data/chunk_index": number // _CHUNK, "data/file_index": number % _CHUNK,
        f"videos/{VIDEO}/chunk_index": i // _CHUNK, f"videos/{VIDEO}/file_index": i % _CHUNK,
        f"videos/{VIDEO}/from_timestamp": 0.0, f"videos/{VIDEO}/to_timestamp": n / FPS,
        "meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0, "segment_id": row.segment_id,
        "identity_id": row.identity_id, "split": row.split, "license": row.license,
    })  # fmt: skip
    made.frames += n
    return pa.table({f.name: pa.array(columns[f.name], f.type) for f in _ROWS}, schema=_ROWS)


def _features(size: tuple[int, int]) -> Iterator[tuple[str, dict[str, Any]]]:
    width, height = size
    info = {
        "video.height": height, "video.width": width, "video.codec": "h264", "video.pix_fmt": "yuv420p",
        "video.is_depth_map": False, "video.fps": FPS, "video.channels": 3, "has_audio": False,
    }  # fmt: skip
    shape = {"shape": [height, width, 3], "names": ["height", "width", "channels"]}
    yield VIDEO, {"dtype": "video", **shape, "info": info}
    for one in _ROWS:
        long = one.type == _SOUND
        kind = "float32" if long else str(one.type).replace("float", "float32").replace("float3232", "float32")
        yield one.name, {"dtype": kind, "shape": [SAMPLES_PER_FRAME if long else 1], "names": None}


def _meta(folder: Path, made: _Made, size: tuple[int, int]) -> None:
    info = {
        "codebase_version": "v3.0", "robot_type": None, "total_episodes": len(made.episodes),
        "total_frames": made.frames, "total_tasks": len(made.tasks), "chunks_size": _CHUNK,
        "data_files_size_in_mb": 100, "video_files_size_in_mb": 200, "fps": FPS,
        "splits": {"train": f"0:{len(made.episodes)}"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": dict(_features(size)),
    }  # fmt: skip
    episodes = _file(folder, "meta/episodes", 0, "parquet")
    pq.write_table(pa.Table.from_pylist(made.episodes), episodes, compression="zstd")
    (folder / "meta" / "info.json").write_text(json.dumps(info, indent=4), encoding="utf-8")
    stats = {name: sums.figures(made.frames) for name, sums in made.sums.items()}
    (folder / "meta" / "stats.json").write_text(json.dumps(stats), encoding="utf-8")
    _tasks(made.tasks, folder / "meta" / "tasks.parquet")


def _tasks(tasks: dict[str, int], file: Path) -> None:
    """Write the tasks as LeRobot reads them: a pandas frame whose index is the text."""
    import pandas as pd

    pd.DataFrame({"task_index": list(tasks.values())}, index=pd.Index(list(tasks), name="task")).to_parquet(file)
