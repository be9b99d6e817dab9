"""The servers that a remote sandbox knows: which live, and how many jobs each should have."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx

from rl_sandboxes import wire
from rl_sandboxes.types import Guarantees, SandboxError

PROBE_S = 10.0
"""Seconds for an answer to ``GET /v1/health``."""
MAX_ANSWER_BYTES = 1 << 20
LONGEST_PAUSE_S = 5.0


class UnreachableError(SandboxError):
    """A server that does not answer, or is about to end: another one, or later, may."""


def backoff(attempt: int) -> float:
    """Seconds before a try: doubled each time from 0.05 up to 5, and spread.

    So many clients do not come back at the same moment.
    """
    return min(LONGEST_PAUSE_S, 0.05 * 2.0 ** min(attempt, 10)) * random.uniform(0.5, 1.5)


def check_url(url: str) -> str:
    """The URL without a slash at its end.

    Raises:
        SandboxError: It cannot be that of a server.
    """
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname)
        valid = valid and parts.port != 0 and not (parts.query or parts.fragment)
    except (ValueError, AttributeError, TypeError):
        raise SandboxError(f"sandbox url {url!r} must look like http://127.0.0.1:8765") from None
    if not valid:
        raise SandboxError(f"sandbox url {url!r} must look like http://127.0.0.1:8765")
    if parts.username is not None:
        raise SandboxError("a sandbox url has no user name or password; give the token as token=")
    return url.rstrip("/")


class Host:
    """One server.

    Attributes:
        url: Where it is.
        alive: Whether it answered when it was last asked.
        credits: How many jobs we may have there at once.
        in_flight: How many we have.
        ready_at: The loop's time before which it wants no new jobs.
        max_batch: Jobs in one request.
        max_body_bytes: Bytes of a request.
        workers: Jobs that it runs at once.
        guarantees: What its back end promises.
        failure: Why it is not alive.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.alive = False
        self.credits = 1
        self.in_flight = 0
        self.ready_at = 0.0
        self.max_batch = 1
        self.max_body_bytes = 1 << 20
        self.workers = 1
        self.guarantees: Guarantees | None = None
        self.failure = "it was not asked yet"

    def learn(self, tree: Any, most: int | None) -> None:
        """Take over what a health answer says.

        Raises:
            WireError: It is none of a server that knows the token.
        """
        numbers = ("credits", "max_batch", "max_body_bytes", "workers")
        for name in numbers:
            if type(tree.get(name)) is not int or tree[name] < 1:
                raise wire.WireError(f"{name} is {tree.get(name)!r}")
        self.guarantees = wire.guarantees_from(tree.get("guarantees"))
        for name in numbers:
            setattr(self, name, tree[name])
        if most is not None:
            self.credits = most
        self.alive = True


