"""Table of performance annotation."""

from __future__ import annotations

from schemas import columns as c
from schemas.column import Column
from schemas.packed import IN_PERFORMANCE, PERFORMANCE, Packed
from schemas.row import Row
from schemas.table import Table

_TERM = Packed("performance", manifest=False, absent="unknown")
_ANNOTATOR = Packed("performance", manifest=False, absent="none")


class CaptionRow(Row):
    """Performance annotation of a segment."""

    segment_id: Column[str] = c.segment_id()
    source_id: Column[str] = c.source_id()
    caption: Column[str] = c.text(
        "one prose caption; for listen only what does not change over time", packed=PERFORMANCE
    )
    emotions: Column[list[str]] = c.texts("emotion terms, strongest first", packed=PERFORMANCE)
    expressions: Column[list[str]] = c.texts("expression terms, strongest first", packed=PERFORMANCE)
    head_motion: Column[list[str]] = c.texts("head motion terms", packed=IN_PERFORMANCE)
    gaze: Column[str] = c.text("main gaze target", packed=IN_PERFORMANCE)
    stance: Column[str | None] = c.text("listening stance", null=True, packed=IN_PERFORMANCE)
    shot_type: Column[str] = c.text("shot type term", packed=IN_PERFORMANCE)
    body_motion: Column[str] = c.text("level of body motion", packed=IN_PERFORMANCE)
    hands: Column[str] = c.text("what is seen of the hands in the clip's picture", packed=_TERM)
    posture: Column[str | None] = c.text("standing or sitting; null = legs not seen", null=True, packed=IN_PERFORMANCE)
    speaking_style: Column[list[str]] = c.texts(
        "terms of how the person speaks, by heuristics on the four measures that follow", packed=IN_PERFORMANCE
    )
    pitch_hz: Column[float | None] = c.real("median pitch of the speaker; null = not measured", "Hz", null=True)
    pitch_range_st: Column[float | None] = c.real(
        "10th to 90th percentile of it; null likewise", "semitones", null=True
    )
    syllables_per_s: Column[float | None] = c.real(
        "syllable nuclei a second of speech, about two thirds of syllables", "1/s", null=True
    )
    level_over_usual_db: Column[float | None] = c.real(
        "level against the same voice's in all of the source", "dB", null=True
    )
    camera: Column[str] = c.text("camera motion term", packed=_TERM)
    clothing: Column[str | None] = c.text(
        "colour below the chin, by a heuristic; null = not clear", null=True, packed=IN_PERFORMANCE
    )
    hair: Column[str | None] = c.text(
        "black, brown, blond, red, grey, white, bald or covered; null = no captioner looked at pictures, or not clear",
        null=True,
        packed=IN_PERFORMANCE,
    )
    glasses: Column[bool | None] = c.flag("the person wears glasses; null likewise", null=True, packed=IN_PERFORMANCE)
    place: Column[str | None] = c.text("where the person is, a term; null likewise", null=True, packed=IN_PERFORMANCE)
    tags: Column[str] = c.text(
        "JSON list of tags with name, kind, start_s, end_s (source clock), confidence, annotator"
    )
    contradictions: Column[list[str]] = c.texts(
        "where the caption disagrees with the timeline; empty = none found", packed=IN_PERFORMANCE
    )
    annotator: Column[str] = c.annotator(packed=_ANNOTATOR)


CAPTIONS = Table(CaptionRow, "captions", (CaptionRow.segment_id,))


class EventRow(Row):
    """What a person does in a segment, one row a time: nods, smiles, blinks, looks and other measured actions."""

    segment_id: Column[str] = c.segment_id()
    source_id: Column[str] = c.source_id()
    track_id: Column[str] = c.track_id()
    n: Column[int] = c.index("position in the segment, in order of time")
    event: Column[str] = c.text("term, such as nod, shake, smile, laugh, blink, brow_raise, gesture, lean")
    kind: Column[str] = c.text("facial_action, head_motion, gaze or body_action")
    start_s: Column[float] = c.start_s()
    end_s: Column[float] = c.end_s()
    confidence: Column[float] = c.real(
        "grows with strength and with the share of measured frames; not calibrated", "0-1"
    )
    strength: Column[float] = c.real(
        "size in the rule's own measure: degrees, share of a coefficient, shoulder widths (a second)"
    )
    count: Column[int] = c.index("cycles it holds, for nods and shakes; else 1")
    direction: Column[str | None] = c.text(
        "of a lean: forward, back, left or right of the picture; else null", null=True
    )
    annotator: Column[str] = c.annotator()


EVENTS = Table(EventRow, "events", (EventRow.segment_id, EventRow.n))
