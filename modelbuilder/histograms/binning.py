"""The fine binning of a channel: bins that follow the resolution of a mass, with windows as slices; or a fixed range."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Coordinate = Literal["mass", "mass2", "reduced_mass"]
_INTEGRATION_POINTS = 20_001
MAX_BINS = 100_000


@dataclass(frozen=True)
class Peak:
    """Where a mass lies on the axis of an observable: at the mass itself, at its square, or at sqrt(M^2 - pair_mass^2).

    pair_mass: the sum of the masses of the pair, GeV.
    """

    coordinate: Coordinate = "mass2"
    pair_mass: float = 0.0

    def at(self, mass: float) -> float:
        """In the unit of the observable. A reduced mass below the threshold is 0."""
        if self.coordinate == "mass":
            return mass
        square = mass**2 - self.pair_mass**2
        return square if self.coordinate == "mass2" else math.sqrt(max(square, 0.0))


class Resolution(Protocol):
    """A standard deviation as a function of the grid variables, GeV."""

    def at(self, point: Mapping[str, float]) -> float: ...


@dataclass(frozen=True)
class Reach:
    """How far a window reaches on each side of the mass, in bins that do not follow the resolution.

    resolution: of the mass, or of the observable itself if `of_square`.    size: in resolutions.
    """

    resolution: Resolution
    variable: str
    size: float
    of_square: bool

    def ends(self, mass: float, peak: Peak) -> tuple[float, float]:
        """Of the window, in the unit of the observable."""
        half = self.size * self.resolution.at({self.variable: mass})
        if self.of_square:
            return peak.at(mass) - half, peak.at(mass) + half
        return peak.at(max(mass - half, 0.0)), peak.at(mass + half)


@dataclass(frozen=True)
class FineBinning:
    """Bins of an observable.

    edges: shape (n_bins + 1,), in its unit.
    half_window: number of bins on each side of the mass; None for a fixed range, which is the window of all masses.
    reach: of windows in equal bins of a range, whose number of bins follows the resolution.
    fixed: first bin and number of bins of that range, where there are others beside it.
    """

    edges: FloatArray
    half_window: int | None
    peak: Peak = Peak()
    reach: Reach | None = None
    fixed: tuple[int, int] | None = None

    @property
    def n_bins(self) -> int:
        return len(self.edges) - 1

    def window(self, mass: float) -> slice:
        """The bins of the fit window around a mass (GeV); shorter where the range of the observable ends."""
        if self.reach is not None:
            ends = self.reach.ends(mass, self.peak)
            first, last = (int(np.argmin(np.abs(self.edges - end))) for end in ends)
            first = min(first, self.n_bins - 1)
            return slice(first, max(last, first + 1))
        if self.half_window is None:
            first, number = (0, self.n_bins) if self.fixed is None else self.fixed
            return slice(first, first + number)
        centre = self.centre(mass)
        return slice(max(0, centre - self.half_window), min(self.n_bins, centre + self.half_window))

    def centre(self, mass: float) -> int:
        """The edge in the middle of the window around a mass (GeV), by its number."""
        return int(np.argmin(np.abs(self.edges - self.peak.at(mass))))

    def window_edges(self, mass: float) -> FloatArray:
        """Edges of the fit window, in the unit of the observable."""
        bins = self.window(mass)
        return self.edges[bins.start : bins.stop + 1]


def fixed_binning(low: float, high: float, bins: int, beside: tuple[float, float] | None = None) -> FineBinning:
    """Equal bins of a fixed range. beside: the ends of a wider one; what is beside the first is one bin on each side."""
    edges: FloatArray = np.linspace(low, high, bins + 1)
    if beside is None:
        return FineBinning(edges, None)
    lower, upper = beside
    wider = [*[lower] * (lower < low), *edges.tolist(), *[upper] * (upper > high)]
    return FineBinning(np.array(wider), None, fixed=(int(lower < low), bins))


def fine_binning(
    resolution: Callable[[float], float],
    masses: FloatArray,
    *,
    bin_width: float,
    window: float,
    largest_mass: float,
    peak: Peak = Peak(),
    reach: float = 0.0,
) -> FineBinning:
    """The binning that serves the windows of all these masses.

    resolution: standard deviation of the mass as a function of the mass, GeV.    masses: of the grid points, GeV.
    bin_width, window: in resolutions, the latter the full width.    largest_mass: where the observable ends, GeV.
    peak: of the observable.    reach: full width in resolutions that there are bins for around each mass, if it is
    more than the window; infinite for all that there is.

    With u(M) the integral of dM / (bin_width * resolution), the edges lie at whole numbers of u, counted from the
    first mass; so each window has the same number of bins, and a step of one bin on the grid is a step of one bin here.
    """
    dense = np.linspace(0.0, largest_mass, _INTEGRATION_POINTS)
    if peak.coordinate == "reduced_mass":  # even in that: at the threshold the resolution of the mass goes to zero
        dense = np.hypot(peak.pair_mass, np.linspace(0.0, peak.at(largest_mass), _INTEGRATION_POINTS))
    half_window = _half_window(bin_width, window)
    outer = max(half_window, _half_window(bin_width, reach))
    found = _edges(dense, lambda mass: bin_width * resolution(mass), masses, outer)
    return FineBinning(np.array([peak.at(float(mass)) for mass in found]), half_window, peak)


def fine_binning_of_square(
    resolution: Callable[[float], float],
    masses: FloatArray,
    *,
    bin_width: float,
    window: float,
    largest_mass: float,
    reach: float = 0.0,
) -> FineBinning:
    """The same in the squared mass, whose windows may reach below zero.

    resolution: standard deviation of the squared mass as a function of the mass, GeV^2; below zero it is that at zero.
    """
    half_window = _half_window(bin_width, window)

    def width(square: float) -> float:
        return bin_width * resolution(math.sqrt(max(square, 0.0)))

    outer = max(half_window, _half_window(bin_width, reach))
    below = outer if math.isfinite(reach) else half_window
    dense = np.linspace(-1.05 * below * width(0.0), largest_mass**2, _INTEGRATION_POINTS)
    return FineBinning(_edges(dense, width, masses**2, outer), half_window, Peak("mass2"))


def _half_window(bin_width: float, window: float) -> int:
    """Number of bins on each side; for an infinite window as many as there can be."""
    return max(1, round(0.5 * window / bin_width)) if math.isfinite(window) else MAX_BINS


def _edges(dense: FloatArray, width: Callable[[float], float], centres: FloatArray, half_window: int) -> FloatArray:
    """Edges at whole numbers of the integral of 1 / width, counted from the first centre, within the dense points."""
    density = 1.0 / np.array([width(float(x)) for x in dense])
    steps = 0.5 * (density[1:] + density[:-1]) * np.diff(dense)
    u = np.concatenate([[0.0], np.cumsum(steps)])
    u -= float(np.interp(centres.min(), dense, u))
    last = int(np.ceil(np.interp(centres.max(), dense, u))) + half_window
    whole = np.arange(-half_window, last + 1, dtype=np.float64)
    inside = whole[(whole >= u[0]) & (whole <= u[-1])]
    edges: FloatArray = np.interp(inside, u, dense)
    return edges
