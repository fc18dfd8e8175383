"""The puppet: what is drawn can be read back, also from the coded video, and its shards are the pipeline's format."""

from __future__ import annotations

import io
import json
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from lpm_train.data.clip import read_video
from lpm_train.proof.synthetic import Scene, ar1, draw_scene, identity, level_of, read_factors, render, tracks
from lpm_train.proof.synthetic_shards import encode_mp4, scene_of, write_dataset
from schemas.samples.members import MEMBERS, pictures
from schemas.samples.sample import Sample
from schemas.tables.output import MANIFEST


def decode(data: bytes) -> np.ndarray:
    return read_video(data, (32, 32)).permute(0, 2, 3, 1).numpy()


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [draw_scene(seed, 48, identity(seed)) for seed in range(24)]


@pytest.mark.parametrize("coded", [False, True])
def test_every_factor_is_read_back(scenes: list[Scene], coded: bool) -> None:
    videos = [render(s) for s in scenes]
    read = [read_factors(decode(encode_mp4(v)) if coded else v) for v in videos]

    def worst(name: str, truth: list[np.ndarray]) -> float:
        got = np.concatenate([getattr(f, name).ravel() for f in read])
        want = np.concatenate([t.ravel() for t in truth])
        assert np.corrcoef(got, want)[0, 1] > 0.995
        return float(np.sqrt(np.mean((got - want) ** 2)))

    assert worst("mouth", [s.speech for s in scenes]) < 0.035
    assert worst("nod", [s.user for s in scenes]) < 0.03
    assert worst("sway", [s.sway for s in scenes]) < 0.1
    assert worst("hands", [np.tile(s.hands, (48, 1)) for s in scenes]) < 0.03
    assert worst("identity", [np.tile(s.identity.vector(), (48, 1)) for s in scenes]) < 0.03


def test_factors_do_not_leak_into_each_other(scenes: list[Scene]) -> None:
    read = [read_factors(render(s)) for s in scenes]
    for name, other in (("mouth", "user"), ("mouth", "sway"), ("nod", "speech"), ("nod", "sway"), ("sway", "speech")):
        truth = {"mouth": "speech", "nod": "user", "sway": "sway"}[name]
        rest = np.concatenate([getattr(f, name) - getattr(s, truth) for f, s in zip(read, scenes, strict=True)])
        cause = np.concatenate([getattr(s, other) for s in scenes])
        assert abs(np.polyfit(cause, rest, 1)[0]) < 0.04, f"{other} moves the read-out of the {name}"


def test_any_picture_gives_finite_numbers() -> None:
    rng = np.random.default_rng(0)
    pictures = np.stack([np.zeros((32, 32, 3)), np.full((32, 32, 3), 255), rng.integers(0, 256, (32, 32, 3))])
    f = read_factors(pictures.astype(np.uint8))
    for values in (f.mouth, f.nod, f.sway, f.hands, f.identity, f.brightness):
        assert np.isfinite(values).all()


def test_sound_carries_the_levels_that_drive_the_picture(scenes: list[Scene]) -> None:
    for scene in scenes[:6]:
        speak, listen = tracks(scene)
        assert len(speak) == len(listen) == scene.n_frames * 1920 and np.abs(speak).max() < 1
        # The gain moves linearly between the middles of two frames, hence the tolerance.
        assert np.abs(level_of(speak) - scene.speech).mean() < 0.04
        assert np.abs(level_of(listen) - scene.user).mean() < 0.04


def test_sway_is_the_process_it_is_said_to_be() -> None:
    x = ar1(np.random.default_rng(0), 20_000, 0.85)
    assert abs(x.std() - 1) < 0.05 and abs(np.corrcoef(x[1:], x[:-1])[0, 1] - 0.85) < 0.02


def test_runs_must_fill_the_clip() -> None:
    with pytest.raises(ValueError, match="cover 30 frames, the clip has 48"):
        draw_scene(0, 48, identity(0), [("speak", 30)])


def test_shards_have_the_pipelines_format(tmp_path: Path) -> None:
    path = write_dataset(tmp_path, identities=3, held_out=1, clips=2, n_frames=16, samples_per_shard=4)
    table = pq.read_table(path)
    assert table.schema.remove_metadata() == MANIFEST.schema.remove_metadata()
    rows = table.to_pylist()
    assert len(rows) == 8 and {r["split"] for r in rows} == {"train", "val"}
    assert {r["identity_id"] for r in rows if r["split"] == "train"}.isdisjoint(
        r["identity_id"] for r in rows if r["split"] == "val"
    )
    for row in rows:
        data = (tmp_path / "shards" / row["shard"]).read_bytes()
        members = {m["name"].split(".", 1)[1]: data[m["offset"] :][: m["size"]] for m in row["members"]}
        sample = Sample.model_validate(json.loads(members["json"]))
        assert sample.state == row["state"] and sum(r.end_s - r.start_s for r in sample.states) == pytest.approx(0.64)
        for track in ("speak.flac", "listen.flac"):
            samples, rate = soundfile.read(io.BytesIO(members[track]), dtype="float32")
            assert rate == 48_000 and len(samples) == row["n_audio_samples"] == 16 * 1920
        scene = scene_of(row["segment_id"], 16)
        assert scene.caption == row["caption"]
        video = decode(members["mp4"])
        assert video.shape == (16, 32, 32, 3) and np.abs(video.astype(int) - render(scene)).mean() < 3
        assert tuple(members) == MEMBERS
        for one in pictures(members, [r.member for r in sample.references]).values():
            picture = cv2.imdecode(np.frombuffer(one, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
            error = read_factors(np.ascontiguousarray(picture)[None]).identity[0] - scene.identity.vector()
            assert np.abs(error).max() < 0.06


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_dataset(tmp_path / name, identities=2, held_out=0, clips=1, n_frames=8)
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*.tar"))
    assert files
    for f in files:
        assert (tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes()
