"""The customer of a service conversation: scripted, or a model behind an endpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

from rl_envs.tasks import DataError
from rl_envs.text.user_sim_speech import (
    Acts,
    amounts_in,
    has_words,
    is_yes,
    plain,
    read_acts,
    tells,
)
from rl_envs.text.user_sim_world import Call, Scenario, Watcher, Wish
from rl_envs.tools import ToolFailure
from rl_envs.types import Message
from rl_verifiers import VerifierError
from rl_verifiers.chat_endpoint import ChatEndpoint, EndpointError

IDENTITY = ("email", "name", "zip")
END = "[END]"
_OPTIONS = (
    "endpoint",
    "model",
    "api_key_env",
    "timeout_s",
    "retries",
    "temperature",
    "concurrency",
)

_YES = ("Yes, please go ahead.", "Yes, that is right.", "Yes, please do that.")
_NO = (
    "No, that is not what I asked for. {says}",
    "No. Before I agree I want to know exactly what you are going to do. {says}",
)
_LOST = ("I am not sure what you mean. {says}", "That does not help me. {says}", "{says}")
_INSIST = ("But I am sure that this is possible. {says}", "Please check that again. {says}")
_NOTED = ("I see. That is a pity.", "All right, if that is how it is.")
_THANKS = ("Thank you.", "Great, thanks.")
_BYE = "That was all. Goodbye."
_LEFT = "This leads nowhere. I will try elsewhere. Goodbye."


@dataclass(frozen=True, slots=True)
class Heard:
    """What a customer answers, and whether they are gone then."""

    text: str
    ends: bool = False


@dataclass(slots=True)
class Ledger(Watcher):
    """What was said and done so far, whoever plays the customer; what the verdict is made of.

    Attributes:
        scenario: Who writes, and what they want.
        place: Which wish is being talked about.
        given: The slots whose facts the customer gave for the present wish, and those of identity.
        told: The amounts that the agent told since the present wish came up.
        answered: Which wishes got their outcome told.
        confirmed: The wishes that the customer said yes to, by place.
        carried_out: The actions of wishes that were carried out, by place.
        calls: Every call so far.
        broken: The rules that were broken, in words.
        verified: Whether the agent found the customer by what they gave.
    """

    scenario: Scenario
    place: int = 0
    given: set[str] = field(default_factory=set)
    told: set[float] = field(default_factory=set)
    answered: set[int] = field(default_factory=set)
    confirmed: set[int] = field(default_factory=set)
    carried_out: set[int] = field(default_factory=set)
    calls: list[Call] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    verified: bool = False

    @property
    def wish(self) -> Wish:
        """The wish being talked about; the last one after all of them."""
        return self.scenario.wishes[min(self.place, len(self.scenario.wishes) - 1)]

    @property
    def over(self) -> bool:
        """Whether every wish got its answer."""
        return self.place >= len(self.scenario.wishes)

    def hear(self, text: str) -> Acts:
        """Takes note of what the agent says."""
        self.told |= amounts_in(text)
        return read_acts(text, self.wish)

    @property
    def all_told(self) -> bool:
        """Whether the present wish's amounts were told."""
        return all(tells(frozenset(self.told), amount) for amount in self.wish.amounts)

    def closes(self, acts: Acts) -> bool:
        """Whether a message tells the outcome of the present wish: amounts are apart."""
        wish = self.wish
        if wish.outcome == "tell":
            return self.all_told
        if wish.outcome == "refuse":
            return self._refused(acts)
        if wish.outcome == "transfer":
            return False
        if self.place in self.carried_out:
            return acts.done or (acts.tells and not acts.confirms and not self._wants(acts))
        return acts.done and not (acts.refuses or acts.confirms or acts.asks or acts.open)

    def _refused(self, acts: Acts) -> bool:
        return acts.refuses and not acts.confirms and not acts.matches and not self._wants(acts)

    def _wants(self, acts: Acts) -> bool:
        """Whether a message asks for a certain fact that the customer has not given yet."""
        return bool(known([slot for slot in acts.asks if slot != "general"], self) - self.given)

    def note_refusal(self, acts: Acts) -> None:
        """Takes note of a refusal of what the rules allow.

        The customer insists then, so refusing first and seeing who insists would pay.
        """
        wish = self.wish
        may = wish.outcome == "do" and self.place not in self.carried_out
        if may and self._refused(acts) and self.verified and self._looked():
            self.broken.append(f"refused {wish.kind}, which the rules allow")

    def close(self) -> None:
        """The present wish has its answer: the next one."""
        if self.wish.outcome == "refuse" and not self._looked():
            self.broken.append(f"refused {self.wish.kind} without looking")
        self.answered.add(self.place)
        self.place += 1
        self.given &= set(IDENTITY)
        self.told.clear()

    def _looked(self) -> bool:
        person = self.scenario.person
        if person.customer_id is None:
            return any(_same(call, found) for call in self.calls for found in person.finds)
        return all(any(_same(look, call) for call in self.calls) for look in self.wish.looks)

    # The desk reports its calls here.

    def watch(self, call: Call) -> None:
        """Before a call is carried out."""
        self.calls.append(call)
        if call.name.startswith("find_customer"):
            return
        if not self.verified:
            self.broken.append(f"{call.name} before the customer was found")

    def found(self, call: Call, customer_id: str) -> None:
        """A customer was found; by what the customer gave, if it is the one who writes."""
        facts = {"email"} if call.name.endswith("email") else {"name", "zip"}
        if customer_id == self.scenario.person.customer_id and facts <= self.given:
            self.verified = True

    def changed(self, call: Call) -> None:
        """After a call changed the database: it must be what the customer said yes to."""
        for place, wish in enumerate(self.scenario.wishes):
            if wish.action is not None and _same(wish.action, call):
                if wish.outcome == "do" and place not in self.confirmed:
                    self.broken.append(f"{call.name} without a yes")
                self.carried_out.add(place)
                if wish.outcome == "transfer":
                    self.answered.add(place)
                return
        self.broken.append(f"{call.name} that nobody asked for")


