"""Directions of the products of a vector, against traces of Dirac matrices of production and decay together."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import pytest

from modelbuilder.errors import KinematicsError
from modelbuilder.kinematics import _matrix_elements as me
from modelbuilder.kinematics.beams import Beams
from modelbuilder.kinematics.chain import ChainEvents, simulate_chain
from modelbuilder.spec.topology import Law, parse_chain

SYMMETRIC = Beams(electron_energy=5.29, positron_energy=5.29)
HALF = 5.29
MUON, PION, TAU = 0.1056583755, 0.13957039, 1.77693
METRIC = np.array([1.0, -1.0, -1.0, -1.0])
FLAT = Law(name="phase-space")

PAULI = np.array([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]], dtype=complex)
ZERO, ONE = np.zeros((2, 2)), np.eye(2)
GAMMA = np.array([np.block([[ONE, ZERO], [ZERO, -ONE]]), *(np.block([[ZERO, s], [-s, ZERO]]) for s in PAULI)])
UNIT = np.eye(4)


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    product: np.ndarray = (a * b) @ METRIC
    return product


def slash(p: np.ndarray) -> np.ndarray:
    """Shape (..., 4, 4)."""
    return np.einsum("...m,mab->...ab", p * METRIC, GAMMA)


def barred(matrix: np.ndarray) -> np.ndarray:
    """gamma0 M^dagger gamma0."""
    return GAMMA[0] @ np.conj(np.swapaxes(matrix, -1, -2)) @ GAMMA[0]


def traced(one: np.ndarray, vertex: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Tr[one vertex two vertexbar]."""
    return np.real(np.trace(one @ vertex @ two @ barred(vertex), axis1=-2, axis2=-1))


MINUS, PLUS = np.array([HALF, 0, 0, HALF]), np.array([HALF, 0, 0, -HALF])


def with_photon(e: ChainEvents, eps: np.ndarray) -> np.ndarray:
    """|M|^2 of e+e- -> gamma V for a polarisation eps of V; massless electrons."""
    k = e.momentum("gamma")
    near, far = dot(np.broadcast_to(MINUS, k.shape), k), dot(np.broadcast_to(PLUS, k.shape), k)
    # -g is as good as the two polarisations of the photon, since it is emitted by a conserved current
    total = np.zeros(len(k))
    for index, sign in enumerate(METRIC):
        e_slash = GAMMA[index]
        one = slash(eps) @ (slash(MINUS - k)) @ e_slash / (-2 * near)[:, None, None]
        two = e_slash @ slash(k - PLUS) @ slash(eps) / (-2 * far)[:, None, None]
        total -= sign * traced(slash(PLUS), one + two, slash(MINUS))
    return total


def with_scalar(e: ChainEvents, eps: np.ndarray) -> np.ndarray:
    return traced(slash(PLUS), slash(eps), slash(MINUS))


def with_leptons(e: ChainEvents, eps: np.ndarray) -> np.ndarray:
    """The same of e+e- -> l- l+ V."""
    p1, p2, k = (e.momentum(name) for name in ("tau-", "tau+", "Ap"))
    total = np.zeros(len(k))
    for axis in (1, 2):
        one = slash(eps) @ (slash(p1 + k) + TAU * UNIT) @ GAMMA[axis] / (dot(p1 + k, p1 + k) - TAU**2)[:, None, None]
        two = GAMMA[axis] @ (TAU * UNIT - slash(p2 + k)) @ slash(eps) / (dot(p2 + k, p2 + k) - TAU**2)[:, None, None]
        total += traced(slash(p1) + TAU * UNIT, one + two, slash(p2) - TAU * UNIT)
    return total


def exact_weights(e: ChainEvents, names: tuple[str, str], production: Callable[..., np.ndarray]) -> np.ndarray:
    """Weights for an isotropic decay: sum over the polarisations of V of its production, times those of the decay.

    A sum over i, j of P_ij D_ij, in the basis of the direction of the first product and two across it. D is diagonal
    there; for scalars only the first element is not zero.
    """
    k, q1, q2 = (e.momentum(name) for name in ("Ap", *names))
    mass2 = dot(k, k)[:, None]
    first = q1 - k * dot(q1, k)[:, None] / mass2
    momentum2 = -dot(first, first)
    basis = [first / np.sqrt(momentum2)[:, None]]
    for start in ((0.3, 1.0, 0.2, 0.1), (0.1, -0.2, 1.0, 0.5)):
        vector = (
            np.broadcast_to(np.array(start), k.shape) - k * dot(np.broadcast_to(start, k.shape), k)[:, None] / mass2
        )
        for known in basis:
            vector = vector + known * dot(vector, known)[:, None]
        basis.append(vector / np.sqrt(-dot(vector, vector))[:, None])
    produced = [production(e, eps) for eps in basis]
    if names[0].startswith("pi"):
        return produced[0] / sum(produced)
    mass = math.sqrt(float(np.mean(np.abs(dot(q1, q1)))))
    decays = [traced(slash(q1) + mass * UNIT, slash(eps), slash(q2) - mass * UNIT) for eps in basis]
    return sum(p * d for p, d in zip(produced, decays, strict=True)) / sum(produced)


