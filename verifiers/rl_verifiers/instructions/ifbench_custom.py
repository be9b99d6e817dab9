"""IFBench: constraints that are a whole task (``custom:*``).

Each check decides as the reference does, its oddities included, which the docstrings name.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from itertools import pairwise

from rl_verifiers.instructions.constraint import constraint
from rl_verifiers.instructions.language import SENTENCES
from rl_verifiers.instructions.response import MARKS, Response
from rl_verifiers.instructions.word_lists import CAPITALS

_CITY = ["ID", "Country", "City", "Year", "Count"]
_PRODUCT = ("ProductID", "Category", "Brand", "Price", "Stock")
_STUDENT = ("StudentID", "Subject", "Grade", "Semester", "Score")
_QUESTION = re.compile(r"Question \d+[.|):;]?\s*")
_OPTION = re.compile(r"[A-Ea-e][.|)]\s*\w")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_SPECIAL = re.compile(r"[^\w\s]")
_DAYS = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}


def _ascii(text: str) -> str:
    """Without diacritical marks; what has no ASCII letter under it is dropped."""
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")


@constraint("custom:multiples", "Count from 10 to 50, but only print the multiples of 7.")
def multiples(response: Response) -> bool:
    """No other number occurs."""
    return re.findall(r"\d+", response.text) == ["14", "21", "28", "35", "42", "49"]


@constraint(
    "custom:mcq_count_length",
    "Write 4 multiple choice questions about 20th century art history with 5 options each. Each "
    'starts with the label "Question" and is longer than the one before. Explain nothing.',
)
def mcq_count_length(response: Response) -> bool:
    """Labels are "Question 1" and so on; the length is that of the text before the options."""
    if not response.text.startswith("Question"):
        return False
    lengths = []
    questions = (piece.strip() for piece in _QUESTION.split(response.text))
    for question in filter(None, questions):
        lines = [line.strip() for line in question.split("\n")]
        options = [bool(_OPTION.match(line)) for line in lines]
        if sum(options) != 5:
            return False
        lengths.append(len(" ".join(lines[: options.index(True)]).strip()))
    return len(lengths) == 4 and all(first < second for first, second in pairwise(lengths))


@constraint(
    "custom:reverse_newline",
    "List the countries of Africa in reverse alphabetical order, each on a new line.",
)
def reverse_newline(response: Response) -> bool:
    """At least 52 lines in that order from the first with "Zimbabwe" to the end."""
    lines = [line.strip(MARKS) for line in response.text.split("\n")]
    lines = [line for line in lines if line]
    start = next((i for i, line in enumerate(lines) if "Zimbabwe" in line), len(lines))
    names = [_ascii(line) for line in lines[start:]]
    return len(names) >= 52 and all(first >= second for first, second in pairwise(names))


@constraint(
    "custom:word_reverse",
    "What animal is the national symbol of the US? Answer in a sentence whose words are in reverse "
    "order.",
)
def word_reverse(response: Response) -> bool:
    """The words "eagle bald" occur, once punctuation is gone."""
    words = response.plain.lower().split()
    return "bald eagle" in " ".join(reversed(words))


@constraint(
    "custom:character_reverse",
    "What animal is the national symbol of the US? Answer in a sentence whose letters are in "
    "reverse order.",
)
def character_reverse(response: Response) -> bool:
    """The letters "elgae dlab" occur, in any case."""
    return "elgae dlab" in response.lower


@constraint(
    "custom:sentence_alphabet",
    "Tell a story of 26 sentences that start with the letters of the alphabet in order.",
    needs=(SENTENCES,),
)
def sentence_alphabet(response: Response) -> bool:
    """By the first character of each sentence."""
    firsts = [sentence.lstrip()[:1].lower()[:1] for sentence in response.sentences]
    return firsts == list("abcdefghijklmnopqrstuvwxyz")


@constraint(
    "custom:european_capitals_sort",
    "List the capitals of European countries north of 45 degrees of latitude, without the "
    "countries, separated by commas, from the highest latitude to the lowest.",
)
def european_capitals_sort(response: Response) -> bool:
    """The reference's 27 capitals in its order, accents ignored."""
    names = (name.strip() for name in _ascii(response.text).split(","))
    return tuple(filter(None, names)) == CAPITALS


def _table(text: str, delimiter: str = ",") -> list[list[str]]:
    """The rows of a CSV text; none where it is not one."""
    try:
        return list(csv.reader(io.StringIO(text), delimiter=delimiter))
    except csv.Error:
        return []


@constraint(
    "custom:csv_city",
    "Generate 7 rows of comma-delimited CSV with the columns ID, Country, City, Year and Count.",
)
def csv_city(response: Response) -> bool:
    """Exactly a header and 7 rows of 5 fields."""
    table = _table(response.text)
    return len(table) == 8 and table[0] == _CITY and all(len(row) == 5 for row in table)


@constraint(
    "custom:csv_special_character",
    "Generate 14 rows of comma-delimited CSV with the columns ProductID, Category, Brand, Price "
    "and Stock. One field has a special character and stands in double quotes.",
)
def csv_special_character(response: Response) -> bool:
    """Rows after the one with that field are not looked at."""
    if not _has_header(response.text, _PRODUCT, r",[ \t]*"):
        return False
    table = _table(response.text.replace('"', '"""'))
    if len(table) != 15:
        return False
    for row in table[1:]:
        if len(row) != 5:
            return False
        if any(_quoted_special(field) for field in row):
            return True
    return False


def _quoted_special(field: str) -> bool:
    line = field.split("\n", 1)[0]
    end = line.rfind('"')
    return line.startswith('"') and end > 0 and _SPECIAL.search(line, 1, end) is not None


@constraint(
    "custom:csv_quotes",
    "Generate 3 rows of tab-delimited CSV with the columns StudentID, Subject, Grade, Semester and "
    "Score, each field in double quotes.",
)
def csv_quotes(response: Response) -> bool:
    """The header's fields need them too."""
    if not _has_header(response.text, _STUDENT, r"\t *"):
        return False
    table = _table(response.text.replace('"', '"""'), "\t")
    return len(table) == 4 and all(len(row) == 5 and all(map(_quoted, row)) for row in table)


def _quoted(field: str) -> bool:
    field = field.strip()
    return field.startswith('"') and field.endswith('"')


def _has_header(text: str, names: tuple[str, ...], separator: str) -> bool:
    pattern = separator.join(f'(?:{name}|"{name}")' for name in names)
    return re.fullmatch(pattern, text.split("\n", 1)[0].strip()) is not None


@constraint(
    "custom:date_format_list",
    "List the start dates of Napoleon's battles as YYYY-MM-DD, separated by commas. Explain "
    "nothing.",
)
def date_format_list(response: Response) -> bool:
    """Years from 1769 to 1821 and days that the month has; the battles are not looked at."""
    for date in response.text.split(","):
        if not _DATE.fullmatch(date.strip()):
            return False
        year, month, day = map(int, date.split("-"))
        if not 1769 <= year <= 1821 or month > 12 or (month and day > _DAYS.get(month, 31)):
            return False
    return True
