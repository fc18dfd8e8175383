"""From a configuration to what works: encoders by their names, a loader, a model; a stage run, and one evaluated.

This is where the model's input widths are taken from the encoders and where splits are chosen. Errors that a user can
mend come up as `ConfigError`, `DataError`, `CheckpointError` or `TrainingError`.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from lpm_train import loop
from lpm_train.audio import make_audio, steps_per_latent
from lpm_train.batch import Batch
from lpm_train.checkpoint import load_weights, steps
from lpm_train.codec import latent_frames, latent_size, make_codec
from lpm_train.config import PRESETS, Config, ConfigError, StageName, override
from lpm_train.flops import forward_flops
from lpm_train.loader import Loader, LoaderConfig
from lpm_train.make import Encoders
from lpm_train.model import DiT
from lpm_train.order import Bucket
from lpm_train.parallel import Ranks, ranks
from lpm_train.probe import condition_gaps, heldout_loss
from lpm_train.rollout import causal_layout, roll
from lpm_train.sampling import Sampling
from lpm_train.shards import Shards
from lpm_train.stages import make_stage
from lpm_train.storage import DataError
from lpm_train.text import make_text


def parse_buckets(text: str) -> tuple[Bucket, ...]:
    """Read "FRAMESxHEIGHTxWIDTH[,...]".

    Raises:
        DataError: it is not of that form.
    """
    try:
        out = [tuple(int(n) for n in part.split("x")) for part in text.split(",")]
        return tuple((frames, height, width) for frames, height, width in out)
    except ValueError as e:
        raise DataError(f"buckets {text!r}: write FRAMESxHEIGHTxWIDTH, several with commas, e.g. 64x256x256") from e


def make_encoders(
    codec: str = "patch:4x8x8", audio: str = "logmel:2x80", text: str = "hashed-words:64x48", device: str = "cpu"
) -> Encoders:
    """Make the encoders that names stand for; the codec goes to `device`."""
    made = make_codec(codec)
    return Encoders(made.to(device) if hasattr(made, "to") else made, make_audio(audio), make_text(text), device)


def encoders_of(config: Config, device: str = "cpu") -> Encoders:
    """Make the encoders that a configuration names."""
    return make_encoders(config.data.codec, config.data.audio, config.data.text, device)


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
    if stage is not None and stage not in get_args(StageName):
        raise ConfigError(f"no stage {stage!r}: use one of {', '.join(get_args(StageName))}")
    config = override(config, [*settings, *([f"run.stage={stage}"] if stage else [])])
    return replace(config, data=replace(config.data, root=dataset, where=where or config.data.where))


def fitted(config: Config, encoders: Encoders) -> Config:
    """Take the model's input widths from the encoders, and see that a clip is whole blocks.

    Raises:
        ConfigError: a clip's latents are no whole number of blocks.
        DataError: pictures or clips do not fit the codec.
    """
    frames, t, block = latent_frames(encoders.codec, config.data.frames), encoders.codec.stride[0], config.stream.block
    if config.run.stage != "pretrain" and frames % block:
        raise ConfigError(
            f"data.frames {config.data.frames} are {frames} latents, no whole number of blocks of {block}: "
            f"set data.frames={config.data.frames - frames % block * t}"
        )
    model = replace(
        config.model, channels=encoders.codec.channels, audio_width=encoders.audio.width,
        audio_steps=steps_per_latent(encoders.codec, encoders.audio), text_width=encoders.text.width,
    )  # fmt: skip
    return replace(config, model=model)


def open_loader(config: Config, encoders: Encoders, where: str | None, place: Ranks | None = None) -> Loader:
    """Open the loader of a configuration over the samples that `where` selects."""
    d = config.data
    settings = LoaderConfig(
        buckets=((d.frames, d.height, d.width),), where=where or None, global_batch=d.batch, seed=config.run.seed,
        balance=d.balance or None, sampling=Sampling(hop_frames=d.hop_frames, max_refs=d.max_refs),
        precomputed=d.precomputed or None, workers=d.workers,
    )  # fmt: skip
    rank, size = (place.rank, place.size) if place is not None else (0, 1)
    return Loader(d.root, settings, encoders, rank=rank, world_size=size)


def _split(config: Config, split: str) -> str | None:
    """Return the condition of a split; None where it has no sample."""
    clause = f"({config.data.where or 'true'}) AND split = '{split}'"
    try:
        Shards(config.data.root, clause)
    except DataError:
        return None
    return clause


def step_flops(config: Config, encoders: Encoders) -> float:
    """Count the model operations of a step of flow matching over the global batch (0 for other stages)."""
    d, forced = config.data, config.run.stage == "causal"
    if config.run.stage not in ("pretrain", "causal"):
        return 0.0
    one = forward_flops(
        config.model, latent_frames(encoders.codec, d.frames), *latent_size(encoders.codec, d.height, d.width),
        refs=d.max_refs, text=encoders.text.length, block=config.stream.block if forced else 0,
        window=config.stream.window if forced else 0,
    )  # fmt: skip
    return 3 * one * d.batch


def run_stage(config: Config, out: Path, init: Path | None, teacher: Path | None) -> None:
    """Run one stage to its end, or go on with it where `out` holds checkpoints."""
    if config.run.stage != "pretrain" and init is None and not steps(out):
        raise ConfigError(f"{config.run.stage} starts from the stage before: name its run with --init")
    with ranks(config) as place:
        encoders = encoders_of(config, str(place.device))
        config = fitted(config, encoders)
        train = _split(config, "train") or config.data.where
        held = _split(config, "val")
        if held is None and place.first:
            print("no sample of the split val: held-out figures are of training samples")
        with open_loader(config, encoders, held or train, place) as loader:
            heldout = [next(loader) for _ in range(2)]
        start, judge = (load_weights(path)[1] if path is not None else None for path in (init, teacher))
        made, flops = make_stage(config, place, start, judge), step_flops(config, encoders)
        with open_loader(config, encoders, train, place) as loader:
            if place.first:
                print(f"{config.run.stage}: {loader.summary}", flush=True)
            loop.train(made, config, loader, out, heldout=heldout, where=place, flops_per_step=flops)


def load_model(checkpoint: Path, device: str = "cpu") -> tuple[Config, DiT]:
    """Load a checkpoint's averaged student, frozen."""
    config, weights = load_weights(checkpoint)
    model = DiT(config.model)
    model.load_state_dict(weights)
    return config, model.to(device).eval().requires_grad_(False)


