"""A batch that requests enter and leave: prompts into the cache, then a token per row per step."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from agent_rl.engines.base import Completion
from agent_rl.engines.cache import SlotCache
from agent_rl.engines.rows import Request, Rows
from agent_rl.engines.sampling import draw, uniforms
from agent_rl.errors import UserError

_ATTENTION = ("eager", "sdpa")
_NONE = torch.empty(0, dtype=torch.long)


class Decoder:
    """Rows, their cache and the model that extends them. Knows nothing of time or event loops.

    The last token of a prompt is read by the first decoding step, which samples the first token;
    prefilling covers the tokens before it. So all sampling happens in one place.

    Args:
        model: A transformers causal language model.
        windows: From ``attention_windows``.
        prefill_tokens: Most positions, padding included, of one prefilling forward pass.
    """

    def __init__(
        self, model: nn.Module, windows: Mapping[str, int | None], prefill_tokens: int
    ) -> None:
        self._model = model
        self._prefill_tokens = prefill_tokens
        self._windows = windows
        self._cache = SlotCache()
        self.rows = Rows()

    def admit(self, requests: Sequence[Request]) -> None:
        """Start requests. A prompt that several share, or that a running row has, is read once."""
        running = {request.prompt: row for row, request in enumerate(self.rows.requests)}
        first = len(self.rows)
        fresh: dict[tuple[int, ...], Request] = {}
        for request in requests:
            if request.prompt not in running:
                fresh.setdefault(request.prompt, request)
        leaders = sorted(fresh.values(), key=lambda r: -len(r.prompt))
        followers = [r for r in requests if fresh.get(r.prompt) is not r]
        for request in (*leaders, *followers):
            self.rows.add(request)
        self._cache.reserve(len(self.rows), max(len(r.prompt) for r in self.rows.requests))
        self._prefill(first, [r.prompt[:-1] for r in leaders])
        running |= {request.prompt: first + n for n, request in enumerate(leaders)}
        targets = range(first + len(leaders), len(self.rows))
        pairs = sorted(
            zip((len(r.prompt) - 1 for r in followers), followers, targets, strict=True),
            key=lambda pair: pair[0],
        )
        for length, group in groupby(pairs, key=lambda pair: pair[0]):
            copies = [(running[request.prompt], target) for _, request, target in group]
            self._cache.copy([c[0] for c in copies], [c[1] for c in copies], length)

    def step(self, version: int) -> list[tuple[Request, Completion]]:
        """Sample one token for every row; return the requests that it finished.

        Raises:
            FloatingPointError: When the model's logits are NaN or infinite.
        """
        tokens, logprobs = self._sample(self._decode())
        if not np.isfinite(logprobs).all():
            raise FloatingPointError(
                "the model's logits are not finite: its weights have diverged, or overflow "
                f"{next(self._model.parameters()).dtype}"
            )
        stopped = self.rows.record(tokens, logprobs)
        done = np.flatnonzero(stopped | (self.rows["count"] >= self.rows["limit"])).tolist()
        finished = [
            (
                self.rows.requests[row],
                self.rows.completion(row, "stop" if stopped[row] else "length", version),
            )
            for row in done
        ]
        self._remove(done)
        return finished

    def discard(self, requests: Collection[Request]) -> None:
        """Take requests out whose caller has gone."""
        self._remove([row for row, r in enumerate(self.rows.requests) if r in requests])

    def clear(self) -> None:
        """Forget every row and release the cache."""
        self.rows = Rows()
        self._cache.release()

    def _remove(self, rows: list[int]) -> None:
        if rows:
            movers, holes = self.rows.remove(rows)
            longest = int(self.rows["length"].max()) if len(self.rows) else 0
            self._cache.copy(movers, holes, longest)

    def _prefill(self, first: int, prompts: list[tuple[int, ...]]) -> None:
        """Read prompts, longest first, into the slots from ``first`` on, in batches and chunks."""
        prompts = [prompt for prompt in prompts if prompt]
        while prompts:
            width = len(prompts[0])
            size = max(1, self._prefill_tokens // width)
            batch, prompts = prompts[:size], prompts[size:]
            ids = np.zeros((len(batch), width), dtype=np.int64)
            for row, prompt in enumerate(batch):
                ids[row, : len(prompt)] = prompt
            for start in range(0, width, self._prefill_tokens):
                chunk = ids[:, start : start + self._prefill_tokens]
                positions = np.arange(start, start + chunk.shape[1])
                self._cache.window.first, self._cache.window.start = first, start
                positions_of = np.broadcast_to(positions, chunk.shape)
                self._forward(chunk, positions_of, positions[None], keep=_NONE)
            first += len(batch)

    def _decode(self) -> Tensor:
        """Read every row's last token; its logits [rows, vocabulary] in float32."""
        length = self.rows["length"][:, None]
        self._cache.reserve(len(self.rows), int(length.max()) + 1)
        self._cache.window.first = 0
        self._cache.window.start = self._on_device(length[:, 0])
        logits: Tensor = self._forward(self.rows["last"][:, None], length, length)
        return logits[:, -1].float()

    def _forward(
        self,
        ids: NDArray[np.int64],
        positions: NDArray[np.int64],
        queries: NDArray[np.int64],
        *,
        keep: int | Tensor = 1,
    ) -> Tensor:
        """One pass over [rows, tokens].

        Args:
            ids: [rows, tokens].
            positions: [rows, tokens].
            queries: [rows or 1, tokens], positions to mask for.
            keep: Which positions get logits: the last one, or none while prefilling (the output
                layer of a large vocabulary would cost more than the prompt).
        """
        self._cache.window.width = int(queries.max()) + 1
        query = self._on_device(queries)
        masks = {kind: self._mask(query, window) for kind, window in self._windows.items()}
        logits: Tensor = self._model(
            input_ids=self._on_device(ids),
            position_ids=self._on_device(positions),
            attention_mask=masks if len(masks) > 1 else next(iter(masks.values())),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=keep,
        ).logits
        return logits

    def _mask(self, query: Tensor, window: int | None) -> Tensor:
        """[rows or 1, 1, tokens, width], 0 where a query may look and -inf elsewhere."""
        key = torch.arange(self._cache.window.width, device=query.device)
        hidden = key > query[..., None]
        if window is not None:
            hidden |= key <= query[..., None] - window
        blank = torch.zeros(hidden.shape, dtype=self._dtype, device=query.device)
        return blank.masked_fill_(hidden, -torch.inf)[:, None]

    def _sample(self, logits: Tensor) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        rows = self.rows
        if (rows["count"] < rows["min_tokens"]).any():
            at, tokens = rows.banned()
            logits[self._on_device(at), self._on_device(tokens)] = -torch.inf
        ids, logprobs = draw(
            logits,
            self._on_device(uniforms(rows["key"], rows["count"])),
            temperature=self._on_device(rows["temperature"].astype(np.float32)),
            top_k=self._on_device(rows["top_k"]),
            top_p=self._on_device(rows["top_p"].astype(np.float32)),
            min_p=self._on_device(rows["min_p"].astype(np.float32)),
        )
        return ids.cpu().numpy(), logprobs.cpu().numpy()

    @property
    def _dtype(self) -> torch.dtype:
        return next(self._model.parameters()).dtype

    def _on_device(self, array: NDArray[Any]) -> Tensor:
        device = next(self._model.parameters()).device
        return torch.from_numpy(np.array(array, order="C")).to(device)


def attention_windows(model: nn.Module) -> dict[str, int | None]:
    """The kinds of attention layer a model has, each with its sliding window (None: no window).

    Raises:
        UserError: For layers, or an attention implementation, that the slot cache cannot serve.
    """
    whole: Any = model.config
    config = whole.get_text_config()
    used = config._attn_implementation
    if used not in _ATTENTION:
        raise UserError(
            f"attention {used!r} cannot read the engine's masks; use one of {_ATTENTION}"
        )
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None) or [
        "sliding_attention" if window else "full_attention"
    ]
    known = {"full_attention": None, "sliding_attention": window}
    strange = sorted(set(kinds) - set(known))
    if strange:
        raise UserError(
            f"{type(model).__name__} has {', '.join(strange)} layers, which the torch engine does "
            "not serve; use vLLM"
        )
    return {kind: known[kind] for kind in sorted(set(kinds))}
