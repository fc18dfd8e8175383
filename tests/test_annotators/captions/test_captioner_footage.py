"""Captions of real people: the terms that anybody who looks at the clips would agree with."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from annotators.captions.captioner import ClipContext, SignalCaptioner
from annotators.face.boxes import crop_box, cut_square
from annotators.face.faces import FaceDetector
from annotators.face.landmarker import CROP_SIZE_PX, FaceLandmarker
from annotators.face.mesh import mesh_box, mouth_opening, to_frame
from annotators.models import weights
from annotators.performance.signal_series import FaceSignals, baseline_of
from annotators.protocols import FaceBox
from schemas.samples.caption_checks import contradictions

pytestmark = pytest.mark.skipif(
    any(weights.find(name) is None for name in (*FaceDetector.weights, *FaceLandmarker.weights)),
    reason="no face models: fetch them with `lpm models fetch`",
)


def signals(path: Path, frames: int) -> FaceSignals:
    """Measure the first frames of a 25 fps clip of one person; the face is looked for in every fifth."""
    rows, boxes, shapes = [], [], []
    wh = (0, 0)
    with FaceDetector() as detector, FaceLandmarker() as landmarker, av.open(str(path)) as container:
        box: FaceBox | None = None
        for k, frame in zip(range(frames), container.decode(video=0), strict=False):
            rgb = frame.to_ndarray(format="rgb24")
            wh = (rgb.shape[1], rgb.shape[0])
            if box is None or k % 5 == 0:
                box = detector.detect(rgb)[0]
            crop = crop_box(box)
            mesh = landmarker.landmarks(cut_square(rgb, crop, CROP_SIZE_PX))
            assert mesh is not None
            found = mesh_box(to_frame(mesh.points, crop, CROP_SIZE_PX))
            boxes.append([found.x, found.y, found.w, found.h])
            rows.append([frame.time, mesh.yaw_deg, mesh.pitch_deg, mesh.roll_deg, mouth_opening(mesh.points)])
            shapes.append(mesh.blendshapes)
    table = np.array(rows, np.float64)
    return FaceSignals(
        t_s=table[:, 0],
        blendshapes=np.array(shapes, np.float64),
        yaw_deg=table[:, 1],
        pitch_deg=table[:, 2],
        roll_deg=table[:, 3],
        mouth_open=table[:, 4],
        box_xywh=np.array(boxes, np.float64),
        frame_wh=wh,
        valid=np.ones(len(rows), np.bool_),
    )


def test_a_talker_who_smiles_and_turns(media: Path) -> None:
    seen = signals(media / "talk_woman_studio.mp4", 200)
    said = SignalCaptioner().caption(ClipContext("speak", seen, baseline_of(seen)))
    assert (said.shot_type, said.gaze) == ("close_up", "camera")
    assert "smiling" in said.expressions
    assert "turn_left" in said.head_motion
    assert "speaking to the camera" in said.prose
    assert contradictions(said, "speak") == []


def test_a_listener_who_keeps_still(media: Path) -> None:
    seen = signals(media / "listen_woman_red.mp4", 75)
    said = SignalCaptioner().caption(ClipContext("listen", seen, baseline_of(seen)))
    assert (said.shot_type, said.gaze, said.body_motion) == ("medium", "camera", "still")
    assert said.head_motion == ("still",)
    assert "listening silently" in said.prose
    assert contradictions(said, "listen") == []
