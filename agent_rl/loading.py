"""YAML and dotted overrides to frozen configuration objects; anything unknown is refused.

A file is one stage (``stage: rl``, ``stage: sft``, ...), or a recipe: ``stages`` maps names to
stages, run in order. ``@name`` as a path (of a model, of data, of a reward model) is the result of
an earlier stage. In a recipe, ``run`` at the top level is shared by every stage.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from agent_rl.algorithms import PRESETS, Algorithm
from agent_rl.config import STAGES, EvalConfig, OveroptConfig, RLConfig, StageConfig, stage_kind
from agent_rl.errors import UserError
from agent_rl.overrides import parse_overrides, put
from agent_rl.settings import SettingError, construct, suggestion
from agent_rl.yaml_text import YAMLError, from_yaml, to_yaml

__all__ = ["Recipe", "build", "load_recipe", "parse_overrides", "put", "read", "stage_tree"]

Config = TypeVar("Config", bound=StageConfig | EvalConfig | OveroptConfig)
STAGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")  # it becomes a folder

AT_LEAST_ONE = (
    "tasks_at_once",
    "rounds",
    "max_chars",
    "keep",
    "steps",
    "prompts_per_step",
    "group_size",
    "updates_per_step",
    "epochs",
    "batch_size",
    "ptx.batch_size",
    "micro_tokens",
    "pack_tokens",
    "concurrency",
    "measure_every",
    "measure_samples",
    "pool_tasks",
    "pool_samples",
    "judge_sampling.max_tokens",
    "sampling.max_tokens",
    "model.tiny.hidden_size",
    "model.tiny.layers",
    "model.tiny.heads",
    "model.tiny.intermediate_size",
    "model.tiny.context",
    "model.lora.rank",
    "ensemble.members",
    "labels",
    "segment",
    "candidates",
    "reward.members",
    "reward.hidden",
    "reward.buckets",
    "reward.seen",
    "reward.done",
    "reward.updates",
    "reward.batch_size",
)
AT_LEAST_ZERO = (
    "turn_timeout_s",
    "episode_timeout_s",
    "reference_refresh",
    "value_lr",
    "missing_eos_penalty",
    "ptx.coef",
    "held_out",
    "seed",
    "threads",
    "tasks",
    "samples",
    "judge_sampling.temperature",
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
    "max_steps",
    "max_tokens",
    "centering",
    "evaluate_every",
    "evaluate_examples",
    "patience",
    "ensemble.uncertainty_weight",
    "labels_half_life",
    "labels_until",
    "stream",
    "end_steps",
    "reward.lr",
    "reward.l2",
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
        names = {result_of(config): f"@{name}" for name, config in self.stages if config.result}
        for tree in stages.values():
            del tree["run"]["dir"]  # the recipe's own and the stage's name make it
        stages = {
            name: _with_paths(tree, lambda p: names.get(p, p)) for name, tree in stages.items()
        }
        return {"name": self.name, "run": {"dir": self.dir}, "stages": stages}

    def to_yaml(self) -> str:
        """``tree`` as text."""
        return to_yaml(self.tree())


def stage_tree(config: StageConfig) -> dict[str, Any]:
    """Every setting of a stage, as plain values."""
    tree: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return {"stage": stage_kind(config), **tree}


def result_of(config: StageConfig) -> str:
    """The path of what a stage leaves for later ones."""
    return f"{config.run.dir}/{config.result}"


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
        settings = _resolve(settings, built, f"{path}: {prefix}")
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


def _with_paths(tree: Any, change: Callable[[str], str], key: str = "") -> Any:
    """The tree with every path in it changed: the texts under ``path``, ``paths``, ``..._path``."""
    if isinstance(tree, Mapping):
        return {name: _with_paths(value, change, str(name)) for name, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_with_paths(value, change, key) for value in tree]
    is_path = key in ("path", "paths") or key.endswith(("_path", "_paths"))
    return change(tree) if is_path and isinstance(tree, str) else tree


def _resolve(
    settings: dict[str, Any], built: list[tuple[str, StageConfig]], where: str
) -> dict[str, Any]:
    """The settings with the path of its result for every ``@name`` of an earlier stage.

    ``@name/more`` is a path within that stage's run folder.
    """
    configs = dict(built)

    def resolved(path: str) -> str:
        if not path.startswith("@"):
            return path
        wanted, _, inside = path[1:].partition("/")
        if wanted not in configs:
            earlier = suggestion(wanted, configs) if configs else "this is the first"
            raise UserError(f"{where}: path {path}: no earlier stage {wanted!r}; {earlier}")
        config = configs[wanted]
        if inside:
            return f"{config.run.dir}/{inside}"
        if not config.result:
            raise UserError(
                f"{where}: path {path}: the stage {wanted} only measures, it has no result"
            )
        return result_of(config)

    changed: dict[str, Any] = _with_paths(settings, resolved)
    return changed


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
        if issubclass(kind, RLConfig):
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


def check(config: StageConfig | EvalConfig | OveroptConfig, where: str) -> None:
    """Values that have the right type and still cannot work.

    Raises:
        UserError: One line.
    """
    for lowest, names in ((1, AT_LEAST_ONE), (0, AT_LEAST_ZERO)):
        for name in names:
            value = _lookup(config, name)
            if isinstance(value, int | float) and value < lowest:
                raise UserError(f"{where}: {name} is {value}; it must be at least {lowest}")
    for name, message in config.problems():
        raise UserError(f"{where}: {name} {message}")


def _lookup(config: Any, name: str) -> Any:
    """The value of a dotted name, or None."""
    for part in name.split("."):
        config = getattr(config, part, None)
    return config
