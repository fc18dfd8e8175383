"""Pictures compared by features: LPIPS as published, the codec's own layers, a loss off the policy alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import train_case as case
from torch import Tensor
from torch.nn import functional as fn

from lpm_train import parts
from lpm_train.config import Config, ConfigError, override
from lpm_train.encoders.codec import Codec, PatchCodec
from lpm_train.encoders.perceptual import DecoderFeatures, part_of, squared
from lpm_train.extras.codec_tiny import TinyConfig, TinyVideoAE
from lpm_train.extras.lpips import STAGES, Lpips
from lpm_train.storage import DataError
from lpm_train.training.stage import make_stage
from lpm_train.training.stages import Distill

PUBLISHED = (64, 128, 256, 512, 512)


def weights(widths: tuple[int, ...] = (4, 6, 6, 8, 8)) -> dict[str, Tensor]:
    g, out, before = torch.Generator().manual_seed(0), dict[str, Tensor](), 3
    for k, (stage, width) in enumerate(zip(STAGES, widths, strict=True)):
        for n in stage:
            out[f"features.{n}.weight"] = torch.randn(width, before, 3, 3, generator=g) * (2 / (9 * before)) ** 0.5
            out[f"features.{n}.bias"] = 0.1 * torch.randn(width, generator=g)
            before = width
        out[f"lin{k}.model.1.weight"] = torch.rand(1, width, 1, 1, generator=g)
    return out


def written(folder: Path, widths: tuple[int, ...] = (4, 6, 6, 8, 8)) -> Path:
    """Write weights as they are published: torchvision's with its classifier, and the linear ones of LPIPS."""
    made = weights(widths)
    folder.mkdir()
    network = {n: w for n, w in made.items() if n.startswith("features.")} | {"classifier.0.bias": torch.zeros(2)}
    torch.save(network, folder / "vgg16-397923af.pth", _use_new_zipfile_serialization=False)
    torch.save({n: w for n, w in made.items() if n.startswith("lin")}, folder / "vgg.pth")
    return folder


def reference(w: dict[str, Tensor], a: Tensor, b: Tensor) -> Tensor:
    """LPIPS in plain steps, picture by picture."""
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    out = []
    for pictures in zip(a, b, strict=True):
        total, features = 0.0, []
        for picture in pictures:
            x, taps = ((picture - shift[:, None, None]) / scale[:, None, None])[None], []
            for k, stage in enumerate(STAGES):
                x = fn.max_pool2d(x, 2, 2) if k else x
                for n in stage:
                    x = fn.relu(fn.conv2d(x, w[f"features.{n}.weight"], w[f"features.{n}.bias"], padding=1))
                taps.append(x[0] / (x[0].pow(2).sum(0).sqrt() + 1e-10))
            features.append(taps)
        for k, (one, other) in enumerate(zip(*features, strict=True)):
            lin = w[f"lin{k}.model.1.weight"][0, :, 0, 0]
            total += float(torch.einsum("chw,c->hw", (one - other) ** 2, lin).mean())
        out.append(total)
    return torch.tensor(out)


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_lpips_is_that_of_the_paper(tmp_path: Path, kind: str) -> None:
    folder = written(tmp_path / "weights")
    if kind == "safetensors":
        from safetensors.torch import save_file

        save_file(weights(), folder / "all.safetensors")
        for file in folder.glob("*.pth"):
            file.unlink()
    made = Lpips.load(str(folder))
    g = torch.Generator().manual_seed(1)
    a, b = (torch.rand(3, 3, 32, 48, generator=g) * 2 - 1 for _ in range(2))
    torch.testing.assert_close(made.distance(a, b), reference(weights(), a, b), rtol=1e-5, atol=1e-6)
    assert not made.distance(a, a).any() and not any(p.requires_grad for p in made.parameters())
    flat = torch.zeros(1, 3, 16, 16, requires_grad=True)  # where no feature is, there is no direction
    made.distance(flat, a[:1, :, :16, :16]).sum().backward()
    assert flat.grad is not None and torch.isfinite(flat.grad).all() and flat.grad.any()


