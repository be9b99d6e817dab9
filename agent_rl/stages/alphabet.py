"""Whether a model's tokenizer can write what its tasks and demonstrations are written in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from agent_rl.chat import Chat
from agent_rl.chat_template import Tools
from agent_rl.errors import UserError
from rl_envs import Action, TextEnv
from rl_envs.types import Message

PROBE = "\x07é\u0394\u4e2d\U0001f600"  # a tokenizer that has these has every character


def demonstrated(
    env: TextEnv, style: str, rng: np.random.Generator, chat: Chat, tools: Tools | None
) -> Iterator[tuple[str, Sequence[Message] | None]]:
    """What a demonstration says in a running episode, and what is answered; None at the end."""
    while True:
        text = env.demonstrate(style, rng)
        if env.max_turns == 1 or env.memory == "last":
            yield text, None
            return
        action: Action = chat.parse(chat.completion_ids(text), tools=tools) if tools else text
        observation, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            yield text, None
            return
        yield text, observation


def is_limited(chat: Chat) -> bool:
    """Whether there are characters that the tokenizer writes as its unknown token."""
    return bool(chat.unknown(PROBE))


def refuse_unknown(chat: Chat, texts: Iterable[str], name: str, what: str) -> None:
    """Stop where a model would train on unknown tokens.

    Args:
        chat: Has the tokenizer.
        texts: As the chat template writes them.
        name: The environment.
        what: Which texts these are.

    Raises:
        UserError: Characters are missing; it names them.
    """
    names = sorted(filter(None, chat.template.names.values()), key=len, reverse=True)
    tokens = re.compile("|".join(map(re.escape, names)) or "(?!)")
    unknown = chat.unknown("".join(tokens.sub("", text) for text in texts))
    if unknown:
        raise UserError(
            f"{name}: the model's alphabet lacks {''.join(unknown)!r}, which {what} written in; "
            "add them to model.tiny.characters (`printable` is all of ASCII)"
        )


def episode_texts(
    env: TextEnv, style: str, rng: np.random.Generator, chat: Chat, number: int
) -> Iterator[str]:
    """A demonstration of a task drawn at random, as the chat template writes it.

    Args:
        env: The environment.
        style: Of its demonstrations.
        rng: Where choices come from.
        chat: Has the template.
        number: The first one is of the first task, the others of any.
    """
    size = env.tasks.size
    index = int(rng.integers(2**31 if size is None else size)) if number else 0
    observation, info = env.reset(seed=number, options={"index": index})
    tools: Tools | None = info.get("definitions")
    yield chat.template.render(observation, tools)
    for text, answer in demonstrated(env, style, rng, chat, tools):
        yield text
        if answer:
            yield chat.template.after(answer, tools, generation_prompt=True)
