import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_envs.tasks import DataError
from rl_envs.tools.formats import (
    FORMATS,
    MAX_CALLS,
    Parsed,
    ParsedCall,
    call_format,
    from_message,
    openai_calls,
)
from rl_envs.tools.formats.base import Outline, implied
from rl_verifiers.conformance import HOSTILE

SEARCH = Outline(
    "search",
    {
        "type": "object",
        "properties": {"query": {"type": "string"}, "count": {"type": "integer"}},
    },
)
RUN = Outline("run", {"type": "object", "properties": {"code": {"type": "string"}}})
TOOLS = {"search": SEARCH}
CODE = {"run": RUN, "search": SEARCH}
ONE = {"calculate": Outline("calculate", {"properties": {"expression": {"type": "string"}}})}
HOLD_ANYTHING = ("hermes", "llama3", "mistral", "openai-json")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.text(max_size=20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["</tool_call>", "<think>", "</think>", "[ARGS]", "<|im_end|>", "</tool>"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
any_calls = st.lists(
    st.tuples(
        st.text(min_size=1, max_size=12),
        st.dictionaries(st.text(max_size=8), json_values, max_size=4),
    ).map(lambda parts: ParsedCall(*parts)),
    min_size=1,
    max_size=3,
)
identifiers = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True).filter(
    lambda name: name not in ("as", "def", "del", "for", "if", "in", "is", "or", "not", "and")
)


def same(found, wanted):
    """Equal, and of the same types: 1 is not True, 1.0 is not 1."""
    return repr(found) == repr(wanted)


@pytest.mark.parametrize("name", HOLD_ANYTHING)
@given(calls=any_calls)
def test_json_notations_give_back_whatever_calls_were_written(name, calls):
    written = FORMATS[name].write(calls, "So:")
    found = FORMATS[name].parse(written, {})
    assert same(list(found.calls), calls)
    assert (found.text, found.problems) == ("So:", ())


@given(
    name=identifiers,
    arguments=st.dictionaries(identifiers, json_values, min_size=1, max_size=3),
)
def test_xml_and_python_give_back_the_calls_that_they_agree_to_write(name, arguments):
    call = ParsedCall(name, arguments)
    for notation in ("xml", "python"):
        try:
            written = FORMATS[notation].write([call])
        except ValueError:
            continue
        tools = implied([call])
        assert same(FORMATS[notation].parse(written, tools).calls, (call,)), written


def test_texts_of_several_lines_with_every_mark_survive_where_the_notation_can_hold_them():
    hard = '\n a <parameter=x> "quoted" \\n ``` <function=f>\n```\n<tool_call>{}</tool_call> é\n'
    assert FORMATS["xml"].parse(
        FORMATS["xml"].write([ParsedCall("search", {"query": hard, "count": 3})], tools=TOOLS),
        TOOLS,
    ).calls == (("search", {"query": hard, "count": 3}, None),)
    code = ParsedCall("run", {"code": hard})
    assert FORMATS["python"].parse(FORMATS["python"].write([code], tools=CODE), CODE).calls == (
        code,
    )
    for notation in HOLD_ANYTHING:
        written = FORMATS[notation].write([code])
        assert FORMATS[notation].parse(written, CODE).calls == (code,)
    assert "<tool_call>" not in FORMATS["hermes"].write([code])[len("<tool_call>") :]


@pytest.mark.parametrize(
    ("name", "call", "tools"),
    [
        ("xml", ParsedCall("search", {"query": "a</parameter>b"}), TOOLS),
        ("xml", ParsedCall("search", {"query": "<think>"}), TOOLS),
        ("xml", ParsedCall("a>b", {}), None),
        ("tag", ParsedCall("calculate", {"expression": "1</tool>"}), ONE),
        ("tag", ParsedCall("other", {"expression": "1"}), ONE),
        ("tag", ParsedCall("search", {"query": "a", "count": 1}), None),
        ("python", ParsedCall("a b", {}), None),
        ("python", ParsedCall("search", {"not": 1}), None),
        ("python", ParsedCall("run", {"code": "search(query='x')"}), CODE),
        ("hermes", ParsedCall("f", {"x": float("nan")}), None),
        ("hermes", ParsedCall("f", {"x": (1, 2)}), None),
        ("llama3", ParsedCall("f", {"x": "\ud800"}), None),
    ],
)
def test_a_call_that_the_notation_cannot_hold_is_refused(name, call, tools):
    with pytest.raises(ValueError, match=r"cannot|holds|compliant"):
        FORMATS[name].write([call], tools=tools)


FOUND = ParsedCall("search", {"query": "a b", "count": 2})
ARGUMENTS = '{"query": "a b", "count": 2}'
HERMES = f'<tool_call>{{"name":"search","arguments":{ARGUMENTS}}}</tool_call>'
LLAMA = f'{{"type": "function", "name": "search", "parameters": {ARGUMENTS}}}'
XML = """<function=search>
<parameter=query>
a b
</parameter>
<parameter=count>
2
</parameter>
</function>"""


@pytest.mark.parametrize(
    ("name", "completion", "text"),
    [
        ("hermes", f"Hm.{HERMES} Ok", "Hm. Ok"),
        ("hermes", f"<think>{HERMES}</think>{HERMES}<|im_end|>", ""),
        ("hermes", f"{HERMES}</think>\n{HERMES}\n", ""),
        ("hermes", f"{HERMES}<think>a</think>b</think>{HERMES}", ""),
        ("hermes", HERMES.replace("l>", "l>\n").replace("</", "\n</"), ""),
        ("llama3", f"{LLAMA}<|eot_id|>", ""),
        ("llama3", f"Hm. <|python_tag|>{LLAMA}", "Hm."),
        ("mistral", f'[TOOL_CALLS] [{{"name": "search", "arguments": {ARGUMENTS}}}]</s>', ""),
        ("mistral", f"Hm.[TOOL_CALLS]search[ARGS]{ARGUMENTS}", "Hm."),
        ("xml", f"<tool_call>\n{XML}\n</tool_call>", ""),
        ("xml", "Hm." + XML.replace("\n", ""), "Hm."),
        ("python", 'Hm.\n```python\nsearch("a b", count=2)\n```', "Hm."),
        ("openai-json", json.dumps({"content": "Hm.", "tool_calls": openai_calls([FOUND])}), "Hm."),
    ],
)
def test_what_models_write_is_read(name, completion, text):
    assert FORMATS[name].parse(completion, TOOLS) == Parsed(text, (FOUND,), ())


def hermes(body, *inside):
    return f"<tool_call>{body % inside if inside else body}</tool_call>"


@pytest.mark.parametrize(
    ("name", "completion", "reason"),
    [
        ("hermes", "<tool_call>{'name': 'f'}</tool_call>", "not valid JSON"),
        ("hermes", '<tool_call>{"name": "f", "arguments": {"x": 1}', "not valid JSON|never closed"),
        ("hermes", hermes('{"name": "f", "arguments": {}} {}'), "nothing else"),
        ("hermes", hermes('{"name": "f", "arguments": [1]}'), "not array"),
        ("hermes", hermes('{"name": "f", "arguments": {"x": 1, "x": 2}}'), "'x' is given twice"),
        ("hermes", hermes('{"name": "f", "arguments": {"x": NaN}}'), "NaN is no JSON"),
        ("hermes", hermes('{"name": "f", "arguments": {"x": 1e999}}'), "inf is no JSON"),
        ("hermes", hermes('{"name": "f", "arguments": {"x": "\\ud800"}}'), "surrogate"),
        ("hermes", '<tool_call>{"arguments": {}}</tool_call>', 'no "name"'),
        ("hermes", hermes('{"name": "f", "arguments": {}, "parameters": {}}'), "both"),
        ("hermes", hermes('{"name": "f", "arguments": {"x": %s}}', "[" * 5000), "nested|JSON"),
        ("hermes", hermes('{"name": "f", "arguments": {"x": %s}}', "9" * 5000), "digits"),
        ("hermes", "<tool_call></tool_call>", "without content"),
        ("hermes", "done</tool_call>", "without <tool_call>"),
        ("llama3", '{"name": "search", "parameters": {"query": "a', "not valid JSON"),
        ("llama3", '<|python_tag|>search("a")', "not valid JSON"),
        ("mistral", "[TOOL_CALLS]search[ARGS]{", "not valid JSON"),
        ("xml", "<function=search><parameter=query>a</function>", "never closed"),
        ("xml", XML.replace("2", "two"), "is to be integer"),
        ("xml", XML.replace("count", "query"), "twice"),
        ("tag", "<tool>1+1", "never closed"),
        ("python", "```python\nx = 1\n```", "no call"),
        ("python", '```python\nsearch("a", query="b")\n```', "given twice"),
        ("python", '```python\nsearch(query=open("x"))\n```', "no literal"),
        ("python", "```python\nsearch(", "never closed"),
        (
            "openai-json",
            '{"tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}',
            "not valid JSON",
        ),
    ],
)
def test_a_call_that_cannot_be_read_is_one_problem_that_says_why(name, completion, reason):
    tools = ONE if name == "tag" else TOOLS
    found = FORMATS[name].parse(completion, tools)
    assert found.calls == ()
    assert len(found.problems) == 1
    assert re.search(reason, found.problems[0]), found.problems[0]
    assert "expected" in found.problems[0]
    assert len(found.problems[0]) < 400


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    "prose",
    [
        "I would put it between <tool_call> tags, or [TOOL_CALLS] with Mistral.",
        "Write `<function=name>` and then the parameters; search(query) does the rest.",
        "The answer is 42.",
        '{"answer": 42}',
        '{"name": "Ann", "age": 7}',
        "```json\n[1, 2]\n```",
        "<think>I could <tool>1</tool> or ```python\nrun()\n``` but no</think>It is 4.",
        "<think>search(query='x')",
    ],
)
def test_words_about_calls_are_no_calls(name, prose):
    found = FORMATS[name].parse(prose, TOOLS)
    assert (found.calls, found.problems) == ((), ())


