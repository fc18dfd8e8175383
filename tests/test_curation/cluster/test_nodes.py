"""Several nodes with folders of their own, a token, and a dataset on object storage; a node that is killed."""

from __future__ import annotations

import errno
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from engine_case import GOOD, policy
from ray_nodes import RayNodes
from toy import WORKFLOW, ToyProbe, ToyScan, ToySettings, write_sources

from curation import Dataset
from curation.engine.engine_local import LocalEngine
from curation.engine.register import expand
from curation.engine.run import Job, run
from curation.engine.workflow import resolve
from curation.stage import Outputs, WorkItem
from curation.storage.store import Store
from schemas import tables as t
from schemas.settings.workflow import Resources, StageSpec, Workflow

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the server's own
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

STAGES = ("toy_probe", "toy_scan", "toy_tracks", "toy_active", "toy_pairing", "toy_packing", "toy_identity")
SOURCES = 4

DRIVER = """
import sys
from test_nodes import job
from curation.cluster.engine_ray import RayEngine
from curation.engine.register import expand
from curation.engine.run import RunStoppedError, run
address, out, videos, patience_s = sys.argv[1:]
try:
    run(job(out), RayEngine(address, patience_s=float(patience_s)), expand([videos]))
except RunStoppedError as e:
    sys.exit(f"stopped: {e}")
"""


class WeighedSettings(ToySettings):
    def provenance(self) -> dict[str, str]:
        return {**super().provenance(), "weights": os.environ.get("TOY_WEIGHTS", "published")}


class Weighed(ToyProbe):
    """The toy's probe with weights that a machine may have others of, and a disk that may be full.

    TOY_DISK names a file that a machine with a full disk writes; the others wait until it is there.
    """

    Settings = WeighedSettings

    def run(self, item: WorkItem, inputs: Any) -> Outputs:
        disk, _, full = os.environ.get("TOY_DISK", "").partition("=")
        if full:
            Path(disk).touch()
            raise OSError(errno.ENOSPC, "No space left on device")
        for _ in range(600 if disk else 0):
            if Path(disk).exists():
                break
            time.sleep(0.1)
        return super().run(item, inputs)


class Gated(ToyScan):
    """The toy's scan with weights, too; where TOY_GATE names a file, it goes on when that is there."""

    Settings = WeighedSettings

    def run(self, item: WorkItem, inputs: Any) -> Outputs:
        self.count("gate")
        gate = os.environ.get("TOY_GATE", "")
        for _ in range(3000 if gate else 0):
            if Path(gate).exists():
                break
            time.sleep(0.1)
        return super().run(item, inputs)


def job(out: str) -> Job:
    own = {"toy_probe": "Weighed", "toy_scan": "Gated"}
    stages = {k: WORKFLOW.stages[k] for k in STAGES} | {k: StageSpec(use=f"test_nodes:{c}") for k, c in own.items()}
    workflow: Workflow = WORKFLOW.model_copy(update={"stages": stages})
    return Job(out, resolve(workflow), policy())


def licensed(out: str) -> Job:
    """Return the job with a probe that only machines with a licence get; nothing else in it has weights."""
    probe = StageSpec(use="test_nodes:Weighed", resources=Resources(custom={"licence": 1}))
    stages = {k: WORKFLOW.stages[k] for k in STAGES} | {"toy_probe": probe}
    return Job(out, resolve(WORKFLOW.model_copy(update={"stages": stages})), policy())


@pytest.fixture
def videos(bucket: str, tmp_path: Path) -> str:
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    specs = {f"s{n}": {**GOOD, "duration_s": 20.0 + n} for n in range(SOURCES)}
    for file in write_sources(tmp_path / "in", **specs).iterdir():
        client.upload_file(str(file), bucket, f"videos/{file.name}")
    return f"s3://{bucket}/videos/"


