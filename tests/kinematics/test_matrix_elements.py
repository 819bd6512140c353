"""Squared matrix elements against explicit Dirac matrices, spinors and polarisation vectors; laws against integrals."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from decimal import Decimal, localcontext

import numpy as np
import pytest
from scipy.integrate import quad

from modelbuilder.kinematics import _matrix_elements as me
from modelbuilder.theory import constants

SQRT_S = 10.58
S = SQRT_S**2
MUON, TAU = 0.1056583755, 1.77693
METRIC = np.array([1.0, -1.0, -1.0, -1.0])

# ---------------------------------------------------------------------------------------------------------------------
# Dirac matrices in the Dirac representation, spinors, polarisation vectors, phase space: nothing of ours in here

_SIGMA = [np.array([[0, 1], [1, 0]]), np.array([[0, -1j], [1j, 0]]), np.array([[1, 0], [0, -1]])]
_ZERO, _ONE = np.zeros((2, 2)), np.eye(2)
GAMMA = [
    np.block([[_ONE, _ZERO], [_ZERO, -_ONE]]).astype(complex),
    *(np.block([[_ZERO, m], [-m, _ZERO]]) for m in _SIGMA),
]
GAMMA5 = 1j * GAMMA[0] @ GAMMA[1] @ GAMMA[2] @ GAMMA[3]
UNIT = np.eye(4)
LEFT, RIGHT = (UNIT - GAMMA5) / 2, (UNIT + GAMMA5) / 2

Vector = np.ndarray


def product(a: Vector, b: Vector) -> float:
    return float(np.sum(METRIC * a * b))


def slash(p: Vector) -> np.ndarray:
    return sum(METRIC[i] * p[i] * GAMMA[i] for i in range(4))


def spinors(p: Vector, mass: float, *, anti: bool = False) -> list[Vector]:
    """Two u(p), or v(p), with sum over spins u ubar = pslash + m, or pslash - m."""
    lower = 2 if anti else 0
    sign = -1.0 if anti else 1.0
    return [(slash(p) + sign * mass * UNIT)[:, lower + i] / math.sqrt(p[0] + mass) for i in range(2)]


def bar(spinor: Vector) -> Vector:
    return spinor.conj() @ GAMMA[0]


def polarisations(k: Vector, mass: float) -> list[Vector]:
    """Two transverse unit vectors, and the longitudinal one if there is a mass; contravariant."""
    n = k[1:] / np.linalg.norm(k[1:])
    first = np.cross(n, [0.3, -0.8, 0.5])
    first /= np.linalg.norm(first)
    found = [np.array([0.0, *first]), np.array([0.0, *np.cross(n, first)])]
    if mass > 0.0:
        found.append(np.array([np.linalg.norm(k[1:]), *(k[0] * n)]) / mass)
    return found


def boosted(a: Vector, frame: Vector) -> Vector:
    """`a` of the rest frame of `frame`, in the frame where that is `frame`."""
    mass = math.sqrt(product(frame, frame))
    beta_gamma = frame[1:] / mass
    along = float(a[1:] @ beta_gamma)
    return np.array(
        [(frame[0] * a[0]) / mass + along, *(a[1:] + beta_gamma * (along / (frame[0] / mass + 1.0) + a[0]))]
    )


def two_bodies(rng: np.random.Generator, parent: Vector, mass1: float, mass2: float) -> tuple[Vector, Vector]:
    mass = math.sqrt(product(parent, parent))
    energy = (mass**2 + mass1**2 - mass2**2) / (2 * mass)
    direction = rng.normal(size=3)
    momentum = math.sqrt(energy**2 - mass1**2) * direction / np.linalg.norm(direction)
    one = boosted(np.array([energy, *momentum]), parent)
    return one, parent - one


def three_bodies(rng: np.random.Generator, parent: Vector, m1: float, m2: float, m3: float) -> list[Vector]:
    mass = math.sqrt(product(parent, parent))
    pair_mass = math.sqrt(rng.uniform((m1 + m2) ** 2, (mass - m3) ** 2))
    pair, third = two_bodies(rng, parent, pair_mass, m3)
    if m3 == 0.0:
        third[0] = np.linalg.norm(third[1:])
    return [*two_bodies(rng, pair, m1, m2), third]


CENTRE = np.array([SQRT_S, 0.0, 0.0, 0.0])
MOVING = np.array([5.0, 1.0, 2.0, 3.0]) / math.sqrt(11.0)


def beams(electron_mass: float) -> tuple[Vector, Vector]:
    momentum = math.sqrt(S / 4 - electron_mass**2)
    return np.array([SQRT_S / 2, 0, 0, momentum]), np.array([SQRT_S / 2, 0, 0, -momentum])


def vertices(kind: str, k: Vector, x_mass: float) -> list[np.ndarray]:
    """One matrix per polarisation of X."""
    if kind == "scalar":
        return [UNIT]
    if kind == "pseudoscalar":
        return [1j * GAMMA5]
    return [slash(e) for e in polarisations(k, x_mass)]


def dirac_final(p1: Vector, p2: Vector, k: Vector, mass: float, x_mass: float, kind: str) -> float:
    """Spin-averaged |M|^2 of e+e- -> l- l+ X with e = coupling = 1, X from the leptons, massless electrons."""
    minus, plus = beams(0.0)
    electron = [
        [bar(v) @ GAMMA[mu] @ u for mu in range(4)] for u in spinors(minus, 0) for v in spinors(plus, 0, anti=True)
    ]
    total = 0.0
    for vertex in vertices(kind, k, x_mass):
        one = vertex @ (slash(p1 + k) + mass * UNIT) / (product(p1 + k, p1 + k) - mass**2)
        two = (-slash(p2 + k) + mass * UNIT) @ vertex / (product(p2 + k, p2 + k) - mass**2)
        for u, v in itertools.product(spinors(p1, mass), spinors(p2, mass, anti=True)):
            lepton = [bar(u) @ (one @ GAMMA[mu] + GAMMA[mu] @ two) @ v for mu in range(4)]
            for current in electron:
                total += abs(sum(METRIC[mu] * current[mu] * lepton[mu] for mu in range(4)) / S) ** 2
    return total / 4


def gamma_amplitudes(
    q1: Vector, q2: Vector, k: Vector, e: Vector, mass: float, electron_mass: float, parts: str
) -> list[complex]:
    """All sixteen spin amplitudes of e+e- -> l- l+ gamma with polarisation e; parts: "i" initial, "f" final, "if"."""
    minus, plus = beams(electron_mass)
    pair = product(q1 + q2, q1 + q2)
    me_, ml = electron_mass * UNIT, mass * UNIT
    in1 = (slash(minus - k) + me_) @ slash(e) / (-2 * product(minus, k))
    in2 = slash(e) @ (slash(k - plus) + me_) / (-2 * product(plus, k))
    out1 = slash(e) @ (slash(q1 + k) + ml) / (2 * product(q1, k))
    out2 = (-slash(q2 + k) + ml) @ slash(e) / (2 * product(q2, k))
    amplitudes = []
    for u, v in itertools.product(spinors(minus, electron_mass), spinors(plus, electron_mass, anti=True)):
        electron = [bar(v) @ GAMMA[mu] @ u for mu in range(4)]
        radiating = [bar(v) @ (GAMMA[mu] @ in1 + in2 @ GAMMA[mu]) @ u for mu in range(4)]
        for a, b in itertools.product(spinors(q1, mass), spinors(q2, mass, anti=True)):
            amplitude = 0.0j
            for mu in range(4):
                if "i" in parts:
                    amplitude += METRIC[mu] * radiating[mu] * (bar(a) @ GAMMA[mu] @ b) / pair
                if "f" in parts:
                    amplitude += METRIC[mu] * electron[mu] * (bar(a) @ (out1 @ GAMMA[mu] + GAMMA[mu] @ out2) @ b) / S
            amplitudes.append(amplitude)
    return amplitudes


def dirac_gamma(q1: Vector, q2: Vector, k: Vector, mass: float, electron_mass: float, parts: str) -> float:
    return (
        sum(
            sum(abs(a) ** 2 for a in gamma_amplitudes(q1, q2, k, e, mass, electron_mass, parts))
            for e in polarisations(k, 0.0)
        )
        / 4
    )


# ---------------------------------------------------------------------------------------------------------------------
# e+e- -> l l X

LLX = {"vector": me.ll_vector, "scalar": me.ll_scalar, "pseudoscalar": me.ll_pseudoscalar}


@pytest.mark.parametrize("kind", sorted(LLX))
@pytest.mark.parametrize(("mass", "x_mass"), [(MUON, 0.3), (MUON, 8.0), (TAU, 0.5), (TAU, 6.5), (0.0, 2.0)])
def test_llx_against_spinors(kind: str, mass: float, x_mass: float) -> None:
    """Reference: a wrong term, sign, mass or angle in |M|^2; X and beam polarisations are explicit, not -g."""
    rng = np.random.default_rng(1)
    for _ in range(5):
        p1, p2, k = three_bodies(rng, CENTRE, mass, mass, x_mass)
        expected = dirac_final(p1, p2, k, mass, x_mass, kind)
        assert LLX[kind](S, tuple(p1), tuple(p2), tuple(k), mass, x_mass) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("kind", ["vector", "scalar", "pseudoscalar"])
@pytest.mark.parametrize(("mass1", "mass2", "x_mass"), [(0.000511, MUON, 0.5), (MUON, 0.000511, 4.0), (0.9, TAU, 1.3)])
def test_two_flavours_against_spinors(kind: str, mass1: float, mass2: float, x_mass: float) -> None:
    """Reference: which mass stands in which propagator, and the longitudinal X of a current that is not conserved."""
    rng = np.random.default_rng(16)
    minus, plus = beams(0.0)
    for _ in range(3):
        p1, p2, k = three_bodies(rng, CENTRE, mass1, mass2, x_mass)
        expected = 0.0
        for vertex in vertices(kind, k, x_mass):
            one = vertex @ (slash(p1 + k) + mass2 * UNIT) / (product(p1 + k, p1 + k) - mass2**2)
            two = (-slash(p2 + k) + mass1 * UNIT) @ vertex / (product(p2 + k, p2 + k) - mass1**2)
            for a, b in itertools.product(spinors(p1, mass1), spinors(p2, mass2, anti=True)):
                lepton = [bar(a) @ (one @ GAMMA[mu] + GAMMA[mu] @ two) @ b for mu in range(4)]
                for u, v in itertools.product(spinors(minus, 0), spinors(plus, 0, anti=True)):
                    amplitude = sum(METRIC[mu] * (bar(v) @ GAMMA[mu] @ u) * lepton[mu] for mu in range(4))
                    expected += abs(amplitude / S) ** 2 / 4
        arguments = (S, tuple(p1), tuple(p2), tuple(k), mass1)
        if kind == "vector":
            found = me.emu_vector(*arguments, mass2, x_mass)
        else:
            found = me.emu_scalar(*arguments, mass2 if kind == "scalar" else -mass2, x_mass)
        assert found == pytest.approx(expected, rel=1e-8)


def angular_sum(kind: str, event: list[Vector], mass: float, x_mass: float) -> float:
    """-g_mu_nu H^mu_nu: half the sum of H^xx + H^yy with each of the three axes as the beam."""
    total = 0.0
    for turn in range(3):
        p1, p2, k = (tuple(float(x) for x in (p[0], *np.roll(p[1:], turn))) for p in event)
        total += 2.0 * S * LLX[kind](S, p1, p2, k, mass, x_mass) / 2.0
    return total


@pytest.mark.parametrize("kind", ["vector", "scalar", "pseudoscalar"])
def test_massless_limits(kind: str) -> None:
    """Reference (text books; physics notes, section 3): 8 (x1^2 + x2^2)/((1-x1)(1-x2)) and 4 x3^2/((1-x1)(1-x2))."""
    rng = np.random.default_rng(2)
    for _ in range(5):
        event = three_bodies(rng, CENTRE, 0.0, 0.0, 0.0)
        x1, x2, x3 = (2.0 * p[0] / SQRT_S for p in event)
        top = 8.0 * (x1**2 + x2**2) if kind == "vector" else 4.0 * x3**2
        assert angular_sum(kind, event, 0.0, 0.0) == pytest.approx(top / ((1 - x1) * (1 - x2)), rel=1e-9)


# ---------------------------------------------------------------------------------------------------------------------
# e+e- -> l l gamma


@pytest.mark.parametrize(("mass", "electron_mass"), [(MUON, 0.0), (TAU, 0.0), (TAU, 0.7), (MUON, 0.3), (0.3, 0.3)])
def test_radiation_of_the_beams_against_spinors(mass: float, electron_mass: float) -> None:
    """Reference: the crossed tensor, its contraction and the terms in the electron mass, which a large one shows."""
    rng = np.random.default_rng(3)
    for _ in range(4):
        q1, q2, k = three_bodies(rng, CENTRE, mass, mass, 0.0)
        expected = dirac_gamma(q1, q2, k, mass, electron_mass, "i")
        found = me.ll_gamma_initial(S, tuple(q1), tuple(q2), tuple(k), mass, electron_mass)
        assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("mass", [MUON, TAU, 4.0])
def test_ll_gamma_against_spinors(mass: float) -> None:
    """Reference: a wrong sign or mass term of the interference, which changes the charge asymmetry."""
    rng = np.random.default_rng(4)
    for _ in range(6):
        q1, q2, k = three_bodies(rng, CENTRE, mass, mass, 0.0)
        expected = dirac_gamma(q1, q2, k, mass, 0.0, "if")
        assert me.ll_gamma(S, tuple(q1), tuple(q2), tuple(k), mass, 0.0) == pytest.approx(expected, rel=1e-9)
        separate = dirac_gamma(q1, q2, k, mass, 0.0, "i") + dirac_gamma(q1, q2, k, mass, 0.0, "f")
        assert abs(expected / separate - 1.0) > 1e-6  # or the interference would not be tested


def test_massless_ll_gamma_of_the_notes() -> None:
    """Reference (physics notes, section 3): the factorised form for massless muons."""
    rng = np.random.default_rng(5)
    minus, plus = beams(0.0)
    for _ in range(5):
        q1, q2, k = three_bodies(rng, CENTRE, 0.0, 0.0, 0.0)
        current = plus / product(plus, k) - minus / product(minus, k) + q1 / product(q1, k) - q2 / product(q2, k)
        squares = sum((2 * product(p, q)) ** 2 for p in (minus, plus) for q in (q1, q2))
        expected = squares / (S * product(q1 + q2, q1 + q2)) * -product(current, current)
        assert me.ll_gamma(S, tuple(q1), tuple(q2), tuple(k), 0.0, 0.0) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("parts", ["i", "f"])
def test_ward_identity(parts: str) -> None:
    """Invariant: with k for the polarisation each half vanishes, so the reference above is gauge invariant itself."""
    rng = np.random.default_rng(6)
    q1, q2, k = three_bodies(rng, CENTRE, TAU, TAU, 0.0)
    amplitudes = gamma_amplitudes(q1, q2, k, k, TAU, 0.7, parts)
    size = max(abs(a) for e in polarisations(k, 0.0) for a in gamma_amplitudes(q1, q2, k, e, TAU, 0.7, parts))
    assert max(abs(a) for a in amplitudes) < 1e-12 * size


def test_soft_photons_factorise() -> None:
    """Reference: for a soft photon |M|^2 is -J.J times that of e+e- -> mu mu, with the mass of the muon in both."""
    rng = np.random.default_rng(7)
    minus, plus = beams(0.0)
    q1, q2 = two_bodies(rng, CENTRE, TAU, TAU)
    cosine = q1[3] / np.linalg.norm(q1[1:])
    beta2 = 1 - 4 * TAU**2 / S
    born = 1 + beta2 * cosine**2 + 4 * TAU**2 / S  # |M|^2/e^4, spin averaged
    direction = np.array([0.36, 0.48, 0.8])
    energy = 1e-6
    k = energy * np.array([1.0, *direction])
    pair = CENTRE - k
    pair_mass = math.sqrt(product(pair, pair))
    half = math.sqrt(pair_mass**2 / 4 - TAU**2) * q1[1:] / np.linalg.norm(q1[1:])
    q1 = boosted(np.array([pair_mass / 2, *half]), pair)
    q2 = pair - q1
    current = plus / product(plus, k) - minus / product(minus, k) + q1 / product(q1, k) - q2 / product(q2, k)
    found = me.ll_gamma(S, tuple(q1), tuple(q2), tuple(k), TAU, 0.0)
    assert found == pytest.approx(-product(current, current) * born, rel=1e-5)


@pytest.mark.parametrize("angle", [1e-7, 1e-5, 1e-4, 0.1, 1.5, math.pi - 1e-5])
def test_products_with_the_beams_keep_their_digits(angle: float) -> None:
    """Reference (arithmetic with 40 digits): E omega - p k_z loses eight digits at the angle m_e/E of the peak."""
    k = (3.0, 3.0 * math.sin(angle) * 0.6, 3.0 * math.sin(angle) * 0.8, 3.0 * math.cos(angle))
    found = me.beam_products(S, k, constants.ELECTRON_MASS)
    with localcontext() as context:
        context.prec = 40
        energy = Decimal(S).sqrt() / 2
        momentum = (energy**2 - Decimal(constants.ELECTRON_MASS) ** 2).sqrt()
        # the direction is that of the transverse momentum: k_z in double precision is not good enough
        omega = Decimal(k[0])
        along = (omega**2 - Decimal(k[1]) ** 2 - Decimal(k[2]) ** 2).sqrt() * (1 if k[3] > 0 else -1)
        expected = (float(energy * omega - momentum * along), float(energy * omega + momentum * along))
    assert found == pytest.approx(expected, rel=1e-12)


# ---------------------------------------------------------------------------------------------------------------------
# Two-body final states


@pytest.mark.parametrize(("electron_mass", "x_mass"), [(0.0, 2.0), (0.5, 3.0), (1.0, 0.3)])
def test_gamma_dark_photon_against_spinors(electron_mass: float, x_mass: float) -> None:
    """Reference: the law of massless electrons, and the terms that bend it over along the beams."""
    rng = np.random.default_rng(8)
    minus, plus = beams(electron_mass)
    for _ in range(3):
        k, q = two_bodies(rng, CENTRE, 0.0, x_mass)
        total = 0.0
        for e, f in itertools.product(polarisations(k, 0.0), polarisations(q, x_mass)):
            one = slash(f) @ (slash(minus - k) + electron_mass * UNIT) @ slash(e) / (-2 * product(minus, k))
            two = slash(e) @ (slash(k - plus) + electron_mass * UNIT) @ slash(f) / (-2 * product(plus, k))
            for u, v in itertools.product(spinors(minus, electron_mass), spinors(plus, electron_mass, anti=True)):
                total += abs(bar(v) @ (one + two) @ u) ** 2 / 4
        near, far = me.beam_products(S, tuple(k), electron_mass)
        assert me.gamma_vector(S, near, far, x_mass, electron_mass) == pytest.approx(total, rel=1e-9)
        if electron_mass == 0.0:
            # dsigma/dcos = e^4 |M|^2 (1 - x)/(32 pi s) in units of 2 pi alpha^2/s
            expected = total * (1 - x_mass**2 / S) * 16 * math.pi**2 / (32 * math.pi) / (2 * math.pi)
            assert me.gamma_vector_law(S, k[3] / k[0], x_mass) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("x_mass", "h_mass"), [(0.3, 0.05), (2.0, 0.5), (6.0, 3.0), (9.0, 1.0)])
def test_higgs_law_against_polarisations(x_mass: float, h_mass: float) -> None:
    """Reference: the polarisation vectors of A' summed with the electron tensor, at random angles, the integral is 1."""
    rng = np.random.default_rng(9)
    minus, plus = beams(0.0)
    ratios = []
    for _ in range(4):
        q, _ = two_bodies(rng, CENTRE, x_mass, h_mass)
        total = 0.0
        for e in polarisations(q, x_mass):
            for u, v in itertools.product(spinors(minus, 0), spinors(plus, 0, anti=True)):
                total += abs(bar(v) @ slash(e) @ u) ** 2
        ratios.append(total / me.higgs_vector_law(S, q[3] / np.linalg.norm(q[1:]), x_mass, h_mass))
    assert ratios == pytest.approx([ratios[0]] * 4, rel=1e-9)
    assert quad(lambda c: me.higgs_vector_law(S, c, x_mass, h_mass), -1, 1)[0] == pytest.approx(1.0, rel=1e-12)


