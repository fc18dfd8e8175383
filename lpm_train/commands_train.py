"""What stands behind `lpm train run`, `lpm train eval` and `lpm stream`: plain functions of plain values.

They print for people, write JSON where asked, and return the exit code. Errors that a user can mend come up as
`ConfigError`, `DataError`, `CheckpointError` or `TrainingError`.
"""

from __future__ import annotations

import importlib
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lpm_train import loop
from lpm_train.audio import steps_per_latent
from lpm_train.batch import KINDS, Batch, Conditions
from lpm_train.checkpoint import find, load_weights, steps
from lpm_train.codec import encode_images, latent_frames, latent_size
from lpm_train.commands_data import make_encoders
from lpm_train.config import PRESETS, Config, ConfigError, override
from lpm_train.flops import forward_flops
from lpm_train.loader import Loader, LoaderConfig
from lpm_train.make import Encoders
from lpm_train.media import load_image, load_sound, write_mp4
from lpm_train.model import DiT
from lpm_train.parallel import Ranks, ranks
from lpm_train.probe import condition_gaps, heldout_loss
from lpm_train.rollout import causal_layout, roll
from lpm_train.sampling import Sampling
from lpm_train.shards import Shards
from lpm_train.stages import make_stage
from lpm_train.storage import DataError
from lpm_train.stream import StreamGenerator, StreamingAudio
from schemas.sample import FPS, SAMPLES_PER_FRAME
from schemas.time import PACKED_AUDIO_HZ

_STAGES = ("pretrain", "causal", "consistency", "distill")


def resolve(preset: str, stage: str | None, dataset: str, where: str | None, settings: Sequence[str]) -> Config:
    """Make the configuration of a run: a preset or an importable function, then the settings on top.

    Raises:
        ConfigError: no such preset, function, stage or field.
    """
    if preset in PRESETS:
        config = PRESETS[preset]()
    elif ":" in preset:
        module, _, name = preset.partition(":")
        try:
            config = getattr(importlib.import_module(module), name)()
        except (ImportError, AttributeError) as e:
            raise ConfigError(f"cannot import the recipe {preset}: {e}") from e
        if not isinstance(config, Config):
            raise ConfigError(f"{preset} returns a {type(config).__name__}, not an lpm_train.config.Config")
    else:
        raise ConfigError(f"no preset {preset!r}: use one of {', '.join(PRESETS)}, or module:function")
    if stage is not None and stage not in _STAGES:
        raise ConfigError(f"no stage {stage!r}: use one of {', '.join(_STAGES)}")
    config = override(config, settings)
    run = replace(config.run, stage=stage or config.run.stage)  # type: ignore[arg-type]
    return replace(config, run=run, data=replace(config.data, root=dataset, where=where or config.data.where))


def encoders_of(config: Config, device: str = "cpu") -> Encoders:
    """Make the encoders that a configuration names."""
    return make_encoders(config.data.codec, config.data.audio, config.data.text, device)


def fitted(config: Config, encoders: Encoders) -> Config:
    """Take the model's input widths from the encoders, and see that a clip is whole blocks.

    Raises:
        ConfigError: a clip's latents are no whole number of blocks.
        DataError: pictures or clips do not fit the codec.
    """
    frames = latent_frames(encoders.codec, config.data.frames)
    if config.run.stage != "pretrain" and frames % config.stream.block:
        t = encoders.codec.stride[0]
        raise ConfigError(
            f"data.frames {config.data.frames} are {frames} latents, no whole number of blocks of "
            f"{config.stream.block}: set data.frames={config.data.frames - frames % config.stream.block * t}"
        )
    model = replace(
        config.model, channels=encoders.codec.channels, audio_width=encoders.audio.width,
        audio_steps=steps_per_latent(encoders.codec, encoders.audio), text_width=encoders.text.width,
    )  # fmt: skip
    return replace(config, model=model)


def open_loader(config: Config, encoders: Encoders, where: str | None, ranks_: Ranks | None = None) -> Loader:
    """Open the loader of a configuration over the samples that `where` selects."""
    d = config.data
    settings = LoaderConfig(
        buckets=((d.frames, d.height, d.width),), where=where, global_batch=d.batch, seed=config.run.seed,
        balance=d.balance or None, sampling=Sampling(hop_frames=d.hop_frames, max_refs=d.max_refs),
        precomputed=d.precomputed or None, workers=d.workers,
    )  # fmt: skip
    rank, size = (ranks_.rank, ranks_.size) if ranks_ is not None else (0, 1)
    return Loader(d.root, settings, encoders, rank=rank, world_size=size)


def _split(where: str, split: str) -> str:
    return f"({where}) AND split = '{split}'" if where else f"split = '{split}'"


def _has(dataset: str, where: str) -> bool:
    try:
        return len(Shards(dataset, where)) > 0
    except DataError:
        return False


