"""Samples of any process, piece by piece: against closed forms, against the engine of three photons, and themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import poisson

from modelbuilder.kinematics.beams import Beams
from modelbuilder.kinematics.cuts import fill_entries
from modelbuilder.kinematics.measure import (
    Calorimeter,
    Detector,
    EfficiencyTable,
    PhotonDetector,
    TrackDetector,
    TrackResponse,
    TrackVolume,
    varied_detector,
)
from modelbuilder.kinematics.observables import evaluate_entries
from modelbuilder.kinematics.processes import GammaAlp, ThreePhotons
from modelbuilder.kinematics.response import PhotonResponse
from modelbuilder.kinematics.sample import NOMINAL, PIECE, ChainSample, Thinning, drawn_lifetimes, poisson_counts
from modelbuilder.kinematics.selection import PhotonSelection
from modelbuilder.kinematics.simulate import simulate_histograms
from modelbuilder.spec.cuts import Cut
from modelbuilder.spec.process import FinalState, Vertex, candidates_of
from modelbuilder.spec.topology import Law, parse_chain

BEAMS = Beams(
    electron_energy=7.004,
    positron_energy=4.002,
    crossing_angle=0.083,
    electron_energy_spread=0.00513,
    positron_energy_spread=0.002375,
)
RESPONSE = PhotonResponse(noise=0.00066, stochastic=0.0081, constant=0.0134, angle=0.004)
BARREL = (math.radians(37.3), math.radians(123.7))
PHOTONS = Detector(photons=PhotonDetector(response=RESPONSE, theta=(BARREL,), min_energy=0.65))


def sample(
    text: str,
    *,
    found: Sequence[str] | None = None,
    vetoed: Sequence[str] = (),
    laws: Mapping[str, Law] | None = None,
    masses: Mapping[str, float] | None = None,
    ctaus: Mapping[str, float] | None = None,
    cuts: Sequence[Mapping[str, Any]] = (),
    taken_for: Mapping[str, str] | None = None,
    vertices: Mapping[str, Vertex] | None = None,
    isr: bool = False,
    n_events: int = 100_000,
    seed: int = 1,
    stream: str = "test",
    lifetimes: Mapping[str, Sequence[float]] | None = None,
) -> ChainSample:
    topology = parse_chain(text, masses=masses, ctaus=ctaus, laws=laws)
    state = None if found is None else FinalState.model_validate({"found": list(found), "vetoed": list(vetoed)})
    return ChainSample(
        topology,
        BEAMS,
        candidates=candidates_of(topology, state, taken_for or {}),
        cuts=[Cut.model_validate({"source": "assumption", **cut}) for cut in cuts],
        taken_for=taken_for,
        vertices=vertices,
        isr=isr,
        n_events=n_events,
        seed=seed,
        stream=stream,
        lifetimes=lifetimes,
    )


def alp(mass: float = 3.0, **more: Any) -> ChainSample:
    laws = {"e+ e-": Law(name="photon-pseudoscalar")}
    return sample("e+ e- -> gamma a, a -> gamma gamma", masses={"a": mass}, laws=laws, **more)


def within(one: float, one_stdev: float, two: float, two_stdev: float) -> float:
    """Distance in standard deviations."""
    return abs(one - two) / math.hypot(one_stdev, two_stdev)


@pytest.mark.parametrize("mass", [0.5, 3.0, 8.0])
def test_photon_pairs_as_the_other_engine_has_them(mass: float) -> None:
    """Second method: another generator, measurement, selection and histogram. Catches a fault in any of one of them."""
    edges = np.linspace(0.0, 100.0, 41)
    selection = PhotonSelection(theta=(BARREL,), min_energy=0.65, mass_window=(0.88, 1.03))
    other = simulate_histograms(
        GammaAlp(mass=mass), BEAMS, RESPONSE, selection, axes={"mass2": edges}, isr=True, n_events=400_000, seed=2,
        stream="x",
    )  # fmt: skip
    cut = {"quantity": "mass(gamma gamma gamma) / sqrt_s", "between": [0.88, 1.03]}
    ours = alp(mass, isr=True, n_events=400_000, cuts=[cut]).run({NOMINAL: PHOTONS}, "mass2(gamma gamma)", edges)
    stdev = math.sqrt(ours.flow[-1].sum_squared_weights) / ours.n_events
    assert within(ours.selected_per_event, stdev, other.selected_per_event, other.selected_per_event_stdev) < 4.0
    theirs = other.histograms["mass2"]
    variance = ours.histograms[NOMINAL].variances + theirs.variances
    filled = variance > 0.0
    chi2 = float(np.sum((ours.histograms[NOMINAL].values - theirs.values)[filled] ** 2 / variance[filled]))
    # three entries of an event are not independent: their bins are correlated, so the spread is larger than of a chi2
    assert chi2 < filled.sum() + 6.0 * math.sqrt(3.0 * 2.0 * filled.sum())


def test_three_photons_as_the_other_engine_has_them() -> None:
    """Second method: catches a cross section, a symmetry factor or generator cuts that are wrong in one engine."""
    selection = PhotonSelection(theta=(BARREL,), min_energy=1.0)
    covering = ThreePhotons.covering(BEAMS, RESPONSE, [selection])
    edges = np.linspace(0.0, 110.0, 23)
    other = simulate_histograms(
        covering, BEAMS, RESPONSE, selection, axes={"mass2": edges}, isr=True, n_events=1_000_000, seed=2, stream="x"
    )
    law = Law(name="three-photons", min_energy=covering.min_energy, max_cos=covering.max_cos)
    chain = sample("e+ e- -> gamma gamma gamma", laws={"e+ e-": law}, isr=True, n_events=1_000_000)
    detector = replace(PHOTONS, photons=replace(PHOTONS.photons, min_energy=1.0))
    ours = chain.run({NOMINAL: detector}, "mass2(gamma gamma)", edges)
    stdev = math.sqrt(ours.flow[-1].sum_squared_weights) / ours.n_events
    assert within(ours.selected_per_event, stdev, other.selected_per_event, other.selected_per_event_stdev) < 4.0
    assert stdev < 0.01 * ours.selected_per_event
    theirs = other.histograms["mass2"]
    variance = ours.histograms[NOMINAL].variances + theirs.variances
    chi2 = float(np.sum((ours.histograms[NOMINAL].values - theirs.values) ** 2 / np.maximum(variance, 1e-300)))
    assert chi2 < len(variance) + 6.0 * math.sqrt(3.0 * 2.0 * len(variance))


def test_one_of_two_photons_is_lost() -> None:
    """Closed form: each is found with probability e in full acceptance, so one alone in 2 e (1 - e), either in 2 e."""
    efficiency = 0.8
    detector = Detector(photons=PhotonDetector(response=RESPONSE, efficiency=efficiency))
    law = {"e+ e-": Law(name="two-photons", max_cos=0.9)}
    expected = {("photons",): 2.0 * efficiency * (1.0 - efficiency), (): 2.0 * efficiency}
    for vetoed, value in expected.items():
        chain = sample("e+ e- -> gamma gamma", found=["gamma"], vetoed=vetoed, laws=law, n_events=20_000)
        found = chain.run({NOMINAL: detector}, "energy_cm(gamma)", [0.0, 11.0])
        assert found.efficiency == pytest.approx(value, rel=1e-12)
        assert found.histograms[NOMINAL].values.sum() == pytest.approx(value * found.sum_weights, rel=1e-12)


def test_pions_taken_for_muons() -> None:
    """Closed form: the products of efficiencies. Catches identification asked of what is vetoed, or of what it is."""
    detector = Detector(
        tracks=TrackDetector(
            efficiency=0.9, identification=(("pion", "muon", 0.1), ("pion", "pion", 0.7), ("muon", "muon", 0.95))
        )
    )
    law = {"e+ e-": Law(name="phase-space")}
    both = sample("e+ e- -> pi+ pi-", found=["mu+", "pi-"], taken_for={"pi+": "mu+"}, laws=law, n_events=1000)
    assert both.run({NOMINAL: detector}, "energy(mu+)", [0.0, 20.0]).efficiency == pytest.approx(0.9 * 0.1 * 0.9 * 0.7)
    one = sample(
        "e+ e- -> pi+ pi-", found=["mu+"], vetoed=["tracks"], taken_for={"pi+": "mu+"}, laws=law, n_events=1000
    )
    assert one.run({NOMINAL: detector}, "energy(mu+)", [0.0, 20.0]).efficiency == pytest.approx(0.9 * 0.1 * 0.1)
    muons = sample("e+ e- -> mu+ mu-", found=["mu+", "mu-"], n_events=1000)
    assert muons.run({NOMINAL: detector}, "energy(mu+)", [0.0, 20.0]).efficiency == pytest.approx((0.9 * 0.95) ** 2)


def test_mass_is_that_of_what_it_is_taken_for() -> None:
    """By hand: the energy of a track follows from its momentum and the mass of what it is taken for."""
    detector = Detector(tracks=TrackDetector(identification=(("kaon", "pion", 1.0),)))
    law = {"e+ e-": Law(name="phase-space")}
    chain = sample("e+ e- -> K+ K-", found=["pi+"], taken_for={"K+": "pi+"}, laws=law, n_events=100)
    (piece,) = chain.pieces(detector)
    momentum = np.linalg.norm(piece.events.momentum("K+")[:, 1:], axis=1)
    measured = piece.measured.momenta[:, piece.measured.names.index("K+")]
    assert measured[:, 0] == pytest.approx(np.hypot(momentum, 0.13957039), rel=1e-6)


def test_decays_in_a_volume() -> None:
    """Closed form: the share of exponential decays between two distances from the axis, for each event."""
    ctau = 2.0
    vertex = Vertex.model_validate({"rho": ["0.5 cm", "60 cm"], "source": "assumption"})
    laws = {"e+ e-": Law(name="phase-space")}
    chain = sample(
        "e+ e- -> gamma S, S -> mu+ mu-", masses={"S": 1.0}, ctaus={"S": ctau}, laws=laws, found=["mu+", "mu-"],
        vertices={"S": vertex}, n_events=200_000,
    )  # fmt: skip
    found = chain.run({NOMINAL: Detector()}, "mass(mu+ mu-)", [0.9, 1.1])
    (first, *_) = chain.pieces(Detector())
    momenta = first.events.momentum("S")
    transverse = ctau * np.hypot(momenta[:, 1], momenta[:, 2]) / 1.0  # mean transverse flight, cm
    share = np.exp(-0.5 / transverse) - np.exp(-60.0 / transverse)
    expected, stdev = float(share.mean()), float(share.std()) / math.sqrt(len(share))
    assert [step.text for step in found.flow] == ["simulated", "decay in the volume", "found"]
    assert within(found.flow[1].efficiency, found.flow[1].efficiency_stdev, expected, stdev) < 4.0
    assert found.flow[2].efficiency == pytest.approx(found.flow[1].efficiency, rel=1e-12)


def test_cut_flow_by_hand() -> None:
    """Closed form: flat directions, so a range of cos(theta) is its share; the error is binomial."""
    chain = sample(
        "e+ e- -> mu+ mu-",
        laws={"e+ e-": Law(name="phase-space")},
        cuts=[
            {"quantity": "theta_cm(mu-)", "between": ["60 deg", "120 deg"]},
            {"quantity": "theta_cm(mu-)", "below": "90 deg"},
        ],
        n_events=100_000,
    )
    found = chain.run({NOMINAL: Detector()}, "theta_cm(mu-)", [0.0, math.pi])
    for step, share in zip(found.flow, (1.0, 1.0, 0.5, 0.25), strict=True):
        # the energies of the beams spread, and with them the weights: by less than 1 %
        assert step.efficiency_stdev == pytest.approx(math.sqrt(share * (1.0 - share) / 100_000), rel=0.02, abs=1e-9)
        assert abs(step.efficiency - share) < 4.0 * step.efficiency_stdev + 1e-9
    assert found.efficiency == found.flow[-1].efficiency
    assert found.flow[2].text == "theta_cm(mu-) between 60 deg and 120 deg"


def test_turn_on() -> None:
    """Closed form: at its threshold a turn-on is half of its plateau, far above all of it."""
    for threshold, value in (("5.289 GeV", 0.45), ("1 GeV", 0.9)):
        turn_on = {"threshold": threshold, "width": "0.5 GeV", "plateau": 0.9}
        chain = sample("e+ e- -> mu+ mu-", cuts=[{"quantity": "energy_cm(mu-)", "turn_on": turn_on}], n_events=20_000)
        found = chain.run({NOMINAL: Detector()}, "energy_cm(mu-)", [0.0, 11.0])
        assert found.efficiency == pytest.approx(value, rel=2e-3)


@pytest.mark.parametrize("n_threads", [2, 7])
def test_same_bits_for_any_number_of_threads(n_threads: int) -> None:
    """Invariant: catches a sum whose order depends on who is done first, and random numbers that depend on pieces."""
    edges = np.linspace(8.0, 10.0, 101)
    more = TrackResponse(slope=0.0019, constant=0.003, angle=0.001)
    detectors = {
        NOMINAL: PHOTONS,
        "other": replace(PHOTONS, tracks=TrackDetector(response=more), photons=PhotonDetector(response=RESPONSE)),
    }
    chain = alp(3.0, isr=True, n_events=2 * PIECE + 1234)
    thinning = Thinning(scale=1e-2, seed=5)
    one = chain.run(detectors, "mass2(gamma gamma)", edges, thinning=thinning, n_threads=1)
    many = chain.run(detectors, "mass2(gamma gamma)", edges, thinning=thinning, n_threads=n_threads)
    assert one.flow == many.flow
    for name in detectors:
        assert np.array_equal(one.histograms[name].values, many.histograms[name].values)
        assert np.array_equal(one.histograms[name].variances, many.histograms[name].variances)
    assert one.counts is not None
    assert many.counts is not None
    assert np.array_equal(one.counts, many.counts)


def test_variations_see_the_same_events() -> None:
    """Invariant: catches a variation with random numbers of its own; a tiny change then moves next to nothing."""
    edges = np.linspace(0.0, 100.0, 51)
    shifted = replace(PHOTONS, photons=replace(PHOTONS.photons, response=RESPONSE.varied("resolution", 1.0 + 1e-6)))
    found = alp(3.0, n_events=PIECE).run({NOMINAL: PHOTONS, "tiny": shifted}, "mass2(gamma gamma)", edges)
    nominal, tiny = found.histograms[NOMINAL].values, found.histograms["tiny"].values
    assert np.abs(tiny - nominal).sum() < 1e-3 * nominal.sum()
    assert not np.array_equal(found.histograms[NOMINAL].edges, nominal)


def test_entries_of_an_event_are_correlated() -> None:
    """By hand: three entries of weight w in one bin have the variance (3 w)^2, not 3 w^2."""
    found = alp(3.0, n_events=5000).run({NOMINAL: PHOTONS}, "mass2(gamma gamma)", [-1000.0, 1000.0])
    last = found.flow[-1]
    assert found.histograms[NOMINAL].values[0] == pytest.approx(3.0 * last.sum_weights)
    assert found.histograms[NOMINAL].variances[0] == pytest.approx(9.0 * last.sum_squared_weights)


def test_pseudo_data_are_counts_of_the_same_events() -> None:
    """Invariant: a tighter selection has a part of the counts of the looser one; the mean is that of the weights."""
    loose = alp(3.0, n_events=PIECE)
    tight = alp(3.0, n_events=PIECE, cuts=[{"quantity": "energy(gamma)", "above": "1.5 GeV"}])
    edges, thinning = np.linspace(0.0, 100.0, 11), Thinning(scale=0.05, seed=3)
    one, two = (c.run({NOMINAL: PHOTONS}, "mass2(gamma gamma)", edges, thinning=thinning) for c in (loose, tight))
    assert one.counts is not None
    assert two.counts is not None
    assert np.array_equal(one.counts, np.round(one.counts))
    assert np.all(two.counts <= one.counts)
    assert 0.0 < two.counts.sum() < one.counts.sum()
    expected = 0.05 * one.histograms[NOMINAL].values.sum()
    assert abs(one.counts.sum() - expected) < 5.0 * math.sqrt(3.0 * expected)
    other = loose.run({NOMINAL: PHOTONS}, "mass2(gamma gamma)", edges, thinning=Thinning(scale=0.05, seed=4))
    assert other.counts is not None
    assert not np.array_equal(one.counts, other.counts)


FLYING = "e+ e- -> gamma S, S -> mu+ mu-"
INSIDE = {"S": Vertex.model_validate({"rho": ["0.1 cm", "60 cm"], "source": "assumption"})}


def flying(ctau: float, vertices: Mapping[str, Vertex] | None = None, **more: Any) -> ChainSample:
    laws = {"e+ e-": Law(name="phase-space")}
    cuts = [{"quantity": "energy(gamma)", "above": "1 GeV"}, {"quantity": "flight_distance(S)", "below": "80 cm"}]
    ctaus = {"S": ctau}
    return sample(FLYING, masses={"S": 2.0}, ctaus=ctaus, laws=laws, vertices=vertices or INSIDE, cuts=cuts, **more)


def test_many_lifetimes_are_those_of_direct_simulation() -> None:
    """Second method: a sample at each lifetime. Catches weights that forget the mixture, or that of what was simulated.

    The own lifetime of the reweighted sample is so short that its weights underflow where the long ones live.
    """
    ctaus = (0.01, 0.1, 1.0, 30.0, 1000.0)
    detector = Detector(photons=PhotonDetector(response=RESPONSE, theta=(BARREL,), min_energy=0.1))
    found = flying(1e-3, lifetimes={"S": drawn_lifetimes(ctaus)}).at_lifetimes(detector, "S", ctaus)
    assert tuple(row.ctau for row in found) == ctaus
    for row in found:
        direct = flying(row.ctau, seed=2).run({NOMINAL: detector}, "mass(mu+ mu-)", [0.0, 10.0]).flow[-1]
        assert within(row.efficiency, row.efficiency_stdev, direct.efficiency, direct.efficiency_stdev) < 4.0
        assert row.effective_sample_size <= 100_000.0
    assert found[2].efficiency > 0.3
    # what is asked far beyond what was drawn rests on few events, and says so
    few = flying(1.0, lifetimes={"S": [0.1]}).at_lifetimes(detector, "S", [3.0])[0]
    assert few.effective_sample_size < 100.0


def test_the_tracking_volume_reaches_the_histograms() -> None:
    """Invariant: a volume of tracks leaves the events that a vertex in it leaves; the true points are the same.

    Catches a way from events to histograms, or to lifetimes, that forgets where tracks can begin.
    """
    volume = TrackVolume(rho=60.0, z_low=-31.0, z_high=100.0)
    near = {"S": Vertex.model_validate({"rho": ["0 cm", "60 cm"], "z": ["-31 cm", "100 cm"], "source": "assumption"})}
    anywhere = {"S": Vertex.model_validate({"source": "assumption"})}
    with_volume = Detector(photons=PHOTONS.photons, tracks=TrackDetector(volume=volume))
    edges = np.linspace(1.0, 3.0, 11)
    one = flying(100.0, anywhere, n_events=20_000).run({NOMINAL: with_volume}, "mass(mu+ mu-)", edges)
    two = flying(100.0, near, n_events=20_000).run({NOMINAL: PHOTONS}, "mass(mu+ mu-)", edges)
    assert one.efficiency == pytest.approx(two.efficiency, rel=1e-12)
    assert one.efficiency < 0.5 * flying(1.0, anywhere, n_events=20_000).run(
        {NOMINAL: with_volume}, "mass(mu+ mu-)", edges
    ).efficiency  # fmt: skip
    assert np.allclose(one.histograms[NOMINAL].values, two.histograms[NOMINAL].values, rtol=1e-12)
    rows = [
        flying(100.0, vertices, n_events=20_000, lifetimes={"S": [100.0]}).at_lifetimes(detector, "S", [80.0])
        for vertices, detector in ((anywhere, with_volume), (near, PHOTONS))
    ]
    assert rows[0][0].efficiency == pytest.approx(rows[1][0].efficiency, rel=1e-12)


def test_lifetimes_do_not_depend_on_threads() -> None:
    """Invariant: the same bits."""
    chain = flying(1.0, lifetimes={"S": [1.0, 10.0]}, n_events=3 * PIECE + 5)
    one, two = (chain.at_lifetimes(PHOTONS, "S", [2.0], n_threads=n) for n in (1, 2))
    assert one == two


def test_drawn_lifetimes_cover_what_is_asked_for() -> None:
    """Invariant: ends included, at most eight."""
    assert drawn_lifetimes([3.0, 1.0, 3.0]) == (1.0, 3.0)
    many = drawn_lifetimes([float(n) for n in range(1, 30)])
    assert len(many) == 8
    assert (many[0], many[-1]) == pytest.approx((1.0, 29.0))


def test_a_vertex_table_weighs_each_bin() -> None:
    """Invariant: bins of 1 and 0.2 are the sum of two volumes, with the same events. Catches rho and z exchanged."""
    rows = {
        "rho_low": ["0 cm", "14 cm", "0 cm", "14 cm"],
        "rho_high": ["14 cm", "600 cm", "14 cm", "600 cm"],
        "z_low": ["-500 cm", "-500 cm", "10 cm", "10 cm"],
        "z_high": ["10 cm", "10 cm", "500 cm", "500 cm"],
        "value": [1, 0.2, 0.5, 0],
    }
    table = {"table": rows, "source": "assumption"}
    everywhere = {"S": Vertex.model_validate({"efficiency": table, "source": "assumption"})}

    def passed(vertices: Mapping[str, Vertex]) -> float:
        return flying(20.0, vertices).run({NOMINAL: PHOTONS}, "mass(mu+ mu-)", [0.0, 10.0]).efficiency

    parts = 0.0
    for rho_low, rho_high, z_low, z_high, value in zip(*rows.values(), strict=True):
        ranges = {"rho": [rho_low, rho_high], "z": [z_low, z_high], "source": "assumption"}
        parts += value * passed({"S": Vertex.model_validate(ranges)})  # type: ignore[operator]
    assert passed(everywhere) == pytest.approx(parts, rel=1e-9)


@pytest.mark.parametrize(
    ("efficiency", "message"),
    [
        ({"table": {"rho_low": ["0 cm"]}}, "expected rho_low, rho_high, z_low, z_high, value"),
        ({"rho": ["0 cm"], "value": [1]}, "at least 2 items"),
        (
            {"table": {key: ["0 GeV"] for key in ("rho_low", "rho_high", "z_low", "z_high")} | {"value": [1]}},
            "is not the unit of a length",
        ),
    ],
)
def test_refused_vertex_efficiencies(efficiency: dict[str, object], message: str) -> None:
    """Catches a table whose columns are of another kind."""
    with pytest.raises(ValueError, match=message):
        Vertex.model_validate({"efficiency": {**efficiency, "source": "assumption"}, "source": "assumption"})


@pytest.mark.parametrize("mean", [1e-6, 0.3, 4.0, 60.0])
def test_poisson_counts(mean: float) -> None:
    """Reference: the quantile function of scipy."""
    uniform = np.concatenate([np.random.default_rng(1).random(2000), [0.0, 1.0 - 2.0**-53]])
    assert np.array_equal(
        poisson_counts(np.full(len(uniform), mean), uniform), np.maximum(poisson.ppf(uniform, mean), 0.0)
    )


def test_events_are_those_of_the_histogram() -> None:
    """Invariant: catches pieces that repeat or skip events."""
    chain = alp(3.0, n_events=PIECE + 777)
    weights = [piece.weights for piece in chain.pieces(PHOTONS, n_threads=2)]
    assert [part.shape[1] for part in weights] == [PIECE, 777]
    total = chain.run({NOMINAL: PHOTONS}, "mass2(gamma gamma)", [0.0, 1.0]).flow[-1].sum_weights
    assert sum(float(part.sum()) for part in weights) == pytest.approx(total, rel=1e-12)


TABLE = EfficiencyTable(
    first_edges=(0.0, 1.0, 2.0, 5.0),
    second_edges=(0.2, 1.0, 2.0, 3.0),
    values=((0.5, 0.6, 0.7), (0.8, 0.9, 0.95), (0.9, 0.97, 0.99)),
    uncertainties=((0.1, 0.1, 0.1), (0.05, 0.05, 0.05), (0.01, 0.01, 0.01)),
)
CALORIMETER = Calorimeter(radius=125.0, z_low=-102.0, z_high=196.0)
TRACKS = TrackDetector(
    response=TrackResponse(slope=0.0019, constant=0.003, angle=0.001),
    theta=((math.radians(17.0), math.radians(150.0)),),
    min_transverse_momentum=0.1,
    efficiency=TABLE,
    identification=(
        ("pion", "muon", 0.1),
        ("muon", "muon", replace(TABLE, variables=("transverse momentum", "theta"))),
    ),
)
REAL = Detector(
    photons=PhotonDetector(
        response=RESPONSE,
        theta=((0.2, 0.5), BARREL),
        min_energy=0.1,
        min_opening_angle=0.06,
        efficiency=0.9,
        calorimeter=CALORIMETER,
    ),
    tracks=TRACKS,
)
VARIED = {
    NOMINAL: REAL,
    "table": replace(REAL, tracks=replace(TRACKS, efficiency=TABLE.shifted(1.0))),
    "photons found": varied_detector(REAL, "photons.efficiency", 0.05),
    "momentum": varied_detector(REAL, "tracks.momentum_scale", 0.01),
    "energy": varied_detector(REAL, "photons.energy_scale", -0.02),
    "acceptance": replace(REAL, photons=replace(REAL.photons, theta=((0.1, 3.0),))),
}
ANGLES = [
    {"quantity": "theta(mu+)", "between": ["30 deg", "140 deg"]},
    {"quantity": "theta_cm(mu-)", "above": "20 deg"},
    {"quantity": "opening_angle_cm(mu+, mu-)", "below": "175 deg"},
    {"quantity": "transverse_opening_angle(mu+, mu-)", "above": "30 deg"},
    {"quantity": "recoil_theta(mu+ mu-)", "between": ["0 deg", "170 deg"]},
    {"quantity": "phi(mu+)", "above": "-170 deg"},
]
TAUS = "e+ e- -> tau+ tau-, tau+ -> pi+ pi+ pi- anti-nu_tau, tau- -> nu_tau mu- anti-nu_mu"
SELECTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "vetoes and angles": (
        {
            "text": "e+ e- -> mu+ mu- gamma",
            "laws": {"e+ e-": Law(name="leptons-photon", min_energy=0.1, max_cos=0.95)},
            "found": ["mu+", "mu-"],
            "vetoed": ["tracks", "photons"],
            "cuts": ANGLES,
        },
        "recoil2(mu+ mu-)",
    ),
    "vertices, helicity and a turn-on": (
        {
            "text": "e+ e- -> Y(4S), Y(4S) -> B0 anti-B0, B0 -> K*0 S, K*0 -> K+ pi-, S -> mu+ mu-",
            "masses": {"S": 1.0},
            "ctaus": {"S": 5.0},
            "found": ["K+", "pi-", "mu+", "mu-"],
            "taken_for": {},
            "vertices": {
                "S": Vertex.model_validate(
                    {
                        "rho": ["0.1 cm", "60 cm"],
                        "z": ["-50 cm", "100 cm"],
                        "resolution": "0.01 cm",
                        "source": "assumption",
                    }
                )
            },
            "cuts": [
                {"quantity": "energy_cm(K+)", "turn_on": {"threshold": "1 GeV", "width": "0.4 GeV", "plateau": 0.9}},
                {"quantity": "pointing_angle(S)", "below": "30 deg"},
                {"quantity": "mbc(K+ pi- mu+ mu-)", "above": "5.2 GeV"},
                {"quantity": "cos_helicity(K+, K+ pi-)", "above": -0.9},
            ],
        },
        "reduced_mass(mu+ mu-)",
    ),
    "several candidates": (
        {
            "text": "e+ e- -> gamma gamma gamma",
            "laws": {"e+ e-": Law(name="three-photons", min_energy=0.2, max_cos=0.95)},
            "found": ["gamma", "gamma"],
            "vetoed": [],
            "cuts": [
                {"quantity": "opening_angle(gamma, gamma)", "above": "10 deg"},
                {"quantity": "energy(gamma)", "above": "0.5 GeV", "at_least": 1},
            ],
        },
        "mass(gamma gamma) / sqrt_s",
    ),
    "several entries": (
        {
            "text": "e+ e- -> gamma a, a -> gamma gamma",
            "masses": {"a": 0.4},
            "laws": {"e+ e-": Law(name="photon-pseudoscalar")},
            "found": ["gamma", "gamma", "gamma"],
            "cuts": [{"quantity": "mass2(gamma gamma)", "between": ["1 GeV^2", "90 GeV^2"], "at_least": 2}],
        },
        "recoil(gamma)",
    ),
    "a tag": (
        {
            "text": TAUS,
            "laws": {"tau-": Law(name="leptonic")},
            "found": ["pi+", "pi+", "pi-", "mu-"],
            "taken_for": {},
            "cuts": [
                {"quantity": "delta_e(pi+ pi+ pi-)", "below": "0 GeV"},
                {"quantity": "missing_pt", "above": "0.1 GeV"},
            ],
        },
        "tau_x(mu-, pi+ pi+ pi-)",
    ),
}


@pytest.mark.parametrize("name", SELECTIONS)
def test_one_pass_has_the_bits_of_its_steps(name: str) -> None:
    """Second method: measure, select, evaluate and fill whole pieces. Catches what one of them knows and not the other.

    The cut flow is added in another order.
    """
    arguments, text = SELECTIONS[name]
    tracks = replace(TRACKS, identification=(*TRACKS.identification, ("pion", "pion", 0.9), ("kaon", "kaon", 0.8)))
    detectors = {
        key: replace(
            detector, tracks=replace(tracks, response=detector.tracks.response, efficiency=detector.tracks.efficiency)
        )
        for key, detector in VARIED.items()
    }
    chain = sample(**arguments, n_events=PIECE + 3000)
    edges = np.concatenate([np.linspace(-1.0, 1.0, 40), np.geomspace(1.01, 60.0, 100)])
    found = chain.run(detectors, text, edges, n_threads=2)
    observables = chain.observables(text)
    assert found.flow[-1].efficiency > 0.01
    for key, detector in detectors.items():
        values, variances = np.zeros((2, len(edges) + 1))
        weights = 0.0
        for piece in chain.pieces(detector):
            entries = [evaluate_entries(observable, piece.measured, chain.beams) for observable in observables]
            repeated = np.repeat(piece.weights, [len(rows) for rows in entries], axis=0)
            part = fill_entries(np.concatenate(entries), repeated, edges)
            values += part[0]
            variances += part[1]
            weights += float(piece.weights.sum())
        histogram = found.histograms[key]
        assert np.array_equal(histogram.values, values[1:-1])
        assert np.array_equal(histogram.variances, variances[1:-1])
        assert (histogram.underflow, histogram.overflow) == (values[0], values[-1])
        if key == NOMINAL:
            assert found.flow[-1].sum_weights == pytest.approx(weights, rel=1e-12)
