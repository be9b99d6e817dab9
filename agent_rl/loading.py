"""YAML and dotted overrides to frozen configuration objects; anything unknown is refused.

A file is one stage (``stage: rl`` or ``stage: sft``), or a recipe: ``stages`` maps names to stages,
run in order. ``@name`` as a model's path is the result of an earlier stage. In a recipe,
``run`` at the top level is shared by every stage.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from agent_rl.algorithms import PRESETS, Algorithm
from agent_rl.config import EvalConfig, RLConfig, SFTConfig, StageConfig
from agent_rl.errors import UserError
from agent_rl.overrides import parse_overrides, put
from agent_rl.settings import SettingError, construct, suggestion
from agent_rl.yaml_text import YAMLError, from_yaml, to_yaml

__all__ = ["Recipe", "build", "load_recipe", "parse_overrides", "put", "read", "stage_tree"]

STAGES: dict[str, type[StageConfig]] = {"rl": RLConfig, "sft": SFTConfig}
Config = TypeVar("Config", bound=RLConfig | SFTConfig | EvalConfig)
STAGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")  # it becomes a folder

AT_LEAST_ONE = (
    "steps",
    "prompts_per_step",
    "group_size",
    "updates_per_step",
    "epochs",
    "batch_size",
    "micro_tokens",
    "pack_tokens",
    "concurrency",
    "sampling.max_tokens",
    "model.tiny.hidden_size",
    "model.tiny.layers",
    "model.tiny.heads",
    "model.tiny.intermediate_size",
    "model.tiny.context",
    "model.lora.rank",
)
AT_LEAST_ZERO = (
    "turn_timeout_s",
    "episode_timeout_s",
    "reference_refresh",
    "value_lr",
    "held_out",
    "seed",
    "threads",
    "tasks",
    "samples",
    "sampling.temperature",
    "sampling.top_k",
    "sampling.min_p",
    "optimizer.lr",
    "optimizer.weight_decay",
    "optimizer.warmup_steps",
    "optimizer.final_fraction",
    "optimizer.grad_clip",
    "evaluation.every",
    "evaluation.tasks",
    "evaluation.samples",
    "run.seed",
    "run.threads",
    "run.checkpoint_every",
    "run.keep_checkpoints",
    "run.rollouts_every",
)


@dataclass(frozen=True)
class Recipe:
    """Stages by name, in order, and the folder that holds a sub-folder for each.

    Attributes:
        name: What is being learned, in one line for the console and the report.
        dir: The run folder.
        stages: ``(name, configuration)``; a model path ``@name`` is resolved already.
    """

    name: str
    dir: str
    stages: tuple[tuple[str, StageConfig], ...]

    @property
    def is_single(self) -> bool:
        """Whether this is one stage in a folder of its own."""
        return len(self.stages) == 1 and self.stages[0][0] == ""

    def tree(self) -> dict[str, Any]:
        """Every resolved setting; ``load_recipe`` reads it back from YAML."""
        stages = {name: stage_tree(config) for name, config in self.stages}
        if self.is_single:
            return {"name": self.name, **stages[""]}
        results = {f"{config.run.dir}/model": f"@{name}" for name, config in self.stages}
        for tree in stages.values():
            del tree["run"]["dir"]  # the recipe's own and the stage's name make it
            path = tree["model"]["path"]
            tree["model"]["path"] = results.get(path, path)
        return {"name": self.name, "run": {"dir": self.dir}, "stages": stages}

    def to_yaml(self) -> str:
        """``tree`` as text."""
        return to_yaml(self.tree())


def stage_tree(config: StageConfig) -> dict[str, Any]:
    """Every setting of a stage, as plain values."""
    kind = next(name for name, cls in STAGES.items() if isinstance(config, cls))
    tree: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return {"stage": kind, **tree}


def read(path: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """A YAML file as a mapping, with ``--a.b=c`` / ``--a.b c`` overrides laid over it.

    Raises:
        UserError: When the file is missing or no mapping, or an override has no value.
    """
    try:
        tree = from_yaml(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read the configuration {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no UTF-8 text (byte {error.start})") from error
    except YAMLError as error:
        raise UserError(f"{path} is no valid YAML: {error}") from error
    if not isinstance(tree, dict):
        raise UserError(f"{path} must hold a mapping of settings, such as 'steps: 10'")
    for key, value in parse_overrides(overrides):
        put(tree, key, value)
    return tree


def load_recipe(path: str, overrides: Sequence[str] = (), *, default_stage: str = "rl") -> Recipe:
    """A training configuration: one stage or several, every setting checked.

    Args:
        path: A YAML file.
        overrides: Words such as ``--steps 10``.
        default_stage: What a single stage is that does not say so.

    Raises:
        UserError: One line naming the setting, for anything unknown, of the wrong type, or
            contradictory.
    """
    tree = read(path, overrides)
    name = str(tree.pop("name", Path(path).stem))
    if "stages" not in tree:
        kind = str(tree.pop("stage", default_stage))
        tree["run"] = {"dir": f"runs/{Path(path).stem}", **_section(tree, "run", path)}
        config = build_stage(kind, tree, path)
        return Recipe(name, config.run.dir, (("", config),))
    stages = _section(tree, "stages", path)
    shared = _section(tree, "run", path)
    unknown = tree.keys() - {"run", "stages"}
    if unknown:
        key = min(unknown)
        known = ["name", "run", "stages"]
        raise UserError(f"{path}: unknown setting {key}; {suggestion(key, known)}")
    if not stages:
        raise UserError(f"{path}: stages is empty; it maps names to stages")
    base = str(shared.get("dir", f"runs/{Path(path).stem}"))
    built: list[tuple[str, StageConfig]] = []
    for number, (stage_name, given) in enumerate(stages.items(), start=1):
        settings = _stage(stage_name, given, path)
        kind = str(settings.pop("stage", "rl"))
        prefix = f"stages.{stage_name}"
        own = _section(settings, "run", path, prefix)
        if "dir" in own:
            raise UserError(f"{path}: {prefix}.run.dir: only the recipe's own run.dir can be set")
        settings["run"] = {**shared, **own, "dir": f"{base}/{number}-{stage_name}"}
        _resolve_model(settings, built, f"{path}: {prefix}")
        built.append((str(stage_name), build_stage(kind, settings, path, prefix)))
    return Recipe(name, base, tuple(built))


def _stage(name: Any, given: Any, path: str) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise UserError(f"{path}: stages.{name} must be a mapping of settings")
    if not STAGE_NAME.fullmatch(str(name)):
        raise UserError(f"{path}: the stage name {name!r} must be letters, digits, - and _")
    return dict(given)


def _section(tree: Mapping[str, Any], key: str, path: str, prefix: str = "") -> dict[str, Any]:
    given = tree.get(key)
    if given is not None and not isinstance(given, dict):
        name = f"{prefix}.{key}" if prefix else key
        raise UserError(f"{path}: {name} is {given!r}; it must be a mapping of settings")
    return dict(given or {})


def _resolve_model(
    settings: dict[str, Any], built: list[tuple[str, StageConfig]], where: str
) -> None:
    model = settings.get("model")
    if isinstance(model, dict) and str(model.get("path", "")).startswith("@"):
        wanted = model["path"][1:]
        folders = {name: config.run.dir for name, config in built}
        if wanted not in folders:
            earlier = suggestion(wanted, folders) if folders else "this is the first"
            raise UserError(f"{where}.model.path: no earlier stage {wanted!r}; {earlier}")
        settings["model"] = {**model, "path": f"{folders[wanted]}/model"}


def build_stage(
    kind: str, settings: Mapping[str, Any], where: str, prefix: str = ""
) -> StageConfig:
    """The configuration of a stage.

    Raises:
        UserError: One line.
    """
    if kind not in STAGES:
        place = f"{prefix}.stage" if prefix else "stage"
        raise UserError(f"{where}: {place}: unknown stage {kind!r}; {suggestion(kind, STAGES)}")
    config: StageConfig = build(STAGES[kind], settings, where, prefix)
    return config


def build(kind: type[Config], settings: Mapping[str, Any], where: str, prefix: str = "") -> Config:
    """An object of a configuration class from a tree of settings.

    Args:
        kind: The class.
        settings: Plain values.
        where: The file, for messages.
        prefix: The dotted name of ``settings`` within it.

    Raises:
        UserError: One line naming the setting that is unknown, missing, of the wrong type, or has a
            value that cannot work.
    """
    settings = dict(settings)
    try:
        if kind is RLConfig:
            place = f"{prefix}.algorithm" if prefix else "algorithm"
            settings["algorithm"] = _algorithm(settings.get("algorithm", "grpo"), place)
        config = construct(kind, settings, prefix)
    except SettingError as error:
        hint = _option_hint(kind, settings, prefix)
        raise UserError(f"{where}: {hint or error}") from error
    check(config, f"{where}: {prefix}".removesuffix(": "))
    return config


def _option_hint(kind: type[Config], settings: Mapping[str, Any], prefix: str) -> str | None:
    """Where the first unknown setting belongs, if it is an option of an environment that is named.

    It comes from the command line or the top of a file: ``--form a*b``.
    """
    from rl_envs import make  # noqa: PLC0415 - only for the message
    from rl_envs.registry import option_names  # noqa: PLC0415

    known = {field.name for field in dataclasses.fields(kind)}
    unknown = [key for key in settings if key not in known]
    envs = settings.get("envs")
    for number, env in enumerate(envs if unknown and isinstance(envs, list | tuple) else ()):
        try:
            with closing(make(env["id"], **env.get("options", {}))) as made:
                options = option_names(type(made))
        except Exception:  # the unknown setting is what is told
            continue
        if unknown[0] in options:
            place = f"{prefix}." if prefix else ""
            name = f"--{place}envs.{number}.options.{unknown[0]}"
            return f"{unknown[0]} is an option of the environment: write {name}"
    return None


def _algorithm(given: Any, place: str) -> dict[str, Any]:
    """``grpo`` or ``{preset: grpo, ...what differs}`` as every field of the algorithm."""
    settings = {"preset": given} if isinstance(given, str) else given
    if settings is not None and not isinstance(settings, Mapping):
        raise SettingError(f"{place} is {given!r}; it must be a preset's name or a mapping")
    settings = dict(settings or {})
    name = settings.pop("preset", "grpo")
    if not isinstance(name, str) or name not in PRESETS:
        raise SettingError(f"{place}: unknown preset {name!r}; {suggestion(name, PRESETS)}")
    whole = dataclasses.asdict(PRESETS[name])
    if isinstance(settings.get("kl"), Mapping):
        settings["kl"] = {**whole["kl"], **settings["kl"]}
    whole |= settings
    return dataclasses.asdict(construct(Algorithm, whole, place))


def check(config: StageConfig | EvalConfig, where: str) -> None:
    """Values that have the right type and still cannot work.

    Raises:
        UserError: One line.
    """
    for lowest, names in ((1, AT_LEAST_ONE), (0, AT_LEAST_ZERO)):
        for name in names:
            value = _lookup(config, name)
            if isinstance(value, int | float) and value < lowest:
                raise UserError(f"{where}: {name} is {value}; it must be at least {lowest}")
    for name, message in _contradictions(config):
        raise UserError(f"{where}: {name} {message}")


def _lookup(config: Any, name: str) -> Any:
    """The value of a dotted name, or None."""
    for part in name.split("."):
        config = getattr(config, part, None)
    return config


def _contradictions(config: StageConfig | EvalConfig) -> list[tuple[str, str]]:
    found = []
    if (config.model.path is None) == (config.model.tiny is None):
        found.append(("model", "needs either path (a folder or hub id) or tiny (its sizes)"))
    tiny = config.model.tiny
    if tiny is not None and tiny.hidden_size % (2 * tiny.heads):
        found.append(("model.tiny.hidden_size", "must be a multiple of twice the heads"))
    if isinstance(config, SFTConfig):
        if (config.data.path is None) == (config.data.env is None):
            found.append(("data", "needs either path (a file) or env (its demonstrations)"))
        return found
    if not config.envs:
        found.append(("envs", "is empty; name at least one environment"))
    if isinstance(config, EvalConfig):
        if not config.greedy and config.samples == 0:
            found.append(("samples", "is 0 and greedy is off; there is nothing to measure"))
        return found
    return found + _contradictions_of_rl(config)


def _contradictions_of_rl(config: RLConfig) -> list[tuple[str, str]]:
    found = []
    compares = config.algorithm.advantage in ("group", "leave_one_out", "max_likelihood", "turn")
    if compares and config.group_size < 2:
        found.append(("group_size", "must be at least 2: the advantage compares a group"))
    if config.updates_per_step * config.epochs > 1 and config.algorithm.ratio == "none":
        found.append(
            (
                "algorithm.ratio",
                "is none, but several updates per batch need an importance ratio; "
                "set algorithm.ratio=token, or updates_per_step and epochs to 1",
            )
        )
    episodes, kl = config.prompts_per_step * config.group_size, config.algorithm.kl
    if kl.target is not None and episodes >= 5 * kl.horizon:  # the coefficient would turn negative
        found.append(
            (
                "algorithm.kl.horizon",
                f"is {kl.horizon:g}, too short for batches of {episodes} episodes "
                f"(prompts_per_step x group_size); set it above {episodes / 5:g}",
            )
        )
    buffer, longest = config.algorithm.overlong_buffer, config.sampling.max_tokens
    if buffer >= longest:  # every completion would be punished, some by more than a reward
        found.append(
            (
                "algorithm.overlong_buffer",
                f"is {buffer}, but completions have {longest} tokens at most; "
                f"set it below sampling.max_tokens, such as {longest // 4} (0 is off)",
            )
        )
    return found
