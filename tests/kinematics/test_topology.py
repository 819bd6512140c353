"""What a decay chain is read as, and what is refused, word for word."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

from modelbuilder.errors import KinematicsError
from modelbuilder.kinematics.beams import Beams
from modelbuilder.kinematics.chain import simulate_chain
from modelbuilder.spec.topology import Law, Topology, parse_chain

FLAT = {"e+ e-": Law(name="phase-space")}


def tree(topology: Topology) -> list[tuple[str, list[str], str]]:
    nodes = topology.nodes
    return [(nodes[v.parent].name, [nodes[c].name for c in v.children], v.law.name) for v in topology.vertices]


@pytest.mark.parametrize(
    ("text", "masses", "expected"),
    [
        (
            "e+ e- -> Y(4S), Y(4S) -> B+ B-, B+ -> K+ S, S -> pi+ pi-",
            {"S": 1.0},
            [
                ("e+ e-", ["Y(4S)"], "resonance"),
                ("Y(4S)", ["B+", "B-"], "sine-squared"),
                ("B+", ["K+", "S"], "phase-space"),
                ("S", ["pi+", "pi-"], "phase-space"),
            ],
        ),
        (
            "e+ e- -> tau+ tau-, tau- -> mu- alpha, tau+ -> pi+ pi+ pi- nu",
            {"alpha": 0.5},
            [
                ("e+ e-", ["tau+", "tau-"], "fermion-pair"),
                ("tau+", ["pi+", "pi+[2]", "pi-", "nu"], "phase-space"),
                ("tau-", ["mu-", "alpha"], "phase-space"),
            ],
        ),
        (
            "B0 -> Lambda psi, Lambda -> p pi-",
            {"psi": 2.0},
            [("B0", ["Lambda", "psi"], "phase-space"), ("Lambda", ["p", "pi-"], "phase-space")],
        ),
    ],
)
def test_chains_of_the_searches(
    text: str, masses: dict[str, float], expected: list[tuple[str, list[str], str]]
) -> None:
    """Catches a chain read into another tree, or with another default law."""
    assert tree(parse_chain(text, masses=masses)) == expected


@pytest.mark.parametrize(
    ("products", "law"),
    [
        ("mu- mu+", "fermion-pair"),
        ("tau+ tau-", "fermion-pair"),
        ("gamma pi0", "photon-pseudoscalar"),
        ("gamma eta, eta -> gamma gamma", "photon-pseudoscalar"),
        ("gamma eta'(958)", "photon-pseudoscalar"),
        ("Y(4S)", "resonance"),
    ],
)
def test_known_particles_have_their_law_of_lowest_order(products: str, law: str) -> None:
    """Catches a known production that is flat, or asked for."""
    assert parse_chain(f"e+ e- -> {products}").vertices[0].law == Law(name=law)


UNNAMED = [
    ("gamma a", "'photon-pseudoscalar', 'photon-vector', or"),
    ("a gamma, a -> gamma gamma", "'photon-pseudoscalar', 'photon-vector', or"),
    ("tau+ tau- a", "'leptons-vector', 'leptons-scalar', 'leptons-pseudoscalar', or"),
    ("e+ e- a, a -> invisible", "'leptons-vector', 'leptons-scalar', 'leptons-pseudoscalar', or"),
    ("e+ mu- a", "'mixed-leptons-vector', 'mixed-leptons-scalar', 'mixed-leptons-pseudoscalar', or"),
    ("a b, b -> a a", "'vector-scalar', 'fermion-pair', 'sine-squared', or"),
    ("a a a", ""),
    ("pi+ pi-", "'sine-squared', or"),
    ("gamma gamma pi0", ""),
]


@pytest.mark.parametrize(("products", "laws"), UNNAMED)
def test_no_production_is_silently_flat(products: str, laws: str) -> None:
    """Catches a search that is simulated flat because nobody said how its particles are made."""
    text, first = f"e+ e- -> {products}", products.split(",")[0]
    masses = {name: mass for name, mass in {"a": 0.5, "b": 2.0}.items() if name in products.split()}
    with pytest.raises(KinematicsError) as raised:
        parse_chain(text, masses=masses)
    flat = "'phase-space' if a flat distribution is meant"
    reason = " ".join(part for part in (f"e+ e- -> {first}: name the law of e+ e-:", laws, flat) if part)
    assert str(raised.value) == f"{text}: {reason}"
    named = parse_chain(text, masses=masses, laws=FLAT)
    assert named.vertices[0].law.name == "phase-space"


@pytest.mark.parametrize(("products", "law"), [("e+ e-", "fermion-pair"), ("e- e+ gamma", "leptons-photon")])
def test_bhabha_scattering_is_not_simulated(products: str, law: str) -> None:
    """Catches electrons made by annihilation alone, a hundredth of them, without a word."""
    with pytest.raises(KinematicsError) as raised:
        parse_chain(f"e+ e- -> {products}")
    assert str(raised.value) == (
        f"e+ e- -> {products}: e+ e- -> {products}: electrons also come from the exchange of a photon between the beams"
        f" (Bhabha scattering), which cannot be simulated; name the law of e+ e-: {law!r} for the part of annihilation"
        " alone, or 'phase-space' if a flat distribution is meant"
    )


@pytest.mark.parametrize(
    ("products", "law", "energy"),
    [
        ("gamma gamma", "two-photons", ""),
        ("gamma gamma gamma", "three-photons", "min_energy (GeV) and "),
        ("mu+ mu- gamma", "leptons-photon", "min_energy (GeV) and "),
        ("tau+ tau- gamma", "leptons-photon", "min_energy (GeV) and "),
    ],
)
def test_infinite_cross_sections_need_cuts(products: str, law: str, energy: str) -> None:
    """Catches a generator that chases soft or collinear photons for ever; with cuts the law is as named."""
    text = f"e+ e- -> {products}"
    for laws in ({}, {"e+ e-": Law(name=law)}, {"e+ e-": Law(name=law, min_energy=0.1)}):
        with pytest.raises(KinematicsError) as raised:
            parse_chain(text, laws=laws)
        assert str(raised.value) == (
            f"{text}: the cross section of the law {law!r} has no bound without {energy}max_cos of the photons in the"
            " e+e- frame; give them with the law of e+ e-"
        )
    cuts = Law(name=law, min_energy=0.1, max_cos=0.9)
    assert parse_chain(text, laws={"e+ e-": cuts}).vertices[0].law == cuts


def test_one_step_holds_for_all_and_several_are_taken_in_order() -> None:
    """Catches a second A' that stays whole, or two ways of decay that are mixed up."""
    all_same = parse_chain("e+ e- -> h A', h -> A' A', A' -> mu+ mu-", masses={"h": 3.0, "A'": 1.0}, laws=FLAT)
    assert [node.species for node in all_same.nodes].count("mu+") == 3
    each = parse_chain("e+ e- -> X X, X -> mu+ mu-, X -> e+ e-", masses={"X": 1.0}, laws=FLAT)
    assert tree(each)[1:] == [("X", ["mu+", "mu-"], "phase-space"), ("X[2]", ["e+", "e-"], "phase-space")]


