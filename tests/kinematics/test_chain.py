"""The chain engine: exact kinematics, phase space, angular laws, masses, flight, radiation, reproducibility."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from modelbuilder.errors import KinematicsError
from modelbuilder.kinematics import phase_space
from modelbuilder.kinematics.beams import Beams
from modelbuilder.kinematics.chain import ChainEvents, simulate_chain, weigh_chain
from modelbuilder.kinematics.processes import GammaAlp
from modelbuilder.kinematics.response import PERFECT
from modelbuilder.kinematics.selection import PhotonSelection
from modelbuilder.kinematics.simulate import simulate_events
from modelbuilder.spec.topology import Law, parse_chain

BELLE2 = Beams(electron_energy=7.004, positron_energy=4.002, crossing_angle=0.083)
SYMMETRIC = Beams(electron_energy=5.29, positron_energy=5.29)


FLAT = {"e+ e-": Law(name="phase-space")}


def simulate(
    text: str,
    *,
    masses: dict[str, float] | None = None,
    ctaus: dict[str, float] | None = None,
    laws: dict[str, Law] | None = None,
    widths: bool = True,
    beams: Beams = BELLE2,
    isr: bool = False,
    n_events: int = 20_000,
    seed: int = 1,
    stream: str = "test",
    **keywords: object,
) -> ChainEvents:
    topology = parse_chain(text, masses=masses, ctaus=ctaus, laws=laws, widths=widths)
    return simulate_chain(topology, beams, isr=isr, n_events=n_events, seed=seed, stream=stream, **keywords)  # type: ignore[arg-type]


def mass2(p: np.ndarray) -> np.ndarray:
    return p[..., 0] ** 2 - np.sum(p[..., 1:] ** 2, axis=-1)


def boosted_to_rest(p: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Momenta p, shape (n, 4), in the rest frame of `frame`."""
    mass = np.sqrt(mass2(frame))
    along = np.sum(p[:, 1:] * frame[:, 1:], axis=1)
    energy = (p[:, 0] * frame[:, 0] - along) / mass
    factor = (along / (frame[:, 0] + mass) - p[:, 0]) / mass
    return np.column_stack([energy, p[:, 1:] + frame[:, 1:] * factor[:, None]])


def assert_exact(events: ChainEvents) -> None:
    """Four-momentum at each vertex to 1e-12 of the energy, and mass shells to 1e-12 of its square."""
    good = events.weights > 0.0
    p = events.momenta[good]
    for vertex in events.topology.vertices:
        difference = p[:, vertex.parent] - p[:, list(vertex.children)].sum(axis=1)
        assert np.all(np.abs(difference) <= 1e-12 * p[:, vertex.parent, :1])
    scale = p[:, 0, 0] ** 2
    for place, node in enumerate(events.topology.nodes):
        if place > 0 and node.width == 0.0:
            assert np.all(np.abs(mass2(p[:, place]) - node.mass**2) <= 1e-12 * scale)


def assert_same_distribution(one: np.ndarray, w1: np.ndarray, two: np.ndarray, w2: np.ndarray) -> None:
    """Kolmogorov and Smirnov with weights and effective sample sizes; p-value above 1e-4."""
    values = np.concatenate([one, two])
    order = np.argsort(values, kind="stable")
    steps = np.concatenate([w1 / w1.sum(), -w2 / w2.sum()])[order]
    distance = np.max(np.abs(np.cumsum(steps)))
    n1, n2 = w1.sum() ** 2 / np.sum(w1**2), w2.sum() ** 2 / np.sum(w2**2)
    p_value = stats.kstwobign.sf(distance * math.sqrt(n1 * n2 / (n1 + n2)))
    assert p_value > 1e-4, f"distance {distance:.4f}, p = {p_value:.2g}"


# ---------------------------------------------------------------------------------------------------------------------
# Exact kinematics


@settings(max_examples=60, deadline=None)
@given(
    masses=st.lists(st.one_of(st.just(0.0), st.floats(1e-3, 2.0)), min_size=2, max_size=6),
    free=st.one_of(st.floats(1e-9, 1e-3), st.floats(1e-3, 5.0)),
)
def test_n_body_decays_conserve_momentum(masses: list[float], free: float) -> None:
    """Invariant: a wrong boost, sum or mass anywhere; loss of digits at threshold and for light particles."""
    names = [f"x{i}" for i in range(len(masses))]
    values = {"X": sum(masses) + free, **dict(zip(names, masses, strict=True))}
    events = simulate(f"X -> {' '.join(names)}", masses=values, n_events=300)
    assert np.all(np.isfinite(events.momenta))
    assert_exact(events)


@settings(max_examples=40, deadline=None)
@given(
    a=st.floats(0.02, 8.0),
    share=st.floats(1e-6, 0.999999),
    isr=st.booleans(),
    law=st.sampled_from(["dipole", "sine-squared", "cosine-squared", "phase-space"]),
)
def test_chains_conserve_momentum(a: float, share: float, isr: bool, law: str) -> None:
    """Invariant: a daughter decayed in another frame than that of its parent, or an axis that is not a unit vector."""
    masses = {"V": a, "h": share * (10.5 - a), "p1": 0.4 * a, "p2": 0.3 * share * a}
    text = "e+ e- -> V h, V -> p1 p2, p1 -> e+ e-, h -> gamma gamma"
    laws = {
        "V": Law(name=law),
        "p1": Law(name="dipole", parameter=-0.5),
        "e+ e-": Law(name="vector-scalar", vector="V"),
    }
    assert_exact(simulate(text, masses=masses, laws=laws, isr=isr, n_events=300))


