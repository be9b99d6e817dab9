"""The verifiers of text on real and hostile input; prints one JSON line.

    python benchmarks/verify_text.py DATA_FOLDER

Real: the arithmetic and the language of GSM8K's and MATH-500's own solutions (references, so that
every false equation or foreign word is either a mistake of the data or of ours). Hostile: a million
characters of each kind; the processor seconds of the slowest, workers left out of it.
"""

import json
import sys
import time
from pathlib import Path

from rl_verifiers import make
from rl_verifiers.arithmetic import equations

HOSTILE = {
    "one letter": "a",
    "words": "the cat ",
    "brackets": "[",
    "braces": '{"a":',
    "quotes": '"',
    "backslashes": "\\",
    "surrogates": "\ud800",
    "null characters": "\0",
    "digits": "1",
    "equations": "1+1=2 ",
    "signs": "=",
    "sums": "1+",
    "dollars": "$ ",
    "open mathematics": "\\(",
    "fences": "```\n",
    "tags": "<tool_call>",
    "functions": "<function=a>",
    "calls": "f(",
    "JSON calls": '{"name":"f","arguments":{}}',
    "Chinese": "一",
    "mixed scripts": "一a",
    "sentences": "The cat sat. ",
    "lines": "a: 1\n",
    "cells": "1,2\n",
    "steps": "Step 1\n\n",
}
ROW = {
    "answer": "Paris lies on the Seine",
    "schema": {"type": "object", "required": ["a"]},
    "options": ["Rome", "Paris"],
}
VERIFIERS = {
    "choice": ("choice", {}),
    "f1": ("f1", {}),
    "fuzzy": ("fuzzy", {}),
    "json_schema": ("json_schema", {}),
    "json_schema csv": ("json_schema", {"format": "csv"}),
    "json_schema toml": ("json_schema", {"format": "toml"}),
    "json_schema yaml": ("json_schema", {"format": "yaml"}),
    "language": ("language", {"language": "en"}),
    "repetition": ("repetition", {}),
    "rouge": ("rouge", {}),
    "steps": ("steps", {}),
    "tool_call": ("tool_call", {}),
}


def rows(path):
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def solutions(data):
    files = {"gsm8k": ("gsm8k_train.jsonl", "gsm8k_test.jsonl"), "math500": ("math500.jsonl",)}
    return {
        name: [row["solution"] for file in found for row in rows(data / file)]
        for name, found in files.items()
    }


def arithmetic(texts):
    start = time.process_time()
    found = [equation for text in texts for equation in equations(text)]
    seconds = time.process_time() - start
    return {
        "solutions": len(texts),
        "equations": len(found),
        "called false": sum(not equation.holds for equation in found),
        "solutions_per_cpu_s": round(len(texts) / seconds),
    }


def language(texts):
    verifier = make("language", language="en")
    verifier(texts[0], {})  # loads the model
    start = time.process_time()
    scores = [verifier(text, {}) for text in texts]
    seconds = time.process_time() - start
    judged = [score for score in scores if score.status != "no_answer"]
    return {
        "with words": len(judged),
        "passed": sum(score.passed for score in judged),
        "mean share": round(sum(score.value for score in judged) / len(judged), 4),
        "solutions_per_cpu_s": round(len(texts) / seconds),
    }


def slowest(name, options):
    verifier = make(name, **options)
    answers = {"tool_call": [{"name": "f", "arguments": {}}], "choice": "B"}
    row = {**ROW, "answer": answers.get(name, ROW["answer"])}
    taken = {}
    for kind, piece in HOSTILE.items():
        text = (piece * (1_000_000 // len(piece) + 1))[:1_000_000]
        start = time.process_time()
        verifier(text, row)
        taken[kind] = time.process_time() - start
    kind = max(taken, key=taken.get)
    return {"input": kind, "cpu_s": round(taken[kind], 2)}


def main(folder):
    texts = solutions(Path(folder))
    print(
        json.dumps(
            {
                "arithmetic": {name: arithmetic(found) for name, found in texts.items()},
                "language": {name: language(found) for name, found in texts.items()},
                "slowest of a million characters": {
                    label: slowest(*spec) for label, spec in VERIFIERS.items()
                },
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1])