def test_values_of_known_particles() -> None:
    """Reference (PDG): wrong units of mass, width or lifetime, a nucleus for alpha, a light pion."""
    nodes = {node.name: node for node in parse_chain("B+ -> K*0 pi+ X, K*0 -> K+ pi-", masses={"X": 0.1}).nodes}
    assert nodes["B+"].mass == pytest.approx(5.2794, abs=5e-4)
    assert nodes["B+"].ctau == pytest.approx(0.0491, rel=0.01)
    assert nodes["K*0"].width == pytest.approx(0.047, rel=0.05)
    assert nodes["K*0"].ctau == 0.0
    assert nodes["K+"].charge == 1
    assert {nodes[name].kind for name in ("K+", "pi+", "X", "B+")} == {"kaon", "pion", "invisible", "unresolved"}
    assert math.isinf(nodes["X"].ctau)
    alpha = parse_chain("tau- -> mu- alpha", masses={"alpha": 0.5}).nodes[2]
    assert (alpha.mass, alpha.charge, alpha.kind) == (0.5, 0, "invisible")
    hidden = parse_chain("e+ e- -> gamma K_L0, K_L0 -> invisible", laws=FLAT).nodes[2]
    assert hidden.kind == "invisible"


REFUSED = [
    ("e+ e- gamma a", {}, {}, "'e+ e- gamma a' is not of the form 'parent -> children'"),
    ("e+ e+ -> gamma a", {}, {}, "'e+ e+' decays; one particle decays, or e+ e- collide"),
    ("e+ e- -> ", {}, {}, "e+ e- decays into nothing"),
    ("e+ e- -> gamma a, e+ e- -> gamma b", {}, {}, "e+ e- collide in the first step only"),
    ("e+ e- -> gamma a", {}, {}, "a is not a known particle, and no mass is given for it"),
    ("e+ e- -> gamma a", {"a": -1.0}, {}, "the mass of a is -1 GeV; it must not be negative"),
    ("e+ e- -> gamma a", {"a": math.nan}, {}, "the mass of a is nan GeV; it must not be negative"),
    ("e+ e- -> gamma pi0", {"pi0": 1.0}, {}, "pi0 is a known particle of 0.134977 GeV; another mass cannot be given"),
    ("e+ e- -> gamma a", {"a": 1.0, "b": 1.0}, {}, "a value is given for b, which is not in the chain"),
    ("e+ e- -> gamma a, b -> e+ e-", {"a": 1.0}, {}, "b decays but never appears"),
    ("e+ e- -> gamma a, a -> e+ e-, a -> mu+ mu-", {"a": 1.0}, {}, "a decays 2 times, but appears once"),
    ("A -> B B, B -> A A", {"A": 1.0, "B": 0.1}, {}, "A decays into itself: A -> B -> A"),
    ("e+ e- -> gamma a, a -> e+ mu+", {"a": 1.0}, {}, "a -> e+ mu+: charge 0 goes to 2"),
    ("e+ e- -> gamma a, a -> gamma invisible", {"a": 1.0}, {}, "a -> gamma invisible: 'invisible' stands alone"),
    (
        "e+ e- -> gamma a, a -> mu+ mu-",
        {"a": 0.2},
        {},
        "a -> mu+ mu-: the products have at least 0.211317 GeV, but a has 0.2 GeV; the decay is not possible",
    ),
    ("B0 -> X", {"X": 1.0}, {}, "B0 -> X: a decay needs at least two particles"),
    ("X -> a a a a a a a", {"X": 9.0, "a": 1.0}, {}, "X -> a a a a a a a: 7 particles; at most 6 can be simulated"),
    ("gamma -> e+ e-", {}, {}, "gamma decays, but has no mass"),
    (
        "e+ e- -> gamma a",
        {"a": 1.0},
        {"e+ e-": Law(name="fancy")},
        (
            "unknown law 'fancy' for e+ e-; known: cosine-squared, dark-current, dipole, fermion-pair, leptonic,"
            " leptons-photon, leptons-pseudoscalar, leptons-scalar, leptons-vector, mixed-leptons-pseudoscalar,"
            " mixed-leptons-scalar, mixed-leptons-vector, neutral-lepton, phase-space, photon-pseudoscalar,"
            " photon-vector, resonance, sine-squared, three-photons, two-photons, vector-hadron, vector-scalar,"
            " vector-to-fermions, vector-to-scalars"
        ),
    ),
    (
        "e+ e- -> gamma a a",
        {"a": 1.0},
        {"e+ e-": Law(name="dipole")},
        "the law 'dipole' needs 2 particles, but e+ e- goes to 3",
    ),
    (
        "B0 -> a a",
        {"a": 1.0},
        {"B0": Law(name="fermion-pair")},
        "the law 'fermion-pair' is for e+ e- only, not for B0",
    ),
    (
        "e+ e- -> nu mu- a",
        {"a": 1.0},
        {"e+ e-": Law(name="leptonic")},
        "the law 'leptonic' is for decays only, not for e+ e-",
    ),
    (
        "B0 -> a a",
        {"a": 1.0},
        {"B0": Law(name="dipole", parameter=-2.0)},
        "the law 'dipole' needs a parameter at least -1, not -2.0",
    ),
    (
        "e+ e- -> gamma a",
        {"a": 1.0},
        {"e+ e-": Law(name="photon-vector")},
        (
            "the cross section of the law 'photon-vector' has no bound without max_cos of the photons in the e+e- frame;"
            " give them with the law of e+ e-"
        ),
    ),
    (
        "e+ e- -> gamma a",
        {"a": 1.0},
        {"e+ e-": Law(name="photon-vector", parameter=0.9, max_cos=0.9)},
        "the law 'photon-vector' has no parameter",
    ),
    (
        "e+ e- -> gamma a",
        {"a": 1.0},
        {"e+ e-": Law(name="photon-vector", max_cos=1.0)},
        "the law 'photon-vector' has a max_cos of 1; it must be above 0 and below 1",
    ),
    (
        "e+ e- -> mu+ mu- gamma",
        {},
        {"e+ e-": Law(name="leptons-photon", min_energy=0.1, max_cos=1.1)},
        "the law 'leptons-photon' has a max_cos of 1.1; it must be above 0 and at most 1",
    ),
    (
        "e+ e- -> gamma gamma",
        {},
        {"e+ e-": Law(name="two-photons", min_energy=-1.0, max_cos=0.9)},
        "the law 'two-photons' has a min_energy of -1 GeV; it must be positive",
    ),
    (
        "e+ e- -> gamma a",
        {"a": 1.0},
        {"e+ e-": Law(name="dipole", max_cos=0.9)},
        "the law 'dipole' for e+ e- has no max_cos",
    ),
    (
        "B0 -> a a",
        {"a": 1.0},
        {"B0": Law(name="dipole", min_energy=0.9)},
        "the law 'dipole' for B0 has no min_energy",
    ),
    (
        "e+ e- -> gamma gamma a",
        {"a": 1.0},
        {"e+ e-": Law(name="three-photons", min_energy=0.1, max_cos=0.9)},
        "e+ e- -> gamma gamma a: the law 'three-photons' needs photons only",
    ),
    (
        "e+ e- -> mu+ mu- a",
        {"a": 1.0},
        {"e+ e-": Law(name="leptons-photon", min_energy=0.1, max_cos=0.9)},
        "e+ e- -> mu+ mu- a: the law 'leptons-photon' needs a photon besides the leptons",
    ),
    (
        "e+ e- -> pi+ pi- a",
        {"a": 1.0},
        {"e+ e-": Law(name="leptons-scalar")},
        "e+ e- -> pi+ pi- a: the law 'leptons-scalar' needs two leptons of one flavour, and one more",
    ),
    (
        "e+ e- -> mu+ mu- a",
        {"a": 1.0},
        {"e+ e-": Law(name="mixed-leptons-vector")},
        "e+ e- -> mu+ mu- a: the law 'mixed-leptons-vector' needs two leptons of different flavour, and one more",
    ),
    (
        "e+ e- -> mu+ e- a",
        {"a": 0.1},
        {"e+ e-": Law(name="mixed-leptons-vector")},
        (
            "e+ e- -> mu+ e- a: the law 'mixed-leptons-vector' needs a third particle above 0.105147 GeV, below which"
            " the heavier lepton decays to it"
        ),
    ),
    (
        "B0 -> a a",
        {"a": 1.0},
        {"B0": Law(name="sine-squared", parameter=1.0)},
        "the law 'sine-squared' has no parameter",
    ),
    ("B0 -> a a", {"a": 1.0}, {"a": Law(name="dipole")}, "a law is given for a, which does not decay"),
    (
        "e+ e- -> mu+ e- a",
        {"a": 1.0},
        {"e+ e-": Law(name="leptons-vector")},
        "e+ e- -> mu+ e- a: the law 'leptons-vector' needs two leptons of one flavour, and one more",
    ),
]


