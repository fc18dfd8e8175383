"""What people said of words and cuts, laid over what was found: pure functions on plain stretches, the oldest first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from schemas.tables.labels import CutLabelRow, WordLabelRow
from schemas.tables.speech import WordRow

LABELLED = "human_label"
"""The annotator of what a person put in or changed."""


def reworded(words: Sequence[list[Any]], said: Iterable[Sequence[Any]]) -> list[list[Any]]:
    """Return words [start_s, end_s, text, ...] corrected by stretches (start_s, end_s, text).

    Of the words whose middle lies in a stretch the first takes its text, and the others go; all go where the text is
    None. Where no word is, one is put in with the stretch's own time, and None for what else a word has.
    """
    out = list(words)
    width = len(words[0]) if words else 4
    for start_s, end_s, text in said:
        inside = [i for i, w in enumerate(out) if start_s <= (w[0] + w[1]) / 2 <= end_s]
        new: list[list[Any]] = []
        if text is not None and inside:
            first = out[inside[0]]
            # To the latest end, which may not be the last word's: so its middle lies in the stretch as theirs do.
            new = [[first[0], max(out[i][1] for i in inside), text, *first[3:]]]
        elif text is not None:
            new = [[start_s, end_s, text, *([None] * (width - 3))]]
        out = sorted([*(w for i, w in enumerate(out) if i not in inside), *new], key=lambda w: float(w[0]))
    return out


def said_words(words: Sequence[WordRow], labels: Sequence[WordLabelRow]) -> list[WordRow]:
    """Return recognised words with people's corrections laid over them, in order of time, numbered anew.

    A corrected word is certain; one that was put in takes the voice and the language of the word before it.
    """
    if not labels:
        return list(words)
    rows: list[list[Any]] = [[w.start_s, w.end_s, w.word, w] for w in words]
    oldest = sorted(labels, key=lambda x: (x.labelled_at, x.label_id))
    laid = reworded(rows, [(x.start_s, x.end_s, x.word) for x in oldest])
    out: list[WordRow] = []
    for n, (start_s, end_s, text, was) in enumerate(laid):
        if was is not None and (was.word, was.start_s, was.end_s) == (text, start_s, end_s):
            out.append(was.but(n=n))
            continue
        like = was or (out[-1] if out else words[0] if words else None)
        heard = WordRow(
            source_id=labels[0].source_id, n=n, start_s=start_s, end_s=end_s, word=text, guess=text or "",
            probability=1.0, speaker_id=None if like is None else like.speaker_id,
            language=None if like is None else like.language, avg_logprob=0.0, no_speech_prob=0.0,
            compression_ratio=1.0, timed_by=None, annotator=LABELLED,
        )  # fmt: skip
        out.append(heard)
    return out


def in_order(labels: Iterable[CutLabelRow]) -> list[tuple[float, float, bool]]:
    """Return what people said of cuts as `with_cuts` takes it; of one moment what is none goes before what is one."""
    rows = sorted(labels, key=lambda x: (x.labelled_at, x.cut, x.label_id))
    return [(x.start_s, x.end_s, x.cut) for x in rows]


def with_cuts(found: Iterable[float], said: Iterable[tuple[float, float, bool]]) -> list[float]:
    """Return times of cuts corrected by (start_s, end_s, cut): none within the stretch, or one at its start."""
    out = list(found)
    for start_s, end_s, cut in said:
        out = [s for s in out if not start_s <= s <= end_s]
        out += [start_s] if cut else []
    return sorted(out)
