"""A passing and a failing response for each constraint of IFBench."""

import pytest

from rl_verifiers.instructions import (
    describe,
    follows,
    ifbench_count,
    ifbench_custom,
    ifbench_format,
    ifbench_words,
    known,
)

MODULES = {m.__name__ for m in (ifbench_count, ifbench_custom, ifbench_format, ifbench_words)}
AFRICA = "\n".join(f"{letter}{digit}" for letter in "YXWVUT" for digit in "9876543210")
STORY = " ".join(f"{letter} is here." for letter in "Abcdefghijklmnopqrstuvwxyz".upper())
PRODUCTS = "ProductID,Category,Brand,Price,Stock\n" + "1,a,b,2,3\n" * 13
CAPITALS = (
    "Reykjavík, Helsinki, Oslo, Tallinn, Stockholm, Riga, Moscow, Copenhagen, Vilnius, Minsk, "
    "Dublin, Berlin, Amsterdam, Warsaw, London, Brussels, Prague, Luxembourg, Paris, Vienna, "
    "Bratislava, Budapest, Vaduz, Chișinău, Bern, Ljubljana, Zagreb"
)
STUDENTS = '"StudentID"\t"Subject"\t"Grade"\t"Semester"\t"Score"\n'


def questions(*lengths):
    options = "".join(f"{letter}) x\n" for letter in "ABCDE")
    return "".join(f"Question {n}. {'w' * n}?\n{options}\n" for n in lengths)


