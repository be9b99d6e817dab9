"""The 25 constraints of IFEval (Zhou et al., arXiv 2311.07911)."""

from __future__ import annotations

import json
import re

from rl_verifiers.instructions.constraint import (
    RELATION,
    Letter,
    OneOf,
    Text,
    Texts,
    Whole,
    constraint,
)
from rl_verifiers.instructions.language import LANGUAGE, SENTENCES, language_of
from rl_verifiers.instructions.patterns import pattern_of
from rl_verifiers.instructions.response import Response

LANGUAGES = OneOf(
    {
        "ar": "Arabic", "bg": "Bulgarian", "bn": "Bengali", "de": "German", "en": "English",
        "es": "Spanish", "fa": "Persian", "fi": "Finnish", "fr": "French", "gu": "Gujarati",
        "he": "Hebrew", "hi": "Hindi", "it": "Italian", "ja": "Japanese", "kn": "Kannada",
        "ko": "Korean", "ml": "Malayalam", "mr": "Marathi", "ne": "Nepali", "pa": "Punjabi",
        "pl": "Polish", "pt": "Portuguese", "ru": "Russian", "sw": "Swahili", "ta": "Tamil",
        "te": "Telugu", "th": "Thai", "uk": "Ukrainian", "ur": "Urdu", "vi": "Vietnamese",
    }
)  # fmt: skip
_ANSWERS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")


def compared(count: int, relation: str, threshold: int) -> bool:
    """Whether a count is "less than" or "at least" a threshold."""
    return count < threshold if relation == "less than" else count >= threshold


def occurrences(word: str, text: str) -> int:
    """How often a text occurs in another, inside words too, in any case."""
    return len(re.findall(pattern_of(word), text, re.IGNORECASE))


@constraint("keywords:existence", "Include the keywords {keywords}.", keywords=Texts())
def keywords_exist(response: Response, keywords: tuple[str, ...]) -> bool:
    """Each occurs, inside a word or not, in any case."""
    return all(re.search(pattern_of(w), response.text, re.IGNORECASE) for w in keywords)


@constraint(
    "keywords:frequency",
    'The word "{keyword}" must appear {relation} {frequency} times.',
    keyword=Text(),
    frequency=Whole(),
    relation=RELATION,
)
def keyword_frequency(response: Response, keyword: str, frequency: int, relation: str) -> bool:
    """Counts occurrences inside words too, in any case."""
    return compared(occurrences(keyword.strip(), response.text), relation, frequency)


@constraint(
    "keywords:forbidden_words", "Do not use the words {forbidden_words}.", forbidden_words=Texts()
)
def forbidden_words(response: Response, forbidden_words: tuple[str, ...]) -> bool:
    """None occurs as a whole word, in any case."""
    return not any(
        re.search(rf"\b{pattern_of(word)}\b", response.text, re.IGNORECASE)
        for word in forbidden_words
    )


@constraint(
    "keywords:letter_frequency",
    "The letter {letter} must appear {let_relation} {let_frequency} times.",
    letter=Letter(),
    let_frequency=Whole(),
    let_relation=RELATION,
)
def letter_frequency(
    response: Response, letter: str, let_frequency: int, let_relation: str
) -> bool:
    """Counts both cases; another character than a letter is counted as it is."""
    return compared(response.lower.count(letter), let_relation, let_frequency)


@constraint(
    "language:response_language",
    "Write the entire response in {language} and in no other language.",
    needs=(LANGUAGE,),
    language=LANGUAGES,
)
def response_language(response: Response, language: str) -> bool:
    """The language that langdetect finds most probable."""
    return language_of(response.text) == language


@constraint(
    "length_constraints:number_sentences",
    "The response must have {relation} {num_sentences} sentences.",
    needs=(SENTENCES,),
    num_sentences=Whole(),
    relation=RELATION,
)
def number_sentences(response: Response, num_sentences: int, relation: str) -> bool:
    """Counts Punkt's sentences."""
    return compared(len(response.sentences), relation, num_sentences)


@constraint(
    "length_constraints:number_paragraphs",
    "The response must have {num_paragraphs} paragraphs, separated by the divider ***.",
    num_paragraphs=Whole(1),
)
def number_paragraphs(response: Response, num_paragraphs: int) -> bool:
    """Only the first and the last piece may be blank; a blank one does not count."""
    return number_of_paragraphs(response.text, "***") == num_paragraphs


