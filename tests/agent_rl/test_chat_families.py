"""Eleven families of chat templates: what was sampled stays, and only what is new is written."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_rl.chat import Chat
from agent_rl.errors import UserError
from agent_rl.provenance import audit, provenance
from agent_rl.trajectory import Trajectory, Turn, segments
from tests.agent_rl.families import FAMILIES, make_chat

EVERY = sorted(FAMILIES)
WITH_RESULTS = [name for name in EVERY if FAMILIES[name].results]
WITH_TOOLS = [name for name in EVERY if FAMILIES[name].tools]
CHATS = {name: make_chat(name) for name in EVERY}
FEW = settings(max_examples=12, deadline=None, derandomize=True)
TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds.",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
    },
}
words = st.text("thea.{}\n\u00e9\u4e2d ", max_size=12).map(lambda text: f"w{text}w")


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def result(text, name="add"):
    return {"role": "tool", "content": text, "name": name}


def drawn_ids(chat, seed, n):
    """Ids that do not survive decoding: lone bytes, unmerged pairs, special tokens inside."""
    rng = random.Random(seed)
    allowed = sorted(set(range(len(chat.tokenizer))) - chat.end_ids)
    return [rng.choice(allowed) for _ in range(n)]


def play(chat, opening, turns, tools=None):
    """A trajectory of given completions and answers, as the rollout makes one."""
    trajectory = Trajectory("env", "0", 0, 0, opening=tuple(opening))
    prompt = chat.prompt_ids(opening, tools=tools)
    for sampled, answer in turns:
        trajectory.turns.append(
            Turn(tuple(prompt), tuple(sampled), (-0.5,) * len(sampled), "", 0.0, "stop")
        )
        trajectory.answers.append(tuple(answer))
        if chat.history == "append":
            prompt = chat.next_prompt_ids(prompt, sampled, answer, tools=tools)
        else:
            prompt = chat.conversation_ids(
                opening,
                [turn.completion_ids for turn in trajectory.turns],
                trajectory.answers,
                tools=tools,
            )
    trajectory.final_prompt_ids = tuple(prompt)
    return trajectory


@st.composite
def answers(draw, name):
    if FAMILIES[name].results and draw(st.booleans()):
        return [result(text) for text in draw(st.lists(words, min_size=1, max_size=3))]
    return [user(draw(words))]


@st.composite
def openings(draw):
    out = [{"role": "system", "content": draw(words)}] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(0, 2))):
        out += [user(draw(words)), assistant(draw(words))]
    return [*out, user(draw(words))]


@pytest.mark.parametrize("name", EVERY)
@FEW
@given(st.data())
def test_sampled_ids_stay_and_the_mask_is_their_provenance(name, data):
    chat = CHATS[name]
    turns = []
    for _ in range(3):
        sampled = drawn_ids(chat, data.draw(st.integers(0, 999)), data.draw(st.integers(1, 9)))
        ended = data.draw(st.booleans())
        turns.append(([*sampled, chat.end_id] if ended else sampled, data.draw(answers(name))))
    trajectory = play(chat, data.draw(openings()), turns)
    (segment,) = audit(trajectory, splits=())
    (kinds,) = provenance(trajectory, chat)
    marked = [i for i, kind in enumerate(kinds) if kind == "sampled"]
    assert tuple(marked) == segment.sampled
    assert [segment.ids[i] for i in marked] == [i for sampled, _ in turns for i in sampled]
    for kind, roles in (("user", {"user"}), ("tool", {"tool"})):
        messages = [*trajectory.opening, *(m for a in trajectory.answers[:-1] for m in a)]
        told = "".join(m["content"] for m in messages if m["role"] in roles)
        ids = [i for i, k in zip(segment.ids, kinds, strict=True) if k == kind]
        assert shown(chat, ids) >= shown(chat, chat.encode(told))


def shown(chat, ids):
    """The letters of a text: templates trim, dump as JSON and put newlines in between."""
    return set(chat.tokenizer.decode(ids)) & set("thea.{}w\u4e2d")


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("ended", [True, False])
def test_exactly_one_token_ends_a_turn(name, ended):
    chat = CHATS[name]
    prompt = chat.prompt_ids([user("the")])
    sampled = spoken(name, "a")[: None if ended else -1]
    context = chat.next_prompt_ids(prompt, sampled, [user("zn")])
    closing = chat.encode(chat.template.after([user("zn")], generation_prompt=True))[0]
    said = len(spoken(name, "a")) - 1
    between = context[len(prompt) + said : context.index(chat.encode("z")[-1], len(prompt))]
    ends = [i for i in between if i in chat.end_ids | {closing}]
    assert len(ends) == 1
    assert between[0] == ends[0] == (chat.end_id if ended else closing)


@pytest.mark.parametrize("name", EVERY)
@FEW
@given(st.lists(words, min_size=5, max_size=5))
def test_what_the_template_would_write_is_what_it_writes_at_once(name, texts):
    chat = CHATS[name]
    first, said, second, again, third = texts
    opening = [user(first)]
    ids = chat.prompt_ids(opening)
    for text, more in ((said, second), (again, third)):
        ids = chat.next_prompt_ids(ids, spoken(name, text), [user(more)])
    whole = [user(first), assistant(said), user(second), assistant(again), user(third)]
    assert ids == stated_difference(name, chat, chat.prompt_ids(whole))


def spoken(name, text):
    """The ids of an answer as the template would write it, and the token that ends it."""
    chat, family = CHATS[name], FAMILIES[name]
    return [*chat.encode(family.special[0] + family.said + text)[1:], chat.end_id]


def stated_difference(name, chat, ids):
    """What the append-only context has where the template would write something else."""
    if name == "harmony":  # it sampled return, and an earlier turn is written with end
        end, answer = (chat.tokenizer.convert_tokens_to_ids(t) for t in ("<|end|>", "<|return|>"))
        spoken = False
        out = []
        for i in ids:
            spoken = spoken or i == chat.tokenizer.convert_tokens_to_ids("<|channel|>")
            out.append(answer if spoken and i == end else i)
            spoken = spoken and i != end
        return out
    if name in ("deepseek_r1", "qwen3_thinking"):  # the generation prompt opened the thinking
        header = (
            "<|im_start|>assistant\n" if name == "qwen3_thinking" else "<\uff5cAssistant\uff5c>"
        )
        text = chat.tokenizer.decode(ids).removesuffix("<think>\n")
        return chat.encode(text.replace(header, header + "<think>\n"))
    return ids


@pytest.mark.parametrize("name", WITH_RESULTS)
@pytest.mark.parametrize("n", [1, 2])
def test_results_of_calls_are_written_as_the_template_writes_them(name, n):
    chat = CHATS[name]
    calls = [
        {"id": f"call0000{k}", "type": "function", "function": {"name": "add", "arguments": {}}}
        for k in range(1, 1 + (1 if name in ("llama3", "harmony") else n))
    ]
    if name == "deepseek_r1":
        calls = [{**c, "function": {"name": "add", "arguments": "{}"}} for c in calls]
    opening = [user("the")]
    called = {**assistant(""), "tool_calls": calls}
    if name == "chatml":  # it knows no calls: they are text
        called = assistant("<tool_call>")
    answer = [{**result(f"r{k}"), "tool_call_id": f"call0000{k}"} for k in range(1, n + 1)]
    whole = chat.template.render([*opening, called, *answer])
    asked = chat.template.render(opening).removesuffix("<think>\n")
    if not whole.startswith(asked):  # qwen25 and hermes write no newline after the header of a call
        asked = asked.removesuffix("\n")
    end = chat.template.call_end or chat.template.end
    prompt = chat.encode(asked)
    sampled = chat.encode(whole[len(asked) : whole.index(end, len(asked)) + len(end)])
    ids = chat.next_prompt_ids(prompt, sampled, answer)
    assert chat.tokenizer.decode(ids) == whole
    new = len(ids) - len(prompt) - len(sampled)
    assert ids[-new:] == chat.encode(whole)[-new:]


@pytest.mark.parametrize("name", sorted(set(EVERY) - set(WITH_RESULTS)))
def test_a_template_without_results_says_what_to_set(name):
    chat = CHATS[name]
    with pytest.raises(
        UserError, match=r"role 'tool'.*set the environment's option `results: user"
    ):
        chat.next_prompt_ids(chat.prompt_ids([user("the")]), [chat.end_id], [result("1")])
    with pytest.raises(UserError, match="results: user"):
        chat.prompt_ids([user("the"), assistant("a"), result("1")])
    both = chat.next_prompt_ids([], [chat.end_id], [user("one"), user("two")])
    assert "one" in chat.tokenizer.decode(both)
    assert "two" in chat.tokenizer.decode(both)


def test_ids_of_calls_that_a_family_refuses_are_replaced():
    chat = CHATS["mistral"]
    known = {**result("1"), "tool_call_id": "AbC123xyz"}
    long = {**result("1"), "tool_call_id": "call_with_a_long_id"}
    texts = [chat.tokenizer.decode(chat.next_prompt_ids([], [5], [m])) for m in (known, long)]
    assert '"call_id": "AbC123xyz"' in texts[0]
    assert '"call_id": "call00001"' in texts[1]


@pytest.mark.parametrize("name", EVERY)
def test_tools_are_written_or_refused(name):
    chat = CHATS[name]
    assert chat.takes_tools is FAMILIES[name].tools
    if chat.takes_tools:
        assert "add" in chat.tokenizer.decode(chat.prompt_ids([user("the")], tools=[TOOL]))
        assert "add" not in chat.tokenizer.decode(chat.prompt_ids([user("the")]))
    else:
        with pytest.raises(UserError, match=r"does not write tools.*call_format: hermes"):
            chat.prompt_ids([user("the")], tools=[TOOL])


@pytest.mark.parametrize("name", WITH_TOOLS)
def test_tools_are_told_once_in_a_loop_of_calls(name):
    chat = CHATS[name]
    prompt = chat.prompt_ids([user("the")], tools=[TOOL])
    ids = chat.next_prompt_ids(prompt, [chat.end_id], [result("1")], tools=[TOOL])
    assert "Adds" not in chat.tokenizer.decode(ids[len(prompt) :])
    assert ids == chat.next_prompt_ids(prompt, [chat.end_id], [result("1")])


# Thinking.

THINKING = ["deepseek_r1", "qwen3", "qwen3_thinking"]


def thought(name, chat, thinking, said):
    opened = "" if name in ("deepseek_r1", "qwen3_thinking") else "<think>\n"
    return chat.completion_ids(f"{opened}{thinking}\n</think>\n\n{said}")


@pytest.mark.parametrize("name", THINKING)
@FEW
@given(st.lists(words, min_size=5, max_size=5))
def test_dropped_thinking_leaves_what_the_template_writes(name, texts):
    chat = make_chat(name, history="template")
    first, thinking, said, second, third = texts
    opening = [user(first)]
    turns = [
        (thought(name, chat, thinking, said), [user(second)]),
        (thought(name, chat, "hm", second), [user(third)]),
    ]
    trajectory = play(chat, opening, turns)
    spoken = [
        assistant(f"<think>\n{t}\n</think>\n\n{s}") for t, s in ((thinking, said), ("hm", second))
    ]
    whole = [user(first), spoken[0], user(second), spoken[1], user(third)]
    assert trajectory.turns[1].prompt_ids == tuple(chat.prompt_ids(whole[:3]))
    assert trajectory.final_prompt_ids == tuple(chat.prompt_ids(whole))
    assert len(segments(trajectory)) == 2
    kinds = provenance(trajectory, chat)
    assert [k.count("sampled") for k in kinds] == [len(ids) for ids, _ in turns]
    left = chat.completion_ids(("\n\n" if name == "deepseek_r1" else "") + said)
    assert kinds[1].count("earlier sampled") == len(left)


@pytest.mark.parametrize("name", THINKING)
def test_appended_thinking_stays_as_sampled(name):
    chat = CHATS[name]
    turns = [(thought(name, chat, "hm", "the"), [user("a")])] * 2
    trajectory = play(chat, [user("the")], turns)
    assert len(audit(trajectory, splits=())) == 1
    assert trajectory.final_prompt_ids == tuple(
        chat.conversation_ids([user("the")], [ids for ids, _ in turns], trajectory.answers)
    )


def test_thinking_between_calls_stays_until_the_user_speaks():
    chat = make_chat("qwen3", history="template")
    turns = [
        (thought("qwen3", chat, "first", "call"), [result("1")]),
        (thought("qwen3", chat, "second", "done"), [user("more")]),
        (thought("qwen3", chat, "third", "end"), []),
    ]
    trajectory = play(chat, [user("the")], turns)
    assert [len(s.sampled) for s in segments(trajectory)] == [
        len(turns[0][0]) + len(turns[1][0]),
        len(turns[2][0]),
    ]
    read = chat.tokenizer.decode(trajectory.turns[2].prompt_ids)
    assert "first" not in read
    assert "second" not in read


def test_a_tag_that_ends_inside_a_token_keeps_the_turn_whole():
    chat = make_chat("qwen3", history="template")
    chat.tokenizer.add_tokens(["k>Y"])
    inside = [*chat.encode("hm</"), *chat.encode("thin"), *chat.encode("k>Y"), chat.end_id]
    assert "</think>" in chat.decode(inside)
    opening, more = [user("the")], [user("a")]
    kept = chat.conversation_ids(opening, [inside], [more])
    assert kept == chat.next_prompt_ids(chat.prompt_ids(opening), inside, more)
    spelt = [*chat.encode("hm"), *(chat.encode(c)[0] for c in "</think>"), *chat.encode("Y")]
    cut = chat.conversation_ids(opening, [[*spelt, chat.end_id]], [more])
    assert cut == chat.next_prompt_ids(
        chat.prompt_ids(opening), [*chat.encode("Y"), chat.end_id], more
    )


def test_sampled_ids_behind_the_thinking_are_not_tokenized_again():
    chat = make_chat("qwen3", history="template")
    odd = [chat.encode("t")[0], chat.encode("h")[0], chat.encode("e")[0]]  # "the" is one token
    sampled = [*chat.encode("<think>\nhm\n</think>\n\n"), *odd, chat.end_id]
    ids = chat.conversation_ids([user("a")], [sampled], [[user("a")]])
    assert ids == chat.next_prompt_ids(
        chat.prompt_ids([user("a")]), [*odd, chat.end_id], [user("a")]
    )


def test_what_ends_each_call_does_not_end_the_turn():
    """As the published template of DeepSeek-R1's distillates: one call, and nothing behind it."""
    chat = make_chat("deepseek_r1")
    source = chat.tokenizer.chat_template
    behind = "<\uff5ctool\u2581calls\u2581end\uff5c>' + eos_token"
    assert behind in source
    chat.tokenizer.chat_template = source.replace(behind, "'")
    chat = Chat(chat.tokenizer)
    assert chat.end_ids == {chat.tokenizer.eos_token_id}
    context = chat.next_prompt_ids([], chat.encode("a"), [result("1")])
    assert context[:2] == [*chat.encode("a"), chat.end_id]


