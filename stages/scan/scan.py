"""Stage `scan`: one decode pass over a window of a source feeds every per-frame measurer.

Cuts, picture quality, overlays, faces with landmarks and blendshapes, crops and portraits all come from it, so that
no later stage decodes again but to pack. Where shots begin, and whether a tracklet shows one person, is settled at the
window's end. Cost: decoding, about 4.3 ms a face and grid frame for landmarks, about 3 ms a grid frame for all else,
17 ms a portrait, 0.4 s for each doubt about a cut. Memory is bounded by the window.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar

import cv2
import numpy as np
from pydantic import Field

from annotators.face.portrait_embedder import PortraitEmbedder
from annotators.parts import Part, part
from annotators.picture.overlay import OverlayMeter, TextDetecting
from annotators.picture.shots import ShotChanges
from annotators.protocols import FaceAnalyzer, FaceDetecting
from annotators.shipped import FACE_COMPARERS
from curation.labels.apply import LABELLED, in_order, with_cuts
from curation.media.errors import MediaError
from curation.media.video import DecodeReport, frame_times
from curation.stage import Gate, GateMode, Grain, Inputs, Outputs, StageSettings, WorkItem
from schemas.settings.parts import Absent
from schemas.settings.use import Shared
from schemas.table import Table
from schemas.tables import CUT_LABELS, CUTS, FACE_CROPS, FACE_FRAMES, FRAMES, LAYOUT, PORTRAITS, SOURCES
from schemas.tables.labels import CutLabelRow
from schemas.tables.scan import CutRow, PortraitRow
from schemas.time import Interval, grid_index
from stages.scan.evidence import face_shift
from stages.scan.faces import FaceMeter, FaceRules
from stages.scan.grid import first_k, read
from stages.scan.jumps import NAME as JUMP_NAME
from stages.scan.jumps import Candidate, after_cuts, is_candidate, jump_cuts, stands_alone, steps
from stages.scan.people import Portrait, comparable, divided, embed_row, turns
from stages.scan.picture import PictureMeter
from stages.scan.shots import ShotMeter

MOST_DISORDERED = 0.1
"""Share of a window's frames that may come with times before those shown before them; they are left out."""
CERTAIN = 1e6
"""The score of a cut that a person gave: above any measure of change."""


class ScanSettings(StageSettings):
    """What the scan looks for and how often."""

    cut_threshold: float = Field(3.0, gt=0, description="AdaptiveDetector's ratio to its neighbours (its default)")
    cut_min_content: float = Field(15.0, ge=0, description="AdaptiveDetector's least content change (its default)")
    shot_network: Part[ShotChanges | None] = part(
        {"transnetv2": "annotators.picture.shots:ShotNetwork", "none": Absent("none")},
        "second opinion on doubtful cuts; auto: TransNetV2 where its weights can be had",
        auto=("transnetv2", "none"),
        fetch=True,
    )
    people: Part[PortraitEmbedder | None] = part(
        FACE_COMPARERS,
        "divides what follows two people; auto: by faces where the embedder's weights can be had",
        auto=("face-reid", "none"),
        fetch=True,
        shared="people",
    )
    detector: Part[FaceDetecting] = part(
        {
            "mediapipe": "annotators.face.faces:FaceDetector",
            "scrfd": {"use": "annotators.face.scrfd:ScrfdDetector", "model": "buffalo_l"},
        },
        "finds faces; scrfd: a network of your own (`model`: an ONNX file or a pack's folder, by path or by name in "
        "OPENLPM_MODELS), run by insightface; auto: scrfd where buffalo_l is here",
        auto=("scrfd", "mediapipe"),
        by_default="mediapipe",
        offers=("min_score", "tiles"),
    )
    landmarker: Part[FaceAnalyzer] = part(
        {"mediapipe": "annotators.face.landmarker:FaceLandmarker"}, "landmarks, expression and pose of a face"
    )
    text: Part[TextDetecting] = part({"ppocr": "annotators.picture.text_detector:TextDetector"}, "finds lines of text")
    max_side_px: Annotated[int, Shared("max_side_px")] = Field(
        1280, ge=256, description="pictures are analysed at this size at most, longer side"
    )
    detect_every_s: float = Field(0.4, gt=0, description="face detection while all faces are being followed")
    detect_every_lost_s: float = Field(0.2, gt=0, description="face detection while a face is lost or none is there")
    tiles: int = Field(2, ge=1, description="tiles a side for small faces in wide shots; 1 = none")
    tiles_every_s: float = Field(4.0, gt=0, description="how often tiles are searched")
    min_detection: float = Field(0.5, ge=0, le=1, description="detector confidence from which a face is followed")
    max_faces: int = Field(6, ge=1, description="faces followed at once, the largest first")
    max_missed_s: float = Field(0.6, ge=0, description="a face that is not confirmed for longer has ended")
    max_blind_s: float = Field(
        0.32, ge=0, description="a face without landmarks for so long is looked at only where the detector sees it"
    )
    min_mesh_px: float = Field(20.0, ge=0, description="faces smaller than this get no landmarks")
    mesh_scale: float = Field(1.7, gt=1, description="landmark crop / face box")
    layout_every_s: float = Field(1.0, gt=0, description="how often bars and overlays are measured")
    portrait_every_s: float = Field(1.0, gt=0, description="one portrait a face in this time")
    portrait_px: int = Field(384, ge=96, description="longer side of a portrait at most")