@torch.no_grad()
def rollout_figures(model: DiT, config: Config, batch: Batch, times: int) -> dict[str, float]:
    """Stream `times` clip lengths and compare the last window with the first and with the data, in latents."""
    (_, F, C, H, W), x = batch.x_BFCHW.shape, batch.x_BFCHW
    names = ("speak_BTA", "listen_BTA", "speak_on_BF", "listen_on_BF")  # played again; text and references stay
    cond = replace(batch.cond, **{n: torch.cat([getattr(batch.cond, n)] * times, dim=1) for n in names})
    began = time.perf_counter()
    y = roll(model, cond, (C, H, W), batch.sample_ids, config.stream, "eval")
    took, first, last = time.perf_counter() - began, y[:, :F], y[:, -F:]

    def motion(z: Tensor) -> float:
        return float(z.diff(dim=1).abs().mean())

    return {
        "rollout.latents": float(y.shape[1]),
        "rollout.latents_per_s": y.shape[0] * y.shape[1] / took,
        "drift.mean": float((last.mean(dim=(1, 3, 4)) - first.mean(dim=(1, 3, 4))).abs().mean()),
        "drift.std_ratio": float(last.std() / first.std()),
        "motion_ratio.first": motion(first) / motion(x),
        "motion_ratio.last": motion(last) / motion(x),
    }


def run_eval(config: Config, model: DiT, dataset: str, where: str | None, batches: int) -> dict[str, float]:
    """Measure held-out loss by state, condition gaps, and a rollout of 20 clip lengths."""
    with open_loader(replace(config, data=replace(config.data, root=dataset)), encoders_of(config), where) as loader:
        held = [next(loader) for _ in range(batches)]
    layout = None if config.run.stage == "pretrain" else causal_layout(config.stream)
    figures = {f"heldout_loss.{k}": v for k, v in heldout_loss(model, held, layout).items()}
    if len(held[0]) > 1:
        figures |= {f"condition_gap.{k}": v for k, v in condition_gaps(model, held, layout).items()}
    return figures | (rollout_figures(model, config, held[0], 20) if layout is not None else {})
