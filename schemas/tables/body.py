"""Tables of body posture and hands."""

from __future__ import annotations

from schemas import columns as c
from schemas.column import Column
from schemas.row import Row
from schemas.table import Table


class BodyFrameRow(Row):
    """A segment's person, up to five times a second: shoulders, wrists, hands; only where a body fits the face."""

    segment_id: Column[str] = c.segment_id()
    source_id: Column[str] = c.source_id()
    track_id: Column[str] = c.track_id()
    k: Column[int] = c.grid_index()
    t_s: Column[float] = c.frame_time()
    shoulders_xy: Column[list[float]] = c.reals(
        "x, y of the subject's left and right shoulder; empty = not both seen", "px"
    )
    shoulder_width: Column[float | None] = c.real(
        "their distance if they faced the camera; null = not both seen", "px", null=True
    )
    body_yaw_deg: Column[float | None] = c.real(
        "where the chest faces: 0 the camera, > 0 image right, 180 away; null likewise", "deg", null=True
    )
    left_wrist_xy: Column[list[float]] = c.reals(
        "x, y of the subject's left wrist; empty = hidden or outside the picture", "px"
    )
    right_wrist_xy: Column[list[float]] = c.reals("x, y of the right one; empty likewise", "px")
    left_hand: Column[float | None] = c.real(
        "probability that a hand is seen at the left wrist; null = wrist not seen", "0-1", null=True
    )
    right_hand: Column[float | None] = c.real("the same at the right wrist", "0-1", null=True)
    posture: Column[str | None] = c.text(
        "standing or sitting, where hips and knees are seen and agree; else null", null=True
    )
    looks: Column[int] = c.count(
        "grid points that this row stands for: while no wrist is in view, every second is passed over"
    )
    annotator: Column[str] = c.annotator()


BODY_FRAMES = Table(BodyFrameRow, "body_frames", (BodyFrameRow.segment_id, BodyFrameRow.k))


class BodyRow(Row):
    """Body posture and hands of a segment, from body_frames; null = not measured. Heuristics but for the points."""

    segment_id: Column[str] = c.segment_id()
    source_id: Column[str] = c.source_id()
    track_id: Column[str] = c.track_id()
    n_looked_at: Column[int] = c.count("grid points looked at, those passed over (see body_frames.looks) included")
    measured_ratio: Column[float] = c.real("share of these grid points at which a body fitted the face", "0-1")
    hands_visible_ratio: Column[float] = c.real("share of them with a hand found at a wrist", "0-1")
    gesture_energy: Column[float | None] = c.real(
        "mean speed of the faster seen wrist against the shoulders; null = none seen", "shoulder widths / s", null=True
    )
    body_yaw_deg: Column[float | None] = c.real(
        "median of body_frames; null = shoulders seen in less than half", "deg", null=True
    )
    body_view: Column[str | None] = c.text(
        "frontal, left or right three_quarter or profile, or rear by that yaw", null=True
    )
    posture: Column[str | None] = c.text(
        "standing or sitting, where it was told in half of the grid points; else null", null=True
    )
    arms: Column[str | None] = c.text(
        "raised (a hand above the shoulders), at_face, joined (hands together) or apart, most of the time "
        "that both wrists are seen, or one above the shoulders; null = seen in less than half",
        null=True,
    )
    annotator: Column[str] = c.annotator()


BODIES = Table(BodyRow, "bodies", (BodyRow.segment_id,))
