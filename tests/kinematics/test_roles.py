"""Which product is which in a law does not depend on the order of the text; what is not clear is refused."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from modelbuilder.errors import KinematicsError
from modelbuilder.kinematics import _matrix_elements as me
from modelbuilder.kinematics import phase_space
from modelbuilder.kinematics.beams import Beams
from modelbuilder.kinematics.chain import simulate_chain
from modelbuilder.spec.topology import LAWS, Law, parse_chain

BELLE2 = Beams(electron_energy=7.004, positron_energy=4.002, crossing_angle=0.083)
TAUS = "e+ e- -> tau+ tau-, "
DARK = "e+ e- -> gamma Ap, Ap -> chi1 chi2, "
PHOTON = Law(name="photon-vector", max_cos=0.9)
MASSES = {"Ap": 4.0, "hp": 1.0, "a": 2.0, "N": 1.2, "chi1": 1.0, "chi2": 1.6, "X": 1.0, "chi": 0.5}

# start of the chain, parent, products, law
CASES = [
    ("", "e+ e-", "gamma a", Law(name="photon-pseudoscalar")),
    ("", "e+ e-", "gamma Ap", PHOTON),
    ("", "e+ e-", "gamma J/psi", PHOTON),
    ("", "e+ e-", "Ap hp", Law(name="vector-scalar", vector="Ap")),
    ("", "e+ e-", "phi(1020) hp", Law(name="vector-scalar")),
    ("", "e+ e-", "Ap f(0)(980)", Law(name="vector-scalar")),
    ("", "e+ e-", "mu- mu+ gamma", Law(name="leptons-photon", min_energy=0.2, max_cos=0.9)),
    ("", "e+ e-", "mu- mu+ X", Law(name="leptons-vector")),
    ("", "e+ e-", "tau- tau+ X", Law(name="leptons-scalar")),
    ("", "e+ e-", "mu- mu+ X", Law(name="leptons-pseudoscalar")),
    ("", "e+ e-", "e- mu+ X", Law(name="mixed-leptons-vector")),
    ("", "e+ e-", "e- mu+ X", Law(name="mixed-leptons-scalar")),
    ("", "e+ e-", "mu- e+ X", Law(name="mixed-leptons-pseudoscalar")),
    (TAUS, "tau-", "nu_tau e- anti-nu_e", Law(name="leptonic")),
    (TAUS, "tau-", "nu mu- nubar", Law(name="leptonic")),
    (TAUS, "tau+", "anti-nu_tau mu+ nu_mu", Law(name="leptonic")),
    (TAUS, "tau-", "N e- anti-nu_e", Law(name="leptonic")),
    (TAUS, "tau-", "nu_tau e- N", Law(name="leptonic")),
    (TAUS, "tau-", "a_1- nu_tau", Law(name="vector-hadron")),
    (TAUS, "tau+", "rho+ nu", Law(name="vector-hadron")),
    (TAUS + "tau- -> pi- N, ", "N", "nu mu- mu+", Law(name="neutral-lepton")),
    (TAUS + "tau+ -> pi+ N, ", "N", "nubar mu+ mu-", Law(name="neutral-lepton")),
    (DARK, "chi2", "chi1 e- e+", Law(name="dark-current", parameter=3.0)),
]
# all photons, one particle, or two that may be exchanged
ALIKE = {"resonance", "two-photons", "three-photons", "fermion-pair", "phase-space", "dipole", "sine-squared",
         "cosine-squared", "vector-to-fermions", "vector-to-scalars"}  # fmt: skip


def test_every_law_has_roles_or_needs_none() -> None:
    """Catches a new law whose order nobody has thought about."""
    assert {case[3].name for case in CASES} | ALIKE == set(LAWS)


@pytest.mark.parametrize(("start", "parent", "products", "law"), CASES, ids=[f"{c[2]}: {c[3].name}" for c in CASES])
def test_the_order_of_the_text_does_not_matter(start: str, parent: str, products: str, law: Law) -> None:
    """Invariant: catches a matrix element that takes the electron for a neutrino, or the scalar for the vector."""
    laws = {"e+ e-": PHOTON, parent: law} if start == DARK else {parent: law}
    names = products.split()
    momenta = []
    for order in itertools.permutations(names):
        text = f"{start}{parent} -> {' '.join(order)}"
        masses = {name: mass for name, mass in MASSES.items() if name in text.split()}
        topology = parse_chain(text, masses=masses, laws=laws, widths=False)
        found = next(v for v in topology.vertices if topology.nodes[v.parent].species == parent)
        assert [topology.nodes[child].species for child in found.children] == names
        assert [topology.nodes[child].species for child in found.as_written] == list(order)
        events = simulate_chain(topology, BELLE2, isr=False, n_events=200, seed=1, stream="roles")
        places = [topology.nodes.index(topology.nodes[child]) for child in found.children]
        momenta.append((events.weights, events.momenta[:, places]))
    for weights, p in momenta[1:]:
        assert np.array_equal(weights, momenta[0][0])
        assert np.array_equal(p, momenta[0][1])


NEEDS = [
    ("e+ e- -> Ap hp", Law(name="vector-scalar"),
     "to know which particle is the vector: write {law: vector-scalar, vector: Ap}, or hp"),
    ("e+ e- -> Ap Ap", Law(name="vector-scalar"), "two different particles, a vector and one of spin 0"),
    ("e+ e- -> Ap hp", Law(name="vector-scalar", vector="a"), "two different particles, one of them the vector a"),
    ("e+ e- -> Ap pi0", Law(name="vector-scalar", vector="pi0"), "a vector and a particle of spin 0"),
    ("e+ e- -> mu+ mu-", Law(name="vector-scalar"), "a vector and a particle of spin 0"),
    ("e+ e- -> gamma gamma", PHOTON, "gamma and one other particle, of spin 1"),
    ("e+ e- -> gamma pi0", PHOTON, "gamma and one other particle, of spin 1"),
    ("e+ e- -> gamma J/psi", Law(name="photon-pseudoscalar"), "gamma and one other particle, of spin 0"),
    ("e+ e- -> pi0", Law(name="resonance"), "a particle of spin 1, as the photon that it comes from"),
    ("e+ e- -> pi+ pi-", Law(name="fermion-pair"), "two particles of spin 1/2"),
    ("e+ e- -> Ap hp", Law(name="fermion-pair"), "two equal masses"),
    ("e+ e- -> mu+ mu- pi0", Law(name="leptons-vector"), "a particle of spin 1 besides the leptons"),
    ("e+ e- -> mu+ mu- J/psi", Law(name="leptons-scalar"), "a particle of spin 0 besides the leptons"),
    ("e+ e- -> mu+ mu- nu", Law(name="leptons-vector"), "a particle with a mass besides the leptons"),
    ("e+ e- -> tau+ tau-, tau- -> nu_tau mu- nu_mu", Law(name="leptonic"), "LEPTONIC"),
    ("e+ e- -> tau+ tau-, tau- -> nu_mu mu- anti-nu_tau", Law(name="leptonic"), "LEPTONIC"),
    ("e+ e- -> tau+ tau-, tau- -> anti-nu_tau mu- nu_mu", Law(name="leptonic"), "LEPTONIC"),
    ("e+ e- -> tau+ tau-, tau- -> nu_tau pi- anti-nu_mu", Law(name="leptonic"), "LEPTONIC"),
    ("e+ e- -> tau+ tau-, tau- -> chi mu- chi", Law(name="leptonic"), "LEPTONIC"),
    ("e+ e- -> tau+ tau-, tau- -> pi- nu_tau", Law(name="vector-hadron"),
     "tau to its neutrino and rho, K* or a_1, as in tau- -> a_1- nu_tau"),
    ("e+ e- -> tau+ tau-, tau- -> a_1- nu_mu", Law(name="vector-hadron"),
     "tau to its neutrino and rho, K* or a_1, as in tau- -> a_1- nu_tau"),
    ("e+ e- -> tau+ tau-, tau- -> pi- N, N -> nu mu- e+", Law(name="neutral-lepton"),
     "a neutrino and two leptons of one flavour, as in N -> nu mu- mu+"),
    ("e+ e- -> tau+ tau-, tau- -> pi- N, N -> pi0 mu- mu+", Law(name="neutral-lepton"),
     "a neutrino and two leptons of one flavour, as in N -> nu mu- mu+"),
    (DARK + "chi2 -> chi1 pi+ pi-", Law(name="dark-current", parameter=3.0),
     "a lighter fermion without charge and two leptons of one flavour, as in chi2 -> chi1 e- e+"),
    (DARK + "chi2 -> pi0 e- e+", Law(name="dark-current", parameter=3.0),
     "a lighter fermion without charge and two leptons of one flavour, as in chi2 -> chi1 e- e+"),
]  # fmt: skip
LEPTONIC = (
    "a charged lepton, the neutrino of its parent, and its own, as in tau- -> nu_tau mu- anti-nu_mu"  # the right one
)


@pytest.mark.parametrize(("text", "law", "needs"), NEEDS, ids=[f"{c[0][-25:]}: {c[1].name}" for c in NEEDS])
def test_products_that_do_not_fit_are_refused(text: str, law: Law, needs: str) -> None:
    """Catches a matrix element that is used for particles of another spin, charge or lepton number."""
    parent, products = text.split(",")[-1].strip().split(" -> ")
    laws = {"e+ e-": PHOTON, parent: law} if text.startswith(DARK) else {parent: law}
    masses = {name: mass for name, mass in MASSES.items() if name in text.replace(",", "").split()}
    with pytest.raises(KinematicsError) as raised:
        parse_chain(text, masses=masses, laws=laws)
    needs = LEPTONIC if needs == "LEPTONIC" else needs
    assert str(raised.value) == f"{text}: {parent} -> {products}: the law {law.name!r} needs {needs}"


def test_only_one_law_asks_for_the_vector() -> None:
    """Catches an answer to a question that the law does not ask."""
    law = Law(name="photon-pseudoscalar", vector="a")
    with pytest.raises(KinematicsError, match="does not ask which particle is the vector"):
        parse_chain("e+ e- -> gamma a", masses={"a": 1.0}, laws={"e+ e-": law})


@pytest.mark.parametrize(("neutrino", "left"), [("nu_tau", -0.5 + 0.23129), ("nu_mu", 0.5 + 0.23129)])
def test_a_neutral_lepton_of_the_flavour_of_its_leptons(neutrino: str, left: float) -> None:
    """Reference (quadrature of |M|^2): W* adds to Z* where the neutrino is that of the leptons; C1 of arXiv:1805.08567.

    Catches the couplings of another flavour, which give the muons other spectra.
    """
    text = f"N -> {neutrino} mu- mu+"
    topology = parse_chain(text, masses={"N": 1.2}, laws={"N": Law(name="neutral-lepton")})
    events = simulate_chain(topology, BELLE2, isr=False, n_events=400_000, seed=1, stream="flavour")

    def square(momenta: np.ndarray) -> np.ndarray:
        return np.array(
            [
                me.neutral_lepton_decay(*(tuple(map(float, p)) for p in event), 0.1056583755, left, 0.23129)
                for event in momenta
            ]
        )

    def minus(momenta: np.ndarray) -> np.ndarray:
        return square(momenta) * (momenta[:, 2, 0] * momenta[:, 0, 0]) / momenta[:, 0, 0] ** 2

    products = [0.0, 0.1056583755, 0.1056583755]
    expected = phase_space.mean_square(1.2, products, minus) / phase_space.mean_square(1.2, products, square)
    p, parent = events.momentum("mu-"), events.momentum("N")
    x = (p[:, 0] * parent[:, 0] - np.sum(p[:, 1:] * parent[:, 1:], axis=1)) / 1.2**2
    w = events.weights / events.weights.sum()
    mean = float(np.sum(w * x))
    assert abs(mean - expected) < 4.5 * np.sqrt(np.sum(w**2 * (x - mean) ** 2))
    s2 = 0.23129
    if neutrino == "nu_mu":
        assert left**2 + s2**2 == pytest.approx(0.25 * (1 + 4 * s2 + 8 * s2**2))
