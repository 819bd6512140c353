"""Productions at lowest order in the chain engine: photons, leptons and a photon, leptons of two flavours."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.integrate import quad

from modelbuilder.errors import KinematicsError
from modelbuilder.kinematics import _matrix_elements as me
from modelbuilder.kinematics import _three_body as tb
from modelbuilder.kinematics.beams import Beams
from modelbuilder.kinematics.chain import ChainEvents, ChainGenerator, ChainWeight
from modelbuilder.kinematics.processes import ThreePhotons
from modelbuilder.kinematics.response import PERFECT
from modelbuilder.kinematics.selection import PhotonSelection
from modelbuilder.kinematics.simulate import simulate_histograms
from modelbuilder.spec.topology import Law, parse_chain
from modelbuilder.theory import constants, dark_photon, lepton_pair

SYMMETRIC = Beams(electron_energy=5.29, positron_energy=5.29)
SQRT_S = 10.58
S = SQRT_S**2
MUON, TAU = constants.MUON_MASS, constants.TAU_MASS
METRIC = np.array([1.0, -1.0, -1.0, -1.0])
BORN = math.pi * constants.ALPHA**2 * constants.HBARC_SQUARED  # fb GeV^2


def generator(
    products: str, law: Law | None = None, *, beams: Beams = SYMMETRIC, isr: bool = False, **masses: float
) -> ChainGenerator:
    laws = {} if law is None else {"e+ e-": law}
    return ChainGenerator(parse_chain(f"e+ e- -> {products}", masses=masses, laws=laws), beams, isr=isr)


def weigh(chain: ChainGenerator, n_events: int = 1_000_000) -> ChainWeight:
    return chain.weigh(n_events=n_events, seed=1, stream="productions")


def events_of(chain: ChainGenerator, n_events: int = 100_000) -> ChainEvents:
    return chain.events(n_events=n_events, seed=1, stream="productions")


def in_nominal_frame(events: ChainEvents, beams: Beams) -> np.ndarray:
    """Energies and cosines of all nodes in the rest frame of the nominal beams, from products with their momenta."""
    half = 0.5 * beams.crossing_angle
    minus = beams.electron_energy * np.array([1.0, math.sin(half), 0.0, math.cos(half)])
    plus = beams.positron_energy * np.array([1.0, math.sin(half), 0.0, -math.cos(half)])
    with_minus, with_plus = (events.momenta @ (METRIC * beam) for beam in (minus, plus))
    energy = (with_minus + with_plus) / beams.sqrt_s
    return np.stack([energy, (with_plus - with_minus) / (beams.sqrt_s * energy)], axis=-1)


PHOTONS = [
    ("gamma gamma", Law(name="two-photons", min_energy=0.5, max_cos=0.95), (1, 2)),
    ("gamma gamma gamma", Law(name="three-photons", min_energy=0.2, max_cos=0.9), (1, 2, 3)),
    ("gamma A", Law(name="photon-vector", min_energy=0.2, max_cos=0.9), (1,)),
    ("mu+ mu- gamma", Law(name="leptons-photon", min_energy=0.2, max_cos=0.9), (3,)),
    ("tau- tau+ gamma", Law(name="leptons-photon", min_energy=0.2, max_cos=0.9), (3,)),
    ("e+ e- gamma", Law(name="leptons-photon", min_energy=0.2, max_cos=0.9), (3,)),
]


@pytest.mark.parametrize(("products", "law", "photons"), PHOTONS, ids=[case[0] for case in PHOTONS])
@pytest.mark.parametrize("isr", [False, True])
def test_photons_are_within_the_cuts(
    products: str, law: Law, photons: tuple[int, ...], isr: bool, real_beams: Beams
) -> None:
    """Invariant: momenta exact; cuts in the frame of the nominal beams, sharp and reached on all sides with radiation.

    Catches cuts in the frame of the collision, which an asymmetric radiation moves, and a generator that stops short.
    """
    masses = {"A": 3.0} if "A" in products else {}
    events = events_of(generator(products, law, beams=real_beams, isr=isr, **masses))
    good = events.weights > 0.0
    p = events.momenta[good]
    assert np.mean(good) > 0.5
    assert np.all(np.isfinite(events.momenta))
    assert np.all(np.isfinite(events.weights))
    assert np.all(np.abs(p[:, 0] - p[:, 1:].sum(axis=1)) <= 1e-12 * p[:, 0, :1])
    for place, node in enumerate(events.topology.nodes[1:], start=1):
        assert np.all(np.abs(p[:, place] ** 2 @ METRIC - node.mass**2) <= 1e-10 * real_beams.s)
    energy, cosine = np.moveaxis(in_nominal_frame(events, real_beams)[good][:, list(photons)], -1, 0)
    assert law.min_energy * (1 - 1e-9) <= energy.min()
    if len(events.topology.vertices[0].children) == 3:
        assert energy.min() < 1.05 * law.min_energy
    assert law.max_cos is not None
    assert cosine.max() <= law.max_cos + 1e-9
    assert cosine.min() >= -law.max_cos - 1e-9
    assert cosine.max() > law.max_cos - 0.02
    assert cosine.min() < -law.max_cos + 0.02


# ---------------------------------------------------------------------------------------------------------------------
# Two photons


def two_photons(s: float, rapidity: float) -> float:
    """Cross section with |artanh(cos)| below `rapidity`, fb: 2 pi alpha^2/s [ln((1 + c)/(1 - c)) - c], c = tanh."""
    return 2.0 * BORN / s * (2.0 * rapidity - math.tanh(rapidity)) if rapidity > 0.0 else 0.0


@pytest.mark.parametrize("max_cos", [0.5, 0.9, math.cos(math.radians(10.0))])
def test_two_photons_have_the_closed_form(max_cos: float) -> None:
    """Reference: 2 pi alpha^2/s (L - c0), as in any text; 4.5 nb within 10 to 170 degrees. Half too much or too little."""
    weight = weigh(generator("gamma gamma", Law(name="two-photons", max_cos=max_cos)))
    assert weight.weight_unit == "fb"
    assert weight.mean == pytest.approx(two_photons(S, math.atanh(max_cos)), abs=4.5 * weight.stdev)
    assert weight.stdev < 5e-4 * weight.mean


def radiation(beams: Beams) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points of a quadrature over the radiation of both beams: scales of the momenta, shapes (n, 1) and (1, n), weights."""
    b = beams.isr_beta
    nodes, weights = np.polynomial.legendre.leggauss(300)
    t, w = 0.5 * (nodes + 1), 0.5 * weights
    v, dv = 1 - t**4, w * 4 * t**3  # x = v^(2/b)
    power = 2 / b * np.log1p(-(t**4))
    x, rest = np.exp(power), -np.expm1(power)
    density = (1 + 0.375 * b - 0.5 * (2 - x) * x / v) * dv
    return rest[:, None], rest[None, :], density[:, None] * density[None, :]


