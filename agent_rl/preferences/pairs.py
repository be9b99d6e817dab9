"""Pairs of a preferred and a rejected answer, read from files of any usual convention."""

from __future__ import annotations

import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

from agent_rl.errors import UserError
from agent_rl.preferences.rows import Convention, Unusable, convention_of, read_row
from rl_envs import bucket, content_id, load_rows
from rl_envs.types import Message

MOST_HELD_OUT = 0.25  # of the pairs of a file
MOST_UNUSABLE = 0.05  # of its rows


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to the same prompt, one of them preferred.

    Attributes:
        prompt: The conversation that both answer.
        chosen: The preferred answer, as text.
        rejected: The other one.
        margin: By how much it is preferred (a difference of rewards, a rating); None if unknown.
        id: Names the item; by default made from the prompt and the two answers in either order.
        info: Any other columns of the row; ``ranking`` joins the pairs of a K-wise ranking.
        tie: Neither was preferred; ``chosen`` and ``rejected`` are in no order then.
        annotator: Who preferred it; empty if unknown.
    """

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    margin: float | None = None
    id: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)
    tie: bool = False
    annotator: str = ""

    @property
    def item(self) -> str:
        """The same for the same prompt and answers, whichever of them was preferred."""
        return content_id(list(self.prompt), sorted((self.chosen, self.rejected)))

    def row(self) -> dict[str, Any]:
        """The pair in TRL's columns, as a stage or ``agent-rl label`` writes it."""
        row: dict[str, Any] = {
            "prompt": [dict(message) for message in self.prompt],
            "chosen": [{"role": "assistant", "content": self.chosen}],
            "rejected": [{"role": "assistant", "content": self.rejected}],
            "id": self.id,
        }
        row |= {} if self.margin is None else {"margin": self.margin}
        row |= {"tie": True} if self.tie else {}
        row |= {"annotator": self.annotator} if self.annotator else {}
        return {**self.info, **row}


@dataclass(frozen=True, slots=True)
class PairFile:
    """What a file of preferences holds.

    Attributes:
        path: The file.
        pairs: In its order, ties among them.
        rows: How many rows there are; a ranking of K completions is one row and many pairs.
        convention: How its columns are to be read.
        left_out: Why rows could not be used, and how many.
        first: The first row of each reason.
    """

    path: str
    pairs: list[Pair]
    rows: int
    convention: Convention
    left_out: Counter[str]
    first: Mapping[str, int]

    def note(self) -> str:
        """One line about the rows that were left out; empty if there are none."""
        if not self.left_out:
            return ""
        why = "; ".join(
            f"{n} {reason} (first: row {self.first[reason]})"
            for reason, n in self.left_out.most_common()
        )
        return f"{self.path}: {sum(self.left_out.values())} of {self.rows} rows left out: {why}"


def read_pairs(path: str, *, most_unusable: float = MOST_UNUSABLE) -> PairFile:
    """Every pair of a file, ties included.

    Args:
        path: Whatever ``rl_envs.load_rows`` reads. The columns are TRL's ``prompt``, ``chosen``,
            ``rejected`` (texts or lists of messages), or ``chosen`` and ``rejected`` as whole
            conversations (lists, Anthropic's transcripts, or texts with a common beginning), or
            ``prompt``, ``completions`` and ``ranks`` (1 is best) or ``scores``; and optionally
            ``margin``, ``id``, ``annotator``, ``tie``.
        most_unusable: The largest share of rows that may be left out since they teach nothing:
            equal or empty answers, another conversation on each side. 0 refuses the first one.

    Raises:
        UserError: A row of the wrong form, another convention than the first row's, or too many
            unusable rows; each in one line with the file, the row and what to do.
        DataError: A file that cannot be read.
    """
    rows = load_rows(path)
    convention: Convention | None = None
    like = 1  # the row that set it
    pairs: list[Pair] = []
    left_out: Counter[str] = Counter()
    first: dict[str, int] = {}
    for number, row in enumerate(rows, start=1):
        where = f"{path}, row {number}"
        try:
            found = convention_of(row, where)
            if convention is None:
                convention, like = found, number
            if found != convention:
                raise UserError(
                    f"{where}: is {found.value}, but row {like} is {convention.value}; give all "
                    "rows the same columns, or make two files of them"
                )
            pairs += _pairs_of(row, convention, where)
        except Unusable as reason:
            left_out[str(reason)] += 1
            first.setdefault(str(reason), number)
    convention = convention or Convention.EXPLICIT  # no row has both answers: refused below
    file = PairFile(path, pairs, len(rows), convention, left_out, first)
    _refuse_unusable(file, most_unusable)
    return file


