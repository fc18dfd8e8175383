"""From a configuration to what works: encoders as they are chosen, a loader, a model, and a stage that is run.

Errors that a user can mend come up as `ConfigError`, `DataError`, `CheckpointError` or `TrainingError`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

import torch

from lpm_train.batch import Batch, BatchSource
from lpm_train.config import Config, ConfigError, Data, Stream, override
from lpm_train.data.chain_loader import ChainLoader
from lpm_train.data.loader import Loader
from lpm_train.data.make import Encoders
from lpm_train.data.shards import of_split, trained_on
from lpm_train.data.table.manifest import Manifest
from lpm_train.encoders.codec import Codec
from lpm_train.extras import tensorboard
from lpm_train.fitting import chained, fitted, sized, too_narrow
from lpm_train.network.base import same_base
from lpm_train.network.fp8 import must_multiply_fp8
from lpm_train.network.lora import merge
from lpm_train.network.model import DiT
from lpm_train.network.refine import Performer, Refined
from lpm_train.parts import provenance
from lpm_train.storage import DataError, Storage
from lpm_train.training import loop
from lpm_train.training.checkpoint import (
    CheckpointError,
    Saved,
    find,
    home,
    must_go_on,
    path_of,
    read_config,
    read_meta,
    steps,
)
from lpm_train.training.checkpoint_files import Place
from lpm_train.training.parallel import Ranks, must_cut_evenly, ranks
from lpm_train.training.stage import Stage, make_stage
from lpm_train.training.start import build


def make_encoders(data: Data, device: str = "cpu") -> Encoders:
    """Make the encoders that a configuration names; the networks of all that have one go to `device`."""
    moved: list[Any] = [data.codec.build(), data.audio.build(), data.text.build(), data.picture.build()]
    codec, audio, text, picture = (part.to(device) if hasattr(part, "to") else part for part in moved)
    return Encoders(codec, audio, text, device, picture)


def conditions_of(config: Config, data: Data) -> Data:
    """Return where rollouts beyond the clip have their conditions: the clips, or whole conversations where named.

    Of those the split train; conditions of `data.where` are of clips and say nothing of them.
    """
    place = config.distill.conversations
    return trained_on(replace(data, root=place, where="", precomputed="", misfits="leave")) if place else data


def open_chains(config: Config, data: Data, encoders: Encoders, rank: int = 0, world_size: int = 1) -> ChainLoader:
    """Open the chains of rollouts beyond the clip. Raises DataError where none is long enough."""
    return ChainLoader(
        conditions_of(config, data), encoders, latents=config.distill.rollout, gap_s=config.distill.gap_s,
        block=config.stream.block, seed=config.run.seed, rank=rank, world_size=world_size,
    )  # fmt: skip


EVALUATED = 2
"""Batches of held-out clips that each evaluation looks at."""


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
        CheckpointError: a run that is named holds no checkpoint, or was trained on another codec; or one that goes on
            has other settings, has lost its teacher, or is given another.
    """
    there = steps(lies := home(out, config.run.checkpoints))
    _must_begin(config, init, teacher, backbone, new=not there)
    with ExitStack() as stack:
        place = stack.enter_context(ranks(config))
        say: Callable[[str], None] = partial(print, flush=True) if place.first else (lambda _: None)
        encoders = make_encoders(config.data, str(place.device))
        config = fitted(sized(config, encoders, say), encoders)
        if there:  # before weights are read that may be of another shape
            must_go_on(path_of(lies, there[-1]), config)
        if warning := too_narrow(config.model):
            say(warning)
        train, held = trained_on(config.data), of_split(config.data, "val")
        if held is None:
            say("no sample of the split val: held-out figures are of training samples")
        source = _source(stack, config, train, encoders, place)
        with _clips(config, held or train, encoders, place) as other:
            heldout = [next(other) for _ in range(EVALUATED)]
        made = _made(config, encoders.codec, place, out, init, teacher, backbone)
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


def _must_begin(config: Config, init: Place | None, teacher: Place | None, backbone: Place | None, new: bool) -> None:
    """See, before any work, that a run has all that it begins with or goes on from. Raises as `run_stage` does."""
    begins = ("pretrain", "causal") if config.base.weights else ("pretrain",)
    if config.run.stage.choice not in begins and init is None and new:
        raise ConfigError(f"{config.run.stage} starts from the stage before: name its run with --init")
    must_cut_evenly(config)
    for named in (init, teacher, backbone):
        if named is not None:
            find(named)
    if config.run.stage.choice == "distill":
        _in_order(config, init, teacher, new)
    Manifest(Storage(config.data.root), ())
    if config.log.tensorboard:
        tensorboard.summary_writer()


def _in_order(config: Config, init: Place | None, teacher: Place | None, new: bool) -> None:
    """See that distillation begins with a causal model, and that no student judges it.

    Raises:
        ConfigError: it is not so. Stages of one's own are let pass: nobody here knows what they train.
    """
    before = read_config(find(init)).run.stage.choice if init is not None else ""
    if before == "pretrain":
        raise ConfigError(
            f"--init {init} is of the stage pretrain, which sees both directions, and distill begins with a causal "
            "model: name a run of --stage causal (or consistency, or distill); the pretrained run is the --teacher"
        )
    wanted = config.distill.teacher
    judges = read_config(find(teacher)).run.stage.choice if teacher is not None else before if new else ""
    wrong = {"pretrain", "causal", "consistency", "distill"} - {wanted}
    if judges in (wrong if teacher is not None else {"distill"}):
        raise ConfigError(
            (f"--teacher {teacher}" if teacher is not None else f"without --teacher, --init {init} judges, and")
            + f" is of the stage {judges}, and distill.teacher={wanted} asks for a judge of the stage {wanted}: name "
            "such a run with --teacher" + (" (or set distill.teacher=causal)" if judges == "causal" else "")
        )


