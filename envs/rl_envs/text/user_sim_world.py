"""What a service conversation is made of: people, wishes, a database, and the desk that changes it.

A domain (``user_sim_shop``, ``user_sim_library``) is a :class:`Desk`: tools over a database, the
policy as text, and ``draw``, which makes a database with a customer and what they want.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, ClassVar, Literal

from rl_envs.tools import Finish, ToolError, tool

Outcome = Literal["do", "tell", "transfer", "refuse"]
State = dict[str, Any]
"""A database: tables by name, rows by id, plain data."""

# fmt: off
FIRST = [
    "Ada", "Ben", "Clara", "David", "Elena", "Farid", "Greta", "Hugo", "Ines", "Jonas", "Kira",
    "Leo", "Mona", "Nils", "Olga", "Pavel", "Rosa", "Samir", "Tessa", "Umar", "Vera", "Willem",
    "Yara", "Zoe", "Amir", "Bella", "Carlos", "Dina", "Emil", "Fiona",
]
LAST = [
    "Abbott", "Becker", "Castro", "Dalton", "Eriksen", "Fischer", "Garcia", "Hansen", "Ivanov",
    "Jensen", "Keller", "Lopez", "Moreau", "Novak", "Okafor", "Petrov", "Quinn", "Rossi",
    "Schmidt", "Tanaka", "Ueda", "Vogel", "Weber", "Xu", "Yilmaz", "Zimmer", "Archer", "Brandt",
]
STREETS = [
    "Oak Street", "Mill Lane", "Harbour Road", "Station Road", "Church Street", "Rose Avenue",
    "Hill Road", "Lake Drive", "Market Street", "Bridge Lane", "Elm Avenue", "Garden Street",
]
CITIES = [
    "Ashford", "Brighton", "Carlow", "Dover", "Exeter", "Falmouth", "Gosport", "Hexham",
    "Ipswich", "Kendal",
]
# fmt: on


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call, by name and arguments."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Wish:
    """One thing that the customer wants, and what a good agent makes of it.

    Attributes:
        kind: Its name, such as ``cancel`` or ``cancel_shipped``.
        outcome: What must come of it: ``do`` the action, ``tell`` the amounts, ``transfer`` to a
            human, or ``refuse``.
        says: How the customer opens it.
        facts: What the customer says when asked for something, by slot.
        verbs: Stems, one of which a question for confirmation names (and a refusal, too).
        details: What else it must name: one of each group.
        ids: The ids that it may name; any other makes it another question.
        rivals: Words for what it might have been instead, such as the other reason: a question
            that offers one of them as a choice is none for this wish.
        reads: What a good agent looks up.
        looks: What must be looked up before a refusal, which is a guess otherwise.
        action: The call that fulfils it.
        amounts: What the customer must be told.
        wonders: How the customer asks for an amount that was not told.
        question: How the oracle asks for confirmation.
        verdict: How the oracle tells the outcome.
    """

    kind: str
    outcome: Outcome
    says: str
    facts: Mapping[str, str]
    verbs: tuple[str, ...]
    details: tuple[tuple[str, ...], ...] = ()
    ids: tuple[str, ...] = ()
    rivals: tuple[tuple[str, ...], ...] = ()
    reads: tuple[Call, ...] = ()
    looks: tuple[Call, ...] = ()
    action: Call | None = None
    amounts: tuple[float, ...] = ()
    wonders: str = "How much is it?"
    question: str = ""
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class Person:
    """Who writes: their id in the database (None: they are not in it), and what they know.

    ``email`` is empty where they do not have it at hand.
    """

    customer_id: str | None
    first_name: str
    last_name: str
    zip_code: str
    email: str

    @property
    def finds(self) -> tuple[Call, ...]:
        """The calls that find them by what they know, the shortest first."""
        name = {"first_name": self.first_name, "last_name": self.last_name}
        by_name = Call("find_customer_by_name", {**name, "zip_code": self.zip_code})
        by_email = Call("find_customer_by_email", {"email": self.email})
        return (by_email, by_name) if self.email else (by_name,)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A database, a person, and their wishes in order."""

    state: State
    person: Person
    wishes: tuple[Wish, ...]


class Watcher:
    """Is told of everything that happens at a desk; this one does nothing about it."""

    def watch(self, call: Call) -> None:
        """Before a call is carried out."""

    def found(self, call: Call, customer_id: str) -> None:
        """After a call found a customer."""

    def changed(self, call: Call) -> None:
        """After a call changed the database."""


