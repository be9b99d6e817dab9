"""What a laboratory consists of: the stages of each seed, as their own configurations."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_rl.config import OveroptConfig, StageConfig
from agent_rl.errors import UserError
from agent_rl.loading import build_stage, result_of
from agent_rl.preflight import check_stage
from rl_envs import make

# What the laboratory itself says of each stage
OURS: dict[str, tuple[str, ...]] = {
    "sft": ("stage", "run"),
    "reward_model": ("stage", "run", "data"),
    "rl": ("stage", "run", "model", "envs", "sampling", "evaluation"),
}

SPARE = 1.4  # pairs sampled for each that is wanted: those of equal gold reward are left out


@dataclass(frozen=True)
class Plan:
    """The stages of one seed.

    Attributes:
        config: All settings.
        seed: Its seed.
        where: The configuration's file, for messages.
    """

    config: OveroptConfig
    seed: int
    where: str

    @property
    def dir(self) -> Path:
        """Where all of this seed goes."""
        return Path(self.config.run.dir) / f"seed-{self.seed}"

    @property
    def start(self) -> str:
        """The starting policy."""
        return str(self.dir / "sft" / "model")

    @property
    def pairs_dir(self) -> Path:
        """The run folder that makes the pairs."""
        return self.dir / "pairs"

    def pairs(self, labels: int) -> Path:
        """The labelled pairs that a proxy is trained on."""
        return self.dir / f"pairs-{labels}.jsonl"

    def proxy_dir(self, labels: int) -> Path:
        """The run folder of a proxy."""
        return self.dir / f"proxy-{labels}"

    def proxy(self, labels: int) -> str:
        """The reward model that a proxy's training leaves."""
        return str(self.proxy_dir(labels) / "model")

    def rl_dir(self, labels: int, coef: float) -> Path:
        """The run folder of a policy."""
        return self.dir / f"rl-{labels}-kl-{coef:g}"

    def sft_stage(self) -> StageConfig:
        """Supervised training of the starting policy."""
        given = self._section("sft")
        data = self._mapping("sft.data", given.get("data"))
        if not data.get("path"):
            if data.get("env"):
                raise UserError(f"{self.where}: sft.data.env is the laboratory's env; leave it out")
            env = {"id": self.config.env.id, "options": self.config.env.options}
            given["data"] = {**data, "env": env}
        return self._built("sft", given, self.dir / "sft")

    def pairs_stage(self) -> StageConfig:
        """Pairs of the starting policy's samples, labelled by the gold reward with noise."""
        config = self.config
        wanted = math.ceil(SPARE * max(config.labels)) + 16
        with closing(make(config.env.id, **config.env.options)) as env:
            size = env.tasks.size
        tasks = wanted if size is None else min(size, wanted)
        given = {
            "model": {"path": self.start},
            "env": dataclasses.asdict(config.env),
            "sampling": dataclasses.asdict(config.sampling),
            "tasks": tasks,
            "samples": 2 * math.ceil(wanted / tasks),
            "pairing": "disjoint",
            "noise": "bradley_terry",
            "temperature": config.label_temperature,
            "on_truncation": "score",
            "tasks_at_once": 64,
        }
        return self._built("pairs", given, self.pairs_dir)

    def proxy_stage(self, labels: int) -> StageConfig:
        """The training of a reward model on the first so many labels."""
        given = self._section("reward_model")
        if given.get("kind") in ("outcome", "process"):
            raise UserError(
                f"{self.where}: reward_model.kind is {given['kind']}, but a proxy learns from "
                "pairs; set bradley_terry or ranking"
            )
        given["data"] = {"path": str(self.pairs(labels))}
        return self._built("reward_model", given, self.proxy_dir(labels))

    def rl_stage(self, labels: int, coef: float) -> StageConfig:
        """Reinforcement learning against a proxy; a checkpoint at every measurement."""
        config = self.config
        given = self._section("rl")
        algorithm = given.get("algorithm", "grpo")
        algorithm = {"preset": algorithm} if isinstance(algorithm, str) else algorithm
        algorithm = self._mapping("rl.algorithm", algorithm)
        kl = self._mapping("rl.algorithm.kl", algorithm.get("kl"))
        if "coef" in kl:
            raise UserError(f"{self.where}: rl.algorithm.kl.coef does nothing here; set kl_coefs")
        kl = {"place": "loss", "estimator": "k3", **kl, "coef": coef}
        if coef == 0:  # nothing is measured there: the laboratory measures KL itself
            kl = {"place": "none", "estimator": "k1", "coef": 0.0}
        given |= {
            "algorithm": {**algorithm, "kl": kl},
            "model": {"path": self.start},
            "envs": [learned_reward(config, self.proxy(labels))],
            "sampling": dataclasses.asdict(config.sampling),
            "evaluation": {"tasks": 0},
        }
        run = {"checkpoint_every": config.measure_every, "keep_checkpoints": 0, "rollouts_every": 0}
        return self._built("rl", given, self.rl_dir(labels, coef), run)

    def stages(self) -> list[tuple[str, StageConfig]]:
        """Every stage with its name, in order."""
        built = [("sft", self.sft_stage()), ("pairs", self.pairs_stage())]
        for labels in self.config.labels:
            built.append((f"proxy of {labels} labels", self.proxy_stage(labels)))
            for coef in self.config.kl_coefs:
                name = f"RL on {labels} labels, KL coefficient {coef:g}"
                built.append((name, self.rl_stage(labels, coef)))
        return built

    def check(self) -> None:
        """Every stage against the environments and models it names, before the first one trains.

        Raises:
            UserError: One line that names the setting.
        """
        unborn = [str(self.pairs(labels)) for labels in self.config.labels]
        stages = self.stages()
        unborn += [result_of(config) for _, config in stages]
        for name, config in stages:
            check_stage(config, name, unborn)

    def _section(self, name: str) -> dict[str, Any]:
        given: dict[str, Any] = dict(getattr(self.config, name))
        taken = [key for key in OURS[name] if key in given]
        if taken:
            raise UserError(
                f"{self.where}: {name}.{taken[0]} is set by the laboratory; leave it out"
            )
        return given

    def _mapping(self, name: str, given: Any) -> dict[str, Any]:
        if given is not None and not isinstance(given, Mapping):
            raise UserError(f"{self.where}: {name} is {given!r}; it must be a mapping")
        return dict(given or {})

    def _built(
        self, kind: str, given: dict[str, Any], folder: Path, run: Mapping[str, Any] = {}
    ) -> StageConfig:
        threads = self.config.run.threads
        given["run"] = {"dir": str(folder), "seed": self.seed, "threads": threads, **run}
        return build_stage(kind, given, self.where, kind)


def learned_reward(config: OveroptConfig, proxy: str) -> dict[str, Any]:
    """The environment that pays what a proxy says of an answer to one of the gold one's prompts."""
    prompts = {"env": config.env.id, "options": config.env.options}
    return {
        "id": "text/LearnedReward-v0",
        "options": {"prompts": prompts, "reward_models": [{"path": proxy}]},
    }
