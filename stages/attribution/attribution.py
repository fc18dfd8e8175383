"""Stage `attribution`: bind each diarized voice to the face that speaks while it is heard, over the whole source.

A voice is compared with every face in view, by the faces' active speaker scores and the learned lip-audio sync while
that voice alone is heard. A voice that is two people's (the diarizer takes like voices for one) is first divided by
whose lips follow it when. Lips that move under a voice they do not belong to (dubbing, music video) are not bound.
Of faces seen together a voice has one and a face one voice (the best assignment as a whole, so that of two moving
mouths each gets the voice it fits better); faces never seen together, in other shots or where a track broke within
one, may share a voice. A voice without a face is off screen.
Tables only; costs milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from annotators.lips.lip_signals import STILL_MOUTH
from curation.stage import Gate, GateMode, Grain, Inputs, Outputs, StageSettings, WorkItem
from schemas.table import Table
from schemas.tables import (
    ASD_FRAMES,
    BACKCHANNELS,
    BINDINGS,
    SPEAKERS,
    SYNC_FRAMES,
    TRACKS,
    TURN_TAKING,
    TURNS,
    VOICE_LABELS,
    VOICE_TURNS,
    VOICES,
    WORD_LABELS,
    WORDS,
)
from schemas.tables.attribution import BindingRow, VoiceRow, VoiceTurnRow
from schemas.tables.speech import SpeakerRow, TurnRow
from schemas.tables.tracks import TrackRow
from schemas.time import GRID_HZ, Interval, grid_range, union_s
from stages.attribution.assign import assign, contested
from stages.attribution.labels import with_labels
from stages.attribution.lip_scores import frame_scores
from stages.attribution.split import SplitRule, split_voices
from stages.attribution.sync import Evidence, lag_ms, pair_evidence, sync_frames, usual_lag
from stages.attribution.talk import conversation
from stages.words_said import words_said

Floats = npt.NDArray[np.float64]

_DOUBT_S = 0.5


class AttributionSettings(StageSettings):
    """When a voice is taken to be a face's own."""

    min_strength: float = Field(0.5, ge=0, le=1, description="share of the heard time in which the face must speak")
    min_heard_s: float = Field(0.3, ge=0, description="a voice must be heard so long while the face is seen")
    min_margin: float = Field(1.0, ge=0, description="score by which a face must beat other moving faces in view")
    min_sync_s: float = Field(1.0, ge=0, description="lips moving under a voice so long, and sync counts as evidence")
    min_sync_margin: float = Field(
        3.0, ge=0, description="log-odds by which a face must beat others where sync is known"
    )
    still_mouth: float = Field(STILL_MOUTH, ge=0, description="mouth motion below which lips are still")
    min_split_gain: float = Field(
        6.0,
        gt=0,
        allow_inf_nan=True,
        description="log-odds by which two owners of one diarized voice must beat one; inf = never divide",
    )
    max_unsynced: float = Field(-4.0, le=0, description="log-odds below which lips do not belong to the voice")
    max_unsynced_per_s: float = Field(
        -1.5,
        le=0,
        description="and log-odds a second: what lips lack for the model, they lack all the time. Of 177 windows of "
        "3 s of talkers that the sync model never saw none fell below both, of other people's voices 45 % by spectrum "
        "alone and 96 % with Whisper's features (benchmarks/lip_sync.py)",
    )
    min_unsynced_s: float = Field(
        3.0, ge=0, description="and so much of the voice alone over moving lips; over less it is a doubt"
    )


@dataclass(frozen=True, slots=True)
class Voice:
    """A voice of the source: one of its speakers, or a part of one; and how long it speaks, in seconds."""

    speaker_id: str
    diarized_as: str
    source_id: str
    speech_s: float


