"""Bayesian upper limits of a model with few nuisance parameters: the whole limit in one kernel.

Where the POI scales samples, and does nothing else, the expected events are mu s(theta) + b(theta). So s and b are worked
out once at each point of a grid in the nuisance parameters theta, and the likelihood is summed there for all mu at once.
With mu it is an entire function, of which a Legendre series on Gauss nodes is soon exact; so is the integral of the
series, and the limit is where that reaches the confidence level.

In theta the grid is the product of one rule per axis: the midpoint rule where the posterior dies out on both sides, for
which nothing is better, and Gauss-Legendre where a bound cuts it or interpolation changes its form. The first, coarse
grid finds out how far the posterior reaches; finer ones follow until they agree.
"""

import math

import numpy as np
import numpy.typing as npt

from modelbuilder.inference._fit import CONVERGED, fit
from modelbuilder.inference._model import (
    FIXED,
    HIGHEST,
    INITIAL,
    LOWEST,
    SIDE,
    VALUE,
    Data,
    Model,
    Work,
    evaluate,
    make_work,
    unpack,
)
from modelbuilder.inference._posterior_grid import (
    AXIS_NODES,
    MAX_AXES,
    MAX_NODES,
    integrate,
    list_signals,
    set_axis,
    set_breaks,
)
from modelbuilder.kinematics._compile import inlined, inner, kernel

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

OK, DIFFICULT = 0, 1  # DIFFICULT: the careful, slower way has to be tried
N_RESULTS = 3  # limit, estimated relative error, points of all grids in the nuisance parameters

_POI_FIXED, _POI_FREE = np.bool_(True), np.bool_(False)
_TOLERANCE = 1e-9
_FAR = 34.0  # of -2 ln L above its minimum: where the first grid ends
_ENOUGH = 1e-8  # of the largest density: where there is more at an end, the range grows ...
_ENOUGH_MU = 2e-8  # ... and in mu, where there is this part of the probability above the limit ...
_NEGLIGIBLE = 0.01  # ... and where there is less than this part of it, the range shrinks
_LARGEST = 600.0  # of -2 ln L at its minimum: of a worse fit the probabilities are too small for a double
_MOST_EVENTS = 1e6
_MU_NODES = 24  # at first; multiples of eight, for the width of vectors
_SERIES = 1e-7  # of the last terms of a series against the first
_ROUGH = 1e-3  # above that, far more terms are needed
_ACCURACY = 2e-7  # of the limit, as estimated
_MOST_RETRIES = 6
_MOST_POINTS = 6_000_000  # in theta and mu, of one grid
_SCALES = np.array([0.4, 0.6, 0.85, 1.2, 1.7, 2.4])  # of the number of nodes


# ---------------------------------------------------------------------------------------------------- first ranges


@inner
def _add_reach(
    m: Model, w: Work, x: Floats, axes: Integers, distance: float, low: Floats, high: Floats, matrix: Floats
) -> None:
    """Widens [low, high] to `distance` standard deviations around `x`, from the Hessian of the last fit."""
    n, f, i = len(axes), m.floats, m.integers
    for a in range(n):
        for b in range(n):
            matrix[a, b] = 0.5 * w.hessian[axes[a], axes[b]]
            matrix[a, n + b] = 1.0 if a == b else 0.0
        room = f[i[HIGHEST] + axes[a]] - f[i[LOWEST] + axes[a]]
        matrix[a, a] = max(matrix[a, a], 1.0 / (room * room)) * (1.0 + 1e-9)
    for a in range(n):  # Gauss and Jordan
        pivot = matrix[a, a]
        if not pivot > 0.0:
            pivot = 1e-12
        for b in range(2 * n):
            matrix[a, b] /= pivot
        for c in range(n):
            if c != a:
                factor = matrix[c, a]
                for b in range(2 * n):
                    matrix[c, b] -= factor * matrix[a, b]
    for a in range(n):
        p = axes[a]
        lowest, highest = f[i[LOWEST] + p], f[i[HIGHEST] + p]
        reach = distance * math.sqrt(min(max(matrix[a, n + a], 0.0), (highest - lowest) ** 2))
        low[a] = min(low[a], max(x[p] - reach, lowest))
        high[a] = max(high[a], min(x[p] + reach, highest))


