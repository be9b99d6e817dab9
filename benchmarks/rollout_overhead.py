"""Processor time per episode, without a model: ours, and Prime `verifiers` 0.1.14 beside it.

Two kinds of episode, 64 at a time, all of different tasks, each earning reward 1.0 (asserted):
"single" is a question and an answer that a verifier compares; "tools" is two turns with a call of
a quick Python function each, then the answer. No question and no result of a tool occurs twice, in
all rounds together, so nothing rendered can be used again but what all conversations have in
common. The model is a stub in the process that yields to the event loop once and returns a
ready-made completion. Both sides keep every episode: the messages, the ids of prompt and completion
and a log-probability per sampled token, for every turn.

What each side does within the measured time:

* ours (`play_groups`): copies the environment, resets it with a seed, renders the conversation
  through the chat template and tokenizes it (byte-level BPE, trained on the task's own text),
  decodes what was sampled, parses the call, checks its arguments against the schema, runs the tool,
  renders and tokenizes the result, judges the answer with the registered verifier `exact`.
* theirs (`SingleTurnEnv` and `ToolEnv`, through `generate` with independent scoring): the stub is a
  `Client` that returns the text, the parsed tool calls and all token ids ready-made, so neither
  template nor tokenizer nor parser of calls runs; a rubric with one function compares the answer.
  "record" asks for the `trajectory` column, which holds the tokens; "bare" does without.

Neither side's import, set-up or task list is measured. Each runs in a process of its own; the best
of the rounds is given, for another process on the machine only ever adds. Milliseconds of processor
time (user and system, all threads of the process).

    python -m venv PRIME && PRIME/bin/pip install "verifiers==0.1.14"
    python benchmarks/rollout_overhead.py --peer-python PRIME/bin/python
"""

# ruff: noqa: PLC0415 - each side imports its own

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

CONCURRENCY = 64
TOTAL = "5000"
CALLS = (("add", {"a": 17, "b": 25}), ("add", {"a": 42, "b": 58}))


def question(number: int) -> str:
    """All different, all with the same answer, so that one stub answers all rightly."""
    return f"What is {number} + {int(TOTAL) - number}?"


def rounds_of(run: Callable[[int], None], count: int, rounds: int) -> float:
    """Milliseconds of processor time per episode, best of the rounds after a warm-up."""
    figures = []
    for turn in range(rounds + 1):
        gc.collect()
        started = time.process_time()
        run(turn)
        if turn:
            figures.append((time.process_time() - started) / count * 1e3)
    return round(min(figures), 4)


# --- ours -----------------------------------------------------------------------------------------


def ours(count: int, rounds: int) -> dict[str, Any]:
    """Milliseconds per episode of our two kinds, and the tokens of a first prompt."""
    from agent_rl.engines import Sampling
    from agent_rl.rollout import Assignment, play_groups, seed_of

    figures: dict[str, Any] = {}
    whole = count * (rounds + 1)
    for kind, (env, says) in {"single": single(whole), "tools": with_tools(whole)}.items():
        chat = chat_for(env)
        engine = Stub(chat, says)
        jobs = [Assignment(env, kind, n, seed_of(n)) for n in range(whole)]

        def run(turn: int, engine: Any = engine, chat: Any = chat, jobs: Any = jobs) -> None:
            played = asyncio.run(
                play_groups(
                    engine,
                    chat,
                    jobs[turn * count : (turn + 1) * count],
                    group_size=1,
                    sampling=Sampling(max_tokens=64),
                    seed=turn,
                    concurrency=CONCURRENCY,
                )
            )
            assert [t.total_reward for t in played] == [1.0] * count, played[0].error
            assert {len(t.turns) for t in played} == {len(engine.said)}
            last = played[-1].turns[-1]
            assert (len(last.completion_ids), len(last.logprobs)) == (
                len(engine.said[-1].token_ids),
            ) * 2

        figures[kind] = rounds_of(run, count, rounds)
        figures[f"{kind}_prompt_tokens"] = len(chat.prompt_ids(opening(env)))
    return figures


