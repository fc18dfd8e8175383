"""Ask a model: how well does it denoise held-out clips, does it use each condition, does it drift in a long stream?

Noise depends on the sample and the level alone, so two checkpoints are compared on equal questions and a change of
1 % is a change. A condition gap is the loss with another clip's condition over the loss with the clip's own, minus one:
zero says that the model does not listen. Costs a forward pass a level and condition, and one rollout.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import torch
from torch import Tensor

from lpm_train.batch import Batch, Conditions
from lpm_train.config import Config, ConfigError, Stream
from lpm_train.data.loader import Loader
from lpm_train.network.fp8 import set_for_stream
from lpm_train.network.model import DiT
from lpm_train.network.refine import Performer
from lpm_train.session import make_encoders
from lpm_train.streaming.decoding import Decoding
from lpm_train.streaming.playing import played
from lpm_train.streaming.rollout import sample_clip
from lpm_train.tools.clips import filmed
from lpm_train.tools.judge.face_eval import face_figures
from lpm_train.tools.judge.faces import FaceReader, FacesPart, Figures, faces
from lpm_train.tools.judge.mouth import unmeasured
from lpm_train.training.stage import LEVELS, by_state, level_loss


@dataclass(frozen=True, kw_only=True)
class Eval:
    """How a model is looked at."""

    faces: FacesPart = field(default_factory=faces)
    clips: int = 4  # held-out clips that are generated and looked at: the first of the first batch
    lengths: tuple[int, ...] = (1, 20, 60)  # of what is generated, in training clips; mouths are measured at each

    def __post_init__(self) -> None:
        if self.clips < 1 or not self.lengths or list(self.lengths) != sorted(n for n in {*self.lengths} if n > 0):
            raise ConfigError(
                f"eval.clips {self.clips} must be positive, and eval.lengths {self.lengths} must be positive and rise"
            )


@dataclass(frozen=True, kw_only=True)
class Evaluated(Config):
    """A model's configuration, and how it is looked at."""

    eval: Eval = field(default_factory=Eval)


@torch.no_grad()
def frame_losses(
    model: Performer, batch: Batch, layout: Stream | None, levels: Sequence[float], cond: Conditions | None = None
) -> Tensor:
    """Return the flow loss by sample and frame, mean over levels: [B, F]; teacher-forced if there is a layout."""
    return torch.stack([level_loss(model, batch, layout, level, cond) for level in levels]).mean(0)


def heldout_loss(
    model: Performer, batches: Sequence[Batch], layout: Stream | None = None, levels: Sequence[float] = LEVELS
) -> dict[str, float]:
    """Return the held-out flow loss: `all`, and by state for those that occur."""
    loss = torch.cat([frame_losses(model, b, layout, levels).flatten() for b in batches])
    state = torch.cat([b.state_BF.flatten() for b in batches]).to(loss.device)
    return {"all": float(loss.mean())} | by_state(loss, state)


_SPEED = "rollout.latents_per_s"

_SHUFFLES: dict[str, tuple[tuple[str, ...], str | None]] = {
    "speech": (("speak_BTA",), "speak_on_BF"),
    "user": (("listen_BTA",), "listen_on_BF"),
    "text": (("text_BLD", "text_mask_BL", "prompts_BQLD", "prompts_mask_BQL", "prompt_BF"), None),
    "reference": (("ref_BKCHW", "ref_mask_BK", "ref_kind_BK"), None),
}
"""Each condition: what is exchanged among the samples of a batch, and the mask of frames in which it matters."""


def condition_gaps(
    model: Performer, batches: Sequence[Batch], layout: Stream | None = None, levels: Sequence[float] = LEVELS
) -> dict[str, float]:
    """Return each condition's relative gap: loss with the next sample's condition / loss with its own - 1.

    Raises:
        ValueError: a batch of one sample has nothing to exchange.
    """
    if any(len(b) < 2 for b in batches):
        raise ValueError("a condition gap exchanges conditions inside a batch: give batches of at least two samples")
    own = [frame_losses(model, b, layout, levels) for b in batches]
    out = {}
    for name, (fields, where) in _SHUFFLES.items():
        ones = [torch.ones_like(b.cond.speak_on_BF) for b in batches]
        masks = ones if where is None else [getattr(b.cond, where) for b in batches]
        if not any(bool(m.any()) for m in masks):
            continue
        mixed = [_exchanged(b.cond, fields) for b in batches]
        other = [frame_losses(model, b, layout, levels, cond) for b, cond in zip(batches, mixed, strict=True)]
        means = [torch.cat([x[m] for x, m in zip(losses, masks, strict=True)]).mean() for losses in (other, own)]
        out[name] = float(means[0] / means[1] - 1)
    return out


