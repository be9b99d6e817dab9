import subprocess
import sys
from importlib.metadata import EntryPoint

import gymnasium
import pytest

import rl_envs
from rl_envs import DataError, Task, TextEnv, registry

SOURCE = '''
import rl_envs

@rl_envs.register("text/FileDouble-v0", start={start})
class Double(rl_envs.TextEnv):
    """Double a number."""

    def __init__(self, *, start=0, **options):
        super().__init__(**options)
        self.start = start

    def load_tasks(self, split):
        numbers = range(self.start, self.start + 100)
        rows = [{{"prompt": f"What is twice {{n}}?", "answer": str(2 * n)}} for n in numbers]
        return rl_envs.hash_split(rows, split)

    def score(self, completion, row):
        return completion.strip() == row["answer"]
'''


@pytest.fixture
def clean_registry(monkeypatch):
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(registry, "_ids", dict(registry._ids))
    monkeypatch.setattr(gymnasium.envs.registration, "registry", {**gymnasium.registry})
    monkeypatch.setattr(gymnasium, "registry", gymnasium.envs.registration.registry)


pytestmark = pytest.mark.usefixtures("clean_registry")


def test_decorator_registers_and_returns_the_class():
    @rl_envs.register("text/Local-v0", max_turns=7)
    class Local(TextEnv):
        """A local one."""

        tasks = (Task("0", "x"),)

    assert isinstance(rl_envs.make("text/Local-v0"), Local)
    assert rl_envs.make("text/Local-v0").max_turns == 7
    assert rl_envs.make("text/Local-v0", max_turns=2).max_turns == 2
    assert gymnasium.make("text/Local-v0").unwrapped.max_turns == 7


def test_registering_a_string_imports_nothing():
    rl_envs.register("text/Absent-v0", "no_such_module:Env")
    with pytest.raises(DataError, match="text/Absent-v0: cannot load no_such_module:Env"):
        rl_envs.make("text/Absent-v0")


def test_a_broken_environment_does_not_hide_the_others():
    rl_envs.register("text/Absent-v0", "no_such_module:Env")
    lines = {line.id: line for line in rl_envs.listing()}
    assert lines["text/Absent-v0"].description.startswith("cannot be made")
    assert lines["text/Arithmetic-v0"].size == "1108"


def test_the_same_registration_twice_is_quiet():
    for _ in range(2):
        rl_envs.register("text/Twice-v0", "some_module:Env")
    assert rl_envs.ids().count("text/Twice-v0") == 1


@pytest.mark.parametrize("spelt", ["text/gsm8k-v0", "TEXT/GSM8K-V0"])
def test_unknown_id_names_the_nearest(spelt):
    with pytest.raises(DataError, match="did you mean text/GSM8K-v0"):
        rl_envs.make(spelt)


def test_unknown_option_names_the_nearest():
    with pytest.raises(DataError, match=r"text/Arithmetic-v0 has no option 'term'; .*'terms'"):
        rl_envs.make("text/Arithmetic-v0", term=3)


def test_base_options_are_known_to_subclasses():
    assert rl_envs.make("text/Arithmetic-v0", terms=3, max_turns=2).max_turns == 2


def test_entry_points_appear_without_being_imported(monkeypatch):
    point = EntryPoint("text/Plugin-v0", "no_such_package:Env", registry.ENTRY_POINT_GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    registry._read_entry_points.cache_clear()
    assert "text/Plugin-v0" in rl_envs.ids()


def test_a_file_with_one_registration_can_be_made(tmp_path):
    path = tmp_path / "double.py"
    path.write_text(SOURCE.format(start=10))
    env = rl_envs.make(str(path))
    env.reset(seed=0)
    assert env.step(env.task.answer)[1] == 1.0
    assert env.start == 10
    assert rl_envs.make(str(path)).spec == env.spec


def test_a_file_can_name_its_class(tmp_path):
    path = tmp_path / "two.py"
    path.write_text(
        "import rl_envs\n"
        "class A(rl_envs.TextEnv): tasks = [{'prompt': 'a'}]\n"
        "class B(rl_envs.TextEnv): tasks = [{'prompt': 'b'}]\n"
    )
    assert rl_envs.make(f"{path}:B").reset(seed=0)[0][0]["content"] == "b"
    with pytest.raises(DataError, match=r"name one.*it has A, B"):
        rl_envs.make(str(path))
    with pytest.raises(DataError, match="no environment class 'C': it has A, B"):
        rl_envs.make(f"{path}:C")


def test_two_files_may_hold_classes_of_one_name(tmp_path):
    for name in ("one", "two"):
        text = f"import rl_envs\nclass A(rl_envs.TextEnv): tasks = [{{'prompt': '{name}'}}]\n"
        (tmp_path / f"{name}.py").write_text(text)
    prompts = [rl_envs.make(f"{tmp_path}/{n}.py").tasks[0].prompt for n in ("one", "two", "one")]
    assert prompts == ["one", "two", "one"]


def test_a_file_without_an_environment_says_so(tmp_path):
    path = tmp_path / "none.py"
    path.write_text("x = 1\n")
    with pytest.raises(DataError, match="defines no TextEnv"):
        rl_envs.make(str(path))


def test_a_syntax_error_names_file_and_line_and_is_read_again_once_mended(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("x = 1\ny = (\n")
    with pytest.raises(DataError, match=r"broken\.py, line 2: no valid Python: .*never closed"):
        rl_envs.make(str(path))
    path.write_text(SOURCE.format(start=10))
    assert rl_envs.make(str(path)).start == 10


def test_a_missing_file_says_so():
    with pytest.raises(DataError, match=r"no file nowhere\.py"):
        rl_envs.make("nowhere.py")


def test_listing_reads_no_data(monkeypatch):
    monkeypatch.setenv("AGENT_RL_DATA", "/nowhere")
    lines = {line.id: line for line in rl_envs.listing()}
    assert lines["text/GSM8K-v0"].size == "on load"
    assert lines["text/GSM8K-v0"].verifier == "math"
    assert lines["text/CartPole-v0"].turns == 500


def test_import_loads_no_heavy_module():
    code = (
        "import sys, rl_envs; rl_envs.ids();"
        "print([m for m in ('torch', 'sympy', 'pyarrow', 'datasets', 'rl_envs.text.arithmetic')"
        " if m in sys.modules])"
    )
    path = ":".join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": path},
    )
    assert done.stdout.strip() == "[]"
