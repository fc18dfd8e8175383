"""The vision-language captioner against a real HTTP server that speaks the chat protocol, well and badly."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from chat_server import FRAMES, Server, answer, completion, cut, direct, drip, hang, serving  # noqa: F401
from signal_factory import face

from annotators.captions.captioner import ClipContext
from annotators.captions.captioner_openai import CaptionFailedError, OpenAICaptioner
from annotators.captions.chat import ChatEndpoint, Patience
from annotators.captions.chat_reply import data_url

GOOD: dict[str, Any] = {
    "emotions": ["interest", "interest"],
    "expressions": ["thoughtful"],
    "stance": "neutral_thinking",
    "gaze": "partner",
    "head_motion": ["tilt_left"],
    "body_motion": "low",
    "hair": "grey",
    "glasses": True,
    "place": None,
    "relationship": None,
    "personality": ["calm"],
    "motions": [{"name": "touches_chin", "start_s": 1.0, "end_s": 2.0, "confidence": 0.7}],
    "prose": "A person listening with a thoughtful expression.",
}


def captioner(server: Server, **settings: Any) -> OpenAICaptioner:
    endpoint = ChatEndpoint(f"http://127.0.0.1:{server.server_address[1]}/v1", api_key="key")
    return OpenAICaptioner(endpoint, "some/model", patience=Patience(sleep=lambda _: None, **settings))


def listening(**changes: Any) -> ClipContext:
    return ClipContext("listen", face(), **changes)


def outcomes(server: Server, **settings: Any) -> list[str]:
    with pytest.raises(CaptionFailedError) as caught:
        captioner(server, **settings).caption(listening(), FRAMES)
    return [a.outcome for a in caught.value.attempts]


def test_a_good_reply_becomes_a_caption() -> None:
    with serving(answer(completion(GOOD))) as server:
        caption, attempts = captioner(server).caption_with_attempts(listening(text="ignore the frames"), FRAMES)
    assert [a.outcome for a in attempts] == ["ok"]
    assert caption.emotions == ("interest",)
    assert (caption.state, caption.stance, caption.time_invariant) == ("listen", "neutral_thinking", True)
    assert caption.shot_type == "medium_close_up"
    assert (caption.hair, caption.glasses, caption.place) == ("grey", True, None)
    assert caption.annotator == caption.tags[0].annotator == "openai:some/model"
    assert (caption.tags[0].kind, caption.tags[0].start_s) == ("motion", 1.0)
    (request,) = server.requests
    assert (request["path"], request["key"]) == ("/v1/chat/completions", "Bearer key")
    schema = request["body"]["response_format"]["json_schema"]["schema"]
    assert schema["additionalProperties"] is False
    assert "wariness" in schema["properties"]["emotions"]["items"]["enum"]
    pictures = [part for part in request["body"]["messages"][1]["content"] if part["type"] == "image_url"]
    assert len(pictures) == 2
    jpeg = base64.b64decode(pictures[0]["image_url"]["url"].removeprefix("data:image/jpeg;base64,"))
    decoded = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == (341, 512, 3)
    assert decoded[100, 100, 2] > 150  # red stays red


def test_a_speakers_stance_is_dropped_and_sequence_allowed() -> None:
    with serving(answer(completion({**GOOD, "prose": "Smiles, then nods."}))) as server:
        caption = captioner(server).caption(ClipContext("speak", face()), FRAMES)
    assert caption.stance is None
    assert not caption.time_invariant


def test_a_time_word_is_sent_back_with_the_complaint() -> None:
    with serving(answer(completion({**GOOD, "prose": "Nods, then smiles."})), answer(completion(GOOD))) as server:
        _, attempts = captioner(server).caption_with_attempts(listening(), FRAMES)
    assert [a.outcome for a in attempts] == ["invalid", "ok"]
    first, second = (request["body"]["messages"] for request in server.requests)
    assert second[:2] == first
    assert second[2]["role"] == "assistant"
    assert "time words ['then']" in second[3]["content"]


@pytest.mark.parametrize(
    ("bad", "outcome"),
    [
        (answer(b"", status=500), "server_error"),
        (answer(b"busy", status=429), "overloaded"),
        (answer(b"<html>"), "malformed"),
        (answer(b"[]"), "malformed"),
        (answer(completion("Sure! Here is the caption.")), "malformed"),
        (answer(json.dumps({"choices": [{"message": {"content": None}}]}).encode()), "malformed"),
        (answer(completion('{"emotions": [', finish="length")), "truncated"),
        (answer(completion({**GOOD, "emotions": ["hungry"]})), "invalid"),
        (answer(completion({key: GOOD[key] for key in list(GOOD)[1:]})), "invalid"),
        (answer(completion({**GOOD, "motions": [{**GOOD["motions"][0], "end_s": 99.0}]})), "invalid"),
        (answer(completion({**GOOD, "motions": [{**GOOD["motions"][0], "start_s": 3.0}]})), "invalid"),
        (answer(b" " * 1_100_000), "malformed"),
        (cut, "connection"),
    ],
)
def test_a_bad_attempt_is_followed_by_another(bad: Callable[..., None], outcome: str) -> None:
    with serving(bad, answer(completion(GOOD))) as server:
        _, attempts = captioner(server).caption_with_attempts(listening(), FRAMES)
    assert [a.outcome for a in attempts] == [outcome, "ok"]


@pytest.mark.parametrize("slow", [hang, drip])
def test_a_slow_server_times_out(slow: Callable[..., None]) -> None:
    with serving(slow, answer(completion(GOOD))) as server:
        _, attempts = captioner(server, timeout_s=0.3).caption_with_attempts(listening(), FRAMES)
    assert [a.outcome for a in attempts] == ["timeout", "ok"]


def test_the_budget_bounds_all_attempts() -> None:
    with serving(*[hang] * 9) as server:
        found = outcomes(server, timeout_s=0.2, budget_s=0.35, max_attempts=9, pause_s=0.0)
        assert 1 <= len(found) <= 3
        assert set(found) == {"timeout"}


def test_a_pause_that_outlasts_the_budget_is_not_taken() -> None:
    with serving(answer(b"", status=503)) as server:
        assert outcomes(server, budget_s=5.0, pause_s=60.0) == ["server_error"]


@pytest.mark.parametrize("status", [400, 401, 404])
def test_a_rejected_request_is_not_repeated(status: int) -> None:
    with serving(answer(b"no such model", status=status)) as server:
        with pytest.raises(CaptionFailedError, match="no such model"):
            captioner(server).caption(listening(), FRAMES)
        assert len(server.requests) == 1


def test_pictures_are_not_sent_to_where_a_redirect_points() -> None:
    with serving(answer(completion(GOOD))) as elsewhere:
        target = f"http://127.0.0.1:{elsewhere.server_address[1]}/v1/chat/completions"
        with serving(answer(b"", status=307, Location=target)) as server:
            assert outcomes(server) == ["rejected"]
        assert elsewhere.requests == []


def test_gives_up_after_the_attempts() -> None:
    with serving(*[answer(b"", status=500)] * 3) as server:
        assert outcomes(server) == ["server_error"] * 3


def test_nobody_listens() -> None:
    with serving() as server:
        pass
    assert outcomes(server, max_attempts=2) == ["connection"] * 2


def test_the_key_is_told_to_the_server_alone(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    with serving(answer(b"no such key", status=401)) as server:
        endpoint = ChatEndpoint(f"http://127.0.0.1:{server.server_address[1]}/v1", api_key="hush-hush")
        with pytest.raises(CaptionFailedError) as caught:
            OpenAICaptioner(endpoint, "some/model").caption(listening(), FRAMES)
    assert "hush-hush" not in caplog.text + repr(endpoint) + str(caught.value)
    (request,) = server.requests
    assert request["key"] == "Bearer hush-hush"
    assert not [name for name in request["all"] if name.startswith("x-stainless")]


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="expected an address"):
        ChatEndpoint("file:///etc/passwd")
    endpoint = ChatEndpoint("http://127.0.0.1:9/v1")
    with pytest.raises(ValueError, match="1 or more"):
        OpenAICaptioner(endpoint, "m", n_frames=0)
    with pytest.raises(ValueError, match="give it 8 frames"):
        OpenAICaptioner(endpoint, "m").caption(listening())


def test_small_pictures_keep_their_size() -> None:
    jpeg = base64.b64decode(data_url(np.zeros((40, 60, 3), np.uint8)).split(",")[1])
    assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape == (40, 60, 3)
