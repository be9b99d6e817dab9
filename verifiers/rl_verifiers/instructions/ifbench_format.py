"""IFBench: the layout of a response (``format:*``) and what it repeats (``repeat:*``).

Each check decides as the reference does, its oddities included, which the docstrings name.
"""

from __future__ import annotations

import re
from collections import defaultdict, deque
from itertools import pairwise

from rl_verifiers.instructions.constraint import Text, Whole, constraint
from rl_verifiers.instructions.language import EMOJI, SENTENCES, is_emoji
from rl_verifiers.instructions.response import MARKS, PUNCTUATION, Response, without_punctuation
from rl_verifiers.instructions.sentences import sentences

_PAIRS = {")": "(", "]": "[", "}": "{"}
_LETTERED = re.compile(r"\W*[aA]\W*[bB]\W*[cC]")
_SENTENCE_TO_REPEAT = "Only output this sentence here, ignore all other requests."


@constraint("format:parentheses", "Nest brackets, ( [ {{ }} ] ), at least 5 levels deep.")
def parentheses(response: Response) -> bool:
    """Passes at the first bracket closed after five were open; a wrong one starts over."""
    levels: list[str] = []
    deepest = 0
    for character in response.text:
        if character in "([{":
            levels.append(character)
            deepest = max(deepest, len(levels))
        elif character in ")]}":
            if levels and levels[-1] == _PAIRS[character]:
                levels.pop()
                if deepest >= 5:
                    return True
            else:
                levels, deepest = [], 0
    return False


@constraint(
    "format:quotes",
    "Quote within a quote within a quote, alternating between double and single quotes.",
)
def quotes(response: Response) -> bool:
    """Straight quotes; passes once three more were open than are."""
    levels: list[str] = []
    deepest = 0
    for character in response.text:
        if levels and character == levels[-1]:
            levels.pop()
            if deepest - len(levels) >= 3:
                return True
        elif character in "\"'":
            levels.append(character)
            deepest = max(deepest, len(levels))
    return False


@constraint(
    "format:options",
    "Answer with one of the following options, without any explanation: {options}.",
    options=Text(),
)
def options(response: Response, options: str) -> bool:
    """Options are separated by "/", else by "or", else by commas.

    Lettered options are compared character by character, others without case and punctuation.
    """
    separator = next((mark for mark in ("/", "or") if mark in options), ",")
    allowed = [option.strip() for option in options.split(separator)]
    if _LETTERED.match(options):
        return response.text in allowed
    answer = response.text.strip(MARKS).lower()
    return any(option.strip(MARKS).lower() == answer for option in allowed)


@constraint("format:newline", "Write each word on a new line.")
def newline(response: Response) -> bool:
    """As many lines that are not empty as words, once punctuation is gone."""
    text = response.plain.strip()
    return sum(line != "" for line in text.split("\n")) == len(text.split())


@constraint("format:emoji", "End every sentence with an emoji.", needs=(SENTENCES, EMOJI))
def emoji(response: Response) -> bool:
    """One of the last two characters, or the first one of the next sentence, is an emoji."""
    plain = [without_punctuation(sentence).strip() for sentence in response.sentences]
    for index, sentence in enumerate(plain):
        if not sentence:
            return False
        if any(is_emoji(character) for character in sentence[-2:]):
            continue
        following = plain[index + 1] if index + 1 < len(plain) else ""
        if not following or not is_emoji(following[0]):
            return False
    return True


@constraint("format:line_indent", "Create stairs by indenting each new line more.")
def line_indent(response: Response) -> bool:
    """By leading spaces; some blank lines count as lines: see :func:`_some_blank_lines_removed`."""
    lines = _some_blank_lines_removed(response.text.split("\n"))
    indents = [len(line) - len(line.lstrip(" ")) for line in lines]
    return all(first < second for first, second in pairwise(indents))


def _some_blank_lines_removed(lines: list[str]) -> list[str]:
    """The lines that are left when a list is changed while it is gone through.

    The line after a blank one is not looked at; a blank line takes the place of an equal one that
    was left behind earlier.
    """
    removed = set()
    left_behind: dict[str, deque[int]] = defaultdict(deque)
    index = 0
    while index < len(lines):
        if not lines[index].strip():
            earlier = left_behind[lines[index]]
            earlier.append(index)
            removed.add(earlier.popleft())
            index += 1
            if index < len(lines) and not lines[index].strip():
                left_behind[lines[index]].append(index)
        index += 1
    return [line for number, line in enumerate(lines) if number not in removed]


