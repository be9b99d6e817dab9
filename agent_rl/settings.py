"""Plain values (from YAML) to frozen configuration classes, by their type hints.

Nothing is guessed: a word where a number belongs, a missing or an unknown key is refused, with the
dotted name of the setting.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from agent_rl.errors import UserError

T = TypeVar("T")


class SettingError(UserError):
    """A setting that cannot be; the message starts with its dotted name."""


def construct(kind: type[T], given: Any, place: str = "") -> T:
    """An object of a configuration class.

    Args:
        kind: A dataclass; its fields may be dataclasses, unions, literals, tuples, lists, mappings
            and the plain types.
        given: A mapping of settings.
        place: The dotted name of ``given``.

    Raises:
        SettingError: A key that is unknown or missing, a value of the wrong type, or values that
            the class refuses (any ValueError).
    """
    if not isinstance(given, Mapping):
        raise _wrong(place, given, "a mapping of settings")
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in given:
        if key not in fields:
            raise SettingError(f"unknown setting {_dotted(place, key)}; {suggestion(key, fields)}")
    for field in fields.values():
        if field.name not in given and not _has_default(field):
            raise SettingError(f"{_dotted(place, field.name)} is missing; it must be given")
    hints = get_type_hints(kind)
    values = {key: _value(hints[key], value, _dotted(place, key)) for key, value in given.items()}
    try:
        return kind(**values)
    except ValueError as error:
        raise SettingError(f"{place}: {error}" if place else str(error)) from error


def suggestion(word: object, known: Iterable[str]) -> str:
    """``did you mean this?``, or everything that is known."""
    names = list(known)
    close = difflib.get_close_matches(str(word), names, n=1)
    return f"did you mean {close[0]}?" if close else f"there is {', '.join(names)}"


def describe(hint: Any) -> str:
    """A type as a person says it: ``a whole number``, ``one of zero, score, mask``, ..."""
    if dataclasses.is_dataclass(hint):
        return "a mapping of settings"
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin in (Union, types.UnionType):
        return " or ".join(describe(argument) for argument in arguments)
    if origin is tuple and arguments[-1] is not ...:
        return f"a list of {len(arguments)} values"
    if origin in (tuple, list):
        return "a list"
    return _WORDS.get(origin or hint, "any value")


_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    dict: "a mapping",
    type(None): "null",
}


def _value(hint: Any, given: Any, place: str) -> Any:
    if hint is Any:
        return given
    if dataclasses.is_dataclass(hint):
        return construct(hint, given, place)  # type: ignore[arg-type]
    origin = get_origin(hint)
    reader = _READERS.get(origin)
    if reader is not None:
        return reader(hint, given, place)
    return _plain(hint, given, place)


def _plain(hint: Any, given: Any, place: str) -> Any:
    if hint is type(None) and given is None:
        return None
    number = isinstance(given, int | float) and not isinstance(given, bool)
    if hint is float and number and not math.isnan(given):
        return float(given)
    if hint is int and number and math.isfinite(given) and given == int(given):  # 1e3 is 1000
        return int(given)
    if hint in (str, bool) and type(given) is hint:
        return given
    raise _wrong(place, given, describe(hint))


def _union(hint: Any, given: Any, place: str) -> Any:
    if given is None and type(None) in get_args(hint):
        return None
    kinds = [kind for kind in get_args(hint) if kind is not type(None)]
    if len(kinds) == 1:
        return _value(kinds[0], given, place)
    for kind in kinds:
        try:
            return _value(kind, given, place)
        except SettingError:
            continue
    raise _wrong(place, given, describe(hint))


def _literal(hint: Any, given: Any, place: str) -> Any:
    if isinstance(given, str) and given in get_args(hint):
        return given
    raise _wrong(place, given, describe(hint))


def _sequence(hint: Any, given: Any, place: str) -> Any:
    if not isinstance(given, list | tuple):
        raise _wrong(place, given, f"{describe(hint)}, as in [a, b]")
    arguments = get_args(hint)
    if get_origin(hint) is list or arguments[-1] is ...:
        arguments = (arguments[0],) * len(given)
    if len(arguments) != len(given):
        raise _wrong(place, given, describe(hint))
    pairs = enumerate(zip(arguments, given, strict=True))
    return get_origin(hint)(_value(kind, item, f"{place}.{n}") for n, (kind, item) in pairs)


def _mapping(hint: Any, given: Any, place: str) -> Any:
    if not isinstance(given, Mapping):
        raise _wrong(place, given, "a mapping")
    for key in given:
        if not isinstance(key, str):
            raise SettingError(f"{place}: the key {key!r} must be a text; put it in quotes")
    kind = get_args(hint)[1]
    return {key: _value(kind, item, f"{place}.{key}") for key, item in given.items()}


_READERS: dict[Any, Any] = {
    Union: _union,
    types.UnionType: _union,
    Literal: _literal,
    tuple: _sequence,
    list: _sequence,
    dict: _mapping,
}


def _wrong(place: str, given: Any, wanted: str) -> SettingError:
    shown = "null" if given is None else repr(given)
    shown = shown if len(shown) <= 60 else f"{shown[:60]}..."
    hint = ""
    if wanted.startswith("a text") and isinstance(given, bool | int | float):
        hint = " (in YAML, put it in quotes)"
    return SettingError(f"{place or 'the configuration'} is {shown}; it must be {wanted}{hint}")


def _has_default(field: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return field.default is not missing or field.default_factory is not missing


def _dotted(place: str, key: object) -> str:
    return f"{place}.{key}" if place else str(key)
