"""What a run will take: rates from a log, hours from headers, and the two together."""

from __future__ import annotations

import io
import json
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import boto3
import deadly
import numpy as np
import pytest
from command_line import lpm
from engine_case import GOOD, go
from hypothesis import given
from hypothesis import strategies as st
from rates import by_pixels
from rich.console import Console
from toy import write_sources

from curation import Dataset
from curation.engine.register import expand
from curation.plan.estimate import estimate, stage_rates
from curation.plan.rates import Rates, RatesError, StageRate, measured, with_slopes
from curation.plan.survey import Survey, read_header, survey
from curation.pythons.limits import Limits
from curation.runs.steps import by_run
from curation.storage.store import Store
from workflows.commands.plan import plan

RATES = Rates(
    workflow="w", policy="p", video_s=10.0, sources=1, measured_on="here", bytes_out=100.0,
    stages=[
        StageRate(stage="scan", grain="window", cpu_s=0.8),
        StageRate(stage="speech", grain="source", cpu_s=0.2),
        StageRate(stage="identity", grain="dataset", cpu_s=0.01),
    ],
)  # fmt: skip


def video(path: Path, seconds: float) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=Fraction(10))
        stream.width, stream.height = 64, 48
        rng = np.random.default_rng(0)
        for _ in range(round(10 * seconds)):
            picture = av.VideoFrame.from_ndarray(rng.integers(0, 255, (48, 64, 3), np.uint8), format="rgb24")
            out.mux(stream.encode(picture))
        out.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for n in range(6):
        video(folder / f"{n}.mp4", 2.0 + n % 2)
    (folder / "broken.mp4").write_bytes(b"no video at all" * 100)
    return folder


def test_hours_are_those_of_the_headers(folder: Path) -> None:
    found = survey(expand([str(folder)]))
    assert (found.files, found.opened, found.unreadable) == (7, 7, 1)
    assert found.video_s == pytest.approx(15.0, abs=0.1) and found.longest_s == pytest.approx(3.0, abs=0.1)
    assert found.bytes == sum(f.stat().st_size for f in folder.iterdir())


def test_few_headers_tell_of_all_and_the_same_ones_again(folder: Path) -> None:
    named = expand([str(folder)])
    assert survey(named, sample=4) == survey(named, sample=4)
    for seed in range(4):
        found = survey(named, sample=4, seed=seed)
        assert found.opened <= 5 and found.longest_s == pytest.approx(3.0, abs=0.1)
        assert 9.0 < found.video_s < 21.0


def test_a_header_that_claims_days_is_not_believed(folder: Path) -> None:
    file = str(folder / "0.mp4")
    size = Path(file).stat().st_size
    told = read_header(file, size)
    assert told is not None and told.duration_s == pytest.approx(2.0, abs=0.1)
    assert told.pixels_per_s == 64 * 48 * 10
    assert read_header(file, 900) is None


def test_a_file_that_ends_its_reader_is_named_and_the_others_are_surveyed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curation.plan.survey.read_header", deadly.header)
    monkeypatch.setattr("curation.plan.survey.HEADER_LIMITS", Limits(seconds=5.0, bytes=800 << 20))
    for name in ("a", *deadly.ENDS, "z"):
        (tmp_path / f"{name}.mp4").write_bytes(b"0" * 1000)
    found = survey(expand([str(tmp_path)]))
    assert (found.files, found.opened, found.unreadable, found.longest_s) == (5, 5, 3, 2.0)
    assert {Path(path).stem: how for path, how in found.ended} == {
        "segfault": "crashed (signal 11)", "eat": "out of memory", "hang": "timed out",
    }  # fmt: skip
    shown = io.StringIO()
    plan(Console(file=shown, width=200), [str(tmp_path)], "conversation", None, [1], 2, 200, 0, False)
    assert "segfault.mp4: its reader crashed (signal 11)" in shown.getvalue()


def test_an_object_store_is_asked_too(bucket: str, folder: Path) -> None:

    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    client.upload_file(str(folder / "0.mp4"), bucket, "videos/0.mp4")
    assert survey(expand([f"s3://{bucket}/videos/"])).video_s == pytest.approx(2.0, abs=0.1)