def load_pairs(
    path: str | Sequence[str],
    *,
    n_held_out: int = 0,
    split: str = "train",
    ties: bool = False,
    most_unusable: float = MOST_UNUSABLE,
    tell: Callable[[str], None] | None = None,
) -> list[Pair]:
    """The pairs of some files that belong to a split; see ``read_pairs`` for what is read.

    About ``n_held_out`` pairs and at most a quarter are ``test``, decided by ``prompt_key`` alone:
    no prompt is in both, and order changes nothing.

    Args:
        path: The file, or several, which are split as one.
        n_held_out: About how many pairs are held out; 0 for none.
        split: ``test`` for those held out, ``train`` for the others.
        ties: Give ties too.
        most_unusable: As in ``read_pairs``.
        tell: Gets the line about rows left out, once, with ``train``; by default it goes to
            standard error.

    Raises:
        UserError: As ``read_pairs``, or nothing is left to train on.
        DataError: A file that cannot be read.
        ValueError: There is no such split.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split is {split!r}; it must be train or test")
    paths = [path] if isinstance(path, str) else list(path)
    files = [read_pairs(each, most_unusable=most_unusable) for each in paths]
    if split == "train":
        for note in filter(None, (file.note() for file in files)):
            (tell or _to_stderr)(note)
    found = [pair for file in files for pair in file.pairs]
    pairs = [pair for pair in found if ties or not pair.tie]
    named = ", ".join(paths)
    if not pairs:
        raise UserError(f"{named}: all {len(found)} pairs are ties and nothing is preferred")
    share = min(MOST_HELD_OUT, n_held_out / len(pairs))
    splits = [bucket(prompt_key(pair.prompt), share) for pair in pairs]
    if "train" not in splits:
        raise UserError(
            f"{named}: all {len(pairs)} pairs are held out and none is left to train on; "
            "add pairs with other prompts, or hold out none"
        )
    return [pair for pair, its in zip(pairs, splits, strict=True) if its == split]


def prompt_key(prompt: Sequence[Message]) -> str:
    """Decides the split of a prompt: the same whatever blanks and line ends its texts end with."""
    return content_id(
        [
            {**message, "content": unicodedata.normalize("NFC", content).strip()}
            for message in prompt
            for content in [message["content"].replace("\r\n", "\n")]
        ]
    )


def grouped(pairs: Sequence[Pair]) -> list[list[Pair]]:
    """The pairs by prompt, in the order of the first of each.

    InstructGPT (arXiv 2203.02155, section 3.5) trains on all pairs of a prompt as one element of a
    batch: each answer is read once, and none is seen in several updates of an epoch.
    """
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(content_id(list(pair.prompt)), []).append(pair)
    return list(groups.values())


def _pairs_of(row: Mapping[str, Any], convention: Convention, where: str) -> list[Pair]:
    read = read_row(row, convention, where)
    if convention is not Convention.RANKING:
        chosen, rejected = read.answers
        about = (read.margin, read.id, read.info, read.tie, read.annotator)
        return [_named(Pair(read.prompt, chosen, rejected, *about))]
    name = read.id or content_id(list(read.prompt), sorted(read.answers))
    pairs = []
    for (a, high), (b, low) in combinations(zip(read.answers, read.scores, strict=True), 2):
        if a == b:
            continue
        better, worse = (a, b) if high >= low else (b, a)
        gap = abs(high - low) if read.scores_count else None
        info = {**read.info, "ranking": name}
        pair = Pair(read.prompt, better, worse, gap, "", info, high == low, read.annotator)
        pairs.append(_named(pair))
    return pairs


def _named(pair: Pair) -> Pair:
    return pair if pair.id else replace(pair, id=pair.item)


def _refuse_unusable(file: PairFile, most: float) -> None:
    n = sum(file.left_out.values())
    if n <= most * file.rows and file.pairs:
        return
    reason, number = next(iter(file.first.items()))
    if n == 1:
        raise UserError(f"{file.path}, row {number}: {reason}; remove or correct it")
    raise UserError(
        f"{file.path}, row {number}: {reason}; {n} of {file.rows} rows are unusable "
        f"(at most {most:.0%} are left out); remove or correct them"
    )


def _to_stderr(line: str) -> None:
    print(f"note: {line}", file=sys.stderr, flush=True)
