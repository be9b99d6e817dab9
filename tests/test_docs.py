"""README and docs: examples run, commands and settings exist, links lead somewhere."""

from __future__ import annotations

import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

import rl_envs
import rl_verifiers
from agent_rl import cli
from agent_rl.config import EvalConfig
from agent_rl.loading import build, load_recipe
from agent_rl.overopt.command import load as load_laboratory
from agent_rl.overrides import parse_overrides, put
from agent_rl.runs.metrics import documented_metrics, undocumented
from agent_rl.scoring.spec import COMBINATORS, from_tree
from rl_verifiers.registry import _factory

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
CONFIGS = sorted(
    path for path in (ROOT / "configs").rglob("*.yaml") if path.parent.name != "principles"
)
SOURCES = ("", "envs", "verifiers", "sandboxes")

SAMPLES = {  # files that an example reads as the reader's own
    "outputs.jsonl": '{"completion": "\\\\boxed{(x+1)^2}", "answer": "x^2+2x+1"}\n',
    "capitals.jsonl": "".join(
        f'{{"prompt": "Country {number}", "answer": "City {number}"}}\n' for number in range(60)
    ),
}

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NOT_RUN = re.compile(r"<!-- not run: \S.*-->\n\Z")
_FILE_NAME = re.compile(r"# (\w+\.py)\n")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_INLINE = re.compile(r"`(agent-rl [^`\n]+)`")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; ``number`` counts those of its language."""

    page: Path
    language: str
    number: int
    text: str
    is_run: bool

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}-{self.language}{self.number}"


def blocks(page: Path, language: str) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = [match for match in _FENCE.finditer(text) if match[1] == language]
    return [
        Block(page, language, number, match[2], not _NOT_RUN.search(text[: match.start()]))
        for number, match in enumerate(found, start=1)
    ]


def of_language(language: str) -> list[Block]:
    return [block for page in PAGES for block in blocks(page, language) if block.is_run]


def table(page: str, name: str) -> list[str]:
    """The rows of the table between the comments ``name: begin`` and ``name: end``."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    inside = text.split(f"<!-- {name}: begin -->")[1].split(f"<!-- {name}: end -->")[0]
    return inside.strip().splitlines()[2:]


def tracked_files() -> list[Path]:
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [file for file in files if file.is_file()]


# Examples.


