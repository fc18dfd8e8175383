"""Clips and streams that begin with a given picture: beside the noise (image-to-video), or in its place."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import train_case as case
import wan_case as wan
from stream_case import AUDIO, RATE, TEXT, sound

from lpm_train import flow
from lpm_train.batch import Batch, Conditions
from lpm_train.config import Config, Data, Flow, Stream, override
from lpm_train.data.make import Encoders
from lpm_train.encoders.codec import encode_images, grey
from lpm_train.network.model import DiT
from lpm_train.network.wan import make_model
from lpm_train.streaming.rollout import forced, roll, sample_clip
from lpm_train.streaming.stream import StreamGenerator
from lpm_train.tools.stream_files import reference_conditions
from lpm_train.training.stage import level_loss, make_stage

CODEC = case.FirstAlone((2, 2, 2))
LAYOUT = Stream(block=2, window=4, sink=2, steps=2)
BESIDE = {"image_channels": 24 + 4}  # of Wan's image-to-video networks; none: of Wan 2.2's 5B


def settings(**form: Any) -> Config:
    """Make settings of a network in Wan's form that begins each clip with a given picture."""
    plain = case.config(stream=LAYOUT)
    model = replace(
        plain.model, kind="wan", width=24, heads=2, channels=24, audio_steps=4, speak_before=2, listen_before=6, **form
    )
    return replace(plain, model=model, data=Data(batch=2, height=8, width=8, max_refs=1, first_frame=True))


def network(config: Config) -> DiT:
    """Make a network in which nothing is zero."""
    torch.manual_seed(0)
    out = make_model(config.model).eval()
    for p in out.parameters():
        torch.nn.init.normal_(p, std=0.2)
    return out


def clips(frames: int = 6) -> Batch:
    """Make two clips of 4 x 4 latents that begin with their own first ones."""
    g = torch.Generator().manual_seed(1)
    plain, x = case.batch(["a", "b"], frames), torch.randn(2, frames, 24, 4, 4, generator=g)
    more: dict[str, Any] = {n: torch.randn(2, 4 * frames, case.A, generator=g) for n in ("speak_BTA", "listen_BTA")}
    more["ref_BKCHW"] = torch.randn(2, 2, 24, 4, 4, generator=g)
    more["given_BFCHW"] = torch.cat([x[:, :1], torch.zeros_like(x[:, 1:])], 1)
    more["given_on_BF"] = torch.arange(frames)[None].expand(2, -1) == 0
    return replace(plain, x_BFCHW=x, cond=replace(plain.cond, **more))


