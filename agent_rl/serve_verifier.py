"""``agent-rl serve-verifier``: a verifier for others, over HTTP."""

from __future__ import annotations

import argparse
import os

from agent_rl.errors import UserError
from agent_rl.serving import announce, check_bounds, ended, read_token, version

TOKEN_VARIABLE = "AGENT_RL_VERIFIER_TOKEN"
_MANY = 1 << 20
_BOUNDS = {
    "port": (0, 65_535),
    "workers": (0, 4096),
    "max_batch": (1, _MANY),
    "max_rows": (1, _MANY),
    "max_body_mb": (1, _MANY),
    "max_queue": (0, _MANY),
    "batch_wait_ms": (0, 10_000),
}


def serve_verifier(arguments: argparse.Namespace) -> int:
    """Serve until told to end; the arguments are those of the command line.

    Returns:
        0 after draining, 1 where samples were given up.

    Raises:
        UserError: An option that cannot be; what to give instead.
        VerifierError: No such verifier, or it does not work here.
        SandboxError: The address is taken.
    """
    try:
        from rl_sandboxes.serving import check_address, listen, run  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise UserError(
            f"serve-verifier needs {error.name}: pip install 'agent-rl[serve]'"
        ) from None
    from agent_rl.scoring.spec import build, option_tree, specify  # noqa: PLC0415
    from agent_rl.verifier_queue import waits  # noqa: PLC0415
    from agent_rl.verifier_server import VerifierOptions, VerifierService  # noqa: PLC0415

    check_bounds(arguments, _BOUNDS, seconds=("timeout_s",))
    spec = specify(arguments.verifier, option_tree(arguments.overrides))
    token = read_token(arguments.token_file, TOKEN_VARIABLE)
    check_address(arguments.host, token, variable=TOKEN_VARIABLE)
    verifier = build(spec)
    if hasattr(verifier, "prepare"):
        verifier.prepare()
    workers = arguments.workers
    if workers is None:
        workers = 0 if waits(verifier) else len(os.sched_getaffinity(0))
    allowed = VerifierOptions(
        workers=workers,
        max_batch=arguments.max_batch,
        batch_wait_ms=arguments.batch_wait_ms,
        max_rows=arguments.max_rows,
        max_body_mb=arguments.max_body_mb,
        max_queue=arguments.max_queue,
        timeout_s=arguments.timeout_s,
    )
    with listen(arguments.host, arguments.port) as listener:
        port = listener.getsockname()[1]
        status = run(
            lambda: VerifierService(spec, verifier, allowed, token, version()),
            listener,
            started=lambda: announce(
                arguments,
                port,
                "verifier",
                arguments.verifier,
                has_token=token is not None,
                workers=workers,
            ),
        )
    return ended(status)
