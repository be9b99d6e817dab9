"""Validation finds the faults that are there, and none where there are none."""

import asyncio
import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

import rl_envs
from agent_rl.cli import main
from agent_rl.validate import check, render
from agent_rl.validation import plays
from agent_rl.validation.findings import KINDS, Findings
from agent_rl.validation.golds import Gold, golds_of, normal
from agent_rl.validation.judging import Timed
from agent_rl.validation.subjects import Case, Subject, open_data, open_env
from rl_envs.tools import ToolEnv, tool
from rl_envs.types import Task
from rl_verifiers import Score, VerifierError, make, score_many

DATA = Path(os.environ.get("AGENT_RL_DATA", Path(__file__).parents[3] / "shared" / "data"))
COMPARES = "text/Preference-v0"  # what it calls right is what beats the answer it stands beside
WITHOUT_DATA = [
    env_id for env_id in rl_envs.ids() if env_id != COMPARES and not rl_envs.make(env_id).reads_data
]

ROWS = [
    {"id": "a", "prompt": "Two and two?", "answer": "4"},
    {"id": "b", "prompt": "Three and three?", "answer": "6"},
    {"id": "c", "prompt": "The capital of France?", "answer": "Paris"},
    {"id": "d", "prompt": "Ten halved?", "answer": "5", "solution": "Ten halved is \\boxed{5}."},
]


@dataclass(frozen=True)
class Boxed:
    """Right where the last box holds the answer; ``trap`` is what it does at some rows."""

    bounded = True

    def __call__(self, completion, row):
        if row["answer"] is None:
            return Score.wrong("no answer", status="bad_reference")
        found = completion.rpartition("\\boxed{")[2].partition("}")[0]
        return Score.correct() if found == row["answer"] else Score.wrong(f"{found!r:.40}")


@dataclass(frozen=True)
class Broken:
    """Breaks one promise, at row ``b`` only."""

    how: str
    bounded = True

    def __call__(self, completion, row):
        if row["id"] != "b":
            return Boxed()(completion, row)
        if self.how == "passes everything":
            return Score.correct()
        if self.how == "fails everything":
            return Score.wrong()
        if self.how == "returns NaN":
            return float("nan")
        raise RuntimeError("no")


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def checked(tmp_path, rows, verifier=None, **options):
    findings = Findings()
    source = write(tmp_path / "rows.jsonl", rows)
    subject = open_data(source, verifier or Boxed(), findings, **options)
    return check(subject, findings)


def found(outcome):
    return {(finding.kind, finding.row) for finding in outcome.findings.kept}


def test_good_rows_have_no_findings(tmp_path):
    outcome = checked(tmp_path, ROWS)
    assert found(outcome) == set()
    assert outcome.ok
    assert outcome.gold == 4
    assert outcome.right.as_dict()["n"] >= 4


@pytest.mark.parametrize(
    ("how", "kinds"),
    [
        ("passes everything", {"bad passes"}),
        ("fails everything", {"gold fails"}),
        ("returns NaN", {"not judged"}),
        ("raises", {"not judged"}),
    ],
)
def test_a_verifier_that_breaks_its_promise_fails(tmp_path, how, kinds):
    outcome = checked(tmp_path, ROWS, Broken(how))
    assert found(outcome) == {(kind, "b") for kind in kinds}
    assert not outcome.ok


def test_bad_completions_are_named(tmp_path):
    outcome = checked(tmp_path, ROWS, Broken("passes everything"))
    tried = " ".join(finding.what for finding in outcome.findings.of("bad passes"))
    for part in ("empty", "garbage", "a tower of powers", "the prompt itself", "the answer to"):
        assert part in tried
    assert "last number moved by one: '\\\\boxed{7}'" in tried


