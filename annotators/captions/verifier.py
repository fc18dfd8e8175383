"""A second opinion on a clip's class, by an audio-visual model behind an OpenAI-compatible endpoint.

LPM 1.0 has its speak / listen labels judged by a fine-tuned audio-visual language model (Qwen3-Omni, six classes,
78 % F1), above all to catch listening that is really low speech, and listening that is in no dialogue. This sends
some frames of the person with the clip's sound as a chat with `image_url` and `input_audio` parts, as vLLM serves
such models. It sees and hears; it is not told what the measurements say. One request a clip.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import soundfile
from pydantic import BaseModel, ConfigDict, Field

from annotators.captions.captioner import Frame
from annotators.captions.chat import Message, NoAnswerError, ask
from annotators.captions.chat_reply import frame_parts, parse_reply, structured_request
from annotators.captions.served import ServedModel
from annotators.protocols_speech import FloatArray
from schemas.time import AUDIO_HZ

Verdict = Literal["Speak", "Conversation", "Listen_dialogue", "Listen_nondialogue", "Silence", "Unknown"]

_MAX_TOKENS = 256
_TASK = (
    "You judge one short video clip of one person, with its sound. Which of these is it?\n"
    "Speak: this person's own voice is heard, and hardly anybody else's.\n"
    "Conversation: this person and somebody else both speak in the clip.\n"
    "Listen_dialogue: somebody else's voice is heard and this person silently listens to it, as in a talk.\n"
    "Listen_nondialogue: a voice is heard, but this person is not in a talk with it: a narrator, a voice-over, music.\n"
    "Silence: nobody speaks.\n"
    "Unknown: it cannot be told, or lips and voice do not belong together.\n"
    "Low speech of this person is speaking, not listening. Do not identify anybody. Answer with JSON only."
)


class Reply(BaseModel):
    """What the model fills in."""

    model_config = ConfigDict(extra="forbid")

    category: Verdict
    confidence: float = Field(ge=0, le=1)
    note: str = Field(max_length=300, description="what speaks for it, in one sentence")


class VerdictFailedError(NoAnswerError):
    """No usable verdict within the attempts and the time allowed."""

    wanted = "verdict"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with its confidence in [0, 1]."""

    category: Verdict
    confidence: float
    note: str


class Verifier(Protocol):
    """Judges the class of a clip again, from its pictures and its sound."""

    name: str
    weights: tuple[str, ...]
    n_frames: int
    """How many frames, spread over the segment, it wants to see."""

    def judge(self, frames: Sequence[Frame], start_s: float, audio: FloatArray) -> Judgement:
        """Return the verdict on a clip: frames of the person, and its sound [T] at 16 kHz from `start_s` on."""
        ...


class OpenAIVerifier(ServedModel):
    """Verdicts from a served audio-visual model."""

    def judge(self, frames: Sequence[Frame], start_s: float, audio: FloatArray) -> Judgement:
        """Return the verdict on a clip: frames of the person, and its sound [T] at 16 kHz from `start_s` on.

        Raises VerdictFailedError when no attempt succeeded, ValueError without frames or sound.
        """
        if not frames or not len(audio):
            raise ValueError(f"{self.name} sees and hears: give it frames and sound")
        request = structured_request(self._model, "verdict", Reply, _MAX_TOKENS)
        content = frame_parts(frames, start_s)
        content.append({"type": "input_audio", "input_audio": {"data": _wav_base64(audio), "format": "wav"}})
        content.append({"type": "text", "text": f"The clip lasts {len(audio) / AUDIO_HZ:.2f} s."})
        messages: list[Message] = [{"role": "system", "content": _TASK}, {"role": "user", "content": content}]
        reply, _ = ask(
            self._endpoint, request, messages, lambda text: parse_reply(text, Reply), self._patience, VerdictFailedError
        )
        return Judgement(reply.category, reply.confidence, reply.note)


def _wav_base64(audio: FloatArray) -> str:
    """Return sound [T] at 16 kHz as a base64-encoded 16-bit WAV file."""
    sink = io.BytesIO()
    soundfile.write(sink, np.clip(audio, -1, 1), AUDIO_HZ, format="WAV", subtype="PCM_16")
    return base64.b64encode(sink.getvalue()).decode()
