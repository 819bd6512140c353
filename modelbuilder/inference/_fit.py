"""Bounded Newton fit of the globals of a model, from value, exact gradient and exact Hessian of the profile.

Each step minimises the quadratic model within the bounds: free parameters by Cholesky, those that would leave the box
stopped at its side. Where the Hessian is not positive it is damped. At a kink (interpolation codes 0 and 1) a parameter
is first held on its side of zero, and let across only if the profile falls there.

A nuisance parameter whose variations bend, or empty a bin, can give -2 ln L several minima. A Newton fit ends in one of
them; so each of these parameters is then started on other sides, and the lowest minimum counts.
"""

import math

import numpy as np
import numpy.typing as npt

from modelbuilder.inference._model import (
    BENDS,
    BENT,
    FIXED,
    GRADIENT,
    HESSIAN,
    HIGHEST,
    INITIAL,
    KINKED,
    LOWER,
    LOWEST,
    OTHER,
    SCALE,
    SIDE,
    SLOPE,
    STEP,
    TRIAL,
    UPPER,
    VALUE,
    VECTOR,
    Data,
    Model,
    Work,
    add_scaled,
    evaluate,
)
from modelbuilder.kinematics._compile import inner

Floats = npt.NDArray[np.float64]

CONVERGED, IMPOSSIBLE, NOT_CONVERGED = 0, 1, 2
TOLERANCE = 1e-9  # of -2 ln L: the last Newton step promises less, and is taken without another look
LOOSE_TOLERANCE = 1e-8  # the same where rounding forbids more
_RIDGE = 1e-11  # on a Hessian with ones on its diagonal: makes flat directions harmless
_MAX_ITERATIONS = 200
_FEW_ITERATIONS = 10  # after which another start has to be lower, or is given up
_SUFFICIENT_DECREASE = 1e-4
_SIDES = 3  # starts of a bent parameter: mirrored at zero, and
_OTHER_SIDE = 1.5  # sigma on either side
_LEAST_MOVE = 0.4  # sigma: a start closer than this is none
# Against a constraint of 1: code 4p bends by up to 3.75 times the even part of a variation around zero, and by up to 1.25
# times it the other way further out.
_LEAST_BEND = 0.16
SURELY_LOWER = 1e-6  # of -2 ln L: by so much must a fit that has not converged be lower than one that has
_LITTLE = 1e-3  # of -2 ln L: a promise below which it is believed
_KICK = 0.5  # off a saddle point
_MAX_KICKS = 3
_MAX_ROUNDS = 4


