"""Rollouts longer than a clip: chains of clips as conditions, a loss on the last window alone, the same in any run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import train_case as case
from chains_case import chains, same, without_pictures
from hypothesis import given
from hypothesis import strategies as st
from train_data_case import SMALL, copy, data, dataset, encoders, loader
from train_data_case import tensors as batch_tensors

from lpm_train import flow
from lpm_train.batch import Batch, Conditioned, Conditions
from lpm_train.cli import run as train_run
from lpm_train.config import Config, ConfigError, override
from lpm_train.data.chain_loader import ChainLoader
from lpm_train.data.chains import Chain, Link, Piece, join
from lpm_train.data.clip import frame_states, read_video, to_unit
from lpm_train.encoders.codec import encode_images
from lpm_train.fitting import fitted
from lpm_train.presets import toy as toy_preset
from lpm_train.storage import DataError
from lpm_train.streaming.rollout import Rollout, near, roll
from lpm_train.tools.cli import doctor
from lpm_train.tools.precompute import precompute
from lpm_train.training.loop import train
from lpm_train.training.stage import make_stage
from schemas.samples.sample import FPS


def moved(to: Path, later: Callable[[str], float]) -> Path:
    """Copy the puppets and let clips begin later than they do."""
    root = copy(to)
    table = pq.read_table(root / "manifest.parquet")
    rows = [row | {"start_s": row["start_s"] + later(row["segment_id"])} for row in table.to_pylist()]
    pq.write_table(table.from_pylist(rows, table.schema), root / "manifest.parquet")
    return root


# ------------------------------------------------------------------------------------------------ joining


def link(at: float, frames: int = 50, name: str = "", who: str = "anna", source: str = "talk", size: int = 32) -> Link:
    return Link(source, who, (size, size), at, name or f"{source}-{who}-{at:07.2f}", frames)


def shape(found: list[Chain]) -> list[list[tuple[str, int]]]:
    return [[(p.sample_id, p.start) for p in chain.pieces] for chain in found]


def test_clips_join_where_little_lies_between() -> None:
    clips = [link(0, name="a"), link(2, name="b"), link(4.4, name="c"), link(8, name="d")]
    assert shape(join(clips, 1.0)) == [[("a", 0), ("b", 50), ("c", 110)], [("d", 0)]]
    assert shape(join(clips, 0.0)) == [[("a", 0), ("b", 50)], [("c", 0)], [("d", 0)]]
    assert join(clips, 1.0)[0].gaps == 10 and join(clips, 1.0)[0].frames == 160
    assert shape(join([link(0, name="a"), link(1.96, name="b")], 0.0)) == [[("a", 0), ("b", 50)]]  # rounded to frames


def test_other_people_sources_sizes_and_pictures_of_the_same_moment_do_not_join() -> None:
    clips = [link(0), link(2, who="ben"), link(2, source="film"), link(2, size=64)]
    assert [len(chain.pieces) for chain in join(clips, 1.0)] == [1] * 4
    assert [len(chain.pieces) for chain in join([link(0, who=""), link(2, who="")], 1.0)] == [1, 1]
    twice = [link(0, name="a"), link(1, name="x"), link(2, name="b"), link(3, name="y")]
    assert shape(join(twice, 0.5)) == [[("a", 0), ("b", 50)], [("x", 0), ("y", 50)]]


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(1, 90)), min_size=1, max_size=12), st.floats(0, 3))
def test_every_clip_is_in_one_chain_whatever_the_order(clips: list[tuple[int, int]], gap_s: float) -> None:
    links = [link(at / FPS, n, name=f"{i:02d}") for i, (at, n) in enumerate(clips)]
    found = join(links, gap_s)
    assert sorted(p.sample_id for c in found for p in c.pieces) == sorted(x.sample_id for x in links)
    assert join(links[::-1], gap_s) == found and len({c.name for c in found}) == len(found)
    for chain in found:
        between = [b.start - a.stop for a, b in zip(chain.pieces, chain.pieces[1:], strict=False)]
        assert all(0 <= gap <= gap_s * FPS + 1 for gap in between) and chain.gaps == sum(between)
        for frames in {1, chain.frames // 2, chain.frames} - {0}:
            met = [len(chain.over(at, at + frames)) for at in range(chain.frames - frames + 1)]
            assert max(met) <= chain.most_pieces(frames) and min(met) >= 1


def test_a_window_meets_the_clip_before_the_gap_it_begins_in() -> None:
    chain = Chain((Piece("a", 0, 10), Piece("b", 15, 10)), (32, 32))
    assert [p.sample_id for p in chain.over(12, 20)] == ["a", "b"]
    assert [p.sample_id for p in chain.over(0, 15)] == ["a"] and [p.sample_id for p in chain.over(15, 16)] == ["b"]


# ------------------------------------------------------------------------------------------------ conditions


def clip_conditions(ids: list[str], **settings: Any) -> list[Batch]:
    """Make whole clips of the puppets as clips are made."""
    with loader(bucket=(24, 32, 32), batch=24, silence=0.0, **settings) as source:
        every = next(source)
        return [every.select([every.sample_ids.index(i)]) for i in ids]


def test_conditions_of_a_chain_are_those_of_its_clips_one_after_another() -> None:
    with chains(latents=24, frames=24, silence=0.0, batch=1) as source:
        one = next(source)
        pieces = source.maker.chains[one.sample_ids[0].rpartition(".")[0]].pieces
        first = source.shards[pieces[0].sample_id]
        record = source.maker._read(pieces[0]).record
        pictures = source.maker.of_clips.parts.references(first, (24, 32, 32), [r.member for r in record.references])
    clips = clip_conditions([p.sample_id for p in pieces])
    for name in ("speak_BTA", "listen_BTA", "speak_on_BF", "listen_on_BF"):
        assert torch.equal(getattr(one.cond, name), torch.cat([getattr(c.cond, name) for c in clips], 1)), name
    assert one.cond.prompt_BF is not None and one.cond.prompts_BQLD is not None
    assert one.cond.prompt_BF.tolist() == [[0] * 6 + [1] * 6 + [2] * 6 + [3] * 6]
    texts = torch.cat([one.cond.text_BLD[:, None], one.cond.prompts_BQLD], 1)[0]
    assert torch.equal(texts[:4], torch.cat([c.cond.text_BLD for c in clips]))
    shown = one.cond.ref_BKCHW[one.cond.ref_mask_BK]
    assert len(shown) and all(any(torch.equal(x, picture) for picture in pictures) for x in shown)


def test_a_gap_is_silent_and_idle_and_what_follows_is_in_its_place(tmp_path: Path) -> None:
    root = moved(tmp_path / "d", lambda i: 0.2 * int(i[-1]))  # five frames between two clips: not whole latents
    with chains(root, latents=27, frames=24, silence=0.0, batch=1) as source:
        draw = source.order.batch(0, 0)[0]
        chain = source.maker.chains[draw.sample_id]
        assert [p.start for p in chain.pieces] == [0, 29, 58, 87] and chain.gaps == 15
        one, at, silence = source.maker(draw), source.maker.window(draw), source.maker.of_clips.silence_A
        sounds = [source.maker.of_clips.parts.sounds(source.shards[p.sample_id]) for p in chain.pieces]
        states = [np.zeros(29, np.int8) for _ in chain.pieces]
        for state, piece in zip(states, chain.pieces, strict=True):
            state[:24] = frame_states(source.maker._read(piece).record)
    gap = silence.expand(10, -1)  # two steps a frame
    speak = torch.cat([part for speak, _ in sounds for part in (speak, gap)])
    assert torch.equal(one.cond.speak_BTA[0], speak[2 * at : 2 * at + 27 * 8])
    frames = np.concatenate(states)[at : at + 108].reshape(27, 4)
    wanted = [int(np.bincount(row, minlength=4).argmax()) & 1 for row in frames]
    assert one.cond.speak_on_BF[0].int().tolist() == wanted
    with pytest.raises(DataError, match=r"0 of 24 chains .* the longest has 1\.0 s"):
        chains(root, latents=27, frames=24, gap_s=0.1)


def test_resume_ranks_and_workers_do_not_change_what_comes() -> None:
    settings = {"silence": 0.5, "max_refs": 3}
    with chains(**settings) as source:
        whole = [next(source) for _ in range(7)]
    with chains(**settings) as source:
        for _ in range(3):
            next(source)
        state = json.loads(json.dumps(source.state()))
    ranks = [chains(rank=r, world_size=2, workers=1, prefetch=4, **settings) for r in range(2)]
    for part in ranks:
        part.restore(state)
    for batch in whole[3:]:
        assert same(Conditioned.cat([next(part) for part in ranks]), batch)
    for part in ranks:
        part.close()
    ids = [i.rpartition(".")[0] for batch in whole[:3] for i in batch.sample_ids]
    assert len(set(ids)) == 12  # six chains of two rollouts each: all once an epoch
    for change in ({"latents": 9}, {"latents": 12, "gap_s": 0.0, "frames": 24}):
        with chains(**change, **settings) as source:
            if change["latents"] == 9:
                with pytest.raises(DataError, match="rollout"):
                    source.restore(state)
            else:
                source.restore(state)  # no gap was bridged: the same chains


def test_precomputed_sets_give_the_same_conditions(tmp_path: Path) -> None:
    root = copy(tmp_path / "d")
    precompute(root, "a", encoders(), [(16, 32, 32)], dtype="float32")
    with chains(root, precomputed="a") as fast, chains(root) as slow:
        assert same(next(fast), next(slow))


def test_timed_prompts_of_a_chain_are_those_of_its_clips() -> None:
    timed = {"prompts": "timed", "max_prompts": 3}
    with chains(latents=24, frames=24, silence=0.0, batch=1, **timed) as source:
        one = next(source)
        pieces = source.maker.chains[one.sample_ids[0].rpartition(".")[0]].pieces
    clips = clip_conditions([p.sample_id for p in pieces], **timed)

    def told(cond: Conditions) -> torch.Tensor:
        assert cond.prompts_BQLD is not None and cond.prompt_BF is not None
        return torch.cat([cond.text_BLD[:, None], cond.prompts_BQLD], 1)[0][cond.prompt_BF[0]]

    assert torch.equal(told(one.cond), torch.cat([told(c.cond) for c in clips]))


@pytest.mark.parametrize("gaps", [False, True])
def test_a_rollout_begins_with_the_picture_of_its_first_frame(gaps: bool, tmp_path: Path) -> None:
    """Where clips do: its code by itself, and a grey picture's after it."""
    place = moved(tmp_path / "moved", lambda name: 0.2 * int(name[-1])) if gaps else None
    with chains(place, latents=8, first_frame=True, batch=4, balance={}) as source, chains(place, latents=8) as plain:
        batch, codec = next(source), source.encoders.codec
        assert next(plain).cond.given_BFCHW is None
        given, on = batch.cond.given_BFCHW, batch.cond.given_on_BF
        assert given is not None and on is not None and on.tolist() == [[True] + [False] * 7] * 4
        assert torch.equal(given[:, 1:], source.encoders.grey(32, 32).expand_as(given[:, 1:]))
        rows = [source.shards[i] for i in source.shards.ids]
        shown = [to_unit(read_video(source.shards.read(r, ["mp4"])["mp4"], (32, 32))) for r in rows]
        codes = encode_images(codec, torch.cat(shown))
    for row in given[:, 0]:
        assert (codes - row).abs().amax((1, 2, 3)).min() < 1e-6


