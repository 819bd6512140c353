"""Simulated templates of our search: yields, variations, regions, pseudo-data."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable

import numpy as np
import pytest

from modelbuilder.histograms.simulate import RegionTemplates, Simulation
from modelbuilder.histograms.templates import Template
from modelbuilder.histograms.three_photons import selection_of
from modelbuilder.spec.grid import GridPoint
from modelbuilder.spec.load import LoadedSearch

from .conftest import SPEC

Load = Callable[..., LoadedSearch]

PHOTON_EFFICIENCY = 0.97**3
LUMINOSITY = 0.445  # fb^-1
CUT = "{quantity: theta(gamma), between: [37.3 deg, 123.7 deg], source: assumption}"
ENERGY = (
    "{quantity: energy(gamma), above: 1.0 GeV, where: m_a <= 4 GeV, source: assumption}, "
    "{quantity: energy(gamma), above: 0.65 GeV, where: m_a > 4 GeV, source: assumption}"
)
LOWEST_ORDER = ("radiation.initial_state=none", f"selection=[{CUT}, {ENERGY}]")
"""As the tables of the physics notes were made: no radiation, no cut on the mass of the three photons."""


def point_at(search: LoadedSearch, mass: float) -> GridPoint:
    return min(search.points, key=lambda point: abs(point.mass - mass))


def listed(*masses: float) -> str:
    """An override that makes these the grid."""
    values = ", ".join(f"{mass:g} GeV" for mass in masses)
    return f"grid.m_a.segments=[{{values: [{values}], source: assumption}}]"


def window_of(template: Template, simulation: Simulation, point: GridPoint) -> tuple[np.ndarray, np.ndarray]:
    """Bin centres and values in the fit window of a point."""
    binning = simulation.region_of(point).binning
    edges = binning.window_edges(point.mass)
    return 0.5 * (edges[1:] + edges[:-1]), template.values[binning.window(point.mass)]


def test_regions(simulation: Simulation) -> None:
    """Catches energy cuts that are merged or split wrongly: two below the switch of the observable, one above."""
    regions = simulation.regions
    assert list(regions) == ["diphoton_1", "diphoton_2", "recoil"]
    selections = [selection_of(simulation.spec.experiment, region.cuts) for region in regions.values()]
    assert [selection.min_energy for selection in selections] == [1.0, 0.65, 0.65]
    for selection in selections:
        ((low, high),) = selection.theta
        assert (math.degrees(low), math.degrees(high)) == pytest.approx((37.3, 123.7))
        assert selection.mass_window == (0.88, 1.03)
    for mass, name in (
        (0.2, "diphoton_1"),
        (3.9, "diphoton_1"),
        (4.1, "diphoton_2"),
        (6.8, "diphoton_2"),
        (6.9, "recoil"),
    ):
        assert simulation.region_of(point_at(simulation.search, mass)).name == name
    assert np.array_equal(regions["diphoton_1"].binning.edges, regions["diphoton_2"].binning.edges)


def test_a_tighter_region_is_part_of_the_looser_one(backgrounds: dict[str, RegionTemplates]) -> None:
    """Invariant: catches regions with pseudo-data of their own: an event above 1 GeV is above 0.65 GeV as well."""
    tight, loose = backgrounds["diphoton_1"], backgrounds["diphoton_2"]
    assert 0.0 < tight.observation.sum() < loose.observation.sum()
    assert np.all(tight.observation <= loose.observation)
    nominal = [region.backgrounds["three_photon"].nominal.values for region in (tight, loose)]
    assert np.all(nominal[0] <= nominal[1] * (1.0 + 1e-12))


def test_pseudo_data_are_counts_around_the_expectation(backgrounds: dict[str, RegionTemplates]) -> None:
    """Catches weights in the data, a lost efficiency, and a background left out; one event has up to three entries."""
    for region in backgrounds.values():
        assert np.array_equal(region.observation, np.round(region.observation))
        expected = sum(sample.nominal.total for sample in region.backgrounds.values())
        assert expected > 1000.0
        assert abs(region.observation.sum() - expected) < 5.0 * math.sqrt(3.0 * expected)


def test_background_yields_by_hand(load: Load) -> None:
    """Reference: the lowest-order cross sections of the physics notes, 10.49 pb and 14.22 pb, within 1 %."""
    # A window over all masses: every event has its three pairs in it. The table is for m_a <= 4 GeV and above.
    search = load(
        *LOWEST_ORDER,
        listed(0.2, 10.3),
        "channels={diphoton: {observable: mass2(gamma gamma), resolution: {value: 50 MeV, source: assumption}, "
        "window: 20 resolution, bin_width: 0.5 resolution, source: assumption}}",
        "signal.efficiency={value: 1.0, source: assumption}",
        "backgrounds.three_photon.events=400000",
    )
    simulation = Simulation(search)
    regions = [simulation.region_of(point) for point in search.points]
    for region, cross_section in zip(regions, (10486.9, 14218.5), strict=True):
        assert region.binning.edges[0] < 0.01
        found = simulation.background(region).backgrounds["three_photon"].nominal
        by_hand = LUMINOSITY * cross_section * PHOTON_EFFICIENCY * 0.75
        assert found.total / 3.0 == pytest.approx(by_hand, rel=0.01)


def test_peaking_yield_by_hand(load: Load) -> None:
    """Reference: cross section x luminosity x efficiencies x acceptance; the last is that of a particle of this mass."""
    search = load(*LOWEST_ORDER, "backgrounds.eta.cross_section.value=7 fb", "backgrounds.eta.efficiency.value=0.5")
    simulation = Simulation(search)
    region = simulation.regions["diphoton_1"]
    eta = simulation.background(region).backgrounds["eta"].nominal
    peak = slice(*np.searchsorted(region.binning.edges, [0.4**2, 0.7**2]).tolist())  # 0.5479 GeV, 11 MeV wide
    by_hand = 7.0 * LUMINOSITY * PHOTON_EFFICIENCY * 0.5 * 0.340  # the table of acceptances, between 0.5 and 0.6 GeV
    assert eta.sliced(peak).total == pytest.approx(by_hand, rel=0.02)


def test_signal_efficiency_by_hand(load: Load) -> None:
    """Reference: the acceptances of the physics notes within 0.01, times photon efficiency and the table of the spec."""
    text = (SPEC.parent / "data" / "alp_gammagamma_resolution.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
    acceptance = {float(row["m_GeV"]): float(row["acc_3gamma"]) for row in rows}
    masses = (0.2, 0.5, 1.0, 3.0, 4.0, 5.0, 6.5, 7.0, 8.5, 9.7)
    search = load(*LOWEST_ORDER, listed(*masses))
    simulation = Simulation(search)
    for point in search.points:
        templates, efficiency = simulation.signal(simulation.region_of(point), point)
        of_the_spec = 0.60 + (0.93 - 0.60) * (point.mass - 0.2) / (9.7 - 0.2)
        found = efficiency / (PHOTON_EFFICIENCY * of_the_spec)
        assert found == pytest.approx(acceptance[point.mass], abs=0.01)
        # events per fb: each selected event has one entry from the right pair, nearly always in the window
        _, window = window_of(templates.nominal, simulation, point)
        assert LUMINOSITY * efficiency * 0.9 < window.sum() < LUMINOSITY * efficiency * 3.0


def test_total_efficiencies_are_those_of_the_paper(load: Load) -> None:
    """Reference (arXiv:2007.13071, recalled): about 20 % at the low end and 34 % at the high end."""
    search = load(*LOWEST_ORDER, listed(0.2, 9.7))
    simulation = Simulation(search)
    found = [simulation.signal(simulation.region_of(point), point)[1] for point in search.points]
    assert found == pytest.approx([0.20, 0.34], abs=0.01)


@pytest.mark.parametrize("mass", [1.0, 5.0, 8.0])
def test_variations_share_the_random_numbers(load: Load, mass: float) -> None:
    """Invariant: catches variations from other events; a tiny change of the response then moves next to nothing."""
    search = load(
        listed(mass), "systematics.photon_energy_scale.size=0.0001 %", "systematics.mass_resolution.size=0.001 %"
    )
    simulation = Simulation(search)
    (point,) = search.points
    templates, _ = simulation.signal(simulation.region_of(point), point)
    nominal = templates.nominal
    noise = np.sqrt(2.0 * nominal.variances).sum()  # what independent simulations would differ by, about
    assert set(templates.varied) == {"photon_energy_scale", "mass_resolution"}
    for up, down in templates.varied.values():
        for varied in (up, down):
            difference = np.abs(varied.values - nominal.values).sum()
            assert difference < 0.02 * noise


@pytest.mark.parametrize("mass", [1.0, 5.0, 8.0])
def test_energy_scale_moves_the_peak(load: Load, mass: float) -> None:
    """Reference: M^2 of two photons goes as E^2, the recoil as s - 2 sqrt(s) E; catches a wrong sign or size."""
    size = 0.002
    search = load(*LOWEST_ORDER, listed(mass), "signal.events=100000")
    simulation = Simulation(search)
    (point,) = search.points
    templates, _ = simulation.signal(simulation.region_of(point), point)
    up, down = (window_of(t, simulation, point) for t in templates.varied["photon_energy_scale"])
    x, nominal = window_of(templates.nominal, simulation, point)
    flat = np.median(np.concatenate([nominal[:8], nominal[-8:]]))  # wrong pairs below the peak
    signal = (nominal - flat).sum()
    # the yield changes too; relative to the mass, the centre alone counts
    found = float(np.sum((x - mass**2) * (up[1] - down[1]))) / 2.0 / signal
    s = search.spec.experiment.beams.sqrt_s**2
    expected = 2.0 * size * mass**2 if point.channel == "diphoton" else -size * (s - mass**2)
    assert found == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("mass", [1.0, 5.0, 8.0])
def test_resolution_widens_the_peak(load: Load, mass: float) -> None:
    """Reference: 10 % on energies and angles is 10 % on the width; either one alone does its part in quadrature."""

    def width(template: Template) -> float:
        """Root mean square within six resolutions, above what lies outside of them."""
        x, values = window_of(template, simulation, point)
        flat = np.median(np.concatenate([values[:8], values[-8:]]))
        x, peak = x[8:-8], np.maximum(values - flat, 0.0)[8:-8]
        mean = float(np.sum(x * peak) / peak.sum())
        return math.sqrt(float(np.sum((x - mean) ** 2 * peak) / peak.sum()))

    added = {}
    for vary in ("photons.resolution", "photons.energy_resolution", "photons.angle_resolution"):
        search = load(*LOWEST_ORDER, listed(mass), "signal.events=100000", f"systematics.mass_resolution.vary={vary}")
        simulation = Simulation(search)
        (point,) = search.points
        templates, _ = simulation.signal(simulation.region_of(point), point)
        up, down = (width(template) / width(templates.nominal) for template in templates.varied["mass_resolution"])
        assert up - 1.0 == pytest.approx(1.0 - down, abs=0.01)
        added[vary] = up**2 - 1.0
    # the floor below the peak is known well enough to say this to two or three per cent of the width
    assert math.sqrt(1.0 + added["photons.resolution"]) == pytest.approx(1.10, abs=0.03)
    parts = added["photons.energy_resolution"] + added["photons.angle_resolution"]
    assert added["photons.resolution"] == pytest.approx(parts, abs=0.03)
    assert added["photons.energy_resolution"] > 0.08
    angles_matter = mass == 1.0  # at a small opening angle
    assert (added["photons.angle_resolution"] > 0.04) == angles_matter


def test_peaks_and_polynomials_have_the_variations_of_the_table(backgrounds: dict[str, RegionTemplates]) -> None:
    """Catches a variation that is simulated for nothing, or that the table names and nobody simulates."""
    shapes = {"photon_energy_scale", "mass_resolution"}
    for region in backgrounds.values():
        found = {name: set(sample.varied) for name, sample in region.backgrounds.items()}
        assert found == {"three_photon": set(), "pi0": shapes, "eta": shapes, "eta_prime": shapes}


def test_the_number_of_threads_does_not_matter(load: Load) -> None:
    """Invariant: catches a result that depends on the machine it was made on, to the last bit."""
    search = load("backgrounds.three_photon.events=50000", "signal.events=5000")
    point = point_at(search, 5.0)
    found = []
    for n_threads in (1, 2):
        simulation = Simulation(search, n_threads=n_threads)
        region = simulation.region_of(point)
        background = simulation.background(region)
        signal, efficiency = simulation.signal(region, point)
        arrays = [background.observation, background.backgrounds["eta"].nominal.values, signal.nominal.values]
        found.append((*(array.tobytes() for array in arrays), efficiency))
    assert found[0] == found[1]


def test_seeds(load: Load) -> None:
    """Every seed must matter: that of the data to the data alone, that of the simulation to the templates."""
    few = ("backgrounds.three_photon.events=50000",)

    def at(*overrides: str) -> RegionTemplates:
        simulation = Simulation(load(*few, *overrides))
        return simulation.background(simulation.regions["recoil"])

    first, again, other_data, other = at(), at(), at("data.seed=7"), at("seed=7")
    template = "three_photon"
    assert np.array_equal(first.observation, again.observation)
    assert not np.array_equal(first.observation, other_data.observation)
    assert np.array_equal(first.backgrounds[template].nominal.values, other_data.backgrounds[template].nominal.values)
    assert not np.array_equal(first.backgrounds[template].nominal.values, other.backgrounds[template].nominal.values)


def test_asimov_data_are_the_expectation(load: Load) -> None:
    """Invariant: catches Asimov data that leave a background out."""
    simulation = Simulation(load("data={kind: asimov}", "backgrounds.three_photon.events=50000"))
    found = simulation.background(simulation.regions["recoil"])
    expected = np.sum([sample.nominal.values for sample in found.backgrounds.values()], axis=0)
    assert found.observation == pytest.approx(expected, rel=1e-12)


def test_a_background_without_cross_section_is_empty(load: Load) -> None:
    """Catches a failure for a background that is switched off by hand."""
    simulation = Simulation(load("backgrounds.eta.cross_section.value=0 fb", "backgrounds.three_photon.events=50000"))
    found = simulation.background(simulation.regions["diphoton_1"])
    assert found.backgrounds["eta"].nominal.total == 0.0
    assert found.observation.sum() > 0.0