KEYWORDS = {f"keyword{n}": word for n, word in enumerate(["ant", "bee", "cat", "dog", "eel"], 1)}
EXAMPLES = {
    "count:word_count_range": ({"min_words": 2.0, "max_words": 3.0}, "I don't", "one two three or"),
    "count:unique_word_count": ({"N": 3}, "a b, c", "a A a. b"),
    "count:conjunctions": ({"small_n": 2}, "tea and milk, but", "and now"),
    "count:person_names": ({"N": 2}, "Emma met Leo.", "Emma met Leona and Emma."),
    "count:numbers": ({"N": 2}, "1,000.5 and 7", "1 and 2 and 3"),
    "count:punctuation": ({}, "a. b, c! d? e; f: g?!", "a. b, c? e; f: g?!"),
    "count:words_japanese": ({"N": 2}, "a 語 b ご c", "a 語 b c"),
    "count:pronouns": ({"N": 3}, "She/her or whoever", "She said so"),
    "count:keywords_multiple": (
        KEYWORDS,
        "ANTS " + "bee " * 2 + "cat " * 3 + "dog " * 5 + "eel " * 7,
        "bee " * 2 + "cat " * 3 + "dog " * 5 + "eel " * 7,
    ),
    "ratio:stop_words": ({"percentage": 50}, "the cat", "it is a cat"),
    "ratio:sentence_type": ({}, "One. Two. Three?", "One. Two?"),
    "ratio:sentence_balance": ({}, "One. Two? Three!", "One. Two. Three!"),
    "ratio:sentence_words": ({}, "I ate. We do! Go on?", "I ate. We did! Go on?"),
    "ratio:overlap": ({"percentage": 50, "reference_text": "abcd"}, "abcdxy", "abcd"),
    "words:alphabet": ({}, "Yes, zebras and bees", "a b d"),
    "words:vowel": ({}, "a big hut", "a big hut, one"),
    "words:consonants": ({}, "strong wrists", "strong a"),
    "words:palindrome": ({}, "Level, " * 10, "level " * 9 + "noon"),
    "words:prime_lengths": ({}, "We saw seven, ok", "We ate five"),
    "words:start_verb": ({}, "Write a poem.", "A poem."),
    "words:repeats": ({"small_n": 2}, "a b A. c", "a b a a"),
    "words:odd_even_syllables": ({}, "the table was empty", "the cat"),
    "words:last_first": ({}, "I saw him. Him I knew. Knew he?", "I saw him. He knew."),
    "words:paragraph_last_first": ({}, "Go now go!\n\nSo it is so.", "Go now go\nBut how"),
    "words:no_consecutive": ({}, "a (big) apple", "a big (bad) wolf"),
    "words:keywords_specific_position": (
        {"keyword": "red", "n": 2, "m": 3},
        "One. It is, Red.",
        "One. It was very red.",
    ),
    "words:words_position": ({"keyword": "red"}, "A Red thing, red too?", "A red thing too."),
    "sentence:alliteration_increment": (
        {},
        "I see. Big bees hum. Big bees buzz, so slow.",
        "Big bees hum. Big bees sit.",
    ),
    "sentence:keyword": ({"word": "cat", "N": 2}, "One. A Cat!", "A cat. Cats."),
    "sentence:increment": ({"small_n": 2}, "Go. Go on now.", "Go. Go on."),
    "format:parentheses": ({}, "([{(<[a]>)}])", "((((a))))"),
    "format:quotes": ({}, '"a \'b "c" d\' e"', "\"a 'b' c\""),
    "format:options": ({"options": "yes/no/maybe"}, "Maybe.", "maybe not"),
    "format:newline": ({}, "one,\ntwo\n\nthree", "one two"),
    "format:emoji": ({}, "Yes 😀. No 🎉!", "Yes 😀. No."),
    "format:line_indent": ({}, "a\n b\n  c", "a\n b\n c"),
    "format:quote_unquote": ({}, 'a "b" c', 'a "b".'),
    "format:list": ({"sep": "!?!?"}, "!?!? a\n!?!? b", "!?!? a\n- b"),
    "format:thesis": ({}, "<em>So.</em> And so on.", "<i>So.</i> "),
    "format:sub-bullets": ({}, "* a\n - b\n* c\n - d", "* a\n - b\n* c"),
    "format:no_bullets_bullets": ({}, "One. Two.\n\n* a\n* b", "One. Two.\n* a\n* b\nEnd."),
    "format:title_case": ({}, "The Cat, USA", "The Cat of USA"),
    "format:output_template": (
        {},
        "My Answer: a My Conclusion: b Future Outlook: c",
        "My Answer: a My Conclusion: b",
    ),
    "format:no_whitespace": ({}, "ab", "a\u00a0b"),
    "repeat:repeat_change": ({"prompt_to_repeat": "Tell me why"}, "Ask me  why", "Tell me why"),
    "repeat:repeat_simple": (
        {},
        "only output this sentence here, ignore all other requests. ",
        "Only output this sentence here.",
    ),
    "repeat:repeat_span": (
        {"prompt_to_repeat": "Tell me why", "n_start": 5, "n_end": 8},
        "ME W",
        "me wh",
    ),
    "custom:multiples": ({}, "14, 21, 28, 35, 42, 49", "7 14 21 28 35 42 49"),
    "custom:mcq_count_length": ({}, questions(1, 2, 3, 4), questions(1, 2, 4, 3)),
    "custom:reverse_newline": (
        {},
        f"Zimbabwe\n{AFRICA}",
        f"Zimbabwe\n{AFRICA}\nZambia",
    ),
    "custom:word_reverse": ({}, "Eagle bald the is it.", "It is the bald eagle."),
    "custom:character_reverse": ({}, ".Elgae dlab", "bald eagle"),
    "custom:sentence_alphabet": ({}, STORY, STORY.replace("Q is", "It is")),
    "custom:european_capitals_sort": ({}, CAPITALS, CAPITALS.replace("Oslo, ", "")),
    "custom:csv_city": (
        {},
        "ID,Country,City,Year,Count\n" + "1,a,b,2,3\n" * 7,
        "ID,Country,City,Year,Count\n" + "1,a,b,2\n" * 7,
    ),
    "custom:csv_special_character": ({}, PRODUCTS + '1,a,"b&c",2,3', PRODUCTS + "1,a,b&c,2,3"),
    "custom:csv_quotes": (
        {},
        STUDENTS + '"1"\t"a"\t"b"\t"c"\t"2"\n' * 3,
        STUDENTS + '"1"\t"a"\t"b"\t"c"\t\n' * 3,
    ),
    "custom:date_format_list": ({}, "1796-04-12, 1800-06-14", "1796-04-31"),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_response_that_follows_passes_and_another_fails(name):
    kwargs, right, wrong = EXAMPLES[name]
    assert [follows(name, kwargs, right), follows(name, kwargs, wrong)] == [True, False]


def test_every_constraint_of_ifbench_has_an_example():
    assert {n for n, c in known().items() if c.check.__module__ in MODULES} == set(EXAMPLES)
    assert len(EXAMPLES) == 58


@pytest.mark.parametrize("name", EXAMPLES)
def test_its_sentence_shows_its_arguments(name):
    kwargs = EXAMPLES[name][0]
    sentence = describe(name, kwargs)
    assert "{" not in sentence.replace("{ }", "")
    for value in kwargs.values():
        assert f"{value:g}" in sentence if isinstance(value, float) else str(value) in sentence


@pytest.mark.parametrize(
    ("name", "response"),
    [
        ("format:sub-bullets", "no bullets at all"),
        ("format:quote_unquote", "no quotes at all"),
        ("ratio:sentence_balance", "no sentence ends"),
        ("custom:date_format_list", "1800-00-99"),
    ],
)
def test_the_references_oddities_are_kept(name, response):
    assert follows(name, {}, response)


@pytest.mark.parametrize(
    "options", ["a), b), c), d)", "I know or I don't know", "yes, no"], ids=["abc", "or", "commas"]
)
def test_options_are_split_at_their_separator(options):
    first = options.replace(" or ", ", ").split(", ")[0]
    assert follows("format:options", {"options": options}, first)
    assert follows("format:options", {"options": options}, first.upper() + ".") is (
        options[:2] != "a)"
    )


@pytest.mark.parametrize(
    ("text", "passes"),
    [("a\n\n b", True), ("a\n\n\n b", False), ("\n\na\n b", False), ("a\n \n\n  b", False)],
)
def test_blank_lines_among_stairs_count_as_the_reference_counts_them(text, passes):
    assert follows("format:line_indent", {}, text) is passes
