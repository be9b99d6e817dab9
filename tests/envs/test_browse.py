"""The library: its index, its made-up world, and what counts as evidence."""

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rl_envs
from rl_envs import DataError, Task
from rl_envs.text import browse_corpus, browse_world
from rl_envs.text.browse_corpus import Corpus, Page, cached_corpus, parts_of
from rl_envs.text.browse_judge import Quote, Target, is_right, is_supported
from rl_envs.text.browse_questions import HOPS, drawn
from rl_envs.text.browse_world import RELATIONS_OF, world
from rl_envs.tools import ToolFailure
from rl_verifiers.quotes_text import Span, word_count

PAGES = 150
HOSTILE_QUERIES = [
    "",
    '"',
    "Velm AND",
    "NEAR(a b, 5",
    "title: x OR * ^ - {",
    "a\0b",
    "\ud800",
    "'; DROP TABLE page; --",
    "x" * 1_000_000,
    "the of and " * 100_000,
    '" OR ' * 10_000,
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("browse"))


@pytest.fixture
def env(cache):
    return rl_envs.make("text/Browse-v0", pages=PAGES, cache=cache)


def act(env, name, **arguments):
    """The text that a call is answered with, and the reward."""
    seen, reward, *_ = env.step(env.call_text(name, **arguments))
    return (seen[0]["content"] if seen else ""), reward


def played(env, index):
    env.reset(seed=0, options={"index": index})
    while not env.done:
        reward, info = env.step(env.expert(np.random.default_rng(0)))[1::3]
    return reward, info


# The index.


def test_a_title_is_found_before_pages_that_name_it(env):
    for page in world(*env._world("train")).pages[:40]:
        hits = env.corpus.search(page.title, 8)
        assert page.id in [hit.id for hit in hits]


@pytest.mark.parametrize("query", HOSTILE_QUERIES, ids=range(len(HOSTILE_QUERIES)))
def test_any_text_is_a_query(env, query):
    assert all(isinstance(hit.title, str) for hit in env.corpus.search(query, 8))


@given(query=st.text())
@settings(max_examples=50, deadline=None)
def test_random_text_is_a_query(cache, query):
    made = rl_envs.make("text/Browse-v0", pages=PAGES, cache=cache)
    assert len(made.corpus.search(query, 3)) <= 3


def test_a_search_is_bounded_by_its_work(env, monkeypatch):
    env.reset(options={"index": 0})
    monkeypatch.setattr(browse_corpus, "MAX_STEPS", 100)
    monkeypatch.setattr(browse_corpus, "PERIOD", 10)
    text, _ = act(env, "search", query="swallows return in the second week of April")
    assert text == "Error: the words are too common; use rarer ones"


def test_an_index_that_cannot_be_read_is_no_fault_of_the_policy(env, tmp_path):
    env.reset(options={"index": 0})
    broken = tmp_path / "broken.sqlite"
    broken.write_bytes(b"no database")
    env._corpus = Corpus(str(broken))
    with pytest.raises(ToolFailure, match="cannot be searched"):
        env.step(env.call_text("search", query="x"))


def test_two_builders_at_once_leave_one_whole_index(tmp_path):
    def slow_pages():  # while this one builds, another one builds the same and is done first
        browse_corpus._build([Page("a", "A", "first words")], tmp_path / "browse/d-1.sqlite")
        yield Page("a", "A", "first words")

    corpus = cached_corpus("d", slow_pages, str(tmp_path))
    assert corpus.page("A").text == "first words"
    assert [path.name for path in (tmp_path / "browse").iterdir()] == ["d-1.sqlite"]


def test_a_builder_that_dies_leaves_nothing(tmp_path):
    def dying():
        yield Page("a", "A", "words")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_corpus("d", dying, str(tmp_path))
    assert list((tmp_path / "browse").iterdir()) == []


def test_a_file_that_was_cut_is_built_again(tmp_path):
    pages = [Page("a", "A", "words " * 5_000)]
    path = tmp_path / "browse/d-1.sqlite"
    cached_corpus("d", lambda: pages, str(tmp_path))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    cached_corpus("d", lambda: pages, str(tmp_path))
    assert path.stat().st_size == len(whole)