def test_vector_decays_against_spinors() -> None:
    """Reference: V -> f1 f2 with two masses for any linear polarisation; its average; the laws of l l and P P."""
    rng = np.random.default_rng(10)
    mass, m1, m2 = 3.0, 0.7, 1.1
    e = np.array([0.0, 0.36, 0.48, 0.8])
    for _ in range(3):
        p1, p2 = two_bodies(rng, np.array([mass, 0, 0, 0]), m1, m2)
        total = sum(
            abs(bar(u) @ slash(e) @ v) ** 2 for u, v in itertools.product(spinors(p1, m1), spinors(p2, m2, anti=True))
        )
        assert me.vector_to_fermions(float(e[1:] @ p1[1:]), mass, m1, m2) == pytest.approx(total, rel=1e-10)
        thirds = [me.vector_to_fermions(float(p1[axis]), mass, m1, m2) for axis in (1, 2, 3)]
        assert me.vector_to_fermions_unpolarised(mass, m1, m2) == pytest.approx(np.mean(thirds), rel=1e-10)
    ratio = 0.2
    momentum = mass * math.sqrt(0.25 - ratio)
    light = mass * math.sqrt(ratio)
    average = me.vector_to_fermions_unpolarised(mass, light, light)
    for c in (-0.9, 0.1, 0.6):
        across = np.mean(
            [me.vector_to_fermions(momentum * math.sqrt(1 - c * c) * t, mass, light, light) for t in (0.6, 0.8)]
        )
        along = me.vector_to_fermions(momentum * c, mass, light, light)
        assert me.vector_to_leptons_law(c, ratio, 0.0) == pytest.approx(across / average / 2, rel=1e-10)
        assert me.vector_to_leptons_law(c, ratio, 1.0) == pytest.approx(along / average / 2, rel=1e-10)
        assert me.vector_to_leptons_law(c, ratio, 1 / 3) == pytest.approx(0.5, rel=1e-12)
        assert me.vector_to_scalars_law(c, 1 / 3) == pytest.approx(0.5, rel=1e-12)
        # the amplitude to scalars is eps . (p1 - p2)
        assert me.vector_to_scalars_law(c, 1.0) / me.vector_to_scalars_law(c, 0.0) == pytest.approx(
            2 * c * c / (1 - c * c), rel=1e-12
        )
    for law in (
        lambda c: me.vector_to_leptons_law(c, ratio, 0.3),
        lambda c: me.vector_to_scalars_law(c, 0.0),
        lambda c: me.vector_to_scalars_law(c, 1.0),
    ):
        assert quad(law, -1, 1)[0] == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("vector_axial", [(1.0, -1.0), (1.0, 1.0), (0.7, -0.4), (1.0, 0.0)])
