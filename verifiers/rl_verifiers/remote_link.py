"""The one event loop of a remote verifier, in a thread of its own, and what runs on it.

An HTTP client belongs to one event loop; callers have many, or none. So everything is sent from
here, and callers wait for a future, each in its own way.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import math
import random
import ssl
import threading
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from typing import Any

import httpx

from rl_sandboxes import wire
from rl_sandboxes.remote_hosts import backoff, json_object, reason, retry_after, said
from rl_verifiers.score import Row, Score, VerifierError
from rl_verifiers.score_wire import PROTOCOL, SERVICE, score_from

IN_FLIGHT = 8
"""Requests at once; what comes meanwhile goes together in the next."""
MAX_ROWS = 256


class _BrokenError(Exception):
    """A request without an answer that counts: send it again."""


class _BusyError(Exception):
    """A server that took nothing: ask again later."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


@dataclass(frozen=True)
class _Parcel:
    completion: str
    row: Row
    outcome: Future[Score]


class Link:
    """A loop in a thread, and an HTTP client.

    Args:
        url: Where the server is.
        token: What is shown to it.
        token_variable: Where the token was looked for, for messages.
        timeout_s: Seconds after which a sample has failed.
        retries: How often a request is sent again after a connection broke.
    """

    def __init__(
        self, url: str, token: str | None, token_variable: str, timeout_s: float, retries: int
    ) -> None:
        self.url = url
        self._token_variable = token_variable
        self._timeout_s = timeout_s
        self._retries = retries
        self._waiting: deque[_Parcel] = deque()
        self._in_flight = 0
        self._about: dict[str, Any] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self._loop = asyncio.new_event_loop()
        self._client = _new_client(url, token, timeout_s)
        self._thread = threading.Thread(target=self._main, name="rl_verifiers.remote", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def submit(self, completion: str, row: Row) -> Future[Score]:
        """The score to come; from any thread."""
        parcel = _Parcel(completion, row, Future())
        try:
            self._loop.call_soon_threadsafe(self._take, parcel)
        except RuntimeError:
            _give(parcel, _closed())
        return parcel.outcome

    def check(self) -> None:
        """Ask the server who it is.

        Raises:
            VerifierError: It does not answer, or is not what it should be.
        """
        try:
            asyncio.run_coroutine_threadsafe(self._learn(), self._loop).result()
        except (_BrokenError, _BusyError) as error:
            raise VerifierError(
                f"remote: {error}: start a server there with agent-rl serve-verifier, or mend the "
                "url"
            ) from None

    def close(self) -> None:
        """End everything; those who wait get an error."""
        self._closing = True
        with contextlib.suppress(RuntimeError):  # closed already
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.run_until_complete(self._end())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for parcel in self._waiting:
            _give(parcel, _closed())
        await self._client.aclose()

    def _take(self, parcel: _Parcel) -> None:
        if self._closing:
            _give(parcel, _closed())
            return
        self._waiting.append(parcel)
        if len(self._waiting) == 1:
            self._loop.call_soon(self._send)  # after those that are here already

    def _send(self) -> None:
        while self._waiting and self._in_flight < IN_FLIGHT:
            most = (self._about or {}).get("max_rows", MAX_ROWS)
            size = min(most, MAX_ROWS, len(self._waiting))
            batch = [self._waiting.popleft() for _ in range(size)]
            self._in_flight += 1
            task = self._loop.create_task(self._deliver(batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _deliver(self, batch: list[_Parcel]) -> None:
        failed = _closed()
        tries = _Tries(self._retries)
        try:
            async with asyncio.timeout(self._timeout_s):
                failed = Score.failed(await self._until_done(batch, tries))
        except TimeoutError:
            last = f"; last: {tries.failure}" if tries.failure else ""
            failed = Score.failed(f"no score from {self.url} in {self._timeout_s:g} s{last}")
        except VerifierError as error:
            for parcel in batch:
                _give(parcel, VerifierError(str(error)))
        except Exception as error:  # nobody must wait for ever for a defect of ours
            failed = Score.failed(f"{self.url}: {type(error).__name__}: {error}")
        finally:
            for parcel in batch:
                _give(parcel, failed)
            self._in_flight -= 1
            if not self._closing:
                self._send()

    async def _until_done(self, batch: list[_Parcel], tries: _Tries) -> str:
        """Send a batch until it has scores, or there is no use; then why there are none."""
        while True:
            try:
                if self._about is None:
                    await self._learn()
                await self._post(batch)
            except _BusyError as error:
                tries.failure = str(error)
                await asyncio.sleep(error.seconds * random.uniform(1.0, 1.3))
            except _BrokenError as error:
                self._about = None  # it may be another one when it comes back
                tries.failure = str(error)
                tries.n += 1
                if tries.n > tries.most:
                    return f"{error} (tried {tries.n} times)"
                await asyncio.sleep(backoff(tries.n))
            else:
                return f"{self.url} gave no score"

    async def _learn(self) -> None:
        answer = await self._request("GET", "/info")
        tree = json_object(answer.content)
        if tree.get("service") != SERVICE or type(tree.get("max_rows")) is not int:
            raise VerifierError(f"remote: {self.url} answers, but is no verifier server; mend url")
        if tree.get("protocol") != PROTOCOL:
            raise VerifierError(
                f"remote: the server at {self.url} speaks protocol {tree.get('protocol')!r}, this "
                f"is {PROTOCOL}: install the same agent-rl on both sides"
            )
        if tree.get("status") == "draining":
            raise _BusyError(f"{self.url} is about to end", 1.0)
        self._about = tree

    async def _post(self, batch: list[_Parcel]) -> None:
        """Get the scores of a batch, in two halves where it is too large."""
        asked, body = self._packed(batch)
        if not asked:
            return
        answer = None
        if len(body) <= (self._about or {}).get("max_body_bytes", math.inf):
            answer = await self._request("POST", "/score", body)
        if answer is not None and answer.status_code != 413:
            self._read(asked, answer)
        elif len(asked) > 1:
            middle = len(asked) // 2
            await self._post(asked[:middle])
            await self._post(asked[middle:])
        else:
            _give(asked[0], Score.failed(_too_large(self.url, len(body))))

    def _packed(self, batch: list[_Parcel]) -> tuple[list[_Parcel], bytes]:
        """The samples that have no score yet, and the request for them."""
        reads = (self._about or {}).get("reads")
        asked, rows = [], []
        for parcel in batch:
            if parcel.outcome.done():
                continue
            try:
                rows.append(_sendable(parcel.row, reads))
                asked.append(parcel)
            except VerifierError as error:
                _give(parcel, error)
        completions = [parcel.completion for parcel in asked]
        return asked, wire.dumps({"completions": completions, "rows": rows})

    def _read(self, asked: list[_Parcel], answer: httpx.Response) -> None:
        scores = json_object(answer.content).get("scores")
        if type(scores) is not list or len(scores) != len(asked):
            raise _BrokenError(f"{self.url} answers what is no list of {len(asked)} scores")
        for parcel, tree in zip(asked, scores, strict=True):
            try:
                _give(parcel, score_from(tree))
            except VerifierError as error:
                _give(parcel, error)
            except ValueError as error:
                _give(parcel, Score.failed(f"{self.url}: {error}"))

    async def _request(self, method: str, path: str, body: bytes | None = None) -> httpx.Response:
        """An answer with status 200 or 413.

        Raises:
            _BusyError: Ask again later.
            _BrokenError: There is none, or one of a server that failed.
            VerifierError: No other try would change it.
        """
        try:
            answer = await self._client.request(
                method,
                self.url + path,
                content=body,
                headers={"Content-Type": "application/json"} if body is not None else {},
            )
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise _BrokenError(f"{self.url}: {reason(error)}") from None
        except httpx.InvalidURL as error:
            raise VerifierError(f"remote: url {self.url!r}: {error}") from None
        status = answer.status_code
        if status in (200, 413):
            return answer
        message = f"{self.url} answers {said(answer)}"
        if status in (408, 429, 503):
            raise _BusyError(message, retry_after(answer))
        if status >= 500:
            raise _BrokenError(message)
        if status in (401, 403):
            message += f"; put the server's token into {self._token_variable}"
        raise VerifierError(f"remote: {message}")


@dataclass
class _Tries:
    most: int
    n: int = 0
    failure: str = ""


def _new_client(url: str, token: str | None, timeout_s: float) -> httpx.AsyncClient:
    headers = {"Accept-Encoding": "identity", "User-Agent": "agent-rl"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return httpx.AsyncClient(
        headers=headers,
        timeout=httpx.Timeout(timeout_s, connect=5.0, pool=None),
        limits=httpx.Limits(max_keepalive_connections=IN_FLIGHT, keepalive_expiry=30),
        trust_env=False,  # no proxy, and no netrc in the token's place
        verify=ssl.create_default_context() if url.startswith("https:") else False,
    )


def _give(parcel: _Parcel, outcome: Score | VerifierError) -> None:
    """Hand over what became of a sample, unless that was done or nobody waits for it any more."""
    with contextlib.suppress(InvalidStateError):
        if isinstance(outcome, Score):
            parcel.outcome.set_result(outcome)
        else:
            parcel.outcome.set_exception(outcome)


def _closed() -> Score:
    return Score.failed("this remote verifier was closed")


def _too_large(url: str, n_bytes: int) -> str:
    return (
        f"the sample is {n_bytes:,} bytes, more than {url} takes: start the server with a larger "
        "--max-body-mb"
    )


def _sendable(row: Row, reads: list[str] | None) -> dict[str, Any]:
    """The columns that the server's verifier looks at (all, where it does not say), as JSON."""
    names = row if reads is None else [name for name in ("id", *reads) if name in row]
    return {str(name): _plain(row[name], str(name)) for name in names}


def _plain(value: Any, column: str) -> Any:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item, column) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, column) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist(), column)  # numpy
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise VerifierError(
        f"remote: column {column!r} holds {type(value).__name__}, which cannot be sent as JSON"
    )
