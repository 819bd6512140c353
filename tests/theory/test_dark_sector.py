"""Dark photon, dark Higgs, darkonium, Z', leptophilic scalar: tables of the physics notes, integrals, inverses."""

from __future__ import annotations

import csv
import itertools
import math
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from particle import Particle
from scipy.integrate import quad

from modelbuilder.errors import KinematicsError
from modelbuilder.kinematics import _matrix_elements as me
from modelbuilder.theory import (
    constants,
    dark_higgs,
    dark_photon,
    darkonium,
    lepton_pair,
    leptophilic_scalar,
    z_prime,
)

DATA = Path(__file__).parent / "data"
SQRT_S = 10.58
MUON, TAU = constants.MUON_MASS, constants.TAU_MASS


def read(path: Path) -> list[dict[str, str]]:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return list(csv.DictReader(lines))


def agrees(found: float, printed: str, slack: float = 1.02) -> bool:
    """Whether `found` would be printed so: within half a unit of the last digit, times a slack for its own rounding."""
    exponent = Decimal(printed).as_tuple().exponent
    assert isinstance(exponent, int)
    return abs(found - float(printed)) <= slack * 0.5 * 10.0**exponent


def significant(found: float, printed: str, digits: int) -> bool:
    """The same for a number printed with `digits` significant digits, of which zeros at the end may be missing."""
    size = float(printed)
    if size == 0.0:
        return found == 0.0
    return abs(found - size) <= 1.02 * 0.5 * 10.0 ** (math.floor(math.log10(abs(size))) - digits + 1)


def test_masses() -> None:
    """Reference (PDG by way of `particle`): a slip in a digit or a unit, or a new table of masses."""
    for identifier, mass in ((11, constants.ELECTRON_MASS), (13, MUON), (15, TAU)):
        assert Particle.from_pdgid(identifier).mass * 1e-3 == pytest.approx(mass, rel=1e-7)


# ---------------------------------------------------------------------------------------------------------------------
# Dark photon


@pytest.mark.parametrize(("max_cos", "column"), [(0.6, "c06"), (0.8, "c08"), (0.9, "c09")])
def test_gamma_dark_photon_table(max_cos: float, column: str) -> None:
    """Reference (notes, computed): a lost factor or power of 1 - m^2/s; five printed digits."""
    rows = read(DATA / "gamma_vector_cross_section.csv")
    assert len(rows) == 29
    for row in rows:
        found = dark_photon.cross_section(SQRT_S, float(row["m_GeV"]), 1.0, max_cos)
        assert significant(found, row[f"sigma_gammaAprime_fb_per_eps2_{column}"], 5), row


@pytest.mark.parametrize("mass", [0.02, 1.0, 6.0, 10.0])
def test_gamma_dark_photon_is_the_integral_of_the_law(mass: float) -> None:
    """Reference: the closed form to 1e-9 of the integral of the angular law, which is tested against spinors."""
    s = SQRT_S**2
    unit = 2 * math.pi * constants.ALPHA**2 / s * constants.HBARC_SQUARED
    integral = quad(lambda c: me.gamma_vector_law(s, c, mass), -0.8, 0.8, epsrel=1e-12)[0]
    assert dark_photon.cross_section(SQRT_S, mass, 0.3, 0.8) == pytest.approx(0.09 * unit * integral, rel=1e-9)


@pytest.mark.parametrize("mass", [0.02, 1.0, 6.0, 10.0])
def test_total_is_the_integral_with_the_electron_mass(mass: float) -> None:
    """Reference: the exact |M|^2 with the electron mass, in rapidity; a wrong -1 beside the logarithm is 5 %."""
    s = SQRT_S**2
    omega = (s - mass**2) / (2 * SQRT_S)
    velocity = math.sqrt(1 - 4 * constants.ELECTRON_MASS**2 / s)

    def integrand(y: float) -> float:
        near, far = (0.5 * SQRT_S * omega * 2 / (1 + math.exp(sign * 2 * y)) for sign in (1, -1))
        square = me.gamma_vector(s, near, far, mass, constants.ELECTRON_MASS)
        return square / math.cosh(y) ** 2 / velocity

    top = math.atanh(velocity)
    integral = sum(quad(integrand, a, b, epsrel=1e-11)[0] for a, b in ((-top, -5), (-5, 0), (0, 5), (5, top)))
    e4 = (4 * math.pi * constants.ALPHA) ** 2
    expected = e4 * integral * (1 - mass**2 / s) / (32 * math.pi * s) * constants.HBARC_SQUARED
    assert dark_photon.total_cross_section(SQRT_S, mass, 1.0) == pytest.approx(expected, rel=1e-6)
    assert dark_photon.total_cross_section(SQRT_S, mass, 2.0) == pytest.approx(4 * expected, rel=1e-6)


