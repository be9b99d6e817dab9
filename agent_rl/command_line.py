"""Every command with its options, and what their help says."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from agent_rl import handlers
from agent_rl.command_epilogs import (
    EVAL_EPILOG,
    LABEL_EPILOG,
    OVEROPT_EPILOG,
    PLAY_EPILOG,
    SANDBOXES_EPILOG,
    SCORE_EPILOG,
    SERVE_ENV_EPILOG,
    SERVE_EPILOG,
    SERVE_VERIFIER_EPILOG,
    TOKENS_EPILOG,
    TRAIN_EPILOG,
    VALIDATE_EPILOG,
)


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


def parser() -> tuple[argparse.ArgumentParser, dict[str, Command]]:
    """The parser of ``agent-rl``, and that of each command by its name."""
    known = argparse.ArgumentParser(
        prog="agent-rl",
        description="Reinforcement learning of language models from verifiable rewards.",
        epilog="start here: agent-rl train configs/quickstart.yaml   (more: agent-rl train --help)",
        allow_abbrev=False,
    )
    commands = known.add_subparsers(
        title="commands", required=True, metavar="COMMAND", parser_class=Command
    )
    _add_training(commands)
    _add_eval(commands)

    for name, run, text in (
        ("envs", handlers.envs, "list environments, or tell all about one: options, tools, splits"),
        ("verifiers", handlers.verifiers, "list verifiers"),
    ):
        listing = _command(commands, name, run, text)
        if name == "envs":
            listing.add_argument("id", nargs="?", help="this one only; or file.py[:Class]")
        listing.add_argument("--json", action="store_true", help="as JSON")

    _add_score(commands)
    _add_sandboxes(commands)
    _add_serve_verifier(commands)
    _add_serve_env(commands)
    _add_validate(commands)
    _add_label(commands)
    _add_preferences(commands)
    _add_overopt(commands)
    play = _command(
        commands,
        "play",
        handlers.play,
        "play an environment yourself, in the terminal",
        overridable=True,
        epilog=PLAY_EPILOG,
    )
    play.add_argument("env", help="id of the environment, or file.py[:Class]")
    play.add_argument("--seed", type=int, default=0, help="seed of the episodes")
    play.add_argument("--index", type=int, help="play this task")
    play.add_argument("--episodes", type=int, default=1, help="how many (0: until end of input)")
    play.add_argument("--raw", action="store_true", help="show how a policy is told its tools")

    _add_tokens(commands)
    report = _command(
        commands, "report", handlers.report, "write report.html of a run folder again"
    )
    report.add_argument("run", help="a run folder")

    settings = _command(
        commands, "settings", handlers.settings, "every setting, its meaning and default"
    )
    settings.add_argument(
        "kind", type=_stage, nargs="?", help="a stage, eval or overopt; default: all"
    )
    settings.add_argument("--markdown", action="store_true", help="all of them, as in docs/")

    gguf = _command(
        commands,
        "import-gguf",
        handlers.import_gguf,
        "convert a GGUF file to a transformers folder",
    )
    gguf.add_argument("source", help="a .gguf file, or package:NAME for one in a Python package")
    gguf.add_argument("out", help="the folder to write; must not exist")
    return known, dict(commands.choices)


def _stage(name: str) -> str:
    """A name that has settings; only asked for does it cost the import of every stage."""
    from agent_rl.settings_table import KINDS  # noqa: PLC0415

    if name not in KINDS:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(KINDS)}")
    return name


def _add_training(commands: Any) -> None:
    for name, text in (
        (
            "train",
            "train by a recipe or one stage (rl unless it says which: sft, dpo, reward_model, ...)",
        ),
        ("sft", "supervised fine-tuning: train with a configuration of one sft stage"),
    ):
        train = _command(
            commands, name, handlers.train, text, overridable=True, epilog=TRAIN_EPILOG
        )
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
        handlers.evaluate,
        "accuracy of a model on an environment: greedy, pass@k, majority@k, with intervals",
        overridable=True,
        epilog=EVAL_EPILOG,
    )
    evaluate.add_argument("config", nargs="?", help="a YAML file; or give --model.path and --env")
    evaluate.add_argument("--env", help="id of the environment, or file.py[:Class]")
    evaluate.add_argument("--json", action="store_true", help="print the result as one JSON object")


def _add_overopt(commands: Any) -> None:
    overopt = _command(
        commands,
        "overopt",
        handlers.overopt,
        "see over-optimization happen: a known reward, its proxies, gold and proxy against KL",
        overridable=True,
        epilog=OVEROPT_EPILOG,
    )
    overopt.add_argument("config", help="a YAML file, such as configs/overopt.yaml")
    overopt.add_argument("--resume", action="store_true", help="go on: finished pieces are kept")
    overopt.add_argument("--overwrite", action="store_true", help="replace the run folder")
    overopt.add_argument(
        "--print_config", action="store_true", help="print every resolved setting and stop"
    )


def _add_sandboxes(commands: Any) -> None:
    sandboxes = _command(
        commands,
        "sandboxes",
        handlers.sandboxes,
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
        handlers.serve_sandbox,
        "run other machines' sandbox jobs here, over HTTP",
        overridable=True,
        epilog=SERVE_EPILOG,
    )
    serve.add_argument("--backend", default="local", help="local or docker (local)")
    limits = (
        ("workers", None, "jobs that run at once (one for each processor)"),
        ("max-body-mb", 64, "MiB of a request (64)"),
        ("max-queue", 1024, "jobs that wait; more are told to come back (1024)"),
        ("max-sessions", 32, "open sessions (32)"),
        ("idle-timeout-s", 600.0, "an idle session is closed (600)"),
    )
    _add_serving(serve, 8765, limits)


def _add_score(commands: Any) -> None:
    score = _command(
        commands,
        "score",
        handlers.score,
        "score recorded completions with a verifier: any number of rows, resumable",
        overridable=True,
        epilog=SCORE_EPILOG,
    )
    score.add_argument("inputs", nargs="+", metavar="INPUT", help="rows; see below")
    score.add_argument("--verifier", required=True, metavar="NAME_OR_CONFIG", help="see below")
    score.add_argument(
        "-o", "--output", required=True, help=".jsonl, .jsonl.gz, .parquet, .csv or .csv.gz"
    )
    score.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="OURS=THEIRS",
        help="what a column is called there, such as completion=response; may be repeated",
    )
    for name, what in (
        ("group", "column whose equal values are one task, for pass@k and maj@k"),
        ("split", "of a data set; of a folder: files whose name holds it"),
        ("config-name", "configuration of a Hugging Face data set"),
        ("cache", "folder of verdicts by content, shared by jobs"),
        ("report", "also write this HTML page"),
        ("compare", "an earlier output of the same rows: say which verdicts changed"),
    ):
        score.add_argument(f"--{name}", help=what)
    score.add_argument("--prefix", default="", help="of the new columns (none)")
    score.add_argument(
        "--workers",
        type=int,
        help="processes (one for each processor; one for a verifier that waits); 0: this one",
    )
    score.add_argument("--rows-per-span", type=int, help="rows of one step of the job (1000)")
    score.add_argument(
        "--timeout", type=float, default=60.0, help="processor seconds of one sample (60)"
    )
    score.add_argument("--engine", default="local", help="local, or ray for a cluster (local)")
    for name, what in (
        ("json-cells", "text that is a JSON list is several completions, or messages"),
        ("strict", "a broken line ends the job, where otherwise it is put aside"),
        ("resume", "go on with an unfinished job (as the same command does by itself)"),
        ("overwrite", "replace the output, and give up an unfinished job"),
        ("json", "print the summary as one JSON object"),
    ):
        score.add_argument(f"--{name}", action="store_true", help=what)


def _add_validate(commands: Any) -> None:
    validate = _command(
        commands,
        "validate",
        handlers.validate,
        "do right answers pass and wrong ones fail; faults of the rows; how fast the verifier is",
        overridable=True,
        epilog=VALIDATE_EPILOG,
    )
    validate.add_argument(
        "subject", metavar="ENV_OR_DATA", help="id, file.py[:Class], file or folder"
    )
    validate.add_argument("--verifier", help="what judges; an environment has a judge of its own")
    validate.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="OURS=THEIRS",
        help="what a column of the data is called there, such as answer=gold; may be repeated",
    )
    validate.add_argument("--against", metavar="DATA", help="rows that must not be among these")
    validate.add_argument("--tasks", type=int, default=0, help="the first so many rows (0: all)")
    validate.add_argument("--seed", type=int, default=0, help="of what is drawn (0)")
    validate.add_argument("--json", action="store_true", help="as one JSON object")


def _add_serve_verifier(commands: Any) -> None:
    serve = _command(
        commands,
        "serve-verifier",
        handlers.serve_verifier,
        "score other machines' samples here, over HTTP",
        overridable=True,
        epilog=SERVE_VERIFIER_EPILOG,
    )
    serve.add_argument(
        "--verifier", required=True, metavar="NAME", help="as in agent-rl score: a name, a file"
    )
    limits = (
        ("workers", None, "processes that score (one for each processor); 0: this one"),
        ("max-batch", 64, "samples that go to a worker together (64)"),
        ("max-rows", 4096, "samples of a request (4096)"),
        ("max-body-mb", 64, "MiB of a request (64)"),
        ("max-queue", 65536, "samples that wait; more are told to come back (65536)"),
        ("batch-wait-ms", 2.0, "a sample waits so long for others (2)"),
        ("timeout-s", 60.0, "processor seconds of one sample (60)"),
    )
    _add_serving(serve, 8766, limits)


def _add_tokens(commands: Any) -> None:
    tokens = _command(
        commands,
        "tokens",
        handlers.tokens,
        "one episode as tokens, each by where it came from: sampled, template, user, tool",
        overridable=True,
        epilog=TOKENS_EPILOG,
    )
    tokens.add_argument("env", help="id of the environment, or file.py[:Class]")
    tokens.add_argument("--model", required=True, help="a folder, a hub id, or tiny")
    tokens.add_argument("--index", type=int, help="play this task")
    tokens.add_argument(
        "--seed", type=int, default=0, help="seed of the episode and of samples (0)"
    )
    tokens.add_argument(
        "--policy", choices=["expert", "model"], default="expert", help="who speaks (expert)"
    )
    tokens.add_argument(
        "--history",
        choices=["append", "template"],
        default="append",
        help="earlier thinking: kept as sampled, or dropped as the template drops it (append)",
    )
    tokens.add_argument("--max-tokens", type=int, default=256, help="of a sampled turn (256)")
    tokens.add_argument("--html", metavar="FILE", help="write the transcript as a page as well")
    tokens.add_argument("--json", action="store_true", help="as one JSON object")


def _add_serve_env(commands: Any) -> None:
    serve = _command(
        commands,
        "serve-env",
        handlers.serve_env,
        "let other machines play an environment here, by OpenEnv's protocol",
        overridable=True,
        epilog=SERVE_ENV_EPILOG,
    )
    serve.add_argument("env", help="id of the environment, or file.py[:Class]")
    limits = (
        ("max-sessions", 64, "episodes at once; more are told that there is no room (64)"),
        ("max-body-mb", 4, "MiB of a message (4)"),
        ("timeout-s", 60.0, "longest reset or step (60)"),
        ("idle-timeout-s", 600.0, "an idle session is ended (600)"),
    )
    _add_serving(serve, 8767, limits)


def _add_label(commands: Any) -> None:
    label = _command(
        commands,
        "label",
        handlers.label,
        "say which of two answers is better, on a local web page",
        epilog=LABEL_EPILOG,
    )
    label.add_argument("input", metavar="INPUT", help="pairs, or several completions of a prompt")
    label.add_argument("--output", "-o", required=True, metavar="FILE", help="labels (.jsonl)")
    label.add_argument("--annotator", default="me", metavar="NAME", help="who chooses (me)")
    label.add_argument(
        "--per-prompt", type=int, default=1, help="pairs drawn from many completions (1; 0: all)"
    )
    label.add_argument("--seed", type=int, default=0, help="of that draw, and of the sides (0)")
    _add_serving(label, 8768, ())


def _add_preferences(commands: Any) -> None:
    text = "what files of preferences hold: ties, length bias, duplicates, agreement of annotators"
    preferences = _command(commands, "preferences", handlers.preferences, text)
    preferences.add_argument(
        "files", nargs="+", metavar="FILE", help="a file, folder or hub id; several are one set"
    )
    preferences.add_argument("--json", action="store_true", help="as one JSON object")


def _add_serving(
    serve: Command, port: int, limits: Sequence[tuple[str, float | None, str]]
) -> None:
    """What all servers take: where they listen, and their limits (seconds have a point)."""
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    serve.add_argument("--port", type=int, default=port, help=f"0: any free one ({port})")
    serve.add_argument("--token-file", help="a file that holds what clients must show")
    for name, default, text in limits:
        kind = float if isinstance(default, float) else int
        serve.add_argument(f"--{name}", type=kind, default=default, help=text)
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
