"""Shipped back-ends that more than one stage may choose, by their short names. Costs nothing: names only."""

from __future__ import annotations

from schemas.settings.parts import Absent, Shipped

NO_BODY = "no-body-measures"
"""What is at work where the body networks are missing: nothing, and what they would measure stays empty."""

BODY_ANALYZERS: dict[str, Shipped] = {
    "mediapipe": "annotators.body.analyzer:MediaPipeBody",
    "none": Absent(NO_BODY),
}
VOICE_EMBEDDERS: dict[str, Shipped] = {"campplus": "annotators.speech.voices:CamPlusPlusEmbedder"}
FACE_REID = "annotators.face.portrait_embedder:ReidPortraits"
FACE_COMPARERS: dict[str, Shipped] = {"face-reid": FACE_REID, "none": Absent("none")}
IMAGE_TEXT_EMBEDDERS: dict[str, Shipped] = {
    "none": Absent("none"),
    "open_clip": {"use": "annotators.imagetext.open_clip:OpenClip", "model": "clip"},
}
AESTHETIC_HEADS: dict[str, Shipped] = {
    "none": Absent("none"),
    "laion": {"use": "annotators.imagetext.aesthetic:AestheticHead", "model": "aesthetic.pth"},
}
