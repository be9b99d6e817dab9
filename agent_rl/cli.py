"""The command line. Nothing heavy is imported until a command needs it."""

from __future__ import annotations

import argparse
import difflib
import itertools
import json
import os
import shlex
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

TRAIN_EPILOG = """settings are changed on the command line by their dotted name:
  agent-rl train configs/quickstart.yaml --stages.rl.steps 20 --run.seed 1
  agent-rl train configs/from_scratch.yaml --optimizer.lr=1e-4 --run.dir runs/second
  agent-rl train configs/smollm.yaml --envs.0.options.examples 2

a run that was stopped goes on with --resume; its folder holds config.yaml, metrics.jsonl,
rollouts/, checkpoints/, model/ (a transformers folder), summary.json and report.html.

every setting with its meaning and default: agent-rl settings rl   (or sft, eval)
how a configuration is written:             docs/configuration.md"""

EVAL_EPILOG = """examples:
  agent-rl eval --model.path models/m --env text/GSM8K-v0 --tasks 100 --samples 8
  agent-rl eval --model.path runs/run/model --env text/Countdown-v0 --out results/countdown

every setting with its meaning and default: agent-rl settings eval"""

PLAY_EPILOG = """type an answer and press Enter; a line that ends with \\ goes on in the next one.
options of the environment are given by name:
  agent-rl play text/Countdown-v0 --difficulty 2"""

SANDBOXES_EPILOG = """examples:
  agent-rl sandboxes
  agent-rl sandboxes --check local docker
  agent-rl sandboxes --check local --level landlock"""

SERVE_EPILOG = """other options are the back end's, as in --level landlock or --image NAME.
the token is read from a file, or from AGENT_RL_SANDBOX_TOKEN; without one it listens on a
loopback address only. SIGTERM drains: running jobs end, then it ends; a second one ends at once.
  agent-rl serve-sandbox --host 0.0.0.0 --token-file token.txt
how clients find it: docs/remote_sandbox.md"""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run a command; leave with 0, 1 after an error of the user's (one line), 130 on Ctrl-C."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser, commands = _parser()
    command = next((word for word in words if not word.startswith("-")), "")
    overrides: list[str] = []
    if getattr(commands.get(command), "overridable", False):
        words, overrides = _split(words, commands[command])
    known = parser.parse_args(words)
    known.overrides = overrides
    sys.exit(_run(known))


class Command(argparse.ArgumentParser):
    """The parser of one command.

    Attributes:
        overridable: Whether options it does not know are settings.
        flags: Its options, each with whether it takes a value.
    """

    overridable = False

    def __init__(self, **options: Any) -> None:
        self.flags: dict[str, bool] = {}
        super().__init__(**options)

    def add_argument(self, *names: Any, **options: Any) -> argparse.Action:
        """As in argparse, and remembered."""
        action = super().add_argument(*names, **options)
        self.flags.update(dict.fromkeys(action.option_strings, action.nargs != 0))
        return action


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