def test_faults_of_rows_are_found_at_their_rows(tmp_path):
    faults = [
        {"id": "same", "prompt": " two and TWO? ", "answer": "4"},
        {"id": "against", "prompt": "Two and two?", "answer": "5"},
        {"id": "empty", "prompt": "", "answer": "5"},
        {"id": "blank", "prompt": " \n", "answer": "5"},
        {"id": "nothing", "prompt": "What is it?", "answer": None},
        {"id": "given", "prompt": "Is it Helsinki, or not?", "answer": "Helsinki"},
        {"id": "within", "prompt": "Is it Helsinkis?", "answer": "Helsinki"},
        {"id": "off", "prompt": "Six?", "answer": "6", "solution": "So \\boxed{7}."},
    ]
    outcome = checked(tmp_path, [*ROWS, *faults])
    assert found(outcome) == {
        ("duplicate", "same"),
        ("contradiction", "against"),
        ("unanswerable", "empty"),
        ("unanswerable", "blank"),
        ("unanswerable", "nothing"),
        ("no gold", "nothing"),
        ("leak", "given"),
        ("solution differs", "off"),
    }


def test_an_answer_written_otherwise_is_no_contradiction_and_no_bad_completion(tmp_path):
    rows = [
        {"id": "x", "prompt": "Half?", "answer": "\\frac{1}{2}"},
        {"id": "y", "prompt": "Half?", "answer": "\\dfrac{1}{2}"},
        {"id": "z", "prompt": "A half of one?", "answer": "0.5"},
    ]
    outcome = checked(tmp_path, rows, make("math", extract="boxed"))
    assert found(outcome) == {("duplicate", "y")}


def test_rows_of_other_data_are_overlap(tmp_path):
    other = write(tmp_path / "train.jsonl", [{"id": "t", "prompt": "ten  halved", "answer": "5"}])
    outcome = checked(tmp_path, ROWS, against=other)
    assert found(outcome) == {("overlap", "d")}
    assert outcome.ok


def test_columns_are_renamed_and_rows_limited(tmp_path):
    rows = [{"id": r["id"], "q": r["prompt"], "gold": r["answer"]} for r in ROWS]
    outcome = checked(tmp_path, rows, columns={"prompt": "q", "answer": "gold"}, tasks=2)
    assert (outcome.gold, found(outcome)) == (2, set())


class Two(rl_envs.TextEnv):
    """Has its splits overlap, and a judge that accepts what its author did not think of."""

    styles = ("right",)

    def load_tasks(self, split):
        shared = Task("s", "One?", "1")
        return [shared, Task(split, f"Two, {split}?", "2")]

    def score(self, completion, row):
        return any(character.isdigit() for character in completion)

    def demonstration(self, task, style, rng):
        return task.answer


def test_an_environment_is_checked_through_its_own_judge_and_splits(monkeypatch):
    monkeypatch.setattr(rl_envs.registry, "_ids", dict(rl_envs.registry._ids))
    rl_envs.register("test/Two-v0", Two)
    findings = Findings()
    outcome = check(open_env("test/Two-v0", {}, findings), findings)
    assert ("overlap", "s") in found(outcome)
    whats = {f.what for f in findings.of("bad passes")}
    assert not any("empty" in what for what in whats)
    assert not outcome.ok


@pytest.mark.parametrize("env_id", WITHOUT_DATA)
def test_every_environment_that_needs_no_data_is_sound(env_id):
    findings = Findings()
    outcome = check(open_env(env_id, {}, findings, tasks=20), findings)
    assert outcome.ok, findings.kept[:5]
    expected = {"no gold"} if env_id == "text/Gymnasium-v0" else set()
    assert set(findings.counts) <= expected
    assert outcome.gold == (0 if expected else len(outcome.subject.cases))


