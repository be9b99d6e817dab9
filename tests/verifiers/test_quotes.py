import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_verifiers import VerifierError, gate, make
from rl_verifiers.quotes_text import fold

FOX = (
    "Foxes are small, omnivorous mammals. The red fox isn’t endangered — it is the most "
    "widespread species of all.\nIts classi\u00adfication has changed\u00a0often. Red foxes are "
    "not known to attack adults. They are “opportunistic”\u2009hunters, and eat mice, berries "
    "and insects in summer. Cubs are born in spring."
)
BEAR = "Brown bears hibernate in winter. Cubs are born in the den. They eat berries and salmon."
SOURCES = [{"id": "fox", "title": "The Red Fox", "text": FOX}, {"id": "bear", "text": BEAR}]


def report(completion, sources=SOURCES, **options):
    return make("quotes", **options).report(completion, {"id": 1, "sources": sources})


def finding(quote, cited="fox", sources=SOURCES, **options):
    (found,) = report(f'<quote source="{cited}">{quote}</quote>', sources, **options).quotes
    return found


@pytest.mark.parametrize(
    ("quote", "problem"),
    [
        ("Foxes are small, omnivorous mammals.", ""),
        ("The red fox isn't endangered - it is the most widespread", ""),
        ("the red fox isn't endangered--it is", ""),
        ("widespread species of all. Its classification has changed often", ""),
        ('"They are "opportunistic" hunters,"', ""),
        ("eat mice, berries [...] in summer", ""),
        ("eat mice ... berries … in summer", "not_found"),  # one word is no piece
        ("eat mice, berries . . . in summer", ""),
        ("[R]ed foxes are not known to attack adults", ""),
        ("Foxes are small, carnivorous mammals", "not_found"),
        ("The red fox is endangered — it is", "not_found"),
        ("Red foxes are known to attack adults", "not_found"),
        ("Red foxes are ... known to attack adults", "negation_left_out"),
        ("known to attack adults. They are", "negation_left_out"),
        ("eat mice, berries [and people] in summer", "not_found"),
        ("known to ... Foxes are small", "not_found"),  # out of order
        ("oxes are small, omnivorous mam", "not_found"),  # parts of words
        ("Foxes are", "too_short"),
        ("They eat berries and salmon", "other_source"),
        ("", "too_short"),
    ],
)
def test_word_for_word_but_for_typography(quote, problem):
    assert finding(quote).problem == problem


def test_the_place_is_the_originals():
    found = finding("widespread species of all. Its classification has changed often")
    (span,) = found.spans
    assert FOX[slice(*span)] == (
        "widespread species of all.\nIts classi\u00adfication has changed\u00a0often"
    )
    assert found.edits == 1
    found = finding("small, omnivorous ... The red fox isn't endangered")
    assert [FOX[slice(*span)] for span in found.spans] == [
        "small, omnivorous",
        "The red fox isn’t endangered",
    ]
    assert found.line.endswith(f"at 10:27, {found.spans[1].start}:{found.spans[1].end}")


def test_an_elision_is_bounded_and_takes_the_nearest_pieces():
    text = "one two here. " + "filler words " * 30 + "one two there and three four five."
    sources = {"a": text}
    completion = '<quote source="a">one two ... three four five</quote>'
    (found,) = report(completion, sources).quotes
    assert found.spans[0].start == text.rindex("one two")
    assert not report(completion.replace("one two", "one two here"), sources).score.passed
    assert report(completion.replace("one two", "one two here"), sources, max_gap=500).score.passed


@pytest.mark.parametrize(
    ("syntax", "completion", "cited"),
    [
        ("gophercite", "%<They breed.>%(The red fox)%[Cubs are born in spring]%", "The red fox"),
        ("markdown", "As written:\n> Cubs are born\n> in spring. [fox]\n\nSo.", "fox"),
        ("markdown", "> Cubs are born in spring.\n\n— [fox]", "fox"),
        ("inline", 'They say "cubs are born in spring," [fox] and "so" on.', "fox"),
        ("inline", "It says “Cubs are born in spring” ([bear][fox]).", "bear"),
        ("tag", "<quote note='source=x' source='fox'>Cubs are born in spring</quote>", "fox"),
    ],
)
def test_syntaxes(syntax, completion, cited):
    found = report(completion, syntax=syntax)
    assert found.score.passed, found.score.reason
    assert found.quotes[0].cited[0] == cited
    assert found.quotes[0].source == "fox"


GOOD = '<quote source="fox">Cubs are born in spring</quote>'
CITED = "%<They breed.>%(The red fox)%[Cubs are born in spring]%"


@pytest.mark.parametrize(
    ("syntax", "completion"),
    [
        ("tag", f'{GOOD} <quote source="fox">Foxes cure cancer'),
        ("tag", f'<quote source="fox">Foxes cure cancer {GOOD}'),
        ("tag", f'{GOOD} <quote source="fox" note="{"x" * 400}">Foxes cure cancer</quote>'),
        ("tag", f'{GOOD} <quote source="fox" note="<">Foxes cure cancer</quote>'),
        ("tag", f'{GOOD} <QUOTE source="fox"\n Foxes cure cancer'),
        ("tag", f'{GOOD} <quote source="fox"/>Foxes cure cancer</quote>'),
        ("gophercite", f"{CITED} %<They heal.>%(The red fox)%[Foxes cure cancer"),
    ],
)
def test_a_malformed_quote_is_unsupported_and_hides_nothing(syntax, completion):
    found = report(completion, syntax=syntax)
    assert (found.score.status, found.score.parts["n_quotes"]) == ("wrong", 2.0)
    assert sorted(quote.problem for quote in found.quotes) == ["", "malformed"]
    assert report(completion, syntax=syntax, reward="fraction").score.value == 0.5


