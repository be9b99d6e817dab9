"""``agent-rl tokens``: one episode as the trainer reads it, each token by where it came from."""

from __future__ import annotations

import asyncio
import io
import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console as Terminal
from rich.text import Text

import rl_envs
from agent_rl.errors import UserError
from agent_rl.overrides import override_tree
from agent_rl.runs.files import to_json
from agent_rl.runs.text import clean

if TYPE_CHECKING:
    from agent_rl.chat import Chat
    from agent_rl.trajectory import Trajectory

MAX_TOKENS = 256  # of a turn that the model samples
STYLES = {
    "sampled": "bold black on green",
    "template": "dim",
    "system": "magenta",
    "user": "cyan",
    "tool": "yellow",
    "few-shot assistant": "blue",
    "earlier sampled": "green",
}
MEANINGS = {
    "sampled": "what the policy said: trained on",
    "template": "what the chat template writes around messages",
    "system": "system message",
    "user": "messages of the user",
    "tool": "results of tools",
    "few-shot assistant": "assistant's messages that the environment wrote",
    "earlier sampled": "sampled in an earlier segment, only read in this one",
}
PRINTABLE = "\n" + "".join(map(chr, range(32, 127)))

Speak = Callable[[Any, Sequence[int]], Awaitable[tuple[Sequence[int], Sequence[float], str]]]


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be shown.

    Attributes:
        env: An id, or ``file.py[:Class]``.
        model: A folder, a hub id, or ``tiny``.
        index: The task; None draws one.
        seed: Of the episode and of samples.
        policy: ``expert`` or ``model``.
        history: As in ``Chat``.
        html: A file to write as well.
        as_json: Print one JSON object instead.
        max_tokens: Of a turn that the model samples.
    """

    env: str
    model: str
    index: int | None
    seed: int
    policy: str
    history: str
    html: str | None
    as_json: bool
    max_tokens: int = MAX_TOKENS


def show_tokens(request: Request, overrides: Sequence[str]) -> int:
    """Play one episode and print its tokens.

    Args:
        request: What is to be shown.
        overrides: Constructor options of the environment, as in ``--terms 3``.

    Raises:
        UserError: The index is outside the tasks, the model cannot be loaded, or the template
            refuses the environment's messages.
        DataError: No such environment or option, or it has no expert.
    """
    env = rl_envs.make(request.env, **override_tree(overrides))
    env.prepare()
    size = env.tasks.size
    if request.index is not None and not 0 <= request.index < (size or request.index + 1):
        raise UserError(
            f"--index {request.index}: {request.env} has {size or 'endless'} tasks, from 0 on"
        )
    chat, speak = _policy(request)
    try:
        trajectory, tools = asyncio.run(_play(env, chat, speak, request))
    finally:
        env.close()
    from agent_rl.provenance import audit, counts, provenance  # noqa: PLC0415 - after the model

    found = audit(trajectory)
    kinds = provenance(trajectory, chat, tools=tools)
    segments = [
        (segment, _runs(chat, segment.ids, labels))
        for segment, labels in zip(found, kinds, strict=True)
    ]
    summary = {
        "env": request.env,
        "task": trajectory.task_id,
        "policy": request.policy,
        "turns": len(trajectory.turns),
        "return": trajectory.total_reward,
        "counts": counts(kinds),
        "segments": [
            {"ids": list(segment.ids), "sampled": list(segment.sampled), "runs": runs}
            for segment, runs in segments
        ],
    }
    if request.as_json:
        print(to_json(summary))
    else:
        _print(summary, Terminal(markup=False, highlight=False, emoji=False))
    if request.html:
        _write_html(summary, Path(request.html))
    return 0


def _policy(request: Request) -> tuple[Chat, Speak]:
    """The chat template, and what speaks."""
    from agent_rl import models  # noqa: PLC0415 - torch
    from agent_rl.config import ModelConfig, TinyModel  # noqa: PLC0415

    tiny = TinyModel(hidden_size=32, layers=1, heads=2, characters=PRINTABLE, context=4096)
    history: Any = request.history
    config = (
        ModelConfig(tiny=tiny, history=history)
        if request.model == "tiny"
        else ModelConfig(path=request.model, history=history)
    )
    if request.policy == "model":
        model, chat = models.load(config, request.seed)
        return chat, _sampler(model, chat, request)
    chat = models.load_chat(config)
    return chat, _expert(chat, request.seed)


def _expert(chat: Chat, seed: int) -> Speak:
    """The environment's expert; its text is tokenized as a stand-in for sampled ids."""
    import numpy as np  # noqa: PLC0415

    rng = np.random.default_rng(seed)

    async def speak(env: rl_envs.TextEnv, prompt: Sequence[int]) -> Any:
        ids = chat.completion_ids(env.expert(rng))
        return ids, [0.0] * len(ids), "stop"

    return speak


