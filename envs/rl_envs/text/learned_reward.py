"""Prompts, and a learned reward for the answers: reward models, rules, guards."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

from rl_envs.tasks import DataError
from rl_envs.text.learned_judge import (
    COMBINATIONS,
    Combination,
    LearnedJudge,
    LengthGuard,
    Part,
    check_combination,
)
from rl_envs.text.prompted import OWN, PromptedEnv, check_keys
from rl_verifiers import make
from rl_verifiers.score import Verifier

_REPETITION = ("n", "max_penalty", "max_share", "unit")


class LearnedReward(PromptedEnv):
    """Answer a prompt; reward models, rules and guards pay for it together.

    The reward is the combination of the reward models' values, plus weight times value of each
    rule, plus what the guards take off (0 or less). The parts of the score show each model and rule
    by its label, the combination as ``models/value``, and the guards as ``guard/...``. A model or
    rule that fails us makes the whole an error: the sample is judged again, then left out of
    training, and never paid 0. Without any option it pays what the environment of the prompts
    pays: a stand-in to try it with.

    Args:
        prompts: ``{env: id, options: {...}}`` for the tasks, system prompt and demonstrations of
            another environment of one turn; ``{path: FILE}`` or a list of rows.
        reward_models: A list of ``{path: ..., weight: 1, name: label, **options}`` with the options
            of the verifier ``reward_model``; or any other verifier, ``{name: ..., **options}``, or
            environment, ``{env: ...}``, with ``as: label``.
        combine: ``sum`` of weight times value; ``min`` of the same; or ``llama2``: see
            ``llama2_reward``. A mapping gives its options: ``{rule: llama2, threshold: 0.15}``.
        rules: Verifiers beside the models, ``{name: ..., weight: -1}``; weight times value is
            added.
        length: A guard, ``{max_length, buffer, unit, penalty, per_unit}``: ``penalty`` is lost in
            full at ``max_length`` units, linearly over the ``buffer`` before it, and ``per_unit``
            for every unit.
        repetition: A guard: the options of the verifier ``repetition``, whose value is added.
        gold: A verifier that is measured into the parts ``gold/...`` and never paid; ``prompts``
            is what the environment of the prompts pays.
        options: Those of ``TextEnv``.
    """

    def __init__(
        self,
        *,
        prompts: Any = None,
        reward_models: Sequence[Mapping[str, Any]] | None = None,
        combine: str | Mapping[str, Any] = "sum",
        rules: Sequence[Mapping[str, Any]] = (),
        length: Mapping[str, Any] | None = None,
        repetition: Mapping[str, Any] | None = None,
        gold: Any = None,
        **options: Any,
    ) -> None:
        name = type(self).__name__
        if reward_models is None and prompts is not None:
            raise DataError(f"{name}: no reward_models; such as [{{path: FOLDER}}]")
        super().__init__(prompts=prompts, **options)
        self._models = self._parts("reward_models", reward_models or [{"name": OWN, "as": "own"}])
        self._rules = self._parts("rules", rules)
        self._combination = _combination_of(combine, self._models, f"{name}: combine")
        self._length = _length_guard(length, f"{name}: length")
        self._repetition = _repetition_guard(repetition, f"{name}: repetition")
        self._gold = gold
        labels = [part.label for part in (*self._models, *self._rules)]
        twice = [label for label in labels if labels.count(label) > 1]
        if twice:
            raise DataError(
                f"{name}: two parts of the reward are called {twice[0]!r}; give one as: OTHER"
            )
        if not labels:
            raise DataError(f"{name}: reward_models is empty; name at least one")
        if gold is not None:
            self.verifier_of(gold, f"{name}: gold")

    @property
    def judging(self) -> Verifier:
        """What judges completions, also outside an episode; built once and shared by clones."""
        if self._judge is None:
            gold = None if self._gold is None else self.verifier_of(self._gold, "gold")
            self._judge = LearnedJudge(
                models=tuple(self._models),
                rules=tuple(self._rules),
                combination=self._combination,
                shown=self.shown_row,
                length=self._length,
                repetition=self._repetition,
                gold=gold,
            )
        return self._judge

    def clone(self) -> Self:
        """Another environment; it shares what judges, with its connections and networks."""
        _ = self.judging
        return super().clone()

    def prepare(self) -> None:
        """Let every part find out now what it needs: a network, an endpoint, a sandbox."""
        judge = self.judging
        assert isinstance(judge, LearnedJudge)
        judge.prepare()

    def _parts(self, option: str, entries: Any) -> list[Part]:
        """The verifiers of a list of entries, each with its label and weight."""
        place = f"{type(self).__name__}: {option}"
        if isinstance(entries, str | Mapping) or not isinstance(entries, Sequence):
            raise DataError(f"{place} is {entries!r:.60}; it must be a list of mappings")
        many = len(entries) > 1
        return [
            self._part(f"{place}.{n}", entry, f"model_{n + 1}" if many else "model")
            for n, entry in enumerate(entries)
        ]

    def _part(self, place: str, entry: Any, default: str) -> Part:
        """One entry: a mapping, a verifier's name, or a callable."""
        if isinstance(entry, str) or callable(entry):
            entry = {"name": entry}
        if not isinstance(entry, Mapping):
            raise DataError(f"{place} is {entry!r:.60}; it must be a mapping with path or name")
        spec: Any = {key: value for key, value in entry.items() if key not in ("weight", "as")}
        name = spec.get("name")
        if "path" in spec or "url" in spec:
            spec.pop("name", None)  # there it is the label
        label = entry.get("as") or getattr(name, "__name__", name) or default
        if not isinstance(label, str) or not set(label).isdisjoint("./ "):
            raise DataError(f"{place}: the label {label!r:.40} must be a word without . and /")
        weight = entry.get("weight", 1.0)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or weight == 0:
            raise DataError(f"{place}: weight is {weight!r:.40}; it must be a number other than 0")
        if not math.isfinite(weight):
            raise DataError(f"{place}: weight is {weight}; it must be finite")
        return Part(label, self.verifier_of(spec, place), float(weight))


def _combination_of(given: Any, models: Sequence[Part], place: str) -> Combination:
    options = {"rule": given} if isinstance(given, str) else given
    known = ("rule", "threshold", "unsafe_column", "mean", "std")
    chosen = check_keys(place, options, known)
    rule = chosen.get("rule")
    if rule not in COMBINATIONS:
        raise DataError(f"{place}: rule is {rule!r:.40}; it must be {', '.join(COMBINATIONS)}")
    if rule != "llama2" and len(chosen) > 1:
        raise DataError(f"{place}: {max(set(chosen) - {'rule'})} is for the rule llama2")
    return check_combination(Combination(**chosen), models, place)


def _length_guard(given: Any, place: str) -> LengthGuard | None:
    if given is None:
        return None
    known = ("max_length", "buffer", "unit", "penalty", "per_unit")
    return LengthGuard(**check_keys(place, given, known)).checked(place)


def _repetition_guard(given: Any, place: str) -> Verifier | None:
    if given is None or given is False:
        return None
    options = {} if given is True else check_keys(place, given, _REPETITION)
    return make("repetition", **options)
