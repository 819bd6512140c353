"""Observed and expected upper limits of a compiled model, from the asymptotic formulas of arXiv:1007.1727.

The same definitions as asymptotic.py, which is the place to read them; here every fit starts on the tangent of the
profile at the last one, and a limit is read off a cubic through the last two points and their slopes (by the envelope
theorem the slope of the profile is the partial derivative by the POI).
"""

import math

import numpy as np
import numpy.typing as npt

from modelbuilder.inference._binwise import NORMAL, POISSON
from modelbuilder.inference._fit import CONVERGED, factorise, fit, list_free, solve
from modelbuilder.inference._model import (
    AFFECTED,
    BIN_LOCAL,
    FIXED,
    HESSIAN,
    HIGHEST,
    INITIAL,
    KIND,
    LOCAL_KIND,
    LOCAL_WIDTH,
    LOWER,
    LOWEST,
    POINT,
    REST,
    SCALE,
    TANGENT,
    UPPER,
    VECTOR,
    WIDTH,
    Data,
    Model,
    Work,
    evaluate,
    expect,
    make_work,
    unpack,
)
from modelbuilder.kinematics._compile import inlined, inner, kernel

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

OK, NO_SIGNAL, DIFFICULT = 0, 1, 2  # DIFFICULT: the careful, slower way has to be tried
N_RESULTS = 9  # observed, expected at -2 ... +2 sigma, best fit of the POI, effective background events, q0

_TOLERANCE = 1e-9
_NEWTON_STEP = 2e-5  # relative; a Newton step smaller than this is taken without a further fit
_CUBIC_STEP = 2e-3  # the same with a cubic through two points: the error is of fourth order
_MAX_STEPS = 60
_MAX_FACTOR = math.log(30.0)
_LARGEST = 1e30
# -2 ln L over that of a perfect fit, per bin and in all, above which data and model do not agree and a model whose
# parameters bend is likely to have several minima
_TENSION = 2.0
_TENSION_OFFSET = 10.0
_SMALL_MODEL = 40  # globals: up to here the careful way costs milliseconds
_SMALL_ROOT_QA = 2e-3
_SQRT_HALF = math.sqrt(0.5)
_LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)
_POI_FIXED, _POI_FREE = np.bool_(True), np.bool_(False)


@inlined
def log_ndtr(x: float) -> float:
    """ln of the normal cumulative distribution; relative error of Phi below 1e-9 everywhere."""
    if x > -20.0:
        tail = 0.5 * math.erfc(abs(x) * _SQRT_HALF)
        return math.log1p(-tail) if x > 0.0 else math.log(tail)
    z = 1.0 / (x * x)
    return -0.5 * x * x - math.log(-x) - _LOG_SQRT_2PI + math.log1p(-z * (1.0 - z * (3.0 - z * (15.0 - 105.0 * z))))


@inlined
def _hazard(deviate: float) -> float:
    """Normal density over upper tail."""
    return math.exp(-0.5 * deviate * deviate - _LOG_SQRT_2PI - log_ndtr(-deviate))


@inlined
def _rough_quantile(tail: float) -> float:
    """The deviate with this upper tail, to 5e-4: Abramowitz and Stegun 26.2.23. For first guesses."""
    p = min(tail, 1.0 - tail)
    t = math.sqrt(-2.0 * math.log(max(p, 1e-300)))
    z = t - (2.515517 + t * (0.802853 + t * 0.010328)) / (1.0 + t * (1.432788 + t * (0.189269 + t * 0.001308)))
    return z if tail < 0.5 else -z


@inlined
def _cubic(x: float, x0: float, y0: float, slope0: float, x1: float, y1: float, slope1: float) -> float:
    """At x, the cubic with these values and slopes at x0 and x1."""
    width = x1 - x0
    t = (x - x0) / width
    return (
        (1.0 + 2.0 * t) * (1.0 - t) ** 2 * y0
        + t * (1.0 - t) ** 2 * width * slope0
        + t * t * (3.0 - 2.0 * t) * y1
        + t * t * (t - 1.0) * width * slope1
    )


@inlined
def set_initial(m: Model, w: Work) -> None:
    """The initial values of the globals, into POINT."""
    for i in range(m.sizes[0]):
        w.vectors[POINT, i] = m.floats[m.integers[INITIAL] + i]


@inlined
def _is_suspicious(m: Model, null_value: float) -> bool:
    """Whether several minima are likely, so that a search from many starts is worth its time."""
    n_bent, n_always, has_products = m.sizes[7], m.sizes[8], m.sizes[9]
    tension = n_bent > 0 and null_value > _TENSION * m.sizes[2] + _TENSION_OFFSET
    return bool(has_products > 0 or tension or (n_always > 0 and m.sizes[0] <= _SMALL_MODEL))


