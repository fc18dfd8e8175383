"""From a configuration to what works: encoders as they are chosen, a loader, a model, and a stage that is run.

This is where the model's input widths are taken from the encoders and where splits are chosen. Errors that a user can
mend come up as `ConfigError`, `DataError`, `CheckpointError` or `TrainingError`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, cast

import torch
import yaml

from lpm_train.batch import Batch, BatchSource
from lpm_train.config import Base, Config, ConfigError, Data, Distill, Model, override
from lpm_train.data.chain_loader import ChainLoader
from lpm_train.data.loader import Loader
from lpm_train.data.make import Encoders
from lpm_train.data.precomputed import read_sizes
from lpm_train.data.shards import holds, of_shapes, shapes_of
from lpm_train.data.sizes import Rule, choose, choose_bucket, chosen_for, fit, refusal, said
from lpm_train.encoders.audio import steps_per_latent
from lpm_train.encoders.codec import latent_frames
from lpm_train.extras import tensorboard
from lpm_train.network.base import Opened, open_base
from lpm_train.network.lora import merge
from lpm_train.network.model import DiT
from lpm_train.network.refine import Performer, Refined
from lpm_train.presets import PRESETS
from lpm_train.training import loop
from lpm_train.training.checkpoint import CheckpointError, Saved, find, home, path_of, read_config, read_meta, steps
from lpm_train.training.checkpoint_files import Place, placed
from lpm_train.training.parallel import Ranks, ranks
from lpm_train.training.stage import make_stage
from lpm_train.training.start import build
from schemas import yaml12
from schemas.use import near

_NAMED = 3  # clips that are named where many are meant


def make_encoders(data: Data, device: str = "cpu") -> Encoders:
    """Make the encoders that a configuration names; codec and sound's network go to `device`."""
    moved: list[Any] = [data.codec.build(), data.audio.build()]
    codec, audio = (part.to(device) if hasattr(part, "to") else part for part in moved)
    return Encoders(codec, audio, data.text.build(), device, data.picture.build())


def resolve(
    preset: str | None, dataset: str, where: str | None = None, settings: Sequence[str] = (), *runs: Place | None,
    base: str | None = None,
) -> Config:  # fmt: skip
    """Make the configuration of a run: where it begins, then the settings on top.

    Args:
        preset: a preset, or a YAML file of settings over one; None: as the first of `runs` that there is, else `small`.
        dataset: what is read.
        where: SQL condition over its manifest; None: that of the configuration.
        settings: `section.field=value`, each.
        runs: directories of earlier runs, or where their checkpoints lie.
        base: public weights to begin with, `wan:DIRECTORY`; they decide the network, and the preset where none is.

    Raises:
        ConfigError: no such preset, file or field.
    """
    found = open_base(base) if base else None
    config = next(filter(None, map(_earlier, runs)), None) if preset is None else None
    config = config or _preset(preset or _nearest(found))
    if found:
        config = replace(
            config, model=replace(config.model, **found.form),
            base=Base(weights=found.weights, sha256=found.files.sha256),
            data=replace(config.data, first_frame=found.form["image_channels"] > 0),
        )  # fmt: skip
    config = override(config, settings)
    return replace(config, data=replace(config.data, root=dataset, where=where or config.data.where))


def _earlier(run: Place | None) -> Config | None:
    """Read the configuration of a run, where there is one."""
    if run is None or isinstance(run := placed(run), str):
        return None if run is None else read_config(find(run))
    return read_config(run) if (run / "config.json").exists() else None


def _nearest(base: Opened | None) -> str:
    """Name the preset for a base: that of its size."""
    if base is None:
        return "small"
    names = [n for n in PRESETS if n.startswith("wan_")]
    return min(names, key=lambda n: abs(PRESETS[n]().model.width - int(base.form["width"])))


def _preset(name: str) -> Config:
    """Return a preset, or what a YAML file lays over one; modules beside that file can be named in `use:`."""
    if name in PRESETS:
        return PRESETS[name]()
    file = Path(name)
    if not file.is_file():
        over = "a YAML file of settings over one, such as `preset: toy` and `optim: {lr: 1e-3}`"
        raise ConfigError(f"no preset {name!r}; {near(name, PRESETS)} or name {over}")
    try:
        sections = yaml12.load(file.read_text(encoding="utf-8"))
        base = _preset(str(sections.pop("preset", "small")))
        said = [f"{part}.{key}={json.dumps(value)}" for part, keys in sections.items() for key, value in keys.items()]
    except (yaml.YAMLError, AttributeError, TypeError) as e:
        raise ConfigError(f"{name} holds no settings by section, such as `optim: {{lr: 1e-3}}`: {e}") from e
    if (folder := str(file.parent.absolute())) not in sys.path:
        sys.path.append(folder)  # last: nothing that is installed is shadowed
    return override(base, said)


