"""Where the chat template tells the tools: whole episodes in the notation of each family."""

import asyncio

import pytest

from agent_rl.engines import Completion, Sampling
from agent_rl.episode import Assignment
from agent_rl.provenance import audit, provenance
from agent_rl.rollout import play_groups
from agent_rl.trajectory import segments
from rl_envs import make
from tests.agent_rl.families import FAMILIES, make_chat

SPEAKS = [name for name, family in FAMILIES.items() if family.tools and family.call_format]


class Speaker:
    """Writes calls as the template does, and ends its turns as the family does."""

    policy_version = 0
    context_length = 100_000

    def __init__(self, chat, turns):
        self.chat, self.turns, self.prompts = chat, list(turns), []

    async def generate(self, token_ids, sampling):
        self.prompts.append(list(token_ids))
        turn = self.turns.pop(0)
        text = turn if isinstance(turn, str) else self._called(*turn)
        ids = [*self.chat.encode(text)]
        if ids[-1] not in self.chat.end_ids:
            ids.append(self.chat.end_id)
        return Completion(tuple(ids), (-0.5,) * len(ids), "stop", 0)

    def _called(self, name, arguments):
        """A call as the template writes it, without the header and what follows the turn."""
        template = self.chat.template
        text = template.call_text(name, arguments)
        header = template.render([{"role": "user", "content": "?"}])
        bare = template.render([{"role": "user", "content": "?"}], generation_prompt=False)
        opened = header[len(bare) :]
        text = text.removeprefix(opened)
        end = template.call_end or template.end
        return text[: text.rindex(end)] + end if end in text else text


def played(name, turns):
    chat = make_chat(name)
    env = make("text/Calculator-v0", call_format="template", question="compact")
    task = Assignment(env, "text/Calculator-v0", 7, 0)
    asked = [t(env.tasks[7]) if callable(t) else t for t in turns]
    engine = Speaker(chat, asked)
    (trajectory,) = asyncio.run(
        play_groups(engine, chat, [task], group_size=1, sampling=Sampling(200), seed=0)
    )
    return chat, engine, trajectory


def call(task):
    return "calculate", {"expression": task.id}


def boxed(task):
    return f"\\boxed{{{task.answer}}}"


@pytest.mark.parametrize("name", SPEAKS)
def test_an_episode_in_the_familys_own_notation(name):
    said = FAMILIES[name].said
    chat, engine, trajectory = played(name, [call, lambda task: said + boxed(task)])
    assert trajectory.error is None
    assert trajectory.tools == dict.fromkeys(trajectory.tools, 0) | {"calls": 1}
    assert (trajectory.total_reward, len(trajectory.turns)) == (1.0, 2)
    assert "calculate" in chat.tokenizer.decode(engine.prompts[0])
    audit(trajectory)
    (segment,) = segments(trajectory)
    sampled = [i for turn in trajectory.turns for i in turn.completion_ids]
    assert [segment.ids[p] for p in segment.sampled] == sampled
    (labels,) = provenance(trajectory, chat, tools=trajectory.definitions)
    assert "tool" in labels


@pytest.mark.parametrize("name", ["qwen25", "llama3"])
def test_a_malformed_call_of_the_model_is_answered(name):
    broken = {
        "qwen25": '<tool_call>\n{"name": "calculate", "argu\n</tool_call>',
        "llama3": '{"name": "calculate", "parameters": {"expression": "1*1"',
    }[name]
    _, _, trajectory = played(name, [broken, boxed])
    assert trajectory.tools["malformed"] == 1
    assert trajectory.total_reward == 1.0


def test_tools_that_change_in_place_are_told_anew():
    chat = make_chat("qwen25")
    tools = [{"type": "function", "function": {"name": "first", "description": "?"}}]
    asked = [{"role": "user", "content": "the"}]
    before = chat.prompt_ids(asked, tools=tools)
    tools[0]["function"]["name"] = "second"
    assert "second" in chat.tokenizer.decode(chat.prompt_ids(asked, tools=tools))
    tools[0]["function"]["name"] = "first"
    assert chat.prompt_ids(asked, tools=tools) == before
