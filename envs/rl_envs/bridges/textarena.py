"""The games of TextArena, alone or against an opponent."""

from __future__ import annotations

import copy
import io
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import partial
from typing import Any

import numpy as np

from rl_envs.core import Reply, TextEnv
from rl_envs.packages import needed
from rl_envs.tasks import DataError, GeneratedTasks
from rl_envs.types import Message, Task
from rl_verifiers.score import Score

INSTALL = "pip install 'agent-rl[textarena]'"
MAX_CHARACTERS = 4000
"""Of an action; what is longer is an invalid move."""

_GAME = -1  # TextArena's id of the game itself
_MOST_TRIES = 200  # moves that a random opponent tries on a copy of the game
_MOST_MOVES = 1000  # of opponents in a row
_BRACKETED = re.compile(r"\[[^\[\]\n]{1,40}\]")
_WORDS = (
    *("check", "bet", "call", "fold", "raise", "pass", "cooperate", "defect", "rock", "paper"),
    *("scissors", "heads", "tails", "roll", "hold", "accept", "reject", "stop", "draw"),
)
_PLAIN_MOVES = (
    *(f"[{number}]" for number in range(16)),
    *(f"[{row} {column}]" for row in range(8) for column in range(8)),
    *(f"[{word}]" for word in _WORDS),
)
_NO_MOVE = re.compile(r"\[(?:GAME|Player \d+)\]")

Opponent = str | Sequence[str] | Callable[[str, np.random.Generator], str]
"""``random``, moves to play in turn (the last again and again), or ``f(seen, rng) -> action``."""


