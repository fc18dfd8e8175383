"""Public Wan weights in our network: the same function, before anything is learnt and after it is written back."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import train_case as case
import wan_case as wan
from safetensors.torch import load_file, save_file

from lpm_train.batch import Batch
from lpm_train.config import ConfigError, Stream
from lpm_train.network.base import open_base
from lpm_train.network.base_names import pieces
from lpm_train.network.lora import merge
from lpm_train.network.model import DiT
from lpm_train.tools import export
from lpm_train.training.start import build


def batch(form: dict[str, Any], frames: int = 4, dtype: torch.dtype = torch.float32) -> Batch:
    """Make a batch of two rows that a base of this form can read."""
    made, g = case.batch(["a", "b"], frames), torch.Generator().manual_seed(3)
    places = 512 if "image_dim" in form else 9  # diffusers takes the last 512 for text where pictures have tokens
    more: dict[str, Any] = {"text_BLD": torch.randn(2, places, wan.TEXT, generator=g)}
    more["text_mask_BL"] = torch.arange(places)[None] < torch.tensor([[7], [0]])
    if "in_channels" in form:
        more["given_BFCHW"] = torch.randn(made.x_BFCHW.shape, generator=g)
        more["given_on_BF"] = torch.arange(frames)[None].expand(2, -1) == 0
    if "image_dim" in form:
        more["picture_BIP"] = torch.randn(2, 257, wan.PICTURE, generator=g)
    return replace(made, cond=replace(made.cond, **more)).to(dtype=dtype)


@pytest.mark.parametrize("form", [wan.T2V, wan.I2V, wan.I2V_22], ids=["t2v", "i2v", "i2v of 2.2"])
def test_a_loaded_base_computes_what_diffusers_computes(form: dict[str, Any], tmp_path: Path) -> None:
    network = wan.network(**form)
    network.save_pretrained(tmp_path)
    ours, given = wan.model(tmp_path, case.config()), batch(form)
    with torch.no_grad():
        for level in (0.0, 0.37, 1.0):
            t = torch.full(given.x_BFCHW.shape[:2], level)
            want = wan.theirs(network, given.x_BFCHW, level, given.cond)
            assert want.abs().mean() > 0.5
            torch.testing.assert_close(ours(given.x_BFCHW, t, given.cond).v_BFCHW, want, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_levels_by_frame_are_those_of_the_form_that_reads_them(tmp_path: Path) -> None:
    """Wan 2.2's 5B takes a level for every token: a clean first frame continues a picture."""
    network = wan.network()
    network.save_pretrained(tmp_path)
    ours, given = wan.model(tmp_path, case.config()), batch(wan.T2V)
    t = torch.tensor([[0.0, 0.2, 0.2, 0.9]]).expand(2, -1)
    tokens = given.x_BFCHW.shape[3] * given.x_BFCHW.shape[4] // 4
    want = wan.theirs(network, given.x_BFCHW, t.repeat_interleave(tokens, dim=1), given.cond)
    with torch.no_grad():
        torch.testing.assert_close(ours(given.x_BFCHW, t, given.cond).v_BFCHW, want, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_a_causal_pass_and_a_stream_are_diffusers_under_a_causal_mask(tmp_path: Path, monkeypatch: Any) -> None:
    """On clean frames all three are one function: blocks see themselves and what lies before."""
    network, settings = wan.network(), case.config(stream=Stream(block=2, window=8))
    network.save_pretrained(tmp_path)
    ours, given = wan.model(tmp_path, settings), batch(wan.T2V, frames=6)
    x, t, S = given.x_BFCHW, torch.zeros(2, 6), 4
    blocks = torch.arange(6 * S) // (2 * S)
    mask, plain = blocks[:, None] >= blocks[None], torch.nn.functional.scaled_dot_product_attention

    def causal(query: Any, key: Any, value: Any, **options: Any) -> Any:
        long = query.shape[-2] == key.shape[-2] == len(mask)
        return plain(query, key, value, **options | ({"attn_mask": mask} if long else {}))

    with torch.no_grad():
        forced = ours(torch.cat([x, x]), torch.cat([t, t]), given.cond, layout=settings.stream).v_BFCHW
        cache, streamed = ours(None, None, given.cond, layout=settings.stream), []
        for first in range(0, 6, 2):
            out = ours(x[:, first : first + 2], t[:, :2], given.cond, cache=cache, start=first)
            cache = cache.append(out.block)
            streamed.append(out.v_BFCHW)
        monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", causal)
        want = wan.theirs(network, x, 0.0, given.cond)
    torch.testing.assert_close(forced, want, rtol=0, atol=1e-4)
    torch.testing.assert_close(torch.cat(streamed, 1), want, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_every_layout_of_files_gives_the_same_weights(tmp_path: Path) -> None:
    network = wan.network(**wan.I2V)
    network.save_pretrained(tmp_path / "one")
    network.save_pretrained(tmp_path / "pipe" / "transformer", max_shard_size="20KB")
    assert len(list((tmp_path / "pipe" / "transformer").glob("*.safetensors"))) > 2
    wan.as_first_published(network, tmp_path / "first")
    network.to(torch.bfloat16).save_pretrained(tmp_path / "half")
    one, *others = (wan.model(tmp_path / n, case.config()).state_dict() for n in ("one", "pipe", "first", "half"))
    for name in (p.ours for p in pieces(wan.settings(tmp_path / "one", case.config()).model)):
        assert all(torch.equal(other[name], one[name]) for other in others[:2]), name
        assert others[2][name].dtype == torch.float32 and torch.equal(others[2][name], one[name].bfloat16().float())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda w, c: w.pop("blocks.1.ffn.net.2.bias"), "lacks blocks.1.ffn.net.2.bias"),
        (lambda w, c: w.update({"vace.weight": torch.ones(1)}), "also holds vace.weight, which no part of it reads"),
        (lambda w, c: w.update({"blocks.0.attn1.norm_added_q.weight": torch.ones(1)}), ""),
        (lambda w, c: w.update({"proj_out.bias": torch.ones(3)}), r"proj_out.bias has shape \[\[3\]\], not \[16\]"),
        (lambda w, c: c.update(_class_name="WanVACETransformer3DModel"), "holds a WanVACETransformer3DModel"),
        (lambda w, c: c.update(pos_embed_seq_len=514), "pos_embed_seq_len is 514"),
        (lambda w, c: c.update(patch_size=[2, 2, 2]), r"patch is \(2, 2, 2\)"),
    ],
)
def test_what_does_not_fit_is_named(change: Any, sentence: str, tmp_path: Path) -> None:
    network = wan.network()
    network.save_pretrained(tmp_path)
    file, config = tmp_path / "diffusion_pytorch_model.safetensors", tmp_path / "config.json"
    weights, said = load_file(file), json.loads(config.read_text())
    change(weights, said)
    save_file(weights, file)
    config.write_text(json.dumps(said))
    with pytest.raises(ConfigError, match=sentence) if sentence else nullcontext():
        wan.model(tmp_path, case.config())


