"""Every setting of a run, as frozen dataclasses; `lpm_train.presets` has complete ones by name.

`override(config, ["optim.lr=1e-3"])` changes single fields and says which exist when a name is wrong; `to_json` and
`from_json` write and read the resolved configuration that lies beside every checkpoint. Lengths are in latent frames
and audio steps (r a frame) unless a name says otherwise.
"""

from __future__ import annotations

import json
import math
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from lpm_train import flow, parts
from lpm_train.batch import DropRates
from schemas.use import UseError, assign, near, read_setting


class ConfigError(ValueError):
    """A setting is unknown, or does not fit the others."""


def _positive(record: object, *names: str) -> None:
    for name in names:
        if getattr(record, name) <= 0:
            raise ConfigError(f"{type(record).__name__.lower()}.{name} = {getattr(record, name)} must be positive")


@dataclass(frozen=True, kw_only=True)
class Model:
    """The diffusion transformer. Widths of inputs must be those of codec, audio features and text encoder."""

    kind: Literal["lpm", "wan"] = "lpm"  # the network: ours, or the form that Wan's weights fit (`network.wan`)
    channels: int  # latent channels C
    image_channels: int = 0  # wan: channels of a given first picture beside the latents, its mask first
    picture_width: int = 0  # wan: features of an image encoder's tokens of that picture; 0: it is not asked
    audio_width: int  # audio features A in a step
    audio_steps: int  # audio steps r in a latent frame
    text_width: int
    depth: int = 6
    width: int = 96
    heads: int = 4
    patch: int = 2  # latent pixels in a token, each way
    mlp_ratio: float = 4.0
    speak_before: int = 2  # audio steps before a frame's own that speech attention sees
    speak_after: int = 0  # audio steps after a frame's own; they delay a stream
    listen_before: int = 8  # each step of a window has a learned place; no clip trains those that reach before it
    listen_after: int = 0
    theta: float = 10_000.0
    ref_gap: int = 8  # frames between references and the first video frame, in position

    def __post_init__(self) -> None:
        _positive(self, "channels", "audio_width", "audio_steps", "text_width", "depth", "width", "heads", "patch")
        if self.width % self.heads or (self.width // self.heads) % 2 or self.width // self.heads < 6:
            raise ConfigError(f"model.width {self.width} over {self.heads} heads: heads need an even width from 6 on")
        if self.kind == "lpm" and self.image_channels + self.picture_width:
            raise ConfigError("model.image_channels and model.picture_width are for model.kind=wan")
        if min(self.speak_before, self.speak_after, self.listen_before, self.listen_after) < 0:
            raise ConfigError("audio windows reach back and ahead by zero or more steps, not fewer")

    @property
    def frames_before(self) -> int:
        """Latent frames of past sound that the widest window needs."""
        return -(-max(self.speak_before, self.listen_before) // self.audio_steps)

    @property
    def frames_after(self) -> int:
        """Latent frames of sound to come that the widest window needs."""
        return -(-max(self.speak_after, self.listen_after) // self.audio_steps)


@dataclass(frozen=True, kw_only=True)
class Base:
    """Public weights that training begins with (`network.base`); read again for as long as they are frozen."""

    weights: str = ""  # wan:DIRECTORY; empty: none
    sha256: str = ""  # of names, shapes and samples of its tensors: another base is refused


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank changes to a frozen base; what was added to the base is trained whole."""

    rank: int = 0  # 0: the base is trained whole
    alpha: float = 0.0  # a change counts alpha / rank; 0: as much as the rank
    targets: tuple[str, ...] = ("qkv", "out", "text.q", "text.kv", "text.out", "mlp.0", "mlp.2")  # layers of a block

    def __post_init__(self) -> None:
        if self.rank < 0 or self.alpha < 0 or not self.targets:
            raise ConfigError("lora.rank and lora.alpha must not be negative, and lora.targets must name layers")

    @property
    def scale(self) -> float:
        """What a change counts."""
        return (self.alpha or self.rank) / max(1, self.rank)


@dataclass(frozen=True, kw_only=True)
class Guide:
    """How strongly each condition counts in guidance (`lpm_train.flow.guided`); None: as much as `guidance` says."""

    refs: float | None = None
    text: float | None = None
    speak: float | None = None
    listen: float | None = None

    def __post_init__(self) -> None:
        for name, scale in vars(self).items():
            if scale is not None and not 0 <= scale < math.inf:
                raise ConfigError(
                    f"guide.{name} = {scale}: 0 leaves the condition out, 1 takes it as it is, more exaggerates it; "
                    "a negative scale would show its opposite"
                )

    def scales(self, guidance: float) -> tuple[float, ...]:
        """Return a scale for each of `flow.GUIDED`."""
        given = (getattr(self, name) for name in flow.GUIDED)
        return tuple(guidance if scale is None else scale for scale in given)


@dataclass(frozen=True, kw_only=True)
class Flow:
    """Noise levels: where training looks, and how a full sampler walks."""

    shift: float = 2.0  # moves mass to high noise; 1 none, 5 usual for 480p
    steps: int = 20  # of the undistilled sampler
    solver: Literal["euler", "dpmpp_2m"] = "dpmpp_2m"  # how it walks between them: `lpm_train.flow`
    guidance: float = 1.0
    guide: Guide = field(default_factory=Guide)

    @property
    def scales(self) -> tuple[float, ...]:
        """Guidance of each condition."""
        return self.guide.scales(self.guidance)


@dataclass(frozen=True, kw_only=True)
class Stream:
    """How frames are generated one block after another, and what a block sees: also the layout of teacher forcing."""

    block: int = 3  # latent frames generated at once
    window: int = 9  # latent frames of the recent past that stay visible
    sink: int = 0  # latent frames of the stream's start that stay visible; references always do
    steps: int = 4  # denoising steps of the student
    shift: float = 3.0  # spacing of those steps
    resample: bool = True  # draw new noise between steps (as distilled) instead of following the path
    # One more step, by a second network on a clean past of its own. The first, the backbone, then has a noisy past:
    # what its last step saw of each block (`lpm_train.streaming.rollout.BackboneRollout`).
    refine: bool = False
    # How `StreamGenerator` computes it; what comes out is the same.
    cache: Literal["eager", "static"] = "eager"  # what grows to the window (the reference), or buffers of fixed size
    compile: bool = False  # one compiled graph a pass, on CUDA one CUDA graph a block; static alone
    bf16: bool = False  # weights, activations and cache in bfloat16; levels, positions and latents stay float32
    decode: Literal["after", "beside"] = "after"  # pictures of a block: before the next one begins, or while it runs

    def __post_init__(self) -> None:
        _positive(self, "block", "steps", "shift")
        if self.window < self.block or self.window % self.block or self.sink < 0 or self.sink % self.block:
            raise ConfigError(f"stream.window {self.window} and sink {self.sink} must be multiples of {self.block}")
        if self.refine and self.cache == "static":
            raise ConfigError("stream.cache=static holds one network's past: a backbone and its refiner take eager")
        if self.compile and self.cache != "static":
            raise ConfigError("stream.compile needs shapes that stay the same: set stream.cache=static")

    @property
    def levels(self) -> list[float]:
        """Noise levels from 1 down of all steps, the refiner's last where there is one."""
        return [float(t) for t in flow.levels(self.steps + self.refine, self.shift)]

    @property
    def history(self) -> float:
        """The noise level of a backbone's past."""
        return self.levels[self.steps - 1]

    def kept(self, frames: int) -> list[tuple[int, int]]:
        """Return the frame ranges that are visible once `frames` frames lie in the past."""
        whole = frames <= self.sink + self.window
        ranges = [(0, frames)] if whole else [(0, self.sink), (frames - self.window, frames)]
        return [r for r in ranges if r[0] < r[1]]

    def blocks(self, frames: int) -> int:
        """Return how many blocks a clip has."""
        if frames % self.block:
            raise ConfigError(
                f"{frames} frames are not a multiple of block {self.block}: set stream.block or the clip length"
            )
        return frames // self.block


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of pretraining: conditions that are not yet taught are switched off."""

    share: float  # share of the stage's steps
    listen: bool = True
    refs: bool = True


@dataclass(frozen=True, kw_only=True)
class Pretrain:
    """Bidirectional flow matching; speech first, then listening, then references."""

    phases: tuple[Phase, ...] = (Phase(share=1.0),)
    drop: DropRates = field(default_factory=DropRates)
    prefix_p: float = 0.0  # how often the first frames are given clean, so that the model can continue a clip
    prefix_max: int = 3  # most frames given so


@dataclass(frozen=True, kw_only=True)
class Causal:
    """Teacher forcing by blocks."""

    # Clean context is noised by up to this level while still labelled clean: the remedy for drift.
    context_noise: float = 0.3
    drop: DropRates = field(default_factory=lambda: DropRates(speak=0, listen=0, text=0, refs=0, everything=0))


@dataclass(frozen=True, kw_only=True)
class Consistency:
    """Optional: teach the causal model to jump along its own path."""

    grid: int = 48  # points of the path; a step is one interval
    context_noise: float = 0.3


@dataclass(frozen=True, kw_only=True)
class Distill:
    """Distribution matching, on the student's own rollouts or off its policy."""

    # Which network learns: one that does all steps, or where `stream.refine` is on the backbone, which does all but the
    # last, or the refiner, which does the last one behind a frozen backbone.
    role: Literal["student", "backbone", "refiner"] = "student"
    # Whose latents the student's steps begin with and have in their past: its own rollout's, or, off its policy, the
    # data's or those that the teacher makes in `flow.steps` passes, noised again.
    policy: Literal["own", "data", "teacher"] = "own"
    # Latents of a rollout; 0: the clip's. Of more, conditions come from chains of clips (`lpm_train.data.chains`).
    rollout: int = 0
    loss_frames: int = 0  # last latents of it that carry the loss; 0: all, of a chain as many as a clip has
    gap_s: float = 1.0  # longest time between two clips of a chain, in which nobody talks then
    critic_steps: int = 5  # critic updates for each generator update
    lr: float = 0.0  # the student's learning rate; 0: optim.lr
    critic_lr: float = 3e-4
    critic_betas: tuple[float, float] | None = None  # None: those of optim
    critic_muon: bool | None = None
    teacher: Literal["pretrain", "causal"] = "pretrain"  # whose layout scores: both directions, or teacher forcing
    guidance: float = 1.0  # of the teacher; the student learns its result
    guide: Guide = field(default_factory=Guide)
    t_min: float = 0.02
    t_max: float = 0.98
    shift: float = 2.0
    context_noise: float = 0.0  # noise put on a finished block before it is remembered
    # Off the policy: how far the student's pictures are from those of the latents it began with, beside the loss.
    perceptual: parts.PerceptualPart = field(default_factory=parts.perceptual)
    perceptual_weight: float = 1.0
    perceptual_frames: int = 1  # latents of each clip that are decoded for it, drawn anew at each step

    def __post_init__(self) -> None:
        if self.perceptual.at_work and self.policy == "own":
            raise ConfigError(
                f"distill.perceptual={self.perceptual.choice} compares with given latents, and distill.policy=own has "
                "none: set distill.policy=data or teacher, or distill.perceptual=none"
            )
        if self.perceptual_weight <= 0 or self.perceptual_frames < 1:
            raise ConfigError("distill.perceptual_weight and distill.perceptual_frames must be positive")
        if self.role == "backbone" and self.context_noise:
            raise ConfigError("distill.context_noise is for a clean past, and a backbone's is noisy: set it to 0")
        if min(self.rollout, self.loss_frames, self.gap_s) < 0:
            raise ConfigError(
                f"distill.rollout {self.rollout}, loss_frames {self.loss_frames} and gap_s {self.gap_s} must not be "
                "negative"
            )
        if self.policy == "teacher" and self.teacher == "causal":
            raise ConfigError("distill.policy=teacher asks for clips of a teacher that sees both directions")

    @property
    def scales(self) -> tuple[float, ...]:
        """The teacher's guidance of each condition."""
        return self.guide.scales(self.guidance)


@dataclass(frozen=True, kw_only=True)
class Optim:
    """AdamW, or Muon, on float32 weights."""

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    muon: bool = False  # Muon for the matrices of the blocks, at three times the rate; AdamW for all else
    weight_decay: float = 0.0
    warmup: int = 20
    clip: float = 1.0
    decay_to: float = 1.0  # share of the rate that a cosine reaches at the last step; 1: constant
    # Samples in one forward pass on a rank; 0: all. Gradients of parts add up to those of the whole batch.
    micro_batch: int = 0
    # Add parts pairwise, so that bits do not depend on the number of ranks; costs log2(parts) gradient copies.
    exact_sums: bool = True
    ema: float = 0.99


@dataclass(frozen=True, kw_only=True)
class Run:
    """How long, where, and how often to look."""

    stage: parts.StagePart = field(default_factory=parts.stage)
    steps: int = 1000
    seed: int = 0
    device: str = ""  # empty: cuda if there is one, else cpu
    # Ranks that hold one copy of the weights between them; further ranks are replicas of these. 0: all ranks.
    shard: int = 0
    bf16: bool = False
    compile: bool = False
    checkpointing: bool = False
    attention: Literal["sdpa", "flex"] = "sdpa"
    context: int = 1  # ranks that share one sample's tokens (`lpm_train.network.context`)
    threads: int = 1  # CPU threads of torch; more than one core's worth stalls on a shared machine
    log_every: int = 20
    eval_every: int = 200
    save_every: int = 200
    keep: int = 3  # checkpoints kept, the best one besides
    # Where checkpoints go, in a folder named as the run: s3://bucket/prefix or a directory; empty: into the run's own.
    checkpoints: str = ""
    # Training goes on while a checkpoint is written, which takes memory of the CPU for a copy of the rank's state.
    background: bool = True
    select: str = "heldout_loss"  # the figure by which the best checkpoint is chosen; the smaller the better
    # A flow-matching stage is done when its held-out loss has fallen to this share of the first.
    exit_share: float = 0.5
    stop_when_passed: bool = False  # stop as soon as all exit criteria pass
    patience: int = 0  # stop after so many evaluations without a better figure; 0: never

    def __post_init__(self) -> None:
        if self.shard < 0:
            raise ConfigError(f"run.shard {self.shard} must be a number of ranks, or 0 for all")


@dataclass(frozen=True, kw_only=True)
class Watch:
    """What is shown while a run trains: held-out clips on the run's page, index.html."""

    every: int = 1  # evaluations between two showings; the first and the last are always shown; 0: no page
    clips: int = 4  # held-out clips that are generated each time; 0: no page

    def __post_init__(self) -> None:
        if min(self.every, self.clips) < 0:
            raise ConfigError(f"watch.every {self.every} and watch.clips {self.clips} must not be negative")


@dataclass(frozen=True, kw_only=True)
class Log:
    """Where numbers go besides the run's log.jsonl."""

    tensorboard: bool = False  # needs the package tensorboard


@dataclass(frozen=True, kw_only=True)
class Data:
    """What is read, in what order, and how it becomes numbers. All but `workers` and `prefetch` decides batches."""

    root: str = ""  # a packed dataset: a directory or an s3:// prefix
    where: str = ""  # SQL condition over the manifest; empty: all
    codec: parts.CodecPart = field(default_factory=parts.codec)
    audio: parts.AudioPart = field(default_factory=parts.audio)
    text: parts.TextPart = field(default_factory=parts.text)
    picture: parts.PicturePart = field(default_factory=parts.picture)
    # clip: a clip is told its caption; timed: each block of latents what lasts of it, and what happens there.
    prompts: Literal["clip", "timed"] = "clip"
    max_prompts: int = 4  # texts of a clip at most, the one without events among them
    prompt_latents: int = 3  # latents that are told one text: whole blocks of a stream
    first_frame: bool = False  # the clip's first picture is given, as image-to-video bases are trained
    frames: int = 64  # video frames of a clip
    height: int = 256
    width: int = 256
    # More (frames, height, width) that clips may be cut to: of those that fit, the longest that shows most is taken.
    more_sizes: tuple[tuple[int, int, int], ...] = ()
    # Height, width and more_sizes are taken from the clips when a run begins: so many sizes at most; 0: as given.
    auto_sizes: int = 0
    pixels: int = 0  # that a size so chosen may have at most; 0: height x width
    min_kept: float = 0.9  # share of a clip's area that its size must keep
    upscale: bool = False  # whether a clip may be enlarged to its size
    misfits: Literal["refuse", "leave"] = "refuse"  # clips that fit no size: there is no run, or one without them
    batch: int = 8  # samples in a step over all ranks
    # Share of each state in what is drawn; empty: as they come, every sample once an epoch.
    balance: dict[str, float] = field(default_factory=dict)
    max_refs: int = 2  # reference slots K; a sample uses a random number of them, at least one where it has any
    drop_ref: float = 0.15  # how often a single reference other than the first is left out
    silence: float = 0.1  # how often a stream that is off is given as true silence instead of 'not in this mode'
    precomputed: str = ""  # name of the precomputed set; empty: decode and encode on the fly
    hop_frames: int = 1  # windows start at multiples of this many frames (rounded up to whole latents)
    workers: int = 2  # threads that decode
    prefetch: int = 2  # steps that are prepared ahead

    def __post_init__(self) -> None:
        _positive(self, "frames", "height", "width", "batch", "hop_frames", "max_prompts", "prompt_latents")
        if self.max_refs < 0 or not 0 <= min(self.drop_ref, self.silence) <= max(self.drop_ref, self.silence) <= 1:
            raise ConfigError(
                f"data.max_refs {self.max_refs} must not be negative, data.drop_ref {self.drop_ref} and data.silence "
                f"{self.silence} must be probabilities"
            )
        if min(self.auto_sizes, self.pixels) < 0 or not 0 <= self.min_kept <= 1:
            raise ConfigError(
                f"data.auto_sizes {self.auto_sizes} and data.pixels {self.pixels} must not be negative, and "
                f"data.min_kept {self.min_kept} is a share"
            )

    @property
    def sizes(self) -> tuple[tuple[int, int, int], ...]:
        """All (frames, height, width) that clips are cut to."""
        return ((self.frames, self.height, self.width), *self.more_sizes)

    @property
    def most_pixels(self) -> int:
        """Pixels that a size chosen from the clips may have."""
        return self.pixels or self.height * self.width


@dataclass(frozen=True, kw_only=True)
class Config:
    """All of it."""

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")

    model: Model
    base: Base = field(default_factory=Base)
    lora: Lora = field(default_factory=Lora)
    flow: Flow = field(default_factory=Flow)
    stream: Stream = field(default_factory=Stream)
    pretrain: Pretrain = field(default_factory=Pretrain)
    causal: Causal = field(default_factory=Causal)
    consistency: Consistency = field(default_factory=Consistency)
    distill: Distill = field(default_factory=Distill)
    optim: Optim = field(default_factory=Optim)
    run: Run = field(default_factory=Run)
    watch: Watch = field(default_factory=Watch)
    log: Log = field(default_factory=Log)
    data: Data = field(default_factory=Data)

    def __post_init__(self) -> None:
        """See that texts change with blocks, and that guidance asks for no pass that training never shows."""
        if self.data.prompts == "timed" and self.data.prompt_latents % self.stream.block:
            raise ConfigError(
                f"data.prompt_latents {self.data.prompt_latents} must be a multiple of stream.block "
                f"{self.stream.block}: a stream takes new words from one block to the next"
            )
        two, before = self.distill.role != "student", self.run.stage.choice in ("pretrain", "causal", "consistency")
        if self.stream.refine != two or (two and before):
            raise ConfigError(
                f"distill.role={self.distill.role}, stream.refine={str(self.stream.refine).lower()} and the stage "
                f"{self.run.stage.choice} do not fit: backbone and refiner are for stream.refine=true in distillation, "
                "where one does stream.steps steps and the other the last; all else is for a student and false"
            )
        for section, part in (("flow", self.flow), ("distill", self.distill)):
            if part.guide == Guide():
                continue
            if part.guide.refs is not None and not self.data.max_refs:
                raise ConfigError(f"{section}.guide.refs has nothing to guide by: data.max_refs is 0")
            for given in flow.compared(part.scales):
                without = [n for n in flow.GUIDED[given:] if not getattr(self.pretrain.drop, n)]
                if given and without:
                    raise ConfigError(
                        f"{section}.guide weighs {flow.GUIDED[given - 1]} apart from {flow.GUIDED[given]}, which takes "
                        f"passes without {', '.join(flow.GUIDED[given:])}, and pretrain.drop.{without[0]} is 0: the "
                        "model never saw that; give both one scale, or train with that condition dropped at times"
                    )


C = TypeVar("C", bound=Config)


def override(config: C, settings: Sequence[str]) -> C:
    """Apply settings written `section.field=value` (or deeper), values as YAML or Python literals, as a workflow's.

    Raises:
        ConfigError: no such field (the nearest is named), or a value of another type.
    """
    tree = TypeAdapter(type(config)).dump_python(config, mode="json")
    for setting in settings:
        try:
            path, value = read_setting(setting)
        except UseError as e:
            raise ConfigError(str(e)) from e
        assign(tree, path, value)
    return from_json(json.dumps(tree, default=repr), type(config))


def to_json(config: Config) -> str:
    """Write the resolved configuration."""
    return json.dumps(TypeAdapter(type(config)).dump_python(config, mode="json"), indent=2, sort_keys=True)


def from_json(text: str, kind: type[C] = Config) -> C:  # type: ignore[assignment]
    """Read a configuration written by `to_json`; defaults stand for fields that it does not have.

    Raises:
        ConfigError: a field is unknown (the nearest is named), of another type, or does not fit the others.
    """
    try:
        return TypeAdapter(kind).validate_json(text)
    except ValidationError as e:
        error = e.errors()[0]
        path, at = ".".join(map(str, error["loc"])), kind
        if error["type"] == "value_error":
            said = error["ctx"]["error"]
            raise ConfigError(f"{path}: {said}" if isinstance(said, UseError) else str(said)) from e
        if error["type"] != "unexpected_keyword_argument":
            raise ConfigError(f"{path} = {error['input']!r}: {error['msg'].lower()}") from e
        for section in error["loc"][:-1]:
            at = typing.get_args(at)[0] if isinstance(section, int) else typing.get_type_hints(at)[section]
        raise ConfigError(f"no setting {path!r}; {near(str(error['loc'][-1]), typing.get_type_hints(at))}") from e
