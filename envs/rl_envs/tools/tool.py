"""A tool: a typed Python function with a Google docstring, its JSON schema, its argument check."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import FunctionType
from typing import Any, TypeVar, overload

from rl_envs.tasks import DataError

MOST_PROBLEMS = 5  # of the arguments of one call, told to the model
SHOWN_CHARACTERS = 200  # of a value the model gave, in an error text
_MARK = "_rl_envs_tool"
_OPTIONS = {"name", "inline", "timeout_s"}

Function = TypeVar("Function", bound=Callable[..., Any])


class ToolError(Exception):
    """A call that cannot be carried out as asked: its text goes back to the model."""


class ToolFault(ToolError):  # noqa: N818 - whose fault a failed call is
    """A mistake of the tool's author (an unknown name, say); the model hears it all the same."""


class ToolFailure(Exception):  # noqa: N818 - what happened, and whose fault it was
    """Our own failure inside a tool (a dead sandbox, an unreachable server), not the policy's.

    The episode is given up, tried again, and left out of training where that fails too.
    """


@dataclass(frozen=True, slots=True)
class Finish:
    """What a tool returns to end the episode.

    Attributes:
        answer: What is judged, as if the policy had said it without any call.
    """

    answer: str


@dataclass(frozen=True, slots=True)
class Tool:
    """Something that a policy can call.

    Attributes:
        name: As the policy calls it.
        description: What it is for, told to the policy.
        schema: JSON schema of the arguments, an object.
        function: Called with the arguments by keyword; sync or async.
        inline: Run it on the event loop itself: for quick pure functions. Others run in a thread.
        timeout_s: Longest call in seconds; None takes the environment's.
        check: Makes the arguments what the function takes.

    Raises:
        DataError: ``of`` could not make a schema.
    """

    name: str
    description: str
    schema: Mapping[str, Any]
    function: Callable[..., Any]
    inline: bool = False
    timeout_s: float | None = None
    check: Callable[[Mapping[str, Any]], dict[str, Any]] = field(default=dict, repr=False)

    @property
    def definition(self) -> dict[str, Any]:
        """As OpenAI's ``tools`` list it, and as chat templates take it."""
        function = {
            "name": self.name,
            "description": self.description,
            "parameters": dict(self.schema),
        }
        return {"type": "function", "function": function}

    def bound(self, owner: object) -> Tool:
        """The tool of a method, bound to an instance."""
        return replace(self, function=self.function.__get__(owner))

    @classmethod
    def of(
        cls,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        inline: bool = False,
        timeout_s: float | None = None,
    ) -> Tool:
        """The tool of a function or a method (its ``self`` is left out).

        Args:
            function: Typed, with a docstring; ``Args:`` describe the parameters.
            name: Default: the function's own.
            inline: Run it on the event loop itself.
            timeout_s: Longest call in seconds.

        Raises:
            DataError: No types, no docstring, or a type without a schema.
        """
        named = name or _name_of(function)
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise DataError(f"tool {named}: it yields; a tool returns its result")
        if inspect.iscoroutinefunction(function):
            inline = False
        summary, documented = _docstring(function, named)
        fields = _fields(function, named, documented)
        model, schema = _model(named, fields)
        return cls(named, summary, schema, function, inline, timeout_s, _checker(model))


@overload
def tool(function: Function, /) -> Function: ...
@overload
def tool(
    *, name: str | None = None, inline: bool = False, timeout_s: float | None = None
) -> Callable[[Function], Function]: ...
def tool(function: Any = None, /, **options: Any) -> Any:
    """Marks a method of a ``ToolEnv`` (or a function) as a tool.

    Args:
        function: What is decorated.
        options: ``name``, ``inline`` and ``timeout_s`` of ``Tool.of``.

    Raises:
        DataError: It is used otherwise, as in ``@tool("name")``.
    """
    marks = callable(function) or isinstance(function, classmethod | property)
    if not (function is None or marks) or set(options) - _OPTIONS:
        raise DataError(
            f"@tool: {', '.join(set(options) - _OPTIONS) or repr(function)[:100]}: it takes "
            "keywords only: @tool(name=..., timeout_s=..., inline=...)"
        )

    def mark(marked: Function) -> Function:
        setattr(marked, _MARK, options)
        return marked

    return mark if function is None else mark(function)


