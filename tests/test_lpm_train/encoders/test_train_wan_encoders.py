"""What Wan reads and writes besides: umT5's words, the autoencoders of 2.1 and 2.2, CLIP's picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import pytest
import tokenizers
import torch
import wan_case as wan

from lpm_train import parts
from lpm_train.encoders.codec import latent_frames, latent_size
from lpm_train.storage import DataError

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # the libraries' own


def test_umt5_has_a_position_bias_in_every_layer(tmp_path: Path) -> None:
    import transformers as tf

    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"<pad>": 0, "nods": 1, "<unk>": 2}, "<unk>"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    fast = tf.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="<unk>")
    fast.save_pretrained(tmp_path / "tokenizer")  # beside the encoder, as pipelines have it
    torch.manual_seed(0)
    shape = {"vocab_size": 4, "d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 3, "num_heads": 2}
    encoder = tf.UMT5EncoderModel(tf.UMT5Config(**shape)).eval()
    for p in encoder.parameters():
        torch.nn.init.normal_(p, std=0.5)
    encoder.save_pretrained(tmp_path / "text_encoder")
    biases = [n for n in encoder.state_dict() if "relative_attention_bias" in n]
    assert len(biases) == 3
    ours = parts.text("umt5", directory=str(tmp_path / "text_encoder")).build()
    x, mask = ours(["nods nods twice", ""])
    assert x.shape == (2, 512, 8) and mask.sum(1).tolist() == [3, 0] and not x[1].any() and not x[0, 3:].any()
    coded = fast(["nods nods twice"], padding="max_length", max_length=512, return_tensors="pt")
    with torch.no_grad():
        want = encoder(coded.input_ids, attention_mask=coded.attention_mask).last_hidden_state
        assert torch.equal(x[:1, :3], want[:, :3])
        for layer in encoder.encoder.block[1:]:  # what is dropped by those who take it for a T5
            torch.nn.init.zeros_(layer.layer[0].SelfAttention.relative_attention_bias.weight)
        poor = encoder(coded.input_ids, attention_mask=coded.attention_mask).last_hidden_state
    assert (x[:1, :3] - poor[:, :3]).abs().max() > 0.01
    with pytest.raises(DataError, match=r"holds an umT5: choose data\.text=umt5"):
        parts.text("t5", directory=str(tmp_path / "text_encoder")).build()


@pytest.mark.parametrize(
    "form",
    [{}, {"is_residual": True, "patch_size": 2, "in_channels": 12, "out_channels": 12, "scale_factor_spatial": 16}],
    ids=["2.1", "2.2"],
)
def test_an_autoencoder_streams_what_it_decodes_whole(form: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    small = {"base_dim": 8, "z_dim": 4, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1}
    mean, std = [0.1, -0.2, 0.3, 0.0], [1.5, 0.5, 2.0, 1.0]
    vae = diffusers.AutoencoderKLWan(**small, **form, latents_mean=mean, latents_std=std).eval()
    vae.save_pretrained(tmp_path)
    codec = parts.codec("wan", directory=str(tmp_path)).build()
    x = torch.rand(1, 13, 3, 64, 64) * 2 - 1
    z = codec.encode(x)
    assert z.shape == (1, latent_frames(codec, 13), 4, *latent_size(codec, 64, 64)) == (1, 4, 4, *z.shape[3:])
    raw = torch.tensor(mean)[:, None, None, None], torch.tensor(std)[:, None, None, None]
    with torch.no_grad():
        code = vae.encode(x.transpose(1, 2)).latent_dist.mode()
        torch.testing.assert_close(z.transpose(1, 2), (code - raw[0]) / raw[1], rtol=0, atol=1e-5)
        want = vae.decode(z.transpose(1, 2) * raw[1] + raw[0]).sample.transpose(1, 2)
    out, state = [], None
    for piece in z.split([1, 2, 1], 1):
        frames, state = codec.decode(piece, state)
        out.append(frames)
    assert torch.cat(out, 1).shape == x.shape
    torch.testing.assert_close(torch.cat(out, 1), want, rtol=0, atol=1e-5)


def test_a_picture_is_seen_as_clips_own_processor_shows_it(tmp_path: Path) -> None:
    import transformers as tf

    wan.clip_vision(tmp_path)
    encoder = parts.picture("clip-vision", directory=str(tmp_path)).build()
    picture = torch.nn.functional.interpolate(torch.rand(1, 3, 6, 8), (48, 64), mode="bicubic").clamp(0, 1)
    tokens = encoder(picture * 2 - 1)
    assert tokens.shape == (1, 5, wan.PICTURE) and encoder.width == wan.PICTURE
    shown = tf.CLIPImageProcessor.from_pretrained(tmp_path)(picture[0], do_rescale=False, return_tensors="pt")
    model = tf.CLIPVisionModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        want = model(shown.pixel_values, output_hidden_states=True).hidden_states[-2]
    torch.testing.assert_close(tokens, want, rtol=0, atol=0.05)
    with pytest.raises(DataError, match="no CLIPImageProcessor in"):
        parts.picture("clip-vision", directory=str(tmp_path / "none")).build()


def test_wans_own_files_are_refused_with_the_layout_that_is_read(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "Wan2.1_VAE.pth")
    for part in (parts.codec("wan", directory=str(tmp_path)), parts.text("umt5", directory=str(tmp_path))):
        with pytest.raises(DataError, match=r"Wan2\.1_VAE\.pth is as first published.*repositories that end in -Diff"):
            part.build()
