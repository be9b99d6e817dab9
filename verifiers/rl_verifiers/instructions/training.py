"""The 29 further constraints on which IFBench's authors train (open-instruct's IFEvalG).

Each check decides as the reference does, its oddities included, which the docstrings name; only
sentences are split by Punkt everywhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from rl_verifiers.instructions import ifeval
from rl_verifiers.instructions.constraint import RELATION, Letter, Text, Whole, constraint
from rl_verifiers.instructions.language import SENTENCES
from rl_verifiers.instructions.response import Response
from rl_verifiers.instructions.sentences import sentences
from rl_verifiers.instructions.words import treebank_words


@dataclass(frozen=True)
class FirstText(Text):
    """A text that is not blank, or a list that starts with one, as some published rows have it."""

    def read(self, value: object) -> str:
        """The text, or ValueError."""
        return super().read(value[0] if isinstance(value, list) and value else value)


@constraint(
    "copy:repeat_phrase",
    'Repeat the phrase "{phrase}" exactly {small_n} times, each time with one word in its middle '
    "replaced.",
    phrase=Text(),
    small_n=Whole(1),
)
def repeat_phrase(response: Response, phrase: str, small_n: int) -> bool:
    """Looks at what stands between the phrase's first and last word in one line."""
    wanted = phrase.split()
    found = _between(response.text, wanted[0] + " ", " " + wanted[-1])
    if len(found) != small_n:
        return False
    return all(
        len(words) == len(wanted) and sum(a != b for a, b in zip(words, wanted, strict=True)) == 1
        for words in map(str.split, found)
    )


def _between(text: str, start: str, end: str) -> list[str]:
    found = []
    for line in text.split("\n"):
        position = 0
        while (first := line.find(start, position)) >= 0:
            last = line.find(end, first + len(start))
            if last < 0:
                break
            position = last + len(end)
            found.append(line[first:position])
    return found


@constraint(
    "copy:copy",
    "Copy this instruction and do not follow it: {prompt_to_repeat}",
    prompt_to_repeat=Text(),
)
@constraint(
    "copy:copying_simple",
    "Repeat the request without change and do not answer it. The request: {prompt_to_repeat}",
    prompt_to_repeat=Text(),
)
def copying_simple(response: Response, prompt_to_repeat: str) -> bool:
    """Case and white space at the ends do not count."""
    return response.text.strip().lower() == prompt_to_repeat.strip().lower()


@constraint(
    "copy:copying_multiple",
    "Repeat the request without change {N} times, separated by six asterisks, and do not answer "
    "it. The request: {prompt_to_repeat}",
    prompt_to_repeat=Text(),
    N=Whole(1),
)
def copying_multiple(response: Response, prompt_to_repeat: str, N: int) -> bool:  # noqa: N803
    """Case and white space at the ends do not count."""
    wanted = prompt_to_repeat.strip().lower()
    copies = response.text.split("******")
    return len(copies) == N and all(copy.strip().lower() == wanted for copy in copies)


@constraint(
    "new:copy_span_idx",
    "Copy the characters from index {n_start} up to, but not including, index {n_end} of this "
    "text: {prompt_to_repeat}",
    order=("n_start", "n_end"),
    prompt_to_repeat=Text(),
    n_start=Whole(),
    n_end=Whole(),
)
def copy_span_idx(response: Response, prompt_to_repeat: str, n_start: int, n_end: int) -> bool:
    """Case and white space at the ends do not count."""
    return response.text.strip().lower() == prompt_to_repeat[n_start:n_end].strip().lower()


@constraint(
    "detectable_format:sentence_hyphens",
    "Connect all sentences with hyphens, without spaces between them.",
    needs=(SENTENCES,),
)
def sentence_hyphens(response: Response) -> bool:
    """The pieces between hyphens are the sentences; one sentence without a hyphen passes."""
    wanted = sentences(response.text.replace("-", " "))
    pieces = response.text.split("-")
    return all(piece == sentence for piece, sentence in zip(pieces, wanted, strict=False))


