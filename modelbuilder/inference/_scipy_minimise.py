"""The second minimiser of the retry ladder: slower, of another kind, and asked only for a better start."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from modelbuilder.inference._newton import Expansion

    Array = NDArray[np.float64]

_FORBIDDEN = 1e30  # stands for infinity: L-BFGS-B cannot take that


def rough_minimum(
    expand: Callable[[Array], Expansion], value: Callable[[Array], float], start: Array, lower: Array, upper: Array
) -> Array:
    """Where L-BFGS-B ends; `start` if that is not better."""
    if not len(start):
        return start
    from scipy.optimize import Bounds, minimize

    def objective(x: Array) -> tuple[float, Array]:
        here = expand(x)
        if not np.isfinite(here.value):
            return _FORBIDDEN, np.zeros_like(x)
        return here.value, here.gradient

    result = minimize(
        objective,
        start,
        method="L-BFGS-B",
        jac=True,
        bounds=Bounds(lower, upper),
        options={"maxiter": 500, "ftol": 0.0},
    )
    found = np.clip(np.asarray(result.x, dtype=float), lower, upper)
    return found if value(found) < value(start) else start
