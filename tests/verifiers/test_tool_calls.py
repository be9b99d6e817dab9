import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_verifiers import VerifierError, check_verifier, make
from rl_verifiers.call_matching import _in_any_order, _in_order
from rl_verifiers.call_syntax import Call, calls_in

WEATHER = {"name": "weather", "arguments": {"city": "Paris", "days": 5}}
CLOCK = {"name": "clock", "arguments": {}}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {
                "type": "dict",
                "properties": {
                    "city": {"type": "string"},
                    "days": {"type": "integer"},
                    "unit": {"type": "string", "enum": ["c", "f"], "default": "c"},
                },
                "required": ["city"],
            },
        },
    },
    {"name": "clock", "parameters": {"type": "object", "properties": {}}},
]
BOTH = json.dumps([WEATHER, CLOCK])


def judged(completion, answer=(WEATHER, CLOCK), tools=None, **options):
    return make("tool_call", **options)(completion, {"id": 1, "answer": answer, "tools": tools})


OPENAI = json.dumps(
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"function": {"name": "weather", "arguments": '{"city": "Paris", "days": 5.0}'}},
            {"id": "2", "type": "function", "function": {"name": "clock", "arguments": ""}},
        ],
    }
)  # fmt: skip


@pytest.mark.parametrize(
    "completion",
    [
        OPENAI,
        BOTH,
        f"```json\n{BOTH}\n```",
        f"<think>weather(city='Rome')</think>Calling: {BOTH}",
        f"{json.dumps(WEATHER)}\n{json.dumps(CLOCK)}",
        "\n".join(f"<tool_call>\n{json.dumps(call)}</tool_call>" for call in (CLOCK, WEATHER)),
        f"[TOOL_CALLS] {BOTH}",
        f"<|python_tag|>{BOTH[1:-1].replace('}}, ', '}}; ').replace('arguments', 'parameters')}",
        '<function=weather>{"city": "Paris", "days": 5}</function><function=clock>{}</function>',
        "<tool_call>\n<function=weather>\n<parameter=city>\nParis\n</parameter>\n<parameter=days>\n"
        "5\n</parameter>\n</function>\n</tool_call><tool_call><function=clock></function></tool_call>",
        '[weather(city="Paris", days=5), clock()]',
        "```python\nweather(city='Paris', days=5)\nclock()\n```",
    ],
)  # fmt: skip
def test_every_notation_is_read(completion):
    score = judged(completion)
    assert (score.status, score.value, score.parts) == ("correct", 1.0, {"calls": 1.0})
    assert json.loads(score.answer)[0][0] in ("weather", "clock")


