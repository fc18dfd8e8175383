"""Finding the clips of folders, tars and Parquet files, and what is said of them: all are accounted for."""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.check.declared import Declared, Fields, flat
from curation.check.errors import CheckError
from curation.check.foreign import samples
from curation.check.join import joined
from curation.check.samples import Sample
from curation.media.audio import AudioReader
from curation.media.encode import encode_clip
from curation.media.errors import MediaError
from curation.media.probe import probe

MP4 = b"\x00\x00\x00\x18ftypisom" + b"x" * 20


def found(folder: Path | str, out: Path, skipped: Counter[str] | None = None) -> dict[str, Sample]:
    listed = list(samples(str(folder), out / "media", Counter() if skipped is None else skipped))
    assert len({s.name for s in listed}) == len(listed)
    return {s.name: s for s in listed}


def write(file: Path, data: bytes | str = MP4) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data.encode() if isinstance(data, str) else data)
    return file


def test_a_folder_with_sidecars_sounds_and_a_table_of_metadata(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for name in (
        "one.mp4",
        "sub/two.v1.mp4",
        "three.mp4",
        "one.wav",
        "sub/two.v1.speak.flac",
        "sub/two.v1.listen.flac",
    ):
        write(root / name)
    write(root / "one.json", json.dumps({"video": {"fps": 30}, "person_id": 7, "tags": ["x"], "ok": True}))
    write(root / "three.json", "{")
    write(root / "notes.txt")
    lines = [
        {"file_name": "sub/two.v1.mp4", "speaker_id": "s2"},
        {"file_name": "gone.mp4"},
        {"file_name": "../../x.mp4"},
    ]
    write(root / "metadata.jsonl", "\n".join(json.dumps(x) for x in lines))
    skipped: Counter[str] = Counter()
    clips = found(root, tmp_path / "out", skipped)
    assert set(clips) == {"one.mp4", "sub/two.v1.mp4", "three.mp4", "gone.mp4", "../../x.mp4"}
    assert clips["one.mp4"].facts == {"video.fps": 30, "person_id": 7} and set(clips["one.mp4"].sounds) == {"sound"}
    assert clips["sub/two.v1.mp4"].facts["speaker_id"] == "s2"
    assert set(clips["sub/two.v1.mp4"].sounds) == {"speak", "listen"}
    assert "three.json" in str(clips["three.mp4"].facts_error) and clips["three.mp4"].reason is None
    assert all(clips[n].picture is None and clips[n].reason for n in ("gone.mp4", "../../x.mp4"))
    assert skipped == {".txt": 1}


def test_a_tar_gives_its_samples_up_to_where_it_breaks(tmp_path: Path) -> None:
    members = {
        "a/x.mp4": MP4, "a/x.json": b'{"fps": 25}', "a/x.speak.flac": b"fLaC1", "a/x.listen.flac": b"fLaC2",
        "y.json": b"{}", "z.left.mp4": MP4, "z.right.mp4": MP4, "z.wav": b"RIFF",
        "../../evil.mp4": MP4, "big.mp4": MP4 + bytes(40_000),
    }  # fmt: skip
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    write(tmp_path / "set" / "s-0.tar", whole.getvalue()[:30_000])
    clips = found(tmp_path / "set", tmp_path / "out")
    x = clips["s-0.tar::a/x"]
    assert x.picture is not None and x.picture.read_bytes() == MP4 and set(x.sounds) == {"speak", "listen"}
    assert "no video" in str(clips["s-0.tar::y"].reason)
    assert {n for n in clips if "::z" in n} == {"s-0.tar::z.left.mp4", "s-0.tar::z.right.mp4"}
    assert not clips["s-0.tar::z.left.mp4"].sounds
    taken = clips["s-0.tar::../../evil"].picture
    assert taken is not None and taken.is_relative_to(tmp_path / "out")
    broken = [s for s in clips.values() if s.reason and "cannot be read further" in s.reason]
    assert len(broken) == 1
    before = x.picture.stat().st_mtime_ns
    assert found(tmp_path / "set", tmp_path / "out")["s-0.tar::a/x"].picture == x.picture
    assert x.picture.stat().st_mtime_ns == before, "what is taken out stays, so that a check goes on where it stopped"


def test_rows_with_media_as_hugging_face_writes_them(tmp_path: Path) -> None:
    media = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = pa.table({
        "video": pa.array([{"bytes": MP4, "path": "a.mp4"}, {"bytes": None, "path": "b.mp4"}], media),
        "listen_audio": pa.array([b"fLaC", None], pa.binary()), "speaker_id": ["p", "q"], "id": [5, 6],
    })  # fmt: skip
    (tmp_path / "data").mkdir()
    pq.write_table(rows, tmp_path / "data" / "train.parquet")
    write(tmp_path / "data" / "bad.parquet", b"PAR1")
    clips = found(tmp_path / "data", tmp_path / "out")
    first = clips["train.parquet::5"]
    assert first.picture is not None and first.picture.read_bytes() == MP4 and first.facts["speaker_id"] == "p"
    assert set(first.sounds) == {"listen"} and "no video" in str(clips["train.parquet::6"].reason)
    assert "cannot be read" in str(clips["bad.parquet"].reason)


def test_nothing_to_check_is_said(tmp_path: Path) -> None:
    write(tmp_path / "set" / "a.txt")
    for place, words in (
        (tmp_path / "set", "no clip in"),
        (tmp_path / "none", "no such file"),
        ("s3://b", "copy"),
    ):
        with pytest.raises(CheckError, match=words):
            found(place, tmp_path / "out")


def test_declared_values_are_found_under_their_usual_names_and_chosen_ones() -> None:
    facts = {"video.fps": "30000/1001", "sample_rate": 48000, "duration": "soon", "speaker_id": 12, "role": "Listener"}
    fields = Fields()
    said = fields.read("d/V1_P0947.mp4", facts)
    assert said == Declared(fps=30000 / 1001, rate_hz=48000.0, identity="12", state="listen")
    assert fields.found["fps", "video.fps"] == 1
    assert Fields(["identity=@folder"]).read("id1/x/a.mp4", {}).identity == "x"
    assert Fields(["identity=@name:_(P[0-9]+)"]).read("d/V1_P0947.mp4", facts).identity == "P0947"
    for wrong in ("identity", "size=x", "identity=@name:P", "identity=@name:(", "identity=@path"):
        with pytest.raises(CheckError, match="--field"):
            Fields([wrong])


TEXTS = st.text("a.é\x00", max_size=4)
VALUES = st.none() | st.booleans() | st.floats() | TEXTS


@settings(max_examples=30)
@given(st.dictionaries(TEXTS, VALUES | st.dictionaries(TEXTS, VALUES, max_size=3), max_size=4))
def test_any_metadata_can_be_read(data: dict[str, object]) -> None:
    facts = flat(data)
    assert all(isinstance(v, str | int | float) for v in facts.values())
    said = Fields().read("clip", {**facts, "fps": next(iter(facts.values()), "")})
    assert said.fps is None or 0 < said.fps < float("inf")


def test_sounds_are_laid_beside_the_picture_as_channels(tmp_path: Path) -> None:
    picture, frame = tmp_path / "p.mp4", np.full((64, 64, 3), 90, np.uint8)
    encode_clip(picture, [frame] * 25)
    speak = np.sin(np.arange(48000) / 20).astype(np.float32) / 2
    soundfile.write(tmp_path / "speak.flac", speak, 48000)
    soundfile.write(tmp_path / "listen.flac", np.zeros(24000, np.float32), 48000)
    sounds = {"speak": tmp_path / "speak.flac", "listen": tmp_path / "listen.flac"}
    target = joined(picture, sounds, tmp_path / "x" / "out.mkv")
    facts = probe(target)
    assert (facts.fps, facts.n_video_packets, facts.audio_channels, facts.audio_rate_hz) == (25.0, 25, 2, 48000)
    assert joined(picture, sounds, tmp_path / "again.mkv").read_bytes() == target.read_bytes()
    with AudioReader(target, 48000, mono=False) as reader:
        heard_CN = reader.read(0.0, 1.0)
    np.testing.assert_allclose(heard_CN[0], speak, atol=1e-4)
    assert not heard_CN[1].any()
    assert joined(picture, {}, tmp_path / "y.mkv") == picture
    alone = joined(picture, {"sound": sounds["speak"]}, tmp_path / "z.mkv")
    assert probe(alone).audio_channels == 1
    assert joined(alone, {"sound": sounds["speak"]}, tmp_path / "w.mkv") == alone, "it has a sound of its own"
    with pytest.raises(MediaError):
        joined(write(tmp_path / "bad.mp4"), sounds, tmp_path / "v.mkv")
