"""Conversations to the ids that a reward model reads: whole answers, several answers, or steps.

A conversation that is too long loses its oldest messages (a system message stays), and where one
message is too long by itself, its first tokens. An answer that is too long by itself loses its
start; the end token always stays.
"""

from __future__ import annotations

from collections.abc import Sequence

from agent_rl.chat import Chat
from agent_rl.chat_template import mended
from agent_rl.errors import UserError
from agent_rl.trajectory import Segment
from rl_envs.types import Message


def parted(conversation: Sequence[Message]) -> tuple[list[Message], str]:
    """The messages before the answer, and the answer's text.

    Raises:
        UserError: When the conversation does not end with the assistant.
    """
    if not conversation or conversation[-1]["role"] != "assistant":
        last = conversation[-1]["role"] if conversation else "nothing"
        raise UserError(
            f"a reward model scores conversations that end with the assistant, not with {last}"
        )
    return list(conversation[:-1]), conversation[-1]["content"]


def answer_segments(
    chat: Chat, prompt: Sequence[Message], answers: Sequence[str], max_tokens: int
) -> list[Segment]:
    """Several answers to one prompt; each has one target, its last token (the end of the turn).

    The prompt is cut to what leaves room for the longest answer, so that all see the same one.
    """
    said = [[*answer_ids(chat, answer), chat.end_id][-max_tokens:] for answer in answers]
    before = fitted_prompt(chat, prompt, max_tokens - max(map(len, said)))
    return [Segment((*before, *ids), (), len(before)) for ids in said]


def answer_ids(chat: Chat, text: str) -> list[int]:
    """Ids of an answer, in which the name of a special token is plain text.

    A policy can spell ``<|im_end|>`` with ordinary tokens. Read as the token itself it would end
    the turn, and the answer could go on with praise in the user's name.
    """
    known = chat.tokenizer.added_tokens_decoder.values()
    if not any(token.special and token.content in text for token in known):
        return chat.encode(text)
    ids = chat.tokenizer.encode(mended(text), add_special_tokens=False, split_special_tokens=True)
    return list(ids)


def steps_segment(
    chat: Chat, prompt: Sequence[Message], steps: Sequence[str], separator: str, max_tokens: int
) -> Segment:
    """An answer of several steps; each has one target, the last token of its separator.

    The last step's is the end of the turn. ``Segment.sampled`` are the positions after each, since
    a target is read at the position before; one token that nothing sees is added for the last.
    Of an answer that is too long by itself, the steps that were cut away have no target.
    """
    said: list[int] = []
    ends = []
    for number, step in enumerate(steps, start=1):
        last = number == len(steps)
        said += answer_ids(chat, step if last else step + separator)
        said += [chat.end_id] if last else []
        ends.append(len(said))
    cut = max(0, len(said) - max_tokens + 1)
    before = fitted_prompt(chat, prompt, max_tokens - 1 - len(said[cut:]))
    n = len(before)
    ids = (*before, *said[cut:], said[-1])
    return Segment(ids, tuple(n + end - cut for end in ends if end > cut), n)


def split_steps(answer: str, separator: str) -> list[str]:
    """The steps of an answer: its parts between separators, those of white space left out."""
    return [part for part in answer.split(separator) if part.strip()] or [answer]


def fitted_prompt(chat: Chat, messages: Sequence[Message], room: int) -> list[int]:
    """The ids of a prompt, its oldest messages left out until it fits into ``room`` tokens."""
    system = [m for m in messages[:1] if m["role"] == "system"]
    rest = list(messages[len(system) :])
    starts = [i for i, m in enumerate(rest) if m["role"] == "user"] or [0]
    if 0 not in starts:
        starts.insert(0, 0)
    ids: list[int] = []
    for start in starts:
        ids = chat.prompt_ids([*system, *rest[start:]])
        if len(ids) <= room:
            return ids
    return ids[len(ids) - room :] if room > 0 else []
