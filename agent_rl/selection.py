"""Which samples are kept, and a random control that differs from them in nothing but the choice."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from agent_rl.rollout import seed_of

Select = Literal["top_per_prompt", "top_overall", "threshold"]
TIES, CONTROL = 50_021, 50_023  # mixed into seeds


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sample that may be kept.

    Attributes:
        group: Number of its prompt.
        sample: Its number within the prompt.
        score: What decides; higher is better.
        content: Equal for equal completions.
    """

    group: int
    sample: int
    score: float
    content: Hashable


def ranked(candidates: Iterable[Candidate], seed: int) -> list[Candidate]:
    """From the best to the worst; equal scores in an order drawn by the seed.

    So that of many equal scores no prompt comes first because it stands first.
    """
    return sorted(candidates, key=lambda c: (-c.score, seed_of(seed, TIES, c.group, c.sample)))


def distinct(candidates: Iterable[Candidate]) -> list[Candidate]:
    """The first of equal completions of each prompt."""
    first: dict[tuple[int, Hashable], Candidate] = {}
    for candidate in candidates:
        first.setdefault((candidate.group, candidate.content), candidate)
    return list(first.values())


def by_group(candidates: Iterable[Candidate]) -> dict[int, list[Candidate]]:
    """The candidates of each prompt, in their order."""
    groups: dict[int, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        groups[candidate.group].append(candidate)
    return dict(groups)


def selected(
    candidates: Sequence[Candidate],
    select: Select,
    *,
    keep: int = 1,
    threshold: float | None = None,
    seed: int = 0,
) -> list[Candidate]:
    """The samples that are kept, from the best to the worst within each prompt.

    ``top_per_prompt`` is the best-of-n of each prompt (Llama 2, section 3.2.2), ``top_overall`` the
    best of all prompts together, ``threshold`` every sample that is good enough (rejection sampling
    fine-tuning: Yuan et al. 2023, arXiv 2308.01825, with solved samples).

    Args:
        candidates: All that may be kept.
        select: How.
        keep: How many, per prompt or in all.
        threshold: Nothing below it is kept; None for no limit.
        seed: Decides between equal scores.
    """
    fair = [c for c in candidates if threshold is None or c.score >= threshold]
    best = ranked(fair, seed)
    if select == "top_overall":
        best = best[:keep]
    groups = by_group(best)
    most = keep if select == "top_per_prompt" else len(best)
    return [c for group in sorted(groups) for c in groups[group][:most]]


def matched_control(
    candidates: Sequence[Candidate], chosen: Sequence[Candidate], seed: int = 0
) -> list[Candidate]:
    """As many samples of each prompt as were chosen, drawn at random from all of that prompt.

    The same prompts and the same numbers of rows: what differs is the scores alone.

    Args:
        candidates: All that might have been chosen, those below the threshold included.
        chosen: What was.
        seed: Of the draws; each prompt has draws of its own.
    """
    counts = Counter(c.group for c in chosen)
    pools = by_group(sorted(candidates, key=lambda c: (c.group, c.sample)))
    drawn = []
    for group, count in sorted(counts.items()):
        rng = np.random.default_rng(seed_of(seed, CONTROL, group))
        places = rng.choice(len(pools[group]), count, replace=False)
        drawn += [pools[group][place] for place in sorted(places)]
    return drawn
