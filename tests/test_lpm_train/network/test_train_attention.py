"""Attention, positions and cache: every path is compared with the plainest way to say the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import train_case as case
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention as sdpa

from lpm_train.config import Stream
from lpm_train.extras.flex import attend_forced_flex, forced_mask, shifts
from lpm_train.network.attention import KV, Space, angles, attend_forced, positions, rotate
from lpm_train.streaming.rollout import Rollout, near

HEIGHT = WIDTH = 2
THETA = 100.0


def grid(head_width: int = 6, wide: bool = True) -> Space:
    return Space.make(HEIGHT, WIDTH, head_width, THETA, 3, 2, 16, wide=wide)


SPACE = grid()


def kv(batch: int, frames: int, seed: int, head_width: int = 6) -> KV:
    g = torch.Generator().manual_seed(seed)
    shape = (batch, 2, frames * SPACE.tokens, head_width)
    return KV(*(torch.randn(shape, generator=g, dtype=torch.float64) for _ in range(2)))


def turned(x: torch.Tensor, times: list[int]) -> torch.Tensor:
    a = angles(positions(torch.tensor(times, dtype=torch.float64), HEIGHT, WIDTH), x.shape[-1], THETA)
    return rotate(x, (a.cos(), a.sin()))


@pytest.mark.parametrize(("frames", "window", "sink"), [(6, 6, 0), (8, 4, 0), (10, 2, 2), (10, 4, 2)])
def test_forced_attention_equals_a_dense_mask(frames: int, window: int, sink: int) -> None:
    layout, S, B = Stream(block=2, window=window, sink=sink), SPACE.tokens, 2
    q, own, refs = kv(2 * B, frames, 0).k, kv(2 * B, frames, 1), kv(B, 2, 2)
    out = attend_forced(q, own, refs, SPACE, layout)
    for row in range(2 * B):  # each block by itself, from a list of visible frames and an explicit mask
        for block in range(frames // 2):
            start = 2 * block
            past = [f for f in range(start) if f < sink or f >= start - window] if start > sink + window else [
                *range(start)
            ]  # fmt: skip
            mask = torch.zeros(frames * S, dtype=torch.bool)
            for f in past:
                mask[f * S : (f + 1) * S] = True
            times = {f: i for i, f in enumerate(past)}
            clean_k = turned(own.k[row % B], [times.get(f, 0) for f in range(frames)])
            here = slice(start * S, (start + 2) * S)
            at = [len(past), len(past) + 1]
            k = torch.cat([turned(refs.k[row % B], [-4, -3]), clean_k, turned(own.k[row, :, here], at)], 1)
            v = torch.cat([refs.v[row % B], own.v[row % B], own.v[row, :, here]], 1)
            full = torch.cat([torch.ones(2 * S, dtype=torch.bool), mask, torch.ones(2 * S, dtype=torch.bool)])
            want = sdpa(turned(q[row, :, here], at)[None], k[None], v[None], attn_mask=full[None, None, None])[0]
            torch.testing.assert_close(out[row, :, here], want, atol=1e-12, rtol=0)


FORGETTING = [
    Stream(block=2, window=12),
    Stream(block=2, window=2),
    Stream(block=2, window=4),
    Stream(block=2, window=2, sink=2),
    Stream(block=2, window=4, sink=4),
    Stream(block=1, window=3, sink=1),
    Stream(block=3, window=3, sink=3),
]


@pytest.mark.parametrize("layout", FORGETTING, ids=lambda s: f"{s.block}-{s.window}-{s.sink}")
def test_the_fused_mask_is_what_each_block_sees(layout: Stream) -> None:
    """Densely: of every query, the frames that `kept` lists, its own block, and one copy of references and sink."""
    frames, S, refs = 12, 2, 3
    mask = forced_mask(layout, frames, S, refs, torch.device("cpu")).mask_mod
    moved = shifts(layout, frames)
    each = refs + layout.sink * S
    ahead = each * len(set(moved))
    index = torch.arange(ahead + 2 * frames * S)
    for q in range(2 * frames * S):
        block, noisy = q % (frames * S) // (layout.block * S), q >= frames * S
        kept = layout.kept(block * layout.block)
        want = torch.zeros(len(index), dtype=torch.bool)
        place = sorted(set(moved)).index(moved[block]) * each
        want[place : place + refs] = True
        for a, b in kept:
            copied = moved[block] > 0 and a < layout.sink
            base = place + refs if copied else ahead
            want[base + a * S : base + b * S] = True
        own = ahead + (frames * S if noisy else 0) + block * layout.block * S
        want[own : own + layout.block * S] = True
        got = mask(torch.tensor(0), torch.tensor(0), torch.tensor(q), index)
        assert torch.equal(got, want), f"query {q}"


@pytest.mark.filterwarnings("ignore")  # flex attention warns wherever it is not compiled
@pytest.mark.parametrize("layout", FORGETTING, ids=lambda s: f"{s.block}-{s.window}-{s.sink}")
@pytest.mark.parametrize("slots", [0, 2, -2], ids=["no references", "references", "references beside"])
def test_flex_equals_sdpa_forward(layout: Stream, slots: int) -> None:
    space, g = grid(16, wide=False), torch.Generator().manual_seed(3)
    if slots < 0:
        space = space._replace(beside_N1E=torch.randn(2, 1, 16, generator=g))
    q, own, refs = kv(2, 12, 0, 16).k.float(), kv(2, 12, 1, 16), kv(1, abs(slots), 2, 16)
    own, refs = KV(*(x.float() for x in own)), KV(*(x.float() for x in refs))
    with torch.no_grad():
        given = (q, own, refs if slots else None, space, layout)
        torch.testing.assert_close(attend_forced_flex(*given), attend_forced(*given), atol=5e-6, rtol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="flex attention has a backward on CUDA only")
@pytest.mark.parametrize(
    "layout", [Stream(block=2, window=6), Stream(block=2, window=2), Stream(block=1, window=2, sink=1)]
)
def test_flex_equals_sdpa_on_cuda(layout: Stream) -> None:
    space, results = Space.make(8, 16, 64, THETA, 3, 2, 6, device="cuda"), []
    g = torch.Generator("cuda").manual_seed(0)
    shapes = [(2, 2, 6 * 128, 64)] * 3 + [(1, 2, 2 * 128, 64)] * 2
    given = [torch.randn(s, generator=g, device="cuda") for s in shapes]
    for attend in (attend_forced, attend_forced_flex):
        q, k, v, rk, rv = inputs = [x.clone().requires_grad_() for x in given]
        out = attend(q, KV(k, v), KV(rk, rv), space, layout)
        out.square().sum().backward()
        results.append([out, *(x.grad for x in inputs)])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, atol=5e-3, rtol=5e-3)


@settings(max_examples=20, deadline=None)
@given(shift=st.integers(-10_000, 10_000))
def test_rotation_depends_on_differences_of_position_only(shift: int) -> None:
    own = kv(1, 3, 5)
    here = sdpa(turned(own.k, [0, 1, 2]), turned(own.v, [0, 1, 2]), own.v)
    there = sdpa(turned(own.k, [shift, shift + 1, shift + 2]), turned(own.v, [shift, shift + 1, shift + 2]), own.v)
    torch.testing.assert_close(here, there, atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    "stream",
    [
        Stream(block=2, window=12),
        Stream(block=2, window=4),
        Stream(block=2, window=2, sink=2),
        Stream(block=1, window=3, sink=1),
    ],
)
def test_cached_stream_equals_full_causal_pass(stream: Stream) -> None:
    settings = case.config(stream=stream)
    settings = replace(settings, model=replace(settings.model, speak_after=1))
    model, batch = case.model(settings), case.batch(["a", "b"], frames=12, dtype=torch.float64)
    x_t = torch.randn(batch.x_BFCHW.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    t = torch.rand(2, 12 // stream.block, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    t = t.repeat_interleave(stream.block, 1)
    both = torch.cat([batch.x_BFCHW, x_t]), torch.cat([torch.zeros_like(t), t])
    with torch.no_grad():
        full = model(*both, batch.cond, layout=stream).v_BFCHW
        rollout, parts = Rollout.begin(model, batch.cond, stream), []
        for first in range(0, 12, stream.block):
            here = slice(first, first + stream.block)
            cond, start = near(batch.cond, first, first + stream.block, model)
            parts.append(model(x_t[:, here], t[:, here], cond, cache=rollout.cache, start=start).v_BFCHW)
            rollout.remember(batch.x_BFCHW[:, here], cond, start, lambda _: x_t)
    torch.testing.assert_close(torch.cat(parts, 1), full, atol=1e-10, rtol=0)
    assert rollout.cache.seen == 12 and rollout.cache.frames == min(12, stream.window + stream.sink)


def test_cache_is_pure_and_constant_in_size() -> None:
    stream = Stream(block=2, window=4, sink=2)
    model, batch = case.model(case.config(stream=stream)), case.batch(["a"], frames=2, dtype=torch.float64)
    rollout, sizes = Rollout.begin(model, batch.cond, stream), []
    for _ in range(8):
        before = rollout.cache
        held = before.past[0].k.clone() if before.past[0] is not None else None
        rollout.remember(batch.x_BFCHW, batch.cond, 0, lambda _: batch.x_BFCHW)
        if held is not None:
            assert before.past[0] is not None and torch.equal(before.past[0].k, held)
        sizes.append(rollout.cache.n_bytes)
    assert sizes[2] == sizes[-1] and rollout.cache.seen == 16 and rollout.cache.frames == 6
    assert torch.isfinite(rollout.cache.past[1].v).all()  # type: ignore[union-attr]
