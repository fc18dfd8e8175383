"""Ask a served model until its answer fits: bounded attempts and time, and the complaint sent back when it does not.

Every attempt is kept with its outcome. The pauses double. Used by whatever sends clips to an endpoint.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from annotators.chat_endpoint import RETRYABLE, ChatEndpoint, ChatError, Outcome

Answer = TypeVar("Answer")
Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request: how it ended, and why it did not do."""

    outcome: Outcome
    message: str


class NoAnswerError(RuntimeError):
    """No usable answer within the attempts and the time allowed; `attempts` tells each outcome."""

    wanted = "answer"

    def __init__(self, attempts: Sequence[Attempt]) -> None:
        codes = ", ".join(a.outcome for a in attempts) or "none made"
        last = f"; last: {attempts[-1].message}" if attempts else ""
        super().__init__(f"the endpoint gave no usable {self.wanted} (attempts: {codes}){last}")
        self.attempts = tuple(attempts)


@dataclass(frozen=True)
class Patience:
    """How long to try: `timeout_s` bounds one request, `budget_s` all requests and pauses together."""

    max_attempts: int = 3
    timeout_s: float = 60.0
    budget_s: float = 150.0
    pause_s: float = 1.0
    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        if self.max_attempts < 1 or min(self.timeout_s, self.budget_s) <= 0 or self.pause_s < 0:
            raise ValueError("max_attempts must be 1 or more, times positive, pause_s 0 or more")


def ask(
    endpoint: ChatEndpoint,
    request: Mapping[str, Any],
    messages: Sequence[Message],
    parse: Callable[[str], Answer],
    patience: Patience,
    failed: type[NoAnswerError] = NoAnswerError,
) -> tuple[Answer, tuple[Attempt, ...]]:
    """Return the parsed answer and the attempts it took, the last of which is `ok`.

    `parse` raises ChatError when a reply does not fit; of kind `invalid` it is told to the model. Raises `failed` when
    no attempt succeeded.
    """
    deadline = time.monotonic() + patience.budget_s
    attempts: list[Attempt] = []
    talk = list(messages)
    for number in range(patience.max_attempts):
        if number:
            pause_s = patience.pause_s * 2 ** (number - 1)
            if time.monotonic() + pause_s >= deadline:
                break
            patience.sleep(pause_s)
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            break
        reply = ""
        try:
            reply = endpoint.complete({**request, "messages": talk}, min(patience.timeout_s, left_s))
            answer = parse(reply)
        except ChatError as e:
            attempts.append(Attempt(e.outcome, str(e)))
            if e.outcome not in RETRYABLE:
                break
            if e.outcome == "invalid":
                complaint = {"role": "user", "content": f"That does not fit: {e}. Answer again."}
                talk = [*messages, {"role": "assistant", "content": reply}, complaint]
        else:
            return answer, (*attempts, Attempt("ok", ""))
    raise failed(attempts)
