"""The pool of workers, with workers that are fakes: who runs what, who is replaced, who waits."""

from __future__ import annotations

import asyncio
import base64
import queue
import signal
import threading
import types
from concurrent.futures import ThreadPoolExecutor

import pytest

from rl_sandboxes import pool
from rl_sandboxes.pool import GRACE_S, WorkerLostError, WorkerPool, request_of
from rl_sandboxes.types import Call, Guarantees, Job, JobError, Limits, SandboxError

LONG = 30
"""Seconds after which a test that waits has failed."""

PROMISES = Guarantees(*["x"] * 8)


def b64(text):
    return base64.b64encode(text.encode()).decode()


def honest(frame):
    """The answer of a worker that ran a program: it prints its own source."""
    run = {"status": "ok", "stdout": b64(frame["code"]), "stderr": "", "stdout_cut": False}
    run |= {"stderr_cut": False, "said": None, "said_cut": False, "wait": 0, "wall_s": 0.1}
    run |= {"cpu_s": 0.1, "peak": 0, "n_left": 0}
    return {"runs": [run] * len(frame["inputs"]), "files": {}, "refused": {}}


class Lost:
    """An answer that never comes."""


class Held:
    """An answer that waits until the test releases it, or the worker is killed."""

    def __init__(self):
        self.begun = threading.Event()
        self.inbox = queue.Queue()

    def release(self):
        self.inbox.put(True)


class FakeWorker:
    def __init__(self, plan):
        self.plan = plan
        self.frames = []
        self.timeouts = []
        self.killed = threading.Event()
        self.held = None
        self._busy = threading.Lock()

    def request(self, frame, timeout_s):
        assert self._busy.acquire(blocking=False), "two jobs on one worker at a time"
        try:
            self.frames.append(frame)
            self.timeouts.append(timeout_s)
            return self._answer(frame)
        finally:
            self._busy.release()

    def _answer(self, frame):
        if self.killed.is_set():
            raise WorkerLostError("it was ended")
        step = self.plan(frame)
        if isinstance(step, Held):
            self.held = step
            step.begun.set()
            if not step.inbox.get(timeout=LONG):
                raise WorkerLostError("it was ended")
            step = honest(frame)
        if isinstance(step, Lost):
            raise WorkerLostError("it fell over")
        if isinstance(step, BaseException):
            raise step
        return step

    def kill(self):
        self.killed.set()
        if self.held is not None:
            self.held.inbox.put(False)


class Fakes:
    """Starts workers; ``answers`` are for the jobs in the order that they come, then honest."""

    def __init__(self, *answers, plan=None):
        self.answers = list(answers)
        self.started = []
        self.changed = threading.Condition()
        self._plan = plan or self._next

    def _next(self, frame):
        answer = self.answers.pop(0) if self.answers else honest
        return answer(frame) if callable(answer) else answer

    def start(self):
        worker = FakeWorker(self._plan)
        with self.changed:
            self.started.append(worker)
            self.changed.notify_all()
        return worker

    def wait_for(self, n):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.started) >= n, LONG)


def code_of(frame):
    return frame["code"]


@pytest.fixture
def make():
    """Makes pools of fakes and closes them."""
    made = []

    def build(fakes, start=None, **options):
        options.setdefault("size", 1)
        made.append(WorkerPool("fake", start or fakes.start, PROMISES, **options))
        return made[-1]

    yield build
    for one in made:
        one.close()


@pytest.fixture
def threads():
    """Calls functions in other threads; the futures must end."""
    with ThreadPoolExecutor(16) as executor:
        yield executor


def program(code="print(1)", **options):
    return Job.program(code, **options)


# A job and its second try.


def test_a_job_is_run_by_a_worker(make):
    assert make(Fakes()).run(program("abc")).run.stdout == "abc"


def test_no_worker_is_started_before_the_first_job(make):
    fakes = Fakes()
    make(fakes, size=4)
    assert fakes.started == []


