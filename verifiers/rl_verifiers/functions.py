"""Functions of an answer: how their arguments are read, and the nodes that they make."""

from __future__ import annotations

from rl_verifiers.expressions import Node, UnparsableError, num
from rl_verifiers.matrices import EnvironmentParser
from rl_verifiers.operators import (
    ALIASES,
    ARGUMENT,
    IMPLICIT,
    UNARY,
    quotient_of_logarithms,
)
from rl_verifiers.series import series


class FunctionParser(EnvironmentParser):
    """Reads functions, roots and sums; a mixin for a parser that reads expressions."""

    def _function(self, name: str) -> Node:
        if name in ("sqrt", "binom"):
            return self._root() if name == "sqrt" else self._binomial()
        base = num(10) if name == "lg" else None
        name, exponent = ALIASES.get(name, name), None
        for _ in range(2):
            if self._peek_value() == "_" and base is None:
                self._position += 1
                base = self._group()
            elif self._peek_value() == "^" and exponent is None:
                self._position += 1
                exponent = self._group()
        inside = self._argument()
        arguments = inside.args if inside.op in ("tuple", "set", "list") else (inside,)
        if name == "cis":
            return turn(inside)
        if name == "log" and (base is not None or len(arguments) == 2):
            node = quotient_of_logarithms(arguments[0], base or arguments[1])
        else:
            is_name = name == "det" and inside.op != "matrix"
            node = Node("apply" if is_name else "func", arguments, "ln" if name == "log" else name)
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

    def _binomial(self) -> Node:
        return Node("func", (self._group(), self._group()), "binom")

    def _root(self) -> Node:
        degree = num(2)
        if self._peek_value() == "[":
            self._position += 1
            degree = self._expression(0)
            self._expect("]")
        return Node("func", (self._group(), degree), "root")

    def _series(self, name: str) -> Node:
        """A sum or product between two bounds, term by term where they are small numbers."""
        bounds: dict[str, Node] = {}
        for _ in range(2):
            mark = self._next().value
            if mark not in ("_", "^"):
                raise UnparsableError(f"a {name} without bounds")
            bounds[mark] = self._group()
        low, high = bounds.get("_"), bounds.get("^")
        if low is None or high is None or low.op != "rel" or low.args[0].op != "sym":
            raise UnparsableError(f"a {name} without bounds")
        body = self._expression(50 if name == "sum" else IMPLICIT)
        return series(name, body, (low.args[0], low.args[1], high))

    def _group(self) -> Node:
        """An argument: a group in braces or parentheses, or one token."""
        if self._peek_value() == "-":
            self._position += 1
            return Node("neg", (self._group(),))
        return self._expression(94)


def turn(angle: Node) -> Node:
    """``cis`` of an angle: its cosine and i times its sine."""
    sine = Node("mul", (Node("const", value="i"), Node("func", (angle,), "sin")))
    return Node("add", (Node("func", (angle,), "cos"), sine))
