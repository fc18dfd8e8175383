"""Backbone and refiner: one stream of two networks, trained as it runs, each past as noisy as it says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import perform_case
import pytest
import torch
import train_case as case
from stream_case import AUDIO, CODEC, RATE, TEXT, references, sound
from stream_case import settings as stream_settings
from torch import Tensor, nn
from train_case import trained
from train_data_case import SMALL, dataset
from train_ranks import losses

from lpm_train import flow
from lpm_train.batch import Conditions
from lpm_train.cli import run as train_run
from lpm_train.config import Config, ConfigError, Stream, override
from lpm_train.network.model import DiT
from lpm_train.network.refine import Performer, Refined
from lpm_train.session import load_model, make_encoders
from lpm_train.streaming.rollout import BackboneRollout, Rollout, begin, forced, near, roll
from lpm_train.streaming.stream import StreamGenerator
from lpm_train.tools import export as exporting
from lpm_train.tools.judge.evaluate import Evaluated, condition_gaps, run_eval
from lpm_train.tools.media import write_png
from lpm_train.tools.perform import Character, Role, perform
from lpm_train.tools.stream_files import stream_files
from lpm_train.training import checkpoint
from lpm_train.training.stage import level_loss, make_stage
from lpm_train.training.stages import Distill
from schemas.samples.sample import SAMPLES_PER_FRAME

REFINED = Stream(block=2, window=4, sink=2, steps=2, refine=True)


def settings(role: str, *more: str) -> Config:
    chosen = ["run.stage=distill", "stream.refine=true", f"distill.role={role}", "distill.critic_steps=2", *more]
    return override(case.config(), chosen)


def pair(dtype: torch.dtype = torch.float64) -> Refined:
    return Refined(case.model(dtype=dtype), case.model(dtype=dtype, seed=1))


def distilling(role: str, *more: str, backbone: DiT | None = None) -> Distill:
    weights = None if backbone is None else backbone.state_dict()
    made = make_stage(settings(role, *more), start=case.model(dtype=torch.float32).state_dict(), backbone=weights)
    assert isinstance(made, Distill)
    return made


def noise(purpose: str, first: int, ids: tuple[str, ...] = ("a", "b")) -> Tensor:
    return flow.noise(ids, (2, case.C, case.H, case.W), torch.empty(0), "roll", "x", first, purpose).double()


def test_levels_go_on_where_the_backbone_ends() -> None:
    assert Stream(steps=4, shift=3.0).levels == flow.levels(4, 3.0).tolist()
    both = Stream(steps=2, shift=3.0, refine=True)
    assert both.levels == flow.levels(3, 3.0).tolist() and both.history == both.levels[1]


@pytest.mark.parametrize("resample", [True, False])
def test_a_stream_of_two_networks_is_what_teacher_forcing_computes(resample: bool) -> None:
    """Of both: the backbone forced on its own noisy latents under their label, the refiner on its clean ones."""
    model, batch = pair(), case.batch(["a", "b"], dtype=torch.float64)
    stream = replace(REFINED, sink=0, resample=resample)
    backbone, seen, handed = BackboneRollout.begin(model.backbone, batch.cond, stream), [], []
    for first in range(0, 8, 2):
        part, start = near(batch.cond, first, first + 2, model)
        x = noise("step0", first)
        t = torch.full((2, 2), stream.levels[0], dtype=torch.float64)
        v = model.backbone(x, t, part, cache=backbone.cache, start=start).v_BFCHW
        x0 = flow.to_x0(x, v, t)
        then = torch.full_like(t, stream.levels[1])
        seen.append(flow.add_noise(x0, noise("step1", first) if resample else x0 + v, then))
        handed.append(backbone.handed(part, start, lambda purpose, first=first: noise(purpose, first))[1])
    x1 = torch.cat(seen, 1).detach()
    t1 = torch.full(x1.shape[:2], stream.history, dtype=torch.float64)
    v = forced(model.backbone, x1, t1, batch.cond, stream, x1, past=stream.history)
    x0, t2 = flow.to_x0(x1, v, t1), torch.full_like(t1, stream.levels[2])
    again = torch.cat([noise("step2", first) for first in range(0, 8, 2)], 1)
    x2 = flow.add_noise(x0, again if resample else x0 + v, t2)
    torch.testing.assert_close(torch.cat(handed, 1), x2.detach(), rtol=0, atol=1e-10)

    y = rolled(model, batch.cond, stream)
    own = forced(model.refiner, x2, t2, batch.cond, stream, y)
    torch.testing.assert_close(y, flow.to_x0(x2, own, t2).detach(), rtol=0, atol=1e-10)


def rolled(model: Performer, cond: Conditions, stream: Stream) -> Tensor:
    rollout, out = begin(model, cond, stream), []
    for first in range(0, 8, 2):
        part, start = near(cond, first, first + 2, model)
        out.append(rollout.block(part, start, lambda purpose, first=first: noise(purpose, first)))
    return torch.cat(out, 1).detach()


@pytest.mark.parametrize("cache", ["eager", "static"])
def test_the_rollout_of_training_is_the_stream(cache: str) -> None:
    """Sound pushed in pieces, two caches, against `roll` over the whole; features of pieces are float32."""
    config = override(
        stream_settings(), ["run.stage=distill", f"stream.cache={cache}", "stream.refine=true", "distill.role=refiner"]
    )
    model, speech, user = Refined(case.model(config), case.model(config, seed=1)), sound(0.6), sound(0.6, 1)
    stream = StreamGenerator(model, config, CODEC, AUDIO, TEXT, references(), rate_hz=RATE, words="wave")
    frames = torch.cat([stream.push(speech[i : i + 1000], user[i : i + 1000]) for i in range(0, len(speech), 1000)])
    text, mask = TEXT(["wave"])
    on = torch.ones(1, 14, dtype=torch.bool)
    heard = [AUDIO(wave, RATE)[None, :28] for wave in (speech, user)]  # the last block ends what it can hear
    cond = replace(
        references(), speak_BTA=heard[0], listen_BTA=heard[1], speak_on_BF=on, listen_on_BF=on, text_BLD=text,
        text_mask_BL=mask.bool(),
    )  # fmt: skip
    drawn = flow.noise

    def same_noise(ids: Any, shape: Any, like: Tensor, *seed: Any) -> Tensor:
        return drawn(["stream"], shape, like, "stream", 0, seed[-2], seed[-1])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flow, "noise", same_noise)  # a stream's noise has another name
        y = roll(model, cond, (12, 4, 4), ["a"], config.stream, 0).detach()
    assert len(frames) >= 12
    torch.testing.assert_close(frames[:12], CODEC.decode(y)[0][0][:12].float(), rtol=0, atol=1e-6)


def test_a_backbone_takes_all_steps_and_a_gradient_in_one() -> None:
    model, batch = case.model(), case.batch(["a", "b"], dtype=torch.float64)
    given = (model, batch.cond, batch.size, batch.sample_ids, replace(REFINED, sink=0), "x")
    results = [roll(*given, exit_step=n, loss_from=4) for n in (0, 1)]
    assert not torch.equal(*results)
    whole = roll(*given)
    assert torch.equal(whole, results[1])  # the last step's is the backbone's own, if it streams alone
    for y in results:
        assert y.requires_grad and not roll(*given, exit_step=0, loss_from=8).requires_grad
    # What comes after depends on the past as a stream has it, whichever step is judged.
    kept = [roll(*given, exit_step=n, loss_from=8, kept_from=4) for n in (0, 1)]
    assert torch.equal(kept[1], whole[:, 4:]) and torch.equal(kept[0], results[0][:, 4:])


def test_memory_of_two_caches_does_not_grow() -> None:
    model, batch, sizes = pair(torch.float32), case.batch(["a"], frames=2), []
    rollout = begin(model, batch.cond, REFINED)
    for _ in range(8):
        rollout.block(batch.cond, 0, lambda _: batch.x_BFCHW)
        sizes.append((rollout.cache.n_bytes, rollout.backbone.cache.n_bytes))  # type: ignore[attr-defined]
    assert sizes[4:] == [sizes[4]] * 4 and rollout.cache.seen == 16


def test_distillation_of_either_starts_at_zero_and_moves_it_alone() -> None:
    start = case.model(dtype=torch.float32)
    off = ("distill.policy=data",)
    for role, more in (("backbone", ()), ("refiner", ()), ("backbone", off), ("refiner", off)):
        backbone = case.model(dtype=torch.float32, seed=2)
        stage, source = distilling(role, *more, backbone=backbone), case.Source()
        figures = [stage.step(next(source), i) for i in range(3)]
        assert figures[0]["dmd"] == 0.0 < figures[2]["dmd"], (role, more)
        before = start.state_dict()
        assert any(not torch.equal(p, before[n]) for n, p in stage.student.named_parameters())
        if role == "refiner":
            theirs = backbone.state_dict()
            assert all(torch.equal(p, theirs[n]) for n, p in stage.roles["backbone"].named_parameters())
        measured = stage.evaluate([case.batch(["x", "y"])])
        assert len(stage.exit_criteria(measured, measured)) == 3
        assert stage.generate(case.batch(["x"]), 0).shape == (1, 8, case.C, case.H, case.W)


def test_off_its_policy_a_backbone_has_the_past_of_its_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    labels: list[float] = []

    def watched(*given: Any, past: float = 0.0) -> Tensor:
        labels.append(past)
        return forced(*given, past=past)

    monkeypatch.setattr("lpm_train.training.stages.forced", watched)
    batch = case.batch(["a", "b"])
    for role, label in (("backbone", settings("backbone").stream.history), ("refiner", 0.0)):
        stage = distilling(role, "distill.policy=data")
        stage._restore(batch, batch.x_BFCHW, 0, "student")
        assert labels.pop() == label
    assert distilling("refiner")._exit(3, "student") == 2 and distilling("backbone")._exit(3, "student") in (0, 1)


def test_held_out_losses_know_whose_past_is_noisy() -> None:
    batch, stream = case.batch(["a", "b"], dtype=torch.float64), settings("backbone").stream
    model = case.model()
    noisy, clean = (level_loss(m, batch, stream, 0.5) for m in (model, Refined(model, model)))
    assert torch.equal(clean, level_loss(model, batch, replace(stream, refine=False), 0.5))
    assert not torch.equal(noisy, clean)
    assert condition_gaps(pair(), [batch], stream).keys() == {"speech", "user", "text", "reference"}


@pytest.mark.parametrize("role", ["backbone", pytest.param("refiner", marks=pytest.mark.slow)])
def test_a_continued_run_is_the_same_run(tmp_path: Path, role: str) -> None:
    whole = settings(role, "run.steps=4", "run.save_every=2")
    held = [case.batch(["x", "y"])]
    trained(whole, tmp_path / "whole", heldout=held)
    trained(override(whole, ["run.steps=2"]), tmp_path / "parts", heldout=held)
    trained(whole, tmp_path / "parts", heldout=held)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    for of in ("student", "backbone")[: 1 + (role == "refiner")]:
        a, b = (checkpoint.load_weights(checkpoint.path_of(tmp_path / d, 4), of)[1] for d in ("parts", "whole"))
        assert all(torch.equal(a[n], b[n]) for n in a)
    with pytest.raises(checkpoint.CheckpointError, match=r"another distill\.role"):
        trained(settings({"backbone": "refiner", "refiner": "backbone"}[role]), tmp_path / "parts")


def test_settings_that_do_not_fit_are_refused() -> None:
    pair_ = ["distill.role=refiner", "stream.refine=true"]
    for said in (pair_[:1], pair_[1:], ["run.stage=distill", pair_[0]], ["run.stage=distill", pair_[1]], pair_):
        with pytest.raises(ConfigError, match=r"do not fit: backbone and refiner are for stream\.refine=true"):
            override(case.config(), said)
    with pytest.raises(ConfigError, match="a backbone's is noisy"):
        settings("backbone", "distill.context_noise=0.1")
    with pytest.raises(ConfigError, match=r"with stream\.refine=true"):
        begin(pair(), case.batch(["a"]).cond, case.config().stream)
    assert type(begin(case.model(), case.batch(["a"], dtype=torch.float64).cond, case.config().stream)) is Rollout


# ------------------------------------------------------------------------------------------------ commands


@pytest.mark.slow
def test_from_the_causal_model_to_a_stream_of_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = str(dataset())

    def go(name: str, stage: str, init: str | None, *more: str, backbone: str | None = None) -> None:
        where = {"init": tmp_path / init if init else None, "backbone": tmp_path / backbone if backbone else None}
        teacher = tmp_path / "pretrain" if stage == "distill" else None
        preset = "toy" if init is None else None
        train_run(root, tmp_path / name, preset, stage, settings=[*SMALL * (not init), *more], teacher=teacher, **where)

    both = ("stream.steps=2", "stream.refine=true")
    go("pretrain", "pretrain", None)
    go("causal", "causal", "pretrain")
    with pytest.raises(ConfigError, match="is no backbone: train one with"):
        go("refiner", "distill", "causal", *both, "distill.role=refiner")
    go("off", "distill", "causal", *both, "distill.role=backbone", "distill.policy=data")
    go("backbone", "distill", "off", "distill.policy=own")
    with pytest.raises(ConfigError, match="the backbone's stream is"):
        more = ("stream.steps=3", "stream.refine=true", "distill.role=refiner")
        go("refiner", "distill", "causal", *more, backbone="backbone")
    go("refiner", "distill", "causal", *both, "distill.role=refiner", backbone="backbone")
    go("again", "distill", "refiner")  # the backbone is that of the run before

    first, second = (load_model(tmp_path / name)[1] for name in ("backbone", "again"))
    config, model = load_model(tmp_path / "refiner")
    assert isinstance(first, DiT) and isinstance(model, Refined) and isinstance(second, Refined)
    for other in (model, second):
        pairs = zip(other.backbone.parameters(), first.parameters(), strict=True)
        moved = [float((p - q).abs().max()) for p, q in pairs]
        assert max(moved) < 0.1  # the student as it is, where the run gives its average
    found = run_eval(Evaluated(**vars(config)), model, root, None, 1)
    assert found.values["heldout_loss.all"] and found.values["rollout.latents"] == 360
    write_png(tmp_path / "face.png", np.full((32, 32, 3), 90, np.uint8))
    said = stream_files(model, config, tmp_path / "face.png", tmp_path / "out.mp4", seconds=1.0)
    assert "25 frames" in said and (tmp_path / "out.mp4").stat().st_size > 500
    with pytest.raises(ConfigError, match="diffusers runs one network"):
        exporting.export(config, model, tmp_path / "refiner", tmp_path / "export", "float32", "none")
    with pytest.raises(ConfigError, match="pretrain is no backbone"):
        go("other", "distill", "refiner", backbone="pretrain")


def test_two_networks_perform(tmp_path: Path) -> None:
    config = override(perform_case.config(), ["run.stage=distill", "stream.refine=true", "distill.role=refiner"])
    made = make_stage(config)
    for role in ("student", "backbone"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(len(role))
            for p in made.roles[role].parameters():
                nn.init.normal_(p, std=0.15)
    made.ema.weights.update({n: p.detach().clone() for n, p in made.student.named_parameters()})
    checkpoint.save(tmp_path / "run", made, config, checkpoint.Meta(step=0), keep=1)
    read, model = load_model(tmp_path / "run")
    assert isinstance(model, Refined)
    theirs = made.roles["backbone"].state_dict()
    assert all(torch.equal(p, theirs[n]) for n, p in model.backbone.named_parameters())

    def sides(first: int, last: int) -> tuple[Any, Any]:
        wave = perform_case.tracks()[:, first * SAMPLES_PER_FRAME : last * SAMPLES_PER_FRAME]
        return wave[0], wave[1]

    role = Role(Character(perform_case.write_faces(tmp_path)[0]), np.ones(20, np.int8), sides, tmp_path / "a.mp4")
    done = perform(model, read, make_encoders(read.data), [role], lambda a, b: sides(a, b)[0])
    assert done.frames == 20 and (tmp_path / "a.mp4").exists()
