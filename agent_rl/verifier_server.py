"""The server of ``agent-rl serve-verifier``: a registered verifier over HTTP.

The endpoints and their errors are described in ``docs/serve_verifier.md``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agent_rl.scoring.spec import VerifierSpec
from agent_rl.verifier_queue import LocalScorer, Outcome, PooledScorer, ScoreQueue
from rl_sandboxes import wire
from rl_sandboxes.guard import Guard, error_handlers
from rl_sandboxes.server_jobs import RefusedError, draining
from rl_verifiers import Score, Verifier
from rl_verifiers.score_wire import PROTOCOL, SERVICE, broken_tree, score_tree

MAX_QUEUE_BYTES = 512 << 20
_SECRET = ("key", "token", "secret", "password")


@dataclass(frozen=True)
class VerifierOptions:
    """What a server allows.

    Attributes:
        workers: Processes that score; 0 for the server's own.
        max_batch: Samples that go to a worker at a time.
        batch_wait_ms: Milliseconds that a sample waits for others while a worker is free.
        max_rows: Samples of a request.
        max_body_mb: MiB of a request.
        max_queue: Samples that wait; more are refused with 429.
        timeout_s: Seconds for one sample, as in :func:`~rl_verifiers.score_many`.
    """

    workers: int
    max_batch: int = 64
    batch_wait_ms: float = 2.0
    max_rows: int = 4096
    max_body_mb: int = 64
    max_queue: int = 65_536
    timeout_s: float = 60.0


class VerifierService:
    """A verifier with its queue; belongs to one event loop.

    Args:
        spec: What is served.
        verifier: The verifier that it stands for.
        options: What is allowed.
        token: What clients must show; None lets everyone in.
        version: Of the program, for ``/info``.
    """

    def __init__(
        self,
        spec: VerifierSpec,
        verifier: Verifier,
        options: VerifierOptions,
        token: str | None,
        version: str,
    ) -> None:
        self.options = options
        self.guard = Guard(token, options.max_body_mb)
        self.drained = asyncio.Event()
        self.draining = False
        self._about = {
            "verifier": spec.word,
            "options": {
                key: "..." if any(word in key.lower() for word in _SECRET) else value
                for key, value in spec.options.items()
            },
            "reads": _reads(verifier),
            "version": version,
        }
        scorer: LocalScorer | PooledScorer = LocalScorer(verifier, timeout_s=options.timeout_s)
        if options.workers:
            scorer = PooledScorer(
                spec,
                workers=options.workers,
                max_batch=options.max_batch,
                timeout_s=options.timeout_s,
            )
            scorer.warm_up()
        self.queue = ScoreQueue(
            scorer, max_queue=options.max_queue, wait_s=options.batch_wait_ms / 1000
        )
        self._n_requests = 0
        self._n_bytes = 0
        self._none_open = asyncio.Event()
        self._none_open.set()
        self._ending: asyncio.Task[None] | None = None

    def app(self) -> Starlette:
        """The ASGI application."""
        return create_app(self)

    def drain(self) -> None:
        """Take no more requests; ``drained`` is set when those that are there have answers."""
        self.draining = True
        if self._ending is None:
            self._ending = asyncio.get_running_loop().create_task(self._end())

    async def _end(self) -> None:
        await self._none_open.wait()
        await self.queue.idle()
        self.drained.set()

    def give_up(self) -> None:
        """End what still runs."""
        self.queue.give_up()

    async def score(self, completions: list[str], rows: list[Any], n_bytes: int) -> list[Outcome]:
        """The outcomes of a request.

        Raises:
            RefusedError: 429, too much waits; 503, draining.
        """
        if self.draining:
            raise draining()
        crowded = self._n_bytes and self._n_bytes + n_bytes > MAX_QUEUE_BYTES
        if crowded or not self.queue.has_room(len(rows)):
            raise RefusedError(
                429,
                "queue_full",
                f"{self.queue.waiting} samples wait already; try later",
                retry_after=1,
            )
        self._n_requests += 1
        self._n_bytes += n_bytes
        self._none_open.clear()
        try:
            return await self.queue.score(completions, rows)
        finally:
            self._n_requests -= 1
            self._n_bytes -= n_bytes
            if not self._n_requests:
                self._none_open.set()

    def health(self) -> dict[str, Any]:
        """What everyone may know."""
        state = "draining" if self.draining else "ok"
        return {"service": SERVICE, "protocol": PROTOCOL, "status": state}

    def info(self) -> dict[str, Any]:
        """What those with the token may know."""
        options = self.options
        return {
            **self.health(),
            **self._about,
            "workers": options.workers,
            "queue": self.queue.waiting,
            "running": self.queue.running,
            "max_rows": options.max_rows,
            "max_body_bytes": self.guard.max_body_bytes,
        }


def create_app(service: VerifierService) -> Starlette:
    """The ASGI application of a service."""

    def guarded(handler: Callable[[VerifierService, Request], Awaitable[Response]]) -> Any:
        async def endpoint(request: Request) -> Response:
            service.guard.admit(request)
            return await handler(service, request)

        return endpoint

    async def health(request: Request) -> Response:
        return JSONResponse(service.health())

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            service.queue.scorer.close()

    return Starlette(
        lifespan=lifespan,
        routes=[
            Route("/health", health, methods=["GET"]),
            Route("/info", guarded(_info), methods=["GET"]),
            Route("/score", guarded(_score), methods=["POST"]),
            Route("/drain", guarded(_drain), methods=["POST"]),
        ],
        exception_handlers=error_handlers(invalid=400),
    )


async def _info(service: VerifierService, request: Request) -> Response:
    return JSONResponse(service.info())


async def _drain(service: VerifierService, request: Request) -> Response:
    service.drain()
    return JSONResponse(service.health(), status_code=202)


async def _score(service: VerifierService, request: Request) -> Response:
    tree = wire.read_fields(
        await service.guard.body(request),
        "the request",
        optional={"completions": "any", "rows": "any"},
    )
    completions: Any = tree.get("completions")
    rows: Any = tree.get("rows")
    _check(completions, rows, service.options.max_rows)
    length = request.headers.get("content-length", "")
    n_bytes = int(length) if length.isascii() and length.isdigit() else sum(map(len, completions))
    outcomes = await service.score(completions, rows, n_bytes)
    scores = [score_tree(o) if isinstance(o, Score) else broken_tree(str(o)) for o in outcomes]
    return Response(wire.dumps({"scores": scores}), media_type="application/json")


def _check(completions: Any, rows: Any, most: int) -> None:
    """Raises WireError unless the two lists can be scored."""
    for name, values in (("completions", completions), ("rows", rows)):
        if type(values) is not list:
            raise wire.WireError(f"the request must have a list of {name}")
    if len(completions) != len(rows):
        raise wire.WireError(
            f"{len(completions)} completions but {len(rows)} rows; give one row for each"
        )
    if len(rows) > most:
        raise wire.WireError(f"{len(rows)} rows; a request may have {most}")
    for index, (completion, row) in enumerate(zip(completions, rows, strict=True)):
        if type(completion) is not str:
            raise wire.WireError(f"completions[{index}] must be text")
        if type(row) is not dict:
            raise wire.WireError(f"rows[{index}] must be an object")


def _reads(verifier: object) -> list[str] | None:
    """The columns that a verifier looks at, where it says so."""
    names = getattr(verifier, "reads", None)
    return None if names is None else list(names)