def is_marked(value: Any) -> bool:
    """Whether ``tool`` decorated it."""
    return inspect.isfunction(value) and hasattr(value, _MARK)


def method_tools(cls: type) -> tuple[Tool, ...]:
    """The marked methods of a class, those of its bases first, an override in its base's place.

    An override without a mark has that of its base; one that is no method (None) is no tool.

    Raises:
        DataError: No tool can be made of one.
    """
    made: tuple[Tool, ...] | None = vars(cls).get("_made_tools")
    if made is None:
        marks: dict[str, dict[str, Any]] = {}
        for base in reversed(cls.__mro__):
            for name, value in vars(base).items():
                options = _mark_of(value)
                marks |= {name: options} if options is not None else {}
        made = tuple(
            _method_tool(cls, inspect.getattr_static(cls, name), name, options)
            for name, options in marks.items()
            if inspect.getattr_static(cls, name) is not None
        )
        cls._made_tools = made  # type: ignore[attr-defined]  # a cache on the class itself
    return made


def _mark_of(value: Any) -> dict[str, Any] | None:
    """The options with which something in a class was marked, also below a decorator."""
    if not isinstance(value, FunctionType | staticmethod | classmethod | property):
        return None
    inner = (value, getattr(value, "__func__", None), getattr(value, "fget", None))
    return next((vars(e)[_MARK] for e in inner if _MARK in getattr(e, "__dict__", ())), None)


def _method_tool(cls: type, value: Any, name: str, options: dict[str, Any]) -> Tool:
    if not inspect.isfunction(value):
        raise DataError(
            f"tool {cls.__name__}.{name}: it is a {type(value).__name__}; @tool marks plain methods"
        )
    return tool_of(value) if is_marked(value) else Tool.of(value, **options)


def tool_of(function: Callable[..., Any]) -> Tool:
    """The tool of a function, decorated or not; made once.

    Raises:
        DataError: No tool can be made of it.
    """
    if not callable(function) or inspect.isclass(function):
        raise DataError(f"tools: {function!r:.200} is no function")
    if inspect.isfunction(function):
        return _made_once(function)
    return Tool.of(function, **getattr(function, _MARK, {}))  # its owner is not kept alive here


@lru_cache(maxsize=1024)
def _made_once(function: Callable[..., Any]) -> Tool:
    return Tool.of(function, **getattr(function, _MARK, {}))


def _name_of(function: Any) -> str:
    if isinstance(function, functools.partial):
        return _name_of(function.func)
    return str(getattr(function, "__name__", type(function).__name__))


def _typed(function: Any) -> Any:
    """Where the docstring and the types of something callable stand."""
    if isinstance(function, functools.partial):
        return _typed(function.func)
    return function if inspect.isroutine(function) else type(function).__call__


def _docstring(function: Callable[..., Any], name: str) -> tuple[str, dict[str, str]]:
    """The description of a function, and of each parameter."""
    import docstring_parser  # noqa: PLC0415 - only environments with tools need it

    parsed = docstring_parser.parse(
        inspect.getdoc(_typed(function)) or "", style=docstring_parser.DocstringStyle.GOOGLE
    )
    parts = [p for p in (parsed.short_description, parsed.long_description) if p]
    if not parts:
        raise DataError(
            f"tool {name}: it has no docstring; its first line tells the policy what it is for"
        )
    return "\n\n".join(parts), {p.arg_name: p.description or "" for p in parsed.params}