def simulate(text: str, laws: Mapping[str, Law], n_events: int = 60_000, **masses: float) -> ChainEvents:
    topology = parse_chain(text, masses=masses, laws=laws)
    return simulate_chain(topology, SYMMETRIC, isr=False, n_events=n_events, seed=1, stream="vectors")


def cosine(p: np.ndarray) -> np.ndarray:
    result: np.ndarray = p[:, 3] / np.linalg.norm(p[:, 1:], axis=1)
    return result


def mean(values: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    w = weights / weights.sum()
    result = float(np.sum(w * values))
    return result, math.sqrt(float(np.sum(w**2 * (values - result) ** 2)))


GAMMA_V = {"e+ e-": Law(name="photon-vector", max_cos=0.9)}
V_H = {"e+ e-": Law(name="vector-scalar", vector="Ap")}
L_L_V = {"e+ e-": Law(name="leptons-vector")}
CASES = [
    ("e+ e- -> gamma Ap", GAMMA_V, {"Ap": 7.0}, with_photon),
    ("e+ e- -> gamma Ap", GAMMA_V, {"Ap": 4.0}, with_photon),
    ("e+ e- -> Ap hp", V_H, {"Ap": 4.0, "hp": 3.0}, with_scalar),
    ("e+ e- -> Ap hp", V_H, {"Ap": 7.6, "hp": 2.9}, with_scalar),
    ("e+ e- -> tau- tau+ Ap", L_L_V, {"Ap": 3.8}, with_leptons),
]


@pytest.mark.parametrize("products", ["mu- mu+", "tau+ tau-", "pi+ pi-"])
@pytest.mark.parametrize(
    ("start", "laws", "masses", "production"), CASES, ids=lambda v: v if isinstance(v, str) else ""
)
def test_directions_against_traces(
    start: str, laws: dict[str, Law], masses: dict[str, float], production: Callable[..., np.ndarray], products: str
) -> None:
    """Reference (Dirac matrices): catches a wrong axis, frame, sign or mass in the correlation of production and decay."""
    if "tau- tau+" in start and products.startswith("tau"):
        products = "mu+ mu-"
    text = f"{start}, Ap -> {products}"
    found = simulate(text, laws, **masses)
    flat = simulate(text, {**laws, "Ap": FLAT}, **masses)
    names = tuple(products.split())
    weights = flat.weights * exact_weights(flat, (names[0], names[1]), production)
    other = next(name for name in flat.names[1:] if name not in ("Ap", *names))
    moments = []
    for events in (found, flat):
        one, two, v, r = (events.momentum(name) for name in (*names, "Ap", other))
        angle = (
            np.sum(one[:, 1:] * r[:, 1:], axis=1)
            / np.linalg.norm(one[:, 1:], axis=1)
            / np.linalg.norm(r[:, 1:], axis=1)
        )
        both = (np.abs(cosine(one)) < 0.8) & (np.abs(cosine(two)) < 0.8)
        transverse = np.hypot(one[:, 1], one[:, 2])
        moments.append((cosine(one) ** 2, both, (cosine(one) * cosine(v)), angle**2, transverse, one[:, 0] ** 2))
    for engine, isotropic in zip(*moments, strict=True):
        ours, error = mean(engine, found.weights)
        exact, exact_error = mean(isotropic, weights)
        assert abs(ours - exact) < 4.5 * math.hypot(error, exact_error)
    assert found.weights.mean() == pytest.approx(flat.weights.mean(), rel=0.02)


def test_numbers_to_remember() -> None:
    """Reference (contraction of the exact tensors): muons within |cos| < 0.8 (and the photon within 0.9),
    which are 9 to 12 % fewer than if the vector decayed flat."""
    for text, laws, masses, flat, exact in (
        ("e+ e- -> Ap hp, Ap -> mu- mu+", V_H, {"Ap": 4.0, "hp": 3.0}, 0.630, 0.578),
        (
            "e+ e- -> gamma Ap, Ap -> mu- mu+",
            {"e+ e-": Law(name="photon-vector", max_cos=0.95)},
            {"Ap": 7.0},
            0.537,
            0.480,
        ),
    ):
        for law, expected in (({}, exact), ({"Ap": FLAT}, flat)):
            events = simulate(text, {**laws, **law}, 400_000, **masses)
            inside = (np.abs(cosine(events.momentum("mu-"))) < 0.8) & (np.abs(cosine(events.momentum("mu+"))) < 0.8)
            if "gamma" in text:
                inside &= np.abs(cosine(events.momentum("gamma"))) < 0.9
            assert mean(inside, events.weights)[0] == pytest.approx(expected, abs=0.004)


def helicity_cosine(events: ChainEvents, child: str, parent: str, grandparent: str) -> np.ndarray:
    q, k, p = (events.momentum(name) for name in (child, parent, grandparent))
    mass2 = dot(k, k)[:, None]
    a, b = q - k * dot(q, k)[:, None] / mass2, p - k * dot(p, k)[:, None] / mass2
    return dot(a, b) / np.sqrt(dot(a, a) * dot(b, b))


@pytest.mark.parametrize(
    ("text", "masses", "names", "density"),
    [
        ("B0 -> K*0 S, K*0 -> K+ pi-", {"S": 1.0}, ("K+", "K*0", "B0"), lambda c: c**2),
        ("B0 -> K*0 pi0, K*0 -> K+ pi-", {}, ("K+", "K*0", "B0"), lambda c: c**2),
        ("B0 -> K*0 gamma, K*0 -> K+ pi-", {}, ("K+", "K*0", "B0"), lambda c: 1 - c**2),
        ("B+ -> K+ psi(2S), psi(2S) -> tau+ tau-", {}, ("tau+", "psi(2S)", "B+"),
         lambda c: 1 - (1 - 4 * TAU**2 / 3.68610**2) * c**2),
        ("D+ -> pi+ phi(1020), phi(1020) -> K+ K-", {}, ("K+", "phi(1020)", "D+"), lambda c: c**2),
    ],
)  # fmt: skip
def test_vectors_from_a_spinless_particle(
    text: str, masses: dict[str, float], names: tuple[str, str, str], density: Callable[[np.ndarray], np.ndarray]
) -> None:
    """Closed form: angular momentum along the flight is 0, or that of the photon. Catches the flat decay of B -> K* S."""
    events = simulate(text, {}, 200_000, **masses)
    grid = np.linspace(-1, 1, 20001)
    expected = np.sum(grid**2 * density(grid)) / np.sum(density(grid))
    found, error = mean(helicity_cosine(events, *names) ** 2, events.weights)
    assert abs(found - expected) < 4.5 * error


def test_vectors_alone() -> None:
    """Closed form: a resonance is polarised across the beams: 1 + c^2 to muons, 1 - c^2 to pions."""
    beams = Beams(electron_energy=1.54845, positron_energy=1.54845)
    for products, expected in (("mu+ mu-", (1 / 3 + 1 / 5) / (4 / 3)), ("pi+ pi-", 1 / 5)):
        topology = parse_chain(f"e+ e- -> J/psi, J/psi -> {products}")
        events = simulate_chain(topology, beams, isr=False, n_events=200_000, seed=1, stream="vectors")
        found, error = mean(cosine(events.momenta[:, 2]) ** 2, events.weights)
        assert abs(found - expected) < 4.5 * error + 0.003


def test_one_polarisation_against_the_sum() -> None:
    """Reference (Dirac matrices): each linear polarisation of l l V, and the three of them the unpolarised tensor."""
    events = simulate("e+ e- -> tau- tau+ Ap, Ap -> mu- mu+", L_L_V, 50, Ap=3.8)
    p1, p2, k = (events.momentum(name) for name in ("tau-", "tau+", "Ap"))
    for axis in np.eye(3):
        along = k[:, 1:] @ axis
        eps = np.column_stack([along / 3.8, axis + k[:, 1:] * (along / (3.8 * (k[:, 0] + 3.8)))[:, None]])
        expected = with_leptons(events, eps)
        for i in range(50):
            a, b, c, d = (tuple(map(float, p[i])) for p in (p1, p2, k, eps))
            d1, d2 = 3.8**2 + 2 * me.dot(a, c), 3.8**2 + 2 * me.dot(b, c)
            # in units of the squared propagators, which `with_leptons` has too
            assert me.vector_current_along(d1, d2, a, b, c, d, TAU**2) == pytest.approx(expected[i], rel=1e-8)


DEFAULTS = [
    ("e+ e- -> gamma Ap, Ap -> mu- mu+", GAMMA_V, "Ap", "vector-to-fermions"),
    ("e+ e- -> gamma Ap, Ap -> nu nubar", GAMMA_V, "Ap", "vector-to-fermions"),
    ("e+ e- -> gamma Ap, Ap -> pi+ pi-", GAMMA_V, "Ap", "vector-to-scalars"),
    ("e+ e- -> gamma Ap, Ap -> hp chi", GAMMA_V, "Ap", "phase-space"),
    ("e+ e- -> gamma Ap, Ap -> pi0 gamma", GAMMA_V, "Ap", "phase-space"),
    ("e+ e- -> hp Ap, hp -> mu- mu+", V_H, "hp", "phase-space"),
    ("e+ e- -> Ap hp, Ap -> K+ K-", V_H, "Ap", "vector-to-scalars"),
    ("B0 -> K*0 rho(770)0, K*0 -> K+ pi-", {}, "K*0", "phase-space"),
    ("B+ -> K+ Ap, Ap -> mu+ mu-", {}, "Ap", "phase-space"),
    ("B+ -> K+ Ap, Ap -> mu+ mu-", {"Ap": Law(name="vector-to-fermions")}, "Ap", "vector-to-fermions"),
    ("tau- -> rho(770)- nu_tau, rho(770)- -> pi- pi0", {}, "rho(770)-", "phase-space"),
]


@pytest.mark.parametrize(("text", "laws", "species", "law"), DEFAULTS)
def test_default_laws_of_vectors(text: str, laws: dict[str, Law], species: str, law: str) -> None:
    """Catches a vector that decays flat although its polarisation is known, and one that is said to be known and is not."""
    masses = {
        name: m for name, m in {"Ap": 3.0, "hp": 1.0, "chi": 0.5}.items() if name in text.replace(",", "").split()
    }
    topology = parse_chain(text, masses=masses, laws=laws)
    found = next(v for v in topology.vertices if topology.nodes[v.parent].species == species)
    assert found.law.name == law
    off = parse_chain(text, masses=masses, laws={**laws, species: FLAT})
    assert next(v for v in off.vertices if off.nodes[v.parent].species == species).law == FLAT


def test_dark_fermions_follow_their_own_law() -> None:
    """Catches A' -> chi1 chi2 left flat where the law of chi2 says that both are fermions coupled to a vector."""
    masses = {"Ap": 6.0, "chi1": 1.0, "chi2": 1.6}
    laws = {**GAMMA_V, "chi2": Law(name="dark-current", parameter=6.0)}
    topology = parse_chain("e+ e- -> gamma Ap, Ap -> chi1 chi2, chi2 -> chi1 e- e+", masses=masses, laws=laws)
    assert topology.vertices[1].law.name == "vector-to-fermions"


@pytest.mark.parametrize(
    ("text", "law", "reason"),
    [
        ("e+ e- -> gamma a, a -> mu+ mu-", "vector-to-fermions", "needs to know how a is polarised"),
        ("B0 -> K*0 Ap, K*0 -> K+ pi-, Ap -> mu+ mu-", "vector-to-fermions", "needs to know how Ap is polarised"),
        ("B+ -> K+ Ap, Ap -> mu+ mu-", "vector-to-scalars", "needs two particles of spin 0"),
        ("B+ -> K+ Ap, Ap -> pi+ pi-", "vector-to-fermions", "needs two particles of spin 1/2"),
        ("B+ -> K+ eta, eta -> mu+ mu-", "vector-to-fermions", "needs a parent of spin 1"),
    ],
)
def test_unknown_polarisations_are_refused(text: str, law: str, reason: str) -> None:
    """Catches a correlation with a production that does not polarise, or is not known to."""
    name = text.split(", ")[-1].split()[0]
    masses = {name: 1.0} if name in ("a", "Ap") else {}
    laws = {name: Law(name=law), **({"e+ e-": Law(name="photon-pseudoscalar")} if "gamma a" in text else {})}
    with pytest.raises(KinematicsError, match=reason):
        parse_chain(text, masses=masses, laws=laws)
