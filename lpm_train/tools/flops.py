"""Floating point operations of a pass, counted from the shapes: the numerator of MFU.

Model operations only: what a perfect implementation must do, so recomputation and masked-out pairs do not count and a
faster kernel cannot look worse. A multiply-add is two operations; backward is twice forward (Kaplan et al. 2020,
arXiv 2001.08361, section 2.1; attention added as in PaLM, arXiv 2204.02311, appendix B).
"""

from __future__ import annotations

from lpm_train.config import Config, Model
from lpm_train.data.make import Encoders
from lpm_train.encoders.codec import latent_frames, latent_size
from lpm_train.flow import compared

H200_BF16 = 989e12  # dense bf16 peak of an H200 (and H100 SXM), operations/s, by its data sheet


def forward_flops(
    model: Model, frames: int, height: int, width: int, *, refs: int = 0, text: int = 0, block: int = 0, window: int = 0
) -> float:
    """Count one sample's forward pass.

    Args:
        model: shape of the transformer.
        frames: latent frames F.
        height: latent height H.
        width: latent width W.
        refs: reference slots K.
        text: text tokens.
        block: frames of a block in teacher forcing; 0: bidirectional.
        window: frames of the past that a block sees there.
    """
    D, hidden = model.width, round(model.width * model.mlp_ratio)
    S = height * width // model.patch**2
    L, R = frames * S, refs * S
    copies = 2 if block else 1
    own = 4 * D * D + 2 * D * hidden  # self-attention and MLP weights that a token meets
    cross = 4 * D * D  # queries and outputs of sound and of text
    before, after = ((model.speak_before + model.listen_before) / 2, (model.speak_after + model.listen_after) / 2)
    heard = frames * (before + model.audio_steps + after)
    linear = copies * L * (own + cross) + R * own + copies * 2 * D * D * (heard + text + 1)
    if block:
        if frames % block:
            raise ValueError(f"{frames} frames are not whole blocks of {block}")
        seen = sum((min(window, first) + block) for first in range(0, frames, block)) * block
        pairs: float = copies * seen * S * S
    else:
        pairs = L * L
    pairs += copies * L * R + refs * S * S + copies * (L * heard / frames + L * (text + 1))
    ends = copies * L * 2 * model.channels * model.patch**2 * D
    return float(2 * (model.depth * (linear + 2 * D * pairs) + ends))


def distill_flops(config: Config, frames: int, height: int, width: int, *, refs: int = 0, text: int = 0) -> float:
    """Count a critic step of distillation for one sample, with its share of the student's (`distill.critic_steps`).

    By expectation: a block stops at a step that is drawn and is passed once more for the cache, and what lies before
    the frames of the loss takes all steps (`rollout.roll`). Off the policy the student takes one teacher-forced pass.
    Arguments are those of `forward_flops`.
    """
    d, s, model = config.distill, config.stream, config.model
    rolled = d.rollout or frames
    judged = min(d.loss_frames or frames, rolled)
    forced = forward_flops(model, judged, height, width, refs=refs, text=text, block=s.block, window=s.window)
    both = forward_flops(model, judged, height, width, refs=refs, text=text)
    judge = forced if d.teacher == "causal" else both
    single = forced / 2  # one pass over the blocks against a cache: the noisy half
    drawn = {"student": (s.steps + 1) / 2 + 1, "backbone": s.steps, "refiner": s.steps + 2}[d.role]
    whole = {"student": s.steps + 1}.get(d.role, drawn)
    made, graph = (drawn + whole * (rolled - judged) / judged) * single, 2 * single
    if d.policy != "own":
        made, graph = forced, 2 * forced
    guided = len(compared(d.scales))
    if d.policy == "teacher":
        made += config.flow.steps * guided * judge
    student = made + graph + (guided + 1) * judge
    return made + 3 * judge + student / d.critic_steps


def step_flops(config: Config, encoders: Encoders) -> float:
    """Count the model operations of a step over the global batch (0 for a stage that is not ours)."""
    d, codec = config.data, encoders.codec
    F, (H, W) = latent_frames(codec, d.frames), latent_size(codec, d.height, d.width)
    return sample_flops(config, F, H, W, refs=d.max_refs, text=encoders.text.length) * d.batch


def sample_flops(config: Config, frames: int, height: int, width: int, *, refs: int = 0, text: int = 0) -> float:
    """Count a step of the configuration's stage for one sample (0 for a stage that is not ours).

    Consistency passes teacher and target once besides the student. Arguments are those of `forward_flops`.
    """
    stage, s = config.run.stage.choice, config.stream
    if stage == "distill":
        return distill_flops(config, frames, height, width, refs=refs, text=text)
    passes = {"pretrain": 3, "causal": 3, "consistency": 3 + 2}.get(stage, 0)
    block, window = (0, 0) if stage == "pretrain" else (s.block, s.window)
    if not passes:
        return 0.0
    return passes * forward_flops(
        config.model, frames, height, width, refs=refs, text=text, block=block, window=window
    )  # fmt: skip


def mfu(flops_per_step: float, step_s: float, peak: float = H200_BF16) -> float:
    """Return the share of a device's peak: model operations / (time * peak)."""
    if step_s <= 0 or peak <= 0:
        raise ValueError("a step takes time, and a device has a peak")
    return flops_per_step / (step_s * peak)