def test_tau_to_alpha_against_traces(vector_axial: tuple[float, float]) -> None:
    """Reference: sign and size of the angular asymmetry of a polarised tau with a massive lepton and alpha."""
    vector, axial = vector_axial
    mass, lepton, alpha = TAU, 0.6, 0.5
    parent = np.array([mass, 0, 0, 0])
    p, k = two_bodies(np.random.default_rng(11), parent, lepton, alpha)
    vertex = slash(k) @ (vector * UNIT + axial * GAMMA5)
    rates = []
    for sign in (1.0, -1.0):
        spin = (slash(parent) + mass * UNIT) @ (UNIT + GAMMA5 @ slash(np.array([0, 0, 0, sign]))) / 2
        conjugate = GAMMA[0] @ vertex.conj().T @ GAMMA[0]
        rates.append(np.trace((slash(p) + lepton * UNIT) @ vertex @ spin @ conjugate).real)
    asymmetry = (rates[0] - rates[1]) / (rates[0] + rates[1]) / (p[3] / np.linalg.norm(p[1:]))
    found = me.lepton_alpha_asymmetry(mass, lepton, alpha, vector, axial)
    assert found == pytest.approx(asymmetry, rel=1e-9, abs=1e-12)
    assert me.lepton_alpha_asymmetry(mass, 0.0, alpha, 1.0, -1.0) == pytest.approx(-1.0, rel=1e-12)