def test_dark_photon_branching_fractions() -> None:
    """Reference (Darkcast, by way of the notes): lepton widths, thresholds, the hadronic width put together again.

    The table is reproduced to its five digits with a rounded muon mass and an older tau mass; ours differ by 3e-4 near
    threshold.
    """
    rows = read(Path(dark_photon.__file__).parent / "data" / dark_photon.TABLE)
    assert len(rows) > 60
    for row in rows:
        mass = float(row["m_GeV"])
        electrons, muons, taus = (
            dark_photon.lepton_width(mass, m, 1.0) for m in (constants.ELECTRON_MASS, 0.10566, 1.77682)
        )
        total = electrons + muons + taus + dark_photon.hadron_width(mass, 1.0)
        # hadrons enter as a product of two rounded numbers, and the width has five digits
        assert total == pytest.approx(float(row["Gamma_total_eps1_GeV"]), rel=5e-5), row
        for width, column in ((electrons, "BR_ee"), (muons, "BR_mumu"), (taus, "BR_tautau")):
            assert width / total == pytest.approx(float(row[column]), abs=1.2e-5), row
        found = dark_photon.widths(mass, 1e-3)
        assert found.total == pytest.approx(1e-6 * total, rel=3e-4)
        parts = (found.electrons, found.muons, found.taus, found.hadrons)
        ours = (electrons, muons, taus, dark_photon.hadron_width(mass, 1.0))
        assert parts == pytest.approx([1e-6 * width for width in ours], rel=1e-3)


def test_hadronic_width_between_and_beyond_the_points() -> None:
    """Catches an interpolation that steps, hadrons below the lightest, and a width that grows out of the table."""
    one, two = dark_photon.hadron_width(4.0, 1.0), dark_photon.hadron_width(4.5, 1.0)
    assert dark_photon.hadron_width(4.1, 1.0) == pytest.approx(0.8 * one + 0.2 * two, rel=1e-12)
    assert dark_photon.hadron_width(0.25, 1.0) == 0.0
    assert dark_photon.hadron_width(0.01, 1.0) == 0.0
    ratios = [dark_photon.hadron_width(m, 1.0) / m for m in (10.2, 10.3, 11.0)]
    assert ratios == pytest.approx([ratios[0]] * 3, rel=1e-12)
    with pytest.raises(KinematicsError, match=r"known up to 11 GeV"):
        dark_photon.hadron_width(11.1, 1.0)


def test_dark_photon_flight() -> None:
    """Reference: at 0.1 GeV, eps = 1e-4, only electrons: hbar c/(alpha eps^2 m/3) is 80.9 micrometres."""
    length = dark_photon.decay_length(0.1, 1e-4)
    assert length == pytest.approx(1.973269804e-14 * 3 * 137.036 / (1e-8 * 0.1), rel=1e-6)