class Guess(rl_envs.TextEnv):
    """Say the word of the task in the second turn; has one fault, or none."""

    max_turns = 3
    count = 0

    def __init__(self, *, fault="", **options):
        super().__init__(**options)
        self.fault = fault

    def load_tasks(self, split):
        words = [f"{split}-{letter}{n}" for letter in "pqr" for n in range(4)]
        return [Task(word, f"Say {word[::-1]} backwards.", word) for word in words]

    def respond(self, action):
        Guess.count += 1
        if self.fault == "raises" and len(action) > 1000:
            raise RuntimeError("too long")
        if self.turn == 1:
            extra = f" {Guess.count}" if self.fault == "differs" else ""
            return rl_envs.Reply([rl_envs.Message(role="user", content=f"Now.{extra}")])
        right = action == self.task.answer or self.fault == "pays all"
        score = Score.correct() if right else Score.wrong("another word")
        return rl_envs.Reply(reward=score.value, terminated=True, score=score)

    def demonstrate(self, style, rng):
        return "something else" if self.fault == "bad expert" else self.task.answer


GUESS = f"{__file__}:Guess"


@pytest.mark.parametrize(
    ("fault", "kinds", "gold"),
    [
        ("", set(), 12),
        ("raises", {"not judged"}, 12),
        ("differs", {"not repeatable"}, 12),
        ("pays all", {"luck pays"}, 12),
        ("bad expert", {"expert fails"}, 0),
    ],
)
def test_an_environment_of_many_turns_is_played(fault, kinds, gold):
    findings = Findings()
    outcome = check(open_env(GUESS, {"fault": fault}, findings), findings)
    assert {kind for kind, _ in found(outcome)} == kinds
    assert (outcome.gold, outcome.ok) == (gold, not kinds)
    played = outcome.as_json()["plays"]
    assert set(played) == {"expert", "random policy", "hostile text"}
    assert played["expert"]["episodes"] == 12
    assert played["expert"]["mean_return"] == (0.0 if fault == "bad expert" else 1.0)


@pytest.mark.parametrize(
    ("fault", "problem", "count"),
    [("hangs", "step 2 took over 0.2 s; nothing more is played", 1), ("endless", "no end", 12)],
)
def test_an_environment_that_hangs_or_never_ends_is_left(monkeypatch, fault, problem, count):
    class Stays(Guess):
        """Never comes to an end."""

        max_turns = 10**6

        def respond(self, action):
            if self.fault == "endless":
                return rl_envs.Reply([rl_envs.Message(role="user", content="And?")])
            if self.turn == 2:
                threading.Event().wait()
            return super().respond(action)

    monkeypatch.setattr(plays, "STEP_TIMEOUT", 0.2 if fault == "hangs" else 60.0)
    monkeypatch.setattr(plays, "MOST_STEPS", 20)
    env, findings = Stays(fault=fault), Findings()
    cases = [Case(n, task, ()) for n, task in enumerate(env.tasks, start=1)]
    plays.check_plays(Subject("stays", cases, None, "none", env=env), findings, lambda n: None)
    kind = "not judged" if fault == "hangs" else "expert fails"
    kept = findings.of(kind)
    assert len(kept) == count
    assert problem in kept[0].problem


def test_a_task_may_say_what_its_best_return_is():
    for best, kinds in ((1.0, set()), (1.5, {"expert fails"})):
        tasks = [Task("a", "Say a.", "a", {"best": best})]
        findings = Findings()
        outcome = check(open_env(GUESS, {"tasks": tasks}, findings), findings)
        assert {kind for kind, _ in found(outcome)} == kinds


def test_an_environment_with_tools_is_also_answered_without_them():
    findings = Findings()
    outcome = check(open_env("text/Calculator-v0", {}, findings, tasks=8), findings)
    played = outcome.as_json()["plays"]
    assert outcome.ok, findings.kept[:5]
    assert played["expert"]["tools"]["calls"] == 8
    assert played["expert"]["tools"]["errors"] == 0
    assert played["random policy"]["tools"]["calls"] > 0
    assert played["answers without a tool"]["tools"]["calls"] == 0
    console = Console(record=True, width=120, file=open(os.devnull, "w"))  # noqa: SIM115
    with console.file:
        render(outcome, console)
    assert "8 episodes, mean return 1; 8 calls" in console.export_text()


