"""Noughts and crosses: positions, their exact value, best moves. No text, no state."""

from __future__ import annotations

from functools import cache

EMPTY, MARKS = ".", "XO"
CELLS = 9
LINES = (
    *((row, row + 1, row + 2) for row in (0, 3, 6)),
    *((column, column + 3, column + 6) for column in (0, 1, 2)),
    (0, 4, 8),
    (2, 4, 6),
)
Board = str
"""Nine characters, row by row: ``X``, ``O`` or ``.``. X moves first."""


def to_move(board: Board) -> str:
    """Whose turn it is; X has moved as often as O, or once more."""
    return MARKS[board.count("X") > board.count("O")]


def other(mark: str) -> str:
    """The other player's mark."""
    return MARKS[mark == "X"]


def winner(board: Board) -> str | None:
    """Who has three in a row."""
    for a, b, c in LINES:
        if board[a] != EMPTY and board[a] == board[b] == board[c]:
            return board[a]
    return None


def is_over(board: Board) -> bool:
    """Whether nobody can move: a line, or no free cell."""
    return winner(board) is not None or EMPTY not in board


def free(board: Board) -> list[int]:
    """The empty cells, ascending."""
    return [cell for cell in range(CELLS) if board[cell] == EMPTY]


def play(board: Board, cell: int) -> Board:
    """The board after the player to move takes a cell."""
    return board[:cell] + to_move(board) + board[cell + 1 :]


@cache
def value(board: Board) -> int:
    """What the player to move reaches if both play well: 1 a win, 0 a draw, -1 a loss."""
    if winner(board) is not None:
        return -1  # the other one has just won
    return max((-value(play(board, cell)) for cell in free(board)), default=0)


@cache
def best_moves(board: Board) -> tuple[int, ...]:
    """The cells that keep the value; of those that win, the ones that win soonest."""
    kept = [cell for cell in free(board) if -value(play(board, cell)) == value(board)]
    if value(board) != 1:
        return tuple(kept)
    soonest = min(_plies(play(board, cell)) for cell in kept)
    return tuple(cell for cell in kept if _plies(play(board, cell)) == soonest)


@cache
def _plies(board: Board) -> int:
    """Moves until a decided game ends, where the winner hurries and the loser delays."""
    if is_over(board):
        return 0
    lengths = [
        1 + _plies(play(board, cell))
        for cell in free(board)
        if -value(play(board, cell)) == value(board)
    ]
    return min(lengths) if value(board) == 1 else max(lengths)


@cache
def chance(board: Board, goal: int, mark: str) -> float:
    """How likely a player of random free cells reaches a goal against an opponent who plays well.

    Args:
        board: Where they stand; anybody's turn.
        goal: 1 for a win, 0 for at least a draw.
        mark: Of the random player; the other one draws among its best moves.
    """
    if is_over(board):
        won = winner(board)
        return float((0 if won is None else 1 if won == mark else -1) >= goal)
    cells = free(board) if to_move(board) == mark else best_moves(board)
    return sum(chance(play(board, cell), goal, mark) for cell in cells) / len(cells)


@cache
def positions() -> tuple[Board, ...]:
    """Every position that a game can reach in which somebody can move, sorted."""
    seen, fresh = {EMPTY * CELLS}, [EMPTY * CELLS]
    while fresh:
        board = fresh.pop()
        for after in (play(board, cell) for cell in free(board)):
            if after not in seen and not is_over(after):
                seen.add(after)
                fresh.append(after)
    return tuple(sorted(seen))


def canonical(board: Board) -> Board:
    """The least of the eight boards that turning and mirroring make of this one."""
    alike = []
    for _ in range(4):
        board = "".join(board[cell] for cell in (6, 3, 0, 7, 4, 1, 8, 5, 2))
        alike += [board, "".join(board[cell] for cell in (2, 1, 0, 5, 4, 3, 8, 7, 6))]
    return min(alike)
