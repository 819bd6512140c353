"""The fine binning and its windows."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad

from modelbuilder.errors import UserError
from modelbuilder.histograms.binning import FineBinning, Peak, fine_binning, fine_binning_of_square, fixed_binning
from modelbuilder.histograms.simulate import Simulation
from modelbuilder.spec.load import LoadedSearch

A, B = 0.008, 0.009


def linear(mass: float) -> float:
    return A + B * mass


def make(masses: list[float], *, bin_width: float = 0.5, window: float = 20.0, largest: float = 10.0) -> FineBinning:
    return fine_binning(linear, np.array(masses), bin_width=bin_width, window=window, largest_mass=largest)


@pytest.mark.parametrize("bin_width", [0.25, 0.5, 1.0])
def test_each_bin_is_the_asked_fraction_of_the_resolution(bin_width: float) -> None:
    """Reference: catches bins that do not follow the resolution; the integral of dM / (A + B M) has a closed form."""
    binning = make([1.0, 4.0], bin_width=bin_width)
    mass = np.sqrt(binning.edges)
    in_resolutions = np.log((A + B * mass[1:]) / (A + B * mass[:-1])) / B
    # trapezoids of 0.5 MeV, against a resolution of 17 MeV and more
    assert in_resolutions == pytest.approx(np.full(binning.n_bins, bin_width), rel=1e-5)


def test_bins_of_our_search_follow_its_tables(simulation: Simulation) -> None:
    """Reference: catches a lost unit between the CSV file and the bins, by integrating with scipy."""
    spec = simulation.spec
    for region in simulation.regions.values():
        channel = spec.channels[region.channel]
        mass = np.sqrt(region.binning.edges)
        for index in (0, 17, len(mass) // 2, len(mass) - 2):
            width, _ = quad(lambda m, c=channel: 1.0 / c.resolution.at({"m_a": m}), mass[index], mass[index + 1])
            assert width == pytest.approx(channel.bin_width, rel=1e-3)


def test_windows_have_the_asked_number_of_bins_around_the_mass() -> None:
    """Catches a window that is off by a bin, or not centred; 20 resolutions of half a resolution are 40 bins."""
    binning = make([1.0, 4.0])
    for mass in np.linspace(1.0, 4.0, 37).tolist():
        window = binning.window(mass)
        assert window.stop - window.start == 40
        edges = binning.window_edges(mass)
        assert len(edges) == 41
        low, centre, high = np.sqrt(edges[[0, 20, 40]])
        assert abs(mass - centre) < 0.5 * 0.5 * linear(mass) * 1.1
        for end, sign in ((low, -1.0), (high, 1.0)):  # ten resolutions to each side, to within half a bin
            distance = sign * math.log((A + B * end) / (A + B * mass)) / B
            assert distance == pytest.approx(10.0, abs=0.26)


def test_windows_are_slices_of_one_binning() -> None:
    """Invariant: catches windows with bins of their own: data would no longer be stored once."""
    binning = make([1.0, 4.0])
    for mass in (1.0, 1.3, 2.7, 4.0):
        assert np.array_equal(binning.window_edges(mass), binning.edges[binning.window(mass).start :][:41])


def test_neighbours_on_the_grid_are_neighbours_in_bins() -> None:
    """Invariant: catches a bin width that is not that of the grid; a step of one bin moves the window by one bin."""
    binning = make([1.0, 1.5])
    masses = [1.0]
    while masses[-1] < 1.4:
        masses.append(masses[-1] + 0.5 * linear(masses[-1] + 0.25 * linear(masses[-1])))
    starts = [binning.window(mass).start for mass in masses]
    assert np.diff(starts).tolist() == [1] * (len(masses) - 1)


def test_windows_end_where_the_observable_ends() -> None:
    """Catches bins at negative masses or above the collision energy, and a window that loses its mass there."""
    low = make([0.05, 1.0])
    assert low.edges[0] >= 0.0
    assert low.window(0.05).start == 0
    assert 20 < low.window(0.05).stop < 40
    assert low.edges[0] < 0.05**2 < low.window_edges(0.05)[-1]
    high = make([9.0, 9.9])
    assert high.edges[-1] <= 10.0**2
    assert high.window(9.9).stop == high.n_bins
    assert high.window(9.9).stop - high.window(9.9).start < 40
    assert high.window_edges(9.9)[0] < 9.9**2 < high.edges[-1]


def test_edges_rise() -> None:
    """Invariant: catches an empty bin, which neither the simulation nor hist would accept."""
    for binning in (make([0.05, 9.9]), make([3.0]), make([0.2, 0.21], bin_width=2.0, window=4.0)):
        assert np.all(np.diff(binning.edges) > 0.0)
        assert np.all(np.isfinite(binning.edges))


def test_every_grid_point_of_our_search_lies_within_its_window(simulation: Simulation) -> None:
    """Catches a grid point whose window is cut at the end of the fine binning, or that lies beside its window."""
    assert len(simulation.search.points) > 400
    for point in simulation.search.points:
        region = simulation.region_of(point)
        edges = region.binning.window_edges(point.mass)
        assert len(edges) == 41, point
        assert abs(point.mass**2 - edges[20]) <= 0.55 * (edges[21] - edges[20]), point


def test_a_resolution_that_ends_before_the_windows_do_is_an_error_with_its_place(
    load: Callable[..., LoadedSearch],
) -> None:
    """Catches a traceback, or bins of nonsense, where a table of the resolution stops at the end of the grid."""
    table = "{table: {m_a: [0.2 GeV, 9.7 GeV], value: [10 MeV, 90 MeV]}, source: assumption}"
    with pytest.raises(UserError, match=r"channels\.diphoton\.resolution: windows reach further than the grid"):
        load(f"channels.diphoton.resolution={table}")


@pytest.mark.parametrize(("coordinate", "pair_mass"), [("mass", 0.0), ("reduced_mass", 0.2113)])
def test_windows_of_other_observables(coordinate: Any, pair_mass: float) -> None:
    """By hand: a window of a constant resolution in the mass is centred on the mass, wherever the axis puts it."""
    peak = Peak(coordinate, pair_mass)
    binning = fine_binning(
        lambda mass: 0.05, np.array([1.0, 2.0]), bin_width=0.5, window=20.0, largest_mass=10.0, peak=peak
    )
    edges = binning.window_edges(1.0)
    low, high = (math.sqrt(m**2 - pair_mass**2) for m in (0.5, 1.5))
    assert (len(edges), edges[20]) == (41, pytest.approx(peak.at(1.0), abs=1e-4))
    assert (edges[0], edges[-1]) == (pytest.approx(low, abs=1e-3), pytest.approx(high, abs=1e-3))


def test_bins_are_even_in_the_reduced_mass_down_to_its_threshold() -> None:
    """Closed form: 1.5 MeV in sqrt(M^2 - 4 m^2) are 1.5 MeV times that over M in M, which goes to zero at the threshold.

    Catches steps of the integration that are even in the mass, which see nothing of the last 0.5 MeV.
    """
    pair_mass, width = 0.2113, 0.0015
    binning = fine_binning(
        lambda mass: width * math.sqrt(max(mass**2 - pair_mass**2, 1e-8)) / mass, np.array([0.212, 0.3]),
        bin_width=0.5, window=20.0, largest_mass=10.0, peak=Peak("reduced_mass", pair_mass),
    )  # fmt: skip
    assert np.diff(binning.edges) == pytest.approx(np.full(binning.n_bins, 0.5 * width), rel=0.03)
    at = math.sqrt(0.212**2 - pair_mass**2)
    assert binning.window_edges(0.212)[[0, -1]] == pytest.approx([at - 10 * width, at + 10 * width], abs=0.1 * width)


def test_squared_masses_reach_below_zero() -> None:
    """By hand: at a mass of zero half of the window of +-10 standard deviations lies below zero."""
    binning = fine_binning_of_square(
        lambda mass: 1.6 - 0.1 * mass, np.array([0.1, 8.0]), bin_width=0.5, window=20.0, largest_mass=10.58
    )
    edges = binning.window_edges(0.1)
    assert len(edges) == 41
    assert edges[20] == pytest.approx(0.01)
    assert edges[0] == pytest.approx(-16.0, rel=0.01)
    # far from zero the bins follow the resolution of the square there
    at = binning.window(8.0)
    assert np.diff(binning.edges)[at.start + 20] == pytest.approx(0.5 * 0.8, rel=0.02)


def test_a_fixed_range_is_the_window_of_every_mass() -> None:
    """By hand."""
    binning = fixed_binning(0.0, 2.0, 4)
    assert binning.window_edges(0.3).tolist() == binning.window_edges(7.0).tolist() == [0.0, 0.5, 1.0, 1.5, 2.0]
