"""``agent-rl play``: a person answers in the place of the policy."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console as Terminal
from rich.text import Text

import rl_envs
from agent_rl.errors import UserError
from agent_rl.overrides import override_tree
from agent_rl.runs.text import clean
from rl_envs.tools import Tool, ToolEnv
from rl_envs.tools.formats import call_format
from rl_envs.types import Message, Observation

HINT = (
    "a call: /tool name=value ... (/tool and a text where that is all it takes); "
    "a line without a call is the final answer; /help lists the tools"
)


def play(
    env_id: str,
    overrides: Sequence[str],
    *,
    seed: int,
    index: int | None,
    episodes: int,
    raw: bool = False,
) -> int:
    """Play episodes from standard input; the end of input ends the game.

    Args:
        env_id: An id, or ``file.py[:Class]``.
        overrides: Constructor options, as in ``--terms 3``.
        seed: Of the first episode; the next ones count up.
        index: Play this task; None draws one.
        episodes: How many; 0 for as long as there is input.
        raw: Show the system prompt of a tool environment exactly as a policy sees it.

    Raises:
        UserError: The index is outside the environment's tasks.
        DataError: No such environment or option.
    """
    options = override_tree(overrides)
    env = rl_envs.make(env_id, **options)
    try:
        env.prepare()
        size = env.tasks.size
        if index is not None and (index < 0 or (size is not None and index >= size)):
            raise UserError(f"--index {index}: {env_id} has {size or 'endless'} tasks, from 0 on")
        if hasattr(sys.stdin, "reconfigure"):
            sys.stdin.reconfigure(errors="backslashreplace")
        terminal = Terminal(markup=False, highlight=False, emoji=False)
        if isinstance(env, ToolEnv):
            _print(terminal, HINT, style="dim")
        number = 0
        while episodes == 0 or number < episodes:
            if not _episode(env, terminal, seed + number, index, raw=raw):
                break
            number += 1
    finally:
        env.close()
    return 0


def _episode(
    env: rl_envs.TextEnv, terminal: Terminal, seed: int, index: int | None, *, raw: bool
) -> bool:
    """One episode; False when the input ended."""
    observation, info = env.reset(seed=seed, options={} if index is None else {"index": index})
    _print(terminal, f"--- task {info['task_id']}", style="dim")
    if isinstance(env, ToolEnv) and not raw:
        observation = _with_short_tools(env, observation)
    total = 0.0
    while True:
        _print_messages(terminal, observation)
        action = _action(env, terminal)
        if action is None:
            _print(terminal, "\n(end of input)")
            return False
        observation, reward, terminated, truncated, info = env.step(action)
        total += reward
        over = terminated or truncated
        if reward or over:
            verdict = _verdict(info.get("score"))
            _print(terminal, f"reward {reward:g}{verdict}", style="green" if reward > 0 else "red")
        if over:
            _print_messages(terminal, observation)
            how = "ended" if terminated else "cut by its limit"
            turns = "1 turn" if env.turn == 1 else f"{env.turn} turns"
            _print(terminal, f"episode {how} after {turns}; return {total:g}")
            return True


def _verdict(score: Any) -> str:
    if score is None:
        return ""
    return f"  {score.status}: {score.reason}" if score.reason else f"  {score.status}"


def _action(env: rl_envs.TextEnv, terminal: Terminal) -> str | None:
    """What is sent; in a tool environment ``/tool ...`` is a call. None at the end of input."""
    while True:
        text = _heard(terminal)
        if text is None or not isinstance(env, ToolEnv) or not text.startswith("/"):
            return text
        name = text[1 : 1 + len(text[1:].split()[0])] if text[1:2].strip() else ""
        rest = text[1 + len(name) :].lstrip()
        if name == "help":
            _print(terminal, "\n".join(tool_lines(env.tools)))
            _print(terminal, "a line without a call is the final answer")
            continue
        try:
            return _call(env, name, rest)
        except ValueError as error:
            _print(terminal, f"{error}; nothing was sent", style="red")


def _call(env: ToolEnv, name: str, rest: str) -> str:
    """A call as the policy would write it.

    Args:
        env: Whose tools there are.
        name: Of the tool.
        rest: What was typed behind it.

    Raises:
        ValueError: It is no call, and why.
    """
    tool = env.tools.get(name)
    if tool is None:
        raise ValueError(
            f"there is no tool /{name}; there are {', '.join(f'/{each}' for each in env.tools)} "
            "(an answer that begins with / needs a space before it)"
        )
    parameters = _parameters(tool)
    if len(parameters) == 1 and "string" in _kinds(*parameters.values()):
        ((only, schema),) = parameters.items()
        arguments = {only: _value(rest, schema)} if rest else {}
        return env.call_text(name, **arguments)
    arguments = {}
    for word in shlex.split(rest):
        key, equals, value = word.partition("=")
        if not equals:
            raise ValueError(f"{word!r} is not name=value: {_signature(tool)}")
        if key not in parameters:
            raise ValueError(f"there is no parameter {key!r}: {_signature(tool)}")
        arguments[key] = _value(value, parameters[key])
    return env.call_text(name, **arguments)


def _value(text: str, schema: Any) -> Any:
    """JSON, else the text; where a text is expected, 5 and true are texts too."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    kinds = _kinds(schema)
    types = {bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}
    kind = "null" if value is None else types.get(type(value), "a text in quotes")
    fits = kind in kinds or (kind == "integer" and "number" in kinds)
    return text if "string" in kinds and not fits else value


