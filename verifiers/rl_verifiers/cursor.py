"""A position in a list of tokens."""

from __future__ import annotations

from rl_verifiers.expressions import UnparsableError
from rl_verifiers.tokens import Token


class Cursor:
    """Reads tokens one after the other, for a parser that is made of it."""

    def __init__(self, source: list[Token]) -> None:
        self._tokens = source
        self._position = 0

    def _raw_group(self) -> str:
        """The text of a group in braces, or one token, as a name."""
        token = self._next()
        if token.value != "{":
            return token.value
        parts: list[str] = []
        while (token := self._next()).value != "}":
            parts.append(token.value)
            if token.value == "{" or len(parts) > 40:
                raise UnparsableError("a subscript too complex")
        return "".join(parts)

    def _peek(self) -> Token | None:
        return self._tokens[self._position] if self._position < len(self._tokens) else None

    def _peek_value(self, ahead: int = 0) -> str:
        index = self._position + ahead
        return self._tokens[index].value if index < len(self._tokens) else ""

    def _next(self) -> Token:
        if self._position >= len(self._tokens):
            raise UnparsableError("it ends too early")
        self._position += 1
        return self._tokens[self._position - 1]

    def _expect(self, value: str) -> None:
        if self._next().value != value:
            raise UnparsableError(f"{value!r} is missing")
