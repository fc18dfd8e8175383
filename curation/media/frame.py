"""A decoded frame with its time, and pictures of it in display orientation.

Pictures are made on demand: a frame nobody looks at costs only its decoding. A reduced picture is scaled once in
YCbCr (libswscale, area averaging) and shared by its colour and luma forms; luma is a plane, not a conversion.
HDR is shown as SDR BT.709, see `picture/hdr.py`; all else has the colours that its own matrix gives.
Measured on 1280x720 H.264, one core: decoding 1.6 ms a frame, its 640 px RGB and luma together 0.6 ms more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from curation.media.picture.hdr import is_hdr, luma_of, sdr_rgb

U8 = NDArray[np.uint8]

_SQUARE_TOLERANCE = 0.01
"""Sample aspect ratios this close to 1 are rounding left by a scaler (405/406, 256/255), and read as square pixels."""

_HD_LINES = 720
_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}  # AVCOL_SPC_* -> SWS_CS_*
_LUMA_PLANE = {"yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuvj422p", "yuvj444p", "nv12", "nv21", "gray"}
_FULL = int(ColorRange.JPEG)
_LIMITED = int(ColorRange.MPEG)
_EXPAND = np.clip(np.rint((np.arange(256) - 16) * (255 / 219)), 0, 255).astype(np.uint8)
"""Limited-range luma (16..235, ITU-R BT.601) to 0..255; foot- and headroom saturate, as in libswscale."""


@dataclass(frozen=True, slots=True)
class Orientation:
    """How a coded picture is turned for display: transpose first, then flip. Read from the display matrix."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @property
    def rotation_deg(self) -> int:
        """Clockwise turn for display: 0, 90, 180 or 270; a mirror image has the turn of its unmirrored self."""
        if self.transpose:
            return 90 if self.flip_x else 270
        return 180 if self.flip_y else 0

    def apply(self, picture: U8) -> U8:
        """Turn a picture [H, W] or [H, W, C]; returns a contiguous array."""
        if self.transpose:
            picture = picture.swapaxes(0, 1)
        if self.flip_x:
            picture = picture[:, ::-1]
        if self.flip_y:
            picture = picture[::-1]
        return np.ascontiguousarray(picture)


UPRIGHT = Orientation()


def orientation_of(frame: Any) -> Orientation:
    """Read a decoded frame's display matrix (ISO/IEC 14496-12 section 8.3.2: x' = a x + c y, y' = b x + d y)."""
    try:
        data = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV knows no side data of Exif, which frames of motion JPEG may carry
        return UPRIGHT
    if data is None:
        return UPRIGHT
    a, b, _, c, d = np.frombuffer(bytes(data), dtype=np.int32)[:5].tolist()
    if abs(a) >= abs(b):
        return Orientation(False, a < 0, d < 0)
    return Orientation(True, c < 0, b < 0)


@dataclass(slots=True)
class Display:
    """How the pictures of one stream are shown; keeps the scalers between frames, since setting one up is slow."""

    orientation: Orientation = UPRIGHT
    aspect: Fraction = Fraction(1)
    max_side: int | None = None
    _scalers: dict[tuple[str, int, int], VideoReformatter] = field(default_factory=dict)
    _reduced: tuple[Any, Any] | None = None  # the last frame that was reduced, and its reduction
    _sdr: tuple[Any, U8] | None = None  # the last frame of HDR that was shown, and its picture

    def size(self, width: int, height: int, max_side: int | None = None) -> tuple[int, int]:
        """Return the displayed (width, height) of a coded size, its longer side at most `max_side`."""
        w, h = display_size(width, height, self.aspect, self.orientation)
        if max_side is None or max(w, h) <= max_side:
            return w, h
        scale = max_side / max(w, h)
        return max(1, round(w * scale)), max(1, round(h * scale))

    def picture(self, frame: Any, pixel_format: str, max_side: int | None) -> U8:
        """Return `frame` as `rgb24` [H, W, 3] or `gray` [H, W], 0..255, in display orientation."""
        shown = self.size(frame.width, frame.height, max_side)
        width, height = shown[::-1] if self.orientation.transpose else shown
        full = _is_full_range(frame)
        if is_hdr(int(frame.color_trc)):
            rgb = self._shown_sdr(frame, width, height, full)
            return self.orientation.apply(rgb if pixel_format == "rgb24" else luma_of(rgb))
        if (width, height) != (frame.width, frame.height):
            frame = self._reduce(frame, width, height, full)
        luma = _luma_plane(frame, full) if pixel_format == "gray" else None
        if luma is None:
            converted = self._convert(frame, width, height, pixel_format, full, True)
            luma = _plane(converted, 3 if pixel_format == "rgb24" else 1)
        return self.orientation.apply(luma)

    def _shown_sdr(self, frame: Any, width: int, height: int, full: bool) -> U8:
        """Return an HDR frame as SDR, scaled first; its colour and luma share the result."""
        if self._sdr is not None:
            source, rgb = self._sdr
            if source is frame and rgb.shape[:2] == (height, width):
                return rgb
        signal = self._convert(frame, width, height, "rgb48le", full, True)
        rgb = sdr_rgb(_wide_plane(signal), int(frame.color_trc), int(frame.color_primaries))
        self._sdr = (frame, rgb)
        return rgb

    def _reduce(self, frame: Any, width: int, height: int, full: bool) -> Any:
        """Scale in YCbCr 4:2:0, half the bytes of RGB; colour and luma of one frame share the result."""
        if self._reduced is not None:
            source, reduced = self._reduced
            if source is frame and (reduced.width, reduced.height) == (width, height):
                return reduced
        reduced = self._convert(frame, width, height, "yuv420p", full, full)
        self._reduced = (frame, reduced)
        return reduced

    def _convert(self, frame: Any, width: int, height: int, pixel_format: str, full: bool, to_full: bool) -> Any:
        scaler = self._scalers.setdefault((pixel_format, width, height), VideoReformatter())
        matrix = _matrix(frame)
        return scaler.reformat(
            frame, width, height, pixel_format, src_colorspace=matrix, dst_colorspace=matrix,
            src_color_range=_FULL if full else _LIMITED, dst_color_range=_FULL if to_full else _LIMITED,
            interpolation=Interpolation.AREA, threads=1,
        )  # fmt: skip


