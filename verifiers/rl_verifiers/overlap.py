"""Verifiers that say how much of a reference text a completion has: fuzzy, F1 and ROUGE.

All three give a graded value, the best over the row's references, and pass from a threshold on.
None of them knows what a text means: they are for short answers, and for data sets whose published
figures are made with them.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, get_args

from rl_verifiers import extract as extraction_rules
from rl_verifiers.option_checks import check_flags, check_number, check_one_of
from rl_verifiers.score import Row, Score, VerifierError
from rl_verifiers.text import Extraction, bad_reference, extraction

MAX_PRODUCT = 1_000_000_000
"""Length of the completion's answer times length of a reference (characters or words), summed over
the references: what a comparison of two sequences costs."""
MAX_READ = 4_000_000
"""What may be gone through again for each of the references: words for ROUGE-L, characters for
fuzzy, of the longer of both texts, summed over the references."""
MAX_REFERENCES = 64
_ANSWER_CHARACTERS = 4_000

Metric = Literal["rougeL", "rouge1", "rouge2"]
Method = Literal["ratio", "token_sort", "token_set"]


class Overlap(NamedTuple):
    """Precision, recall and their harmonic mean."""

    precision: float
    recall: float
    f: float


class Measure(Protocol):
    """How alike two texts are. A text is read once, however many it is compared with."""

    def read(self, text: str) -> Any:
        """What of a text is compared."""

    def size(self, read: Any) -> int:
        """The length that a comparison costs; 0 where one costs no more than its reference."""

    def compare(self, found: Any, gold: Any) -> dict[str, float]:
        """The parts of the score, the value first."""


@dataclass(frozen=True)
class Similar:
    """A text measure as a verifier: see :func:`fuzzy`, :func:`token_f1` and :func:`rouge`."""

    measure: Measure
    threshold: float
    extract: Extraction
    bounded = True
    reads = ("answer",)
    needs = ("answer",)

    def __call__(self, completion: str, row: Row) -> Score:
        """Score one completion; the first part that the measure gives is the value."""
        wanted = references(row.get("answer"))
        if not wanted:
            return bad_reference(row)
        text = extraction_rules.without_thinking(completion)
        found = None if text is None else extraction(self.extract)(text)
        if not found:
            return Score.wrong("no answer found", status="no_answer")
        read, golds = self.measure.read(found), [self.measure.read(gold) for gold in wanted]
        size, sizes = self.measure.size(read), [self.measure.size(gold) for gold in golds]
        if size * sum(sizes) > MAX_PRODUCT or sum(max(size, each) for each in sizes) > MAX_READ:
            return Score.wrong("too long to compare", status="over_limit")
        parts = max((self.measure.compare(read, gold) for gold in golds), key=_value)
        value = _value(parts)
        passed = value >= self.threshold
        reason = f"{next(iter(parts))} {value:.3f}"
        answer = found if len(found) <= _ANSWER_CHARACTERS else None
        return Score(value, passed, "correct" if passed else "wrong", reason, parts, answer=answer)


def _value(parts: Mapping[str, float]) -> float:
    return next(iter(parts.values()))


def references(answer: object) -> list[str]:
    """The texts of an answer: one text or number, a list, or SQuAD's ``{"text": [...]}``.

    Empty where it has anything else, or more than ``MAX_REFERENCES``.
    """
    if isinstance(answer, Mapping):
        answer = answer.get("text")
    items = list(answer) if isinstance(answer, list | tuple) else [answer]
    if not all(isinstance(i, str | int | float) and not isinstance(i, bool) for i in items):
        return []
    try:
        texts = [str(item).strip() for item in items]
    except ValueError:  # a whole number of more digits than Python spells out
        return []
    return texts if all(texts) and len(texts) <= MAX_REFERENCES else []


def fuzzy(
    *,
    threshold: float = 0.9,
    method: Method = "ratio",
    case: bool = False,
    extract: Extraction = "whole",
) -> Similar:
    """The answer is about ``row["answer"]``, or one of a list, in its characters (rapidfuzz).

    The value is the similarity within 0..1: with ``ratio``, twice the length of the longest common
    subsequence over the length of both texts. Not for numbers: ``1234567891`` is nine tenths of
    ``1234567890``.

    Args:
        threshold: The value that passes.
        method: ``ratio``, ``token_sort`` (the same with the words sorted) or ``token_set`` (each
            word once; 1 where one text has all the words of the other, so easily gamed).
        case: Whether upper and lower case differ.
        extract: Where the answer stands in the completion, after any thinking.

    Raises:
        VerifierError: An unknown method or extract, a threshold outside 0..1, or no rapidfuzz.
    """
    check_one_of("fuzzy", "method", method, get_args(Method))
    check_flags("fuzzy", case=case)
    _check("fuzzy", threshold, extract)
    try:
        import rapidfuzz  # noqa: F401, PLC0415 - imported when first needed
    except ImportError:
        raise VerifierError("fuzzy needs the package rapidfuzz: pip install rapidfuzz") from None
    return Similar(_Fuzzy(method, case), threshold, extract)


@dataclass(frozen=True)
class _Fuzzy:
    method: Method
    case: bool

    def read(self, text: str) -> str:
        return " ".join((text if self.case else text.casefold()).split())

    def size(self, read: str) -> int:
        return len(read)

    def compare(self, found: str, gold: str) -> dict[str, float]:
        from rapidfuzz import fuzz  # noqa: PLC0415 - imported when first needed

        name = self.method if self.method == "ratio" else f"{self.method}_ratio"
        return {"similarity": getattr(fuzz, name)(found, gold) / 100}


def token_f1(*, threshold: float = 1.0, extract: Extraction = "whole") -> Similar:
    """F1 over words between the answer and ``row["answer"]``, or the best of a list, as in SQuAD.

    The normalisation is that of SQuAD's evaluation script (Rajpurkar et al., arXiv 1606.05250):
    lower case, no ASCII punctuation, no ``a``, ``an``, ``the``, so ``-5`` is ``5`` and ``1.5`` is
    ``15``: not for numbers. The part ``exact_match`` is 1 where
    the normalised texts are the same. A reference without words (``A``) must occur as it is.

    Args:
        threshold: The value that passes; 1 wants the same words as often, in any order.
        extract: Where the answer stands in the completion, after any thinking.

    Raises:
        VerifierError: An unknown extract, or a threshold outside 0..1.
    """
    _check("f1", threshold, extract)
    return Similar(_Squad(), threshold, extract)


class _Read(NamedTuple):
    items: list[Any]
    counts: Counter[Any]
    text: str


class _Squad:
    def read(self, text: str) -> _Read:
        words = squad_words(text)
        return _Read(words, Counter(words), text.casefold())

    def size(self, read: _Read) -> int:
        return 0

    def compare(self, found: _Read, gold: _Read) -> dict[str, float]:
        if not gold.items:  # "A" and "!" have no words: any text without words would be the same
            same = float(found.text == gold.text)
            return {"f1": same, "exact_match": same}
        same = float(found.items == gold.items)
        return {"f1": overlap(found.counts, gold.counts).f, "exact_match": same}


_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def squad_words(text: str) -> list[str]:
    """The words that SQuAD's evaluation script compares."""
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def rouge(
    *, metric: Metric = "rougeL", threshold: float = 0.5, extract: Extraction = "whole"
) -> Similar:
    """ROUGE F-measure between the text and ``row["answer"]``, or the best of a list (Lin 2004).

    Equal to the package rouge-score without its stemmer on ASCII text. Letters beyond ASCII, which
    that package drops, count here, and every Chinese or Japanese character is a word.

    Args:
        metric: ``rougeL`` (longest common subsequence of words), ``rouge1`` or ``rouge2``.
        threshold: The value that passes.
        extract: Where the text stands in the completion, after any thinking.

    Raises:
        VerifierError: An unknown metric or extract, or a threshold outside 0..1.
    """
    check_one_of("rouge", "metric", metric, get_args(Metric))
    _check("rouge", threshold, extract)
    return Similar(_Rouge(metric), threshold, extract)