@pytest.mark.parametrize(
    ("text", "masses", "laws"),
    [
        ("e+ e- -> gamma a, a -> gamma gamma", {"a": 0.2}, {"e+ e-": Law(name="photon-pseudoscalar")}),
        ("e+ e- -> mu+ mu- Zp", {"Zp": 1.0}, {"e+ e-": Law(name="leptons-vector")}),
        ("e+ e- -> tau- tau+ S, S -> mu+ mu-", {"S": 1.0}, {"e+ e-": Law(name="leptons-scalar")}),
        ("e+ e- -> Y(4S), Y(4S) -> B+ B-, B+ -> K+ S, S -> pi+ pi-", {"S": 1.0}, {}),
        ("e+ e- -> tau+ tau-, tau- -> nu_tau mu- nubar_mu, tau+ -> pi+ pi+ pi- nu", {}, {"tau-": Law(name="leptonic")}),
        ("B0 -> K*0 X, K*0 -> K+ pi-, X -> e+ e-", {"X": 0.1}, {"K*0": Law(name="cosine-squared")}),
    ],
)
def test_searches_conserve_momentum(text: str, masses: dict[str, float], laws: dict[str, Law]) -> None:
    """Invariant: a production that writes the children in another order, a wide particle with two masses."""
    events = simulate(text, masses=masses, laws=laws)
    assert np.mean(events.weights > 0.0) > 0.99
    assert_exact(events)
    expected = np.array(BELLE2.four_momentum)
    if events.topology.is_collision:
        assert np.allclose(events.momenta[:, 0], expected, rtol=1e-12, atol=1e-12)


# ---------------------------------------------------------------------------------------------------------------------
# Phase space


def test_volumes_are_the_analytic_ones() -> None:
    """Reference: massless n bodies, (pi/2)^(n-1) M^(2n-4)/((n-1)! (n-2)!), pi p/M, and one mass of three."""
    mass = 3.0
    for n in range(2, 7):
        expected = (math.pi / 2) ** (n - 1) * mass ** (2 * n - 4) / (math.factorial(n - 1) * math.factorial(n - 2))
        assert float(phase_space.volume(mass, [0.0] * n)) == pytest.approx(expected, rel=1e-9)
    p = math.sqrt((9 - 1.5**2) * (9 - 0.5**2)) / 6
    assert float(phase_space.volume(mass, [1.0, 0.5])) == pytest.approx(math.pi * p / mass, rel=1e-13)
    x = (1.2 / mass) ** 2
    expected = math.pi**2 * mass**2 / 8 * (1 - x**2 + 2 * x * math.log(x))
    assert float(phase_space.volume(mass, [0.0, 1.2, 0.0])) == pytest.approx(expected, rel=1e-8)
    assert float(phase_space.volume(mass, [1.0, 1.2, 1.0])) == 0.0


@pytest.mark.parametrize(
    "masses", [[0.0] * 3, [0.5, 0.14, 0.1], [0.0] * 4, [0.5, 0.14, 0.14, 0.0], [0.2] * 5, [0.1] * 6]
)
def test_mean_weight_of_a_decay_is_one(masses: list[float]) -> None:
    """Reference (volumes by quadrature): a wrong power, factor or ordering in the weights of the kernel."""
    names = [f"x{i}" for i in range(len(masses))]
    topology = parse_chain(f"X -> {' '.join(names)}", masses={"X": 2.0, **dict(zip(names, masses, strict=True))})
    weight = weigh_chain(topology, BELLE2, isr=False, n_events=400_000, seed=1, stream="w")
    assert abs(weight.mean - 1.0) < 4.5 * weight.stdev
    assert weight.stdev < 0.004


