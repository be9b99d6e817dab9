"""What supervised fine-tuning learns from: demonstrations of an environment, or a file's rows."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing, suppress
from typing import Any, Protocol, TypeVar

import numpy as np

from agent_rl.chat import Chat
from agent_rl.chat_template import Tools
from agent_rl.config import DataConfig, SFTConfig
from agent_rl.episode import outside
from agent_rl.errors import UserError
from agent_rl.responses import refuse_other_notation
from agent_rl.rollout import TRIES, EpisodeFailed, seed_of
from agent_rl.stages import alphabet
from agent_rl.trajectory import Segment
from rl_envs import TextEnv, bucket, content_id, load_rows, make
from rl_envs.types import Message

HELD_OUT_SEED = 31_013
LOOKED_AT = 8  # demonstrations whose characters are looked up, before anything is trained
MOST_HELD_OUT = 0.15  # of the rows of a file
DEMONSTRATING = ("demonstrate", "demonstration")
Conversation = TypeVar("Conversation", bound=Sequence[Message])


class Examples(Protocol):
    """Where examples come from: a pure function of a seed."""

    def draw(self, seed: int, n: int) -> list[Segment]:
        """``n`` tokenized examples; the sampled positions are those trained on."""
        ...

    def close(self) -> None:
        """Give back what they hold."""
        ...


def examples_of(
    data: DataConfig, split: str, chat: Chat, context: int, *, n_held_out: int = 0
) -> Examples:
    """The examples that a configuration names.

    Args:
        data: What it names.
        split: ``train`` or ``test``, or another one that the environment has.
        chat: Makes them ids.
        context: The longest one, in tokens.
        n_held_out: About how many rows of a file are its ``test`` split; 0 for none.

    Raises:
        UserError: When it names none, or both a file and an environment.
    """
    if (data.path is None) == (data.env is None):
        raise UserError("data: give either path (a file) or env (its demonstrations)")
    if data.path is not None:
        return FileExamples(data.path, chat, context, split, n_held_out)
    return Demonstrations(data, split, chat, context)


def train_split(data: DataConfig) -> str:
    """The split that trains: the one among the environment's options, else ``train``."""
    return str(data.env.options.get("split", "train")) if data.env else "train"


def held_out_examples(config: SFTConfig, chat: Chat, context: int) -> list[Segment]:
    """Demonstrations of the test split, or the rows of a file that are held out.

    The smallest files may have none.

    Raises:
        UserError: When that is the split that trains.
    """
    if config.held_out == 0:
        return []
    if config.data.env is not None and train_split(config.data) == "test":
        raise UserError(
            f"data.env: {config.data.env.id} trains on 'test' itself; set held_out to 0 to go on"
        )
    made = examples_of(config.data, "test", chat, context, n_held_out=config.held_out)
    with closing(made) as source:
        if isinstance(source, FileExamples):
            return source.first(config.held_out)
        return source.draw(seed_of(HELD_OUT_SEED, config.run.seed), config.held_out)


def _shares(data: DataConfig, env: TextEnv) -> dict[str, float]:
    """The share of each style of demonstration.

    Raises:
        UserError: A style that the environment does not have, or shares that are no shares.
    """
    assert data.env is not None
    if not env.styles:
        overridden = [n for n in DEMONSTRATING if getattr(type(env), n) is not getattr(TextEnv, n)]
        if overridden:
            raise UserError(
                f"data.env: {data.env.id} overrides {overridden[0]} but has no `styles`; "
                'add styles = ("...",)'
            )
        raise UserError(
            f"data.env: {data.env.id} has no demonstrations: define `styles` and override "
            "`demonstrate(style, rng)` (or `demonstration`)"
        )
    styles = data.styles or dict.fromkeys(env.styles[:1], 1.0)
    unknown = [style for style in styles if style not in env.styles]
    if unknown:
        raise UserError(
            f"data.styles: {data.env.id} demonstrates {list(env.styles)}, not {unknown}"
        )
    if min(styles.values()) < 0 or sum(styles.values()) <= 0:
        raise UserError(f"data.styles: {styles} must be shares of 0 or more, and not all 0")
    return styles


