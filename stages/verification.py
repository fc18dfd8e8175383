"""Optional stage: an audio-visual model behind an endpoint judges the class of each live segment again.

Not part of the shipped workflows, since it needs a served model; docs/policy.md shows how to put it in and how a rule
uses its verdicts. Reads a few frames and the sound of each segment; one request a segment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field

from annotators.captioner import Frame
from annotators.chat import ChatEndpoint, Patience
from annotators.verifier import OpenAIVerifier
from curation.media.audio import read_audio
from curation.media.grid import frames_on_grid
from curation.media.video import iter_frames
from curation.stage import Gate, GateMode, Inputs, Outputs, StageSettings, Unit, WorkItem, each_unit
from schemas.table import Table
from schemas.tables import CLIP_PLANS, SEGMENTS, VERDICTS
from schemas.tables.pairing import SegmentRow, VerdictRow
from schemas.tables.plans import ClipPlanRow
from schemas.time import AUDIO_HZ
from stages.clip_content import encoded_size
from stages.clip_crop import plan_of
from stages.packing_picture import cropped


class VerificationSettings(StageSettings):
    """Which served model."""

    base_url: str = Field(description="the endpoint's address, such as http://host:8000/v1")
    model: str = Field(min_length=1, description="name of the served audio-visual model")
    api_key_env: str = Field("OPENAI_API_KEY", description="environment variable that holds the key, if any")
    n_frames: int = Field(8, ge=1, le=64, description="frames of the crop shown a segment")
    max_attempts: int = Field(3, ge=1, description="requests a segment until a verdict is usable")
    timeout_s: float = Field(60, gt=0, description="longest wait for one answer (s)")
    budget_s: float = Field(150, gt=0, description="longest wait for one segment (s)")


class Verification:
    """Stage: verdicts on the live segments."""

    name: ClassVar[str] = "verification"
    version: ClassVar[int] = 2
    unit: ClassVar[Unit] = "source"
    reads: ClassVar[tuple[Table, ...]] = (SEGMENTS, CLIP_PLANS)
    writes: ClassVar[tuple[Table, ...]] = (VERDICTS,)
    gate: ClassVar[Gate | None] = "segments"
    gate_mode: ClassVar[GateMode] = "each"
    Settings: ClassVar[type[StageSettings]] = VerificationSettings

    def __init__(self, settings: VerificationSettings) -> None:
        """Check the address. Raises ValueError when it is none."""
        self._settings = settings
        patience = Patience(settings.max_attempts, settings.timeout_s, settings.budget_s)
        endpoint = ChatEndpoint(settings.base_url, os.environ.get(settings.api_key_env) or None)
        self._verifier = OpenAIVerifier(endpoint, settings.model, settings.n_frames, patience)

    @classmethod
    def identity(cls, settings: VerificationSettings) -> Mapping[str, str]:
        """Name the model."""
        return {"verifier": f"openai:{settings.model}"}

    def run(self, item: WorkItem, inputs: Inputs) -> Outputs:
        """Judge the item's segments; one that fails harms no other."""
        segments = {r.segment_id: r for r in SEGMENTS.rows(inputs.read(SEGMENTS))}
        plans = {r.segment_id: r for r in CLIP_PLANS.rows(inputs.read(CLIP_PLANS))}
        return each_unit(item.units, lambda unit: {VERDICTS: [self._judge(segments[unit], inputs.media, plans)]})

    def _judge(self, segment: SegmentRow, media: Path, plans: Mapping[str, ClipPlanRow]) -> VerdictRow:
        start_s, end_s = segment.start_s, segment.end_s
        plan, path = plan_of(segment.segment_id, plans)
        size = encoded_size(path, round(plan.packed_short_px))
        step_s = (end_s - start_s) / self._settings.n_frames
        even = frames_on_grid(
            iter_frames(media, start_s, end_s), start_s + step_s / 2, self._settings.n_frames, 1 / step_s
        )
        frames = [
            Frame(f.pts_s, cropped(f.rgb(), tuple(path.at(f.pts_s - start_s)), size, exact=path.moves)) for f in even
        ]
        audio = read_audio(media, start_s, end_s, AUDIO_HZ)
        silence = np.zeros(round((end_s - start_s) * AUDIO_HZ), np.float32)
        verdict = self._verifier.judge(frames, start_s, silence if audio is None else audio)
        return VerdictRow(
            segment_id=segment.segment_id,
            source_id=segment.source_id,
            verdict=verdict.category,
            verdict_confidence=verdict.confidence,
            verdict_agrees=verdict.category == segment.category,
            verdict_note=verdict.note,
            verifier=self._verifier.name,
        )