@given(st.floats(1, 1e8), st.floats(1, 1e5), st.integers(1, 4096))
def test_no_cluster_beats_its_longest_source_and_none_is_slower_than_a_smaller_one(
    video_s: float, longest_s: float, cores: int
) -> None:
    result = estimate(Survey(1, 1, 1, 0, max(video_s, longest_s), longest_s), RATES, 120.0)
    least = 0.2 * longest_s + 0.8 * min(longest_s, 120.0) + result.alone_s
    assert result.wall_s(cores) >= least - 1e-6
    assert result.wall_s(cores) >= result.wall_s(2 * cores) >= 0
    assert result.wall_s(cores) * cores >= (result.total_s - result.alone_s) - 1e-6
    assert sum(result.core_s.values()) == pytest.approx(1.01 * max(video_s, longest_s))


@given(st.floats(0, 1e9), st.floats(1e5, 1e9), st.floats(1, 1e6))
def test_larger_pictures_cost_what_decoding_them_takes(theirs: float, ours: float, video_s: float) -> None:
    rates = RATES.model_copy(update={"pixels_per_s": theirs})
    rates = with_slopes(rates, {"scan": 2.0})
    told = stage_rates(Survey(1, 1, 1, 0, video_s, video_s, pixels=ours * video_s), rates)
    assert {k: told[k] for k in ("speech", "identity")} == {"speech": 0.2, "identity": 0.01}
    assert told["scan"] == pytest.approx(max(0.0, 0.8 + 2e-9 * (ours - theirs)) if theirs else 0.8)
    for untold in (Survey(1, 1, 1, 0, video_s, video_s), Survey(0, 0, 0, 0, 0.0, 0.0)):
        assert stage_rates(untold, rates)["scan"] == 0.8, "no header tells of pictures"


def test_what_pixels_cost_is_read_off_the_same_footage_in_two_sizes() -> None:
    def of(scan: float, pixels: float) -> Rates:
        first, *others = RATES.stages
        return RATES.model_copy(
            update={"stages": [first.model_copy(update={"cpu_s": scan}), *others], "pixels_per_s": pixels}
        )

    found = by_pixels(RATES, of(0.8, 1e7), of(1.8, 5.1e8))
    assert [r.cpu_s_per_gigapixel for r in found.stages] == [2.0, 0.0, 0.0]
    assert [r.cpu_s for r in found.stages] == [r.cpu_s for r in RATES.stages]
    with pytest.raises(ValueError, match="no larger pictures"):
        by_pixels(RATES, of(0.8, 1e7), of(0.8, 1e7))


def test_rates_are_what_the_log_says(tmp_path: Path) -> None:
    go(write_sources(tmp_path / "in", a=GOOD, b={**GOOD, "duration_s": 30.0}), tmp_path / "out")
    rates = measured(Dataset(str(tmp_path / "out")), "here")
    assert (rates.workflow, rates.sources, rates.video_s) == ("toy", 2, 40.0)
    assert {r.stage: r.grain for r in rates.stages}["toy_scan"] == "window"
    assert {r.stage: r.grain for r in rates.stages}["toy_identity"] == "dataset"
    spent = sum(step["cpu_s"] for step in logged(tmp_path / "out"))
    assert sum(r.cpu_s for r in rates.stages) * 40 == pytest.approx(spent, abs=0.01)
    with pytest.raises(RatesError, match="finished sources"):
        go(write_sources(tmp_path / "bad", a={**GOOD, "fail": "toy_probe"}), tmp_path / "none")
        measured(Dataset(str(tmp_path / "none")), "here")


def logged(out: Path) -> list[dict[str, Any]]:
    """Return the steps that ran, run after run."""
    return [dict(step) for _, steps in by_run(Store(str(out))) for step in steps if step["status"] == "ran"]


def spent(out: Path) -> dict[str, float]:
    rates = measured(Dataset(str(out)), "here")
    return {r.stage: r.cpu_s * rates.video_s for r in rates.stages}


