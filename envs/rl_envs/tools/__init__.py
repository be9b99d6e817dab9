"""Tools that a policy calls, and the environments built on them."""

from rl_envs.tools.env import ToolEnv, ToolSpec
from rl_envs.tools.results import ToolResult, cut
from rl_envs.tools.tool import Finish, Tool, ToolError, ToolFailure, tool

__all__ = [
    "Finish",
    "Tool",
    "ToolEnv",
    "ToolError",
    "ToolFailure",
    "ToolResult",
    "ToolSpec",
    "cut",
    "tool",
]
