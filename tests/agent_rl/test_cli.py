"""The command line itself: how words are split, how fast help is, what leaves by which door."""

import io
import json
import os
import resource
import subprocess
import sys

import pytest

import rl_envs
import rl_verifiers
from agent_rl import cli, command_line, handlers, settings_table

HEAVY = (
    "torch",
    "transformers",
    "gymnasium",
    "jsonargparse",
    "numpy",
    "rich",
    "yaml",
    "matplotlib",
)
COMMANDS = (
    "train",
    "sft",
    "eval",
    "envs",
    "verifiers",
    "play",
    "sandboxes",
    "report",
    "settings",
    "import-gguf",
)


@pytest.fixture
def run(capsys, monkeypatch):
    """``run("play", id, stdin="...")``: exit code, standard output and standard error."""

    def call(*words, stdin=""):
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as left:
            cli.main([str(word) for word in words])
        out, err = capsys.readouterr()
        return left.value.code, out, err

    return call


def split(*words):
    _, commands = command_line.parser()
    return cli._split(words, commands[words[0]])


# Help.


def test_help_is_quick_and_imports_nothing_heavy():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "agent_rl.cli", "--help"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "argparse" in imported
    assert imported.isdisjoint(HEAVY)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5
    assert all(command in done.stdout for command in COMMANDS)


def test_help_of_training_tells_a_newcomer_what_to_do(run):
    code, out, _ = run("train", "--help")
    assert code == 0
    for told in ("agent-rl train configs/quickstart.yaml", "--resume", "agent-rl settings rl"):
        assert told in out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, run):
    code, out, _ = run(command, "--help")
    assert code == 0
    assert out.startswith(f"usage: agent-rl {command}")


def test_no_command_is_a_usage_error(run):
    code, _, err = run()
    assert code == 2
    assert "COMMAND" in err


def test_an_unknown_command_is_a_usage_error(run):
    code, _, err = run("trian", "c.yaml")
    assert code == 2
    assert "'train'" in err


def test_an_unknown_option_of_a_command_without_settings(run):
    assert run("envs", "--jsn")[0] == 2


# Words.


@pytest.mark.parametrize(
    ("words", "own", "overrides"),
    [
        (["train", "c.yaml", "--steps", "3"], ["train", "c.yaml"], ["--steps", "3"]),
        (["train", "--steps", "3", "c.yaml"], ["train", "c.yaml"], ["--steps", "3"]),
        (["train", "--a=b=c", "c.yaml"], ["train", "c.yaml"], ["--a=b=c"]),
        (["train", "c", "--resume", "--lr", "-1"], ["train", "c", "--resume"], ["--lr", "-1"]),
        (["eval", "--env", "x", "--tasks", "2"], ["eval", "--env", "x"], ["--tasks", "2"]),
        (["eval", "--env=x", "--model.path", "m"], ["eval", "--env=x"], ["--model.path", "m"]),
        (["eval", "--tasks", "2", "c"], ["eval", "c"], ["--tasks", "2"]),
        (
            ["play", "x", "--seed", "3", "--n", "4"],
            ["play", "x", "--seed", "3"],
            ["--n", "4"],
        ),
        (["train", "c", "--name=two words"], ["train", "c"], ["--name=two words"]),
        (["train", "c", "--envs.0.id", "a b"], ["train", "c"], ["--envs.0.id", "a b"]),
    ],
)
def test_words_are_the_commands_or_settings(words, own, overrides):
    assert split(*words) == (own, overrides)


# Doors.


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (OSError(28, "No space left on device", "f"), 1, "error: f: No space left on device\n"),
        (rl_envs.DataError("two\nlines"), 1, "error: two lines\n"),
        (rl_verifiers.VerifierError("\x1b[31m"), 1, "error: \\x1b[31m\n"),
    ],
)
def test_errors_of_the_user_are_one_line(error, code, message, run, monkeypatch):
    def fail(arguments):
        raise error

    monkeypatch.setattr(handlers, "envs", fail)
    assert run("envs") == (code, "", message)


def test_a_defect_of_ours_keeps_its_traceback(monkeypatch):
    def fail(arguments):
        raise ZeroDivisionError

    monkeypatch.setattr(handlers, "envs", fail)
    with pytest.raises(ZeroDivisionError):
        cli.main(["envs"])


# Listings.


def test_envs_as_json(run):
    code, out, _ = run("envs", "--json")
    rows = json.loads(out)
    assert code == 0
    assert [row["id"] for row in rows] == rl_envs.ids()
    keys = ["id", "description", "turns", "verifier", "source", "size", "splits"]
    assert all(list(row) == keys for row in rows)


