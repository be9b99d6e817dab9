r"""One spelling for what prints the same: Unicode as LaTeX, dollars, spacing, boxes, labels.

Every function takes any text and works in time linear in its length.
"""

from __future__ import annotations

import re
import unicodedata

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿˣⁱ", "0123456789+-()nxi")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉₊₋ₐₙₓ", "0123456789+-anx")
_SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿˣⁱ]+")
_SUBSCRIPT = re.compile("[₀₁₂₃₄₅₆₇₈₉₊₋ₐₙₓ]+")
_RADICANDS = re.compile(r"([√∛∜])\s*(\d+|[a-zA-Z]|(?=[({]))")
_ROOTS = {"√": r"\sqrt", "∛": r"\sqrt[3]", "∜": r"\sqrt[4]"}
_OVERLINED = re.compile("((?:[0-9][\u0304\u0305])+)")
_DOTTED = re.compile("([0-9])\u0307")

_CHARACTERS = {
    "−": "-", "–": "-", "‐": "-", "‑": "-", "\u00a0": " ", "\u2009": " ", "\u202f": " ",
    "×": r"\times ", "✕": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "∙": r"\cdot ", "∗": "*",
    "÷": "/", "⁄": "/", "∕": "/", "∶": ":", "π": r"\pi ", "θ": r"\theta ", "∞": r"\infty ",
    "≤": r"\le ", "≥": r"\ge ", "⩽": r"\le ", "⩾": r"\ge ", "≦": r"\le ", "≧": r"\ge ",
    "≠": r"\ne ", "≈": r"\approx ", "≅": r"\approx ", "∪": r"\cup ", "∩": r"\cap ",
    "∈": r"\in ", "∉": r"\notin ", "∖": r"\setminus ", "±": r"\pm ", "∓": r"\mp ",
    "°": r"^\circ ", "º": r"^\circ ", "˚": r"^\circ ", "∅": r"\emptyset ", "⌀": r"\emptyset ",
    "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℚ": r"\mathbb{Q}", "ℕ": r"\mathbb{N}",
    "ℂ": r"\mathbb{C}", "½": r"\frac{1}{2}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}",
    "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}", "⅕": r"\frac{1}{5}", "⅛": r"\frac{1}{8}",
    "⅜": r"\frac{3}{8}", "⅝": r"\frac{5}{8}", "⅞": r"\frac{7}{8}", "⅙": r"\frac{1}{6}",
    "⟨": r"\langle ", "⟩": r"\rangle ", "〈": r"\langle ", "〉": r"\rangle ",
    "⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ", "∠": r"\angle ",
    "′": "'", "″": "''", "∨": r"\lor ", "∧": r"\land ", "→": r"\to ", "¢": " cents", "…": "...",
    "“": '"', "”": '"', "‘": "'", "’": "'", "。": ".", "、": ",", "￥": "¥",
}  # fmt: skip
_CHARACTER = re.compile("|".join(map(re.escape, _CHARACTERS)))
_ENTITIES = {"&lt;": "<", "&gt;": ">", "&le;": r"\le ", "&ge;": r"\ge ", "&amp;": "&"}
_ENTITY = re.compile("|".join(_ENTITIES))

_DOLLAR = re.compile(r"(?<!\\)\$")
_NUMERAL = re.compile(r"\s{0,9}-?[\d.,/]{1,60}\s{0,9}")
_DELIMITER = re.compile(r"(?<!\\)\\[()\[\]]")
_BROKEN_COMMAND = re.compile(r"\\\\(?=[a-zA-Z]{2}|[{}%$])")
_LABEL = re.compile(
    r"(?:the\s)?(?:final\s|correct\s)?answer(?:\s{0,3}:|\sis\b|(?=\s{0,3}(?:\$|\\[(\[])))\s{0,3}",
    re.IGNORECASE,
)
_TEXT_LABEL = re.compile(r"\\text\s?\{[^{}]{1,60}\s(?:is|are)\s{0,3}:?\s{0,3}\}\s{0,3}(?=\S)")
_BOX = re.compile(r"\\(?:boxed|fbox)\s{0,3}\{")
_BRACE = re.compile(r"\\[\s\S]|[{}]")


def latinised(text: str) -> str:
    r"""``text`` with the mathematical characters of Unicode as LaTeX commands."""
    text = _OVERLINED.sub(lambda match: rf"\overline{{{match[1][::2]}}}", text)
    text = _DOTTED.sub(r"\\dot{\1}", text)
    text = _SUPERSCRIPT.sub(lambda match: f"^{{{match[0].translate(_SUPERSCRIPTS)}}}", text)
    text = _SUBSCRIPT.sub(lambda match: f"_{{{match[0].translate(_SUBSCRIPTS)}}}", text)
    text = _RADICANDS.sub(lambda match: rf"{_ROOTS[match[1]]}{{{match[2]}}}" if match[2] else
                          f"{_ROOTS[match[1]]} ", text)  # fmt: skip
    text = _CHARACTER.sub(lambda match: _CHARACTERS[match[0]], text)
    return text if text.isascii() else unicodedata.normalize("NFKC", text)


def without_entities(text: str) -> str:
    """``text`` with the signs that HTML escapes."""
    return _ENTITY.sub(lambda match: _ENTITIES[match[0]], text)


def without_delimiters(text: str) -> str:
    r"""``text`` without the dollars, ``\(`` and ``\[`` around the formulas in it.

    Dollars that may be money stay: "$5 and $6".
    """
    text = _DELIMITER.sub(" ", text.replace('\\"', ""))
    pieces = _DOLLAR.split(text.replace("$$", "$"))
    if len(pieces) % 2 == 0 or len(pieces) == 1:
        return text
    for inside, after in zip(pieces[1::2], pieces[2::2], strict=True):
        loose = inside[:1].isspace() or inside[-1:].isspace() or after[:1].isdigit()
        loose = loose and not _NUMERAL.fullmatch(inside)
        is_whole = len(pieces) == 3 and not pieces[0].strip() and not pieces[2].strip(" .")
        if not inside or (loose and "\\" not in inside and not is_whole):
            return text
    return "".join(pieces)


def without_double_escapes(text: str) -> str:
    r"""Commands escaped once too often, ``\\frac``; a row ends only inside an environment."""
    if r"\begin" in text:
        return text
    return _BROKEN_COMMAND.sub(r"\\", text).replace("\\\\", ", ")


def without_label(text: str) -> str:
    """``text`` without "The answer is" or an equals sign before it."""
    match = _LABEL.match(text) or _TEXT_LABEL.match(text)
    rest = text[match.end() :] if match else text
    for sign in ("=", r"\approx "):
        rest = rest.removeprefix(sign).lstrip()
    return rest or text


def unboxed(text: str) -> str:
    r"""The inside of a box that is all of ``text``; a box that is left open counts to the end."""
    match = _BOX.match(text)
    if match is None:
        return text
    depth = 1
    for brace in _BRACE.finditer(text, match.end()):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            is_all = not text[brace.end() :].strip(" .$")
            return text[match.end() : brace.start()].strip() if is_all else text
    return text[match.end() :].strip()
