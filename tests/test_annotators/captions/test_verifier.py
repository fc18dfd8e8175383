"""The audio-visual verifier against a real HTTP server that speaks the chat protocol, and its stage on a real clip."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import soundfile
from chat_server import FRAMES, Server, answer, completion, direct, serving  # noqa: F401
from packing_case import FACE, SIZE, SOURCE, case, flash_and_beep, planned, segment_row

from annotators.captions.chat import ChatEndpoint, Patience
from annotators.captions.verifier import OpenAIVerifier, VerdictFailedError
from curation.memory import MemoryInputs
from curation.stage import WorkItem
from schemas import tables as t
from stages.pairing.category import Category
from stages.performance.verification import Verification, VerificationSettings

GOOD = {"category": "Listen_dialogue", "confidence": 0.8, "note": "Another voice is heard; the lips are still."}
SOUND = (0.1 * np.sin(np.arange(48_000) / 10)).astype(np.float32)


def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/v1"


def verifier(server: Server) -> OpenAIVerifier:
    return OpenAIVerifier(ChatEndpoint(url(server)), "some/omni", patience=Patience(sleep=lambda _: None))


def test_it_is_shown_frames_and_sound_and_not_what_was_measured() -> None:
    with serving(answer(completion(GOOD))) as server:
        verdict = verifier(server).judge(FRAMES, 1.0, SOUND)
    assert (verdict.category, verdict.confidence) == ("Listen_dialogue", 0.8)
    body = server.requests[0]["body"]
    parts = body["messages"][1]["content"]
    assert [p["type"] for p in parts] == ["text", "image_url", "text", "image_url", "input_audio", "text"]
    heard, rate = soundfile.read(io.BytesIO(base64.b64decode(parts[4]["input_audio"]["data"])))
    assert rate == 16_000 and np.abs(heard - SOUND).max() < 1e-3
    assert set(body["response_format"]["json_schema"]["schema"]["properties"]["category"]["enum"]) == set(
        get_args(Category)
    )


def test_an_answer_that_does_not_fit_is_told_why() -> None:
    with serving(answer(completion({**GOOD, "category": "Chat"})), answer(completion(GOOD))) as server:
        assert verifier(server).judge(FRAMES, 1.0, SOUND).category == "Listen_dialogue"
    assert "category" in server.requests[1]["body"]["messages"][-1]["content"]


def test_no_usable_answer_says_what_was_tried() -> None:
    with (
        serving(answer(b"{}", 500), answer(b"nonsense"), answer(b"", 503)) as server,
        pytest.raises(VerdictFailedError, match="no usable verdict") as caught,
    ):
        verifier(server).judge(FRAMES, 1.0, SOUND)
    assert len(caught.value.attempts) == 3


def test_nothing_to_see_or_hear_is_an_error() -> None:
    judge = OpenAIVerifier(ChatEndpoint("http://127.0.0.1:9/v1"), "m").judge
    for frames, sound in (((), SOUND), (FRAMES, SOUND[:0])):
        with pytest.raises(ValueError, match="frames and sound"):
            judge(frames, 0.0, sound)


def test_the_stage_judges_each_segment_on_its_own(tmp_path: Path) -> None:
    media = flash_and_beep(tmp_path / "a.mp4", [n / 25 for n in range(75)])
    said = segment_row(0.0, 1.2, category="Speak")
    heard = segment_row(1.2, 2.8, state="listen", category="Listen_dialogue")
    parts = case(SIZE, 3.0, [FACE], [said, heard], [(0.0, 1.2, "speak"), (1.2, 3.0, "listen")])
    units = (said["segment_id"], heard["segment_id"])
    answers: list[Any] = [answer(b"refused", 400), answer(completion(GOOD))]
    with serving(*answers) as server:
        settings = VerificationSettings(verifier={"base_url": url(server), "model": "m", "n_frames": 3})
        out = Verification(settings).run(WorkItem(SOURCE, units=units), MemoryInputs(media, planned(parts)))
    rows = out.tables[t.VERDICTS].to_pylist()
    assert [(r["segment_id"], r["verdict"], r["verdict_agrees"]) for r in rows] == [(units[1], "Listen_dialogue", True)]
    assert [(e.unit_id, e.error) for e in out.errors] == [(units[0], "VerdictFailedError")]
