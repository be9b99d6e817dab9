"""Noughts and crosses, against an opponent or against oneself."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from typing import Any, Literal

import numpy as np

from rl_envs.core import Reply
from rl_envs.self_play import SeatedEnv
from rl_envs.tasks import DataError, GeneratedTasks, bucket
from rl_envs.text import tictactoe_rules as rules
from rl_envs.text.brackets import move_in
from rl_envs.types import Message, Task
from rl_verifiers.score import Score

OPPONENTS = ("minimax", "random", "mixed", "self")
STARTS = ("hard", "any", "empty")
HARD = 0.2
"""A hard position: random moves reach its value against a perfect opponent at most this often."""

ENDS = {1: "won", 0: "drawn", -1: "lost"}


class TicTacToe(SeatedEnv):
    """Noughts and crosses from hard positions; reward 1 for what perfect play reaches there.

    Where the position is won the player must win, where it is drawn it must not lose, and the
    opponent answers perfectly (among equally good moves it draws one). The start positions are
    those where random legal moves reach that at most one time in five, so the score says how well
    it was played and not how the coin fell. A move is ``[5]``, the last brackets of a reply, or the
    bare digit alone; cells are 1 to 9, row by row. An illegal move loses at once.

    With ``opponent="self"`` the caller plays both seats in turn (0 is X, 1 is O), each with its own
    view, for +1 and -1, or 0 each for a draw.

    Args:
        opponent: ``minimax``, ``random``, ``mixed`` or ``self``; or one per split, such as
            ``{"train": "self", "test": "minimax"}``.
        share: Of ``mixed``: how likely each of its moves is random.
        start: ``hard``; ``any`` position that is not lost already (with ``self`` the lost ones
            too); ``empty``, where X or O is drawn for the player.
        reward: ``value``: 1 if the start position's value was reached, else 0; ``result``: 1 for a
            win, ``draw`` for a draw, 0 for a loss.
        draw: What ``result`` pays for a draw.
        question: ``words`` (a message that explains itself) or ``short``: the nine cells and the
            player's mark, ``XO.......X``.
        seed: Seeds the tasks.
        options: Those of ``TextEnv``.
    """

    memory = "last"
    max_turns = rules.CELLS
    styles = ("move",)
    source = "reachable positions, with their exact values"

    def __init__(
        self,
        *,
        opponent: str | Mapping[str, str] = "minimax",
        share: float = 0.5,
        start: Literal["hard", "any", "empty"] = "hard",
        reward: Literal["value", "result"] = "value",
        draw: float = 0.5,
        question: Literal["words", "short"] = "words",
        seed: int = 0,
        **options: Any,
    ) -> None:
        named = (
            opponent if isinstance(opponent, str) else opponent.get(options.get("split", "train"))
        )
        _require("opponent", named, OPPONENTS)
        _require("start", start, STARTS)
        _require("reward", reward, ("value", "result"))
        _require("question", question, ("words", "short"))
        for name, number in (("share", share), ("draw", draw)):
            if not 0.0 <= number <= 1.0:
                raise DataError(f"{name} is {number!r}; it must be within 0..1")
        self.opponent, self.share, self.start = named, share, start
        self.reward, self.draw, self.question = reward, draw, question
        self.seed_of_tasks = seed
        self.seats = 2 if named == "self" else 1
        super().__init__(**options)
        self.board = rules.EMPTY * rules.CELLS
        self._rng = np.random.default_rng(0)

    def load_tasks(self, split: str) -> GeneratedTasks:
        """Start positions with a seed for the opponent. Mirrored positions share a split."""
        if self.start == "empty":
            return GeneratedTasks(_from_empty, seed=self.seed_of_tasks, split=split)
        boards = _boards(self.start, split, self.seats == 2)
        return GeneratedTasks(partial(_from_board, boards), seed=self.seed_of_tasks)

    def opening(self, task: Task) -> list[Message]:
        """The board, after the opponent's move where it begins."""
        self.board = task.info["board"]
        self._rng = np.random.default_rng(task.info["seed"])
        if self.seats == 1 and rules.to_move(self.board) != task.info["player"]:
            self._opponent_moves()
        return [self._seen()]

    def respond(self, action: str) -> Reply:
        """Takes the cell, and lets the opponent answer where it is not the caller."""
        mark = rules.to_move(self.board)
        said = move_in(action)
        cell = "123456789".find(said) if len(said) == 1 else -1
        if cell < 0:
            return self._ended(rules.other(mark), "no move: answer with [1] to [9]", "no_answer")
        if self.board[cell] != rules.EMPTY:
            return self._ended(rules.other(mark), f"cell {said} is taken", "wrong")
        self.board = rules.play(self.board, cell)
        if self.seats == 1 and not rules.is_over(self.board):
            self._opponent_moves()
        if rules.is_over(self.board):
            return self._ended(rules.winner(self.board))
        return Reply(messages=(self._seen(),))

    def demonstrate(self, style: str, rng: np.random.Generator) -> str:
        """A move that keeps the position's value; of winning ones, the soonest."""
        return self._written(rng.choice(rules.best_moves(self.board)))

    def _written(self, cell: int) -> str:
        return str(cell + 1) if self.question == "short" else f"[{cell + 1}]"

    def _opponent_moves(self) -> None:
        randomly = self.opponent == "random" or (
            self.opponent == "mixed" and self._rng.random() < self.share
        )
        cells = rules.free(self.board) if randomly else rules.best_moves(self.board)
        self.board = rules.play(self.board, int(self._rng.choice(cells)))

    def _ended(
        self, winner: str | None, illegal: str = "", status: Literal["wrong", "no_answer"] = "wrong"
    ) -> Reply:
        if self.seats == 1:
            score = self._score(self.task.info["player"], winner, illegal, status)
            return Reply(reward=score.value, terminated=True, score=score)
        scores = [self._score(mark, winner, illegal, status) for mark in rules.MARKS]
        info = {"scores": tuple(scores), "rewards": tuple(score.value for score in scores)}
        return Reply(terminated=True, info=info)

    def _score(
        self, mark: str, winner: str | None, illegal: str, status: Literal["wrong", "no_answer"]
    ) -> Score:
        """How the game ended for one player."""
        result = 0 if winner is None else 1 if winner == mark else -1
        start = self.task.info["board"]
        due = rules.value(start) * (1 if rules.to_move(start) == mark else -1)
        passed = result >= due
        if self.seats == 2:
            value = float(result)
        elif self.reward == "value":
            value = float(passed)
        else:
            value = {1: 1.0, 0: self.draw, -1: 0.0}[result]
        parts = {name: float(result == end) for end, name in ENDS.items()}
        parts["illegal"] = float(bool(illegal) and result < 0)
        reason = illegal or f"{ENDS[result]}, from a position that is {ENDS[due]}"
        return Score(value, passed, "correct" if passed else status, reason, parts)

    def _seen(self) -> Message:
        mark = rules.to_move(self.board)
        self.seat = rules.MARKS.index(mark) if self.seats == 2 else 0
        if self.question == "short":
            return Message(role="user", content=self.board + mark)
        cells = [str(i + 1) if c == rules.EMPTY else c for i, c in enumerate(self.board)]
        rows = "\n".join(" ".join(cells[row : row + 3]) for row in (0, 3, 6))
        text = (
            f"You are {mark}. Three in a row wins. The board, free cells by their numbers:\n"
            f"{rows}\nAnswer with a free cell in brackets, such as [5]."
        )
        return Message(role="user", content=text)


@cache
def _boards(start: str, split: str, lost_too: bool) -> tuple[rules.Board, ...]:
    def kept(board: rules.Board) -> bool:
        if bucket(rules.canonical(board)) != split:
            return False
        due = rules.value(board)
        if start == "any":
            return lost_too or due >= 0
        return due >= 0 and rules.chance(board, due, rules.to_move(board)) <= HARD

    return tuple(board for board in rules.positions() if kept(board))


def _from_board(boards: tuple[rules.Board, ...], rng: np.random.Generator) -> Task:
    board = boards[int(rng.integers(len(boards)))]
    return _task(board, rules.to_move(board), rng)


def _from_empty(rng: np.random.Generator) -> Task:
    return _task(rules.EMPTY * rules.CELLS, rules.MARKS[int(rng.integers(2))], rng)


def _task(board: rules.Board, player: str, rng: np.random.Generator) -> Task:
    seed = int(rng.integers(2**31))
    info = {"board": board, "player": player, "seed": seed}
    return Task(id=f"{board}{player}:{seed}", prompt="", info=info)


def _require(name: str, given: Any, allowed: tuple[str, ...]) -> None:
    if given not in allowed:
        raise DataError(f"{name} is {given!r}; it must be one of {', '.join(allowed)}")