def test_one_worker_serves_one_job_after_another(make):
    fakes = Fakes()
    sandbox = make(fakes, size=4)
    for _ in range(5):
        sandbox.run(program())
    assert [len(worker.frames) for worker in fakes.started] == [5]


def test_a_worker_may_take_as_long_as_the_limits_and_a_grace(make):
    fakes = Fakes()
    make(fakes).run(program(stdin=["", "", ""], limits=Limits(wall_s=2.0)))
    assert fakes.started[0].timeouts == [pytest.approx(3 * (2.0 + 1.0 + 0.1) + GRACE_S)]


def test_a_job_whose_worker_is_lost_is_tried_again_on_a_fresh_one(make):
    fakes = Fakes(Lost())
    result = make(fakes).run(program("abc"))
    assert (result.error, result.run.stdout) == (None, "abc")
    assert [len(worker.frames) for worker in fakes.started] == [1, 1]


def test_a_worker_that_was_lost_is_killed_and_the_fresh_one_kept(make):
    fakes = Fakes(Lost())
    sandbox = make(fakes)
    sandbox.run(program())
    sandbox.run(program())
    assert [worker.killed.is_set() for worker in fakes.started] == [True, False]
    assert [len(worker.frames) for worker in fakes.started] == [1, 2]


def test_a_second_loss_is_our_failure_and_names_the_back_end(make):
    fakes = Fakes(Lost(), Lost())
    result = make(fakes).run(program())
    assert (result.error, result.runs) == ("sandbox fake: it fell over", ())
    assert result.status == "sandbox_error"


def test_after_a_second_loss_nothing_more_is_tried(make):
    fakes = Fakes(Lost(), Lost())
    make(fakes).run(program())
    assert [worker.killed.is_set() for worker in fakes.started] == [True, True]


def test_after_two_losses_the_next_job_runs_on_a_fresh_worker(make):
    fakes = Fakes(Lost(), Lost())
    sandbox = make(fakes)
    sandbox.run(program())
    assert sandbox.run(program()).status == "ok"
    assert len(fakes.started) == 3


def test_a_worker_that_says_it_failed_is_replaced_and_the_job_tried_again(make):
    fakes = Fakes({"failed": "OSError: no room"})
    result = make(fakes).run(program())
    assert result.status == "ok"
    assert [worker.killed.is_set() for worker in fakes.started] == [True, False]


def test_what_failed_twice_is_said(make):
    fakes = Fakes({"failed": "OSError: no room"}, {"failed": "OSError: still none"})
    assert make(fakes).run(program()).error == "sandbox fake: OSError: still none"


def test_an_answer_that_is_broken_is_tried_again_on_a_fresh_worker(make):
    fakes = Fakes({"runs": "none"})
    result = make(fakes).run(program("abc"))
    assert (result.error, result.run.stdout) == (None, "abc")
    assert [worker.killed.is_set() for worker in fakes.started] == [True, False]


def test_two_broken_answers_are_our_failure(make):
    result = make(Fakes({}, {})).run(program())
    assert result.error.startswith("sandbox fake: a worker's answer is broken")


def test_a_tainted_worker_gives_its_answer_and_is_replaced(make):
    fakes = Fakes(lambda frame: {**honest(frame), "tainted": True})
    sandbox = make(fakes)
    assert sandbox.run(program("abc")).run.stdout == "abc"
    assert fakes.started[0].killed.is_set()
    sandbox.run(program())
    assert [len(worker.frames) for worker in fakes.started] == [1, 1]


def test_a_very_long_failure_is_cut(make):
    fakes = Fakes({"failed": "x" * 10_000}, {"failed": "x" * 10_000})
    assert len(make(fakes).run(program()).error) <= 3000


# Starting.


class FailingStart:
    """Fails so many times, then starts."""

    def __init__(self, times):
        self.fakes = Fakes()
        self.left = times
        self.calls = 0

    def __call__(self):
        self.calls += 1
        if self.left:
            self.left -= 1
            raise SandboxError("no room for a worker")
        return self.fakes.start()


def test_a_start_that_fails_once_is_tried_again(make):
    start = FailingStart(1)
    assert make(None, start).run(program()).status == "ok"


