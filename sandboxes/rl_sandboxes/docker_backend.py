"""The ``docker`` back end: the runner of :mod:`rl_sandboxes.inside` in warm, hardened containers.

A container costs a tenth of a second and more to make, a job in a warm one two milliseconds. So
containers are kept, one job runs in each at a time, and one that is not certainly clean afterwards
(a timeout, a kill, a process left over) is thrown away and replaced by a spare.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

from rl_sandboxes import bundle
from rl_sandboxes.docker_containers import (
    IMAGE,
    RUNNER_MB,
    RUNNER_PROCESSES,
    SHM,
    TMP,
    WORK,
    Containers,
)
from rl_sandboxes.inside.frames import pack
from rl_sandboxes.pool import Worker, WorkerLostError, WorkerPool, default_size
from rl_sandboxes.stream import StreamWorker
from rl_sandboxes.types import Guarantees, Job, JobError, Limits, Result, SandboxError, Session

_WALLS = ("memory_mb", "processes", "disk_mb")
_START_S = 60.0
_CONFIG = {
    "shared": True,
    "alone": True,
    "work": WORK,
    "tmp": TMP,
    "shm": SHM,
    "path": "/usr/local/bin:/usr/bin:/bin",
}


class DockerSandbox(WorkerPool):
    """Runs jobs in warm containers of a Docker daemon; a session has a fresh one for itself.

    Args:
        workers: Containers that run jobs at once; None for one per processor.
        image: An image with Python 3.11 or newer and bash; see ``sandboxes/images``.
        runtime: A runtime that the daemon knows, such as ``runsc`` (gVisor); None for its default.
        memory_mb: MiB that a job may ask for; the container's own wall stands a little higher.
        processes: Processes that a job may ask for; likewise.
        disk_mb: MiB that a job may ask for in each of its three folders.
        spare: Containers made ahead, to take the place of those that are thrown away.
        preload: Modules of the image imported before the first job, so that jobs need not.

    Raises:
        SandboxError: No SDK, daemon, image or runtime; says what to install or change.
    """

    def __init__(
        self,
        *,
        workers: int | None = None,
        image: str = IMAGE,
        runtime: str | None = None,
        memory_mb: int = 1024,
        processes: int = 256,
        disk_mb: int = 64,
        spare: int = 1,
        preload: Sequence[str] = (),
    ) -> None:
        self._image = image
        self._config = {**_CONFIG, "preload": list(preload)}
        self._largest = Limits(memory_mb=memory_mb, processes=processes, disk_mb=disk_mb)
        self._containers = Containers(image, runtime, self._largest)
        promised = _guarantees(self._containers.info, runtime, self._largest)
        size = default_size() if workers is None else workers
        self._first: list[Worker] = []
        try:
            super().__init__("docker", self._take_worker, promised, size=size, spare=spare)
            self._first.append(self._start_worker())  # an image that is no good is found out now
        except BaseException:
            self._containers.close()
            raise

    def run(self, job: Job) -> Result:
        """Run a job; blocks. Never raises for what the code does.

        Raises:
            SandboxError: No container can be made of the image.
            JobError: The job's arguments are no plain data, or it asks for too much.
        """
        self._check(job.limits)
        return super().run(job)

    async def arun(self, job: Job) -> Result:
        """``run`` for use inside an event loop; cancelling ends the job."""
        self._check(job.limits)
        return await super().arun(job)

    def run_many(self, jobs: Sequence[Job]) -> list[Result]:
        """Run jobs at once on all workers; results in the order of the jobs."""
        for job in jobs:
            self._check(job.limits)
        return super().run_many(jobs)

    def session(
        self, kind: Literal["bash", "python"] = "bash", limits: Limits | None = None
    ) -> Session:
        """Open a box that stays: a container that nobody used before and nobody will again."""
        self._check(limits or Limits())
        return super().session(kind, limits)

    def reap(self) -> int:
        """Remove what killed clients left on this daemon, as every start does; how many."""
        return self._containers.reap()

    def close(self) -> None:
        """End all containers and wait until they are gone; safe to call twice."""
        super().close()
        self._containers.close()

    def _check(self, limits: Limits) -> None:
        for name in _WALLS:
            asked, most = getattr(limits, name), getattr(self._largest, name)
            if asked > most:
                raise JobError(
                    f"limit {name} is {asked:,}, and the docker sandbox's containers are made for "
                    f"{most:,} at most; make it with the option {name}={asked}"
                )

    def _take_worker(self) -> Worker:
        with contextlib.suppress(IndexError):
            return self._first.pop()
        return self._start_worker()

    def _start_worker(self) -> Worker:
        """A container with the runner in it, ready for jobs.

        Raises:
            SandboxError: The daemon would not make it, or the image cannot run the runner.
        """
        container = self._containers.start(bundle.command("python3"))
        stream = container.stream
        worker = StreamWorker(cast("Any", stream), container.remove, lambda: stream.stderr)
        deadline = time.monotonic() + _START_S
        try:
            worker.send(bundle.payload() + pack(self._config), deadline)
            ready = worker.receive(deadline)
        except WorkerLostError as error:
            said = stream.stderr.splitlines()
            worker.kill()
            raise SandboxError(self._cannot(said[-1]) if said else str(error)) from None
        if "fatal" in ready:
            worker.kill()
            raise SandboxError(self._cannot(str(ready["fatal"])))
        return worker

    def _cannot(self, why: str) -> str:
        return (
            f"image {self._image!r} cannot run the sandbox's runner ({why[-300:]}); it needs "
            "Python 3.11 or newer with its whole standard library (Debian: python3, not "
            "python3-minimal) and what is in preload"
        )


def _guarantees(info: Mapping[str, Any], runtime: str | None, largest: Limits) -> Guarantees:
    """What is promised with this daemon, by what it says of itself."""
    options = [str(option) for option in info.get("SecurityOptions") or ()]
    filtered = any("name=seccomp" in option and "unconfined" not in option for option in options)
    missing = [
        "jobs of one container follow each other under one user id: a job is kept from the next "
        "by ending all processes and emptying the folders, not by namespaces of its own"
    ]
    if "runc" in (runtime or info.get("DefaultRuntime", "runc")):
        missing.append("a hole in the kernel is a way out; runtime='runsc' (gVisor) stands between")
    if not filtered:
        missing.append("this daemon has no seccomp; only the runner's own filter stands")
    if not any("rootless" in option or "userns" in option for option in options):
        missing.append(
            "the daemon is root's and its containers have no user namespace of their own"
        )
    return Guarantees(
        network="no interface but the container's own loopback",
        files="read-only image; three folders in memory; none of the host's files",
        processes="a pid namespace and a user id for each container; the runner is its process 1",
        fresh="processes ended and folders emptied after each run; the container is thrown away "
        "after a timeout, a kill or a process left over; a session has its own",
        memory=f"watched for each run; {largest.memory_mb + RUNNER_MB} MiB by control group for a "
        "container, no swap",
        process_limit="by user id for each run; "
        f"{largest.processes + RUNNER_PROCESSES} by control group for a container",
        disk=f"watched for each run; {largest.disk_mb} MiB and a number of files in each folder",
        system_calls="Docker's default seccomp profile and the runner's own" if filtered else "",
        missing=tuple(missing),
    )
