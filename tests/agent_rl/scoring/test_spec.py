"""Which verifier a word stands for."""

import pytest

from agent_rl.errors import UserError
from agent_rl.scoring.spec import build, from_tree, option_tree, specify
from rl_verifiers import VerifierError

ROW = {"answer": "4"}


def test_a_name_with_options():
    verifier = build(specify("exact", {"case": False}))
    assert verifier("YES", {"answer": "yes"}).passed


def test_an_environment_gives_its_own_verifier():
    verifier = build(specify("text/GSM8K-v0", {}))
    assert verifier("... so the answer is \\boxed{4}", ROW).passed
    assert not verifier("\\boxed{5}", ROW).passed


def test_a_configuration_combines_verifiers(tmp_path):
    path = tmp_path / "reward.yaml"
    path.write_text(
        """
weighted:
  format: {name: format, tags: [think, answer], weight: 0.25}
  answer: {name: math, extract: answer_tag, weight: 0.75}
"""
    )
    score = build(specify(str(path), {}))("<think>2</think><answer>5</answer>", ROW)
    assert (score.value, dict(score.parts)) == (0.25, {"format": 1.0, "answer": 0.0})


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (3, "where is 3; it must be a verifier's name or a mapping"),
        ({"verifier": "math"}, "where needs name, or only one of weighted"),
        ({"weighted": {"a": {"name": "math"}}}, "where.weighted.a needs a weight"),
        ({"gate": {"condition": "math", "then": "math", "x": 1}}, "condition and then"),
        ({"length_penalty": {"verifier": "math"}}, "missing a required argument: 'max_length'"),
    ],
)
def test_a_configuration_that_is_none_is_one_line(tree, message):
    with pytest.raises(UserError) as error:
        from_tree(tree, "where")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_function_a_factory_and_a_registered_name_in_a_file(tmp_path):
    path = tmp_path / "judges.py"
    path.write_text(
        """
from rl_verifiers import Score, register

def same(completion, row):
    return completion == row["answer"]

def made(*, letter):
    return lambda completion, row: letter in completion

@register("judges-even")
def even():
    return lambda completion, row: len(completion) % 2 == 0
"""
    )
    assert build(specify(f"{path}:same", {}))("4", ROW).passed
    assert build(specify(f"{path}:made", {"letter": "x"}))("x", ROW)
    assert build(specify(str(path), {}))("ab", ROW)  # the only one that is registered
    with pytest.raises(UserError, match="takes no options"):
        build(specify(f"{path}:same", {"a": 1}))
    with pytest.raises(UserError, match="it has same, made, even"):
        build(specify(f"{path}:other", {}))


def test_a_configuration_may_name_a_file(tmp_path):
    (tmp_path / "mine.py").write_text("def verify(completion, row): return 'z' in completion\n")
    tree = {"all_of": {"mine": {"name": str(tmp_path / "mine.py")}, "math": "math"}}
    verifier = from_tree(tree, "where")
    assert verifier("z is \\boxed{4}", ROW).passed
    assert not verifier("\\boxed{4}", ROW).passed


def test_a_file_that_is_no_python_is_one_line(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("def verify(:\n")
    with pytest.raises(VerifierError, match=r"broken.py, line 1: no Python"):
        build(specify(str(path), {}))


def test_the_digest_changes_with_options_and_with_the_file(tmp_path):
    path = tmp_path / "v.py"
    path.write_text("def verify(completion, row): return 1.0\n")
    first = specify(str(path), {})
    assert first.digest == specify(str(path), {}).digest
    path.write_text("def verify(completion, row): return 0.0\n")
    assert specify(str(path), {}).digest != first.digest
    assert specify("math", {}).digest != specify("math", {"strict": False}).digest


def test_options_of_the_verifier_have_its_prefix():
    assert option_tree(["--verifier.max-length", "3", "--verifier.a.b=c"]) == {
        "max_length": 3,
        "a": {"b": "c"},
    }
    with pytest.raises(UserError, match=r"no option --lenient; .* --verifier.lenient"):
        option_tree(["--lenient"])


def test_an_unknown_name_is_the_registrys_error():
    with pytest.raises(VerifierError, match="unknown verifier"):
        build(specify("nothing-of-that-name", {}))
