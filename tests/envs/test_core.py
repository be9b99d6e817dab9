import asyncio
import pickle
import subprocess
import sys

import pytest
from gymnasium.error import ResetNeeded

import rl_envs
import rl_verifiers
from rl_envs import DataError, ListTasks, Reply, Task, TextEnv
from rl_verifiers.score import Score

TASKS = [Task(str(n), f"What is twice {n}?", answer=str(2 * n)) for n in range(4)]


class Double(TextEnv):
    """Double a number."""

    tasks = TASKS

    def score(self, completion, row):
        return completion == row["answer"]


class AsyncDouble(Double):
    async def opening(self, task):
        await asyncio.sleep(0)
        return [{"role": "user", "content": "async: " + task.prompt}]

    async def score(self, completion, row):
        await asyncio.sleep(0)
        return Score.correct(value=0.5)


class Dialogue(TextEnv):
    """Says the turn back until told to stop."""

    tasks = TASKS
    max_turns = 3

    def respond(self, action):
        if action == "stop":
            return Reply(reward=1.0, terminated=True, info={"why": "asked"})
        return Reply(messages=[{"role": "user", "content": f"turn {self.turn}"}], reward=0.25)


def begun(env, **options):
    env.reset(seed=0, options={"index": 2, **options})
    return env


def test_reset_gives_the_system_prompt_and_the_task():
    seen, info = Double(system_prompt="Be brief.").reset(options={"index": 2})
    assert seen == (
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is twice 2?"},
    )
    assert info == {"task_id": "2", "index": 2}


def test_single_turn_is_scored_and_terminated():
    seen, reward, terminated, truncated, info = begun(Double()).step("4")
    assert (seen, reward, terminated, truncated) == ((), 1.0, True, False)
    assert info == {"score": Score(1.0, True, "correct"), "task_id": "2", "turn": 1}


def test_wrong_answer_ends_with_nothing():
    _, reward, terminated, _, info = begun(Double()).step("5")
    assert (reward, terminated, info["score"].status) == (0.0, True, "wrong")


def test_assistant_message_is_an_action():
    assert begun(Double()).step({"role": "assistant", "content": "4"})[1] == 1.0


def test_message_with_only_tool_calls_reads_as_empty_text():
    message = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    assert begun(Double()).step(message)[1] == 0.0


def test_an_action_of_another_type_is_a_mistake_in_code():
    with pytest.raises(TypeError, match="not int"):
        begun(Double()).step(4)


def test_step_drives_async_hooks_without_a_loop():
    env = AsyncDouble()
    seen, _ = env.reset(options={"index": 1})
    assert seen[0]["content"] == "async: What is twice 1?"
    assert env.step("x")[1] == 0.5


def test_step_drives_async_hooks_inside_a_running_loop():
    async def main():
        return begun(AsyncDouble()).step("x")[1]

    assert asyncio.run(main()) == 0.5


def test_many_episodes_run_at_once():
    class Slow(Double):
        running = 0
        most = 0

        async def score(self, completion, row):
            Slow.running += 1
            Slow.most = max(Slow.most, Slow.running)
            await asyncio.sleep(0)
            Slow.running -= 1
            return True

    async def main():
        await asyncio.gather(*(begun(Slow()).astep("x") for _ in range(8)))

    asyncio.run(main())
    assert Slow.most == 8


def test_dialogue_gives_only_the_new_messages():
    seen, reward, terminated, truncated, info = begun(Dialogue()).step("hello")
    assert seen == ({"role": "user", "content": "turn 1"},)
    assert (reward, terminated, truncated, info["turn"]) == (0.25, False, False, 1)


