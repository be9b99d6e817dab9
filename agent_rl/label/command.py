"""``agent-rl label``: serve the page until told to end."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from agent_rl.errors import UserError
from agent_rl.label.items import load_items
from agent_rl.serving import check_bounds, ended, read_token

TOKEN_VARIABLE = "AGENT_RL_LABEL_TOKEN"


def label(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C; the arguments are those of the command line.

    Raises:
        UserError: Nothing to label, or an output that cannot be written.
        DataError: An input that cannot be read.
        SandboxError: The address is taken, or open to the network without a token.
    """
    try:
        from rl_sandboxes.serving import check_address, listen, run  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise UserError(f"label needs {error.name}: pip install 'agent-rl[serve]'") from None
    from agent_rl.label.service import LabelService, read_name  # noqa: PLC0415
    from agent_rl.label.store import LabelStore  # noqa: PLC0415

    check_bounds(arguments, {"port": (0, 65_535), "per_prompt": (0, 10_000), "seed": (0, 2**31)})
    try:
        arguments.annotator = read_name(arguments.annotator)
    except ValueError as error:
        raise UserError(f"--annotator: {error}") from None
    if not arguments.annotator:
        raise UserError("--annotator is empty; give a name")
    output = Path(arguments.output)
    _check_output(output, arguments.input)
    token = read_token(arguments.token_file, TOKEN_VARIABLE)
    check_address(arguments.host, token, variable=TOKEN_VARIABLE)
    items = load_items(
        arguments.input,
        per_prompt=arguments.per_prompt,
        seed=arguments.seed,
        tell=None if arguments.json else _to_stderr,
    )
    store = LabelStore(output, items, seed=arguments.seed)
    try:
        with listen(arguments.host, arguments.port) as listener:
            port = listener.getsockname()[1]
            status = run(
                lambda: LabelService(store, arguments.annotator, token),
                listener,
                started=lambda: _announce(
                    arguments, port, store.n_done(arguments.annotator), len(items)
                ),
            )
    finally:
        store.close()
    return ended(status)


def _to_stderr(line: str) -> None:
    print(f"note: {line}", file=sys.stderr, flush=True)


def _check_output(output: Path, given: str) -> None:
    if output.suffix != ".jsonl":
        raise UserError(
            f"--output is {output}; labels are JSON Lines: give a name ending in .jsonl"
        )
    if Path(given).exists() and output.exists() and output.samefile(given):
        raise UserError(f"--output is the input {given}; give another file")
    if not output.parent.is_dir():
        raise UserError(f"--output: there is no folder {output.parent}; make it first")


def _announce(arguments: argparse.Namespace, port: int, done: int, total: int) -> None:
    host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
    url = f"http://{host}:{port}"
    if arguments.json:
        tree = {"url": url, "items": total, "done": done}
        print(json.dumps(tree), file=sys.stderr, flush=True)
        return
    print(
        f"open {url} to label {total:,} pairs ({done:,} done by {arguments.annotator}); "
        f"choices go to {arguments.output}; Ctrl-C ends",
        file=sys.stderr,
        flush=True,
    )
