"""Split a normalised answer into tokens: LaTeX and ASCII mathematics, words and units."""

from __future__ import annotations

import re
from typing import NamedTuple

from rl_verifiers.expressions import MAX_CHARACTERS, OverLimitError, UnparsableError
from rl_verifiers.quantities import MAX_DIGITS

FUNCTIONS = frozenset(
    "sin cos tan sec csc cot arcsin arccos arctan asin acos atan sinh cosh tanh ln log exp sqrt abs "
    "floor ceil binom gcd lg cbrt factorial".split()
)
_GREEK = frozenset(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi "
    "rho sigma tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon "
    "Phi Psi Omega ell hbar".split()
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
    "rangle": "⟩", "lfloor": "⌊", "rfloor": "⌋", "lceil": "⌈", "rceil": "⌉", "and": "&&",
    "lor": ",", "land": ",", "vee": ",", "to": "→", "Rightarrow": "→", "rightarrow": "→",
    "circ": "°", "degree": "°", "prime": "'",
}  # fmt: skip
_SPELT = {"**": "^", "<=": "≤", ">=": "≥", "!=": "≠", "==": "=", "\\{": "{{", "\\}": "}}",
          "\\|": "|", "[": "[", "...": "…"}  # fmt: skip
_KEPT_COMMANDS = frozenset(("frac", "sqrt", "begin", "end", "overline", "bar", "dot", "operatorname"))
_TEXT_COMMANDS = ("text", "textbf", "textit", "textrm", "textnormal", "mathrm", "mathbf", "mbox",
                  "mathit", "mathsf", "mathbb", "mathcal", "boldsymbol", "vec", "hat", "hbox")  # fmt: skip
WORDS = frozenset("yes no odd even true false none even undefined".split())

UNITS = {
    "cm": "cm", "mm": "mm", "km": "km", "kg": "kg", "mg": "mg", "ml": "ml", "mph": "mph", "kmh": "kmh",
    "ft": "ft", "lb": "lb", "lbs": "lb", "oz": "oz", "hr": "hour", "hrs": "hour", "min": "minute",
    "sec": "second", "pm": "pm", "am": "am", "pct": "%", "percent": "%", "percentage": "%", "deg": "°",
    "degrees": "°", "degree": "°", "dollars": "$", "dollar": "$", "usd": "$", "cents": "cent",
    "euros": "€", "euro": "€", "pounds": "pound", "centimeters": "cm", "centimeter": "cm",
    "centimetres": "cm", "meters": "m", "meter": "m", "metres": "m", "kilometers": "km",
    "kilometer": "km", "millimeters": "mm", "inches": "inch", "inch": "inch", "feet": "ft",
    "foot": "ft", "square": "square", "cubic": "cubic", "sq": "square", "units": "unit",
    "kilograms": "kg", "grams": "g", "hours": "hour", "minutes": "minute", "seconds": "second",
    "weeks": "week", "days": "day", "years": "year", "miles": "mile", "radians": "rad", "rad": "rad",
}  # fmt: skip


class Token(NamedTuple):
    """``kind`` is num, func, const, sym, word, cmd, env, sep, or op; ``space``: space before it."""

    kind: str
    value: str
    space: bool = False


_TOKEN = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<num>\d{1,3}(?:,\d{3})+(?![\d,])(?:\.\d+)?|\d+(?:\.\d+)?(?:[eE][-+]?\d{1,5}(?![\w.]))?|\.\d+)"
    r"|(?P<textual>\\(?:" + "|".join(_TEXT_COMMANDS) + r")(?![a-zA-Z])\s*\{(?P<inside>[^{}]*)\})"
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
    """Inside brackets a comma separates; after ``\\frac`` a digit is an argument by itself."""
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
    if kind == "newline":
        return [Token("op", "\\\\")]
    if kind == "spelt":
        return [Token("op", _SPELT.get(text, text))]
    return [Token("op", text)]


def _command(name: str) -> Token:
    if name in _CONSTANTS and len(name) > 1:
        return Token("const", _CONSTANTS[name])
    if name in _OPERATORS:
        return Token("op", _OPERATORS[name])
    if name in FUNCTIONS:
        return Token("func", name)
    if name in _KEPT_COMMANDS:
        return Token("cmd", name)
    if name in _GREEK:
        return Token("sym", name)
    if name in ("angle", "triangle", "prime"):
        return Token("sym", name)
    if name in ("dbinom", "tbinom"):
        return Token("func", "binom")
    raise UnparsableError(f"unknown command \\{name:.20}")


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


def _word(word: str, found: list[Token]) -> list[Token]:
    folded = word.casefold()
    if folded in ("and", "or"):
        return [Token("sep", folded)]
    if word in FUNCTIONS:
        return [Token("func", word)]
    if word in _CONSTANTS:
        return [Token("const", _CONSTANTS[word])]
    if word in _GREEK:
        return [Token("sym", word)]
    after_value = bool(found) and (
        found[-1].kind in ("num", "word", "sym", "const") or found[-1].value in (")", "}", "°", "]", "|")
    )
    if after_value and folded in UNITS:
        return [Token("word", UNITS[folded])]
    if len(word) >= 4 or folded in WORDS:
        return [Token("word", folded)]
    return _letters(word)


def _letters(word: str) -> list[Token]:
    """``xy`` is a product, and a function may stand in it: ``xsin`` does not occur in practice."""
    return [
        Token("const", _CONSTANTS[letter]) if letter in _CONSTANTS else Token("sym", letter)
        for letter in word
    ]
