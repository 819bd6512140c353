"""The likelihood of a model summed over a grid in its nuisance parameters theta, for many mu at once.

The POI scales samples, and does nothing else, so that the expected events are mu s(theta) + b(theta). Events of a sample
in a bin are mostly a product of functions of one parameter each, tabulated once per axis of the grid.
"""

import math

import numpy as np
import numpy.typing as npt

from modelbuilder.inference._binwise import EMPTY, FREE, poisson_term
from modelbuilder.inference._interpolation import N_COEFFICIENTS, PLAIN
from modelbuilder.inference._model import (
    BLOCK_OFFSET,
    CHANNEL_BIN,
    CHANNEL_BLOCK,
    FACTOR_CODE,
    FACTOR_COEFFICIENTS,
    FACTOR_PARAMETER,
    FACTOR_START,
    INITIAL,
    KIND,
    KINKED,
    SHAPE_PARAMETER,
    SHAPE_START,
    SIDE,
    SPOT_PARAMETER,
    VALUE,
    Data,
    Model,
    Work,
    _constraints,
    expect,
)
from modelbuilder.kinematics._compile import inlined, inner

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

MAX_AXES = 4
MAX_NODES = 160  # of one Gauss-Legendre rule
_NOTHING = 20.0  # of -ln L: no point of the grid that is worse counts
AXIS_NODES = 160  # on one axis, in all pieces
_LEAST_JUMP = 1e-5  # of a third derivative: of a smaller one a quadrature in one piece sees nothing
_THIRD, _SIXTH, _SEVENTH, _NINTH = 1.0 / 3.0, 1.0 / 6.0, 1.0 / 7.0, 1.0 / 9.0


# ------------------------------------------------------------------------------------------------- what the POI does


@inner
def list_signals(m: Model, is_signal: Integers) -> bool:
    """Marks the blocks that the POI scales; whether it does nothing but scale."""
    i, poi = m.integers, m.sizes[1]
    if i[i[KIND] + poi] != FREE:
        return False
    for k in range(i[SHAPE_PARAMETER + 1] - i[SHAPE_PARAMETER]):
        if i[i[SHAPE_PARAMETER] + k] == poi:
            return False
    for k in range(i[SPOT_PARAMETER + 1] - i[SPOT_PARAMETER]):
        if i[i[SPOT_PARAMETER] + k] == poi:
            return False
    any_signal = False
    for j in range(m.sizes[4]):
        for k in range(i[i[FACTOR_START] + j], i[i[FACTOR_START] + j + 1]):
            if i[i[FACTOR_PARAMETER] + k] == poi:
                if is_signal[j] or i[i[FACTOR_CODE] + k] != PLAIN:
                    return False
                is_signal[j] = 1
                any_signal = True
    return any_signal


@inlined
def _jump(m: Model, at: int) -> float:
    """How much the third derivative of a normsys of code 4 jumps at one sigma: hardly, if lo is 1/hi."""
    c = m.integers[FACTOR_COEFFICIENTS] + at
    up, down = m.floats[c], m.floats[c + 1]
    above, below = 0.0, 0.0
    for power in range(3, 7):
        term = power * (power - 1) * (power - 2) * m.floats[c + 1 + power]
        above += term
        below += term if power % 2 == 1 else -term
    jump: float = max(abs(above - up * up * up * math.exp(up)), abs(below + down * down * down * math.exp(down)))
    return jump


@inner
def set_breaks(m: Model, axes: Integers, breaks: Integers) -> None:
    """How each axis bends: 1 at plus and minus one sigma, 2 a kink at zero, 3 both, 0 nowhere."""
    i = m.integers
    for a in range(len(axes)):
        p = axes[a]
        breaks[a] = 2 if i[i[KINKED] + p] else 0
        bends = False
        for k in range(i[FACTOR_CODE] - i[FACTOR_PARAMETER]):
            if i[i[FACTOR_PARAMETER] + k] == p and i[i[FACTOR_CODE] + k] == 4:
                bends = bends or _jump(m, N_COEFFICIENTS * k) > _LEAST_JUMP
        if m.sizes[6] != 0:
            for k in range(i[SHAPE_PARAMETER + 1] - i[SHAPE_PARAMETER]):
                if i[i[SHAPE_PARAMETER] + k] == p:
                    bends = True
        if bends:
            breaks[a] += 1


# ----------------------------------------------------------------------------------------------------------- the grid


@inner
def set_axis(
    low: float,
    high: float,
    cut: bool,
    breaks: int,
    scale: float,
    table: Floats,
    table_weights: Floats,
    x: Floats,
    weights: Floats,
) -> int:
    """Nodes and weights of one axis; how many there are, 0 if they are too many."""
    if not cut and breaks == 0:
        n = math.ceil(20.0 * scale)
        for k in range(n):
            x[k] = low + (high - low) * (k + 0.5) / n
            weights[k] = (high - low) / n
        return n
    total, left = 0, low
    for piece in range(4):
        right = high
        if piece == 0 and breaks % 2 == 1:
            right = -1.0
        elif piece == 1 and breaks >= 2:
            right = 0.0
        elif piece == 2 and breaks % 2 == 1:
            right = 1.0
        elif piece < 3:
            continue
        right = min(right, high)
        if right <= left:
            continue
        n = max(math.ceil(scale * (5.0 + 18.0 * (right - left) / (high - low))), 3)
        if total + n > AXIS_NODES or n >= MAX_NODES:
            return 0
        for k in range(n):
            x[total + k] = 0.5 * (left + right) + 0.5 * (right - left) * table[n, k]
            weights[total + k] = 0.5 * (right - left) * table_weights[n, k]
        total += n
        left = right
    return total


