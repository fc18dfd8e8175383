"""Forgetting: what remains equals a dataset that never had it, wherever the command was stopped, and holds no trace."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import packed_toy
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import lpm, lpm_well
from engine_case import GOOD, go, policy, snapshot
from toy import CALLS, WORKFLOW, ToyTracks, write_sources

from curation import Dataset
from curation.engine.run import Job, RunStoppedError
from curation.engine.workflow import resolve
from curation.forget.forget import Doomed, ForgetError, find, forget, lift
from curation.forget.strip import strip
from curation.forget.traces import search
from curation.pack.pack import pack
from curation.pack.shards import end_of_archive, stored_size, write_members
from curation.publish import croissant
from curation.publish.card import CARD, write_card
from curation.publish.figures import figures
from curation.storage.compaction import tidy
from curation.storage.store import Store
from curation.verify import verify
from schemas import tables as t

SPECS = {n: {**GOOD, "duration_s": 10.0 + i} for i, n in enumerate("abcd")}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of four sources in `out`, and in `never` one of three of them."""
    root = tmp_path_factory.mktemp("forget")
    folder = write_sources(root / "in", **SPECS)
    go(folder, root / "out")
    (folder / "b.mp4").rename(root / "b.mp4")
    go(folder, root / "never")
    (root / "b.mp4").rename(folder / "b.mp4")
    return root


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "out", tmp_path / "out"))


def job(out: Path) -> Job:
    return Job(str(out), resolve(WORKFLOW), policy(), in_process=True)


def chosen(out: Path, *names: str) -> list[Doomed]:
    return find(Dataset(str(out)), names)


def results(out: Path) -> dict[str, str]:
    return {n: h for n, h in snapshot(out).items() if not n.startswith("tables/forgotten/")}


def rows(out: Path) -> list[dict[str, Any]]:
    return Dataset(str(out)).table(t.FORGOTTEN).to_pylist()


def test_what_is_left_is_a_dataset_that_never_had_it(made: Path, out: Path) -> None:
    (source,) = chosen(out, "b.mp4")
    CALLS.clear()
    proof = forget(job(out), [source], reason="request 17")
    assert set(CALLS) == {"toy_identity"}  # nothing is measured again but what concerns all sources
    assert not proof.traces and proof.files > 10
    assert results(out) == results(made / "never")
    assert verify(Dataset(str(out)), media=False) == verify(Dataset(str(made / "never")), media=False)
    row = rows(out)[0]
    assert (row["source_id"], row["reason"], row["proven"]) == (source.source_id, "request 17", True)


def test_rows_that_were_gathered_into_larger_files_go_too(out: Path) -> None:
    assert tidy(Store(str(out)), min_files=2).written
    sources = chosen(out, "b.mp4", "c.mp4")
    assert not forget(job(out), sources).traces
    assert Dataset(str(out)).table(t.TRACKS).num_rows == 4
    assert sorted(r["name"] for r in Dataset(str(out)).table(t.INPUTS).to_pylist()) == ["a.mp4", "d.mp4"]


def test_a_command_that_was_stopped_is_finished_by_the_next(made: Path, out: Path, tmp_path: Path) -> None:
    phases: list[str] = []
    probe = Path(shutil.copytree(out, tmp_path / "probe"))
    forget(job(probe), chosen(out, "b.mp4"), event=lambda kind, value: phases.append(value))
    assert phases[:3] == ["tables and clips", "precomputed sets", "logs"] and phases[-1] == "search"
    for stop in phases:
        here = Path(shutil.copytree(made / "out", tmp_path / stop))
        source_id = chosen(here, "b.mp4")[0].source_id

        def until(kind: str, value: Any, stop: str = stop) -> None:
            if value == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            forget(job(here), chosen(here, source_id), event=until)
        assert not rows(here)[0]["proven"]
        assert not forget(job(here), chosen(here, source_id)).traces
        assert results(here) == results(made / "never"), stop