# What a completion says.


@pytest.mark.parametrize("name", EVERY)
def test_calls_are_read_in_the_notation_of_the_template(name):
    chat, family = CHATS[name], FAMILIES[name]
    assert chat.call_format == family.call_format
    if family.call_format is None:
        return
    call = chat.template.call_text("add", {"a": "7"})
    asked = chat.template.render([user("?")])
    told = chat.template.render([user("?")], generation_prompt=False)
    header = asked.removeprefix(told).removesuffix("<think>\n").rstrip("\n")
    assert call.startswith(header)
    sampled = chat.encode(call[len(header) :].rstrip("\n"))
    message = chat.parse(sampled, tools=[TOOL])
    assert message.get("problems") is None
    (called,) = message["tool_calls"]
    assert called["function"]["name"] == "add"
    assert int(called["function"]["arguments"]["a"]) == 7


BROKEN = {
    "mistral": '[TOOL_CALLS] [{"name": "add", "argum',
    "deepseek_r1": "<\uff5ctool\u2581call\u2581begin\uff5c>function<\uff5ctool\u2581sep\uff5c>add",
    "harmony": "<|channel|>commentary to=functions.add <|constrain|>json<|message|>{",
    "qwen3": '<tool_call>\n{"name": "add", "arguments": [1]}\n</tool_call>',
}


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_a_broken_call_stays_text_with_a_note(name):
    message = CHATS[name].parse(BROKEN[name], tools=[TOOL])
    assert message["content"] == BROKEN[name]
    assert len(message["problems"]) == 1
    assert "tool_calls" not in message