class Faulty(ToolEnv):
    """Look into a drawer; ``peek`` has a mistake."""

    verifier = "exact"
    tasks = (Task("a", "What is inside?", "a spoon"), Task("b", "And there?", "a fork"))

    @tool
    def peek(self) -> str:
        """Look inside."""
        return self.inside

    def demonstrate(self, style, rng):
        return self.task.answer if self.turn else self.call_text("peek")


def test_a_tool_with_a_mistake_in_it_is_a_warning_and_every_time_has_a_name():
    findings = Findings()
    outcome = check(open_env(f"{__file__}:Faulty", {}, findings), findings)
    (fault,) = findings.of("tool fault")
    assert fault.what == "tool peek"
    assert "gave AttributeError: 'Faulty' object has no attribute 'inside'" in fault.problem
    assert outcome.ok
    assert {slow[3] for slow in outcome.plays.right.slowest} == {"expert"}


def needed(name):
    if not (DATA / name).exists():
        pytest.skip(f"{name} is not in the data folder (set AGENT_RL_DATA)")
    return str(DATA / name)


@pytest.mark.parametrize(("name", "rows"), [("gsm8k_test.jsonl", 1319), ("math500.jsonl", 500)])
def test_math_data_passes_whole_and_bad_completions_fail(name, rows):
    findings = Findings()
    outcome = check(open_data(needed(name), make("math", extract="boxed"), findings), findings)
    assert outcome.gold == len(outcome.subject.cases) == rows
    assert [f for f in findings.kept if KINDS[f.kind][0] == "fail"] == []


@pytest.mark.parametrize("env_id", ["text/HumanEval-v0", "text/MBPP-v0"])
def test_code_data_passes_with_its_solutions(env_id, monkeypatch):
    needed("humaneval.jsonl" if "Human" in env_id else "mbpp.jsonl")
    monkeypatch.setenv("AGENT_RL_DATA", str(DATA))
    findings = Findings()
    outcome = check(open_env(env_id, {}, findings, tasks=10), findings)
    assert outcome.ok, findings.kept[:5]
    assert outcome.gold == 10


@pytest.mark.parametrize(
    ("gold", "moved"),
    [
        (Gold("", "3 + 4 is \\boxed{7} of 9", "7"), "3 + 4 is \\boxed{8} of 9"),
        (Gold("", "<answer>x_{19}</answer>", "x_{19}"), "<answer>x_{20}</answer>"),
        (Gold("", "7 and 7.\n#### 7", "7"), "7 and 7.\n#### 8"),
        (Gold("", "It is 0.09.", "0.09"), "It is 0.10."),
        (Gold("", "Paris", "Paris"), None),
        (Gold("", "7 is the answer, not 8", "7"), None),
        (Gold("", "def f(): return 1"), None),
    ],
)
def test_the_last_number_of_an_answer_is_moved_where_the_answer_stands(gold, moved):
    assert gold.moved() == moved


def test_right_completions_come_from_answers_lists_and_programs():
    texts = {gold.text for gold in golds_of(Task("", "?", ["4", "four"]))}
    assert {"\\boxed{4}", "four", '["4", "four"]', "<answer>four</answer>"} <= texts
    code = Task("", "def f():", None, {"tests": "assert f()", "canonical_solution": "    return 1"})
    assert {gold.text for gold in golds_of(code)} == {
        "```python\n    return 1\n```",
        "```python\ndef f():\n    return 1\n```",
    }
    assert golds_of(Task("", "?", None)) == []


def test_normal_knows_only_what_is_surely_the_same():
    assert normal(" $\\dfrac{1}{2}$") == normal("0.50") == normal(0.5)
    assert normal("1,000") == normal("1000")
    assert normal("12") != normal("12 cm")
    assert normal(["a", 1]) == normal(("a", 1))


