"""What a policy wins, draws and loses at noughts and crosses; one JSON line.

    python benchmarks/tictactoe.py runs/tictactoe/model --games 400

Greedy and sampled games from the empty board, as X and as O by the task's seed, against random
moves and against perfect play. Beside the policy: the same figures for random free cells.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable
from typing import Any

import numpy as np

from agent_rl import models
from agent_rl.config import ModelConfig
from agent_rl.engines import Sampling, TorchEngine
from agent_rl.rollout import Assignment, play_groups
from agent_rl.trajectory import Trajectory
from rl_envs.text.tictactoe import TicTacToe
from rl_envs.text.tictactoe_rules import free
from rl_verifiers import Score

ENDS = ("won", "drawn", "lost", "illegal")


def main() -> None:
    """Play and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="folder of a trained model")
    parser.add_argument("--games", type=int, default=400)
    arguments = parser.parse_args()
    model, chat = models.load(ModelConfig(path=arguments.model), seed=0)
    engine = TorchEngine(
        model, eos_token_ids=models.end_token_ids(model, chat), tokenizer=chat.tokenizer
    )
    figures: dict[str, Any] = {"games": arguments.games}
    for opponent in ("random", "minimax"):
        env = TicTacToe(opponent=opponent, start="empty", question="short", split="test")
        games = [Assignment(env, "TicTacToe", index, index) for index in range(arguments.games)]
        figures[f"free cells vs {opponent}"] = shares(
            [played(env, index) for index in range(arguments.games)]
        )
        for name, temperature in (("greedy", 0.0), ("sampled", 1.0)):
            sampling = Sampling(max_tokens=1, temperature=temperature)
            episodes = asyncio.run(
                play_groups(
                    engine,
                    chat,
                    games,
                    group_size=1,
                    sampling=sampling,
                    seed=1,
                    on_truncation="score",
                )
            )
            figures[f"{name} vs {opponent}"] = shares([scored(episode) for episode in episodes])
    print(json.dumps(figures))


def scored(episode: Trajectory) -> Score:
    """The last word on an episode."""
    assert episode.score is not None, episode.error
    return episode.score


def played(env: TicTacToe, index: int) -> Score:
    """A game of random free cells."""
    rng = np.random.default_rng(index)
    env.reset(seed=index, options={"index": index})
    move: Callable[[], str] = lambda: str(rng.choice(free(env.board)) + 1)  # noqa: E731
    while True:
        *_, terminated, truncated, info = env.step(move())
        if terminated or truncated:
            return info["score"]


def shares(scores: list[Score]) -> dict[str, float]:
    """The share of each end."""
    return {end: round(float(np.mean([s.parts[end] for s in scores])), 3) for end in ENDS}


if __name__ == "__main__":
    main()
