"""What is heard in a source, frame by frame on its 25 Hz grid: speech, voices and whose they are, noise, words.

Read once from the tables of speech and attribution; everything that a person's states need to know of sound. Plain
lookups: a second of an hour's source and face.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from annotators.audio_events import EVENTS, on_grid
from annotators.lip_signals import moving_mean
from curation.stage import Inputs
from schemas import tables as t
from schemas.time import GRID_HZ, Interval, grid_range
from stages.pairing_category import voices_in_dialogue
from stages.pairing_segments import SpokenWord
from stages.pairing_states import Bools, Floats, Sound, State
from stages.turn_taking import Utterance


class Heard:
    """What is heard in a source, on its grid."""

    def __init__(self, inputs: Inputs, mask_margin_db: float, turn_gap: int) -> None:
        frames = inputs.read(t.SPEECH_FRAMES)
        n = frames.num_rows
        self._probability = np.asarray(frames["speech"].to_numpy(), np.float32)
        self._level = np.asarray(frames["level_db"].to_numpy(), np.float32)
        events = inputs.read(t.AUDIO_EVENTS)
        self._events = {e: on_grid(events[e].to_numpy(), n, GRID_HZ) for e in EVENTS}
        self._speech = np.zeros(n, bool)
        for r in inputs.read(t.SPEECH).to_pylist():
            ks = grid_range(Interval(r["start_s"], r["end_s"]))
            self._speech[ks.start : ks.stop] = True
        self._voices: list[set[str]] = [set() for _ in range(n)]
        self._nods: dict[int, set[str]] = {}
        nods = {(r["speaker_id"], r["start_s"]) for r in inputs.read(t.BACKCHANNELS).to_pylist()}
        self.turns = [
            Utterance(r["speaker_id"], r["start_s"], r["end_s"])
            for r in inputs.read(t.VOICE_TURNS).to_pylist()
            if (r["speaker_id"], r["start_s"]) not in nods
        ]
        for r in inputs.read(t.VOICE_TURNS).to_pylist():
            nod = (r["speaker_id"], r["start_s"]) in nods
            for k in grid_range(Interval(r["start_s"], r["end_s"])):
                if k < n:
                    (self._nods.setdefault(k, set()) if nod else self._voices[k]).add(r["speaker_id"])
        self._answers = voices_in_dialogue(self.turns)
        self._nearest = nearest_voices(self._voices, turn_gap)
        self._masked = masked_frames(self._speech, self._level, mask_margin_db)
        self._spans = {r["track_id"]: Interval(r["start_s"], r["end_s"]) for r in inputs.read(t.TRACKS).to_pylist()}
        self.rows: Sequence[dict[str, Any]] = inputs.read(t.WORDS).to_pylist()
        self.words = [SpokenWord(r["start_s"], r["end_s"], r["word"]) for r in self.rows]
        self._owners: dict[str, set[str]] = {}
        self._unsynced: dict[str, set[str]] = {}
        for r in inputs.read(t.BINDINGS).to_pylist():
            if r["bound"]:
                self._owners.setdefault(r["speaker_id"], set()).add(r["track_id"])
            if r["verdict"] == "unsynced":
                self._unsynced.setdefault(r["track_id"], set()).add(r["speaker_id"])

    def on(self, ks: range) -> Sound:
        """Return what is heard on a stretch; silence beyond the end of the sound."""
        overlapped = np.array([len(self._at(k)) > 1 for k in ks], bool)
        return Sound(_cut(self._speech, ks), _cut(self._probability, ks), overlapped, _cut(self._masked, ks))

    def events_on(self, name: str, ks: range) -> Floats:
        """Return [T] how surely one of the sound's `EVENTS` is heard, 0-1."""
        return _cut(self._events[name], ks)

    def event(self, name: str, ks: range) -> float | None:
        """Return the mean score of an event over a stretch, None beyond the sound."""
        part = self._events[name][ks.start : ks.stop]
        return float(part.mean()) if len(part) else None

    def _at(self, k: int) -> set[str]:
        return self._voices[k] if 0 <= k < len(self._voices) else set()

    def ownership(
        self, track_id: str, ks: range, moving: Mapping[int, set[str]]
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Return [T]: a voice of this face is heard; and: every voice heard is another moving face's, or contested.

        A voice that measurably does not belong to these lips (dubbing) is foreign to them too. A voice that nobody
        owns, while several faces in view move their lips, is contested: no face may claim it.
        `moving` names the tracks whose lips move at a grid index. In a hole between turns the nearest turn's voice
        counts: telling voices apart loses some tenths of a second at their borders, and two mouths may move there.
        """
        own, foreign = np.zeros(len(ks), bool), np.zeros(len(ks), bool)
        for i, k in enumerate(ks):
            near = self._nearest[k] if k < len(self._nearest) else set()
            owners = [self._owners.get(v, set()) for v in near]
            own[i] = any(track_id in self._owners.get(v, set()) for v in self._at(k))
            rivals = moving.get(k, set()) - {track_id}
            never = self._unsynced.get(track_id, set())
            foreign[i] = bool(near) and all(
                v in never or ((rivals & o) if o else rivals) for v, o in zip(near, owners, strict=True)
            )
        return own, foreign

    def nods(self, track_id: str, ks: range) -> npt.NDArray[np.bool_]:
        """Return [T]: a voice of this face gives a backchannel, and no other voice of it is heard."""
        mine = {v for v, owners in self._owners.items() if track_id in owners}
        return np.array([bool(self._nods.get(k, set()) & mine) and not (self._at(k) & mine) for k in ks], bool)

    def other_voices_s(self, ks: range) -> float:
        """Return the seconds in which another voice than the main one takes part; backchannels do not count."""
        main = self.main_speaker(ks)
        return sum(bool(self._at(k) - {main}) for k in ks) / GRID_HZ if main is not None else 0.0

    def answers(self, ks: range) -> bool:
        """Say whether the voice heard most takes turns with another voice of this source."""
        main = self.main_speaker(ks)
        return main is not None and self._answers.get(main, False)

    def main_speaker(self, ks: range) -> str | None:
        """Return the voice heard most, None in silence; ties go to the first voice."""
        count = Counter(v for k in ks for v in sorted(self._at(k)))
        return min(count, key=lambda v: (-count[v], v)) if count else None

    def partner(self, track_id: str, ks: range, state: State) -> str | None:
        """Return whom this person listens to: `track:<id>` of the voice's face, else `voice:<speaker_id>`.

        Of several faces the one in view longest, then the one nearest in time (shot and reverse shot).
        """
        if state is not State.LISTEN:
            return None
        voice = self.main_speaker(ks)
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


def _cut(values: npt.NDArray[Any], ks: range) -> npt.NDArray[Any]:
    out = np.zeros(len(ks), values.dtype)
    part = values[ks.start : ks.stop]
    out[: len(part)] = part
    return out


def masked_frames(speech: Bools, level_db: Floats, margin_db: float) -> Bools:
    """Return [T] frames without speech that are about as loud as the speech is: noise may cover a voice there.

    Loudness is the mean level of half a second (13 frames; fewer at the ends), speech's the median of its frames.
    """
    if not speech.any():
        return np.zeros(len(speech), bool)
    usual = float(np.median(level_db[speech]))
    smoothed = moving_mean(level_db, 13)
    return np.asarray(~speech & (smoothed >= usual - margin_db) & (usual > -60.0))


def nearest_voices(voices: Sequence[set[str]], reach: int) -> list[set[str]]:
    """Return the voices at each grid index; where there are none, those of the nearest index at most `reach` away."""
    known = np.flatnonzero([bool(v) for v in voices])
    if not len(known):
        return list(voices)
    at = np.arange(len(voices))
    right = known[np.clip(np.searchsorted(known, at), 0, len(known) - 1)]
    left = known[np.clip(np.searchsorted(known, at, side="right") - 1, 0, len(known) - 1)]
    best = np.where(np.abs(at - left) <= np.abs(right - at), left, right)
    return [voices[b] if abs(b - i) <= reach else set() for i, b in enumerate(best.tolist())]
