"""Picture measures of the scan: one FRAMES row a grid point, one LAYOUT row every few seconds and at a shot's end."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from annotators.picture import picture
from annotators.picture.motion import CameraMeter, CameraMotion, FreezeMeter
from annotators.picture.overlay import Layout, OverlayMeter
from annotators.picture.panels import Region
from annotators.protocols import Box
from schemas.tables.scan import FrameRow, LayoutRow
from schemas.time import GRID_HZ
from stages.scan.grid import Image, Shown

_GRAY_SIDE_PX = 320
_CAMERA_EVERY = 5  # grid points
_OVERLAY_EVERY = 5
_SHARP_EVERY = 5
_HELD = 5  # a frame that is on screen for longer stands still from its second grid point on


class PictureMeter:
    """Measures the whole picture, frame by frame; told of cuts."""

    def __init__(self, source_id: str, overlay: OverlayMeter, layout_every_s: float) -> None:
        self._source_id, self._overlay, self._layout_every_s = source_id, overlay, layout_every_s
        self._freeze, self._camera = FreezeMeter(), CameraMeter()
        self._previous: Image | None = None
        self._sharpness = 0.0
        self._camera_motion = CameraMotion()
        self._since_camera = self._since_overlay = self._since_sharp = 10**6
        self._sample: tuple[Image, float, int] | None = None
        self._shot_samples = 0
        self._layout_due = 0.5
        self._shot_start: float | None = None
        self.frames: list[FrameRow] = []
        self.layouts: list[LayoutRow] = []

    def cut(self, keep: bool) -> None:
        """Begin a new shot; `keep` says whether the old one's last layout lies in the window."""
        self.finish_shot(keep)
        self._freeze.reset()
        self._camera.reset()
        self._overlay.reset()
        self._previous = self._sample = None
        self._shot_start = None
        self._since_camera = self._since_overlay = self._since_sharp = 10**6

    def finish_shot(self, keep: bool) -> None:
        """Measure the layout once more at the end of a shot or window: it rests on all that was seen."""
        if keep and self._sample is not None and self._shot_samples > 0:
            self._measure_layout()
        self._shot_samples = 0

    def add(self, shown: Shown, faces: Sequence[Box], keep: bool, step: int) -> None:
        """Measure one frame that is on the grid. `faces` are boxes in pixels of `shown.rgb`; `step` grid points."""
        assert shown.rgb is not None
        small = picture.scale_to(np.asarray(cv2.cvtColor(shown.small, cv2.COLOR_RGB2GRAY), np.uint8), _GRAY_SIDE_PX)
        stats = picture.luma_stats(small)
        frozen = self._freeze.add(small)
        moved = picture.motion(small, self._previous) if self._previous is not None else 0.0
        self._previous = small
        self._since_camera += step
        if self._since_camera >= _CAMERA_EVERY:
            scale = small.shape[1] / shown.rgb.shape[1]
            boxes = [Box(f.x * scale, f.y * scale, f.w * scale, f.h * scale) for f in faces]
            self._camera_motion = self._camera.measure(small, boxes, GRID_HZ / min(self._since_camera, GRID_HZ))
            self._since_camera = 0
        self._since_sharp += step
        if self._since_sharp >= _SHARP_EVERY:
            self._sharpness = self._measure_sharpness(shown.rgb, faces)
            self._since_sharp = 0
        self._since_overlay += step
        if self._since_overlay >= _OVERLAY_EVERY:
            self._since_overlay = 0
            self._sample_layout(shown, keep)
        if keep:
            for n, k in enumerate(shown.grid):
                self.frames.append(
                    FrameRow(
                        source_id=self._source_id,
                        k=k,
                        t_s=shown.t_s,
                        luma_mean=stats.mean,
                        luma_std=stats.std,
                        sharpness=self._sharpness,
                        # A frame held over several grid points moves at the first of them only.
                        motion=moved if n == 0 else 0.0,
                        camera_motion=_known(self._camera_motion.speed),
                        camera_x=_known(self._camera_motion.x),
                        camera_y=_known(self._camera_motion.y),
                        camera_zoom=_known(self._camera_motion.zoom),
                        is_black=stats.is_black,
                        is_frozen=frozen or (n > 0 and step > _HELD),
                        is_damaged=False,
                        n_faces=len(faces),
                    )
                )

    @staticmethod
    def _measure_sharpness(rgb: Image, faces: Sequence[Box]) -> float:
        gray = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)
        patches = [p for f in faces if (p := picture.patch(gray, f)) is not None]
        return max((picture.sharpness(p) for p in patches or [gray]), default=0.0)

    def _sample_layout(self, shown: Shown, keep: bool) -> None:
        assert shown.rgb is not None
        if self._shot_start is None:
            self._shot_start, self._layout_due = shown.t_s, shown.t_s + 1.0
        small = picture.scale_to(shown.rgb, 640)
        self._overlay.add(small, shown.t_s)
        self._shot_samples += 1
        self._sample = (small, shown.t_s, shown.grid[0])
        if keep and shown.t_s >= self._layout_due:
            self._measure_layout()
            self._layout_due = shown.t_s + self._layout_every_s

    def _measure_layout(self) -> None:
        assert self._sample is not None
        rgb, t_s, k = self._sample
        if self.layouts and self.layouts[-1].k == k:
            return
        layout = self._overlay.measure(rgb, t_s)
        self.layouts.append(layout_row(self._source_id, k, t_s, layout, self._overlay.annotator))


def layout_row(source_id: str, k: int, t_s: float, layout: Layout, annotator: str) -> LayoutRow:
    """Return a LAYOUT row."""
    bars = layout.bars
    return LayoutRow(
        source_id=source_id,
        k=k,
        t_s=t_s,
        bar_top=bars.top,
        bar_bottom=bars.bottom,
        bar_left=bars.left,
        bar_right=bars.right,
        text_area=layout.text_area,
        logo_area=layout.logo_area,
        text_boxes=_flat(layout.text),
        logo_boxes=_flat(layout.graphics),
        inset_boxes=_flat(layout.insets),
        panel_boxes=_flat(layout.panels),
        annotator=annotator,
    )


def _flat(regions: Sequence[Region]) -> list[float]:
    return [v for r in regions for v in (r.x0, r.y0, r.x1, r.y1)]


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
