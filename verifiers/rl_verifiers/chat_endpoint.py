"""A client of any OpenAI-compatible chat endpoint: bounded, patient, and silent about its key.

Requests of all callers, whatever event loop they have or have not, are sent from one loop in a
thread of its own: an HTTP client belongs to one loop, and so does the limit on what runs at once.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import math
import os
import random
import threading
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

from rl_verifiers.score import VerifierError

T = TypeVar("T")

_RETRIED = (408, 409, 425, 429)  # and all from 500 on
_SHOWN = 200
_HIDDEN = "***"


class EndpointError(Exception):
    """The endpoint gave no reply, or none that can be used; never the fault of what was asked."""


@dataclass(frozen=True, slots=True)
class ChatReply:
    """What an endpoint said: its text, and the tokens that it counted (0 where it counts none)."""

    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    finish_reason: str = ""


class _RetryError(Exception):
    """An attempt that may go well the next time; ``wait_s`` is what the server asked for."""

    def __init__(self, message: str, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.wait_s = wait_s


@dataclass(frozen=True)
class ChatEndpoint:
    """Where chat completions come from. Plain settings: may be copied, compared and pickled.

    Attributes:
        base_url: With the version, ``http://localhost:8000/v1``.
        model: The model's name there.
        api_key_env: The environment variable that holds the key; read for each request and never
            kept, shown or logged. None sends none.
        timeout_s: Seconds for one attempt, from the first byte sent to the last one received.
        retries: Attempts after the first; for 408, 409, 425, 429, 5xx, broken connections,
            timeouts and replies that are no chat completion.
        backoff_s: Seconds before the first retry; doubled for each further one, less up to a half
            by chance. A longer ``Retry-After`` is obeyed.
        max_wait_s: Seconds that a wait has at most.
        concurrency: Requests at once, of all users of an equal endpoint in this process.
        max_reply_bytes: Bytes of a reply's body.

    Raises:
        VerifierError: A setting that cannot work.
    """

    base_url: str
    model: str
    api_key_env: str | None = None
    timeout_s: float = 120.0
    retries: int = 5
    backoff_s: float = 0.5
    max_wait_s: float = 60.0
    concurrency: int = 16
    max_reply_bytes: int = 4 << 20

    def __post_init__(self) -> None:
        _check_url(self.base_url)
        if not isinstance(self.model, str) or not self.model:
            raise VerifierError(f"endpoint: model is {self.model!r:.40}; it must be a name")
        if self.api_key_env is not None and not isinstance(self.api_key_env, str):
            raise VerifierError("endpoint: api_key_env must be an environment variable's name")
        for name in ("timeout_s", "backoff_s", "max_wait_s"):
            _check_number(name, getattr(self, name), float)
        for name in ("retries", "concurrency", "max_reply_bytes"):
            _check_number(name, getattr(self, name), int, least=name != "retries")

    def check(self) -> None:
        """Find out what would make every request fail, without sending one.

        Raises:
            VerifierError: httpx is not installed, or the key's variable is not set.
        """
        _import_httpx()
        self._headers()

    async def complete(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        temperature: float = 0.0,
        max_tokens: int | None = None,
        seed: int | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> ChatReply:
        """The reply to a conversation; other tasks of the caller's loop run meanwhile.

        Args:
            messages: In the OpenAI chat format.
            temperature: Of sampling.
            max_tokens: Of the reply; None leaves it to the server.
            seed: Sent if it is given.
            extra: Further fields of the request.

        Raises:
            EndpointError: No usable reply after all retries, or a refusal that retries cannot mend.
            VerifierError: As for :meth:`check`.
        """
        body: dict[str, Any] = {"model": self.model, "messages": list(messages)}
        body |= {"temperature": temperature, **(extra or {})}
        if max_tokens is not None:
            body["max_tokens"] = max_tokens
        if seed is not None:
            body["seed"] = seed
        sender = _sender()
        return await asyncio.wrap_future(sender.submit(_complete(self, body, sender)))

    def _headers(self) -> dict[str, str]:
        headers = {"Accept-Encoding": "identity"}  # so that a limit on bytes is one on memory
        if self.api_key_env is not None:
            headers["Authorization"] = f"Bearer {self._key()}"
        return headers

    def _key(self) -> str:
        key = os.environ.get(self.api_key_env or "", "").strip()
        if not key or not key.isascii() or not key.isprintable():
            raise VerifierError(
                f"endpoint: the environment variable {self.api_key_env} must hold the API key; "
                f"it is {'no plain ASCII text' if key else 'not set'}"
            )
        return key

    def shown(self, text: str) -> str:
        """A server's words, shortened, in one line, the key hidden."""
        if self.api_key_env and (key := os.environ.get(self.api_key_env, "").strip()):
            text = text.replace(key, _HIDDEN)
        line = " ".join("".join(c if c.isprintable() else " " for c in text[:2000]).split())
        return line[:_SHOWN]


