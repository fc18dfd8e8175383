"""What single operations cost: attention of teacher forcing by flex and by sdpa, products in bf16 and in fp8."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

from h200_parts.case import Case, Figures, tried
from lpm_train.extras.flex import attend_forced_flex
from lpm_train.network.attention import KV, Space, attend_forced
from lpm_train.network.fp8 import Fp8Linear

_FP8_FROM = (8, 9)  # compute capability of Ada; Hopper has 9.0


def attention_part(case: Case) -> Figures:
    """Compare flex with sdpa in teacher forcing, forward and backward."""
    m, s, (F, H, W) = case.config.model, case.config.stream, case.size
    head, h, w = m.width // m.heads, H // m.patch, W // m.patch
    dtype = torch.bfloat16 if case.cuda else torch.float32
    space = Space.make(h, w, head, m.theta, m.ref_gap, case.config.data.max_refs, F, case.device)
    shapes = [(2, m.heads, F * h * w, head)] * 3 + [(1, m.heads, case.config.data.max_refs * h * w, head)] * 2
    given = [torch.randn(shape, device=case.device, dtype=dtype) for shape in shapes]
    results = dict[str, Tensor]()

    def forward(attend: Any) -> Tensor:
        q, k, v, rk, rv = given
        result: Tensor = attend(q, KV(k, v), KV(rk, rv), space, s)
        return result

    def both(attend: Any) -> None:
        forward(attend).float().square().mean().backward()  # type: ignore[no-untyped-call]

    def forwards(name: str, attend: Any) -> dict[str, Any]:
        with torch.no_grad():
            results[name] = forward(attend)
            return {"s": case.timed(lambda: forward(attend))}

    def backwards(attend: Any) -> dict[str, Any]:
        for x in given:
            x.requires_grad_(True)
        try:
            return {"s": case.timed(lambda: both(attend))}
        finally:
            for x in given:
                x.requires_grad_(False)
                x.grad = None

    yield "tokens", F * h * w
    yield "window", s.window
    yield "clip", F
    for name, attend in (("sdpa", attend_forced), ("flex", attend_forced_flex)):
        yield f"{name}, forward", tried(lambda n=name, a=attend: forwards(n, a))  # type: ignore[misc]
        if name == "flex" and not case.cuda:
            yield "flex, forward and backward", {"refused": "PyTorch has no backward for flex attention on a CPU"}
        else:
            yield f"{name}, forward and backward", tried(lambda a=attend: backwards(a))  # type: ignore[misc]
    if len(results) == 2:
        yield "largest_difference", float((results["sdpa"].float() - results["flex"].float()).abs().max())


def fp8(x: Tensor, weight: Tensor) -> Callable[[], Tensor]:
    """Return x weight^T as a stream's layers compute it in float8 (`network.fp8`), inputs cast in the call."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    layer.weight = nn.Parameter(weight, requires_grad=False)
    return torch.compile(functools.partial(Fp8Linear(layer), x), dynamic=False)


def matmul_part(case: Case) -> Figures:
    """Compare bf16 products of a block's layers with fp8 ones, the cast of the inputs included."""
    m, s, (_, H, W) = case.config.model, case.config.stream, case.size
    L, D, hidden = s.block * H * W // m.patch**2, m.width, round(m.width * m.mlp_ratio)
    for name, (inputs, outputs) in {"qkv": (D, 3 * D), "out": (D, D), "up": (D, hidden), "down": (hidden, D)}.items():
        x = torch.randn(L, inputs, device=case.device, dtype=torch.bfloat16)
        weight = torch.randn(outputs, inputs, device=case.device, dtype=torch.bfloat16)
        plain = functools.partial(fn.linear, x, weight)
        yield f"{name}, bf16", {"shape": [L, inputs, outputs], "s": case.timed(plain)}
        yield f"{name}, fp8", tried(lambda x=x, w=weight, p=plain: _fp8_way(case, x, w, p))  # type: ignore[misc]


def _fp8_way(case: Case, x: Tensor, weight: Tensor, plain: Callable[[], Tensor]) -> dict[str, Any]:
    if case.cuda and torch.cuda.get_device_capability(case.device) < _FP8_FROM:
        return {"refused": "fp8 products need a GPU of compute capability 8.9 and more (Ada, Hopper)"}
    narrow, exact = fp8(x, weight), plain().float()
    error = (narrow().float() - exact).square().mean().sqrt() / exact.square().mean().sqrt()
    return {"s": case.timed(narrow), "relative_error": float(error)}
