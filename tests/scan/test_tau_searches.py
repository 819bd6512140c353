"""The searches for tau -> l alpha and tau -> pi N as specs: their spectra, their limits, and where N decays."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from modelbuilder.histograms.simulate import Simulation, beams_of
from modelbuilder.histograms.templates import SampleTemplates
from modelbuilder.kinematics.chain import ChainEvents, simulate_chain
from modelbuilder.kinematics.measure import Detector, VertexAcceptance, measure
from modelbuilder.scan.point import limit_rows
from modelbuilder.scan.points import points_of
from modelbuilder.scan.run import run_search
from modelbuilder.scan.store import load_run
from modelbuilder.scan.table import Row
from modelbuilder.spec.load import LoadedSearch, load_search
from modelbuilder.spec.process import candidates_of, chain_of
from modelbuilder.spec.search import Background, RateSystematic, SearchSpec, Signal

SPECS = Path(__file__).parents[2] / "specs"
SPECTRA = [f"{experiment}/tau_to_{lepton}_alpha.yaml" for experiment in ("belle2", "belle") for lepton in ("e", "mu")]
NEUTRAL_LEPTON = SPECS / "belle" / "heavy_neutral_lepton.yaml"
TAU, PION = 1.77686, 0.13957
ENDPOINTS = {  # 2 E*/m_tau at the masses of the paper, to three digits
    "e-": {0.0: 1.000, 0.5: 0.921, 0.7: 0.845, 1.0: 0.683, 1.2: 0.544, 1.4: 0.379, 1.6: 0.189},
    "mu-": {0.0: 1.004, 0.5: 0.924, 0.7: 0.848, 1.0: 0.687, 1.2: 0.547, 1.4: 0.383, 1.6: 0.193},
}


def lepton_of(spec: str) -> str:
    return "mu-" if "_mu_" in spec else "e-"


def in_rest_frame(momentum: np.ndarray, parent: np.ndarray) -> np.ndarray:
    """Energy of a particle in the rest frame of another; momenta of shape (n, 4)."""
    product = momentum[:, 0] * parent[:, 0] - np.sum(momentum[:, 1:] * parent[:, 1:], axis=1)
    return np.asarray(product / np.sqrt(parent[:, 0] ** 2 - np.sum(parent[:, 1:] ** 2, axis=1)))


def events_of(search: LoadedSearch, sample: str, mass: float, n_events: int) -> ChainEvents:
    spec = search.spec
    process = spec.signal if sample == "signal" else spec.backgrounds[sample]
    assert isinstance(process, Background | Signal)
    beams = beams_of(spec.experiment)
    point = {spec.grid_variable: mass} if sample == "signal" else {}
    return simulate_chain(
        chain_of(process, point, sqrt_s=beams.sqrt_s, lifetimes=spec.signal.lifetime), beams, isr=False,
        n_events=n_events, seed=1, stream=f"{sample} {mass}",
    )  # fmt: skip


def michel(x: np.ndarray, lepton_mass: float) -> np.ndarray:
    """The part of tau -> l nu nubar below x = 2E/m_tau, by quadrature of the Michel spectrum with the mass of the lepton.

    PDG, review of muon decay parameters: rho = 3/4, eta = 0; 2 x^2 (3 - 2x) for a lepton without mass.
    """
    largest = (TAU**2 + lepton_mass**2) / (2.0 * TAU)
    least = lepton_mass / largest
    grid = np.linspace(least, 1.0, 20_001)
    density = np.sqrt(grid**2 - least**2) * (grid * (1.0 - grid) + (4.0 * grid**2 - 3.0 * grid - least**2) / 6.0)
    reached = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
    return np.interp(x * 0.5 * TAU / largest, grid, reached / reached[-1])


def test_the_michel_spectrum_of_the_tests() -> None:
    """Closed form: x^3 (2 - x), the integral of 2 x^2 (3 - 2x)."""
    x = np.linspace(0.0, 1.0, 11)
    assert michel(x, 0.0) == pytest.approx(x**3 * (2.0 - x), abs=1e-6)


@pytest.mark.parametrize("spec", SPECTRA[:2])
def test_spectra_in_the_true_frame(spec: str) -> None:
    """Closed form: the line of tau -> l alpha, and the Michel spectrum.

    Catches another lepton, an alpha with a fixed mass, or leptons that are flat in phase space.
    """
    search, lepton = load_search(SPECS / spec), lepton_of(spec)
    for mass, x in ENDPOINTS[lepton].items():
        events = events_of(search, "signal", max(mass, search.points[0].mass), 100)
        found = 2.0 * in_rest_frame(events.momentum(lepton), events.momentum("tau-")) / TAU
        assert np.max(np.abs(found - x)) < 1.1e-3
    events = events_of(search, "irreducible", 0.0, 50_000)
    found = 2.0 * in_rest_frame(events.momentum(lepton), events.momentum("tau-")) / TAU
    order = np.argsort(found)
    reached = np.cumsum(events.weights[order]) / events.weights.sum()
    assert np.max(np.abs(reached - michel(found[order], {"e-": 0.000511, "mu-": 0.10566}[lepton]))) < 0.01


@pytest.mark.parametrize("spec", SPECTRA)
def test_grids_and_processes(spec: str) -> None:
    """Catches a mass of the papers that is not on the grid, and a search of Belle that is another one than that of Belle II."""
    search, other = load_search(SPECS / spec), load_search(SPECS / spec.replace("belle/", "belle2/"))
    masses = [point.mass for point in search.points]
    assert len(masses) == 33
    assert {*ENDPOINTS[lepton_of(spec)]} - {0.0} <= {*masses}
    assert search.spec.signal.process == other.spec.signal.process
    for name in ("irreducible", "tau_pion"):
        one, two = search.spec.backgrounds[name], other.spec.backgrounds[name]
        assert isinstance(one, Background)
        assert isinstance(two, Background)
        assert (one.process, one.laws, one.cross_section) == (two.process, two.laws, two.cross_section)


@pytest.mark.parametrize("spec", SPECTRA[:2])
def test_the_right_pion_is_taken_for_a_lepton(spec: str) -> None:
    """Catches a pion of the tag in its place: that of tau -> pi nu has the line of an alpha without mass."""
    search, lepton = load_search(SPECS / spec), lepton_of(spec)
    events = events_of(search, "tau_pion", 0.0, 100)
    background = search.spec.backgrounds["tau_pion"]
    assert isinstance(background, Background)
    (candidate,) = candidates_of(events.topology, search.spec.final_state, background.taken_for)
    (place,) = (place for place, name in candidate.seen if name == lepton)
    x = 2.0 * in_rest_frame(events.momenta[:, place], events.momentum("tau-")) / TAU
    assert x == pytest.approx(1.0 + (PION / TAU) ** 2, abs=1e-4)


def of_spectrum(spec: str, mass: float, *overrides: str) -> tuple[LoadedSearch, Row]:
    search = load_search(
        SPECS / spec,
        overrides=(
            f"grid.m_alpha.segments=[{{values: [{mass} GeV], source: assumption}}]",
            "signal.events=40000",
            "backgrounds.irreducible.events=300000",
            "backgrounds.tau_pion.events=40000",
            "data={kind: asimov}",
            *overrides,
        ),
    )
    maker = points_of(search)
    (point,) = search.points
    (row,) = limit_rows(search.spec, maker.made(point, maker.shared([point])))
    assert row["status"] == "ok"
    return search, row


def by_least_squares(search: LoadedSearch) -> float:
    """Twice the standard deviation, near enough, of the signal in a linear fit of all templates: CLs without a signal."""
    spec: SearchSpec = search.spec
    simulation = Simulation(search)
    (region,), (point,) = simulation.regions.values(), search.points
    found = simulation.background(region)
    signal, _ = simulation.signal(region, point)
    variance = sum(one.nominal.values + one.nominal.variances for one in found.backgrounds.values())
    assert isinstance(variance, np.ndarray)
    columns, constraints = [signal.nominal.values], [0.0]
    for name, one in found.backgrounds.items():
        if spec.backgrounds[name].rate == "free":
            columns.append(one.nominal.values)
            constraints.append(0.0)
    for name, systematic in spec.systematics.items():
        change = np.zeros_like(columns[0])
        for sample, one in found.backgrounds.items():
            if isinstance(systematic, RateSystematic):
                change += systematic.size.at(point.values) * one.nominal.values * (sample in systematic.on)
            change += _shape(one, name)
        columns.append(change)
        constraints.append(1.0)
    matrix = np.array(columns)
    information = (matrix / variance) @ matrix.T + np.diag(constraints)
    return 1.96 * math.sqrt(np.linalg.inv(information)[0, 0])


def _shape(sample: SampleTemplates, name: str) -> np.ndarray:
    if name not in sample.varied:
        return np.zeros_like(sample.nominal.values)
    up, down = sample.varied[name]
    return np.asarray(0.5 * (up.values - down.values))


@pytest.mark.parametrize(
    ("spec", "mass", "quantity"),
    [
        ("belle2/tau_to_e_alpha.yaml", 0.001, "ratio"),
        ("belle2/tau_to_mu_alpha.yaml", 1.4, "ratio"),
        ("belle/tau_to_e_alpha.yaml", 1.0, "branching_fraction"),
    ],
)
def test_limits_are_those_of_a_linear_fit(spec: str, mass: float, quantity: str) -> None:
    """A second method, least squares with the errors of the simulation: catches a rate, a systematic uncertainty or
    the finite simulation that is lost on the way to the likelihood.
    """
    search, row = of_spectrum(spec, mass)
    assert float(row[f"{quantity}_expected"] or 0.0) == pytest.approx(by_least_squares(search), rel=0.05)


def test_only_what_depends_on_the_momentum_stays_in_the_ratio() -> None:
    """Catches identification that does not cancel between signal and irreducible background, or that always does."""
    spec, mass, row = "belle2/tau_to_mu_alpha.yaml", 1.5, "systematics.lepton_identification"
    none, common, by_momentum = (
        float(of_spectrum(spec, mass, *overrides)[1]["ratio_expected"] or 0.0)
        for overrides in ([f"{row}="], [f"{row}.vary=tracks.identification", f"{row}.size=3 %"], [])
    )
    assert common == pytest.approx(none, rel=0.01)
    assert by_momentum > 1.05 * none


# ---------------------------------------------------------------------------------------------------------------------
# The heavy neutral lepton


def flights(search: LoadedSearch, mass: float, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Momenta (GeV) of N across and along the detector axis in the laboratory, made here with numpy alone.

    Pairs of tau with their angles at lowest order, N of tau -> pi N without a direction of its own.
    """
    rng = np.random.default_rng(7)
    total = np.array(beams_of(search.spec.experiment).four_momentum)
    root_s = math.sqrt(total[0] ** 2 - float(np.sum(total[1:] ** 2)))
    energy = 0.5 * root_s
    gamma, beta = energy / TAU, math.sqrt(1.0 - (TAU / energy) ** 2)
    cosine = rng.uniform(-1.0, 1.0, 3 * n)
    density = 1.0 + cosine**2 + (1.0 - beta**2) * (1.0 - cosine**2)
    cosine = cosine[rng.uniform(0.0, 2.0, 3 * n) < density][:n]
    n = len(cosine)
    own = math.sqrt((TAU**2 - (mass + PION) ** 2) * (TAU**2 - (mass - PION) ** 2)) / (2.0 * TAU)
    along, turn = rng.uniform(-1.0, 1.0, n), rng.uniform(0.0, 2.0 * math.pi, n)
    longitudinal = gamma * (own * along + beta * math.hypot(own, mass))
    side, up = own * np.sqrt(1.0 - along**2) * np.array([np.cos(turn), np.sin(turn)])
    sine = np.sqrt(1.0 - cosine**2)
    z, x = longitudinal * cosine - side * sine, longitudinal * sine + side * cosine
    full = np.sqrt(longitudinal**2 + side**2 + up**2 + mass**2)
    boost = total[3] / math.sqrt(total[0] ** 2 - total[3] ** 2)
    return np.hypot(x, up), math.sqrt(1.0 + boost**2) * z + boost * full


