"""What a dataset says of its own clips: the fields that can be held against measurements, under whatever name."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from curation.check.errors import CheckError

NAMES: Mapping[str, tuple[str, ...]] = {
    "fps": ("fps", "frame_rate", "framerate", "video_fps", "video.fps"),
    "rate_hz": ("sample_rate", "audio_sample_rate", "sampling_rate", "audio_rate_hz", "audio.rate_hz", "rate_hz"),
    "duration_s": ("duration_s", "duration", "duration_sec", "duration_seconds", "video_duration", "length_s"),
    "n_frames": ("n_frames", "num_frames", "frame_count", "nb_frames", "frames", "video.n_frames"),
    "identity": ("identity_id", "identity", "person_id", "subject_id", "speaker_id", "participant_id", "actor_id"),
    "state": ("state", "mode", "role"),
}
"""Names under which each field is looked for, in this order; a dot leads into a nested object."""

STATES: Mapping[str, str] = {
    **dict.fromkeys(("speak", "speaking", "speaker", "talk", "talking", "talker"), "speak"),
    **dict.fromkeys(("listen", "listening", "listener"), "listen"),
    **dict.fromkeys(("idle", "silent", "silence", "still"), "idle"),
    "both": "both",
}
"""What is understood as which state; any other word is none."""

Fact = str | int | float
"""A value of others' metadata."""


@dataclass(frozen=True, slots=True)
class Declared:
    """What is said of one clip; None where nothing is."""

    fps: float | None = None
    rate_hz: float | None = None
    duration_s: float | None = None
    n_frames: float | None = None
    identity: str | None = None
    state: str | None = None


class Fields:
    """Reads declared values, and counts under which name each was found."""

    def __init__(self, chosen: Iterable[str] = ()) -> None:
        """Take the user's own names: `FIELD=COLUMN`, `FIELD=@folder`, `FIELD=@name:REGEX`. Raises CheckError."""
        self._names = dict(NAMES)
        self._patterns: dict[str, re.Pattern[str]] = {}
        self.found: Counter[tuple[str, str]] = Counter()
        for text in chosen:
            name, equals, column = text.partition("=")
            if name not in NAMES or not equals or not column:
                raise CheckError(f"--field {text!r} is none; write one of {', '.join(NAMES)}, = and a column")
            self._names[name] = (column,)
            if column.startswith("@name:"):
                self._patterns[name] = _pattern(column)
            elif column.startswith("@") and column != "@folder":
                raise CheckError(f"--field {text!r}: there are @folder and @name:REGEX, beside names of columns")

    def read(self, clip: str, facts: Mapping[str, Fact]) -> Declared:
        """Return what is declared of a clip, by its name in the dataset and its flattened metadata."""
        numbers = {n: _number(self._value(n, clip, facts)) for n in ("fps", "rate_hz", "duration_s", "n_frames")}
        state, identity = (self._value(n, clip, facts) for n in ("state", "identity"))
        return Declared(
            **numbers,
            identity=None if identity is None else str(identity),
            state=STATES.get(str(state).strip().lower()),
        )

    def _value(self, name: str, clip: str, facts: Mapping[str, Fact]) -> Fact | None:
        for column in self._names[name]:
            value: Fact | None = facts.get(column)
            if column == "@folder":
                value = PurePosixPath(clip).parent.name or None
            elif name in self._patterns:
                match = self._patterns[name].search(PurePosixPath(clip).name)
                value = match[1] if match else None
            if value is not None and str(value) != "":
                self.found[name, column] += 1
                return value
        return None


def _pattern(column: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(column.removeprefix("@name:"))
    except re.error as e:
        raise CheckError(f"--field {column!r} is no regular expression: {e}") from e
    if pattern.groups != 1:
        raise CheckError(f"--field {column!r} must have one group, as in @name:_(P[0-9]+)")
    return pattern


def _number(value: Fact | None) -> float | None:
    """Return a number above 0, also of text such as "25", "30000/1001"; None for anything else."""
    text, _, below = str(value).partition("/")
    try:
        number = float(text) / (float(below) if below else 1.0)
    except (ValueError, ZeroDivisionError):
        return None
    return number if 0 < number < float("inf") else None


def flat(data: Mapping[str, object], prefix: str = "") -> dict[str, Fact]:
    """Return nested objects as one level, names joined by dots; lists are left out."""
    out: dict[str, Fact] = {}
    for name, value in data.items():
        if isinstance(value, Mapping):
            out |= flat(value, f"{prefix}{name}.")
        elif isinstance(value, str | int | float) and not isinstance(value, bool):
            out[f"{prefix}{name}"] = value
    return out