def single(count: int) -> tuple[Any, list[str]]:
    """A question; the answer is compared."""
    from rl_envs import ListTasks, Task, TextEnv

    tasks = ListTasks([Task(str(n), question(n), TOTAL) for n in range(count)])
    return TextEnv(tasks=tasks, verifier="exact"), [TOTAL]


def with_tools(count: int) -> tuple[Any, list[str]]:
    """The same with a tool, called twice."""
    from rl_envs import ListTasks, Task
    from rl_envs.tools import ToolEnv, tool

    class Adds(ToolEnv):
        """Sums with a tool."""

        @tool(inline=True)
        def add(self, a: int, b: int) -> int:
            """Add two numbers.

            Args:
                a: The first.
                b: The second.
            """
            return a + b + int(self.task.id)  # all different

    tasks = ListTasks([Task(str(n), question(n), TOTAL) for n in range(count)])
    env = Adds(tasks=tasks, verifier="exact")
    return env, [*(env.call_text(name, **arguments) for name, arguments in CALLS), TOTAL]


def opening(env: Any) -> Any:
    """The first messages of the first task."""
    return env.clone().reset(options={"index": 0})[0]


def chat_for(env: Any) -> Any:
    """A byte-level vocabulary of 2,000 pieces and the ChatML template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from agent_rl.chat import Chat

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=2000, initial_alphabet=alphabet, show_progress=False)
    texts = [m["content"] for m in opening(env)] + [question(n) for n in range(200)]
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>"],
    )
    fast.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    return Chat(fast)


class Stub:
    """Says the k-th text in the k-th turn; the turn is told by how far the conversation is."""

    policy_version = 0
    context_length = 100_000

    def __init__(self, chat: Any, says: list[str]) -> None:
        from agent_rl.engines import Completion

        ids = [tuple(chat.completion_ids(text)) for text in says]
        self.said = [Completion(i, (-0.5,) * len(i), "stop", 0) for i in ids]
        self.start = chat.tokenizer.convert_tokens_to_ids("<|im_start|>")
        self.opening: int | None = None

    async def generate(self, ids: Any, sampling: Any) -> Any:
        """Ready-made, after one pass of the event loop."""
        await asyncio.sleep(0)
        heads = ids.count(self.start)
        self.opening = heads if self.opening is None else self.opening
        return self.said[(heads - self.opening) // 2]


# --- theirs ---------------------------------------------------------------------------------------


def theirs(count: int, rounds: int) -> dict[str, Any]:
    """The same figures of Prime `verifiers`; runs in its own interpreter."""
    import logging

    from datasets import Dataset

    import verifiers as vf

    logging.disable(logging.CRITICAL)
    rows = [
        {"prompt": [{"role": "user", "content": question(n)}], "answer": TOTAL, "example_id": n}
        for n in range(count * (rounds + 1))
    ]
    data = Dataset.from_list(rows)
    rubric = vf.Rubric(funcs=[equals])
    envs = {
        "single": vf.SingleTurnEnv(dataset=data, rubric=rubric),
        "tools": vf.ToolEnv(dataset=data, rubric=vf.Rubric(funcs=[equals]), tools=[add]),
    }
    figures: dict[str, Any] = {"version": vf.__version__}
    for kind, env in envs.items():
        client = peer_client(with_calls=kind == "tools")
        inputs = env.get_dataset(n=len(rows)).to_list()
        for name, columns in {"record": ["trajectory"], "bare": []}.items():

            def run(turn: int, env: Any = env, columns: Any = columns, **_: Any) -> None:
                out = asyncio.run(
                    env.generate(
                        inputs[turn * count : (turn + 1) * count],  # noqa: B023 - called in here
                        client=client,  # noqa: B023
                        model="stub",
                        max_concurrent=CONCURRENCY,
                        state_columns=columns,
                        independent_scoring=True,
                        on_start=lambda *a: None,
                        on_progress=lambda *a: None,
                    )
                )
                assert [row["reward"] for row in out["outputs"]] == [1.0] * count
                if columns:
                    steps = out["outputs"][0]["trajectory"]
                    assert len(steps) == (3 if client.with_calls else 1)  # noqa: B023
                    assert steps[-1]["tokens"]["completion_logprobs"]

            figures[f"{kind}_{name}"] = rounds_of(run, count, rounds)
    return figures


def equals(completion: Any, answer: str) -> float:
    """Whether the last message is the answer."""
    last = completion[-1]
    text = last["content"] if isinstance(last, dict) else last.content
    return 1.0 if text == answer else 0.0


def add(a: int, b: int) -> int:
    """Add two numbers.

    Args:
        a: The first.
        b: The second.
    """
    return a + b


def peer_client(*, with_calls: bool) -> Any:
    """A client that answers at once, token ids and log-probabilities included."""
    from verifiers.clients.client import Client
    from verifiers.types import Response, ResponseMessage, ResponseTokens, ToolCall, Usage

    def tokens(prompt: int, sampled: int) -> Any:
        return ResponseTokens(
            prompt_ids=list(range(prompt)),
            prompt_mask=[0] * prompt,
            completion_ids=list(range(sampled)),
            completion_mask=[1] * sampled,
            completion_logprobs=[-0.5] * sampled,
        )

    def response(turn: int) -> Any:
        calls = None
        if with_calls and turn < len(CALLS):
            name, arguments = CALLS[turn]
            calls = [ToolCall(id=f"call-{turn}", name=name, arguments=json.dumps(arguments))]
        return Response(
            id="r",
            created=0,
            model="stub",
            usage=Usage(prompt_tokens=20, reasoning_tokens=0, completion_tokens=4, total_tokens=24),
            message=ResponseMessage(
                content=None if calls else TOTAL,
                tool_calls=calls,
                finish_reason="tool_calls" if calls else "stop",
                is_truncated=False,
                tokens=tokens(20 + 30 * turn, 20 if calls else 4),
            ),
        )

    class StubClient(Client):
        def setup_client(self, config: Any) -> Any:
            return None

        async def to_native_tool(self, tool: Any) -> Any:
            return tool

        async def to_native_prompt(self, messages: Any) -> Any:
            return messages, {}

        async def get_native_response(
            self, prompt: Any, model: Any, sampling_args: Any, tools: Any = None, **_: Any
        ) -> Any:
            await asyncio.sleep(0)
            return response(sum(m["role"] == "tool" for m in prompt))

        async def raise_from_native_response(self, response: Any) -> None:
            return None

        async def from_native_response(self, response: Any) -> Any:
            return response

        async def close(self) -> None:
            return None

    client = StubClient(None)
    client.with_calls = with_calls
    return client


# --- both -----------------------------------------------------------------------------------------


def child(python: str, side: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """A side in an interpreter of its own."""
    numbers = ["--episodes", str(arguments.episodes), "--rounds", str(arguments.rounds)]
    done = subprocess.run(
        [python, __file__, "--side", side, *numbers], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer-python", help="interpreter of an environment with verifiers 0.1.14")
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--side", choices=["ours", "theirs"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        side = ours if arguments.side == "ours" else theirs
        print(json.dumps(side(arguments.episodes, arguments.rounds)))
        return
    report: dict[str, Any] = {"benchmark": "rollout_overhead", "unit": "ms of processor time"}
    report |= {"episodes": arguments.episodes, "concurrency": CONCURRENCY}
    report["ours"] = child(sys.executable, "ours", arguments)
    if arguments.peer_python:
        report["peer"] = child(arguments.peer_python, "theirs", arguments)
        for kind in ("single", "tools"):
            for name in ("record", "bare"):
                ratio = report["peer"][f"{kind}_{name}"] / report["ours"][kind]
                report[f"{kind}_{name}_ratio"] = round(ratio, 1)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