_STANDS_FOR = {("lpm_train.extras.codec_taew:TaewCodec", "lpm_train.extras.codec_public:WanCodec")}
"""Codecs that decode the latents of others nearly as those do; for use, where they are asked for by name."""


def must_share_codec(checkpoint: Place, data: Data, codec: Codec | None = None) -> None:
    """See that a codec is the one whose latents a checkpoint was trained on, by the hash of its weights.

    A codec without weights is told by its settings alone, which the checkpoint's configuration holds; so is one whose
    numbers of channels differ, which does not fit the model. Checkpoints that do not say are let pass.

    Args:
        checkpoint: where it lies.
        data: names the codec.
        codec: it, to train on; None: it is built, for use. Where it is not at hand, whoever needs it will say so.

    Raises:
        CheckpointError: it is another one.
    """
    before = read_meta(checkpoint).loader.get("fingerprint", {}).get("encoders", {}).get("codec", {})
    if not before.get("weights"):
        return
    saved, use = read_config(checkpoint), codec is None
    try:
        codec = data.codec.build() if codec is None else codec
    except DataError:
        return
    now = provenance(codec)
    if now.get("weights") == before["weights"] or codec.channels != saved.model.channels:
        return
    if use and (now["class"], before["class"]) in _STANDS_FOR:
        return
    raise CheckpointError(
        f"{checkpoint} was trained on latents of the codec {_named(saved.data, before)}, and this one is "
        f"{_named(data, now)}, whose latents mean something else: bring the former's file back, or name it with "
        "--set data.codec.path=FILE (or .directory), or train anew from pretrain on"
    )


def _named(data: Data, made: Mapping[str, Any]) -> str:
    """Name a codec as a configuration does, and by the first digits of its weights' hash."""
    part = data.codec
    return " ".join([part.choice, *map(str, part.given.values()), f"({str(made.get('weights', 'no weights'))[:12]})"])


def _source(stack: ExitStack, config: Config, data: Data, encoders: Encoders, place: Ranks) -> BatchSource[Batch]:
    """Open this rank's part of what is trained on, for as long as the stack lasts, and say what it is."""
    loader: Loader | ChainLoader
    if chained(config, encoders):
        loader = open_chains(config, data, encoders, place.data_rank, place.data_size)
    else:
        loader = _clips(config, data, encoders, place)
    stack.enter_context(loader)
    if place.first:
        print(f"{config.run.stage}: {loader.summary}", flush=True)
    return cast(BatchSource[Batch], loader)  # distillation alone asks for chains, and for no latents of them


def _clips(config: Config, data: Data, encoders: Encoders, place: Ranks) -> Loader:
    return Loader(data, encoders, seed=config.run.seed, rank=place.data_rank, world_size=place.data_size)


def _made(
    config: Config, codec: Codec, place: Ranks, out: Path, init: Place | None, teacher: Place | None,
    backbone: Place | None,
) -> Stage:  # fmt: skip
    """Make the stage from the runs that are named; they must have been trained on this codec."""
    for named in (init, teacher, backbone):
        if named is not None:
            must_share_codec(find(named), config.data, codec)
    start, judge = _begun(config, out, init, teacher)
    return make_stage(config, place, start, judge, _backbone(backbone or init, config))


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
    other = [n for n in ours if theirs[n] != ours[n] and n not in ("base.weights", "base.sha256")]
    other += [] if same_base(config.base, found.config.base) else ["base.sha256"]
    if different := [f"{n} {theirs[n]}, here {ours[n]}" for n in other]:
        raise ConfigError(
            f"{run} holds another model: {'; '.join(different)}. Leave --preset and --set away (a stage begins with "
            "the settings of --init), or give those it was trained with, codec and encoders included"
        )
    return found


def usable(device: str, stream: Stream | None = None) -> torch.device:
    """Return a device that can be used here, for such a stream.

    Raises:
        ConfigError: it is none, is not there, or lacks the number type that the stream asks for.
    """
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
    if stream is not None and stream.fp8:
        must_multiply_fp8(found)
    return found


def load_model(checkpoint: Place, device: str = "cpu", settings: Sequence[str] = ()) -> tuple[Config, Performer]:
    """Load a checkpoint's averaged student, a refiner with its backbone, frozen; low-rank changes are put in place.

    Args:
        checkpoint: a checkpoint, or a run for its best one.
        device: where the model goes: cpu, cuda or cuda:N.
        settings: `section.field=value` that change how it is used, not what it is.

    Raises:
        ConfigError: the device is not there, or a setting is none of these.
        CheckpointError: there is no such checkpoint, or the codec is not the one that it was trained on.
    """
    place = usable(device)
    saved = Saved(checkpoint)
    config = override(saved.config, settings)
    must_share_codec(saved.path, config.data)

    def made(weights: Saved) -> DiT:
        model = build(config, weights)
        merge(model)
        return model.to(place).eval().requires_grad_(False)

    if place.type == "cuda":
        torch.set_float32_matmul_precision("high")  # as in training
    if config.distill.role == "refiner":
        return config, Refined(made(Saved(saved.path, "backbone")), made(saved))
    return config, made(saved)