def called(name, arguments):
    """A call of ``add`` as a family writes it, its arguments as they stand."""
    return {
        "mistral": f'[TOOL_CALLS] [{{"name": "add", "arguments": {arguments}}}]',
        "mistral since 2025": f"[TOOL_CALLS]add[ARGS]{arguments}",
        "deepseek_r1": "<\uff5ctool\u2581call\u2581begin\uff5c>function"
        f"<\uff5ctool\u2581sep\uff5c>add\n```json\n{arguments}\n```<\uff5ctool\u2581call\u2581end\uff5c>",
        "harmony": "<|channel|>commentary to=functions.add <|constrain|>json<|message|>"
        f"{arguments}<|call|>",
        "qwen3": f'<tool_call>\n{{"name": "add", "arguments": {arguments}}}\n</tool_call>',
    }[name]


NOTATIONS = ("mistral", "mistral since 2025", "deepseek_r1", "harmony", "qwen3")


@pytest.mark.parametrize("name", NOTATIONS)
@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ('{"a": 1, "a": 2}', "the key 'a' is given twice"),
        ('{"a": Infinity}', "Infinity is no JSON number"),
        ('{"a": 1e999}', "inf is no JSON number"),
        ('{"a": "\\ud800"}', "half of a surrogate pair"),
        ("[1]", "the arguments are to be a JSON object"),
        ('{"a": 1} 2', ""),
    ],
)
def test_every_notation_refuses_the_same_arguments(name, arguments, problem):
    chat = CHATS[name.partition(" ")[0]]
    (call,) = chat.parse(called(name, '{"a": 7}'), tools=[TOOL])["tool_calls"]
    assert call["function"] == {"name": "add", "arguments": {"a": 7}}
    text = called(name, arguments)
    message = chat.parse(text, tools=[TOOL])
    (line,) = message["problems"]
    assert problem in line
    assert "tool_calls" not in message
    assert message["content"] == text