def test_a_timed_verdict_waits_for_no_other():
    running, most = [], []

    async def slow(completion, row):
        running.append(completion)
        most.append(len(running))
        await asyncio.sleep(0)
        running.remove(completion)
        return 1.0

    rows = [{"id": i} for i in range(5)]
    score_many(Timed(slow, alone=True), list("abcde"), rows)
    assert max(most) == 1
    score_many(Timed(slow), list("abcde"), rows)
    assert max(most) == 5


def test_terminal_shows_hostile_rows_as_plain_characters(tmp_path):
    rows = [{"id": "\x1b[31m[red]", "prompt": "\u202e?", "answer": "[bold]\x1b]0;x\x07"}]
    outcome = checked(tmp_path, rows, Broken("raises"))
    console = Console(record=True, width=100, file=open(os.devnull, "w"))  # noqa: SIM115
    outcome.findings.add("gold fails", "\x1b[31m[red]", 1, "\u202e", "\x1b[2J")
    with console.file:
        render(outcome, console)
    text = console.export_text()
    assert "\x1b" not in text
    assert "\\x1b[31m[red]" in text


def run(capsys, *words):
    with pytest.raises(SystemExit) as exit_:
        main(["validate", *words])
    captured = capsys.readouterr()
    return exit_.value.code, captured.out, captured.err


def test_command_prints_json_and_leaves_with_1_on_failures(tmp_path, capsys):
    path = write(tmp_path / "rows.jsonl", [*ROWS, {"id": "e", "prompt": "What?", "answer": None}])
    code, out, _ = run(capsys, path, "--verifier", "math", "--verifier.extract", "boxed", "--json")
    told = json.loads(out)
    assert (code, told["gold_passed"], told["rows"]) == (1, 4, 5)
    assert told["counts"] == {"unanswerable": 1, "no gold": 1}
    assert {finding["row"] for finding in told["findings"]} == {"e"}
    code, out, _ = run(
        capsys, path, "--verifier", "math", "--verifier.extract", "boxed", "--tasks", "2"
    )
    assert code == 0
    assert "ok: 0 failures, 0 warnings" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{data}"], "say what judges it with --verifier NAME"),
        (["{data}", "--verifier", "maths"], "maths"),
        (["{data}", "--verifier", "math", "--verifier.extrakt", "boxed"], "extrakt"),
        (["{data}", "--verifier", "math", "--column", "gold"], "OURS=THEIRS"),
        (["{data}", "--verifier", "math", "--column", "answer=golden"], "no column 'golden'"),
        (["{data}", "--verifier", "math", "--tasks", "-1"], "--tasks is -1"),
        (["text/Countdown-v0", "--seed", "-1"], "--seed is -1; it must be 0 or more"),
        (["text/Countdwon-v0"], "did you mean text/Countdown-v0"),
        (["text/Countdown-v0", "--against", "x.jsonl"], "--against are for data"),
        (["missing.jsonl", "--verifier", "math"], "no such file"),
    ],
)
def test_command_refuses_in_one_line(tmp_path, capsys, words, message):
    data = write(tmp_path / "rows.jsonl", ROWS)
    code, _, err = run(capsys, *(word.format(data=data) for word in words))
    assert code == 1
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("words", [["play"], ["tokens", "--model", "tiny"]])
def test_other_commands_refuse_such_a_seed_too(capsys, words):
    with pytest.raises(SystemExit) as ended:
        main([*words, "text/Countdown-v0", "--seed", "-1"])
    assert ended.value.code == 1
    assert capsys.readouterr().err == "error: --seed is -1; it must be 0 or more\n"


def test_contract_errors_do_not_stop_a_check():
    class Raising:
        bounded = True

        def __call__(self, completion, row):
            raise VerifierError("unusable options")

    (score,) = score_many(Timed(Raising()), ["x"], [{"id": 1}])
    assert score.is_error
    assert "unusable options" in score.error
