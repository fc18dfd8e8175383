"""States frame by frame on real footage against its truth files: from pixels and sound to timelines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from states_case import stages

from curation.memory import MemoryInputs, run_chain
from schemas import tables as t
from schemas.time import GRID_HZ

pytestmark = pytest.mark.slow


def right(path: Path) -> tuple[float, list[dict[str, Any]]]:
    """Return the share of a clip's true person-frames whose state was found, and the segments."""
    parts = run_chain(path, stages(), duration_s=20.0)
    inputs = MemoryInputs(path, parts)
    tracks, runs = (inputs.read(x).to_pylist() for x in (t.TRACKS, t.TIMELINE))
    truth = json.loads(path.with_suffix(".truth.json").read_text())
    hits, total = 0, 0
    for shot in truth["shots"]:
        for k in range(round(shot["start"] * GRID_HZ), round(shot["end"] * GRID_HZ)):
            at_s = (k + 0.5) / GRID_HZ
            for person in shot["people"]:
                side = {"left": (0.0, 0.5), "right": (0.5, 1.0)}.get(person["place"], (0.0, 1.0))
                here = [x for x in tracks if x["start_s"] <= at_s < x["end_s"] and side[0] <= x["center_x"] <= side[1]]
                track = max(here, key=lambda x: x["median_face_px"])["track_id"] if here else None
                state = next(
                    (r["state"] for r in runs if r["track_id"] == track and r["start_s"] <= at_s < r["end_s"]), None
                )
                hits += state == person["state"]
                total += 1
    return hits / total, inputs.read(t.SEGMENTS).to_pylist()


@pytest.mark.parametrize("name", ["interview_cuts", "lips_without_voice", "offscreen_voice"])
def test_states_frame_by_frame(media: Path, name: str) -> None:
    assert right(media / f"{name}.mp4")[0] > 0.95


def test_two_people_in_one_picture_are_one_exchange(media: Path) -> None:
    share, segments = right(media / "split_screen.mp4")
    assert share > 0.95
    speaker, listener = sorted(segments, key=lambda s: s["state"], reverse=True)
    assert (speaker["state"], listener["state"]) == ("speak", "listen")
    assert listener["partner_track_id"] == speaker["track_id"] and listener["pair_id"] == speaker["pair_id"]


def test_noise_over_a_voice_does_not_hide_it(media: Path) -> None:
    _, segments = right(media / "noisy_speech.mp4")
    (only,) = segments
    assert (only["state"], only["start_s"], only["end_s"]) == ("speak", 0.0, pytest.approx(7.0, abs=0.1))