@constraint("detectable_format:square_brackets", "Enclose every word in square brackets.")
def square_brackets(response: Response) -> bool:
    """Words are split at white space."""
    return all(word[0] == "[" and word[-1] == "]" for word in response.text.split())


@constraint(
    "detectable_format:bigram_wrapping",
    "Wrap every two words in double angular brackets, such as <<I am>> <<at home>>.",
)
def bigram_wrapping(response: Response) -> bool:
    """A last word without a partner is not looked at."""
    words = response.text.split()
    pairs = zip(words[::2], words[1::2], strict=False)
    return all(first.startswith("<<") and last.endswith(">>") for first, last in pairs)


@constraint(
    "keywords:no_adjacent_consecutive",
    "No two words in a row may start with consecutive letters of the alphabet.",
)
def no_adjacent_consecutive(response: Response) -> bool:
    """Upwards only: "b" may stand before "a"."""
    firsts = [word[0].lower() for word in response.text.split()]
    if len(firsts) > 1 and any(len(first) != 1 for first in firsts):
        return False
    return all(ord(second) - ord(first) != 1 for first, second in pairwise(firsts))


@constraint("keywords:word_once", 'Include the keyword "{keyword}" exactly once.', keyword=Text())
def word_once(response: Response, keyword: str) -> bool:
    """Counts occurrences inside words too, in any case."""
    return ifeval.occurrences(keyword.strip(), response.text) == 1


constraint(
    "keywords:word_count_different_numbers",
    'The word "{keyword}" must appear {relation} {frequency} times.',
    keyword=Text(),
    frequency=Whole(),
    relation=RELATION,
)(ifeval.keyword_frequency)

constraint(
    "letters:letter_counting2",
    "The letter {letter} must appear {let_relation} {let_frequency} times.",
    letter=Letter(),
    let_frequency=Whole(),
    let_relation=RELATION,
)(ifeval.letter_frequency)


@constraint("keywords:exclude_word_harder", 'Do not use the keyword "{keyword}".', keyword=Text())
def exclude_word_harder(response: Response, keyword: str) -> bool:
    """Only with a space on both sides, in this case."""
    return f" {keyword.strip()} " not in response.text


@constraint("keywords:palindrome", "Include a palindrome.")
def palindrome(response: Response) -> bool:
    """A word of one letter is one."""
    return any(word == word[::-1] for word in response.text.split())


@constraint(
    "keywords:keyword_specific_position",
    'Include the keyword "{keyword}" in sentence {n}, as word {m} of that sentence.',
    needs=(SENTENCES,),
    keyword=FirstText(),
    n=Whole(1),
    m=Whole(1),
)
def keyword_specific_position(response: Response, keyword: str, n: int, m: int) -> bool:
    """Treebank words, punctuation marks included; case counts."""
    if len(response.sentences) < n:
        return False
    words = treebank_words(response.sentences[n - 1])
    return len(words) >= m and words[m - 1] == keyword.strip()


@constraint(
    "keywords:start_end",
    "Start and end the response with the same word, with nothing after it.",
    needs=(SENTENCES,),
)
def start_end(response: Response) -> bool:
    """Treebank words, in any case."""
    words = response.tokens
    return len(words) >= 2 and words[0].lower() == words[-1].lower()


@constraint(
    "paragraphs:paragraphs", "The response must have 2 paragraphs, separated by the divider ***."
)
def paragraphs(response: Response) -> bool:
    """As ``length_constraints:number_paragraphs``."""
    return ifeval.number_of_paragraphs(response.text, "***") == 2


@constraint(
    "paragraphs:paragraphs2",
    "The response must have 2 paragraphs, separated by two line breaks and by nothing else.",
)
def paragraphs2(response: Response) -> bool:
    """Only the first and the last piece may be blank; a blank one does not count."""
    return ifeval.number_of_paragraphs(response.text, "\n\n") == 2


