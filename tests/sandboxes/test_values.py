"""Plain data crosses exactly; nothing else crosses, and no tree can do harm."""

import collections
import contextlib
import decimal
import enum
import math
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_sandboxes.inside.values import MAX_BITS, MAX_DEPTH, ValueRefused, decode, encode

PATTERNS = st.binary(min_size=8, max_size=8)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**300), 2**300),
    st.sampled_from([2**53 - 1, 2**53, 2**53 + 1, -(2**53), 2**63, 2**4000]),
    PATTERNS.map(lambda raw: struct.unpack(">d", raw)[0]),
    st.complex_numbers(),
    st.text(st.characters()),  # lone surrogates included
    st.text(),
    st.binary(),
)
HASHABLE = st.recursive(
    SCALARS, lambda item: st.frozensets(item) | st.lists(item).map(tuple), max_leaves=5
)
PLAIN = st.recursive(
    HASHABLE | st.sets(HASHABLE),
    lambda item: st.one_of(
        st.lists(item),
        st.lists(item).map(tuple),
        st.dictionaries(HASHABLE, item),
    ),
    max_leaves=12,
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda item: st.lists(item, max_size=4) | st.dictionaries(st.text(max_size=2), item),
)
TAGGED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("0123456789abcdef x_-", max_size=17),
    lambda item: (
        st.lists(item, max_size=4)
        | st.dictionaries(st.sampled_from("ifctsbluezd"), item, min_size=1, max_size=2)
    ),
)


def bits(number):
    return struct.pack(">d", number)


def same(one, other):
    """Equal in type and content at every depth; floats by their bits."""
    if type(one) is not type(other):
        return False
    if isinstance(one, set | frozenset):
        return len(one) == len(other) and all(any(same(a, b) for b in other) for a in one)
    if isinstance(one, dict):
        one, other = list(one.items()), list(other.items())
    if isinstance(one, complex):
        one, other = (one.real, one.imag), (other.real, other.imag)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bits(one) == bits(other) if isinstance(one, float) else one == other


@settings(deadline=None)
@given(PLAIN)
def test_plain_data_comes_back_the_same(value):
    assert same(decode(encode(value)), value)


@pytest.mark.parametrize(
    "value",
    [0.0, -0.0, math.inf, -math.inf, 5e-324, struct.unpack(">d", b"\x7f\xf8" + b"\1" * 6)[0]],
)
def test_a_float_keeps_every_bit(value):
    assert bits(decode(encode(value))) == bits(value)


def test_a_complex_number_keeps_the_signs_of_its_zeros():
    assert same(decode(encode(complex(-0.0, -0.0))), complex(-0.0, -0.0))


def test_equal_values_of_different_types_stay_apart():
    values = [True, 1, 1.0, 1 + 0j, False, 0, "1", b"1", [], (), set(), frozenset(), {}]
    assert [type(value) for value in decode(encode(values))] == [type(value) for value in values]


def test_a_dict_keeps_its_order():
    assert list(decode(encode({"b": 1, "a": 2, 3: 4}))) == ["b", "a", 3]


def liar(base):
    """A subclass whose every own method lies."""

    def lie(self, *_, **__):
        raise AssertionError("a stranger's method was called")

    names = "__add__ __bool__ __bytes__ __contains__ __eq__ __float__ __format__ __ge__ __getitem__"
    names += " __gt__ __hash__ __index__ __int__ __iter__ __le__ __len__ __lt__ __ne__ __neg__"
    names += " __radd__ __repr__ __str__ bit_length conjugate copy encode hex isdigit items keys"
    names += " real imag values __complex__ __reduce_ex__ __getattribute__"
    body = {name: lie for name in names.split() if name not in ("real", "imag")}
    body |= {name: property(lie) for name in ("real", "imag")}
    return type("Liar", (base,), body)


@pytest.mark.parametrize(
    "value",
    [7, 2**70, 1.5, -0.0, 2 - 3j, "text", "\ud800", b"raw", [1], (1,), {1}, frozenset({1}), {1: 2}],
    ids=repr,
)
def test_a_subclass_crosses_as_its_content_and_its_methods_are_not_called(value):
    assert same(decode(encode(liar(type(value))(value))), value)


def test_containers_of_the_standard_library_cross_as_their_base():
    point = collections.namedtuple("Point", "x y")
    color = enum.IntEnum("Color", "RED")
    counted = collections.Counter("aab")
    ordered = collections.OrderedDict(a=1)
    missing = collections.defaultdict(list, a=[1])
    got = decode(encode([point(1, 2), color.RED, counted, ordered, missing]))
    assert same(got, [(1, 2), 1, {"a": 2, "b": 1}, {"a": 1}, {"a": [1]}])


