"""The desk of a public library: loans that are renewed, books reserved, fines waived."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from random import Random
from typing import Any, Literal

from rl_envs.text.user_sim_world import Call, Desk, Maker, Scenario, State, Wish, money
from rl_envs.tools import Finish, ToolError, tool

POLICY = """\
You work at the desk of a public library. A reader writes to you. In each turn you either call \
tools or write to the reader; text beside a call is not sent.

1. First find out who writes: ask for the e-mail address, or for the full name and the zip code, \
and find the reader with what you are told. Use no other tool before. If nobody is found, refuse.
2. Look at what a request is about (the loan and the book, or the reader) before you act or refuse.
3. Before you renew, reserve or waive, name what it is about (the book; the amount of the fine) \
and ask whether to go ahead. Act only after the reader says yes to that. Afterwards tell the \
outcome.
4. Renew: only loans that are not overdue, that were renewed less than twice, and whose book \
nobody has reserved.
5. Reserve: at most three reservations at a time for a reader.
6. Waive: only a fine of at most 5.00, and only for readers for whom none was waived before. Tell \
the amount.
7. What these rules forbid you refuse clearly, and change nothing. Transfer to a human only for \
lost books and group visits, once you know the reader."""

KINDS: Mapping[str, float] = {
    "renew": 3.0,
    "reserve": 3.0,
    "waive": 2.0,
    "fine": 1.0,
    "lost": 0.7,
    "visit": 0.7,
    "renew_reserved": 0.4,
    "renew_often": 0.4,
    "renew_overdue": 0.4,
    "reserve_full": 0.4,
    "waive_large": 0.4,
    "waive_again": 0.4,
    "stranger": 0.3,
}
LOAN_DAYS = 21
MOST_RENEWALS = 2
MOST_RESERVATIONS = 3
ADJECTIVES = [
    "Green", "Silent", "Golden", "Distant", "Broken",
    "Hidden", "Winter", "Paper", "Crooked", "Burning",
]  # fmt: skip
NOUNS = [
    "Harbour", "Orchard", "Lighthouse", "River", "Clock",
    "Garden", "Mountain", "Letter", "Station", "Mirror",
]  # fmt: skip
Department = Literal["lost books", "group visits"]


class Library(Desk):
    """Tools over readers, books and loans."""

    name = "library"
    policy = POLICY
    kinds = KINDS
    alone = ("stranger",)
    last = ("lost", "visit")
    apart = (("waive", "waive_large", "waive_again", "fine"), ("reserve", "reserve_full"))

    @classmethod
    def draw(cls, rng: Random, kinds: Sequence[str]) -> Scenario:
        """A library, a reader, and loans that fit the wishes."""
        made = _Library(rng)
        reader = made.state["customers"][made.someone]
        person = made.maker.person(made.someone, reader)
        if "stranger" in kinds:
            person = made.maker.person(None, made.maker.customer())
        wishes = tuple(made.wish(kind) for kind in kinds)
        return Scenario(made.state, person, wishes)

    @tool(inline=True)
    def get_loan(self, loan_id: str) -> dict[str, Any]:
        """Show a loan: its book, when it is due, how often it was renewed.

        Args:
            loan_id: The loan's id, such as L1234.
        """
        self.watcher.watch(Call("get_loan", {"loan_id": loan_id.strip().upper()}))
        found: dict[str, Any] = self.row("loans", loan_id)
        return found

    @tool(inline=True)
    def get_book(self, title: str) -> dict[str, Any]:
        """Show a book: its copies and who has reserved it.

        Args:
            title: The whole title.
        """
        self.watcher.watch(Call("get_book", {"title": title.strip().casefold()}))
        return dict(self._book(title))

    @tool(inline=True)
    def renew_loan(self, loan_id: str) -> dict[str, Any]:
        """Make a loan due three weeks later.

        Args:
            loan_id: The loan's id.
        """
        call = Call("renew_loan", {"loan_id": loan_id})
        self.watcher.watch(call)
        loan = self.row("loans", loan_id)
        due = date.fromisoformat(loan["due"]) + timedelta(days=LOAN_DAYS)
        loan |= {"due": due.isoformat(), "renewals": loan["renewals"] + 1}
        self.watcher.changed(call)
        return {"due": loan["due"]}

    @tool(inline=True)
    def reserve_book(self, customer_id: str, title: str) -> str:
        """Reserve a book for a reader.

        Args:
            customer_id: The reader's id.
            title: The whole title.
        """
        call = Call("reserve_book", {"customer_id": customer_id, "title": title})
        self.watcher.watch(call)
        reader, book = self.row("customers", customer_id), self._book(title)
        if customer_id.strip().upper() in book["reserved_by"]:
            raise ToolError("the reader has reserved this book already")
        book["reserved_by"].append(customer_id.strip().upper())
        reader["reservations"].append(title.strip().casefold())
        self.watcher.changed(call)
        return "reserved"

    @tool(inline=True)
    def waive_fine(self, customer_id: str) -> dict[str, Any]:
        """Waive the whole fine of a reader.

        Args:
            customer_id: The reader's id.
        """
        call = Call("waive_fine", {"customer_id": customer_id})
        self.watcher.watch(call)
        reader = self.row("customers", customer_id)
        if not reader["fine"]:
            raise ToolError("the reader has no fine")
        waived, reader["fine"] = reader["fine"], 0.0
        reader["waived_before"] = True
        self.watcher.changed(call)
        return {"waived": waived}

    @tool(inline=True)
    def transfer_to_human(self, customer_id: str, department: Department) -> Finish:
        """Hand the reader over to a human. It ends the conversation.

        Args:
            customer_id: The reader's id.
            department: Who should take over.
        """
        return self.transferred(customer_id, department)

    def _book(self, title: str) -> dict[str, Any]:
        found: dict[str, Any] | None = self.state["books"].get(title.strip().casefold())
        if found is None:
            raise ToolError(f"there is no book {title[:40]!r}")
        return found


class _Library:
    """A library in the making."""

    def __init__(self, rng: Random) -> None:
        self.rng, self.maker = rng, Maker(rng)
        self.today = date(2025, 1, 1) + timedelta(days=rng.randrange(365))
        self.titles = [f"The {a} {n}" for a in ADJECTIVES for n in NOUNS]
        rng.shuffle(self.titles)
        self.state: State = {
            "today": self.today.isoformat(),
            "customers": {},
            "books": {},
            "loans": {},
            "transfers": [],
        }
        self.someone = self.reader()
        self.other = self.reader()
        for reader_id in (self.other, self.reader(), self.someone):
            self.loan(reader_id)

    def reader(self) -> str:
        """A reader, with a small fine."""
        made = self.maker.customer()
        fine = self.rng.randrange(10, 500) / 100
        made |= {"fine": fine, "waived_before": False, "loans": [], "reservations": []}
        reader_id = self.maker.fresh("C", 4)
        self.state["customers"][reader_id] = made
        return reader_id

    def book(self) -> str:
        """The title of a new book."""
        title = self.titles.pop()
        copies = self.rng.randrange(1, 5)
        self.state["books"][title.casefold()] = {
            "title": title,
            "copies": copies,
            "reserved_by": [],
        }
        return title

    def loan(self, reader_id: str, days: int = 7, renewals: int = 0) -> tuple[str, str]:
        """The id of a loan that is due in so many days, and the title of its book."""
        title, loan_id = self.book(), self.maker.fresh("L", 4)
        due = self.today + timedelta(days=days)
        self.state["loans"][loan_id] = {
            "customer_id": reader_id,
            "title": title,
            "due": due.isoformat(),
            "renewals": renewals,
        }
        self.state["customers"][reader_id]["loans"].append(loan_id)
        return loan_id, title

    def wish(self, kind: str) -> Wish:
        """A wish of a kind."""
        family = kind.partition("_")[0]
        made = {"renew": self.renew, "reserve": self.reserve, "waive": self.waive}
        return made.get(family, self.other_wish)(kind)

    @property
    def seen(self) -> Call:
        """Looking at the reader."""
        return Call("get_customer", {"customer_id": self.someone})

    def renew(self, kind: str) -> Wish:
        """A loan that may be renewed; or overdue, renewed twice, reserved by another reader."""
        days = -self.rng.randrange(1, 9) if kind == "renew_overdue" else self.rng.randrange(0, 15)
        renewals = MOST_RENEWALS if kind == "renew_often" else self.rng.randrange(MOST_RENEWALS)
        loan_id, title = self.loan(self.someone, days, renewals)
        if kind == "renew_reserved":
            self.state["books"][title.casefold()]["reserved_by"].append(self.other)
        loan = Call("get_loan", {"loan_id": loan_id})
        book = Call("get_book", {"title": title.casefold()})
        why = {
            "renew_overdue": "it is overdue",
            "renew_often": "it has been renewed twice",
            "renew_reserved": "another reader has reserved it",
        }.get(kind)
        return Wish(
            kind,
            "refuse" if why else "do",
            "I would like to keep a book for longer.",
            {"item": f"It is about {title}."},
            ("renew", "extend", "longer"),
            details=((title, loan_id),),
            ids=(loan_id, self.someone),
            reads=(
                self.seen,
                loan,
                book,
            ),
            looks=(loan, *((book,) if kind == "renew_reserved" else ())),
            action=Call("renew_loan", {"loan_id": loan_id}),
            question=f"I would renew {title} for three weeks. Shall I go ahead?",
            verdict=f"I am sorry, I cannot renew {title}: {why}."
            if why
            else f"{title} has been renewed.",
        )

    def reserve(self, kind: str) -> Wish:
        """A book to be reserved; or one too many."""
        title = self.book()
        if kind == "reserve_full":
            reservations = self.state["customers"][self.someone]["reservations"]
            while len(reservations) < MOST_RESERVATIONS:
                held = self.book().casefold()
                reservations.append(held)
                self.state["books"][held]["reserved_by"].append(self.someone)
        full = kind == "reserve_full"
        return Wish(
            kind,
            "refuse" if full else "do",
            "I would like to reserve a book.",
            {"item": f"It is {title}."},
            ("reserv", "hold"),
            details=((title,),),
            ids=(self.someone,),
            reads=(self.seen, Call("get_book", {"title": title.casefold()})),
            looks=(self.seen,),
            action=Call("reserve_book", {"customer_id": self.someone, "title": title}),
            question=f"I would reserve {title} for you. Shall I go ahead?",
            verdict="I am sorry, I cannot reserve another book: you have three reservations."
            if full
            else f"{title} has been reserved for you.",
        )

    def waive(self, kind: str) -> Wish:
        """A small fine; or a large one, or the second one."""
        reader = self.state["customers"][self.someone]
        if kind == "waive_large":
            reader["fine"] = self.rng.randrange(501, 3000) / 100
        reader["waived_before"] = kind == "waive_again"
        fine = reader["fine"]
        why = {"waive_large": "it is more than 5.00", "waive_again": "one was waived before"}
        refused = f"I am sorry, I cannot waive your fine: {why.get(kind)}."
        return Wish(
            kind,
            "do" if kind == "waive" else "refuse",
            "I would like you to waive my fine.",
            {},
            ("waiv", "fine"),
            details=((money(fine),),),
            ids=(self.someone,),
            reads=(self.seen,),
            looks=(self.seen,),
            action=Call("waive_fine", {"customer_id": self.someone}),
            amounts=(fine,) if kind == "waive" else (),
            wonders="How much was it?",
            question=f"I would waive your fine of {money(fine)}. Shall I go ahead?",
            verdict=f"Your fine of {money(fine)} has been waived." if kind == "waive" else refused,
        )

    def other_wish(self, kind: str) -> Wish:
        """To know one's fine; something for a human; or anything, by a stranger."""
        if kind == "fine":
            fine = self.state["customers"][self.someone]["fine"]
            says, verdict = "I would like to know how high my fine is.", f"It is {money(fine)}."
            return Wish(
                kind, "tell", says, {}, (), reads=(self.seen,), amounts=(fine,), verdict=verdict
            )
        if kind == "stranger":
            says, verdict = "I would like to reserve a book.", "I am sorry, I cannot find you."
            facts = {"item": f"It is {self.book()}."}
            verbs = ("reserv", "find", "help", "identif", "verif", "locat", "account", "reader")
            return Wish(kind, "refuse", says, facts, verbs, verdict=verdict)
        department, says = {
            "lost": ("lost books", "I have lost a book of yours."),
            "visit": ("group visits", "I would like to visit the library with my class."),
        }[kind]
        arguments = {"customer_id": self.someone, "department": department}
        return Wish(kind, "transfer", says, {}, (), action=Call("transfer_to_human", arguments))
