"""The report page: self-contained, complete, safe against hostile names, and readable in a real browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import cv2
import duckdb
import numpy as np
import pyarrow as pa
import pytest
from engine_case import GOOD, policy
from toy import WORKFLOW, filled, write_sources

from curation import Dataset
from curation.decisions.funnel import Tally
from curation.engine.engine_local import LocalEngine
from curation.engine.register import expand
from curation.engine.run import Job, run
from curation.engine.workflow import resolve
from curation.report import svg
from curation.report.page import render, write_report
from curation.storage.store import Store, table_file
from schemas import tables as t

EVIL = "<img src=x onerror=alert(1)> & 'quotes'"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = tmp_path_factory.mktemp("report")
    folder = write_sources(
        root / "in", good=GOOD, small={"duration_s": 9.0, "faces": [40]}, bad={**GOOD, "fail": "toy_scan"}
    )
    (folder / "good.mp4").rename(folder / f"{EVIL.replace('/', '')}.mp4")
    spec = WORKFLOW.model_copy(update={"stages": {k: v for k, v in WORKFLOW.stages.items() if k != "toy_packing"}})
    job = Job(str(root / "out"), resolve(spec), policy())
    run(job, LocalEngine(), expand([str(folder)]))
    store = Store(job.store_uri)
    image = np.random.default_rng(0).integers(0, 255, (200, 180, 3), np.uint8)
    jpeg = cv2.imencode(".jpg", image)[1].tobytes()
    for row in Dataset(job.store_uri).table(t.TRACKS).to_pylist():
        sid, track = row["source_id"], row["track_id"]
        tracklet = f"{sid}-w0000-000"
        if not track.endswith("t0000"):
            continue
        portraits = [filled(t.PORTRAITS, source_id=sid, tracklet_id=tracklet, k=k, image=jpeg) for k in (0, 100, 200)]
        store.write_table(table_file(t.PORTRAITS, sid, 0), t.PORTRAITS, t.PORTRAITS.from_rows(portraits))
        pieces = [filled(t.TRACKLETS, tracklet_id=tracklet, source_id=sid, track_id=track)]
        store.write_table(table_file(t.TRACKLETS, sid), t.TRACKLETS, t.TRACKLETS.from_rows(pieces))
        runs = [
            filled(t.TIMELINE, track_id=track, source_id=sid, start_s=a, end_s=a + 3.0, state=s, reason="x")
            for a, s in ((0.0, "speak"), (3.0, "listen"), (6.0, "discard"))
        ]
        store.write_table(table_file(t.TIMELINE, sid), t.TIMELINE, t.TIMELINE.from_rows(runs))
        words = [filled(t.WORDS, source_id=sid, n=0, start_s=1.0, end_s=1.5, word=EVIL, annotator="x")]
        store.write_table(table_file(t.WORDS, sid), t.WORDS, t.WORDS.from_rows(words))
    return Dataset(job.store_uri)


def test_page_is_self_contained_and_complete(dataset: Dataset) -> None:
    page = render(dataset)
    outside = [u for u in re.findall(r'(?:src|href)="([^"]*)"', page) if not u.startswith(("data:", "#"))]
    assert outside == [] and "<script" not in page and "@import" not in page
    for section in ("funnel", "scores", "kept", "out", "time", "people", "run"):
        assert f'<section id="{section}">' in page
    assert "26.11" in page and "median_face_px" in page and "made to fail in toy_scan" in page
    assert page.count("data:image/jpeg;base64,") > 3
    assert str(Path(dataset.store.root).parent) not in page


def test_hostile_names_are_text(dataset: Dataset) -> None:
    page = render(dataset)
    assert "<img src=x" not in page and "onerror=alert(1)&gt;" in page


def test_report_is_written_into_the_dataset(dataset: Dataset) -> None:
    assert Path(write_report(dataset)) == Path(dataset.store.root) / "report" / "index.html"
    assert dataset.store.size("report/index.html") < 15 * 2**20


def test_histogram_covers_values_and_thresholds() -> None:
    chart = svg.histogram([1.0, 2.0, 2.0], [(5.0, ">=")], "px")
    assert "&gt;= 5" in chart and chart.count("<rect") == 2
    assert svg.histogram([], [], "") and svg.histogram([3.0], [(3.0, "<")], "")


def test_funnel_counts_each_shot_once_and_ends_with_kept_time() -> None:
    shots = [{"shot_id": f"s{i}", "source_id": "a", "duration_s": 10.0} for i in range(4)]
    decided: dict[tuple[str, str], dict[str, Any]] = {
        ("shots", "s0"): {"outcome": "kept", "step": None},
        ("shots", "s1"): {"outcome": "filtered", "step": "single_shot"},
        ("shots", "s2"): {"outcome": "filtered", "step": "overlay"},
        ("shots", "s3"): {"outcome": "quarantined", "step": "scan"},
        ("segments", "x"): {"outcome": "kept"},
        ("segments", "y"): {"outcome": "kept"},
    }
    segments = [
        {"segment_id": "x", "source_id": "a", "state": "speak", "start_s": 0.0, "end_s": 6.0},
        {"segment_id": "y", "source_id": "a", "state": "listen", "start_s": 4.0, "end_s": 9.0},
    ]
    con = duckdb.connect()
    rows = [{"unit": u, "unit_id": i, "step": None, "duration_s": 10.0, **d} for (u, i), d in decided.items()]
    for name, table in (("shots", shots), ("segments", segments), ("decisions", rows)):
        con.register(name, pa.Table.from_pylist(table))
    tally = Tally()
    tally.add(con)
    f = tally.funnel()
    left = {s.step: s.count for s in f.steps}
    assert (left["raw"], left["single_shot"], left["quality"], left["overlay"]) == (4, 2, 2, 1)
    assert f.steps[-1].seconds == 9.0 and f.quarantined == 1
    assert [s.seconds for s in f.steps] == sorted((s.seconds for s in f.steps), reverse=True)


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_page_renders_in_a_browser_without_overflow(dataset: Dataset, tmp_path: Path, width: int) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
    if browser is None:
        pytest.skip("no Chromium on the path; install one to check the page in a browser")
    page = Path(write_report(dataset)).read_text()
    probe = (
        "<script>addEventListener('load',()=>{document.title='w'+document.documentElement.scrollWidth+"
        "'i'+[...document.images].filter(i=>!i.naturalWidth).length})</script>"
    )
    file = tmp_path / "page.html"
    file.write_text(page.replace("</body>", probe + "</body>"))
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}",
        f"--window-size={width},1200", "--dump-dom", file.as_uri(),
    ]  # fmt: skip
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    found = re.search(r"<title>w(\d+)i(\d+)</title>", dom)
    assert found is not None
    # Headless Chromium lays out no narrower than 500 px.
    assert int(found[1]) <= max(width, 500) and int(found[2]) == 0
