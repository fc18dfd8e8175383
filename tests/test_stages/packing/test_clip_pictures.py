"""Clips that are decoded together: each is what it would be alone, and none harms another."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import hostile
import numpy as np
import pytest

from curation.media.encode import ClipEncoder
from curation.media.errors import MediaError
from schemas.time import Interval
from stages.clip_plan.crop_path import CropPath
from stages.packing import encoding
from stages.packing.encoding import ClipPictures, Take, groups

LENGTH_S = 12.0


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source with one keyframe in 4 s."""
    options = {"bf": "3", "g": "100", "sc_threshold": "0"}
    path = tmp_path_factory.mktemp("media") / "a.mp4"
    return hostile.write(path, hostile.pictures(LENGTH_S), codec_options=options)


def take(name: str, start_s: float, end_s: float, shot: tuple[float, float] = (0.0, LENGTH_S), **values: Any) -> Take:
    path = CropPath.of([0.0, 10.0, 8.0, 96.0, 64.0])
    facts = {"n_frames": round((end_s - start_s) * 25), "path": path, "size": (96, 64), **values}
    return Take(name, Interval(*shot), Interval(start_s, end_s), **facts)


def quick(file: Path) -> ClipEncoder:
    return ClipEncoder(file, preset="ultrafast")


def test_a_clip_among_others_is_the_clip_alone(media: Path) -> None:
    moving = CropPath.of([0.0, 0.0, 0.0, 96.0, 64.0, 2.0, 40.0, 20.0, 96.0, 64.0])
    takes = [
        take("late", 9.0, 11.9), take("left", 0.4, 2.4), take("right", 1.0, 3.0, path=moving), take("first", 0.0, 0.04),
        take("cut", 3.0, 4.2, shot=(3.0, 4.2)), take("last", 11.5, 13.5),
    ]  # fmt: skip
    alone = {}
    for one in takes:
        with ClipPictures(media, [one], quick) as pictures:
            alone[one.name] = pictures.take(one.name)
    with ClipPictures(media, takes, quick) as pictures:
        for one in takes:
            assert pictures.take(one.name) == alone[one.name], one.name
            assert alone[one.name][1].n_frames == one.n_frames


def test_what_lies_near_is_decoded_once(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []
    real = encoding.iter_frames

    def counted(*args: Any) -> Any:
        passes.append(args[1:])
        return real(*args)

    monkeypatch.setattr(encoding, "iter_frames", counted)
    takes = [take("a", 0.5, 1.5), take("b", 1.0, 2.0), take("c", 4.0, 5.0), take("d", 9.5, 10.5)]
    assert [[t.name for t in group] for group in groups(reversed(takes))] == [["a", "b", "c"], ["d"]]
    with ClipPictures(media, takes, quick) as pictures:
        for one in takes:
            pictures.take(one.name)
    assert len(passes) == 2


def test_one_that_fails_leaves_its_neighbours(media: Path) -> None:
    nowhere = take("nowhere", 6.0, 6.5, shot=(20.0, 30.0))  # its shot shows none of it
    takes = [take("odd", 5.0, 6.0, size=(95, 64)), take("good", 5.0, 6.0), nowhere]
    with ClipPictures(media, takes, quick) as pictures:
        with pytest.raises(MediaError, match="even sizes"):
            pictures.take("odd")
        assert pictures.take("good")[1].n_frames == 25
        with pytest.raises(ValueError, match="no frame"):
            pictures.take("nowhere")


def test_a_file_that_cannot_be_read_is_told_of_every_clip(tmp_path: Path) -> None:
    broken = tmp_path / "x.mp4"
    broken.write_bytes(b"no video" * 100)
    with ClipPictures(broken, [take("a", 0.0, 1.0), take("b", 0.5, 1.5)], quick) as pictures:
        for name in ("a", "b"):
            with pytest.raises(MediaError):
                pictures.take(name)


def test_an_interruption_leaves_no_encoder_at_work(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    real = encoding.cropped

    def interrupted(*args: Any, **values: Any) -> np.ndarray[Any, Any]:
        if len(started) == 2:
            raise KeyboardInterrupt
        return real(*args, **values)

    class Watched(ClipEncoder):
        def add(self, rgb: np.ndarray[Any, Any]) -> None:
            super().add(rgb)
            if self._process not in started:
                started.append(self._process)

    monkeypatch.setattr(encoding, "cropped", interrupted)
    takes = [take("a", 0.0, 1.0), take("b", 0.0, 1.0)]
    with ClipPictures(media, takes, Watched) as pictures, pytest.raises(KeyboardInterrupt):
        pictures.take("a")
    assert len(started) == 2 and all(process.returncode is not None for process in started)
