"""Table of performance annotation."""

from __future__ import annotations

from schemas.columns import ANNOTATOR, SEGMENT, SOURCE, real, text, texts
from schemas.table import Table

CAPTIONS = Table(
    "captions",
    "performance annotation of a segment",
    ("segment_id",),
    (
        SEGMENT,
        SOURCE,
        text("caption", "one prose caption; for listen only what does not change over time"),
        texts("emotions", "emotion terms, strongest first"),
        texts("expressions", "expression terms, strongest first"),
        texts("head_motion", "head motion terms"),
        text("gaze", "main gaze target"),
        text("stance", "listening stance", null=True),
        text("shot_type", "shot type term"),
        text("body_motion", "level of body motion"),
        texts("speaking_style", "terms of how the person speaks, by heuristics on the four measures that follow"),
        real("pitch_hz", "median pitch of the speaker; null = not measured", "Hz", null=True),
        real("pitch_range_st", "10th to 90th percentile of it; null likewise", "semitones", null=True),
        real("syllables_per_s", "syllable nuclei a second of speech, about two thirds of syllables", "1/s", null=True),
        real("level_over_usual_db", "level against the same voice's in all of the source", "dB", null=True),
        text("camera", "camera motion term"),
        text("clothing", "colour below the chin, by a heuristic; null = not clear", null=True),
        text("tags", "JSON list of tags with name, kind, start_s, end_s (source clock), confidence, annotator"),
        texts("contradictions", "where the caption disagrees with the timeline; empty = none found"),
        ANNOTATOR,
    ),
)
