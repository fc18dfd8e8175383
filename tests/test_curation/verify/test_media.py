"""Packed media are decoded apart: what is not whole is a problem of its sample, and ends nothing."""

from __future__ import annotations

from pathlib import Path

import deadly
import pytest
import review_case as case
from packed_toy import made

from curation import Dataset
from curation.media.errors import MediaError
from curation.media.packed import Played, played
from curation.verify import certify
from schemas import tables as t


def test_what_a_clip_holds_is_told(tmp_path: Path) -> None:
    clip = case.video(tmp_path / "clip.mp4", sound=None, length_s=2.0, b_frames=0).read_bytes()
    found = played(clip, {"speak.flac": case.flac(2.0)})
    assert found == Played(50, case.WIDTH, case.HEIGHT, 0, 0, {"speak.flac": (96_000, 48_000, 1)})
    for broken, sound in ((clip[:200], case.flac(2.0)), (clip, b"no sound"), (b"", case.flac(2.0))):
        with pytest.raises(MediaError):
            played(broken, {"speak.flac": sound})


@pytest.mark.parametrize("crashes", [False, True])
def test_what_does_not_decode_is_a_problem_of_its_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crashes: bool
) -> None:
    data = Dataset(str(made(tmp_path / "in", tmp_path / "out")))  # the toy's clips are no media
    if crashes:
        monkeypatch.setattr("curation.media.packed.played", deadly.clip)
    said = [p.what for p in certify(data, media=True).problems if "do not decode" in p.what]
    assert len(said) == len(t.MANIFEST.rows(data.table(t.MANIFEST))) > 1
    assert all(("the process that read it crashed (signal 11)" in x) == crashes for x in said)
