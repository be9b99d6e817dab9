import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_rl.runs.text import ascii_spark, clean, clip, duration, number, spark


def test_clean_shows_escape_sequences_as_characters():
    assert clean("\x1b[31mred\x07\r\n\tok\x9b") == "\\x1b[31mred\\x07\\x0d\n\tok\\x9b"


def test_clean_shows_characters_that_reorder_text():
    assert clean("a\u202eb\u2066c\u200bd") == "a\\u202eb\\u2066c\\u200bd"


def test_clean_shows_what_the_encoding_lacks():
    assert clean("é▁", "ascii") == "\\xe9\\u2581"


@given(st.text(st.characters()), st.sampled_from(["utf-8", "ascii", "cp1252"]))
def test_cleaned_text_can_be_printed_and_moves_no_cursor(text, encoding):
    shown = clean(text, encoding).encode(encoding).decode(encoding)
    assert all(c in "\n\t" or (c.isprintable() or ord(c) > 0x9F) for c in shown)
    assert "\x1b" not in shown


def test_clip_says_how_much_is_missing():
    assert clip("abcdef", 6) == "abcdef"
    assert clip("abcdef", 2) == "ab ... (4 more characters)"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.21, "4.2 s"), (185, "3 min 05 s"), (7620, "2 h 07 min"), (-1, "0.0 s"), (math.inf, "-")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.500"), (None, "nan"), (math.nan, "nan"), (math.inf, "inf")]
)
def test_numbers_that_are_none_are_shown_as_such(value, text):
    assert number(value, ".3f") == text


def test_spark_goes_from_the_lowest_to_the_highest():
    assert spark(range(8), 8) == "▁▂▃▄▅▆▇█"
    assert ascii_spark(range(8), 8) == "_.-~=+*#"


def test_spark_averages_what_does_not_fit_and_skips_what_is_no_number():
    assert spark([0, 0, math.nan, 7, 7], 2) == "▁█"
    assert spark([2, 2], 8) == "▁▁"
    assert spark([math.nan], 8) == ""
