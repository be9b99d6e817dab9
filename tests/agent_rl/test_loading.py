"""Configurations: typed reading, overrides, recipes, and the text they are written back to."""

import contextlib
import dataclasses
import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from agent_rl import settings_table
from agent_rl.algorithms import PRESETS
from agent_rl.config import EvalConfig, RLConfig, SFTConfig
from agent_rl.errors import UserError
from agent_rl.loading import build, load_recipe, parse_overrides, put, read
from agent_rl.settings import SettingError, construct
from agent_rl.yaml_text import YAMLError, from_yaml, to_yaml

CONFIGS = sorted(
    path
    for path in (Path(__file__).parents[2] / "configs").rglob("*.yaml")
    if path.read_text(encoding="utf-8").startswith("# agent-rl train ")
)
ENV = {"id": "text/Arithmetic-v0"}
RL = {"model": {"tiny": {}}, "envs": [ENV]}

plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@pytest.fixture
def load(tmp_path):
    """``load(tree, "--steps", "3")``: the recipe of a tree written to ``c.yaml``."""

    def call(tree, *words):
        path = tmp_path / "c.yaml"
        path.write_text(yaml.safe_dump(tree))
        return load_recipe(str(path), words)

    return call


def only(recipe):
    return recipe.stages[0][1]


# YAML.


@given(plain_values)
def test_yaml_reads_back_what_it_wrote(value):
    assert from_yaml(to_yaml(value)) == value


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_is_a_float(value):
    read_back = from_yaml(f"{value!r}")
    assert isinstance(read_back, float)
    assert read_back == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        ("-2.5e+3", -2500.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("3", 3),
        ("-7", -7),
        ("007", 7),
        ("0x10", 16),
        ("true", True),
        ("null", None),
        ("'1e-4'", "1e-4"),
        ("1e", "1e"),
        ("e5", "e5"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("2024-01-01", "2024-01-01"),
        ("v1.2.3", "v1.2.3"),
        ("a=b", "a=b"),
        ("[1e-3, x]", [1e-3, "x"]),
    ],
)
def test_yaml_scalars(text, value):
    found = from_yaml(text)
    assert found == value
    assert type(found) is type(value)


def test_infinity_and_nan():
    assert from_yaml(".inf") == math.inf
    assert math.isnan(from_yaml(".nan"))


@pytest.mark.parametrize("text", ["{a: 1, a: 2}", "[1, 2", "\x00", "!!python/name:os.system", "*x"])
def test_what_is_no_yaml(text):
    with pytest.raises(YAMLError) as error:
        from_yaml(text)
    assert "\n" not in str(error.value)


def test_merge_keys_work():
    assert from_yaml("a: &a {x: 1}\nb: {<<: *a, y: 2}")["b"] == {"x": 1, "y": 2}


# Overrides.


@pytest.mark.parametrize(
    ("words", "pairs"),
    [
        (["--a.b=1e-4"], [("a.b", 1e-4)]),
        (["--a.b", "1e-4"], [("a.b", 1e-4)]),
        (["--a", "-3"], [("a", -3)]),
        (["--a", "--b", "2"], [("a", True), ("b", 2)]),
        (["--a=x=y=z"], [("a", "x=y=z")]),
        (["--a", "x=y"], [("a", "x=y")]),
        (["--a="], [("a", None)]),
        (["--a", "null"], [("a", None)]),
        (["--a", "false"], [("a", False)]),
        (["--a", "'5'"], [("a", "5")]),
        (["--a", "[0.9, 0.95]"], [("a", [0.9, 0.95])]),
        (["--a", "{x: 1}"], [("a", {"x": 1})]),
        (["--a", "a: b: c"], [("a", "a: b: c")]),
        ([], []),
    ],
)
def test_overrides_are_read_as_yaml(words, pairs):
    found = parse_overrides(words)
    assert found == pairs
    assert [type(value) for _, value in found] == [type(value) for _, value in pairs]


def test_a_stray_word_is_refused():
    with pytest.raises(UserError, match="unexpected argument 'x'"):
        parse_overrides(["x"])


@pytest.mark.parametrize(
    ("tree", "key", "expected"),
    [
        ({}, "a.b", {"a": {"b": 9}}),
        ({"a": None}, "a.b", {"a": {"b": 9}}),
        ({"a": [{"b": 1}]}, "a.0.b", {"a": [{"b": 9}]}),
        ({"a": [1, 2]}, "a.1", {"a": [1, 9]}),
        ({"a": [1]}, "a.1", {"a": [1, 9]}),
        ({}, "a.0.b", {"a": [{"b": 9}]}),
        (
            {"algorithm": "ppo"},
            "algorithm.clip_low",
            {"algorithm": {"preset": "ppo", "clip_low": 9}},
        ),
    ],
)
def test_put(tree, key, expected):
    put(tree, key, 9)
    assert tree == expected


@pytest.mark.parametrize("key", ["a.2", "a.x", "a.-1", "b.c", "a..0", ""])
def test_put_refuses_what_is_not_there(key):
    with pytest.raises(UserError, match="override --"):
        put({"a": [1], "b": 3}, key, 9)


