"""Reinforcement learning from verifiable rewards, in one file, top to bottom.

One step: draw tasks, play each by a group of episodes, score them, give every sampled token its
credit, move the weights by a policy gradient held near a reference by KL, hand the weights to the
engine. Which algorithm runs is data (``config.algorithm``); this file does not know its name.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from agent_rl import algorithms, models
from agent_rl.ablation import with_logprobs, with_tool_tokens
from agent_rl.clock import Clock
from agent_rl.config import OnlineDPOConfig, RLConfig
from agent_rl.critic import check_critic
from agent_rl.experience import Credit, Experience, assign_credit, gather
from agent_rl.generating import to_sampling
from agent_rl.measure import Learned, credit_metrics, rollout_metrics, rollout_rows
from agent_rl.packing import pack
from agent_rl.preflight import check_env, check_model, located
from agent_rl.probes import probes_of
from agent_rl.ptx import check_ptx
from agent_rl.rollout import Assignment, Deadlines, play_groups, refuse_if_all_failed, seed_of
from agent_rl.runs import Console, RunFolder
from agent_rl.runs.early_warning import early_warnings, flags
from agent_rl.stages.evaluate import HeldOut, held_out
from agent_rl.stages.rl_state import (
    Evaluable,
    State,
    check_sampling,
    restore,
    save,
    set_up,
)
from agent_rl.trajectory import Trajectory
from agent_rl.update import Targets, update_policy

MAX_ROUNDS = 4  # dynamic sampling gives up after this many times the tasks of a step


def check(config: RLConfig, unborn: Collection[str] = ()) -> None:
    """What can be known to fail before the first step.

    Raises:
        UserError: One line that names the setting.
    """
    check_model(config.model, unborn)
    check_sampling(config)
    check_critic(config, unborn)
    if config.ptx is not None:
        with located("ptx.data"):
            check_ptx(config.ptx.data, unborn)
    for number, env in enumerate(config.envs):
        with located(f"envs.{number} ({env.id})"):
            check_env(env)
    with located("probes"):
        probes_of(config.probes)
    held_out(config)


def run(
    config: RLConfig, folder: RunFolder, show: Console, *, resume: bool = False
) -> dict[str, Any]:
    """Train, and leave ``model/``, metrics, rollouts and a summary in ``folder``.

    Args:
        config: All settings.
        folder: Where everything goes.
        show: What the person at the terminal sees.
        resume: Go on from the newest checkpoint in ``folder``.

    Returns:
        The summary, as in ``summary.json``.

    Raises:
        UserError: A setting, a task or a model that cannot work; before the first step if possible.
    """
    test = held_out(config)
    state = set_up(config)
    if resume:
        restore(state, folder)
    show.start(config.steps, done=state.step)
    with asyncio.Runner() as loop:
        if test and not state.before:
            state.before = evaluate(state, test, loop, folder, show)
        state.after = state.after or state.before
        while state.step < config.steps:
            started = time.perf_counter()
            metrics = train_step(config, state, loop, folder)
            state.step += 1
            state.seconds += time.perf_counter() - started
            folder.log(state.step, metrics, stage="rl")
            show.step(state.step, metrics)
            if test and is_due(state.step, config.evaluation.every, config.steps):
                state.after = evaluate(state, test, loop, folder, show)
            if is_due(state.step, config.run.checkpoint_every, config.steps):
                save(config, state, folder)
    show.stop()
    models.save(state.policy.model, state.chat, folder.model)
    return finish(config, state, folder, show)


def finish(config: RLConfig, state: State, folder: RunFolder, show: Console) -> dict[str, Any]:
    """Write the summary and show what changed."""
    logged = [row["kl/reference"] for row in folder.read_metrics() if "kl/reference" in row]
    summary: dict[str, Any] = {
        "stage": "rl",
        "envs": [env.id for env in config.envs],
        "steps": state.step,
        "seed": config.run.seed,
        "train_seconds": state.seconds,
        "kl": logged[-1] if logged else None,
    }
    summary |= before_and_after(state.before, state.after)
    show.notes(flags(folder.read_metrics()))
    if state.before:
        show.completions(state.before["examples"], state.after["examples"])
    folder.write_summary({**summary, "finished": True})
    return summary


def before_and_after(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """What two evaluations measured, as the summary names it; nothing where there were none."""
    first, last = before.get("metrics", {}), after.get("metrics", {})
    named = {
        "accuracy": "greedy",
        "sampled": "sampled",
        "return": "return",
        "sampled_return": "sampled_return",
        "length": "length",
    }
    found: dict[str, Any] = {}
    for name, metric in named.items():
        if f"eval/{metric}" in last:
            found[f"{name}_before"] = first.get(f"eval/{metric}")
            found[f"{name}_after"] = last[f"eval/{metric}"]
    return found


def train_step(
    config: RLConfig, state: State, loop: asyncio.Runner, folder: RunFolder
) -> dict[str, float]:
    """One step as every token sees it. Returns its metrics."""
    clock, step = Clock(), state.step + 1
    with clock("generate"):
        played, kept = loop.run(collect(config, state))
    refuse_if_all_failed(played)
    judged = [t for t in played if usable(config, t)]
    metrics = rollout_metrics(played, judged, clock.seconds["generate"])
    metrics["groups/kept"] = len({t.group for t in kept}) / len({t.group for t in played})
    moved, learned = improve(config, state, kept, clock)
    metrics |= moved
    if is_due(step, config.run.rollouts_every):
        folder.save_rollouts(step, rollout_rows(played, learned, state.chat, step))
    return {**metrics, **clock.metrics()}


def improve(
    config: RLConfig, state: State, kept: list[Trajectory], clock: Clock
) -> tuple[dict[str, float], Learned | None]:
    """From what episodes earned to new weights, for the engine and for all that follow the policy.

    Returns:
        The metrics of the update, and what it learned from; nothing of either without episodes.
    """
    metrics: dict[str, float] = {}
    learned = None
    if kept:
        with clock("reference"):
            batch = experience_of(config, state, kept)
            before = score_before_update(config, state, batch)
        with clock("credit"):
            credit = credit_of(config, state, batch, before)
        with clock("train"):
            metrics |= learn(config, state, batch, before, credit)
        learned = Learned(batch, credit, before.gap_t)
        metrics |= credit_metrics(learned, before.values)
        metrics["kl/coef"] = state.kl.coef
        if before.gap_t is not None:
            state.kl.update(metrics["kl/reference"], len(kept))
    with clock("sync"):
        if learned:
            state.engine.load_weights(None)
        if state.reference and is_due(state.step + 1, config.reference_refresh):
            state.reference.refresh(state.policy)
        if state.opponent and is_due(state.step + 1, config.opponent_refresh):
            state.opponent.refresh(state.policy.model)
    return metrics, learned


async def collect(config: RLConfig, state: State) -> tuple[list[Trajectory], list[Trajectory]]:
    """Play ``prompts_per_step`` tasks; with dynamic sampling, until that many differ in reward.

    Returns:
        All episodes played, and those to train on.
    """
    played: list[Trajectory] = []
    kept: list[Trajectory] = []
    dynamic = config.algorithm.dynamic_sampling
    for attempt in range(MAX_ROUNDS if dynamic else 1):
        missing = config.prompts_per_step - len({t.group for t in kept})
        assignments = [
            Assignment(
                entry.env, entry.env_id, index, seed_of(config.run.seed, state.step, attempt, n)
            )
            for n, (entry, index) in enumerate(state.mixture.draw(missing))
        ]
        fresh = await play_groups(
            state.engine,
            state.chat,
            assignments,
            group_size=config.group_size,
            sampling=to_sampling(config.sampling),
            seed=seed_of(config.run.seed, state.step, attempt),
            on_truncation=config.on_truncation,
            deadlines=Deadlines(config.turn_timeout_s, config.episode_timeout_s),
            first_group=attempt * config.prompts_per_step,
            opponent=state.opponent.engine if state.opponent else None,
        )
        played += fresh
        good = [t for t in fresh if usable(config, t)]
        kept += with_spread(good) if dynamic else good
        if len({t.group for t in kept}) == config.prompts_per_step:
            break
    return played, kept


def with_spread(played: list[Trajectory]) -> list[Trajectory]:
    """The groups whose rewards are not all equal (DAPO, section 3.2)."""
    rewards: dict[tuple[int, int], set[float]] = {}
    for trajectory in played:
        rewards.setdefault(trajectory.comparison, set()).add(trajectory.total_reward)
    return [t for t in played if len(rewards[t.comparison]) > 1]


def usable(config: RLConfig | OnlineDPOConfig, trajectory: Trajectory) -> bool:
    """Whether an episode may be trained on: not where we failed, nor a cut one to be masked."""
    masked = trajectory.cut and config.on_truncation == "mask"
    return trajectory.error is None and bool(trajectory.turns) and not masked


def experience_of(config: RLConfig, state: State, kept: list[Trajectory]) -> Experience:
    """The episodes as flat tensors; without the mask over what tools said where that is wanted."""
    batch = gather(
        [with_tool_tokens(t) for t in kept] if config.train_on_tool_tokens else kept,
        overlong_buffer=config.algorithm.overlong_buffer,
        max_tokens=config.sampling.max_tokens,
        missing_eos_penalty=config.missing_eos_penalty,
        bootstrap=config.algorithm.advantage == "gae",
    )
    if not config.train_on_tool_tokens:
        return batch
    return with_logprobs(
        batch,
        state.policy,
        micro_tokens=config.micro_tokens,
        share_prompts=config.share_prompts,
    )


@dataclass(frozen=True, slots=True)
class Before:
    """What the models say of a batch before it changes them.

    Attributes:
        policy_t: [T] log-probabilities under the policy.
        reference_t: [T] under the reference; None without KL.
        values: [T + B]; None without a critic.
    """

    policy_t: Tensor
    reference_t: Tensor | None
    values: Tensor | None

    @property
    def gap_t(self) -> Tensor | None:
        """[T] log policy - log reference at the sampled tokens."""
        return None if self.reference_t is None else self.policy_t - self.reference_t


def score_before_update(config: RLConfig, state: State, batch: Experience) -> Before:
    """Score a batch under the policy, the reference and the critic, as far as needed.

    An engine that generates with the trainer's very weights, in its precision, reported the
    policy's own log-probabilities already; another did so only nearly.
    """
    micros = pack(
        batch.segments, micro_tokens=config.micro_tokens, share_prompts=config.share_prompts
    )
    policy_t, reference_t = batch.sampler_logprobs_t, None
    exact = config.model.generation is None and config.model.compute == "float32"
    off_policy = config.updates_per_step * config.epochs > 1
    kl_in_reward = config.algorithm.kl.place == "reward"
    if not exact and (off_policy or kl_in_reward):
        scored, values = state.policy.score_all(micros)
        policy_t = scored[: batch.n_tokens]
    else:
        values = state.policy.values_all(micros)
    if state.reference is not None:
        reference_t = state.reference.logprobs(micros)[: batch.n_tokens]
    return Before(policy_t, reference_t, values)


def credit_of(config: RLConfig, state: State, batch: Experience, before: Before) -> Credit:
    """What every token earned; KL is part of the reward where it stands there."""
    rewards_t, gap_t = batch.rewards_t, before.gap_t
    if config.algorithm.kl.place == "reward" and gap_t is not None:
        rewards_t = algorithms.penalised_rewards(rewards_t, gap_t, state.kl.coef)
    return assign_credit(config.algorithm, batch, rewards_t, before.values)


def learn(
    config: RLConfig, state: State, batch: Experience, before: Before, credit: Credit
) -> dict[str, float]:
    """Move the weights by what the tokens earned. Returns the metrics of the updates."""
    targets = Targets(
        advantages_t=credit.advantages_t,
        sampler_logprobs_t=batch.sampler_logprobs_t,
        old_logprobs_t=before.policy_t if config.updates_per_step * config.epochs > 1 else None,
        reference_logprobs_t=before.reference_t,
        returns_t=credit.returns_t,
        old_values_t=None if before.values is None else before.values[: batch.n_tokens],
        kl_coef=state.kl.coef,
    )
    state.update, metrics = update_policy(
        config,
        state.policy,
        state.reference,
        state.optimizer,
        batch,
        targets,
        step=state.step,
        first_update=state.update,
        critic_optimizer=state.critic_optimizer,
        ptx=state.ptx,
    )
    return metrics


def evaluate(
    state: Evaluable, test: HeldOut, loop: asyncio.Runner, folder: RunFolder, show: Console
) -> dict[str, Any]:
    """Held-out accuracy, probes and early warnings, logged and shown."""
    measured = loop.run(test.measure(state.engine, state.chat))
    metrics = measured.metrics | early_warnings(folder.read_metrics())
    if state.probes:
        metrics |= loop.run(state.probes.measure(state.engine, state.chat, state.policy))
    folder.log(state.step, metrics, stage="eval")
    show.evaluation(state.step, metrics)
    return {"metrics": metrics, "examples": measured.examples}


def is_due(step: int, every: int, last: int = -1) -> bool:
    """Whether what is done every ``every`` steps (0: never), and at the last, is due now."""
    return step == last or (every > 0 and step % every == 0)
