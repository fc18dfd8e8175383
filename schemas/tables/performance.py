"""Table of performance annotation."""

from __future__ import annotations

from schemas.columns import ANNOTATOR, SEGMENT, SOURCE, text, texts
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
        text("tags", "JSON list of tags with name, kind, start_s, end_s (source clock), confidence, annotator"),
        texts("contradictions", "where the caption disagrees with the timeline; empty = none found"),
        ANNOTATOR,
    ),
)
