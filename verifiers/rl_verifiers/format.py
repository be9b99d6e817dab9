"""Does a completion keep to a format of tags, such as thinking followed by an answer?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rl_verifiers.option_checks import check_flags
from rl_verifiers.score import Row, Score, VerifierError
from rl_verifiers.shown import shown


@dataclass(frozen=True)
class TagFormat:
    """See :func:`tag_format`."""

    tags: tuple[str, ...]
    text_outside: bool
    bounded = True
    reads = ()

    def __call__(self, completion: str, row: Row) -> Score:
        """Score one completion; the row is not looked at."""
        problem = self._problem(completion)
        return Score.correct() if problem is None else Score.wrong(problem)

    def _problem(self, completion: str) -> str | None:
        wanted = [mark for tag in self.tags for mark in (f"<{tag}>", f"</{tag}>")]
        found = list(re.finditer("|".join(map(re.escape, wanted)), completion))
        if [match[0] for match in found] != wanted:
            return f"needs {' '.join(wanted)}, each once and in this order"
        edges = [0, *(edge for match in found for edge in match.span()), len(completion)]
        pieces = [completion[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)]
        outside, inside = pieces[::2], pieces[1::2]
        if any(not piece.strip() for piece in inside):
            return "a tag is empty"
        if not self.text_outside and any(piece.strip() for piece in outside):
            return "text outside the tags"
        return None


def tag_format(
    *, tags: Sequence[str] = ("think", "answer"), text_outside: bool = False
) -> TagFormat:
    """The completion is ``<think>...</think><answer>...</answer>``: each once, in order, not empty.

    The format reward of DeepSeek-R1-Zero (arXiv 2501.12948, section 2.2).

    Args:
        tags: The tags, outermost level only, in their order.
        text_outside: Whether text before, between or after them is allowed.

    Raises:
        VerifierError: No tags, or a tag that is not a plain name.
    """
    check_flags("format", text_outside=text_outside)
    names = list(tags) if isinstance(tags, Sequence) and not isinstance(tags, str) else []
    if not names or not all(isinstance(t, str) and re.fullmatch(r"[\w-]+", t) for t in names):
        raise VerifierError(
            f"format: tags must be a list of names such as think, not {shown(tags)}"
        )
    return TagFormat(tuple(names), text_outside)
