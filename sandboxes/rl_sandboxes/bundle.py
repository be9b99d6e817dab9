"""The runner as one message: how its sources reach an interpreter that has nothing of ours."""

from __future__ import annotations

import importlib.util
import json
import marshal
from functools import cache
from importlib.abc import InspectLoader
from pathlib import Path
from types import CodeType

MODULES = (
    "linux",
    "values",
    "frames",
    "seccomp",
    "files",
    "tree",
    "child",
    "box",
    "supervisor",
    "cells",
    "shell",
    "session",
    "worker",
)
"""In the order of their imports."""

_BOOTSTRAP = """
import sys
sys.path[:] = [path for path in sys.path if path]
import json, marshal, os, types
def read(size):
    data = b""
    while len(data) < size:
        part = os.read(0, size - len(data))
        if not part:
            sys.exit("the stream ended before the runner had come")
        data += part
    return data
compiled = read(1) == b"m"
body = read(int.from_bytes(read(4), "big"))
sources = marshal.loads(body) if compiled else json.loads(body)
package = types.ModuleType("rl_inside")
package.__path__ = []
sys.modules["rl_inside"] = package
for name, source in sources.items():
    module = types.ModuleType("rl_inside." + name)
    module.__package__ = "rl_inside"
    sys.modules[module.__name__] = module
    exec(source if compiled else compile(source, "<runner " + name + ">", "exec"), module.__dict__)
    setattr(package, name, module)
del sources, body
package.worker.main()
"""


def command(python: str) -> list[str]:
    """The command that starts the runner with an interpreter; it reads :func:`payload` first.

    Without ``site``, whose .pth files would load what no job needs; see ``worker.add_site``.
    """
    return [python, "-S", "-s", "-B", "-c", _BOOTSTRAP]


@cache
def payload(magic: bytes = b"") -> bytes:
    """The runner, to be written to its standard input.

    Args:
        magic: The bytecode version of the interpreter that will read it, where that is known
            (``importlib.util.MAGIC_NUMBER``); if it is ours, compiled code is sent, which starts
            some 30 ms sooner.
    """
    if magic == importlib.util.MAGIC_NUMBER:
        return _framed(b"m", marshal.dumps({name: _compiled(name) for name in MODULES}))
    folder = Path(__file__).parent / "inside"
    sources = {name: (folder / f"{name}.py").read_text() for name in MODULES}
    return _framed(b"s", json.dumps(sources).encode())


def _compiled(name: str) -> CodeType:
    """A module's code, from the cache that an import would use."""
    spec = importlib.util.find_spec(f"rl_sandboxes.inside.{name}")
    assert spec is not None  # it is beside this file
    assert isinstance(spec.loader, InspectLoader)
    code = spec.loader.get_code(spec.name)
    assert code is not None  # it is written in Python
    return code


def _framed(kind: bytes, body: bytes) -> bytes:
    return kind + len(body).to_bytes(4, "big") + body
