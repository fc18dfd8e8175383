"""What is heard in a source, frame by frame on its 25 Hz grid: speech, voices and whose they are, noise, words.

Read once from the tables of speech and attribution; everything that a person's states need to know of sound. Plain
lookups: a second of an hour's source and face.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
import numpy.typing as npt

from annotators.sound.audio_events import on_grid
from curation.stage import Inputs
from schemas import tables as t
from schemas.column import Column
from schemas.tables.speech import AudioEventRow, SpeechFrameRow
from schemas.time import GRID_HZ, Interval, grid_range
from stages.attribution.turn_taking import Utterance
from stages.nearest import nearest_index
from stages.pairing.category import voices_in_dialogue
from stages.pairing.segments import SpokenWord
from stages.pairing.states import Bools, Floats, Sound, State, bridged
from stages.words_said import words_said

_SILENCE_DB = -90.0
"""The level of no sound: below the last bit of 16-bit samples."""

_SILENT_FRAMES = GRID_HZ // 5
"""Sound that is gone for so long is no gap that a codec or a noise gate leaves within a word."""

_EVENTS = (AudioEventRow.music, AudioEventRow.singing, AudioEventRow.laughter, AudioEventRow.noise)


class SoundGrid:
    """What is heard in a source, on its grid."""

    def __init__(self, inputs: Inputs, turn_gap: int, pause: int, min_foreign: float) -> None:
        frames = inputs.read(t.SPEECH_FRAMES)
        n = frames.num_rows
        self.probability = np.asarray(SpeechFrameRow.speech.array(frames), np.float32)
        """[n] of speech, on the source's grid"""
        self.damaged = set(np.flatnonzero(SpeechFrameRow.is_damaged.array(frames)).tolist())
        """grid points at which the sound may be wrong"""
        self._level = np.asarray(SpeechFrameRow.level_db.array(frames), np.float32)
        events = inputs.read(t.AUDIO_EVENTS)
        self._events = {e: on_grid(e.array(events), n, GRID_HZ) for e in _EVENTS}
        self._speech = np.zeros(n, bool)
        for stretch in t.SPEECH.rows(inputs.read(t.SPEECH)):
            ks = grid_range(Interval(stretch.start_s, stretch.end_s))
            self._speech[ks.start : ks.stop] = True
        self._speech = bridged(self._speech, pause)
        self._silent = lasting(self._level <= _SILENCE_DB, _SILENT_FRAMES)
        self._voices: list[set[str]] = [set() for _ in range(n)]
        self._backchannels: dict[int, set[str]] = {}
        given = {(r.speaker_id, r.start_s) for r in t.BACKCHANNELS.rows(inputs.read(t.BACKCHANNELS))}
        turns = t.VOICE_TURNS.rows(inputs.read(t.VOICE_TURNS))
        self.turns = [
            Utterance(r.speaker_id, r.start_s, r.end_s) for r in turns if (r.speaker_id, r.start_s) not in given
        ]
        for r in turns:
            backchannel = (r.speaker_id, r.start_s) in given
            for k in grid_range(Interval(r.start_s, r.end_s)):
                if k < n:
                    (self._backchannels.setdefault(k, set()) if backchannel else self._voices[k]).add(r.speaker_id)
        self._answers = voices_in_dialogue(self.turns)
        self._nearest = nearest_voices(self._voices, turn_gap)
        self._spans = {r.track_id: Interval(r.start_s, r.end_s) for r in t.TRACKS.rows(inputs.read(t.TRACKS))}
        self.rows = words_said(inputs)
        self.words = [SpokenWord(r.start_s, r.end_s, r.word, r.speaker_id) for r in self.rows]
        self._owners: dict[str, set[str]] = {}
        self._unsynced: dict[str, set[str]] = {}
        self._doubted: dict[str, set[str]] = {}
        self._sync: dict[tuple[str, str], float] = {}
        self._min_foreign = min_foreign
        for pair in t.BINDINGS.rows(inputs.read(t.BINDINGS)):
            if pair.bound:
                self._owners.setdefault(pair.speaker_id, set()).add(pair.track_id)
            if pair.binding == "unsynced":
                self._unsynced.setdefault(pair.track_id, set()).add(pair.speaker_id)
            if pair.doubted:
                self._doubted.setdefault(pair.track_id, set()).add(pair.speaker_id)
            if pair.sync_log_odds is not None:
                self._sync[pair.speaker_id, pair.track_id] = pair.sync_log_odds

    def on(self, ks: range) -> Sound:
        """Return what is heard on a stretch; silence beyond the end of the sound."""
        overlapped = np.array([len(self._at(k)) > 1 for k in ks], bool)
        silent = _cut(self._silent, ks, beyond=True)
        return Sound(_cut(self._speech, ks), _cut(self.probability, ks), overlapped, silent)

    def one_voice(self, ks: range) -> Bools:
        """Return [T]: exactly one voice is heard."""
        return np.array([len(self._at(k)) == 1 for k in ks], bool)

    def events_on(self, kind: Column[float], ks: range) -> Floats:
        """Return [T] how surely music, singing, laughter or noise (a column of AUDIO_EVENTS) is heard, 0-1."""
        return _cut(self._events[kind], ks)

    def event(self, kind: Column[float], ks: range) -> float | None:
        """Return the mean score of an event over a stretch, None beyond the sound."""
        part = self._events[kind][ks.start : ks.stop]
        return float(part.mean()) if len(part) else None

    def _at(self, k: int) -> set[str]:
        return self._voices[k] if 0 <= k < len(self._voices) else set()

    def own(self, track_id: str, ks: range) -> Bools:
        """Return [T]: a voice bound to this face is heard."""
        return np.array([any(track_id in self._owners.get(v, set()) for v in self._at(k)) for k in ks], bool)

    def foreign(self, track_id: str, ks: range, moving: Mapping[int, set[str]]) -> Bools:
        """Return [T]: every voice heard measurably is not these lips' own.

        Either the lips do not follow it at any lag (dubbing), or those of another face in view that moves its lips
        (`moving`: tracks by grid index) follow it so much better that both cannot. Where sync says too little, and
        where no voice is known, nothing is foreign: two faces that both speak are then taken to speak together.
        In a hole between turns the nearest turn's voice counts: telling voices apart loses some tenths of a second at
        their borders, and two mouths may move there.
        """
        out = np.zeros(len(ks), bool)
        never = self._unsynced.get(track_id, set())
        for i, k in enumerate(ks):
            near = self._nearest[k] if k < len(self._nearest) else set()
            rivals = moving.get(k, set()) - {track_id}
            out[i] = bool(near) and all(v in never or self._belongs(v, rivals, track_id) for v in near)
        return out

    def doubted(self, track_id: str, ks: range) -> Bools:
        """Return [T]: sync speaks against these lips and every voice heard, if over too little time to be believed."""
        against = self._doubted.get(track_id, set())
        near = (self._nearest[k] if against and k < len(self._nearest) else set() for k in ks)
        return np.array([bool(voices) and voices <= against for voices in near], bool)

    def _belongs(self, voice: str, rivals: set[str], track_id: str) -> bool:
        """Say whether a voice is a rival's rather than this face's, by sync; False where either is unknown."""
        mine = self._sync.get((voice, track_id))
        theirs = [self._sync[voice, r] for r in rivals & self._owners.get(voice, set()) if (voice, r) in self._sync]
        return mine is not None and mine < 0 < max(theirs, default=0.0) and max(theirs) - mine >= self._min_foreign

    def backchannels(self, track_id: str, ks: range) -> npt.NDArray[np.bool_]:
        """Return [T]: a voice of this face gives a backchannel, and no other voice of it is heard."""
        mine = {v for v, owners in self._owners.items() if track_id in owners}
        return np.array([bool(self._backchannels.get(k, set()) & mine) and not (self._at(k) & mine) for k in ks], bool)

    def other_voices_s(self, ks: range) -> float:
        """Return the seconds in which another voice than the main one takes part; backchannels do not count."""
        main = self.main_speaker(ks)
        return sum(bool(self._at(k) - {main}) for k in ks) / GRID_HZ if main is not None else 0.0

    def answers(self, ks: range) -> bool:
        """Say whether the voice heard most takes turns with another voice of this source."""
        main = self.main_speaker(ks)
        return main is not None and self._answers.get(main, False)

    def main_speaker(self, ks: range, without: Set[str] = frozenset()) -> str | None:
        """Return the voice heard most, those of `without` aside; None in silence. Ties go to the first voice."""
        count = Counter(v for k in ks for v in sorted(self._at(k) - without))
        return min(count, key=lambda v: (-count[v], v)) if count else None

    def partner(self, track_id: str, ks: range, state: State) -> str | None:
        """Return whom this person listens to: `track:<id>` of the voice's face, else `voice:<speaker_id>`.

        Of several faces the one in view longest, then the one nearest in time (shot and reverse shot). A voice bound
        to this very face is nobody it listens to.
        """
        if state is not State.LISTEN:
            return None
        mine = {v for v, owners in self._owners.items() if track_id in owners}
        voice = self.main_speaker(ks, without=mine)
        if voice is None:
            return None
        here = Interval(ks.start / GRID_HZ, ks.stop / GRID_HZ)

        def far(x: str) -> tuple[float, float, str]:
            span = self._spans[x]
            return (-here.overlap_s(span), max(span.start_s - here.end_s, here.start_s - span.end_s), x)

        nearest = min((x for x in self._owners.get(voice, set()) if x != track_id), key=far, default=None)
        return f"track:{nearest}" if nearest is not None else f"voice:{voice}"

    def in_view(self, partner: str | None, ks: range) -> bool:
        """Say whether a partner's face is in view at the time of a stretch."""
        span = None if partner is None else self._spans.get(partner.removeprefix("track:"))
        return span is not None and span.overlap_s(Interval(ks.start / GRID_HZ, ks.stop / GRID_HZ)) > 0

    def level(self, ks: range) -> float | None:
        """Return the RMS level of a stretch in dBFS, None beyond the sound."""
        part = self._level[ks.start : ks.stop]
        return float(10 * np.log10(np.mean(10 ** (part.astype(np.float64) / 10)))) if len(part) else None


def lasting(mask: Bools, shortest: int) -> Bools:
    """Return the mask without true stretches of fewer than `shortest` frames, but at its ends: those may go on."""
    return ~bridged(~mask, shortest - 1)


def _cut(values: npt.NDArray[Any], ks: range, beyond: float = 0) -> npt.NDArray[Any]:
    out = np.full(len(ks), beyond, values.dtype)
    part = values[ks.start : ks.stop]
    out[: len(part)] = part
    return out


def nearest_voices(voices: Sequence[set[str]], reach: int) -> list[set[str]]:
    """Return the voices at each grid index; where there are none, those of the nearest index at most `reach` away."""
    known = np.flatnonzero([bool(v) for v in voices])
    if not len(known):
        return list(voices)
    best = known[nearest_index(known, np.arange(len(voices)))]
    return [voices[b] if abs(b - i) <= reach else set() for i, b in enumerate(best.tolist())]
