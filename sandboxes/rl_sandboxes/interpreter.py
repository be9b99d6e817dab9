"""Which Python runs the jobs."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from rl_sandboxes.types import SandboxError


@dataclass(frozen=True)
class Interpreter:
    """A Python for jobs.

    Attributes:
        path: The program.
        prefix: The folder of its library.
        magic: Its bytecode version if it is this very program, else empty.
    """

    path: str
    prefix: str
    magic: bytes

    @classmethod
    def of(cls, python: str | None) -> Interpreter:
        """The one that was asked for, or the one that runs this, outside any virtual environment.

        Raises:
            SandboxError: It cannot be run.
        """
        if python is None:
            own = getattr(sys, "_base_executable", None) or sys.executable
            return cls(os.path.realpath(own), sys.base_prefix, importlib.util.MAGIC_NUMBER)
        ask = "import sys; print(sys.base_prefix, *sys.version_info[:2], sep='\\n')"
        try:
            done = subprocess.run(
                [python, "-I", "-c", ask], capture_output=True, text=True, timeout=30, check=True
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise SandboxError(f"python {python!r} for jobs cannot be used: {error}") from None
        prefix, *version = done.stdout.splitlines()[:3] or [""]
        if len(version) != 2 or not os.path.isabs(prefix) or not os.path.isdir(prefix):
            raise SandboxError(f"python {python!r} for jobs is no Python")
        if tuple(map(int, version)) < (3, 9):
            raise SandboxError(f"python {python!r} for jobs is older than 3.9")
        return cls(os.path.realpath(shutil.which(python) or python), prefix, b"")

    @property
    def folders(self) -> tuple[str, ...]:
        """What must be seen beside /usr to run it."""
        places = {os.path.realpath(self.prefix), self.prefix}
        return tuple(sorted(p for p in places if not Path(p).is_relative_to("/usr")))

    @property
    def search_path(self) -> str:
        """PATH for jobs: this interpreter's programs first."""
        own = f"{self.prefix}/bin"
        return ":".join(dict.fromkeys([own, "/usr/local/bin", "/usr/bin", "/bin"]))

    @property
    def open_to_all(self) -> bool:
        """Whether an ordinary user can come to it."""
        folders = (Path(self.path), *Path(self.path).parents)
        return all(folder.stat().st_mode & 0o001 for folder in folders)
