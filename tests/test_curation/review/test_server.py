"""The review's answers without a browser: who may ask, lists and samples, one unit, media by ranges, verdicts."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import review_case as case
from werkzeug.test import Client, TestResponse

from curation import Dataset
from curation.review.app import PAGE, Review
from curation.review.draw import DrawError, columns, parse
from curation.review.guard import HEADERS, Guard, is_loopback
from curation.review.server import ServeError, serving
from schemas import tables as t

SOURCE, GONE = case.source_id_of("a.mp4"), case.source_id_of("gone.mp4")
KEPT, LOST = f"{SOURCE}-t0000-00000000", f"{SOURCE}-t0000-00008000"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("review")
    case.video(root / "a.mp4")
    data = case.dataset(root / "data", {"a.mp4": root / "a.mp4", "gone.mp4": root / "gone.mp4"})
    case.pack(data, root)
    return root


@pytest.fixture(scope="module")
def review(folder: Path) -> Iterator[Review]:
    made = Review(Dataset(str(folder / "data")), Guard("127.0.0.1", None), "ann")
    yield made
    made.media.close()


@pytest.fixture
def ask(review: Review) -> Client:
    return Whole(review)


class Whole(Client):
    """A client that takes answers whole, so that their files are closed."""

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        return super().open(*args, **{"buffered": True, **kwargs})


def got(answer: TestResponse) -> Any:
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return json.loads(answer.get_data())


# ------------------------------------------------------------------------------------------------ who may ask


@pytest.mark.parametrize("host", ["localhost:8765", "127.0.0.1:1", "[::1]:8765", "127.0.0.1"])
def test_the_machines_own_names_are_answered(ask: Client, host: str) -> None:
    assert ask.get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "localhost.evil:80", ""]
)
def test_a_foreign_name_that_points_here_is_refused(ask: Client, host: str) -> None:
    answer = ask.get("/api/dataset", headers={"Host": host})
    assert answer.status_code == 400 and "own names only" in answer.get_data(as_text=True)


def test_only_the_own_page_may_change_something(ask: Client) -> None:
    said = json.dumps({"unit": "segments", "id": KEPT, "verdict": "right"})
    assert ask.post("/api/judge", data=said, content_type="text/plain").status_code == 400
    other = ask.post(
        "/api/judge", data=said, content_type="application/json", headers={"Origin": "http://evil.example"}
    )
    assert other.status_code == 403
    assert ask.get("/api/judge").status_code == 405
    assert ask.post("/api/judge", data="{", content_type="application/json").status_code == 400
    assert ask.post("/api/judge", data="[]", content_type="application/json").status_code == 400
    for data, words in (('{"author": "\\ud800"}', "half of a character"), ("[" * 60_000, "nested too deep")):
        answer = ask.post("/api/judge", data=data, content_type="application/json")
        assert answer.status_code == 400 and words in answer.get_data(as_text=True)
    assert ask.post("/api/judge", data=b" " * 70_000, content_type="application/json").status_code == 413


def test_every_answer_keeps_the_page_to_itself(ask: Client) -> None:
    for path in ("/", "/main.js", "/api/dataset", "/nothing", "/api/unit/nothing"):
        answer = ask.get(path)
        assert all(answer.headers[k] == v for k, v in HEADERS.items()), path
    assert "unsafe" not in HEADERS["Content-Security-Policy"]


def test_beyond_loopback_a_token_is_needed(folder: Path) -> None:
    assert not is_loopback("0.0.0.0") and not is_loopback("example.org") and is_loopback("127.0.0.2")
    with pytest.raises(ValueError, match="needs a token"):
        Guard("0.0.0.0", None)
    token = "a-token-that-is-long"
    review = Review(Dataset(str(folder / "data")), Guard("0.0.0.0", token), "ann")
    client = Whole(review)
    assert client.get("/api/dataset").status_code == 401
    assert client.get("/?token=another").status_code == 401
    first = client.get(f"/?token={token}")
    assert first.status_code == 303 and token not in first.headers["Location"]
    assert "HttpOnly" in first.headers["Set-Cookie"] and "SameSite=Strict" in first.headers["Set-Cookie"]
    assert client.get("/api/dataset").status_code == 200, "the cookie stands for it from then on"
    review.media.close()


def test_no_file_but_the_pages_own_is_served(ask: Client) -> None:
    for path in ("/../app.py", "/..%2fapp.py", "/app.py", "/media/..%2f..%2fetc%2fpasswd", "/media/nothing.mp4"):
        assert ask.get(path).status_code == 404, path
    assert all(ask.get(f"/{name}").status_code == 200 for name in PAGE)


# ------------------------------------------------------------------------------------------------ lists and samples


def units(ask: Client, **query: object) -> Any:
    return got(ask.get("/api/units", query_string=query))


def test_a_list_is_filtered_and_told(ask: Client) -> None:
    whole = units(ask)
    assert whole["total"] == 12 and len(whole["rows"]) == 12
    first = next(r for r in whole["rows"] if r["id"] == LOST)
    assert (first["state"], first["outcome"], first["rule"], first["file"]) == (
        "discard",
        "filtered",
        "usable_state",
        "a.mp4",
    )
    assert units(ask, outcome="filtered", source="a.mp4")["total"] == 2
    assert units(ask, rule="no_text")["total"] == 2
    assert units(ask, identity="ben", state="speak")["total"] == 2
    assert units(ask, where="state = 'listen' AND asd_mean > 1")["total"] == 4
    assert units(ask, where="file LIKE 'gone%' OR outcome = 'filtered'")["total"] == 8
    assert [units(ask, unit=u)["total"] for u in ("sources", "shots", "tracks")] == [2, 2, 4]


@pytest.mark.parametrize(
    ("query", "words"),
    [({"where": "1 = 1; DROP TABLE x"}, "filter"), ({"where": "confidnce > 0"}, "did you mean confidence"),
     ({"where": "duration_s IN (SELECT 1)"}, "without subqueries"), ({"where": "confidence"}, "true or false"),
     ({"where": "length(read_text('/etc/passwd')) > 0"}, ""), ({"unit": "frames"}, "unit"), ({"n": "9999"}, "n"),
     ({"by": "mood", "n": "2"}, "'mood'"), ({"by": "threshold", "n": "2"}, "name one on"),
     ({"nothing": "1"}, "nothing"), ({"page": "9999999999999999999999"}, "page: Input should be less than"),
     ({"by": "threshold", "of": "usable_state", "n": "2"}, "no distance"),
     ({"unit": "shots", "state": "idle"}, "no state")],
)  # fmt: skip
def test_a_question_that_makes_no_sense_is_one_sentence(ask: Client, query: dict[str, str], words: str) -> None:
    answer = ask.get("/api/units", query_string=query)
    said = json.loads(answer.get_data())["error"]
    assert answer.status_code == 400 and words in said and "\n" not in said


def test_a_sample_takes_as_many_of_each_group_and_the_same_again(ask: Client) -> None:
    drawn = units(ask, n=2, by="state", seed=3)
    assert drawn == units(ask, n=2, by="state", seed=3)
    by_state: dict[str, int] = {}
    for r in drawn["rows"]:
        by_state[r["stratum"]] = by_state.get(r["stratum"], 0) + 1
    assert by_state == {"discard": 2, "idle": 2, "listen": 2, "speak": 2} and drawn["sizes"]["speak"] == 4
    others = [{r["id"] for r in units(ask, n=2, by="state", seed=s)["rows"]} for s in range(4)]
    assert any(x != others[0] for x in others), "another seed draws others"


def test_columns_of_every_type_can_group(ask: Client) -> None:
    for name in ("reason", "expressions", "crop_path", "crop_moves", "other_faces", "file", "identity_id"):
        assert name in columns("segments") and units(ask, n=1, by=name)["rows"], name
    assert units(ask, unit="sources", n=1, by="distance,license")["rows"], "columns of its own, threshold is none"
    assert ask.get("/api/units", query_string={"unit": "shots", "n": 1, "by": "identity_id"}).status_code == 400


def test_groups_by_distance_from_a_threshold(ask: Client) -> None:
    drawn = units(ask, n=1, by="threshold", of="longer")
    assert all(s.startswith("longer: passes, quarter") for s in drawn["sizes"])
    assert parse({"by": "threshold", "of": "longer"}).by == ("threshold",)
    with pytest.raises(DrawError):
        parse({"seed": "x"})


def test_a_list_is_paged_by_sql(tmp_path: Path) -> None:
    data = case.dataset(tmp_path / "data", {"a.mp4": tmp_path / "a.mp4"})
    many = [
        {"unit": "segments", "unit_id": f"{SOURCE}-t0000-{n:08d}", "source_id": SOURCE, "outcome": "kept"}
        for n in range(100_000)
    ]
    case.put(data.store, t.DECISIONS, many)
    review = Review(data, Guard("localhost", None), "ann")
    client = Whole(review)
    page = units(client, page=1999)
    assert page["total"] == 100_000 and [r["id"][-8:] for r in page["rows"]][::49] == ["00099950", "00099999"]
    assert units(client, page=2000)["rows"] == []
    review.media.close()


# ------------------------------------------------------------------------------------------------ one unit


def test_a_unit_is_told_with_what_decided(ask: Client) -> None:
    u = got(ask.get(f"/api/unit/{SOURCE}-t0001-00008000"))
    assert (u["unit"], u["state"], u["start_s"], u["end_s"], u["from_s"], u["to_s"]) == (
        "segments",
        "idle",
        8,
        12,
        6,
        12,
    )
    assert u["decision"]["rule"] == "no_text" and u["decided"] == ["text"]
    rule = next(r for r in u["rules"] if r["id"] == "no_text")
    assert rule["verdict"] == "fail" and rule["thresholds"] == ["text_in_crop <= 0.0005"] and rule["why"] == "no words"
    assert [f["name"] for f in u["faces"]] == ["ben (t0001)", "anna (t0000)"] and u["faces"][0]["mine"]
    assert len(u["faces"][0]["boxes"]) >= 150 and u["crop"] == [[8, 200, 20, 120, 120]]
    assert u["overlays"][0]["text"] == pytest.approx([0.3, 0.85, 0.7, 0.95])
    kinds = [(x["label"], x["kind"]) for x in u["lanes"]]
    assert ("lip sync", "curve") in kinds and ("words", "words") in kinds and ("events", "runs") in kinds
    assert u["place"]["missing"] is None and not u["packed"] and u["partner"]["track"] == f"{SOURCE}-t0000"
    assert case.EVIL in u["caption"]["caption"]


def test_units_of_every_kind_are_told(ask: Client) -> None:
    for unit_id, kind in ((SOURCE, "sources"), (f"{SOURCE}-s0000", "shots"), (f"{SOURCE}-t0001", "tracks")):
        u = got(ask.get(f"/api/unit/{unit_id}"))
        assert u["unit"] == kind and u["end_s"] == case.LENGTH_S


def test_what_cannot_be_shown_is_said(ask: Client, folder: Path) -> None:
    gone = got(ask.get(f"/api/unit/{GONE}-t0000-00000000"))
    assert "no longer where it was registered" in gone["place"]["missing"]
    answer = ask.get("/api/stretch", query_string={"source": GONE, "from": 0, "to": 2})
    assert answer.status_code == 404 and "gone.mp4" in answer.get_data(as_text=True)
    assert ask.get("/api/unit/nobody").status_code == 404
    data = Dataset(str(folder / "data"))
    case.put(data.store, t.FORGOTTEN, [{"source_id": "f" * 16, "forgotten_on": "2026-11-23", "proven": True}])
    answer = ask.get(f"/api/unit/{'f' * 16}-t0000-00000000")
    assert answer.status_code == 404 and "was forgotten on 2026-11-23" in answer.get_data(as_text=True)


def test_an_empty_dataset_is_told(tmp_path: Path) -> None:
    data = case.dataset(tmp_path / "data", {})
    review = Review(data, Guard("localhost", None), "ann")
    about = got(Whole(review).get("/api/dataset"))
    assert about["counts"] == [] and about["sources"] == 0
    assert units(Whole(review))["rows"] == []
    review.media.close()


# ------------------------------------------------------------------------------------------------ media


def test_a_stretch_is_served_by_ranges(ask: Client) -> None:
    made = got(ask.get("/api/stretch", query_string={"source": SOURCE, "from": 3, "to": 6}))
    assert made["copied"] and made["start_s"] == 2.0
    whole = ask.get(made["url"])
    assert whole.status_code == 200 and whole.mimetype == "video/mp4" and whole.headers["Accept-Ranges"] == "bytes"
    part = ask.get(made["url"], headers={"Range": "bytes=100-199"})
    assert part.status_code == 206 and part.get_data() == whole.get_data()[100:200]
    assert part.headers["Content-Range"] == f"bytes 100-199/{len(whole.get_data())}"
    assert ask.get(made["url"], headers={"Range": "bytes=99999999-"}).status_code == 416
    assert ask.get("/api/stretch", query_string={"source": SOURCE, "from": 0, "to": 4000}).status_code == 404
    assert ask.get("/api/stretch", query_string={"source": SOURCE}).status_code == 404


@pytest.mark.parametrize("sound", ["speak", "listen", "both", "none"])
def test_a_packed_clip_is_served_with_each_of_its_sounds(ask: Client, sound: str) -> None:
    made = got(ask.get("/api/clip", query_string={"id": KEPT, "sound": sound}))
    assert b"ftyp" in ask.get(made["url"]).get_data()[:16]
    assert ask.get("/api/clip", query_string={"id": LOST}).status_code == 404


def test_a_sound_that_there_is_not_is_told_with_those_that_there_are(ask: Client) -> None:
    answer = ask.get("/api/clip", query_string={"id": KEPT, "sound": "zzz"})
    assert answer.status_code == 404
    assert json.loads(answer.get_data()) == {"error": "there is no sound 'zzz'; there are: speak, listen, both, none"}


def test_portraits_and_references_are_pictures(ask: Client) -> None:
    for path in (f"/picture/{SOURCE}-t0000/30", f"/reference/{KEPT}/global/0"):
        answer = ask.get(path)
        assert answer.status_code == 200 and answer.get_data()[:2] == b"\xff\xd8"
    assert ask.get("/picture/nobody/1").status_code == 204
    assert ask.get(f"/reference/{KEPT}/view/7").status_code == 404


# ------------------------------------------------------------------------------------------------ verdicts


def test_verdicts_are_stored_marked_and_taken_back(ask: Client, folder: Path) -> None:
    said = {"unit": "segments", "id": KEPT, "verdict": "wrong", "what": ["crop"], "comment": case.EVIL, "author": "eve",
            "drawn": "n=2&by=state"}  # fmt: skip
    assert got(ask.post("/api/judge", json=said))["audit"]["what"] == ["crop"]
    rows = (
        Dataset(str(folder / "data")).query("SELECT author, comment, drawn FROM audits WHERE author = 'eve'").fetchall()
    )
    assert rows == [("eve", case.EVIL, "n=2&by=state")]
    assert units(ask, judged="me", author="eve")["rows"][0]["verdict"] == "wrong"
    assert units(ask, judged="others", author="ann")["rows"][0]["verdict"] is None, "what others said is not shown"
    assert units(ask, judged="no", author="eve")["total"] == 11
    assert got(ask.get(f"/api/unit/{KEPT}", query_string={"author": "ann"}))["verdicts"] == {"mine": None, "others": 1}
    crop = next(p for p in got(ask.get("/api/precision"))["precisions"] if p["name"] == "crop")
    assert (crop["right"], crop["judged"], crop["of"]) == (0, 1, 8)
    assert got(ask.post("/api/undo", json={"author": "eve"}))["audit"]["unit_id"] == KEPT
    nothing = ask.post("/api/undo", json={"author": "eve"})
    assert nothing.status_code == 400 and "no verdict by 'eve'" in nothing.get_data(as_text=True)
    bad = ask.post("/api/judge", json={**said, "what": []})
    assert bad.status_code == 400 and "say what is wrong" in bad.get_data(as_text=True)


def test_a_dataset_that_is_being_written_says_so(ask: Client, folder: Path) -> None:
    from curation.engine.run import locked

    with locked(Dataset(str(folder / "data")).store):
        answer = ask.post("/api/judge", json={"unit": "segments", "id": KEPT, "verdict": "right"})
    assert answer.status_code == 409 and "another run is writing" in answer.get_data(as_text=True)


def test_it_listens_and_says_where_it_cannot(folder: Path) -> None:
    data = Dataset(str(folder / "data"))
    with serving(data, Guard("127.0.0.1", None), 0, "ann") as found:
        thread = threading.Thread(target=found.server.serve_forever)
        thread.start()
        with urllib.request.urlopen(found.url + "api/dataset") as answer:
            assert json.load(answer)["name"] == "data"
        port = int(found.url.rsplit(":", 1)[1].rstrip("/"))
        with (
            pytest.raises(ServeError, match=f"cannot listen on 127.0.0.1 port {port}"),
            serving(data, Guard("127.0.0.1", None), port, "ann"),
        ):
            pass
        found.server.shutdown()
        thread.join()