def fitted(config: Config, encoders: Encoders) -> Config:
    """Take the model's input widths from the encoders, and see that clips and rollouts are whole blocks.

    Raises:
        ConfigError: a clip's latents are no whole number of blocks, or a rollout beyond the clip cannot be judged.
        DataError: pictures or clips do not fit the codec.
    """
    block = config.stream.block
    for frames in (size[0] for size in config.data.sizes):
        latents = latent_frames(encoders.codec, frames)
        if config.run.stage.choice != "pretrain" and latents % block:
            raise ConfigError(
                f"clips of {frames} frames are {latents} latents, no whole number of blocks of {block}: "
                f"set data.frames={frames - latents % block * encoders.codec.stride[0]}"
            )
    if config.base.weights:
        m, codec, text, picture = config.model, encoders.codec, encoders.text, encoders.picture
        pairs = [("codec", m.channels, codec.channels), ("text", m.text_width, text.width)]
        pairs += [("picture", m.picture_width, picture.width)] * bool(picture.width)
        for part, read, made in pairs:
            if read != made:
                raise ConfigError(
                    f"the base reads data.{part} of width {read}, the chosen one gives {made}: name its own"
                )
    model = replace(
        config.model, channels=encoders.codec.channels, audio_width=encoders.audio.width,
        audio_steps=steps_per_latent(encoders.codec, encoders.audio), text_width=encoders.text.width,
    )  # fmt: skip
    return replace(config, model=model, distill=_judged(config, encoders))


def sized(config: Config, encoders: Encoders, say: Callable[[str], None] = lambda said: None) -> Config:
    """Settle what clips are cut to: sizes of the clips' own where they are asked for, which fit in any case.

    Sizes that are chosen are those of the precomputed set, where one is named that is there.

    Args:
        config: whose `data` says how sizes are found, and what fits.
        encoders: whose codec, with the model's patch, says of what sides are multiples.
        say: is told which sizes were chosen, and which clips fit none.

    Raises:
        ConfigError: clips do not fit the sizes, or none can be chosen.
    """
    data, (_, high, wide), patch = config.data, encoders.codec.stride, config.model.patch
    rule, unit, shapes = Rule.of(data), (high * patch, wide * patch), shapes_of(data.root, data.where or None)
    own = partial(choose, shapes, data.frames, data.most_pixels, unit, rule=rule)
    if data.auto_sizes:
        found = (data.precomputed and read_sizes(data.root, data.precomputed)) or own(most=data.auto_sizes)
        if not found:
            raise ConfigError(
                f"data.auto_sizes finds no size of multiples of {unit[1]}x{unit[0]} and {data.frames} frames among "
                f"{shapes.total()} clips: set fewer data.frames, pack them larger, or take a codec of smaller stride"
            )
        data = chosen_for(data, found)
        say(f"sizes, frames x height x width: {said(data.sizes, shapes, rule)}")
    fits = fit(shapes, data.sizes, rule)
    if fits.misfits and data.misfits == "refuse":
        raise ConfigError(refusal(fits, rule, own(most=4)))
    if fits.misfits:
        more = ", ..." * (fits.misfits > _NAMED)
        say(
            f"{fits.misfits} of {fits.clips} clips fit no size and are left out (--set data.auto_sizes=N chooses up "
            f"to N sizes): {', '.join(islice(misfits(data), _NAMED))}{more}"
        )
    return replace(config, data=data)


def misfits(data: Data) -> Iterator[str]:
    """Yield the ids of clips that are long enough and fit no size."""
    rule, shortest = Rule.of(data), min(size[0] for size in data.sizes)
    return of_shapes(
        data.root, data.where or None,
        lambda n, width, height: n >= shortest and choose_bucket(n, width, height, data.sizes, rule) is None,
    )  # fmt: skip


def clip_latents(config: Config, encoders: Encoders) -> int:
    """Return the latents of the shortest clip: what models have seen at once of every size."""
    return min(latent_frames(encoders.codec, size[0]) for size in config.data.sizes)


def chained(config: Config, encoders: Encoders) -> bool:
    """Whether rollouts are longer than a clip, so that their conditions come from chains of clips."""
    return config.run.stage.choice == "distill" and config.distill.rollout > clip_latents(config, encoders)