def _same(one: Call, other: Call) -> bool:
    """Whether two calls ask for the same, but for case, spacing and the order of lists."""
    return one.name == other.name and _bare(one.arguments) == _bare(other.arguments)


def _bare(value: Any) -> Any:
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, Mapping):
        return {key: _bare(part) for key, part in value.items()}
    if isinstance(value, Sequence):
        return sorted((_bare(part) for part in value), key=str)
    return value


class User(Protocol):
    """Who plays the customer."""

    def opening(self, ledger: Ledger) -> str:
        """How the conversation begins."""
        ...

    async def answer(self, text: str, ledger: Ledger, messages: Sequence[Message]) -> Heard:
        """The answer to a message of the agent."""
        ...


class ScriptedUser:
    """Says what it is asked for, yes to what it wants and to nothing else, and leaves when bored.

    A turn that asks for nothing new, tells no outcome, and asks for no yes to the very thing that
    is wanted costs patience; without any left the customer leaves. So every conversation ends.

    Args:
        rng: Where phrases are drawn from.
        patience: Useless turns that are put up with.
    """

    def __init__(self, rng: Random, patience: int) -> None:
        self.rng, self.patience = rng, patience

    def opening(self, ledger: Ledger) -> str:
        """A greeting and the first wish; sometimes a fact with it."""
        hello = self.rng.choice(("Hello!", "Hi there.", "Good morning."))
        said = [hello, ledger.wish.says]
        if "order" in ledger.wish.facts and self.rng.random() < 0.25:
            said.append(ledger.wish.facts["order"])
            ledger.given.add("order")
        return " ".join(said)

    async def answer(self, text: str, ledger: Ledger, messages: Sequence[Message]) -> Heard:
        """The answer to a message of the agent."""
        return self.reply(text, ledger)

    def reply(self, text: str, ledger: Ledger) -> Heard:
        """The answer to a message of the agent; the ledger learns of it."""
        acts, wish = ledger.hear(text), ledger.wish
        if acts.matches and ledger.place not in ledger.carried_out:
            new = ledger.place not in ledger.confirmed
            ledger.confirmed.add(ledger.place)
            return self._said(self.rng.choice(_YES), useful=new)
        if ledger.closes(acts):
            return self._closed(ledger)
        ledger.note_refusal(acts)
        facts, fresh = _facts(acts.asks, ledger), known(acts.asks, ledger) - ledger.given
        ledger.given |= fresh
        if facts and (fresh or not acts.confirms):
            return self._said(" ".join(facts), useful=bool(fresh))
        phrases = _NO if acts.confirms else _INSIST if acts.refuses else _LOST
        return self._said(self.rng.choice(phrases).format(says=wish.says), useful=False)

    def _closed(self, ledger: Ledger) -> Heard:
        if not ledger.all_told:
            return self._said(f"And one more thing: {ledger.wish.wonders}", useful=False)
        thanks = self.rng.choice(_NOTED if ledger.wish.outcome == "refuse" else _THANKS)
        ledger.close()
        if ledger.over:
            return Heard(f"{thanks} {_BYE}", ends=True)
        return Heard(f"{thanks} There is something else. {ledger.wish.says}")

    def _said(self, text: str, *, useful: bool) -> Heard:
        self.patience -= not useful
        return Heard(text) if self.patience >= 0 else Heard(_LEFT, ends=True)


