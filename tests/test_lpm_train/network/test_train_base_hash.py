"""A base is known by all bytes of its tensors: no other passes for it, a start reads it once, earlier runs go on."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import train_case as case
import wan_case as wan
from safetensors.torch import load_file, save_file
from torch import Tensor

from lpm_train.config import Config, ConfigError, override
from lpm_train.network import base_hash
from lpm_train.network.base import Files, open_base, same_base
from lpm_train.resolve import resolve
from lpm_train.session import _saved
from lpm_train.training.checkpoint import CheckpointError, Meta, load, save
from lpm_train.training.stage import make_stage

FILE = "diffusion_pytorch_model.safetensors"
OTHER = "holds other weights than this run began with"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPENLPM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(base_hash, "WORTH", 1)
    monkeypatch.setattr(base_hash, "_made", {})
    return tmp_path / "cache" / "bases"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One more for each time that all weights are read for a hash."""
    out: list[int] = []
    plain = base_hash.hashed

    def counted(tensors: Mapping[str, Path]) -> str:
        out.append(1)
        return plain(tensors)

    monkeypatch.setattr(base_hash, "hashed", counted)
    return out


def new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_hash, "_made", {})


def made(folder: Path, seed: int = 0) -> Path:
    """Save tensors of several types, of which samples see little."""
    g = torch.Generator().manual_seed(seed)
    weights = {
        "b.weight": torch.randn(30, 70, generator=g), "a.weight": torch.randn(5, 100, generator=g).bfloat16(),
        "c.bias": torch.randn(200, generator=g).half(), "none": torch.zeros(0, 4),
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    save_file(weights, folder / FILE)
    return folder


def flip(file: Path, at: int, later_s: int = 1) -> None:
    """Change one bit of a file, `later_s` seconds after it was last changed."""
    data, before = bytearray(file.read_bytes()), file.stat()
    data[at] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + later_s * 10**9))


def tensors(file: Path) -> range:
    """Return which bytes of a safetensors file are those of tensors."""
    data = file.read_bytes()
    return range(8 + struct.unpack("<Q", data[:8])[0], len(data))


def test_every_byte_counts(tmp_path: Path) -> None:
    file = made(tmp_path / "base") / FILE
    all_bytes, hidden = tensors(file), 0
    want, samples = Files(file.parent).sha256, Files(file.parent).samples
    for at in {*all_bytes[::97], all_bytes[0], all_bytes[-1]}:
        flip(file, at)
        assert Files(file.parent).sha256 != want, at
        hidden += Files(file.parent).samples == samples
        flip(file, at)
    assert hidden and Files(file.parent).sha256 == want


def test_names_types_and_shapes_count(tmp_path: Path) -> None:
    folder, hashes = tmp_path / "base", set()
    folder.mkdir()
    plain = torch.arange(12, dtype=torch.float32)
    changes: list[dict[str, Tensor]] = [
        {"a": plain}, {"b": plain}, {"a": plain.view(3, 4)}, {"a": plain.view(torch.int32)}, {"a": plain, "b": plain},
        {"a": plain[:6], "b": plain[6:]}, {"a": plain[:4], "b": plain[4:]},
    ]  # fmt: skip
    for i, weights in enumerate(changes):
        save_file({n: w.clone() for n, w in weights.items()}, folder / FILE)
        os.utime(folder / FILE, (i, i))
        hashes.add(Files(folder).sha256)
    assert len(hashes) == len(changes)


def test_it_does_not_matter_how_files_split_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, several, indexed = made(tmp_path / "one"), tmp_path / "several", tmp_path / "indexed"
    for folder in (several, indexed):
        folder.mkdir()
        for i, (name, weight) in enumerate(load_file(one / FILE).items()):
            save_file({name: weight}, folder / f"{9 - i}.safetensors", {"made": "for a test"})
    (indexed / "a.safetensors.index.json").write_text(
        json.dumps({"weight_map": {n: f.name for n, f in Files(several)._in.items()}})
    )
    (want,) = {Files(folder).sha256 for folder in (one, several, indexed)}
    assert want.startswith("all:") and len(want) == 4 + 64
    monkeypatch.setattr(base_hash, "_AT_ONCE", 64)  # nor in what pieces they are read
    assert base_hash.hashed(Files(several)._in) == want