@pytest.mark.parametrize("mass", [2.0, 5.0])
def test_dark_widths_from_matrix_elements(mass: float) -> None:
    """Reference: Gamma = |M|^2 p/(8 pi m^2) with the |M|^2 that is tested against spinors; equal masses as a limit."""
    m1, m2, dark_alpha = 0.3, 0.9, 0.1
    kallen = (mass**2 - (m1 + m2) ** 2) * (mass**2 - (m1 - m2) ** 2)
    momentum = math.sqrt(kallen) / (2 * mass)
    square = me.vector_to_fermions_unpolarised(mass, m1, m2) * 4 * math.pi * dark_alpha
    expected = square * momentum / (8 * math.pi * mass**2)
    assert dark_photon.inelastic_width(mass, m1, m2, dark_alpha) == pytest.approx(expected, rel=1e-10)
    equal = dark_photon.inelastic_width(mass, m1, m1, dark_alpha)
    assert dark_photon.dirac_width(mass, m1, dark_alpha) == pytest.approx(equal, rel=1e-12)
    # the A' couples to leptons as to chi, with eps^2 alpha
    lepton = dark_photon.lepton_width(mass, MUON, 1e-3)
    assert dark_photon.dirac_width(mass, MUON, 1e-6 * constants.ALPHA) == pytest.approx(lepton, rel=1e-12)
    # two scalars: sum over polarisations |eps.(p1 - p2)|^2 = 4 p^2, a third of it
    p = math.sqrt(mass**2 / 4 - m1**2)
    scalars = 4 * math.pi * dark_alpha * 4 * p**2 / 3 * p / (8 * math.pi * mass**2)
    assert dark_photon.scalar_width(mass, m1, dark_alpha) == pytest.approx(scalars, rel=1e-12)
    for closed in (dark_photon.dirac_width, dark_photon.scalar_width):
        assert closed(1.0, 0.5, dark_alpha) == 0.0
    assert dark_photon.inelastic_width(1.0, 0.4, 0.6, dark_alpha) == 0.0


def test_inelastic_lifetime_of_the_notes() -> None:
    """Reference (notes, b_decay 8.6): c tau at eps = 1e-3, alpha_D = 0.1, m_A' = 3 m1 for three splittings."""
    for m1, split, metres in (
        (1.0, 0.1, 26.0),
        (1.0, 0.2, 0.81),
        (1.0, 0.4, 0.025),
        (0.5, 0.05, 52.0),
        (0.5, 0.1, 1.6),
    ):
        width = dark_photon.inelastic_decay_width(3 * m1, m1, m1 + split, 1e-3, 0.1)
        assert constants.HBARC / width / 100 == pytest.approx(metres, rel=0.03)


def test_lepton_pair_background_is_a_sum_of_dark_photons() -> None:
    """Reference (arXiv:0906.0580): S/B = 3 pi m eps^2 BR/(2 alpha dm) for a light lepton."""
    mass, window, epsilon = 1.0, 0.01, 1e-3
    signal = dark_photon.cross_section(SQRT_S, mass, epsilon, 0.9)
    background = dark_photon.lepton_pair_background(SQRT_S, mass, constants.ELECTRON_MASS, 0.9) * window
    expected = 3 * math.pi * mass * epsilon**2 / (2 * constants.ALPHA * window)
    assert signal / background == pytest.approx(expected, rel=1e-6)
    assert dark_photon.lepton_pair_background(SQRT_S, 0.2, MUON, 0.9) == 0.0


# ---------------------------------------------------------------------------------------------------------------------
# Dark Higgs and darkonium


def test_dark_higgsstrahlung_table() -> None:
    """Reference (notes, computed): the threshold factor, 12 m_A'^2/s, the propagator; five printed digits."""
    rows = read(DATA / "dark_higgsstrahlung_cross_section.csv")
    assert len(rows) > 150
    for row in rows:
        found = dark_higgs.cross_section(SQRT_S, float(row["m_Aprime_GeV"]), float(row["m_hprime_GeV"]), 1.0)
        assert significant(found, row["sigma_fb_per_eps2_alphaD"], 5), row


@pytest.mark.parametrize(("mass", "higgs"), [(0.3, 0.05), (4.0, 5.0), (10.0, 0.5)])
def test_dark_higgs_angular_density(mass: float, higgs: float) -> None:
    """Reference: the kernel's law, tested against spinors; the integral of the density is 1."""
    for cosine in (-0.9, 0.0, 0.4):
        kernel = me.higgs_vector_law(SQRT_S**2, cosine, mass, higgs)
        assert dark_higgs.angular_density(SQRT_S, mass, higgs, cosine) == pytest.approx(kernel, rel=1e-10)
    assert quad(lambda c: dark_higgs.angular_density(SQRT_S, mass, higgs, c), -1, 1)[0] == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize(("mass", "higgs"), [(2.0, 0.5), (6.0, 3.0)])