def test_turn_limit_truncates():
    env = begun(Dialogue())
    ends = [env.step("more")[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]


def test_the_last_turn_may_terminate():
    env = begun(Dialogue(max_turns=1))
    _, _, terminated, truncated, info = env.step("stop")
    assert (terminated, truncated, info["why"]) == (True, False, "asked")


def test_messages_hold_the_whole_conversation():
    env = begun(Dialogue())
    env.step("hello")
    assert [m["content"] for m in env.messages] == ["What is twice 2?", "hello", "turn 1"]


def test_editing_an_observation_changes_nothing_else():
    env = Double()
    seen, _ = env.reset(options={"index": 2})
    seen[0]["content"] = "forged"
    assert env.messages[0]["content"] == "What is twice 2?"


def test_step_after_the_end_says_to_reset():
    env = begun(Double())
    env.step("4")
    with pytest.raises(ResetNeeded, match=r"is over: call reset\(\)"):
        env.step("4")


def test_step_before_reset_says_to_reset():
    with pytest.raises(ResetNeeded, match="has not begun"):
        Double().step("4")


def test_an_index_past_the_end_is_an_index_error():
    with pytest.raises(IndexError, match="task 4 of 4"):
        Double().reset(options={"index": 4})


def test_verifier_by_callable():
    env = begun(TextEnv(tasks=TASKS, verifier=lambda completion, row: 0.5))
    assert env.step("x")[1] == 0.5


def test_verifier_by_name_with_options():
    env = begun(TextEnv(tasks=TASKS, verifier={"name": "math"}))
    assert env.step("\\boxed{4}")[1] == 1.0


def test_verifier_function_in_a_class_body_is_not_bound():
    class Bare(TextEnv):
        tasks = TASKS

        def verifier(completion, row):
            return 0.25

    assert begun(Bare()).step("x")[1] == 0.25


def test_a_verifier_that_fails_is_an_error_and_not_a_wrong_answer():
    def broken(completion, row):
        raise OSError("the judge is down")

    _, reward, terminated, _, info = begun(TextEnv(tasks=TASKS, verifier=broken)).step("x")
    assert (reward, terminated, info["score"].status) == (0.0, True, "error")


@pytest.mark.parametrize(("failures", "status"), [(1, "correct"), (2, "error")])
def test_a_verifier_that_fails_is_asked_twice(failures, status):
    left = iter([True] * failures + [False])

    def busy(completion, row):
        if next(left):
            raise OSError("busy")
        return True

    assert begun(TextEnv(tasks=TASKS, verifier=busy)).step("x")[4]["score"].status == status


def test_no_verifier_names_the_class():
    class Unjudged(TextEnv):
        tasks = TASKS

    with pytest.raises(DataError, match="Unjudged has no verifier"):
        begun(Unjudged()).step("x")
    with pytest.raises(DataError, match="Unjudged has no verifier"):
        Unjudged().prepare()  # nobody has to play for it
    for judged in (Double(), Dialogue(), Unjudged(verifier="exact")):
        judged.prepare()


def test_a_given_verifier_goes_before_the_method_score():
    assert begun(Double(verifier=lambda completion, row: 0.75)).step("x")[1] == 0.75


@pytest.mark.parametrize("name", ["verifier", "group_verifier"])
def test_an_unknown_verifier_is_named_at_once(name):
    with pytest.raises(DataError, match=r"Double: no verifier 'maths'; there are .*math"):
        Double(**{name: {"name": "maths"}})


def test_an_environment_pickles_after_its_named_verifier_was_built(monkeypatch):
    monkeypatch.setattr(rl_verifiers.registry, "_registered", {})
    rl_verifiers.register("closure")(lambda: lambda completion, row: 0.5)
    env = begun(TextEnv(tasks=TASKS, verifier="closure"))
    env.step("x")
    assert begun(pickle.loads(pickle.dumps(env))).step("x")[1] == 0.5


def test_group_verifier_by_callable():
    def most_common(completions, row):
        return [completions.count(text) / len(completions) for text in completions]

    assert Double(group_verifier=most_common).group_verifier(["a", "a", "b"], {})[0] == 2 / 3


def test_no_tasks_names_the_class():
    with pytest.raises(DataError, match="TextEnv has no tasks"):
        TextEnv().reset()


@pytest.mark.parametrize(
    "options",
    [
        {"split": "dev"},
        {"max_turns": 0},
        {"discount": 1.5},
        {"memory": "none"},
        {"render_mode": "human"},
    ],
)
def test_bad_option_is_named(options):
    with pytest.raises(DataError, match=next(iter(options))):
        Double(**options)


def test_class_tasks_do_not_leak_between_classes():
    class Other(Double):
        tasks = ListTasks(TASKS[:1])

    assert (Double().tasks.size, Other().tasks.size) == (4, 1)


def test_no_demonstrations_names_the_class():
    with pytest.raises(DataError, match="Double has no demonstrations"):
        begun(Double()).expert(None)


def test_a_demonstration_of_one_turn_is_not_played_twice():
    class Parrot(Dialogue):
        def demonstration(self, task, style, rng):
            return task.answer

    env = begun(Parrot())
    assert env.step(env.demonstrate("", None))[0][0]["content"] == "turn 1"
    with pytest.raises(DataError, match=r"^Parrot: .* turn 2: override `demonstrate\(style, rng"):
        env.demonstrate("", None)
    Parrot.demonstrate = lambda self, style, rng: "stop"
    assert env.step(env.expert(None))[1] == 1.0


def test_no_environment_of_ours_overrides_expert():
    for env_id in rl_envs.ids():
        assert type(rl_envs.make(env_id)).expert is TextEnv.expert


FORK = """
import asyncio, os, signal, sys
from rl_envs import driver
async def say(): return "said"
assert driver.wait(say()) == "said"
with driver._hooks._lock:  # as another thread might, at that very moment
    child = os.fork()
    if not child:
        signal.alarm(20)
        os._exit(driver.wait(say()) != "said")
assert os.waitpid(child, 0)[1] == 0
assert driver.wait(say()) == "said"
"""


def test_hooks_are_awaited_in_a_process_that_was_forked_with_the_lock_held():
    subprocess.run([sys.executable, "-c", FORK], check=True, timeout=60)


def test_rows_serve_as_tasks():
    env = Double(tasks=[{"prompt": "Say 4", "answer": "4", "level": 1}])
    env.reset(options={"index": 0})
    assert env.task.info == {"level": 1}
    assert env.step("4")[1] == 1.0


def test_vector_environments_work():
    envs = rl_envs.registry.gymnasium.make_vec("text/Arithmetic-v0", num_envs=3)
    seen, _ = envs.reset(seed=1)
    _, rewards, terminated, _, _ = envs.step(["a", "b", "c"])
    assert len(seen) == 3
    assert rewards.tolist() == [0.0] * 3
    assert terminated.tolist() == [True] * 3
