"""Ranks that share a sample compute what one rank does: outputs, gradients, steps of every stage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import context_case
import pytest
import torch
import train_case as case
from context_case import CASES, FRAMES, model, settings, together
from torch import Tensor
from train_ranks import environment
from warm_command import OF_THE_TRAINER, warm

from lpm_train.batch import Batch
from lpm_train.config import ConfigError, Stream, override
from lpm_train.flow import add_noise, frame_loss, noise
from lpm_train.network import context
from lpm_train.network.context import Context, Split, join
from lpm_train.streaming.rollout import forced, roll
from lpm_train.training.parallel import Ranks

ROOT = Path(__file__).parents[3]


def prompted(batch: Batch) -> Batch:
    """Tell frames different texts, and give a picture."""
    torch.manual_seed(3)
    B, F = batch.x_BFCHW.shape[:2]
    cond = replace(
        batch.cond, prompts_BQLD=torch.randn(B, 2, 3, case.DT).double(),
        prompts_mask_BQL=torch.ones(B, 2, 3, dtype=torch.bool), prompt_BF=torch.arange(F).expand(B, F) % 3,
        given_BFCHW=batch.x_BFCHW + 1, given_on_BF=(torch.arange(F) == 0).expand(B, F),
    )  # fmt: skip
    return replace(batch, cond=cond)


@pytest.fixture
def swapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "exchange", context_case.exchange)


@pytest.mark.usefixtures("swapped")
@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize("layout", [None, Stream(block=2, window=4, sink=2)], ids=["both", "forced"])
@pytest.mark.parametrize("kind", ["lpm", "wan"])
def test_ranks_that_share_a_clip_compute_what_one_does(n: int, layout: Stream | None, kind: str) -> None:
    """Velocities, and gradients as `fully_shard` would average them; frames do not divide among four."""
    wan = ["model.kind=wan", f"model.image_channels={case.C + 4}"] * (kind == "wan")
    config = settings(*wan)
    batch = prompted(case.batch(["a", "b"], frames=FRAMES, dtype=torch.float64))
    x0, t = batch.x_BFCHW, torch.linspace(0.1, 0.9, FRAMES, dtype=torch.float64).expand(2, -1)
    eps = noise(batch.sample_ids, x0.shape[1:], x0, "case")

    def velocity(where: Context | None, made: torch.nn.Module) -> Tensor:
        made.context = where  # type: ignore[assignment]
        return forced(made, add_noise(x0, eps, t), t, batch.cond, layout, x0)  # type: ignore[arg-type]

    one = model(config)
    v = velocity(None, one)
    frame_loss(v, x0, eps).mean().backward()  # type: ignore[no-untyped-call]
    copies = [model(config) for _ in range(n)]
    shared = together(n, lambda where: velocity(where, copies[where.rank]))
    for theirs in shared:
        torch.testing.assert_close(theirs, v, rtol=0, atol=1e-10)
    sum(frame_loss(theirs, x0, eps).mean() for theirs in shared).backward()  # type: ignore[union-attr]
    for name, p in one.named_parameters():
        grads = [g for m in copies if (g := m.get_parameter(name).grad) is not None]
        mean = sum(grads, torch.zeros_like(p)) / n
        torch.testing.assert_close(mean, torch.zeros_like(p) if p.grad is None else p.grad, rtol=0, atol=1e-10)


@pytest.mark.usefixtures("swapped")
def test_a_pass_on_a_cache_is_not_split() -> None:
    config, batch = settings(), case.batch(["a"], dtype=torch.float64)
    one = model(config)
    whole = roll(one, batch.cond, batch.size, batch.sample_ids, config.stream, "case")
    one.context = Context(None, 0, 2)  # type: ignore[arg-type]
    assert torch.equal(roll(one, batch.cond, batch.size, batch.sample_ids, config.stream, "case"), whole)


def test_frames_are_dealt_out_in_order() -> None:
    group: torch.distributed.ProcessGroup = None  # type: ignore[assignment]
    splits = [Context(group, k, 8).split(21) for k in range(8)]
    assert splits[0].counts == (3, 3, 3, 3, 3, 2, 2, 2)
    assert [i for s in splits for i in range(s.first, s.first + s.count)] == list(range(21))
    assert Split(group, 1, (2, 2)).heads(torch.arange(4), 0).tolist() == [2, 3]
    with pytest.raises(ConfigError, match="1 latents cannot be split"):
        Context(group, 0, 2).split(1)


def test_what_does_not_divide_is_refused() -> None:
    for change, size, told in (
        ("run.context=2", 3, "does not divide 3 ranks"), ("run.context=0", 2, "does not divide 2 ranks"),
        ("run.context=8", 8, r"does not divide 4 heads: use 1 or 2 or 4"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=told):
            join(override(settings(), [change]), 0, size)
    assert join(settings(), 0, 3) is None
    group: torch.distributed.ProcessGroup = None  # type: ignore[assignment]
    where = Ranks(rank=5, size=8, context=Context(group, 1, 4))
    assert (where.data_rank, where.data_size) == (1, 2)


def launched(out: Path, ranks: int, context: int, shard: int = 0) -> None:
    out.mkdir()
    env = environment(CONTEXT=str(context), SHARD=str(shard))
    ended = warm(*OF_THE_TRAINER).run("context_case", [str(out)], env, str(ROOT), ranks)
    assert not ended.returncode, ended.stderr


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one rank makes of every case."""
    out, before = tmp_path_factory.mktemp("alone"), torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        for name in CASES:
            context_case.train(out, name, 1)
    finally:
        torch.set_default_dtype(before)
    return out


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("ranks", "context", "shard"), [(4, 2, 0), (4, 2, 2), (4, 4, 2)],
    ids=["pairs, weights over all", "pairs, a copy in each", "all share samples, two copies"],
)  # fmt: skip
def test_ranks_train_as_one_does(ranks: int, context: int, shard: int, alone: Path, tmp_path: Path) -> None:
    """Over gloo, weights sharded too: losses, gradient norms, held-out figures, clips, and the weights."""
    launched(tmp_path / "several", ranks, context, shard)
    for name in CASES:
        one, several = (torch.load(place / f"{name}.pt", weights_only=True) for place in (alone, tmp_path / "several"))
        assert several["losses"] == [pytest.approx(row, rel=1e-6) for row in one["losses"]], name
        assert several["heldout"] == pytest.approx(one["heldout"], rel=1e-6), name
        torch.testing.assert_close(several["generated"], one["generated"], rtol=1e-6, atol=1e-6, msg=name)
        torch.testing.assert_close(several["weights"], one["weights"], rtol=0, atol=1e-6)