def test_a_letter_in_brackets_stands_for_either_case():
    for quote in ("[C]ubs are [B]orn in spring", "[c]ubs are born in [S]pring"):
        assert finding(quote, case=True).supported
    assert not finding("cubs are born in spring", case=True).supported
    assert not finding("[D]ubs are born in spring", case=True).supported
    (found,) = report('<quote data-source="fox">Cubs are born in spring</quote>').quotes
    assert found.problem == "no_citation"


def test_missing_and_unknown_citations():
    assert report("No quote.").score.status == "no_answer"
    (found,) = report('He "said cubs are born in spring" there', syntax="inline").quotes
    assert found.problem == "no_citation"
    assert finding("Cubs are born in spring", cited="wolf").problem == "other_source"
    assert finding("Wolves howl at the moon", cited="wolf").problem == "unknown_source"
    assert finding("Cubs are born in spring", cited="2", sources=[BEAR, FOX]).supported


def test_rewards():
    good, bad = "Cubs are born in spring", "Cubs are born in autumn"
    two = f'<quote source="fox">{good}</quote><quote source="fox">{bad}</quote>'
    assert report(two).score.value == 0.0
    half = report(two, reward="fraction").score
    assert (half.value, half.passed, half.parts["supported"]) == (0.5, False, 0.5)
    again = f'<quote source="fox">{good}</quote>' * 3
    assert report(again).score.value == 1.0
    thrice = report(again, min_quotes=2, reward="fraction").score
    assert (thrice.value, thrice.reason) == (0.5, "1 different quotes, not 2")


def test_a_copied_source_is_no_quote():
    text = " ".join(f"word{n}" for n in range(300))
    quotes = [" ".join(f"word{n}" for n in range(start, start + 60)) for start in range(0, 300, 60)]
    completion = "".join(f'<quote source="a">{quote}</quote>' for quote in quotes)
    score = report(completion, {"a": text}, reward="fraction").score
    assert (score.status, score.value, score.reason) == ("wrong", 0.0, "quotes 100% of source 'a'")
    assert report(completion, {"a": text}, max_share=1).score.passed
    (found,) = report(f'<quote source="a">{text}</quote>', {"a": text}, max_share=1).quotes
    assert found.line.endswith(f"is {len(text)} characters long")


def test_an_answer_may_be_asked_for_too():
    both = gate(make("quotes"), make("contains"))
    row = {"sources": SOURCES, "answer": "spring"}
    assert both('In spring: <quote source="fox">Cubs are born in spring</quote>', row).passed
    assert not both('<quote source="bear">Cubs are born in the den</quote>', row).passed
    assert not both("In spring.", row).passed


@pytest.mark.parametrize(
    "sources", [None, [], "text", [{"id": "a"}], [{"id": "a", "text": "x"}] * 2, {"a": None}]
)
def test_unusable_sources(sources):
    assert report("x", sources).score.status == "bad_reference"


TRICKY = st.text(
    alphabet="aZ éﬁß“”’—- \n\t\u00ad\u200b\u00a0e\u0301か\u3099.…İ-`\u1100\u1161", max_size=60
)


@given(TRICKY)
def test_folding_keeps_the_way_back(text):
    folded = fold(text)
    assert fold(unicodedata.normalize("NFC", text)).text == folded.text
    ends = [folded.span(place, place + 1) for place in range(len(folded.text))]
    assert all(0 <= span.start < span.end <= len(text) for span in ends)
    assert ends == sorted(ends)
    for start in range(0, len(folded.text), 7):
        span = folded.span(start, len(folded.text))
        assert folded.text[start:] in fold(text[slice(*span)]).text + " "


@given(st.data())
def test_what_is_cut_from_a_source_is_found_there(data):
    words = data.draw(st.lists(st.text("abc’é", min_size=1, max_size=4), min_size=8, max_size=30))
    text = " ".join(words)
    start = data.draw(st.integers(0, len(words) - 5))
    quote = "  ".join(words[start : start + 5]).replace("’", "'")
    completion = f'<quote source="s">{quote}</quote>'
    score = make("quotes", negations=False, min_words=1)(completion, {"sources": {"s": text}})
    assert score.passed or not quote.strip("' ")


HOSTILE = [
    "%<" * 300_000,
    "<quote " * 140_000,
    '<quote source="s">' * 50_000 + "</quote>",
    '"' * 1_000_000,
    "> " + "[" * 900_000,
    "> [a]\n" * 150_000,
    '<quote source="s">' + "a ... " * 160 + "</quote>",
    '<quote source="s">a a a a</quote>' * 100,
]


@pytest.mark.parametrize("completion", HOSTILE)
@pytest.mark.parametrize(
    "source", ["a " * 500_000, "\u200b" * 1_000_000, "e" + "\u0301\u0316" * 500_000, "- " * 500_000]
)
def test_hostile_text_takes_linear_time(completion, source):
    for syntax in ("tag", "gophercite", "markdown", "inline"):
        make("quotes", syntax=syntax)(completion, {"sources": {"s": source}})


def test_bad_options():
    for options, message in [
        ({"syntax": "html"}, "syntax is 'html'"),
        ({"reward": "some"}, "reward is 'some'"),
        ({"min_words": 0}, "min_words is 0"),
        ({"max_share": 0}, "max_share is 0"),
        ({"max_share": float("nan")}, "max_share is nan"),
        ({"max_gap": -1}, "max_gap is -1; it must be a whole number from 0"),
        ({"case": "no"}, "case is 'no'; it must be true or false"),
        ({"syntax": "markdwn"}, "did you mean 'markdown'"),
    ]:
        with pytest.raises(VerifierError, match=message):
            make("quotes", **options)
