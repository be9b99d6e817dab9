"""Whether a text opens with a verb, decided as NLTK's averaged perceptron tagger decides it.

That tagger's weights (6 MB) are in no package, so its decisions are kept as lists of words: those
that it calls verbs at the start of a text whatever follows, and those that it calls so before an
article, a pronoun and the like. docs/instructions.md says how often the lists agree with it.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files


def starts_with_verb(words: list[str]) -> bool:
    """Whether the first of a text's Treebank words is a verb."""
    if not words:
        return False
    first = words[0].lower()
    lists = _lists()
    if first.endswith("ing") and len(first) > 4 and first.isalpha():
        return first not in lists["never"]
    if first in lists["always"]:
        return True
    return len(words) > 1 and words[1].lower() in lists["next"] and first in lists["before"]


@cache
def _lists() -> dict[str, frozenset[str]]:
    text = files(__package__).joinpath("first_verbs.txt").read_text(encoding="utf-8")
    lists: dict[str, list[str]] = {}
    words: list[str] = []
    for line in text.splitlines():
        if line.startswith("["):
            words = lists.setdefault(line[1 : line.index("]")], [])
        elif not line.startswith("#"):
            words += line.split()
    return {name: frozenset(words) for name, words in lists.items()}
