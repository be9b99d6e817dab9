"""Find a JSON, YAML, TOML or CSV document in a completion and read it, with the work bounded.

What comes out is plain JSON data, whatever the form: objects with text as keys, arrays, text,
numbers, booleans and null. Dates become text as ISO 8601 writes them.
"""

from __future__ import annotations

import csv
import datetime
import io
import json
import math
import re
from collections.abc import Mapping
from typing import Any, Literal, NoReturn

from rl_verifiers import extract
from rl_verifiers.score import Status

Form = Literal["json", "yaml", "toml", "csv"]
FORMS: dict[str, tuple[str, ...]] = {
    "json": ("json",),
    "yaml": ("yaml", "yml"),
    "toml": ("toml",),
    "csv": ("csv",),
}
"""The forms, each with the info strings of its Markdown fences."""

MAX_SLOW_CHARACTERS = 50_000
"""Longer YAML and TOML is not read: their readers are slow, and TOML's not linear."""
_DOTTED = re.compile(r"(?<![\w.'\"-])(?:[\w'\"-]{1,200}[ \t]{0,9}\.[ \t]{0,9}){101}")
_TYPED = ("integer", "number", "boolean", "null")


class DocumentError(ValueError):
    """There is no such document; ``status`` is that of the score."""

    def __init__(self, message: str, status: Status) -> None:
        super().__init__(message)
        self.status = status


def source_of(completion: str, form: Form, *, strict: bool) -> str:
    """The text that should be the document.

    Strict, the whole completion. Otherwise thinking is left out, and the last fence of the form,
    else the last fence, else all the text is taken; for JSON the text itself, in which
    :func:`document` finds the last value.

    Raises:
        DocumentError: Nothing is left.
    """
    text = completion if strict else extract.without_thinking(completion)
    if text is not None and not strict and form != "json":
        fences = (extract.code_fence(text, name) for name in (*FORMS[form], None))
        text = next((fence for fence in fences if fence is not None), text)
    if text is None or not text.strip():
        raise DocumentError(f"no {form.upper()} found", "no_answer")
    return text


def document(text: str, form: Form, *, strict: bool = False, types: Mapping[str, str] = {}) -> Any:
    """The document in ``text``.

    Args:
        text: What :func:`source_of` found.
        form: How it is written.
        strict: For JSON: the whole text is the value, and no key occurs twice in an object.
        types: For CSV: the JSON types of columns that are not text.

    Raises:
        DocumentError: There is none, it is malformed, or it is too long or nests too deeply.
    """
    if form in ("yaml", "toml") and len(text) > MAX_SLOW_CHARACTERS:
        raise DocumentError(f"over {MAX_SLOW_CHARACTERS:,} characters of {form}", "over_limit")
    if form == "json":
        return _strict_json(text) if strict else _last_json(text)
    try:
        if form == "csv":
            return _csv(text, types)
        if all(not line.strip() or line.lstrip()[0] == "#" for line in text.splitlines()):
            raise DocumentError(f"no {form.upper()} found", "no_answer")
        return _plain((_yaml if form == "yaml" else _toml)(text), 0)
    except (RecursionError, MemoryError):
        raise DocumentError("nested too deeply", "over_limit") from None
    except DocumentError:
        raise
    except Exception as error:  # PyYAML's constructors leak KeyError, TypeError and their like
        line = " ".join(str(error).split()).encode("ascii", "backslashreplace").decode()
        raise DocumentError(f"malformed {form.upper()}: {line:.160}", "unparsable") from None


def _last_json(text: str) -> Any:
    try:
        return extract.json_value(text)
    except ValueError as error:
        raise DocumentError(str(error), "no_answer") from None


def _strict_json(text: str) -> Any:
    if _nesting(text) > extract.MAX_JSON_NESTING:
        raise DocumentError("nested too deeply", "over_limit")
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"not JSON as a whole: {error!s:.120}", "unparsable") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key occurs twice in one object")
    return found


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _nesting(text: str) -> int:
    depth = deepest = 0
    for mark in re.findall(r"[\[{]|[\]}]", text):
        depth += 1 if mark in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _yaml(text: str) -> Any:
    import yaml  # noqa: PLC0415 - only this form needs it

    class Loader(yaml.SafeLoader):
        """Refuses aliases, by which a short text stands for a huge one, and deep nesting."""

        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise DocumentError("YAML aliases are not read", "over_limit")
            self.depth += 1
            if self.depth > extract.MAX_JSON_NESTING:
                raise DocumentError("nested too deeply", "over_limit")
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

    return yaml.load(text, Loader)


def _toml(text: str) -> Any:
    import tomllib  # noqa: PLC0415 - only this form needs it

    if _DOTTED.search(text):  # its reader takes time quadratic in the parts of a key
        raise DocumentError("a key of over 100 parts", "over_limit")
    return tomllib.loads(text)


def _csv(text: str, types: Mapping[str, str]) -> list[dict[str, Any]]:
    lines = [line for line in csv.reader(io.StringIO(text.strip("\r\n")), strict=True) if line]
    header, *rows = lines or [[]]
    header = [name.strip() for name in header]
    if not header or len(set(header)) < len(header):
        raise ValueError("the first line does not name every column once")
    if not rows:  # one word of prose is a header, too
        raise DocumentError("a CSV without a row", "wrong")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise ValueError(f"line {number} has {len(row)} cells, the header {len(header)}")
    return [
        {name: _cell(cell, types.get(name)) for name, cell in zip(header, row, strict=True)}
        for row in rows
    ]


def _cell(cell: str, kind: str | None) -> Any:
    """A cell as its column's type; as text where it is no such value."""
    if kind not in _TYPED:
        return cell
    try:
        return json.loads(cell.strip() or "null", parse_constant=_refuse)
    except (ValueError, RecursionError):
        return cell


def _plain(value: Any, depth: int) -> Any:
    """What YAML and TOML know beyond JSON, in terms of JSON."""
    if depth > extract.MAX_JSON_NESTING:
        raise DocumentError("nested too deeply", "over_limit")
    if isinstance(value, dict):
        return {_key(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is not JSON")
    if value is None or isinstance(value, str | int | float):
        return value
    raise ValueError(f"a {type(value).__name__} is not JSON")


def _key(key: Any) -> str:
    return key if isinstance(key, str) else str(_plain(key, 0))