def test_a_start_that_fails_twice_is_our_failure(make):
    start = FailingStart(2)
    assert make(None, start).run(program()).error == "sandbox fake: no room for a worker"
    assert start.calls == 2


def test_after_starts_that_failed_the_place_is_free_again(make):
    sandbox = make(None, FailingStart(2))
    sandbox.run(program())
    assert sandbox.run(program()).status == "ok"


@pytest.mark.parametrize("size", [0, -1, "two", 1.5, None, True])
def test_a_number_of_workers_that_cannot_be_is_refused(size):
    with pytest.raises(SandboxError, match="workers is") as caught:
        WorkerPool("fake", Fakes().start, PROMISES, size=size)
    assert "\n" not in str(caught.value)


# Many at once.


def test_jobs_that_run_at_once_have_a_worker_each(make):
    together = threading.Barrier(3, timeout=LONG)

    def plan(frame):
        together.wait()
        return honest(frame)

    fakes = Fakes(plan=plan)
    assert [r.status for r in make(fakes, size=3).run_many([program()] * 3)] == ["ok"] * 3
    assert [len(worker.frames) for worker in fakes.started] == [1, 1, 1]


def test_results_come_in_the_order_of_the_jobs_whatever_the_order_of_their_ends(make):
    ended = [threading.Event() for _ in range(4)] + [threading.Event()]
    ended[4].set()

    def plan(frame):
        number = int(code_of(frame))
        assert ended[number + 1].wait(LONG)  # the last ends first
        ended[number].set()
        return honest(frame)

    results = make(Fakes(plan=plan), size=4).run_many([program(str(n)) for n in range(4)])
    assert [result.run.stdout for result in results] == list("0123")


def test_more_jobs_than_workers_share_them(make, threads):
    fakes = Fakes()
    sandbox = make(fakes, size=2)
    calls = [threads.submit(sandbox.run, program(str(n))) for n in range(40)]
    results = sandbox.run_many([program(str(n)) for n in range(40)])
    assert [result.run.stdout for result in results] == [str(n) for n in range(40)]
    assert [call.result(LONG).run.stdout for call in calls] == [str(n) for n in range(40)]
    assert len(fakes.started) <= 2


def test_one_failure_of_many_leaves_the_others_alone(make):
    def plan(frame):
        return Lost() if code_of(frame) == "bad" else honest(frame)

    results = make(Fakes(plan=plan), size=2).run_many([program(c) for c in ("a", "bad", "c")])
    assert [result.status for result in results] == ["ok", "sandbox_error", "ok"]


def test_no_jobs_give_no_results(make):
    assert make(Fakes()).run_many([]) == []


def test_two_event_loops_use_one_pool_at_once(make, threads):
    together = threading.Barrier(4, timeout=LONG)

    def plan(frame):
        together.wait()
        return honest(frame)

    sandbox = make(Fakes(plan=plan), size=4)

    async def both(name):
        jobs = [program(f"{name}{n}") for n in range(2)]
        return [r.run.stdout for r in await asyncio.gather(*map(sandbox.arun, jobs))]

    loops = [threads.submit(asyncio.run, both(name)) for name in "ab"]
    assert [loop.result(LONG) for loop in loops] == [["a0", "a1"], ["b0", "b1"]]


# Waiting.


def test_whoever_waited_longest_is_next(make, threads):
    helds = {name: Held() for name in "abc"}
    sandbox = make(Fakes(plan=lambda frame: helds[code_of(frame)]))
    calls = []
    for n, name in enumerate("abc"):
        calls.append(threads.submit(sandbox.run, program(name)))
        if n == 0:
            assert helds["a"].begun.wait(LONG)
        while len(sandbox._slots._waiting) < n:
            threading.Event().wait(0.001)
    helds["a"].release()
    assert helds["b"].begun.wait(LONG)
    assert not helds["c"].begun.is_set()
    helds["b"].release()
    helds["c"].release()
    assert [call.result(LONG).status for call in calls] == ["ok"] * 3


