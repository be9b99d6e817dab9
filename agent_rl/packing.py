"""Segments to tensors: a prompt that a group shares is laid down once, rows padded to their kin.

A row holds *blocks*; a block is a shared prefix followed by branches, each of which sees the prefix
and itself only::

    ids        p0 p1 p2 | a0 a1 | b0 b1 b2 | c0        (one prompt, three completions)
    positions   0  1  2 |  3  4 |  3  4  5 |  3

Attention is a 4-D boolean mask and positions restart, so each branch computes exactly what it would
compute alone. Only positions that predict a sampled token reach the output layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from agent_rl.trajectory import Segment


@dataclass(frozen=True, slots=True)
class Block:
    """A prefix and the segments (by index) that continue it."""

    prefix: tuple[int, ...]
    branches: tuple[int, ...]
    length: int


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """One forward pass: R rows of L positions, of which K predict a token we need.

    Attributes:
        input_ids: [R, L] long, padded with 0.
        position_ids: [R, L] long.
        mask: [R, 1, L, L] bool, True where a query may look.
        select: [K] long, positions within the flattened [R * L].
        targets: [K] long, the tokens predicted there.
        slots: [K] long, where each belongs among all targets of the whole batch.
        n_targets: Targets in the whole batch.
    """

    input_ids: Tensor
    position_ids: Tensor
    mask: Tensor
    select: Tensor
    targets: Tensor
    slots: Tensor
    n_targets: int


def target_offsets(segments: Sequence[Segment]) -> list[int]:
    """Where each segment's targets start in the flat order. A segment without samples has one."""
    offsets, total = [], 0
    for segment in segments:
        offsets.append(total)
        total += max(1, len(segment.sampled))
    return [*offsets, total]


def pack(
    segments: Sequence[Segment],
    *,
    micro_tokens: int,
    share_prompts: bool = True,
    row_tokens: int = 0,
    only: Sequence[int] | None = None,
) -> list[MicroBatch]:
    """Micro-batches that together hold every target of ``segments`` exactly once.

    A segment's targets are its sampled tokens; one with none (a value is wanted after its last
    token) has one target whose token is 0 and means nothing.

    Args:
        segments: What to score; the flat target order is theirs.
        micro_tokens: Most positions (padding included) in one forward pass, unless a single row
            needs more.
        share_prompts: Lay equal prompts down once.
        row_tokens: Longest row into which several blocks or branches are packed; 0 lets a group's
            branches share a row of up to 1024 positions and packs nothing else together.
        only: Indices of the segments to lay down; None for all. The flat order stays that of all.
    """
    chosen = range(len(segments)) if only is None else only
    blocks = _blocks(segments, chosen, share_prompts, row_tokens or 1024)
    rows = _rows(blocks, row_tokens)
    offsets = target_offsets(segments)
    batches: list[list[list[Block]]] = [[]]
    width = 0
    for row in rows:  # rows come longest first, so the first of a batch sets its width
        width = width or sum(b.length for b in row)
        if batches[-1] and width * (len(batches[-1]) + 1) > micro_tokens:
            batches.append([])
            width = sum(b.length for b in row)
        batches[-1].append(row)
    return [_tensors(batch, segments, offsets) for batch in batches if batch]


def _blocks(
    segments: Sequence[Segment], chosen: Sequence[int] | range, share: bool, limit: int
) -> list[Block]:
    groups: dict[object, list[int]] = {}
    for index in chosen:
        segment = segments[index]
        key = segment.ids[: segment.prompt_length] if share else index
        groups.setdefault(key, []).append(index)
    blocks = []
    for members in groups.values():
        first = segments[members[0]]
        prefix = first.ids[: first.prompt_length]
        branches: list[int] = []
        length = len(prefix)
        for index in members:
            extra = len(segments[index].ids) - len(prefix)
            if branches and length + extra > limit:
                blocks.append(Block(prefix, tuple(branches), length))
                branches, length = [], len(prefix)
            branches.append(index)
            length += extra
        blocks.append(Block(prefix, tuple(branches), length))
    return blocks


def _rows(blocks: list[Block], row_tokens: int) -> list[list[Block]]:
    """Longest first; with ``row_tokens``, first-fit-decreasing packing of several to a row."""
    rows: list[list[Block]] = []
    lengths: list[int] = []
    for block in sorted(blocks, key=lambda b: -b.length):
        fits = (i for i, n in enumerate(lengths) if n + block.length <= row_tokens)
        place = next(fits, None) if row_tokens else None
        if place is None:
            rows.append([block])
            lengths.append(block.length)
        else:
            rows[place].append(block)
            lengths[place] += block.length
    return rows


@dataclass(slots=True)
class _Line:
    """One row under construction: four lists over positions, three over targets."""

    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    block: list[int] = field(default_factory=list)
    branch: list[int] = field(default_factory=list)
    select: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)

    def add(self, ids: Sequence[int], first_position: int, block: int, branch: int) -> None:
        self.ids.extend(ids)
        self.positions.extend(range(first_position, first_position + len(ids)))
        self.block.extend([block] * len(ids))
        self.branch.extend([branch] * len(ids))


def _lay(row: list[Block], segments: Sequence[Segment], offsets: list[int]) -> _Line:
    line = _Line()
    for number, block in enumerate(row):
        start, n_prefix = len(line.ids), len(block.prefix)
        line.add(block.prefix, 0, number, 0)
        for branch, index in enumerate(block.branches, start=1):
            segment = segments[index]
            shift = len(line.ids) - n_prefix  # the segment's id p stands at p + shift in the row
            line.add(segment.ids[n_prefix:], n_prefix, number, branch)
            # The token at p is predicted at p - 1; without samples the last position is wanted.
            wanted = [p - 1 for p in segment.sampled] or [len(segment.ids) - 1]
            line.select.extend(p + (start if p < n_prefix else shift) for p in wanted)
            line.targets.extend([segment.ids[p] for p in segment.sampled] or [0])
            line.slots.extend(range(offsets[index], offsets[index] + len(wanted)))
    return line


def _tensors(
    rows: list[list[Block]], segments: Sequence[Segment], offsets: list[int]
) -> MicroBatch:
    lines = [_lay(row, segments, offsets) for row in rows]
    width = max(len(line.ids) for line in lines)

    def padded(lists: list[list[int]], fill: int) -> Tensor:
        return torch.tensor([values + [fill] * (width - len(values)) for values in lists])

    def joined(lists: list[list[int]]) -> Tensor:
        return torch.tensor([value for values in lists for value in values], dtype=torch.long)

    return MicroBatch(
        input_ids=padded([line.ids for line in lines], 0),
        position_ids=padded([line.positions for line in lines], 0),
        mask=_mask(padded([x.block for x in lines], -1), padded([x.branch for x in lines], -1)),
        select=joined([[r * width + p for p in x.select] for r, x in enumerate(lines)]),
        targets=joined([line.targets for line in lines]),
        slots=joined([line.slots for line in lines]),
        n_targets=offsets[-1],
    )


def _mask(block: Tensor, branch: Tensor) -> Tensor:
    """[R, 1, L, L]: a query sees, at or before itself, its block's prefix and its own branch.

    Padding is a block of its own, so it sees padding and nothing sees it.
    """
    n = block.shape[1]
    causal = torch.ones(n, n, dtype=torch.bool).tril()
    same_block = block[:, :, None] == block[:, None, :]
    visible = (branch[:, None, :] == 0) | (branch[:, :, None] == branch[:, None, :])
    return (causal & same_block & visible)[:, None]
