"""Faults of rows that need no verifier: duplicates, contradictions, overlap, leaks."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from agent_rl.validation.findings import Findings
from agent_rl.validation.golds import answers_of, normal, prompt_text, solution_of
from agent_rl.validation.subjects import Case, Subject
from rl_envs.types import Task

LEAK_CHARS = 4
"""Shorter answers occur in prompts by chance."""

_WORD = re.compile(r"\w")


def check_rows(subject: Subject, findings: Findings) -> None:
    """Look at all rows of a subject."""
    if subject.env is None or subject.verifier is not None:  # a game opens by itself
        _check_prompts(subject.cases, findings)
    _check_duplicates(subject, findings)
    _check_overlap(subject, findings)
    for case in subject.cases:
        _check_leak(case, findings)


def asked(task: Task) -> str:
    """The prompt without what makes no difference: case, width, white space, the last stop."""
    text = unicodedata.normalize("NFKC", prompt_text(task)).casefold()
    return " ".join(text.split()).rstrip(" .?!")


def _problem(subject: Subject, task: Task) -> str:
    """What makes two rows the same: the prompt; where more is seen in play, all of the task."""
    if not subject.is_played:
        return asked(task)
    info = sorted((key, repr(value)) for key, value in task.info.items())
    return f"{asked(task)}\0{info}"


def _check_prompts(cases: Sequence[Case], findings: Findings) -> None:
    for case in cases:
        if not asked(case.task):
            findings.add("unanswerable", case.task.id, case.number, "prompt", "is empty")


def _check_duplicates(subject: Subject, findings: Findings) -> None:
    """Each row is compared with the first of the same prompt."""
    first: dict[str, Case] = {}
    for case in subject.cases:
        before = first.setdefault(_problem(subject, case.task), case)
        if before is case or not asked(case.task):
            continue
        where = f"row {before.number} ({before.task.id})"
        if _answer(before.task) != _answer(case.task):
            problem = f"{_short(case.task)} here, {_short(before.task)} there"
            findings.add("contradiction", case.task.id, case.number, where, problem)
        elif not subject.endless:  # a generator may draw a problem twice
            same = prompt_text(before.task) == prompt_text(case.task)
            problem = "the same text" if same else "the same but for case and spacing"
            findings.add("duplicate", case.task.id, case.number, where, problem)


def _check_overlap(subject: Subject, findings: Findings) -> None:
    for name, tasks in subject.others.items():
        theirs = {_problem(subject, task): task.id for task in tasks}
        for case in subject.cases:
            found = theirs.get(_problem(subject, case.task))
            if found is not None and asked(case.task):
                findings.add("overlap", case.task.id, case.number, name, f"is {found} there")


def _check_leak(case: Case, findings: Findings) -> None:
    prompt = prompt_text(case.task)
    held = {"answer": "".join(answers_of(case.task.answer)[:1])}
    held["solution"] = solution_of(case.task) or ""
    for what, text in held.items():
        if len(text) >= LEAK_CHARS and _stands_in(text, prompt):
            findings.add("leak", case.task.id, case.number, what, f"{text[:80]!r} is in the prompt")
            return


def _stands_in(text: str, prompt: str) -> bool:
    """Whether it occurs as a whole: no letter or digit goes on at its ends."""
    start = prompt.find(text)
    while start >= 0:
        end = start + len(text)
        before = prompt[start - 1 : start] if _WORD.match(text[0]) else ""
        after = prompt[end : end + 1] if _WORD.match(text[-1]) else ""
        if not _WORD.match(before) and not _WORD.match(after):
            return True
        start = prompt.find(text, start + 1)
    return False


def _answer(task: Task) -> object:
    """What a task wants: its answer; where a program is wanted, its tests."""
    if task.answer is not None:
        return normal(task.answer)
    return normal(task.info.get("tests") or task.info.get("test") or dict(task.info))


def _short(task: Task) -> str:
    answer = answers_of(task.answer)
    return f"{answer[0][:60]!r}" if answer else "other tests"
