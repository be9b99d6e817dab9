import subprocess
import sys

import pytest

from agent_rl.engines import Sampling
from agent_rl.errors import UserError


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", 0),
        ("temperature", -0.1),
        ("temperature", float("inf")),
        ("temperature", float("nan")),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_k", -1),
        ("min_p", 1.5),
        ("min_tokens", 9),
        ("stop_token_ids", (3, -1)),
        ("stop", ("a", "")),
        ("stop", "text"),
    ],
)
def test_a_value_out_of_range_is_named_in_one_line(field, value):
    with pytest.raises(UserError, match=f"^sampling: {field} is .*; it must be [^\n]*$"):
        Sampling(**{"max_tokens": 8, field: value})


def test_importing_the_package_loads_no_torch():
    code = "import sys, agent_rl.engines; sys.exit('torch' in sys.modules)"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}, check=False
        ).returncode
        == 0
    )


def test_an_unknown_name_is_an_attribute_error():
    import agent_rl.engines

    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = agent_rl.engines.Nothing