def test_envs_as_a_table_keeps_every_id_whole(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = run("envs")
    first = [line.split()[0] for line in out.splitlines() if line[:1].strip()]
    assert first == ["id", *rl_envs.ids()]
    assert max(map(len, out.splitlines())) <= 80


def test_verifiers_as_json(run):
    code, out, _ = run("verifiers", "--json")
    rows = json.loads(out)
    assert code == 0
    assert [row["name"] for row in rows] == rl_verifiers.names()
    assert all(list(row) == ["name", "description", "signature"] for row in rows)
    assert all(row["description"] for row in rows)


def test_verifiers_as_a_table(run):
    _, out, _ = run("verifiers")
    first = [line.split()[0] for line in out.splitlines() if line[:1].strip()]
    assert first == ["name", *rl_verifiers.names()]


@pytest.mark.parametrize("kind", ["rl", "sft", "eval"])
def test_settings_are_listed_with_meaning_and_default(kind, run):
    code, out, _ = run("settings", kind)
    assert code == 0
    for section in settings_table.sections(settings_table.KINDS[kind]):
        for setting in section.settings:
            shown = f" = {setting.default}" if setting.default else "   (must be given)"
            assert f"  {setting.name}{shown}   [" in out


def test_settings_of_all_kinds_and_as_markdown(run):
    assert run("settings")[0] == 0
    assert run("settings", "--markdown")[1].strip() == settings_table.as_markdown().strip()


# Playing.

HOSTILE = "[bold]\\boxed{1}[/bold] [link=x]\x1b[31m\u202e :smile:\x00"


def test_play_to_the_end(run):
    code, out, _ = run("play", "text/Countdown-v0", "--index", "0", stdin="\\boxed{1}\n")
    assert code == 0
    assert "--- task " in out
    assert "reward 0  wrong: " in out
    assert "episode ended after 1 turn; return 0" in out


def test_play_with_options_and_a_right_answer(run):
    words = ("play", "text/Arithmetic-v0", "--terms", "2", "--index", "0")
    task = rl_envs.make("text/Arithmetic-v0", terms=2).tasks[0]
    _, out, _ = run(*words, stdin=f"\\boxed{{{task.answer}}}\n")
    assert task.prompt in out
    assert "reward 1  correct" in out


def test_play_takes_a_fence_as_one_answer(run):
    _, out, _ = run("play", "text/Countdown-v0", "--index", "0", stdin="```\n\\boxed{1}\n```\n")
    assert "reward 0  wrong: " in out
    assert "episode ended after 1 turn" in out


def test_play_refuses_what_cannot_judge_before_it_asks(run):
    code, out, error = run("play", "text/Code-v0", "--limits.cpu", "3", stdin="x\n")
    assert (code, out) == (1, "")
    assert error.startswith("error: code: unknown limit 'cpu'; known: wall_s")


def test_play_stops_at_the_end_of_input(run):
    code, out, _ = run("play", "text/CartPole-v0", "--episodes", "0", stdin="l\nr\n")
    assert code == 0
    assert out.count("reward 1") == 2
    assert out.endswith("(end of input)\n")


def test_play_many_turns_and_episodes(run):
    _, out, _ = run("play", "text/CartPole-v0", "--episodes", "2", stdin="l\n" * 200)
    assert out.count("--- task ") == 2
    assert out.count("episode ended after ") == 2


def test_play_takes_empty_and_hostile_lines_as_answers(run):
    lines = f"\n{HOSTILE}\n{'x' * 100_000}\n"
    code, out, _ = run("play", "text/Countdown-v0", "--episodes", "3", stdin=lines)
    assert code == 0
    assert out.count("episode ended after 1 turn") == 3
    assert not {"\x1b", "\u202e", "\x00"} & set(out)


def test_play_goes_on_in_the_next_line_after_a_backslash(run, tmp_path):
    (tmp_path / "echo.py").write_text(
        "from rl_envs import Task, TextEnv\n"
        "class Echo(TextEnv):\n"
        "    tasks = [Task('a', '\\x1b[31m[red]not markup[/red] :smile:')]\n"
        "    def score(self, completion, row):\n"
        "        return completion == 'one\\ntwo \\\\nabla'\n"
    )
    _, out, _ = run("play", tmp_path / "echo.py", stdin="one\\\ntwo \\nabla\n")
    assert r"user: \x1b[31m[red]not markup[/red] :smile:" in out
    assert "reward 1" in out


PANTRY = """from rl_envs import Task
from rl_envs.tools import ToolEnv, tool


class Pantry(ToolEnv):
    \"\"\"Find out what is in a place.

    More about it.
    \"\"\"

    tasks = [Task("a", "What is in the box?", "tea")]
    system_prompt = "Be brief."

    def __init__(self, *, shelves: int = 3, **options):
        self.shelves = shelves
        super().__init__(**options)

    def score(self, completion, row):
        return completion.strip() == "/tea"

    @tool(inline=True)
    def look(self, place: str, n: int = 1, names: list[str] | None = None) -> str:
        \"\"\"Look into a place.

        It takes long.
        \"\"\"
        return f"seen {place!r} {n!r} {names!r}"

    @tool(inline=True)
    def say(self, text: str) -> str:
        \"\"\"Say something.\"\"\"
        return f"said {text!r}"
"""


@pytest.fixture
def pantry(tmp_path):
    (tmp_path / "pantry.py").write_text(PANTRY)
    return tmp_path / "pantry.py"


@pytest.mark.parametrize("notation", ["hermes", "python", "xml", "template"])
@pytest.mark.parametrize(
    ("typed", "seen"),
    [
        ("/look place=box n=3", "tool: seen 'box' 3 None"),
        ("""/look place="a b" names='["x"]'""", "tool: seen 'a b' 1 ['x']"),
        ("/look place=5", "tool: seen '5' 1 None"),
        ("/look place=a=b n=null", "parameter 'n'"),
        ("/say ls -la 'x  y", 'tool: said "ls -la \'x  y"'),
        ("/say 5", "tool: said '5'"),
        ("/say a\\\nb", "tool: said 'a\\nb'"),
        ("/say", "tool: Error: parameter 'text' is missing"),
    ],
)
def test_play_writes_the_call_of_a_slash_line(typed, seen, notation, run, pantry):
    _, out, _ = run("play", pantry, "--call_format", notation, stdin=f"{typed}\n")
    assert seen in out
    assert "reward" not in out  # 0 so far


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("/lok box", "there is no tool /lok; there are /look, /say"),
        ("/", "there is no tool /;"),
        ("/ say x", "there is no tool /;"),
        ("/look box", "'box' is not name=value: look(place, n=1, names=null)"),
        ("/look plce=box", "there is no parameter 'plce': look(place"),
        ('/look place="box', "No closing quotation"),
    ],
)
def test_play_sends_nothing_for_what_is_no_call(typed, told, run, pantry):
    _, out, _ = run("play", pantry, stdin=f"{typed}\n /tea\n")
    assert told in out
    assert "nothing was sent" in out
    assert "reward 1  correct\n" in out  # without a colon
    assert out.endswith("episode ended after 1 turn; return 1\n")


