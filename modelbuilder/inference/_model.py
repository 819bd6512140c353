"""-2 ln L of a HistFactory model as arrays, with gradient and Hessian, its bin-wise parameters eliminated.

Parameters are either global (scalars, and bin-wise ones that meet another) or local: those act on one bin only, at most
one on each sample there, and are always at their best (`profile_bin`). What is differentiated is the profile, exactly.

With t and w the first two derivatives of the Poisson term of a bin, 1/D_k the inverse curvature of the constraint of its
local k, which scales the yields B_k, and h_k and h the gradients by the globals of the yields that k scales and of those
that none scales,

    e_k = gamma_k - B_k t/D_k      kappa = w/(1 + w sum_k B_k^2/D_k)      g = h + sum_k e_k h_k
    Hessian = sum_bins kappa g g^T - sum_k (t^2/D_k) h_k h_k^T + t times the second derivatives of the yields.

That is the Schur complement of the full Hessian, in closed form. The vectors g and h_k are rows over the globals that
act in a channel at all. No product of factors is divided by one that is zero, so that any of them may be.

Each bin and each row is summed in a fixed order: the same bits, whichever thread does it.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from modelbuilder.inference._binwise import (
    NORMAL,
    POISSON,
    is_simple,
    poisson_slopes,
    poisson_term,
    profile_bin,
    profile_one,
)
from modelbuilder.inference._interpolation import N_COEFFICIENTS, norm_factor, shape_weights
from modelbuilder.kinematics._compile import inlined, inner

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

# numpy's integers: numba would compile once for each value of a Python one
VALUE, GRADIENT, HESSIAN = np.int64(0), np.int64(1), np.int64(2)

# The fields of a packed model: `integers` begins with where each of them begins, here or in `floats`. A block is a
# sample in a channel; *_START are CSR offsets, one longer than the list. Few arrays and many offsets, since the time
# that numba takes to compile a call grows with the number of arrays that are handed over.
SIZES = 0
CHANNEL_BLOCK = 1  # first block of each channel
CHANNEL_BIN = 2  # first bin of each channel
ACTIVE_START = 3  # by channel
ACTIVE = 4  # the globals that act in a channel; the place of one among them is its slot
BLOCK_OFFSET = 5  # of each block in NOMINAL and LOCAL_OF
LOCAL_OF = 6  # per block and bin: the local parameter that scales it, or -1
BIN_LOCAL = 7  # first local of each bin
LOCAL_KIND = 8
FACTOR_START = 9  # scalar factors, by block
FACTOR_PARAMETER = 10
FACTOR_CODE = 11
FACTOR_SLOT = 12
SHAPE_START = 13  # histosys, by block
SHAPE_PARAMETER = 14
SHAPE_OFFSET = 15  # in SHAPE_UP and SHAPE_DOWN
SHAPE_SLOT = 16
SPOT_START = 17  # bin-wise globals, by block, sorted by bin
SPOT_PARAMETER = 18
SPOT_BIN = 19  # counted from the first bin of the channel
SPOT_SLOT = 20
KIND = 21  # constraint of each global: FREE, NORMAL, POISSON
FIXED = 22
KINKED = 23  # whether the global has a kink at zero (codes 0 and 1)
BENT = 24  # globals in which -2 ln L may have several minima, the worst first
N_INTEGER_FIELDS = 25
NOMINAL = 26
FACTOR_COEFFICIENTS = 27
SHAPE_UP = 28  # hi - nominal
SHAPE_DOWN = 29  # nominal - lo
LOCAL_WIDTH = 30  # sigma of a normal constraint, factor tau of a Poisson one
LOCAL_LOWER = 31
LOCAL_UPPER = 32
WIDTH = 33
LOWEST = 34
HIGHEST = 35
INITIAL = 36
BENDS = 37  # by BENT and bin: even part of the variation, in events
N_FLOAT_FIELDS = 12


class Model(NamedTuple):
    """A model as flat arrays; see the fields above.

    sizes: n_globals, POI, n_bins, n_locals, n_blocks, n_channels, histosys code, n_bent, and how many of these are
    always started on other sides; whether there are products of free parameters.
    """

    sizes: Integers
    integers: Integers
    floats: Floats


class Data(NamedTuple):
    """Counts per bin, and the auxiliary measurements of global and of local parameters (unused where there is none)."""

    counts: Floats
    auxiliary: Floats
    local_auxiliary: Floats


# rows of Work.vectors
SIDE = 0  # on which side of a kink a global is that sits at zero
POINT = 1
TRIAL = 2
STEP = 3
TANGENT = 4
LOWER = 5
UPPER = 6
SCALE = 7
VECTOR = 8
OTHER = 9
SHAPE_WEIGHTS = 10  # six rows: those of `shape_weights`
N_VECTORS = 16
# rows of Work.bins
REST = 0  # expected events without those that a local scales
SLOPE = 1  # t
CURVATURE = 2  # kappa
OMEGA = 3  # t gamma, of the cells of one block
CELL = 4  # product of the bin-wise globals, of the cells of one block
BEND = 5  # derivative of those cells by the parameter of one shape
N_BINS_ROWS = 6
# rows of Work.locals_
AFFECTED = 0  # B_k
INVERSE = 1  # 1/D_k
# rows of Work.factors
FACTOR = 0
FIRST = 1
SECOND = 2
LOGARITHMIC = 3  # first derivative over value
OWN = 4
N_FACTOR_ROWS = 5
_TINY = 1e-200  # a factor below this is zero


class Work(NamedTuple):
    """Scratch space, and the results of the last `evaluate`."""

    gradient: Floats  # of -2 ln L by the globals
    hessian: Floats  # (n_globals, n_globals)
    gamma: Floats  # the locals at their best
    rate: Floats  # expected events of each bin
    counters: Integers  # fits, evaluations, free globals in the last factorisation;
    # whether fits are thorough; how often that has helped
    free: Integers  # globals that may move
    vectors: Floats  # of one number per global
    factor: Floats  # Cholesky, rows padded to a multiple of four
    bins: Floats
    locals_: Floats
    factors: Floats
    base: Floats  # (nominal + shapes) times bin-wise globals, per block and bin
    product: Floats  # of the scalar factors of each block
    rows: Floats  # one behind the other, each padded to a multiple of four
    scaled: Floats
    compact: Floats  # Hessian by slots, padded in the same way; one row more


@inner
def unpack(integers: Integers, floats: Floats) -> Model:
    """A packed model."""
    return Model(integers[integers[SIZES] : integers[SIZES + 1]], integers, floats)


@inner
def make_work(m: Model) -> Work:
    """Scratch space for a model; it belongs to one thread."""
    i = m.integers
    n, n_bins, n_locals = m.sizes[0], m.sizes[2], m.sizes[3]
    n_rows, n_active = 0, 0
    for c in range(m.sizes[5]):
        first, last = i[i[CHANNEL_BIN] + c], i[i[CHANNEL_BIN] + c + 1]
        n_rows = max(n_rows, last - first + i[i[BIN_LOCAL] + last] - i[i[BIN_LOCAL] + first])
        n_active = max(n_active, i[i[ACTIVE_START] + c + 1] - i[i[ACTIVE_START] + c])
    stride = 4 * ((n_active + 3) // 4)
    cells = 4 * ((n_rows + 3) // 4) * stride
    vectors = np.zeros((N_VECTORS, n))
    vectors[SIDE, :] = 1.0
    counters = np.zeros(5, dtype=np.int64)
    counters[3] = 1
    return Work(
        np.zeros(n),
        np.zeros((n, n)),
        np.ones(n_locals),
        np.zeros(n_bins),
        counters,
        np.zeros(n, dtype=np.int64),
        vectors,
        np.zeros(4 * ((n + 3) // 4) * n),
        np.zeros((N_BINS_ROWS, n_bins)),
        np.zeros((2, n_locals)),
        np.zeros((N_FACTOR_ROWS, i[FACTOR_CODE] - i[FACTOR_PARAMETER])),
        np.zeros(i[NOMINAL + 1] - i[NOMINAL]),
        np.zeros(m.sizes[4]),
        np.zeros(cells),
        np.zeros(cells),
        np.zeros((n_active + 1) * stride),
    )


@inner
def expect(m: Model, w: Work, x: Floats) -> None:
    """Expected events at the globals `x`: rest, and affected for each local; the locals play no part."""
    i, f = m.integers, m.floats
    rest, affected, side = w.bins[REST], w.locals_[AFFECTED], w.vectors[SIDE]
    rest[:] = 0.0
    affected[:] = 0.0
    if i[SHAPE_PARAMETER + 1] > i[SHAPE_PARAMETER]:
        for p in range(m.sizes[0]):
            weights = shape_weights(m.sizes[6], x[p], side[p])
            for row in range(6):
                w.vectors[SHAPE_WEIGHTS + row, p] = weights[row]
    coefficients = f[i[FACTOR_COEFFICIENTS] : i[FACTOR_COEFFICIENTS + 1]]
    for c in range(m.sizes[5]):
        first_bin = i[i[CHANNEL_BIN] + c]
        n = i[i[CHANNEL_BIN] + c + 1] - first_bin
        for j in range(i[i[CHANNEL_BLOCK] + c], i[i[CHANNEL_BLOCK] + c + 1]):
            o = i[i[BLOCK_OFFSET] + j]
            base, nominal = w.base[o : o + n], f[i[NOMINAL] + o : i[NOMINAL] + o + n]
            product = 1.0
            for k in range(i[i[FACTOR_START] + j], i[i[FACTOR_START] + j + 1]):
                p = i[i[FACTOR_PARAMETER] + k]
                value, first, second = norm_factor(
                    i[i[FACTOR_CODE] + k], x[p], side[p], coefficients, N_COEFFICIENTS * k
                )
                w.factors[FACTOR, k], w.factors[FIRST, k], w.factors[SECOND, k] = value, first, second
                product *= value
            w.product[j] = product
            for b in range(n):
                base[b] = nominal[b]
            for k in range(i[i[SHAPE_START] + j], i[i[SHAPE_START] + j + 1]):
                p = i[i[SHAPE_PARAMETER] + k]
                up, down = w.vectors[SHAPE_WEIGHTS, p], w.vectors[SHAPE_WEIGHTS + 1, p]
                s = i[i[SHAPE_OFFSET] + k]
                shape_up, shape_down = (
                    f[i[SHAPE_UP] + s : i[SHAPE_UP] + s + n],
                    f[i[SHAPE_DOWN] + s : i[SHAPE_DOWN] + s + n],
                )
                for b in range(n):
                    base[b] += up * shape_up[b] + down * shape_down[b]
            for k in range(i[i[SPOT_START] + j], i[i[SPOT_START] + j + 1]):
                base[i[i[SPOT_BIN] + k]] *= x[i[i[SPOT_PARAMETER] + k]]
            for b in range(n):
                local = i[i[LOCAL_OF] + o + b]
                if local >= 0:
                    affected[local] += product * base[b]
                else:
                    rest[first_bin + b] += product * base[b]


@inner
def _profile(m: Model, w: Work, data: Data) -> float:
    """-ln L of the bins and their locals, less its constant; `gamma`, `rate`, and what the derivatives need."""
    i, f = m.integers, m.floats
    kinds = i[i[LOCAL_KIND] : i[LOCAL_KIND + 1]]
    widths, lowers = f[i[LOCAL_WIDTH] : i[LOCAL_WIDTH + 1]], f[i[LOCAL_LOWER] : i[LOCAL_LOWER + 1]]
    uppers = f[i[LOCAL_UPPER] : i[LOCAL_UPPER + 1]]
    affected, inverse, gamma, auxiliary = w.locals_[AFFECTED], w.locals_[INVERSE], w.gamma, data.local_auxiliary
    total = 0.0
    for b in range(m.sizes[2]):
        first, last = i[i[BIN_LOCAL] + b], i[i[BIN_LOCAL] + b + 1]
        n = data.counts[b]
        rate = w.bins[REST, b]
        if last == first + 1 and is_simple(kinds[first], n, rate, affected[first], auxiliary[first]):
            k = first
            gamma[k], inverse[k] = profile_one(
                kinds[k], n, rate, affected[k], auxiliary[k], widths[k], lowers[k], uppers[k]
            )
            rate += affected[k] * gamma[k]
        elif last > first:
            rate = profile_bin(n, rate, first, last, kinds, widths, lowers, uppers, auxiliary, affected, gamma, inverse)
        w.rate[b] = rate
        total += poisson_term(n, rate)
        if not total < math.inf:
            return math.inf
        slope, curvature = poisson_slopes(n, rate)
        softness = 0.0
        for k in range(first, last):
            if kinds[k] == NORMAL:
                pull = (gamma[k] - auxiliary[k]) / widths[k]
                total += 0.5 * pull * pull
            elif kinds[k] == POISSON:
                total += poisson_term(auxiliary[k], widths[k] * gamma[k])
            if inverse[k] == math.inf:  # a free one that absorbs the bin
                slope, curvature = 0.0, 0.0
                inverse[k] = 0.0
            softness += affected[k] * affected[k] * inverse[k]
        w.bins[SLOPE, b] = slope
        w.bins[CURVATURE, b] = curvature / (1.0 + curvature * softness)
    return total


@inner
def _constraints(m: Model, w: Work, x: Floats, data: Data, order: np.int64) -> float:
    """-ln of the constraint terms of the globals, less its constant; sets gradient and Hessian to theirs."""
    i, f = m.integers, m.floats
    total = 0.0
    if order >= GRADIENT:
        w.gradient[:] = 0.0
    if order >= HESSIAN:
        w.hessian[:, :] = 0.0
    for p in range(m.sizes[0]):
        kind, width = i[i[KIND] + p], f[i[WIDTH] + p]
        if kind == NORMAL:
            variance = width * width
            pull = x[p] - data.auxiliary[p]
            total += 0.5 * pull * pull / variance
            slope, curvature = pull / variance, 1.0 / variance
        elif kind == POISSON:
            total += poisson_term(data.auxiliary[p], width * x[p])
            slope, curvature = poisson_slopes(data.auxiliary[p], width * x[p])
            slope, curvature = width * slope, width * width * curvature
        else:
            continue
        if order >= GRADIENT:
            w.gradient[p] = slope
        if order >= HESSIAN:
            w.hessian[p, p] = curvature
    return total


@inlined
def add_scaled(target: Floats, at: int, coefficient: float, source: Floats, start: int, n_quads: int) -> None:
    """target[at : ] += coefficient source[start : ], four at a time.

    Unsigned integers spare numba the question whether an index counts from the end.
    """
    a, s = np.uint64(at), np.uint64(start)
    four, one, two, three = np.uint64(4), np.uint64(1), np.uint64(2), np.uint64(3)
    for quad in range(np.uint64(n_quads)):
        k = np.uint64(quad) * four
        v0 = target[a + k] + coefficient * source[s + k]
        v1 = target[a + k + one] + coefficient * source[s + k + one]
        v2 = target[a + k + two] + coefficient * source[s + k + two]
        v3 = target[a + k + three] + coefficient * source[s + k + three]
        target[a + k] = v0
        target[a + k + one] = v1
        target[a + k + two] = v2
        target[a + k + three] = v3


@inner
def _add_products(compact: Floats, rows: Floats, scaled: Floats, n_rows: int, n_active: int, stride: int) -> None:
    """Adds sum_r rows_r scaled_r^T to the lower triangle of `compact`; n_rows and stride are multiples of four."""
    u_stride, four = np.uint64(stride), np.uint64(4)
    one, two, three = np.uint64(1), np.uint64(2), np.uint64(3)
    for group in range(np.uint64(n_rows) // four):
        r0 = np.uint64(group) * four * u_stride
        r1, r2, r3 = r0 + u_stride, r0 + two * u_stride, r0 + three * u_stride
        for row in range(np.uint64(n_active)):
            p = np.uint64(row)
            c0, c1, c2, c3 = rows[r0 + p], rows[r1 + p], rows[r2 + p], rows[r3 + p]
            if c0 == 0.0 and c1 == 0.0 and c2 == 0.0 and c3 == 0.0:
                continue
            at = p * u_stride
            for quad in range(p // four + one):
                k = np.uint64(quad) * four
                k1, k2, k3 = k + one, k + two, k + three
                v0 = (c0 * scaled[r0 + k] + c1 * scaled[r1 + k]) + (c2 * scaled[r2 + k] + c3 * scaled[r3 + k])
                v1 = (c0 * scaled[r0 + k1] + c1 * scaled[r1 + k1]) + (c2 * scaled[r2 + k1] + c3 * scaled[r3 + k1])
                v2 = (c0 * scaled[r0 + k2] + c1 * scaled[r1 + k2]) + (c2 * scaled[r2 + k2] + c3 * scaled[r3 + k2])
                v3 = (c0 * scaled[r0 + k3] + c1 * scaled[r1 + k3]) + (c2 * scaled[r2 + k3] + c3 * scaled[r3 + k3])
                v0, v1, v2, v3 = (
                    compact[at + k] + v0,
                    compact[at + k1] + v1,
                    compact[at + k2] + v2,
                    compact[at + k3] + v3,
                )
                compact[at + k] = v0
                compact[at + k1] = v1
                compact[at + k2] = v2
                compact[at + k3] = v3


@inner
def _differentiate_block(
    m: Model, w: Work, x: Floats, j: int, first_bin: int, n: int, stride: int, n_active: int, order: np.int64
) -> None:
    """Adds the derivatives of the yields of one block: times t to the gradient, and to rows and to `compact`.

    What is added to `compact` off its diagonal, its transpose is to be added to.
    """
    i, f = m.integers, m.floats
    omega, cell, bend, slope = w.bins[OMEGA], w.bins[CELL], w.bins[BEND], w.bins[SLOPE]
    value, first, second, log_first, own = w.factors[0], w.factors[1], w.factors[2], w.factors[3], w.factors[4]
    rows, compact, gradient = w.rows, w.compact, w.gradient
    o = i[i[BLOCK_OFFSET] + j]
    local_of = i[i[LOCAL_OF] + o : i[LOCAL_OF] + o + n]
    base = w.base[o : o + n]
    first_local = i[i[BIN_LOCAL] + first_bin]
    factor_a, factor_z = i[i[FACTOR_START] + j], i[i[FACTOR_START] + j + 1]
    shape_a, shape_z = i[i[SHAPE_START] + j], i[i[SHAPE_START] + j + 1]
    spot_a, spot_z = i[i[SPOT_START] + j], i[i[SPOT_START] + j + 1]
    full = order >= HESSIAN
    dense = n_active * stride
    if full:
        for k in range(dense, dense + stride):
            compact[k] = 0.0
    total = 0.0
    for b in range(n):
        local, t = local_of[b], slope[first_bin + b]
        omega[b] = t * w.gamma[local] if local >= 0 else t
        cell[b] = 1.0
        total += omega[b] * base[b]
    for k in range(spot_a, spot_z):
        cell[i[i[SPOT_BIN] + k]] *= x[i[i[SPOT_PARAMETER] + k]]
    # the product of the factors that are not zero, and which are
    product, n_zeros, zero, other_zero = 1.0, 0, 0, 0
    for k in range(factor_a, factor_z):
        if abs(value[k]) < _TINY:
            n_zeros += 1
            other_zero = zero
            zero = k
            log_first[k] = 0.0
        else:
            product *= value[k]
            log_first[k] = first[k] / value[k]
    if n_zeros == 2 and full:
        at, to = i[i[FACTOR_SLOT] + zero], i[i[FACTOR_SLOT] + other_zero]
        compact[at * stride + to] += first[zero] * first[other_zero] * product * total
    if n_zeros >= 2:
        return
    scale = product if n_zeros == 0 else 0.0

    for k in range(shape_a, shape_z):
        p, slot = i[i[SHAPE_PARAMETER] + k], i[i[SHAPE_SLOT] + k]
        up, down = w.vectors[SHAPE_WEIGHTS + 2, p], w.vectors[SHAPE_WEIGHTS + 3, p]
        s = i[i[SHAPE_OFFSET] + k]
        shape_up, shape_down = f[i[SHAPE_UP] + s : i[SHAPE_UP] + s + n], f[i[SHAPE_DOWN] + s : i[SHAPE_DOWN] + s + n]
        moved = 0.0
        for b in range(n):
            bend[b] = (up * shape_up[b] + down * shape_down[b]) * cell[b]
            moved += omega[b] * bend[b]
        gradient[p] += scale * moved
        if not full:
            continue
        compact[dense + slot] += moved
        if scale != 0.0:
            for b in range(n):
                local = local_of[b]
                target = b if local < 0 else n + local - first_local
                rows[target * stride + slot] += scale * bend[b]
            up, down = w.vectors[SHAPE_WEIGHTS + 4, p], w.vectors[SHAPE_WEIGHTS + 5, p]
            if up != 0.0 or down != 0.0:
                bent = 0.0
                for b in range(n):
                    bent += omega[b] * cell[b] * (up * shape_up[b] + down * shape_down[b])
                compact[slot * stride + slot] += scale * bent

    for k in range(spot_a, spot_z):
        p, b, slot = i[i[SPOT_PARAMETER] + k], i[i[SPOT_BIN] + k], i[i[SPOT_SLOT] + k]
        others = 1.0
        raw = f[i[NOMINAL] + o + b]
        for k2 in range(spot_a, spot_z):
            if k2 != k and i[i[SPOT_BIN] + k2] == b:
                others *= x[i[i[SPOT_PARAMETER] + k2]]
        for k2 in range(shape_a, shape_z):
            q, s = i[i[SHAPE_PARAMETER] + k2], i[i[SHAPE_OFFSET] + k2] + b
            shape_up, shape_down = f[i[SHAPE_UP] + s], f[i[SHAPE_DOWN] + s]
            raw += w.vectors[SHAPE_WEIGHTS, q] * shape_up + w.vectors[SHAPE_WEIGHTS + 1, q] * shape_down
            if full:
                mixed = w.vectors[SHAPE_WEIGHTS + 2, q] * shape_up + w.vectors[SHAPE_WEIGHTS + 3, q] * shape_down
                compact[slot * stride + i[i[SHAPE_SLOT] + k2]] += scale * others * omega[b] * mixed
        moved = omega[b] * raw * others
        gradient[p] += scale * moved
        if full:
            compact[dense + slot] += moved
            local = local_of[b]
            target = b if local < 0 else n + local - first_local
            rows[target * stride + slot] += scale * raw * others
            for k2 in range(k + 1, spot_z):
                if i[i[SPOT_BIN] + k2] == b:
                    rest = 1.0
                    for k3 in range(spot_a, spot_z):
                        if k3 not in (k, k2) and i[i[SPOT_BIN] + k3] == b:
                            rest *= x[i[i[SPOT_PARAMETER] + k3]]
                    compact[slot * stride + i[i[SPOT_SLOT] + k2]] += scale * rest * raw * omega[b]

    if n_zeros == 1:
        slot, by_zero = i[i[FACTOR_SLOT] + zero], product * first[zero]
        gradient[i[i[FACTOR_PARAMETER] + zero]] += by_zero * total
        if full:
            for b in range(n):
                local = local_of[b]
                target = b if local < 0 else n + local - first_local
                rows[target * stride + slot] += by_zero * base[b]
            diagonal = 2.0 * by_zero * compact[dense + slot] + total * product * second[zero]
            for k in range(factor_a, factor_z):
                compact[dense + i[i[FACTOR_SLOT] + k]] += total * log_first[k]
            compact[dense + slot] = 0.0
            add_scaled(compact, slot * stride, by_zero, compact, dense, stride // 4)
            compact[slot * stride + slot] += diagonal
        return
    for k in range(factor_a, factor_z):
        gradient[i[i[FACTOR_PARAMETER] + k]] += product * log_first[k] * total
    if not full:
        return
    for b in range(n):
        local = local_of[b]
        at = (b if local < 0 else n + local - first_local) * stride
        events = product * base[b]
        for k in range(factor_a, factor_z):
            rows[at + i[i[FACTOR_SLOT] + k]] += events * log_first[k]
    for k in range(factor_a, factor_z):
        own[k] = compact[dense + i[i[FACTOR_SLOT] + k]]
    for k in range(factor_a, factor_z):
        compact[dense + i[i[FACTOR_SLOT] + k]] += 0.5 * total * log_first[k]
    for k in range(factor_a, factor_z):
        slot = i[i[FACTOR_SLOT] + k]
        kept = compact[dense + slot]
        compact[dense + slot] = 0.0
        add_scaled(compact, slot * stride, product * log_first[k], compact, dense, stride // 4)
        compact[dense + slot] = kept
        compact[slot * stride + slot] += product * (2.0 * log_first[k] * own[k] + total * second[k] / value[k])


@inner
def _differentiate(m: Model, w: Work, x: Floats, order: np.int64) -> None:
    """Adds what the bins give to gradient and Hessian."""
    i = m.integers
    inverse, affected = w.locals_[INVERSE], w.locals_[AFFECTED]
    rows, scaled, compact, hessian = w.rows, w.scaled, w.compact, w.hessian
    for c in range(m.sizes[5]):
        first_bin = i[i[CHANNEL_BIN] + c]
        n = i[i[CHANNEL_BIN] + c + 1] - first_bin
        active = i[i[ACTIVE] + i[i[ACTIVE_START] + c] : i[ACTIVE] + i[i[ACTIVE_START] + c + 1]]
        n_active = len(active)
        stride = 4 * ((n_active + 3) // 4)
        first_local, last_local = i[i[BIN_LOCAL] + first_bin], i[i[BIN_LOCAL] + first_bin + n]
        n_rows = 4 * ((n + last_local - first_local + 3) // 4)
        if order >= HESSIAN:
            rows[: n_rows * stride] = 0.0
            scaled[: n_rows * stride] = 0.0
            compact[: n_active * stride] = 0.0
        for j in range(i[i[CHANNEL_BLOCK] + c], i[i[CHANNEL_BLOCK] + c + 1]):
            _differentiate_block(m, w, x, j, first_bin, n, stride, n_active, order)
        if order < HESSIAN:
            continue
        for b in range(n):
            t = w.bins[SLOPE, first_bin + b]
            for k in range(i[i[BIN_LOCAL] + first_bin + b], i[i[BIN_LOCAL] + first_bin + b + 1]):
                at = (n + k - first_local) * stride
                add_scaled(rows, b * stride, w.gamma[k] - affected[k] * t * inverse[k], rows, at, stride // 4)
                add_scaled(scaled, at, -t * t * inverse[k], rows, at, stride // 4)
            add_scaled(scaled, b * stride, w.bins[CURVATURE, first_bin + b], rows, b * stride, stride // 4)
        # what comes now fills the lower triangle only; what the blocks have added lies on both sides
        for p in range(n_active):
            for q in range(p):
                compact[p * stride + q] += compact[q * stride + p]
        _add_products(compact, rows, scaled, n_rows, n_active, stride)
        for p in range(n_active):
            to = active[p]
            for q in range(p + 1):
                hessian[to, active[q]] += compact[p * stride + q]


@inner
def evaluate(m: Model, w: Work, x: Floats, data: Data, order: np.int64) -> float:
    """-2 ln L at the globals `x`, less its value where every term is at its own best; infinite for impossible data.

    order: VALUE, GRADIENT (the Hessian is then rubbish) or HESSIAN.
    """
    w.counters[1] += 1
    expect(m, w, x)
    total = _profile(m, w, data)
    if not total < math.inf:
        return math.inf
    total += _constraints(m, w, x, data, order)
    if not total < math.inf:
        return math.inf
    if order >= GRADIENT:
        _differentiate(m, w, x, order)
        n = m.sizes[0]
        for p in range(n):
            w.gradient[p] *= 2.0
            if order >= HESSIAN:
                for q in range(p + 1):  # the active ones are sorted: all is in the lower triangle
                    w.hessian[p, q] *= 2.0
                    w.hessian[q, p] = w.hessian[p, q]
    return 2.0 * total
