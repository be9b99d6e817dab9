"""Split a normalised answer into tokens: LaTeX and ASCII mathematics, words and units."""

from __future__ import annotations

import re
from typing import NamedTuple

from rl_verifiers.expressions import MAX_CHARACTERS, OverLimitError, UnparsableError
from rl_verifiers.quantities import MAX_DIGITS

FUNCTIONS = frozenset(
    """sin cos tan sec csc cot arcsin arccos arctan asin acos atan sinh cosh tanh ln log lg exp sqrt
    cbrt abs floor ceil binom gcd factorial""".split()  # noqa: SIM905 - easier to read as words
)
_GREEK = frozenset(
    """alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi
    rho sigma tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi
    Psi Omega ell hbar angle triangle""".split()  # noqa: SIM905 - easier to read as words
)
_CONSTANTS = {
    "pi": "pi", "infty": "inf", "infinity": "inf", "oo": "inf", "emptyset": "empty",
    "varnothing": "empty", "e": "e", "i": "i", "I": "i",
}  # fmt: skip
_OPERATORS = {
    "times": "*", "cdot": "*", "ast": "*", "div": "/", "pm": "±", "mp": "∓", "le": "≤", "leq": "≤",
    "leqslant": "≤", "ge": "≥", "geq": "≥", "geqslant": "≥", "ne": "≠", "neq": "≠", "lt": "<",
    "gt": ">", "cup": "∪", "cap": "∩", "setminus": "∖", "backslash": "∖", "in": "∈", "approx": "≈",
    "equiv": "=", "colon": ":", "mid": "|", "vert": "|", "lvert": "|", "rvert": "|", "langle": "⟨",
    "rangle": "⟩", "lfloor": "⌊", "rfloor": "⌋", "lceil": "⌈", "rceil": "⌉", "and": "and",
    "lor": "or", "land": "and", "vee": "or", "to": "→", "Rightarrow": "→", "rightarrow": "→",
    "circ": "°", "degree": "°", "prime": "'",
}  # fmt: skip
_SPELT = {"**": "^", "<=": "≤", ">=": "≥", "!=": "≠", "==": "=", "\\{": "{{", "\\}": "}}",
          "\\|": "|", "[": "[", "...": "…"}  # fmt: skip
_KEPT_COMMANDS = frozenset(("frac", "begin", "end", "overline", "bar", "dot", "operatorname"))
_TEXT_COMMAND = (
    r"\\(?:text(?:bf|it|rm|normal)?|math(?:rm|bf|it|sf|bb|cal)|mbox|hbox|boldsymbol|vec|hat)"
)
WORDS = frozenset(("yes", "no", "odd", "even", "true", "false", "none"))

UNITS = {
    "cm": "cm", "mm": "mm", "km": "km", "kg": "kg", "mg": "mg", "ml": "ml", "mph": "mph",
    "ft": "ft", "lb": "lb", "lbs": "lb", "oz": "oz", "hr": "hour", "hrs": "hour", "min": "minute",
    "sec": "second", "pm": "pm", "am": "am", "pct": "%", "percent": "%", "percentage": "%",
    "degrees": "°", "degree": "°", "dollars": "$", "dollar": "$", "usd": "$", "cents": "cent",
    "euros": "€", "euro": "€", "pounds": "pound", "centimeters": "cm", "centimeter": "cm",
    "centimetres": "cm", "meters": "m", "meter": "m", "metres": "m", "kilometers": "km",
    "kilometer": "km", "millimeters": "mm", "inches": "inch", "inch": "inch", "feet": "ft",
    "foot": "ft", "square": "square", "cubic": "cubic", "sq": "square", "units": "unit",
    "kilograms": "kg", "grams": "g", "hours": "hour", "minutes": "minute", "seconds": "second",
    "weeks": "week", "days": "day", "years": "year", "miles": "mile", "radians": "rad",
    "deg": "°", "rad": "rad",
}  # fmt: skip


class Token(NamedTuple):
    """``kind`` is num, func, const, sym, word, cmd, env, sep, or op; ``space``: space before it."""

    kind: str
    value: str
    space: bool = False


_TOKEN = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<num>\d{1,3}(?:,\d{3})+(?![\d,])(?:\.\d+)?|\d+\.(?=\s*\\(?:overline|bar|dot))|\d+(?:\.\d+)?(?:[eE][-+]?\d{1,5}(?![\w.]))?|\.\d+)"
    r"|(?P<textual>" + _TEXT_COMMAND + r"(?![a-zA-Z])\s*\{(?P<inside>[^{}]*)\})"
    r"|\\(?P<cmd>[a-zA-Z]+)"
    r"|(?P<name>[^\W\d_]+)"
    r"|(?P<newline>\\\\)"
    r"|(?P<spelt>\*\*|<=|>=|!=|==|\\[{}|]|\.\.\.|\\&)"
    r"|(?P<op>[-+*/^_=<>(){}\[\],;:!|%&'$€£°~])"
)