@pytest.mark.parametrize(
    ("completion", "status", "reason"),
    [
        ("weather(city='Paris', days=5)", "wrong", "1 of 2 calls; clock is not called"),
        ("[weather(city='Rome', days=5), clock()]", "wrong", "'city' is 'Rome', not 'Paris'"),
        ("[weather(city='Paris', days='5'), clock()]", "wrong", "argument 'days' is '5', not 5"),
        ("[weather(city='Paris', days=True), clock()]", "wrong", "argument 'days' is True, not 5"),
        ("[weather(city='Paris'), clock()]", "wrong", "argument 'days' is missing"),
        ("[weather(city='Paris', days=5, x=1), clock()]", "wrong", "argument 'x' is not wanted"),
        ("[weather(city='Paris', days=5), clock(), clock()]", "wrong", "'clock' is called beyond"),
        ("[wether(city='Paris', days=5), clock()]", "wrong", "weather is not called ('wether'"),
        ("[weather('Paris', 5), clock()]", "unparsable", "'weather': an argument without a name"),
        ('<tool_call>{"name": "weather", "argum', "unparsable", "not JSON"),
        ("[weather(city=open('x').read()), clock()]", "no_answer", "no tool call"),
        ("I would call the weather tool.", "no_answer", "no tool call"),
        ("<tool_call>" + '{"a":' * 200, "over_limit", "nested too deeply"),
        ("<tool_call>clock()</tool_call>" * 300, "over_limit", "over 256 calls"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(completion, status, reason):
    score = judged(completion)
    assert (score.status, score.passed, reason in score.reason) == (status, False, True)


def test_true_is_not_one_and_null_may_be_left_out():
    wanted = [{"name": "f", "arguments": {"a": 1, "b": None}}]
    assert judged("f(a=1)", wanted).passed
    assert not judged("f(a=True)", wanted).passed
    assert not judged("f(a=1, b=2)", wanted).passed


def test_order_extra_calls_and_fractions():
    swapped = json.dumps([CLOCK, WEATHER])
    assert judged(swapped).passed
    in_order = judged(swapped, order="exact", reward="fraction")
    assert (in_order.value, in_order.passed) == (0.5, False)
    more = json.dumps([CLOCK, WEATHER, CLOCK])
    assert judged(more, reward="fraction").value == pytest.approx(2 / 3)
    assert judged(more, extra=True).passed
    assert judged(more, extra=True, order="exact").passed


def test_no_call_is_wanted():
    assert judged("It is sunny.", []).status == "correct"
    assert judged("clock()", []).status == "wrong"
    assert judged(" ", []).status == "no_answer"


AREA = [{"area": {"base": [10], "height": [5, 7], "unit": ["cm", "", "centi meters"]}}]


@pytest.mark.parametrize(
    ("completion", "options", "passes"),
    [
        ("area(base=10, height=7)", {}, True),
        ("area(base=10.0, height=5, unit='cm')", {}, True),
        ("area(base=10, height=6)", {}, False),
        ("area(base=10)", {}, False),
        ("area(base=10, height=5, unit='Centi-Meters')", {}, False),
        ("area(base=10, height=5, unit='Centi-Meters')", {"strings": "normalized"}, True),
    ],
)
def test_alternatives_of_the_leaderboard(completion, options, passes):
    assert judged(completion, AREA, **options).passed is passes


def test_alternatives_inside_objects_and_lists():
    wanted = [{"f": {"a": [{"x": [1, 2], "y": ["q", ""]}], "b": [[{"z": [1]}]]}}]
    assert judged("f(a={'x': 2}, b=[{'z': 1}])", wanted).passed
    assert not judged("f(a={'x': 3}, b=[{'z': 1}])", wanted).passed
    assert not judged("f(a={'x': 2}, b=[{'z': 2}])", wanted).passed


def test_tools_name_positions_give_defaults_and_type_raw_text():
    assert judged("[weather('Paris', 5), clock()]", tools=TOOLS).passed
    assert judged("[weather(city='Paris', days=5, unit='c'), clock()]", tools=TOOLS).passed
    raw = "<function=weather><parameter=city>5</parameter></function>"
    wanted = [{"name": "weather", "arguments": {"city": "5"}}]
    assert judged(raw, wanted, TOOLS).passed


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        ("weather(city=5)", "weather: $.city: 5 is not of type 'string'"),
        ("weather(city='Paris', day=5)", "Additional properties are not allowed"),
        ("wether(city='Paris')", "there is no tool 'wether' (closest: weather)"),
    ],
)
def test_arguments_may_be_checked_against_the_tools(completion, reason):
    score = judged(completion, tools=json.dumps(TOOLS), check_tools=True)
    assert (score.status, reason in score.reason) == ("wrong", True)


@pytest.mark.parametrize("answer", [None, 5, "x", [5], [{"name": "f", "arguments": 5}], [{}]])
def test_an_unusable_answer_is_never_the_models_fault(answer):
    assert judged("clock()", answer).status == "bad_reference"


def test_tools_that_cannot_be_used_are_the_rows_fault():
    assert judged("clock()", tools=None, check_tools=True).status == "bad_reference"
    bad = [{"name": "clock", "parameters": {"type": "objekt"}}]
    assert judged("clock()", tools=bad, check_tools=True).status == "bad_reference"


def test_python_is_read_and_not_run():
    assert calls_in("f(a=-1.5, b=[1, (2,)], c={'x': None}, d=true)") == [
        Call("f", {"a": -1.5, "b": [1, [2]], "c": {"x": None}, "d": True})
    ]
    assert calls_in("math.sqrt(x=4)") == [Call("math.sqrt", {"x": 4})]
    for source in ("f(a=g())", "f(**x)", "f(a=1, a=2)", "f()()", "f(a=b)", "f(a=1) + g()"):
        assert calls_in(source) == []


@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), max_size=4))
def test_matchings_are_the_largest(fits):
    def best(row, used, ordered):
        if row == len(fits):
            return 0
        free = [
            column
            for column, fit in enumerate(fits[row])
            if fit and column not in used and (not ordered or column > max(used, default=-1))
        ]
        taken = [1 + best(row + 1, used | {column}, ordered) for column in free]
        return max([best(row + 1, used, ordered), *taken])

    for matching, ordered in ((_in_any_order(fits), False), (_in_order(fits), True)):
        assert len(matching) == best(0, frozenset(), ordered)
        assert all(fits[row][column] for row, column in matching.items())
        assert len(set(matching.values())) == len(matching)


