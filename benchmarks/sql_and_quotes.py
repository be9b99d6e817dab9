"""What the verifiers of SQL and of quotes cost; prints one JSON line.

Run: ``python benchmarks/sql_and_quotes.py [--queries 500] [--megabytes 1]``. SQL: queries a second
in the local sandbox, one after another and many at once, each different, the reference's result
kept after the first; and the seconds of a query that is ended by the default limit on steps.
Quotes: millions of characters that are folded in a second of processor time, and milliseconds of
processor time for five quotes of 200 characters in a source of this size, folded before.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from typing import Any

from rl_verifiers import make, score_many
from rl_verifiers.quotes_text import fold

SCHEMA = "CREATE TABLE t (n INT, s TEXT);" + "".join(
    f"INSERT INTO t VALUES ({n}, 'row {n}');" for n in range(100)
)
ENDLESS = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--megabytes", type=float, default=1.0)
    options = parser.parse_args()
    numbers = {**sql(options.queries), **quotes(int(options.megabytes * 1_000_000))}
    print(json.dumps({"benchmark": "sql_and_quotes", **numbers}))


def sql(count: int) -> dict[str, Any]:
    """Queries a second."""
    verifier = make("sql")
    verifier.prepare()
    row = {"schema": SCHEMA, "answer": "SELECT s FROM t WHERE n > 50"}
    queries = [f"SELECT s FROM t WHERE n > 50 AND {number} = {number}" for number in range(count)]
    assert verifier(queries[0], row).passed
    begin = time.perf_counter()
    alone = [verifier(query, row) for query in queries[: count // 4]]
    alone_s = time.perf_counter() - begin
    begin = time.perf_counter()
    together = score_many(verifier, queries, [row] * count)
    together_s = time.perf_counter() - begin
    assert all(score.passed for score in [*alone, *together])
    begin = time.perf_counter()
    assert verifier(ENDLESS, row).status == "over_limit"
    return {
        "sql_per_s_one_at_a_time": round(len(alone) / alone_s),
        "sql_per_s_many_at_once": round(count / together_s),
        "sql_step_limit_s": round(time.perf_counter() - begin, 2),
    }


def quotes(size: int) -> dict[str, Any]:
    """Characters folded in a second, and what a check costs."""
    rng = random.Random(0)
    words = ["".join(rng.choices("etaoinshrdlu", k=rng.randint(2, 9))) for _ in range(5_000)]
    english = (" ".join(rng.choices(words, k=size // 4)).replace("a e", "a. “E").upper())[:size]
    kinds = {
        "english": english,
        "accents": "".join(rng.choices("ééíóñç’“ ", k=size)),
        "chinese": "".join(rng.choices("的一是不了人我在有他这为之大来以个中上们", k=size)),
    }
    numbers: dict[str, Any] = {}
    for kind, text in kinds.items():
        begin = time.process_time()
        fold(text)
        speed = len(text) / (time.process_time() - begin) / 1e6
        numbers[f"fold_{kind}_million_characters_per_s"] = round(speed, 1)
    verifier, row = make("quotes"), {"sources": {"s": english}}
    places = [english.index(" ", start) for start in range(size // 6, size - 999, size // 6)][:5]
    completion = "".join(
        f'<quote source="s">{english[at : english.index(" ", at + 200)]}</quote>' for at in places
    )
    assert verifier(completion, row).passed
    begin = time.process_time()
    for _ in range(20):
        verifier(completion, row)
    numbers["five_quotes_ms"] = round((time.process_time() - begin) / 20 * 1e3, 2)
    return numbers


if __name__ == "__main__":
    main()
