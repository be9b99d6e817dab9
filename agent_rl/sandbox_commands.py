"""The commands about sandboxes."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import rl_sandboxes
from agent_rl.commands import print_json, print_rows
from agent_rl.errors import UserError
from agent_rl.overrides import parse_overrides, put
from agent_rl.runs.text import clean, clip

Rows = list[dict[str, Any]]
_URL = "http://HOST:8765"  # where agent-rl serve-sandbox listens


def list_sandboxes(
    names: Sequence[str], overrides: Sequence[str], *, check: bool, as_json: bool
) -> int:
    """``agent-rl sandboxes``: what each back end promises here and, if asked, whether it holds.

    Args:
        names: Back ends; empty for all.
        overrides: Options of the one back end that is named, as in ``--level landlock``.
        check: Try to break out of each.
        as_json: Print one JSON list.

    Returns:
        1 where a promise is broken, or a back end that was named cannot be used; else 0.

    Raises:
        UserError: Options for more than one back end.
    """
    options: dict[str, Any] = {}
    for key, value in parse_overrides(overrides):
        put(options, key, value)
    if options and len(names) != 1:
        raise UserError(f"--{next(iter(options))} is an option of one back end; name just that one")
    found = [_described(name, options, check) for name in names or rl_sandboxes.BACKENDS]
    if as_json:
        print_json(found)
    else:
        _print(found)
    absent = names and any(entry["error"] for entry in found)
    broken = any(verdict["failed"] for entry in found for verdict in entry["checks"])
    return int(bool(absent or broken))


def _described(name: str, options: dict[str, Any], check: bool) -> dict[str, Any]:
    """One back end: ``error`` is the line that says what to install, or empty."""
    entry: dict[str, Any] = {"name": name, "error": "", "guarantees": {}, "checks": []}
    if name == "remote" and "url" not in options:
        return {**entry, "error": f"no server is named: agent-rl sandboxes remote --url {_URL}"}
    if check and name != "remote":  # so that a job meets what the one before it left
        options = {"workers": 1, **options}
    make = functools.partial(rl_sandboxes.make, name, **options)
    try:
        sandbox = make()
        try:
            entry["guarantees"] = dataclasses.asdict(sandbox.guarantees())
        finally:
            sandbox.close()
        if check:
            entry["checks"] = _checked(make)
    except rl_sandboxes.SandboxError as error:
        entry["error"] = " ".join(str(error).split())
    return entry


def _checked(make: Callable[..., rl_sandboxes.Sandbox]) -> Rows:
    from rl_sandboxes.conformance import check_sandbox  # noqa: PLC0415 - only where asked for

    return [
        {**dataclasses.asdict(verdict), "failed": verdict.failed} for verdict in check_sandbox(make)
    ]


def _print(found: Sequence[dict[str, Any]]) -> None:
    print_rows([row for entry in found for row in _promises(entry)])
    checked = [(entry["name"], verdict) for entry in found for verdict in entry["checks"]]
    if checked:
        print()
        print_rows([_verdict(name, verdict) for name, verdict in checked])
    for name, verdict in checked:
        for problem in verdict["problems"]:
            print(clip(clean(f"{name}: {verdict['name']}: {problem}", "utf-8"), 400))


def _promises(entry: dict[str, Any]) -> Rows:
    if entry["error"]:
        return [{"sandbox": entry["name"], "promise": "not usable", "how": entry["error"]}]
    promises = {aspect: how for aspect, how in entry["guarantees"].items() if aspect != "missing"}
    lines = [(aspect.replace("_", " "), how or "NOT PROMISED") for aspect, how in promises.items()]
    lines += [("missing", sentence) for sentence in entry["guarantees"]["missing"]]
    return [{"sandbox": entry["name"], "promise": aspect, "how": how} for aspect, how in lines]


def _verdict(name: str, verdict: dict[str, Any]) -> dict[str, Any]:
    word = "pass" if not verdict["problems"] else "FAIL" if verdict["promised"] else "not promised"
    return {
        "sandbox": name,
        "check": verdict["name"],
        "rests on": verdict["rests_on"].replace("_", " "),
        "verdict": word,
        "seconds": f"{verdict['seconds']:.1f}",
    }