def test_a_clean_first_latent_is_what_diffusers_does_by_levels_of_tokens(tmp_path: Any) -> None:
    """Wan 2.2's 5B: its pipeline puts the picture in place of the noise, and tells its tokens the level 0."""
    theirs = wan.network(in_channels=24, out_channels=24)
    theirs.save_pretrained(tmp_path)
    ours, batch = wan.model(tmp_path, settings()), clips()
    words = torch.randn(2, 9, wan.TEXT, generator=torch.Generator().manual_seed(2))
    bare = replace(batch.cond, text_BLD=words, text_mask_BL=torch.ones(2, 9, dtype=torch.bool))
    noise, t = torch.randn(batch.x_BFCHW.shape, generator=torch.Generator().manual_seed(3)), torch.full((2, 6), 0.7)
    with torch.no_grad():
        v = ours(noise, t, bare).v_BFCHW
    on = bare.given_on_BF
    assert on is not None and bare.given_BFCHW is not None
    seen = torch.where(on[..., None, None, None], bare.given_BFCHW, noise)
    levels = torch.where(on, 0.0, t).repeat_interleave(4, dim=1)
    want = wan.theirs(theirs, seen, levels, replace(bare, given_BFCHW=None, given_on_BF=None))
    assert float((v - want)[:, 1:].abs().max()) <= 1e-4 and want.abs().mean() > 0.1
    torch.testing.assert_close(flow.to_x0(noise, v, t)[:, 0], batch.x_BFCHW[:, 0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("solver", ["euler", "dpmpp_2m"])
def test_every_way_to_generate_begins_with_the_picture(solver: Any) -> None:
    config = settings()
    model, batch = network(config), clips()
    walk = Flow(steps=3, solver=solver, guidance=2.0)
    whole = sample_clip(model, batch.cond, (24, 4, 4), batch.sample_ids, walk)
    rolled = roll(model, batch.cond, (24, 4, 4), batch.sample_ids, LAYOUT, context_noise=0.2)
    for made in (whole, rolled):
        torch.testing.assert_close(made[:, 0], batch.x_BFCHW[:, 0], rtol=0, atol=1e-5)
        assert (made[:, 1:] - batch.x_BFCHW[:, 1:]).abs().mean() > 0.3
    other = replace(batch.cond, given_BFCHW=batch.cond.given_BFCHW + 1)  # type: ignore[operator]
    assert (roll(model, other, (24, 4, 4), batch.sample_ids, LAYOUT)[:, 1:] - rolled[:, 1:]).abs().mean() > 0.01


@pytest.mark.parametrize("layout", [None, LAYOUT], ids=["both directions", "teacher forcing"])
def test_a_given_picture_has_no_loss_and_no_noise(layout: Stream | None) -> None:
    model, batch = network(settings()), clips()
    t, noisy = torch.full((2, 6), 0.6), torch.randn_like(batch.x_BFCHW)
    noised = flow.add_noise(batch.x_BFCHW, noisy, t)
    with torch.no_grad():
        loss = level_loss(model, batch, layout, 0.5)
        v = forced(model, noised, t, batch.cond, layout, batch.x_BFCHW)
        dirty = batch.x_BFCHW + 0.3 * (torch.arange(6) == 0)[:, None, None, None]  # what is remembered of it is clean
        same = forced(model, noised, t, batch.cond, layout, dirty)
    assert float(loss[:, 0].max()) < 1e-9 and float(loss[:, 1:].min()) > 0.1
    assert torch.equal(v, same)


@pytest.mark.parametrize("stage", ["pretrain", "causal", "distill"])
@pytest.mark.parametrize("form", [{}, BESIDE], ids=["clean first latent", "image-to-video"])
def test_all_stages_train_on_clips_that_begin_with_a_picture(form: dict[str, Any], stage: str) -> None:
    config = override(settings(**form), [f"run.stage={stage}", "distill.critic_steps=1", "pretrain.prefix_p=0.5"])
    begun = network(config)
    made, batch = make_stage(config, start=begun.state_dict()), clips()
    made.step(batch, 0)  # distillation's critic equals its teacher before
    said = made.step(batch, 1)
    assert all(torch.isfinite(torch.tensor(list(said.values())))) and said["grad_norm"] > 0
    assert made.evaluate([batch])["heldout_loss"] > 0
    if not form:
        torch.testing.assert_close(made.generate(batch)[:, 0], batch.x_BFCHW[:, 0], rtol=0, atol=1e-4)


def given_to_a_stream(form: dict[str, Any], cache: str, tmp_path: Any) -> tuple[StreamGenerator, torch.Tensor]:
    from lpm_train.tools.media import load_image, write_png

    picture = torch.randint(0, 255, (8, 8, 3), generator=torch.Generator().manual_seed(4), dtype=torch.uint8)
    write_png(tmp_path / "a.png", picture.numpy())
    config = override(settings(**form), [f"stream.cache={cache}"])
    cond = reference_conditions(config, Encoders(CODEC, AUDIO, TEXT), [("global", tmp_path / "a.png")])
    stream = StreamGenerator(network(config), config, CODEC, AUDIO, TEXT, cond, rate_hz=RATE, words="wave")
    return stream, load_image(tmp_path / "a.png", 8, 8)


@pytest.mark.parametrize("cache", ["eager", "static"])
def test_a_stream_begins_with_the_reference_picture_as_a_clean_first_latent(cache: str, tmp_path: Any) -> None:
    stream, picture = given_to_a_stream({}, cache, tmp_path)
    made = stream.push(sound(3.0), None)
    assert len(made) > 8 * LAYOUT.window  # far beyond what is remembered
    torch.testing.assert_close(made[0], picture.clamp(-1, 1), rtol=0, atol=1e-4)
    assert (made[1:] - picture).abs().mean() > 0.1


@pytest.mark.parametrize("cache", ["eager", "static"])
@pytest.mark.parametrize("form", [{}, BESIDE], ids=["clean first latent", "image-to-video"])
def test_a_long_stream_is_the_rollout_that_is_trained(
    form: dict[str, Any], cache: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 20 blocks at a window of two: the picture is given to the first latent, a grey one's code to all others."""
    stream, picture = given_to_a_stream(form, cache, tmp_path)
    wave, frames = sound(3.2), 40

    def noise(ids: Any, shape: Any, like: Any, kind: str, *rest: Any) -> torch.Tensor:  # of both alike
        first, purpose = rest[-2:]
        g = torch.Generator().manual_seed(100 * first + int(purpose.removeprefix("step")))
        return torch.randn(1, *shape, generator=g)

    monkeypatch.setattr(flow, "noise", noise)
    features = AUDIO(wave, RATE)
    quiet = torch.zeros(2, features.shape[1])  # the first latent's steps before the stream
    steps = torch.cat([AUDIO(torch.zeros(RATE // 25), RATE)[-1:].expand_as(quiet), features])[None, : 4 * frames]
    text, mask = TEXT(["wave"])
    first = encode_images(CODEC, picture[None])
    given = torch.cat([first[None], grey(CODEC, 8, 8).expand(1, frames - 1, -1, -1, -1)], 1)
    on = torch.ones(1, frames, dtype=torch.bool)
    cond = Conditions(
        speak_BTA=steps, listen_BTA=AUDIO(torch.zeros(len(wave)), RATE)[:1].expand_as(steps[0])[None], speak_on_BF=on,
        listen_on_BF=~on, text_BLD=text, text_mask_BL=mask.bool(), ref_BKCHW=first[None],
        ref_mask_BK=torch.ones(1, 1, dtype=torch.bool), ref_kind_BK=torch.zeros(1, 1, dtype=torch.long),
        given_BFCHW=given, given_on_BF=torch.arange(frames)[None] == 0,
    )  # fmt: skip
    latents = roll(stream.model, cond, (24, 4, 4), ["stream"], LAYOUT)
    want = CODEC.decode(latents)[0][0]
    made = stream.push(wave, None)
    n = min(len(made), len(want))
    assert n > 16 * LAYOUT.window
    torch.testing.assert_close(made[:n], want[:n], rtol=0, atol=1e-4)
    assert want.std(0).mean() > 0.05


@pytest.mark.parametrize("judge", ["pretrain", "causal"])
@pytest.mark.parametrize("form", [{}, BESIDE], ids=["clean first latent", "image-to-video"])
def test_the_last_part_of_a_rollout_is_judged_as_if_it_began_with_a_picture(form: dict[str, Any], judge: str) -> None:
    """Its own first latent; no judge has seen clips that begin with none."""
    config = override(
        settings(**form),
        ["run.stage=distill", "distill.loss_frames=4", "distill.critic_steps=1", f"distill.teacher={judge}"],
    )
    stage, batch, seen = make_stage(config, start=network(config).state_dict()), clips(10), list[Any]()
    y, first, _ = stage._results(batch, 0, "student", graph=False)  # type: ignore[attr-defined]
    for role in ("teacher", "critic"):
        stage.roles[role].register_forward_pre_hook(
            lambda _, args, options: seen.append((args[2], options["start"])), with_kwargs=True
        )
    stage.step(batch, 0)
    assert first == 6 and len(seen) == 3
    for cond, start in seen[:2]:  # of the student's step, before it is changed
        assert cond.given_on_BF.sum(1).tolist() == [1, 1] and cond.given_on_BF[:, start].all()
        torch.testing.assert_close(cond.given_BFCHW[:, start], y[:, 0], rtol=0, atol=1e-6)
