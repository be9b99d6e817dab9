"""A service conversation: a customer who wants something, tools over a database, and rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from random import Random
from typing import Any

import numpy as np

from rl_envs.core import Reply
from rl_envs.tasks import DataError, GeneratedTasks
from rl_envs.text.user_sim_library import Library
from rl_envs.text.user_sim_shop import Shop
from rl_envs.text.user_sim_users import Ledger, ModelUser, ScriptedUser, User
from rl_envs.text.user_sim_world import Call, Desk, Person, Scenario, fingerprint
from rl_envs.tools import Tool, ToolEnv
from rl_envs.tools.tool import method_tools
from rl_envs.types import Message, Task
from rl_verifiers import Score
from rl_verifiers.extract import without_thinking

DOMAINS: Mapping[str, type[Desk]] = {desk.name: desk for desk in (Shop, Library)}
MOST_WISHES = 3
ONE_MORE = 0.3
"""How likely a customer has another wish, as long as there may be one."""

_IDENTITY_QUESTIONS = (
    "Hello! Could you give me your e-mail address, or your full name and zip code?",
    "Welcome. Please tell me your e-mail address, or your full name and your zip code.",
)
_FACT_QUESTIONS = ("Could you tell me {}?", "Please tell me {}.")
_ASKED = {
    "order": "the order number",
    "reason": "the reason",
    "item": "which items it is about",
    "new": "what you would like instead",
    "payment": "which payment I should use",
    "address": "the new address",
}


class UserSim(ToolEnv):
    """Serve a customer by the rules of a service desk, with tools over its database.

    An action either calls tools or speaks to the customer. Tools do what they are asked to, also
    what the rules in the system prompt forbid. The customer gives facts when asked, says yes to
    what they want and to nothing else, and leaves when the conversation leads nowhere; then, or
    with a transfer to a human, the episode ends. The reward is 1 if three things hold, and else 0
    (each is a part of the score): the database is as it should be (``state``), every wish got its
    outcome told, with the amounts (``told``), and the customer was found first, looked up before a
    refusal, and asked for a yes before every change (``rules``).

    Args:
        domain: ``shop`` or ``library``.
        kinds: Only wishes of these kinds; default: all that the domain has.
        wishes: Wishes of a customer at most, 1 to 3.
        patience: Useless turns that the scripted customer puts up with.
        user: None: scripted. ``{"endpoint": ..., "model": ...}``: a model plays the customer.
        seed: Seeds the tasks.
        options: Those of ``ToolEnv``.

    Raises:
        DataError: An option that cannot work.
    """

    max_turns = 30
    styles = ("tool",)
    source = "generated databases, customers and wishes"

    def __init__(
        self,
        *,
        domain: str = "shop",
        kinds: Sequence[str] | None = None,
        wishes: int = 2,
        patience: int = 4,
        user: Mapping[str, Any] | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        if domain not in DOMAINS:
            raise DataError(f"domain is {domain!r}; it must be one of {', '.join(DOMAINS)}")
        if not 1 <= wishes <= MOST_WISHES or patience < 0:
            raise DataError(
                f"wishes is {wishes} and patience {patience}; need wishes within 1..{MOST_WISHES} "
                "and patience from 0"
            )
        self.desk = DOMAINS[domain]()
        known = self.desk.kinds
        unknown = [kind for kind in kinds or () if kind not in known]
        if unknown or (kinds is not None and not kinds):
            raise DataError(f"kinds is {list(kinds or ())}; {domain} has {', '.join(known)}")
        self._weights = {kind: known[kind] for kind in (kinds or known)}
        self._wishes, self._patience, self._seed_of_tasks = wishes, patience, seed
        self._model = None if user is None else ModelUser(user)
        super().__init__(**{"system_prompt": self.desk.policy, **options})
        self.ledger = Ledger(Scenario({}, Person(None, "", "", "", ""), ()))
        self.user: User = ScriptedUser(Random(0), patience)
        self._dialogue: list[Message] = []

    def load_tasks(self, split: str) -> GeneratedTasks:
        """Customers without end: a seed, and what they want."""
        make = partial(_drawn, self.desk.name, self._weights, self._wishes)
        return GeneratedTasks(make, seed=self._seed_of_tasks, split=split)

    @property
    def tools(self) -> Mapping[str, Tool]:
        """The desk's tools, and those given."""
        if self._tools is None:
            others = dict(super().tools) if self._specs else {}
            own = {made.name: made.bound(self.desk) for made in method_tools(type(self.desk))}
            if own.keys() & others.keys():
                raise DataError(f"tools: {self.desk.name} has {', '.join(own)} already")
            self._tools = {**own, **others}
        return self._tools

    def opening(self, task: Task) -> list[Message]:
        """The day, and the customer's first words."""
        scenario = self._scenario(task)
        self.desk.state, self.ledger = scenario.state, Ledger(scenario)
        self.desk.watcher = self.ledger
        rng = Random(f"user:{task.info['seed']}")
        self.user = self._model or ScriptedUser(rng, self._patience)
        words = self.user.opening(self.ledger)
        self._dialogue = [Message(role="user", content=words)]
        return [Message(role="user", content=f"(Today is {scenario.state['today']}.) {words}")]

    async def finished(self, answer: str) -> Reply:
        """The customer's answer, and the verdict once they are gone or handed over."""
        if self.desk.state["transfers"]:
            return self._verdict([])
        said = without_thinking(answer) or ""
        self._dialogue.append(Message(role="assistant", content=said))
        heard = await self.user.answer(said, self.ledger, self._dialogue)
        message = Message(role="user", content=heard.text)
        self._dialogue.append(message)
        if heard.ends:
            return self._verdict([message])
        if self.turn >= self.max_turns:
            score = Score.wrong(f"no end within {self.max_turns} turns", status="over_limit")
            return Reply([message], truncated=True, score=score)
        return Reply([message])

    def _verdict(self, messages: Sequence[Message]) -> Reply:
        score = self._judgement()
        return Reply(messages, reward=score.value, terminated=True, score=score)

    def _judgement(self) -> Score:
        ledger = self.ledger
        untold = set(range(len(ledger.scenario.wishes))) - ledger.answered
        wrong = {
            "state": "" if self._as_expected() else "the database is not as it should be",
            "told": f"{len(untold)} wishes got no answer" if untold else "",
            "rules": "; ".join(dict.fromkeys(ledger.broken)),
        }
        parts = {name: float(not problem) for name, problem in wrong.items()}
        value = float(all(parts.values()))
        reason = "; ".join(problem for problem in wrong.values() if problem)[:300]
        return Score(value, bool(value), "correct" if value else "wrong", reason, parts)

    def _as_expected(self) -> bool:
        """Whether the database is as the wishes that may be fulfilled leave it."""
        scenario = self._scenario(self.task)
        desk = type(self.desk)()
        desk.state = scenario.state
        for wish in scenario.wishes:
            if wish.outcome in ("do", "transfer") and wish.action is not None:
                desk.carry_out(wish.action)
        return fingerprint(desk.state) == fingerprint(self.desk.state)

    def _scenario(self, task: Task) -> Scenario:
        return type(self.desk).draw(Random(task.info["seed"]), task.info["kinds"])

    def demonstrate(self, style: str, rng: np.random.Generator) -> str:
        """What a good agent does now: it asks, finds, looks, asks for a yes, acts, and tells."""
        move = next_move(self.ledger, rng)
        return move if isinstance(move, str) else self.call_text(move.name, **move.arguments)


