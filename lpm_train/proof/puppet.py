"""Drive a model with puppet scenes and read back what it generated: the test bench of `toy` and of the tests.

A scene becomes conditions through the same codec, sound and text encoders as a sample of a shard. What a model
generates is decoded, read, and compared with the scene in closed form. Costs a rollout and about 1 ms a frame.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lpm_train.batch import KINDS, STATES, Batch, Conditions
from lpm_train.data.clip import to_pixels, to_unit
from lpm_train.data.make import Encoders
from lpm_train.encoders.audio import latent_steps
from lpm_train.encoders.codec import encode_images, latent_frames, latent_span
from lpm_train.proof.metrics import motion_energy, puppet_metrics
from lpm_train.proof.synthetic import (
    CAPTIONS,
    U8,
    Scene,
    draw_scene,
    identity,
    read_factors,
    reference_pictures,
    render,
    tracks,
)
from schemas.samples.sample import State
from schemas.time import PACKED_AUDIO_HZ


def held_out_scenes(
    n: int, n_frames: int, seed: int = 9_000_000, run_frames: tuple[int, int] = (24, 72)
) -> list[Scene]:
    """Draw scenes of people that no dataset holds, changing between all four states; every caption in turn."""
    scenes = []
    for i in range(n):
        rng = np.random.default_rng([seed, i])
        states: list[State] = ["speak", "listen", "idle", "both"]
        runs: list[tuple[State, int]] = []
        left, at = n_frames, int(rng.integers(4))
        while left:
            length = min(left, int(rng.integers(*run_frames)) // 4 * 4)
            runs.append((states[at % 4], length))
            left, at = left - length, at + int(rng.integers(1, 4))
        hands = list(CAPTIONS)[i % len(CAPTIONS)]
        scenes.append(draw_scene(seed + i, n_frames, identity(seed + i), runs, hands))
    return scenes


def to_frames(latents_FCHW: Tensor, encoders: Encoders) -> U8:
    """Decode a clip of latents to uint8 RGB frames [T, H, W, 3]."""
    frames, _ = encoders.codec.decode(latents_FCHW[None])
    return to_pixels(frames[0])


@torch.no_grad()
def scene_batch(scenes: Sequence[Scene], encoders: Encoders, max_refs: int = 3) -> Batch:
    """Encode scenes of one length as a batch: their pictures, and all that drives them."""
    codec, q, rows = encoders.codec, encoders.audio.steps_per_frame, []
    F = latent_frames(codec, scenes[0].n_frames)
    for scene in scenes:
        pictures = torch.from_numpy(render(scene)).permute(0, 3, 1, 2)
        x = codec.encode(to_unit(pictures)[None])
        sounds = [encoders.audio(torch.from_numpy(s), PACKED_AUDIO_HZ).float() for s in tracks(scene)]
        silence = encoders.audio(torch.zeros(PACKED_AUDIO_HZ), PACKED_AUDIO_HZ)[10]
        speak, listen = (latent_steps(s, codec, 0, F, q, silence)[None] for s in sounds)
        middle = [sum(latent_span(codec, i)) // 2 for i in range(F)]
        state = torch.tensor([[STATES.index(scene.states[i]) for i in middle]], dtype=torch.int8)
        refs = reference_pictures(scene.identity, scene.seed)[:max_refs]
        images = to_unit(torch.from_numpy(np.stack([p for _, _, p in refs])).permute(0, 3, 1, 2))
        text, mask = encoders.text([scene.caption])
        cond = Conditions(
            speak_BTA=speak, listen_BTA=listen, speak_on_BF=(state & 1).bool(), listen_on_BF=(state & 2).bool(),
            text_BLD=text, text_mask_BL=mask, ref_BKCHW=encode_images(codec, images)[None],
            ref_mask_BK=torch.ones(1, len(refs), dtype=torch.bool),
            ref_kind_BK=torch.tensor([[KINDS[kind] for kind, _, _ in refs]]),
        )  # fmt: skip
        rows.append(Batch(x_BFCHW=x.float(), cond=cond, state_BF=state, sample_ids=(f"scene-{scene.seed}",)))
    return Batch.cat(rows)


def measure(latents_BFCHW: Tensor, scenes: Sequence[Scene], encoders: Encoders, window: int) -> dict[str, float]:
    """Read generated clips back and compare them with their scenes; see `metrics.puppet_metrics`.

    `sway_std_ratio` and `motion_energy_ratio` are over the scenes' own pictures, not over what the codec makes of them.
    """
    clips = [to_frames(x, encoders) for x in latents_BFCHW]
    data = [render(s)[: len(c)] for c, s in zip(clips, scenes, strict=True)]
    energy = (float(np.mean([motion_energy(c) for c in clips])), float(np.mean([motion_energy(c) for c in data])))
    return puppet_metrics([read_factors(c) for c in clips], scenes, window, energy)


def measure_lengths(
    latents_BFCHW: Tensor, scenes: Sequence[Scene], encoders: Encoders, window: int, lengths: Sequence[int]
) -> dict[int, dict[str, float]]:
    """Read rollouts back at several lengths; see `measure`.

    Args:
        latents_BFCHW: rollouts, at least as long as the longest length.
        scenes: what drove them.
        encoders: of `scene_batch`.
        window: frames of a training clip.
        lengths: rising, in windows; figures of each are those of the windows since the length before.

    Returns:
        Figures by length. `drift.brightness` is against the first window of all.
    """
    clips = [to_frames(x, encoders) for x in latents_BFCHW]
    shown, out, since = [read_factors(c) for c in clips], dict[int, dict[str, float]](), 0
    light = float(np.mean([f.brightness[:window] for f in shown]))
    for length in lengths:
        to = length * window
        parts = [s.cut(since, to) for s in scenes]
        data = float(np.mean([motion_energy(render(s)) for s in parts]))
        energy = float(np.mean([motion_energy(c[since:to]) for c in clips]))
        figures = puppet_metrics([f.cut(since, to) for f in shown], parts, window, (energy, data))
        figures["drift.brightness"] = float(np.mean([f.brightness[to - window : to] for f in shown])) - light
        out[length], since = figures, to
    return out


def strip(clips: Sequence[U8], every: int, scale: int = 3) -> U8:
    """Lay clips out as rows of every n-th frame, enlarged."""
    rows = [np.concatenate(list(c[::every]), axis=1) for c in clips]
    return np.asarray(np.concatenate(rows).repeat(scale, axis=0).repeat(scale, axis=1))
