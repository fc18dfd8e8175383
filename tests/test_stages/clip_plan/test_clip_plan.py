"""The planned clip: what it says of its crop is what lies in the crop, and rules can be decided on all of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from packing_case import SOURCE, case, plan, segment_row
from table_rows import face_series, row

from curation.decisions.rules import check_policy
from schemas import tables as t
from schemas.settings.policy import parse_policy
from schemas.time import Interval
from stages.clip_plan.content import digital_silence
from stages.clip_plan.crop import merged, near_rows, somebody, usual_here, usual_text

SIZE = (1280, 720)
FACE = (600.0, 200.0, 100.0, 100.0)


def planned(layout: list[dict[str, Any]], people: list[Any] | None = None, **settings: Any) -> dict[str, Any]:
    """Return the plan of one clip of 4 s."""
    rows = [segment_row(0.0, 4.0)]
    out = plan(case(SIZE, 4.0, people or [FACE], rows, [(0.0, 4.0, "speak")], layout=layout), **settings)
    assert not out.errors
    return dict(out.tables[t.CLIP_PLANS].to_pylist()[0])


def _text(k: int, *box: float) -> dict[str, Any]:
    return {"k": k, "t_s": k / 25, "text_boxes": list(box), "panel_boxes": [0.0, 0.0, 1.0, 1.0]}


def test_a_clean_picture_is_planned_clean() -> None:
    found = planned([_text(25), _text(75)])
    zero = ("text_in_crop", "usual_text_in_crop", "logo_in_crop", "inset_in_crop", "bars_in_crop", "other_faces")
    assert {c: found[c] for c in zero} == dict.fromkeys(zero, 0)
    assert found["face_in_crop"] == 1 and found["framing"] == "half_body" and not found["crop_moves"]
    assert found["packed_face_px"] == pytest.approx(100 * found["packed_short_px"] / found["crop_short_px"], rel=0.01)
    assert found["upscale"] <= 1.5


def test_subtitles_are_cropped_away_and_text_on_the_chin_is_not_denied() -> None:
    below = planned([_text(25, 0.3, 0.6, 0.8, 0.66), _text(75)])
    assert below["text_in_crop"] == 0 and below["crop_y"] + below["crop_h"] <= 0.6 * 720
    chin = planned([_text(25, 0.4, 0.41, 0.6, 0.45), _text(75)])
    assert chin["text_in_crop"] > 0.005


def test_bars_insets_and_graphics_are_left_out() -> None:
    bars = {"bar_top": 0.12, "bar_bottom": 0.12, "bar_left": 0.0, "bar_right": 0.0}
    pip = {"inset_boxes": [0.62, 0.3, 0.8, 0.6], "logo_boxes": [0.3, 0.2, 0.36, 0.3]}
    found = planned([{**_text(k), **bars, **pip} for k in (25, 75)])
    assert found["bars_in_crop"] == found["inset_in_crop"] == found["logo_in_crop"] == 0
    assert found["crop_y"] >= 0.12 * 720 and found["crop_x"] + found["crop_w"] <= 0.62 * 1280


def test_a_person_in_an_inset_is_cropped_inside_it() -> None:
    found = planned([{**_text(k), "inset_boxes": [0.4, 0.15, 0.65, 0.6]} for k in (25, 75)], [FACE, (300, 300, 90, 90)])
    assert found["inset_in_crop"] == 0 and found["other_faces"] == 0
    assert found["crop_x"] >= 0.4 * 1280 and found["crop_y"] + found["crop_h"] <= 0.6 * 720


def test_other_faces_count_and_slips_of_the_detector_do_not() -> None:
    assert planned([_text(25)], [FACE, (650.0, 230.0, 90.0, 90.0)])["other_faces"] == 1
    brief = planned([_text(25)], [FACE, lambda at_s: (650.0 if at_s < 0.12 else 5000.0, 230.0, 90.0, 90.0)])
    assert brief["other_faces"] in (0, 1)  # seen throughout, inside for 0.12 s


def test_a_face_that_nothing_confirms_must_last_to_be_somebody() -> None:
    def seen(n: int, score: float, mesh: bool) -> bool:
        return somebody(face_series(range(n), score=np.full(n, score), has_mesh=np.full(n, mesh)))

    assert not seen(4, 0.9, True) and seen(5, 0.9, False) and seen(5, 0.5, True)
    assert not seen(11, 0.5, False) and seen(12, 0.5, False)


def test_usual_text_is_what_comes_back() -> None:
    shots = [Interval(10.0 * i, 10.0 * (i + 1)) for i in range(4)]
    band, sign = [0.3, 0.8, 0.7, 0.86], [0.1, 0.1, 0.2, 0.15]
    rows = [row(t.LAYOUT, source_id=SOURCE, **_text(25 * k, *(band if k % 6 == 0 else ()))) for k in range(40)]
    rows[2] = row(t.LAYOUT, source_id=SOURCE, **_text(50, *sign))
    places = usual_text(rows, shots)
    assert [p.box.round(2).tolist() for p in places] == [band]
    assert len(usual_here(places, Interval(1.0, 4.0))) == 1
    one_shot = usual_text(rows[:20], [Interval(0.0, 40.0)])
    assert len(usual_here(one_shot, Interval(1.0, 4.0))) == 1 and not len(usual_here(one_shot, Interval(30.0, 34.0)))


def test_a_title_of_one_shot_is_no_caption_of_the_next() -> None:
    shots = [Interval(10.0 * i, 10.0 * (i + 1)) for i in range(2)]
    page = [0.1, 0.2, 0.9, 0.3]
    rows = [row(t.LAYOUT, source_id=SOURCE, **_text(25 * k, *(page if k >= 11 else ()))) for k in range(20)]
    places = usual_text(rows, shots)
    assert not len(usual_here(places, Interval(5.0, 9.0))) and len(usual_here(places, Interval(12.0, 16.0))) == 1
    captions = usual_text([*rows[:11], *(r for r in rows[11:] if r["k"] % 50), *rows[:4]], shots)
    assert len(usual_here(captions, Interval(12.0, 16.0))) == len(captions)


def test_a_face_at_the_pictures_edge_is_counted() -> None:
    def leaving(at_s: float) -> tuple[float, float, float, float]:
        return (600.0 if at_s < 3.0 else 1.0, 200.0, 100.0, 100.0)

    assert planned([_text(25)])["face_at_edge"] == 0
    assert planned([_text(25)], [leaving])["face_at_edge"] == pytest.approx(0.25)


def test_what_is_measured_twice_is_one_thing_and_stays_covered() -> None:
    boxes = np.array([[0.0, 0, 100, 20], [1, 0, 101, 20], [0, 1, 99, 21], [50, 0, 150, 20], [300, 0, 400, 20]])
    found = merged(boxes)
    assert len(found) == 3
    assert all(any((f[:2] <= b[:2]).all() and (f[2:] >= b[2:]).all() for f in found) for b in boxes)
    assert merged(np.zeros((0, 4))).shape == (0, 4)


def test_overlays_next_to_a_clip_count_within_its_shot() -> None:
    rows = [row(t.LAYOUT, source_id=SOURCE, **_text(k)) for k in (10, 60, 110, 160)]
    assert [r["k"] for r in near_rows(rows, range(70, 100), Interval(0.0, 10.0))] == [60, 110]
    assert [r["k"] for r in near_rows(rows, range(70, 100), Interval(3.0, 10.0))] == [110]


def test_rooms_are_never_digitally_silent() -> None:
    assert digital_silence(np.array([-120.0, -120.0, -60.0, -80.0])) == 0.5
    assert digital_silence(np.zeros(0)) == 0


def test_every_column_of_a_plan_can_be_ruled_on() -> None:
    for column in t.CLIP_PLANS.column_names:
        rule = {"id": "r", "on": "segments", "step": "cropping", "keep": f'"{column}" IS NOT NULL'}
        check_policy(parse_policy({"name": "x", "rules": [rule]}, "x.yaml"))
