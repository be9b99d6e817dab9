"""A record that is wrong anywhere is refused with its turn and position; the picture is right."""

import io
import json
from dataclasses import replace

import pytest
from transformers import LlamaConfig

import rl_envs
from agent_rl import cli, models
from agent_rl.chat import Chat
from agent_rl.config import ModelConfig, TinyModel
from agent_rl.errors import UserError
from agent_rl.provenance import AuditError, audit, counts, provenance
from agent_rl.tokens_command import PRINTABLE
from agent_rl.trajectory import Trajectory, Turn, segments
from tests.agent_rl.families import make_chat


def turn(prompt, sampled, logprobs=None):
    logprobs = (-0.5,) * len(sampled) if logprobs is None else logprobs
    return Turn(tuple(prompt), tuple(sampled), tuple(logprobs), "", 0.0, "stop")


def record(*turns):
    return Trajectory("env", "0", 0, 0, turns=list(turns))


SOUND = (turn([1, 2], [3, 4]), turn([1, 2, 3, 4, 5], [6]))


def test_a_sound_record_gives_its_segments():
    assert [s.sampled for s in audit(record(*SOUND), splits=())] == [(2, 3, 5)]


def test_a_repeated_context_is_a_segment_of_its_own():
    same = turn([1, 2], [3])
    assert [s.sampled for s in audit(record(same, same))] == [(2,), (2,)]


@pytest.mark.parametrize(
    ("turns", "line"),
    [
        ((turn([1, 2], [3, 4], [-0.1]),), "turn 0, position 3: 1 logprobs for 2 sampled tokens"),
        (
            (SOUND[0], turn([1, 2, 3, 4], [6], [float("nan")])),
            "turn 1, position 4: the logprob is nan",
        ),
        ((turn([], [3]),), "turn 0, position 0: it has no context"),
        (
            (SOUND[0], turn([1, 2, 3, 9, 5], [6])),
            "turn 1, position 3: its context does not go on from turn 0, and no split",
        ),
        ((SOUND[0], turn([1, 2, 3], [6])), "turn 1, position 3: its context does not go on"),
    ],
)
def test_what_is_wrong_is_named_by_turn_and_position(turns, line):
    with pytest.raises(AuditError, match=f"^{line}"):
        audit(record(*turns), splits=())


def test_a_split_is_taken_where_it_is_recorded():
    split = record(SOUND[0], turn([1, 2, 9], [6]))
    assert len(audit(split, splits={1})) == len(audit(split)) == 2


@pytest.mark.parametrize(
    ("broken", "line"),
    [
        ({"sampled": (2, 5)}, "position 3: sampled but not marked"),
        ({"sampled": (2, 3, 4, 5)}, "position 4: marked but not sampled"),
        ({"ids": (1, 2, 3, 4, 5, 7)}, "turn 1, position 5: what was sampled is in no segment"),
        ({"ids": (1, 2, 8, 4, 5, 6)}, "turn 0, position 2: the segment does not hold"),
    ],
)
def test_segments_that_do_not_hold_what_was_sampled_are_refused(broken, line):
    trajectory = record(*SOUND)
    (good,) = segments(trajectory)
    bad = replace(good, **broken)
    if "in no segment" in line:
        bad = replace(bad, sampled=(2, 3))
    with pytest.raises(AuditError, match=line):
        audit(trajectory, given=[bad])


def test_each_kind_is_where_its_message_is():
    chat = make_chat("qwen25")
    opening = (
        {"role": "system", "content": " user"},  # as in a header
        {"role": "user", "content": "user"},
        {"role": "assistant", "content": "system"},
        {"role": "user", "content": "assistant\n"},
    )
    trajectory = Trajectory("env", "0", 0, 0, opening=opening)
    prompt = chat.prompt_ids(opening)
    sampled = chat.completion_ids("user")
    answer = ({"role": "tool", "content": "user"}, {"role": "tool", "content": "tool_response"})
    trajectory.turns = [
        turn(prompt, sampled),
        turn(chat.next_prompt_ids(prompt, sampled, answer), sampled),
    ]
    trajectory.answers = [answer, ()]
    (kinds,) = provenance(trajectory, chat)
    (segment,) = segments(trajectory)
    told = {
        kind: chat.tokenizer.decode(
            [i for i, k in zip(segment.ids, kinds, strict=True) if k == kind]
        )
        for kind in set(kinds)
    }
    assert told["system"] == "user"
    assert told["user"] == "userassistant"
    assert told["few-shot assistant"] == "system"
    assert told["tool"] == "usertool_response"
    assert told["sampled"] == "user<|im_end|>" * 2
    assert counts([kinds])["sampled"] == len(segment.sampled)