def step_flops(config: Config, encoders: Encoders) -> float:
    """Count the model operations of a step of flow matching over the global batch (not of distillation)."""
    d = config.data
    H, W = latent_size(encoders.codec, d.height, d.width)
    forced = config.run.stage == "causal"
    one = forward_flops(
        config.model, latent_frames(encoders.codec, d.frames), H, W, refs=d.max_refs, text=encoders.text.length,
        block=config.stream.block if forced else 0, window=config.stream.window if forced else 0,
    )  # fmt: skip
    return 3 * one * d.batch if config.run.stage in ("pretrain", "causal") else 0.0


def run_stage(
    dataset: str,
    out: Path,
    preset: str,
    stage: str | None,
    init: Path | None,
    teacher: Path | None,
    where: str | None,
    settings: Sequence[str],
) -> int:
    """Run one stage to its end, or go on with it where `out` holds checkpoints."""
    config = resolve(preset, stage, dataset, where, settings)
    if config.run.stage != "pretrain" and init is None and not steps(out):
        raise ConfigError(f"{config.run.stage} starts from the stage before: name its run with --init")
    with ranks(config) as place:
        encoders = encoders_of(config, str(place.device))
        config = fitted(config, encoders)
        train_where = _split(config.data.where, "train")
        if not _has(dataset, train_where):
            train_where = config.data.where
        held = _split(config.data.where, "val")
        if not _has(dataset, held):
            held = train_where
            if place.first:
                print("no sample of the split val: held-out figures are of training samples")
        with open_loader(config, encoders, held or None, place) as loader:
            heldout = [next(loader) for _ in range(2)]
        start = load_weights(init)[1] if init is not None else None
        judge = load_weights(teacher)[1] if teacher is not None else None
        made = make_stage(config, place, start, judge)
        with open_loader(config, encoders, train_where or None, place) as loader:
            if place.first:
                print(f"{config.run.stage}: {loader.summary}", flush=True)
            loop.train(
                made, config, loader, out, heldout=heldout, where=place, flops_per_step=step_flops(config, encoders)
            )
    return 0


def load_model(checkpoint: Path, device: str = "cpu") -> tuple[Config, DiT]:
    """Load a checkpoint's averaged student, frozen."""
    config, weights = load_weights(checkpoint)
    model = DiT(config.model)
    model.load_state_dict(weights)
    return config, model.to(device).eval().requires_grad_(False)


def repeated(cond: Conditions, times: int) -> Conditions:
    """Play a clip's sounds and modes several times in a row; text and references stay."""
    names = ("speak_BTA", "listen_BTA", "speak_on_BF", "listen_on_BF")
    return replace(cond, **{n: torch.cat([getattr(cond, n)] * times, dim=1) for n in names})


@torch.no_grad()
def rollout_figures(model: DiT, config: Config, batch: Batch, times: int) -> dict[str, float]:
    """Stream `times` clip lengths and compare the last window with the first and with the data, in latents."""
    x, F = batch.x_BFCHW, batch.x_BFCHW.shape[1]
    began = time.perf_counter()
    y: Tensor = roll(
        model,
        repeated(batch.cond, times),
        (x.shape[2], x.shape[3], x.shape[4]),
        batch.sample_ids,
        config.stream,
        "eval",
    )
    took = time.perf_counter() - began

    def motion(z: Tensor) -> float:
        return float(z.diff(dim=1).abs().mean())

    first, last = y[:, :F], y[:, -F:]
    return {
        "rollout.latents": float(y.shape[1]),
        "rollout.latents_per_s": y.shape[0] * y.shape[1] / took,
        "drift.mean": float((last.mean(dim=(1, 3, 4)) - first.mean(dim=(1, 3, 4))).abs().mean()),
        "drift.std_ratio": float(last.std() / first.std()),
        "motion_ratio.first": motion(first) / motion(x),
        "motion_ratio.last": motion(last) / motion(x),
    }


def run_eval(checkpoint: Path, dataset: str, where: str | None, batches: int, out: Path | None) -> int:
    """Print held-out loss by state, condition gaps, and what happens in a rollout of 20 clip lengths."""
    config, model = load_model(checkpoint)
    encoders = encoders_of(config)
    config = replace(config, data=replace(config.data, root=dataset))
    with open_loader(config, encoders, where) as loader:
        held = [next(loader) for _ in range(batches)]
    layout = None if config.run.stage == "pretrain" else causal_layout(config.stream)
    figures = {f"heldout_loss.{k}": v for k, v in heldout_loss(model, held, layout).items()}
    if len(held[0]) > 1:
        figures |= {f"condition_gap.{k}": v for k, v in condition_gaps(model, held, layout).items()}
    if layout is not None:
        figures |= rollout_figures(model, config, held[0], 20)
    print(f"{find(checkpoint)} ({config.run.stage}), {sum(len(b) for b in held)} samples where {where}")
    for name, value in figures.items():
        print(f"  {name:28s} {value:.4g}")
    if out is not None:
        out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


