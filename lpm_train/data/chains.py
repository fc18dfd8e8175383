"""Chains: a person's packed clips that follow each other in a source, joined in order of time.

A generator that is judged by models and not by data needs sounds, modes, texts and references, and no pictures; so its
rollouts may be as long as the conversation that was packed, where a clip ends after seconds. Nothing is bridged but
short gaps, in which the packed data say nothing and which are given as what training knows best: nobody speaks and
nobody is heard. Pure functions of the manifest; milliseconds for thousands of clips.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

from schemas.samples.sample import FPS

_ROUNDED_S = 1.5 / FPS
"""By so much may a clip begin before the other ends: both are rounded to whole frames."""


class Link(NamedTuple):
    """What joining asks of a clip."""

    source_id: str
    identity_id: str  # empty where nobody knows who it is: such clips are joined to none
    size: tuple[int, int]  # (height, width) that pictures are cut to
    start_s: float  # on the source's clock
    sample_id: str
    n_frames: int


@dataclass(frozen=True)
class Piece:
    """A clip in a chain."""

    sample_id: str
    start: int  # its first frame within the chain
    n_frames: int

    @property
    def stop(self) -> int:
        """The chain's frame after its last."""
        return self.start + self.n_frames


@dataclass(frozen=True)
class Chain:
    """Clips of one person in one source, in order of time; frames between two of them are a gap."""

    pieces: tuple[Piece, ...]
    size: tuple[int, int]

    @property
    def frames(self) -> int:
        """Video frames, gaps included."""
        return self.pieces[-1].stop

    @property
    def gaps(self) -> int:
        """Frames of gaps."""
        return self.frames - sum(p.n_frames for p in self.pieces)

    @property
    def name(self) -> str:
        """What it is called: its first clip, and a hash of all of it, so that another chain has another name."""
        made = hashlib.sha256(repr((self.pieces, self.size)).encode()).hexdigest()[:8]
        return f"{self.pieces[0].sample_id}+{made}"

    def over(self, start: int, stop: int) -> tuple[Piece, ...]:
        """Return the pieces of frames [start, stop), with the one before where they begin in a gap."""
        starts = [p.start for p in self.pieces]
        return self.pieces[bisect_right(starts, start) - 1 : bisect_left(starts, stop)]

    def most_pieces(self, frames: int) -> int:
        """Return how many pieces a window of so many frames can meet at most."""
        latest = [p.start - 1 for p in self.pieces[1:]] + [self.frames - 1]  # starts that still meet each of them
        return max(len(self.over(at, at + frames)) for at in latest)


def join(links: Iterable[Link], gap_s: float) -> list[Chain]:
    """Join clips of one source, person and picture size wherever at most `gap_s` lies between two.

    A clip that begins while another chain of the person still runs (a face in two pictures of one frame) begins a chain
    of its own. A gap is counted in whole frames at each border, so a chain may be off its source's clock by a frame a
    border; inside of a clip both sounds and its modes are in step.

    Returns:
        Every clip in one chain, in an order that does not depend on that of `links`.
    """
    out = []
    for (_, who, size), clips in groupby(sorted(links), key=lambda link: link[:3]):
        open_: list[tuple[list[Piece], float]] = []  # pieces of each chain, and where it ends on the source's clock
        for link in clips:
            end_s = link.start_s + link.n_frames / FPS
            at = next((i for i, (_, e) in enumerate(open_) if -_ROUNDED_S <= link.start_s - e <= gap_s and who), None)
            if at is None:
                open_.append(([Piece(link.sample_id, 0, link.n_frames)], end_s))
                continue
            pieces, before_s = open_[at]
            gap = max(0, round((link.start_s - before_s) * FPS))
            pieces.append(Piece(link.sample_id, pieces[-1].stop + gap, link.n_frames))
            open_[at] = (pieces, end_s)
        out += [Chain(tuple(pieces), size) for pieces, _ in open_]
    return out


def figures(chains: Sequence[Chain], frames: int) -> dict[str, Any]:
    """Say how many chains are at least `frames` long, and what they hold."""
    enough = [c for c in chains if c.frames >= frames]
    held = sum(c.frames for c in enough)
    return {
        "chains": len(chains),
        "long_enough": len(enough),
        "clips": sum(len(c.pieces) for c in enough),
        "seconds": held / FPS,
        "gap_share": sum(c.gaps for c in enough) / max(1, held),
        "longest_s": max((c.frames for c in chains), default=0) / FPS,
    }


def said(found: dict[str, Any], rollout: int, frames: int) -> str:
    """Put the figures of chains into a sentence."""
    held = f": {found['clips']} clips, {found['seconds']:.0f} s, {found['gap_share']:.1%} of it gaps"
    return (
        f"{found['long_enough']} of {found['chains']} chains of clips are long enough for distill.rollout={rollout} "
        f"({frames / FPS:.1f} s){held if found['long_enough'] else ''}; the longest has {found['longest_s']:.1f} s"
    )
