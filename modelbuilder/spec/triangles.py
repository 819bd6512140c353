"""Linear interpolation between scattered points of a plane, over the triangles that they form (Delaunay)."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
ON_THE_EDGE = 1e-6
"""Points no farther outside than this, relative to the extent of all points, count as inside."""


@dataclass(frozen=True)
class Weights:
    """Weights of three points, so that `(values[points] * weights).sum(axis=1)` interpolates.

    points, weights: shape (n, 3).    outside: distance to the triangles where a point lies in none, with each axis in
    units of the extent of all points; shape (n,).
    """

    points: npt.NDArray[np.int64]
    weights: Floats
    outside: Floats

    def of(self, values: Floats) -> Floats:
        """Interpolated values; `values` of shape (n_points,)."""
        found: Floats = np.sum(values[self.points] * self.weights, axis=1)
        return found


class Triangles:
    """The triangles between points of a plane. points: shape (n, 2). ValueError where they form none."""

    def __init__(self, points: Floats) -> None:
        from scipy.spatial import Delaunay, QhullError

        extent = np.ptp(points, axis=0) if len(points) else np.zeros(2)
        if len(points) < 3 or not (extent > 0.0).all():
            msg = f"found {len(points)} points on one line; points of a plane must form a triangle at least"
            raise ValueError(msg)
        self._low, self._extent = points.min(axis=0), extent
        self._points = (points - self._low) / extent
        try:
            self._delaunay = Delaunay(self._points)
        except QhullError:
            msg = f"found {len(points)} points on one line; points of a plane must form a triangle at least"
            raise ValueError(msg) from None

    def at(self, positions: Floats) -> Weights:
        """The weights at positions of shape (n, 2); outside of all triangles those of the closest point of an edge."""
        scaled = (np.asarray(positions, dtype=float) - self._low) / self._extent
        found = self._delaunay.find_simplex(scaled, tol=1e-9)
        points = self._delaunay.simplices[found].astype(np.int64)
        transform = self._delaunay.transform[found]
        two = np.einsum("nij,nj->ni", transform[:, :2], scaled - transform[:, 2])
        weights = np.column_stack([two, 1.0 - two.sum(axis=1)])
        outside = np.zeros(len(scaled))
        for index in np.flatnonzero((found < 0) | ~np.isfinite(weights).all(axis=1)):
            points[index], weights[index], outside[index] = self._nearest(scaled[index])
        return Weights(points, weights, outside)

    @functools.cached_property
    def _hull(self) -> npt.NDArray[np.int64]:
        return np.asarray(self._delaunay.convex_hull, dtype=np.int64)

    def _nearest(self, position: Floats) -> tuple[npt.NDArray[np.int64], Floats, float]:
        """On the edge of the convex hull."""
        first, second = self._points[self._hull[:, 0]], self._points[self._hull[:, 1]]
        along = second - first
        share = np.clip(np.sum((position - first) * along, axis=1) / np.sum(along**2, axis=1), 0.0, 1.0)
        distance = np.linalg.norm(first + share[:, None] * along - position, axis=1)
        best = int(np.argmin(distance))
        one, two = self._hull[best]
        weights = np.array([1.0 - share[best], share[best], 0.0])
        return np.array([one, two, one]), weights, float(distance[best])
