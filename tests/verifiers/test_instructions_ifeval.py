"""A passing and a failing response for each constraint of IFEval."""

import pytest

from rl_verifiers import VerifierError
from rl_verifiers.instructions import describe, follows, ifeval, known

EXAMPLES = {
    "keywords:existence": ({"keywords": ["cat", "(d)"]}, "Concatenate (D)", "a cat and a d"),
    "keywords:frequency": (
        {"keyword": "war", "frequency": 2, "relation": "less than"},
        "War.",
        "warm Warsaw",
    ),
    "keywords:forbidden_words": ({"forbidden_words": ["rock"]}, "rocks", "We ROCK."),
    "keywords:letter_frequency": (
        {"letter": "#", "let_frequency": 2, "let_relation": "at least"},
        "# and #",
        "# and b",
    ),
    "language:response_language": (
        {"language": "de"},
        "Das ist ein ganz gewöhnlicher Satz über das Wetter.",
        "This is a perfectly ordinary sentence about the weather.",
    ),
    "length_constraints:number_sentences": (
        {"num_sentences": 3, "relation": "at least"},
        "Dr. Smith went home. He slept! Did he?",
        "Dr. Smith went home. He slept!",
    ),
    "length_constraints:number_paragraphs": ({"num_paragraphs": 2}, "a\n***\nb ***", "a *** *** b"),
    "length_constraints:number_words": (
        {"num_words": 3, "relation": "at least"},
        "I don't.",
        "I do.",
    ),
    "length_constraints:nth_paragraph_first_word": (
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Weekend"},
        'One.\n\n"weekend\'s" end.',
        "Weekend.\n\nTwo.",
    ),
    "detectable_content:number_placeholders": ({"num_placeholders": 2}, "[a] [b]", "[a [b\nc]"),
    "detectable_content:postscript": (
        {"postscript_marker": "P.P.S"},
        "Bye.\np. p.s. More",
        "Bye.\nP.S. More",
    ),
    "detectable_format:number_bullet_lists": (
        {"num_bullets": 3},
        "List:\n\n* a\n - b\n**c**\n*\n* hidden by the line before\n",
        "* a\n* b\n* c\n- d",
    ),
    "detectable_format:constrained_response": ({}, "So: My answer is no.", "no"),
    "detectable_format:number_highlighted_sections": (
        {"num_highlights": 2},
        "*a* and **b**",
        "*a* *\n* **",
    ),
    "detectable_format:multiple_sections": (
        {"section_spliter": "SECTION", "num_sections": 2},
        "SECTION 1 a SECTION2 b",
        "SECTION one SECTION 2",
    ),
    "detectable_format:json_format": ({}, '```json\n{"a": [1]}\n```', "{'a': 1}"),
    "detectable_format:title": ({}, "<<<A title>> and text", "<< >> <<a\nb>>"),
    "combination:two_responses": ({}, "a ****** b ******", "a ****** a"),
    "combination:repeat_prompt": ({"prompt_to_repeat": "Why? "}, " why? Because.", "Because."),
    "startend:end_checker": ({"end_phrase": "The end."}, '"So: THE END."', "The end. Or not."),
    "startend:quotation": ({}, ' "a" ', '"'),
    "change_case:capital_word_frequency": (
        {"capital_frequency": 2, "capital_relation": "less than"},
        "NASA's here",
        "I saw NASA",
    ),
    "change_case:english_capital": (
        {},
        "THIS IS A PERFECTLY ORDINARY SENTENCE ABOUT THE WEATHER.",
        "This is a perfectly ordinary sentence about the weather.",
    ),
    "change_case:english_lowercase": (
        {},
        "this is a perfectly ordinary sentence about the weather.",
        "das ist ein ganz gewöhnlicher satz über das wetter.",
    ),
    "punctuation:no_comma": ({}, "a; b", "a, b"),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_response_that_follows_passes_and_another_fails(name):
    kwargs, right, wrong = EXAMPLES[name]
    assert [follows(name, kwargs, right), follows(name, kwargs, wrong)] == [True, False]


def test_every_constraint_of_ifeval_has_an_example():
    ours = {name for name, c in known().items() if name in EXAMPLES}
    assert ours == set(EXAMPLES)
    assert len(EXAMPLES) == 25


@pytest.mark.parametrize("name", EXAMPLES)
def test_its_sentence_shows_its_arguments(name):
    kwargs = EXAMPLES[name][0]
    sentence = describe(name, kwargs)
    for value in kwargs.values():
        for item in value if isinstance(value, list) else [value]:
            assert ifeval.LANGUAGES.names.get(item, str(item)) in sentence


def test_text_without_a_language_is_in_none():
    assert not follows("language:response_language", {"language": "en"}, "1234 ...")


@pytest.mark.parametrize(
    ("name", "kwargs", "problem"),
    [
        ("length_constraints:number_words", {"num_words": 3}, "argument 'relation' is missing"),
        (
            "length_constraints:number_words",
            {"num_words": 3, "relation": "at most"},
            "relation must be one of less than, at least, not 'at most'",
        ),
        ("punctuation:no_comma", {"n": 1}, "unknown argument 'n'; it takes no arguments"),
        ("keywords:existence", {"keywords": "cat"}, "keywords must be a list of texts, not 'cat'"),
        ("keywords:existence", {"keywords": [""]}, "keywords must be a text that is not blank"),
        (
            "length_constraints:number_paragraphs",
            {"num_paragraphs": 1.5},
            "num_paragraphs must be a whole number, not 1.5",
        ),
        (
            "length_constraints:number_paragraphs",
            {"num_paragraphs": float("nan")},
            "num_paragraphs must be a whole number, not nan",
        ),
        (
            "length_constraints:nth_paragraph_first_word",
            {"num_paragraphs": 1, "nth_paragraph": 2, "first_word": "a"},
            "nth_paragraph must not exceed num_paragraphs",
        ),
        ("keywords:letter_frequency", {"letter": "ab"}, "letter must be one character, not 'ab'"),
        ("language:response_language", {"language": "xx"}, "language must be one of ar, bg"),
    ],
)
def test_arguments_that_do_not_fit_are_named(name, kwargs, problem):
    with pytest.raises(VerifierError, match=f"^{name}: ") as raised:
        describe(name, kwargs)
    assert problem in str(raised.value)


@pytest.mark.parametrize(
    ("name", "kwargs", "response", "passes"),
    [
        # full stops and question marks as in the reference's regular expressions
        ("detectable_content:postscript", {"postscript_marker": "P.P.S."}, "p.p.s: x", True),
        ("detectable_content:postscript", {"postscript_marker": "P.P.S."}, "p.p.s", False),
        ("keywords:existence", {"keywords": ["s."]}, "so", True),
        ("keywords:existence", {"keywords": ["whats?"]}, "what", True),
        ("keywords:forbidden_words", {"forbidden_words": ["a.c"]}, "abc", False),
        # anything else that is special there stands for itself
        ("keywords:existence", {"keywords": ["x*y"]}, "xxy", False),
        ("keywords:existence", {"keywords": ["x*y."]}, "it is x*y.", True),
        ("keywords:existence", {"keywords": ["??"]}, "what??", True),
        ("keywords:existence", {"keywords": ["(a+)+$"]}, "a" * 1_000_000, False),
        ("keywords:existence", {"keywords": ["a?a?a?a?a?aaaaa"]}, "a" * 1_000_000, False),
    ],
)
def test_which_special_characters_are_read_as_the_reference_reads_them(
    name, kwargs, response, passes
):
    assert follows(name, kwargs, response) is passes