def test_an_override_of_a_preset_keeps_the_preset(load):
    config = only(load({**RL, "algorithm": "ppo"}, "--algorithm.gae_lambda", "0.5"))
    assert config.algorithm == dataclasses.replace(PRESETS["ppo"], gae_lambda=0.5)


def test_an_override_reaches_options_as_a_float(load):
    config = only(load(RL, "--envs.0.options.rate", "1e-4"))
    assert config.envs[0].options == {"rate": 1e-4}


def test_file_and_override_read_numbers_alike(tmp_path):
    (tmp_path / "c.yaml").write_text("a: {b: 1e-4}")
    assert read(str(tmp_path / "c.yaml"), ["--c", "1e-4"]) == {"a": {"b": 1e-4}, "c": 1e-4}


# Typed reading.


@pytest.mark.parametrize(("given_steps", "steps"), [(3, 3), (1e3, 1000), (10**12, 10**12)])
def test_whole_numbers(given_steps, steps):
    found = build(RLConfig, {**RL, "steps": given_steps}, "c").steps
    assert found == steps
    assert isinstance(found, int)


def test_a_whole_number_is_a_float_where_a_float_belongs():
    found = build(RLConfig, {**RL, "optimizer": {"lr": 1}}, "c").optimizer.lr
    assert found == 1.0
    assert isinstance(found, float)


def test_lists_become_tuples_with_their_elements_checked():
    config = build(RLConfig, {**RL, "optimizer": {"betas": [0, 0.5]}}, "c")
    assert config.optimizer.betas == (0.0, 0.5)
    with pytest.raises(UserError, match=r"optimizer.betas.1 is 'x'; it must be a number"):
        build(RLConfig, {**RL, "optimizer": {"betas": [0, "x"]}}, "c")


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "v_proj"]])
def test_a_union_takes_each_of_its_kinds(targets):
    model = {"tiny": {}, "lora": {"targets": targets}}
    config = build(RLConfig, {**RL, "model": model}, "c")
    assert config.model.lora is not None
    assert config.model.lora.targets == targets


def test_a_union_says_all_of_its_kinds():
    with pytest.raises(UserError, match=r"lora.targets is 5; it must be a text or a list"):
        build(RLConfig, {**RL, "model": {"tiny": {}, "lora": {"targets": 5}}}, "c")


def test_options_are_left_as_they_are():
    options = {"a": "1e-4", "b": "12", "c": [1, "x"], "d": None, "e": {"f": True}}
    config = build(RLConfig, {**RL, "envs": [{**ENV, "options": options}]}, "c")
    assert config.envs[0].options == options


def test_option_names_are_texts():
    with pytest.raises(UserError, match=r"envs\.0\.options: the key 1 must be a text"):
        build(RLConfig, {**RL, "envs": [{**ENV, "options": {1: 2}}]}, "c")


def test_nan_is_no_number():
    with pytest.raises(UserError, match=r"optimizer\.lr is nan"):
        build(RLConfig, {**RL, "optimizer": {"lr": math.nan}}, "c")


@given(st.dictionaries(st.sampled_from(["steps", "model", "envs", "run", "x", 3]), plain_values))
def test_nothing_but_a_user_error_comes_of_any_tree(tree):
    with contextlib.suppress(SettingError):
        construct(RLConfig, tree)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_by_its_name_alone(name, load):
    longest = PRESETS[name].overlong_buffer + 256
    config = only(load({**RL, "algorithm": name, "sampling": {"max_tokens": longest}}))
    assert config.algorithm == PRESETS[name]


@pytest.mark.parametrize(("buffer", "works"), [(0, True), (255, True), (256, False), (4096, False)])
def test_the_overlong_buffer_is_shorter_than_a_completion(buffer, works, load):
    tree = {**RL, "algorithm": {"preset": "dapo", "overlong_buffer": buffer}}
    if works:
        assert only(load(tree)).algorithm.overlong_buffer == buffer
        return
    line = rf"algorithm.overlong_buffer is {buffer}, but .* 256 tokens .* such as 64"
    with pytest.raises(UserError, match=line):
        load(tree)


@pytest.mark.parametrize(("horizon", "works"), [(4.9, True), (4.8, False), (0.1, False)])
def test_the_kl_horizon_is_long_enough_for_the_batch(horizon, works, load):
    kl = {"target": 1.0, "horizon": horizon}
    tree = {**RL, "prompts_per_step": 4, "group_size": 6, "algorithm": {"kl": kl}}
    if works:
        assert only(load(tree)).algorithm.kl.horizon == horizon
        return
    with pytest.raises(UserError, match=r"kl.horizon is .* batches of 24 .* set it above 4.8"):
        load(tree)


def test_a_horizon_without_a_target_is_not_used(load):
    assert only(load({**RL, "algorithm": {"kl": {"horizon": 1.0}}})).algorithm.kl.horizon == 1.0


