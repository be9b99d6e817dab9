"""pass@k and maj@k of votes files against direct counting."""

import itertools
import random
from collections import defaultdict

import pytest

from agent_rl.runs import statistics
from agent_rl.scoring import groups
from agent_rl.scoring.types import Record, Sample, Scored
from agent_rl.scoring.votes import Votes, fold
from rl_verifiers import Score


def scored(line, scores, **row):
    return Scored(Record(line, row), scores, len(scores) > 1)


def right(answer):
    return Score.correct(answer=answer)


def wrong(answer=None):
    return Score.wrong(answer=answer)


def saved(tmp_path, *spans):
    paths = []
    for number, votes in enumerate(spans):
        paths.append(tmp_path / f"{number}.votes")
        votes.save(paths[-1])
    return paths


def drawn_rows(seed, tasks=60):
    """Single-completion rows of groups of 3 to 6, shuffled, with ties, no answers and errors."""
    rng = random.Random(seed)
    rows = []
    for task in range(tasks):
        for _ in range(rng.randint(3, 6)):
            answer = rng.choice(["1", "2", "3", None])
            score = Score.failed("died") if rng.random() < 0.1 else wrong(answer)
            rows.append((f"t{task}", right("1") if answer == "1" and not score.error else score))
    rng.shuffle(rows)
    return rows


def expected(rows, k):
    by_task = defaultdict(list)
    for task, score in rows:
        if not score.is_error:
            by_task[task].append(score)
    whole = [group for group in by_task.values() if len(group) >= k]
    passes = [statistics.pass_at_k(len(g), sum(s.passed for s in g), k) for g in whole]
    votes = [
        statistics.majority_at_k([s.answer for s in g], [s.passed for s in g], k) for g in whole
    ]
    return sum(passes) / len(whole), sum(votes) / len(whole), len(whole)


@pytest.mark.parametrize("at_once", [10**6, 40])
def test_rows_of_one_completion_are_grouped_by_a_column_across_spans(
    tmp_path, monkeypatch, at_once
):
    monkeypatch.setattr(groups, "AT_ONCE", at_once)  # 40: by shares, through files
    rows = drawn_rows(0)
    spans = [Votes("a", "task"), Votes("b", "task")]
    for line, (task, score) in enumerate(rows):
        spans[line % 2].add(scored(line, [score], task=task))
    found = groups.evaluate(saved(tmp_path, *spans), scratch=tmp_path)
    assert [p.k for p in found.pass_at] == [p.k for p in found.majority_at]
    for passes, majority in zip(found.pass_at, found.majority_at, strict=True):
        pass_at, majority_at, n = expected(rows, passes.k)
        assert passes.value == pytest.approx(pass_at)
        assert majority.value == pytest.approx(majority_at)
        assert passes.groups == majority.groups == n
        assert passes.low <= passes.value <= passes.high
    assert not list(tmp_path.glob("votes-*"))


def test_a_row_with_a_list_is_a_group_and_errors_are_left_out_of_it(tmp_path):
    votes = Votes("a")
    votes.add(scored(1, [right("4"), wrong("5"), Score.failed("died"), wrong("5")]))
    votes.add(scored(2, [right("4"), right("4"), wrong("7")]))
    votes.add(scored(3, [Score.failed("died"), Score.failed("died")]))
    found = groups.evaluate(saved(tmp_path, votes))
    assert (found.groups, found.size, found.sizes) == (2, 3, (3, 3))
    assert [(p.k, p.groups) for p in found.pass_at] == [(1, 2), (2, 2), (3, 2)]
    assert found.pass_at[0].value == pytest.approx((1 / 3 + 2 / 3) / 2)
    assert found.majority_at[2].value == pytest.approx(1 / 2)  # 5, 5, 4 loses; 4, 4, 7 wins


def test_uneven_groups_count_where_they_are_large_enough(tmp_path):
    votes = Votes("a")
    for line, size in enumerate([1, 2, 2, 5]):
        votes.add(scored(line, [right("1")] * size))
    found = groups.evaluate(saved(tmp_path, votes))
    assert (found.size, found.sizes) == (2, (1, 5))
    assert [(p.k, p.groups) for p in found.pass_at] == [(1, 4), (2, 3)]


def test_the_group_column_may_hold_messages_and_may_be_renamed(tmp_path):
    messages = [{"role": "user", "content": "2+2"}]
    swapped = [{"content": "2+2", "role": "user"}]
    votes = Votes("a", "prompt")
    votes.add(scored(1, [right("4")]), [Sample("4", {"prompt": messages})])
    votes.add(scored(2, [wrong("5")], prompt=swapped))
    votes.add(scored(3, [wrong("5")], prompt=None))
    assert groups.evaluate(saved(tmp_path, votes)).sizes == (1, 2)


def test_no_answers_give_no_majority_and_no_votes_give_no_groups(tmp_path):
    votes = Votes("a")
    votes.add(scored(1, [Score.correct(), wrong()]))
    assert groups.evaluate(saved(tmp_path, votes)).majority_at == []
    assert groups.evaluate(saved(tmp_path, Votes("a"))) == groups.Groups()
    assert groups.evaluate([]) == groups.Groups()


def test_drawn_subsets_come_near_to_all_subsets():
    profile = ((-3, 0), (2, 0), (3, 3), (4, 1))  # 12 completions
    answers = [None] * 3 + ["a"] * 2 + ["b"] * 3 + ["c"] * 4
    passed = [False] * 5 + [True] * 3 + [True] + [False] * 3
    exact = statistics.majority_at_k(answers, passed, 4)
    assert groups.majority_at_k(profile, 4) == pytest.approx(exact)
    large = tuple((10 * votes, 10 * good) for votes, good in profile)
    drawn = groups.majority_at_k(large, 3)
    subsets = itertools.combinations(range(12), 3)
    assert sum(1 for _ in subsets) < statistics.MAX_SUBSETS  # the small one is exact
    assert drawn == pytest.approx(groups.majority_at_k(profile, 3), abs=0.05)
    assert drawn == groups.majority_at_k.__wrapped__(large, 3)


def test_votes_fold_what_is_written_alike():
    assert fold(" $X = 1/2$. ") == fold("x=1/2")
    assert fold("0.5") != fold("5")