def next_move(ledger: Ledger, rng: np.random.Generator) -> Call | str:
    """A good agent's next call or message, from what was said and done so far."""
    person = ledger.scenario.person
    if not ({"email"} if person.email else {"name", "zip"}) <= ledger.given:
        return _one_of(_IDENTITY_QUESTIONS, rng)
    if person.finds[0] not in ledger.calls:
        return person.finds[0]
    return _for_wish(ledger, rng) if ledger.verified else ledger.wish.verdict


def _for_wish(ledger: Ledger, rng: np.random.Generator) -> Call | str:
    """The next move for the present wish of a customer who was found."""
    wish, place = ledger.wish, ledger.place
    missing = [_ASKED[slot] for slot in wish.facts if slot not in ledger.given]
    if missing:
        return _one_of(_FACT_QUESTIONS, rng).format(" and ".join(missing))
    unread = [read for read in wish.reads if read not in ledger.calls]
    if unread:
        return unread[0]
    if wish.outcome == "do" and place not in ledger.confirmed | ledger.carried_out:
        return wish.question
    if wish.action is not None and place not in ledger.carried_out and wish.outcome != "refuse":
        return wish.action
    return wish.verdict


def _one_of(phrases: Sequence[str], rng: np.random.Generator) -> str:
    return phrases[int(rng.integers(len(phrases)))]


def _drawn(domain: str, weights: Mapping[str, float], most: int, rng: np.random.Generator) -> Task:
    """A customer: a seed for all there is, and the kinds of their wishes.

    A stranger wants one thing only, as nothing can be done for them; what is handed over to a
    human comes last; a wish that would change the outcome of another one is not drawn beside it.
    """
    desk = DOMAINS[domain]
    names = list(weights)
    shares = np.array(list(weights.values()))
    kinds: list[str] = []
    while len(kinds) < most and (not kinds or rng.random() < ONE_MORE):
        kind = names[int(rng.choice(len(names), p=shares / shares.sum()))]
        clash = any(kind in group and set(kinds) & set(group) for group in desk.apart)
        if clash or (kind in desk.alone and kinds):
            break
        kinds.append(kind)
        if kind in desk.alone or kind in desk.last:
            break
    seed = int(rng.integers(2**31))
    info = {"seed": seed, "kinds": tuple(kinds)}
    return Task(id=f"{domain}:{'+'.join(kinds)}:{seed}", prompt="", info=info)
