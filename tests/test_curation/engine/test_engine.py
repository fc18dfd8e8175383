"""The engine's promises, on toy stages: resume, gating, quarantine, conservation, atomicity; both engines alike."""

from __future__ import annotations

import errno
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from engine_case import GOOD, by_name, go, killed, outcomes, policy, snapshot
from toy import CALLS, WORKFLOW, write_sources

from curation import Dataset
from curation.engine.engine_local import LocalEngine
from curation.engine.register import InputError, expand
from curation.engine.run import Job, RunStoppedError, run
from curation.engine.step import StageSetupError
from curation.engine.workflow import WorkflowError, resolve
from curation.storage.store import Store, StoreError
from schemas.settings.policy import PolicyError


def test_every_unit_is_accounted_for(tmp_path: Path) -> None:
    folder = write_sources(
        tmp_path / "in",
        good=GOOD, small={"duration_s": 10.0, "faces": [40]}, short={"duration_s": 2.0, "faces": [120]},
        empty={"duration_s": 9.0}, silent={**GOOD, "audio": False}, broken={**GOOD, "fail": "toy_tracks"},
    )  # fmt: skip
    result = go(folder, tmp_path / "out")
    assert by_name(tmp_path / "out") == {
        "good.mp4": ("kept", None, None),
        "small.mp4": ("filtered", "face_size", "human_presence"),
        "short.mp4": ("filtered", "duration", "single_shot"),
        "empty.mp4": ("filtered", "no_tracks", "human_presence"),
        "silent.mp4": ("filtered", "audio", "av_sync"),
        "broken.mp4": ("quarantined", "ValueError", "toy_tracks"),
    }
    assert all(b.unaccounted == 0 for b in result.balances)
    for b in result.balances:
        assert b.total == sum(b.counts.values())
        assert b.total_s == pytest.approx(sum(b.seconds.values()))
    rows = Dataset(str(tmp_path / "out")).query("SELECT stage, error, message, traceback FROM errors").fetchall()
    assert rows[0][:3] == ("toy_tracks", "ValueError", "made to fail in toy_tracks")
    assert "toy.py" in rows[0][3] and str(tmp_path) not in rows[0][3]


def test_second_run_does_nothing_and_settings_recompute_what_depends_on_them(tmp_path: Path) -> None:
    folder = write_sources(tmp_path / "in", a=GOOD, b={**GOOD, "duration_s": 7.0})
    go(folder, tmp_path / "out")
    before = snapshot(tmp_path / "out")
    go(folder, tmp_path / "out")
    assert not CALLS
    assert snapshot(tmp_path / "out") == before
    go(folder, tmp_path / "out", sets=("toy_active.tweak=2",))
    assert "toy_tracks" not in CALLS and CALLS["toy_active"] == 2 and CALLS["toy_pairing"] == 2
    # Pairing gave the same segments, so what only reads segments has nothing to do.
    assert "toy_packing" not in CALLS


def test_looser_policy_computes_only_what_is_missing(tmp_path: Path) -> None:
    folder = write_sources(tmp_path / "in", a=GOOD)
    go(folder, tmp_path / "out")
    assert CALLS["toy_active_units"] == 1
    before = outcomes(tmp_path / "out", "tracks")
    assert sorted(before.values()) == [("filtered", "face_size"), ("kept", None)]
    go(folder, tmp_path / "out", face_size="median_face_px >= 30")
    assert CALLS["toy_active_units"] == 1 and "toy_scan" not in CALLS
    assert all(o == "kept" for o, _ in outcomes(tmp_path / "out", "tracks").values())
    go(folder, tmp_path / "out")
    assert CALLS["toy_active_units"] == 0
    assert outcomes(tmp_path / "out", "tracks") == before


@pytest.mark.parametrize("keep", ["start_s = 0 OR n_frames > 0", "n_frames > 0"])
def test_what_a_stage_stopped_by_itself_is_measured_again_with_the_rest(tmp_path: Path, keep: str) -> None:
    folder = write_sources(tmp_path / "in", a=GOOD, b={**GOOD, "faces": [120, 130]})
    go(folder, tmp_path / "out", usable_state=keep)
    assert ("filtered", "usable_state") in outcomes(tmp_path / "out", "segments").values()
    for sets in (("toy_packing.tweak=2",), ("toy_packing.tweak=2", "toy_pairing.tweak=1.5")):
        result = go(folder, tmp_path / "out", sets=sets, usable_state=keep)
        assert not result.pending and not result.quarantined
        go(folder, tmp_path / f"new{len(sets)}", sets=sets, usable_state=keep)
        parts = ("tables", "commits", "clips")
        assert snapshot(tmp_path / "out", *parts) == snapshot(tmp_path / f"new{len(sets)}", *parts)
        go(folder, tmp_path / "out", sets=sets, usable_state=keep)
        assert not CALLS