def test_two_radiating_beams() -> None:
    """Reference (quadrature): with radiation both photons stay within cuts of the nominal frame: rapidities shift.

    Also the 4.99(5) nb of 10 to 170 degrees with photons above 0.15 GeV that the physics notes recall, to 3 %.
    """
    max_cos, least = math.cos(math.radians(10.0)), 0.15
    minus, plus, density = radiation(SYMMETRIC)
    shift, half = 0.5 * np.log(minus / plus), 0.5 * SQRT_S * np.sqrt(minus * plus)
    rapidity = np.maximum(math.atanh(max_cos) - np.abs(shift), 0.0)
    expected = 0.0
    for node, weight in zip(*np.polynomial.legendre.leggauss(96), strict=True):
        c = np.tanh(rapidity * node)
        softer = half * (np.cosh(shift) - np.abs(c * np.sinh(shift)))
        expected += weight * float(np.sum(density * (softer >= least) * rapidity * (1 + c**2) / (S * minus * plus)))
    weight = weigh(generator("gamma gamma", Law(name="two-photons", max_cos=max_cos, min_energy=least), isr=True))
    assert weight.mean == pytest.approx(expected * BORN, abs=4.5 * weight.stdev + 1e-3 * expected * BORN)
    assert weight.mean == pytest.approx(4.99e6, rel=0.03)


# ---------------------------------------------------------------------------------------------------------------------
# Three photons