# ---------------------------------------------------------------------------------------------------------------------
# Three-body decays


def four_fermion(
    lines: tuple[tuple[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]],
) -> float:
    """Tr[a V_mu b Vbar_nu] Tr[c W^mu d Wbar^nu] for lines (a, V, b), (c, W, d), vertices gamma_mu V and gamma_mu W."""
    traces = []
    for after, chiral, before in lines:
        vertex = [g @ chiral for g in GAMMA]
        conjugate = [GAMMA[0] @ v.conj().T @ GAMMA[0] for v in vertex]
        traces.append([[np.trace(after @ vertex[m] @ before @ conjugate[n]) for n in range(4)] for m in range(4)])
    one, two = (np.array(t) for t in traces)
    return float(np.einsum("m,n,mn,mn->", METRIC, METRIC, one, two).real)


@pytest.mark.parametrize("lepton_mass", [0.0, MUON, 0.9])
def test_leptonic_decay_against_traces(lepton_mass: float) -> None:
    """Reference: V - A, which neutrino goes with which lepton, the sign of the spin."""
    frame = MOVING * TAU
    nu, lepton, antinu = three_bodies(np.random.default_rng(12), frame, 0.0, lepton_mass, 0.0)
    spin = boosted(np.array([0, 0.36, 0.48, 0.8]), frame)
    second = (slash(lepton) + lepton_mass * UNIT, UNIT - GAMMA5, slash(antinu))
    for polarised in (False, True):
        tau = (slash(frame) + TAU * UNIT) @ ((UNIT + GAMMA5 @ slash(spin)) if polarised else UNIT) / 2
        expected = four_fermion(((slash(nu), UNIT - GAMMA5, tau), second)) / 2  # (G_F/sqrt 2)^2
        if polarised:
            found = me.polarised_leptonic_decay(tuple(frame), tuple(spin), TAU, tuple(nu), tuple(lepton), tuple(antinu))
        else:
            found = me.leptonic_decay(tuple(frame), tuple(nu), tuple(lepton), tuple(antinu))
        assert found == pytest.approx(expected, rel=1e-9)


