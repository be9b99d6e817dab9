"""What each command calls; imports what it needs when it is called."""

from __future__ import annotations

import argparse
import json
import shlex


def train(arguments: argparse.Namespace) -> int:
    """``agent-rl train``."""
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


def evaluate(arguments: argparse.Namespace) -> int:
    """``agent-rl eval``."""
    from agent_rl.commands import evaluate  # noqa: PLC0415

    return evaluate(arguments.config, arguments.env, arguments.overrides, as_json=arguments.json)


def overopt(arguments: argparse.Namespace) -> int:
    """``agent-rl overopt``."""
    from agent_rl.overopt.command import overopt  # noqa: PLC0415

    words = ["agent-rl", "overopt", arguments.config, *arguments.overrides, "--resume"]
    try:
        return overopt(
            arguments.config,
            arguments.overrides,
            resume=arguments.resume,
            overwrite=arguments.overwrite,
            print_config=arguments.print_config,
        )
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(f"interrupted; go on with: {shlex.join(words)}") from interrupt


def envs(arguments: argparse.Namespace) -> int:
    """``agent-rl envs``."""
    from agent_rl.commands import list_envs, show_env  # noqa: PLC0415

    if arguments.id is not None:
        return show_env(arguments.id, as_json=arguments.json)
    return list_envs(as_json=arguments.json)


def verifiers(arguments: argparse.Namespace) -> int:
    """``agent-rl verifiers``."""
    from agent_rl.commands import list_verifiers  # noqa: PLC0415

    return list_verifiers(as_json=arguments.json)


def sandboxes(arguments: argparse.Namespace) -> int:
    """``agent-rl sandboxes``."""
    from agent_rl.sandbox_commands import list_sandboxes  # noqa: PLC0415

    return list_sandboxes(
        arguments.names, arguments.overrides, check=arguments.check, as_json=arguments.json
    )


def serve_sandbox(arguments: argparse.Namespace) -> int:
    """``agent-rl serve-sandbox``."""
    from agent_rl.serve_sandbox import serve_sandbox  # noqa: PLC0415

    return serve_sandbox(arguments)


def score(arguments: argparse.Namespace) -> int:
    """``agent-rl score``."""
    from agent_rl.scoring.command import score  # noqa: PLC0415

    return score(arguments)


def validate(arguments: argparse.Namespace) -> int:
    """``agent-rl validate``."""
    from agent_rl.validate import validate  # noqa: PLC0415

    return validate(
        arguments.subject,
        arguments.overrides,
        verifier=arguments.verifier,
        columns=arguments.column,
        against=arguments.against,
        tasks=arguments.tasks,
        seed=_seed(arguments),
        as_json=arguments.json,
    )


def serve_verifier(arguments: argparse.Namespace) -> int:
    """``agent-rl serve-verifier``."""
    from agent_rl.serve_verifier import serve_verifier  # noqa: PLC0415

    return serve_verifier(arguments)


def serve_env(arguments: argparse.Namespace) -> int:
    """``agent-rl serve-env``."""
    from agent_rl.serve_env import serve_env  # noqa: PLC0415

    return serve_env(arguments)


def label(arguments: argparse.Namespace) -> int:
    """``agent-rl label``."""
    from agent_rl.label.command import label  # noqa: PLC0415

    return label(arguments)


def preferences(arguments: argparse.Namespace) -> int:
    """``agent-rl preferences``."""
    from agent_rl.preferences.command import show_preferences  # noqa: PLC0415

    return show_preferences(arguments.files, as_json=arguments.json)


def play(arguments: argparse.Namespace) -> int:
    """``agent-rl play``."""
    from agent_rl.play import play  # noqa: PLC0415

    return play(
        arguments.env,
        arguments.overrides,
        seed=_seed(arguments),
        index=arguments.index,
        episodes=arguments.episodes,
        raw=arguments.raw,
    )


def tokens(arguments: argparse.Namespace) -> int:
    """``agent-rl tokens``."""
    from agent_rl.tokens_command import Request, show_tokens  # noqa: PLC0415

    request = Request(
        arguments.env,
        arguments.model,
        arguments.index,
        _seed(arguments),
        arguments.policy,
        arguments.history,
        arguments.html,
        arguments.json,
        arguments.max_tokens,
    )
    return show_tokens(request, arguments.overrides)


def report(arguments: argparse.Namespace) -> int:
    """``agent-rl report``."""
    from agent_rl.runs import RunFolder, build_report  # noqa: PLC0415

    print(build_report(RunFolder.open(arguments.run).path))
    return 0


def settings(arguments: argparse.Namespace) -> int:
    """``agent-rl settings``."""
    from agent_rl.settings_table import KINDS, as_markdown, as_text  # noqa: PLC0415

    if arguments.markdown:
        print(as_markdown())
        return 0
    for kind in [arguments.kind] if arguments.kind else KINDS:
        print(as_text(KINDS[kind]))
    return 0


def import_gguf(arguments: argparse.Namespace) -> int:
    """``agent-rl import-gguf``."""
    from agent_rl.gguf import convert  # noqa: PLC0415

    print(json.dumps(convert(arguments.source, arguments.out)))
    return 0


def _seed(arguments: argparse.Namespace) -> int:
    """A seed as random generators take it.

    Raises:
        UserError: It is below 0.
    """
    if arguments.seed < 0:
        from agent_rl.errors import UserError  # noqa: PLC0415

        raise UserError(f"--seed is {arguments.seed}; it must be 0 or more")
    return int(arguments.seed)