def _fields(
    function: Callable[..., Any], name: str, documented: Mapping[str, str]
) -> dict[str, tuple[Any, Any, str]]:
    """Type, default and description of each parameter."""
    parameters = list(inspect.signature(function).parameters.values())
    if parameters and parameters[0].name == "self":
        parameters = parameters[1:]
    try:
        types = typing.get_type_hints(_typed(function), include_extras=True)
    except Exception as error:
        raise DataError(
            f"tool {name}: its types cannot be read: {error}; types are looked up in its module"
        ) from error
    fields: dict[str, tuple[Any, Any, str]] = {}
    for parameter in parameters:
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise DataError(
                f"tool {name}: {parameter} cannot be called by keyword; name each parameter"
            )
        if parameter.name not in types:
            raise DataError(
                f"tool {name}: parameter {parameter.name!r} has no type; write, for example, "
                f"{parameter.name}: str"
            )
        default = ... if parameter.default is parameter.empty else parameter.default
        described = documented.get(parameter.name, "")
        fields[parameter.name] = (types[parameter.name], default, described)
    unknown = sorted(set(documented) - set(fields))
    if unknown and not isinstance(function, functools.partial):
        raise DataError(f"tool {name}: its docstring describes {unknown[0]!r}, no such parameter")
    return fields


def _model(name: str, fields: Mapping[str, tuple[Any, Any, str]]) -> tuple[Any, dict[str, Any]]:
    """A pydantic model of the arguments and its JSON schema."""
    import pydantic  # noqa: PLC0415 - only environments with tools need it

    # The attributes are numbered, for a parameter may be called as something that a model has.
    made: dict[str, Any] = {
        f"argument_{n}": (
            annotation,
            pydantic.Field(default, alias=parameter, description=described or None),
        )
        for n, (parameter, (annotation, default, described)) in enumerate(fields.items())
    }
    try:
        model = pydantic.create_model(
            name, __config__=pydantic.ConfigDict(extra="forbid", strict=False), **made
        )
        schema = model.model_json_schema(by_alias=True)
    except Exception as error:
        line = str(error).splitlines()[0]
        raise DataError(f"tool {name}: no JSON schema can be made of its types: {line}") from error
    return model, _without_titles(schema)


def _without_titles(schema: Any) -> Any:
    """The schema without pydantic's titles, which tell a policy nothing."""
    if isinstance(schema, list):
        return [_without_titles(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {}
    for key, value in schema.items():
        if key == "title" and isinstance(value, str):
            continue
        if key in ("properties", "$defs"):
            kept[key] = {name: _without_titles(part) for name, part in value.items()}
        else:
            kept[key] = _without_titles(value)
    return kept


def _checker(model: Any) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Arguments as the function takes them.

    What JSON leaves open is read kindly ("3" for a number), unknown names are refused.
    """
    import pydantic  # noqa: PLC0415 - only environments with tools need it

    names = {key: field.alias or key for key, field in model.model_fields.items()}

    def check(arguments: Mapping[str, Any]) -> dict[str, Any]:
        try:
            read = model.model_validate(arguments)
        except pydantic.ValidationError as error:
            raise ToolError(_problems(error, sorted(names.values()))) from None
        except RecursionError:
            raise ToolError("the arguments nest too deeply") from None
        given = read.model_fields_set
        return {names[key]: getattr(read, key) for key in names if key in given}

    return check


def _problems(error: Any, known: list[str]) -> str:
    lines = []
    problems = error.errors(include_url=False, include_context=False, include_input=True)
    for problem in problems[:MOST_PROBLEMS]:
        place = ".".join(str(part) for part in problem["loc"])[:SHOWN_CHARACTERS]
        if problem["type"] == "extra_forbidden":
            lines.append(f"there is no parameter {place!r}; there are {', '.join(known) or 'none'}")
        elif problem["type"] == "missing":
            lines.append(f"parameter {place!r} is missing")
        else:
            shown = repr(problem["input"])[:SHOWN_CHARACTERS]
            lines.append(f"parameter {place!r}: {problem['msg']}, not {shown}")
    return "; ".join(lines)
