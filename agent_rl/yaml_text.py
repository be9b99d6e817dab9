"""YAML as configurations are written in it: ``1e-4`` is a number, a repeated key is an error."""

from __future__ import annotations

import re
from typing import Any

import yaml

# As YAML 1.2's core schema has it; YAML 1.1 wants a dot and a signed exponent.
FLOAT = re.compile(
    r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)[eE][-+]?[0-9]+"
    r"|[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
)
INT = re.compile(r"(?:[-+]?[0-9]+|0x[0-9a-fA-F]+)\Z")


class YAMLError(ValueError):
    """No YAML; the message says what and at which line, in one line."""


class _Loader(yaml.SafeLoader):
    pass


class _Dumper(yaml.SafeDumper):
    pass


def _set_resolvers(cls: Any) -> None:
    """Ours for numbers; none for dates, which no setting is."""
    replaced = {f"tag:yaml.org,2002:{kind}" for kind in ("float", "int", "timestamp")}
    cls.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in pairs if tag not in replaced]
        for first, pairs in cls.yaml_implicit_resolvers.items()
    }
    cls.add_implicit_resolver("tag:yaml.org,2002:int", INT, list("-+0123456789"))
    cls.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+.0123456789"))


def from_yaml(text: str) -> Any:
    """The value that a text stands for.

    Raises:
        YAMLError: The text is no YAML, or a mapping names a key twice.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise YAMLError(f"{error.problem or error.context}{where}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise YAMLError(" ".join(str(error).split())) from error


def to_yaml(value: Any, *, flow: bool = False) -> str:
    """Text that ``from_yaml`` reads back to an equal value; in one line with ``flow``."""
    text: str = yaml.dump(
        value,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=flow,
        width=10**6 if flow else 80,
    )
    return text


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.value != "<<":  # which merges, many times
            if key.value in seen:
                message = f"the key {key.value!r} stands there twice"
                raise yaml.constructor.ConstructorError(None, None, message, key.start_mark)
            seen.add(key.value)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


def _int(loader: _Loader, node: yaml.ScalarNode) -> int:
    return int(node.value, 16 if node.value.startswith("0x") else 10)


def _str(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    """Rare line ends go into double quotes; elsewhere PyYAML would read them as blanks."""
    style = '"' if set(value) & {"\x85", "\u2028", "\u2029"} else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style)


_set_resolvers(_Loader)
_set_resolvers(_Dumper)
_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_constructor("tag:yaml.org,2002:int", _int)
_Dumper.add_representer(str, _str)