async def _complete(endpoint: ChatEndpoint, body: Mapping[str, Any], sender: _Sender) -> ChatReply:
    """Runs on the sender's loop."""
    client, turns = sender.client(endpoint)
    tried = 0
    while True:
        try:
            async with turns:
                return await _attempt(endpoint, client, body)
        except _RetryError as error:
            if tried >= endpoint.retries:
                said = f"{error} ({tried + 1} attempts)" if tried else str(error)
                raise EndpointError(f"{endpoint.base_url}: {said}") from None
            longest = endpoint.backoff_s * 2.0 ** min(tried, 30)
            wait_s = max(error.wait_s, longest * random.uniform(0.5, 1.0))
            await asyncio.sleep(min(wait_s, endpoint.max_wait_s))
            tried += 1


async def _attempt(endpoint: ChatEndpoint, client: Any, body: Mapping[str, Any]) -> ChatReply:
    httpx = _import_httpx()
    url = f"{endpoint.base_url.rstrip('/')}/chat/completions"
    try:
        async with (
            asyncio.timeout(endpoint.timeout_s),
            client.stream("POST", url, json=body, headers=endpoint._headers()) as answer,
        ):
            data = await _limited(endpoint, answer)
    except TimeoutError:
        raise _RetryError(f"no reply within {endpoint.timeout_s:g} s") from None
    except httpx.TransportError as error:
        said = endpoint.shown(str(error)) or "no reason given"
        raise _RetryError(f"{type(error).__name__}: {said}") from None
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        raise EndpointError(f"{type(error).__name__}: {endpoint.shown(str(error))}") from None
    if answer.status_code != 200:
        said = endpoint.shown(data.decode("utf-8", "replace"))
        message = f"HTTP {answer.status_code}: {said or 'no reason given'}"
        if answer.status_code >= 500 or answer.status_code in _RETRIED:
            raise _RetryError(message, retry_after_s(answer.headers.get("retry-after")))
        raise EndpointError(f"{endpoint.base_url}: {message}")
    return _read(endpoint, data)


async def _limited(endpoint: ChatEndpoint, answer: Any) -> bytes:
    data = bytearray()
    async for chunk in answer.aiter_raw():
        data += chunk
        if len(data) > endpoint.max_reply_bytes:
            raise EndpointError(f"a reply of over {endpoint.max_reply_bytes:,} bytes")
    return bytes(data)


def _read(endpoint: ChatEndpoint, data: bytes) -> ChatReply:
    try:
        body = json.loads(data)
        choice = body["choices"][0]
        text = choice["message"]["content"]
        usage = body.get("usage") or {}
        reply = ChatReply(
            "" if text is None else text,
            _count(usage.get("prompt_tokens")),
            _count(usage.get("completion_tokens")),
            str(choice.get("finish_reason") or ""),
        )
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        said = endpoint.shown(data[:1000].decode("utf-8", "replace"))
        raise _RetryError(f"the reply is no chat completion: {said}") from None
    if not isinstance(reply.text, str):
        raise _RetryError("the reply's content is no text")
    return reply


