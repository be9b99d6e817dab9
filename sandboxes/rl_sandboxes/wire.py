"""Jobs and results as JSON: what both sides of the remote back end agree on.

Bytes are base64, values are trees of :mod:`rl_sandboxes.inside.values`, text that is no Unicode
(lone surrogates) is ``{"s": hex}``, and a field that has its default is left out. Unknown keys and
wrong types are refused, so that a typing error is no silent default.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, TypeVar, cast

from rl_sandboxes.inside import values
from rl_sandboxes.types import STATUSES, Call, Guarantees, Job, JobError, Limits, Result, Run

T = TypeVar("T")

PROTOCOL = 1
"""Raised when a side would no longer understand the other."""


class WireError(ValueError):
    """JSON that is not what was agreed; the message says where and what."""


class NotJsonError(WireError):
    """No JSON at all, or none that is accepted."""


def dumps(tree: Any) -> bytes:
    """One line of ASCII JSON.

    Raises:
        WireError: It holds what JSON does not (NaN, an infinite number, another type).
    """
    try:
        return json.dumps(tree, separators=(",", ":"), allow_nan=False).encode("ascii")
    except (ValueError, TypeError, RecursionError) as error:
        raise WireError(f"cannot be sent as JSON: {error}") from None


def loads(data: bytes) -> Any:
    """The tree of a JSON text that anyone may have written.

    Raises:
        NotJsonError: No UTF-8, no JSON, nested too deep, or a number that JSON does not know.
    """
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
    except RecursionError:
        raise NotJsonError("JSON that is nested too deep") from None
    except UnicodeDecodeError as error:
        raise NotJsonError(f"not UTF-8: byte {error.start} is {data[error.start]:#04x}") from None
    except ValueError as error:
        raise NotJsonError(f"not JSON: {error}") from None


def job_tree(job: Job) -> dict[str, Any]:
    """A job as a JSON-ready tree.

    Raises:
        JobError: An argument is no plain data, or a path is no Unicode text.
    """
    tree = _short(job, {"code": text_tree, "entry_point": text_tree, "collect": _paths})
    if job.calls:
        tree["calls"] = [_call_tree(call, index) for index, call in enumerate(job.calls)]
    if job.stdin:
        tree["stdin"] = [bytes_tree(data) for data in job.stdin]
    if job.files:
        _paths(job.files)
        tree["files"] = {path: bytes_tree(data) for path, data in job.files.items()}
    if job.limits != Limits():
        tree["limits"] = limits_tree(job.limits)
    return tree


def job_from(tree: Any) -> Job:
    """The job of a tree.

    Raises:
        WireError: The tree is none of a job.
        JobError: It is, but of one that cannot be run.
    """
    return Job(
        **_read(
            tree,
            "job",
            {
                "kind": _text,
                "code": _text,
                "entry_point": _text,
                "calls": _tuple_of(_call),
                "stdin": _tuple_of(_bytes),
                "files": _dict_of(_bytes),
                "collect": _tuple_of(_text),
                "limits": limits_from,
                "stop_early": _bool,
            },
            needed=("kind", "code"),
        )
    )


def limits_tree(limits: Limits) -> dict[str, Any]:
    """Limits as a JSON-ready tree."""
    return _short(limits, {})


def limits_from(tree: Any, where: str = "limits") -> Limits:
    """The limits of a tree; raises WireError or JobError."""
    return Limits(**_read(tree, where, dict.fromkeys((f.name for f in fields(Limits)), _number)))


def run_tree(run: Run) -> dict[str, Any]:
    """A run as a JSON-ready tree.

    Raises:
        WireError: Its value is no plain data.
    """
    tree = _short(run, dict.fromkeys(("stdout", "stderr", "exception", "note"), text_tree))
    tree.pop("value", None)
    if run.returned:
        tree["value"] = _value_tree(run.value, "the value")
    return tree


def run_from(tree: Any, where: str = "run") -> Run:
    """The run of a tree.

    Raises:
        WireError: The tree is none of a run.
    """
    numbers = dict.fromkeys(("wall_s", "cpu_s", "peak_mb"), _number)
    flags = dict.fromkeys(("stdout_cut", "stderr_cut", "returned"), _bool)
    readers = {
        "status": _run_status,
        "stdout": _text,
        "stderr": _text,
        "value": _value,
        "exception": _text,
        "suspicious": _tuple_of(_text),
        "note": _text,
        **dict.fromkeys(("exit_code", "signal", "n_left"), _whole),
        **numbers,
        **flags,
    }
    return Run(**_read(tree, where, readers, needed=("status",)))


def result_tree(result: Result) -> dict[str, Any]:
    """A result as a JSON-ready tree.

    Raises:
        WireError: A value or a path in it cannot be sent.
    """
    tree = _short(result, {"error": text_tree})
    if result.runs:
        tree["runs"] = [run_tree(run) for run in result.runs]
    try:
        _paths([*result.files, *result.refused])
    except JobError as error:
        raise WireError(str(error)) from None
    if result.files:
        tree["files"] = {path: bytes_tree(data) for path, data in result.files.items()}
    if result.refused:
        tree["refused"] = {path: text_tree(why) for path, why in result.refused.items()}
    return tree


def result_from(tree: Any) -> Result:
    """The result of a tree.

    Raises:
        WireError: The tree is none of a result.
    """
    readers = {
        "runs": _tuple_of(run_from),
        "files": _dict_of(_bytes),
        "refused": _dict_of(_text),
        "queue_s": _number,
        "error": _text,
    }
    return Result(**_read(tree, "result", readers))


def guarantees_tree(guarantees: Guarantees) -> dict[str, Any]:
    """Guarantees as a JSON-ready tree."""
    return {spec.name: getattr(guarantees, spec.name) for spec in fields(Guarantees)}


def guarantees_from(tree: Any) -> Guarantees:
    """The guarantees of a tree; raises WireError."""
    names = [spec.name for spec in fields(Guarantees)]
    readers: dict[str, Reader] = dict.fromkeys(names, _text)
    readers["missing"] = _tuple_of(_text)
    return Guarantees(**_read(tree, "guarantees", readers, needed=names[:-1]))


def read_fields(
    tree: Any, where: str, *, text: Sequence[str] = (), optional: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The fields of a small request: texts that must be there, and others that may be.

    Args:
        tree: Parsed JSON.
        where: What it is, for the message.
        text: Names of texts that must be there.
        optional: Names that may be, each with its kind: ``text``, ``number``, ``whole``, ``bytes``,
            ``any`` (as it is).

    Returns:
        What was there; null counts as absent.

    Raises:
        WireError: Something else is there, or has another type.
    """
    readers = {name: _KINDS[kind] for name, kind in (optional or {}).items()}
    return _read(tree, where, {**dict.fromkeys(text, _text), **readers}, needed=text)


