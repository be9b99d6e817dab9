"""Tokens per second of the embedded engine and of transformers' generate(), on the same work.

A random Llama (hidden 128, 2 layers, vocabulary 65, float32) samples 16 completions for each of 8
prompts, at temperature 1, on one thread. Twice: "fixed", exactly 32 tokens each; and "ragged",
until an end token (each token is one with a chance of about 1/65) or 128 tokens, where generate()
carries every row to the end of the longest. Tokens after an end token do not count. The two sides
take turns, and the median is reported. Log-probabilities are part of the engine's answer;
generate() does without.

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

PROMPTS, SAMPLES, ROUNDS, END = 8, 16, 7, 2
CASES = {"fixed": 32, "ragged": 128}  # most tokens of a completion


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
        eos_token_id=END,
    )
    return LlamaForCausalLM(config).eval()


def prompts() -> list[list[int]]:
    return [[1, *(3 + (n * 7 + i * 5) % 60 for i in range(8 + n))] for n in range(PROMPTS)]


def by_engine(policy: LlamaForCausalLM, case: str) -> Callable[[int], int]:
    engine = TorchEngine(policy, eos_token_ids=(END,) if case == "ragged" else ())

    async def together(turn: int) -> int:
        calls = [
            engine.generate(prompt, Sampling(CASES[case], seed=hash((turn, n, sample))))
            for n, prompt in enumerate(prompts())
            for sample in range(SAMPLES)
        ]
        return sum(len(c.token_ids) for c in await asyncio.gather(*calls))

    return lambda turn: asyncio.run(together(turn))


def by_transformers(policy: LlamaForCausalLM, case: str) -> Callable[[int], int]:
    asked = prompts()
    width = max(map(len, asked))
    ids = torch.tensor([[0] * (width - len(p)) + p for p in asked])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in asked])

    def run(turn: int) -> int:
        torch.manual_seed(turn)
        out = policy.generate(
            ids.repeat_interleave(SAMPLES, 0),
            attention_mask=mask.repeat_interleave(SAMPLES, 0),
            do_sample=True,
            temperature=1.0,
            top_k=0,
            min_new_tokens=CASES[case] if case == "fixed" else None,
            max_new_tokens=CASES[case],
        )[:, width:]
        ended = (out == END).cumsum(-1)
        return int(((ended == 0) | ((ended == 1) & (out == END))).sum())

    return run


def measure(policy: LlamaForCausalLM, case: str) -> dict[str, float]:
    sides = {"engine": by_engine(policy, case), "transformers": by_transformers(policy, case)}
    wall: dict[str, list[float]] = {name: [] for name in sides}
    cpu: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(ROUNDS + 1):
        for name, run in sides.items():
            started = time.perf_counter(), time.process_time()
            tokens = run(turn)
            if turn:  # the first is a warm-up
                wall[name].append(tokens / (time.perf_counter() - started[0]))
                cpu[name].append(tokens / (time.process_time() - started[1]))
    result = {}
    for name in sides:
        result[f"{name}_tokens_per_s"] = round(statistics.median(wall[name]))
        result[f"{name}_tokens_per_cpu_s"] = round(statistics.median(cpu[name]))
    ratio = statistics.median(cpu["engine"]) / statistics.median(cpu["transformers"])
    return result | {"cpu_ratio": round(ratio, 2)}


def main() -> None:
    torch.set_num_threads(1)
    policy = model()
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    cases = {case: measure(policy, case) for case in CASES}
    print(json.dumps({"benchmark": "generation", **versions, **cases}))


if __name__ == "__main__":
    main()
