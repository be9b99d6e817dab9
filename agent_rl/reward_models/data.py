"""What a reward model learns from: pairs, rankings, answers with a label, or labelled steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agent_rl.chat import Chat
from agent_rl.config.reward_model import RewardModelConfig
from agent_rl.errors import UserError
from agent_rl.preferences import Pair, grouped, load_pairs
from agent_rl.preferences.pairs import prompt_key
from agent_rl.reward_models.encoding import answer_segments, steps_segment
from agent_rl.reward_models.model import Kind
from agent_rl.trajectory import Segment
from rl_envs import bucket, load_rows
from rl_envs.types import Message

MOST_HELD_OUT = 0.25  # of the rows of a file, as for pairs
CATEGORIES = ("category", "source", "subset", "dataset")


@dataclass(frozen=True, slots=True)
class Item:
    """One element of a batch, before it is tokenized.

    Attributes:
        prompt: What is answered.
        answers: The answers; a pair's are the chosen and the rejected one, of ``process`` its one
            answer's steps.
        pairs: (better, worse) indices of answers, for the kinds that compare.
        margins: How much better, of each pair; 0 where it is not known.
        labels: Of each answer or step, for the other kinds.
        categories: Of each pair, or one.
    """

    prompt: tuple[Message, ...]
    answers: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...] = ()
    margins: tuple[float, ...] = ()
    labels: tuple[float, ...] = ()
    categories: tuple[str, ...] = ("",)


@dataclass(frozen=True, slots=True)
class Example:
    """An item as the model reads it.

    Attributes:
        item: Where it comes from.
        segments: One for each answer; one with a target for each step, of ``process``.
        n_tokens: Tokens that are read, the shared prompt once.
    """

    item: Item
    segments: tuple[Segment, ...]
    n_tokens: int


def load_items(
    config: RewardModelConfig, split: str, tell: Callable[[str], None] | None = None
) -> list[Item]:
    """The items of all files that belong to a split, decided by the hash of the prompt alone.

    Args:
        config: Names the files, the kind, and how many are held out.
        split: ``train`` or ``test``.
        tell: Gets a line about rows that were left out.

    Raises:
        UserError: A row of another form, or nothing to train on.
        DataError: A file that cannot be read.
    """
    paths, n_held_out = config.data.files, config.held_out
    if config.kind in ("bradley_terry", "ranking"):
        pairs = load_pairs(paths, n_held_out=n_held_out, split=split, tell=tell)
        if config.kind == "ranking":
            return [_of_group(group) for group in grouped(pairs)]
        return [_of_group([pair]) for pair in pairs]
    read = _steps_row if config.kind == "process" else _outcome_row
    items = []
    for path in paths:
        for number, row in enumerate(load_rows(path), start=1):
            where = f"{path}, row {number}"
            items.append(read(row, where))
            if config.kind == "process":
                _refuse_separator(items[-1].answers, config.step_separator, where)
    share = min(MOST_HELD_OUT, n_held_out / max(1, len(items)))
    splits = [bucket(prompt_key(item.prompt), share) for item in items]
    if "train" not in splits:
        raise UserError(
            f"{', '.join(paths)}: all {len(items)} rows are held out and none is left to train "
            "on; add rows with other prompts, or set held_out to 0"
        )
    return [item for item, its in zip(items, splits, strict=True) if its == split]


def encode(
    item: Item, kind: Kind, chat: Chat, *, max_tokens: int, step_separator: str = "\n"
) -> Example:
    """The item as ids.

    Raises:
        UserError: An answer in steps that is longer than ``max_tokens`` by itself.
    """
    if kind == "process":
        segments = [steps_segment(chat, item.prompt, item.answers, step_separator, max_tokens)]
        if len(segments[0].sampled) < len(item.answers):
            raise UserError(
                f"data: an answer in steps is longer than {max_tokens} tokens, so its first steps "
                "would not be read; raise max_tokens or remove the row"
            )
    else:
        segments = answer_segments(chat, item.prompt, item.answers, max_tokens)
    shared = segments[0].prompt_length
    n_tokens = shared + sum(len(s.ids) - shared for s in segments)
    return Example(item, tuple(segments), n_tokens)


def batch_order(n: int, seed: int, batch_size: int, step: int) -> list[int]:
    """The items of step ``step`` (from 0): one shuffled pass after another, a function of the seed.

    The last batch of a pass may be smaller.
    """
    steps_per_pass = -(-n // batch_size)
    epoch, place = divmod(step, steps_per_pass)
    order = np.random.default_rng([seed, epoch]).permutation(n)
    return [int(i) for i in order[place * batch_size : (place + 1) * batch_size]]


def _of_group(group: Sequence[Pair]) -> Item:
    """Every answer of a prompt once, and all its pairs."""
    answers = tuple(dict.fromkeys(a for pair in group for a in (pair.chosen, pair.rejected)))
    place = {answer: index for index, answer in enumerate(answers)}
    return Item(
        prompt=group[0].prompt,
        answers=answers,
        pairs=tuple((place[pair.chosen], place[pair.rejected]) for pair in group),
        margins=tuple(pair.margin or 0.0 for pair in group),
        categories=tuple(_category(pair.info) for pair in group),
    )


def _category(row: Mapping[str, Any]) -> str:
    return next((str(row[name]) for name in CATEGORIES if row.get(name) is not None), "")


def _outcome_row(row: Mapping[str, Any], where: str) -> Item:
    if any(row.get(name) is None for name in ("prompt", "completion", "label")):
        found = ", ".join(map(str, row))
        raise UserError(f"{where}: needs prompt, completion and label; it has {found}")
    answer = _answer(row["completion"], f"{where}: completion")
    label = _label(row["label"], f"{where}: label")
    prompt = _prompt(row["prompt"], f"{where}: prompt")
    return Item(prompt, (answer,), labels=(label,), categories=(_category(row),))


def _steps_row(row: Mapping[str, Any], where: str) -> Item:
    """A row of TRL's stepwise type."""
    steps, labels = row.get("completions"), row.get("labels")
    if row.get("prompt") is None or not isinstance(steps, list) or not isinstance(labels, list):
        found = ", ".join(map(str, row))
        raise UserError(
            f"{where}: needs prompt, completions (a list of steps) and labels; it has {found}"
        )
    if len(steps) != len(labels) or not steps:
        raise UserError(f"{where}: {len(steps)} completions (steps) but {len(labels)} labels")
    return Item(
        _prompt(row["prompt"], f"{where}: prompt"),
        tuple(_answer(step, f"{where}: completions") for step in steps),
        labels=tuple(_label(label, f"{where}: labels") for label in labels),
        categories=(_category(row),),
    )


