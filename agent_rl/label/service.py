"""The server of ``agent-rl label``: static files, and three requests that the page makes."""

from __future__ import annotations

import asyncio
import json
import unicodedata
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agent_rl.label.items import Item
from agent_rl.label.store import AlreadyLabelledError, LabelStore
from agent_rl.runs.files import RunError, plain
from rl_sandboxes.guard import Guard, error_handlers
from rl_sandboxes.server_jobs import RefusedError

PAGE = Path(__file__).with_name("page")
FILES = {
    "/": ("label.html", "text/html"),
    "/label.js": ("label.js", "text/javascript"),
    "/label.css": ("label.css", "text/css"),
    "/label.svg": ("label.svg", "image/svg+xml"),
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
MAX_BODY_MB = 1
NAME_CHARS = 100
CHOICES = ("left", "right", "tie", "skip")


class LabelService:
    """The labels of a file behind HTTP; belongs to one event loop, which puts writes in order.

    Args:
        store: Where judgements go.
        annotator: Who judges, where the page does not say.
        token: What clients must show; None lets everyone in who asks by a loopback name.
    """

    def __init__(self, store: LabelStore, annotator: str, token: str | None) -> None:
        self.store, self.annotator = store, annotator
        self.guard, self.open = Guard(token, MAX_BODY_MB), token is None
        self.drained = asyncio.Event()
        self.draining = False

    def app(self) -> Starlette:
        """The ASGI application."""
        routes = [Route(path, _file(name, kind)) for path, (name, kind) in FILES.items()]
        routes += [
            Route("/api/next", self._answer(self._next)),
            Route("/api/choose", self._answer(self._choose), methods=["POST"]),
            Route("/api/undo", self._answer(self._undo), methods=["POST"]),
        ]
        return Starlette(routes=routes, exception_handlers=error_handlers())

    def drain(self) -> None:
        """End: every judgement that was answered is on the disk already."""
        self.draining = True
        self.drained.set()

    def give_up(self) -> None:
        """Nothing runs."""

    def _answer(
        self, handle: Callable[[Request], Awaitable[dict[str, Any]]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            self.guard.admit(request)
            if self.open:
                _refuse_other_pages(request)
            try:
                tree = await handle(request)
            except RunError as error:  # a full disk: the page shows it, the item stays
                raise RefusedError(507, "not_written", str(error)) from error
            text = json.dumps(plain(tree))  # ASCII: it may hold lone surrogates
            return Response(text, media_type="application/json", headers=HEADERS)

        return answer

    async def _next(self, request: Request) -> dict[str, Any]:
        return self._state(self._name(request.query_params.get("annotator")))

    async def _choose(self, request: Request) -> dict[str, Any]:
        body = await self._body(request)
        name, choice, seconds = self._name(body.get("annotator")), body.get("choice"), None
        item = self.store.items.get(str(body.get("item")))
        if item is None:
            raise RefusedError(404, "no_item", "there is no such item; load the page again")
        if choice not in CHOICES:
            raise RefusedError(422, "invalid", f"choice must be one of {', '.join(CHOICES)}")
        given = body.get("seconds")
        if isinstance(given, int | float) and 0 <= given < 1e7:
            seconds = float(given)
        if choice == "skip":
            self.store.skip(item, name)
            return self._state(name)
        try:
            self.store.choose(item, name, choice, seconds)
        except AlreadyLabelledError:
            return {**self._state(name), "already": True}
        return self._state(name)

    async def _undo(self, request: Request) -> dict[str, Any]:
        name = self._name((await self._body(request)).get("annotator"))
        item = self.store.undo(name)
        if item is None:
            raise RefusedError(409, "nothing", "there is nothing to undo")
        return self._state(name, item)

    async def _body(self, request: Request) -> Mapping[str, Any]:
        body = await self.guard.body(request)
        if not isinstance(body, dict):
            raise RefusedError(422, "invalid", "the body must be an object")
        return body

    def _name(self, given: Any) -> str:
        try:
            return read_name(given) or self.annotator
        except ValueError as error:
            raise RefusedError(422, "invalid", str(error)) from None

    def _state(self, annotator: str, item: Item | None = None) -> dict[str, Any]:
        item = item or self.store.next(annotator)
        done = self.store.n_done(annotator)
        state = {"annotator": annotator, "done": done, "total": len(self.store.items)}
        if item is None:
            return {**state, "item": None}
        left, right = self.store.shown(item, annotator)
        prompt = [{"role": m["role"], "content": m["content"]} for m in item.prompt]
        shown = {"key": item.key, "id": item.id, "prompt": prompt, "left": left, "right": right}
        return {**state, "item": shown}


def read_name(given: Any) -> str:
    """An annotator's name, the same however it was typed; empty where none is given.

    Raises:
        ValueError: It is no printable text, or too long.
    """
    name = "" if given is None else given
    if not isinstance(name, str) or len(name) > NAME_CHARS or not name.isprintable():
        raise ValueError(
            f"annotator must be a name of at most {NAME_CHARS} characters, all printable"
        )
    return unicodedata.normalize("NFC", name).strip()


def _refuse_other_pages(request: Request) -> None:
    """Only our own page may ask, whatever else the labeller's browser has open."""
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != request.headers.get("host"):
        raise RefusedError(403, "origin", "another web page may not label")


def _file(name: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
    text = (PAGE / name).read_text("utf-8")

    async def answer(request: Request) -> Response:
        return Response(text, media_type=kind, headers=HEADERS)

    return answer