@pytest.mark.slow
def test_lpips_of_the_published_shape(tmp_path: Path) -> None:
    made, w = Lpips.load(str(written(tmp_path / "weights", PUBLISHED))), weights(PUBLISHED)
    assert sum(p.numel() for p in made.parameters()) == 14_714_688  # VGG-16's convolutions
    assert sum(b.numel() for n, b in made.named_buffers() if n.startswith("lin")) == 1472
    a, b = torch.rand(2, 3, 64, 64) * 2 - 1, torch.rand(2, 3, 64, 64) * 2 - 1
    torch.testing.assert_close(made.distance(a, b), reference(w, a, b), rtol=1e-4, atol=1e-5)


def test_weights_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\(0 files\): features\.0\.weight is not there.*nothing is downloaded"):
        Lpips.load(str(tmp_path / "none"))
    folder = written(tmp_path / "weights")
    (folder / "vgg.pth").unlink()
    with pytest.raises(ConfigError, match=r"lin0\.model\.1\.weight is not there, nor are 4 more of 31 weights"):
        Lpips.load(str(folder))
    (folder / "vgg.pth").write_bytes(b"no weights")
    with pytest.raises(ConfigError, match=r"vgg\.pth is damaged"):
        Lpips.load(str(folder))
    with pytest.raises(ConfigError, match=r"has shape \[4, 3, 3, 3\], not \[any, 6"):
        Lpips(weights() | {"features.7.weight": torch.zeros(4, 3, 3, 3)})
    with pytest.raises(ConfigError, match="is less than 16"):
        Lpips(weights()).distance(*[torch.zeros(1, 3, 8, 32)] * 2)


def test_features_of_the_codec_tell_pictures_apart() -> None:
    torch.manual_seed(0)
    codec = TinyVideoAE(TinyConfig(stride=(2, 4, 4), channels=4, width=8, blocks=1)).eval().requires_grad_(False)
    x = torch.randn(2, 2, 4, 4, 4)
    y = (x + 0.5 * torch.randn_like(x)).requires_grad_()
    far = DecoderFeatures()(codec, y, x)
    near = DecoderFeatures()(codec, (x + 0.01).requires_grad_(), x)
    assert far.shape == (2,) and (far > near).all() and not DecoderFeatures()(codec, x, x).any()
    far.sum().backward()
    assert y.grad is not None and torch.isfinite(y.grad).all() and y.grad.any()
    assert not any(m._forward_hooks for m in codec.modules())
    with pytest.raises(DataError, match=r"patch .* has no decoder of layers"):
        DecoderFeatures()(PatchCodec(), x, x)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wan", "ltx"])
def test_public_codecs_pass_gradients_on(tmp_path: Path, kind: str) -> None:
    import diffusers

    torch.manual_seed(0)
    if kind == "wan":
        small = {"base_dim": 8, "z_dim": 4, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1}
        vae = diffusers.AutoencoderKLWan(**small, latents_mean=[0.1] * 4, latents_std=[1.5] * 4)
    else:
        shape = {"block_out_channels": (8, 16, 16, 16), "decoder_block_out_channels": (8, 16, 16, 16)}
        layers = {"layers_per_block": (1,) * 5, "decoder_layers_per_block": (1,) * 5}
        vae = diffusers.AutoencoderKLLTXVideo(latent_channels=4, **shape, **layers)
    vae.save_pretrained(tmp_path / kind)
    codec: Codec = parts.codec(kind, directory=str(tmp_path / kind)).build()
    x = torch.randn(1, 2, 4, 4, 4)
    for distance in (DecoderFeatures(), Lpips(weights())):
        y = (x + 0.3 * torch.randn_like(x)).requires_grad_()
        loss = distance(codec, y, x)
        loss.sum().backward()
        assert loss.shape == (1,) and float(loss.detach()) > 0
        assert y.grad is not None and y.grad.any() and torch.isfinite(y.grad).all()


# ------------------------------------------------------------------------------------------------ the loss


