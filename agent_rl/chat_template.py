"""A tokenizer's chat template: what it writes for messages, and what follows an assistant's text.

What follows is found by rendering a conversation whose assistant speaks a mark, so that no
template has to be known. Messages of role ``tool`` need an assistant that called them in many
families (Llama 3, Mistral, harmony); the ways to write one are tried until the template takes it.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, cast

from agent_rl.errors import UserError
from rl_envs.types import Message

MARK = "assistant0text0stands0here"  # survives trimming and JSON
ASK: Message = {"role": "user", "content": "?"}
PROBES = ("result0one0zq", "result0two0zq")
RESULTS_AS_USER = "set the environment's option `results: user`"

Tools = Sequence[Mapping[str, Any]]


def mended(text: str) -> str:
    """A text with ``?`` for lone surrogates, which no tokenizer takes."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


class ChatTemplate:
    """The template of one tokenizer.

    Attributes:
        tokenizer: Holds the template.
        names: The strings of its added tokens, which are never part of a word, by id.
        end: The string that the template writes after an assistant's last text, if it is one token.
        alone: What it writes after an assistant's text that nothing follows.
        call_end: What ``end`` is, after a call of tools; None as well where no token ends a text.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.names: dict[int, str] = {
            i: str(token) for i, token in tokenizer.added_tokens_decoder.items()
        }
        self._ways: dict[bool, int | None] = {}
        self.alone = self.after([], generation_prompt=False)
        self.end = self._first_name(self.alone)
        self.call_end = self._call_end() if self.end is not None else None

    def render(
        self,
        messages: Sequence[Message],
        tools: Tools | None = None,
        *,
        generation_prompt: bool = True,
    ) -> str:
        """The text of a conversation.

        Where the template refuses a system message, its text goes to the head of the user's
        message that follows; where it refuses two messages of the user in a row, they become one.

        Raises:
            UserError: The template refuses that too.
        """
        try:
            return self._apply(messages, tools, generation_prompt)
        except Exception as error:  # Jinja errors have no common base that says what to do
            for other in _adapted(messages):
                try:
                    return self._apply(other, tools, generation_prompt)
                except Exception:  # the first refusal is the one to tell
                    continue
            roles = [m["role"] for m in messages]
            raise UserError(f"the chat template refuses the roles {roles}: {error}") from error

    def after(
        self, messages: Sequence[Message], tools: Tools | None = None, *, generation_prompt: bool
    ) -> str:
        """What the template writes after an assistant's text when these messages follow it.

        The text begins with what ends the assistant's turn.

        Raises:
            UserError: It refuses or leaves out the messages, or the assistant's text.
        """
        results = sum(m["role"] == "tool" for m in messages)
        if results == 0:
            said: Message = {"role": "assistant", "content": MARK}
            return self._after_mark([ASK, said, *messages], tools, generation_prompt)
        return self._after_calls(messages, tools, results, generation_prompt)

    def takes_results(self) -> bool:
        """Whether the template writes messages of role ``tool``."""
        return self._way(several=False) is not None

    def writes_tools(self) -> bool:
        """Whether the template writes the tools that it is given."""
        function = {"name": PROBES[0], "description": "?", "parameters": _NO_PARAMETERS}
        try:
            text = self.render([ASK], [{"type": "function", "function": function}])
        except UserError:
            return False
        return PROBES[0] in text

    def call_text(self, name: str, arguments: Mapping[str, Any]) -> str | None:
        """How the template writes a call, from the assistant's header on; None if it does not."""
        function = {"name": name, "description": "?", "parameters": _NO_PARAMETERS}
        tools = [{"type": "function", "function": function}]
        for written in (arguments, json.dumps(arguments)):
            for content in _CONTENTS:
                said = _calling([(name, _ID.format(1))], written, content)
                try:
                    text = self.render([ASK, said], tools, generation_prompt=False)
                    told = self.render([ASK], tools, generation_prompt=False)
                except UserError:
                    continue
                call = text[len(told) :] if text.startswith(told) else text
                if name in call and all(str(value) in call for value in arguments.values()):
                    return call
        return None

    @cached_property
    def behind(self) -> str:
        """What follows a message of the user: harmony ends every message with the same token."""
        asked = self.render([ASK])
        return asked[asked.rindex("?") + 1 :]

    def _apply(
        self, messages: Sequence[Message], tools: Tools | None, generation_prompt: bool
    ) -> str:
        text = str(
            self.tokenizer.apply_chat_template(
                list(messages),
                tools=list(tools) if tools else None,
                tokenize=False,
                add_generation_prompt=generation_prompt,
            )
        )
        return mended(text)

    def _after_mark(
        self, messages: Sequence[Message], tools: Tools | None, generation_prompt: bool
    ) -> str:
        text = self.render(messages, tools, generation_prompt=generation_prompt)
        _, found, after = text.partition(MARK)
        if not found:
            raise UserError("the chat template does not write the assistant's text; use another")
        return after

    def _after_calls(
        self,
        messages: Sequence[Message],
        tools: Tools | None,
        results: int,
        generation_prompt: bool,
    ) -> str:
        """``after`` where some messages are results of calls."""
        best = self._way(several=results > 1)
        if best is None:
            raise UserError(
                f"the chat template writes no messages of role 'tool'"
                f"{' (several in a row)' if results > 1 else ''}; {RESULTS_AS_USER}"
            )
        try:
            said, answers = next(itertools.islice(_callers(messages), best, None))
            return self._after_call(said, answers, tools, generation_prompt)
        except UserError as error:  # ids of calls that this family does not take, say
            for said, answers in _callers(messages):
                try:
                    return self._after_call(said, answers, tools, generation_prompt)
                except UserError:
                    continue
            raise error

    def _after_call(
        self,
        said: Message,
        answers: Sequence[Message],
        tools: Tools | None,
        generation_prompt: bool,
    ) -> str:
        """``after`` without what the assistant itself says behind the mark inside its call."""
        after = self._after_mark([ASK, said, *answers], tools, generation_prompt)
        if not said.get("tool_calls"):
            return after
        if self.call_end is None:
            return after.removeprefix(self._after_mark([ASK, said], tools, False))
        return after[max(0, after.find(self.call_end)) :]

    def _way(self, *, several: bool) -> int | None:
        """The first way in which the template writes results of calls; None if there is none."""
        if several not in self._ways:
            probes = PROBES if several else PROBES[:1]
            results = [Message(role="tool", content=p, name="probe") for p in probes]
            self._ways[several] = None
            ways = list(enumerate(_callers(results)))
            if self.call_end is None and self.end is not None:  # text is ended, calls are not
                ways.insert(0, ways.pop())
            for number, (said, answers) in ways:
                try:
                    text = self._after_mark([ASK, said, *answers], None, generation_prompt=True)
                except UserError:
                    continue
                if all(probe in text for probe in probes):
                    self._ways[several] = number
                    break
        return self._ways[several]

    def _call_end(self) -> str | None:
        """The last token behind a call, unless it ends every call of a turn and not the turn."""
        results = [Message(role="tool", content=p, name="probe") for p in PROBES]
        for said, _ in _callers(results[:1]):
            try:
                last = self._last_name(self._after_mark([ASK, said], None, False))
            except UserError:
                continue
            if not said.get("tool_calls") or last in (None, self.end):
                return last if said.get("tool_calls") else None
            for both, _ in _callers(results):
                if len(both.get("tool_calls", ())) == 2 and both["content"] == said["content"]:
                    try:
                        return last if self._calls_with(both, str(last)) < 2 else None
                    except UserError:
                        continue
            return last
        return None

    def _calls_with(self, said: Message, token: str) -> int:
        """How often a token occurs in what the template writes for calls.

        Raises:
            UserError: It refuses them.
        """
        text = self.render([ASK, said], generation_prompt=False)
        return text.count(token) - self.render([ASK], generation_prompt=False).count(token)

    def _first_name(self, text: str) -> str | None:
        """The longest added token that a text begins with."""
        found = [name for name in self.names.values() if name and text.startswith(name)]
        return max(found, key=len, default=None)

    def _last_name(self, text: str) -> str | None:
        """The longest added token that a text ends with, but for white space."""
        text = text.rstrip()
        found = [name for name in self.names.values() if name.strip() and text.endswith(name)]
        return max(found, key=len, default=None)


