"""Keep a room warm: many small decisions, a reward for each."""

from __future__ import annotations

from typing import Any

import numpy as np

from rl_envs.core import Reply, TextEnv
from rl_envs.tasks import DataError, GeneratedTasks
from rl_envs.types import Message, Task
from rl_envs.words import chosen

DEGREES = 10
TARGETS = (3, 4, 5, 6)
WEATHERS = "cw"  # cold, warm
CHANGE = 0.1
"""How likely the weather turns after a step."""

DRIFT = {"c": ((-1, 0.5), (0, 0.4), (1, 0.1)), "w": ((-1, 0.1), (0, 0.4), (1, 0.5))}
"""Weather: how the room drifts, and how likely."""

EFFECTS = (1, -1, 0)  # of the three words: heat, cool, nothing
STEPS = 20

State = tuple[int, int, str]
"""Temperature, target, weather."""


class Thermostat(TextEnv):
    """Hold a room at its target temperature against drift and noise: answer up, down or off.

    The state is three characters: temperature 0 to 9, target 3 to 6, weather ``c`` or ``w``; in
    ``47c`` the room is at 4, should be at 7, and it is cold outside. A step moves the room by the
    action (+1, -1, 0) and by a drift of -1, 0 or +1 (cold: 0.5, 0.4, 0.1; warm: the reverse); the
    weather turns with probability 0.1. The reward is 1 at the target, less a third per degree,
    never below 0. Nothing ends an episode but its limit of 20 steps, which truncates. A reply that
    names no action leaves the heating off and earns 0 for its step.

    Mean returns (sums over 20 steps, by dynamic programming): the best policy 15.064, the oracle
    15.047, random words 5.218, babble 0.

    Args:
        question: ``short`` (``47c``) or ``words`` (a sentence that explains itself).
        words: What to say for heat, cool and nothing.
        steps: The length of an episode; another name for ``max_turns``.
        seed: Seeds the episodes.
        options: Those of ``TextEnv``.
    """

    memory = "last"
    discount = 0.9
    styles = ("expert",)
    source = "generated rooms"

    def __init__(
        self,
        *,
        question: str = "short",
        words: tuple[str, str, str] = ("up", "down", "off"),
        steps: int = STEPS,
        seed: int = 0,
        **options: Any,
    ) -> None:
        if question not in ("short", "words"):
            raise DataError(f"question is {question!r}; it must be 'short' or 'words'")
        if len(set(words)) != len(EFFECTS):
            raise DataError(f"words is {list(words)}; it must be three different words")
        self.question = question
        self.words = tuple(words)
        self.seed_of_tasks = seed
        super().__init__(**{"max_turns": steps, **options})
        self.state: State = (0, TARGETS[0], "c")
        self._rng = np.random.default_rng(0)

    def load_tasks(self, split: str) -> GeneratedTasks:
        """Rooms without end: a start, and a seed for all that happens after it."""
        return GeneratedTasks(_drawn, seed=self.seed_of_tasks, split=split)

    def opening(self, task: Task) -> list[Message]:
        """The first state."""
        self.state = task.info["start"]
        self._rng = np.random.default_rng(task.info["seed"])
        return [self._seen()]

    def respond(self, action: str) -> Reply:
        """Moves the room by the action and the drift."""
        place = chosen(action, self.words)
        effect = 0 if place is None else EFFECTS[place]
        # Two numbers per step whatever the action, so that two policies meet the same weather.
        drift, turn = self._rng.random(2)
        temperature, target, weather = self.state
        moved = step(temperature, effect, _drift(weather, drift))
        if turn < CHANGE:
            weather = WEATHERS[1 - WEATHERS.index(weather)]
        self.state = (moved, target, weather)
        return Reply(
            messages=(self._seen(),),
            reward=0.0 if place is None else comfort(moved, target),
            info={"unknown_action": place is None},
        )

    def demonstrate(self, style: str, rng: np.random.Generator) -> str:
        """The action that makes the next step's expected reward highest."""
        return self.words[best_now(self.state)]

    def _seen(self) -> Message:
        temperature, target, weather = self.state
        if self.question == "short":
            return Message(role="user", content=f"{temperature}{target}{weather}")
        outside = "cold" if weather == "c" else "warm"
        up, down, off = self.words
        text = (
            f"The room is at {temperature}, the target is {target}, it is {outside} outside. "
            f"Answer {up}, {down} or {off}."
        )
        return Message(role="user", content=text)


def step(temperature: int, effect: int, drift: int) -> int:
    """The temperature after one step, within 0..9."""
    return min(max(temperature + effect + drift, 0), DEGREES - 1)


def comfort(temperature: int, target: int) -> float:
    """The reward of a step: 1 at the target, less a third per degree, at least 0."""
    return max(0.0, 1.0 - abs(temperature - target) / 3.0)


def best_now(state: State) -> int:
    """The action with the highest expected reward in the next step; heating off wins ties."""
    temperature, target, weather = state

    def expected(place: int) -> float:
        effect = EFFECTS[place]
        return sum(p * comfort(step(temperature, effect, d), target) for d, p in DRIFT[weather])

    if abs(temperature - target) > 3:  # too far for the reward to show the way
        return 0 if temperature < target else 1
    return max((2, 0, 1), key=lambda place: (round(expected(place), 9), place == 2))


def _drift(weather: str, uniform: float) -> int:
    for move, probability in DRIFT[weather]:
        uniform -= probability
        if uniform < 0:
            return move
    return DRIFT[weather][-1][0]


def _drawn(rng: np.random.Generator) -> Task:
    start = (
        int(rng.integers(DEGREES)),
        TARGETS[int(rng.integers(len(TARGETS)))],
        WEATHERS[int(rng.integers(len(WEATHERS)))],
    )
    seed = int(rng.integers(2**31))
    return Task(
        id=f"{''.join(map(str, start))}:{seed}", prompt="", info={"start": start, "seed": seed}
    )
