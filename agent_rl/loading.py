"""YAML and dotted overrides to frozen configuration objects; anything unknown is refused.

A file is one stage (``stage: rl`` or ``stage: sft``), or a recipe: ``stages``, a mapping of names to
stages, run in order. ``@name`` as a model's path is the result of an earlier stage. In a recipe,
``run`` at the top level is shared by every stage.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import yaml

from agent_rl.algorithms import Algorithm, AlgorithmError, preset
from agent_rl.config import EvalConfig, RLConfig, SFTConfig, StageConfig
from agent_rl.errors import UserError

STAGES: dict[str, type[StageConfig]] = {"rl": RLConfig, "sft": SFTConfig}
Config = TypeVar("Config", RLConfig, SFTConfig, EvalConfig)


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
        return {"name": self.name, "run": {"dir": self.dir}, "stages": stages}

    def to_yaml(self) -> str:
        """``tree`` as text."""
        return str(yaml.safe_dump(self.tree(), sort_keys=False, allow_unicode=True))


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
    file = Path(path)
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read the configuration {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = " ".join(str(error).split())
        raise UserError(f"{path} is no valid YAML: {where}") from error
    if not isinstance(tree, dict):
        raise UserError(f"{path} must hold a mapping of settings")
    for key, value in parse_overrides(overrides):
        put(tree, key, value)
    return tree


def parse_overrides(words: Sequence[str]) -> list[tuple[str, Any]]:
    """``--a.b=c`` and ``--a.b c`` as (key, value), values read as YAML; a lone ``--flag`` is true."""
    pairs: list[tuple[str, Any]] = []
    waiting: str | None = None
    for word in words:
        if word.startswith("--") and len(word) > 2 and not word[2].isdigit():
            if waiting is not None:
                pairs.append((waiting, True))
            key, equals, text = word[2:].partition("=")
            waiting = None if equals else key
            if equals:
                pairs.append((key, _value(text)))
        elif waiting is not None:
            pairs.append((waiting, _value(word)))
            waiting = None
        else:
            raise UserError(f"unexpected argument {word!r}; overrides look like --steps 10")
    if waiting is not None:
        pairs.append((waiting, True))
    return pairs


def _value(text: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    if isinstance(value, str):
        try:  # YAML 1.1 reads 1e-4 as a string
            return float(value) if any(c.isdigit() for c in value) else value
        except ValueError:
            return value
    return value


def put(tree: dict[str, Any], key: str, value: Any) -> None:
    """Set ``a.b.0.c`` in a tree of mappings and lists, making mappings on the way.

    Raises:
        UserError: When a list has no such element.
    """
    *path, last = key.split(".")
    node: Any = tree
    for part in path:
        if isinstance(node, list):
            node = node[_element(node, part, key)]
        else:
            if not isinstance(node.get(part), dict | list):
                node[part] = {}
            node = node[part]
    if isinstance(node, list):
        node[_element(node, last, key)] = value
    else:
        node[last] = value


def _element(node: list[Any], part: str, key: str) -> int:
    if not part.isdigit() or int(part) >= len(node):
        raise UserError(f"override --{key}: the list has no element {part}; it has {len(node)}")
    return int(part)


def load_recipe(
    path: str, overrides: Sequence[str] = (), *, default_stage: str = "rl"
) -> Recipe:
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
        tree["run"] = {"dir": f"runs/{Path(path).stem}", **tree.get("run", {})}
        config = build_stage(kind, tree, path)
        return Recipe(name, config.run.dir, (("", config),))
    stages = tree.pop("stages")
    shared = tree.pop("run", {})
    if tree:
        raise UserError(f"{path}: unknown setting {next(iter(tree))}; a recipe has name, run, stages")
    if not isinstance(stages, dict) or not stages:
        raise UserError(f"{path}: stages must map names to stages")
    base = str(shared.get("dir", "runs/" + Path(path).stem))
    built: list[tuple[str, StageConfig]] = []
    for number, (stage_name, settings) in enumerate(stages.items(), start=1):
        where = f"{path}: stages.{stage_name}"
        if not isinstance(settings, dict):
            raise UserError(f"{where} must be a mapping of settings")
        settings = dict(settings)
        kind = str(settings.pop("stage", "rl"))
        settings["run"] = {**shared, **settings.get("run", {}), "dir": f"{base}/{number}-{stage_name}"}
        _resolve_model(settings, built, where)
        built.append((stage_name, build_stage(kind, settings, where)))
    return Recipe(name, base, tuple(built))


def _resolve_model(
    settings: dict[str, Any], built: list[tuple[str, StageConfig]], where: str
) -> None:
    model = settings.get("model")
    if isinstance(model, dict) and str(model.get("path", "")).startswith("@"):
        wanted = model["path"][1:]
        folders = {name: config.run.dir for name, config in built}
        if wanted not in folders:
            raise UserError(f"{where}.model.path: no earlier stage {wanted!r} in {list(folders)}")
        settings["model"] = {**model, "path": f"{folders[wanted]}/model"}


def build_stage(kind: str, settings: Mapping[str, Any], where: str) -> StageConfig:
    """The configuration of a stage.

    Raises:
        UserError: One line.
    """
    if kind not in STAGES:
        raise UserError(f"{where}: unknown stage {kind!r}; there is {', '.join(STAGES)}")
    config = build(STAGES[kind], settings, where)
    check(config, where)
    return config


def build(kind: type[Config], settings: Mapping[str, Any], where: str) -> Config:
    """An object of a configuration class from a tree of settings.

    Raises:
        UserError: One line naming the setting that is unknown, missing or of the wrong type.
    """
    from jsonargparse import ArgumentError, ArgumentParser  # noqa: PLC0415 - slow to import

    settings = dict(settings)
    refuse_unknown(kind, settings, where)
    if kind is RLConfig:
        settings["algorithm"] = _algorithm(settings.get("algorithm", "grpo"), where)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind, "config")
    try:
        parsed = parser.parse_object({"config": settings})
        built: Config = parser.instantiate(parsed).config
    except (ArgumentError, TypeError, ValueError, KeyError) as error:
        raise UserError(f"{where}: {_one_line(error)}") from error
    return built


def refuse_unknown(kind: Any, settings: Any, where: str, prefix: str = "") -> None:
    """Raise on the first key that a configuration class, or one nested in it, does not have."""
    if not isinstance(settings, Mapping):
        return
    hints = get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    for key, value in settings.items():
        if key not in names:
            close = difflib.get_close_matches(str(key), names, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there is {', '.join(names)}"
            raise UserError(f"{where}: unknown setting {prefix}{key}; {hint}")
        inner = [t for t in (hints[key], *get_args(hints[key])) if dataclasses.is_dataclass(t)]
        if not inner or inner[0] is Algorithm:
            continue
        items = enumerate(value) if isinstance(value, list) else [(None, value)]
        for index, item in items:
            place = key if index is None else f"{key}.{index}"
            refuse_unknown(inner[0], item, where, f"{prefix}{place}.")


def _algorithm(given: Any, where: str) -> dict[str, Any]:
    """``grpo`` or ``{preset: grpo, ...what differs}`` as the whole algorithm."""
    settings = {"preset": given} if isinstance(given, str) else dict(given or {})
    try:
        return dataclasses.asdict(preset(settings.pop("preset", "grpo"), **settings))
    except (AlgorithmError, TypeError) as error:
        raise UserError(f"{where}: algorithm: {error}") from error


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()).replace("config.", "").replace('"config"', "settings")
    return text[:400]


def check(config: StageConfig, where: str) -> None:
    """Values that have the right type and still cannot work.

    Raises:
        UserError: One line.
    """
    positive = {"steps": config.steps, "micro_tokens": config.micro_tokens}
    if isinstance(config, RLConfig):
        positive |= {
            "prompts_per_step": config.prompts_per_step,
            "group_size": config.group_size,
            "updates_per_step": config.updates_per_step,
            "epochs": config.epochs,
            "sampling.max_tokens": config.sampling.max_tokens,
        }
        if not config.envs:
            raise UserError(f"{where}: envs is empty; name at least one environment")
        compares = config.algorithm.advantage in ("group", "leave_one_out", "max_likelihood", "turn")
        if compares and config.group_size < 2:
            raise UserError(f"{where}: group_size must be at least 2: the advantage compares a group")
        off_policy = config.updates_per_step * config.epochs > 1
        if off_policy and config.algorithm.ratio == "none":
            raise UserError(
                f"{where}: several updates per batch need an importance ratio; "
                "set algorithm.ratio=token, or updates_per_step and epochs to 1"
            )
    else:
        positive["batch_size"] = config.batch_size
    for name, value in positive.items():
        if value < 1:
            raise UserError(f"{where}: {name} is {value}; it must be at least 1")
