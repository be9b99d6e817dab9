"""Rejection sampling: what is kept, its matched control, rows that train, and that it teaches."""

from __future__ import annotations

import io
import json
from collections import Counter

import pytest
import torch

from agent_rl import models
from agent_rl.config import (
    DataConfig,
    EnvConfig,
    ModelConfig,
    OptimizerConfig,
    RejectionSamplingConfig,
    RunConfig,
    SamplingConfig,
    SFTConfig,
    TinyModel,
)
from agent_rl.engines import Sampling
from agent_rl.errors import UserError
from agent_rl.generating import load_engine, sample_tasks, split_assignments
from agent_rl.runs import Console, RunFolder
from agent_rl.sample_pool import Prompt, Sample, _conversation
from agent_rl.selection import Candidate, by_group, distinct, matched_control, selected
from agent_rl.stages import examples, rejection_sampling, sft
from agent_rl.trajectory import Trajectory, Turn, segments
from rl_verifiers import Score, register

TINY = TinyModel(hidden_size=16, layers=1, heads=2, intermediate_size=16, context=64)
LETTERS = EnvConfig("text/Letters-v0", options={"peak": 2, "length": 6})


def candidates(table):
    return [
        Candidate(group, sample, float(score), sample)
        for group, scores in enumerate(table)
        for sample, score in enumerate(scores)
    ]


def numbers(chosen):
    return [(c.group, c.sample) for c in chosen]


def test_the_best_are_kept_per_prompt_overall_or_above_a_threshold():
    pool = candidates([[1, 5, 3], [0, 2, 1], [9, 8, 7]])
    assert numbers(selected(pool, "top_per_prompt")) == [(0, 1), (1, 1), (2, 0)]
    assert numbers(selected(pool, "top_per_prompt", keep=2, threshold=2.5)) == [
        (0, 1),
        (0, 2),
        (2, 0),
        (2, 1),
    ]
    assert numbers(selected(pool, "top_overall", keep=4)) == [(0, 1), (2, 0), (2, 1), (2, 2)]
    assert numbers(selected(pool, "threshold", threshold=5)) == [(0, 1), (2, 0), (2, 1), (2, 2)]
    assert selected(pool, "threshold", threshold=10) == []


def test_of_equal_scores_the_seed_decides_not_the_place():
    pool = candidates([[1] * 4] * 50)
    firsts = {seed: numbers(selected(pool, "top_overall", keep=50, seed=seed)) for seed in (0, 1)}
    assert firsts[0] != firsts[1]
    assert len({group for group, _ in firsts[0]}) > 25
    assert numbers(selected(pool[::-1], "top_overall", keep=50)) == firsts[0]


def test_the_control_has_the_same_prompts_and_numbers_drawn_evenly():
    pool = candidates([[1, 5, 3, 2], [0, 2, 1, 4], [9, 8, 7, 6]])
    chosen = selected(pool, "top_overall", keep=5)
    drawn = Counter()
    for seed in range(600):
        control = matched_control(pool, chosen, seed)
        assert {g: len(c) for g, c in by_group(control).items()} == {0: 1, 2: 4}
        assert len(set(numbers(control))) == 5
        drawn.update(numbers(control))
    assert all(110 < drawn[0, sample] < 190 for sample in range(4))  # 150, six sigma 64
    assert matched_control(pool[::-1], chosen, 3) == matched_control(pool, chosen, 3)


def test_equal_completions_of_a_prompt_count_once():
    pool = [Candidate(0, 0, 1.0, "x"), Candidate(0, 1, 1.0, "x"), Candidate(1, 0, 1.0, "x")]
    assert numbers(distinct(pool)) == [(0, 0), (1, 0)]


def sample(number, score, text="abc", **changes):
    return Sample(number, text, score, True, **{"cut": False, "tokens": 3, **changes})


