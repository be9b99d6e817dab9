"""What a chat template writes around plain texts, learnt once, so that Jinja need not run for each.

A plain text is printable ASCII without marks that templates look for. A template that writes one
such text verbatim, whatever it is, writes the next one so too. That is tried, and where it does
not hold, or a text is not plain, the template itself is asked. A system message need not be plain:
it belongs to what stands around the others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence

from agent_rl.chat_template import PROBES, Tools
from agent_rl.errors import UserError
from rl_envs.types import Message

Render = Callable[[Sequence[Message], Tools | None], str]
LEARN_AFTER = 3  # times that the same roles and names were met
MOST_KINDS = 64  # of roles and names; what a model makes up must not fill the memory
LONG = "long " * 1000 + "text"
_PLAIN = re.compile(r"[ !#-;=?-Z^-z~]+")  # none of <>[]{}|"\
_EVERY = "".join(filter(_PLAIN.fullmatch, map(chr, range(33, 127))))
_SIZES = tuple(f"{'so ' * n}." for n in (5, 20, 80, 320))
_CONSTANT = re.compile(r"'([^'\\\n]{1,80})'|\"([^\"\\\n]{1,80})\"")


class PlainTexts:
    """The same as a function that renders messages by a template, sooner.

    Args:
        render: ``render(messages, tools)``, such as ``ChatTemplate.render``.
        source: The template's text.
    """

    def __init__(self, render: Render, source: str) -> None:
        self._render = render
        self._source = source
        self._met: dict[Hashable, int] = {}
        self._learnt: dict[Hashable, tuple[str, ...] | None] = {}

    def __call__(self, messages: Sequence[Message], tools: Tools | None, tools_key: str) -> str:
        """What the template writes for these messages.

        Raises:
            UserError: It refuses the messages.
        """
        kind = (tools_key, *(_kind(m) for m in messages))
        if not messages or None in kind:
            return self._render(messages, tools)
        if kind not in self._learnt:
            text = self._render(messages, tools)
            self._meet(kind, messages, tools)
            return text
        around = self._learnt[kind]
        if around is None:
            return self._render(messages, tools)
        return _filled(around, [m["content"] for m in messages if m["role"] != "system"])

    def _meet(self, kind: Hashable, messages: Sequence[Message], tools: Tools | None) -> None:
        if len(self._met) >= MOST_KINDS and kind not in self._met:
            return
        self._met[kind] = self._met.get(kind, 0) + 1
        if self._met[kind] >= LEARN_AFTER:
            self._learnt[kind] = self._learn(messages, tools)

    def _learn(self, messages: Sequence[Message], tools: Tools | None) -> tuple[str, ...] | None:
        """The texts around the contents; None where they depend on the contents."""

        def written(contents: Sequence[str]) -> str:
            left = iter(contents)
            told: list[Message] = [
                m if m["role"] == "system" else {**m, "content": next(left)} for m in messages
            ]
            return self._render(told, tools)

        varied = sum(m["role"] != "system" for m in messages)
        marks = [f"{PROBES[0]}{n}" for n in range(varied)]
        try:
            rest = written(marks)
            around = []
            for mark in marks:
                before, found, rest = rest.partition(mark)
                if not found or mark in rest:
                    return None
                around.append(before)
            pieces = (*around, rest)
            for probe in self._probes():
                contents = [probe] * varied
                if written(contents) != _filled(pieces, contents):
                    return None
        except UserError:
            return None
        return pieces

    def _probes(self) -> list[str]:
        """Of all characters and sizes, and whatever plain words the template could look for."""
        words = {a or b for a, b in _CONSTANT.findall(self._source)}
        plain = sorted(w for w in (word.strip() for word in words) if _is_plain(w))
        forms = ("{}", "{} and more", "so {}", "so {} and more")
        tried = ("7", "a", LONG, _EVERY, f"{_EVERY}  {_EVERY}", *_SIZES)
        return [*tried, *(form.format(word) for word in plain for form in forms)]


def _kind(message: Message) -> Hashable:
    """Role and name, where that is all that there is beside a plain content; else None.

    A system message is told apart by its content as well.
    """
    content = message["content"]
    if message["role"] == "system":
        return ("system", content) if len(message) == 2 else None
    if not isinstance(content, str) or not _is_plain(content):
        return None
    if len(message) == 2:
        return message["role"]
    return (message["role"], message["name"]) if len(message) == 3 and "name" in message else None


def _is_plain(text: str) -> bool:
    return _PLAIN.fullmatch(text) is not None and text[0] != " " and text[-1] != " "


def _filled(around: Sequence[str], contents: Sequence[str]) -> str:
    out = [around[0]]
    for content, after in zip(contents, around[1:], strict=True):
        out += (content, after)
    return "".join(out)
