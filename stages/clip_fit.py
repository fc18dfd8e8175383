"""Whether a stretch of a person can be cropped clean, as runs are cut by. 5 to 50 milliseconds a stretch asked for.

The same scene and search as the stage `clip_plan` has, with its margins' defaults. It proposes only: what a clip then
shows is measured there, and policies decide on that.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from curation.stage import Inputs
from stages.clip_content import content
from stages.clip_crop import CropSettings
from stages.clip_source import ClipSource, clip_source
from stages.crop_search import best_crop, blocked

_HELD, _AT_EDGE, _USUAL = 0.95, 0.05, 0.0005
"""Least share of the face in the crop, most of the time at the picture's edge, most of the crop under places where
text usually stands: as the default policy's `face_held` and `no_usual_text`."""
_SHAPE = CropSettings().shape


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
        if not found.clean or found.framing == "tight":
            return False
        shown = content(found.path, scene, [], self.source.size)
        held = shown["face_in_crop"] >= _HELD and shown["face_at_edge"] <= _AT_EDGE
        return bool(held and shown["usual_text_in_crop"] <= _USUAL)
