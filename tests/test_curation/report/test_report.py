"""The report page: self-contained, complete, safe against hostile names, and readable in a real browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import cv2
import deadly
import duckdb
import numpy as np
import pyarrow as pa
import pytest
import review_case as case
from browser import browser, path_of_browser
from engine_case import GOOD, policy
from packed_toy import made
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


def test_a_packed_sample_is_a_card(tmp_path: Path) -> None:
    out = made(tmp_path / "in", tmp_path / "out")
    (segment_id, *_) = [row.segment_id for row in t.MANIFEST.rows(Dataset(str(out)).table(t.MANIFEST))]
    assert f'<div class="id">{segment_id}' in render(Dataset(str(out)))
    # The toy's clips are no media: the page says so, and is whole.
    page = Path(write_report(Dataset(str(out)))).read_text(encoding="utf-8")
    assert f'<div class="id">{segment_id}' in page and "The clip cannot be played" in page


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = tmp_path_factory.mktemp("filmed")
    files = {EVIL.replace("/", ""): case.video(root / "talk.mp4"), "gone.mp4": root / "gone.mp4"}
    data = case.dataset(root / "data", files)
    case.pack(data, root)
    data.store.write_json("workflow.json", {"policy": {**case.POLICY, "rules": [
        {**r, "says": "words lie over it"} if r["id"] == "no_text" else r for r in case.POLICY["rules"]
    ]}})  # fmt: skip
    return data


def test_a_unit_that_was_left_out_is_explained_shown_and_played(filmed: Dataset) -> None:
    page = Path(write_report(filmed)).read_text(encoding="utf-8")
    out = page[page.index('<section id="out">') : page.index('<section id="time">')]
    assert "Words lie over it" in out and "text_in_crop &lt;= 0.0005" in out
    assert "is false" not in page and "The lips follow the voice that is heard" in page
    # The planned clip in yellow, whose face it is, and the text that decided, over the whole frame.
    frame = next(x for x in re.findall(r'<svg class="frame".*?</svg>', out, re.S) if 'class="box text"' in x)
    assert 'class="box crop" x="200.0" y="20.0" width="120.0" height="120.0"' in frame
    assert 'class="box mine" x="220.0"' in frame and 'class="box text" x="96.0" y="153.0"' in frame
    # A source that is gone is shown by its portraits.
    assert 'class="pics"' in out
    played = re.findall(r'<video [^>]*src="(clips/[^"]+)"', page)
    stored = [n.removeprefix("report/") for n in filmed.store.names("report/clips")]
    kept = len(t.MANIFEST.rows(filmed.table(t.MANIFEST)))
    assert sorted(played) == sorted(stored) and kept < len(played) <= kept + 2
    assert all(b"ftyp" in filmed.store.read(f"report/{n}")[:16] for n in played)


def test_what_no_page_plays_any_more_is_deleted(filmed: Dataset) -> None:
    write_report(filmed)
    stored = list(filmed.store.names("report/clips"))
    changed = {n: Path(filmed.store.path(n)).stat().st_mtime_ns for n in stored}
    filmed.store.write("report/clips/0-old.mp4", b"old")
    write_report(filmed)
    assert list(filmed.store.names("report/clips")) == stored
    assert {n: Path(filmed.store.path(n)).stat().st_mtime_ns for n in stored} == changed  # nothing is encoded again


def test_a_source_that_ends_its_reader_is_said_once_and_shown_by_portraits(
    filmed: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curation.report.frames.jpeg_at", deadly.frame)
    for asked in Path(filmed.store.root).parent.glob("*.asked"):
        asked.unlink()
    page = render(filmed)
    (asked,) = Path(filmed.store.root).parent.glob("*.asked")
    assert asked.read_text(encoding="utf-8") == "x", "it is left alone from then on"
    assert "no frame of it can be shown: the process that read it crashed (signal 11)" in page
    assert 'class="pics"' in page and '<section id="run">' in page


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.skipif(path_of_browser() is None, reason="no Chromium on the path")
def test_the_page_plays_in_a_browser_with_sound_and_fits_a_phone(filmed: Dataset, tmp_path: Path) -> None:
    with browser(tmp_path) as page:
        for width in (390, 1440):
            page.size(width, 900)
            page.open(Path(write_report(filmed)).as_uri())
            assert page.eval("document.documentElement.scrollWidth <= innerWidth")
            assert page.eval("[...document.images].every(i => i.naturalWidth)")
            page.eval("document.querySelector('details video').parentNode.open = true")
            for video in ("#kept video", "#out video"):
                page.eval(f"document.querySelector('{video}').play()")
                page.until(f"document.querySelector('{video}').currentTime > 0.3")
                assert page.eval(f"document.querySelector('{video}').webkitAudioDecodedByteCount > 0")
        page.call("Emulation.setEmulatedMedia", media="print")
        assert page.eval("getComputedStyle(document.querySelector('#kept video')).display === 'none'")
        assert page.errors == [] and page.eval("!document.querySelector('img[src=x]')")
