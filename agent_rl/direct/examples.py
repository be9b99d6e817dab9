"""Preferences as ids: pairs that share a prompt, or single answers that are desirable or not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agent_rl.chat import Chat
from agent_rl.config.dpo import DPOConfig
from agent_rl.errors import UserError
from agent_rl.preferences import load_pairs
from agent_rl.preferences.pairs import MOST_HELD_OUT, MOST_UNUSABLE, prompt_key
from agent_rl.preferences.rows import Unusable, read_completions, read_prompt
from agent_rl.trajectory import Segment
from rl_envs import bucket, load_rows
from rl_envs.types import Message

MOST_TOO_LONG = 0.5  # of the examples of a split
TOO_LONG, SAME_IDS = "too long", "the same tokens"


@dataclass(frozen=True, slots=True)
class Example:
    """One element of a batch.

    Attributes:
        segments: The chosen and the rejected answer, or one judged answer; prompts are equal.
        labels: Whether each is desirable.
        others: KTO's mismatched answers, one for each segment: the same prompt with an answer to
            another one.
        reference: Log-likelihood under the reference of each of ``segments``, then ``others``;
            empty until it was computed.
    """

    segments: tuple[Segment, ...]
    labels: tuple[bool, ...] = (True, False)
    others: tuple[Segment, ...] = ()
    reference: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Judged:
    """An example before it is tokenized: a prompt, its answers, and whether each is desirable."""

    place: str
    prompt: tuple[Message, ...]
    answers: tuple[str, ...]
    labels: tuple[bool, ...] = (True, False)


def load_judged(
    config: DPOConfig, split: str, tell: Callable[[str], None] | None = None
) -> list[Judged]:
    """The preferences of a file that belong to a split, decided by the hash of the prompt alone.

    Args:
        config: Names the file, the loss, and how many are held out.
        split: ``train`` or ``test``.
        tell: Gets a line about rows that were left out.

    Raises:
        UserError: A row of another form, single answers for a loss of pairs, nothing to train on.
        DataError: A file that cannot be read.
    """
    path = config.data.path
    first = load_rows(path)[0]
    if "label" not in first or "chosen" in first:
        pairs = load_pairs(path, n_held_out=config.held_out, split=split, tell=tell)
        return [Judged(f"{path}, pair {p.id}", p.prompt, (p.chosen, p.rejected)) for p in pairs]
    if config.loss.kind != "kto":
        raise UserError(
            f"{path} has single answers with a label, which loss.kind={config.loss.kind} cannot "
            "use: it needs pairs (chosen and rejected); set loss.kind to kto, or give pairs"
        )
    return _labelled(path, split, config.held_out)


def encode(
    judged: Sequence[Judged], chat: Chat, max_tokens: int, *, where: str, split: str = "train"
) -> tuple[list[Example], dict[str, int]]:
    """Examples as ids, and how many were left out for what reason.

    An answer keeps its end token; nothing is truncated, so no two answers become equal by it. Left
    out are examples that are longer than ``max_tokens`` and pairs whose answers are the same
    tokens (they differ in what the tokenizer does not see): a loss of log 2 for ever.

    Args:
        judged: What to encode.
        chat: Makes ids.
        max_tokens: Most tokens of a prompt with one of its answers.
        where: The file, for messages.
        split: Their split; only of ``train`` must some be left.

    Raises:
        UserError: More than half are too long, more than 5 % are the same tokens, or none is left.
    """
    made: list[Example] = []
    left_out = Counter[str]()
    first_same = ""
    for one in judged:
        prompt = tuple(chat.prompt_ids(one.prompt))
        segments = tuple(_segment(prompt, chat.completion_ids(answer)) for answer in one.answers)
        if max(len(segment.ids) for segment in segments) > max_tokens:
            left_out[TOO_LONG] += 1
        elif len(segments) == 2 and segments[0] == segments[1]:
            left_out[SAME_IDS] += 1
            first_same = first_same or one.place
        else:
            made.append(Example(segments, one.labels))
    if left_out[TOO_LONG] > MOST_TOO_LONG * len(judged):
        raise UserError(
            f"{where}: {left_out[TOO_LONG]} of {len(judged)} examples are longer than {max_tokens} "
            "tokens (prompt and answer); raise max_tokens, or take a model with a longer context"
        )
    if left_out[SAME_IDS] > MOST_UNUSABLE * len(judged):
        raise UserError(
            f"{first_same}: chosen and rejected are the same tokens, and so are "
            f"{left_out[SAME_IDS]} of {len(judged)} pairs; remove them, or take a tokenizer that "
            "knows their characters"
        )
    if not made and split == "train":
        raise UserError(f"{where}: no example is left to train on")
    return made, {reason: n for reason, n in left_out.items() if n}


def with_mismatches(examples: Sequence[Example], max_tokens: int, where: str) -> list[Example]:
    """The examples with KTO's mismatched answers: those of the next example with another prompt.

    Ethayarajh et al. 2024 (arXiv:2402.01306) shift the answers within a batch; here they are
    shifted in the file, so that their reference likelihoods can be computed once. Cut to
    ``max_tokens``.

    Raises:
        UserError: All prompts are equal.
    """
    prompts = [_prompt_of(example) for example in examples]
    if len(set(prompts)) < 2:
        raise UserError(f"{where}: kto compares with answers to other prompts; give two or more")
    n, made = len(examples), []
    donors = [0] * n
    for number in reversed(range(2 * n)):  # twice round, so the last know of the first
        here, after = number % n, (number + 1) % n
        donors[here] = after if prompts[after] != prompts[here] else donors[after]
    for number, example in enumerate(examples):
        room = max_tokens - len(prompts[number])
        answers = [s.ids[s.prompt_length :][:room] for s in examples[donors[number]].segments]
        others = tuple(
            _segment(prompts[number], answers[min(n, len(answers) - 1)])
            for n in range(len(example.segments))
        )
        made.append(replace(example, others=others))
    return made


def _segment(prompt: tuple[int, ...], answer: Sequence[int]) -> Segment:
    ids = (*prompt, *answer)
    return Segment(ids, tuple(range(len(prompt), len(ids))), len(prompt))


def _prompt_of(example: Example) -> tuple[int, ...]:
    segment = example.segments[0]
    return segment.ids[: segment.prompt_length]


def _labelled(path: str, split: str, n_held_out: int) -> list[Judged]:
    rows = [_row(row, f"{path}, row {n}") for n, row in enumerate(load_rows(path), start=1)]
    share = min(MOST_HELD_OUT, n_held_out / len(rows))
    splits = [bucket(prompt_key(row.prompt), share) for row in rows]
    if "train" not in splits:
        raise UserError(
            f"{path}: all {len(rows)} rows are held out and none is left to train on; add rows "
            "with other prompts, or set held_out to 0"
        )
    return [row for row, its in zip(rows, splits, strict=True) if its == split]


def _row(row: Mapping[str, Any], where: str) -> Judged:
    if any(row.get(name) is None for name in ("prompt", "completion", "label")):
        raise UserError(
            f"{where}: needs prompt, completion and label; it has {', '.join(map(str, row))}"
        )
    try:
        prompt = read_prompt(row["prompt"], f"{where}: prompt")
        (answer,) = read_completions([row["completion"]], where)
    except Unusable as reason:
        raise UserError(f"{where}: {reason}; remove or correct it") from reason
    if not answer.strip():
        raise UserError(f"{where}: the completion is empty; remove or correct it")
    given = row["label"].lower() if isinstance(row["label"], str) else row["label"]
    known = {True: True, False: False, "true": True, "false": False, "1": True, "0": False}
    if not isinstance(given, bool | int | str) or given not in known:
        raise UserError(f"{where}: label is {given!r:.40}; it must be true or false")
    return Judged(where, prompt, (answer,), (known[given],))