def number_of_paragraphs(text: str, divider: str) -> int:
    """The pieces between dividers that are not blank; 0 where one in the middle is."""
    pieces = [piece.strip() for piece in text.split(divider)]
    return sum(map(bool, pieces)) if all(pieces[1:-1]) else 0


@constraint(
    "length_constraints:number_words",
    "Answer with {relation} {num_words} words.",
    num_words=Whole(),
    relation=RELATION,
)
def number_words(response: Response, num_words: int, relation: str) -> bool:
    """Counts runs of word characters: "don't" is two."""
    return compared(len(response.runs), relation, num_words)


@constraint(
    "length_constraints:nth_paragraph_first_word",
    "The response must have {num_paragraphs} paragraphs, separated by a blank line, and "
    'paragraph {nth_paragraph} must start with the word "{first_word}".',
    order=("nth_paragraph", "num_paragraphs"),
    num_paragraphs=Whole(1),
    nth_paragraph=Whole(1),
    first_word=Text(),
)
def nth_paragraph_first_word(
    response: Response, num_paragraphs: int, nth_paragraph: int, first_word: str
) -> bool:
    """Blank pieces do not count as paragraphs, but do count for which one is the nth."""
    paragraphs = response.text.split("\n\n")
    count = sum(bool(paragraph.strip()) for paragraph in paragraphs)
    if nth_paragraph > count or count != num_paragraphs:
        return False
    words = paragraphs[nth_paragraph - 1].split()
    if not words:
        return False
    word = words[0].lstrip("'").lstrip('"')
    start = re.split(r"[.,?!'\"]", word, maxsplit=1)[0]
    return "".join(letter.lower() for letter in start) == first_word.lower()


@constraint(
    "detectable_content:number_placeholders",
    "The response must have at least {num_placeholders} placeholders in square brackets, such as "
    "[address].",
    num_placeholders=Whole(),
)
def number_placeholders(response: Response, num_placeholders: int) -> bool:
    """A placeholder ends in the line in which it starts."""
    count = 0
    for line in response.text.split("\n"):
        end = -1
        while (start := line.find("[", end + 1)) >= 0 and (end := line.find("]", start)) >= 0:
            count += 1
    return count >= num_placeholders


@constraint(
    "detectable_content:postscript",
    "End the response with a postscript that starts with {postscript_marker}.",
    postscript_marker=Text(),
)
def postscript(response: Response, postscript_marker: str) -> bool:
    """The marker occurs anywhere."""
    marker = postscript_marker.strip()
    spellings = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    return re.search(spellings.get(marker, pattern_of(marker.lower())), response.lower) is not None


@constraint(
    "detectable_format:number_bullet_lists",
    "The answer must have exactly {num_bullets} bullet points that start with * or -.",
    num_bullets=Whole(),
)
def number_bullet_lists(response: Response, num_bullets: int) -> bool:
    """Two asterisks at the start of a line are no bullet."""
    text = response.text
    return _bullets(text, "*") + _bullets(text, "-") == num_bullets


_WORD_START = re.compile(r"\S")


def _bullets(text: str, mark: str) -> int:
    """The lines whose first mark is ``mark``; blank lines before them belong to them.

    What follows an asterisk must not be another one, and may be the end of the line; the text of
    that bullet is then the next line, whatever it starts with.
    """
    count = position = 0
    while (found := _WORD_START.search(text, position)) is not None:
        after = found.end()
        if found[0] == mark and (mark == "-" or text[after : after + 1] not in ("", "*")):
            count += 1
            after += mark == "*"
        newline = text.find("\n", after)
        if newline < 0:
            break
        position = newline + 1
    return count


@constraint(
    "detectable_format:constrained_response",
    'Answer with one of: "My answer is yes.", "My answer is no.", "My answer is maybe."',
)
def constrained_response(response: Response) -> bool:
    """One of them occurs; other text is allowed."""
    return any(answer in response.text for answer in _ANSWERS)