@given(text=st.text(alphabet="ab. \n", max_size=300), size=st.integers(4, 50))
@settings(deadline=None)
def test_the_parts_of_a_page_are_the_page(text, size):
    parts = parts_of(text, size)
    assert "".join(text[start:end] for start, end in parts) == text
    assert all(end - start <= size for start, end in parts)


# The world.


def test_a_seed_makes_one_world():
    again = browse_world.world.__wrapped__(3, PAGES)
    assert again.digest == world(3, PAGES).digest != world(4, PAGES).digest


def test_facts_stand_where_they_are_said_to():
    made = world(0, PAGES)
    texts = {page.id: page.text for page in made.pages}
    for (subject, relation), places in made.evidence.items():
        for page, start, end, value_start, value_end in places:
            assert texts[page][value_start:value_end] == made.things[subject].facts[relation]
            assert start <= value_start < value_end <= end
            assert word_count(texts[page][start:end]) >= 4  # or it could not be quoted
    for thing in made.list:  # and each on the page that is about its subject
        assert all(
            any(place.page == thing.page for place in made.evidence[thing.name, relation])
            for relation in thing.facts
        )


def test_no_page_is_so_short_that_all_of_it_may_be_quoted():
    assert min(len(page.text) for page in world(0, PAGES).pages) > 1_000


def test_the_facts_agree():
    made = world(0, PAGES)
    born = {thing.name: int(thing.facts["born"]) for thing in made.list if thing.kind == "person"}
    for thing in made.list:
        if thing.kind == "company":
            assert int(thing.facts["founded"]) >= born[thing.facts["founder"]] + 20
        if "teacher" in thing.facts:
            assert born[thing.facts["teacher"]] <= born[thing.name] - 15


def answer_by_facts(made, task):
    """The answer, worked out from the facts alone."""
    if task.info["kind"] != "comparison":
        page, _, _, start, end = task.info["support"][-1][0]
        text = next(each.text for each in made.pages if each.id == page)
        return text[start:end]
    texts = {each.id: each.text for each in made.pages}
    things = {thing.page: thing for thing in made.list}
    values = {}
    for n in task.info["final"]:
        page, _, _, start, end = task.info["support"][n][0]
        values[things[page].name] = int(texts[page][start:end].replace(",", ""))
    larger = re.search(r"\b(more|longer|later)\b", task.prompt) is not None
    return (max if larger else min)(values, key=values.get)


@pytest.mark.parametrize("kind", HOPS)
def test_a_question_has_its_answer_and_does_not_tell_it(kind):
    made = world(0, PAGES)
    for n in range(60):
        task = drawn(made, [kind], np.random.default_rng(n))
        assert task.answer == answer_by_facts(made, task)
        assert task.answer.casefold() not in task.prompt.casefold()
        assert len(task.info["route"]) == (4 if kind == "comparison" else HOPS[kind])


def test_every_relation_that_is_compared_can_be_reached():
    linked = {r.value for each in RELATIONS_OF.values() for r in each if r.phrase}
    assert all(r.kind in linked for each in RELATIONS_OF.values() for r in each if r.compared)


def test_the_splits_are_about_different_worlds(env, cache):
    test = rl_envs.make("text/Browse-v0", pages=PAGES, cache=cache, split="test")
    assert test.corpus != env.corpus
    assert not {env.tasks[n].prompt for n in range(200)} & {test.tasks[n].prompt for n in range(50)}


# Play.


@pytest.mark.parametrize("evidence", ["answer", "all"])
@pytest.mark.parametrize("difficulty", [1, 2, 3, 4])
def test_the_oracle_is_right(cache, evidence, difficulty):
    env = rl_envs.make(
        "text/Browse-v0", pages=PAGES, cache=cache, difficulty=difficulty, evidence=evidence
    )
    for index in range(10):
        reward, info = played(env, index)
        assert (reward, info["tools"]["errors"]) == (1.0, 0)


