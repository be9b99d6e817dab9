"""A sandbox that lives in a process of an ordinary user, used from a process of root's.

As a program (``python user_sandbox.py``) it is that process: calls come in and answers go out,
pickled, by the standard streams.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

UID = 64123


class Remote:
    """Passes every method on to an object of the other process."""

    def __init__(self, sandbox: UserSandbox, key: int) -> None:
        self._sandbox, self._key = sandbox, key

    def __getattr__(self, method: str) -> Any:
        if method.startswith("_"):
            raise AttributeError(method)
        return lambda *args, **kwargs: self._sandbox.call(self._key, method, args, kwargs)

    async def arun(self, *args: Any, **kwargs: Any) -> Any:
        """``run`` for use inside an event loop."""
        return await asyncio.to_thread(self.run, *args, **kwargs)


class UserSandbox:
    """``rl_sandboxes.make(name, **options)``, made and used as an ordinary user."""

    def __init__(self, name: str, **options: Any) -> None:
        self.name = name
        self._lock = threading.Lock()
        self._folder = Path(tempfile.mkdtemp(prefix="user-sandbox-"))
        self._folder.chmod(0o755)
        source = Path(__file__).resolve().parents[2] / "sandboxes/rl_sandboxes"
        shutil.copytree(source, self._folder / "rl_sandboxes")
        program = shutil.copy(__file__, self._folder / "user_sandbox.py")
        self._process = subprocess.Popen(
            [python_of_everybody(), program],
            cwd=self._folder,
            env={**os.environ, "PYTHONPATH": str(self._folder), "HOME": str(self._folder)},
            user=UID,
            group=UID,
            extra_groups=[],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.owner = self._process.pid
        try:
            self._key = self.call(0, "make", (name,), options)
        except BaseException:
            self._end()
            raise

    def call(self, key: int, method: str, args: tuple, kwargs: dict) -> Any:
        """Call a method over there; what it raises is raised here."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            pickle.dump((key, method, args, kwargs), self._process.stdin)
            self._process.stdin.flush()
            raised, answer = pickle.load(self._process.stdout)
        if raised:
            raise answer
        return answer

    def __getattr__(self, method: str) -> Any:
        if method.startswith("_"):
            raise AttributeError(method)
        return lambda *args, **kwargs: self.call(self._key, method, args, kwargs)

    async def arun(self, job: Any) -> Any:
        """``run`` for use inside an event loop."""
        return await asyncio.to_thread(self.run, job)

    def session(self, *args: Any, **kwargs: Any) -> Remote:
        """A session over there."""
        return Remote(self, self.call(self._key, "session", args, kwargs))

    def close(self) -> None:
        """End the other process."""
        if self._process.poll() is None:
            self.call(self._key, "close", (), {})
        self._end()

    def _end(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with contextlib.suppress(OSError):
                stream.close()
        self._process.wait(timeout=30)
        shutil.rmtree(self._folder, ignore_errors=True)


def python_of_everybody() -> str:
    """A Python that an ordinary user may start."""
    for program in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            subprocess.run(
                [program, "-c", "import ctypes, json, sys; assert sys.version_info >= (3, 11)"],
                user=UID,
                group=UID,
                extra_groups=[],
                check=True,
                capture_output=True,
            )
            return program
    return ""


def serve() -> None:
    """Answer calls until the stream ends."""
    import rl_sandboxes

    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    objects: dict[int, Any] = {0: rl_sandboxes}
    keys = itertools.count(1)
    while True:
        try:
            key, method, args, kwargs = pickle.load(source)
        except EOFError:
            return
        try:
            answer = (False, getattr(objects[key], method)(*args, **kwargs))
        except Exception as error:
            answer = (True, error)
        if not answer[0] and method in ("make", "session"):
            number = next(keys)
            objects[number] = answer[1]
            answer = (False, number)
        pickle.dump(answer, sink)
        sink.flush()


if __name__ == "__main__":
    serve()