_NO_PARAMETERS = {
    "type": "object",
    "properties": {"x": {"type": "string", "description": "?"}},
    "required": ["x"],
}
_CONTENTS = ("", None)  # some tell a call by a content that is missing
_WRITTEN: tuple[Any, ...] = ({"x": MARK}, json.dumps({"x": MARK}))  # some want text
_ID = "call{:05d}"  # Mistral insists on nine letters and digits


def _calling(calls: Sequence[tuple[str, str]], last: Any, content: str | None = "") -> Message:
    """An assistant that calls these tools; the last call has the given arguments."""
    first: Any = json.dumps({"x": "?"}) if isinstance(last, str) else {"x": "?"}
    listed = [
        {
            "id": identity,
            "type": "function",
            "function": {"name": name, "arguments": last if n == len(calls) - 1 else first},
        }
        for n, (name, identity) in enumerate(calls)
    ]
    return cast(Message, {"role": "assistant", "content": content, "tool_calls": listed})


def _callers(messages: Sequence[Message]) -> Iterator[tuple[Message, list[Message]]]:
    """Assistants that could stand before results of calls, with the results made to match."""
    results = [m for m in messages if m["role"] == "tool"]
    for keep_ids in (True, False):
        answers: list[Message] = []
        calls: list[tuple[str, str]] = []
        for message in messages:
            if message["role"] == "tool":
                made = _ID.format(len(calls) + 1)
                identity = (message.get("tool_call_id") or made) if keep_ids else made
                answers.append(cast(Message, {**message, "tool_call_id": identity}))
                calls.append((message.get("name") or "tool", identity))
            else:
                answers.append(message)
        for number in dict.fromkeys((len(results), 1)):  # Llama 3 takes one call a turn
            for content, written in itertools.product(_CONTENTS, _WRITTEN):
                yield _calling(calls[:number], written, content), answers
        if not keep_ids:
            yield Message(role="assistant", content=MARK), answers


def _adapted(messages: Sequence[Message]) -> Iterator[list[Message]]:
    """The same conversation for templates without a system role or without repeated users."""
    tried: list[list[Message]] = [list(messages)]
    for change in (_joined, _folded, lambda m: _joined(_folded(m))):
        other = change(messages)
        if other not in tried:
            tried.append(other)
            yield other


def _folded(messages: Sequence[Message]) -> list[Message]:
    if [m["role"] for m in messages[:2]] != ["system", "user"]:
        return list(messages)
    system, user = messages[:2]
    return [_both(user, system["content"], user["content"]), *messages[2:]]


def _joined(messages: Sequence[Message]) -> list[Message]:
    out: list[Message] = []
    for message in messages:
        if out and message["role"] == out[-1]["role"] == "user":
            out[-1] = _both(out[-1], out[-1]["content"], message["content"])
        else:
            out.append(message)
    return out


def _both(like: Message, first: str, second: str) -> Message:
    return cast(Message, {**like, "content": f"{first}\n\n{second}"})
