"""Runs the server of the remote back end in this process, until it is told to end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import uvicorn

from rl_sandboxes.server import ServerOptions, Service, create_app, is_loopback
from rl_sandboxes.types import Sandbox, SandboxError

KEEP_ALIVE_S = 75
MAX_CONNECTIONS = 4096


def check_address(host: str, token: str | None) -> None:
    """Refuse to run other people's code for everyone on the network.

    Raises:
        SandboxError: The host is no loopback address and there is no token.
    """
    if token is None and not is_loopback(host):
        raise SandboxError(
            f"will not listen on {host or 'all addresses'} without a token; give --token-file or "
            "AGENT_RL_SANDBOX_TOKEN, or listen on 127.0.0.1"
        )


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        SandboxError: The address is not ours, or taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise SandboxError(
            f"cannot listen on {host}:{port}: {why}; give another --host or --port"
        ) from None


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
        return asyncio.run(_Serving(sandbox, listener, options, token, started).run())
    finally:
        sandbox.close()


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Ours drain first."""
        yield


@dataclass
class _Serving:
    sandbox: Sandbox
    listener: socket.socket
    options: ServerOptions
    token: str | None
    started: Callable[[], None]

    async def run(self) -> int:
        self.given_up = asyncio.Event()
        self.service = Service(self.sandbox, self.options, self.token)
        self.server = _Server(
            uvicorn.Config(
                create_app(self.service),
                log_level="error",
                access_log=False,
                server_header=False,
                lifespan="on",
                ws="none",
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
        if given_up:
            for task in self.service.queue.ledger.running:
                task.cancel()
        await serving
        return 1 if given_up else 0

    def _events(self) -> tuple[asyncio.Event, asyncio.Event]:
        return self.service.drained, self.given_up

    def _signalled(self) -> None:
        if self.service.queue.draining:
            self.given_up.set()
        self.service.drain()
