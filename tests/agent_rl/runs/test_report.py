import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from agent_rl.runs import RunError, RunFolder, build_report
from agent_rl.runs.report import safe_json, stage_folders

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    "<!--<script>",
    "<img src=x onerror=alert(3)>",
    "{{ 7 * 7 }}{% raw %}",
    '"><iframe src="https://evil.example">',
    "\u202e\x00\x1b[31m\ud800\u2028",
    "&lt;b&gt;",
)


class Page(HTMLParser):
    """Which elements and attributes a page has, and the text of each script."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.scripts, self._in_script = [], [], [], False
        self.headings, self._in_heading = [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        self._in_script, self._in_heading = tag == "script", tag in ("h1", "h2")
        if self._in_script:
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._in_script = self._in_heading = False

    def handle_data(self, data):
        if self._in_script:
            self.scripts[-1] += data
        if self._in_heading:
            self.headings.append(data.strip())


def a_run(path, text="x", *, finished=True, steps=3):
    config = {"name": text, "stage": "rl", "steps": 3, "envs": [{"id": text}], "run": {"seed": 5}}
    folder = RunFolder.create(path, config)
    folder.log(
        0, {"eval/greedy": 0.1, "eval/greedy_low": 0.05, "eval/greedy_high": 0.2}, stage="eval"
    )
    for step in range(1, steps + 1):
        folder.log(step, {"reward/mean": step / 4, "tokens/sampled": 100, text: 1.0}, stage="rl")
    folder.log(
        steps, {"eval/greedy": 0.5, "eval/greedy_low": 0.4, "eval/greedy_high": 0.6}, stage="eval"
    )
    row = dict.fromkeys(("env", "task_id", "prompt", "completion", "status", "reason"), text)
    messages = [{"role": text, "content": text}]
    tokens = [{"text": text, "mask": 1, "logprob": -1.0, "advantage": 0.5}]
    folder.save_rollouts(
        steps, [{**row, "group": 0, "messages": messages, "tokens": tokens, "parts": {text: 1.0}}]
    )
    if finished:
        folder.write_summary({"finished": True, "seed": 5, "train_seconds": 65.0})
    return folder


def page_of(path):
    return build_report(path).read_text(encoding="utf-8")


def test_a_hostile_run_adds_no_element_and_no_attribute(tmp_path):
    harmless = Page(page_of(a_run(tmp_path / "a", "x").path))
    for n, text in enumerate(HOSTILE):
        page = Page(page_of(a_run(tmp_path / str(n), text).path))
        assert page.tags == harmless.tags
        assert [a[:2] for a in page.attributes] == [a[:2] for a in harmless.attributes]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_arrives_in_the_data_as_it_was(tmp_path, text):
    page = Page(page_of(a_run(tmp_path / "run", text).path))
    [stage] = json.loads(page.scripts[0])["stages"]
    assert stage["rollouts"]["prompts"] == [text]
    assert stage["rollouts"]["steps"][0]["rows"][0]["completion"] == text


def test_the_page_loads_nothing(tmp_path):
    page = Page(page_of(a_run(tmp_path / "run").path))
    assert not {"link", "img", "iframe", "object", "embed", "base"} & set(page.tags)
    assert not [a for a in page.attributes if a[1] in ("src", "onclick", "onload")]
    assert {a[2][0] for a in page.attributes if a[1] == "href"} <= {"#"}
    assert "url(" not in page_of(tmp_path / "run")


def test_only_the_page_s_own_script_may_run(tmp_path):
    page = Page(page_of(a_run(tmp_path / "run").path))
    policy = next(a[2] for a in page.attributes if "default-src" in str(a[2]))
    data, script = page.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none';")
    json.loads(data)


def test_the_script_never_makes_markup_of_text(tmp_path):
    script = Page(page_of(a_run(tmp_path / "run").path)).scripts[1]
    sinks = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function"
    assert re.findall(sinks, script) == []


def test_the_page_says_what_changed(tmp_path):
    text = page_of(a_run(tmp_path / "run").path)
    assert "<td>10.0 % (5.0 to 20.0)</td><td>50.0 % (40.0 to 60.0)</td>" in text
    assert "<td>0.250</td><td>0.750</td>" in text
    assert "<dd>1 min 05 s</dd>" in text
    assert "<dd>300</dd>" in text


def test_an_unfinished_run_has_a_report(tmp_path):
    folder = a_run(tmp_path / "run", finished=False, steps=2)
    text = page_of(folder.path)
    assert "unfinished: step 2 of 3" in text
    assert "<dt>seed</dt><dd>5</dd>" in text


def test_a_run_that_has_not_begun_has_a_report(tmp_path):
    assert "not started" in page_of(RunFolder.create(tmp_path / "run", {"stage": "sft"}).path)


def test_a_recipe_is_one_page_with_its_stages_in_order(tmp_path):
    whole = RunFolder.create(tmp_path / "recipe", {"name": "sums", "stages": {}})
    for name in ("10-rl", "9-habit", "1-skill"):
        a_run(whole.path / name)
    page = Page(page_of(whole.path))
    assert [h for h in page.headings if h and h != "finished"] == [
        "sums",
        "skill (rl)",
        "habit (rl)",
        "rl",
    ]
    keys = [stage["key"] for stage in json.loads(page.scripts[0])["stages"]]
    assert keys == ["1-skill", "9-habit", "10-rl"]


def test_a_single_run_is_its_own_stage(tmp_path):
    folder = a_run(tmp_path / "run")
    assert [f.path for f in stage_folders(folder.path)] == [folder.path]


def test_a_damaged_file_is_named_in_the_page_and_costs_nothing_else(tmp_path):
    folder = a_run(tmp_path / "run")
    with (folder.path / "metrics.jsonl").open("a") as file:
        file.write("{broken\n")
    (folder.path / "summary.json").write_text("[]")
    page = page_of(folder.path)
    assert "metrics.jsonl, line 6 is damaged" in page
    assert "summary.json holds no JSON object" in page
    assert json.loads(Page(page).scripts[0])["stages"][0]["rollouts"]["prompts"] == ["x"]


def test_values_that_were_no_number_are_named(tmp_path):
    folder = a_run(tmp_path / "run")
    folder.log(3, {"loss/total": float("nan")}, stage="rl")
    assert "loss/total was not a finite number at 1 step" in page_of(folder.path)


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="is no run folder"):
        build_report(tmp_path)


def test_safe_json_has_no_character_that_html_reads():
    text = safe_json({"a": "</script><!--&\u2028é\ud800"})
    assert not set("<>&") & set(text)
    assert text.isascii()
    assert json.loads(text) == {"a": "</script><!--&\u2028é\ud800"}
