"""The lists of words that IFBench's constraints are about."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


CONJUNCTIONS = _words(
    """
    and but for nor or so yet
    """
)
"""The coordinating ones."""

NAMES = _words(
    """
    Emma Liam Sophia Jackson Olivia Noah Ava Lucas Isabella Mason Mia Ethan Charlotte Alexander
    Amelia Benjamin Harper Leo Zoe Daniel Chloe Samuel Lily Matthew Grace Owen Abigail Gabriel Ella
    Jacob Scarlett Nathan Victoria Elijah Layla Nicholas Audrey David Hannah Christopher Penelope
    Thomas Nora Andrew Aria Joseph Claire Ryan Stella Jonathan
    """
)
"""The names of persons that count, in the order of the prompt."""

PRONOUNS = _words(
    """
    all any anybody anyone anything both each either everybody everyone everything he her hers
    herself him himself his i it its itself me mine my myself neither nobody none nothing our ours
    ourselves she some somebody someone something that their theirs them themselves these they this
    those us we what whatever which whichever who whoever whom whomever whose you your yours
    yourself yourselves
    """
)
"""The pronouns that count."""

STOP_WORDS = _words(
    """
    a about above after again against ain all am an and any are aren as at be because been before
    being below between both but by can couldn d did didn do does doesn doing don down during each
    few for from further had hadn has hasn have haven having he her here hers herself him himself
    his how i if in into is isn it its itself just ll m ma me mightn more most mustn my myself needn
    no nor not now o of off on once only or other our ours ourselves out over own re s same shan she
    should shouldn so some such t than that the their theirs them themselves then there these they
    this those through to too under until up ve very was wasn we were weren what when where which
    while who whom why will with won wouldn y you your yours yourself yourselves
    """
)
"""NLTK's list for English as runs of letters, which is all that can match here."""

CAPITALS = _words(
    """
    Reykjavik Helsinki Oslo Tallinn Stockholm Riga Moscow Copenhagen Vilnius Minsk Dublin Berlin
    Amsterdam Warsaw London Brussels Prague Luxembourg Paris Vienna Bratislava Budapest Vaduz
    Chisinau Bern Ljubljana Zagreb
    """
)
"""European capitals north of 45 degrees, from the highest latitude to the lowest."""