@pytest.fixture(scope="module")
def nodes() -> Iterator[RayNodes]:
    """A head and one worker, which can hold a worker of each lane."""
    with (
        tempfile.TemporaryDirectory(prefix="n-", dir="/tmp") as short,
        RayNodes(Path(short), Path(__file__).parent) as running,
    ):
        running.worker("one", cpus=2)
        yield running


def finished(
    nodes: RayNodes, out: str, videos: str, calls: Path, *kills: tuple[str, int, str], patience_s: float = 5.0
) -> tuple[int, str]:
    """Run the toy workflow on the nodes; kill some, one after the other, each when a stage was called so often."""
    calls.write_text("")
    nodes.environment["OPENLPM_TOY_CALLS"] = str(calls)
    driver = nodes.driver(DRIVER, out, videos, str(patience_s))
    for stage, times, name in kills:
        while calls.read_text().count(stage) < times and driver.poll() is None:
            time.sleep(0.05)
        nodes.kill(name)
    said, _ = driver.communicate()
    return driver.returncode, said


def runs(out: str) -> list[dict[str, Any]]:
    """Return what is recorded of a dataset's runs."""
    store = Store(out)
    return [json.loads(store.read(name)) for name in store.names("runs") if name.endswith("run.json")]


def test_killed_nodes_cost_their_work_in_flight_and_nothing_else(
    nodes: RayNodes, bucket: str, videos: str, tmp_path: Path
) -> None:
    """One after the other: before there are windows, in their midst, and after them."""
    for name in ("two", "three", "four"):
        nodes.worker(name)
    out = f"s3://{bucket}/dataset"
    kills = (("toy_probe", 2, "two"), ("toy_scan", 8, "three"), ("toy_packing", 2, "four"))
    code, said = finished(nodes, out, videos, tmp_path / "calls", *kills)
    counts = dict(
        Dataset(out).query("SELECT outcome, count(*) FROM decisions WHERE unit = 'sources' GROUP BY 1").fetchall()
    )
    assert sum(counts.values()) == SOURCES, f"{counts} {said}"
    assert "Traceback" not in said
    assert code == 0 and not counts.get("pending"), f"{counts} {said}"
    run(job(str(tmp_path / "local")), LocalEngine(), expand([videos]))
    for table in (t.CUTS, t.TRACKS, t.SEGMENTS, t.TRACK_IDENTITIES):
        there, here = (Dataset(d).table(table).sort_by(table.key[0]) for d in (out, str(tmp_path / "local")))
        assert there.num_rows and there.equals(here), table.name


def test_who_has_not_the_token_is_refused_in_a_sentence(nodes: RayNodes, bucket: str, videos: str) -> None:
    token = Path(nodes.environment["HOME"]) / ".ray" / "auth_token"
    true = token.read_text()
    token.write_text("0" * 64)
    driver = nodes.driver(DRIVER, f"s3://{bucket}/dataset", videos, "5")
    said, _ = driver.communicate()
    token.write_text(true)
    assert driver.returncode and "cannot connect" in said and "token" in said and "Traceback" not in said, said


def test_a_machine_with_other_weights_is_named_before_anything_runs(
    nodes: RayNodes, bucket: str, videos: str, tmp_path: Path
) -> None:
    nodes.worker("other", TOY_WEIGHTS="retrained")
    code, said = finished(nodes, f"s3://{bucket}/dataset", videos, tmp_path / "calls")
    nodes.kill("other")
    assert code and "differs in stage 'toy_probe': weights (retrained, here published)" in said, said
    assert "Traceback" not in said and not (tmp_path / "calls").read_text()


