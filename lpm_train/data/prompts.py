"""Texts that change inside a clip: the caption, and what the person does at the moment, for each block of latents.

A stream takes new words from one block to the next; training with `data.prompts=timed` shows the model the same: each
block is told what lasts of the caption, and the events that its pictures show; "then turns away" would be wrong in most
blocks. While a person listens it is told the caption alone:
live, nobody knows what a listener will do, and a model that is told would not learn it from what is heard (LPM 1.0's
listener captions hold only what does not change). Texts are made on the clip's own frames, so that all of them can be
encoded once whatever window is cut; but for words (`data.prompt_words`), which fall into blocks as the window
lies. Pure functions of the record; microseconds a clip.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from lpm_train.batch import STATES
from lpm_train.data.clip import frame_states
from schemas.samples.caption import time_words
from schemas.samples.sample import FPS, Sample

_UNSAID = frozenset({"blink", "unknown"})
"""A performance is not directed by them: blinks come by themselves, some twenty a minute."""

_WHOSE = {"gaze": "gaze", "head_motion": "head"}
"""What is to be said before terms such as `left` and `raise`."""

Terms = tuple[str, ...]
"""What happens at a moment, sorted."""

Words = Sequence[tuple[int, str]]
"""The video frame of a word's middle, and the word, in order of time."""


def frame_terms(record: Sample, n_frames: int) -> list[Terms]:
    """Return what the person does in each video frame, by the frame's middle; empty while it only listens."""
    found: list[set[str]] = [set() for _ in range(n_frames)]
    told = frame_states(record)[:n_frames] != STATES.index("listen")
    for e in record.events:
        if e.event in _UNSAID:
            continue
        said = f"{_WHOSE.get(e.kind, '')} {e.event.replace('_', ' ')} {e.direction or ''}".strip()
        first, stop = (math.ceil(at * FPS - 0.5 - 1e-6) for at in (e.start_s, e.end_s))
        for k in range(max(0, first), min(n_frames, stop)):
            found[k].add(said)
    return [tuple(sorted(terms)) if said else () for terms, said in zip(found, told, strict=True)]


def frame_words(record: Sample, n_frames: int) -> Words:
    """Return the recognised words that are said while the person speaks, whoever else may be heard then."""
    speaks = frame_states(record)[:n_frames] & 1
    middles = [(int((w.start_s + w.end_s) / 2 * FPS), w.word.strip()) for w in record.words]
    return sorted((k, word) for k, word in middles if word and 0 <= k < len(speaks) and speaks[k])


def lasting(caption: str) -> str:
    """Leave out the clauses of an English caption that speak of moments; all of it where nothing else is said."""
    sentences = []
    for sentence in re.split(r"(?<=[.!?])\s+", caption.strip()):
        clauses = re.split(r"(?<=[;,])\s+", sentence)
        kept = [clause for clause in clauses if not time_words(clause)]
        if kept:
            sentences.append(" ".join(kept).rstrip(",;.") + ("." if sentence.endswith(".") else ""))
    return " ".join(sentences) or caption


def say(caption: str, terms: Terms) -> str:
    """Put what lasts of a caption and what happens now into one text; the first alone where nothing does."""
    return f"{caption} Now: {', '.join(terms)}.".strip() if terms else caption


def prefix(caption: str, terms_F: Sequence[Terms]) -> str:
    """Return what all texts of a clip begin with: what lasts of its caption, or all of that where nothing is timed."""
    return lasting(caption) if any(terms_F) else caption


def texts_of(caption: str, terms_F: Sequence[Terms]) -> list[str]:
    """Return the distinct texts that a clip's blocks may be given."""
    first = prefix(caption, terms_F)
    return list(dict.fromkeys([first, *(say(first, terms) for terms in terms_F)]))


def block_prompts(
    caption: str, terms_F: Sequence[Terms], spans: Sequence[tuple[int, int]], block: int, most: int, words: Words = ()
) -> tuple[list[str], list[int]]:  # fmt: skip
    """Choose a text for each block of a window.

    A block is told the fullest moment of its pictures, the first of equally full ones. Of more than `most` texts, the
    prefix and those of most blocks are kept, earlier ones first; other blocks are told the prefix alone.

    Args:
        caption: of the clip.
        terms_F: what happens in each video frame of the clip.
        spans: frames [first, stop) of each latent of the window.
        block: latents in a block, from the window's first.
        most: texts at most, the prefix among them.
        words: of the clip, that blocks are to be told besides; a block is told those whose middle lies in it.

    Returns:
        Texts, the prefix first, and the number of the text of each latent.
    """
    caption = prefix(caption, terms_F)
    blocks = [spans[i : i + block] for i in range(0, len(spans), block)]
    within = [(some[0][0], some[-1][1]) for some in blocks]
    said = [say(caption, (*max(terms_F[a:b], key=len), *_quoted(words, a, b))) for a, b in within]
    counts = Counter(text for text in said if text != caption)
    kept = [caption, *sorted(counts, key=lambda text: (-counts[text], said.index(text)))[: most - 1]]
    number = [kept.index(text) if text in kept else 0 for text in said]
    return kept, [number[i // block] for i in range(len(spans))]


def _quoted(words: Words, first: int, stop: int) -> Terms:
    mine = " ".join(word for k, word in words if first <= k < stop)
    return (f'says "{mine}"',) if mine else ()
