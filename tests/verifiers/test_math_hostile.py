"""Answers that are meant to hang, crash, exploit or confuse. Each gets a verdict by limits on work.

The worker's limit on processor time is a second wall: no test here may need it, so its message
must not appear.
"""

import random
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.verify_hostile import INPUTS, killed
from rl_verifiers import make
from rl_verifiers.math import forget

FINAL, WHOLE = make("math"), make("math", extract="whole")
JUDGED = ("correct", "wrong", "unparsable", "over_limit", "no_answer")


@pytest.mark.parametrize("name", INPUTS)
def test_a_hostile_answer_gets_its_verdict_without_a_kill(name):
    completion, gold, passes = INPUTS[name]
    score = FINAL(completion, {"id": name, "answer": gold})
    assert score.status in JUDGED
    assert not killed(score)
    assert passes in (None, score.passed)


def test_no_hostile_answer_passes_for_another():
    for name, (completion, _, _) in INPUTS.items():
        score = FINAL(completion, {"id": name, "answer": "x^3+\\sqrt{7}"})
        assert score.status in JUDGED[1:], name
        assert not killed(score), name


def test_another_thread_gives_the_same_verdicts():
    rows = [(text, {"id": name, "answer": gold}) for name, (text, gold, _) in INPUTS.items()]
    found = []
    expected = [FINAL(*row) for row in rows]
    forget()
    thread = threading.Thread(target=lambda: found.extend(FINAL(*row) for row in rows))
    thread.start()
    thread.join()
    assert found == expected


@pytest.mark.parametrize("unit", ["\\boxed{", "\\boxed{41}, ", "answer is ", "1, ", "(", "$"])
def test_a_hostile_completion_gets_a_verdict(unit):
    score = FINAL(unit * (900_000 // len(unit)), {"id": unit, "answer": "42"})
    assert score.status in JUDGED[1:]


def test_the_same_huge_text_is_the_same_answer():
    assert WHOLE("9^{9^{9^{9}}}", {"id": 1, "answer": "9^{9^{9^{9}}}"}).passed


def test_a_reference_over_the_limits_is_the_reference_s_fault():
    assert WHOLE("42", {"id": 1, "answer": "(" * 30_000}).status == "bad_reference"
    assert WHOLE("42", {"id": 1, "answer": "1" + "0" * 30_000 + "x"}).status == "bad_reference"


# Fuzzed answers.

LINES = r"""
42 | -1,234.5 | \frac{3}{4} | 2\sqrt{3}-1 | x^2+2x+1 | (x+1)^2 | \frac{\sqrt{6}}{2} | 3\pi | 1 and 2
(-\infty,2)\cup(3,\infty) | \{1,2,3\} | (1,-2) | x=3 | y=2x-1 | x<3 | -1\le x\le 2 | 50\%
12\text{ cm}^2 | \begin{pmatrix}1&2\\3&4\end{pmatrix} | 3+4i | \text{Yes} | \sin 2x | e^{i\pi/3}
1011_2 | 90^\circ | 0.\overline{3} | \log_2 8 | 3 \times 10^8 | 2:3 | 5\pm\sqrt{2} | \binom{5}{2}
n! | |x-1| | 1\frac12 | \lfloor x\rfloor | 3:30 PM | f(x)=x+1 | \sqrt[3]{2} | x \in [0,1] | \$12.50
"""
GOLDS = LINES.strip().replace("\n", " | ").split(" | ")
WORDS = r"""
{ } ( ) [ ] ^ _ | ! , ; = < : / * + - ' & $ . % 0 1 2 3 x y i e \frac \sqrt \pm \cup \infty \le \pi
\sin \ln \log_ \binom 10^{ ^\circ \text{ and \\ \{ \} \overline{ \in f( \boxed{ 5000! ^{99} ^{-1}
\begin{pmatrix} \end{pmatrix} \cdot ° − ² ٤
"""
PIECES = [*WORDS.split(), "\0", "\ud800", "\u200b", " "]


def mutated(text, generator):
    for _ in range(generator.choice((1, 1, 2, 3, 6))):
        kind, start = generator.randrange(5), generator.randrange(len(text) + 1)
        end = start + generator.randrange(1, 8)
        piece, other = generator.choice(PIECES), generator.choice(GOLDS)
        middle = (piece, "", text[start:end] * 20, other, f"{piece}{other}")[kind]
        text = text[:start] + middle + text[end if kind in (1, 2) else start :]
    return text


def test_ten_thousand_mutated_answers_get_verdicts():
    generator = random.Random(0)
    for _ in range(10_000):
        gold = generator.choice(GOLDS)
        source = gold if generator.random() < 0.6 else generator.choice(GOLDS)
        answer = mutated(source, generator)
        gold = mutated(gold, generator) if generator.random() < 0.2 else gold
        verifier = generator.choice((WHOLE, FINAL))
        score = verifier(answer, {"id": 1, "answer": gold})
        assert score.status in (*JUDGED, "bad_reference"), (gold, answer)
        assert not killed(score), (gold, answer)


@given(st.text(max_size=60) | st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
def test_any_text_gets_a_verdict(text):
    for gold in ("42", "x^2+\\sqrt{2}"):
        score = WHOLE(text, {"id": 1, "answer": gold})
        assert score.status in JUDGED
        assert not killed(score)