class Demonstrations:
    """An environment's own answers to its own tasks, in given shares of its styles."""

    def __init__(self, data: DataConfig, split: str, chat: Chat, context: int) -> None:
        assert data.env is not None
        self._id = data.env.id
        self._env = make(data.env.id, **{**data.env.options, "split": split})
        self._chat = chat
        self._context = context
        shares = _shares(data, self._env)
        self._styles = list(shares)
        self._shares = np.array(list(shares.values())) / sum(shares.values())

    def draw(self, seed: int, n: int) -> list[Segment]:
        """``n`` demonstrations of tasks drawn at random."""
        rng = np.random.default_rng(seed)
        return [self._one(rng) for _ in range(n)]

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def refuse_unknown(self) -> None:
        """Look at a handful of demonstrations, where the tokenizer does not have every character.

        Raises:
            UserError: They are written in characters that it lacks.
        """
        if not alphabet.is_limited(self._chat):
            return
        rng, env = np.random.default_rng(0), self._env
        for number in range(max(LOOKED_AT, len(self._styles))):
            style = self._styles[number % len(self._styles)]
            with suppress(EpisodeFailed), outside:
                texts = alphabet.episode_texts(env, style, rng, self._chat, number)
                alphabet.refuse_unknown(
                    self._chat, texts, f"data.env: {self._id}", "its demonstrations are"
                )

    def _one(self, rng: np.random.Generator) -> Segment:
        """One demonstration; where the environment fails us (a dead sandbox), it is played again.

        Raises:
            UserError: It fails again, or the demonstration does not fit the context.
        """
        start = rng.bit_generator.state
        for tries_left in reversed(range(TRIES)):
            try:
                with outside:
                    return self._played(rng)
            except EpisodeFailed as error:
                if not tries_left:
                    raise UserError(
                        f"data.env: a demonstration of {self._id} failed {TRIES} times: {error}"
                    ) from error
                rng.bit_generator.state = start
        raise AssertionError("unreachable")

    def _played(self, rng: np.random.Generator) -> Segment:
        size = self._env.tasks.size
        index = int(rng.integers(2**31 if size is None else size))
        env = self._env
        seed = int(rng.integers(2**31))
        observation, info = env.reset(seed=seed, options={"index": index})
        tools: Tools | None = info.get("definitions")
        refuse_other_notation(self._chat, tools, f"data.env: {self._id}")
        style = self._styles[int(rng.choice(len(self._styles), p=self._shares))]
        ids = self._chat.prompt_ids(observation, tools=tools)
        n_prompt = len(ids)
        sampled: list[int] = []
        for text, answer in alphabet.demonstrated(env, style, rng, self._chat, tools):
            said = self._chat.completion_ids(text)
            sampled += range(len(ids), len(ids) + len(said))
            if answer is None:
                ids = [*ids, *said]
            else:
                ids = self._chat.next_prompt_ids(ids, said, answer, tools=tools)
        if len(ids) > self._context:
            raise UserError(
                f"data.env: {self._id}, task {index}: a demonstration of {len(ids)} tokens, but "
                f"the model's context is {self._context}; take a longer one, or shorter tasks"
            )
        return Segment(tuple(ids), tuple(sampled), n_prompt)


class FileExamples:
    """Rows with ``prompt`` and ``completion``, or ``messages`` that end with the assistant.

    The last message is trained on; or, where messages have a ``weight`` (OpenAI's convention), the
    assistant's messages of weight 1. A column ``tools`` is then told by the chat template.

    Args:
        path: The file.
        chat: Makes them ids.
        context: The longest row, in tokens.
        split: Which of them: ``test`` has those that are held out, ``train`` the others.
        n_held_out: About how many are held out; see ``split_rows``.
    """

    def __init__(
        self, path: str, chat: Chat, context: int, split: str = "train", n_held_out: int = 0
    ) -> None:
        self._examples = [
            example(messages, chat, context, where=where, tools=tools)
            for where, messages, tools in _split(path, split, n_held_out)
        ]

    def first(self, n: int) -> list[Segment]:
        """The first ``n`` rows, or all."""
        return self._examples[:n]

    def draw(self, seed: int, n: int) -> list[Segment]:
        """``n`` rows without repetition, as long as there are that many."""
        rng = np.random.default_rng(seed)
        size = len(self._examples)
        return [self._examples[i] for i in rng.choice(size, n, replace=n > size)]

    def close(self) -> None:
        """Nothing is held."""


def split_rows(path: str, split: str, n_held_out: int) -> list[tuple[str, list[Message]]]:
    """The conversations of a file that belong to a split, each with its place.

    About ``n_held_out`` rows and at most 15 % are ``test``, decided by the hash of the prompt alone
    (everything before the first message that is trained on): no prompt is in both, and order
    changes nothing.

    Raises:
        UserError: A row that is no example, or nothing is left to train on.
        DataError: A file that cannot be read.
    """
    return [(where, messages) for where, messages, _ in _split(path, split, n_held_out)]