@inlined
def _exponentiate(values: Floats, n: int) -> None:
    """exp of numbers up to 1, in place, to some 1e-13; in a form that a compiler makes vectors of."""
    for k in range(n):
        t = max(values[k], -300.0) * 0.00390625
        p = 1.0 + t * _NINTH
        p = 1.0 + t * p * 0.125
        p = 1.0 + t * p * _SEVENTH
        p = 1.0 + t * p * _SIXTH
        p = 1.0 + t * p * 0.2
        p = 1.0 + t * p * 0.25
        p = 1.0 + t * p * _THIRD
        p = 1.0 + t * p * 0.5
        p = 1.0 + t * p
        p *= p
        p *= p
        p *= p
        p *= p
        p *= p
        p *= p
        p *= p
        p *= p
        values[k] = p


@inlined
def _multiply_powers(product: Floats, values: Floats, power: float, n: int) -> None:
    """product *= values^power; `values` is used up."""
    left = int(power)
    if left != power:
        for k in range(n):
            product[k] *= values[k] ** power
        return
    while left > 0:
        if left & 1:
            for k in range(n):
                product[k] *= values[k]
        left >>= 1
        if left > 0:
            for k in range(n):
                values[k] *= values[k]


@inner
def _add_likelihood(
    data: Data,
    signal: Floats,
    background: Floats,
    log_factor: float,
    mus: Floats,
    n_mus: int,
    product: Floats,
    values: Floats,
    powers: Floats,
    density: Floats,
    mu_weights: Floats,
) -> float:
    """Adds e^log_factor times the likelihood of the bins at each mu to `density`; returns the integral of that.

    The term of a bin with n events is (r e^(1 - r))^n, with r the expected over n: between 0 and 1, whatever r is.
    """
    slope = 0.0
    for k in range(n_mus):
        product[k] = 1.0
    for b in range(len(signal)):
        n, s, base = data.counts[b], signal[b], background[b]
        if s == 0.0:
            log_factor -= poisson_term(n, base)
        elif n <= EMPTY:
            if s > 0.0 and base >= 0.0:
                log_factor -= base
                slope += s
            else:
                for k in range(n_mus):
                    values[k] = -max(base + mus[k] * s, 0.0)
                _exponentiate(values, n_mus)
                for k in range(n_mus):
                    product[k] *= values[k]
        else:
            inverse = 1.0 / n
            for k in range(n_mus):
                powers[k] = max((base + mus[k] * s) * inverse, 0.0)
                values[k] = 1.0 - powers[k]
            _exponentiate(values, n_mus)
            for k in range(n_mus):
                powers[k] *= values[k]
            _multiply_powers(product, powers, n, n_mus)
    if not log_factor > -math.inf:
        return 0.0
    factor = math.exp(log_factor)
    if slope != 0.0:
        for k in range(n_mus):
            values[k] = -slope * mus[k]
        _exponentiate(values, n_mus)
        for k in range(n_mus):
            product[k] *= values[k]
    mass = 0.0
    for k in range(n_mus):
        product[k] *= factor
        density[k] += product[k]
    for k in range(n_mus):
        mass += mu_weights[k] * product[k]
    return mass


@inner
def _is_product(m: Model, axes: Integers) -> bool:
    """Whether the events of each sample and bin are a product of functions of one axis each: histosys may be sums."""
    i = m.integers
    for j in range(m.sizes[4]):
        found = -1
        for k in range(i[i[SHAPE_START] + j], i[i[SHAPE_START] + j + 1]):
            for a in range(len(axes)):
                if axes[a] == i[i[SHAPE_PARAMETER] + k]:
                    if found >= 0 and found != a:
                        return False
                    found = a
    return True


@inner
def _set_cells(m: Model, w: Work, x: Floats, cells: Floats) -> None:
    """Expected events of each sample in each bin at `x`, as the blocks lie in NOMINAL."""
    i = m.integers
    expect(m, w, x)
    for c in range(m.sizes[5]):
        n = i[i[CHANNEL_BIN] + c + 1] - i[i[CHANNEL_BIN] + c]
        for j in range(i[i[CHANNEL_BLOCK] + c], i[i[CHANNEL_BLOCK] + c + 1]):
            o, product = i[i[BLOCK_OFFSET] + j], w.product[j]
            for b in range(n):
                cells[o + b] = product * w.base[o + b]


