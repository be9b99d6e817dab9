"""A scripted engine: the one fake at the engine's seam."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import pytest

from agent_rl import models
from agent_rl.chat import Chat
from agent_rl.config import TinyModel
from agent_rl.engines import Completion, Sampling

CHARACTERS = "0123456789+-*/=?,.: abcdefghijklmnopqrstuvwxyz{}()"


class ScriptedEngine:
    """Answers with what ``say`` makes of the prompt's text; remembers every request."""

    policy_version = 0
    context_length = 10_000

    def __init__(
        self, chat: Chat, say: Callable[[str, Sampling], str], *, stop: bool = True
    ) -> None:
        self.chat, self.say, self.stop = chat, say, stop
        self.requests: list[tuple[list[int], Sampling]] = []

    async def generate(self, token_ids: Sequence[int], sampling: Sampling) -> Completion:
        self.requests.append((list(token_ids), sampling))
        text = self.say(self.chat.tokenizer.decode(list(token_ids)), sampling)
        ids = self.chat.completion_ids(text) if self.stop else self.chat.completion_ids(text)[:-1]
        return Completion(tuple(ids), (-0.5,) * len(ids), "stop" if self.stop else "length", 0)


@pytest.fixture
def chat() -> Chat:
    return Chat(models.tiny_tokenizer(TinyModel(characters=CHARACTERS)))


@pytest.fixture
def scripted(chat: Chat) -> Callable[..., ScriptedEngine]:
    """``scripted(say)``: an engine that answers ``say(prompt_text, sampling)``."""
    return partial(ScriptedEngine, chat)