@inner
def _set_tangent(m: Model, w: Work, x: Floats, refactor: bool | np.bool_) -> None:
    """d(best nuisance parameters)/d(POI) into `tangent`, from the last factorisation or a new one."""
    poi, n_free = m.sizes[1], w.counters[2]
    w.vectors[TANGENT][:] = 0.0
    if refactor:
        n_all = list_free(m, w, x)
        n_free = 0
        for k in range(n_all):
            if w.free[k] != poi:
                w.free[n_free] = w.free[k]
                n_free += 1
        if not factorise(w, n_free, 1e-11):
            return
    for k in range(n_free):
        i = w.free[k]
        w.vectors[VECTOR, k] = -w.hessian[i, poi] * w.vectors[SCALE, i]
    solve(w, n_free)
    for k in range(n_free):
        i = w.free[k]
        w.vectors[TANGENT, i] = w.vectors[VECTOR, k] * w.vectors[SCALE, i]


@inner
def _profile_at(m: Model, w: Work, data: Data, mu: float, x: Floats, tangent: Floats) -> tuple[float, float, bool]:
    """-2 ln L profiled at POI `mu`, its slope, success; `x` and `tangent` go from the last such point to this."""
    poi = m.sizes[1]
    move = mu - x[poi]
    for i in range(m.sizes[0]):
        w.vectors[POINT, i] = x[i] + move * tangent[i]
    w.vectors[POINT, poi] = mu
    value, status = 0.0, -1
    for attempt in range(2):
        if attempt == 1:
            set_initial(m, w)
            w.vectors[POINT, poi] = mu
        value, status = fit(m, w, w.vectors[POINT], data, _POI_FIXED, mu, _TOLERANCE, math.inf)
        if status == CONVERGED:
            break
    slope = w.gradient[poi]
    _set_tangent(m, w, w.vectors[POINT], _POI_FREE)
    tangent[:] = w.vectors[TANGENT]
    tangent[poi] = 0.0
    x[:] = w.vectors[POINT]
    return value, slope, status == CONVERGED


@inner
def _asimov(m: Model, w: Work, x: Floats, data: Data, asimov: Data) -> None:
    """The data whose best fit is `x` and the locals of the last `evaluate`."""
    i, f = m.integers, m.floats
    for b in range(m.sizes[2]):
        asimov.counts[b] = max(w.rate[b], 0.0)
    for k in range(m.sizes[3]):
        width = f[i[LOCAL_WIDTH] + k] if i[i[LOCAL_KIND] + k] == POISSON else 1.0
        asimov.local_auxiliary[k] = w.gamma[k] * width
    for p in range(m.sizes[0]):
        kind = i[i[KIND] + p]
        if kind == NORMAL:
            asimov.auxiliary[p] = x[p]
        elif kind == POISSON:
            asimov.auxiliary[p] = x[p] * f[i[WIDTH] + p]
        else:
            asimov.auxiliary[p] = data.auxiliary[p]


@inner
def has_signal(m: Model, w: Work) -> bool:
    """Whether the POI changes the expected events of any bin at all."""
    set_initial(m, w)
    w.vectors[POINT, m.sizes[1]] = 0.0
    expect(m, w, w.vectors[POINT])
    total = w.bins[REST].copy()
    affected = w.locals_[AFFECTED].copy()
    for mu in (1.0, 1e6):
        w.vectors[POINT, m.sizes[1]] = mu
        expect(m, w, w.vectors[POINT])
        for i in range(len(total)):
            if w.bins[REST, i] != total[i]:
                return True
        for k in range(len(affected)):
            if w.locals_[AFFECTED, k] != affected[k]:
                return True
    return False


@inner
def _effective_background(m: Model, w: Work, null: Floats, gamma: Floats, mu: float) -> float:
    """(sum s)^2 / sum(s^2/b); 0 where a bin with signal has no background."""
    n, first = m.sizes[2], m.integers[BIN_LOCAL]
    w.vectors[POINT][:] = null
    expect(m, w, w.vectors[POINT])
    background = w.bins[REST].copy()
    for i in range(n):
        for k in range(m.integers[first + i], m.integers[first + i + 1]):
            background[i] += w.locals_[AFFECTED, k] * gamma[k]
    w.vectors[POINT, m.sizes[1]] = mu if mu > 0.0 else 1.0
    expect(m, w, w.vectors[POINT])
    signal = w.bins[REST].copy()
    total = 0.0
    for i in range(n):
        for k in range(m.integers[first + i], m.integers[first + i + 1]):
            signal[i] += w.locals_[AFFECTED, k] * gamma[k]
        signal[i] = abs(signal[i] - background[i])
        total += signal[i]
    kept, weighted = 0.0, 0.0
    for i in range(n):
        if signal[i] > 1e-9 * total:
            if not background[i] > 0.0:
                return 0.0
            kept += signal[i]
            weighted += signal[i] * signal[i] / background[i]
    return kept * kept / weighted if weighted > 0.0 else 0.0


