"""Reinforcement learning from verifiable rewards, in one file, top to bottom.

One step: draw tasks, play each by a group of episodes, score them, give every sampled token its
credit, move the weights by a policy gradient held near a reference by KL, hand the weights to the
engine. Which algorithm runs is data (``config.algorithm``); this file does not know its name.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from agent_rl import algorithms, checkpoint, models
from agent_rl.ablation import with_logprobs, with_tool_tokens
from agent_rl.chat import Chat
from agent_rl.clock import Clock
from agent_rl.config import RLConfig
from agent_rl.engines import Sampling, TorchEngine
from agent_rl.errors import UserError
from agent_rl.experience import Experience, assign_credit, gather
from agent_rl.measure import credit_metrics, rollout_metrics, rollout_rows
from agent_rl.opponent import Opponent, refuse_without_seats
from agent_rl.optim import make_optimizer
from agent_rl.packing import pack
from agent_rl.policy import Policy
from agent_rl.reference import Reference
from agent_rl.rollout import Assignment, Limits, play_groups, refuse_if_all_failed, seed_of
from agent_rl.runs import Console, RunFolder
from agent_rl.stages.evaluate import HeldOut, held_out
from agent_rl.trajectory import Trajectory
from agent_rl.update import Targets, update_policy
from rl_envs import Mixture

MAX_ROUNDS = 4  # dynamic sampling gives up after this many times the tasks of a step


@dataclass(slots=True)
class State:
    """Everything that the next step depends on."""

    chat: Chat
    policy: Policy
    engine: TorchEngine
    optimizer: torch.optim.Optimizer
    reference: Reference | None
    kl: Any
    mixture: Mixture
    opponent: Opponent | None = None
    step: int = 0
    update: int = 0
    seconds: float = 0.0
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)


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
    before, after = state.before.get("metrics", {}), state.after.get("metrics", {})
    named = {
        "accuracy": "greedy",
        "sampled": "sampled",
        "return": "return",
        "sampled_return": "sampled_return",
        "length": "length",
    }
    summary: dict[str, Any] = {
        "stage": "rl",
        "envs": [env.id for env in config.envs],
        "steps": state.step,
        "seed": config.run.seed,
        "train_seconds": state.seconds,
        "kl": logged[-1] if logged else None,
    }
    for name, metric in named.items():
        if f"eval/{metric}" in after:
            summary[f"{name}_before"] = before.get(f"eval/{metric}")
            summary[f"{name}_after"] = after[f"eval/{metric}"]
    if before:
        show.completions(state.before["examples"], state.after["examples"])
    folder.write_summary({**summary, "finished": True})
    return summary


def train_step(
    config: RLConfig, state: State, loop: asyncio.Runner, folder: RunFolder
) -> dict[str, float]:
    """One step as every token sees it. Returns its metrics."""
    clock = Clock()
    algorithm = config.algorithm

    with clock("generate"):
        played, kept = loop.run(collect(config, state))
    judged = [t for t in played if usable(config, t)]
    refuse_if_all_failed(played)
    metrics = rollout_metrics(played, judged, clock.seconds["generate"])
    metrics["groups/kept"] = len({t.group for t in kept}) / len({t.group for t in played})
    if not kept:
        return {**metrics, **clock.metrics()}

    with clock("reference"):
        batch = gather(
            [with_tool_tokens(t) for t in kept] if config.train_on_tool_tokens else kept,
            overlong_buffer=algorithm.overlong_buffer,
            max_tokens=config.sampling.max_tokens,
            bootstrap=algorithm.advantage == "gae",
        )
        if config.train_on_tool_tokens:
            batch = with_logprobs(
                batch,
                state.policy,
                micro_tokens=config.micro_tokens,
                share_prompts=config.share_prompts,
            )
        before = score_before_update(config, state, batch)

    with clock("credit"):
        gap_t = None if before.reference_t is None else before.policy_t - before.reference_t
        rewards_t = batch.rewards_t
        if algorithm.kl.place == "reward" and gap_t is not None:
            rewards_t = algorithms.penalised_rewards(rewards_t, gap_t, state.kl.coef)
        credit = assign_credit(algorithm, batch, rewards_t, before.values)

    with clock("train"):
        targets = Targets(
            advantages_t=credit.advantages_t,
            sampler_logprobs_t=batch.sampler_logprobs_t,
            old_logprobs_t=before.policy_t if config.updates_per_step * config.epochs > 1 else None,
            reference_logprobs_t=before.reference_t,
            returns_t=credit.returns_t,
            old_values_t=None if before.values is None else before.values[: batch.n_tokens],
            kl_coef=state.kl.coef,
        )
        state.update, learned = update_policy(
            config,
            state.policy,
            state.reference,
            state.optimizer,
            batch,
            targets,
            step=state.step,
            first_update=state.update,
        )

    with clock("sync"):
        state.engine.load_weights(None)
        if state.reference and is_due(state.step + 1, config.reference_refresh):
            state.reference.refresh(state.policy)
        if state.opponent and is_due(state.step + 1, config.opponent_refresh):
            state.opponent.refresh(state.policy.model)

    metrics |= credit_metrics(batch, credit, gap_t, before.values)
    metrics |= {**learned, "kl/coef": state.kl.coef, **clock.metrics()}
    if gap_t is not None:
        state.kl.update(metrics["kl/reference"], len(kept))
    if is_due(state.step + 1, config.run.rollouts_every):
        folder.save_rollouts(
            state.step + 1, rollout_rows(played, batch, credit, gap_t, state.chat, state.step + 1)
        )
    return metrics


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
            sampling=training_sampling(config),
            seed=seed_of(config.run.seed, state.step, attempt),
            on_truncation=config.on_truncation,
            limits=Limits(config.turn_timeout_s, config.episode_timeout_s),
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


def usable(config: RLConfig, trajectory: Trajectory) -> bool:
    """Whether an episode may be trained on: not where we failed, nor a cut one to be masked."""
    masked = trajectory.cut and config.on_truncation == "mask"
    return trajectory.error is None and bool(trajectory.turns) and not masked


@dataclass(frozen=True, slots=True)
class Before:
    """What the models say of a batch before it changes them.

    Attributes:
        policy_t: [T] log-probabilities under the policy.
        reference_t: [T] under the reference; None without KL.
        values: [T + B]; None without a value head.
    """

    policy_t: Tensor
    reference_t: Tensor | None
    values: Tensor | None


def score_before_update(config: RLConfig, state: State, batch: Experience) -> Before:
    """Score a batch under the policy, the reference and the value head, as far as needed.

    An engine that generates with the trainer's very weights, in its precision, reported the
    policy's own log-probabilities already; another did so only nearly.
    """
    micros = pack(
        batch.segments, micro_tokens=config.micro_tokens, share_prompts=config.share_prompts
    )
    policy_t, values, reference_t = batch.sampler_logprobs_t, None, None
    exact = config.model.generation is None and config.model.compute == "float32"
    off_policy = config.updates_per_step * config.epochs > 1
    kl_in_reward = config.algorithm.kl.place == "reward"
    if state.policy.value_head is not None or (not exact and (off_policy or kl_in_reward)):
        scored, values = state.policy.score_all(micros)
        policy_t = policy_t if exact else scored[: batch.n_tokens]
    if state.reference is not None:
        reference_t = state.reference.logprobs(micros)[: batch.n_tokens]
    return Before(policy_t, reference_t, values)


def set_up(config: RLConfig) -> State:
    """Model, engine, optimiser, reference, tasks: all from the configuration and its seed."""
    check_sampling(config)
    algorithm = config.algorithm
    mixture = Mixture([(e.id, e.weight, e.options) for e in config.envs], seed=config.run.seed)
    model, chat = models.load(config.model, config.run.seed)
    if config.model.tiny is not None:
        refuse_unknown_characters(mixture, chat)
    if config.opponent_refresh:
        refuse_without_seats(mixture)
    policy = Policy(
        model,
        temperature=config.sampling.temperature,
        compute=models.DTYPES[config.model.compute],
        value_head=algorithm.advantage == "gae",
    )
    modules = [(model, config.optimizer.lr)]
    if policy.value_head is not None:
        modules.append((policy.value_head, config.value_lr or config.optimizer.lr))
    needs_reference = algorithm.kl.place != "none"
    generation = models.DTYPES.get(config.model.generation or "")
    engine = TorchEngine(
        model,
        eos_token_ids=models.end_token_ids(model, chat),
        tokenizer=chat.tokenizer,
        dtype=generation,
    )
    return State(
        chat=chat,
        policy=policy,
        engine=engine,
        optimizer=make_optimizer(config.optimizer, modules),
        reference=Reference(policy, refreshable=config.reference_refresh > 0)
        if needs_reference
        else None,
        kl=algorithm.kl.controller(),
        mixture=mixture,
        opponent=Opponent(model, chat, generation) if config.opponent_refresh else None,
    )


def check_sampling(config: RLConfig) -> None:
    """Whether the trainer can score what is sampled.

    Raises:
        UserError: When it cannot.
    """
    if config.sampling.temperature <= 0:
        raise UserError("sampling.temperature must be above 0 to train")
    truncating = (config.sampling.top_p, config.sampling.top_k, config.sampling.min_p)
    if truncating != (1.0, 0, 0.0):
        raise UserError(
            "sampling.top_p, top_k and min_p must be off to train: the trainer scores the whole "
            "distribution, so the ratio would be biased by the mass that was cut off"
        )


def refuse_unknown_characters(mixture: Mixture, chat: Chat) -> None:
    """Stop where a tiny model could not read its tasks: it would train on unknown tokens."""
    for entry in mixture.entries:
        observation, _ = entry.env.clone().reset(options={"index": 0})
        unknown = chat.unknown("".join(message["content"] for message in observation))
        if unknown:
            raise UserError(
                f"{entry.env_id}: the model's alphabet lacks {''.join(unknown)!r}, which its first "
                "task is written in; add them to model.tiny.characters"
            )


def training_sampling(config: RLConfig) -> Sampling:
    """How rollouts are drawn."""
    return Sampling(
        max_tokens=config.sampling.max_tokens,
        temperature=config.sampling.temperature,
        stop=config.sampling.stop,
    )


def evaluate(
    state: State, test: HeldOut, loop: asyncio.Runner, folder: RunFolder, show: Console
) -> dict[str, Any]:
    """Held-out accuracy, logged and shown."""
    measured = loop.run(test.measure(state.engine, state.chat))
    folder.log(state.step, measured.metrics, stage="eval")
    show.evaluation(state.step, measured.metrics)
    return {"metrics": measured.metrics, "examples": measured.examples}


def is_due(step: int, every: int, last: int = -1) -> bool:
    """Whether what is done every ``every`` steps (0: never), and at the last, is due now."""
    return step == last or (every > 0 and step % every == 0)


def save(config: RLConfig, state: State, folder: RunFolder) -> None:
    """A checkpoint from which the run goes on as if it had never stopped."""
    head = state.policy.value_head
    content = {
        "model": state.policy.model.state_dict(),
        "value_head": head.state_dict() if head is not None else {},
        "optimizer": state.optimizer.state_dict(),
        "reference": state.reference.state_dict()
        if state.reference and config.reference_refresh
        else {},
        "kl": state.kl.state_dict(),
        "mixture": state.mixture.state_dict(),
        "opponent": state.opponent.state_dict() if state.opponent else {},
        "update": state.update,
        "seconds": state.seconds,
        "before": state.before,
        "after": state.after,
    }
    checkpoint.save(folder.checkpoints, state.step, content, keep=config.run.keep_checkpoints)


def restore(state: State, folder: RunFolder) -> None:
    """Put the newest checkpoint back; without one the run starts at the beginning."""
    checkpoint.clear_leftovers(folder.checkpoints)
    path = checkpoint.latest(folder.checkpoints)
    content = checkpoint.load(path) if path is not None else None
    folder.truncate_after(content["step"] if content else -1)
    if content is None:
        return
    state.policy.model.load_state_dict(content["model"])
    if state.policy.value_head is not None:
        state.policy.value_head.load_state_dict(content["value_head"])
    state.optimizer.load_state_dict(content["optimizer"])
    if state.reference is not None:
        state.reference.load_state_dict(content["reference"])
    state.kl.load_state_dict(content["kl"])
    state.mixture.load_state_dict(content["mixture"])
    if state.opponent is not None:
        state.opponent.load_state_dict(content["opponent"])
    state.step, state.update = content["step"], content["update"]
    state.seconds = content["seconds"]
    state.before, state.after = content["before"], content["after"]
    checkpoint.set_random_state(content["random"])
    state.engine.load_weights(None)
