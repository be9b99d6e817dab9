"""Runs in another virtual environment, beside Prime's ``verifiers``: JSON lines in, JSON lines out.

Started as a plain file by ``rl_envs.bridges.prime_parent``; imports nothing but the standard
library and ``verifiers``. A request is ``{"id", "do", ...}``; its answer carries the same id and
``ok`` or ``error``. The conversation is the environment's own: a client that asks our side for each
reply stands where it expects a model.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import hashlib
import importlib
import importlib.metadata
import inspect
import itertools
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

Tree = dict[str, Any]

_failures: contextvars.ContextVar[list[str] | None] = contextvars.ContextVar(
    "failures", default=None
)


class Unusable(Exception):  # noqa: N818 - for the author of the environment or the configuration
    """What was asked for cannot be played; the message says why."""


def plain(message: Any) -> Tree:
    """A message as JSON: role, text, and the calls that an assistant made."""
    tree = message if isinstance(message, dict) else message.model_dump(exclude_none=True)
    content = tree.get("content")
    if isinstance(content, list):
        texts = [part.get("text") if isinstance(part, dict) else None for part in content]
        if not all(isinstance(text, str) for text in texts):
            raise Unusable("a message holds more than text (an image, say)")
        content = "\n".join(map(str, texts))
    kept = {"role": tree.get("role", "user"), "content": content or ""}
    for key in ("tool_call_id", "name"):
        if tree.get(key):
            kept[key] = tree[key]
    return kept


def digest(row: Any) -> str:
    """Names a row by its content."""
    kept = {key: row[key] for key in sorted(row) if key not in ("example_id", "idx")}
    text = json.dumps(kept, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).hexdigest()


class Conversation:
    """One episode: the environment's rollout runs as a task and waits here for every reply."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[Tree] = asyncio.Queue()
        self.replies: asyncio.Queue[Tree] = asyncio.Queue()
        self.task: asyncio.Task[Tree]

    async def asked(self, messages: list[Tree], tools: list[Tree]) -> Tree:
        """Called by the environment in place of a model: the reply."""
        self.events.put_nowait({"event": "ask", "messages": messages, "tools": tools})
        return await self.replies.get()

    async def following(self) -> Tree:
        """What happens next: a question, or the end."""
        event = asyncio.create_task(self.events.get())
        await asyncio.wait({event, self.task}, return_when=asyncio.FIRST_COMPLETED)
        if event.done():
            return event.result()
        event.cancel()
        return self.task.result()


class Classic:
    """``load_environment`` of verifiers up to 0.1.x: datasets, rubrics, ``env_response``."""

    def __init__(self, name: str, options: Tree, max_tasks: int) -> None:
        vf = importlib.import_module("verifiers")
        clients = importlib.import_module("verifiers.clients")
        self.types = importlib.import_module("verifiers.types")
        self.env = vf.load_environment(name, **options)
        if getattr(self.env, "requires_group_rollouts", False):
            raise Unusable("its rubric judges all samples of a task together")
        train = self.env.build_dataset()
        test = self.env.build_eval_dataset()
        self.rows = {"train": train, "test": test}
        self.max_tasks = max_tasks
        watch_rewards(self.env.rubric)

        class Policy(clients.Client):  # type: ignore[name-defined]
            """Stands where the environment expects a model."""

            def __init__(self, conversation: Conversation, types: Any) -> None:
                super().__init__(None)
                self.conversation, self.types = conversation, types

            async def get_response(
                self, prompt: Any, model: Any, sampling_args: Any, tools: Any = None, **kwargs: Any
            ) -> Any:
                """The reply that our side gives."""
                tools = [tool.model_dump(exclude_none=True) for tool in tools or []]
                said = await self.conversation.asked([plain(m) for m in prompt], tools)
                calls = [self.types.ToolCall(**call) for call in said["calls"]] or None
                message = self.types.ResponseMessage(
                    content=said["text"],
                    tool_calls=calls,
                    finish_reason="tool_calls" if calls else "stop",
                    is_truncated=False,
                )
                return self.types.Response(id="0", created=0, model="policy", message=message)

            async def unused(self, *args: Any, **kwargs: Any) -> Any:
                raise NotImplementedError

            setup_client = to_native_tool = to_native_prompt = get_native_response = unused
            raise_from_native_response = from_native_response = unused

            async def close(self) -> None:
                """Nothing is open."""

        self.policy = Policy

    def ids(self, split: str) -> list[str] | None:
        """The ids of a split's rows; None where it has none of its own."""
        rows = self.rows[split]
        if rows is None:
            return None
        return [digest(rows[i]) for i in range(min(len(rows), self.max_tasks))]

    async def play(self, conversation: Conversation, split: str, row: int) -> Tree:
        """One rollout, scored."""
        failures: list[str] = []
        _failures.set(failures)
        client = self.policy(conversation, self.types)
        state = await self.env._run_rollout_state(dict(self.rows[split][row]), client, "policy", {})
        error = state.get("error")
        if error is not None or failures:
            raise RuntimeError(failures[0] if failures else f"{type(error).__name__}: {error}")
        last: list[Tree] = []
        for message in reversed(state["completion"] or []):
            if getattr(message, "role", "") == "assistant":
                break
            last.insert(0, plain(message))
        stop = state.get("stop_condition")
        limits = ("max_turns_reached", "timeout_reached", "prompt_too_long")
        metrics = {k: float(v) for k, v in (state.get("metrics") or {}).items()}
        return {
            "event": "done",
            "messages": last,
            "reward": float(state["reward"]),
            "metrics": metrics,
            "truncated": stop in limits and self.env.max_turns != 1,
            "stop": stop,
        }


