"""Inelastic dark matter with a dark Higgs: width of chi2 from the trace, its limits, and the models."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from modelbuilder.errors import KinematicsError
from modelbuilder.theory import constants, dark_higgs, dark_photon, dark_scalar, inelastic_dark_matter
from modelbuilder.theory.models import MODELS, Parameters

SQRT_S = 10.58
ELECTRON, MUON = constants.ELECTRON_MASS, constants.MUON_MASS

# Dirac matrices in the chiral basis
_SIGMA = (np.eye(2), np.array([[0, 1], [1, 0]]), np.array([[0, -1j], [1j, 0]]), np.array([[1, 0], [0, -1]]))
GAMMA = [np.block([[np.zeros((2, 2)), s], [s if i == 0 else -s, np.zeros((2, 2))]]) for i, s in enumerate(_SIGMA)]
METRIC = (1.0, -1.0, -1.0, -1.0)
ONE = np.eye(4)


def slashed(p: np.ndarray) -> np.ndarray:
    return sum(METRIC[i] * p[i] * GAMMA[i] for i in range(4))


def width_from_the_trace(mass: float, mass1: float, mass2: float, lepton: float) -> float:
    """For eps = alpha_D = 1: the spin sum with explicit matrices over the Dalitz plot, chi2 at rest."""
    nodes, weights = np.polynomial.legendre.leggauss(24)

    def square(s12: float, cosine: float) -> float:
        energy1 = (mass2**2 + mass1**2 - s12) / (2 * mass2)
        momentum = math.sqrt(energy1**2 - mass1**2)
        energy = math.sqrt(s12) / 2
        p = math.sqrt(energy**2 - lepton**2)
        gamma, boost = (mass2 - energy1) / math.sqrt(s12), momentum / math.sqrt(s12)
        sine = math.sqrt(1 - cosine**2)
        minus, plus = (
            np.array([gamma * energy + boost * q * cosine, q * sine, 0, gamma * q * cosine + boost * energy])
            for q in (p, -p)
        )
        light, heavy = np.array([energy1, 0, 0, -momentum]), np.array([mass2, 0, 0, 0])
        total = 0.0
        for i, j in itertools.product(range(4), repeat=2):
            one = (slashed(light) + mass1 * ONE) @ GAMMA[i] @ (slashed(heavy) + mass2 * ONE) @ GAMMA[j]
            two = (slashed(minus) + lepton * ONE) @ GAMMA[i] @ (slashed(plus) - lepton * ONE) @ GAMMA[j]
            total += METRIC[i] * METRIC[j] * (np.trace(one) * np.trace(two)).real
        # spins of chi2, couplings g_D^2 e^2
        return 0.5 * (4 * math.pi) ** 2 * constants.ALPHA * total / (s12 - mass**2) ** 2

    low, high, total = 4 * lepton**2, (mass2 - mass1) ** 2, 0.0
    for x, weight in zip(nodes, weights, strict=True):
        # roots at both ends
        angle = 0.25 * math.pi * (x + 1)
        s12 = low + (high - low) * math.sin(angle) ** 2
        energy1 = (mass2**2 + mass1**2 - s12) / (2 * mass2)
        speed, momentum = math.sqrt(1 - low / s12), math.sqrt(energy1**2 - mass1**2)
        inner = sum(w * square(s12, c) for c, w in zip(nodes, weights, strict=True)) / 2
        phase_space = speed / (8 * math.pi) * momentum / (4 * math.pi * mass2) / (2 * math.pi)
        total += 0.25 * math.pi * weight * (high - low) * math.sin(2 * angle) * inner * phase_space
    return total / (2 * mass2)


@pytest.mark.parametrize(
    ("mass", "mass1", "mass2", "lepton"),
    [(3.0, 1.0, 1.4, MUON), (1.8, 0.5, 1.2, MUON), (3.0, 1.0, 2.2, 0.3), (1.5, 0.5, 0.55, 0.01)],
)
def test_width_is_the_integral_of_the_trace(mass: float, mass1: float, mass2: float, lepton: float) -> None:
    """Reference: explicit matrices; catches the sign of m1 m2, which says vector or axial, and the propagator."""
    ours = inelastic_dark_matter._integral(
        mass, mass1, mass2, 2 * lepton, lambda q: dark_photon.lepton_width(q, lepton, 1.0)
    )
    assert ours == pytest.approx(width_from_the_trace(mass, mass1, mass2, lepton), rel=1e-6, abs=0)
    if lepton == MUON:
        assert inelastic_dark_matter.widths(mass, mass1, mass2, 1.0, 1.0).muons == pytest.approx(ours, rel=1e-12)


@pytest.mark.parametrize(("mass1", "splitting", "least"), [(100.0, 0.3, 0.99), (1e4, 0.5, 0.999)])
def test_small_splittings(mass1: float, splitting: float, least: float) -> None:
    """Closed limit: 4 eps^2 alpha alpha_D D^5/(15 pi m^4) for m_e << D << m1, from below."""
    exact = inelastic_dark_matter.widths(3 * mass1, mass1, mass1 + splitting, 1e-3, 0.1).electrons
    limit = dark_photon.inelastic_decay_width(3 * mass1, mass1, mass1 + splitting, 1e-3, 0.1)
    assert least < exact / limit < 1.0


@pytest.mark.parametrize("ratio", [0.1, 0.2, 0.4])
def test_where_the_limit_fails(ratio: float) -> None:
    """Reference (notes, section 8.6): c tau at eps = 1e-3, alpha_D = 0.1, m = 3 m1 are those of the limit; the exact width to electrons is lower."""
    for mass1, metres in ((1.0, {0.1: 26, 0.2: 0.81, 0.4: 0.025}), (0.5, {0.1: 52, 0.2: 1.6, 0.4: 0.050})):
        limit = dark_photon.inelastic_decay_width(3 * mass1, mass1, (1 + ratio) * mass1, 1e-3, 0.1)
        assert constants.HBARC / limit / 100 == pytest.approx(metres[ratio], rel=0.02)
        exact = inelastic_dark_matter.widths(3 * mass1, mass1, (1 + ratio) * mass1, 1e-3, 0.1)
        # 1 - 3 D/(2 m1) is the first term of a series, so the bounds are wide
        assert exact.electrons / limit == pytest.approx(1 - 1.5 * ratio + 1.5 * ratio**2, abs=0.03)
        assert (exact.muons > 0.0) == (ratio * mass1 > 2 * MUON)


def test_thresholds_of_chi2() -> None:
    """Catches a decay that is open without room for it; the width scales as eps^2 alpha_D."""
    closed = inelastic_dark_matter.widths(3.0, 1.0, 1.0 + 2 * ELECTRON * 0.999, 1.0, 1.0)
    assert closed.total == 0.0
    assert inelastic_dark_matter.decay_length(3.0, 1.0, 1.0, 1.0, 1.0) == math.inf
    below, above = (inelastic_dark_matter.widths(3.0, 1.0, 1.0 + 2 * MUON * x, 1.0, 1.0) for x in (0.9999, 1.01))
    assert below.muons == 0.0
    assert 0.0 < above.muons < 1e-3 * above.electrons
    one, two = (inelastic_dark_matter.decay_length(3.0, 1.0, 1.4, *c) for c in ((1e-3, 0.1), (2e-3, 0.3)))
    assert one == pytest.approx(12 * two, rel=1e-12)
    with pytest.raises(ValueError, match="difference must be less than"):
        inelastic_dark_matter.widths(0.3, 1.0, 1.4, 1.0, 1.0)


def test_dark_photons_go_to_dark_matter() -> None:
    """By hand: alpha_D against eps^2 alpha, so that BR is 1 to 1e-3 where eps is 1e-2; closed below threshold."""
    assert 0.999 < inelastic_dark_matter.dark_fraction(3.0, 1.0, 1.4, 1e-2, 0.1) < 1.0
    assert inelastic_dark_matter.dark_fraction(2.3, 1.0, 1.4, 1e-2, 0.1) == 0.0


@pytest.mark.parametrize(
    ("mass", "higgs", "printed"), [(3.0, 0.5, 5.2), (3.0, 1.0, 5.1), (6.0, 1.0, 16), (6.0, 2.0, 15)]
)
def test_production(mass: float, higgs: float, printed: float) -> None:
    """Reference (notes, section 8.6): fb at eps = 1e-3, alpha_D = 0.1, unit charge, two digits."""
    found = dark_higgs.cross_section(SQRT_S, mass, higgs, 1e-7)
    assert abs(found - printed) <= 0.51 * 10.0 ** (math.floor(math.log10(printed)) - 1)


GIVEN: dict[str, float | str] = {
    "alpha_d": 0.1,
    "m_dark_photon": 3.0,
    "m_chi1": 1.0,
    "splitting": 0.4,
    "final": "muons",
    "higgs_charge": "one",
    "chi2_lifetime": 2.0,
    "chi2_reach": 50.0,
}
MIXING: Parameters = {**GIVEN, "epsilon": 1e-3}
EPSILON: Parameters = {**GIVEN, "sin_theta": 1e-4}


def mixing(higgs: float = 0.5, coupling: float = 1e-4, **changed: float | str) -> float:
    return MODELS["inelastic-dark-higgs"].rate(SQRT_S, (higgs,), coupling, {**MIXING, **changed})


def of_epsilon(epsilon: float = 1e-3, **changed: float | str) -> float:
    return MODELS["inelastic-dark-higgs-epsilon"].rate(SQRT_S, (0.5,), epsilon, {**EPSILON, **changed})


def test_rate_is_a_product() -> None:
    """Reference: its factors; 1 for chi2 where it has the lifetime of the simulation; theta drops out; charge two gives four times."""
    own = inelastic_dark_matter.decay_length(3.0, 1.0, 1.4, 1e-3, 0.1)
    found = inelastic_dark_matter.widths(3.0, 1.0, 1.4, 1e-3, 0.1)
    expected = dark_higgs.cross_section(SQRT_S, 3.0, 0.5, 1e-7) * found.electrons / found.total
    expected *= dark_scalar.fraction(0.5, "muons")
    assert mixing(chi2_lifetime=own) == pytest.approx(expected, rel=1e-6)
    assert mixing(coupling=0.3) == mixing(coupling=1e-6) == of_epsilon()
    assert mixing(higgs_charge="two") == pytest.approx(4 * mixing(), rel=1e-12)
    pions, pions_and_muons = mixing(final="pions"), mixing(final="all")
    assert pions + mixing() < pions_and_muons


def test_lifetime_of_chi2() -> None:
    """Closed limits: a long-lived chi2 is seen as 1/c tau says, whatever the reach; one that decays at once all of the time."""
    own = inelastic_dark_matter.decay_length(3.0, 1.0, 1.4, 1e-6, 0.1)
    assert own > 1e5
    for reach in (1.0, 30.0):
        ratio = of_epsilon(1e-6, chi2_lifetime=2 * own, chi2_reach=reach) / of_epsilon(
            1e-6, chi2_lifetime=own, chi2_reach=reach
        )
        assert ratio == pytest.approx(2.0, rel=1e-3)
    assert of_epsilon(2e-6) == pytest.approx(16 * of_epsilon(1e-6), rel=1e-3)
    assert of_epsilon(0.02) == pytest.approx(4 * of_epsilon(0.01), rel=1e-3)


def test_where_there_is_no_signal() -> None:
    """Catches a rate of decays that are closed: A' to dark matter, h' not to dark matter, chi2 to electrons, production."""
    assert mixing() > 0.0
    assert mixing(m_dark_photon=2.4) == 0.0
    assert mixing(higgs=2.0, final="all") == 0.0
    assert mixing(higgs=1.999, final="all") > 0.0
    assert mixing(splitting=1e-3) == 0.0
    assert mixing(m_dark_photon=10.2) == 0.0
    assert mixing(higgs=0.2) == 0.0
    with pytest.raises(KinematicsError, match=r"known up to 4\.8"):
        mixing(higgs=5.0, m_chi1=2.55, m_dark_photon=5.55)


def test_couplings_from_limits() -> None:
    """By hand: with theta the rate stays and the lifetime changes, so that edges are lifetimes; with epsilon the reverse."""
    model = MODELS["inelastic-dark-higgs"]
    unit = dark_scalar.decay_length(0.5, 1.0)
    window = 0.5 * mixing()
    found = model.excluded(SQRT_S, (0.5,), lambda t: window if 0.01 <= t <= 100 else math.inf, MIXING)
    assert found.intervals == (
        (pytest.approx(math.sqrt(unit / 100), rel=1e-9), pytest.approx(math.sqrt(unit / 0.01), rel=1e-9)),
    )
    assert model.excluded(SQRT_S, (0.5,), lambda t: 4 * window, MIXING).intervals == ()
    other = MODELS["inelastic-dark-higgs-epsilon"]
    flight = dark_scalar.decay_length(0.5, 1e-4)
    found = other.excluded(SQRT_S, (0.5,), lambda t: of_epsilon(3e-4) * t / flight, EPSILON)
    assert found.lower == pytest.approx(3e-4, rel=1e-9)
    assert found.upper is None
