import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_verifiers import VerifierError, make
from rl_verifiers.overlap import common_subsequence, rouge_words, squad_words

# Made with the package rouge-score 0.1.2, use_stemmer=False: precision, recall, F.
ROUGE = [
    (
        "The cat sat on the mat.",
        "The cat is on the mat",
        {"rouge1": (0.833333,) * 3, "rouge2": (0.6,) * 3, "rougeL": (0.833333,) * 3},
    ),
    (
        "the gunman kill police",
        "police killed the gunman",
        {"rouge1": (0.75,) * 3, "rouge2": (0.333333,) * 3, "rougeL": (0.5,) * 3},
    ),
    (
        "It's 3.5-times FASTER, isn't it?",
        "it s 3 5 times slower",
        {
            "rouge1": (0.555556, 0.833333, 0.666667),
            "rouge2": (0.5, 0.8, 0.615385),
            "rougeL": (0.555556, 0.833333, 0.666667),
        },
    ),
    (
        "a b c d e f g",
        "b d f h a c e g",
        {
            "rouge1": (1.0, 0.875, 0.933333),
            "rouge2": (0.0, 0.0, 0.0),
            "rougeL": (0.571429, 0.5, 0.533333),
        },
    ),
    ("the the the the", "the cat", {"rouge1": (0.25, 0.5, 0.333333), "rouge2": (0, 0, 0)}),
    ("no overlap here", "something else entirely", {"rouge1": (0, 0, 0), "rougeL": (0, 0, 0)}),
]


@pytest.mark.parametrize(("found", "gold", "expected"), ROUGE)
def test_rouge_is_that_of_rouge_score(found, gold, expected):
    for metric, (precision, recall, f) in expected.items():
        score = make("rouge", metric=metric)(found, {"answer": gold})
        assert score.parts == pytest.approx(
            {metric: f, "precision": precision, "recall": recall}, abs=1e-6
        )
        assert score.value == score.parts[metric]


def test_rouge_takes_the_best_reference_and_passes_from_its_threshold():
    row = {"answer": ["nothing of it", "the cat is on the mat"]}
    assert make("rouge", threshold=0.83)("the cat sat on the mat", row).passed
    assert make("rouge", threshold=0.84)("the cat sat on the mat", row).status == "wrong"


def test_letters_beyond_ascii_and_chinese_characters_are_words():
    assert rouge_words("Café zwölf_3 苹果。") == ["café", "zwölf", "3", "苹", "果"]


def longest(left, right):
    table = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i, x in enumerate(left):
        for j, y in enumerate(right):
            table[i + 1][j + 1] = (
                table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
            )
    return table[-1][-1]


@given(st.lists(st.sampled_from("abc"), max_size=40), st.lists(st.sampled_from("abc"), max_size=90))
def test_the_bit_parallel_subsequence_is_that_of_the_table(left, right):
    assert common_subsequence(left, right) == longest(left, right)


@pytest.mark.parametrize(
    ("found", "gold", "f1", "exact"),
    [
        ("The Eiffel Tower!", "eiffel tower", 1.0, 1.0),
        ("tower eiffel", "Eiffel Tower", 1.0, 0.0),
        ("in the city of Paris", "Paris", 0.4, 0.0),
        ("Berlin", "Paris", 0.0, 0.0),
        ("Lyon", ["Paris", "Lyon"], 1.0, 1.0),
        ("Lyon", {"text": ["Paris", "Lyon"], "answer_start": [1, 9]}, 1.0, 1.0),
        ("the", "A", 0.0, 0.0),
        ("a", "A", 1.0, 1.0),
    ],
)
def test_f1_is_that_of_squad(found, gold, f1, exact):
    score = make("f1")(found, {"answer": gold})
    assert score.parts == pytest.approx({"f1": f1, "exact_match": exact})
    assert (score.value, score.passed) == (pytest.approx(f1), f1 == 1.0)


def test_squad_drops_articles_only_as_whole_words():
    assert squad_words("An atheist's theatre, a.") == ["atheists", "theatre"]


@pytest.mark.parametrize(
    ("options", "found", "value"),
    [
        ({}, "new  york", 1.0),
        ({"case": True}, "new york", 0.75),
        ({}, "New Yrok", 7 / 8),
        ({"method": "token_sort"}, "york NEW", 1.0),
        ({"method": "token_set"}, "the city of New York", 1.0),
        ({}, "<think>New York</think>Oslo", 1 / 6),
    ],
)
def test_fuzzy(options, found, value):
    score = make("fuzzy", threshold=0.85, **options)(found, {"answer": "New York"})
    assert (score.value, score.passed) == (pytest.approx(value, abs=0.01), value > 0.85)
    assert score.answer == found.rpartition("</think>")[2].strip()


@pytest.mark.parametrize("name", ["f1", "fuzzy", "rouge"])
def test_unusable_references_and_no_answer(name):
    verifier = make(name)
    for answer in (None, [], "", [None], True, ["x"] * 65):
        assert verifier("x", {"answer": answer}).status == "bad_reference"
    assert verifier("<think>Oslo", {"answer": "Oslo"}).status == "no_answer"


def test_what_would_cost_too_much_is_not_compared():
    long = "ab " * 50_000
    assert make("rouge")(long, {"answer": long}).status == "over_limit"
    assert make("fuzzy")(long, {"answer": long}).status == "over_limit"
    assert make("f1")(long, {"answer": long}).value == 1.0


@pytest.mark.parametrize("name", ["f1", "rouge", "fuzzy"])
def test_a_text_is_read_once_for_all_its_references(name, monkeypatch):
    read = []
    measure = type(make(name).measure)
    monkeypatch.setattr(measure, "read", spy(measure.read, read))
    row = {"answer": [f"gold {i}" for i in range(64)]}
    assert make(name)("the found text", row).status == "wrong"
    assert (read.count("the found text"), len(read)) == (1, 65)


def spy(method, calls):
    def called(self, text):
        calls.append(text)
        return method(self, text)

    return called


@pytest.mark.parametrize("name", ["fuzzy", "rouge"])
def test_many_short_references_do_not_make_a_long_text_cheap(name):
    row = {"answer": [f"gold {i}" for i in range(64)]}
    assert make(name)("ab " * 300_000, row).status == "over_limit"
    assert make(name)("ab " * 10_000, row).status == "wrong"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("rouge", {"metric": "rougel"}, r"rouge: metric is 'rougel'.*did you mean 'rougeL'\?"),
        ("fuzzy", {"method": "partial"}, "fuzzy: method is 'partial'; it must be one of ratio"),
        ("f1", {"threshold": 0}, "f1: threshold is 0; it must be a number above 0 to 1"),
        ("f1", {"threshold": float("nan")}, "f1: threshold is nan"),
        ("fuzzy", {"threshold": True}, "fuzzy: threshold is True"),
        ("fuzzy", {"case": "no"}, "fuzzy: case is 'no'; it must be true or false"),
        ("f1", {"extract": "box"}, "f1: extract is 'box'.*did you mean 'boxed'"),
    ],
)
def test_bad_options_are_refused(name, options, message):
    with pytest.raises(VerifierError, match=message):
        make(name, **options)
