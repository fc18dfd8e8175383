"""Performances are made as they are asked for: lazily, in step, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import perform_case as case
import pytest
import torch

from lpm_train.config import ConfigError, override
from lpm_train.data.clip import read_video, to_pixels
from lpm_train.session import load_model, make_encoders
from lpm_train.storage import DataError
from lpm_train.tools.media import Mp4Writer, write_mp4
from lpm_train.tools.perform import F32, Character, Role, act, begin, check, perform
from lpm_train.tools.provenance import model_fingerprint
from lpm_train.tools.stream_files import about_use, stream_files
from lpm_train.training.checkpoint import read_config
from schemas.samples.sample import SAMPLES_PER_FRAME


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return case.write_checkpoint(tmp_path_factory.mktemp("perform") / "run")


def sides(first: int, last: int) -> tuple[F32, F32]:
    wave = case.tracks()[:, first * SAMPLES_PER_FRAME : last * SAMPLES_PER_FRAME]
    return wave[0], wave[1]


def test_frames_come_as_they_are_asked_for(run: Path, tmp_path: Path) -> None:
    """A year would be begun as well: sound is asked for block by block, and no further."""
    config, model = load_model(run)
    encoders, asked = make_encoders(config.data), []

    def tracks(first: int, last: int) -> tuple[F32, F32]:
        asked.append(last)
        return sides(0, last - first)

    stream = begin(model, config, encoders, Character(case.write_faces(tmp_path)[0]))
    frames = act(stream, encoders.codec, tracks, np.ones(25 * 3600, np.int8))
    reach = 2 * config.stream.block * encoders.codec.stride[0]
    for n in range(30):
        assert next(frames).shape == (16, 16, 3)
        assert asked[-1] <= n + 1 + reach


def test_modes_matter_and_the_end_is_that_of_the_states(run: Path, tmp_path: Path) -> None:
    config, model = load_model(run)
    encoders, found = make_encoders(config.data), []
    for state in (0, 1, 2, 3):
        stream = begin(model, config, encoders, Character(case.write_faces(tmp_path)[0]))
        found.append(np.stack(list(act(stream, encoders.codec, sides, np.full(23, state, np.int8)))))
    assert {len(f) for f in found} == {23}
    assert all((a != b).any() for i, a in enumerate(found) for b in found[:i])
    off = begin(model, config, encoders, Character(case.write_faces(tmp_path)[0]))
    wave = torch.from_numpy(case.tracks()[:, : 24 * SAMPLES_PER_FRAME])
    pushed = to_pixels(off.push(wave[0], wave[1], on=(True, False)))[:20]
    # Pushed as one, features differ in the last bit.
    np.testing.assert_allclose(pushed.astype(int), found[1][:20].astype(int), atol=1)


def roles(tmp_path: Path, frames: int, break_at: int | None = None) -> list[Role]:
    def tracks(first: int, last: int) -> tuple[F32, F32]:
        if break_at is not None and last > break_at:
            raise DataError("the sound ends here")
        return sides(first, last)

    states = np.tile(np.repeat(np.array([1, 2], np.int8), 10), 10)[:frames]
    faces = case.write_faces(tmp_path)
    names = zip(faces, (states, 3 - states), "ab", strict=True)
    return [
        Role(Character(face, seed=n), s, tracks, tmp_path / f"{name}.mp4") for n, (face, s, name) in enumerate(names)
    ]


def test_files_are_whole_and_as_long_as_the_states(run: Path, tmp_path: Path) -> None:
    config, model = load_model(run)
    told: list[int] = []
    done = perform(
        model, config, make_encoders(config.data), roles(tmp_path, 43), lambda a, b: sides(a, b)[0],
        tmp_path / "both.mp4", lambda n, total: told.append(n),
    )  # fmt: skip
    assert done.frames == 43 and told == [25, 43] and len(done.timing) == 2
    both = read_video((tmp_path / "both.mp4").read_bytes(), (16, 32))
    assert both.shape == (43, 3, 16, 32)
    for name in ("a", "b", "both"):
        with av.open(str(tmp_path / f"{name}.mp4")) as container:
            assert float(container.streams.video[0].duration * container.streams.video[0].time_base) == 43 / 25
            heard = sum(frame.samples for frame in container.decode(audio=0))
            assert 0 <= heard - 43 * SAMPLES_PER_FRAME < 2048  # the codec's frames are of 1024
    assert sorted(p.name for p in tmp_path.glob("*")) == ["a.mp4", "a.png", "b.mp4", "b.png", "both.mp4"]


def test_what_fails_leaves_no_file(run: Path, tmp_path: Path) -> None:
    config, model = load_model(run)
    with pytest.raises(DataError, match="ends here"):
        perform(
            model, config, make_encoders(config.data), roles(tmp_path, 43, 30), lambda a, b: sides(a, b)[0],
            tmp_path / "both.mp4",
        )  # fmt: skip
    assert sorted(p.name for p in tmp_path.glob("*")) == ["a.png", "b.png"]


def test_who_cannot_perform_is_told_at_once(run: Path, tmp_path: Path) -> None:
    config, (face, _) = read_config(run / "step_00000000"), case.write_faces(tmp_path)
    check(config, Character(face, [f"view:{face}"]))
    with pytest.raises(ConfigError, match="cannot stream"):
        check(override(config, ["run.stage=pretrain"]), Character(face))
    with pytest.raises(ConfigError, match="3 pictures, but this model was trained with at most 2"):
        check(config, Character(face, [str(face), str(face)]))
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(DataError, match=r"text\.png is no picture"):
        check(config, Character(tmp_path / "text.png"))
    with pytest.raises(DataError, match="cannot read the picture"):
        check(config, Character(tmp_path / "none.png"))


def test_devices_and_settings_are_those_that_can_be_used(run: Path, tmp_path: Path) -> None:
    face, out = case.write_faces(tmp_path)[0], tmp_path / "out.mp4"
    assert load_model(run, "cpu")[1].training is False
    for device, said in (("gpu", "there are cpu and cuda"), ("meta", "there are cpu"), ("cuda:77", "no GPU|there are")):
        with pytest.raises(ConfigError, match=said):
            load_model(run, device)
    with pytest.raises(ConfigError, match="not what was trained"):
        about_use(["model.width=8"])
    settings = ["stream.bf16=true", "stream.cache=static", "stream.decode=beside", "stream.steps=2"]
    config, model = load_model(run, settings=about_use(settings))
    mark = model_fingerprint(model)
    assert "30 frames" in stream_files(model, config, face, out, seconds=1.2)
    assert len(read_video(out.read_bytes(), (16, 16))) == 30
    assert mark.encode() in out.read_bytes(), "the fingerprint is that of the checkpoint"
    assert next(model.parameters()).dtype == torch.bfloat16


def test_a_stream_that_is_broken_off_leaves_what_was_there(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    face, out = case.write_faces(tmp_path)[0], tmp_path / "deep" / "out.mp4"
    config, model = load_model(run)
    with pytest.raises(ConfigError, match="is a folder: name a file"):
        stream_files(model, config, face, tmp_path, seconds=1.0)
    stream_files(model, config, face, out, seconds=0.4)
    before = out.read_bytes()

    def broken(*_: object) -> Iterator[np.ndarray]:
        yield np.zeros((16, 16, 3), np.uint8)
        raise KeyboardInterrupt

    monkeypatch.setattr("lpm_train.tools.stream_files.play", broken)
    with pytest.raises(KeyboardInterrupt):
        stream_files(model, config, face, out, seconds=1.0)
    assert out.read_bytes() == before and list(out.parent.iterdir()) == [out]


def test_decoding_beside_makes_no_block_more(run: Path, tmp_path: Path) -> None:
    config, model = load_model(run, settings=["stream.decode=beside"])
    encoders, found = make_encoders(config.data), []
    for chosen in (config, override(config, ["stream.decode=after"])):
        stream = begin(model, chosen, encoders, Character(case.write_faces(tmp_path)[0]))
        frames = np.stack(list(act(stream, encoders.codec, sides, np.full(24, 1, np.int8))))
        found.append((frames, stream.complete))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]


def test_sound_in_pieces_of_any_length_is_the_same_file(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (30, 16, 16, 3), np.uint8)
    sound = case.tracks()[0][: 30 * SAMPLES_PER_FRAME]
    write_mp4(tmp_path / "one.mp4", frames, sound)
    with Mp4Writer(tmp_path / "two.mp4", sound=True) as writer:
        for n, rgb in enumerate(frames):
            writer.add(rgb, sound[3 * n * SAMPLES_PER_FRAME : 3 * (n + 1) * SAMPLES_PER_FRAME])
    found = []
    for name in ("one.mp4", "two.mp4"):
        with av.open(str(tmp_path / name)) as container:
            found.append(np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)]))
    np.testing.assert_array_equal(*found)
    with pytest.raises(DataError, match="no frame"):
        write_mp4(tmp_path / "none.mp4", [])