class TextArena(TextEnv):
    """A game of TextArena: the reward is what its close() says, at the end.

    Task ``i`` is a seed of the game, which also fixes the opponent's moves. TextArena seeds and
    draws from Python's global generator; each episode keeps a state of its own for it, so that
    episodes do not disturb one another or anything else.

    Args:
        game: TextArena's id, such as ``TicTacToe-v0``; its observation wrappers are left out.
        opponent: Plays the other seats: ``random`` (a move found to be valid on a copy of the
            game), a list of moves, or a function of what it sees and of a random generator.
        player: The policy's seat: a number, or ``random`` (by the task's seed).
        players: How many there are; None finds out whether the game is for one or two.
        brackets: Put an action without brackets into them, as TextArena's own wrapper does.
        game_options: Options for ``textarena.make``.
        options: Those of ``TextEnv``.

    Raises:
        DataError: TextArena is missing, or the game does not exist or cannot be made.
    """

    max_turns = 100
    source = "seeds of a TextArena game (extra textarena)"
    reads_data = True

    def __init__(
        self,
        *,
        game: str = "TicTacToe-v0",
        opponent: Opponent = "random",
        player: int | str = "random",
        players: int | None = None,
        brackets: bool = True,
        game_options: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        if isinstance(opponent, str) and opponent != "random":
            raise DataError(f"opponent is {opponent!r}; it must be 'random', moves, or a function")
        if not callable(opponent) and not opponent:
            raise DataError("opponent is an empty list; give at least one move")
        if isinstance(player, str) and player != "random":
            raise DataError(f"player is {player!r}; it must be 'random' or a seat's number")
        self.game, self.opponent, self.player = game, opponent, player
        self.players, self.brackets = players, brackets
        self.game_options = dict(game_options or {})
        super().__init__(**options)
        self._played: Any = None
        self._seat = 0
        self._random = random.Random(0).getstate()
        self._numpy = np.random.RandomState(0).get_state()
        self._rng = np.random.default_rng(0)
        self._n_theirs = 0

    def load_tasks(self, split: str) -> GeneratedTasks:
        """Seeds without end; a seed belongs to one split only."""
        return GeneratedTasks(partial(_seed_task, self.game), split=split)

    def opening(self, task: Task) -> list[Message]:
        """What the policy sees when it is first to move."""
        seed = int(task.info["seed"])
        self._rng = np.random.default_rng(seed)
        self._random = random.Random(seed).getstate()
        self._numpy = np.random.RandomState(seed % 2**32).get_state()
        self._n_theirs = 0
        with self._own_randomness():
            self._played, n_players = _begun(self.game, self.game_options, self.players, seed)
        given = int(self._rng.integers(n_players)) if self.player == "random" else int(self.player)
        if not 0 <= given < n_players:
            raise DataError(f"player is {given}; {self.game} has seats 0 to {n_players - 1}")
        self._seat = given
        if self._others_move():
            raise DataError(f"{self.game} was over before the policy's first move")
        return [self._seen()]

    def respond(self, action: str) -> Reply:
        """Makes the policy's move and those of the others."""
        if len(action) > MAX_CHARACTERS:
            return self._lost(f"an action of over {MAX_CHARACTERS} characters")
        spoken = f"[{action.strip()}]" if self.brackets and "[" not in action else action
        try:
            done = self._moved(self._played, spoken)
        except Exception as error:  # the game stumbled over what the policy wrote
            return self._lost(f"the game raised {type(error).__name__} on the action")
        if not done and not self._others_move():
            return Reply(messages=[self._seen()])
        return self._over()

    def close(self) -> None:
        """Forgets the game."""
        self._played = None

    def _over(self) -> Reply:
        with self._own_randomness():
            rewards, infos = self._played.close()
        told = (infos or {}).get(self._seat, {})
        given = (rewards or {}).get(self._seat, 0.0)
        if not isinstance(given, int | float):  # some games mix up reason and reward
            given = -1.0 if told.get("invalid_move") else 0.0
        value, reason = float(given), str(told.get("reason", ""))[:300]
        state = self._played.state
        limit = getattr(state, "max_turns", None)
        cut = limit is not None and state.turn >= limit and -1.0 < value < 1.0
        judge = Score.correct if value >= 1.0 else Score.wrong
        return Reply(
            reward=value,
            terminated=not cut,
            truncated=cut,
            score=judge(reason, value=value),
            info={"player": self._seat},
        )

    def _lost(self, why: str) -> Reply:
        """The episode ends as by an invalid move; TextArena pays -1 for one."""
        score = Score.wrong(why, status="unparsable", value=-1.0)
        return Reply(reward=-1.0, terminated=True, score=score, info={"player": self._seat})

    def _moved(self, game: Any, action: str) -> bool:
        with self._own_randomness():
            done, _ = game.step(action=action)
        return bool(done)

    def _others_move(self) -> bool:
        """Plays the others until it is the policy's turn; whether the game is over.

        Raises:
            RuntimeError: An opponent's move made the game fail, or no end is in sight.
        """
        for _ in range(_MOST_MOVES):
            seat = self._played.state.current_player_id
            if seat == self._seat:
                return False
            _, seen = self._played.get_observation()
            if self._moved(self._played, self._theirs(seat, seen)):
                return True
        raise RuntimeError(f"{self.game}: {_MOST_MOVES} moves of others without the policy's turn")

    def _theirs(self, seat: int, seen: Sequence[Any]) -> str:
        text = self._text(seen, seat)
        self._n_theirs += 1
        if callable(self.opponent):
            return self.opponent(text, self._rng)
        if self.opponent != "random":
            return self.opponent[min(self._n_theirs, len(self.opponent)) - 1]
        # of what the game itself says: a policy could put weak moves into its opponent's mouth
        told = "\n".join(words for sender, words, _ in seen if sender == _GAME)
        found = [move for move in _BRACKETED.findall(told) if not _NO_MOVE.fullmatch(move)]
        moves = [str(move) for move in self._rng.permutation(sorted(set(found)))]
        moves += [str(move) for move in self._rng.permutation(_PLAIN_MOVES)]
        for move in moves[:_MOST_TRIES]:
            if self._is_valid(move, seat):
                return move
        raise DataError(
            f"{self.game}: no valid move for player {seat} was found at random; give `opponent` as "
            "a function of what it sees"
        )

    def _is_valid(self, move: str, seat: int) -> bool:
        twin = copy.deepcopy(self._played)
        state, numpy_state = self._random, self._numpy
        try:
            self._moved(twin, move)
        except Exception:
            return False
        finally:
            self._random, self._numpy = state, numpy_state
        told = twin.state.game_info.get(seat, {})
        return not (
            getattr(twin.state, "made_invalid_move", False) or told.get("invalid_move")
        ) and (
            getattr(twin.state, "error_count", 0) <= getattr(self._played.state, "error_count", 0)
        )

    def _seen(self) -> Message:
        _, seen = self._played.get_observation()
        return Message(role="user", content=self._text(seen, self._seat))

    def _text(self, seen: Sequence[Any], seat: int) -> str:
        """What a player sees; its own words are left out, for it said them."""
        names = self._played.state.role_mapping
        lines = []
        for sender, text, kind in seen:
            if sender == seat and kind.name == "PLAYER_ACTION":
                continue
            lines.append(text if sender == _GAME else f"[{names.get(sender, sender)}] {text}")
        return "\n".join(lines)

    @contextmanager
    def _own_randomness(self) -> Iterator[None]:
        """Inside, the global generators are in the episode's state; outside nothing shows."""
        outer, outer_numpy = random.getstate(), np.random.get_state()
        random.setstate(self._random)
        np.random.set_state(self._numpy)
        try:
            with redirect_stdout(io.StringIO()):  # some games print
                yield
        finally:
            self._random, self._numpy = random.getstate(), np.random.get_state()
            random.setstate(outer)
            np.random.set_state(outer_numpy)


def _begun(
    name: str, options: Mapping[str, Any], players: int | None, seed: int
) -> tuple[Any, int]:
    """A game that was reset, without TextArena's wrappers, and its number of players."""
    package = needed("textarena", "text/TextArena-v0", INSTALL)
    registry = package.envs.registration.ENV_REGISTRY
    if name not in registry:
        import difflib  # noqa: PLC0415

        near = difflib.get_close_matches(name, registry, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"it has {len(registry)} others"
        raise DataError(f"TextArena has no game {name!r}; {hint}")
    plain = f"{name}-raw" if f"{name}-raw" in registry else name
    why: Exception | None = None
    for count in (players,) if players else (1, 2):
        try:
            game = package.make(plain, **options)
            while isinstance(game, package.Wrapper):
                game = game.env
            game.reset(num_players=count, seed=seed % 2**31)
            return game, count
        except Exception as error:
            why = error
    said = " ".join(str(why).replace("*", " ").split())[:300]
    hint = "" if players else "; `players` may have to say how many play"
    raise DataError(
        f"TextArena's {name} cannot be made with {dict(options)}: "
        f"{type(why).__name__}: {said}{hint}"
    ) from why


def _seed_task(game: str, rng: np.random.Generator) -> Task:
    seed = int(rng.integers(2**31))
    return Task(id=f"{game}:{seed}", prompt="", info={"seed": seed})
