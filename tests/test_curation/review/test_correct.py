"""Corrections from the page: what they store, what the next run makes of them and what it leaves alone, taking back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import correct_case as case
import pytest
import review_case as written
from werkzeug.test import Client

from curation import Dataset
from curation.engine.run import locked
from curation.review.app import Review
from curation.review.guard import Guard


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("correct")
    case.go(root / "out", case.video(root / "talk.mp4"))
    return root / "out"


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A dataset whose tables no run made."""
    root = tmp_path_factory.mktemp("still")
    return written.dataset(root, {"talk.mp4": root / "talk.mp4"})


@pytest.fixture
def data(made: Path, tmp_path: Path) -> Dataset:
    import shutil

    shutil.copytree(made, tmp_path / "out")
    return Dataset(str(tmp_path / "out"))


def post(data: Dataset, path: str = "/api/correct", status: int = 200, **said: Any) -> Any:
    review = Review(data, Guard("127.0.0.1", None), "ann")
    answer = Client(review).post(path, json=said)
    review.media.close()
    assert answer.status_code == status, answer.get_data(as_text=True)
    return json.loads(answer.get_data())


def track(data: Dataset, n: int) -> str:
    return str(data.query(f"SELECT track_id FROM tracks ORDER BY 1 OFFSET {n}").fetchall()[0][0])


def states(data: Dataset, of: str) -> list[tuple[float, float, str, str]]:
    sql = "SELECT start_s, end_s, state, reason FROM timeline WHERE track_id = ? ORDER BY 1"
    return [tuple(r) for r in data.connect().execute(sql, [of]).fetchall()]


def again(data: Dataset) -> list[str]:
    case.go(Path(data.store.root))
    return list(case.RAN)


@pytest.mark.slow
def test_a_border_moves_and_the_sample_with_it(data: Dataset) -> None:
    left = track(data, 0)
    assert [s[:3] for s in states(data, left)] == [(0, 4, "speak"), (4, 8, "listen"), (8, 12, "speak")]
    said = post(data, kind="states", track=left, runs=[[4.0, 5.0, "speak"]])
    assert said["waiting"] == {"n": 1, "again": ["states and clips"], "sources": 1}
    assert again(data) == ["packed", "people"], "what was measured is not measured again"
    assert states(data, left)[:3] == [
        (0, 4, "speak", "synced_voice"), (4, 5, "speak", "human_label"), (5, 8, "listen", "heard_voice"),
    ]  # fmt: skip
    sql = f"SELECT start_s, end_s FROM clips JOIN segments USING (segment_id) WHERE track_id = '{left}' ORDER BY 1"
    assert data.query(sql).fetchall() == [(0, 5), (5, 8), (8, 12)]
    assert post(data, "/api/uncorrect")["gone"]["kind"] == "labels"
    again(data)
    assert data.query(sql).fetchall() == [(0, 4), (4, 8), (8, 12)]
    assert not again(data)


@pytest.mark.slow
def test_of_corrections_on_corrections_the_newest_holds_and_undo_goes_back_one_by_one(data: Dataset) -> None:
    right = track(data, 1)
    for state in ("idle", "discard", "idle"):
        post(data, kind="states", track=right, runs=[[1.0, 3.0, state]])
    post(data, kind="states", track=right, runs=[[0.0, 4.0, "listen"], [4.0, 8.0, "speak"]], author="ben")
    by = data.query("SELECT author, count(*) FROM labels GROUP BY 1 ORDER BY 1").fetchall()
    assert by == [("ann", 3), ("ben", 2)]
    assert post(data, "/api/uncorrect", author="ben")["gone"]["n"] == 2, "what was said at once goes at once"
    post(data, "/api/uncorrect")
    again(data)
    assert (1.0, 3.0, "discard", "human_label") in states(data, right)


@pytest.mark.parametrize(
    ("said", "words"),
    [({"kind": "states", "track": "nobody", "runs": [[0, 1, "idle"]]}, "no face 'nobody'"),
     ({"kind": "states", "runs": [[0, 1, "asleep"]]}, "'asleep' is no state"),
     ({"kind": "states", "runs": [[20, 30, "idle"]]}, "outside of the time"),
     ({"kind": "states", "runs": []}, "runs"), ({"kind": "dance"}, "dance"), ({}, "kind"),
     ({"kind": "states", "runs": [[0, 1e99, "idle"]]}, "runs"),
     ({"kind": "states", "runs": [[0.6, 2, "idle"], [0, 1, "listen"]]}, "0.00-1.00 s and 0.60-2.00 s overlap"),
     ({"kind": "states", "runs": [[0, 1, "idle"]], "author": "a\x00"}, "holds U+0000"),
     ({"kind": "states", "runs": [[0, 1, "idle"]], "author": "\ud800"}, "half of a character"),
     ({"kind": "word", "source": "x", "start_s": 0, "end_s": 1, "word": "no\x01"}, "a word holds U+0001"),
     ({"kind": "word", "source": "x", "start_s": 0, "end_s": 1, "word": "\x00"}, "a word holds U+0000"),
     ({"kind": "merge", "first": "anna", "second": "p-9"}, "no identity"),
     ({"kind": "merge", "first": "anna", "second": "ben"}, "in view at the same time"),
     ({"kind": "split", "track": "nobody"}, "nobody known")],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_in_a_sentence(still: Dataset, said: dict[str, Any], words: str) -> None:
    if said.get("kind") == "states":
        said = {"track": track(still, 0), **said}
    error = post(still, status=400, **said)["error"]
    assert words in error and "\n" not in error
    assert not still.query("SELECT * FROM labels").fetchall()


def test_nothing_is_corrected_while_a_run_writes(still: Dataset) -> None:
    with locked(still.store):
        said = post(still, status=409, kind="states", track=track(still, 0), runs=[[0.0, 1.0, "idle"]])
    assert "another run is writing" in said["error"]
    assert "no correction by 'ann'" in post(still, "/api/uncorrect", status=400)["error"]
