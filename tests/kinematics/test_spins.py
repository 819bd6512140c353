"""Spins of tau pairs: correlation and analysing powers against Dirac traces, and what is left of them in the events."""

from __future__ import annotations

import math

import numpy as np
import pytest

from modelbuilder.kinematics import _decays
from modelbuilder.kinematics import _matrix_elements as me
from modelbuilder.kinematics.beams import Beams
from modelbuilder.kinematics.chain import ChainEvents, simulate_chain, weigh_chain
from modelbuilder.spec.topology import Law, parse_chain

SYMMETRIC = Beams(electron_energy=5.29, positron_energy=5.29)
S = SYMMETRIC.s
TAU, PION, RHO = 1.77693, 0.13957039, 0.77526
METRIC = np.array([1.0, -1.0, -1.0, -1.0])

# ---------------------------------------------------------------------------------------------------------------------
# Dirac matrices: nothing of ours in here

_SIGMA = [np.array([[0, 1], [1, 0]]), np.array([[0, -1j], [1j, 0]]), np.array([[1, 0], [0, -1]])]
_ZERO, _ONE = np.zeros((2, 2)), np.eye(2)
GAMMA = [
    np.block([[_ONE, _ZERO], [_ZERO, -_ONE]]).astype(complex),
    *(np.block([[_ZERO, m], [-m, _ZERO]]) for m in _SIGMA),
]
GAMMA5 = 1j * GAMMA[0] @ GAMMA[1] @ GAMMA[2] @ GAMMA[3]
UNIT = np.eye(4)
LEFT, RIGHT = (UNIT - GAMMA5) / 2, (UNIT + GAMMA5) / 2


def slash(p: np.ndarray) -> np.ndarray:
    return sum(METRIC[i] * p[i] * GAMMA[i] for i in range(4))


def moved(spin: np.ndarray, p: np.ndarray, mass: float) -> np.ndarray:
    """Spin four-vector, in the frame where the particle has momentum p, of a spin in its rest frame."""
    along = float(spin @ p[1:])
    return np.array([along / mass, *(spin + p[1:] * (along / (mass * (p[0] + mass))))])


def direction(rng: np.random.Generator) -> np.ndarray:
    vector = rng.normal(size=3)
    return np.asarray(vector / np.linalg.norm(vector))


def pair_rate(p1: np.ndarray, p2: np.ndarray, spin1: np.ndarray, spin2: np.ndarray, mass: float) -> float:
    """e+e- -> f(p1) fbar(p2) with given spins, from traces; beams massless along the third axis."""
    energy = p1[0]
    minus, plus = np.array([energy, 0, 0, energy]), np.array([energy, 0, 0, -energy])
    one = (slash(p1) + mass * UNIT) @ (UNIT + GAMMA5 @ slash(moved(spin1, p1, mass))) / 2
    two = (slash(p2) - mass * UNIT) @ (UNIT + GAMMA5 @ slash(moved(spin2, p2, mass))) / 2
    total = 0.0
    for mu in range(4):
        for nu in range(4):
            beam = np.trace(slash(plus) @ GAMMA[mu] @ slash(minus) @ GAMMA[nu])
            pair = np.trace(one @ GAMMA[mu] @ two @ GAMMA[nu])
            total += METRIC[mu] * METRIC[nu] * (beam * pair).real
    return total


@pytest.mark.parametrize("energy", [1.8, 2.5, 5.29, 50.0])
def test_spin_correlation_is_that_of_the_traces(energy: float) -> None:
    """Reference: a wrong sign or mass in any component, longitudinal, transverse or mixed, to 1e-9."""
    rng = np.random.default_rng(7)
    for _ in range(20):
        n = direction(rng)
        p1 = np.array([energy, *(math.sqrt(energy**2 - TAU**2) * n)])
        p2 = p1 * METRIC
        spin1, spin2 = direction(rng), direction(rng)
        mean = sum(pair_rate(p1, p2, a * spin1, b * spin2, TAU) for a in (-1, 1) for b in (-1, 1)) / 4
        expected = pair_rate(p1, p2, spin1, spin2, TAU) / mean
        found = _decays.pair_spins.py_func(
            tuple(float(x) for x in (*p1, TAU)), tuple(map(float, spin1)), tuple(map(float, spin2))
        )
        assert found == pytest.approx(expected, abs=1e-9)


