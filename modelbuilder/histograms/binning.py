"""One fine binning per channel, with bins that follow the resolution; fit windows are slices of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
_INTEGRATION_POINTS = 20_001


@dataclass(frozen=True)
class FineBinning:
    """Bins in a squared mass whose widths are a fixed fraction of the local resolution.

    edges: shape (n_bins + 1,), GeV^2.
    half_window: number of bins on each side of the mass.
    """

    edges: FloatArray
    half_window: int

    @property
    def n_bins(self) -> int:
        return len(self.edges) - 1

    def window(self, mass: float) -> slice:
        """The bins of the fit window around a mass (GeV); shorter where the range of the observable ends."""
        centre = int(np.argmin(np.abs(self.edges - mass**2)))
        return slice(max(0, centre - self.half_window), min(self.n_bins, centre + self.half_window))

    def window_edges(self, mass: float) -> FloatArray:
        """Edges of the fit window, GeV^2."""
        bins = self.window(mass)
        return self.edges[bins.start : bins.stop + 1]


def fine_binning(
    resolution: Callable[[float], float],
    masses: FloatArray,
    *,
    bin_width: float,
    window: float,
    largest_mass: float,
) -> FineBinning:
    """The binning that serves the windows of all these masses.

    resolution: standard deviation of the mass as a function of the mass, GeV.    masses: of the grid points, GeV.
    bin_width, window: in resolutions, the latter the full width.    largest_mass: where the observable ends, GeV.

    With u(M) the integral of dM / (bin_width * resolution), the edges lie at whole numbers of u, counted from the
    first mass; so each window has the same number of bins, and a step of one bin on the grid is a step of one bin here.
    """
    dense = np.linspace(0.0, largest_mass, _INTEGRATION_POINTS)
    density = 1.0 / (bin_width * np.array([resolution(float(mass)) for mass in dense]))
    steps = 0.5 * (density[1:] + density[:-1]) * np.diff(dense)
    u = np.concatenate([[0.0], np.cumsum(steps)])
    origin = float(np.interp(masses.min(), dense, u))
    u -= origin
    half_window = max(1, round(0.5 * window / bin_width))
    first = -half_window
    last = int(np.ceil(np.interp(masses.max(), dense, u))) + half_window
    whole = np.arange(first, last + 1, dtype=np.float64)
    inside = whole[(whole >= u[0]) & (whole <= u[-1])]
    return FineBinning(np.interp(inside, u, dense) ** 2, half_window)
