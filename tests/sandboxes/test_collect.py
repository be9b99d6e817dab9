"""The whole folder of a session, read when nothing runs in it any more."""

import pytest

from rl_sandboxes import Entry, JobError, Limits, Tree
from rl_sandboxes.bait import MARK_NAME, marked_processes, new_mark

LIMITS = Limits(wall_s=10, memory_mb=256, disk_mb=32)


@pytest.fixture
def shell(sandbox):
    session = sandbox.session("bash", LIMITS)
    yield session
    session.close()


def files(tree):
    return {path: entry.data for path, entry in tree.entries.items() if entry.kind == "file"}


def test_files_folders_modes_and_odd_names_come_back(shell):
    shell.run("mkdir -p d/e; printf hi > d/f; chmod 750 d/f; touch $'a\\nb' $'\\xff'")
    tree = shell.collect()
    assert tree.complete
    assert tree.entries["d/f"] == Entry("file", 0o750, 2, b"hi")
    assert tree.entries["d/e"].kind == "folder"
    assert set(tree.entries) == {"d", "d/e", "d/f", "a\nb", "\udcff"}


def test_links_are_told_and_not_followed(shell):
    shell.run("ln -s /etc passwords; ln -s /etc/passwd p; ln -s loop loop")
    tree = shell.collect()
    assert {path: entry.data for path, entry in tree.entries.items()} == {
        "passwords": b"/etc",
        "p": b"/etc/passwd",
        "loop": b"loop",
    }
    assert {entry.kind for entry in tree.entries.values()} == {"link"}


def test_a_pipe_is_not_opened(shell):
    shell.run("mkfifo p; sleep 100 > p &")
    assert shell.collect().entries["p"].kind == "other"


def test_what_nobody_may_read_is_read_and_keeps_its_mode(shell):
    shell.run("mkdir d; echo x > d/f; chmod 000 d/f d")
    tree = shell.collect()
    assert (tree.entries["d/f"].data, tree.entries["d/f"].mode) == (b"x\n", 0)
    assert tree.entries["d"].mode == 0
    assert shell.collect() == tree


def test_nothing_runs_any_more_when_files_are_read(shell):
    mark = new_mark()
    loop = "while :; do echo $RANDOM >> f; mv f g; mv g f; done"
    shell.run(
        f"export {MARK_NAME}={mark}; ({loop}) & setsid bash -c '{loop}' & disown -a; sleep 0.2"
    )
    tree = shell.collect()
    assert shell.collect() == tree
    assert not marked_processes(mark)


def test_the_session_goes_on_with_a_new_shell(shell):
    shell.run("x=1; echo kept > f")
    shell.collect()
    assert shell.run("echo ${x:-new}; cat f").stdout == "new\nkept\n"


def test_a_started_process_is_over(shell):
    number = shell.start("touch begun; sleep 100")
    shell.run("until [ -e begun ]; do sleep 0.01; done")
    shell.collect()
    assert shell.poll(number).signal == 9


def test_a_python_session_is_collected_too(sandbox):
    session = sandbox.session("python", LIMITS)
    try:
        session.run("open('f', 'w').write('x'); kept = 1")
        session.snapshot()
        assert files(session.collect()) == {"f": b"x"}
        assert session.run("'kept' in dir()").stdout == "False\n"
    finally:
        session.close()


def test_too_many_files_are_not_all_listed(shell):
    shell.run("touch {1..30}")
    tree = shell.collect(max_entries=20)
    assert (len(tree.entries), tree.complete) == (20, False)


def test_the_data_of_large_files_is_left_out(shell):
    shell.run("truncate -s 3M large; printf small > small")
    tree = shell.collect(max_bytes=1 << 20)
    assert tree.entries["large"] == Entry("file", 0o644, 3 << 20, None)
    assert (tree.entries["small"].data, tree.complete) == (b"small", False)


def test_files_that_fill_the_memory_are_collected(sandbox):
    session = sandbox.session("bash", Limits(wall_s=10, memory_mb=64, disk_mb=32))
    for folder in ("$TMPDIR", "/dev/shm"):
        session.run(f"head -c 31M /dev/zero > {folder}/full")
    session.run("for n in 1 2 3; do head -c 1300000 /dev/urandom > $n; done")
    assert session.collect().complete
    assert session.run("rm $TMPDIR/full /dev/shm/full; echo on").stdout == "on\n"
    session.close()


def test_a_very_deep_folder_ends_the_list(shell):
    shell.run("for n in {1..30}; do mkdir dddddddddddddddddddddddddddddddddddddddd; cd d*; done")
    assert not shell.collect().complete


@pytest.mark.parametrize("limits", [{"max_entries": 0}, {"max_bytes": 1 << 40}, {"max_bytes": 1.5}])
def test_limits_that_are_none_are_refused(shell, limits):
    with pytest.raises(JobError, match="whole number from 1"):
        shell.collect(**limits)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"entries": [["?", "file", 0, 0, None]], "complete": True},
        {"entries": [["YQ==", "door", 0, 0, None]], "complete": True},
        {"entries": [["YQ==", "file", "0", 0, None]], "complete": True},
        {"entries": [], "complete": 1},
    ],
)
def test_an_answer_that_is_no_tree_is_refused(answer):
    with pytest.raises(ValueError, match="no tree"):
        Tree.read(answer)
