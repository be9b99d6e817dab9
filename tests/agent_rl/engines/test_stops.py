import pytest

from agent_rl.engines import Sampling, TorchEngine
from agent_rl.engines.stops import StopStrings
from agent_rl.errors import UserError


class Bytes:
    """Decodes token i to a piece of bytes, as byte-level tokenizers do."""

    def __init__(self, pieces):
        self.pieces = pieces

    def decode(self, ids, **kwargs):
        text = b"".join(self.pieces[i] for i in ids).decode("utf-8", errors="replace")
        return text.removeprefix(" ")


PIECES = [
    b"a",
    b"b",
    b"</to",
    b"ol",
    b">x",
    b"</tool>",
    b"",
    b"\xe2\x82",
    b"\xac",
    b"ab</tool>cd",
    b" ",
]


@pytest.mark.parametrize(
    ("stop", "ids", "at"),
    [
        ("</tool>", [0, 2, 3, 4, 1], 4),  # begins and ends within tokens
        ("</tool>", [1, 5, 1], 2),
        ("</tool>", [9, 0], 1),
        ("€", [0, 7, 8], 3),  # a character of two tokens
        ("a€", [0, 7, 8], 3),
        ("aaa", [0, 0, 1, 0, 0, 0], 6),
        ("ol> ", [1, 5, 10, 0], 3),  # a space, which tokenizers strip from a token alone
        ("ab", [0, 6, 6, 1], 4),  # tokens without text between
        ("zz", [0, 1, 5], None),
    ],
)
def test_the_completing_token_is_found(stop, ids, at):
    stops = StopStrings(Bytes(PIECES), [stop])
    hits = [n for n in range(1, len(ids) + 1) if stops.completed(ids[:n])]
    assert hits[:1] == ([at] if at else [])


def test_an_earlier_stop_string_does_not_count_again():
    stops = StopStrings(Bytes(PIECES), ["</tool>"])
    assert not stops.completed([5, 0])
    assert stops.completed([5, 0, 5])


def test_any_of_several_strings_stops():
    stops = StopStrings(Bytes(PIECES), ["bb", "€"])
    assert stops.completed([1, 1])
    assert stops.completed([7, 8])
    assert not stops.completed([1, 0])


def test_only_the_end_of_a_long_text_is_decoded():
    lengths = []

    class Counting(Bytes):
        def decode(self, ids, **kwargs):
            lengths.append(len(ids))
            return super().decode(ids)

    assert not StopStrings(Counting(PIECES), ["aab"]).completed([0] * 10_000 + [1, 1])
    assert 2 < max(lengths) < 20
    lengths.clear()
    stops = StopStrings(Counting(PIECES), ["abc"])
    assert not any(stops.completed([1] * n) for n in range(1, 50))
    assert lengths == [1]  # no text of this token ends with a "c"


LETTERS = Bytes([bytes([97 + i]) for i in range(24)])


def test_an_engine_keeps_tokens_up_to_the_completing_one(tools):
    model = tools.build()
    asked, sampling = tools.prompts(4), Sampling(30, seed=3)
    [free] = tools.generate(TorchEngine(model, eos_token_ids=[]), asked, sampling)
    text = LETTERS.decode(free.token_ids)
    stop = text[11:14]
    end = text.index(stop) + 3
    engine = TorchEngine(model, eos_token_ids=[], tokenizer=LETTERS)
    [got] = tools.generate(engine, asked, Sampling(30, seed=3, stop=("zzzz", stop)))
    assert got.token_ids == free.token_ids[:end]
    assert (got.logprobs, got.finish_reason) == (free.logprobs[:end], "stop")


def test_no_stop_string_ends_a_completion_before_min_tokens(tools):
    model = tools.build()
    asked = tools.prompts(4)
    [free] = tools.generate(TorchEngine(model, eos_token_ids=[]), asked, Sampling(30, seed=3))
    text = LETTERS.decode(free.token_ids)
    letter = next(c for c in text if text.count(c) > 1)
    second = text.index(letter, text.index(letter) + 1)
    engine = TorchEngine(model, eos_token_ids=[], tokenizer=LETTERS)
    sampling = Sampling(30, seed=3, stop=(letter,), min_tokens=text.index(letter) + 2)
    [got] = tools.generate(engine, asked, sampling)
    assert len(got.token_ids) == max(second + 1, sampling.min_tokens)


def test_stop_strings_need_a_tokenizer(tools):
    engine = TorchEngine(tools.build(), eos_token_ids=[])
    with pytest.raises(UserError, match="needs an engine with a tokenizer"):
        tools.generate(engine, tools.prompts(2), Sampling(3, stop=("x",)))
