"""What there is to label: two answers to a prompt, from pairs or from groups of completions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from agent_rl.errors import UserError
from agent_rl.preferences.pairs import Pair, read_pairs
from agent_rl.preferences.rows import Unusable, read_completions, read_prompt
from rl_envs import content_id, load_rows
from rl_envs.types import Message

SIDED = ("_chosen", "_rejected")
JUDGED = ("margin", "tie", "annotator", "chosen_position", "item", "seconds", "labelled_at")


@dataclass(frozen=True, slots=True)
class Item:
    """Two answers to compare.

    Attributes:
        key: Made from the prompt and the two answers: equal content, equal key.
        prompt: What they answer.
        answers: The two, in no order that means anything.
        id: As the file names the row, or the key.
        info: Other columns, without what another labelling left there.
    """

    key: str
    prompt: tuple[Message, ...]
    answers: tuple[str, str]
    id: str
    info: Mapping[str, Any] = field(default_factory=dict)


def load_items(
    path: str, *, per_prompt: int = 1, seed: int = 0, tell: Callable[[str], None] | None = None
) -> list[Item]:
    """The items of a file, in its order, each once.

    Args:
        path: Pairs in any convention of ``agent_rl.preferences`` (their order is forgotten), rows
            with ``prompt`` and a list ``completions``, or rows with ``prompt`` and ``completion``,
            several of each prompt.
        per_prompt: Pairs drawn from more than two completions of a prompt; 0 for all.
        seed: Of that draw.
        tell: Gets a line about rows of pairs that cannot be compared, where there are any.

    Raises:
        UserError: A row that is none of these, or nothing to compare.
        DataError: A file that cannot be read.
    """
    rows = load_rows(path)
    if "chosen" in rows[0] or "ranks" in rows[0] or "scores" in rows[0]:
        file = read_pairs(path, most_unusable=1.0)
        pairs = file.pairs
        if tell and file.left_out:
            tell(file.note())
    else:
        pairs = [p for group in _groups(rows, path) for p in _drawn(*group, per_prompt, seed)]
    items: dict[str, Item] = {}
    for pair in pairs:
        key = pair.item
        answers = sorted((pair.chosen, pair.rejected))
        name = pair.id or key
        items.setdefault(
            key, Item(key, pair.prompt, (answers[0], answers[1]), name, _blind(pair.info))
        )
    if not items:
        raise UserError(f"{path}: there are no two different answers to one prompt; add some")
    return list(items.values())


Group = tuple[tuple[Message, ...], list[str], dict[str, Any]]


def _groups(rows: list[dict[str, Any]], path: str) -> Iterator[Group]:
    """Prompts with all their completions and the other columns."""
    singles: dict[str, Group] = {}
    for number, row in enumerate(rows, start=1):
        where = f"{path}, row {number}"
        one, many = row.get("completion"), row.get("completions")
        if row.get("prompt") is None or (one is None and many is None):
            found = ", ".join(map(str, row)) or "nothing"
            raise UserError(
                f"{where}: needs chosen and rejected, or prompt and completions, or prompt and "
                f"completion; it has {found}"
            )
        try:
            prompt = read_prompt(row["prompt"], f"{where}: prompt")
        except Unusable as reason:
            raise UserError(f"{where}: {reason}; say what is asked") from None
        if many is not None:
            texts = read_completions(many, where)
            own = ("prompt", "completions")
            yield prompt, texts, {name: v for name, v in row.items() if name not in own}
            continue
        group = singles.setdefault(content_id(list(prompt)), (prompt, [], {}))
        group[1].extend(read_completions([one], where))
    yield from singles.values()


def _drawn(
    prompt: tuple[Message, ...], texts: list[str], info: dict[str, Any], n: int, seed: int
) -> list[Pair]:
    """Some pairs of different completions; which, depends on the seed and the texts alone."""
    different = list(dict.fromkeys(text for text in texts if text.strip()))
    pairs = list(combinations(different, 2))
    if n and len(pairs) > n:
        rng = np.random.default_rng((seed, int(content_id(list(prompt), different), 16)))
        pairs = [pairs[i] for i in sorted(rng.choice(len(pairs), n, replace=False))]
    name = "" if info.get("id") is None or len(pairs) > 1 else str(info["id"])
    return [Pair(prompt, a, b, id=name, info=info) for a, b in pairs]


def _blind(info: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in info.items()
        if name not in (*JUDGED, "id") and not name.endswith(SIDED)
    }