Reader = Callable[[Any, str], Any]


def _read(
    tree: Any, where: str, readers: Mapping[str, Reader], *, needed: Sequence[str] = ()
) -> dict[str, Any]:
    """The fields of an object, each read by its reader; null means the default."""
    if type(tree) is not dict:
        raise WireError(f"{where} must be an object, not {_kind(tree)}")
    for name in tree:
        if name not in readers:
            raise WireError(f"{where} has no {name[:100]!r}; it has {', '.join(readers)}")
    for name in needed:
        if tree.get(name) is None:
            raise WireError(f"{where} lacks {name!r}")
    return {
        name: readers[name](value, f"{where}.{name}")
        for name, value in tree.items()
        if value is not None or name == "value"
    }


def _short(item: Any, encoders: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
    """The fields of a dataclass that differ from their defaults."""
    tree = {}
    for spec in fields(item):
        if spec.default_factory is not MISSING or spec.name in ("calls", "stdin", "runs"):
            continue
        value = getattr(item, spec.name)
        if value != spec.default:
            tree[spec.name] = encoders[spec.name](value) if spec.name in encoders else value
    return tree


def _call_tree(call: Call, index: int) -> list[Any]:
    try:
        args = [values.encode(value) for value in call.args]
        kwargs = {name: values.encode(value) for name, value in call.kwargs.items()}
    except values.ValueRefused as error:
        raise JobError(f"call {index}: an argument is no plain data: {error}") from None
    if any(type(name) is not str or text_tree(name) != name for name in kwargs):
        raise JobError(f"call {index}: a keyword is no Unicode text")
    return [args, kwargs] if kwargs else [args]


def _call(tree: Any, where: str) -> Call:
    if type(tree) is not list or not 1 <= len(tree) <= 2:
        raise WireError(f"{where} must be [[argument, ...]] or [[argument, ...], {{keyword: ...}}]")
    args = _tuple_of(_value)(tree[0], f"{where}[0]")
    return Call(args, _dict_of(_value)(tree[1], f"{where}[1]") if len(tree) == 2 else {})


def _value_tree(value: Any, what: str) -> Any:
    try:
        return values.encode(value)
    except values.ValueRefused as error:
        raise WireError(f"{what} cannot be sent: {error}") from None


def _value(tree: Any, where: str) -> Any:
    try:
        return values.decode(tree)
    except values.ValueRefused as error:
        raise WireError(f"{where}: {error}") from None


def bytes_tree(data: bytes) -> str:
    """Bytes as base64 text."""
    return base64.b64encode(data).decode("ascii")


def _bytes(tree: Any, where: str) -> bytes:
    try:
        return base64.b64decode(tree if type(tree) is str else None, validate=True)  # type: ignore[arg-type]
    except (binascii.Error, ValueError, TypeError):
        raise WireError(f"{where} must be base64") from None


def text_tree(text: str) -> Any:
    """Text, or ``{"s": hex}`` where it is no Unicode."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return {"s": text.encode("utf-8", "surrogatepass").hex()}
    return text


def _text(tree: Any, where: str) -> str:
    if type(tree) is str:
        return tree
    if type(tree) is dict and tree.keys() == {"s"}:
        text = _value(tree, where)
        if type(text) is str:
            return text
    raise WireError(f"{where} must be text, not {_kind(tree)}")


def _paths(paths: Sequence[str] | Mapping[str, Any]) -> list[str]:
    """The paths, which are sent as they are."""
    for path in paths:
        if text_tree(path) != path:
            raise JobError(f"path {path[:100]!r} is not Unicode text")
    return list(paths)


def _bool(tree: Any, where: str) -> bool:
    if type(tree) is not bool:
        raise WireError(f"{where} must be true or false, not {_kind(tree)}")
    return tree


def _number(tree: Any, where: str) -> float:
    if type(tree) not in (int, float):
        raise WireError(f"{where} must be a number, not {_kind(tree)}")
    return cast("float", tree)


def _whole(tree: Any, where: str) -> int:
    if type(tree) is not int:
        raise WireError(f"{where} must be a whole number, not {_kind(tree)}")
    return tree


def _run_status(tree: Any, where: str) -> str:
    if type(tree) is not str or tree not in STATUSES or tree == "sandbox_error":
        raise WireError(f"{where} is {str(tree)[:100]!r}, which is no status of a run")
    return tree


def _tuple_of(reader: Reader) -> Reader:
    def read(tree: Any, where: str) -> tuple[Any, ...]:
        if type(tree) is not list:
            raise WireError(f"{where} must be a list, not {_kind(tree)}")
        return tuple(reader(item, f"{where}[{index}]") for index, item in enumerate(tree))

    return read


def _dict_of(reader: Reader) -> Reader:
    def read(tree: Any, where: str) -> dict[str, Any]:
        if type(tree) is not dict:
            raise WireError(f"{where} must be an object, not {_kind(tree)}")
        return {name: reader(item, f"{where}[{name[:100]!r}]") for name, item in tree.items()}

    return read


_KINDS: dict[str, Reader] = {
    "text": _text,
    "number": _number,
    "whole": _whole,
    "bytes": _bytes,
    "any": lambda tree, where: tree,
}


def _kind(tree: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false"}
    return names.get(type(tree), "null" if tree is None else "a number")


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number that JSON knows")