@inner
def _walk(m: Model, w: Work, x: Floats, data: Data, best: float, p: int, start: float, bound: float) -> float:
    """From `start` on along one axis until nothing is left, or the bound is reached."""
    at, kept = start, x[p]
    for _ in range(60):
        if (at - bound) * (bound - kept) >= 0.0:
            at = bound
            break
        x[p] = at
        for k in range(m.sizes[0]):
            w.vectors[SIDE, k] = 1.0 if x[k] >= 0.0 else -1.0
        if not evaluate(m, w, x, data, VALUE) - best < _FAR:
            break
        at = kept + 1.4 * (at - kept)
    x[p] = kept
    return at


@inner
def _end_of_mu(m: Model, w: Work, data: Data, x: Floats, best: float, mu: float, step: float, far: float) -> float:
    """A distance from `mu`, in the direction of `step`, at which nothing is left; NaN if none is found."""
    poi = m.sizes[1]
    trial = x.copy()
    for _ in range(60):
        trial[:] = x
        trial[poi] = mu + step
        value, status = fit(m, w, trial, data, _POI_FIXED, mu + step, _TOLERANCE, math.inf)
        rise = value - best
        if status == CONVERGED and far <= rise <= 4.0 * far:
            return step
        if not rise < math.inf:
            step *= 0.5
        elif rise > 4.0 * far:
            step *= math.sqrt(1.5 * far / rise)
        else:
            step *= min(1.05 * math.sqrt(1.2 * far / max(rise, 1e-3)), 30.0)
        if not 1e-30 < abs(step) < 1e30:
            break
    return math.nan


@inner
def _first_ranges(
    m: Model, w: Work, data: Data, axes: Integers, far: float, low: Floats, high: Floats
) -> tuple[float, float, float, bool]:
    """Lowest -2 ln L, the range of mu, and success; the ranges of theta into `low` and `high`.

    far: of -2 ln L above its minimum, where mu ends.
    """
    n, poi, i, f = m.sizes[0], m.sizes[1], m.integers, m.floats
    x = np.empty(n)
    for p in range(n):
        x[p] = f[i[INITIAL] + p]
    x[poi] = max(x[poi], 0.0)
    best, status = fit(m, w, x, data, _POI_FREE, 0.0, _TOLERANCE, math.inf)
    if status != CONVERGED or not best < _LARGEST or w.counters[4] > 0:
        return 0.0, 0.0, 0.0, False
    mu = x[poi]
    matrix = np.empty((MAX_AXES, 2 * MAX_AXES))
    for a in range(len(axes)):
        low[a] = high[a] = x[axes[a]]
    reach = math.sqrt(_FAR)
    curvature, slope = w.hessian[poi, poi], w.gradient[poi]
    _add_reach(m, w, x, axes, reach, low, high, matrix)
    for a in range(len(axes)):
        p = axes[a]
        low[a] = _walk(m, w, x, data, best, p, low[a], f[i[LOWEST] + p])
        high[a] = _walk(m, w, x, data, best, p, high[a], f[i[HIGHEST] + p])
    # the root of `far` times the standard deviation; for a straight line, where it has risen by that
    step = math.sqrt(2.0 * far / curvature) if curvature > 0.0 else math.inf
    if slope > 0.0:
        step = min(step, far / slope)
    if step == math.inf:
        step = max(mu, 1.0)
    above = _end_of_mu(m, w, data, x, best, mu, step, far)
    if not above > 0.0:
        return best, 0.0, 0.0, False
    below = mu
    if mu > 0.5 * above:
        trial = x.copy()
        trial[poi] = 0.0
        value, status = fit(m, w, trial, data, _POI_FIXED, 0.0, _TOLERANCE, math.inf)
        if status != CONVERGED or value - best > far:
            below = -_end_of_mu(m, w, data, x, best, mu, -min(step, mu), far)
            if not below > 0.0:
                return best, 0.0, 0.0, False
            below = min(below, mu)
    start, end = mu - below, mu + above
    trial = x.copy()
    if len(axes) > 0:
        for q in range(3):
            value_mu = start + (end - start) * q / 3.0
            trial[poi] = value_mu
            value, status = fit(m, w, trial, data, _POI_FIXED, value_mu, _TOLERANCE, math.inf)
            if status != CONVERGED:
                trial[:] = x
            elif value - best < _FAR:
                _add_reach(m, w, trial, axes, math.sqrt(max(_FAR - max(value - best, 0.0), 0.0)), low, high, matrix)
    return best, start, end, w.counters[4] == 0


@inlined
def _at_end(end: float, x0: float, y0: float, x1: float, y1: float) -> float:
    """A density at the end of its range, from its two last nodes: ln of it is a straight line, or falls faster."""
    if not (y0 > 0.0 and y1 > y0):
        return y0
    return y0 * math.exp(-math.log(y1 / y0) * (x0 - end) / (x1 - x0))


@inner
def _adapt_range(
    x: Floats, density: Floats, n: int, low: float, high: float, lowest: float, highest: float, enough: float
) -> tuple[float, float, bool]:
    """A range that fits the density at the nodes, and whether the last one was too short."""
    largest = 0.0
    for k in range(n):
        largest = max(largest, density[k])
    new_low, new_high, short = low, high, False
    if low > lowest and _at_end(low, x[0], density[0], x[1], density[1]) > enough * largest:
        new_low, short = max(low - 0.25 * (high - low), lowest), True
    elif density[0] < _NEGLIGIBLE * enough * largest:
        for k in range(n - 1):
            if density[k + 1] >= _NEGLIGIBLE * enough * largest:
                new_low = x[k]
                break
    if high < highest and _at_end(high, x[n - 1], density[n - 1], x[n - 2], density[n - 2]) > enough * largest:
        new_high, short = min(high + 0.25 * (high - low), highest), True
    elif density[n - 1] < _NEGLIGIBLE * enough * largest:
        for k in range(n - 1, 0, -1):
            if density[k - 1] >= _NEGLIGIBLE * enough * largest:
                new_high = x[k]
                break
    return new_low, new_high, short


# ------------------------------------------------------------------------------------------------------------ the limit


@inner
def _quantile(density: Floats, x: Floats, weights: Floats, n: int, level: float) -> tuple[float, float]:
    """Where, between -1 and 1, the integral of the Legendre series of `density` reaches the share `level` of all.

    x, weights: of Gauss and Legendre.    Second: the last terms of the series against the first.
    """
    series = np.zeros(n)
    for k in range(n):
        before, now = 0.0, 1.0
        term = weights[k] * density[k]
        for j in range(n):
            series[j] += (j + 0.5) * term * now
            before, now = now, ((2 * j + 1) * x[k] * now - j * before) / (j + 1)
    if not series[0] > 0.0 or not series[0] < math.inf:
        return math.nan, math.inf
    tail = (abs(series[n - 1]) + abs(series[n - 2]) + abs(series[n - 3])) / series[0]
    target = 2.0 * level * series[0]
    left, right, z = -1.0, 1.0, 0.0
    for _ in range(200):
        before, now = 1.0, z
        integral, height = series[0] * (z + 1.0), series[0]
        for j in range(1, n):
            after = ((2 * j + 1) * z * now - j * before) / (j + 1)
            integral += series[j] * (after - before) / (2 * j + 1)
            height += series[j] * now
            before, now = now, after
        if integral < target:
            left = z
        else:
            right = z
        new = z - (integral - target) / height if height > 0.0 else math.nan
        if not left < new < right:
            new = 0.5 * (left + right)
        if abs(new - z) < 1e-14 or right - left < 1e-14:
            return new, tail
        z = new
    return math.nan, math.inf