def test_a_record_of_another_template_is_refused():
    chat, other = make_chat("qwen25"), make_chat("qwen3")
    opening = ({"role": "user", "content": "the"},)
    trajectory = Trajectory("env", "0", 0, 0, opening=opening)
    trajectory.turns = [turn(other.prompt_ids(opening), [1])]
    with pytest.raises(UserError, match=r"turn 0, \d+ tokens into what is new: this chat template"):
        provenance(trajectory, chat)


def tokens(capsys, *words):
    with pytest.raises(SystemExit) as left:
        cli.main(["tokens", *words])
    return left.value.code, capsys.readouterr()


def test_the_command_shows_a_whole_episode_by_kind(capsys, tmp_path):
    page = tmp_path / "tokens.html"
    code, out = tokens(
        capsys, "text/Calculator-v0", "--model", "tiny", "--index", "3", "--html", str(page)
    )
    assert code == 0
    assert "[sampled " in out.out
    assert "[tool " in out.out
    assert "trained on" in out.out
    assert "\x1b" not in out.out
    assert "<tool_call>" not in page.read_text()
    assert "&lt;tool_call&gt;" in page.read_text()


def test_the_command_gives_ids_and_kinds_as_json(capsys):
    code, out = tokens(capsys, "text/Thermostat-v0", "--model", "tiny", "--json")
    told = json.loads(out.out)
    assert code == 0
    assert len(told["segments"]) == told["turns"]  # the policy sees the last observation only
    for segment in told["segments"]:
        assert sum(run["tokens"] for run in segment["runs"]) == len(segment["ids"])
    assert told["counts"]["sampled"] == sum(len(s["sampled"]) for s in told["segments"])


ENVS = '''
from rl_envs import Reply, TextEnv


class Shares(TextEnv):
    """Its opening needs what its group shares."""

    tasks = [{"prompt": "?", "answer": "1", "id": "0"}]
    styles = ("plain",)

    def set_up_group(self, task):
        return "of the group"

    def opening(self, task):
        return [{"role": "user", "content": self.shared + "?"}]


    def demonstrate(self, style, rng):
        return "1"

    def score(self, completion, row):
        return completion == "1"


class Long(Shares):
    """Says so much that the second turn fills a context of 4096."""

    max_turns = 9

    def respond(self, action):
        return Reply([{"role": "user", "content": "x" * 3000}], reward=0.5)


class TooLong(Shares):
    def opening(self, task):
        return [{"role": "user", "content": "x" * 5000}]


class Raises(Shares):
    def demonstrate(self, style, rng):
        raise KeyError("no such move")


class Person(Shares):
    def opening(self, task):
        return [{"role": "user", "content": "?"}]

    def close(self):
        print("closed", self.task.id)
'''


@pytest.fixture
def envs(tmp_path):
    """A file of environments."""
    path = tmp_path / "envs.py"
    path.write_text(ENVS)
    return path


def test_the_command_plays_every_seat_as_training_does(capsys):
    code, out = tokens(
        capsys, "text/TicTacToe-v0", "--model", "tiny", "--opponent", "self", "--json"
    )
    told = json.loads(out.out)
    chat = models.load_chat(ModelConfig(tiny=TinyModel(characters=PRINTABLE)))
    shown = [chat.tokenizer.decode(s["ids"]) for s in told["segments"]]
    assert code == 0
    assert {s["seat"] for s in told["segments"]} == {0, 1}
    assert len(told["return"]) == 2
    assert sum(told["return"]) == 0
    for segment, text in zip(told["segments"], shown, strict=True):  # each sees its own side only
        assert f"You are {'XO'[segment['seat']]}." in text
    assert sum(len(s["sampled"]) for s in told["segments"]) == told["counts"]["sampled"]
    _, out = tokens(capsys, "text/TicTacToe-v0", "--model", "tiny", "--opponent", "self")
    assert "--- segment 0, seat 0" in out.out


def test_the_command_plays_the_task_that_a_reset_draws(capsys):
    env = rl_envs.make("text/Arithmetic-v0")
    for seed in (0, 1):
        words = ("text/Arithmetic-v0", "--model", "tiny", "--json", "--seed", str(seed))
        told = json.loads(tokens(capsys, *words)[1].out)
        assert told["task"] == env.reset(seed=seed)[1]["task_id"]


