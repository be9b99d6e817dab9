"""``agent-rl serve-sandbox``: this machine's sandbox for others, over HTTP."""

from __future__ import annotations

import argparse
import os
from typing import Any

from agent_rl.errors import UserError
from agent_rl.overrides import parse_overrides, put
from agent_rl.serving import announce, check_bounds, ended, read_token

TOKEN_VARIABLE = "AGENT_RL_SANDBOX_TOKEN"
BACKENDS = ("local", "docker")
_LEAST = {"port": 0, "max_queue": 0, "workers": 1, "max_body_mb": 1, "max_sessions": 1}
_BOUNDS = {name: (least, 65_535) for name, least in _LEAST.items()}


def serve_sandbox(arguments: argparse.Namespace) -> int:
    """Serve until told to end; the arguments are those of the command line.

    Returns:
        0 after draining, 1 where jobs were given up.

    Raises:
        UserError: An option that cannot be; what to give instead.
        SandboxError: The back end does not work here, or the address is taken.
    """
    try:
        from rl_sandboxes.serving import check_address, listen, serve  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise UserError(
            f"serve-sandbox needs {error.name}: pip install 'agent-rl[serve]'"
        ) from None
    import rl_sandboxes  # noqa: PLC0415
    from rl_sandboxes.server import ServerOptions  # noqa: PLC0415

    if arguments.backend not in BACKENDS:
        raise UserError(f"--backend is {arguments.backend!r}; it must be local or docker")
    check_bounds(arguments, _BOUNDS, seconds=("idle_timeout_s",))
    token = read_token(arguments.token_file, TOKEN_VARIABLE)
    check_address(arguments.host, token)
    listener = listen(arguments.host, arguments.port)
    with listener:
        workers = arguments.workers or len(os.sched_getaffinity(0))
        sandbox = rl_sandboxes.make(
            arguments.backend, workers=workers, **_backend_options(arguments.overrides)
        )
        options = ServerOptions(
            workers=workers,
            max_body_mb=arguments.max_body_mb,
            max_queue=arguments.max_queue,
            max_sessions=arguments.max_sessions,
            idle_timeout_s=arguments.idle_timeout_s,
        )
        port = listener.getsockname()[1]
        status = serve(
            sandbox,
            listener,
            options,
            token,
            started=lambda: announce(
                arguments,
                port,
                "backend",
                arguments.backend,
                has_token=token is not None,
                workers=workers,
            ),
        )
    return ended(status)


def _backend_options(overrides: list[str]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for key, value in parse_overrides(overrides):
        put(options, key.replace("-", "_"), value)
    return options
