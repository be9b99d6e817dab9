"""``agent-rl tokens``: one episode as the trainer reads it, each token by where it came from."""

from __future__ import annotations

import asyncio
import io
import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from gymnasium.utils import seeding
from rich.console import Console as Terminal
from rich.text import Text
from transformers import AutoConfig

import rl_envs
from agent_rl import models
from agent_rl.chat import Chat, NoChatTemplate
from agent_rl.config import ModelConfig, TinyModel
from agent_rl.engines import PromptTooLong, Sampling, TorchEngine
from agent_rl.episode import NO_DEADLINES, Assignment, Player, outside
from agent_rl.errors import UserError
from agent_rl.overrides import override_tree
from agent_rl.provenance import audit, counts, provenance
from agent_rl.responses import refuse_other_notation
from agent_rl.rollout import play_with
from agent_rl.runs import write_atomically
from agent_rl.runs.files import to_json
from agent_rl.runs.text import clean
from agent_rl.trajectory import Trajectory, Turn

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
    """Play one episode as training plays it, and print its tokens.

    Args:
        request: What is to be shown.
        overrides: Constructor options of the environment, as in ``--terms 3``.

    Raises:
        UserError: The index is outside the tasks, the model cannot be loaded, the template refuses
            the environment's messages, or the episode failed by our fault.
        DataError: No such environment or option, or it has no expert.
    """
    env = rl_envs.make(request.env, **override_tree(overrides))
    env.prepare()
    size = env.tasks.size
    if request.index is not None and not 0 <= request.index < (size or request.index + 1):
        raise UserError(
            f"--index {request.index}: {request.env} has {size or 'endless'} tasks, from 0 on"
        )
    index = request.index
    if index is None:  # the one that a reset with this seed draws
        index = int(seeding.np_random(request.seed)[0].integers(size or 2**31))
    player = _player(request)
    task = Assignment(env, request.env, index, request.seed)
    try:
        played = asyncio.run(play_with(player, [task], group_size=1, seed=request.seed))
    finally:
        env.close()
    if played[0].error is not None:
        raise UserError(f"{request.env}, task {played[0].task_id}: {played[0].error}")
    summary = _summary(request, played, player.chat)
    if request.as_json:
        print(to_json(summary))
    else:
        _print(summary, Terminal(markup=False, highlight=False, emoji=False))
    if request.html:
        _write_html(summary, Path(request.html))
    return 0


def _summary(request: Request, played: Sequence[Trajectory], chat: Chat) -> dict[str, Any]:
    """The episode, or the view of each of its seats one after another, with their tokens."""
    seats = [{"seat": t.seat} if len(played) > 1 else {} for t in played]
    kinds = [provenance(each, chat, tools=each.definitions) for each in played]
    returns = [each.total_reward for each in played]
    return {
        "env": request.env,
        "task": played[0].task_id,
        "policy": request.policy,
        "turns": sum(len(each.turns) for each in played),
        "return": returns[0] if len(returns) == 1 else returns,
        "counts": counts([labels for each in kinds for labels in each]),
        "segments": [
            {
                **seat,
                "ids": list(segment.ids),
                "sampled": list(segment.sampled),
                "runs": _runs(chat, segment.ids, labels),
            }
            for seat, each, its in zip(seats, played, kinds, strict=True)
            for segment, labels in zip(audit(each), its, strict=True)
        ],
    }


def _player(request: Request) -> Player:
    """Who speaks."""
    tiny = TinyModel(hidden_size=32, layers=1, heads=2, characters=PRINTABLE, context=4096)
    history: Any = request.history
    config = (
        ModelConfig(tiny=tiny, history=history)
        if request.model == "tiny"
        else ModelConfig(path=request.model, history=history)
    )
    sampling = Sampling(request.max_tokens)
    try:
        if request.policy == "expert":
            chat = models.load_chat(config)
            engine: Any = _Silent(tiny.context if config.tiny else _context(request.model))
            return _Expert(engine, chat, sampling, "zero", NO_DEADLINES)
        model, chat = models.load(config, request.seed)
    except NoChatTemplate:
        raise UserError(
            f"--model {request.model}: its tokenizer has no chat template; give a model that has "
            "one, or put a chat_template.jinja into its folder"
        ) from None
    engine = TorchEngine(
        model, eos_token_ids=models.end_token_ids(model, chat), tokenizer=chat.tokenizer
    )
    return Player(engine, chat, sampling, "zero", NO_DEADLINES)


def _context(path: str) -> int:
    """The context of a model that is not loaded; no limit where its folder does not say."""
    try:
        found: Any = SimpleNamespace(config=AutoConfig.from_pretrained(path))
        return models.context_length(found)
    except (OSError, ValueError, UserError):
        return sys.maxsize


@dataclass(frozen=True, slots=True)
class _Silent:
    """In the place of an engine where the environment's expert speaks."""

    context_length: int


class _Expert(Player):
    """The environment's expert; its text is tokenized as a stand-in for sampled ids."""

    __slots__ = ()

    async def speak(
        self, env: rl_envs.TextEnv, trajectory: Trajectory, prompt: tuple[int, ...], seed: int
    ) -> Turn:
        """What the expert says, as far as the context holds it."""
        refuse_other_notation(self.chat, trajectory.definitions, trajectory.env)
        room = self.engine.context_length - len(prompt)
        if room < 1:
            raise PromptTooLong(f"a prompt of {len(prompt)} tokens fills the context")
        with outside:
            said = self.chat.completion_ids(env.expert(np.random.default_rng(seed)))
        ids, reason = tuple(said[:room]), "stop" if len(said) <= room else "length"
        return Turn(prompt, ids, (0.0,) * len(ids), self.chat.decode(ids), 0.0, reason)


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
    earned = summary["return"]
    shown = ", ".join(f"{x:g}" for x in (earned if isinstance(earned, list) else [earned]))
    say(f"{head}{summary['turns']} turns, return {shown}")
    for number, segment in enumerate(summary["segments"]):
        if len(summary["segments"]) > 1:
            seat = f", seat {segment['seat']}" if "seat" in segment else ""
            say(f"--- segment {number}{seat}")
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