def _refuse_separator(steps: Sequence[str], separator: str, where: str) -> None:
    """An answer to score is split at the separator, so no step may hold it."""
    for step in steps:
        if separator in step:
            raise UserError(
                f"{where}: a step holds the separator {separator!r}, at which answers are split; "
                "set step_separator to what stands between steps only, such as '\\n\\n'"
            )


def _prompt(given: Any, where: str) -> tuple[Message, ...]:
    if isinstance(given, str):
        return ({"role": "user", "content": given},)
    return tuple(_messages(given, where))


def _answer(given: Any, where: str) -> str:
    if not isinstance(given, str):
        messages = _messages(given, where)
        if len(messages) != 1 or messages[0]["role"] != "assistant":
            raise UserError(f"{where}: must be a text, or one message of the assistant")
        given = messages[0]["content"]
    if not given.strip():
        raise UserError(f"{where}: is empty; remove the row or give the answer")
    return given


def _messages(given: Any, where: str) -> list[Message]:
    whole = isinstance(given, list) and all(
        isinstance(m, Mapping)
        and isinstance(m.get("role"), str)
        and isinstance(m.get("content"), str)
        for m in given
    )
    if not whole or not given:
        raise UserError(f"{where}: must be a text or a list of {{role, content}}, both texts")
    return [Message(role=m["role"], content=m["content"]) for m in given]


def _label(given: Any, where: str) -> float:
    known = {True: 1.0, False: 0.0, "true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0}
    word = given.lower() if isinstance(given, str) else given
    if isinstance(word, bool | str) and word in known:
        return known[word]
    if isinstance(word, int | float) and 0 <= word <= 1:
        return float(word)
    raise UserError(f"{where} is {given!r:.40}; it must be true or false, or from 0 to 1")
