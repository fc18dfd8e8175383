"""Performances of any length from sounds and modes: several characters side by side, in step, into files as they come.

What a character says and hears comes from a function of time, which frames it speaks and listens in from an array; so
whoever knows a recording's voices (`lpm perform`) decides both. Modes are those of latents, each the state of most of
its frames as in training, and sound is there beside them as packed samples have it. Memory beside the model is that of
a block and of the files' index, whatever the length.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lpm_train.config import Config
from lpm_train.data.clip import latent_states, to_pixels
from lpm_train.data.make import Encoders
from lpm_train.encoders.codec import Codec, latent_span
from lpm_train.network.refine import Performer
from lpm_train.streaming.stream import StreamGenerator, StreamingAudio
from lpm_train.tools.media import Mp4Writer
from lpm_train.tools.outputs import whole
from lpm_train.tools.provenance import add_xmp, model_fingerprint, tags
from lpm_train.tools.stream_files import must_stream, named_pictures, pictures, reference_conditions
from schemas.samples.sample import FPS, SAMPLES_PER_FRAME

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
States = NDArray[np.int8]
Tracks = Callable[[int, int], tuple[F32, F32]]
"""(first frame, frame after the last) -> what is said and what is heard there, each [frames * 1920] at 48 kHz."""


@dataclass(frozen=True)
class Character:
    """Who performs: its pictures (`refs`: PATH, view:PATH or expression:PATH), what it is to do, and its chance."""

    image: Path
    refs: Sequence[str] = ()
    words: str = ""
    seed: int = 0


@dataclass(frozen=True)
class Role:
    """What a character does: its states [frames] (`batch.STATES`), its sounds, and the file of its performance."""

    character: Character
    states_T: States
    tracks: Tracks
    file: Path


@dataclass
class Performed:
    """What came out: frames of each, each stream's timing, seconds on the clock, and the model's fingerprint."""

    frames: int
    fingerprint: str
    wall_s: float
    timing: list[dict[str, float]] = field(default_factory=list)


def check(config: Config, character: Character) -> None:
    """See that a character can perform, before anything costs time.

    Raises:
        ConfigError: the model cannot stream, or there are more pictures than it knows.
        DataError: a file is no picture.
    """
    must_stream(config)
    pictures(config, named_pictures(character.image, character.refs))


def begin(model: Performer, config: Config, encoders: Encoders, character: Character) -> StreamGenerator:
    """Begin a character's stream. Raises as `check` does, and ConfigError for sound features that do not stream."""
    references = reference_conditions(config, encoders, named_pictures(character.image, character.refs))
    return StreamGenerator(
        model, config, encoders.codec, cast(StreamingAudio, encoders.audio), encoders.text, references,
        words=character.words, seed=character.seed,
    )  # fmt: skip


def act(generator: StreamGenerator, codec: Codec, tracks: Tracks, states_T: States) -> Iterator[U8]:
    """Yield as many frames uint8 [H, W, 3] as there are states, pushing a latent's sound at a time.

    After the last state the character is idle in a silent place: the look-ahead of the windows and the last block are
    filled with that and cut off.
    """
    total, latent, made = len(states_T), 0, 0
    while made < total:
        first, stop = latent_span(codec, latent)
        latent += 1
        new = [_push(generator, tracks, states_T, first, stop)]
        if generator.complete >= total:  # no later block would bring what is still being decoded
            new.append(generator.rest())
        shown = to_pixels(torch.cat(new))[: total - made]
        made += len(shown)
        yield from shown


def _push(generator: StreamGenerator, tracks: Tracks, states_T: States, first: int, stop: int) -> Tensor:
    samples, last = (stop - first) * SAMPLES_PER_FRAME, min(stop, len(states_T))
    if first >= last:
        return generator.idle(samples)
    states = np.zeros(stop - first, np.int8)
    states[: last - first] = states_T[first:last]
    state = int(latent_states(states, [(0, stop - first)])[0])
    sides = [torch.from_numpy(np.pad(side, (0, samples - len(side)))) for side in tracks(first, last)]
    return generator.push(sides[0], sides[1], on=(bool(state & 1), bool(state & 2)))


def perform(
    model: Performer, config: Config, encoders: Encoders, roles: Sequence[Role], sound: Callable[[int, int], F32],
    side_by_side: Path | None = None, report: Callable[[int, int], None] = lambda done, total: None,
) -> Performed:  # fmt: skip
    """Generate every role in step with the others; every file carries the sound, and says that it is generated.

    Args:
        model: a causal student, on its device.
        config: its settings.
        encoders: those that it was trained with, the codec on the model's device.
        roles: as many states each.
        sound: (first frame, frame after the last) -> what all files let hear, [frames * 1920] at 48 kHz.
        side_by_side: one more file, of all performances beside each other.
        report: is told of frames done, and of all.

    Files come under their names when all are whole, and none does where anything fails.

    Raises:
        ConfigError, DataError: as `check`.
    """
    begun, mark, total = time.perf_counter(), model_fingerprint(model), len(roles[0].states_T)
    streams = [begin(model, config, encoders, role.character) for role in roles]
    acts = [act(s, encoders.codec, r.tracks, r.states_T) for s, r in zip(streams, roles, strict=True)]
    files = [role.file for role in roles] + ([side_by_side] if side_by_side else [])
    with whole(*files) as partial:
        with ExitStack() as stack:
            writers = [stack.enter_context(Mp4Writer(p, tags=tags(mark), sound=True)) for p in partial]
            for n, shown in enumerate(zip(*acts, strict=True)):
                heard, beside = sound(n, n + 1), [np.concatenate(shown, axis=1)] if side_by_side else []
                for writer, picture in zip(writers, [*shown, *beside], strict=True):
                    writer.add(picture, heard)
                if (n + 1) % FPS == 0 or n + 1 == total:
                    report(n + 1, total)
        for p in partial:
            add_xmp(p, mark)
    return Performed(total, mark, time.perf_counter() - begun, [s.timing.report() for s in streams])
