"""Model families in small: their chat templates, and small tokenizers with their own tokens."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from agent_rl.chat import Chat

TEMPLATES = Path(__file__).parent / "chat_templates"
THINK = ("<think>", "</think>")


@dataclass(frozen=True)
class Family:
    """What tells one family from another.

    Attributes:
        template: Name of its file.
        end: The token that ends a turn.
        special: Its other special tokens.
        plain: Added tokens that are not special.
        eos: The tokenizer's end of sequence, where it is not ``end``.
        said: What the model samples before its answer.
        call_format: The notation of its calls.
        results: Whether it takes messages of role ``tool``.
        tools: Whether it tells the tools.
        pieces: Words begin with a space mark and unknown characters are bytes (SentencePiece).
        rstrip: Special tokens swallow the white space behind them.
    """

    template: str
    end: str
    special: tuple[str, ...]
    plain: tuple[str, ...] = ()
    eos: str | None = None
    said: str = ""
    call_format: str | None = None
    results: bool = True
    tools: bool = True
    pieces: bool = False
    rstrip: bool = False


CHATML = ("<|im_start|>", "<|endoftext|>")
CALLS = ("<tool_call>", "</tool_call>")
BAR, LOW = "\uff5c", "\u2581"
DEEPSEEK = tuple(
    f"<{BAR}{name.replace(' ', LOW)}{BAR}>"
    for name in (
        "begin of sentence",
        "User",
        "Assistant",
        "tool calls begin",
        "tool calls end",
        "tool call begin",
        "tool call end",
        "tool sep",
        "tool outputs begin",
        "tool outputs end",
        "tool output begin",
        "tool output end",
    )
)
FAMILIES = {
    "chatml": Family("chatml", "<|im_end|>", CHATML, tools=False),
    "qwen25": Family("qwen25", "<|im_end|>", CHATML, CALLS, call_format="hermes"),
    "qwen3": Family("qwen3", "<|im_end|>", CHATML, CALLS + THINK, call_format="hermes"),
    "qwen3_thinking": Family(
        "qwen3_thinking", "<|im_end|>", CHATML, CALLS + THINK, call_format="xml"
    ),
    "hermes": Family(
        "hermes", "<|im_end|>", ("<|im_start|>", "<|bos|>"), CALLS, call_format="hermes"
    ),
    "llama3": Family(
        "llama3",
        "<|eot_id|>",
        ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>"),
        eos="<|end_of_text|>",
        call_format="llama3",
    ),
    "mistral": Family(
        "mistral",
        "</s>",
        (
            "<s>",
            "[INST]",
            "[/INST]",
            "[TOOL_CALLS]",
            "[TOOL_RESULTS]",
            "[/TOOL_RESULTS]",
            "[AVAILABLE_TOOLS]",
            "[/AVAILABLE_TOOLS]",
        ),
        said=" ",
        call_format="mistral",
        pieces=True,
    ),
    "gemma": Family(
        "gemma",
        "<end_of_turn>",
        ("<bos>", "<start_of_turn>"),
        eos="<eos>",
        results=False,
        tools=False,
        pieces=True,
    ),
    "phi3": Family(
        "phi3",
        "<|end|>",
        ("<|system|>", "<|user|>", "<|assistant|>"),
        eos="<|endoftext|>",
        results=False,
        tools=False,
        rstrip=True,
    ),
    "deepseek_r1": Family(
        "deepseek_r1",
        f"<{BAR}end{LOW}of{LOW}sentence{BAR}>",
        DEEPSEEK,
        THINK,
        call_format="deepseek",
        tools=False,
    ),
    "harmony": Family(
        "harmony",
        "<|return|>",
        ("<|start|>", "<|message|>", "<|channel|>", "<|end|>", "<|call|>"),
        said="<|channel|>final<|message|>",
        call_format="harmony",
    ),
}
MERGES = (("t", "h"), ("th", "e"), ("\u010a", "\u010a"), ("\u0120", "t"), (">", "\u010a"))


def make_chat(name: str, **options: Any) -> Chat:
    """The chat of a family, with a tokenizer of its own."""
    family = FAMILIES[name]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_pieces() if family.pieces else _bytes(),
        eos_token=family.eos or family.end,
        bos_token=next((t for t in family.special if "b" in t and t[1] in "b|" + BAR), "<s>"),
    )
    tokenizer.add_special_tokens({"eos_token": AddedToken(family.eos or family.end, special=True)})
    tokenizer.add_tokens(
        [
            AddedToken(token, special=True, normalized=False, rstrip=family.rstrip)
            for token in (family.end, *family.special)
        ]
    )
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in family.plain])
    tokenizer.chat_template = _template(family.template)
    return Chat(tokenizer, **options)


@cache
def _template(name: str) -> str:
    return (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8")


def _bytes() -> Tokenizer:
    """One token per byte, and a few merges, among them ``\\n\\n`` and ``>\\n``."""
    vocabulary = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    for first, second in MERGES:
        vocabulary[first + second] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocabulary, list(MERGES)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _pieces() -> Tokenizer:
    """As SentencePiece does it: spaces become a mark, one is put first, the rest falls to bytes."""
    vocabulary = {f"<0x{byte:02X}>": byte for byte in range(256)}
    for character in map(chr, range(33, 127)):
        vocabulary[character] = len(vocabulary)
    for piece in (LOW, "th", "the", f"{LOW}t"):
        vocabulary[piece] = len(vocabulary)
    merges = [("t", "h"), ("th", "e"), (LOW, "t")]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", LOW)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(LOW, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return tokenizer
