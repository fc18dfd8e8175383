"""Timed prompts: which text a block is told, that it is told that one alone, and the same from every source."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import train_case as case
from hypothesis import given
from hypothesis import strategies as st
from train_data_case import BUCKET, copy, dataset, encoders, loader, same

import lpm_train.data.make
import lpm_train.tools.precompute
from lpm_train.batch import Batch, Conditions
from lpm_train.config import ConfigError, override
from lpm_train.data.clip import read_record
from lpm_train.data.prompts import block_prompts, frame_terms, frame_words, lasting, say, texts_of
from lpm_train.data.shards import Shards
from lpm_train.network.model import DiT
from lpm_train.network.wan import make_model
from lpm_train.presets import small
from lpm_train.storage import DataError
from lpm_train.streaming.rollout import Rollout, near
from lpm_train.tools.precompute import precompute
from schemas.samples.sample import EventRef, Sample, StateRun, WordRef

F64 = torch.float64
EVENTS = [
    EventRef(event="smile", kind="facial_action", start_s=0.1, end_s=0.42, confidence=0.9),
    EventRef(event="nod", kind="head_motion", start_s=0.3, end_s=0.5, confidence=0.8),
    EventRef(event="left", kind="gaze", start_s=0.6, end_s=9.0, confidence=0.8),
    EventRef(event="lean", kind="body_action", start_s=0.9, end_s=1.0, confidence=0.7, direction="forward"),
    EventRef(event="blink", kind="facial_action", start_s=0.0, end_s=1.0, confidence=0.9),
]


def record(events: list[EventRef]) -> Sample:
    shards = Shards(dataset())
    row = shards[next(iter(shards.ids))]
    found = read_record(shards.read(row, ["json"])["json"], row.segment_id)
    video = found.video.model_copy(update={"n_frames": 26})
    return found.model_copy(update={"events": events, "state": "speak", "states": [], "video": video})


def test_frames_hold_what_happens_in_them() -> None:
    terms = frame_terms(record(EVENTS), 26)
    assert terms[1:3] == [(), ("smile",)] and terms[9:11] == [("head nod", "smile"), ("head nod",)]
    assert terms[11] == ("head nod",) and terms[13:15] == [(), ()] and terms[24] == ("gaze left", "lean forward")
    assert terms[25] == ("gaze left",)
    assert frame_terms(record([]), 26) == [()] * 26
    listens = StateRun(state="listen", start_s=0.2, end_s=0.4, confidence=1.0, reason="")
    seen = frame_terms(record(EVENTS).model_copy(update={"states": [listens]}), 26)
    assert seen[:5] == terms[:5] and seen[5:10] == [()] * 5 and seen[10:] == terms[10:]
    assert say("A person.", ("nod", "smile")) == "A person. Now: nod, smile." and say("A person.", ()) == "A person."
    assert say("", ("nod",)) == "Now: nod."


@pytest.mark.parametrize(
    ("caption", "lasts"),
    [
        (
            "A person speaking; lowers the head midway, then turns left. The camera is static.",
            "A person speaking. The camera is static.",
        ),
        ("Sits at a desk, in white.", "Sits at a desk, in white."),
        ("Finally smiles.", "Finally smiles."),
        ("", ""),
    ],
)
def test_what_lasts_of_a_caption_speaks_of_no_moment(caption: str, lasts: str) -> None:
    assert lasting(caption) == lasts
    assert texts_of(caption, [("nod",), ()]) == [lasts, say(lasts, ("nod",))]
    assert texts_of(caption, [(), ()]) == [caption]


def test_a_block_is_told_its_fullest_moment_and_no_more_texts_than_fit() -> None:
    terms = frame_terms(record(EVENTS), 26)
    spans = [(0, 1), *((k, k + 4) for k in range(1, 25, 4))]  # of a codec whose first latent is one frame
    texts, told = block_prompts("Hi.", terms, spans, 1, 9)
    now = ["", " Now: head nod, smile.", " Now: gaze left.", " Now: smile.", " Now: gaze left, lean forward."]
    assert texts == [f"Hi.{what}" for what in now] and told == [0, 3, 1, 1, 2, 2, 4]
    assert block_prompts("Hi.", terms, spans, 1, 2) == (texts[:2], [0, 0, 1, 1, 0, 0, 0])
    assert block_prompts("Hi.", terms, spans, 3, 9)[1] == [1, 1, 1, 1, 1, 1, 2]
    assert block_prompts("Hi.", [()] * 26, spans, 3, 9) == (["Hi."], [0] * 7)


def heard(*words: tuple[str, float, float]) -> list[WordRef]:
    return [WordRef(word=word, start_s=a, end_s=b, probability=0.9) for word, a, b in words]


def test_words_are_told_to_the_block_in_which_they_are_said() -> None:
    listens = StateRun(state="listen", start_s=0.6, end_s=0.8, confidence=1.0, reason="")
    words = heard((" Hello", 0.05, 0.3), ("there", 0.3, 0.5), ("yes", 0.6, 0.7), ("so", 0.9, 1.0), ("late", 1.5, 2.0))
    speaks = record(EVENTS[1:2]).model_copy(update={"words": words, "states": [listens]})
    found, terms = frame_words(speaks, 26), frame_terms(speaks, 26)
    assert found == [(4, "Hello"), (10, "there"), (23, "so")]  # what the other says, and what is cut off, is not there
    spans = [(k, k + 4) for k in range(0, 24, 4)]
    texts, told = block_prompts("Hi.", terms, spans, 1, 9, found)
    assert [texts[i] for i in told] == [
        "Hi.", 'Hi. Now: head nod, says "Hello".', 'Hi. Now: head nod, says "there".', "Hi.", "Hi.",
        'Hi. Now: says "so".',
    ]  # fmt: skip
    assert block_prompts("Hi.", [()] * 26, spans, 3, 9, found)[0] == [
        "Hi.",
        'Hi. Now: says "Hello there".',
        'Hi. Now: says "so".',
    ]
    assert len(block_prompts("Hi.", terms, spans, 1, 2, found)[0]) == 2


def test_words_are_prompts_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    texts = lpm_train.data.make.Parts.texts
    monkeypatch.setattr(
        lpm_train.data.make.Parts, "texts", lambda self, row, said: told.extend(said) or texts(self, row, said)
    )

    def spoken(data: bytes, name: str) -> Sample:
        words = heard(*((f"w{k}", k / 10, k / 10 + 0.1) for k in range(40)))
        return read_record(data, name).model_copy(update={"words": words, "state": "speak", "states": []})

    monkeypatch.setattr(lpm_train.data.make, "read_record", spoken)
    for more in ({}, {"prompt_words": True}):
        told.clear()
        with loader(dataset(), prompts="timed", **more) as source:
            next(source)
        assert any('says "w' in text for text in told) == bool(more)
    for wrong in (["data.prompt_words=true"], ["data.prompts=timed", "data.prompt_words=true", "data.precomputed=x"]):
        with pytest.raises(ConfigError, match="as which words a block has depends"):
            override(case.config(), wrong)


@given(
    st.lists(st.sampled_from([(), ("a",), ("a", "b"), ("c",)]), min_size=4, max_size=24),
    st.integers(1, 4),
    st.integers(1, 4),
)
def test_every_text_of_a_window_is_one_of_the_clip(terms: list[tuple[str, ...]], block: int, most: int) -> None:
    spans = [(k, k + 2) for k in range(0, len(terms) - 1, 2)]
    texts, told = block_prompts("Hi.", terms, spans, block, most)
    assert set(texts) <= set(texts_of("Hi.", terms)) and len(set(texts)) == len(texts) <= most
    assert len(told) == len(spans) and max(told) < len(texts)
    assert all(told[i] == told[i // block * block] for i in range(len(told)))


def timed(batch: Batch, told: list[int]) -> Conditions:
    """Give each sample two prompts more, and each frame the number of its own."""
    g, B = torch.Generator().manual_seed(7), len(batch)
    dtype = batch.cond.text_BLD.dtype
    return replace(
        batch.cond, prompts_BQLD=torch.randn(B, 2, 3, case.DT, generator=g).to(dtype),
        prompts_mask_BQL=torch.tensor([[True, True, True], [True, False, False]]).expand(B, -1, -1),
        prompt_BF=torch.tensor([told]).expand(B, -1),
    )  # fmt: skip


def networks() -> list[DiT]:
    settings = replace(case.config().model, picture_width=0)
    wan = make_model(replace(settings, kind="wan", picture_width=6)).to(F64)
    torch.manual_seed(0)
    for p in wan.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return [case.model(), wan]


@pytest.mark.parametrize("network", range(2), ids=["ours", "wan"])
def test_a_prompt_in_all_frames_is_the_text_of_the_clip(network: int) -> None:
    model, batch = networks()[network], case.batch(["a", "b"], dtype=F64)
    picture = torch.randn(2, 5, 6, dtype=F64)
    batch = replace(batch, cond=replace(batch.cond, picture_BIP=picture))
    t = torch.full((2, 8), 0.6, dtype=F64)
    with torch.no_grad():
        for q in range(3):
            cond = timed(batch, [q] * 8)
            assert cond.prompts_BQLD is not None and cond.prompts_mask_BQL is not None
            texts = [
                (cond.text_BLD, cond.text_mask_BL),
                *zip(cond.prompts_BQLD.unbind(1), cond.prompts_mask_BQL.unbind(1), strict=True),
            ]
            alone = replace(batch.cond, text_BLD=texts[q][0], text_mask_BL=texts[q][1])
            want = model(batch.x_BFCHW, t, alone).v_BFCHW
            torch.testing.assert_close(model(batch.x_BFCHW, t, cond).v_BFCHW, want, atol=1e-12, rtol=0)
        one, other = (
            model(batch.x_BFCHW, t, timed(batch, told)).v_BFCHW for told in ([0] * 8, [0, 0, 0, 0, 2, 2, 1, 1])
        )
        assert not torch.equal(one, other)
        silent = timed(batch, [1] * 8).without(text=True)
        want = model(batch.x_BFCHW, t, batch.cond.without(text=True)).v_BFCHW
        torch.testing.assert_close(model(batch.x_BFCHW, t, silent).v_BFCHW, want, atol=1e-12, rtol=0)


@pytest.mark.parametrize("network", range(2), ids=["ours", "wan"])
def test_teacher_forcing_with_timed_prompts_is_what_a_cache_computes(network: int) -> None:
    model, stream, batch = networks()[network], case.config().stream, case.batch(["a", "b"], frames=8, dtype=F64)
    cond = timed(batch, [1, 1, 0, 0, 2, 2, 1, 1])
    x_t = torch.randn(batch.x_BFCHW.shape, dtype=F64, generator=torch.Generator().manual_seed(0))
    t = torch.full((2, 8), 0.4, dtype=F64)
    both = torch.cat([batch.x_BFCHW, x_t]), torch.cat([torch.zeros_like(t), t])
    with torch.no_grad():
        full = model(*both, cond, layout=stream).v_BFCHW
        rollout, parts = Rollout.begin(model, cond, stream), []
        for first in range(0, 8, 2):
            here = slice(first, first + 2)
            part, start = near(cond, first, first + 2, model)
            parts.append(model(x_t[:, here], t[:, here], part, cache=rollout.cache, start=start).v_BFCHW)
            rollout.remember(batch.x_BFCHW[:, here], part, start, lambda _: x_t)
        torch.testing.assert_close(torch.cat(parts, 1), full, atol=1e-10, rtol=0)
        later = model(
            *both, replace(cond, prompt_BF=torch.tensor([[1, 1, 0, 0, 2, 2, 0, 0]] * 2)), layout=stream
        ).v_BFCHW
    assert torch.equal(later[:, :6], full[:, :6]) and not torch.equal(later[:, 6:], full[:, 6:])


def test_conditions_are_cut_and_repeated_with_their_prompts() -> None:
    cond = timed(case.batch(["a", "b"]), [0, 0, 1, 1, 2, 2, 1, 1])
    assert cond.window(2, 5).prompt_BF.tolist() == [[1, 1, 2]] * 2
    assert cond.repeated(2).prompt_BF.shape == (2, 16)
    assert not cond.null().prompts_mask_BQL.any() and cond.select([1]).prompts_BQLD.shape[0] == 1
    with pytest.raises(ValueError, match="belong together"):
        replace(cond, prompt_BF=None)


def test_loaded_and_precomputed_prompts_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def eventful(data: bytes, sample_id: str) -> Sample:
        found = read_record(data, sample_id)
        return found.model_copy(update={"events": EVENTS if sample_id.endswith("1") else []})

    for module in (lpm_train.data.make, lpm_train.tools.precompute):
        monkeypatch.setattr(module, "read_record", eventful)
    root, how = copy(tmp_path / "d"), {"prompts": "timed", "prompt_latents": 2}
    precompute(root, "plain", encoders(), [BUCKET], hop_frames=4, dtype="float32")
    with pytest.raises(DataError, match=r"holds captions alone, and data\.prompts is timed"):
        loader(root, precomputed="plain", **how)
    precompute(root, "timed", encoders(), [BUCKET], hop_frames=4, dtype="float32", timed=True)
    with loader(root, precomputed="timed", **how) as fast, loader(root, hop_frames=4, **how) as slow:
        batches = [next(fast) for _ in range(6)]
        for batch in batches:
            assert same(batch, next(slow))
    told = torch.cat([b.cond.prompt_BF for b in batches])
    assert batches[0].cond.prompts_BQLD.shape[1] == 3 and told.any()
    eventless = [not i.endswith("1") for b in batches for i in b.sample_ids]
    assert not told[torch.tensor(eventless)].any()  # the caption stands where no event was packed
    with loader(root, precomputed="timed") as captions, loader(root, precomputed="plain") as plain:
        assert same(next(captions), next(plain))


def test_texts_change_with_blocks() -> None:
    assert override(small(), ["data.prompts=timed", "data.prompt_latents=6"]).data.max_prompts == 4
    with pytest.raises(ConfigError, match=r"data\.prompt_latents 4 must be a multiple of stream\.block 3"):
        override(small(), ["data.prompts=timed", "data.prompt_latents=4"])
