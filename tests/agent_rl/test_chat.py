"""What was sampled is never tokenized again; templates only ever render what is new."""

import pytest

from agent_rl.chat import Chat
from agent_rl.errors import UserError

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
REFUSES_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
)


def chatml(chat: Chat) -> Chat:
    chat.tokenizer.add_special_tokens({"eos_token": "<|im_end|>"})
    chat.tokenizer.chat_template = CHATML
    return Chat(chat.tokenizer)


def test_next_context_holds_the_sampled_ids_themselves(chat):
    prompt = chat.prompt_ids([{"role": "user", "content": "1+1"}])
    odd = [chat.tokenizer.unk_token_id, 7, chat.tokenizer.unk_token_id]  # does not survive decoding
    context = chat.next_prompt_ids(prompt, odd, [{"role": "user", "content": "no"}])
    assert context[: len(prompt) + 3] == [*prompt, *odd]
    assert chat.decode(context[len(prompt) + 3 :]) == "no"


@pytest.mark.parametrize("ended", [True, False])
def test_next_context_reads_as_the_template_would_write_it(chat, ended):
    chat = chatml(chat)
    asked = [{"role": "user", "content": "1+1"}]
    more = [{"role": "user", "content": "no"}]
    prompt = chat.prompt_ids(asked)
    sampled = chat.completion_ids("3")[: None if ended else -1]
    context = chat.next_prompt_ids(prompt, sampled, more)
    whole = chat.prompt_ids([*asked, {"role": "assistant", "content": "3"}, *more])
    assert chat.tokenizer.decode(context) == chat.tokenizer.decode(whole)


def test_a_tokenizer_without_a_template_is_refused(chat):
    chat.tokenizer.chat_template = None
    with pytest.raises(UserError, match=r"no chat template; give one with model\.chat_template"):
        Chat(chat.tokenizer)


def test_a_template_from_a_file_replaces_the_tokenizers(chat, tmp_path):
    file = tmp_path / "t.jinja"
    file.write_text("{% for m in messages %}{{ m['content'] }}={% endfor %}")
    replaced = Chat(chat.tokenizer, str(file))
    assert (
        replaced.tokenizer.decode(replaced.prompt_ids([{"role": "user", "content": "1"}])) == "1="
    )


def test_a_role_the_template_refuses_is_one_clear_line(chat):
    chat.tokenizer.chat_template = REFUSES_SYSTEM
    with pytest.raises(UserError, match="refuses the roles \\['system'\\]: no system"):
        chat.prompt_ids([{"role": "system", "content": "be brief"}])


def test_a_missing_template_file_is_one_clear_line(chat):
    with pytest.raises(UserError, match=r"model\.chat_template: cannot read no\.jinja"):
        Chat(chat.tokenizer, "no.jinja")


def test_a_tokenizer_without_an_end_token_is_refused(chat):
    chat.tokenizer.eos_token = None
    with pytest.raises(UserError, match="no end-of-sequence token"):
        Chat(chat.tokenizer)


TURNS = (
    "{% for m in messages %}<start>{{ m['role'] }} {{ m['content'] }}<turn> {% endfor %}"
    "{% if add_generation_prompt %}<start>assistant {% endif %}"
)


def turns(chat: Chat) -> Chat:
    """A family whose end of turn is not the tokenizer's end of sequence."""
    chat.tokenizer.add_tokens(["<turn>", "<start>"])
    chat.tokenizer.chat_template = TURNS
    return Chat(chat.tokenizer)


def test_the_end_of_a_turn_is_what_the_template_writes(chat):
    chat = turns(chat)
    turn_id = chat.tokenizer.convert_tokens_to_ids("<turn>")
    assert chat.completion_ids("3") == [*chat.tokenizer.encode("3"), turn_id]
    assert chat.end_ids == {turn_id, chat.tokenizer.eos_token_id}


@pytest.mark.parametrize("end", ["<turn>", "<eos>"])
def test_a_turn_that_ended_is_not_ended_again(chat, end):
    chat = turns(chat)
    sampled = [*chat.tokenizer.encode("3"), chat.tokenizer.convert_tokens_to_ids(end)]
    context = chat.next_prompt_ids([], sampled, [{"role": "user", "content": "no"}])
    assert chat.tokenizer.decode(context) == f"3{end} <start>user no<turn> <start>assistant "
    assert chat.decode(sampled) == "3"


