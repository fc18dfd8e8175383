"""Generate without end: sound in, frames out, in memory and time that do not grow.

`StreamGenerator.push` takes however much sound there is and returns the frames that can be made of it, in whole blocks.
Each side is a waveform, or None while the character does not speak or hears nobody: speak, listen and idle switch at
any moment. A block costs `stream.steps` passes and one more for the cache. The first block waits for its own sound, for
the look-ahead of the model's audio windows, and for what the encoder hears at once (`StreamingAudio.needs`); `Timing`
reports that delay, the computing time of each block, and the speed. With `stream.decode=beside` a block is decoded
while the next one is denoised (`streaming.decoding`), and its pictures come with the next block's, or with `rest`.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from lpm_train import flow
from lpm_train.batch import Conditions
from lpm_train.config import Config, ConfigError, Model
from lpm_train.encoders.audio import AudioEncoder, steps_per_latent
from lpm_train.encoders.codec import Codec, grey, picture_frames
from lpm_train.encoders.text import TextEncoder
from lpm_train.network.fp8 import set_for_stream
from lpm_train.network.refine import Performer
from lpm_train.streaming.decoding import Decoding
from lpm_train.streaming.playing import started
from lpm_train.streaming.ring import StaticRollout
from lpm_train.streaming.rollout import Draw
from schemas.samples.sample import FPS

_RECENT = 4096  # blocks whose times are remembered for the percentiles


@runtime_checkable
class StreamingAudio(AudioEncoder, Protocol):
    """Audio features that can be made as sound arrives."""

    def push(self, wave_N: Tensor, rate_hz: int, state: Any) -> tuple[Tensor, Any]:
        """Encode the next samples; -> (features of finished steps, state)."""

    def needs(self, steps: int) -> float:
        """Return the seconds of sound after which a stream's first `steps` steps are there."""


@dataclass
class Timing:
    """What a stream has cost so far.

    A block's latency is the time from its beginning to its pictures. What it takes of the machine is less where it is
    decoded beside the next: the part of that time in which no block before it was under way.
    """

    wait_s: float  # sound that the first block needs before it can begin
    block_s: list[float] = field(default_factory=list)  # latency of the latest blocks, decoding included
    taken_s: list[float] = field(default_factory=list)  # what they took of the machine
    first_s: float = 0.0  # latency of the first block
    blocks: int = 0
    frames: int = 0  # pictures made
    done_s: float = -math.inf  # when the latest block's pictures were there, on the clock of `add`

    def add(self, begun_s: float, done_s: float, frames: int) -> None:
        """Count one block: when it was begun, when its pictures were there, and how many."""
        self.first_s = done_s - begun_s if self.blocks == 0 else self.first_s
        self.blocks, self.frames = self.blocks + 1, self.frames + frames
        self.block_s = [*self.block_s[-_RECENT + 1 :], done_s - begun_s]
        self.taken_s = [*self.taken_s[-_RECENT + 1 :], done_s - max(begun_s, self.done_s)]
        self.done_s = done_s

    def report(self) -> dict[str, float]:
        """Sum up: seconds, pictures a second, and time of sound over time of computing.

        The first block is left out of the speeds where there are others: it warms up.
        """
        latency, taken = (np.array(x[1:] if len(x) > 1 else x or [np.nan]) for x in (self.block_s, self.taken_s))
        fps, (p50, p99) = self.frames / max(1, self.blocks) / taken.mean(), np.percentile(latency, (50, 99))
        out = {
            "first_chunk_s": self.wait_s + self.first_s, "first_compute_s": self.first_s, "wait_s": self.wait_s,
            "fps": fps, "real_time_factor": fps / FPS, "block_p50_s": p50, "block_p99_s": p99, "blocks": self.blocks,
            "frames": self.frames,
        }  # fmt: skip
        return {name: float(value) for name, value in out.items()}


