"""Log-likelihoods under the reference, computed once for a whole data set and kept in a file."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from agent_rl.direct.examples import Example
from agent_rl.direct.objective import chunks, likelihoods
from agent_rl.policy import Policy
from agent_rl.runs import Console
from agent_rl.runs.files import to_json, write_atomically
from agent_rl.trajectory import Segment

FILE = "reference_logprobs.json"


def with_references(
    policy: Policy, examples: Sequence[Example], file: Path, micro_tokens: int, show: Console
) -> list[Example]:
    """The examples with their likelihoods under ``policy`` as it is now: call it before training.

    They are read from ``file`` where that was made by the same weights from the same tokens, and
    computed and written (whole or not at all) where there is none, or it is damaged or another's.
    """
    key = _key(policy, examples)
    kept = _kept(file, key, examples)
    if kept is None:
        kept = _computed(policy, examples, micro_tokens, show)
        write_atomically(file, to_json({"key": key, "logprobs": kept}) + "\n")
    return [replace(e, reference=tuple(its)) for e, its in zip(examples, kept, strict=True)]


@torch.no_grad()
def _computed(
    policy: Policy, examples: Sequence[Example], micro_tokens: int, show: Console
) -> list[list[float]]:
    made: list[list[float]] = [[] for _ in examples]
    parts = list(chunks(examples, micro_tokens))
    show.note(f"likelihoods of {len(examples)} examples under the reference, computed once")
    show.start(len(parts))
    for number, part in enumerate(parts, start=1):
        for name in ("segments", "others"):  # the very passes that the loss makes later
            flat = [s for i in part for s in getattr(examples[i], name)]
            sums = iter(likelihoods(policy, flat, micro_tokens).tolist() if flat else [])
            for i in part:
                made[i] += [next(sums) for _ in getattr(examples[i], name)]
        show.step(number, {})
    show.stop()
    return made


def _kept(file: Path, key: str, examples: Sequence[Example]) -> list[list[float]] | None:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        kept, its_key = content["logprobs"], content["key"]
        counts = [len(values) for values in kept]
        finite = all(math.isfinite(value) for values in kept for value in values)
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    wanted = [len(e.segments) + len(e.others) for e in examples]
    return kept if its_key == key and counts == wanted and finite else None


def _key(policy: Policy, examples: Sequence[Example]) -> str:
    """Names the weights, their precision, the model's settings and the tokens."""
    digest = hashlib.blake2b(digest_size=16)
    settings: Any = policy.model.config
    about = f"{policy.compute} {policy.temperature} {settings.to_json_string()}"
    digest.update(about.encode())
    for name, tensor in sorted(policy.model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    for segment in _segments(examples):
        digest.update(repr((segment.ids, segment.sampled)).encode())
    return digest.hexdigest()


def _segments(examples: Sequence[Example]) -> Iterable[Segment]:
    for example in examples:
        yield from example.segments
        yield from example.others