@pytest.mark.parametrize("block", of_language("python"), ids=str)
def test_python_example_runs(block, tmp_path):
    for name, text in SAMPLES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    for other in blocks(block.page, "python"):  # files that the page has the reader write
        if named := _FILE_NAME.match(other.text):
            (tmp_path / named[1]).write_text(other.text, encoding="utf-8")
    (tmp_path / "example.py").write_text(block.text, encoding="utf-8")
    path = os.pathsep.join(str(ROOT / folder) for folder in SOURCES)
    done = subprocess.run(
        [sys.executable, "-W", "error", "example.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_some_examples_are_found():
    assert len(of_language("python")) > 15
    assert len(of_language("yaml")) > 3


def test_the_environment_of_the_readme_is_the_example_file():
    first = blocks(ROOT / "README.md", "python")[0].text
    assert first == (ROOT / "docs/examples/last_letter.py").read_text(encoding="utf-8")


def test_the_environment_of_the_readme_has_at_most_15_lines():
    assert len(blocks(ROOT / "README.md", "python")[0].text.splitlines()) <= 15


def test_the_example_of_many_turns_has_at_most_20_lines():
    page = blocks(ROOT / "docs/environments.md", "python")
    dialogue = next(block.text for block in page if block.text.startswith("# guess.py"))
    assert len([line for line in dialogue.splitlines()[1:] if line]) <= 20


@pytest.mark.parametrize("block", of_language("yaml"), ids=str)
def test_yaml_example_loads(block, tmp_path):
    given = yaml.safe_load(block.text)
    if set(given) & set(COMBINATORS):
        assert callable(from_tree(given, "the page"))
        return
    needed = {} if "stages" in given else {"model": {"tiny": {}}, "envs": [{"id": "a"}]}
    (tmp_path / "c.yaml").write_text(
        yaml.safe_dump({**needed, **given}, sort_keys=False), encoding="utf-8"
    )
    for name, stage in load_recipe(str(tmp_path / "c.yaml")).stages:
        for env in getattr(stage, "envs", ()):
            if env.id != "a":
                assert rl_envs.make(env.id, **env.options) is not None, name


# Links and tables.


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_something(page):
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    links = [link for link in _LINK.findall(text) if ":" not in link]
    assert [link for link in links if not _leads_somewhere(page, link)] == []


def _leads_somewhere(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    if not target.exists():
        return False
    return not anchor or anchor in _anchors(target)


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_index_has_every_page():
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert pages <= set(_LINK.findall(index))


def test_the_table_of_environments_is_the_listing():
    assert table("environments.md", "environments") == [
        f"| `{line.id}` | {line.turns} | {line.verifier} | {line.source} | {line.description} |"
        for line in rl_envs.listing()
    ]


def test_the_table_of_verifiers_is_the_registry():
    assert table("verifiers.md", "verifiers") == [
        f"| `{name}` | {rl_verifiers.describe(name).description.replace('``', '`')} "
        f"| {_options(name)} |"
        for name in rl_verifiers.names()
    ]


def _options(name: str) -> str:
    parameters = inspect.signature(_factory(name)).parameters.values()
    named = (
        f"`{p.name}`" if p.default is p.empty else f"`{p.name}={p.default!r}`" for p in parameters
    )
    return ", ".join(named) or "none"


@pytest.mark.parametrize("row", table("math_verifier.md", "answers"))
def test_the_math_verifier_says_what_the_page_says(row):
    gold, found, verdict = (cell.strip().strip("`") for cell in row.strip("|").split(" | "))
    score = rl_verifiers.make("math", extract="whole")(found, {"id": "1", "answer": gold})
    assert score.status == verdict


def test_every_status_is_explained():
    text = (ROOT / "docs/verifiers.md").read_text(encoding="utf-8")
    assert [status for status in rl_verifiers.STATUSES if f"| `{status}` |" not in text] == []


# Commands.


def commands() -> list[tuple[str, str]]:
    """Every ``agent-rl`` command with the file that it stands in."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        lines = [line for match in _FENCE.finditer(text) for line in match[2].splitlines()]
        shown = [line for line in lines if line.startswith("agent-rl ")]
        inline = _INLINE.findall(_FENCE.sub("", text))
        found += [(str(page.relative_to(ROOT)), command) for command in (*shown, *inline)]
    for config in CONFIGS:
        comments = re.findall(r"^# (agent-rl .+)$", config.read_text(encoding="utf-8"), re.M)
        found += [(str(config.relative_to(ROOT)), command) for command in comments]
    return found


def words_of(command: str) -> list[str]:
    """The words of a command without the remark behind it."""
    return shlex.split(re.sub(r"\s{2,}[(#].*$", "", command))[1:]


def parsed(words: list[str], monkeypatch: pytest.MonkeyPatch):
    taken = []
    monkeypatch.setattr(cli, "_run", lambda arguments: taken.append(arguments) or 0)
    with pytest.raises(SystemExit) as left:
        cli.main(words)
    assert left.value.code == 0
    return taken[0] if taken else None  # None after --help


@pytest.mark.parametrize(("place", "command"), commands())
def test_command_parses(place, command, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    words = words_of(command)
    only_named = len(words) == 1  # "the default of `agent-rl train`"
    arguments = parsed([*words, "--help"] if only_named else words, monkeypatch)
    if arguments is not None:
        CHECKS.get(words[0], lambda given: None)(arguments)


def _check_training(given) -> None:
    load_recipe(given.config, given.overrides, default_stage=given.stage)


def _check_evaluation(given) -> None:
    tree: dict = {"envs": [{"id": given.env}]} if given.env else {}
    for key, value in parse_overrides(given.overrides):
        put(tree, key, value)
    if tree:
        build(EvalConfig, tree, "eval")
    _check_environment(given)


def _check_environment(given) -> None:
    if given.env and (given.env.startswith("text/") or "/" in given.env):
        rl_envs.make(given.env)


CHECKS = {
    "train": _check_training,
    "sft": _check_training,
    "eval": _check_evaluation,
    "play": _check_environment,
}


def test_some_commands_are_found():
    assert len(commands()) > 20


# Configurations.


def first_command(config: Path) -> list[str]:
    """The words of the first comment."""
    return words_of(config.read_text(encoding="utf-8").splitlines()[0].removeprefix("# "))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: str(config.relative_to(ROOT)))
def test_the_first_comment_of_a_configuration_runs_it(config):
    assert first_command(config)[0] in ("train", "overopt")
    assert first_command(config)[1] == config.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: str(config.relative_to(ROOT)))
def test_configuration_loads_and_its_environments_are_made(config, monkeypatch):
    monkeypatch.chdir(ROOT)
    if first_command(config)[0] == "overopt":
        load_laboratory(str(config))
        return
    for _, stage in load_recipe(str(config)).stages:
        for env in getattr(stage, "envs", ()):
            assert rl_envs.make(env.id, **env.options).max_turns > 0


# Metrics.

RECIPE = """
run: {dir: DIR, seed: 0, checkpoint_every: 0}
stages:
  teach:
    stage: sft
    model:
      tiny: {hidden_size: 16, layers: 1, heads: 2, intermediate_size: 16, context: 64,
        characters: printable}
    data: {env: {id: text/Arithmetic-v0}}
    steps: 2
    batch_size: 4
    held_out: 4
  value:
    stage: rl
    model: {path: "@teach"}
    envs: [{id: text/Arithmetic-v0, options: {format_reward: 0.2}}]
    algorithm: {preset: ppo, entropy_coef: 0.01, kl: {place: loss, estimator: k3, coef: 0.1}}
    steps: 2
    prompts_per_step: 2
    group_size: 2
    on_truncation: score
    sampling: {max_tokens: 4}
    evaluation: {every: 1, tasks: 2, samples: 1}
  tools:
    stage: rl
    model: {path: "@teach"}
    envs:
      - id: text/Calculator-v0
        options: {question: compact, call_format: tag, describe_tools: false, error_text: e}
    algorithm: {preset: grpo}
    steps: 2
    prompts_per_step: 2
    group_size: 2
    on_truncation: score
    sampling: {max_tokens: 4}
    evaluation: {tasks: 0}
  group:
    stage: rl
    model: {path: "@teach"}
    envs: [{id: text/Thermostat-v0, options: {steps: 2}}]
    algorithm: {preset: grpo, importance_cap: 2.0, kl: {place: reward, estimator: k1, coef: 0.1}}
    steps: 2
    prompts_per_step: 2
    group_size: 2
    on_truncation: score
    sampling: {max_tokens: 4}
    evaluation: {every: 1, tasks: 2, samples: 1}
  clips:
    stage: trajectory_preferences
    model: {path: "@teach"}
    envs: [{id: text/CartPole-v0, options: {unknown: random}}]
    algorithm: {preset: ppo}
    steps: 2
    prompts_per_step: 8
    group_size: 1
    stream: 40
    segment: 5
    labels: 8
    reward: {updates: 2}
    on_truncation: score
    sampling: {max_tokens: 1}
    evaluation: {tasks: 0}
  pairs:
    stage: pairs
    model: {path: "@teach"}
    env: {id: text/Arithmetic-v0}
    tasks: 2
    ties: keep
    on_truncation: score
    sampling: {max_tokens: 4}
  reward:
    stage: reward_model
    model: {path: "@teach"}
    data: {path: DIR.pairs.jsonl}
    held_out: 4
  learned:
    stage: rl
    model: {path: "@teach"}
    value_path: "@reward"
    envs:
      - id: text/LearnedReward-v0
        options:
          prompts: {env: text/Arithmetic-v0}
          reward_models: [{path: "@reward"}]
          gold: prompts
          length: {max_length: 4}
          repetition: {}
    algorithm: {preset: instructgpt}
    ptx: {data: {env: {id: text/Arithmetic-v0}}, batch_size: 2}
    probes: {refusals: DIR.probes.jsonl, agreement: DIR.probes.jsonl}
    steps: 8
    prompts_per_step: 2
    group_size: 2
    on_truncation: score
    sampling: {max_tokens: 4}
    evaluation: {every: 0, tasks: 2}
  who:
    stage: compare
    models: [{path: "@teach"}, {path: "@learned"}]
    env: {id: text/Arithmetic-v0}
    tasks: 2
    on_truncation: score
    sampling: {max_tokens: 4}
  align:
    stage: dpo
    model: {path: "@teach"}
    data: {path: DIR.pairs.jsonl}
    loss: {kind: kto}
    held_out: 4
  online:
    stage: online_dpo
    model: {path: "@teach"}
    envs: [{id: text/Arithmetic-v0, options: {format_reward: 0.2}}]
    steps: 2
    prompts_per_step: 2
    on_truncation: score
    sampling: {max_tokens: 4}
    evaluation: {tasks: 0}
  best:
    stage: best_of_n
    model: {path: "@teach"}
    env: {id: text/Arithmetic-v0}
    proxy: exact
    tasks: 2
    samples: 2
    ns: [1, 2]
    on_truncation: score
    sampling: {max_tokens: 4}
  feedback:
    stage: ai_feedback
    mode: label
    model: {path: "@teach"}
    judge:
      model:
        tiny: {hidden_size: 16, layers: 1, heads: 2, intermediate_size: 16, context: 2048,
          characters: printable}
    principles_path: PRINCIPLES
    prompts: {env: {id: text/Arithmetic-v0}}
    tasks: 4
    on_truncation: keep
    sampling: {max_tokens: 4}
"""
PROBES = json.dumps({"prompt": "hello", "claim": "a", "opposite": "b"}) + "\n"
PAIRS = "".join(
    json.dumps({"prompt": f"{n}+1=", "chosen": f"{n + 1}", "rejected": "no"}) + "\n"
    for n in range(16)
)


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """The names that short stages of every kind log."""
    from agent_rl.recipe import run_recipe
    from agent_rl.runs.files import read_json_lines

    folder = tmp_path_factory.mktemp("docs")
    (folder / "run.pairs.jsonl").write_text(PAIRS, encoding="utf-8")
    (folder / "run.probes.jsonl").write_text(PROBES, encoding="utf-8")
    principles = str(ROOT / "configs/principles/harmless.yaml")
    recipe = RECIPE.replace("DIR", str(folder / "run")).replace("PRINCIPLES", principles)
    (folder / "c.yaml").write_text(recipe, encoding="utf-8")
    run_recipe(load_recipe(str(folder / "c.yaml")))
    files = sorted((folder / "run").rglob("metrics.jsonl"))
    assert len(files) >= 3
    return {name for file in files for row in read_json_lines(file) for name in row}


def test_every_logged_metric_is_documented(logged):
    assert undocumented(logged, documented_metrics(ROOT / "docs/metrics.md")) == []


def test_every_documented_metric_is_logged(logged):
    patterns = documented_metrics(ROOT / "docs/metrics.md")
    assert [
        name for name in patterns if undocumented(logged, [name]) == undocumented(logged, [])
    ] == []


# Nothing of one machine.


def test_no_path_of_a_machine_in_tracked_files():
    own = re.compile(r"(?<![\w./])/(?:work|home|root|Users|tmp/v)/[\w.]")
    assert [f"{file}" for file in tracked_files() if own.search(_text(file))] == []


def test_no_registry_host_in_tracked_files():
    host = re.compile(r"(?i)https?://[\w.-]*(?:pypi|registry|artifact|mirror|proxy)|index[-_]url")
    assert [f"{file}" for file in tracked_files() if host.search(_text(file))] == []


def _text(file: Path) -> str:
    return file.read_bytes().decode("utf-8", "replace")
