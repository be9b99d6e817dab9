"""Which constraints a row states: IFEval's two columns, or one label in open-instruct's format."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from typing import Any

from rl_verifiers.instructions.constraint import Constraint, UnusableError, find
from rl_verifiers.score import Row
from rl_verifiers.shown import shown

READS = ("instruction_id_list", "kwargs", "ground_truth", "answer")
_LABELS = ("ground_truth", "answer")
_LABEL_CHARACTERS = 1_000_000


def stated(row: Row) -> list[tuple[Constraint, dict[str, Any]]]:
    """The constraints of a row, each with its arguments, in order.

    Raises:
        UnusableError: None is stated, one is unknown, or its arguments do not fit.
    """
    names, arguments = _columns(row)
    if not names:
        raise UnusableError("no constraints are stated: instruction_id_list is empty")
    if len(arguments) != len(names):
        raise UnusableError(f"{len(names)} instruction ids but {len(arguments)} kwargs")
    return [_read(name, given) for name, given in zip(names, arguments, strict=True)]


def _read(name: object, given: object) -> tuple[Constraint, dict[str, Any]]:
    constraint = find(name)
    if isinstance(given, str):
        given = _parsed(given, f"kwargs of {constraint.id}")
    if given is None:
        given = {}
    if not isinstance(given, Mapping):
        raise UnusableError(f"{constraint.id}: kwargs must be an object, not {shown(given, 60)}")
    return constraint, constraint.read(given)


def _columns(row: Row) -> tuple[list[Any], list[Any]]:
    names = row.get("instruction_id_list")
    if names is not None:
        names = _listed(names, "instruction_id_list", may_be_text=True)
        return names, _arguments(row.get("kwargs"), len(names))
    for column in _LABELS:
        if row.get(column) is not None:
            return _label(row[column], column)
    raise UnusableError("the row has neither instruction_id_list nor ground_truth")


def _arguments(given: object, count: int) -> list[Any]:
    if isinstance(given, str):
        given = _parsed(given, "kwargs")
    if given is None:
        return [None] * count
    if isinstance(given, Mapping) and count == 1:
        return [given]
    return _listed(given, "kwargs")


def _label(label: object, column: str) -> tuple[list[Any], list[Any]]:
    """One object, or a list of them, with ``instruction_id`` and ``kwargs``."""
    if isinstance(label, str):
        label = _parsed(label, column)
    names: list[Any] = []
    arguments: list[Any] = []
    for item in [label] if isinstance(label, Mapping) else _listed(label, column):
        stated_by = _parsed(item, column) if isinstance(item, str) else item
        if not isinstance(stated_by, Mapping) or "instruction_id" not in stated_by:
            raise UnusableError(
                f"{column} must hold instruction_id and kwargs, not {shown(item, 60)}"
            )
        some = _listed(stated_by["instruction_id"], "instruction_id", may_be_text=True)
        names += some
        arguments += _arguments(stated_by.get("kwargs"), len(some))
    return names, arguments


def _listed(value: object, what: str, *, may_be_text: bool = False) -> list[Any]:
    if may_be_text and isinstance(value, str):
        value = _parsed(value, what) if value.lstrip().startswith("[") else [value]
    if isinstance(value, str | Mapping) or not isinstance(value, Sequence):
        tolist = getattr(value, "tolist", None)  # an array, as Parquet readers give
        value = tolist() if callable(tolist) else value
    if not isinstance(value, list | tuple):
        raise UnusableError(f"{what} must be a list, not {shown(value, 60)}")
    return list(value)


def _parsed(text: str, what: str) -> Any:
    """JSON, or Python's spelling of it, which published labels have too."""
    if len(text) > _LABEL_CHARACTERS:
        raise UnusableError(f"{what} has over {_LABEL_CHARACTERS:,} characters")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise UnusableError(f"{what} is not JSON: {shown(text, 60)}") from None
