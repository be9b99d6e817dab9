"""Split a normalised answer into tokens: LaTeX and ASCII mathematics, words and units."""

from __future__ import annotations

import re
from typing import NamedTuple

from rl_verifiers.expressions import MAX_CHARACTERS, OverLimitError, UnparsableError
from rl_verifiers.quantities import MAX_DIGITS
from rl_verifiers.units import MULTIPLIERS, SPELLINGS, is_unit_word

FUNCTIONS = frozenset(
    """sin cos tan sec csc cot arcsin arccos arctan asin acos atan sinh cosh tanh ln log lg exp sqrt
    cbrt abs floor ceil binom gcd lcm max min factorial cis det""".split()  # noqa: SIM905 - easier to read as words
)
GREEK = frozenset(
    """alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi
    rho sigma tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi
    Psi Omega ell hbar angle triangle""".split()  # noqa: SIM905 - easier to read as words
)
_CONSTANTS = {
    "pi": "pi", "infty": "inf", "infinity": "inf", "oo": "inf", "emptyset": "empty",
    "varnothing": "empty", "e": "e", "i": "i", "I": "i", "imath": "i", "inf": "inf", "Pi": "pi",
    "PI": "pi", "Infinity": "inf",
}  # fmt: skip
_OPERATORS = {
    "times": "*", "cdot": "*", "ast": "*", "div": "/", "pm": "±", "mp": "∓", "le": "≤", "leq": "≤",
    "leqslant": "≤", "ge": "≥", "geq": "≥", "geqslant": "≥", "ne": "≠", "neq": "≠", "lt": "<",
    "gt": ">", "cup": "∪", "cap": "∩", "setminus": "∖", "backslash": "∖", "in": "∈", "approx": "≈",
    "equiv": "=", "colon": ":", "mid": "|", "vert": "|", "lvert": "|", "rvert": "|", "langle": "⟨",
    "rangle": "⟩", "lfloor": "⌊", "rfloor": "⌋", "lceil": "⌈", "rceil": "⌉", "and": "and",
    "lor": "or", "land": "and", "vee": "or", "to": "→", "Rightarrow": "→", "rightarrow": "→",
    "circ": "°", "degree": "°", "prime": "'", "notin": "∉", "bigcup": "∪", "bigcap": "∩",
    "smallsetminus": "∖", "geqq": "≥", "leqq": "≤", "nless": "≥", "ngtr": "≤", "wedge": "and",
    "cr": "\\\\", "newline": "\\\\", "tabularnewline": "\\\\", "leftarrow": "→", "mapsto": "→",
    "simeq": "≈", "doteq": "≈", "lbrace": "{{", "rbrace": "}}", "bullet": "*", "star": "*",
}  # fmt: skip
_SPELT = {"**": "^", "<=": "≤", ">=": "≥", "!=": "≠", "==": "=", "<>": "≠", "=>": "≥", "=<": "≤",
          "+/-": "±", "-/+": "∓", "''": "''", "\\{": "{{", "\\}": "}}",
          "\\|": "|", "[": "[", "...": "…"}  # fmt: skip
_KEPT_COMMANDS = frozenset(
    ("frac", "begin", "end", "overline", "bar", "dot", "operatorname", "over", "choose", "root",
     "of", "sum", "prod")
)  # fmt: skip
_UPRIGHT = r"text(?:rm|normal|up|sf|tt|md)?|mathrm|mathsf|mbox|hbox|operatorname\*?|rm"
_OTHER = (
    r"text(?:bf|it|sl)|math(?:bf|it|bb|cal|scr|frak|tt|normal)|emph|bf|it|Bbb|bold|bm|boldsymbol"
    r"|vec|hat|underline|overrightarrow|widehat"
)
_TEXT_COMMAND = rf"\\(?:(?P<upright>{_UPRIGHT})|(?:{_OTHER}))"
_SETS = frozenset("RZQNC")
WORDS = frozenset(("yes", "no", "odd", "even", "true", "false", "none"))


class Token(NamedTuple):
    """``kind`` is num, func, const, sym, word, cmd, env, sep, or op; ``space``: space before it."""

    kind: str
    value: str
    space: bool = False