def integral_over_pair(
    mass: float, single_mass: float, pair_mass2: float, m1: float, m2: float, square: Callable[..., float]
) -> float:
    """dGamma/dq^2 of parent -> single + pair(q^2), by Gauss and Legendre in the angle of the pair; spinless average.

    square(parent, single, one, two) takes tuples.
    """
    root = math.sqrt(pair_mass2)
    momentum = math.sqrt(((mass - root) ** 2 - single_mass**2) * ((mass + root) ** 2 - single_mass**2)) / (2 * mass)
    pair = np.array([math.hypot(momentum, root), 0, 0, momentum])
    single = np.array([mass, 0, 0, 0]) - pair
    inner = math.sqrt(max((pair_mass2 - (m1 + m2) ** 2) * (pair_mass2 - (m1 - m2) ** 2), 0.0)) / (2 * root)
    nodes, weights = np.polynomial.legendre.leggauss(6)  # the integrand is a polynomial of degree 2
    mean = 0.0
    for c, weight in zip(nodes, weights, strict=True):
        one = boosted(np.array([math.hypot(inner, m1), inner * math.sqrt(1 - c * c), 0, inner * c]), pair)
        mean += weight / 2 * square((mass, 0.0, 0.0, 0.0), tuple(single), tuple(one), tuple(pair - one))
    phase_space = momentum / (4 * math.pi * mass) * inner / (4 * math.pi * root) / (2 * math.pi)
    return mean * phase_space / (2 * mass)


