"""IFBench: what a response counts (``count:*``) and its proportions (``ratio:*``).

The constraints are those of IFBench (Pyatkin et al., arXiv 2507.02833); each check decides as the
reference does, its oddities included, which the docstrings name.
"""

from __future__ import annotations

import re

from rl_verifiers.instructions.constraint import Percent, Text, Whole, constraint
from rl_verifiers.instructions.language import SENTENCES
from rl_verifiers.instructions.response import MARKS, Response
from rl_verifiers.instructions.sentences import sentences
from rl_verifiers.instructions.word_lists import CONJUNCTIONS, NAMES, PRONOUNS, STOP_WORDS
from rl_verifiers.instructions.words import treebank_words

_CONJUNCTIONS, _PRONOUNS, _STOP_WORDS = map(frozenset, (CONJUNCTIONS, PRONOUNS, STOP_WORDS))
_JAPANESE = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")


@constraint(
    "count:word_count_range",
    "The response must have between {min_words} and {max_words} words.",
    order=("min_words", "max_words"),
    min_words=Whole(),
    max_words=Whole(),
)
def word_count_range(response: Response, min_words: int, max_words: int) -> bool:
    """Counts runs of word characters: "don't" is two."""
    return min_words <= len(response.runs) <= max_words


@constraint(
    "count:unique_word_count", "Use at least {N} different words in the response.", N=Whole()
)
def unique_word_count(response: Response, N: int) -> bool:  # noqa: N803 - the data's name
    """Words are split at white space; a dash by itself counts as one."""
    return len({word.strip(MARKS) for word in response.lower.split()}) >= N


@constraint(
    "count:conjunctions",
    "Use at least {small_n} different coordinating conjunctions.",
    small_n=Whole(),
)
def conjunctions(response: Response, small_n: int) -> bool:
    """Counts spellings: "and", "And" and "and," are three."""
    words = set(response.text.split())
    return sum(word.strip(MARKS).lower() in _CONJUNCTIONS for word in words) >= small_n


@constraint(
    "count:person_names",
    f"Mention at least {{N}} different names of persons out of: {', '.join(NAMES)}.",
    N=Whole(),
)
def person_names(response: Response, N: int) -> bool:  # noqa: N803
    """Counts the names of the list only, as whole words."""
    return len(set(response.runs).intersection(NAMES)) >= N


@constraint("count:numbers", "Include exactly {N} numbers in the response.", N=Whole())
def numbers(response: Response, N: int) -> bool:  # noqa: N803
    """Counts runs of digits once punctuation is gone: 1,000.50 is one."""
    return len(re.findall(r"\d+", response.plain)) == N


@constraint(
    "count:punctuation",
    "Use every standard punctuation mark at least once: . , ! ? ; : and the interrobang ?!",
)
def punctuation(response: Response) -> bool:
    """One interrobang is set aside before the marks are looked for."""
    text = response.text
    if not any(mark in text for mark in ("?!", "!?", "‽")):
        return False
    rest = text.replace("?!", "", 1) if "?!" in text else text.replace("!?", "", 1)
    return all(mark in rest for mark in ".,!?;:")


@constraint(
    "count:words_japanese", "Every {N}th word of the response must be in Japanese.", N=Whole(1)
)
def words_japanese(response: Response, N: int) -> bool:  # noqa: N803
    """One Japanese character makes a word Japanese; numbers and lone punctuation are passed over.

    A response of fewer than N words passes.
    """
    words = (word.strip(MARKS) for word in response.text.split()[N - 1 :: N])
    return all(_JAPANESE.search(word) for word in words if word and not word.isdigit())


@constraint(
    "count:pronouns",
    "The response must include at least {N} pronouns.",
    needs=(SENTENCES,),
    N=Whole(),
)
def pronouns(response: Response, N: int) -> bool:  # noqa: N803
    """Counts Treebank words of a list, each time; slashes separate."""
    text = response.text.replace("/", " ").lower()
    words = (word for sentence in sentences(text) for word in treebank_words(sentence))
    return sum(word in _PRONOUNS for word in words) >= N


@constraint(
    "count:keywords_multiple",
    'Include the keyword "{keyword1}" once, "{keyword2}" twice, "{keyword3}" three times, '
    '"{keyword4}" five times and "{keyword5}" seven times.',
    keyword1=Text(),
    keyword2=Text(),
    keyword3=Text(),
    keyword4=Text(),
    keyword5=Text(),
)
def keywords_multiple(response: Response, **keywords: str) -> bool:
    """Counts occurrences inside words too, in any case."""
    counts = zip(sorted(keywords), (1, 2, 3, 5, 7), strict=True)
    return all(
        response.lower.count(keywords[name].strip().lower()) == count for name, count in counts
    )


@constraint(
    "ratio:stop_words",
    "Stop words must be no more than {percentage}% of the words in the response.",
    percentage=Percent(),
)
def stop_words(response: Response, percentage: float) -> bool:
    """Both counts are of runs of word characters."""
    words = response.runs
    if not words:
        return False
    return sum(word.lower() in _STOP_WORDS for word in words) / len(words) * 100 <= percentage


@constraint(
    "ratio:sentence_type",
    "Keep a ratio of 2:1 of declarative to interrogative sentences.",
    needs=(SENTENCES,),
)
def sentence_type(response: Response) -> bool:
    """By the last character; no sentence of either kind passes."""
    return _ending(response, ".") == 2 * _ending(response, "?")


@constraint(
    "ratio:sentence_balance",
    "Use as many declarative as interrogative as exclamatory sentences.",
    needs=(SENTENCES,),
)
def sentence_balance(response: Response) -> bool:
    """By the last character; no sentence of any kind passes."""
    return _ending(response, ".") == _ending(response, "?") == _ending(response, "!")


def _ending(response: Response, mark: str) -> int:
    return sum(sentence.endswith(mark) for sentence in response.sentences)


@constraint(
    "ratio:sentence_words",
    "Respond with three sentences of the same number of characters, using all different words.",
    needs=(SENTENCES,),
)
def sentence_words(response: Response) -> bool:
    """The words are not looked at."""
    lengths = [len(sentence.strip()) for sentence in response.sentences]
    return len(lengths) == 3 and len(set(lengths)) == 1


@constraint(
    "ratio:overlap",
    "Keep an overlap of trigrams of {percentage}% (±2%) with this text: {reference_text}",
    percentage=Percent(),
    reference_text=Text(),
)
def overlap(response: Response, percentage: float, reference_text: str) -> bool:
    """The trigrams are of characters; the share is of the response's different ones."""
    found = _trigrams(response.text)
    if not found:
        return False
    share = len(found & _trigrams(reference_text)) / len(found) * 100
    return percentage - 2 <= share <= percentage + 2


def _trigrams(text: str) -> set[str]:
    return {text[i : i + 3] for i in range(len(text) - 2)}