def _parser() -> tuple[argparse.ArgumentParser, dict[str, Command]]:
    parser = argparse.ArgumentParser(
        prog="agent-rl",
        description="Reinforcement learning of language models from verifiable rewards.",
        epilog="start here: agent-rl train configs/quickstart.yaml   (more: agent-rl train --help)",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(
        title="commands", required=True, metavar="COMMAND", parser_class=Command
    )
    _add_training(commands)
    _add_eval(commands)

    for name, run, text in (
        ("envs", _envs, "list environments: ids, turns, verifier, source"),
        ("verifiers", _verifiers, "list verifiers"),
    ):
        listing = _command(commands, name, run, text)
        listing.add_argument("--json", action="store_true", help="as JSON")

    _add_sandboxes(commands)
    play = _command(
        commands,
        "play",
        _play,
        "play an environment yourself, in the terminal",
        overridable=True,
        epilog=PLAY_EPILOG,
    )
    play.add_argument("env", help="id of the environment, or file.py[:Class]")
    play.add_argument("--seed", type=int, default=0, help="seed of the episodes")
    play.add_argument("--index", type=int, help="play this task")
    play.add_argument("--episodes", type=int, default=1, help="how many (0: until end of input)")

    report = _command(commands, "report", _report, "write report.html of a run folder again")
    report.add_argument("run", help="a run folder")

    settings = _command(commands, "settings", _settings, "every setting, its meaning and default")
    settings.add_argument("kind", choices=["rl", "sft", "eval"], nargs="?", help="default: all")
    settings.add_argument("--markdown", action="store_true", help="all of them, as in docs/")

    gguf = _command(
        commands, "import-gguf", _import_gguf, "convert a GGUF file to a transformers folder"
    )
    gguf.add_argument("source", help="a .gguf file, or package:NAME for one in a Python package")
    gguf.add_argument("out", help="the folder to write; must not exist")
    return parser, dict(commands.choices)


def _add_training(commands: Any) -> None:
    for name, text in (
        ("train", "train by a recipe or one stage (reinforcement learning unless it says sft)"),
        ("sft", "supervised fine-tuning: train with a configuration of one sft stage"),
    ):
        train = _command(commands, name, _train, text, overridable=True, epilog=TRAIN_EPILOG)
        train.add_argument("config", help="a YAML file; see configs/ and docs/configuration.md")
        train.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
        train.add_argument("--overwrite", action="store_true", help="replace the run folder")
        train.add_argument(
            "--print_config", action="store_true", help="print every resolved setting and stop"
        )
        train.set_defaults(stage="rl" if name == "train" else "sft", name=name)


def _add_eval(commands: Any) -> None:
    evaluate = _command(
        commands,
        "eval",
        _eval,
        "accuracy of a model on an environment: greedy, pass@k, majority@k, with intervals",
        overridable=True,
        epilog=EVAL_EPILOG,
    )
    evaluate.add_argument("config", nargs="?", help="a YAML file; or give --model.path and --env")
    evaluate.add_argument("--env", help="id of the environment, or file.py[:Class]")
    evaluate.add_argument("--json", action="store_true", help="print the result as one JSON object")


def _add_sandboxes(commands: Any) -> None:
    sandboxes = _command(
        commands,
        "sandboxes",
        _sandboxes,
        "what each sandbox promises on this machine; --check tries to break out",
        overridable=True,
        epilog=SANDBOXES_EPILOG,
    )
    sandboxes.add_argument("names", nargs="*", metavar="NAME", help="these only")
    sandboxes.add_argument("--check", action="store_true", help="see whether the promises hold")
    sandboxes.add_argument("--json", action="store_true", help="as JSON")

    serve = _command(
        commands,
        "serve-sandbox",
        _serve_sandbox,
        "run other machines' sandbox jobs here, over HTTP",
        overridable=True,
        epilog=SERVE_EPILOG,
    )
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    serve.add_argument("--port", type=int, default=8765, help="0: any free one (8765)")
    serve.add_argument("--token-file", help="a file that holds what clients must show")
    serve.add_argument("--backend", default="local", help="local or docker (local)")
    for name, default, text in (
        ("workers", None, "jobs that run at once (one for each processor)"),
        ("max-body-mb", 64, "MiB of a request (64)"),
        ("max-queue", 1024, "jobs that wait; more are told to come back (1024)"),
        ("max-sessions", 32, "open sessions (32)"),
    ):
        serve.add_argument(f"--{name}", type=int, default=default, help=text)
    serve.add_argument(
        "--idle-timeout-s", type=float, default=600.0, help="an idle session is closed (600)"
    )
    serve.add_argument("--json", action="store_true", help="the line at the start as JSON")


def _command(
    commands: Any, name: str, run: Any, text: str, *, overridable: bool = False, epilog: str = ""
) -> Command:
    command: Command = commands.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.overridable = overridable
    command.set_defaults(command=run)
    return command


def _train(arguments: argparse.Namespace) -> int:
    from agent_rl.loading import load_recipe  # noqa: PLC0415

    if arguments.resume and arguments.overwrite:
        from agent_rl.errors import UserError  # noqa: PLC0415

        raise UserError("--resume goes on in a run folder and --overwrite replaces it; give one")
    recipe = load_recipe(arguments.config, arguments.overrides, default_stage=arguments.stage)
    if arguments.name == "sft" and any(hasattr(config, "envs") for _, config in recipe.stages):
        from agent_rl.errors import UserError  # noqa: PLC0415

        raise UserError(
            f"{arguments.config} is reinforcement learning; start it with agent-rl train"
        )
    if arguments.print_config:
        print(recipe.to_yaml(), end="")
        return 0
    again = shlex.join(
        ["agent-rl", arguments.name, arguments.config, *arguments.overrides, "--resume"]
    )
    try:
        from agent_rl.recipe import run_recipe  # noqa: PLC0415

        run_recipe(recipe, resume=arguments.resume, overwrite=arguments.overwrite)
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(f"interrupted; go on with: {again}") from interrupt
    return 0


def _eval(arguments: argparse.Namespace) -> int:
    from agent_rl.commands import evaluate  # noqa: PLC0415

    return evaluate(arguments.config, arguments.env, arguments.overrides, as_json=arguments.json)


def _envs(arguments: argparse.Namespace) -> int:
    from agent_rl.commands import list_envs  # noqa: PLC0415

    return list_envs(as_json=arguments.json)


def _verifiers(arguments: argparse.Namespace) -> int:
    from agent_rl.commands import list_verifiers  # noqa: PLC0415

    return list_verifiers(as_json=arguments.json)


def _sandboxes(arguments: argparse.Namespace) -> int:
    from agent_rl.sandbox_commands import list_sandboxes  # noqa: PLC0415

    return list_sandboxes(
        arguments.names, arguments.overrides, check=arguments.check, as_json=arguments.json
    )


def _serve_sandbox(arguments: argparse.Namespace) -> int:
    from agent_rl.serve_sandbox import serve_sandbox  # noqa: PLC0415

    return serve_sandbox(arguments)


def _play(arguments: argparse.Namespace) -> int:
    from agent_rl.play import play  # noqa: PLC0415

    return play(
        arguments.env,
        arguments.overrides,
        seed=arguments.seed,
        index=arguments.index,
        episodes=arguments.episodes,
    )


def _report(arguments: argparse.Namespace) -> int:
    from agent_rl.runs import RunFolder, build_report  # noqa: PLC0415

    print(build_report(RunFolder.open(arguments.run).path))
    return 0


def _settings(arguments: argparse.Namespace) -> int:
    from agent_rl.settings_table import KINDS, as_markdown, as_text  # noqa: PLC0415

    if arguments.markdown:
        print(as_markdown())
        return 0
    for kind in [arguments.kind] if arguments.kind else KINDS:
        print(as_text(KINDS[kind]))
    return 0


def _import_gguf(arguments: argparse.Namespace) -> int:
    from agent_rl.gguf import convert  # noqa: PLC0415

    print(json.dumps(convert(arguments.source, arguments.out)))
    return 0


if __name__ == "__main__":
    main()
