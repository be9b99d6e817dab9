"""Back ends by name."""

from __future__ import annotations

import atexit
import contextlib
import difflib
import inspect
import json
import os
import threading
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from rl_sandboxes.types import Sandbox, SandboxError

BACKENDS = {
    "docker": "rl_sandboxes.docker_backend:DockerSandbox",
    "local": "rl_sandboxes.local:LocalSandbox",
    "remote": "rl_sandboxes.remote:RemoteSandbox",
}
_shared: dict[str, Sandbox] = {}
_lock = threading.Lock()


def _forget_after_fork() -> None:
    """What the parent made is the parent's to use and to close."""
    global _lock  # noqa: PLW0603 - another thread of the parent may have held it
    _lock = threading.Lock()
    _shared.clear()


os.register_at_fork(after_in_child=_forget_after_fork)


def make(name: str = "local", **options: Any) -> Sandbox:
    """A sandbox of a back end, yours to close.

    Raises:
        SandboxError: No such back end or option, or it does not work here; says what to do.
    """
    if name not in BACKENDS:
        raise SandboxError(f"no sandbox {name!r}; there are {', '.join(BACKENDS)}")
    module, _, attribute = BACKENDS[name].partition(":")
    try:
        factory = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise SandboxError(
            f"sandbox {name} needs the package {error.name}: pip install 'agent-rl[{name}]'"
        ) from None
    known = inspect.signature(factory).parameters
    for option in options:
        if option not in known:
            close = difflib.get_close_matches(option, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(known)}"
            raise SandboxError(f"sandbox {name} has no option {option!r}; {hint}")
    missing = [
        each for each, how in known.items() if how.default is how.empty if each not in options
    ]
    if missing:
        raise SandboxError(f"sandbox {name} needs the option {missing[0]!r}")
    sandbox: Sandbox = factory(**options)
    return sandbox


def shared(spec: str | Mapping[str, Any] | Sandbox = "local") -> Sandbox:
    """The sandbox of this process for a name or ``{"name": ..., **options}``; made on first use.

    It is closed when the process ends. A process that was forked makes its own.

    Raises:
        SandboxError: As for :func:`make`.
    """
    if not isinstance(spec, str | Mapping):
        return spec
    options = {"name": spec} if isinstance(spec, str) else dict(spec)
    key = json.dumps(options, sort_keys=True, default=str)
    with _lock:
        if key not in _shared:
            _shared[key] = make(options.pop("name", "local"), **options)
        return _shared[key]


@atexit.register
def close_shared() -> None:
    """Close what :func:`shared` made in this process."""
    with _lock:
        for sandbox in _shared.values():
            with contextlib.suppress(Exception):  # the next one is to be closed all the same
                sandbox.close()
        _shared.clear()
