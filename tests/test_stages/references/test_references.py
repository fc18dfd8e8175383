"""References: the right person, from outside the clip where possible, different from each other, at least one each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference_case import image
from table_rows import row

from curation.memory import MemoryInputs
from curation.stage import WorkItem
from schemas import tables as t
from schemas.time import Interval
from stages.references.choice import NAMED, Clip, Image, choose, inside, nearness, pool
from stages.references.references import References, ReferencesSettings, rules_of

RULES = rules_of(ReferencesSettings(), 0.52)
CLIP = Clip("a", "a-t0", Interval(10.0, 14.0))


# ------------------------------------------------------------------ choice


def test_outside_comes_before_inside_even_if_poorer() -> None:
    images = [image(11.0, quality=0.95), image(2.0, quality=0.5), image(14.2, quality=0.9)]
    assert [nearness(i, CLIP, 1.0) for i in images] == [2, 0, 1]
    assert choose(CLIP, images, [], RULES)[0] == ("global", images[1])
    assert choose(CLIP, images[:1], [], RULES) == [("global", images[0])]


def test_same_time_in_another_source_is_outside() -> None:
    assert not inside(image(11.0, "b-t0"), CLIP)


def test_the_global_one_is_frontal_with_open_eyes() -> None:
    images = [
        image(1.0, quality=0.9, expression="eyes_closed"),
        image(3.0, quality=0.9, view="left_profile"),
        image(5.0, quality=0.6),
    ]
    assert choose(CLIP, images, [], RULES)[0] == ("global", images[2])


@pytest.mark.parametrize("yaw_deg", [None, 60.0, -60.0])
def test_a_chest_towards_the_camera_with_the_head_aside_is_not_the_global_one(yaw_deg: float | None) -> None:
    images = [image(1.0, quality=0.9, yaw_deg=yaw_deg), image(5.0, quality=0.6)]
    assert choose(CLIP, images, [], RULES)[0] == ("global", images[1])


def test_views_and_expressions_are_one_a_label_and_verified() -> None:
    images = [
        image(1.0),
        image(3.0, view="left_profile", yaw_deg=-40.0),
        image(5.0, view="left_profile", yaw_deg=-45.0, quality=0.4),
        image(7.0, expression="smile"),
        image(9.0, expression="surprise", distance=0.9),
        image(4.0, expression="frown", expression_score=0.3),
    ]
    chosen = choose(CLIP, images, [], RULES)
    assert [(k, i.t_s) for k, i in chosen] == [
        ("global", 1.0), ("view", 4.0), ("view", 3.0), ("expression", 5.0), ("expression", 7.0)
    ]  # fmt: skip
    assert all(i.distance <= RULES.max_distance for _, i in chosen)
    assert not any(k == "expression" and i.expression in ("surprise", "frown") for k, i in chosen)


def test_one_expression_is_no_range() -> None:
    smiles = [image(1.0, expression="smile"), image(3.0, expression="open_smile"), image(5.0, expression="smile")]
    assert "expression" not in [k for k, _ in choose(CLIP, smiles, [], RULES)]
    chosen = choose(CLIP, [*smiles, image(7.0, expression="frown", quality=0.5)], [], RULES)
    assert {NAMED[i.expression] for k, i in chosen if k != "view"} == {"smile", "frown"}


@pytest.mark.parametrize("expression", ["eyes_closed", "open_mouth", "pout", "unknown"])
def test_what_nobody_would_name_an_expression_is_none(expression: str) -> None:
    images = [image(1.0), image(3.0, expression="smile"), image(5.0, expression=expression)]
    assert expression not in [i.expression for k, i in choose(CLIP, images, [], RULES) if k == "expression"]


def test_no_burnt_in_text_and_no_image_of_the_clip_but_for_want_of_any_other() -> None:
    texty, inner = image(2.0, quality=0.95, text_area=0.03), image(12.0, quality=0.95)
    covered = image(3.0, quality=0.95, text_area=0.3)
    clean = image(5.0, quality=0.4, text_area=0.001)
    assert choose(CLIP, [texty, inner, clean], [], RULES)[0] == ("global", clean)
    assert choose(CLIP, [texty, inner, covered], [], RULES) == [("global", texty)]
    assert choose(CLIP, [inner, covered], [], RULES) == [("global", inner)]  # a title page is no picture of a person
    assert choose(CLIP, [covered], [], RULES) == [("global", covered)]
    side = [image(s, view="left_profile", text_area=a) for s, a in ((3.0, 0.1), (11.0, 0.0))]
    assert [k for k, _ in choose(CLIP, [clean, *side], [], RULES)] == ["global"]


def test_near_identical_frames_are_left_out() -> None:
    images = [image(1.0), image(1.5), image(2.0)]
    assert choose(CLIP, images, [], RULES) == [("global", images[0])]


def test_when_nothing_is_verified_the_own_track_still_counts() -> None:
    own, other = image(2.0, distance=0.8), image(2.0, "b-t0", distance=0.7)
    assert choose(CLIP, [own], [other], RULES) == [("global", own)]
    assert choose(CLIP, [], [], RULES) == []


_images = st.lists(
    st.builds(
        image,
        st.integers(0, 20).map(float),
        st.sampled_from(["a-t0", "a-t1", "b-t0"]),
        st.floats(0, 1),
        distance=st.floats(0, 1),
        view=st.sampled_from(["frontal", "left_profile", "unknown"]),
        expression=st.sampled_from(["neutral", "smile", "open_smile", "frown", "eyes_closed"]),
        expression_score=st.floats(0, 1),
        text_area=st.sampled_from([None, 0.0, 0.2]),
    ),
    max_size=25,
    unique_by=lambda i: i.key,
)


@given(_images)
def test_every_choice_is_legal_and_does_not_depend_on_order(images: list[Image]) -> None:
    own = [i for i in images if i.track_id == CLIP.track_id]
    chosen = choose(CLIP, own, pool(images, RULES), RULES)
    assert chosen == choose(CLIP, own[::-1], pool(images[::-1], RULES), RULES)
    assert bool(chosen) or not own
    keys = [i.key for _, i in chosen]
    assert len(set(keys)) == len(keys)
    kinds = [k for k, _ in chosen]
    assert kinds.count("global") == min(1, len(chosen))
    assert all(not inside(i, CLIP) and i.clean for k, i in chosen if k != "global")
    assert all(i.expression in NAMED for k, i in chosen if k == "expression")
    if "expression" in kinds:
        assert len({NAMED[i.expression] for k, i in chosen if k != "view" and i.expression in NAMED}) >= 2
    assert kinds.count("view") <= 4 and kinds.count("expression") <= 8
    if any(nearness(i, CLIP, 1.0) == 0 and not i.covered and i.distance <= RULES.max_distance for i in own):
        assert not inside(chosen[0][1], CLIP)


@given(_images)
def test_a_pool_keeps_the_best_of_every_label(images: list[Image]) -> None:
    kept = pool(images, RULES, per_label=2)
    verified = [i for i in images if i.distance <= RULES.max_distance] or images
    assert {(i.view, i.expression) for i in kept} == {(i.view, i.expression) for i in verified}
    labels = [(i.view, i.expression) for i in kept]
    assert all(labels.count(label) <= 2 for label in labels)


# ------------------------------------------------------------------ the stage


def _dataset() -> dict[Any, list[Any]]:
    rng = np.random.default_rng(1)
    x, y = rng.normal(0, 0.05, (2, 128))
    cast = {"a-t0": x, "a-t1": y, "b-t0": x, "c-t0": y}
    embeddings = [
        row(
            t.FACE_EMBEDDINGS, track_id=track, source_id=track[0], k=25 * s, t_s=float(s), quality=0.7, yaw_deg=0.0,
            embedding=(face + rng.normal(0, 0.01, 128)).tolist(), view="frontal" if s % 3 else "left_profile",
            expression="smile" if s % 2 else "neutral", expression_score=0.8,
        )
        for track, face in cast.items() for s in range(0, 12, 2)
    ]  # fmt: skip
    members = [
        row(t.TRACK_IDENTITIES, track_id=track, source_id=track[0], identity_id="p-x" if face is x else "p-y")
        for track, face in cast.items()
    ]
    segments = [
        row(t.SEGMENTS, segment_id=f"{track}-{s}", source_id=track[0], track_id=track, start_s=float(s), end_s=s + 4.0)
        for track in (*cast, "d-t0") for s in (0, 4)
    ]  # fmt: skip
    return {
        t.FACE_EMBEDDINGS: [t.FACE_EMBEDDINGS.from_rows([e for e in embeddings if e["source_id"] == s]) for s in "abc"],
        t.TRACK_IDENTITIES: [t.TRACK_IDENTITIES.from_rows(members)],
        t.SEGMENTS: [t.SEGMENTS.from_rows(segments)],
    }


def test_every_segment_gets_references_of_its_person() -> None:
    parts = _dataset()
    out = References(ReferencesSettings()).run(WorkItem(), MemoryInputs(Path("none"), parts))
    rows = out.tables[t.REFERENCES].to_pylist()
    person = {r["track_id"]: r["identity_id"] for r in parts[t.TRACK_IDENTITIES][0].to_pylist()}
    for segment in parts[t.SEGMENTS][0].to_pylist():
        mine = [r for r in rows if r["segment_id"] == segment["segment_id"]]
        if segment["track_id"] == "d-t0":
            assert not mine
            continue
        assert {r["identity_id"] for r in mine} == {person[segment["track_id"]]}
        assert all(person[r["ref_track_id"]] == person[segment["track_id"]] for r in mine)
        assert [r["kind"] for r in mine].count("global") == 1 and not any(r["overlaps_clip"] for r in mine)
        assert all(0 < r["distance"] < 0.3 for r in mine)
        for kind in ("view", "expression"):
            assert [r["n"] for r in mine if r["kind"] == kind] == list(range(sum(r["kind"] == kind for r in mine)))
    assert [e.unit_id for e in out.errors] == ["d-t0-0", "d-t0-4"]


def test_order_of_sources_does_not_matter() -> None:
    parts = _dataset()
    first = References(ReferencesSettings()).run(WorkItem(), MemoryInputs(Path("none"), parts)).tables[t.REFERENCES]
    parts[t.FACE_EMBEDDINGS].reverse()
    again = References(ReferencesSettings()).run(WorkItem(), MemoryInputs(Path("none"), parts)).tables[t.REFERENCES]
    distances = [c["distance"].to_pylist() for c in (first, again)]
    assert distances[0] == pytest.approx(distances[1])
    assert first.drop_columns("distance").equals(again.drop_columns("distance"))
