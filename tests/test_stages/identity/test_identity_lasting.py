"""Names last: sources come and go, and nobody is renamed; a name is never given to somebody else."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from people_case import Faces, Kept
from table_rows import row

from schemas import tables as t
from schemas.tables.tracks import TrackRow
from stages.identity.anchors import Anchors
from stages.identity.registry import alias_rows

NAMES = [f"{i:x}" * 16 for i in range(1, 10)]
some = st.sets(st.sampled_from(NAMES), min_size=1)


def nobody_in_two_splits(kept: Kept) -> bool:
    splits, found = kept.splits(), {}
    for track, name in kept.names().items():
        split = splits.get(track[:16])
        if split is not None and found.setdefault(name, split) != split:
            return False
    return True


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.lists(some, min_size=2, max_size=5))
def test_sources_come_and_go_and_nobody_is_renamed_and_no_clip_moves(seed: int, sets: list[set[str]]) -> None:
    """Faces are a close call: clustered anew, they would fall together otherwise after nearly every change."""
    faces, kept = Faces(seed), Kept()
    for n, sources in enumerate(sets):
        before = kept
        kept = before.run(faces, sources, val=0.2, test=0.2)
        stayed = set(sources) & (sets[n - 1] if n else set())
        old, new = before.names(), kept.names()
        assert all(new[track] == old[track] for track in new if track[:16] in stayed)
        splits = before.splits()
        assert all(kept.splits()[s] == splits[s] for s in stayed if splits[s] is not None)
        assert nobody_in_two_splits(kept)
        assert kept.run(faces, sources, val=0.2, test=0.2).tables == kept.tables, "given its own result, the same"


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), some, st.sampled_from([0.3, 0.7]))
def test_another_measure_clusters_anew_and_hands_names_on(seed: int, sources: set[str], distance: float) -> None:
    faces = Faces(seed)
    first = Kept().run(faces, sources)
    second = first.run(faces, sources, max_distance=distance)
    fresh = Kept().run(faces, sources, max_distance=distance)

    def parts(kept: Kept) -> set[frozenset[str]]:
        people: dict[str, set[str]] = {}
        for track, name in kept.names().items():
            people.setdefault(name, set()).add(track)
        return {frozenset(p) for p in people.values()}

    assert parts(second) == parts(fresh), "what was known before has no say in who is who"
    old, new = first.names(), second.names()
    for part in parts(second):
        if part in parts(first):
            assert len({old[i] for i in part} | {new[i] for i in part}) == 1
    gone = set(old.values()) - set(new.values())
    assert gone == second.aliases().keys() and set(second.aliases().values()) <= set(new.values())
    for name in set(new.values()) & set(old.values()):
        assert {i for i in old if old[i] == name} & {i for i in new if new[i] == name}, "never somebody else's"
    assert second.run(faces, sources, max_distance=distance).tables == second.tables


@settings(deadline=None, max_examples=30)
@example(
    297,
    [
        ({NAMES[2], NAMES[6]}, 0.3),
        ({NAMES[0], NAMES[2], NAMES[6]}, 0.6),
        ({NAMES[0], NAMES[1], NAMES[6]}, 0.3),
        ({NAMES[2], NAMES[6]}, 0.6),
    ],
)
@given(
    st.integers(0, 10_000), st.lists(st.tuples(some, st.sampled_from([0.3, 0.45, 0.6, 0.8])), min_size=2, max_size=6)
)
def test_a_name_is_never_given_to_somebody_else(seed: int, runs: list[tuple[set[str], float]]) -> None:
    """Whatever changes, who has a name shares a track with those who had it last, as far as they are still there."""
    faces, kept, bearers = Faces(seed), Kept(), {}
    for sources, distance in runs:
        kept = kept.run(faces, sources, max_distance=distance)
        now: dict[str, set[str]] = {}
        for track, name in kept.names().items():
            now.setdefault(name, set()).add(track)
        bearers = {name: {i for i in tracks if i[:16] in sources} for name, tracks in bearers.items()}
        for name, tracks in now.items():
            assert not bearers.get(name) or bearers[name] & tracks
        bearers |= now


def test_a_track_that_the_policy_leaves_out_for_a_while_keeps_its_name() -> None:
    faces = Faces(people={NAMES[0]: [0, 1], NAMES[1]: [0, 2]})
    whole = Kept().run(faces, NAMES[:2])
    fewer = Kept(whole.tables)
    narrowed = Faces(people={NAMES[0]: [0], NAMES[1]: [0]})
    fewer = fewer.run(narrowed, NAMES[:2])
    assert len(fewer.names()) == 2
    assert fewer.run(faces, NAMES[:2]).names() == whole.names()


def test_names_outlive_a_scan_that_numbers_tracks_otherwise() -> None:
    people = {NAMES[0]: [0, 1, 2], NAMES[1]: [2, 1]}
    before = Kept().run(Faces(people=people), NAMES[:2])
    after = before.run(Faces(people=people, first=1), NAMES[:2])  # t0001 is now who t0000 was
    old, new = before.names(), after.names()
    for track, name in new.items():
        assert old[f"{track[:16]}-t{int(track[-4:]) - 1:04d}"] == name


def test_a_remembered_track_is_found_by_time_and_place() -> None:
    def track(name: str, start: float, end: float, x: float = 0.5) -> TrackRow:
        return row(t.TRACKS, track_id=name, source_id="s", start_s=start, end_s=end, center_x=x, center_y=0.5)

    was = track("t0", 10.0, 20.0)
    assert Anchors([track("t0", 10.0, 20.0)]).find(was) == [("t0", 10.0)]
    assert Anchors([track("t0", 0.0, 10.04), track("t1", 10.04, 20.0)]).find(was) == [("t1", pytest.approx(9.96))]
    assert [i for i, _ in Anchors([track("t7", 10.0, 14.0), track("t8", 14.0, 20.0)]).find(was)] == ["t7", "t8"]
    assert Anchors([track("t1", 10.0, 20.0, 0.9)]).find(was) == [], "somebody else in the picture"
    two = Anchors([track("t1", 10.0, 20.0, 0.55), track("t2", 10.0, 20.0, 0.51)])
    assert [i for i, _ in two.find(was)] == ["t2"] and [i for i, _ in two.find(was, {"t2"})] == ["t1"]


def test_a_name_out_of_use_leads_to_one_in_use_and_goes_with_its_sources() -> None:
    before = [row(t.IDENTITY_ALIASES, alias="p-1", source_id="a", identity_id="p-2")]
    rows = alias_rows(before, {"p-2": "p-3"}, {"p-2": ["b"]}, {"p-3", "p-4"})
    assert {(r["alias"], r["source_id"], r["identity_id"]) for r in rows} == {("p-1", "a", "p-3"), ("p-2", "b", "p-3")}
    gone = alias_rows(rows, {}, {}, {"p-4"})
    assert {(r.alias, r.identity_id) for r in gone} == {("p-1", None), ("p-2", None)}, "nobody's, and never given again"
    assert alias_rows(gone, {}, {}, {"p-4"}) == gone
    assert {r.identity_id for r in alias_rows(gone, {"p-1": "p-4"}, {"p-1": ["a"]}, {"p-4"})} == {"p-4", None}


def test_faces_of_one_person_are_one_and_splits_are_of_kept_seconds() -> None:
    cast = {name: [n % 5] for n, name in enumerate(NAMES)}
    kept = Kept().run(Faces(people=cast), NAMES, val=0.25, test=0.25)
    assert len(set(kept.names().values())) == 5
    shares = {r["split"]: r for r in kept.rows(t.SPLIT_SHARES)}
    assert sum(r["kept_s"] for r in shares.values()) == pytest.approx(9.0 * len(NAMES))
    assert all(shares[s]["n_groups"] for s in ("train", "val", "test"))
    assert {r["identity_id"]: r["split"] for r in kept.rows(t.IDENTITIES)} == {
        name: kept.splits()[track[:16]] for track, name in kept.names().items()
    }