# ------------------------------------------------------------------------------------------------ rollouts


def long_conditions(frames: int, texts: int = 1) -> Conditioned:
    """Random conditions of two samples; texts change from block to block."""
    whole = case.batch(["a", "b"], frames)
    if texts == 1:
        return Conditioned(cond=whole.cond, sample_ids=whole.sample_ids)
    g = torch.Generator().manual_seed(0)
    told = (torch.arange(frames) // 2 % texts).expand(2, -1)
    cond = replace(
        whole.cond, prompts_BQLD=torch.randn(2, texts - 1, 3, case.DT, generator=g), prompt_BF=told,
        prompts_mask_BQL=torch.ones(2, texts - 1, 3, dtype=torch.bool),
    )  # fmt: skip
    return Conditioned(cond=cond, sample_ids=whole.sample_ids)


def distilling(*settings: str) -> Any:
    config = override(case.config(), ["run.stage=distill", *settings])
    return make_stage(config, start=case.model(dtype=torch.float32).state_dict())


def test_conditions_alone_give_the_losses_of_the_clip_to_the_bit() -> None:
    clip = case.batch(list("abcd"))
    alone = Conditioned(cond=clip.cond, sample_ids=clip.sample_ids)
    empty = replace(
        alone.cond, prompts_BQLD=torch.zeros(4, 2, 3, case.DT), prompts_mask_BQL=torch.zeros(4, 2, 3, dtype=torch.bool),
        prompt_BF=torch.zeros(4, 8, dtype=torch.int64),
    )  # fmt: skip
    for settings in ((), ("distill.loss_frames=4",), ("distill.rollout=6", "distill.loss_frames=4")):
        figures = []
        for batch in (clip, alone, replace(alone, cond=empty)):
            stage = distilling(*settings)
            figures.append([stage.step(batch, i) for i in range(2)])
        assert figures[0] == figures[1] == figures[2]


def test_what_is_let_go_changes_nothing_of_what_is_kept() -> None:
    model, batch = case.model(dtype=torch.float32), long_conditions(16, texts=3)
    settings = case.config().stream
    given = (model, batch.cond, batch.size, batch.sample_ids, settings, "x")
    whole = roll(*given, exit_step=1, loss_from=16)
    for first in (0, 3, 8, 14):
        assert torch.equal(roll(*given, exit_step=1, loss_from=16, kept_from=first), whole[:, first:])


def test_what_comes_before_the_loss_is_finished() -> None:
    """The past takes all steps, as in a stream; only blocks that are judged stop at the drawn one."""
    model, batch, stream = case.model(dtype=torch.float32), long_conditions(8), case.config().stream
    whole = roll(model, batch.cond, batch.size, batch.sample_ids, stream, "x")
    rollout, parts = Rollout.begin(model, batch.cond, stream), []
    for first in range(0, 8, 2):

        def draw(purpose: str, first: int = first) -> torch.Tensor:
            return flow.noise(batch.sample_ids, (2, *batch.size), torch.empty(0), "roll", "x", first, purpose)

        part, start = near(batch.cond, first, first + 2, model)
        parts.append(rollout.block(part, start, draw, 0 if first >= 4 else None))
    cut = roll(model, batch.cond, batch.size, batch.sample_ids, stream, "x", exit_step=0, loss_from=8, kept_from=4)
    assert torch.equal(torch.cat(parts[:2], 1), whole[:, :4]) and torch.equal(torch.cat(parts[2:], 1), cut)


def test_a_text_alone_or_among_others_drives_alike() -> None:
    model, cond = case.model(), long_conditions(8, texts=4).cond.to(dtype=torch.float64)
    x, t = torch.randn(2, 4, case.C, case.H, case.W).double(), torch.full((2, 4), 0.5).double()
    part = cond.window(2, 6)
    wanted = model(x, t, part).v_BFCHW
    assert part.told(0, 4).prompts_BQLD is not None and part.told(0, 2).prompts_BQLD is None
    torch.testing.assert_close(model(x, t, part.told(0, 4)).v_BFCHW, wanted, rtol=1e-10, atol=1e-12)
    block = cond.window(2, 4)
    alone, among = (model(x[:, :2], t[:, :2], c).v_BFCHW for c in (block.told(0, 2), block))
    torch.testing.assert_close(alone, among, rtol=1e-10, atol=1e-12)


def test_gradients_come_from_the_last_window_alone_and_memory_does_not_grow() -> None:
    kept, loss_frames = set(), 4
    for frames, teacher in ((8, "pretrain"), (32, "pretrain"), (32, "causal")):
        stage = distilling(
            f"distill.rollout={frames}", f"distill.loss_frames={loss_frames}", f"distill.teacher={teacher}"
        )
        stage._sizes = []
        batch = long_conditions(frames, texts=3)
        speak = batch.cond.speak_BTA.clone().requires_grad_()
        bytes_ = [0]

        def count(x: torch.Tensor, bytes_: list[int] = bytes_) -> torch.Tensor:
            bytes_[0] += x.numel() * x.element_size()
            return x

        with torch.autograd.graph.saved_tensors_hooks(count, lambda x: x):
            loss = stage._losses(replace(batch, cond=replace(batch.cond, speak_BTA=speak)), 1)
        # At the first step critic and teacher agree; here they need not, to have a gradient at all.
        y, first = stage._roll(replace(batch, cond=replace(batch.cond, speak_BTA=speak)), 1, "student", graph=True)
        y.sum().backward()
        assert loss.shape == (2,) and y.shape[1] == loss_frames and first == frames - loss_frames
        assert speak.grad is not None
        heard = (first - stage.student.config.frames_before) * case.R
        assert not speak.grad[:, :heard].any() and speak.grad[:, first * case.R :].any()
        kept.add(bytes_[0])
    assert len(kept) == 1


def test_a_long_run_that_is_continued_is_the_same_run(tmp_path: Path) -> None:
    config = override(
        toy_preset(),
        ["run.stage=distill", "run.steps=4", "run.save_every=2", "distill.critic_steps=2", "distill.rollout=9",
         "distill.loss_frames=3", "optim.micro_batch=2"],
    )  # fmt: skip
    made = encoders()
    clips = data(bucket=(12, 32, 32))
    config = fitted(replace(config, model=replace(config.model, depth=2, width=24, heads=2), data=clips), made)

    def go(out: Path, steps: int) -> dict[int, float]:
        with ChainLoader(clips, made, latents=9, gap_s=1.0, block=3) as source:
            settings: Config = override(config, [f"run.steps={steps}"])
            train(make_stage(settings), settings, source, out, show=lambda _: None)
        lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        return {line["step"]: line["loss"] for line in lines if "loss" in line}

    whole = go(tmp_path / "whole", 4)
    go(tmp_path / "parts", 2)
    assert go(tmp_path / "parts", 4) == whole and len(whole) == 4


# ------------------------------------------------------------------------------------------------ off the policy


@pytest.mark.parametrize("policy", ["data", "teacher"])
def test_distillation_off_the_policy_starts_at_zero_and_moves_the_student(policy: str) -> None:
    stage, start = distilling(f"distill.policy={policy}", "flow.steps=2", "distill.critic_steps=2"), case.model()
    figures = [stage.step(case.batch([f"{i}.{k}" for k in range(4)]), i) for i in range(4)]
    assert figures[0]["dmd"] == 0.0 and figures[2]["dmd"] > 0
    before = start.float().state_dict()
    assert any(not torch.equal(p, before[n]) for n, p in stage.student.named_parameters())
    assert all(torch.equal(p, before[n]) for n, p in stage.roles["teacher"].named_parameters())


def test_off_the_policy_the_past_is_given() -> None:
    """A block depends on the data before it, and on the noise of its own alone."""
    stage, clip = distilling("distill.policy=data"), case.batch(["a", "b"])
    y = stage._restore(clip, clip.x_BFCHW, 0, "student")
    x = clip.x_BFCHW.clone()
    x[:, 4:6] += 1
    other = stage._restore(clip, x, 0, "student")
    changed = (y - other).abs().amax((0, 2, 3, 4)) > 1e-6
    assert not changed[:4].any() and changed[6:].all()


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="sees both directions"):
        override(case.config(), ["distill.policy=teacher", "distill.teacher=causal"])
    with pytest.raises(ConfigError, match="must not be negative"):
        override(case.config(), ["distill.gap_s=-1"])
    long = replace(override(toy_preset(), ["run.stage=distill", "distill.rollout=24"]), data=data(bucket=(24, 32, 32)))
    assert fitted(long, encoders()).distill.loss_frames == 6
    assert fitted(override(long, ["distill.rollout=6"]), encoders()).distill.loss_frames == 0
    for change, said in (
        ("distill.policy=data", "is for policy=own"), ("distill.rollout=25", "multiple of block 3"),
        ("distill.loss_frames=9", "at most a clip's 6 latents"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=said):
            fitted(override(long, [change]), encoders())


# ------------------------------------------------------------------------------------------------ commands


def test_every_stage_starts_from_the_one_before_and_ends_beyond_the_clip(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, before, preset, settings = str(dataset()), None, "toy", SMALL
    for name, stage, more in (
        ("pretrain", "pretrain", []), ("causal", "causal", []), ("consistency", "consistency", []),
        ("off", "distill", ["distill.policy=data"]),
        ("long", "distill", ["distill.policy=own", "distill.rollout=24"]),
        ("talks", "distill", ["distill.rollout=24", f"distill.conversations={without_pictures(tmp_path / 'talk')}"]),
    ):  # fmt: skip
        teacher = tmp_path / "pretrain" if stage == "distill" else None
        train_run(root, tmp_path / name, preset, stage, before, None, teacher, None, [*settings, *more])
        before, preset, settings = tmp_path / name, None, []
    said = "6 of 6 chains of clips are long enough for distill.rollout=24 (3.8 s): 24 clips"
    assert capsys.readouterr().out.count(said) == 2
    kept = json.loads((tmp_path / "long" / "config.json").read_text())["distill"]
    assert (kept["rollout"], kept["loss_frames"], kept["policy"]) == (24, 6, "own")


def test_doctor_and_run_say_how_many_chains_are_long_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "r.json"
    settings = ["data.frames=24", "data.height=32", "data.width=32", "data.codec.stride=[4, 8, 8]", "run.steps=1"]
    given = {"dataset": str(dataset()), "preset": "toy", "batches": 1, "report": str(report)}
    assert doctor(**given, settings=[*settings, "distill.rollout=12"]) == 0
    assert "6 of 6 chains of clips are long enough for distill.rollout=12 (1.9 s)" in capsys.readouterr().out
    assert json.loads(report.read_text())["chains"]["longest_s"] == 96 / FPS
    talks = f"distill.conversations={without_pictures(tmp_path / 'talks')}"
    assert doctor(**given, settings=[*settings, "distill.rollout=12", talks], where="segment_id < 'puppet-p00001'") == 0
    assert "6 of 6 chains of clips are long enough for distill.rollout=12 (1.9 s)" in capsys.readouterr().out
    with pytest.raises(DataError, match=r"0 of 6 chains .* Lower distill\.rollout"):
        doctor(**given, settings=[*settings, "distill.rollout=60"])


def test_batches_still_hold_what_they_held() -> None:
    """A batch of clips is conditions with latents: rows are taken and joined alike."""
    whole = case.batch(list("abcd"))
    parts = [whole.select([0, 1]), whole.select(slice(2, 4))]
    assert all(map(torch.equal, batch_tensors(Batch.cat(parts)), batch_tensors(whole))) and whole.size == (4, 4, 4)
