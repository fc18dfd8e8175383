"""What `lpm perform` does: check, hear who speaks when, generate both, and write what came out.

Everything that can be wrong is said before anything costs time. Files come under their names when they are whole.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from pydantic import ValidationError
from rich.console import Console

from annotators.protocols_speech import SpeakerEmbedder, Turn
from curation.media.audio import AudioReader
from curation.media.container import find_audio, find_video, open_media
from curation.media.errors import MediaError
from curation.media.probe import probe
from curation.media.sound import mono_weights
from lpm_train.checkpoint import find, read_config
from lpm_train.config import Config, override
from lpm_train.session import load_model, make_encoders
from lpm_train.tools import perform as performing
from lpm_train.tools.cli import progress
from lpm_train.tools.perform import Character, Performed, Role
from schemas import yaml12
from schemas.sample import FPS
from schemas.time import AUDIO_HZ, PACKED_AUDIO_HZ
from stages.packing.audio import Samples
from stages.packing.packing import PackingSettings
from workflows.performing import hearing, tracks
from workflows.performing.hearing import Heard
from workflows.performing.states import Codes, figures, heard_frames, states_of
from workflows.performing.tracks import Recording, Voices
from workflows.performing.voices import (
    LATE_S,
    OTHERS,
    PEOPLE,
    SOMEBODY_S,
    as_json,
    as_rttm,
    read_voices,
    spoken_s,
    the_two,
    to_ms,
    within,
)
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
class _Source:
    """The recording: how long it lasts, and the weights [C] that mix its channels."""

    path: Path
    duration_s: float
    weights: Samples


def run(out: Console, err: Console, asked: Asked) -> None:
    """Perform, and print what was heard and made. Raises UsageError, ConfigError, DataError, CheckpointError."""
    config = _config(asked)
    separator = _separator(asked.separator)
    source = _source(asked.recording)
    start_s, end_s = _stretch(asked, source)
    given = read_voices(asked.voices) if asked.voices is not None else None
    if given is not None and asked.voices is not None:
        within(given, source.duration_s, asked.voices)
        the_two(given, asked.speakers)
    settings = hearing.speech_settings(_part(asked.diarizer, "--diarizer"))
    try:
        asked.out.mkdir(parents=True, exist_ok=True)
        heard, in_channels = _heard(asked, source, start_s, end_s, settings, given)
        turns = _told(asked, source, heard)
        for note in heard.notes:
            err.print(note, markup=False, highlight=False)
        if OTHERS in (seconds := spoken_s(turns)):
            text = f"{seconds[OTHERS]:.1f} s of other voices are nobody's of the two, and both hear them"
            err.print(text, markup=False, highlight=False)
        frames = math.ceil((end_s - start_s) * FPS - 1e-6)
        heard_T = heard_frames(turns, frames, start_s)
        said = ", ".join(f"{voice} speaks for {s:.1f} s" for voice, s in seconds.items())
        out.print(f"{source.path.name}, {frames / FPS:.2f} s: {said}", markup=False, highlight=False)
        with AudioReader(source.path, PACKED_AUDIO_HZ, mono=False) as reader:
            recording = Recording(reader, round(start_s * PACKED_AUDIO_HZ), source.weights)
            voices, apart = _voices(recording, heard_T, in_channels, separator, settings.embedder.build, err)
            done = _generate(asked, config, recording, voices, heard_T)
        about = _about(asked, config, source, start_s, heard, heard_T, done, apart)
        _write(asked.out / "performance.json", json.dumps(about, indent=1) + "\n")
    except MediaError as e:
        raise UsageError(f"{source.path}: {e.args[0]}") from e
    except OSError as e:  # among them what FFmpeg says of a full disk
        raise UsageError(f"the performance could not be written: {e}") from e
    _print(out, asked, about)


def _config(asked: Asked) -> Config:
    """Return the checkpoint's settings with those asked for; see that model, device and pictures will do."""
    config = override(read_config(find(asked.checkpoint)), list(asked.settings))
    try:
        device = torch.device(asked.device)
    except RuntimeError as e:
        raise UsageError(f"--device {asked.device!r}: there are cpu and cuda") from e
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"--device {asked.device}: no GPU can be used here; leave it out for the CPU")
    for character in asked.characters:
        performing.check(config, character)
    return config