def knows_nothing(env, rng, answers):
    """Searches the question, opens a page, quotes sentences from it, says a frequent answer."""
    env.step(env.call_text("search", query=env.task.prompt))
    env.step(env.call_text("open", page=int(rng.integers(1, 4))))
    sentences = re.split(r"(?<=\.)\s", env.page.text)
    for place in rng.permutation(len(sentences))[:4]:
        env.step(env.call_text("quote", text=sentences[place]))
    return env.step(env.call_text("answer", text=answers[int(rng.integers(len(answers)))]))[1]


def test_searching_without_reading_earns_nothing(env):
    answers = [env.tasks[n].answer for n in range(30)]
    rng = np.random.default_rng(0)
    total = 0.0
    for index in range(40):
        env.reset(options={"index": index})
        total += knows_nothing(env, rng, answers)
    assert total < 0.2 * 40


def lookup(env):
    """A lookup question with the page that answers it open: the page, the fact's place."""
    index = next(n for n in range(200) if env.tasks[n].info["kind"] == "lookup")
    env.reset(options={"index": index})
    page, start, end, *value = env.task.info["support"][0][0]
    act(env, "open", page=page)
    return env.page, (start, end), value


def test_the_right_answer_needs_a_quote_of_the_fact(env):
    page, (start, end), _ = lookup(env)
    act(env, "quote", text=page.text[start:end])
    assert act(env, "answer", text=env.task.answer)[1] == 1.0
    lookup(env)
    assert act(env, "answer", text=env.task.answer)[1] == 0.0
    lookup(env)
    act(env, "quote", text=page.text[start:end])
    assert act(env, "answer", text="Atlantis")[1] == 0.0


def test_a_quote_of_something_else_shows_nothing(env):
    page, (start, end), _ = lookup(env)
    others = [s for s in re.split(r"(?<=\.)\s+", page.text) if s not in page.text[start:end]]
    for sentence in others[:4]:
        assert act(env, "quote", text=sentence)[0].startswith("Quote ")
    _, reward, _, _, info = env.step(env.call_text("answer", text=env.task.answer))
    assert (reward, info["score"].parts["answer"]) == (0.0, 1.0)
    assert info["score"].reason == "right, but the quotes do not show it"


def test_a_quote_must_contain_the_answer_of_the_fact(env):
    page, (start, _), (value_start, value_end) = lookup(env)
    before = page.text[start:value_start].strip()
    if word_count(before) >= 4:
        act(env, "quote", text=before)
    act(env, "quote", text=page.text[value_start - 30 : value_end - 1])  # cut within the value
    assert act(env, "answer", text=env.task.answer)[1] == 0.0


@pytest.mark.parametrize(
    ("page", "span", "whole", "shown"),
    [
        ("a", (10, 20), True, True),
        ("b", (10, 20), True, False),
        ("a", (11, 20), True, False),
        ("a", (0, 19), True, False),
        ("a", (15, 30), False, True),
        ("a", (16, 30), False, False),
    ],
)
def test_what_a_quote_covers(page, span, whole, shown):
    quote = Quote(Page(page, "", ""), "", Span(*span))
    assert is_supported(Target("a", 10, 20, whole), quote) is shown


@pytest.mark.parametrize(
    ("evidence", "facts", "reward"),
    [("answer", [1], 1.0), ("answer", [0], 0.0), ("all", [1], 0.0), ("all", [0, 1], 1.0)],
)
def test_which_facts_of_a_chain_must_be_quoted(cache, evidence, facts, reward):
    env = rl_envs.make(
        "text/Browse-v0", pages=PAGES, cache=cache, kinds=["chain"], evidence=evidence
    )
    env.reset(options={"index": 0})
    for fact in facts:
        page, start, end, *_ = env.task.info["support"][fact][0]
        act(env, "open", page=page)
        act(env, "quote", text=env.page.text[start:end])
    assert act(env, "answer", text=env.task.answer)[1] == reward


