"""Episodes against a scripted engine: what is recorded, what is masked, what is an error."""

import asyncio
from dataclasses import replace

import pytest

from agent_rl.engines import PromptTooLong, Sampling
from agent_rl.errors import UserError
from agent_rl.experience import gather
from agent_rl.rollout import Assignment, play_groups, seed_of
from rl_envs import ListTasks, Reply, Task, TextEnv
from rl_verifiers import Score

TASKS = ListTasks([Task("a", "1+1=?", "2"), Task("b", "2+2=?", "4")])
SAMPLING = Sampling(max_tokens=8)


class Sums(TextEnv):
    tasks = TASKS

    def score(self, completion, row):
        return Score.correct() if completion == row["answer"] else Score.wrong()


class Counting(TextEnv):
    """Three turns; a reward for each; the limit truncates."""

    tasks = TASKS
    max_turns = 3
    discount = 0.5

    def respond(self, action):
        return Reply([{"role": "user", "content": f"more {self.turn}"}], reward=float(self.turn))


class Broken(TextEnv):
    tasks = TASKS

    def score(self, completion, row):
        return Score.failed("the judge is not there")


def play(env, engine, chat, **options):
    options = {"group_size": 2, "sampling": SAMPLING, "seed": 1, **options}
    assignments = [Assignment(env, "env", i, seed_of(i)) for i in range(2)]
    return asyncio.run(play_groups(engine, chat, assignments, **options))


def test_groups_come_back_in_order_with_their_rewards(chat, scripted):
    engine = scripted(lambda text, _: "2" if "1+1" in text else "5")
    played = play(Sums(), engine, chat)
    assert [(t.group, t.sample, t.task_id, t.total_reward) for t in played] == [
        (0, 0, "a", 1.0),
        (0, 1, "a", 1.0),
        (1, 0, "b", 0.0),
        (1, 1, "b", 0.0),
    ]


def test_every_sample_has_its_own_seed_and_the_batch_does_not_matter(chat, scripted):
    engine = scripted(lambda *_: "2")
    play(Sums(), engine, chat, group_size=3)
    wide = [sampling.seed for _, sampling in engine.requests]
    assert len(set(wide)) == 6
    engine.requests.clear()
    play(Sums(), engine, chat, group_size=2)
    assert {sampling.seed for _, sampling in engine.requests} <= set(wide)


def test_recorded_ids_are_the_sampled_ids_and_tool_text_is_not_sampled(chat, scripted):
    engine = scripted(lambda *_: "ok")
    (first, *_) = play(Counting(), engine, chat)
    batch = gather([first])
    segment = batch.segments[0]
    said = [segment.ids[p] for p in segment.sampled]
    assert said == chat.completion_ids("ok") * 3
    assert chat.decode(segment.ids[: segment.sampled[-1] + 1]) == "1+1=?okmore 1okmore 2ok"


def test_rewards_and_discounts_stand_on_the_last_token_of_each_turn(chat, scripted):
    (first, *_) = play(Counting(), scripted(lambda *_: "ok"), chat)
    batch = gather([first], bootstrap=True)
    assert batch.rewards_t.tolist() == [0, 0, 1, 0, 0, 2, 0, 0, 3]
    assert batch.discounts_t.tolist() == [1, 1, 0.5, 1, 1, 0.5, 1, 1, 0.5]
    assert batch.turn_t.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_truncated_is_not_terminated_and_asks_for_a_bootstrap(chat, scripted):
    engine = scripted(lambda *_: "2")
    (truncated, *_) = play(Counting(), engine, chat)
    (terminated, *_) = play(Sums(), engine, chat)
    assert (truncated.truncated, truncated.terminated) == (True, False)
    assert (terminated.truncated, terminated.terminated) == (False, True)
    batch = gather([truncated, terminated], bootstrap=True)
    assert batch.bootstrap_of == [0]
    assert batch.segments[-1].sampled == ()
    assert chat.decode(batch.segments[-1].ids).endswith("more 3")


@pytest.mark.parametrize(("mode", "reward"), [("zero", 0.0), ("mask", 0.0), ("score", 1.0)])
def test_a_completion_cut_at_the_limit_earns_what_was_configured(chat, scripted, mode, reward):
    engine = scripted(lambda text, _: "2", stop=False)
    (first, *_) = play(Sums(), engine, chat, on_truncation=mode)
    assert first.total_reward == reward
    assert first.cut == (mode != "score")


