"""Reading JSON that a model wrote: what is wrong with it is said in words that it can use."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rl_envs.tools.formats.base import NotationError, ParsedCall, json_type
from rl_verifiers.extract import MAX_JSON_NESTING
from rl_verifiers.shown import shown

_SPACE = " \t\r\n"


def read_value(text: str, start: int = 0) -> tuple[Any, int]:
    """The JSON value at a place of a text, after white space, and where it ends.

    Raises:
        NotationError: There is none, a key occurs twice, a number is no JSON, or it nests too deep.
    """
    try:
        value, end = _DECODER.raw_decode(text, skip(text, start))
    except NotationError:
        raise
    except json.JSONDecodeError as error:
        reason = error.msg[:1].lower() + error.msg[1:]
        raise NotationError(f"not valid JSON ({reason} at character {error.pos - start})") from None
    except ValueError:
        raise NotationError("a number with too many digits") from None
    except RecursionError:
        raise NotationError("JSON nested too deeply") from None
    check_value(value)
    return value, end


def skip(text: str, position: int, more: str = "") -> int:
    """Where the white space at a place ends."""
    space = _SPACE + more
    while position < len(text) and text[position] in space:
        position += 1
    return position


def check_value(value: Any) -> None:
    """Refuses what is no JSON that can be sent on.

    Raises:
        NotationError: It nests too deeply, has a number that is not finite, or broken characters.
    """
    waiting = [(value, 1)]
    while waiting:
        part, depth = waiting.pop()
        if depth > MAX_JSON_NESTING:
            raise NotationError("values nested too deeply")
        if isinstance(part, float) and not math.isfinite(part):
            raise NotationError(f"{part} is no JSON number")
        if isinstance(part, str):
            _check_text(part)
        elif isinstance(part, Mapping):
            for key, inner in part.items():
                if not isinstance(key, str):
                    raise NotationError(f"the keys of an object are text, not {shown(key, 40)}")
                _check_text(key)
                waiting.append((inner, depth + 1))
        elif isinstance(part, list | tuple):
            waiting += [(inner, depth + 1) for inner in part]


def call_of(value: Any, *, needs_arguments: bool = False) -> ParsedCall:
    """The call that ``{"name": ..., "arguments": {...}}`` states; ``parameters`` will do.

    Raises:
        NotationError: It states none.
    """
    if not isinstance(value, Mapping):
        raise NotationError(f"a call is a JSON object, not {shown(value, 40)}")
    name = value.get("name")
    if not isinstance(name, str) or not name:
        raise NotationError('the call has no "name"')
    given = [key for key in ("arguments", "parameters") if key in value]
    if len(given) == 2:
        raise NotationError('the call has both "arguments" and "parameters"')
    if not given and needs_arguments:
        raise NotationError("the call has no arguments")
    stated = value[given[0]] if given else None
    identity = value.get("id")
    return ParsedCall(name, arguments_of(stated), identity if isinstance(identity, str) else None)


def arguments_of(stated: Any) -> dict[str, Any]:
    """Arguments as an object; none where nothing is stated.

    Raises:
        NotationError: They are something else.
    """
    if stated is None:
        return {}
    if not isinstance(stated, dict):
        raise NotationError(
            f"the arguments are to be a JSON object, not {json_type(stated)} {shown(stated, 40)}"
        )
    return stated


def values_of(text: str, start: int, separators: str = ",;") -> Iterator[Any]:
    """The JSON values that make up the rest of a text.

    Raises:
        NotationError: There is something else.
    """
    position = skip(text, start, separators)
    while position < len(text):
        value, position = read_value(text, position)
        yield value
        position = skip(text, position, separators)


def listed(values: Iterator[Any]) -> Iterator[Any]:
    """The values, those of a list one by one."""
    for value in values:
        yield from value if isinstance(value, list) else (value,)


def dumped(value: Any, marks: Sequence[str] = ()) -> str:
    """A value as JSON in which no mark of a notation, of thinking or of a template occurs.

    Where one would, each ``<`` is written as an escape.

    Raises:
        ValueError: It is no JSON value.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if "<" not in text:
        return text
    lowered = text.lower()
    found = any(mark in lowered for mark in (*marks, *_MARKS))
    return text.replace("<", "\\u003c") if found else text


_MARKS = ("think>", "thinking>", "thought>", "reasoning>", "<|", "</s>")


def _check_text(text: str) -> None:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise NotationError("half of a surrogate pair is no character") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: Counter[str] = Counter(key for key, _ in pairs)
        twice = seen.most_common(1)[0][0]
        raise NotationError(f"the key {twice[:40]!r} is given twice")
    return found


def _refuse(name: str) -> float:
    raise NotationError(f"{name} is no JSON number")


_DECODER = json.JSONDecoder(parse_constant=_refuse, object_pairs_hook=_unique)
