"""Answers in plain words."""

from __future__ import annotations

import re

from rl_verifiers.tokens import tokens


def folded_words(text: str) -> str | None:
    r"""The words of an answer in plain words, ``\text{...}`` unwrapped; None for anything else."""
    plain = re.sub(r"\\(?:text(?:bf|it|rm|normal)?|mathrm|mbox|mathbf)\s?(?=\{)", "", text)
    plain = " ".join(plain.replace("{", " ").replace("}", " ").split()).strip(" .")
    if not re.fullmatch(r"[^\W_]+(?:[ '\-][^\W_]+){0,30}", plain):
        return None
    words = plain.casefold().split()
    if len(words) > 1 and words[0] in ("a", "an", "the"):
        words = words[1:]
    named = [word for word in words if len(word) > 3 and word.isalpha() and not _is_math(word)]
    alone = len(words) == 1 and words[0] in _ALONE
    return (
        " ".join(words)
        if ((named and not words[0][0].isdigit()) or alone) and not ({"and", "or"} & set(words))
        else None
    )


_ALONE = frozenset(["yes", "no", "odd", "even", "true", "false", "none"])


def _is_math(word: str) -> bool:
    first = tokens(word)
    return bool(first) and first[0].kind != "word"