@pytest.mark.parametrize("used", FORMATS)
@pytest.mark.parametrize("expected", FORMATS)
def test_a_call_in_another_notation_is_a_problem_that_says_what_is_expected(used, expected):
    call = ParsedCall("calculate", {"expression": "2*3"})
    found = FORMATS[expected].parse(FORMATS[used].write([call], tools=ONE), ONE)
    if used == expected:
        assert found.calls == (call,)
    else:
        assert found.calls == ()
        assert len(found.problems) == 1
        assert FORMATS[expected].form in found.problems[0]


def test_a_fence_is_the_code_of_the_one_tool_that_takes_code_unless_it_calls_others():
    python = FORMATS["python"]
    program = "import math\nprint(math.pi)\n"
    found = python.parse(f"First:\n```python\n{program}\n```\nThen.", CODE)
    assert found == Parsed("First:\n\nThen.", (ParsedCall("run", {"code": program}),), ())
    assert python.parse("```python\nsearch('x')\n```", CODE).calls[0].name == "search"
    assert python.parse("```python\nprint('x')\n```", CODE).calls[0].name == "run"
    assert python.parse("```\nprint('x')\n```", CODE).calls == ()


def test_values_between_tags_have_the_type_of_their_schema():
    kinds = {
        "text": {"type": "string"},
        "flag": {"type": "boolean"},
        "maybe": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "parts": {"type": "array"},
        "any": {},
        "either": {"type": ["string", "integer"]},
        "named": {"$ref": "#/$defs/Size"},
    }
    named = {"Size": {"type": "string", "enum": ["1", "2"]}}
    schema = {"type": "object", "properties": kinds, "$defs": named}
    tools = {"f": Outline("f", schema)}
    given = {
        "text": '"1"',
        "flag": "True",
        "maybe": "None",
        "parts": "[1, 2]",
        "any": "x",
        "either": "5",
        "named": "1",
    }
    parts = [f"<parameter={key}>\n{value}\n</parameter>" for key, value in given.items()]
    found = FORMATS["xml"].parse("\n".join(["<function=f>", *parts, "</function>"]), tools)
    assert found.calls[0].arguments == {
        "text": '"1"', "flag": True, "maybe": None, "parts": [1, 2], "any": "x", "either": 5,
        "named": "1",
    }  # fmt: skip