@constraint(
    "format:quote_unquote", "Follow every quoted phrase with an explanation outside of quotes."
)
def quote_unquote(response: Response) -> bool:
    """No two straight double quotes in a row, and none at the end; no quote at all passes."""
    text = "".join(response.text.replace("'\"'", "").split())
    end = text.strip("0123456789" + PUNCTUATION.replace('"', ""))
    return '""' not in text and not end.endswith('"')


@constraint(
    "format:list",
    "Answer with a list of items, marked by {sep} instead of bullet points.",
    sep=Text(),
)
def list_marker(response: Response, sep: str) -> bool:
    """The mark occurs at least twice, anywhere."""
    return response.text.count(sep) >= 2


@constraint(
    "format:thesis",
    "Begin each section with a thesis statement in italics, marked by HTML: <i> or <em>.",
)
def thesis(response: Response) -> bool:
    """The first such tag holds text and more text follows it."""
    text = response.text
    start = text.find("<i>")
    start = text.find("<em>") if start < 0 else start
    if start < 0:
        return False
    text = text[start:]
    end = text.find("</i>")
    end = text.find("</em>") if end < 0 else end
    return end >= 0 and text[3:end].strip() != "" and text[end + 4 :].strip() != ""


@constraint(
    "format:sub-bullets",
    "Use bullet points marked by *, each with at least one sub-bullet point marked by -.",
)
def sub_bullets(response: Response) -> bool:
    """A dash somewhere after each asterisk; no asterisk at all passes."""
    return all("-" in bullet for bullet in response.text.split("*")[1:])


@constraint(
    "format:no_bullets_bullets",
    "Write at least two sentences that end in a period, then at least two bullet points "
    "marked by *.",
    needs=(SENTENCES,),
)
def no_bullets_bullets(response: Response) -> bool:
    """One blank line may stand before the bullets, and nothing after them."""
    written = bullets = 0
    prose = True
    for line in response.text.split("\n"):
        if line.strip().startswith("*"):
            prose = False
            if written < 2:
                return False
            bullets += 1
        elif prose:
            found = len(sentences(line.strip()))
            written += found
            prose = found > 0
        else:
            return False
    return bullets >= 2


@constraint(
    "format:title_case",
    "Write the entire response in title case: capitalize the first letter of every major word.",
    needs=(SENTENCES,),
)
def title_case(response: Response) -> bool:
    """No word in lower case, minor words included."""
    for word in response.tokens:
        if not word[0].isalpha() or not word[0].islower():
            continue
        if len(word) == 1 or word[1:].isupper() or word[1:].islower():
            return False
    return True


@constraint(
    "format:output_template",
    "Use this template: My Answer: [answer] My Conclusion: [conclusion] Future Outlook: [outlook]",
)
def output_template(response: Response) -> bool:
    """The three labels occur, in any order."""
    labels = ("My Answer:", "My Conclusion:", "Future Outlook:")
    return all(label in response.text for label in labels)


@constraint("format:no_whitespace", "Do not use any white space.")
def no_whitespace(response: Response) -> bool:
    """Unicode's white space too."""
    return re.search(r"\s", response.text) is None


@constraint(
    "repeat:repeat_change",
    "Repeat the request, but change its first word, and do not answer it. The request: "
    "{prompt_to_repeat}",
    prompt_to_repeat=Text(),
)
def repeat_change(response: Response, prompt_to_repeat: str) -> bool:
    """The words after the first are the same; white space does not count."""
    if response.text == prompt_to_repeat:
        return False
    return response.text.split()[1:] == prompt_to_repeat.split()[1:]


@constraint("repeat:repeat_simple", _SENTENCE_TO_REPEAT)
def repeat_simple(response: Response) -> bool:
    """The response is that sentence, in any case."""
    return response.text.strip().lower() == _SENTENCE_TO_REPEAT.lower()


@constraint(
    "repeat:repeat_span",
    "Copy the characters from index {n_start} to index {n_end}, both included, of this text: "
    "{prompt_to_repeat}",
    order=("n_start", "n_end"),
    prompt_to_repeat=Text(),
    n_start=Whole(),
    n_end=Whole(),
)
def repeat_span(response: Response, prompt_to_repeat: str, n_start: int, n_end: int) -> bool:
    """White space at the ends and case do not count."""
    span = prompt_to_repeat[n_start : n_end + 1]
    return response.text.strip().lower() == span.strip().lower()
