"""The words of the generated world: names, what is said of each kind of thing, and filler."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Relation:
    """What can be said and asked of a kind of thing.

    Attributes:
        kind: Of the subject.
        name: Unique within the kind.
        value: Kind of the value: another kind of thing, or ``year``, ``number`` or ``word``.
        statements: Sentences with ``{S}`` (the subject or a short form, at the beginning), ``{n}``
            (its name) and ``{v}`` (the value).
        questions: With ``{s}``, the subject as a noun phrase.
        phrase: The value as a noun phrase of the subject, where it is a thing.
        reverse: Sentences on the value's own page.
        compared: Pairs of a question with ``{a}`` and ``{b}`` and whether the larger value wins.
        unit: Of a number, with its long form.
    """

    kind: str
    name: str
    value: str
    statements: tuple[str, ...]
    questions: tuple[str, ...]
    phrase: str = ""
    reverse: tuple[str, ...] = ()
    compared: tuple[tuple[str, bool], ...] = ()
    unit: tuple[str, ...] = ()


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.strip().split("\n"))


PHRASES = {
    "town": "the town of {}",
    "river": "the river {}",
    "person": "{}",
    "company": "the company {}",
    "building": "the {}",
    "event": "the {}",
}
SHORT_FORMS = {
    "town": ("The town", "It"),
    "river": ("The river", "It"),
    "person": (),
    "company": ("The company", "It"),
    "building": ("The building", "It"),
    "event": ("The event", "It"),
}

RELATIONS = (
    Relation(
        "town",
        "founded",
        "year",
        _lines("""{S} was founded in {v}.
        The founding charter of {n} was sealed in {v}.
        {S} goes back to a settlement that was founded in {v}."""),
        ("In which year was {s} founded?", "When was {s} founded?"),
        compared=(
            ("Which town was founded earlier, {a} or {b}?", False),
            ("Which town was founded later, {a} or {b}?", True),
        ),
    ),
    Relation(
        "town",
        "population",
        "number",
        _lines("""{S} has {v} inhabitants.
        At the last count {v} people lived in {n}.
        {S} is home to {v} people."""),
        ("How many inhabitants does {s} have?", "How many people live in {s}?"),
        compared=(
            ("Which town has more inhabitants, {a} or {b}?", True),
            ("Which town has fewer inhabitants, {a} or {b}?", False),
        ),
    ),
    Relation(
        "town",
        "river",
        "river",
        _lines("""{S} lies on the river {v}.
        The river {v} runs through the middle of {n}.
        {S} grew up around a ford over the river {v}."""),
        ("On which river does {s} lie?", "Which river runs through {s}?"),
        phrase="the river that runs through {s}",
    ),
    Relation(
        "town",
        "mayor",
        "person",
        _lines("""The first mayor of {n} was {v}.
        {S} was first governed by a council, and then by {v}, its first mayor.
        When the office of mayor was created in {n}, {v} was the first to hold it."""),
        ("Who was the first mayor of {s}?", "Who was the first to be mayor of {s}?"),
        phrase="the first mayor of {s}",
        reverse=("{v} was the first mayor of {n}.", "In {n} {v} was the first mayor."),
    ),
    Relation(
        "town",
        "region",
        "word",
        _lines("""{S} belongs to the region of {v}.
        {S} is one of the towns of {v}, a region of hills and woods.
        On the map of the regions, {n} is found in {v}."""),
        ("In which region is {s}?", "To which region does {s} belong?"),
    ),
    Relation(
        "river",
        "length",
        "number",
        _lines("""{S} is {v} km long.
        From its source to its mouth {n} measures {v} km.
        {S} has a length of {v} km."""),
        ("How many kilometres long is {s}?", "What is the length of {s} in kilometres?"),
        compared=(
            ("Which river is longer, {a} or {b}?", True),
            ("Which river is shorter, {a} or {b}?", False),
        ),
        unit=("km", "kilometres"),
    ),
    Relation(
        "river",
        "mouth",
        "word",
        _lines("""{S} flows into Lake {v}.
        {S} ends in Lake {v}.
        The waters of {n} reach Lake {v} in a broad delta."""),
        ("Into which lake does {s} flow?", "In which lake does {s} end?"),
    ),
    Relation(
        "river",
        "source",
        "word",
        _lines("""{S} rises on Mount {v}.
        {S} has its source on the slopes of Mount {v}.
        The springs of {n} are on Mount {v}."""),
        ("On which mountain does {s} rise?", "On which mountain is the source of {s}?"),
    ),
    Relation(
        "person",
        "born",
        "year",
        _lines("""{S} was born in {v}.
        The parish book gives {v} as the year of birth of {n}.
        {S} was born in the winter of {v}."""),
        ("What is the year of birth of {s}?", "In which year was {s} born?"),
        compared=(
            ("Who was born earlier, {a} or {b}?", False),
            ("Who was born later, {a} or {b}?", True),
        ),
    ),
    Relation(
        "person",
        "birthplace",
        "town",
        _lines("""{S} is a native of {v}.
        {S} was born in the town of {v}.
        The house where {n} was born still stands in {v}."""),
        ("In which town was {s} born?", "Of which town is {s} a native?"),
        phrase="the birthplace of {s}",
        reverse=("{n} was born in {v}.", "Among the natives of {v} is {n}."),
    ),
    Relation(
        "person",
        "profession",
        "word",
        _lines("""{S} worked as a {v}.
        By profession {n} was a {v}.
        {S} earned a living as a {v}."""),
        ("What was the profession of {s}?", "As what did {s} work?"),
    ),
    Relation(
        "person",
        "teacher",
        "person",
        _lines("""{S} was a pupil of {v}.
        {S} learned the trade from {v}.
        The teacher of {n} was {v}."""),
        ("Who was the teacher of {s}?", "Whose pupil was {s}?"),
        phrase="the teacher of {s}",
        reverse=("{n} was a pupil of {v}.", "{v} was the teacher of {n}."),
    ),
    Relation(
        "company",
        "founded",
        "year",
        _lines("""{S} was founded in {v}.
        The first entry in the books of {n}, made at its founding, is of {v}.
        {S} has been in business since it was founded in {v}."""),
        ("In which year was {s} founded?", "When was {s} founded?"),
    ),
    Relation(
        "company",
        "founder",
        "person",
        _lines("""{S} was founded by {v}.
        The founder of {n} was {v}.
        {S} began in a shed that {v}, its founder, had rented."""),
        ("Who founded {s}?", "Who was the founder of {s}?"),
        phrase="the founder of {s}",
        reverse=("{v} founded the company {n}.", "{n} is the company that {v} founded."),
    ),
    Relation(
        "company",
        "seat",
        "town",
        _lines("""{S} has its seat in {v}.
        The head office of {n} stands in {v}.
        {S} is run from {v}."""),
        ("In which town does {s} have its seat?", "In which town is the head office of {s}?"),
        phrase="the town where {s} has its seat",
        reverse=("The company {n} has its seat in {v}.",),
    ),
    Relation(
        "company",
        "product",
        "word",
        _lines("""{S} makes and sells {v}.
        {S} is known for its {v}.
        Most of what {n} sells is {v}."""),
        ("What does {s} make?", "What is the product of {s}?"),
    ),
    Relation(
        "company",
        "employees",
        "number",
        _lines("""{S} employs {v} people.
        {v} people work for {n}.
        {S} has {v} employees."""),
        ("How many people does {s} employ?", "How many employees does {s} have?"),
    ),
    Relation(
        "building",
        "opened",
        "year",
        _lines("""{S} was opened in {v}.
        The opening of the {n} took place in {v}.
        {S} has been open to the public since {v}."""),
        ("In which year was {s} opened?", "When was {s} opened?"),
    ),
    Relation(
        "building",
        "architect",
        "person",
        _lines("""{S} was designed by {v}.
        The architect of the {n} was {v}.
        {S} is the work of {v}, its architect."""),
        ("Who was the architect of {s}?", "Who designed {s}?"),
        phrase="the architect of {s}",
        reverse=("{v} designed the {n}.", "The {n} is a work of {v}, its architect."),
    ),
    Relation(
        "building",
        "town",
        "town",
        _lines("""{S} stands in {v}.
        {S} is in {v}, near the market.
        Visitors find the {n} in the town of {v}."""),
        ("In which town does {s} stand?", "In which town is {s}?"),
        phrase="the town where {s} stands",
        reverse=("The {n} stands in {v}.",),
    ),
    Relation(
        "building",
        "height",
        "number",
        _lines("""{S} is {v} m high.
        At its highest point the {n} measures {v} m.
        {S} has a height of {v} m."""),
        ("How many metres high is {s}?", "What is the height of {s} in metres?"),
        unit=("m", "metres"),
    ),
    Relation(
        "event",
        "first_held",
        "year",
        _lines("""{S} was held for the first time in {v}.
        The first {n} took place in {v}.
        {S} has been held since {v}."""),
        ("In which year was {s} held for the first time?", "When did {s} first take place?"),
    ),
    Relation(
        "event",
        "town",
        "town",
        _lines("""{S} takes place in {v}.
        Every year the {n} brings visitors to {v}, where it is held.
        {S} is held in the town of {v}."""),
        ("In which town does {s} take place?", "In which town is {s} held?"),
        phrase="the town where {s} takes place",
        reverse=("The {n} takes place in {v}.",),
    ),
    Relation(
        "event",
        "organiser",
        "person",
        _lines("""{S} was begun by {v}.
        The idea of the {n} came from {v}, who began it.
        {S} owes its existence to {v}, who began it."""),
        ("Who began {s}?", "By whom was {s} begun?"),
        phrase="the person who began {s}",
        reverse=("{v} began the {n}.",),
    ),
)

KINDS = tuple(PHRASES)
BUILDINGS = ("Bridge", "Tower", "Hall", "Museum", "Lighthouse", "Library")
EVENTS = ("Regatta", "Fair", "Games", "Festival", "Market", "Race")
COMPANIES = ("Works", "Company", "& Sons", "Brothers", "Trading House", "Workshops")
TOWN_FORMS = ("{}", "Upper {}", "New {}", "{}ford", "{}stead")
PRODUCTS = _words(
    """lanterns clocks bells ropes sails barrels saddles bricks glassware knives paper ink
    candles soap carpets buttons compasses umbrellas organs kettles violins spades
    anchors gloves"""
)
PROFESSIONS = _words(
    """baker weaver printer glazier surveyor painter potter tailor carpenter physician
    notary beekeeper cartographer composer botanist locksmith miller stonemason teacher
    watchmaker"""
)
FIRST_NAMES = _words(
    """Ada Bram Celia Doran Edda Falk Greta Henrik Ilse Jonas Karla Lorenz Mira Nils Odile
    Piet Quirin Rosa Stellan Thea Ulrik Vera Willem Xenia Yorick Zelda Anselm Birte
    Corin Delia"""
)
ONSETS = _words("b br d dr f g gr h k kr l m n p r s st t tr v w")
VOWELS = _words("a e i o u au ei")
CENTRES = _words("l ld lm n nd nt r rb rk rl rn s sk st v x")
CODAS = _words("an ar el en er il in is ok on or os um und yr ath")

INTRODUCTIONS = {
    "town": ("{n} is a town.", "{n} is a small town with a long main street."),
    "river": ("The {n} is a river.", "The {n} is a slow river with many bends."),
    "person": ("{n} is remembered to this day.", "Much has been written about {n}."),
    "company": ("{n} is a company.", "{n} is a company with a long history."),
    "building": ("The {n} is a landmark.", "The {n} is seen from far away."),
    "event": ("The {n} is a yearly event.", "The {n} is awaited all year long."),
}
FILLER = {
    "town": _lines("""A fire in {year} destroyed {number} houses, which were rebuilt in stone.
        The old town hall was rebuilt in {year} after long disputes.
        A later mayor, {someone}, gave the town its public garden.
        The market sells cheese, cloth and tools on {number} days of the year.
        The railway came in {year}; the station has {number} platforms and a clock without hands.
        The school was built for {number} pupils and is full."""),
    "river": _lines("""In {year} the river rose so high that {number} bridges were lost.
        Anglers count {number} kinds of fish in its waters.
        A ferry with room for {number} carts ran until {year}.
        Its upper course was surveyed by {someone} in {year}.
        Barges need {number} hours from the first lock to the last."""),
    "person": _lines("""A portrait by {someone} is dated {year}.
        A journey of {number} days in {year} is described in many letters.
        The collected letters fill {number} volumes, printed in {year}.
        A street was named in honour of this life in {year}.
        Friends remember an evening in {year} and a speech that lasted {number} minutes."""),
    "company": _lines("""A strike in {year} lasted {number} days.
        The first catalogue, of {year}, lists {number} articles.
        A second hall was added in {year}, and a third was planned.
        The accountant {someone} left {number} notebooks, which are kept in the archive.
        A medal won at a fair in {year} hangs above the door."""),
    "building": _lines("""The roof was repaired in {year} at great cost.
        There are {number} steps from the door to the upper floor.
        A storm in {year} broke {number} windows.
        The keeper {someone} lived there for {number} years.
        A painting of {year} shows it in evening light."""),
    "event": _lines("""In {year} it rained for {number} days and hardly anyone came.
        The record of {number} visitors was set in {year}.
        The song that is sung at its opening was written by {someone} in {year}.
        A quarrel over the prize in {year} went before the court.
        {number} stalls are set up around the square."""),
    "": _lines("""The hills to the north are covered with beech and pine.
        Winters are mild, and the wind comes mostly from the west.
        An inn at the crossroads serves a soup of leeks and barley.
        Historians disagree about the details, since many papers were lost.
        A traveller of {year} praised the honey and complained of the roads.
        The local paper devoted a whole page to the matter in {year}.
        Swallows return in the second week of April, or so the almanac says.
        A small collection of maps and tools can be seen on request.
        The dialect has its own word for the light after rain.
        Nobody knows who planted the old lime trees by the well.
        Among collectors, a postcard of {year} is much sought after.
        The account by {someone} remains the best known, though not the most exact."""),
}
