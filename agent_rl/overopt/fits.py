"""The functional forms of Gao et al. 2022, fitted to what was measured.

With ``d = sqrt(KL(policy || start))``: best-of-N ``R(d) = d (alpha - beta d)`` and reinforcement
learning ``R(d) = d (alpha - beta log d)``, where R is the gold reward above the start's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

FORMS: dict[str, Callable[[float], float]] = {
    "best_of_n": lambda d: d,
    "rl": math.log,
}
"""By what beta is multiplied in each form."""

FORMULAS = {"best_of_n": "d (alpha - beta d)", "rl": "d (alpha - beta log d)"}


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted curve.

    Attributes:
        form: ``rl`` or ``best_of_n``.
        alpha: Gain per sqrt(nat) at the start (rl: at d = 1).
        beta: How fast it is lost.
        rmse: Root mean square residual, in units of the gold reward.
        points: How many points it was fitted to; those at d = 0 say nothing and are left out.
        largest_d: The largest sqrt(KL) among them.
    """

    form: str
    alpha: float
    beta: float
    rmse: float
    points: int
    largest_d: float

    def gain(self, d: float) -> float:
        """The gold reward above the start's at sqrt(KL) ``d``."""
        return d * (self.alpha - self.beta * FORMS[self.form](d)) if d > 0 else 0.0

    @property
    def peak_d(self) -> float | None:
        """The sqrt(KL) of the highest gold reward; None where the curve has no peak."""
        if self.beta <= 0:
            return None
        if self.form == "best_of_n":
            return self.alpha / (2 * self.beta) if self.alpha > 0 else None
        exponent = self.alpha / self.beta - 1
        return math.exp(exponent) if exponent < 50 else None

    @property
    def is_seen(self) -> bool:
        """Whether the peak lies among the points; otherwise it is an extrapolation."""
        return self.peak_d is not None and self.peak_d <= self.largest_d


def fit(form: str, d: Sequence[float], gain: Sequence[float]) -> Fit | None:
    """Least squares; None where that says nothing.

    That is with fewer than three points at d > 0, all of them at one d, or a value not finite.

    Args:
        form: ``rl`` or ``best_of_n``.
        d: sqrt(KL) of each point.
        gain: Its gold reward above the start's.
    """
    points = [(x, y) for x, y in zip(d, gain, strict=True) if x > 0]
    x = np.array([point[0] for point in points])
    y = np.array([point[1] for point in points])
    finite = bool(np.isfinite(x).all() and np.isfinite(y).all())
    if len(points) < 3 or not finite or np.ptp(x) < 1e-9:
        return None
    basis = np.stack([x, -x * np.array([FORMS[form](value) for value in x])], axis=1)
    (alpha, beta), *_ = np.linalg.lstsq(basis, y, rcond=None)
    left = y - basis @ np.array([alpha, beta])
    rmse = float(np.sqrt(np.mean(left**2)))
    return Fit(form, float(alpha), float(beta), rmse, len(points), float(x.max()))