def test_michel_spectrum() -> None:
    """Reference (Michel, rho = 3/4): 2 x^2 (3 - 2x) up to x = 1, mean 7/10, and the width G_F^2 m^5/(192 pi^3)."""
    mass = TAU

    def rate(x: float) -> float:
        q2 = mass**2 * (1 - x)  # of the neutrinos; x = 2 E/m

        def square(parent, single, one, two):  # type: ignore[no-untyped-def]
            return me.leptonic_decay(parent, one, single, two)

        return mass**2 * integral_over_pair(mass, 0.0, q2, 0.0, 0.0, square)

    width = mass**5 / (192 * math.pi**3)
    for x in (0.05, 0.3, 0.5, 0.8, 0.999):
        assert rate(x) / width == pytest.approx(2 * x**2 * (3 - 2 * x), rel=1e-9)
    assert quad(rate, 0, 1)[0] == pytest.approx(width, rel=1e-8)
    assert quad(lambda x: x * rate(x), 0, 1)[0] / width == pytest.approx(0.7, rel=1e-8)


def test_width_with_a_massive_lepton() -> None:
    """Reference: f(y) = 1 - 8y + 8y^3 - y^4 - 12 y^2 ln y for tau -> mu; the largest energy (m^2 + m_l^2)/(2m)."""
    mass, lepton = TAU, MUON

    def square(parent, single, one, two):  # type: ignore[no-untyped-def]
        return me.leptonic_decay(parent, one, single, two)

    width = quad(lambda q2: integral_over_pair(mass, lepton, q2, 0.0, 0.0, square), 1e-12, (mass - lepton) ** 2)[0]
    y = (lepton / mass) ** 2
    f = 1 - 8 * y + 8 * y**3 - y**4 - 12 * y**2 * math.log(y)
    assert width == pytest.approx(mass**5 / (192 * math.pi**3) * f, rel=1e-6)
    # q^2 = 0 is the endpoint of the lepton energy, where the rate of a massive lepton does not vanish
    assert integral_over_pair(mass, lepton, 1e-9, 0.0, 0.0, square) > 0.0


