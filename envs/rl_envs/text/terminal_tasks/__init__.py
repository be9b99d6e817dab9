"""Tasks in a folder: generated, with the files at first and at the end, and a command that does it.

What the files must be at the end is worked out on the host as the task is made, and stays there.
"""

from rl_envs.text.terminal_tasks.checks import judge
from rl_envs.text.terminal_tasks.chore import Chore, Family, packed
from rl_envs.text.terminal_tasks.contents import archive, columns, dedupe, extract, logs, replace
from rl_envs.text.terminal_tasks.moves import build, cleanup, links, permissions, rename, sort_files
from rl_envs.text.terminal_tasks.settings import config_merge, json_edit

FAMILIES: dict[str, Family] = {
    "archive": archive,
    "build": build,
    "cleanup": cleanup,
    "columns": columns,
    "config_merge": config_merge,
    "dedupe": dedupe,
    "extract": extract,
    "json_edit": json_edit,
    "links": links,
    "logs": logs,
    "permissions": permissions,
    "rename": rename,
    "replace": replace,
    "sort_files": sort_files,
}

__all__ = ["FAMILIES", "Chore", "Family", "judge", "packed"]
