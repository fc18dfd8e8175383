"""Rows that tell how a source's conversation goes: backchannels and turn-taking, from turns and words. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schemas.tables.attribution import BackchannelRow, TurnTakingRow, VoiceTurnRow
from schemas.tables.speech import WordRow
from stages.attribution.turn_taking import Utterance, backchannels, measure

_METHOD = "short-utterance-rule"


@dataclass(frozen=True, slots=True)
class Talk:
    """BACKCHANNELS rows, the TURN_TAKING row, and each voice's share of the talk."""

    backchannels: list[BackchannelRow]
    summary: TurnTakingRow
    share: Mapping[str, float]


def conversation(source_id: str, turns: Sequence[VoiceTurnRow], words: Sequence[WordRow]) -> Talk:
    """Measure one source: its VOICE_TURNS and WORDS rows in, rows out."""
    ordered = sorted(words, key=lambda w: w.start_s)
    starts = [w.start_s for w in ordered]
    spoken = []
    for turn in turns:
        # Words may begin a little before the turn that holds their middle.
        near = ordered[bisect_left(starts, turn.start_s - 2.0) : bisect_left(starts, turn.end_s)]
        spoken.append([w for w in near if turn.start_s <= (w.start_s + w.end_s) / 2 < turn.end_s])
    utterances = [
        Utterance(turn.speaker_id, turn.start_s, turn.end_s, len(said))
        for turn, said in zip(turns, spoken, strict=True)
    ]
    rows = [
        BackchannelRow(
            source_id=source_id,
            speaker_id=utterances[i].speaker,
            start_s=utterances[i].start_s,
            end_s=utterances[i].end_s,
            n_words=len(spoken[i]),
            text=" ".join(w.word or "…" for w in spoken[i]),
            annotator=_METHOD,
        )
        for i in backchannels(utterances)
    ]
    found = measure(utterances)
    summary = TurnTakingRow(
        source_id=source_id,
        n_voices=len(found.talk_share),
        n_turns=found.n_turns,
        n_transfers=found.n_transfers,
        gap_median_s=found.gap_median_s,
        overlap_ratio=found.overlap_ratio,
        backchannels_per_min=found.backchannels_per_min,
        top_share=max(found.talk_share.values(), default=0.0),
    )
    return Talk(rows, summary, found.talk_share)