@pytest.mark.parametrize("mass", [0.3, 0.8, 1.5])
def test_neutral_lepton_decay(mass: float) -> None:
    """Reference: traces at a point, and the width of Bondarenko et al. as in the notes (b_decay, 8.7)."""
    sine2 = 0.2312
    left, right = sine2 - 0.5, sine2
    frame = MOVING * mass
    nu, minus, plus = three_bodies(np.random.default_rng(13), frame, 0.0, MUON, MUON)
    lines = (
        (slash(nu), LEFT, (slash(frame) + mass * UNIT) / 2),
        (slash(minus) + MUON * UNIT, left * LEFT + right * RIGHT, slash(plus) - MUON * UNIT),
    )
    point = me.neutral_lepton_decay(tuple(frame), tuple(nu), tuple(minus), tuple(plus), MUON, left, right)
    assert point == pytest.approx(8 * four_fermion(lines), rel=1e-9)  # (2 sqrt 2 G_F)^2

    def square(parent, single, one, two):  # type: ignore[no-untyped-def]
        return me.neutral_lepton_decay(parent, single, one, two, MUON, left, right)

    low, high = 4 * MUON**2, mass**2
    width = quad(lambda q2: integral_over_pair(mass, 0.0, q2, MUON, MUON, square), low, high, epsrel=1e-9)[0]
    x = MUON / mass
    root = math.sqrt(1 - 4 * x**2)
    logarithm = math.log((1 - 3 * x**2 - (1 - x**2) * root) / (x**2 * (1 + root)))
    c1, c2 = (1 - 4 * sine2 + 8 * sine2**2) / 4, sine2 * (2 * sine2 - 1) / 2
    one = (1 - 14 * x**2 - 2 * x**4 - 12 * x**6) * root + 12 * x**4 * (x**4 - 1) * logarithm
    two = x**2 * (2 + 10 * x**2 - 12 * x**4) * root + 6 * x**4 * (1 - 2 * x**2 + 2 * x**4) * logarithm
    assert width == pytest.approx(mass**5 / (192 * math.pi**3) * (c1 * one + 4 * c2 * two), rel=1e-6)


