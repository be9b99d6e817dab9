import contextlib
import errno
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from rl_verifiers.workers import (
    WorkerDiedError,
    WorkerLimitError,
    WorkerPool,
    WorkerRaisedError,
    run_inline,
)


@pytest.fixture
def pool():
    with WorkerPool(1, memory_bytes=1 << 30) as pool:
        yield pool


def result(pool, function, *arguments, cpu_s=30.0, wall_s=60.0):
    return pool.submit(function, *arguments, cpu_s=cpu_s, wall_s=wall_s).result()


def test_a_worker_is_another_process_and_is_kept(pool):
    first, second = result(pool, os.getpid), result(pool, os.getpid)
    assert first == second != os.getpid()


def test_processor_time_is_what_limits(pool):
    with pytest.raises(WorkerLimitError, match="processor time used up"):
        result(pool, sum, range(10**12), cpu_s=0.1)
    assert result(pool, sum, range(4)) == 6


def test_the_wall_clock_is_the_last_resort(pool):
    assert result(pool, abs, -1) == 1
    with pytest.raises(WorkerLimitError, match="deadline passed"):
        result(pool, time.sleep, 60, wall_s=0.1)
    assert result(pool, abs, -1) == 1


def test_memory_is_limited(pool):
    with pytest.raises(WorkerLimitError, match="MemoryError"):
        result(pool, bytes, 1 << 30)
    assert len(result(pool, bytes, 1 << 20)) == 1 << 20


def test_a_worker_that_keeps_dying_gives_up(pool):
    with pytest.raises(WorkerDiedError, match="exit status 3"):
        result(pool, os._exit, 3)
    assert result(pool, abs, -1) == 1


def test_what_a_function_raises_is_told(pool):
    with pytest.raises(WorkerRaisedError, match="ValueError: invalid literal") as caught:
        result(pool, int, "x")
    assert caught.value.kind == "ValueError"
    with pytest.raises(WorkerRaisedError, match=r"FileNotFoundError: \[Errno 2\] No such file"):
        result(pool, os.remove, "/nowhere/at/all")
    with pytest.raises(WorkerRaisedError, match="SystemExit: 3"):
        result(pool, sys.exit, 3)


def test_what_cannot_be_sent_back_is_told(pool):
    with pytest.raises(WorkerRaisedError, match="TypeError: cannot pickle"):
        result(pool, memoryview, b"x")


FULL_DISK = f"""
def write(path):
    raise OSError({errno.ENOSPC}, "No space left on device", path)
def loop(log):
    while True:
        log and open(log, "a").write("x")
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "mine.py").write_text(FULL_DISK)
    return str(tmp_path / "mine.py")


def test_a_function_may_be_named_by_its_file(pool, file):
    with pytest.raises(WorkerRaisedError, match=r"OSError: \[Errno 28\] No space left .*'out'"):
        result(pool, f"{file}:write", "out")
    with pytest.raises(WorkerRaisedError, match="has no 'rite'; did you mean 'write'"):
        result(pool, f"{file}:rite")


def test_printing_does_not_mix_with_results(pool):
    assert result(pool, print, "noise") is None
    assert result(pool, abs, -1) == 1


def test_a_closed_pool_starts_no_worker():
    pool = WorkerPool(1)
    pool.close()
    with pytest.raises(RuntimeError):
        pool.submit(abs, -1, cpu_s=1.0, wall_s=1.0)


def test_closing_ends_what_runs_and_cancels_what_waits():
    with WorkerPool(1) as pool:
        running = pool.submit(time.sleep, 60, cpu_s=1.0, wall_s=60.0)
        waiting = pool.submit(abs, -1, cpu_s=1.0, wall_s=60.0)
        while not running.running():
            time.sleep(0.01)
    assert isinstance(running.exception(), WorkerDiedError)
    assert waiting.cancelled()


def test_many_workers_run_at_once():
    with WorkerPool(18) as pool:
        futures = [pool.submit(_meet, cpu_s=30.0, wall_s=60.0) for _ in range(18)]
        assert len({future.result() for future in futures}) == 18


def _meet():
    time.sleep(1.0)  # long enough that no worker is free for a second call
    return os.getpid()


def test_short_calls_wait_for_the_worker_that_runs():
    with WorkerPool(4, patience_s=60.0) as pool:
        futures = [pool.submit(os.getpid, cpu_s=30.0, wall_s=60.0) for _ in range(50)]
        assert len({future.result() for future in futures}) == 1


def test_a_call_that_waited_long_gets_a_worker_of_its_own():
    with WorkerPool(2, patience_s=0.1) as pool:
        pool.submit(time.sleep, 60, cpu_s=30.0, wall_s=60.0)
        assert pool.submit(abs, -1, cpu_s=30.0, wall_s=60.0).result() == 1


# A limit inside a call.


def _limited_parts():
    kinds = []
    for function, argument in ((sum, range(4)), (_loop, None), (bytes, 1 << 40), (_swallow, None)):
        try:
            kinds.append(run_inline(function, argument, cpu_s=0.1))
        except WorkerLimitError as error:
            kinds.append(str(error))
    return kinds


def _loop(_):
    while True:
        pass


def _swallow(_):
    while True:
        with contextlib.suppress(Exception):
            _loop(None)


def test_a_part_that_runs_away_costs_only_itself(pool):
    used_up = "processor time used up"
    assert result(pool, _limited_parts) == [6, used_up, "out of memory", used_up]


def _nested():
    inner = run_inline(abs, -1, cpu_s=5.0)
    try:
        run_inline(_outer, cpu_s=0.2)
    except WorkerLimitError:
        return inner
    return None


def _outer():
    run_inline(abs, -1, cpu_s=50.0)
    _loop(None)


def test_an_inner_limit_gives_the_outer_one_back(pool):
    assert result(pool, _nested) == 1


def test_outside_a_worker_there_is_no_limit():
    assert run_inline(_spin, 0.1, cpu_s=0.01) == "done"


def _spin(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return "done"


# The end of the caller.

CALLER = """
import sys, time
from rl_verifiers.workers import WorkerPool
pool = WorkerPool(2)
futures = [pool.submit(sys.argv[1] + ":loop", log, cpu_s=60, wall_s=600) for log in sys.argv[2:]]
print("ready", flush=True)
for future in futures:
    future.result()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is needed")
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_busy_workers_end_with_their_caller(ending, file, tmp_path):
    logs = [tmp_path / "a.log", tmp_path / "b.log"]
    caller = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CALLER), file, *logs],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        # A shell that runs this in the background has SIGINT ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    with caller:
        caller.stdout.readline()
        while not all(log.exists() for log in logs):
            time.sleep(0.02)
        caller.send_signal(ending)
        caller.wait(timeout=10.0)
    time.sleep(0.2)
    sizes = [log.stat().st_size for log in logs]
    time.sleep(0.3)
    assert [log.stat().st_size for log in logs] == sizes