_TOKEN = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<num>\d{1,3}(?:,\d{3})+(?![\d,])(?:\.\d+)?|\d*\.(?=\s*\\(?:overline|bar|dot))|\d+(?:\.\d+)?(?:[eE][-+]?\d{1,5}(?![\w.]))?|\.\d+)"
    r"|(?P<textual>"
    + _TEXT_COMMAND
    + r"(?![a-zA-Z])\s*(?:\{(?P<inside>[^{}]*(?:\{[^{}]*\}[^{}]*)*)\}"
    r"|(?P<letter>[a-zA-Z0-9])))"
    r"|\\(?P<cmd>[a-zA-Z]+)"
    r"|(?P<name>[^\W\d_]+)"
    r"|(?P<newline>\\\\)"
    r"|(?P<spelt>\*\*|<=|>=|!=|==|<>|=>|=<|\+/-|-/\+|''|\\[{}|]|\.\.\.|\\&)"
    r"|(?P<op>[-+*/^_=<>(){}\[\],;:!|%&'$€£¥₹°~⟨⟩])"
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
    if kind == "textual":
        return _textual(match["inside"] or match["letter"] or "", bool(match["upright"]), found)
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
    **{name: Token("sym", name) for name in GREEK},
    "dbinom": Token("func", "binom"),
    "tbinom": Token("func", "binom"),
}


def _command(name: str) -> Token:
    if name not in _COMMANDS:
        raise UnparsableError(f"unknown command \\{name:.20}")
    return _COMMANDS[name]


_UNIT_PIECE = re.compile(
    r"(?P<word>[A-Za-z]+)|(?P<num>\d+)|\\(?P<cmd>cdot|times)|(?P<op>[-/^*{}()])|\s+|\."
)


def _textual(inside: str, is_upright: bool, found: list[Token]) -> list[Token]:
    r"""What stands in ``\text{...}``: a unit after a value, a set of numbers, words, formulas."""
    words = inside.split()
    if not words:
        return []
    if len(words) == 1 and words[0] in _SETS and not is_upright:
        return [Token("const", "reals") if words[0] == "R" else Token("sym", words[0])]
    after_value = bool(found) and _ends_value(found[-1])
    is_unit = is_upright and (after_value or (bool(found) and found[-1].value in "/*{"))
    read = _unit_tokens(inside) if is_unit else []
    for word in [] if read else words:
        stripped = word.strip(",.;")
        if re.fullmatch(r"[^\W\d_]{2,}", stripped):
            read.extend(_word(stripped, [Token("num", "0")]))
        elif stripped:
            read.extend(tokens(stripped))
        if word.endswith((",", ";")):
            read.append(Token("sep", ","))
    return [token._replace(space=True) for token in read]


def _unit_tokens(inside: str) -> list[Token]:
    """The tokens of a unit such as ``m/s^2``; none where ``inside`` is no known unit."""
    read: list[Token] = []
    position = 0
    while position < len(inside):
        match = _UNIT_PIECE.match(inside, position)
        if match is None:
            return []
        position = match.end()
        word = match["word"]
        if word and (word in SPELLINGS or is_unit_word(word) or (word == "per" and read)):
            read.append(Token("word", word))
        elif word:
            return []
        elif match["num"]:
            read.append(Token("num", match["num"]))
        elif match["op"] or match["cmd"]:
            read.append(Token("op", match["op"] or "*"))
    return read if read and read[0].kind == "word" else []


_KNOWN_WORDS = {
    **{name: Token("sym", name) for name in GREEK},
    **{name: Token("const", value) for name, value in _CONSTANTS.items()},
    **{name: Token("func", name) for name in FUNCTIONS},
}


def _word(word: str, found: list[Token]) -> list[Token]:
    folded = word.casefold()
    if folded in ("and", "or"):
        return [Token("sep", folded)]
    after_value = bool(found) and _ends_value(found[-1])
    if word in _KNOWN_WORDS and not (word == "min" and after_value):
        return [_KNOWN_WORDS[word]]
    if after_value and (is_unit_word(folded) or folded in MULTIPLIERS or folded == "per"):
        return [Token("word", word)]
    is_denominator = len(found) > 1 and found[-1].value == "/" and found[-2].kind == "word"
    if is_denominator and (word in SPELLINGS or is_unit_word(folded)):
        return [Token("word", word)]
    if len(word) >= 4 or folded in WORDS or re.fullmatch("[A-Z][a-z]{2}", word):
        return [Token("word", folded)]
    return _letters(word)


def _ends_value(token: Token) -> bool:
    return token.kind in ("num", "word", "sym", "const") or token.value in (")", "}", "°", "]", "|")


def _letters(word: str) -> list[Token]:
    """``xy`` is a product, and a function may stand in it: ``xsin`` does not occur in practice."""
    return [
        Token("const", _CONSTANTS[letter]) if letter in _CONSTANTS else Token("sym", letter)
        for letter in word
    ]
