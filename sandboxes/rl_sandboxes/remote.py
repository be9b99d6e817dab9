"""The remote back end: jobs and sessions on other machines, over HTTP."""

from __future__ import annotations

import asyncio
import math
import os
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Literal, Self
from urllib.parse import urlsplit

from rl_sandboxes import wire
from rl_sandboxes.types import Guarantees, Job, Limits, Result, SandboxError

try:
    from rl_sandboxes.remote_hosts import check_url
    from rl_sandboxes.remote_link import Link, wait
    from rl_sandboxes.remote_session import RemoteSession, open_session
except ModuleNotFoundError as missing:
    raise SandboxError(
        f"sandbox remote needs {missing.name}: pip install 'agent-rl[remote]'"
    ) from None

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
        wait(link.submit(link.check()))

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
        return wait(self._submit(job))

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
        host, name = wait(link.submit(open_session(link, tree)))
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
                    wait(started.submit(started.check()))
            return self._link


def _check_token(token: str | None) -> str | None:
    token = None if token is None else token.strip()  # a file's ends with a line end
    if token is None or token == "":
        return None
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise SandboxError("sandbox remote: the token must be printable ASCII without blanks")
    return token
