"""What a person does in a recording, seen or not, and how it is cut into samples."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st
from table_rows import row

from schemas import tables as t
from schemas.samples.sample import FPS
from schemas.tables.pairing import TimelineRow
from schemas.time import Interval
from workflows.conversations.sides import OFF_SCREEN, Did, category, did, pieces, runs, stretches, timeline

OWN = frozenset({"a"})
TURNS = [("a", Interval(0, 2)), ("b", Interval(2.2, 4)), ("a", Interval(3.6, 5)), ("b", Interval(7, 8))]


def seen(start_s: float, end_s: float, state: str) -> TimelineRow:
    return row(
        t.TIMELINE, track_id="t", start_s=start_s, end_s=end_s, state=state, reason="synced_voice", confidence=0.8
    )


def said(what: Did) -> list[tuple[float, float, str]]:
    return [(run.start_s, run.end_s, run.state) for run in timeline(what)]


def test_who_is_not_seen_does_what_the_voices_do() -> None:
    """A silence shorter than 0.6 s belongs to what is heard longer beside it, as in timelines."""
    what = did(TURNS, OWN, [], 10 * FPS)
    assert said(what) == [
        (0, 2.2, "speak"), (2.2, 3.6, "listen"), (3.6, 4, "both"), (4, 5, "speak"), (5, 7, "idle"), (7, 8, "listen"),
        (8, 10, "idle"),
    ]  # fmt: skip
    assert {row for *_, row in runs(what)} == {-1}


def test_where_a_face_is_seen_its_timeline_counts() -> None:
    what = did(TURNS, OWN, [seen(1, 3, "idle"), seen(7, 7.6, "discard")], 10 * FPS)
    assert said(what)[:4] == [(0, 1, "speak"), (1, 3, "idle"), (3, 3.6, "listen"), (3.6, 4, "both")]
    assert said(what)[-3:] == [(7, 7.6, "discard"), (7.6, 8, "listen"), (8, 10, "idle")]
    known = [(a / FPS, state, row) for a, _, state, row in runs(what) if row >= 0]
    assert known == [(1, "idle", 0), (7, "discard", 1)]


def test_nothing_may_be_claimed_of_who_is_not_seen() -> None:
    what = did(TURNS, OWN, [seen(1, 3, "idle")], 5 * FPS).where_seen()
    assert said(what) == [(0, 1, "discard"), (1, 3, "idle"), (3, 5, "discard")]


def test_of_two_faces_at_once_the_one_that_knows_counts() -> None:
    for rows in ([seen(1, 3, "listen"), seen(1, 3, "discard")], [seen(1, 3, "discard"), seen(1, 3, "listen")]):
        assert (1, 3, "listen") in said(did([], OWN, rows, 4 * FPS))


def test_a_person_is_gone_who_is_neither_seen_nor_heard_for_long() -> None:
    what = did(TURNS, OWN, [seen(8, 9, "idle")], 10 * FPS)
    assert [(a / FPS, b / FPS) for a, b in stretches(what.present_T, FPS)] == [(0, 2), (3.6, 5), (8, 9)]
    assert [(a / FPS, b / FPS) for a, b in stretches(what.present_T, 3 * FPS)] == [(0, 9)]
    assert stretches(did([], OWN, [], FPS).present_T, FPS) == []


@given(st.integers(0, 10_000), st.integers(1, 10_000), st.integers(1, 1500))
def test_pieces_are_few_equal_and_leave_nothing_out(first: int, length: int, most: int) -> None:
    found = pieces(first, first + length, most)
    lengths = [b - a for a, b in found]
    assert len(found) == -(-length // most) and max(lengths) <= most and max(lengths) - min(lengths) <= 1
    assert [a for a, _ in found] == [first, *(b for _, b in found[:-1])] and found[-1][1] == first + length


spans = st.tuples(st.integers(0, 400), st.integers(1, 120)).map(lambda x: Interval(x[0] / FPS, (x[0] + x[1]) / FPS))


@given(
    st.lists(st.tuples(st.sampled_from("abc"), spans), max_size=8),
    st.lists(st.tuples(spans, st.sampled_from(["speak", "listen", "idle", "both", "discard"])), max_size=5),
    st.integers(1, 400),
)
def test_runs_partition_the_frames(
    turns: list[tuple[str, Interval]], faces: list[tuple[Interval, str]], n: int
) -> None:
    rows = [seen(span.start_s, span.end_s, state) for span, state in faces]
    what = did(turns, OWN, rows, n)
    found = runs(what)
    assert [a for a, *_ in found] == [0, *(b for _, b, *_ in found[:-1])] and found[-1][1] == n
    for a, b, state, at in found:
        assert at == -1 or rows[at].state == state
        assert (what.row_T[a:b] == at).all()
    whole = timeline(what)
    assert whole[0].start_s == 0 and whole[-1].end_s == n / FPS
    assert all(x.state != y.state and x.end_s == y.start_s for x, y in itertools.pairwise(whole))
    inside = [run for run in runs(what, n // 3, n - n // 3) if n // 3 < n - n // 3]
    assert sum(b - a for a, b, *_ in inside) == max(0, n - 2 * (n // 3))


def test_classes_and_the_name_of_the_rule() -> None:
    def of(**seconds: float) -> str:
        return category({"idle": 0.0, "speak": 0.0, "listen": 0.0, "both": 0.0, "discard": 0.0} | seconds)

    assert of(speak=3, listen=2) == of(both=1) == "Conversation"
    assert (of(speak=3, listen=0.4), of(listen=3), of(idle=9)) == ("Speak", "Listen_dialogue", "Silence")
    assert OFF_SCREEN.endswith("heuristic")


def test_whose_lips_speak_is_heard_whatever_the_turn_says() -> None:
    """A turn that ends late is cut where somebody else is seen to speak; where both voices are heard, both stay."""
    others = [seen(1.5, 2.2, "speak"), seen(3.6, 4, "both"), seen(4, 5, "listen")]
    assert said(did(TURNS, OWN, [], 5 * FPS, others)) == [
        (0, 1.52, "speak"), (1.52, 3.6, "listen"), (3.6, 4, "both"), (4, 5, "speak"),
    ]  # fmt: skip