@inner
def factorise(w: Work, n_free: int, damping: float) -> bool:
    """Cholesky factor of the scaled Hessian of the free parameters, into the upper triangle of `factor`; success."""
    u, free, scale = w.factor, w.free, w.vectors[SCALE]
    stride = 4 * ((n_free + 3) // 4)
    for k in range(n_free):
        a = free[k]
        row, s = w.hessian[a], scale[a]
        for j in range(k, n_free):
            u[k * stride + j] = row[free[j]] * s * scale[free[j]]
        for j in range(n_free, stride):
            u[k * stride + j] = 0.0
        u[k * stride + k] += damping
    for k in range(n_free):
        first = 4 * (k // 4)
        n_quads = (stride - first) // 4
        for other in range(first, k):
            add_scaled(u, k * stride + first, -u[other * stride + k], u, other * stride + first, n_quads)
        pivot = u[k * stride + k]
        if not pivot > 0.0:
            return False
        inverse = 1.0 / math.sqrt(pivot)
        for j in range(k, stride):
            u[k * stride + j] *= inverse
        if k == first + 3:
            for row_ in range(k + 1, n_free):
                start = 4 * (row_ // 4)
                for other in range(first, k + 1):
                    at = other * stride
                    add_scaled(u, row_ * stride + start, -u[at + row_], u, at + start, (stride - start) // 4)
    return True


@inner
def solve(w: Work, n_free: int) -> None:
    """Replaces the first `n_free` entries of VECTOR by the solution of factor^T factor x = vector."""
    u, v = w.factor, w.vectors[VECTOR]
    stride = 4 * ((n_free + 3) // 4)
    for k in range(n_free):
        v[k] /= u[k * stride + k]
        for j in range(k + 1, n_free):
            v[j] -= u[k * stride + j] * v[k]
    for k in range(n_free - 1, -1, -1):
        total = v[k]
        for j in range(k + 1, n_free):
            total -= u[k * stride + j] * v[j]
        v[k] = total / u[k * stride + k]


@inner
def list_free(m: Model, w: Work, x: Floats) -> int:
    """Lists in `free` the globals that may move: not fixed, and not pushed against a bound by the gradient."""
    lower, upper, scale, step = w.vectors[LOWER], w.vectors[UPPER], w.vectors[SCALE], w.vectors[STEP]
    n_free = 0
    for p in range(m.sizes[0]):
        step[p] = 0.0
        diagonal = w.hessian[p, p]
        scale[p] = 1.0 / math.sqrt(abs(diagonal)) if diagonal != 0.0 else 1.0
        if upper[p] > lower[p]:
            g = w.gradient[p]
            if not ((x[p] <= lower[p] and g >= 0.0) or (x[p] >= upper[p] and g <= 0.0)):
                w.free[n_free] = p
                n_free += 1
    return n_free


@inner
def _quadratic_step(m: Model, w: Work, x: Floats, damping: float) -> tuple[float, bool]:
    """A step within the bounds, into STEP; the decrease of -2 ln L that it promises, and whether a bound cut it.

    The decrease is negative if the damped Hessian is not positive, or leads uphill.
    """
    lower, upper, scale, step, vector = (
        w.vectors[LOWER],
        w.vectors[UPPER],
        w.vectors[SCALE],
        w.vectors[STEP],
        w.vectors[VECTOR],
    )
    n_free = list_free(m, w, x)
    w.counters[2] = n_free
    cut = False
    while n_free > 0:
        if not factorise(w, n_free, damping):
            return -1.0, cut
        for k in range(n_free):
            p = w.free[k]
            g = w.gradient[p]
            if cut:
                for q in range(m.sizes[0]):
                    g += w.hessian[p, q] * step[q]
            vector[k] = -g * scale[p]
        solve(w, n_free)
        kept = 0
        for k in range(n_free):
            p = w.free[k]
            move = vector[k] * scale[p]
            if x[p] + move < lower[p] or x[p] + move > upper[p]:
                step[p] = (lower[p] if move < 0.0 else upper[p]) - x[p]
            else:
                w.free[kept] = p
                vector[kept] = vector[k]
                kept += 1
        if kept == n_free:
            for k in range(n_free):
                step[w.free[k]] = vector[k] * scale[w.free[k]]
            break
        cut = True
        n_free = w.counters[2] = kept
    linear, quadratic = 0.0, 0.0
    for p in range(m.sizes[0]):
        linear += w.gradient[p] * step[p]
    if linear > 0.0:
        return -1.0, cut
    if not cut:
        return -0.5 * linear, cut
    for p in range(m.sizes[0]):
        d = step[p]
        if d != 0.0:
            row = 0.0
            for q in range(m.sizes[0]):
                row += w.hessian[p, q] * step[q]
            quadratic += d * row
            quadratic += damping * d * d / (scale[p] * scale[p])
    return -(linear + 0.5 * quadratic), cut


@inner
def _cross_kinks(m: Model, w: Work, x: Floats, data: Data) -> bool:
    """Whether the profile falls beyond a kink at which a global has stopped; then lets those across."""
    kinked, f = m.integers[KINKED], m.floats
    lower, upper, side = w.vectors[LOWER], w.vectors[UPPER], w.vectors[SIDE]
    any_kink = False
    for p in range(m.sizes[0]):
        if m.integers[kinked + p] and x[p] == 0.0 and upper[p] > lower[p]:
            side[p] = -side[p]
            any_kink = True
    if not any_kink:
        return False
    evaluate(m, w, x, data, GRADIENT)
    crossed = False
    for p in range(m.sizes[0]):
        if m.integers[kinked + p] and x[p] == 0.0 and upper[p] > lower[p]:
            if side[p] * w.gradient[p] < -1e-6:
                crossed = True
                lower[p] = 0.0 if side[p] > 0.0 else f[m.integers[LOWEST] + p]
                upper[p] = 0.0 if side[p] < 0.0 else f[m.integers[HIGHEST] + p]
            else:
                side[p] = -side[p]
    return crossed


@inner
def _set_bounds(m: Model, w: Work, x: Floats, poi_fixed: bool | np.bool_, poi_lower: float) -> None:
    """Bounds of this fit, and `x` put within them; the POI has no upper bound, which would cut limits short."""
    i, f = m.integers, m.floats
    lower, upper, side = w.vectors[LOWER], w.vectors[UPPER], w.vectors[SIDE]
    for p in range(m.sizes[0]):
        lower[p], upper[p] = f[i[LOWEST] + p], f[i[HIGHEST] + p]
        if p == m.sizes[1]:
            lower[p], upper[p] = (x[p], x[p]) if poi_fixed else (poi_lower, math.inf)
        elif i[i[FIXED] + p]:
            lower[p] = upper[p] = x[p] = f[i[INITIAL] + p]
        x[p] = min(max(x[p], lower[p]), upper[p])
        side[p] = 1.0 if x[p] >= 0.0 else -1.0
        if i[i[KINKED] + p] and lower[p] < 0.0 < upper[p]:
            if side[p] > 0.0:
                lower[p] = 0.0
            else:
                upper[p] = 0.0


@inner
def _descend(m: Model, w: Work, x: Floats, data: Data, tolerance: float, known: float, most: int) -> tuple[float, int]:
    """To the minimum below `x`, in place, within LOWER and UPPER; gives up on the way to one that is not below `known`."""
    n = m.sizes[0]
    lower, upper, step, trial = w.vectors[LOWER], w.vectors[UPPER], w.vectors[STEP], w.vectors[TRIAL]
    value = evaluate(m, w, x, data, HESSIAN)
    if not value < math.inf:
        return value, IMPOSSIBLE
    kicks = 0
    enough = w.counters[1] + 3 * most
    for _ in range(most):
        if most < _MAX_ITERATIONS and w.counters[1] > enough:
            break
        moved = False
        promised = math.inf
        damping = _RIDGE
        while damping < 1e7:
            gain, cut = _quadratic_step(m, w, x, damping)
            if gain < 0.0:
                damping = max(8.0 * damping, 1e-3)
                continue
            if gain < _LITTLE and value - gain > known - LOOSE_TOLERANCE:
                return value, NOT_CONVERGED
            if damping == _RIDGE:
                promised = gain
                if gain <= tolerance and (not cut or gain <= 1e-3 * tolerance):
                    for p in range(n):
                        x[p] = min(max(x[p] + step[p], lower[p]), upper[p])
                    for p in range(n):
                        total = 0.0
                        for q in range(n):
                            total += w.hessian[p, q] * step[q]
                        w.gradient[p] += total
                    if _cross_kinks(m, w, x, data):
                        moved = True
                        value = evaluate(m, w, x, data, HESSIAN)
                        break
                    return value - gain, CONVERGED
            elif gain <= 1e-3 * tolerance and kicks < _MAX_KICKS:
                kicks += 1
                for p in range(n):
                    if w.hessian[p, p] < 0.0 and upper[p] > lower[p]:
                        x[p] = x[p] + _KICK if x[p] + _KICK <= upper[p] else max(x[p] - _KICK, lower[p])
                        moved = True
                if moved:
                    value = evaluate(m, w, x, data, HESSIAN)
                    if not value < math.inf:
                        return value, NOT_CONVERGED
                    break
            noise = 1e-14 * (1.0 + abs(value))
            length = 1.0
            order = HESSIAN
            while length > 1e-12:
                for p in range(n):
                    trial[p] = min(max(x[p] + length * step[p], lower[p]), upper[p])
                new = evaluate(m, w, trial, data, order)
                if new <= value - _SUFFICIENT_DECREASE * length * gain + noise:
                    moved = True
                    value = new
                    x[:] = trial
                    break
                order = VALUE
                length *= 0.5 if length > 0.1 else 0.2
                if length * gain <= noise:
                    break
            if moved and order == HESSIAN:
                break
            value = evaluate(m, w, x, data, HESSIAN)
            if moved:
                break
            if promised <= LOOSE_TOLERANCE:
                return value, CONVERGED
            damping = max(8.0 * damping, 1e-3)
        if not moved:
            return value, CONVERGED if promised <= LOOSE_TOLERANCE else NOT_CONVERGED
    return value, NOT_CONVERGED


@inner
def _is_bent(m: Model, w: Work, which: int) -> bool:
    """Whether this bent parameter may have another minimum, at the slopes of the last `evaluate`."""
    if which < m.sizes[8]:
        return True
    at = m.integers[BENDS] + which * m.sizes[2]
    total = 0.0
    for b in range(m.sizes[2]):
        total += w.bins[SLOPE, b] * m.floats[at + b]
    return total < -_LEAST_BEND or total > 3.0 * _LEAST_BEND


@inner
def fit(
    m: Model,
    w: Work,
    x: Floats,
    data: Data,
    poi_fixed: bool | np.bool_,
    poi_lower: float,
    tolerance: float,
    known: float,
) -> tuple[float, int]:
    """Fits the globals `x`, in place. Returns -2 ln L as `evaluate` has it, and a status.

    known: value of a minimum; a fit that does not come below it soon may be given up.

    Without `counters[3]`, no parameter is started on another side; `counters[4]` counts where that has helped.
    `gradient` is that at the minimum; `factor`, `free` and `hessian` are those of the last step before it.
    """
    i, n_bent = m.integers, m.sizes[7]
    best, best_x, best_status = math.inf, w.vectors[OTHER], -1
    last_gain, number, at_best = 0, 0, False
    most = _MAX_ITERATIONS if known == math.inf else _FEW_ITERATIONS
    while True:
        # the first start is that of the caller; then, while there is something to gain, each bent parameter on each side
        w.counters[0] += 1
        _set_bounds(m, w, x, poi_fixed, poi_lower)
        value, status = _descend(m, w, x, data, tolerance, min(best, known), most)
        if status == NOT_CONVERGED and most < _MAX_ITERATIONS and value < min(best, known):
            most = _MAX_ITERATIONS
            continue
        most = _FEW_ITERATIONS
        at_best = False
        # what has not converged, but is lower, shows that the minimum is elsewhere
        margin = 1e-10 * (1.0 + abs(best)) if status <= best_status else SURELY_LOWER
        if best_status < 0 or value < best - margin:
            w.counters[4] += best_status >= 0
            best, best_status, at_best, last_gain = value, status, True, number
            best_x[:] = x
        if n_bent == 0 or not (w.counters[3] or (best_status == NOT_CONVERGED and known == math.inf)):
            break
        found = False
        while not found and number - last_gain < _SIDES * n_bent and number < _SIDES * n_bent * _MAX_ROUNDS:
            which, side = number // _SIDES % n_bent, number % _SIDES
            p = i[i[BENT] + which]
            # the mirror first: where the data know more than the constraint, both minima are close to zero
            start = -best_x[p] if side == 0 else (_OTHER_SIDE if side == 1 else -_OTHER_SIDE)
            number += 1
            if not i[i[FIXED] + p] and abs(best_x[p] - start) > _LEAST_MOVE and _is_bent(m, w, which):
                x[:] = best_x
                x[p] = start
                found = True
        if not found:
            break
    if not at_best:
        x[:] = best_x
        _set_bounds(m, w, x, poi_fixed, poi_lower)
        best = evaluate(m, w, x, data, HESSIAN)
        _quadratic_step(m, w, x, _RIDGE)
    return best, best_status
