"""The mark of a column whose value goes with every clip: into the sample's JSON, and into the manifest.

A table's class is all that needs changing for a new one: `loudness: Column[float] = c.real("...", packed=SCORES)`.
It counts in tables that belong to a unit (see `schemas.units`); a clip takes the value of its own segment, track, shot
or source.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Part = Literal["scores", "performance", "audio"]
"""Parts of the sample's JSON that take marked columns."""


@dataclass(frozen=True, slots=True)
class Packed:
    """Where a marked column goes, by its own name."""

    part: Part
    manifest: bool = True
    """it is a column of the manifest as well"""
    absent: str | None = None
    """what stands for it where nothing was measured; None = null where the column may be, else no text, no terms"""


SCORES = Packed("scores")
PERFORMANCE = Packed("performance")
IN_SCORES = Packed("scores", manifest=False)
IN_PERFORMANCE = Packed("performance", manifest=False)
IN_AUDIO = Packed("audio", manifest=False)
