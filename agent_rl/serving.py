"""What the commands that serve have in common: bounds of options, the lines they print."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from pathlib import Path

from agent_rl.errors import UserError


def read_token(path: str | None, variable: str) -> str | None:
    """The token of a file, or of an environment variable; None where there is neither.

    Raises:
        UserError: There is one, and it is empty or no printable ASCII.
    """
    text = os.environ.get(variable)
    where = variable
    if path is not None:
        where = path
        try:
            text = Path(path).read_text("utf-8")
        except UnicodeDecodeError:
            text = "\n"
    if text is None:
        return None
    token = text.strip()
    if not (token and token.isascii() and token.isprintable() and " " not in token):
        raise UserError(f"{where} must hold a token: printable ASCII without blanks, in one line")
    return token


def check_bounds(
    arguments: argparse.Namespace,
    bounds: Mapping[str, tuple[int, int]],
    seconds: Iterable[str] = (),
) -> None:
    """Refuse numbers that cannot be.

    Args:
        arguments: Of the command line.
        bounds: The least and the most, by the option's name with underscores; None passes.
        seconds: Options that must be finite and above 0.

    Raises:
        UserError: One is out of bounds.
    """
    for name, (low, high) in bounds.items():
        value = getattr(arguments, name)
        if value is not None and not low <= value <= high:
            raise UserError(f"{_option(name)} is {value}; it must be {low} to {high}")
    for name in seconds:
        value = getattr(arguments, name)
        if not 0 < value < math.inf:
            raise UserError(f"{_option(name)} is {value}; it must be above 0")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def announce(
    arguments: argparse.Namespace,
    port: int,
    kind: str,
    name: str,
    *,
    has_token: bool,
    workers: int | None = None,
) -> None:
    """Say on standard error what is served where; with ``--json`` as one object.

    Args:
        arguments: With ``host`` and ``json``.
        port: The one that is listened on.
        kind: What is served: ``env``, ``verifier`` or ``backend``.
        name: Its name.
        has_token: Whether clients must show one.
        workers: How many, where there are any; 0 for this process.
    """
    host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
    url = f"http://{host}:{port}"
    if arguments.json:
        tree = {"url": url, kind: name}
        counted = {} if workers is None else {"workers": workers}
        print(json.dumps({**tree, **counted, "token": has_token}), file=sys.stderr, flush=True)
        return
    noun = {"env": "environment", "backend": "sandbox"}.get(kind, kind)
    where = {None: "", 0: " (in this process)", 1: " (1 worker)"}.get(
        workers, f" ({workers} workers)"
    )
    known = "with a token" if has_token else "for everyone on this machine, without a token"
    print(f"serving {noun} {name}{where} at {url}, {known}", file=sys.stderr, flush=True)


def ended(status: int) -> int:
    """The exit status of a server, which is told where work was given up."""
    if status:
        print("ended at once: what still ran was given up", file=sys.stderr, flush=True)
    return status


def version() -> str:
    """Of this package."""
    try:
        return version_of("agent-rl")
    except PackageNotFoundError:
        return "unknown"
