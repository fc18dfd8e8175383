"""Stage `pairing`: who speaks, who listens, who is idle, over time; and the candidate clips that follow from it.

Every person in view gets a timeline of states on the 25 Hz grid, each listener a partner (a face, or a voice from off
screen), and each exchange a pair id. Tables only; costs milliseconds a minute. Nothing is dropped: stretches that
cannot be used are segments too, with their reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from annotators.lips.speaking import CHANGE_NATS, SpeakingEvidence
from annotators.parts import Part, part
from curation.stage import Gate, GateMode, Grain, Inputs, Outputs, StageSettings, WorkItem
from schemas import tables as t
from schemas.table import Table
from schemas.tables.attribution import SyncRow
from schemas.tables.pairing import SegmentRow, TimelineRow
from schemas.tables.scan import FrameRow
from schemas.tables.speech import AudioEventRow
from schemas.tables.tracks import TrackRow
from schemas.time import GRID_HZ, Interval, grid_range
from stages.clip_plan.fit import CleanLimits, Framer
from stages.pairing.category import categorise
from stages.pairing.clean import clean_run
from stages.pairing.contest import settled, speaking_at
from stages.pairing.exchange import link_exchanges
from stages.pairing.faces import NO_FACE, LaughRule, face_series, laughing
from stages.pairing.labels import apply_labels, labelled_runs, track_of, with_named_partners
from stages.pairing.lips import lip_evidence
from stages.pairing.rivals import followed_better, sync_now
from stages.pairing.segments import clip_text, inside_word
from stages.pairing.sound_grid import SoundGrid
from stages.pairing.states import Codes, Reason, State, frame_states, runs, smooth, through_pauses

Floats = npt.NDArray[np.float32]


class PairingSettings(StageSettings):
    """Thresholds of states and lengths of clips."""

    evidence: Part[SpeakingEvidence] = part(
        {"logistic": "annotators.lips.speaking:FittedSpeaking"}, "weighs what speaks for a face's speaking"
    )
    change_nats: float = Field(CHANGE_NATS, ge=0, description="log-odds that a change between speaking and not costs")
    mouthing_score: float = Field(
        1.5, description="without a voice, lips move as speech does from this mean of the networks' highest score"
    )
    near_speech_s: float = Field(1.0, ge=0, description="lips may speak so far from any voice that was heard")
    min_sync_face_px: float = Field(
        90.0, ge=0, description="lip sync takes no voice from a smaller face: its lips are too few pixels to be read"
    )
    pause_s: float = Field(0.6, ge=0, description="a shorter silence of all voices belongs to what goes on around it")
    min_foreign: float = Field(
        9.0, ge=0, description="log-odds by which another face must follow a voice better, for it to be foreign here"
    )
    rival_margin: float = Field(
        1.0,
        ge=0,
        description="log-odds by which a face must be less likely than another one to listen where one voice is heard; "
        "this and the next chosen on 23 real and 53 made conversations (benchmarks/results/README.md)",
    )
    rival_enough: float = Field(2.0, description="log-odds from which it speaks beside the other one all the same")
    turn_gap_s: float = Field(0.5, ge=0, description="speech this near a turn is taken for the voice of that turn")
    min_run_s: float = Field(0.4, ge=0, description="a state lasts at least this long")
    min_idle_s: float = Field(0.6, ge=0, description="a shorter silence is a pause of what goes on around it")
    min_discard_s: float = Field(0.6, ge=0, description="a shorter contradiction is taken for a slip of the measures")
    laughter_heard: float = Field(0.3, ge=0, le=1, description="laughter counts as heard from this score")
    laughter_smile: float = Field(0.3, ge=0, le=1, description="and is a face's own with this much of a smile")
    clip_pause_s: float = Field(
        0.8,
        ge=0,
        description="a clip goes on through a shorter idle stretch; the timeline has it all the same. Voices end late: "
        "true silences of 1 s were measured 0.3 s shorter",
    )
    min_clip_s: float = Field(3.0, gt=0, description="clips are cut no shorter than this (LPM 1.0: 3-8 s)")
    cut_around: bool = Field(
        True, description="a clip ends before, and begins after, what no crop of the person can leave out, and damage"
    )
    min_seen: float = Field(0.9, ge=0, le=1, description="and its face is confirmed in this share of it")
    clean_overlay: float = Field(
        0.0005,
        ge=0,
        le=1,
        description="most of the crop under text, a graphic or an inset for a clip to be cut around it",
    )
    clean_intruder: float = Field(0.002, ge=0, le=1, description="and under another face or bars")
    clean_face: float = Field(0.95, ge=0, le=1, description="and least share of the person's face inside the crop")
    max_clip_s: float = Field(8.0, gt=0, description="and no longer than this")


@dataclass(slots=True)
class _Person:
    """One track with its frames."""

    track: TrackRow
    ks: range
    scores: Floats
    visible: npt.NDArray[np.bool_]
    state: Codes
    raw: Codes
    """states before short runs were merged"""
    reason: Codes
    confidence: Floats


class Pairing:
    """Stage: timelines and segments of one source."""

    name: ClassVar[str] = "pairing"
    version: ClassVar[int] = 30
    grain: ClassVar[Grain] = "source"
    reads: ClassVar[tuple[Table, ...]] = (
        t.SOURCES, t.SHOTS, t.TRACKS, t.TRACKLETS, t.FRAMES, t.FACE_FRAMES, t.LAYOUT, t.SPEECH, t.SPEECH_FRAMES,
        t.AUDIO_EVENTS, t.VOICE_TURNS, t.WORDS, t.ASD_FRAMES, t.SYNC, t.SYNC_FRAMES, t.BINDINGS,
        t.BACKCHANNELS, t.LABELS, t.WORD_LABELS,
    )  # fmt: skip
    writes: ClassVar[tuple[Table, ...]] = (t.TIMELINE, t.SEGMENTS)
    gate: ClassVar[Gate | None] = "tracks"
    gate_mode: ClassVar[GateMode] = "together"
    Settings: ClassVar[type[StageSettings]] = PairingSettings

    def __init__(self, settings: PairingSettings) -> None:
        self._settings = settings
        self._weigh = settings.evidence.build().model

    def run(self, item: WorkItem, inputs: Inputs) -> Outputs:
        """Pair the people of one source."""
        s = self._settings
        heard = SoundGrid(inputs, round(s.turn_gap_s * GRID_HZ), round(s.pause_s * GRID_HZ), s.min_foreign)
        people = self._people(inputs, heard)
        labels = t.LABELS.rows(inputs.read(t.LABELS))
        apply_labels(labels, people)
        sync = {r.track_id: r for r in t.SYNC.rows(inputs.read(t.SYNC))}
        frames = inputs.read(t.FRAMES)
        frozen = set(FrameRow.k.values(frames.filter(FrameRow.is_frozen.of(frames))))
        damaged = heard.damaged | set(FrameRow.k.values(frames.filter(FrameRow.is_damaged.of(frames))))
        framer = Framer.of(inputs, CleanLimits(s.clean_overlay, s.clean_intruder, s.clean_face))
        clear_s = {r.shot_id: r.end_s - r.mixed_s for r in t.SHOTS.rows(inputs.read(t.SHOTS))}
        timeline: list[TimelineRow] = []
        segments: list[SegmentRow] = []
        for person in people:
            timeline += [self._run(person, *r, heard) for r in labelled_runs(person.state, person.reason)]
            for a, b, code in runs(through_pauses(person.state, round(s.clip_pause_s * GRID_HZ))):
                start, end = _time(person, a), _time(person, b)
                end = min(end, max(clear_s[person.track.shot_id], start + 1 / GRID_HZ))
                words = heard.words if code != State.IDLE else []
                fits = partial(self._fits, person, framer if code != State.DISCARD else None, damaged)
                for start_s, end_s in clean_run(words, start, end, s.min_clip_s, s.max_clip_s, fits):
                    segments.append(self._segment(person, start_s, end_s, code, heard, sync, frozen))
        tracks = [p.track for p in people]
        timeline = with_named_partners(labels, timeline, tracks)
        segments = link_exchanges(item.source_id, with_named_partners(labels, segments, tracks))
        return Outputs({t.TIMELINE: t.TIMELINE.from_rows(timeline), t.SEGMENTS: t.SEGMENTS.from_rows(segments)})

    def _fits(self, person: _Person, framer: Framer | None, damaged: set[int], start_s: float, end_s: float) -> bool:
        """Say whether a clip would show the person all the time, undamaged, and nothing that is not theirs."""
        if framer is None or not self._settings.cut_around:
            return True
        ks = grid_range(Interval(start_s, end_s))
        if not damaged.isdisjoint(ks):
            return False
        at = slice(max(0, ks.start - person.ks.start), max(0, ks.stop - person.ks.start))
        seen = person.visible[at]
        if not len(seen) or seen.mean() < self._settings.min_seen:
            return False
        return framer.fits(person.track.track_id, person.track.shot_id, start_s, end_s)

    def _people(self, inputs: Inputs, heard: SoundGrid) -> list[_Person]:
        s = self._settings
        tracks = t.TRACKS.rows(inputs.read(t.TRACKS))
        evidence = lip_evidence(
            inputs.read(t.ASD_FRAMES), tracks, heard.probability, s.change_nats, s.mouthing_score, self._weigh
        )
        faces = face_series(inputs)
        moving = speaking_at(evidence)
        now = sync_now(inputs.read(t.SYNC_FRAMES))
        readable = {r.track_id: r.median_face_px >= s.min_sync_face_px for r in tracks}
        against, foreign = {}, {}
        for name, seen in evidence.items():
            against[name] = heard.foreign(name, seen.ks, moving)
            against[name] |= followed_better(name, seen.ks, moving, now, s.min_foreign) & ~heard.on(seen.ks).overlapped
            foreign[name] = against[name] & readable[name]
        evidence = settled(evidence, heard, foreign, s.rival_margin, s.rival_enough)
        speaking = speaking_at(evidence, foreign)
        laugh_rule = LaughRule(s.laughter_heard, s.laughter_smile)
        people = []
        for track in tracks:
            name = track.track_id
            ks, lips, values = evidence[name].ks, evidence[name].lips, evidence[name].score
            face = faces.get(name, NO_FACE)
            sound = heard.on(ks)
            doubted = heard.doubted(name, ks) | (against[name] & (not readable[name]))
            together = np.array([bool(speaking.get(k, set()) - {name}) for k in ks], bool)
            backchannels = heard.backchannels(name, ks)
            laughs = laughing(face, ks, heard.rows, heard.events_on(AudioEventRow.laughter, ks), laugh_rule)
            own = heard.own(name, ks)
            state, reason, confidence = frame_states(
                lips,
                sound,
                own,
                foreign[name],
                backchannels,
                laughs,
                together,
                doubted,
                round(s.near_speech_s * GRID_HZ),
            )
            shortest = {int(x): round(s.min_run_s * GRID_HZ) for x in State}
            shortest[int(State.IDLE)] = round(s.min_idle_s * GRID_HZ)
            shortest[int(State.DISCARD)] = round(s.min_discard_s * GRID_HZ)
            if track.end_s - track.start_s < 1 / GRID_HZ:  # shorter than a frame: nobody can say
                state[:], reason[:], confidence[:] = State.DISCARD, Reason.UNSURE, 0.0
            smoothed = smooth(state, shortest, confidence)
            people.append(_Person(track, ks, values, face.seen(ks), smoothed, state, reason, confidence))
        return people

    @staticmethod
    def _run(person: _Person, a: int, b: int, code: int, heard: SoundGrid) -> TimelineRow:
        return TimelineRow(
            track_id=person.track.track_id,
            source_id=person.track.source_id,
            start_s=_time(person, a),
            end_s=_time(person, b),
            state=State(code).label,
            reason=_reason(person, a, b),
            confidence=float(person.confidence[a:b].mean()),
            partner=heard.partner(person.track.track_id, person.ks[a:b], State(code)),
        )

    def _segment(
        self,
        person: _Person,
        start_s: float,
        end_s: float,
        code: int,
        heard: SoundGrid,
        sync: Mapping[str, SyncRow],
        frozen: set[int],
    ) -> SegmentRow:
        track = person.track
        ks = [k for k in grid_range(Interval(start_s, end_s)) if k in person.ks] or [person.ks[0]]
        at = np.array([k - person.ks[0] for k in ks])
        state = State(code)
        words = [w for w in heard.rows if start_s <= (w.start_s + w.end_s) / 2 < end_s]
        speaking = state in (State.SPEAK, State.LISTEN, State.BOTH)
        own = _own(sync.get(track.track_id))
        here = range(ks[0], ks[-1] + 1)
        partner = heard.partner(track.track_id, here, state)
        sound = heard.on(here)
        return SegmentRow(
            segment_id=f"{track.track_id}-{round(start_s * 1000):08d}",
            source_id=track.source_id,
            shot_id=track.shot_id,
            track_id=track.track_id,
            start_s=start_s,
            end_s=end_s,
            duration_s=end_s - start_s,
            state=state.label,
            reason=_reason(person, int(at[0]), int(at[-1]) + 1),
            category=_category(state, partner, heard, here),
            confidence=float(person.confidence[at].mean()),
            state_ratio=float((person.raw[at] == code).mean()),
            speaker_id=heard.main_speaker(here),
            partner_track_id=track_of(partner),
            partner=partner,
            pair_id=None,
            text=clip_text(heard.words, start_s, end_s) if speaking else "",
            word_probability=float(np.mean([w.probability for w in words])) if words and speaking else None,
            speech_ratio=float(sound.speech.mean()),
            overlap_ratio=float(sound.overlapped.mean()),
            asd_mean=None if np.isnan(person.scores[at]).any() else float(person.scores[at].mean()),
            sync_offset_ms=own.offset_ms if own is not None else None,
            sync_confidence=own.confidence if own is not None else None,
            level_db=heard.level(here),
            music=heard.event(AudioEventRow.music, here),
            singing=heard.event(AudioEventRow.singing, here),
            laughter=heard.event(AudioEventRow.laughter, here),
            noise=heard.event(AudioEventRow.noise, here),
            visible_ratio=float(person.visible[at].mean()),
            median_face_px=track.median_face_px,
            frozen_ratio=sum(k in frozen for k in ks) / len(ks),
            cuts_word=speaking and any(inside_word(heard.words, x) for x in (start_s, end_s)),
        )


def _own(sync: SyncRow | None) -> SyncRow | None:
    # An offset against somebody else's voice means nothing.
    return None if sync is not None and sync.own_voice is not None and sync.own_voice < 0.5 else sync


def _category(state: State, partner: str | None, heard: SoundGrid, here: range) -> str:
    return categorise(
        state,
        other_voices_s=heard.other_voices_s(here),
        partner_in_view=heard.in_view(partner, here),
        partner_answers=heard.answers(here),
    )


def _time(person: _Person, i: int) -> float:
    """Return the time of the i-th border of a track's frames; the outer ones are the track's own."""
    if i <= 0:
        return person.track.start_s
    if i >= len(person.ks):
        return person.track.end_s
    return person.ks[i] / GRID_HZ


def _reason(person: _Person, a: int, b: int) -> str:
    """Return the commonest reason among the frames that have the run's own kind of reason."""
    count = Counter(int(r) for r in person.reason[a:b])
    return Reason(min(count, key=lambda r: (-count[r], r))).label
