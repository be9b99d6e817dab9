"""Look something up: search, open pages, quote what shows the answer, answer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any, Self

import numpy as np

from rl_envs.core import Reply
from rl_envs.tasks import DataError, GeneratedTasks
from rl_envs.text import browse_judge as judging
from rl_envs.text.browse_corpus import (
    Corpus,
    CorpusError,
    Page,
    TooBroadError,
    cached_corpus,
    part_at,
    parts_of,
)
from rl_envs.text.browse_documents import documents_corpus
from rl_envs.text.browse_judge import Quote, Target
from rl_envs.text.browse_questions import HOPS, drawn
from rl_envs.text.browse_world import FEWEST_PAGES, MOST_PAGES, world
from rl_envs.tools import Finish, ToolEnv, ToolError, ToolFailure, tool
from rl_envs.types import Message, Task
from rl_verifiers.quotes_text import fold
from rl_verifiers.score import Score

DIFFICULTY = {
    1: ("lookup",),
    2: ("lookup", "chain"),
    3: ("chain", "comparison"),
    4: ("long_chain", "comparison"),
}
KINDS = ("lookup", "chain", "comparison")
MOST_SEED = 2**62
MOST_FOUND = 5  # places that `find` shows
CONTEXT = 100  # characters on either side of them
FEWEST_QUOTE_CHARACTERS = 120
MOST_FACTS, MOST_FINAL_FACTS = 4, 2  # that a made-up question needs: a comparison


class Browse(ToolEnv):
    """Answer a question from a searchable library, and quote the words that show the answer.

    The reward is 1 for the right answer with quotes that show it: each stands word for word on the
    page it was taken from, and one contains the answer in a sentence of that page that states it
    (for a comparison both facts are quoted). Without either it is 0.

    The library is a made-up world of its own for each split, or a folder of documents.

    Args:
        pages: How many pages the made-up world has, 100 to 20,000.
        kinds: Kinds of questions: ``lookup`` (one fact), ``chain`` (a fact of what another fact
            names), ``long_chain`` (three facts), ``comparison`` (two facts).
        difficulty: 1 to 4: a preset of ``kinds``.
        evidence: ``answer``: quotes must show the fact that gives the answer; ``all``: each fact on
            the way to it.
        documents: A folder of ``.txt``, ``.md`` and ``.jsonl`` files in place of the made-up world;
            then give ``tasks``: rows with ``question``, ``answer`` (a text, or a list of texts that
            are all right) and, if known, ``page`` (an id or a title) and ``evidence`` (a passage,
            or several that must all be quoted).
        hits: Pages that a search shows.
        part_chars: Characters of a page that are shown at a time.
        max_quotes: Quotes of an episode.
        max_quote_chars: Characters of a quote.
        answer_credit: The reward of a right answer that no quote shows, below 1.
        cache: The folder of indexes; default: ``AGENT_RL_CACHE``, else the user's cache folder.
        seed: Seeds the world and the questions.
        options: Those of ``ToolEnv``. A ``verifier`` judges the answer in place of comparing it.
    """

    system_prompt = (
        "Answer the question from the pages of a library: search it, open pages and read them. "
        "Quote the sentence that shows the answer (to compare two things, quote both facts) "
        "while its page is open, then answer in as few words as possible."
    )
    max_turns = 16
    styles = ("expert",)
    source = "a made-up world"

    def __init__(
        self,
        *,
        pages: int = 600,
        kinds: Sequence[str] | None = None,
        difficulty: int | None = None,
        evidence: str = "answer",
        documents: str | os.PathLike[str] | None = None,
        hits: int = 8,
        part_chars: int = 1200,
        max_quotes: int = 4,
        max_quote_chars: int = 240,
        answer_credit: float = 0.0,
        cache: str = "",
        seed: int = 0,
        **options: Any,
    ) -> None:
        if difficulty is not None and difficulty not in tuple(DIFFICULTY):
            raise DataError(f"difficulty is {difficulty!r}; it must be 1 to {max(DIFFICULTY)}")
        if kinds is not None and (isinstance(kinds, str) or not isinstance(kinds, Sequence)):
            raise DataError(f"kinds is {kinds!r:.60}; it must be a list of names")
        preset = KINDS if difficulty is None else DIFFICULTY[difficulty]
        self.pages, self.kinds = pages, tuple(kinds) if kinds is not None else preset
        self.evidence, self.hits, self.part_chars = evidence, hits, part_chars
        self.documents = None if documents is None else os.fspath(documents)
        self.max_quotes, self.max_quote_chars = max_quotes, max_quote_chars
        self.answer_credit, self.cache, self.seed_of_tasks = answer_credit, cache, seed
        super().__init__(**options)
        self.quotes_verifier = judging.verifier_of_quotes(max_quote_chars)
        self._corpus: Corpus | None = None
        self._start()

    def _check_options(self) -> None:
        super()._check_options()
        if not self.kinds or not set(self.kinds) <= set(HOPS):
            raise DataError(f"kinds is {list(self.kinds)}; it must be some of {', '.join(HOPS)}")
        if self.evidence not in ("answer", "all"):
            raise DataError(f"evidence is {self.evidence!r}; it must be 'answer' or 'all'")
        if self.documents is not None and self._given_tasks is None:
            raise DataError(
                "documents: give `tasks`, too: a file or rows with question and answer, "
                "and page if known"
            )
        credit = self.answer_credit
        if not isinstance(credit, int | float) or not 0.0 <= credit < 1.0:
            raise DataError(f"answer_credit is {credit!r:.60}; it must be within 0..1, not 1")
        bounds = {
            "seed_of_tasks": (0, MOST_SEED),
            "pages": (FEWEST_PAGES, MOST_PAGES),
            "hits": (1, 50),
            "part_chars": (200, self.max_output_chars - 400),  # or the end of a part is cut out
            "max_quotes": (1, 20),
            "max_quote_chars": (FEWEST_QUOTE_CHARACTERS, 1_000),
        }
        for name, (low, high) in bounds.items():
            number, shown = getattr(self, name), name.removesuffix("_of_tasks")
            if type(number) is not int or not low <= number <= high:
                raise DataError(f"{shown} is {number!r:.60}; it must be {low} to {high}")
        facts = MOST_FACTS if self.evidence == "all" else MOST_FINAL_FACTS
        if self.documents is None and self.max_quotes < facts:
            raise DataError(f"max_quotes is {self.max_quotes}; some answers need {facts} quotes")

    # Tasks.

    def load_tasks(self, split: str) -> GeneratedTasks:
        """Questions without end about the split's own world."""
        make = partial(_drawn, *self._world(split), self.kinds)
        return GeneratedTasks(make, seed=self.seed_of_tasks, split=split)

    def _world(self, split: str) -> tuple[int, int]:
        return 2 * self.seed_of_tasks + (split == "test"), self.pages

    @property
    def corpus(self) -> Corpus:
        """The library, indexed on first use.

        Raises:
            DataError: The documents cannot be read, or the cache cannot be written.
        """
        if self._corpus is None:
            if self.documents is not None:
                self._corpus = documents_corpus(self.documents, self.cache)
            else:
                self._corpus = _generated_corpus(*self._world(self.split), self.cache)
        return self._corpus

    def clone(self) -> Self:
        """Another environment that shares the tasks and the library."""
        twin = super().clone()
        twin._corpus = self._corpus
        return twin

    def prepare(self) -> None:
        """Builds the index, where it is not there yet."""
        super().prepare()
        _ = self.corpus

    # The episode.

    def _start(self) -> None:
        self.found: list[str] = []  # ids of the latest search
        self.searched: list[str] = []
        self.visited: list[str] = []
        self.page: Page | None = None
        self.part = 0
        self.quotes: list[Quote] = []

    def opening(self, task: Task) -> list[Message]:
        """The question."""
        self._start()
        if task.answer in (None, "", [], ()):
            raise DataError(f"task {task.id}: it has no answer")
        _ = self._targets()  # a page or a passage that is not there is told now
        return [Message(role="user", content=str(task.prompt))]

    @tool
    def search(self, query: str) -> str:
        """Search the library. Gives the pages that fit best, with their ids and a passage of each.

        Args:
            query: Words to look for, such as a name.
        """
        self.searched.append(query[:1_000])
        try:
            hits = self.corpus.search(query, self.hits)
        except TooBroadError as error:
            raise ToolError(str(error)) from None
        except CorpusError as error:
            raise ToolFailure(str(error)) from error
        self.found = [hit.id for hit in hits]
        if not hits:
            return "No page has any of these words."
        lines = (
            f"{rank}. [{hit.id}] {hit.title}\n   {hit.snippet[:300]}"
            for rank, hit in enumerate(hits, start=1)
        )
        return "\n".join(lines)

    @tool(inline=True)
    def open(self, page: int | str, part: int = 1) -> str:
        """Open a page and read a part of it.

        Args:
            page: Its place in the latest search (1 is the first), its id or its title.
            part: Which part of it, from 1 on.
        """
        opened = self._named(str(page).strip())
        if opened is None:
            raise ToolError(f"there is no page {str(page)[:80]!r}")
        parts = parts_of(opened.text, self.part_chars)
        if not 1 <= part <= len(parts):
            raise ToolError(f"the page has {len(parts)} part(s)")
        self.page, self.part = opened, part
        self.visited.append(opened.id)
        start, end = parts[part - 1]
        more = f"\n\n(It goes on in part {part + 1}.)" if part < len(parts) else ""
        head = f"[{opened.id}] {opened.title} (part {part} of {len(parts)})"
        return f"{head}\n\n{opened.text[start:end].strip()}{more}"

    def _named(self, name: str) -> Page | None:
        try:
            if name.isdecimal() and len(name) < 4 and 1 <= int(name) <= len(self.found):
                name = self.found[int(name) - 1]
            return self.corpus.page(name.strip("[]"))
        except CorpusError as error:
            raise ToolFailure(str(error)) from error

    @tool(inline=True)
    def find(self, text: str) -> str:
        """Find words in the open page.

        Args:
            text: The words, as they stand there.
        """
        page = self._open_page()
        folded, wanted = fold(page.text), fold(text[:200]).text.strip()
        parts = parts_of(page.text, self.part_chars)
        lines: list[str] = []
        place = folded.text.find(wanted) if wanted else -1
        while place >= 0 and len(lines) < MOST_FOUND:
            start, end = folded.span(place, place + len(wanted))
            around = page.text[max(0, start - CONTEXT) : end + CONTEXT]
            lines.append(f"part {part_at(parts, start)}: ... {' '.join(around.split())} ...")
            place = folded.text.find(wanted, place + len(wanted))
        return "\n".join(lines) or "These words are not on this page."

    @tool(inline=True)
    def quote(self, text: str) -> str:
        """Record a quote from the open page that shows the answer.

        Args:
            text: A sentence, word for word as it stands there; at least four words.
        """
        page = self._open_page()
        if len(self.quotes) >= self.max_quotes:
            raise ToolError(f"there are {self.max_quotes} quotes already, which is the most")
        found = judging.find_quote(self.quotes_verifier, page, text, str(self.task.prompt))
        if isinstance(found, str):
            raise ToolError(found)
        self.quotes.append(found)
        return f"Quote {len(self.quotes)} of at most {self.max_quotes}, from [{page.id}]."

    @tool(inline=True)
    def answer(self, text: str) -> Finish:
        """Answer the question. This ends the task.

        Args:
            text: The answer alone, such as a name or a number.
        """
        return Finish(text)

    def _open_page(self) -> Page:
        if self.page is None:
            raise ToolError("no page is open; open one first")
        return self.page

    # The judgment.

    async def finished(self, answer: str) -> Reply:
        """1 for the right answer with quotes that show it."""
        right: Score | None = None
        if self.verifier is not None:
            right = await self.judge(answer)
            if right.is_error:
                return Reply(terminated=True, score=right)
        score = self._scored(judging.answer_of(answer), right)
        return Reply(reward=score.value, terminated=True, score=score)

    def _scored(self, answer: str, judged: Score | None) -> Score:
        accepted = judging.accepted_answers(self.task.answer, self.task.info)
        right = judging.is_right(answer, accepted) if judged is None else judged.passed
        shown = [
            any(judging.is_supported(target, quote) for target in group for quote in self.quotes)
            for group in self._targets()
        ]
        copied = judging.copied_too_much(self.quotes_verifier, self.quotes) if self.quotes else ""
        parts = {
            "answer": float(right),
            "quotes": float(len(self.quotes)),
            "shown": sum(shown) / len(shown) if shown and not copied else 0.0,
        }
        if not answer:
            return Score(0.0, False, "no_answer", "no answer", parts)
        if not right:
            return Score(0.0, False, "wrong", f"{answer!r:.80} is not the answer", parts)
        if parts["shown"] < 1.0:
            reason = copied or ("the quotes do not show it" if self.quotes else "nothing is quoted")
            return Score(self.answer_credit, False, "wrong", f"right, but {reason}"[:300], parts)
        return Score(1.0, True, "correct", "", parts, answer=answer[:300])

    def _targets(self) -> list[list[Target]]:
        """What must be quoted: of each group of places one."""
        if "support" in self.task.info:
            return [group for group in self._facts() if group]
        info, page = self.task.info, self._page_of_task()
        passages = info.get("evidence")
        if passages:
            passages = [passages] if isinstance(passages, str) else list(passages)
            return [self._passage(str(passage), page) for passage in passages]
        pages = {page.id: page} if page is not None else {q.page.id: q.page for q in self.quotes}
        accepted = judging.accepted_answers(self.task.answer, info)
        places = (judging.places_of(text, each) for each in pages.values() for text in accepted)
        return [[target for some in places for target in some]]

    def _facts(self) -> list[list[Target]]:
        """For each fact of a made-up question the places that state it, if it must be quoted."""
        info = self.task.info
        return [
            [Target(page, start, end) for page, _, _, start, end in places]
            if self.evidence == "all" or number in info["final"]
            else []
            for number, places in enumerate(info["support"])
        ]

    def _page_of_task(self) -> Page | None:
        name = self.task.info.get("page")
        if name in (None, ""):
            return None
        page = self._named_page(str(name))
        if page is None:
            raise DataError(f"task {self.task.id}: the documents have no page {name!r}")
        return page

    def _named_page(self, name: str) -> Page | None:
        try:
            return self.corpus.page(name)
        except CorpusError as error:
            raise ToolFailure(str(error)) from error

    def _passage(self, passage: str, page: Page | None) -> list[Target]:
        if page is None:
            raise DataError(f"task {self.task.id}: it has evidence, but names no page")
        found = judging.places_of(passage, page, whole=False)
        if not found:
            raise DataError(
                f"task {self.task.id}: its evidence {passage!r:.80} is not on page {page.id!r}"
            )
        return found

    # The oracle.

    def demonstrate(self, style: str, rng: np.random.Generator) -> str:
        """Opens the pages on the way to the answer one after another, quotes, and answers.

        Raises:
            DataError: A task of one's own names no page to quote from.
        """
        for page, targets in self._route():
            shown = any(judging.is_supported(t, q) for t in targets for q in self.quotes)
            if shown or (not targets and page in self.visited):
                continue
            if self.page is None or self.page.id != page:
                return self._towards(page)
            place = targets[0]
            part = part_at(parts_of(self.page.text, self.part_chars), place.start)
            if part != self.part:
                return self.call_text("open", page=page, part=part)
            return self.call_text("quote", text=self._sentence(self.page.text, place))
        accepted = judging.accepted_answers(self.task.answer, self.task.info)
        return self.call_text("answer", text=accepted[0])

    def _route(self) -> list[tuple[str, list[Target]]]:
        """Pages to open, each with what to quote there, if anything."""
        if "route" in self.task.info:
            stops = zip(self.task.info["route"], self._facts(), strict=True)
            return [(page, [t for t in group if t.page == page]) for page, group in stops]
        if self._page_of_task() is None:
            raise DataError(f"task {self.task.id}: it names no page to quote from")
        groups = self._targets()
        if not all(groups):
            raise DataError(f"task {self.task.id}: its answer is not on its page")
        return [(group[0].page, group) for group in groups]

    def _towards(self, page: str) -> str:
        if page in self.found:
            return self.call_text("open", page=self.found.index(page) + 1)
        wanted = self._named_page(page)
        title = wanted.title if wanted is not None else page
        if self.searched and self.searched[-1] == title:
            return self.call_text("open", page=page)
        return self.call_text("search", query=title)

    def _sentence(self, text: str, place: Target) -> str:
        """The sentence around a place, at most as long as a quote may be."""
        start = max(text.rfind(mark, 0, place.start) + 2 for mark in (". ", "\n\n", "\n "))
        ends = [end for mark in (". ", ".\n", "\n") if (end := text.find(mark, place.end)) >= 0]
        end = min([*ends, len(text)])
        if end - start > self.max_quote_chars - 10:
            room = max(0, (self.max_quote_chars - 10 - (place.end - place.start)) // 2)
            start = text.find(" ", max(start, place.start - room), place.start) + 1 or place.start
            end = text.rfind(" ", place.end, place.end + room)
            end = place.end if end < 0 else end
        return text[start:end].strip()


def _drawn(seed: int, pages: int, kinds: tuple[str, ...], rng: np.random.Generator) -> Task:
    return drawn(world(seed, pages), kinds, rng)


@lru_cache(maxsize=16)
def _generated_corpus(seed: int, pages: int, cache: str) -> Corpus:
    made = world(seed, pages)
    return cached_corpus(made.digest, lambda: made.pages, cache)
