"""Clips made from conversations with hand-made truth: voices laid over, interruptions, questions, listeners, dubs.

Footage made differently from what the hand-made truth shows, of the same people: nothing may be tuned on it. Every
sound is brought to one level first, so that an added voice is as loud as the one it meets (or as much softer as given).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from truth_media import RATE_HZ, Clip, Panel, Sound, Way, path_of, to_and_fro, voice

FULL = (0.0, 0.0, 1.0, 1.0)
HALVES = {"left": (0.0, 0.0, 0.5, 1.0), "right": (0.5, 0.0, 0.5, 1.0)}
LEVEL_DB = -24.0
"""RMS level of every sound where it is above a hundredth of its peak, in dBFS."""

WIDE, TALL, SQUARE, PAIR = (640, 360), (540, 952), (360, 360), (720, 360)
"""Canvas sizes in pixels; a pair is two squares side by side."""

SELFIE, TV, PRESENTER, DESK = "selfie_outdoor", "tv_interview", "presenter_cutaways", "office_desk_talk"
CAFE, GREETING, MEETING, CALL, NIGHT = "vietnam_cafe", "zh_greeting", "of_meeting", "facetime_pip", "tamil_night_duo"
DEBATE, DUEL = "debate_overlap", "cv_001"
RAGE, PAUSE, TURNS = "mer_694", "mer_4136", "mer_669"


def show(person: str, from_s: float, length_s: float, at_s: float = 0.0) -> Panel:
    """Return footage that fills the picture."""
    return Panel(person, [(at_s, from_s), (at_s + length_s, from_s + length_s)], crop=FULL)


def half(person: str, from_s: float, length_s: float, side: str, middle: float, share: float, way: Way | None = None
         ) -> Panel:  # fmt: skip
    """Return one side of a split screen: a part of the footage `share` of its width wide, round `middle`."""
    left = min(max(0.0, middle - share / 2), 1.0 - share)
    path = way or [(0.0, from_s), (length_s, from_s + length_s)]
    return Panel(person, path, side, HALVES[side], crop=(left, 0.0, share, 1.0))


class Maker:
    """Makes clips of one folder of footage; sounds are levelled, so it reads them."""

    def __init__(self, media: Path) -> None:
        self._media = media

    def say(self, person: str, from_s: float, length_s: float, at_s: float = 0.0, by_db: float = 0.0) -> Sound:
        """Return a stretch of a clip's sound at the common level, louder by `by_db`."""
        wave = voice(path_of(self._media, None, person))
        part = wave[round(from_s * RATE_HZ) : round((from_s + length_s) * RATE_HZ)].astype(np.float64)
        loud = part[np.abs(part) > 0.01 * np.abs(part).max()] if len(part) else part
        level = 10 * np.log10(np.mean(loud**2)) if len(loud) else LEVEL_DB
        return Sound(person, at_s, from_s, length_s, LEVEL_DB + by_db - float(level))

    def own(self, panel: Panel, length_s: float | None = None) -> Sound:
        """Return the sound that belongs to a panel, longer or shorter than its picture where a length is given."""
        (at, from_s), (end, _) = panel.way[0], panel.way[-1]
        return self.say(panel.person, from_s, length_s or end - at, at)

    def one(self, name: str, panel: Panel, *added: Sound, size: tuple[int, int] = WIDE) -> Clip:
        """Return a shot with its own sound and voices laid over."""
        return Clip(name, panel.way[-1][0], [panel], [self.own(panel), *added], size=size)

    def clips(self) -> list[Clip]:
        """Return every clip."""
        return [*self.overlaps(), *self.interruptions(), *self.reverse_shots(), *self.questions(), *self.dubs(),
                *self.split_screens()]  # fmt: skip

    def overlaps(self) -> list[Clip]:
        """Return clips in which another clip's voice is laid over somebody who speaks or listens."""
        say = self.say
        return [
            self.one("overlap_selfie", show(SELFIE, 4.6, 8.0), say(TURNS, 0.0, 2.9, 1.6), say(DESK, 13.3, 2.4, 5.4),
                     size=SQUARE),
            self.one("overlap_tv", show(TV, 0.0, 6.0), say(GREETING, 3.0, 3.2, 1.4, -3.0), size=SQUARE),
            self.one("overlap_listener", show(MEETING, 2.6, 7.8), say(SELFIE, 4.5, 3.4, 1.5)),
            self.one("overlap_call", show(CALL, 4.0, 5.8), say(PAUSE, 0.9, 1.9, 0.6), size=TALL),
            self.one("overlap_greeting", show(GREETING, 6.0, 7.0), say(DEBATE, 0.0, 1.3, 1.8), say(TV, 24.7, 1.8, 4.4),
                     size=TALL),
        ]  # fmt: skip

    def interruptions(self) -> list[Clip]:
        """Return pairs of shots in which the second voice begins before its face is seen and the first is cut off."""

        def cut_in(name: str, a: Panel, b: Panel, early_s: float, size: tuple[int, int] = WIDE) -> Clip:
            (at, from_s), (end, _) = b.way[0], b.way[-1]
            first = self.say(b.person, from_s - early_s, end - at + early_s, at - early_s)
            return Clip(name, end, [a, b], [self.own(a), first], size=size)

        return [
            cut_in("interrupt_presenter", show(PRESENTER, 4.9, 4.0), show(TURNS, 0.8, 4.0, 4.0), 0.8),
            cut_in("interrupt_tv", show(TV, 6.2, 4.2), show(SELFIE, 5.6, 5.0, 4.2), 1.0, SQUARE),
            cut_in("interrupt_rage", show(RAGE, 10.5, 2.9), show(CAFE, 12.2, 2.3, 2.9), 0.9),
        ]

    def reverse_shots(self) -> list[Clip]:
        """Return a speaker, then somebody who listens while the voice goes on off screen."""

        def reverse(name: str, a: Panel, voice_s: float, b: Panel) -> Clip:
            return Clip(name, b.way[-1][0], [a, b], [self.own(a, voice_s)], size=WIDE)

        return [
            reverse("reverse_desk", show(DESK, 8.9, 1.3), 3.5, show(MEETING, 3.3, 3.3, 1.3)),
            reverse("reverse_presenter", show(PRESENTER, 14.7, 2.0), 5.0, show(MEETING, 12.85, 3.0, 2.0)),
            reverse("reverse_cafe", show(CAFE, 11.3, 1.4), 3.1, show(PAUSE, 2.9, 2.2, 1.4)),
        ]

    def questions(self) -> list[Clip]:
        """Return a silent face that is asked something by somebody who is never seen, and its answer."""
        say = self.say
        return [
            self.one("question_pause", show(PAUSE, 0.0, 6.16), say(SELFIE, 5.0, 1.8, 3.0)),
            self.one("question_night", show(NIGHT, 3.1, 7.6), say(DESK, 14.0, 1.7, 4.5), size=(854, 360)),
            self.one("question_turns", show(TURNS, 2.0, 5.4), say(SELFIE, 0.8, 0.8, 2.65)),
            self.one("question_end", show(GREETING, 12.5, 6.0), say(TV, 11.4, 0.8, 5.2), size=TALL),
        ]

    def dubs(self) -> list[Clip]:
        """Return mouths under somebody else's voice, with voices swapped between two shots, and mouths unheard."""
        say = self.say

        def dub(name: str, panel: Panel, *sounds: Sound, size: tuple[int, int] = WIDE) -> Clip:
            return Clip(name, panel.way[-1][0], [panel], list(sounds), size=size)

        a, b = show(PRESENTER, 4.9, 3.6), show(DESK, 13.3, 3.6, 3.6)
        return [
            dub("dub_duel", show(DUEL, 0.0, 5.6), say(DEBATE, 3.1, 5.6)),
            dub("dub_selfie", show(SELFIE, 4.6, 6.0), say(TV, 0.0, 6.0), size=SQUARE),
            dub("dub_greeting", show(GREETING, 3.1, 6.2), say(CAFE, 11.3, 3.1), say(CAFE, 6.0, 3.1, 3.1), size=TALL),
            Clip("dub_swapped", 7.2, [a, b], [say(DESK, 13.3, 3.6), say(PRESENTER, 4.9, 3.6, 3.6)], size=WIDE),
            dub("muted_rage", show(RAGE, 0.7, 8.7)),
        ]

    def split_screens(self) -> list[Clip]:
        """Return two clips side by side: both speak at once, one speaks and the other listens, one is unheard."""
        both = [half(SELFIE, 4.6, 7.0, "left", 0.5, 1.0), half(TV, 0.0, 6.0, "right", 0.5, 1.0)]
        talk = half(TV, 0.2, 5.6, "left", 0.5, 1.0)
        wait = half(PAUSE, 0.0, 5.6, "right", 0.42, 0.5667, to_and_fro(0.0, 2.95, 5.05, 5.6))
        unheard = half(CAFE, 0.0, 5.5, "right", 0.4, 0.5625, to_and_fro(0.0, 11.35, 14.4, 5.5))
        mute = [half(SELFIE, 5.0, 5.5, "left", 0.5, 1.0), unheard]
        return [
            Clip("split_both", 6.0, both, [self.own(both[0], 6.0), self.own(both[1])], size=PAIR),
            Clip("split_listener", 5.6, [talk, wait], [self.own(talk)], size=PAIR),
            Clip("split_unheard", 5.5, mute, [self.own(mute[0])], size=PAIR),
        ]