class _Sound:
    """One side's sound as features on the frame grid, with the past that windows reach."""

    def __init__(self, audio: StreamingAudio, rate_hz: int, lead: int, early: int, device: torch.device) -> None:
        self.audio, self.rate_hz, self.device = audio, rate_hz, device
        self.early = early  # steps before the stream that belong to its first latent
        lead += early
        self.hop = rate_hz // (FPS * audio.steps_per_frame)
        self.state: Any = None
        silent_TA = audio(torch.zeros(rate_hz // FPS), rate_hz)
        self.features_TA = silent_TA[-1:].expand(lead, -1).to(device)
        self.on_T = torch.zeros(lead, dtype=torch.bool, device=device)
        self.on_N = torch.zeros(0, dtype=torch.bool)  # of the samples that do not fill a step yet

    def push(self, wave_N: Tensor | None, samples: int, on: bool) -> None:
        """Take sound, or as much of its absence, and turn whole steps into features."""
        wave = torch.zeros(samples) if wave_N is None else wave_N.detach().cpu().float()
        new_TA, self.state = self.audio.push(wave, self.rate_hz, self.state)
        on_N = torch.cat([self.on_N, torch.full((samples,), on and wave_N is not None)])
        whole = len(new_TA) * self.hop
        self.on_N = on_N[whole:]
        self.features_TA = torch.cat([self.features_TA, new_TA.to(self.device)])
        on_T = on_N[:whole].reshape(-1, self.hop).any(1).to(self.device)
        if self.early and len(on_T):  # that latent has the mode of its one picture, as in training
            self.on_T[-self.early :] = on_T[0]
            self.early = 0
        self.on_T = torch.cat([self.on_T, on_T])

    def drop(self, steps: int) -> None:
        """Forget what no window will reach again."""
        self.features_TA, self.on_T = self.features_TA[steps:].clone(), self.on_T[steps:].clone()


def _streamed(audio: AudioEncoder, codec: Codec, c: Model) -> StreamingAudio:
    """Return audio features that come as the model wants them. Raises ConfigError where they do not."""
    if not isinstance(audio, StreamingAudio):
        raise ConfigError(
            f"{audio.name} cannot be streamed, for it hears the clip as a whole: train with features of windows "
            "(data.audio.hop_frames above 0) or with logmel"
        )
    r = steps_per_latent(codec, audio)
    if (r, audio.width, codec.channels) != (c.audio_steps, c.audio_width, c.channels):
        raise ConfigError(
            f"{codec.name} with {audio.name} gives {r} steps of {audio.width} for latents of {codec.channels} "
            f"channels; the model wants {c.audio_steps} of {c.audio_width} for {c.channels}"
        )
    return audio


class StreamGenerator:
    """One character, driven by sound as it arrives."""

    def __init__(
        self, model: Performer, config: Config, codec: Codec, audio: AudioEncoder, text: TextEncoder,
        references: Conditions, *, rate_hz: int = 48_000, words: str = "", seed: int = 0,
        device: torch.device | str | None = None,
    ) -> None:  # fmt: skip
        """Begin a stream.

        Args:
            model: a causal student, or a backbone with its refiner, on its device; with `stream.bf16` weights become
                bfloat16, with `stream.fp8` those of large matrices float8.
            config: that of its checkpoint; `stream` may be changed.
            codec: decodes latents piece by piece.
            audio: makes features of sound; must have `push` and `needs`, as log-mel and windows of wav2vec2 have.
            text: makes embeddings of words.
            references: one row, of which the references alone are used, and the picture to begin with, if given.
            rate_hz: of the sound that will be pushed.
            words: what the performance is to be, until `push` says otherwise.
            seed: another one gives another performance of the same sound.
            device: of the model.

        Raises:
            ConfigError: the audio features cannot be streamed, or do not fit the model, or its device has no float8.
        """
        c, self.audio = config.model, _streamed(audio, codec, config.model)
        self.model, self.config, self.codec, self.text, self.seed = model.eval(), config, codec, text, seed
        self.device = torch.device(device or next(model.parameters()).device)
        set_for_stream(model, config.stream)
        self.size: tuple[int, ...] = tuple(references.ref_BKCHW.shape[2:])
        # The first latent of some codecs covers one picture: its other steps lie before the stream.
        self.early = (codec.stride[0] - 1) * audio.steps_per_frame if codec.first_alone else 0
        lead = c.frames_before * c.audio_steps
        self.sounds = [_Sound(self.audio, rate_hz, lead, self.early, self.device) for _ in range(2)]
        self.cond = references.select([0]).to(self.device)
        self.pictures = self.size[1] * codec.stride[1], self.size[2] * codec.stride[2]
        self._say(words)
        self.blank_CHW = None if self.cond.given_BFCHW is None else grey(codec, *self.pictures, str(self.device))
        self.lead, self.after = c.frames_before, c.frames_after
        self.timing = Timing(wait_s=self.sound_s(1))
        self.decoding = Decoding(codec, self.device, config.stream.decode == "beside", config.stream.bf16)
        self.rollout = started(model, self.cond, config.stream)
        if config.stream.compile and isinstance(self.rollout, StaticRollout):
            self._warm(self.rollout, self.lead + config.stream.block + self.after)

    def sound_s(self, pictures: int) -> float:
        """Return the seconds of sound after which so many pictures are there: whole blocks, and what is heard ahead."""
        block, r = self.config.stream.block, self.config.model.audio_steps
        steps = pictures * self.audio.steps_per_frame + self.early
        latents = -(-steps // (block * r)) * block + self.after
        return self.audio.needs(latents * r - self.early)

    def _say(self, words: str) -> None:
        text_BLD, mask_BL = self.text([words])
        self.cond = replace(self.cond, text_BLD=text_BLD.to(self.device), text_mask_BL=mask_BL.bool().to(self.device))

    @torch.no_grad()
    def push(
        self, speak_audio: Tensor | None, listen_audio: Tensor | None, text: str | None = None,
        on: tuple[bool, bool] = (True, True),
    ) -> Tensor:  # fmt: skip
        """Take the next sound of both sides and return the pictures that it completes.

        Args:
            speak_audio: what the character says, [N] in [-1, 1]; None: it does not speak.
            listen_audio: what it hears, as long; None: it hears nobody.
            text: new words for the performance from the next block on; None: as before.
            on: whether it speaks, and hears somebody. False with a sound: the mode is off, and the sound is what packed
                samples hold there (the room's tone while nobody talks), which windows of later frames reach.

        Returns:
            Pictures [n, 3, H', W'] in [-1, 1], n possibly 0: those of all blocks that this sound completes; with
            `stream.decode=beside` those of all but the latest block, which `rest` or the next block brings.

        Raises:
            ValueError: neither side says how long it is, or both say different.
        """
        lengths = {len(x) for x in (speak_audio, listen_audio) if x is not None}
        if len(lengths) != 1:
            raise ValueError(
                "push sound for one side at least, and as much for both; an idle character is pushed by `idle`"
            )
        return self.idle(lengths.pop(), text, speak_audio, listen_audio, on)

    @torch.no_grad()
    def idle(
        self, samples: int, text: str | None = None, speak: Tensor | None = None, listen: Tensor | None = None,
        on: tuple[bool, bool] = (True, True),
    ) -> Tensor:  # fmt: skip
        """Let time pass in which nobody speaks (or who is given, as `push` does)."""
        if text is not None:
            self._say(text)
        for sound, wave, mode in zip(self.sounds, (speak, listen), on, strict=True):
            sound.push(wave, samples, mode)
        out, frames = list[Tensor](), self.lead + self.config.stream.block + self.after
        while len(self.sounds[0].features_TA) >= frames * self.config.model.audio_steps:
            out += self._block(frames)
        return self._joined(out)

    def rest(self) -> Tensor:
        """Wait for the pictures of blocks that are still being decoded, [n, 3, H', W']; where none is, n is 0."""
        return self._joined(self._counted(0))

    @property
    def complete(self) -> int:
        """Pictures of all blocks so far, those of `rest` among them."""
        return picture_frames(self.codec, self.rollout.cache.seen)

    def _joined(self, parts: list[Tensor]) -> Tensor:
        return torch.cat(parts) if parts else torch.zeros(0, 3, *self.pictures, device=self.device)

    def _counted(self, leave: int) -> list[Tensor]:
        """Take decoded blocks, but for the latest `leave`, and count what they cost."""
        out = []
        for begun_s, done_s, pictures in self.decoding.take(leave):
            self.timing.add(begun_s, done_s, len(pictures))
            out.append(pictures)
        return out

    def _given(self, speak: Tensor, listen: Tensor, on: list[Tensor]) -> tuple[Conditions, int]:
        """Return conditions around the block at hand, of features [1, T, A] and modes, and its first frame there."""
        done, frames, more = self.rollout.cache.seen, on[0].shape[1], dict[str, Tensor]()
        if (first := self.cond.given_BFCHW) is not None and self.blank_CHW is not None:
            at = torch.arange(frames, device=self.device)[None] == self.lead - done  # where the stream begins
            given = torch.where(at[..., None, None, None], first[:, :1], self.blank_CHW.to(first))
            more = {"given_BFCHW": given, "given_on_BF": at}
        cond = replace(self.cond, speak_BTA=speak, listen_BTA=listen, speak_on_BF=on[0], listen_on_BF=on[1], **more)
        # What lies before the stream is null, as before a clip in training, until the window has moved past it.
        skip = max(0, self.lead - done)
        return cond.window(skip, frames), self.lead - skip

    def _draw(self, done: int) -> Draw:
        like, shape = torch.empty(0, device=self.device), (self.config.stream.block, *self.size)
        return lambda purpose: flow.noise(["stream"], shape, like, "stream", self.seed, done, purpose)

    def _warm(self, rollout: StaticRollout, frames: int) -> None:
        """Compile on silence that nobody hears: of the shapes that will come."""
        off = torch.zeros(1, frames, dtype=torch.bool, device=self.device)
        quiet = torch.zeros(1, frames * self.config.model.audio_steps, self.audio.width, device=self.device)
        rollout.warm(*self._given(quiet, quiet, [off, off]), self._draw(0))

    def _block(self, frames: int) -> list[Tensor]:
        begun_s = time.perf_counter()
        block, r, done = self.config.stream.block, self.config.model.audio_steps, self.rollout.cache.seen
        speak, listen = (s.features_TA[: frames * r][None] for s in self.sounds)
        on = [s.on_T[: frames * r].reshape(1, frames, r).float().mean(-1) >= 0.5 for s in self.sounds]
        latents = self.rollout.block(*self._given(speak, listen, on), self._draw(done))
        self.decoding.put(latents, begun_s)
        for sound in self.sounds:
            sound.drop(block * r)
        return self._counted(int(self.decoding.beside))
