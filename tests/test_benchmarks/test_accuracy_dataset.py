"""Every figure of benchmarks/accuracy.py on a small dataset whose answers are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import accuracy
import numpy as np
import pytest
from accuracy_text import show, show_stretches
from found_tracks import FoundTracks
from points import plain_state
from table_rows import row, source_row
from truth_people import Face

from curation import Dataset
from curation.dataset import FORMAT_VERSION
from curation.media.encode import encode_flac
from curation.pack.shards import tar_bytes
from curation.storage.store import Store, table_file
from schemas import tables as t
from schemas.table import Table

SOURCE = "ab" * 8
LEFT, RIGHT = f"{SOURCE}-t00000", f"{SOURCE}-t00001"


def put(store: Store, table: Table, rows: list[dict[str, Any]], window: int | None = None) -> None:
    name = table_file(table) if table.grain == "dataset" else table_file(table, SOURCE, window)
    store.write_table(name, table, table.from_rows(rows))


def segment(track: str, start_s: float, end_s: float, state: str) -> dict[str, Any]:
    facts = {"start_s": start_s, "end_s": end_s, "duration_s": end_s - start_s, "state": state, "confidence": 0.9}
    name = f"{track}-{round(start_s * 1000):08d}"
    ids = {"segment_id": name, "track_id": track, "source_id": SOURCE, "shot_id": f"{SOURCE}-s0"}
    return row(t.SEGMENTS, **ids, **facts, visible_ratio=1.0, median_face_px=120)


@pytest.fixture
def case(tmp_path: Path) -> tuple[Dataset, Path]:
    """Two people for 8 s: ann on the left speaks for 4 s and listens for 4, bob on the right the other way round.

    Found: ann right throughout, bob discarded in his last second; both one identity; a reference of bob shows ann.
    """
    media = tmp_path / "media"
    media.mkdir()
    (media / "talk.mp4").write_bytes(b"")
    ann, bob = {"person": "ann", "place": "left", "x": [0.2, 0.3]}, {"person": "bob", "place": "right", "x": [0.7, 0.8]}
    shots = [
        {"start": 0, "end": 4, "voice": "ann", "people": [{**ann, "state": "speak"}, {**bob, "state": "listen"}]},
        {"start": 4, "end": 8, "voice": "bob", "people": [{**ann, "state": "listen"}, {**bob, "state": "both"}],
         "unsure": [{"person": "carl", "x": [0.45, 0.55], "why": "small"}]},
    ]  # fmt: skip
    truth = {"fps": 25, "duration": 8, "cuts": [], "cut_kinds": [], "shots": shots}
    (media / "talk.truth.json").write_text(json.dumps(truth))
    store = Store(str(tmp_path / "set"))
    store.write_json("dataset.json", {"format": FORMAT_VERSION, "name": "openlpm"})
    put(store, t.INPUTS, [row(t.INPUTS, path="talk.mp4", source_id=SOURCE, name="talk.mp4")])
    put(store, t.SOURCES, [source_row(SOURCE, duration_s=8.0, width=1000, height=500)])
    shot = {"shot_id": f"{SOURCE}-s0", "source_id": SOURCE, "end_s": 8.0, "duration_s": 8.0}
    put(store, t.SHOTS, [row(t.SHOTS, **shot, people_ratio=1.0, luma_mean=90)])
    runs = [(LEFT, 0, 4, "speak"), (LEFT, 4, 8, "listen"), (RIGHT, 0, 4, "listen"), (RIGHT, 4, 7, "both"),
            (RIGHT, 7, 8, "discard")]  # fmt: skip
    facts = {"source_id": SOURCE, "shot_id": f"{SOURCE}-s0", "end_s": 8.0, "duration_s": 8.0, "n_frames": 200}
    good = {"median_face_px": 120, "visible_ratio": 1.0, "sharpness": 20}
    put(
        store,
        t.TRACKS,
        [row(t.TRACKS, track_id=i, center_x=x, **facts, **good) for i, x in ((LEFT, 0.25), (RIGHT, 0.75))],
    )
    put(store, t.TIMELINE, [row(t.TIMELINE, track_id=i, source_id=SOURCE, start_s=a, end_s=b, state=s, reason="why",
                                confidence=0.8) for i, a, b, s in runs])  # fmt: skip
    put(store, t.SEGMENTS, [segment(i, a, b, s) for i, a, b, s in runs])
    pieces = {LEFT: 200.0, RIGHT: 700.0}
    put(store, t.TRACKLETS, [row(t.TRACKLETS, tracklet_id=f"w{i}", source_id=SOURCE, track_id=i) for i in pieces])
    box = {"source_id": SOURCE, "y": 100.0, "w": 100.0, "h": 100.0, "has_mesh": True}
    faces = [
        row(t.FACE_FRAMES, tracklet_id=f"w{i}", k=k, t_s=k / 25, x=x, **box)
        for i, x in pieces.items()
        for k in range(0, 200, 3)
    ]
    put(store, t.FACE_FRAMES, faces, 0)
    put(store, t.ASD_FRAMES, [row(t.ASD_FRAMES, track_id=i, k=k, score=1.0 if (i == LEFT) == (k < 100) else -1.0,
                                  annotator="lr") for i in pieces for k in range(200)])  # fmt: skip
    put(store, t.SPEECH_FRAMES, [row(t.SPEECH_FRAMES, source_id=SOURCE, k=k, speech=0.9) for k in range(200)])
    put(
        store,
        t.TRACK_IDENTITIES,
        [row(t.TRACK_IDENTITIES, track_id=i, source_id=SOURCE, identity_id="p") for i in pieces],
    )
    refs = [(f"{LEFT}-00000000", LEFT), (f"{RIGHT}-00000000", LEFT)]
    put(store, t.REFERENCES, [row(t.REFERENCES, segment_id=s, kind="global", identity_id="p", ref_source_id=SOURCE,
                                  ref_track_id=i) for s, i in refs])  # fmt: skip
    return Dataset(str(tmp_path / "set")), media


def test_every_figure(case: tuple[Dataset, Path]) -> None:
    dataset, media = case
    found = accuracy.evaluate(dataset, media)
    states = found["states"]
    assert states["frames"] == 400 and states["accuracy"] == pytest.approx(375 / 400)
    assert states["recall"]["speak"] == pytest.approx(175 / 200) and states["precision"]["speak"] == 1.0
    assert states["unsure"] == {"small": {"missing": 100}}
    assert found["baseline"]["accuracy"] == 1.0
    identity = found["identity"]
    assert (identity["precision"], identity["recall"]) == (0.5, 1.0) and identity["merged"] == [["ann", "bob"]]
    assert (found["references"]["right"], found["references"]["wrong"]) == (1, 1)
    assert found["references"]["which_wrong"][0]["shows"] == "ann"
    assert found["tracks"]["two_people"] == 0 and found["cuts"]["f1"] == 1.0
    # What is usable is usable by truth: bob's last second belongs to it, and the rule against discard takes it.
    kept = found["yield"]
    assert kept["usable_s"] == 16.0 and kept["kept_s"] == 15.0 and kept["kept_usable_s"] == 15.0
    assert kept["by_rule"] == {"usable_state": 1.0} and kept["kept_wrong_s"] == 0.0
    assert found["backends"]["annotators"]["asd_frames"] == ["lr"]
    assert found["purity"] == {"speak": None, "listen": None, "samples": 0}
    (wrong,) = found["wrong"]
    assert (wrong["person"], wrong["start_s"], wrong["end_s"], wrong["found"]) == ("bob", 7.0, 8.0, "discard")
    assert wrong["baseline_right"] == 25
    assert "accuracy 0.9375" in show(found) and "talk: bob" in show_stretches(found["wrong"])


def test_whose_voice_is_in_a_packed_sound(case: tuple[Dataset, Path]) -> None:
    dataset, media = case
    name = f"{LEFT}-00000000"
    # ann's segment, packed to 6 s: her voice at 0.2 for 4 s, then bob's at 0.1 for 2 s.
    wave = np.repeat(np.float32([0.2, 0.1]), [4 * 48_000, 2 * 48_000])
    dataset.store.write("clips/x.tar", tar_bytes([(f"{name}.speak.flac", encode_flac(wave))]))
    put(dataset.store, t.CLIPS, [row(t.CLIPS, segment_id=name, source_id=SOURCE, file="clips/x.tar")])
    put(dataset.store, t.SEGMENTS, [segment(LEFT, 0, 6, "speak")])
    purity = accuracy.evaluate(dataset, media)["purity"]
    assert purity["speak"] == pytest.approx(4 * 0.04 / (4 * 0.04 + 2 * 0.01), rel=1e-3)
    assert (purity["listen"], purity["samples"]) == (None, 1)


def test_clips_are_counted_apart_by_name(case: tuple[Dataset, Path]) -> None:
    dataset, media = case
    parts = accuracy.grouped(dataset, media, ["talk"], "default")
    assert parts["named"]["states"]["frames"] == 400 and parts["others"]["states"]["frames"] == 0
    assert accuracy.evaluate(dataset, media, only=("other",))["states"]["accuracy"] is None


def test_people_in_reach_of_one_another_get_one_track_each() -> None:
    def tracks(*places: tuple[str, float, float]) -> FoundTracks:
        rows = [
            {"track_id": i, "start_s": 0.0, "end_s": 0.04, "center_x": x, "median_face_px": s} for i, x, s in places
        ]
        return FoundTracks(rows, [], {i: np.array([[0, x, 0.5, s, 1]]) for i, x, s in places}, {}, {})

    near, far = Face("near", "speak", x=(0.3, 0.5)), Face("far", "listen", x=(0.45, 0.5))
    both = tracks(("a", 0.47, 0.1), ("b", 0.35, 0.1))
    assert both.match([near, far], 0) == ["b", "a"]
    assert tracks(("a", 0.47, 0.1)).match([far, near], 0).count("a") == 1
    assert tracks(("a", 0.8, 0.1)).match([near], 0) == [None]
    # Beside a picture on the wall in the same range, the larger face is meant.
    assert tracks(("small", 0.41, 0.03), ("large", 0.45, 0.2)).match([near], 0) == ["large"]
    assert tracks(("l", 0.2, 0.1), ("r", 0.8, 0.1)).match([Face("p", "speak", "right")], 0) == ["r"]


@pytest.mark.parametrize(
    ("score", "speech", "state"),
    [(1.0, 0.9, "speak"), (1.0, 0.1, "discard"), (-1.0, 0.9, "listen"), (-1.0, 0.1, "idle"), (None, 0.9, "listen")],
)
def test_the_plain_baseline(score: float | None, speech: float, state: str) -> None:
    assert plain_state(score, speech) == state