def _count(number: object) -> int:
    return number if isinstance(number, int) and 0 <= number < 1 << 40 else 0


def retry_after_s(header: str | None, now: datetime | None = None) -> float:
    """Seconds that a ``Retry-After`` asks for, a number or a date; 0 where it is neither."""
    try:
        seconds = float(header or 0)
    except ValueError:
        try:
            wanted = parsedate_to_datetime(header or "")
        except ValueError:
            return 0.0
        wanted = wanted if wanted.tzinfo else wanted.replace(tzinfo=UTC)
        seconds = (wanted - (now or datetime.now(UTC))).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0


# The one loop of a process that sends.


@dataclass
class _Sender:
    """An event loop in a thread, and a client for each endpoint."""

    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    clients: dict[ChatEndpoint, tuple[Any, asyncio.Semaphore]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(
            target=self.loop.run_forever, name="rl_verifiers.chat_endpoint", daemon=True
        )
        self.thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run something on the loop, from any thread."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def client(self, endpoint: ChatEndpoint) -> tuple[Any, asyncio.Semaphore]:
        """The client of an endpoint and its turns; called on the loop."""
        if endpoint not in self.clients:
            httpx = _import_httpx()
            limits = httpx.Limits(max_connections=None, keepalive_expiry=30)
            client = httpx.AsyncClient(timeout=None, limits=limits, follow_redirects=False)
            self.clients[endpoint] = (client, asyncio.Semaphore(endpoint.concurrency))
        return self.clients[endpoint]

    async def _close(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for client, _ in self.clients.values():
            with contextlib.suppress(Exception):  # the next one is to be closed all the same
                await client.aclose()

    def close(self) -> None:
        """End every request and connection."""
        with contextlib.suppress(Exception):
            self.submit(self._close()).result(timeout=5.0)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(timeout=5.0)
        if not self.thread.is_alive():
            self.loop.close()


_the_sender: list[_Sender] = []
_of_parents: list[_Sender] = []
_lock = threading.Lock()


def _sender() -> _Sender:
    with _lock:
        if not _the_sender:
            _the_sender.append(_Sender())
        return _the_sender[0]


@atexit.register
def close_connections() -> None:
    """End what this process has open to endpoints; the next request opens it anew."""
    with _lock:
        while _the_sender:
            _the_sender.pop().close()


def _forget_after_fork() -> None:
    """The parent's thread is not in its child."""
    global _lock  # noqa: PLW0603 - another thread of the parent may have held it
    _lock = threading.Lock()
    _of_parents.extend(_the_sender)  # kept, so that nothing closes what the parent still uses
    _the_sender.clear()


os.register_at_fork(after_in_child=_forget_after_fork)


def _import_httpx() -> Any:
    try:
        import httpx  # noqa: PLC0415 - an extra, and slow to import
    except ModuleNotFoundError:
        raise VerifierError(
            "endpoint: the package httpx is missing: pip install 'agent-rl[remote]'"
        ) from None
    return httpx


def _check_url(url: object) -> None:
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
        usable = usable and (parts.port or 1) > 0 and not (parts.query or parts.fragment)
    except ValueError:
        usable, parts = False, urlsplit("")
    if parts.username or parts.password:
        raise VerifierError("endpoint: base_url holds a user or password; use api_key_env")
    if not usable:
        raise VerifierError(
            f"endpoint: base_url is {url!r:.100}; it must be like http://localhost:8000/v1"
        )


def _check_number(name: str, value: object, kind: type, *, least: bool = True) -> None:
    fits = isinstance(value, int) if kind is int else isinstance(value, int | float)
    if isinstance(value, bool) or not fits or not 0 <= float(str(value)) <= 1e9:
        raise VerifierError(
            f"endpoint: {name} is {value!r:.40}; it must be a number from {least:d}"
        )
    if least and not float(str(value)) > 0:
        raise VerifierError(f"endpoint: {name} is {value!r:.40}; it must be above 0")