@pytest.mark.parametrize(("text", "masses", "laws", "reason"), REFUSED, ids=[case[3][:40] for case in REFUSED])
def test_refusals(text: str, masses: dict[str, float], laws: dict[str, Law], reason: str) -> None:
    """Catches an impossible chain that is accepted, or refused without saying why."""
    with pytest.raises(KinematicsError) as raised:
        parse_chain(text, masses=masses, laws=laws)
    assert str(raised.value) == f"{' '.join(text.split())}: {reason}"


def test_refused_lifetimes() -> None:
    """Catches a lifetime that no particle can have."""
    text = "e+ e- -> gamma a, a -> gamma gamma"
    with pytest.raises(KinematicsError) as raised:
        parse_chain(text, masses={"a": 1.0}, ctaus={"a": -1.0})
    assert str(raised.value) == f"{text}: ctau of a is -1 cm; it must not be negative"
    with pytest.raises(KinematicsError) as raised:
        parse_chain(text, masses={"a": 1.0}, ctaus={"a": math.inf})
    assert str(raised.value) == f"{text}: a decays, but its ctau is infinite"


@pytest.mark.parametrize(
    ("text", "masses", "arguments", "reason"),
    [
        (
            "e+ e- -> gamma a",
            {"a": 11.0},
            {"laws": {"e+ e-": Law(name="photon-pseudoscalar")}},
            "e+ e- -> gamma a: the products have at least 11 GeV, but sqrt(s) is 10.5796 GeV; they cannot be produced",
        ),
        (
            "e+ e- -> Y(3S), Y(3S) -> mu+ mu-",
            {},
            {},
            (
                "e+ e- -> Y(3S): sqrt(s) is 10.5796 GeV, more than five widths from the 10.3551 GeV of Y(3S); it cannot"
                " be produced without radiation"
            ),
        ),
        (
            "B0 -> K+ pi-",
            {},
            {"isr": True},
            "B0 -> K+ pi-: it begins with a particle at rest; isr must be off",
        ),
        (
            "e+ e- -> Y(4S), Y(4S) -> B+ B-",
            {},
            {"isr": True},
            "e+ e- -> Y(4S), Y(4S) -> B+ B-: it begins with a resonance that is made at rest; isr must be off",
        ),
        ("B0 -> K+ pi-", {}, {"n_events": 0}, "simulation: n_events is 0; it must be at least 1"),
        (
            "B0 -> K+ pi-",
            {},
            {"first_event": -1},
            "simulation: first_event is -1; the events of a stream are 0 to 4611686018427387903",
        ),
        (
            "e+ e- -> gamma gamma gamma",
            {},
            {"laws": {"e+ e-": Law(name="three-photons", min_energy=4.0, max_cos=0.9)}},
            "e+ e- -> gamma gamma gamma: min_energy is 4 GeV, but the softest photon has at most 3.527 GeV",
        ),
        (
            "e+ e- -> tau+ tau- gamma",
            {},
            {"laws": {"e+ e-": Law(name="leptons-photon", min_energy=5.0, max_cos=0.9)}},
            "e+ e- -> tau+ tau- gamma: min_energy is 5 GeV, but the photon has at most 4.693 GeV",
        ),
        (
            "e+ e- -> mu+ mu- gamma",
            {},
            {"isr": True, "laws": {"e+ e-": Law(name="leptons-photon", min_energy=0.1, max_cos=1.0)}},
            (
                "e+ e- -> mu+ mu- gamma: with isr the law 'leptons-photon' needs a max_cos below 1; photons along the"
                " beams would be counted twice, with the matrix element and as isr"
            ),
        ),
        ("B0 -> K+ pi-", {}, {"n_threads": 0}, "simulation: n_threads is 0; it must be at least 1"),
        (
            "B0 -> K+ pi-",
            {},
            {"lifetimes": {"K+": (1.0,)}},
            "B0 -> K+ pi-: lifetimes are given for K+, which does not fly",
        ),
        (
            "B0 -> K+ pi-",
            {},
            {"lifetimes": {"B0": ()}},
            "B0 -> K+ pi-: lifetimes of B0: one to 8 positive ctau in cm",
        ),
    ],
)
def test_refused_simulations(
    beams: Beams, text: str, masses: dict[str, float], arguments: dict[str, object], reason: str
) -> None:
    """Catches a simulation that begins although it cannot mean anything."""
    keywords: dict[str, object] = {"isr": False, "n_events": 10, "seed": 1, "stream": "s", **arguments}
    topology = parse_chain(text, masses=masses, laws=keywords.pop("laws", None))  # type: ignore[arg-type]
    with pytest.raises(KinematicsError) as raised:
        simulate_chain(topology, beams, **keywords)  # type: ignore[arg-type]
    assert str(raised.value) == reason


def test_soft_photons_with_radiation_are_refused(beams: Beams) -> None:
    """Catches the infinite cross section of a soft photon that recoils against a resonance after radiation."""
    law = {"e+ e-": Law(name="photon-vector", max_cos=0.9)}
    topology = parse_chain("e+ e- -> gamma Ap", masses={"Ap": 3.0}, laws=law)
    with pytest.raises(KinematicsError) as raised:
        simulate_chain(topology, beams, isr=True, n_events=10, seed=1, stream="s")
    assert str(raised.value) == ("e+ e- -> gamma Ap: with isr the law 'photon-vector' needs a min_energy of the photon")


def test_reading_a_chain_is_light() -> None:
    """Catches an import of numba on the way of `validate`, which has to read chains."""
    code = "import sys, modelbuilder.spec.topology; print('numba' in sys.modules, 'particle' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
