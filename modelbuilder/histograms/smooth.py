"""A smooth spectrum in place of a simulated one, whose fluctuations would look like signals, or like bad fits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.interpolate import BSpline
from scipy.optimize import nnls
from scipy.stats import chi2

from modelbuilder.histograms.templates import SampleTemplates, Smoothing, Template

FloatArray = npt.NDArray[np.float64]
_DEGREE = 3
_REPETITIONS = 20
_SHARE = 0.01
"""Of the variance of data, which is added to that of the simulation in the goodness of fit."""
_FEWEST = 10.0
"""Effective simulated events that a bin must have to count in the goodness of fit,"""
_LEAST = 0.01
"""and events that it must expect."""


def smoothed(template: Template, bins: int) -> SampleTemplates:
    """The template as a cubic spline that is nowhere negative, with a knot every `bins` bins.

    Bins count as equally wide. Least squares with the fitted yields as variances, again and again; the p-value is that of
    chi-squared, with the fitted yields times the mean weight of each bin as variances, and a hundredth of those of data:
    what data cannot see does not matter. So the template must be in expected events.
    """
    values, variances = template.values, template.variances
    if not values.sum() > 0.0:
        return SampleTemplates(template)
    shapes = _splines(len(values), bins)
    fitted = _local_mean(values, bins)
    coefficients = np.zeros(shapes.shape[1])
    for _ in range(_REPETITIONS):
        weight = 1.0 / np.sqrt(_floored(fitted))
        new, _ = nnls(shapes * weight[:, np.newaxis], values * weight)
        coefficients = np.asarray(new, dtype=np.float64)
        following = shapes @ coefficients
        close = bool(np.all(np.abs(following - fitted) <= 1e-6 * values.max()))
        fitted = following
        if close:
            break
    weight = 1.0 / np.sqrt(_floored(fitted))
    free = shapes[:, coefficients > 0.0]
    projection = free @ np.linalg.pinv(free * weight[:, np.newaxis]) * weight
    covariance = (projection * variances) @ projection.T
    counted = (values**2 > _FEWEST * variances) & (values > _LEAST)
    weights = np.divide(variances, values, out=np.zeros_like(values), where=counted)
    expected = fitted * (weights + _SHARE)
    free_parameters = float(np.trace(projection[np.ix_(counted, counted)]))
    degrees = float(counted.sum()) - free_parameters
    distance = float(np.sum((values - fitted)[counted] ** 2 / expected[counted]))
    p_value = float(chi2.sf(distance, degrees)) if degrees >= 1.0 else 1.0
    nominal = Template(np.maximum(fitted, 0.0), np.diag(covariance).copy())
    return SampleTemplates(nominal, smoothing=Smoothing(p_value, covariance))


def _splines(n_bins: int, bins: int) -> FloatArray:
    """Cubic B-splines at the centres of the bins, shape (n_bins, n_splines)."""
    pieces = max(1, round(n_bins / bins))
    inner = np.linspace(0.0, n_bins, pieces + 1)
    knots = np.concatenate([np.zeros(_DEGREE), inner, np.full(_DEGREE, float(n_bins))])
    matrix = BSpline.design_matrix(np.arange(n_bins) + 0.5, knots, _DEGREE)
    return np.asarray(matrix.todense(), dtype=np.float64)


def _local_mean(values: FloatArray, bins: int) -> FloatArray:
    """Mean over about `bins` bins around each."""
    box = np.ones(min(bins, len(values)))
    mean: FloatArray = np.convolve(values, box, "same") / np.convolve(np.ones_like(values), box, "same")
    return mean


def _floored(expected: FloatArray) -> FloatArray:
    """As variances: not below a ten-thousandth of the largest, since empty bins must not rule a fit."""
    return np.maximum(expected, 1e-4 * float(expected.max()))