def _judged(config: Config, encoders: Encoders) -> Distill:
    """Settle how much of a rollout beyond the clip is judged: as much as the teacher has ever seen, its last part."""
    d, clip, block = config.distill, clip_latents(config, encoders), config.stream.block
    if not chained(config, encoders):
        return d
    if d.policy != "own":
        raise ConfigError(f"distill.policy={d.policy} takes clips: distill.rollout {d.rollout} is for policy=own")
    if d.loss_frames > clip or d.rollout % block:
        raise ConfigError(
            f"distill.rollout {d.rollout} must be a multiple of block {block}, and distill.loss_frames {d.loss_frames} "
            f"at most a clip's {clip} latents: the teacher has never judged more"
        )
    if config.data.first_frame or config.data.picture.choice != "none":
        raise ConfigError(
            f"distill.rollout {d.rollout} is longer than a clip ({clip} latents), and this base begins each clip with "
            "a given picture, which the end of a rollout does not have: use a text-to-video base, or shorter rollouts"
        )
    return replace(d, loss_frames=d.loss_frames or clip)


def open_chains(config: Config, data: Data, encoders: Encoders, rank: int = 0, world_size: int = 1) -> ChainLoader:
    """Open the chains of rollouts beyond the clip. Raises DataError where none is long enough."""
    return ChainLoader(
        data, encoders, latents=config.distill.rollout, gap_s=config.distill.gap_s, block=config.stream.block,
        seed=config.run.seed, rank=rank, world_size=world_size,
    )  # fmt: skip


def too_narrow(model: Model) -> str:
    """Say what a model loses that is narrower than its tokens: noise of more dimensions than it can hold; or ""."""
    values = model.channels * model.patch**2
    if model.width >= values:
        return ""
    return (
        f"warning: model.width {model.width} cannot hold tokens of {values} values ({model.channels} channels, patch "
        f"{model.patch}): {1 - model.width / values:.0%} of the noise stays unexplained, and the loss above that; "
        "widen the model, or take a smaller patch or a codec of fewer channels"
    )


def _split(data: Data, split: str) -> Data | None:
    """Narrow data to a split; None where it has no sample."""
    clause = f"({data.where or 'true'}) AND split = '{split}'"
    return replace(data, where=clause) if holds(data.root, clause) else None


class Shown(loop.Watching, Protocol):
    """What shows a run, and is closed in the end."""

    def close(self) -> None:
        """Let go of the data."""


Watch = Callable[[Config, Encoders, Data, str, Path, Ranks], Shown | None]
"""Opens what shows a run, of clips of the given data, which is the named split."""


def run_stage(
    config: Config, out: Path, init: Place | None = None, teacher: Place | None = None,
    work: Callable[[Config, Encoders], float] = lambda config, encoders: 0.0, watch: Watch | None = None,
    backbone: Place | None = None,
) -> None:  # fmt: skip
    """Run one stage to its end, or go on with it where `out` holds checkpoints.

    Args:
        config: everything.
        out: the run's directory.
        init: run or checkpoint of the stage before.
        teacher: run or checkpoint of distillation's teacher; None: that of `init`, and of a run that goes on its own.
        work: counts the model operations of a step, for `tflops` in the log.
        watch: opens what shows the run; None: nothing does.
        backbone: run or checkpoint of a refiner's backbone; None: that of `init`.

    Raises:
        ConfigError: a stage other than pretraining has nothing to start from, or settings do not fit each other.
        DataError: the data cannot be used.
        CheckpointError: a run that goes on has lost its teacher, or is given another.
    """
    there = steps(home(out, config.run.checkpoints))
    begins = ("pretrain", "causal") if config.base.weights else ("pretrain",)
    if config.run.stage.choice not in begins and init is None and not there:
        raise ConfigError(f"{config.run.stage} starts from the stage before: name its run with --init")
    if config.log.tensorboard:
        tensorboard.summary_writer()  # that it is missing is said before any work
    with ExitStack() as stack:
        place = stack.enter_context(ranks(config))
        encoders = make_encoders(config.data, str(place.device))
        config = fitted(
            sized(config, encoders, partial(print, flush=True) if place.first else lambda said: None), encoders
        )
        if place.first and (warning := too_narrow(config.model)):
            print(warning, flush=True)
        train, held = _split(config.data, "train") or config.data, _split(config.data, "val")
        if held is None and place.first:
            print("no sample of the split val: held-out figures are of training samples")
        share = {"seed": config.run.seed, "rank": place.data_rank, "world_size": place.data_size}
        loader: Loader | ChainLoader
        if chained(config, encoders):
            loader = open_chains(config, train, encoders, place.data_rank, place.data_size)
        else:
            loader = Loader(train, encoders, **share)
        stack.enter_context(loader)
        if place.first:
            print(f"{config.run.stage}: {loader.summary}", flush=True)
        source = cast(BatchSource[Batch], loader)  # distillation alone asks for chains, and for no latents of them
        with Loader(held or train, encoders, **share) as other:
            heldout = [next(other) for _ in range(2)]
        start, judge = _begun(config, out, init, teacher)
        made = make_stage(config, place, start, judge, _backbone(backbone or init, config))
        shown = watch(config, encoders, held or train, "val" if held else "train", out, place) if watch else None
        if shown is not None:
            stack.callback(shown.close)
        board = None
        if config.log.tensorboard and place.first:
            board = stack.enter_context(tensorboard.board(out, max(there, default=0)))
        loop.train(
            made, config, source, out, heldout=heldout, where=place, flops_per_step=work(config, encoders),
            watch=shown, board=board,
        )  # fmt: skip


