"""Tables of the single decode pass: cuts, picture measures, overlays, faces, crops, portraits."""

from __future__ import annotations

from schemas import columns as c
from schemas.column import Column
from schemas.row import Row
from schemas.table import Table


class CutRow(Row):
    """Shot boundaries: the first frame of each new shot."""

    source_id: Column[str] = c.source_id()
    t_s: Column[float] = c.seconds("presentation time of the first frame after the cut")
    frame: Column[int] = c.count("index of that frame within the file")
    score: Column[float] = c.real("detector score at the cut, in the detector's own unit")
    annotator: Column[str] = c.annotator()
    mixed_s: Column[float] = c.seconds("how long before it frames are mixed of both shots; 0 = not at all")


CUTS = Table(CutRow, "cuts", (CutRow.source_id, CutRow.t_s), grain="window")


class FrameRow(Row):
    """Picture measures on the 25 Hz grid."""

    source_id: Column[str] = c.source_id()
    k: Column[int] = c.grid_index()
    t_s: Column[float] = c.frame_time()
    luma_mean: Column[float] = c.real("mean of the luma plane", "0-255")
    luma_std: Column[float] = c.real("standard deviation of the luma plane", "0-255")
    sharpness: Column[float] = c.real(
        "Laplacian variance of the sharpest face (whole picture without one), scaled to 128 px"
    )
    motion: Column[float] = c.real("mean absolute luma difference to the previous grid frame", "0-255")
    camera_motion: Column[float | None] = c.real(
        "speed of the background; null = nothing to follow", "picture widths/s", null=True
    )
    camera_x: Column[float | None] = c.real(
        "shift of the background to picture right; null likewise", "picture widths/s", null=True
    )
    camera_y: Column[float | None] = c.real(
        "shift of the background downwards; null likewise", "picture widths/s", null=True
    )
    camera_zoom: Column[float | None] = c.real("growth of the background; null likewise", "1/s", null=True)
    is_black: Column[bool] = c.flag("nearly all pixels below 16 + 5 in limited range")
    is_frozen: Column[bool] = c.flag("picture identical to the previous frame up to coding noise")
    is_damaged: Column[bool] = c.flag(
        "picture may be wrong: bytes of it, or of one that it was coded from, are lost; a jump in even times counts as "
        "such a loss, by a rule of thumb"
    )
    n_faces: Column[int] = c.index("faces tracked in this frame")


FRAMES = Table(FrameRow, "frames", (FrameRow.source_id, FrameRow.k), grain="window")


class LayoutRow(Row):
    """Bars and overlays, measured about once a second."""

    source_id: Column[str] = c.source_id()
    k: Column[int] = c.grid_index()
    t_s: Column[float] = c.frame_time()
    bar_top: Column[float] = c.real("flat bar at the top, share of height", "0-1")
    bar_bottom: Column[float] = c.real("flat bar at the bottom, share of height", "0-1")
    bar_left: Column[float] = c.real("flat bar at the left, share of width", "0-1")
    bar_right: Column[float] = c.real("flat bar at the right, share of width", "0-1")
    text_area: Column[float] = c.real("share of the picture covered by overlaid text", "0-1")
    logo_area: Column[float] = c.real("share of the picture covered by a static overlaid graphic", "0-1")
    text_boxes: Column[list[float]] = c.reals(
        "overlaid text boxes x0, y0, x1, y1, flattened, as shares of width and height"
    )
    logo_boxes: Column[list[float]] = c.reals("overlaid graphics' boxes, likewise")
    inset_boxes: Column[list[float]] = c.reals("pictures within the picture, likewise")
    panel_boxes: Column[list[float]] = c.reals(
        "panels of a split screen, likewise; one whole panel without a split screen"
    )
    annotator: Column[str] = c.annotator()


LAYOUT = Table(LayoutRow, "layout", (LayoutRow.source_id, LayoutRow.k), grain="window")


class FaceFrameRow(Row):
    """One row a face and grid point: box, head pose, mouth and eyes, 52 blendshapes."""

    source_id: Column[str] = c.source_id()
    tracklet_id: Column[str] = c.tracklet_id()
    k: Column[int] = c.grid_index()
    t_s: Column[float] = c.frame_time()
    x: Column[float] = c.real("left edge of the face box", "px")
    y: Column[float] = c.real("top edge of the face box", "px")
    w: Column[float] = c.real("width of the face box", "px")
    h: Column[float] = c.real("height of the face box", "px")
    score: Column[float] = c.real("detector confidence, carried along between detections", "0-1")
    has_mesh: Column[bool] = c.flag("the landmarker confirmed a face here")
    yaw_deg: Column[float | None] = c.real("head yaw, positive = turned to the picture's right", "deg", null=True)
    pitch_deg: Column[float | None] = c.real("head pitch, positive = up", "deg", null=True)
    roll_deg: Column[float | None] = c.real("head roll, positive = clockwise in the picture", "deg", null=True)
    mouth_open: Column[float | None] = c.real("inner lip gap / face height", null=True)
    eye_open: Column[float | None] = c.real("eye opening / eye width, mean of both eyes", null=True)
    sharpness: Column[float | None] = c.real("Laplacian variance of the face scaled to 128 px", null=True)
    blendshapes: Column[list[float]] = c.reals("52 scores in MediaPipe's order, 0-1; empty without a mesh")


FACE_FRAMES = Table(
    FaceFrameRow, "face_frames", (FaceFrameRow.source_id, FaceFrameRow.tracklet_id, FaceFrameRow.k), grain="window"
)


class FaceCropRow(Row):
    """112 x 112 grey crops for active speaker detection, with landmarks; the heavy table."""

    source_id: Column[str] = c.source_id()
    tracklet_id: Column[str] = c.tracklet_id()
    k: Column[int] = c.grid_index()
    crop: Column[bytes] = c.blob("JPEG, 112 x 112, grey")
    landmarks: Column[bytes | None] = c.blob(
        "478 x 2 int16 little endian, picture pixels * 8; null without a mesh", null=True
    )


FACE_CROPS = Table(
    FaceCropRow, "face_crops", (FaceCropRow.source_id, FaceCropRow.tracklet_id, FaceCropRow.k), grain="window"
)


class PortraitRow(Row):
    """About one colour portrait a second and face: for identity, references and contact sheets."""

    source_id: Column[str] = c.source_id()
    tracklet_id: Column[str] = c.tracklet_id()
    k: Column[int] = c.grid_index()
    t_s: Column[float] = c.frame_time()
    image: Column[bytes] = c.blob("JPEG of the head and shoulders, long side at most 384 px")
    face_xywh: Column[list[float]] = c.reals("face box inside the portrait", "px")
    points_xy: Column[list[float]] = c.reals(
        "five points (right eye, left eye, nose tip, mouth corners) inside the portrait, or empty", "px"
    )
    face_px: Column[float] = c.real("shorter side of the face box in the picture", "px")
    sharpness: Column[float] = c.real("Laplacian variance of the face scaled to 128 px")
    luma_mean: Column[float] = c.real("mean luma of the face", "0-255")


PORTRAITS = Table(
    PortraitRow, "portraits", (PortraitRow.source_id, PortraitRow.tracklet_id, PortraitRow.k), grain="window"
)