def test_machines_with_what_a_stage_needs_are_held_against_each_other(
    nodes: RayNodes, bucket: str, videos: str, tmp_path: Path
) -> None:
    """Neither the head nor the other worker offers it, so neither is asked for that stage's weights."""
    for name, weights in (("one", "published"), ("two", "retrained")):
        nodes.worker(f"special-{name}", offers='{"licence": 1}', TOY_WEIGHTS=weights)
    driver = nodes.driver(DRIVER.replace("job", "licensed"), f"s3://{bucket}/dataset", videos, "60")
    said, _ = driver.communicate()
    for name in ("one", "two"):
        nodes.kill(f"special-{name}")
    assert driver.returncode and "differs in stage 'toy_probe': weights" in said and "Traceback" not in said, said
    assert ", here " not in said


def kept(out: str) -> int:
    """Return how many sources are kept."""
    sql = "SELECT count(*) FROM decisions WHERE unit = 'sources' AND outcome = 'kept'"
    ((n,),) = Dataset(out).query(sql).fetchall()
    return int(n)


def left_out(out: str) -> list[str]:
    """Return what runs said of machines that were left out."""
    return [warning for run in runs(out) for warning in run["warnings"] if "without a machine" in warning]


def test_a_machine_that_joins_late_with_other_weights_is_left_out(tmp_path: Path) -> None:
    gate, calls, out = tmp_path / "gate", tmp_path / "calls", str(tmp_path / "dataset")
    folder = write_sources(tmp_path / "in", **{f"s{n}": {**GOOD, "duration_s": 20.0 + n} for n in range(SOURCES)})
    calls.touch()
    with (
        tempfile.TemporaryDirectory(prefix="n-", dir="/tmp") as short,
        RayNodes(Path(short), Path(__file__).parent) as nodes,
    ):
        nodes.environment |= {"OPENLPM_TOY_CALLS": str(calls), "TOY_GATE": str(gate)}
        nodes.worker("first", cpus=2)
        driver = nodes.driver(DRIVER, out, str(folder), "60")
        while "gate" not in calls.read_text() and driver.poll() is None:
            time.sleep(0.1)
        nodes.worker("late", cpus=2, TOY_WEIGHTS="retrained")
        while driver.poll() is None and not left_out(out):
            time.sleep(0.5)
        gate.touch()
        said, _ = driver.communicate()
    assert driver.returncode == 0 and "Traceback" not in said, said
    (told,) = left_out(out)
    assert "differs in stage 'toy_scan': weights (retrained, here published)" in told
    assert kept(out) == SOURCES and not Dataset(out).query("SELECT * FROM errors").fetchall()


def test_a_machine_that_fails_is_left_out_and_the_others_do_its_work(bucket: str, videos: str, tmp_path: Path) -> None:
    disk, out = tmp_path / "disk", f"s3://{bucket}/dataset"
    with (
        tempfile.TemporaryDirectory(prefix="n-", dir="/tmp") as short,
        RayNodes(Path(short), Path(__file__).parent) as nodes,
    ):
        nodes.worker("good", cpus=2, TOY_DISK=f"{disk}")
        nodes.worker("full", cpus=2, TOY_DISK=f"{disk}=full")
        code, said = finished(nodes, out, videos, tmp_path / "calls")
    assert code == 0, said
    assert disk.exists() and "Traceback" not in said
    assert kept(out) == SOURCES and not Dataset(out).query("SELECT * FROM errors").fetchall()
    (told,) = left_out(out)
    assert "'toy_probe' on " in told and "No space left on device" in told


def test_too_few_machines_left_are_said_and_another_run_goes_on(
    bucket: str, videos: str, tmp_path: Path, nodes: RayNodes
) -> None:
    nodes.worker("two")
    out = f"s3://{bucket}/dataset"
    # With more patience, the toy's few windows may end first; their workers then make room for those that were lost.
    code, said = finished(nodes, out, videos, tmp_path / "calls", ("toy_scan", 4, "one"), patience_s=0.1)
    assert code and "machines of the cluster were lost" in said and "run the same command again" in said, said
    assert "Traceback" not in said
    code, said = finished(nodes, out, videos, tmp_path / "calls")
    assert code == 0, said
