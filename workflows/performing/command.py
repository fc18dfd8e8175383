"""What `lpm perform` does: check, hear who speaks when, generate both, and write what came out.

Everything that can be wrong is said before anything costs time. Files come under their names when they are whole.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from annotators.protocols_speech import SpeakerEmbedder, Turn
from curation.media.audio import AudioReader
from curation.media.errors import MediaError
from lpm_train.config import Config
from lpm_train.session import load_model, make_encoders
from lpm_train.tools import perform as performing
from lpm_train.tools.cli import progress
from lpm_train.tools.perform import Performed, Role
from schemas.samples.sample import FPS
from schemas.time import AUDIO_HZ, PACKED_AUDIO_HZ
from stages.packing.packing import PackingSettings
from workflows.performing import hearing, told, tracks
from workflows.performing.asked import (
    Asked,
    Source,
    checked_config,
    inputs_kept,
    is_given,
    part_of,
    separator_of,
    source_of,
    stretch_of,
)
from workflows.performing.hearing import Heard
from workflows.performing.states import BITS, Codes, heard_frames, states_of
from workflows.performing.tracks import Recording, Voices
from workflows.performing.voices import (
    OTHERS,
    PEOPLE,
    SOMEBODY_S,
    as_json,
    as_rttm,
    read_voices,
    the_two,
    to_ms,
    within,
)
from workflows.usage import UsageError


def run(out: Console, err: Console, asked: Asked) -> None:
    """Perform, and print what was heard and made. Raises UsageError, ConfigError, DataError, CheckpointError."""
    inputs_kept(asked)
    config = checked_config(asked)
    separator = separator_of(asked.separator)
    source = source_of(asked)
    start_s, end_s = stretch_of(asked, source)
    given = read_voices(asked.voices) if asked.voices is not None else None
    if given is not None and asked.voices is not None:
        within(given, source.duration_s, asked.voices)
        the_two(given, asked.speakers)
    settings = hearing.speech_settings(part_of(asked.diarizer, "--diarizer"))
    try:
        asked.out.mkdir(parents=True, exist_ok=True)
        heard, in_channels = _heard(asked, source, start_s, end_s, settings, given)
        turns = _told(asked, source, heard)
        for note in heard.notes:
            err.print(note, markup=False, highlight=False)
        heard_T = heard_frames(turns, math.ceil((end_s - start_s) * FPS - 1e-6), start_s)
        if others := np.count_nonzero(heard_T & BITS[OTHERS]):
            text = f"{others / FPS:.1f} s of other voices are nobody's of the two, and both hear them"
            err.print(text, markup=False, highlight=False)
        spoken = ", ".join(f"{p} speaks for {np.count_nonzero(heard_T & BITS[p]) / FPS:.1f} s" for p in PEOPLE)
        out.print(f"{source.path.name}, {len(heard_T) / FPS:.2f} s: {spoken}", markup=False, highlight=False)
        with (
            AudioReader(source.path, PACKED_AUDIO_HZ) as mixture,
            AudioReader(source.path, PACKED_AUDIO_HZ, mono=False) as channels,
        ):
            recording = Recording(mixture, channels, round(start_s * PACKED_AUDIO_HZ))
            voices, apart = _voices(recording, heard_T, in_channels, separator, settings.embedder.build, err)
            done = _generate(asked, config, recording, voices, heard_T)
        facts = told.about(asked, config, source, start_s, heard, heard_T, done, apart)
        _write(asked.out / "performance.json", json.dumps(facts, indent=1) + "\n")
    except MediaError as e:
        raise UsageError(f"{source.path}: {e.args[0]}") from e
    except OSError as e:  # among them what FFmpeg says of a full disk
        raise UsageError(f"the performance could not be written: {e}") from e
    told.report(out, asked, facts)


def _heard(
    asked: Asked, source: Source, start_s: float, end_s: float, settings: Any, given: list[Turn] | None
) -> tuple[Heard, bool]:
    """Return who speaks when, and whether each channel is one person's."""
    if given is not None:
        by = {"voices": str(asked.voices)} | ({"channels": "asked for"} if asked.channels else {})
        return Heard(given, by), bool(asked.channels)
    if source.channels == 2 and asked.channels is not False:
        with AudioReader(source.path, AUDIO_HZ, mono=False) as reader:
            found = hearing.in_channels(hearing.load(reader, start_s, end_s), start_s, settings, bool(asked.channels))
        if found is not None and asked.speakers is not None:
            raise UsageError("--speakers: a is the first channel's person and b the second's; exchange the pictures")
        if found is not None:
            return found, True
    with AudioReader(source.path, AUDIO_HZ) as reader:
        return hearing.diarized(hearing.load(reader, start_s, end_s), start_s, settings), False


def _told(asked: Asked, source: Source, heard: Heard) -> list[Turn]:
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
            if not is_given(asked, name):
                _write(asked.out / name, text)
    return turns


def _voices(
    recording: Recording, heard_T: Codes, in_channels: bool, separator: Any, embedder: Any, err: Console
) -> tuple[Voices, dict[str, object]]:
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


def _write(file: Path, text: str) -> None:
    """Write a file that is there whole or not at all."""
    partial = file.with_name(f".{file.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
