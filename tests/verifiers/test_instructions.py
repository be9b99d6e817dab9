"""Reading rows, the two modes, the two rewards, and hostile responses."""

import inspect
import json
import pickle
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_verifiers import VerifierError, make
from rl_verifiers.instructions import describe, follows, known, language
from rl_verifiers.instructions.response import variants

STRICT = make("instructions")
LOOSE = make("instructions", mode="loose")
NO_COMMA = {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
SAMPLES = {
    "keywords": ["a", "b"], "forbidden_words": ["a"], "relation": "at least", "language": "en",
    "let_relation": "at least", "capital_relation": "at least", "letter": "a", "percentage": 50,
    "options": "yes/no", "sep": "-", "postscript_marker": "P.S.", "section_spliter": "Section",
}  # fmt: skip


def samples(constraint):
    """Arguments for any constraint: the samples above, else 2 or a word."""
    return {
        name: SAMPLES.get(name, 2 if type(kind).__name__ == "Whole" else "word")
        for name, kind in constraint.arguments.items()
    }


def score(names, kwargs, response="a b", verifier=STRICT):
    return verifier(response, {"instruction_id_list": names, "kwargs": kwargs})


def test_every_constraint_must_be_followed():
    names = ["punctuation:no_comma", "count:numbers", "startend:quotation"]
    half = score(names, [{}, {"N": 1}, None], "1, 2")
    assert (half.value, half.passed, half.status) == (0.0, False, "wrong")
    assert half.parts == dict.fromkeys(names, 0.0)
    assert half.reason == f"not followed: {', '.join(names)}"
    assert score(names, [{}, {"N": 1}, None], '"1"').status == "correct"


def test_the_fraction_followed_can_be_the_reward():
    names = ["punctuation:no_comma", "count:numbers"]
    found = score(names, [{}, {"N": 1}], "one", make("instructions", reward="fraction"))
    assert (found.value, found.passed) == (0.5, False)
    assert found.parts == {"punctuation:no_comma": 1.0, "count:numbers": 0.0}


def test_parts_of_an_id_that_occurs_twice_are_numbered():
    frequency = [
        {"keyword": word, "frequency": 1, "relation": "at least"} for word in ("cat", "dog")
    ]
    found = score(["keywords:frequency"] * 2, frequency, "a dog")
    assert found.parts == {"keywords:frequency#1": 0.0, "keywords:frequency#2": 1.0}


def test_the_loose_mode_reads_a_response_in_eight_ways():
    assert variants("a*\nb\nc*") == [
        "a*\nb\nc*", "a\nb\nc", "b\nc*", "a*\nb", "b", "b\nc", "a\nb"
    ]  # fmt: skip
    for response in ("Sure, here:\nyes", "yes\nBye, now", "Sure, here:\nyes\nBye, now"):
        assert not STRICT(response, NO_COMMA).passed
        assert LOOSE(response, NO_COMMA).passed
    quoted = {"instruction_id_list": ["startend:quotation"], "kwargs": [{}]}
    assert LOOSE('**"yes"**', quoted).passed
    assert not LOOSE("yes", quoted).passed


@pytest.mark.parametrize("response", ["", " \n\t"])
def test_a_blank_response_follows_nothing(response):
    assert not STRICT(response, NO_COMMA).passed
    assert not LOOSE(response, NO_COMMA).passed


LABEL = {"instruction_id": ["punctuation:no_comma", "count:numbers"], "kwargs": [None, {"N": 1.0}]}


@pytest.mark.parametrize(
    "row",
    [
        {"ground_truth": LABEL},
        {"ground_truth": [LABEL]},
        {"ground_truth": json.dumps(LABEL)},
        {"ground_truth": json.dumps([LABEL])},
        {"ground_truth": str([LABEL])},
        {"ground_truth": [json.dumps(LABEL)]},
        {"answer": LABEL},
        {"instruction_id_list": LABEL["instruction_id"], "kwargs": LABEL["kwargs"]},
        {
            "instruction_id_list": json.dumps(LABEL["instruction_id"]),
            "kwargs": json.dumps([{"N": None}, {"N": 1, "keyword": None}]),
        },
        {"instruction_id_list": tuple(LABEL["instruction_id"]), "kwargs": ["{}", '{"N": 1}']},
    ],
)
def test_a_row_states_its_constraints_in_several_ways(row):
    assert STRICT("a 1", row).parts == {"punctuation:no_comma": 1.0, "count:numbers": 1.0}
    assert STRICT("a, 1 2", row).parts == {"punctuation:no_comma": 0.0, "count:numbers": 0.0}


def test_absent_kwargs_are_no_arguments():
    assert STRICT("a", {"instruction_id_list": ["punctuation:no_comma"], "kwargs": None}).passed
    assert STRICT("a", {"instruction_id_list": ["punctuation:no_comma"]}).passed


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({}, "neither instruction_id_list nor ground_truth"),
        ({"instruction_id_list": [], "kwargs": []}, "instruction_id_list is empty"),
        ({"ground_truth": []}, "instruction_id_list is empty"),
        (
            {"instruction_id_list": ["punctuation:no_coma"]},
            "unknown constraint 'punctuation:no_coma'; the closest are punctuation:no_comma",
        ),
        ({"instruction_id_list": ["punctuation:no_comma", 3]}, "unknown constraint 3"),
        ({"instruction_id_list": ["count:numbers"]}, "count:numbers: argument 'N' is missing"),
        ({"instruction_id_list": ["count:numbers"], "kwargs": [{"N": None}]}, "'N' is missing"),
        ({"instruction_id_list": ["count:numbers"], "kwargs": [{"N": -1}]}, "N must be at least 0"),
        ({"instruction_id_list": ["count:numbers"], "kwargs": [{"N": True}]}, "a whole number"),
        ({"instruction_id_list": ["count:numbers"], "kwargs": [{"N": float("inf")}]}, "N must be"),
        ({"instruction_id_list": ["count:numbers"], "kwargs": [3]}, "kwargs must be an object"),
        ({"instruction_id_list": ["count:numbers"], "kwargs": []}, "1 instruction ids but 0"),
        ({"instruction_id_list": 3}, "instruction_id_list must be a list, not 3"),
        ({"ground_truth": "3"}, "ground_truth must be a list, not 3"),
        ({"ground_truth": "a b"}, "ground_truth is not JSON: 'a b'"),
        ({"ground_truth": "[" * 100_000}, "ground_truth is not JSON"),
        ({"ground_truth": '{"func_name": "f"}'}, "must hold instruction_id and kwargs"),
    ],
)
def test_a_row_that_cannot_be_checked_says_why(row, problem):
    for verifier in (STRICT, LOOSE):
        found = verifier("a", row)
        assert found.status == "bad_reference"
        assert problem in found.reason
        assert "\n" not in found.reason


