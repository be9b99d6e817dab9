"""The runner's sources reach an interpreter that has nothing of ours, and it is ready."""

import importlib.util
import json
import marshal
import os
import subprocess
import sys

import pytest

from rl_sandboxes import bundle
from rl_sandboxes.inside.frames import pack

MAGIC = importlib.util.MAGIC_NUMBER
CONFIG = {"shared": True, "work": "/tmp", "tmp": "/tmp", "path": "/usr/bin"}


def answers(data, *, config=CONFIG, python=sys.executable):
    """What the runner says to these bytes and a config, then to the end of the stream."""
    words = bundle.command(python)
    words[1:1] = ["-I"]  # nothing of this checkout is on its path
    done = subprocess.run(
        words,
        input=data + (pack(config) if config is not None else b""),
        capture_output=True,
        timeout=60,
        cwd="/",
        check=False,
        env={"PATH": os.environ["PATH"]},
    )
    messages, rest = [], done.stdout
    while rest:
        size = int.from_bytes(rest[:4], "big")
        messages.append(json.loads(rest[4 : 4 + size]))
        rest = rest[4 + size :]
    return messages, done


@pytest.mark.parametrize("magic", [b"", MAGIC], ids=["sources", "compiled"])
def test_the_runner_is_ready(magic):
    messages, done = answers(bundle.payload(magic))
    assert [message.get("ready") for message in messages] == [True]
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("magic", [b"", MAGIC], ids=["sources", "compiled"])
def test_the_runner_says_its_process_and_what_the_kernel_has(magic):
    ((ready,), _) = answers(bundle.payload(magic))
    assert ready["pid"] > 0
    assert ready["landlock"] >= 0


def test_compiled_code_is_sent_to_our_own_interpreter_alone():
    kinds = [bundle.payload(magic)[:1] for magic in (MAGIC, b"", b"\xa7\r\r\r")]
    assert kinds == [b"m", b"s", b"s"]


def test_both_forms_hold_the_same_modules_in_the_order_of_their_imports():
    compiled = marshal.loads(bundle.payload(MAGIC)[5:])
    sources = json.loads(bundle.payload()[5:])
    assert list(compiled) == list(sources) == list(bundle.MODULES)


@pytest.mark.parametrize("magic", [b"", MAGIC], ids=["sources", "compiled"])
def test_the_length_is_that_of_the_body(magic):
    data = bundle.payload(magic)
    assert int.from_bytes(data[1:5], "big") == len(data) - 5


@pytest.mark.parametrize("n", [0, 1, 3, 5, 1000, -1])
def test_a_stream_that_breaks_off_ends_the_interpreter(n):
    messages, done = answers(bundle.payload()[:n], config=None)
    assert (messages, done.returncode) == ([], 1)
    assert done.stderr.strip() == b"the stream ended before the runner had come"


def test_a_stream_that_ends_before_the_config_ends_the_interpreter():
    messages, done = answers(bundle.payload(MAGIC), config=None)
    assert [message["fatal"] for message in messages] == ["FrameError: the stream ended"]
    assert done.returncode == 1


def test_what_keeps_it_from_being_ready_is_said():
    messages, done = answers(bundle.payload(), config={**CONFIG, "preload": ["no_such_module"]})
    assert messages == [{"fatal": "ModuleNotFoundError: No module named 'no_such_module'"}]
    assert done.returncode == 1


def test_a_config_without_what_is_needed_is_said():
    messages, _ = answers(bundle.payload(), config={})
    assert messages == [{"fatal": "KeyError: 'shared'"}]


def test_the_runner_needs_nothing_of_ours():
    code = bundle.command("python")[-1]
    sources = json.loads(bundle.payload()[5:])
    assert [name for name, text in sources.items() if "rl_sandboxes" in text] == []
    assert "rl_sandboxes" not in code


def test_the_sources_suit_the_oldest_python_that_may_run_jobs():
    import ast

    for name, text in json.loads(bundle.payload()[5:]).items():
        ast.parse(text, filename=name, feature_version=(3, 9))