def test_the_wait_for_a_worker_is_measured_apart(make, threads, monkeypatch):
    now, asked = [100.0], queue.Queue()

    def monotonic():
        asked.put(threading.get_ident())
        return now[0]

    monkeypatch.setattr(pool, "time", types.SimpleNamespace(monotonic=monotonic))
    held = Held()
    sandbox = make(Fakes(held))
    first = threads.submit(sandbox.run, program())
    assert held.begun.wait(LONG)
    for _ in range(2):
        asked.get(timeout=LONG)  # when it was asked for, and when it began
    second = threads.submit(sandbox.run, program())
    asked.get(timeout=LONG)
    now[0] += 7.0
    held.release()
    assert (first.result(LONG).queue_s, second.result(LONG).queue_s) == (0.0, 7.0)


def test_a_failure_has_its_wait_too(make, monkeypatch):
    clock = iter([100.0, 103.0])
    fake_time = types.SimpleNamespace(monotonic=lambda: next(clock))
    monkeypatch.setattr(pool, "time", fake_time)
    assert make(Fakes(Lost(), Lost())).run(program()).queue_s == 3.0


# Cancelling.


async def cancelled(sandbox, held):
    """Start a job, cancel it once its worker is busy, and wait until it has ended."""
    task = asyncio.create_task(sandbox.arun(program()))
    assert await asyncio.to_thread(held.begun.wait, LONG)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, LONG)


def test_cancelling_kills_the_worker_and_tries_nothing_again(make):
    held = Held()
    fakes = Fakes(held)
    asyncio.run(cancelled(make(fakes), held))
    assert [(w.killed.is_set(), len(w.frames)) for w in fakes.started] == [(True, 1)]


def test_cancelling_frees_the_place_for_the_next_job(make):
    held = Held()
    fakes = Fakes(held)
    sandbox = make(fakes)
    asyncio.run(cancelled(sandbox, held))
    assert sandbox.run(program("next")).run.stdout == "next"
    assert len(fakes.started) == 2


def test_cancelling_one_job_leaves_the_others_alone(make):
    held, other = Held(), Held()
    fakes = Fakes(plan=lambda frame: other if code_of(frame) == "other" else held)
    sandbox = make(fakes, size=2)

    async def main():
        task = asyncio.create_task(sandbox.arun(program("other")))
        assert await asyncio.to_thread(other.begun.wait, LONG)
        await cancelled(sandbox, held)
        other.release()
        return await asyncio.wait_for(task, LONG)

    assert asyncio.run(main()).run.stdout == "other"


def test_a_job_that_is_cancelled_while_it_waits_ends_at_once_and_never_runs(make):
    held = Held()
    fakes = Fakes(held)
    sandbox = make(fakes)

    async def main():
        first = asyncio.create_task(sandbox.arun(program("first")))
        assert await asyncio.to_thread(held.begun.wait, LONG)
        second = asyncio.create_task(sandbox.arun(program("second")))
        await asyncio.sleep(0)
        second.cancel()
        ended, _ = await asyncio.wait([second], timeout=5)
        held.release()
        await first
        return bool(ended)

    assert asyncio.run(main())
    assert [code_of(frame) for frame in fakes.started[0].frames] == ["first"]


def test_a_job_that_is_cancelled_while_its_worker_starts_never_runs(make):
    begun, go = threading.Event(), threading.Event()
    fakes = Fakes()

    def start():
        begun.set()
        assert go.wait(LONG)
        return fakes.start()

    sandbox = make(fakes, start)

    async def main():
        task = asyncio.create_task(sandbox.arun(program()))
        assert await asyncio.to_thread(begun.wait, LONG)
        task.cancel()
        await asyncio.sleep(0)  # the cancelling has been seen
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, LONG)

    asyncio.run(main())
    assert [worker.killed.is_set() for worker in fakes.started] == [True]
    assert sandbox.run(program()).status == "ok"