def _part(text: str | None, option: str) -> Any:
    """Read a part as a workflow writes it: a short name, or `{use: NAME, setting: value}`."""
    if text is None:
        return None
    try:
        return yaml12.load(text)
    except (yaml.YAMLError, ValueError) as e:
        raise UsageError(f"{option} {text!r}: write a name, or '{{use: NAME, setting: value}}'") from e


def _separator(text: str | None) -> Any:
    """Return the part that takes overlaps apart, or None. Raises UsageError."""
    if text is None:
        return None
    try:
        part = PackingSettings.model_validate({"separator": _part(text, "--separator")}).separator
    except ValidationError as e:
        raise UsageError(f"--separator: {e.errors()[0]['msg'].removeprefix('Value error, ')}") from e
    return part if part.at_work else None


def _source(path: Path) -> _Source:
    """Look at the recording. Raises UsageError where there is no sound in it."""
    try:
        with AudioReader(path, AUDIO_HZ) as reader:
            duration_s = reader.end_index() / AUDIO_HZ if reader.has_audio else 0.0
        if duration_s < 1 / FPS:
            raise UsageError(f"{path} has no sound: give a recording of two people who talk")
        with open_media(path) as container:
            stream = find_audio(container)
            names = [channel.name for channel in stream.layout.channels] if stream is not None else []
            if find_video(container) is not None:
                duration_s = max(duration_s, probe(path).duration_s)
    except MediaError as e:
        raise UsageError(f"{path} is no recording that can be read: {e.args[0]}") from e
    return _Source(path, duration_s, mono_weights(names))


def _stretch(asked: Asked, source: _Source) -> tuple[float, float]:
    end_s = source.duration_s if asked.end_s is None else asked.end_s
    if not 0 <= asked.start_s < end_s or end_s > source.duration_s + LATE_S:
        raise UsageError(
            f"--start {asked.start_s:g} and --end {end_s:g} are no stretch of {source.path.name}, which lasts "
            f"{source.duration_s:.2f} s"
        )
    return asked.start_s, min(end_s, source.duration_s)


def _heard(
    asked: Asked, source: _Source, start_s: float, end_s: float, settings: Any, given: list[Turn] | None
) -> tuple[Heard, bool]:
    """Return who speaks when, and whether each channel is one person's."""
    two = len(source.weights) == 2
    if asked.channels and not two:
        raise UsageError(f"--channels: {source.path.name} has {len(source.weights)} channels, and a performance two")
    if given is not None:
        by = {"voices": str(asked.voices)} | ({"channels": "asked for"} if asked.channels else {})
        return Heard(given, by), bool(asked.channels)
    if two and asked.channels is not False:
        with AudioReader(source.path, AUDIO_HZ, mono=False) as reader:
            found = hearing.in_channels(hearing.load(reader, start_s, end_s), start_s, settings, bool(asked.channels))
        if found is not None:
            return found, True
    with AudioReader(source.path, AUDIO_HZ) as reader:
        return hearing.diarized(hearing.load(reader, start_s, end_s), start_s, settings), False


def _told(asked: Asked, source: _Source, heard: Heard) -> list[Turn]:
    """Write who speaks when, under names of theirs where they are not yet two, and return the two's turns."""
    turns = to_ms(heard.turns)
    least_s = SOMEBODY_S if asked.voices is None else 0.0  # who writes voices by hand means them
    about = {"recording": source.path.name, "duration_s": round(source.duration_s, 3), "by": heard.by}
    about |= {"notes": heard.notes} if heard.notes else {}
    try:
        turns = the_two(turns, asked.speakers, least_s)
    finally:
        texts = {"voices.rttm": as_rttm(turns, source.path.stem), "voices.json": as_json(turns, about)}
        for name, text in texts.items():
            if asked.voices is None or asked.voices.resolve() != (asked.out / name).resolve():
                _write(asked.out / name, text)
    return turns


