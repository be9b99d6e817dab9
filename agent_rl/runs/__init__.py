"""What a run leaves behind: its folder, the console display, the report.

Importing this package imports neither torch, matplotlib, jinja2 nor rich.
"""

from agent_rl.runs.console import Console
from agent_rl.runs.files import RunError, write_atomically
from agent_rl.runs.folder import RunFolder
from agent_rl.runs.report import build_report

__all__ = ["Console", "RunError", "RunFolder", "build_report", "write_atomically"]
