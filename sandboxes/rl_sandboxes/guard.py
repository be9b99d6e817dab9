"""What our HTTP servers have in common: who is let in, how much is read, how errors are told."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from rl_sandboxes import wire
from rl_sandboxes.server_jobs import RefusedError

BODY_S = 60.0
"""Seconds that a client may take to send a body."""

Handler = Callable[[Request, Exception], Awaitable[Response]]


class Guard:
    """Lets requests in, and reads their bodies.

    Args:
        token: What clients must show; None lets everyone in who asks by a loopback name.
        max_body_mb: MiB of a request.
    """

    def __init__(self, token: str | None, max_body_mb: int) -> None:
        self._token = digest(token.encode()) if token else None
        self._max_body_mb = max_body_mb

    @property
    def max_body_bytes(self) -> int:
        """Bytes of a request."""
        return self._max_body_mb << 20

    def knows(self, request: Request) -> bool:
        """Whether the request shows the token; compared in constant time."""
        if self._token is None:
            return True
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        return kind.lower() == "bearer" and hmac.compare_digest(digest(token.encode()), self._token)

    def admit(self, request: Request) -> None:
        """Raises RefusedError unless the request may ask for something."""
        if not self.knows(request):
            raise RefusedError(401, "token", "the bearer token is missing or wrong")
        if self._token is None and not is_loopback(request.url.hostname or ""):
            # a web page whose name was made to point here
            raise RefusedError(403, "host", "without a token, only a loopback name is answered")

    async def body(self, request: Request) -> Any:
        """The parsed body, never more of it than is allowed."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":  # what a web page can send without asking is refused
            raise RefusedError(415, "content_type", "the content type must be application/json")
        most = self.max_body_bytes
        too_large = RefusedError(
            413, "too_large", f"the body is larger than {self._max_body_mb} MiB"
        )
        length = request.headers.get("content-length", "0")
        if length.isascii() and length.isdigit() and int(length[:20]) > 2 * most:
            raise too_large
        try:
            async with asyncio.timeout(BODY_S):
                data = await _read(request, most)
        except TimeoutError:
            raise RefusedError(
                408, "slow_body", f"the body took longer than {BODY_S:.0f} s"
            ) from None
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


def is_loopback(host: str) -> bool:
    """Whether a host's name or address, as a user wrote it, is this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def digest(data: bytes) -> bytes:
    """SHA-256."""
    return hashlib.sha256(data).digest()


def error_answer(refusal: RefusedError) -> Response:
    """An error as everyone gets it: ``{"error": {"status", "code", "message"}}``."""
    headers = {} if refusal.retry_after is None else {"Retry-After": str(refusal.retry_after)}
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if refusal.status in (401, 403, 408, 413, 415):  # the rest of the body is not read
        headers["Connection"] = "close"
    return JSONResponse({"error": refusal.tree()}, refusal.status, headers)


def error_handlers(*, invalid: int = 422) -> dict[Any, Handler]:
    """What to answer instead of raising.

    Args:
        invalid: The status of a body that is JSON, but not what was agreed.
    """

    async def malformed(request: Request, error: Exception) -> Response:
        if isinstance(error, wire.NotJsonError):
            return error_answer(RefusedError(400, "not_json", str(error)))
        return error_answer(RefusedError(invalid, "invalid", str(error)))

    return {
        RefusedError: _refused,
        wire.WireError: malformed,
        HTTPException: _http_error,
        ClientDisconnect: _gone,
    }


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    return error_answer(error)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "no_endpoint", 405: "method"}.get(error.status_code, "http")
    message = f"{request.method} {request.url.path[:200]}: {error.detail}"
    return error_answer(RefusedError(error.status_code, code, message))


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # nobody reads it
