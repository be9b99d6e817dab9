"""``agent-rl serve-verifier``: a verifier for others, over HTTP."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys

from agent_rl.errors import UserError
from agent_rl.serve_sandbox import read_token

TOKEN_VARIABLE = "AGENT_RL_VERIFIER_TOKEN"


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

    _check(arguments)
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
        return run(
            lambda: VerifierService(spec, verifier, allowed, token, _version()),
            listener,
            started=lambda: _announce(arguments, workers, port, token is not None),
        )


def _check(arguments: argparse.Namespace) -> None:
    least = {"port": 0, "workers": 0, "max_batch": 1, "max_rows": 1, "max_body_mb": 1}
    most = {"port": 65_535, "workers": 4096}
    for name, low in {**least, "max_queue": 0}.items():
        value, high = getattr(arguments, name), most.get(name, 1 << 20)
        if value is not None and not low <= value <= high:
            option = name.replace("_", "-")
            raise UserError(f"--{option} is {value}; it must be {low} to {high}")
    if not 0 <= arguments.batch_wait_ms <= 10_000:
        raise UserError(f"--batch-wait-ms is {arguments.batch_wait_ms}; it must be 0 to 10000")
    if not 0 < arguments.timeout_s < math.inf:
        raise UserError(f"--timeout-s is {arguments.timeout_s}; it must be above 0")


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

    try:
        return version("agent-rl")
    except PackageNotFoundError:
        return "unknown"


def _announce(arguments: argparse.Namespace, workers: int, port: int, has_token: bool) -> None:
    host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
    url = f"http://{host}:{port}"
    if arguments.json:
        tree = {"url": url, "verifier": arguments.verifier, "workers": workers, "token": has_token}
        print(json.dumps(tree), file=sys.stderr, flush=True)
        return
    known = "with a token" if has_token else "for everyone on this machine, without a token"
    where = {0: "in this process", 1: "1 worker"}.get(workers, f"{workers} workers")
    print(
        f"serving verifier {arguments.verifier} ({where}) at {url}, {known}",
        file=sys.stderr,
        flush=True,
    )
