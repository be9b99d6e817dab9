"""Messages to tokens, through the model's own chat template, and never back to tokens again.

What the policy sampled stays as the ids it sampled. Only what is new (the task, an environment's
answer) is rendered, so the context of turn k + 1 is the context of turn k, the sampled ids, and the
rendering of the new messages (traps 12-14 of the literature: re-tokenization, masks, rewritten
history).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from agent_rl.errors import UserError
from rl_envs.types import Message

_MARK = "\u2063assistant-text-stands-here\u2063"


class Chat:
    """The chat template of one tokenizer.

    Args:
        tokenizer: A transformers tokenizer with a chat template.
        template: A file with a Jinja template that replaces the tokenizer's own.
        end_ids: Ids that end a turn beside the tokenizer's end-of-sequence token (the generation
            configuration of a model often lists some).

    Attributes:
        end_id: The id that the template itself writes after an assistant's text; some families have
            an end of turn that is not the tokenizer's end of sequence.
        end_ids: Every id that ends a turn.

    Raises:
        UserError: When there is no template at all, or no token that ends an answer.
    """

    def __init__(
        self, tokenizer: Any, template: str | None = None, end_ids: Iterable[int] = ()
    ) -> None:
        if template is not None:
            tokenizer.chat_template = _read(template)
        if not tokenizer.chat_template:
            raise UserError(
                f"the tokenizer of {tokenizer.name_or_path or 'this model'} has no chat template; "
                "give one with model.chat_template=FILE.jinja"
            )
        if tokenizer.eos_token_id is None:
            raise UserError(
                f"the tokenizer of {tokenizer.name_or_path or 'this model'} has no end-of-sequence "
                "token (eos_token), so no answer could end"
            )
        self.tokenizer = tokenizer
        written = self._encode(self._after_assistant((), generation_prompt=False))[:1]
        atomic = set(tokenizer.added_tokens_decoder)  # an end token is never part of a word
        self.end_id: int = next((i for i in written if i in atomic), tokenizer.eos_token_id)
        self.end_ids = frozenset({tokenizer.eos_token_id, self.end_id, *end_ids})

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a conversation up to where the assistant speaks next."""
        return self._encode(self._render(messages, generation_prompt=True))

    def next_prompt_ids(
        self, context: Sequence[int], sampled: Sequence[int], new_messages: Sequence[Message]
    ) -> list[int]:
        """The context of the next turn: what stands, what was sampled, what is new.

        Args:
            context: Ids the policy saw in this turn.
            sampled: Ids it sampled, end-of-sequence token included when it sampled one.
            new_messages: What the environment answered.
        """
        after = self._encode(self._after_assistant(new_messages, generation_prompt=True))
        if sampled and sampled[-1] in self.end_ids and after[:1] == [self.end_id]:
            after = after[1:]
        return [*context, *sampled, *after]

    def completion_ids(self, text: str) -> list[int]:
        """Token ids of an assistant's text and the token that ends its turn, to train on."""
        return [*self._encode(text), self.end_id]

    def unknown(self, text: str) -> list[str]:
        """The characters of a text that the tokenizer can only write as its unknown token."""
        unknown_id = self.tokenizer.unk_token_id
        return [c for c in dict.fromkeys(text) if unknown_id in self._encode(c)]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of sampled ids, without special tokens and without what ended the turn."""
        kept = list(ids)
        while kept and kept[-1] in self.end_ids:
            kept.pop()
        return str(
            self.tokenizer.decode(
                kept, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )

    def _after_assistant(self, new_messages: Sequence[Message], *, generation_prompt: bool) -> str:
        """What the template writes after an assistant's text when these messages follow it."""
        ask: Message = {"role": "user", "content": "?"}
        said: Message = {"role": "assistant", "content": _MARK}
        text = self._render([ask, said, *new_messages], generation_prompt=generation_prompt)
        _, found, after = text.rpartition(_MARK)
        if not found:
            raise UserError("the chat template does not write the assistant's text; use another")
        return after

    def _render(self, messages: Sequence[Message], *, generation_prompt: bool) -> str:
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    list(messages), tokenize=False, add_generation_prompt=generation_prompt
                )
            )
        except Exception as error:  # Jinja errors have no common base that says what to do
            roles = [m["role"] for m in messages]
            raise UserError(f"the chat template refuses the roles {roles}: {error}") from error

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))


def _read(template: str) -> str:
    try:
        return Path(template).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"model.chat_template: cannot read {template}: {error}") from error
