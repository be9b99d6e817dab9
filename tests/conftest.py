"""Tests that need the local sandbox are skipped, by name, where there is no bubblewrap."""

import os

import gymnasium
import pytest

from rl_envs import registry as env_registry
from rl_sandboxes.levels import bubblewrap
from rl_verifiers import registry

CODE_ENVIRONMENTS = (
    "text/Code",
    "text/HumanEval",
    "text/MBPP",
    "text/PythonTool",
    "text/SQL",
    "text/Terminal",
)
MODULES = (
    "test_local",
    "test_python_tool",
    "test_remote_command",
    "test_sql",
    "test_sql_env",
    "test_terminal",
)
PAGES = (
    "code.md",
    "sandboxes.md",
    "quotes_and_sql.md",
    "remote_sandbox.md",
    "python_tool.md",
    "terminal.md",
    "verifiers.md",
    "sql_env.md",
)


@pytest.fixture(autouse=True)
def _no_verifier_stays_registered(monkeypatch):
    """What a test registers is gone after it."""
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))


@pytest.fixture(autouse=True)
def _no_environment_stays_registered():
    """What a test registers is gone after it; a module's own stays, for it is imported once."""
    before = dict(env_registry._ids), dict(gymnasium.registry)
    yield
    for now, then in zip((env_registry._ids, gymnasium.registry), before, strict=True):
        for env_id in set(now) - set(then):
            del now[env_id]


def pytest_collection_modifyitems(items):
    """Where sandboxes are required (``.ci/run``) nothing is skipped: there they must work."""
    if bubblewrap() is not None or os.environ.get("AGENT_RL_REQUIRE_SANDBOXES"):
        return
    for item in items:
        if needs_sandbox(item):
            item.add_marker(pytest.mark.skip(reason="local sandbox: bubblewrap is not installed"))


def needs_sandbox(item):
    """Whether a test runs code in the local sandbox."""
    module, case = item.path.stem, item.name
    if (
        module.startswith("test_code")
        or module in MODULES
        or "code]" in case
        or "sql]" in case
        or "play_refuses" in case
    ):
        return True
    if any(env_id in case for env_id in CODE_ENVIRONMENTS):
        return True
    return module == "test_docs" and any(page in case for page in PAGES)
