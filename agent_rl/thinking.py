"""Thinking of earlier turns that a chat template drops, cut out of the ids that were sampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from agent_rl.chat_template import ASK, Tools
from agent_rl.errors import UserError
from rl_envs.types import Message

if TYPE_CHECKING:
    from agent_rl.chat import Chat

OPEN, CLOSE = "<think>", "</think>"
_THOUGHT, _SAID = "thought0number0{}zq", "said0number0{}zq"
_GAP = "\n\n"  # between the closing tag and the answer, as models write it


@dataclass(frozen=True, slots=True)
class Cut:
    """How a turn stands in later contexts when its thinking is dropped.

    Attributes:
        start: The first sampled id that stays.
        asked: Ids with which the generation prompt ends beyond what they share with the header of
            an earlier turn.
        earlier: Ids with which that header ends instead.
    """

    start: int
    asked: tuple[int, ...]
    earlier: tuple[int, ...]

    def header(self, ids: Sequence[int]) -> list[int]:
        """The context before the turn, its end replaced where it is the generation prompt's."""
        start = len(ids) - len(self.asked)
        if tuple(ids[start:]) != self.asked:  # DeepSeek goes on without one after results
            return list(ids)
        return [*ids[:start], *self.earlier]


def cuts(
    chat: Chat,
    opening: Sequence[Message],
    completions: Sequence[Sequence[int]],
    answers: Sequence[Sequence[Message]],
    tools: Tools | None,
) -> list[Cut | None]:
    """For each turn, what is left out of it when the template renders the conversation so far.

    None where the template keeps its thinking, or none was sampled, or its closing tag ends inside
    a token.
    """
    none: list[Cut | None] = [None] * len(completions)
    closed = [CLOSE in chat.decode(each, special_tokens=True) for each in completions]
    if not any(closed):
        return none
    dropped = _dropped(chat, opening, answers, tools)
    headers = _headers(chat) if any(dropped) else None
    if headers is None:
        return none
    asked, earlier, strips = headers
    out: list[Cut | None] = []
    for sampled, thought, left_out in zip(completions, closed, dropped, strict=True):
        start = _after_thinking(chat, sampled, strips=strips) if thought and left_out else None
        out.append(None if start is None else Cut(start, asked, earlier))
    return out


def _dropped(
    chat: Chat,
    opening: Sequence[Message],
    answers: Sequence[Sequence[Message]],
    tools: Tools | None,
) -> list[bool]:
    """Whether the template leaves out the thinking of each turn."""
    text = None
    for calling in (False, True):
        try:
            text = chat.template.render(_conversation(opening, answers, calling=calling), tools)
            break
        except UserError:
            continue
    if text is None:  # nothing can be said of it, so nothing is dropped
        return [False] * len(answers)
    return [_THOUGHT.format(n) not in text and _SAID.format(n) in text for n in range(len(answers))]


def _conversation(
    opening: Sequence[Message], answers: Sequence[Sequence[Message]], *, calling: bool
) -> list[Message]:
    """The conversation with marked thinking and marked text in the place of what was sampled."""
    out = list(opening)
    for n, answer in enumerate(answers):
        said = Message(role="assistant", content=_spoken(n))
        results = [m for m in answer if m["role"] == "tool"]
        if calling and results:
            said["tool_calls"] = [
                {
                    "id": m.get("tool_call_id") or f"call{k:05d}",
                    "type": "function",
                    "function": {"name": m.get("name") or "tool", "arguments": {}},
                }
                for k, m in enumerate(results)
            ]
        out += [said, *_with_ids(answer)]
    return out


def _with_ids(answer: Sequence[Message]) -> list[Message]:
    out: list[Message] = []
    number = 0
    for message in answer:
        if message["role"] == "tool":
            out.append(cast(Message, {"tool_call_id": f"call{number:05d}", **message}))
            number += 1
        else:
            out.append(message)
    return out


def _spoken(n: int) -> str:
    return f"{OPEN}\n{_THOUGHT.format(n)}\n{CLOSE}{_GAP}{_SAID.format(n)}"


def _headers(chat: Chat) -> tuple[tuple[int, ...], tuple[int, ...], bool] | None:
    """What the generation prompt and the header of an earlier turn end with; whether newlines go.

    None where an earlier turn's thinking is not simply left out.
    """
    asked = chat.template.render([ASK])
    said = Message(role="assistant", content=_spoken(0))
    earlier, found, _ = chat.template.render([ASK, said, ASK]).partition(_SAID.format(0))
    if not found or _THOUGHT.format(0) in earlier:
        return None
    strips = not earlier.endswith(_GAP)
    earlier = earlier if strips else earlier[: -len(_GAP)]
    now, then = chat.encode(asked), chat.encode(earlier)
    common = next(
        (n for n, (a, b) in enumerate(zip(now, then, strict=False)) if a != b),
        min(len(now), len(then)),
    )
    return tuple(now[common:]), tuple(then[common:]), strips


def _after_thinking(chat: Chat, sampled: Sequence[int], *, strips: bool) -> int | None:
    """Index of the first sampled id after the last closing tag, and after newlines that go with it.

    None where the tag ends inside a token.
    """

    def text(end: int) -> str:
        return str(chat.tokenizer.decode(list(sampled[:end]), clean_up_tokenization_spaces=False))

    tags = text(len(sampled)).count(CLOSE)
    low, high = 0, len(sampled)
    while low < high:  # the shortest prefix with every closing tag
        middle = (low + high) // 2
        low, high = (low, middle) if text(middle).count(CLOSE) >= tags else (middle + 1, high)
    rest = text(high).rpartition(CLOSE)[2]
    if rest.strip("\n") or (rest and not strips):
        return None
    while strips and high < len(sampled):
        token = chat.tokenizer.decode([sampled[high]], clean_up_tokenization_spaces=False)
        if not token or token.strip("\n"):
            break
        high += 1
    return high
