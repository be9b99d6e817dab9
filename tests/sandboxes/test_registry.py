"""Back ends by name, and the one that a process shares."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import rl_sandboxes
from rl_sandboxes import registry
from rl_sandboxes.types import SandboxError

ROOT = Path(rl_sandboxes.__file__).parents[1]


class Fake:
    def __init__(self, *, size=1):
        self.size = size
        self.closed = 0
        made.append(self)

    def close(self):
        self.closed += 1


made: list[Fake] = []


@pytest.fixture(autouse=True)
def fake(monkeypatch):
    """A back end ``fake``, and a process that shares nothing yet."""
    monkeypatch.setitem(sys.modules, "fake_back_end", types.SimpleNamespace(Fake=Fake))
    monkeypatch.setitem(registry.BACKENDS, "fake", "fake_back_end:Fake")
    monkeypatch.setattr(registry, "_shared", {})
    made.clear()


def one_line(make):
    with pytest.raises(SandboxError) as caught:
        make()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_back_end_is_made_with_its_options():
    assert registry.make("fake", size=3).size == 3


def test_every_call_makes_another():
    assert registry.make("fake") is not registry.make("fake")


def test_a_name_that_is_none_lists_those_that_are():
    said = one_line(lambda: registry.make("lokal"))
    assert said == "no sandbox 'lokal'; there are docker, local, remote, fake"


@pytest.mark.parametrize("name", [None, 5, "", "Local"])
def test_what_is_no_name_is_refused(name):
    assert "no sandbox" in one_line(lambda: registry.make(name))


def test_an_option_that_is_none_is_named_with_what_was_meant():
    with pytest.raises(
        SandboxError, match="sandbox fake has no option 'sise'; did you mean 'size'"
    ):
        registry.make("fake", sise=2)


def test_an_option_that_must_be_given_is_named():
    with pytest.raises(SandboxError, match="sandbox remote needs the option 'url'"):
        registry.make("remote")


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(registry.BACKENDS, "fake", "no_such_package.inner:Fake")
    said = one_line(lambda: registry.make("fake"))
    assert said == "sandbox fake needs the package no_such_package: pip install 'agent-rl[fake]'"


def test_importing_the_package_imports_no_back_end():
    code = (
        "import sys, rl_sandboxes; print([n for n in sys.modules if n.startswith('rl_sandboxes.')])"
    )
    names = run_python(code).stdout
    for name in ("local", "docker_backend", "remote", "pool", "stream"):
        assert f"'rl_sandboxes.{name}'" not in names


# Shared.


@pytest.mark.parametrize("spec", ["fake", {"name": "fake"}, {"name": "fake", "size": 2}])
def test_a_spec_gives_the_same_sandbox_each_time(spec):
    assert registry.shared(spec) is registry.shared(spec)


def test_the_order_of_options_makes_no_difference():
    one, other = {"name": "fake", "size": 2}, {"size": 2, "name": "fake"}
    assert registry.shared(one) is registry.shared(other)


def test_other_options_give_another_sandbox():
    assert registry.shared("fake") is not registry.shared({"name": "fake", "size": 2})


def test_a_spec_is_not_changed():
    spec = {"name": "fake", "size": 2}
    registry.shared(spec)
    assert spec == {"name": "fake", "size": 2}


def test_a_sandbox_is_its_own_spec():
    sandbox = Fake()
    assert registry.shared(sandbox) is sandbox


def test_many_threads_share_one():
    together = threading.Barrier(8, timeout=30)

    def ask(_):
        together.wait()
        return registry.shared("fake")

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(ask, range(8)))) == 1
    assert len(made) == 1


def test_a_sandbox_that_cannot_be_made_is_tried_again_the_next_time(monkeypatch):
    tries = []

    def factory():
        tries.append(None)
        if len(tries) == 1:
            raise SandboxError("not yet")
        return Fake()

    monkeypatch.setitem(sys.modules, "fake_back_end", types.SimpleNamespace(Fake=factory))
    assert one_line(lambda: registry.shared("fake")) == "not yet"
    assert registry.shared("fake") is registry.shared("fake")


def test_all_shared_sandboxes_are_closed_once():
    sandboxes = [registry.shared("fake"), registry.shared({"name": "fake", "size": 2})]
    registry.close_shared()
    registry.close_shared()
    assert [sandbox.closed for sandbox in sandboxes] == [1, 1]


def test_after_closing_a_new_one_is_made():
    first = registry.shared("fake")
    registry.close_shared()
    assert registry.shared("fake") is not first


# In processes of their own.


def run_python(code):
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-W", "ignore:This process", "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


_FAKE = """
import os, sys, types
from rl_sandboxes import registry
class Fake:
    def __init__(self):
        print("made in", "child" if os.getpid() != parent else "parent", flush=True)
    def close(self):
        print("closed in", "child" if os.getpid() != parent else "parent", flush=True)
parent = os.getpid()
sys.modules["fake_back_end"] = types.SimpleNamespace(Fake=Fake)
registry.BACKENDS["fake"] = "fake_back_end:Fake"
first = registry.shared("fake")
"""


def test_a_process_closes_what_it_shares_when_it_ends():
    done = run_python(_FAKE)
    assert (done.stdout.split("\n"), done.stderr) == (
        ["made in parent", "closed in parent", ""],
        "",
    )


def test_a_forked_process_makes_and_closes_its_own():
    done = run_python(_FAKE + _FORKED)
    lines = ["made in parent", "made in child", "closed in child", "closed in parent"]
    assert (done.stdout.splitlines(), done.stderr) == (lines, "")


_FORKED = """
pid = os.fork()
if pid:
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert registry.shared("fake") is first
else:
    assert registry.shared("fake") is not first
"""


def test_a_forked_process_that_shares_nothing_leaves_its_parent_s_alone():
    done = run_python(_FAKE + "pid = os.fork()\nif pid: os.waitpid(pid, 0)\n")
    assert done.stdout.splitlines() == ["made in parent", "closed in parent"]


_FORKED_WHILE_LOCKED = """
import threading
inside, go = threading.Event(), threading.Event()
class Slow(Fake):
    def __init__(self):
        inside.set()
        assert go.wait(60)
sys.modules["slow_back_end"] = types.SimpleNamespace(Slow=Slow)
registry.BACKENDS["slow"] = "slow_back_end:Slow"
thread = threading.Thread(target=registry.shared, args=("slow",))
thread.start()
assert inside.wait(60)
pid = os.fork()
if pid == 0:
    registry.shared("fake")
    os._exit(0)
import select
poll = select.poll()
poll.register(os.pidfd_open(pid), select.POLLIN)
ended = bool(poll.poll(5_000))
if not ended:
    os.kill(pid, 9)
os.waitpid(pid, 0)
go.set()
thread.join()
print("ended", ended)
"""


def test_a_process_forked_while_another_thread_makes_a_sandbox_can_make_its_own():
    assert "ended True" in run_python(_FAKE + _FORKED_WHILE_LOCKED).stdout.splitlines()
