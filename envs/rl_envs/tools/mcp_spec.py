"""What a mapping says about an MCP server: where it is, and how it is used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from rl_envs.tasks import DataError
from rl_verifiers.shown import shown

_NUMBERS = ("timeout_s", "start_timeout_s", "max_concurrent")
_OPTIONS = ("per_episode", "tools", *_NUMBERS)


@dataclass(frozen=True)
class Address:
    """Where a server is: a command that speaks over its standard streams, or a URL.

    Attributes:
        command: The program.
        args: Its arguments.
        env: Variables besides ``PATH``, ``HOME`` and their like, which are all that it inherits.
        cwd: Its working directory.
        url: Of a server that runs already.
        headers: Sent with every request.
        transport: ``http`` (streamable HTTP) or ``sse``.
    """

    command: str | None = None
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    url: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    transport: str = "http"

    def __str__(self) -> str:
        return self.url or " ".join([str(self.command), *self.args])


@dataclass(frozen=True)
class ServerSpec:
    """An MCP server and how it is used.

    Attributes:
        address: Where it is.
        per_episode: Every episode has a connection, and with ``command`` a process, of its own.
        tools: The tools to offer, by name; None for all.
        timeout_s: Longest call in seconds, counted from when it is sent.
        start_timeout_s: Longest wait for a connection in seconds.
        max_concurrent: Calls under way at one time over one connection; others wait.
    """

    address: Address
    per_episode: bool = False
    tools: tuple[str, ...] | None = None
    timeout_s: float = 30.0
    start_timeout_s: float = 30.0
    max_concurrent: int = 64

    @property
    def address_key(self) -> str:
        """Equal for servers that list the same tools."""
        return json.dumps(asdict(self.address), sort_keys=True)


def server_spec(given: Mapping[str, Any], owner: str) -> ServerSpec:
    """The specification that a mapping states.

    Raises:
        DataError: It states none.
    """
    if not isinstance(given, Mapping):
        raise DataError(f"{owner}: mcp is {shown(given)}; it must be a mapping")
    places = [each.name for each in fields(Address)]
    unknown = [key for key in given if key not in (*places, *_OPTIONS)]
    if unknown:
        raise DataError(
            f"{owner}: mcp: no option {unknown[0]!r}; there are {', '.join((*places, *_OPTIONS))}"
        )
    if ("command" in given) == ("url" in given):
        raise DataError(f"{owner}: mcp: give either a command or a url")
    _check_types(given, owner)
    numbers = {key: given[key] for key in _NUMBERS if key in given}
    place = {key: given[key] for key in places if key in given}
    place["args"] = tuple(given.get("args", ()))
    only = tuple(given["tools"]) if "tools" in given else None
    return ServerSpec(Address(**place), given.get("per_episode", False), only, **numbers)


def _check_types(given: Mapping[str, Any], owner: str) -> None:
    for key, kind in (("command", str), ("url", str), ("cwd", str), ("per_episode", bool)):
        if key in given and not isinstance(given[key], kind):
            raise DataError(f"{owner}: mcp: {key} is {shown(given[key])}, no {kind.__name__}")
    if given.get("transport", "http") not in ("http", "sse"):
        raise DataError(f"{owner}: mcp: transport is {shown(given['transport'])}, not http or sse")
    for key in ("args", "tools"):
        if not _are_texts(given.get(key, [])):
            raise DataError(f"{owner}: mcp: {key} is {shown(given[key])}, no list of texts")
    for key in ("env", "headers"):
        part = given.get(key, {})
        if not isinstance(part, Mapping) or not _are_texts([*part, *part.values()]):
            raise DataError(f"{owner}: mcp: {key} is {shown(part)}, no mapping of texts")
    for key in _NUMBERS:
        value = given.get(key, 1)
        whole = key == "max_concurrent"
        is_number = isinstance(value, int if whole else int | float) and value is not True
        if not is_number or not value > 0:
            raise DataError(f"{owner}: mcp: {key} is {shown(value)}; it must be above 0")


def _are_texts(values: Any) -> bool:
    return isinstance(values, list | tuple) and all(isinstance(each, str) for each in values)
