"""The stages of `conversation` up to the clips, which wait where the real ones compute; for programs beside this file.

Names, items, gates, gate modes and tables are the real stages' (`tests/test_benchmarks/test_waiting_stages.py`), so the
engine decides, reads, writes and commits as it does for them. What they write is made by `made_tables`. A source is a
JSON file that says how many segments it has. What a second of video costs is `workflows/rates/conversation.json`,
divided by the setting `speed`.

A simulated core is a file that a stage holds locked while it waits: there are `cores` of them in the folder `machine`,
so no more stages are at work at once than there are cores, however many processes the engine starts. Each wait is a
line of `machine/waits`.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
from made_tables import source_tables

from curation.stage import Gate, GateMode, Grain, Inputs, Outputs, StageSettings, WorkItem
from schemas import tables as t
from schemas.settings.workflow import StageSpec, Workflow
from schemas.table import Table
from schemas.units import UNITS

RATES = Path(__file__).resolve().parents[1] / "workflows" / "rates" / "conversation.json"
FRAMES_A_SEGMENT = 100
"""Rows of speaker scores for a segment of four seconds, at 25 Hz."""
_POLL_S = 0.02


class WaitingSettings(StageSettings):
    """How long a stage waits, and where. `cores` 0: it does not wait."""

    machine: str = ""
    cores: int = 0
    speed: float = 1.0


@functools.cache
def rates() -> Mapping[str, float]:
    """Return the CPU seconds of each stage for a second of video."""
    said = json.loads(RATES.read_text(encoding="utf-8"))
    return {r["stage"]: r["cpu_s"] for r in said["stages"]}


@functools.lru_cache(maxsize=1)
def _made(source_id: str, segments: int) -> dict[Table, pa.Table]:
    return source_tables(source_id, segments, segments * FRAMES_A_SEGMENT)


def length_s(segments: int) -> float:
    """Return the seconds of a source with so many segments."""
    (found,) = _made("0" * 16, segments)[t.SOURCES]["duration_s"].to_pylist()
    return float(found)


@contextlib.contextmanager
def _core(folder: Path, cores: int) -> Iterator[None]:
    """Hold one of the simulated cores, as soon as one is free."""
    files = [(folder / f"core-{(os.getpid() + n) % cores:03d}").open("w") for n in range(cores)]
    try:
        while True:
            for file in files:
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    yield
                    return
            time.sleep(_POLL_S)
    finally:
        for file in files:
            file.close()


def wait(settings: WaitingSettings, stage: str, item: WorkItem, seconds: float) -> None:
    """Hold a core for a while and put down when."""
    folder = Path(settings.machine)
    with _core(folder, settings.cores):
        began = time.time()
        time.sleep(seconds)
        line = json.dumps([stage, item.source_id, item.window_index, began, time.time(), seconds]) + "\n"
        with (folder / "waits").open("ab", buffering=0) as log:
            log.write(line.encode())


class _Waiting:
    name: ClassVar[str]
    version = 1
    grain: ClassVar[Grain] = "source"
    reads: ClassVar[tuple[Table, ...]] = ()
    writes: ClassVar[tuple[Table, ...]] = ()
    gate: ClassVar[Gate | None] = "tracks"
    gate_mode: ClassVar[GateMode] = "once"
    Settings = WaitingSettings

    def __init__(self, settings: WaitingSettings) -> None:
        self.settings = settings

    def run(self, item: WorkItem, inputs: Inputs) -> Outputs:
        """Read what the stage reads, wait, and return the source's tables of the units that are asked for."""
        segments = json.loads(inputs.media.read_text())["segments"]
        made = _made(item.source_id, segments)
        for table in self.reads:
            inputs.read(table)
        seconds = length_s(segments) if item.window is None else item.window.end_s - item.window.start_s
        if self.settings.cores:
            wait(self.settings, self.name, item, rates()[self.name] * seconds / self.settings.speed)
        return Outputs({table: self._asked(table, made.get(table, table.empty()), item) for table in self.writes})

    def _asked(self, table: Table, rows: pa.Table, item: WorkItem) -> pa.Table:
        if self.gate is None or self.gate_mode == "once" or UNITS[self.gate].id not in table.column_names:
            return rows
        return rows.filter(pc.is_in(rows[UNITS[self.gate].id], pa.array(item.units, pa.string())))


class Probe(_Waiting):
    name = "probe"
    writes = (t.SOURCES,)
    gate = None


class Scan(_Waiting):
    name = "scan"
    grain = "window"
    reads = (t.SOURCES, t.CUT_LABELS)
    writes = (t.CUTS, t.FRAMES, t.LAYOUT, t.FACE_FRAMES, t.FACE_CROPS, t.PORTRAITS)
    gate = "sources"


class Tracks(_Waiting):
    name = "tracks"
    reads = (t.SOURCES, t.CUTS, t.FRAMES, t.LAYOUT, t.FACE_FRAMES, t.PORTRAITS, t.CUT_LABELS)
    writes = (t.SHOTS, t.TRACKS, t.TRACKLETS)
    gate = "sources"


