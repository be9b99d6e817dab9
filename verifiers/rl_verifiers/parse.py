r"""Read an answer: LaTeX and ASCII mathematics into a tree, by operator precedence.

A Pratt parser (V. Pratt, "Top down operator precedence", 1973) over a fixed set of tokens. Nothing
of the text is evaluated or looked up by name anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

from rl_verifiers import units
from rl_verifiers.expressions import (
    MAX_CHARACTERS,
    MAX_NESTING,
    MAX_NODES,
    Node,
    OverLimitError,
    UnparsableError,
    check_depth,
    num,
)
from rl_verifiers.forms import based, special
from rl_verifiers.functions import FunctionParser, turn
from rl_verifiers.notation import rewritten
from rl_verifiers.operators import (
    APPLIED,
    ARGUMENT,
    BINARY,
    CLOSING,
    CURRENCY,
    IMPLICIT,
    POSTFIX,
    POWER,
    RELATIONS,
    SEPARATORS,
    SIGNS,
    UNARY,
    joined,
    natural,
    product,
)
from rl_verifiers.phrases import folded_words
from rl_verifiers.quantities import MAX_EXPONENT, normalised
from rl_verifiers.tokens import Token, tokens

_GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+")


def parse_answer(text: str) -> Node:
    """The tree of an answer.

    Raises:
        UnparsableError: It is not mathematics, text or a list of those as we read them.
        OverLimitError: It is too long, too deep or has too many parts.
    """
    if len(text) > MAX_CHARACTERS:
        raise OverLimitError(f"an answer of more than {MAX_CHARACTERS} characters")
    text = rewritten(normalised(text))
    node = special(text, parse_answer)
    if node is not None:
        return node
    words = folded_words(text)
    if words is not None:
        return Node("text", value=words)
    try:
        node = _Parser(tokens(text)).answer()
        check_depth(node)
    except RecursionError:
        raise OverLimitError("nested too deeply") from None
    if node.op == "num" and _GROUPED.fullmatch(text):  # a list where the reference is one
        return node._replace(args=tuple(num(int(part)) for part in text.split(",")))
    return node


_RUN_TOGETHER = {"ms": ("m", "s"), "kmh": ("km", "h"), "kph": ("km", "h"), "Nm": ("N", "m")}
"""Products of units whose last one has a negative exponent: ``9.8 ms^{-2}``."""
_INFIX = {"over": 5, "choose": 5, "end": 0}


class _Parser(FunctionParser):
    """One reading of one list of tokens."""

    def __init__(self, source: list[Token]) -> None:
        super().__init__(source)
        self._depth = 0
        self._bars = 0
        self._nodes = 0

    def answer(self) -> Node:
        node = self._expression(0)
        if self._peek() is not None:
            raise UnparsableError(f"cannot read {self._peek_value()!r} here")
        return node

    # The two halves of the method: a prefix, then whatever binds more tightly than `power`.

    def _expression(self, power: int) -> Node:
        self._depth += 1
        if self._depth > MAX_NESTING:
            raise OverLimitError(f"nested deeper than {MAX_NESTING}")
        left = self._prefix()
        while (token := self._peek()) is not None:
            binding = self._binding(token)
            if binding <= power:
                break
            left = self._infix(left, token, binding)
            self._nodes += 1
            if self._nodes > MAX_NODES:
                raise OverLimitError(f"more than {MAX_NODES} parts")
        self._depth -= 1
        return left

    def _binding(self, token: Token) -> int:
        if token.value in POWER and token.kind in ("op", "sep"):
            starts_value = token.value in CURRENCY and self._peek_value(1)[:1].isdigit()
            return 0 if starts_value else POWER[token.value]
        if token.kind == "word":
            return ARGUMENT
        if token.kind == "cmd" and token.value in _INFIX:
            return _INFIX[token.value]
        if token.kind == "op" and token.value not in ("(", "[", "{", "{{", "⟨", "|", "⌊", "⌈"):
            return 0
        return 0 if token.value == "|" and self._bars else IMPLICIT

    def _infix(self, left: Node, token: Token, binding: int) -> Node:
        value = token.value
        if token.kind == "word":
            return self._unit(left)
        if token.kind not in ("op", "sep") or value not in POWER:
            is_infix = token.kind == "cmd" and value in _INFIX
            return self._over(left, value) if is_infix else self._implicit(left, token)
        self._position += 1
        if value in BINARY:
            return BINARY[value](left, self._expression(binding))
        if value in POSTFIX:
            return POSTFIX[value](left)
        if value in SEPARATORS:
            return self._list(left, binding)
        return self._relation(left, value) if value in RELATIONS else self._script(left, value)

    def _prefix(self) -> Node:
        token = self._next()
        rules: dict[str, Callable[[str], Node]] = {
            "num": self._number,
            "sym": self._symbol,
            "const": lambda value: Node("const", value=value),
            "word": self._words,
            "func": self._function,
            "cmd": self._command,
        }
        return rules.get(token.kind, self._operator)(token.value)

    def _operator(self, value: str) -> Node:
        if value in SIGNS:
            return SIGNS[value](self._expression(UNARY))
        if value == "{":
            return self._braces()
        if value == "|":
            return self._absolute()
        if value in CLOSING:
            return self._brackets(value)
        if value == "…":
            return Node("sym", value="…")
        raise UnparsableError(f"cannot read {value!r} here")

    # Operators with a rule of their own.

    def _list(self, left: Node, binding: int) -> Node:
        items, separators = [left], {self._peek_value(-1)}
        while True:
            while self._peek_value() in SEPARATORS:
                separators.add(self._next().value)
            following = self._peek()
            if following is None or following.value in (")", "]", "}", "}}"):
                break
            items.append(self._expression(binding))
            if POWER.get(self._peek_value(), 0) != binding:
                break
            separators.add(self._next().value)
        return joined(tuple(items), separators) if len(items) > 1 else left

    def _relation(self, left: Node, operator: str) -> Node:
        right = self._expression(30)
        if left.op == "rel":
            return Node("rel", (*left.args, right), (*left.value, operator))
        return Node("rel", (left, right), (operator,))

    def _power(self, base: Node) -> Node:
        if self._peek_value() == "°":
            self._position += 1
            return Node("unit", (base,), "°")
        if self._peek_value() == "{" and self._peek_value(1) == "°" and self._peek_value(2) == "}":
            self._position += 3
            return Node("unit", (base,), "°")
        exponent = self._expression(79)
        if base.op == "unit" and base.value not in ("°", "%", *CURRENCY):
            return base._replace(value=units.powered(base.value, int(_integer(exponent) or 1)))
        return Node("pow", (base, exponent))

    def _script(self, left: Node, mark: str) -> Node:
        if mark == "^":
            return self._power(left)
        if left.op == "num" and left.value.denominator == 1:
            base = self._expression(95)
            if base.op == "num" and 2 <= base.value <= 36:
                return based(str(left.value), int(base.value))
        raise UnparsableError("a subscript that is neither a base nor part of a name")

    def _unit(self, left: Node) -> Node:
        words: list[tuple[str, int]] = []
        while (token := self._peek()) is not None and token.kind == "word":
            word, exponent = self._next().value, 1
            if self._peek_value() == "^":
                self._position += 1
                exponent = _integer(self._expression(79)) or 1
            if exponent < 0 and word in _RUN_TOGETHER:
                words.extend((first, 1) for first in _RUN_TOGETHER[word][:-1])
                word = _RUN_TOGETHER[word][-1]
            if word.casefold() in units.MULTIPLIERS and not words:
                left = product(left, num(units.MULTIPLIERS[word.casefold()]))
            else:
                words.append((word, exponent))
        if not words:
            return left
        unit = units.phrase(words)
        if left.op == "unit" and unit.startswith("?"):  # "15 % increase"
            return left
        return Node("unit", (left,), unit)

    def _over(self, left: Node, command: str) -> Node:
        self._position += 1
        pair = (left, self._expression(_INFIX[command]))
        return Node("div", pair) if command == "over" else Node("func", pair, "binom")

    def _implicit(self, left: Node, token: Token) -> Node:
        whole = left.op == "num" and left.value.denominator == 1
        if left.op == "num" and token.kind == "num":
            return self._mixed(left, token)
        if token.value == "angle" and self._peek_value(1)[:1].isdigit():
            self._position += 1
            return product(left, turn(self._expression(ARGUMENT)))
        right = self._expression(IMPLICIT)
        is_fraction = right.op == "div" and all(map(natural, right.args))
        if whole and token.value in ("frac", "{") and is_fraction:
            return Node("add", (left, right))
        if whole and token.value == "frac" and right.op == "unit" and right.args[0].op == "div":
            return Node("unit", (Node("add", (left, right.args[0])),), right.value)
        return product(left, right)

    def _mixed(self, left: Node, token: Token) -> Node:
        """``2 3/4``: a whole number and a proper fraction of two."""
        top = self._prefix()
        if token.space and self._peek_value() == "/" and natural(left) and natural(top):
            self._position += 1
            bottom = self._prefix()
            if natural(bottom) and top.value < bottom.value:
                return Node("add", (left, Node("div", (top, bottom))))
        raise UnparsableError("two numbers side by side")

    # Prefixes.

    def _number(self, literal: str) -> Node:
        mantissa, _, exponent = literal.lower().partition("e")
        if exponent and abs(int(exponent)) > MAX_EXPONENT:
            raise OverLimitError(f"an exponent above {MAX_EXPONENT}")
        whole, _, decimals = mantissa.partition(".")
        value = Fraction(int((whole + decimals) or "0"), 10 ** len(decimals))
        value *= Fraction(10) ** int(exponent or 0)
        following = self._peek_value()
        if following in ("overline", "bar") and not exponent:
            self._position += 1
            return self._repeating(value, len(decimals))
        return Node("num", value=value)

    def _repeating(self, value: Fraction, places: int) -> Node:
        """A period p of n digits after k decimals adds p / (10^k (10^n - 1))."""
        digits = self._raw_group()
        if not digits.isdigit() or len(digits) > 100:
            raise UnparsableError("a repeating part that is not digits")
        return num(value + Fraction(int(digits), 10**places * (10 ** len(digits) - 1)))

    def _symbol(self, name: str) -> Node:
        if name in ("angle", "triangle"):
            letters = []
            while (token := self._peek()) is not None and token.kind in ("sym", "const"):
                letters.append(self._next().value)
            return Node("sym", value=f"{name} {''.join(letters)}")
        if self._peek_value() == "_":
            self._position += 1
            name = f"{name}_{self._raw_group()}"
        while self._peek_value() == "'":
            self._position += 1
            name += "'"
        if name[0] in APPLIED and self._peek_value() == "(":
            inside = self._expression(94)
            return Node("apply", inside.args if inside.op == "tuple" else (inside,), name)
        return Node("sym", value=name)

    def _words(self, first: str) -> Node:
        words = [first]
        while (following := self._peek()) is not None and following.kind == "word":
            words.append(self._next().value)
        return Node("text", value=" ".join(words))

    def _command(self, name: str) -> Node:
        if name == "frac":
            return Node("div", (self._group(), self._group()))
        if name == "begin":
            return self._environment()
        if name in ("sum", "prod"):
            return self._series(name)
        if name in ("overline", "bar"):
            return Node("sym", value=self._raw_group())
        raise UnparsableError(f"cannot read \\{name} here")

    def _braces(self) -> Node:
        if self._peek_value() == "}":
            self._position += 1
            raise UnparsableError("an empty group")
        node = self._expression(0)
        self._expect("}")
        return node

    def _absolute(self) -> Node:
        self._bars += 1
        node = self._expression(0)
        self._bars -= 1
        self._expect("|")
        return Node("func", (node,), "det" if node.op == "matrix" else "abs")

    def _brackets(self, opening: str) -> Node:
        bars, self._bars = self._bars, 0
        if opening == "{{" and self._peek_value() == "}}":
            self._position += 1
            return Node("const", value="empty")
        node = self._expression(0)
        self._bars = bars
        closing = self._next().value
        if closing not in CLOSING[opening] or not closing:
            raise UnparsableError(f"{opening!r} is not closed")
        if node.op == "list" and node.value == "or" and opening in "([":
            return node
        items = node.args if node.op == "list" else (node,)
        if opening == "{{":
            return Node("set", items)
        if opening in "⌊⌈":
            return Node("func", (node,), "floor" if opening == "⌊" else "ceil")
        brackets = "()" if opening == "⟨" else opening + closing
        if len(items) == 1 and brackets in ("()", "[]") and opening != "⟨":
            return node
        return Node("tuple", items, brackets)


def _integer(node: Node) -> int | None:
    if node.op == "neg":
        value = _integer(node.args[0])
        return None if value is None else -value
    return int(node.value) if node.op == "num" and node.value.denominator == 1 else None
