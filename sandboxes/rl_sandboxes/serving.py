"""Runs a server in this process until it is told to end: the remote back end's, or another."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import uvicorn
from starlette.applications import Starlette

from rl_sandboxes.guard import is_loopback
from rl_sandboxes.server import ServerOptions, Service
from rl_sandboxes.types import Sandbox, SandboxError

KEEP_ALIVE_S = 75
MAX_CONNECTIONS = 4096


class Servable(Protocol):
    """What :func:`run` serves.

    Attributes:
        drained: Set when nothing is left to do after :meth:`drain`.
        draining: Whether it is about to end.
    """

    drained: asyncio.Event

    @property
    def draining(self) -> bool:
        """Whether it is about to end."""
        ...

    def app(self) -> Starlette:
        """The ASGI application."""
        ...

    def drain(self) -> None:
        """Take no more work."""
        ...

    def give_up(self) -> None:
        """End what still runs."""
        ...


def check_address(
    host: str, token: str | None, *, variable: str = "AGENT_RL_SANDBOX_TOKEN"
) -> None:
    """Refuse to work for everyone on the network.

    Args:
        host: Where to listen.
        token: What clients must show.
        variable: The environment variable that may hold it, for the message.

    Raises:
        SandboxError: The host is no loopback address and there is no token.
    """
    if token is None and not is_loopback(host):
        raise SandboxError(
            f"will not listen on {host or 'all addresses'} without a token; give --token-file or "
            f"{variable}, or listen on 127.0.0.1"
        )


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        SandboxError: The address is not ours, or taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host.strip("[]"), port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise SandboxError(
            f"cannot listen on {host}:{port}: {why}; give another --host or --port"
        ) from None
    # Inherited by every connection. asyncio leaves it out for a socket made this way, and each
    # answer of two writes then waits 40 ms for the client's acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def serve(
    sandbox: Sandbox,
    listener: socket.socket,
    options: ServerOptions,
    token: str | None = None,
    *,
    started: Callable[[], None] = lambda: None,
) -> int:
    """Serve a sandbox until SIGTERM, SIGINT or ``POST /v1/drain``, then close it.

    The first signal drains: no new jobs, those that are there end. A second one ends at once.

    Args:
        sandbox: What runs the jobs.
        listener: See :func:`listen`; closed at the end.
        options: What clients may do.
        token: What clients must show.
        started: Called when requests are answered.

    Returns:
        The exit status: 0 after draining, 1 where jobs were given up.
    """
    try:
        return run(lambda: Service(sandbox, options, token), listener, started=started)
    finally:
        sandbox.close()


def run(
    make_service: Callable[[], Servable],
    listener: socket.socket,
    *,
    started: Callable[[], None] = lambda: None,
    max_message_bytes: int = 0,
) -> int:
    """Serve until SIGTERM, SIGINT or the service's own :meth:`~Servable.drain`.

    The first signal drains; a second one gives up.

    Args:
        make_service: Called on the event loop.
        listener: See :func:`listen`; closed at the end.
        started: Called when requests are answered.
        max_message_bytes: Of a WebSocket message; 0 for a service without WebSockets.

    Returns:
        The exit status: 0 after draining, 1 where work was given up.
    """
    return asyncio.run(_Serving(make_service, listener, started, max_message_bytes).run())


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Ours drain first."""
        yield


@dataclass
class _Serving:
    make_service: Callable[[], Servable]
    listener: socket.socket
    started: Callable[[], None]
    max_message_bytes: int = 0

    async def run(self) -> int:
        self.given_up = asyncio.Event()
        self.service = self.make_service()
        self.server = _Server(
            uvicorn.Config(
                self.service.app(),
                log_level="error",
                access_log=False,
                server_header=False,
                lifespan="on",
                ws="websockets-sansio" if self.max_message_bytes else "none",
                ws_max_size=self.max_message_bytes or 1 << 20,
                timeout_keep_alive=KEEP_ALIVE_S,
                limit_concurrency=MAX_CONNECTIONS,
            )
        )
        loop = asyncio.get_running_loop()
        signals = (signal.SIGTERM, signal.SIGINT)
        for number in signals:
            loop.add_signal_handler(number, self._signalled)
        try:
            return await self._serve()
        finally:
            for number in signals:  # one more ends even a back end that does not close
                loop.remove_signal_handler(number)
                signal.signal(number, signal.SIG_DFL)

    async def _serve(self) -> int:
        serving = asyncio.create_task(self.server.serve(sockets=[self.listener]))
        while not (self.server.started or serving.done()):
            await asyncio.sleep(0.005)
        self.started()
        ends = [serving, *(asyncio.create_task(event.wait()) for event in self._events())]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        self.server.should_exit = True
        given_up = self.given_up.is_set()
        if not given_up:
            stop = asyncio.create_task(self.given_up.wait())
            await asyncio.wait([serving, stop], return_when=asyncio.FIRST_COMPLETED)
            given_up = not serving.done()
        self.server.force_exit = given_up
        if given_up:  # uvicorn would print a traceback for everything that is cancelled now
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL + 1)
            self.service.give_up()
        await serving
        return 1 if given_up else 0

    def _events(self) -> tuple[asyncio.Event, asyncio.Event]:
        return self.service.drained, self.given_up

    def _signalled(self) -> None:
        if self.service.draining:
            self.given_up.set()
        self.service.drain()