def test_play_shows_tools_in_a_line_each_and_the_prompt_when_asked(run, pantry):
    look = "  look(place, n=1, names=null): Look into a place.\n  say(text): Say something.\n"
    for words in ((), ("--call_format", "template"), ("--describe_tools", "false")):
        _, out, _ = run("play", pantry, *words)
        assert f"system: Be brief.\n\ntools:\n{look}user: " in out
        assert "/help" in out.splitlines()[0]
        assert "additionalProperties" not in out
    _, out, _ = run("play", pantry, "--raw", stdin="/help\n")
    assert "additionalProperties" in out
    assert f"you> {look}a line without a call is the final answer\n" in out


def test_play_sends_a_slash_line_as_it_is_where_there_are_no_tools(run):
    _, out, _ = run("play", "text/Countdown-v0", "--index", "0", stdin="/help\n")
    assert "/help" not in out
    assert "episode ended after 1 turn" in out


def test_one_environment_is_shown_whole(run, pantry):
    code, out, _ = run("envs", pantry)
    assert code == 0
    for told in (
        "Find out what is in a place.\n\nMore about it.",
        "turns: 8 at most\nsplits: train, test\n",
        "  --shelves 3\n",
        "  --system_prompt Be brief.\n",
        "tools:\n  look(place, n=1, names=null): Look into a place.\n",
        f"play it: agent-rl play {pantry}\n",
    ):
        assert told in out
    row = json.loads(run("envs", "text/Countdown-v0", "--json")[1])
    assert row["options"]["split"] == "train"
    assert (row["tools"], row["play"]) == ([], "agent-rl play text/Countdown-v0")
    assert "tools" not in run("envs", "text/Countdown-v0")[1]
    code, out, error = run("envs", "text/Countdwn-v0")
    assert (code, out) == (1, "")
    assert "did you mean text/Countdown-v0" in error


@pytest.mark.parametrize("env_id", rl_envs.ids())
def test_every_environment_can_be_shown(env_id, run):
    code, out, _ = run("envs", env_id)
    assert code == 0
    assert f"play it: agent-rl play {env_id}" in out


@pytest.mark.parametrize("kind", ["AlgorithmError", "FloatingPointError"])
def test_what_training_refuses_is_one_line(kind, run, monkeypatch):
    from agent_rl.algorithms import layout

    error = {"AlgorithmError": layout.AlgorithmError, "FloatingPointError": FloatingPointError}[
        kind
    ]

    def broken(arguments):
        raise error("the measured KL is nan;\nthe policy has diverged")

    monkeypatch.delenv("AGENT_RL_TRACEBACK", raising=False)
    monkeypatch.setattr(handlers, "envs", broken)
    assert run("envs") == (1, "", "error: the measured KL is nan; the policy has diverged\n")