class Attribution:
    """Stage: voices and faces of one source."""

    name: ClassVar[str] = "attribution"
    version: ClassVar[int] = 10
    grain: ClassVar[Grain] = "source"
    reads: ClassVar[tuple[Table, ...]] = (
        TRACKS, ASD_FRAMES, SYNC_FRAMES, TURNS, SPEAKERS, WORDS, VOICE_LABELS, WORD_LABELS,
    )  # fmt: skip
    writes: ClassVar[tuple[Table, ...]] = (VOICE_TURNS, BINDINGS, VOICES, BACKCHANNELS, TURN_TAKING)
    gate: ClassVar[Gate | None] = "tracks"
    gate_mode: ClassVar[GateMode] = "together"
    Settings: ClassVar[type[StageSettings]] = AttributionSettings

    def __init__(self, settings: AttributionSettings) -> None:
        self._settings = settings

    def run(self, item: WorkItem, inputs: Inputs) -> Outputs:
        """Bind the voices of one source."""
        tracks, diarized = TRACKS.rows(inputs.read(TRACKS)), TURNS.rows(inputs.read(TURNS))
        heard = solo_frames(diarized)
        scores = frame_scores(inputs.read(ASD_FRAMES), self._settings.still_mouth)
        moving = {track: {k for k, score in seen.items() if score > 0} for track, seen in scores.items()}
        frames = sync_frames(inputs.read(SYNC_FRAMES))
        sync = pair_evidence(frames, heard, moving)
        usual = usual_lag(sync)
        rule = SplitRule(min_gain=self._settings.min_split_gain)
        turns = split_voices(diarized, heard, tracks, scores, frames, usual, rule)
        speakers = _speakers(turns, SPEAKERS.rows(inputs.read(SPEAKERS)))
        if len(speakers) > len({t.speaker_id for t in diarized}):
            heard = solo_frames(turns)
            sync = pair_evidence(frames, heard, moving)
        rows = []
        for speaker in speakers:
            for track in tracks:
                values = _scores_heard(heard.get(speaker.speaker_id, set()), scores.get(track.track_id, {}))
                if len(values):
                    rows.append(
                        self.pair(speaker, track, values, sync.get((speaker.speaker_id, track.track_id)), usual)
                    )
        said = VOICE_LABELS.rows(inputs.read(VOICE_LABELS))
        rows = with_labels(self._bound(rows, tracks), said, turns, tracks)
        talk = conversation(item.source_id, turns, words_said(inputs))
        voices = [_voice(s, rows, talk.share) for s in speakers]
        return Outputs(
            {
                VOICE_TURNS: VOICE_TURNS.from_rows(turns),
                BINDINGS: BINDINGS.from_rows(rows),
                VOICES: VOICES.from_rows(voices),
                BACKCHANNELS: BACKCHANNELS.from_rows(talk.backchannels),
                TURN_TAKING: TURN_TAKING.from_rows([talk.summary]),
            }
        )

    def pair(self, speaker: Voice, track: TrackRow, scores: Floats, found: Evidence | None, usual: int) -> BindingRow:
        """Return the evidence of a pair, not bound, from the track's scores [N >= 1] while the voice is heard.

        The sync columns are null where too little of the voice was heard over moving lips.
        """
        limits = self._settings
        heard_s, spoken_s = len(scores) / GRID_HZ, float((scores > 0).sum()) / GRID_HZ
        sync_s = 0.0 if found is None else found.frames / GRID_HZ
        odds, lag = (None, None) if found is None or sync_s < limits.min_sync_s else found.at(usual)
        doubted = odds is not None and odds < limits.max_unsynced and odds / sync_s < limits.max_unsynced_per_s
        return BindingRow(
            speaker_id=speaker.speaker_id,
            track_id=track.track_id,
            source_id=track.source_id,
            heard_s=heard_s,
            spoken_s=spoken_s,
            asd_mean=float(scores.mean()),
            strength=spoken_s / (heard_s + _DOUBT_S),
            sync_s=sync_s,
            sync_log_odds=odds,
            sync_lag_ms=None if lag is None else lag_ms(lag),
            binding="unsynced" if doubted and sync_s >= limits.min_unsynced_s else "other",
            doubted=doubted,
            bound=False,
        )

    def _bound(self, rows: Sequence[BindingRow], tracks: Sequence[TrackRow]) -> list[BindingRow]:
        """Return the pairs with those bound or contested marked as such."""
        shots = {t.track_id: t.shot_id for t in tracks}
        spans = {t.track_id: Interval(t.start_s, t.end_s) for t in tracks}
        limits = self._settings
        chosen = assign(rows, shots, limits.min_strength, limits.min_heard_s, spans)
        bindings: dict[tuple[str, str], str] = {}
        for pair in chosen:
            disputed = contested(
                pair, chosen, rows, shots, limits.min_margin, limits.min_strength, spans, limits.min_sync_margin
            )
            bindings[pair.speaker_id, pair.track_id] = "contested" if disputed else "bound"
        out = []
        for row in rows:
            binding = bindings.get((row.speaker_id, row.track_id), row.binding)
            out.append(row.but(binding=binding, bound=binding == "bound"))
        return out


def _scores_heard(heard: AbstractSet[int], seen: Mapping[int, float]) -> Floats:
    """Return a face's scores [N] in order of time at the grid points at which a voice is heard."""
    return np.array([seen[k] for k in sorted(heard & seen.keys())])


def _voice(speaker: Voice, rows: Sequence[BindingRow], share: Mapping[str, float]) -> VoiceRow:
    mine = [r for r in rows if r.speaker_id == speaker.speaker_id and r.bound]
    return VoiceRow(
        speaker_id=speaker.speaker_id,
        diarized_as=speaker.diarized_as,
        source_id=speaker.source_id,
        speech_s=speaker.speech_s,
        seen_s=float(sum(r.heard_s for r in mine)),
        off_screen=not mine,
        talk_share=share.get(speaker.speaker_id, 0.0),
    )


def _speakers(turns: Sequence[VoiceTurnRow], diarized: Sequence[SpeakerRow]) -> list[Voice]:
    """Return each voice of `turns` with its speech: the diarized speakers as they are, divided ones by their turns."""
    divided = {t.diarized_as for t in turns if t.speaker_id != t.diarized_as}
    out = [Voice(s.speaker_id, s.speaker_id, s.source_id, s.speech_s) for s in diarized if s.speaker_id not in divided]
    voices = {t.speaker_id: t for t in turns if t.diarized_as in divided}
    for name, turn in voices.items():
        speech_s = union_s(Interval(t.start_s, t.end_s) for t in turns if t.speaker_id == name)
        out.append(Voice(name, turn.diarized_as, turn.source_id, speech_s))
    return sorted(out, key=lambda v: v.speaker_id)


def solo_frames(turns: Sequence[TurnRow | VoiceTurnRow]) -> dict[str, set[int]]:
    """Return per speaker the grid indices at which that voice alone is heard."""
    heard: dict[str, set[int]] = {}
    for t in turns:
        heard.setdefault(t.speaker_id, set()).update(grid_range(Interval(t.start_s, t.end_s)))
    return {
        speaker: ks - set().union(*(other for name, other in heard.items() if name != speaker))
        for speaker, ks in heard.items()
    }
