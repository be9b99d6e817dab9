from pathlib import Path

import pytest

from agent_rl.runs.metrics import documented_metrics, undocumented

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"
SAMPLE = """
# Metrics

| name | what |
|---|---|
| `reward/mean` | the mean |
| `reward/part/<name>` | a part; not `reward/other` |

`loss/text` is only mentioned.
"""


def test_the_names_are_those_that_begin_a_row(tmp_path):
    (tmp_path / "page.md").write_text(SAMPLE)
    assert documented_metrics(tmp_path / "page.md") == ["reward/mean", "reward/part/<name>"]


def test_a_placeholder_stands_for_one_part_of_a_name():
    names = ["step", "stage", "non_finite", "reward/part/a.b", "reward/part/a/b", "reward/meanx"]
    assert undocumented(names, ["reward/mean", "reward/part/<name>"]) == [
        "reward/meanx",
        "reward/part/a/b",
    ]


def test_without_documentation_nothing_is_documented():
    assert undocumented(["a/b"], []) == ["a/b"]


def test_every_row_of_the_page_is_complete():
    rows = [
        line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")
    ]
    cells = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]
    assert [row[0] for row in cells if len(row) != 5 or not all(row)] == []


def test_no_metric_is_documented_twice():
    names = documented_metrics(PAGE)
    assert len(names) == len(set(names)) > 40


@pytest.mark.parametrize("metric", ["reward/mean", "kl/reference", "eval/greedy", "loss/train"])
def test_the_page_has_the_metrics_people_ask_for(metric):
    assert metric in documented_metrics(PAGE)


def test_every_metric_of_a_chart_is_documented():
    from agent_rl.runs.charts import CHARTS

    names = [name for chart in CHARTS for name, _ in chart.series]
    names = [name + "answer" if name.endswith("/") else name for name in names]
    bands = [name for chart in CHARTS for name in chart.band or ()]
    assert undocumented([*names, *bands], documented_metrics(PAGE)) == []
