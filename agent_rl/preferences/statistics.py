"""What a set of preferences is like: ties, biases, contradictions, and how far annotators agree."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from itertools import combinations, product
from typing import Any

from agent_rl.preferences.pairs import Pair
from agent_rl.runs.statistics import wilson_interval
from rl_envs import bucket, content_id

LEFT, RIGHT = "left", "right"  # where the chosen answer stood: the column ``chosen_position``


def describe(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Every figure that the pairs give.

    Args:
        pairs: Of one file or several, ties included.

    Returns:
        ``pairs``, ``ties``, ``prompts``, ``annotators`` (labels of each), ``length``, ``position``,
        ``repeats`` and ``agreement``; the last three are as the functions below say.
    """
    labels = Counter(pair.annotator for pair in pairs if pair.annotator)
    return {
        "pairs": len(pairs),
        "ties": sum(pair.tie for pair in pairs),
        "prompts": len({content_id(list(pair.prompt)) for pair in pairs}),
        "annotators": dict(sorted(labels.items())),
        "length": length_bias(pairs),
        "position": position_bias(pairs),
        "repeats": repeats(pairs),
        "agreement": agreement(pairs),
    }


def length_bias(pairs: Iterable[Pair]) -> dict[str, Any]:
    """Whether the longer answer (in characters) is preferred; ties do not count.

    Returns:
        ``chosen_chars`` and ``rejected_chars`` (means), ``n`` pairs of different length,
        ``longer_chosen`` (a share of them) with its 95 % Wilson ``interval``, and ``accuracy`` of a
        classifier that knows only which answer is longer, over all pairs: it learns on one half of
        the prompts whether longer or shorter wins and is measured on the other, both ways; equal
        lengths count one half.
    """
    decided = [pair for pair in pairs if not pair.tie]
    gaps = [len(pair.chosen) - len(pair.rejected) for pair in decided]
    longer, n = sum(gap > 0 for gap in gaps), sum(gap != 0 for gap in gaps)
    halves: dict[str, list[int]] = defaultdict(list)
    for pair, gap in zip(decided, gaps, strict=True):
        halves[bucket(content_id(list(pair.prompt)), 0.5)].append(gap)
    right = 0.0
    for learned, measured in (("train", "test"), ("test", "train")):
        balance = sum((gap > 0) - (gap < 0) for gap in halves[learned])
        sign = 1 if balance >= 0 else -1
        right += sum(0.5 if gap == 0 else float(gap * sign > 0) for gap in halves[measured])
    return {
        "chosen_chars": _mean([len(pair.chosen) for pair in decided]),
        "rejected_chars": _mean([len(pair.rejected) for pair in decided]),
        "n": n,
        "longer_chosen": longer / n if n else None,
        "interval": wilson_interval(longer, n) if n else None,
        "accuracy": right / len(decided) if decided else None,
    }


def position_bias(pairs: Iterable[Pair]) -> dict[str, Any] | None:
    """How often the answer on the left was preferred; None where positions are not recorded.

    Returns:
        ``n``, ``left_chosen`` (a share) and its 95 % Wilson ``interval``.
    """
    places = Counter(str(p.info.get("chosen_position")) for p in pairs if not p.tie)
    n = places[LEFT] + places[RIGHT]
    if not n:
        return None
    interval = wilson_interval(places[LEFT], n)
    return {"n": n, "left_chosen": places[LEFT] / n, "interval": interval}


def repeats(pairs: Iterable[Pair]) -> dict[str, int]:
    """The same two answers to the same prompt once more, by the same annotator.

    Returns:
        ``duplicates``: with the same outcome as before; ``contradictions``: with another one.
    """
    seen: dict[Hashable, str] = {}
    found = {"duplicates": 0, "contradictions": 0}
    for pair in pairs:
        key, verdict = (pair.item, pair.annotator), outcome(pair)
        if key in seen:
            found["duplicates" if seen[key] == verdict else "contradictions"] += 1
        seen[key] = verdict
    return found


def outcome(pair: Pair) -> str:
    """The preference, the same in whatever order the answers come: first, second, or tie."""
    return "tie" if pair.tie else ("first" if pair.chosen < pair.rejected else "second")


def agreement(pairs: Iterable[Pair]) -> dict[str, Any] | None:
    """How far annotators agree on the items that several of them judged; None without such.

    The categories are the first answer, the second (by their text), and a tie. An annotator's last
    word on an item counts.

    Returns:
        ``items`` judged by two or more, ``percent`` of pairs of annotators that agree,
        ``alpha`` (Krippendorff's, nominal) and ``between``: for each two annotators ``items``,
        ``percent`` and ``kappa`` (Cohen's; None where chance agreement is certain).
    """
    by_item: dict[str, dict[str, str]] = defaultdict(dict)
    for pair in pairs:
        if pair.annotator:
            by_item[pair.item][pair.annotator] = outcome(pair)
    shared = [labels for labels in by_item.values() if len(labels) > 1]
    if not shared:
        return None
    same = total = 0
    both: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for labels in shared:
        for one, other in combinations(sorted(labels), 2):
            both[one, other].append((labels[one], labels[other]))
            same += labels[one] == labels[other]
            total += 1
    between = [
        {
            "annotators": list(names),
            "items": len(given),
            "percent": 100 * _mean([a == b for a, b in given]),
            "kappa": cohen_kappa(given),
        }
        for names, given in sorted(both.items())
    ]
    alpha = krippendorff_alpha([list(labels.values()) for labels in shared])
    return {"items": len(shared), "percent": 100 * same / total, "alpha": alpha, "between": between}


def cohen_kappa(given: Sequence[tuple[Hashable, Hashable]]) -> float | None:
    """Agreement of two annotators beyond chance (Cohen 1960).

    Args:
        given: What each of the two said of every item.

    Returns:
        (observed - expected) / (1 - expected); None where chance agreement is certain.
    """
    n = len(given)
    first, second = Counter(a for a, _ in given), Counter(b for _, b in given)
    expected = sum(first[value] * second[value] for value in first) / n**2
    if expected == 1:
        return None
    return (sum(a == b for a, b in given) / n - expected) / (1 - expected)


def krippendorff_alpha(units: Sequence[Sequence[Hashable]]) -> float | None:
    """Agreement of any number of annotators, missing labels allowed (Krippendorff 2011, nominal).

    Args:
        units: The labels of each item; those with fewer than two say nothing.

    Returns:
        1 - observed / expected disagreement; None where all labels are the same.
    """
    coincidences: dict[tuple[Hashable, Hashable], float] = defaultdict(float)
    for labels in units:
        counts = Counter(labels)
        for a, b in product(counts, repeat=2):
            n_ab = counts[a] * (counts[b] - (a == b))
            coincidences[a, b] += n_ab / max(1, len(labels) - 1)
    totals: dict[Hashable, float] = defaultdict(float)
    for (a, _), value in coincidences.items():
        totals[a] += value
    n = sum(totals.values())
    observed = sum(value for (a, b), value in coincidences.items() if a != b)
    expected = n * n - sum(value**2 for value in totals.values())
    return 1 - (n - 1) * observed / expected if expected else None


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
