"""Where a stream's pictures may be wrong: from a damage to the next picture that is coded on its own.

A decoder conceals what it cannot read, and each picture predicted from a concealed one shows it too, as smears and
blocks that no decoder counts as errors. The signs of it are a frame that the decoder marks, a packet that it refuses or
that the container marks (bytes lost on the way, in MPEG-TS), of codecs whose decoders pass over in silence what lacks
its references a packet that never comes out as a frame, and a jump in the times of frames that came evenly so far (lost
bytes in Matroska take the rest of their cluster along). Wrong bytes that decode to something leave no sign: of
HEVC nearly all, of H.264 hardly any (benchmarks/damage.py).
"""

from __future__ import annotations

import bisect
from collections import deque
from itertools import pairwise

SPREAD_S = 10.0
"""Longest that one damage is taken to show: some streams refresh the picture bit by bit and have no key frames.
Encoders set a key frame every 10 s or more often, if not told otherwise (x264: 250 frames)."""

_PASSED_OVER = ("hevc", "vvc", "av1")

_EVEN = 25
"""So many intervals in a row are alike before a jump counts: recordings of calls and screens jump all the time."""
_ALIKE_S = 0.0021
"""Intervals that differ by no more are alike: clocks of milliseconds round both ends."""
_JUMP = 4.5
"""An interval so many times as long as those before it is a jump."""


class Damage:
    """Gathers the damaged stretches of one reading; times are in seconds on the source's clock."""

    def __init__(self) -> None:
        self._open: list[float] = []
        self._closed: list[tuple[float, float]] = []
        self._sent: list[float] | None = None
        self._shown = False
        self._anchors: list[float] = []
        self._was_corrupt = False
        self._before: deque[float] = deque(maxlen=_EVEN + 1)

    def begin(self, codec: str) -> None:
        """Say which codec it is, before all else."""
        self._sent = [] if codec in _PASSED_OVER else None

    def packet(self, t_s: float, is_corrupt: bool) -> None:
        """Take note of a packet that is about to be decoded.

        FFmpeg's parsers give a frame the mark of what they read when it ends, so the next one may be meant.
        """
        if is_corrupt or self._was_corrupt:
            self._open.append(t_s)
        self._was_corrupt = is_corrupt
        if self._sent is not None:
            bisect.insort(self._sent, t_s)

    def refused(self, t_s: float) -> None:
        """Take note of a packet that the decoder refused."""
        self._open.append(t_s)

    def frame(self, t_s: float, is_key: bool, is_corrupt: bool, is_between: bool) -> None:
        """Take note of a frame, in order of presentation; `is_between`: of type B, coded after what is shown later."""
        if self._sent is not None:
            n = bisect.bisect_left(self._sent, t_s)
            if self._shown:  # what comes before the first frame has its references before the place sought
                self._open += self._sent[:n]
            del self._sent[: bisect.bisect_right(self._sent, t_s)]
        self._shown = True
        if self._jumps(t_s):
            self._open.append(self._before[-1])
        self._before.append(t_s)
        if is_corrupt:
            self._open.append(t_s)
        elif is_key:
            self._closed += [(self._from(b), min(t_s, b + SPREAD_S)) for b in self._open if b < t_s]
            self._open = [b for b in self._open if b >= t_s]
            if not self._open:
                self._anchors = []
        if not is_between:
            self._anchors.append(t_s)

    def _jumps(self, t_s: float) -> bool:
        if len(self._before) <= _EVEN:
            return False
        intervals = [b - a for a, b in pairwise(self._before)]
        return max(intervals) - min(intervals) <= _ALIKE_S and t_s - self._before[-1] > _JUMP * max(intervals)

    def _from(self, begun_s: float) -> float:
        """Return the time before which nothing shows a damage: frames between refer to the ones after them, too."""
        at = bisect.bisect_left(self._anchors, begun_s)
        return self._anchors[at - 1] if at else begun_s

    def stretches(self) -> list[tuple[float, float]]:
        """Return (start, end) of the damaged stretches so far, in order; they may overlap."""
        return sorted([*self._closed, *((self._from(b), b + SPREAD_S) for b in self._open)])
