"""One batch of preferences: likelihoods, losses, gradients, and what the implicit reward says.

The loss of an update is the mean over its whole batch. Answers that are compared are in one forward
pass, everything that spans the batch (the count, KTO's reference point) is made before it is cut:
micro-batches change no gradient.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from agent_rl import algorithms
from agent_rl.config.dpo import PreferenceLoss
from agent_rl.direct.examples import Example
from agent_rl.packing import MicroBatch, pack, target_offsets
from agent_rl.policy import Policy
from agent_rl.trajectory import Segment


@dataclass(frozen=True, slots=True)
class Readings:
    """What a loss sees of a batch.

    Attributes:
        loss: Mean over the batch.
        rewards: Implicit reward of every answer, by example.
        logprobs: Log-likelihood of every answer, by example.
        labels: Whether each is desirable, by example.
        reference_point: KTO's; None for other losses.
    """

    loss: float
    rewards: list[list[float]]
    logprobs: list[list[float]]
    labels: list[tuple[bool, ...]]
    reference_point: float | None

    def of(self, values: list[list[float]], desirable: bool) -> list[float]:
        """The values of the desirable answers, or of the others."""
        both = zip(values, self.labels, strict=True)
        return [v for vs, ls in both for v, its in zip(vs, ls, strict=True) if its == desirable]

    @property
    def paired(self) -> bool:
        """Whether every example is a pair."""
        return all(len(labels) == 2 for labels in self.labels)

    @property
    def accuracy(self) -> float:
        """Share of pairs whose chosen answer has the higher implicit reward; a tie counts half.

        Of single answers: of all pairs of a desirable and an undesirable one. NaN without any.
        """
        chosen, rejected = (torch.tensor(self.of(self.rewards, which)) for which in (True, False))
        if len(chosen) == 0 or len(rejected) == 0:
            return float("nan")
        gap = chosen - rejected if self.paired else chosen[:, None] - rejected[None, :]
        return float(((gap > 0).double() + (gap == 0).double() / 2).mean())

    def metrics(self) -> dict[str, float]:
        """By name; see ``docs/metrics.md``."""
        means = {
            f"pref/{word}_{name}": _mean(self.of(values, which))
            for word, which in (("chosen", True), ("rejected", False))
            for name, values in (("reward", self.rewards), ("logprob", self.logprobs))
        }
        margin = means["pref/chosen_reward"] - means["pref/rejected_reward"]
        more = {"pref/accuracy": self.accuracy, "pref/margin": margin}
        if self.reference_point is not None:
            more["pref/reference_point"] = self.reference_point
        return more | means


def read(
    policy: Policy,
    loss: PreferenceLoss,
    examples: Sequence[Example],
    micro_tokens: int,
    *,
    backward: bool = False,
) -> Readings:
    """Loss and implicit rewards of a batch; with ``backward`` the gradient of the loss is added.

    Args:
        policy: Who is read.
        loss: Which loss.
        examples: The whole batch, with reference likelihoods where the loss needs them.
        micro_tokens: Most tokens (padding included) in a forward pass.
        backward: Add the gradient of the mean loss to the weights' own.
    """
    point = _reference_point(policy, examples, micro_tokens) if loss.kind == "kto" else None
    n_losses = sum(len(e.segments) for e in examples) if loss.kind == "kto" else len(examples)
    total = 0.0
    rewards: list[list[float]] = [[] for _ in examples]
    logprobs: list[list[float]] = [[] for _ in examples]
    for chosen in chunks(examples, micro_tokens):
        part = [examples[i] for i in chosen]
        segments = [s for example in part for s in example.segments]
        with torch.set_grad_enabled(backward):
            sums_s = likelihoods(policy, segments, micro_tokens)
            its = losses(loss, part, sums_s, point).sum() / n_losses
        if backward:
            its.backward()
        total += float(its.detach())
        rewards_s = implicit_rewards(loss, part, sums_s.detach()).tolist()
        at = 0
        for index in chosen:
            stop = at + len(examples[index].segments)
            rewards[index], logprobs[index] = rewards_s[at:stop], sums_s[at:stop].tolist()
            at = stop
    labels = [example.labels for example in examples]
    return Readings(total, rewards, logprobs, labels, None if point is None else float(point))


def chunks(examples: Sequence[Example], micro_tokens: int) -> Iterator[list[int]]:
    """Examples (by index) whose answers go through the model together, longest first."""
    lengths = [_row_length(example.segments) for example in examples]
    chunk: list[int] = []
    width = 0
    for index in sorted(range(len(examples)), key=lambda i: -lengths[i]):
        if chunk and width * (len(chunk) + 1) > micro_tokens:
            yield chunk
            chunk = []
        width = width if chunk else lengths[index]
        chunk.append(index)
    if chunk:
        yield chunk


def likelihoods(policy: Policy, segments: Sequence[Segment], micro_tokens: int) -> Tensor:
    """``[S]`` sum of the log-probabilities of each segment's sampled tokens."""
    micros = pack(segments, micro_tokens=micro_tokens)
    return segment_sums(torch.cat([policy.score(m).logprobs_k for m in micros]), segments, micros)


