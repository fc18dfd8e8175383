"""Who is heard when, read from truth files: RTTM, made footage, and hand-made truth of real conversations.

A span of a truth file names whose voice is heard: `voice` (one name, several joined by "+", null, "off"), `heard` and
`voice_who` where `voice` alone does not say it, and everybody whose own voice is heard by state (speak, both). What
nobody could tell ("unknown", "unsure") is not scored, nor is a span of made footage in which nothing is claimed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diarization_score import LabelledTurn, parse_rttm

SOUND = (".wav", ".flac", ".mp3", ".mp4", ".avi", ".mkv", ".mov")
UNTOLD = ("unknown", "unsure")
OWN_VOICE = ("speak", "both")


@dataclass(frozen=True)
class VoiceTruth:
    """Turns of one file, and the stretches in which nobody could tell who is heard."""

    turns: tuple[LabelledTurn, ...]
    unknown: tuple[tuple[float, float], ...] = ()

    @property
    def voices(self) -> set[str]:
        """Everybody heard."""
        return {name for _, _, name in self.turns}


def voice_truths(media: Path) -> dict[Path, VoiceTruth]:
    """Return, by sound or video file, the voices of every file of a directory whose truth names them."""
    out = {}
    for file in sorted([*media.glob("*.rttm"), *media.glob("*.truth.json")]):
        base = file.name.removesuffix(".rttm").removesuffix(".truth.json")
        sounds = [file.with_name(base + s) for s in SOUND if file.with_name(base + s).exists()]
        if not sounds:
            continue
        if file.suffix == ".rttm":
            out[sounds[0]] = VoiceTruth(tuple(parse_rttm(file.read_text(encoding="utf-8"))))
        else:
            data = json.loads(file.read_text(encoding="utf-8"))
            if any("voice" in span for span in data.get("shots", [])):
                out[sounds[0]] = of_spans(data)
    return out


def told_apart(truths: Mapping[Path, VoiceTruth]) -> dict[Path, VoiceTruth]:
    """Return the truths without those that call two people's voices by one name, the file's they were cut from."""
    several = {file.stem for file, truth in truths.items() if len(truth.voices) > 1}
    return {file: truth for file, truth in truths.items() if not truth.voices & several}


def of_spans(data: Mapping[str, Any]) -> VoiceTruth:
    """Return the voices of a truth file's spans."""
    turns: list[LabelledTurn] = []
    unknown = []
    by_hand = any("x" in p for span in data["shots"] for p in [*span["people"], *span.get("unsure", [])])
    for span in data["shots"]:
        start_s, end_s = float(span["start"]), float(span["end"])
        names = heard(span)
        if names is None or not (by_hand or names or span["people"]):
            unknown.append((start_s, end_s))
        else:
            turns += [(start_s, end_s, name) for name in sorted(names)]
    return VoiceTruth(tuple(turns), tuple(unknown))


def heard(span: Mapping[str, Any]) -> set[str] | None:
    """Return who is heard in a span; None where nobody could tell. An unnamed voice from elsewhere is "off"."""
    voice, who = span.get("voice"), span.get("voice_who")
    if voice in UNTOLD:
        return None
    own = {p["person"] for p in span["people"] if p["state"] in OWN_VOICE}
    named = set(span.get("heard") or ([who] if who else voice.split("+") if voice else []))
    # Made footage names a voice by the file it was taken from; the person who speaks with it has a name too.
    return named if named and not own & named else named | own