@inlined
def _next(mu: float, step: float, low: float, high: float) -> float:
    """The next value to try: a Newton step in ln mu, held within the bracket."""
    new = mu * math.exp(min(max(step, -_MAX_FACTOR), _MAX_FACTOR))
    if low < new < high:
        return new
    if high == math.inf:
        return mu * math.exp(_MAX_FACTOR)
    if low <= 0.0:
        return 0.1 * high
    return 0.5 * (low + high) if high < 1.5 * low else math.sqrt(low * high)


@inner
def _expected_limits(
    m: Model, w: Work, asimov: Data, best: float, sigma: float, x: Floats, targets: Floats, table: Floats, out: Floats
) -> bool:
    """Expected limits, where sqrt(qA) reaches each of the increasing targets, into out[1:6]; success.

    table: rows of ln sqrt(qA), ln mu, d ln mu/d ln sqrt(qA), one per target; NaN where there is none.
    """
    tangent = w.vectors[TANGENT].copy()
    tangent[m.sizes[1]] = 0.0
    x0, y0, slope0, known = 0.0, 0.0, 0.0, False
    smooth = m.sizes[7] == 0  # no second minimum, to which the profile may change over
    table[:] = math.nan
    for k in range(5):
        if not targets[k] > 0.0:
            out[1 + k] = 0.0
            continue
        wanted = math.log(targets[k])
        y = y0 + slope0 * (wanted - x0) if known else math.log(sigma) + wanted
        mu, low, high = math.exp(y), 0.0, math.inf
        first = mu
        found = False
        for _ in range(_MAX_STEPS):
            value, slope, success = _profile_at(m, w, asimov, mu, x, tangent)
            qa = value - best
            if not success:
                return False
            if qa <= 0.0 or slope <= 0.0:
                low = mu
                mu = _next(mu, math.inf, low, high)
                if mu > _LARGEST * first:
                    return False
                continue
            x1, y1, slope1 = 0.5 * math.log(qa), math.log(mu), 2.0 * qa / (slope * mu)
            step = slope1 * (wanted - x1)
            y = y1 + step
            found = abs(step) < _NEWTON_STEP
            if not found and known and smooth and abs(step) < _CUBIC_STEP and abs(x1 - x0) > 10.0 * abs(wanted - x1):
                y = _cubic(wanted, x0, y0, slope0, x1, y1, slope1)
                found = True
            x0, y0, slope0, known = x1, y1, slope1, True
            if found:
                break
            if step > 0.0:
                low = mu
            else:
                high = mu
            mu = _next(mu, step, low, high)
            if mu > _LARGEST * first or mu < first / _LARGEST:
                return False
        if not found:
            return False
        out[1 + k] = math.exp(y)
        table[k, 0], table[k, 1], table[k, 2] = x0, y0, slope0
    return True


@inner
def _table_mu(table: Floats, target: float, sigma: float) -> float:
    """About the mu where sqrt(qA) is `target`, from the nearest row of the table."""
    wanted = math.log(target)
    best, y = math.inf, math.log(sigma) + wanted
    for k in range(5):
        distance = abs(table[k, 0] - wanted)
        if distance < best:
            best = distance
            y = table[k, 1] + table[k, 2] * (wanted - table[k, 0])
    return math.exp(y)


@inlined
def _deviates(q: float, q_slope: float, qa: float, qa_slope: float) -> tuple[float, float, float, float]:
    """Normal deviates of CLs+b and of CLb, arXiv:1007.1727 Eqs. (66) and (67), and their slopes."""
    root = math.sqrt(qa)
    root_slope = 0.5 * qa_slope / root
    if q <= qa:
        sb = math.sqrt(q)
        sb_slope = 0.5 * q_slope / sb if sb > 0.0 else 0.0
    else:
        sb = 0.5 * (q + qa) / root
        sb_slope = (0.5 * (q_slope + qa_slope) - sb * root_slope) / root
    return sb, sb - root, sb_slope, sb_slope - root_slope


