"""Ellipses in the plane of two observables, and what lies inside of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

CENTRAL = 0.682689492137086
"""The part of a normal distribution within one standard deviation."""
_CHUNK = 128  # windows that a thread takes at a time


@dataclass(frozen=True, kw_only=True)
class PlaneEvents:
    """Events in the plane, in rising order of the first observable; all arrays of shape (n_events,).

    counts: how often each event is in the data.
    """

    x: Floats
    y: Floats
    weights: Floats
    counts: Floats

    @classmethod
    def of(cls, x: Floats, y: Floats, weights: Floats, counts: Floats | None = None) -> PlaneEvents:
        """In any order; those without a weight that are not in the data are dropped."""
        counts = np.zeros(len(x)) if counts is None else counts
        kept = np.flatnonzero(((weights > 0.0) | (counts > 0.0)) & np.isfinite(x) & np.isfinite(y))
        order = kept[np.argsort(x[kept], kind="stable")]
        return cls(x=x[order], y=y[order], weights=weights[order], counts=counts[order])


@dataclass(frozen=True, kw_only=True)
class Ellipses:
    """Windows: all (x, y) whose Mahalanobis distance from the centre is at most `size`.

    centres, stdevs: shape (n, 2), in the units of the observables.    correlations: shape (n,).
    size: semi-axes in standard deviations.
    """

    centres: Floats
    stdevs: Floats
    correlations: Floats
    size: float

    def __len__(self) -> int:
        return len(self.centres)

    def contain(self, index: int, x: Floats, y: Floats) -> npt.NDArray[np.bool_]:
        """Which of the points lie in one of the ellipses."""
        (x0, y0), (sx, sy) = self.centres[index].tolist(), self.stdevs[index].tolist()
        rho = float(self.correlations[index])
        u, v = (x - x0) / sx, (y - y0) / sy
        inside: npt.NDArray[np.bool_] = u * u - 2.0 * rho * u * v + v * v <= self.size**2 * (1.0 - rho**2)
        return inside

    @property
    def areas(self) -> Floats:
        """In the product of both units, shape (n,)."""
        found: Floats = np.pi * self.size**2 * self.stdevs.prod(axis=1) * np.sqrt(1.0 - self.correlations**2)
        return found


def sums_in_ellipses(events: PlaneEvents, ellipses: Ellipses, *, n_threads: int = 1) -> Floats:
    """Sums of the weights, of their squares and of the counts in each ellipse, shape (n, 3); the same bits for any n_threads.

    Each ellipse sees the same events, however much they overlap.
    """
    reach = ellipses.size * ellipses.stdevs[:, 0]
    first = np.searchsorted(events.x, ellipses.centres[:, 0] - reach, side="left")
    last = np.searchsorted(events.x, ellipses.centres[:, 0] + reach, side="right")
    sums = np.zeros((len(ellipses), 3))

    def add(start: int) -> None:
        for index in range(start, min(start + _CHUNK, len(ellipses))):
            strip = slice(first[index], last[index])
            inside = ellipses.contain(index, events.x[strip], events.y[strip])
            weights = events.weights[strip][inside]
            sums[index] = weights.sum(), np.square(weights).sum(), events.counts[strip][inside].sum()

    starts = range(0, len(ellipses), _CHUNK)
    if n_threads == 1:
        for start in starts:
            add(start)
    else:
        with ThreadPoolExecutor(n_threads) as pool:
            list(pool.map(add, starts))
    return sums


def weighted_quantiles(values: Floats, weights: Floats, shares: tuple[float, ...]) -> Floats:
    """Where the running sum of the weights reaches each share of all, linear between the values; same shape as shares."""
    order = np.argsort(values, kind="stable")
    running = np.cumsum(weights[order])
    middle = (running - 0.5 * weights[order]) / running[-1]
    return np.interp(shares, middle, values[order])


@dataclass(frozen=True, kw_only=True)
class Peak2D:
    """Where the events of a peak lie, by estimates that its tails do not move.

    medians, stdevs: of both observables, the latter half of the central 68.3 %.    correlation: of the core.
    """

    medians: tuple[float, float]
    stdevs: tuple[float, float]
    correlation: float


def measure_peak(x: Floats, y: Floats, weights: Floats) -> Peak2D:
    """Medians, widths and correlation of weighted events. ValueError where all have one value.

    The correlation is (S+^2 - S-^2) / (S+^2 + S-^2) with S+ and S- the widths of the sum and the difference of both
    observables, each in units of its own width: R. Gnanadesikan, J. R. Kettenring, Biometrics 28 (1972) 81.
    """
    low, high = 0.5 * (1.0 - CENTRAL), 0.5 * (1.0 + CENTRAL)
    medians, stdevs, scaled = [], [], []
    for values in (x, y):
        least, median, most = weighted_quantiles(values, weights, (low, 0.5, high)).tolist()
        if not most > least:
            msg = "all events have the same value"
            raise ValueError(msg)
        medians.append(median)
        stdevs.append(0.5 * (most - least))
        scaled.append((values - median) / stdevs[-1])
    widths = []
    for combined in (scaled[0] + scaled[1], scaled[0] - scaled[1]):
        least, most = weighted_quantiles(combined, weights, (low, high)).tolist()
        widths.append(0.5 * (most - least))
    plus, minus = widths[0] ** 2, widths[1] ** 2
    return Peak2D(
        medians=(medians[0], medians[1]), stdevs=(stdevs[0], stdevs[1]), correlation=(plus - minus) / (plus + minus)
    )
