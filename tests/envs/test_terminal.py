"""Work in a folder: what earns the reward, and what a policy may try instead."""

import asyncio
import copy
import io
import json
import tarfile
import zlib
from random import Random

import numpy as np
import pytest

import rl_envs
from rl_envs import DataError, Task
from rl_envs.text.terminal_tasks import FAMILIES, judge
from rl_envs.text.terminal_tasks.chore import gzip_file, json_file, start_mode, tar_file, text
from rl_envs.tools import ToolFailure
from rl_sandboxes import Entry, Run, SandboxError, Tree

DIFFICULTIES = (1, 2, 3)
START = {"list.txt": text("a\nb\n"), "sub/other.txt": text("o\n", 0o640)}
GOAL = {**START, "copy.txt": text("a\nb\n")}
TASK = Task("t", "Copy list.txt to copy.txt.", info={"start": START, "goal": GOAL})
SOLUTION = "cp list.txt copy.txt"


@pytest.fixture
def env():
    made = rl_envs.make("text/Terminal-v0")
    yield made
    made.close()


def do(env, *commands, task=TASK):
    """The texts that came of commands, and the score once the policy says that it is done."""
    env.reset(options={"task": task})
    shown = []
    for command in commands:
        (message,), *_ = env.step(env.call_text("bash", command=command))
        shown.append(message["content"])
    *_, info = env.step("It is done.")
    return shown, info["score"]


def score_of(env, *commands):
    return do(env, *commands)[1]


# Tasks.


@pytest.mark.parametrize("family", FAMILIES)
def test_the_solution_does_every_task(family):
    for difficulty in DIFFICULTIES:
        env = rl_envs.make("text/Terminal-v0", families=[family], difficulty=difficulty)
        env.reset(options={"index": 0})
        while not env.done:
            *_, info = env.step(env.demonstrate("direct", np.random.default_rng(0)))
        assert info["score"].passed, (difficulty, env.task.prompt, info["score"].reason)


def test_a_look_before_the_solution_is_a_demonstration_too(env):
    env.reset(seed=0)
    while not env.done:
        *_, info = env.step(env.demonstrate("look", np.random.default_rng(0)))
    assert (info["score"].value, info["tools"]["calls"]) == (1.0, 2)


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("difficulty", DIFFICULTIES)
@pytest.mark.parametrize("family", FAMILIES)
def test_neither_doing_nothing_nor_deleting_all_earns_anything(family, difficulty, partial):
    for seed in range(20):
        chore = FAMILIES[family](Random(seed), difficulty)
        for tree in (tree_of(chore.start), Tree()):
            assert judge(chore.start, chore.goal, tree, partial=partial).value == 0.0, seed
        assert judge(chore.start, chore.goal, tree_of(chore.goal)).value == 1.0


def test_a_folder_that_has_become_empty_is_to_go_too():
    left = 0
    for seed in range(20):
        chore = FAMILIES["cleanup"](Random(seed), 2)
        solved = tree_of(chore.goal).entries
        above = {path.rpartition("/")[0] for path in chore.start} - {""}
        for path in above - set(solved):
            left += 1
            tree = Tree({**solved, path: Entry("folder", 0o755, 0)})
            assert not judge(chore.start, chore.goal, tree).passed, (seed, path)
    assert left > 2


def test_a_task_is_fixed_by_its_index():
    first, second = (rl_envs.make("text/Terminal-v0").tasks[5] for _ in range(2))
    assert first == second


def tree_of(files):
    """The files as they would be collected."""
    entries = {}
    for path, item in files.items():
        parts = path.split("/")[:-1]
        above = ["/".join(parts[: n + 1]) for n in range(len(parts))]
        entries |= dict.fromkeys(above, Entry("folder", 0o755, 0))
        kind = item["kind"]
        if kind == "folder":
            entries[path] = Entry("folder", 0o755, 0)
        elif kind == "link":
            entries[path] = Entry("link", 0o777, 0, item["target"].encode())
        else:
            mode = start_mode({"mode": item.get("mode")})
            entries[path] = Entry("file", mode, 0, content_of(item))
    return Tree(entries)