class Counted(PatchCodec):
    """A codec that says how many latents it has decoded; of 4 channels, as the tests' models have."""

    seen: list[tuple[int, ...]]

    def __init__(self) -> None:
        super().__init__((1, 1, 1))
        self.channels, self.seen = case.C, []

    def decode(self, latents_BFCHW: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        self.seen.append(tuple(latents_BFCHW.shape))
        return latents_BFCHW[:, :, :3].repeat_interleave(4, 3).repeat_interleave(4, 4), None


def settings(folder: Path, *more: str) -> Config:
    said = ["run.stage=distill", "distill.policy=data", "distill.critic_steps=1", "distill.perceptual=lpips",
            f"distill.perceptual.directory={folder}", *more]  # fmt: skip
    return override(case.config(), said)


def staged(config: Config) -> Distill:
    made = make_stage(config, start=case.model(dtype=torch.float32).state_dict())
    assert isinstance(made, Distill)
    if made.perceptual is not None:
        made.codec = Counted()
    return made


def test_the_loss_pulls_at_the_frames_that_are_drawn(tmp_path: Path) -> None:
    stage, batch = staged(settings(written(tmp_path / "w"), "distill.perceptual_frames=2")), case.batch(list("abcd"))
    y = (batch.x_BFCHW + 0.3).requires_grad_()
    distance = stage._unlike(batch, y, batch.x_BFCHW, 0)
    assert distance.shape == (4,) and (distance > 0).all()
    assert isinstance(stage.codec, Counted) and set(stage.codec.seen) == {(4, 2, case.C, case.H, case.W)}
    distance.sum().backward()
    assert y.grad is not None
    pulled = y.grad.abs().sum((2, 3, 4)) > 0
    assert (pulled.sum(1) == 2).all() and all(row.nonzero().diff(dim=0).eq(1).all() for row in pulled)
    first = [stage._unlike(batch, y, batch.x_BFCHW, i) for i in (0, 0, 1)]
    assert torch.equal(first[0], first[1]) and not torch.equal(first[0], first[2])
    rows = batch.select(slice(2, 4))
    alone = stage._unlike(rows, y[2:], batch.x_BFCHW[2:], 0)
    torch.testing.assert_close(alone, distance[2:])  # what is drawn belongs to the sample


def test_distillation_with_it_moves_elsewhere_and_without_it_is_what_it_was(tmp_path: Path) -> None:
    folder, batch, found = written(tmp_path / "w"), case.batch(list("ab")), []
    for config in (
        settings(folder), settings(folder, "distill.perceptual_weight=5"),
        override(case.config(), ["run.stage=distill", "distill.policy=data", "distill.critic_steps=1"]),
    ):  # fmt: skip
        stage = staged(config)
        figures = [stage.step(batch, i) for i in range(2)]
        found.append((figures, {n: p.detach().clone() for n, p in stage.student.named_parameters()}))
    (one, a), (_, b), (none, c) = found
    assert one[0]["perceptual"] > 0 == none[0]["dmd"] and "perceptual" not in none[0]
    assert one[0]["generator_loss"] == pytest.approx(one[0]["perceptual"], rel=1e-5)  # at first the other is zero
    for left, right in ((a, b), (a, c)):
        assert any(not torch.equal(left[n], right[n]) for n in left)


def test_it_asks_for_given_latents(tmp_path: Path) -> None:
    folder = written(tmp_path / "w")
    with pytest.raises(ConfigError, match=r"distill\.policy=own has none"):
        settings(folder, "distill.policy=own")
    for wrong in ("perceptual_weight=0", "perceptual_frames=0"):
        with pytest.raises(ConfigError, match="must be positive"):
            settings(folder, f"distill.{wrong}")
    assert (
        staged(settings(folder, "distill.policy=teacher", "flow.steps=2")).step(case.batch(list("ab")), 0)["loss"] > 0
    )


def test_directions_are_compared_not_lengths() -> None:
    a = torch.randn(2, 5, 3, 3)
    torch.testing.assert_close(squared(a, 3 * a, 1), torch.zeros(2))
    torch.testing.assert_close(squared(a, -a, 1), torch.full((2,), 4.0))
    x = torch.arange(12).reshape(2, 6)
    assert part_of(x, torch.tensor([[1, 2], [4, 5]])).tolist() == [[1, 2], [10, 11]]
