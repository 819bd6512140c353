"""Doors from Python into the compiled likelihood: packed arrays in, arrays out."""

import math

import numpy as np
import numpy.typing as npt

from modelbuilder.inference._fit import CONVERGED, SURELY_LOWER, fit
from modelbuilder.inference._model import (
    AFFECTED,
    BIN_LOCAL,
    HESSIAN,
    REST,
    SIDE,
    VALUE,
    Data,
    evaluate,
    expect,
    make_work,
    unpack,
)
from modelbuilder.kinematics._compile import kernel

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@kernel
def evaluate_packed(
    integers: Integers,
    floats: Floats,
    counts: Floats,
    auxiliary: Floats,
    local_auxiliary: Floats,
    x: Floats,
    derivatives: bool,
    gradient: Floats,
    hessian: Floats,
    gamma: Floats,
) -> float:
    """`evaluate`, with its results copied into `gradient`, `hessian` and `gamma`."""
    m = unpack(integers, floats)
    w = make_work(m)
    for i in range(m.sizes[0]):
        w.vectors[SIDE, i] = 1.0 if x[i] >= 0.0 else -1.0
    value = evaluate(m, w, x, Data(counts, auxiliary, local_auxiliary), HESSIAN if derivatives else VALUE)
    if derivatives and value < math.inf:
        gradient[:] = w.gradient
        hessian[:, :] = w.hessian
    gamma[:] = w.gamma
    return value


@kernel
def expect_packed(integers: Integers, floats: Floats, x: Floats, gamma: Floats, yields: Floats) -> None:
    """Expected events of each bin at globals `x` and locals `gamma`."""
    m = unpack(integers, floats)
    w = make_work(m)
    expect(m, w, x)
    first = m.integers[BIN_LOCAL]
    for b in range(m.sizes[2]):
        yields[b] = w.bins[REST, b]
        for k in range(m.integers[first + b], m.integers[first + b + 1]):
            yields[b] += w.locals_[AFFECTED, k] * gamma[k]


@kernel
def fit_packed(
    integers: Integers,
    floats: Floats,
    counts: Floats,
    auxiliary: Floats,
    local_auxiliary: Floats,
    starts: Floats,
    poi_fixed: bool,
    poi_lower: float,
    tolerance: float,
    search: bool,
    x: Floats,
    gamma: Floats,
    gradient: Floats,
    counters: Integers,
) -> tuple[float, int]:
    """The first of the starts (rows) whose fit converges; else the lowest value found. Counters: fits, evaluations.

    search: fit from all starts, and from the lowest minimum once more, with bent parameters on other sides.
    Value, `gamma` and `gradient` are evaluated at the very `x` that comes back.
    """
    m = unpack(integers, floats)
    w = make_work(m)
    data = Data(counts, auxiliary, local_auxiliary)
    best, best_status = math.inf, -1
    trial = np.empty(m.sizes[0])
    w.counters[3] = not search
    for row in range(starts.shape[0]):
        trial[:] = starts[row]
        known = best if best_status == CONVERGED else math.inf
        value, status = fit(m, w, trial, data, poi_fixed, poi_lower, tolerance, known)
        converged = status == CONVERGED
        if not search and converged:
            best, best_status = value, status
            x[:] = trial
            break
        # what has not converged, but is lower, shows that the minimum is elsewhere
        if best_status < 0 or value < best - (SURELY_LOWER if best_status == CONVERGED and not converged else 0.0):
            best, best_status = value, status
            x[:] = trial
    if search and best_status == CONVERGED:
        w.counters[3] = 1
        trial[:] = x
        value, status = fit(m, w, trial, data, poi_fixed, poi_lower, tolerance, math.inf)
        if value < best - (0.0 if status == CONVERGED else SURELY_LOWER):
            best_status = status
            x[:] = trial
    for i in range(m.sizes[0]):
        w.vectors[SIDE, i] = 1.0 if x[i] >= 0.0 else -1.0
    best = evaluate(m, w, x, data, HESSIAN)
    gamma[:] = w.gamma
    gradient[:] = w.gradient
    counters[:] = w.counters[:2]
    return best, best_status
