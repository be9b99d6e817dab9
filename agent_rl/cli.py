"""The command line. Nothing heavy is imported until a command needs it."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

TRAIN_EPILOG = """settings are changed on the command line by their dotted name:
  agent-rl train configs/quickstart.yaml --stages.rl.steps 20 --run.seed 1
  agent-rl train configs/my_env.yaml --optimizer.lr=1e-4 --run.dir runs/second

every setting with its meaning and default: agent-rl settings rl   (or sft, eval)"""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run a command; leave with 0, 1 after an error of the user's (one line), 130 on Ctrl-C."""
    parser = _parser()
    words = list(sys.argv[1:] if argv is None else argv)
    known, rest = parser.parse_known_args(words)
    if rest and not getattr(known, "overridable", False):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    known.overrides = rest
    sys.exit(_run(known))


def _run(arguments: argparse.Namespace) -> int:
    if os.environ.get("AGENT_RL_TRACEBACK"):
        return int(arguments.command(arguments) or 0)
    try:
        return int(arguments.command(arguments) or 0)
    except KeyboardInterrupt:
        print("interrupted; go on with --resume", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if not isinstance(error, _users()):
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1


def _users() -> tuple[type[Exception], ...]:
    """Errors that are one line for the user, rather than a defect of ours."""
    from agent_rl.errors import UserError  # noqa: PLC0415
    from rl_envs.tasks import DataError  # noqa: PLC0415
    from rl_verifiers.score import VerifierError  # noqa: PLC0415

    return UserError, DataError, VerifierError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="agent-rl",
        description="Reinforcement learning of language models from verifiable rewards.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    for name, text in (
        ("train", "train by a recipe or a single stage (reinforcement learning unless it says sft)"),
        ("sft", "supervised fine-tuning: train with a configuration of one sft stage"),
    ):
        train = _command(commands, name, _train, text, overridable=True, epilog=TRAIN_EPILOG)
        train.add_argument("config", help="a YAML file; see configs/")
        train.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")
        train.add_argument("--overwrite", action="store_true", help="replace an existing run folder")
        train.add_argument(
            "--print_config", action="store_true", help="print every resolved setting and stop"
        )
        train.set_defaults(default_stage="rl" if name == "train" else "sft")

    evaluate = _command(
        commands,
        "eval",
        _eval,
        "accuracy of a model on an environment: greedy, pass@k, majority@k, with intervals",
        overridable=True,
        epilog="  agent-rl eval --model.path models/m --env text/GSM8K-v0 --tasks 100 --samples 8",
    )
    evaluate.add_argument("config", nargs="?", help="a YAML file; or give --model.path and --env")
    evaluate.add_argument("--env", help="id of the environment, or file.py[:Class]")
    evaluate.add_argument("--json", action="store_true", help="print the result as one JSON object")

    envs = _command(commands, "envs", _envs, "list environments: ids, turns, verifier, source")
    envs.add_argument("--json", action="store_true", help="as JSON")

    verifiers = _command(commands, "verifiers", _verifiers, "list verifiers")
    verifiers.add_argument("--json", action="store_true", help="as JSON")

    play = _command(
        commands, "play", _play, "play an environment yourself, in the terminal", overridable=True
    )
    play.add_argument("env", help="id of the environment, or file.py[:Class]")
    play.add_argument("--seed", type=int, default=0, help="seed of the episodes")
    play.add_argument("--index", type=int, help="play this task")
    play.add_argument("--episodes", type=int, default=1, help="how many (0: until end of input)")

    report = _command(commands, "report", _report, "write report.html of a run folder again")
    report.add_argument("run", help="a run folder")

    settings = _command(commands, "settings", _settings, "every setting, its meaning and default")
    settings.add_argument("kind", choices=["rl", "sft", "eval"])

    gguf = _command(
        commands, "import-gguf", _import_gguf, "convert a GGUF file to a transformers folder"
    )
    gguf.add_argument("source", help="a .gguf file, or package:NAME for one inside a Python package")
    gguf.add_argument("out", help="the folder to write; must not exist")
    return parser


def _command(
    commands: Any, name: str, run: Any, text: str, *, overridable: bool = False, epilog: str = ""
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.set_defaults(command=run, overridable=overridable)
    return command


def _train(arguments: argparse.Namespace) -> int:
    from agent_rl.loading import load_recipe  # noqa: PLC0415

    recipe = load_recipe(
        arguments.config, arguments.overrides, default_stage=arguments.default_stage
    )
    if arguments.print_config:
        print(recipe.to_yaml(), end="")
        return 0
    from agent_rl.recipe import run_recipe  # noqa: PLC0415

    run_recipe(recipe, resume=arguments.resume, overwrite=arguments.overwrite)
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


def _play(arguments: argparse.Namespace) -> int:
    from agent_rl.commands import play  # noqa: PLC0415

    return play(
        arguments.env,
        arguments.overrides,
        seed=arguments.seed,
        index=arguments.index,
        episodes=arguments.episodes,
    )


def _report(arguments: argparse.Namespace) -> int:
    from agent_rl.runs import build_report  # noqa: PLC0415

    print(build_report(arguments.run))
    return 0


def _settings(arguments: argparse.Namespace) -> int:
    from agent_rl.commands import print_settings  # noqa: PLC0415

    return print_settings(arguments.kind)


def _import_gguf(arguments: argparse.Namespace) -> int:
    from agent_rl.gguf import convert  # noqa: PLC0415

    print(json.dumps(convert(arguments.source, arguments.out)))
    return 0


if __name__ == "__main__":
    main()