def segment_sums(
    logprobs: Tensor, segments: Sequence[Segment], micros: Sequence[MicroBatch]
) -> Tensor:
    """``[S]`` sums of token values that come in the order of the micro-batches."""
    counts = torch.tensor(target_offsets(segments)).diff()
    owner_t = torch.repeat_interleave(torch.arange(len(segments)), counts)
    owner = owner_t[torch.cat([m.slots for m in micros])].to(logprobs.device)
    return logprobs.new_zeros(len(segments)).index_add(0, owner, logprobs)


def losses(
    loss: PreferenceLoss, examples: Sequence[Example], sums_s: Tensor, point: Tensor | None = None
) -> Tensor:
    """The loss of each pair, ``[B]``, or of each answer with KTO, ``[S]``.

    Args:
        loss: Which loss.
        examples: Theirs.
        sums_s: ``[S]`` log-likelihoods of all their segments, in order.
        point: KTO's reference point.
    """
    beta, smoothing = loss.strength, loss.label_smoothing
    if loss.kind == "kto":
        assert point is not None
        desirable_s = torch.tensor([label for e in examples for label in e.labels])
        return algorithms.kto(
            sums_s - _reference(examples, sums_s),
            desirable_s.to(sums_s.device),
            point,
            beta=beta,
            desirable_weight=loss.desirable_weight,
            undesirable_weight=loss.undesirable_weight,
        )
    n_b, m_b = _lengths(examples, sums_s).reshape(-1, 2).unbind(1)
    if loss.kind in ("orpo", "simpo"):
        w_b, l_b = sums_s.reshape(-1, 2).unbind(1)
        if loss.kind == "orpo":
            return algorithms.orpo(w_b, l_b, n_b, m_b, beta=beta)
        return algorithms.simpo(w_b, l_b, n_b, m_b, beta=beta, gamma=loss.gamma)
    w_b, l_b = (sums_s - _reference(examples, sums_s)).reshape(-1, 2).unbind(1)
    if loss.kind == "ipo":
        return algorithms.ipo(w_b, l_b, n_b, m_b, beta=beta)
    if loss.kind == "normalized":
        return algorithms.normalized_dpo(w_b, l_b, n_b, m_b, beta=beta, label_smoothing=smoothing)
    family = algorithms.robust_dpo if loss.kind == "robust" else algorithms.dpo
    return family(w_b, l_b, beta=beta, label_smoothing=smoothing)


def implicit_rewards(loss: PreferenceLoss, examples: Sequence[Example], sums_s: Tensor) -> Tensor:
    """``[S]``: beta times the log-ratio (DPO, KTO), or per token (IPO, normalized), or of log p."""
    ratio_s = sums_s - _reference(examples, sums_s) if loss.needs_reference else sums_s
    if loss.kind not in ("dpo", "robust", "kto"):
        ratio_s = ratio_s / _lengths(examples, sums_s)
    return loss.strength * ratio_s


def _reference_point(policy: Policy, examples: Sequence[Example], micro_tokens: int) -> Tensor:
    others = [s for example in examples for s in example.others]
    reference = [r for e in examples for r in e.reference[len(e.segments) :]]
    with torch.no_grad():
        sums_s = likelihoods(policy, others, micro_tokens)
    return algorithms.kto_reference_point(sums_s - torch.tensor(reference, device=sums_s.device))


def _reference(examples: Sequence[Example], like: Tensor) -> Tensor:
    sums = [r for e in examples for r in e.reference[: len(e.segments)]]
    return torch.tensor(sums, dtype=like.dtype, device=like.device)


def _lengths(examples: Sequence[Example], like: Tensor) -> Tensor:
    counts = [len(s.sampled) for e in examples for s in e.segments]
    return torch.tensor(counts, dtype=like.dtype, device=like.device)


def _row_length(segments: Sequence[Segment]) -> int:
    shared = segments[0].prompt_length
    return shared + sum(len(s.ids) - shared for s in segments)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
