"""A box that stays: a persistent bash or Python, background processes, files, snapshots.

The supervisor reads the host's requests itself and answers them one by one. A command's end is a
message of the shell (or interpreter) on a descriptor that its children do not have, so that a
background process which holds the output open is not waited for.
"""

import ast
import base64
import json
import os
import select
import signal
import sys
import time
import traceback

from . import child, frames, supervisor

# Descriptors that a script is unlikely to use; a command has none of them, and its own 1 and 2.
_OUT, _ERR, _COMMANDS, _STATUS = 196, 197, 198, 199
_LOOP = (
    f'while IFS= read -r -d "" -u {_COMMANDS} REPLY; do eval "$REPLY" '
    f"1>&{_OUT} 2>&{_ERR} {_OUT}>&- {_ERR}>&- {_COMMANDS}<&- {_STATUS}>&-; "
    f"printf '{{\"code\":%d}}\\n' $? >&{_STATUS}; done"
)
_KEEP_SHELL = "printf 'cd %q\\n' \"$PWD\"; declare -f; alias -p; shopt -p; set +o; declare -p"
_POLITE_S, _FIRM_S = 0.3, 0.7
MAX_SNAPSHOTS = 8
MAX_STARTED = 64


def serve(box, job, source, sink):
    """Answer requests until ``close`` or the end of the stream."""
    session = Session(box, job["kind"], job["limits"])
    session.open()
    frames.write_all(sink, frames.pack({"opened": True}))
    while True:
        session.idle_until(source)
        try:
            request = frames.read_frame(source)
        except frames.FrameError:
            return
        if request["op"] == "close":
            box.spared.clear()
            box.end_all()
            return
        try:
            reply = getattr(session, "do_" + request.pop("op"))(**request)
        except (OSError, Refused) as error:
            number = getattr(error, "errno", None)
            reply = {"refused": getattr(error, "strerror", None) or str(error), "errno": number}
        frames.write_all(sink, frames.pack(reply))


class Refused(Exception):
    """A request that cannot be done; the message says why."""


