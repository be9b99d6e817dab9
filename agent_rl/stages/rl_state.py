"""What a run of reinforcement learning consists of: made, checked, saved and restored."""

from __future__ import annotations

from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from agent_rl import checkpoint, models
from agent_rl.chat import Chat
from agent_rl.config import RLConfig
from agent_rl.critic import Critic, LinearCritic, load_critic
from agent_rl.engines import TorchEngine
from agent_rl.errors import UserError
from agent_rl.generating import engine_of
from agent_rl.opponent import Opponent, refuse_without_seats
from agent_rl.optim import make_optimizer
from agent_rl.policy import Policy
from agent_rl.preflight import located
from agent_rl.probes import Probes, probes_of, refuse_unreadable
from agent_rl.ptx import PTX
from agent_rl.reference import Reference
from agent_rl.runs import RunFolder
from agent_rl.stages import alphabet
from rl_envs import Mixture


class Evaluable(Protocol):
    """What an evaluation while training needs of a stage's state."""

    chat: Chat
    policy: Policy
    engine: TorchEngine
    probes: Probes | None
    step: int


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
    critic_optimizer: torch.optim.Optimizer | None = None
    ptx: PTX | None = None
    probes: Probes | None = None
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
        critic=make_critic(config, model, chat),
    )
    needs_reference = algorithm.kl.place != "none"
    generation = models.DTYPES.get(config.model.generation or "")
    engine = engine_of(model, chat, config.model)
    optimizer, critic_optimizer = make_optimizers(config, policy)
    return State(
        chat=chat,
        policy=policy,
        engine=engine,
        optimizer=optimizer,
        reference=Reference(policy, refreshable=config.reference_refresh > 0)
        if needs_reference
        else None,
        kl=algorithm.kl.controller(),
        mixture=mixture,
        opponent=Opponent(model, chat, generation) if config.opponent_refresh else None,
        critic_optimizer=critic_optimizer,
        ptx=make_ptx(config, policy, chat),
        probes=make_probes(config, chat),
    )


def make_probes(config: RLConfig, chat: Chat) -> Probes | None:
    """The questions asked at every evaluation.

    Raises:
        UserError: The model has too few characters to read them.
    """
    probes = probes_of(config.probes)
    if probes is not None:
        refuse_unreadable(probes, chat)
    return probes


def make_critic(config: RLConfig, model: Any, chat: Chat) -> Critic | None:
    """What gives the values, where the algorithm needs any.

    Raises:
        UserError: A reward model that cannot become the critic of this policy.
    """
    if config.algorithm.advantage != "gae":
        return None
    if config.value_path is None:
        return LinearCritic(model.config.hidden_size)
    return load_critic(config, chat)


def make_optimizers(
    config: RLConfig, policy: Policy
) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer | None]:
    """The policy's optimizer, and that of a critic with a network of its own.

    Two, so that the gradient norm of each is clipped by itself: a large value error must not make
    the policy's step small.
    """
    modules = [(policy.model, config.optimizer.lr)]
    if policy.critic is None:
        return make_optimizer(config.optimizer, modules), None
    values = (policy.critic.module, config.value_lr or config.optimizer.lr)
    if policy.critic.reads_policy:
        return make_optimizer(config.optimizer, [*modules, values]), None
    return make_optimizer(config.optimizer, modules), make_optimizer(config.optimizer, [values])


def make_ptx(config: RLConfig, policy: Policy, chat: Chat) -> PTX | None:
    """The data that is mixed in, where there is any."""
    if config.ptx is None:
        return None
    with located("ptx.data"):
        return PTX(
            config.ptx,
            policy.model,
            chat,
            compute=policy.compute,
            micro_tokens=config.micro_tokens,
            seed=config.run.seed,
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


def save(config: RLConfig, state: State, folder: RunFolder, **more: Any) -> None:
    """A checkpoint from which the run goes on as if it had never stopped, and ``more`` in it."""
    critic, critic_optimizer = state.policy.critic, state.critic_optimizer
    content = {
        "model": state.policy.model.state_dict(),
        "critic": critic.module.state_dict() if critic is not None else {},
        "optimizer": state.optimizer.state_dict(),
        "critic_optimizer": critic_optimizer.state_dict() if critic_optimizer else {},
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
        **more,
    }
    checkpoint.save(folder.checkpoints, state.step, content, keep=config.run.keep_checkpoints)


def restore(state: State, folder: RunFolder) -> dict[str, Any]:
    """Put the newest checkpoint back and return it; without one ({}) the run starts anew."""
    checkpoint.clear_leftovers(folder.checkpoints)
    path = checkpoint.latest(folder.checkpoints)
    content = checkpoint.load(path) if path is not None else None
    folder.truncate_after(content["step"] if content else -1)
    if content is None:
        return {}
    state.policy.model.load_state_dict(content["model"])
    if state.policy.critic is not None:
        state.policy.critic.module.load_state_dict(content["critic"])
    state.optimizer.load_state_dict(content["optimizer"])
    if state.critic_optimizer is not None:
        state.critic_optimizer.load_state_dict(content["critic_optimizer"])
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
    return content
