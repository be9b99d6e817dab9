import math

import torch

from agent_rl.ablation import with_logprobs, with_tool_tokens
from agent_rl.experience import gather
from agent_rl.trajectory import Trajectory, Turn, segments


def episode():
    first = Turn((1, 2), (3, 4), (-0.1, -0.2), "", 0.0, "stop")
    second = Turn((1, 2, 3, 4, 7, 8, 9), (5,), (-0.3,), "", 1.0, "stop")
    elsewhere = Turn((1, 9), (6,), (-0.4,), "", 0.5, "stop")
    return Trajectory("e", "t", 0, 0, turns=[first, second, elsewhere])


def test_inserted_tokens_join_the_turn_before_them():
    whole = with_tool_tokens(episode())
    assert [turn.completion_ids for turn in whole.turns] == [(3, 4, 7, 8, 9), (5,), (6,)]
    assert [part.sampled for part in segments(whole)] == [(2, 3, 4, 5, 6, 7), (2,)]
    assert [part.ids for part in segments(whole)] == [part.ids for part in segments(episode())]
    assert math.isnan(whole.turns[0].logprobs[-1])
    assert whole.total_reward == episode().total_reward


def test_only_what_no_sampler_reported_is_filled_in():
    class Policy:
        def score_all(self, micros):
            return torch.arange(7.0), None

    batch = with_logprobs(
        gather([with_tool_tokens(episode())]), Policy(), micro_tokens=100, share_prompts=True
    )
    expected = torch.tensor([-0.1, -0.2, 2.0, 3.0, 4.0, -0.3, -0.4])
    torch.testing.assert_close(batch.sampler_logprobs_t, expected)
