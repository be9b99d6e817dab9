"""Problems that take a computer: each with its exact answer and a program that prints it.

The answer is worked out on the host as the problem is made; the program is another way to it, for
demonstrations.
"""

from rl_envs.text.python_problems.numbers import (
    digits,
    linear_system,
    number_theory,
    polynomials,
    recurrence,
)
from rl_envs.text.python_problems.problem import Family, Problem
from rl_envs.text.python_problems.rules import counting, dates, paths, simulation
from rl_envs.text.python_problems.tables import groups, statistics, strings

FAMILIES: dict[str, Family] = {
    "counting": counting,
    "dates": dates,
    "digits": digits,
    "groups": groups,
    "linear_system": linear_system,
    "number_theory": number_theory,
    "paths": paths,
    "polynomials": polynomials,
    "recurrence": recurrence,
    "simulation": simulation,
    "statistics": statistics,
    "strings": strings,
}

__all__ = ["FAMILIES", "Family", "Problem"]
