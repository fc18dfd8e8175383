"""Optional stage: an audio-visual model behind an endpoint judges the class of each live segment again.

Not part of the shipped workflows, since it needs a served model; docs/policy.md shows how to put it in and how a rule
uses its verdicts. Reads a few frames and the sound of each segment; one request a segment.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np

from annotators.captions.verifier import Verifier
from annotators.parts import Part, part
from curation.media.audio import read_audio
from curation.stage import Gate, GateMode, Grain, Inputs, Outputs, StageSettings, WorkItem, each_unit
from schemas.table import Table
from schemas.tables import CLIP_PLANS, SEGMENTS, VERDICTS
from schemas.tables.pairing import SegmentRow, VerdictRow
from schemas.tables.plans import ClipPlanRow
from schemas.time import AUDIO_HZ
from stages.clip_plan.crop import plan_of
from stages.packing.stills import stills


class VerificationSettings(StageSettings):
    """Which served model."""

    verifier: Part[Verifier] = part(
        {"openai": "annotators.captions.verifier:OpenAIVerifier.served"},
        "openai: a served audio-visual model, with `base_url`, `model`, `n_frames` and more",
        required=True,
    )


class Verification:
    """Stage: verdicts on the live segments."""

    name: ClassVar[str] = "verification"
    version: ClassVar[int] = 2
    grain: ClassVar[Grain] = "source"
    reads: ClassVar[tuple[Table, ...]] = (SEGMENTS, CLIP_PLANS)
    writes: ClassVar[tuple[Table, ...]] = (VERDICTS,)
    gate: ClassVar[Gate | None] = "segments"
    gate_mode: ClassVar[GateMode] = "each"
    Settings: ClassVar[type[StageSettings]] = VerificationSettings

    def __init__(self, settings: VerificationSettings) -> None:
        """Check the address. Raises ValueError when it is none."""
        self._verifier = settings.verifier.build()

    def run(self, item: WorkItem, inputs: Inputs) -> Outputs:
        """Judge the item's segments; one that fails harms no other."""
        segments = {r.segment_id: r for r in SEGMENTS.rows(inputs.read(SEGMENTS))}
        plans = {r.segment_id: r for r in CLIP_PLANS.rows(inputs.read(CLIP_PLANS))}
        return each_unit(item.units, lambda unit: {VERDICTS: [self._judge(segments[unit], inputs.media, plans)]})

    def _judge(self, segment: SegmentRow, media: Path, plans: Mapping[str, ClipPlanRow]) -> VerdictRow:
        start_s, end_s = segment.start_s, segment.end_s
        plan, _ = plan_of(segment.segment_id, plans)
        frames = stills(media, segment, plan, self._verifier.n_frames)
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
