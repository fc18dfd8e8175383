"""Human decisions about who is who: honoured by every run, later over earlier, and gone without a trace when undone."""

from __future__ import annotations

import pytest
from people_case import Faces, Kept, Row
from table_rows import row

from schemas import tables as t
from stages.identity.anchors import Anchors
from stages.identity.decisions import Decision, decisions_of, replay

A, B, C, D = (x * 16 for x in "abcd")
CAST = {A: [0, 1], B: [0, 2], C: [3], D: [0]}


def decided(kept: Kept, faces: Faces, kind: str, name: str, a: list[str], b: list[str], at: str) -> list[Row]:
    """Return the rows of a decision about tracks."""
    tracks = {r["track_id"]: r for r in faces.tables(faces.people or {})[t.TRACKS][0].to_pylist()}
    columns = ("track_id", "source_id", "start_s", "end_s", "center_x", "center_y")
    return [
        row(
            t.IDENTITY_DECISIONS, decision_id=f"d{at}", kind=kind, side=side, identity_id=name, author="x",
            decided_at=at, **{c: tracks[i][c] for c in columns},
        )
        for side, ids in (("a", a), ("b", b)) for i in ids
    ]  # fmt: skip


def with_decisions(kept: Kept, rows: list[Row]) -> Kept:
    return Kept({**kept.tables, t.IDENTITY_DECISIONS: t.IDENTITY_DECISIONS.from_rows(rows)})


@pytest.fixture
def faces() -> Faces:
    return Faces(people=CAST)


@pytest.fixture
def first(faces: Faces) -> Kept:
    return Kept().run(faces, [A, B, C])


def tracks_of(kept: Kept, name: str) -> list[str]:
    return sorted(i for i, n in kept.names().items() if n == name)


def test_a_merge_holds_and_undoing_it_brings_everything_back(faces: Faces, first: Kept) -> None:
    one, other = first.names()[f"{A}-t0001"], first.names()[f"{C}-t0000"]
    rows = decided(first, faces, "merge", one, tracks_of(first, one), tracks_of(first, other), "1")
    merged = with_decisions(first, rows).run(faces, [A, B, C])
    assert merged.names()[f"{C}-t0000"] == one and merged.aliases() == {other: one}
    told = {r["track_id"]: r["annotator"] for r in merged.rows(t.TRACK_IDENTITIES)}
    assert told[f"{C}-t0000"] == "human-decision" and told[f"{A}-t0000"] == "average-linkage"
    assert merged.run(faces, [A, B, C]).tables == merged.tables
    undone = with_decisions(merged, []).run(faces, [A, B, C])
    assert undone.names() == first.names() and not undone.aliases()


def test_a_split_holds_and_those_who_come_later_follow_whom_they_resemble(faces: Faces, first: Kept) -> None:
    whole = first.names()[f"{A}-t0000"]
    assert tracks_of(first, whole) == [f"{A}-t0000", f"{B}-t0000"]
    rows = decided(first, faces, "split", "p-new", [f"{A}-t0000"], [f"{B}-t0000"], "1")
    split = with_decisions(first, rows).run(faces, [A, B, C])
    assert (split.names()[f"{A}-t0000"], split.names()[f"{B}-t0000"]) == (whole, "p-new")
    later = split.run(faces, [A, B, C, D])
    side = later.names()[f"{D}-t0000"]
    assert side in (whole, "p-new")
    assert {i: n for i, n in later.names().items() if i[:16] != D} == split.names()
    # When what it was compared with goes, it keeps the name it was given.
    gone = later.run(faces, [A, B, D] if side == whole else [B, A, D])
    assert gone.names()[f"{D}-t0000"] == side
    assert with_decisions(later, []).run(faces, [A, B, C, D]).names()[f"{B}-t0000"] == whole


def test_decisions_outlive_another_measure_and_a_scan_that_numbers_tracks_otherwise(faces: Faces, first: Kept) -> None:
    one, other = first.names()[f"{A}-t0001"], first.names()[f"{C}-t0000"]
    whole = first.names()[f"{A}-t0000"]
    rows = [
        *decided(first, faces, "merge", one, [f"{A}-t0001"], [f"{C}-t0000"], "1"),
        *decided(first, faces, "split", "p-new", [f"{A}-t0000"], [f"{B}-t0000"], "2"),
    ]
    kept = with_decisions(first, rows).run(faces, [A, B, C]).run(faces, [A, B, C], max_distance=0.4)
    assert kept.names()[f"{C}-t0000"] == one and kept.names()[f"{B}-t0000"] == "p-new"
    again = kept.run(Faces(people=CAST, first=1), [A, B, C], max_distance=0.4)
    assert again.names()[f"{C}-t0001"] == again.names()[f"{A}-t0002"] == one
    assert (again.names()[f"{A}-t0001"], again.names()[f"{B}-t0001"]) == (whole, "p-new")
    assert again.aliases()[other] == one