@dataclass(frozen=True)
class _Rouge:
    metric: Metric

    def read(self, text: str) -> _Read:
        items: list[Any] = rouge_words(text)
        if self.metric == "rougeL":
            return _Read(items, Counter(), "")
        items = _ngrams(items, int(self.metric[-1]))
        return _Read(items, Counter(items), "")

    def size(self, read: _Read) -> int:
        return len(read.items) if self.metric == "rougeL" else 0

    def compare(self, found: _Read, gold: _Read) -> dict[str, float]:
        if self.metric == "rougeL":
            common = common_subsequence(found.items, gold.items)
            result = _overlap(common, len(found.items), len(gold.items))
        else:
            result = overlap(found.counts, gold.counts)
        return {self.metric: result.f, "precision": result.precision, "recall": result.recall}


_WORD = re.compile(r"[぀-ヿ㐀-䶿一-鿿]|[^\W_぀-ヿ㐀-䶿一-鿿]+")


def rouge_words(text: str) -> list[str]:
    """Runs of letters and digits in lower case; a Chinese or Japanese character by itself."""
    return _WORD.findall(text.lower())


def _ngrams(words: Sequence[str], n: int) -> list[Any]:
    return list(zip(*(words[i:] for i in range(n)), strict=False))


def overlap(found: Counter[Any], gold: Counter[Any]) -> Overlap:
    """How many items two multisets share, as shares of each; time is that of ``gold``'s items."""
    common = sum(min(count, found[item]) for item, count in gold.items())
    return _overlap(common, found.total(), gold.total())


def _overlap(common: int, found: int, gold: int) -> Overlap:
    if common == 0:
        return Overlap(0.0, 0.0, 0.0)
    precision, recall = common / found, common / gold
    return Overlap(precision, recall, 2 * precision * recall / (precision + recall))


def common_subsequence(left: Sequence[str], right: Sequence[str]) -> int:
    """The length of the longest common subsequence.

    One bit for each item of the shorter, one step for each of the longer: time is the product of
    the lengths over the bits of a word (H. Hyyrö, "Bit-parallel LCS computation revisited", 2004).
    """
    left, right = sorted((left, right), key=len)
    places: dict[str, int] = {}
    for index, item in enumerate(left):
        places[item] = places.get(item, 0) | 1 << index
    full = (1 << len(left)) - 1
    unmatched = full
    for item in right:
        if item not in places:
            continue
        matches = unmatched & places[item]
        unmatched = (unmatched + matches | unmatched - matches) & full
    return len(left) - unmatched.bit_count()


def _check(name: str, threshold: object, extract: str) -> None:
    check_number(name, "threshold", threshold, most=1, above=True)
    extraction(extract, name)
