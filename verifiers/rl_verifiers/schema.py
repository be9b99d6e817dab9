"""Does a completion's document satisfy a JSON Schema?

``jsonschema`` validates; this module bounds what that may cost and never lets it fetch anything.
What could take more than linear time (patterns, references, ``uniqueItems``, much data) runs in a
killable worker.
"""

from __future__ import annotations

import asyncio
import datetime
import difflib
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any, NamedTuple, get_args

from rl_verifiers.documents import DocumentError, Form, document, source_of
from rl_verifiers.option_checks import check_flags
from rl_verifiers.schema_references import (
    SchemaProblemError,
    check_references,
    equals_schema,
    objects,
    printable,
)
from rl_verifiers.score import Row, Score, VerifierError
from rl_verifiers.shown import shown
from rl_verifiers.workers import WorkerError, failure_score, inside_worker, shared_pool

MAX_SCHEMA_CHARACTERS = 200_000
MAX_INLINE_WORK = 200_000
"""Parts of the data times parts of the schema that are validated without a worker."""
MAX_INLINE_SLOW = 2_000
"""Characters of YAML or TOML that are read without a worker."""
CPU_SECONDS = 3.0
_REASONS, _ANSWER_CHARACTERS = 3, 4_000
_WORK = {"pattern", "patternProperties", "$ref", "$dynamicRef", "$recursiveRef", "uniqueItems"}
_WORK |= {"unevaluatedProperties", "unevaluatedItems"}


class Compiled(NamedTuple):
    """A schema that was checked: its validator, its size in parts, and whether it is cheap."""

    validator: Any
    size: int
    is_cheap: bool


@dataclass(frozen=True)
class JsonSchema:
    """See :func:`json_schema`."""

    schema: str | None
    format: Form
    strict: bool
    bounded = True

    @property
    def reads(self) -> tuple[str, ...]:
        """The row's columns that the score depends on."""
        return () if self.schema is not None else ("schema", "answer")

    def __call__(self, completion: str, row: Row) -> Score:
        """Score one completion; blocks while a worker validates."""
        decided = self._inline(completion, row)
        if isinstance(decided, Score):
            return decided
        try:
            return _submit(decided).result()
        except WorkerError as error:
            return failure_score(error)

    async def ascore(self, completion: str, row: Row) -> Score:
        """Score one completion; other tasks run while a worker validates."""
        decided = self._inline(completion, row)
        if isinstance(decided, Score):
            return decided
        try:
            return await asyncio.wrap_future(_submit(decided))
        except WorkerError as error:
            return failure_score(error)

    def _inline(self, completion: str, row: Row) -> Score | _Task:
        try:
            schema = _wanted(row) if self.schema is None else self.schema
            compiled = compile_schema(schema)
        except SchemaProblemError as error:
            return Score.wrong(str(error), status="bad_reference")
        try:
            source = source_of(completion, self.format, strict=self.strict)
            task = _Task(source, self.format, self.strict, schema)
            slow = self.format in ("yaml", "toml") and len(source) > MAX_INLINE_SLOW
            if slow and not inside_worker():
                return task
            value = task.document()
        except DocumentError as error:
            return Score.wrong(str(error), status=error.status)
        if is_cheap(compiled, value) or inside_worker():
            return judged(value, schema)
        return task


class _Task(NamedTuple):
    """What a worker needs to give the score."""

    source: str
    form: Form
    strict: bool
    schema: str

    def document(self) -> Any:
        types = _column_types(json.loads(self.schema)) if self.form == "csv" else {}
        return document(self.source, self.form, strict=self.strict, types=types)


def json_schema(
    *,
    schema: Mapping[str, Any] | str | None = None,
    format: Form = "json",  # noqa: A002 - what everyone calls it
    strict: bool = False,
) -> JsonSchema:
    """The completion's JSON, YAML, TOML or CSV satisfies the JSON Schema in ``row["schema"]``.

    Draft 2020-12 unless ``$schema`` names another. The document is the last JSON value, or the last
    fence or all the text for the other forms, after any thinking. References are followed inside
    the schema only: nothing is ever fetched. The reason names the first violations by JSON path. A
    document that repeats the schema is wrong.

    Args:
        schema: The schema, or its JSON text; None takes it from the row's column ``schema``, else
            ``answer``, which must then have a keyword of JSON Schema.
        format: How the document is written. YAML with aliases is not read; CSV has a header line
            and is validated as an array of objects.
        strict: The whole completion is the document; in JSON no key may occur twice.

    Raises:
        VerifierError: The schema is unusable, the format unknown, or jsonschema not installed.
    """
    if format not in get_args(Form):
        close = difflib.get_close_matches(str(format), get_args(Form), 1)
        meant = f" (did you mean {close[0]}?)" if close else ""
        raise VerifierError(
            f"json_schema: unknown format {format!r}{meant}; one of {', '.join(get_args(Form))}"
        )
    check_flags("json_schema", strict=strict)
    _library()
    text = None
    try:
        if schema is not None:
            text = schema_text(schema)
            compile_schema(text)
    except SchemaProblemError as error:
        raise VerifierError(f"json_schema: {error}") from None
    return JsonSchema(text, format, strict)


