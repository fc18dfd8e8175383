"""Splits: nobody is in two, nothing dealt ever moves, seconds come near the shares, what would leak is withheld."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.identity.splits import GENEROUS, SPLITS, Dealt, balance, deal, group_name, share_rows, shares_of

SHARES = shares_of(0.1, 0.1)
NAMES = [f"{i:016x}" for i in range(14)]

sources = st.sampled_from(NAMES)
seconds = st.dictionaries(sources, st.floats(0, 100), min_size=1)
shared = st.dictionaries(st.sampled_from([f"p-{i}" for i in range(6)]), st.sets(sources, min_size=1, max_size=5))


def spread(dealt: dict[str, Dealt], kept_s: dict[str, float]) -> dict[str, float]:
    out = dict.fromkeys(SPLITS, 0.0)
    for s, d in dealt.items():
        if d.in_force:
            out[d.in_force] += kept_s.get(s, 0.0)
    return out


def nobody_in_two(dealt: dict[str, Dealt], hubs: dict[str, set[str]]) -> bool:
    return all(len({dealt[s].in_force for s in where if s in dealt} - {None}) < 2 for where in hubs.values())


@settings(deadline=None, max_examples=200)
@given(seconds, shared, seconds, shared, st.sets(sources))
def test_what_is_dealt_never_moves_and_nobody_is_in_two_splits(
    kept_s: dict[str, float], hubs: dict[str, set[str]], more: dict[str, float], later: dict[str, set[str]],
    forgotten: set[str],
) -> None:  # fmt: skip
    first = deal(kept_s, hubs, {}, SHARES)
    assert nobody_in_two(first, hubs) and not any(d.withheld for d in first.values())
    assert first == deal(kept_s, hubs, first, SHARES), "the same again: a run killed before its commit changes nothing"
    # Sources come, people turn out to be one: whatever was dealt stays where it was, or is withheld.
    second = deal({**more, **kept_s}, {**hubs, **later}, first, SHARES)
    assert nobody_in_two(second, {**hubs, **later})
    for s, d in first.items():
        assert second[s].split == d.split and second[s].in_force in (d.split, None)
    assert second == deal({**more, **kept_s}, {**hubs, **later}, second, SHARES)
    # Sources go: what is left stays.
    left = {s: d for s, d in second.items() if s not in forgotten}
    still = {name: where - forgotten for name, where in {**hubs, **later}.items()}
    third = deal({s: v for s, v in {**more, **kept_s}.items() if s not in forgotten}, still, left, SHARES)
    assert nobody_in_two(third, still)
    for s, d in left.items():
        if d.in_force:
            assert third[s].in_force == d.in_force


@settings(deadline=None)
@given(seconds, shared, sources, st.sets(sources, max_size=3))
def test_a_source_that_is_added_moves_no_clip_even_where_it_bridges_splits(
    kept_s: dict[str, float], hubs: dict[str, set[str]], new: str, met: set[str]
) -> None:
    before = {s: v for s, v in kept_s.items() if s != new}
    old_hubs = {name: where - {new} for name, where in hubs.items()}
    first = deal(before, old_hubs, {}, SHARES)
    # The new source shows people of others; nothing that was there before changes.
    later = {**old_hubs, **{f"{n}+": {s, new} for n, s in enumerate(met)}}
    second = deal({**before, new: 5.0}, later, first, SHARES)
    assert {s: (d.split, d.withheld) for s, d in second.items() if s != new} == {
        s: (d.split, d.withheld) for s, d in first.items()
    }
    assert nobody_in_two(second, later)


def test_a_bridge_between_splits_is_withheld_and_says_why() -> None:
    before = {"a": Dealt("train", False, None, "g-1"), "b": Dealt("test", False, None, "g-2")}
    found = deal({"a": 9.0, "b": 1.0, "c": 5.0}, {"p-x": ["a", "c"], "p-y": ["b", "c"]}, before, SHARES)
    assert found["a"] == before["a"] and found["b"] == before["b"]
    assert (found["c"].split, found["c"].withheld) == (None, True)
    assert found["c"].why == "shares p-x with train; shares p-y with test"
    # Without the source that made it a bridge it is dealt like any other.
    assert deal({"a": 9.0, "c": 5.0}, {"p-x": ["a", "c"]}, found, SHARES)["c"].split == "train"


def test_of_two_splits_that_turn_out_to_share_a_person_the_smaller_side_is_withheld_for_as_long_as_that_holds() -> None:
    before = {"a": Dealt("train", False, None, "g-1"), "b": Dealt("test", False, None, "g-2")}
    one = deal({"a": 9.0, "b": 1.0}, {"p-x": ["a", "b"]}, before, SHARES)
    assert (one["a"].in_force, one["b"].in_force, one["b"].split) == ("train", None, "test")
    assert one["b"].why == "shares p-x with train"
    # It never comes back elsewhere, whatever grows; and comes back to its own split when people were not one after all.
    assert deal({"a": 9.0, "b": 99.0}, {"p-x": ["a", "b"]}, one, SHARES)["b"].in_force is None
    assert deal({"a": 9.0, "b": 1.0}, {}, one, SHARES)["b"].in_force == "test"


def test_a_group_whose_first_source_went_does_not_lend_its_name() -> None:
    first = deal({"a": 9.0, "b": 9.0}, {"p-x": ["a", "b"]}, {}, SHARES)
    assert first["b"].group_id == group_name("a")
    again = deal({"a": 9.0, "b": 9.0}, {}, {"b": first["b"]}, SHARES)
    assert again["b"].group_id == first["b"].group_id != again["a"].group_id


# ------------------------------------------------------------------ shares


@settings(deadline=None)
@given(st.lists(st.floats(0.5, 2.0), min_size=200, max_size=300), st.text(max_size=3))
def test_many_groups_come_near_their_shares_by_seconds(sizes: list[float], seed: str) -> None:
    kept_s = {f"{i:016x}": v for i, v in enumerate(sizes)}
    got = spread(deal(kept_s, {}, {}, SHARES, seed), kept_s)
    total = sum(sizes)
    for split, share in SHARES.items():
        assert got[split] / total == pytest.approx(share, abs=0.02)


@settings(deadline=None)
@given(st.lists(st.floats(1, 60), min_size=1, max_size=25))
def test_small_sets_are_balanced_by_seconds(sizes: list[float]) -> None:
    kept_s = {f"{i:016x}": v for i, v in enumerate(sizes)}
    dealt, total = deal(kept_s, {}, {}, SHARES), sum(sizes)
    got = spread(dealt, kept_s)
    assert got["train"] >= 0.5 * total, "held-out sets never take most of a small set"
    small = [v for v in sizes if v <= GENEROUS * total]
    if len(small) > 3:
        assert got["val"] > 0 and got["test"] > 0


def test_one_talkative_person_does_not_fill_the_test_set() -> None:
    """Fourteen clips of three groups, thirteen of them of one: that one is trained on."""
    got = balance({"a": 13 * 5.0, "b": 5.0, "c": 4.0}, dict.fromkeys(SPLITS, 0.0), shares_of(0.05, 0.05), "")
    assert got == {"a": "train", "b": "val", "c": "test"} or got == {"a": "train", "b": "test", "c": "val"}


def test_a_growing_set_is_filled_where_it_lacks_most() -> None:
    dealt: dict[str, Dealt] = {}
    kept_s: dict[str, float] = {}
    for i in range(100):
        kept_s[f"{i:016x}"] = 5.0
        dealt = deal(kept_s, {}, dealt, SHARES)
    got = spread(dealt, kept_s)
    assert got["val"] == pytest.approx(50, abs=10) and got["test"] == pytest.approx(50, abs=10)


def test_another_seed_deals_otherwise_and_order_does_not_matter() -> None:
    kept_s = {f"{i:016x}": 5.0 for i in range(100)}
    one = deal(kept_s, {}, {}, SHARES, "one")
    assert one != deal(kept_s, {}, {}, SHARES, "two")
    assert one == deal(dict(reversed(kept_s.items())), {}, {}, SHARES, "one")


def test_a_split_that_nobody_wants_stays_empty_and_shares_are_counted() -> None:
    kept_s = {f"{i:016x}": 5.0 for i in range(20)}
    dealt = deal(kept_s, {}, {}, shares_of(0.0, 0.0))
    assert {d.split for d in dealt.values()} == {"train"}
    everything = deal(kept_s, {}, {}, shares_of(0.5, 0.5))
    assert {d.split for d in everything.values()} == {"val", "test"}
    rows = {r["split"]: r for r in share_rows(dealt, kept_s, shares_of(0.0, 0.0))}
    assert (rows["train"]["kept_s"], rows["train"]["n_groups"], rows["val"]["n_sources"]) == (100.0, 20, 0)
    assert "withheld" not in rows
    with pytest.raises(ValueError, match="shares"):
        shares_of(0.6, 0.6)


@settings(deadline=None)
@given(seconds, shared)
def test_a_group_has_one_split(kept_s: dict[str, float], hubs: dict[str, set[str]]) -> None:
    splits: dict[str, set[str | None]] = defaultdict(set)
    for d in deal(kept_s, hubs, {}, SHARES).values():
        splits[d.group_id].add(d.split)
    assert all(len(found) == 1 for found in splits.values())
