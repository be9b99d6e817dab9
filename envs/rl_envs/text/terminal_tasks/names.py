"""Words and files to draw from."""

from __future__ import annotations

from random import Random

WORDS = [
    "amber",
    "anchor",
    "apple",
    "arrow",
    "aspen",
    "badge",
    "basil",
    "beacon",
    "birch",
    "bolt",
    "brass",
    "brook",
    "canal",
    "candle",
    "cedar",
    "chalk",
    "cliff",
    "clover",
    "cobalt",
    "comet",
    "copper",
    "coral",
    "cotton",
    "crane",
    "crown",
    "delta",
    "dune",
    "eagle",
    "ember",
    "falcon",
    "fern",
    "field",
    "flint",
    "forest",
    "garnet",
    "glass",
    "grove",
    "harbor",
    "hazel",
    "heron",
    "hill",
    "indigo",
    "iron",
    "ivory",
    "jade",
    "juniper",
    "lagoon",
    "lantern",
    "laurel",
    "linen",
    "lotus",
    "maple",
    "marble",
    "meadow",
    "mint",
    "moss",
    "nectar",
    "north",
    "oasis",
    "olive",
    "onyx",
    "opal",
    "orchid",
    "otter",
    "pearl",
    "pebble",
    "pine",
    "plum",
    "poppy",
    "quartz",
    "quill",
    "raven",
    "reed",
    "ridge",
    "river",
    "robin",
    "ruby",
    "sable",
    "saddle",
    "sage",
    "shore",
    "silver",
    "slate",
    "spruce",
    "stone",
    "summit",
    "thistle",
    "timber",
    "topaz",
    "tulip",
    "umber",
    "valley",
    "velvet",
    "walnut",
    "willow",
    "wren",
    "zephyr",
]
PEOPLE = [
    "ada",
    "ben",
    "cleo",
    "dara",
    "emil",
    "finn",
    "gita",
    "hugo",
    "ines",
    "jonas",
    "kira",
    "lena",
    "milo",
    "nora",
    "oskar",
    "pia",
]
KINDS = ["txt", "md", "csv", "log", "json", "dat", "cfg", "html"]


def words(rng: Random, count: int) -> list[str]:
    """Different words."""
    return rng.sample(WORDS, count)


def sentence(rng: Random, count: int = 6) -> str:
    """Some words in a row."""
    return " ".join(rng.choices(WORDS, k=count))


def paragraph(rng: Random, count: int = 3) -> str:
    """A few lines."""
    return "".join(f"{sentence(rng)}\n" for _ in range(count))


def places(rng: Random, count: int, deep: int) -> list[str]:
    """Different folders, at most so deep, each ending in a slash; the first is the top."""
    found = [""]
    while len(found) < count:
        above = rng.choice(found)
        new = f"{above}{rng.choice(WORDS)}/"
        if above.count("/") < deep and new not in found:
            found.append(new)
    return found
