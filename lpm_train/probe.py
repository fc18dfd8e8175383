"""Ask a model at fixed noise: how well does it denoise held-out clips, and does it use each condition?

Noise depends on the sample and the level alone, so two checkpoints are compared on equal questions and a change of
1 % is a change. A condition gap is the loss with another clip's condition over the loss with the clip's own, minus one:
zero says that the model does not listen. Needs no face model, so it holds for any data. Costs a forward pass a level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lpm_train import flow
from lpm_train.attention import Causal
from lpm_train.batch import STATES, Batch, Conditions
from lpm_train.model import DiT
from lpm_train.rollout import forced

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)  # noise levels of a held-out loss


def level_loss(
    model: DiT, batch: Batch, layout: Causal | None, level: float, cond: Conditions | None = None,
    purpose: str = "probe",
) -> Tensor:  # fmt: skip
    """Return the flow loss by sample and frame at one noise level, with noise fixed by `purpose`: [B, F]."""
    x = batch.x_BFCHW
    eps = flow.noise(batch.sample_ids, x.shape[1:], x, purpose, level)
    t = x.new_full(x.shape[:2], level)
    return flow.frame_loss(forced(model, flow.add_noise(x, eps, t), t, cond or batch.cond, layout, x), x, eps)


@torch.no_grad()
def frame_losses(
    model: DiT, batch: Batch, layout: Causal | None, levels: Sequence[float], cond: Conditions | None = None
) -> Tensor:
    """Return the flow loss by sample and frame, mean over levels: [B, F]; teacher-forced if there is a layout."""
    return torch.stack([level_loss(model, batch, layout, level, cond) for level in levels]).mean(0)


def heldout_loss(
    model: DiT, batches: Sequence[Batch], layout: Causal | None = None, levels: Sequence[float] = LEVELS
) -> dict[str, float]:
    """Return the held-out flow loss: `all`, and by state for those that occur."""
    loss = torch.cat([frame_losses(model, b, layout, levels).flatten() for b in batches])
    state = torch.cat([b.state_BF.flatten() for b in batches]).to(loss.device)
    return {"all": float(loss.mean())} | by_state(loss, state)


def by_state(loss: Tensor, state: Tensor) -> dict[str, float]:
    """Return the mean loss of each state that occurs."""
    return {n: float(loss[state == i].mean()) for i, n in enumerate(STATES) if bool((state == i).any())}


SHUFFLES: dict[str, tuple[tuple[str, ...], str | None]] = {
    "speech": (("speak_BTA",), "speak_on_BF"),
    "user": (("listen_BTA",), "listen_on_BF"),
    "text": (("text_BLD", "text_mask_BL"), None),
    "reference": (("ref_BKCHW", "ref_mask_BK", "ref_kind_BK"), None),
}
"""Each condition: what is exchanged among the samples of a batch, and the mask of frames in which it matters."""


def condition_gaps(
    model: DiT, batches: Sequence[Batch], layout: Causal | None = None, levels: Sequence[float] = LEVELS
) -> dict[str, float]:
    """Return each condition's relative gap: loss with the next sample's condition / loss with its own - 1.

    Raises:
        ValueError: a batch of one sample has nothing to exchange.
    """
    if any(len(b) < 2 for b in batches):
        raise ValueError("a condition gap exchanges conditions inside a batch: give batches of at least two samples")
    own = [frame_losses(model, b, layout, levels) for b in batches]
    out = {}
    for name, (fields, where) in SHUFFLES.items():
        ones = [torch.ones_like(b.cond.speak_on_BF) for b in batches]
        masks = ones if where is None else [getattr(b.cond, where) for b in batches]
        if not any(bool(m.any()) for m in masks):
            continue
        mixed = [replace(b.cond, **{n: getattr(b.cond, n).roll(1, 0) for n in fields}) for b in batches]
        other = [frame_losses(model, b, layout, levels, cond) for b, cond in zip(batches, mixed, strict=True)]
        means = [torch.cat([x[m] for x, m in zip(losses, masks, strict=True)]).mean() for losses in (other, own)]
        out[name] = float(means[0] / means[1] - 1)
    return out
