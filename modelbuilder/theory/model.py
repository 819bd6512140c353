"""What a model of a signal is: its coupling, its parameters, its cross section, and the couplings that a limit excludes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import numpy as np

Kind = Literal["number", "fraction", "energy", "length", "choice"]
Parameters = Mapping[str, float | str]
CrossSection = Callable[[float, tuple[float, ...], float, Parameters], float]

COUPLINGS = np.logspace(-12, 4, 161)
"""Where a cross section that is no power of the coupling is looked at: 10 points per factor of ten."""


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A number or a choice that a model needs besides mass and coupling.

    kind: how it is written. Values are plain numbers, GeV for an energy, cm for a length, one of `choices` for a choice.
    default: the value without it; None where it has to be given.
    """

    kind: Kind
    description: str
    default: float | str | None = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Excluded:
    """The couplings whose cross section reaches a limit.

    intervals: closed, rising, without overlap; an end of `math.inf` where nothing reopens. Empty: nothing is excluded.
    """

    intervals: tuple[tuple[float, float], ...]

    @property
    def lower(self) -> float:
        """The smallest excluded coupling; infinite where none is."""
        return self.intervals[0][0] if self.intervals else math.inf

    @property
    def upper(self) -> float | None:
        """The largest excluded coupling; None where all above the lower edge are, or none is."""
        end = self.intervals[-1][1] if self.intervals else math.inf
        return None if math.isinf(end) else end

    def contains(self, coupling: float) -> bool:
        """Whether a coupling is excluded; the edges are."""
        return any(low <= coupling <= high for low, high in self.intervals)


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model with one coupling.

    coupling: usual column name, with unit.    unit: of it, empty for a number.    symbol: for figures.
    law: of the production vertex of e+ e-, as in `signal.laws`.
    power: the cross section is proportional to coupling**power; None where the coupling also says how far X flies.
    masses: names of grid variables, in order; empty for the one mass of a grid.
    cross_section(sqrt_s, masses, coupling, parameters): fb, times the branching fraction of the decay that is searched
    for, times the probability to be seen where that depends on the coupling. GeV, GeV. Zero where it is not possible.
    """

    coupling: str
    unit: str
    symbol: str
    law: str
    power: int | None
    cross_section: CrossSection
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    masses: tuple[str, ...] = ()

    def excluded(self, sqrt_s: float, masses: tuple[float, ...], limit_fb: float, parameters: Parameters) -> Excluded:
        """The couplings that a limit on the cross section (fb) excludes: all g >= 0 with cross_section(g) >= limit.

        Where the cross section is no power of g, it is looked at from 1e-12 to 1e4, its peaks are found between the
        points, and the edges are roots to 1e-12 of their value. Raises ValueError for a limit below zero, or no number.
        """
        if not limit_fb >= 0.0:
            msg = f"a limit on the cross section of {limit_fb:g} fb; it must be at least 0"
            raise ValueError(msg)
        if limit_fb == 0.0:
            return Excluded(intervals=((0.0, math.inf),))
        if self.power is not None:
            unit = self.cross_section(sqrt_s, masses, 1.0, parameters)
            if unit <= 0.0 or math.isinf(limit_fb):
                return Excluded(intervals=())
            return Excluded(intervals=(((limit_fb / unit) ** (1.0 / self.power), math.inf),))
        found = tuple(sorted(parameters.items()))
        return Excluded(intervals=_above(self.cross_section, sqrt_s, masses, found, limit_fb))


def _above(
    cross_section: CrossSection,
    sqrt_s: float,
    masses: tuple[float, ...],
    parameters: tuple[tuple[str, float | str], ...],
    limit: float,
) -> tuple[tuple[float, float], ...]:
    """The intervals of couplings in which the cross section reaches a limit; one up to the last point has no end."""
    from scipy.optimize import brentq

    points = _profile(cross_section, sqrt_s, masses, parameters)
    given = dict(parameters)

    def excess(x: float) -> float:
        return cross_section(sqrt_s, masses, math.exp(x), given) / limit - 1.0

    edges = [points[0][0]] if points[0][1] >= limit else []
    for (low, before), (high, after) in itertools.pairwise(points):
        if (before >= limit) != (after >= limit):
            edges.append(float(brentq(excess, low, high, xtol=1e-13, rtol=1e-13)))
    if len(edges) % 2:
        edges.append(math.inf)
    return tuple((math.exp(low), math.exp(high)) for low, high in zip(edges[::2], edges[1::2], strict=True))


@lru_cache(maxsize=64)
def _profile(
    cross_section: CrossSection,
    sqrt_s: float,
    masses: tuple[float, ...],
    parameters: tuple[tuple[str, float | str], ...],
) -> tuple[tuple[float, float], ...]:
    """Logarithm of the coupling and cross section, at COUPLINGS and at every peak and dip between them."""
    from scipy.optimize import minimize_scalar

    given = dict(parameters)

    def rate(x: float) -> float:
        return cross_section(sqrt_s, masses, math.exp(x), given)

    points = [(float(x), rate(float(x))) for x in np.log(COUPLINGS)]
    turns = []
    for (low, before), (_, here), (high, after) in zip(points, points[1:], points[2:], strict=False):
        for sign in (1.0, -1.0):
            if sign * here >= max(sign * before, sign * after) and not before == here == after:
                best = minimize_scalar(lambda x, sign=sign: -sign * rate(x), bounds=(low, high), method="bounded")
                turns.append((float(best.x), rate(float(best.x))))
    return tuple(sorted(points + turns))
