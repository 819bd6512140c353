"""From the grid of a spec to the list of mass hypotheses."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from modelbuilder.spec.search import Channel, GridAxis, ListedPoints, LogarithmicSteps, Segment, StepInEnergy

DECIMALS = 4  # grid points are multiples of 0.1 MeV: short names, exact in every file
MAX_POINTS = 100_000  # in one segment
_PARTS = 20  # of a step that is integrated


@dataclass(frozen=True)
class GridPoint:
    """One mass hypothesis. `values` are the grid variables in GeV; `name` is one that pyhf accepts."""

    index: int
    name: str
    variable: str
    mass: float
    channel: str

    @property
    def values(self) -> dict[str, float]:
        return {self.variable: self.mass}


class GridError(ValueError):
    """A grid that makes no sense; `at` is the path of what is at fault, within the spec."""

    def __init__(self, at: tuple[str | int, ...], reason: str) -> None:
        self.at = at
        super().__init__(reason)


def point_name(variable: str, mass: float) -> str:
    """`m_a_0p2000` for 0.2 GeV."""
    return f"{variable}_{mass:.{DECIMALS}f}".replace(".", "p")


def channel_of(channels: Mapping[str, Channel], point: Mapping[str, float]) -> str:
    """The name of the one channel that fits this point. Raises GridError if none or several do."""
    names = [name for name, channel in channels.items() if channel.where is None or channel.where.holds(point)]
    if len(names) != 1:
        where = ", ".join(f"{name} = {value:g} GeV" for name, value in point.items())
        found = f"the channels {' and '.join(names)}" if names else "no channel"
        msg = f"found {found} at {where}; exactly one must hold at each grid point"
        raise GridError(("channels", names[-1], "where") if names else ("channels",), msg)
    return names[0]


def expand_grid(variable: str, axis: GridAxis, channels: Mapping[str, Channel]) -> tuple[GridPoint, ...]:
    """All grid points in rising order. Raises GridError."""

    def resolution(mass: float) -> float:
        return resolution_at(channels, {variable: mass})

    masses = expand_axis(variable, axis, lambda mass, step: advanced_in(channels, variable, mass, step, resolution))
    return tuple(
        GridPoint(index, point_name(variable, mass), variable, mass, channel_of(channels, {variable: mass}))
        for index, mass in enumerate(masses)
    )


def resolution_at(channels: Mapping[str, Channel], point: Mapping[str, float]) -> float:
    """The standard deviation of the mass, GeV, in the channel of a point. Raises GridError."""
    name, (mass,) = channel_of(channels, point), point.values()
    key, function = "resolution", channels[name].resolution
    if function is None and channels[name].resolution2 is not None:
        key, function = "resolution2", channels[name].resolution2
    if function is None:
        msg = "missing; the grid has steps in resolutions, so every channel needs one"
        raise GridError(("channels", name, key), msg)
    try:
        # d(m^2) = 2 m dm, as long as the mass is not within its resolution of zero
        square = function.at(point)
        return square if key == "resolution" else min(square / (2.0 * mass), math.sqrt(square))
    except ValueError as error:
        raise GridError(("channels", name, key), str(error)) from None


def advanced_in(
    channels: Mapping[str, Channel], variable: str, mass: float, step: float, resolution: Callable[[float], float]
) -> float:
    """The mass a number of resolutions further; in channels that count exactly, so that their windows meet."""
    if not channels[channel_of(channels, {variable: mass})].count:
        return mass + step * resolution(mass)
    for _ in range(_PARTS):
        middle = mass + 0.5 * step / _PARTS * resolution(mass)
        mass += step / _PARTS * resolution(middle)
    return mass


def expand_axis(variable: str, axis: GridAxis, advanced: Callable[[float, float], float]) -> list[float]:
    """The masses of an axis in rising order, GeV, rounded. advanced: from a mass, GeV, by a number of resolutions.

    Raises GridError.
    """
    masses: list[float] = []
    end = 0.0
    for index, segment in enumerate(axis.segments):
        at = ("grid", variable, "segments", index)
        first, last = _ends(segment)
        if first > last or (first == last and not isinstance(segment, ListedPoints)):
            msg = f"found a segment from {first:g} GeV to {last:g} GeV, which is empty; `to` must be above `from`"
            raise GridError(at, msg)
        if first < end:
            msg = f"found a segment from {first:g} GeV, but the one before it ends at {end:g} GeV; segments must not overlap"
            raise GridError(at, msg)
        end = last
        found = [round(mass, DECIMALS) for mass in _masses(segment, advanced, at)]
        for mass, number in Counter(found).items():
            if number > 1 or mass <= 0.0:
                msg = (
                    f"found {number} points at {mass:.{DECIMALS}f} GeV; masses are rounded to 0.1 MeV, and must differ"
                )
                raise GridError(at, msg if mass > 0.0 else "found a mass below 0.1 MeV, to which masses are rounded")
        masses.extend(found)
    for index, gap in enumerate(axis.gaps):
        if gap.low >= gap.high:
            msg = f"found a gap from {gap.low:g} GeV to {gap.high:g} GeV; `high` must be above `low`"
            raise GridError(("grid", variable, "gaps", index), msg)
    kept = sorted({mass for mass in masses if not any(gap.low < mass < gap.high for gap in axis.gaps)})
    if not kept:
        msg = "the gaps leave no grid points; shorten them, or widen the segments"
        raise GridError(("grid", variable, "gaps"), msg)
    return kept


def spread(points: tuple[GridPoint, ...], number: int | None) -> tuple[GridPoint, ...]:
    """At most `number` of the points, evenly spread, both ends included; all for None."""
    if number is None or number >= len(points):
        return points
    return tuple(points[i] for i in sorted({round(x) for x in np.linspace(0, len(points) - 1, number).tolist()}))


def _ends(segment: Segment) -> tuple[float, float]:
    if isinstance(segment, ListedPoints):
        return min(segment.values), max(segment.values)
    return segment.from_, segment.to


def _masses(segment: Segment, advanced: Callable[[float, float], float], at: tuple[str | int, ...]) -> list[float]:
    if isinstance(segment, ListedPoints):
        return list(segment.values)
    first, last = segment.from_, segment.to
    if isinstance(segment, LogarithmicSteps):
        return [float(mass) for mass in np.geomspace(first, last, segment.points)]
    tolerance = 0.4 * 10.0**-DECIMALS  # less than half: what is rounded does not lie above the end
    too_many = f"found a step that gives more than {MAX_POINTS} points; take a larger one"
    if isinstance(segment, StepInEnergy):
        number = (last - first + tolerance) / segment.step
        if number >= MAX_POINTS:
            raise GridError(at, too_many)
        return [first + i * segment.step for i in range(math.floor(number) + 1)]
    masses = [first]
    while (mass := advanced(masses[-1], segment.step)) <= last + tolerance:
        masses.append(mass)
        if len(masses) > MAX_POINTS:
            raise GridError(at, too_many)
    return masses
