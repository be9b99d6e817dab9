"""A response, and what several constraints want to know of it."""

from __future__ import annotations

import re
import string
from functools import cached_property

from rl_verifiers.instructions.sentences import sentences
from rl_verifiers.instructions.words import treebank_words

PUNCTUATION = string.punctuation
MARKS = PUNCTUATION + " "
_DROP_PUNCTUATION = str.maketrans("", "", PUNCTUATION)


def without_punctuation(text: str) -> str:
    """The text without the 32 ASCII punctuation marks."""
    return text.translate(_DROP_PUNCTUATION)


class Response:
    """A response; each view of it is made at most once."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def lower(self) -> str:
        """In lower case."""
        return self.text.lower()

    @cached_property
    def plain(self) -> str:
        """Without ASCII punctuation."""
        return without_punctuation(self.text)

    @cached_property
    def runs(self) -> list[str]:
        """The runs of letters, digits and underscores."""
        return re.findall(r"\w+", self.text)

    @cached_property
    def sentences(self) -> list[str]:
        """The sentences, as Punkt splits English."""
        return sentences(self.text)

    @cached_property
    def tokens(self) -> list[str]:
        """The words and punctuation marks of all sentences, as the Penn Treebank splits English."""
        return [word for sentence in self.sentences for word in treebank_words(sentence)]


def variants(text: str) -> list[str]:
    """The eight readings of a response that the loose mode tries, without repetitions.

    The response; without its first line, its last line, or both; and each of these without
    asterisks.
    """
    lines = text.split("\n")
    first = "\n".join(lines[1:]).strip()
    last = "\n".join(lines[:-1]).strip()
    both = "\n".join(lines[1:-1]).strip()
    readings = [text, text.replace("*", ""), first, last, both]
    readings += [reading.replace("*", "") for reading in (first, last, both)]
    return list(dict.fromkeys(readings))
