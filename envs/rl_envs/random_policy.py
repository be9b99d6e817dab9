"""A policy that knows nothing of the task: what a reward must not pay for."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rl_envs.core import TextEnv
from rl_verifiers.conformance import HOSTILE

MOST_VISIBLE = 2000  # characters of the newest message that words are taken from
MOST_WORDS = 12
DEPTH = 3  # of nested arguments
_LONGEST_HOSTILE = 20_000  # characters; the longest ones are for validation, not for every turn
_WORDS = (
    "the a of yes no and not is sure done okay hello sorry please confirm cannot order answer "
    "result true false none help left right up down 0 1 2 3 4 5 7 10 12 42 100 1000"
)
WORDS: Sequence[str] = tuple(_WORDS.split(" "))
FRAMES: Sequence[str] = (
    "{}",
    "{}",
    "{}.",
    "{}?",
    "\\boxed{{{}}}",
    "<answer>{}</answer>",
    "The answer is {}.",
    "#### {}",
    "```python\n{}\n```",
)


def random_policy(env: TextEnv, rng: np.random.Generator, *, calls: bool = True) -> str:
    r"""The next action of a policy that acts at random.

    It writes random words, some of them from the newest message, in a random frame such as
    ``\boxed{}``; now and then hostile text; and, in an environment with tools, every other time a
    well-formed call of a random tool, its arguments drawn from the tool's schema.

    Args:
        env: In a running episode.
        rng: Where everything is drawn from.
        calls: Whether it calls tools.
    """
    roll = rng.random()
    tools = getattr(env, "tools", None) if calls else None
    if isinstance(tools, Mapping) and tools and roll < 0.5:
        names = list(tools)
        tool = tools[names[int(rng.integers(len(names)))]]
        visible = _visible(env)
        arguments = _drawn(tool.schema, tool.schema, visible, rng, 0)
        return str(env.call_text(tool.name, **arguments))  # type: ignore[attr-defined]
    if roll > 0.95:
        return _one(_SHORT_HOSTILE, rng)
    return random_text(env, rng)


def random_text(env: TextEnv, rng: np.random.Generator) -> str:
    """Random words, half of them from the newest message, in a random frame."""
    visible = _visible(env)
    count = 1 if rng.random() < 0.5 else int(rng.integers(1, MOST_WORDS + 1))
    return _one(FRAMES, rng).format(" ".join(_word(visible, rng) for _ in range(count)))


_SHORT_HOSTILE = tuple(text for _, text in HOSTILE if len(text) <= _LONGEST_HOSTILE)


def _one(choices: Sequence[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]


def _visible(env: TextEnv) -> Sequence[str]:
    """The words of the newest message, without the marks around them."""
    newest = env.messages[-1]["content"] if env.messages else ""
    marks = string.punctuation.replace("_", "").replace("-", "")
    words = (word.strip(marks) for word in (newest or "")[-MOST_VISIBLE:].split())
    return [word for word in words if word] or WORDS


def _word(visible: Sequence[str], rng: np.random.Generator) -> str:
    return _one(visible if rng.random() < 0.5 else WORDS, rng)


def _drawn(
    schema: Mapping[str, Any],
    root: Mapping[str, Any],
    visible: Sequence[str],
    rng: np.random.Generator,
    depth: int,
) -> Any:
    """A value that fits a JSON schema, as far as its types go."""
    schema = _resolved(schema, root)
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return values[int(rng.integers(len(values)))]
    for several in ("anyOf", "oneOf", "allOf"):
        if schema.get(several):
            chosen = schema[several][int(rng.integers(len(schema[several])))]
            return _drawn(chosen, root, visible, rng, depth)
    kind = schema.get("type", "string")
    kind = kind[int(rng.integers(len(kind)))] if isinstance(kind, list) else kind
    if kind == "object":
        return _object(schema, root, visible, rng, depth)
    if kind == "array":
        low = int(schema.get("minItems", 0))
        count = max(low, 0 if depth >= DEPTH else int(rng.integers(4)))
        items = schema.get("items", {})
        return [_drawn(items, root, visible, rng, depth + 1) for _ in range(min(count, 8))]
    return _scalar(kind, schema, visible, rng)


def _object(
    schema: Mapping[str, Any],
    root: Mapping[str, Any],
    visible: Sequence[str],
    rng: np.random.Generator,
    depth: int,
) -> dict[str, Any]:
    """Every property that is needed, and half of the others."""
    needed = schema.get("required", ())
    return {
        name: _drawn(part, root, visible, rng, depth + 1)
        for name, part in schema.get("properties", {}).items()
        if name in needed or (depth < DEPTH and rng.random() < 0.5)
    }


def _scalar(
    kind: str, schema: Mapping[str, Any], visible: Sequence[str], rng: np.random.Generator
) -> Any:
    if kind == "boolean":
        return bool(rng.random() < 0.5)
    if kind == "null":
        return None
    if kind in ("integer", "number"):
        low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
        high = schema.get("maximum", schema.get("exclusiveMaximum", low + 100))
        drawn = low + (high - low) * rng.random()
        return round(drawn) if kind == "integer" else drawn
    count = int(rng.integers(1, 4))
    return " ".join(_word(visible, rng) for _ in range(count))


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema that a local reference stands for."""
    for _ in range(DEPTH):
        place = schema.get("$ref")
        if not isinstance(place, str):
            break
        found: Any = root
        for part in place.removeprefix("#/").split("/"):
            found = found.get(part, {}) if isinstance(found, Mapping) else {}
        schema = found if isinstance(found, Mapping) else {}
    return schema
