r"""Older, plainer and foreign notation in the one that the parser reads.

Each rule is a substitution that needs no look at the structure of the answer and works in linear
time; what is left to structure is in :mod:`rl_verifiers.parse`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from rl_verifiers.repeating import with_overlines
from rl_verifiers.tokens import FUNCTIONS, GREEK
from rl_verifiers.units import SPELLINGS, is_unit_word

_GROUP = r"(?:\{\s?([^{}]{1,60})\s?\}|(\w))"
_SIMPLE = r"\s?([a-zA-Z0-9+\-]{1,20}?)\s?"
_UPRIGHT = r"\\(?:text|mathrm|textrm|rm)\s?"

_IS = r"(?:\\text\s?\{\s?)?\bis\s(?:strictly\s)?"

Replacement = str | Callable[[re.Match[str]], str]


def _binomial(match: re.Match[str]) -> str:
    top, bottom = (next(x for x in pair if x) for pair in (match.groups()[:2], match.groups()[2:]))
    return rf"\binom{{{top}}}{{{bottom}}}"


def _swapped_binomial(match: re.Match[str]) -> str:
    top, bottom = (next(x for x in pair if x) for pair in (match.groups()[2:], match.groups()[:2]))
    return rf"\binom{{{top}}}{{{bottom}}}"


_C = r"\s?(?:\\mathrm\s?\{C\}|\\binom\b|C)\s?"
_RULES: tuple[tuple[str, str, Replacement], ...] = (
    # a part that must occur for the rule to be tried, pattern, replacement
    (r"\rm", r"\{\s?\\rm\s?([^{}\\]{1,60})\}", r"\\mathrm{\1}"),
    (r"\rm", r"\\rm\s([a-zA-Z]{1,20})", r"\\mathrm{\1}"),
    (r"\bf", r"\\bf\s?(?=\{|\w)", ""),
    ("o", r"(?<=\d)\s?\^\s?(?:\{\s?[oO]\s?\}|[oO](?![a-zA-Z])|\{?\s?" + _UPRIGHT
     + r"\{\s?[oO]\s?\}\s?\}?)", r"^\\circ"),
    (r"{}", r"\{\s?\}\s?(?=[_^])", ""),
    (r"\ang", r"\\ang\s?\{([^{};]{1,30})\}", r"\1^\\circ"),
    (r"\num", r"\\num\s?\{([^{}]{1,60})\}", r"\1"),
    ("in", _UPRIGHT + r"\{\s?in\.?\s?\}", r"\\text{inches}"),
    ("in", r"(?<=[\d}i)])\s?in(?=\s?(?:\^|\*\*|\Z))", " inches"),
    ("sq", r"\bsq\.", "sq"),
    ("per", r"\bper\s?cent\b", "percent"),
    ("C", r"_\s?" + _GROUP + _C + r"_\s?" + _GROUP, _binomial),
    ("C", r"\^\s?" + _GROUP + _C + r"_\s?" + _GROUP, _binomial),
    ("C", r"(?<![a-zA-Z\\])" + _C + r"_\s?" + _GROUP + r"\s?\^\s?" + _GROUP, _binomial),
    ("C", r"(?<![a-zA-Z\\])" + _C + r"\^\s?" + _GROUP + r"\s?_\s?" + _GROUP, _swapped_binomial),
    ("C(", r"(?<![a-zA-Z\\])C\(" + _SIMPLE + "," + _SIMPLE + r"\)", r"\\binom{\1}{\2}"),
    ("+-", r"\s\+-\s", r"\\pm "),
    ("r", r"(?<=[\d)}])\s?or\s?(?=[A-Za-z\\(\d-])", r" or "),
    (r"\prime", r"\^\s?\{?\s?\\prime\s?\\prime(?![a-zA-Z])\s?\}?", "''"),
    (r"\prime", r"\^\s?\{?\s?\\prime(?![a-zA-Z])\s?\}?", "'"),
    (r"\surd", r"\\surd(?![a-zA-Z])", r"\\sqrt "),
    (r"\cent", r"\\cents?(?![a-zA-Z])", " cents"),
    ("us", r"\A(?:\\text\s?\{\s?)?[Mm]inus\s?\}?\s?(?=[\d.\\])", "-"),
    ("tive", r"\A(?:\\text\s?\{\s?)?[Nn]egative\s?\}?\s?(?=[\d.\\])", "-"),
    ("than", _IS + r"(?:greater|more|larger)\sthan\sor\sequal\sto\s?\}?", r" \\ge "),
    ("than", _IS + r"(?:less|smaller)\sthan\sor\sequal\sto\s?\}?", r" \\le "),
    ("than", _IS + r"(?:greater|more|larger)\sthan\s?\}?", " > "),
    ("than", _IS + r"(?:less|smaller)\sthan\s?\}?", " < "),
    (r"\root", r"\\root\s?(\{[^{}]{1,20}\}|\d)\s?\\of", r"\\sqrt[\1]"),
    ("^", r"\^\s?\{?(\d{1,9})\}?\s?/\s?_\s?\{?(\d{1,9})\}?", r"\\frac{\1}{\2}"),
    (r"\not", r"\\not\s?=", r"\\ne "),
    (r"\not", r"\\not\s?\\in(?![a-zA-Z])", r"\\notin "),
    (r"\not", r"\\not\s?(?:<|\\lt(?![a-zA-Z]))", r"\\ge "),
    (r"\not", r"\\not\s?(?:>|\\gt(?![a-zA-Z]))", r"\\le "),
    (r"\Pr", r"\\Pr(?![a-zA-Z])", "P"),
    (r"\angle", r"\bm\s?\\angle", r"\\angle"),
    (r"\begin", r"\\\\\s?\[\s?-?[\d.]{1,6}\s?(?:pt|em|ex|mm|cm)\s?\]", r"\\\\"),
    (r"\hline", r"\\hline(?![a-zA-Z])", ""),
    ("log", r"(?<![a-zA-Z\\])log(2|10)(?=\s?\()", r"\\log_{\1}"),
    ("U", r"(?<=[)\]])\s?U\s?(?=[(\[])", r"\\cup "),
    ("R", r"\\(?:mathbb|Bbb)\s?\{?\s?R\s?\}?\s?_\s?\{\s?(?:\\geq?|>=)\s?0\s?\}", r"[0,\\infty)"),
    ("R", r"\\(?:mathbb|Bbb)\s?\{?\s?R\s?\}?\s?(?:_\s?\{\s?>\s?0\s?\}|(?:\^|_)\s?\{?\s?\+\s?\}?)",
     r"(0,\\infty)"),
    ("R", r"\\(?:mathbb|Bbb)\s?\{?\s?R\s?\}?\s?\^\s?\{?\s?(?:\*|\\ast|\\times)\s?\}?",
     r"\\mathbb{R}\\setminus\\{0\\}"),
    (r"\overset", r"\\(?:overset|stackrel)\s?\{[^{}]{0,20}\}\s?\{\s?=\s?\}", "="),
)  # fmt: skip
_COMPILED = tuple((needed, re.compile(pattern), new) for needed, pattern, new in _RULES)

_OPENED = re.compile(
    r"\](?P<low>[^\[\]()]{1,200})(?P<end>[\[\])])|(?P<start>[\[(])(?P<high>[^\[\]()]{1,200})\["
)
_BUILDER = re.compile(
    r"\\?\{\s?(?:\(?[a-zA-Z](?:_\w)?\)?)(?:\s?\\in\s?\\(?:mathbb|Bbb|mathbf)\s?\{?\s?R\s?\}?)?"
    r"\s?(?::|\||\\mid|\\vert|\\colon|\\text\s?\{\s?such that\s?\})"
    r"\s?(?P<condition>.{1,2000}?)\s?\\?\}"
)
_REALS = re.compile(
    r"(?:\\(?:text|mathrm)\s?\{\s?)?(?:the\s)?(?:set\sof\s)?all\s(?:real\snumbers|reals|real\svalues"
    r"(?:\sof\s\$?[a-z]\$?)?)\s?\}?(?P<but>\s?(?:\\text\s?\{\s?)?(?:\$?[a-z]\$?\s)?"
    r"(?:except|other than|but|excluding)"
    r"(?:\sfor)?\s?\}?\s?(?:[a-z]\s?=\s?)?(?P<points>.{1,200}))?",
    re.IGNORECASE,
)
_MAPPING = re.compile(r"(?:[a-zA-Z]\s?:\s?)?[a-zA-Z]\s?\\mapsto\s?(?P<value>.{1,2000})")
_ANGLED = re.compile(r"<\s?([^<>]{1,2000})\s?>")
_TO = re.compile(r"(\S{1,100}?)\s?(?:\\text\s?\{\s?to\s?\}|\sto\s)\s?(\S{1,100})")
_SYSTEM = re.compile(
    r"\\?\{?\s?\\begin\{(?P<name>array|aligned|align\*?|gathered|split|matrix)\}"
    r"(?:\{[^{}]{0,20}\})?(?P<rows>.{1,4000})\\end\{(?P=name)\}\s?\.?"
)
_EMPTY = re.compile(
    r"(?:\\text\s?\{\s?)?(?:(?:the\s)?(?:empty|null)\sset"
    r"|(?:there\s(?:is|are)\s)?no\s(?:real\s)?(?:solutions?|roots?)(?:\sexists?)?|none)"
    r"\s?\}?|\{\s?\}",
    re.IGNORECASE,
)
_MATRIX = re.compile(r"(?:np\.|sp\.)?(?:[Mm]atrix|array)\s?\(\s?(?P<cells>\[.{1,4000}\])\s?\)")
_MAX_COMMENT = 80
_ENDS = tuple("0123456789})%")
_NO_COMMENT = frozenset(
    """or not no never isn wrong incorrect false base mod modulo maybe perhaps possibly pi infty
    infinity repeating recurring""".split()  # noqa: SIM905 - easier to read as words
)
_OF_ONE = re.compile(r"([a-eh-z])\s?\(\s?[a-z]\s?\)\s?=(?!=)")
_COINS = re.compile(r"(?:Rs\.?|INR|EUR|GBP|CAD|AUD|CNY)\s?(?=\d)")


def rewritten(text: str) -> str:
    """A normalised answer in the notation of the parser."""
    text = with_overlines(text)
    for needed, pattern, new in _COMPILED:
        if needed in text:
            text = pattern.sub(new, text)
    return _whole(text)


def _whole(text: str) -> str:
    """The rules for an answer as a whole."""
    for needed, rule in _WHOLE:
        if needed in text and (found := rule(text)) is not None:
            return found
    return text


def _opened(text: str) -> str | None:
    """``]1,2[`` as an open interval."""
    match = _OPENED.fullmatch(text)
    if match is None:
        return None
    low = "(" + match["low"] if match["low"] else match["start"] + match["high"]
    return low + (")" if (match["end"] or "[") == "[" else match["end"])


def _built(text: str) -> str | None:
    """The condition of a set that is built by one."""
    match = _BUILDER.fullmatch(text)
    return None if match is None else match["condition"]


def _all_reals(text: str) -> str | None:
    match = _REALS.fullmatch(text)
    if match is None:
        return None
    points = (match["points"] or "").strip(" {}\\").removeprefix("text{").replace("and", ",")
    return r"\mathbb{R}" + (rf"\setminus\{{{points}\}}" if points else "")


def _mapped(text: str) -> str | None:
    match = _MAPPING.fullmatch(text)
    return None if match is None else match["value"]


def _angled(text: str) -> str | None:
    match = _ANGLED.fullmatch(text)
    return rf"\langle {match[1]}\rangle " if match and "," in text else None


def _empty(text: str) -> str | None:
    return r"\emptyset" if _EMPTY.fullmatch(text) else None


def _named(text: str) -> str | None:
    """``y`` for ``y(x)`` before an equals sign."""
    match = _OF_ONE.match(text)
    return None if match is None else f"{match[1]}={text[match.end() :]}"


def _to(text: str) -> str | None:
    match = _TO.fullmatch(text)
    return None if match is None else f"{match[1]}:{match[2]}"


def _system(text: str) -> str | None:
    match = _SYSTEM.fullmatch(text)
    if match is None:
        return None
    is_matrix = match["name"] in ("array", "matrix")
    if is_matrix and not (text.lstrip("\\").startswith("{") and "=" in match["rows"]):
        return None
    rows = match["rows"].replace("&", " ")
    return rf"\begin{{cases}}{rows}\end{{cases}}"


def _coins(text: str) -> str | None:
    return _COINS.sub("₹" if text[0] in "RI" else "", text) if _COINS.match(text) else None


def _matrix(text: str) -> str | None:
    match = _MATRIX.fullmatch(text)
    return None if match is None else match["cells"]


def _uncommented(text: str) -> str | None:
    """``17`` for ``17 (option B)``: plain words in parentheses after a value are a comment."""
    start = text.rfind(" (")
    if start < 1 or not text.endswith(")") or len(text) - start > _MAX_COMMENT:
        return None
    value, inside = text[:start].rstrip(), text[start + 2 : -1].replace(r"\text", " ")
    words = inside.replace("{", " ").replace("}", " ").replace("-", " ").replace(",", " ").split()
    last = value.rpartition(" ")[2]
    if not (value[-1:] in _ENDS or last in SPELLINGS or is_unit_word(last)):
        return None
    is_plain = all(word.isalpha() and not _is_meaningful(word) for word in words)
    return rewritten(value) if is_plain and any(len(word) > 2 for word in words) else None


def _is_meaningful(word: str) -> bool:
    known = word in FUNCTIONS or word in GREEK or word.casefold() in _NO_COMMENT
    return known or is_unit_word(word)


_WHOLE: tuple[tuple[str, Callable[[str], str | None]], ...] = (
    ("[", _opened), ("{", _built), ("ll", _all_reals), (r"\mapsto", _mapped), ("<", _angled),
    ("{", _empty), ("set", _empty), ("o", _empty), ("=", _named), ("to", _to),
    (r"\begin", _system), ("R", _coins), ("]", _opened), ("([", _matrix), (")", _uncommented),
)  # fmt: skip