def test_bad_options_are_refused():
    with pytest.raises(VerifierError, match="order is 'none'; it must be one of any, exact"):
        make("tool_call", order="none")
    with pytest.raises(VerifierError, match=r"order is 'exakt'.*did you mean 'exact'"):
        make("tool_call", order="exakt")
    with pytest.raises(VerifierError, match="extra is 'no'; it must be true or false"):
        make("tool_call", extra="no")


ONE = {"name": "f", "arguments": {"x": 1}}
OTHER = {"name": "f", "arguments": {"x": 2}}


@pytest.mark.parametrize(
    ("completion", "status"),
    [
        (f"f(x=0x{'f' * 9_000})", "over_limit"),
        (f"<tool_call>f(x=-0x{'f' * 9_000})</tool_call>", "over_limit"),
        (f"[f(x=1), g(y=0x{'f' * 9_000})]", "over_limit"),
        ('{"name": "g", "name": "f", "arguments": {"x": 1}}', "unparsable"),
        ('Now {"name": "f", "arguments": {"x": 2, "x": 1}}', "unparsable"),
        ('{"name": "f", "arguments": "{\\"x\\": 2, \\"x\\": 1}"}', "unparsable"),
        ('{"name": "f", "arguments": {"x": 1}, "parameters": {"x": 2}}', "unparsable"),
        ("<function=f><parameter=x>2</parameter><parameter=x>1</parameter>", "unparsable"),
        (f"{json.dumps(OTHER)} or rather {json.dumps(ONE)}", "wrong"),
        (f"I call {json.dumps(OTHER)} or rather {json.dumps(ONE)}", "wrong"),
        (f'I call {json.dumps(ONE)} for {{"a": 1}}', "correct"),
    ],
)
def test_a_policy_can_neither_hedge_nor_escape(completion, status):
    assert judged(completion, [ONE]).status == status


def test_what_is_no_answer_where_no_call_is_wanted():
    for text, status in {
        " .": "no_answer",
        "~!@#": "no_answer",
        "<think>weather</think>": "no_answer",
        "Calling: weather(city='Rome') now": "wrong",
        f"{json.dumps(WEATHER)} is it, not {{}}": "wrong",
        "The weather is fine (I think).": "correct",
    }.items():
        assert judged(text, [], TOOLS).status == status


def test_an_empty_answer_keeps_the_contract():
    rows = [{"id": "none", "prompt": "?", "answer": []}, {"id": "one", "answer": [ONE]}]
    check_verifier(
        make("tool_call"),
        rows,
        gold=lambda row: json.dumps(row["answer"][0]) if row["answer"] else "No call is needed.",
        rejects_garbage=False,  # for the first row, any text with a word in it is an answer
        joined_fails=False,
    )


@pytest.mark.parametrize("length", [600, 3_000])
def test_the_work_of_comparing_is_bounded(length):
    call = {"name": "f", "arguments": {"x": "Ab " * (length // 3)}}
    wanted = [{"f": {"x": [f"{'Ab ' * (length // 3)}{i}" for i in range(50)]}}] * 64
    made = f"<tool_call>{json.dumps(call)}</tool_call>" * 256
    assert judged(made, wanted, strings="normalized").status == "over_limit"


def test_rows_too_large_or_deep_are_the_rows_fault():
    deep = []
    for _ in range(3_000):
        deep = [deep]
    for answer in (deep, [{"name": "f", "arguments": {"x": 16**9_000}}]):
        assert judged("f(x=1)", answer).status == "bad_reference"
    assert judged("f(x=1)", [ONE], "[" * 100_000).status == "bad_reference"
