"""Agreement and speed of the instructions verifier; prints one JSON line.

Run: ``python benchmarks/verify_instructions.py [DATA_FOLDER] [--seconds S]``
(default folder: $AGENT_RL_DATA).

``ids`` are IFBench's constraints with the number of recorded verdicts, strict and loose together,
and of those that ours equal. ``readable`` are the rows of IFEval and of IFBench whose constraints
all have a checker and arguments that fit it. ``per_cpu_second`` are responses scored per second of
processor time, all constraints of their rows, after one pass that loads the libraries.

``nltk`` compares sentences, words and "starts with a verb" with NLTK on the lines of the responses
and on whole responses. NLTK is no dependency of this project: for that part, run the script in an
environment with ``pip install -e '.[instructions]' nltk==3.9.2`` where ``nltk.download`` has
fetched ``punkt_tab`` and ``averaged_perceptron_tagger_eng``; without them it is null.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import defaultdict
from importlib import import_module
from pathlib import Path
from typing import Any

from rl_verifiers.instructions import instructions_verifier
from rl_verifiers.instructions.response import Response
from rl_verifiers.instructions.verbs import starts_with_verb
from rl_verifiers.instructions.verifier import Mode

MODES: tuple[Mode, ...] = ("strict", "loose")


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def agreement(recorded: list[dict[str, Any]]) -> dict[str, list[int]]:
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for mode in MODES:
        verifier = instructions_verifier(mode=mode)
        for row in recorded:
            found = [bool(part) for part in verifier(row["response"], row).parts.values()]
            for name, ours, theirs in zip(
                row["instruction_id_list"], found, row[mode], strict=True
            ):
                counts[name][0] += 1
                counts[name][1] += ours == theirs
    return dict(sorted(counts.items()))


def readable(folder: Path, name: str) -> list[int]:
    statuses = [instructions_verifier()("a", row).status for row in rows(folder, name)]
    return [len(statuses), sum(status != "bad_reference" for status in statuses)]


def speed(recorded: list[dict[str, Any]], mode: Mode, seconds: float) -> float:
    from rl_verifiers.instructions.sentences import _breaks_cached  # noqa: PLC0415
    from rl_verifiers.instructions.words import _split_cached  # noqa: PLC0415

    verifier = instructions_verifier(mode=mode)
    scored, started = 0, time.process_time()
    while time.process_time() - started < seconds:
        _breaks_cached.cache_clear()
        _split_cached.cache_clear()
        for row in recorded:
            verifier(row["response"], row)
        scored += len(recorded)
    return round(scored / (time.process_time() - started))


def beside_nltk(responses: list[str]) -> dict[str, list[int]] | None:
    try:
        nltk = import_module("nltk")
        nltk.pos_tag(nltk.word_tokenize("A test."))
    except (ImportError, LookupError):
        return None
    texts = [line for text in responses for line in text.split("\n") if line.strip()]
    texts = list(dict.fromkeys(texts + responses))
    same = {"sentences": 0, "words": 0, "start_verb": 0}
    verbs = 0
    for text in texts:
        response, words = Response(text), nltk.word_tokenize(text)
        verb = bool(words) and "VB" in nltk.pos_tag(words)[0][1]
        verbs += verb
        same["sentences"] += response.sentences == nltk.sent_tokenize(text)
        same["words"] += response.tokens == words
        same["start_verb"] += starts_with_verb(response.tokens[:3]) == verb
    return {name: [len(texts), count] for name, count in same.items()} | {"verbs": [verbs]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", default=os.environ.get("AGENT_RL_DATA"))
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    if options.folder is None:
        parser.error("give the data folder, or set AGENT_RL_DATA")
    folder = Path(options.folder)
    recorded = rows(folder, "ifbench_oracle_60.jsonl")
    ids = agreement(recorded)
    print(
        json.dumps(
            {
                "rows": len(recorded),
                "verdicts": sum(count for count, _ in ids.values()),
                "equal": sum(equal for _, equal in ids.values()),
                "ids": ids,
                "readable": {
                    name: readable(folder, f"{name}.jsonl")
                    for name in ("ifeval_input_data", "ifbench_test")
                },
                "characters_per_response": sum(len(r["response"]) for r in recorded)
                // len(recorded),
                "per_cpu_second": {m: speed(recorded, m, options.seconds) for m in MODES},
                "nltk": beside_nltk([row["response"] for row in recorded]),
            }
        )
    )


if __name__ == "__main__":
    main()