def test_what_was_computed_again_counts_once(tmp_path: Path) -> None:
    folder, out = write_sources(tmp_path / "in", a=GOOD, b={**GOOD, "duration_s": 30.0}), tmp_path / "out"
    go(folder, out)
    go(folder, out, sets=("toy_tracks.tweak=1.5",))
    steps = logged(out)
    twice = {(s["stage"], s["source_id"], s["window"]): s["cpu_s"] for s in steps}
    assert len(twice) < len(steps), "something ran again"
    last: dict[str, float] = {}
    for (stage, _, _), cpu_s in twice.items():
        last[stage] = last.get(stage, 0.0) + cpu_s
    assert spent(out) == pytest.approx(last, abs=0.001)


def test_what_was_added_to_what_was_there_counts_with_it(tmp_path: Path) -> None:
    folder, out = write_sources(tmp_path / "in", a={**GOOD, "faces": [100, 140]}), tmp_path / "out"
    go(folder, out, face_size="median_face_px >= 120")
    go(folder, out, face_size="median_face_px >= 50")
    active = [s for s in logged(out) if s["stage"] == "toy_active"]
    assert [s["units"] for s in active] == [1, 1]
    assert spent(out)["toy_active"] == pytest.approx(sum(s["cpu_s"] for s in active), abs=0.001)
    go(folder, out, sets=("toy_active.tweak=2",), face_size="median_face_px >= 50")
    *_, again = (s for s in logged(out) if s["stage"] == "toy_active")
    assert again["units"] == 2
    assert spent(out)["toy_active"] == pytest.approx(again["cpu_s"], abs=0.001)


def test_a_source_that_is_no_more_does_not_count(tmp_path: Path) -> None:
    folder, out = write_sources(tmp_path / "in", a=GOOD, b={**GOOD, "duration_s": 30.0}), tmp_path / "out"
    go(folder, out)
    gone = {s["source_id"] for s in logged(out)} - {""}
    for file in folder.iterdir():
        file.write_text(file.read_text().replace("30.0", "31.0"))
    go(folder, out)
    steps = [s for s in logged(out) if s["stage"] == "toy_probe"]
    left = {i for (i,) in Dataset(str(out)).query("SELECT source_id FROM sources").fetchall()}
    assert gone - left and spent(out)["toy_probe"] == pytest.approx(
        sum(s["cpu_s"] for s in steps if s["source_id"] in left), abs=0.001
    )


def test_the_command_says_hours_and_core_hours(folder: Path) -> None:
    done = lpm("plan", str(folder), "--nodes", "2", "--cores", "4")
    assert done.returncode == 0, done.stderr
    assert "7 files" in done.stdout and "core-hours" in done.stdout and "1 of the 7" in done.stdout
    done = lpm("plan", str(folder), "--json", "--nodes", "2")
    assert set(json.loads(done.stdout)["wall_hours"]) == {"2"}
    done = lpm("plan")
    assert done.returncode and "name the inputs" in done.stderr


@pytest.mark.parametrize(
    ("stages", "policy", "said"),
    [
        ("probe: {}, scan: {settings: {portait_px: 9}}", "default", "did you mean 'portrait_px'?"),
        ("scan: {}", "default", "which no earlier stage writes"),
        ("probe: {settings: {}}, scn: {}", "default", "did you mean 'scan'?"),
        ("probe: {}", "nosuch", "no policy 'nosuch'"),
    ],
)
def test_a_workflow_that_no_run_could_follow_is_refused_as_a_run_refuses_it(
    folder: Path, tmp_path: Path, stages: str, policy: str, said: str
) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"name: conversation\npolicy: {policy}\nstages: {{{stages}}}\n")
    planned = lpm("plan", str(folder), "--workflow", str(mine))
    ran = lpm("run", str(folder), "--out", str(tmp_path / "out"), "--workflow", str(mine))
    assert planned.returncode == ran.returncode == 1 and said in planned.stderr and planned.stderr == ran.stderr
    assert ran.returncode and planned.stdout == ""
