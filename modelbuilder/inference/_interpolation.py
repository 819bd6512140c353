"""Interpolation between templates: how a nuisance parameter changes a yield, with first and second derivatives.

A normsys multiplies by a factor; a histosys adds `up * (hi - nominal) + down * (nominal - lo)`, of which the two weights
come from here. K. Cranmer et al., HistFactory, CERN-OPEN-2012-016, section 4.1; the numbers of the codes are pyhf's.
Codes 0 and 1 have a kink at zero: `side` says which of the two one-sided derivatives is meant there.
"""

import math

import numpy as np
import numpy.typing as npt

from modelbuilder.kinematics._compile import inlined

Floats = npt.NDArray[np.float64]

PLAIN = 9  # the factor is the parameter itself: normfactor, lumi
N_COEFFICIENTS = 8  # of a normsys: ln hi, ln lo, and the six coefficients of code 4


@inlined
def norm_factor(code: int, alpha: float, side: float, coefficients: Floats, at: int) -> tuple[float, float, float]:
    """Factor and its first two derivatives; `coefficients[at : at + 8]` belong to it."""
    if code == PLAIN:
        return alpha, 1.0, 0.0
    if code == 4 and abs(alpha) < 1.0:
        value, slope, curvature = 0.0, 0.0, 0.0
        for power in range(6, 0, -1):  # Horner, for the sum over k >= 1 of a_k alpha^k
            a = coefficients[at + 1 + power]
            value = (value + a) * alpha
            slope = slope * alpha + power * a
            if power > 1:
                curvature = curvature * alpha + power * (power - 1) * a
        return 1.0 + value, slope, curvature
    up = alpha > 0.0 or (alpha == 0.0 and side > 0.0)
    rate = coefficients[at] if up else -coefficients[at + 1]
    factor = math.exp(rate * alpha)
    return factor, rate * factor, rate * rate * factor


@inlined
def shape_weights(code: int, alpha: float, side: float) -> tuple[float, float, float, float, float, float]:
    """Weights of (hi - nominal) and of (nominal - lo), then their first and their second derivatives.

    Code 2 goes on in a straight line beyond one sigma, as HistFactory has it; pyhf 0.7.6 jumps there.
    """
    if code == 0 or (code == 4 and abs(alpha) > 1.0):
        if alpha > 0.0 or (alpha == 0.0 and side > 0.0):
            return alpha, 0.0, 1.0, 0.0, 0.0, 0.0
        return 0.0, alpha, 0.0, 1.0, 0.0, 0.0
    if code == 2:
        if alpha > 1.0:
            return 1.5 * alpha - 0.5, 0.5 - 0.5 * alpha, 1.5, -0.5, 0.0, 0.0
        if alpha < -1.0:
            return -0.5 * alpha - 0.5, 1.5 * alpha + 0.5, -0.5, 1.5, 0.0, 0.0
        half, square = 0.5 * alpha, 0.5 * alpha * alpha
        return half + square, half - square, 0.5 + alpha, 0.5 - alpha, 1.0, -1.0
    z = alpha * alpha
    even = 0.0625 * z * (15.0 + z * (-10.0 + 3.0 * z))
    slope = 0.0625 * alpha * (30.0 + z * (-40.0 + 18.0 * z))
    curvature = 0.0625 * (30.0 + z * (-120.0 + 90.0 * z))
    return 0.5 * alpha + even, 0.5 * alpha - even, 0.5 + slope, 0.5 - slope, curvature, -curvature