def test_it_goes_also_where_the_others_wait_for_work(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer program must not have to measure everything again first; what it kept stays kept."""
    kept = {r["unit_id"] for r in Dataset(str(out)).table(t.DECISIONS).to_pylist() if r["outcome"] == "kept"}
    monkeypatch.setattr(ToyTracks, "version", 2)
    source = chosen(out, "b.mp4")[0]
    CALLS.clear()
    proof = forget(job(out), [source])
    assert not CALLS and not proof.traces and not proof.whole
    after = {r["unit_id"] for r in Dataset(str(out)).table(t.DECISIONS).to_pylist() if r["outcome"] == "kept"}
    assert after == {i for i in kept if not i.startswith(source.source_id)}
    assert {r["source_id"] for r in Dataset(str(out)).table(t.TRACK_IDENTITIES).to_pylist()} == {
        r["source_id"] for r in Dataset(str(out)).table(t.INPUTS).to_pylist()
    }


def test_samples_that_name_it_leave_the_shards_and_the_others_keep_their_bytes(tmp_path: Path) -> None:
    gone, store = "0123456789abcdef", Store(str(tmp_path))
    samples = {"a-1": "{}", "b-2": json.dumps({"references": [gone]}), f"{gone}-3": "{}", "d-4": "{}"}
    for shard, keys in (("train-000000", ["a-1", "b-2"]), ("train-000001", [f"{gone}-3"]), ("val-000000", ["d-4"])):
        rows: list[dict[str, Any]] = []
        with store.open_output(f"shards/{shard}.tar") as f:
            at = 0
            for key in keys:
                members = [(f"{key}.json", samples[key].encode()), (f"{key}.mp4", key.encode() * 400)]
                index = write_members(f, members, at)
                at += stored_size(len(data) for _, data in members)
                places = [{"name": n, "offset": o, "size": s} for n, o, s in index]
                rows.append({"segment_id": key, "shard": f"{shard}.tar", "members": places})
            end_of_archive(f)
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "shards" / f"{shard}.parquet")
    untouched = (tmp_path / "shards" / "val-000000.tar").read_bytes()
    assert strip(store, [gone]) == 2
    assert sorted(p.name for p in (tmp_path / "shards").glob("*.tar")) == ["train-000000.tar", "val-000000.tar"]
    assert (tmp_path / "shards" / "val-000000.tar").read_bytes() == untouched
    left = pq.read_table(tmp_path / "manifest.parquet").to_pylist()
    assert [r["segment_id"] for r in left] == ["a-1", "d-4"]
    for row in left:
        place = next(m for m in row["members"] if m["name"].endswith(".mp4"))
        data = store.read(f"shards/{row['shard']}", place["offset"], place["size"])
        assert data == row["segment_id"].encode() * 400
    assert not search(store, [gone]).traces and strip(store, [gone]) == 0


def carded(out: Path) -> Path:
    """Describe a dataset as for publishing."""
    data = Dataset(str(out))
    found = figures(data)
    made = croissant.metadata(data, found, "Four", "https://x.org/4", "2026-01-02")
    data.store.write_json(croissant.FILE, made, sort=False)
    write_card(data, found, "Four")
    return out


def described(out: Path) -> list[str]:
    return [(out / n).read_text() if (out / n).exists() else "" for n in (CARD, croissant.FILE)]


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("carded")
    return packed_toy.made(root / "in", root / "out")


@pytest.mark.parametrize("names", [("a.mp4",), ("a.mp4", "b.mp4", "c.mp4")])
def test_card_and_metadata_tell_of_what_is_left_and_go_where_nothing_is(
    packed: Path, tmp_path: Path, names: tuple[str, ...]
) -> None:
    out = carded(Path(shutil.copytree(packed, tmp_path / "out")))
    before, phases = described(out), list[str]()
    proof = forget(
        packed_toy.job(out), chosen(out, *names), packer=pack, event=lambda kind, value: phases.append(value)
    )
    assert proof.whole and not proof.traces
    after, left = described(out), len(t.MANIFEST.rows(Dataset(str(out)).table(t.MANIFEST)))
    assert bool(left) == (len(names) == 1)
    assert after == (described(carded(out)) if left else ["", ""]) and after != before
    assert bool(left) != any("`lpm card` writes them again" in phase for phase in phases)


def test_a_card_goes_where_the_others_wait_for_work_but_not_a_users_own(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = carded(Path(shutil.copytree(packed, tmp_path / "out")))
    (out / CARD).write_text("# my notes\n")
    monkeypatch.setattr(ToyTracks, "version", 2)
    assert not forget(packed_toy.job(out), chosen(out, "a.mp4"), packer=pack).whole
    assert described(out) == ["# my notes\n", ""]


def test_its_bytes_are_refused_under_any_name_until_that_is_lifted(made: Path, out: Path, tmp_path: Path) -> None:
    source = chosen(out, "b.mp4")
    forget(job(out), source)
    again = Path(shutil.copytree(made / "in", tmp_path / "in"))
    (again / "b.mp4").rename(again / "other.mp4")
    go(again, out)
    names = {r["name"] for r in Dataset(str(out)).table(t.INPUTS).to_pylist()}
    assert "other.mp4" not in names and not search(Store(str(out)), [source[0].source_id]).traces
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(made / "in" / "b.mp4", alone)
    fresh = tmp_path / "fresh"
    shutil.copytree(out / "tables" / "forgotten", fresh / "tables" / "forgotten")
    (fresh / "dataset.json").write_text((out / "dataset.json").read_text())
    with pytest.raises(RunStoppedError, match="all that was named is forgotten"):
        go(alone, fresh)
    assert lift(Store(str(out)), [source[0].source_id]) == 1
    go(alone, out)
    assert source[0].source_id in Dataset(str(out)).table(t.INPUTS)["source_id"].to_pylist()


def test_a_person_means_every_source_they_are_seen_in(out: Path) -> None:
    everyone = find(Dataset(str(out)), [], ["p-0"])
    assert len(everyone) == 4
    assert not forget(job(out), everyone).traces
    assert Dataset(str(out)).table(t.DECISIONS).num_rows == 0


def test_names_that_say_nothing_or_too_much_are_refused(made: Path, out: Path, tmp_path: Path) -> None:
    with pytest.raises(ForgetError, match=r"no source 'z.mp4'"):
        chosen(out, "z.mp4")
    with pytest.raises(ForgetError, match=r"no identity 'p-9'"):
        find(Dataset(str(out)), [], ["p-9"])
    other = write_sources(tmp_path / "other", a={**GOOD, "duration_s": 33.0})
    go(other, out)
    with pytest.raises(ForgetError, match=r"2 sources are called 'a.mp4'"):
        chosen(out, "a.mp4")
    assert len(chosen(out, str(other / "a.mp4"))) == 1


def test_the_search_looks_everywhere(tmp_path: Path) -> None:
    needle, store = "0123456789abcdef", Store(str(tmp_path))
    places = pa.array([[{"name": "x", "of": [f"{needle}-t0"]}]])
    texts = {"deep": places, "n": pa.array([1])}
    pq.write_table(pa.table(texts), tmp_path / "deep.parquet", compression="zstd")
    pq.write_table(pa.table({"n": pa.array([1]), "deep": pa.array(["no"])}), tmp_path / "clean.parquet")
    big = bytearray(9 << 20)
    big[(4 << 20) - 7 : (4 << 20) + 9] = needle.encode()  # across two blocks of the search
    (tmp_path / "big.tar").write_bytes(bytes(big))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / f"{needle}.json").write_text("{}")
    (tmp_path / "log.jsonl").write_text(json.dumps({"source_id": "another"}))
    proof = search(store, [needle])
    assert proof.traces == ("big.tar", "deep.parquet", f"sub/{needle}.json") and proof.files == 5


def test_logs_and_precomputed_shards_lose_it(out: Path) -> None:
    source = chosen(out, "b.mp4")[0]
    sets = out / "precomputed" / "x"
    sets.mkdir(parents=True)
    for name, held in (("train-000000", source.source_id), ("train-000001", "feedfeedfeedfeed")):
        pq.write_table(pa.table({"sample_id": [f"{held}-t0000-00000000"]}), sets / f"{name}.parquet")
        (sets / f"{name}.tar").write_bytes(held.encode())
    assert any(source.source_id in p.read_text() for p in out.glob("runs/*/steps/*.jsonl"))
    assert not forget(job(out), [source]).traces
    assert sorted(p.name for p in sets.iterdir()) == ["train-000001.parquet", "train-000001.tar"]
    assert all(p.read_text() for p in out.glob("runs/*/steps/*.jsonl"))


def test_the_command_asks_shows_and_proves(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "dataset"
    workflow = tmp_path / "toy.yaml"
    workflow.write_text(json.dumps(WORKFLOW.model_dump(mode="json", exclude={"pack"})))
    lpm_well("run", str(made / "in"), "--out", str(out), "--workflow", str(workflow), "--engine", "local")
    before = snapshot(out)
    said = lpm_well("forget", str(out), "b.mp4", "--dry-run").stdout
    assert "samples, from" in said and snapshot(out) == before
    refused = lpm("forget", str(out), "b.mp4")
    assert refused.returncode == 1 and "add --yes" in refused.stderr and snapshot(out) == before
    assert lpm("forget", str(out)).returncode == 1
    said = lpm_well("forget", str(out), "b.mp4", "--yes", "--reason", "asked").stdout
    assert "nothing is left of them" in said
    again = lpm_well("run", str(made / "in"), "--out", str(out), "--engine", "local")
    assert "left out, as they were forgotten" in again.stderr and "b.mp4" in again.stderr
    source_id = rows(out)[0]["source_id"]
    assert "1 sources may" in lpm_well("forget", str(out), source_id, "--lift").stdout
    assert lpm("forget", str(out), source_id, "--lift").returncode == 1
