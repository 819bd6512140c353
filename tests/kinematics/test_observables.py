"""Observables: closed forms, frames, combinations, what is refused; tables of the notes that need them."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.spatial.transform import Rotation

from modelbuilder.errors import KinematicsError
from modelbuilder.kinematics import _observables
from modelbuilder.kinematics.beams import Beams
from modelbuilder.kinematics.chain import ChainEvents, simulate_chain
from modelbuilder.kinematics.cuts import Cut, TurnOn, error_function_turn_on, fill, resolution, select, width_of
from modelbuilder.kinematics.measure import (
    Detector,
    MeasuredEvents,
    PhotonDetector,
    TrackDetector,
    TrackResponse,
    detector_of,
    measure,
    truth,
)
from modelbuilder.kinematics.observables import evaluate
from modelbuilder.kinematics.response import PhotonResponse
from modelbuilder.spec.load import load_experiment
from modelbuilder.spec.observables import FUNCTIONS, parse_observable
from modelbuilder.spec.topology import Law, Topology, known_particle, parse_chain

METRIC = np.array([1.0, -1.0, -1.0, -1.0])
BELLE2 = Beams(electron_energy=7.004, positron_energy=4.002, crossing_angle=0.083)
HEAD_ON = Beams(electron_energy=9.0, positron_energy=3.1)
PHOTONS = PhotonResponse(noise=0.00066, stochastic=0.0081, constant=0.0134, angle=0.004)
TRACKS = TrackResponse(slope=0.0019, constant=0.003, angle=0.001, angles="polar")
MUON, TAU = 0.1056583755, 1.77693


def simulated(text: str, n_events: int = 3_000, beams: Beams = BELLE2, **arguments: Any) -> ChainEvents:
    return simulate_chain(
        parse_chain(text, **arguments), beams, isr=False, n_events=n_events, seed=7, stream="observables"
    )


FLAT = {"e+ e-": Law(name="phase-space")}
FOUR = truth(simulated("e+ e- -> gamma A, A -> mu- mu+ gamma gamma", masses={"A": 8.0}, laws=FLAT))


def value(text: str, events: MeasuredEvents = FOUR, beams: Beams = BELLE2) -> np.ndarray:
    result = evaluate(parse_observable(text, events.topology), events, beams)
    return result[:, 0] if result.shape[1] == 1 else result


def sum_of(events: MeasuredEvents, *names: str) -> np.ndarray:
    total: np.ndarray = np.sum([events.momenta[:, events.names.index(name)] for name in names], axis=0)
    return total


def mass2(p: np.ndarray) -> np.ndarray:
    squares: np.ndarray = (p**2) @ METRIC
    return squares


def boosted(p: np.ndarray, velocity: np.ndarray) -> np.ndarray:
    """To the frame that moves with `velocity`, shape (3,) or (n, 3): the textbook matrix."""
    beta2 = np.sum(velocity**2, axis=-1)
    gamma = 1.0 / np.sqrt(1.0 - beta2)
    along = np.sum(p[:, 1:] * velocity, axis=-1)
    energy = gamma * (p[:, 0] - along)
    factor = (gamma - 1.0) / np.where(beta2 > 0.0, beta2, 1.0) * along - gamma * p[:, 0]
    return np.column_stack([energy, p[:, 1:] + factor[:, None] * velocity])


def in_centre(p: np.ndarray, beams: Beams) -> np.ndarray:
    """In the e+e- frame by a boost, then turned so that the electron is the third axis."""
    velocity = np.array(beams.boost)
    half = 0.5 * beams.crossing_angle
    electron = beams.electron_energy * np.array([[1.0, math.sin(half), 0.0, math.cos(half)]])
    axis = boosted(electron, velocity)[0, 1:]
    axis /= np.linalg.norm(axis)
    side = np.cross([0.0, 1.0, 0.0], axis)
    moved = boosted(p, velocity)
    turned = moved[:, 1:] @ np.array([side, [0.0, 1.0, 0.0], axis]).T
    return np.column_stack([moved[:, 0], turned])


def angle(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """By the sine of the half: independent of the code, and good everywhere."""
    a = one / np.linalg.norm(one, axis=1)[:, None]
    b = two / np.linalg.norm(two, axis=1)[:, None]
    result: np.ndarray = 2.0 * np.arctan2(np.linalg.norm(a - b, axis=1), np.linalg.norm(a + b, axis=1))
    return result


# ---------------------------------------------------------------------------------------------------------------------
# Closed forms


@pytest.mark.parametrize("beams", [BELLE2, HEAD_ON])
def test_closed_forms(beams: Beams) -> None:
    """Reference: numpy with boosts by the textbook matrix; catches a wrong frame, axis, sign or unit of any of them."""
    p = sum_of(FOUR, "mu-", "mu+")
    total = np.array(beams.four_momentum)
    back = total - p

    def close(expected: np.ndarray) -> Any:
        return pytest.approx(expected, rel=1e-9, abs=1e-9)

    def roots(squares: np.ndarray) -> np.ndarray:
        return np.asarray(np.sign(squares) * np.sqrt(np.abs(squares)))

    for frame, one, other in (("", p, back), ("_cm", in_centre(p, beams), in_centre(back, beams))):
        for prefix, q in (("", one), ("recoil_", other), ("missing_", other)):
            expected = {
                "energy": q[:, 0],
                "momentum": np.linalg.norm(q[:, 1:], axis=1),
                "pt": np.hypot(q[:, 1], q[:, 2]),
                "theta": np.arccos(q[:, 3] / np.linalg.norm(q[:, 1:], axis=1)),
                "phi": np.arctan2(q[:, 2], q[:, 1]),
            }
            for name, numbers in expected.items():
                if prefix + name + frame in FUNCTIONS:
                    assert value(f"{prefix}{name}{frame}(mu- mu+)", FOUR, beams) == close(numbers), (
                        prefix,
                        name,
                        frame,
                    )
    assert value("mass(mu+ mu-)", FOUR, beams) == close(np.sqrt(mass2(p)))
    assert value("mass2(mu+ mu-)", FOUR, beams) == close(mass2(p))
    assert value("recoil2(mu+ mu-)", FOUR, beams) == close(mass2(back))
    assert value("recoil(mu+ mu-)", FOUR, beams) == close(roots(mass2(back)))
    assert value("reduced_mass(mu+ mu-)", FOUR, beams) == close(np.sqrt(mass2(p) - 4.0 * MUON**2))
    star = in_centre(p, beams)
    # another form: s + M^2 - 2 sqrt(s) E*
    assert value("recoil2(mu- mu+)", FOUR, beams) == close(beams.s + mass2(p) - 2.0 * beams.sqrt_s * star[:, 0])
    assert value("delta_e(mu+ mu-)", FOUR, beams) == close(star[:, 0] - 0.5 * beams.sqrt_s)
    square = 0.25 * beams.s - np.sum(star[:, 1:] ** 2, axis=1)
    mbc = value("mbc(mu+ mu-)", FOUR, beams)
    assert mbc[square > 0.0] == close(np.sqrt(square[square > 0.0]))
    assert np.all(np.isnan(mbc[square < 0.0]))
    assert value("mass(mu- mu+) / sqrt_s", FOUR, beams) == close(np.sqrt(mass2(p)) / beams.sqrt_s)


def test_angles_between() -> None:
    """Reference: another formula; catches a plane taken for space, or the wrong frame."""
    one, two = sum_of(FOUR, "mu-"), sum_of(FOUR, "mu+", "gamma[2]")
    expected = angle(one[:, 1:], two[:, 1:])
    assert value("opening_angle(mu-, mu+ gamma[2])") == pytest.approx(expected, abs=1e-12)
    flat = np.array([0.0, 1.0, 1.0, 0.0])
    across = angle((one * flat)[:, 1:], (two * flat)[:, 1:])
    assert value("transverse_opening_angle(mu-, mu+ gamma[2])") == pytest.approx(across, abs=1e-9)
    stars = [in_centre(p, BELLE2)[:, 1:] for p in (one, two)]
    assert value("opening_angle_cm(mu-, mu+ gamma[2])") == pytest.approx(angle(*stars), abs=1e-9)
    assert np.array_equal(value("opening_angle(mu- mu+)"), value("opening_angle(mu-, mu+)"))


def test_helicity_angle() -> None:
    """Reference: two boosts in numpy; catches the angle to the grandparent instead of away from it."""
    events = truth(simulated("B0 -> K*0 X, K*0 -> K+ pi-, X -> e+ e-", masses={"X": 1.0}))
    daughter, parent = sum_of(events, "K+"), sum_of(events, "K+", "pi-")
    for text, grandparent in (
        ("cos_helicity(K+, K*0, B0)", sum_of(events, "K+", "pi-", "e+", "e-")),
        ("cos_helicity(K+, K+ pi-)", np.broadcast_to(BELLE2.four_momentum, parent.shape)),
    ):
        velocity = parent[:, 1:] / parent[:, :1]
        inner = boosted(daughter, velocity)[:, 1:]
        outer = -boosted(np.array(grandparent), velocity)[:, 1:]
        assert value(text, events) == pytest.approx(np.cos(angle(inner, outer)), abs=1e-7), text


@pytest.mark.parametrize(("law", "slope"), [("cosine-squared", 1.0), ("sine-squared", -1.0), ("phase-space", 0.0)])
def test_helicity_angle_of_the_generator(law: str, slope: float) -> None:
    """Reference: the law that the angles were drawn from: mean cos^2 of 3/5, 1/5, 1/3, to 5 sigma."""
    text, laws = "B0 -> K*0 X, K*0 -> K+ pi-, X -> e+ e-", {"K*0": Law(name=law)}
    events = truth(simulated(text, 40_000, masses={"X": 1.0}, laws=laws))
    squares = value("cos_helicity(K+, K*0, B0)", events) ** 2
    expected = {1.0: 0.6, -1.0: 0.2, 0.0: 1.0 / 3.0}[slope]
    assert abs(np.mean(squares) - expected) < 5.0 * np.std(squares) / math.sqrt(len(squares))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), speed=st.floats(0.0, 0.99))
def test_masses_and_angles_do_not_know_the_frame(seed: int, speed: float) -> None:
    """Invariant: masses and helicity under rotations and boosts, opening angles under rotations."""
    rng = np.random.default_rng(seed)
    turn = Rotation.random(rng=rng).as_matrix()
    velocity = rng.normal(size=3)
    velocity *= speed / np.linalg.norm(velocity)
    n, k, _ = FOUR.momenta.shape

    def moved(boost: bool) -> MeasuredEvents:
        p = FOUR.momenta.reshape(-1, 4)
        p = np.column_stack([p[:, 0], p[:, 1:] @ turn.T])
        p = boosted(p, velocity) if boost else p
        return replace(FOUR, momenta=p.reshape(n, k, 4))

    for text in ("mass(mu+ mu-)", "mass2(gamma gamma)", "cos_helicity(mu-, mu- mu+, mu- mu+ gamma[2])"):
        assert value(text, moved(True)) == pytest.approx(value(text), rel=1e-6, abs=1e-6), text
    for text in ("opening_angle(mu+, gamma[1])", "momentum(mu-)"):
        assert value(text, moved(False)) == pytest.approx(value(text), rel=1e-9, abs=1e-9), text


# ---------------------------------------------------------------------------------------------------------------------
# Physics


def test_a_perfect_b_meson() -> None:
    """Reference: M_bc is m_B and Delta E is 0 for each B, in the laboratory of tilted beams."""
    events = simulated("e+ e- -> Y(4S), Y(4S) -> B+ B-, B+ -> K+ S, S -> mu+ mu-, B- -> K- gamma", masses={"S": 1.0})
    exact = truth(events)
    for name in ("B+", "B-"):
        mass = events.topology.nodes[events.topology.place(name)].mass
        assert value(f"mbc({name})", exact) == pytest.approx(mass, abs=1e-9)
        assert value(f"delta_e({name})", exact) == pytest.approx(0.0, abs=1e-9)
        assert value(f"mass({name})", exact) == pytest.approx(mass, abs=1e-9)
    assert np.array_equal(value("mbc(B+)", exact), value("mbc(K+ mu+ mu-)", exact))


ENDPOINTS = {
    "e-": {0.0: 1.000, 0.5: 0.921, 0.7: 0.845, 1.0: 0.683, 1.2: 0.544, 1.4: 0.379, 1.6: 0.189},
    "mu-": {0.0: 1.004, 0.5: 0.924, 0.7: 0.848, 1.0: 0.687, 1.2: 0.547, 1.4: 0.383, 1.6: 0.193},
}


@pytest.mark.parametrize("lepton", sorted(ENDPOINTS))
@pytest.mark.parametrize("mass", [0.0, 0.5, 0.7, 1.0, 1.2, 1.4, 1.6])
def test_lepton_line_in_the_frame_of_the_tau(lepton: str, mass: float) -> None:
    """Reference (b_decay_searches.md 6.1): x = 2E/m of tau -> l alpha is a line in the true frame.

    The tag tau+ -> pi+ nu with the neutrino made visible by hand has the direction of the tau: what is left is exact.
    """
    text = f"e+ e- -> tau+ tau-, tau- -> {lepton} a, tau+ -> e+ gamma"
    events = truth(simulated(text, 500, masses={"a": mass}))
    x = value(f"tau_x({lepton}, e+ gamma)", events)
    assert np.max(np.abs(x - ENDPOINTS[lepton][mass])) < 1.1e-3
    own = {"e-": 0.51099895e-3, "mu-": MUON}[lepton]
    assert x == pytest.approx((TAU**2 + own**2 - mass**2) / TAU**2, abs=1e-6)


def test_lepton_spectrum_in_the_pseudo_frame() -> None:
    """Catches a pseudo frame that is the true one, or not even near: the line becomes a hump of tens of per cent."""
    text = "e+ e- -> tau+ tau-, tau- -> mu- a, tau+ -> pi+ pi+ pi- nu"
    events = truth(simulated(text, 20_000, masses={"a": 1.0}))
    x = value("tau_x(mu-, pi+ pi+ pi-)", events)
    assert np.median(x) == pytest.approx(0.687, rel=0.1)
    assert 0.03 < np.std(x) / 0.687 < 0.5
    by_hand = in_centre(sum_of(events, "mu-"), BELLE2)
    tag = in_centre(sum_of(events, "pi+", "pi+[2]", "pi-"), BELLE2)[:, 1:]
    energy = 0.5 * BELLE2.sqrt_s
    velocity = -tag / np.linalg.norm(tag, axis=1)[:, None] * math.sqrt(1.0 - (TAU / energy) ** 2)
    assert x == pytest.approx(2.0 * boosted(by_hand, velocity)[:, 0] / TAU, rel=1e-9)


def test_flight() -> None:
    """Reference: numpy; a particle from the origin points along its momentum, one from a flying parent does not."""
    text = "e+ e- -> gamma A, A -> S gamma, S -> pi+ pi-"
    events = truth(simulated(text, masses={"A": 5.0, "S": 1.0}, ctaus={"A": 0.5, "S": 1.0}, laws=FLAT))
    point = events.points[:, events.topology.place("S")]
    assert value("flight_distance(S)", events) == pytest.approx(np.linalg.norm(point, axis=1), rel=1e-12)
    assert value("flight_distance_xy(S)", events) == pytest.approx(np.hypot(point[:, 0], point[:, 1]), rel=1e-12)
    expected = angle(point, sum_of(events, "pi+", "pi-")[:, 1:])
    assert value("pointing_angle(S)", events) == pytest.approx(expected, abs=1e-9)
    assert np.median(expected) > 0.01
    direct = truth(simulated("B+ -> K+ S, S -> pi+ pi-", masses={"S": 1.0}, ctaus={"S": 1.0, "B+": 0.0}))
    assert np.max(value("pointing_angle(S)", direct)) < 1e-7
    # part of the decay is enough for a vertex
    partial = truth(simulated("B+ -> K+ N, N -> mu+ pi- nu", masses={"N": 2.0}, ctaus={"N": 5.0}))
    assert np.median(value("pointing_angle(N)", partial)) > 0.05
    assert np.all(value("flight_distance(N)", partial) > 0.0)


DIMUONS = [
    row
    for row in csv.DictReader(
        line
        for line in (Path(__file__).parent / "data" / "toy_mumu_x.csv").read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    )
    if row["m_X_GeV"] in ("0.1", "1", "3", "5", "7", "8.5")
]


@pytest.mark.parametrize("row", DIMUONS, ids=lambda row: f"{row['model']}-{row['m_X_GeV']}")
def test_dimuon_selection_of_the_notes(row: dict[str, str]) -> None:
    """Reference (direct_toy_mumuX.csv): the cuts on transverse opening and on the recoil by the grammar, to 0.01."""
    laws = {"e+ e-": Law(name=f"leptons-{row['model']}")}
    chain = simulated("e+ e- -> mu- mu+ X", 100_000, masses={"X": float(row["m_X_GeV"])}, laws=laws)
    theta = ((math.radians(32.2), math.radians(128.7)),)
    detector = Detector(tracks=TrackDetector(theta=theta, min_transverse_momentum=0.4))
    events = measure(chain, detector, seed=1, stream="d")
    topology = chain.topology
    opening = Cut(observable=parse_observable("transverse_opening_angle(mu- mu+)", topology), low=0.5 * math.pi)
    recoil = Cut(observable=parse_observable("recoil_theta(mu- mu+)", topology), low=theta[0][0], high=theta[0][1])
    chosen = select(events, [opening, recoil], BELLE2)
    for step, column in zip(chosen.flow[1:], ("acc_barrel", "acc_back", "acc_rec"), strict=True):
        assert step.efficiency == pytest.approx(float(row[column]), abs=0.01), column
    assert [step.text for step in chosen.flow] == [
        "simulated",
        "detector",
        "1.5708 rad <= transverse_opening_angle(mu- mu+)",
        "0.561996 rad <= recoil_theta(mu- mu+) <= 2.24624 rad",
    ]


# ---------------------------------------------------------------------------------------------------------------------
# Combinations


def test_any_of_several() -> None:
    """Reference: all pairs by hand; catches a pair counted twice, or the wrong three."""
    photons = ["gamma", "gamma[2]", "gamma[3]"]
    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = np.column_stack([mass2(sum_of(FOUR, photons[i], photons[j])) for i, j in pairs])
    assert value("mass2(gamma gamma)") == pytest.approx(expected, rel=1e-12, abs=1e-10)
    energies = np.column_stack([FOUR.momenta[:, FOUR.names.index(name), 0] for name in photons])
    assert np.array_equal(value("energy(gamma)"), energies)
    assert np.array_equal(value("energy(gamma[2])"), energies[:, 1])
    assert np.array_equal(value("energy(gamma[1])"), energies[:, 0])
    assert value("mass(gamma gamma gamma)").shape == (len(energies),)
    assert value("opening_angle(gamma, gamma)").shape == (len(energies), 3)
    assert value("opening_angle(gamma, mu-)").shape == (len(energies), 3)
    # mixed: the named one and any other
    assert value("mass(gamma[1] gamma)").shape == (len(energies), 2)
    assert np.array_equal(value("mass(A)"), value("mass(mu- mu+ gamma[2] gamma[3])"))
    # everything that is visible
    assert np.array_equal(value("missing_energy()"), value("missing_energy(mu- mu+ gamma gamma gamma)"))
    assert np.array_equal(value("missing_momentum"), value("missing_momentum()"))


def test_particles_that_are_not_found() -> None:
    """Catches an entry of a lost particle; events with enough of the others keep theirs."""
    events = simulated("e+ e- -> gamma A, A -> mu- mu+ gamma gamma", masses={"A": 8.0}, laws=FLAT)
    detector = Detector(photons=PhotonDetector(theta=((0.6, 2.2),)))
    measured = measure(events, detector, seed=1, stream="a", required=["mu-", "mu+"])
    lost = ~measured.found
    photons = [i for i, name in enumerate(measured.names) if name.startswith("gamma")]
    energies = value("energy(gamma)", measured)
    assert np.array_equal(np.isnan(energies), lost[:, photons])
    pairs = value("mass2(gamma gamma)", measured)
    expected = np.column_stack([lost[:, photons[i]] | lost[:, photons[j]] for i, j in ((0, 1), (0, 2), (1, 2))])
    assert np.array_equal(np.isnan(pairs), expected)


# ---------------------------------------------------------------------------------------------------------------------
# Cuts, histograms, resolution


def test_cuts_on_several_entries() -> None:
    """Reference: numpy; catches `any` for `all`, and a lost photon that fails a cut on all photons."""
    observable = parse_observable("energy(gamma)", FOUR.topology)
    energies = value("energy(gamma)")
    every = Cut(observable=observable, low=1.0)
    assert np.array_equal(every.passed(FOUR, BELLE2), np.all(energies >= 1.0, axis=1))
    for number in (1, 2, 3):
        some = Cut(observable=observable, low=1.0, high=3.0, at_least=number)
        within = (energies >= 1.0) & (energies <= 3.0)
        assert np.array_equal(some.passed(FOUR, BELLE2), within.sum(axis=1) >= number)
        assert some.text == f"1 GeV <= energy(gamma) <= 3 GeV, at least {number}"
    events = simulated("e+ e- -> gamma A, A -> mu- mu+ gamma gamma", masses={"A": 8.0}, laws=FLAT)
    detector = Detector(photons=PhotonDetector(theta=((0.6, 2.2),)))
    measured = measure(events, detector, seed=1, stream="a", required=[])
    found = measured.found[:, [i for i, name in enumerate(measured.names) if name.startswith("gamma")]]
    expected = np.all((energies >= 1.0) | ~found, axis=1) & np.any(found, axis=1)
    assert np.array_equal(every.passed(measured, BELLE2), expected)


def test_turn_on() -> None:
    """Reference: interp and erf; catches a turn-on that cuts, or that runs the other way."""
    observable = parse_observable("energy_cm(gamma[1])", FOUR.topology)
    energy = value("energy_cm(gamma[1])")
    points = ((1.0, 0.1), (2.0, 0.9), (3.0, 0.95))
    turn_on = TurnOn(observable=observable, points=points)
    expected = np.interp(energy, [x for x, _ in points], [y for _, y in points])
    assert turn_on.efficiency(FOUR, BELLE2) == pytest.approx(expected, rel=1e-12)
    smooth = error_function_turn_on(observable, threshold=2.3, width=0.4, plateau=0.9)
    exact = [0.45 * (1.0 + math.erf((x - 2.3) / (math.sqrt(2.0) * 0.4))) for x in energy]
    assert smooth.efficiency(FOUR, BELLE2) == pytest.approx(np.array(exact), abs=5e-4)
    chosen = select(FOUR, [smooth], BELLE2)
    assert chosen.weights == pytest.approx(FOUR.weights * smooth.efficiency(FOUR, BELLE2), rel=1e-13)
    assert chosen.flow[-1].text == "turn-on in energy_cm(gamma[1])"


def test_errors_of_the_cut_flow() -> None:
    """Reference: scatter of the efficiency over samples, with weights; catches a binomial error of weighted events."""
    text, laws = "e+ e- -> mu- mu+ X", {"e+ e-": Law(name="leptons-vector")}
    topology = parse_chain(text, masses={"X": 1.0}, laws=laws)
    cut = Cut(observable=parse_observable("pt(mu-)", topology), low=2.0)
    found, errors = [], []
    for seed in range(60):
        chain = simulate_chain(topology, BELLE2, isr=False, n_events=2_000, seed=seed, stream="e")
        step = select(truth(chain), [cut], BELLE2).flow[-1]
        found.append(step.efficiency)
        errors.append(step.efficiency_stdev)
    assert np.std(found, ddof=1) == pytest.approx(np.mean(errors), rel=0.35)
    assert 0.1 < np.mean(found) < 0.9


def test_histograms() -> None:
    """Reference: np.histogram, and variances of correlated entries by hand, event by event."""
    observable = parse_observable("mass2(gamma gamma)", FOUR.topology)
    weights = np.random.default_rng(1).uniform(0.0, 2.0, len(FOUR.weights))
    edges = np.array([0.0, 0.5, 2.0, 10.0, 30.0])
    histogram = fill(observable, FOUR, weights, edges, BELLE2)
    entries = value("mass2(gamma gamma)")
    expected, _ = np.histogram(entries, edges, weights=np.repeat(weights[:, None], 3, axis=1))
    assert histogram.values == pytest.approx(expected, rel=1e-12)
    counts = np.array([np.histogram(event, edges)[0] for event in entries])
    assert np.max(counts) >= 2
    assert histogram.variances == pytest.approx(np.sum((counts * weights[:, None]) ** 2, axis=0), rel=1e-12)
    total = histogram.values.sum() + histogram.underflow + histogram.overflow
    assert total == pytest.approx(3.0 * weights.sum(), rel=1e-12)
    assert histogram.overflow == pytest.approx(np.sum((entries >= 30.0).sum(axis=1) * weights), rel=1e-12)


def test_resolution() -> None:
    """Reference: sigma(E) of the calorimeter for the energy of a line, and a normal sample for the width itself."""
    chain = simulated("e+ e- -> gamma A", 40_000, masses={"A": 5.0}, laws=FLAT)
    detector = Detector(photons=PhotonDetector(response=PHOTONS))
    measured, exact = measure(chain, detector, seed=1, stream="r"), truth(chain)
    observable = parse_observable("energy_cm(gamma)", chain.topology)
    width = resolution(observable, measured, exact, measured.weights, BELLE2)
    energy = (BELLE2.s - 25.0) / (2.0 * BELLE2.sqrt_s)
    assert width.half_width == pytest.approx(PHOTONS.energy_resolution(energy), rel=0.06)
    assert abs(width.bias) < 5.0 * width.half_width_stdev
    assert width.effective_sample_size == pytest.approx(40_000)
    normal = np.random.default_rng(2).normal(1.0, 0.3, (2, 100_000))
    other = width_of(normal, np.ones(100_000), "x")
    assert other.half_width == pytest.approx(0.3, rel=0.01)
    assert other.bias == pytest.approx(1.0, abs=0.005)
    spread = [width_of(part[None], np.ones(1_000), "x").half_width for part in normal.reshape(200, 1_000)]
    assert np.std(spread) == pytest.approx(width_of(normal[:1, :1_000], np.ones(1_000), "x").half_width_stdev, rel=0.2)


def test_resolution_of_reduced_mass_near_threshold() -> None:
    """Reference (b_decay_searches.md 3.1): M' = sqrt(M^2 - 4 m^2), so sigma_M = sigma_M' M'/M; catches M for M'."""
    mass = 0.3
    chain = simulated("B+ -> K+ S, S -> mu+ mu-", 20_000, masses={"S": mass})
    measured = measure(chain, Detector(tracks=TrackDetector(response=TRACKS)), seed=2, stream="t")
    entries = value("reduced_mass(mu+ mu-)", measured), value("mass(mu+ mu-)", measured)
    reduced, plain = (width_of(part[None], measured.weights, "m").half_width for part in entries)
    expected = math.sqrt(mass**2 - 4.0 * MUON**2) / mass
    assert plain / reduced == pytest.approx(expected, rel=0.03)


PAIRS = [
    # M' and its width in MeV for e e and mu mu; section 3.1 of the notes, from the steps of a published scan
    ("e", 0.05, 1.7),
    ("e", 0.10, 1.9),
    ("e", 0.50, 2.8),
    ("e", 1.00, 3.6),
    ("e", 2.00, 5.2),
    ("e", 3.00, 7.8),
    ("e", 4.00, 10.4),
    ("mu", 0.50, 2.5),
    ("mu", 1.00, 3.3),
    ("mu", 2.00, 4.4),
    ("mu", 3.00, 6.2),
    ("mu", 4.00, 8.8),
]


@pytest.mark.parametrize(("lepton", "reduced", "expected"), PAIRS)
def test_reduced_mass_resolution_of_the_notes(lepton: str, reduced: float, expected: float) -> None:
    """Reference (b_decay_searches.md 3.1): to 30 %, which is what a response without scattering and fit can give.

    With a slope of 0.11 % per GeV; the 0.19 % of the older chamber is 25 to 50 % too wide from 3 GeV on. For mu mu
    below 0.2 GeV the notes grow as 1/M' (6.1 MeV at 0.05), which is a constant 1.4 MeV in M down to the threshold; by
    kinematics the width of M vanishes there as that of M' stays (1.5 MeV here), so those rows are left out.
    """
    own = {"e": 0.51099895e-3, "mu": MUON}[lepton]
    text = f"B+ -> K+ S, S -> {lepton}+ {lepton}-"
    chain = simulated(text, 40_000, masses={"S": math.hypot(reduced, 2.0 * own)})
    response = TrackResponse(slope=0.0011, constant=0.003, angle=0.001)
    theta = ((math.radians(17.0), math.radians(150.0)),)
    detector = Detector(tracks=TrackDetector(response=response, theta=theta, min_transverse_momentum=0.1))
    measured = measure(chain, detector, seed=3, stream="w")
    observable = parse_observable(f"reduced_mass({lepton}+ {lepton}-)", chain.topology)
    width = resolution(observable, measured, truth(chain), measured.weights, BELLE2)
    assert 1e3 * width.half_width == pytest.approx(expected, rel=0.3)


@pytest.mark.parametrize(
    ("lepton", "widths"),
    [
        ("mu", {0.1: 1.5, 0.2: 1.6, 0.5: 2.1, 1.0: 3.2, 2.0: 6.0, 3.0: 9.2, 4.0: 13.1}),
        ("e", {0.1: 1.6, 0.2: 1.7, 0.5: 2.1, 1.0: 3.3, 2.0: 6.0, 3.0: 9.2, 4.0: 13.1}),
    ],
)
def test_what_the_documentation_says_of_the_shipped_file(lepton: str, widths: dict[float, float]) -> None:
    """Golden, to 5 %: widths in MeV as docs/kinematics.md has them beside the published ones.

    Catches another response in the experiment file with the same words about how good it is. Only the momentum and
    angular resolution count here: thresholds and acceptance hardly move a width.
    """
    docs = (Path(__file__).parents[2] / "docs" / "kinematics.md").read_text(encoding="utf-8")
    row = next(line for line in docs.splitlines() if line.startswith(f"| {lepton} {lepton}, `slope: 0.0019`"))
    assert [float(cell) for cell in row.split("|")[2:-1]] == list(widths.values())
    own = {"e": 0.51099895e-3, "mu": MUON}[lepton]
    detector = detector_of(load_experiment(Path(__file__).parents[2] / "specs" / "experiments" / "belle2.yaml"))
    for reduced, expected in widths.items():
        text = f"B+ -> K+ S, S -> {lepton}+ {lepton}-"
        chain = simulated(text, 20_000, masses={"S": math.hypot(reduced, 2.0 * own)})
        measured = measure(chain, detector, seed=3, stream="w")
        observable = parse_observable(f"reduced_mass({lepton}+ {lepton}-)", chain.topology)
        width = resolution(observable, measured, truth(chain), measured.weights, BELLE2)
        assert 1e3 * width.half_width == pytest.approx(expected, rel=0.05)


def b_to_kaon(mass: float, detector: Detector, n_events: int) -> MeasuredEvents:
    text = "e+ e- -> Y(4S), Y(4S) -> B+ B-, B+ -> K+ a, a -> gamma gamma, B- -> invisible"
    return measure(simulated(text, n_events, masses={"a": mass}), detector, seed=3, stream="c")


def test_constrained_mass_is_that_of_scaled_photons() -> None:
    """Second method: the factor by bisection, event by event, from smeared photons.

    Catches the other root of the equation, the mass of another particle, or a track that is scaled too.
    """
    detector = Detector(photons=PhotonDetector(response=PHOTONS), tracks=TrackDetector(response=TRACKS))
    measured = b_to_kaon(2.0, detector, 200)
    photons, kaon = sum_of(measured, "gamma", "gamma[2]"), sum_of(measured, "K+")
    parent = known_particle("B+")
    assert parent is not None
    expected = []
    for pair, track in zip(photons, kaon, strict=True):
        factor = brentq(lambda f, p=pair, q=track: mass2((q + f * p)[None])[0] - parent.mass**2, 0.1, 10.0)
        expected.append(factor * math.sqrt(mass2(pair[None])[0]))
    assert value("constrained_mass(gamma gamma, B+)", measured) == pytest.approx(np.array(expected), rel=1e-9)


@pytest.mark.parametrize("mass", [1.0, 2.0, 3.5])
def test_constrained_mass_forgets_the_common_scale_of_photons(mass: float) -> None:
    """Closed form: of relative errors r1, r2 of the photons beta cos (r1 - r2)/2 is left, so r beta/sqrt(6) of the mass.

    beta: of the pair in the frame of the B meson. Directions are exact here.
    """
    relative = 0.02
    response = PhotonResponse(noise=0.0, stochastic=0.0, constant=relative, angle=0.0)
    measured = b_to_kaon(mass, Detector(photons=PhotonDetector(response=response)), 20_000)
    b, kaon = 5.27941, 0.49368
    momentum = math.sqrt((b**2 - (kaon + mass) ** 2) * (b**2 - (kaon - mass) ** 2))
    beta = momentum / (b**2 + mass**2 - kaon**2)
    entries = value("constrained_mass(gamma gamma, B+)", measured)
    assert np.std(entries) == pytest.approx(relative * beta * mass / math.sqrt(6.0), rel=0.03)
    assert np.std(value("mass(gamma gamma)", measured)) == pytest.approx(relative * mass / math.sqrt(2.0), rel=0.03)


def test_reduced_mass_of_what_the_tracks_are_taken_for() -> None:
    """Catches pions that are taken for muons, with the mass of pions taken off."""
    chain = simulated("B+ -> K+ S, S -> pi+ pi-", masses={"S": 1.0})
    tracks = TrackDetector(identification=(("pion", "muon", 0.05),))
    measured = measure(chain, Detector(tracks=tracks), seed=1, stream="m", seen_as={"pi+": "muon", "pi-": "muon"})
    assert measured.weights == pytest.approx(np.full(len(measured.weights), 0.05**2))
    mass = value("mass(pi+ pi-)", measured)
    assert np.all(mass < 1.0)
    assert value("reduced_mass(pi+ pi-)", measured) == pytest.approx(np.sqrt(mass**2 - 4.0 * MUON**2), rel=1e-9)
    # the pseudo mass of two lighter tracks, from their momenta
    momenta = sum_of(truth(chain), "pi+"), sum_of(truth(chain), "pi-")
    energy = sum(np.sqrt(MUON**2 + np.sum(p[:, 1:] ** 2, axis=1)) for p in momenta)
    total = momenta[0][:, 1:] + momenta[1][:, 1:]
    assert mass == pytest.approx(np.sqrt(energy**2 - np.sum(total**2, axis=1)), rel=1e-9)


@pytest.mark.parametrize("code", range(14))
def test_compiled_and_interpreted_agree(code: int) -> None:
    """Invariant: catches a kernel that only means something when compiled, such as an undefined name in a branch."""
    sums = np.array([sum_of(FOUR, *names)[:50].T for names in (("mu-",), ("mu-", "mu+"), ("mu-", "mu+", "gamma"))])
    compiled, interpreted = np.zeros(50), np.zeros(50)
    number = {_observables.TAU_X: 0.5, _observables.REDUCED_MASS: 2.0 * MUON}.get(code, 10.58)
    _observables.evaluate(code, number, sums[0], sums[1], sums[2], compiled)
    _observables.evaluate.py_func(code, number, *sums, interpreted)  # type: ignore[attr-defined]
    assert np.array_equal(np.isnan(compiled), np.isnan(interpreted))
    good = ~np.isnan(compiled)
    assert interpreted[good] == pytest.approx(compiled[good], rel=1e-12, abs=1e-12)
    assert np.any(compiled[good] != 0.0)


# ---------------------------------------------------------------------------------------------------------------------
# What is refused

CHAIN = "e+ e- -> gamma A, A -> S gamma X, S -> mu- mu+"


@pytest.fixture(scope="module")
def chain() -> Topology:
    return parse_chain(CHAIN, masses={"A": 5.0, "S": 1.0, "X": 0.5}, laws=FLAT)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("mas(mu+ mu-)", "unknown observable 'mas'; did you mean mass?"),
        ("qqqq(mu+)", f"unknown observable 'qqqq'; known: {', '.join(sorted(FUNCTIONS))}"),
        ("mass mu+ mu-", "an observable is written as function(particles), such as mass(mu+ mu-), or with / sqrt_s"),
        (
            "mass(mu+ mu-) + 1",
            "an observable is written as function(particles), such as mass(mu+ mu-), or with / sqrt_s",
        ),
        ("__import__('os')", "unknown observable '__import__'; known: " + ", ".join(sorted(FUNCTIONS))),
        ("mass(mu+ mu-) / 2", "it is divided by '2'; only sqrt_s is possible"),
        ("theta(mu+) / sqrt_s", "theta is in rad, so it cannot be divided by sqrt_s"),
        ("tau_x(mu-, mu+) / sqrt_s", "tau_x is in pure numbers, so it cannot be divided by sqrt_s"),
        ("mass()", "it needs at least one particle"),
        ("mass", "it needs at least one particle"),
        ("recoil2()", "a recoil against nothing; name the particles that recoil"),
        ("recoil_theta", "a recoil against nothing; name the particles that recoil"),
        ("mass(mu pi+)", f"there is no mu in {CHAIN}; did you mean mu-?"),
        ("mass(B0)", f"there is no B0 in {CHAIN}; there are gamma, A, S, mu-, mu+, X"),
        ("mass(gamma[3] mu+)", "there is no gamma[3]; there are 2 gamma"),
        ("mass(gamma[0] mu+)", "there is no gamma[0]; there are 2 gamma"),
        ("mass(mu+[2])", "there is no mu+[2]; there is 1 mu+"),
        ("mass(mu+ X)", "X is invisible, so nothing of it is measured; use what recoils or is missing"),
        ("mass(A)", "A decays into X, which is not measured; name the visible particles"),
        ("mass(mu+ mu+)", "mu+ is there once, but named 2 times"),
        ("mass(gamma gamma gamma)", "gamma is there 2 times, but named 3 times"),
        ("mass(S mu+)", "S mu+ names a particle twice"),
        ("mass(mu+, mu-)", "mass takes one group of particles, without commas"),
        ("reduced_mass(mu+)", "reduced_mass takes two particles of one mass"),
        ("reduced_mass(mu+ gamma[1])", "reduced_mass takes two particles of one mass"),
        (
            "constrained_mass(gamma[1])",
            ("constrained_mass takes 2 groups separated by commas: constrained_mass(photons, what they come from)"),
        ),
        (
            "constrained_mass(gamma[1], S)",
            "the photons must be a part of what comes from the particle after the comma",
        ),
        (
            "constrained_mass(mu+, S)",
            "constrained_mass scales the energies of photons; name nothing else before the comma",
        ),
        ("opening_angle(mu+)", "opening_angle takes 2 groups separated by commas: opening_angle(one, other)"),
        ("opening_angle(mu+, mu+)", "the groups share a particle"),
        (
            "cos_helicity(mu+)",
            (
                "cos_helicity takes 2 or 3 groups separated by commas: cos_helicity(daughter, parent) or"
                " cos_helicity(daughter, parent, grandparent)"
            ),
        ),
        (
            "cos_helicity(gamma[1], S)",
            "each group must be a part of the next: the daughter of the parent, the parent of the grandparent",
        ),
        (
            "tau_x(mu-)",
            "tau_x takes 2 groups separated by commas: tau_x(lepton, particles of the tag)",
        ),
        ("flight_distance(mu+)", "mu+ does not decay, so it has no decay point"),
        ("flight_distance(S gamma)", "flight_distance takes one particle that decays"),
        ("pointing_angle(gamma)", "there are 2 gamma; say which: gamma[1], gamma[2]"),
    ],
)
def test_refused_observables(chain: Topology, text: str, reason: str) -> None:
    """Catches an observable that means nothing, with the reason word for word, before anything runs."""
    with pytest.raises(KinematicsError) as raised:
        parse_observable(text, chain)
    assert str(raised.value) == f"{text}: {reason}"


def test_refused_by_size() -> None:
    """Catches time and memory without bound: a long text, many combinations."""
    topology = parse_chain("e+ e- -> S S S S S S, S -> gamma gamma", masses={"S": 0.5}, laws=FLAT)
    with pytest.raises(KinematicsError) as raised:
        parse_observable("mass(gamma gamma gamma gamma)", topology)
    assert str(raised.value) == (
        "mass(gamma gamma gamma gamma): 495 combinations of particles per event; at most 64 are possible"
    )
    with pytest.raises(KinematicsError) as raised:
        parse_observable("mass(" + "gamma " * 60 + ")", topology)
    assert str(raised.value).endswith(": more than 200 letters")
    with pytest.raises(KinematicsError) as raised:
        parse_observable("mass(p~)", parse_chain("B0 -> Lambda X, Lambda -> p pi-", masses={"X": 1.0}))
    assert "there is no p~" in str(raised.value)


def test_refused_cuts(chain: Topology) -> None:
    """Catches cuts and turn-ons that cannot be passed, or always are."""
    energy, muon = parse_observable("energy(gamma)", chain), parse_observable("pt(mu+)", chain)
    for make, reason in (
        (lambda: Cut(observable=muon), "cut on pt(mu+): it has no bounds"),
        (lambda: Cut(observable=muon, low=2.0, high=1.0), "cut on pt(mu+): from 2 to 1; it must be ascending"),
        (
            lambda: Cut(observable=energy, low=1.0, at_least=3),
            "cut on energy(gamma): at least 3 entries; an event has 2",
        ),
        (
            lambda: TurnOn(observable=energy, points=((0.0, 0.0), (1.0, 1.0))),
            "turn-on in energy(gamma): an event has 2 entries; name one combination",
        ),
        (
            lambda: TurnOn(observable=muon, points=((0.0, 0.0),)),
            "turn-on in pt(mu+): its points must be at least two finite ascending numbers",
        ),
        (
            lambda: TurnOn(observable=muon, points=((0.0, 0.0), (1.0, 2.0))),
            "turn-on in pt(mu+): every efficiency must be from 0 to 1",
        ),
        (
            lambda: error_function_turn_on(muon, threshold=1.0, width=0.0),
            (
                "turn-on in pt(mu+): threshold 1, width 0, plateau 1; the width must be positive and the plateau above"
                " 0 and at most 1"
            ),
        ),
        (
            lambda: evaluate(muon, FOUR, BELLE2),
            f"pt(mu+): it was made for {CHAIN}, not for {FOUR.topology.text}",
        ),
        (
            lambda: fill(parse_observable("mass(A)", FOUR.topology), FOUR, FOUR.weights, [1.0, 0.0], BELLE2),
            "edges of mass(A) must be at least two finite ascending numbers",
        ),
        (
            lambda: fill(parse_observable("mass(A)", FOUR.topology), FOUR, FOUR.weights[1:], [0.0, 1.0], BELLE2),
            "mass(A): 3000 events, but weights of shape (2999,)",
        ),
        (
            lambda: width_of(np.full((1, 3), np.nan), np.ones(3), "mass(A)"),
            "resolution of mass(A): 0 entries of 3 are left; at least 2 needed",
        ),
    ):
        with pytest.raises(KinematicsError) as raised:
            make()
        assert str(raised.value) == reason
