"""IFBench: what the words (``words:*``) and the sentences (``sentence:*``) of a response are.

Each check decides as the reference does, its oddities included, which the docstrings name.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise

from rl_verifiers.instructions.constraint import Text, Whole, constraint
from rl_verifiers.instructions.language import SENTENCES, SYLLABLES, syllables
from rl_verifiers.instructions.response import MARKS, PUNCTUATION, Response, without_punctuation
from rl_verifiers.instructions.verbs import starts_with_verb
from rl_verifiers.instructions.words import treebank_words

_ALPHABET = "abcdefghijklmnopqrstuvwxyz"
_CLUSTER = re.compile(r"[bcdfghjklmnpqrstvwxyz]{2}")
_PRIMES = {n for n in range(2, 100) if all(n % d for d in range(2, n))}


@constraint(
    "words:alphabet",
    "Each word must start with the next letter of the alphabet, going back to A after Z.",
)
def alphabet(response: Response) -> bool:
    """The first word may start anywhere in the alphabet."""
    words = response.plain.strip(MARKS).split()
    if not words:
        return False
    letter = _ALPHABET.find(words[0][0].lower())
    if letter < 0:
        return False
    return all(
        word.lower()[0] == _ALPHABET[(letter + step) % 26] for step, word in enumerate(words[1:], 1)
    )


@constraint("words:vowel", "Write one paragraph, in words that contain only three types of vowels.")
def vowel(response: Response) -> bool:
    """One line with at most three of the letters a, e, i, o and u in all."""
    text = response.text.strip()
    return "\n" not in text and sum(letter in text.lower() for letter in "aeiou") <= 3


@constraint(
    "words:consonants",
    "Each word must have at least one consonant cluster: two consonants or more together.",
)
def consonants(response: Response) -> bool:
    """Words are split at white space, so a dash by itself fails."""
    return all(_CLUSTER.search(word) for word in response.lower.split())


@constraint(
    "words:palindrome",
    "Include at least 10 palindromes of one word, each at least 5 characters long.",
)
def palindrome(response: Response) -> bool:
    """The same palindrome counts each time."""
    words = response.plain.lower().split()
    return sum(len(word) >= 5 and word == word[::-1] for word in words) >= 10


@constraint("words:prime_lengths", "Use only words whose length is a prime number.")
def prime_lengths(response: Response) -> bool:
    """Up to 97; punctuation does not count."""
    return all(len(word) in _PRIMES for word in response.plain.split())


@constraint("words:start_verb", "The response must start with a verb.", needs=(SENTENCES,))
def start_verb(response: Response) -> bool:
    """As a tagger of parts of speech sees the first word."""
    return starts_with_verb(response.tokens[:3])


@constraint("words:repeats", "Do not repeat any word more than {small_n} times.", small_n=Whole())
def repeats(response: Response, small_n: int) -> bool:
    """No word occurs more often than that in all."""
    counts = Counter(without_punctuation(response.lower).split())
    return all(count <= small_n for count in counts.values())


@constraint(
    "words:odd_even_syllables",
    "Alternate between words with an odd and an even number of syllables.",
    needs=(SYLLABLES,),
)
def odd_even_syllables(response: Response) -> bool:
    """Syllables as syllapy counts them; a word with digits has none."""
    parities = (syllables(word) % 2 for word in response.plain.lower().split())
    return all(first != second for first, second in pairwise(parities))


@constraint(
    "words:last_first",
    "The last word of each sentence must be the first word of the next one.",
    needs=(SENTENCES,),
)
def last_first(response: Response) -> bool:
    """One sentence passes."""
    for sentence, following in pairwise(response.sentences):
        last = sentence.rstrip(MARKS).split()
        first = following.lstrip(MARKS).split()
        if not last or not first or last[-1].lower() != first[0].lower():
            return False
    return True


@constraint(
    "words:paragraph_last_first",
    "Each paragraph must end with the word that it starts with; a new line starts a paragraph.",
)
def paragraph_last_first(response: Response) -> bool:
    """A paragraph of one word passes."""
    for paragraph in response.text.split("\n"):
        words = paragraph.strip().lower().strip(MARKS).split()
        if words and words[0] != words[-1]:
            return False
    return True


@constraint("words:no_consecutive", "No two words in a row may start with the same letter.")
def no_consecutive(response: Response) -> bool:
    """Punctuation does not count."""
    words = without_punctuation(response.lower).split()
    return all(first[0] != second[0] for first, second in pairwise(words))


@constraint(
    "words:keywords_specific_position",
    'Include the keyword "{keyword}" in sentence {n}, as word {m} of that sentence.',
    needs=(SENTENCES,),
    keyword=Text(),
    n=Whole(1),
    m=Whole(1),
)
def keywords_specific_position(response: Response, keyword: str, n: int, m: int) -> bool:
    """Treebank words, without those that have no letter or digit."""
    if len(response.sentences) < n:
        return False
    tokens = treebank_words(response.sentences[n - 1])
    words = [word for word in tokens if any(character.isalnum() for character in word)]
    return len(words) >= m and words[m - 1].lower() == keyword.strip().lower()


@constraint(
    "words:words_position",
    'The second word and the second to last word must be "{keyword}".',
    needs=(SENTENCES,),
    keyword=Text(),
)
def words_position(response: Response, keyword: str) -> bool:
    """Punctuation marks are words, save one at the end."""
    words = response.tokens
    end = len(words) - (1 if words and words[-1] in PUNCTUATION else 0)
    if end < 2:
        return False
    return words[1].lower() == words[end - 2].lower() == keyword.strip().lower()


@constraint(
    "sentence:alliteration_increment",
    "Each sentence must have a longer run of alliterating words than the one before.",
    needs=(SENTENCES,),
)
def alliteration_increment(response: Response) -> bool:
    """The runs of one sentence are added up; a single sentence passes."""
    before = -1
    for sentence in response.sentences:
        words = [word.lstrip(MARKS) for word in sentence.lower().split()]
        firsts = [word[0] for word in words if word]
        pairs = [first == second for first, second in pairwise(firsts)]
        runs = sum(pair and not earlier for earlier, pair in pairwise([False, *pairs]))
        if sum(pairs) + runs <= before:
            return False
        before = sum(pairs) + runs
    return True


@constraint(
    "sentence:keyword",
    'Sentence {N} of the response must include the keyword "{word}".',
    needs=(SENTENCES,),
    word=Text(),
    N=Whole(1),
)
def sentence_keyword(response: Response, word: str, N: int) -> bool:  # noqa: N803
    """As a whole word, in any case."""
    if len(response.sentences) < N:
        return False
    pattern = rf"\b{re.escape(word)}\b"
    return re.search(pattern, response.sentences[N - 1], re.IGNORECASE) is not None


@constraint(
    "sentence:increment",
    "Each sentence must have exactly {small_n} more words than the one before.",
    needs=(SENTENCES,),
    small_n=Whole(),
)
def sentence_increment(response: Response, small_n: int) -> bool:
    """A single sentence passes."""
    counts = [len(without_punctuation(sentence).split()) for sentence in response.sentences]
    return all(second == first + small_n for first, second in pairwise(counts))