def test_dark_higgs_cross_section_from_polarisations(mass: float, higgs: float) -> None:
    """Reference: normalisation. L = g_D m_A' h' A'^2, so |M|^2 = e^2 eps^2 g_D^2 m^2 4 (-g L)/(s - m^2)^2, from the sum
    over polarisations of A' at each angle."""
    s = SQRT_S**2
    momentum = math.sqrt((s - (mass + higgs) ** 2) * (s - (mass - higgs) ** 2)) / (2 * SQRT_S)

    def square(cosine: float) -> float:
        # electron tensor, spin averaged, on a unit vector e: s/2 (e_x^2 + e_y^2); A' has three, two across its flight
        tensor = s / 2 * ((1 + cosine**2) + (1 - cosine**2) * (momentum**2 + mass**2) / mass**2)
        couplings = (4 * math.pi) ** 2 * constants.ALPHA
        return couplings * (2 * mass) ** 2 * tensor / (s - mass**2) ** 2

    integral = quad(square, -1, 1)[0] * momentum / (16 * math.pi * s * SQRT_S)
    expected = integral * constants.HBARC_SQUARED
    assert dark_higgs.cross_section(SQRT_S, mass, higgs, 1.0) == pytest.approx(expected, rel=1e-9)


def test_darkonium_is_a_dark_photon_with_another_mixing() -> None:
    """Reference (notes, section 10): eps_eff^2 = eps^2 alpha_D^4/4 [m_Y^2/(m_Y^2 - m_A'^2)]^2."""
    factor = 0.5**4 / 4 * (4.0 / 3.0) ** 2
    expected = factor * dark_photon.cross_section(SQRT_S, 2.0, 1e-3, 0.9)
    assert darkonium.cross_section(SQRT_S, 2.0, 1.0, 1e-3, 0.5, 0.9) == pytest.approx(expected, rel=1e-12)


# ---------------------------------------------------------------------------------------------------------------------
# l l X


COLUMNS = {
    "sigma_mumuV_fb_per_g2": (MUON, "vector"),
    "sigma_mumuS_fb_per_y2": (MUON, "scalar"),
    "sigma_mumuP_fb_per_y2": (MUON, "pseudoscalar"),
    "sigma_tautauV_fb_per_g2": (TAU, "vector"),
    "sigma_tautauS_fb_per_y2": (TAU, "scalar"),
    "sigma_tautauP_fb_per_y2": (TAU, "pseudoscalar"),
}


@pytest.mark.parametrize("column", COLUMNS)
def test_llx_table(column: str) -> None:
    """Reference (notes, computed by two-dimensional quadrature): every mass, to the six printed digits."""
    lepton_mass, kind = COLUMNS[column]
    rows = read(DATA / "lepton_pair_cross_section.csv")
    assert len(rows) == 52
    for row in rows:
        found = lepton_pair.cross_section(SQRT_S, lepton_mass, float(row["m_X_GeV"]), kind)  # type: ignore[arg-type]
        assert significant(found, row[column], 6), (row["m_X_GeV"], found, row[column])


def test_llx_table_of_the_leptophilic_scalar() -> None:
    """Reference: y = xi m_l/v in the two columns per xi^2, and g' as the coupling of the Z'."""
    for row in read(DATA / "lepton_pair_cross_section.csv"):
        mass = float(row["m_X_GeV"])
        assert significant(leptophilic_scalar.cross_section(SQRT_S, mass, 1.0), row["sigma_tautauphiL_fb_per_xi2"], 6)
        muons = leptophilic_scalar.cross_section(SQRT_S, mass, 1.0, MUON)
        assert significant(muons, row["sigma_mumuS_fb_per_xi2"], 6)
        assert significant(z_prime.cross_section(SQRT_S, mass, 1.0), row["sigma_mumuV_fb_per_g2"], 6)


