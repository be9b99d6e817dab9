"""Two servers made with OpenEnv's own package: ``game PORT`` and ``tools PORT``."""

import sys
import time
from uuid import uuid4

import uvicorn
from fastmcp import FastMCP
from openenv.core.env_server.http_server import create_app
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.mcp_environment import MCPEnvironment
from openenv.core.env_server.mcp_types import CallToolAction, CallToolObservation
from openenv.core.env_server.types import Action, Observation, State


class Guess(Action):
    number: int


class Seen(Observation):
    text: str = ""


class Game(Environment):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self):
        super().__init__()
        self.secret, self._state = 0, State()

    def reset(self, seed=None, episode_id=None, **options):
        self.secret, self._state = (seed or 0) % 8, State(episode_id=str(uuid4()))
        return Seen(text="Guess 0 to 7.")

    def step(self, action, timeout_s=None, **options):
        if action.number == 99:
            time.sleep(3)
        if action.number == 77:
            raise RuntimeError("broken")
        if action.number == self.secret:
            return Seen(text="right", done=True, reward=1.0)
        return Seen(text="higher" if action.number < self.secret else "lower", reward=0.0)

    @property
    def state(self):
        return self._state


class Tools(MCPEnvironment):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self):
        server = FastMCP("tools")

        @server.tool
        def add(a: int, b: int) -> int:
            """Add two numbers."""
            return a + b

        @server.tool
        def fail() -> str:
            """Fail."""
            raise ValueError("no luck")

        super().__init__(server)

    def reset(self, seed=None, episode_id=None, **options):
        return Observation(metadata={"task": "Add 2 and 3."})

    def _step_impl(self, action, timeout_s=None, **options):
        return Observation()

    @property
    def state(self):
        return State()


if __name__ == "__main__":
    kind, port = sys.argv[1], int(sys.argv[2])
    if kind == "game":
        app = create_app(Game, Guess, Seen, env_name="game", max_concurrent_envs=4)
    else:
        app = create_app(
            Tools, CallToolAction, CallToolObservation, env_name="tools", max_concurrent_envs=4
        )
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")
