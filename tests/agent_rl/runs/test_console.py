import io

import pytest

from agent_rl.runs import Console


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


STEP = {
    "reward/mean": 0.41249,
    "kl/reference": 0.01234,
    "length/mean": 33.0,
    "policy/entropy": 1.2,
    "speed/tokens_per_s": 12345.6,
}
HELD_OUT = {
    "eval/greedy": 0.41,
    "eval/greedy_low": 0.345,
    "eval/greedy_high": 0.478,
    "eval/sampled": 0.39,
    "eval/length": 31.0,
}


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def printed(show, steps, *, file=None, total=None):
    """What a console prints of some steps, at 2 seconds each."""
    clock = Clock()
    file = file or io.StringIO()
    console = Console("sums", file=file, clock=clock)
    console.start(total or steps)
    for step in range(1, steps + 1):
        clock.now += 2.0
        show(console, step)
    console.stop()
    return file.getvalue()


def test_a_step_is_one_plain_line():
    text = printed(lambda console, step: console.step(step, STEP), 1, total=4)
    assert text == (
        "step 1/4  reward 0.412  KL 0.0123  length 33.0  entropy 1.200  tokens/s 12,346  "
        "left 6.0 s\n"
    )


def test_a_supervised_step_shows_its_loss():
    text = printed(lambda console, step: console.step(step, {"loss/train": 1.5}), 1)
    assert text == "step 1/1  loss 1.5000  left 0.0 s\n"


def test_a_value_that_is_no_number_is_shown():
    text = printed(lambda console, step: console.step(step, {"loss/train": float("nan")}), 1)
    assert "loss nan" in text


def test_a_long_run_prints_few_lines_and_its_last_step():
    lines = printed(lambda console, step: console.step(step, STEP), 1010).splitlines()
    assert 20 <= len(lines) <= 30
    assert lines[0].startswith("step 1/1010")
    assert lines[-1].startswith("step 1010/1010")


def test_a_resumed_run_estimates_from_its_own_steps():
    clock, file = Clock(), io.StringIO()
    console = Console(file=file, clock=clock)
    console.start(20, done=10)
    clock.now = 3.0
    console.step(11, {"reward/mean": 0.5})
    assert file.getvalue() == "going on after step 10\nstep 11/20  reward 0.500  left 27.0 s\n"


def test_held_out_accuracy_comes_with_its_interval():
    text = printed(lambda console, step: console.evaluation(0, HELD_OUT), 1)
    assert text == (
        "held-out: greedy 41.0 % (34.5 to 47.8 %), sampled 39.0 %, length 31.0 at step 0\n"
    )


def test_without_a_terminal_there_is_no_escape_sequence():
    def show(console, step):
        console.stage("rl", "rl", "runs/x")
        console.step(step, STEP)
        console.completions([{"completion": "a"}], [{"completion": "b"}])
        console.finish({"accuracy_before": 0.1, "accuracy_after": 0.5}, "report.html")

    assert "\x1b" not in printed(show, 1)


def test_a_terminal_gets_a_panel_that_leaves_one_line():
    file = Terminal()
    text = printed(lambda console, step: console.step(step, STEP), 3, file=file)
    assert "\x1b[?25l" in text  # the panel hides the cursor ...
    assert "\x1b[?25h" in text  # ... and gives it back
    assert "spent" in text
    last = text.rpartition("\x1b[2K")[2]
    assert last.startswith("step 3/3  reward 0.412")


def test_no_color_is_respected(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    file = Terminal()
    printed(lambda console, step: console.step(step, STEP), 1, file=file)
    assert "\x1b[3" not in file.getvalue().replace("\x1b[3A", "")


def test_leaving_the_console_by_an_error_gives_the_cursor_back():
    file = Terminal()

    def fail():
        with Console(file=file) as console:
            console.start(3)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert file.getvalue().rstrip().endswith("\x1b[?25h\r\x1b[1A\x1b[2K\x1b[1A\x1b[2K")


HOSTILE = "[red]x[/red] \x1b[2J\x1b]0;title\x07 </script> :smile: \u202e"


@pytest.mark.parametrize("file", [io.StringIO(), Terminal()])
def test_hostile_completions_are_printed_as_characters(file):
    row = {"prompt": HOSTILE, "completion": HOSTILE, "reward": 1.0, "status": HOSTILE}
    Console(file=file).completions([row], [row])
    text = file.getvalue()
    assert "\x1b[2J" not in text
    assert "\x1b]0;" not in text
    assert "\u202e" not in text
    assert "[red]x[/red]" in text
    assert ":smile:" in text
    assert "\\x1b[2J" in text


def test_completions_stand_side_by_side_within_80_columns():
    file = io.StringIO()
    before = {"prompt": "2+2=?", "completion": "five " * 40, "reward": 0.0, "status": "wrong"}
    after = {"prompt": "2+2=?", "completion": "four " * 40, "reward": 1.0, "status": "correct"}
    Console(file=file).completions([before], [after])
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) == 80
    assert any("five" in line and "four" in line for line in lines)
    assert any("before: reward 0, wrong" in line for line in lines)


def test_an_episode_of_several_turns_shows_what_the_tool_said():
    file = io.StringIO()
    said = [
        {"role": "user", "content": "2*2=?"},
        {"role": "assistant", "content": "an example"},
        {"role": "assistant", "content": "call 27*11", "reward": 0.0},
        {"role": "tool", "content": "297"},
        {"role": "assistant", "content": "so 297", "reward": 1.0},
    ]
    row = {"prompt": "<bos>27*11=?", "completion": "call 27*11\nso 297", "messages": said}
    Console(file=file).completions([{"completion": "300"}], [row])
    Console(file=file).completions([row], [{"completion": "300"}])
    text = file.getvalue()
    assert text.index("call 27*11") < text.index("tool: 297") < text.index("so 297")
    assert "27*11=?" in text
    assert "<bos>" not in text
    assert "an example" not in text


def test_a_long_completion_is_cut_and_says_so():
    file = io.StringIO()
    Console(file=file).completions([{"completion": "x" * 10_000}], [{"completion": ""}])
    assert len(file.getvalue()) < 10_000
    assert "8,500" in file.getvalue()


def test_a_terminal_without_unicode_is_served():
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii")
    console = Console(file=file)
    console.completions([{"prompt": "é", "completion": "▁\ud800"}], [{"completion": "ü"}])
    file.flush()
    assert b"\\u2581\\ud800" in raw.getvalue()


def test_the_end_shows_before_and_after_and_the_report():
    file = io.StringIO()
    summary = {"accuracy_before": 0.25, "accuracy_after": 0.9, "train_seconds": 61.0, "kl": 1.0}
    Console(file=file).finish(summary, "runs/x/report.html")
    lines = [line.split() for line in file.getvalue().splitlines()]
    assert ["│", "accuracy", "│", "0.25", "│", "0.9", "│"] in lines
    assert file.getvalue().endswith("trained for 1 min 01 s\nreport: runs/x/report.html\n")


def test_a_table_has_the_keys_as_columns():
    file = io.StringIO()
    Console(file=file).table([{"k": 1, "pass@k": 0.123456}, {"k": 2, "pass@k": None}], "pass")
    text = file.getvalue()
    assert "pass@k" in text
    assert "0.1235" in text
    assert "None" not in text
