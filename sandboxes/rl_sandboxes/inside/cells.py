"""The persistent Python of a session: cells come in, output goes out, nothing is forgotten.

It is the code's own process: a cell can reach all that is here, the descriptors included.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import signal
import sys
import traceback
from typing import Any, NoReturn, TextIO

from . import child, frames

# Descriptors of the persistent shell or interpreter that a script is unlikely to use.
OUT, ERR, COMMANDS, STATUS = 196, 197, 198, 199


def interpret() -> NoReturn:
    """Run cells until the stream ends."""
    child.become_python()
    namespace = child.new_module("__main__", "").__dict__
    requests = open(COMMANDS, encoding="utf-8", closefd=False)  # noqa: SIM115 - it stays open
    me = os.getpid()
    while line := _next_line(requests):
        request = json.loads(line)
        if "freeze" in request:
            _freeze()
            me = os.getpid()
            continue
        os.write(STATUS, b"\n")  # it is read
        code = run_cell(request["run"], namespace)
        if os.getpid() != me:  # a fork that the cell made; it must not answer in its parent's place
            os._exit(code)
        _say({"code": code})
    os._exit(0)


def _next_line(requests: TextIO) -> str:
    while True:
        try:
            return requests.readline()
        except KeyboardInterrupt:  # late: the cell had ended
            continue


def _say(message: dict[str, Any]) -> None:
    frames.write_all(STATUS, json.dumps(message).encode() + b"\n")


def _freeze() -> None:
    """Fork; the parent stops, and forks again each time it is woken."""
    try:
        folder = os.getcwd()
    except OSError:  # it was deleted
        folder = "."
    while True:
        live = os.fork()
        if live == 0:
            with contextlib.suppress(OSError):
                os.chdir(folder)  # after a restore it is another folder under the same name
            return
        _say({"frozen": os.getpid(), "live": live})
        os.kill(os.getpid(), signal.SIGSTOP)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(live, os.WNOHANG)  # the one that went on is gone


def run_cell(source: str, namespace: dict[str, Any]) -> int:
    """Run a cell; the value of a last expression is printed.

    Returns:
        0, or 1 after an exception.
    """
    os.dup2(OUT, 1)
    os.dup2(ERR, 2)
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    child.show_source(source)
    try:
        _execute(source, namespace)
    except SystemExit as end:
        return 0 if end.code in (None, 0) else 1
    except KeyboardInterrupt:
        traceback.print_exc(limit=0)
        return 1
    except BaseException as error:
        child.show(error)
        return 1
    finally:
        child.flush()
    return 0


def _execute(source: str, namespace: dict[str, Any]) -> None:
    tree = ast.parse(source, child.FILE)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, child.FILE, "exec"), namespace)
    if isinstance(last, ast.Expr):
        value = eval(compile(ast.Expression(last.value), child.FILE, "eval"), namespace)
        if value is not None:
            print(repr(value))
