"""The remote back end: jobs and sessions on other machines, over HTTP."""

from __future__ import annotations

import asyncio
import math
import os
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

from rl_sandboxes import wire
from rl_sandboxes.remote_hosts import Host, check_url
from rl_sandboxes.remote_link import Link
from rl_sandboxes.types import Guarantees, Job, Limits, Result, Run, SandboxError

T = TypeVar("T")

TOKEN_VARIABLE = "AGENT_RL_SANDBOX_TOKEN"


class RemoteSandbox:
    """Runs jobs on the servers that ``agent-rl serve-sandbox`` starts.

    Jobs go to the server with the most room. One that dies, ends or is full costs no job: what was
    there is sent again with the same key, so that a server which has it already does not run it
    twice. A failure for good is a Result with an ``error``.

    Args:
        url: A server, ``http://HOST:PORT``, or several.
        token: What the servers want to see; None for AGENT_RL_SANDBOX_TOKEN, if it is set.
        credits: Jobs that one server may have of us at once; None for what it asks for itself.
        timeout_s: Seconds that a job may take beyond its own limits and beyond those of our jobs
            before it: for other clients' jobs, for the network, and for a server to come back.
        retries: How often a job is sent again after its connection broke.

    Raises:
        SandboxError: No server answers, or one is none, or refuses the token; says what to do.
    """

    name = "remote"

    def __init__(
        self,
        url: str | Sequence[str],
        *,
        token: str | None = None,
        credits: int | None = None,  # noqa: A002 - the field's word
        timeout_s: float = 120.0,
        retries: int = 4,
    ) -> None:
        urls = [url] if isinstance(url, str) else list(url)
        if not urls:
            raise SandboxError("sandbox remote: give at least one url")
        self._urls = list(dict.fromkeys(map(check_url, urls)))
        self._token = _check_token(os.environ.get(TOKEN_VARIABLE) if token is None else token)
        for name, value, least in (("credits", credits, 1), ("retries", retries, 0)):
            if value is not None and (type(value) is not int or value < least):
                raise SandboxError(f"sandbox remote: {name} is {value!r}; at least {least}")
        if not (isinstance(timeout_s, int | float) and 0 < timeout_s < math.inf):
            raise SandboxError(f"sandbox remote: timeout_s is {timeout_s!r}; a number above 0")
        self._settings = (credits, float(timeout_s), retries)
        self._lock = threading.Lock()
        self._link: Link | None = None
        self._closed = False
        try:
            self.check()
        except BaseException:
            self.close()
            raise

    def check(self) -> None:
        """Ask every server how it is.

        Raises:
            SandboxError: None answers, or one is no sandbox server, or refuses the token.
        """
        link = self._open()
        _wait(link.submit(link.check()))

    def guarantees(self) -> Guarantees:
        """What the first server's back end promises, and what the way there lacks.

        Raises:
            SandboxError: As for :meth:`check`.
        """
        self.check()
        hosts = self._open().fleet.hosts
        promised = next(host.guarantees for host in hosts if host.guarantees is not None)
        missing = [
            f"the connection to {url} is not encrypted"
            for url in self._urls
            if url.startswith("http:")
            and urlsplit(url).hostname not in ("localhost", "127.0.0.1", "::1")
        ]
        return replace(promised, missing=(*promised.missing, *missing))

    def run(self, job: Job) -> Result:
        """Run a job; blocks.

        Raises:
            JobError: It is too large for the servers, or its arguments are no plain data.
        """
        return _wait(self._submit(job))

    async def arun(self, job: Job) -> Result:
        """``run`` for use inside an event loop; cancelling ends the job."""
        return await asyncio.wrap_future(self._submit(job))

    def run_many(self, jobs: Sequence[Job]) -> list[Result]:
        """Run jobs at once on all servers; results in the order of the jobs."""
        futures = [self._submit(job) for job in jobs]
        try:
            return [future.result() for future in futures]
        except BaseException:
            for future in futures:
                future.cancel()
            raise

    def session(
        self, kind: Literal["bash", "python"] = "bash", limits: Limits | None = None
    ) -> RemoteSession:
        """Open a box that stays, on one of the servers.

        Raises:
            SandboxError: None has room for it in ``timeout_s``, or it cannot be opened.
        """
        limits = limits or Limits()
        link = self._open()
        tree = {"kind": kind, "limits": wire.limits_tree(limits)}
        host, name = _wait(link.submit(link.open_session(tree)))
        return RemoteSession(link, host, name, limits.wall_s)

    def close(self) -> None:
        """Drop all connections; jobs that are on their way get an error. Safe to call twice."""
        with self._lock:
            self._closed = True
            link, self._link = self._link, None
        if link is not None and link.pid == os.getpid():
            link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _submit(self, job: Job) -> Future[Result]:
        body = wire.dumps(wire.job_tree(job))
        link = self._open()
        return link.submit(link.deliver(job, body))

    def _open(self) -> Link:
        """The link of this process; a process that was forked has none yet."""
        link = self._link
        if link is not None and link.pid == os.getpid():
            return link
        with self._lock:
            if self._closed:
                raise SandboxError("this remote sandbox was closed")
            if self._link is None or self._link.pid != os.getpid():
                credits_, timeout_s, retries = self._settings
                self._link = Link(self._urls, self._token, credits_, timeout_s, retries)
                started = self._link
                if link is not None:  # a parent's: it knew the servers, this one must ask
                    _wait(started.submit(started.check()))
            return self._link


