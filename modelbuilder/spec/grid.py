"""From the grid of a spec to the list of mass hypotheses."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from modelbuilder.spec.conditions import Condition
from modelbuilder.spec.plane import PlaneChannel
from modelbuilder.spec.process import Lifetimes
from modelbuilder.spec.search import (
    AnyChannel,
    Channel,
    GridAxis,
    ListedPoints,
    LogarithmicSteps,
    Segment,
    StepInEnergy,
)

DECIMALS = 4  # grid points are multiples of 0.1 MeV: short names, exact in every file
MAX_POINTS = 100_000  # in one segment
_PARTS = 20  # of a step that is integrated


@dataclass(frozen=True)
class GridPoint:
    """One mass hypothesis, or one of two masses. `coordinates` are the grid variables in order, each with its value in
    GeV; `name` is one that pyhf accepts; `ctau` is the lifetime, cm, where each has a fit of its own.
    """

    index: int
    name: str
    coordinates: tuple[tuple[str, float], ...]
    channel: str
    ctau: float | None = None

    @property
    def values(self) -> dict[str, float]:
        return dict(self.coordinates)

    @property
    def masses(self) -> tuple[float, ...]:
        """In the order of the grid, GeV."""
        return tuple(mass for _, mass in self.coordinates)

    @property
    def mass(self) -> float:
        """GeV; only for a grid of one mass."""
        (mass,) = self.masses
        return mass

    @property
    def text(self) -> str:
        """`m_Ap = 4 GeV, m_hp = 1 GeV`."""
        return text_of(self.values) + ("" if self.ctau is None else f", c tau = {self.ctau:g} cm")

    @property
    def mass_name(self) -> str:
        """The name without the lifetime: that of all points of these masses."""
        return point_name(self.values)

    def at_lifetime(self, ctau: float) -> GridPoint:
        """The same masses with a lifetime, cm."""
        text = f"{ctau:g}".replace(".", "p").replace("-", "m").replace("+", "")
        return replace(self, name=f"{self.mass_name}_ctau_{text}", ctau=ctau)


def text_of(point: Mapping[str, float]) -> str:
    """`m_Ap = 4 GeV, m_hp = 1 GeV`."""
    return ", ".join(f"{name} = {value:g} GeV" for name, value in point.items())


class GridError(ValueError):
    """A grid that makes no sense; `at` is the path of what is at fault, within the spec."""

    def __init__(self, at: tuple[str | int, ...], reason: str) -> None:
        self.at = at
        super().__init__(reason)


def point_name(values: Mapping[str, float]) -> str:
    """`m_a_0p2000` for 0.2 GeV; `m_Ap_4p0000_m_hp_1p0000` for two masses."""
    return "_".join(f"{variable}_{mass:.{DECIMALS}f}" for variable, mass in values.items()).replace(".", "p")


def channel_of(channels: Mapping[str, AnyChannel], point: Mapping[str, float]) -> str:
    """The name of the one channel that fits this point. Raises GridError if none or several do."""
    names = [name for name, channel in channels.items() if channel.where is None or channel.where.holds(point)]
    if len(names) != 1:
        found = f"the channels {' and '.join(names)}" if names else "no channel"
        msg = f"found {found} at {text_of(point)}; exactly one must hold at each grid point"
        raise GridError(("channels", names[-1], "where") if names else ("channels",), msg)
    return names[0]


def expand_grid(
    grid: Mapping[str, GridAxis],
    channels: Mapping[str, AnyChannel],
    where: Condition | None = None,
    lifetimes: Lifetimes | None = None,
) -> tuple[GridPoint, ...]:
    """All grid points: in rising order of the first variable, then of the second, then of the lifetime. Raises GridError.

    where: the part of the plane that is kept.    In steps of resolutions the first variable goes with the second at the
    start of its axis, and the second with the first where it is.
    """
    (first, axis), *others = grid.items()
    values: list[dict[str, float]] = []
    start = {name: min(_ends(other.segments[0])) for name, other in others}
    for mass in _axis_masses(first, axis, channels, start):
        line = [{first: mass}]
        for second, other in others:
            masses = _axis_masses(second, other, channels, {first: mass}, where)
            line = [{first: mass, second: found} for found in masses]
        values.extend(line)
    if where is not None:
        values = [point for point in values if where.holds(point)]
    if not values:
        msg = f"found {where}, which leaves no grid points; widen the condition or the segments"
        raise GridError(("grid_where",), msg)
    if len(values) > MAX_POINTS:
        msg = f"found {len(values)} grid points; at most {MAX_POINTS} are possible, take larger steps"
        raise GridError(("grid",), msg)
    points = [GridPoint(0, point_name(point), tuple(point.items()), channel_of(channels, point)) for point in values]
    return with_lifetimes(points, lifetimes)


def with_lifetimes(points: Iterable[GridPoint], lifetimes: Lifetimes | None) -> tuple[GridPoint, ...]:
    """Points of all masses, one for each lifetime where each has a fit of its own, numbered in their order."""
    found = list(points)
    if lifetimes is not None and lifetimes.shape_at is None:
        found = [point.at_lifetime(ctau) for point in found for ctau in lifetimes.values]
    return tuple(replace(point, index=index) for index, point in enumerate(found))


def _axis_masses(
    variable: str,
    axis: GridAxis,
    channels: Mapping[str, AnyChannel],
    others: Mapping[str, float],
    where: Condition | None = None,
) -> list[float]:
    """The points of one axis of several.

    others: values of the variables that are fixed along it.    where: beyond its end on a line, no points are made.
    """
    begun = False

    def beyond(mass: float) -> bool:
        """Whether the condition held, and does no more: it is a convex set, which a line leaves once."""
        nonlocal begun
        holds = where is None or where.holds({**others, variable: mass})
        begun = begun or holds
        return begun and not holds

    def counts(mass: float) -> bool:
        channel = channels[channel_of(channels, {**others, variable: mass})]
        return isinstance(channel, Channel) and channel.count

    return expand_axis(variable, axis, lambda mass: resolution_at(channels, variable, mass, others), beyond, counts)


def resolution_at(
    channels: Mapping[str, AnyChannel], variable: str, mass: float, others: Mapping[str, float] = MappingProxyType({})
) -> float:
    """The standard deviation of a mass, GeV, in the channel of a point. others: its other masses. Raises GridError."""
    point = {**others, variable: mass}
    name = channel_of(channels, point)
    channel = channels[name]
    key: tuple[str, ...] = ("resolution",)
    if isinstance(channel, PlaneChannel):
        function, key = channel.resolution.get(variable), ("resolution", variable)
    else:
        function = channel.resolution
        if function is None and channel.resolution2 is not None:
            function, key = channel.resolution2, ("resolution2",)
    if function is None:
        msg = "missing; the grid has steps in resolutions, so every channel needs one"
        raise GridError(("channels", name, *key), msg)
    try:
        # d(m^2) = 2 m dm, as long as the mass is not within its resolution of zero
        square = function.at(point)
        return min(square / (2.0 * mass), math.sqrt(square)) if key == ("resolution2",) else square
    except ValueError as error:
        raise GridError(("channels", name, *key), str(error)) from None


def expand_axis(
    variable: str,
    axis: GridAxis,
    resolution: Callable[[float], float],
    beyond: Callable[[float], bool] = lambda mass: False,
    counts: Callable[[float], bool] = lambda mass: False,
) -> list[float]:
    """The masses of an axis in rising order, GeV, rounded. Raises GridError.

    resolution: of a mass, for steps in units of it, GeV.    beyond: whether a mass, and all above, are not wanted.
    counts: whether the channel there counts; steps are then exact, so that its windows meet.
    """

    def advanced(mass: float, step: float) -> float:
        if not counts(mass):
            return mass + step * resolution(mass)
        for _ in range(_PARTS):
            middle = mass + 0.5 * step / _PARTS * resolution(mass)
            mass += step / _PARTS * resolution(middle)
        return mass

    masses: list[float] = []
    end = 0.0
    for index, segment in enumerate(axis.segments):
        path = ("grid", variable, "segments", index)
        first, last = _ends(segment)
        if first > last or (first == last and not isinstance(segment, ListedPoints)):
            msg = f"found a segment from {first:g} GeV to {last:g} GeV, which is empty; `to` must be above `from`"
            raise GridError(path, msg)
        if first < end:
            msg = f"found a segment from {first:g} GeV, but the one before it ends at {end:g} GeV; segments must not overlap"
            raise GridError(path, msg)
        end = last
        found = [round(mass, DECIMALS) for mass in _masses(segment, advanced, path, beyond)]
        for mass, number in Counter(found).items():
            if number > 1 or mass <= 0.0:
                msg = (
                    f"found {number} points at {mass:.{DECIMALS}f} GeV; masses are rounded to 0.1 MeV, and must differ"
                )
                raise GridError(path, msg if mass > 0.0 else "found a mass below 0.1 MeV, to which masses are rounded")
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
    """At most `number` of the points, evenly spread, both ends included; all for None.

    In a plane each one is the farthest from those before, with both axes scaled to the same length. Where each lifetime
    has a fit of its own, so many masses are taken with all their lifetimes.
    """
    if number is None or number >= len(points):
        return points
    if points[0].ctau is not None:
        once = {point.mass_name: replace(point, ctau=None) for point in points}
        chosen_masses = {point.mass_name for point in spread(tuple(once.values()), number)}
        return tuple(point for point in points if point.mass_name in chosen_masses)
    if len(points[0].coordinates) == 1:
        return tuple(points[i] for i in sorted({round(x) for x in np.linspace(0, len(points) - 1, number).tolist()}))
    masses = np.array([point.masses for point in points])
    scaled = (masses - masses.min(axis=0)) / np.maximum(np.ptp(masses, axis=0), 10.0**-DECIMALS)
    chosen = [0]
    distance = np.full(len(points), math.inf)
    while len(chosen) < number:
        distance = np.minimum(distance, np.sum((scaled - scaled[chosen[-1]]) ** 2, axis=1))
        chosen.append(int(np.argmax(distance)))
    return tuple(points[i] for i in sorted(chosen))


def _ends(segment: Segment) -> tuple[float, float]:
    if isinstance(segment, ListedPoints):
        return min(segment.values), max(segment.values)
    return segment.from_, segment.to


def _masses(
    segment: Segment,
    advanced: Callable[[float, float], float],
    at: tuple[str | int, ...],
    beyond: Callable[[float], bool],
) -> list[float]:
    """advanced: from a mass, by a number of resolutions.    beyond: whether a mass, and all above, are not wanted."""
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
    beyond(first)
    while (mass := advanced(masses[-1], segment.step)) <= last + tolerance:
        if beyond(mass):
            break
        masses.append(mass)
        if len(masses) > MAX_POINTS:
            raise GridError(at, too_many)
    return masses
