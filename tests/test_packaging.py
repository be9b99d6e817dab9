"""What is installed is what is there."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE_ROOTS = {"agent_rl": ".", "rl_envs": "envs", "rl_sandboxes": "sandboxes"}
SOURCE_ROOTS["rl_verifiers"] = "verifiers"


def test_every_package_is_listed():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    there = [
        ".".join(path.parent.relative_to(ROOT / root).parts)
        for top, root in SOURCE_ROOTS.items()
        for path in (ROOT / root / top).rglob("__init__.py")
    ]
    assert sorted(listed) == sorted(there)