@dataclass
class RemoteSession:
    """A box on a server. Its methods are those of :class:`~rl_sandboxes.types.Session`."""

    _link: Link
    _host: Host
    _name: str
    _wall_s: float

    def run(self, command: str, *, timeout_s: float | None = None) -> Run:
        """Run a command (bash) or a cell (Python); state stays for the next one."""
        return _wait(self._link.submit(self._run(command, timeout_s)))

    async def arun(self, command: str, *, timeout_s: float | None = None) -> Run:
        """``run`` for use inside an event loop."""
        return await asyncio.wrap_future(self._link.submit(self._run(command, timeout_s)))

    def put(self, path: str, data: bytes) -> None:
        """Write a file, through no link; parent folders are made."""
        self._do("put", path=path, data=wire.bytes_tree(data))

    def get(self, path: str, *, max_bytes: int = 1 << 20) -> bytes:
        """Read a regular file, through no link.

        Raises:
            FileNotFoundError: There is none.
            JobError: It is a link, no regular file, or larger than ``max_bytes``.
        """
        tree = self._do("get", path=path, max_bytes=max_bytes)
        data: bytes = _read(tree, "data", "bytes")
        if len(data) > max_bytes:
            raise SandboxError(f"{self._host.url} sent more than was asked for")
        return data

    def start(self, command: str) -> int:
        """Start a background process; its number."""
        return int(_read(self._do("start", command=command), "number", "whole"))

    def poll(self, number: int) -> Run | None:
        """The Run of a background process that ended, else None."""
        tree = self._do("poll", number=number)
        return None if tree.get("run") is None else _run(tree)

    def stop(self, number: int) -> Run:
        """End a background process and all its children; its Run."""
        return _run(self._do("stop", number=number))

    def snapshot(self) -> int:
        """Keep the state; its number."""
        return int(_read(self._do("snapshot"), "number", "whole"))

    def restore(self, number: int) -> None:
        """Go back to a kept state; background processes end."""
        self._do("restore", number=number)

    def close(self) -> None:
        """End everything in the box and throw it away."""
        if not self._link.closing:
            _wait(self._link.submit(self._link.close_session(self._host, self._name)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _run(self, command: str, timeout_s: float | None) -> Run:
        tree = {"command": wire.text_tree(command)}
        if timeout_s is not None:
            tree["timeout_s"] = timeout_s
        longest_s = self._wall_s if timeout_s is None else timeout_s
        return _run(await self._act("run", tree, longest_s))

    def _do(self, action: str, **tree: Any) -> dict[str, Any]:
        texts = {key: wire.text_tree(value) for key, value in tree.items() if type(value) is str}
        return _wait(self._link.submit(self._act(action, {**tree, **texts}, self._wall_s)))

    def _act(
        self, action: str, tree: dict[str, Any], longest_s: float
    ) -> Coroutine[Any, Any, dict[str, Any]]:
        if self._link.closing:
            raise SandboxError("this remote sandbox was closed")
        return self._link.act(self._host, self._name, action, tree, longest_s)


def _run(tree: dict[str, Any]) -> Run:
    try:
        return wire.run_from(tree.get("run"))
    except wire.WireError as error:
        raise SandboxError(f"the sandbox server sent no run: {error}") from None


def _read(tree: dict[str, Any], name: str, kind: str) -> Any:
    try:
        return wire.read_fields(tree, "answer", optional={name: kind})[name]
    except (wire.WireError, KeyError) as error:
        raise SandboxError(f"the sandbox server sent no {name}: {error}") from None


def _wait(future: Future[T]) -> T:
    """The result of what runs on the link; what waits in vain is cancelled."""
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def _check_token(token: str | None) -> str | None:
    if token is None or token == "":
        return None
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise SandboxError("sandbox remote: the token must be printable ASCII without blanks")
    return token
