"""Bounded Newton minimiser: numbers in, numbers out; knows nothing about likelihoods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

_MAX_HALVINGS = 40
_SUFFICIENT_DECREASE = 1e-4


@dataclass(frozen=True, kw_only=True)
class Expansion:
    """A function at a point: value, gradient, Hessian, and a Hessian that is never negative (such as Gauss-Newton's).

    All finite, or the value is infinite and the rest is not to be used.
    """

    value: float
    gradient: Array
    hessian: Array
    safe_hessian: Array


@dataclass(frozen=True, kw_only=True)
class Minimum:
    """Where the minimiser stopped. decrease_left: how much lower the quadratic model says that the minimum is."""

    x: Array
    expansion: Expansion
    decrease_left: float
    converged: bool
    iterations: int


def box_quadratic_step(gradient: Array, hessian: Array, lower: Array, upper: Array) -> Array | None:
    """The step d with lower <= d <= upper that minimises gradient.d + d.hessian.d/2, or None if hessian is not positive.

    Projected Newton with an active set (D. P. Bertsekas, SIAM J. Control Optim. 20 (1982) 221).
    lower <= 0 <= upper. The hessian should be scaled to have ones on its diagonal.
    """
    step = np.zeros_like(gradient)
    for _ in range(50 + len(gradient)):
        slope = gradient + hessian @ step
        free = ~(((step <= lower) & (slope >= 0.0)) | ((step >= upper) & (slope <= 0.0)))
        if not free.any():
            break
        try:
            factor = np.linalg.cholesky(hessian[np.ix_(free, free)])
        except np.linalg.LinAlgError:
            return None
        newton = np.zeros_like(step)
        newton[free] = -np.linalg.solve(factor.T, np.linalg.solve(factor, slope[free]))
        gain = -float(slope @ newton)
        if gain <= 1e-20:
            break
        length = 1.0
        for _ in range(_MAX_HALVINGS):
            trial = np.clip(step + length * newton, lower, upper)
            move = trial - step
            change = float(slope @ move) + 0.5 * float(move @ hessian @ move)
            if change <= _SUFFICIENT_DECREASE * float(slope @ move):
                break
            length *= 0.5
        else:
            break
        step = trial
        if -change <= 1e-12 * -(float(gradient @ step) + 0.5 * float(step @ hessian @ step)):
            break
    return step


def minimise(
    expand: Callable[[Array], Expansion],
    value: Callable[[Array], float],
    start: Array,
    lower: Array,
    upper: Array,
    *,
    tolerance: float,
    loose_tolerance: float,
    max_iterations: int = 100,
) -> Minimum:
    """Minimise within bounds. Stops when the quadratic model promises less than `tolerance`.

    Where rounding stops it earlier, it has converged if what is left is below `loose_tolerance`.
    """
    x = np.clip(start, lower, upper)
    here = expand(x)
    left = np.inf
    if not np.isfinite(here.value):
        return Minimum(x=x, expansion=here, decrease_left=left, converged=False, iterations=0)
    for iteration in range(1, max_iterations + 1):
        moved = False
        # first the true Hessian; where that is not positive or leads nowhere, the safe one, then more and more damped
        for hessian, damping in (
            (here.hessian, 1e-11),
            (here.safe_hessian, 1e-9),
            (here.safe_hessian, 1e-2),
            (here.safe_hessian, 1e2),
        ):
            diagonal = np.diag(hessian)
            usable = diagonal > 0.0
            if hessian is here.hessian and not usable.all():
                continue
            scale = np.divide(1.0, np.sqrt(np.abs(diagonal)), out=np.ones_like(diagonal), where=usable)
            scaled = hessian * np.outer(scale, scale)
            scaled[np.diag_indices_from(scaled)] += damping
            gradient = here.gradient * scale
            step = box_quadratic_step(gradient, scaled, (lower - x) / scale, (upper - x) / scale)
            if step is None:
                continue
            decrease = -(float(gradient @ step) + 0.5 * float(step @ scaled @ step))
            if damping < 1e-3:
                left = decrease
                if decrease <= tolerance:
                    return Minimum(x=x, expansion=here, decrease_left=left, converged=True, iterations=iteration)
            move = step * scale
            noise = 1e-14 * (1.0 + abs(here.value))
            length = 1.0
            for _ in range(_MAX_HALVINGS):
                trial = np.clip(x + length * move, lower, upper)
                if value(trial) <= here.value - _SUFFICIENT_DECREASE * length * decrease + noise:
                    moved = True
                    break
                length *= 0.5
                if length * decrease <= noise:
                    break
            if moved:
                break
        if not moved:
            break
        there = expand(trial)
        if not np.isfinite(there.value):
            break
        x, here = trial, there
    return Minimum(x=x, expansion=here, decrease_left=left, converged=left <= loose_tolerance, iterations=iteration)
