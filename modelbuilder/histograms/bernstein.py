"""Bernstein polynomials on a binning: positive by construction where their coefficients are.

Basis of order n on x in [0, 1]: b_k(x) = C(n, k) x^k (1 - x)^(n - k), k = 0 ... n.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls
from scipy.special import betainc

from modelbuilder.histograms.templates import SampleTemplates

FloatArray = npt.NDArray[np.float64]
_MOST_REPETITIONS = 50


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

    expected: shape (n_bins,), events per bin. The Poisson likelihood is maximised, by least squares with the fitted
    yields as variances, again and again; so the sum is kept where no coefficient is at its bound.
    """
    shapes = basis(edges, order)
    variance = _variance(np.full_like(expected, expected.mean()))
    coefficients = np.zeros(order + 1)
    for _ in range(_MOST_REPETITIONS):
        weight = 1.0 / np.sqrt(variance)
        new, _ = nnls((shapes * weight).T, expected * weight)
        converged = bool(np.all(np.abs(new - coefficients) <= 1e-9 * max(float(new.sum()), 1e-300)))
        coefficients = np.asarray(new, dtype=np.float64)
        if converged:
            break
        variance = _variance(coefficients @ shapes)
    return coefficients


def spurious_signal(
    background: SampleTemplates, signal: FloatArray, edges: FloatArray, order: int
) -> tuple[float, float]:
    """The signal yield that a fit of signal and polynomial finds in a spectrum without signal, in units of `signal`.

    background, signal: of n_bins bins, events per bin. Least squares with the expected yields as variances; the signal may
    have either sign, the coefficients are not negative, as in a fit.
    Returns the yield and its standard deviation from the finite simulation of the background, without bounds.
    """
    values = background.nominal.values
    weight = 1.0 / np.sqrt(_variance(values))
    columns = np.vstack([signal, basis(edges, order)]) * weight
    estimator = np.linalg.pinv(columns.T)[0] * weight
    found, _ = nnls(np.vstack([-columns[:1], columns]).T, values * weight)
    return float(found[1] - found[0]), float(np.sqrt(estimator @ background.covariance @ estimator))


def _variance(expected: FloatArray) -> FloatArray:
    """The expected yields as Poisson variances, not below a hundredth of their mean: empty bins must not rule a fit."""
    mean = float(expected.mean())
    return np.maximum(expected, 0.01 * mean if mean > 0.0 else 1.0)
