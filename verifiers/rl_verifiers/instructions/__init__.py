"""Constraints on a response that a program can check: IFEval, IFBench and IFTrain.

:func:`instructions_verifier` scores a response against the constraints of its row;
:func:`describe` states one in English; :func:`known` lists them.
"""

from rl_verifiers.instructions import (
    ifbench_count,
    ifbench_custom,
    ifbench_format,
    ifbench_words,
    ifeval,
    training,
)
from rl_verifiers.instructions.constraint import Constraint, known
from rl_verifiers.instructions.verifier import (
    Instructions,
    describe,
    follows,
    instructions_verifier,
)

SETS = (ifeval, ifbench_count, ifbench_words, ifbench_format, ifbench_custom, training)
"""The modules that define the constraints."""

__all__ = [
    "SETS",
    "Constraint",
    "Instructions",
    "describe",
    "follows",
    "instructions_verifier",
    "known",
]
