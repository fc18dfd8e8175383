"""Whatever is done to a packed dataset, verification names it, and never ends in a traceback."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from packed_toy import made

from curation.dataset import DatasetError
from curation.engine.run import locked
from curation.storage.store import StoreError
from curation.verify import Certificate, certify
from curation.verify.repair import opened, repair
from schemas.samples.members import MEMBERS

FREE = ("runs", "progress", "report", "catalog.duckdb", ".lock")
"""Files whose bytes carry no promise."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("damage")
    return made(root / "in", root / "out")


@pytest.fixture
def out(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "out"))


def found(out: Path) -> Certificate:
    try:
        return certify(opened(str(out)), media=False)
    except (DatasetError, StoreError) as e:  # what `lpm` prints as the whole answer
        return Certificate([type("Said", (), {"what": str(e)})()], [], None)  # type: ignore[list-item]


def said(out: Path) -> str:
    return "\n".join(p.what for p in found(out).problems)


def flip(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at % len(data)] ^= 1 << at % 8
    file.write_bytes(data)


def first_row(out: Path) -> dict[str, Any]:
    row: dict[str, Any] = pq.read_table(out / "manifest.parquet").to_pylist()[0]
    return row


def test_a_whole_dataset_has_a_root_that_a_copy_has_too(whole: Path, out: Path) -> None:
    one, other = found(whole), found(out)
    assert one.problems == other.problems == [] and one.notes == []
    assert one.root == other.root and one.root is not None and len(one.root) == 64


def test_every_member_of_a_shard_is_held_against_its_hash(out: Path) -> None:
    row = first_row(out)
    names = [m["name"] for m in row["members"]]
    assert {n.partition(".")[2] for n in names} == set(MEMBERS)
    for m in row["members"]:
        if not m["name"].endswith(".json"):
            flip(out / "shards" / row["shard"], m["offset"] + 7)
    shard = (out / "shards" / row["shard"]).read_bytes()
    (m,) = (m for m in row["members"] if m["name"].endswith(".json"))
    record = shard[m["offset"] : m["offset"] + m["size"]].replace(b'"n_frames": 100', b'"n_frames": 101')
    (out / "shards" / row["shard"]).write_bytes(shard[: m["offset"]] + record + shard[m["offset"] + m["size"] :])
    text = said(out)
    for name in names:
        assert f"{name} in shards/{row['shard']} changed since it was packed" in text
    assert "n_frames" in text and f"shards/{row['shard']} changed since it was packed" in text


FALSIFIED: dict[str, Any] = {
    "state": "idle", "license": "CC0", "text": "hello", "duration_s": 1.0, "split": "test", "policy_id": "x",
    "annotators": "{}", "shard_sha256": "00" * 32, "member_sha256": ["00" * 32] * 6,
}  # fmt: skip


def falsify(out: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    table = pq.read_table(out / "manifest.parquet")
    pq.write_table(pa.Table.from_pylist(change(table.to_pylist()), schema=table.schema), out / "manifest.parquet")


def test_every_column_of_the_manifest_is_recomputed(out: Path) -> None:
    def change(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**rows[0], **FALSIFIED}, *rows[1:], rows[1]]

    falsify(out, change)
    (out / "seal.json").unlink()  # as somebody would who wants it to pass
    text = said(out)
    for column in FALSIFIED.keys() - {"member_sha256"}:
        assert f"manifest.parquet: {column} of sample" in text, column
    assert "changed since it was packed" in text and "table manifest holds 2 rows of" in text


