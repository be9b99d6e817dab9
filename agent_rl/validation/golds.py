"""Completions that are right, written in the forms verifiers accept, and ones that just are not."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from rl_envs.types import Task

FORMS: dict[str, Callable[[str], str]] = {
    "boxed": lambda answer: f"\\boxed{{{answer}}}",
    "plain": lambda answer: answer,
    "boxed in a sentence": lambda answer: f"The answer is $\\boxed{{{answer}}}$.",
    "answer tags": lambda answer: f"<answer>{answer}</answer>",
    "think and answer tags": lambda answer: f"<think>\n.\n</think>\n<answer>{answer}</answer>",
    "####": lambda answer: f"#### {answer}",
    "the answer is": lambda answer: f"The answer is {answer}.",
    "sql block": lambda answer: f"```sql\n{answer}\n```",
    "code block": lambda answer: f"```python\n{answer}\n```",
}
SOLUTIONS = ("solution", "canonical_solution", "code", "reference_solution")
"""Columns that hold a worked solution or a program."""

_NUMBER = re.compile(r"\d+")
_FRACTION = re.compile(r"\\[dt]?frac\{(-?\d+)\}\{(-?\d+)\}")
_SPACING = re.compile(r"\\[,;:! ]|\\(?:left|right|displaystyle)(?![a-zA-Z])|[\s$]")


@dataclass(frozen=True, slots=True)
class Gold:
    """A completion that should pass.

    Attributes:
        form: How it is written, for messages.
        text: The completion.
        answer: The answer it holds, where that is a text of its own.
    """

    form: str
    text: str
    answer: str | None = None

    def moved(self) -> str | None:
        """The same completion with the last number of its answer greater by one.

        None where there is no number in the answer, or the answer is not where answers stand: in a
        box or answer tags, behind ``####``, or at the end.
        """
        if self.answer is None:
            return None
        numbers = list(_NUMBER.finditer(self.answer))
        if not numbers:
            return None
        last = numbers[-1]
        more = str(int(last[0]) + 1).zfill(len(last[0]))
        answer = self.answer[: last.start()] + more + self.answer[last.end() :]
        for before, behind in (("boxed{", "}"), ("<answer>", "</answer>"), ("#### ", ""), ("", "")):
            whole = before + self.answer + behind
            place = self.text.rfind(whole)
            rest = self.text[place + len(whole) :]
            if place >= 0 and (before or len(rest.strip()) < 3):
                return self.text[:place] + before + answer + behind + rest
        return None


def golds_of(task: Task) -> list[Gold]:
    """Completions made of a row's answer and solution columns, one of which should pass."""
    found: list[Gold] = []
    if "tests" not in task.info and "test" not in task.info:
        for answer in answers_of(task.answer):
            found += [Gold(form, write(answer), answer) for form, write in FORMS.items()]
    found += programs_of(task)
    return found


def answers_of(answer: Any) -> list[str]:
    """An answer as text; each of them where a list says which are accepted, and its JSON."""
    if answer is None or answer == "":
        return []
    if isinstance(answer, str):
        return [answer]
    if isinstance(answer, bool | int | float):
        return [str(answer)]
    each = [str(a) for a in answer if isinstance(a, str | int | float)] if _listed(answer) else []
    try:
        return [*each, json.dumps(answer, ensure_ascii=False)]
    except (TypeError, ValueError):
        return each or [str(answer)]


def programs_of(task: Task) -> list[Gold]:
    """Programs that solve a code row, in a code block; also as a continuation of the prompt."""
    if not any(column in task.info for column in ("tests", "test", "test_list")):
        return []
    columns = {**task.info, "answer": task.answer}
    found = []
    for column in (*SOLUTIONS, "answer"):
        program = columns.get(column)
        if isinstance(program, str) and program.strip():
            found.append(Gold(column, FORMS["code block"](program)))
            if isinstance(task.prompt, str):
                whole = task.prompt.rstrip() + "\n" + program.strip("\n")
                found.append(Gold(f"prompt and {column}", FORMS["code block"](whole)))
    return found


def solution_of(task: Task) -> str | None:
    """The worked solution of a row that is no program."""
    if programs_of(task):
        return None
    found = (task.info.get(column) for column in SOLUTIONS)
    return next((text for text in found if isinstance(text, str) and text.strip()), None)


def normal(answer: Any) -> Any:
    """Equal for answers that are surely the same: by content, as text without spacing, as numbers.

    It knows far less than a verifier, on purpose: it must not share a verifier's mistakes.
    """
    if isinstance(answer, Mapping | list | tuple):
        return json.dumps(answer, sort_keys=True, default=str)
    text = unicodedata.normalize("NFKC", str(answer)).casefold()
    text = _FRACTION.sub(r"\1/\2", _SPACING.sub("", text))
    try:
        return Fraction(text.replace(",", "")) if len(text) < 100 else text
    except (ValueError, ZeroDivisionError):
        return text


def prompt_text(task: Task) -> str:
    """The prompt as one text; of messages, their contents."""
    if isinstance(task.prompt, str):
        return task.prompt
    return "\n".join(str(message.get("content") or "") for message in task.prompt)


def _listed(answer: Any) -> bool:
    return isinstance(answer, list | tuple)