@inner
def _set_cell_places(m: Model, is_signal: Integers, places: Integers) -> None:
    """For each cell its bin; signals come after the last bin, in the same order."""
    i = m.integers
    for c in range(m.sizes[5]):
        first_bin = i[i[CHANNEL_BIN] + c]
        n = i[i[CHANNEL_BIN] + c + 1] - first_bin
        for j in range(i[i[CHANNEL_BLOCK] + c], i[i[CHANNEL_BLOCK] + c + 1]):
            o = i[i[BLOCK_OFFSET] + j]
            for b in range(n):
                places[o + b] = first_bin + b + (m.sizes[2] if is_signal[j] else 0)


@inner
def _set_factors(
    m: Model, w: Work, x: Floats, axes: Integers, nodes: Floats, sizes: Integers, factors: Floats, cells: Floats
) -> bool:
    """Of each axis, node and cell, the factor on the events at `x`, which go into `cells`; success."""
    _set_cells(m, w, x, cells)
    moved = np.empty(len(cells))
    for a in range(len(axes)):
        p = axes[a]
        kept = x[p]
        for k in range(sizes[a]):
            x[p] = nodes[a, k]
            w.vectors[SIDE, p] = 1.0 if x[p] >= 0.0 else -1.0
            _set_cells(m, w, x, moved)
            for c in range(len(cells)):
                if cells[c] != 0.0:
                    factors[a, k, c] = moved[c] / cells[c]
                elif moved[c] == 0.0:
                    factors[a, k, c] = 1.0
                else:
                    return False
        x[p] = kept
        w.vectors[SIDE, p] = 1.0 if kept >= 0.0 else -1.0
    return True


@inner
def integrate(
    m: Model,
    w: Work,
    data: Data,
    axes: Integers,
    is_signal: Integers,
    best: float,
    nodes: Floats,
    weights: Floats,
    sizes: Integers,
    mus: Floats,
    mu_weights: Floats,
    n_mus: int,
    density: Floats,
    marginals: Floats,
) -> None:
    """The posterior density at each mu, up to a factor, and the integral over all but one axis at each of its nodes."""
    n_axes, n_bins, n_cells = len(axes), m.sizes[2], len(w.base)
    x = np.empty(m.sizes[0])
    for p in range(m.sizes[0]):
        x[p] = m.floats[m.integers[INITIAL] + p]
        w.vectors[SIDE, p] = 1.0 if x[p] >= 0.0 else -1.0
    x[m.sizes[1]] = 1.0
    product, values, powers = np.empty(n_mus), np.empty(n_mus), np.empty(n_mus)
    density[:] = 0.0
    marginals[:, :] = 0.0
    # the constraint terms are sums over the axes, the weights products; what has no axis is in the first of them
    constraints = np.zeros((MAX_AXES, AXIS_NODES))
    nothing = _constraints(m, w, x, data, VALUE)
    largest = 1
    for a in range(n_axes):
        p = axes[a]
        kept = x[p]
        largest = max(largest, sizes[a])
        for k in range(sizes[a]):
            x[p] = nodes[a, k]
            constraints[a, k] = _constraints(m, w, x, data, VALUE) - nothing
        x[p] = kept
    is_product = _is_product(m, axes)
    factors = np.empty((max(n_axes, 1), largest if is_product else 1, n_cells))
    partial = np.empty((n_axes + 1, n_cells))
    if is_product:
        is_product = _set_factors(m, w, x, axes, nodes, sizes, factors, partial[0])
    places = np.empty(n_cells, dtype=np.int64)
    _set_cell_places(m, is_signal, places)
    yields = np.empty(2 * n_bins)
    background, signal = yields[:n_bins], yields[n_bins:]
    place = np.zeros(MAX_AXES, dtype=np.int64)
    total = 1
    for a in range(n_axes):
        total *= sizes[a]
    changed = 0
    for _ in range(total):
        weight, constraint = 1.0, nothing
        for a in range(n_axes):
            weight *= weights[a, place[a]]
            constraint += constraints[a, place[a]]
        if is_product:
            for a in range(changed, n_axes):
                row = factors[a, place[a]]
                for c in range(n_cells):
                    partial[a + 1, c] = partial[a, c] * row[c]
        if constraint - 0.5 * best < _NOTHING:  # the bins add to it, or nothing
            if not is_product:
                for a in range(n_axes):
                    x[axes[a]] = nodes[a, place[a]]
                    w.vectors[SIDE, axes[a]] = 1.0 if nodes[a, place[a]] >= 0.0 else -1.0
                _set_cells(m, w, x, partial[n_axes])
            yields[:] = 0.0
            for c in range(n_cells):
                yields[places[c]] += partial[n_axes, c]
            log_factor = math.log(weight) + 0.5 * best - constraint
            mass = _add_likelihood(
                data, signal, background, log_factor, mus, n_mus, product, values, powers, density, mu_weights
            )
            for a in range(n_axes):
                marginals[a, place[a]] += mass
        changed = 0
        for a in range(n_axes - 1, -1, -1):
            place[a] += 1
            if place[a] < sizes[a]:
                changed = a
                break
            place[a] = 0
