"""Many episodes at once: what is slow, what hangs, what is cancelled, what a group shares."""

import asyncio
import signal

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from agent_rl.engines import Completion, PromptTooLong, Sampling, TorchEngine
from agent_rl.engines.base import room
from agent_rl.errors import UserError
from agent_rl.experience import gather
from agent_rl.rollout import Assignment, Deadlines, play_groups, seed_of
from rl_envs import ListTasks, Reply, Task, TextEnv
from rl_verifiers import Score

TASKS = ListTasks([Task(str(n), f"{n}=?", str(n)) for n in range(2000)])
SAMPLING = Sampling(max_tokens=4)


class Talk(TextEnv):
    """Two turns, paid 0.25 and 0.75; counts the copies that are open."""

    tasks = TASKS
    max_turns = 9
    open = 0

    def clone(self):
        Talk.open += 1
        return super().clone()

    def close(self):
        Talk.open -= 1

    async def respond(self, action):
        if self.turn == 1:
            return Reply([{"role": "user", "content": "on"}], reward=0.25)
        return Reply(reward=0.75, terminated=True, score=Score.correct(value=0.75))


class Steps:
    """An engine that samples one token of every request in each pass of the loop."""

    policy_version = 0
    context_length = 1000

    def __init__(self, chat):
        self.ids = tuple(chat.completion_ids("abc"))
        self.under_way = self.most = self.passes = 0

    async def generate(self, ids, sampling):
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            for _ in self.ids:
                await asyncio.sleep(0)
                self.passes += 1
        finally:
            self.under_way -= 1
        return Completion(self.ids, (-0.5,) * len(self.ids), "stop", 0)


def assignments(env, count):
    return [Assignment(env, "env", i, seed_of(i)) for i in range(count)]


async def played(env, engine, chat, count=1, **options):
    options = {"group_size": 1, "sampling": SAMPLING, "seed": 1, **options}
    return await play_groups(engine, chat, assignments(env, count), **options)


def play(*args, **options):
    return asyncio.run(played(*args, **options))


@pytest.fixture(autouse=True)
def _all_closed():
    Talk.open = 0
    yield
    assert Talk.open == 0


def test_two_thousand_episodes_are_under_way_at_once(chat):
    engine = Steps(chat)
    trajectories = play(Talk(), engine, chat, 2000)
    assert engine.most == 2000
    assert {t.task_id for t in trajectories} == {str(n) for n in range(2000)}
    assert {(len(t.turns), t.total_reward, t.error) for t in trajectories} == {(2, 1.0, None)}


def test_a_slow_tool_delays_no_other_episode(chat):
    """Its answer comes only when all others are done: if they waited for it, nothing would end."""
    done = []

    class Slow(Talk):
        others: asyncio.Event

        async def respond(self, action):
            if self.task.id == "0":
                await Slow.others.wait()
            return await super().respond(action)

    def on_done(trajectory):
        done.append(trajectory.task_id)
        if len(done) == 49:
            Slow.others.set()

    async def main():
        Slow.others = asyncio.Event()
        await played(Slow(), Steps(chat), chat, 50, on_done=on_done)

    asyncio.run(main())
    assert done[-1] == "0"
    assert len(done) == 50


# --- deadlines ------------------------------------------------------------------------------------


class Hangs(Talk):
    """Gives no second answer."""

    copies = 0

    def clone(self):
        type(self).copies += 1
        twin = super().clone()
        twin.hangs = True
        return twin

    async def respond(self, action):
        if self.turn == 2 and self.hangs:
            await asyncio.sleep(3600)
        return await super().respond(action)


class HangsOnce(Hangs):
    copies = 0

    def clone(self):
        twin = super().clone()
        twin.hangs = type(self).copies == 1
        return twin


def test_an_environment_that_hangs_is_our_failure_and_is_tried_again(chat):
    (hung,) = play(Hangs(), Steps(chat), chat, deadlines=Deadlines(turn_timeout_s=0.02))
    assert hung.failures == ["the environment gave no answer within 0.02 s"] * 2
    assert (hung.error, hung.turns, hung.score) == (hung.failures[-1], [], None)
    assert hung.task_id == "0"
    (again,) = play(HangsOnce(), Steps(chat), chat, deadlines=Deadlines(turn_timeout_s=0.02))
    assert (again.error, len(again.failures), again.total_reward) == (None, 1, 1.0)


