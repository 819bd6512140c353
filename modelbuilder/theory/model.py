"""What a model of a signal is: its coupling, its parameters, its rate, and the couplings that a limit excludes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import numpy as np

Kind = Literal["number", "fraction", "energy", "length", "choice"]
Limits = Literal["cross section", "branching fraction", "ratio"]
Parameters = Mapping[str, float | str]
Rate = Callable[[float, tuple[float, ...], float, Parameters], float]
Lifetime = Callable[[tuple[float, ...], float, Parameters], float]
Limit = float | Callable[[float], float]

COUPLINGS = np.logspace(-16, 4, 961)
"""Where a rate that is no power of the coupling is looked at: 48 points per factor of ten."""


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
    """The couplings whose rate reaches a limit.

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

    @property
    def widest(self) -> tuple[float, float]:
        """The interval that spans the largest factor, with an end of `math.inf` where nothing reopens; some must be excluded."""
        return max(self.intervals, key=lambda one: math.inf if one[0] == 0.0 else one[1] / one[0])

    def up_to(self, largest: float) -> Excluded:
        """Of couplings that cannot be larger: an interval beyond says nothing, and one that reaches there does not end."""
        kept = [(low, high if high < largest else math.inf) for low, high in self.intervals if low <= largest]
        return Excluded(intervals=tuple(kept))

    def contains(self, coupling: float) -> bool:
        """Whether a coupling is excluded; the edges are."""
        return any(low <= coupling <= high for low, high in self.intervals)


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model with one coupling.

    coupling: usual column name, with unit.    unit: of it, empty for a number.    symbol: for figures.
    law: of the production vertex of e+ e-, as in `signal.laws`; None where the model says nothing of that vertex.
    power: the rate is proportional to coupling**power; None where the coupling changes the rate in another way, 0 where it
    only says how far a particle flies.
    rate(sqrt_s, masses, coupling, parameters): what `limits` says, times the branching fraction of the decay that is
    searched for, times the probability to be seen where that depends on the coupling. A cross section is in fb, a
    branching fraction or a ratio of two a number. GeV, GeV. Zero where it is not possible.
    lifetime(masses, coupling, parameters): c tau of the particle that flies, cm, infinite if it is stable; None where
    nothing flies, or where `rate` has the flight. A rate never has both.
    masses: names of grid variables, in order; empty for the one mass of a grid.
    largest: that the coupling can be, 1 for a mixing.
    """

    coupling: str
    unit: str
    symbol: str
    law: str | None
    power: int | None
    rate: Rate
    limits: Limits = "cross section"
    lifetime: Lifetime | None = None
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    masses: tuple[str, ...] = ()
    largest: float = math.inf

    def excluded(self, sqrt_s: float, masses: tuple[float, ...], limit: Limit, parameters: Parameters) -> Excluded:
        """The couplings that a limit on the rate excludes: all g >= 0 with rate(g) >= limit.

        limit: on the rate, in its unit. A number is a limit at the lifetime that the signal was simulated with, whatever
        the model says of it; with a power of 0 it excludes all couplings or none. For a model with a lifetime it may be a function of c tau (cm), with jumps and kinks,
        infinite where nothing is excluded; then g is excluded where rate(g) >= limit(c tau(g)).

        Where the rate is no power of g, or the limit a function, both are looked at from 1e-16 to 1e4, peaks and dips of
        their ratio are found between the points, and the edges are roots to 1e-12 of their value. A limit that is finite
        in less than 5 % of g may be overlooked. Raises ValueError for a limit below zero, or no
        number, and for a function where the model has no lifetime.
        """
        if callable(limit):
            if self.lifetime is None:
                msg = "a limit that depends on the lifetime, for a model that has none"
                raise ValueError(msg)
            return Excluded(intervals=_Search(self, sqrt_s, masses, parameters, limit).intervals())
        if not limit >= 0.0:
            msg = f"a limit of {limit:g}; it must be at least 0"
            raise ValueError(msg)
        if limit == 0.0:
            return Excluded(intervals=((0.0, math.inf),))
        if self.power is not None:
            unit = _unit_rate(self.rate, sqrt_s, masses, tuple(sorted(parameters.items())))
            if unit <= 0.0 or math.isinf(limit):
                return Excluded(intervals=())
            if self.power == 0:
                return Excluded(intervals=((0.0, math.inf),) if unit >= limit else ())
            return Excluded(intervals=(((limit / unit) ** (1.0 / self.power), math.inf),))
        return Excluded(intervals=_Search(self, sqrt_s, masses, parameters, limit).intervals())


@lru_cache(maxsize=64)
def _unit_rate(
    rate: Rate, sqrt_s: float, masses: tuple[float, ...], parameters: tuple[tuple[str, float | str], ...]
) -> float:
    """For a coupling of 1; asked for by every band of every method."""
    return rate(sqrt_s, masses, 1.0, dict(parameters))


@dataclass(frozen=True)
class _Search:
    """The couplings at which the rate of a model reaches a limit."""

    model: Model
    sqrt_s: float
    masses: tuple[float, ...]
    parameters: Parameters
    limit: Limit

    def intervals(self) -> tuple[tuple[float, float], ...]:
        """Of couplings, closed; one that reaches the last point has no end."""
        from scipy.optimize import brentq

        points = self._points()
        edges = [points[0][0]] if points[0][1] >= 0.0 else []
        for (low, before), (high, after) in itertools.pairwise(points):
            if (before >= 0.0) != (after >= 0.0):
                edges.append(float(brentq(self._excess, low, high, xtol=1e-13, rtol=1e-15)))
        if len(edges) % 2:
            edges.append(math.inf)
        return tuple((math.exp(low), math.exp(high)) for low, high in zip(edges[::2], edges[1::2], strict=True))

    def _points(self) -> list[tuple[float, float]]:
        """Logarithm of the coupling and excess, at COUPLINGS, at the ends of where anything can be excluded, and at the
        peaks and dips between them that count.
        """
        from scipy.optimize import minimize_scalar

        found = tuple(sorted(self.parameters.items()))
        with_lifetime = callable(self.limit)
        table = _table(self.model.rate, self.model.lifetime if with_lifetime else None, self.sqrt_s, self.masses, found)
        points = [(x, self._compared(rate, lifetime)) for x, rate, lifetime in table]
        ends = [self._end(*pair) for pair in itertools.pairwise(points) if (pair[0][1] > -1.0) != (pair[1][1] > -1.0)]
        points = sorted(points + ends)
        turns = []
        for (low, before), (_, here), (high, after) in zip(points, points[1:], points[2:], strict=False):
            # a peak that is not yet excluded, or a dip that still is; -1 and 1 are plateaus without either
            sign = 1.0 if here < 0.0 else -1.0
            is_flat = before == here == after
            if abs(here) < 1.0 and not is_flat and sign * here >= max(sign * before, sign * after):
                best = minimize_scalar(
                    lambda x, sign=sign: -sign * self._excess(x),
                    bounds=(low, high),
                    method="bounded",
                    options={"xatol": 1e-9},
                )
                turns.append((float(best.x), self._excess(float(best.x))))
        return sorted(points + turns)

    def _end(self, one: tuple[float, float], two: tuple[float, float]) -> tuple[float, float]:
        """The last point before the rate ends or the limit becomes infinite, of two points on both sides of it."""
        outside, inside = sorted((one, two), key=lambda point: point[1])
        while abs(inside[0] - outside[0]) > 1e-13 * max(1.0, abs(inside[0])):
            x = 0.5 * (outside[0] + inside[0])
            middle = (x, self._excess(x))
            outside, inside = (outside, middle) if middle[1] > -1.0 else (middle, inside)
        return inside

    def _excess(self, x: float) -> float:
        coupling = math.exp(x)
        rate = self.model.rate(self.sqrt_s, self.masses, coupling, self.parameters)
        lifetime = self.model.lifetime
        if rate <= 0.0 or lifetime is None or not callable(self.limit):
            return self._compared(rate, 0.0)
        return self._compared(rate, lifetime(self.masses, coupling, self.parameters))

    def _compared(self, rate: float, lifetime: float) -> float:
        """(rate - limit)/(rate + limit): from -1, nothing is excluded, to 1; 0 at an edge."""
        if rate <= 0.0:
            return -1.0
        limit = self.limit(lifetime) if callable(self.limit) else self.limit
        if not limit >= 0.0:
            msg = f"a limit of {limit:g} at c tau = {lifetime:g} cm; it must be at least 0"
            raise ValueError(msg)
        return -1.0 if math.isinf(limit) else (rate - limit) / (rate + limit)


@lru_cache(maxsize=64)
def _table(
    rate: Rate,
    lifetime: Lifetime | None,
    sqrt_s: float,
    masses: tuple[float, ...],
    parameters: tuple[tuple[str, float | str], ...],
) -> tuple[tuple[float, float, float], ...]:
    """Logarithm of the coupling, rate and c tau (0 without a lifetime or rate), at COUPLINGS."""
    given, points = dict(parameters), []
    for x in np.log(COUPLINGS).tolist():
        coupling = math.exp(x)
        there = rate(sqrt_s, masses, coupling, given)
        flight = lifetime(masses, coupling, given) if lifetime is not None and there > 0.0 else 0.0
        points.append((x, there, flight))
    return tuple(points)