def test_failures_cut_and_empty_samples_are_left_out_and_counted():
    kept = [sample(0, 0.5), sample(1, 0.7, "abd")]
    bad = [
        sample(2, None, error="died"),
        sample(3, 0.9, cut=True),
        sample(4, 0.9, " "),
        sample(5, 0.9, scores={"score": None}, error="judge: HTTP 500"),
    ]
    prompts = [
        Prompt(0, "a", "e", [{"role": "user", "content": "q"}], None, [*kept, *bad]),
        Prompt(1, "b", "e", [{"role": "user", "content": "r"}], None, [bad[0]]),
    ]
    pool = rejection_sampling.candidates_of(prompts)
    assert numbers(pool) == [(0, 0), (0, 1)]
    chosen = selected(pool, "top_per_prompt")
    found = rejection_sampling.counts(prompts, pool, pool, chosen)
    assert found == {
        "prompts": 2,
        "prompts_kept": 1,
        "samples": 7,
        "errors": 3,
        "cut": 1,
        "empty": 1,
        "duplicates": 0,
        "kept": 1,
    }
    (row,) = rejection_sampling.rows_of(prompts, pool, chosen, 0)
    assert row["completion"] == [{"role": "assistant", "content": "abd"}]
    assert (row["score"], row["n"], row["rank"]) == (0.7, 2, 1)


def test_the_histogram_counts_every_sample():
    few = rejection_sampling.histogram([0.0, 0.0, 1.0], [1.0])
    assert few == [
        {"low": 0.0, "high": 0.0, "samples": 2, "kept": 0},
        {"low": 1.0, "high": 1.0, "samples": 1, "kept": 1},
    ]
    many = rejection_sampling.histogram([n / 7 for n in range(100)], [99 / 7])
    assert sum(b["samples"] for b in many) == 100
    assert [b["kept"] for b in many] == [0] * 9 + [1]


def settings(**changes):
    given = {
        "model": ModelConfig(tiny=TINY),
        "env": LETTERS,
        "sampling": SamplingConfig(max_tokens=40),
        "tasks": 6,
        "samples": 4,
        "tasks_at_once": 2,
        **changes,
    }
    return RejectionSamplingConfig(**given)


def run(config, path, resume=False):
    folder = RunFolder.resume(path) if resume else RunFolder.create(path, {"stage": "x"})
    return rejection_sampling.run(config, folder, Console(file=io.StringIO()), resume=resume)


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_verifier_scores_and_a_stopped_stage_goes_on_to_the_same_bytes(tmp_path):
    def length(completion, row):
        assert row["prompt"] == f"start {row['answer']}: "
        return Score.failed("no judge") if "e" in completion else float(len(completion))

    register("samples_length")(lambda: length)
    config = settings(verifier={"name": "samples_length"})
    rejection_sampling.check(config)
    summary = run(config, tmp_path / "run")
    data, control = (rows_of(tmp_path / f"run/{n}.jsonl") for n in ("data", "control"))
    assert summary["kept"] == len(data) == len(control)
    assert all(r["score"] == len(r["completion"][0]["content"]) for r in [*data, *control])
    assert all(r["rank"] == 1 and "e" not in r["completion"][0]["content"] for r in data)
    assert [r["task_id"] for r in control] == [r["task_id"] for r in data]
    assert summary["chosen"]["score"] > summary["control"]["score"]
    assert summary["errors"] > 0
    chat = models.load_chat(ModelConfig(tiny=TINY))
    assert len(examples.FileExamples(str(tmp_path / "run/data.jsonl"), chat, 64).first(99)) == len(
        data
    )
    lines = (tmp_path / "run/samples.jsonl").read_bytes().splitlines(keepends=True)
    RunFolder.create(tmp_path / "half", {"stage": "x"})
    (tmp_path / "half/samples.jsonl").write_bytes(b"".join(lines[:3]) + lines[3][:30])
    run(config, tmp_path / "half", resume=True)
    for name in ("samples.jsonl", "data.jsonl", "control.jsonl"):
        assert (tmp_path / "half" / name).read_bytes() == (tmp_path / "run" / name).read_bytes()


def test_nothing_good_enough_and_forgetful_environments_are_refused_in_one_line(tmp_path):
    with pytest.raises(UserError, match=r"none of .* samples has a score of at least 50; the best"):
        run(settings(threshold=50.0), tmp_path / "none")
    with pytest.raises(UserError, match="all were cut at a limit, empty or failed"):
        run(settings(sampling=SamplingConfig(max_tokens=1)), tmp_path / "cut")
    with pytest.raises(UserError, match="memory: last"):
        rejection_sampling.check(settings(env=EnvConfig("text/Thermostat-v0")))
    names = lambda **c: [name for name, _ in settings(**c).problems()]  # noqa: E731
    assert names() == []
    assert names(select="threshold") == ["threshold"]
    assert names(keep=5) == ["keep"]


def test_every_sampled_turn_of_a_conversation_is_trained_on_as_it_was_seen(tmp_path, chat):
    """Written as a row and read back by the stage sft, an episode gives the very same tokens."""
    opening = ({"role": "user", "content": "1+1="},)
    answers = [({"role": "tool", "content": "2"},), ({"role": "user", "content": "sure?"},), ()]
    texts = ["add 1 1", "it is 2", "yes"]
    episode = Trajectory("e", "0", 0, 0, opening=opening)
    ids = tuple(chat.prompt_ids(opening))
    for text, answer in zip(texts, answers, strict=True):
        said = tuple(chat.completion_ids(text))
        episode.turns.append(Turn(ids, said, (0.0,) * len(said), text, 0.0, "stop"))
        episode.answers.append(answer)
        if answer:
            ids = tuple(chat.next_prompt_ids(ids, said, answer))
    messages = _conversation(episode, texts)
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps({"messages": messages, "score": 1.0}) + "\n")
    assert examples.FileExamples(str(path), chat, 200).first(1) == segments(episode)

    messages[3] = {**messages[3], "weight": 0}  # "it is 2" is context then
    first, _, last = (len(chat.completion_ids(text)) for text in texts)
    found = examples.example(messages, chat, 200, where="x")
    assert found.ids == segments(episode)[0].ids
    assert len(found.sampled) == first + last
    for wrong, told in ((2, "has weight 2"), (0, "no message has weight 1")):
        for message in messages:
            message.pop("weight", None)
        messages[-1]["weight"] = wrong
        with pytest.raises(UserError, match=told):
            examples.example(messages, chat, 200, where="x")


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
def test_training_on_what_was_selected_beats_training_on_its_random_control(tmp_path, one_thread):
    tiny = TinyModel(hidden_size=64, layers=1, heads=2, intermediate_size=64, context=64)
    letters = EnvConfig("text/Letters-v0")
    say = Console(file=io.StringIO())

    def trained(name, model, data, steps, lr):
        folder = RunFolder.create(tmp_path / name, {"stage": "sft"})
        config = SFTConfig(
            model=model,
            data=data,
            steps=steps,
            optimizer=OptimizerConfig(lr=lr, warmup_steps=10, schedule="cosine"),
            run=RunConfig(dir=str(folder.path)),
            held_out=0,
        )
        sft.run(config, folder, say)
        return ModelConfig(path=str(folder.model))

    def gold(model):
        engine, chat = load_engine(model, 0)
        tasks = split_assignments(letters, "test", 64, 0)
        drawn = sample_tasks(
            engine,
            chat,
            tasks,
            samples=4,
            sampling=Sampling(max_tokens=32),
            seed=7,
        )
        rewards = [t.total_reward for chunk in drawn for group in chunk for t in group]
        return sum(rewards) / len(rewards)

    shown = DataConfig(env=letters, styles={"random": 1.0})
    base = trained("base", ModelConfig(tiny=tiny), shown, 150, 5e-3)
    config = settings(
        model=base,
        env=letters,
        tasks=100,
        samples=16,
        tasks_at_once=25,
        sampling=SamplingConfig(max_tokens=32),
    )
    summary = run(config, tmp_path / "sample")
    assert summary["chosen"]["score"] > summary["control"]["score"] + 0.25
    paths = [DataConfig(path=str(tmp_path / f"sample/{n}.jsonl")) for n in ("data", "control")]
    before = gold(base)
    best, control = (gold(trained(f"sft{n}", base, path, 60, 1e-3)) for n, path in enumerate(paths))
    assert best > before + 0.1
    assert best > control + 0.1
