"""Whether a stretch of a person can be cropped clean, as runs are cut by. 5 to 50 milliseconds a stretch asked for.

The same scene and search as the stage `clip_plan` has, with its margins' defaults. It proposes only: what a clip then
shows is measured there, and policies decide on that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from curation.stage import Inputs
from schemas.time import Interval, grid_range
from stages.clip_content import content
from stages.clip_crop import near_rows
from stages.clip_source import ClipSource, clip_source
from stages.crop_search import best_crop, blocked
from stages.packing_crop import CropShape

_HELD, _AT_EDGE = 0.95, 1
"""Least share of the face in the crop, as the default policy's `face_held`, and most grid points at the picture's edge:
a clip begins when the face is in, and ends before it goes."""
_MOST: Mapping[str, float] = {
    "text_in_crop": 0.0005, "usual_text_in_crop": 0.0005, "logo_in_crop": 0.0005, "inset_in_crop": 0.0005,
    "bars_in_crop": 0.002, "other_face_in_crop": 0.002,
}  # fmt: skip
"""Most of the crop that each may take: as its rules on overlays, bars and other people."""
_SHAPE = CropShape()


@dataclass(frozen=True)
class Framer:
    """Answers for one source; remembers its answers."""

    source: ClipSource
    _known: dict[tuple[str, float, float], bool] = field(default_factory=dict)

    @classmethod
    def of(cls, inputs: Inputs) -> Framer:
        """Read a source."""
        return cls(clip_source(inputs))

    def fits(self, track: str, shot: str, start_s: float, end_s: float) -> bool:
        """Say whether the best crop of a track from one time to another holds the face, and nothing unwanted."""
        key = (track, round(start_s, 3), round(end_s, 3))
        if key not in self._known:
            self._known[key] = self._fits(track, shot, start_s, end_s)
        return self._known[key]

    def _fits(self, track: str, shot: str, start_s: float, end_s: float) -> bool:
        segment = {"segment_id": "", "track_id": track, "shot_id": shot, "start_s": start_s, "end_s": end_s}
        try:
            scene = self.source.scene(segment)
            if blocked(scene, _SHAPE):
                return False
            found = best_crop(scene, _SHAPE)
        except ValueError:  # no face box there, or outside the picture
            return False
        ks = grid_range(Interval(start_s, end_s))
        near = near_rows(self.source.layout, ks, self.source.shots[shot])
        shown = content(found.path, scene, near, self.source.size)
        held = shown["face_in_crop"] >= _HELD and shown["face_at_edge"] * len(ks) <= _AT_EDGE + 0.5
        return bool(held and found.framing != "tight" and all(shown[column] <= most for column, most in _MOST.items()))
