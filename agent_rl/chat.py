"""Messages to tokens, through the model's own chat template, and never back to tokens again.

What the policy sampled stays as the ids it sampled. Only what is new (the task, an environment's
answer) is rendered, so the context of turn k + 1 is the context of turn k, the sampled ids, and the
rendering of the new messages (traps 12-14 of the literature: re-tokenization, masks, rewritten
history).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Hashable, Iterable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

from agent_rl import responses, thinking
from agent_rl.cache import Cache
from agent_rl.chat_template import RESULTS_AS_USER, ChatTemplate, Tools, mended
from agent_rl.encoding import Encoder, decoder
from agent_rl.errors import UserError
from agent_rl.plain_texts import PlainTexts
from agent_rl.responses import ParsedMessage
from rl_envs.types import Message

CACHED_IDS = 500_000  # of prompts, and again of what follows an action

History = Literal["append", "template"]


class NoChatTemplate(UserError):  # noqa: N818 - a finding
    """A tokenizer has none, and none was given."""


class Chat:
    """The chat template of one tokenizer.

    Args:
        tokenizer: A transformers tokenizer with a chat template.
        template: A file with a Jinja template that replaces the tokenizer's own.
        end_ids: Ids that end a turn beside the tokenizer's end-of-sequence token (the generation
            configuration of a model often lists some).
        history: What becomes of earlier turns. ``append``: they stay as they were sampled, thinking
            included. ``template``: where the template drops the thinking of an earlier turn, so
            does ``conversation_ids``.

    Attributes:
        end_id: The id that the template itself writes after an assistant's text; some families have
            an end of turn that is not the tokenizer's end of sequence.
        end_ids: Every id that ends a turn.

    Raises:
        UserError: When there is no template at all, or no token that ends an answer.
    """

    def __init__(
        self,
        tokenizer: Any,
        template: str | None = None,
        end_ids: Iterable[int] = (),
        *,
        history: History = "append",
    ) -> None:
        if template is not None:
            tokenizer.chat_template = _read(template)
        if not tokenizer.chat_template:
            raise NoChatTemplate(
                f"the tokenizer of {tokenizer.name_or_path or 'this model'} has no chat template; "
                "give one with model.chat_template=FILE.jinja"
            )
        if tokenizer.eos_token_id is None:
            raise UserError(
                f"the tokenizer of {tokenizer.name_or_path or 'this model'} has no end-of-sequence "
                "token (eos_token), so no answer could end"
            )
        if history not in ("append", "template"):
            raise UserError(f"history is {history!r}; it must be 'append' or 'template'")
        self.tokenizer = tokenizer
        self._encode = Encoder(tokenizer)
        self._decode = decoder(tokenizer)
        self.history: History = history
        self.template = ChatTemplate(tokenizer)
        source = str(tokenizer.chat_template)
        self._opening = PlainTexts(self.template.render, source)
        self._after = PlainTexts(partial(self.template.after, generation_prompt=True), source)
        self._alone = self.encode(self.template.alone)
        ids = {name: i for i, name in self.template.names.items()}
        ends = [ids[name] for name in (self.template.end, self.template.call_end) if name]
        self.end_id: int = ids.get(self.template.end or "", tokenizer.eos_token_id)
        self.end_ids = frozenset({tokenizer.eos_token_id, self.end_id, *ends, *end_ids})
        self._prompts: Cache[tuple[int, ...]] = Cache(CACHED_IDS)
        self._suffixes: Cache[tuple[tuple[int, ...], int]] = Cache(CACHED_IDS)
        self._tool_keys: dict[int, tuple[Tools, str]] = {}

    @cached_property
    def takes_tools(self) -> bool:
        """Whether the template writes the tools it is given."""
        return self.template.writes_tools()

    @cached_property
    def call_format(self) -> str | None:
        """The notation in which the template writes calls of tools; None where it writes none."""
        return responses.notation(self.template)

    def prompt_ids(self, messages: Sequence[Message], *, tools: Tools | None = None) -> list[int]:
        """Token ids of a conversation up to where the assistant speaks next.

        Args:
            messages: The conversation.
            tools: OpenAI's definitions of the tools, for the template to tell.

        Raises:
            UserError: The template refuses the messages, or writes no tools or no results of tools.
        """
        key = self._key(messages, tools)
        ids = self._prompts.get(key)
        if ids is None:
            self._check(messages, tools)
            ids = tuple(
                self.encode(self._opening(messages, tools, self._tools_key(tools) if tools else ""))
            )
            self._prompts.put(key, ids, len(ids))
        return list(ids)

    def next_prompt_ids(
        self,
        context: Sequence[int],
        sampled: Sequence[int],
        new_messages: Sequence[Message],
        *,
        tools: Tools | None = None,
    ) -> list[int]:
        """The context of the next turn: what stands, what was sampled, what is new.

        The token that ends the turn is supplied where it was not sampled.

        Args:
            context: Ids the policy saw in this turn.
            sampled: Ids it sampled, end-of-sequence token included when it sampled one.
            new_messages: What the environment answered.
            tools: As in ``prompt_ids``.

        Raises:
            UserError: The template refuses the messages or leaves them out.
        """
        after, closing = self._suffix(new_messages, tools)
        return [*context, *sampled, *after[self.n_sampled_of(after, closing, sampled) :]]

    def n_closing(self, after: Sequence[int]) -> int:
        """How many ids at the head of what follows a completion end its turn."""
        names = self.template.names
        run = 0
        for here, alone in zip(after, self._alone, strict=False):
            if here != alone or here not in names:
                break
            run += 1
        if run or not after or after[0] not in names:
            return run
        name = names[after[0]]
        return int(name == self.template.call_end or self.template.behind.startswith(name))

    def n_sampled_of(self, after: Sequence[int], closing: int, sampled: Sequence[int]) -> int:
        """How many ids at the head of what follows a completion it has sampled itself.

        Args:
            after: What follows, from the first token that ends the turn on.
            closing: How many of them end the turn.
            sampled: The completion.
        """
        if not sampled:
            return 0
        last = sampled[-1]
        if not closing:  # GLM ends a turn with the header of what comes next
            return int(last in self.end_ids and last == after[0]) if after else 0
        for place in range(closing, 0, -1):
            if after[place - 1] == last:
                return place
        return closing if last in self.end_ids else 0

    def conversation_ids(
        self,
        opening: Sequence[Message],
        completions: Sequence[Sequence[int]],
        answers: Sequence[Sequence[Message]],
        *,
        tools: Tools | None = None,
    ) -> list[int]:
        """The context after whole turns, built from what was sampled in each.

        With ``history="append"`` it is what ``next_prompt_ids`` gives turn by turn. With
        ``history="template"`` the sampled ids of a turn up to its closing thinking tag are left out
        where the template, rendering the conversation, drops that turn's thinking; the rest stays
        as sampled. Where the tag does not end at the end of a token, the turn stays whole.

        Args:
            opening: The messages of the reset.
            completions: Sampled ids of each turn.
            answers: What the environment answered to each.
            tools: As in ``prompt_ids``.

        Raises:
            UserError: The template refuses the messages.
        """
        cuts: Sequence[thinking.Cut | None] = [None] * len(completions)
        if self.history == "template":
            cuts = thinking.cuts(self, opening, completions, answers, tools)
        ids = self.prompt_ids(opening, tools=tools)
        for sampled, answer, cut in zip(completions, answers, cuts, strict=True):
            kept = sampled if cut is None else sampled[cut.start :]
            before = ids if cut is None else cut.header(ids)
            ids = self.next_prompt_ids(before, kept, answer, tools=tools)
        return ids

    def completion_ids(self, text: str) -> list[int]:
        """Token ids of an assistant's text and the token that ends its turn, to train on."""
        return [*self.encode(text), self.end_id]

    def unknown(self, text: str) -> list[str]:
        """The characters of a text that the tokenizer can only write as its unknown token."""
        unknown_id = self.tokenizer.unk_token_id
        return [c for c in dict.fromkeys(text) if unknown_id in self.encode(c)]

    def decode(self, ids: Sequence[int], *, special_tokens: bool = False) -> str:
        """The text of sampled ids, without what ended the turn.

        Args:
            ids: What was sampled.
            special_tokens: Keep the other special tokens; some families write calls with them.
        """
        kept = list(ids)
        while kept and kept[-1] in self.end_ids:
            kept.pop()
        return self._decode(kept, not special_tokens)

    def parse(
        self, completion: Sequence[int] | str, *, tools: Tools | None = None, prompt: str = ""
    ) -> ParsedMessage:
        """The message that the model's own parser, or its template's notation, makes of a text.

        Never raises on what a model wrote: what cannot be read stays text, with ``problems``.

        Args:
            completion: Sampled ids (special tokens are kept), or their text.
            tools: OpenAI's definitions of the tools, for the types of the arguments.
            prompt: The end of the prompt's text, where it opens the thinking, say.
        """
        text = completion
        if not isinstance(text, str):
            text = self.decode(text, special_tokens=True)
        return responses.parse(self, text, tools, prompt)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text as it stands; nothing is put before or after it."""
        return self._encode(mended(text))

    def _suffix(
        self, messages: Sequence[Message], tools: Tools | None
    ) -> tuple[Sequence[int], int]:
        """What follows a completion, from the end of the turn on; how many tokens end it."""
        key = self._key(messages, tools)
        found = self._suffixes.get(key)
        if found is None:
            text = self._after(messages, tools, self._tools_key(tools) if tools else "")
            ids = tuple(self.encode(text))
            found = (ids, self.n_closing(ids))
            self._suffixes.put(key, found, len(ids))
        return found

    def _check(self, messages: Sequence[Message], tools: Tools | None) -> None:
        if tools and not self.takes_tools:
            raise UserError(
                "the chat template does not write tools, so the model would not hear of them; set "
                "the environment's option `call_format: hermes`, whose system prompt tells them"
            )
        roles = [m["role"] for m in messages]
        if "tool" in roles and not self.template.takes_results():
            raise UserError(
                f"the chat template writes no messages of role 'tool'; {RESULTS_AS_USER}"
            )

    def _key(self, messages: Sequence[Message], tools: Tools | None) -> Hashable:
        """Equal for equal messages and tools; None where it cannot be told cheaply."""
        parts = []
        for m in messages:
            if len(m) == 2:
                parts.append((m["role"], m["content"]))
            elif "tool_calls" in m:
                return None
            else:
                parts.append(tuple(m.items()))  # type: ignore[arg-type]
        return (tuple(parts), self._tools_key(tools) if tools else "")

    def _tools_key(self, tools: Tools) -> str:
        found = self._tool_keys.get(id(tools))
        if found is None or found[0] != tools:
            if len(self._tool_keys) >= 64:
                self._tool_keys.clear()
            found = (copy.deepcopy(tools), json.dumps(list(tools), default=str))
            self._tool_keys[id(tools)] = found
        return found[1]


def _read(template: str) -> str:
    try:
        return Path(template).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"model.chat_template: cannot read {template}: {error}") from error
