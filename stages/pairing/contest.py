"""Whose lips speak where one voice alone is heard and several faces' lips move: one voice has one mouth. Pure.

Evidence of a face is weighed by itself, so a listener who laughs, chews or breathes in to answer may seem to speak
beside the speaker. Of faces whose lips seem to speak at once under one voice, those that are clearly less likely than
the likeliest one, and not very likely by themselves, are taken to be silent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from annotators.lips.lip_signals import moving_mean
from stages.pairing.lips import FaceEvidence
from stages.pairing.sound_grid import SoundGrid

Bools = npt.NDArray[np.bool_]

_FRAMES = 15


def speaking_at(
    evidence: Mapping[str, FaceEvidence], foreign: Mapping[str, Bools] | None = None
) -> dict[int, set[str]]:
    """Return the tracks whose lips seem to speak, by grid point; not where the voice is `foreign` [T] to them."""
    out: dict[int, set[str]] = {}
    for name, face in evidence.items():
        speaks = face.lips.speaks if foreign is None else face.lips.speaks & ~foreign[name]
        for i in np.flatnonzero(speaks):
            out.setdefault(face.ks[int(i)], set()).add(name)
    return out


def settled(
    evidence: Mapping[str, FaceEvidence], heard: SoundGrid, foreign: Mapping[str, Bools], margin: float, enough: float
) -> dict[str, FaceEvidence]:
    """Return the evidence without the speech of lips that another face's outdo under one voice.

    Where the voice is bound to a face, or measurably is not its own (`foreign` [T]), that decides and not the contest.
    `margin` and `enough` are as for `Contest`.
    """
    contest = Contest(evidence, margin, enough)
    out = {}
    for name, face in evidence.items():
        lost = contest.outdone(name, face.ks) & heard.one_voice(face.ks)
        lost &= ~heard.own(name, face.ks) & ~foreign[name]
        out[name] = replace(face, lips=replace(face.lips, speaks=face.lips.speaks & ~lost))
    return out


class Contest:
    """The likeliest speaking face at each grid point of a source, by log-odds over 0.6 s."""

    def __init__(self, evidence: Mapping[str, FaceEvidence], margin: float, enough: float) -> None:
        """Take the evidence of all tracks by name.

        Less likely than another face by `margin` nats, and below log-odds of `enough` nats, a face is not the one that
        is heard. Two people who do talk at once, and whom the diarizer takes for one voice, are mostly both above it.
        """
        self._margin, self._enough = margin, enough
        self._odds = {name: _smooth(e.lips.log_odds) for name, e in evidence.items()}
        self._best = np.full(max((e.ks.stop for e in evidence.values()), default=0), -np.inf)
        for name, e in evidence.items():
            at = slice(e.ks.start, e.ks.stop)
            self._best[at] = np.maximum(self._best[at], np.where(e.lips.speaks, self._odds[name], -np.inf))

    def outdone(self, name: str, ks: range) -> Bools:
        """Return [T]: another face in view is the likelier speaker, and this one is not very likely to be one too."""
        mine = self._odds[name]
        return np.asarray((self._best[ks.start : ks.stop] - mine > self._margin) & (mine < self._enough), np.bool_)


def _smooth(log_odds: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    return np.asarray(moving_mean(np.nan_to_num(log_odds.astype(np.float64)), _FRAMES), np.float64)