def test_three_photons_are_alike() -> None:
    """Invariant: no order of the photons; catches one that is always the softest, or the balancing one."""
    events = events_of(generator("gamma gamma gamma", Law(name="three-photons", min_energy=0.1, max_cos=0.9)), 300_000)
    w = events.weights
    for power in (1, 2):
        for component in (0, 3):
            moments = [np.average(events.momenta[:, i, component] ** power, weights=w) for i in (1, 2, 3)]
            scale = 5.0**power
            assert np.ptp(moments) < 6.0 * scale / math.sqrt(events.effective_sample_size)
    hardest = np.argmax(events.momenta[:, 1:, 0], axis=1)
    for i in range(3):
        assert np.average(hardest == i, weights=w) == pytest.approx(1 / 3, abs=0.006)


@pytest.mark.parametrize(("min_energy", "total"), [(1.0, 10.49), (0.65, 14.22)])
def test_three_photons_of_the_notes(min_energy: float, total: float, beams: Beams) -> None:
    """Reference (direct_bkg_threegamma_computed.csv, pb): photons in the barrel of the laboratory, to 1 %."""
    chain = generator("gamma gamma gamma", Law(name="three-photons", min_energy=0.3, max_cos=0.9), beams=beams)
    events = events_of(chain, 1_000_000)
    p = events.momenta[:, 1:]
    theta = np.degrees(np.arccos(p[..., 3] / p[..., 0]))
    passed = np.all((p[..., 0] > min_energy) & (theta > 37.3) & (theta < 123.7), axis=1)
    assert np.mean(events.weights * passed) == pytest.approx(1e3 * total, rel=0.01)


@pytest.mark.parametrize("isr", [False, True])
def test_three_photons_are_those_of_the_fast_path(isr: bool, real_beams: Beams) -> None:
    """Reference: the other generator, with other maps and the same cuts; also with radiation."""
    theta = ((math.radians(37.3), math.radians(123.7)),)
    fast = simulate_histograms(
        ThreePhotons(min_energy=0.3, max_cos=0.9),
        real_beams,
        PERFECT,
        PhotonSelection(theta=theta, min_energy=0.65),
        axes={"mass2": np.linspace(0.0, 100.0, 26)},
        isr=isr,
        n_events=1_000_000,
        seed=1,
        stream="fast",
    )
    law = Law(name="three-photons", min_energy=0.3, max_cos=0.9)
    n = 500_000
    events = events_of(generator("gamma gamma gamma", law, beams=real_beams, isr=isr), n)
    p = events.momenta[:, 1:]
    cosine = p[..., 3] / p[..., 0]
    inside = (cosine > math.cos(theta[0][1])) & (cosine < math.cos(theta[0][0])) & (p[..., 0] > 0.65)
    w = events.weights * np.all(inside, axis=1)
    error = math.hypot(np.std(w) / math.sqrt(n), fast.selected_per_event_stdev)
    assert error < 0.004 * np.mean(w)
    assert abs(np.mean(w) - fast.selected_per_event) < 4.5 * error
    mass2 = np.stack([(p[:, i] + p[:, (i + 1) % 3]) ** 2 @ METRIC for i in range(3)])
    ours = np.histogram(mass2, np.linspace(0.0, 100.0, 26), weights=np.broadcast_to(w, mass2.shape))[0] / n
    theirs = fast.histograms["mass2"].values / 1_000_000
    used = theirs > 0.01 * theirs.max()
    assert ours[used] == pytest.approx(theirs[used], rel=0.05)


def test_three_photons_in_the_soft_limit() -> None:
    """Reference: a soft photon within |cos| < c0 costs 2 alpha/pi ln((1 + c0)/(1 - c0)) per e-fold of energy.

    One cross section minus the other isolates photons of 0.1 to 1 MeV, which change nothing else to 1e-4. This is what
    makes the process safe for two photons with a third one that is lost.
    """
    max_cos = 0.95
    law = Law(name="three-photons", min_energy=1e-4, max_cos=max_cos)
    one, two = (
        weigh(generator("gamma gamma gamma", Law(name=law.name, min_energy=e, max_cos=max_cos)), 2_000_000)
        for e in (1e-4, 1e-3)
    )
    rapidity = math.atanh(max_cos)
    expected = 2.0 * constants.ALPHA / math.pi * 2.0 * rapidity * math.log(10.0) * two_photons(S, rapidity)
    error = math.hypot(one.stdev, two.stdev)
    assert error < 0.004 * expected
    assert abs(one.mean - two.mean - expected) < 4.5 * error + 1e-3 * expected