def test_kl_overrides_keep_the_rest_of_the_kl(load):
    config = only(load({**RL, "algorithm": {"preset": "rloo", "kl": {"coef": 0.5}}}))
    assert config.algorithm.kl == dataclasses.replace(PRESETS["rloo"].kl, coef=0.5)


# Recipes.


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_printed_configuration_reads_back_equal(path, tmp_path):
    recipe = load_recipe(str(path))
    (tmp_path / "printed.yaml").write_text(recipe.to_yaml())
    assert load_recipe(str(tmp_path / "printed.yaml")) == recipe


def test_printed_recipe_can_be_moved(tmp_path):
    printed = tmp_path / "printed.yaml"
    quickstart = next(path for path in CONFIGS if path.stem == "quickstart")
    printed.write_text(load_recipe(str(quickstart)).to_yaml())
    moved = load_recipe(str(printed), ["--run.dir", "elsewhere"])
    assert [config.run.dir for _, config in moved.stages] == [
        "elsewhere/1-skill",
        "elsewhere/2-habit",
        "elsewhere/3-rl",
    ]
    assert moved.stages[1][1].model.path == "elsewhere/1-skill/model"


@given(rate=plain_values, name=st.text(min_size=1).filter(str.isprintable))
def test_any_option_survives_printing(rate, name, tmp_path_factory):
    folder = tmp_path_factory.mktemp("c")
    tree = {**RL, "name": name, "envs": [{**ENV, "options": {"rate": rate}}]}
    (folder / "a.yaml").write_text(to_yaml(tree))
    recipe = load_recipe(str(folder / "a.yaml"))
    (folder / "b.yaml").write_text(recipe.to_yaml())
    assert load_recipe(str(folder / "b.yaml")) == recipe


def test_stages_share_the_run_and_keep_what_is_their_own(load):
    stages = {"a": {**RL}, "b": {**RL, "run": {"seed": 5}, "model": {"path": "@a"}}}
    recipe = load({"run": {"dir": "r", "seed": 3, "threads": 2}, "stages": stages})
    (_, a), (_, b) = recipe.stages
    assert (a.run.dir, a.run.seed, a.run.threads) == ("r/1-a", 3, 2)
    assert (b.run.dir, b.run.seed, b.run.threads) == ("r/2-b", 5, 2)
    assert b.model.path == "r/1-a/model"


def test_a_single_stage_runs_where_its_file_says(load):
    assert load(RL).dir == "runs/c"
    assert load({**RL, "run": {"dir": "x"}}).dir == "x"


@pytest.mark.parametrize(("words", "kind"), [((), RLConfig), (("--stage", "sft"), SFTConfig)])
def test_stage_kinds(words, kind, load):
    tree = RL if kind is RLConfig else {"model": {"tiny": {}}, "data": {"env": ENV}}
    assert isinstance(only(load(tree, *words)), kind)


# The table of settings.


@pytest.mark.parametrize("kind", [RLConfig, SFTConfig, EvalConfig], ids=lambda kind: kind.__name__)
def test_every_setting_is_documented(kind):
    for section in settings_table.sections(kind):
        assert section.about
        for setting in section.settings:
            assert setting.meaning, setting.name
            assert setting.values != "any value", setting.name


@pytest.mark.parametrize("kind", [RLConfig, SFTConfig, EvalConfig], ids=lambda kind: kind.__name__)
def test_no_docstring_explains_a_setting_that_is_gone(kind):
    def classes(cls):
        yield cls
        for field in dataclasses.fields(cls):
            default = field.default
            if dataclasses.is_dataclass(default):
                yield from classes(type(default))

    for cls in classes(kind):
        names = {field.name for field in dataclasses.fields(cls)}
        assert settings_table.documented(cls).keys() == names


def test_defaults_in_the_table_are_those_of_the_classes():
    shown = {
        s.name: s.default for section in settings_table.sections(RLConfig) for s in section.settings
    }
    assert shown["steps"] == "100"
    assert from_yaml(shown["optimizer.betas"]) == [0.9, 0.95]
    assert from_yaml(shown["optimizer.lr"]) == 1e-5
    assert shown["value_lr"] == "null"
    assert shown["model"] == ""
    assert shown["envs.N.weight"] == "1.0"


def test_the_documentation_holds_the_table_that_the_code_makes():
    page = (Path(__file__).parents[2] / "docs/configuration.md").read_text()
    _, _, rest = page.partition("<!-- settings: begin -->\n")
    table, end, _ = rest.partition("<!-- settings: end -->")
    assert end, "the markers are there"
    assert table.strip() == settings_table.as_markdown().strip(), (
        "run: agent-rl settings --markdown, and put it between the markers"
    )


def test_an_option_of_the_environment_is_told_where_to_go():
    tree = {"form": "a*b", "envs": [{"id": "text/Calculator-v0"}], "model": {"path": "x"}}
    with pytest.raises(UserError, match=r"write --envs\.0\.options\.form$"):
        build(EvalConfig, tree, "eval")
    with pytest.raises(UserError, match="unknown setting fomr"):
        build(EvalConfig, {"fomr": 1, **{k: v for k, v in tree.items() if k != "form"}}, "eval")
