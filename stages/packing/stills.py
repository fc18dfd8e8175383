"""A few pictures of a clip as it will be packed, for models that look at clips. Decodes the clip's own time."""

from __future__ import annotations

from pathlib import Path

from annotators.captions.captioner import Frame
from curation.media.grid import frames_on_grid
from curation.media.video import iter_frames
from schemas.tables.pairing import SegmentRow
from schemas.tables.plans import ClipPlanRow
from stages.clip_plan.content import encoded_size
from stages.clip_plan.crop_path import CropPath
from stages.packing.picture import cropped


def stills(media: Path, segment: SegmentRow, plan: ClipPlanRow, n: int) -> list[Frame]:
    """Return n pictures of a segment's clip, evenly spread. Raises MediaError, and ValueError without any frame."""
    start_s, end_s, path = segment.start_s, segment.end_s, CropPath.of(plan.crop_path)
    size, step_s = encoded_size(path, round(plan.packed_short_px)), (end_s - start_s) / n
    even = frames_on_grid(iter_frames(media, start_s, end_s), start_s + step_s / 2, n, 1 / step_s)
    return [Frame(f.pts_s, cropped(f.rgb(), tuple(path.at(f.pts_s - start_s)), size, exact=path.moves)) for f in even]
