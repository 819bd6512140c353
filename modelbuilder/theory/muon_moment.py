"""(g - 2) of the muon from one loop of a Z' or a scalar that couples to muons, and the couplings that would explain it.

Source: Jegerlehner, Nyffeler, arXiv:0902.3360, section on new physics, and Leveille, Nucl. Phys. B137 (1978) 63, both
recalled; the integrals are tested against their limits for a light and a heavy particle.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from modelbuilder.theory.constants import MUON_MASS

Floats = npt.NDArray[np.float64]

N_NODES = 40
"""Of Gauss and Legendre on each of the two halves; the result is stable to 1e-9 at least from 1 keV to 100 GeV."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Measured minus predicted (g - 2)/2 of the muon, and its standard deviation."""

    value: float
    error: float
    source: str


DIFFERENCE = Difference(
    value=251e-11,
    error=59e-11,
    source="recalled: Muon g-2, arXiv:2104.03281, against the dispersive prediction of 2020, arXiv:2006.04822",
)
"""What searches of these years have drawn."""

DIFFERENCE_2025 = Difference(
    value=38e-11,
    error=63e-11,
    source="read: arXiv:2505.21476, abstract: measurements up to then against the prediction with lattice QCD",
)
"""With this one no loop is needed."""


def vector(mass: float, coupling: float) -> float:
    """Of a Z' with the coupling g lbar gamma^mu l Z'_mu to muons: g^2/(4 pi^2) int_0^1 x^2 (1 - x)/(x^2 + (1 - x) r) dx.

    r = (mass/m_mu)^2, GeV. Limits: g^2/(8 pi^2) for r -> 0, g^2/(12 pi^2 r) for r -> infinity.
    """
    return coupling**2 / (4.0 * math.pi**2) * _integral(mass, lambda x: x**2 * (1.0 - x))


def scalar(mass: float, coupling: float) -> float:
    """Of a scalar with the coupling g lbar l S to muons: g^2/(8 pi^2) int_0^1 x^2 (2 - x)/(x^2 + (1 - x) r) dx.

    Limits: 3 g^2/(16 pi^2) for r -> 0, g^2/(8 pi^2 r) (ln r - 7/6) for r -> infinity.
    """
    return coupling**2 / (8.0 * math.pi**2) * _integral(mass, lambda x: x**2 * (2.0 - x))


LOOPS: Mapping[str, Callable[[float, float], float]] = MappingProxyType(
    {"l-mu-l-tau": vector, "muonphilic-scalar": scalar}
)
"""By name of the model whose coupling it is."""


def coupling_band(
    model: str, mass: float, *, n_sigma: float = 2.0, difference: Difference = DIFFERENCE
) -> tuple[float, float]:
    """Smallest and largest coupling whose loop explains the difference to n_sigma; the first 0 where none is needed.

    model: one of LOOPS.    mass: GeV. NaN for both where the difference is negative beyond its error: these loops add.
    """
    low, high = difference.value - n_sigma * difference.error, difference.value + n_sigma * difference.error
    if high < 0.0:
        return math.nan, math.nan
    unit = LOOPS[model](mass, 1.0)
    return math.sqrt(max(low, 0.0) / unit), math.sqrt(high / unit)


def _integral(mass: float, numerator: Callable[[Floats], Floats]) -> float:
    """int_0^1 numerator/(x^2 + (1 - x) r) dx, where it bends at x = sqrt(r) and at 1 - x = 1/r; mass above 0."""
    r = (mass / MUON_MASS) ** 2
    nodes, weights = _nodes()
    top = math.asinh(0.5 / math.sqrt(r))
    x = math.sqrt(r) * np.sinh(top * nodes)
    lower = top * np.sum(weights * math.sqrt(r) * np.cosh(top * nodes) * numerator(x) / (x**2 + (1.0 - x) * r))
    top = math.log1p(0.5 * r)
    rest = np.expm1(top * nodes) / r  # 1 - x
    x = 1.0 - rest
    upper = top * np.sum(weights * np.exp(top * nodes) / r * numerator(x) / (x**2 + rest * r))
    return float(lower + upper)


@cache
def _nodes() -> tuple[Floats, Floats]:
    """Of Gauss and Legendre on (0, 1)."""
    nodes, weights = np.polynomial.legendre.leggauss(N_NODES)
    return 0.5 * (nodes + 1.0), 0.5 * weights