class Speech(_Waiting):
    name = "speech"
    reads = (t.SOURCES,)
    writes = (
        t.SPEECH_FRAMES, t.SPEECH, t.SPEAKERS, t.TURNS, t.WORDS, t.AUDIO_EVENTS, t.AUDIO, t.SOUND_SIGNATURES,
    )  # fmt: skip


class ActiveSpeaker(_Waiting):
    name = "active_speaker"
    reads = (t.SOURCES, t.TRACKLETS, t.FACE_CROPS, t.FACE_FRAMES, t.SPEECH)
    writes = (t.ASD_FRAMES, t.SYNC, t.SYNC_FRAMES)
    gate_mode = "each"


class Attribution(_Waiting):
    name = "attribution"
    reads = (
        t.TRACKS, t.ASD_FRAMES, t.SYNC_FRAMES, t.TURNS, t.SPEAKERS, t.WORDS, t.VOICE_LABELS, t.WORD_LABELS,
    )  # fmt: skip
    writes = (t.VOICE_TURNS, t.BINDINGS, t.VOICES, t.BACKCHANNELS, t.TURN_TAKING)
    gate_mode = "together"


class Pairing(_Waiting):
    name = "pairing"
    reads = (
        t.SOURCES, t.SHOTS, t.TRACKS, t.TRACKLETS, t.FRAMES, t.FACE_FRAMES, t.LAYOUT, t.SPEECH, t.SPEECH_FRAMES,
        t.AUDIO_EVENTS, t.VOICE_TURNS, t.WORDS, t.ASD_FRAMES, t.SYNC, t.SYNC_FRAMES, t.BINDINGS, t.BACKCHANNELS,
        t.LABELS, t.WORD_LABELS,
    )  # fmt: skip
    writes = (t.TIMELINE, t.SEGMENTS)
    gate_mode = "together"


class ClipPlan(_Waiting):
    name = "clip_plan"
    reads = (t.SOURCES, t.SHOTS, t.FRAMES, t.TRACKLETS, t.FACE_FRAMES, t.LAYOUT, t.SPEECH_FRAMES, t.SEGMENTS)
    writes = (t.CLIP_PLANS,)
    gate = "segments"
    gate_mode = "each"


class Body(_Waiting):
    name = "body"
    reads = (t.SOURCES, t.TRACKLETS, t.FACE_FRAMES, t.LAYOUT, t.SEGMENTS)
    writes = (t.BODY_FRAMES, t.BODIES)
    gate = "segments"
    gate_mode = "each"


class Performance(_Waiting):
    name = "performance"
    reads = (
        t.SOURCES, t.FRAMES, t.TRACKLETS, t.FACE_FRAMES, t.PORTRAITS, t.LAYOUT, t.SPEECH_FRAMES, t.TURNS, t.SEGMENTS,
        t.CLIP_PLANS, t.BODY_FRAMES, t.BODIES, t.TRACKS, t.CAPTION_LABELS,
    )  # fmt: skip
    writes = (t.CAPTIONS, t.EVENTS)
    gate = "segments"
    gate_mode = "each"


class Embedding(_Waiting):
    name = "embedding"
    reads = (t.SOURCES, t.TRACKS, t.TRACKLETS, t.PORTRAITS, t.FACE_FRAMES, t.LAYOUT)
    writes = (t.FACE_EMBEDDINGS,)
    gate_mode = "each"


class Packing(_Waiting):
    name = "packing"
    reads = (
        t.SOURCES, t.SHOTS, t.CLIP_PLANS, t.VOICE_TURNS, t.SPEAKERS, t.BINDINGS, t.TIMELINE, t.SEGMENTS,
    )  # fmt: skip
    writes = (t.CLIPS,)
    gate = "segments"
    gate_mode = "each"


STAGES = (
    Probe, Scan, Tracks, Speech, ActiveSpeaker, Attribution, Pairing, ClipPlan, Body, Performance, Embedding, Packing,
)  # fmt: skip


def workflow(**settings: Any) -> Workflow:
    """Return the workflow of these stages, all with the same settings; sources are scanned in windows of 40 s."""
    specs = {s.name: StageSpec(use=f"waiting_stages:{s.__name__}", settings=settings) for s in STAGES}
    return Workflow(name="waiting", policy="default", window_s=40.0, stages=specs)


def write_sources(folder: Path, segments: list[int]) -> None:
    """Write a source for each number of segments."""
    folder.mkdir(parents=True, exist_ok=True)
    for n, many in enumerate(segments):
        (folder / f"s{n:06d}.mp4").write_text(json.dumps({"segments": many, "n": n}))


def cost_s(segments: int, speed: float) -> float:
    """Return the seconds for which the stages wait in all on a source of so many segments."""
    return sum(rates()[s.name] for s in STAGES) * length_s(segments) / speed
