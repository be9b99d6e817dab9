"""The verifier ``reward_model``: a learned reward by name, wherever a verifier may stand.

Nothing here imports torch before the first score, so listing the verifiers stays quick.
"""

from __future__ import annotations

import asyncio
import copy
import importlib.util
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args
from weakref import WeakKeyDictionary

from rl_verifiers import Row, Score, VerifierError, make, score_one, score_sync
from rl_verifiers.option_checks import check_number, check_one_of, check_whole

if TYPE_CHECKING:
    from agent_rl.reward_models.model import RewardModel
    from rl_envs import Message
    from rl_verifiers import Verifier

Normalize = Literal["none", "standard", "sigmoid"]

PATIENCE = 32
"""Passes of the event loop without another request after which those that wait are scored."""
BATCH = 64
"""Most conversations of one batch."""
KEPT = 4
"""Networks that a process keeps; the one that was asked for longest ago goes first."""

_lock = threading.Lock()


class Scorer:
    """One frozen network of this process, and the requests that wait for it in each event loop."""

    def __init__(self, model: RewardModel) -> None:
        self.model = model
        self._lock = threading.Lock()
        self._queues: WeakKeyDictionary[asyncio.AbstractEventLoop, _Queue] = WeakKeyDictionary()

    async def score(self, conversation: Sequence[Message]) -> float | str:
        """The raw reward of one conversation, or why there is none; see :class:`_Queue`."""
        loop = asyncio.get_running_loop()
        if loop not in self._queues:
            self._queues[loop] = _Queue(self)
        return await self._queues[loop].ask(conversation)

    def score_batch(self, conversations: Sequence[Sequence[Message]]) -> list[float | str]:
        """The raw rewards of some conversations; a text says why one has none."""
        keys = [tuple((m["role"], m["content"]) for m in each) for each in conversations]
        apart = dict(zip(keys, conversations, strict=True))
        with self._lock:
            rewards = self._rewards(list(apart.values()))
        found = dict(zip(apart, rewards, strict=True))
        return [found[key] for key in keys]

    def _rewards(self, conversations: list[Sequence[Message]]) -> list[float | str]:
        try:
            return [float(value) for value in self.model.score(conversations)]
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a damaged network, memory, a panic of tokenizers
            if len(conversations) == 1:
                return [f"{type(error).__name__}: {error!s:.300}"]
            return [self._rewards([each])[0] for each in conversations]