def _exchanged(cond: Conditions, fields: Sequence[str]) -> Conditions:
    return replace(cond, **{n: x.roll(1, 0) for n in fields if (x := getattr(cond, n)) is not None})


def generated(model: Performer, config: Config, batch: Batch, times: int) -> Iterator[Tensor]:
    """Generate `times` clip lengths with the batch's conditions played again and again; pretraining: one clip.

    Yields latents [B, b, C, H, W] block by block, computed as `config.stream` says: with its cache, compiled or not.
    """
    if config.run.stage.choice == "pretrain":
        assert isinstance(model, DiT)  # a refiner is no pretrained model
        yield sample_clip(model, batch.cond, batch.size, batch.sample_ids, config.flow, "eval")
        return
    yield from played(model, batch.cond.repeated(times), batch.size, batch.sample_ids, config.stream, "eval")


@dataclass
class _Take:
    """One clip while it is generated: the latents so far, and how long the model took for all but the first block."""

    blocks: Iterator[Tensor]
    latents: list[Tensor] = field(default_factory=list)
    seconds: float = 0.0

    def __iter__(self) -> Iterator[Tensor]:
        while True:
            began = time.perf_counter()
            if (block := next(self.blocks, None)) is None:
                return
            self.latents.append(block.cpu())  # waits for this block, and not for one that is decoded beside it
            self.seconds += time.perf_counter() - began if len(self.latents) > 1 else 0.0  # the first compiles
            yield block


def _drift_figures(y: Tensor, x: Tensor) -> dict[str, float]:
    """Compare the last clip length of a rollout with the first and with the data, in latents."""
    first, last = y[:, : x.shape[1]], y[:, -x.shape[1] :]

    def motion(z: Tensor) -> float:
        return float(z.diff(dim=1).abs().mean())

    return {
        "drift.mean": float((last.mean(dim=(1, 3, 4)) - first.mean(dim=(1, 3, 4))).abs().mean()),
        "drift.std_ratio": float(last.std() / first.std()),
        "motion_ratio.first": motion(first) / motion(x),
        "motion_ratio.last": motion(last) / motion(x),
    }


def run_eval(
    config: Evaluated, model: Performer, dataset: str, where: str | None, batches: int, reader: FaceReader | None = None
) -> Figures:
    """Measure held-out loss by state, condition gaps, rollouts of many clip lengths, and the faces in them.

    All on the model's device; with `stream.bf16` its weights become bfloat16, with `stream.fp8` those of large matrices
    float8. Rollouts are computed as `lpm stream` does, one clip after another: with `stream.cache` and
    `stream.compile`, and looked at block by block, where `stream.decode=beside` decodes a block while the next one is
    generated.

    Raises:
        ConfigError: the device has no float8 that is asked for.
    """
    data = replace(config.data, root=dataset, where=where or "")
    device = next(model.parameters()).device
    set_for_stream(model, config.stream)
    with Loader(data, make_encoders(data, str(device)), seed=config.run.seed) as loader:
        held = [next(loader).to(device) for _ in range(batches)]
        layout = None if config.run.stage.choice == "pretrain" else config.stream
        values: dict[str, float | None] = {f"heldout_loss.{k}": v for k, v in heldout_loss(model, held, layout).items()}
        if len(held[0]) > 1:
            values |= {f"condition_gap.{k}": v for k, v in condition_gaps(model, held, layout).items()}
        if layout is None and reader is None:
            return Figures(values, {})
        lengths = config.eval.lengths if layout is not None else (1,)
        batch = held[0].select(slice(0, config.eval.clips))
        clips = (batch.select([row]) for row in range(len(batch)))
        takes = [_Take(generated(model, config, clip, lengths[-1])) for clip in clips]
        faces = Figures({}, {})
        if reader is not None:
            codec, stream = loader.encoders.codec, config.stream
            films = (filmed(t, Decoding(codec, device, stream.decode == "beside", stream.bf16)) for t in takes)
            faces = face_figures(reader, loader, batch.to("cpu"), films, lengths)
        else:
            deque(chain.from_iterable(takes), maxlen=0)
        if layout is not None:
            y = torch.cat([torch.cat(take.latents, 1) for take in takes])
            took = sum(take.seconds for take in takes)
            timed = y.shape[0] * (y.shape[1] - config.stream.block)
            speed, why = (timed / took, {}) if took else (None, {_SPEED: "the rollouts are of one block"})
            values |= {"rollout.latents": float(y.shape[1]), _SPEED: speed, **_drift_figures(y, batch.x_BFCHW.cpu())}
            faces = Figures(faces.values, faces.reasons | why)
    for length in (n for n in config.eval.lengths if reader is not None and n not in lengths):
        none = unmeasured(length, "this model sees both directions: it makes clips of the training length, not streams")
        faces = Figures(faces.values | none.values, faces.reasons | none.reasons)
    return Figures(values | faces.values, faces.reasons)
