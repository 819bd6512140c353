"""Toy data of a compiled model, and test statistics of them.

Toy i of a stream is a pure function of (key, i): each datum has its own draw blocks, numbered as pyhf numbers the data.
So a toy is the same whatever was thrown before it, by whichever thread.
"""

import math

import numpy as np
import numpy.typing as npt

from modelbuilder.inference._binwise import NORMAL, POISSON
from modelbuilder.inference._fit import CONVERGED, _quadratic_step, fit
from modelbuilder.inference._model import (
    AFFECTED,
    BIN_LOCAL,
    KIND,
    LOCAL_KIND,
    LOCAL_WIDTH,
    LOWER,
    REST,
    STEP,
    UPPER,
    WIDTH,
    Data,
    Model,
    Work,
    expect,
    make_work,
    unpack,
)
from modelbuilder.kinematics._compile import inlined, inner, kernel
from modelbuilder.kinematics._random import uniforms

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]

_POI_FIXED, _POI_FREE = np.bool_(True), np.bool_(False)
_INVERSION = 30.0  # events: below, one uniform number decides, and a toy moves little when its mean does
_RIDGE = 1e-11  # as in `_fit`
_UNEQUAL = 1e-6  # of -2 ln L: by so much may a fit of all parameters lie above one with fewer of them


@inlined
def poisson(mean: float, index: np.uint64, datum: int, n_data: int, key0: np.uint64, key1: np.uint64) -> float:
    """A Poisson number: by inversion for a small mean, else by transformed rejection.

    W. Hörmann, "The transformed rejection method for generating Poisson random variables",
    Insurance: Mathematics and Economics 12 (1993) 39, algorithm PTRS.
    """
    if not mean > 0.0:
        return 0.0
    if mean < _INVERSION:
        u, _ = uniforms(index, np.uint64(datum), key0, key1)
        n, term = 0.0, math.exp(-mean)
        while u > term and n < 400.0:
            u -= term
            n += 1.0
            term *= mean / n
        return n
    b = 0.931 + 2.53 * math.sqrt(mean)
    a = -0.059 + 0.02483 * b
    inverse_alpha = 1.1239 + 1.1328 / (b - 3.4)
    squeeze = 0.9277 - 3.6224 / (b - 2.0)
    log_mean = math.log(mean)
    for attempt in range(1000):
        u, v = uniforms(index, np.uint64(datum + attempt * n_data), key0, key1)
        u -= 0.5
        us = 0.5 - abs(u)
        n = math.floor((2.0 * a / us + b) * u + mean + 0.43)
        if us >= 0.07 and v <= squeeze:
            return n
        if n < 0.0 or (us < 0.013 and v > us):
            continue
        if math.log(v * inverse_alpha / (a / (us * us) + b)) <= n * log_mean - mean - math.lgamma(n + 1.0):
            return n
    return math.nan


@inlined
def normal(index: np.uint64, datum: int, key0: np.uint64, key1: np.uint64) -> float:
    """A standard normal number: Box and Muller."""
    u, v = uniforms(index, np.uint64(datum), key0, key1)
    return math.sqrt(-2.0 * math.log(u)) * math.cos(2.0 * math.pi * v)


@inner
def _set_rates(m: Model, w: Work, truth: Floats, local_truth: Floats) -> None:
    """Expected events of each bin into `rate`."""
    expect(m, w, truth)
    first = m.integers[BIN_LOCAL]
    for b in range(m.sizes[2]):
        total = w.bins[REST, b]
        for k in range(m.integers[first + b], m.integers[first + b + 1]):
            total += w.locals_[AFFECTED, k] * local_truth[k]
        w.rate[b] = max(total, 0.0)


@inner
def _throw(
    m: Model,
    rates: Floats,
    truth: Floats,
    local_truth: Floats,
    global_data: Integers,
    local_data: Integers,
    n_data: int,
    index: np.uint64,
    key0: np.uint64,
    key1: np.uint64,
    data: Data,
) -> None:
    """The toy `index`, into `data`: counts of all bins, and what was measured of each constrained parameter."""
    i, f, n_bins = m.integers, m.floats, m.sizes[2]
    for b in range(n_bins):
        data.counts[b] = poisson(rates[b], index, b, n_data, key0, key1)
    for k in range(m.sizes[3]):
        kind, width, datum = i[i[LOCAL_KIND] + k], f[i[LOCAL_WIDTH] + k], n_bins + local_data[k]
        if kind == NORMAL:
            data.local_auxiliary[k] = local_truth[k] + width * normal(index, datum, key0, key1)
        elif kind == POISSON:
            data.local_auxiliary[k] = poisson(width * local_truth[k], index, datum, n_data, key0, key1)
    for p in range(m.sizes[0]):
        kind, width, datum = i[i[KIND] + p], f[i[WIDTH] + p], n_bins + global_data[p]
        if kind == NORMAL:
            data.auxiliary[p] = truth[p] + width * normal(index, datum, key0, key1)
        elif kind == POISSON:
            data.auxiliary[p] = poisson(width * truth[p], index, datum, n_data, key0, key1)


@inner
def _minimum(
    m: Model, w: Work, x: Floats, data: Data, starts: Floats, poi_fixed: bool | np.bool_, poi: float, tolerance: float
) -> tuple[float, bool]:
    """The fit from the first start that converges; NaN where none does. poi: its value, or its lower bound."""
    for row in range(starts.shape[0]):
        x[:] = starts[row]
        if poi_fixed:
            x[m.sizes[1]] = poi
        value, status = fit(m, w, x, data, poi_fixed, poi, tolerance, math.inf)
        if status == CONVERGED:
            return value, True
    return math.nan, False


