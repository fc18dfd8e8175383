"""Words given the times that an aligner finds: stretches for it to work on, and its times put into the transcript.

A recogniser's segments may begin and end some tenths of a second beside what was said, so those that follow one another
are aligned as one stretch, with some sound on both sides. Pure, apart from the aligner that is given.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from annotators.protocols_speech import Aligner, FloatArray, Segment, Stretch, TranscribedSegment, Transcript, Word
from schemas.time import AUDIO_HZ

_MARGIN_S = 0.5
"""Sound on both sides of a stretch, less where the next one is near: DTW errs by less than this, nearly always."""

_JOIN_S, _LONGEST_S = 1.0, 30.0


def aligned(transcript: Transcript, audio: FloatArray, aligner: Aligner) -> Transcript:
    """Return the transcript of audio [N] with the aligner's times for the words that it can align.

    Raises ValueError for an aligner that answers with another number of words.
    """
    groups = [list(group) for group in _groups(transcript.segments)]
    stretches = _stretches(transcript.segments, groups, len(audio) / AUDIO_HZ)
    times = aligner.align(audio, stretches) if stretches else []
    if [len(found) for found in times] != [len(s.words) for s in stretches]:
        raise ValueError(f"{aligner.name} must give one time, or None, for every word of every stretch")
    segments = list(transcript.segments)
    for group, stretch, found in zip(groups, stretches, times, strict=True):
        words = iter(retimed(stretch, found, aligner.name))
        for n in group:
            mine = tuple(next(words) for _ in segments[n].words)
            segments[n] = replace(segments[n], words=mine, start_s=mine[0].start_s, end_s=mine[-1].end_s)
    return replace(transcript, segments=tuple(segments))


def retimed(stretch: Stretch, times: Sequence[Segment | None], name: str) -> list[Word]:
    """Return the words with the times found.

    The others keep the recogniser's, as far as the words found before and after them leave room: the order of words is
    never changed.
    """
    lows, highs = [-math.inf], [math.inf]
    for time in times:
        lows.append(lows[-1] if time is None else time.end_s)
    for time in reversed(times):
        highs.append(highs[-1] if time is None else time.start_s)
    out: list[Word] = []
    for word, time, low_s, high_s in zip(stretch.words, times, lows, highs[-2::-1], strict=False):
        if time is None:
            start_s, end_s = (min(max(at_s, low_s), high_s) for at_s in (word.start_s, word.end_s))
            out.append(replace(word, start_s=start_s, end_s=end_s))
        else:
            out.append(replace(word, start_s=time.start_s, end_s=time.end_s, timed_by=name))
    return out


def _groups(segments: Sequence[TranscribedSegment]) -> Iterator[list[int]]:
    """Yield the positions of segments that are aligned as one: near one another and in one language."""
    group: list[int] = []
    for n, segment in enumerate(segments):
        if not segment.words:
            continue
        if group:
            first, last = segments[group[0]], segments[group[-1]]
            together = (
                segment.language == last.language
                and last.end_s <= segment.start_s < last.end_s + _JOIN_S
                and segment.end_s - first.start_s <= _LONGEST_S
            )
            if not together:
                yield group
                group = []
        group.append(n)
    if group:
        yield group


def _stretches(
    segments: Sequence[TranscribedSegment], groups: Sequence[Sequence[int]], duration_s: float
) -> list[Stretch]:
    """Return the groups with sound on both sides, up to half-way to the next."""
    spans = [(segments[g[0]].start_s, segments[g[-1]].end_s) for g in groups]
    gaps = [max(0.0, b[0] - a[1]) / 2 for a, b in pairwise(spans)]
    return [
        Stretch(
            start_s=max(0.0, start_s - min(_MARGIN_S, before)),
            end_s=min(duration_s, end_s + min(_MARGIN_S, after)),
            words=tuple(word for n in group for word in segments[n].words),
            language=segments[group[0]].language,
        )
        for group, (start_s, end_s), before, after in zip(
            groups, spans, [_MARGIN_S, *gaps], [*gaps, _MARGIN_S], strict=False
        )
    ]
