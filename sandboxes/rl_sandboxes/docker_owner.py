"""Who made a container, written on it as labels: how a dead client's containers are told apart."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path

MARK = "agent-rl.sandbox"
_PREFIX = "agent-rl.owner"


def labels() -> dict[str, str]:
    """The labels of this process's containers: the mark, and the process beyond confusion.

    A process id means something only within its namespace and boot, and is used again; so those
    and the time when the process started stand beside it.
    """
    mine = {"pid": str(os.getpid()), "start": _started(os.getpid()) or "", **_place()}
    return {MARK: "1", **{f"{_PREFIX}.{key}": value for key, value in mine.items()}}


def is_gone(found: Mapping[str, str]) -> bool:
    """Whether the owner that these labels name has certainly ended.

    False where it cannot be known from here: another host, boot or namespace of process ids.
    """
    place = {key: found.get(f"{_PREFIX}.{key}") for key in ("host", "boot", "namespace")}
    pid = found.get(f"{_PREFIX}.pid", "")
    if place != _place() or not pid.isdigit():
        return False
    return _started(int(pid)) != found.get(f"{_PREFIX}.start")


def _place() -> dict[str, str]:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:  # no Linux
        boot, namespace = "", ""
    return {"host": socket.gethostname(), "boot": boot, "namespace": namespace}


def _started(pid: int) -> str | None:
    """When a process started, in the kernel's ticks; empty where unknown; None if there is none."""
    if not Path("/proc/self/stat").exists():
        return "" if _answers(pid) else None
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in {b"Z", b"X"} else fields[19].decode()


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