def rambo(mass: float, masses: list[float], n_events: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Momenta and weights by the algorithm of Kleiss, Stirling, Ellis, CPC 40 (1986) 359: nothing in common with ours."""
    rng = np.random.default_rng(seed)
    n = len(masses)
    cosine, phi = rng.uniform(-1, 1, (n_events, n)), rng.uniform(0, 2 * math.pi, (n_events, n))
    energy = -np.log(rng.random((n_events, n)) * rng.random((n_events, n)))
    sine = np.sqrt(1 - cosine**2)
    q = energy[..., None] * np.stack([np.ones_like(phi), sine * np.cos(phi), sine * np.sin(phi), cosine], axis=-1)
    total = q.sum(axis=1)
    rest = np.stack([boosted_to_rest(q[:, i], total) for i in range(n)], axis=1)
    p = rest * (mass / np.sqrt(mass2(total)))[:, None, None]
    # to masses: scale all momenta by xi, so that the energies add up
    own = np.array(masses)
    momentum2 = p[..., 0] ** 2
    xi = np.full(n_events, math.sqrt(1 - (own.sum() / mass) ** 2))
    for _ in range(60):
        energies = np.sqrt(own**2 + xi[:, None] ** 2 * momentum2)
        slope = np.sum(xi[:, None] * momentum2 / energies, axis=1)
        xi -= (energies.sum(axis=1) - mass) / slope
    p[..., 1:] *= xi[:, None, None]
    size = np.sqrt(np.sum(p[..., 1:] ** 2, axis=-1))
    p[..., 0] = np.sqrt(own**2 + size**2)
    weight = (size.sum(axis=1) / mass) ** (2 * n - 3) * np.prod(size / p[..., 0], axis=1)
    return p, weight / np.sum(size**2 / p[..., 0], axis=1)


@pytest.mark.parametrize("masses", [[0.5, 0.3], [0.5, 0.14, 0.1], [0.5, 0.14, 0.14, 0.0], [0.3, 0.14, 0.14, 0.2, 0.05]])
def test_phase_space_has_the_distributions_of_rambo(masses: list[float]) -> None:
    """Reference: wrong inner masses (their order or density), angles that are not flat, weights of another event."""
    n = len(masses)
    names = [f"x{i}" for i in range(n)]
    text = f"e+ e- -> X Y, X -> {' '.join(names)}"
    values = {"X": 2.0, "Y": 1.0, **dict(zip(names, masses, strict=True))}
    events = simulate(text, masses=values, laws=FLAT, n_events=60_000)
    frame = events.momentum("X")
    ours = np.stack([boosted_to_rest(events.momentum(name), frame) for name in names], axis=1)
    other, weights = rambo(2.0, masses, 60_000, 3)
    assert np.allclose(other.sum(axis=1), [2.0, 0.0, 0.0, 0.0], atol=1e-9)
    for i in range(n):
        assert_same_distribution(ours[:, i, 3], events.weights, other[:, i, 3], weights)
        assert_same_distribution(ours[:, i, 1], events.weights, other[:, i, 1], weights)
    for i in range(n if n > 2 else 0):
        pair = ours[:, i] + ours[:, (i + 1) % n], other[:, i] + other[:, (i + 1) % n]
        assert_same_distribution(mass2(pair[0]), events.weights, mass2(pair[1]), weights)
        cosines = [
            np.sum(p[:, i, 1:] * p[:, (i + 1) % n, 1:], axis=1)
            / np.sqrt(np.sum(p[:, i, 1:] ** 2, axis=1) * np.sum(p[:, (i + 1) % n, 1:] ** 2, axis=1))
            for p in (ours, other)
        ]
        assert_same_distribution(cosines[0], events.weights, cosines[1], weights)


def test_a_decay_does_not_know_how_its_parent_moves() -> None:
    """Invariant (boosts and rotations): a distribution in the rest frame that depends on the momentum of the parent."""
    masses = {"X": 2.0, "a": 0.5}
    rest = simulate("X -> a pi+ pi-", masses=masses, n_events=40_000)
    flying = simulate("e+ e- -> X X, X -> a pi+ pi-", masses=masses, laws=FLAT, n_events=40_000, seed=2)
    pair = mass2(rest.momentum("a") + rest.momentum("pi+"))
    pair2 = mass2(flying.momentum("a") + flying.momentum("pi+"))
    w1 = rest.weights
    assert_same_distribution(pair, w1, pair2, flying.weights)
    p = boosted_to_rest(flying.momentum("pi-"), flying.momentum("X"))
    q = boosted_to_rest(rest.momentum("pi-"), rest.momentum("X"))
    for axis in (1, 2, 3):
        assert_same_distribution(q[:, axis], w1, p[:, axis], flying.weights)


# ---------------------------------------------------------------------------------------------------------------------
# Angular laws


def mean_square_cosine(cosine: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Mean of cos^2 and its standard deviation."""
    mean = float(np.sum(weights * cosine**2) / np.sum(weights))
    return mean, float(np.sqrt(np.sum(weights**2 * (cosine**2 - mean) ** 2)) / np.sum(weights))


def expected_square(density: Callable[[float], float], limit: float = 1.0) -> float:
    top = integrate.quad(lambda c: c * c * density(c), -limit, limit)[0]
    return float(top / integrate.quad(density, -limit, limit)[0])


S = SYMMETRIC.s
TAU2 = 4 * 1.77693**2 / S
LAM = (1 - 1 / S - 16 / S) ** 2 - 4 * 16 / S**2


@pytest.mark.parametrize(
    ("text", "masses", "law", "density", "limit"),
    [
        ("e+ e- -> gamma a", {"a": 3.0}, Law(name="photon-pseudoscalar"), lambda c: 1 + c * c, 1.0),
        ("e+ e- -> gamma a", {"a": 3.0}, Law(name="dipole", parameter=0.3), lambda c: 1 + 0.3 * c * c, 1.0),
        ("e+ e- -> gamma a", {"a": 3.0}, Law(name="dipole", parameter=-0.7), lambda c: 1 - 0.7 * c * c, 1.0),
        ("e+ e- -> gamma a", {"a": 3.0}, Law(name="sine-squared"), lambda c: 1 - c * c, 1.0),
        ("e+ e- -> gamma a", {"a": 3.0}, Law(name="cosine-squared"), lambda c: c * c, 1.0),
        ("e+ e- -> gamma a", {"a": 3.0}, Law(name="phase-space"), lambda c: 1.0, 1.0),
        ("e+ e- -> tau+ tau-", {}, Law(name="fermion-pair"), lambda c: 1 + c * c + TAU2 * (1 - c * c), 1.0),
        (
            "e+ e- -> gamma Ap",
            {"Ap": 4.0},
            Law(name="photon-vector", max_cos=0.9),
            lambda c: (1 + c * c + 4 * S * 16 / (S - 16) ** 2) / (1 - c * c),
            0.9,
        ),
        (
            "e+ e- -> Ap h",
            {"Ap": 4.0, "h": 1.0},
            Law(name="vector-scalar", vector="Ap"),
            lambda c: LAM * (1 - c * c) + 8 * 16 / S,
            1.0,
        ),
    ],
)
def test_production_angles(
    text: str, masses: dict[str, float], law: Law, density: Callable[[float], float], limit: float
) -> None:
    """Reference (quadrature of the formula in the physics notes): a wrong coefficient, sign, mass or axis."""
    events = simulate(text, masses=masses, laws={"e+ e-": law}, beams=SYMMETRIC, n_events=200_000)
    p = events.momenta[:, 1]
    cosine = p[:, 3] / np.sqrt(np.sum(p[:, 1:] ** 2, axis=1))
    assert np.max(np.abs(cosine)) <= limit
    mean, stdev = mean_square_cosine(cosine, events.weights)
    assert abs(mean - expected_square(density, limit)) < 4.5 * stdev
    assert abs(np.average(cosine, weights=events.weights)) < 4.5 / math.sqrt(len(cosine))
    phi = np.arctan2(p[:, 2], p[:, 1])
    assert abs(np.average(np.cos(phi), weights=events.weights)) < 4.5 / math.sqrt(len(cosine))
    assert events.weights.mean() == pytest.approx(1.0, abs=0.005)


@pytest.mark.parametrize(
    ("law", "density"),
    [
        (Law(name="cosine-squared"), lambda c: c * c),
        (Law(name="sine-squared"), lambda c: 1 - c * c),
        (Law(name="dipole", parameter=2.0), lambda c: 1 + 2 * c * c),
    ],
)
def test_helicity_angles(law: Law, density: Callable[[float], float]) -> None:
    """Reference: an axis in another frame than that of the grandparent, which moves here, or the opposite of it."""
    text = "e+ e- -> B X, B -> V Y, V -> a b"
    masses = {"B": 5.0, "X": 1.0, "V": 1.5, "Y": 1.0, "a": 0.5, "b": 0.1}
    events = simulate(text, masses=masses, laws={"V": law, **FLAT}, n_events=200_000)
    parent, grandparent = events.momentum("V"), events.momentum("B")
    child = boosted_to_rest(events.momentum("a"), parent)[:, 1:]
    back = -boosted_to_rest(grandparent, parent)[:, 1:]
    cosine = np.sum(child * back, axis=1) / np.sqrt(np.sum(child**2, axis=1) * np.sum(back**2, axis=1))
    mean, stdev = mean_square_cosine(cosine, events.weights)
    assert abs(mean - expected_square(density)) < 4.5 * stdev
    assert abs(np.mean(cosine)) < 4.5 / math.sqrt(len(cosine))


def test_b_mesons_from_the_resonance_are_transverse() -> None:
    """Reference: sin^2 to the beams, and a momentum of sqrt(s/4 - m^2)."""
    events = simulate("e+ e- -> Y(4S), Y(4S) -> B+ B-", beams=SYMMETRIC, n_events=100_000)
    p = events.momentum("B+")[:, 1:]
    size = np.sqrt(np.sum(p**2, axis=1))
    mean, stdev = mean_square_cosine(p[:, 2] / size, events.weights)
    assert abs(mean - 0.2) < 4.5 * stdev
    assert np.allclose(size, math.sqrt(S / 4 - events.topology.nodes[2].mass ** 2), rtol=1e-9)


# ---------------------------------------------------------------------------------------------------------------------
# The fast path, matrix elements


@pytest.mark.parametrize("isr", [False, True])
def test_gamma_alp_is_that_of_the_fast_path(real_beams: Beams, isr: bool) -> None:
    """Reference: another frame, angle, spread or radiation than in the engine for three photons."""
    selection = PhotonSelection(theta=((math.radians(37.3), math.radians(123.7)),), min_energy=0.65)
    fast = simulate_events(
        GammaAlp(mass=5.0), real_beams, PERFECT, selection, isr=isr, n_events=100_000, seed=4, stream="fast"
    )
    law = {"e+ e-": Law(name="photon-pseudoscalar")}
    chain = simulate(
        "e+ e- -> gamma a, a -> gamma gamma", masses={"a": 5.0}, laws=law, beams=real_beams, isr=isr, n_events=100_000
    )
    ours = chain.momenta[:, [1, 3, 4]]
    for photon in range(3):
        for axis in range(4):
            one, two = fast.true[:, photon, axis], ours[:, photon, axis]
            assert_same_distribution(one, fast.weights, two, chain.weights)
    cosine = ours[..., 3] / ours[..., 0]
    inside = (cosine > math.cos(math.radians(123.7))) & (cosine < math.cos(math.radians(37.3)))
    passed = np.all(inside & (ours[..., 0] > 0.65), axis=1)
    acceptance, reference = np.mean(chain.weights * passed), np.mean(fast.weights * fast.selected)
    error = math.hypot(np.std(chain.weights * passed), np.std(fast.weights * fast.selected)) / math.sqrt(100_000)
    assert abs(acceptance - reference) < 4.5 * error
    assert (
        abs(np.mean(chain.weights) - np.mean(fast.weights))
        < 4.5 * 2 * np.std(fast.weights) / math.sqrt(100_000) + 1e-12
    )


@pytest.mark.parametrize(
    "text",
    [
        "tau- -> nu_tau mu- nubar_mu",
        "mu+ -> nubar e+ nu",
        "L- -> nu l- nubar",
        "tau- -> N mu- nubar",
        "tau- -> nu mu- N",
    ],
)
def test_leptonic_decays_have_their_spectra(text: str) -> None:
    """Reference (quadrature of |M|^2): mean energies and pair masses, with and without masses; mean weight 1.

    Massless neutrinos are drawn by |M|^2 itself, massive ones weighted: a pair of the wrong two, a wrong norm.
    """
    masses = {name: m for name, m in {"L-": 1.0, "l-": 0.6, "N": 0.5}.items() if name in text.split()}
    parent = text.split()[0]
    topology = parse_chain(text, masses=masses, ctaus={parent: 0.0}, laws={parent: Law(name="leptonic")})
    events = simulate_chain(topology, BELLE2, isr=False, n_events=100_000, seed=1, stream="leptonic")
    nodes = topology.nodes

    def square(momenta: np.ndarray) -> np.ndarray:
        metric = np.array([1.0, -1.0, -1.0, -1.0])
        dots = np.einsum("nik,njk,k->nij", momenta, momenta, metric)
        return np.asarray(dots[:, 0, 3] * dots[:, 1, 2])

    own = [node.mass for node in nodes]
    n = events.effective_sample_size
    assert n > 100_000 * (0.6 if "N" in masses else 0.85 if "L-" in masses else 0.97)
    assert events.weights.mean() == pytest.approx(1.0, abs=4.5 * np.std(events.weights) / math.sqrt(100_000) + 1e-9)
    p = events.momenta
    for one, two in ((1, 2), (2, 3), (1, 3)):
        values = mass2(p[:, one] + p[:, two])

        def weighted(momenta: np.ndarray, one: int = one, two: int = two) -> np.ndarray:
            return square(momenta) * mass2(momenta[:, one] + momenta[:, two])

        expected = phase_space.mean_square(own[0], own[1:], weighted) / phase_space.mean_square(own[0], own[1:], square)
        mean = np.average(values, weights=events.weights)
        assert abs(mean - expected) < 4.5 * np.std(values) / math.sqrt(n)


def test_michel_spectrum() -> None:
    """Reference: dN/dx = 2 x^2 (3 - 2x) of muon decay, and a mean weight of 1 (the mean of |M|^2 by quadrature)."""
    law = {"mu-": Law(name="leptonic")}
    events = simulate("mu- -> nu_mu e- nubar_e", laws=law, ctaus={"mu-": 0.0}, n_events=200_000)
    x = 2 * boosted_to_rest(events.momentum("e-"), events.momentum("mu-"))[:, 0] / 0.1056583755
    n = events.effective_sample_size
    assert np.average(x, weights=events.weights) == pytest.approx(0.7, abs=4.5 * 0.2 / math.sqrt(n))
    assert np.average(x**2, weights=events.weights) == pytest.approx(8 / 15, abs=4.5 * 0.27 / math.sqrt(n))
    assert events.weights.mean() == pytest.approx(1.0, abs=4.5 * np.std(events.weights) / math.sqrt(200_000))


@pytest.mark.parametrize(
    ("text", "masses", "law"),
    [
        ("N -> nu mu- mu+", {"N": 1.0}, Law(name="neutral-lepton")),
        ("chi2 -> chi1 e- e+", {"chi2": 1.3, "chi1": 1.0}, Law(name="dark-current", parameter=3.0)),
        ("tau- -> nu_tau mu- nubar_mu", {}, Law(name="leptonic")),
    ],
)
def test_matrix_elements_have_mean_weight_one(text: str, masses: dict[str, float], law: Law) -> None:
    """Reference (quadrature over the Dalitz plot): momenta handed over in another order, or weights of two parents."""
    topology = parse_chain(text, masses=masses, laws={text.split()[0]: law})
    weight = weigh_chain(topology, BELLE2, isr=False, n_events=200_000, seed=1, stream="m")
    assert abs(weight.mean - 1.0) < 4.5 * weight.stdev
    assert weight.stdev < 0.005


def test_leptons_and_a_vector_have_the_cross_section() -> None:
    """Reference (physics notes, direct_xsec_llX_computed.csv): mu mu Z' at sqrt(s) = 10.58 GeV, fb per g'^2."""
    topology = parse_chain("e+ e- -> mu+ mu- Zp", masses={"Zp": 1.0}, laws={"e+ e-": Law(name="leptons-vector")})
    weight = weigh_chain(topology, SYMMETRIC, isr=False, n_events=400_000, seed=1, stream="x")
    assert weight.weight_unit == "fb"
    assert weight.mean == pytest.approx(99563.4, rel=0.003)


# ---------------------------------------------------------------------------------------------------------------------
# Masses and flight


def test_wide_masses_follow_breit_wigner_and_phase_space() -> None:
    """Reference: another variable than m^2, wrong ends, or a missing momentum in the weight."""
    events = simulate("B0 -> K*0 X, K*0 -> K+ pi-", masses={"X": 4.0}, n_events=200_000)
    node = events.topology.nodes[1]
    parent = events.topology.nodes[0].mass
    m = np.sqrt(mass2(events.momentum("K*0")))
    low, high = events.topology.mass_range(1)
    high = min(high, parent - 4.0)
    assert low - 1e-9 <= m.min() < low + 0.02
    assert high - 0.02 < m.max() <= high + 1e-9

    def density(x: float) -> float:
        p = math.sqrt(max((parent**2 - (x + 4) ** 2) * (parent**2 - (x - 4) ** 2), 0.0)) / (2 * parent)
        return 2 * x * p / ((x * x - node.mass**2) ** 2 + (node.mass * node.width) ** 2)

    grid = np.linspace(low, high, 20_001)
    values = np.array([density(x) for x in grid])
    cumulative = integrate.cumulative_trapezoid(values, grid, initial=0.0)
    order = np.argsort(m)
    ours = np.cumsum(events.weights[order]) / events.weights.sum()
    distance = np.max(np.abs(ours - np.interp(m[order], grid, cumulative / cumulative[-1])))
    assert stats.kstwobign.sf(distance * math.sqrt(events.effective_sample_size)) > 1e-4
    assert events.weights.mean() == pytest.approx(1.0, abs=5 * np.std(events.weights) / math.sqrt(200_000) + 1e-4)


def test_a_wide_parent_of_three_bodies_has_mean_weight_one() -> None:
    """Reference: a table of volumes at the wrong masses: the mean weight in slices of the mass of a_1 is 1."""
    flat = {"tau-": Law(name="phase-space")}  # its own law of the mass would be in the weights too
    events = simulate("tau- -> a_1- nu, a_1- -> pi- pi- pi+", laws=flat, n_events=200_000)
    mass = np.sqrt(mass2(events.momentum("a_1-")))
    p = phase_space.breakup_momentum(events.topology.nodes[0].mass, mass, 0.0)
    own = events.weights / p  # without the weight of the decay of tau
    for low, high in ((0.6, 0.9), (0.9, 1.1), (1.1, 1.3), (1.3, 1.7)):
        inside = (mass > low) & (mass < high)
        mean, error = own[inside].mean(), own[inside].std() / math.sqrt(inside.sum())
        assert abs(mean - own.mean()) < 5 * math.hypot(error, own.std() / math.sqrt(len(own)))


def test_narrow_masses_on_request() -> None:
    """Catches widths that cannot be switched off."""
    events = simulate("B0 -> K*0 X, K*0 -> K+ pi-", masses={"X": 1.0}, widths=False)
    assert np.allclose(np.sqrt(mass2(events.momentum("K*0"))), events.topology.nodes[1].mass, rtol=1e-12)


CHAIN = "e+ e- -> Y(4S), Y(4S) -> B+ B-, B+ -> K+ S, S -> pi+ pi-"


def test_flight_is_exponential_and_follows_the_momentum() -> None:
    """Reference: a wrong unit, boost or direction of the flight, a child that begins at the origin."""
    events = simulate(CHAIN, masses={"S": 1.0}, ctaus={"S": 2.0}, n_events=100_000)
    place = events.topology.place
    length = events.proper_lengths[:, place("S")]
    assert stats.kstest(length / 2.0, "expon").pvalue > 1e-4
    b, s = place("B+"), place("S")
    flight = events.points[:, s] - events.points[:, b]
    expected = events.momenta[:, s, 1:] / 1.0 * length[:, None]
    assert np.allclose(flight, expected, rtol=1e-9, atol=1e-12)
    assert np.array_equal(events.points[:, place("pi+")], events.points[:, s])
    assert np.array_equal(events.points[:, place("K+")], events.points[:, b])
    assert np.all(events.points[:, 0] == 0.0)
    # B+: beta gamma of the e+e- frame, 0.2868, times 491 micrometres, up to the motion of B+ in it
    assert np.mean(events.points[:, b, 2]) == pytest.approx(0.284 * 0.0491, rel=0.02)
    correlation = np.corrcoef(length, events.proper_lengths[:, b])[0, 1]
    assert abs(correlation) < 4.5 / math.sqrt(100_000)


def test_reweighted_lifetimes_are_the_direct_ones() -> None:
    """Reference: the fraction in a region and its error, from one sample and from one made for each lifetime."""
    wide = simulate(
        CHAIN, masses={"S": 1.0}, ctaus={"S": 1.0}, n_events=100_000, lifetimes={"S": (0.01, 0.3, 10.0, 300.0)}
    )
    assert wide.weights.mean() == pytest.approx(1.0, abs=0.02)
    ctaus = [0.01, 0.1, 1.0, 10.0, 100.0]
    other = wide.at_lifetimes("S", ctaus)
    assert np.all(other.effective_sample_size > 0.15 * 100_000)
    assert np.allclose(other.weights[2], wide.weights, rtol=1e-12)
    s = wide.topology.place("S")
    for ctau, weights in zip(ctaus, other.weights, strict=True):
        direct = simulate(CHAIN, masses={"S": 1.0}, ctaus={"S": ctau}, n_events=100_000, seed=9)
        radius, direct_radius = (np.hypot(e.points[:, s, 0], e.points[:, s, 1]) for e in (wide, direct))
        inside, direct_inside = (radius > 0.05) & (radius < 14.0), (direct_radius > 0.05) & (direct_radius < 14.0)
        error = math.hypot(np.std(weights * inside), np.std(direct_inside)) / math.sqrt(100_000)
        assert abs(np.mean(weights * inside) - np.mean(direct_inside)) < 4.5 * error


@pytest.mark.parametrize(
    ("mass", "ctau", "fractions"),
    [
        (0.5, 0.1, (0.778, 0.038, 0.000, 0.817, 0.570)),
        (0.5, 1.0, (0.254, 0.619, 0.039, 0.912, 0.879)),
        (0.5, 100.0, (0.003, 0.028, 0.094, 0.125, 0.125)),
        (1.0, 0.01, (0.087, 0.000, 0.000, 0.087, 0.000)),
        (1.0, 1.0, (0.438, 0.461, 0.002, 0.901, 0.835)),
        (1.0, 10.0, (0.061, 0.399, 0.405, 0.866, 0.859)),
        (2.0, 10.0, (0.132, 0.588, 0.197, 0.918, 0.902)),
        (3.0, 100.0, (0.028, 0.217, 0.422, 0.666, 0.663)),
        (4.0, 0.1, (0.090, 0.000, 0.000, 0.090, 0.000)),
        (4.5, 10.0, (0.479, 0.193, 0.000, 0.672, 0.583)),
    ],
)
def test_geometric_acceptance_of_b_to_k_s(mass: float, ctau: float, fractions: tuple[float, ...]) -> None:
    """Reference (physics notes, b_decay_searches 8.5): decays of S by their distance from the beams, B at rest.

    Catches flight with another momentum or boost than that of the laboratory, and points that do not start at the collision.
    """
    rapidity = math.asinh(0.284)
    beams = Beams(electron_energy=5.29 * math.exp(rapidity), positron_energy=5.29 * math.exp(-rapidity))
    masses, ctaus = {"S": mass}, {"S": ctau, "B+": 0.0}
    events = simulate("B+ -> K+ S, S -> e+ e-", masses=masses, ctaus=ctaus, beams=beams, n_events=200_000)
    p, point = events.momentum("S"), events.points[:, events.topology.place("S")]
    cosine = p[:, 3] / np.sqrt(np.sum(p[:, 1:] ** 2, axis=1))
    seen = (cosine < math.cos(math.radians(17))) & (cosine > math.cos(math.radians(150)))
    seen &= (point[:, 2] > -77) & (point[:, 2] < 160)
    radius = np.hypot(point[:, 0], point[:, 1])
    ranges = ((0.05, 1.4), (1.4, 14.0), (14.0, 60.0), (0.05, 60.0), (0.2, 60.0))
    for (low, high), expected in zip(ranges, fractions, strict=True):
        # four standard deviations of ours, and as many of a table of the same size; three digits of it
        error = math.sqrt(2.0 * max(expected, 1e-3) * (1.0 - expected) / 200_000)
        found = np.mean(seen & (radius > low) & (radius < high))
        assert found == pytest.approx(expected, abs=4.0 * error + 0.0006), f"{low} to {high} cm"


def test_reweighting_reports_a_bad_sample() -> None:
    """Catches an effective sample size that does not warn of a lifetime which the sample does not cover."""
    events = simulate(CHAIN, masses={"S": 1.0}, ctaus={"S": 1.0})
    sizes = events.at_lifetimes("S", [1.0, 0.5, 100.0]).effective_sample_size
    assert sizes[0] == pytest.approx(20_000)
    # the exact value: n lambda (2 - lambda) with lambda = ctau/ctau' below 2
    assert sizes[1] == pytest.approx(20_000 * 0.75, rel=0.02)
    assert sizes[2] < 2_000
    with pytest.raises(KinematicsError) as raised:
        events.at_lifetimes("K+", 1.0)
    assert str(raised.value) == f"{CHAIN}: K+ does not fly; flying: B+, S"
    with pytest.raises(KinematicsError) as raised:
        events.at_lifetimes("S", [1.0, 0.0])
    assert str(raised.value) == f"{CHAIN}: every ctau of S must be positive"


# ---------------------------------------------------------------------------------------------------------------------
# Radiation


def radiated(beams: Beams, ratio: Callable[[np.ndarray], np.ndarray]) -> float:
    """Mean of sigma(s')/sigma(s) over the structure functions of both beams, by quadrature."""
    b = beams.isr_beta
    nodes, weights = np.polynomial.legendre.leggauss(600)
    # x = v^(2/b), v = 1 - t^4 near the end where x goes to 1
    t, w = 0.5 * (nodes + 1), 0.5 * weights
    v, dv = 1 - t**4, w * 4 * t**3
    x = np.exp(2 / b * np.log1p(-(t**4)))
    density = 1 + 0.375 * b - 0.5 * (2 - x) * x / v
    scale = (1 - x)[:, None] * (1 - x)[None, :]
    return float(np.einsum("i,j,ij->", density * dv, density * dv, ratio(scale)))


@pytest.mark.parametrize(
    ("text", "law", "masses", "power"),
    [
        ("e+ e- -> gamma a", "photon-pseudoscalar", {"a": 4.0}, None),
        ("e+ e- -> mu+ mu-", "fermion-pair", {}, None),
        ("e+ e- -> a a a", "phase-space", {"a": 0.0}, 0.0),
    ],
)
def test_radiation_has_the_right_normalisation(
    text: str, law: str, masses: dict[str, float], power: float | None
) -> None:
    """Reference (quadrature): a weight of the radiation or a dependence on s' that is wrong by a factor or a power."""
    topology = parse_chain(text, masses=masses, laws={"e+ e-": Law(name=law)})
    weight = weigh_chain(topology, BELLE2, isr=True, n_events=1_000_000, seed=1, stream="r")
    s = BELLE2.s

    def ratio(scale: np.ndarray) -> np.ndarray:
        if law == "photon-pseudoscalar":
            return np.maximum(1 - 16 / (s * np.maximum(scale, 1e-12)), 0.0) ** 3 / (1 - 16 / s) ** 3
        if law == "fermion-pair":
            m2 = topology.nodes[1].mass ** 2

            def sigma(x: np.ndarray) -> np.ndarray:
                beta2 = np.maximum(1 - 4 * m2 / (s * np.maximum(x, 1e-12)), 0.0)
                return np.sqrt(beta2) * (1 + 2 * m2 / (s * np.maximum(x, 1e-12))) / np.maximum(x, 1e-12)

            return sigma(scale) / sigma(np.ones(1))
        return np.ones_like(scale)  # massless three bodies: volume as s, over s

    assert power is None or weight.stdev < 0.003
    # mu+ mu- returns to its threshold, where single events weigh much
    assert abs(weight.mean - radiated(BELLE2, ratio)) < 4.5 * weight.stdev + 2e-3


def test_radiation_gives_a_recoil_tail() -> None:
    """Catches radiation that is not seen: the mass recoiling against the photon lies above m_a, never below."""
    law = {"e+ e-": Law(name="photon-pseudoscalar")}
    events = simulate("e+ e- -> gamma a", masses={"a": 2.0}, laws=law, isr=True, n_events=50_000)
    good = events.weights > 0.0
    recoil = mass2(np.array(BELLE2.four_momentum) - events.momentum("gamma")[good])
    assert recoil.min() > 4.0 - 1e-6
    assert 0.02 < np.average(recoil > 6.0, weights=events.weights[good]) < 0.5


# ---------------------------------------------------------------------------------------------------------------------
# Reproducibility


MANY = "e+ e- -> tau+ tau-, tau+ -> pi+ pi+ pi- nu, tau- -> mu- alpha"


def digest(events: ChainEvents) -> str:
    parts = (events.momenta, events.points, events.proper_lengths, events.weights)
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()


def test_same_bits_with_any_number_of_threads(real_beams: Beams) -> None:
    """Catches a number, or an order of sums, that depends on which thread makes an event."""
    arguments = {"masses": {"alpha": 0.5}, "beams": real_beams, "isr": True, "n_events": 10_001}
    one, two, seven = (digest(simulate(MANY, n_threads=n, **arguments)) for n in (1, 2, 7))  # type: ignore[arg-type]
    assert one == two == seven
    topology = parse_chain(MANY, masses={"alpha": 0.5})
    sums = {
        weigh_chain(topology, real_beams, isr=True, n_events=100_001, seed=1, stream="s", n_threads=n).sum_weights
        for n in (1, 2, 7)
    }
    assert len(sums) == 1
    events = simulate(MANY, **arguments)  # type: ignore[arg-type]
    sums_of_events = weigh_chain(topology, real_beams, isr=True, n_events=10_001, seed=1, stream="test")
    assert sums_of_events.sum_weights == pytest.approx(events.weights.sum(), rel=1e-12)


def test_same_bits_in_another_process() -> None:
    """Catches randomness from the process: hashes of strings, addresses, the state of a generator."""
    code = (
        "import hashlib, numpy as np\n"
        "from modelbuilder.kinematics.beams import Beams\n"
        "from modelbuilder.kinematics.chain import simulate_chain\n"
        "from modelbuilder.spec.topology import parse_chain\n"
        f"t = parse_chain({MANY!r}, masses={{'alpha': 0.5}})\n"
        "b = Beams(electron_energy=7.004, positron_energy=4.002, crossing_angle=0.083)\n"
        "e = simulate_chain(t, b, isr=True, n_events=3000, seed=1, stream='test')\n"
        "parts = (e.momenta, e.points, e.proper_lengths, e.weights)\n"
        "print(hashlib.sha256(b''.join(np.ascontiguousarray(p).tobytes() for p in parts)).hexdigest())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours = simulate(MANY, masses={"alpha": 0.5}, isr=True, n_events=3000)
    assert done.stdout.strip() == digest(ours)


def test_a_longer_run_begins_with_the_shorter_one() -> None:
    """Invariant: an event depends on its number only, not on how many there are."""
    short = simulate(MANY, masses={"alpha": 0.5}, n_events=1000)
    long = simulate(MANY, masses={"alpha": 0.5}, n_events=5000)
    assert np.array_equal(short.momenta, long.momenta[:1000])


def test_streams_and_seeds_are_independent() -> None:
    """Catches two mass points, or two seeds, with the same random numbers; and numbers used twice within an event."""
    base = simulate(MANY, masses={"alpha": 0.5})
    for other in (
        simulate(MANY, masses={"alpha": 0.5}, stream="other"),
        simulate(MANY, masses={"alpha": 0.5}, seed=2),
    ):
        for node in ("tau-", "mu-", "pi-"):
            one, two = base.momentum(node)[:, 3], other.momentum(node)[:, 3]
            assert abs(np.corrcoef(one, two)[0, 1]) < 4.5 / math.sqrt(20_000)
            assert_same_distribution(one, base.weights, two, other.weights)
    # directions in the two decays of one event
    mu = boosted_to_rest(base.momentum("mu-"), base.momentum("tau-"))
    nu = boosted_to_rest(base.momentum("nu"), base.momentum("tau+"))
    for i in (1, 2, 3):
        for k in (1, 2, 3):
            assert abs(np.corrcoef(mu[:, i], nu[:, k])[0, 1]) < 4.5 / math.sqrt(20_000)