def _begun(
    config: Config, out: Path, init: Place | None, teacher: Place | None
) -> tuple[Saved | None, Saved | None]:  # fmt: skip
    """Return what a stage's models begin with, and its judge; a run that goes on reads its judge again."""
    start, judge = (_saved(p, config) if p is not None else None for p in (init, teacher))
    lies = home(out, config.run.checkpoints)
    if there := steps(lies):
        last = path_of(lies, there[-1])
        judge = judge or _judge(last, config, start)
        start = judge or Saved(last)  # what is trained is read from the checkpoint afterwards
    return start, judge


def _judge(checkpoint: Place, config: Config, otherwise: Saved | None) -> Saved | None:
    """Find the judge that a checkpoint names; where it is not at hand take the other, which is held against it."""
    for role, named in read_meta(checkpoint).judges.items():
        try:
            return _saved(named["place"] or "nowhere", config)
        except (CheckpointError, ConfigError, FileNotFoundError) as e:
            if otherwise is None:
                raise CheckpointError(f"the {role} of {checkpoint} is not at hand ({e}): name it with --teacher") from e
    return otherwise


def _backbone(run: Place | None, config: Config) -> Saved | None:
    """Find what a refiner is to be trained behind; None for other stages, and where a run goes on.

    Raises:
        ConfigError: the run holds no backbone, or one of another stream.
    """
    if config.distill.role != "refiner" or run is None:
        return None
    before = read_config(find(run))
    if before.distill.role == "student":
        raise ConfigError(
            f"{run} is no backbone: train one with distill.role=backbone and stream.refine=true, and name its run "
            "with --backbone (--init stands for it where both are one)"
        )
    if before.stream != config.stream:
        raise ConfigError(f"the backbone's stream is {before.stream}, and that of the refiner {config.stream}")
    return _saved(run, config, "student" if before.distill.role == "backbone" else "backbone")


def _saved(run: Place, config: Config, role: str = "student") -> Saved:
    """Find what a stage starts from; its model must be the one that is trained."""
    found = Saved(run, role)
    parts = ("model", "lora", "base")
    theirs, ours = (
        {f"{p}.{n}": v for p in parts for n, v in asdict(getattr(c, p)).items()} for c in (found.config, config)
    )
    if different := [f"{n} {theirs[n]}, here {ours[n]}" for n in ours if theirs[n] != ours[n] and n != "base.weights"]:
        raise ConfigError(
            f"{run} holds another model: {'; '.join(different)}. Leave --preset and --set away (a stage begins with "
            "the settings of --init), or give those it was trained with, codec and encoders included"
        )
    return found


def usable(device: str) -> torch.device:
    """Return a device that can be used here. Raises ConfigError where it is none, or is not there."""
    try:
        found = torch.device(device)
    except RuntimeError as e:
        raise ConfigError(f"--device {device!r}: there are cpu and cuda") from e
    if found.type not in ("cpu", "cuda"):
        raise ConfigError(f"--device {device!r}: there are cpu and cuda")
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"--device {device}: no GPU can be used here; leave it out for the CPU")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"--device {device}: there are {torch.cuda.device_count()} GPUs here, cuda:0 the first")
    return found


def load_model(checkpoint: Place, device: str = "cpu", settings: Sequence[str] = ()) -> tuple[Config, Performer]:
    """Load a checkpoint's averaged student, a refiner with its backbone, frozen; low-rank changes are put in place.

    Args:
        checkpoint: a checkpoint, or a run for its best one.
        device: where the model goes: cpu, cuda or cuda:N.
        settings: `section.field=value` that change how it is used, not what it is.

    Raises:
        ConfigError: the device is not there, or a setting is none of these.
        CheckpointError: there is no such checkpoint.
    """
    place = usable(device)
    saved = Saved(checkpoint)
    config = override(saved.config, settings)

    def made(weights: Saved) -> DiT:
        model = build(config, weights)
        merge(model)
        return model.to(place).eval().requires_grad_(False)

    if place.type == "cuda":
        torch.set_float32_matmul_precision("high")  # as in training
    if config.distill.role == "refiner":
        return config, Refined(made(Saved(saved.path, "backbone")), made(saved))
    return config, made(saved)