class Desk:
    """The tools of a domain over the database of one episode.

    A tool does what it is asked to if a back end could: whether the policy allows it is the agent's
    affair.

    Attributes:
        name: The domain.
        policy: The rules, told to the agent.
        kinds: Every kind of wish and how often it is drawn.
        alone: The kinds of a customer who has no other wish.
        last: The kinds after which the conversation is over.
        apart: Groups of kinds of which a customer has one wish at most, as one would change what
            must come of another.
        state: The database.
        watcher: Is told of each call.
    """

    name: ClassVar[str]
    policy: ClassVar[str]
    kinds: ClassVar[Mapping[str, float]]
    alone: ClassVar[tuple[str, ...]]
    last: ClassVar[tuple[str, ...]]
    apart: ClassVar[tuple[tuple[str, ...], ...]] = ()

    def __init__(self) -> None:
        self.state: State = {}
        self.watcher = Watcher()

    @classmethod
    def draw(cls, rng: Random, kinds: Sequence[str]) -> Scenario:
        """A database and a customer with wishes of these kinds, in this order."""
        raise NotImplementedError

    def carry_out(self, call: Call) -> Any:
        """What a tool returns, called by name."""
        return getattr(self, call.name)(**call.arguments)

    def row(self, table: str, row_id: str) -> Any:
        """A row of a table.

        Raises:
            ToolError: There is none with this id.
        """
        found = self.state[table].get(row_id.strip().upper())
        if found is None:
            raise ToolError(f"there is nothing with the id {row_id[:40]!r}")
        return found

    # Identity and transfer are the same in every domain.

    @tool(inline=True)
    def find_customer_by_email(self, email: str) -> str:
        """Find the id of a customer by their e-mail address.

        Args:
            email: The whole address.
        """
        call = Call("find_customer_by_email", {"email": email})
        self.watcher.watch(call)
        wanted = email.strip().casefold()
        for customer_id, customer in self.state["customers"].items():
            if customer["email"].casefold() == wanted:
                self.watcher.found(call, customer_id)
                return str(customer_id)
        raise ToolError("no customer has this e-mail address")

    @tool(inline=True)
    def find_customer_by_name(self, first_name: str, last_name: str, zip_code: str) -> str:
        """Find the id of a customer by their full name and zip code.

        Args:
            first_name: The first name.
            last_name: The family name.
            zip_code: The zip code, five digits.
        """
        arguments = {"first_name": first_name, "last_name": last_name, "zip_code": zip_code}
        call = Call("find_customer_by_name", arguments)
        self.watcher.watch(call)
        wanted = [text.strip().casefold() for text in arguments.values()]
        for customer_id, customer in self.state["customers"].items():
            known = [customer["first_name"], customer["last_name"], customer["address"]["zip_code"]]
            if [text.casefold() for text in known] == wanted:
                self.watcher.found(call, customer_id)
                return str(customer_id)
        raise ToolError("no customer has this name and zip code")

    @tool(inline=True)
    def get_customer(self, customer_id: str) -> dict[str, Any]:
        """Show what is known of a customer.

        Args:
            customer_id: The id, such as C1234.
        """
        self.watcher.watch(Call("get_customer", {"customer_id": customer_id}))
        found: dict[str, Any] = self.row("customers", customer_id)
        return found

    def transferred(self, customer_id: str, department: str) -> Finish:
        """Records a transfer; each domain has its own departments, and so its own tool."""
        call = Call(
            "transfer_to_human", {"customer_id": customer_id, "department": str(department)}
        )
        self.watcher.watch(call)
        self.row("customers", customer_id)
        self.state["transfers"].append([customer_id.strip().upper(), str(department)])
        self.watcher.changed(call)
        return Finish("transferred")


def fingerprint(state: State) -> str:
    """The hash of a database; case and spacing of texts do not count."""
    text = json.dumps(state, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(" ".join(text.casefold().split()).encode(), digest_size=16).hexdigest()


def money(amount: float) -> str:
    """An amount as it is written."""
    return f"{amount:.2f}"


@dataclass(slots=True)
class Maker:
    """Draws people and ids for a database, none of them twice.

    Attributes:
        rng: Where everything comes from.
    """

    rng: Random
    _used: set[str] = field(default_factory=set)

    def fresh(self, prefix: str, digits: int) -> str:
        """An id that nothing else has."""
        while True:
            made = f"{prefix}{self.rng.randrange(10 ** (digits - 1), 10**digits)}"
            if made not in self._used:
                self._used.add(made)
                return made

    def address(self) -> dict[str, str]:
        """A street with a number, a city, a zip code."""
        street = f"{self.rng.randrange(1, 200)} {self.rng.choice(STREETS)}"
        zip_code = f"{self.rng.randrange(10_000, 100_000)}"
        return {"street": street, "city": self.rng.choice(CITIES), "zip_code": zip_code}

    def customer(self) -> dict[str, Any]:
        """A name that nobody else has, an e-mail address, an address."""
        while True:
            first, last = self.rng.choice(FIRST), self.rng.choice(LAST)
            if f"{first} {last}" not in self._used:
                self._used.add(f"{first} {last}")
                break
        email = f"{first}.{last}{self.rng.randrange(10, 100)}@example.com".lower()
        return {
            "first_name": first,
            "last_name": last,
            "email": email,
            "address": self.address(),
        }

    def person(self, customer_id: str | None, customer: Mapping[str, Any]) -> Person:
        """A customer as the one who writes; a third of them do not have their e-mail address.

        Without an id it is a stranger, who is in no database.
        """
        return Person(
            customer_id,
            customer["first_name"],
            customer["last_name"],
            customer["address"]["zip_code"],
            customer["email"] if self.rng.random() < 2 / 3 else "",
        )