def _voices(
    recording: Recording, heard_T: Codes, in_channels: bool, separator: Any, embedder: Any, err: Console
) -> tuple[Voices, dict[str, Any]]:
    """Return where each person's sound comes from, and what is told of overlaps that are taken apart."""
    if in_channels:
        return tracks.a_channel_each(recording), {}
    overlaps = tracks.overlaps(heard_T, PackingSettings.model_validate({}).min_overlap_s)
    if separator is None or not overlaps:
        return tracks.one_mixture(recording), {}
    made: SpeakerEmbedder = embedder()
    known = {p: tracks.known_voice(recording, states_of(heard_T, p), made) for p in PEOPLE}
    if any(voice is None for voice in known.values()):
        err.print("overlaps are not taken apart: somebody never speaks alone for a second", markup=False)
        return tracks.one_mixture(recording), {}
    seconds = sum(b - a for a, b in overlaps) / PACKED_AUDIO_HZ
    voices = {person: voice for person, voice in known.items() if voice is not None}
    apart = tracks.Apart(recording, overlaps, voices, separator.build(), made)
    return apart, {"separated_s": round(seconds, 2), **separator.provenance("separator")}


def _generate(asked: Asked, config: Config, recording: Recording, voices: Voices, heard_T: Codes) -> Performed:
    _, model = load_model(asked.checkpoint, asked.device)
    encoders = make_encoders(config.data, asked.device)
    roles = [
        Role(who, states_of(heard_T, person), tracks.tracks(voices, heard_T, person), asked.out / f"{person}.mp4")
        for person, who in zip(PEOPLE, asked.characters, strict=True)
    ]
    beside = asked.out / "both.mp4"
    done = performing.perform(
        model, config, encoders, roles, recording.sound, beside if asked.both else None, progress("frames")
    )
    if not asked.both:
        beside.unlink(missing_ok=True)  # an earlier performance's
    return done


def _about(
    asked: Asked, config: Config, source: _Source, start_s: float, heard: Heard, heard_T: Codes, done: Performed,
    apart: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Return what `performance.json` says."""
    seconds = done.frames / FPS
    people = {
        person: {
            **figures(states_of(heard_T, person)),
            "seed": who.seed,
            "text": who.words,
            "image": who.image.name,
            "timing": {name: round(value, 4) for name, value in timing.items() if not math.isnan(value)},
        }
        for person, who, timing in zip(PEOPLE, asked.characters, done.timing, strict=True)
    }
    overlap = (heard_T & 3) == 3
    return {
        "recording": source.path.name,
        "start_s": start_s,
        "seconds": round(seconds, 2),
        "frames": done.frames,
        "fps": FPS,
        "overlap_s": round(int(overlap.sum()) / FPS, 2),
        "others_s": round(int(np.count_nonzero(heard_T & 4)) / FPS, 2),
        **({"separated": apart} if apart else {}),
        "people": people,
        "real_time_factor": round(seconds / done.wall_s, 4),
        "wall_s": round(done.wall_s, 3),
        "heard_by": heard.by,
        "notes": heard.notes,
        "model": done.fingerprint,
        "checkpoint": find(asked.checkpoint).name,
        "stage": str(config.run.stage),
        "steps": config.stream.steps,
        "device": asked.device,
    }


def _print(out: Console, asked: Asked, about: dict[str, Any]) -> None:
    for person, told in about["people"].items():
        modes = ", ".join(f"{name} {told[f'{name}_s']:.1f} s" for name in ("speak", "listen", "both", "idle"))
        text = f"{asked.out / person}.mp4: {modes}, {told['mode_changes']} changes"
        out.print(text, markup=False, highlight=False)
    separated = about.get("separated", {}).get("separated_s", 0.0)
    kept = f"of it {separated:.1f} s taken apart" if separated else "there both hear the mixture"
    if "channels" in about["heard_by"]:
        kept = "each channel is one person's"
    out.print(
        f"both talk for {about['overlap_s']:.1f} s ({kept}); {about['frames']} frames at "
        f"{about['real_time_factor']:.2f} x real time for both together; model {about['model']}",
        markup=False, highlight=False,
    )  # fmt: skip


def _write(file: Path, text: str) -> None:
    """Write a file that is there whole or not at all."""
    partial = file.with_name(f".{file.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