def reference_conditions(config: Config, encoders: Encoders, images: Sequence[tuple[str, Path]]) -> Conditions:
    """Encode (kind, picture file) pairs as one row of conditions in which only the references count.

    Raises:
        ConfigError: a kind that does not exist, or more pictures than the model was trained with.
        DataError: a file is no picture.
    """
    if len(images) > config.data.max_refs:
        raise ConfigError(f"{len(images)} pictures, but this model was trained with at most {config.data.max_refs}")
    if wrong := [kind for kind, _ in images if kind not in KINDS]:
        raise ConfigError(f"no reference kind {wrong[0]!r}: use one of {', '.join(KINDS)}")
    pictures = torch.stack([load_image(path, config.data.height, config.data.width) for _, path in images])
    m, K = config.model, len(images)
    off = torch.zeros(1, 1, dtype=torch.bool)
    return Conditions(
        speak_BTA=torch.zeros(1, m.audio_steps, m.audio_width), listen_BTA=torch.zeros(1, m.audio_steps, m.audio_width),
        speak_on_BF=off, listen_on_BF=off, text_BLD=torch.zeros(1, encoders.text.length, m.text_width),
        text_mask_BL=torch.zeros(1, encoders.text.length, dtype=torch.bool),
        ref_BKCHW=encode_images(encoders.codec, pictures)[None], ref_mask_BK=torch.ones(1, K, dtype=torch.bool),
        ref_kind_BK=torch.tensor([[KINDS[kind] for kind, _ in images]]),
    )  # fmt: skip


def play(
    generator: StreamGenerator, speak: Tensor | None, listen: Tensor | None, samples: int, chunk: int
) -> Iterator[NDArray[np.uint8]]:
    """Push sounds of 48 kHz chunk by chunk, as they would arrive live, and yield frames uint8 [H, W, 3].

    A side is off before its sound begins and after it ends; `samples` is the length of the stream.
    """
    for start in range(0, samples, chunk):
        parts = []
        for wave in (speak, listen):
            part = wave[start : start + chunk] if wave is not None and start < len(wave) else None
            parts.append(None if part is None else torch.nn.functional.pad(part, (0, chunk - len(part))))
        if parts[0] is None and parts[1] is None:
            pictures = generator.idle(chunk)
        else:
            pictures = generator.push(parts[0], parts[1])
        for picture in pictures:
            yield np.asarray(((picture.permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).byte().cpu().numpy())


def run_stream(
    checkpoint: Path,
    image: Path,
    out: Path,
    refs: Sequence[str],
    speak: Path | None,
    listen: Path | None,
    text: str,
    seconds: float | None,
    seed: int,
) -> int:
    """Generate a video from sounds, block by block, and print what it cost."""
    config, model = load_model(checkpoint)
    encoders = encoders_of(config)
    if config.run.stage == "pretrain":
        raise ConfigError(f"{checkpoint} sees both directions and cannot stream: give a causal or distilled checkpoint")
    images = [("global", image)]
    for ref in refs:
        kind, sign, path = ref.partition(":")
        images.append((kind, Path(path)) if sign and kind in KINDS else ("view", Path(ref)))
    sounds = [load_sound(p) if p is not None else None for p in (speak, listen)]
    longest = max((len(w) for w in sounds if w is not None), default=0)
    if seconds is None and not longest:
        raise ConfigError("nothing says how long the video is to be: give --speak, --listen or --seconds")
    n_frames = math.ceil((longest / PACKED_AUDIO_HZ if seconds is None else seconds) * FPS - 1e-6)
    generator = StreamGenerator(
        model, config, encoders.codec, cast(StreamingAudio, encoders.audio), encoders.text,
        reference_conditions(config, encoders, images), words=text, seed=seed,
    )  # fmt: skip
    chunk = config.stream.block * encoders.codec.stride[0] * SAMPLES_PER_FRAME
    # The look-ahead of the audio windows and the last block are filled with quiet, and cut off again.
    total = n_frames * SAMPLES_PER_FRAME + (1 + -(-generator.after // config.stream.block)) * chunk
    frames = islice(play(generator, sounds[0], sounds[1], total, chunk), n_frames)
    voice = None if sounds[0] is None else sounds[0][: n_frames * SAMPLES_PER_FRAME].numpy()
    written = write_mp4(out, frames, voice)
    t = generator.timing.report()
    print(
        f"{out}: {written} frames, {written / FPS:.2f} s; first chunk after {t['first_chunk_s']:.3f} s "
        f"({t['wait_s']:.3f} s of sound + {t['first_compute_s']:.3f} s), then {t['fps']:.1f} frames/s "
        f"({t['real_time_factor']:.2f} x real time), block p50 {t['block_p50_s']:.3f} s, p99 {t['block_p99_s']:.3f} s"
    )
    return 0
