"""Ask a served model (vLLM and others) through openai's client until its answer fits, with bounded time and attempts.

Pictures of people leave the machine here: redirects are refused, the client's report about this machine is not sent,
and the key is in no message. One attempt reads at most a megabyte and ends when its time is over even where the body
drips. Every attempt is kept with its outcome; the pauses double; what does not fit goes back with the complaint.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urlsplit

from tenacity import Retrying, retry_if_exception, stop_after_attempt, stop_before_delay, wait_exponential

if TYPE_CHECKING:  # the client takes a second to import, which stages that ask nobody do not pay
    import httpx2
    import openai

Outcome = Literal[
    "ok", "timeout", "connection", "rejected", "overloaded", "server_error", "malformed", "truncated", "invalid"
]
"""`rejected`: the server refuses the request itself (4xx), so trying again is useless; `overloaded`: 408, 425 or 429;
`malformed`: no chat completion or no JSON in it; `truncated`: the reply hit the token limit; `invalid`: JSON that does
not fit the schema."""

Answer = TypeVar("Answer")
Message = dict[str, Any]

_MAX_REPLY_BYTES = 1_000_000


class ChatError(Exception):
    """An attempt that brought no usable reply; `outcome` is its code, `reply` the text that did not fit."""

    def __init__(self, outcome: Outcome, message: str, reply: str = "") -> None:
        super().__init__(message)
        self.outcome, self.reply = outcome, reply


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


@dataclass(frozen=True)
class ChatEndpoint:
    """Where to send a chat: `base_url` such as `http://host:8000/v1`, and a key where the server wants one."""

    base_url: str
    api_key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"endpoint {self.base_url!r}: expected an address such as http://host:8000/v1")

    def client(self) -> openai.OpenAI:
        """Open a client that tries once, follows no redirect and tells nothing of this machine."""
        import httpx2
        import openai

        hooks: dict[str, list[Callable[..., Any]]] = {"request": [_told_nothing], "response": [_bounded]}
        # "none": the client refuses to start without a key, and servers without one ignore it
        return openai.OpenAI(
            base_url=self.base_url, api_key=self.api_key or "none", max_retries=0,
            http_client=httpx2.Client(follow_redirects=False, event_hooks=hooks),
        )  # fmt: skip


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
    attempts: list[Attempt] = []
    talk = list(messages)
    tries = Retrying(
        stop=stop_after_attempt(patience.max_attempts) | stop_before_delay(patience.budget_s),
        wait=wait_exponential(patience.pause_s), sleep=patience.sleep, reraise=True,
        retry=retry_if_exception(lambda e: isinstance(e, ChatError) and e.outcome != "rejected"),
    )  # fmt: skip
    try:
        with endpoint.client() as client:
            deadline = time.monotonic() + patience.budget_s
            for attempt in tries:
                with attempt:
                    try:
                        timeout_s = max(1e-3, min(patience.timeout_s, deadline - time.monotonic()))
                        answer = parse(complete(client, {**request, "messages": talk}, timeout_s))
                    except ChatError as e:
                        attempts.append(Attempt(e.outcome, str(e)))
                        if e.outcome == "invalid":
                            complaint = {"role": "user", "content": f"That does not fit: {e}. Answer again."}
                            talk = [*messages, {"role": "assistant", "content": e.reply}, complaint]
                        raise
    except ChatError as e:
        raise failed(attempts) from e
    return answer, (*attempts, Attempt("ok", ""))


def complete(client: openai.OpenAI, request: Mapping[str, Any], timeout_s: float) -> str:
    """Return the text of the first choice of one chat completion.

    Raises ChatError with the outcome code when there is none within `timeout_s` seconds.
    """
    import openai

    url = client.base_url
    try:
        completion = client.chat.completions.create(**request, timeout=timeout_s)
    except openai.APITimeoutError as e:
        raise ChatError("timeout", f"no answer from {url} within {timeout_s:.0f} s") from e
    except openai.APIConnectionError as e:
        raise ChatError("connection", f"no whole answer from {url}: {e.__cause__!r}; is the server running?") from e
    except openai.APIStatusError as e:
        raise ChatError(_outcome(e.status_code), f"HTTP {e.status_code} from {url}: {e.response.text[:300]}") from e
    except (openai.OpenAIError, ValueError) as e:
        raise ChatError("malformed", f"not a chat completion: {e}") from e
    try:
        choice = completion.choices[0]
        content, finish = choice.message.content, choice.finish_reason
    except (LookupError, TypeError, AttributeError) as e:
        raise ChatError("malformed", f"not a chat completion: {str(completion)[:200]!r}") from e
    if finish == "length":
        raise ChatError("truncated", "the reply hit the token limit: raise max_tokens")
    if not isinstance(content, str):
        raise ChatError("malformed", f"the completion holds no text: {str(completion)[:200]!r}")
    return content


def _outcome(status: int) -> Outcome:
    if status in (408, 425, 429):
        return "overloaded"
    return "server_error" if status >= 500 else "rejected"


def _told_nothing(request: httpx2.Request) -> None:
    """Take the client's report about system, Python and retries out of a request."""
    for name in [n for n in request.headers if n.lower().startswith("x-stainless")]:
        del request.headers[name]


def _bounded(response: httpx2.Response) -> None:
    """Bound a body that is about to be read, in bytes and by the time of the request; by itself only pauses are."""
    import httpx2

    class Bounded(httpx2.SyncByteStream):
        def __init__(self, stream: httpx2.SyncByteStream, deadline: float) -> None:
            self._stream, self._deadline = stream, deadline

        def __iter__(self) -> Iterator[bytes]:
            size = 0
            for chunk in self._stream:
                size += len(chunk)
                if size > _MAX_REPLY_BYTES:
                    raise ChatError("malformed", f"the reply is larger than {_MAX_REPLY_BYTES} bytes")
                if time.monotonic() > self._deadline:
                    raise httpx2.ReadTimeout("the body took too long")
                yield chunk

        def close(self) -> None:
            self._stream.close()

    limit_s = response.request.extensions["timeout"]["read"]
    stream = response.stream
    if isinstance(stream, httpx2.SyncByteStream):
        response.stream = Bounded(stream, time.monotonic() + limit_s)
