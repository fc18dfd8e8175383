"""What was damaged is mended from what is intact: after the next run the bytes are those before the damage."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import lpm
from engine_case import snapshot
from packed_toy import job, made

from curation import Dataset
from curation.engine.engine_local import LocalEngine
from curation.engine.run import locked, run
from curation.pack.pack import pack
from curation.storage import compaction
from curation.verify import certify
from curation.verify.repair import repair


@pytest.mark.slow
def test_repair_and_a_run_give_the_bytes_before_the_damage(tmp_path: Path) -> None:
    out = made(tmp_path / "in", tmp_path / "out")
    before, root = snapshot(out), certify(Dataset(str(out)), media=False).root
    clips, commits = sorted((out / "clips").rglob("*.tar")), sorted((out / "commits/toy_pairing").rglob("*.json"))
    clips[0].write_bytes(b"no tar")
    clips[1].unlink()
    commits[0].write_text("[]")
    commits[1].unlink()
    next(iter(sorted((out / "tables/tracks").rglob("*.parquet")))).write_bytes(b"PAR1")
    (out / "tables/references/dataset.parquet").write_bytes(b"")
    (out / "tables/decisions/dataset.parquet").write_bytes(b"PAR1")
    shards = sorted((out / "shards").glob("train*"))
    shards[0].unlink()
    shards[-1].write_bytes(shards[-1].read_bytes()[:-2000])
    rows = pq.read_table(out / "manifest.parquet").to_pylist()
    pq.write_table(pa.Table.from_pylist([{**r, "state": "idle"} for r in rows]), out / "manifest.parquet")
    told: list[str] = []
    dataset = Dataset(str(out))
    with locked(dataset.store):
        done = repair(dataset, told.append)
    assert len(done.withdrawn) >= 5 and len(told) >= 10
    run(job(out), LocalEngine(), [], packer=pack)
    after = certify(Dataset(str(out)), media=False)
    assert after.problems == [] and after.root == root
    assert snapshot(out) == before
    assert compaction.tidy(dataset.store, min_files=2).written
    assert certify(Dataset(str(out)), media=False).root == root


@pytest.mark.slow
def test_lpm_repairs_shards_by_itself_and_compares_the_root(tmp_path: Path) -> None:
    out = made(tmp_path / "in", tmp_path / "out")
    before, kept = snapshot(out), Path(shutil.copytree(out, tmp_path / "kept"))
    shards = sorted((out / "shards").glob("*.tar"))
    shards[0].write_bytes(b"")
    (out / "dataset.json").write_text("{")
    damaged = lpm("verify", str(out), "--no-media")
    assert damaged.returncode == 1 and "dataset.json" in damaged.stdout + damaged.stderr
    assert "Traceback" not in damaged.stderr
    mended = lpm("verify", str(out), "--no-media", "--repair")
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert snapshot(out) == before
    (root,) = (line.split()[1] for line in mended.stdout.splitlines() if line.startswith("root "))
    assert lpm("verify", str(kept), "--no-media", "--root", root).returncode == 0
    other = lpm("verify", str(kept), "--no-media", "--root", "00" * 32)
    assert other.returncode == 1 and f"its root is {root}" in other.stdout
