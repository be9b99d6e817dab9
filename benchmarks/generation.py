"""Tokens per second of the embedded engine and of transformers' generate(), on the same work.

A random Llama (hidden 128, 2 layers, vocabulary 65, float32) samples 16 completions of exactly 32
tokens for each of 8 prompts, at temperature 1, on one thread. The two sides take turns, and the
median is reported. Log-probabilities are part of the engine's answer; generate() does without.

Run: OMP_NUM_THREADS=1 python benchmarks/generation.py
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Callable

import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM

from agent_rl.engines import Sampling, TorchEngine

PROMPTS, SAMPLES, TOKENS, ROUNDS = 8, 16, 32, 7


def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=65,
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        intermediate_size=256,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return LlamaForCausalLM(config).eval()


def prompts() -> list[list[int]]:
    return [[1, *(3 + (n * 7 + i * 5) % 60 for i in range(8 + n))] for n in range(PROMPTS)]


def by_engine(policy: LlamaForCausalLM) -> Callable[[], int]:
    engine = TorchEngine(policy, eos_token_ids=())

    async def together() -> int:
        calls = [
            engine.generate(prompt, Sampling(TOKENS, seed=n * SAMPLES + sample))
            for n, prompt in enumerate(prompts())
            for sample in range(SAMPLES)
        ]
        return sum(len(c.token_ids) for c in await asyncio.gather(*calls))

    return lambda: asyncio.run(together())


def by_transformers(policy: LlamaForCausalLM) -> Callable[[], int]:
    asked = prompts()
    width = max(map(len, asked))
    ids = torch.tensor([[0] * (width - len(p)) + p for p in asked])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in asked])

    def run() -> int:
        out = policy.generate(
            ids.repeat_interleave(SAMPLES, 0),
            attention_mask=mask.repeat_interleave(SAMPLES, 0),
            do_sample=True,
            temperature=1.0,
            top_k=0,
            min_new_tokens=TOKENS,
            max_new_tokens=TOKENS,
        )
        return int(out[:, width:].numel())

    return run


def main() -> None:
    torch.set_num_threads(1)
    policy = model()
    sides = {"engine": by_engine(policy), "transformers": by_transformers(policy)}
    wall: dict[str, list[float]] = {name: [] for name in sides}
    cpu: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(ROUNDS + 1):
        for name, run in sides.items():
            started = time.perf_counter(), time.process_time()
            if run() != PROMPTS * SAMPLES * TOKENS:
                raise SystemExit(f"{name} did not sample every token")
            if turn:  # the first is a warm-up
                wall[name].append(time.perf_counter() - started[0])
                cpu[name].append(time.process_time() - started[1])
    total = PROMPTS * SAMPLES * TOKENS
    result: dict[str, object] = {
        "benchmark": "generation",
        "tokens": total,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    for name in sides:
        result |= {
            f"{name}_cpu_s": round(statistics.median(cpu[name]), 4),
            f"{name}_wall_s": round(statistics.median(wall[name]), 4),
            f"{name}_tokens_per_cpu_s": round(total / statistics.median(cpu[name])),
        }
    ratio = statistics.median(cpu["transformers"]) / statistics.median(cpu["engine"])
    print(json.dumps(result | {"cpu_ratio": round(ratio, 2)}))


if __name__ == "__main__":
    main()
