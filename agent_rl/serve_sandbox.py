"""``agent-rl serve-sandbox``: this machine's sandbox for others, over HTTP."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

from agent_rl.errors import UserError
from agent_rl.overrides import parse_overrides, put

TOKEN_VARIABLE = "AGENT_RL_SANDBOX_TOKEN"
BACKENDS = ("local", "docker")


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

    _check(arguments)
    token = read_token(arguments.token_file)
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
        return serve(
            sandbox,
            listener,
            options,
            token,
            started=lambda: _announce(arguments, workers, port, token is not None),
        )


def read_token(path: str | None, variable: str = TOKEN_VARIABLE) -> str | None:
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


def _check(arguments: argparse.Namespace) -> None:
    if arguments.backend not in BACKENDS:
        raise UserError(f"--backend is {arguments.backend!r}; it must be local or docker")
    least = {"port": 0, "max_queue": 0, "workers": 1, "max_body_mb": 1, "max_sessions": 1}
    for name, value in {name: getattr(arguments, name) for name in least}.items():
        if value is not None and not least[name] <= value <= 65535:
            option = name.replace("_", "-")
            raise UserError(f"--{option} is {value}; it must be {least[name]} to 65535")
    if not 0 < arguments.idle_timeout_s < math.inf:
        raise UserError(f"--idle-timeout-s is {arguments.idle_timeout_s}; it must be above 0")


def _backend_options(overrides: list[str]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for key, value in parse_overrides(overrides):
        put(options, key.replace("-", "_"), value)
    return options


def _announce(arguments: argparse.Namespace, workers: int, port: int, has_token: bool) -> None:
    host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
    url = f"http://{host}:{port}"
    if arguments.json:
        tree = {"url": url, "backend": arguments.backend, "workers": workers, "token": has_token}
        print(json.dumps(tree), file=sys.stderr, flush=True)
        return
    known = "with a token" if has_token else "for everyone on this machine, without a token"
    many = "1 worker" if workers == 1 else f"{workers} workers"
    print(
        f"serving sandbox {arguments.backend} ({many}) at {url}, {known}",
        file=sys.stderr,
        flush=True,
    )
