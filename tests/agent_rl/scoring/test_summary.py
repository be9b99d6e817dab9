"""The summary on the terminal, as JSON and as a page: what it says, and hostile text in it."""

import io
import json
import math

import pytest
from rich.console import Console

from agent_rl.runs.files import RunError, to_json
from agent_rl.scoring import groups, report, summary
from agent_rl.scoring.tally import Tally
from agent_rl.scoring.types import Record, Reject, Sample, Scored
from agent_rl.scoring.votes import Votes
from rl_verifiers import Score
from tests.agent_rl.runs.test_report import HOSTILE, Page


def job(tmp_path, text="x"):
    """Two rows of two completions, one of them an error; ``text`` wherever text can be."""
    tally, votes = Tally(text), Votes(text)
    scores = [
        [Score.correct(text, answer="4"), Score.wrong(text, value=0.5, answer=text)],
        [Score(0.0, False, "no_answer", text, {text: 0.25}), Score.failed(text)],
    ]
    for line, of_row in enumerate(scores, start=1):
        samples = [Sample(text, {"prompt": [{"role": text, "content": text}], "answer": text})] * 2
        scored = Scored(Record(line, {}), of_row, True, (0.25, 2.0 * line))
        tally.add(scored, samples)
        votes.add(scored, samples)
    tally.reject(Reject(text, 9, text, text))
    votes.save(tmp_path / "0.votes")
    return tally, groups.evaluate([tmp_path / "0.votes"])


def printed(tally, found, **options):
    file = io.StringIO()
    summary.render(tally, found, Console(file=file, width=120, **options))
    return file.getvalue()


def test_json_has_the_figures(tmp_path):
    found = json.loads(to_json(summary.as_json(*job(tmp_path))))
    assert (found["rows"], found["samples"], found["judged"], found["errors"]) == (2, 4, 3, 1)
    assert found["pass_rate"] == pytest.approx(1 / 3)
    assert found["reward"]["mean"] == 0.5
    assert found["reward"]["standard_error"] == pytest.approx(0.5 / math.sqrt(3))
    assert found["reward"]["histogram"] == [
        {"from": value, "to": value, "count": 1} for value in (0.0, 0.5, 1.0)
    ]
    assert found["statuses"] == {"correct": 1, "wrong": 1, "no_answer": 1, "error": 1}
    assert found["first_errors"] == [{"name": "x", "line": 2, "index": 1, "error": "x"}]
    assert found["groups"]["size"] == 2
    assert found["groups"]["pass_at"][1]["value"] == 1.0
    assert found["slowest"][0] == {"seconds": 4.0, "name": "x", "line": 2, "index": 1}


def test_terminal_shows_the_figures(tmp_path):
    text = " ".join(printed(*job(tmp_path)).split())
    assert "passed 1 of 3 (33.33 %)" in text
    assert "0.5000 ± 0.2887" in text
    assert "not judged (errors) 1 of 4 (25.00 %)" in text
    assert "pass@2, 1 group 100.00 %" in text
    assert "maj@1, 2 groups 25.00 %" in text
    assert "x, row 2, completion 2 x" in text
    assert "4.000 x, row 2, completion 2" in text


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_plain_characters_on_a_terminal(tmp_path, text):
    shown = printed(*job(tmp_path, text), no_color=True)
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    shown.encode()


def test_an_empty_job_has_a_summary_and_a_page():
    assert "rows 0" in " ".join(printed(Tally(), None).split())
    found = json.loads(to_json(summary.as_json(Tally())))
    assert found["pass_rate"] is None
    assert found["groups"] is None
    assert "Summary" in report.render(Tally(), groups.Groups(), title="none", facts={})


def page_of(tmp_path, text):
    facts = {"verifier": text, "command": text}
    path = report.build_report(tmp_path / "r.html", *job(tmp_path, text), title=text, facts=facts)
    return path.read_text(encoding="utf-8")


def test_a_hostile_job_adds_no_element_and_no_attribute(tmp_path):
    harmless = Page(page_of(tmp_path, "x"))
    for text in HOSTILE:
        page = Page(page_of(tmp_path, text))
        assert page.tags == harmless.tags
        assert page.attributes == harmless.attributes
    assert "script" not in harmless.tags


def test_the_page_loads_nothing_and_shows_rows_of_each_status(tmp_path):
    text = page_of(tmp_path, "x")
    page = Page(text)
    assert "default-src 'none'" in text
    assert not {name for _, name, _ in page.attributes} & {"src", "href", "srcset"}
    assert page.tags.count("article") == 4
    assert page.tags.count("polyline") == 2


def test_curves_are_drawn_to_scale():
    points = [groups.Point(k, value, value, 1.0, 9) for k, value in ((1, 0.0), (2, 0.5), (4, 1.0))]
    (curve,) = report.drawing([("pass", points), ("maj", [])])
    assert curve["line"] == "34.0,166.0 210.0,100.0 386.0,34.0"


def test_a_page_that_cannot_be_written_says_so(tmp_path):
    with pytest.raises(RunError, match="cannot write"):
        report.build_report(tmp_path / "no" / "r.html", Tally(), None, title="", facts={})