def content_of(item):
    if item["kind"] == "json":
        return json.dumps(item["value"]).encode()
    if item["kind"] == "tar":
        return zipped(tar_of(item["files"]))
    body = item["text"].encode()
    return zipped(body) if item["kind"] == "gzip" else body


def zipped(data):
    packer = zlib.compressobj(wbits=31)
    return packer.compress(data) + packer.flush()


def tar_of(files, **options):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", **options) as archive:
        for name, body in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body.encode()))
    return data.getvalue()


# What is judged.


def test_the_task_is_done(env):
    assert score_of(env, SOLUTION).value == 1.0


def test_done_without_a_command_opens_no_session(env):
    _, score = do(env)
    assert (score.value, score.status) == (0.0, "no_answer")


@pytest.mark.parametrize(
    ("commands", "reason"),
    [
        (["true"], "copy.txt"),
        (["rm -rf *"], "left alone"),
        (["rm -rf \"$PWD\" \"$PWD\"/* ~"], "left alone"),
        ([SOLUTION, "echo c >> list.txt"], "list.txt"),
        ([SOLUTION, "chmod 644 sub/other.txt"], "other.txt"),
        ([SOLUTION, "touch scratch"], "scratch"),
        ([SOLUTION, "touch $'a\\nb'"], r"a\nb"),
        ([SOLUTION, "touch $'\\xff'"], r"\udcff"),
        (["echo wrong > copy.txt"], "copy.txt"),
        (["cp list.txt /tmp/c; ln -s /tmp/c copy.txt"], "copy.txt"),
        (["ln -s list.txt copy.txt"], "copy.txt"),
        ([SOLUTION, "mv sub /tmp/; ln -s /tmp/sub sub"], "other.txt"),
        (["mkfifo copy.txt; (cat list.txt > copy.txt) &"], "copy.txt"),
        (["mknod copy.txt c 1 3 || mkfifo copy.txt"], "copy.txt"),
        (["mkdir copy.txt; cp list.txt copy.txt/"], "copy.txt"),
        ([SOLUTION, "truncate -s 20M large"], "larger"),
        ([SOLUTION, "truncate -s 20M copy.txt"], "larger"),
        ([SOLUTION, "mkdir many; cd many; touch {1..3000}"], "more"),
        ([SOLUTION, f"d={'d' * 200}; for n in 1 2 3 4 5 6; do mkdir $d; cd $d; done"], "more"),
        ([f"(sleep 0.5; {SOLUTION}) & setsid bash -c 'sleep 0.5; {SOLUTION}' &"], "copy.txt"),
        ([f"trap '{SOLUTION}' EXIT TERM HUP INT"], "copy.txt"),
        (
            [SOLUTION, "setsid bash -c 'while :; do echo x >> copy.txt; done' & sleep 0.2"],
            "copy.txt",
        ),
    ],
)  # fmt: skip
def test_cheats_and_damage_earn_nothing(env, commands, reason):
    shown, score = do(env, *commands)
    assert (score.value, score.passed) == (0.0, False)
    assert reason in score.reason, (score.reason, shown)


@pytest.mark.parametrize(
    "after",
    [
        "cd /tmp; PATH=/nowhere; alias cp=rm ls=rm; cat() { rm -rf /work; }; export -f cat",
        "chmod 000 copy.txt list.txt.gone .; true",
        "exit",
        "kill -9 $$",
        "rm -rf /tmp/*; for f in /bin/ls /usr/bin/tar; do echo broken > $f; done 2> /dev/null",
        "ulimit -n 4; ulimit -f 0; set -e; exec 2>&-",
    ],
)
def test_what_is_done_stays_done_whatever_else_is_broken(env, after):
    assert score_of(env, SOLUTION, after).value == 1.0


