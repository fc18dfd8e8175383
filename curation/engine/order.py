"""In which order sources are worked on: the longest first, so that none comes last and alone; doubtful ones last.

Long means seconds of media, as the probe found them. Of a source that is not probed yet it is as many as its bytes
would be at the rate of those that are. Doubtful is a source with which runs were killed several times: if that was its
doing, the others are to be done before it does it again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

USUAL_BYTES_PER_S = 500_000.0
"""Of video, where no source is probed: 4 Mbit/s."""
DOUBTED = 2
"""Attempts at a source that were cut short, from which on it is left for last."""


@dataclass(frozen=True, slots=True)
class SourceWork:
    """A source that has something to do: its id, where its file is, and what one may expect of its cost."""

    source_id: str
    path: str
    bytes: int
    media_s: float = 0.0
    """as it was probed; 0 = not yet"""
    cut_short: int = 0
    """attempts at its next step that ended with their run or worker"""

    @property
    def doubtful(self) -> bool:
        """Runs were killed with it more than once."""
        return self.cut_short >= DOUBTED


def longest_first(work: Iterable[SourceWork]) -> list[SourceWork]:
    """Return the work in the order in which it is to be begun; of equal length by id."""
    there = list(work)
    media_s = sum(w.media_s for w in there)
    rate = sum(w.bytes for w in there if w.media_s) / media_s if media_s else 0.0
    return sorted(there, key=lambda w: (w.doubtful, -(w.media_s or w.bytes / (rate or USUAL_BYTES_PER_S)), w.source_id))
