"""The cache of fixed size: what comes out is the reference's, in memory that is there from the start, in two graphs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
import train_case as case
from torch import Tensor, nn

from lpm_train.batch import Batch
from lpm_train.config import Config, ConfigError, Stream
from lpm_train.network.model import DiT
from lpm_train.network.refine import Performer, Refined
from lpm_train.network.wan import make_model
from lpm_train.streaming.ring import StaticRollout
from lpm_train.streaming.rollout import Draw, Rollout, begin, near

LAYOUTS = {
    "window": Stream(block=2, window=4, steps=2),
    "sink": Stream(block=2, window=4, sink=2, steps=3),
    "path": Stream(block=1, window=3, sink=2, steps=2, resample=False),
    "block alone": Stream(block=2, window=2, steps=1),
}
WAN = {"kind": "wan", "heads": 2, "width": 24, "image_channels": case.C + 4, "picture_width": 7}


def model(settings: Config) -> DiT:
    torch.manual_seed(0)
    out = make_model(settings.model).double().eval()
    for p in out.parameters():
        nn.init.normal_(p, std=0.3)
    return out.requires_grad_(False)


def network(kind: str, layout: Stream, depth: int = 2) -> DiT:
    settings = case.config(stream=layout)
    return model(replace(settings, model=replace(settings.model, depth=depth, **(WAN if kind == "wan" else {}))))


def conditions(frames: int, refs: int, kind: str) -> Batch:
    batch = case.batch(["a", "b"], frames=frames, refs=refs, dtype=torch.float64)
    g = torch.Generator().manual_seed(5)
    texts = torch.randn(2, 1, 3, case.DT, generator=g, dtype=torch.float64)
    turns = (torch.arange(frames) // 6 % 2)[None].expand(2, -1)  # whole blocks
    more: dict[str, Tensor] = {
        "prompts_BQLD": texts, "prompts_mask_BQL": torch.ones(2, 1, 3, dtype=torch.bool), "prompt_BF": turns,
    }  # fmt: skip
    if kind in ("wan", "begun"):  # a picture beside the noise, or in its place
        more["given_BFCHW"] = torch.randn(batch.x_BFCHW.shape, generator=g, dtype=torch.float64)
        more["given_on_BF"] = torch.arange(frames)[None].expand(2, -1) == 0
    if kind == "wan":
        more["picture_BIP"] = torch.randn(2, 5, 7, generator=g, dtype=torch.float64)
    return replace(batch, cond=replace(batch.cond, **more))


def draws(first: int, frames: int) -> Draw:
    def draw(purpose: str) -> Tensor:
        g = torch.Generator().manual_seed(100 * first + int(purpose.removeprefix("step")))
        return torch.randn(2, frames, case.C, case.H, case.W, generator=g, dtype=torch.float64)

    return draw


def blocks(rollout: Rollout | StaticRollout, made: Performer, batch: Batch, layout: Stream) -> Iterator[Tensor]:
    for first in range(0, batch.cond.frames, layout.block):
        cond, start = near(batch.cond, first, first + layout.block, made)
        with torch.no_grad():
            block = rollout.block(cond, start, draws(first, layout.block))
        yield block


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize(("kind", "refs"), [("lpm", 2), ("lpm", 0), ("wan", 2), ("begun", 2)])
def test_the_static_cache_equals_the_growing_one(kind: str, refs: int, layout: Stream) -> None:
    """While the window fills, when it is full, and at many times its length, under texts that change."""
    made, batch = network(kind, layout), conditions(36, refs, kind)
    reference, static = (R.begin(made, batch.cond, layout) for R in (Rollout, StaticRollout))
    pairs = zip(blocks(reference, made, batch, layout), blocks(static, made, batch, layout), strict=True)
    sizes = set()
    for want, got in pairs:
        torch.testing.assert_close(got, want, atol=1e-9, rtol=0)
        assert (static.cache.seen, static.cache.frames) == (reference.cache.seen, reference.cache.frames)
        sizes.add((static.cache.n_bytes, tuple(x.data_ptr() for held in static.cache.layers for x in held[:3])))
    assert len(sizes) == 1 and want.abs().mean() > 0.1
    if kind == "begun":
        first = next(blocks(StaticRollout.begin(made, batch.cond, layout), made, batch, layout))
        torch.testing.assert_close(first[:, 0], batch.cond.given_BFCHW[:, 0], atol=1e-12, rtol=0)  # type: ignore[index]


REFINED = {
    "window": Stream(block=2, window=4, steps=2, refine=True),
    "sink": Stream(block=2, window=4, sink=2, steps=2, refine=True),
    "path": Stream(block=1, window=3, sink=2, steps=3, resample=False, refine=True),
}


@pytest.mark.parametrize("layout", REFINED.values(), ids=REFINED)
@pytest.mark.parametrize("alone", [False, True], ids=["both", "backbone"])
@pytest.mark.parametrize("kind", ["lpm", "wan"])
def test_two_static_caches_equal_two_growing_ones(kind: str, alone: bool, layout: Stream) -> None:
    """Of backbone and refiner, and of a backbone by itself: each network's past is its own, noisy or clean."""
    backbone, batch = network(kind, replace(layout, refine=False)), conditions(36, 2, kind)
    refiner = network(kind, replace(layout, refine=False))
    for p in refiner.parameters():
        p.mul_(0.9)
    made: Performer = backbone if alone else Refined(backbone, refiner)
    reference, static = begin(made, batch.cond, layout), StaticRollout.begin(made, batch.cond, layout)
    pairs = zip(blocks(reference, made, batch, layout), blocks(static, made, batch, layout), strict=True)
    sizes = set()
    for want, got in pairs:
        torch.testing.assert_close(got, want, atol=1e-9, rtol=0)
        assert {(n.cache.seen, n.cache.frames) for n in static.networks} == {
            (reference.cache.seen, reference.cache.frames)
        }
        sizes.add(tuple((n.cache.n_bytes, n.cache.layers[0].k.data_ptr()) for n in static.networks))
    assert len(sizes) == 1 and len(static.networks) == 2 - alone and want.abs().mean() > 0.1