def fact_of(slot: str, ledger: Ledger) -> str:
    """What the customer says when asked for something; empty where they know nothing of it."""
    person = ledger.scenario.person
    identity = {
        "email": f"My e-mail address is {person.email}."
        if person.email
        else "I do not have my e-mail address at hand.",
        "name": f"My name is {person.first_name} {person.last_name}.",
        "zip": f"My zip code is {person.zip_code}.",
    }
    return identity.get(slot, "") or ledger.wish.facts.get(slot, "")


def known(asks: Sequence[str], ledger: Ledger) -> set[str]:
    """The slots asked for that the customer has an answer to."""
    facts = ledger.wish.facts
    named = set(asks) & (facts.keys() | set(IDENTITY))
    if not named and "general" in asks:  # asked for details: the next one
        return set([slot for slot in facts if slot not in ledger.given][:1])
    return named


def _facts(asks: Sequence[str], ledger: Ledger) -> list[str]:
    """What the customer says to questions, nothing twice."""
    asked = known(asks, ledger)
    slots = [*IDENTITY, *ledger.wish.facts]
    return list(dict.fromkeys(fact_of(slot, ledger) for slot in slots if slot in asked))


INSTRUCTIONS = """\
You play a customer who writes to a service desk. Stay in that role. You are {name}, zip code \
{zip}. {email}

What you want, one thing after the other:
{wishes}

Write one or two sentences at a time, in plain words. Give a fact only when you are asked for it. \
Never make up facts. When the desk names exactly what you want, with all its details, and asks \
whether to go ahead, answer with a clear yes; to anything else say no. When a wish is refused, \
accept it and go on with the next. When all is settled, say goodbye and write {end}."""


class ModelUser:
    """A customer played by a model behind an OpenAI-compatible endpoint.

    Args:
        options: ``endpoint`` (the base URL) and ``model``; ``api_key_env``, ``timeout_s``,
            ``retries``, ``concurrency``, ``temperature``.

    Raises:
        DataError: An option is missing, unknown or unusable.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        unknown = sorted(set(options) - set(_OPTIONS))
        if unknown or not {"endpoint", "model"} <= set(options):
            raise DataError(
                f"user: has {', '.join(map(str, options))}; it needs endpoint and model, and may "
                f"have {', '.join(_OPTIONS[2:])}"
            )
        settings = dict(options)
        self.temperature = float(settings.pop("temperature", 0.0))
        try:
            self.endpoint = ChatEndpoint(base_url=settings.pop("endpoint"), **settings)
        except VerifierError as error:
            raise DataError(f"user: {error}") from None

    def opening(self, ledger: Ledger) -> str:
        """The first wish; the model speaks from the second turn on."""
        return f"Hello! {ledger.wish.says}"

    async def answer(self, text: str, ledger: Ledger, messages: Sequence[Message]) -> Heard:
        """The model's answer.

        Raises:
            ToolFailure: The endpoint gives none: our failure.
        """
        acts = ledger.hear(text)
        try:
            reply = await self.endpoint.complete(
                _turned(messages, ledger), temperature=self.temperature, max_tokens=200
            )
        except (EndpointError, VerifierError) as error:
            raise ToolFailure(f"the simulated user: {error}") from error
        said = reply.text.partition(END)[0].strip() or "Goodbye."
        ledger.given |= _given(said, ledger) | (set(acts.asks) & set(ledger.wish.facts))
        if acts.matches and is_yes(said):
            ledger.confirmed.add(ledger.place)
        ledger.note_refusal(acts)
        if ledger.closes(acts) and ledger.all_told:
            ledger.close()
        return Heard(said, ends=END in reply.text or ledger.over)


def _given(said: str, ledger: Ledger) -> set[str]:
    """The facts of identity that a reply holds."""
    person, text = ledger.scenario.person, plain(said)
    values = {
        "email": (person.email,),
        "name": (person.first_name, person.last_name),
        "zip": (person.zip_code,),
    }
    return {slot for slot, parts in values.items() if all(p and has_words(text, p) for p in parts)}


def _turned(messages: Sequence[Message], ledger: Ledger) -> list[dict[str, str]]:
    """The conversation as the customer's model sees it: it is the assistant, tools are unseen."""
    person = ledger.scenario.person
    wishes = (
        f"{n}. {wish.says} {' '.join(wish.facts.values())} {wish.wonders if wish.amounts else ''}"
        for n, wish in enumerate(ledger.scenario.wishes, start=1)
    )
    email = f"Your e-mail address is {person.email}." if person.email else ""
    told = INSTRUCTIONS.format(
        name=f"{person.first_name} {person.last_name}",
        zip=person.zip_code,
        email=email or "You do not have your e-mail address at hand.",
        wishes="\n".join(wishes),
        end=END,
    )
    roles = {"user": "assistant", "assistant": "user"}
    spoken = [{"role": roles[m["role"]], "content": m["content"]} for m in messages]
    hello = {"role": "user", "content": "Service desk, how can I help you?"}
    return [{"role": "system", "content": told}, hello, *spoken]
