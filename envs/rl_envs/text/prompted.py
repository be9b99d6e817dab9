"""Environments of one turn whose prompts are borrowed: from another environment, a file or rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np

from rl_envs.adapters import tasks_from_rows
from rl_envs.core import TextEnv
from rl_envs.files import load_rows
from rl_envs.judges import check_verifier, resolve_verifier
from rl_envs.registry import make
from rl_envs.tasks import DataError, ListTasks, bucket, content_id
from rl_envs.types import Message, Task, TaskSource
from rl_verifiers.score import Row, Verifier

DEFAULT_PROMPTS = {"env": "text/ReverseText-v0"}
AWAITED: ContextVar[Collection[str]] = ContextVar("awaited", default=())
"""Files that are still to be made while what will read them is checked: one prompt stands in."""
OWN = "prompts"
"""As a verifier: what the environment of the prompts pays by itself."""


class PromptedEnv(TextEnv):
    """One turn on the prompts of another environment, of a file or of rows.

    Args:
        prompts: ``{env: id, options: {...}}``: the tasks, the system prompt and the demonstrations
            of an environment of one turn; ``{path: FILE, columns: {...}}``, or a list of rows:
            their prompts, 15 % of which are the test split, by the hash of the prompt.
        options: Those of ``TextEnv``.
    """

    source = "prompts of another environment, or a file"

    def __init__(self, *, prompts: Any = None, **options: Any) -> None:
        name = type(self).__name__
        if options.get("tasks") is not None:
            raise DataError(f"{name}: give the tasks as `prompts`")
        if options.get("verifier") is not None or options.get("group_verifier") is not None:
            raise DataError(f"{name} has verifiers of its own: see its options, not `verifier`")
        self._given = _form_of(DEFAULT_PROMPTS if prompts is None else prompts, name)
        split = options.get("split", "train")
        self._inner = _inner_of(self._given, split, name)
        if self._inner is not None:
            shown = {"splits": self._inner.splits, "styles": _styles_of(self._inner)}
            vars(self).update(shown, source=f"prompts of {self._given['env']}")
        super().__init__(**options)

    def load_tasks(self, split: str) -> TaskSource:
        """The tasks of the other environment, or the rows whose prompts fall into the split."""
        if self._inner is not None:
            return self._inner.tasks
        rows = self._given.get("rows")
        if rows is None:
            if self._given["path"] in AWAITED.get():
                return ListTasks([Task(split, f"of {split}", "?", {"completion": "?"})])
            rows = load_rows(self._given["path"], columns=self._given.get("columns"))
        tasks = tasks_from_rows(rows)
        kept = [task for task in tasks if bucket(content_id(task.prompt)) == split]
        if not kept:
            raise DataError(
                f"none of the {len(tasks)} prompts falls into the split {split!r}: it takes more"
            )
        return ListTasks(kept)

    def system_text(self) -> str | None:
        """The system prompt: one's own, or the other environment's."""
        if self.system_prompt is not None or self._inner is None:
            return self.system_prompt
        return self._inner.system_text()

    def demonstration(self, task: Task, style: str, rng: np.random.Generator) -> str:
        """The other environment's, or the ``chosen`` or ``completion`` of the row."""
        if self._inner is not None:
            return self._inner.demonstration(task, style, rng)
        for column in ("completion", "chosen"):
            if found := answer_text(task.info.get(column)):
                return found
        raise DataError(f"task {task.id} has no completion to demonstrate with")

    def shown_row(self, row: Row) -> Row:
        """The row with the prompt as the policy sees it: the system prompt is part of it."""
        told, prompt = self.system_text(), row.get("prompt")
        if not told or prompt in (None, ""):
            return row
        asked = [Message(role="user", content=prompt)] if isinstance(prompt, str) else prompt
        return {**row, "prompt": [Message(role="system", content=told), *asked]}

    def verifier_of(self, spec: Any, place: str) -> Verifier:
        """The verifier that an option names.

        Args:
            spec: A verifier's name, ``{name: ..., **options}`` or a callable; ``{path: ...}`` or
                ``{url: ...}`` for a reward model; ``{env: id, options: {...}}`` for what another
                environment pays, and ``prompts`` for what that of the prompts pays.
            place: The option's name, for messages.

        Raises:
            DataError: It is none of these.
            VerifierError: An option of the verifier that cannot be.
        """
        if isinstance(spec, Mapping) and set(spec) == {"name"}:
            spec = spec["name"]
        if spec == OWN:
            if self._inner is None:
                raise DataError(f"{place}: the prompts are no environment's, so nothing pays them")
            return self._inner.judging
        if isinstance(spec, Mapping) and "env" in spec:
            return _made(spec, self.split, place).judging
        if isinstance(spec, Mapping) and ("path" in spec or "url" in spec) and "name" not in spec:
            spec = {"name": "reward_model", **spec}
        if isinstance(spec, Mapping) and not isinstance(spec.get("name"), str):
            raise DataError(f"{place} is {dict(spec)!r:.80}; it needs path, url, env or name")
        if not (isinstance(spec, str | Mapping) or callable(spec)):
            raise DataError(f"{place} is {spec!r:.60}; it must be a verifier's name or a mapping")
        check_verifier(place, spec)
        return resolve_verifier(spec)


def answer_text(value: Any) -> str:
    """An answer in a column: a text, or messages that end with the assistant's; else empty."""
    if isinstance(value, list | tuple) and value and isinstance(value[-1], Mapping):
        value = value[-1].get("content") if value[-1].get("role") == "assistant" else None
    return value if isinstance(value, str) else ""


def check_keys(place: str, given: Any, known: Sequence[str]) -> Mapping[str, Any]:
    """An option that is a mapping with these keys and no others.

    Raises:
        DataError: It is not.
    """
    if not isinstance(given, Mapping):
        raise DataError(f"{place} is {given!r:.60}; it must be a mapping with {', '.join(known)}")
    unknown = [key for key in given if key not in known]
    if unknown:
        raise DataError(f"{place} has no {unknown[0]!r}; it has {', '.join(known)}")
    return given


def _form_of(prompts: Any, name: str) -> Mapping[str, Any]:
    if isinstance(prompts, list | tuple):
        return {"rows": prompts}
    if not isinstance(prompts, Mapping) or ("env" in prompts) == ("path" in prompts):
        raise DataError(
            f"{name}: prompts is {prompts!r:.80}; give {{env: ID}}, {{path: FILE}} or "
            "a list of rows"
        )
    known = ("env", "options") if "env" in prompts else ("path", "columns")
    return check_keys(f"{name}: prompts", prompts, known)


def _inner_of(given: Mapping[str, Any], split: str, name: str) -> TextEnv | None:
    if "env" not in given:
        return None
    inner = _made(given, split, f"{name}: prompts")
    if inner.max_turns != 1 or type(inner).opening is not TextEnv.opening:
        raise DataError(
            f"{name}: prompts: {given['env']} plays by itself ({inner.max_turns} turns); only "
            "environments of one turn whose tasks are prompts lend them"
        )
    return inner


def _made(spec: Mapping[str, Any], split: str, place: str) -> TextEnv:
    check_keys(place, spec, ("env", "options"))
    options = spec.get("options") or {}
    if "split" in options:
        raise DataError(f"{place}: set split beside it, not among the other environment's options")
    return make(str(spec["env"]), **{**options, "split": split})


def _styles_of(inner: TextEnv) -> tuple[str, ...]:
    """Those of its demonstrations that need no episode of its own."""
    alone = type(inner).demonstration is not TextEnv.demonstration
    return inner.styles if alone else ()
