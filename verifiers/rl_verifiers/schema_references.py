"""The references of a JSON Schema: none may lead outside it or unfold without bound."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

MAX_UNFOLDED = 100_000
"""Schemas that may come to bear on one value, references unfolded."""
_DATA = ("enum", "const", "default", "examples")
_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_SAME_VALUE = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "extends")
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")


class SchemaProblemError(ValueError):
    """The schema itself cannot be used; the message says why."""


def printable(text: str) -> str:
    """The text on one line, lone surrogates escaped."""
    return " ".join(text.encode("utf-8", "backslashreplace").decode().split())


def objects(value: Any, *, data: bool = True) -> Iterator[Mapping[str, Any]]:
    """Every object of a schema, outermost first; without ``data``, those that may be schemas."""
    waiting = [(value, False)]
    while waiting:
        part, is_named = waiting.pop()
        if isinstance(part, dict):
            yield part
            waiting += [
                (item, key in _NAMED and not is_named)
                for key, item in part.items()
                if data or is_named or key not in _DATA
            ]
        elif isinstance(part, list):
            waiting += [(item, False) for item in part]


def check_references(validator: Any) -> None:
    """Refuse references that lead outside, as far as one can tell without data, or unfold too far.

    A schema with ``$id`` is left to the validator: what a reference means depends on where it
    stands, and is found on use.

    Raises:
        SchemaProblemError: There is such a reference.
    """
    from referencing.exceptions import Unresolvable  # noqa: PLC0415 - imported when first needed
    from referencing.jsonschema import DRAFT202012  # noqa: PLC0415

    schemas = list(objects(validator.schema, data=False))
    if any(isinstance(node.get("$id"), str) for node in schemas):
        return
    registry = validator._registry.with_resource("", DRAFT202012.create_resource(validator.schema))
    targets: dict[str, Any] = {}
    for node in schemas:
        for key in _REFERENCES:
            reference = node.get(key)
            if not isinstance(reference, str) or reference in targets:
                continue
            try:
                targets[reference] = registry.resolver("").lookup(reference).contents
            except Unresolvable:
                if key == "$ref":
                    raise SchemaProblemError(
                        printable(f"reference {reference!r:.80} leads nowhere in the schema")
                    ) from None
    _check_unfolded(validator.schema, targets)


def _check_unfolded(schema: Any, targets: Mapping[str, Any]) -> None:
    """Count the schemas that bear on one value, each object's sum being computed once."""
    counts: dict[int, int] = {}
    for root in (schema, *targets.values(), *objects(schema, data=False)):
        waiting = [(root, False)]
        while waiting:
            node, is_ready = waiting.pop()
            if not isinstance(node, dict) or (id(node) in counts and not is_ready):
                continue
            parts = _on_same_value(node, targets)
            if not is_ready:
                counts[id(node)] = 1  # until its parts are counted; one inside itself counts so
                waiting += [(node, True), *((part, False) for part in parts)]
                continue
            counts[id(node)] = 1 + sum(counts.get(id(part), 1) for part in parts)
            if counts[id(node)] > MAX_UNFOLDED:
                raise SchemaProblemError(
                    f"its references unfold to over {MAX_UNFOLDED:,} schemas for one value"
                )


def _on_same_value(node: Mapping[str, Any], targets: Mapping[str, Any]) -> list[Any]:
    parts: list[Any] = []
    for key in _SAME_VALUE:
        stated = node.get(key)
        parts += stated if isinstance(stated, list) else [stated]
    for key in ("dependentSchemas", "dependencies"):
        if isinstance(node.get(key), dict):
            parts += node[key].values()
    names = [node[key] for key in _REFERENCES if isinstance(node.get(key), str)]
    return [part for part in parts if isinstance(part, dict)] + [
        targets[name] for name in names if name in targets
    ]


def equals_schema(document: str, schema: str) -> bool:
    """Whether a document repeats its schema, both as canonical JSON; ``{}`` and ``true`` do not."""
    return document == schema and isinstance(json.loads(schema), dict) and len(schema) > 2
