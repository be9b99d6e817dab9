"""A passing and a failing response for each constraint of open-instruct's training set."""

import pytest

from rl_verifiers.instructions import describe, follows, known, training

COPY = {"prompt_to_repeat": "Tell me why."}
EXAMPLES = {
    "copy:repeat_phrase": (
        {"phrase": "dance like nobody is watching", "small_n": 2},
        "dance like everybody is watching, dance with nobody is watching",
        "dance like nobody is watching, dance with nobody is watching",
    ),
    "copy:copy": (COPY, " tell me why.", "Why?"),
    "copy:copying_simple": (COPY, "TELL ME WHY.", "Tell me why. Because."),
    "copy:copying_multiple": (
        COPY | {"N": 2},
        "Tell me why. ****** Tell me why.",
        "Tell me why.",
    ),
    "new:copy_span_idx": (COPY | {"n_start": 5, "n_end": 7}, "ME", "me w"),
    "detectable_format:sentence_hyphens": ({}, "One.-Two.", "One. -Two."),
    "detectable_format:square_brackets": ({}, "[a] [b]", "[a b]"),
    "detectable_format:bigram_wrapping": ({}, "<<a b>> <<c d>> e", "<<a b>> c d"),
    "keywords:no_adjacent_consecutive": ({}, "bad apples come", "a bee"),
    "keywords:word_once": ({"keyword": "cat"}, "A Cat.", "A cat category."),
    "keywords:word_count_different_numbers": (
        {"keyword": "cat", "frequency": 2, "relation": "at least"},
        "cat, cat",
        "cat",
    ),
    "keywords:exclude_word_harder": ({"keyword": "cat"}, "A cat.", "A cat is."),
    "keywords:palindrome": ({}, "at noon", "at dawn"),
    "keywords:keyword_specific_position": (
        {"keyword": ["red"], "n": 2, "m": 4},
        "One. It is, red.",
        "One. It is red.",
    ),
    "keywords:start_end": ({}, "So it is so", "So it is so."),
    "paragraphs:paragraphs": ({}, "a *** b", "a"),
    "paragraphs:paragraphs2": ({}, "a\n\nb\n", "a\n\n\n\nb"),
    "first_word:first_word_sent": ({"first_word": "so"}, "So what. So be it.", "So. It is."),
    "first_word:first_word_answer": ({"first_word": "so"}, "So be it.", "So, be it."),
    "last_word:last_word_sent": ({"last_word": "so"}, "Not so. Is it so?", "Not so. Is it?"),
    "last_word:last_word_answer": ({"last_word": "so"}, "It is. So!", "So it is."),
    "punctuation:punctuation_dot": ({}, "Yes!", "Yes."),
    "punctuation:punctuation_exclamation": ({}, "Yes.", "Yes!"),
    "count:lowercase_counting": ({"N": 1}, "YES it IS", "yes it IS"),
    "letters:letter_counting": ({"N": 3, "relation": "at least"}, "a1bc", "ab1"),
    "letters:letter_counting2": (
        {"letter": "a", "let_frequency": 2, "let_relation": "less than"},
        "Ab",
        "Aa",
    ),
    "count:counting_composition": (
        {"n_sent": 2, "n_words": 3},
        "I am. I do. *** We are. We do. *** I was. I did.",
        "I am. I do. *** We are. We do so. *** I was. I did.",
    ),
    "count:count_unique": ({}, "a b A .", "I am. He is."),
    "count:count_increment_word": (
        {"keyword1": "cat", "keyword2": "dog"},
        "cat dog dogs",
        "cat dog",
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_response_that_follows_passes_and_another_fails(name):
    kwargs, right, wrong = EXAMPLES[name]
    assert [follows(name, kwargs, right), follows(name, kwargs, wrong)] == [True, False]


@pytest.mark.parametrize("name", EXAMPLES)
def test_its_sentence_shows_its_arguments(name):
    kwargs = EXAMPLES[name][0]
    sentence = describe(name, kwargs)
    for value in kwargs.values():
        assert str(value[0] if isinstance(value, list) else value) in sentence


def test_every_constraint_of_the_training_set_has_an_example():
    defined = {n for n, c in known().items() if c.check.__module__ == training.__name__}
    assert defined <= set(EXAMPLES) <= set(known())
    assert len(EXAMPLES) == 29
