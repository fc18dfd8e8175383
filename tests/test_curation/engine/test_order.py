"""Which source is begun first."""

from __future__ import annotations

from pathlib import Path

from engine_case import GOOD, go, policy
from toy import WORKFLOW, write_sources

from curation.engine.order import DOUBTED, USUAL_BYTES_PER_S, SourceWork, longest_first
from curation.engine.register import read_registry
from curation.engine.run import Job, plan
from curation.engine.workflow import resolve
from curation.storage.store import Store

MB = 10**6


def order(*work: SourceWork) -> list[str]:
    return [w.source_id for w in longest_first(work)]


def test_the_longest_in_seconds_comes_first_whatever_its_bytes() -> None:
    assert order(SourceWork("large", "", 900 * MB, 60.0), SourceWork("long", "", MB, 3600.0)) == ["long", "large"]
    assert order(SourceWork("b", "", MB), SourceWork("a", "", MB)) == ["a", "b"], "of equals by id"


def test_what_is_not_probed_is_as_long_as_its_bytes_are_at_the_rate_of_the_others() -> None:
    probed = SourceWork("probed", "", 10 * MB, 100.0)
    assert order(SourceWork("x", "", 11 * MB), probed, SourceWork("y", "", 9 * MB)) == ["x", "probed", "y"]
    usual_s = 10 * MB / USUAL_BYTES_PER_S
    none = SourceWork("none", "", 0, usual_s)
    assert order(SourceWork("x", "", 11 * MB), none, SourceWork("y", "", 9 * MB)) == ["x", "none", "y"]


def test_what_runs_were_killed_with_comes_last() -> None:
    once, often = (SourceWork(f"{n}", "", MB, 3600.0, cut_short=n) for n in (DOUBTED - 1, DOUBTED))
    assert order(often, SourceWork("short", "", MB, 1.0), once) == [once.source_id, "short", often.source_id]


def test_a_run_that_goes_on_plans_by_what_was_probed(tmp_path: Path) -> None:
    specs = {"large": {**GOOD, "duration_s": 4.0, "pad": "x" * 9999}, "long": {**GOOD, "duration_s": 40.0}}
    folder, out = write_sources(tmp_path / "in", **specs), tmp_path / "out"
    go(folder, out)
    inputs = read_registry(Store(str(out)))
    job = Job(str(out), resolve(WORKFLOW, ("toy_scan.tweak=1.5",)), policy())
    assert [(Path(w.path).stem, w.media_s) for w in plan(job, inputs)] == [("long", 40.0), ("large", 4.0)]
    assert [Path(w.path).stem for w in plan(Job(str(tmp_path), job.pipeline, policy()), inputs)] == ["large", "long"]
