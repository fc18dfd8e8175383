"""Table of performance annotation."""

from __future__ import annotations

from schemas.columns import ANNOTATOR, END, SEGMENT, SOURCE, START, TRACK, index, real, text, texts
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
        text("hands", "what is seen of the hands in the clip's picture"),
        text("posture", "standing or sitting; null = legs not seen", null=True),
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

EVENTS = Table(
    "events",
    "what a person does in a segment, one row a time: nods, smiles, blinks, looks and other measured actions",
    ("segment_id", "n"),
    (
        SEGMENT,
        SOURCE,
        TRACK,
        index("n", "position in the segment, in order of time"),
        text("event", "term, such as nod, shake, smile, laugh, blink, brow_raise, gesture, lean"),
        text("kind", "facial_action, head_motion, gaze or body_action"),
        START,
        END,
        real("confidence", "grows with strength and with the share of measured frames; not calibrated", "0-1"),
        real("strength", "size in the rule's own measure: degrees, share of a coefficient, shoulder widths (a second)"),
        index("count", "cycles it holds, for nods and shakes; else 1"),
        text("direction", "of a lean: forward, back, left or right of the picture; else null", null=True),
        ANNOTATOR,
    ),
)
