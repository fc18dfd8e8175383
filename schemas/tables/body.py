"""Tables of body posture and hands."""

from __future__ import annotations

from schemas.columns import ANNOTATOR, SEGMENT, SOURCE, TRACK, K, T, count, real, reals, text
from schemas.table import Table

BODY_FRAMES = Table(
    "body_frames",
    "a segment's person, up to five times a second: shoulders, wrists, hands; only where a body fits the face",
    ("segment_id", "k"),
    (
        SEGMENT,
        SOURCE,
        TRACK,
        K,
        T,
        reals("shoulders_xy", "x, y of the subject's left and right shoulder; empty = not both seen", "px"),
        real("shoulder_width", "their distance if they faced the camera; null = not both seen", "px", null=True),
        real("body_yaw_deg", "where the chest faces: 0 the camera, > 0 image right, 180 away; null likewise",
             "deg", null=True),
        reals("left_wrist_xy", "x, y of the subject's left wrist; empty = hidden or outside the picture", "px"),
        reals("right_wrist_xy", "x, y of the right one; empty likewise", "px"),
        real("left_hand", "probability that a hand is seen at the left wrist; null = wrist not seen", "0-1", null=True),
        real("right_hand", "the same at the right wrist", "0-1", null=True),
        text("posture", "standing or sitting, where hips and knees are seen and agree; else null", null=True),
        count("looks", "grid points that this row stands for: while no wrist is in view, every second is passed over"),
        ANNOTATOR,
    ),
)  # fmt: skip

BODIES = Table(
    "bodies",
    "body posture and hands of a segment, from body_frames; null = not measured. Heuristics but for the points",
    ("segment_id",),
    (
        SEGMENT,
        SOURCE,
        TRACK,
        count("n_looked_at", "grid points looked at, those passed over (see body_frames.looks) included"),
        real("measured_ratio", "share of these grid points at which a body fitted the face", "0-1"),
        real("hands_visible_ratio", "share of them with a hand found at a wrist", "0-1"),
        real("gesture_energy", "mean speed of the faster seen wrist against the shoulders; null = none seen",
             "shoulder widths / s", null=True),
        real("body_yaw_deg", "median of body_frames; null = shoulders seen in less than half", "deg", null=True),
        text("body_view", "frontal, left or right three_quarter or profile, or rear by that yaw", null=True),
        text("posture", "standing or sitting, where it was told in half of the grid points; else null", null=True),
        text("arms", "raised (a hand above the shoulders), at_face, joined (hands together) or apart, most of the time "
             "that both wrists are seen, or one above the shoulders; null = seen in less than half", null=True),
        ANNOTATOR,
    ),
)  # fmt: skip
