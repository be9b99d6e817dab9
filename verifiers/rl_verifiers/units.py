"""Units of measurement: their spellings, products and powers of them, and when two differ.

A unit is named by one text, ``cm^2`` or ``hour^-1 mile``; units are compared by that name and never
converted. A word that is no unit known here ("apples", "ways") is kept behind a question mark, and
differs from nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from rl_verifiers.expressions import Node

_SPELLINGS = """
mm: millimeter millimeters millimetre millimetres
cm: cms centimeter centimeters centimetre centimetres
m: meter meters metre metres
km: kms kilometer kilometers kilometre kilometres
inch: inches
ft: foot feet
yard: yards yd yds
mile: miles mi
g: gram grams gm gms
mg: milligram milligrams
kg: kgs kilogram kilograms
lb: lbs
oz: ounce ounces
ton: tons tonne tonnes
L: l liter liters litre litres
mL: ml milliliter milliliters millilitre millilitres
gallon: gallons gal gals
quart: quarts
pint: pints
cup: cups
acre: acres
hectare: hectares
second: s sec secs seconds
minute: min mins minutes
hour: h hr hrs hours
day: days
week: weeks
month: months
year: years yr yrs
ms: millisecond milliseconds
J: joule joules
kJ: kilojoule kilojoules
eV: electronvolt electronvolts
W: watt watts
kW: kilowatt kilowatts
N: newton newtons
Pa: pascal pascals
kPa: kilopascal kilopascals
V: volt volts
A: amp amps ampere amperes
Ω: ohm ohms
C: coulomb coulombs
F: farad farads
T: tesla teslas
Hz: hertz
kHz: kilohertz
mol: mole moles
K: kelvin kelvins
rad: radian radians
°: degree degrees deg degs
%: percent percentage pct
$: dollar dollars usd
€: euro euros eur
£: gbp
¥: yen yuan cny rmb
₹: rupee rupees inr rs
cent: cents
pound: pounds
am:
pm:
"""
SPELLINGS = {
    spelling: line.partition(":")[0]
    for line in _SPELLINGS.strip().splitlines()
    for spelling in (line.partition(":")[0], *line.partition(":")[2].split())
}
"""What a unit may be called, and its name here; one letter only where the context is explicit."""
WORDS = {key.casefold(): name for key, name in SPELLINGS.items() if len(key) > 1}
MULTIPLIERS = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9,
               "trillion": 10**12}  # fmt: skip
_COMPOUND = {"mph": {"mile": 1, "hour": -1}, "kph": {"km": 1, "hour": -1},
             "kmh": {"km": 1, "hour": -1}, "kwh": {"kW": 1, "hour": 1}}  # fmt: skip
PREFIXES = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
SUFFIXES = {"squared": 2, "cubed": 3}
CONNECTIVES = frozenset(("per", "a", "an", "each", "of"))
_SAME = (frozenset(("pound", "£")), frozenset(("pound", "lb")), frozenset(("'", "ft")),
         frozenset(("'", "minute")))  # fmt: skip

_OF_NUMBERS = frozenset(
    """halves thirds fourths fifths sixths sevenths eighths ninths tenths hundredths thousandths
    squared cubed base""".split()  # noqa: SIM905 - easier to read as words
)

Factors = dict[str, int]


def is_unit_word(word: str) -> bool:
    """Whether a word of two letters or more belongs to a unit."""
    folded = word.casefold()
    return folded in WORDS or folded in _COMPOUND or folded in PREFIXES or folded in SUFFIXES


def phrase(words: Sequence[tuple[str, int]]) -> str:
    """The name of a unit in words, each with its exponent: ``miles per hour``, ``square cm``."""
    found: Factors = {}
    sign, pending, last = 1, 1, ""
    raw: list[str] = []
    for word, exponent in words:
        folded = word.casefold()
        raw.append(word)
        if folded == "per":
            sign = -1
        elif folded in PREFIXES:
            pending = PREFIXES[folded]
        elif folded in SUFFIXES and last:
            found[last] *= SUFFIXES[folded]
        elif (named := _factors(word)) is not None:
            for name, power in named.items():
                found[name] = found.get(name, 0) + power * sign * pending * exponent
                last = name
            pending = 1
        elif folded in ("unit", "units") and pending * exponent > 1:
            return f"?unit^{pending * exponent}"
        elif folded in ("unit", "units") and len(words) > len(raw) and words[-1][0] in SUFFIXES:
            return f"?unit^{SUFFIXES[words[-1][0]]}"
        elif found and sign * pending > 0:  # "10 cm long"
            break
        else:
            return "?" + " ".join(word for word, _ in words)
    return named_factors(found) if found else "?" + " ".join(raw)


def _factors(word: str) -> Factors | None:
    if word.casefold() in _COMPOUND:
        return _COMPOUND[word.casefold()]
    name = SPELLINGS.get(word) or WORDS.get(word.casefold())
    return None if name is None else {name: 1}


def named_factors(factors: Factors) -> str:
    """The name of a product of powers of units."""
    parts = [f"{name}^{power}" if power != 1 else name for name, power in sorted(factors.items())
             if power]  # fmt: skip
    return " ".join(parts)


def factors_of(unit: str) -> Factors | None:
    """The powers in a name; None for a unit that is not known here."""
    if unit.startswith("?") or unit == "'":
        return None
    pairs = (part.partition("^") for part in unit.split())
    return {name: int(power or 1) for name, _, power in pairs}


def multiplied(one: str, other: str, sign: int = 1) -> str:
    """The product of two units, or with ``sign`` -1 their quotient."""
    left, right = factors_of(one), factors_of(other)
    if left is None or right is None:
        return f"?{one} {other}"
    for name, power in right.items():
        left[name] = left.get(name, 0) + sign * power
    return named_factors(left)


def powered(unit: str, exponent: int) -> str:
    """A power of a unit."""
    factors = factors_of(unit)
    if factors is None:
        return unit
    return named_factors({name: power * exponent for name, power in factors.items()})


def differ(one: str | None, other: str | None) -> bool:
    """Whether both units are known and are not the same."""
    if one is None or other is None:
        return False
    if one.startswith("?") or other.startswith("?"):
        powers = _power_of_unknown(one), _power_of_unknown(other)
        return all(powers) and powers[0] != powers[1]
    return one != other and frozenset((one, other)) not in _SAME


def is_fraction_or_power(unit: str) -> bool:
    """Whether a unit that is not known is part of the number: 5 tenths, 5 squared, 5 base six."""
    return unit.startswith("?") and unit[1:].split(" ", 1)[0].casefold() in _OF_NUMBERS


def _power_of_unknown(unit: str) -> str:
    return unit.partition("^")[2] if unit.startswith("?unit^") else ""


def written(node: Node, *, letters: bool = False) -> str | None:
    """The unit that ``node`` spells, as in ``m/s^2``; None where it is something else.

    Args:
        node: A product, quotient or power of words; a factor 1 is left out.
        letters: Read symbols, too: the m and s of ``m/s``.
    """
    if node.op == "text":
        unit = phrase([(word, 1) for word in node.value.split()])
        return None if unit.startswith("?") else unit
    if node.op == "sym" and letters:
        return SPELLINGS.get(node.value)
    if node.op == "pow" and node.args[1].op in ("num", "neg"):
        base, exponent = written(node.args[0], letters=letters), _whole(node.args[1])
        return None if base is None or exponent is None else powered(base, exponent)
    if node.op not in ("mul", "div"):
        return None
    units = [written(part, letters=letters) for part in node.args]
    if units[0] is None and node.op == "div" and _whole(node.args[0]) == 1:
        units[0] = ""
    found: str | None = units[0]
    for factor in units[1:]:
        if found is None or factor is None:
            return None
        found = multiplied(found, factor, -1 if node.op == "div" else 1)
    return found


def _whole(node: Node) -> int | None:
    if node.op == "neg":
        value = _whole(node.args[0])
        return None if value is None else -value
    return int(node.value) if node.op == "num" and node.value.denominator == 1 else None


def split_letters(node: Node) -> tuple[Node, str] | None:
    """Value and unit where ``node`` writes the unit in bare letters, ``9.8 m/s^2``; else None."""
    if node.op == "mul":
        unit = written(Node("mul", node.args[1:]), letters=True)
        if unit is None and len(node.args) > 2:
            unit = written(node.args[-1], letters=True)
            return None if unit is None else (node._replace(args=node.args[:-1]), unit)
        return None if unit is None else (node.args[0], unit)
    if node.op == "div":
        inner = split_letters(node.args[0]) or (node.args[0], "")
        unit = written(node.args[1], letters=True)
        return None if unit is None else (inner[0], multiplied(inner[1], unit, -1))
    return None
