"""References are held against the clip's own portraits and against the other people of its source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference_case import image
from table_rows import row

from annotators.face.face_reid import FaceReid
from curation.memory import MemoryInputs
from curation.stage import WorkItem
from schemas import tables as t
from schemas.time import Interval
from stages.identity.faces import Face
from stages.references.check import ImageCheck, Own, Portrait, Rivals, check_images, outside_first, own_face
from stages.references.choice import Clip
from stages.references.references import References, ReferencesSettings

SPAN = Interval(10.0, 14.0)
CLIP = Clip("a", "a-t0", SPAN)
X, Y = np.eye(4)[0], np.eye(4)[1]


def _portraits(*spec: tuple[float, np.ndarray, float]) -> dict[tuple[str, int], Portrait]:
    return {("a-t0", round(25 * t_s)): Portrait(t_s, v, worth) for t_s, v, worth in spec}


def test_the_portraits_inside_the_clip_stand_for_it() -> None:
    own = own_face(_portraits((1.0, Y, 0.9), (11.0, X, 0.8), (12.0, X, 0.8), (13.0, Y, 0.0)), SPAN, unit=True)
    assert [k for _, k in own.anchors] == [275, 300]
    single = own_face(_portraits((1.0, Y, 0.9), (11.0, X, 0.8)), SPAN, unit=True)
    assert len(single.anchors) == 2
    unaligned = own_face(_portraits((1.0, Y, 0.0)), SPAN, unit=True)
    assert len(unaligned.anchors) == 1


def test_an_image_is_not_compared_with_itself() -> None:
    portraits = _portraits((11.0, X, 0.8), (12.0, X, 0.8), (13.0, Y, 0.8))
    own = own_face(portraits, SPAN, unit=True)
    found = check_images({k: p.vector for k, p in portraits.items()}, own, np.stack([Y]))
    assert found["a-t0", 275].passes(1.0, 0.1)
    stranger = found["a-t0", 325]
    assert stranger.rival == 0.0 and stranger.own == pytest.approx(np.sqrt(2)) and not stranger.passes(2.0, 0.0)
    only = own_face(_portraits((11.0, X, 0.8)), SPAN, unit=True)
    assert check_images({("a-t0", 275): X}, only, np.zeros((0, 0)))["a-t0", 275] == ImageCheck(None, None)


@given(st.floats(0, 2), st.floats(0, 2) | st.none(), st.floats(0.1, 1.5), st.floats(0, 0.5))
def test_what_passes_is_near_and_nearest_to_its_own(
    own: float, rival: float | None, limit: float, margin: float
) -> None:
    if ImageCheck(own, rival).passes(limit, margin):
        assert own <= limit and (rival is None or own + margin <= rival)
    assert ImageCheck(None, rival).passes(limit, margin)


def test_rivals_are_the_other_people_of_the_source() -> None:
    faces = {
        "a1": Face(X, 1.0, 0.5, "e", "a"), "a2": Face(Y, 1.0, 0.5, "e", "a"), "a3": Face(Y, 1.0, 0.0, "e", "a"),
        "a4": Face(Y, 1.0, 0.5, "other", "a"), "b1": Face(Y, 1.0, 0.5, "e", "b"),
    }  # fmt: skip
    rivals = Rivals(faces, {"a1": "p", "a2": "q", "a3": "r", "a4": "s", "b1": "u"})
    assert rivals.of("a", "p", "e").tolist() == [Y.tolist()]
    assert not len(rivals.of("b", "u", "e")) and not len(rivals.of("none", "p", "e"))


def test_images_inside_the_clip_are_left_out_unless_there_is_no_other() -> None:
    inside, outside = image(11.0), image(2.0)
    assert outside_first(CLIP, [inside, outside]) == [outside]
    assert outside_first(CLIP, [inside]) == [inside]


def test_an_empty_own_face_has_no_mean() -> None:
    assert Own({}, (), True).mean_without(None) is None


def _stage(cast: dict[str, np.ndarray], people: dict[str, str]) -> list[dict[str, Any]]:
    """Run the stage over tracks of source `a` with six portraits each, 2 s apart; one segment a track from 0 to 4 s."""
    rng = np.random.default_rng(0)
    embeddings = []
    for track, means in cast.items():
        for i in range(6):
            v = means[i * len(means) // 6] + rng.normal(0, 0.02, means.shape[1])
            embeddings.append(
                row(t.FACE_EMBEDDINGS, track_id=track, source_id="a", k=50 * i, t_s=2.0 * i, quality=0.7, yaw_deg=0.0,
                    embedding=(v / np.linalg.norm(v)).tolist(), view="frontal", expression="neutral",
                    expression_score=0.8, annotator=FaceReid.name)
            )  # fmt: skip
    segments = [row(t.SEGMENTS, segment_id=f"{x}-s", source_id="a", track_id=x, end_s=4.5) for x in cast]
    members = [row(t.TRACK_IDENTITIES, track_id=x, source_id="a", identity_id=p) for x, p in people.items()]
    parts = {
        t.FACE_EMBEDDINGS: [t.FACE_EMBEDDINGS.from_rows(embeddings)],
        t.TRACK_IDENTITIES: [t.TRACK_IDENTITIES.from_rows(members)],
        t.SEGMENTS: [t.SEGMENTS.from_rows(segments)],
    }
    out = References(ReferencesSettings()).run(WorkItem(), MemoryInputs(Path("none"), parts))
    assert not out.errors
    return out.tables[t.REFERENCES].to_pylist()


def test_a_wrongly_merged_stranger_is_not_taken() -> None:
    x, y = np.eye(16)[:2]
    rows = _stage({"t1": x[None], "t2": y[None]}, {"t1": "p", "t2": "p"})
    assert rows and all(r["ref_track_id"] == r["segment_id"][:2] for r in rows)
    assert all(r["own_distance"] < 0.3 for r in rows)


def test_of_a_track_of_two_people_only_the_clips_own_is_taken() -> None:
    x, y = np.eye(16)[:2]
    rows = _stage({"t1": np.stack([x, y])}, {"t1": "p"})
    assert rows and all(r["ref_t_s"] < 6.0 for r in rows)  # the second person begins at 6 s
    rows = _stage({"t1": np.stack([x, y]), "t2": y[None]}, {"t1": "p", "t2": "q"})
    mine = [r for r in rows if r["segment_id"] == "t1-s"]
    assert mine and all(r["ref_t_s"] < 6.0 and r["rival_distance"] > 1.0 for r in mine)