def test_the_bare_tag_calls_the_only_tool_which_must_take_one_argument():
    assert FORMATS["tag"].parse("37*24=<tool>37*24</tool>", ONE) == Parsed(
        "37*24=", (ParsedCall("calculate", {"expression": "37*24"}),), ()
    )
    assert FORMATS["tag"].parse("<tool>x</tool>", TOOLS).calls == ()
    with pytest.raises(DataError, match="this one has 2"):
        FORMATS["tag"].check({"search": TOOLS["search"]})
    with pytest.raises(DataError, match=r"'tag' can call one tool, .* search, .*hermes"):
        FORMATS["tag"].check({**ONE, **TOOLS, "third": ONE["calculate"]})
    FORMATS["tag"].check(ONE)


@pytest.mark.parametrize("name", FORMATS)
def test_hostile_texts_are_no_calls_and_never_raise(name):
    marks = ("", "<tool_call>", "<function=search><parameter=query>", "```python\n", "<tool>")
    marks += ("[TOOL_CALLS]", "<|python_tag|>", '{"tool_calls":', '{"name":', "search[ARGS]")
    for _, text in HOSTILE:
        for mark in marks:
            found = FORMATS[name].parse(mark + text, CODE)
            assert found.calls == () or name in ("python", "tag", "xml")
            FORMATS[name].parse(mark * 2000, CODE)


