"""The server of the remote back end: any sandbox of this machine, over HTTP.

``POST /v1/jobs`` answers line by line, each result as soon as it is there, with an empty line now
and then while nothing is: whoever reads knows that the server lives. The endpoints and their
errors are described in ``docs/remote_sandbox.md``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from rl_sandboxes import wire
from rl_sandboxes.guard import Guard, digest, error_answer, error_handlers
from rl_sandboxes.server_jobs import Answer, JobQueue, RefusedError
from rl_sandboxes.server_sessions import ACTIONS, Sessions
from rl_sandboxes.types import JobError, Sandbox, SandboxError

HEARTBEAT_S = 5.0
MAX_BATCH = 64
MAX_KEY = 200
JOBS_PER_WORKER = 8
"""How many jobs one client should have here at once, for each worker: no worker waits for the
next job to arrive, and several clients share."""


@dataclass(frozen=True)
class ServerOptions:
    """What a server allows.

    Attributes:
        workers: Jobs that run at once.
        max_body_mb: MiB of a request.
        max_queue: Jobs that wait; more are refused with 429.
        max_sessions: Open sessions; more are refused with 429.
        idle_timeout_s: Seconds without a request after which a session is closed.
    """

    workers: int
    max_body_mb: int = 64
    max_queue: int = 1024
    max_sessions: int = 32
    idle_timeout_s: float = 600.0

    @property
    def max_body_bytes(self) -> int:
        """Bytes of a request."""
        return self.max_body_mb << 20

    @property
    def credits(self) -> int:
        """How many jobs one client should have here at once."""
        return min(self.workers + self.max_queue, JOBS_PER_WORKER * self.workers)


class Service:
    """A sandbox with its queue and its sessions; belongs to one event loop.

    Args:
        sandbox: What runs the jobs.
        options: What is allowed.
        token: What clients must show; None lets everyone in.
    """

    def __init__(self, sandbox: Sandbox, options: ServerOptions, token: str | None) -> None:
        self.sandbox = sandbox
        self.options = options
        self.queue = JobQueue(sandbox, options.workers, options.max_queue)
        self.sessions = Sessions(
            sandbox,
            max_sessions=options.max_sessions,
            idle_s=options.idle_timeout_s,
            max_bytes=options.max_body_bytes,
        )
        self.drained = asyncio.Event()
        self.guard = Guard(token, options.max_body_mb)
        self._ending: asyncio.Task[None] | None = None

    @property
    def draining(self) -> bool:
        """Whether it is about to end."""
        return self.queue.draining

    def drain(self) -> None:
        """Take no more work, give back what waits; ``drained`` is set when what runs has ended."""
        self.queue.draining = self.sessions.draining = True
        if self._ending is None:
            self._ending = asyncio.get_running_loop().create_task(self._end())

    def give_up(self) -> None:
        """End what still runs."""
        for task in self.queue.ledger.running:
            task.cancel()

    def app(self) -> Starlette:
        """The ASGI application."""
        return create_app(self)

    async def _end(self) -> None:
        await self.queue.idle()
        await self.sessions.idle()
        self.drained.set()

    def health(self) -> dict[str, Any]:
        """What everyone may know."""
        state = "draining" if self.queue.draining else "ok"
        return {"service": "agent-rl-sandbox", "protocol": wire.PROTOCOL, "status": state}

    def load(self) -> dict[str, Any]:
        """What those with the token may know."""
        options = self.options
        return {
            "backend": self.sandbox.name,
            "workers": options.workers,
            "free_workers": options.workers - self.queue.running,
            "queue": self.queue.waiting,
            "sessions": len(self.sessions),
            "credits": options.credits,
            "max_batch": MAX_BATCH,
            "max_body_bytes": options.max_body_bytes,
            "max_sessions": options.max_sessions,
        }


def create_app(service: Service) -> Starlette:
    """The ASGI application of a service."""

    def guarded(handler: Callable[[Service, Request], Awaitable[Response]]) -> Any:
        async def endpoint(request: Request) -> Response:
            service.guard.admit(request)
            return await handler(service, request)

        return endpoint

    async def health(request: Request) -> Response:
        return await _health(service, request)

    one = "/v1/sessions/{name:str}"

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        closing = asyncio.create_task(service.sessions.close_idle())
        try:
            yield
        finally:
            closing.cancel()
            await service.sessions.close_all()

    handlers = error_handlers()
    app = Starlette(
        lifespan=lifespan,
        routes=[
            Route("/v1/health", health, methods=["GET"]),
            Route("/v1/jobs", guarded(_jobs), methods=["POST"]),
            Route("/v1/jobs/{key:str}", guarded(_cancel), methods=["DELETE"]),
            Route("/v1/drain", guarded(_drain), methods=["POST"]),
            Route("/v1/sessions", guarded(_open_session), methods=["POST"]),
            Route(one, guarded(_close_session), methods=["DELETE"]),
            Route(one + "/{action:str}", guarded(_act), methods=["POST"]),
        ],
        exception_handlers={**handlers, JobError: handlers[wire.WireError], SandboxError: _failed},
    )
    app.state.service = service
    return app


async def _health(service: Service, request: Request) -> Response:
    tree = service.health()
    if "authorization" in request.headers and not service.guard.knows(request):
        raise RefusedError(401, "token", "the bearer token is wrong")
    if service.guard.knows(request):
        promised = await asyncio.to_thread(service.sandbox.guarantees)
        tree |= service.load() | {"guarantees": wire.guarantees_tree(promised)}
    return JSONResponse(tree)


async def _jobs(service: Service, request: Request) -> Response:
    asked = wire.read_fields(
        await service.guard.body(request), "the request", optional={"jobs": "any"}
    ).get("jobs")
    if type(asked) is not list or not 1 <= len(asked) <= MAX_BATCH:
        raise wire.WireError(f"the request must have 1 to {MAX_BATCH} jobs in a list")
    keys = [_key(item, f"jobs[{index}]") for index, item in enumerate(asked)]
    if len(set(keys)) < len(keys):
        raise wire.WireError("a key stands for two jobs of the request")
    tasks: dict[asyncio.Task[Answer], str] = {}
    refusals: dict[str, RefusedError] = {}
    for key, item in zip(keys, asked, strict=True):
        try:
            tasks[_submit(service, key, item)] = key
        except RefusedError as refusal:
            refusals[key] = refusal
        except (wire.WireError, JobError) as error:
            refusals[key] = RefusedError(422, "invalid", str(error))
    busy = [refusal for refusal in refusals.values() if refusal.retry_after is not None]
    if len(busy) == len(keys):
        raise busy[0]
    return StreamingResponse(_lines(tasks, refusals), media_type="application/x-ndjson")


def _key(item: Any, where: str) -> str:
    tree = wire.read_fields(item, where, text=("key",), optional={"job": "any"})
    if not 1 <= len(tree["key"]) <= MAX_KEY or "job" not in tree:
        raise wire.WireError(f"{where} must have a key of 1 to {MAX_KEY} characters and a job")
    return str(tree["key"])


def _submit(service: Service, key: str, item: Any) -> asyncio.Task[Answer]:
    encoded = wire.dumps(item["job"])
    return service.queue.submit(key, wire.job_from(item["job"]), digest(encoded), len(encoded))


async def _lines(
    tasks: dict[asyncio.Task[Answer], str], refusals: dict[str, RefusedError]
) -> AsyncIterator[bytes]:
    """One line for each job, in the order in which they end."""
    yield b"".join(_refusal(key, refused) for key, refused in refusals.items())
    while tasks:
        ended, _ = await asyncio.wait(
            tasks, timeout=HEARTBEAT_S, return_when=asyncio.FIRST_COMPLETED
        )
        yield b"".join(_outcome(tasks.pop(task), task) for task in ended) or b"\n"


def _outcome(key: str, task: asyncio.Task[Answer]) -> bytes:
    if task.cancelled():
        return _refusal(key, RefusedError(410, "cancelled", "the job was cancelled"))
    error = task.exception()
    if isinstance(error, RefusedError):
        return _refusal(key, error)
    return _line(key, b'"result":' + task.result().body)


def _refusal(key: str, refused: RefusedError) -> bytes:
    return _line(key, b'"error":' + _json(refused.tree()))


def _line(key: str, content: bytes) -> bytes:
    return b'{"key":' + _json(key) + b"," + content + b"}\n"


def _json(tree: Any) -> bytes:
    return json.dumps(tree).encode("ascii")


async def _cancel(service: Service, request: Request) -> Response:
    return JSONResponse({"cancelled": service.queue.ledger.cancel(request.path_params["key"])})


async def _drain(service: Service, request: Request) -> Response:
    service.drain()
    return JSONResponse(service.health(), status_code=202)


async def _open_session(service: Service, request: Request) -> Response:
    return _response(await service.sessions.open(await service.guard.body(request)))


async def _close_session(service: Service, request: Request) -> Response:
    return JSONResponse({"closed": await service.sessions.close(request.path_params["name"])})


async def _act(service: Service, request: Request) -> Response:
    name, action = request.path_params["name"], request.path_params["action"]
    if action not in ACTIONS:
        raise HTTPException(404)
    return _response(await service.sessions.act(name, action, await service.guard.body(request)))


def _response(answer: Answer) -> Response:
    return Response(answer.body, answer.status, media_type="application/json")


async def _failed(request: Request, error: Exception) -> Response:
    return error_answer(RefusedError(502, "sandbox_error", str(error)))
