"""From which face size on the landmark model's eyes, brows, mouth and pose still agree with those of the large face.

    python benchmarks/face_size.py CLIP_DIR [--json FILE]

Every third of a second of each clip, faces of 150 px (shorter side of the mesh's box) and more are measured as they
are, then once for each size after the picture was shrunk until the face has that size and compressed as JPEG (quality
75). An action counts as shown from its threshold in `annotators.performance.facial_actions` on. Printed for each size:
how many of the shown ones are found again (recall), how many of the found ones were shown (precision), and the
correlation of the raw values; for angles the median error in degrees. `lost` is the share of faces in which no mesh is
found any more.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import record

from annotators.face.boxes import crop_box, cut_square
from annotators.face.faces import FaceDetector
from annotators.face.landmarker import CROP_SIZE_PX, FaceLandmarker
from annotators.face.mesh import BLENDSHAPES, mesh_box, to_frame
from annotators.performance.signal_series import EYE_DEG_PER_UNIT
from annotators.protocols import Box, FaceMesh, Image
from curation.media.video import iter_frames

SIZES_PX = (24, 32, 40, 48, 56, 64, 80, 96, 128)
ANGLES = ("yaw_deg", "pitch_deg", "roll_deg", "gaze_yaw_deg", "gaze_pitch_deg")
LARGE_PX, SCALE, EVERY_S, MARGIN = 150.0, 1.7, 1 / 3, 1.0
ACTIONS = {
    "eyes_closed": (("eyeBlink",), 0.45),
    "squint": (("eyeSquint",), 0.5),
    "wide_eyes": (("eyeWide",), 0.08),
    "frown": (("browDown",), 0.25),
    "brow_raise": (("browInnerUp", "browOuterUp"), 0.25),
    "smile": (("mouthSmile",), 0.35),
    "lip_press": (("mouthPress",), 0.35),
    "jaw_open": (("jawOpen",), 0.2),
}


def gaze(blendshapes: Any) -> tuple[float, float]:
    """Return where the eyes look within the head, (x, y) in [-1, 1]: x > 0 to image right, y > 0 up."""
    value = dict(zip(BLENDSHAPES, map(float, blendshapes), strict=True))
    image_right = value["eyeLookOutLeft"] + value["eyeLookInRight"]
    image_left = value["eyeLookInLeft"] + value["eyeLookOutRight"]
    up = value["eyeLookUpLeft"] + value["eyeLookUpRight"]
    down = value["eyeLookDownLeft"] + value["eyeLookDownRight"]
    return (image_right - image_left) / 2, (up - down) / 2


def action(mesh: FaceMesh, names: tuple[str, ...]) -> float:
    """Return the mean of some coefficients of both sides."""
    values = dict(zip(BLENDSHAPES, mesh.blendshapes.tolist(), strict=True))
    sides = [v for n, v in values.items() if n in names or n.removesuffix("Left").removesuffix("Right") in names]
    return float(np.mean(sides))


def angle_of(mesh: FaceMesh, name: str) -> float:
    """Return an angle of the head, or of head and eyes together, in degrees."""
    x, y = gaze(mesh.blendshapes)
    if name == "gaze_yaw_deg":
        return mesh.yaw_deg + EYE_DEG_PER_UNIT * x
    if name == "gaze_pitch_deg":
        return mesh.pitch_deg + EYE_DEG_PER_UNIT * y
    return float(getattr(mesh, name))


def measured(landmarker: FaceLandmarker, rgb: Image, box: Box) -> tuple[FaceMesh, Box] | None:
    """Return the mesh in a box and the box around it, as the scan finds them."""
    square = crop_box(box, SCALE)
    mesh = landmarker.landmarks(cut_square(rgb, square, CROP_SIZE_PX))
    return None if mesh is None else (mesh, mesh_box(to_frame(mesh.points.copy(), square, CROP_SIZE_PX)))


def shrunk(rgb: Image, box: Box, px: float) -> tuple[Image, Box]:
    """Return the picture around a face, shrunk until the box's shorter side is `px` and compressed, and the box."""
    factor = px / min(box.w, box.h)
    side = MARGIN * max(box.w, box.h)
    x0, y0 = max(0, int(box.x - side)), max(0, int(box.y - side))
    part = rgb[y0 : int(box.y + box.h + side), x0 : int(box.x + box.w + side)]
    small = cv2.resize(part, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 75])
    assert ok
    image = cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return np.asarray(image), Box((box.x - x0) * factor, (box.y - y0) * factor, box.w * factor, box.h * factor)


def large_faces(
    clip: Path, detector: FaceDetector, landmarker: FaceLandmarker
) -> Iterator[tuple[Image, Box, FaceMesh]]:
    """Yield (picture, box, mesh) of the large faces of a clip, about three times a second."""
    due = 0.0
    for frame in iter_frames(clip):
        if frame.pts_s < due:
            continue
        due = frame.pts_s + EVERY_S
        rgb = frame.rgb()
        for found in detector.detect(rgb):
            got = measured(landmarker, rgb, Box(found.x, found.y, found.w, found.h))
            if got is not None and min(got[1].w, got[1].h) >= LARGE_PX:
                yield rgb, got[1], got[0]


def figures(pairs: list[tuple[FaceMesh, FaceMesh | None]]) -> dict[str, Any]:
    """Return agreement of small faces with large ones."""
    kept = [(a, b) for a, b in pairs if b is not None]
    out: dict[str, Any] = {"faces": len(pairs), "lost": round(1 - len(kept) / len(pairs), 3)}
    for name, (shapes, on) in ACTIONS.items():
        large = np.array([action(a, shapes) for a, _ in kept])
        small = np.array([action(b, shapes) for _, b in kept])
        hits = int(((large >= on) & (small >= on)).sum())
        out[name] = {
            "shown": int((large >= on).sum()),
            "recall": round(hits / max(1, int((large >= on).sum())), 3),
            "precision": round(hits / max(1, int((small >= on).sum())), 3),
            "correlation": round(float(np.corrcoef(large, small)[0, 1]), 3),
        }
    for angle in ANGLES:
        errors = [abs(angle_of(a, angle) - angle_of(b, angle)) for a, b in kept]
        median, most = np.percentile(errors, [50, 90])
        out[angle] = {"median_error": round(float(median), 2), "p90": round(float(most), 2)}
    return out


def main() -> None:
    """Measure all clips of a folder."""
    parser = record.parser(__doc__)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    pairs: dict[int, list[tuple[FaceMesh, FaceMesh | None]]] = defaultdict(list)
    with FaceDetector() as detector, FaceLandmarker() as landmarker:
        for clip in sorted(args.clips.glob("*.mp4")):
            for rgb, box, mesh in large_faces(clip, detector, landmarker):
                for px in SIZES_PX:
                    got = measured(landmarker, *shrunk(rgb, box, px))
                    pairs[px].append((mesh, None if got is None else got[0]))
    result = {**record.today_here(), "sizes": {str(px): figures(pairs[px]) for px in SIZES_PX}}
    print(record.as_json(result), end="")
    record.write(args.json, result)


if __name__ == "__main__":
    main()