@pytest.mark.parametrize("name", ["mistral", "llama3"])
def test_a_call_in_another_notation_is_a_problem(name):
    (line,) = CHATS[name].parse(called("qwen3", '{"a": 7}'), tools=[TOOL])["problems"]
    assert "a call of add in another notation" in line


@pytest.mark.parametrize("name", ["mistral", "deepseek_r1", "qwen3"])
def test_thinking_is_not_read_for_calls(name):
    call = called(name, '{"a": 7}')
    for text in (f"<think>{call}</think>yes", f"{call}</think>yes"):
        message = CHATS[name].parse(text, tools=[TOOL])
        assert message["content"] == "yes"
        assert not {"tool_calls", "problems"} & set(message)


@pytest.mark.parametrize("name", EVERY)
@FEW
@given(seed=st.integers(0, 10_000), text=st.text())
def test_nothing_that_a_model_says_raises(name, seed, text):
    chat = CHATS[name]
    for said in (text, drawn_ids(chat, seed, 30)):
        assert chat.parse(said, tools=[TOOL])["role"] == "assistant"


def test_the_tokenizers_own_parser_goes_first():
    chat = make_chat("qwen3_thinking")
    chat.tokenizer.response_template = {
        "version": 1,
        "start_anchor": "<|im_start|>assistant\n",
        "fields": {
            "thinking": {"open": "<think>", "close": "</think>", "content": "text"},
            "content": {"close": "<|im_end|>", "content": "text"},
        },
    }
    prompt = chat.template.render([user("the")])
    message = chat.parse("hm</think>\n\nyes", prompt=prompt)
    assert (message["reasoning_content"].strip(), message["content"].strip()) == ("hm", "yes")
    chat.tokenizer.response_template = {"version": 1}
    assert "own parser" in chat.parse("yes")["problems"][0]


