"""Whose voice is where in a clip: own and others' turns sample by sample, wrong energy, and overlaps taken apart.

Time-gating by state gives each sound track its own person's or its partner's stretches. Where both talk at once the
mixture stays in both tracks, unless a separation model is configured; either way a score says how much of a track's
energy lies where the wrong voice is heard. Arithmetic on a clip's samples: a millisecond; a separator costs its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from annotators.protocols_speech import SourceSeparator, SpeakerEmbedder
from curation.media.sound import resample
from curation.stage import Inputs
from schemas.tables import BINDINGS, SPEAKERS, VOICE_TURNS
from schemas.tables.pairing import SegmentRow
from schemas.time import AUDIO_HZ, Interval
from stages.packing.audio import Role, Samples

Bools = npt.NDArray[np.bool_]

CONTEXT_S = 0.5
"""Sound on both sides of an overlap that a separator hears with it (seconds)."""


@dataclass(frozen=True)
class Voices:
    """The voices of one source: turns, owners by track, and embeddings of the speakers."""

    turns: Sequence[tuple[str, Interval]] = ()
    own: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """track_id -> voices bound to that face"""
    embeddings: Mapping[str, Samples] = field(default_factory=dict)

    @staticmethod
    def of(inputs: Inputs) -> Voices:
        """Read VOICE_TURNS, BINDINGS and SPEAKERS."""
        turns = VOICE_TURNS.rows(inputs.read(VOICE_TURNS))
        speakers = SPEAKERS.rows(inputs.read(SPEAKERS))
        known = {s.speaker_id: np.asarray(s.embedding, np.float32) for s in speakers if len(s.embedding)}
        diarized_as = {r.speaker_id: r.diarized_as for r in turns}
        own: dict[str, set[str]] = {}
        for pair in BINDINGS.rows(inputs.read(BINDINGS)):
            if pair.bound:
                own.setdefault(pair.track_id, set()).add(pair.speaker_id)
        return Voices(
            [(r.speaker_id, Interval(r.start_s, r.end_s)) for r in turns],
            {track: frozenset(v) for track, v in own.items()},
            {voice: known[name] for voice, name in diarized_as.items() if name in known},
        )

    def of_segment(self, segment: SegmentRow) -> frozenset[str]:
        """Return the voices of a segment's person; where none is bound, the main voice of what they speak."""
        bound = self.own.get(segment.track_id, frozenset())
        if bound or segment.state not in ("speak", "both") or segment.speaker_id is None:
            return bound
        return frozenset({segment.speaker_id})

    def masks(self, own: frozenset[str], first: int, n: int, rate_hz: int) -> tuple[Bools, Bools]:
        """Return ([n], [n]): the person's own voice is in its turn; another voice is. Sample 0 is `first` at rate."""
        mine, others = np.zeros(n, bool), np.zeros(n, bool)
        for speaker, span in self.turns:
            a, b = (min(n, max(0, round(at * rate_hz) - first)) for at in (span.start_s, span.end_s))
            (mine if speaker in own else others)[a:b] = True
        return mine, others


def wrong_energy(track: Samples, role: Role, own: Bools, others: Bools) -> float | None:
    """Return the share [0, 1] of a track's energy where the wrong voice is heard; None for digital silence.

    Wrong in the speak track are the others, in the listen track the person's own voice. Overlapped speech counts
    whole, so this is an upper bound of what is really left.
    """
    power = np.square(track, dtype=np.float64)
    total = float(power.sum())
    return float(power[others if role == "speak" else own].sum()) / total if total > 0 else None


def stretches(mask: Bools, least: int = 1) -> list[tuple[int, int]]:
    """Return [first, last) of the stretches of at least `least` samples in which a mask [n] is true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2) if b - a >= least]


def separated(
    sound: Samples,
    rate_hz: int,
    overlaps: Sequence[tuple[int, int]],
    own: Sequence[Samples],
    others: Sequence[Samples],
    separator: SourceSeparator,
    embedder: SpeakerEmbedder,
    fade_s: float,
) -> dict[Role, Samples]:
    """Return the sound [N] for each track, with the given overlaps replaced by separated voices.

    `own`, `others`: embeddings of the person's and the other voices; an estimate belongs to whom it resembles more.
    Overlaps are joined to the mixture by linear cross-fades of `fade_s`, so that energy does not jump.
    """
    out: dict[Role, Samples] = {"speak": sound.copy(), "listen": sound.copy()}
    margin, fade = round(CONTEXT_S * rate_hz), max(1, round(fade_s * rate_hz))
    for a, b in overlaps:
        lo, hi = max(0, a - margin), min(len(sound), b + margin)
        parts = separator.separate(resample(sound[None, lo:hi], rate_hz, separator.rate_hz)[0])
        back = resample(np.asarray(parts, np.float32), separator.rate_hz, rate_hz)[:, : hi - lo]
        back = np.pad(back, ((0, 0), (0, hi - lo - back.shape[1])))
        mine = _belongs(back, rate_hz, own, others, embedder)
        ramp = np.minimum(1.0, np.minimum(np.arange(b - a) + 1, np.arange(b - a, 0, -1)) / fade).astype(np.float32)
        estimates: dict[Role, Samples] = {"speak": back[mine].sum(axis=0), "listen": back[~mine].sum(axis=0)}
        for role, estimate in estimates.items():
            out[role][a:b] = (1 - ramp) * sound[a:b] + ramp * estimate[a - lo : b - lo]
    return out


def _belongs(
    parts_SN: Samples, rate_hz: int, own: Sequence[Samples], others: Sequence[Samples], embedder: SpeakerEmbedder
) -> Bools:
    """Return [S]: the estimate sounds more like the person than like anybody else."""
    voices = embedder.embed(list(resample(parts_SN, rate_hz, AUDIO_HZ)))

    def nearest(known: Sequence[Samples]) -> npt.NDArray[np.floating[Any]]:
        return np.max([voices @ k for k in known], axis=0) if known else np.full(len(voices), -1.0)

    return np.asarray(nearest(own) > nearest(others), bool)
