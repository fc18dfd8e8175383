"""Stage `sessions`: separate files of one conversation on one clock, and who speaks to whom across them.

One camera and microphone a participant, named as a session in the input list. Sound signatures are aligned (no sound
is decoded), then listeners are paired with those who speak in the other files at that time. Costs about two seconds
a pair of hour-long files, and nothing without sessions of two files and more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import combinations
from typing import ClassVar, TypeVar

import numpy as np
from pydantic import Field

from annotators.sound.session_align import align
from annotators.sound.sound_signature import BANDS_HZ, Bytes
from curation.stage import Gate, GateMode, Grain, Inputs, Outputs, StageSettings, WorkItem
from schemas.table import Table
from schemas.tables import INPUTS, SEGMENTS, SESSION_PAIRS, SESSIONS, SOUND_SIGNATURES, SOURCES, TIMELINE
from schemas.tables.pairing import SegmentRow, TimelineRow
from schemas.tables.registry import InputRow
from schemas.tables.sessions import SessionPairRow, SessionRow, SoundSignatureRow
from stages.sources.session_clock import Clock, clocks
from stages.sources.session_pairs import PairRules, SessionFile, session_pairs
from stages.sources.session_sound import SessionSound

R = TypeVar("R", TimelineRow, SegmentRow)


class SessionsSettings(StageSettings):
    """When two files are taken for one conversation."""

    min_confidence: float = Field(
        0.7,
        ge=0,
        le=1,
        description="files are aligned from this confidence: 3 of 18,200 made pairs without a shared sound reach it, "
        "and all of 2,000 in which each voice reaches the other microphone 10-30 dB fainter "
        "(benchmarks/session_align.py)",
    )
    min_shared_s: float = Field(0.5, ge=0, description="one speaks and the other is seen for this long to be a pair")
    min_share: float = Field(0.5, ge=0, le=1, description="share of a segment that another file's voice may overrule")
    min_match: float = Field(0.35, ge=-1, le=1, description="correlation from which two files hold the same voice")
    leak_gap_db: float = Field(6.0, ge=0, description="and how much fainter a leaked voice is than in its own file")


class Sessions:
    """Stage: align the files of each session, pair across them."""

    name: ClassVar[str] = "sessions"
    version: ClassVar[int] = 1
    grain: ClassVar[Grain] = "dataset"
    reads: ClassVar[tuple[Table, ...]] = (INPUTS, SOURCES, SOUND_SIGNATURES, TIMELINE, SEGMENTS)
    writes: ClassVar[tuple[Table, ...]] = (SESSIONS, SESSION_PAIRS)
    gate: ClassVar[Gate | None] = "sources"
    gate_mode: ClassVar[GateMode] = "together"
    Settings: ClassVar[type[StageSettings]] = SessionsSettings

    def __init__(self, settings: SessionsSettings) -> None:
        self._settings = settings

    def run(self, item: WorkItem, inputs: Inputs) -> Outputs:
        """Align and pair every session of the dataset."""
        sessions = members(INPUTS.rows(inputs.read(INPUTS)))
        wanted = {s for sources in sessions.values() if len(sources) > 1 for s in sources}
        levels = _signatures(inputs, wanted)
        timeline, segments = _by_source(inputs, TIMELINE, wanted), _by_source(inputs, SEGMENTS, wanted)
        rows: list[SessionRow] = []
        pairs: list[SessionPairRow] = []
        rules = PairRules(**self._settings.model_dump(exclude={"min_confidence"}))
        for session, sources in sorted(sessions.items()):
            heard = [s for s in sources if s in levels]
            links = {(a, b): align(levels[a], levels[b]) for a, b in combinations(heard, 2)}
            placed = clocks(heard, links, self._settings.min_confidence)
            groups: dict[str, list[str]] = defaultdict(list)
            for s in heard:
                groups[placed[s].reference].append(s)
            best = {s: max((a.confidence for pair, a in links.items() if s in pair), default=None) for s in heard}
            for s in sources:
                clock, together = placed.get(s), len(groups[placed[s].reference]) > 1 if s in placed else False
                rows.append(_row(session, s, clock, together, len(sources), best.get(s)))
            for group in groups.values():
                if len(group) > 1:
                    files = [
                        SessionFile(s, segments.get(s, []), timeline.get(s, []), SessionSound(levels[s], placed[s]))
                        for s in group
                    ]
                    pairs += session_pairs(session, files, rules)
        return Outputs({SESSIONS: SESSIONS.from_rows(rows), SESSION_PAIRS: SESSION_PAIRS.from_rows(pairs)})


def members(inputs: Iterable[InputRow]) -> dict[str, list[str]]:
    """Return the sources of each session, sorted; a source given twice counts once.

    The same bytes named in two sessions belong to the one of the path that sorts first.
    """
    owner: dict[str, str] = {}
    for r in sorted(inputs, key=lambda r: r.path):
        if r.session is not None:
            owner.setdefault(r.source_id, r.session)
    out: dict[str, list[str]] = defaultdict(list)
    for source, session in sorted(owner.items()):
        out[session].append(source)
    return out


def _row(
    session: str, source: str, clock: Clock | None, together: bool, n_files: int, best: float | None
) -> SessionRow:
    method = "unrelated"
    if n_files == 1:
        method = "alone"
    elif clock is None:
        method = "no_sound"
    elif together:
        method = "reference" if clock.reference == source else "sound"
    known = clock is not None and (together or n_files == 1)
    return SessionRow(
        session=session,
        source_id=source,
        reference_source_id=source if clock is None else clock.reference,
        offset_s=clock.offset_s if clock is not None and known else None,
        drift_ppm=clock.drift_ppm if clock is not None and known else None,
        confidence=clock.confidence if clock is not None and method == "sound" else best,
        method=method,
    )


def _signatures(inputs: Inputs, wanted: set[str]) -> dict[str, Bytes]:
    found: dict[str, list[Bytes]] = defaultdict(list)
    if wanted:
        for part in inputs.parts(SOUND_SIGNATURES):
            columns = (SoundSignatureRow.source_id.values(part), SoundSignatureRow.levels.values(part))
            for source, levels in zip(*columns, strict=True):
                if source in wanted:
                    found[source].append(np.frombuffer(levels, np.uint8).reshape(-1, len(BANDS_HZ)))
    return {s: np.concatenate(parts) for s, parts in found.items()}


def _by_source(inputs: Inputs, table: Table[R], wanted: set[str]) -> dict[str, list[R]]:
    out: dict[str, list[R]] = defaultdict(list)
    if wanted:
        for part in inputs.parts(table):
            for r in table.rows(part):
                if r.source_id in wanted:
                    out[r.source_id].append(r)
    return out
