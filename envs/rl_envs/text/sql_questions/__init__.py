"""Questions about the generated databases, each with its query and with queries that are wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rl_envs.text.sql_questions import clinic, flights, library, shop
from rl_envs.text.sql_questions.question import ANY_ORDER, Question
from rl_envs.text.sql_schemas import (
    AIRLINES,
    AIRPORTS,
    CATEGORIES,
    CITIES,
    FIELDS,
    GENRES,
)

PARAMETERS: Mapping[str, Sequence[str | int]] = {
    "category": CATEGORIES,
    "genre": GENRES,
    "city": CITIES,
    "field": FIELDS,
    "airline": AIRLINES[:-1],
    "code": AIRPORTS,
    "year": range(2021, 2025),
    "n": range(2, 10),
    "k": range(2, 8),
    "price": range(500, 4500, 500),
    "pages": range(100, 600, 50),
    "seats": range(50, 300, 50),
    "fare": range(150, 550, 50),
    "birth": range(1940, 2010, 10),
    "author_birth": range(1910, 1990, 10),
    "published": range(1960, 2020, 10),
    "first": [f"{year}-{month:02d}-01" for year in (2021, 2022) for month in (1, 4, 7, 10)],
    "last": [f"{year}-{end}" for year in (2023, 2024) for end in ("03-31", "06-30", "09-30")],
}
"""What a parameter may be."""

QUESTIONS = (*shop.QUESTIONS, *library.QUESTIONS, *flights.QUESTIONS, *clinic.QUESTIONS)
FAMILIES = tuple(dict.fromkeys(question.family for question in QUESTIONS))

__all__ = ["ANY_ORDER", "FAMILIES", "PARAMETERS", "QUESTIONS", "Question"]
