"""What an environment's ``verifier`` may be, and the verifier that it stands for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import rl_verifiers
from rl_envs.tasks import DataError
from rl_verifiers.score import Row, Verdict, Verifier

VerifierSpec = str | Mapping[str, Any] | Verifier
"""A verifier's name, ``{"name": ..., **options}``, or the verifier itself."""

GroupVerifier = Callable[
    [Sequence[str], Sequence[Row]], Sequence[Verdict] | Awaitable[Sequence[Verdict]]
]
"""``group_verifier(completions, rows)``: one verdict per completion of the same task."""


def resolve_verifier(spec: VerifierSpec) -> Verifier:
    """The verifier that a name, ``{"name": ..., **options}`` or a callable stands for."""
    if isinstance(spec, str):
        return rl_verifiers.make(spec)
    if isinstance(spec, Mapping):
        options = dict(spec)
        return rl_verifiers.make(options.pop("name"), **options)
    return spec


def check_verifier(owner: str, spec: Any) -> None:
    """Refuses an unknown name now, at no cost, and not at the first completion.

    Raises:
        DataError: There is no such verifier.
    """
    name = spec.get("name") if isinstance(spec, Mapping) else spec
    if isinstance(spec, str | Mapping) and name not in rl_verifiers.names():
        known = ", ".join(rl_verifiers.names())
        raise DataError(f"{owner}: no verifier {name!r}; there are {known}")
