"""Hardened containers: made, attached, found again and removed, through Docker's SDK."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rl_sandboxes import docker_owner
from rl_sandboxes.docker_stream import AttachedSocket
from rl_sandboxes.types import Limits, SandboxError

IMAGE = "agent-rl-sandbox:1"
WORK, TMP, SHM = "/work", "/tmp", "/dev/shm"
USERS = range(61_000, 63_000)
"""User ids for containers, one each: the kernel counts processes by user, across containers."""

RUNNER_MB, RUNNER_PROCESSES = 96, 8
_AT_ONCE = 4  # more containers in the making than this only queue up in the daemon
_API_S = 60
_REMOVAL_S = 10
_NO_IPC = {  # System V and POSIX queues outlive processes; jobs shall leave nothing behind
    "kernel.shmmni": "0",
    "kernel.msgmni": "0",
    "kernel.sem": "0 0 0 0",
    "fs.mqueue.queues_max": "0",
}


class Container:
    """A running container that this process made.

    Attributes:
        id: Docker's id of it.
        user: The user id that its processes have.
        stream: Its stdin, stdout and stderr.
    """

    def __init__(self, containers: Containers, id: str, user: int, stream: AttachedSocket) -> None:  # noqa: A002
        self.id = id
        self.user = user
        self.stream = stream
        self._containers = containers

    def remove(self) -> None:
        """Remove it, in the background; safe to call twice and from any thread."""
        self.stream.close()
        self._containers.remove_soon(self)


class Containers:
    """Talks to the daemon. Safe to use from many threads.

    Args:
        image: The image's name.
        runtime: A runtime that the daemon knows, such as ``runsc``; None for its default.
        largest: The largest limits that a job may have; the containers' walls stand above them.

    Raises:
        SandboxError: Something is missing; the message says what to install or change.
    """

    def __init__(self, image: str, runtime: str | None, largest: Limits) -> None:
        self._image, self._runtime, self._largest = image, runtime, largest
        self._api = connect()
        self._alive: dict[str, Container] = {}
        self._lock = threading.Lock()
        self._making = threading.BoundedSemaphore(_AT_ONCE)
        self._remover = ThreadPoolExecutor(2, "agent-rl-docker-remove")
        self._closed = False
        try:
            with _explained("look at the daemon"):
                self.info: dict[str, Any] = self._api.info()
                self._check_runtime()
                self._check_image()
            self.reap()
        except BaseException:
            self.close()
            raise

    def start(self, command: Sequence[str]) -> Container:
        """Make a container of the image, attach to it, and start the command in it.

        Raises:
            SandboxError: It cannot be made; says why.
        """
        with self._making:
            user = self._free_user()
            with _explained("make a container"):
                knock()
                made = self._api.create_container(
                    self._image,
                    list(command),
                    user=f"{user}:{user}",
                    hostname="sandbox",
                    working_dir=WORK,
                    environment={"PYTHONHASHSEED": "0"},
                    entrypoint="",
                    labels=docker_owner.labels(),
                    stdin_open=True,
                    network_disabled=True,
                    healthcheck={"test": ["NONE"]},
                    host_config=self._hardening(user),
                )["Id"]
            return self._attach_and_start(made, user)

    def reap(self) -> int:
        """Remove the containers whose owners have ended; how many there were."""
        with _explained("look for left-over containers"):
            found = self._api.containers(all=True, filters={"label": f"{docker_owner.MARK}=1"})
        gone = [each["Id"] for each in found if docker_owner.is_gone(each["Labels"])]
        for each in gone:
            self._remove(each)
        return len(gone)

    def remove_soon(self, container: Container) -> None:
        """Remove a container in the background, unless that was asked before."""
        with self._lock:
            if self._alive.pop(container.id, None) is not None:
                try:
                    self._remover.submit(self._remove, container.id)
                except RuntimeError:  # the interpreter is ending: there are no threads any more
                    self._remove(container.id)

    def close(self) -> None:
        """Remove every container of this object and wait until they are gone. Idempotent."""
        with self._lock:
            self._closed = True
            alive = list(self._alive.values())
        for container in alive:
            container.remove()
        self._remover.shutdown(wait=True)
        self._api.close()

    def _hardening(self, user: int) -> Any:
        from docker.types import LogConfig, Ulimit  # noqa: PLC0415

        largest = self._largest
        memory = (largest.memory_mb + RUNNER_MB) << 20
        disk = (
            f"size={largest.disk_mb}m,nr_inodes={max(1024, largest.disk_mb * 128)},"
            f"mode=0700,uid={user},gid={user},nosuid,nodev,exec"
        )
        return self._api.create_host_config(
            network_mode="none",
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            read_only=True,
            tmpfs=dict.fromkeys((WORK, TMP, SHM), disk),
            pids_limit=largest.processes + RUNNER_PROCESSES,
            mem_limit=memory,
            memswap_limit=memory,
            oom_score_adj=500,
            ipc_mode="private",
            sysctls=_NO_IPC,
            ulimits=[Ulimit(name=name, soft=soft, hard=hard) for name, soft, hard in _ULIMITS],
            log_config=LogConfig(type="none"),
            runtime=self._runtime,
            init=False,  # the runner is process 1: no signal of a job's can end or stop it
            auto_remove=True,
        )

    def _attach_and_start(self, made: str, user: int) -> Container:
        try:
            with _explained("start a container"):
                streams = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
                stream = AttachedSocket(self._api.attach_socket(made, params=streams))
                container = Container(self, made, user, stream)
                try:
                    self._api.start(made)
                except BaseException:
                    stream.close()
                    raise
        except BaseException:
            self._remove(made)
            raise
        with self._lock:
            if not self._closed:
                self._alive[made] = container
                return container
        stream.close()
        self._remove(made)
        raise SandboxError("the docker sandbox is closed")

    def _free_user(self) -> int:
        with self._lock:
            taken = {container.user for container in self._alive.values()}
        return random.SystemRandom().choice([user for user in USERS if user not in taken])

    def _remove(self, container_id: str) -> None:
        from docker.errors import APIError  # noqa: PLC0415

        with contextlib.suppress(*_failures()):  # gone, or no daemon to ask
            knock()
            try:
                self._api.remove_container(container_id, v=True, force=True)
            except APIError as error:
                if error.status_code == 409:  # the daemon is at it: its process has ended by itself
                    self._api.wait(container_id, timeout=_REMOVAL_S, condition="removed")

    def _check_runtime(self) -> None:
        wanted, known = self._runtime, sorted(self.info.get("Runtimes") or {})
        if wanted and wanted not in known and not wanted.startswith("io.containerd."):
            raise SandboxError(
                f"the Docker daemon knows no runtime {wanted!r}, only {', '.join(known)}; "
                "install it and add it to the daemon's daemon.json, or leave runtime out"
            )

    def _check_image(self) -> None:
        from docker.errors import ImageNotFound  # noqa: PLC0415

        try:
            self._api.inspect_image(self._image)
        except ImageNotFound:
            how = f"docker pull {self._image}"
            if self._image == IMAGE:
                how = "make sandbox-image, in a checkout (see sandboxes/images)"
            raise SandboxError(f"Docker has no image {self._image!r}; get it by: {how}") from None


_ULIMITS = (("nofile", 1024, 4096), ("core", 0, 0), ("msgqueue", 0, 0))


def connect() -> Any:
    """A client of the daemon that the environment names (``DOCKER_HOST``).

    Raises:
        SandboxError: No SDK, no daemon, or no right to talk to it.
    """
    try:
        import docker  # noqa: PLC0415
    except ImportError:
        raise SandboxError(
            "the docker sandbox needs Docker's SDK for Python; pip install 'agent-rl[docker]'"
        ) from None
    try:
        knock()
        return docker.from_env(timeout=_API_S).api
    except _failures() as error:
        raise SandboxError(_no_daemon(error)) from None


def knock() -> None:
    """Open and close the daemon's socket, if it is a Unix one: its own error says most.

    (The SDK would say less, and leave the socket open.)

    Raises:
        OSError: It cannot be opened.
    """
    if _host().startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as door:
            door.connect(_host().removeprefix("unix://"))


def _host() -> str:
    return os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"


def _no_daemon(error: BaseException) -> str:
    text = str(error).removeprefix("Error while fetching server API version: ")
    if isinstance(error, PermissionError):
        return (
            f"this user may not talk to the Docker daemon at {_host()}; add the user to the group "
            "docker and log in again, or use rootless Docker and set DOCKER_HOST"
        )
    why = getattr(error, "strerror", None) or _last_words(text)
    return (
        f"no Docker daemon answers at {_host()} ({why}); start one (systemctl start docker, or "
        "dockerd), or set DOCKER_HOST, or use the local sandbox"
    )


@contextlib.contextmanager
def _explained(doing: str) -> Iterator[None]:
    """Turn the SDK's failures into a SandboxError of one line."""
    from docker.errors import ImageNotFound  # noqa: PLC0415

    try:
        yield
    except ImageNotFound as error:
        raise SandboxError(f"Docker says: {_last_words(str(error.explanation))}") from None
    except _failures() as error:
        said = getattr(error, "explanation", None)
        if said is None:
            raise SandboxError(_no_daemon(error)) from None
        if "executable file not found" in said or 'exec: "python3"' in said:
            raise SandboxError(
                "the image has no python3 on its PATH, and the sandbox's runner needs Python 3.11 "
                "or newer; add it to the image, or leave image out"
            ) from None
        raise SandboxError(f"the Docker daemon would not {doing}: {_last_words(said)}") from None


def _last_words(text: str) -> str:
    return " ".join(text.split())[-300:]


def _failures() -> tuple[type[BaseException], ...]:
    from docker.errors import DockerException  # noqa: PLC0415

    return (DockerException, OSError)  # requests' exceptions are OSErrors