def tokens(text: str) -> list[Token]:
    """The tokens of ``text``.

    Raises:
        UnparsableError: A character or command that is not known here.
        OverLimitError: The text or a number in it is too long.
    """
    if len(text) > MAX_CHARACTERS:
        raise OverLimitError(f"an answer of more than {MAX_CHARACTERS} characters")
    found: list[Token] = []
    position, space, depth = 0, False, 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise UnparsableError(f"cannot read {text[position : position + 10]!r}")
        kind = match.lastgroup or ""
        end = match.end()
        if kind == "space":
            position, space = end, True
            continue
        if kind == "num" and (depth or _follows_fraction(found)):
            end = _shorter_number(match, found)
        for token in _read(kind, match, text[position:end], found):
            found.append(token._replace(space=space))
            depth += {"(": 1, "[": 1, "{{": 1, ")": -1, "]": -1, "}}": -1}.get(token.value, 0)
            space = False
        position = end
    return found


def _shorter_number(match: re.Match[str], found: list[Token]) -> int:
    r"""Inside brackets a comma separates; after ``\frac`` a digit is an argument by itself."""
    if _follows_fraction(found):
        return match.start() + 1
    comma = match[0].find(",")
    return match.end() if comma < 0 else match.start() + comma


def _follows_fraction(found: list[Token]) -> bool:
    if not found:
        return False
    if found[-1] == ("cmd", "frac", found[-1].space):
        return True
    if len(found) > 1 and found[-2].value == "frac" and found[-1].kind == "num":
        return True
    return _closes_first_argument(found)


def _closes_first_argument(found: list[Token]) -> bool:
    if found[-1].value != "}":
        return False
    depth = 0
    for index in range(len(found) - 1, max(-1, len(found) - 200), -1):
        depth += {"}": 1, "{": -1}.get(found[index].value, 0)
        if depth == 0:
            return index > 0 and found[index - 1].value == "frac"
    return False


def _read(kind: str, match: re.Match[str], text: str, found: list[Token]) -> list[Token]:
    if kind == "num":
        if len(text) > MAX_DIGITS:
            raise OverLimitError(f"a number of more than {MAX_DIGITS} digits")
        return [Token("num", text.replace(",", ""))]
    if kind in ("textual", "inside"):
        return _textual(match["inside"], bool(found))
    if kind == "cmd":
        return [_command(match["cmd"])]
    if kind == "name":
        return _word(text, found)
    return [Token("op", "\\\\" if kind == "newline" else _SPELT.get(text, text))]


_COMMANDS = {
    **{name: Token("const", value) for name, value in _CONSTANTS.items() if len(name) > 1},
    **{name: Token("op", value) for name, value in _OPERATORS.items()},
    **{name: Token("func", name) for name in FUNCTIONS},
    **{name: Token("cmd", name) for name in _KEPT_COMMANDS},
    **{name: Token("sym", name) for name in _GREEK},
    "dbinom": Token("func", "binom"),
    "tbinom": Token("func", "binom"),
}


def _command(name: str) -> Token:
    if name not in _COMMANDS:
        raise UnparsableError(f"unknown command \\{name:.20}")
    return _COMMANDS[name]


def _textual(inside: str, after_value: bool) -> list[Token]:
    words = inside.split()
    if not words:
        return []
    if len(words) == 1 and words[0] in ("R", "Z", "Q", "N", "C"):
        return [Token("const", "reals") if words[0] == "R" else Token("sym", words[0])]
    read: list[Token] = []
    for word in words:
        stripped = word.strip(",.;")
        if after_value and len(stripped) == 1 and stripped.isalpha():
            read.append(Token("word", stripped))
        elif re.fullmatch(r"[^\W\d_]{2,}", stripped):
            read.extend(_word(stripped, [Token("num", "0")]))
        elif stripped:
            read.extend(tokens(stripped))
        if word.endswith((",", ";")):
            read.append(Token("sep", ","))
    return [token._replace(space=True) for token in read]


_KNOWN_WORDS = {
    **{name: Token("sym", name) for name in _GREEK},
    **{name: Token("const", value) for name, value in _CONSTANTS.items()},
    **{name: Token("func", name) for name in FUNCTIONS},
}


def _word(word: str, found: list[Token]) -> list[Token]:
    folded = word.casefold()
    if folded in ("and", "or"):
        return [Token("sep", folded)]
    if word in _KNOWN_WORDS:
        return [_KNOWN_WORDS[word]]
    if found and folded in UNITS and _ends_value(found[-1]):
        return [Token("word", UNITS[folded])]
    return [Token("word", folded)] if len(word) >= 4 or folded in WORDS else _letters(word)


def _ends_value(token: Token) -> bool:
    return token.kind in ("num", "word", "sym", "const") or token.value in (")", "}", "°", "]", "|")


def _letters(word: str) -> list[Token]:
    """``xy`` is a product, and a function may stand in it: ``xsin`` does not occur in practice."""
    return [
        Token("const", _CONSTANTS[letter]) if letter in _CONSTANTS else Token("sym", letter)
        for letter in word
    ]
