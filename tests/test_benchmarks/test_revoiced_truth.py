"""States of clips that are put together from footage with truth: what a mouth does, and what is heard."""

from __future__ import annotations

import pytest
from truth_media import Clip, Panel, Sound
from truth_people import Truth, parse
from truth_revoice import face_state, revoiced_truth

FULL = (0.0, 0.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("raw", "own", "others", "state"),
    [
        ("speak", True, False, "speak"), ("speak", True, True, "both"), ("both", True, False, "both"),
        ("speak", False, True, "discard"), ("speak", False, False, "discard"), ("speak", True, None, "speak"),
        ("listen", True, False, "listen"), ("listen", False, True, "listen"), ("listen", False, False, "idle"),
        ("idle", True, False, "idle"), ("idle", True, True, "listen"), ("idle", True, None, None),
        (None, True, True, None),
    ],
)  # fmt: skip
def test_a_state_follows_from_the_mouth_and_what_is_heard(
    raw: str | None, own: bool, others: bool | None, state: str | None
) -> None:
    assert face_state(raw, own, others) == state


def truth(*spans: tuple[float, float, str | None]) -> Truth:
    shots = [
        {"start": a, "end": b, "voice": "p" if s == "speak" else None,
         "people": [{"person": "p", "place": "full", "x": [0.4, 0.6], "state": s}]} for a, b, s in spans
    ]  # fmt: skip
    return parse("p.mp4", {"shots": shots, "cuts": [], "cut_kinds": []})


def play(person: str, length_s: float, at_s: float = 0.0) -> Panel:
    return Panel(person, [(at_s, 0.0), (at_s + length_s, length_s)], crop=FULL)


def states(clip: Clip, truths: dict[str, Truth]) -> list[tuple[float, float, str]]:
    out: list[tuple[float, float, str]] = []
    for s in revoiced_truth(clip, truths)["shots"]:
        state = s["people"][0]["state"] if s["people"] else "?"
        if out and out[-1][2] == state:
            out[-1] = (out[-1][0], s["end"], state)
        else:
            out.append((s["start"], s["end"], state))
    return out


def test_a_voice_laid_over_a_silent_face_is_heard_and_its_borders_are_unsure() -> None:
    truths = {"p": truth((0, 6, "idle")), "q": truth((0, 2, "speak"))}
    clip = Clip("x", 6.0, [play("p", 6)], [Sound("p", 0, 0, 6), Sound("q", 2, 0, 2)])
    assert [s for _, _, s in states(clip, truths)] == ["idle", "?", "listen", "?", "idle"]
    (_, a, _), (_, b, _) = states(clip, truths)[:2]
    assert b - a == pytest.approx(0.24, abs=0.05)


def test_a_picture_under_another_sound_is_discard_and_in_time_with_its_own_it_speaks() -> None:
    truths = {"p": truth((0, 4, "speak")), "q": truth((0, 4, "speak"))}
    dub = Clip("x", 4.0, [play("p", 4)], [Sound("q", 0, 0, 4)])
    assert states(dub, truths) == [(0.0, 4.0, "discard")]
    shifted = Clip("x", 4.0, [play("p", 4)], [Sound("p", 0.5, 0, 3.5)])
    assert states(shifted, truths) == [(0.0, 4.0, "discard")]
    own = Clip("x", 4.0, [play("p", 4)], [Sound("p", 0, 0, 4)])
    assert states(own, truths) == [(0.0, 4.0, "speak")]


def test_a_face_in_a_cropped_half_stands_where_it_is_shown() -> None:
    truths = {"p": truth((0, 2, "idle"))}
    panel = Panel("p", [(0, 0), (2, 2)], "right", (0.5, 0.0, 0.5, 1.0), crop=(0.25, 0.0, 0.5, 1.0))
    made = revoiced_truth(Clip("x", 2.0, [panel]), truths)
    assert made["shots"][0]["people"][0]["x"] == pytest.approx([0.65, 0.85])
    away = Panel("p", [(0, 0), (2, 2)], "right", (0.5, 0.0, 0.5, 1.0), crop=(0.7, 0.0, 0.3, 1.0))
    assert revoiced_truth(Clip("x", 2.0, [away]), truths)["shots"][0]["people"] == []


def test_cuts_are_where_a_shot_follows_another_and_where_the_footage_has_them() -> None:
    first = truth((0, 4, "speak"))
    cut = parse("q.mp4", {"shots": [], "cuts": [2.0], "cut_kinds": ["hard"]})
    made = revoiced_truth(Clip("x", 7.0, [play("p", 4), play("q", 3, 4.0)]), {"p": first, "q": cut})
    assert (made["cuts"], made["cut_kinds"]) == ([4.0, 6.0], ["hard", "hard"])
