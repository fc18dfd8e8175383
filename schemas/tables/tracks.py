"""Tables of shots and tracks."""

from __future__ import annotations

from schemas.columns import DURATION, END, SHOT, SOURCE, START, TRACK, TRACKLET, count, index, real
from schemas.table import Table

SHOTS = Table(
    "shots",
    "stretches between cuts with their picture measures; they partition the source",
    ("shot_id",),
    (
        SHOT,
        SOURCE,
        START,
        END,
        DURATION,
        count("start_frame", "index of the first frame within the file"),
        real("luma_mean", "mean luma over the shot", "0-255"),
        real("luma_std", "mean spatial standard deviation of luma", "0-255"),
        real("sharpness", "median sharpness over the shot (Laplacian variance at 128 px)"),
        real("black_ratio", "share of black frames", "0-1"),
        real("frozen_ratio", "share of frozen frames", "0-1"),
        real("longest_freeze_s", "longest run of frozen frames", "s"),
        real("bar_area", "share of the picture under flat bars, median", "0-1"),
        real("text_area", "share under overlaid text, 75th percentile over the shot", "0-1"),
        real("logo_area", "share under a static graphic, median", "0-1"),
        real("motion", "mean of frame-to-frame motion", "0-255"),
        real("camera_motion", "median camera motion; null = nothing to follow", "picture widths/s", null=True),
        index("n_people_max", "most faces at once (frames with a confirmed face)"),
        real("n_people_mean", "mean number of faces"),
        real("people_ratio", "share of frames with at least one face", "0-1"),
    ),
)

TRACKS = Table(
    "tracks",
    "one person's face through one shot",
    ("track_id",),
    (
        TRACK,
        SOURCE,
        SHOT,
        START,
        END,
        DURATION,
        index("n_frames", "grid points with a box"),
        real("visible_ratio", "share of the track's grid points whose face the landmarker confirmed", "0-1"),
        real("shot_ratio", "track's length / shot's length", "0-1"),
        real("median_face_px", "median of the face box's shorter side", "px"),
        real("min_face_px", "10th percentile of the face box's shorter side", "px"),
        real("face_area", "median share of the picture inside the face box", "0-1"),
        real("center_x", "median horizontal centre", "0-1"),
        real("center_y", "median vertical centre", "0-1"),
        real("cropped_ratio", "share of frames whose face box leaves the picture", "0-1"),
        real("inset_ratio", "share of frames in which the face stands in a picture within the picture", "0-1"),
        real("sharpness", "median face sharpness (Laplacian variance at 128 px)"),
        real("yaw_abs_median_deg", "median of |yaw|", "deg", null=True),
        real("pitch_abs_median_deg", "median of |pitch|", "deg", null=True),
        real("text_overlap", "largest share of the face box under overlaid text or a graphic", "0-1"),
        real("face_motion", "mean speed of the face's centre", "face widths/s"),
        real("mouth_motion", "standard deviation of mouth opening", null=True),
        real("blendshape_variation", "mean standard deviation over the 52 blendshapes", null=True),
        real("score", "mean detector confidence", "0-1"),
    ),
)

TRACKLETS = Table(
    "tracklets",
    "which window pieces make up which track",
    ("tracklet_id",),
    (TRACKLET, SOURCE, TRACK),
)