@given(st.text(alphabet='<>/{}[]":,`\n\\ atolcenmrguspfi=_()"|', max_size=80))
def test_no_text_makes_a_notation_raise(text):
    for notation in FORMATS.values():
        notation.parse(text, CODE)
        notation.parse("<tool_call>" + text + "</tool_call>", TOOLS)


def test_over_many_calls_none_is_carried_out_and_a_megabyte_is_not_read():
    hermes = FORMATS["hermes"]
    one = hermes.write([FOUND])
    assert len(hermes.parse(one * MAX_CALLS, TOOLS).calls) == MAX_CALLS
    found = hermes.parse(one * (MAX_CALLS + 1), TOOLS)
    assert (found.calls, found.problems) == (
        (), (f"over {MAX_CALLS} calls at once; none was carried out",),
    )  # fmt: skip
    broken = hermes.parse("<tool_call>{</tool_call>" * (MAX_CALLS + 1), TOOLS)
    assert len(broken.problems) == MAX_CALLS + 2  # each of them may cost
    assert "characters" in hermes.parse(one * 20_000, TOOLS).problems[0]


def test_the_calls_of_a_message_are_read_and_what_is_none_is_a_problem():
    message = {
        "content": "<think>hm</think>Look:",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}},
            {"id": 7, "function": {"name": "g", "arguments": {"y": [2]}}},
            {"function": {"name": "h", "arguments": ""}},
            {"function": {"name": "i", "arguments": '{"x": 1, "x": 2}'}},
            "j",
        ],
    }
    found = from_message(message)
    assert found.text == "Look:"
    assert found.calls == (("f", {"x": 1}, "c1"), ("g", {"y": [2]}, None), ("h", {}, None))
    assert len(found.problems) == 2
    for odd in ({}, {"tool_calls": 3, "content": 4}, {"tool_calls": [None, [], {}]}, None):
        assert from_message(odd).calls == ()


@pytest.mark.parametrize("name", FORMATS)
def test_the_description_names_each_tool_and_shows_the_form(name):
    schema = {"type": "function", "function": {"name": "calculate", "description": "Reckons.",
              "parameters": ONE["calculate"].schema}}  # fmt: skip
    told = FORMATS[name].describe([schema])
    assert "Reckons." in told
    assert "expression" in told
    shown = FORMATS[name].parse(told[told.find("\n", told.find("Reckons.")) :], {})
    assert name != "hermes" or shown.calls == (("tool", {"argument": "value"}, None),)


def test_an_unknown_format_is_answered_with_the_closest():
    with pytest.raises(DataError, match=r"did you mean hermes\?"):
        call_format("herms")