def analysing_power(rate: np.ndarray) -> float:
    """A of 1 + A cos from the rates at cos = 1, -1."""
    return float((rate[0] - rate[1]) / (rate[0] + rate[1]))


def decay_rates(own: float, other: float, vertices: list[np.ndarray], q: np.ndarray) -> np.ndarray:
    """Rates of tau- at rest with spin along and against the particle q, which recoils against a fermion."""
    p, k = np.array([TAU, 0, 0, 0]), np.array([TAU, 0, 0, 0]) - q
    n = q[1:] / np.linalg.norm(q[1:])
    rates = []
    for sign in (1.0, -1.0):
        spin = np.array([0.0, *(sign * n)])
        tau = (slash(p) + TAU * UNIT) @ (UNIT + GAMMA5 @ slash(spin)) / 2
        total = 0.0
        for vertex in vertices:
            bar = GAMMA[0] @ vertex.conj().T @ GAMMA[0]
            total += np.trace((slash(k) + other * UNIT) @ vertex @ tau @ bar).real
        rates.append(total)
    return np.array(rates)


def along(own: float, other: float) -> np.ndarray:
    """Momentum of a particle of mass `own` that recoils against one of mass `other`, in some direction."""
    energy = (TAU**2 + own**2 - other**2) / (2 * TAU)
    n = np.array([0.36, 0.48, 0.8])
    return np.array([energy, *(math.sqrt(energy**2 - own**2) * n)])


@pytest.mark.parametrize("other", [0.0, 0.3, 1.2])
def test_pions_tell_the_spin(other: float) -> None:
    """Reference (traces): V - A with a neutrino, or with a heavy neutral lepton, which tells less."""
    q = along(PION, other)
    expected = analysing_power(decay_rates(PION, other, [slash(q) @ LEFT], q))
    assert _decays.analysing_power.py_func(_decays.PION, TAU, PION, other) == pytest.approx(expected, abs=1e-12)
    assert other > 0.0 or expected == pytest.approx(1.0)


@pytest.mark.parametrize("own", [RHO, 0.89555, 1.23])
def test_vector_mesons_tell_the_spin(own: float) -> None:
    """Reference (traces over three polarisations): 0.45 for rho, and nearly nothing for a_1."""
    q = along(own, 0.0)
    n = q[1:] / np.linalg.norm(q[1:])
    first = np.cross(n, [1.0, 0.0, 0.0])
    first /= np.linalg.norm(first)
    polarisations = [
        np.array([0.0, *first]),
        np.array([0.0, *np.cross(n, first)]),
        np.array([np.linalg.norm(q[1:]), *(q[0] * n)]) / own,
    ]
    expected = analysing_power(decay_rates(own, 0.0, [slash(e) @ LEFT for e in polarisations], q))
    assert _decays.analysing_power.py_func(_decays.MESON, TAU, own, 0.0) == pytest.approx(expected, abs=1e-12)


def test_antineutrinos_tell_the_spin() -> None:
    """Reference (tested to spinors): in tau- -> l- nubar nu the spin stands in a product with the antineutrino alone."""
    rng = np.random.default_rng(3)
    for _ in range(10):
        parent = (TAU, 0.0, 0.0, 0.0)
        spin = direction(rng)
        bar, nu = direction(rng), direction(rng)
        momenta = [(0.4, *(0.4 * bar)), (0.3, *(0.3 * nu)), (0.5, 0.1, 0.2, math.sqrt(0.2))]
        momenta = [tuple(map(float, p)) for p in momenta]
        ratio = me.polarised_leptonic_decay(
            parent, (0.0, *map(float, spin)), TAU, momenta[1], momenta[2], momenta[0]
        ) / me.leptonic_decay(parent, momenta[1], momenta[2], momenta[0])
        assert ratio == pytest.approx(1.0 + float(spin @ bar), abs=1e-12)


