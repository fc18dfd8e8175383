"""Stage `plain_clips`, for `head_to_head.py`: shots, optical flow and a shard of clips, as general curators make them.

A stage of one's own, as docs/extending.md has it. Shots are those of the pipeline's first pass (PySceneDetect's
adaptive detector), motion is Farneback's flow twice a second as in py-data-juicer, but on the reduced picture, clips
are H.264 in the source's size by the encoder's settings of PySceneDetect, which py-data-juicer calls, and FLAC.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import cv2
import numpy as np

from curation.media.audio import read_audio
from curation.media.encode import encode_clip_bytes, encode_flac
from curation.media.grid import frames_on_grid
from curation.media.video import DecodeReport, iter_frames
from curation.pack.shards import tar_bytes
from curation.stage import Gate, GateMode, Grain, Inputs, Outputs, StageSettings, WorkItem
from schemas import columns as c
from schemas.samples.sample import FPS
from schemas.table import Column, Row, Table
from schemas.tables import SOURCES
from schemas.time import PACKED_AUDIO_HZ, Interval
from stages.scan.grid import Image, read

SHORTEST_S = 1.0


class PlainClipRow(Row):
    """A clip that shows one shot."""

    source_id: Column[str] = c.source_id()
    start_s: Column[float] = c.real("where the shot begins", "s")
    end_s: Column[float] = c.real("where it ends", "s")
    motion: Column[float] = c.real("mean length of Farneback's flow", "px of the reduced picture")
    n_bytes: Column[int] = c.count("size of the clip", "B")


PLAIN_CLIPS = Table(PlainClipRow, "plain_clips", (PlainClipRow.source_id, PlainClipRow.start_s))


class PlainClips:
    """Stage: a shard of clips of a source's shots."""

    name: ClassVar[str] = "plain_clips"
    version: ClassVar[int] = 1
    grain: ClassVar[Grain] = "source"
    reads: ClassVar[tuple[Table, ...]] = (SOURCES,)
    writes: ClassVar[tuple[Table, ...]] = (PLAIN_CLIPS,)
    gate: ClassVar[Gate | None] = "sources"
    gate_mode: ClassVar[GateMode] = "once"
    Settings: ClassVar[type[StageSettings]] = StageSettings

    def __init__(self, settings: StageSettings) -> None:
        """Nothing is loaded."""
        cv2.setNumThreads(1)

    def run(self, item: WorkItem, inputs: Inputs) -> Outputs:
        """Find the shots in one pass, and write each as a clip in a second."""
        source = SOURCES.rows(inputs.read(SOURCES))[0]
        cuts: list[float] = []
        flows: list[tuple[float, float]] = []
        last: tuple[float, Image] | None = None
        for shown in read(
            inputs.media, Interval(0.0, source.duration_s), DecodeReport(), max_side=1280, threshold=3.0,
            min_content=15.0,
        ):  # fmt: skip
            if shown.cut:
                cuts.append(shown.t_s)
            if last is None or shown.t_s - last[0] >= 0.5:
                grey = np.asarray(cv2.cvtColor(shown.small, cv2.COLOR_RGB2GRAY), np.uint8)
                if last is not None and not shown.cut:
                    flows.append((shown.t_s, _flow(last[1], grey)))
                last = shown.t_s, grey
        members: list[tuple[str, bytes]] = []
        rows = []
        for start_s, end_s in zip([0.0, *cuts], [*cuts, source.duration_s], strict=True):
            n = int((end_s - start_s) * FPS)
            if n < SHORTEST_S * FPS:
                continue
            shown_frames = frames_on_grid(iter_frames(inputs.media, start_s, end_s), start_s, n, FPS)
            data, clip = encode_clip_bytes(_even(frame.rgb() for frame in shown_frames), crf=22, preset="veryfast")
            motion = [v for t_s, v in flows if start_s < t_s < end_s]
            rows.append(
                PlainClipRow(
                    source_id=item.source_id, start_s=start_s, end_s=end_s, n_bytes=clip.n_bytes,
                    motion=float(np.mean(motion)) if motion else 0.0,
                )
            )  # fmt: skip
            name = f"{item.source_id}-{len(rows):04d}"
            members.append((f"{name}.mp4", data))
            if (sound := read_audio(inputs.media, start_s, start_s + n / FPS, PACKED_AUDIO_HZ)) is not None:
                members.append((f"{name}.flac", encode_flac(sound)))
        inputs.save(f"clips/bucket={item.source_id[:2]}/{item.source_id}.tar", tar_bytes(members))
        return Outputs({PLAIN_CLIPS: PLAIN_CLIPS.from_rows(rows)})


def _even(pictures: Iterator[Image]) -> Iterator[Image]:
    for rgb in pictures:
        yield rgb[: rgb.shape[0] // 2 * 2, : rgb.shape[1] // 2 * 2]


def _flow(before: Image, after: Image) -> float:
    room = np.zeros((*before.shape, 2), np.float32)
    flow = cv2.calcOpticalFlowFarneback(before, after, room, 0.5, 3, 15, 3, 5, 1.2, 0)
    return float(np.linalg.norm(flow, axis=-1).mean())
