"""What each of two people says and hears, from one recording: the tracks that packed samples hold, as time goes on.

Gains are those of packing (`stages/packing/audio.py`), so a model hears what it heard in training: only the person's
own stretches in the speak track, only the others' in the listen track, the room in both while nobody talks, and short
fades. The sound is decoded in chunks; memory does not grow with the recording.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotators.protocols_speech import SourceSeparator, SpeakerEmbedder
from curation.media.audio import AudioReader
from curation.media.sound import resample
from schemas.samples.sample import FPS, SAMPLES_PER_FRAME
from schemas.time import AUDIO_HZ, PACKED_AUDIO_HZ
from stages.packing.audio import Role, Run, Samples, role_gain
from stages.packing.voices import CONTEXT_S, separated
from workflows.performing.states import Codes, States, runs, states_of, timeline
from workflows.performing.voices import PEOPLE

FADE_S = 0.015
"""`fade_ms` of stage `packing`."""

_NEAR_S = 1.0
"""Runs of a timeline so far from a stretch are looked at for its gains; longer than any fade."""

_VOICE_S = 20.0
"""Speech from which a voice is known, where overlaps are taken apart (the embedder's longest clip)."""

Tracks = Callable[[int, int], tuple[Samples, Samples]]


@dataclass(frozen=True)
class Recording:
    """A stretch of a recording's sound, in frames from its beginning."""

    mixture: AudioReader
    """at 48 kHz, mixed to mono"""
    apart: AudioReader
    """likewise, channel by channel"""
    first: int
    """sample of the recording at which frame 0 begins"""

    def channels(self, first: int, last: int) -> NDArray[np.float32]:
        """Return the sound of samples [first, last) of the stretch, [C, n]."""
        return self.apart.read_samples(self.first + first, self.first + last)

    def mixed(self, first: int, last: int) -> Samples:
        """Return the same mixed to mono, [n]."""
        return self.mixture.read_samples(self.first + first, self.first + last)

    def sound(self, first: int, last: int) -> Samples:
        """Return the mix of frames [first, last)."""
        return self.mixed(first * SAMPLES_PER_FRAME, last * SAMPLES_PER_FRAME)


Voices = Callable[[int, int], Mapping[str, Samples]]
"""(first sample, sample after the last) -> by person, where they are heard, what is heard of them and of whom."""


def one_mixture(recording: Recording) -> Voices:
    """Return the mixture for both."""

    def heard(first: int, last: int) -> Mapping[str, Samples]:
        mix = recording.mixed(first, last)
        return dict.fromkeys(PEOPLE, mix)

    return heard


def a_channel_each(recording: Recording) -> Voices:
    """Return the first channel for a, the second for b."""

    def heard(first: int, last: int) -> Mapping[str, Samples]:
        return dict(zip(PEOPLE, recording.channels(first, last), strict=True))

    return heard


@dataclass
class Apart:
    """The mixture for both, but where both talk at once: there each voice as a separator estimates it.

    An overlap is taken apart whole when its first sample is asked for, and remembered until the next.
    """

    recording: Recording
    overlaps: Sequence[tuple[int, int]]
    """in samples of the stretch, in order and apart"""
    known: Mapping[str, Samples]
    """by person, the voice as a vector"""
    separator: SourceSeparator
    embedder: SpeakerEmbedder
    _last: tuple[int, dict[Role, Samples]] = (-1, {})

    def __call__(self, first: int, last: int) -> Mapping[str, Samples]:
        """Return each person's voice, or the mixture, in samples [first, last)."""
        mix = self.recording.mixed(first, last)
        out = {person: mix.copy() for person in PEOPLE}
        at = max(0, bisect_left(self.overlaps, (first, first)) - 1)
        while at < len(self.overlaps) and self.overlaps[at][0] < last:
            a, b = self.overlaps[at]
            lo, hi = max(a, first), min(b, last)
            if lo < hi:
                estimates = self._estimates(at)
                for person, role in zip(PEOPLE, ("speak", "listen"), strict=True):
                    out[person][lo - first : hi - first] = estimates[role][lo - a : hi - a]  # type: ignore[index]
            at += 1
        return out

    def _estimates(self, number: int) -> dict[Role, Samples]:
        if self._last[0] != number:
            (a, b), margin = self.overlaps[number], round(CONTEXT_S * PACKED_AUDIO_HZ)
            sound = self.recording.mixed(a - margin, b + margin)
            mine, other = ([self.known[person]] for person in PEOPLE)
            here = [(margin, margin + b - a)]
            both = separated(
                sound, PACKED_AUDIO_HZ, here, mine, other, self.separator, self.embedder, FADE_S
            )  # what a says is the speak track of one who is a
            self._last = number, {role: track[margin : margin + b - a] for role, track in both.items()}
        return self._last[1]


def overlaps(heard_T: Codes, least_s: float) -> list[tuple[int, int]]:
    """Return [first, last) in samples of the stretches of at least `least_s` in which both people talk."""
    both = (heard_T & 3) == 3
    spans = ((a * SAMPLES_PER_FRAME, b * SAMPLES_PER_FRAME) for a, b, code in runs(both.astype(np.int8)) if code)
    return [(a, b) for a, b in spans if b - a >= least_s * PACKED_AUDIO_HZ]


def known_voice(recording: Recording, states_T: States, embedder: SpeakerEmbedder) -> Samples | None:
    """Return a person's voice as a vector, from up to 20 s in which they alone speak; None without a second of it."""
    clips, left = [], round(_VOICE_S * AUDIO_HZ)
    for a, b, code in sorted(runs(states_T), key=lambda run: run[0] - run[1]):
        if code == 1 and left > 0:
            some = recording.sound(a, min(b, a + left * FPS // AUDIO_HZ + 1))
            clips.append(resample(some[None], PACKED_AUDIO_HZ, AUDIO_HZ)[0])
            left -= len(clips[-1])
    clip = np.concatenate(clips) if clips else np.zeros(0, np.float32)
    return np.asarray(embedder.embed([clip])[0], np.float32) if len(clip) >= AUDIO_HZ else None


def tracks(voices: Voices, heard_T: Codes, person: str) -> Tracks:
    """Return a person's speak and listen track as a function of frames [first, last), each [frames * 1920]."""
    own, other = person, PEOPLE[1 - PEOPLE.index(person)]
    runs_of = timeline(states_of(heard_T, person))
    starts = [run.start_s for run in runs_of]

    def near(start_s: float, end_s: float) -> Sequence[Run]:
        """Return the runs around a stretch; what the first and last of them lack lies beyond any fade."""
        first = max(0, bisect_left(starts, start_s - _NEAR_S) - 2)
        return runs_of[first : bisect_left(starts, end_s + _NEAR_S) + 2]

    def made(first: int, last: int) -> tuple[Samples, Samples]:
        a, b = first * SAMPLES_PER_FRAME, last * SAMPLES_PER_FRAME
        start_s, some, around = a / PACKED_AUDIO_HZ, voices(a, b), near(a / PACKED_AUDIO_HZ, b / PACKED_AUDIO_HZ)

        def gain(role: Role) -> Samples:
            return role_gain(around, role, start_s, b - a, PACKED_AUDIO_HZ, FADE_S)

        return some[own] * gain("speak"), some[other] * gain("listen")

    return made
