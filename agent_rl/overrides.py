"""Settings given on the command line by their dotted names, laid over a tree of plain values."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from agent_rl.errors import UserError
from agent_rl.yaml_text import YAMLError, from_yaml


def parse_overrides(words: Sequence[str]) -> list[tuple[str, Any]]:
    """``--a.b=c`` and ``--a.b c`` as (key, value), values read as YAML; a flag is true."""
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


def override_tree(words: Sequence[str]) -> dict[str, Any]:
    """The settings that words such as ``--a.b c`` make by themselves."""
    tree: dict[str, Any] = {}
    for key, value in parse_overrides(words):
        put(tree, key, value)
    return tree


def _value(text: str) -> Any:
    try:
        return from_yaml(text)
    except YAMLError:
        return text


def put(tree: dict[str, Any], key: str, value: Any) -> None:
    """Set ``a.b.0.c`` in a tree of mappings and lists, making them on the way.

    The element after a list's last is added. A preset's name (``algorithm: ppo``) becomes a mapping
    when one of its fields is set.

    Raises:
        UserError: When a list has no such element, or something on the way is a plain value.
    """
    *path, last = key.split(".")
    if "" in (*path, last):
        raise UserError(f"override --{key}: a part of the name is empty")
    node: Any = tree
    for part, following in pairwise([*path, last]):
        node = _child(node, part, following, key)
    if isinstance(node, list):
        node[_element(node, last, key)] = value
    else:
        node[last] = value


def _child(node: Any, part: str, following: str, key: str) -> Any:
    where: Any = _element(node, part, key) if isinstance(node, list) else part
    present = node[where] if isinstance(node, list) else node.get(part)
    if present is None:
        present = [] if following.isdigit() else {}
    elif isinstance(present, str) and part == "algorithm":
        present = {"preset": present}
    elif not isinstance(present, dict | list):
        raise UserError(f"override --{key}: {part} is {present!r}, which has no {following}")
    node[where] = present
    return present


def _element(node: list[Any], part: str, key: str) -> int:
    if not part.isdigit() or int(part) > len(node):
        raise UserError(f"override --{key}: the list has no element {part}; it has {len(node)}")
    if int(part) == len(node):
        node.append(None)
    return int(part)