def test_a_page_cannot_be_quoted_whole(env, cache):
    page, *_ = lookup(env)
    assert "characters long" in act(env, "quote", text=page.text)[0]
    env = rl_envs.make(
        "text/Browse-v0", pages=PAGES, cache=cache, max_quotes=20, max_quote_chars=1_000
    )
    page, *_ = lookup(env)
    for start, end in parts_of(page.text, 900):
        assert act(env, "quote", text=page.text[start:end])[0].startswith("Quote ")
    _, reward, _, _, info = env.step(env.call_text("answer", text=env.task.answer))
    assert reward == 0.0
    assert re.match(r"right, but quotes \d+% of source", info["score"].reason)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("was founded", "too few for evidence"),
        ("Nobody ever wrote these words here", "does not stand on this page"),
        ("Swallows return <quote> in the second week", "cannot hold tags"),
        ("", "too few"),
        ("x" * 100_000, "characters long"),
        ("\0 a b c d", "does not stand"),
    ],
)
def test_what_is_no_quote(env, text, error):
    lookup(env)
    assert error in env.step(env.call_text("quote", text=text))[0][0]["content"]
    assert env.quotes == []


def test_calls_out_of_place_are_answered(env):
    env.reset(options={"index": 0})
    assert act(env, "quote", text="a b c d")[0] == "Error: no page is open; open one first"
    assert act(env, "open", page=3)[0] == "Error: there is no page '3'"
    assert act(env, "open", page="p0001", part=99)[0].startswith("Error: the page has ")
    assert act(env, "find", text="zzz")[0] == "Error: no page is open; open one first"


def test_find_says_in_which_part(env):
    page, (start, end), _ = lookup(env)
    text, _ = act(env, "find", text=page.text[start:end].upper())
    part = int(re.match(r"part (\d+): ", text)[1])
    shown, _ = act(env, "open", page=page.id, part=part)
    assert page.text[start : start + 20] in shown


def test_a_right_answer_alone_may_earn_something(cache):
    env = rl_envs.make("text/Browse-v0", pages=PAGES, cache=cache, answer_credit=0.25)
    env.reset(options={"index": 0})
    _, reward, _, _, info = env.step(env.call_text("answer", text=env.task.answer))
    assert (reward, info["score"].passed) == (0.25, False)


@pytest.mark.parametrize(
    ("answer", "accepted", "right"),
    [
        ("48310", "48,310", True),
        ("The Velm.", "velm", True),
        ("velm, brask", "velm", False),
        ("1876", "1,876", True),
        ("18,76", "1876", False),
        ("", "", False),
        ("a" * 400, "a" * 400, False),
    ],
)
def test_what_is_the_same_answer(answer, accepted, right):
    assert is_right(answer, [accepted]) is right


# Documents of one's own.


@pytest.fixture
def folder(tmp_path):
    docs = tmp_path / "docs"
    (docs / "deep").mkdir(parents=True)
    (docs / "fox.md").write_text(
        "# The Fox\n\nThe red fox lives in dens. Its cubs see by day 14.\n"
    )
    (docs / "deep" / "bear.txt").write_text("The bear sleeps. On day 14 of the hunt it woke up.")
    row = {"id": "owl", "title": "Owls", "text": "Owls hunt by night. They hear very well."}
    (docs / "more.jsonl").write_text(json.dumps(row) + "\n\n")
    (docs / "image.png").write_bytes(b"\x89PNG")
    return docs


def with_task(folder, **row):
    rows = [{"question": "When do the cubs of a fox see?", "answer": ["day 14", "14"], **row}]
    cache = str(folder.parent / "cache")
    return rl_envs.make("text/Browse-v0", documents=folder, tasks=rows, cache=cache)


def answered(env, page, quote, answer="14"):
    env.reset(options={"index": 0})
    env.step(env.call_text("open", page=page))
    env.step(env.call_text("quote", text=quote))
    return env.step(env.call_text("answer", text=answer))[1]


