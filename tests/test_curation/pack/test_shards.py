"""Tars: readable by tarfile and webdataset, every member also by its offset alone, equal bytes for equal members."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st

from curation.pack.shards import end_of_archive, member_header, read_members, stored_size, tar_bytes, write_members

names = st.text("abcdefghij0123456789-_.", min_size=1, max_size=60).filter(lambda n: n.strip(".") == n)
members = st.lists(st.tuples(names, st.binary(max_size=2000)), max_size=12, unique_by=lambda m: m[0])


@given(members)
def test_members_read_back_by_tarfile_and_by_offset(items: list[tuple[str, bytes]]) -> None:
    out = io.BytesIO()
    index = write_members(out, items)
    assert out.tell() == stored_size(len(d) for _, d in items)
    end_of_archive(out)
    data = out.getvalue()
    assert [(n, data[o : o + z]) for n, o, z in index] == items
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.getnames() == [n for n, _ in items]
    assert list(read_members(data)) == items == list(read_members(tar_bytes(items)))
    assert tar_bytes(items) == data


@given(st.dictionaries(st.sampled_from(("mp4", "speak.flac", "json", "ref_0.jpg")), st.binary(max_size=2000)))
def test_bytes_are_those_of_webdatasets_writer(parts: dict[str, bytes]) -> None:
    theirs = io.BytesIO()
    with webdataset.TarWriter(theirs, user="", group="", mode=0o644, mtime=0, encoder=False) as writer:
        writer.write({"__key__": "a-0001", **parts})
    ours = tar_bytes((f"a-0001.{suffix}", data) for suffix, data in sorted(parts.items()))
    assert theirs.getvalue().startswith(ours)
    assert not any(theirs.getvalue()[len(ours) :])  # it fills up its last 10 KiB with zeros


def test_too_long_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="100 bytes"):
        member_header("x" * 101, 1)


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)  # webdataset leaves its file to the collector
def test_webdataset_groups_members_by_key(tmp_path: Path) -> None:
    items = [("a-0001.mp4", b"v"), ("a-0001.speak.flac", b"s"), ("a-0001.json", b"{}"), ("b-0002.mp4", b"w")]
    (tmp_path / "x.tar").write_bytes(tar_bytes(items))
    read = list(webdataset.WebDataset([str(tmp_path / "x.tar")], shardshuffle=False))
    assert [s["__key__"] for s in read] == ["a-0001", "b-0002"]
    assert read[0]["speak.flac"] == b"s"
