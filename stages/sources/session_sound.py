"""One moment in two microphones: is the same voice in both, and in which is it louder. Pure; microseconds a moment."""

from __future__ import annotations

import numpy as np

from annotators.sound.session_align import onsets
from annotators.sound.sound_signature import RATE_HZ, Bytes, levels_db
from stages.sources.session_clock import Clock

_MIN_FRAMES = 50


class SessionSound:
    """One file's signature on its session's clock."""

    def __init__(self, signature: Bytes, clock: Clock) -> None:
        self._levels = 10 ** (levels_db(signature) / 10)
        self._onsets = onsets(signature) if len(signature) else np.zeros((0, 4), np.float32)
        self.clock = clock

    def _at(self, start_s: float, end_s: float) -> tuple[np.ndarray, np.ndarray]:
        """Return (frame indices, which of them exist) of a stretch of session time, 100 a second."""
        times = np.arange(start_s, end_s, 1.0 / RATE_HZ)
        index = np.floor((times - self.clock.offset_s) / self.clock.rate * RATE_HZ + 1e-6).astype(int)
        return index, (index >= 0) & (index < len(self._onsets))

    def compare(self, other: SessionSound, start_s: float, end_s: float) -> tuple[float, float] | None:
        """Return (match, gap_db) of a stretch of session time; None where less than half a second is in both.

        `match` is the correlation of the onsets in -1..1; of a voice that reaches both microphones it is high.
        `gap_db` is this file's mean level minus the other's.
        """
        (i, seen), (j, there) = self._at(start_s, end_s), other._at(start_s, end_s)
        both = seen & there
        if both.sum() < _MIN_FRAMES:
            return None
        i, j = i[both], j[both]
        x, y = self._onsets[i], other._onsets[j]
        norm = float(np.sqrt(np.square(x).sum() * np.square(y).sum()))
        gap = 10 * np.log10(max(float(self._levels[i].mean()), 1e-15) / max(float(other._levels[j].mean()), 1e-15))
        return (float((x * y).sum()) / norm if norm > 0 else 0.0), float(gap)
