import math

import pytest

from rl_verifiers.code_compare import cut, same, same_output, shown

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("expected", "value"),
    [
        (1, 1.0),
        (True, 1),
        (0.5, 0.5),
        (10**400, 10**400),
        (INF, INF),
        (NAN, NAN),
        ([1, NAN], [1, NAN]),
        (-0.0, 0),
        (1 + 2j, 1 + 2j),
        (None, None),
        ("a", "a"),
        (b"a", b"a"),
        ((1, [2]), (1, [2])),
        ({"a": [1]}, {"a": [1.0]}),
        ({1: "x", (2, 3): "y"}, {(2, 3): "y", 1.0: "x"}),
        ({1, 2}, frozenset({2, 1})),
        ({(1, frozenset({2}))}, {(1.0, frozenset({2}))}),
        ({NAN}, {NAN}),
        (set(), set()),
    ],
)
def test_the_same(expected, value):
    assert same(expected, value)


class Anything:
    __hash__ = None

    def __eq__(self, other):
        return True


class Six(int):
    __hash__ = None

    def __eq__(self, other):
        return True


@pytest.mark.parametrize(
    ("expected", "value"),
    [
        (1, 2),
        (1, "1"),
        (1, None),
        (0, None),
        (0, ""),
        (1, [1]),
        (1.0, NAN),
        (NAN, 1.0),
        (INF, -INF),
        (10**400, 1.5),
        (10**400, NAN),
        ("a", b"a"),
        ([1, 2], (1, 2)),
        ([1, 2], [1]),
        ([1], [1, 2]),
        ([], set()),
        ([], {}),
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": 1, "c": 1}, {"a": 1, "b": 1}),
        ({1, 2}, [1, 2]),
        ({(1, 2)}, {(1, 3)}),
        (1, Anything()),
        ([1], [Anything()]),
        (1, Six(0)),
        (Anything(), 1),
    ],
)
def test_not_the_same(expected, value):
    assert not same(expected, value)


@pytest.mark.parametrize(
    ("expected", "value", "close"),
    [
        (1.0, 1.0009, True),
        (1.0, 1.002, False),
        (1000.0, 1000.9, True),
        (0.0, 0.0009, True),
        ([1.0, {"a": (2.0,)}], [1.0009, {"a": (2.0009,)}], True),
        ({1.0, 2.0}, {1.0009, 2.0}, True),
        ({1.0, 2.0}, {1.5, 2.0}, False),
        (1 + 1j, 1.0005 + 1j, True),
        (1.0, NAN, False),
        (INF, 1e308, False),
        (1.0, INF, False),
        ("1.0", "1.0001", False),
        (10**400, 10**400 + 1, False),
    ],
)
def test_tolerance(expected, value, close):
    assert same(expected, value, tol=1e-3) is close


@pytest.mark.parametrize(
    ("expected", "value"), [(1, 1.0), (1, True), ([1], [1.0]), ({1}, {1.0}), ({1: 2}, {True: 2})]
)
def test_strict_types_differ(expected, value):
    assert same(expected, value)
    assert not same(expected, value, strict=True)


def test_a_value_nested_too_deep_is_not_the_same():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    assert not same(deep, [deep])


@pytest.mark.parametrize(
    ("expected", "output", "equal"),
    [
        ("1 2\n3\n", "1 2  \n3", True),
        ("1\n", "1\r\n\n\n", True),
        ("", "\n", True),
        ("1 2", "1  2", False),
        ("1 2", "1\n2", False),
        ("a\nb", "a\n\nb", False),
        ("1", "11", False),
        ("Yes", "yes", False),
    ],
)
def test_output_by_lines(expected, output, equal):
    assert same_output(expected, output) is equal


@pytest.mark.parametrize(
    ("expected", "output", "equal"),
    [("1 2\n3\n", " 1\n2 3", True), ("1 2", "1 2 3", False), ("0.5", "0.50", False)],
)
def test_output_by_tokens(expected, output, equal):
    assert same_output(expected, output, tokens=True) is equal


@pytest.mark.parametrize(
    ("output", "equal"),
    [("x 0.3333\n", True), ("x 0.34", False), ("x nan", False), ("y 0.333", False)],
)
def test_output_within_a_tolerance(output, equal):
    assert same_output("x 0.333333", output, tol=1e-3) is equal


@pytest.mark.parametrize(
    "value",
    [10**100_000, "x\n" * 10**6, b"x" * 10**6, [[[[[]]]]] * 1000, "\ud800", {1: {2, NAN}}],
    ids=["int", "str", "bytes", "list", "surrogate", "dict"],
)
def test_a_value_is_shown_in_one_short_line(value):
    text = shown(value, 60)
    assert len(text) <= 60
    assert "\n" not in text
    text.encode()


def test_a_short_value_is_shown_as_it_is():
    assert shown({"a": [1, (2.5, None)], "b": {3}}) == "{'a': [1, (2.5, None)], 'b': {3}}"


def test_text_is_cut_to_one_line():
    assert cut("a\n  b " + "c" * 100, 10) == "a b ccc..."


def test_shown_nan_can_be_read_back():
    from rl_verifiers.code_rows import literal

    assert math.isnan(literal(shown([NAN]))[0])