def test_a_rendering_that_is_remembered_belongs_to_its_messages_alone(chat):
    first = [{"role": "user", "content": "1"}]
    ids = chat.prompt_ids(first)
    ids.append(7)  # the caller's own
    assert chat.prompt_ids([{"role": "user", "content": "1"}]) == ids[:-1]
    first[0]["content"] = "2"
    assert chat.tokenizer.decode(chat.prompt_ids(first)) == "<bos>2"
    after = [chat.next_prompt_ids([], [5], [{"role": r, "content": "1"}]) for r in ("user", "tool")]
    assert after[0] != after[1]


def test_remembered_renderings_take_bounded_room(chat, monkeypatch):
    monkeypatch.setattr("agent_rl.chat.CACHED_IDS", 100)
    chat = Chat(chat.tokenizer)
    for number in range(200):
        chat.prompt_ids([{"role": "user", "content": str(number)}])
    assert sum(len(ids) + 1 for ids, _ in chat._prompts._entries.values()) <= 100


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("m.content|lower", "Hello"),
        ("m.content|e", "a & b"),
        ("m.content|e", "it's"),
        ("m.content.split()|join(' ')", "a  b"),
        ("m.content if m.content|length < 200 or m.content|length > 900 else '-'", "x" * 300),
    ],
)
def test_a_template_that_changes_some_plain_texts_is_asked_for_each(chat, written, text):
    template = f"{{% for m in messages %}}{{{{ {written} }}}}<eos>{{% endfor %}}"
    chat = Chat(with_template(chat, template))

    def after(content):
        said = [{"role": "user", "content": content}]
        return chat.next_prompt_ids([], [5], said), chat.template.after(
            said, generation_prompt=True
        )

    for number in range(5):
        after(f"w{number}")
    ids, told = after(text)
    assert ids == [5, *chat.encode(told)]


def test_texts_that_no_tokenizer_takes_are_mended(chat):
    broken = [{"role": "user", "content": "1\ud8001"}]
    assert "1" in chat.tokenizer.decode(chat.prompt_ids(broken))
    assert chat.next_prompt_ids([], [5], broken)
    assert chat.completion_ids("1\ud8001") == chat.completion_ids("1?1")


def with_template(chat, template, *tokens):
    chat.tokenizer.add_tokens(list(tokens))
    chat.tokenizer.chat_template = template
    return chat.tokenizer


TWICE_ENDED = "{% for m in messages %}{{ m['content'] }}<say><end>{% endfor %}"
HEADERS_ONLY = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"


@pytest.mark.parametrize(
    ("sampled", "supplied"),
    [("3", "<say><end>"), ("3<say>", "<end>"), ("3<say><end>", ""), ("3<eos>", "")],
)
def test_a_turn_that_two_tokens_end_is_ended_once(chat, sampled, supplied):
    chat = Chat(with_template(chat, TWICE_ENDED, "<say>", "<end>"))
    ids = chat.tokenizer.encode(sampled)
    context = chat.next_prompt_ids([], ids, [{"role": "user", "content": "no"}])
    assert chat.tokenizer.decode(context) == f"{sampled}{supplied}no<say><end>"


def test_a_header_that_was_sampled_as_the_end_is_not_doubled(chat):
    tokenizer = with_template(chat, HEADERS_ONLY, "<user>", "<tool>", "<assistant>")
    user_id = tokenizer.convert_tokens_to_ids("<user>")
    chat = Chat(tokenizer, end_ids=[user_id])
    answer = [{"role": "user", "content": "no"}]
    for sampled in ("3<user>", "3"):
        context = chat.next_prompt_ids([], tokenizer.encode(sampled), answer)
        assert tokenizer.decode(context) == "3<user>no"


ALTERNATES = (
    "{% for m in messages %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('no') }}{% endif %}"
    "{{ m['content'] }}={% endfor %}"
)


def test_roles_that_a_template_refuses_go_to_the_user(chat):
    chat.tokenizer.chat_template = ALTERNATES
    said = [{"role": r, "content": c} for r, c in (("system", "ab"), ("user", "c"), ("user", "d"))]
    assert chat.tokenizer.decode(chat.prompt_ids(said)) == "ab<unk><unk>c<unk><unk>d="


def test_a_history_that_is_unknown_is_refused(chat):
    with pytest.raises(UserError, match="history is 'forget'; it must be 'append' or 'template'"):
        Chat(chat.tokenizer, history="forget")
