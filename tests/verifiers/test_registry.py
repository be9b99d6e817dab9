import subprocess
import sys

import pytest

import rl_verifiers
from rl_verifiers import Score, VerifierError, describe, make, names, register


def test_the_public_names_exist():
    assert all(hasattr(rl_verifiers, name) for name in rl_verifiers.__all__)


def test_importing_needs_neither_torch_nor_computer_algebra():
    program = "import sys, rl_verifiers; print(*{'torch', 'sympy', 'mpmath'} & set(sys.modules))"
    run = [sys.executable, "-c", program]
    environment = {"PYTHONPATH": ":".join(sys.path)}
    assert subprocess.check_output(run, text=True, env=environment).strip() == ""


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(
        VerifierError, match=r"unknown verifier 'maths'; did you mean 'math'\? known: .*exact.*math"
    ):
        make("maths")


def test_an_unknown_option_shows_the_signature():
    with pytest.raises(
        VerifierError, match=r"verifier 'exact': no option 'strict'.*its options: extract, case"
    ):
        make("exact", strict=True)


@pytest.mark.parametrize("name", names())
def test_every_verifier_describes_itself(name):
    entry = describe(name)
    assert entry.description.endswith(".") or ":" in entry.description
    assert entry.signature.startswith(f"{name}(")


def test_a_decorated_factory_is_made_by_name():
    @register("test-decorated")
    def factory(*, value: float = 1.0):
        """Always the same."""
        return lambda completion, row: Score(value, False, "wrong")

    assert make("test-decorated", value=0.25)("", {}) == Score(0.25, False, "wrong")


def test_a_target_is_imported_when_it_is_made(tmp_path, monkeypatch):
    (tmp_path / "lazy_target.py").write_text("def factory():\n    return lambda c, r: 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    register("test-lazy", "lazy_target:factory")
    assert "lazy_target" not in sys.modules
    assert make("test-lazy")("", {}) == 1.0


def test_a_name_is_not_taken_twice():
    with pytest.raises(VerifierError, match="'math' is registered already"):
        register("math", "elsewhere:factory")


def test_a_target_without_a_colon_is_refused():
    with pytest.raises(VerifierError, match="module:attr"):
        register("test-colon", "elsewhere.factory")


def test_a_target_that_cannot_be_imported_names_itself():
    register("test-absent", "no_such_module:factory")
    with pytest.raises(VerifierError, match="cannot import 'no_such_module:factory'"):
        make("test-absent")


def test_an_entry_point_of_an_installed_package_is_found(tmp_path, monkeypatch):
    (tmp_path / "third_party.py").write_text("def factory():\n    return lambda c, r: 0.5\n")
    folder = tmp_path / "third_party-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[agent_rl.verifiers]\nours = third_party:factory\n")
    monkeypatch.syspath_prepend(tmp_path)
    rl_verifiers.registry._entry_points.cache_clear()
    assert "ours" in names()
    assert make("ours")("", {}) == 0.5
    rl_verifiers.registry._entry_points.cache_clear()
