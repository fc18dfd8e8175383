"""A source whose bytes change while they are read gives no rows under the name of what it was."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import av
import pytest
import toy
from engine_case import GOOD, by_name, go
from toy import ToyTracks, write_sources

from curation import Dataset
from curation.engine.register import InputError, expand, register
from curation.media.errors import MediaError
from curation.media.probe import probe
from curation.storage.store import Store
from schemas import tables as t


def test_bytes_that_change_during_a_step_are_not_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_sources(tmp_path / "in", a=GOOD, b={**GOOD, "duration_s": 7.0})
    run = ToyTracks.run

    def meanwhile(self: ToyTracks, item: Any, inputs: Any) -> Any:
        out = run(self, item, inputs)
        if inputs.media.name == "b.mp4" and "new" not in inputs.media.read_text():
            inputs.media.write_text(json.dumps({**GOOD, "name": "new", "faces": [200]}))
        return out

    monkeypatch.setattr(toy.ToyTracks, "run", meanwhile)
    go(folder, tmp_path / "out")
    assert by_name(tmp_path / "out")["b.mp4"] == ("quarantined", "source_changed", "toy_tracks")
    (why,) = t.ERRORS.rows(Dataset(str(tmp_path / "out")).table(t.ERRORS))
    assert "b.mp4 changed since it was registered" in why.message and "lpm run" in why.message
    kept = Dataset(str(tmp_path / "out")).query("SELECT count(DISTINCT source_id) FROM tracks").fetchall()
    assert kept == [(1,)]
    go(folder, tmp_path / "out")
    assert by_name(tmp_path / "out")["b.mp4"][0] == "kept"


@pytest.mark.slow
def test_a_file_that_was_only_touched_goes_on(tmp_path: Path) -> None:
    folder = write_sources(tmp_path / "in", a=GOOD)
    go(folder, tmp_path / "out", duration="duration_s >= 99")
    os.utime(folder / "a.mp4", ns=(1, 1))
    go(None, tmp_path / "out")
    assert by_name(tmp_path / "out")["a.mp4"][0] == "kept"
    (folder / "a.mp4").write_text(json.dumps({**GOOD, "faces": [130, 140]}))
    go(None, tmp_path / "out", sets=("toy_scan.tweak=2",))
    assert by_name(tmp_path / "out")["a.mp4"][:2] == ("quarantined", "source_changed")


def test_a_file_that_is_being_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from curation.engine import register as module

    folder = write_sources(tmp_path / "in", a=GOOD)
    read = module._sha256

    def growing(path: str) -> str:
        digest = read(path)
        with Path(path).open("a") as f:
            f.write(" ")
        return digest

    monkeypatch.setattr(module, "_sha256", growing)
    with pytest.raises(InputError, match="is being written"):
        register(Store(str(tmp_path / "out")), expand([str(folder)]))


def movie(path: Path, times_s: list[float]) -> Path:
    """Write pictures at given times."""
    import hostile
    import numpy as np

    images = [np.full((48, 64, 3), 10 * n % 250, np.uint8) for n in range(len(times_s))]
    return hostile.write(path, images, times_s)


def test_a_clock_that_lies_is_told_from_footage(tmp_path: Path) -> None:
    honest = movie(tmp_path / "a.mp4", [n / 25 for n in range(50)])
    assert probe(honest).duration_s == pytest.approx(2.0, abs=0.05)
    data = bytearray(honest.read_bytes().replace(b"edts", b"free"))
    for box, after in ((b"mvhd", 20), (b"mdhd", 20), (b"tkhd", 24)):
        where = data.index(box) + after
        data[where : where + 4] = b"\x7f\xff\xff\xff"
    (tmp_path / "b.mp4").write_bytes(data)
    assert probe(tmp_path / "b.mp4").duration_s == probe(honest).duration_s
    at = data.index(b"mdhd") + 16
    ticks = int.from_bytes(data[at : at + 4], "big")
    data[at : at + 4] = max(1, ticks // 10_000).to_bytes(4, "big")
    (tmp_path / "b.mp4").write_bytes(data)
    with pytest.raises(MediaError, match="its times cannot be right") as raised:
        probe(tmp_path / "b.mp4")
    assert raised.value.code == "wrong_times"


@pytest.mark.parametrize("late_s", [5.0, 300_000.0])
def test_a_late_picture_counts_for_what_it_shows(tmp_path: Path, late_s: float) -> None:
    path = movie(tmp_path / "late.mkv", [*(n / 25 for n in range(500)), 20.0 + late_s])
    with av.open(str(path)) as container:
        assert container.duration is not None and container.duration > late_s * 1e6
    if late_s < 10:
        assert probe(path).duration_s == pytest.approx(20.0 + late_s, abs=0.1)
    else:
        with pytest.raises(MediaError, match="cannot be right"):
            probe(path)
