import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_envs import (
    DataError,
    EnumeratedTasks,
    GeneratedTasks,
    ListTasks,
    Task,
    TaskSource,
    as_tasks,
    bucket,
    content_id,
    hash_split,
)


def numbered(number):
    return Task(str(number), f"n={number}")


def drawn(rng):
    return numbered(int(rng.integers(1000)))


def test_generated_task_is_a_function_of_seed_and_index():
    tasks, again = GeneratedTasks(drawn, seed=1), GeneratedTasks(drawn, seed=1)
    assert [tasks[i] for i in (5, 0, 5)] == [again[i] for i in (5, 0, 5)]


def test_another_seed_gives_other_tasks():
    ids = [[GeneratedTasks(drawn, seed=seed)[i].id for i in range(10)] for seed in (0, 1)]
    assert ids[0] != ids[1]


def test_generated_splits_are_disjoint_by_content():
    train, test = (GeneratedTasks(drawn, split=split) for split in ("train", "test"))
    assert not {train[i].id for i in range(500)} & {test[i].id for i in range(500)}


def test_a_split_that_no_draw_reaches_is_an_error():
    only = next(str(n) for n in range(100) if bucket(str(n)) == "train")
    with pytest.raises(DataError, match="no test task in"):
        GeneratedTasks(lambda rng: Task(only, ""), split="test")[0]


def test_enumerated_splits_divide_the_problems():
    parts = [EnumeratedTasks(numbered, 2000, split=split) for split in ("train", "test")]
    ids = [[task.id for task in part] for part in parts]
    assert sorted(map(int, ids[0] + ids[1])) == list(range(2000))
    assert 0.12 < len(ids[1]) / 2000 < 0.18


def test_a_bucket_never_moves():
    assert [bucket(str(n)) for n in range(12)].count("test") == 2
    assert bucket("3+5+2+6") == "train"


@given(st.text(), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_test_fraction_only_adds_to_the_test_split(task_id, a, b):
    small, large = sorted((a, b))
    assert not (bucket(task_id, small) == "test" and bucket(task_id, large) == "train")


def test_take_shuffle_filter_are_views():
    tasks = EnumeratedTasks(numbered, 10)
    view = tasks.filter(lambda task: int(task.id) % 2 == 0).shuffle(3).take(4)
    assert view.size == 4
    assert {int(task.id) % 2 for task in view} == {0}
    assert len({task.id for task in view}) == 4


def test_shuffle_follows_its_seed():
    tasks = EnumeratedTasks(numbered, 20)
    order = [[task.id for task in tasks.shuffle(seed)] for seed in (1, 1, 2)]
    assert order[0] == order[1] != order[2]


@pytest.mark.parametrize("view", [lambda t: t.shuffle(0), lambda t: t.filter(bool)])
def test_endless_sources_refuse_to_be_walked_whole(view):
    with pytest.raises(DataError, match=r"take\(n\) first"):
        view(GeneratedTasks(drawn))


def test_take_makes_an_endless_source_finite():
    assert len(GeneratedTasks(drawn).take(7)) == 7


def test_an_endless_source_has_no_length():
    with pytest.raises(TypeError, match="endless"):
        len(GeneratedTasks(drawn))


@pytest.mark.parametrize("index", [-1, 3])
def test_outside_indices_are_index_errors(index):
    with pytest.raises(IndexError):
        ListTasks([numbered(n) for n in range(3)])[index]


def test_empty_list_is_an_error():
    with pytest.raises(DataError, match="empty"):
        ListTasks([])


def test_hash_split_keeps_every_task_once():
    tasks = [numbered(n) for n in range(50)]
    ids = [task.id for split in ("train", "test") for task in hash_split(tasks, split)]
    assert sorted(ids) == sorted(task.id for task in tasks)


def test_content_ids_depend_on_content_only():
    assert content_id("a", 1) == content_id("a", 1) != content_id("a", 2)


def test_content_id_takes_surrogates():
    assert content_id("\ud800")


@pytest.mark.parametrize("given", [ListTasks([numbered(1)]), [numbered(1)], [{"prompt": "x"}]])
def test_sources_lists_and_rows_become_sources(given):
    assert isinstance(as_tasks(given), TaskSource)


def test_anything_else_is_named():
    with pytest.raises(DataError, match="not int"):
        as_tasks(3)
