"""What Browse and SQL cost, and what policies earn that know nothing; prints one JSON line.

Run: ``python benchmarks/browse_and_sql.py [--tasks 200] [--pages 600]``. Browse: seconds to make
the world and to build its index, the size of the index, milliseconds of a search for a question's
words (median and worst, and for words that stand on most pages), and mean returns of two policies:
``frequent`` says the most frequent answer of 1,000 tasks at once, ``blind`` searches the question,
opens the first page, quotes four sentences of it at random and says a frequent answer. SQL:
milliseconds for a task, mean returns of the most frequent query, of a query that writes the seen
database's result down by hand, and of the most frequent value where values are asked for.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

import rl_envs
from rl_envs.text.browse_world import world
from rl_verifiers import make, score_many

COMMON = "hills north covered beech pine winters mild wind west inn crossroads soup leeks barley"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--pages", type=int, default=600)
    options = parser.parse_args()
    found = {**browse(options.tasks, options.pages), **sql(options.tasks)}
    print(json.dumps({"benchmark": "browse_and_sql", **vars(options), **found}))


def browse(tasks: int, pages: int) -> dict[str, Any]:
    begin = time.perf_counter()
    world(0, pages)
    made_s = time.perf_counter() - begin
    with tempfile.TemporaryDirectory() as cache:
        env: Any = rl_envs.make("text/Browse-v0", pages=pages, cache=cache)
        begin = time.perf_counter()
        corpus = env.corpus
        built_s = time.perf_counter() - begin
        asked = [env.tasks[n] for n in range(tasks)]
        searches = [_search_ms(corpus, task.prompt) for task in asked]
        common = Counter(env.tasks[n].answer for n in range(1_000)).most_common(20)
        answers = [answer for answer, _ in common]
        return {
            "world_s": round(made_s, 2),
            "index_s": round(built_s, 2),
            "index_mb": round(Path(corpus.path).stat().st_size / 1e6, 2),
            "search_ms": round(float(np.median(searches)), 2),
            "search_worst_ms": round(max(searches), 2),
            "search_common_ms": round(_search_ms(corpus, COMMON), 2),
            "browse_frequent": _mean(_frequent(env, n, answers[0]) for n in range(tasks)),
            "browse_blind": _mean(_blind(env, n, answers) for n in range(tasks)),
        }


def _search_ms(corpus: Any, query: str) -> float:
    begin = time.perf_counter()
    corpus.search(query, 8)
    return (time.perf_counter() - begin) * 1000


def _mean(rewards: Any) -> float:
    return round(float(np.mean(list(rewards))), 4)


def _frequent(env: Any, index: int, answer: str) -> float:
    env.reset(options={"index": index})
    return float(env.step(env.call_text("answer", text=answer))[1])


def _blind(env: Any, index: int, answers: list[str]) -> float:
    rng = np.random.default_rng((3, index))
    env.reset(options={"index": index})
    env.step(env.call_text("search", query=env.task.prompt))
    env.step(env.call_text("open", page=1))
    sentences = re.split(r"(?<=\.)\s", env.page.text)
    for place in rng.permutation(len(sentences))[:4]:
        env.step(env.call_text("quote", text=sentences[place]))
    answer = answers[int(rng.integers(len(answers)))]
    return float(env.step(env.call_text("answer", text=answer))[1])


def sql(tasks: int) -> dict[str, Any]:
    source = rl_envs.make("text/SQL-v0").tasks
    begin = time.perf_counter()
    asked = [source[n] for n in range(1_000)]
    drawn_s = time.perf_counter() - begin
    frequent = Counter(task.answer for task in asked).most_common(1)[0][0]
    rows = [task.row() for task in asked[:tasks]]
    judge = make("sql")
    by_hand = [_literal(task.info["rows"]) for task in asked[:tasks]]
    value: Any = rl_envs.make("text/SQL-v0", answer="value")
    texts = Counter(value.demonstration(task, "expert", np.random.default_rng()) for task in asked)
    said = texts.most_common(1)[0][0]
    return {
        "sql_task_ms": round(drawn_s, 2),  # of a thousand
        "sql_different_tasks_of_1000": len({task.id for task in asked}),
        "sql_frequent": _mean(s.value for s in score_many(judge, [frequent] * tasks, rows)),
        "sql_by_hand": _mean(s.value for s in score_many(judge, by_hand, rows)),
        "value_frequent": _mean(value.score(said, row).value for row in rows),
    }


def _literal(rows: Any) -> str:
    """A query that gives these rows without looking at anything."""
    texts = ("(" + ", ".join(map(_quoted, row)) + ")" for row in rows)
    return f"VALUES {', '.join(texts)}"


def _quoted(value: Any) -> str:
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)


if __name__ == "__main__":
    main()
