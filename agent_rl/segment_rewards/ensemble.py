"""The learned reward: an ensemble of small networks on a step's features."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from agent_rl.config.trajectory_preferences import SegmentRewardConfig
from agent_rl.rollout import seed_of


class Networks(nn.Module):
    """M perceptrons with two hidden layers, computed together.

    Args:
        members: M.
        buckets: Number of features.
        hidden: Width.
    """

    def __init__(self, members: int, buckets: int, hidden: int) -> None:
        super().__init__()
        self.members, self.hidden = members, hidden
        self.embedding = nn.EmbeddingBag(
            buckets + 1, members * hidden, mode="sum", padding_idx=buckets
        )
        nn.init.normal_(self.embedding.weight, std=0.3)
        with torch.no_grad():
            self.embedding.weight[buckets] = 0.0
        self.inner = nn.Parameter(torch.randn(members, hidden, hidden) / math.sqrt(hidden))
        self.inner_bias = nn.Parameter(torch.zeros(members, 1, hidden))
        self.outer = nn.Parameter(torch.randn(members, hidden, 1) / math.sqrt(hidden))

    def forward(self, features: Tensor) -> Tensor:
        """[S, F] long to [M, S] rewards."""
        first = functional.relu(self.embedding(features)).view(-1, self.members, self.hidden)
        second = functional.relu(torch.baddbmm(self.inner_bias, first.transpose(0, 1), self.inner))
        return torch.bmm(second, self.outer).squeeze(-1)

    def penalty(self, strength_m: Tensor) -> Tensor:
        """The sum of squared weights, each member's times its strength."""
        sizes_m = self.inner.square().sum((1, 2)) + self.outer.square().sum((1, 2))
        rows = self.embedding.weight.view(-1, self.members, self.hidden)
        return (strength_m * (sizes_m + rows.square().sum((0, 2)))).sum()


def preference_loss(sums: Tensor, label: Tensor, uniform: float) -> Tensor:
    """Cross-entropy of Bradley-Terry on summed rewards (Christiano et al. 2017, equation 1).

    Args:
        sums: [..., 2] the summed rewards of both clips.
        label: [...] the share of preference that the first clip has: 1, 0, or 0.5 for a tie.
        uniform: The chance that the person answered at random (section 2.2.3 assumes 0.1).

    Returns:
        [...] losses.
    """
    first = (1.0 - uniform) * torch.sigmoid(sums[..., 0] - sums[..., 1]) + 0.5 * uniform
    first = first.clamp(1e-6, 1.0 - 1e-6)
    return -(label * first.log() + (1.0 - label) * (1.0 - first).log())


@dataclass(frozen=True, slots=True)
class Fit:
    """How a round of fitting ended.

    Attributes:
        loss: Mean loss on what each member trained on.
        held_out: Mean loss on what each member did not; NaN where that is nothing.
    """

    loss: float
    held_out: float

    def metrics(self) -> dict[str, float]:
        """Those that are known, by name."""
        losses = {"segments/loss": self.loss, "segments/loss_held_out": self.held_out}
        return {name: value for name, value in losses.items() if math.isfinite(value)}