@pytest.mark.parametrize("mass", [0.5, 1.0, 1.5])
def test_decays_within_the_volume(mass: float) -> None:
    """Quadrature of exp(-t/tau) along each flight of a spectrum of its own: the geometrical acceptance.

    Catches a flight without the boost, a distance that is not that from the axis, or a volume that does not bind.
    """
    search = load_search(NEUTRAL_LEPTON)
    assert search.spec.final_state is not None
    volume = search.spec.final_state.vertices["N"]
    assert volume.rho is not None
    assert volume.z is not None
    across, along = flights(search, mass, 400_000)
    events = events_of(search, "signal", mass, 200_000)
    vertex = VertexAcceptance(rho=volume.rho, z=volume.z)
    measured = measure(events, Detector(), vertices={"N": vertex}, required=[], seed=1, stream="volume")
    usual = search.spec.signal.lifetime
    assert usual is not None
    per_unit = mass * np.ones_like(across)  # proper time at a distance d across: d m/p_t
    first, last = volume.rho[0] * per_unit / across, volume.rho[1] * per_unit / across
    last = np.minimum(last, np.where(along > 0.0, volume.z[1], volume.z[0]) * per_unit / along)
    inside = np.exp(-first / usual.usual) - np.exp(-np.maximum(first, last) / usual.usual)
    assert measured.weights.sum() / len(measured.weights) == pytest.approx(np.mean(inside), rel=0.02)