def watch_rewards(rubric: Any) -> None:
    """Notes the exceptions of reward functions, which verifiers turns into a reward of 0."""
    for each in getattr(rubric, "rubrics", None) or [rubric]:
        if getattr(each, "rubrics", None):
            watch_rewards(each)
            continue
        each.funcs = [watched(function) for function in each.funcs]


def watched(function: Callable[..., Any]) -> Callable[..., Any]:
    """The reward function, whose exceptions are noted."""

    def note(error: Exception) -> None:
        seen = _failures.get()
        if seen is not None:
            name = getattr(function, "__name__", "?")
            seen.append(f"reward function {name} raised {type(error).__name__}: {error}")

    @functools.wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Any:
        try:
            result = function(*args, **kwargs)
            return await result if inspect.isawaitable(result) else result
        except Exception as error:
            note(error)
            raise

    return call


class Tasks:
    """A taskset of verifiers 0.4 (``verifiers.v1``): its tasks, one turn each, and rewards."""

    def __init__(self, name: str, options: Tree, max_tasks: int) -> None:
        self.v1 = importlib.import_module("verifiers.v1")
        loaders = importlib.import_module("verifiers.v1.utils.loaders")
        generic = importlib.import_module("verifiers.v1.utils.generic")
        self.trace = importlib.import_module("verifiers.v1.trace")
        self.node = importlib.import_module("verifiers.v1.graph").MessageNode
        cls = loaders.taskset_class(name)
        config_type = generic.concrete_type(cls, self.v1.TasksetConfig) or self.v1.TasksetConfig
        taskset = cls(config_type(id=name, **options))
        self.tasks = list(itertools.islice(iter(taskset), max_tasks))
        if not self.tasks:
            raise Unusable("the taskset is empty")
        self._check(taskset, self.tasks[0])

    def _check(self, taskset: Any, task: Any) -> None:
        base = self.v1.Task
        if type(taskset).toolsets(taskset.config) or type(task).toolsets(task.config):
            raise Unusable("it has tool servers; only tasks of one turn without tools are played")
        if type(task).NEEDS_CONTAINER or type(task).setup is not base.setup:
            raise Unusable("its tasks set up a container; only tasks without a runtime are played")
        for handler in task.hooks("reward"):
            runtime = inspect.signature(handler).parameters.get("runtime")
            if runtime is not None and runtime.default is inspect.Parameter.empty:
                raise Unusable(f"its reward {handler.__name__} needs a runtime")

    def ids(self, split: str) -> list[str] | None:
        """The ids of the tasks; a taskset has no splits."""
        return [task.key for task in self.tasks] if split == "train" else None

    async def play(self, conversation: Conversation, split: str, row: int) -> Tree:
        """One turn, scored."""
        task = self.tasks[row]
        data = task.data
        messages = [{"role": "system", "content": data.system_prompt}] if data.system_prompt else []
        if isinstance(data.prompt, str):
            messages.append({"role": "user", "content": data.prompt})
        else:
            messages += [plain(message) for message in data.prompt or []]
        if not messages or messages[-1]["role"] == "system":
            raise Unusable("a task without a prompt: the user is to open the conversation")
        said = await conversation.asked(messages, [])
        trace = self._trace(task, messages, said["text"])
        await task.score(trace, None)
        missing = [name for name, reward in trace.rewards.items() if reward is None]
        if missing:
            raise RuntimeError(f"no verdict of {', '.join(missing)}")
        metrics = {name: reward.score for name, reward in trace.rewards.items()}
        metrics |= {name: value for name, value in trace.metrics.items() if value is not None}
        return {
            "event": "done",
            "messages": [],
            "reward": float(sum(reward.value for reward in trace.rewards.values())),
            "metrics": metrics,
            "truncated": False,
            "stop": None,
        }

    def _trace(self, task: Any, messages: list[Tree], text: str) -> Any:
        kinds = {"system": "SystemMessage", "user": "UserMessage", "assistant": "AssistantMessage"}
        types = importlib.import_module("verifiers.v1.types")
        nodes: list[Any] = []
        for message in [*messages, {"role": "assistant", "content": text}]:
            made = getattr(types, kinds[message["role"]])(content=message["content"])
            parent = len(nodes) - 1 if nodes else None
            nodes.append(self.node(parent=parent, message=made, sampled=False))
        nodes[-1].sampled = True
        about = self.trace.TraceTask.model_construct(
            type=type(task).__name__, data=task.data, key=task.key, hash=task.hash
        )
        return self.trace.Trace.model_construct(
            task=about, agent=None, nodes=nodes, is_completed=True, ok=True
        )


