"""Environments for verifiers 0.1.x, loaded in its own virtual environment."""

import os

from datasets import Dataset

import verifiers as vf


def load_environment(kind="single", n=20, broken=False):
    rows = [
        {"prompt": [{"role": "user", "content": f"{i}+{i}=?"}], "answer": str(2 * i)}
        for i in range(n)
    ]
    data = Dataset.from_list(rows)

    def right(completion, answer, **kwargs):
        if broken:
            raise ValueError("no judge")
        return float(answer == completion[-1].content.strip())

    rubric = vf.Rubric(funcs=[right])
    if kind == "single":
        print("a word on standard output, which is no answer")
        return vf.SingleTurnEnv(
            dataset=data, rubric=rubric, system_prompt="Answer with the number."
        )
    if kind == "tool":

        def add(a: int, b: int) -> int:
            """Add two numbers.

            Args:
                a: The one.
                b: The other.
            """
            return a + b

        return vf.ToolEnv(dataset=data, rubric=rubric, tools=[add], max_turns=4)

    class Twice(vf.MultiTurnEnv):
        async def env_response(self, messages, state, **kwargs):
            if messages[-1].content == "die":
                os._exit(3)
            return [vf.UserMessage(content="again")]

    return Twice(dataset=data, eval_dataset=data.select(range(3)), rubric=rubric, max_turns=2)
