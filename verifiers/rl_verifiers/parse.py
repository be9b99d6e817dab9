r"""Read an answer: LaTeX and ASCII mathematics into a tree, by operator precedence.

A Pratt parser (V. Pratt, "Top down operator precedence", 1973) over a fixed set of tokens. Nothing
of the text is evaluated or looked up by name anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

from rl_verifiers.cursor import Cursor
from rl_verifiers.expressions import (
    MAX_NESTING,
    MAX_NODES,
    Node,
    OverLimitError,
    UnparsableError,
    check_depth,
    num,
)
from rl_verifiers.operators import (
    ALIASES,
    APPLIED,
    ARGUMENT,
    BINARY,
    CLOSING,
    CURRENCY,
    IMPLICIT,
    MATRICES,
    POSTFIX,
    POWER,
    RELATIONS,
    SEPARATORS,
    SIGNS,
    UNARY,
    joined,
    natural,
    plain,
    product,
    quotient_of_logarithms,
)
from rl_verifiers.phrases import folded_words
from rl_verifiers.quantities import MAX_EXPONENT, normalised
from rl_verifiers.tokens import Token, tokens

_BASED = re.compile(
    r"(?:\\(?:text|mathrm)\s?\{\s?([0-9A-Za-z]{1,200})\s?\}|([0-9A-Z]{1,200}))\s?_\s?"
    r"\{?\s?(?:\\text\s?\{)?\s?([0-9]{1,2})\s?\}{0,2}"
)


def parse_answer(text: str) -> Node:
    """The tree of an answer.

    Raises:
        UnparsableError: It is not mathematics, text or a list of those as we read them.
        OverLimitError: It is too long, too deep or has too many parts.
    """
    text = normalised(text)
    based = _BASED.fullmatch(text)
    if based is not None:
        return _based(based[1] or based[2], int(based[3]))
    words = folded_words(text)
    if words is not None:
        return Node("text", value=words)
    try:
        node = _Parser(tokens(text)).answer()
        check_depth(node)
        return node
    except RecursionError:
        raise OverLimitError("nested too deeply") from None


def _based(digits: str, base: int) -> Node:
    try:
        int(digits, base)
    except ValueError:
        raise UnparsableError(f"{digits!r:.20} is not a number in base {base}") from None
    return Node("based", value=(digits.upper().lstrip("0") or "0", base))


class _Parser(Cursor):
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
        if token.value == "end" and token.kind == "cmd":
            return 0
        if token.kind == "op" and token.value not in ("(", "[", "{", "{{", "⟨", "|", "⌊", "⌈"):
            return 0
        return 0 if token.value == "|" and self._bars else IMPLICIT

    def _infix(self, left: Node, token: Token, binding: int) -> Node:
        value = token.value
        if token.kind == "word":
            return self._unit(left)
        if token.kind not in ("op", "sep") or value not in POWER:
            return self._implicit(left, token)
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
        if base.op == "unit" and base.value not in "°%$€£":
            return Node("unit", base.args, f"{base.value}^{plain(exponent)}")
        return Node("pow", (base, exponent))

    def _script(self, left: Node, mark: str) -> Node:
        if mark == "^":
            return self._power(left)
        if left.op == "num" and left.value.denominator == 1:
            base = self._expression(95)
            if base.op == "num" and 2 <= base.value <= 36:
                return _based(str(left.value), int(base.value))
        raise UnparsableError("a subscript that is neither a base nor part of a name")

    def _unit(self, left: Node) -> Node:
        words = [self._next().value]
        while (token := self._peek()) is not None and token.kind == "word":
            words.append(self._next().value)
        unit = " ".join(words)
        for prefix, suffix in (("square ", "^2"), ("cubic ", "^3")):
            if unit.startswith(prefix):
                unit = unit.removeprefix(prefix) + suffix
        return Node("unit", (left,), unit)

    def _implicit(self, left: Node, token: Token) -> Node:
        mixed = left.op == "num" and left.value.denominator == 1 and token.value == "frac"
        if left.op == "num" and token.kind == "num":
            raise UnparsableError("two numbers side by side")
        right = self._expression(IMPLICIT)
        if mixed and right.op == "div" and all(natural(part) for part in right.args):
            return Node("add", (left, right))
        if mixed and right.op == "unit" and right.args[0].op == "div":
            return Node("unit", (Node("add", (left, right.args[0])),), right.value)
        return product(left, right)

    # Prefixes.

    def _number(self, literal: str) -> Node:
        mantissa, _, exponent = literal.lower().partition("e")
        if exponent and abs(int(exponent)) > MAX_EXPONENT:
            raise OverLimitError(f"an exponent above {MAX_EXPONENT}")
        whole, _, decimals = mantissa.partition(".")
        value = Fraction(int((whole + decimals) or "0"), 10 ** len(decimals))
        value *= Fraction(10) ** int(exponent or 0)
        following = self._peek_value()
        if following in ("overline", "bar", "dot") and not exponent:
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

    def _function(self, name: str) -> Node:
        if name == "sqrt":
            return self._root()
        if name == "binom":
            return Node("func", (self._group(), self._group()), "binom")
        name = ALIASES.get(name, name)
        base = exponent = None
        for _ in range(2):
            if self._peek_value() == "_" and base is None:
                self._position += 1
                base = self._group()
            elif self._peek_value() == "^" and exponent is None:
                self._position += 1
                exponent = self._group()
        inside = self._argument()
        arguments = inside.args if inside.op == "tuple" else (inside,)
        if name == "log" and (base is not None or len(arguments) == 2):
            node = quotient_of_logarithms(arguments[0], base or arguments[1])
        else:
            node = Node("func", arguments, "ln" if name == "log" else name)
        if exponent is None:
            return node
        if exponent == Node("neg", (num(1),)) and f"arc{name}" in ("arcsin", "arccos", "arctan"):
            return Node("func", arguments, f"arc{name}")
        return Node("pow", (node, exponent))

    def _argument(self) -> Node:
        """What a function without parentheses takes: ``sin 2x cos x`` is ``sin(2x) cos(x)``."""
        if self._peek_value() in ("(", "{", "[", "|", "{{"):
            return self._expression(94)
        if self._peek_value() == "-":
            return self._expression(UNARY)
        node = self._expression(ARGUMENT)
        while (token := self._peek()) is not None and token.kind in ("num", "sym", "const", "cmd"):
            node = Node("mul", (node, self._expression(ARGUMENT)))
        return node

    def _root(self) -> Node:
        degree = num(2)
        if self._peek_value() == "[":
            self._position += 1
            degree = self._expression(0)
            self._expect("]")
        return Node("func", (self._group(), degree), "root")

    def _command(self, name: str) -> Node:
        if name == "frac":
            return Node("div", (self._group(), self._group()))
        if name == "begin":
            return self._environment()
        if name == "operatorname":
            return self._function(self._raw_group())
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
        return Node("func", (node,), "abs")

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
        items = node.args if node.op == "list" else (node,)
        if opening == "{{":
            return Node("set", items)
        if opening in "⌊⌈":
            return Node("func", (node,), "floor" if opening == "⌊" else "ceil")
        brackets = "()" if opening == "⟨" else opening + closing
        if len(items) == 1 and brackets in ("()", "[]") and opening != "⟨":
            return node
        return Node("tuple", items, brackets)

    def _environment(self) -> Node:
        name = self._raw_group().strip("*")
        if name == "array":
            self._raw_group()
        rows: list[Node] = []
        cells: list[Node] = []
        while True:
            value = self._peek_value()
            if value in ("&", "\\\\", "end"):
                self._position += 1
                if value != "&" and cells:
                    rows.append(Node("row", tuple(cells)))
                    cells = []
                if value == "end":
                    break
            elif value == "," and name == "cases":
                self._position += 1
            else:
                cells.append(self._expression(20 if name == "cases" else 0))
        if self._raw_group().strip("*") != name or not rows:
            raise UnparsableError("an environment without its end")
        if name == "cases":
            return Node("list", tuple(row.args[0] for row in rows))
        if name not in MATRICES:
            raise UnparsableError(f"unknown environment {name:.20}")
        if len({len(row.args) for row in rows}) != 1:
            raise UnparsableError("rows of different lengths")
        matrix = Node("matrix", tuple(rows))
        return Node("func", (matrix,), "det") if name == "vmatrix" else matrix

    def _group(self) -> Node:
        """An argument: a group in braces or parentheses, or one token."""
        if self._peek_value() == "-":
            self._position += 1
            return Node("neg", (self._group(),))
        return self._expression(94)
