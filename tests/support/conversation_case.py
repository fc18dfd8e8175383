"""Synthetic conversations as tables: faces with scores, voices with turns, on the 25 Hz grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from table_rows import row

from curation.memory import MemoryInputs, run_chain
from schemas import tables as t
from schemas.table import Table
from schemas.time import GRID_HZ, Interval, grid_range, merge
from stages.attribution.attribution import Attribution, AttributionSettings
from stages.pairing.pairing import Pairing, PairingSettings

SOURCE = "0" * 16

_APART = 600
"""Width of each person's place in the picture (px), so that nobody is in another one's crop."""

Spans = Sequence[tuple[float, float, float]]
"""(start_s, end_s, value) stretches."""


@dataclass(frozen=True)
class Face:
    """A track [start_s, end_s) of a shot, its score over time; no `scores` at all = not measured."""

    shot: str
    start_s: float
    end_s: float
    scores: Spans


@dataclass(frozen=True)
class Case:
    """Faces by name, and voices by name with the stretches (start_s, end_s) in which each is heard."""

    faces: Mapping[str, Face]
    voices: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    speech: Sequence[tuple[float, float]] | None = None
    words: Sequence[tuple[float, float, str]] = ()
    level_db: float = -25.0
    quiet_db: float = -70.0
    mixed_s: float = 0.0

    def tables(self) -> dict[Table, list[Any]]:
        """Return the input tables of both stages."""
        end_s = max(f.end_s for f in self.faces.values())
        turns = [(a, b, v) for v, spans in self.voices.items() for a, b in spans]
        heard = merge(Interval(a, b) for a, b in (self.speech if self.speech is not None else [x[:2] for x in turns]))
        on = {k for i in heard for k in grid_range(i)}
        rows: dict[Table, list[dict[str, Any]]] = {
            t.SOURCES: [
                row(t.SOURCES, source_id=SOURCE, duration_s=end_s, has_audio=True, width=_APART * len(self.faces),
                    height=_APART)
            ],
            t.SHOTS: [
                row(t.SHOTS, shot_id=shot, source_id=SOURCE, end_s=max(f.end_s for f in self.faces.values()),
                    mixed_s=self.mixed_s)
                for shot in sorted({f.shot for f in self.faces.values()})
            ],
            t.TRACKS: [
                row(t.TRACKS, track_id=n, source_id=SOURCE, shot_id=f.shot, start_s=f.start_s, end_s=f.end_s,
                    duration_s=f.end_s - f.start_s, median_face_px=120.0)
                for n, f in self.faces.items()
            ],
            t.TRACKLETS: [row(t.TRACKLETS, tracklet_id=f"{n}-0", source_id=SOURCE, track_id=n) for n in self.faces],
            t.FACE_FRAMES: [
                row(t.FACE_FRAMES, source_id=SOURCE, tracklet_id=f"{n}-0", k=k, t_s=k / GRID_HZ, has_mesh=True,
                    x=_APART * (i + 0.4), y=0.4 * _APART, w=0.2 * _APART, h=0.2 * _APART)
                for i, (n, f) in enumerate(self.faces.items()) for k in grid_range(Interval(f.start_s, f.end_s))
            ],
            t.SPEECH: [
                row(t.SPEECH, source_id=SOURCE, start_s=i.start_s, end_s=i.end_s, probability=0.95) for i in heard
            ],
            t.SPEECH_FRAMES: [
                row(t.SPEECH_FRAMES, source_id=SOURCE, k=k, speech=0.95 if k in on else 0.02,
                    level_db=self.level_db if k in on else self.quiet_db)
                for k in grid_range(Interval(0.0, end_s))
            ],
            t.SPEAKERS: [
                row(t.SPEAKERS, speaker_id=v, source_id=SOURCE, speech_s=sum(b - a for a, b in spans))
                for v, spans in self.voices.items()
            ],
            t.TURNS: [row(t.TURNS, speaker_id=v, source_id=SOURCE, start_s=a, end_s=b) for a, b, v in turns],
            t.WORDS: [
                row(t.WORDS, source_id=SOURCE, n=n, start_s=a, end_s=b, word=w, probability=0.9)
                for n, (a, b, w) in enumerate(self.words)
            ],
            t.ASD_FRAMES: [
                row(t.ASD_FRAMES, track_id=n, k=k, score=score, score_highest=score, annotator="lr-asd(talkset+ava)")
                for n, f in self.faces.items() for a, b, score in f.scores for k in grid_range(Interval(a, b))
            ],
        }  # fmt: skip
        return {table: [table.from_rows(r)] for table, r in rows.items()}


@dataclass(frozen=True)
class Result:
    """What both stages wrote."""

    bindings: list[dict[str, Any]]
    voices: list[dict[str, Any]]
    timeline: list[dict[str, Any]]
    segments: list[dict[str, Any]]

    def bound(self) -> set[tuple[str, str]]:
        """Return bound (voice, track) pairs."""
        return {(r["speaker_id"], r["track_id"]) for r in self.bindings if r["bound"]}

    def runs(self, track: str) -> list[tuple[float, float, str, str]]:
        """Return (start_s, end_s, state, reason) of a track's timeline."""
        return [(r["start_s"], r["end_s"], r["state"], r["reason"]) for r in self.timeline if r["track_id"] == track]

    def of(self, track: str) -> list[dict[str, Any]]:
        """Return a track's segments."""
        return [s for s in self.segments if s["track_id"] == track]


def solve(case: Case) -> Result:
    """Run attribution and pairing with their default settings."""
    stages = [Attribution(AttributionSettings()), Pairing(PairingSettings())]
    parts = run_chain(Path("unused"), stages, source_id=SOURCE, tables=case.tables())
    inputs = MemoryInputs(Path("unused"), parts)
    return Result(*(inputs.read(x).to_pylist() for x in (t.BINDINGS, t.VOICES, t.TIMELINE, t.SEGMENTS)))
