"""What a run of reinforcement learning consists of: made, checked, saved and restored."""

from __future__ import annotations

from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from agent_rl import checkpoint, models
from agent_rl.chat import Chat
from agent_rl.config import RLConfig
from agent_rl.engines import Sampling, TorchEngine
from agent_rl.errors import UserError
from agent_rl.opponent import Opponent, refuse_without_seats
from agent_rl.optim import make_optimizer
from agent_rl.policy import Policy
from agent_rl.reference import Reference
from agent_rl.runs import RunFolder
from agent_rl.stages import alphabet
from rl_envs import Mixture


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


def set_up(config: RLConfig) -> State:
    """Model, engine, optimiser, reference, tasks: all from the configuration and its seed."""
    check_sampling(config)
    algorithm = config.algorithm
    mixture = Mixture([(e.id, e.weight, e.options) for e in config.envs], seed=config.run.seed)
    model, chat = models.load(config.model, config.run.seed)
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
    """Stop where a model lacks the characters of its tasks: it would train on unknown tokens.

    Looked at is the first task of each environment, and one whole demonstration where it has any:
    the calls of tools and their results.
    """
    if not alphabet.is_limited(chat):
        return
    for entry in mixture.entries:
        with closing(entry.env.clone()) as env:
            observation, info = env.reset(options={"index": 0})
            opening = chat.template.render(observation, info.get("definitions"))
            alphabet.refuse_unknown(chat, [opening], entry.env_id, "its first task is")
            if not env.styles:
                continue
            texts: list[str] = []
            with suppress(Exception):  # a demonstration that fails is nothing to this stage
                rng = np.random.default_rng(0)
                texts.extend(alphabet.episode_texts(env, env.styles[0], rng, chat, 0))
            alphabet.refuse_unknown(chat, texts, entry.env_id, "its demonstrations are")


def training_sampling(config: RLConfig) -> Sampling:
    """How rollouts are drawn."""
    return Sampling(
        max_tokens=config.sampling.max_tokens,
        temperature=config.sampling.temperature,
        stop=config.sampling.stop,
    )


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
