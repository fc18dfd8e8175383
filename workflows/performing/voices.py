"""Who speaks when in a recording of two: files that people look at and correct, and whose performance it is.

RTTM is the field's own form (NIST, Rich Transcription 2009 evaluation plan, appendix A): a line a turn, with the turn's
start, its length in seconds, and the speaker's name. The JSON beside it says as well how the voices were found. Times
are seconds on the recording's clock. Pure functions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from annotators.protocols_speech import Turn
from curation.labels.formats import one_word
from schemas.time import Interval, merge, union_s
from workflows.usage import UsageError

PEOPLE = ("a", "b")
OTHERS = "other"
"""The name of everybody else's turns: what both of the two hear."""

SOMEBODY_S = 2.0
"""Speech that a voice needs to be somebody: `PieceRule.person_s` of the diarizer. What is less is a laugh, a cough, a
word taken for another's."""

LATE_S = 0.1
"""A turn may end so much after the recording: turns and lengths are rounded, each in its own way."""


def spoken_s(turns: Iterable[Turn]) -> dict[str, float]:
    """Return how long each voice speaks (s), in order of first appearance; its own overlaps count once."""
    spans: dict[str, list[Interval]] = {}
    for turn in sorted(turns, key=lambda t: (t.start_s, t.end_s, t.speaker)):
        spans.setdefault(turn.speaker, []).append(Interval(turn.start_s, turn.end_s))
    return {voice: union_s(own) for voice, own in spans.items()}


def to_ms(turns: Iterable[Turn]) -> list[Turn]:
    """Return the turns as a file holds them: to the millisecond, in order of time, none of no length.

    Turns of one voice that touch are one: diarizers cut them where another voice sets in.
    """
    spans: dict[str, list[Interval]] = {}
    for t in turns:
        if (start_s := round(t.start_s, 3)) < (end_s := round(t.end_s, 3)):
            spans.setdefault(t.speaker, []).append(Interval(start_s, end_s))
    whole = (Turn(i.start_s, i.end_s, voice) for voice, own in spans.items() for i in merge(own))
    return sorted(whole, key=lambda t: (t.start_s, t.end_s, t.speaker))


def as_rttm(turns: Iterable[Turn], recording: str) -> str:
    """Return turns as RTTM; a blank within a name is written as %20."""
    name = one_word(recording or "recording")
    return "".join(
        f"SPEAKER {name} 1 {t.start_s:.3f} {t.end_s - t.start_s:.3f} <NA> <NA> {one_word(t.speaker)} <NA> <NA>\n"
        for t in to_ms(turns)
    )


def as_json(turns: Iterable[Turn], about: dict[str, Any]) -> str:
    """Return turns as JSON, after what is told about them."""
    exact = to_ms(turns)
    seconds = {voice: round(s, 3) for voice, s in spoken_s(exact).items()}
    rows = [{"voice": t.speaker, "start_s": t.start_s, "end_s": t.end_s} for t in exact]
    return json.dumps({**about, "seconds": seconds, "turns": rows}, indent=1) + "\n"


