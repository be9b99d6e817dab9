"""A past version of the policy that takes the other seats of a game."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from agent_rl import models
from agent_rl.chat import Chat
from agent_rl.engines import TorchEngine
from agent_rl.errors import UserError
from agent_rl.self_play import seats_of
from rl_envs import Mixture


class Opponent:
    """A frozen copy of the policy with an engine of its own; it never learns, it is renewed.

    Args:
        model: The policy; copied, adapters and all.
        chat: Its chat template.
        dtype: What it generates in; None for the model's own.
    """

    def __init__(self, model: nn.Module, chat: Chat, dtype: torch.dtype | None = None) -> None:
        self.model = models.frozen_copy(model)
        self.engine = TorchEngine(
            self.model,
            eos_token_ids=models.end_token_ids(model, chat),
            tokenizer=chat.tokenizer,
            dtype=dtype,
        )

    def refresh(self, model: nn.Module) -> None:
        """Become the present policy."""
        self.load_state_dict(model.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """Its weights, for a checkpoint."""
        return self.model.state_dict()

    def load_state_dict(self, weights: dict[str, Any]) -> None:
        """Become the policy that had these weights."""
        self.model.load_state_dict(weights)
        self.engine.load_weights(None)


def refuse_without_seats(mixture: Mixture) -> None:
    """Stop where an opponent is wanted and no environment has a seat for one.

    Raises:
        UserError: All have one seat.
    """
    if all(seats_of(entry.env) == 1 for entry in mixture.entries):
        raise UserError(
            "opponent_refresh is set, but no environment of this run has several seats; play one "
            "against itself (text/TicTacToe-v0: options: {opponent: self}) or leave it out"
        )