@inner
def _observed_limit(
    m: Model,
    w: Work,
    data: Data,
    asimov: Data,
    best_value: float,
    asimov_best: float,
    use_cls: bool,
    alpha: float,
    quantile: float,
    null_slope: float,
    x: Floats,
    tangent: Floats,
    asimov_x: Floats,
    table: Floats,
    sigma: float,
) -> tuple[float, bool]:
    """The observed limit and success. x: the best fit with mu >= 0.    null_slope: of the profile at mu = 0."""
    best = max(x[m.sizes[1]], 0.0)
    log_alpha = math.log(alpha)
    sigma = _table_mu(table, 1.0, sigma)
    # where a Gaussian likelihood has its limit; one that rises at zero has its minimum below
    fluctuation = best / sigma if best > 0.0 else -0.5 * max(null_slope, 0.0) * sigma
    if use_cls:
        # Phi(-8) would be as good as no fluctuation at all
        target = fluctuation + _rough_quantile(alpha * math.exp(log_ndtr(max(fluctuation, -8.0))))
        if fluctuation < -8.0:
            target = -log_alpha / -fluctuation
    else:
        target = fluctuation + quantile
        if target < 0.1 * quantile:
            if best == 0.0:  # the limit may be as good as zero: the careful way knows
                return math.nan, False
            target = quantile
    mu = max(_table_mu(table, max(target, 1e-3), sigma), best * (1.0 + 1e-9))
    asimov_tangent = np.zeros(m.sizes[0])
    low, high, first = best, math.inf, mu
    x0, y0, slope0, known, branch0 = 0.0, 0.0, 0.0, False, False
    smooth = m.sizes[7] == 0
    for _ in range(_MAX_STEPS):
        value, slope, success = _profile_at(m, w, data, mu, x, tangent)
        asimov_value, asimov_slope, asimov_success = _profile_at(m, w, asimov, mu, asimov_x, asimov_tangent)
        if not (success and asimov_success) or value < best_value - 1e-6:
            return math.nan, False
        q, qa = max(value - best_value, 0.0), asimov_value - asimov_best
        if qa <= 0.0:
            low = mu
            mu = _next(mu, math.inf, low, high)
            if mu > _LARGEST * first:
                return math.nan, False
            continue
        sb, b, sb_slope, b_slope = _deviates(q, slope, qa, asimov_slope)
        if use_cls:
            distance = log_alpha - (log_ndtr(-sb) - log_ndtr(-b))
            rise = _hazard(sb) * sb_slope - _hazard(b) * b_slope
        else:
            distance = sb - quantile
            rise = sb_slope
        branch = q <= qa
        if distance == 0.0:
            return mu, True
        if distance < 0.0:
            low = mu
        else:
            high = mu
        step = -distance / (rise * mu) if rise > 0.0 else math.copysign(math.inf, -distance)
        if abs(step) < _NEWTON_STEP:
            return mu * math.exp(step), True
        y1 = math.log(mu)
        if rise > 0.0:
            slope1 = 1.0 / (rise * mu)
            if (
                known
                and smooth
                and branch == branch0
                and abs(step) < _CUBIC_STEP
                and abs(distance - x0) > 10.0 * abs(distance)
            ):
                return math.exp(_cubic(0.0, x0, y0, slope0, distance, y1, slope1)), True
            x0, y0, slope0, known, branch0 = distance, y1, slope1, True, branch
        mu = _next(mu, step, low, high)
        if mu > _LARGEST * first or mu < first / _LARGEST:
            return math.nan, False
    return math.nan, False


