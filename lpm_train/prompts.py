"""Texts that change inside a clip: the caption, and what the person does at the moment, for each block of latents.

A stream takes new words from one block to the next; training with `data.prompts=timed` shows the model the same: each
block is told the caption and the events that its pictures show. While a person listens it is told the caption alone:
live, nobody knows what a listener will do, and a model that is told would not learn it from what is heard (LPM 1.0's
listener captions hold only what does not change). Texts are made on the clip's own frames, so that all of them can be
encoded once whatever window is cut. Pure functions of the record; microseconds a clip.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from lpm_train.batch import STATES
from lpm_train.clip import frame_states
from schemas.sample import FPS, Sample

_UNSAID = frozenset({"blink", "unknown"})
"""A performance is not directed by them: blinks come by themselves, some twenty a minute."""

Terms = tuple[str, ...]
"""What happens at a moment, sorted."""


def frame_terms(record: Sample, n_frames: int) -> list[Terms]:
    """Return what the person does in each video frame, by the frame's middle; empty while it only listens."""
    found: list[set[str]] = [set() for _ in range(n_frames)]
    told = frame_states(record)[:n_frames] != STATES.index("listen")
    for e in record.events:
        if e.event in _UNSAID:
            continue
        said = " ".join(["gaze"] * (e.kind == "gaze") + [e.event.replace("_", " ")] + [e.direction or ""]).strip()
        first, stop = (math.ceil(at * FPS - 0.5 - 1e-6) for at in (e.start_s, e.end_s))
        for k in range(max(0, first), min(n_frames, stop)):
            found[k].add(said)
    return [tuple(sorted(terms)) if said else () for terms, said in zip(found, told, strict=True)]


def say(caption: str, terms: Terms) -> str:
    """Put a caption and what happens now into one text; the caption alone where nothing does."""
    return f"{caption} Now: {', '.join(terms)}.".strip() if terms else caption


def texts_of(caption: str, terms_F: Sequence[Terms]) -> list[str]:
    """Return the distinct texts that a clip's blocks may be given, the caption first."""
    return list(dict.fromkeys([caption, *(say(caption, terms) for terms in terms_F)]))


def block_prompts(
    caption: str, terms_F: Sequence[Terms], spans: Sequence[tuple[int, int]], block: int, most: int
) -> tuple[list[str], list[int]]:
    """Choose a text for each block of a window.

    A block is told the fullest moment of its pictures, the first of equally full ones. Of more than `most` texts, the
    caption and those of most blocks are kept, earlier ones first; other blocks are told the caption.

    Args:
        caption: of the clip, for blocks in which nothing happens.
        terms_F: what happens in each video frame of the clip.
        spans: frames [first, stop) of each latent of the window.
        block: latents in a block, from the window's first.
        most: texts at most, the caption among them.

    Returns:
        Texts, the caption first, and the number of the text of each latent.
    """
    blocks = [spans[i : i + block] for i in range(0, len(spans), block)]
    said = [say(caption, max(terms_F[some[0][0] : some[-1][1]], key=len)) for some in blocks]
    counts = Counter(text for text in said if text != caption)
    kept = [caption, *sorted(counts, key=lambda text: (-counts[text], said.index(text)))[: most - 1]]
    number = [kept.index(text) if text in kept else 0 for text in said]
    return kept, [number[i // block] for i in range(len(spans))]
