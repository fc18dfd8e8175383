"""Table of planned clips: what each candidate clip would show and sound like, before anything is encoded."""

from __future__ import annotations

from schemas.columns import SEGMENT, SOURCE, flag, index, real, reals, text
from schemas.table import Table

CLIP_PLANS = Table(
    "clip_plans",
    "the crop planned for each candidate clip, still or following, and what it shows; shares are of the crop's area",
    ("segment_id",),
    (
        SEGMENT,
        SOURCE,
        text("framing", "half_body, shoulders, narrowed (less room than wanted) or tight (least margins do not fit)"),
        reals("crop_path", "knots t, x, y, w, h, flattened: seconds from the clip's start, pixels; linear in between"),
        flag("crop_moves", "the crop follows the face; else one knot and a still crop"),
        real("crop_speed", "fastest motion of the crop's centre", "crop heights/s"),
        real("crop_zoom", "fastest change of the crop's height, as a share of it", "1/s"),
        real("crop_x", "left edge of the crop, mean over the clip", "px"),
        real("crop_y", "top edge of the crop, likewise", "px"),
        real("crop_w", "width of the crop, likewise", "px"),
        real("crop_h", "height of the crop, likewise", "px"),
        real("crop_short_px", "shorter side of the crop before scaling, at its smallest", "px"),
        real("packed_short_px", "shorter side of the encoded picture", "px"),
        real("upscale", "encoded / cropped size; above 1 = enlarged"),
        real("clip_face_px", "median shorter side of the face box within the clip, in the source", "px"),
        real("packed_face_px", "the same in the encoded picture", "px"),
        real("face_in_crop", "least share of the face box inside the crop, 1st percentile of frames", "0-1"),
        real("face_at_edge", "share of grid points at which the picture's left, right or lower edge cuts it", "0-1"),
        real("room_above", "room above the face in the crop, median, face heights"),
        real("room_below", "room below the face in the crop, likewise"),
        real("room_beside", "room at the narrower side of the face, likewise, face widths"),
        real("text_in_crop", "overlaid text, seen in the shot during the clip or next to it, at its most", "0-1"),
        real("usual_text_in_crop", "places where text comes back throughout the source, such as subtitles", "0-1"),
        real("logo_in_crop", "static graphics, at their most", "0-1"),
        real("inset_in_crop", "pictures within the picture that do not show this person, at their most", "0-1"),
        real("bars_in_crop", "flat bars, median", "0-1"),
        index("other_faces", "faces of other tracks that come into the crop"),
        real("other_face_in_crop", "the most that any of them takes", "0-1"),
        real("longest_freeze_s", "longest run of frozen frames within the clip", "s"),
        real("black_ratio", "share of black frames within the clip", "0-1"),
        real(
            "digital_silence_ratio", "share of the clip's sound below -90 dBFS: no room has it; 0 without sound", "0-1"
        ),
    ),
)
