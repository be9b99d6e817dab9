"""What an agent's words do: which facts they ask for, whether they ask for a yes, refuse, or tell.

Any text is read, in time linear in the first ``MOST_CHARACTERS`` of it; nothing is ever raised.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rl_envs.text.user_sim_world import Wish

MOST_CHARACTERS = 4000
MOST_AMOUNTS = 12
"""A message with more amounts tells none of them: a customer cannot see which is meant."""

_REQUEST = re.compile(
    r"\?|\b(?:please|could you|can you|may i|i(?:'| wi)ll need|i need|we need|tell me|give me|"
    r"provide|share|let me know|send me|enter|reply|say|answer|confirm|verify|state|specify)\b"
)
_SLOTS = {
    "email": r"\be-?mails?\b|\bidentity\b|\bidentify\b|\bwho you are\b|\bverify you\b",
    "name": r"\bnames?\b|\bidentity\b|\bidentify\b|\bwho you are\b|\bverify you\b",
    "zip": r"\bzip\b|\bpostal\b|\bpost ?code\b|\bidentity\b|\bidentify\b|\bverify you\b",
    "order": r"\border\W{0,3}(?:number|no\b|id\b|#)|\b(?:which|what) order|"
    r"\bnumber of (?:the|your)",
    "reason": r"\breasons?\b|\bwhy\b",
    "item": r"\b(?:items?|products?|articles?|books?|titles?)\b",
    "new": r"\binstead\b|\breplacement\b|\bnew item|\bvariant|\boptions?\b|\bcolou?r|\bsize\b|"
    r"\bexchange (?:it|them|this) for\b|\bwhat (?:would|do) you (?:like|want) (?:to have )?instead",
    "payment": r"\bpayment|\brefund(?:ed)?\b|\bmoney\b|\bpay\b|\bpaid\b|\bgift card\b",
    "address": r"(?<!mail )\baddress\b|\bstreet\b|\bwhere (?:to|should)\b",
}
_SLOTS_READ = {slot: re.compile(pattern) for slot, pattern in _SLOTS.items()}
_GENERAL = re.compile(
    r"\b(?:details?|information|more about|describe|what happened|how (?:can|may) (?:i|we) help|"
    r"what can (?:i|we) do)\b"
)
_CONFIRM = re.compile(
    r"\b(?:confirm|proceed|go ahead|shall i|should i|may i|do you want me to|would you like me to|"
    r"do you agree|is (?:that|this) (?:correct|right|ok(?:ay)?|fine)|are you sure|yes or no|"
    r"\(?yes/no\)?|(?:reply|say|answer|type)(?: with)? .?yes)\b"
)
_REFUSAL = re.compile(
    r"\b(?:cannot|can't|can not|unable|not able|not possible|isn't possible|impossible|not allowed|"
    r"not permitted|not eligible|ineligible|won't be able|will not be able|declined?|refused?|"
    r"not accepted|unfortunately|afraid|too late|outside (?:of )?(?:the|our)|"
    r"against (?:our|the) (?:policy|rules)|(?:policy|rules) (?:does|do)(?: not|n't))\b"
)
_DONE = re.compile(
    r"\b(?:has been|have been|is now|are now|i have|i've|i(?: \w+)? just|done|completed|"
    r"successful(?:ly)?|processed|will be refunded)\b"
)
_CLOSING = re.compile(
    r"\b(?:anything|something) else\b|\bother questions?\b|\bfurther (?:help|questions?)"
    r"|\banything further\b"
)
_SENTENCES = re.compile(r"(?<=[.!?])\s+|\n+")
_ID = re.compile(r"\b[A-Z]{1,2}\d{4,6}\b")
_AMOUNT = re.compile(
    r"(?<![\w.])\d{1,3}(?:,\d{3})+(?:\.\d{1,2})?(?!\w)|(?<![\w.])\d{1,7}(?:\.\d{1,2})?(?!\w)"
)
_YES = re.compile(
    r"\b(?:yes|yeah|yep|sure|please do|go ahead|correct|i confirm|confirmed|ok(?:ay)?)\b"
)
_NO = re.compile(r"\b(?:no|not|don't|do not|never|wait|stop)\b")


@dataclass(frozen=True, slots=True)
class Acts:
    """What a message does, as far as one wish goes.

    Attributes:
        asks: The slots it asks for, in a fixed order; ``general`` for details of no certain kind.
        confirms: It asks for a yes.
        matches: And names all that the wish is made of, and nothing else.
        refuses: It says that what is wished cannot be had.
        done: It says that it was done.
        says: It says anything at all, but for closing phrases.
    """

    asks: tuple[str, ...] = ()
    confirms: bool = False
    matches: bool = False
    refuses: bool = False
    done: bool = False
    says: bool = False


def plain(text: str) -> str:
    """The text in lower case with single spaces and plain apostrophes."""
    return " ".join(text[:MOST_CHARACTERS].replace("\u2019", "'").casefold().split())


def read_acts(text: str, wish: Wish) -> Acts:
    """What a message does."""
    shown = text[:MOST_CHARACTERS]
    sentences = [plain(sentence) for sentence in _SENTENCES.split(shown)]
    sentences = [s for s in sentences if s and not _CLOSING.search(s)]
    requests = [s for s in sentences if _REQUEST.search(s)]
    asks = [slot for slot, pattern in _SLOTS_READ.items() if any(map(pattern.search, requests))]
    if not asks and any(map(_GENERAL.search, requests)):
        asks = ["general"]
    confirms = any(map(_CONFIRM.search, requests))
    whole = " ".join(sentences)
    named = any(verb in whole for verb in wish.verbs)
    return Acts(
        asks=tuple(asks),
        confirms=confirms,
        matches=confirms and named and bool(wish.details) and _names(shown, whole, wish),
        refuses=named and bool(_REFUSAL.search(whole)),
        done=(named or not wish.verbs) and bool(_DONE.search(whole)),
        says=bool(sentences),
    )


def _names(shown: str, whole: str, wish: Wish) -> bool:
    """Whether a message names every detail of a wish and no id that is none of its."""
    if not set(_ID.findall(shown.upper())) <= set(wish.ids):
        return False
    return all(any(has_words(whole, words) for words in group) for group in wish.details)


def has_words(text: str, words: str) -> bool:
    """Whether words stand in a plain text, as whole words (the last one may go on)."""
    wanted = plain(words)
    start = text.find(wanted)
    while start >= 0:
        if not text[max(start - 1, 0) : start].isalnum():
            return True
        start = text.find(wanted, start + 1)
    return False


def amounts_in(text: str) -> frozenset[float]:
    """The amounts that a message tells: none, if there are more than ``MOST_AMOUNTS``."""
    found = {float(m.group().replace(",", "")) for m in _AMOUNT.finditer(text[:MOST_CHARACTERS])}
    return frozenset(found) if len(found) <= MOST_AMOUNTS else frozenset()


def tells(told: Sequence[float] | frozenset[float], amount: float) -> bool:
    """Whether an amount is among those told."""
    return any(abs(one - amount) < 0.005 for one in told)


def is_yes(text: str) -> bool:
    """Whether a user's reply is a clear yes."""
    words = plain(text)
    return bool(_YES.search(words)) and not _NO.search(words)
