"""Wordle: find a secret word from the marks of each guess."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rl_envs.core import Reply, TextEnv
from rl_envs.tasks import DataError, EnumeratedTasks
from rl_envs.text.brackets import move_in
from rl_envs.text.wordle_rules import Solver, marks
from rl_envs.types import Message, Task
from rl_verifiers.score import Score

WORDS = Path(__file__).with_name("wordle_words.txt")
"""716 common English words of five letters, written down for this project."""

GUESSES = 6


class Wordle(TextEnv):
    """Find the secret word in at most six guesses; each guess is answered letter by letter.

    ``G``: this letter in this place; ``Y``: this letter in another place; ``X``: not in the word,
    or not that often. A guess is the last brackets of a reply, ``[crane]``, or the bare word alone,
    in either case. A guess that is not in the word list gets no marks, is counted, and costs one of
    the guesses. Solving earns 1. Every word of the list may be guessed; the secrets of the splits
    are disjoint.

    Args:
        words: The word list: words, or a file with one per line. All of one length. Default: 716
            common words of five letters.
        guesses: Guesses per episode; another name for ``max_turns``.
        shaping: This much of the reward, 0..1, is paid for letters in their place as soon as more
            of them are found; a solved game earns 1 in all, a lost one ``shaping`` times the share
            of letters that its best guess had in place.
        question: ``words`` (messages that explain themselves) or ``short``: ``?`` to begin with,
            then the bare marks, ``!`` for an unknown word.
        options: Those of ``TextEnv``.
    """

    max_turns = GUESSES
    styles = ("guess",)
    source = "716 common English words"

    def __init__(
        self,
        *,
        words: Sequence[str] | str | PathLike[str] | None = None,
        guesses: int = GUESSES,
        shaping: float = 0.0,
        question: Literal["words", "short"] = "words",
        **options: Any,
    ) -> None:
        if not 0.0 <= shaping <= 1.0:
            raise DataError(f"shaping is {shaping!r}; it must be within 0..1")
        if question not in ("words", "short"):
            raise DataError(f"question is {question!r}; it must be 'words' or 'short'")
        if words is None or isinstance(words, str | PathLike):
            self.words = _from_file(Path(words or WORDS))
        else:
            self.words = _checked(words, "words")
        self.length = len(self.words[0])
        self.shaping, self.question = shaping, question
        super().__init__(**{"max_turns": guesses, **options})
        self.history: list[tuple[str, str]] = []
        self.invalid = 0
        self._placed = 0.0  # the best share of letters in place so far

    def load_tasks(self, split: str) -> EnumeratedTasks:
        """One secret word each."""
        return EnumeratedTasks(partial(_task, self.words), len(self.words), split=split)

    def opening(self, task: Task) -> list[Message]:
        """The rules."""
        self.history, self.invalid, self._placed = [], 0, 0.0
        if self.question == "short":
            return [Message(role="user", content="?")]
        text = (
            f"Find the secret word of {self.length} letters; you have {self.max_turns} guesses. "
            "Each guess is answered with one mark per letter: G for a letter in its place, Y for a "
            "letter in another place, X for a letter that is not in the word or not that often. "
            "A guess must be a word of the game's list; any other gets no marks and is lost. "
            f"Answer with one word in brackets, such as [{self.words[0]}]."
        )
        return [Message(role="user", content=text)]

    def respond(self, action: str) -> Reply:
        """The marks of a guess, or that it is no word of the list."""
        said = move_in(action)
        guess = said.lower() if len(said) == self.length else ""
        known = guess in _solver(self.words)
        if known:
            self.history.append((guess, marks(guess, self.task.answer)))
        else:
            self.invalid += 1
        if known and guess == self.task.answer:
            return self._ended(solved=True)
        if self.turn >= self.max_turns:
            return self._ended(solved=False)
        return Reply(
            messages=(self._marked(known),),
            reward=self._newly_placed() if known else 0.0,
            info={"unknown_action": not known},
        )

    def demonstrate(self, style: str, rng: np.random.Generator) -> str:
        """The guess that tells most about the secret, given the marks so far."""
        return self._written(_solver(self.words).guess(self.history))

    def _written(self, guess: str) -> str:
        return guess if self.question == "short" else f"[{guess}]"

    def _newly_placed(self) -> float:
        """What the newest guess earns for having more letters in place than any before it."""
        share = self.history[-1][1].count("G") / self.length
        gained = max(share - self._placed, 0.0)
        self._placed = max(share, self._placed)
        return self.shaping * gained

    def _ended(self, *, solved: bool) -> Reply:
        parts = {"guesses": float(self.turn), "invalid": float(self.invalid)}
        if solved:
            value = 1.0 - self.shaping * self._placed
            score = Score(value, True, "correct", f"solved in {self.turn}", parts)
        else:
            value = self._newly_placed() if self.history else 0.0
            status: Literal["wrong", "no_answer"] = "wrong" if self.history else "no_answer"
            score = Score(value, False, status, f"the word was {self.task.answer}", parts)
        return Reply(reward=score.value, terminated=True, score=score)

    def _marked(self, known: bool) -> Message:
        if self.question == "short":
            return Message(role="user", content=self.history[-1][1] if known else "!")
        left = self.max_turns - self.turn
        guesses = f"{left} guess{'es' if left > 1 else ''} left."
        if not known:
            text = f"That is no word of {self.length} letters in the list. {guesses}"
        else:
            guess, seen = self.history[-1]
            text = f"{' '.join(guess.upper())}\n{' '.join(seen)}\n{guesses}"
        return Message(role="user", content=text)


@cache
def _solver(words: tuple[str, ...]) -> Solver:
    return Solver(words)


def _task(words: tuple[str, ...], index: int) -> Task:
    return Task(id=f"wordle:{words[index]}", prompt="", answer=words[index])


@cache
def _from_file(path: Path) -> tuple[str, ...]:
    try:
        return _checked(path.read_text(encoding="utf-8").split(), path.name)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"words: cannot read {path}: {error}") from error


def _checked(words: Sequence[str], where: str) -> tuple[str, ...]:
    """The words in lower case, each once.

    Raises:
        DataError: There are fewer than two, they differ in length, or one holds no letters only.
    """
    kept = tuple(dict.fromkeys(str(word).lower() for word in words))
    if len(kept) < 2:
        raise DataError(f"{where}: {len(kept)} words; Wordle needs at least two")
    for word in kept:
        if len(word) != len(kept[0]) or not word.isalpha():
            raise DataError(
                f"{where}: {word!r} does not fit; words must be letters only and as long as "
                f"{kept[0]!r}"
            )
    return kept