def test_our_own_failure_is_an_error_and_not_a_reward(chat, scripted):
    (first, *_) = play(Broken(), scripted(lambda *_: "2"), chat)
    assert first.error == "the judge is not there"
    assert first.score.is_error


def test_memory_last_shows_the_last_observation_only(chat, scripted):
    engine = scripted(lambda *_: "ok")
    play(Counting(memory="last"), engine, chat, group_size=1)
    prompts = {chat.decode(ids) for ids, _ in engine.requests}
    assert prompts == {"1+1=?", "2+2=?", "more 1", "more 2"}


def test_a_prompt_longer_than_the_context_names_environment_and_task(chat, scripted):
    def refuse(*_):
        raise PromptTooLong("prompt of 6 tokens, context of 4")

    with pytest.raises(UserError, match="env, task a: prompt of 6 tokens, context of 4; take a"):
        play(Sums(), scripted(refuse), chat)


def test_a_group_verifier_sees_all_completions_of_a_task(chat, scripted):
    seen = []

    def shortest(completions, rows):
        seen.append((tuple(completions), rows[0]["answer"]))
        best = min(map(len, completions))
        return [Score.correct() if len(c) == best else Score.wrong() for c in completions]

    counter = iter(["2", "222", "4", "44"])
    engine = scripted(lambda *_: next(counter))
    played = play(Sums(group_verifier=shortest), engine, chat)
    assert sorted(seen) == [(("2", "222"), "2"), (("4", "44"), "4")]
    assert [t.total_reward for t in played] == [1.0, 0.0, 1.0, 0.0]


def test_a_group_verifier_does_not_judge_what_a_full_context_ended(chat, scripted):
    asked = []

    def pays_all(completions, rows):
        asked.extend(completions)
        return [Score.correct()] * len(completions)

    def speak(text, _):
        if "more 1" in text:
            raise PromptTooLong("the context is full")
        return "ok"

    played = play(Counting(group_verifier=pays_all), scripted(speak), chat)
    assert asked == []
    assert [(t.score.status, t.total_reward) for t in played] == [("over_limit", 1.0)] * 4


def test_where_the_next_state_does_not_fit_the_state_after_the_last_token_stands_in(chat, scripted):
    engine = scripted(lambda *_: "ok")
    engine.context_length = 20
    (truncated, *_) = play(Counting(), engine, chat)
    last = truncated.turns[-1]
    assert truncated.truncated
    assert truncated.final_prompt_ids == last.prompt_ids + last.completion_ids


class Flaky(Sums):
    """Fails at the first ``failures`` answers."""

    failures = 1
    answers = 0

    def respond(self, action):
        Flaky.answers += 1
        if Flaky.answers <= self.failures:
            raise ConnectionError("tool server gone")
        return super().respond(action)


@pytest.mark.parametrize(
    ("failures", "error"), [(1, None), (99, "ConnectionError: tool server gone")]
)
def test_an_environment_that_breaks_is_tried_again_then_masked(
    chat, scripted, monkeypatch, failures, error
):
    monkeypatch.setattr(Flaky, "failures", failures)
    monkeypatch.setattr(Flaky, "answers", 0)
    (first, *_) = play(Flaky(), scripted(lambda *_: "2"), chat, group_size=1)
    assert first.error == error
    assert first.turns == [] if error else first.total_reward == 1.0


def test_a_judge_that_fails_once_is_asked_again(chat, scripted):
    answers = iter([Score.failed("busy"), *[Score.correct()] * 9])

    class Busy(Sums):
        def score(self, completion, row):
            return next(answers)

    played = play(Busy(), scripted(lambda *_: "2"), chat, group_size=1)
    assert [t.error for t in played] == [None, None]


def test_a_reward_that_is_no_number_stops_the_run(chat, scripted):
    class NoNumber(Sums):
        def respond(self, action):
            return Reply(reward=float("nan"), terminated=True)

    with pytest.raises(UserError, match="env, task a: the reward is nan"):
        play(NoNumber(), scripted(lambda *_: "2"), chat)


def test_an_engine_that_fails_stops_the_run(chat, scripted):
    def fail(*_):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        play(Sums(), scripted(fail), chat)