def test_a_merge_across_splits_withholds_and_moves_no_clip(faces: Faces) -> None:
    cast = {A: [0], B: [1], C: [2], D: [3]}
    faces = Faces(people=cast)
    before = Kept().run(faces, cast, val=0.25, test=0.25)
    split = before.splits()
    assert sorted(str(s) for s in split.values()) == ["test", "train", "train", "val"]
    here = next(s for s in split if split[s] == "train")
    there = next(s for s in split if split[s] == "test")
    name = before.names()[f"{here}-t0000"]
    rows = decided(before, faces, "merge", name, [f"{here}-t0000"], [f"{there}-t0000"], "1")
    after = with_decisions(before, rows).run(faces, cast, val=0.25, test=0.25)
    assert [s for s in split if after.splits()[s] != split[s]] == [s for s in (here, there) if not after.splits()[s]]
    assert len({after.splits()[here], after.splits()[there]} - {None}) == 1
    assert {r["split"] for r in after.rows(t.SPLIT_SHARES)} >= {"withheld"}
    undone = with_decisions(after, []).run(faces, cast, val=0.25, test=0.25)
    assert undone.splits() == split


# ------------------------------------------------------------------ replay alone

TRACKS = [
    row(t.TRACKS, track_id=i, source_id="s", start_s=10.0 * n, end_s=10.0 * n + 9, duration_s=9.0)
    for n, i in enumerate("abcdef")
]
BY_ID = {r["track_id"]: r for r in TRACKS}


def after(*decisions: tuple[str, str, str, str], **machine: str) -> dict[str, str]:
    """Return people (name -> tracks) after (kind, name, tracks a, tracks b) decisions."""
    made = [
        Decision(str(n), kind, name, [BY_ID[i] for i in a], [BY_ID[i] for i in b])
        for n, (kind, name, a, b) in enumerate(decisions)
    ]
    parts = {name: set(tracks) for name, tracks in machine.items()}
    people = replay(parts, made, Anchors(TRACKS), dict.fromkeys("abcdef", 9.0), {}, lambda *_: False)
    return {name: "".join(sorted(part)) for name, part in people.parts.items()}


def test_of_two_that_disagree_the_later_holds() -> None:
    split, merge = ("split", "Q", "a", "b"), ("merge", "P", "a", "b")
    assert after(merge, split, P="ab") == {"P": "a", "Q": "b"}
    assert after(split, merge, P="ab") == {"P": "ab"}
    assert after(merge, split, merge, P="a", R="b") == {"P": "ab"}


def test_those_whom_the_machine_put_with_somebody_come_along_and_strays_come_alone() -> None:
    # c was found to be with a since; d was of P when the merge was decided, and is now taken for R's.
    assert after(("merge", "P", "ad", "b"), P="ac", Q="b", R="def") == {"P": "abcd", "R": "ef"}


def test_decisions_chain() -> None:
    one = after(("merge", "P", "a", "b"), ("merge", "R", "ab", "cd"), P="a", Q="b", R="cd", S="ef")
    assert one == {"R": "abcd", "S": "ef"}
    two = after(("split", "Q", "ab", "c"), ("merge", "S", "ef", "c"), P="abc", S="ef")
    assert two == {"P": "ab", "S": "cef"}


def test_what_a_decision_names_may_be_gone() -> None:
    assert after(("merge", "P", "", "b"), Q="b", R="c") == {"P": "b", "R": "c"}, "who is left keeps the name"
    assert after(("merge", "P", "", "b"), P="a", Q="b") == {"P": "a", "Q": "b"}, "unless somebody else has it"
    assert after(("split", "Q", "", "b"), P="bc") == {"Q": "bc"}
    assert after(("split", "Q", "a", ""), P="ac") == {"P": "ac"}
    # The machine has found out by itself: who it put with the one split off stays with them.
    assert after(("split", "Q", "a", "b"), P="a", R="bc") == {"P": "a", "Q": "bc"}


def test_rows_make_decisions_in_order_of_time() -> None:
    rows = [
        row(t.IDENTITY_DECISIONS, decision_id=i, kind="merge", side=s, track_id=i + s, decided_at=at)
        for i, at in (("y", "1"), ("x", "2")) for s in "ab"
    ]  # fmt: skip
    assert [(d.decision_id, len(d.a), len(d.b)) for d in decisions_of(rows)] == [("y", 1, 1), ("x", 1, 1)]