def test_three_photons_sample_well() -> None:
    """Golden, with room: the weight has no peak left; catches a map that no longer follows soft or collinear photons."""
    for min_energy, max_cos in ((0.3, 0.9), (1e-3, 0.9), (0.05, 0.9999)):
        weight = weigh(
            generator("gamma gamma gamma", Law(name="three-photons", min_energy=min_energy, max_cos=max_cos))
        )
        assert weight.effective_sample_size / weight.n_events > 0.85


# ---------------------------------------------------------------------------------------------------------------------
# A photon and a vector, with radiation


@pytest.mark.parametrize(("mass", "min_energy"), [(0.5, 0.5), (4.0, 1.0), (8.0, 0.3)])
def test_photon_and_vector_with_radiation(mass: float, min_energy: float) -> None:
    """Reference (quadrature over both beams and the angle): cuts of the nominal frame, cross section at s'."""
    max_cos = 0.9
    minus, plus, density = radiation(SYMMETRIC)
    s = S * minus * plus
    x = np.minimum(mass**2 / s, 1.0 - 1e-12)
    shift = 0.5 * np.log(minus / plus)
    nodes, weights = np.polynomial.legendre.leggauss(96)
    total = np.zeros_like(s)
    for node, weight in zip(math.atanh(max_cos) * nodes, math.atanh(max_cos) * weights, strict=True):
        c = np.tanh(node - shift)
        energy = 0.5 * np.sqrt(s) * (1 - x) / (np.cosh(shift) - math.tanh(node) * np.sinh(shift))
        angle = 1 + c**2 + 4 * x / (1 - x) ** 2
        total += weight * (1 - x) / s * angle * ((energy >= min_energy) & (mass**2 < s))
    expected = float(np.sum(density * total)) / (dark_photon.cross_section(SQRT_S, mass, 1.0, max_cos) / (2 * BORN))
    law = Law(name="photon-vector", max_cos=max_cos, min_energy=min_energy)
    weight = weigh(generator("gamma A", law, isr=True, A=mass), 2_000_000)
    # the least energy cuts the quadrature off within a cell
    assert weight.mean == pytest.approx(expected, abs=4.5 * weight.stdev + 0.004 * expected)
    born = weigh(generator("gamma A", Law(name="photon-vector", max_cos=max_cos), A=mass), 100_000)
    assert born.mean == pytest.approx(1.0, abs=4.5 * born.stdev)


# ---------------------------------------------------------------------------------------------------------------------
# Leptons and a photon


@pytest.mark.parametrize("mass", [MUON, TAU])
@pytest.mark.parametrize("max_cos", [0.7, 0.99, 1.0])
def test_leptons_and_a_photon_within_angles(mass: float, max_cos: float) -> None:
    """Reference: events of all angles, of which the cut is asked; catches a wrong density of the narrower maps.

    The events of all angles are tested in `test_three_body.py` against other calculations.
    """
    n = 1_000_000
    momenta, weights = np.zeros((n, 3, 4)), np.zeros(n)
    parameters = (S, mass, constants.ELECTRON_MASS, 0.2, tb.SHARE)
    tb.fill_events(momenta, weights, 0, np.uint64(1), np.uint64(2), tb.GAMMA, parameters)
    inside = weights * (np.abs(momenta[:, 2, 3]) <= max_cos * momenta[:, 2, 0])
    name = "mu" if mass == MUON else "tau"
    chain = generator(f"{name}+ {name}- gamma", Law(name="leptons-photon", min_energy=0.2, max_cos=max_cos))
    weight = weigh(chain)
    error = math.hypot(weight.stdev, np.std(inside) / math.sqrt(n))
    assert weight.weight_unit == "fb"
    assert error < 0.005 * weight.mean
    assert abs(weight.mean - np.mean(inside)) < 4.5 * error
    assert weight.effective_sample_size / weight.n_events > 0.5


