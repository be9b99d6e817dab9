"""Every setting with its meaning and default, read off the configuration classes."""

from __future__ import annotations

import dataclasses
import inspect
import re
import shutil
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

from agent_rl.algorithms import Algorithm
from agent_rl.config import STAGES, EvalConfig, OveroptConfig
from agent_rl.settings import describe
from agent_rl.yaml_text import to_yaml

KINDS: dict[str, Any] = {**STAGES, "eval": EvalConfig, "overopt": OveroptConfig}
PRESET_SETS_IT = "the preset's"
ENTRY = re.compile(r"( *)(\w+): (.*)")


@dataclass(frozen=True)
class Setting:
    """One line of the table.

    Attributes:
        name: Dotted, from the top of a stage; ``N`` is an element's number.
        values: What it may be.
        default: As YAML; empty where it must be given.
        meaning: From the docstring of its class.
    """

    name: str
    values: str
    default: str
    meaning: str


@dataclass(frozen=True)
class Section:
    """The settings of one configuration class at one place.

    Attributes:
        name: The dotted name of the place; empty at the top.
        about: The first line of the class's docstring.
        settings: In the order of the class.
    """

    name: str
    about: str
    settings: tuple[Setting, ...]


def sections(kind: Any, place: str = "") -> Iterator[Section]:
    """The sections of a configuration class: its own settings, then those of the nested classes."""
    hints, meanings = get_type_hints(kind), documented(kind)
    own, nested = [], []
    for field in dataclasses.fields(kind):
        name = f"{place}.{field.name}" if place else field.name
        hint = hints[field.name]
        meaning = re.sub(r"\bNone\b", "null", meanings.get(field.name, ""))  # as YAML has it
        own.append(Setting(name, describe(hint), _default(kind, field), meaning))
        inner = next((t for t in (hint, *get_args(hint)) if dataclasses.is_dataclass(t)), None)
        if inner is not None:
            nested.append((inner, f"{name}.N" if isinstance(hint, type(tuple[int, ...])) else name))
    yield Section(place, (inspect.getdoc(kind) or "").split("\n")[0], tuple(own))
    for inner, name in nested:
        yield from sections(inner, name)


def documented(kind: Any) -> dict[str, str]:
    """The entries under ``Args:`` or ``Attributes:`` of the docstrings of a class and its bases."""
    if len(kind.__bases__) == 1 and dataclasses.is_dataclass(kind.__bases__[0]):
        return {**documented(kind.__bases__[0]), **_documented(kind)}
    return _documented(kind)


def _documented(kind: Any) -> dict[str, str]:
    _, _, listed = re.sub(
        r"\n(Args|Attributes):\n", "\n\0", inspect.getdoc(kind) or "", count=1
    ).partition("\0")
    found: dict[str, str] = {}
    name, indent = "", None
    for line in listed.split("\n"):
        entry = ENTRY.match(line)
        if entry and indent in (None, entry[1]):
            indent, name = entry[1], entry[2]
            found[name] = entry[3].strip()
        elif line.strip() and not line.startswith(" "):
            break
        elif name:
            found[name] = f"{found[name]} {line.strip()}".strip()
    return found


def _default(kind: Any, field: dataclasses.Field[Any]) -> str:
    value = field.default
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    if kind is Algorithm or (inspect.getmodule(kind) is inspect.getmodule(Algorithm)):
        return PRESET_SETS_IT
    if field.type == "Algorithm":
        return "grpo"
    if value is dataclasses.MISSING:
        return ""
    if dataclasses.is_dataclass(value):
        return "as below"
    value = list(value) if isinstance(value, tuple) else value
    return to_yaml([value], flow=True).strip()[1:-1]


def as_text(kind: Any, width: int | None = None) -> str:
    """For a terminal: name, default and values in one line, the meaning below."""
    width = min(width or shutil.get_terminal_size().columns, 100)
    lines: list[str] = []
    for section in sections(kind):
        lines += [f"{section.name}: {section.about}" if section.name else section.about, ""]
        for setting in section.settings:
            default = f" = {setting.default}" if setting.default else "   (must be given)"
            lines.append(f"  {setting.name}{default}   [{setting.values}]")
            lines += textwrap.wrap(
                setting.meaning.replace("``", "`"),
                width,
                initial_indent=" " * 6,
                subsequent_indent=" " * 6,
            )
        lines.append("")
    return "\n".join(lines)


def as_markdown() -> str:
    """For ``docs/configuration.md``: one table for each stage, and one for each shared section."""
    out: list[str] = []
    shown: set[str] = set()
    for stage, kind in KINDS.items():
        for section in sections(kind):
            title = section.name or f"stage {stage}"
            if title in shown:
                continue
            shown.add(title)
            out += [f"### `{section.name}`" if section.name else f"### Stage `{stage}`", ""]
            out += [section.about, "", "| setting | default | values | meaning |"]
            out += ["|---|---|---|---|", *map(_row, section.settings), ""]
    return "\n".join(out)


def _row(setting: Setting) -> str:
    default = f"`{setting.default}`" if setting.default else "must be given"
    if setting.default in (PRESET_SETS_IT, "as below"):
        default = setting.default
    cells = [f"`{setting.name}`", default, setting.values, setting.meaning]
    escaped = (cell.replace("``", "`").replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"
