"""Tasks on configuration: JSON and key=value files."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

from rl_envs.text.terminal_tasks.chore import Chore, Files, json_file, lines, text
from rl_envs.text.terminal_tasks.names import paragraph, words


def json_edit(rng: Random, difficulty: int) -> Chore:
    """Values set in a file; in the files that have a mark; one file laid over another."""
    if difficulty == 3:
        return _json_merge(rng)
    names = words(rng, 4)
    start: Files = {"readme.txt": text(paragraph(rng))}
    goal = dict(start)
    if difficulty == 1:
        value = _settings(rng, names)
        after = copy.deepcopy(value)
        after["server"]["port"] = port = rng.randint(1024, 9999)
        after["debug"] = not value["debug"]
        start["config.json"] = _shown(value)
        return Chore(
            f"In config.json set server.port to {port}, and debug to {json.dumps(after['debug'])}; "
            "keep all else.",
            start, {**goal, "config.json": json_file(after)},
            _python(
                "config.json",
                f"v['server']['port'] = {port}; v['debug'] = {after['debug']}",
            ),
        )  # fmt: skip
    level = rng.choice(("low", "high", "trace"))
    for n, name in enumerate(words(rng, 7)):
        path, value = f"services/{name}.json", _settings(rng, names)
        value["enabled"] = n % 2 == 0
        start[path] = goal[path] = _shown(value)
        if value["enabled"]:
            after = copy.deepcopy(value)
            after["logging"] = {"level": level}
            del after["debug"]
            goal[path] = json_file(after)
    return Chore(
        "In every file of the folder services whose value 'enabled' is true, take away the key "
        f"'debug' and set logging.level to \"{level}\" (make the object logging); keep all else. "
        "Leave files that are not enabled as they are.",
        start, goal,
        _python(
            "services/*.json",
            f"if v['enabled']: del v['debug']; v['logging'] = {{'level': '{level}'}}",
        ),
    )  # fmt: skip


def _json_merge(rng: Random) -> Chore:
    names = words(rng, 6)
    base, over = _settings(rng, names[:4]), _settings(rng, names[2:])
    over["server"].pop("host")
    over.pop("debug")
    start: Files = {"defaults.json": _shown(base), "local.json": _shown(over)}
    return Chore(
        "Make config.json from defaults.json with local.json laid over it: what local.json has "
        "wins; objects that both have are merged key by key, at every depth; lists are taken "
        "whole.",
        start, {**start, "config.json": json_file(_merged(base, over))},
        "python3 -c \"import json\ndef merge(a, b):\n"
        "    if not (isinstance(a, dict) and isinstance(b, dict)):\n        return b\n"
        "    return {**a, **b, **{k: merge(a[k], b[k]) for k in a if k in b}}\n"
        "a, b = (json.load(open(f + '.json')) for f in ('defaults', 'local'))\n"
        "json.dump(merge(a, b), open('config.json', 'w'), indent=2)\"",
    )  # fmt: skip


def _python(pattern: str, change: str) -> str:
    """A command that changes the value ``v`` of JSON files."""
    return (
        f"python3 -c \"import glob, json\nfor f in glob.glob('{pattern}'):\n"
        f"    old = json.load(open(f)); v = json.loads(json.dumps(old))\n    {change}\n"
        "    if v != old: json.dump(v, open(f, 'w'), indent=2)\""
    )


def _settings(rng: Random, names: list[str]) -> dict[str, Any]:
    return {
        "name": rng.choice(names),
        "debug": rng.random() < 0.5,
        "server": {"host": f"{rng.choice(names)}.example", "port": rng.randint(1024, 9999)},
        "limits": {
            name: {"size": rng.randint(1, 99), "soft": rng.random() < 0.5} for name in names
        },
        "tags": rng.sample(names, 2),
    }


def _shown(value: Any) -> Any:
    return text(json.dumps(value, indent=2) + "\n")


def _merged(base: Any, over: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    both = {key: _merged(base[key], over[key]) for key in base.keys() & over.keys()}
    return {**base, **over, **both}


def config_merge(rng: Random, difficulty: int) -> Chore:
    """Lines KEY=VALUE: a value changed; two files merged; many files, comments left out."""
    keys = [f"{a}_{b}" for a, b in zip(words(rng, 12), words(rng, 12), strict=True)]
    values = {key: str(rng.randint(1, 999)) for key in keys}
    rows = [f"{key}={value}" for key, value in values.items()]
    if difficulty == 1:
        key, new = rng.choice(keys), str(rng.randint(1000, 9999))
        start: Files = {
            "app.conf": lines(["# settings", *rows]),
            "readme.txt": text(paragraph(rng)),
        }
        after = [f"{k}={new if k == key else value}" for k, value in values.items()]
        return Chore(
            f"In app.conf set {key} to {new}; the order of the lines and all else stays.",
            start, {**start, "app.conf": lines(["# settings", *after])},
            f"sed -i 's/^{key}=.*/{key}={new}/' app.conf",
        )  # fmt: skip
    count = 1 if difficulty == 2 else 4
    start = {"conf/00-base.conf": lines(["# base", "", *rows] if difficulty == 3 else rows)}
    merged = dict(values)
    extra = words(rng, 8)
    for number in range(count):
        changed = {key: str(rng.randint(1, 999)) for key in rng.sample([*keys, *extra], 6)}
        own = [f"{key}={value}" for key, value in changed.items()]
        if difficulty == 3:
            own = [f"# part {number}", *own[:3], "", *own[3:]]
        start[f"conf/{10 * (number + 1)}-part.conf"] = lines(own)
        merged |= changed
    return Chore(
        "Merge the files of the folder conf, whose lines are KEY=VALUE"
        + (" (lines that are empty or begin with # are left out)" if difficulty == 3 else "")
        + ", into merged.conf: each key once, sorted in byte order, with the value of the last "
        "file (by file name) that has it.",
        start, {**start, "merged.conf": lines([f"{k}={merged[k]}" for k in sorted(merged)])},
        "cat $(ls conf/*.conf | sort) | grep -v -e '^#' -e '^$' | awk -F= '{v[$1] = $2} "
        "END {for (k in v) print k \"=\" v[k]}' | LC_ALL=C sort -t= -k1,1 > merged.conf",
    )  # fmt: skip