def test_heavy_to_light_pair() -> None:
    """Reference: traces at a point; the width 4 eps^2 alpha alpha_D D^5/(15 pi m^4) for a small splitting D."""
    m2, m1, lepton, mediator2 = 1.5, 0.9, 0.1, 9.0
    frame = MOVING * m2
    p1, k1, k2 = three_bodies(np.random.default_rng(14), frame, m1, lepton, lepton)
    lines = (
        (slash(p1) + m1 * UNIT, UNIT, (slash(frame) + m2 * UNIT) / 2),
        (slash(k1) + lepton * UNIT, UNIT, slash(k2) - lepton * UNIT),
    )
    expected = four_fermion(lines) / (product(k1 + k2, k1 + k2) - mediator2) ** 2
    found = me.heavy_to_light_pair(tuple(frame), tuple(p1), tuple(k1), tuple(k2), lepton, mediator2)
    assert found == pytest.approx(expected, rel=1e-9)

    split = 1e-3

    def square(parent, single, one, two):  # type: ignore[no-untyped-def]
        return me.heavy_to_light_pair(parent, single, one, two, 0.0, mediator2)

    width = quad(lambda q2: integral_over_pair(m1 + split, m1, q2, 0.0, 0.0, square), 0, split**2, epsrel=1e-9)[0]
    # e^2 eps^2 g_D^2 = 16 pi^2 alpha alpha_D eps^2
    assert 16 * math.pi**2 * width == pytest.approx(4 * split**5 / (15 * math.pi * mediator2**2), rel=3e-3)


def test_compiled_and_interpreted_agree() -> None:
    """Catches code that means something else to numba than to Python, and shows the lines to the coverage."""
    event = three_bodies(np.random.default_rng(15), CENTRE, TAU, TAU, 0.0)
    q1, q2, k = (tuple(float(x) for x in p) for p in event)
    compiled = me.ll_gamma(S, q1, q2, k, TAU, constants.ELECTRON_MASS)
    assert me.ll_gamma.py_func(S, q1, q2, k, TAU, constants.ELECTRON_MASS) == pytest.approx(compiled, rel=1e-12)
    assert me.flat() == 1.0