class RewardEnsemble:
    """The networks, their optimiser, and how strongly each is held down.

    Item ``i`` counts for member ``m`` as often as a bootstrap sample would hold it (Poisson with
    mean 1, fixed by the seed); where that is never, it validates the member. A member's L2 strength
    is moved so that its held-out loss stays 1.1 to 1.5 times its training loss (section 2.2.3).

    Args:
        config: Sizes and speeds.
        seed: Of weights, samples and orders.
    """

    def __init__(self, config: SegmentRewardConfig, seed: int) -> None:
        self.config, self.seed = config, seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(seed, 1))
            self.networks = Networks(config.members, config.buckets, config.hidden)
        self.optimizer = torch.optim.Adam(self.networks.parameters(), lr=config.lr)
        self.strength_m = torch.full((config.members,), config.l2)
        self.rounds = 0

    @torch.no_grad()
    def chances(self, features: Tensor) -> Tensor:
        """[M, N] of [N, 2, k, F]: each member's chance that the first clip is preferred."""
        sums = self._forward(features).sum(-1)
        return torch.sigmoid(sums[..., 0] - sums[..., 1])

    @torch.no_grad()
    def rewards(self, features: Tensor) -> Tensor:
        """[M, S] the reward of each step by each member, as it stands."""
        return self.networks(features)

    def normalised(self, features: Tensor, scale_m: Tensor) -> Tensor:
        """[S] each member's rewards, their mean over these steps taken off, scaled, averaged.

        Comparisons of equally long clips leave a reward's origin open; with mean 0 over what is
        played, a step more or less is worth nothing in itself.

        Args:
            features: [S, F] of all steps of a batch.
            scale_m: [M] what each member is divided by.
        """
        rewards = self.rewards(features)
        return ((rewards - rewards.mean(1, keepdim=True)) / scale_m.unsqueeze(1)).mean(0)

    def scales(self, features: Tensor) -> Tensor:
        """[M] the deviation of each member's rewards over [S, F] steps, as ``normalised`` takes it.

        Over all steps that were labelled, it stays what it is when a batch is good throughout; over
        that batch alone it would shrink, and raise noise to rewards.
        """
        return self.rewards(features).std(1, unbiased=False).clamp(min=1e-6)

    def fit(
        self,
        features: Tensor,
        labels: Tensor,
        loss_of: Callable[[Tensor, Tensor], Tensor],
    ) -> Fit:
        """Some updates on all items labelled so far.

        Args:
            features: [N, ..., F] of each item.
            labels: [N].
            loss_of: The losses [M, n] of rewards [M, n, ...] and labels [n].
        """
        counts = self._counts(len(labels))
        draw = torch.Generator().manual_seed(seed_of(self.seed, 2, self.rounds))
        for _ in range(self.config.updates):
            chosen = torch.randint(len(labels), (self.config.batch_size,), generator=draw)
            counted = counts[:, chosen]
            losses = loss_of(self._forward(features[chosen]), labels[chosen])
            loss = ((losses * counted).sum(1) / counted.sum(1).clamp(min=1)).sum()
            (loss + self.networks.penalty(self.strength_m)).backward()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        self.rounds += 1
        return self._validate(features, labels, loss_of, counts)

    @torch.no_grad()
    def _validate(
        self,
        features: Tensor,
        labels: Tensor,
        loss_of: Callable[[Tensor, Tensor], Tensor],
        counts: Tensor,
    ) -> Fit:
        losses = loss_of(self._forward(features), labels)
        trained = (losses * counts).sum(1) / counts.sum(1).clamp(min=1)
        unseen = (counts == 0).float()
        held_out = (losses * unseen).sum(1) / unseen.sum(1)
        for member, ratio in enumerate((held_out / trained).tolist()):
            if ratio > 1.5:
                self.strength_m[member] *= 1.5
            elif ratio < 1.1:
                self.strength_m[member] /= 1.5
        return Fit(float(trained.mean()), float(held_out.mean()))

    def _forward(self, features: Tensor) -> Tensor:
        flat: Tensor = self.networks(features.flatten(0, -2))
        return flat.view(-1, *features.shape[:-1])

    def _counts(self, n: int) -> Tensor:
        """[M, N] how often each item counts for each member; the first n never change."""
        draw = torch.Generator().manual_seed(seed_of(self.seed, 3))
        rate = torch.ones(n, self.config.members)
        return torch.poisson(rate, generator=draw).T

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next round depends on."""
        return {
            "networks": self.networks.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "strength": self.strength_m,
            "rounds": self.rounds,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where ``state_dict`` was taken."""
        self.networks.load_state_dict(state["networks"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.strength_m = state["strength"]
        self.rounds = state["rounds"]
