"""Table of planned clips: what each candidate clip would show and sound like, before anything is encoded."""

from __future__ import annotations

from schemas import columns as c
from schemas.column import Column
from schemas.row import Row
from schemas.table import Table


class ClipPlanRow(Row):
    """The crop planned for each candidate clip, still or following, and what it shows; shares are of the crop's
    area.
    """

    segment_id: Column[str] = c.segment_id()
    source_id: Column[str] = c.source_id()
    framing: Column[str] = c.text(
        "half_body, shoulders, narrowed (less room than wanted) or tight (least margins do not fit)"
    )
    crop_path: Column[list[float]] = c.reals(
        "knots t, x, y, w, h, flattened: seconds from the clip's start, pixels; linear in between"
    )
    crop_moves: Column[bool] = c.flag("the crop follows the face; else one knot and a still crop")
    crop_speed: Column[float] = c.real("fastest motion of the crop's centre", "crop heights/s")
    crop_zoom: Column[float] = c.real("fastest change of the crop's height, as a share of it", "1/s")
    crop_x: Column[float] = c.real("left edge of the crop, mean over the clip", "px")
    crop_y: Column[float] = c.real("top edge of the crop, likewise", "px")
    crop_w: Column[float] = c.real("width of the crop, likewise", "px")
    crop_h: Column[float] = c.real("height of the crop, likewise", "px")
    crop_short_px: Column[float] = c.real("shorter side of the crop before scaling, at its smallest", "px")
    packed_short_px: Column[float] = c.real("shorter side of the encoded picture", "px")
    upscale: Column[float] = c.real("encoded / cropped size; above 1 = enlarged")
    clip_face_px: Column[float] = c.real("median shorter side of the face box within the clip, in the source", "px")
    packed_face_px: Column[float] = c.real("the same in the encoded picture", "px")
    face_in_crop: Column[float] = c.real("least share of the face box inside the crop, 1st percentile of frames", "0-1")
    face_at_edge: Column[float] = c.real(
        "share of grid points at which the picture's left, right or lower edge cuts it", "0-1"
    )
    room_above: Column[float] = c.real("room above the face in the crop, median, face heights")
    room_below: Column[float] = c.real("room below the face in the crop, likewise")
    room_beside: Column[float] = c.real("room at the narrower side of the face, likewise, face widths")
    text_in_crop: Column[float] = c.real(
        "overlaid text, seen in the shot during the clip or next to it, at its most", "0-1"
    )
    usual_text_in_crop: Column[float] = c.real(
        "places where text comes back throughout the source, such as subtitles", "0-1"
    )
    logo_in_crop: Column[float] = c.real("static graphics, at their most", "0-1")
    inset_in_crop: Column[float] = c.real(
        "pictures within the picture that do not show this person, at their most", "0-1"
    )
    bars_in_crop: Column[float] = c.real("flat bars, median", "0-1")
    other_faces: Column[int] = c.index("faces of other tracks that come into the crop")
    other_face_in_crop: Column[float] = c.real("the most that any of them takes", "0-1")
    longest_freeze_s: Column[float] = c.real("longest run of frozen frames within the clip", "s")
    black_ratio: Column[float] = c.real("share of black frames within the clip", "0-1")
    damaged_ratio: Column[float] = c.real("share of frames within the clip whose picture may be wrong", "0-1")
    digital_silence_ratio: Column[float] = c.real(
        "share of the clip's sound below -90 dBFS: no room has it; 0 without sound", "0-1"
    )
    sound_damaged_ratio: Column[float] = c.real("share of the clip's sound that may be wrong; 0 without sound", "0-1")


CLIP_PLANS = Table(ClipPlanRow, "clip_plans", (ClipPlanRow.segment_id,))
