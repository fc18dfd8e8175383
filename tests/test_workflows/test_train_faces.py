"""Faces of generated video: alignment proved on the puppet, and real people told apart by the pipeline's models."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from train_case import FirstAlone
from train_data_case import BUCKET, data, encoders

from curation.media.video import iter_frames
from lpm_train.data.loader import Loader
from lpm_train.data.make import Encoders
from lpm_train.encoders.codec import PatchCodec
from lpm_train.proof.puppet_faces import PuppetFaces
from lpm_train.proof.synthetic_shards import write_dataset
from lpm_train.tools.clips import decoded
from lpm_train.tools.judge.face_eval import face_figures
from lpm_train.tools.judge.faces import (
    F32,
    U8,
    FaceReader,
    Figures,
    Look,
    identity_figures,
    lip_figures,
    mean_of,
    reference_of,
)
from lpm_train.tools.media import load_sound
from schemas.time import PACKED_AUDIO_HZ
from workflows.trainer_faces import PipelineFaces


@pytest.mark.parametrize(("codec", "frames"), [(PatchCodec((4, 8, 8)), 40), (FirstAlone((4, 8, 8)), 41)])
def test_sound_and_pictures_of_a_rollout_are_those_of_the_clip(codec: PatchCodec, frames: int, tmp_path: Path) -> None:
    """The data themselves, played three times, follow their own sound at every window's place."""
    write_dataset(tmp_path, identities=8, held_out=0, clips=2, n_frames=48)
    settings = data(tmp_path, bucket=(frames, *BUCKET[1:]), batch=4, where="state = 'speak'", silence=0.0)
    rest = encoders()
    with Loader(settings, Encoders(codec, rest.audio, rest.text)) as loader:
        batch = next(loader)
        own, turned = (torch.cat([x] * 3, 1) for x in (batch.x_BFCHW, batch.x_BFCHW.roll(1, 0)))
        found, other = (
            face_figures(PuppetFaces(), loader, batch, (decoded(codec, row, y.shape[1] // 3) for row in y), (3,))
            for y in (own, turned)
        )
    assert found.values["sync.own_voice"] > 0.9 > 0.5 > other.values["sync.own_voice"]
    assert found.values["identity.last"] < 0.12 < other.values["identity.last"]
    assert found.values["faces.seen"] == 1.0 and found.values["data.identity.same"] > 0.9
    assert found.values["data.sync.own_voice"] > 0.98


def _look(distances: list[float]) -> Look:
    who = np.full((len(distances), 4), np.nan, np.float32)
    who[::2] = 0
    who[::2, 0] = distances[::2]
    return Look(who, np.zeros((len(distances), 2), np.float32), np.linspace(0, 1, len(distances), dtype=np.float32))


def test_identity_over_time() -> None:
    look = _look([0.1] * 50 + [0.3] * 50)
    v = identity_figures(look, np.zeros(4, np.float32), 50, 0.2).values
    assert (v["identity.first"], v["identity.last"]) == (pytest.approx(0.1), pytest.approx(0.3))
    assert v["identity.same"] == 0.5 and v["identity.slope"] > 0.1 and v["faces.seen"] == 1.0


def test_what_cannot_be_measured_is_none_with_a_reason() -> None:
    blank = Look(np.full((60, 4), np.nan, np.float32), np.full((60, 2), np.nan, np.float32),
                 np.full(60, np.nan, np.float32))  # fmt: skip
    who = identity_figures(blank, np.zeros(4, np.float32), 30, 0.6)
    lips = lip_figures(PuppetFaces(), blank, np.zeros(60 * 1920, np.float32), PACKED_AUDIO_HZ, np.ones(60, bool))
    for figures in (who, lips, identity_figures(_look([0.1] * 4), None, 2, 0.6)):
        nulls = {name for name, value in figures.values.items() if value is None}
        assert nulls and nulls == set(figures.reasons)
    assert "0 of 60 frames" in who.reasons["identity.last"]
    assert reference_of(PuppetFaces(), [np.zeros((32, 32, 3), np.uint8)]) is not None
    mixed = mean_of([Figures({"a": 1.0, "b": None}, {"b": "why"}), Figures({"a": 3.0, "b": None}, {"b": "as well"})])
    assert mixed == Figures({"a": 2.0, "b": None}, {"b": "why"})


@pytest.fixture(scope="module")
def reader() -> Iterator[FaceReader]:
    made = PipelineFaces()
    yield made
    made.close()


def _clip(file: Path, count: int = 120) -> tuple[list[U8], F32]:
    pictures = [frame.rgb() for frame in islice(iter_frames(file, max_side=640), count)]
    return pictures, load_sound(file).numpy()[: count * 1920]


@pytest.mark.slow
def test_real_people_are_themselves_and_speak_their_own_words(media: Path, reader: FaceReader) -> None:
    """A talking clip stands for the generated video."""
    (own, voice), (other, other_voice) = (_clip(media / f"talk_woman_{name}.mp4") for name in ("garden", "studio"))
    look, speaks = reader.look(own, 12), np.ones(len(own), bool)
    here, there = (
        identity_figures(look, reference_of(reader, pictures), 40, reader.same_person_distance).values
        for pictures in (own[-3:], other[:3])
    )
    assert here["faces.seen"] == 1.0 and here["identity.same"] == 1.0 and there["identity.same"] == 0.0
    assert here["identity.last"] < 0.45 < 0.65 < there["identity.first"]
    right, wrong = (lip_figures(reader, look, wave, PACKED_AUDIO_HZ, speaks).values for wave in (voice, other_voice))
    assert right["sync.own_voice"] > 0.9 > 0.1 > wrong["sync.own_voice"]
    assert abs(right["sync.offset_ms"]) < 60 and right["sync.confidence"] > wrong["sync.confidence"]
    wall = [np.full((256, 256, 3), 90, np.uint8)] * 60
    blank = identity_figures(reader.look(wall, 12), look.who_TE[0], 30, reader.same_person_distance)
    assert blank.values["identity.last"] is None and "0 of 60" in blank.reasons["identity.last"]
