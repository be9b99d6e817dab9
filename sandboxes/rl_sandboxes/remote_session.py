"""Sessions of the remote back end: each lives on one server, and ends with it."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Self

import httpx

from rl_sandboxes import wire
from rl_sandboxes.remote_hosts import Host, backoff, json_object, reason
from rl_sandboxes.remote_link import SILENCE_S, BrokenError, BusyError, Link, wait
from rl_sandboxes.sessions import check_limits
from rl_sandboxes.trees import Tree
from rl_sandboxes.types import JobError, Run, SandboxError


@dataclass
class RemoteSession:
    """A box on a server. Its methods are those of :class:`~rl_sandboxes.types.Session`."""

    _link: Link
    _host: Host
    _name: str
    _wall_s: float

    def run(self, command: str, *, timeout_s: float | None = None) -> Run:
        """Run a command (bash) or a cell (Python); state stays for the next one."""
        return wait(self._link.submit(self._run(command, timeout_s)))

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

    def collect(self, *, max_entries: int = 2000, max_bytes: int = 4 << 20) -> Tree:
        """End all that runs in the box, then read all files beneath the working folder.

        Raises:
            JobError: A limit that is none.
            SandboxError: The session is gone, or its answer is none.
        """
        check_limits(max_entries, max_bytes)
        answer = self._do("collect", max_entries=max_entries, max_bytes=max_bytes)
        try:
            return Tree.read(answer)
        except ValueError as error:
            raise SandboxError(f"{self._host.url} sent {error}") from None

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
            wait(self._link.submit(close_session(self._link, self._host, self._name)))

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
        return wait(self._link.submit(self._act(action, {**tree, **texts}, self._wall_s)))

    def _act(
        self, action: str, tree: dict[str, Any], longest_s: float
    ) -> Coroutine[Any, Any, dict[str, Any]]:
        if self._link.closing:
            raise SandboxError("this remote sandbox was closed")
        return act(self._link, self._host, self._name, action, tree, longest_s)


async def open_session(link: Link, tree: dict[str, Any]) -> tuple[Host, str]:
    """Open a session on a server that has room.

    Returns:
        The server and the session's name.

    Raises:
        SandboxError: None has within ``timeout_s``, or it cannot be opened.
    """
    body = wire.dumps({**tree, "key": uuid.uuid4().hex})
    last, attempt = "", 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(link.timeout_s):
            while True:
                for host in link.fleet.by_turn():
                    try:
                        opened = await _ask(link, host, "", body, link.timeout_s)
                        return host, str(_read(opened, "id", "text"))
                    except (BusyError, BrokenError) as error:
                        last = str(error)
                await asyncio.sleep(backoff(attempt))
                attempt += 1
    raise SandboxError(
        f"no session could be opened in {link.timeout_s:.0f} s: {last or link.fleet.failure}"
    )


async def act(
    link: Link, host: Host, name: str, action: str, tree: dict[str, Any], timeout_s: float
) -> dict[str, Any]:
    """Do something in a session, once, however often it must be asked.

    Raises:
        FileNotFoundError: There is no such file.
        JobError: The server says that this cannot be done.
        SandboxError: No answer in time, or the session is gone.
    """
    try:
        body = wire.dumps({**tree, "key": uuid.uuid4().hex})
    except wire.WireError as error:
        raise JobError(f"{action} {error}") from None
    if len(body) > host.max_body_bytes:
        raise JobError(
            f"{action}: {len(body):,} bytes, and the sandbox server takes {host.max_body_bytes:,}"
        )
    last, attempt = "no answer", 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s + link.timeout_s):
            while attempt <= link.retries:
                try:
                    return await _ask(link, host, f"/{name}/{action}", body, timeout_s)
                except BusyError as error:
                    last = str(error)
                    await asyncio.sleep(max(error.seconds, backoff(attempt)))
                except BrokenError as error:
                    last = str(error)
                    attempt += 1
                    await asyncio.sleep(backoff(attempt))
    raise SandboxError(f"the session's {action} failed: {last}")


async def close_session(link: Link, host: Host, name: str) -> None:
    """Close a session; one that cannot be reached closes itself when it was idle for long."""
    with contextlib.suppress(httpx.HTTPError):
        await link.client.delete(f"{host.url}/v1/sessions/{name}")


async def _ask(link: Link, host: Host, path: str, body: bytes, timeout_s: float) -> dict[str, Any]:
    try:
        answer = await link.client.post(
            f"{host.url}/v1/sessions{path}",
            content=body,
            headers={"Content-Type": "application/json"},
            timeout=httpx.Timeout(timeout_s + SILENCE_S, connect=5.0),
        )
    except httpx.HTTPError as fault:
        link.fleet.lose(host, f"{host.url}: {reason(fault)}")
        raise BrokenError(host.failure) from None
    tree = json_object(answer.content)
    if answer.status_code == 200:
        return tree
    code, message = _code_and_message(tree.get("error"))
    if code == "no_file":
        raise FileNotFoundError(message)
    if code == "invalid":
        raise JobError(message)
    if code in ("sandbox_error", "session_gone"):
        raise SandboxError(message)
    raise link.refused(host, answer)


def _code_and_message(error: Any) -> tuple[str, str]:
    tree = error if type(error) is dict else {}
    return str(tree.get("code")), str(tree.get("message"))


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
