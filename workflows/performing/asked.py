"""What a user of `lpm perform` asks for, and the checks that cost nothing: what cannot be is said before any work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from curation.media.audio import AudioReader
from curation.media.container import find_video, open_media
from curation.media.errors import MediaError
from curation.media.probe import probe
from lpm_train.config import Config, override
from lpm_train.session import usable
from lpm_train.tools import perform as performing
from lpm_train.tools.outputs import must_spare, same_file
from lpm_train.tools.perform import Character
from lpm_train.tools.stream_files import about_use, named_pictures
from lpm_train.training.checkpoint import find, read_config
from schemas.samples.sample import FPS
from schemas.settings import yaml12
from schemas.time import AUDIO_HZ
from stages.packing.packing import PackingSettings
from workflows.performing.voices import LATE_S
from workflows.usage import UsageError


@dataclass(frozen=True)
class Asked:
    """What a user asks for, as the command line's options say it."""

    recording: Path
    checkpoint: Path
    out: Path
    characters: Sequence[Character]
    voices: Path | None = None
    speakers: str | None = None
    channels: bool | None = None
    """a person in each of two channels; None: look"""
    start_s: float = 0.0
    end_s: float | None = None
    both: bool = True
    diarizer: str | None = None
    separator: str | None = None
    settings: Sequence[str] = field(default_factory=tuple)
    device: str = "cpu"


@dataclass(frozen=True)
class Source:
    """The recording: how long it lasts, and how many channels it has."""

    path: Path
    duration_s: float
    channels: int


def checked_config(asked: Asked) -> Config:
    """Return the checkpoint's settings with those asked for; see that model, device and pictures will do.

    Raises ConfigError, CheckpointError and DataError.
    """
    config = override(read_config(find(asked.checkpoint)), about_use(asked.settings))
    usable(asked.device, config.stream)
    for character in asked.characters:
        performing.check(config, character)
    return config


VOICES = ("voices.rttm", "voices.json")
"""Who speaks when, as it is written to be corrected and given again."""

FILES = ("a.mp4", "b.mp4", "both.mp4", "performance.json", *VOICES)
"""What is written into the folder of a performance."""


def is_given(asked: Asked, name: str) -> bool:
    """Tell whether a file of who speaks when is the user's own, corrected in its place: it is not written again."""
    return name in VOICES and asked.voices is not None and same_file(asked.voices, asked.out / name)


def inputs_kept(asked: Asked) -> None:
    """See that nothing that is read would be overwritten. Raises ConfigError where it would."""
    pictures = [path for who in asked.characters for _, path in named_pictures(who.image, who.refs)]
    must_spare([asked.recording, *pictures], *(asked.out / name for name in FILES))
    must_spare([asked.voices], *(asked.out / name for name in FILES if not is_given(asked, name)))


def part_of(text: str | None, option: str) -> Any:
    """Read a part as a workflow writes it: a short name, or `{use: NAME, setting: value}`."""
    if text is None:
        return None
    try:
        return yaml12.load(text)
    except (yaml.YAMLError, ValueError) as e:
        raise UsageError(f"{option} {text!r}: write a name, or '{{use: NAME, setting: value}}'") from e


def separator_of(text: str | None) -> Any:
    """Return the part that takes overlaps apart, or None. Raises UsageError."""
    if text is None:
        return None
    try:
        part = PackingSettings.model_validate({"separator": part_of(text, "--separator")}).separator
    except ValidationError as e:
        raise UsageError(f"--separator: {e.errors()[0]['msg'].removeprefix('Value error, ')}") from e
    if part.at_work:
        part.provenance("separator")  # what it lacks is said before any work
        return part
    return None


def source_of(asked: Asked) -> Source:
    """Look at the recording. Raises UsageError where there is no sound in it, or not the channels asked for."""
    path = asked.recording
    try:
        with AudioReader(path, AUDIO_HZ) as reader:
            duration_s, channels = reader.end_index() / AUDIO_HZ if reader.has_audio else 0.0, len(reader.channels)
        if duration_s < 1 / FPS:
            raise UsageError(f"{path} has no sound: give a recording of two people who talk")
        with open_media(path) as container:
            if find_video(container) is not None:
                duration_s = max(duration_s, probe(path).duration_s)
    except MediaError as e:
        raise UsageError(f"{path} is no recording that can be read: {e.args[0]}") from e
    if asked.channels and channels != 2:
        raise UsageError(f"--channels: {path.name} has {channels} channels, and a performance two")
    return Source(path, duration_s, channels)


def stretch_of(asked: Asked, source: Source) -> tuple[float, float]:
    """Return the stretch of the recording that is asked for, in seconds. Raises UsageError where it is none."""
    end_s = source.duration_s if asked.end_s is None else asked.end_s
    if not 0 <= asked.start_s < end_s or end_s > source.duration_s + LATE_S:
        raise UsageError(
            f"--start {asked.start_s:g} and --end {end_s:g} are no stretch of {source.path.name}, which lasts "
            f"{source.duration_s:.2f} s"
        )
    return asked.start_s, min(end_s, source.duration_s)
