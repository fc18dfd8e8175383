"""Verdicts: stored with what was claimed, followed to moved clips, counted with intervals, held to bounds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import review_case as case
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from curation import Dataset
from curation.audit.audits import AuditError, Said, judge, undo
from curation.audit.interval import kappa, verdicts_for, wilson
from curation.audit.precision import Audit, Precision, audit
from curation.storage.store import table_file
from schemas import tables as t
from schemas.settings.policy import Policy, PolicyError, Subject, parse_policy
from workflows import cli

SOURCE = case.source_id_of("a.mp4")
KEPT, LOST = f"{SOURCE}-t0000-00000000", f"{SOURCE}-t0000-00008000"


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return case.dataset(tmp_path / "data", {"a.mp4": tmp_path / "a.mp4", "b.mp4": tmp_path / "b.mp4"})


def found(dataset: Dataset, policy: Policy | None = None) -> dict[Subject, Precision]:
    return {p.subject: p for p in audit(dataset, policy).precisions if p.judged or p.bound}


def counts(dataset: Dataset) -> dict[str, tuple[int, int]]:
    return {p.name: (p.right, p.judged) for p in found(dataset).values()}


# ------------------------------------------------------------------------------------------------ statistics


@given(st.integers(0, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share_and_narrows_with_more(counted: tuple[int, int]) -> None:
    right, n = counted
    low, high = wilson(right, n)
    assert 0 <= low <= high <= 1
    if n:
        assert low <= right / n <= high
        more_low, more_high = wilson(4 * right, 4 * n)
        assert more_high - more_low < high - low
        assert wilson(n - right, n) == pytest.approx((1 - high, 1 - low))


def test_wilson_is_the_published_interval() -> None:
    # Newcombe 1998, table I: 81 of 263 and 15 of 148.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)


@given(st.floats(0.05, 0.99))
def test_as_many_right_verdicts_as_named_reach_a_bound_and_no_fewer(bound: float) -> None:
    n = verdicts_for(bound)
    assert wilson(n, n)[0] >= bound - 1e-9
    assert wilson(n - 1, n - 1)[0] < bound or n == 1


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [([("right", "right")] * 3 + [("wrong", "wrong")], 1.0), ([], None), ([("right", "right")] * 5, None),
     ([("right", "wrong"), ("wrong", "right")], -1.0),
     ([("right", "right")] * 4 + [("right", "wrong")] + [("wrong", "right")] * 2 + [("wrong", "wrong")] * 3, 0.4)],
)  # fmt: skip
def test_kappa(pairs: list[tuple[str, str]], expected: float | None) -> None:
    assert kappa(pairs) == (None if expected is None else pytest.approx(expected))


# ------------------------------------------------------------------------------------------------ verdicts


def test_a_verdict_is_stored_with_what_was_claimed(dataset: Dataset) -> None:
    row = judge(dataset, "segments", KEPT, Said("wrong", ["crop", "state"], "idle", "he hums"), " ann ", "seed=7")
    (stored,) = t.AUDITS.rows(dataset.table(t.AUDITS))
    assert stored == row
    assert (stored.author, stored.state, stored.outcome, stored.rule) == ("ann", "speak", "kept", None)
    assert stored.what == ["state", "crop"] and stored.true_state == "idle" and stored.drawn == "seed=7"
    assert (stored.start_s, stored.end_s, stored.source_id) == (0.0, 4.0, SOURCE)
    assert dataset.query("SELECT count(*) FROM audits").fetchall() == [(1,)]


@pytest.mark.parametrize(
    ("unit", "said", "author", "words"),
    [("nobody", Said("right"), "ann", "no segment 'nobody'"), (KEPT, Said("right"), " ", "needs a name"),
     (KEPT, Said("fine"), "ann", "no verdict"), (KEPT, Said("wrong"), "ann", "say what is wrong"),
     (KEPT, Said("wrong", ["mood"]), "ann", "cannot be wrong"), (KEPT, Said("right", ["cut"]), "ann", "only a wrong"),
     (KEPT, Said("wrong", ["cut"], "idle"), "ann", "true state"),
     (KEPT, Said("right", comment="\ud800"), "ann", "U.D800 is no character"),
     (KEPT, Said("right"), "a\ud800", "U.D800 is no character")],
)  # fmt: skip
def test_a_verdict_that_makes_no_sense_is_refused(
    dataset: Dataset, unit: str, said: Said, author: str, words: str
) -> None:
    with pytest.raises(AuditError, match=words):
        judge(dataset, "segments", unit, said, author)
    assert not dataset.files(t.AUDITS)


def test_the_newest_verdict_of_an_author_counts_and_undo_brings_the_former_back(dataset: Dataset) -> None:
    judge(dataset, "segments", KEPT, Said("right"), "ann")
    judge(dataset, "segments", KEPT, Said("wrong", ["state"]), "ann")
    assert counts(dataset)["state speak"] == (0, 1)
    assert undo(dataset, "ann").verdict == "wrong"
    assert counts(dataset)["state speak"] == (1, 1)
    undo(dataset, "ann")
    with pytest.raises(AuditError, match="no verdict by 'ann'"):
        undo(dataset, "ann")


def test_what_is_wrong_counts_for_its_own_subject_alone(dataset: Dataset) -> None:
    judge(dataset, "segments", KEPT, Said("wrong", ["caption"]), "ann")
    judge(dataset, "segments", f"{SOURCE}-t0001-00000000", Said("right"), "ann")
    assert counts(dataset) == {
        "kept": (1, 2), "state speak": (1, 1), "state listen": (1, 1), "person": (2, 2), "cut": (2, 2),
        "caption": (1, 2), "reference": (2, 2), "crop": (2, 2),
    }  # fmt: skip


def test_a_rule_is_judged_by_what_it_left_out(dataset: Dataset) -> None:
    judge(dataset, "segments", LOST, Said("right"), "ann")
    judge(dataset, "segments", f"{SOURCE}-t0001-00008000", Said("wrong", ["filter"]), "ann")
    rules = {s[1]: p for s, p in found(dataset).items()}
    assert (rules["usable_state"].right, rules["usable_state"].judged, rules["usable_state"].population) == (1, 1, 2)
    assert rules["no_text"].lost == (1.0, *[1 - x for x in reversed(rules["no_text"].interval)])


def test_unsure_counts_beside_and_not_among(dataset: Dataset) -> None:
    judge(dataset, "segments", KEPT, Said("unsure"), "ann")
    speak = next(p for p in audit(dataset, None).precisions if p.name == "state speak")
    assert (speak.judged, speak.unsure) == (0, 1)


def test_two_readers_agreement(dataset: Dataset) -> None:
    for author, wrong in (("ann", {0}), ("ben", {0, 1})):
        for i, unit in enumerate((KEPT, f"{SOURCE}-t0000-00004000", f"{SOURCE}-t0001-00000000")):
            judge(dataset, "segments", unit, Said("wrong", ["cut"]) if i in wrong else Said("right"), author)
    read = audit(dataset, None)
    (both,) = read.agreements
    assert (both.first, both.second, both.units, both.agreed) == ("ann", "ben", 3, 2)
    assert both.kappa == pytest.approx(0.4) and read.readers == {"ann": 3, "ben": 3}
    assert counts(dataset)["cut"] == (1, 3), "of several readers the newest counts"


# ------------------------------------------------------------------------------------------------ following


def rewritten(dataset: Dataset, moved_s: float = 0.0, states: Any = case.STATES, place: bool = True) -> None:
    rows = case.segments(SOURCE, moved_s, states)
    case.put(dataset.store, t.SEGMENTS, rows, SOURCE)
    kept = [{"unit": "segments", "unit_id": r["segment_id"], "source_id": SOURCE, "outcome": "kept"} for r in rows]
    case.put(dataset.store, t.DECISIONS, kept)


def test_a_verdict_follows_a_clip_whose_borders_moved(dataset: Dataset) -> None:
    judge(dataset, "segments", f"{SOURCE}-t0000-00004000", Said("right"), "ann")
    rewritten(dataset, moved_s=0.6)
    now = counts(dataset)
    assert now["state listen"] == (1, 1) and "cut" not in now, "the state is the same, the cut is another"
    rewritten(dataset, moved_s=2.2)
    assert counts(dataset) == {} and audit(dataset, None).adrift == 1
    rewritten(dataset, moved_s=0.0)
    assert counts(dataset)["cut"] == (1, 1), "back where it was"


def test_a_verdict_speaks_of_another_state_of_the_same_clip(dataset: Dataset) -> None:
    judge(dataset, "segments", KEPT, Said("right"), "ann")
    judge(dataset, "segments", f"{SOURCE}-t0000-00004000", Said("wrong", ["state"]), "ann")
    judge(dataset, "segments", f"{SOURCE}-t0001-00000000", Said("wrong", ["state"], "idle"), "ann")
    rewritten(dataset, states=(("idle", "speak", "discard"), ("idle", "speak", "idle")))
    # It was right as speak, so idle is wrong; it was not listen, which does not make it speak; it is idle, as was said.
    assert {k: v for k, v in counts(dataset).items() if "state" in k} == {"state idle": (1, 2)}


def test_a_verdict_does_not_go_to_another_person_under_the_same_track_id(dataset: Dataset) -> None:
    judge(dataset, "segments", KEPT, Said("right"), "ann")
    tracks = t.TRACKS.rows(dataset.table(t.TRACKS, sources=[SOURCE]))
    swapped = [dict(tracks[i].but(center_x=tracks[1 - i].center_x)) for i in range(2)]
    case.put(dataset.store, t.TRACKS, swapped, SOURCE)
    assert counts(dataset)["state listen"] == (0, 1), "it follows the face: Ben's clip, who listens, was said to speak"


def test_what_came_back_in_counts_against_the_rule_no_more(dataset: Dataset) -> None:
    judge(dataset, "segments", LOST, Said("right"), "ann")
    rewritten(dataset)
    assert counts(dataset) == {"kept": (0, 1)}, "it was rightly out and is in"


# ------------------------------------------------------------------------------------------------ bounds


def with_bounds(dataset: Dataset, **audit: float) -> None:
    facts = dataset.store.read_json("workflow.json")
    facts["policy"]["audit"] = {k.replace("__", "."): v for k, v in audit.items()}
    dataset.store.write_json("workflow.json", facts)


def test_a_gate_holds_a_dataset_to_its_policys_bounds(
    dataset: Dataset, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "out", Console(width=200))
    path = dataset.store.root

    def lpm(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main([*arguments])
        said = capsys.readouterr()
        return int(ended.value.code or 0), " ".join((said.out + said.err).split())

    code, text = lpm("status", path, "--gate")
    assert code == 1 and "names no bound" in text
    with_bounds(dataset, rule__usable_state=0.2)
    code, text = lpm("status", path, "--gate")
    assert code == 1 and "rule usable_state: nobody has judged one" in text
    judge(dataset, "segments", LOST, Said("right"), "ann")
    code, text = lpm("status", path, "--gate")
    assert code == 0, text
    assert "audited by people" in text and "rule usable_state" in text
    with_bounds(dataset, rule__usable_state=0.95)
    code, text = lpm("status", path, "--gate")
    assert code == 1 and "1 of 1 judged are right" in text and "takes 73 verdicts" in text
    code, _ = lpm("status", path)
    assert code == 0


@pytest.mark.parametrize(
    ("bounds", "words"),
    [({"mood": 0.9}, "'mood' has no precision"), ({"crop.x": 0.9}, "has no precision"), ({"state": 1}, "no bound"),
     ({"rule.nothing": 0.9}, "no rule 'nothing'")],
)  # fmt: skip
def test_bounds_that_cannot_be_are_refused(bounds: dict[str, float], words: str) -> None:
    with pytest.raises(PolicyError, match=words):
        parse_policy({**case.POLICY, "audit": bounds}, "case")


def test_bounds_decide_nothing_and_the_nearer_one_holds() -> None:
    plain, bound = (
        parse_policy(case.POLICY, "x"),
        parse_policy({**case.POLICY, "audit": {"state": 0.9, "state.idle": 0.8}}, "x"),
    )
    assert plain.policy_id == bound.policy_id
    assert (bound.bound(("state", "idle")), bound.bound(("state", "speak")), bound.bound(("kept", ""))) == (
        0.8,
        0.9,
        None,
    )


def test_verdicts_go_with_a_source_that_is_forgotten(dataset: Dataset) -> None:
    from curation.engine.run import drop_orphans

    judge(dataset, "segments", KEPT, Said("right"), "ann")
    inputs = dataset.table(t.INPUTS)
    drop_orphans(dataset.store, inputs.filter([s != SOURCE for s in inputs["source_id"].to_pylist()]))
    assert not dataset.store.exists(table_file(t.AUDITS, SOURCE))
    assert isinstance(audit(dataset, None), Audit) and math.isclose(wilson(0, 0)[1], 1.0)


def test_the_report_shows_what_people_judged(dataset: Dataset) -> None:
    from curation.report.page import render

    assert "Judged by people" not in render(dataset)
    judge(dataset, "segments", LOST, Said("wrong", ["filter"]), "ann")
    page = " ".join(render(dataset).split())
    assert "Judged by people" in page and "rule usable_state" in page and "100.0 %" in page
