"""A reward model: a transformer and a scalar head, read at the last token, whatever the padding.

Conversations are rendered by the model's own chat template, the answer's end token included, in
training and at use alike (trap 38). The position is found by length: `packing.pack` gives each
sequence its last token as the one target, and prompts that several answers share are read once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from agent_rl import models
from agent_rl.attention import Attention, autocast
from agent_rl.chat import Chat
from agent_rl.errors import UserError
from agent_rl.packing import MicroBatch, pack
from agent_rl.reward_models import encoding
from agent_rl.trajectory import Segment
from rl_envs.types import Message

Kind = Literal["bradley_terry", "ranking", "outcome", "process"]
Combine = Literal["mean", "min", "mean_std", "uwo"]
Aggregation = Literal["min", "prod", "mean", "last"]
MICRO_TOKENS = 8192


@dataclass(frozen=True, slots=True)
class Standing:
    """What ``reward_model.json`` says of a reward model beside its weights.

    Attributes:
        kind: What it learned from. ``outcome`` and ``process`` score with probabilities.
        mean: Of the scores of held-out conversations.
        std: Of the same.
        accuracy: On held-out pairs or labels; None where it was not measured.
        max_tokens: Longest conversation, in tokens; longer ones lose their start. 0 for the
            model's context.
        step_separator: What ends a step, for ``process``.
        aggregation: How the scores of steps become one.
        combine: How the members of an ensemble become one score.
        uncertainty_weight: The price of their disagreement, for ``mean_std`` and ``uwo``.
        members: How many members there are.
    """

    kind: Kind = "bradley_terry"
    mean: float = 0.0
    std: float = 1.0
    accuracy: float | None = None
    max_tokens: int = 0
    step_separator: str = "\n"
    aggregation: Aggregation = "min"
    combine: Combine = "mean"
    uncertainty_weight: float = 1.0
    members: int = 1


PLAIN = Standing()


class RewardModel:
    """Scores conversations that end with the assistant.

    Args:
        network: A transformers sequence-classification model of one label, whose head is
            ``network.score`` and whose backbone is ``network.base_model``.
        chat: Its tokenizer and chat template.
        standing: Its kind, and how it scores.
        compute: Precision of the forward pass; bfloat16 means autocast.
        name: What messages call it.
        members: The other members of an ensemble; ``network`` is the first.
        ensemble: What holds for the ensemble; ``standing`` is the first member's own.

    Attributes:
        trained: What carries the trainable weights: ``network``, or peft's wrapper around it.

    Raises:
        UserError: For layers, or an attention implementation, that take no 4-D mask.
    """

    def __init__(
        self,
        network: nn.Module,
        chat: Chat,
        standing: Standing = PLAIN,
        *,
        compute: torch.dtype = torch.float32,
        name: str = "the reward model",
        members: Sequence[RewardModel] = (),
        ensemble: Standing | None = None,
    ) -> None:
        self.network: Any = network
        self.trained: nn.Module = network
        self.chat = chat
        self.standing = standing
        self.compute = compute
        self.name = name
        self.members = tuple(members)
        self.ensemble = ensemble
        self._attention = Attention(network)

    @property
    def mean(self) -> float:
        """Of the scores of held-out conversations; 0 where it is not known."""
        return (self.ensemble or self.standing).mean

    @property
    def std(self) -> float:
        """Of the scores of held-out conversations; 1 where it is not known."""
        return (self.ensemble or self.standing).std

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        found: torch.device = self.network.score.weight.device
        return found

    @property
    def max_tokens(self) -> int:
        """Longest conversation, in tokens."""
        context = models.context_length(self.network)
        return min(self.standing.max_tokens or context, context)

    @torch.no_grad()
    def score(
        self, conversations: Sequence[Sequence[Message]], *, micro_tokens: int = MICRO_TOKENS
    ) -> Tensor:
        """The score of each conversation.

        Kinds ``bradley_terry`` and ``ranking`` give a reward, ``outcome`` the probability that the
        answer is right, ``process`` the aggregate of the probabilities of its steps. An ensemble
        combines its members' scores (``combined``).

        Args:
            conversations: B lists of messages, each ending with the assistant.
            micro_tokens: Most positions in one forward pass.

        Returns:
            [B] float32 on the CPU.

        Raises:
            UserError: A conversation that does not end with the assistant, or a score that is not
                finite.
        """
        own = self._own_scores(conversations, micro_tokens)
        if self.ensemble is None:
            return own
        others = [m._own_scores(conversations, micro_tokens) for m in self.members]
        standings = [self.standing, *(m.standing for m in self.members)]
        return combined(torch.stack([own, *others]), standings, self.ensemble)

    def step_scores(
        self, conversations: Sequence[Sequence[Message]], *, micro_tokens: int = MICRO_TOKENS
    ) -> list[Tensor]:
        """The probability of each step of each answer, of the kind ``process``; [steps] each."""
        segments = [self.segment(c) for c in conversations]
        with torch.no_grad():
            flat = torch.sigmoid(self.rewards(pack(segments, micro_tokens=micro_tokens))).cpu()
        self.refuse_non_finite(flat)
        return list(flat.split([max(1, len(s.sampled)) for s in segments]))

    def rewards(self, micros: list[MicroBatch]) -> Tensor:
        """The head's outputs at every target of the packed sequences, with their gradient.

        A segment without sampled tokens has one target, its last token. For one with them (a value
        model), the outputs are those of the states before each sampled token. Of an ensemble, the
        first member's.

        Args:
            micros: All micro-batches of a ``pack``.

        Returns:
            [targets] float32 in the flat order of ``pack``, on the model's device.
        """
        if not micros:
            return torch.zeros(0)
        slots = torch.cat([micro.slots for micro in micros]).to(self.device)
        values = torch.cat([self.outputs(micro) for micro in micros])
        flat = torch.zeros(micros[0].n_targets, device=self.device)
        return flat.index_copy(0, slots, values)

    def outputs(self, micro: MicroBatch) -> Tensor:
        """The head's outputs at one micro-batch's targets, in its own order; [K] float32."""
        device = self.device
        micro = replace(
            micro,
            input_ids=micro.input_ids.to(device),
            position_ids=micro.position_ids.to(device),
            mask=micro.mask.to(device),
            select=micro.select.to(device),
        )
        with autocast(self.network, self.compute):
            hidden = self.network.base_model(
                input_ids=micro.input_ids,
                position_ids=micro.position_ids,
                attention_mask=self._attention.masks(micro),
                use_cache=False,
            ).last_hidden_state
        chosen = hidden.reshape(-1, hidden.shape[-1])[micro.select]
        head = self.network.score  # outside autocast: in the precision of its own weights
        outputs: Tensor = head(chosen.to(head.weight.dtype))[:, 0].float()
        return outputs

    def segment(self, conversation: Sequence[Message]) -> Segment:
        """A conversation as ids, and where its scores are read; see ``encoding``.

        Raises:
            UserError: When it does not end with the assistant.
        """
        prompt, answer = encoding.parted(conversation)
        if self.standing.kind == "process":
            steps = encoding.split_steps(answer, self.standing.step_separator)
            return encoding.steps_segment(
                self.chat, prompt, steps, self.standing.step_separator, self.max_tokens
            )
        return encoding.answer_segments(self.chat, prompt, [answer], self.max_tokens)[0]

    @property
    def gives_probabilities(self) -> bool:
        """Whether scores lie in 0..1."""
        return self.standing.kind in ("outcome", "process")

    def _own_scores(self, conversations: Sequence[Sequence[Message]], micro_tokens: int) -> Tensor:
        if self.standing.kind == "process":
            steps = self.step_scores(conversations, micro_tokens=micro_tokens)
            return torch.tensor([aggregated(s, self.standing.aggregation) for s in steps])
        segments = [self.segment(c) for c in conversations]
        flat = self.rewards(pack(segments, micro_tokens=micro_tokens)).float().cpu()
        self.refuse_non_finite(flat)
        return torch.sigmoid(flat) if self.gives_probabilities else flat

    def refuse_non_finite(self, scores: Tensor) -> None:
        """Raise where a score is no number to learn from.

        Raises:
            UserError: One is NaN or infinite.
        """
        strange = (~scores.isfinite()).nonzero()
        if len(strange):
            value = float(scores[strange[0, 0]])
            raise UserError(
                f"{self.name} gave the score {value:g}, which is no number to learn from; its "
                "weights are damaged or its training diverged: train it again with a smaller lr"
            )


def combined(scores_mb: Tensor, members: Sequence[Standing], whole: Standing) -> Tensor:
    """One score of the members' scores [M, B]; [B].

    Rewards are first put on one scale, each member's held-out mean at 0 and its standard deviation
    at the members' average; probabilities are taken as they are. ``min`` is worst-case optimization
    and ``uwo`` uncertainty-weighted optimization, the mean less ``uncertainty_weight`` times the
    variance (Coste et al. 2023, arXiv:2310.02743, section 3); ``mean_std`` takes the standard
    deviation for the variance. Both are of the members present (no n - 1).
    """
    if whole.kind in ("bradley_terry", "ranking"):
        mean_m = torch.tensor([m.mean for m in members])
        std_m = torch.tensor([m.std for m in members])
        scores_mb = (scores_mb - mean_m[:, None]) / std_m[:, None] * std_m.mean()
    if whole.combine == "min":
        return scores_mb.amin(0)
    mean = scores_mb.mean(0)
    if whole.combine == "mean":
        return mean
    variance = scores_mb.var(0, correction=0)
    spread = variance if whole.combine == "uwo" else variance.sqrt()
    return mean - whole.uncertainty_weight * spread


def aggregated(probabilities: Tensor, how: Aggregation) -> float:
    """One score of the probabilities of an answer's steps [S] (Lightman et al. 2023)."""
    if how == "last":
        return float(probabilities[-1])
    reduced: Any = {"min": torch.amin, "prod": torch.prod, "mean": torch.mean}[how]
    return float(reduced(probabilities))