def test_electrons_and_a_photon_are_annihilation_with_radiation_of_the_beams() -> None:
    """Reference: gamma A'* with A'* -> e+e- in closed form, `theory.dark_photon`; the exchange is absent, as said."""
    chain = generator("e+ e- gamma", Law(name="leptons-photon", min_energy=0.3, max_cos=0.8))
    weight = weigh(chain)

    def integrand(t: float) -> float:
        mass = math.exp(t)
        return mass * dark_photon.lepton_pair_background(SQRT_S, mass, constants.ELECTRON_MASS, 0.8)

    low, high = math.log(2 * constants.ELECTRON_MASS), 0.5 * math.log(S - 2 * SQRT_S * 0.3)
    expected = quad(integrand, low, high, epsrel=1e-9, limit=300)[0]
    assert weight.mean == pytest.approx(expected, abs=4.5 * weight.stdev + 1e-4 * expected)


def test_muons_and_a_photon_keep_their_charge() -> None:
    """Catches mu+ and mu- in exchanged places: the interference sends mu+ and mu- to different sides."""
    law = Law(name="leptons-photon", min_energy=0.2, max_cos=0.8)
    means = []
    for products in ("mu+ mu- gamma", "mu- mu+ gamma"):
        events = events_of(generator(products, law), 400_000)
        side = events.momentum("mu-")[:, 3] - events.momentum("mu+")[:, 3] > 0.0
        means.append(np.average(np.where(side, 1.0, -1.0), weights=events.weights))
    n = 400_000
    direct, weights = np.zeros((n, 3, 4)), np.zeros(n)
    tb.fill_events(
        direct, weights, 0, np.uint64(3), np.uint64(4), tb.GAMMA, (S, MUON, constants.ELECTRON_MASS, 0.2, tb.SHARE)
    )
    weights *= np.abs(direct[:, 2, 3]) < 0.8 * direct[:, 2, 0]
    expected = np.average(np.where(direct[:, 0, 3] > direct[:, 1, 3], 1.0, -1.0), weights=weights)
    assert abs(expected) > 0.02
    assert means == pytest.approx([expected, expected], abs=0.012)


# ---------------------------------------------------------------------------------------------------------------------
# Leptons of two flavours

MIXED = {"vector": me.emu_vector, "scalar": me.emu_scalar, "pseudoscalar": me.emu_scalar}


@pytest.mark.parametrize("kind", sorted(MIXED))
@pytest.mark.parametrize(
    ("products", "mass"), [("e- mu+ X", 0.15), ("mu- e+ X", 1.0), ("e+ mu- X", 6.0), ("tau- mu+ X", 2.0)]
)
def test_leptons_of_two_flavours(kind: str, products: str, mass: float) -> None:
    """Reference: |M|^2 (tested to spinors) again from the momenta, which leaves phase space, whose volume is known.

    Catches a density of the maps that is not that of the events, l- and l+ in exchanged places, a wrong mass.
    """
    events = events_of(generator(products, Law(name=f"mixed-leptons-{kind}"), X=mass), 40_000)
    nodes = events.topology.nodes
    order = sorted((1, 2), key=lambda place: nodes[place].charge)
    masses = [nodes[place].mass for place in order]
    sign = -1.0 if kind == "pseudoscalar" else 1.0
    momenta = events.momenta[:, [*order, 3]]
    squares = np.array(
        [MIXED[kind](S, *(tuple(map(float, p)) for p in event), masses[0], sign * masses[1], mass) for event in momenta]
    )
    ratio = events.weights / squares
    assert np.all(squares > 0.0)
    low = (masses[0] + masses[1]) ** 2

    def density(s12: float) -> float:
        pair = max((s12 - low) * (s12 - (masses[0] - masses[1]) ** 2), 0.0)
        kallen = max((S - s12 - mass**2) ** 2 - 4 * s12 * mass**2, 0.0)
        return math.sqrt(kallen * pair) / s12 / (128 * math.pi**3 * S)

    expected = quad(density, low, (SQRT_S - mass) ** 2, limit=300)[0] * constants.HBARC_SQUARED / (2 * S)
    expected *= (4 * math.pi * constants.ALPHA) ** 2
    error = float(np.std(ratio)) / math.sqrt(len(ratio))
    assert error < 0.02 * expected
    assert np.mean(ratio) == pytest.approx(expected, abs=4.5 * error)
    assert events.effective_sample_size > 0.6 * len(ratio)


