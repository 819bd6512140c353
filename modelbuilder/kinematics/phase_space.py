"""Volumes of n-body phase space, and means over it, by quadrature: what the weights of the chain engine are divided by."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# Points of one integration over an inner mass, by the number of bodies: 1e-8 and better for the volumes
_POINTS = {2: 1, 3: 96, 4: 64, 5: 40, 6: 20}


@functools.cache
def _gauss(points: int) -> tuple[Floats, Floats]:
    """Nodes and weights of Gauss and Legendre on -1 to 1; numpy solves an eigenvalue problem for them each time."""
    nodes, weights = np.polynomial.legendre.leggauss(points)
    nodes.flags.writeable = weights.flags.writeable = False
    return nodes, weights


def breakup_momentum(mass: npt.ArrayLike, one: npt.ArrayLike, two: npt.ArrayLike) -> Floats:
    """Momentum of either product in the rest frame, GeV; 0 below threshold. F. James, CERN 68-15 (1968), eq. 9.17."""
    m, a, b = np.asarray(mass, dtype=float), np.asarray(one, dtype=float), np.asarray(two, dtype=float)
    product = (m - a - b) * (m + a + b) * (m - a + b) * (m + a - b)
    open_ = m > a + b
    momentum: Floats = np.where(open_, np.sqrt(np.maximum(product, 0.0)), 0.0) / np.where(open_, 2.0 * m, 1.0)
    return momentum


def volume(mass: npt.ArrayLike, masses: Sequence[npt.ArrayLike], points: int | None = None) -> Floats:
    """Integral of prod d^3p/(2E) delta^4(P - sum p), GeV^(2n-4); arrays are broadcast; 0 below threshold.

    By recursion in the mass of the first n - 1 bodies, F. James, CERN 68-15 (1968), eq. 4.13, which makes it pi p/M for
    two bodies. The roots at both ends of each integral are taken out by m = low + (high - low) sin^2.
    """
    n = len(masses)
    m = np.asarray(mass, dtype=float)
    if n == 2:
        two: Floats = math.pi * breakup_momentum(m, masses[0], masses[1]) / np.where(m > 0.0, m, 1.0)
        return two
    inner, jacobian = _inner_masses(m, masses, points or _POINTS[n])
    expanded = [np.asarray(part, dtype=float)[..., None] for part in masses]
    parts = volume(inner, expanded[:-1], points or _POINTS[n]) * volume(m[..., None], [inner, expanded[-1]])
    total: Floats = np.sum(parts * 2.0 * inner * jacobian, axis=-1)
    return total


def _inner_masses(mass: Floats, masses: Sequence[npt.ArrayLike], points: int) -> tuple[Floats, Floats]:
    """Masses of all bodies but the last at the points of the quadrature, and dm; along a new last axis."""
    nodes, weights = _gauss(points)
    angle = 0.25 * math.pi * (nodes + 1.0)
    low = np.asarray(sum(np.asarray(part, dtype=float) for part in masses[:-1]), dtype=float)
    span = np.maximum(mass - low - np.asarray(masses[-1], dtype=float), 0.0)[..., None]
    inner: Floats = low[..., None] + span * np.sin(angle) ** 2
    jacobian: Floats = span * np.sin(2.0 * angle) * (0.25 * math.pi * weights)
    return inner, jacobian


def mean_square(mass: float, masses: Sequence[float], square: Callable[[Floats], Floats]) -> float:
    """Mean of an invariant |M|^2 over three-body phase space; square: of momenta, shape (n, 4, 4), parent first."""
    m1, m2, m3 = masses
    inner, jacobian = _inner_masses(np.asarray(mass), [m1, m2, m3], 128)
    cosines, weights = _gauss(64)
    m12, c = (part.ravel() for part in np.meshgrid(inner, cosines, indexing="ij"))
    density = volume(m12, [m1, m2]) * volume(np.asarray(mass), [m12, m3]) * 2.0 * m12
    density = density * np.outer(jacobian, 0.5 * weights).ravel()
    p3 = breakup_momentum(mass, m12, m3)
    p1 = breakup_momentum(m12, m1, m2)
    energy12 = np.sqrt(m12**2 + p3**2)
    momenta = np.zeros((len(m12), 4, 4))
    momenta[:, 0, 0] = mass
    for place, own, sign in ((1, m1, 1.0), (2, m2, -1.0)):
        energy, along = np.sqrt(own**2 + p1**2), sign * p1 * c
        momenta[:, place, 0] = (energy12 * energy + p3 * along) / m12
        momenta[:, place, 1] = sign * p1 * np.sqrt(1.0 - c**2)
        momenta[:, place, 3] = (energy12 * along + p3 * energy) / m12
    momenta[:, 3, 0] = np.sqrt(m3**2 + p3**2)
    momenta[:, 3, 3] = -p3
    return float(np.sum(density * square(momenta)) / np.sum(density))
