"""Ellipses in the plane of two observables, and what lies inside of them."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

Floats = npt.NDArray[np.float64]

TRIMMED = 1.5
"""Standard deviations within which events count as the core of a peak."""
_CORE, _CORE_REACH = 0.3, 0.38532046640756773  # a share of a normal distribution, and within how many stdevs it lies
_MOST_ROUNDS, _SMALL = 200, 1e-9
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
    strips = _strips(events, ellipses)
    sums = np.zeros((len(ellipses), 3))

    def add(start: int) -> None:
        for index, strip in enumerate(strips[start : start + _CHUNK], start):
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


def members_of_ellipses(events: PlaneEvents, ellipses: Ellipses) -> csr_array:
    """1 where an event (column) lies in an ellipse (row)."""
    found = [
        strip.start + np.flatnonzero(ellipses.contain(index, events.x[strip], events.y[strip]))
        for index, strip in enumerate(_strips(events, ellipses))
    ]
    ends = np.cumsum([0, *(len(members) for members in found)])
    columns = np.concatenate([np.zeros(0, dtype=np.int64), *found])
    return csr_array((np.ones(len(columns)), columns, ends), shape=(len(ellipses), len(events.x)))


def _strips(events: PlaneEvents, ellipses: Ellipses) -> list[slice]:
    """For each ellipse the events that are near enough in the first observable."""
    reach = ellipses.size * ellipses.stdevs[:, 0]
    first = np.searchsorted(events.x, ellipses.centres[:, 0] - reach, side="left")
    last = np.searchsorted(events.x, ellipses.centres[:, 0] + reach, side="right")
    return [slice(start, end) for start, end in zip(first.tolist(), last.tolist(), strict=True)]


@dataclass(frozen=True, kw_only=True)
class Core:
    """Where the events of a peak lie, without its tails: means, standard deviations, correlation."""

    means: tuple[float, float]
    stdevs: tuple[float, float]
    correlation: float


def measure_core(x: Floats, y: Floats, weights: Floats) -> Core:
    """Of weighted events: those within TRIMMED standard deviations, found again until nothing changes.

    The covariance is made larger by what a bivariate normal distribution loses with the rest, so that it is unbiased for
    one; tails, such as that of radiation, are left out where they are (trimmed mean and covariance, iterated, as for the
    minimum covariance determinant: P. Rousseeuw, K. van Driessen, Technometrics 41 (1999) 212). ValueError where the
    events have no width.
    """
    lost = math.exp(-0.5 * TRIMMED**2)
    kept = 1.0 - 0.5 * TRIMMED**2 * lost / (1.0 - lost)
    starts = [_shortest(values, weights) for values in (x, y)]
    mean = np.array([centre for centre, _ in starts])
    covariance = np.diag([width**2 for _, width in starts])
    for _ in range(_MOST_ROUNDS):
        try:
            inverse = np.linalg.inv(covariance)
        except np.linalg.LinAlgError:
            break
        u, v = x - mean[0], y - mean[1]
        distance = inverse[0, 0] * u * u + 2.0 * inverse[0, 1] * u * v + inverse[1, 1] * v * v
        inside = distance <= TRIMMED**2
        w = weights[inside] / max(float(weights[inside].sum()), 1e-300)
        shift = np.array([w @ u[inside], w @ v[inside]])
        centred = np.stack([u[inside] - shift[0], v[inside] - shift[1]])
        new = (centred * w) @ centred.T / kept
        change = max(
            float(np.abs(shift / np.sqrt(np.diag(covariance))).max()),
            float(np.abs(new / covariance.max() - covariance / covariance.max()).max()),
        )
        mean, covariance = mean + shift, new
        if change < _SMALL:
            break
    sx, sy = (math.sqrt(max(float(value), 0.0)) for value in np.diag(covariance))
    if not (sx > 0.0 and sy > 0.0):
        msg = "the events have no width"
        raise ValueError(msg)
    return Core(
        means=(float(mean[0]), float(mean[1])), stdevs=(sx, sy), correlation=float(covariance[0, 1]) / (sx * sy)
    )


def _shortest(values: Floats, weights: Floats) -> tuple[float, float]:
    """Middle of the shortest interval with the share _CORE of the weights, and the normal stdev that has such a one."""
    order = np.argsort(values, kind="stable")
    sorted_values = values[order]
    running = np.concatenate([[0.0], np.cumsum(weights[order])])
    ends = np.searchsorted(running, running[:-1] + _CORE * running[-1], side="left") - 1
    possible = np.flatnonzero(ends < len(values))
    lengths = sorted_values[ends[possible]] - sorted_values[possible]
    best = possible[int(np.argmin(lengths))]
    low, high = float(sorted_values[best]), float(sorted_values[ends[best]])
    return 0.5 * (low + high), 0.5 * (high - low) / _CORE_REACH
