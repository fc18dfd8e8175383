"""A chat request that asks for JSON of one schema, the pictures in it, and the check of what comes back.

In the form that OpenAI-compatible servers such as vLLM take: `response_format` constrains decoding to the schema, a
picture is a data URL. Decoding is greedy with a fixed seed, so that the same request brings the same reply as far as
the server is deterministic. Encoding a frame as JPEG costs a few milliseconds.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, TypeVar

import cv2
import numpy as np
from pydantic import BaseModel, ValidationError

from annotators.captions.captioner import Frame
from annotators.captions.chat import ChatError
from annotators.protocols import Image

Reply = TypeVar("Reply", bound=BaseModel)

_LONG_SIDE_PX = 512


def structured_request(model: str, name: str, reply: type[BaseModel], max_tokens: int) -> dict[str, Any]:
    """Return the body of a chat completion, all but its messages, whose answer must fit the schema of `reply`."""
    schema = {"name": name, "schema": reply.model_json_schema(), "strict": True}
    return {
        "model": model,
        "temperature": 0,
        "seed": 0,
        "max_tokens": max_tokens,
        "response_format": {"type": "json_schema", "json_schema": schema},
    }


def parse_reply(text: str, reply: type[Reply]) -> Reply:
    """Return a reply's text as `reply`; raise ChatError, `malformed` where it is no JSON, else `invalid`."""
    try:
        return reply.model_validate_json(text)
    except ValidationError as e:
        raise unfit(e, text) from e


def unfit(e: ValidationError, reply: str) -> ChatError:
    """Return what to tell the model of a reply that does not fit: the first three problems and where they are."""
    malformed = any(error["type"] == "json_invalid" for error in e.errors())
    problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in e.errors()[:3])
    return ChatError("malformed" if malformed else "invalid", problems, reply)


def frame_parts(frames: Sequence[Frame], start_s: float) -> list[dict[str, Any]]:
    """Return frames as parts of a message: each picture after its time, in seconds from `start_s`."""
    parts: list[dict[str, Any]] = []
    for frame in frames:
        parts.append({"type": "text", "text": f"{frame.t_s - start_s:.2f} s:"})
        parts.append({"type": "image_url", "image_url": {"url": data_url(frame.rgb)}})
    return parts


def data_url(rgb: Image) -> str:
    """Return a picture as a JPEG data URL, scaled down to a long side of at most 512 px."""
    scale = _LONG_SIDE_PX / max(rgb.shape[:2])
    if scale < 1:
        rgb = np.asarray(cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    done, jpeg = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])
    if not done:
        raise RuntimeError(f"JPEG encoding failed for a picture of shape {rgb.shape}")
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode()
