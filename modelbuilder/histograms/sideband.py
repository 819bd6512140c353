"""Sidebands on the fine binning: the bins beside a window, and what is expected and counted elsewhere in the same bins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelbuilder.histograms.binning import FineBinning
from modelbuilder.histograms.templates import FloatArray
from modelbuilder.spec.sideband import SidebandBeside

SUFFIX = "_sideband"
"""What the name of a sideband has behind that of its channel."""
_ROUNDING = 1e-6


@dataclass(frozen=True, kw_only=True)
class BinsBeside:
    """The bins of a fine binning that belong to the sideband of a window around a mass.

    width: of the sideband, bins on each side of the mass; None without end.    left_out: of its middle, likewise.
    allowed: whether a bin may belong to a sideband, shape (n_bins,).
    """

    width: int | None
    left_out: int
    allowed: npt.NDArray[np.bool_]

    def at(self, binning: FineBinning, mass: float) -> npt.NDArray[np.int64]:
        """Bins, in rising order. mass: GeV."""
        inside = self.allowed.copy()
        inside[binning.window(mass)] = False
        if binning.half_window is not None:
            places = np.arange(binning.n_bins) - binning.centre(mass)
            distance = np.where(places >= 0, places + 1, -places)  # 1 for the two bins that meet at the mass
            inside &= distance > self.left_out
            if self.width is not None:
                inside &= distance <= self.width
        return np.flatnonzero(inside)


def bins_beside(
    sideband: SidebandBeside,
    binning: FineBinning,
    *,
    bin_width: float,
    limits: tuple[float, float],
    gaps: Sequence[tuple[float, float]],
) -> BinsBeside:
    """The bins beside any window of a binning.

    bin_width: in resolutions; without meaning where the range is fixed.    limits: of the observable, in its unit.
    gaps: vetoed ranges of the mass, GeV. A bin that is in part beyond the limits, or in a gap, is left out.
    """
    low, high = binning.edges[:-1], binning.edges[1:]
    allowed = (low >= limits[0] - _ROUNDING) & (high <= limits[1] + _ROUNDING)
    if binning.half_window is not None:
        for one, two in gaps:
            allowed &= (high <= binning.peak.at(one) + _ROUNDING) | (low >= binning.peak.at(two) - _ROUNDING)
    return BinsBeside(
        width=None if sideband.window is None else math.floor(0.5 * sideband.window / bin_width + _ROUNDING),
        left_out=0 if sideband.left_out is None else math.ceil(0.5 * sideband.left_out / bin_width - _ROUNDING),
        allowed=allowed,
    )


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """A sideband in another quantity, in the bins of the window's observable; shape (n_bins,) each.

    expected: of the background that it measures.    observation: events.
    """

    expected: FloatArray
    observation: FloatArray
