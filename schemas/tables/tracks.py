"""Tables of shots and tracks."""

from __future__ import annotations

from schemas import columns as c
from schemas.column import Column
from schemas.row import Row
from schemas.table import Table


class ShotRow(Row):
    """Stretches between cuts with their picture measures; they partition the source."""

    shot_id: Column[str] = c.shot_id()
    source_id: Column[str] = c.source_id()
    start_s: Column[float] = c.start_s()
    end_s: Column[float] = c.end_s()
    duration_s: Column[float] = c.duration_s()
    start_frame: Column[int] = c.count("index of the first frame within the file")
    mixed_s: Column[float] = c.seconds("how long at its end frames are mixed with the next shot's; no clip holds them")
    luma_mean: Column[float] = c.real("mean luma over the shot", "0-255")
    luma_std: Column[float] = c.real("mean spatial standard deviation of luma", "0-255")
    sharpness: Column[float] = c.real("median sharpness over the shot (Laplacian variance at 128 px)")
    black_ratio: Column[float] = c.real("share of black frames", "0-1")
    frozen_ratio: Column[float] = c.real("share of frozen frames", "0-1")
    longest_freeze_s: Column[float] = c.real("longest run of frozen frames", "s")
    bar_area: Column[float] = c.real("share of the picture under flat bars, median", "0-1")
    text_area: Column[float] = c.real("share under overlaid text, 75th percentile over the shot", "0-1")
    logo_area: Column[float] = c.real("share under a static graphic, median", "0-1")
    motion: Column[float] = c.real("mean of frame-to-frame motion", "0-255")
    camera_motion: Column[float | None] = c.real(
        "median camera motion; null = nothing to follow", "picture widths/s", null=True
    )
    n_people_max: Column[int] = c.index("most faces at once (frames with a confirmed face)")
    n_people_mean: Column[float] = c.real("mean number of faces")
    people_ratio: Column[float] = c.real("share of frames with at least one face", "0-1")


SHOTS = Table(ShotRow, "shots", (ShotRow.shot_id,))


class TrackRow(Row):
    """One person's face through one shot."""

    track_id: Column[str] = c.track_id()
    source_id: Column[str] = c.source_id()
    shot_id: Column[str] = c.shot_id()
    start_s: Column[float] = c.start_s()
    end_s: Column[float] = c.end_s()
    duration_s: Column[float] = c.duration_s()
    n_frames: Column[int] = c.index("grid points with a box")
    visible_ratio: Column[float] = c.real("share of the track's grid points whose face the landmarker confirmed", "0-1")
    shot_ratio: Column[float] = c.real("track's length / shot's length", "0-1")
    median_face_px: Column[float] = c.real("median of the face box's shorter side", "px")
    min_face_px: Column[float] = c.real("10th percentile of the face box's shorter side", "px")
    face_area: Column[float] = c.real("median share of the picture inside the face box", "0-1")
    center_x: Column[float] = c.real("median horizontal centre", "0-1")
    center_y: Column[float] = c.real("median vertical centre", "0-1")
    cropped_ratio: Column[float] = c.real("share of frames whose face box leaves the picture", "0-1")
    inset_ratio: Column[float] = c.real(
        "share of frames in which the face stands in a picture within the picture", "0-1"
    )
    sharpness: Column[float] = c.real("median face sharpness (Laplacian variance at 128 px)")
    yaw_abs_median_deg: Column[float | None] = c.real("median of |yaw|", "deg", null=True)
    pitch_abs_median_deg: Column[float | None] = c.real("median of |pitch|", "deg", null=True)
    text_overlap: Column[float] = c.real("largest share of the face box under overlaid text or a graphic", "0-1")
    face_motion: Column[float] = c.real("mean speed of the face's centre", "face widths/s")
    mouth_motion: Column[float | None] = c.real("standard deviation of mouth opening", null=True)
    blendshape_variation: Column[float | None] = c.real("mean standard deviation over the 52 blendshapes", null=True)
    score: Column[float] = c.real("mean detector confidence", "0-1")


TRACKS = Table(TrackRow, "tracks", (TrackRow.track_id,))


class TrackletRow(Row):
    """Which window pieces make up which track."""

    tracklet_id: Column[str] = c.tracklet_id()
    source_id: Column[str] = c.source_id()
    track_id: Column[str] = c.track_id()


TRACKLETS = Table(TrackletRow, "tracklets", (TrackletRow.tracklet_id,))
