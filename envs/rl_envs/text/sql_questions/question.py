"""One family of questions over a database."""

from __future__ import annotations

from dataclasses import dataclass

ANY_ORDER = "The order of the rows does not matter."


@dataclass(frozen=True)
class Question:
    """A family of questions that differ in their parameters.

    Attributes:
        schema: Of the database.
        family: The kind of query that answers it.
        text: The question, with ``{parameter}``; it says what is to be given, and in which order.
        sql: The query.
        mistakes: Queries that someone might write who has not understood the question. On at least
            one database of a task each must give something else.
    """

    schema: str
    family: str
    text: str
    sql: str
    mistakes: tuple[str, ...]
