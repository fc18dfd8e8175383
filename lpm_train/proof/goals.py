"""What the toy must reach: the exit criteria of every stage, at every length that a student is judged at. Pure.

Figures of a rollout of several clip lengths are those of the clip lengths since the one judged before: x1 is a clip as
it was trained, x20 the 19 after it, x60 the 40 after those. A mean from the first frame on would hide a late fault.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lpm_train.training.stage import Criterion

LENGTHS = (1, 20, 60)  # in training clips, as `lpm train eval` judges mouths

EXIT_SHARE = {"pretrain": 0.5, "causal": 0.6}  # of the first held-out loss; the causal model begins well trained

FLAT = 0.05  # a held-out loss that falls by no more over the last sixth of a stage is flat


def criteria(metrics: Mapping[str, Any]) -> dict[str, list[Criterion]]:
    """Return the exit criteria of each stage, measured.

    Args:
        metrics: of `toy.report`: for each stage its figures, `heldout_loss` and `condition_gap`; for `causal` apart
            with few and many steps, for `distill` apart for each length, as `x20`.
    """
    pre, causal, student = metrics["pretrain"], metrics["causal"], metrics["distill"]
    few, many = causal["few_steps"], causal["many_steps"]
    losses = {name: metrics[name]["heldout_loss"] for name in ("pretrain", "causal", "distill")}
    return {
        "pretrain": [
            *_fallen(losses["pretrain"], EXIT_SHARE["pretrain"]),
            Criterion("fall of the held-out loss in the last sixth", losses["pretrain"]["late_fall"], "<=", FLAT),
            *_sync(pre, ""),
            Criterion("sway_std_ratio", pre["sway_std_ratio"], ">=", 0.85),
        ],
        "causal": [
            *_fallen(losses["causal"], EXIT_SHARE["causal"]),
            Criterion("heldout_loss / pretrain's", losses["causal"]["last"] / losses["pretrain"]["last"], "<=", 1.05),
            Criterion(
                "many steps: sway_std_ratio / pretrain's", many["sway_std_ratio"] / pre["sway_std_ratio"], ">=", 0.9
            ),
            Criterion(
                "few steps: sway_std_ratio / many's", few["sway_std_ratio"] / many["sway_std_ratio"], ">=", 0.5
            ),
        ],
        "distill": [
            Criterion("energy score / first", losses["distill"]["last"] / losses["distill"]["first"], "<=", 1.0),
            Criterion("motion over time / data", losses["distill"]["std_ratio"], ">=", 0.85),
            Criterion("motion over time / data", losses["distill"]["std_ratio"], "<=", 1.15),
            Criterion("steps", student["steps"], "<=", 4),
            *(Criterion(f"condition_gap.{k}", gap, ">=", 1e-6) for k, gap in student["condition_gap"].items()),
            *(c for length in _lengths(student) for c in _judged(student, length)),
        ],
    }  # fmt: skip


def _lengths(student: Mapping[str, Any]) -> list[int]:
    return sorted(int(name[1:]) for name in student if name[0] == "x" and name[1:].isdigit())


def _fallen(loss: Mapping[str, float], share: float) -> list[Criterion]:
    """Ask what the stages themselves ask (`Stage.exit_criteria`)."""
    return [
        Criterion("heldout_loss / first", loss["last"] / loss["first"], "<=", share),
        Criterion("heldout_loss of the worst state / all", loss["worst_state"], "<=", 2.0),
    ]


def _sync(at: Mapping[str, Any], where: str) -> list[Criterion]:
    return [Criterion(where + name, at[name], ">=", 0.95) for name in ("mouth_speech_corr", "nod_user_corr")]


def _judged(student: Mapping[str, Any], length: int) -> list[Criterion]:
    """Ask for spread, sync, identity, light and a mouth at rest at one length."""
    at, where = student[f"x{length}"], f"x{length} "
    return [
        Criterion(where + "sway_std_ratio", at["sway_std_ratio"], ">=", 0.85),
        Criterion(where + "sway_std_ratio", at["sway_std_ratio"], "<=", 1.15),
        *_sync(at, where),
        Criterion(where + "identity.last", at["identity"]["last"], "<=", 0.08),
        Criterion(where + "silent_mouth", at["silent_mouth"], "<=", 0.1),
        Criterion(where + "|drift.brightness|", abs(at["drift"]["brightness"]), "<=", 0.02),
    ]


def missed(metrics: Mapping[str, Any]) -> list[str]:
    """Return a line for each criterion that is not met, with its stage; empty when all is reached."""
    return [f"{stage}: {c}" for stage, rows in criteria(metrics).items() for c in rows if not c.passed]


def late_fall(losses: Sequence[tuple[int, float]]) -> float:
    """Return by what share a loss fell over the last sixth of the steps.

    Args:
        losses: (step, loss) of a stage's evaluations, in order; the last one ends it.

    Raises:
        ValueError: nothing was measured by five sixths of the steps.
    """
    end, last = losses[-1]
    before = [loss for step, loss in losses if 0 < step <= end * 5 / 6]
    if not before:
        raise ValueError(f"no evaluation before step {end * 5 // 6} of {end}: a late fall cannot be told")
    return 1 - last / before[-1]