def test_a_reset_that_hangs_is_our_failure_too(chat):
    class NoStart(Talk):
        async def opening(self, task):
            await asyncio.sleep(3600)

    (hung,) = play(NoStart(), Steps(chat), chat, deadlines=Deadlines(turn_timeout_s=0.01))
    assert len(hung.failures) == 2


def test_a_time_out_inside_the_environment_is_not_taken_for_ours(chat):
    class Own(Talk):
        async def respond(self, action):
            raise TimeoutError("the server is slow")

    deadlines = Deadlines(turn_timeout_s=60, episode_timeout_s=60)
    (own,) = play(Own(), Steps(chat), chat, deadlines=deadlines)
    assert own.error == "TimeoutError: the server is slow"


def test_an_episode_late_in_an_answer_keeps_the_turn_unpaid(chat):
    (late,) = play(Hangs(), Steps(chat), chat, deadlines=Deadlines(episode_timeout_s=0.05))
    assert (late.truncated, late.terminated, late.error, late.late) == (True, False, None, True)
    assert (late.score.status, late.score.reason) == ("over_limit", "no end within 0.05 s")
    assert not late.passed
    assert [t.reward for t in late.turns] == [0.25, 0.0]
    assert late.final_prompt_ids == late.turns[1].prompt_ids + late.turns[1].completion_ids


def test_an_episode_late_in_sampling_is_left_at_the_prompt(chat):
    class Stalls(Steps):
        async def generate(self, ids, sampling):
            if "on" in chat.decode(list(ids)):
                await asyncio.sleep(3600)
            return await super().generate(ids, sampling)

    (late,) = play(Talk(), Stalls(chat), chat, deadlines=Deadlines(episode_timeout_s=0.05))
    assert [t.reward for t in late.turns] == [0.25]
    assert chat.decode(list(late.final_prompt_ids)) == "0=?abcon"
    batch = gather([late], bootstrap=True)
    assert batch.bootstrap_of == [0]


def test_an_engine_that_times_out_stops_the_run(chat):
    class Down(Steps):
        async def generate(self, ids, sampling):
            raise TimeoutError("no engine")

    with pytest.raises(TimeoutError, match="no engine"):
        play(Talk(), Down(chat), chat, deadlines=Deadlines(episode_timeout_s=60))


# --- retries --------------------------------------------------------------------------------------


def test_a_second_try_starts_on_a_new_environment_with_the_same_seeds(chat):
    seen, seeds = [], []

    class Breaks(Talk):
        async def respond(self, action):
            seen.append((self, self.turn, len(self.messages), self.np_random.integers(1000)))
            if self.turn == 2 and len(seen) == 2:
                raise OSError("gone")
            return await super().respond(action)

    class Seeded(Steps):
        async def generate(self, ids, sampling):
            seeds.append((tuple(ids), sampling.seed))
            return await super().generate(ids, sampling)

    (again,) = play(Breaks(), Seeded(chat), chat)
    assert (again.failures, again.error) == (["OSError: gone"], None)
    assert (len(again.turns), len(again.answers), again.total_reward) == (2, 2, 1.0)
    assert seen[0][0] is not seen[2][0]
    assert [s[1:] for s in seen[:2]] == [s[1:] for s in seen[2:]]
    assert seeds[:2] == seeds[2:]


def test_nothing_of_a_thrown_away_try_is_left(chat):
    class Breaks(Talk):
        async def respond(self, action):
            if self.turn == 2:
                raise OSError("gone")
            on = [{"role": "user", "content": "on"}]
            return Reply(on, reward=5.0, score=Score.correct(), info={"tools": {"calls": 1}})

    (broken,) = play(Breaks(), Steps(chat), chat)
    assert (broken.turns, broken.answers, broken.score, dict(broken.tools)) == ([], [], None, {})
    assert (broken.total_reward, broken.truncated, broken.final_prompt_ids) == (0, False, ())