# ---------------------------------------------------------------------------------------------------------------------
# Events

LEPTONIC = {"tau-": Law(name="leptonic"), "tau+": Law(name="leptonic")}


def boosted_to_rest(p: np.ndarray, frame: np.ndarray) -> np.ndarray:
    mass = np.sqrt(frame**2 @ METRIC)
    shift = (np.sum(p[:, 1:] * frame[:, 1:], axis=1) / (frame[:, 0] + mass) - p[:, 0]) / mass
    rest: np.ndarray = p[:, 1:] + frame[:, 1:] * shift[:, None]
    return rest / np.linalg.norm(rest, axis=1)[:, None]


def simulate(decays: str, laws: dict[str, Law] | None = None, n_events: int = 400_000, **masses: float) -> ChainEvents:
    topology = parse_chain(f"e+ e- -> tau- tau+, {decays}", masses=masses, laws=laws)
    return simulate_chain(topology, SYMMETRIC, isr=False, n_events=n_events, seed=2, stream="spins")


@pytest.mark.parametrize(
    ("decays", "laws", "seen", "powers"),
    [
        ("tau- -> pi- nu, tau+ -> pi+ nu", {}, ("pi-", "pi+"), (1.0, 1.0)),
        ("tau+ -> nu pi+, tau- -> nu_tau mu- nubar_mu", {"tau-": Law(name="leptonic")}, ("nubar_mu", "pi+"), (1, 1)),
        ("tau- -> nu e- nubar, tau+ -> nubar mu+ nu", LEPTONIC, ("nubar", "nu[2]"), (1.0, 1.0)),
        ("tau- -> K- N, tau+ -> pi+ nu", {}, ("K-", "pi+"), (0.0, 1.0)),
        ("tau- -> mu- alpha, tau+ -> pi+ nu", {}, ("mu-", "pi+"), (0.0, 1.0)),
        ("tau- -> pi- pi0 nu, tau+ -> pi+ nu", {}, ("pi-", "pi+"), (0.0, 1.0)),
    ],
)
def test_hemispheres_are_correlated(
    decays: str, laws: dict[str, Law], seen: tuple[str, str], powers: tuple[float, float]
) -> None:
    """Reference: <cos1 cos2> = A1 A2 C/9 on the axes of flight, C = (2 - 1/gamma^2)/(2 + 1/gamma^2), and for pairs across
    the axes of flight. Catches a sign for tau+, the wrong neutrino, decays that do not tell but are taken to.
    """
    masses = {"N": 1.0} if " N," in decays else {"alpha": 0.5} if "alpha" in decays else {}
    events = simulate(decays, laws, **masses)
    w = events.weights / events.weights.sum()
    if "N" in masses:
        powers = (_decays.analysing_power.py_func(_decays.PION, TAU, 0.493677, 1.0), 1.0)
    tau = events.momentum("tau-")
    axis = tau[:, 1:] / np.linalg.norm(tau[:, 1:], axis=1)[:, None]
    h1 = boosted_to_rest(events.momentum(seen[0]), tau)
    h2 = boosted_to_rest(events.momentum(seen[1]), events.momentum("tau+"))
    inverse2 = (2 * TAU) ** 2 / S
    # on the axis of flight of each; h of tau+ is against its particle
    cosines = np.sum(h1 * axis, axis=1) * np.sum(h2 * -axis, axis=1)
    expected = powers[0] * powers[1] * (2 - inverse2) / (2 + inverse2) / 9
    error = math.sqrt(float(np.sum(w**2 * (cosines - np.average(cosines, weights=w)) ** 2)))
    assert abs(np.sum(w * cosines) - expected) < 4.5 * error
    # normal to the plane of production: C_yy = -beta^2 sin^2/(1 + cos^2 + sin^2/gamma^2), averaged over cos
    normal = np.cross(axis, [0.0, 0.0, 1.0])
    normal /= np.linalg.norm(normal, axis=1)[:, None]
    across = np.sum(h1 * normal, axis=1) * np.sum(h2 * normal, axis=1)
    beta2 = 1 - inverse2
    expected = powers[0] * powers[1] * beta2 * (4 / 3) / (8 / 3 + 4 / 3 * inverse2) / 9
    error = math.sqrt(float(np.sum(w**2 * across**2)))
    assert abs(np.sum(w * across) - expected) < 4.5 * error