def region(tmp_path: Path, mass: float, *overrides: str) -> Row:
    """The row of a run with the couplings at their own lifetime."""
    search = load_search(
        NEUTRAL_LEPTON,
        overrides=(
            f"grid.m_N.segments=[{{values: [{mass} GeV], source: assumption}}]",
            "signal.events=60000",
            "data={kind: asimov}",
            *overrides,
        ),
    )
    run_search(search, tmp_path, jobs=1)
    _, rows = load_run(tmp_path)
    (row,) = (row for row in rows if row["ctau_cm"] is None)
    return row


def edges(row: Row, nature: str = "dirac") -> tuple[float, float]:
    name = f"u_tau_squared_{nature}_expected"
    return float(row[name] or math.nan), float(row[f"{name}_upper_edge"] or math.nan)


def test_the_upper_edge_is_where_the_volume_begins(tmp_path: Path) -> None:
    """By hand: what decays early is lost as exp(-r m/(p_t c tau)), c tau ~ 1/U^2, so the edge goes nearly as 1/r.

    Catches edges that do not know the volume, or take its outer end for the inner one. Far out N is so long-lived
    that the rate is the length of the volume times U^4.
    """
    rho = "final_state.vertices.N.rho"
    flat = "final_state.vertices.N.efficiency.value=[0.3, 0.3]"
    usual = region(tmp_path / "usual", 1.2, flat)
    closer = edges(region(tmp_path / "closer", 1.2, flat, f"{rho}=[10 cm, 45 cm]"))
    shorter = edges(region(tmp_path / "shorter", 1.2, flat, f"{rho}=[15 cm, 32.5 cm]"))
    low, high = edges(usual)
    assert high / low > 50.0
    assert "signal-at-edge" not in (tmp_path / "usual" / "lint.txt").read_text(encoding="utf-8")  # one bin has no edge
    assert 1.35 < closer[1] / high < 1.75
    assert closer[0] == pytest.approx(low, rel=0.1)
    assert shorter[1] == pytest.approx(high, rel=0.05)
    assert shorter[0] / low == pytest.approx(math.sqrt(2.0), rel=0.1)
    # a Majorana N flies half as far with the same rate: U^4/c tau at the lower edge
    own = edges(usual, "majorana")
    assert own[0] / low == pytest.approx(math.sqrt(0.5), rel=0.03)
    assert 0.4 < own[1] / high < 0.5


@pytest.mark.parametrize("spec", ["belle2/tau_to_e_alpha.yaml", "belle/tau_to_e_alpha.yaml"])
def test_radiation_does_not_make_more_tau(spec: str) -> None:
    """The efficiency is that of the cut flow, which counts what was simulated: pairs of tau that were made, radiating or not.

    Catches a number of tau that is taken for that of a cross section without radiation, which is 10 % less.
    """
    search = load_search(SPECS / spec, overrides=["signal.events=200000"])
    simulation, point = Simulation(search), search.points[10]
    region = simulation.region_of(point)
    _, efficiency = simulation.signal(region, point)
    flow = simulation.chain_sample("signal", region.cuts, point).run(
        {"": simulation.detector}, search.spec.line(point.channel).observable, region.binning.edges
    )
    assert efficiency == pytest.approx(simulation.stated_efficiency(point) * flow.efficiency, rel=5e-3)