def test_a_second_start_does_not_read_all_again(
    tmp_path: Path, cache: Path, read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made(tmp_path / "base")
    want = Files(folder).sha256
    new_process(monkeypatch)
    monkeypatch.chdir(tmp_path)
    assert Files(folder).sha256 == Files(Path("base")).sha256 == want and len(read) == 1
    (entry,) = (p for p in cache.iterdir() if p.suffix != ".lock")
    entry.write_bytes(b"\xff" + entry.read_bytes()[9:30])  # damaged
    assert Files(folder).sha256 == want and len(read) == 2
    assert Files(made(tmp_path / "other", 1)).sha256 != want and len(read) == 3


def test_of_several_that_start_at_once_one_reads(tmp_path: Path, read: list[int]) -> None:
    folder = made(tmp_path / "base")
    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(lambda _: Files(folder).sha256, range(4)))) == len(read) == 1


@pytest.mark.parametrize("change", ["time", "size", "samples", "file"])
def test_a_changed_file_is_read_again(change: str, tmp_path: Path, read: list[int]) -> None:
    folder = made(tmp_path / "base")
    before, file = Files(folder).sha256, folder / FILE
    if change == "time":
        flip(file, tensors(file)[-1])
    elif change == "size":
        stood = file.stat()
        save_file({**load_file(file), "c.bias": torch.zeros(300).half()}, file)
        os.utime(file, ns=(stood.st_atime_ns, stood.st_mtime_ns))
    elif change == "samples":  # as where another base of the same shape is unpacked with a constant time
        stood = file.stat()
        made(folder, 1)
        os.utime(file, ns=(stood.st_atime_ns, stood.st_mtime_ns))
        assert file.stat().st_size == stood.st_size
    else:
        save_file({"d": torch.zeros(3)}, folder / "more.safetensors")
    assert Files(folder).sha256 != before and len(read) == 2


def test_what_is_written_while_it_is_read_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, plain = made(tmp_path / "base") / FILE, base_hash.hashed

    def meanwhile(tensors_: Mapping[str, Path]) -> str:
        out = plain(tensors_)
        flip(file, tensors(file)[-1])
        return out

    with monkeypatch.context() as patch:
        patch.setattr(base_hash, "hashed", meanwhile)
        before = Files(file.parent).sha256
    flip(file, tensors(file)[-1], later_s=-1)  # as it was
    assert Files(file.parent).sha256 == before
    flip(file, tensors(file)[-1])
    assert Files(file.parent).sha256 != before


