"""Ask a model at fixed noise: how well does it denoise held-out clips, and does it use each condition?

Noise depends on the sample and the level alone, so two checkpoints are compared on equal questions and a change of
1 % is a change. A condition gap is the loss with another clip's condition over the loss with the clip's own, minus one:
zero says that the model does not listen. Needs no face model, so it holds for any data. Costs a forward pass a level.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lpm_train import flow
from lpm_train.attention import Causal
from lpm_train.batch import STATES, Batch, Conditions
from lpm_train.model import DiT

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)  # noise levels of a held-out loss


@torch.no_grad()
def frame_losses(
    model: DiT,
    batch: Batch,
    layout: Causal | None = None,
    levels: Sequence[float] = LEVELS,
    cond: Conditions | None = None,
) -> Tensor:
    """Return the flow loss of each sample and frame, mean over levels: [B, F].

    Args:
        model: bidirectional without a layout, else teacher-forced on the clean past.
        batch: held-out clips.
        layout: blocks and window.
        levels: noise levels, the same in all frames.
        cond: other conditions than the batch's own.
    """
    x, total = batch.x_BFCHW, torch.zeros(batch.x_BFCHW.shape[:2], device=batch.x_BFCHW.device)
    for level in levels:
        eps = flow.noise(batch.sample_ids, x.shape[1:], x, "probe", level)
        t = x.new_full(x.shape[:2], level)
        noisy, times = flow.add_noise(x, eps, t), t
        if layout is not None:
            noisy, times = torch.cat([x, noisy]), torch.cat([torch.zeros_like(t), t])
        v = model(noisy, times, cond or batch.cond, layout=layout).v_BFCHW
        total += flow.frame_loss(v.float(), x, eps)
    return total / len(levels)


def heldout_loss(
    model: DiT, batches: Sequence[Batch], layout: Causal | None = None, levels: Sequence[float] = LEVELS
) -> dict[str, float]:
    """Return the held-out flow loss: `all`, and by state for those that occur."""
    loss = torch.cat([frame_losses(model, b, layout, levels).flatten() for b in batches])
    state = torch.cat([b.state_BF.flatten() for b in batches]).to(loss.device)
    out = {"all": float(loss.mean())}
    return out | {n: float(loss[state == i].mean()) for i, n in enumerate(STATES) if bool((state == i).any())}


def _rolled(*names: str) -> Callable[[Conditions], Conditions]:
    return lambda cond: replace(cond, **{n: getattr(cond, n).roll(1, 0) for n in names})


# Each condition: how it is exchanged among the samples of a batch, and in which frames it matters.
SHUFFLES: dict[str, tuple[Callable[[Conditions], Conditions], Callable[[Batch], Tensor]]] = {
    "speech": (_rolled("speak_BTA"), lambda b: b.cond.speak_on_BF),
    "user": (_rolled("listen_BTA"), lambda b: b.cond.listen_on_BF),
    "text": (_rolled("text_BLD", "text_mask_BL"), lambda b: torch.ones_like(b.cond.speak_on_BF)),
    "reference": (_rolled("ref_BKCHW", "ref_mask_BK", "ref_kind_BK"), lambda b: torch.ones_like(b.cond.speak_on_BF)),
}


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
    for name, (shuffle, where) in SHUFFLES.items():
        masks = [where(b) for b in batches]
        if not any(bool(m.any()) for m in masks):
            continue
        other = [frame_losses(model, b, layout, levels, shuffle(b.cond)) for b in batches]
        matched = torch.cat([x[m] for x, m in zip(own, masks, strict=True)]).mean()
        mixed = torch.cat([x[m] for x, m in zip(other, masks, strict=True)]).mean()
        out[name] = float(mixed / matched - 1)
    return out
