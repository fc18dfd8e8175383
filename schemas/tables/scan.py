"""Tables of the single decode pass: cuts, picture measures, overlays, faces, crops, portraits."""

from __future__ import annotations

from schemas.columns import ANNOTATOR, SOURCE, TRACKLET, K, T, blob, count, flag, index, real, reals, seconds
from schemas.table import Table

CUTS = Table(
    "cuts",
    "shot boundaries: the first frame of each new shot",
    ("source_id", "t_s"),
    (
        SOURCE,
        seconds("t_s", "presentation time of the first frame after the cut"),
        count("frame", "index of that frame within the file"),
        real("score", "detector score at the cut, in the detector's own unit"),
        ANNOTATOR,
    ),
    grain="window",
)

FRAMES = Table(
    "frames",
    "picture measures on the 25 Hz grid",
    ("source_id", "k"),
    (
        SOURCE,
        K,
        T,
        real("luma_mean", "mean of the luma plane", "0-255"),
        real("luma_std", "standard deviation of the luma plane", "0-255"),
        real(
            "sharpness",
            "Laplacian variance of the sharpest face (whole picture without one), scaled to 128 px",
        ),
        real("motion", "mean absolute luma difference to the previous grid frame", "0-255"),
        real("camera_motion", "speed of the background; null = nothing to follow", "picture widths/s", null=True),
        real("camera_x", "shift of the background to picture right; null likewise", "picture widths/s", null=True),
        real("camera_y", "shift of the background downwards; null likewise", "picture widths/s", null=True),
        real("camera_zoom", "growth of the background; null likewise", "1/s", null=True),
        flag("is_black", "nearly all pixels below 16 + 5 in limited range"),
        flag("is_frozen", "picture identical to the previous frame up to coding noise"),
        index("n_faces", "faces tracked in this frame"),
    ),
    grain="window",
)

LAYOUT = Table(
    "layout",
    "bars and overlays, measured about once a second",
    ("source_id", "k"),
    (
        SOURCE,
        K,
        T,
        real("bar_top", "flat bar at the top, share of height", "0-1"),
        real("bar_bottom", "flat bar at the bottom, share of height", "0-1"),
        real("bar_left", "flat bar at the left, share of width", "0-1"),
        real("bar_right", "flat bar at the right, share of width", "0-1"),
        real("text_area", "share of the picture covered by overlaid text", "0-1"),
        real("logo_area", "share of the picture covered by a static overlaid graphic", "0-1"),
        reals("text_boxes", "overlaid text boxes x0, y0, x1, y1, flattened, as shares of width and height"),
        reals("logo_boxes", "overlaid graphics' boxes, likewise"),
        reals("inset_boxes", "pictures within the picture, likewise"),
        reals("panel_boxes", "panels of a split screen, likewise; one whole panel without a split screen"),
        ANNOTATOR,
    ),
    grain="window",
)

FACE_FRAMES = Table(
    "face_frames",
    "one row a face and grid point: box, head pose, mouth and eyes, 52 blendshapes",
    ("source_id", "tracklet_id", "k"),
    (
        SOURCE,
        TRACKLET,
        K,
        T,
        real("x", "left edge of the face box", "px"),
        real("y", "top edge of the face box", "px"),
        real("w", "width of the face box", "px"),
        real("h", "height of the face box", "px"),
        real("score", "detector confidence, carried along between detections", "0-1"),
        flag("has_mesh", "the landmarker confirmed a face here"),
        real("yaw_deg", "head yaw, positive = turned to the picture's right", "deg", null=True),
        real("pitch_deg", "head pitch, positive = up", "deg", null=True),
        real("roll_deg", "head roll, positive = clockwise in the picture", "deg", null=True),
        real("mouth_open", "inner lip gap / face height", null=True),
        real("eye_open", "eye opening / eye width, mean of both eyes", null=True),
        real("sharpness", "Laplacian variance of the face scaled to 128 px", null=True),
        reals("blendshapes", "52 scores in MediaPipe's order, 0-1; empty without a mesh"),
    ),
    grain="window",
)

FACE_CROPS = Table(
    "face_crops",
    "112 x 112 grey crops for active speaker detection, with landmarks; the heavy table",
    ("source_id", "tracklet_id", "k"),
    (
        SOURCE,
        TRACKLET,
        K,
        blob("crop", "JPEG, 112 x 112, grey"),
        blob("landmarks", "478 x 2 int16 little endian, picture pixels * 8; null without a mesh", null=True),
    ),
    grain="window",
)

PORTRAITS = Table(
    "portraits",
    "about one colour portrait a second and face: for identity, references and contact sheets",
    ("source_id", "tracklet_id", "k"),
    (
        SOURCE,
        TRACKLET,
        K,
        T,
        blob("image", "JPEG of the head and shoulders, long side at most 384 px"),
        reals("face_xywh", "face box inside the portrait", "px"),
        reals(
            "points_xy",
            "five points (right eye, left eye, nose tip, mouth corners) inside the portrait, or empty",
            "px",
        ),
        real("face_px", "shorter side of the face box in the picture", "px"),
        real("sharpness", "Laplacian variance of the face scaled to 128 px"),
        real("luma_mean", "mean luma of the face", "0-255"),
    ),
    grain="window",
)
