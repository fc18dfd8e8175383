"""Whole conversations, which have no pictures, as conditions of rollouts beyond the clip."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from chains_case import chains, same, without_pictures
from train_data_case import data, encoders

from lpm_train.config import ConfigError, override
from lpm_train.data.chain_loader import ChainLoader
from lpm_train.data.clip import read_image, to_unit
from lpm_train.encoders.codec import encode_images
from lpm_train.fitting import fitted
from lpm_train.presets import toy as toy_preset
from lpm_train.session import conditions_of


def test_conversations_give_what_their_sounds_and_states_say(tmp_path: Path) -> None:
    root = without_pictures(tmp_path / "talks")
    config = override(toy_preset(), ["run.stage=distill", "distill.rollout=12", f"distill.conversations={root}"])
    asked = conditions_of(config, data(where="state = 'speak'", precomputed="x", min_kept=0.5))
    assert (asked.root, asked.precomputed, asked.min_kept) == (str(root), "", 0.5) and "speak" not in asked.where
    with chains() as clips, ChainLoader(
        replace(asked, batch=2), encoders(), latents=12, gap_s=1.0, block=3
    ) as talks:  # fmt: skip
        assert talks.figures == clips.figures
        draw = next(iter(talks.order.batch(0, 0)))
        one = talks.maker(draw)
        assert same(one, replace(clips.maker, of_clips=replace(clips.maker.of_clips, seed=talks.seed))(draw))


def test_where_there_are_no_pictures_a_rollout_begins_with_the_reference(tmp_path: Path) -> None:
    root = without_pictures(tmp_path / "talks")
    with chains(root, latents=8, first_frame=True, batch=4, balance={}) as source:
        batch, codec = next(source), source.encoders.codec
        assert batch.cond.given_BFCHW is not None
        rows = [source.shards[i] for i in source.shards.ids]
        shown = torch.stack([to_unit(read_image(source.shards.pictures(r, ["ref.jpg"])[0], (32, 32))) for r in rows])
        codes = encode_images(codec, shown)
    for row in batch.cond.given_BFCHW[:, 0]:
        assert (codes - row).abs().amax((1, 2, 3)).min() < 1e-6


def test_conversations_are_for_rollouts_beyond_the_clip() -> None:
    config = override(toy_preset(), ["run.stage=distill", "distill.conversations=talks"])
    with pytest.raises(ConfigError, match=r"set distill\.rollout to more than"):
        fitted(config, encoders())
