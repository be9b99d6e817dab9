"""Answers that are meant to hang, crash or confuse the math verifier; prints one JSON line.

Run: ``python benchmarks/verify_hostile.py [--load N]``; ``--list`` also prints one line an input.

Every input is scored twice by ``make("math")``: in the main thread, and then in another thread (the
second time on a machine kept busy by N processes, with ``--load N``). Reported are the slowest
answer of each, the number of verdicts that differ between the two, of those that are not what they
should be, and of workers that had to be killed; the memory that this process and its workers took
at most; and, apart from the rest, the first answer that needs a worker, which pays for its start.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import threading
import time
from typing import Any, NamedTuple

from rl_verifiers import Score, make
from rl_verifiers.math import forget
from rl_verifiers.workers import shared_pool

FAILS, PASSES = False, True


class Hostile(NamedTuple):
    """A completion, the reference, and whether it must pass (None: both are defensible)."""

    completion: str
    gold: str = "42"
    passes: bool | None = FAILS


def boxed(text: str) -> str:
    return f"\\boxed{{{text}}}"


def matrix(size: int, corner: str = "1") -> str:
    rows = [["1"] * size for _ in range(size)]
    rows[-1][-1] = corner
    return "\\begin{pmatrix}" + "\\\\".join(map("&".join, rows)) + "\\end{pmatrix}"


def in_set(items: range) -> str:
    return "\\{" + ",".join(map(str, items)) + "\\}"


SETTLED = "+".join(f"\\frac{{1}}{{2^{{{n}}}}}" for n in range(1, 801)) + "-1+2^{-800}"
SYMBOLIC = "+".join(f"x^{{{n}}}" for n in range(800)) + "-\\frac{x^{800}-1}{x-1}"
CODE = {
    "import": "__import__('os').system('touch /tmp/pwned')",
    "getattr": "getattr(getattr(42, '__class__'), '__mro__')[1]",
    "lambda": "(lambda: 42)()",
    "comprehension": "[x for x in range(42)][-1]",
    "subclasses": "().__class__.__bases__[0].__subclasses__()",
    "or": "open('/etc/passwd') or 0",
    "text": "\\text{__import__('os').system('id')}",
    "pi": "\\pi__import__('os').system('id')",
    "matrix": "\\begin{pmatrix}__import__('os').system('id')\\end{pmatrix}",
}

# The 59 inputs of the comparison in the field notes, by group.
ANSWERS: dict[str, Hostile] = {
    "tower": Hostile("9^{9^{9^{9}}}"),
    "tower of fives": Hostile("5^(5^(5^(5^5)))"),
    "tower of twos": Hostile("2^{2^{2^{49}}}"),
    "power of a power": Hostile("2^{10^10}"),
    "python powers": Hostile("10**10**10"),
    "tiny power": Hostile("10^{-10^{10}}"),
    "tower of e": Hostile("e^{e^{e^{e^{10}}}}"),
    "symbolic power": Hostile("x^{99999999}"),
    "factorial": Hostile("1000000!"),
    "factorial tower": Hostile("((((9!)!)!)!)!"),
    "binomial": Hostile("\\binom{10^6}{5\\cdot10^5}"),
    "gamma": Hostile("\\Gamma(10^6)"),
    "1e1000000": Hostile("1e1000000"),
    "1e1000000000": Hostile("1e1000000000"),
    "1 times 10 to 10^9": Hostile("1 \\times 10^{1000000000}"),
    "10^5 digits, equal": Hostile("7" * 100_000, "7" * 100_000, PASSES),
    "10^5 digits, different": Hostile("7" * 100_000, "7" * 99_999 + "8"),
    "10^5 digits for 42": Hostile("7" * 100_000),
    "fractions 50": Hostile("\\frac{1}{" * 50 + "1" + "}" * 50),
    "fractions 500": Hostile("\\frac{1}{" * 500 + "1" + "}" * 500),
    "fractions 5000": Hostile("\\frac{1}{" * 5000 + "1" + "}" * 5000),
    "fractions upward 500": Hostile("\\frac{" * 500 + "1" + "}{1}" * 500),
    "parentheses 200": Hostile("(" * 200 + "41" + ")" * 200),
    "parentheses 20000": Hostile("(" * 20_000 + "41" + ")" * 20_000),
    "braces 20000": Hostile("{" * 20_000 + "41" + "}" * 20_000),
    "roots 200": Hostile("\\sqrt{" * 200 + "2" + "}" * 200),
    "list of 2000 for 1": Hostile(",".join(map(str, range(2000))), "1"),
    "set of 2000 reversed": Hostile(in_set(range(1999, -1, -1)), in_set(range(2000)), PASSES),
    "set of 2000, one other": Hostile(in_set(range(1, 2001)), in_set(range(2000))),
    "sum of 800 that is 0": Hostile(SETTLED, "0", PASSES),
    "symbolic sum of 800 that is 0": Hostile(SYMBOLIC, "0", PASSES),
    "sum to 10^9": Hostile("\\sum_{k=1}^{1000000000} k"),
    "product to 10^9": Hostile("\\prod_{k=1}^{1000000000} k"),
    "hard integral": Hostile("\\int_0^1 \\frac{\\sin(x^x)}{\\ln(1+x^3)+e^{x^2}} dx"),
    "sin(cos(...))": Hostile("\\sin(\\cos(" * 15 + "x" + "))" * 15),
    "matrix 60, equal": Hostile(matrix(60), matrix(60), PASSES),
    "matrix 60, equal in value": Hostile(matrix(60, "\\frac{2}{2}"), matrix(60), PASSES),
    "matrix 60, different": Hostile(matrix(60, "2"), matrix(60)),
    "spaces": Hostile(" " * 100_000 + "41"),
    "commas": Hostile("," * 100_000),
    "zero-width space": Hostile("4\u200b2", passes=None),
    "right-to-left and Arabic digits": Hostile("\u200f\u0664\u0662", passes=None),
    "None": Hostile("None"),
    **{f"code, {name}": Hostile(text) for name, text in CODE.items()},
    "code, or 0 for 0": Hostile(CODE["or"], "0"),
}
COMPLETIONS: dict[str, Hostile] = {
    "10^5 of prose": Hostile("so we go on " * 8_333 + boxed("42"), passes=PASSES),
    "10^6 of prose": Hostile("so we go on " * 83_332 + boxed("42"), passes=PASSES),
    "10^6 of prose without a box": Hostile("so we go on " * 83_333),
    "10^6 of one letter": Hostile("a" * 1_000_000),
    "10^4 boxes, last right": Hostile("\\boxed{41} " * 9_999 + boxed("42"), passes=PASSES),
    "10^4 boxes, last wrong": Hostile("\\boxed{42} " * 9_999 + boxed("41")),
    "10^4 boxes with words": Hostile(
        "\\boxed{41} is wrong. " * 9_999 + "It is " + boxed("42"), passes=PASSES
    ),
    "10^4 boxes, a list": Hostile("\\boxed{41}, " * 9_999 + boxed("42"), passes=PASSES),
    "60 boxes, a list": Hostile("\\boxed{41}, " * 59 + boxed("42")),
    "10^4 unclosed boxes": Hostile("\\boxed{" * 10_000),
    "10^4 unclosed boxes, then 42": Hostile("\\boxed{" * 10_000 + "42"),
    "answer is x 20000": Hostile("answer is " * 20_000),
    "answer is x 20000, then 42": Hostile("answer is " * 20_000 + "42", passes=None),
    "empty": Hostile(""),
    "an empty box": Hostile("\\boxed{}"),
}
# More, of our own.
MORE: dict[str, Hostile] = {
    "root of huge degree": Hostile("\\sqrt[10^{100}]{2}"),
    "huge angle": Hostile("\\sin(10^{5000})"),
    "real factorial": Hostile("(\\sqrt{2}+10^{9})!"),
    "near miss": Hostile("42+10^{-40}"),
    "near miss with roots": Hostile("42+\\sqrt{2}-\\sqrt{2+10^{-60}}"),
    "fractions without arguments": Hostile("\\frac" * 3000),
    "applied functions": Hostile("f(" * 45 + "x" + ")" * 45),
    "bars": Hostile("|" * 1000),
    "subscripts": Hostile("x_{" * 3000),
    "superscripts": Hostile("\u00b2" * 5000),
    "degree signs": Hostile("1" + "^\\circ" * 2000),
    "long sum": Hostile("1+" * 9000 + "1"),
    "long product": Hostile("xy" * 4000),
    "list of expressions": Hostile(",".join(f"x+{n}" for n in range(300))),
    "set of 64 roots reversed": Hostile(
        "\\{" + ",".join(f"\\sqrt{{{n}}}" for n in range(65, 1, -1)) + "\\}",
        "\\{" + ",".join(f"\\sqrt{{{n}}}" for n in range(2, 66)) + "\\}",
        PASSES,
    ),
    "set of 60 sines": Hostile(
        "\\{" + ",".join(f"\\sin({n}x)" for n in range(2, 62)) + "\\}",
        "\\{" + ",".join(f"\\sin({n}x)" for n in range(61, 1, -1)) + "\\}",
        PASSES,
    ),
    "power of a sum": Hostile("(a+b+c+d)^{30}", "(a+b)^{30}"),
    "power of a sum, nested": Hostile("((((x+1)^9+1)^9+1)^9+1)^9", "x^{6561}"),
    "product of 40 sums": Hostile("*".join(f"(x+{n})" for n in range(40)), "x^{40}"),
    "roots of large primes": Hostile(
        "+".join(f"\\sqrt{{{10**18 + n}}}" for n in range(3, 33, 2)), "\\sqrt{2}"
    ),
    "denested roots": Hostile("\\sqrt{5+2\\sqrt{6}}", "\\sqrt{2}+\\sqrt{3}", PASSES),
    "roots in roots": Hostile(
        "\\sqrt{2+\\sqrt{3+\\sqrt{5+\\sqrt{7+\\sqrt{11}}}}}", "\\sqrt{2+\\sqrt{3+\\sqrt{5}}}"
    ),
    "trigonometric identity": Hostile("\\sin(3x)", "3\\sin x-4\\sin^3 x", PASSES),
    "angles of twenty": Hostile("+".join(f"\\sin({n}x)" for n in range(20)), "\\cos x"),
    "set of 60 sums to a power": Hostile(
        "\\{" + ",".join(f"(x+\\sqrt2)^{{30}}+{n}" for n in range(60)) + "\\}",
        "\\{" + ",".join(f"{n}+(\\sqrt2+x)^{{30}}" for n in range(59, -1, -1)) + "\\}",
        None,
    ),
    "set of 20 nested powers": Hostile(
        "\\{" + ",".join(f"((x+1)^9+1)^9+{n}" for n in range(20)) + "\\}",
        "\\{" + ",".join(f"{n}+((1+x)^9+1)^9" for n in range(19, -1, -1)) + "\\}",
        None,
    ),
    "set of 60 near ones": Hostile(
        "\\{" + ",".join(f"\\sqrt2+10^{{-{n}}}" for n in range(20, 80)) + "\\}",
        "\\{" + ",".join(f"10^{{-{n}}}+\\sqrt2" for n in range(79, 19, -1)) + "\\}",
        None,
    ),
    "set of 60 identities": Hostile(
        "\\{" + ",".join(f"\\sin({n}x)^2" for n in range(1, 61)) + "\\}",
        "\\{" + ",".join(f"1-\\cos({n}x)^2" for n in range(60, 0, -1)) + "\\}",
        None,
    ),
    "sum of factorials": Hostile("+".join(["5000!"] * 3000)),
    "sum of different factorials": Hostile("+".join(f"{n}!" for n in range(2000, 5000))),
    "sum of huge powers": Hostile("+".join(f"{n}^{{9999}}" for n in range(3, 1500))),
    "sum of tiny powers": Hostile("+".join(f"\\frac1{{{n}^{{900}}}}" for n in range(11, 900))),
    "set of tiny powers": Hostile(
        "\\{" + ",".join(f"\\sqrt2+{n}^{{-900}}+{n + 1}^{{-900}}" for n in range(11, 71)) + "\\}",
        "\\{" + ",".join(f"\\sqrt2+{n}^{{-900}}+{n + 2}^{{-900}}" for n in range(11, 71)) + "\\}",
    ),
    "unions": Hostile("(1,2)\\cup" * 200 + "(1,2)", "(1,2)", None),
    "disjoint unions": Hostile("\\cup".join(f"({n},{n}.5)" for n in range(60)), "(1,2)"),
    "plus-minus": Hostile("1" + "\\pm 1" * 40),
    "inequalities": Hostile("<x<".join(map(str, range(50))), "1<x<2"),
    "repeating decimal": Hostile("0.\\overline{" + "3" * 5000 + "}", "\\frac{1}{3}", None),
    "long decimal": Hostile("0." + "3" * 50_000, "\\frac{1}{3}", None),
    "base": Hostile("1" * 150 + "_{2}", str(2**150 - 1), PASSES),
    "nan": Hostile("nan"),
    "null": Hostile("42\0"),
    "surrogate": Hostile("\ud800"),
    "dollars": Hostile("$" * 100_000),
    "backslashes": Hostile("\\" * 100_000),
    "text commands": Hostile("\\text{" * 3000 + "42" + "}" * 3000),
    "environments": Hostile("\\begin{pmatrix}" * 1000),
    "quotes": Hostile("x" + "'" * 19_000),
}
INPUTS = {
    **{name: item._replace(completion=boxed(item.completion)) for name, item in ANSWERS.items()},
    **COMPLETIONS,
    **{name: item._replace(completion=boxed(item.completion)) for name, item in MORE.items()},
}


def scored() -> dict[str, tuple[Score, float]]:
    verifier, found = make("math"), {}
    forget()
    for name, item in INPUTS.items():
        started = time.perf_counter()
        score = verifier(item.completion, {"id": name, "answer": item.gold})
        found[name] = (score, time.perf_counter() - started)
    return found


def scored_in_thread() -> dict[str, tuple[Score, float]]:
    found: dict[str, tuple[Score, float]] = {}
    thread = threading.Thread(target=lambda: found.update(scored()))
    thread.start()
    thread.join()
    return found


def killed(score: Score) -> bool:
    return any(sign in score.reason for sign in ("used up", "deadline", "memory", "worker"))


def main() -> None:
    parser = argparse.ArgumentParser(description="Hostile answers to the math verifier.")
    parser.add_argument("--load", type=int, default=0, help="processes that keep the machine busy")
    parser.add_argument("--list", action="store_true", help="print each input's time and verdict")
    options = parser.parse_args()
    verifier, started = make("math"), time.perf_counter()
    verifier(boxed("\\sin 2x"), {"id": "first", "answer": "2\\sin x\\cos x"})
    first = time.perf_counter() - started
    calm = scored()
    busy = [subprocess.Popen([sys.executable, "-c", "while 1: pass"]) for _ in range(options.load)]
    try:
        other = scored_in_thread()
    finally:
        for process in busy:
            process.kill()
            process.wait()
    shared_pool().close()
    result: dict[str, Any] = {"inputs": len(INPUTS), "listed": len(ANSWERS) + len(COMPLETIONS)}
    for place, found in (("main_thread", calm), ("other_thread", other)):
        slowest = max(found, key=lambda name: found[name][1])
        result[place] = {
            "slowest_s": round(found[slowest][1], 3),
            "slowest": slowest,
            "over_half_a_second": sum(seconds > 0.5 for _, seconds in found.values()),
        }
    wrong = [n for n, i in INPUTS.items() if i.passes not in (None, calm[n][0].passed)]
    result |= {
        "load": options.load,
        "verdicts_that_differ": sum(calm[n][0] != other[n][0] for n in INPUTS),
        "not_as_they_should_be": wrong,
        "errors_or_kills": sum(
            s.is_error or killed(s) for f in (calm, other) for s, _ in f.values()
        ),
        "first_answer_of_a_worker_s": round(first, 3),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "workers_peak_mib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
    }
    if options.list:
        for name, (score, seconds) in calm.items():
            print(
                f"{seconds:7.3f} {other[name][1]:7.3f} {score.status:13} {name}: {score.reason:.90}"
            )
    print(json.dumps({"benchmark": "verify_hostile", **result}))


if __name__ == "__main__":
    main()