@constraint(
    "detectable_format:number_highlighted_sections",
    "Highlight at least {num_highlights} sections with Markdown, such as *highlighted section*.",
    num_highlights=Whole(),
)
def number_highlighted_sections(response: Response, num_highlights: int) -> bool:
    """Counts *text* and, again, **text**; neither may span lines or be blank."""
    single = re.findall(r"\*[^\n*]*\*", response.text)
    double = re.findall(r"\*\*[^\n*]*\*\*", response.text)
    count = sum(bool(section.strip("*").strip()) for section in single)
    return count + sum(bool(s[2:-2].strip()) for s in double) >= num_highlights


@constraint(
    "detectable_format:multiple_sections",
    "The response must have {num_sections} sections, each marked by {section_spliter} and its "
    "number, such as {section_spliter} 1.",
    section_spliter=Text(),
    num_sections=Whole(),
)
def multiple_sections(response: Response, section_spliter: str, num_sections: int) -> bool:
    """At least so many marks with a number occur; the numbers are not looked at."""
    pattern = pattern_of(section_spliter.strip()) + r"\s?\d+"
    return len(re.findall(pattern, response.text)) >= num_sections


@constraint(
    "detectable_format:json_format",
    "The entire output must be JSON; Markdown ticks around it are allowed.",
)
def json_format(response: Response) -> bool:
    """It parses as one JSON value of any kind."""
    text = response.text.strip()
    for fence in ("```json", "```Json", "```JSON", "```"):
        text = text.removeprefix(fence)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


@constraint(
    "detectable_format:title", "The answer must have a title in double angular brackets: <<title>>."
)
def title(response: Response) -> bool:
    """A title stays in one line and is not blank."""
    for line in response.text.split("\n"):
        start, end = line.find("<<"), line.rfind(">>")
        if 0 <= start < end - 2 and line[start:end].lstrip("<").rstrip(">").strip():
            return True
    return False


@constraint(
    "combination:two_responses", "Give two different responses, separated by six asterisks: ******."
)
def two_responses(response: Response) -> bool:
    """Blank pieces are allowed at the ends only."""
    pieces = [piece.strip() for piece in response.text.split("******")]
    filled = [piece for piece in pieces if piece]
    return all(pieces[1:-1]) and len(filled) == 2 and filled[0] != filled[1]


@constraint(
    "combination:repeat_prompt",
    "First repeat the request word for word, then give the answer. The request: {prompt_to_repeat}",
    prompt_to_repeat=Text(),
)
def repeat_prompt(response: Response, prompt_to_repeat: str) -> bool:
    """The response starts with it, in any case."""
    return response.text.strip().lower().startswith(prompt_to_repeat.strip().lower())


@constraint(
    "startend:end_checker", 'Finish the response with the phrase "{end_phrase}".', end_phrase=Text()
)
def end_checker(response: Response, end_phrase: str) -> bool:
    """Double quotes after it are ignored, and so is case."""
    return response.text.strip().strip('"').lower().endswith(end_phrase.strip().lower())


@constraint("startend:quotation", "Wrap the entire response in double quotation marks.")
def quotation(response: Response) -> bool:
    """The first and the last character are straight double quotes."""
    text = response.text.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


@constraint(
    "change_case:capital_word_frequency",
    "Words in all capital letters must appear {capital_relation} {capital_frequency} times.",
    needs=(SENTENCES,),
    capital_frequency=Whole(),
    capital_relation=RELATION,
)
def capital_word_frequency(
    response: Response, capital_frequency: int, capital_relation: str
) -> bool:
    """Counts Treebank words: "I" is one."""
    count = sum(word.isupper() for word in response.tokens)
    return compared(count, capital_relation, capital_frequency)


@constraint(
    "change_case:english_capital",
    "Write the entire response in English and in capital letters.",
    needs=(LANGUAGE,),
)
def english_capital(response: Response) -> bool:
    """No lower-case letter, and langdetect says English."""
    return response.text.isupper() and language_of(response.text) == "en"


@constraint(
    "change_case:english_lowercase",
    "Write the entire response in English and in lower-case letters.",
    needs=(LANGUAGE,),
)
def english_lowercase(response: Response) -> bool:
    """No capital letter, and langdetect says English."""
    return response.text.islower() and language_of(response.text) == "en"


@constraint("punctuation:no_comma", "Do not use any commas.")
def no_comma(response: Response) -> bool:
    """No ASCII comma."""
    return "," not in response.text
