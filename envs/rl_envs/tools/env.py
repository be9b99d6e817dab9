"""Environments whose policy calls tools: its calls are carried out, it sees the results."""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from rl_envs.core import Reply, TextEnv
from rl_envs.tasks import DataError
from rl_envs.tools import execution
from rl_envs.tools.formats import (
    MAX_CALLS,
    CallFormat,
    Parsed,
    ParsedCall,
    call_format,
    from_message,
)
from rl_envs.tools.results import ToolResult, as_text, cut
from rl_envs.tools.tool import (
    Finish,
    Tool,
    ToolError,
    ToolFailure,
    ToolFault,
    method_tools,
    tool_of,
)
from rl_envs.types import Action, Message
from rl_sandboxes import SandboxError
from rl_verifiers.score import Score

ERROR_CHARACTERS = 500
COUNTS = ("calls", "malformed", "unknown", "errors", "timeouts", "over_budget")

ToolSpec = Tool | Callable[..., Any] | Mapping[str, Any]
"""A tool, a typed function, or ``{"mcp": {...}}`` for all tools of an MCP server."""


@dataclass(frozen=True, slots=True)
class _Ended:
    """A call that ended the episode."""

    answer: str


class ToolEnv(TextEnv):
    """An environment whose policy calls tools until it answers.

    Tools are methods marked with ``@tool`` (state of the episode lives on ``self``), functions
    given as ``tools``, or those of an MCP server. An action with calls is answered by their
    results; one without any is the answer, and ``finished`` judges it. Whatever goes wrong with a
    call is told to the policy and counted; only a ``ToolFailure`` is ours.

    Args:
        tools: More tools: functions, ``Tool`` objects, or ``{"mcp": {...}}``.
        call_format: How calls are written: ``hermes``, ``llama3``, ``mistral``, ``openai-json``,
            ``python``, ``tag``, ``xml``, or ``template``: the model's own chat template tells the
            tools, and its parser reads the calls.
        describe_tools: Tell the tools and the notation in the system prompt. Default: unless the
            format is ``template``.
        results: The role of a message with a result: ``tool``, or ``user`` for a template that has
            no such role.
        tool_timeout_s: Longest call in seconds.
        max_calls: Calls per episode; later ones are refused. None: no limit but ``max_turns``.
        max_output_chars: Longest result in characters; its middle is cut out.
        malformed_penalty: Subtracted from a turn's reward for each call that cannot be read.
        error_text: What a call that went wrong is answered with; None tells what went wrong. For
            models whose alphabet cannot write that.
        options: Those of ``TextEnv``.

    With the format ``template``, ``reset`` gives the tools for the template as
    ``info["definitions"]``; ``info["tools"]`` of a step holds ``counts``.

    Attributes:
        counts: Of this episode: ``calls`` carried out, ``malformed``, ``unknown`` (no such tool),
            ``errors`` (the call was refused or raised), ``timeouts``, ``over_budget`` (more than
            ``max_calls``, or behind the call that ended the episode). What the policy asked for is
            ``calls + malformed + unknown + over_budget``; of over 64 calls at once none is read,
            and that is one ``malformed``.
        results_of_turn: The results of the last action's calls, uncut.
        faults: What looks like an author's mistake in a tool (a NameError, say), by its name; the
            policy heard it as any other error. Of all episodes of this object.

    Raises:
        DataError: A tool without types or docstring, two of one name, an unknown format.
    """

    max_turns = 8
    _judging_hooks = (*TextEnv._judging_hooks, "finished")
    call_format: Any = "hermes"
    describe_tools: bool | None = None
    results: Literal["tool", "user"] = "tool"
    tool_timeout_s: float = 30.0
    max_calls: int | None = None
    max_output_chars: int = 4000
    malformed_penalty: float = 0.0
    error_text: str | None = None
    extra_tools: ClassVar[Sequence[ToolSpec]] = ()

    def __init__(
        self,
        *,
        tools: Sequence[ToolSpec] = (),
        call_format: str | None = None,
        describe_tools: bool | None = None,
        results: Literal["tool", "user"] | None = None,
        tool_timeout_s: float | None = None,
        max_calls: int | None = None,
        max_output_chars: int | None = None,
        malformed_penalty: float | None = None,
        error_text: str | None = None,
        **options: Any,
    ) -> None:
        given = {
            "call_format": call_format,
            "describe_tools": describe_tools,
            "results": results,
            "tool_timeout_s": tool_timeout_s,
            "max_calls": max_calls,
            "max_output_chars": max_output_chars,
            "malformed_penalty": malformed_penalty,
            "error_text": error_text,
        }
        for name, value in given.items():
            if value is not None:
                setattr(self, name, value)
        super().__init__(**options)
        self._specs = (*self.extra_tools, *tools)
        self._tools: dict[str, Tool] | None = None
        self._format: CallFormat = _format(self.call_format)
        self._servers: tuple[Any, ...] = ()
        self._text: str | None = None  # of the system prompt
        self.counts: dict[str, int] = dict.fromkeys(COUNTS, 0)
        self.results_of_turn: list[ToolResult] = []
        self.faults: dict[str, str] = {}
        self._pay = 0.0
        self._is_text = True
        method_tools(type(self))  # an author hears of a bad one now

    def _check_options(self) -> None:
        super()._check_options()
        name = type(self).__name__
        if self.results not in ("tool", "user"):
            raise DataError(f"{name}: results is {self.results!r}; it must be 'tool' or 'user'")
        for option, kind in (("tool_timeout_s", int | float), ("max_output_chars", int)):
            value = getattr(self, option)
            if not (isinstance(value, kind) and value > 0):
                raise DataError(f"{name}: {option} is {value!r}; it must be a number above 0")
        if not (self.max_calls is None or (isinstance(self.max_calls, int) and self.max_calls > 0)):
            raise DataError(f"{name}: max_calls is {self.max_calls!r}; it must be at least 1")
        penalty = self.malformed_penalty
        if not (isinstance(penalty, int | float) and 0 <= penalty < math.inf):
            raise DataError(
                f"{name}: malformed_penalty is {penalty!r}; it is subtracted, so it must be a "
                "number of 0 or more"
            )

    # Hooks, beside those of TextEnv.

    def finished(self, answer: str) -> Reply | Awaitable[Reply]:
        """The reply to an action without any call, or to a tool's ``Finish``. Default: judge it."""
        return self._judged(answer)

    # What authors and oracles use.

    @property
    def tools(self) -> Mapping[str, Tool]:
        """The tools by name, bound to this episode.

        Raises:
            DataError: Two have one name, or none can be made of what was given.
        """
        if self._tools is None:
            found: dict[str, Tool] = {}
            for each in (
                *(made.bound(self) for made in method_tools(type(self))),
                *(made for spec in self._specs for made in _tools_of(spec, type(self).__name__)),
            ):
                if each.name in found:
                    raise DataError(f"{type(self).__name__}: two tools are called {each.name!r}")
                found[each.name] = each
            if not found:
                raise DataError(
                    f"{type(self).__name__} has no tools: mark methods with @tool or give `tools`"
                )
            try:
                self._format.check(found)
            except DataError as error:
                raise DataError(f"{type(self).__name__}: {error}") from None
            self._tools = found
            self._servers = tuple({id(s): s for s in map(_server, found.values()) if s}.values())
        return self._tools

    @property
    def definitions(self) -> list[dict[str, Any]]:
        """The tools as OpenAI's ``tools`` list them."""
        return [each.definition for each in self.tools.values()]

    def call_text(self, name: str, /, **arguments: Any) -> str:
        """A call as a policy would write it in the present format."""
        return self._format.write([ParsedCall(name, arguments)], tools=self.tools)

    def pay(self, amount: float) -> None:
        """Adds to the reward of this turn; for tools that earn or cost something.

        Nothing is paid for a call whose time was up.
        """
        if not execution.is_left_behind():
            self._pay += amount

    def system_text(self) -> str | None:
        """The system prompt, with the tools where they are described there."""
        if self._text is None:
            told = self.describe_tools
            if told is None:
                told = self.call_format != "template"
            parts = [self.system_prompt or ""]
            parts += [self._format.describe(self.definitions)] if told else []
            self._text = "\n\n".join(part for part in parts if part)
        return self._text or None

    # The episode.

    def _begin(self, seed: int | None, options: dict[str, Any] | None) -> Any:
        begun = super()._begin(seed, options)
        self.counts = dict.fromkeys(COUNTS, 0)
        self.results_of_turn, self._pay = [], 0.0
        _ = self.tools
        for server in self._servers:
            server.begin()
        return begun

    def close(self) -> None:
        """Gives back what the tools hold: the connections of this episode to MCP servers."""
        for server in self._servers:
            server.close()

    def _opened(self, opening: Any, index: int | None) -> Any:
        observation, info = super()._opened(opening, index)
        if self.call_format == "template":
            info["definitions"] = self.definitions
        return observation, info

    async def respond(self, action: str) -> Reply:
        """Carries out the calls of an action; without any, ends the episode by ``finished``.

        Raises:
            ToolFailure: A tool failed us.
        """
        self.results_of_turn, self._pay = [], 0.0
        parsed = self._parsed(action)
        if not parsed.calls and not parsed.problems:
            return self._paid(await self._finish(action))
        ended = await self._carry_out(parsed)
        if ended is not None:
            return self._paid(await self._finish(ended.answer))
        messages = [self.result_message(result) for result in self.results_of_turn]
        if self.turn < self.max_turns:
            return self._paid(Reply(messages=messages))
        score = Score.wrong(f"no answer within {self.max_turns} turns", status="over_limit")
        return self._paid(Reply(messages=messages, truncated=True, score=score))

    def _heard(self, action: Action) -> str:
        self._is_text = isinstance(action, str)  # a message was read already
        return super()._heard(action)

    def _parsed(self, action: str) -> Parsed:
        spoken: Mapping[str, Any] = self.messages[-1]
        problems = tuple(spoken.get("problems") or ())  # of the model's own parser
        if spoken.get("tool_calls"):  # an endpoint or that parser read them
            read = from_message(spoken)
            return read._replace(problems=(*problems, *read.problems))
        if problems or (self.call_format == "template" and not self._is_text):
            return Parsed(action, (), problems)
        return self._format.parse(action, self.tools)

    async def _carry_out(self, parsed: Parsed) -> _Ended | None:
        for problem in parsed.problems[:MAX_CALLS]:
            self.results_of_turn.append(ToolResult("", {}, f"Error: {problem}", is_error=True))
        self.counts["malformed"] += len(parsed.problems)
        self._pay -= self.malformed_penalty * len(parsed.problems)
        for place, call in enumerate(parsed.calls, 1):
            result = await self._result(call)
            if isinstance(result, _Ended):
                self.counts["over_budget"] += len(parsed.calls) - place
                return result
            self.results_of_turn.append(result)
        return None

    async def _result(self, call: ParsedCall) -> ToolResult | _Ended:
        """What comes of a call; our failures are raised, all others are text."""
        chosen = self.tools.get(call.name)
        if self.max_calls is not None and self.counts["calls"] >= self.max_calls:
            why = f"no calls are left (at most {self.max_calls}); answer now"
            return self._error(call, "over_budget", why)
        if chosen is None:
            why = f"there is no tool {call.name[:100]!r}; there are {', '.join(self.tools)}"
            return self._error(call, "unknown", why)
        self.counts["calls"] += 1
        return await self._carried_out(chosen, call)

    async def _carried_out(self, chosen: Tool, call: ParsedCall) -> ToolResult | _Ended:
        try:
            arguments = chosen.check(call.arguments)
            value = await execution.call(chosen, arguments, self.tool_timeout_s)
            if isinstance(value, Finish):
                return _Ended(as_text(value.answer))
            return ToolResult(call.name, call.arguments, as_text(value), call_id=call.id)
        except (ToolFailure, SandboxError) as error:
            raise ToolFailure(f"tool {call.name}: {error}") from error
        except execution.ToolTimeout as error:
            return self._error(call, "timeouts", str(error))
        except ToolError as error:
            if isinstance(error, ToolFault):
                self.faults.setdefault(call.name, str(error)[:ERROR_CHARACTERS])
            return self._error(call, "errors", str(error))
        except Exception as error:  # of what checks the arguments or writes the result
            return self._error(call, "errors", execution.told(error))

    def _error(self, call: ParsedCall, kind: str, text: str) -> ToolResult:
        self.counts[kind] += 1
        line = text[:ERROR_CHARACTERS]
        return ToolResult(
            call.name, call.arguments, f"Error: {line}", is_error=True, call_id=call.id
        )

    async def _finish(self, answer: str) -> Reply:
        reply = self.finished(answer)
        return await reply if inspect.isawaitable(reply) else reply

    def _paid(self, reply: Reply) -> Reply:
        """The reply with what the turn's tools earned and cost, and the counts."""
        return Reply(
            reply.messages,
            reply.reward + self._pay,
            reply.terminated,
            reply.truncated,
            reply.score,
            {**reply.info, "tools": dict(self.counts)},
        )

    def result_message(self, result: ToolResult) -> Message:
        """The message that tells a result to the policy."""
        content = cut(result.content, self.max_output_chars)
        if result.is_error and self.error_text is not None:
            content = self.error_text
        if self.results == "user":
            return Message(role="user", content=content)
        message = Message(role="tool", content=content)
        if result.name in self.tools:  # any other name is the policy's own text, of any length
            message["name"] = result.name
        if result.call_id:
            message["tool_call_id"] = result.call_id
        return message

    def clone(self) -> Self:
        """As ``TextEnv.clone``; the system prompt is not written again."""
        twin = super().clone()
        twin._text = self._text = self.system_text()
        return twin

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_tools": None, "_servers": ()}  # bound to the instance


def _tools_of(spec: ToolSpec, owner: str) -> Sequence[Tool]:
    if isinstance(spec, Tool):
        return (spec,)
    if isinstance(spec, Mapping):
        if set(spec) != {"mcp"}:
            raise DataError(f'{owner}: tools: {dict(spec)} is no tool; write {{"mcp": {{...}}}}')
        from rl_envs.tools.mcp import tools_of  # noqa: PLC0415 - an extra

        return tools_of(spec["mcp"], owner)
    return (tool_of(spec),)


def _server(each: Tool) -> Any:
    """The MCP server that offers a tool, if one does."""
    return getattr(each, "server", None)


def _format(name: str) -> CallFormat:
    """The format of a name. With ``template``, texts (of an expert, say) are read as hermes."""
    return call_format("hermes" if name == "template" else name)