def test_files_do_not_go_from_one_episode_to_the_next(env):
    assert score_of(env, SOLUTION).value == 1.0
    assert score_of(env, "ls /tmp").value == 0.0


def test_what_is_expected_never_enters_the_box():
    sandbox = Broken(100)
    goal = {**START, "found.txt": text("the-expected-word")}
    task = Task("s", "Guess.", info={"start": START, "goal": goal})
    do(rl_envs.make("text/Terminal-v0", sandbox=sandbox), "ls", task=task)
    assert b"other.txt" in sandbox.sent[0]
    assert not any(b"expected" in data or b"found" in data for data in sandbox.sent)


# Shares.


@pytest.mark.parametrize(
    ("commands", "value"),
    [
        ("", 0.0),
        ("touch scratch", 0.0),
        ("rm gone1 gone2", 0.0),
        ("echo 1 > new1", 0.4),
        ("echo 1 > new1; rm gone1", 0.6),
        ("echo 1 > new1; rm gone1; touch scratch", 0.4),
        ("echo 1 > new1; echo 2 > new2; rm gone1 gone2", 1.0),
        ("echo 1 > new1; echo 2 > new2; rm *", 0.0),
    ],
)
def test_a_share_of_the_changes(commands, value):
    start = {name: text(name) for name in ("kept", "gone1", "gone2")}
    goal = {"kept": text("kept"), "new1": text("1\n"), "new2": text("2\n")}
    files = dict(start)
    for command in commands.split("; "):
        match command.split():
            case ["rm", "*"]:
                files = {}
            case ["rm", *names]:
                files = {path: item for path, item in files.items() if path not in names}
            case ["echo", word, ">", name]:
                files[name] = text(f"{word}\n")
            case ["touch", name]:
                files[name] = text("")
    assert judge(start, goal, tree_of(files), partial=True).value == pytest.approx(value)


def test_a_share_is_earned_in_a_box():
    env = rl_envs.make("text/Terminal-v0", partial=True)
    goal = {**START, "copy.txt": text("a\n"), "more.txt": text("b\n")}
    task = Task("p", "Two files.", info={"start": START, "goal": goal})
    _, score = do(env, "echo a > copy.txt", task=task)
    assert (score.value, score.passed) == (pytest.approx(2 / 3), False)


# Contents that are compared by what they mean.


@pytest.mark.parametrize(
    ("data", "right"),
    [
        (b"a,1\nb,2\n", True),
        (b"a,1\nb,2", True),
        (b"a,1\r\nb,2\r\n", True),
        (b"a,1\rb,2\r", False),
        (b"a,1\n\nb,2\n", False),
        (b"a,1 \nb,2\n", False),
    ],
)
def test_how_lines_end_does_not_count(data, right):
    goal = {"t.csv": text("a,1\nb,2\n")}
    assert judge({}, goal, Tree({"t.csv": Entry("file", 0o644, 0, data)})).passed is right


ONE = {"value.json": json_file({"a": 1, "b": [True, 2.5]})}


@pytest.mark.parametrize(
    ("data", "right"),
    [
        (b'{"b":[true,2.5],"a":1}', True),
        (b'{"a":1.0,"b":[true,2.5]}', False),
        (b'{"a":true,"b":[1,2.5]}', False),
        (b'{"a":1,"b":[true,2.5],"c":0}', False),
        (b"[" * 100_000, False),
        (b'{"a": ' + b"9" * 10_000 + b"}", False),
        (b"\xff\xfe", False),
        (b"NaN", False),
        (b"", False),
    ],
)
def test_json_is_compared_by_value(data, right):
    assert judge({}, ONE, Tree({"value.json": Entry("file", 0o644, 0, data)})).passed is right


