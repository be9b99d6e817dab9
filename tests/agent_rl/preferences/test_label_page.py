"""The page of ``agent-rl label`` in a real browser; skipped where there is no Chromium.

With AGENT_RL_REQUIRE_BROWSER set, as CI does, it fails there instead.
"""

from __future__ import annotations

import os
import shutil

import pytest

from tests.agent_rl.preferences.labelling import CHROMIUM, Labelling, read_rows, write_rows

HOSTILE = (
    "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"
    "</div><b>bold</b><svg onload='window.hacked = 3'>"
)
PAIRS = [
    {"prompt": f"question {n}", "chosen": f"good {n} {HOSTILE}", "rejected": f"bad {n}\n" * 200}
    for n in range(5)
]


def missing(what):
    """Skip, or fail where a browser is required."""
    if os.environ.get("AGENT_RL_REQUIRE_BROWSER"):
        pytest.fail(f"a browser is required: {what} is not installed")
    pytest.skip(f"a browser: {what} is not installed")


@pytest.fixture(scope="module")
def browser():
    path = next((found for name in CHROMIUM if (found := shutil.which(name))), None)
    if path is None:
        missing("chromium")
    try:
        from playwright import sync_api
    except ModuleNotFoundError:
        missing("playwright")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def page(browser):
    """A page in a profile of its own, with everything that it complained of."""
    context = browser.new_context(viewport={"width": 1100, "height": 800})
    opened = context.new_page()
    opened.set_default_timeout(20_000)
    opened.complaints = []
    opened.on("pageerror", lambda error: opened.complaints.append(str(error)))
    opened.on(
        "console",
        lambda line: opened.complaints.append(line.text) if line.type == "error" else None,
    )
    opened.requested = []
    opened.on("request", lambda request: opened.requested.append(request.url))
    yield opened
    context.close()


@pytest.fixture
def files(tmp_path):
    return write_rows(tmp_path / "pairs.jsonl", PAIRS), tmp_path / "labels.jsonl"


def shows(page, text):
    page.locator("#prompt, #finished", has_text=text).wait_for()


def side_of(page, word):
    """The key for the side on which an answer that begins with a word stands."""
    return "1" if page.locator("#left").inner_text().startswith(word) else "2"


def test_choices_by_key_and_click_survive_reload_and_restart(page, files):
    given, output = files
    with Labelling(given, output, "--annotator", "ann") as server:
        page.goto(server.url)
        shows(page, "question 0")
        page.keyboard.press(side_of(page, "good"))
        shows(page, "question 1")
        assert read_rows(output)[0]["chosen"][0]["content"] == PAIRS[0]["chosen"]
        page.locator("[data-choice=right]").click()
        shows(page, "question 2")
        page.keyboard.press("s")
        shows(page, "question 3")
        page.keyboard.press("t")
        shows(page, "question 4")
        page.reload()
        shows(page, "question 4")  # skipped ones come last
        page.keyboard.press("u")
        shows(page, "question 3")
        page.keyboard.press("ArrowLeft")
        shows(page, "question 4")
        port = server.port
    shows(page, "question 4")
    page.keyboard.press("1")  # the server is gone: nothing is saved, and the page says so
    page.locator("#message").wait_for()
    assert len(read_rows(output)) == 3
    page.complaints.clear()  # the refused connection
    with Labelling(given, output, "--annotator", "ann", port=port):
        page.keyboard.press(side_of(page, "bad"))
        shows(page, "question 2")
        page.keyboard.press("2")
        shows(page, "Everything is labelled.")
    rows = read_rows(output)
    assert [row["prompt"][0]["content"][-1] for row in rows] == ["0", "1", "3", "4", "2"]
    assert [row.get("chosen_position") for row in rows][1:3] == ["right", "left"]
    assert rows[3]["chosen"][0]["content"] == PAIRS[4]["rejected"]
    assert page.complaints == []


def test_hostile_answers_are_text_and_nothing_outside_is_asked_for(page, files):
    given, output = files
    with Labelling(given, output) as server:
        page.goto(server.url)
        shows(page, "question 0")
        side = page.locator("#left" if side_of(page, "good") == "1" else "#right")
        assert HOSTILE in side.inner_text()
        assert side.locator("script, img, b, svg").count() == 0
        assert page.evaluate("window.hacked") is None
        assert all(url.startswith(server.url) for url in page.requested)
        long = page.locator("#right" if side_of(page, "good") == "1" else "#left")
        assert long.evaluate(
            "e => { e.scrollTop = 50; return e.scrollTop === 50 && e.tabIndex === 0 }"
        )
        width = "document.documentElement.scrollWidth <= innerWidth"
        assert page.evaluate(width)
    assert page.complaints == []


def test_keys_do_nothing_in_a_text_field_or_with_a_modifier(page, files):
    given, output = files
    with Labelling(given, output) as server:
        page.goto(server.url)
        shows(page, "question 0")
        page.keyboard.press("Control+1")
        page.locator("#annotator").fill("")
        page.keyboard.type("t2s")
        page.keyboard.press("Enter")
        page.wait_for_url("**/?annotator=t2s")
        shows(page, "question 0")
        assert read_rows(output) == []
        page.keyboard.press("t")
        shows(page, "question 1")
    assert [(row["annotator"], row["tie"]) for row in read_rows(output)] == [("t2s", True)]


def test_a_token_is_asked_for_and_kept_for_the_tab(page, files):
    given, output = files
    with Labelling(given, output, token="open sesame".replace(" ", "-")) as server:
        page.goto(server.url)
        page.locator("#token").fill("open-sesame")
        page.keyboard.press("Enter")
        shows(page, "question 0")
        page.reload()
        shows(page, "question 0")
