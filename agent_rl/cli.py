"""The command line. Nothing heavy is imported until a command needs it."""

from __future__ import annotations

import argparse
import difflib
import itertools
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from agent_rl.command_line import Command, parser


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run a command; leave with 0, 1 after an error of the user's (one line), 130 on Ctrl-C."""
    words = list(sys.argv[1:] if argv is None else argv)
    known_words, commands = parser()
    command = next((word for word in words if not word.startswith("-")), "")
    overrides: list[str] = []
    if getattr(commands.get(command), "overridable", False):
        words, overrides = _split(words, commands[command])
    known = known_words.parse_args(words)
    known.overrides = overrides
    sys.exit(_run(known))


def _split(words: Sequence[str], command: Command) -> tuple[list[str], list[str]]:
    """The command's own words, and those that override settings: ``--a.b=c`` or ``--a.b c``."""
    own: list[str] = []
    overrides: list[str] = []
    takes_next: list[str] | None = None
    for word in words:
        name = word.partition("=")[0]
        if takes_next is not None and not word.startswith("--"):
            takes_next.append(word)
            takes_next = None
        elif name in command.flags or not word.startswith("--"):
            own.append(word)
            takes_next = own if command.flags.get(word) else None
        else:
            overrides.append(word)
            takes_next = None if "=" in word else overrides
    _refuse_typing_errors(overrides, command)
    return own, overrides


def _refuse_typing_errors(overrides: Sequence[str], command: Command) -> None:
    """``--resum`` is no setting that is true."""
    for word, following in itertools.pairwise([*overrides, "--"]):
        if word.startswith("--") and "=" not in word and following.startswith("--"):
            close = difflib.get_close_matches(word, command.flags, n=1, cutoff=0.8)
            if close:
                command.error(f"no option {word}; did you mean {close[0]}?")


def _run(arguments: argparse.Namespace) -> int:
    if os.environ.get("AGENT_RL_TRACEBACK"):
        return int(arguments.command(arguments) or 0)
    try:
        code = int(arguments.command(arguments) or 0)
        sys.stdout.flush()  # a reader that is gone is noticed here, not at exit
    except KeyboardInterrupt as interrupt:
        start = "\n" if sys.stderr.isatty() else ""  # after the terminal's own ^C
        print(f"{start}{interrupt.args[0] if interrupt.args else 'interrupted'}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if not isinstance(error, _users()):
            raise
        print(f"error: {_one_line(error)}", file=sys.stderr)
        return 1
    return code


def _users() -> tuple[type[Exception], ...]:
    """Errors that are one line for the user, rather than a defect of ours."""
    from agent_rl.errors import UserError  # noqa: PLC0415
    from rl_envs.tasks import DataError  # noqa: PLC0415
    from rl_sandboxes.types import SandboxError  # noqa: PLC0415
    from rl_verifiers.score import VerifierError  # noqa: PLC0415

    users = (UserError, DataError, VerifierError, SandboxError, OSError, FloatingPointError)
    layout = sys.modules.get("agent_rl.algorithms.layout")  # with torch, so only if it is there
    return (*users, layout.AlgorithmError) if layout else users


def _one_line(error: Exception) -> str:
    """The message in one line, without anything that a terminal would act on."""
    from agent_rl.runs.text import clean, clip  # noqa: PLC0415

    text = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {error.strerror}"
    return clip(clean(" ".join(text.split()), sys.stderr.encoding or "utf-8"), 1000)


if __name__ == "__main__":
    main()