def test_one_failing_unit_leaves_its_neighbours(tmp_path: Path) -> None:
    folder = write_sources(tmp_path / "in", a={"duration_s": 10.0, "faces": [120, 130, 140], "fail_track": 1})
    go(folder, tmp_path / "out")
    got = {i[-1]: o for i, o in outcomes(tmp_path / "out", "tracks").items()}
    assert got == {"0": ("kept", None), "1": ("quarantined", "ValueError"), "2": ("kept", None)}
    assert by_name(tmp_path / "out")["a.mp4"][0] == "kept"


def test_one_bad_source_among_many(tmp_path: Path) -> None:
    specs = {f"s{i:02d}": {**GOOD, "duration_s": 10.0 + i} for i in range(12)}
    specs["s05"]["fail"] = "toy_scan"
    go(write_sources(tmp_path / "in", **specs), tmp_path / "out")
    got = [o for o, *_ in by_name(tmp_path / "out").values()]
    assert (got.count("kept"), got.count("quarantined")) == (11, 1)


def test_missing_dependency_stops_the_run_before_the_first_item(tmp_path: Path) -> None:
    folder = write_sources(tmp_path / "in", a=GOOD)
    with pytest.raises(StageSetupError, match=r"toy_pairing.*missing_model"):
        go(folder, tmp_path / "out", sets=("toy_pairing.broken_import=true",))
    assert not CALLS and not list((tmp_path / "out" / "tables").glob("sources/**/*.parquet"))


def test_broken_installation_stops_the_run_and_quarantines_nothing(tmp_path: Path) -> None:
    specs = {f"s{i}": {**GOOD, "duration_s": 10.0 + i} for i in range(6)}
    folder = write_sources(tmp_path / "in", **specs)
    with pytest.raises(StageSetupError, match="installation"):
        go(folder, tmp_path / "out", sets=("toy_tracks.broken_run=true",))
    result = go(folder, tmp_path / "out")
    assert result.quarantined == 0 and len(by_name(tmp_path / "out")) == 6


def test_quarantined_items_are_tried_again_on_request_only(tmp_path: Path) -> None:
    folder = write_sources(tmp_path / "in", a={**GOOD, "fail": "toy_scan"}, b=GOOD)
    go(folder, tmp_path / "out")
    go(folder, tmp_path / "out")
    assert not CALLS
    go(folder, tmp_path / "out", retry=True)
    assert CALLS["toy_scan"] == 3  # one a window


def test_same_bytes_under_two_names_are_one_source(tmp_path: Path) -> None:
    folder = write_sources(tmp_path / "in", a=GOOD)
    (folder / "copy of a.mp4").write_bytes((folder / "a.mp4").read_bytes())
    go(folder, tmp_path / "out")
    assert CALLS["toy_probe"] == 1
    assert Dataset(str(tmp_path / "out")).query(
        "SELECT count(*), count(DISTINCT source_id) FROM inputs"
    ).fetchall() == [(2, 1)]


def test_replaced_file_leaves_no_orphans(tmp_path: Path) -> None:
    folder = write_sources(tmp_path / "in", a=GOOD)
    go(folder, tmp_path / "out")
    write_sources(tmp_path / "in", a={"duration_s": 8.0, "faces": [200]})
    go(folder, tmp_path / "out")
    assert len(outcomes(tmp_path / "out", "sources")) == 1
    assert Dataset(str(tmp_path / "out")).query("SELECT count(*) FROM sources").fetchall() == [(1,)]


