"""Online DPO: sample a few answers, let the reward name the best and the worst, learn the pair.

Guo et al. 2024, arXiv:2402.04792: preferences on the policy's own present answers, so that a
preference never speaks of what the policy would not say.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from agent_rl import checkpoint, models
from agent_rl.algorithms import preset
from agent_rl.chat import Chat
from agent_rl.config import OnlineDPOConfig, RLConfig
from agent_rl.direct.examples import Example
from agent_rl.direct.objective import read, segment_sums
from agent_rl.engines import TorchEngine
from agent_rl.errors import UserError
from agent_rl.generating import engine_of, to_sampling
from agent_rl.measure import rollout_metrics, rollout_rows
from agent_rl.optim import make_optimizer, step_optimizer
from agent_rl.packing import pack
from agent_rl.policy import Policy
from agent_rl.preflight import check_env, check_model, located
from agent_rl.probes import Probes
from agent_rl.reference import Reference
from agent_rl.rollout import Assignment, Deadlines, play_groups, refuse_if_all_failed, seed_of
from agent_rl.runs import Console, RunFolder
from agent_rl.self_play import seats_of
from agent_rl.stages.evaluate import held_out
from agent_rl.stages.rl import before_and_after, evaluate, is_due, usable
from agent_rl.stages.rl_state import refuse_unknown_characters
from agent_rl.trajectory import Segment, Trajectory, segments
from rl_envs import Mixture, make


def check(config: OnlineDPOConfig, unborn: Collection[str] = ()) -> None:
    """What can be known to fail before the first step.

    Raises:
        UserError: One line that names the setting.
    """
    check_model(config.model, unborn)
    for number, env in enumerate(config.envs):
        with located(f"envs.{number} ({env.id})"):
            check_env(env)
            if seats_of(make(env.id, **env.options)) > 1:
                raise UserError(
                    f"{env.id} has several seats; online_dpo compares answers to one prompt"
                )
    held_out(_as_rl(config))


@dataclass(slots=True)
class State:
    """Everything that the next step depends on."""

    chat: Chat
    policy: Policy
    engine: TorchEngine
    optimizer: torch.optim.Optimizer
    reference: Reference | None
    mixture: Mixture
    probes: Probes | None = None
    step: int = 0
    seconds: float = 0.0
    pairs: int = 0
    ties: int = 0
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)


def run(
    config: OnlineDPOConfig, folder: RunFolder, show: Console, *, resume: bool = False
) -> dict[str, Any]:
    """Train, and leave ``model/``, metrics, rollouts and a summary in ``folder``.

    Args:
        config: All settings.
        folder: Where everything goes.
        show: What the person at the terminal sees.
        resume: Go on from the newest checkpoint in ``folder``.

    Returns:
        The summary, as in ``summary.json``.
    """
    test = held_out(_as_rl(config))
    state = _set_up(config)
    if resume:
        _restore(state, folder)
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
            folder.log(state.step, metrics, stage="online_dpo")
            show.step(state.step, metrics)
            if test and is_due(state.step, config.evaluation.every, config.steps):
                state.after = evaluate(state, test, loop, folder, show)
            if is_due(state.step, config.run.checkpoint_every, config.steps):
                _save(config, state, folder)
    show.stop()
    models.save(state.policy.model, state.chat, folder.model)
    return _finish(config, state, folder, show)


def train_step(
    config: OnlineDPOConfig, state: State, loop: asyncio.Runner, folder: RunFolder
) -> dict[str, float]:
    """Sample, choose pairs, and make one update on them. Returns the metrics."""
    started, step = time.perf_counter(), state.step + 1
    played = loop.run(_play(config, state))
    refuse_if_all_failed(played)
    kept = [t for t in played if usable(config, t)]
    metrics = rollout_metrics(played, kept, time.perf_counter() - started)
    pairs = best_and_worst(kept)
    n_groups = len({t.group for t in kept})
    state.pairs, state.ties = state.pairs + len(pairs), state.ties + n_groups - len(pairs)
    metrics |= {"pref/pairs": float(len(pairs)), "pref/ties": float(n_groups - len(pairs))}
    contexts = [_context(t) for t in kept]
    reference = _reference_sums(config, state, contexts, metrics)
    if pairs:
        at = {id(t): n for n, t in enumerate(kept)}
        examples = []
        for pair in pairs:
            places = [at[id(t)] for t in pair]
            both = tuple(contexts[n] for n in places)
            its = tuple(reference[n] for n in places) if reference else ()
            examples.append(Example(both, reference=its))
        metrics |= _update(config, state, examples)
        state.engine.load_weights(None)
    if state.reference is not None and is_due(step, config.reference_refresh):
        state.reference.refresh(state.policy)
    if is_due(step, config.run.rollouts_every):
        folder.save_rollouts(step, rollout_rows(played, None, state.chat, step))
    return metrics


def best_and_worst(kept: Sequence[Trajectory]) -> list[tuple[Trajectory, Trajectory]]:
    """Of each group the first answer of the highest and the first of the lowest return.

    A group gives no pair where all returns are equal, or the two answers are the same tokens (a
    judge that contradicts itself).
    """
    groups: dict[int, list[Trajectory]] = {}
    for trajectory in kept:
        groups.setdefault(trajectory.group, []).append(trajectory)
    pairs = []
    for members in groups.values():
        best = max(members, key=lambda t: t.total_reward)
        worst = min(members, key=lambda t: t.total_reward)
        same = _context(best).ids == _context(worst).ids
        if not same:  # of equal returns the first answer is both
            pairs.append((best, worst))
    return pairs


async def _play(config: OnlineDPOConfig, state: State) -> list[Trajectory]:
    seed = config.run.seed
    assignments = [
        Assignment(entry.env, entry.env_id, index, seed_of(seed, state.step, 0, n))
        for n, (entry, index) in enumerate(state.mixture.draw(config.prompts_per_step))
    ]
    return await play_groups(
        state.engine,
        state.chat,
        assignments,
        group_size=config.group_size,
        sampling=to_sampling(config.sampling),
        seed=seed_of(seed, state.step, 0),
        on_truncation=config.on_truncation,
        deadlines=Deadlines(config.turn_timeout_s, config.episode_timeout_s),
    )


def _update(config: OnlineDPOConfig, state: State, examples: Sequence[Example]) -> dict[str, float]:
    said = read(state.policy, config.loss, examples, config.micro_tokens, backward=True)
    norm, taken = step_optimizer(state.optimizer, config.optimizer, state.step, config.steps)
    return {
        "loss/train": said.loss,
        **said.metrics(),
        "optim/grad_norm": norm,
        "optim/skipped": float(not taken),
        "optim/lr": state.optimizer.param_groups[0]["lr"],
        "tokens/trained": float(sum(len(s.sampled) for e in examples for s in e.segments)),
    }


def _reference_sums(
    config: OnlineDPOConfig,
    state: State,
    contexts: Sequence[Segment],
    metrics: dict[str, float],
) -> list[float]:
    """The reference's log-likelihood of every answer; notes the KL of the policy to it."""
    if state.reference is None or not contexts:
        return []
    micros = pack(contexts, micro_tokens=config.micro_tokens)
    slots = torch.cat([m.slots for m in micros])
    reference_t = state.reference.logprobs(micros)
    policy_t = state.policy.score_all(micros)[0]
    sums = segment_sums(reference_t[slots], contexts, micros)
    gap = segment_sums(policy_t[slots], contexts, micros) - sums
    metrics["kl/reference"] = float(gap.mean())
    return [float(x) for x in sums]