def _sampler(model: Any, chat: Chat, request: Request) -> Speak:
    from agent_rl import models  # noqa: PLC0415 - torch
    from agent_rl.engines import Sampling, TorchEngine  # noqa: PLC0415
    from agent_rl.rollout import seed_of  # noqa: PLC0415

    engine = TorchEngine(
        model, eos_token_ids=models.end_token_ids(model, chat), tokenizer=chat.tokenizer
    )
    turns = itertools.count()

    async def speak(env: rl_envs.TextEnv, prompt: Sequence[int]) -> Any:
        sampling = Sampling(request.max_tokens, seed=seed_of(request.seed, next(turns)))
        done = await engine.generate(prompt, sampling)
        return done.token_ids, done.logprobs, done.finish_reason

    return speak


async def _play(
    env: rl_envs.TextEnv, chat: Chat, speak: Speak, request: Request
) -> tuple[Trajectory, Any]:
    """One episode, and the tools that the template told; a turn cut at the limit ends it."""
    from agent_rl.trajectory import Trajectory, Turn  # noqa: PLC0415

    options = {} if request.index is None else {"index": request.index}
    observation, info = await env.areset(seed=request.seed, options=options)
    tools = info.get("tools") if isinstance(info.get("tools"), list) else None
    trajectory = Trajectory(request.env, str(info["task_id"]), 0, 0, opening=observation)
    prompt = chat.prompt_ids(observation, tools=tools)
    while not (trajectory.terminated or trajectory.truncated or trajectory.cut):
        ids, logprobs, reason = await speak(env, prompt)
        text, reward = chat.decode(ids), 0.0
        if reason == "length":
            trajectory.cut = True
        else:
            action: Any = chat.parse(ids, tools=tools) if tools else text
            observation, reward, terminated, truncated, info = await env.astep(action)
            trajectory.terminated, trajectory.truncated = terminated, truncated
            trajectory.answers.append(observation)
        trajectory.turns.append(
            Turn(tuple(prompt), tuple(ids), tuple(logprobs), text, float(reward), reason)
        )
        if not (trajectory.terminated or trajectory.truncated or trajectory.cut):
            prompt = _next(env, chat, trajectory, prompt, tools)
    return trajectory, tools


def _next(
    env: rl_envs.TextEnv, chat: Chat, trajectory: Trajectory, prompt: list[int], tools: Any
) -> list[int]:
    newest = trajectory.answers[-1]
    if env.memory == "last":
        system = [m for m in trajectory.opening if m["role"] == "system"]
        return chat.prompt_ids([*system, *newest], tools=tools) if newest else prompt
    if chat.history == "append":
        return chat.next_prompt_ids(
            prompt, trajectory.turns[-1].completion_ids, newest, tools=tools
        )
    return chat.conversation_ids(
        trajectory.opening,
        [turn.completion_ids for turn in trajectory.turns],
        trajectory.answers,
        tools=tools,
    )


def _runs(chat: Chat, ids: Sequence[int], kinds: Sequence[str]) -> list[dict[str, Any]]:
    """Neighbouring tokens of one kind, with their text."""
    out = []
    pairs = zip(ids, kinds, strict=True)
    for kind, run in itertools.groupby(pairs, key=lambda pair: pair[1]):
        part = [i for i, _ in run]
        text = chat.tokenizer.decode(part, clean_up_tokenization_spaces=False)
        out.append({"kind": kind, "tokens": len(part), "text": text})
    return out


def _print(summary: dict[str, Any], terminal: Terminal) -> None:
    coloured = terminal.is_terminal and terminal.color_system is not None

    def say(*parts: tuple[str, str] | str) -> None:
        terminal.print(_safe(parts, terminal.encoding), soft_wrap=True)

    head = f"{summary['env']}, task {summary['task']}, {summary['policy']}: "
    say(f"{head}{summary['turns']} turns, return {summary['return']:g}")
    for number, segment in enumerate(summary["segments"]):
        if len(summary["segments"]) > 1:
            say(f"--- segment {number}")
        if coloured:
            say(*((run["text"], STYLES[run["kind"]]) for run in segment["runs"]))
        else:
            for run in segment["runs"]:
                say(f"[{run['kind']} {run['tokens']}] {run['text']}")
    say("")
    for kind, number in summary["counts"].items():
        if number or kind == "sampled":
            say((f"{kind:18}", STYLES[kind]), f" {number:6,}  {MEANINGS[kind]}")


def _safe(parts: Sequence[tuple[str, str] | str], encoding: str) -> Text:
    """Text with styles in which nothing acts on the terminal."""
    text = Text()
    for part in parts:
        plain, style = (part, "") if isinstance(part, str) else part
        text.append(clean(plain, encoding), style)
    return text


def _write_html(summary: dict[str, Any], path: Path) -> None:
    """The transcript as a page of its own."""
    from agent_rl.runs import write_atomically  # noqa: PLC0415

    terminal = Terminal(
        record=True,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        width=120,
        markup=False,
        highlight=False,
        emoji=False,
    )
    _print(summary, terminal)
    write_atomically(path, terminal.export_html(inline_styles=True))