def test_units_that_are_no_more_leave_no_rows_behind_even_where_the_policy_stops_all_new_ones(tmp_path: Path) -> None:
    folder = write_sources(tmp_path / "in", a=GOOD, b={**GOOD, "duration_s": 7.0})
    out = tmp_path / "out"
    counts = "SELECT (SELECT count(*) FROM segments), (SELECT count(*) FROM clips), (SELECT count(*) FROM asd_frames)"
    go(folder, out)
    assert Dataset(str(out)).query(counts).fetchall() == [(4, 2, 2)]
    # Every segment is another now, and none of them usable.
    go(folder, out, sets=("toy_pairing.tweak=3",))
    assert Dataset(str(out)).query(counts).fetchall() == [(2, 0, 2)]
    assert not list((out / "clips").rglob("*.tar"))
    # Every track is another now, and too small.
    go(folder, out, sets=("toy_tracks.tweak=1.1",), face_size="median_face_px >= 1000")
    assert Dataset(str(out)).query(counts).fetchall() == [(0, 0, 0)]
    go(folder, out, sets=("toy_tracks.tweak=1.1",), face_size="median_face_px >= 1000")
    assert not CALLS
    go(folder, out)
    assert Dataset(str(out)).query(counts).fetchall() == [(4, 2, 2)]
    # A stricter policy alone throws nothing away.
    go(folder, out, face_size="median_face_px >= 1000")
    assert Dataset(str(out)).query(counts).fetchall() == [(4, 2, 2)]


def test_changed_window_length_leaves_no_stale_windows(tmp_path: Path) -> None:
    folder = write_sources(tmp_path / "in", a={**GOOD, "duration_s": 20.0})
    go(folder, tmp_path / "out")
    assert Dataset(str(tmp_path / "out")).query("SELECT count(*) FROM cuts").fetchall() == [(4,)]
    wide = WORKFLOW.model_copy(update={"window_s": 100.0})
    run(Job(str(tmp_path / "out"), resolve(wide), policy()), LocalEngine(), [])
    assert Dataset(str(tmp_path / "out")).query("SELECT count(*) FROM cuts").fetchall() == [(0,)]


@pytest.mark.parametrize(
    "delay_s", [pytest.param(0.15, marks=pytest.mark.slow), 0.5, pytest.param(0.9, marks=pytest.mark.slow)]
)
def test_killed_at_any_moment_and_run_again_gives_the_same_dataset(tmp_path: Path, delay_s: float) -> None:
    specs = {f"s{i:02d}": {**GOOD, "duration_s": 10.0 + i} for i in range(12)}
    folder = write_sources(tmp_path / "in", **specs)
    go(folder, tmp_path / "whole")
    killed("engine_case", folder, tmp_path / "out", delay_s)
    go(folder, tmp_path / "out")
    same = ("tables", "commits", "clips")
    assert snapshot(tmp_path / "out", *same) == snapshot(tmp_path / "whole", *same)
    assert not list((tmp_path / "out").rglob(".tmp-*"))


def test_two_runs_at_once_are_refused(tmp_path: Path) -> None:
    import fcntl

    folder = write_sources(tmp_path / "in", a=GOOD)
    go(folder, tmp_path / "out")
    with (tmp_path / "out" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RunStoppedError, match="another run"):
            go(folder, tmp_path / "out")


def test_full_disk_ends_the_run_with_a_sentence_and_loses_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    folder = write_sources(tmp_path / "in", a=GOOD, b={**GOOD, "duration_s": 12.0})
    write = Store._write_local
    written = 0

    def full(target: Path, data: bytes) -> None:
        nonlocal written
        written += 1
        if written > 14:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(target, data)

    monkeypatch.setattr(Store, "_write_local", staticmethod(full))
    with pytest.raises(StoreError, match="disk is full"):
        go(folder, tmp_path / "out")
    monkeypatch.undo()
    result = go(folder, tmp_path / "out")
    assert result.quarantined == 0
    go(folder, tmp_path / "whole")
    assert snapshot(tmp_path / "out", "tables") == snapshot(tmp_path / "whole", "tables")


def test_read_only_output_is_refused_at_once(tmp_path: Path, monkeypatch: Any) -> None:
    folder = write_sources(tmp_path / "in", a=GOOD)
    real = Path.mkdir

    def refuse(self: Path, *args: Any, **kwargs: Any) -> None:  # root ignores permission bits, so refuse here
        if "out" in self.parts:
            raise PermissionError(errno.EACCES, "Permission denied")
        real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StoreError, match="writable --out"):
        go(folder, tmp_path / "out")
    assert not CALLS


def test_output_that_is_something_else_is_refused(tmp_path: Path) -> None:
    folder = write_sources(tmp_path / "in", a=GOOD)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "thesis.txt").write_text("precious")
    with pytest.raises(RunStoppedError, match="not a dataset"):
        go(folder, tmp_path / "docs")
    assert (tmp_path / "docs" / "thesis.txt").read_text() == "precious"


