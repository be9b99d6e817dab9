"""The server of the remote back end: any sandbox of this machine, over HTTP.

``POST /v1/jobs`` answers line by line, each result as soon as it is there, with an empty line now
and then while nothing is: whoever reads knows that the server lives. The endpoints and their
errors are described in ``docs/remote_sandbox.md``.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import ipaddress
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from rl_sandboxes import wire
from rl_sandboxes.server_jobs import Answer, JobQueue, RefusedError
from rl_sandboxes.server_sessions import ACTIONS, Sessions
from rl_sandboxes.types import JobError, Sandbox, SandboxError

HEARTBEAT_S = 5.0
BODY_S = 60.0
"""Seconds that a client may take to send a body."""
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
        self._token = _digest(token.encode()) if token else None
        self._ending: asyncio.Task[None] | None = None

    def knows(self, request: Request) -> bool:
        """Whether the request shows the token; compared in constant time."""
        if self._token is None:
            return True
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        return kind.lower() == "bearer" and hmac.compare_digest(
            _digest(token.encode()), self._token
        )

    def admit(self, request: Request) -> None:
        """Raises RefusedError unless the request may ask for something."""
        if not self.knows(request):
            raise RefusedError(401, "token", "the bearer token is missing or wrong")
        if self._token is None and not is_loopback(request.url.hostname or ""):
            # a web page whose name was made to point here
            raise RefusedError(403, "host", "without a token, only a loopback name is answered")

    def drain(self) -> None:
        """Take no more work, give back what waits; ``drained`` is set when what runs has ended."""
        self.queue.draining = self.sessions.draining = True
        if self._ending is None:
            self._ending = asyncio.get_running_loop().create_task(self._end())

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


def is_loopback(host: str) -> bool:
    """Whether a host's name or address, as a user wrote it, is this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def create_app(service: Service) -> Starlette:
    """The ASGI application of a service."""

    def guarded(handler: Callable[[Service, Request], Awaitable[Response]]) -> Any:
        async def endpoint(request: Request) -> Response:
            service.admit(request)
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
        exception_handlers={
            RefusedError: _refused,
            wire.WireError: _malformed,
            JobError: _malformed,
            SandboxError: _failed,
            HTTPException: _http_error,
            ClientDisconnect: _gone,
        },
    )
    app.state.service = service
    return app


async def _health(service: Service, request: Request) -> Response:
    tree = service.health()
    if "authorization" in request.headers and not service.knows(request):
        raise RefusedError(401, "token", "the bearer token is wrong")
    if service.knows(request):
        promised = await asyncio.to_thread(service.sandbox.guarantees)
        tree |= service.load() | {"guarantees": wire.guarantees_tree(promised)}
    return JSONResponse(tree)


async def _jobs(service: Service, request: Request) -> Response:
    asked = wire.read_fields(
        await _body(service, request), "the request", optional={"jobs": "any"}
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
    return service.queue.submit(key, wire.job_from(item["job"]), _digest(encoded), len(encoded))


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
    return _response(await service.sessions.open(await _body(service, request)))


async def _close_session(service: Service, request: Request) -> Response:
    return JSONResponse({"closed": await service.sessions.close(request.path_params["name"])})


async def _act(service: Service, request: Request) -> Response:
    name, action = request.path_params["name"], request.path_params["action"]
    if action not in ACTIONS:
        raise HTTPException(404)
    return _response(await service.sessions.act(name, action, await _body(service, request)))


async def _body(service: Service, request: Request) -> Any:
    """The parsed body, never more of it than is allowed."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # what a web page can send without asking is refused
        raise RefusedError(415, "content_type", "the content type must be application/json")
    most = service.options.max_body_bytes
    too_large = RefusedError(
        413, "too_large", f"the body is larger than {service.options.max_body_mb} MiB"
    )
    length = request.headers.get("content-length", "0")
    if length.isascii() and length.isdigit() and int(length[:20]) > 2 * most:
        raise too_large
    try:
        async with asyncio.timeout(BODY_S):
            data = await _read(request, most)
    except TimeoutError:
        raise RefusedError(408, "slow_body", f"the body took longer than {BODY_S:.0f} s") from None
    if data is None:
        raise too_large
    return wire.loads(data)


async def _read(request: Request, most: int) -> bytes | None:
    """The body; None where it is larger.

    As much again is read away, so that a client that listens only when it has sent all hears why.
    """
    data = bytearray()
    n_bytes = 0
    async for chunk in request.stream():
        n_bytes += len(chunk)
        if n_bytes <= most:
            data += chunk
        elif n_bytes > 2 * most:
            break
    return bytes(data) if n_bytes <= most else None


def _response(answer: Answer) -> Response:
    return Response(answer.body, answer.status, media_type="application/json")


def _error(refusal: RefusedError) -> Response:
    headers = {} if refusal.retry_after is None else {"Retry-After": str(refusal.retry_after)}
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if refusal.status in (401, 403, 408, 413, 415):  # the rest of the body is not read
        headers["Connection"] = "close"
    return JSONResponse({"error": refusal.tree()}, refusal.status, headers)


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    return _error(error)


async def _malformed(request: Request, error: Exception) -> Response:
    if isinstance(error, wire.NotJsonError):
        return _error(RefusedError(400, "not_json", str(error)))
    return _error(RefusedError(422, "invalid", str(error)))


async def _failed(request: Request, error: Exception) -> Response:
    return _error(RefusedError(502, "sandbox_error", str(error)))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "no_endpoint", 405: "method"}.get(error.status_code, "http")
    message = f"{request.method} {request.url.path[:200]}: {error.detail}"
    return _error(RefusedError(error.status_code, code, message))


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # nobody reads it
