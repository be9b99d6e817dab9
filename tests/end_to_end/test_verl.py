"""verl's own configuration loader and reward managers with our scores.

verl is no dependency: this is skipped where it is not installed. Its reward managers need
`pip install --no-deps verl==0.9.1` and aiohttp, hydra-core, omegaconf, ray, tensordict.
"""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rl_verifiers import make
from rl_verifiers.interop import UnscoredError, verl_compute_score

pytest.importorskip("verl", reason="verl is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

ANSWERS = ["\\boxed{4}", "so 5", "no idea", "\\boxed{2+2}"]
EXPECTED = [1.0, 0.0, 0.0, 1.0]


class Tokenizer:
    """One token for each character."""

    def decode(self, ids, skip_special_tokens=True):
        return "".join(map(chr, ids.tolist()))

    def batch_decode(self, batch, skip_special_tokens=True):
        return [self.decode(ids).rstrip("\0") for ids in batch]


def batch():
    import numpy as np
    import torch
    from verl import DataProto

    width = max(map(len, ANSWERS))
    ids = [[ord(c) for c in text] + [0] * (width - len(text)) for text in ANSWERS]
    mask = [[1] * (1 + len(text)) + [0] * (width - len(text)) for text in ANSWERS]
    n = len(ANSWERS)
    return DataProto.from_dict(
        tensors={
            "prompts": torch.full((n, 1), ord("?")),
            "responses": torch.tensor(ids),
            "attention_mask": torch.tensor(mask),
        },
        non_tensors={
            "data_source": np.array(["m"] * n, dtype=object),
            "reward_model": np.array([{"ground_truth": "4"}] * n, dtype=object),
            "extra_info": np.array([{"index": i} for i in range(n)], dtype=object),
        },
    )


def configured(path, name):
    """What a run's configuration gives: `reward.custom_reward_function` of verl 0.9."""
    from omegaconf import OmegaConf
    from verl.trainer.ppo.reward import get_custom_reward_fn

    kwargs = {"verifier": "math", "options": {"strict": True}}
    custom = {"path": path, "name": name, "reward_kwargs": kwargs}
    return get_custom_reward_fn(OmegaConf.create({"reward": {"custom_reward_function": custom}}))


def printed_path():
    words = [sys.executable, "-m", "rl_verifiers.interop"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("name", ["compute_score", "acompute_score"])
@pytest.mark.parametrize("place", ["pkg://rl_verifiers.interop", printed_path])
def test_the_reward_loop_scores_what_a_configuration_names(place, name):
    from verl.experimental.reward_loop.reward_manager.naive import NaiveRewardManager

    compute = configured(place if isinstance(place, str) else place(), name)

    async def run():
        manager = NaiveRewardManager(None, Tokenizer(), compute)
        data = batch()
        return await asyncio.gather(*(manager.run_single(data[i : i + 1]) for i in range(4)))

    results = asyncio.run(run())
    assert [result["reward_score"] for result in results] == EXPECTED
    assert [result["reward_extra_info"]["status"] for result in results] == [
        *("correct", "wrong", "no_answer", "correct")
    ]
    assert len({tuple(result["reward_extra_info"]) for result in results}) == 1


def manager(name, compute):
    from verl.workers.reward_manager import get_reward_manager_cls

    return get_reward_manager_cls(name)(Tokenizer(), 0, compute, reward_fn_key="data_source")


@pytest.mark.parametrize(
    ("name", "compute"),
    [
        ("naive", verl_compute_score("math")),
        ("batch", verl_compute_score("math").batch),
        ("prime", verl_compute_score("math", extras=False)),
    ],
)
def test_a_reward_manager_puts_our_scores_at_the_last_token(name, compute):
    data = batch()
    result = manager(name, compute)(data, return_dict=True)
    rewards = result["reward_tensor"]
    assert rewards.sum(dim=1).tolist() == EXPECTED
    ends = [len(text) - 1 for text in ANSWERS]
    assert [rewards[i, end].item() for i, end in enumerate(ends)] == EXPECTED
    if name != "prime":
        assert result["reward_extra_info"]["acc"] == EXPECTED


def test_what_could_not_be_judged_ends_the_run_but_is_a_zero_to_prime():
    foreign = Path(__file__).parents[1] / "verifiers" / "foreign_rewards.py"
    unreachable = make("trl", target=f"{foreign}:nothing")
    with pytest.raises(UnscoredError, match="row 0 could not be judged: nothing gave no reward"):
        manager("naive", verl_compute_score(unreachable))(batch())
    prime = manager("prime", verl_compute_score(unreachable, extras=False))(batch())
    assert prime.sum().item() == 0.0  # which is why the page says not to use it
