"""The transformer: what may influence what, and what may not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import train_case as case
from torch import Tensor, nn

from lpm_train.batch import Batch, Conditions, DropRates, drop_conditions
from lpm_train.config import ConfigError, from_json, override, to_json
from lpm_train.network.base_names import pieces
from lpm_train.network.model import DiT
from lpm_train.network.wan import make_model
from lpm_train.presets import PRESETS, toy
from lpm_train.streaming.rollout import roll, sample_clip

F64 = torch.float64


def run(model: DiT, batch: Batch, **changes: Tensor) -> Tensor:
    cond = replace(batch.cond, **changes)
    t = torch.full(batch.x_BFCHW.shape[:2], 0.5, dtype=batch.x_BFCHW.dtype)
    with torch.no_grad():
        return model(batch.x_BFCHW, t, cond).v_BFCHW


def test_conditions_leave_the_untrained_output_unchanged() -> None:
    torch.manual_seed(0)
    model, batch = DiT(case.config().model).double(), case.batch(["a"], dtype=F64)
    nn.init.normal_(model.patch_out.weight)
    full = run(model, batch)
    t = torch.full((1, 8), 0.5, dtype=F64)
    with torch.no_grad():
        nothing = model(batch.x_BFCHW, t, batch.cond.null()).v_BFCHW
        no_slots = model(batch.x_BFCHW, t, case.batch(["a"], refs=0, dtype=F64).cond).v_BFCHW
    assert full.std() > 0.1
    assert torch.equal(full, nothing) and torch.equal(full, no_slots)


def test_every_condition_matters_to_a_trained_model() -> None:
    model, batch = case.model(), case.batch(["a"], dtype=F64)
    cond, full = batch.cond, run(case.model(), batch)
    for name in ("speak", "listen", "text", "refs"):
        changed = cond.without(**{name: True})
        t = torch.full((1, 8), 0.5, dtype=F64)
        with torch.no_grad():
            assert (model(batch.x_BFCHW, t, changed).v_BFCHW - full).abs().max() > 1e-6, name


def test_masked_content_has_no_influence() -> None:
    model, batch = case.model(), case.batch(["a"], dtype=F64)
    cond, full = batch.cond, run(model, batch)
    text, ref = cond.text_BLD.clone(), cond.ref_BKCHW.clone()
    text[:, 2], ref[:, 1] = 9, 9
    kind = cond.ref_kind_BK.clone()
    kind[:, 1] = 2
    torch.testing.assert_close(run(model, batch, text_BLD=text, ref_BKCHW=ref, ref_kind_BK=kind), full)
    silent = replace(cond, speak_on_BF=torch.zeros_like(cond.speak_on_BF))
    base = run(model, replace(batch, cond=silent))
    other = replace(silent, speak_BTA=cond.speak_BTA + 5)
    torch.testing.assert_close(run(model, replace(batch, cond=other)), base)


def test_causality() -> None:
    settings = case.config()
    model, batch = case.model(settings), case.batch(["a"], dtype=F64)
    layout, t = settings.stream, torch.full((2, 8), 0.0, dtype=F64)
    t[1] = 0.7

    def forced(x: Tensor, noisy: Tensor, cond: Conditions) -> Tensor:
        with torch.no_grad():
            return model(torch.cat([x, noisy]), t, cond, layout=layout).v_BFCHW

    x, noisy = batch.x_BFCHW, batch.x_BFCHW.flip(1)
    base = forced(x, noisy, batch.cond)
    later, later_noisy = x.clone(), noisy.clone()
    later[:, 4:], later_noisy[:, 6:] = 3, 3
    out = forced(later, later_noisy, batch.cond)
    assert torch.equal(out[:, :6], base[:, :6]) and not torch.equal(out[:, 6:], base[:, 6:])
    speech = batch.cond.speak_BTA.clone()
    speech[:, 4 * case.R :] += 1
    sounded = replace(batch.cond, speak_BTA=speech, speak_on_BF=torch.ones_like(batch.cond.speak_on_BF))
    plain = replace(batch.cond, speak_on_BF=torch.ones_like(batch.cond.speak_on_BF))
    assert torch.equal(forced(x, noisy, sounded)[:, :4], forced(x, noisy, plain)[:, :4])


def test_sound_reaches_its_window_only() -> None:
    model, batch = case.model(), case.batch(["a"], dtype=F64)
    on, speech = torch.ones(1, 8, dtype=torch.bool), batch.cond.speak_BTA
    changed = speech.clone()
    changed[:, 3 * case.R + 1] += 1  # the last step of frame 3, which the next frame's window of one step reaches
    with torch.no_grad():
        a, b = (model.speech(s, on, 0, 8) for s in (speech, changed))
    moved = (a != b).flatten(2).any(2)[0]
    assert moved.tolist() == [False, False, False, True, True, False, False, False]
    with torch.no_grad():  # a window cut out of the clip gives the same tokens as the clip
        torch.testing.assert_close(model.speech(speech[:, 2 * case.R : 8 * case.R], on[:, 2:], 1, 4), a[:, 3:7])


def test_references_keep_to_themselves() -> None:
    model, batch = case.model(), case.batch(["a"], dtype=F64)
    layout = case.config().stream
    mask = torch.ones_like(batch.cond.ref_mask_BK)
    cond = replace(batch.cond, ref_mask_BK=mask)
    other = replace(cond.null(), ref_mask_BK=mask, ref_BKCHW=cond.ref_BKCHW.clone())
    other.ref_BKCHW[:, 1] += 1
    with torch.no_grad():
        a, b = (model(None, None, c, layout=layout).refs for c in (cond, other))
    S = 4
    for x, y in zip(a, b, strict=True):
        assert x is not None and y is not None
        assert torch.equal(x.k[:, :, :S], y.k[:, :, :S])  # neither text, sound nor the other picture
    assert a[1] is not None and b[1] is not None and not torch.equal(a[1].k[:, :, S:], b[1].k[:, :, S:])


def test_checkpointing_leaves_gradients_of_a_rollout_with_cache_unchanged() -> None:
    settings, grads = case.config(), []
    for checkpointing in (False, True):
        model, batch = case.model(settings), case.batch(["a"], frames=6, dtype=F64)
        model.checkpointing = checkpointing
        y = roll(model, batch.cond.to(dtype=F64), (case.C, case.H, case.W), ["a"], settings.stream, 0,
                 exit_step=1, loss_from=2)  # fmt: skip
        y.square().mean().backward()
        grads.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys() and len(grads[0]) > 20
    for name, grad in grads[0].items():
        assert torch.equal(grad, grads[1][name]), name


def test_samples_do_not_depend_on_the_batch() -> None:
    settings, size = case.config(), (case.C, case.H, case.W)
    model, both = case.model(settings), case.batch(["a", "b"], dtype=F64)
    one = both.select([1])
    pair = roll(model, both.cond, size, both.sample_ids, settings.stream, 3)
    torch.testing.assert_close(roll(model, one.cond, size, one.sample_ids, settings.stream, 3), pair[1:])
    settings = override(settings, ["flow.guidance=2", "flow.steps=3"])
    pair = sample_clip(model, both.cond, size, both.sample_ids, settings.flow, 3)
    torch.testing.assert_close(sample_clip(model, one.cond, size, one.sample_ids, settings.flow, 3), pair[1:])


def test_batch_names_the_wrong_axis() -> None:
    good = case.batch(["a", "b"])
    with pytest.raises(ValueError, match=r"listen_on_BF has shape \[2, 7\]"):
        replace(good.cond, listen_on_BF=good.cond.listen_on_BF[:, :7])
    with pytest.raises(ValueError, match="must be a multiple of the frames"):
        replace(good.cond, speak_BTA=good.cond.speak_BTA[:, :5], listen_BTA=good.cond.listen_BTA[:, :5])
    with pytest.raises(ValueError, match="x_BFCHW has shape"):
        replace(good, x_BFCHW=good.x_BFCHW[:1])
    with pytest.raises(ValueError, match="cannot be cut into parts of 3"):
        good.micro_batches(3)


def test_drops_depend_on_sample_and_seed_only() -> None:
    ids = [f"s{i}" for i in range(400)]
    whole = case.batch(ids, frames=2)
    rates = DropRates(speak=0.2, listen=0, text=0.3, refs=0.0, everything=0.1)
    dropped = drop_conditions(whole, rates, 7, 3)
    part = drop_conditions(whole.select(slice(100, 200)), rates, 7, 3)
    assert torch.equal(part.cond.text_mask_BL, dropped.cond.text_mask_BL[100:200])
    share = 1 - dropped.cond.text_mask_BL[:, 0].float().mean()
    assert 0.29 < share < 0.45  # 0.37 expected
    assert 0.05 < 1 - dropped.cond.ref_mask_BK[:, 0].float().mean() < 0.16


def test_configuration_round_trip_and_errors() -> None:
    for preset in PRESETS.values():
        assert from_json(to_json(preset())) == preset()
    changed = override(toy(), ["optim.lr=1e-4", "run.bf16=true", "run.stage=causal", "stream.window=6"])
    assert (changed.optim.lr, changed.run.bf16, str(changed.run.stage), changed.stream.window) == (
        1e-4,
        True,
        "causal",
        6,
    )
    for setting, message in (
        ("optim.rate=1", "no setting 'optim.rate'; there are: lr, betas"),
        ("optim.lr=fast", "valid number"),
        ("run.stage=train", "nothing is called 'train'; did you mean 'pretrain'"),
        ("run.steps", "section.setting=value"),
        ("pretrain.drop.lips=1", "did you mean 'listen'"),
        ("pretrain.phases=[{'share': 1, 'lips': 2}]", "did you mean 'listen'"),
        ("pretrain.drop.speak=2", "not a probability"),
        ("data.hop_frames=0", "must be positive"),
        ("stream.window=4", "multiples of 3"),
    ):
        with pytest.raises(ConfigError, match=message):
            override(toy(), [setting])


@pytest.mark.parametrize(
    "setting",
    [
        "run.steps=-3", "run.threads=0", "run.log_every=0", "run.eval_every=0", "run.save_every=0", "run.keep=0",
        "run.patience=-1", "run.exit_share=-1", "run.device=bogus", "run.device=cuda:x", "optim.lr=-1", "optim.lr=.nan",
        "optim.betas=[1.5, 2]", "optim.clip=-1", "optim.warmup=-1", "optim.weight_decay=-1", "optim.decay_to=2",
        "optim.ema=1.5", "optim.micro_batch=-1", "flow.steps=0", "flow.shift=0", "flow.shift=.inf", "flow.guidance=-1",
        "model.mlp_ratio=0", "model.theta=0", "model.ref_gap=-1", "model.image_channels=-1", "lora.rank=-1",
        "pretrain.phases=[]", "pretrain.phases=[{share: 0.7}, {share: 0.7}]", "pretrain.prefix_p=2",
        "pretrain.prefix_max=0", "causal.context_noise=2", "consistency.grid=0", "distill.critic_steps=0",
        "distill.critic_lr=-1", "distill.critic_betas=[0.5, 1]", "distill.shift=0", "distill.t_min=0",
        "distill.t_max=0.01", "distill.rollout=-1", "distill.perceptual_frames=0", "watch.every=-1", "data.workers=-1",
        "data.prefetch=-1", "data.max_refs=-1", "data.silence=2", "data.min_kept=2", "data.more_sizes=[[24, 0, 64]]",
        "distill.gap_s=.nan", "pretrain.drop.refs=.nan",
        "data.balance={speek: 1}", "data.balance={speak: -1, listen: 2}",
    ],
)  # fmt: skip
def test_a_value_that_no_run_can_use_is_refused_by_the_name_of_its_setting(setting: str) -> None:
    with pytest.raises(ConfigError, match=setting.partition("=")[0].partition(".")[2]):
        override(toy(), [setting])


def test_zero_is_none_where_it_says_so() -> None:
    said = [f"{n}=0" for n in ("run.steps", "run.patience", "optim.lr", "optim.clip", "optim.micro_batch", "lora.rank",
                               "watch.every", "data.workers", "data.prefetch", "distill.lr")]  # fmt: skip
    assert override(toy(), said).run.steps == 0


def test_parts_must_make_up_a_batch() -> None:
    assert override(toy(), ["data.batch=6", "optim.micro_batch=3"]).optim.micro_batch == 3
    with pytest.raises(ConfigError, match=r"optim\.micro_batch 3 does not divide data\.batch 4"):
        override(toy(), ["data.batch=4", "optim.micro_batch=3"])


def test_presets_listen_through_three_seconds_or_their_clip() -> None:
    for name in PRESETS.keys() - {"toy"}:
        c = PRESETS[name]()
        window_s = (
            c.model.listen_before + c.model.audio_steps
        ) / 50  # log-mel, wav2vec2 and Whisper: 50 steps a second
        assert window_s == (3.0 if name != "small" else c.data.frames / 25), name
        assert window_s <= c.data.frames / 25, f"{name}: places of the window that no clip reaches are never trained"


def test_presets_have_the_sizes_they_name() -> None:
    sizes = {"toy": (0.4e6, 1.2e6), "small": (1.0e8, 2.2e8), "h200_1b3": (1.1e9, 1.8e9)}
    bases = {"wan_1b3": 1.419e9, "wan_5b": 5.0e9, "wan_14b": 14.29e9}  # without what is added
    for name, preset in PRESETS.items():
        config = preset().model
        with torch.device("meta"):
            named = dict(make_model(config).named_parameters())
        base = {p.ours for p in pieces(config)} if name in bases else named.keys()
        count = sum(named[n].numel() for n in base)
        low, high = sizes.get(name) or (0.99 * bases[name], 1.01 * bases[name])
        assert low < count < high, f"{name} has {count:,} parameters"