@inner
def _set_free_start(m: Model, w: Work, x: Floats, poi_lower: float, start: Floats) -> None:
    """Where a Newton step from the fit at a fixed POI leads that frees it; its last Hessian is good enough for that."""
    poi = m.sizes[1]
    w.vectors[LOWER, poi], w.vectors[UPPER, poi] = min(poi_lower, x[poi]), math.inf
    gain, _ = _quadratic_step(m, w, x, _RIDGE)
    start[:] = x
    if gain > 0.0:
        start += w.vectors[STEP]


@inner
def _statistic(
    m: Model,
    w: Work,
    data: Data,
    side: int,
    mu: float,
    poi_lower: float,
    tolerance: float,
    starts: Floats,
    x: Floats,
    keep: bool,
    free_value: float,
    free_poi: float,
) -> tuple[float, float, float]:
    """The test statistic at `mu`; value and POI of the free fit, which are taken as known unless they are NaN.

    keep: the free fit is wanted, even where the statistic does not need it.
    """
    poi = m.sizes[1]
    known = not math.isnan(free_value)
    if known and side * (free_poi - mu) > 0.0:
        return 0.0, free_value, free_poi
    fixed_value, found = _minimum(m, w, x, data, starts[1:], _POI_FIXED, mu, tolerance)
    if not found:
        return math.nan, free_value, free_poi
    if known and free_value <= fixed_value + _UNEQUAL:
        return max(fixed_value - free_value, 0.0), free_value, free_poi
    if side * w.gradient[poi] < 0.0 and not keep:  # the best fit is on the side where this is agreement
        return 0.0, free_value, free_poi
    _set_free_start(m, w, x, poi_lower, starts[0])
    free_value, found = _minimum(m, w, x, data, starts, _POI_FREE, poi_lower, tolerance)
    if found and free_value > fixed_value + _UNEQUAL:  # a lesser minimum: once more from where it is known to be lower
        fixed_value, found = _minimum(m, w, x, data, starts[1:], _POI_FIXED, mu, tolerance)
        starts[0] = x
        free_value, found = _minimum(m, w, x, data, starts, _POI_FREE, poi_lower, tolerance)
    if not found or free_value > fixed_value + _UNEQUAL:
        return math.nan, math.nan, math.nan
    free_poi = x[poi]
    if side * (free_poi - mu) > 0.0:
        return 0.0, free_value, free_poi
    return max(fixed_value - free_value, 0.0), free_value, free_poi


@kernel
def toys_packed(
    integers: Integers,
    floats: Floats,
    truth: Floats,
    local_truth: Floats,
    global_data: Integers,
    local_data: Integers,
    n_data: int,
    key: Keys,
    first: int,
    side: int,
    mu: float,
    poi_lower: float,
    tolerance: float,
    starts: Floats,
    keep: bool,
    statistics: Floats,
    free_values: Floats,
    free_pois: Floats,
    counters: Integers,
) -> None:
    """Test statistics at `mu` of toys from `first` on, as many as there is room for; NaN where no fit converges.

    side: where the best fit agrees with mu: above it (1, for limits), below (-1, for discoveries) or nowhere else (0).
    starts: points to begin a fit at, tried in turn; shape (n_starts, n_globals). The best first one has the POI at `mu`.
    free_values, free_pois: of the free fits; those that are not NaN are used, others filled in if `keep`.
    """
    m = unpack(integers, floats)
    w = make_work(m)
    data = Data(np.zeros(m.sizes[2]), np.zeros(m.sizes[0]), np.zeros(m.sizes[3]))
    _set_rates(m, w, truth, local_truth)
    rates = w.rate.copy()
    x = truth.copy()
    rows = np.empty((starts.shape[0] + 1, m.sizes[0]))
    rows[1:] = starts
    for i in range(len(statistics)):
        index = np.uint64(first + i)
        _throw(m, rates, truth, local_truth, global_data, local_data, n_data, index, key[0], key[1], data)
        statistics[i], free_values[i], free_pois[i] = _statistic(
            m, w, data, side, mu, poi_lower, tolerance, rows, x, keep, free_values[i], free_pois[i]
        )
    counters[:] = w.counters[:2]


@kernel
def throw_packed(
    integers: Integers,
    floats: Floats,
    truth: Floats,
    local_truth: Floats,
    global_data: Integers,
    local_data: Integers,
    n_data: int,
    key: Keys,
    first: int,
    counts: Floats,
    auxiliary: Floats,
    local_auxiliary: Floats,
) -> None:
    """The data of toys from `first` on, one per row."""
    m = unpack(integers, floats)
    w = make_work(m)
    _set_rates(m, w, truth, local_truth)
    rates = w.rate.copy()
    for i in range(counts.shape[0]):
        data = Data(counts[i], auxiliary[i], local_auxiliary[i])
        index = np.uint64(first + i)
        _throw(m, rates, truth, local_truth, global_data, local_data, n_data, index, key[0], key[1], data)


@kernel
def given_packed(
    integers: Integers,
    floats: Floats,
    counts: Floats,
    auxiliary: Floats,
    local_auxiliary: Floats,
    side: int,
    mu: float,
    poi_lower: float,
    tolerance: float,
    starts: Floats,
    statistics: Floats,
) -> None:
    """Test statistics at `mu` of the data in each row; NaN where no fit converges."""
    m = unpack(integers, floats)
    w = make_work(m)
    x = starts[0].copy()
    rows = np.empty((starts.shape[0] + 1, m.sizes[0]))
    rows[1:] = starts
    for i in range(len(statistics)):
        data = Data(counts[i], auxiliary[i], local_auxiliary[i])
        statistics[i], _, _ = _statistic(m, w, data, side, mu, poi_lower, tolerance, rows, x, False, math.nan, math.nan)