def test_a_folder_of_documents_is_a_library(folder):
    env = with_task(folder, page="The Fox")
    assert env.corpus.size == 3
    assert played(env, 0)[0] == 1.0
    assert env.corpus.search("hears owl night", 3)[0].id == "owl"
    assert answered(env, "The Fox", "Its cubs see by day 14") == 1.0
    assert answered(env, "deep/bear.txt", "On day 14 of the hunt") == 0.0  # another page
    assert answered(with_task(folder), "deep/bear.txt", "On day 14 of the hunt") == 1.0


def test_evidence_that_is_given_must_be_quoted(folder):
    env = with_task(folder, page="fox.md", evidence="The red fox lives in dens.", answer="dens")
    assert answered(env, "fox.md", "red fox lives in dens", "dens") == 1.0
    assert answered(env, "fox.md", "Its cubs see by day 14", "dens") == 0.0


def test_the_question_is_no_evidence(folder):
    (folder / "faq.txt").write_text("When do the cubs of a fox see? On day 14 they see.")
    env = with_task(folder)
    env.reset(options={"index": 0})
    act(env, "open", page="faq.txt")
    assert "that is the question" in act(env, "quote", text="do the cubs of a fox see")[0]


def test_a_changed_document_is_indexed_anew(folder):
    before = with_task(folder).corpus
    (folder / "new.txt").write_text("A new page.")
    after = with_task(folder).corpus
    assert (before.size, after.size) == (3, 4)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("x.txt", b"\xff\xfe", "x.txt: it cannot be read as UTF-8"),
        (
            "x.jsonl",
            b'{"text": "a"}\n{"title": 1}',
            'x.jsonl, line 2: a page is an object with "text"',
        ),
        ("x.jsonl", b"[" * 100_000, "x.jsonl, line 1: no JSON"),
        ("x.jsonl", b'{"id": "owl", "text": "a"}', "the id 'owl' is that of a page in"),
        ("x.jsonl", b'{"text": "\\ud800"}', "lone surrogate"),
    ],
)
def test_bad_documents_are_told(folder, name, data, message):
    (folder / name).write_bytes(data)
    with pytest.raises(DataError, match=re.escape(message)):
        _ = with_task(folder).corpus


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"page": "wolf"}, "the documents have no page 'wolf'"),
        ({"evidence": "x"}, "it has evidence, but names no page"),
        ({"page": "fox.md", "evidence": "no such words"}, "is not on page"),
        ({"answer": ""}, "it has no answer"),
    ],
)
def test_bad_tasks_are_told(folder, row, message):
    with pytest.raises(DataError, match=re.escape(message)):
        with_task(folder, **row).reset(options={"index": 0})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"documents": "."}, "give `tasks`"),
        ({"documents": "/nowhere", "tasks": [{"question": "a", "answer": "b"}]}, "no folder"),
        ({"kinds": ["riddle"]}, "kinds is"),
        ({"pages": 20}, "pages is 20; it must be 100 to 20000"),
        ({"part_chars": 4_000}, "part_chars is 4000; it must be 200 to 3600"),
        ({"evidence": "some"}, "must be 'answer' or 'all'"),
        ({"evidence": "all", "max_quotes": 3}, "some answers need 4 quotes"),
        ({"answer_credit": 1.0}, "answer_credit is 1.0"),
        ({"difficulty": 9}, "must be 1 to 4"),
        ({"difficulty": [1]}, "must be 1 to 4"),
        ({"kinds": "lookup"}, "kinds is 'lookup'; it must be a list of names"),
        ({"pages": "many"}, "pages is 'many'; it must be 100 to 20000"),
        ({"answer_credit": "x"}, "answer_credit is 'x'"),
        ({"seed": -1}, "seed is -1; it must be 0 to"),
    ],
)
def test_bad_options_are_told(options, message):
    with pytest.raises(DataError, match=message):
        _ = rl_envs.make("text/Browse-v0", **options).corpus


def test_a_page_without_the_answer_cannot_be_demonstrated(env):
    task = Task("t", "What?", "anything", {"page": world(*env._world("train")).pages[0].id})
    env.reset(options={"task": task})
    with pytest.raises(DataError, match="its answer is not on its page"):
        env.expert(np.random.default_rng(0))