def _context(trajectory: Trajectory) -> Segment:
    """The one sequence of an episode.

    Raises:
        UserError: It has several, which no sum of log-probabilities is a likelihood of.
    """
    found = segments(trajectory)
    if len(found) != 1:
        raise UserError(
            f"{trajectory.env}: an episode of {len(found)} separate contexts; online_dpo needs "
            "one: take the stage rl, or an environment whose turns extend one another"
        )
    return found[0]


def _set_up(config: OnlineDPOConfig) -> State:
    mixture = Mixture([(e.id, e.weight, e.options) for e in config.envs], seed=config.run.seed)
    model, chat = models.load(config.model, config.run.seed)
    refuse_unknown_characters(mixture, chat)
    policy = Policy(model, compute=models.DTYPES[config.model.compute])
    reference = None
    if config.loss.needs_reference:
        reference = Reference(policy, refreshable=config.reference_refresh > 0)
    optimizer = make_optimizer(config.optimizer, [(model, config.optimizer.lr)])
    engine = engine_of(model, chat, config.model)
    return State(chat, policy, engine, optimizer, reference, mixture)


def _as_rl(config: OnlineDPOConfig) -> RLConfig:
    """The stage ``rl`` with the same held-out tasks, samples and seeds."""
    return RLConfig(
        model=config.model,
        envs=config.envs,
        algorithm=preset("grpo"),
        sampling=config.sampling,
        evaluation=config.evaluation,
        run=config.run,
        on_truncation=config.on_truncation,
        turn_timeout_s=config.turn_timeout_s,
        episode_timeout_s=config.episode_timeout_s,
    )


def _finish(
    config: OnlineDPOConfig, state: State, folder: RunFolder, show: Console
) -> dict[str, Any]:
    logged = [row["kl/reference"] for row in folder.read_metrics() if "kl/reference" in row]
    summary: dict[str, Any] = {
        "stage": "online_dpo",
        "loss_kind": config.loss.kind,
        "envs": [env.id for env in config.envs],
        "steps": state.step,
        "seed": config.run.seed,
        "train_seconds": state.seconds,
        "pairs": state.pairs,
        "ties": state.ties,
        "kl": logged[-1] if logged else None,
    }
    summary |= before_and_after(state.before, state.after)
    if state.before:
        show.completions(state.before["examples"], state.after["examples"])
    folder.write_summary({**summary, "finished": True})
    return summary


def _save(config: OnlineDPOConfig, state: State, folder: RunFolder) -> None:
    refreshed = state.reference is not None and config.reference_refresh > 0
    content = {
        "model": state.policy.model.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "reference": state.reference.state_dict() if refreshed and state.reference else {},
        "mixture": state.mixture.state_dict(),
        "seconds": state.seconds,
        "pairs": state.pairs,
        "ties": state.ties,
        "before": state.before,
        "after": state.after,
    }
    checkpoint.save(folder.checkpoints, state.step, content, keep=config.run.keep_checkpoints)


def _restore(state: State, folder: RunFolder) -> None:
    """Put the newest checkpoint back; without one the run starts at the beginning."""
    checkpoint.clear_leftovers(folder.checkpoints)
    path = checkpoint.latest(folder.checkpoints)
    content = checkpoint.load(path) if path is not None else None
    folder.truncate_after(content["step"] if content else -1)
    if content is None:
        return
    state.policy.model.load_state_dict(content["model"])
    state.optimizer.load_state_dict(content["optimizer"])
    if state.reference is not None:
        state.reference.load_state_dict(content["reference"])
    state.mixture.load_state_dict(content["mixture"])
    for name in ("step", "seconds", "pairs", "ties", "before", "after"):
        setattr(state, name, content[name])
    checkpoint.set_random_state(content["random"])
    state.engine.load_weights(None)
