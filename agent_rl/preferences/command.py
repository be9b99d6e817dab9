"""``agent-rl preferences``: figures about files of preferences, as a table or as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent_rl.preferences.pairs import Pair, read_pairs
from agent_rl.preferences.statistics import describe
from agent_rl.runs import Console


def show_preferences(paths: Sequence[str], *, as_json: bool = False) -> int:
    """Print what some files hold, taken together.

    Where several files are given, rows without an annotator get the name of their file.

    Raises:
        UserError: A file that cannot be read as preferences.
    """
    files = []
    pairs: list[Pair] = []
    rows = 0
    for path in paths:
        file = read_pairs(path, most_unusable=1.0)
        name = _name_of(path, paths)
        pairs += [p if p.annotator else replace(p, annotator=name) for p in file.pairs]
        rows += file.rows
        files.append({"path": path, "rows": file.rows, "convention": file.convention.value})
        files[-1] |= {"left_out": dict(file.left_out)}
    figures = {"files": files, "rows": rows, **describe(pairs)}
    if as_json:
        print(json.dumps(figures))
        return 0
    show = Console()
    show.table([{"": name, "value": value} for name, value in _lines(figures)])
    agreement = figures["agreement"]
    if agreement and len(agreement["between"]) > 1:
        show.table([{**b, "annotators": " / ".join(b["annotators"])} for b in agreement["between"]])
    return 0


def _name_of(path: str, paths: Sequence[str]) -> str:
    """What a file without names is called beside others: its name, or where two agree its path."""
    names = Counter(Path(each).name.split(".")[0] for each in paths)
    own = Path(path).name.split(".")[0]
    return "" if len(paths) == 1 else own if names[own] == 1 else path


def _lines(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Each figure with its name, as a person reads it."""
    lines = [("rows", _whole(figures["rows"]))]
    for file in figures["files"]:
        start = f"{file['path']}: " if len(figures["files"]) > 1 else ""
        lines.append(("columns", f"{start}{file['convention']}"))
        lines += [
            ("left out", f"{start}{_whole(n)}: {reason}") for reason, n in file["left_out"].items()
        ]
    lines += [(name, _whole(figures[name])) for name in ("pairs", "ties", "prompts")]
    if figures["annotators"]:
        who = ", ".join(f"{name} ({_whole(n)})" for name, n in figures["annotators"].items())
        lines.append(("annotators", who))
    length = figures["length"]
    if length["longer_chosen"] is not None:
        mean = f"{length['chosen_chars']:.0f} / {length['rejected_chars']:.0f} characters"
        lines.append(("mean length chosen / rejected", mean))
        lines.append(("longer answer chosen", _share(length, "longer_chosen")))
        lines.append(("accuracy of length alone", f"{100 * length['accuracy']:.1f} %"))
    if figures["position"]:
        lines.append(("left answer chosen", _share(figures["position"], "left_chosen")))
    lines += [(name, _whole(n)) for name, n in figures["repeats"].items()]
    return lines + _agreement_lines(figures["agreement"])


def _agreement_lines(agreement: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    if agreement is None:
        return []
    alpha = "undefined" if agreement["alpha"] is None else f"{agreement['alpha']:.3f}"
    lines = [
        ("judged by several", f"{_whole(agreement['items'])} items"),
        ("agreement", f"{agreement['percent']:.1f} %"),
        ("Krippendorff's alpha", alpha),
    ]
    if len(agreement["between"]) == 1:
        kappa = agreement["between"][0]["kappa"]
        lines.append(("Cohen's kappa", "undefined" if kappa is None else f"{kappa:.3f}"))
    return lines


def _share(figures: Mapping[str, Any], name: str) -> str:
    low, high = (100 * x for x in figures["interval"])
    n = _whole(figures["n"])
    return f"{100 * figures[name]:.1f} % ({low:.1f} to {high:.1f} %) of {n}"


def _whole(number: int) -> str:
    return f"{number:,}"
