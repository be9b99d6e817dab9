import os
import time

import pytest

from rl_verifiers.workers import (
    WorkerDiedError,
    WorkerLimitError,
    WorkerPool,
    WorkerRaisedError,
)


@pytest.fixture
def pool():
    pool = WorkerPool(1, memory_bytes=1 << 30)
    yield pool
    pool.close()


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
    with pytest.raises(WorkerRaisedError, match="ValueError: invalid literal"):
        result(pool, int, "x")


def test_printing_does_not_mix_with_results(pool):
    assert result(pool, print, "noise") is None
    assert result(pool, abs, -1) == 1


def test_a_closed_pool_starts_no_worker():
    pool = WorkerPool(1)
    pool.close()
    with pytest.raises(RuntimeError):
        pool.submit(abs, -1, cpu_s=1.0, wall_s=1.0)
