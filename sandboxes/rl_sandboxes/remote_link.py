"""The one event loop of a remote sandbox, in a thread of its own, and what runs on it.

An HTTP client belongs to one event loop; callers have many, or none. So everything is sent from
here, and callers wait for a future, each in its own way.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import ssl
import threading
import uuid
from collections.abc import AsyncIterator, Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import httpx

from rl_sandboxes import wire
from rl_sandboxes.remote_hosts import (
    Fleet,
    Host,
    UnreachableError,
    backoff,
    reason,
    retry_after,
    said,
)
from rl_sandboxes.types import Job, JobError, Result, SandboxError

T = TypeVar("T")

SILENCE_S = 30.0
"""Seconds without a byte of an answer to jobs after which the connection is dead; the server
writes an empty line every 5."""
MAX_BATCH = 16
_CLOSED = "this remote sandbox was closed"
_FRAME_BYTES = 300  # around a job: its key and punctuation


class BusyError(Exception):
    """A server that took nothing: ask again later."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class BrokenError(Exception):
    """A request that ended without an answer: ask again with the same key."""


@dataclass
class _Parcel:
    """One job on its way to one server."""

    key: str
    body: bytes
    outcome: asyncio.Future[Result]


@dataclass
class Link:
    """A loop in a thread, an HTTP client, and the servers.

    Attributes:
        urls: Where the servers are.
        token: What is shown to them.
        credits: Jobs at once for each server; None for what the server says.
        timeout_s: Seconds that a job may take beyond its own limits.
        retries: How often a job is sent again after a connection broke under it.
    """

    urls: Sequence[str]
    token: str | None
    credits: int | None
    timeout_s: float
    retries: int
    closing: bool = False
    _pending: dict[Host, list[_Parcel]] = field(default_factory=dict)
    _futures: set[Future[Any]] = field(default_factory=set)
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    _ahead_s: float = 0.0

    def __post_init__(self) -> None:
        self.pid = os.getpid()
        self.loop = asyncio.new_event_loop()
        self.client = self._new_client()
        self.fleet = Fleet(self.urls, self.client, self.credits)
        self._thread = threading.Thread(target=self._main, name="rl_sandboxes.remote", daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run something on the loop, from any thread."""
        try:
            future = asyncio.run_coroutine_threadsafe(self._until_closed(work), self.loop)
        except RuntimeError:
            work.close()
            raise SandboxError(_CLOSED) from None
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        if self.loop.is_closed():
            future.cancel()
        return future

    async def _until_closed(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            if self.closing:
                work.close()
                raise SandboxError(_CLOSED)
            return await work
        except asyncio.CancelledError:
            if self.closing:
                raise SandboxError(_CLOSED) from None
            raise

    def close(self) -> None:
        """End everything; those who wait get an error."""
        self.closing = True
        with contextlib.suppress(RuntimeError):  # closed already
            self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()

    def _new_client(self) -> httpx.AsyncClient:
        headers = {"Accept-Encoding": "identity", "User-Agent": "agent-rl"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        secure = any(url.startswith("https:") for url in self.urls)
        return httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(SILENCE_S, connect=5.0, pool=None),
            limits=httpx.Limits(max_keepalive_connections=64, keepalive_expiry=30),
            trust_env=False,  # no proxy, and no netrc in the token's place
            verify=ssl.create_default_context() if secure else False,
        )

    def _main(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        self.loop.run_until_complete(self._end())
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()
        for future in list(self._futures):  # submitted too late to be run
            future.cancel()

    async def _end(self) -> None:
        """Cancel what we started, and only that: the client's own tasks end with ours."""
        tasks = [*self._tasks, *self.fleet.probes]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.client.aclose()

    async def check(self) -> None:
        """See :meth:`Fleet.check`."""
        await self.fleet.check()

    async def deliver(self, job: Job, body: bytes) -> Result:
        """Have a job run, whatever happens to servers and connections meanwhile.

        Args:
            job: The job.
            body: The job as it is sent.

        Raises:
            JobError: It is too large, or a server says that it cannot be run.
        """
        self._check_size(body)
        allowed_s = self.timeout_s + job.longest_s + self._ahead_s / self.fleet.workers
        self._ahead_s += job.longest_s
        work = _Delivery(self, uuid.uuid4().hex, body)
        try:
            async with asyncio.timeout(allowed_s):
                return await work.run()
        except TimeoutError:
            last = f"; last: {work.failure}" if work.failure else ""
            return Result(error=f"no result from {self._names()} in {allowed_s:.0f} s{last}")
        except asyncio.CancelledError:
            if self.closing:
                return Result(error=_CLOSED)
            raise
        finally:
            self._ahead_s -= job.longest_s
            work.abandon()

    def _names(self) -> str:
        return self.urls[0] if len(self.urls) == 1 else f"{len(self.urls)} sandbox servers"

    def _check_size(self, body: bytes) -> None:
        known = [host.max_body_bytes for host in self.fleet.hosts if host.guarantees]
        most = min(known, default=1 << 62) - _FRAME_BYTES
        if len(body) > most:
            raise JobError(
                f"the job is {len(body):,} bytes, and the sandbox server takes {most:,}: make its "
                "code, inputs or files smaller, or start the server with a larger --max-body-mb"
            )

    async def send(self, host: Host, key: str, body: bytes) -> Result:
        """Send a job to a server, together with what else is about to go there.

        Raises:
            BusyError: It took the job not.
            BrokenError: There is no answer.
            SandboxError: There is one that no other try would change.
        """
        parcel = _Parcel(key, body, self.loop.create_future())
        if host not in self._pending:
            self._pending[host] = []
            self.loop.call_soon(self._flush, host)
        self._pending[host].append(parcel)
        return await parcel.outcome

    def _flush(self, host: Host) -> None:
        parcels = self._pending.pop(host)
        most = min(MAX_BATCH, host.max_batch)
        batch: list[_Parcel] = []
        size = _FRAME_BYTES
        for parcel in parcels:
            n_bytes = len(parcel.body) + _FRAME_BYTES
            if batch and (len(batch) >= most or size + n_bytes > host.max_body_bytes):
                self.spawn(self._post(host, batch))
                batch, size = [], _FRAME_BYTES
            batch.append(parcel)
            size += n_bytes
        self.spawn(self._post(host, batch))

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run something that nobody waits for."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _post(self, host: Host, batch: list[_Parcel]) -> None:
        waiting = {parcel.key: parcel for parcel in batch}
        items = [b'{"key":"%s","job":%s}' % (p.key.encode(), p.body) for p in batch]
        failure: Exception | None = None
        try:
            async with self.client.stream(
                "POST",
                f"{host.url}/v1/jobs",
                content=b'{"jobs":[%s]}' % b",".join(items),
                headers={"Content-Type": "application/json"},
            ) as answer:
                if answer.status_code == 200:
                    async for line in _lines(answer):
                        self._settle(host, waiting, line)
                        if all(parcel.outcome.done() for parcel in waiting.values()):
                            return
                    failure = BrokenError(f"{host.url}: the answer ended early")
                else:
                    await answer.aread()
                    failure = self.refused(host, answer)
        except (httpx.HTTPError, httpx.StreamError, wire.WireError) as error:
            failure = BrokenError(f"{host.url}: {reason(error)}")
        finally:
            if isinstance(failure, BrokenError):
                self.fleet.lose(host, str(failure))
            for parcel in waiting.values():
                if not parcel.outcome.done():
                    parcel.outcome.set_exception(failure or SandboxError("closed"))

    def _settle(self, host: Host, waiting: dict[str, _Parcel], line: bytes) -> None:
        """Give the result that a line holds to whoever waits for it."""
        if not line.strip():
            return
        tree = wire.loads(line)
        parcel = waiting.pop(tree["key"], None) if type(tree) is dict and "key" in tree else None
        if parcel is None or parcel.outcome.done():
            return
        error = tree.get("error")
        if type(error) is dict:
            parcel.outcome.set_exception(self._item_refused(host, error))
            return
        try:
            parcel.outcome.set_result(wire.result_from(tree.get("result")))
        except wire.WireError as fault:
            parcel.outcome.set_exception(SandboxError(f"{host.url} sent no result: {fault}"))

    def _item_refused(self, host: Host, error: dict[str, Any]) -> Exception:
        message = f"{host.url}: {error.get('message')}"
        if error.get("code") == "draining":
            self.fleet.lose(host, message)
        if type(error.get("retry_after")) is int:
            return BusyError(message, min(60.0, max(0.0, error["retry_after"])))
        if error.get("status") == 422:
            return JobError(message)
        return SandboxError(message)

    def refused(self, host: Host, answer: httpx.Response) -> Exception:
        """What an answer that is none of 200 means for whoever asked."""
        message = f"{host.url} answers {said(answer)}"
        status = answer.status_code
        if status == 503:
            self.fleet.lose(host, message)
        if status in (408, 429, 503):
            return BusyError(message, retry_after(answer))
        if status >= 500:
            return BrokenError(message)
        if status == 413:
            return JobError(f"{message}; start the server with a larger --max-body-mb")
        return SandboxError(message)

    async def forget(self, host: Host, key: str) -> None:
        """Tell a server that nobody waits for a job any more."""
        with contextlib.suppress(httpx.HTTPError):
            await self.client.delete(f"{host.url}/v1/jobs/{key}", timeout=5.0)


@dataclass
class _Delivery:
    """One job until it has a result."""

    link: Link
    key: str
    body: bytes
    failure: str = ""
    host: Host | None = None

    async def run(self) -> Result:
        waited_s, attempt = 0.0, 0
        loop = self.link.loop
        while True:
            start = loop.time()
            try:
                host = await self.link.fleet.acquire(self.link.timeout_s)
            except UnreachableError as error:
                return Result(error=str(error))
            waited_s += loop.time() - start
            try:
                self.host = host
                result = await self.link.send(host, self.key, self.body)
                self.host = None
                return replace(result, queue_s=result.queue_s + waited_s)
            except BusyError as error:
                self.failure, self.host = str(error), None
                self.link.fleet.pause(host, error.seconds * random.uniform(1.0, 1.3))
            except BrokenError as error:
                self.failure = str(error)
                attempt += 1
                if attempt > self.link.retries:
                    return Result(error=f"{self.failure} (tried {attempt} times)")
            except JobError:
                raise
            except SandboxError as error:
                return Result(error=str(error))
            finally:
                self.link.fleet.release(host)
            if attempt:
                await asyncio.sleep(backoff(attempt))

    def abandon(self) -> None:
        """End the job where it may still run."""
        if self.host is not None and not self.link.closing:
            self.link.spawn(self.link.forget(self.host, self.key))


async def _lines(answer: httpx.Response) -> AsyncIterator[bytes]:
    """The lines of an answer, each when it is there."""
    parts: list[bytes] = []
    async for chunk in answer.aiter_raw():
        first, *rest = chunk.split(b"\n")
        parts.append(first)
        for line in rest:
            yield b"".join(parts)
            parts = [line]


def wait(future: Future[T]) -> T:
    """The result of what runs on the link; what waits in vain is cancelled."""
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise
