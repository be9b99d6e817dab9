import numpy as np
import pytest

import rl_envs
from rl_envs import DataError
from rl_envs.text.code_generated import DIFFICULTY
from rl_envs.text.code_programs import STYLES, Families, Program, draw, identity_of, inputs
from rl_envs.text.code_steps import KINDS, STEPS

RNG = np.random.default_rng(0)


def make(**options):
    return rl_envs.make("text/Code-v0", **options)


def function(source):
    """Our own source, made of templates: the only code that any test here runs by itself."""
    names = {}
    exec(source, names)
    return names["f"]


def values(program, style):
    run = function(program.source(style))
    args = [v if program.takes == "pair" else (v,) for v in inputs(program.takes)]
    return [run(*given) for given in args]


def program(takes, *parts):
    steps, constants = zip(*((STEPS[name], k) for name, k in parts), strict=True)
    return Program(takes, steps, constants)


@pytest.mark.parametrize("name", STEPS)
def test_the_code_of_a_step_does_what_its_function_does(name):
    step = STEPS[name]
    for constant in step.constants or [None]:
        alone = Program(step.takes, (step,), (constant,))
        assert values(alone, "steps") == [step.run(v, constant) for v in inputs(step.takes)]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("difficulty", sorted(DIFFICULTY))
def test_both_styles_do_what_the_steps_do(difficulty, style):
    families = Families(KINDS, DIFFICULTY[difficulty])
    for seed in range(100):
        drawn, outputs = draw(families, np.random.default_rng(seed))
        assert values(drawn, style) == outputs


@pytest.mark.parametrize("name", [name for name, step in STEPS.items() if step.constants])
def test_the_words_of_a_step_name_its_constant(name):
    assert "{k}" in STEPS[name].words
    assert "{k}" in STEPS[name].code


def test_more_than_fifty_operations():
    assert len(STEPS) > 50


@pytest.mark.parametrize("difficulty", sorted(DIFFICULTY))
def test_constants_and_the_identity_fail(difficulty):
    env = make(difficulty=difficulty, n_tests=4)
    for index in range(200):
        tests = env.tasks[index].info["tests"]
        assert len({repr(test["expected"]) for test in tests}) > 1
        assert any([test["expected"]] != test["args"] for test in tests)
        assert all(test["expected"] is not None for test in tests)


@pytest.mark.parametrize("difficulty", [2, 3, 4])
def test_a_program_that_leaves_a_step_out_fails(difficulty):
    env = make(difficulty=difficulty, n_tests=8)
    for index in range(100):
        task = env.tasks[index]
        lines = task.info["steps"].splitlines()
        for place in range(1, len(lines) - 1):
            shorter = function("\n".join(lines[:place] + lines[place + 1 :]))
            assert not passes(shorter, task.info["tests"])


def passes(run, tests):
    try:
        return all(run(*test["args"]) == test["expected"] for test in tests)
    except Exception:
        return False


def test_programs_that_do_the_same_are_the_same_problem():
    same = [
        program("number", ("add", 1), ("add", 2)),
        program("number", ("add", 2), ("add", 1)),
        program("number", ("subtract", 2), ("add", 5)),
    ]
    ids = {identity_of(p, [p.run(v) for v in inputs("number")]) for p in same}
    other = program("number", ("add", 4))
    assert len(ids) == 1
    assert identity_of(other, [other.run(v) for v in inputs("number")]) not in ids


def test_difficulty_is_the_number_of_steps():
    for difficulty, steps in DIFFICULTY.items():
        assert make(difficulty=difficulty).tasks[0].info["program"].count(", ") == steps - 1


def test_families_by_name_and_by_kind():
    env = make(families=["text", "add", "digit_sum"], steps=3)
    names = {
        part.split()[0]
        for index in range(100)
        for part in env.tasks[index].info["program"].split(": ")[1].split(", ")
    }
    allowed = {name for name, step in STEPS.items() if step.takes == "text"}
    assert {"add", "digit_sum"} < names <= allowed | {"add", "digit_sum"}


def test_the_compact_question_is_the_short_name():
    task = make(question="compact").tasks[0]
    assert task.prompt == task.info["program"]


def test_the_instruction_shows_as_many_tests_as_may_be_shown():
    for shown in (0, 1, 3):
        assert make(show_tests=shown).tasks[0].prompt.count("must return") == shown


def test_an_example_in_the_instruction_is_a_test():
    task = make(families=["pair"], steps=1).tasks[0]
    test = task.info["tests"][0]
    x, y = test["args"]
    assert f"f({x}, {y}) must return {test['expected']!r}." in task.prompt


def test_demonstrations_in_words_are_fenced_and_compact_ones_bare():
    assert make().demonstration(make().tasks[0], "steps", RNG).startswith("```python\ndef f(")
    bare = make(question="compact")
    assert bare.demonstration(bare.tasks[0], "expression", RNG).startswith("def f(")


def test_the_two_styles():
    made = program("numbers", ("add_each", 3), ("append", 2), ("reverse", None), ("total", None))
    assert made.source("steps") == (
        "def f(x):\n    x = [i + 3 for i in x]\n    x = x + [2]\n    x = x[::-1]\n    return sum(x)"
    )
    expected = "def f(x):\n    return sum(([i + 3 for i in x] + [2])[::-1])"
    assert made.source("expression") == expected


def test_an_operand_that_is_named_twice_is_bound():
    made = program("number", ("add", 3), ("double_below", 5))
    assert made.source("expression") == (
        "def f(x):\n    return (lambda x: x * 2 if x < 5 else x)(x + 3)"
    )


@pytest.mark.parametrize("style", STYLES)
def test_demonstrations_pass_in_the_sandbox(style):
    env = make(difficulty=3)
    for index in range(5):
        env.reset(options={"index": index})
        assert env.step(env.demonstration(env.task, style, RNG))[1] == 1.0


@pytest.mark.parametrize("body", ["return None", "return x", "return 0", "return []", "pass"])
def test_stubs_fail_in_the_sandbox(body):
    env = make(families=["numbers"], difficulty=1)
    for index in range(3):
        env.reset(options={"index": index})
        assert env.step(f"```python\ndef f(x):\n    {body}\n```")[1] == 0.0


@pytest.mark.parametrize(
    "options",
    [
        {"difficulty": 6},
        {"steps": 0},
        {"families": ["poems"]},
        {"families": ["write"], "steps": 2},
        {"question": "poem"},
        {"n_tests": 1},
    ],
)
def test_bad_options_are_named(options):
    with pytest.raises(DataError, match=next(iter(options))):
        make(**options)


def test_families_that_make_nothing_worth_asking_are_named():
    with pytest.raises(DataError, match="families upper: no program of 2 steps"):
        make(families=["upper"], steps=2).reset(seed=0)


def test_an_unknown_style_is_named():
    with pytest.raises(DataError, match="no style 'poem'"):
        make().demonstration(make().tasks[0], "poem", RNG)