def test_a_pass_is_one_graph_while_the_cache_fills_and_one_when_it_is_full() -> None:
    layout = LAYOUTS["sink"]
    made, batch = network("wan", layout, depth=1), conditions(24, 2, "wan")
    seen: list[str] = []

    def count(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> object:
        seen.append("graph")
        return graph.forward

    torch._dynamo.reset()
    rollout = StaticRollout.begin(made, batch.cond, layout)
    rollout.networks[0].against = torch.compile(made.against, fullgraph=True, dynamic=False, backend=count)
    plain = StaticRollout.begin(made, batch.cond, layout)
    cond, start = near(batch.cond, 0, layout.block, made)
    rollout.warm(cond, start, draws(0, layout.block))
    assert len(seen) == 2
    for got, want in zip(
        blocks(rollout, made, batch, layout), blocks(plain, made, batch, layout), strict=True
    ):  # fmt: skip
        torch.testing.assert_close(got, want, atol=1e-12, rtol=0)
    assert len(seen) == 2
    torch._dynamo.reset()


def test_what_cannot_be_static_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"set stream\.cache=static"):
        Stream(cache="eager", compile=True)
    made, batch = network("lpm", LAYOUTS["window"]), conditions(12, 2, "lpm")
    with pytest.raises(ConfigError, match=r"with stream\.refine=true"):
        StaticRollout.begin(Refined(made, made), batch.cond, LAYOUTS["window"])
    rollout = StaticRollout.begin(made, batch.cond, LAYOUTS["window"])
    with pytest.raises(ConfigError, match=r"cond\.told"):
        rollout.block(batch.cond, 0, draws(0, 2))
