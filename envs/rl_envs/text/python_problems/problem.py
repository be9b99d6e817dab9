"""A problem that takes a computer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal


@dataclass(frozen=True, slots=True)
class Problem:
    """A question, its answer and how to get there.

    Attributes:
        question: As the policy is asked.
        answer: Exact: an integer, a fraction in lowest terms, or a text.
        code: A Python program that prints the answer.
        kind: Whether the answer is a number or a text.
    """

    question: str
    answer: str
    code: str
    kind: Literal["number", "text"] = "number"


Family = Callable[[Random, int], Problem]
"""Draws a problem of a difficulty from 1 to 3."""
