"""Float8: how far products, networks and streams move, by rounding alone; what stays as it is; where it is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import train_case as case
from stream_case import AUDIO, CODEC, RATE, TEXT, references, settings, sound
from torch import Tensor, nn

from lpm_train.batch import Conditions
from lpm_train.config import Config, ConfigError, Stream, from_json, override, to_json
from lpm_train.encoders.codec import PatchCodec
from lpm_train.network import fp8
from lpm_train.network.fp8 import Fp8Linear, emulated, put_fp8, rounded, scaled, set_for_stream
from lpm_train.network.model import DiT
from lpm_train.network.refine import Refined
from lpm_train.network.wan import make_model
from lpm_train.session import usable
from lpm_train.streaming.stream import StreamGenerator


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def layer(inputs: int = 64, outputs: int = 48) -> nn.Linear:
    made = nn.Linear(inputs, outputs).requires_grad_(False)
    made.weight.copy_(0.1 * draw(outputs, inputs, seed=1))
    made.bias.copy_(draw(outputs, seed=2))
    return made


def apart(got: Tensor, want: Tensor) -> float:
    """Return the error of the size of what is wanted."""
    return float((got.float() - want.float()).square().mean().sqrt() / want.float().square().mean().sqrt())


def wide_settings(**model: Any) -> Config:
    """A small stream whose matrices have sides of whole sixteens."""
    made = settings()
    return replace(made, model=replace(made.model, width=32, **model), stream=replace(made.stream, cache="eager"))


def network(config: Config) -> DiT:
    """Draw weights of the size that training leaves."""
    torch.manual_seed(0)
    out = make_model(config.model).requires_grad_(False)
    for name, p in out.named_parameters():
        nn.init.normal_(p, std=0.5 / p.shape[-1] ** 0.5 if p.dim() == 2 and "table" not in name else 0.1)
    return out.eval()


def pass_of(made: DiT, cond: Conditions) -> Tensor:
    x, t = draw(1, cond.frames, 12, 4, 4, seed=5), torch.full((1, cond.frames), 0.5)
    with torch.no_grad():
        v: Tensor = made(x.to(made.patch_in.weight.dtype), t, cond).v_BFCHW
    return v


# ------------------------------------------------------------------------------------------------ values and products


def test_values_keep_their_size_and_a_row_its_scale() -> None:
    x = draw(40, 64) * 10.0 ** torch.arange(-8, 32)[:, None]
    values, scale = rounded(x)
    back = values.float() * scale
    assert values.dtype == torch.float8_e4m3fn and scale.shape == (40, 1) and torch.isfinite(back).all()
    assert ((back - x).abs() <= fp8.ROUNDING * x.abs() + fp8.STEP * scale).all()
    largest = x.abs().argmax(1, keepdim=True)
    torch.testing.assert_close(back.gather(1, largest), x.gather(1, largest), rtol=1e-5, atol=0)
    nothing, scale = rounded(torch.zeros(2, 16))
    assert not nothing.float().any() and torch.isfinite(scale).all()


def test_a_product_errs_by_what_was_rounded() -> None:
    plain, x = layer(), draw(2, 5, 64)
    x[0, 0] *= 100  # a token far from the others costs them nothing
    made = Fp8Linear(plain, emulated)
    got, want = made(x), plain(x)
    assert got.shape == want.shape and got.dtype == want.dtype
    (x8, sx), (w8, sw) = rounded(x.flatten(0, 1)), rounded(plain.weight)
    off_x, off_w = (fp8.ROUNDING * v.abs() + fp8.STEP * s for v, s in ((x.flatten(0, 1), sx), (plain.weight, sw)))
    most = off_x @ plain.weight.abs().T + (x.flatten(0, 1).abs() + off_x) @ off_w.T
    assert ((got - want).flatten(0, 1).abs() <= most + 1e-5).all()
    torch.testing.assert_close(got, (x8.double() * sx @ (w8.double() * sw).T).float().reshape(want.shape) + plain.bias)
    without = [apart(got[i, j] - plain.bias, want[i, j] - plain.bias) for i in range(2) for j in range(5)]
    assert all(0.005 < error < 0.08 for error in without), without  # some 4 % where both sides are bell-shaped


def test_the_devices_own_product_is_the_emulated_one() -> None:
    plain, x = layer().bfloat16(), draw(7, 64).bfloat16()
    try:
        got = Fp8Linear(plain, scaled)(x)
    except (NotImplementedError, RuntimeError) as e:
        pytest.skip(f"this PyTorch has no such product on a CPU: {e}")
    want = Fp8Linear(plain, emulated)(x)
    assert got.dtype == torch.bfloat16 and got.shape == (7, 48)
    torch.testing.assert_close(got.float(), want.float(), rtol=2**-6, atol=2**-6)


def test_a_layer_survives_casts_and_compiles_whole() -> None:
    made, x = Fp8Linear(layer(), emulated), draw(3, 64)
    want = made(x)
    kept = made.bits.clone(), made.scale_bits.clone()
    made.to(torch.bfloat16).to(torch.float32)
    assert torch.equal(made.bits, kept[0]) and torch.equal(made.scale_bits, kept[1]) and made.bits.element_size() == 1
    torch.testing.assert_close(made(x), want, rtol=0, atol=0.02)  # the bias alone was cast
    torch._dynamo.reset()
    whole = torch.compile(made, fullgraph=True, dynamic=False, backend="eager")
    assert torch.equal(whole(x), made(x))
    torch._dynamo.reset()


# ------------------------------------------------------------------------------------------------ networks and streams


@pytest.mark.parametrize("kind", ["lpm", "wan"])
def test_large_matrices_of_blocks_change_and_nothing_else(kind: str) -> None:
    more: dict[str, Any] = {"kind": "wan", "heads": 2} if kind == "wan" else {}
    config = wide_settings(**more)
    plain, made = network(config), network(config)
    assert put_fp8(made, emulated) == 8 * config.model.depth == put_fp8(made, emulated)  # once is enough
    changed = {n for n, m in made.named_modules() if isinstance(m, Fp8Linear)}
    assert changed == {f"blocks.{i}.{n}" for i in range(config.model.depth) for n in fp8.LAYERS}
    here, there = made.state_dict(), plain.state_dict()
    for name in here.keys() & there.keys():
        assert torch.equal(here[name], there[name])
    assert here.keys() - there.keys() == {f"{n}.{part}" for n in changed for part in ("bits", "scale_bits")}
    error = apart(pass_of(made, references()), pass_of(plain, references()))
    assert 1e-4 < error < 0.1, error


def test_matrices_of_odd_sides_stay() -> None:
    config = settings()  # of width 12
    made = network(config)
    assert put_fp8(made, emulated) == 0 and not any(isinstance(m, Fp8Linear) for m in made.modules())


@pytest.mark.parametrize("cache", ["eager", "static"])
def test_a_stream_moves_little(cache: str) -> None:
    config = wide_settings()
    config = replace(config, stream=replace(config.stream, cache=cache))
    made = [network(config) for _ in range(2)]
    put_fp8(made[1], emulated)
    speech, user = sound(1.6), sound(1.6, 1)
    plain, narrow = (
        StreamGenerator(m, config, CODEC, AUDIO, TEXT, references(), rate_hz=RATE, words="wave").push(speech, user)
        for m in made
    )
    assert plain.shape == narrow.shape and len(plain) > 30 and plain.std() > 0.1
    early, late = apart(narrow[:10], plain[:10]), apart(narrow[-10:], plain[-10:])
    assert 1e-4 < early < 0.1 and late < 0.15, (early, late)


def test_both_networks_of_a_refined_stream_change() -> None:
    config = wide_settings()
    both = Refined(network(config), network(config))
    assert put_fp8(both, emulated) == 2 * 8 * config.model.depth


# ------------------------------------------------------------------------------------------------ settings and devices


def test_it_is_off_and_goes_with_bfloat16() -> None:
    assert not Stream().fp8 and from_json(to_json(case.config())).stream == case.config().stream
    with pytest.raises(ConfigError, match=r"set stream\.bf16=true"):
        Stream(fp8=True)
    both = override(case.config(), ["stream.fp8=true", "stream.bf16=true"])
    assert both.stream.fp8


def as_gpu(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]) -> None:
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)


def test_what_cannot_multiply_float8_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream(fp8=True, bf16=True)
    said = r"needs an NVIDIA GPU .* 8\.9 or more \(Ada, Hopper and later\), and {}: leave stream\.fp8 out"
    made = network(wide_settings())
    with pytest.raises(ConfigError, match=said.format("cpu has none")):
        set_for_stream(made, stream)
    assert made.patch_in.weight.dtype == torch.float32  # nothing was changed
    with pytest.raises(ConfigError, match=said.format("cpu has none")):
        usable("cpu", stream)
    config = replace(wide_settings(), stream=stream)
    with pytest.raises(ConfigError, match=said.format("cpu has none")):
        StreamGenerator(made, config, PatchCodec((1, 2, 2)), AUDIO, TEXT, references(), rate_hz=RATE)
    as_gpu(monkeypatch, (8, 6))
    with pytest.raises(ConfigError, match=said.format(r"A GPU is of 8\.6")):
        usable("cuda", stream)
    assert usable("cuda") == usable("cuda", Stream()) == torch.device("cuda")
    for capability in ((8, 9), (9, 0), (10, 0), (12, 0)):
        as_gpu(monkeypatch, capability)
        assert usable("cuda", stream) == torch.device("cuda")


def test_where_it_can_weights_take_half_the_bytes_of_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fp8, "must_multiply_fp8", lambda device: None)
    made, stream = network(wide_settings()), Stream(fp8=True, bf16=True)
    half = network(wide_settings()).bfloat16()
    for _ in range(2):  # as two streams of one network do
        set_for_stream(made, stream)
    sizes = [sum(t.numel() * t.element_size() for n, t in m.blocks[0].mlp.state_dict().items() if "bias" not in n)
             for m in (made, half)]  # fmt: skip
    assert 0.5 <= sizes[0] / sizes[1] < 0.6 and made.patch_in.weight.dtype == torch.bfloat16
    odd = network(settings())
    with pytest.raises(ConfigError, match="sides of multiples of 16; this network has none"):
        set_for_stream(odd, stream)


def test_commands_refuse_it_before_the_data(tmp_path: Path) -> None:
    from lpm_train.tools.judge.evaluate import Evaluated, run_eval
    from lpm_train.tools.stream_files import stream_files

    config = override(wide_settings(), ["stream.fp8=true", "stream.bf16=true", "run.stage=causal"])
    with pytest.raises(ConfigError, match=r"stream\.fp8 needs an NVIDIA GPU"):
        run_eval(Evaluated(**vars(config)), network(config), str(tmp_path / "nowhere"), None, 1)
    with pytest.raises(ConfigError, match=r"stream\.fp8 needs an NVIDIA GPU"):
        stream_files(network(config), config, tmp_path / "no.png", tmp_path / "out.mp4", seconds=1.0)
