"""Wordle: the marks of a guess, and a solver that takes the guess which tells most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MARKS = "XYG"
"""Not in the word (again), in another place, in this place: digits 0, 1, 2 of a pattern."""

_MANY_WORDS = 2000  # a table of patterns for more would take over 16 MB


def marks(guess: str, secret: str) -> str:
    """One mark per letter of the guess: ``G``, ``Y`` or ``X``.

    A letter gets at most as many ``G`` and ``Y`` as the secret holds of it: ``G`` first, then ``Y``
    from the left. ``eerie`` against ``crepe`` is ``YXYXG``: crepe has no third e.
    """
    exact = [a == b for a, b in zip(guess, secret, strict=True)]
    left = Counter(b for b, same in zip(secret, exact, strict=True) if not same)
    out = []
    for letter, same in zip(guess, exact, strict=True):
        if same:
            out.append("G")
        elif left[letter] > 0:
            left[letter] -= 1
            out.append("Y")
        else:
            out.append("X")
    return "".join(out)


class Solver:
    """Guesses so that the expected information about the secret is highest.

    Args:
        words: What can be guessed and can be the secret; all of one length.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        self._number = {word: index for index, word in enumerate(self.words)}
        self._letters = np.array([[ord(c) for c in word] for word in self.words], dtype=np.int32)
        self._early: dict[tuple[tuple[str, str], ...], str] = {}  # the first two guesses
        self._table: NDArray[np.int32] | None = None

    def __contains__(self, word: str) -> bool:
        """Whether a word is in the list."""
        return word in self._number

    def guess(self, history: Sequence[tuple[str, str]]) -> str:
        """The next guess.

        Args:
            history: Valid guesses so far, each with its marks.
        """
        known = tuple(history)
        if known not in self._early:
            chosen = self._chosen(known)
            if len(known) > 1:
                return chosen
            self._early[known] = chosen
        return self._early[known]

    def _chosen(self, history: tuple[tuple[str, str], ...]) -> str:
        left = np.arange(len(self.words))
        for word, seen in history:
            left = left[self._patterns(self._number[word])[left] == _digits(seen)]
        return self.words[left[0]] if len(left) <= 2 else self._most_telling(left)

    def _most_telling(self, left: NDArray[np.intp]) -> str:
        """The word with the highest entropy over its patterns; words that may be right win ties."""
        open_now = np.zeros(len(self.words), dtype=bool)
        open_now[left] = True
        best, most = 0, -1.0
        for index in range(len(self.words)):
            counts = np.bincount(self._patterns(index)[left])
            shares = counts[counts > 0] / len(left)
            told = float(-(shares * np.log(shares)).sum()) + 1e-6 * bool(open_now[index])
            if told > most + 1e-12:
                best, most = index, told
        return self.words[best]

    def _patterns(self, index: int) -> NDArray[np.int32]:
        """``[words]`` the marks of one guess against every secret, as base-3 numbers."""
        if self._table is None and len(self.words) <= _MANY_WORDS:
            self._table = np.stack([self._row(i) for i in range(len(self.words))])
        return self._row(index) if self._table is None else self._table[index]

    def _row(self, index: int) -> NDArray[np.int32]:
        guess, secrets = self._letters[index], self._letters
        length = secrets.shape[1]
        exact = secrets == guess
        used = exact.copy()  # letters of each secret that stand for a mark already
        digits = np.where(exact, 2, 0)
        for place in range(length):
            fits = (secrets == guess[place]) & ~used
            found = fits.any(axis=1) & ~exact[:, place]
            used[found, fits.argmax(axis=1)[found]] = True
            digits[found, place] = 1
        return (digits @ (3 ** np.arange(length))).astype(np.int32)


def _digits(seen: str) -> int:
    return sum(MARKS.index(mark) * 3**place for place, mark in enumerate(seen))
