"""One source with one or two people at known places, as the tables that packing reads, and readers of its tars."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import hostile
import numpy as np
import pyarrow as pa
import soundfile
from table_rows import row, source_row

from curation.memory import MemoryInputs
from curation.stage import Outputs, UnitError, WorkItem
from schemas import tables as t
from schemas.table import Table
from schemas.tables.pairing import SegmentRow
from stages.clip_plan.clip_plan import ClipPlan, ClipPlanSettings
from stages.packing.packing import Packing, PackingSettings

SOURCE = "ab" * 8
SIZE = (192, 128)
FACE = (80.0, 40.0, 24.0, 24.0)
FLASHES = ((0.6, 0.8), (1.4, 1.6), (2.2, 2.4))


def flash_and_beep(path: Path, times_s: Sequence[float], late_s: float = 0.0, **options: Any) -> Path:
    """White pictures and beeps at the same times; the sound `late_s` late."""
    images = []
    for at in times_s:
        lit = any(a - 1e-6 <= at - times_s[0] < b - 1e-6 for a, b in FLASHES)
        images.append(np.full((SIZE[1], SIZE[0], 3), 235 if lit else 20, np.uint8))
    rate = options.get("sound_rate", 48_000)
    clock = np.arange(round(3.0 * rate)) / rate
    beep = np.zeros(len(clock), np.float32)
    for a, b in FLASHES:
        on = (clock >= a + late_s) & (clock < b + late_s)
        beep[on] = 0.5 * np.sin(2 * np.pi * 1000 * clock[on])
    return hostile.write(path, images, times_s, sound=beep, **options)


def segment_row(start_s: float, end_s: float, *, person: int = 0, shot: int = 0, **values: Any) -> SegmentRow:
    """Return a SEGMENTS row of one person's track."""
    track = f"{SOURCE}-t{person:05d}"
    facts = {"start_s": start_s, "end_s": end_s, "duration_s": end_s - start_s, "state": "speak"}
    name = f"{track}-{round(start_s * 1000):09d}"
    ids = {"segment_id": name, "source_id": SOURCE, "track_id": track, "shot_id": f"{SOURCE}-s{shot:05d}"}
    return row(t.SEGMENTS, **{**ids, **facts, **values})


def case(
    size: tuple[int, int],
    duration_s: float,
    people: Sequence[tuple[float, float, float, float] | Callable[[float], tuple[float, float, float, float]]],
    segments: Sequence[SegmentRow],
    states: Sequence[tuple[float, float, str]],
    cuts: Sequence[float] = (),
    layout: Sequence[Mapping[str, Any]] = (),
) -> dict[Table, list[pa.Table]]:
    """Return packing's input tables; `states` is person 0's timeline.

    `people` are face boxes (x, y, w, h), still ones or as functions of time.
    """
    borders = [0.0, *cuts, duration_s]
    shots = [
        row(t.SHOTS, shot_id=f"{SOURCE}-s{i:05d}", source_id=SOURCE, start_s=a, end_s=b, duration_s=b - a)
        for i, (a, b) in enumerate(pairwise(borders))
    ]
    tracklets, faces = [], []
    for p, person in enumerate(people):
        name = f"{SOURCE}-w0000-{p:05d}"
        tracklets.append(row(t.TRACKLETS, tracklet_id=name, source_id=SOURCE, track_id=f"{SOURCE}-t{p:05d}"))
        for k in range(round(duration_s * 25)):
            x, y, w, h = person(k / 25) if callable(person) else person
            faces.append(row(t.FACE_FRAMES, source_id=SOURCE, tracklet_id=name, k=k, t_s=k / 25, x=x, y=y, w=w, h=h))
    runs = [
        row(t.TIMELINE, track_id=f"{SOURCE}-t00000", source_id=SOURCE, start_s=a, end_s=b, state=s)
        for a, b, s in states
    ]
    source = source_row(SOURCE, duration_s=duration_s, width=size[0], height=size[1])
    bars = [row(t.LAYOUT, source_id=SOURCE, **dict(r)) for r in layout]
    rows: dict[Any, Any] = {
        t.SOURCES: [source], t.SHOTS: shots, t.TRACKLETS: tracklets, t.FACE_FRAMES: faces,
        t.TIMELINE: runs, t.SEGMENTS: segments, t.LAYOUT: bars,
    }  # fmt: skip
    return {table: [table.from_rows(r)] for table, r in rows.items()}


@dataclass
class Packed:
    """What the stage gave: tables, failed units, and the clips it saved by file name."""

    tables: dict[Table, pa.Table]
    errors: list[UnitError]
    files: dict[str, bytes]


def plan(parts: dict[Table, list[pa.Table]], **settings: Any) -> Outputs:
    """Plan every segment of a case."""
    inputs = MemoryInputs(Path("none"), parts)
    units = tuple(inputs.read(t.SEGMENTS)["segment_id"].to_pylist())
    return ClipPlan(ClipPlanSettings(**settings)).run(WorkItem(SOURCE, units=units), inputs)


def planned(parts: dict[Table, list[pa.Table]], **settings: Any) -> dict[Table, list[pa.Table]]:
    """Return a case with the planned clips in it."""
    tables = plan(parts, **settings).tables
    return {**parts, t.CLIP_PLANS: [tables.get(t.CLIP_PLANS, t.CLIP_PLANS.empty())]}


def pack(media: Path, parts: dict[Table, list[pa.Table]], **settings: Any) -> Packed:
    """Plan and pack every segment of a case; settings go to the stage that has them."""
    framing = {k: v for k, v in settings.items() if k in ClipPlanSettings.model_fields}
    inputs = MemoryInputs(media, planned(parts, **framing))
    units = tuple(inputs.read(t.SEGMENTS)["segment_id"].to_pylist())
    quick = {"preset": "ultrafast", **{k: v for k, v in settings.items() if k not in framing}}
    out = Packing(PackingSettings(**quick)).run(WorkItem(SOURCE, units=units), inputs)
    return Packed(out.tables, out.errors, inputs.files)


def members(tar: bytes) -> dict[str, bytes]:
    """Return a clip's members by suffix (`mp4`, `speak.flac`, `listen.flac`)."""
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return {m.name.split(".", 1)[1]: archive.extractfile(m).read() for m in archive.getmembers()}  # type: ignore[union-attr]


def frames(mp4: bytes, ignore_edits: bool = False) -> tuple[list[float], list[np.ndarray]]:
    """Decode a clip: presentation times in seconds and RGB pictures."""
    options = {"ignore_editlist": "1"} if ignore_edits else {}
    with av.open(io.BytesIO(mp4), options=options) as container:
        decoded = list(container.decode(video=0))
        return [float(f.pts * f.time_base) for f in decoded], [f.to_ndarray(format="rgb24") for f in decoded]


def sound(flac: bytes) -> np.ndarray:
    """Decode a sound member: float32 [N] at 48 kHz."""
    samples, rate = soundfile.read(io.BytesIO(flac), dtype="float32")
    assert rate == 48_000 and samples.ndim == 1
    return samples
