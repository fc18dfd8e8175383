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
import numpy.typing as npt
from pydantic import Field
from scipy.optimize import linear_sum_assignment

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
from stages.attribution_split import METHOD as SPLIT_METHOD
from stages.attribution_split import SplitRule, split_voices
from stages.attribution_sync import Evidence, lag_ms, pair_evidence, sync_frames, usual_lag
from stages.attribution_talk import conversation

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
    min_split_gain: float = Field(
        6.0, gt=0, description="log-odds by which two owners of one diarized voice must beat one; inf = never divide"
    )
    max_unsynced: float = Field(-6.0, le=0, description="log-odds below which lips do not belong to the voice (e^-6)")
    max_unsynced_per_s: float = Field(-1.0, le=0, description="and log-odds a second of evidence")


class Attribution:
    """Stage: voices and faces of one source."""

    name: ClassVar[str] = "attribution"
    version: ClassVar[int] = 5
    unit: ClassVar[Unit] = "source"
    reads: ClassVar[tuple[Table, ...]] = (TRACKS, ASD_FRAMES, SYNC_FRAMES, TURNS, SPEAKERS, WORDS)
    writes: ClassVar[tuple[Table, ...]] = (VOICE_TURNS, BINDINGS, VOICES, BACKCHANNELS, TURN_TAKING)
    gate: ClassVar[Gate | None] = "tracks"
    gate_mode: ClassVar[GateMode] = "set"
    Settings: ClassVar[type[StageSettings]] = AttributionSettings

    def __init__(self, settings: AttributionSettings) -> None:
        self._settings = settings

    @classmethod
    def identity(cls, settings: AttributionSettings) -> Mapping[str, str]:
        """Name the method."""
        return {"binding": "asd-and-sync-assignment", "split": SPLIT_METHOD}

    def run(self, item: WorkItem, inputs: Inputs) -> Outputs:
        """Bind the voices of one source."""
        tracks = inputs.read(TRACKS).to_pylist()
        diarized = inputs.read(TURNS).to_pylist()
        heard = solo_frames(diarized)
        scores = frame_scores(inputs.read(ASD_FRAMES))
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
            return {"sync_s": seconds, "sync_log_odds": None, "sync_lag_ms": None, "verdict": "other"}
        odds, lag = found.at(usual)
        unsynced = odds < limits.max_unsynced and odds / seconds < limits.max_unsynced_per_s
        return {
            "sync_s": seconds,
            "sync_log_odds": odds,
            "sync_lag_ms": lag_ms(lag),
            "verdict": "unsynced" if unsynced else "other",
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


def frame_scores(table: Any) -> dict[str, dict[int, float]]:
    """Return per track the active speaker score at each grid index."""
    out: dict[str, dict[int, float]] = {}
    columns = (table[c].to_pylist() for c in ("track_id", "k", "score"))
    for track_id, k, score in zip(*columns, strict=True):
        out.setdefault(track_id, {})[k] = score
    return out


def contested(
    pair: Mapping[str, Any],
    bound: list[dict[str, Any]],
    rows: list[dict[str, Any]],
    shots: Mapping[str, str],
    min_margin: float,
    min_strength: float,
    spans: Mapping[str, Interval] | None = None,
    min_sync_margin: float = 3.0,
) -> bool:
    """Say whether another face in view moves its lips nearly as well to this voice: then nobody owns it surely.

    Where that face has been given a voice of its own, the exchange of the two is what counts. Faces of one shot that
    are never seen together (`spans`: their times; none given = all are) are no rivals: one person's track may break.
    """
    shot = shots[pair["track_id"]]
    row = {(r["speaker_id"], r["track_id"]): r for r in rows if shots[r["track_id"]] == shot}
    voice_of = {r["track_id"]: r["speaker_id"] for r in bound if shots[r["track_id"]] == shot}
    for (speaker, track), rival in row.items():
        if speaker != pair["speaker_id"] or track == pair["track_id"] or rival["strength"] < min_strength:
            continue
        if not _together(pair["track_id"], track, spans):
            continue
        other = voice_of.get(track)
        exchange: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = [(pair, rival)]
        if other is not None and (other, pair["track_id"]) in row:
            exchange.append((row[other, track], row[other, pair["track_id"]]))
        if _margin(exchange, "sync_log_odds", min_sync_margin) or _margin(exchange, "mean_asd", min_margin):
            continue
        return True
    return False


def _margin(exchange: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], what: str, least: float) -> bool:
    """Say whether the pairs as they are beat the exchanged ones by `least`; False where a measure is missing."""
    if any(own.get(what) is None or rival.get(what) is None for own, rival in exchange):
        return False
    return bool(sum(own[what] - rival[what] for own, rival in exchange) >= least)


def _together(a: str, b: str, spans: Mapping[str, Interval] | None) -> bool:
    return spans is None or spans[a].overlap_s(spans[b]) > 0


def assign(
    rows: list[dict[str, Any]],
    shots: Mapping[str, str],
    min_strength: float,
    min_heard_s: float,
    spans: Mapping[str, Interval] | None = None,
) -> list[dict[str, Any]]:
    """Return the bound pairs: in each shot the one-to-one assignment of voices to faces with the most evidence.

    Evidence of a pair is the sum over heard frames of its mean score, and its sync log-odds; pairs below the limits,
    and those whose lips do not belong to the voice, are out of the question.
    With `spans` (times of the tracks), faces left over then join the voice they fit best, as long as they are never
    seen together with a face that has it.
    """
    out = []
    for shot in sorted(set(shots.values())):
        mine = [r for r in rows if shots[r["track_id"]] == shot]
        good = [
            r
            for r in mine
            if r["strength"] >= min_strength
            and r["heard_s"] >= min_heard_s
            and r["mean_asd"] > 0
            and r.get("verdict") != "unsynced"
        ]
        speakers = sorted({r["speaker_id"] for r in good})
        tracks = sorted({r["track_id"] for r in good})
        value: npt.NDArray[np.float64] = np.zeros((len(speakers), len(tracks)))
        table = {(r["speaker_id"], r["track_id"]): r for r in good}
        for (speaker, track), r in table.items():
            value[speakers.index(speaker), tracks.index(track)] = _value(r)
        chosen = [
            table[speakers[i], tracks[j]]
            for i, j in zip(*linear_sum_assignment(-value), strict=True)
            if (speakers[i], tracks[j]) in table
        ]
        out += chosen if spans is None else [*chosen, *_left_over(good, chosen, spans)]
    return out


_FLOOR = -50.0


def _value(row: Mapping[str, Any]) -> float:
    """Return what a pair is worth: its active speaker score over the time heard, plus its sync log-odds.

    An assignment is found for all voices and faces of a shot together; the floor keeps one pair that is certainly wrong
    from deciding everything.
    """
    sync = row.get("sync_log_odds")
    return float(row["mean_asd"] * row["heard_s"] + (0.0 if sync is None else max(sync, _FLOOR)))


def _left_over(
    good: list[dict[str, Any]], chosen: list[dict[str, Any]], spans: Mapping[str, Interval]
) -> list[dict[str, Any]]:
    """Return pairs of faces without a voice and voices whose faces they are never seen with, best evidence first."""
    taken, found = list(chosen), []
    order = sorted(good, key=lambda r: (-_value(r), r["speaker_id"], r["track_id"]))
    for r in order:
        has_voice = any(x["track_id"] == r["track_id"] for x in taken)
        rivals = [x["track_id"] for x in taken if x["speaker_id"] == r["speaker_id"]]
        if not has_voice and not any(_together(r["track_id"], x, spans) for x in rivals):
            taken.append(r)
            found.append(r)
    return found