@pytest.mark.parametrize(
    ("data", "right"),
    [
        (zipped(b"abc\n"), True),
        (b"abc\n", False),
        (zipped(b"abc\n")[:-9], False),
        (zipped(b"\0" * (50 << 20)), False),
        (b"", False),
    ],
    ids=["right", "plain", "cut", "a bomb", "empty"],
)
def test_a_gzip_file_is_unpacked_within_bounds(data, right):
    goal = {"a.gz": gzip_file("abc\n")}
    assert judge({}, goal, Tree({"a.gz": Entry("file", 0o644, 0, data)})).passed is right


def test_no_more_is_unpacked_than_any_task_asks_for():
    content = "\0" * (2 << 20)
    tree = Tree({"a.gz": Entry("file", 0o644, 0, zipped(content.encode()))})
    assert not judge({}, {"a.gz": gzip_file(content)}, tree).passed


FILES = {"d/one": "1\n", "two": "2" * 600}
HEADER = tar_of({"d/one": "1\n"})


@pytest.mark.parametrize(
    ("data", "right"),
    [
        *(
            (zipped(tar_of(FILES, format=form)), True)
            for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
        ),
        (zipped(tar_of({f"./{name}": body for name, body in FILES.items()})), True),
        (zipped(tar_of({"d/one": "1\n"})), False),
        (zipped(tar_of({**FILES, "three": "3"})), False),
        (tar_of(FILES), False),
        (zipped(HEADER[:100]), False),
        (zipped(HEADER[:124] + b"77777777777\0" + HEADER[136:]), False),
        (zipped(HEADER[:124] + b"-0000001000\0" + HEADER[136:]), False),
        (zipped(HEADER[:124] + b"\xff" * 12 + HEADER[136:]), False),
        (zipped(HEADER[:156] + b"2" + HEADER[157:]), False),
        (zipped(b"\xff" * 2048), False),
    ],
)
def test_a_tar_is_read_within_bounds(data, right):
    goal = {"a.tar.gz": tar_file(FILES)}
    assert judge({}, goal, Tree({"a.tar.gz": Entry("file", 0o644, 0, data)})).passed is right


# What the policy is told.


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("echo out; echo err >&2; (exit 3)", "out\n[stderr]\nerr\n[exit code 3]"),
        ("true", "[exit code 0]"),
        ("echo $((6 * 7))", "42"),
        ("cat sub/other.txt; stat -c %a sub/other.txt", "o\n640"),
    ],
)
def test_output_and_exit_code_are_shown(env, command, shown):
    assert do(env, command)[0] == [shown]


@pytest.mark.parametrize("end", ["exit", "kill -9 $$", "exec sleep 0.1"])
def test_a_shell_that_the_policy_ends_is_replaced_and_files_stay(env, end):
    shown, score = do(env, f"{SOLUTION}; x=1", end, "echo ${x:-lost}")
    assert "a new one was started" in shown[1]
    assert shown[2] == "lost"
    assert score.passed


def test_a_fork_bomb_is_the_policys_doing(env):
    env = rl_envs.make("text/Terminal-v0", tool_timeout_s=1)
    assert not score_of(env, "f() { f | f & }; f; sleep 0.3", "true").is_error


def test_long_output_is_cut(env):
    (shown,), _ = do(env, "head -c 10000000 /dev/zero | tr '\\0' a")
    assert 1000 < len(shown) < 5000


def test_a_slow_command_is_ended_and_told():
    env = rl_envs.make("text/Terminal-v0", tool_timeout_s=0.3)
    (shown, after), score = do(env, "echo first; sleep 50", SOLUTION)
    assert shown.startswith("first\n[over the time limit of 0.3 s")
    assert (after, score.passed, env.counts["timeouts"]) == ("[exit code 0]", True, 1)


# Our failures.


class Broken:
    """A sandbox whose sessions fail from the given request on."""

    def __init__(self, after):
        self.left, self.closed, self.sent = after, 0, []

    def _one(self, data=b""):
        self.sent += [data] if data else []
        self.left -= 1
        if self.left < 0:
            raise SandboxError("a worker was lost")

    def session(self, kind, limits):
        self._one()
        outer = self

        class Session:
            def put(self, path, data):
                outer._one(data)

            def run(self, command, timeout_s=None):
                outer._one(command.encode())
                return Run("ok", exit_code=0)

            def collect(self):
                outer._one()
                return tree_of(GOAL)

            def close(self):
                outer.closed += 1

        return Session()