class Session:
    """See the module."""

    def __init__(self, box, kind, limits):
        self.box, self.kind = box, kind
        self.limits = {**limits, "cpu_s": 1e6}  # of the whole session; the clock is for a command
        self.started = {}
        self.snapshots = {}
        self.numbers = 0
        self.run = None

    def open(self):
        """Make the groups and start the shell."""
        if self.box.rules.cgroups:
            self.box.rules.cgroups.begin(self.limits, "session")
        self._start_shell()

    def idle_until(self, source):
        """Until there is a request: keep background output flowing and memory watched."""
        poll = select.poll()
        poll.register(source, select.POLLIN)
        wait = 0.02
        while not poll.poll(wait * 1000):
            wait = min(0.25, wait * 1.5)
            for process in self.started.values():
                process.serve()
            if self._over_memory():
                self.box.end_all()

    # Commands.

    def do_run(self, command, timeout_s):
        """Run a command to its end, or until its time is over."""
        if not self.shell.alive():
            self._start_shell()
        before = {p.pid for p in self.box.processes()}
        run = Command(self, self.shell, command, timeout_s)
        verdict = run.wait(time.monotonic() + timeout_s)
        note = ""
        if verdict is not None and not run.done:
            note = self._interrupt(run, before)
        report = run.report(verdict, note)
        if not self.shell.alive():
            report["run"]["note"] = note or "the session's state ended; a new one was started"
            self._start_shell()
        return report

    def _interrupt(self, run, before):
        """End a command, the gentle way first, so that the shell and its state survive."""
        for number, patience in ((signal.SIGINT, _POLITE_S), (signal.SIGKILL, _FIRM_S)):
            for process in self.box.processes():
                if process.pid not in before and process.pid != self.shell.pid:
                    _send(process.pid, number)
            if number == signal.SIGINT and self.kind == "python":
                _send(self.shell.pid, number)
            if run.wait(time.monotonic() + patience, watched=False) is None and run.done:
                return "the command was ended; the session goes on"
        _send(self.shell.pid, signal.SIGKILL)
        run.wait(time.monotonic() + _FIRM_S, watched=False)
        return "the command was ended and with it the session's state; a new one was started"

    def _over_memory(self):
        groups = self.box.rules.cgroups
        if groups:
            return False  # the kernel ends what is too much
        resident, _, _, living, files = self.box.measure()
        limit = int(self.limits["memory_mb"]) << 20
        return resident > limit and self.box.proportional(living, files) > limit

    def _start_shell(self):
        if getattr(self, "shell", None) is not None:
            self.shell.close()
        self.shell = Shell(self.box, self.limits, self.kind)

    # Background processes.

    def do_start(self, command):
        """Start a process that goes on beside the shell."""
        if len(self.started) >= MAX_STARTED:
            raise Refused(f"{MAX_STARTED} background processes were started; close the session")
        self.numbers += 1
        self.started[self.numbers] = Background(self.box, self.limits, command)
        return {"number": self.numbers}

    def do_poll(self, number):
        """The run of a background process that ended; None while it goes on."""
        process = self._process(number)
        process.serve()
        return {"run": process.report() if process.ended else None}

    def do_stop(self, number):
        """End a background process and its descendants."""
        process = self._process(number)
        process.stop()
        return {"run": process.report()}

    def _process(self, number):
        if number not in self.started:
            raise Refused(f"no background process {number}")
        return self.started[number]

    # Files.

    def do_put(self, path, data):
        """Write a file beneath the working folder."""
        root = os.open(self.box.rules.work, os.O_RDONLY | os.O_DIRECTORY)
        try:
            supervisor.put_file(root, path, base64.b64decode(data))
        finally:
            os.close(root)
        return {}

    def do_get(self, path, max_bytes):
        """Read a regular file beneath the working folder."""
        root = os.open(self.box.rules.work, os.O_RDONLY | os.O_DIRECTORY)
        try:
            data = supervisor.get_file(root, path, max_bytes)
        finally:
            os.close(root)
        return {"data": base64.b64encode(data).decode()}

    # Snapshots.

    def do_snapshot(self):
        """Keep the files, and the variables of the shell or interpreter."""
        if len(self.snapshots) >= MAX_SNAPSHOTS:
            raise Refused(f"a session keeps {MAX_SNAPSHOTS} snapshots at most")
        kept = {"files": [self._packed(folder) for folder in self._folders()]}
        if self.kind == "python":
            kept["frozen"] = self.shell.freeze()
            self.box.spared.add(kept["frozen"])
        else:
            run = Command(self, self.shell, _KEEP_SHELL, self.limits["wall_s"], keep=4 << 20)
            if run.wait(run.deadline) is not None or not run.done:
                raise Refused("the shell does not answer")
            kept["shell"] = run.out.content().decode("utf-8", "surrogateescape")
        self.numbers += 1
        self.snapshots[self.numbers] = kept
        return {"number": self.numbers}

    def do_restore(self, number):
        """Go back to a kept state; all that runs is ended."""
        if number not in self.snapshots:
            raise Refused(f"no snapshot {number}")
        kept = self.snapshots[number]
        self.box.end_all()
        self.started.clear()
        self.box.renew_folders(self.limits)
        for folder, data in zip(self._folders(), kept["files"]):
            self._unpacked(folder, data)
        if self.kind == "python":
            self.shell.thaw(kept["frozen"])
        else:
            self._start_shell()
            text = f"{{ {kept['shell']}\n}} 2>/dev/null"
            run = Command(self, self.shell, text, self.limits["wall_s"])
            run.wait(run.deadline)
        return {}

    def _folders(self):
        return [self.box.rules.work, self.box.rules.tmp]

    def _packed(self, folder):
        """A folder as a tar in memory, read with the job's own rights."""
        data = os.memfd_create("snapshot")
        self._tar(["tar", "-C", folder, "-cf", "-", "."], stdout=data)
        return data

    def _unpacked(self, folder, data):
        os.lseek(data, 0, os.SEEK_SET)
        self._tar(["tar", "-C", folder, "-xf", "-"], stdin=data)

    def _tar(self, words, stdin=None, stdout=None):
        null = os.open(os.devnull, os.O_RDWR)
        errors = supervisor.Stream(1 << 12)
        pid = os.fork()
        if pid == 0:
            try:
                streams = (null if stdin is None else stdin, null if stdout is None else stdout)
                child.take_streams(*streams, errors.writer)
                roomy = {**self.limits, "disk_mb": 4 * self.limits["disk_mb"]}
                child.confine(self.box.rules, roomy)
                os.execvp(words[0], words)
            finally:
                os._exit(98)
        os.close(null)
        errors.started()
        _, status = os.waitpid(pid, 0)
        errors.drain()
        errors.close()
        if status:
            said = errors.content().decode("utf-8", "replace").strip().splitlines()
            raise Refused(f"the files cannot be kept: {said[-1] if said else status}")


