"""What happens without the mask: training on tokens that the environment inserted.

Only for showing why they are masked (``train_on_tool_tokens``). The policy never chose these
tokens, so their gradient rewards it for predicting a tool's output, and their entropy and KL count
as its own.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from agent_rl.experience import Experience
from agent_rl.packing import pack
from agent_rl.policy import Policy
from agent_rl.trajectory import Trajectory, Turn


def with_tool_tokens(trajectory: Trajectory) -> Trajectory:
    """The episode as if the policy had sampled what stands between its turns.

    Inserted tokens join the turn before them, with NaN for the log-probabilities that no sampler
    reported; ``with_logprobs`` fills them in. A turn whose context the next one does not extend
    stays as it is.
    """
    turns: list[Turn] = []
    for turn, following in zip(trajectory.turns, [*trajectory.turns[1:], None], strict=True):
        stands = turn.prompt_ids + turn.completion_ids
        if following is not None and following.prompt_ids[: len(stands)] == stands:
            inserted = following.prompt_ids[len(stands) :]
            ids = turn.completion_ids + inserted
            logprobs = turn.logprobs + (math.nan,) * len(inserted)
            turns.append(replace(turn, completion_ids=ids, logprobs=logprobs))
        else:
            turns.append(turn)
    return replace(trajectory, turns=turns)


def with_logprobs(
    batch: Experience, policy: Policy, *, micro_tokens: int, share_prompts: bool
) -> Experience:
    """The batch with the policy's own log-probabilities where no sampler reported any."""
    micros = pack(batch.segments, micro_tokens=micro_tokens, share_prompts=share_prompts)
    scored, _ = policy.score_all(micros)
    reported_t = batch.sampler_logprobs_t
    filled_t = torch.where(reported_t.isnan(), scored[: batch.n_tokens], reported_t)
    return replace(batch, sampler_logprobs_t=filled_t)