def read_voices(file: Path) -> list[Turn]:
    """Read turns from RTTM, or from JSON as `as_json` writes it.

    Raises:
        UsageError: there is no such file, or it is neither; the sentence names the line.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise UsageError(f"cannot read the voices in {file}: {getattr(e, 'strerror', None) or 'no text'}") from e
    turns = _of_json(text, file) if text.lstrip().startswith("{") else _of_rttm(text, file)
    if not turns:
        raise UsageError(f"{file} holds no turn: write a line a turn as RTTM, SPEAKER NAME 1 START LENGTH ...")
    return to_ms(turns)


def _of_rttm(text: str, file: Path) -> list[Turn]:
    turns = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith((";", "#")) or (words[0] != "SPEAKER" and words[0].isupper()):
            continue  # RTTM knows lines of other kinds, and comments
        try:
            if words[0] != "SPEAKER":
                raise ValueError("it does not begin with SPEAKER")
            start_s, length_s, voice = float(words[3]), float(words[4]), unquote(words[7])
            turns.append(_turn(start_s, start_s + length_s, voice))
        except (IndexError, ValueError) as e:
            why = "it has too few words" if isinstance(e, IndexError) else e
            raise UsageError(
                f"{file}, line {number} is no turn, since {why}: write SPEAKER NAME 1 START LENGTH <NA> <NA> VOICE"
            ) from e
    return turns


def _of_json(text: str, file: Path) -> list[Turn]:
    try:
        return [_turn(float(t["start_s"]), float(t["end_s"]), str(t["voice"])) for t in json.loads(text)["turns"]]
    except (KeyError, TypeError, ValueError) as e:
        raise UsageError(
            f'{file} holds no turns ({e!r}): write {{"turns": [{{"voice": "a", "start_s": 0.5, "end_s": 2.1}}]}}'
        ) from e


def _turn(start_s: float, end_s: float, voice: str) -> Turn:
    if not (math.isfinite(start_s) and math.isfinite(end_s)):
        raise ValueError("a time is no number")
    if start_s < 0 or end_s <= start_s:
        raise ValueError(f"it lasts from {start_s:g} s to {end_s:g} s")
    return Turn(start_s, end_s, voice)


def within(turns: Sequence[Turn], duration_s: float, file: Path) -> None:
    """Raise UsageError where a turn of a file lies beyond the recording's end."""
    for turn in turns:
        if turn.end_s > duration_s + LATE_S:
            raise UsageError(
                f"{file} has {turn.speaker!r} speak until {turn.end_s:g} s, but the recording ends at {duration_s:.2f} "
                "s: is it another recording's?"
            )


def the_two(turns: Sequence[Turn], speakers: str | None, least_s: float = 0.0) -> list[Turn]:
    """Return the turns under the names "a" and "b", and those of nobody of the two under "other".

    Args:
        turns: of any voices.
        speakers: "X,Y": whose performance is a's and whose is b's; "X+Z,Y" takes X and Z for one person. None: those
            called "a" and "b", or else the only two voices there are, in order of appearance.
        least_s: of more than two voices, those that speak for less are nobody of the two where nobody named them.

    Raises:
        UsageError: there are not two, or other voices than those named; the sentence says what to do.
    """
    found = spoken_s(turns)
    heard = ", ".join(f"{voice} {seconds:.1f} s" for voice, seconds in found.items()) or "nobody"
    if speakers is not None:
        named = [tuple(filter(None, part.strip().split("+"))) for part in speakers.split(",")]
        names = [name for person in named for name in person]
        if len(named) != 2 or not all(named) or len(set(names)) < len(names):
            raise UsageError(f"--speakers {speakers!r}: name two voices, such as speaker_1,speaker_0; heard: {heard}")
        if unknown := [name for name in names if name not in found]:
            raise UsageError(f"--speakers: no voice is called {unknown[0]!r}; heard: {heard}")
    elif set(PEOPLE) <= set(found) <= {*PEOPLE, OTHERS}:
        named = [("a",), ("b",)]
    elif len(found) == 2 or sum(seconds >= least_s for seconds in found.values()) == 2:
        named = [(voice,) for voice, seconds in found.items() if len(found) == 2 or seconds >= least_s]
    elif len(found) < 2:
        raise UsageError(
            f"{'one voice' if found else 'no voice'} was heard ({heard}), and a performance has two: write who speaks "
            "when as RTTM and give it with --voices, or --channels where each channel is one person's"
        )
    else:
        raise UsageError(
            f"{len(found)} voices were heard ({heard}), and a performance has two: name them with --speakers X,Y (the "
            "others are heard by both), take two of them for one person with --speakers X+Z,Y, or correct voices.rttm "
            "and give it with --voices"
        )
    role = {voice: person for person, voices in zip(PEOPLE, named, strict=True) for voice in voices}
    return to_ms(Turn(t.start_s, t.end_s, role.get(t.speaker, OTHERS)) for t in turns)
