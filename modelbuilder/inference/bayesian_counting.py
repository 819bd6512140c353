"""Bayesian upper limits of counting experiments with a known background: exact, for any number of them at once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]


def bayesian_counting_limits(
    counts: ArrayLike, background: ArrayLike, *, signal: ArrayLike = 1.0, confidence_level: float = 0.9
) -> Array:
    """Upper limits on mu for counting experiments that expect mu * signal + background events; flat prior, exact.

    The arguments are broadcast. With Q the regularised upper incomplete gamma function, the limit solves
    Q(n + 1, mu signal + background) = (1 - CL) Q(n + 1, background): also what CLs is, ordered by the count.
    """
    from scipy.special import gammaincc, gammainccinv

    check_confidence_level(confidence_level)
    n, b, s = np.broadcast_arrays(*(np.asarray(value, dtype=float) for value in (counts, background, signal)))
    if not ((n >= 0.0) & (b >= 0.0) & (s > 0.0) & np.isfinite(n + b + s)).all():
        msg = "counts, background, signal: have to be finite, 0 or more, and the signal above 0"
        raise ValueError(msg)
    alpha = 1.0 - confidence_level
    tail = gammaincc(n + 1.0, b)
    usable = tail > 1e-280
    total = np.where(usable, gammainccinv(n + 1.0, np.where(usable, alpha * tail, 0.5)), np.nan)
    for _ in range(3):  # the inverse is good to 1e-8 or so in the far tail; Newton in ln Q
        value = gammaincc(n + 1.0, total)
        density = np.exp(n * np.log(np.maximum(total, 1e-300)) - total - _log_gamma(n + 1.0))
        total = total + np.where(density > 0.0, np.log(value / (alpha * tail)) * value / density, 0.0)
    limits = np.array((total - b) / s)
    for index in np.ndindex(limits.shape) if not usable.all() else ():
        if not usable[index]:
            limits[index] = _deep_deficit(float(n[index]), float(b[index]), alpha) / float(s[index])
    return limits


def check_confidence_level(confidence_level: float) -> None:
    if not 0.0 < confidence_level < 1.0:
        msg = f"confidence_level: found {confidence_level}; it lies above 0 and below 1, such as 0.9"
        raise ValueError(msg)


def _log_gamma(x: Array) -> Array:
    from scipy.special import gammaln

    return np.asarray(gammaln(x))


def _deep_deficit(n: float, b: float, alpha: float) -> float:
    """The limit on events where Q(n + 1, b) is too small for a double: the density falls from b as (1 + x/b)^n e^-x."""
    from scipy.integrate import quad
    from scipy.optimize import brentq

    def density(x: float) -> float:
        return math.exp(n * math.log1p(x / b) - x)

    slope = 1.0 - n / b
    end = 60.0 / slope if slope > 0.0 else 60.0 + b
    total = quad(density, 0.0, end, epsabs=0.0, epsrel=1e-11, limit=400)[0]
    return float(
        brentq(
            lambda x: quad(density, 0.0, x, epsabs=0.0, epsrel=1e-11, limit=400)[0] / total - (1.0 - alpha), 0.0, end
        )
    )
