"""One burst of generation: from the first request until nothing is left to do."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from agent_rl.engines.base import Completion
from agent_rl.engines.decoder import Decoder
from agent_rl.engines.rows import Request


class Scheduler:
    """Who is decoded when, within one event loop. It is used once; nothing outlives it.

    Args:
        decoder: An empty batch.
        model: Put into evaluation mode for each step, and back.
        max_batch: Most rows decoded at once.
        cache_tokens: Most rows times the longest row; None for no such bound.
        version: Policy version that completions are stamped with.
    """

    def __init__(
        self,
        decoder: Decoder,
        model: nn.Module,
        *,
        max_batch: int,
        cache_tokens: int | None,
        version: int,
    ) -> None:
        self._decoder = decoder
        self._model = model
        self._max_batch = max_batch
        self._cache_tokens = cache_tokens
        self._version = version
        self._waiting: deque[Request] = deque()
        self._gone: set[Request] = set()
        self._over = False
        self._loop = asyncio.get_running_loop()
        self._driver = self._loop.create_task(self._drive())

    def __len__(self) -> int:
        """Requests that someone still waits for."""
        if self._loop.is_closed():
            return 0
        known = (*self._decoder.rows.requests, *self._waiting)
        return sum(not request.future.done() for request in known)

    @property
    def accepts(self) -> bool:
        """Whether a request of the running event loop may join."""
        return not self._over and self._loop is asyncio.get_running_loop()

    async def complete(self, request: Request) -> Completion:
        """Queue a request and wait for its completion; cancelling frees its place."""
        self._waiting.append(request)
        try:
            return await request.future
        except asyncio.CancelledError:
            self._gone.add(request)
            raise

    def abort(self) -> None:
        """End every request with what it has."""
        rows = self._decoder.rows
        for row, request in enumerate(rows.requests):
            _resolve(request, rows.completion(row, "abort", self._version))
        for request in self._waiting:
            _resolve(request, Completion((), (), "abort", self._version))
        self._end()

    async def _drive(self) -> None:
        """Decode until nothing is left; between two steps everyone else in the loop has a turn."""
        try:
            await asyncio.sleep(0)  # the other requests of this pass arrive
            while self._step():
                await asyncio.sleep(0)
        except Exception as error:
            for request in (*self._decoder.rows.requests, *self._waiting):
                if not request.future.done():
                    request.future.set_exception(error)
        finally:
            self._end()

    @torch.no_grad()
    def _step(self) -> bool:
        """Let requests out and in, sample a token for each; whether there is more to do."""
        if self._gone:
            self._decoder.discard(self._gone)
            self._waiting = deque(r for r in self._waiting if r not in self._gone)
            self._gone.clear()
        admitted = self._admissible()
        with _evaluating(self._model):
            if admitted:
                self._decoder.admit(admitted)
            finished = self._decoder.step(self._version) if len(self._decoder.rows) else []
        for request, completion in finished:
            _resolve(request, completion)
        return bool(len(self._decoder.rows) or self._waiting)

    def _admissible(self) -> list[Request]:
        """The waiting requests, oldest first, that batch and cache have room for."""
        admitted: list[Request] = []
        if not self._waiting:
            return admitted
        running = self._decoder.rows.requests
        longest = max((r.longest for r in running), default=0)
        while self._waiting and len(running) + len(admitted) < self._max_batch:
            longest = max(longest, self._waiting[0].longest)
            n = len(running) + len(admitted) + 1
            if self._cache_tokens is not None and n > 1 and n * longest > self._cache_tokens:
                break
            admitted.append(self._waiting.popleft())
        return admitted

    def _end(self) -> None:
        self._over = True
        self._decoder.clear()
        self._waiting.clear()
        self._gone.clear()


def _resolve(request: Request, completion: Completion) -> None:
    if not request.future.done():  # its caller may have been cancelled a moment ago
        request.future.set_result(completion)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Dropout off; afterwards every module is in the mode it was in."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