def test_an_engine_that_samples_nothing_is_our_failure(chat):
    class Mute(Steps):
        async def generate(self, ids, sampling):
            return Completion((), (), "stop", 0)

    (mute,) = play(Talk(), Mute(chat), chat)
    assert mute.error == "the engine sampled no token"


# --- the context ----------------------------------------------------------------------------------


def test_a_prompt_without_room_is_told_its_advice_once(chat):
    class Small(Steps):
        async def generate(self, ids, sampling):
            room(len(ids), 4, 1)

    with pytest.raises(UserError, match="the context 1: no room") as refused:
        play(Talk(), Small(chat), chat)
    assert str(refused.value).count("a longer context") == 1


def test_a_conversation_that_outgrows_the_context_is_truncated_and_keeps_its_mask(chat):
    class Long(Talk):
        def respond(self, action):
            return Reply([{"role": "user", "content": "12345678"}], reward=0.5)

    class Small(Steps):
        context_length = 20

        async def generate(self, ids, sampling):
            if len(ids) + 1 > self.context_length:
                raise PromptTooLong("too long")
            return await super().generate(ids, sampling)

    (full,) = play(Long(), Small(chat), chat)
    assert (full.truncated, full.terminated, full.late, full.error) == (True, False, False, None)
    assert (full.score.status, full.score.reason) == (
        "over_limit",
        "the context of 20 tokens is full",
    )
    assert not full.passed
    last = full.turns[-1]
    assert len(full.turns) == 2
    assert full.final_prompt_ids == last.prompt_ids + last.completion_ids
    (segment, state) = gather([full], bootstrap=True).segments
    assert segment.ids == state.ids == full.final_prompt_ids
    assert [segment.ids[p] for p in segment.sampled] == list(Small(chat).ids) * 2
    unsampled = [i for p, i in enumerate(segment.ids) if p not in set(segment.sampled)]
    assert chat.tokenizer.decode(unsampled).count("12345678") == 1


def test_a_completion_that_fills_the_context_says_so(chat, scripted):
    engine = scripted(lambda *_: "abc", stop=False)
    engine.context_length = len(chat.prompt_ids([{"role": "user", "content": "0=?"}])) + 3
    (full,) = play(Talk(), engine, chat)
    assert (full.cut, full.score.reason) == (
        True,
        f"the context of {engine.context_length} tokens is full",
    )


# --- cancelling -----------------------------------------------------------------------------------


def tiny_engine(chat):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(chat.tokenizer),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=64,
    )
    return TorchEngine(LlamaForCausalLM(config).eval(), eos_token_ids=sorted(chat.end_ids))


@pytest.mark.parametrize("kind", ["stub", "torch"])
def test_cancelling_in_the_middle_leaves_nothing_behind(chat, kind):
    """Some of 200 episodes are done, some wait for a tool, some are being sampled."""
    engine = Steps(chat) if kind == "stub" else tiny_engine(chat)
    finished = []

    class Mixed(Talk):
        async def respond(self, action):
            if int(self.task.id) % 3 == 0 and self.turn == 2:
                await asyncio.sleep(3600)
            return await super().respond(action)

    async def main():
        job = asyncio.ensure_future(
            played(Mixed(), engine, chat, 200, concurrency=150, on_done=finished.append)
        )
        while len(finished) < 40:
            await asyncio.sleep(0)
        assert Talk.open > 50
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        assert Talk.open == 0
        for _ in range(3):  # the engine notices between two steps
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
    engine.under_way if kind == "stub" else engine.load_weights(None)  # refused while requests are
    assert kind == "torch" or engine.under_way == 0