@pytest.mark.parametrize(
    ("kind", "code"),
    [("vector", tb.MIXED_VECTOR), ("scalar", tb.MIXED_SCALAR), ("pseudoscalar", tb.MIXED_PSEUDOSCALAR)],
)
def test_two_flavours_of_one_mass_are_one_flavour(kind: lepton_pair.Kind, code: int) -> None:
    """Reference: the limit of equal masses is sigma(l l X), by quadrature in `theory`; a factor that both tests share."""
    rng = np.random.default_rng(5)
    u = rng.random((8_000, 5))
    weights = np.array([tb.generate_mixed.py_func(*row, S, MUON, MUON, 2.0, code)[0] for row in u])
    expected = lepton_pair.cross_section(SQRT_S, MUON, 2.0, kind)
    assert np.mean(weights) == pytest.approx(expected, abs=4.5 * np.std(weights) / math.sqrt(len(u)))
    assert np.std(weights) < expected


def test_the_lighter_lepton_prefers_to_radiate() -> None:
    """Catches masses that are given to the wrong propagator: both charge states have one cross section."""
    law = Law(name="mixed-leptons-vector")
    one, two = (weigh(generator(products, law, X=0.3)) for products in ("mu+ e- X", "mu- e+ X"))
    assert abs(one.mean - two.mean) < 4.5 * math.hypot(one.stdev, two.stdev)
    events = events_of(generator("mu+ e- X", law, X=0.3), 200_000)
    near = [
        np.average((events.momenta[:, place] + events.momenta[:, 3]) ** 2 @ METRIC < 0.3, weights=events.weights)
        for place in (1, 2)
    ]
    assert near[1] > near[0]


# ---------------------------------------------------------------------------------------------------------------------
# Pieces


@pytest.mark.parametrize("bounds", [(0, 256, 1024, 5000), (0, 1, 1000, 4999, 5000)])
def test_pieces_are_bit_for_bit_the_whole(bounds: tuple[int, ...], real_beams: Beams) -> None:
    """Invariant: catches an event that depends on where a piece begins, multiple of a block or not, or on its length."""
    text = "e+ e- -> tau+ tau- gamma, tau+ -> pi+ pi+ pi- nu, tau- -> mu- alpha"
    law = Law(name="leptons-photon", min_energy=0.1, max_cos=0.9)
    topology = parse_chain(text, masses={"alpha": 0.5}, laws={"e+ e-": law})
    chain = ChainGenerator(topology, real_beams, isr=True, lifetimes={"tau-": (0.005, 0.02)})
    whole = chain.events(n_events=5000, seed=1, stream="pieces", n_threads=1)
    pieces = [
        chain.events(n_events=end - start, first_event=start, seed=1, stream="pieces", n_threads=threads)
        for (start, end), threads in zip(itertools.pairwise(bounds), (1, 2, 1, 2), strict=False)
    ]
    for name in ("momenta", "points", "proper_lengths", "weights", "base_weights"):
        assert np.array_equal(np.concatenate([getattr(piece, name) for piece in pieces]), getattr(whole, name)), name
    sums = [
        chain.weigh(n_events=end - start, first_event=start, seed=1, stream="pieces").sum_weights
        for start, end in itertools.pairwise(bounds)
    ]
    assert math.fsum(sums) == pytest.approx(math.fsum(whole.base_weights), rel=1e-12)


def test_a_stream_has_an_end() -> None:
    """Catches numbers of events that wrap around, and so a sample that begins again."""
    chain = generator("mu+ mu-")
    far = chain.events(n_events=10, first_event=2**62 - 10, seed=1, stream="end")
    near = chain.events(n_events=10, first_event=2**40, seed=1, stream="end")
    assert not np.array_equal(far.momenta, near.momenta)
    with pytest.raises(KinematicsError):
        chain.events(n_events=11, first_event=2**62 - 10, seed=1, stream="end")
