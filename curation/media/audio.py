"""Read sound sample-exactly on the source's own clock, in windows or in blocks.

Sample k of a reading at `rate` stands at k / rate seconds, zero being the first video frame, whatever the stream's
start, edit list or priming; where there is no sound there are zeros. A file is decoded in chunks of fixed borders,
each with a lead for the decoder to settle, so that a window is bit for bit the slice of a whole reading: decoders that
fill bands with pseudo-random noise (AAC) would otherwise differ. Memory is a few chunks; cost about 4 ms of CPU for a
second of stereo AAC, and at most two chunks more than asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from math import ceil, gcd
from pathlib import Path

import numpy as np

from curation.media.audio_decode import Stretch, decode_samples, read_clocks
from curation.media.container import open_media, read_only
from curation.media.errors import MediaError
from curation.media.sound import FILTER_REACH, mixed, resample
from schemas.files.sound import F32

CHUNK_S = 20
"""Length of a decoding chunk. Whole seconds, so that chunk borders are whole samples at every rate."""


def read_audio(path: Path, start_s: float, end_s: float, rate: int, mono: bool = True) -> F32 | None:
    """Read the sound of [start_s, end_s) at `rate` Hz.

    Sample 0 stands at round(start_s * rate) / rate: within half a sample of `start_s`. Times before the first video
    frame are negative and may hold sound.

    Returns:
        float32 in [-1, 1], [N] or, if not `mono`, [C, N], with N = round((end_s - start_s) * rate); None if the file
        has no sound. A mono mix follows ITU-R BS.775 with weights that sum to 1 (`curation.media.sound.mixed`). Tracks
        that are heard together (`curation.media.container.find_heard`) are channels of one sound.

    Raises:
        MediaError: the file cannot be opened.
    """
    if not end_s >= start_s:
        raise ValueError(f"window ends before it starts: [{start_s}, {end_s})")
    with AudioReader(path, rate, mono) as reader:
        return reader.read(start_s, end_s) if reader.has_audio else None


def iter_audio_blocks(
    path: Path, rate: int, block_s: float = 30.0, mono: bool = True, *, end_s: float | None = None
) -> Iterator[tuple[float, F32]]:
    """Yield (start_s, samples) in adjacent blocks from time 0 to `end_s` (default: the end of the sound).

    Blocks hold round(block_s * rate) samples, the last one what is left. Nothing is yielded without sound.

    Raises:
        MediaError: the file cannot be opened.
    """
    block_n = round(block_s * rate)
    if block_n < 1:
        raise ValueError(f"block_s must hold at least one sample, got {block_s}")
    with AudioReader(path, rate, mono) as reader:
        if not reader.has_audio:
            return
        stop = reader.end_index() if end_s is None else round(end_s * rate)
        for first in range(0, stop, block_n):
            yield first / rate, reader.read_samples(first, min(first + block_n, stop))


class AudioReader:
    """Keeps one file's clock and last chunks to read many windows of its sound; use as a context manager.

    Attributes:
        has_audio: whether the file has a sound stream that decodes.
        channels: names of the channels, in order; those of mono tracks that are heard together have one name.
        damaged: stretches (start, end) in seconds of what was read that lost or broken packets spoil, and that read as
            zeros or noise. In any order, and some twice.
    """

    def __init__(self, path: Path, rate: int, mono: bool = True) -> None:
        if rate <= 0:
            raise ValueError(f"rate must be positive, got {rate}")
        self._path, self._rate, self._mono = path, rate, mono
        self._chunks: dict[int, F32] = {}
        self.damaged: list[Stretch] = []
        self._clocks = read_clocks(path)
        self.channels = tuple(name for clock in self._clocks for name in clock.channels)
        self.has_audio = bool(self._clocks)

    def __enter__(self) -> AudioReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self._chunks.clear()

    def read(self, start_s: float, end_s: float) -> F32:
        """Read [start_s, end_s): float32 [N] or [C, N], N = round((end_s - start_s) * rate); see `read_audio`."""
        first = round(start_s * self._rate)
        return self.read_samples(first, first + round((end_s - start_s) * self._rate))

    def read_samples(self, first: int, stop: int) -> F32:
        """Read samples first..stop-1 of the source's clock at the reader's rate."""
        self._require_sound()
        size = CHUNK_S * self._rate
        out = np.zeros((1 if self._mono else len(self.channels), stop - first), dtype=np.float32)
        for number in range(first // size, -(-stop // size)):
            start = number * size
            a, b = max(first, start), min(stop, start + size)
            out[:, a - first : b - first] = self._chunk(number)[:, a - start : b - start]
        return out[0] if self._mono else out

    def end_index(self) -> int:
        """Return the number of samples from time 0 to the end of the sound; 0 if it ends before. Reads all packets."""
        self._require_sound()
        clocks, end_s = {c.stream_index: c for c in self._clocks}, Fraction(0)
        with open_media(self._path) as container:
            streams = [container.streams[i] for i in clocks]
            read_only(container, *streams)
            for packet in container.demux(streams):
                if packet.pts is not None and not packet.is_discard:
                    clock = clocks[packet.stream_index]
                    end_s = max(end_s, (packet.pts + (packet.duration or 0)) * clock.base - clock.origin_s)
        return ceil(end_s * self._rate)

    def _require_sound(self) -> None:
        if not self._clocks:
            raise MediaError("no_audio_stream", f"{self._path.name} has no sound; ask `has_audio` before reading")

    def _chunk(self, number: int) -> F32:
        """Return chunk `number` at the reader's rate, float32 [C, CHUNK_S * rate]; the last two are kept."""
        if number not in self._chunks:
            while len(self._chunks) > 1:
                del self._chunks[next(iter(self._chunks))]
            self._chunks[number] = self._make_chunk(number)
        return self._chunks[number]

    def _make_chunk(self, number: int) -> F32:
        rate_hz = self._clocks[0].rate_hz
        # The halo feeds the resampling filter; a multiple of 1 / gcd seconds is whole samples at both rates.
        common = gcd(rate_hz, self._rate)
        units = 0 if rate_hz == self._rate else ceil(FILTER_REACH * common / min(rate_hz, self._rate))
        halo, halo_out = units * rate_hz // common, units * self._rate // common
        first, n = number * CHUNK_S * rate_hz - halo, CHUNK_S * rate_hz + 2 * halo
        decoded = [decode_samples(self._path, clock, first, n) for clock in self._clocks]
        self.damaged += [stretch for _, spoilt in decoded for stretch in spoilt]
        native = np.concatenate([samples for samples, _ in decoded]) if len(decoded) > 1 else decoded[0][0]
        if self._mono:
            native = mixed(native, self.channels)[None]
        return resample(native, rate_hz, self._rate)[:, halo_out : halo_out + CHUNK_S * self._rate]
