"""The published tiny autoencoders for Wan: their layout, their numbers, streams, and files that are none of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import taew_case as taew
import torch

from lpm_train import parts
from lpm_train.encoders.codec import encode_images, grey, latent_frames, latent_size, picture_frames
from lpm_train.encoders.perceptual import DecoderFeatures
from lpm_train.extras.codec_taew import TaewCodec
from lpm_train.storage import DataError

FORMS = pytest.mark.parametrize(("channels", "fold"), [(16, 1), (48, 2)], ids=["2.1", "2.2"])


def codec(tmp_path: Path, channels: int = 16, fold: int = 1, name: str = "taew.pth") -> TaewCodec:
    made = parts.codec("taew", path=str(taew.written(tmp_path / name, taew.weights(channels, fold)))).build()
    assert isinstance(made, TaewCodec)
    return made


def halved(channels: int, fold: int) -> taew.Weights:
    """What a published file holds: half precision."""
    return {name: w.half().float() for name, w in taew.weights(channels, fold).items()}


@FORMS
def test_the_layout_is_the_published_one(channels: int, fold: int) -> None:
    assert {n: tuple(w.shape) for n, w in TaewCodec(channels).state_dict().items()} == taew.layout(channels, fold)
    assert len(taew.layout()) == 128


@FORMS
@pytest.mark.parametrize("name", ["taew.pth", "taew.safetensors"])
def test_it_computes_what_the_published_code_does(tmp_path: Path, channels: int, fold: int, name: str) -> None:
    made, stored = codec(tmp_path, channels, fold, name), halved(channels, fold)
    x = torch.rand(2, 9, 3, 32, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1
    z = made.encode(x)
    assert z.shape == (2, latent_frames(made, 9), channels, *latent_size(made, 32, 48)) and z.std() > 0.1
    torch.testing.assert_close(z, taew.encoded(stored, x, fold), rtol=0, atol=1e-4)
    y, _ = made.decode(z)
    assert y.shape == x.shape and picture_frames(made, 3) == 9 and y.std() > 0.02 and y.abs().max() <= 1
    torch.testing.assert_close(y, taew.decoded(stored, z, fold), rtol=0, atol=1e-4)
    assert made.first_alone and made.stride == (4, 8 * fold, 8 * fold) and not made.mean.any() and (made.std == 1).all()


@FORMS
def test_a_stream_is_what_is_decoded_whole(tmp_path: Path, channels: int, fold: int) -> None:
    made = codec(tmp_path, channels, fold).double()  # sums of another order differ by 2e-5 in float32
    z = torch.randn(1, 6, channels, 3, 4, generator=torch.Generator().manual_seed(2)).double()
    whole, _ = made.decode(z)
    out, states = [], [None]
    for piece in z.split([1, 2, 3], 1):
        frames, state = made.decode(piece, states[-1])
        assert frames.shape[1] == 4 * piece.shape[1] - 3 * (states[-1] is None)
        out.append(frames)
        states.append(state)
    torch.testing.assert_close(torch.cat(out, 1), whole, rtol=0, atol=1e-6)
    again, _ = made.decode(z[:, 1:3], states[1])  # a state may be gone on from twice
    assert torch.equal(again, out[1])


def test_what_comes_later_changes_nothing_before(tmp_path: Path) -> None:
    made = codec(tmp_path)
    z = torch.randn(1, 4, 16, 2, 2, generator=torch.Generator().manual_seed(3))
    other = torch.cat([z[:, :2], z[:, 2:] + 1], 1)
    one, two = made.decode(z)[0], made.decode(other)[0]
    assert torch.equal(one[:, :5], two[:, :5]) and not torch.equal(one[:, 5], two[:, 5])
    x = torch.rand(1, 13, 3, 16, 16, generator=torch.Generator().manual_seed(4)) * 2 - 1
    changed = x.clone()
    changed[:, 8:] = 0  # latents 0 and 1 are made of frames up to the seventh
    one, two = made.encode(x), made.encode(changed)
    torch.testing.assert_close(one[:, :2], two[:, :2], rtol=0, atol=1e-6)
    assert (one[:, 2] - two[:, 2]).abs().max() > 1e-3


def test_stills_half_precision_and_gradients(tmp_path: Path) -> None:
    made = codec(tmp_path)
    x = torch.rand(3, 3, 16, 16) * 2 - 1
    assert encode_images(made, x).shape == (3, 16, 2, 2) and grey(made, 16, 16).shape == (16, 2, 2)
    z = torch.randn(1, 3, 16, 2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        y, state = made.decode(z[:, :2])
        more, _ = made.decode(z[:, 2:], state)
    whole, _ = made.decode(z)
    assert y.dtype == torch.float32 and (torch.cat([y, more], 1) - whole).abs().mean() < 0.02
    z = z.requires_grad_()
    far = DecoderFeatures()(made, z, z.detach() + 0.1)
    far.sum().backward()
    assert z.grad is not None and z.grad.any() and torch.isfinite(z.grad).all()


def test_weights_that_are_none_of_them_are_named(tmp_path: Path) -> None:
    good, file = taew.weights(), tmp_path / "w.pth"

    def said(stored: object) -> str:
        torch.save(stored, file)
        with pytest.raises(DataError) as e:
            TaewCodec.load(str(file))
        assert str(file) in str(e.value)
        return str(e.value)

    assert "lacks encoder.4.conv.2.bias. Take taew2_1" in said(
        {n: w for n, w in good.items() if n != "encoder.4.conv.2.bias"}
    )
    assert "also holds decoder.23.bias and 1 more" in said(
        good | {"decoder.23.weight": torch.zeros(1), "decoder.23.bias": torch.zeros(1)}
    )
    wide = {"decoder.8.weight": torch.zeros(192, 256, 3, 3)}
    assert "decoder.8.weight has shape [192, 256, 3, 3], not [128, 256, 3, 3]" in said(good | wide)
    assert "reads latents of 32 channels" in said(good | {"decoder.1.weight": torch.zeros(256, 32, 3, 3)})
    assert "lacks decoder.1.weight, by which the form is known" in said({"weights": torch.zeros(2)})
    assert "encoder.0.bias holds no finite numbers" in said(good | {"encoder.0.bias": torch.full((64,), torch.nan)})
    assert "holds other things than tensors by name" in said({"model": good})
    file.write_bytes(b"no weights")
    with pytest.raises(DataError, match="is damaged, or no file of weights"):
        TaewCodec.load(str(file))
    (tmp_path / "w.safetensors").write_bytes(b"no weights")
    with pytest.raises(DataError, match="is damaged, or no file of weights"):
        TaewCodec.load(str(tmp_path / "w.safetensors"))
    with pytest.raises(DataError, match=r"no file .*nowhere\.pth: get taew2_1 .* name it with data\.codec\.path"):
        TaewCodec.load(str(tmp_path / "nowhere.pth"))
    with pytest.raises(DataError, match="12 channels are no Wan's"):
        TaewCodec(12)