@pytest.mark.parametrize("options", [{"mode": "lose"}, {"reward": "any"}])
def test_an_unknown_option_is_refused(options):
    with pytest.raises(
        VerifierError, match=r"^instructions: \w+ is '\w+'; it must be one of \w+, \w+"
    ):
        make("instructions", **options)


def test_an_unknown_constraint_is_refused():
    with pytest.raises(VerifierError, match="unknown constraint 'x'"):
        describe("x")
    with pytest.raises(VerifierError, match="argument 'N' is missing"):
        follows("count:numbers", {}, "1")


def test_a_missing_library_is_named_where_it_is_needed(monkeypatch):
    def missing(name):
        raise ImportError(name)

    language.library.cache_clear()
    monkeypatch.setattr(language, "import_module", missing)
    assert STRICT("a", NO_COMMA).passed
    message = "format:emoji: .* not installed; run: pip install 'agent-rl\\[instructions\\]'"
    with pytest.raises(VerifierError, match=message):
        score(["format:emoji"], [{}])
    language.library.cache_clear()


def test_a_verifier_travels_to_workers():
    assert pickle.loads(pickle.dumps(LOOSE)) == LOOSE
    assert STRICT.bounded


# Hostile responses.

HOSTILE = {
    "letters": "a" * 1_000_000,
    "spaces": "a." + " " * 999_900 + "b",
    "an abbreviation, then spaces": "Dr." + " " * 999_900 + "b",
    "newlines": "a" + "\n" * 999_990 + "*",
    "blank lines of two kinds": "\n \n" * 300_000 + "x",
    "periods": ". " * 500_000,
    "marks": "?!." * 300_000,
    "brackets": "[" * 500_000 + "<" * 500_000,
    "angles": "<<" * 500_000,
    "quotes": "\"'" * 500_000,
    "asterisks": "*" * 999_999,
    "bullets": "* a\n" * 250_000,
    "dashes": "-" * 1_000_000,
    "dots": "x" + "." * 999_990,
    "spaced dots": " . . ." * 160_000,
    "a quoted field": 'ProductID,Category,Brand,Price,Stock\n"' + ";" * 999_000,
    "questions": "Question 1" + "\n" * 999_000,
    "addresses": "a@" * 500_000,
    "hyphens": "a-" * 500_000,
    "digits": "1" * 1_000_000,
    "words": "ab cd " * 160_000,
    "surrogates": "\ud800 \udfff. " * 100_000,
    "nested JSON": "[" * 500_000 + "]" * 500_000,
    "ligatures": "\ufdfa" * 100_000,
    "parentheses": "(" * 10_000 + "a" + ")" * 10_000,
    "mixed closing": "a.)] " * 200_000,
}