class _Queue:
    """Gathers what is asked in one event loop into batches.

    A batch begins when no request has come for ``PATIENCE`` passes of the loop, or when it is full.
    No clock is read: the same requests in the same order make the same batches.
    """

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._waiting: list[tuple[Sequence[Message], asyncio.Future[float | str]]] = []
        self._driver: asyncio.Task[None] | None = None

    async def ask(self, conversation: Sequence[Message]) -> float | str:
        """Wait for the reward of a conversation."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[float | str] = loop.create_future()
        self._waiting.append((conversation, future))
        if self._driver is None:
            self._driver = loop.create_task(self._drive())
        return await future

    async def _drive(self) -> None:
        batch: list[tuple[Sequence[Message], asyncio.Future[float | str]]] = []
        try:
            while self._waiting:
                await self._settle()
                batch = self._waiting[:BATCH]
                del self._waiting[:BATCH]
                batch = [(asked, future) for asked, future in batch if not future.done()]
                if not batch:
                    continue
                rewards = self._scorer.score_batch([asked for asked, _ in batch])
                for (_, future), reward in zip(batch, rewards, strict=True):
                    future.set_result(reward)
        finally:
            self._driver = None
            for _, future in (*batch, *self._waiting):  # only where the loop is being closed
                future.cancel()  # does nothing to one that is done
            self._waiting.clear()

    async def _settle(self) -> None:
        quiet, known = 0, len(self._waiting)
        while quiet < PATIENCE and known < BATCH:
            await asyncio.sleep(0)
            quiet = 0 if len(self._waiting) > known else quiet + 1
            known = len(self._waiting)


@lru_cache(KEPT)
def _network(path: str, state: object, device: str | None) -> RewardModel:
    """A reward model; ``state`` changes with its files."""
    from agent_rl.reward_models.folder import load_reward_model  # noqa: PLC0415

    return load_reward_model(path, device=device)


@lru_cache(KEPT)
def _scorer(path: str, state: object, device: str | None, max_tokens: int) -> Scorer:
    model = _network(path, state, device)
    return Scorer(_shortened(model, max_tokens) if max_tokens else model)


def _shortened(model: RewardModel, max_tokens: int) -> RewardModel:
    """The same weights, members included, reading no more than so many tokens."""
    twin = copy.copy(model)
    twin.standing = replace(model.standing, max_tokens=max_tokens)
    twin.members = tuple(_shortened(member, max_tokens) for member in model.members)
    return twin


@dataclass(frozen=True)
class RewardModelVerifier:
    """See :func:`reward_model`."""

    path: str | None
    remote: Verifier | None
    normalize: Normalize
    clip: float | None
    threshold: float | None
    max_tokens: int
    device: str | None
    bounded = True
    waits = True  # for its turn in a batch: many at once in one process, not one in each of many
    reads = ("prompt",)

    def __call__(self, completion: str, row: Row) -> Score:
        """Score one completion; blocks."""
        return score_sync(self, completion, row)

    def prepare(self) -> None:
        """Load the network, or ask the server.

        A folder that an earlier stage of a recipe will make is not looked into.

        Raises:
            VerifierError: It cannot be loaded, or has no mean and deviation to normalize with.
        """
        if self.path is None:
            getattr(self.remote, "prepare", lambda: None)()
            return
        from rl_envs.text.prompted import AWAITED  # noqa: PLC0415

        if self.path not in AWAITED.get():
            self._checked(self.scorer.model)

    async def ascore(self, completion: str, row: Row) -> Score:
        """Score one completion; those that are asked for at the same time share a forward pass."""
        if self.remote is not None:
            score = await score_one(self.remote, completion, row)
            return score if score.is_error else self._score(score.value, 0.0, 1.0)
        conversation = conversation_of(completion, row)
        if conversation is None:
            return Score.wrong("no prompt: text, or messages with texts", status="bad_reference")
        model = self.scorer.model
        self._checked(model)
        raw = await self.scorer.score(conversation)
        if isinstance(raw, str):
            return Score.failed(f"reward model {self.path}: {raw}")
        return self._score(raw, model.mean, model.std)

    def _score(self, raw: float, mean: float, std: float) -> Score:
        value = raw
        if self.normalize == "standard":
            value = (raw - mean) / std
        elif self.normalize == "sigmoid":
            value = sigmoid(raw)
        if not (math.isfinite(raw) and math.isfinite(value)):
            return Score.failed(
                f"reward model: the reward is {value} (raw {raw}), no finite number"
            )
        if self.clip is not None:
            value = max(-self.clip, min(self.clip, value))
        passed = value >= self._pass_mark()
        reason = f"reward {value:.3f}"
        return Score(value, passed, "correct" if passed else "wrong", reason, {"raw": raw})

    def _pass_mark(self) -> float:
        if self.threshold is not None:
            return self.threshold
        return 0.5 if self.normalize == "sigmoid" else 0.0

    @cached_property
    def scorer(self) -> Scorer:
        """The network, loaded once in each process for all verifiers that name it.

        Raises:
            VerifierError: It cannot be loaded.
        """
        from agent_rl.errors import UserError  # noqa: PLC0415

        place = Path(str(self.path))
        if not place.exists() and (len(place.parts) != 2 or str(self.path).startswith((".", "~"))):
            raise VerifierError(f"reward_model: there is no folder {self.path}")
        files = [*sorted(place.glob("*.safetensors")), *sorted(place.glob("reward_model.json"))]
        state = tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files)
        with _lock:
            try:
                return _scorer(str(self.path), state, self.device, self.max_tokens)
            except UserError as error:
                raise VerifierError(f"reward_model: {error}") from error

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "scorer"}

    def _checked(self, model: RewardModel) -> None:
        if self.normalize == "sigmoid" and model.gives_probabilities:
            raise VerifierError(
                f"reward_model: {self.path} gives probabilities already; set normalize to none"
            )
        if self.normalize != "standard":
            return
        if (model.mean, model.std) == (0.0, 1.0):
            raise VerifierError(
                f"reward_model: normalize is standard, but {self.path} does not say the mean and "
                "deviation of its rewards; train it with held-out pairs, or set normalize to none"
            )


def reward_model(
    *,
    path: str | None = None,
    url: str | None = None,
    normalize: Normalize = "none",
    clip: float | None = None,
    threshold: float | None = None,
    max_tokens: int = 0,
    device: str | None = None,
) -> RewardModelVerifier:
    """A learned reward: the score that a reward model gives to the prompt and the completion.

    The network is loaded once in each process, and frozen. Completions that are asked for at the
    same time are read in one forward pass; which others are in it changes a reward by less than
    1e-5. A reward that is NaN or infinite is an ``error``, never a reward. Part: ``raw``, the
    reward before normalization.

    Args:
        path: A reward model's folder or hub id.
        url: In its place a server of ``serve-verifier``.
        normalize: ``standard`` is (r - mean) / std with the model's own held-out mean and
            deviation; ``sigmoid`` is 1 / (1 + exp(-r)).
        clip: The largest absolute value after that.
        threshold: The value from which a completion passes; by default 0, or 0.5 for sigmoid.
        max_tokens: Longer conversations lose their oldest messages, then the start of what is
            left; 0 for what the model was trained with.
        device: Where the network is put; null for the processor.

    Raises:
        VerifierError: An option that cannot work, or torch is missing.
    """
    if (path is None) == (url is None):
        raise VerifierError("reward_model: give either path (a folder or hub id) or url (a server)")
    check_one_of("reward_model", "normalize", normalize, get_args(Normalize))
    if clip is not None:
        check_number("reward_model", "clip", clip, above=True)
    if threshold is not None:
        check_number("reward_model", "threshold", threshold, least=-math.inf)
    check_whole("reward_model", least=0, max_tokens=max_tokens)
    if url is not None:
        if normalize == "standard" or max_tokens or device is not None:
            raise VerifierError(
                "reward_model: normalize: standard, max_tokens and device are the server's to set "
                "where url is given"
            )
        served = make("remote", url=url)
        return RewardModelVerifier(None, served, normalize, clip, threshold, 0, None)
    if not isinstance(path, str) or not path:
        raise VerifierError(f"reward_model: path is {path!r:.60}; it must be a folder or hub id")
    missing = [name for name in ("torch", "transformers") if not importlib.util.find_spec(name)]
    if missing:
        raise VerifierError(
            f"verifier reward_model needs {missing[0]}: pip install 'agent-rl[train]'"
        )
    return RewardModelVerifier(path, None, normalize, clip, threshold, max_tokens, device)


def conversation_of(completion: str, row: Row) -> list[Message] | None:
    """The row's prompt (a text, or messages) and the completion as the assistant's message.

    Returns:
        None where the row has no usable prompt.
    """
    prompt: Any = row.get("prompt")
    if isinstance(prompt, str) and prompt:
        prompt = [{"role": "user", "content": prompt}]
    if not isinstance(prompt, list | tuple) or not prompt:
        return None
    usable = all(
        isinstance(m, Mapping)
        and isinstance(m.get("role"), str)
        and isinstance(m.get("content"), str)
        for m in prompt
    )
    if not usable:
        return None
    return [*prompt, {"role": "assistant", "content": completion}]


def sigmoid(value: float) -> float:
    """1 / (1 + exp(-value)) without overflow."""
    if value >= 0:
        return 1.0 / (1.0 + math.exp(-value))
    small = math.exp(value)
    return small / (1.0 + small)
