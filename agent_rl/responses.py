"""What a sampled completion says: text, thinking, and calls in the model's own notation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, NotRequired

from agent_rl.chat_template import ChatTemplate, Tools
from agent_rl.errors import UserError
from rl_envs.tools.formats import FORMATS, Parsed, call_format, from_message, visible
from rl_envs.types import Message

if TYPE_CHECKING:
    from agent_rl.chat import Chat

MAX_CHARACTERS = 200_000  # of a completion in which calls are looked for
THINK_OPEN, THINK_CLOSE = "<think>", "</think>"


class ParsedMessage(Message):
    """An assistant's message read from what it sampled.

    ``problems`` has a line for each call that was tried and cannot be read; ``content`` then is the
    whole text. ``reasoning_content`` is the thinking.
    """

    problems: NotRequired[list[str]]
    reasoning_content: NotRequired[str]


def notation(template: ChatTemplate) -> str | None:
    """The notation in which a template writes calls; None where it writes none that we know.

    ``hermes``, ``llama3``, ``mistral`` and ``xml`` are those of the environments; ``deepseek`` and
    ``harmony`` are read here.
    """
    call = template.call_text("probe0name", {"probe0key": "probe0value"})
    if call is None:
        return None
    signs = {
        "[TOOL_CALLS]": "mistral",
        "<function=": "xml",
        '<tool_call>\n{"name"': "hermes",
        "<\uff5ctool\u2581call\u2581begin\uff5c>": "deepseek",
        "functions.probe0name": "harmony",
        '"parameters"': "llama3",
    }
    return next((name for sign, name in signs.items() if sign in call), None)


def refuse_other_notation(chat: Chat, tools: Tools | None, name: str) -> None:
    """Stop where the template tells the tools, but an environment would call them otherwise.

    With ``call_format: template`` its demonstrations call in the notation ``hermes``.

    Raises:
        UserError: The template writes calls in another one.
    """
    if not tools or chat.call_format == "hermes":
        return
    meant = chat.call_format if chat.call_format in FORMATS else "hermes"
    raise UserError(
        f"{name} demonstrates calls in the notation `hermes`, but the chat template's is "
        f"`{chat.call_format or 'none'}`; set the environment's option `call_format: {meant}` in "
        "place of `template`"
    )


def parse(chat: Chat, text: str, tools: Tools | None, prompt: str) -> ParsedMessage:
    """The message of a completion's text; never raises on what a model wrote."""
    if len(text) > MAX_CHARACTERS:
        return _kept(text, f"a completion of over {MAX_CHARACTERS:,} characters is not read")
    if getattr(chat.tokenizer, "response_template", None):
        return _by_tokenizer(chat, text, tools, prompt)
    name = chat.call_format
    if name in _READERS:
        return _by_reader(_READERS[name], text)
    return _by_format(name or "hermes", text, tools)


def _by_tokenizer(chat: Chat, text: str, tools: Tools | None, prompt: str) -> ParsedMessage:
    try:
        made = chat.tokenizer.parse_response(text, prefix=prompt, tools=list(tools or ()))
    except Exception as error:  # the parser of a model's folder may raise anything
        line = " ".join(str(error).split())[:300]
        return _kept(text, f"the model's own parser cannot read it: {line}")
    if not isinstance(made, Mapping):
        return _kept(text, "the model's own parser made no message of it")
    content = made.get("content")
    message = ParsedMessage(role="assistant", content=content if isinstance(content, str) else "")
    thought = next((made[k] for k in ("reasoning_content", "thinking") if k in made), None)
    if isinstance(thought, str):
        message["reasoning_content"] = thought
    stated = made.get("tool_calls")
    return _with(message, from_message({"tool_calls": stated}), text)


def _by_format(name: str, text: str, tools: Tools | None) -> ParsedMessage:
    """By one of the environments' notations."""
    known = {}
    for tool in tools or ():
        function = tool.get("function", tool)
        known[function["name"]] = _Known(function["name"], function.get("parameters") or {})
    message, said = _without_thinking(text)
    parsed = call_format(name).parse(text, known)
    message["content"] = parsed.text if parsed.calls else said
    return _with(message, parsed, text)