class Fleet:
    """All the servers; hands them out to whoever has a job. Belongs to one event loop.

    Args:
        urls: Where they are.
        client: What asks them, with the token.
        credits: Jobs at once for each server; None for what the server says.
    """

    def __init__(self, urls: Sequence[str], client: httpx.AsyncClient, credits: int | None) -> None:  # noqa: A002
        self.hosts = [Host(url) for url in urls]
        self.down_since: float | None = None
        self._client = client
        self._credits = credits
        self._waiters: deque[asyncio.Future[Host]] = deque()
        self._turn = 0
        self._probes: dict[Host, asyncio.Task[None]] = {}

    @property
    def probes(self) -> list[asyncio.Task[None]]:
        """The tasks that ask servers which did not answer."""
        return [probe for probe in self._probes.values() if not probe.done()]

    @property
    def workers(self) -> int:
        """Jobs that run at once on the servers that live."""
        return max(1, sum(host.workers for host in self.hosts if host.alive))

    @property
    def failure(self) -> str:
        """Why there is no server, as one line."""
        return "; ".join(dict.fromkeys(host.failure for host in self.hosts if not host.alive))

    async def check(self) -> None:
        """Ask every server; those that do not answer are asked again in the background.

        Raises:
            SandboxError: None answers, or one is not what it should be or refuses the token.
        """
        outcomes = await asyncio.gather(*map(self.probe, self.hosts), return_exceptions=True)
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        for failure in failures:
            if not isinstance(failure, UnreachableError):
                raise failure
        if len(failures) == len(self.hosts):
            raise failures[0]
        for host in self.hosts:
            if not host.alive:
                self.lose(host, host.failure)

    async def probe(self, host: Host) -> None:
        """Ask a server how it is.

        Raises:
            UnreachableError: It does not answer, or is about to end.
            SandboxError: It is no such server, or refuses the token.
        """
        try:
            tree = await self._health(host)
            if tree.get("protocol") != wire.PROTOCOL:
                raise SandboxError(
                    f"the sandbox server at {host.url} speaks protocol {tree.get('protocol')!r}, "
                    f"this is {wire.PROTOCOL}: install the same agent-rl on both sides"
                )
            if tree.get("status") != "ok":
                raise UnreachableError(f"the sandbox server at {host.url} is about to end")
            host.learn(tree, self._credits)
        except wire.WireError as error:
            host.alive = False
            host.failure = f"the sandbox server at {host.url} answers what is no health: {error}"
            raise SandboxError(host.failure) from None
        except SandboxError as error:
            host.alive = False
            host.failure = str(error)
            raise
        self.down_since = None
        self._wake()

    async def _health(self, host: Host) -> dict[str, Any]:
        try:
            async with asyncio.timeout(PROBE_S):
                answer = await self._client.get(f"{host.url}/v1/health")
        except (httpx.HTTPError, TimeoutError) as error:
            raise UnreachableError(
                f"no sandbox server answers at {host.url} ({reason(error)}): start one there with "
                "agent-rl serve-sandbox, or mend the url"
            ) from None
        except httpx.InvalidURL as error:
            raise SandboxError(f"sandbox url {host.url!r}: {error}") from None
        if answer.status_code in (401, 403):
            raise SandboxError(
                f"the sandbox server at {host.url} refuses the token: give the one that it was "
                "started with as token= or in AGENT_RL_SANDBOX_TOKEN"
            )
        tree = json_object(answer.content)
        if answer.status_code >= 500:
            raise UnreachableError(f"the sandbox server at {host.url} answers {said(answer)}")
        if answer.status_code != 200 or tree.get("service") != "agent-rl-sandbox":
            raise SandboxError(
                f"{host.url} answers, but is no sandbox server (HTTP {answer.status_code} at "
                "/v1/health): mend the url"
            )
        if "workers" not in tree:
            raise SandboxError(
                f"the sandbox server at {host.url} wants a token: give the one that it was "
                "started with as token= or in AGENT_RL_SANDBOX_TOKEN"
            )
        return tree

    async def acquire(self, give_up_s: float) -> Host:
        """A server that lives and has a credit left; first come, first served.

        Args:
            give_up_s: Seconds without any server that lives after which to give up.

        Raises:
            UnreachableError: There was none for so long.
        """
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Host] = loop.create_future()
        self._waiters.append(waiter)
        self._wake()
        start = loop.time()
        try:
            while not waiter.done():
                await asyncio.wait({waiter}, timeout=min(1.0, give_up_s))
                since = self.down_since
                if since is not None and loop.time() - max(start, since) >= give_up_s:
                    break
        except asyncio.CancelledError:
            self._leave(waiter)
            raise
        if waiter.done():
            return waiter.result()
        self._leave(waiter)
        raise UnreachableError(self.failure)

    def release(self, host: Host) -> None:
        """Give a credit back."""
        host.in_flight -= 1
        self._wake()

    def pause(self, host: Host, seconds: float) -> None:
        """Send a server nothing new for a while."""
        loop = asyncio.get_running_loop()
        host.ready_at = max(host.ready_at, loop.time() + seconds)
        loop.call_at(host.ready_at + 0.001, self._wake)

    def lose(self, host: Host, why: str) -> None:
        """A server does not answer: send it nothing until it does again."""
        host.alive = False
        host.failure = why
        if self.down_since is None and not any(other.alive for other in self.hosts):
            self.down_since = asyncio.get_running_loop().time()
        probe = self._probes.get(host)
        if probe is None or probe.done():
            self._probes[host] = asyncio.get_running_loop().create_task(self._revive(host))

    async def _revive(self, host: Host) -> None:
        attempt = 0
        while not host.alive:
            with contextlib.suppress(SandboxError):
                await self.probe(host)
                return
            await asyncio.sleep(backoff(attempt))
            attempt += 1

    def by_turn(self) -> list[Host]:
        """The servers that live, each time another one first."""
        self._turn += 1
        n = len(self.hosts)
        ordered = [self.hosts[(self._turn + index) % n] for index in range(n)]
        return [host for host in ordered if host.alive]

    def _wake(self) -> None:
        while self._waiters:
            if self._waiters[0].done():
                self._waiters.popleft()
                continue
            now = asyncio.get_running_loop().time()
            free = [
                host
                for host in self.by_turn()
                if host.in_flight < host.credits and host.ready_at <= now
            ]
            if not free:
                return
            host = min(free, key=lambda host: host.in_flight / host.credits)
            host.in_flight += 1
            self._waiters.popleft().set_result(host)

    def _leave(self, waiter: asyncio.Future[Host]) -> None:
        if waiter.done() and not waiter.cancelled():
            self.release(waiter.result())
        else:
            waiter.cancel()


def reason(error: BaseException) -> str:
    """Why a request failed, in a few words."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return "no answer in time"
    return str(error) or type(error).__name__


def json_object(data: bytes) -> dict[str, Any]:
    """The object that an answer holds; empty where it holds another thing."""
    with contextlib.suppress(ValueError):
        tree = wire.loads(data)
        if type(tree) is dict:
            return tree
    return {}


def said(answer: httpx.Response) -> str:
    """What an answer's error says, with its status."""
    error = json_object(answer.content).get("error")
    message = error.get("message") if type(error) is dict else None
    return f"HTTP {answer.status_code}" + (f": {message}" if message else "")


def retry_after(answer: httpx.Response) -> float:
    """Seconds that an answer asks to wait, at most a minute."""
    with contextlib.suppress(ValueError, OverflowError):
        return min(60.0, max(0.0, float(answer.headers.get("retry-after", "0.5"))))
    return 0.5