@inner
def limits_of(
    m: Model, w: Work, data: Data, use_cls: bool, alpha: float, quantile: float, targets: Floats, out: Floats
) -> int:
    """All limits of one model, into `out` (see N_RESULTS); OK, NO_SIGNAL or DIFFICULT.

    quantile: normal deviate of upper tail alpha.    targets: sqrt(qA) at the expected limits, shape (5,).
    """
    n, poi = m.sizes[0], m.sizes[1]
    out[:] = math.nan
    if not has_signal(m, w):
        return NO_SIGNAL
    set_initial(m, w)
    x = w.vectors[POINT].copy()
    x[poi] = 0.0
    null_value, status = fit(m, w, x, data, _POI_FIXED, 0.0, _TOLERANCE, math.inf)
    if status != CONVERGED:
        return DIFFICULT
    if w.counters[4] > 0 or _is_suspicious(m, null_value):
        return DIFFICULT  # several minima, or where they are likely: each fit has to look for all
    null_value = min(null_value, evaluate(m, w, x, data, HESSIAN))
    null_slope = w.gradient[poi]
    gamma = w.gamma.copy()
    null = x.copy()
    asimov = Data(np.zeros(m.sizes[2]), np.zeros(n), np.zeros(m.sizes[3]))
    _asimov(m, w, x, data, asimov)

    # the best fit to the data; below zero where the model allows it
    lower = min(m.floats[m.integers[LOWEST] + poi], 0.0)
    best_value, poi_hat = null_value, 0.0
    _set_tangent(m, w, x, _POI_FIXED)
    tangent = w.vectors[TANGENT].copy()
    tangent[poi] = 0.0
    if null_slope < 0.0 or lower < 0.0:
        curvature = w.hessian[poi, poi]
        for i in range(n):
            if i != poi:
                curvature += w.hessian[poi, i] * tangent[i]
        move = -null_slope / curvature if curvature > 0.0 else 0.0
        free = x.copy()
        for i in range(n):
            free[i] += move * tangent[i]
        free[poi] = max(move, lower)
        value, status = fit(m, w, free, data, _POI_FREE, lower, _TOLERANCE, math.inf)
        if status != CONVERGED:
            return DIFFICULT
        poi_hat = free[poi]
        if poi_hat >= 0.0 and value <= null_value:
            best_value = value
            x[:] = free
            _set_tangent(m, w, x, _POI_FIXED)
            tangent[:] = w.vectors[TANGENT]
            tangent[poi] = 0.0
        elif poi_hat > 0.0:
            return DIFFICULT

    # the Asimov data; their best fit is known
    asimov_x = null.copy()
    asimov_best = evaluate(m, w, asimov_x, asimov, HESSIAN)
    for i in range(n):
        if m.integers[m.integers[FIXED] + i]:
            w.vectors[LOWER, i] = w.vectors[UPPER, i] = asimov_x[i]
        else:
            w.vectors[LOWER, i] = m.floats[m.integers[LOWEST] + i]
            w.vectors[UPPER, i] = m.floats[m.integers[HIGHEST] + i]
    _set_tangent(m, w, asimov_x, _POI_FIXED)
    curvature = w.hessian[poi, poi]
    for i in range(n):
        if i != poi:
            curvature += w.hessian[poi, i] * w.vectors[TANGENT, i]
    slope = w.gradient[poi]
    if curvature > 0.0:
        sigma = math.sqrt(2.0 / curvature)
    elif slope > 0.0:  # no curvature at zero (a bin without background): the mu that adds one event
        sigma = 2.0 / slope
    else:
        sigma = 1.0
    table = np.empty((5, 3))
    if not _expected_limits(m, w, asimov, asimov_best, sigma, asimov_x, targets, table, out):
        return DIFFICULT
    out[0], success = _observed_limit(
        m,
        w,
        data,
        asimov,
        best_value,
        asimov_best,
        use_cls,
        alpha,
        quantile,
        null_slope,
        x,
        tangent,
        asimov_x,
        table,
        sigma,
    )
    out[6] = poi_hat
    out[8] = null_value - best_value if poi_hat > 0.0 else 0.0
    out[7] = _effective_background(m, w, null, gamma, out[3])
    return OK if success else DIFFICULT


@kernel
def limits_packed(
    integers: Integers,
    integer_starts: Integers,
    floats: Floats,
    float_starts: Integers,
    counts: Floats,
    count_starts: Integers,
    auxiliary: Floats,
    auxiliary_starts: Integers,
    local_auxiliary: Floats,
    local_starts: Integers,
    use_cls: bool,
    alpha: float,
    quantile: float,
    targets: Floats,
    first: int,
    last: int,
    results: Floats,
    statuses: Integers,
    work_done: Integers,
) -> None:
    """`limits_of` for the models `first` to `last` (excluded) of many, packed one behind the other.

    results: shape (n_models, N_RESULTS).    work_done: fits and evaluations, shape (n_models, 2).
    """
    for k in range(first, last):
        m = unpack(integers[integer_starts[k] : integer_starts[k + 1]], floats[float_starts[k] : float_starts[k + 1]])
        w = make_work(m)
        data = Data(
            counts[count_starts[k] : count_starts[k + 1]],
            auxiliary[auxiliary_starts[k] : auxiliary_starts[k + 1]],
            local_auxiliary[local_starts[k] : local_starts[k + 1]],
        )
        statuses[k] = limits_of(m, w, data, use_cls, alpha, quantile, targets, results[k])
        work_done[k, 0] = w.counters[0]
        work_done[k, 1] = w.counters[1]