def _by_reader(reader: Callable[[str], Iterator[_Call]], text: str) -> ParsedMessage:
    """By a notation that only a model's own template writes."""
    message, said = _harmony_texts(text) if reader is _harmony else _without_thinking(text)
    heard = text if reader is _harmony else visible(text)  # thinking is never read for calls
    try:
        stated = [{"function": call._asdict()} for call in reader(heard)]
    except ValueError as error:
        return _with(message, Parsed(text, (), (str(error),)), text)
    parsed = from_message({"tool_calls": stated})
    message["content"] = said.partition(_BEGIN_ALL)[0].strip() if parsed.calls else said
    return _with(message, parsed, text)


def _with(message: ParsedMessage, parsed: Parsed, text: str) -> ParsedMessage:
    if parsed.problems:
        message["content"], message["problems"] = text, list(parsed.problems)
    if parsed.calls:
        message["tool_calls"] = [
            {
                "id": call.id or f"call{n + 1:05d}",
                "type": "function",
                "function": {"name": call.name, "arguments": dict(call.arguments)},
            }
            for n, call in enumerate(parsed.calls)
        ]
    return message


def _kept(text: str, problem: str) -> ParsedMessage:
    return ParsedMessage(role="assistant", content=text, problems=[problem])


def _without_thinking(text: str) -> tuple[ParsedMessage, str]:
    """A message with the thinking, and the rest: what stands before the last closing tag."""
    message = ParsedMessage(role="assistant", content="")
    thought, found, said = text.rpartition(THINK_CLOSE)
    if not found:
        return message, text
    message["reasoning_content"] = thought.partition(THINK_OPEN)[2].strip() or thought.strip()
    return message, said.lstrip("\n")


class _Call(NamedTuple):
    """A call as it stands: the arguments are JSON text."""

    name: str
    arguments: str


class _Known(NamedTuple):
    name: str
    schema: Mapping[str, Any]


_BEGIN_ALL = "<\uff5ctool\u2581calls\u2581begin\uff5c>"
_BEGIN = "<\uff5ctool\u2581call\u2581begin\uff5c>"
_END = "<\uff5ctool\u2581call\u2581end\uff5c>"
_SEP = "<\uff5ctool\u2581sep\uff5c>"


def _deepseek(text: str) -> Iterator[_Call]:
    """``begin function sep NAME``, a fenced JSON object, ``end``; or ``begin NAME sep {} end``."""
    for part in text.split(_BEGIN)[1:]:
        body, found, _ = part.partition(_END)
        head, sep, rest = body.partition(_SEP)
        if not found or not sep:
            raise ValueError(f"a call begins with {_BEGIN} and ends with {_END}")
        if head.strip() == "function":
            head, _, rest = rest.partition("\n")
        rest = rest.strip().removeprefix("```json").removesuffix("```")
        yield _Call(head.strip(), rest)


def _harmony(text: str) -> Iterator[_Call]:
    """``to=functions.NAME`` in the header of a message; its text is a JSON object."""
    for part in text.split("<|start|>"):
        header, found, body = part.partition("<|message|>")
        words = header.replace("<|", " <|").split()
        to = next((word[3:] for word in words if word.startswith("to=")), None)
        if found and to is not None:
            yield _Call(to.removeprefix("functions."), body.partition("<|")[0])


def _harmony_texts(text: str) -> tuple[ParsedMessage, str]:
    """The thinking (channel ``analysis``) and what is said (channel ``final``)."""
    channels: dict[str, list[str]] = {"analysis": [], "final": [], "commentary": []}
    for part in text.split("<|start|>"):
        header, found, body = part.partition("<|message|>")
        if not found or " to=" in header:
            continue
        channel = next((name for name in channels if name in header), "final")
        channels[channel].append(body.partition("<|end|>")[0].partition("<|return|>")[0])
    message = ParsedMessage(role="assistant", content="")
    if channels["analysis"]:
        message["reasoning_content"] = "\n".join(channels["analysis"])
    said = [*channels["commentary"], *channels["final"]]
    return message, "\n".join(said) if said or channels["analysis"] else text


_READERS: dict[str | None, Callable[[str], Iterator[_Call]]] = {
    "deepseek": _deepseek,
    "harmony": _harmony,
}
