"""What an agent's words do: which facts they ask for, whether they ask for a yes, refuse, or tell.

Any text is read, in time linear in the first ``MOST_CHARACTERS`` of it; nothing is ever raised.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from rl_envs.text.user_sim_world import Wish

MOST_CHARACTERS = 4000
MOST_AMOUNTS = 12
"""A message with more amounts tells none of them: a customer cannot see which is meant."""

_GIVE = (
    "tell|give|provide|share|let me|let us|send me|enter|reply|say|answer|confirm|verify|state|"
    "specify|name|choose|select|pick|indicate|write|type|identify"
)
_REQUEST = re.compile(
    rf"\?|\b(?:please|kindly)\W+(?:\w+\W+)?(?:{_GIVE})\b|\bplease\W*$|"
    r"\b(?:i|we)(?:'ll| will|'d| would)?(?: \w+)? (?:need|require)\b|"
    r"\b(?:could you|can you|may i|tell me|give me|provide|share|let me know(?! if| whether)|"
    r"send me|enter|reply|say|answer|confirm|verify|state|specify)\b|\b(?:will|would) (?:do|work)\b"
)
_IDENTITY = (
    r"\bidentity\b|\bidentify\b|\bverify you\b|\bverification\b|"
    r"\baccount (?:details|info|information)\b|\bverify your (?:account|details)\b"
)
_SLOTS = {
    "email": rf"\be-?mails?\b|\bwho you are\b|{_IDENTITY}",
    "name": rf"\bnames?\b|\bwho (?:you are|am i|is this|i'm|i am)\b|{_IDENTITY}",
    "zip": rf"\bzip\b|\bpostal\b|\bpost ?code\b|{_IDENTITY}",
    "order": r"\border\W{0,3}(?:number|no\b|id\b|#)|"
    r"\b(?:which|what)(?: of (?:your|the|these|those))? orders?\b|\bnumber of (?:the|your)",
    "reason": r"\breasons?\b|\bwhy\b|\bhow come\b|\bprompt(?:s|ed|ing)\b|"
    r"\b(?:because|by mistake|no longer need(?:ed)?)\b.*\?",
    "item": r"\b(?:items?|products?|articles?|books?|titles?)\b|\b(?:which|what) loan\b|"
    r"\bwhat (?:exactly )?(?:would|do) you (?:like|want|wish) (?:me )?to (?:return|send back|"
    r"exchange|swap|renew|extend|reserve|keep)\b",
    "new": r"\binstead\b|\breplacement\b|\bnew item|\bvariant|\boptions?\b|\bcolou?r|\bsize\b|"
    r"\b(?:which|what) (?:model|version|one)\b|\bin (?:its|their|return|exchange)\b|"
    r"\bexchange (?:it|them|this) for\b|\bwhat (?:would|do) you (?:like|want) (?:to have )?instead",
    "payment": r"\bpayment|\brefund(?:ed)?\b|\bmoney\b|\bpay\b|\bpaid\b|\bgift card\b|"
    r"\bdifference\b|\bcard or\b|\bwhich (?:card|account)\b",
    "address": r"(?<!mail )\baddress\b|\bstreet\b|\bwhere (?:to|should|would|shall|do|can)\b",
}
_SLOTS_READ = {slot: re.compile(pattern) for slot, pattern in _SLOTS.items()}
_GENERAL = re.compile(
    r"\b(?:details?|information|more about|describe|what happened|how (?:can|may) (?:i|we) help|"
    r"what can (?:i|we) do)\b|"
    r"(?:^|[,;:]|\b(?:and|so|then)) ?(?:what|which|where|how)\b(?! does (?:that|this)).*\?"
)
_CONFIRM = re.compile(
    r"\b(?:confirm|proceed|go ahead|continue|shall (?:i|we)|should (?:i|we)|may i|"
    r"do you want (?:me|us) to|would you like (?:me|us) to|do you (?:agree|approve|consent)|"
    r"(?:is|would) (?:that|this|it|everything|all)(?: \w+)? (?:correct|right|alright|all right|"
    r"ok(?:ay)?|fine|good|work)|are you (?:sure|happy|okay|ok|fine)|yes or no|"
    r"(?:sound|look)s? (?:good|right|okay|ok|fine)|does (?:that|this) (?:work|sound|look)|"
    r"\(?yes/no\)?|(?:reply|say|answer|type)(?: with)? .?yes)\b"
)
_OFFER = re.compile(
    r"\blet me know (?:if|whether) (?:you(?:'d| would)? (?:like|want|wish|agree|approve|are)|"
    r"i (?:should|may|can)|to|that|this|it|everything)\b|"
    r"\b(?:once|if|when|as soon as) you (?:confirm|agree|approve|say (?:yes|so))\b|"
    r"\bwith your (?:ok|okay|confirmation|approval|permission|consent)\b|"
    r"\bneed your (?:ok|okay|confirmation|approval|permission|consent|yes)\b"
)
"""Asks for a yes without a question."""
_POLAR = re.compile(
    r"(?:^|[,;:.)\u2013-]|\b(?:so|and|then|now|or)) ?(?:is|are|do|does|shall|should|can|could|may|"
    r"would|will|ok(?:ay)?|right|correct|alright|all right|agreed|fine|yes)\b.*\?"
)
"""A question that yes or no answers."""
_INFORMS = re.compile(
    r"\b(?:could|can|would|will) you\W+(?:please )?(?:mind )?(?:tell|give|giving|provid|shar|send|"
    r"let|say|specif|verify|explain|describ|remind|stat|nam|choos|select)|"
    r"\b(?:may|can|could|should) i (?:have|get|ask|know|see)\b|\bdo you (?:have|know|remember)\b|"
    r"\bis it because\b"
)
"""One that looks like it but asks for a fact."""
_REFUSAL = re.compile(
    r"\b(?:cannot|can't|can not|couldn't|could not|unable|not able|wasn't able|"
    r"(?:not|isn't|aren't|longer)(?: \w+)? (?:possible|allowed|permitted|eligible|accepted|"
    r"available|cancell?able|returnable|exchangeable)|impossible|ineligible|not an option|"
    r"can no longer|cannot be|no longer be|won't be able|will not be able|declin(?:e|ed|ing)|"
    r"refus(?:e|ed|ing)|(?:do|does) ?n[o']t (?:accept|allow|permit|qualify|belong|cover|match)|"
    r"unfortunately|regrettably|afraid|too late|(?:has|have) (?:expired|passed|ended)|"
    r"no (?:customer|account|reader|record|match)|outside (?:of )?(?:the|our)|"
    r"against (?:our|the) (?:policy|rules)|(?:policy|rules) (?:does|do)(?: not|n't))\b"
)
_CONDITION = re.compile(r"\b(?:without|until|unless|before (?:i|we|you))\b")
"""A sentence that says what is needed first refuses nothing."""
_DEED = re.compile(
    r"\b(?:that|this|it|your request|the request|proceed|help|assist|account|no longer)\b"
)
"""What a refusal may be about beside the wish's own words."""
_PASSIVE = re.compile(r"\b(?:has been|have been|is now|are now)\b")
_DONE = re.compile(
    r"\b(?:'s been|was|were|i have|i've|i(?: \w+)? just|done|"
    r"completed?|all set|went through|successful(?:ly)?|processed|updated)\b"
)
_FINISHED = re.compile(
    r"\b(?:done|completed?|all set|went through|taken care of|in place|success(?:ful(?:ly)?)?|"
    r"processed|updated|changed|requested|initiated|submitted|booked|confirmed|set up)\b"
)
_FUTURE = re.compile(r"\b(?:will|would|i'll|i'd|can|could|shall|should|may|going to|want to)\b")
_CLOSING = re.compile(
    r"\b(?:anything|something) (?:else|more|further)\b|"
    r"\b(?:other|another|more|further) (?:questions?|requests?|concerns?|help)\b"
)
_EITHER = re.compile(r"\bor\b|\beither\b|\w ?/ ?\w")
_NEGATED = re.compile(
    r"\b(?:(?:will|would|shall|should|do|i|to)(?: rather)? not|won't|wouldn't|shan't|don't|"
    r"not to|never) (?:be )?(\w+)"
)
_ALIKE = str.maketrans(
    {"\u2019": "'", "\u2018": "'", **dict.fromkeys("\u2010\u2011\u2012\u2013", "-")}
)
_SENTENCES = re.compile(r"(?<=[.!?])\s+|\n+")
_ID = re.compile(r"\b[A-Z]{1,2}\d{4,6}\b")
_BEFORE = r"(?:(?<![\w.,])|(?<=\bUSD)|(?<=\bEUR)|(?<=\bGBP))"
_BEHIND = r"(?=$|[^\w]|(?:USD|EUR|GBP)\b)"
_AMOUNT = re.compile(
    rf"{_BEFORE}(\d{{1,3}}(?:[,.]\d{{3}})+|\d{{1,7}})(?:([.,])(\d{{1,2}}))?{_BEHIND}", re.IGNORECASE
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
        tells: It says something of the deed, after which a customer knows that it is done.
        open: It asks anything at all, but for closing phrases.
    """

    asks: tuple[str, ...] = ()
    confirms: bool = False
    matches: bool = False
    refuses: bool = False
    done: bool = False
    tells: bool = False
    open: bool = False


def plain(text: str) -> str:
    """The text in lower case with single spaces, plain apostrophes and hyphens."""
    return " ".join(_shown(text).casefold().split())


def _shown(text: str) -> str:
    """What is read of a text, with compatible characters made equal."""
    return unicodedata.normalize("NFKC", text[:MOST_CHARACTERS]).translate(_ALIKE)


def read_acts(text: str, wish: Wish) -> Acts:
    """What a message does."""
    shown = _shown(text)
    sentences = [plain(sentence) for sentence in _SENTENCES.split(shown)]
    sentences = [s for s in sentences if s and not _CLOSING.search(s)]
    requests = [s for s in sentences if _REQUEST.search(s)]
    asks = [slot for slot, pattern in _SLOTS_READ.items() if any(map(pattern.search, requests))]
    if any(map(_GENERAL.search, requests)):
        asks.append("general")
    confirms = any(map(_CONFIRM.search, requests)) or any(map(_OFFER.search, sentences))
    whole = " ".join(sentences)
    named = any(verb in whole for verb in wish.verbs)
    matches = (confirms or any(map(_is_polar, requests))) and named and bool(wish.details)
    refusals = [s for s in sentences if _REFUSAL.search(s) and not _CONDITION.search(s)]
    return Acts(
        asks=tuple(asks),
        confirms=confirms,
        matches=matches and _names(shown, sentences, wish),
        refuses=bool(wish.verbs and refusals) and (named or any(map(_DEED.search, refusals))),
        done=any(_says_done(s, wish) for s in sentences),
        tells=any(_tells_of(s, wish) for s in sentences),
        open=any("?" in s for s in sentences),
    )


def _is_polar(sentence: str) -> bool:
    return bool(_POLAR.search(sentence)) and not _INFORMS.search(sentence)


def _says_done(sentence: str, wish: Wish) -> bool:
    """Whether a sentence claims that what is wished was done, not that it will or cannot be."""
    if _REFUSAL.search(sentence) or "?" in sentence:
        return False
    named = any(verb in sentence for verb in wish.verbs) or not wish.verbs
    future, passive = _FUTURE.search(sentence), _PASSIVE.search(sentence)
    if named and passive and not (future and future.start() < passive.start()):
        return True
    finished = _FINISHED.search(sentence) or (named and _DONE.search(sentence))
    return bool(finished) and not future


def _tells_of(sentence: str, wish: Wish) -> bool:
    """Whether a sentence speaks of what is wished, or of something finished, and asks nothing."""
    if _REFUSAL.search(sentence) or "?" in sentence:
        return False
    return any(verb in sentence for verb in wish.verbs) or bool(_FINISHED.search(sentence))


def _names(shown: str, sentences: Sequence[str], wish: Wish) -> bool:
    """Whether a message names every detail of a wish, no foreign id, no choice and no negation."""
    if not set(_ID.findall(shown.upper())) <= set(wish.ids):
        return False
    for sentence in sentences:
        rivals = sum(any(has_words(sentence, w) for w in group) for group in wish.rivals)
        if rivals and _EITHER.search(sentence):
            return False
        negated = _NEGATED.findall(sentence)
        if any(word.startswith(verb) for word in negated for verb in wish.verbs):
            return False
    whole = " ".join(sentences)
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
    found = set()
    for match in _AMOUNT.finditer(_shown(text)):
        whole, _, cents = match.groups()
        found.add(float(f"{whole.replace(',', '').replace('.', '')}.{cents or 0}"))
    return frozenset(found) if len(found) <= MOST_AMOUNTS else frozenset()


def tells(told: Sequence[float] | frozenset[float], amount: float) -> bool:
    """Whether an amount is among those told."""
    return any(abs(one - amount) < 0.005 for one in told)


def is_yes(text: str) -> bool:
    """Whether a user's reply is a clear yes."""
    words = plain(text)
    return bool(_YES.search(words)) and not _NO.search(words)
