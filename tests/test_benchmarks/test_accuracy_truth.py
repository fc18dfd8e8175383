"""Truth files of both forms, and the scores that are counted from them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from cut_score import cut_score, match_cuts
from hypothesis import given
from hypothesis import strategies as st
from identity_score import b_cubed
from points import Point
from state_score import figures
from truth_people import SHORT_IDLE, Cut, parse, read_truths
from yield_score import PAUSE, Outcome, stretches, yield_score


def person(name: str, state: str | None, x: tuple[float, float] = (0.4, 0.6)) -> dict[str, object]:
    return {"person": name, "place": "full", "x": list(x), "state": state}


def shot(start: float, end: float, *people: dict[str, object], **more: object) -> dict[str, object]:
    return {"start": start, "end": end, "voice": None, "people": list(people), "unsure": [], **more}


def test_idle_under_a_second_is_not_scored_and_longer_is() -> None:
    data = {
        "shots": [
            shot(0.0, 0.4, person("a", "idle"), person("b", "idle")),
            shot(0.4, 0.8, person("a", "idle", (0.1, 0.2)), person("b", "speak")),
            shot(0.8, 1.2, person("a", "idle"), person("b", "idle")),
        ]
    }
    truth = parse("x.mp4", data)
    scored = [(f.person, f.state, f.scored) for s in truth.spans for f in s.faces]
    assert scored == [("a", "idle", True), ("b", "idle", False), ("a", "idle", True), ("b", "speak", True),
                      ("a", "idle", True), ("b", "idle", False)]  # fmt: skip
    assert {f.why for s in truth.spans for f in s.faces if not f.scored} == {SHORT_IDLE}


def test_composed_truth_keeps_its_idle_and_takes_cuts_from_its_shots() -> None:
    idle = {"person": "a", "place": "left", "state": "idle"}
    truth = parse("x.mp4", {"shots": [shot(0, 0.5, idle), shot(0.5, 2, idle)]})
    assert all(f.scored for s in truth.spans for f in s.faces) and not truth.by_hand
    assert truth.cuts == (Cut(0.5, "exact", (0.5, 0.5)),)
    assert parse("x.mp4", {"defect": "blur"}).cuts is None


def test_who_speaks_while_another_speaks_is_to_be_found_speaking() -> None:
    face = parse("x.mp4", {"shots": [shot(0, 1, person("a", "both"))]}).spans[0].faces[0]
    assert (face.state, face.expected) == ("both", "speak")


def test_the_hand_made_truth_covers_its_clips_once(media: Path) -> None:
    wild = media.parent / "wild"
    if not wild.is_dir():
        pytest.skip(f"no footage at {wild}")
    truths = read_truths(wild)
    for truth in truths.values():
        frames = [k for k, _ in truth.faces()]
        assert frames == list(range(len(frames))) and truth.by_hand, truth.video
    scored = sum(f.scored for truth in truths.values() for _, faces in truth.faces() for f in faces)
    assert scored == pytest.approx(8405, abs=2)  # its README counts 8,405 frames


def test_cuts_count_by_their_kind() -> None:
    hard, slow = Cut(1.0, "hard", (1.0, 1.0)), Cut(5.0, "dissolve", (4.6, 5.4))
    assert match_cuts([1.04, 4.41, 5.6], [hard, slow]) == {1.04: hard, 4.41: slow}
    assert match_cuts([1.05, 4.39], [hard, slow]) == {}
    found = cut_score({"x": ([1.0, 5.0, 5.1, 8.0], [hard, slow])})
    assert (found["precision"], found["recall"], found["f1"]) == (0.5, 1.0, pytest.approx(2 / 3))
    assert found["by_kind"]["dissolve"] == {"true": 1, "right": 1, "recall": 1.0}
    assert found["wrong"]["x"]["false"] == ["5.100", "8.000"]


names = st.sampled_from("abcd")
rows = st.dictionaries(st.text("xyz", min_size=1, max_size=3), st.tuples(names, names, st.integers(1, 50)), min_size=1)


@given(rows)
def test_b_cubed_is_one_where_every_track_has_its_own_people_apart_and_together(
    tracks: dict[str, tuple[str, str, float]],
) -> None:
    precision, recall = b_cubed(tracks)
    assert precision is not None and recall is not None
    assert 0 < precision <= 1 and 0 < recall <= 1
    assert b_cubed({t: (p, p, w) for t, (_, p, w) in tracks.items()}) == (pytest.approx(1), pytest.approx(1))
    swapped = b_cubed({t: (p, i, w) for t, (i, p, w) in tracks.items()})
    assert swapped == (pytest.approx(recall), pytest.approx(precision))
    everyone = b_cubed({t: ("one", p, w) for t, (_, p, w) in tracks.items()})
    assert everyone[1] == pytest.approx(1)


def test_b_cubed_weighs_frames() -> None:
    # Of 4 frames of one identity 3 show a: the tracks' precision is 3/4 in 3 frames and 1/4 in 1.
    assert b_cubed({"1": ("i", "a", 3), "2": ("i", "b", 1)}) == (pytest.approx((3 * 0.75 + 0.25) / 4), 1.0)


def test_a_state_that_the_truth_never_holds_has_no_precision() -> None:
    counts = Counter({("speak", "speak"): 6, ("speak", "discard"): 2, ("listen", "speak"): 2})
    found = figures(counts)
    assert found["accuracy"] == 0.6
    assert (found["recall"]["speak"], found["precision"]["speak"]) == (0.75, 0.75)
    assert found["precision"]["discard"] is None and found["recall"]["idle"] is None


def test_stretches_end_at_gaps_borders_and_other_states_and_hold_their_pauses() -> None:
    def of(text: str, *borders: int) -> list[tuple[str, int]]:
        kinds = {"s": "speak", "l": "listen", "p": PAUSE, "-": None}
        return [(s, len(ks)) for s, ks in stretches([(k, kinds[c]) for k, c in enumerate(text)], borders)]

    assert of("sspps") == [("speak", 5)]
    assert of("ppsspp") == [("speak", 2)]
    assert of("ssppll") == [("speak", 2), ("listen", 2)]
    assert of("ss-ss") == [("speak", 2), ("speak", 2)]
    assert of("sssss", 2) == [("speak", 2), ("speak", 3)]
    assert stretches([(0, "idle"), (1, "idle"), (5, "idle")]) == [("idle", [0, 1]), ("idle", [5])]


@given(st.lists(st.sampled_from(["speak", "listen", PAUSE, None]), max_size=40))
def test_stretches_hold_every_claimed_frame_once(labels: list[str | None]) -> None:
    found = stretches(list(enumerate(labels)))
    inside = [k for _, ks in found for k in ks]
    assert len(inside) == len(set(inside))
    assert {k for k, label in enumerate(labels) if label in ("speak", "listen")} <= set(inside)
    assert all(labels[k] in (state, PAUSE) for state, ks in found for k in ks)


def test_what_is_kept_is_judged_by_state_and_what_a_rule_took_by_its_worth() -> None:
    def at(k: int, true: str, scored: bool = True) -> Point:
        return Point("x", k, "a", true, False, scored, "", "t0", True, "speak", "", 1.0, 1.0, "speak")

    said = [at(k, "speak") for k in range(80)] + [at(k, "listen") for k in range(80, 100)]
    said += [at(k, "speak", scored=False) for k in range(100, 110)] + [at(k, "listen") for k in range(110, 210)]
    segments = [
        {"segment_id": name, "track_id": "t0", "start_s": a / 25, "end_s": b / 25, "duration_s": (b - a) / 25}
        for name, a, b in (("s0", 0, 110), ("s1", 110, 210))
    ]
    decided = {"s0": Outcome("kept", None, "both"), "s1": Outcome("filtered", "no_text", "listen")}
    found = yield_score(said, {"x": parse("x.mp4", {"shots": [], "cuts": []})}, segments, decided)
    assert found["kept_precision"] == {"speak": 0.8}
    assert (found["usable_s"], found["kept_usable_s"], found["by_rule"]) == (7.2, 3.2, {"no_text": 4.0})
    assert found["wrong_segments"] == {"x s0 both for listen": 0.8}
