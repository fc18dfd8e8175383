"""Whether a stretch of a person can be cropped clean, as runs are cut by. 5 to 50 milliseconds a stretch asked for.

The same scene and search as the stage `clip_plan` has, with its margins' defaults. It proposes only: what a clip then
shows is measured there, and policies decide on that.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from curation.stage import Inputs
from schemas.tables.plans import ClipPlanRow
from schemas.time import Interval, grid_range
from stages.clip_plan.content import content
from stages.clip_plan.crop import near_rows
from stages.clip_plan.crop_search import best_crop, blocked
from stages.clip_plan.framing import CropShape
from stages.clip_plan.source import ClipSource, clip_source

_AT_EDGE = 1
"""Most grid points at the picture's edge: a clip begins when the face is in, and ends before it goes."""
OVERLAYS = (
    ClipPlanRow.text_in_crop, ClipPlanRow.usual_text_in_crop, ClipPlanRow.logo_in_crop, ClipPlanRow.inset_in_crop,
)  # fmt: skip
INTRUDERS = (ClipPlanRow.bars_in_crop, ClipPlanRow.other_face_in_crop)
_SHAPE = CropShape()


@dataclass(frozen=True, slots=True)
class CleanLimits:
    """What a crop counts as clean by: most of it (0-1) that each of `OVERLAYS` and of `INTRUDERS` may take, and the
    least share of the face in it. The stage that cuts has them as settings; they follow the default policy's rules.
    """

    overlay: float
    intruder: float
    face: float


@dataclass(frozen=True, slots=True)
class _Piece:
    """A stretch of a track that may become a clip."""

    track_id: str
    shot_id: str
    start_s: float
    end_s: float
    segment_id: str = ""


@dataclass(frozen=True)
class Framer:
    """Answers for one source; remembers its answers."""

    source: ClipSource
    limits: CleanLimits
    _known: dict[tuple[str, float, float], bool] = field(default_factory=dict)

    @classmethod
    def of(cls, inputs: Inputs, limits: CleanLimits) -> Framer:
        """Read a source."""
        return cls(clip_source(inputs), limits)

    def fits(self, track: str, shot: str, start_s: float, end_s: float) -> bool:
        """Say whether the best crop of a track from one time to another holds the face, and nothing unwanted."""
        key = (track, round(start_s, 3), round(end_s, 3))
        if key not in self._known:
            self._known[key] = self._fits(track, shot, start_s, end_s)
        return self._known[key]

    def _fits(self, track: str, shot: str, start_s: float, end_s: float) -> bool:
        try:
            scene = self.source.scene(_Piece(track, shot, start_s, end_s))
            if blocked(scene, _SHAPE):
                return False
            found = best_crop(scene, _SHAPE)
        except ValueError:  # no face box there, or outside the picture
            return False
        ks = grid_range(Interval(start_s, end_s))
        near = near_rows(self.source.layout, ks, self.source.shots[shot])
        shown = content(found.path, scene, near, self.source.size)
        limits = self.limits
        at_edge = shown[ClipPlanRow.face_at_edge] * len(ks)
        held = shown[ClipPlanRow.face_in_crop] >= limits.face and at_edge <= _AT_EDGE + 0.5
        clean = all(shown[c] <= limits.overlay for c in OVERLAYS) and all(
            shown[c] <= limits.intruder for c in INTRUDERS
        )
        return bool(held and found.framing != "tight" and clean)
