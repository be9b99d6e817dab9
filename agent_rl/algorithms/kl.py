"""KL regularization towards a reference policy: estimators, places, coefficients.

With tokens sampled from the policy and ``d_t = log pi - log ref`` at them. Which divergence an
option really descends depends on where it is put, not only on what it estimates: see ``DESCENT``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

from torch import Tensor

from agent_rl.algorithms.layout import AlgorithmError

Place = Literal["none", "reward", "loss"]
Estimator = Literal["k1", "k2", "k3", "exact"]

DESCENT: Mapping[tuple[str, str], str] = {
    ("reward", "k1"): "KL(pi || ref) of whole trajectories, exactly: the RLHF objective",
    ("reward", "k2"): "no KL (refused)",
    ("reward", "k3"): "no KL (refused)",
    ("reward", "exact"): "KL(pi || ref) of later tokens only, not of the token itself (refused)",
    ("loss", "k1"): "nothing: its expected gradient is zero (refused)",
    ("loss", "k2"): "KL(pi || ref) of the next token at the visited states",
    ("loss", "k3"): "KL(ref || pi) of the next token at the visited states",
    (
        "loss",
        "exact",
    ): "KL(pi || ref) of the next token at the visited states, noise-free",
}
"""What (place, estimator) descends in expectation, with samples from the policy.

In the reward, the return-to-go carries each token's penalty back to all the tokens before it, so
the policy also learns to avoid states where it would have to differ. In the loss only the
next-token distribution at the states that were visited is pulled. Off policy, k2 and k3 need the
ratio's weight for this to hold (:func:`loss_penalty`); exact does not.
"""


def require_descent(place: Place, estimator: Estimator) -> None:
    """Refuse a KL term that does not descend a KL.

    Raises:
        AlgorithmError: saying what it would do and what to choose.
    """
    descent = DESCENT.get((place, estimator), "")
    if "(refused)" in descent:
        instead = "k1" if place == "reward" else "k2, k3 or exact"
        descent = descent.removesuffix(" (refused)")
        raise AlgorithmError(
            f"kl estimator {estimator} in the {place} descends {descent}; use {instead} there"
        )


def k1(d_t: Tensor) -> Tensor:
    """``d``: unbiased for KL(pi || ref), of either sign (Schulman 2020, "Approximating KL")."""
    return d_t


def k2(d_t: Tensor) -> Tensor:
    """``d^2 / 2``: biased as a value, never negative (Schulman 2020)."""
    return d_t**2 / 2


def k3(d_t: Tensor) -> Tensor:
    """``exp(-d) - 1 + d``: unbiased for KL(pi || ref) and never negative (Schulman 2020).

    For d < -80 the exponential goes on along its tangent: finite in float32, and no flat
    gradient.
    """
    x = -d_t
    return x.clamp(max=80).expm1() + (x - 80).clamp(min=0) * math.exp(80) - x


def exact(logprobs_tv: Tensor, ref_logprobs_tv: Tensor) -> Tensor:
    """``sum_v pi (log pi - log ref)``: ``[T, V]`` to ``[T]``, over the whole vocabulary.

    A token of policy probability 0 (-inf) contributes 0; one that only the reference forbids makes
    the divergence infinite, as it is.
    """
    forbidden = logprobs_tv.isneginf()
    d_tv = (logprobs_tv - ref_logprobs_tv.detach()).masked_fill(forbidden, 0)
    return (logprobs_tv.exp() * d_tv).sum(-1)


ESTIMATORS: Mapping[str, Callable[[Tensor], Tensor]] = {"k1": k1, "k2": k2, "k3": k3}
"""The estimators that need the sampled token only, by name."""


def loss_penalty(estimator: Estimator, d_t: Tensor, ratio_t: Tensor | None = None) -> Tensor:
    """The KL term of the loss per token, to be multiplied by the coefficient: ``[T]``.

    Args:
        estimator: k2 or k3. (``exact`` is called with both distributions instead.)
        d_t: ``[T]``, log pi with gradient minus log ref without.
        ratio_t: ``[T]``, pi / pi_old if the tokens were sampled by an older policy: a constant
            weight that makes the expected gradient that of fresh samples. None is 1.

    Raises:
        AlgorithmError: for k1, whose gradient ``grad log pi`` is zero in expectation.
    """
    require_descent("loss", estimator)
    if estimator not in ESTIMATORS:
        raise AlgorithmError(f"kl estimator {estimator!r} does not work on samples; use k2 or k3")
    penalty_t = ESTIMATORS[estimator](d_t)
    return penalty_t if ratio_t is None else ratio_t.detach() * penalty_t


def penalised_rewards(rewards_t: Tensor, d_t: Tensor, coef: float) -> Tensor:
    """``r_t - coef * d_t``, each token paying for itself, a constant: ``[T]``.

    Ziegler et al. 2019, arXiv:1909.08593, equation 2. A sum over tokens, never a mean: a mean would
    let a long answer pay 1/T of the price.
    """
    return rewards_t - coef * d_t.detach()


class FixedKL:
    """A KL coefficient that stays."""

    def __init__(self, coef: float) -> None:
        self.coef = coef

    def update(self, kl: float, n: int) -> None:
        """Take note of a measured KL; nothing changes."""

    def state_dict(self) -> dict[str, float]:
        """What a checkpoint needs."""
        return {"coef": self.coef}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Continue from a checkpoint."""
        self.coef = float(state["coef"])


class AdaptiveKL(FixedKL):
    """A KL coefficient that steers the measured KL to a target.

    Ziegler et al. 2019, arXiv:1909.08593, section 2.2:
    ``coef *= 1 + clip(kl / target - 1, -0.2, 0.2) * n / horizon``.
    """

    def __init__(self, coef: float, target: float, horizon: float) -> None:
        """Start the controller.

        Args:
            coef: The first coefficient, above 0: it is only ever multiplied.
            target: Wanted KL in nats per trajectory.
            horizon: Trajectories over which a full error changes the coefficient by about 20 %.
        """
        super().__init__(coef)
        if min(coef, target, horizon) <= 0:
            raise AlgorithmError(
                f"adaptive KL needs positive numbers, got {coef=}, {target=}, {horizon=}"
            )
        self.target = target
        self.horizon = horizon

    def update(self, kl: float, n: int) -> None:
        """Move the coefficient after a batch.

        Args:
            kl: Mean over the batch of the KL of a trajectory (the sum over its tokens), in nats.
            n: Trajectories in the batch.

        Raises:
            AlgorithmError: if ``kl`` is not finite, or ``n`` exceeds five horizons, at which the
                coefficient would change its sign.
        """
        if not math.isfinite(kl):
            raise AlgorithmError(f"the measured KL is {kl}; the policy has diverged")
        if n >= 5 * self.horizon:
            raise AlgorithmError(f"kl horizon {self.horizon} is too short for batches of {n}")
        error = min(max(kl / self.target - 1, -0.2), 0.2)
        self.coef *= 1 + error * n / self.horizon


def estimates(d_t: Tensor) -> dict[str, Tensor]:
    """k1, k2 and k3 as ``kl_k1`` ...: means over the tokens of this call, 0 for none."""
    n = max(d_t.numel(), 1)
    return {f"kl_{name}": estimate(d_t.detach()).sum() / n for name, estimate in ESTIMATORS.items()}
