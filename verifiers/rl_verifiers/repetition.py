"""How much a completion repeats itself: n-grams, loops at the end, compression."""

from __future__ import annotations

import zlib
from array import array
from dataclasses import dataclass
from typing import Literal, get_args

from rl_verifiers.option_checks import check_number, check_one_of, check_whole
from rl_verifiers.score import Row, Score, VerifierError

Unit = Literal["words", "characters"]

LOOP_TAIL = 100_000
"""Characters at the end in which a loop is looked for."""
LEAST_LOOP = 200
"""Characters that a loop must be long, so that a line of dashes is none."""
LEAST_ROUNDS = 4
MAX_N = 100


def ngram_repetition(text: str, n: int, *, unit: Unit = "words") -> float:
    """The share of n-grams that occurred before: 1 - distinct / all, within 0..1.

    What the repetition penalty of "Demystifying Long Chain-of-Thought" (arXiv 2502.03373) and of
    open-r1 scales: words in lower case, split at white space.

    Args:
        text: Any text.
        n: The length of an n-gram.
        unit: What it is made of; characters (white space left out) for text without spaces.

    Returns:
        0 for a text of fewer than ``n`` units.
    """
    words = text.lower().split()
    if unit == "words":
        numbers: dict[str, int] = {}
        packed = array("I", (numbers.setdefault(word, len(numbers)) for word in words)).tobytes()
        size = array("I").itemsize
    else:
        packed, size = "".join(words).encode("utf-32-le", "surrogatepass"), 4
    total = len(packed) // size - n + 1
    if total < 1:
        return 0.0
    starts = range(0, total * size, size)
    # Hashes of slices: a million tuples of a hundred words each are large, and slow to make.
    return 1.0 - len({hash(packed[start : start + n * size]) for start in starts}) / total


def loop_at_end(text: str) -> tuple[int, int]:
    """The longest end of a text that is one piece again and again.

    A piece must come ``LEAST_ROUNDS`` times, and all of it be ``LEAST_LOOP`` characters long; the
    last round may be cut off. Loops are looked for in the last ``LOOP_TAIL`` characters. The
    periods of all ends come from the failure function of the reversed text (Knuth, Morris and Pratt
    1977), in linear time.

    Returns:
        The length of the end and of the piece, in characters; ``(0, 0)`` without a loop.
    """
    tail = text[-LOOP_TAIL:][::-1]
    border = array("l", [0]) * len(tail)
    longest = (0, 0)
    matched = 0
    for index in range(1, len(tail)):
        while matched and tail[index] != tail[matched]:
            matched = border[matched - 1]
        if tail[index] == tail[matched]:
            matched += 1
        border[index] = matched
        length, period = index + 1, index + 1 - matched
        if length >= LEAST_LOOP and length >= LEAST_ROUNDS * period:
            longest = (length, period)
    length, period = longest
    if length == LOOP_TAIL:  # it may have begun before
        start = len(text) - length
        while start and text[start - 1] == text[start - 1 + period]:
            start -= 1
        longest = (len(text) - start, period)
    return longest


def compression_ratio(text: str) -> float:
    """Bytes of a text over bytes of its zlib compression; 0 for no text. Prose has about 2 to 3."""
    data = text.encode("utf-8", "surrogatepass")
    return len(data) / len(zlib.compress(data, 6)) if data else 0.0


@dataclass(frozen=True)
class Repetition:
    """See :func:`repetition_penalty`."""

    n: int
    max_penalty: float
    max_share: float
    unit: Unit
    bounded = True
    reads = ()

    def __call__(self, completion: str, row: Row) -> Score:
        """Score one completion; the row is not looked at."""
        share = ngram_repetition(completion, self.n, unit=self.unit)
        length, period = loop_at_end(completion)
        loop = length / len(completion) if completion else 0.0
        value = -self.max_penalty * max(share, loop)
        parts = {"ngrams": share, "loop": loop, "compression": compression_ratio(completion)}
        problems = [f"{share:.0%} of the {self.n}-grams repeat"] if share > self.max_share else []
        if length:
            problems.append(f"ends in a loop: {period} characters over and over for {length}")
        reason = "; ".join(problems)
        value = value or 0.0  # -0.0 would be written into files as it is
        return Score(value, not problems, "wrong" if problems else "correct", reason, parts)


def repetition_penalty(
    *,
    n: int = 3,
    max_penalty: float = 1.0,
    max_share: float = 0.5,
    unit: Unit = "words",
) -> Repetition:
    """0 for no repetition, down to ``-max_penalty``: repeated n-grams, or a loop at the end.

    The value is ``-max_penalty`` times the share of n-grams that occurred before (as in open-r1 and
    arXiv 2502.03373), or times the share of the text that is a loop at its end, whichever is more.
    The parts show both, and the compression ratio.

    Args:
        n: The length of an n-gram.
        max_penalty: What is taken off for nothing but repetition; 0 or more, for it is subtracted.
        max_share: The share of repeated n-grams up to which a completion passes; one that ends in
            a loop never does.
        unit: What n-grams are made of: ``words``, or ``characters`` for text without spaces.

    Raises:
        VerifierError: An unknown unit, or a number out of range.
    """
    check_one_of("repetition", "unit", unit, get_args(Unit))
    check_whole("repetition", n=n)
    if n > MAX_N:
        raise VerifierError(f"repetition: n is {n}; it must be a whole number from 1 to {MAX_N}")
    check_number("repetition", "max_penalty", max_penalty)
    check_number("repetition", "max_share", max_share, most=1)
    return Repetition(n, float(max_penalty), float(max_share), unit)
