"""Messages to tokens, through the model's own chat template, and never back to tokens again.

What the policy sampled stays as the ids it sampled. Only what is new (the task, an environment's
answer) is rendered, so the context of turn k + 1 is the context of turn k, the sampled ids, and the
rendering of the new messages (traps 12-14 of the literature: re-tokenization, masks, rewritten
history).
"""

from __future__ import annotations

from collections.abc import Sequence
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

    Raises:
        UserError: When there is no template at all.
    """

    def __init__(self, tokenizer: Any, template: str | None = None) -> None:
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
        after = self._after_assistant(new_messages)
        end = self.end_text
        if sampled and sampled[-1] in self.end_ids and end and after.startswith(end):
            after = after[len(end) :]
        return [*context, *sampled, *self._encode(after)]

    def completion_ids(self, text: str) -> list[int]:
        """Token ids of an assistant's text and its end-of-sequence token, to train on."""
        return [*self._encode(text), self.tokenizer.eos_token_id]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of sampled ids, without special tokens."""
        return str(
            self.tokenizer.decode(
                list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )

    @property
    def end_text(self) -> str:
        """The text of the end-of-sequence token."""
        return str(self.tokenizer.eos_token or "")

    @property
    def end_ids(self) -> set[int]:
        """Ids that end a turn, as far as the tokenizer knows them."""
        return {self.tokenizer.eos_token_id}

    def _after_assistant(self, new_messages: Sequence[Message]) -> str:
        """What the template writes after an assistant's text when these messages follow it."""
        ask: Message = {"role": "user", "content": "?"}
        said: Message = {"role": "assistant", "content": _MARK}
        text = self._render([ask, said, *new_messages], generation_prompt=True)
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