@pytest.mark.parametrize("after", range(5))
def test_a_dead_sandbox_is_no_reward(after):
    env = rl_envs.make("text/Terminal-v0", sandbox=Broken(after))
    with pytest.raises(ToolFailure, match="a worker was lost"):
        do(env, SOLUTION)


def test_a_sandbox_that_works_just_long_enough(env):
    assert do(rl_envs.make("text/Terminal-v0", sandbox=Broken(5)), SOLUTION)[1].passed


# Many at once.


def test_many_episodes_share_few_sessions_without_deadlock():
    proto = rl_envs.make("text/Terminal-v0", max_sessions=3)

    async def one():
        env = proto.clone()
        await env.areset(options={"task": TASK})
        for command in ("true", SOLUTION):
            await env.astep(env.call_text("bash", command=command))
            await asyncio.sleep(0)
        return (await env.astep("It is done."))[1]

    async def all_of_them():
        return await asyncio.gather(*(one() for _ in range(12)))

    assert asyncio.run(asyncio.wait_for(all_of_them(), 60)) == [1.0] * 12


def test_sessions_end_with_their_episodes_and_on_cancellation():
    sandbox = Broken(10**6)
    proto = rl_envs.make("text/Terminal-v0", sandbox=sandbox, max_sessions=2)

    async def play():
        holders = [proto.clone() for _ in range(2)]
        call = holders[0].call_text("bash", command="true")
        for env in holders:
            await env.areset(options={"task": TASK})
            await env.astep(call)
        waiting = proto.clone()
        await waiting.areset(options={"task": TASK})
        job = asyncio.ensure_future(waiting.astep(call))
        await asyncio.sleep(0.01)
        assert not job.done()
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)
        await holders[0].astep("It is done.")
        holders[1].close()
        for _ in range(4):  # places were given back, so all of these find one
            env = proto.clone()
            await env.areset(options={"task": TASK})
            await env.astep(call)
            env.close()

    asyncio.run(asyncio.wait_for(play(), 20))
    assert sandbox.closed == 6


def test_a_copy_in_the_middle_goes_on_alike(env):
    env.reset(options={"task": TASK})
    env.step(env.call_text("bash", command="cd sub; x=here"))
    twin = copy.deepcopy(env)
    call = env.call_text("bash", command='echo $x; basename "$PWD"')
    assert twin.step(call) == env.step(call)
    assert twin.step("Done.")[1:] == env.step("Done.")[1:]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"difficulty": 4}, "difficulty is 4"),
        ({"families": ["fly"]}, "no family 'fly'"),
        ({"families": []}, "no family"),
        ({"limits": {"memory": 3}}, "limits are"),
        ({"limits": {"memory_mb": -1}}, "memory_mb"),
        ({"max_sessions": 0}, "max_sessions is 0"),
        ({"max_sessions": True}, "max_sessions is True"),
        ({"families": "rename"}, "families is 'rename'; it must be a list of names"),
        ({"families": 3}, "families is 3; it must be a list of names"),
        ({"limits": {"wall_s": 3}}, "limits has wall_s; seconds of a call are tool_timeout_s"),
        ({"sandbox": 3}, "sandbox is 3; it must be a name or a mapping"),
        ({"partial": "maybe"}, "partial is 'maybe'; it must be true or false"),
    ],
)
def test_options_that_are_none_are_refused(options, message):
    with pytest.raises(DataError, match=message):
        rl_envs.make("text/Terminal-v0", **options)


def test_an_unknown_sandbox_is_refused_before_the_first_episode():
    with pytest.raises(DataError, match="no sandbox 'cloud'"):
        rl_envs.make("text/Terminal-v0", sandbox="cloud").prepare()