@pytest.fixture
def _interruptible():
    """A shell that runs this in the background has SIGINT ignored, and children inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
def test_an_interrupt_closes_every_environment(chat):
    answers = []

    class Interrupts(Talk):
        async def respond(self, action):
            answers.append(self.turn)
            if len(answers) == 100:
                signal.raise_signal(signal.SIGINT)
            return await super().respond(action)

    engine = Steps(chat)
    with pytest.raises(KeyboardInterrupt):
        play(Interrupts(), engine, chat, 200)
    assert engine.under_way == 0


# --- what a group shares --------------------------------------------------------------------------


class Library:
    """Counts what is made and what is open."""

    def __init__(self):
        Shares.made += 1
        Shares.open_now += 1

    async def close(self):
        await asyncio.sleep(0)
        Shares.open_now -= 1


class Shares(Talk):
    made = open_now = most_open = 0

    async def set_up_group(self, task):
        await asyncio.sleep(0)
        made = Library()
        made.task_id = task.id
        return made

    def opening(self, task):
        assert self.shared.task_id == task.id
        Shares.most_open = max(Shares.most_open, Shares.open_now)
        return super().opening(task)


@pytest.fixture
def _nothing_shared():
    Shares.made = Shares.open_now = Shares.most_open = 0


@pytest.mark.usefixtures("_nothing_shared")
@pytest.mark.parametrize(("concurrency", "most"), [(0, 5), (1, 1), (4, 2)])
def test_a_group_is_set_up_once_and_closed_after_its_last_episode(chat, concurrency, most):
    trajectories = play(Shares(), Steps(chat), chat, 5, group_size=4, concurrency=concurrency)
    assert {t.error for t in trajectories} == {None}
    assert (Shares.made, Shares.open_now, Shares.most_open) == (5, 0, most)


@pytest.mark.usefixtures("_nothing_shared")
def test_a_set_up_that_fails_twice_fails_its_group(chat):
    class NoLibrary(Shares):
        def set_up_group(self, task):
            Shares.made += 1
            if task.id == "0":
                raise ConnectionError("no server")
            return super().set_up_group(task)

    trajectories = play(NoLibrary(), Steps(chat), chat, 2, group_size=3)
    assert [t.error for t in trajectories] == ["ConnectionError: no server"] * 3 + [None] * 3
    assert (Shares.made, Shares.open_now) == (4, 0)  # twice, then once and its library


@pytest.mark.usefixtures("_nothing_shared")
@pytest.mark.parametrize(
    ("broken", "error", "calls"),
    [(ConnectionError("no server"), None, 2), (UserError("no such index"), "no such index", 1)],
)
def test_a_set_up_that_fails_by_our_fault_is_tried_again(chat, broken, error, calls):
    asked = []

    class FailsOnce(Shares):
        def set_up_group(self, task):
            asked.append(task.id)
            if len(asked) == 1:
                raise broken
            return super().set_up_group(task)

    if error is not None:
        with pytest.raises(UserError, match=error):
            play(FailsOnce(), Steps(chat), chat, 1, group_size=3)
    else:
        played = play(FailsOnce(), Steps(chat), chat, 1, group_size=3)
        assert [(t.error, t.failures) for t in played] == [(None, [])] * 3
    assert len(asked) == calls
    assert Shares.open_now == 0


@pytest.mark.usefixtures("_interruptible")
@pytest.mark.usefixtures("_nothing_shared")
def test_what_stops_the_run_closes_what_groups_share(chat):
    class Stops(Shares):
        async def respond(self, action):
            if self.task.id == "1":
                signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(3600)

    with pytest.raises(KeyboardInterrupt):
        play(Stops(), Steps(chat), chat, 2, group_size=3)
    assert (Shares.made, Shares.open_now) == (2, 0)


def test_outside_a_rollout_nothing_is_shared():
    env = Talk()
    env.reset(options={"index": 0})
    assert env.shared is None
    assert env.set_up_group(env.task) is None
    Talk.open = 0


def test_copies_share_the_judge(chat, monkeypatch):
    made = []
    monkeypatch.setattr(
        "rl_envs.core.resolve_verifier", lambda spec: made.append(spec) or (lambda c, r: 1.0)
    )

    class Judged(TextEnv):
        tasks = TASKS
        verifier = "exact"

    trajectories = play(Judged(), Steps(chat), chat, 20)
    assert [t.total_reward for t in trajectories] == [1.0] * 20
    assert made == ["exact"]