def display_size(width: int, height: int, aspect: Fraction, orientation: Orientation) -> tuple[int, int]:
    """Return the displayed (width, height): sample aspect ratio applied to the width, then the turn."""
    if abs(float(aspect) - 1) > _SQUARE_TOLERANCE:
        width = max(1, round(width * aspect))
    return (height, width) if orientation.transpose else (width, height)


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a source.

    Attributes:
        pts_s: presentation time on the source's clock (the first video frame is at 0).
        duration_s: how long it is shown, as the container says; the mean frame interval where it does not.
        index: position in order of presentation, where decoding began at the file's start; otherwise None.
        is_corrupt: whether the decoder marked it as damaged.
        source: the decoder's frame, deinterlaced if need be. Keep few: each holds a buffer of the decoder.
        was_interlaced: whether it was two fields.
    """

    pts_s: float
    duration_s: float
    index: int | None
    is_corrupt: bool
    source: Any = field(repr=False)
    display: Display = field(repr=False)
    was_interlaced: bool = False

    @property
    def width(self) -> int:
        """Displayed width in pixels, before any reduction."""
        return self.display.size(self.source.width, self.source.height)[0]

    @property
    def height(self) -> int:
        """Displayed height in pixels, before any reduction."""
        return self.display.size(self.source.width, self.source.height)[1]

    def rgb(self, max_side: int | None = None) -> U8:
        """Return the picture as uint8 RGB [H, W, 3]; the longer side at most `max_side` (default: the reader's)."""
        return self.display.picture(self.source, "rgb24", max_side or self.display.max_side)

    def gray(self, max_side: int | None = None) -> U8:
        """Return luma as uint8 [H, W], black 0 and white 255 whatever the stream's range; see `rgb` for size."""
        return self.display.picture(self.source, "gray", max_side or self.display.max_side)


def _is_full_range(frame: Any) -> bool:
    """Say whether luma uses 0..255 instead of 16..235."""
    name: str = frame.format.name
    return frame.color_range == _FULL or name.startswith(("yuvj", "gray", "rgb", "bgr", "gbr"))


def _luma_plane(frame: Any, full_range: bool) -> U8 | None:
    """Return 8-bit luma [H, W], 0..255, straight from the frame's plane; None if the format has no such plane."""
    if frame.format.name not in _LUMA_PLANE:
        return None
    plane = _plane(frame, 1)
    return plane.copy() if full_range else np.asarray(cv2.LUT(plane, _EXPAND), dtype=np.uint8)


def _plane(frame: Any, channels: int) -> U8:
    plane = frame.planes[0]
    rows = np.frombuffer(plane, dtype=np.uint8)[: plane.line_size * frame.height]
    rows = rows.reshape(frame.height, plane.line_size)[:, : frame.width * channels]
    return rows if channels == 1 else rows.reshape(frame.height, frame.width, channels)


def _wide_plane(frame: Any) -> NDArray[np.uint16]:
    """Return the picture [H, W, 3] of an `rgb48le` frame."""
    plane = frame.planes[0]
    rows = np.frombuffer(plane, dtype="<u2")[: plane.line_size // 2 * frame.height]
    return rows.reshape(frame.height, plane.line_size // 2)[:, : frame.width * 3].reshape(frame.height, frame.width, 3)


def _matrix(frame: Any) -> int:
    """Choose the YCbCr matrix: the stream's; unstated, as players do: BT.2020 for HDR, BT.709 for HD, BT.601 below."""
    stated = _MATRICES.get(int(frame.colorspace))
    if stated is not None:
        return stated
    if is_hdr(int(frame.color_trc)):
        return _MATRICES[9]
    lines = min(frame.width, frame.height)
    return int(Colorspace.ITU709 if lines >= _HD_LINES else Colorspace.ITU601)