def test_wrong_policy_is_refused_before_any_work(tmp_path: Path) -> None:
    folder = write_sources(tmp_path / "in", a=GOOD)
    with pytest.raises(PolicyError, match=r"'face_size'.*median_face_pixels.*median_face_px"):
        go(folder, tmp_path / "out", face_size="median_face_pixels >= 96")
    with pytest.raises(PolicyError, match=r"'face_size'.*syntax error"):
        go(folder, tmp_path / "out", face_size="median_face_px >=")
    assert not (tmp_path / "out").exists()


def test_null_on_a_measured_column_is_no_quiet_filter(tmp_path: Path) -> None:
    folder = write_sources(tmp_path / "in", a=GOOD)
    go(folder, tmp_path / "out", face_size="yaw_abs_median_deg < 30")
    assert {o for o, _ in outcomes(tmp_path / "out", "tracks").values()} == {"quarantined"}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("toy_scan.tweek=2", "did you mean 'tweak'"),
        ("toy_skan.tweak=2", "did you mean 'toy_scan'"),
        ("tweak=2", "section.setting=value"),
        ("toy_scan.tweak=much", "toy_scan.*tweak"),
    ],
)
def test_wrong_settings_are_refused_with_the_right_name(override: str, words: str) -> None:
    with pytest.raises(WorkflowError, match=words):
        resolve(WORKFLOW, [override])


def test_inputs_that_do_not_exist_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        expand([str(tmp_path / "nothing.mp4")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no video in folder"):
        expand([str(tmp_path / "empty")])
    with pytest.raises(InputError, match="no file matches"):
        expand([str(tmp_path / "*.mp4")])
    (tmp_path / "list.csv").write_text("file\nx.mp4\n")
    with pytest.raises(InputError, match="no column 'path'"):
        expand([str(tmp_path / "list.csv")])
    (tmp_path / "list.csv").write_text("path,licence\nx.mp4,CC0\n")
    with pytest.raises(InputError, match="'licence', which says nothing here; did you mean 'license'"):
        expand([str(tmp_path / "list.csv")])


def test_lists_and_sidecars_carry_rights(tmp_path: Path) -> None:
    folder = write_sources(tmp_path / "in", a=GOOD, b={**GOOD, "duration_s": 8.0})
    (folder / "a.rights.json").write_text(json.dumps({"license": "CC0-1.0"}))
    (tmp_path / "list.csv").write_text("path,license,consent,session\nin/b.mp4,CC-BY-4.0,signed,talk-1\n")
    (folder / "notes.TXT").write_text("x")
    skipped: Counter[str] = Counter()
    named = {Path(n.path).name: n for n in expand([str(folder), str(tmp_path / "list.csv")], None, skipped)}
    assert skipped == {".txt": 1}
    assert (named["a.mp4"].rights, named["a.mp4"].rights_from) == ({"license": "CC0-1.0"}, "sidecar")
    assert named["b.mp4"].rights == {"license": "CC-BY-4.0", "consent": "signed"}
    assert (named["b.mp4"].session, named["b.mp4"].rights_from) == ("talk-1", "list")


def test_output_inside_the_input_folder_is_not_taken_for_input(tmp_path: Path) -> None:
    folder = write_sources(tmp_path / "in", a=GOOD)
    before = {p: p.read_bytes() for p in folder.iterdir()}
    out = folder / "dataset"
    go(folder, out)
    (out / "clips" / "stray.mp4").write_text(json.dumps(GOOD))
    assert len(expand([str(folder)], str(out))) == 1
    assert {p: p.read_bytes() for p in folder.iterdir() if p.is_file()} == before


def test_relative_paths_work_from_anywhere(tmp_path: Path, monkeypatch: Any) -> None:
    write_sources(tmp_path / "in", a=GOOD)
    monkeypatch.chdir(tmp_path)
    job = Job("out", resolve(WORKFLOW), policy())
    run(job, LocalEngine(), expand(["in"], str(Path("out").absolute())))
    monkeypatch.chdir(tmp_path / "in")
    assert by_name(tmp_path / "out")["a.mp4"][0] == "kept"


def test_later_runs_go_on_with_the_recorded_workflow(tmp_path: Path) -> None:
    folder = write_sources(tmp_path / "in", a=GOOD)
    go(folder, tmp_path / "out", sets=("toy_tracks.tweak=0.9",))
    stored = Store(str(tmp_path / "out")).read_json("workflow.json")
    assert stored is not None
    again = resolve(type(WORKFLOW).model_validate(stored["workflow"]))
    assert [s.name for s in again.stages] == list(WORKFLOW.stages)
    CALLS.clear()
    run(Job(str(tmp_path / "out"), again, policy()), LocalEngine(), [])
    assert not CALLS