def test_the_command_sets_up_what_a_group_shares(capsys, envs):
    code, out = tokens(capsys, f"{envs}:Shares", "--model", "tiny")
    assert code == 0
    assert "of the group?" in out.out


def test_the_command_ends_where_the_context_is_full(capsys, envs):
    code, out = tokens(capsys, f"{envs}:Long", "--model", "tiny", "--json")
    told = json.loads(out.out)
    assert (code, told["turns"], told["return"]) == (0, 2, 1.0)
    assert [len(s["ids"]) <= 4096 for s in told["segments"]] == [True]


def saved(tmp_path, name, template=True):
    """A folder with the tokenizer of a family."""
    tokenizer = make_chat(name).tokenizer
    tokenizer.chat_template = tokenizer.chat_template if template else None
    tokenizer.save_pretrained(tmp_path / "model")
    LlamaConfig(max_position_embeddings=9000).save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


@pytest.mark.parametrize(
    ("family", "line"),
    [
        ("llama3", "the chat template's is `llama3`; set the environment's option "
         "`call_format: llama3` in place of `template`"),
        ("harmony", "the chat template's is `harmony`; set the environment's option "
         "`call_format: hermes` in place of `template`"),
    ],
)  # fmt: skip
def test_an_expert_that_would_call_in_another_notation_is_refused(capsys, tmp_path, family, line):
    words = ("text/Calculator-v0", "--model", saved(tmp_path, family))
    code, out = tokens(capsys, *words, "--call_format", "template")
    assert (code, out.err.count("\n")) == (1, 1)
    assert line in out.err
    code, out = tokens(capsys, *words, "--call_format", line.split("`")[3].split()[-1])
    assert code == 0


def test_an_expert_calls_as_the_template_does(capsys, tmp_path):
    words = ("text/Calculator-v0", "--model", saved(tmp_path, "qwen25"))
    code, out = tokens(capsys, *words, "--call_format", "template", "--json")
    told = json.loads(out.out)
    assert (code, told["return"], told["turns"]) == (0, 1.0, 2)


@pytest.mark.parametrize(
    ("env", "line"),
    [
        ("Raises", "task 0: KeyError: 'no such move'"),
        ("TooLong", "take a model with a longer context"),
    ],
)
def test_an_expert_that_cannot_play_is_one_line(capsys, envs, env, line):
    code, out = tokens(capsys, f"{envs}:{env}", "--model", "tiny")
    assert (code, out.err.count("\n")) == (1, 1)
    assert line in out.err


def test_a_model_without_a_template_is_told_what_this_command_takes(capsys, tmp_path):
    folder = saved(tmp_path, "qwen25", template=False)
    code, out = tokens(capsys, "text/Countdown-v0", "--model", folder)
    assert (code, out.err.count("\n")) == (1, 1)
    assert f"--model {folder}: its tokenizer has no chat template; give a model" in out.err
    assert "model.chat_template" not in out.err


def test_a_game_of_a_person_is_closed(capsys, envs, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("2\n"))
    with pytest.raises(SystemExit):
        cli.main(["play", f"{envs}:Person"])
    assert capsys.readouterr().out.endswith("closed 0\n")


def test_what_a_model_says_does_not_act_on_the_terminal(capsys, monkeypatch):
    monkeypatch.setattr(
        rl_envs.make("text/Countdown-v0").__class__, "expert", lambda self, rng: "\x1b[2Jz\u202e"
    )
    monkeypatch.setattr(Chat, "decode", lambda self, ids, **_: "\x1b[2Jz\u202e")
    monkeypatch.setattr("agent_rl.tokens_command.PRINTABLE", "\x1b[2Jz\u202e")
    code, out = tokens(capsys, "text/Countdown-v0", "--model", "tiny")
    assert code == 0
    assert "\\x1b[2Jz\\u202e" in out.out
    assert "\x1b" not in out.out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("text/Countdown-v0", "--model", "nowhere/at/all"), "no folder nowhere/at/all"),
        (("text/GSM8K-v9", "--model", "tiny"), "GSM8K-v9"),
        (("text/Countdown-v0", "--model", "tiny", "--index", "-1"), "--index -1"),
    ],
)
def test_what_cannot_be_shown_is_one_line(capsys, words, line):
    code, out = tokens(capsys, *words)
    assert code == 1
    assert out.err.count("\n") == 1
    assert line in out.err