def test_one_hemisphere_alone_is_unpolarised() -> None:
    """Invariant: without looking at the other tau the pion is flat, and the mean weight is 1 (parity is conserved)."""
    events = simulate("tau- -> pi- nu, tau+ -> pi+ nu")
    cosine = np.sum(boosted_to_rest(events.momentum("pi-"), events.momentum("tau-")) * [0.0, 0.0, 1.0], axis=1)
    n = events.effective_sample_size
    assert abs(np.average(cosine, weights=events.weights)) < 4.5 / math.sqrt(3 * n)
    assert np.average(cosine**2, weights=events.weights) == pytest.approx(1 / 3, abs=4.5 * 0.3 / math.sqrt(n))
    assert events.weights.mean() == pytest.approx(1.0, abs=4.5 * np.std(events.weights) / math.sqrt(len(cosine)))
    assert 0.0 <= events.weights.min() < 0.1
    assert 1.8 < events.weights.max() <= 2.0


def test_wide_mesons_tell_by_their_mass() -> None:
    """Reference: <cos1 cos2> with the mean analysing power over the mass of rho; catches the nominal mass or none."""
    text = "e+ e- -> tau- tau+, tau- -> rho(770)- nu, tau+ -> pi+ nu, rho(770)- -> pi- pi0"
    events = simulate_chain(parse_chain(text), SYMMETRIC, isr=False, n_events=600_000, seed=2, stream="spins")
    rho = events.momentum("rho(770)-")
    mass2 = rho**2 @ METRIC
    power = (TAU**2 - 2 * mass2) / (TAU**2 + 2 * mass2)
    tau = events.momentum("tau-")
    axis = tau[:, 1:] / np.linalg.norm(tau[:, 1:], axis=1)[:, None]
    one = np.sum(boosted_to_rest(rho, tau) * axis, axis=1)
    two = np.sum(boosted_to_rest(events.momentum("pi+"), events.momentum("tau+")) * -axis, axis=1)
    inverse2 = (2 * TAU) ** 2 / S
    w = events.weights / events.weights.sum()
    expected = np.sum(w * power) * (2 - inverse2) / (2 + inverse2) / 9
    error = math.sqrt(float(np.sum(w**2 * (one * two) ** 2)))
    assert abs(np.sum(w * one * two) - expected) < 4.5 * error
    assert expected > 5 * error


def test_spins_survive_radiation_and_widths() -> None:
    """Catches a frame of the radiating beams in which spins are combined with momenta of another one: mean weight."""
    decays = "tau- -> nu e- nubar, tau+ -> pi+ nu"
    correlated, flat = (
        weigh_chain(
            parse_chain(f"e+ e- -> tau- tau+, {text}", laws={"tau-": Law(name="leptonic")}),
            SYMMETRIC,
            isr=True,
            n_events=1_000_000,
            seed=1,
            stream=text,
        )
        for text in (decays, decays.replace("pi+ nu", "pi+ pi0 nu"))
    )
    assert abs(correlated.mean - flat.mean) < 4.5 * math.hypot(correlated.stdev, flat.stdev)
