r"""Anthropic's transcripts (arXiv 2204.05862): ``\n\nHuman:`` and ``\n\nAssistant:`` turns."""

from __future__ import annotations

import re

from rl_envs.types import Message

START = re.compile(r"\s*Human:")
TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")
ANSWER = "\n\nAssistant:"
ROLES = {"Human": "user", "Assistant": "assistant"}


def is_transcript(text: str) -> bool:
    """Whether a text is one: it begins with the human's turn, and is answered."""
    return START.match(text) is not None and ANSWER in text


def before_the_last_answer(text: str) -> tuple[str | None, str]:
    """What comes before the last turn, and that turn without blanks around it.

    The first is None where the last turn is the human's.
    """
    before, _, answer = text.rpartition(ANSWER)
    return (None if "\n\nHuman:" in answer else before), answer.strip()


def messages(text: str) -> list[Message]:
    """The turns as messages; neighbours of one speaker become one, empty turns go."""
    parts = TURN.split(text.lstrip())
    found: list[Message] = []
    for speaker, said in zip(parts[1::2], parts[2::2], strict=True):
        role, content = ROLES[speaker], said.strip()
        if found and found[-1]["role"] == role:
            found[-1] = Message(role=role, content=f"{found[-1]['content']}\n\n{content}".strip())
        elif content:
            found.append(Message(role=role, content=content))
    return found
