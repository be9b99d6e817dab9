"""The rows of a running batch: numbers in arrays, so that a step costs the same for any number."""

from __future__ import annotations

from asyncio import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent_rl.engines.base import Completion, FinishReason, Sampling
from agent_rl.engines.stops import StopStrings

_FIELDS = np.dtype(
    [
        ("key", np.uint64),  # random stream
        ("length", np.int64),  # positions in the cache
        ("last", np.int64),  # token that the next forward pass reads
        ("count", np.int64),  # tokens sampled
        ("limit", np.int64),  # most tokens to sample
        ("min_tokens", np.int64),
        ("top_k", np.int64),
        ("top_p", np.float64),
        ("min_p", np.float64),
        ("temperature", np.float64),
    ]
)


@dataclass(eq=False, slots=True)
class Request:
    """One call of ``generate``.

    Attributes:
        prompt: Token ids.
        sampling: As asked.
        limit: Most tokens to sample, cut to the context.
        key: Random stream.
        stop_ids: Tokens that end the completion.
        stops: Stop strings, if any.
        future: Takes the completion.
    """

    prompt: tuple[int, ...]
    sampling: Sampling
    limit: int
    key: int
    stop_ids: tuple[int, ...]
    stops: StopStrings | None
    future: Future[Completion]

    @property
    def longest(self) -> int:
        """Tokens that the prompt and the longest completion take."""
        return len(self.prompt) + self.limit


class Rows:
    """What is known of each row; rows 0..n-1 are in use, in the order of the cache's slots."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._fields = np.zeros(0, dtype=_FIELDS)
        self._tokens = np.zeros((0, 0), dtype=np.int64)
        self._logprobs = np.zeros((0, 0), dtype=np.float32)
        self._stop_ids = np.zeros((0, 0), dtype=np.int64)

    def __len__(self) -> int:
        return len(self.requests)

    def __getitem__(self, field: str) -> NDArray[Any]:
        """One field of all rows in use, as a view."""
        return self._fields[field][: len(self.requests)]

    def add(self, request: Request) -> None:
        """Append a row whose prompt, all but the last token, is in the cache."""
        row = len(self.requests)
        self.requests.append(request)
        width = max(self._stop_ids.shape[1], len(request.stop_ids))
        if row >= len(self._fields) or width > self._stop_ids.shape[1]:
            self._grow(max(row + 1, 2 * len(self._fields)), width)
        sampling = request.sampling
        greedy = sampling.temperature == 0
        self._fields[row] = (
            request.key,
            len(request.prompt) - 1,
            request.prompt[-1],
            0,
            request.limit,
            sampling.min_tokens,
            0 if greedy else sampling.top_k,
            1.0 if greedy else sampling.top_p,
            0.0 if greedy else sampling.min_p,
            sampling.temperature,
        )
        self._stop_ids[row] = -1
        self._stop_ids[row, : len(request.stop_ids)] = request.stop_ids

    def banned(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows and tokens, pairwise, that may not be sampled yet (``min_tokens``)."""
        held = np.flatnonzero(self["count"] < self["min_tokens"])
        at, column = np.nonzero(self._stop_ids[held] >= 0)
        return held[at], self._stop_ids[held[at], column]

    def record(self, tokens: NDArray[np.int64], logprobs: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Append one sampled token to every row; True where it ended the completion by a stop."""
        n = len(self.requests)
        if self["count"].max() >= self._tokens.shape[1]:
            self._grow(len(self._fields), self._stop_ids.shape[1], 2 * self._tokens.shape[1] + 32)
        index, count = np.arange(n), self["count"]
        self._tokens[index, count] = tokens
        self._logprobs[index, count] = logprobs
        self["last"][:] = tokens
        count += 1
        self["length"][:] += 1
        stopped: NDArray[np.bool_] = (tokens[:, None] == self._stop_ids[:n]).any(1)
        for row, request in enumerate(self.requests):
            if request.stops is not None and count[row] >= request.sampling.min_tokens:
                stopped[row] |= request.stops.completed(self._tokens[row, : count[row]])
        return stopped

    def completion(self, row: int, reason: FinishReason, version: int) -> Completion:
        """What a row has sampled so far."""
        count = self["count"][row]
        return Completion(
            tuple(self._tokens[row, :count].tolist()),
            tuple(self._logprobs[row, :count].tolist()),
            reason,
            version,
        )

    def remove(self, gone: list[int]) -> tuple[list[int], list[int]]:
        """Take rows out and move the last ones into the holes; returns the moves (from, to)."""
        leave = set(gone)
        left = len(self.requests) - len(leave)
        holes = sorted(row for row in leave if row < left)
        movers = [row for row in range(left, len(self.requests)) if row not in leave]
        for array in (self._fields, self._tokens, self._logprobs, self._stop_ids):
            array[holes] = array[movers]
        for hole, mover in zip(holes, movers, strict=True):
            self.requests[hole] = self.requests[mover]
        del self.requests[left:]
        return movers, holes

    def _grow(self, rows: int, n_stops: int, tokens: int = 0) -> None:
        tokens = max(tokens, self._tokens.shape[1])
        self._fields = _enlarged(self._fields, (rows,))
        self._tokens = _enlarged(self._tokens, (rows, tokens))
        self._logprobs = _enlarged(self._logprobs, (rows, tokens))
        self._stop_ids = _enlarged(self._stop_ids, (rows, n_stops), -1)


def _enlarged(old: NDArray[Any], shape: tuple[int, ...], fill: int = 0) -> NDArray[Any]:
    new = np.full(shape, fill, dtype=old.dtype) if fill else np.zeros(shape, dtype=old.dtype)
    new[tuple(slice(size) for size in old.shape)] = old
    return new
