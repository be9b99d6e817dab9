"""Schemas of the generated databases and what fills them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Rows = dict[str, list[tuple[Any, ...]]]
"""Rows by table, in the order of its columns."""

_FIRST = """
Ada Ben Cleo Dan Eva Finn Gina Hugo Ida Jan Kira Leo Mia Ned Ola Pia Ron Sue Tom Uma
"""
_LAST = "Abel Berg Cole Dahl Egan Ford Gray Hill Ives Jung Kemp Lund Moss Nash Page Reed"
FIRST, LAST = _FIRST.split(), _LAST.split()
CITIES = ("Aston", "Brill", "Corby", "Derby", "Elgin", "Fowey")

QUARTER_DAYS = ("01-01", "03-31", "04-01", "06-30", "07-01", "09-30", "10-01")


class Draw:
    """Choices from a generator, as plain values."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def one(self, options: Any) -> Any:
        """One of them."""
        return options[int(self.rng.integers(len(options)))]

    def between(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return int(self.rng.integers(low, high + 1))

    def chance(self, probability: float) -> bool:
        """Whether something of this probability happens."""
        return float(self.rng.random()) < probability

    def date(self, first: int = 2021, last: int = 2024) -> str:
        """A day as ``YYYY-MM-DD``; often the first or last of a quarter, which questions name."""
        if self.chance(0.25):
            return f"{self.between(first, last)}-{self.one(QUARTER_DAYS)}"
        return f"{self.between(first, last)}-{self.between(1, 12):02d}-{self.between(1, 28):02d}"

    def people(self, count: int) -> list[str]:
        """Different names."""
        pairs = self.rng.permutation(len(FIRST) * len(LAST))[:count].tolist()
        return [f"{FIRST[pair % len(FIRST)]} {LAST[pair // len(FIRST)]}" for pair in pairs]


@dataclass(frozen=True)
class Schema:
    """A kind of database.

    Attributes:
        name: Names it.
        topic: What it is about, for the question.
        tables: The CREATE statement of each table, by name, with remarks.
        fill: Makes contents.
    """

    name: str
    topic: str
    tables: dict[str, str]
    fill: Callable[[Draw], Rows]

    @property
    def ddl(self) -> str:
        """The statements that make its tables."""
        return "\n".join(f"{statement};" for statement in self.tables.values())


def inserts(rows: Rows) -> str:
    """Statements that fill tables."""
    lines = []
    for table, some in rows.items():
        values = ", ".join(f"({', '.join(map(_literal, row))})" for row in some)
        lines.append(f"INSERT INTO {table} VALUES {values};")
    return "\n".join(lines)


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)


CATEGORIES = ("book", "game", "garden", "kitchen", "tool", "toy")
_SHOP = {
    "customer": """CREATE TABLE customer (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  city TEXT NOT NULL,
  email TEXT -- NULL: none is known
)""",
    "product": """CREATE TABLE product (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  category TEXT NOT NULL, -- book, game, garden, kitchen, tool or toy
  price INTEGER NOT NULL -- of one piece, in cents
)""",
    "purchase": """CREATE TABLE purchase (
  id INTEGER PRIMARY KEY,
  customer_id INTEGER NOT NULL REFERENCES customer (id),
  day TEXT NOT NULL, -- YYYY-MM-DD
  shipped_on TEXT -- YYYY-MM-DD; NULL: not shipped yet
)""",
    "item": """CREATE TABLE item (
  purchase_id INTEGER NOT NULL REFERENCES purchase (id),
  product_id INTEGER NOT NULL REFERENCES product (id),
  quantity INTEGER NOT NULL,
  PRIMARY KEY (purchase_id, product_id)
)""",
}


