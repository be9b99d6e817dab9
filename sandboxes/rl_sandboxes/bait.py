"""What a hostile job must not reach, laid out on this host, and whether it was reached."""

from __future__ import annotations

import contextlib
import os
import secrets
import selectors
import shutil
import socket
import subprocess
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

SECRET_NAME = "SBX_SECRET"
MARK_NAME = "SBX_MARK"
_VICTIM = "only this line\n"
_ANSWER = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi"


class Bait:
    """A secret in a file and in the environment, listeners, and a process. A context manager.

    Lay it out before the sandbox is made, so that workers could inherit the secret.

    Attributes:
        secret: Random text that no job may learn.
        folder: A folder that everybody may write to; holds ``canary.txt`` (the secret) and
            ``victim.txt``.
        received: What reached the listeners, each as (``tcp``, ``udp`` or ``abstract``, the data).
    """

    def __init__(self) -> None:
        self.secret = secrets.token_hex(16)
        self.folder = Path()
        self.received: list[tuple[str, bytes]] = []
        self._before: str | None = None
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="sandbox-bait-"))
        self._open.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.folder.chmod(0o777)
        for path, text in ((self.canary, self.secret), (self.folder / "victim.txt", _VICTIM)):
            path.write_text(text, encoding="utf-8")
            path.chmod(0o644)
        self._before = os.environ.get(SECRET_NAME)
        os.environ[SECRET_NAME] = self.secret
        self._open.callback(self._reset_environment)
        self.victim = self._start_victim()
        self._listen()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()

    @property
    def canary(self) -> Path:
        """The file that holds the secret."""
        return self.folder / "canary.txt"

    @property
    def victim_name(self) -> str:
        """The name of the process, as a listing of processes shows it."""
        return f"bait-{self.secret[:12]}"

    def fill(self, text: str, free_port: int = 0) -> str:
        """The text with its ``{{NAMES}}`` replaced by where things are."""
        names = {
            "CANARY_PATH": str(self.canary),
            "CANARY_DIR": str(self.folder),
            "HOST_PORT": str(self.tcp_port),
            "HOST_UDP_PORT": str(self.udp_port),
            "ABSTRACT": self.abstract,
            "FREE_PORT": str(free_port),
            "VICTIM_PID": str(self.victim.pid),
        }
        for name, value in names.items():
            text = text.replace("{{" + name + "}}", value)
        return text

    def damage(self) -> list[str]:
        """What is no longer as it was laid out, a line each."""
        found = []
        for path, text in ((self.canary, self.secret), (self.folder / "victim.txt", _VICTIM)):
            if (
                not path.is_file()
                or path.is_symlink()
                or path.read_text("utf-8", "replace") != text
            ):
                found.append(f"the host's {path.name} was changed")
        names = {path.name for path in self.folder.iterdir()}
        found += [f"{name} was written into a host folder" for name in names - _LAID_OUT]
        if self.victim.poll() is not None:
            found.append("a process of the host was ended")
        return found

    def _reset_environment(self) -> None:
        if self._before is None:
            os.environ.pop(SECRET_NAME, None)
        else:
            os.environ[SECRET_NAME] = self._before

    def _start_victim(self) -> subprocess.Popen[bytes]:
        sleep = shutil.which("sleep") or "/bin/sleep"
        victim = subprocess.Popen([self.victim_name, "86400"], executable=sleep)
        self._open.callback(victim.wait)
        self._open.callback(victim.kill)
        return victim

    def _listen(self) -> None:
        self.abstract = f"bait-{secrets.token_hex(8)}"
        tcp, udp = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
        unix = socket.socket(socket.AF_UNIX)
        stop, self._stop = socket.socketpair()
        tcp.bind(("127.0.0.1", 0))
        udp.bind(("127.0.0.1", 0))
        unix.bind("\0" + self.abstract)
        self.tcp_port, self.udp_port = tcp.getsockname()[1], udp.getsockname()[1]
        selector = selectors.DefaultSelector()
        for name, listener in (("tcp", tcp), ("udp", udp), ("abstract", unix), ("stop", stop)):
            if name in ("tcp", "abstract"):
                listener.listen()
            selector.register(listener, selectors.EVENT_READ, name)
        thread = threading.Thread(target=self._serve, args=(selector,), daemon=True)
        thread.start()
        self._open.callback(selector.close)
        for listener in (tcp, udp, unix, stop, self._stop):
            self._open.callback(listener.close)
        self._open.callback(thread.join)
        self._open.callback(self._stop.send, b".")

    def _serve(self, selector: selectors.BaseSelector) -> None:
        while True:
            for key, _ in selector.select():
                listener = key.fileobj
                assert isinstance(listener, socket.socket)
                if key.data == "stop":
                    return
                if key.data == "udp":
                    self.received.append(("udp", listener.recv(4096)))
                    continue
                self.received.append((key.data, b""))
                with contextlib.suppress(OSError), listener.accept()[0] as connection:
                    connection.settimeout(1)
                    connection.sendall(_ANSWER)


_LAID_OUT = {"canary.txt", "victim.txt"}


def new_mark() -> str:
    """A name for the processes of one job; short enough for a process's name."""
    return f"mk{secrets.token_hex(6)}"


def marked_processes(mark: str) -> list[int]:
    """The processes of this host that carry the mark as their name or in their environment.

    Zombies are left out: they are gone but for their exit code.
    """
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and _is_marked(int(entry.name), mark):
            found.append(int(entry.name))
    return found


def _is_marked(pid: int, mark: str) -> bool:
    with contextlib.suppress(OSError):
        status = Path(f"/proc/{pid}/stat").read_bytes()
        name, _, rest = status.rpartition(b")")
        if rest.split()[0] in (b"Z", b"X"):
            return False
        if mark.encode() in name:
            return True
        wanted = f"{MARK_NAME}={mark}".encode()
        return wanted in Path(f"/proc/{pid}/environ").read_bytes()
    return False


def marking(mark: str) -> str:
    """A line of Python that marks the process that runs it and all that it starts."""
    inner = (
        f"import os\nos.environ[{MARK_NAME!r}] = {mark!r}\n"
        f"try: open('/proc/self/comm', 'w').write({mark!r})\nexcept OSError: pass\n"
    )
    return f"exec({inner!r}, {{}})\n"
