"""Principles from a YAML file: how an answer is criticised, revised, and chosen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_rl.errors import UserError
from agent_rl.settings import suggestion
from agent_rl.yaml_text import YAMLError, from_yaml

NEEDS = {"revise": ("critique", "revision"), "label": ("choose",)}
KNOWN = ("name", "critique", "revision", "choose")


@dataclass(frozen=True, slots=True)
class Principle:
    """One principle, as the three requests that are made by it.

    Attributes:
        name: What it is called in the data.
        critique: Asks for what is wrong with the answer before; empty where it is not for that.
        revision: Asks for a better answer.
        choose: Asks which of two answers is better.
    """

    name: str
    critique: str = ""
    revision: str = ""
    choose: str = ""

    @classmethod
    def of_text(cls, text: str, name: str) -> Principle:
        """The three requests from one sentence that says what is good."""
        return cls(
            name,
            "Name every way in which your last answer fails this principle, or say that it keeps "
            f"it: {text}",
            "Write your answer to the request again so that it keeps this principle, and write "
            f"nothing but the answer: {text}",
            f"Which of the two replies keeps this principle better? {text}",
        )


def load_principles(path: str | Path, mode: str | None = None) -> list[Principle]:
    """The principles of a file: a list, or a mapping with a list under ``principles``.

    Each is a text, from which all three requests are made, or a mapping with ``critique`` and
    ``revision``, ``choose``, or all of them, and perhaps a ``name``.

    Args:
        path: A YAML file.
        mode: ``revise`` or ``label``: every principle must have the requests for it; None looks at
            the form only.

    Raises:
        UserError: One line with the file, the principle's number, and what to do.
    """
    where = str(path)
    try:
        tree = from_yaml(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read the principles {where}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{where} is no UTF-8 text (byte {error.start})") from error
    except YAMLError as error:
        raise UserError(f"{where} is no valid YAML: {error}") from error
    if isinstance(tree, dict):
        if set(tree) != {"principles"}:
            raise UserError(f"{where}: must be a list of principles, or have it under 'principles'")
        tree = tree["principles"]
    if not isinstance(tree, list) or not tree:
        raise UserError(f"{where}: must hold a list of principles, such as '- Be honest.'")
    found = [_principle(each, n, f"{where}, principle {n}") for n, each in enumerate(tree, start=1)]
    names = [principle.name for principle in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{where}: two principles have the name {twice!r}; give each its own")
    for number, principle in enumerate(found, start=1):
        for part in NEEDS.get(mode or "", ()):
            if not getattr(principle, part):
                raise UserError(
                    f"{where}, principle {number} ({principle.name}): has no {part}, which mode "
                    f"{mode} needs; add it, or write the principle as one text"
                )
    return found


def _principle(given: Any, number: int, where: str) -> Principle:
    if isinstance(given, str) and given.strip():
        return Principle.of_text(given.strip(), f"principle {number}")
    if not isinstance(given, dict):
        raise UserError(
            f"{where} is {given!r:.60}; it must be a text, or a mapping of critique, revision and "
            "choose"
        )
    for key, value in given.items():
        if key not in KNOWN:
            raise UserError(f"{where}: unknown {key!r:.40}; {suggestion(key, KNOWN)}")
        if not isinstance(value, str) or not value.strip():
            raise UserError(f"{where}: {key} is {value!r:.60}; it must be a text")
    parts = {key: value.strip() for key, value in given.items()}
    if not parts.keys() & {"critique", "revision", "choose"}:
        raise UserError(f"{where}: needs critique and revision, or choose, or all three")
    return Principle(**{"name": f"principle {number}", **parts})