def schema_text(schema: object) -> str:
    """A schema (an object, ``true`` or ``false``, or the JSON text of one) as canonical JSON text.

    Raises:
        SchemaProblemError: It is nothing of the kind, or too long.
    """
    try:
        value = json.loads(schema) if isinstance(schema, str) else schema
        if isinstance(value, Mapping | bool):
            text = json.dumps(value, sort_keys=True, allow_nan=False, default=dict)
            if len(text) <= MAX_SCHEMA_CHARACTERS:
                return text
            raise SchemaProblemError(f"a schema of over {MAX_SCHEMA_CHARACTERS:,} characters")
    except SchemaProblemError:
        raise
    except (ValueError, TypeError, RecursionError):
        pass
    raise SchemaProblemError(f"not a JSON Schema: {shown(schema)}")


@lru_cache(maxsize=256)
def compile_schema(text: str) -> Compiled:
    """Check a schema given as JSON text, in time that its length bounds.

    Raises:
        SchemaProblemError: It breaks its meta-schema, has a reference that leads nowhere inside it,
            or references that unfold without bound.
    """
    from jsonschema.exceptions import SchemaError  # noqa: PLC0415 - imported when first needed
    from jsonschema_specifications import REGISTRY  # noqa: PLC0415

    schema = json.loads(text)
    try:
        kind = _kind(schema)
        kind.check_schema(schema)
        # This registry has no way to retrieve anything; the default one would ask the network.
        validator = kind(schema, registry=REGISTRY, format_checker=_formats())
        check_references(validator)
        is_cheap = all(_WORK.isdisjoint(node) for node in objects(schema))
        if is_cheap:
            next(validator.iter_errors(None), None)
    except SchemaError as error:
        raise SchemaProblemError(
            printable(f"bad schema at {error.json_path}: {error.message:.120}")
        ) from None
    except RecursionError:
        raise SchemaProblemError("the schema nests too deeply") from None
    return Compiled(validator, _size(schema), is_cheap)


def _kind(schema: Any) -> Any:
    """The validator's class for a schema, decimals counted as they are written."""
    from jsonschema import validators  # noqa: PLC0415 - as above

    draft = schema.get("$schema", "") if isinstance(schema, dict) else ""
    if not isinstance(draft, str):
        raise SchemaProblemError(f"bad schema at $['$schema']: {shown(draft)} is not a text")
    return _exact(validators.validator_for(schema, default=validators.Draft202012Validator))


@cache
def _exact(kind: Any) -> Any:
    from jsonschema import validators  # noqa: PLC0415 - as above

    return validators.extend(kind, {"multipleOf": _multiple_of})


def _multiple_of(validator: Any, unit: Any, value: Any, schema: Any) -> Iterator[Any]:
    """``0.3`` is a multiple of ``0.1``, as it is not between floats."""
    from jsonschema.exceptions import ValidationError  # noqa: PLC0415 - as above

    if validator.is_type(value, "number"):
        exact = [Fraction(repr(n)) if isinstance(n, float) else Fraction(n) for n in (value, unit)]
        if (exact[0] / exact[1]).denominator != 1:
            yield ValidationError(f"{value!r} is not a multiple of {unit!r}")


def is_cheap(compiled: Compiled, value: Any) -> bool:
    """Whether validating ``value`` takes little time, whatever it is."""
    return compiled.is_cheap and compiled.size * _size(value) <= MAX_INLINE_WORK


def violations(value: Any, compiled: Compiled, *, most: int = _REASONS) -> list[str]:
    """The first violations, each as ``path: message``; empty where ``value`` is valid.

    Raises:
        SchemaProblemError: A reference leads nowhere.
        DocumentError: The value asks for more work than we do.
    """
    from referencing.exceptions import Unresolvable  # noqa: PLC0415 - as above

    try:
        errors = itertools.islice(compiled.validator.iter_errors(value), most)
        return [printable(f"{error.json_path:.120}: {error.message:.160}") for error in errors]
    except Unresolvable as error:
        raise SchemaProblemError(printable(f"reference {error.ref!r:.80} leads nowhere")) from None
    except re.error as error:
        raise SchemaProblemError(f"a pattern of the schema does not compile: {error}") from None
    except RecursionError:
        if _is_endless(compiled):
            raise SchemaProblemError("the schema refers to itself without end") from None
        raise DocumentError("too large to validate (RecursionError)", "over_limit") from None
    except (OverflowError, ValueError) as error:
        raise DocumentError(
            f"too large to validate ({type(error).__name__})", "over_limit"
        ) from None


