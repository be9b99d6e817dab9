import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
import torch
import transformers

from agent_rl.engines import Completion, Engine, Sampling

VOCABULARY = 24
COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 24,
    "max_position_embeddings": 96,
    "pad_token_id": None,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPT2 = {"vocab_size": VOCABULARY, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 96}
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", "LlamaForCausalLM", COMMON),
    "tied": ("LlamaConfig", "LlamaForCausalLM", COMMON | {"tie_word_embeddings": True}),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", COMMON),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", COMMON | {"head_dim": 8}),
    "gpt2": ("GPT2Config", "GPT2LMHeadModel", GPT2),
    "mistral, window 5": ("MistralConfig", "MistralForCausalLM", COMMON | {"sliding_window": 5}),
    "gemma2, window 5, soft cap": (
        "Gemma2Config",
        "Gemma2ForCausalLM",
        COMMON
        | {"head_dim": 8, "sliding_window": 5, "final_logit_softcapping": 2.0}
        | {"attn_implementation": "eager"},
    ),
}


def build(kind: str = "llama", **changes: Any) -> Any:
    """A random float32 model of a few thousand parameters, sharp enough not to be uniform."""
    config, model, sizes = KINDS[kind]
    torch.manual_seed(0)
    made = getattr(transformers, model)(getattr(transformers, config)(**(sizes | changes)))
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.mul_(8)
    return made.eval()


def generate(
    engine: Engine, prompts: Sequence[Sequence[int]], samplings: Sequence[Sampling] | Sampling
) -> list[Completion]:
    """All at once, in an event loop of their own."""
    each = [samplings] * len(prompts) if isinstance(samplings, Sampling) else samplings

    async def together() -> list[Completion]:
        calls = (engine.generate(p, s) for p, s in zip(prompts, each, strict=True))
        return list(await asyncio.gather(*calls))

    return asyncio.run(together())


def forward(model: Any, prompt: Sequence[int], completion: Completion) -> torch.Tensor:
    """Float32 logits [tokens, vocabulary] that the completion's tokens were drawn from."""
    ids = torch.tensor([[*prompt, *completion.token_ids]])
    with torch.no_grad():
        logits = model(ids).logits[0, len(prompt) - 1 : -1]
    return logits.float()


def prompts(*lengths: int) -> list[list[int]]:
    """Prompts of these lengths, all different, of ordinary tokens."""
    return [[3 + (n * 5 + i * (n + 2)) % 20 for i in range(k)] for n, k in enumerate(lengths)]


class Toolbox:
    """The functions above, for tests that import no neighbouring file."""

    build = staticmethod(build)
    generate = staticmethod(generate)
    forward = staticmethod(forward)
    prompts = staticmethod(prompts)
    kinds = tuple(KINDS)


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tools() -> type[Toolbox]:
    return Toolbox


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kind" in metafunc.fixturenames:
        metafunc.parametrize("kind", KINDS)