@pytest.mark.parametrize(
    "value",
    [
        object(),
        int,
        len,
        range(3),
        bytearray(b"x"),
        memoryview(b"x"),
        iter([1]),
        decimal.Decimal(1),
        collections.deque([1]),
        Ellipsis,
        NotImplemented,
        ValueError("x"),
        collections.UserDict(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_plain_data_is_refused_by_the_name_of_its_type(value):
    with pytest.raises(ValueRefused, match=type(value).__name__):
        encode([{"deep": value}])


def test_a_class_that_only_claims_to_be_plain_is_refused():
    class Claims:
        __class__ = list

        def __iter__(self):
            return iter([1])

    with pytest.raises(ValueRefused, match="Claims"):
        encode(Claims())


def test_a_value_that_holds_itself_is_refused():
    value = []
    value.append(value)
    with pytest.raises(ValueRefused, match="deeper"):
        encode(value)


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


def test_the_deepest_value_that_may_cross_comes_back():
    assert decode(encode(nested(MAX_DEPTH))) == nested(MAX_DEPTH)


def test_one_level_more_is_refused():
    with pytest.raises(ValueRefused, match="deeper"):
        encode(nested(MAX_DEPTH + 1))


def test_a_tree_that_is_far_deeper_is_refused():
    tree = {"l": []}
    for _ in range(100_000):
        tree = {"l": [tree]}
    with pytest.raises(ValueRefused, match="deeper"):
        decode(tree)
    while tree["l"]:  # or freeing it is as deep
        tree = tree["l"].pop()


def test_only_integers_that_every_reader_of_json_keeps_are_json_numbers():
    wide = [2**53 - 1, 1 - 2**53, 2**53, -(2**53)]
    assert [type(encode(number)) for number in wide] == [int, int, dict, dict]


def test_an_integer_of_the_most_bits_comes_back():
    assert decode(encode(1 << (MAX_BITS - 1))) == 1 << (MAX_BITS - 1)


def test_an_integer_of_more_bits_is_refused():
    with pytest.raises(ValueRefused, match="1,000,001 bits"):
        encode(1 << MAX_BITS)


def test_a_long_text_for_an_integer_is_refused():
    with pytest.raises(ValueRefused, match="too long"):
        decode({"i": "f" * (MAX_BITS + 1)})


@pytest.mark.parametrize("kind", [list, tuple, set, frozenset, dict.fromkeys])
def test_a_hundred_thousand_items_cross(kind):
    value = kind(range(90_000))
    assert decode(encode(value)) == value


@pytest.mark.parametrize(
    "value", [[0] * 200_001, dict.fromkeys(range(100_001)), [[0] * 9] * 20_001]
)
def test_too_many_items_are_refused(value):
    with pytest.raises(ValueRefused, match="items"):
        encode(value)


def test_as_many_items_as_the_message_says_cross():
    assert len(decode(encode([0] * 190_000))) == 190_000


def test_a_tree_of_too_many_items_is_refused():
    with pytest.raises(ValueRefused, match="items"):
        decode({"l": [None] * 500_000})


@pytest.mark.parametrize("tag", "ezd")
def test_keys_chosen_to_collide_are_refused(tag):
    keys = [number * (2**61 - 1) + 2**40 for number in range(1, 10_002)]  # one hash for all
    content = [[key, None] for key in keys] if tag == "d" else keys
    with pytest.raises(ValueRefused, match="hash"):
        decode({tag: content})


@settings(deadline=None)
@given(JSON | TAGGED)
def test_no_tree_raises_anything_but_a_refusal(tree):
    with contextlib.suppress(ValueRefused):
        decode(tree)


@settings(deadline=None)
@given(TAGGED)
def test_what_a_tree_gives_is_plain_data(tree):
    try:
        value = decode(tree)
    except ValueRefused:
        return
    assert same(decode(encode(value)), value)


@pytest.mark.parametrize(
    "tree",
    [
        1.5,
        "text",
        [],
        {},
        {"i": "1", "f": "0"},
        {"?": 1},
        {"f": "00"},
        {"f": 1.5},
        {"t": 5},
        {"t": None},
        {"s": "ff"},
        {"b": "0"},
        {"c": [{"f": bits(0.0).hex()}] * 3},
        {"c": [10**400]},
        {"l": {}},
        {"l": "ab"},
        {"d": [[1]]},
        {"d": [[{"l": []}, 1]]},
        {"e": [{"e": []}]},
        {"z": [{"d": []}]},
        {"i": {"i": "1"}},
    ],
    ids=repr,
)
def test_a_broken_tree_is_refused(tree):
    with pytest.raises(ValueRefused):
        decode(tree)