def test_a_cache_that_cannot_be_written_is_said_and_done_without(
    tmp_path: Path, cache: Path, read: list[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = made(tmp_path / "base")
    want = Files(folder).sha256

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    (entry,) = (p for p in cache.iterdir() if p.suffix != ".lock")
    entry.unlink()
    new_process(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert Files(folder).sha256 == want and "No space left" in caplog.text and "OPENLPM_CACHE" in caplog.text
    assert not entry.exists()
    caplog.clear()
    new_process(monkeypatch)
    monkeypatch.setenv("OPENLPM_CACHE", str(folder / FILE))  # no folder
    assert [Files(folder).sha256 for _ in range(3)] == [want] * 3
    assert len(read) == 3 and len(caplog.records) == 1  # one process reads once, and says so once


def test_small_bases_leave_no_trace(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made(tmp_path / "base")
    monkeypatch.setattr(base_hash, "WORTH", 1 << 20)
    small = Files(folder).sha256
    assert not cache.exists()
    monkeypatch.setattr(base_hash, "WORTH", 1)
    assert Files(folder).sha256 == small


def test_a_file_that_is_cut_is_named(tmp_path: Path) -> None:
    file = made(tmp_path / "base") / FILE
    files = Files(file.parent)
    os.truncate(file, tensors(file)[-1])
    with pytest.raises(ConfigError, match=f"{FILE} is missing or damaged: it ends inside of "):
        base_hash.hashed(files._in)
    file.unlink()
    with pytest.raises(ConfigError, match=f"{FILE} is missing or damaged"):
        base_hash.remembered(files._in, "")


def settings(tmp_path: Path, *changes: str, rank: int = 2) -> Config:
    """Put a base that fits `train_case` into its settings."""
    if not (tmp_path / "base").exists():
        wan.network(text_dim=case.DT, in_channels=case.C, out_channels=case.C).save_pretrained(tmp_path / "base")
    return override(wan.settings(tmp_path / "base", case.config(), rank=rank), changes)


def of_before(config: Config) -> Config:
    """Give a configuration the hash that an earlier run has."""
    return replace(config, base=replace(config.base, sha256=open_base(config.base.weights).files.samples))


def unseen(base: Path) -> None:
    """Change a bit that no sample sees: the last byte of the largest weight."""
    file, before = base / FILE, Files(base).samples
    begin = tensors(file)[0]
    said = json.loads(file.read_bytes()[8:begin])
    flip(
        file,
        begin + max((t["data_offsets"] for t in said.values() if "dtype" in t), key=lambda at: at[1] - at[0])[1] - 1,
    )
    assert Files(base).samples == before


def test_a_base_in_which_one_bit_differs_is_refused(tmp_path: Path) -> None:
    config = settings(tmp_path)
    make_stage(config)
    unseen(tmp_path / "base")
    with pytest.raises(ConfigError, match=OTHER):
        make_stage(config)


def test_a_run_of_before_goes_on_with_its_base_and_no_other(tmp_path: Path) -> None:
    config = settings(tmp_path)
    before = of_before(config)
    assert len(before.base.sha256) == 64
    path = save(tmp_path / "run", make_stage(before), before, Meta(step=1), keep=1)
    named = replace(config, base=resolve("toy", "d", base=config.base.weights).base)  # as `--base` names it anew
    assert named.base.sha256.startswith("all:")
    for here in (before, named):
        assert load(path, make_stage(here), here).step == 1
        assert _saved(path, here).path == path  # as the stage before, too

    file = tmp_path / "base" / FILE
    flip(file, tensors(file)[0])
    with pytest.raises(ConfigError, match=OTHER):
        make_stage(before)
    named = replace(config, base=resolve("toy", "d", base=config.base.weights).base)
    with pytest.raises(CheckpointError, match="was written with another base"):
        load(path, make_stage(named), named)
    with pytest.raises(ConfigError, match=r"holds another model: base\.sha256"):
        _saved(path, named)


@pytest.mark.parametrize("earlier", [False, True])
def test_a_run_goes_on_where_its_base_has_moved(earlier: bool, tmp_path: Path) -> None:
    config = of_before(settings(tmp_path)) if earlier else settings(tmp_path)
    path = save(tmp_path / "run", make_stage(config), config, Meta(step=1), keep=1)
    (tmp_path / "base").rename(tmp_path / "moved")
    moved = override(config, [f"base.weights=wan:{tmp_path / 'moved'}"])
    assert load(path, make_stage(moved), moved).step == 1


def test_hashes_of_one_kind_are_compared_without_the_files(tmp_path: Path) -> None:
    config = settings(tmp_path)
    (tmp_path / "base").rename(tmp_path / "moved")
    assert same_base(config.base, config.base)
    assert not same_base(config.base, replace(config.base, sha256="all:0"))
    assert not same_base(config.base, replace(config.base, weights="", sha256=""))
    with pytest.raises(ConfigError, match=r"no config\.json of a Wan network"):
        same_base(config.base, replace(config.base, sha256="0"))
