"""Balance a pole, read as four digits."""

from __future__ import annotations

from typing import Any

import numpy as np

from rl_envs.gymnasium_text import GymnasiumText


def _edges(*positive: float) -> list[float]:
    """Nine inner edges, symmetric about zero, finest near it."""
    return [-edge for edge in reversed(positive)] + [0.0, *positive]


class CartPole(GymnasiumText):
    """Balance a pole on a cart: read four digits, answer l or r.

    The digits are the cart's place and speed and the pole's angle and speed, each in ten bins with
    zero between 4 and 5. 1 per step; a fallen pole terminates, 500 steps truncate, and a reply
    without an action letter ends the episode with 0. The linear rule of ``demonstrate`` holds the
    pole for all 500 steps; random letters last about 22.
    """

    source = "seeds of CartPole-v1"
    gym_id = "CartPole-v1"
    actions = ("l", "r")
    bins = (
        _edges(0.3, 0.8, 1.4, 2.0),  # metres
        _edges(0.2, 0.5, 1.0, 1.6),  # metres per second
        _edges(0.02, 0.05, 0.09, 0.14),  # radians; 0.21 is fallen
        _edges(0.15, 0.4, 0.8, 1.4),  # radians per second
    )
    unknown = "end"
    weights = (0.5, 1.0, 2.0, 2.0)

    def demonstrate(self, style: str, rng: np.random.Generator) -> str:
        """Pushes towards the side where the weighted digits lean."""
        digits: Any = self.messages[-1]["content"]
        lean = sum(w * (int(d) - 4.5) for w, d in zip(self.weights, digits, strict=True))
        return "r" if lean > 0 else "l"
