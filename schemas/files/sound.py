"""Decoded sound as the pipeline and the trainer both read it: samples as numbers, and which of them make mono.

Pure functions of what PyAV hands over; nothing here imports it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]

LOUDEST = 16.0
"""Samples beyond it (24 dB above full scale) are what a decoder made of wrong bytes, and read as zeros."""

_MIX = {"FL": 1.0, "FR": 1.0, "FC": 2**0.5, "FLC": 1.0, "FRC": 1.0, "LFE": 0.0, "LFE2": 0.0}
_SURROUND = 2**-0.5
"""ITU-R BS.775-3 annex 4: centre and surrounds at -3 dB against left and right, then (L + R) / 2; no LFE."""


_PLANAR = {
    "u8p": np.uint8,
    "s16p": np.int16,
    "s32p": np.int32,
    "s64p": np.int64,
    "fltp": np.float32,
    "dblp": np.float64,
}
"""FFmpeg's planar sample formats."""


def mono_weights(channels: Sequence[str]) -> F32:
    """Return the weights [C] that mix named channels to mono; they sum to 1, so the mix cannot clip."""
    known = any(name in _MIX for name in channels)
    weights = np.array([_MIX.get(name, _SURROUND if known else 1.0) for name in channels], dtype=np.float64)
    if not weights.any():
        weights[:] = 1.0
    return np.asarray(weights / weights.sum(), dtype=np.float32)


def to_float(samples: NDArray[Any]) -> F32:
    """Scale decoded samples to float32, full scale +-1; unsigned 8-bit has its zero at 128."""
    if samples.dtype == np.uint8:
        return np.asarray((samples.astype(np.float32) - 128) / 128, dtype=np.float32)
    if np.issubdtype(samples.dtype, np.integer):
        return np.asarray(samples / -float(np.iinfo(samples.dtype).min), dtype=np.float32)
    return samples.astype(np.float32)


def planes(frame: Any, n_channels: int) -> NDArray[Any]:
    """Return a planar frame as [C, samples] of its own type.

    Of eight channels or more PyAV takes what lies behind the last plane for another one; reading it ends the process.
    """
    dtype = np.dtype(_PLANAR[frame.format.name])
    return np.stack([np.frombuffer(plane, dtype, frame.samples) for plane in frame.planes[:n_channels]])


_NATIVE = (
    "FL", "FR", "FC", "LFE", "BL", "BR", "FLC", "FRC", "BC", "SL", "SR", "TC", "TFL", "TFC", "TFR", "TBL", "TBC", "TBR",
)  # fmt: skip
"""FFmpeg's own order of channels."""


def settle_layouts(container: Any) -> None:
    """Let sound whose channels come in another order than FFmpeg's (6.1 and 7.1 PCM in MOV) count as unnamed channels.

    Such a layout owns memory, of which PyAV copies the pointer and frees it with each copy: decoding one ends the
    process. The one copy made here takes the only pointer with it.
    """
    for stream in container.streams.audio:
        if stream.codec_context is not None:
            layout = stream.codec_context.layout
            places = [_NATIVE.index(c.name) if c.name in _NATIVE else None for c in layout.channels]
            ordered = [p for p in places if p is not None]
            if "channels (" in layout.name and (ordered != sorted(set(ordered)) or None in places):
                stream.codec_context.layout = f"{layout.nb_channels} channels"