def test_a_template_that_leaves_an_empty_block_leaves_it_too():
    """As Nemotron does: the prompt opened the thinking, and its place stays visible."""
    chat = make_chat("qwen3_thinking")
    source = chat.tokenizer.chat_template
    kept = "{{- m.content.split('</think>')[-1].lstrip('\\n') }}"
    assert kept in source
    chat.tokenizer.chat_template = source.replace(
        kept,
        "{%- if '</think>' in m.content and loop.index0 <= found.last %}"
        "{{- '<think></think>' }}{{- m.content.split('</think>')[-1] }}"
        "{%- else %}" + kept + "{%- endif %}",
    )
    chat = Chat(chat.tokenizer, history="template")
    opening, more = [user("the")], [user("a")]
    turns = [(thought("qwen3_thinking", chat, "hm", "the"), more)]
    trajectory = play(chat, opening, turns)
    whole = [*opening, assistant("<think>\nhm\n</think>\n\nthe"), *more]
    assert trajectory.final_prompt_ids == tuple(chat.prompt_ids(whole))
    assert chat.tokenizer.decode(trajectory.final_prompt_ids).count("<think></think>\n\nthe") == 1


# Plain texts go around Jinja.


@pytest.mark.parametrize("name", EVERY)
@FEW
@given(st.lists(st.text("abc .,=7", min_size=1, max_size=9), min_size=4, max_size=4))
def test_plain_texts_are_written_as_the_template_writes_them(name, texts):
    chat = CHATS[name]
    role = "tool" if FAMILIES[name].results else "user"
    for text in [*texts, "<think>", "'", "user", "a" * 5000]:
        message = {"role": role, "content": text}
        whole = chat.template.after([message], generation_prompt=True)
        assert chat.next_prompt_ids([], [5], [message]) == [5, *chat.encode(whole)]


WHIMSICAL = (
    "{% for m in messages %}"
    "{{ '(again)' if 'again' in m['content'] else m['content'] }}<|im_end|>"
    "{% endfor %}"
)


def test_a_template_that_looks_into_plain_texts_is_always_asked():
    chat = make_chat("chatml")
    chat.tokenizer.chat_template = WHIMSICAL
    chat = Chat(chat.tokenizer)
    for text in ("one", "two", "three", "four", "once again", "five"):
        context = chat.next_prompt_ids([], [5], [user(text)])
        assert ("(again)" in chat.tokenizer.decode(context)) is ("again" in text)


@pytest.mark.parametrize("name", FAMILIES)
def test_openings_are_written_as_the_template_writes_them(name):
    chat = make_chat(name)
    for number in range(8):  # from the third on the template is not asked
        for system in ([], [{"role": "system", "content": 'Call {"a": <b>} for me.'}]):
            for said in (f"What is {number}?", f"x{number}", " spaced ", "a\n\nb", "<think>no"):
                few = [{"role": "user", "content": "1+1"}, {"role": "assistant", "content": "2"}]
                asked = [*system, *few, {"role": "user", "content": said}]
                assert chat.prompt_ids(asked) == chat.encode(chat.template.render(asked))
