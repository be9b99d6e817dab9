"""Our verifiers in other people's trainers, and their reward functions here.

:func:`trl_reward` and :func:`verl_compute_score` export; :func:`from_trl` and :func:`from_verl`
import; :func:`compute_score`, :func:`acompute_score` and :func:`compute_scores` are what a verl
configuration names. Run as a program, this file prints where it is, for
``custom_reward_function.path``: ``python -m rl_verifiers.interop``.
"""

from rl_verifiers.interop_trl import FromTrl, TrlReward, from_trl, trl_reward
from rl_verifiers.interop_verl import (
    FromVerl,
    UnscoredError,
    VerlScore,
    acompute_score,
    compute_score,
    compute_scores,
    from_verl,
    verl_compute_score,
)

__all__ = [
    "FromTrl",
    "FromVerl",
    "TrlReward",
    "UnscoredError",
    "VerlScore",
    "acompute_score",
    "compute_score",
    "compute_scores",
    "from_trl",
    "from_verl",
    "trl_reward",
    "verl_compute_score",
]

if __name__ == "__main__":
    print(__file__)
