"""Match the tool calls that were made with those that were wanted, one to one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from rl_verifiers.call_syntax import (
    Call,
    CallLimitError,
    CallSyntaxError,
    RawText,
    python_calls,
)
from rl_verifiers.shown import shown

MAX_WANTED = 64
MAX_WORK = 300_000
"""Parts of the calls compared: values, and text per 100 characters, over all pairs of one name."""
_MAX_DEPTH = 100
_IGNORED = re.compile(r"[ ,./\-_*^]")
_MISSING = object()


class WantedCall(NamedTuple):
    """A call that the reference wants.

    ``allowed`` is whether every argument's value is a list of alternatives.
    """

    name: str
    arguments: Mapping[str, Any]
    allowed: bool


@dataclass(frozen=True)
class Comparison:
    """How values compare.

    Attributes:
        normalized: Text compares without case, spaces and ``,./-_*^``, and ``'`` is ``"``.
        alternatives: The arguments of ``{"name", "arguments"}`` are lists of alternatives.
    """

    normalized: bool = False
    alternatives: bool = False
    _memo: dict[str, str] = field(default_factory=dict, compare=False, repr=False)

    def same(self, found: Any, wanted: Any) -> bool:
        """Whether two JSON values are the same; whole and decimal numbers compare by value."""
        if isinstance(found, RawText):
            return self.same(str(found), wanted) or self.same(found.read(), wanted)
        if isinstance(found, bool) or isinstance(wanted, bool):
            return found is wanted
        if isinstance(found, str) and isinstance(wanted, str):
            return self._folded(found) == self._folded(wanted)
        if isinstance(found, Mapping) and isinstance(wanted, Mapping):
            return found.keys() == wanted.keys() and all(
                self.same(found[key], wanted[key]) for key in wanted
            )
        if isinstance(found, list | tuple) and isinstance(wanted, list | tuple):
            return len(found) == len(wanted) and all(map(self.same, found, wanted))
        return bool(found == wanted)

    def among(self, found: Any, allowed: Any) -> bool:
        """Whether a value is one of a list of alternatives.

        An alternative that is an object holds a list of alternatives for each of its keys.
        """
        options = allowed if isinstance(allowed, list | tuple) else [allowed]
        return any(self._is(found, option) for option in options)

    def _is(self, found: Any, option: Any) -> bool:
        if isinstance(found, RawText):
            return self._is(str(found), option) or self._is(found.read(), option)
        if isinstance(found, Mapping) and isinstance(option, Mapping):
            return self.difference(found, option, {}, allowed=True) is None
        if isinstance(found, list | tuple) and isinstance(option, list | tuple):
            return len(found) == len(option) and all(map(self._is, found, option))
        return self.same(found, option)

    def difference(
        self,
        found: Mapping[str, Any],
        wanted: Mapping[str, Any],
        defaults: Mapping[str, Any],
        *,
        allowed: bool,
    ) -> str | None:
        """The first argument that differs, in words; None where none does."""
        for name, value in wanted.items():
            given = found.get(name, _MISSING)
            if given is _MISSING:
                if not self._may_be_missing(value, defaults.get(name, _MISSING), allowed):
                    return f"argument {name!r:.60} is missing"
            elif not (self.among(given, value) if allowed else self.same(given, value)):
                either = "one of " if allowed and isinstance(value, list) else ""
                return f"argument {name!r:.60} is {shown(given, 60)}, not {either}{shown(value)}"
        for name, given in found.items():
            by_default = name in defaults and self.same(given, defaults[name])
            if name not in wanted and not by_default:
                return f"argument {name!r:.60} is not wanted"
        return None

    def _may_be_missing(self, value: Any, default: Any, allowed: bool) -> bool:
        if value is None:  # what tables write into the columns of other rows' arguments
            return True
        if default is not _MISSING:
            same = self.among(default, value) if allowed else self.same(default, value)
            if same:
                return True
        return allowed and isinstance(value, list | tuple) and "" in value

    def _folded(self, text: str) -> str:
        if not self.normalized:
            return text
        folded = self._memo.get(text)
        if folded is None:
            folded = self._memo[text] = _IGNORED.sub("", text).lower().replace("'", '"')
        return folded


def wanted_calls(answer: Any, *, alternatives: bool) -> list[WantedCall]:
    """The calls of a reference: a list of them, one alone, a message, or the JSON text of these.

    Raises:
        ValueError: It is of no form that we know.
    """
    try:
        answer = json.loads(answer) if isinstance(answer, str) else answer
        if isinstance(answer, Mapping):
            answer = answer.get("tool_calls", [answer])
        if not isinstance(answer, list | tuple) or len(answer) > MAX_WANTED:
            raise ValueError
        calls = [call for item in answer for call in _wanted(item, alternatives)]
        json.dumps([call.arguments for call in calls], default=str)  # too deep, or endless digits
        return calls
    except (ValueError, TypeError, RecursionError):
        raise ValueError(f"unusable answer {shown(answer)}") from None


def _wanted(item: Any, alternatives: bool) -> list[WantedCall]:
    if isinstance(item, str):
        try:
            calls = python_calls(item)
        except CallSyntaxError as error:
            raise ValueError from error
        if any(call.positional for call in calls):
            raise ValueError
        return [WantedCall(call.name, call.arguments, False) for call in calls]
    if not isinstance(item, Mapping):
        raise ValueError
    inner = item.get("function")
    item = inner if isinstance(inner, Mapping) and "name" in inner else item
    name = item.get("name")
    if isinstance(name, str):
        arguments = item.get("arguments", item.get("parameters"))
        arguments = json.loads(arguments) if isinstance(arguments, str) else arguments or {}
        if not isinstance(arguments, Mapping):
            raise ValueError
        return [WantedCall(name, arguments, alternatives)]
    if not item or not all(isinstance(part, Mapping) for part in item.values()):
        raise ValueError
    return [WantedCall(str(name), arguments, True) for name, arguments in item.items()]


def matched(
    found: Sequence[Call],
    wanted: Sequence[WantedCall],
    comparison: Comparison,
    defaults: Mapping[str, Mapping[str, Any]],
    *,
    in_order: bool,
) -> tuple[int, str]:
    """How many calls match, one to one, and what is wrong with the first that does not.

    Args:
        found: The calls that were made.
        wanted: Those that the reference wants.
        comparison: How values compare.
        defaults: By tool, the arguments that may be left out and what they then are.
        in_order: Whether the matching calls must come in the order of the reference.

    Raises:
        CallLimitError: They ask for more than ``MAX_WORK`` comparisons.
    """
    sizes = [_size(call.arguments) for call in found]
    work = 0
    for want in wanted:
        size = _size(want.arguments)
        pairs_of = zip(found, sizes, strict=True)
        work += sum(size + other for call, other in pairs_of if call.name == want.name)
    if work > MAX_WORK:
        raise CallLimitError("too many long calls to compare")
    comparison = replace(comparison, _memo={})
    fits = [
        [_problem(call, want, comparison, defaults) is None for call in found] for want in wanted
    ]
    pairs = _in_order(fits) if in_order else _in_any_order(fits)
    reason = _reason(found, wanted, comparison, defaults, pairs)
    return len(pairs), f"{len(pairs)} of {len(wanted)} calls" + (f"; {reason}" if reason else "")


def _size(value: Any) -> int:
    """The parts of a value, and one more for every 100 characters of text."""
    size, waiting = 0, [value]
    while waiting:
        part = waiting.pop()
        size += 1 + (len(part) // 100 if isinstance(part, str) else 0)
        if isinstance(part, Mapping):
            waiting += part.values()
        elif isinstance(part, list | tuple):
            waiting += part
    return size


def _problem(
    call: Call,
    want: WantedCall,
    comparison: Comparison,
    defaults: Mapping[str, Mapping[str, Any]],
) -> str | None:
    if call.name != want.name:
        return f"the call of {want.name} is missing"
    known = defaults.get(call.name, {})
    return comparison.difference(call.arguments, want.arguments, known, allowed=want.allowed)


def _reason(
    found: Sequence[Call],
    wanted: Sequence[WantedCall],
    comparison: Comparison,
    defaults: Mapping[str, Mapping[str, Any]],
    pairs: Mapping[int, int],
) -> str:
    used = set(pairs.values())
    spare = [call for index, call in enumerate(found) if index not in used]
    for index, want in enumerate(wanted):
        if index in pairs:
            continue
        for call in spare:
            if call.name == want.name:
                problem = _problem(call, want, comparison, defaults)
                return f"{want.name}: {problem or 'called in another order'}"
        made = f" ({spare[0].name!r:.60} was called)" if spare else ""
        return f"{want.name} is not called{made}"
    return f"{spare[0].name!r:.60} is called beyond those" if spare else ""


def _in_order(fits: Sequence[Sequence[bool]]) -> dict[int, int]:
    """The largest matching that keeps the order: wanted index to found index."""
    rows, columns = len(fits), len(fits[0]) if fits else 0
    best = [[0] * (columns + 1) for _ in range(rows + 1)]
    for i in range(rows - 1, -1, -1):
        for j in range(columns - 1, -1, -1):
            both = best[i + 1][j + 1] + 1 if fits[i][j] else 0
            best[i][j] = max(both, best[i + 1][j], best[i][j + 1])
    pairs: dict[int, int] = {}
    i = j = 0
    while i < rows and j < columns:
        if fits[i][j] and best[i][j] == best[i + 1][j + 1] + 1:
            pairs[i] = j
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1
    return pairs


def _in_any_order(fits: Sequence[Sequence[bool]]) -> dict[int, int]:
    """The largest matching (H. W. Kuhn's augmenting paths): wanted index to found index."""
    owner: dict[int, int] = {}

    def placed(row: int, seen: set[int]) -> bool:
        for column, fit in enumerate(fits[row]):
            if fit and column not in seen:
                seen.add(column)
                if column not in owner or placed(owner[column], seen):
                    owner[column] = row
                    return True
        return False

    for row in range(len(fits)):
        placed(row, set())
    return {row: column for column, row in owner.items()}
