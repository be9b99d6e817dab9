"""A tool environment as TRL plays it, without TRL; end_to_end/test_trl_environment.py has TRL."""

import pickle
import warnings

import pytest

import rl_envs
from rl_envs import DataError
from rl_envs.bridges.trl import environment_factory, last_text
from rl_envs.tools import ToolEnv, ToolFailure, tool
from rl_sandboxes import SandboxError


class Store(ToolEnv):
    """Put a thing into a box and say where."""

    tasks = [{"prompt": "Store it.", "answer": "box 2"}]  # noqa: RUF012
    verifier = "exact"

    @tool(inline=True)
    def put(self, box: int, note: str | None = None) -> str:
        """Put it there.

        Args:
            box: Which.
            note: What to write on it.
        """
        if box < 0:
            raise ValueError("no such box")
        if box > 8:
            raise ToolFailure("the store is closed")
        return f"{box} {note}"


@pytest.fixture
def factory():
    rl_envs.register("test/Store-v0", Store)
    return environment_factory("test/Store-v0")


def said(text):
    return [{"role": "assistant", "content": text}]


def test_an_episode_is_played_by_methods_and_paid_at_the_end(factory):
    episode, other = factory(), factory()
    for each in (episode, other):
        each.reset(**factory.rows(1)[0])
    assert episode.put(box=2) == "2 None"
    assert episode.put(box=1, note="old") == "1 old"
    rewards = factory.reward(
        completions=[said("box 2"), said("box 3")], environments=[episode, other], prompts=[]
    )
    assert rewards == [1.0, 0.0]
    with pytest.raises(RuntimeError, match="the episode is over"):
        episode.put(box=2)
    episode.reset(task_index=0)
    assert episode.put(box=2) == "2 None"


def test_errors_are_told_and_our_failures_are_no_reward(factory):
    episode = factory()
    episode.reset(task_index=0)
    with pytest.raises(RuntimeError, match="no such box"):
        episode.put(box=-1)
    with pytest.raises(RuntimeError, match="box"):
        episode.put(box="two")
    with (
        pytest.warns(RuntimeWarning, match="given up: ToolFailure: tool put: the store is closed"),
        pytest.raises(RuntimeError, match="out of order"),
    ):
        episode.put(box=9)
    assert factory.reward(completions=[said("box 2")], environments=[episode]) == [None]
    episode.reset(task_index=0)
    assert factory.reward(completions=[said("box 2")], environments=[episode]) == [1.0]


class Broken(Store):
    """Breaks where ``where`` says."""

    where = ""

    async def begin(self, task):
        if self.where == "begin":
            raise SandboxError("no sandbox")

    async def finished(self, answer):
        if self.where == "finished":
            raise OSError("no judge")
        return await super().finished(answer)


CALL = '<tool_call>\n{"name": "put", "arguments": {"box": 9}}\n</tool_call>'


@pytest.mark.parametrize(
    ("where", "answer"), [("begin", "box 2"), ("finished", "box 2"), ("", CALL)]
)
def test_whatever_breaks_is_no_reward_and_no_end_of_training(where, answer, monkeypatch):
    rl_envs.register("test/Broken-v0", Broken)
    factory = environment_factory("test/Broken-v0")
    monkeypatch.setattr(Broken, "where", where)
    episode = factory()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        episode.reset(task_index=0)
        assert factory.reward(completions=[said(answer)], environments=[episode]) == [None]
    assert "an episode was given up" in str(told[0].message)
    monkeypatch.setattr(Broken, "where", "")
    episode.reset(task_index=0)
    assert factory.reward(completions=[said("box 2")], environments=[episode]) == [1.0]


def test_a_batch_holds_more_boxes_than_our_own_rollouts():
    factory = environment_factory("text/PythonTool-v0")
    assert factory()._env.max_sessions > 1000  # all are held until the batch is judged
    assert environment_factory("text/PythonTool-v0", max_sessions=3)()._env.max_sessions == 3


def test_trl_makes_our_schema_again(factory):
    get_json_schema = pytest.importorskip("transformers.utils").get_json_schema
    made = get_json_schema(factory().put)["function"]
    assert made["parameters"]["required"] == ["box"]
    assert made["parameters"]["properties"]["box"] == {"type": "integer", "description": "Which."}
    assert made["parameters"]["properties"]["note"]["description"] == "What to write on it."


def test_public_names_are_the_tools_and_the_factory_pickles(factory):
    kind = type(factory())
    assert {name for name in dir(kind) if not name.startswith("_")} == {"put", "reset"}
    assert kind.__name__ == "Storev0"
    again = pickle.loads(pickle.dumps(factory))()
    again.reset(task_index=0)
    assert again.put(box=1) == "1 None"


def test_the_last_message_is_the_answer():
    call = {"role": "assistant", "content": "", "tool_calls": [{}]}
    assert last_text(said("x")) == "x"
    assert last_text("x") == "x"
    assert last_text([call]) == ""
    assert last_text([call, {"role": "tool", "content": "5"}]) == ""
    assert last_text([]) == ""


def test_what_cannot_be_is_said(factory):
    with pytest.raises(DataError, match="has no tools"):
        environment_factory("text/Countdown-v0")
    with pytest.raises(DataError, match="no column task_index"):
        factory().reset(prompt="x")
