"""The windows of a small search in the plane: what nodes measure, what is interpolated, and events that windows share."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modelbuilder.errors import UserError
from modelbuilder.histograms.plane import (
    PARAMETERS,
    PlaneSimulation,
    PlaneWindows,
    closure_of,
    nodes_csv,
    windows_csv,
)
from modelbuilder.spec.load import LoadedSearch, load_search
from modelbuilder.spec.search import PseudoData

SPECS = Path(__file__).parents[2] / "specs"
SMALL = (
    "signal.events=20000",
    "signal.nodes.masses={m_Ap: [6 GeV, 6.5 GeV, 7 GeV, 7.5 GeV], m_hp: [1 GeV, 1.5 GeV, 2 GeV, 2.5 GeV]}",
    "grid.m_Ap.segments=[{from: 6.2 GeV, to: 7.4 GeV, step: 3 resolution, source: assumption}]",
    "grid.m_hp.segments=[{from: 1.1 GeV, to: 2.4 GeV, step: 3 resolution, source: assumption}]",
    "backgrounds.mu_mu_gamma.events=100000",
    "backgrounds.tau_tau.events=200000",
    "backgrounds.tau_pion.events=50000",
    "backgrounds.e_e_mu_mu.expected.plane.events=0.5",
)


def search(*overrides: str) -> LoadedSearch:
    return load_search(SPECS / "belle2" / "dark_higgsstrahlung_2019.yaml", overrides=(*SMALL, *overrides))


@pytest.fixture(scope="module")
def simulation() -> PlaneSimulation:
    return PlaneSimulation(search(), n_threads=2)


@pytest.fixture(scope="module")
def windows(simulation: PlaneSimulation) -> PlaneWindows:
    return simulation.windows(simulation.search.points)


def test_the_recoil_leans_against_the_mass(windows: PlaneWindows) -> None:
    """Physics: too much energy of the muons is too large a mass of theirs, and too small a recoil.

    With M_rec^2 = s + M^2 - 2 sqrt(s) E, both errors come from the same two momenta. Catches a correlation without
    its sign, or one that the tail of radiation, which is in the recoil alone, has washed out.
    """
    assert windows.nodes is not None
    correlations = np.tanh(windows.nodes.column("artanh_correlation"))
    assert correlations.max() < -0.8
    assert windows.shapes.ellipses.correlations.max() < -0.8


def test_half_of_the_signal_radiates(windows: PlaneWindows) -> None:
    """Radiation takes events out of the window and leaves its size as it is. Catches a width that follows the tail."""
    plain = PlaneSimulation(search("radiation.initial_state=none"), n_threads=2).measure_nodes()
    assert windows.nodes is not None
    assert plain.column("inside").mean() > windows.nodes.column("inside").mean() + 0.1
    for name in ("log_stdev_x", "log_stdev_y"):
        ratio = np.exp(windows.nodes.column(name) - plain.column(name))
        assert ratio.mean() == pytest.approx(1.0, abs=0.08)


def test_points_at_the_nodes_have_their_values(simulation: PlaneSimulation, windows: PlaneWindows) -> None:
    """Invariant: interpolation gives back what it was given. Catches weights for the wrong nodes."""
    nodes = windows.nodes
    assert nodes is not None
    first = simulation.search.points[0]
    places = [replace(first, coordinates=(("m_Ap", float(one)), ("m_hp", float(two)))) for one, two in nodes.masses]
    found = simulation._shapes(places, nodes)
    assert found.efficiency == pytest.approx(nodes.column("efficiency") * 0.51)
    assert found.inside == pytest.approx(nodes.column("inside"))
    assert found.ellipses.stdevs == pytest.approx(np.exp(nodes.parameters[:, 4:6]))
    centres = np.stack([nodes.masses[:, 0], nodes.masses[:, 1] ** 2], axis=1)
    assert found.ellipses.centres == pytest.approx(centres + nodes.parameters[:, 2:4] * found.ellipses.stdevs)


def test_between_the_nodes_against_a_simulation_there(simulation: PlaneSimulation, windows: PlaneWindows) -> None:
    """Second method: the signal simulated at a point that is no node lies in its window as interpolated.

    Catches what the closure of the nodes is to tell: nodes that are too far apart, and an interpolation that is wrong.
    """
    point = min(simulation.search.points, key=lambda one: abs(one.masses[0] - 6.75) + abs(one.masses[1] - 1.75))
    row = windows.rows[point.name]
    events = simulation._node_events(point)
    inside = events.weights[windows.shapes.ellipses.contain(row, events.x, events.y)].sum()
    expected = windows.shapes.efficiency[row] * windows.shapes.inside[row] / 0.51
    assert inside == pytest.approx(expected, rel=0.05)


def test_closure(windows: PlaneWindows) -> None:
    """Inner nodes are closed to a few per cent, outer ones have no closure: catches one that is made of itself."""
    assert windows.nodes is not None
    number, typical, largest = closure_of(windows.nodes)
    assert number == np.isfinite(windows.nodes.closure).sum() >= 4
    assert 0.001 < typical <= largest < 0.2
    corner = (windows.nodes.masses == windows.nodes.masses.min(axis=0)).all(axis=1)
    assert np.isnan(windows.nodes.closure[corner]).all()


def test_windows_count_what_lies_inside(simulation: PlaneSimulation, windows: PlaneWindows) -> None:
    """Brute force over all windows; data of all backgrounds, each event in every window that it lies in."""
    total = np.zeros(len(windows.points))
    for name in ("mu_mu_gamma", "tau_tau", "tau_pion"):
        events = simulation.background_events(name)
        for row in range(len(windows.points)):
            inside = windows.shapes.ellipses.contain(row, events.x, events.y)
            assert windows.backgrounds[name][row, 0] == pytest.approx(events.weights[inside].sum(), rel=1e-12)
            total[row] += events.counts[inside].sum()
    stated = windows.observation - total
    assert (stated >= 0.0).all()
    assert stated.mean() == pytest.approx(windows.backgrounds["e_e_mu_mu"][:, 0].mean(), rel=0.3)


def test_data_are_poisson(simulation: PlaneSimulation) -> None:
    """Means and variances of the data over seeds: catches weights that are not scaled to the luminosity."""
    loaded = simulation.search
    expected = float(simulation.background_events("tau_tau").weights.sum())
    counts = []
    for seed in range(12):
        spec = loaded.spec.model_copy(update={"data": PseudoData(kind="pseudo", seed=seed)})
        events = PlaneSimulation(replace(loaded, spec=spec)).background_events("tau_tau")
        counts.append(float(events.counts.sum()))
    assert np.mean(counts) == pytest.approx(expected, abs=4.0 * math.sqrt(expected / 12.0))
    assert 0.2 * expected < np.var(counts, ddof=1) < 3.0 * expected


def test_a_point_does_not_know_the_others(simulation: PlaneSimulation, windows: PlaneWindows) -> None:
    """Catches data or templates that depend on which points are asked for, as a run that is resumed does."""
    some = simulation.search.points[5:40:7]
    fewer = PlaneSimulation(simulation.search, n_threads=1).windows(some)
    for point in some:
        one, other = windows.at(point), fewer.at(point)
        assert (one.observation == other.observation).all()
        assert (one.signal.nominal.values == other.signal.nominal.values).all()
        for name in one.backgrounds:
            assert (one.backgrounds[name].nominal.values == other.backgrounds[name].nominal.values).all()
            assert (one.backgrounds[name].nominal.variances == other.backgrounds[name].nominal.variances).all()


def test_stated_densities(simulation: PlaneSimulation, windows: PlaneWindows) -> None:
    """By hand: 0.5 events in 10 MeV times 1 GeV^2, times the area of the ellipse."""
    expected = 0.5 / 0.01 * windows.shapes.ellipses.areas
    assert windows.backgrounds["e_e_mu_mu"][:, 0] == pytest.approx(expected)


def test_a_stated_signal() -> None:
    """Closed form: 1 - exp(-k^2/2) of the stated efficiency, widths as stated, twice the luminosity twice the rest."""
    path = SPECS / "belle" / "dark_higgsstrahlung.yaml"
    grid = "grid.m_Ap.segments=[{from: 1 GeV, to: 2 GeV, step: 500 MeV, source: assumption}]"
    loaded = load_search(path, overrides=(grid, "backgrounds.combinatorial.expected.pairs.luminosity=1954 fb^-1"))
    windows = PlaneSimulation(loaded).windows(loaded.points)
    assert windows.nodes is None
    templates = windows.at(loaded.points[0])
    per_fb = 977.0 * 0.15 * -math.expm1(-4.5)
    assert templates.signal.nominal.values == pytest.approx([per_fb])
    assert templates.backgrounds["combinatorial"].nominal.values == pytest.approx([0.05])
    point = loaded.points[3].values
    sigmas = [0.002 + 0.003 * point["m_Ap"], 0.005 + 0.004 * point["m_hp"]]
    assert windows.shapes.ellipses.stdevs[3] == pytest.approx(sigmas)
    assert windows.shapes.ellipses.centres[3] == pytest.approx(list(point.values()))


def test_stated_data_fill_the_windows() -> None:
    """Mean of the data over windows that do not overlap: catches cells with gaps between them, or that overlap."""
    path = SPECS / "belle" / "dark_higgsstrahlung.yaml"
    many = "backgrounds.combinatorial.expected.pairs.events=20"
    loaded = load_search(path, overrides=(many,))
    windows = PlaneSimulation(loaded).windows(loaded.points)
    assert windows.observation.mean() == pytest.approx(20.0, abs=4.0 * math.sqrt(20.0 / len(windows.points)))
    assert windows.observation.var() == pytest.approx(20.0, rel=0.15)


def test_tables(windows: PlaneWindows) -> None:
    """Every row and column is there: catches a table that is shifted against its head."""
    assert windows.nodes is not None
    lines = windows_csv(windows, ("m_Ap", "m_hp")).splitlines()
    head = lines[0].split(",")
    assert len(lines) == 1 + len(windows.points)
    row = dict(zip(head, lines[8].split(","), strict=True))
    assert row["point"] == windows.points[7].name
    assert float(row["observation"]) == windows.observation[7]
    assert float(row["tau_tau_events"]) == windows.backgrounds["tau_tau"][7, 0]
    nodes = [
        line for line in nodes_csv(windows.nodes, ("m_Ap", "m_hp"), ("GeV", "GeV^2")).splitlines() if line[0] != "#"
    ]
    assert len(nodes) == 1 + len(windows.nodes.masses)
    assert {len(line.split(",")) for line in nodes} == {11}
    assert len(PARAMETERS) == windows.nodes.parameters.shape[1]


def test_nodes_with_too_few_events() -> None:
    loaded = search("selection[0].above=175 deg", "signal.events=1000")
    with pytest.raises(UserError, match=r"signal\.nodes: at m_Ap = 6 GeV, m_hp = 1 GeV only \d+ simulated events pass"):
        PlaneSimulation(loaded).measure_nodes()
