"""One bin: its Poisson term, and the parameters that act on this bin alone, eliminated.

The expected events are rate = rest + sum_k B_k gamma_k. For given rest and B_k the terms of the bin,
rate - n ln(rate) + sum_k c_k(gamma_k), are convex in the gammas, and each gamma follows from the slope t = 1 - n/rate:

    normal   c' = (gamma - a)/sigma^2        gamma = a - sigma^2 B t
    poisson  c' = tau - m/gamma              gamma = m/(tau + B t)
    free     c' = 0                          t = 0, or gamma at one of its bounds

For one gamma that is a quadratic equation; for several, one equation in the rate alone.
"""

import math

import numpy as np
import numpy.typing as npt

from modelbuilder.kinematics._compile import inlined, inner

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

FREE, NORMAL, POISSON = 0, 1, 2
EMPTY = 1e-100  # an observation below this counts as no events
CLIP_WIDTH = 1e-6  # events: how far below zero the term of an empty bin goes on falling
_MAX_STEPS = 200


@inlined
def poisson_term(n: float, rate: float) -> float:
    """-ln of Poisson(n | rate)/Poisson(n | n), exact for a rate close to n; infinite where n is impossible.

    A negative rate with no events counts as an empty bin, but for a smooth step of CLIP_WIDTH.
    """
    if n > EMPTY:
        if not rate > 0.0:
            return math.inf
        ratio = (rate - n) / n
        return n * (ratio - (math.log1p(ratio) if ratio > -0.5 else math.log(rate / n)))
    low = max(rate, -CLIP_WIDTH)
    return low if low >= 0.0 else low + 0.5 * low * low / CLIP_WIDTH


@inlined
def poisson_slopes(n: float, rate: float) -> tuple[float, float]:
    """First and second derivative of `poisson_term` by the rate."""
    if n > EMPTY:
        return (rate - n) / rate, n / (rate * rate)
    if rate >= 0.0:
        return 1.0, 0.0
    if rate > -CLIP_WIDTH:
        return 1.0 + rate / CLIP_WIDTH, 1.0 / CLIP_WIDTH
    return 0.0, 0.0


@inlined
def _gamma_at(
    kind: int, auxiliary: float, width: float, lower: float, upper: float, affected: float, slope: float
) -> tuple[float, float]:
    """Best gamma for a slope t of the bin, and 1/c'' there: 0 on a bound. Not for a free one."""
    if kind == NORMAL:
        variance = width * width
        gamma = auxiliary - variance * affected * slope
        inverse = variance
    else:
        rate = width + affected * slope
        gamma = auxiliary / rate if rate > 0.0 else math.inf
        inverse = gamma * gamma / auxiliary if auxiliary > 0.0 else 0.0
    if gamma <= lower:
        return lower, 0.0
    if gamma >= upper:
        return upper, 0.0
    return gamma, inverse


@inlined
def _slope_of_one(kind: int, n: float, rest: float, affected: float, auxiliary: float, width: float) -> float:
    """The slope t where one gamma, without bounds, is at its best; the caller has excluded the awkward signs."""
    if kind == NORMAL:
        pull = width * width * affected * affected
        p = rest + auxiliary * affected - pull
        root = math.sqrt(p * p + 4.0 * n * pull)
        rate = 0.5 * (p + root) if p >= 0.0 else 2.0 * n * pull / (root - p)
        return (rate - n) / rate
    a = affected * (affected + width)
    b = rest * (affected + width) - affected * (n + auxiliary)
    root = math.sqrt(b * b + 4.0 * a * auxiliary * rest)
    gamma = 2.0 * auxiliary * rest / (b + root) if b > 0.0 else (root - b) / (2.0 * a)
    rate = rest + gamma * affected
    return (rate - n) / rate


@inlined
def is_simple(kind: int, n: float, rest: float, affected: float, auxiliary: float) -> bool:
    """Whether one gamma alone in its bin follows from a quadratic equation without awkward signs."""
    return kind != FREE and n > EMPTY and affected > 0.0 and (rest > 0.0 or (rest == 0.0 and auxiliary > 0.0))