def _is_endless(compiled: Compiled) -> bool:
    """Whether the schema refers to itself whatever the value is."""
    try:
        next(compiled.validator.iter_errors(None), None)
    except RecursionError:
        return True
    return False


def judged(value: Any, schema: str) -> Score:
    """The score of a document."""
    try:
        found = violations(value, compile_schema(schema))
        answer = json.dumps(value, sort_keys=True)
    except SchemaProblemError as error:
        return Score.wrong(str(error), status="bad_reference")
    except DocumentError as error:
        return Score.wrong(str(error), status=error.status)
    except ValueError:  # an integer of thousands of digits, which YAML may write in hexadecimal
        return Score.wrong("a number too long", status="over_limit")
    kept = answer if len(answer) <= _ANSWER_CHARACTERS else None
    if not found and equals_schema(answer, schema):
        found = ["the schema itself and no document of it"]
    return (
        Score.wrong("; ".join(found), answer=kept) if found else Score.correct("valid", answer=kept)
    )


def _judge_source(task: _Task) -> Score:
    """Runs in the worker."""
    try:
        return judged(task.document(), task.schema)
    except DocumentError as error:
        return Score.wrong(str(error), status=error.status)


def _submit(task: _Task) -> Future[Score]:
    return shared_pool().submit(_judge_source, task, cpu_s=CPU_SECONDS, wall_s=60.0)


def _wanted(row: Row) -> str:
    """The schema of a row as JSON text."""
    if row.get("schema") is not None:
        return schema_text(row["schema"])
    text = schema_text(row.get("answer"))
    schema = json.loads(text)
    known = {"$schema", *(_kind(schema).VALIDATORS if isinstance(schema, dict) else ())}
    if not isinstance(schema, dict) or known.isdisjoint(schema):
        raise SchemaProblemError(
            f"no column schema, and the answer has no keyword of JSON Schema: {text:.80}"
        )
    return text


def _library() -> None:
    try:
        import jsonschema  # noqa: F401, PLC0415 - imported when first needed
    except ImportError:
        raise VerifierError(
            "json_schema needs the package jsonschema: pip install jsonschema"
        ) from None


def _size(value: Any) -> int:
    """The parts of a value: numbers and words count one, and text one more per 100 characters."""
    size, waiting = 0, [value]
    while waiting:
        part = waiting.pop()
        size += 1
        if isinstance(part, dict):
            waiting += part.values()
            size += len(part)
        elif isinstance(part, list):
            waiting += part
        elif isinstance(part, str):
            size += len(part) // 100
    return size


def _column_types(schema: Any) -> dict[str, str]:
    """The types that a schema of an array of objects declares for its columns."""
    items = schema.get("items") if isinstance(schema, dict) else None
    columns = items.get("properties") if isinstance(items, dict) else None
    if not isinstance(columns, dict):
        return {}
    declared = {name: c.get("type") for name, c in columns.items() if isinstance(c, dict)}
    return {name: kind for name, kind in declared.items() if isinstance(kind, str)}


_CLOCK = r"(?:[01]\d|2[0-3]):[0-5]\d:(?:[0-5]\d|60)(?:\.\d+)?(?:[Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_FORMATS = {
    "date-time": rf"\d{{4}}-\d\d-\d\d[Tt ]{_CLOCK}",
    "duration": r"P(?=\d|T\d)(?:\d+W|(?:\d+Y)?(?:\d+M)?(?:\d+D)?"
    r"(?:T(?=\d)(?:\d+H)?(?:\d+M)?(?:\d+S)?)?)",
    "email": r"[^@\s]{1,64}@[^@\s]{1,255}",
    "hostname": rf"{_LABEL}(?:\.{_LABEL}){{0,126}}",
    "time": _CLOCK,
    "uri": r"[A-Za-z][A-Za-z0-9+.-]*:[!#-;=?-\[\]_a-z~%]*",
}
"""The formats that are checked here, in linear time; jsonschema has ``_SIMPLE_FORMATS``."""
_SIMPLE_FORMATS = ("date", "ipv4", "ipv6", "uuid")


@cache
def _formats() -> Any:
    from jsonschema import FormatChecker  # noqa: PLC0415 - imported when first needed

    checker = FormatChecker(_SIMPLE_FORMATS)
    for name, pattern in _FORMATS.items():
        checker.checks(name, raises=ValueError)(_matcher(name, re.compile(pattern, re.ASCII)))
    return checker


def _matcher(name: str, pattern: re.Pattern[str]) -> Callable[[object], bool]:
    def matches(value: object) -> bool:
        if not isinstance(value, str):
            return True
        if not pattern.fullmatch(value) or (name == "hostname" and len(value) > 253):
            return False
        if name == "date-time":
            datetime.date.fromisoformat(value[:10])
        return True

    return matches