def test_a_place_without_one_base_is_named(tmp_path: Path) -> None:
    (tmp_path / "transformer").mkdir()
    (tmp_path / "transformer_2").mkdir()
    for weights, sentence in (
        (f"wan:{tmp_path}", "holds two experts: name .*transformer .high noise. or .*transformer_2"),
        ("sana:x", "write wan:DIRECTORY"), (f"wan:{tmp_path / 'none'}", "no config.json of a Wan network"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=sentence):
            open_base(weights)


def changed(model: DiT) -> DiT:
    """Move everything, as training does."""
    torch.manual_seed(5)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.1)
    return model


def test_added_parts_change_nothing_at_first_and_everything_later(tmp_path: Path) -> None:
    wan.network().save_pretrained(tmp_path)
    ours, given = wan.model(tmp_path, case.config()), batch(wan.T2V)
    t = torch.full(given.x_BFCHW.shape[:2], 0.5)
    for same in (True, False):
        with torch.no_grad():
            full = ours(given.x_BFCHW, t, given.cond).v_BFCHW
            for name in ("speak", "listen", "refs"):
                without = ours(given.x_BFCHW, t, given.cond.without(**{name: True})).v_BFCHW
                assert torch.equal(without, full) == same, name
        changed(ours)


@pytest.mark.slow
@pytest.mark.parametrize("form", [wan.T2V, wan.I2V], ids=["t2v", "i2v"])
def test_an_export_is_what_was_trained(form: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wan.network(**form).save_pretrained(tmp_path / "base")
    settings = wan.settings(tmp_path / "base", case.config(), rank=2, alpha=3)
    trained, given = changed(build(settings, None, {})).eval(), batch(form)
    t = torch.full(given.x_BFCHW.shape[:2], 0.5)
    with torch.no_grad():
        want = trained(given.x_BFCHW, t, given.cond).v_BFCHW
        silent = trained.to(torch.float32)
    merge(trained)
    with torch.no_grad():
        torch.testing.assert_close(trained(given.x_BFCHW, t, given.cond).v_BFCHW, want, rtol=1e-4, atol=1e-4)
    monkeypatch.setattr(export, "SHARD_BYTES", 30_000)
    checkpoint = tmp_path / "step_00000003"
    checkpoint.mkdir()
    (checkpoint / "meta.json").write_text(json.dumps({"step": 3, "now": {"heldout_loss": 0.25}}))
    said = export.export(settings, trained, checkpoint, tmp_path / "out", "float32", "apache-2.0")
    assert "README.md" in said and len(list((tmp_path / "out").glob("diffusion_pytorch_model-*.safetensors"))) > 1
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| heldout_loss | 0.25 |" in card and "rank 2 merged" in card and "Licence" in card
    # diffusers asks for accelerate where a model names parts that stay in float32.
    monkeypatch.setattr(diffusers.WanTransformer3DModel, "_keep_in_fp32_modules", None)
    theirs = diffusers.WanTransformer3DModel.from_pretrained(tmp_path / "out")
    with torch.no_grad():
        for block in silent.blocks:
            torch.nn.init.zeros_(block.sound.out.weight)
            torch.nn.init.zeros_(block.sound.out.bias)
            torch.nn.init.zeros_(block.ref_gain_D)
        base = silent(given.x_BFCHW, t, given.cond).v_BFCHW
    torch.testing.assert_close(wan.theirs(theirs, given.x_BFCHW, 0.5, given.cond), base, rtol=0, atol=1e-4)
    again = wan.model(tmp_path / "out", case.config())  # an export is a base, with what was added
    with torch.no_grad():
        torch.testing.assert_close(again(given.x_BFCHW, t, given.cond).v_BFCHW, want, rtol=1e-4, atol=1e-4)
    with pytest.raises(ConfigError, match="is not empty"):
        export.export(settings, trained, checkpoint, tmp_path / "out", "float32", "apache-2.0")