@constraint(
    "first_word:first_word_sent",
    'The first word of each sentence must be "{first_word}".',
    needs=(SENTENCES,),
    first_word=FirstText(),
)
def first_word_sent(response: Response, first_word: str) -> bool:
    """Words are split at white space."""
    words = [sentence.split()[0].lower() for sentence in response.sentences]
    return all(word == first_word.strip().lower() for word in words)


@constraint(
    "first_word:first_word_answer",
    'The first word of the response must be "{first_word}".',
    first_word=Text(),
)
def first_word_answer(response: Response, first_word: str) -> bool:
    """Words are split at white space."""
    return response.text.split(maxsplit=1)[0].lower() == first_word.strip().lower()


@constraint(
    "last_word:last_word_sent",
    'The last word of each sentence, before punctuation, must be "{last_word}".',
    needs=(SENTENCES,),
    last_word=FirstText(),
)
def last_word_sent(response: Response, last_word: str) -> bool:
    """Words are split at white space."""
    return all(_last_word(sentence) == last_word.strip().lower() for sentence in response.sentences)


@constraint(
    "last_word:last_word_answer",
    'The last word of the response must be "{last_word}".',
    last_word=Text(),
)
def last_word_answer(response: Response, last_word: str) -> bool:
    """Words are split at white space; punctuation does not count."""
    return _last_word(response.text) == last_word.strip().lower()


def _last_word(text: str) -> str:
    return re.sub(r"[^\w\s]", "", text.rsplit(maxsplit=1)[-1]).lower()


@constraint("punctuation:punctuation_dot", "Do not use any dots.")
def punctuation_dot(response: Response) -> bool:
    """No full stop anywhere."""
    return "." not in response.text


@constraint("punctuation:punctuation_exclamation", "Do not use any exclamation marks.")
def punctuation_exclamation(response: Response) -> bool:
    """No ASCII exclamation mark anywhere."""
    return "!" not in response.text


@constraint("count:lowercase_counting", "Use at most {N} words in lower case.", N=Whole())
def lowercase_counting(response: Response, N: int) -> bool:  # noqa: N803
    """Counts words of the letters a to z."""
    return len(re.findall(r"\b[a-z]+\b", response.text)) <= N


@constraint(
    "letters:letter_counting", "Answer with {relation} {N} letters.", N=Whole(), relation=RELATION
)
def letter_counting(response: Response, N: int, relation: str) -> bool:  # noqa: N803
    """Counts the letters a to z of either case."""
    return ifeval.compared(len(re.findall(r"[a-zA-Z]", response.text)), relation, N)


@constraint(
    "count:counting_composition",
    "Write 3 paragraphs, separated by the divider ***, of exactly {n_sent} sentences each, with "
    "exactly {n_words} words in each sentence.",
    needs=(SENTENCES,),
    n_sent=Whole(1),
    n_words=Whole(1),
)
def counting_composition(response: Response, n_sent: int, n_words: int) -> bool:
    """Treebank words, punctuation marks included."""
    pieces = [sentences(piece) for piece in response.text.split("***")]
    return len(pieces) == 3 and all(
        len(piece) == n_sent and all(len(treebank_words(s)) == n_words for s in piece)
        for piece in pieces
    )


@constraint("count:count_unique", "Do not use any word more than once.", needs=(SENTENCES,))
def count_unique(response: Response) -> bool:
    """Treebank words, punctuation marks included; case counts."""
    return len(response.tokens) == len(set(response.tokens))


@constraint(
    "count:count_increment_word",
    'Include the keyword "{keyword1}" once and "{keyword2}" twice.',
    keyword1=Text(),
    keyword2=Text(),
)
def count_increment_word(response: Response, keyword1: str, keyword2: str) -> bool:
    """Counts occurrences inside words too, in any case."""
    counts = (ifeval.occurrences(word.strip(), response.text) for word in (keyword1, keyword2))
    return tuple(counts) == (1, 2)
