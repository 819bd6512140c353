"""Backgrounds that a spec states: expected events per bin from points of a spectrum, and pseudo-data of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from modelbuilder.kinematics.sample import poisson_counts
from modelbuilder.kinematics.shards import generator
from modelbuilder.spec.functions import SpectrumInterpolation

FloatArray = npt.NDArray[np.float64]


def expected_events(
    points: Sequence[float],
    densities: Sequence[float],
    edges: FloatArray,
    interpolation: SpectrumInterpolation = "linear",
) -> FloatArray:
    """Integrals over bins of a density that is known at some points and constant beyond them; shape (n_bins,)."""
    if interpolation == "monotone-cubic" and len(points) > 1:
        from scipy.interpolate import PchipInterpolator  # heavy, and seldom asked for

        inside = np.clip(edges, points[0], points[-1])
        below, above = np.minimum(edges - points[0], 0.0), np.maximum(edges - points[-1], 0.0)
        cumulative = PchipInterpolator(points, densities).antiderivative()(inside)
        return np.diff(cumulative + below * densities[0] + above * densities[-1])
    inner = np.array([x for x in points if edges[0] < x < edges[-1]])
    x = np.union1d(edges, inner)
    y = np.interp(x, points, densities)
    cumulative = np.concatenate([[0.0], np.cumsum(0.5 * (y[1:] + y[:-1]) * np.diff(x))])
    return np.diff(cumulative[np.searchsorted(x, edges)])


def pseudo_counts(expected: FloatArray, *, seed: int, stream: str) -> FloatArray:
    """Poisson distributed counts: a function of the expectation, the seed and the name of the stream."""
    return poisson_counts(expected, generator(seed, f"{stream}/data").random(expected.shape))