def test_a_silent_environment_shows_what_stands(chat, scripted):
    class Silent(Counting):
        def respond(self, action):
            return Reply(reward=1.0)

    engine = scripted(lambda *_: "ok")
    (first, *_) = play(Silent(), engine, chat, group_size=1)
    assert [chat.decode(t.prompt_ids) for t in first.turns] == ["1+1=?", "1+1=?ok", "1+1=?okok"]
    assert chat.decode(first.final_prompt_ids) == "1+1=?okokok"


class Watched(TextEnv):
    """Counts the copies that are open."""

    tasks = TASKS
    open = 0

    def clone(self):
        type(self).open += 1
        return super().clone()

    def close(self):
        type(self).open -= 1


def test_an_episode_that_breaks_midway_has_no_turns_and_is_closed(chat, scripted):
    class Midway(Watched):
        max_turns = 3

        def respond(self, action):
            if self.turn == 2:
                raise OSError("gone")
            return Reply([{"role": "user", "content": "more"}])

    (first, *_) = play(Midway(), scripted(lambda *_: "2"), chat)
    assert (first.error, first.turns) == ("OSError: gone", [])
    assert Midway.open == 0


def test_a_reset_that_breaks_is_an_error_and_is_closed(chat, scripted):
    class NoStart(Watched):
        def opening(self, task):
            raise OSError("no start")

    played = play(NoStart(), scripted(lambda *_: "2"), chat)
    assert {t.error for t in played} == {"OSError: no start"}
    assert NoStart.open == 0


def test_what_stops_the_run_ends_and_closes_the_other_episodes(chat, scripted):
    class Stops(Watched):
        async def respond(self, action):
            if self.task.id == "a":
                raise UserError("mend it")
            await asyncio.sleep(3600)

    async def main():
        jobs = [Assignment(Stops(), "env", i, 1) for i in range(2)]
        with pytest.raises(UserError, match="mend it"):
            await play_groups(
                scripted(lambda *_: "2"), chat, jobs, group_size=1, sampling=SAMPLING, seed=1
            )
        assert Stops.open == 0

    asyncio.run(main())


class BadClose(Sums):
    def close(self):
        raise OSError("cannot close")


def test_what_was_played_stands_where_closing_fails(chat, scripted):
    with pytest.warns(RuntimeWarning, match=r"env: close\(\) raised OSError: cannot close"):
        (first, *_) = play(BadClose(), scripted(lambda *_: "2"), chat)
    assert (first.error, first.total_reward) == (None, 1.0)


@pytest.mark.filterwarnings("ignore:env. close")
def test_a_close_that_fails_hides_no_error_of_the_users(chat, scripted):
    class NoNumber(BadClose):
        def respond(self, action):
            return Reply(reward=float("inf"), terminated=True)

    with pytest.raises(UserError, match="the reward is inf"):
        play(NoNumber(), scripted(lambda *_: "2"), chat)


@pytest.mark.filterwarnings("ignore:env. close")
def test_a_close_that_fails_does_not_stop_a_cancellation(chat, scripted):
    class Sleeps(BadClose):
        async def respond(self, action):
            await asyncio.sleep(3600)

    async def main():
        job = asyncio.ensure_future(
            play_groups(
                scripted(lambda *_: "2"),
                chat,
                [Assignment(Sleeps(), "env", 0, 1)],
                group_size=1,
                sampling=SAMPLING,
                seed=1,
            )
        )
        for _ in range(5):
            await asyncio.sleep(0)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job

    asyncio.run(main())


@pytest.mark.parametrize(
    ("failures", "errors"), [(1, {None}), (9, {"the group verifier raised OSError: busy"})]
)
def test_a_group_verifier_that_fails_is_asked_twice(chat, scripted, failures, errors):
    left = iter([True] * failures + [False] * 9)

    def judge(completions, rows):
        if next(left):
            raise OSError("busy")
        return [1.0] * len(completions)

    played = play(Sums(group_verifier=judge), scripted(lambda *_: "2"), chat)
    assert {t.error for t in played} == errors


def test_an_aborted_completion_is_never_judged(chat, scripted):
    engine = scripted(lambda *_: "2")

    async def abort(ids, sampling):
        completion = await type(engine).generate(engine, ids, sampling)
        return replace(completion, finish_reason="abort")

    engine.generate = abort
    (first, *_) = play(Sums(), engine, chat)
    assert (first.error, first.turns, first.score) == ("the engine gave the request up", [], None)