class Scan:
    """Stage: the single decode pass."""

    name: ClassVar[str] = "scan"
    version: ClassVar[int] = 9
    grain: ClassVar[Grain] = "window"
    reads: ClassVar[tuple[Table, ...]] = (SOURCES, CUT_LABELS)
    writes: ClassVar[tuple[Table, ...]] = (CUTS, FRAMES, LAYOUT, FACE_FRAMES, FACE_CROPS, PORTRAITS)
    gate: ClassVar[Gate | None] = "sources"
    gate_mode: ClassVar[GateMode] = "once"
    Settings: ClassVar[type[StageSettings]] = ScanSettings

    def __init__(self, settings: ScanSettings) -> None:
        """Load the face and text models. Raises WeightsNotFound."""
        self._settings = settings
        cv2.setNumThreads(1)  # pictures are small: OpenCV's threads cost more than they give, and workers share cores
        score = settings.min_detection
        self._detector = settings.detector.build(min_score=score, tiles=1)
        self._tiled = settings.detector.build(min_score=score, tiles=settings.tiles) if settings.tiles > 1 else None
        self._landmarker = settings.landmarker.build()
        self._overlay = OverlayMeter(settings.text.build())
        self._network = settings.shot_network.build()
        self._people = settings.people.build()

    def close(self) -> None:
        """Release the models."""
        self._detector.close()
        self._landmarker.close()
        if self._tiled is not None:
            self._tiled.close()

    def run(self, item: WorkItem, inputs: Inputs) -> Outputs:
        """Scan one window. Raises MediaError when no frame of it can be decoded."""
        assert item.window is not None
        s, window = self._settings, item.window
        self._overlay.reset()
        picture = PictureMeter(item.source_id, self._overlay, s.layout_every_s)
        prefix = f"{item.source_id}-w{item.window_index:04d}"
        faces = FaceMeter(prefix, item.source_id, self._detector, self._tiled, self._landmarker, self._rules())
        shots = ShotMeter()
        candidates: list[Candidate] = []
        report = DecodeReport()
        n_frames = self._read(inputs.media, window, report, picture, faces, shots, candidates)
        picture.finish_shot(keep=True)
        faces.finish()
        if n_frames == 0 and item.window_index == 0:
            raise MediaError("decode_failed", "no frame could be decoded; the file is damaged or of an unknown coding")
        _in_order(report)
        said = CUT_LABELS.rows(inputs.read(CUT_LABELS))
        cuts = self._cuts(item.source_id, window, faces, shots, candidates, said)
        self._divide(faces)
        damaged = {k for a, b in report.damaged for k in range(first_k(a), first_k(b))}
        return Outputs(
            {
                CUTS: CUTS.from_rows(_numbered(cuts, inputs.media)),
                FRAMES: FRAMES.from_rows([r.but(is_damaged=r.k in damaged) for r in picture.frames]),
                LAYOUT: LAYOUT.from_rows(picture.layouts),
                FACE_FRAMES: FACE_FRAMES.from_rows(faces.face_frames),
                FACE_CROPS: FACE_CROPS.from_rows(faces.face_crops),
                PORTRAITS: PORTRAITS.from_rows([p for p in faces.portraits if p.k not in damaged]),
            }
        )

    def _read(
        self,
        media: Path,
        window: Interval,
        report: DecodeReport,
        picture: PictureMeter,
        faces: FaceMeter,
        shots: ShotMeter,
        candidates: list[Candidate],
    ) -> int:
        """Feed every frame of the window to the measurers; return how many there were."""
        s = self._settings
        first, last = grid_index(window.start_s), grid_index(window.end_s)
        n_frames = 0
        for shown in read(
            media, window, report, max_side=s.max_side_px, threshold=s.cut_threshold, min_content=s.cut_min_content
        ):
            inside = window.start_s <= shown.t_s < window.end_s
            n_frames += inside
            shots.add(shown.t_s, shown.grid.start, shown.index, shown.small, shown.content, shown.cut)
            if shown.cut:
                picture.cut(keep=shown.grid.start > first)
                faces.cut()
            elif inside and shown.grid and is_candidate(shown.content, shown.around):
                candidates.append(Candidate(shown.grid[0], shown.t_s, shown.index, shown.content))
            grid = range(max(first, shown.grid.start), min(last, shown.grid.stop))
            keep = len(grid) > 0
            if not shown.grid or shown.rgb is None or shown.grid.start >= last:
                continue
            step = len(shown.grid)
            if keep:
                shown.grid = grid
            picture.add(shown, faces.add(shown) if keep else [], keep, step)
        return n_frames

    def _cuts(
        self,
        source: str,
        window: Interval,
        faces: FaceMeter,
        shots: ShotMeter,
        candidates: Sequence[Candidate],
        said: Sequence[CutLabelRow],
    ) -> list[CutRow]:
        """Return the window's cuts and jump cuts; faces followed across one get names of their own after it."""
        network = None if self._network is None else self._network.probabilities
        found = shots.changes(face_shift(faces.face_crops), network)
        quiet_s, content = shots.quiet(found)
        jumps = jump_cuts([c for c in candidates if stands_alone(c, quiet_s, content)], faces.face_crops)
        changes = [c for c in found if window.start_s <= c.t_s < window.end_s]
        ours = [_cut(source, c.t_s, c.frame, c.score, c.annotator, c.mixed_s) for c in changes]
        ours += [_cut(source, c.t_s, c.frame, c.content, JUMP_NAME) for c in jumps]
        times = {c.t_s for c in ours}
        held = [s for s in with_cuts(times, in_order(said)) if window.start_s <= s < window.end_s]
        followed = [(c.t_s, c.k) for c in changes if c.followed] + [(c.t_s, c.k) for c in jumps]
        crossed = [k for t_s, k in followed if t_s in held] + [grid_index(s) for s in held if s not in times]
        faces.rename(lambda tracklet, k: after_cuts(tracklet, k, sorted(crossed)))
        given = [_cut(source, s, -1, CERTAIN, LABELLED) for s in held if s not in times]
        return ours + given  # those that a person took out stay here, and `tracks` leaves them out

    def _divide(self, faces: FaceMeter) -> None:
        """Give what a tracklet shows of a second person a tracklet of its own."""
        if self._people is None:
            return
        rows = {(r.tracklet_id, r.k): r for r in faces.face_frames}
        portraits: dict[str, list[PortraitRow]] = {}
        for p in faces.portraits:
            if comparable(p, rows.get((p.tracklet_id, p.k))):
                portraits.setdefault(p.tracklet_id, []).append(p)
        moved = steps(faces.face_crops)
        places = {}
        for tracklet, mine in portraits.items():
            if len(mine) > 1:
                mine.sort(key=lambda p: p.k)
                series = [Portrait(p.k, embed_row(self._people, p)) for p in mine]
                places[tracklet] = turns(series, {k: step for k, (step, _) in moved.get(tracklet, {}).items()})
        faces.rename(lambda tracklet, k: divided(tracklet, k, places))

    def _rules(self) -> FaceRules:
        s = self._settings
        return FaceRules(
            detect_every=grid_index(s.detect_every_s),
            detect_every_lost=grid_index(s.detect_every_lost_s),
            tiles_every=grid_index(s.tiles_every_s),
            max_faces=s.max_faces,
            max_missed=grid_index(s.max_missed_s),
            max_blind=grid_index(s.max_blind_s),
            min_mesh_px=s.min_mesh_px,
            mesh_scale=s.mesh_scale,
            portrait_every=grid_index(s.portrait_every_s),
            portrait_px=s.portrait_px,
        )


def _in_order(report: DecodeReport) -> None:
    """Raise MediaError where too many frames had to be left out for their times."""
    if report.n_disordered > MOST_DISORDERED * (report.n_frames + report.n_disordered):
        raise MediaError(
            "wrong_times",
            f"{report.n_disordered} of {report.n_frames + report.n_disordered} frames have times before those shown "
            "before them; encode the file anew, or leave it out",
        )


def _numbered(cuts: list[CutRow], path: Path) -> list[CutRow]:
    """Return cuts with the frame index filled in where they were found after a seek, from the packets' times."""
    if all(c.frame >= 0 for c in cuts):
        return cuts
    times = frame_times(path)
    return [c.but(frame=int(np.abs(times - c.t_s).argmin())) for c in cuts]


def _cut(source_id: str, t_s: float, frame: int, score: float, annotator: str, mixed_s: float = 0.0) -> CutRow:
    return CutRow(source_id=source_id, t_s=t_s, frame=frame, score=score, annotator=annotator, mixed_s=mixed_s)
