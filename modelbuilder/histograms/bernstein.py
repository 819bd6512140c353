"""Bernstein polynomials on a binning: positive by construction where their coefficients are.

Basis of order n on x in [0, 1]: b_k(x) = C(n, k) x^k (1 - x)^(n - k), k = 0 ... n.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls
from scipy.special import betainc

from modelbuilder.histograms.templates import Template

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


def spurious_signal(background: Template, signal: FloatArray, edges: FloatArray, order: int) -> tuple[float, float]:
    """The signal yield that a fit of signal and polynomial finds in a spectrum without signal, in units of `signal`.

    background, signal: of n_bins bins, events per bin. Linear weighted least squares, as `fit`, with either sign.
    Returns the yield and its standard deviation from the finite simulation of the background.
    """
    weight = 1.0 / np.sqrt(_variance(background.values))
    columns = np.vstack([signal, basis(edges, order)]) * weight
    estimator = np.linalg.pinv(columns.T)[0] * weight
    size = float(estimator @ background.values)
    return size, float(np.sqrt(estimator**2 @ background.variances))


def _variance(expected: FloatArray) -> FloatArray:
    """The expected yields as Poisson variances; empty bins weigh as the smallest that is not empty."""
    filled = expected[expected > 0.0]
    return np.maximum(expected, filled.min() if filled.size else 1.0)
