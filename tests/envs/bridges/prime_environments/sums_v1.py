"""A taskset for verifiers 0.4, loaded in its own virtual environment."""

import verifiers.v1 as vf


class Data(vf.TaskData):
    answer: str


class Sum(vf.Task[Data]):
    @vf.reward
    async def right(self, trace) -> float:
        return float(trace.last_reply == self.data.answer)


class Sums(vf.Taskset[Sum, vf.TasksetConfig]):
    def load(self):
        for i in range(20):
            data = Data(
                prompt=f"{i}+{i}=?", answer=str(2 * i), system_prompt="Answer with the number."
            )
            yield Sum(data, self.config.task)


__all__ = ["Sums"]