def test_a_job_that_ended_is_not_undone_by_a_late_cancel(make):
    fakes = Fakes()
    sandbox = make(fakes)

    async def main():
        task = asyncio.create_task(sandbox.arun(program()))
        await task
        task.cancel()
        return task.result()

    assert asyncio.run(main()).status == "ok"
    assert not fakes.started[0].killed.is_set()


# Interrupts.


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), RuntimeError()], ids=repr)
def test_a_worker_that_still_owes_an_answer_is_not_handed_on(make, error):
    """Or the next job would read the answer to this one."""
    fakes = Fakes(error)
    sandbox = make(fakes)
    with pytest.raises(type(error)):
        sandbox.run(program("first"))
    assert sandbox.run(program("second")).run.stdout == "second"
    assert [worker.killed.is_set() for worker in fakes.started] == [True, False]


def test_an_interrupt_while_it_waits_takes_no_place_away(make):
    held, results = Held(), queue.Queue()
    sandbox = make(Fakes(held))

    def run():
        results.put(sandbox.run(program()).status)

    def interrupt():
        while not sandbox._slots._waiting:
            threading.Event().wait(0.001)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        threading.Thread(target=run, daemon=True).start()
        assert held.begun.wait(LONG)
        threading.Thread(target=interrupt, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            sandbox.run(program())
    finally:
        signal.signal(signal.SIGINT, before)
    held.release()
    assert results.get(timeout=LONG) == "ok"
    threading.Thread(target=run, daemon=True).start()
    assert results.get(timeout=5) == "ok"


# Closing.


def test_closing_kills_every_worker(make):
    together = threading.Barrier(2, timeout=LONG)

    def plan(frame):
        together.wait()
        return honest(frame)

    fakes = Fakes(plan=plan)
    sandbox = make(fakes, size=2)
    sandbox.run_many([program()] * 2)
    sandbox.close()
    assert [worker.killed.is_set() for worker in fakes.started] == [True, True]


def test_closing_twice_is_the_same_as_once(make):
    sandbox = make(Fakes())
    sandbox.run(program())
    sandbox.close()
    sandbox.close()


def test_closing_ends_a_job_that_runs(make, threads):
    held = Held()
    fakes = Fakes(held)
    sandbox = make(fakes)
    call = threads.submit(sandbox.run, program())
    assert held.begun.wait(LONG)
    sandbox.close()
    with pytest.raises(SandboxError, match=r"^sandbox fake is closed$"):
        call.result(LONG)
    assert [worker.killed.is_set() for worker in fakes.started] == [True]


def test_closing_ends_a_job_that_waits(make, threads):
    held = Held()
    sandbox = make(Fakes(held))
    calls = [threads.submit(sandbox.run_many, [program()] * 3)]
    assert held.begun.wait(LONG)
    calls.append(threads.submit(sandbox.run, program()))
    sandbox.close()
    for call in calls:
        with pytest.raises(SandboxError, match="closed"):
            call.result(LONG)


def test_a_worker_that_was_starting_while_the_pool_was_closed_is_killed(make, threads):
    begun, go = threading.Event(), threading.Event()
    fakes = Fakes()

    def start():
        begun.set()
        assert go.wait(LONG)
        return fakes.start()

    sandbox = make(fakes, start)
    call = threads.submit(sandbox.run, program())
    assert begun.wait(LONG)
    closing = threads.submit(sandbox.close)
    while not sandbox._closed:  # what comes first in close
        threading.Event().wait(0.001)
    go.set()
    closing.result(LONG)
    with pytest.raises(SandboxError, match="closed"):
        call.result(LONG)
    assert [worker.killed.is_set() for worker in fakes.started] == [True]


def run_by(way, sandbox):
    if way == "arun":
        return asyncio.run(sandbox.arun(program()))
    if way == "session":
        return sandbox.session()
    return sandbox.run_many([program()]) if way == "run_many" else sandbox.run(program())


@pytest.mark.parametrize("way", ["run", "arun", "run_many", "session"])
def test_a_closed_pool_says_so(make, way):
    sandbox = make(Fakes())
    sandbox.close()
    with pytest.raises(SandboxError, match=r"^sandbox fake is closed$"):
        run_by(way, sandbox)


def test_a_pool_closes_at_the_end_of_a_with_block():
    fakes = Fakes()
    with WorkerPool("fake", fakes.start, PROMISES, size=1) as sandbox:
        sandbox.run(program())
    assert fakes.started[0].killed.is_set()


# Spares.


def test_a_spare_is_started_ahead(make):
    fakes = Fakes()
    make(fakes, spare=1).run(program())
    fakes.wait_for(2)
    assert [len(worker.frames) for worker in fakes.started] == [1, 0]


def test_a_spare_takes_the_place_of_a_tainted_worker(make):
    fakes = Fakes(lambda frame: {**honest(frame), "tainted": True})
    sandbox = make(fakes, spare=1)
    sandbox.run(program("a"))
    fakes.wait_for(2)
    sandbox.run(program("b"))
    assert [[code_of(f) for f in w.frames] for w in fakes.started[:2]] == [["a"], ["b"]]


def test_after_a_loss_the_spares_are_not_trusted(make):
    fakes = Fakes(honest, Lost())
    sandbox = make(fakes, spare=1)
    sandbox.run(program("a"))
    fakes.wait_for(2)
    assert sandbox.run(program("b")).status == "ok"
    assert fakes.started[1].killed.wait(LONG)
    assert fakes.started[1].frames == []


def test_a_spare_that_could_not_be_started_costs_a_try_and_no_more(make):
    fakes = Fakes(Lost())
    calls, failed = [], threading.Event()

    def start():
        calls.append(None)
        if len(calls) == 2:
            failed.set()
            raise SandboxError("no room for a spare")
        return fakes.start()

    sandbox = make(fakes, start, spare=1)
    sandbox.run(program())
    assert failed.wait(LONG)
    assert sandbox.run(program()).status == "ok"


def test_closing_kills_the_spares(make):
    fakes = Fakes()
    sandbox = make(fakes, spare=2)
    sandbox.run(program())
    fakes.wait_for(3)
    sandbox.close()
    assert [worker.killed.is_set() for worker in fakes.started] == [True, True, True]


# Sessions.


def opened(frame):
    return {"opened": True} if frame["op"] == "session" else honest(frame)


def test_a_session_has_a_worker_of_its_own(make):
    fakes = Fakes(plan=opened)
    sandbox = make(fakes)
    sandbox.run(program())
    with sandbox.session():
        sandbox.run(program())
    assert [[f["op"] for f in w.frames] for w in fakes.started] == [["job", "job"], ["session"]]


def test_a_session_that_is_closed_ends_its_worker(make):
    fakes = Fakes(plan=opened)
    make(fakes).session().close()
    assert fakes.started[0].killed.is_set()


def test_closing_the_pool_ends_its_sessions(make):
    fakes = Fakes(plan=opened)
    sandbox = make(fakes)
    sandbox.session()
    sandbox.close()
    assert fakes.started[0].killed.is_set()


def test_a_session_that_cannot_be_opened_ends_its_worker(make):
    fakes = Fakes({"failed": "OSError: no room"})
    with pytest.raises(SandboxError, match="a session was lost: OSError: no room"):
        make(fakes).session()
    assert fakes.started[0].killed.is_set()


def test_a_session_whose_worker_is_lost_says_so_and_is_closed(make):
    fakes = Fakes(opened, Lost())
    session = make(fakes).session()
    with pytest.raises(SandboxError, match="a session was lost: it fell over"):
        session.run("ls")
    with pytest.raises(SandboxError, match="the session is closed"):
        session.run("ls")


def test_a_session_of_another_kind_is_refused_before_a_worker_starts(make):
    fakes = Fakes()
    with pytest.raises(JobError, match="bash, python"):
        make(fakes).session("zsh")
    assert fakes.started == []


def test_an_interrupt_ends_a_session(make):
    """Or the next command would read the answer to this one."""
    fakes = Fakes(opened, KeyboardInterrupt())
    session = make(fakes).session()
    with pytest.raises(KeyboardInterrupt):
        session.run("ls")
    assert fakes.started[0].killed.is_set()


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan")])
def test_a_command_needs_time(make, timeout_s):
    session = make(Fakes(plan=opened)).session()
    with pytest.raises(JobError, match="timeout_s is"):
        session.run("ls", timeout_s=timeout_s)


@pytest.mark.parametrize("answer", [{}, {"run": None}, {"run": {"status": "fine"}}, {"run": []}])
def test_a_session_s_broken_answer_is_our_failure(make, answer):
    session = make(Fakes(opened, answer)).session()
    with pytest.raises(SandboxError, match="broken"):
        session.run("ls")


# The request.


def test_a_request_says_all_of_a_job():
    job = Job.program("pass", ["a", "b"], files={"x": b"\xff"}, collect=["y"], stop_early=True)
    frame = request_of(job)
    assert [base64.b64decode(data) for data in frame["inputs"]] == [b"a", b"b"]
    assert (frame["op"], frame["kind"], frame["code"]) == ("job", "program", "pass")
    assert (frame["files"], frame["collect"]) == ({"x": "/w=="}, ["y"])
    assert (frame["limits"]["wall_s"], frame["stop_early"]) == (10.0, True)


@pytest.mark.parametrize("way", ["run", "arun", "run_many"])
def test_an_argument_that_is_no_plain_data_is_the_caller_s_fault(make, way, monkeypatch):
    fakes = Fakes()
    job = Job.call("def f(x): return x", "f", [Call((object(),))])
    monkeypatch.setitem(globals(), "program", lambda: job)
    with pytest.raises(JobError, match="an argument of f is no plain data: type builtins"):
        run_by(way, make(fakes))
    assert fakes.started == []


def test_code_that_is_no_unicode_is_sent_as_what_can_be():
    assert request_of(program("x = '\ud800'"))["code"] == "x = '?'"


# Workers that rest between two sessions.


def closed(frame):
    return {"closed": True} if frame["op"] == "close" else opened(frame)


def ops(fakes):
    return [[frame["op"] for frame in worker.frames] for worker in fakes.started]


def test_the_worker_of_a_closed_session_has_the_next_one(make):
    fakes = Fakes(plan=closed)
    sandbox = make(fakes, rest=True)
    for _ in range(2):
        sandbox.session().close()
    assert ops(fakes) == [["session", "close"] * 2]


def test_two_sessions_at_once_have_two_workers(make):
    fakes = Fakes(plan=closed)
    sandbox = make(fakes, rest=True)
    with sandbox.session(), sandbox.session():
        pass
    assert ops(fakes) == [["session", "close"]] * 2


@pytest.mark.parametrize(
    "answer", [{"failed": "it would not end"}, {"closed": True, "tainted": True}, Lost()]
)
def test_a_worker_that_did_not_end_its_session_cleanly_does_not_rest(make, answer):
    fakes = Fakes(opened, answer, opened)
    sandbox = make(fakes, rest=True)
    sandbox.session().close()
    assert fakes.started[0].killed.is_set()
    sandbox.session()
    assert ops(fakes) == [["session", "close"], ["session"]]


def test_a_worker_that_died_as_it_rested_costs_no_session(make):
    fakes = Fakes(plan=closed)
    sandbox = make(fakes, rest=True)
    sandbox.session().close()
    fakes.started[0].kill()
    sandbox.session()
    assert ops(fakes)[1] == ["session"]


def test_closing_the_pool_ends_workers_that_rest(make):
    fakes = Fakes(plan=closed)
    sandbox = make(fakes, rest=True)
    sandbox.session().close()
    sandbox.close()
    assert fakes.started[0].killed.is_set()


def test_closing_a_session_twice_gives_its_worker_back_once(make):
    fakes = Fakes(plan=closed)
    sandbox = make(fakes, rest=True)
    session = sandbox.session()
    session.close()
    session.close()
    with sandbox.session(), sandbox.session():
        assert len(fakes.started) == 2