def _fill_shop(draw: Draw) -> Rows:
    customers = [
        (
            n,
            name,
            draw.one(CITIES),
            f"{name.split()[0].lower()}{n}@mail" if draw.chance(0.6) else None,
        )
        for n, name in enumerate(draw.people(draw.between(16, 24)), start=1)
    ]
    products = [
        (n, f"{draw.one(CATEGORIES)} {chr(64 + n)}{draw.between(10, 99)}", draw.one(CATEGORIES),
         draw.between(1, 18) * 250)
        for n in range(1, draw.between(14, 20))
    ]  # fmt: skip
    buyers = draw.rng.permutation(len(customers))[: len(customers) * 3 // 4].tolist()
    purchases = [
        (n, 1 + draw.one(buyers), draw.date(), draw.date(2025, 2025) if draw.chance(0.7) else None)
        for n in range(1, draw.between(40, 60))
    ]
    sold = draw.rng.permutation(len(products))[: len(products) * 4 // 5].tolist()
    items = []
    for purchase, *_ in purchases:
        chosen = draw.rng.permutation(sold)[: draw.between(1, 3)].tolist()
        items += [(purchase, 1 + product, draw.between(1, 5)) for product in chosen]
    return {"customer": customers, "product": products, "purchase": purchases, "item": items}


GENRES = ("crime", "fantasy", "history", "poetry", "science", "travel")
_LIBRARY = {
    "author": """CREATE TABLE author (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  birth_year INTEGER -- NULL: not known
)""",
    "book": """CREATE TABLE book (
  id INTEGER PRIMARY KEY,
  title TEXT NOT NULL UNIQUE,
  author_id INTEGER NOT NULL REFERENCES author (id),
  genre TEXT NOT NULL, -- crime, fantasy, history, poetry, science or travel
  year INTEGER NOT NULL, -- of publication
  pages INTEGER NOT NULL
)""",
    "member": """CREATE TABLE member (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  city TEXT NOT NULL,
  joined_on TEXT NOT NULL -- YYYY-MM-DD
)""",
    "loan": """CREATE TABLE loan (
  id INTEGER PRIMARY KEY,
  book_id INTEGER NOT NULL REFERENCES book (id),
  member_id INTEGER NOT NULL REFERENCES member (id),
  lent_on TEXT NOT NULL, -- YYYY-MM-DD
  returned_on TEXT -- YYYY-MM-DD; NULL: not returned yet
)""",
}


def _fill_library(draw: Draw) -> Rows:
    authors = [
        (n, name, draw.between(1900, 1990) if draw.chance(0.75) else None)
        for n, name in enumerate(draw.people(draw.between(10, 14)), start=1)
    ]
    writers = draw.rng.permutation(len(authors))[: len(authors) * 4 // 5].tolist()
    books = [
        (n, f"{draw.one(('The', 'A', 'My'))} {draw.one(GENRES)} {n * 7 + draw.between(0, 6)}",
         1 + draw.one(writers), draw.one(GENRES), draw.between(1950, 2023),
         draw.between(8, 60) * 10)
        for n in range(1, draw.between(26, 38))
    ]  # fmt: skip
    members = [
        (n, name, draw.one(CITIES), draw.date(2015, 2020))
        for n, name in enumerate(draw.people(draw.between(14, 20)), start=1)
    ]
    readers = draw.rng.permutation(len(members))[: len(members) * 4 // 5].tolist()
    lent = draw.rng.permutation(len(books))[: len(books) * 3 // 4].tolist()
    loans = [
        (n, 1 + draw.one(lent), 1 + draw.one(readers), draw.date(),
         draw.date(2025, 2025) if draw.chance(0.75) else None)
        for n in range(1, draw.between(50, 75))
    ]  # fmt: skip
    return {"author": authors, "book": books, "member": members, "loan": loans}


AIRPORTS = ("AST", "BRL", "CRB", "DRB", "ELG", "FWY", "ALT", "BRN")
AIRLINES = ("Aero", "Boreal", "Condor", "Delfin", "Egret")
_FLIGHTS = {
    "airport": """CREATE TABLE airport (
  code TEXT PRIMARY KEY,
  city TEXT NOT NULL,
  runways INTEGER NOT NULL
)""",
    "airline": """CREATE TABLE airline (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE
)""",
    "flight": """CREATE TABLE flight (
  id INTEGER PRIMARY KEY,
  airline_id INTEGER NOT NULL REFERENCES airline (id),
  origin TEXT NOT NULL REFERENCES airport (code),
  destination TEXT NOT NULL REFERENCES airport (code),
  day TEXT NOT NULL, -- YYYY-MM-DD
  seats INTEGER NOT NULL,
  delay INTEGER -- in minutes, 0 if on time; NULL: the flight was cancelled
)""",
    "passenger": """CREATE TABLE passenger (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE
)""",
    "booking": """CREATE TABLE booking (
  passenger_id INTEGER NOT NULL REFERENCES passenger (id),
  flight_id INTEGER NOT NULL REFERENCES flight (id),
  price INTEGER NOT NULL, -- in euros
  PRIMARY KEY (passenger_id, flight_id)
)""",
}


def _fill_flights(draw: Draw) -> Rows:
    airports = [
        (code, CITIES[n % len(CITIES)], draw.between(1, 4)) for n, code in enumerate(AIRPORTS)
    ]
    airlines = list(enumerate(AIRLINES, start=1))
    used = draw.rng.permutation(AIRPORTS)[:6].tolist()
    flights = []
    for n in range(1, draw.between(40, 55)):
        origin, destination = draw.rng.permutation(used)[:2].tolist()
        delay = None if draw.chance(0.2) else draw.one((0, 0, draw.between(1, 120)))
        line, seats = 1 + draw.between(0, len(AIRLINES) - 2), draw.between(4, 30) * 10
        flights.append((n, line, origin, destination, draw.date(), seats, delay))
    passengers = list(enumerate(draw.people(draw.between(18, 24)), start=1))
    flying = draw.rng.permutation(len(passengers))[: len(passengers) * 4 // 5].tolist()
    pairs = {
        (1 + draw.one(flying), draw.between(1, len(flights))) for _ in range(draw.between(60, 80))
    }
    bookings = [(*pair, draw.between(2, 24) * 25) for pair in sorted(pairs)]
    return {
        "airport": airports,
        "airline": airlines,
        "flight": flights,
        "passenger": passengers,
        "booking": bookings,
    }


FIELDS = ("cardiology", "dermatology", "neurology", "pediatrics", "surgery")
DRUGS = ("Amoxol", "Brufex", "Cetrin", "Doxal", "Enapril", "Fluvast")
_CLINIC = {
    "doctor": """CREATE TABLE doctor (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  field TEXT NOT NULL -- cardiology, dermatology, neurology, pediatrics or surgery
)""",
    "patient": """CREATE TABLE patient (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  birth_year INTEGER NOT NULL,
  city TEXT NOT NULL,
  phone TEXT -- NULL: none is known
)""",
    "visit": """CREATE TABLE visit (
  id INTEGER PRIMARY KEY,
  patient_id INTEGER NOT NULL REFERENCES patient (id),
  doctor_id INTEGER NOT NULL REFERENCES doctor (id),
  day TEXT NOT NULL, -- YYYY-MM-DD
  fee INTEGER -- in euros; NULL: not billed
)""",
    "prescription": """CREATE TABLE prescription (
  id INTEGER PRIMARY KEY,
  visit_id INTEGER NOT NULL REFERENCES visit (id),
  drug TEXT NOT NULL,
  days INTEGER NOT NULL -- how long it is to be taken
)""",
}


def _fill_clinic(draw: Draw) -> Rows:
    doctors = [
        (n, name, draw.one(FIELDS))
        for n, name in enumerate(draw.people(draw.between(8, 11)), start=1)
    ]
    patients = [
        (n, name, draw.between(1935, 2015), draw.one(CITIES),
         f"555-{draw.between(1000, 9999)}" if draw.chance(0.65) else None)
        for n, name in enumerate(draw.people(draw.between(20, 28)), start=1)
    ]  # fmt: skip
    seen = draw.rng.permutation(len(patients))[: len(patients) * 3 // 4].tolist()
    busy = draw.rng.permutation(len(doctors))[: len(doctors) * 4 // 5].tolist()
    visits = [
        (n, 1 + draw.one(seen), 1 + draw.one(busy), draw.date(),
         draw.between(4, 40) * 5 if draw.chance(0.8) else None)
        for n in range(1, draw.between(50, 70))
    ]  # fmt: skip
    prescriptions = [
        (n, draw.between(1, len(visits)), draw.one(DRUGS), draw.between(3, 30))
        for n in range(1, draw.between(40, 60))
    ]
    return {
        "doctor": doctors,
        "patient": patients,
        "visit": visits,
        "prescription": prescriptions,
    }


SCHEMAS = {
    schema.name: schema
    for schema in (
        Schema("shop", "a shop", _SHOP, _fill_shop),
        Schema("library", "a library", _LIBRARY, _fill_library),
        Schema("flights", "flights", _FLIGHTS, _fill_flights),
        Schema("clinic", "a clinic", _CLINIC, _fill_clinic),
    )
}