@pytest.mark.parametrize("kind", ["vector", "scalar", "pseudoscalar"])
@pytest.mark.parametrize(("lepton", "mass"), [(MUON, 0.001), (MUON, 9.5), (TAU, 0.3), (TAU, 6.9)])
def test_total_is_the_integral_of_the_spectrum(kind: lepton_pair.Kind, lepton: float, mass: float) -> None:
    """Invariant: a wrong Jacobian, or too few nodes, on either half."""
    low, high = (2 * lepton) ** 2, (SQRT_S - mass) ** 2

    def folded(t: float) -> float:
        # both ends are square roots, and the soft end of a light X is as 1/(s - s12)
        gap = math.exp(t)
        s12 = high - gap
        return gap * float(lepton_pair.spectrum(SQRT_S, lepton, mass, np.array(s12), kind))

    top, bottom = math.log(high - low), math.log(high - low) - 40
    points = np.linspace(bottom, top, 41)
    total = sum(quad(folded, a, b, epsrel=1e-9, limit=200)[0] for a, b in itertools.pairwise(points))
    assert lepton_pair.cross_section(SQRT_S, lepton, mass, kind) == pytest.approx(total, rel=1e-6)
    outside = np.array([0.5 * low, low, high, 2 * high])
    assert np.all(lepton_pair.spectrum(SQRT_S, lepton, mass, outside, kind) == 0.0)


def test_nodes_are_enough() -> None:
    """Invariant: catches a mass range or threshold where the quadrature has not converged."""
    nodes = lepton_pair.N_NODES
    try:
        for kind in ("vector", "scalar", "pseudoscalar"):
            for lepton, mass in ((MUON, 1e-4), (MUON, 0.3), (MUON, 10.36), (TAU, 1e-4), (TAU, 7.026)):
                found = []
                for number in (nodes, 2 * nodes):
                    lepton_pair.N_NODES = number
                    lepton_pair._nodes.cache_clear()
                    lepton_pair.cross_section.cache_clear()
                    found.append(lepton_pair.cross_section(SQRT_S, lepton, mass, kind))
                assert found[0] == pytest.approx(found[1], rel=1e-8)
    finally:
        lepton_pair.N_NODES = nodes
        lepton_pair._nodes.cache_clear()
        lepton_pair.cross_section.cache_clear()


def test_z_prime_branching_fractions() -> None:
    """Reference (notes, from the public UFO model): widths, thresholds, two neutrino flavours at half a lepton each."""
    rows = read(DATA / "z_prime_branching_fractions.csv")
    assert len(rows) > 20
    for row in rows:
        found = z_prime.widths(float(row["m_Zp_GeV"]), 1.0)
        assert significant(found.total, row["Gamma_over_gp2_GeV"], 5), row
        assert agrees(found.muons / found.total, row["BR_mumu"]), row
        assert agrees(found.taus / found.total, row["BR_tautau"]), row
        assert agrees(found.neutrinos / found.total, row["BR_invisible"]), row


def test_leptophilic_branching_fractions() -> None:
    """Reference (notes, computed): Yukawa ordering and beta^3; widths and lengths have four digits."""
    rows = read(DATA / "leptophilic_scalar_branching_fractions.csv")
    assert len(rows) > 25
    for row in rows:
        mass = float(row["m_GeV"])
        found = leptophilic_scalar.widths(mass, 1.0)
        assert significant(found.total, row["Gamma_over_xi2_GeV"], 4), row
        assert significant(leptophilic_scalar.decay_length(mass, 1.0) / 100, row["ctau_xi1_m"], 4), row
        assert agrees(found.electrons / found.total, row["BR_ee"]), row
        assert agrees(found.muons / found.total, row["BR_mumu"]), row
        assert agrees(found.taus / found.total, row["BR_tautau"]), row
    assert leptophilic_scalar.decay_length(1e-3, 1.0) == math.inf
    ratio = leptophilic_scalar.pseudoscalar_width(1.0, MUON, 0.1) / leptophilic_scalar.scalar_width(1.0, MUON, 0.1)
    assert ratio == pytest.approx(1 / (1 - 4 * MUON**2), rel=1e-12)  # S-wave over P-wave
    assert leptophilic_scalar.pseudoscalar_width(0.2, MUON, 0.1) == 0.0