def _split(path: str, split: str, n_held_out: int) -> list[tuple[str, list[Message], Tools | None]]:
    """``split_rows``, each with its tools too."""
    rows = []
    for n, row in enumerate(load_rows(path), start=1):
        where = f"{path}, row {n}"
        messages = _ending_with_an_answer(_messages(row, where), where)
        first = trained_places(messages, where)[0]
        tools = row.get("tools") if "weight" in messages[first] else None
        rows.append((first, (where, messages, tools)))
    share = min(MOST_HELD_OUT, n_held_out / max(1, len(rows)))
    splits = [bucket(content_id(row[1][:first]), share) for first, row in rows]
    if "train" not in splits:
        raise UserError(
            f"{path}: all {len(rows)} rows are held out and none is left to train on; "
            "add rows with other prompts, or set held_out to 0"
        )
    return [row for (_, row), its in zip(rows, splits, strict=True) if its == split]


def check_data(config: SFTConfig) -> None:
    """Whether there are examples of the right form; nothing is tokenized.

    Raises:
        UserError: A row that is no example, or styles that the environment does not have.
        DataError: A file or an environment that cannot be used.
    """
    data = config.data
    if data.path is not None:
        split_rows(data.path, "train", config.held_out)
    if data.env is not None:
        with closing(make(data.env.id, **{"split": "train", **data.env.options})) as env:
            _shares(data, env)
            env.reset(seed=0, options={"index": 0})


def _messages(row: Any, where: str) -> list[Message]:
    if row.get("messages"):
        return _conversation(row["messages"], f"{where}: messages")
    if row.get("prompt") is None or row.get("completion") is None:
        found = ", ".join(row)
        raise UserError(f"{where}: needs prompt and completion, or messages; it has {found}")
    prompt, completion = row["prompt"], row["completion"]
    if isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    if isinstance(completion, str):
        completion = [{"role": "assistant", "content": completion}]
    asked = _conversation(prompt, f"{where}: prompt")
    return [*asked, *_conversation(completion, f"{where}: completion")]


def _conversation(given: Any, where: str) -> list[Message]:
    """A list of messages, each with a role and a text.

    Raises:
        UserError: It is none.
    """
    whole = isinstance(given, list | tuple) and all(
        isinstance(m, dict) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str)
        for m in given
    )
    if not whole:
        raise UserError(f"{where} must be a list of {{role, content}}, both texts")
    return list(given)


def _ending_with_an_answer(messages: Conversation, where: str) -> Conversation:
    if not messages or messages[-1]["role"] != "assistant":
        raise UserError(f"{where}: the last message must be the assistant's")
    return messages


def trained_places(messages: Sequence[Message], where: str) -> list[int]:
    """Which messages are trained on: the assistant's of ``weight`` 1, else the last one.

    Raises:
        UserError: A weight other than 0 and 1, one of another role, or none of 1.
    """
    weights = {n: m["weight"] for n, m in enumerate(messages) if m.get("weight") is not None}  # type: ignore[typeddict-item]
    if not weights:
        return [len(messages) - 1]
    for number, weight in weights.items():
        if weight not in (0, 1) or messages[number]["role"] != "assistant":
            raise UserError(
                f"{where}: message {number + 1} has weight {weight!r:.40}; only messages of the "
                "assistant have one, 1 to train on or 0"
            )
    if not any(weights.values()):
        raise UserError(f"{where}: no message has weight 1, so there is nothing to train on")
    return [number for number, weight in weights.items() if weight]


def example(
    messages: Sequence[Message],
    chat: Chat,
    context: int,
    *,
    where: str,
    tools: Tools | None = None,
) -> Segment:
    """A conversation as ids, as a policy that answered turn by turn saw it.

    Args:
        messages: Ends with the assistant; see ``trained_places`` for what is trained on (with the
            token that ends each turn).
        chat: Makes ids.
        context: The longest one, in tokens.
        where: Its place, for messages.
        tools: OpenAI's definitions, for the template to tell.

    Raises:
        UserError: When it does not end with the assistant, or is longer than the context.
    """
    _ending_with_an_answer(messages, where)
    trained = trained_places(messages, where)
    said = [n for n in range(trained[0], trained[-1] + 1) if messages[n]["role"] == "assistant"]
    ids = chat.prompt_ids(_plain(messages[: trained[0]]), tools=tools)
    n_prompt = len(ids)
    sampled: list[int] = []
    for place, following in zip(said, [*said[1:], None], strict=True):
        answer = chat.completion_ids(messages[place]["content"])
        if place in trained:
            sampled += range(len(ids), len(ids) + len(answer))
        if following is None:
            ids = [*ids, *answer]
        else:
            new = _plain(messages[place + 1 : following])
            ids = chat.next_prompt_ids(ids, answer, new, tools=tools)
    if len(ids) > context:
        raise UserError(f"{where}: {len(ids)} tokens, but the model's context is {context}")
    return Segment(tuple(ids), tuple(sampled), n_prompt)


def _plain(messages: Sequence[Message]) -> list[Any]:
    """The messages as a chat template knows them."""
    return [{name: value for name, value in m.items() if name != "weight"} for m in messages]
