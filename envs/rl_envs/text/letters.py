"""Write letters whose vowels earn a known reward that turns: the preference stages' toy task."""

from __future__ import annotations

import re
import string
from typing import Any

import numpy as np

from rl_envs.core import TextEnv
from rl_envs.tasks import DataError, EnumeratedTasks
from rl_envs.types import Task
from rl_verifiers.score import Row, Score

LETTERS = string.ascii_lowercase
VOWELS = "aeiou"
CONSONANTS = "".join(letter for letter in LETTERS if letter not in VOWELS)
OPENING = 2  # letters that a prompt names: 676 prompts
MOST_SCORED = 10_000  # letters that are looked at


class Letters(TextEnv):
    """Write a string of lower-case letters; n vowels earn (min(n, peak) - max(0, n - peak)) / peak.

    The known ("gold") reward of the over-optimization laboratory: it rises to 1 at ``peak`` vowels
    and then falls as fast, below 0 from twice the peak on. Strings drawn at random hardly ever have
    so many, so a reward learned from comparing them says "more vowels are better" and goes on where
    this one turns. Anything but lower-case letters earns 0. A completion passes at the peak if it
    begins with the letters that the prompt names, which earns nothing.

    Args:
        peak: The best number of vowels.
        length: Letters of a demonstration; a completion may have any number.
        vowel_rates: The style ``random`` draws the share of vowels uniformly between these, once
            for each string.
        options: Those of ``TextEnv``.
    """

    styles = ("best", "random")
    source = "all pairs of first letters"

    def __init__(
        self,
        *,
        peak: int = 8,
        length: int = 20,
        vowel_rates: tuple[float, float] = (0.05, 0.40),
        **options: Any,
    ) -> None:
        if type(peak) is not int or type(length) is not int:
            raise DataError(
                f"letters: peak is {peak!r} and length {length!r}; both must be whole numbers"
            )
        if not OPENING <= peak <= length - OPENING:
            raise DataError(
                f"letters: peak is {peak} and length {length}; "
                f"need {OPENING} <= peak <= length - {OPENING}"
            )
        if not _are_shares(vowel_rates):
            raise DataError(
                f"letters: vowel_rates is {vowel_rates!r}; it must be two shares, low and high"
            )
        self.peak = peak
        self.length = length
        self.vowel_rates = (float(vowel_rates[0]), float(vowel_rates[1]))
        super().__init__(**options)

    def load_tasks(self, split: str) -> EnumeratedTasks:
        """One task for every pair of first letters, such as ``start cq: ``."""
        return EnumeratedTasks(_numbered, len(LETTERS) ** OPENING, split=split)

    def score(self, completion: str, row: Row) -> Score:
        """The known reward.

        Its parts: ``vowels`` and ``letters`` (numbers), ``start`` (1 where it begins as the prompt
        says).
        """
        text = completion.strip()
        if not text:
            return Score.wrong("empty", status="no_answer")
        if len(text) > MOST_SCORED:
            return Score.wrong(f"over {MOST_SCORED} letters", status="over_limit")
        if not re.fullmatch("[a-z]+", text):
            return Score.wrong("not lower-case letters alone", status="unparsable")
        vowels = sum(map(text.count, VOWELS))
        value = (min(vowels, self.peak) - max(0, vowels - self.peak)) / self.peak
        starts = text.startswith(str(row["answer"]))
        passed = vowels == self.peak and starts
        asked = "" if starts else f", and {row['answer']} was to be the start"
        return Score(
            value=value,
            passed=passed,
            status="correct" if passed else "wrong",
            reason=f"{vowels} vowels, best are {self.peak}{asked}",
            parts={
                "vowels": float(vowels),
                "letters": float(len(text)),
                "start": float(starts),
            },
        )

    def demonstration(self, task: Task, style: str, rng: np.random.Generator) -> str:
        """``length`` letters from the prompt's on: with ``peak`` vowels, or with a random share."""
        start = str(task.answer)
        rest = self.length - len(start)
        if style == "best":
            vowels = self.peak - sum(map(start.count, VOWELS))
            is_vowel = rng.permutation(np.arange(rest) < vowels)
        else:
            is_vowel = rng.random(rest) < rng.uniform(*self.vowel_rates)
        kinds = [VOWELS if vowel else CONSONANTS for vowel in is_vowel]
        return start + "".join(kind[int(rng.integers(len(kind)))] for kind in kinds)


def _are_shares(rates: Any) -> bool:
    if not isinstance(rates, list | tuple) or len(rates) != 2:
        return False
    return all(type(r) in (int, float) for r in rates) and 0.0 <= rates[0] <= rates[1] <= 1.0


def _numbered(index: int) -> Task:
    start = "".join(LETTERS[index // len(LETTERS) ** place % len(LETTERS)] for place in (1, 0))
    return Task(id=start, prompt=f"start {start}: ", answer=start)
