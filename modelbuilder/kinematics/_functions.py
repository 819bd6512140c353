"""Elementary functions without library calls or branches, so that the loops which call them are vectorised.

Polynomials of least maximal error, from FreeBSD's msun (e_log.c, k_sin.c, k_cos.c; Sun Microsystems, 1993), where they
are shorter than a Taylor series; and no quotient by a constant, which would be a division in each event.
"""

import numpy as np
import numpy.typing as npt

from modelbuilder.kinematics._compile import inlined, kernel

Floats = npt.NDArray[np.float64]


@inlined
def log(x: float) -> float:
    """Natural logarithm of a positive normal number, to 1e-15: x = 2^k m with m in [sqrt(1/2), sqrt(2)), 2 atanh."""
    bits = np.float64(x).view(np.int64)
    k = (bits - np.int64(0x3FE6A09E667F3BCD)) >> np.int64(52)
    m = np.int64(bits - (k << np.int64(52))).view(np.float64)
    z = (m - 1.0) / (m + 1.0)
    y = z * z
    p = 1.818357216161805012e-01 + y * (1.531383769920937332e-01 + y * 1.479819860511658591e-01)
    p = 3.999999999940941908e-01 + y * (2.857142874366239149e-01 + y * (2.222219843214978396e-01 + y * p))
    p = y * (6.666666666666735130e-01 + y * p)
    return float(z * (2.0 + p) + k * 0.6931471805599453)


@inlined
def exp(x: float) -> float:
    """Exponential, to 1e-15 |x|; arguments outside (-700, 700) are moved to the edge."""
    x = min(max(x, -700.0), 700.0)
    k = np.int64(x * 1.4426950408889634 + 1024.5) - 1024
    r = x - k * 0.6931471805599453
    p = 1 / 5040 + r * (1 / 40320 + r * (1 / 362880 + r * (1 / 3628800 + r * (1 / 39916800 + r * (1 / 479001600)))))
    p = 1.0 + r * (1.0 + r * (1 / 2 + r * (1 / 6 + r * (1 / 24 + r * (1 / 120 + r * (1 / 720 + r * p))))))
    return float(p * np.int64((k + 1023) << np.int64(52)).view(np.float64))


@inlined
def sincos_turns(u: float) -> tuple[float, float]:
    """sin(2 pi u) and cos(2 pi u) for u in [0, 1], to 1e-15: nearest quarter turn, then on |x| <= pi/4."""
    k = np.int32(4.0 * u + 0.5)
    x = (u - 0.25 * k) * 6.283185307179586
    y = x * x
    p = 2.75573137070700676789e-06 + y * (-2.50507602534068634195e-08 + y * 1.58969099521155010221e-10)
    p = 8.33333333332248946124e-03 + y * (-1.98412698298579493134e-04 + y * p)
    s = x + x * y * (-1.66666666666666324348e-01 + y * p)
    q = -2.75573143513906633035e-07 + y * (2.08757232129817482790e-09 + y * -1.13596475577881948265e-11)
    q = 4.16666666666666019037e-02 + y * (-1.38888888888741095749e-03 + y * (2.48015872894767294178e-05 + y * q))
    c = 1.0 + y * (-0.5 + y * q)
    swapped = (k & 1) == 1
    sine = c if swapped else s
    cosine = s if swapped else c
    if (k & 2) == 2:
        sine = -sine
    if ((k + 1) & 2) == 2:
        cosine = -cosine
    return sine, cosine


@inlined
def cos_dipole(u: float) -> float:
    """cos(theta) with density 3/8 (1 + cos^2): the root of c^3 + 3c = 8u - 4, by two Halley steps to 1e-15."""
    y = 8.0 * u - 4.0
    c = y * (1 / 3 - y * y * (1 / 192))
    for _ in range(2):
        f = c * (c * c + 3.0) - y
        d = 3.0 * (c * c + 1.0)
        c -= f * d / (d * d - 3.0 * c * f)
    return min(max(c, -1.0), 1.0)


@kernel
def tabulate(name: int, arguments: Floats, results: Floats) -> None:
    """The functions on arrays, for the tests: 0 log, 1 exp, 2 sin and cos of turns, 3 angle of 1 + cos^2.

    arguments: shape (n,); results: shape (n, 2).
    """
    for i in range(len(arguments)):
        if name == 0:
            results[i, 0] = log(arguments[i])
        elif name == 1:
            results[i, 0] = exp(arguments[i])
        elif name == 2:
            results[i, 0], results[i, 1] = sincos_turns(arguments[i])
        elif name == 3:
            results[i, 0] = cos_dipole(arguments[i])