def all_verdicts(response):
    row = {
        "instruction_id_list": list(known()),
        "kwargs": [samples(constraint) for constraint in known().values()],
    }
    started = time.process_time()
    found = STRICT(response, row)
    assert len(found.parts) == len(known())
    return time.process_time() - started


@pytest.mark.parametrize("name", HOSTILE)
def test_every_check_ends_soon_on_a_hostile_response(name):
    """A quadratic check would take minutes; the limit is far above what all of them need."""
    text = HOSTILE[name]
    assert all_verdicts(text[:90_000] + text[-10_000:]) < 6


@pytest.mark.slow
@pytest.mark.parametrize("name", ["periods", "marks", "brackets", "newlines", "mixed closing"])
def test_every_check_ends_on_a_million_characters(name):
    assert all_verdicts(HOSTILE[name]) < 100


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.sampled_from("aB1 .?!,;:'\"()[]{}<>*-\n\t`’“\ud800語😀"), max_size=60))
def test_no_response_makes_a_check_raise(response):
    for name, constraint in known().items():
        follows(name, samples(constraint), response, mode="loose")


# The page.


def test_the_table_of_the_page_is_the_registry():
    page = (Path(__file__).parents[2] / "docs/instructions.md").read_text(encoding="utf-8")
    table = page.split("<!-- constraints: begin -->")[1].split("<!-- constraints: end -->")[0]
    assert table.strip().splitlines()[2:] == [
        f"| `{name}` | {cell(c.meaning.replace('{{', '{').replace('}}', '}'))} "
        f"| {cell(' '.join(inspect.getdoc(c.check).split()))} |"
        for name, c in sorted(known().items())
    ]


def cell(text):
    return text.replace("*", "\\*").replace("<", "&lt;").replace("|", "\\|")


def test_thinking_is_left_out_unless_asked_for():
    row = {"instruction_id_list": ["keywords:existence"], "kwargs": [{"keywords": ["Paris"]}]}
    assert not STRICT("<think>Paris</think> nothing", row).passed
    assert make("instructions", thinking=True)("<think>Paris</think> nothing", row).passed
    assert not STRICT("<think>Paris", row).passed
    kwargs = {"num_paragraphs": 1, "nth_paragraph": 1, "first_word": "paris"}
    first = {"instruction_id_list": ["length_constraints:nth_paragraph_first_word"]}
    assert STRICT("<think>so, then</think>\n\nParis", {**first, "kwargs": [kwargs]}).passed
