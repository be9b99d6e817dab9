"""Where every token of an episode came from, and proof that a record of it is sound."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal, NamedTuple, cast

from agent_rl import thinking
from agent_rl.chat import Chat
from agent_rl.chat_template import Tools
from agent_rl.errors import UserError
from agent_rl.trajectory import Segment, Trajectory, segments
from rl_envs.types import Message

Kind = Literal[
    "sampled", "template", "system", "user", "tool", "few-shot assistant", "earlier sampled"
]
KINDS: tuple[Kind, ...] = (
    "sampled",
    "template",
    "system",
    "user",
    "tool",
    "few-shot assistant",
    "earlier sampled",
)
_ROLES: dict[str, Kind] = {
    "system": "system",
    "developer": "system",
    "tool": "tool",
    "assistant": "few-shot assistant",
}
_MARK = "zq{}m{}{}qz"  # a nonce, the number of a message, b or e


class AuditError(ValueError):
    """A record of an episode that breaks a rule: which, in which turn, at which position."""


def audit(
    trajectory: Trajectory,
    *,
    splits: Collection[int] | None = None,
    given: Sequence[Segment] | None = None,
) -> list[Segment]:
    """Prove what training relies on.

    Every sampled token has one finite logprob; the context of a turn is that of the turn before
    with what was sampled there at its end, unless it begins a new segment; the segments' sampled
    positions hold exactly the sampled ids, in order, none lost and none twice.

    Args:
        trajectory: One episode.
        splits: Turns (from 1) whose context may have been rewritten; None: any.
        given: The segments that are trained on; default: those of ``segments``.

    Returns:
        The segments.

    Raises:
        AuditError: One line that names the turn and the position.
    """
    for number, turn in enumerate(trajectory.turns):
        _audit_turn(number, turn.prompt_ids, turn.completion_ids, turn.logprobs)
    for number, (last, turn) in enumerate(itertools.pairwise(trajectory.turns), start=1):
        before = last.prompt_ids + last.completion_ids
        place = _first_difference(before, turn.prompt_ids)
        if place is not None and splits is not None and number not in splits:
            raise AuditError(
                f"turn {number}, position {place}: its context does not go on from turn "
                f"{number - 1}, and no split is recorded there"
            )
    found = segments(trajectory) if given is None else list(given)
    _audit_segments(trajectory, found)
    return found


def _audit_turn(
    number: int, prompt: Sequence[int], sampled: Sequence[int], logprobs: Sequence[float]
) -> None:
    if not prompt:
        raise AuditError(f"turn {number}, position 0: it has no context")
    if len(logprobs) != len(sampled):
        place = len(prompt) + min(len(logprobs), len(sampled))
        raise AuditError(
            f"turn {number}, position {place}: {len(logprobs)} logprobs for {len(sampled)} "
            "sampled tokens"
        )
    for offset, logprob in enumerate(logprobs):
        if not math.isfinite(logprob):
            place = len(prompt) + offset
            raise AuditError(f"turn {number}, position {place}: the logprob is {logprob}")


def _audit_segments(trajectory: Trajectory, found: Sequence[Segment]) -> None:
    """The segments hold the turns one after another, each sampled position once."""
    number = 0
    turns = trajectory.turns
    for segment in found:
        expected: list[int] = []
        reached = 0  # the end of the last turn that this segment holds
        while number < len(turns):
            turn = turns[number]
            end = len(turn.prompt_ids) + len(turn.completion_ids)
            place = _first_difference(turn.prompt_ids + turn.completion_ids, segment.ids)
            if place is not None or len(turn.prompt_ids) < reached:
                if expected:
                    break  # the turn begins the next segment
                raise AuditError(
                    f"turn {number}, position {place}: the segment does not hold what was seen "
                    "and sampled"
                )
            expected += range(len(turn.prompt_ids), end)
            number, reached = number + 1, end
        if tuple(expected) != tuple(segment.sampled):
            wrong = set(expected) ^ set(segment.sampled)
            place = min(wrong, default=next(iter(segment.sampled), 0))
            kind = "sampled but not marked" if place in expected else "marked but not sampled"
            raise AuditError(f"turn {max(0, number - 1)}, position {place}: {kind}")
    lost = next((n for n in range(number, len(turns)) if turns[n].completion_ids), None)
    if lost is not None:
        place = len(turns[lost].prompt_ids)
        raise AuditError(f"turn {lost}, position {place}: what was sampled is in no segment")


def _first_difference(whole: Sequence[int], other: Sequence[int]) -> int | None:
    """The first position at which ``other`` does not begin with ``whole``."""
    if tuple(other[: len(whole)]) == tuple(whole):
        return None
    pairs = enumerate(zip(whole, other, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(whole), len(other)))


def provenance(
    trajectory: Trajectory, chat: Chat, *, tools: Tools | None = None
) -> list[tuple[Kind, ...]]:
    """The kind of every token of every segment; ``sampled`` are exactly ``Segment.sampled``.

    ``template`` is whatever no message holds: headers, ends of turns, the tools that the template
    writes. ``few-shot assistant`` is text of an assistant's message, ``earlier sampled`` what an
    earlier segment sampled and this one only reads. Messages are placed by rendering them with
    marks around their contents; what was sampled is not tokenized.

    Args:
        trajectory: One episode.
        chat: The chat it was played with.
        tools: The tools it was played with.

    Returns:
        Parallel to ``segments(trajectory)``.

    Raises:
        UserError: The record was not made with this chat.
    """
    return [tuple(kinds) for kinds in _Labeller(trajectory, chat, tools).segments()]


def counts(kinds: Sequence[Sequence[Kind]]) -> dict[Kind, int]:
    """Number of tokens of each kind, in the order of ``KINDS``."""
    found = Counter(itertools.chain.from_iterable(kinds))
    return {kind: found[kind] for kind in KINDS}


class _Labelled(NamedTuple):
    ids: list[int]
    kinds: list[Kind]


class _Labeller:
    """The labels of one trajectory."""

    def __init__(self, trajectory: Trajectory, chat: Chat, tools: Tools | None) -> None:
        self.trajectory, self.chat, self.tools = trajectory, chat, tools

    def segments(self) -> list[list[Kind]]:
        out: list[list[Kind]] = []
        held: list[Kind] = []
        read: list[Kind] = []  # of the context of the turn before
        before: tuple[int, ...] = ()
        for number, turn in enumerate(self.trajectory.turns):
            goes_on = bool(held) and turn.prompt_ids[: len(before)] == before
            if goes_on:
                held += self._answer(number, turn.prompt_ids[len(before) :])
            else:
                same = (
                    number > 0 and turn.prompt_ids == self.trajectory.turns[number - 1].prompt_ids
                )
                kinds = read if same else self._fresh(number)
                out += [held] if held else []
                held = list(kinds)
            read = list(held)
            held += ["sampled"] * len(turn.completion_ids)
            before = turn.prompt_ids + turn.completion_ids
        return [*out, held] if held else out

    def _answer(self, number: int, ids: Sequence[int]) -> list[Kind]:
        """The kinds of what stands between two turns."""
        if not ids:
            return []
        last = self.trajectory.turns[number - 1].completion_ids
        return self._matching(number, ids, self._suffix(last, self.trajectory.answers[number - 1]))

    def _fresh(self, number: int) -> list[Kind]:
        """The kinds of a context that does not go on from the one before."""
        ids = self.trajectory.turns[number].prompt_ids
        system = [m for m in self.trajectory.opening if m["role"] == "system"]
        newest = self.trajectory.answers[number - 1] if number else self.trajectory.opening
        tries: list[Callable[[], _Labelled]] = [
            (lambda: self._prompt(newest)) if not number else (lambda: self._conversation(number)),
            lambda: self._prompt([*system, *newest]),
        ]
        for attempt in tries:
            try:
                made = attempt()
            except UserError:
                continue
            if tuple(made.ids) == tuple(ids):
                return made.kinds
        return self._matching(number, ids, tries[0]())

    def _matching(self, number: int, ids: Sequence[int], made: _Labelled) -> list[Kind]:
        place = _first_difference(made.ids, ids)
        if place is None and len(made.ids) == len(ids):
            return made.kinds
        raise UserError(
            f"turn {number}, {len(made.ids) if place is None else place} tokens into what is new: "
            "this chat template writes other tokens for the recorded messages"
        )

    def _prompt(self, messages: Sequence[Message]) -> _Labelled:
        render = self.chat.template.render
        return self._labelled(lambda each: render(each, self.tools), messages)

    def _suffix(self, sampled: Sequence[int], messages: Sequence[Message]) -> _Labelled:
        after = self.chat.template.after
        made = self._labelled(
            lambda each: after(each, self.tools, generation_prompt=True), messages
        )
        start = self.chat.n_sampled_of(made.ids, self.chat.n_closing(made.ids), sampled)
        return _Labelled(made.ids[start:], made.kinds[start:])

    def _conversation(self, number: int) -> _Labelled:
        """As ``Chat.conversation_ids`` builds it."""
        opening = self.trajectory.opening
        answers = self.trajectory.answers[:number]
        sampled = [turn.completion_ids for turn in self.trajectory.turns[:number]]
        cuts: Sequence[thinking.Cut | None] = [None] * number
        if self.chat.history == "template":
            cuts = thinking.cuts(self.chat, opening, sampled, answers, self.tools)
        ids, kinds = self._prompt(opening)
        template: Kind = "template"
        earlier: Kind = "earlier sampled"
        for spoken, answer, cut in zip(sampled, answers, cuts, strict=True):
            kept = spoken if cut is None else spoken[cut.start :]
            if cut is not None:
                header = cut.header(ids)
                if header != ids:
                    kinds = kinds[: len(ids) - len(cut.asked)] + [template] * len(cut.earlier)
                ids = header
            more = self._suffix(kept, answer)
            kinds = [*kinds, *[earlier] * len(kept), *more.kinds]
            ids = [*ids, *kept, *more.ids]
        return _Labelled(ids, kinds)

    def _labelled(
        self, render: Callable[[Sequence[Message]], str], messages: Sequence[Message]
    ) -> _Labelled:
        text = render(messages)
        spans = _marked_spans(render, messages, text)
        if spans is None:
            spans = _found_spans(messages, text)
        encoded = self.chat.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return _Labelled(encoded["input_ids"], _kinds(encoded["offset_mapping"], spans))


class _Span(NamedTuple):
    start: int
    end: int
    kind: Kind


def _kinds(offsets: Sequence[tuple[int, int]], spans: Sequence[_Span]) -> list[Kind]:
    """The kind of each token: that of the message it holds a character of, else ``template``."""
    out: list[Kind] = []
    waiting = 0
    for start, end in offsets:
        while waiting < len(spans) and spans[waiting].end <= start:
            waiting += 1
        inside = waiting < len(spans) and spans[waiting].start < max(end, start + 1)
        out.append(spans[waiting].kind if inside else "template")
    return out


def _marked_spans(
    render: Callable[[Sequence[Message]], str], messages: Sequence[Message], text: str
) -> list[_Span] | None:
    """Where the contents stand, by marks around them; None where the marks change the text."""
    held = json.dumps(list(messages), default=str)
    nonce = next(n for n in itertools.count() if f"zq{n}m" not in held)
    try:
        marked = render([_marked(m, nonce, n) for n, m in enumerate(messages)])
    except UserError:
        return None
    pattern = re.compile(f"zq{nonce}m([0-9]+)([be])qz")
    spans: list[_Span] = []
    plain: list[str] = []
    length = position = 0
    opened: tuple[int, int] | None = None
    for found in pattern.finditer(marked):
        plain.append(marked[position : found.start()])
        length += found.start() - position
        position = found.end()
        number = int(found[1])
        if found[2] == "b":
            opened = (number, length)
        elif opened is not None and opened[0] == number:
            if length > opened[1]:
                spans.append(_Span(opened[1], length, _kind(messages[number])))
            opened = None
    plain.append(marked[position:])
    return spans if "".join(plain) == text else None


def _marked(message: Message, nonce: int, number: int) -> Message:
    begin, end = (_MARK.format(nonce, number, side) for side in "be")

    def around(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: around(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [around(inner) for inner in value]
        if not isinstance(value, str):
            return value
        inside = value.strip()
        if not inside:
            return value
        start = value.index(inside)
        return f"{value[:start]}{begin}{inside}{end}{value[start + len(inside) :]}"

    out = cast(dict[str, Any], {**message, "content": around(message["content"])})
    if message.get("tool_calls"):
        calls = []
        for call in message["tool_calls"]:
            function = call.get("function", {})
            calls.append({**call, "function": {**function, **_call_marked(function, around)}})
        out["tool_calls"] = calls
    return cast(Message, out)


def _call_marked(function: dict[str, Any], around: Callable[[Any], Any]) -> dict[str, Any]:
    return {key: around(function[key]) for key in ("name", "arguments") if key in function}


def _found_spans(messages: Sequence[Message], text: str) -> list[_Span]:
    """Where the contents stand, by looking for one after another."""
    spans: list[_Span] = []
    position = 0
    for message in messages:
        content = message["content"] if isinstance(message["content"], str) else ""
        for form in (content, content.strip(), json.dumps(content)[1:-1]):
            start = text.find(form, position) if form else -1
            if start >= 0:
                position = start + len(form)
                spans.append(_Span(start, position, _kind(message)))
                break
    return spans


def _kind(message: Message) -> Kind:
    return _ROLES.get(message["role"], "user")