@inlined
def profile_one(
    kind: int, n: float, rest: float, affected: float, auxiliary: float, width: float, lower: float, upper: float
) -> tuple[float, float]:
    """Best gamma of a simple bin, and 1/c'' there."""
    t = _slope_of_one(kind, n, rest, affected, auxiliary, width)
    return _gamma_at(kind, auxiliary, width, lower, upper, affected, t)


@inner
def profile_bin(
    n: float,
    rest: float,
    first: int,
    last: int,
    kinds: Integers,
    widths: Floats,
    lowers: Floats,
    uppers: Floats,
    auxiliary: Floats,
    affected: Floats,
    gamma: Floats,
    inverse: Floats,
) -> float:
    """Best gammas `first` to `last` (excluded), into `gamma`, and 1/c'' there, into `inverse`; returns the rate.

    A rate that is not positive where there are events says that the data are impossible here.
    inverse: 0 for a gamma on a bound; infinite for a free one that absorbs the bin, where t = 0.
    """
    # a free gamma takes what the others leave, or sits on a bound and is a constant
    taker = -1
    for k in range(first, last):
        if kinds[k] == FREE:
            taker = k
            gamma[k], inverse[k] = 1.0 if lowers[k] <= 1.0 <= uppers[k] else lowers[k], 0.0
            if affected[k] != 0.0:
                left = n - rest
                for other in range(first, last):
                    if other != k:
                        gamma[other], inverse[other] = _gamma_at(
                            kinds[other],
                            auxiliary[other],
                            widths[other],
                            lowers[other],
                            uppers[other],
                            affected[other],
                            0.0,
                        )
                        left -= affected[other] * gamma[other]
                gamma[k] = left / affected[k]
                if lowers[k] < gamma[k] < uppers[k]:
                    inverse[k] = math.inf
                    return n
                gamma[k] = lowers[k] if gamma[k] <= lowers[k] else uppers[k]
            rest += affected[k] * gamma[k]
    if n <= EMPTY:
        # the slope t lies between 0 (rate below -CLIP_WIDTH) and 1 (rate positive); the rate falls with it
        low, high = 0.0, 1.0
        t = 1.0
        for _ in range(_MAX_STEPS):
            rate = rest
            for k in range(first, last):
                if k != taker:
                    gamma[k], inverse[k] = _gamma_at(
                        kinds[k], auxiliary[k], widths[k], lowers[k], uppers[k], affected[k], t
                    )
                    rate += affected[k] * gamma[k]
            best = min(max(1.0 + rate / CLIP_WIDTH, 0.0), 1.0)
            if best >= t:
                low = t
            else:
                high = t
            if best == t or high - low < 1e-15:
                break
            t = 0.0 if t == 1.0 else 0.5 * (low + high)
        return rate
    low, high = 0.0, math.inf
    rate = rest
    for k in range(first, last):
        if k != taker:
            gamma[k], inverse[k] = _gamma_at(kinds[k], auxiliary[k], widths[k], lowers[k], uppers[k], affected[k], 0.0)
            rate += affected[k] * gamma[k]
    if not rate > 0.0:
        rate = n
    for _ in range(_MAX_STEPS):
        t = (rate - n) / rate
        total, stiffness = rest, 0.0
        for k in range(first, last):
            if k != taker:
                b = affected[k]
                gamma[k], inverse[k] = _gamma_at(kinds[k], auxiliary[k], widths[k], lowers[k], uppers[k], b, t)
                total += b * gamma[k]
                stiffness += b * b * inverse[k]
        excess = rate - total
        if excess < 0.0:
            low = rate
        else:
            high = rate
        new = rate - excess / (1.0 + stiffness * n / (rate * rate))
        if not low <= new <= high:
            new = 0.5 * (low + high) if high < math.inf else 2.0 * rate
        if abs(new - rate) <= 4e-16 * rate or new < 1e-300:
            return total
        rate = new
    return total
