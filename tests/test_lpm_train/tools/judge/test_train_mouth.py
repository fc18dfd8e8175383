"""A mouth that is to be shut: known mouths measured, a babbler found out, silence told from speech and from others'."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from train_data_case import data, encoders

from lpm_train.batch import STATES, Batch
from lpm_train.config import ConfigError
from lpm_train.data.clip import to_unit
from lpm_train.data.loader import Loader
from lpm_train.proof.puppet_faces import PuppetFaces
from lpm_train.proof.synthetic import draw_scene, identity, render, tracks
from lpm_train.proof.synthetic_shards import scene_of, write_dataset
from lpm_train.storage import DataError
from lpm_train.tools.clips import decoded
from lpm_train.tools.judge.evaluate import Eval
from lpm_train.tools.judge.face_eval import face_figures
from lpm_train.tools.judge.faces import EVERY, Figures
from lpm_train.tools.judge.mouth import (
    KINDS,
    SITUATIONS,
    Seen,
    against_data,
    follow,
    lines,
    mouth_figures,
    situations,
    unmeasured,
)

FRAMES = 120


@pytest.fixture(scope="module")
def puppets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loader]:
    root = tmp_path_factory.mktemp("puppets")
    write_dataset(root, identities=8, held_out=0, clips=1, n_frames=FRAMES)
    with Loader(data(root, bucket=(FRAMES, 32, 32), batch=8, silence=0.0, prefetch=1), encoders()) as loader:
        yield loader


def test_known_mouths() -> None:
    """A shut mouth, one that moves by 0.1 a frame, and one that stays open."""
    t = np.arange(60)
    whole = {name: np.ones(60, bool) for name in SITUATIONS}
    shut, moving, wide = (np.asarray(x, np.float32) for x in (0 * t, 0.1 * (t % 2), 0 * t + 0.5))
    for opening, motion, spread, opened in ((shut, 0, 0, 0), (moving, 0.1, 0.05, 0.5), (wide, 0, 0, 1)):
        found = mouth_figures([Seen(opening, whole)], 0.1).values
        assert [found[f"silent.{kind}"] for kind in KINDS] == pytest.approx([motion, spread, opened])
    both = mouth_figures([Seen(shut, whole), Seen(wide, whole)], 0.1).values
    assert both["silent.spread"] == 0 and both["silent.open"] == 0.5  # people whose rest differs do not move


def seen(opening_T: np.ndarray, voiced_T: np.ndarray | None = None) -> Seen:
    voiced_T = np.ones(len(opening_T), bool) if voiced_T is None else voiced_T
    return Seen(opening_T.astype(np.float32), {name: voiced_T for name in SITUATIONS})


def test_lips_that_follow_the_sound_and_lips_that_do_not() -> None:
    """1 for the clip's own opening however far it opens, 0 for another clip's; unvoiced frames do not count."""
    mine, other = np.random.default_rng(0).random((2, 4000))
    assert follow([seen(0.3 * mine + 0.1)], [seen(mine)]).values == {"lips.follow": pytest.approx(1.0)}
    assert follow([seen(-mine)], [seen(mine)]).values == {"lips.follow": pytest.approx(-1.0)}
    assert follow([seen(other)], [seen(mine)]).values == {"lips.follow": pytest.approx(0.0, abs=0.05)}
    voiced = np.arange(4000) < 3000
    half = np.where(voiced, mine, other)
    assert follow([seen(half, voiced)], [seen(mine)]).values == {"lips.follow": pytest.approx(1.0)}
    # A wide mouth in one clip and a narrow one in another do not follow anything.
    apart = follow([seen(mine), seen(other + 5)], [seen(other), seen(mine + 5)]).values["lips.follow"]
    assert apart == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize("lead", [0, 3])
def test_lips_follow_a_clip_that_is_played_again(lead: int) -> None:
    """Frames of sound before a clip have no picture: none at the start, and `lead` at each time around."""
    clip = np.random.default_rng(1).random(40)
    gap = np.random.default_rng(2).random(lead)
    twice = np.concatenate([clip, gap, clip])
    assert follow([seen(twice)], [seen(clip)], lead).values == {"lips.follow": pytest.approx(1.0)}


def test_lips_that_were_not_seen_follow_nothing() -> None:
    clip = np.random.default_rng(3).random(40)
    hidden = np.where(np.arange(40) < 30, np.nan, clip)
    for made in (seen(hidden), seen(np.full(40, 0.2)), seen(clip, np.zeros(40, bool))):
        found = follow([made], [seen(clip)])
        assert found.values == {"lips.follow": None} and "voiced frames" in found.reasons["lips.follow"]


def test_what_is_between_two_situations_counts_for_neither() -> None:
    """A jump from the last silent frame to the first voiced one is the beginning of speech."""
    opening, silent = np.repeat([0.0, 1.0], 40).astype(np.float32), np.arange(80) < 40
    found = mouth_figures([Seen(opening, {"silent": silent, "listen": silent, "voiced": ~silent})], 0.5).values
    assert (found["silent.motion"], found["voiced.motion"], found["voiced.open"]) == (0.0, 0.0, 1.0)


def test_silence_is_what_is_not_said_by_the_character() -> None:
    scene = draw_scene(5, 150, identity(3), [("speak", 50), ("listen", 50), ("idle", 50)])
    speech, state = tracks(scene)[0], np.array([STATES.index(s) for s in scene.states], np.int8)
    speech[20 * 1920 : 40 * 1920] *= 1e-3  # a pause within speech
    found = situations(speech, state)
    assert found["voiced"][:20].all() and not found["voiced"][20:40].any() and not found["voiced"][50:].any()
    assert not found["silent"][:27].any() and found["silent"][27:33].all() and not found["silent"][33:57].any()
    assert found["silent"][57:].all() and found["listen"].nonzero()[0].tolist() == list(range(57, 100))
    loud = np.roll(speech, 60 * 1920)  # another's voice in its track: it still does not speak
    assert not situations(loud, state)["voiced"][60:].any()
    assert not situations(np.zeros(150 * 1920, np.float32), state)["voiced"].any()


def _babbling(loader: Loader, batch: Batch) -> Tensor:
    """The same people under the same sound, whose mouths never rest."""
    rows = []
    for draw in loader.order.batch(0, 0):
        scene, start = scene_of(draw.sample_id, FRAMES), loader.maker.window(draw)
        restless = np.repeat(np.random.default_rng(start).uniform(0, 1, FRAMES // 4), 4)
        told = np.array([s in ("speak", "both") for s in scene.states])
        pictures = render(replace(scene, speech=np.where(told, scene.speech, restless)))[start : start + FRAMES]
        rows.append(loader.encoders.codec.encode(to_unit(torch.from_numpy(pictures).permute(0, 3, 1, 2))[None]))
    assert batch.sample_ids == tuple(d.sample_id for d in loader.order.batch(0, 0))
    return torch.cat(rows)


def test_a_model_that_babbles_while_silent_is_worse_than_one_that_does_not(puppets: Loader) -> None:
    """And is found out at the length at which it begins to."""
    batch = next(puppets)
    x, babble, codec = batch.x_BFCHW, _babbling(puppets, batch), puppets.encoders.codec
    right, late = (
        face_figures(PuppetFaces(), puppets, batch, (decoded(codec, row, x.shape[1]) for row in y), (1, 2, 3)).values
        for y in (torch.cat([x] * 3, 1), torch.cat([x, x, babble], 1))
    )
    for situation in ("silent", "listen"):
        assert right[f"mouth.x3.{situation}.motion"] < 0.02 and right[f"mouth.x3.{situation}.open"] == 0
        assert late[f"mouth.x2.{situation}.motion"] == right[f"mouth.x2.{situation}.motion"]
        assert late[f"mouth.x3.{situation}.motion"] > 4 * right[f"mouth.x3.{situation}.motion"]
        assert late[f"mouth.x3.{situation}.motion_ratio"] > 4 > 1.2 > right[f"mouth.x3.{situation}.motion_ratio"] > 0.8
        assert late[f"mouth.x3.{situation}.open"] > 0.5
    assert late["mouth.x3.voiced.motion_ratio"] == pytest.approx(1, abs=0.1)
    assert right["data.mouth.voiced.motion"] > 5 * right["data.mouth.silent.motion"]


def test_what_is_not_measured_is_said() -> None:
    """No face, no listening, a still mouth in the data: each has its own reason, and no number stands for it."""
    on, off = np.ones(60, bool), np.zeros(60, bool)
    faceless = Seen(np.full(60, np.nan, np.float32), {"silent": on, "listen": off, "voiced": off})
    still = replace(faceless, opening_T=np.zeros(60, np.float32))
    found = against_data({1: [still], 20: [faceless]}, [still], 0.1)
    assert found.values["mouth.x1.silent.motion"] == 0 and found.values["mouth.x1.silent.motion_ratio"] is None
    assert found.reasons["mouth.x1.silent.motion_ratio"] == "in the data: none at all"
    assert "0 of 60 silent frames" in found.reasons["mouth.x20.silent.open"]
    assert "0 of 0 listening frames" in found.reasons["mouth.x1.listen.motion"]
    none = unmeasured(60, "no stream")
    assert none.values.keys() == {n.replace("x20", "x60") for n in found.values if n.startswith("mouth.x20")}
    every = Figures(found.values | none.values, found.reasons | none.reasons)
    assert {n for n, v in every.values.items() if v is None} == every.reasons.keys()
    said = list(lines(every))
    assert len(said) == 1 + len(SITUATIONS) * 4 and "not measured: no stream" in said[4]
    assert "not measured: a mouth was seen in 0 of 60 silent frames" in said[3]


def test_the_puppets_reader_takes_puppets_alone() -> None:
    assert len(PuppetFaces().look([], EVERY).opening_T) == 0
    with pytest.raises(DataError, match="no puppet"):
        PuppetFaces().look([np.zeros((64, 64, 3), np.uint8)], EVERY)
    with pytest.raises(ConfigError, match="positive and rise"):
        Eval(lengths=(20, 1))