@pytest.mark.parametrize("member", [{"offset": 1024}, {"offset": -5}, {"size": 10**12}, {"name": "x.mp4"}])
@pytest.mark.slow
def test_a_wrong_place_is_named(out: Path, member: dict[str, Any]) -> None:
    def change(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        members = [{**rows[0]["members"][0], **member}, *rows[0]["members"][1:]]
        return [{**rows[0], "members": members}, *rows[1:]]

    falsify(out, change)
    assert "manifest.parquet: " in said(out)


def test_what_is_gone_corrupt_or_outside_is_named(out: Path, tmp_path: Path) -> None:
    sidecar = sorted((out / "shards").glob("*.parquet"))[0]
    sidecar.unlink()
    commits = sorted((out / "commits" / "toy_pairing").rglob("*.json"))
    commits[0].write_text("[]")
    gone = json.loads(commits[1].read_text())["tables"]["segments"]["file"]
    commits[1].unlink()
    table = sorted((out / "tables" / "tracks").rglob("*.parquet"))[0]
    table.write_bytes(b"PAR1 no table PAR1")
    secret = tmp_path / "secret.tar"
    secret.write_bytes(b"x" * 10240)
    falsify(out, lambda rows: [{**rows[0], "shard": "../../secret.tar"}, *rows[1:]])
    text = said(out)
    for name in (f"shards/{sidecar.name} is gone", f"{commits[0].relative_to(out)} is not a JSON object"):
        assert name in text
    assert f"{gone} belongs to no commit" in text
    assert f"{table.relative_to(out)} changed since stage toy_tracks wrote it" in text
    assert "names a shard '../../secret.tar', which is not under shards/" in text


def promised(out: Path) -> list[Path]:
    files = [p for p in sorted(out.rglob("*")) if p.is_file() and p.stat().st_size]
    return [p for p in files if p.relative_to(out).parts[0] not in FREE]


def test_a_flipped_byte_in_each_file_is_named(whole: Path, tmp_path: Path) -> None:
    chance = random.Random(7)
    alone = {"dataset.json", "workflow.json", "seal.json"}
    here = Path(shutil.copytree(whole, tmp_path / "all"))
    files = [p for p in promised(here) if p.name not in alone]
    files.sort(key=lambda p: p.relative_to(here).parts[0] in ("head.json", "state"))  # of content that others have too
    for file in files:
        flip(file, chance.randrange(file.stat().st_size))
    text = said(here)
    assert [p for p in files if str(p.relative_to(here)) not in text] == []


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("workflow.json", "name workflow and policy to `lpm run` again"),
        ("dataset.json", "`lpm verify --repair` writes"),
    ],
)
def test_a_dataset_that_cannot_be_opened_is_verified_all_the_same(out: Path, name: str, cure: str) -> None:
    (out / name).write_bytes(b"\xff" + (out / name).read_bytes())
    gone = sorted((out / "clips").rglob("*.tar"))[0]
    gone.unlink()
    text = said(out)
    assert f"{name} is damaged; {cure}" in text and text.count(f"{name} ") == 1
    assert f"{gone.relative_to(out)} is gone" in text, "what else is damaged is found too"
    assert "`lpm verify` says" not in text
    dataset = opened(str(out))
    with locked(dataset.store):
        assert repair(dataset).withdrawn
    with pytest.raises(DatasetError, match="is not a dataset"):
        opened(str(out.parent))


def test_one_damaged_file_has_one_cure(out: Path) -> None:
    """Tables of which there is one in all are vouched for by their commit, and sealed too."""
    tables = sorted((out / "tables").glob("*/dataset.parquet"))
    vouched = {f["file"] for c in (out / "commits").glob("*/dataset.json")
               for f in json.loads(c.read_text())["tables"].values()}  # fmt: skip
    names = [n for n in (str(p.relative_to(out)) for p in tables) if n in vouched]
    assert names
    flip(out / names[0], 40)
    text = said(out)
    assert text.count(f"{names[0]} ") == 1 and "delete it and run `lpm run` again" in text
    (out / names[0]).unlink()
    assert said(out).count(f"{names[0]} ") == 1
    for commit in (out / "commits").glob("*/dataset.json"):
        commit.unlink()  # as a repair withdraws it
    assert f"{names[0]} is gone; `lpm run` makes it again" in said(out)


@pytest.mark.slow
def test_any_flipped_byte_is_named(whole: Path, tmp_path: Path) -> None:
    chance = random.Random(11)
    here = Path(shutil.copytree(whole, tmp_path / "one"))
    files = promised(here)
    for file in [*(p for p in files if p.parent == here), *chance.choices(files, k=16)]:
        before, at = file.read_bytes(), chance.randrange(file.stat().st_size)
        flip(file, at)
        assert file.name in said(here), (file, at)
        file.write_bytes(before)
    assert said(here) == ""