@inner
def posterior_limit(
    m: Model, data: Data, rooted: bool, level: float, table: Floats, table_weights: Floats, out: Floats
) -> int:
    """The upper limit and its estimated relative error, into `out`; OK or DIFFICULT.

    rooted: the prior is 1/sqrt(mu), so that sqrt(mu) is the variable.
    table, table_weights: Gauss-Legendre nodes in row n for n nodes.
    """
    out[:] = math.nan
    i, f, poi = m.integers, m.floats, m.sizes[1]
    if m.sizes[3] > 0:
        return DIFFICULT
    is_signal = np.zeros(m.sizes[4], dtype=np.int64)
    if not list_signals(m, is_signal):
        return DIFFICULT
    n_axes = 0
    all_axes = np.empty(m.sizes[0], dtype=np.int64)
    for p in range(m.sizes[0]):
        if p != poi and not i[i[FIXED] + p] and f[i[HIGHEST] + p] > f[i[LOWEST] + p]:
            all_axes[n_axes] = p
            n_axes += 1
    if n_axes > MAX_AXES:
        return DIFFICULT
    axes = all_axes[:n_axes]
    for b in range(m.sizes[2]):
        if data.counts[b] > _MOST_EVENTS:
            return DIFFICULT
    w = make_work(m)
    low, high = np.zeros(MAX_AXES), np.zeros(MAX_AXES)
    best, mu_low, mu_high, success = _first_ranges(
        m, w, data, axes, -2.0 * math.log(_ENOUGH_MU * (1.0 - level)), low, high
    )
    if not success:
        return DIFFICULT
    t_low, t_high = (math.sqrt(mu_low), math.sqrt(mu_high)) if rooted else (mu_low, mu_high)
    breaks = np.zeros(MAX_AXES, dtype=np.int64)
    set_breaks(m, axes, breaks)
    nodes, weights = np.zeros((MAX_AXES, AXIS_NODES)), np.zeros((MAX_AXES, AXIS_NODES))
    marginals = np.zeros((MAX_AXES, AXIS_NODES))
    sizes = np.ones(MAX_AXES, dtype=np.int64)
    mus, mu_weights, density = np.empty(MAX_NODES), np.empty(MAX_NODES), np.empty(MAX_NODES)
    t, heights = np.empty(MAX_NODES), np.empty(AXIS_NODES)
    n_mus, points = _MU_NODES, 0.0
    before, change, step, retries = math.nan, math.nan, 0, 0
    while step < len(_SCALES):
        n_points = 1
        for a in range(n_axes):
            p = axes[a]
            cut = low[a] <= f[i[LOWEST] + p] or high[a] >= f[i[HIGHEST] + p]
            sizes[a] = set_axis(
                low[a], high[a], cut, breaks[a], _SCALES[step], table, table_weights, nodes[a], weights[a]
            )
            n_points *= sizes[a]
        if n_points == 0 or n_points * n_mus > _MOST_POINTS:
            break
        points += n_points
        for k in range(n_mus):
            t[k] = 0.5 * (t_low + t_high) + 0.5 * (t_high - t_low) * table[n_mus, k]
            mus[k] = t[k] * t[k] if rooted else t[k]
            mu_weights[k] = table_weights[n_mus, k]
        integrate(m, w, data, axes, is_signal, best, nodes, weights, sizes, mus, mu_weights, n_mus, density, marginals)
        z, tail = _quantile(density, table[n_mus], mu_weights, n_mus, level)
        if not tail < math.inf:
            return DIFFICULT
        at = 0.5 * (t_low + t_high) + 0.5 * (t_high - t_low) * z
        limit = at * at if rooted else at
        # what the next grid will be
        t_low, t_high, short = _adapt_range(t, density, n_mus, t_low, t_high, 0.0, math.inf, _ENOUGH_MU * (1.0 - level))
        for a in range(n_axes):
            p = axes[a]
            for k in range(sizes[a]):
                heights[k] = marginals[a, k] / weights[a, k]
            low[a], high[a], this_short = _adapt_range(
                nodes[a], heights, sizes[a], low[a], high[a], f[i[LOWEST] + p], f[i[HIGHEST] + p], _ENOUGH
            )
            short = short or this_short
        too_few = tail > _SERIES
        if too_few:
            n_mus = min((8 * n_mus // 3 if tail > _ROUGH else 4 * n_mus // 3) // 8 * 8, MAX_NODES)
        if (short or (tail > _ROUGH and step == 0)) and retries < _MOST_RETRIES:
            retries += 1
            continue
        step += 1
        last = change
        change = abs(limit / before - 1.0)
        before = limit
        if short or too_few or math.isnan(last):
            continue
        error = max(change * min(change / max(last, 1e-300), 1.0), tail)
        if error < _ACCURACY:
            out[0], out[1], out[2] = limit, error, points
            return OK
    return DIFFICULT


@kernel
def posteriors_packed(
    integers: Integers,
    integer_starts: Integers,
    floats: Floats,
    float_starts: Integers,
    counts: Floats,
    count_starts: Integers,
    auxiliary: Floats,
    auxiliary_starts: Integers,
    rooted: bool,
    level: float,
    table: Floats,
    table_weights: Floats,
    first: int,
    last: int,
    results: Floats,
    statuses: Integers,
) -> None:
    """Limits of the models `first` to `last` (excluded) of many that lie one behind the other."""
    for k in range(first, last):
        m = unpack(integers[integer_starts[k] : integer_starts[k + 1]], floats[float_starts[k] : float_starts[k + 1]])
        data = Data(
            counts[count_starts[k] : count_starts[k + 1]],
            auxiliary[auxiliary_starts[k] : auxiliary_starts[k + 1]],
            np.zeros(0),
        )
        statuses[k] = posterior_limit(m, data, rooted, level, table, table_weights, results[k])
