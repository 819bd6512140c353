"""Bernstein polynomials on a binning: positive by construction where their coefficients are.

Basis of order n on x in [0, 1]: b_k(x) = C(n, k) x^k (1 - x)^(n - k), k = 0 ... n.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls
from scipy.special import betainc

FloatArray = npt.NDArray[np.float64]


def basis(edges: FloatArray, order: int) -> FloatArray:
    """Integrals of the basis polynomials over the bins, shape (order + 1, n_bins); each row adds up to 1.

    edges: shape (n_bins + 1,), in any unit.
    The integral of b_k from 0 to x is I_x(k + 1, n - k + 1) / (n + 1), with I the regularised incomplete beta function.
    """
    x = (edges - edges[0]) / (edges[-1] - edges[0])
    k = np.arange(order + 1)[:, np.newaxis]
    return np.diff(betainc(k + 1, order - k + 1, x[np.newaxis, :]), axis=1)


def fit(expected: FloatArray, edges: FloatArray, order: int) -> FloatArray:
    """Yields of the basis polynomials, shape (order + 1,), none negative, that describe an expected spectrum.

    expected: shape (n_bins,), events per bin. Weighted least squares, with the expected yield as the variance.
    """
    weight = 1.0 / np.sqrt(_variance(expected))
    coefficients, _ = nnls((basis(edges, order) * weight).T, expected * weight)
    return np.asarray(coefficients, dtype=np.float64)


def spurious_signal(expected: FloatArray, signal: FloatArray, edges: FloatArray, order: int) -> float:
    """The signal yield that a fit of signal and polynomial finds in a spectrum without signal, in units of `signal`.

    expected, signal: shape (n_bins,), events per bin. Linear weighted least squares, as `fit`, with either sign.
    """
    weight = 1.0 / np.sqrt(_variance(expected))
    columns = np.vstack([signal, basis(edges, order)]) * weight
    solution, *_ = np.linalg.lstsq(columns.T, expected * weight, rcond=None)
    return float(solution[0])


def _variance(expected: FloatArray) -> FloatArray:
    """The expected yields as Poisson variances; empty bins weigh as the smallest that is not empty."""
    filled = expected[expected > 0.0]
    return np.maximum(expected, filled.min() if filled.size else 1.0)
