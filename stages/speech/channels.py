"""Stage `channels`: how loud each channel of a source's sound is, over time.

For recordings whose channels are different tracks, such as what a person says beside what they hear. No workflow but
`check` has it: it reads the sound once more (about 4 ms a second of sound) and decides nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.media.audio import iter_audio_blocks
from curation.stage import Gate, GateMode, Grain, Inputs, Outputs, StageSettings, WorkItem
from schemas.table import Table
from schemas.tables import CHANNEL_FRAMES, SOURCES
from schemas.time import AUDIO_HZ, GRID_HZ

_PER_FRAME = AUDIO_HZ // GRID_HZ
_BLOCK_S = 20.0
"""Whole grid steps, so that no step lies in two blocks."""
_FLOOR_DB = -120.0


class ChannelsSettings(StageSettings):
    """The levels have nothing to set."""


class Channels:
    """Stage: levels of one source's channels; no rows where there are fewer than two."""

    name: ClassVar[str] = "channels"
    version: ClassVar[int] = 1
    grain: ClassVar[Grain] = "source"
    reads: ClassVar[tuple[Table, ...]] = (SOURCES,)
    writes: ClassVar[tuple[Table, ...]] = (CHANNEL_FRAMES,)
    gate: ClassVar[Gate | None] = "sources"
    gate_mode: ClassVar[GateMode] = "once"
    Settings: ClassVar[type[StageSettings]] = ChannelsSettings

    def __init__(self, settings: ChannelsSettings) -> None:
        """Nothing to load."""

    def run(self, item: WorkItem, inputs: Inputs) -> Outputs:
        """Measure one source."""
        (source,) = SOURCES.rows(inputs.read(SOURCES))
        levels_CK = np.zeros((0, 0), np.float32)
        if source.has_audio and source.audio_channels >= 2:
            levels_CK = _levels(inputs.media, source.duration_s)
        channels, steps = levels_CK.shape
        rows: dict[str, pa.Array[Any]] = {
            "source_id": pa.array([item.source_id] * levels_CK.size, pa.string()),
            "channel": pa.array(np.repeat(np.arange(channels, dtype=np.int32), steps)),
            "k": pa.array(np.tile(np.arange(steps, dtype=np.int32), channels)),
            "level_db": pa.array(levels_CK.ravel()),
        }
        return Outputs({CHANNEL_FRAMES: CHANNEL_FRAMES.validated(pa.table(rows, CHANNEL_FRAMES.schema))})


def _levels(media: Path, duration_s: float) -> npt.NDArray[np.float32]:
    """Return the level in dBFS of each channel in each grid step of the picture, [C, K]; -120 where there is no sound.

    Raises MediaError.
    """
    blocks = [b for _, b in iter_audio_blocks(media, AUDIO_HZ, _BLOCK_S, mono=False, end_s=duration_s)]
    return np.concatenate([levels_db(b) for b in blocks], axis=1) if blocks else np.zeros((0, 0), np.float32)


def levels_db(samples_CN: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the RMS level of every 40 ms in dBFS, [C, ceil(N / 640)]; never below -120."""
    channels, n = samples_CN.shape
    padded = np.pad(samples_CN, ((0, 0), (0, -n % _PER_FRAME)))
    power = np.mean(padded.reshape(channels, -1, _PER_FRAME).astype(np.float64) ** 2, axis=2)
    levels: npt.NDArray[np.float32] = (10 * np.log10(np.maximum(power, 1e-30))).astype(np.float32)
    return np.maximum(levels, np.float32(_FLOOR_DB))
