r"""Anthropic's transcripts (arXiv 2204.05862): ``\n\nHuman:`` and ``\n\nAssistant:`` turns."""

from __future__ import annotations

import re

from rl_envs.types import Message

HUMAN = re.compile(r"(?:\A\s*|\n\n)Human:")
TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")
ANSWER = "\n\nAssistant:"
ROLES = {"Human": "user", "Assistant": "assistant"}


def is_transcript(text: str) -> bool:
    """Whether a text is one: the human speaks in it, and is answered.

    Something before the first turn (a system prompt) or an assistant that begins are allowed.
    """
    return HUMAN.search(text) is not None and ANSWER in text


def is_whole(text: str) -> bool:
    """Whether a text is one from its first word on, so that it cannot be an answer alone."""
    return HUMAN.match(text) is not None and ANSWER in text


def awaits_answer(text: str) -> bool:
    """Whether a text is one up to an ``Assistant:`` that says nothing yet."""
    return HUMAN.search(text) is not None and text.rstrip().endswith(ANSWER)


def before_the_last_answer(text: str) -> tuple[str | None, str]:
    """What comes before the last turn, and that turn without blanks around it.

    The first is None where the last turn is the human's.
    """
    before, _, answer = text.rpartition(ANSWER)
    return (None if "\n\nHuman:" in answer else before), answer.strip()


def messages(text: str) -> list[Message]:
    """The turns as messages; neighbours of one speaker become one, empty turns go.

    What stands before the first turn is a system message.
    """
    parts = TURN.split(text.lstrip())
    start = parts[0].strip()
    found = [Message(role="system", content=start)] if start else []
    for speaker, said in zip(parts[1::2], parts[2::2], strict=True):
        role, content = ROLES[speaker], said.strip()
        if found and found[-1]["role"] == role:
            found[-1] = Message(role=role, content=f"{found[-1]['content']}\n\n{content}".strip())
        elif content:
            found.append(Message(role=role, content=content))
    return found
