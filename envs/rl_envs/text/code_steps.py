"""The operations that generated programming tasks are composed of.

Each says the same thing three times: in words, in Python source, and as a function that we trust to
give the expected values. The tests hold them against one another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Literal

Kind = Literal["number", "numbers", "text", "pair"]
KINDS: tuple[Kind, ...] = ("number", "numbers", "text", "pair")

LETTERS = "aeiorst"
VOWELS = "aeiou"


@dataclass(frozen=True, slots=True)
class Step:
    """One operation on a value.

    Attributes:
        name: Its name in compact questions and in the option ``families``.
        takes: What it is applied to; ``pair`` stands for the arguments x and y.
        gives: What it makes.
        words: An instruction in English, ``{k}`` for its constant.
        code: A Python expression; ``{x}`` stands for its operand, in parentheses where that is
            no single term; ``{a}`` for an operand that needs none.
        run: ``run(value, constant) -> value``.
        constants: What the constant may be: whole numbers or letters; empty where it has none.
        loose: Whether the expression needs parentheses as an operand of another.
    """

    name: str
    takes: Kind
    gives: Kind
    words: str
    code: str
    run: Callable[[Any, Any], Any]
    constants: range | str = ""
    loose: bool = False

    @property
    def binds(self) -> bool:
        """Whether the expression names its operand more than once."""
        return self.code.count("{x}") + self.code.count("{a}") > 1


_SMALL, _FEW, _FACTOR = range(1, 10), range(1, 5), range(2, 6)

PAIR_STEPS = (
    Step("plus", "pair", "number", "add x and y", "x + y", lambda v, _: v[0] + v[1], loose=True),
    Step(
        "minus", "pair", "number", "subtract y from x", "x - y", lambda v, _: v[0] - v[1],
        loose=True,
    ),
    Step(
        "times", "pair", "number", "multiply x by y", "x * y", lambda v, _: v[0] * v[1],
        loose=True,
    ),
    Step(
        "larger", "pair", "number", "take the larger of x and y", "max(x, y)",
        lambda v, _: max(v),
    ),
    Step(
        "smaller", "pair", "number", "take the smaller of x and y", "min(x, y)",
        lambda v, _: min(v),
    ),
    Step(
        "distance", "pair", "number", "take the absolute difference of x and y", "abs(x - y)",
        lambda v, _: abs(v[0] - v[1]),
    ),
    Step(
        "between", "pair", "numbers", "list the whole numbers from x up to, but without, y",
        "list(range(x, y))", lambda v, _: list(range(*v)),
    ),
)  # fmt: skip

NUMBER_STEPS = (
    Step("add", "number", "number", "add {k}", "{x} + {k}", lambda v, k: v + k, _SMALL, loose=True),
    Step(
        "subtract", "number", "number", "subtract {k}", "{x} - {k}", lambda v, k: v - k, _SMALL,
        loose=True,
    ),
    Step(
        "multiply", "number", "number", "multiply by {k}", "{x} * {k}", lambda v, k: v * k, _FACTOR,
        loose=True,
    ),
    Step(
        "divide", "number", "number", "divide by {k}, rounding down", "{x} // {k}",
        lambda v, k: v // k, _FACTOR, loose=True,
    ),
    Step(
        "remainder", "number", "number", "take the remainder of a division by {k}", "{x} % {k}",
        lambda v, k: v % k, range(2, 10), loose=True,
    ),
    Step("negate", "number", "number", "change the sign", "-{x}", lambda v, _: -v, loose=True),
    Step(
        "absolute", "number", "number", "take the absolute value", "abs({a})",
        lambda v, _: abs(v),
    ),
    Step("square", "number", "number", "square it", "{x} ** 2", lambda v, _: v * v, loose=True),
    Step(
        "at_least", "number", "number", "raise it to {k} if it is less", "max({a}, {k})",
        max, _SMALL,
    ),
    Step(
        "at_most", "number", "number", "lower it to {k} if it is more", "min({a}, {k})",
        min, _SMALL,
    ),
    Step(
        "halve_even", "number", "number", "halve it if it is even, else add {k}",
        "{x} // 2 if {x} % 2 == 0 else {x} + {k}",
        lambda v, k: v + k if v % 2 else v // 2, _SMALL, loose=True,
    ),
    Step(
        "double_below", "number", "number", "double it if it is less than {k}",
        "{x} * 2 if {x} < {k} else {x}",
        lambda v, k: v * 2 if v < k else v, _SMALL, loose=True,
    ),
    Step(
        "digit_sum", "number", "number", "add up its decimal digits (without the sign)",
        "sum(int(c) for c in str(abs({a})))", lambda v, _: sum(map(int, str(abs(v)))),
    ),
    Step(
        "digits", "number", "numbers", "list its decimal digits (without the sign)",
        "[int(c) for c in str(abs({a}))]", lambda v, _: list(map(int, str(abs(v)))),
    ),
    Step(
        "count_up", "number", "numbers", "list the whole numbers from 0 up to, but without, it",
        "list(range({a}))", lambda v, _: list(range(v)),
    ),
    Step("write", "number", "text", "write it as a string", "str({a})", lambda v, _: str(v)),
)  # fmt: skip

NUMBERS_STEPS = (
    Step(
        "add_each", "numbers", "numbers", "add {k} to every element", "[i + {k} for i in {a}]",
        lambda v, k: [i + k for i in v], _SMALL,
    ),
    Step(
        "multiply_each", "numbers", "numbers", "multiply every element by {k}",
        "[i * {k} for i in {a}]", lambda v, k: [i * k for i in v], _FACTOR,
    ),
    Step(
        "remainder_each", "numbers", "numbers",
        "replace every element by its remainder after division by {k}", "[i % {k} for i in {a}]",
        lambda v, k: [i % k for i in v], range(2, 10),
    ),
    Step(
        "negate_each", "numbers", "numbers", "change the sign of every element",
        "[-i for i in {a}]", lambda v, _: [-i for i in v],
    ),
    Step(
        "square_each", "numbers", "numbers", "square every element", "[i ** 2 for i in {a}]",
        lambda v, _: [i * i for i in v],
    ),
    Step(
        "above", "numbers", "numbers", "keep the elements greater than {k}",
        "[i for i in {a} if i > {k}]", lambda v, k: [i for i in v if i > k], _SMALL,
    ),
    Step(
        "below", "numbers", "numbers", "keep the elements less than {k}",
        "[i for i in {a} if i < {k}]", lambda v, k: [i for i in v if i < k], _SMALL,
    ),
    Step(
        "evens", "numbers", "numbers", "keep the even elements",
        "[i for i in {a} if i % 2 == 0]", lambda v, _: [i for i in v if not i % 2],
    ),
    Step(
        "odds", "numbers", "numbers", "keep the odd elements",
        "[i for i in {a} if i % 2 == 1]", lambda v, _: [i for i in v if i % 2],
    ),
    Step(
        "multiples", "numbers", "numbers", "keep the multiples of {k}",
        "[i for i in {a} if i % {k} == 0]", lambda v, k: [i for i in v if not i % k], range(3, 6),
    ),
    Step("sort", "numbers", "numbers", "sort it", "sorted({a})", lambda v, _: sorted(v)),
    Step(
        "sort_down", "numbers", "numbers", "sort it from largest to smallest",
        "sorted({a}, reverse=True)", lambda v, _: sorted(v, reverse=True),
    ),
    Step("reverse", "numbers", "numbers", "reverse it", "{x}[::-1]", lambda v, _: v[::-1]),
    Step(
        "first", "numbers", "numbers", "keep the first {k} elements", "{x}[:{k}]",
        lambda v, k: v[:k], _FEW,
    ),
    Step(
        "skip", "numbers", "numbers", "drop the first {k} elements", "{x}[{k}:]",
        lambda v, k: v[k:], _FEW,
    ),
    Step(
        "last", "numbers", "numbers", "keep the last {k} elements", "{x}[-{k}:]",
        lambda v, k: v[-k:], _FEW,
    ),
    Step(
        "every_other", "numbers", "numbers", "keep every second element, beginning with the first",
        "{x}[::2]", lambda v, _: v[::2],
    ),
    Step(
        "append", "numbers", "numbers", "put {k} at the end", "{x} + [{k}]",
        lambda v, k: [*v, k], _SMALL, loose=True,
    ),
    Step(
        "distinct", "numbers", "numbers", "drop elements that occurred before",
        "list(dict.fromkeys({a}))", lambda v, _: list(dict.fromkeys(v)),
    ),
    Step(
        "running", "numbers", "numbers", "replace it by its running sums",
        "[sum({x}[:i + 1]) for i in range(len({a}))]", lambda v, _: list(accumulate(v)),
    ),
    Step(
        "differences", "numbers", "numbers",
        "replace it by the differences of neighbours, each element minus the one before",
        "[j - i for i, j in zip({a}, {x}[1:])]", lambda v, _: [j - i for i, j in pairwise(v)],
    ),
    Step("total", "numbers", "number", "take the sum", "sum({a})", lambda v, _: sum(v)),
    Step("count", "numbers", "number", "count the elements", "len({a})", lambda v, _: len(v)),
    Step(
        "largest", "numbers", "number", "take the largest element (0 if there is none)",
        "max({a}, default=0)", lambda v, _: max(v, default=0),
    ),
    Step(
        "smallest", "numbers", "number", "take the smallest element (0 if there is none)",
        "min({a}, default=0)", lambda v, _: min(v, default=0),
    ),
    Step(
        "count_of", "numbers", "number", "count how often {k} occurs", "{x}.count({k})",
        lambda v, k: v.count(k), _SMALL,
    ),
    Step(
        "join", "numbers", "text", "join the elements to a string with '-' between them",
        "'-'.join(map(str, {a}))", lambda v, _: "-".join(map(str, v)),
    ),
)  # fmt: skip

TEXT_STEPS = (
    Step("upper", "text", "text", "make it upper case", "{x}.upper()", lambda v, _: v.upper()),
    Step("lower", "text", "text", "make it lower case", "{x}.lower()", lambda v, _: v.lower()),
    Step(
        "swap_case", "text", "text", "swap upper and lower case", "{x}.swapcase()",
        lambda v, _: v.swapcase(),
    ),
    Step("backwards", "text", "text", "reverse the string", "{x}[::-1]", lambda v, _: v[::-1]),
    Step(
        "head", "text", "text", "keep the first {k} characters", "{x}[:{k}]",
        lambda v, k: v[:k], range(2, 7),
    ),
    Step(
        "tail", "text", "text", "drop the first {k} characters", "{x}[{k}:]",
        lambda v, k: v[k:], _FEW,
    ),
    Step(
        "repeat", "text", "text", "write it {k} times", "{x} * {k}",
        lambda v, k: v * k, range(2, 4), loose=True,
    ),
    Step(
        "remove", "text", "text", "remove every '{k}'", "{x}.replace('{k}', '')",
        lambda v, k: v.replace(k, ""), LETTERS,
    ),
    Step(
        "end_with", "text", "text", "put '{k}' at the end", "{x} + '{k}'",
        lambda v, k: v + k, LETTERS, loose=True,
    ),
    Step(
        "sort_letters", "text", "text", "sort the characters", "''.join(sorted({a}))",
        lambda v, _: "".join(sorted(v)),
    ),
    Step(
        "no_vowels", "text", "text", "remove the lower-case vowels",
        "''.join(c for c in {a} if c not in 'aeiou')",
        lambda v, _: "".join(c for c in v if c not in VOWELS),
    ),
    Step("length", "text", "number", "count the characters", "len({a})", lambda v, _: len(v)),
    Step(
        "count_letter", "text", "number", "count how often '{k}' occurs", "{x}.count('{k}')",
        lambda v, k: v.count(k), LETTERS,
    ),
    Step(
        "vowels", "text", "number", "count the lower-case vowels",
        "sum(c in 'aeiou' for c in {a})", lambda v, _: sum(c in VOWELS for c in v),
    ),
    Step(
        "words", "text", "number", "count the words", "len({x}.split())",
        lambda v, _: len(v.split()),
    ),
    Step(
        "word_lengths", "text", "numbers", "list the lengths of the words",
        "[len(w) for w in {x}.split()]", lambda v, _: [len(w) for w in v.split()],
    ),
)  # fmt: skip

STEPS: dict[str, Step] = {
    step.name: step for step in (*PAIR_STEPS, *NUMBER_STEPS, *NUMBERS_STEPS, *TEXT_STEPS)
}
"""Every operation by its name."""
