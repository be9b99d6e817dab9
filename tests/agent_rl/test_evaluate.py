"""Evaluation plays tasks that training never sees, greedily where it says so, and counts right."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace

import pytest

from agent_rl.algorithms import preset
from agent_rl.config import (
    EnvConfig,
    EvalConfig,
    EvaluationConfig,
    ModelConfig,
    RLConfig,
    RunConfig,
    SamplingConfig,
    TinyModel,
)
from agent_rl.errors import UserError
from agent_rl.rollout import seed_of
from agent_rl.stages import evaluate
from agent_rl.stages.evaluate import _sampled_figures, held_out
from agent_rl.trajectory import Trajectory, Turn
from rl_envs import Mixture
from rl_verifiers import Score

TINY = TinyModel(hidden_size=16, layers=1, heads=2, intermediate_size=16, context=64)
ARITHMETIC = EnvConfig("text/Arithmetic-v0", options={"terms": 3})


def settings(env=ARITHMETIC, *, seed=0, **evaluation) -> RLConfig:
    return RLConfig(
        model=ModelConfig(tiny=TINY),
        envs=(env,),
        algorithm=preset("grpo"),
        sampling=SamplingConfig(max_tokens=6, temperature=1.3),
        evaluation=EvaluationConfig(**{"tasks": 30, **evaluation}),
        run=RunConfig(seed=seed),
    )


@pytest.mark.parametrize("name", ["text/Arithmetic-v0", "text/Countdown-v0"])  # listed, generated
@pytest.mark.parametrize("options", [{}, {"split": "train"}])
def test_no_training_task_is_evaluated(name, options):
    config = settings(EnvConfig(name, options=options), tasks=100)
    test = {a.env.tasks[a.index].id for a in held_out(config).assignments}
    mixture = Mixture([(e.id, e.weight, e.options) for e in config.envs], seed=0)
    trained = {entry.env.tasks[index].id for entry, index in mixture.draw(500)}
    assert min(len(test), len(trained)) > 20
    assert test.isdisjoint(trained)


@pytest.mark.parametrize(
    ("options", "split"),
    [({}, "train"), ({"split": "test"}, "test"), ({"split": "train"}, "train")],
)
def test_a_held_out_split_that_trains_is_refused(options, split):
    env = EnvConfig("text/Arithmetic-v0", options={"terms": 2, **options})
    line = f"evaluation.split: text/Arithmetic-v0 trains on '{split}' itself"
    with pytest.raises(UserError, match=line):
        held_out(settings(env, split=split))


def test_no_tasks_is_no_evaluation():
    assert held_out(settings(tasks=0)) is None


def test_tasks_are_shared_out_over_environments():
    config = settings(tasks=10)
    second = EnvConfig("text/ReverseText-v0")
    assignments = held_out(replace(config, envs=(ARITHMETIC, second))).assignments
    names = [a.name for a in assignments]
    assert [names.count(e) for e in ("text/Arithmetic-v0", "text/ReverseText-v0")] == [5, 5]


def test_seeds_of_evaluation_are_none_of_training():
    test = {a.seed for a in held_out(settings(tasks=100)).assignments}
    trained = {seed_of(0, step, 0, n) for step in range(50) for n in range(8)}
    assert test.isdisjoint(trained)


def test_greedy_really_is_and_samples_are_at_the_training_temperature(chat, scripted):
    engine = scripted(lambda *_: "1")
    config = settings(tasks=3, samples=2)
    asyncio.run(held_out(config).measure(engine, chat))
    temperatures = [sampling.temperature for _, sampling in engine.requests]
    assert sorted(temperatures) == [0.0] * 3 + [1.3] * 6


def test_every_measurement_plays_the_same_episodes(chat, scripted):
    engine = scripted(lambda *_: "1")
    for concurrency in (0, 1, 2):
        test = replace(held_out(settings(tasks=3, samples=2)), concurrency=concurrency)
        asyncio.run(test.measure(engine, chat))
    thirds = [sorted(map(repr, engine.requests[i : i + 9])) for i in (0, 9, 18)]
    assert thirds[0] == thirds[1] == thirds[2]


def test_the_accuracy_is_the_share_of_solved_tasks(chat, scripted):
    test = held_out(settings(tasks=30, samples=0))
    tasks = [a.env.tasks[a.index] for a in test.assignments]
    answers = {f"{task.id}=?": str(task.answer) for task in tasks}

    def say(text, _):  # two digits it can, one it cannot
        answer = answers[text.removeprefix("<bos>")]
        return f"\\boxed{{{answer}}}" if len(answer) == 2 else "\\boxed{0}"

    wanted = sum(len(answer) == 2 for answer in answers.values())
    metrics = asyncio.run(test.measure(scripted(say), chat)).metrics
    assert 0 < wanted < 30
    assert metrics["eval/greedy"] == pytest.approx(wanted / 30)
    assert metrics["eval/greedy_low"] < metrics["eval/greedy"] < metrics["eval/greedy_high"]
    assert "eval/sampled" not in metrics


# --- figures over samples -------------------------------------------------------------------------


def sample(group, number, passed, text="7", **fields) -> Trajectory:
    score = Score.correct() if passed else Score.wrong()
    played = Turn((1,), (2,), (0.0,), text, float(passed), "stop")
    return Trajectory("e", str(group), group, number, turns=[played], score=score, **fields)


RESULTS = [[1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 1, 0]]


def test_pass_at_k_equals_the_enumeration_of_all_subsets():
    drawn = [sample(g, n, bool(x)) for g, row in enumerate(RESULTS) for n, x in enumerate(row)]
    figures = _sampled_figures(drawn, 4, seed=0)
    for k in (1, 2, 4):
        per_task = []
        for row in RESULTS:
            subsets = list(itertools.combinations(row, k))
            per_task.append(sum(any(s) for s in subsets) / len(subsets))
        assert figures[f"pass@{k}"] == pytest.approx(sum(per_task) / 4)
    assert figures["sampled"] == pytest.approx(7 / 16)
    assert figures["pass@1"] == pytest.approx(figures["sampled"])


def test_pass_at_k_is_not_the_biased_estimate():
    drawn = [sample(0, n, n == 0) for n in range(4)]
    assert _sampled_figures(drawn, 4, seed=0)["pass@2"] == pytest.approx(0.5)
    assert pytest.approx(0.5) != 1 - (1 - 0.25) ** 2


def test_figures_are_given_for_powers_of_two_and_the_number_of_samples():
    drawn = [sample(0, n, passed=True) for n in range(6)]
    figures = _sampled_figures(drawn, 6, seed=0)
    assert {name for name in figures if name.startswith("pass@") and "_" not in name} == {
        "pass@1",
        "pass@2",
        "pass@4",
        "pass@6",
    }


def test_a_vote_goes_to_the_commonest_answer_and_a_cut_sample_does_not_vote():
    votes = ["7", "7", "8", "9"]
    drawn = [sample(0, n, v == "7", f"\\boxed{{{v}}}") for n, v in enumerate(votes)]
    assert _sampled_figures(drawn, 4, seed=0)["majority@4"] == 1.0
    drawn = [replace(t, cut=t.sample < 2) for t in drawn]  # the two right ones ran into the limit
    assert _sampled_figures(drawn, 4, seed=0)["majority@4"] == 0.0


def test_a_task_with_a_sample_that_we_failed_to_judge_has_no_pass_at_k():
    """Fewer samples than k would be another estimate; the other samples still count in the mean."""
    whole = [sample(0, n, passed=False) for n in range(4)]
    part = [sample(1, n, passed=True) for n in range(3)]
    figures = _sampled_figures([*whole, *part], 4, seed=0)
    assert figures["pass@4"] == 0.0
    assert figures["sampled"] == pytest.approx(3 / 7)


def test_without_a_whole_task_there_are_no_figures_but_the_mean():
    figures = _sampled_figures([sample(0, 0, passed=True)], 4, seed=0)
    assert figures == {"samples": 4, "sampled": 1.0}


# --- the command's stage --------------------------------------------------------------------------


def test_an_evaluation_repeats_itself_whatever_the_concurrency():
    config = EvalConfig(
        ModelConfig(tiny=TINY),
        (ARITHMETIC,),
        sampling=SamplingConfig(max_tokens=6),
        tasks=5,
        samples=2,
    )
    first = evaluate.run(config)
    again = evaluate.run(replace(config, concurrency=3))
    assert first == again
    assert len(first["rows"]) == 5 * (1 + 2)
    assert first["results"][0]["tasks"] == 5
    assert first["results"][0]["errors"] == 0


def test_nothing_to_measure_is_refused():
    config = EvalConfig(ModelConfig(tiny=TINY), (ARITHMETIC,), greedy=False, samples=0)
    with pytest.raises(UserError, match="nothing to measure: greedy is off and samples is 0"):
        evaluate.run(config)


def test_endless_tasks_need_a_number():
    endless = EnvConfig("text/Countdown-v0")
    config = EvalConfig(ModelConfig(tiny=TINY), (endless,), tasks=0)
    with pytest.raises(UserError, match="endless tasks; say how many to evaluate with tasks=N"):
        evaluate.run(config)


def test_an_environment_with_the_same_tasks_in_every_split_is_refused(tmp_path):
    file = tmp_path / "one_list.py"
    file.write_text(
        "from rl_envs import Task, TextEnv\n"
        "class OneList(TextEnv):\n"
        "    verifier = 'exact'\n"
        "    tasks = [Task('a', '1', '1'), Task('b', '2', '2')]\n"
    )
    with pytest.raises(UserError, match=r"2 of 2 tasks of 'test' in 'train' too .*the same tasks"):
        held_out(settings(EnvConfig(str(file))))


def test_tasks_are_told_apart_by_their_content_and_not_by_their_ids(tmp_path):
    file = tmp_path / "two_lists.py"
    file.write_text(
        "from rl_envs import ListTasks, Task, TextEnv\n"
        "class TwoLists(TextEnv):\n"
        "    verifier = 'exact'\n"
        "    def load_tasks(self, split):\n"
        "        add = 0 if split == 'train' else 10\n"
        "        return ListTasks([Task(str(n), f'{n + add}', '1') for n in range(4)])\n"
    )
    assert held_out(settings(EnvConfig(str(file)))) is not None


def test_when_no_held_out_episode_can_be_judged_it_says_so(chat, scripted, tmp_path):
    file = tmp_path / "down.py"
    file.write_text(
        "from rl_envs import Task, TextEnv, ListTasks\n"
        "class Down(TextEnv):\n"
        "    def load_tasks(self, split):\n"
        "        return ListTasks([Task(split, split, '1')])\n"
        "    def score(self, completion, row):\n"
        "        raise ConnectionError('judge unreachable')\n"
    )
    test = held_out(settings(EnvConfig(str(file)), tasks=1))
    with pytest.raises(UserError, match=r"all 1 episodes failed .*judge unreachable"):
        asyncio.run(test.measure(scripted(lambda *_: "1"), chat))


LISTS = """
from rl_envs import ListTasks, Task, TextEnv
class Lists(TextEnv):
    def load_tasks(self, split):
        add = 0 if split == "train" else {add}
        order = range(4) if split == "train" else range(3, -1, -1)
        return ListTasks([Task(split + str(n), str(n + add), "1", {{"row": n * add, "of": split}})
                          for n in order])
    def score(self, completion, row):
        if row["prompt"] == "10":
            raise ConnectionError("judge unreachable")
        return True
"""


def test_a_copy_in_another_order_with_other_ids_and_columns_is_refused(tmp_path):
    file = tmp_path / "lists.py"
    file.write_text(LISTS.format(add=0))
    with pytest.raises(UserError, match=r"4 of 4 tasks of 'test' in 'train' too .such as test3"):
        held_out(settings(EnvConfig(str(file))))


def test_held_out_errors_are_left_out_and_their_share_is_told(chat, scripted, tmp_path):
    file = tmp_path / "lists.py"
    file.write_text(LISTS.format(add=10))
    test = held_out(settings(EnvConfig(str(file)), tasks=4, samples=1))
    metrics = asyncio.run(test.measure(scripted(lambda *_: "1"), chat)).metrics
    assert metrics["eval/errors"] == pytest.approx(0.25)
    assert metrics["eval/greedy"] == 1.0