class Server:
    """Carries out requests; any number of conversations at once."""

    def __init__(self, write: Callable[[Tree], None]) -> None:
        self.write = write
        self.source: Any = None
        self.talks: dict[int, Conversation] = {}

    async def load(self, env: str, options: Tree, max_tasks: int, path: list[str]) -> Tree:
        """Loads the environment; its tasks' ids."""
        sys.path[:0] = path
        try:
            version = importlib.metadata.version("verifiers")
        except importlib.metadata.PackageNotFoundError:
            raise Unusable(
                f"no verifiers in {sys.prefix}: {sys.executable} -m pip install verifiers==0.1.14"
            ) from None
        try:
            v1_only = not hasattr(importlib.import_module("verifiers"), "load_environment")
            kind = Tasks if v1_only else Classic
            self.source = kind(
                env, options, max_tasks
            )  # it may set signal handlers: not in a thread
        except Unusable:
            raise
        except (Exception, SystemExit) as error:
            line = "".join(traceback.format_exception_only(error)).strip()
            raise Unusable(f"verifiers {version} cannot load {env!r}: {line}") from error
        ids = {split: self.source.ids(split) for split in ("train", "test")}
        return {"version": version, "ids": ids}

    async def start(self, session: int, split: str, row: int) -> Tree:
        """Begins an episode; its first question."""
        talk = Conversation()
        talk.task = asyncio.create_task(self.source.play(talk, split, row))
        self.talks[session] = talk
        return await self.next_of(session)

    async def say(self, session: int, text: str, calls: list[Tree]) -> Tree:
        """The model's reply; the next question, or the end."""
        self.talks[session].replies.put_nowait({"text": text, "calls": calls})
        return await self.next_of(session)

    async def next_of(self, session: int) -> Tree:
        """What happens next in an episode."""
        talk = self.talks[session]
        try:
            event = await talk.following()
        except BaseException:
            self.talks.pop(session, None)
            raise
        if event["event"] == "done":
            self.talks.pop(session, None)
        return event

    async def drop(self, session: int) -> Tree:
        """Ends an episode."""
        talk = self.talks.pop(session, None)
        if talk is not None:
            talk.task.cancel()
            await asyncio.gather(talk.task, return_exceptions=True)
        return {}

    async def answer(self, request: Tree) -> None:
        """Carries out a request and writes its answer."""
        number, do = request.pop("id"), request.pop("do")
        try:
            reply: Tree = {"ok": await getattr(self, do)(**request)}
        except Unusable as error:
            reply = {"error": str(error), "kind": "data"}
        except Exception as error:
            line = "".join(traceback.format_exception_only(error)).strip()
            reply = {"error": line[-1000:], "kind": "failure"}
        self.write({"id": number, **reply})


def main() -> None:
    """Serves standard input until it ends."""
    out = os.fdopen(os.dup(1), "w", encoding="ascii", newline="\n")
    os.dup2(2, 1)  # what environments print is no answer
    lock = threading.Lock()

    def write(tree: Tree) -> None:
        try:
            line = json.dumps(tree, allow_nan=False)
        except ValueError:
            line = json.dumps(
                {"id": tree["id"], "error": "a reward is no number", "kind": "failure"}
            )
        with lock:
            out.write(line + "\n")
            out.flush()

    async def serve() -> None:
        server, loop = Server(write), asyncio.get_running_loop()
        running: set[asyncio.Task[None]] = set()
        lines: asyncio.Queue[bytes] = asyncio.Queue()

        def read() -> None:
            for line in sys.stdin.buffer:
                loop.call_soon_threadsafe(lines.put_nowait, line)
            os.killpg(0, signal.SIGKILL)  # the parent is gone: so is everything that was started

        threading.Thread(target=read, daemon=True).start()
        while True:
            task = asyncio.create_task(server.answer(json.loads(await lines.get())))
            running.add(task)
            task.add_done_callback(running.discard)

    asyncio.run(serve())


if __name__ == "__main__":
    main()
