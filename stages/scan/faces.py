"""Faces of the scan: follow every face at 25 Hz by its own landmarks, ask the detector now and then.

Writes FACE_FRAMES, FACE_CROPS and PORTRAITS rows of one window. The landmarker costs about 4.3 ms a face and is
the most of the scan; the detector is asked every few frames, after a cut, and when a face is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar, cast

import cv2
import numpy as np

from annotators.face.boxes import crop_box, cut_square, merge
from annotators.face.mesh import eye_aspect, five_points, mesh_box, mouth_opening, to_frame
from annotators.picture import picture
from annotators.protocols import Box, FaceAnalyzer, FaceBox, FaceDetecting, FaceMesh, FloatArray
from schemas.tables.scan import FaceCropRow, FaceFrameRow, PortraitRow
from stages.scan.crops import CropQueue
from stages.scan.grid import Image, Shown
from stages.scan.portrait_picture import place_of, portrait
from stages.scan.tracker import Followed, associate, duplicate_faces, iou

_MESH_PX = 256
_DETECT_SIDE_PX = 640
_LANDMARK_SCALE = 8


@dataclass(frozen=True)
class FaceRules:
    """How faces are followed; counts are grid points (40 ms)."""

    detect_every: int
    detect_every_lost: int
    tiles_every: int
    max_faces: int
    max_missed: int
    max_blind: int
    min_mesh_px: float
    mesh_scale: float
    portrait_every: int
    portrait_px: int


@dataclass(slots=True)
class _Track:
    face: Followed
    crops: CropQueue = field(default_factory=CropQueue)
    seen: FloatArray | None = None
    """landmarks in the last frame, in its pixels; None where none were found"""
    blind: int = 0
    """grid points in a row without landmarks"""
    rows: list[FaceFrameRow] = field(default_factory=list)
    """without their tracklet's name, as the portraits: it has one when it has ended"""
    landmarks: dict[int, bytes] = field(default_factory=dict)
    portraits: list[PortraitRow] = field(default_factory=list)
    confirmed: int = 0
    """rows up to and including the last one at which the face was confirmed"""
    next_portrait_k: int = 0
    sharpness: float | None = None


class FaceMeter:
    """Follows the faces of one window."""

    def __init__(self, prefix: str, source_id: str, detector: FaceDetecting, tiled: FaceDetecting | None,
                 landmarker: FaceAnalyzer, rules: FaceRules) -> None:  # fmt: skip
        self._prefix, self._source_id = prefix, source_id
        self._detector, self._tiled, self._landmarker, self._rules = detector, tiled, landmarker, rules
        self._tracks: list[_Track] = []
        self._number = 0
        self._since_detect = 10**6
        self._since_tiles = 10**6
        self.face_frames: list[FaceFrameRow] = []
        self.face_crops: list[FaceCropRow] = []
        self.portraits: list[PortraitRow] = []

    def cut(self) -> None:
        """End every face: none is followed across a cut."""
        for track in self._tracks:
            self._end(track)
        self._tracks = []
        self._since_detect = self._since_tiles = 10**6

    def finish(self) -> None:
        """End every face, at the window's end."""
        self.cut()

    def rename(self, name: Callable[[str, int], str]) -> None:
        """Give every row the tracklet that `name` returns for its own and its grid point."""
        self.face_frames = [_renamed(r, name) for r in self.face_frames]
        self.face_crops = [_renamed(r, name) for r in self.face_crops]
        self.portraits = [_renamed(r, name) for r in self.portraits]

    def add(self, shown: Shown) -> list[Box]:
        """Follow the faces into the next frame; return the boxes of confirmed ones, in pixels of `shown.rgb`."""
        assert shown.rgb is not None
        rgb, step = shown.rgb, len(shown.grid)
        scale = shown.size[0] / rgb.shape[1]
        meshes: dict[int, tuple[FaceMesh, Box, FloatArray]] = {}
        for track in self._tracks:
            self._follow(track, rgb, meshes)
        for number in duplicate_faces([t.face for t in self._tracks]):
            self._drop(number)
        self._since_detect += step
        self._since_tiles += step
        lost = any(t.face.missed > 0 for t in self._tracks) or not self._tracks
        due = self._rules.detect_every_lost if lost else self._rules.detect_every
        if self._since_detect >= due:
            self._detect(rgb, shown.grid[0], meshes)
        boxes = []
        for track in list(self._tracks):
            self._record(track, shown, meshes.get(track.face.number), scale, step)
            if track.face.missed > self._rules.max_missed:
                self._end(track)
                self._tracks.remove(track)
            elif track.face.missed == 0:
                boxes.append(track.face.box)
        return boxes

    # ------------------------------------------------------------------ following and finding

    def _mesh(self, box: Box, rgb: Image, seen: FloatArray | None = None) -> tuple[FaceMesh, Box, FloatArray] | None:
        """Return mesh, box and landmarks in the frame: by the landmarks just before where there were, else anew."""
        if max(box.w, box.h) < self._rules.min_mesh_px:
            return None
        square = crop_box(box, self._rules.mesh_scale)
        if seen is not None and (mesh := self._landmarker.follow(rgb, square, seen)) is not None:
            return mesh, mesh_box(mesh.points), mesh.points
        mesh = self._landmarker.landmarks(cut_square(rgb, square, _MESH_PX))
        if mesh is None:
            return None
        points = to_frame(mesh.points.copy(), square, _MESH_PX)
        return mesh, mesh_box(points), points

    def _follow(self, track: _Track, rgb: Image, meshes: dict[int, tuple[FaceMesh, Box, FloatArray]]) -> None:
        face = track.face
        found = self._mesh(face.box, rgb, track.seen) if track.blind < self._rules.max_blind else None
        if found is not None and iou(found[1], face.box) > 0.15:
            meshes[face.number] = found
            face.box, face.missed, face.meshed = found[1], 0, face.meshed + 1
        else:
            face.missed += 1

    def _detect(self, rgb: Image, k: int, meshes: dict[int, tuple[FaceMesh, Box, FloatArray]]) -> None:
        self._since_detect = 0
        small = picture.scale_to(rgb, _DETECT_SIDE_PX)
        scale = rgb.shape[1] / small.shape[1]
        found = _scaled(self._detector.detect(small), scale)
        if self._tiled is not None and self._since_tiles >= self._rules.tiles_every:
            self._since_tiles = 0
            found = merge([*found, *self._tiled.detect(rgb)])
        pairs, new = associate([t.face for t in self._tracks], found)
        for face, detection in pairs:
            face.score = detection.score
            if face.missed > 0:
                face.box = Box(detection.x, detection.y, detection.w, detection.h)
                mesh = self._mesh(face.box, rgb)
                if mesh is not None and iou(mesh[1], face.box) > 0.15:
                    meshes[face.number] = mesh
                    face.box, face.meshed = mesh[1], face.meshed + 1
                face.missed = 0
        room = self._rules.max_faces - len(self._tracks)
        for detection in sorted(new, key=lambda d: (-d.w * d.h, d.x, d.y))[: max(0, room)]:
            face = Followed(self._number, Box(detection.x, detection.y, detection.w, detection.h), detection.score)
            mesh = self._mesh(face.box, rgb)
            if mesh is not None:
                if any(iou(mesh[1], t.face.box) > 0.5 for t in self._tracks):
                    continue
                meshes[face.number] = mesh
                face.box, face.meshed = mesh[1], 1
            self._number += 1
            self._tracks.append(_Track(face, next_portrait_k=k))

    def _drop(self, number: int) -> None:
        for track in [t for t in self._tracks if t.face.number == number]:
            self._end(track)
            self._tracks.remove(track)

    # ------------------------------------------------------------------ rows

    def _record(
        self, track: _Track, shown: Shown, found: tuple[FaceMesh, Box, FloatArray] | None, scale: float, step: int
    ) -> None:
        assert shown.rgb is not None
        box, first = track.face.box, len(track.rows)
        mesh, points = (found[0], found[2]) if found is not None else (None, None)
        track.seen, track.blind = points, track.blind + step if points is None else 0
        if first % 5 == 0 or track.sharpness is None:
            gray = np.asarray(cv2.cvtColor(_region(shown.rgb, box), cv2.COLOR_RGB2GRAY), np.uint8)
            track.sharpness = picture.sharpness(gray)
        for k in shown.grid:
            row = FaceFrameRow(
                source_id=self._source_id,
                tracklet_id="",
                k=k,
                t_s=shown.t_s,
                x=box.x * scale,
                y=box.y * scale,
                w=box.w * scale,
                h=box.h * scale,
                score=track.face.score,
                has_mesh=mesh is not None,
                yaw_deg=None if mesh is None else mesh.yaw_deg,
                pitch_deg=None if mesh is None else mesh.pitch_deg,
                roll_deg=None if mesh is None else mesh.roll_deg,
                mouth_open=None if points is None else mouth_opening(points),
                eye_open=None if points is None else float(np.mean(eye_aspect(points))),
                sharpness=track.sharpness,
                blendshapes=[] if mesh is None else cast(list[float], mesh.blendshapes),  # a list of numbers is larger
            )
            track.crops.add(len(track.rows), box, shown.rgb)
            if points is not None:
                scaled = np.clip(np.rint(points[:, :2] * (scale * _LANDMARK_SCALE)), -32768, 32767)
                track.landmarks[len(track.rows)] = scaled.astype("<i2").tobytes()
            track.rows.append(row)
        if track.face.missed == 0:
            track.confirmed = len(track.rows)
        k = shown.grid[0]
        if track.face.missed == 0 and k >= track.next_portrait_k:
            track.portraits.append(self._portrait(shown, box, points, scale, k, track.sharpness))
            track.next_portrait_k = k + self._rules.portrait_every

    def _portrait(
        self, shown: Shown, box: Box, points: FloatArray | None, scale: float, k: int, sharpness: float
    ) -> PortraitRow:
        assert shown.rgb is not None
        height, width = shown.rgb.shape[:2]
        place = x0, y0, *_ = place_of(box, width, height)
        image, s = portrait(shown.rgb, place, self._rules.portrait_px)
        face = _region(shown.rgb, box)
        five = [] if points is None else ((five_points(points) - [x0, y0]) * s).ravel().tolist()
        return PortraitRow(
            source_id=self._source_id,
            tracklet_id="",
            k=k,
            t_s=shown.t_s,
            image=image,
            face_xywh=[(box.x - x0) * s, (box.y - y0) * s, box.w * s, box.h * s],
            points_xy=five,
            face_px=min(box.w, box.h) * scale,
            sharpness=sharpness,
            luma_mean=float(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY).mean()),
        )

    def _end(self, track: _Track) -> None:
        """Write out a face that has ended, up to where it was last confirmed: beyond it nothing was seen."""
        track.crops.flush()
        if track.confirmed == 0:
            return
        tracklet = f"{self._prefix}-{len({r.tracklet_id for r in self.face_frames}):03d}"
        seen = [row.but(tracklet_id=tracklet) for row in track.rows[: track.confirmed]]
        self.face_frames += seen
        self.face_crops += [
            FaceCropRow(
                source_id=self._source_id,
                tracklet_id=tracklet,
                k=seen[n].k,
                crop=data,
                landmarks=track.landmarks.get(n),
            )
            for n, data in track.crops.done
            if n < track.confirmed
        ]
        self.portraits += [one.but(tracklet_id=tracklet) for one in track.portraits]


Named = TypeVar("Named", FaceFrameRow, FaceCropRow, PortraitRow)


def _renamed(row: Named, name: Callable[[str, int], str]) -> Named:
    tracklet = name(row.tracklet_id, row.k)
    return row if tracklet == row.tracklet_id else row.but(tracklet_id=tracklet)


def _scaled(boxes: list[FaceBox], scale: float) -> list[FaceBox]:
    return [FaceBox(b.x * scale, b.y * scale, b.w * scale, b.h * scale, b.score) for b in boxes]


def _region(rgb: Image, box: Box) -> Image:
    height, width = rgb.shape[:2]
    x0, y0 = min(max(0, round(box.x)), width - 2), min(max(0, round(box.y)), height - 2)
    x1, y1 = max(x0 + 2, min(width, round(box.x + box.w))), max(y0 + 2, min(height, round(box.y + box.h)))
    return rgb[y0:y1, x0:x1]