class Shell:
    """The persistent bash or Python, and the descriptors to speak with it."""

    def __init__(self, box, limits, kind):
        self.box, self.limits, self.kind = box, limits, kind
        commands, self.commands = os.pipe()
        self.status, status = os.pipe()
        os.set_blocking(self.status, False)
        self.out, self.err = os.pipe(), os.pipe()
        null = os.open(os.devnull, os.O_RDONLY)
        self.pid = os.fork()
        if self.pid == 0:
            self._become(null, commands, status)
        for fd in (null, commands, status, self.out[1], self.err[1]):
            os.close(fd)
        self.out, self.err = self.out[0], self.err[0]
        for fd in (self.out, self.err):
            os.set_blocking(fd, False)
        self.pidfd = os.pidfd_open(self.pid)

    def _become(self, null, commands, status):
        try:
            pairs = ((self.out[1], _OUT), (self.err[1], _ERR), (commands, _COMMANDS))
            kept = [os.dup2(fd, number) for fd, number in (*pairs, (status, _STATUS))]
            child.take_streams(null, self.out[1], self.err[1])
            child.confine(self.box.rules, self.limits)
            os.closerange(3, _OUT)
            child.linux.close_from(_STATUS + 1)
            for fd in kept:
                os.set_inheritable(fd, True)
            if self.kind == "python":
                child.fresh_streams()
                interpret()
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            os.execvpe("bash", ["bash", "--noprofile", "--norc", "-c", _LOOP], os.environ)
        except BaseException as error:
            os.write(2, f"sandbox: {type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(98)

    def alive(self):
        """Whether it runs."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return not poll.poll(0)

    def send(self, command):
        """Give it something to do; False if it is gone or does not listen."""
        if self.kind == "python":
            data = json.dumps(command).encode() + b"\n"
        else:
            text = command["run"].replace("\0", "")
            data = text.encode("utf-8", "surrogateescape") + b"\0"
        try:
            frames.write_all(self.commands, data)
        except OSError:
            return False
        return True

    def freeze(self):
        """Python: fork, keep one as it is; the frozen one's pid. The other goes on."""
        said = self._told({"freeze": True})
        self._follow(said["live"])
        return said["frozen"]

    def thaw(self, frozen):
        """Python: go on from a frozen interpreter, which stays."""
        _send(frozen, signal.SIGCONT)
        self._follow(self._answer()["live"])

    def _told(self, command):
        self.send(command)
        return self._answer()

    def _answer(self):
        poll = select.poll()
        poll.register(self.status, select.POLLIN)
        data, deadline = b"", time.monotonic() + 5
        while not data.endswith(b"\n"):
            if not poll.poll(max(0, deadline - time.monotonic()) * 1000):
                raise Refused("the interpreter does not answer")
            data += os.read(self.status, 1 << 16)
        return json.loads(data.splitlines()[-1])

    def _follow(self, pid):
        os.close(self.pidfd)
        self.pid, self.pidfd = pid, os.pidfd_open(pid)

    def close(self):
        """Let go of it."""
        for fd in (self.commands, self.status, self.out, self.err, self.pidfd):
            os.close(fd)
        self.box.reap()


class Tap(supervisor.Stream):
    """What comes out of a descriptor that stays open, while a command runs."""

    def __init__(self, fd, keep):
        self.fd = fd
        self.begin(keep)

    def close(self):
        """It is not ours to close."""
        self.open = False


class Command:
    """A command in the shell: its output, until the shell says that it is done."""

    def __init__(self, session, shell, command, timeout_s, keep=None):
        self.session, self.shell = session, shell
        keep = int(session.limits["output_kb"]) << 10 if keep is None else keep
        self.out, self.err = Tap(shell.out, keep), Tap(shell.err, keep)
        self.said = b""
        self.done = False
        self.began = time.monotonic()
        self.deadline = self.began + timeout_s
        self.cpu = session.box.measure()[1]
        self.peak = 0
        shell.send({"run": command})

    def wait(self, deadline, watched=True):
        """Until it is done or the shell is gone (None), or a limit is broken (which)."""
        poll = select.poll()
        for fd in (self.shell.pidfd, self.shell.status, self.out.fd, self.err.fd):
            poll.register(fd, select.POLLIN)
        look = time.monotonic() + 0.01
        while True:
            now = time.monotonic()
            ready = {fd for fd, _ in poll.poll(max(0.0, min(look, deadline) - now) * 1000 + 0.5)}
            for tap in (self.out, self.err):
                if tap.fd in ready:
                    tap.drain()
                    if not tap.open:  # the shell and all its children closed it
                        poll.unregister(tap.fd)
            if self.shell.status in ready:
                self.said += self._read_status()
            if b"\n" in self.said or self.shell.pidfd in ready:
                self.done = b"\n" in self.said
                for tap in (self.out, self.err):
                    if tap.open:
                        tap.drain()
                return None
            if watched and (self.out.flooded or self.err.flooded):
                return "output_limit"
            now = time.monotonic()
            if now >= deadline:
                return "timeout"
            if now >= look:
                look = now + 0.025
                if watched and self.session._over_memory():
                    return "memory"

    def _read_status(self):
        try:
            return os.read(self.shell.status, 1 << 16)
        except BlockingIOError:
            return b""

    def report(self, verdict, note):
        """What was seen, for the host."""
        code = 1
        if self.done:
            try:
                code = int(json.loads(self.said.splitlines()[0])["code"])
            except (ValueError, KeyError, TypeError):
                note = note or "the shell's answer was broken"
        status = verdict or ("ok" if self.done and code == 0 else "error")
        wall_s = time.monotonic() - self.began
        box = self.session.box
        ended = box.reap()
        wait = None if verdict else (code & 0xFF) << 8
        if not self.done and verdict is None:  # the shell itself ended
            wait = ended.get(self.shell.pid, 0)  # 0: not our child, after a restored snapshot
            status = "ok" if wait == 0 else "crash" if os.WIFSIGNALED(wait) else "error"
        return {
            "run": {
                "status": status,
                "stdout": self.out.text(),
                "stderr": self.err.text(),
                "stdout_cut": self.out.cut,
                "stderr_cut": self.err.cut,
                "said": None,
                "said_cut": False,
                "wait": wait,
                "wall_s": wall_s,
                "cpu_s": max(0.0, box.measure()[1] - self.cpu),
                "peak": box.measure()[0],
                "n_left": 0,
                "note": note,
            }
        }


class Background:
    """A process that goes on beside the shell."""

    def __init__(self, box, limits, command):
        self.run = supervisor.Supervised(box, limits)
        self.run.start(lambda: child.run_shell(command))
        self.ended = False

    def serve(self):
        """Take what it wrote; note that it ended."""
        for stream in self.run.streams:
            stream.drain()
        poll = select.poll()
        poll.register(self.run.pidfd, select.POLLIN)
        if not self.ended and poll.poll(0):
            self._end()

    def _end(self):
        self.ended = True
        self.run.wall_s = time.monotonic() - self.run.started
        try:
            _, self.run.status = os.waitpid(self.run.pid, 0)
        except ChildProcessError:  # a sweep reaped it
            self.run.verdict = self.run.verdict or "crash"
        for stream in self.run.streams:
            stream.drain()

    def stop(self):
        """End it and its descendants."""
        if self.ended:
            return
        box = self.run.box
        family, growing = {self.run.pid}, True
        while growing:
            more = {p.pid for p in box.processes() if p.parent in family} - family
            family |= more
            growing = bool(more)
            for pid in family:
                _send(pid, signal.SIGSTOP)
        for pid in family:
            _send(pid, signal.SIGKILL)
        self._end()

    def report(self):
        """What was seen, for the host."""
        return self.run.report()


def interpret():
    """The persistent Python: run cells until the stream ends."""
    namespace = child.new_module("__main__", "").__dict__
    requests = open(_COMMANDS, encoding="utf-8", closefd=False)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    while line := _next_line(requests):
        request = json.loads(line)
        if "freeze" in request:
            _freeze()
            continue
        code = run_cell(request["run"], namespace)
        _say({"code": code})
    os._exit(0)


def _next_line(requests):
    while True:
        try:
            return requests.readline()
        except KeyboardInterrupt:  # late: the cell had ended
            continue


def _say(message):
    os.write(_STATUS, json.dumps(message).encode() + b"\n")


def _freeze():
    """Fork; the parent stops, and forks again each time it is woken."""
    while True:
        live = os.fork()
        if live == 0:
            return
        _say({"frozen": os.getpid(), "live": live})
        os.kill(os.getpid(), signal.SIGSTOP)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the one that went on is gone


def run_cell(source, namespace):
    """Run a cell; the value of a last expression is printed. 0, or 1 after an exception."""
    os.dup2(_OUT, 1)
    os.dup2(_ERR, 2)
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    child.linecache.cache[child.FILE] = (len(source), None, source.splitlines(True), child.FILE)
    try:
        tree = ast.parse(source, child.FILE)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, child.FILE, "exec"), namespace)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), child.FILE, "eval"), namespace)
            if value is not None:
                print(repr(value))
    except SystemExit as end:
        return 0 if end.code in (None, 0) else 1
    except KeyboardInterrupt:
        traceback.print_exc(limit=0)
        return 1
    except BaseException as error:
        child.show(error)
        return 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except BaseException:
                pass
    return 0


def _send(pid, number):
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass
