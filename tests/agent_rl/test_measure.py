"""What is logged of a step, by closed forms."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from agent_rl.experience import Credit, gather
from agent_rl.measure import Learned, credit_metrics, episode_row, rollout_metrics, rollout_rows
from agent_rl.trajectory import Trajectory, Turn
from rl_verifiers import Score


def episode(group, sample, sampled, reward, **fields) -> Trajectory:
    played = Turn((1, 5), tuple(sampled), (-1.0,) * len(sampled), "text", reward, "stop")
    return Trajectory("e", f"t{group}", group, sample, turns=[played], **fields)


@pytest.fixture
def batch():
    """Two groups, one without spread; one episode that we failed to judge, one cut."""
    return [
        episode(0, 0, (7, 8), 1.0, score=Score(1.0, True, "correct", parts={"form": 1.0})),
        episode(0, 1, (7,), 0.0, score=Score(0.0, False, "wrong", parts={"form": 0.5})),
        episode(1, 0, (7, 8, 9, 6), 0.5, score=Score.wrong(), cut=True),
        episode(1, 1, (7,), 0.5, score=Score.wrong()),
        episode(1, 2, (7, 8), 0.0, score=Score.failed("down"), error="down"),
    ]


def test_rewards_are_those_that_train_and_lengths_those_that_were_played(batch):
    kept = batch[:4]
    metrics = rollout_metrics(batch, kept, 2.0)
    assert metrics["reward/mean"] == pytest.approx(0.5)
    assert metrics["reward/std"] == pytest.approx(math.sqrt(0.125))
    assert metrics["reward/passed"] == 0.25
    assert metrics["reward/part/form"] == pytest.approx(0.375)  # a missing part counts 0
    assert metrics["groups/zero_spread"] == 0.5
    assert metrics["samples/error"] == 0.2
    assert metrics["samples/truncated"] == 0.2
    assert metrics["length/mean"] == 2.0
    assert metrics["length/max"] == 4
    assert metrics["tokens/sampled"] == 10
    assert metrics["speed/tokens_per_s"] == 5.0
    assert metrics["speed/samples_per_s"] == 2.5


def test_a_batch_of_failures_only_has_no_reward_rather_than_zero(batch):
    metrics = rollout_metrics(batch[4:], [], 1.0)
    assert math.isnan(metrics["reward/mean"])
    assert metrics["samples/error"] == 1.0


def test_kl_is_per_trajectory_and_in_nats(batch):
    data = gather(batch[:2])
    credit = Credit(torch.tensor([1.0, 1.0, 0.0]), torch.zeros(3), torch.tensor([1.0, 0.0]))
    metrics = credit_metrics(Learned(data, credit, torch.tensor([0.2, 0.4, -0.1])), None)
    assert metrics["kl/reference"] == pytest.approx(0.25)
    assert metrics["samples/zero_advantage"] == 0.5
    assert metrics["reward/penalised"] == 0.5
    assert metrics["advantage/mean"] == pytest.approx(2 / 3)
    assert "value/explained_variance" not in metrics


@pytest.mark.parametrize(
    ("values", "explained"),
    [
        ([1.0, 2.0, 3.0], 1.0),
        ([0.0, 0.0, 0.0], 0.0),
        ([2.0, 3.0, 4.0], 1.0),
        ([3.0, 2.0, 1.0], -3.0),
    ],
)
def test_explained_variance_is_one_less_the_share_that_is_left(batch, values, explained):
    data = gather(batch[:2])
    credit = Credit(torch.zeros(3), torch.tensor([1.0, 2.0, 3.0]), torch.zeros(2))
    metrics = credit_metrics(
        Learned(data, credit, None), torch.tensor([*values, 9], dtype=torch.float32)
    )  # 9: a bootstrap
    assert metrics["value/explained_variance"] == pytest.approx(explained, abs=1e-6)


def test_constant_returns_have_nothing_to_explain(batch):
    data = gather(batch[:2])
    credit = Credit(torch.zeros(3), torch.ones(3), torch.zeros(2))
    metrics = credit_metrics(Learned(data, credit, None), torch.tensor([0.0, 1.0, 2.0]))
    assert metrics["value/explained_variance"] == 0.0


def test_rows_tell_what_training_made_of_an_episode_if_it_was_trained_on(batch, chat):
    data = gather(batch[:2])
    credit = Credit(torch.tensor([1.0, 3.0, -2.0]), torch.zeros(3), torch.zeros(2))
    rows = rollout_rows(batch, Learned(data, credit, torch.tensor([0.2, 0.4, -0.1])), chat, 7)
    assert [row["advantage"] for row in rows] == [2.0, -2.0, None, None, None]
    assert [row["kl"] for row in rows[:2]] == pytest.approx([0.6, -0.1])
    assert {row["step"] for row in rows} == {7}
    assert [row["status"] for row in rows] == ["correct", "wrong", "wrong", "wrong", "error"]


def test_an_episode_without_a_turn_still_is_a_row(chat):
    row = episode_row(Trajectory("e", "t", 0, 0, error="down"), chat)
    assert (row["prompt"], row["completion"], row["n_tokens"]) == ("", "", 0)
    assert (row["status"], row["reason"]) == ("error", "down")


def dialogue(chat, *, whole: bool) -> Trajectory:
    """Two turns, "7" then "8", answered by "more"; the second context goes on from the first."""
    one, two = chat.completion_ids("7"), chat.completion_ids("8")
    more = chat.prompt_ids([{"role": "user", "content": "more"}])
    start = chat.prompt_ids([{"role": "user", "content": "1+1"}])
    second = [*start, *one, *more] if whole else more
    turns = [
        Turn(tuple(start), tuple(one), (-0.1, -0.2), "7", 0.0, "stop"),
        Turn(tuple(second), tuple(two), (-0.3, -0.4), "8", 1.0, "stop"),
    ]
    asked = ({"role": "user", "content": "1+1"},)
    answers = [({"role": "user", "content": "more"},), ()]
    return Trajectory("e", "t", 0, 0, asked, turns, answers)


def test_a_dialogue_is_a_row_with_its_messages(chat):
    row = episode_row(dialogue(chat, whole=True), chat)
    assert [(m["role"], m["content"]) for m in row["messages"]] == [
        ("user", "1+1"),
        ("assistant", "7"),
        ("user", "more"),
        ("assistant", "8"),
    ]


def test_a_single_turn_needs_no_messages(batch, chat):
    assert "messages" not in episode_row(batch[0], chat)


def test_long_messages_are_clipped(chat):
    long = replace(
        dialogue(chat, whole=True), answers=[({"role": "user", "content": "x" * 10**6},)]
    )
    assert sum(len(m["content"]) for m in episode_row(long, chat)["messages"]) < 11_000


@pytest.mark.parametrize("whole", [True, False])
def test_tokens_show_what_was_sampled_and_what_was_answered(chat, whole):
    trajectory = dialogue(chat, whole=whole)
    credit = Credit(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.zeros(4), torch.zeros(1))
    (row,) = rollout_rows([trajectory], Learned(gather([trajectory]), credit, None), chat, 1)
    sampled = [t for t in row["tokens"] if t["mask"]]
    assert [t["text"] for t in sampled] == ["7", "<eos>", "8", "<eos>"]
    assert [t["logprob"] for t in sampled] == [-0.1, -0.2, -0.3, -0.4]
    assert [t["advantage"] for t in sampled] == [1.0, 2.0, 3.0, 4.0]
    assert "more" in "".join(t["text"] for t in row["tokens"] if not t["mask"])
    assert "1+1" not in "".join(t["text"] for t in row["tokens"])  # the prompt stands by itself


def test_only_the_first_episodes_of_a_step_keep_their_tokens(chat):
    many = [episode(0, n, (7,), 0.0) for n in range(40)]
    credit = Credit(torch.zeros(40), torch.zeros(40), torch.zeros(40))
    rows = rollout_rows(many, Learned(gather(many), credit, None), chat, 1)
    assert sum("tokens" in row for row in rows) == 32


def test_what_failed_what_came_late_and_what_tools_counted_is_told(chat):
    used = {"calls": 2, "malformed": 1, "unknown": 0, "errors": 1, "timeouts": 0, "over_budget": 0}
    played = [
        replace(dialogue(chat, whole=True), tools=used),
        replace(dialogue(chat, whole=True), tools={**used, "calls": 4}, failures=["OSError: gone"]),
        episode(0, 2, (7,), 0.0, late=True, truncated=True),
        Trajectory("e", "t", 0, 3, error="down", failures=["down", "down"]),
    ]
    metrics = rollout_metrics(played, played[:3], 1.0)
    assert metrics["episodes/retried"] == 2
    assert (metrics["episodes/errors"], metrics["episodes/late"]) == (1, 1)
    assert (metrics["tools/calls"], metrics["tools/malformed"]) == (3.0, 1.0)
    assert metrics["tokens/tool"] == 2 * len(chat.prompt_ids([{"role": "user", "content": "more"}]))
    assert not any(name.startswith("tools/") for name in rollout_metrics(played[2:], [], 1.0))


@pytest.mark.parametrize("whole", [True, False])
def test_inserted_tokens_are_those_that_were_read_and_not_sampled(chat, whole):
    more = chat.prompt_ids([{"role": "user", "content": "more"}])
    assert dialogue(chat, whole=whole).n_inserted == len(more)


def test_a_row_shows_results_of_tools_and_the_reward_of_each_turn(chat):
    result = {"role": "tool", "name": "add", "content": "42"}
    shown = replace(
        dialogue(chat, whole=True),
        answers=[(result,), ()],
        tools={"calls": 1},
        failures=["OSError: gone"],
    )
    row = episode_row(shown, chat)
    assert row["rewards"] == [0.0, 1.0]
    assert row["messages"] == [
        {"role": "user", "content": "1+1"},
        {"role": "assistant", "content": "7", "reward": 0.0},
        {"role": "tool", "content": "42", "name": "add"},
        {"role": "assistant", "content": "8", "reward": 1.0},
    ]
    assert (row["tools"], row["failures"]) == ({"calls": 1}, ["OSError: gone"])
