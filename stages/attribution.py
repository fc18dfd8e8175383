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
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from curation.stage import Gate, GateMode, Inputs, Outputs, StageSettings, Unit, WorkItem
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
    VOICE_TURNS,
    VOICES,
    WORDS,
)
from schemas.time import GRID_HZ, Interval, grid_range, union_s
from stages.attribution_assign import assign, contested
from stages.attribution_split import SplitRule, split_voices
from stages.attribution_sync import Evidence, lag_ms, pair_evidence, sync_frames, usual_lag
from stages.attribution_talk import conversation
from stages.lip_scores import STILL_MOUTH, frame_scores

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
        6.0, gt=0, description="log-odds by which two owners of one diarized voice must beat one; inf = never divide"
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


class Attribution:
    """Stage: voices and faces of one source."""

    name: ClassVar[str] = "attribution"
    version: ClassVar[int] = 9
    unit: ClassVar[Unit] = "source"
    reads: ClassVar[tuple[Table, ...]] = (TRACKS, ASD_FRAMES, SYNC_FRAMES, TURNS, SPEAKERS, WORDS)
    writes: ClassVar[tuple[Table, ...]] = (VOICE_TURNS, BINDINGS, VOICES, BACKCHANNELS, TURN_TAKING)
    gate: ClassVar[Gate | None] = "tracks"
    gate_mode: ClassVar[GateMode] = "set"
    Settings: ClassVar[type[StageSettings]] = AttributionSettings

    def __init__(self, settings: AttributionSettings) -> None:
        self._settings = settings

    def run(self, item: WorkItem, inputs: Inputs) -> Outputs:
        """Bind the voices of one source."""
        tracks = inputs.read(TRACKS).to_pylist()
        diarized = inputs.read(TURNS).to_pylist()
        heard = solo_frames(diarized)
        scores = frame_scores(inputs.read(ASD_FRAMES), self._settings.still_mouth)
        moving = {track: {k for k, score in seen.items() if score > 0} for track, seen in scores.items()}
        frames = sync_frames(inputs.read(SYNC_FRAMES))
        sync = pair_evidence(frames, heard, moving)
        usual = usual_lag(sync)
        rule = SplitRule(min_gain=self._settings.min_split_gain)
        turns = split_voices(diarized, heard, tracks, scores, frames, usual, rule)
        speakers = _speakers(turns, inputs.read(SPEAKERS).to_pylist())
        if len(speakers) > len({t["speaker_id"] for t in diarized}):
            heard = solo_frames(turns)
            sync = pair_evidence(frames, heard, moving)
        rows = []
        for speaker in speakers:
            for track in tracks:
                row = self._evidence(speaker, track, heard, scores)
                if row is not None:
                    rows.append(row | self._sync(sync.get((speaker["speaker_id"], track["track_id"])), usual))
        shots = {t["track_id"]: t["shot_id"] for t in tracks}
        spans = {t["track_id"]: Interval(t["start_s"], t["end_s"]) for t in tracks}
        limits = self._settings
        bound = assign(rows, shots, limits.min_strength, limits.min_heard_s, spans)
        for pair in bound:
            disputed = contested(
                pair, bound, rows, shots, limits.min_margin, limits.min_strength, spans, limits.min_sync_margin
            )
            pair["bound"] = not disputed
            pair["verdict"] = "contested" if disputed else "bound"
        talk = conversation(item.source_id, turns, inputs.read(WORDS).to_pylist())
        voices = [self._voice(s, rows, talk.share) for s in speakers]
        return Outputs(
            {
                VOICE_TURNS: VOICE_TURNS.from_rows(turns),
                BINDINGS: BINDINGS.from_rows(rows),
                VOICES: VOICES.from_rows(voices),
                BACKCHANNELS: BACKCHANNELS.from_rows(talk.backchannels),
                TURN_TAKING: TURN_TAKING.from_rows([talk.summary]),
            }
        )

    def _sync(self, found: Evidence | None, usual: int) -> dict[str, Any]:
        """Return the sync columns of a pair; nulls where too little of the voice was heard over moving lips."""
        limits = self._settings
        seconds = 0.0 if found is None else found.frames / GRID_HZ
        if found is None or seconds < limits.min_sync_s:
            nothing = {"sync_log_odds": None, "sync_lag_ms": None, "doubted": False}
            return {"sync_s": seconds, **nothing, "verdict": "other"}
        odds, lag = found.at(usual)
        doubted = odds < limits.max_unsynced and odds / seconds < limits.max_unsynced_per_s
        return {
            "sync_s": seconds,
            "sync_log_odds": odds,
            "sync_lag_ms": lag_ms(lag),
            "doubted": doubted,
            "verdict": "unsynced" if doubted and seconds >= limits.min_unsynced_s else "other",
        }

    @staticmethod
    def _evidence(
        speaker: Mapping[str, Any],
        track: Mapping[str, Any],
        heard: Mapping[str, set[int]],
        scores: Mapping[str, dict[int, float]],
    ) -> dict[str, Any] | None:
        seen = scores.get(track["track_id"], {})
        values = np.array([seen[k] for k in sorted(heard.get(speaker["speaker_id"], set()) & seen.keys())])
        if not len(values):
            return None
        heard_s, spoken_s = len(values) / GRID_HZ, float((values > 0).sum()) / GRID_HZ
        return {
            "speaker_id": speaker["speaker_id"],
            "track_id": track["track_id"],
            "source_id": track["source_id"],
            "heard_s": heard_s,
            "spoken_s": spoken_s,
            "mean_asd": float(values.mean()),
            "strength": spoken_s / (heard_s + _DOUBT_S),
            "bound": False,
        }

    @staticmethod
    def _voice(speaker: Mapping[str, Any], rows: list[dict[str, Any]], share: Mapping[str, float]) -> dict[str, Any]:
        mine = [r for r in rows if r["speaker_id"] == speaker["speaker_id"] and r["bound"]]
        return {
            "speaker_id": speaker["speaker_id"],
            "diarized_as": speaker["diarized_as"],
            "source_id": speaker["source_id"],
            "speech_s": speaker["speech_s"],
            "seen_s": float(sum(r["heard_s"] for r in mine)),
            "off_screen": not mine,
            "talk_share": share.get(speaker["speaker_id"], 0.0),
        }


def _speakers(turns: Sequence[Mapping[str, Any]], diarized: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return each voice of `turns` with its speech: the diarized speakers as they are, divided ones by their turns."""
    divided = {t["diarized_as"] for t in turns if t["speaker_id"] != t["diarized_as"]}
    out = [dict(s) | {"diarized_as": s["speaker_id"]} for s in diarized if s["speaker_id"] not in divided]
    voices = {t["speaker_id"]: t for t in turns if t["diarized_as"] in divided}
    for voice, turn in voices.items():
        speech_s = union_s(Interval(t["start_s"], t["end_s"]) for t in turns if t["speaker_id"] == voice)
        out.append(dict(turn) | {"speech_s": speech_s})
    return sorted(out, key=lambda s: s["speaker_id"])


def solo_frames(turns: Sequence[Mapping[str, Any]]) -> dict[str, set[int]]:
    """Return per speaker the grid indices at which that voice alone is heard."""
    heard: dict[str, set[int]] = {}
    for t in turns:
        heard.setdefault(t["speaker_id"], set()).update(grid_range(Interval(t["start_s"], t["end_s"])))
    return {
        speaker: ks - set().union(*(other for name, other in heard.items() if name != speaker))
        for speaker, ks in heard.items()
    }