def _kinds(schema: Any) -> set[str]:
    """The JSON types that a schema names."""
    if not isinstance(schema, Mapping):
        return set()
    named = schema.get("type") or ()
    kinds = {named} if isinstance(named, str) else {str(each) for each in named}
    for option in schema.get("anyOf") or ():
        kinds |= _kinds(option)
    return kinds


def _parameters(tool: Tool) -> Mapping[str, Any]:
    found = tool.schema.get("properties")
    return found if isinstance(found, Mapping) else {}


def _signature(tool: Tool) -> str:
    """``name(param, param=default)``; ``...`` for a default that the schema does not tell."""
    required = tool.schema.get("required") or ()
    shown = []
    for name, schema in _parameters(tool).items():
        told = isinstance(schema, Mapping) and "default" in schema
        default = json.dumps(schema["default"], ensure_ascii=False) if told else "..."
        shown.append(name if name in required else f"{name}={default}")
    return f"{tool.name}({', '.join(shown)})"


def tool_lines(tools: Mapping[str, Tool]) -> list[str]:
    """One line for each tool: how it is called, and the first line of its description."""
    lines = []
    for tool in tools.values():
        first = tool.description.strip().partition("\n")[0]
        lines.append(f"  {_signature(tool)}" + (f": {first}" if first else ""))
    return lines


def _with_short_tools(env: ToolEnv, observation: Observation) -> Observation:
    """The first messages with one line for each tool in place of the schemas."""
    tools = "\n".join(["tools:", *tool_lines(env.tools)])
    notation = "hermes" if env.call_format == "template" else env.call_format
    described = call_format(notation).describe(env.definitions)
    first = observation[0] if observation else None
    if first is None or first["role"] != "system":
        return (Message(role="system", content=tools), *observation)
    told = first["content"]  # without them, where the policy's template tells them, or nothing
    content = told.replace(described, tools) if described in told else f"{told}\n\n{tools}"
    return (Message(role="system", content=content), *observation[1:])


def _heard(terminal: Terminal) -> str | None:
    r"""One answer: a line; more while one ends with ``\`` or a fence is open; None at the end."""
    lines: list[str] = []
    while True:
        terminal.print("you> " if not lines else "...> ", end="", style="bold")
        line = sys.stdin.readline()
        if not line:
            return "\n".join(lines) if lines else None
        text = line.rstrip("\r\n")
        goes_on = text.endswith("\\")
        lines.append(text[:-1] if goes_on else text)
        fences = sum(each.lstrip().startswith("```") for each in lines)
        if not goes_on and fences % 2 == 0:
            return "\n".join(lines)


def _print_messages(terminal: Terminal, messages: Sequence[Message]) -> None:
    for message in messages:
        _print(terminal, f"{message['role']}: {message.get('content') or ''}")


def _print(terminal: Terminal, text: str, style: str | None = None) -> None:
    """Plain characters only: what an environment or a verifier says is not markup."""
    safe = clean(text, terminal.encoding)
    terminal.print(Text(safe), style=style, soft_wrap=True)
