"""Remembered or not, the ids are the tokenizer's own."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from agent_rl import encoding
from agent_rl.encoding import Encoder, decoder

SPECIAL = ["<s>", "<|end|>", "<|end|>\n", "<tight>"]
WORDS = ["the", " the", "▁the", "a", " ", "\n", "é", "<", "end", "|>", "<|end", "tool", "<plain>"]


def bytes_tokenizer():
    """Byte level; a piece after a special token is no first word."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merged = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("a", "a"), ("Ċ", "Ċ")]
    words = dict.fromkeys([*alphabet, *("".join(pair) for pair in merged)])
    made = Tokenizer(models.BPE(vocab={w: n for n, w in enumerate(words)}, merges=merged))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    made.decoder = decoders.ByteLevel()
    return made


def metaspace_tokenizer(scheme):
    """Sentencepiece style: a mark for spaces, put before the first word or before every piece."""
    letters = ["<unk>", "▁", "▁the", "t", "h", "e", "a", "n", "d", "o", "l", "<", "|", ">", "\n"]
    merged = [("t", "h"), ("th", "e"), ("▁", "the")]
    words = dict.fromkeys([*letters, *("".join(pair) for pair in merged)])
    made = Tokenizer(
        models.BPE(vocab={w: n for n, w in enumerate(words)}, merges=merged, unk_token="<unk>")
    )
    if scheme == "prepend":
        made.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁"), normalizers.NFKC()]
        )
    else:
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    return made


def wrapped(made):
    made.add_special_tokens(
        [AddedToken(text, normalized=False) for text in SPECIAL[:3]]
        + [AddedToken("<tight>", lstrip=True, rstrip=True, normalized=False)]
    )
    made.add_tokens([AddedToken("<plain>", normalized=False), AddedToken("tool", single_word=True)])
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<s>")


KINDS = {"bytes": bytes_tokenizer} | {
    scheme: lambda scheme=scheme: metaspace_tokenizer(scheme)
    for scheme in ("first", "always", "never", "prepend")
}


@pytest.fixture(scope="module", params=KINDS)
def encoder(request):
    tokenizer = wrapped(KINDS[request.param]())
    return tokenizer, Encoder(tokenizer)


@settings(max_examples=150, deadline=None)
@given(parts=st.lists(st.sampled_from([*SPECIAL, *WORDS]) | st.text(max_size=3), max_size=14))
def test_the_ids_are_the_tokenizers_own(encoder, parts):
    """Every text between two special tokens counts as long."""
    tokenizer, encode = encoder
    text = "".join(parts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "LONG", 1)
        for _ in range(2):  # the second time from memory
            assert encode(text) == tokenizer.encode(text, add_special_tokens=False)


def test_a_long_text_is_tokenized_once(monkeypatch):
    tokenizer = wrapped(bytes_tokenizer())
    encode = Encoder(tokenizer)
    asked = []
    plain = encode._encode
    monkeypatch.setattr(encode, "_encode", lambda text: asked.append(text) or plain(text))
    long = "the " * 50
    for question in ("one", "two"):
        encode(f"<s>{long}<|end|>{question}<s>")
    assert sum(long in text for text in asked) == 1


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(encoding, "REMEMBERED", 1000)
    tokenizer = wrapped(bytes_tokenizer())
    encode = Encoder(tokenizer)
    for number in range(50):
        encode(f"<s>{number}{'the ' * 30}<|end|>")
    assert 800 < encode._known.weight <= 1000


def test_a_truncating_tokenizer_truncates_nothing():
    made = bytes_tokenizer()
    made.enable_truncation(3)
    tokenizer = wrapped(made)
    assert Encoder(tokenizer)("the cat sat") == tokenizer.encode(
        "the cat sat", add_special_tokens=False
    )


class Prepares(PreTrainedTokenizerFast):
    """Changes a text before the backend sees it, as CPM's tokenizer does."""

    def _encode_plus(self, text, **options):
        return super()._encode_plus(text.replace(" ", ""), **options)


def test_a_tokenizer_that_prepares_its_texts_is_asked_itself():
    tokenizer = Prepares(tokenizer_object=bytes_tokenizer(), eos_token="<s>")
    assert Encoder(tokenizer)("the cat") == tokenizer.encode("the cat", add_special_tokens=False)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data(), skip=st.booleans())
def test_the_text_of_ids_is_the_tokenizers_own(kind, data, skip):
    tokenizer = TOKENIZERS[kind]
    ids = data.draw(st.lists(st.integers(0, len(tokenizer) - 1), max_size=30))
    own = tokenizer.decode(ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False)
    assert decoder(tokenizer)(ids, skip) == own


def test_a_tokenizer_that_decodes_in_its_own_way_is_asked():
    class Loud(PreTrainedTokenizerFast):
        def _decode(self, *args, **options):
            return super()._decode(*args, **options).upper()

    loud = Loud(tokenizer_object=bytes_tokenizer(), eos_token="<s>")
    ids = loud.encode("the", add_special_tokens=False)
    assert decoder(loud)(ids, True).strip() == "THE"


TOKENIZERS = {kind: wrapped(make()) for kind, make in KINDS.items()}
