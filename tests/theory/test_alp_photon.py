"""The axion-like particle that couples to photons: cross section, coupling, width, flight."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
from scipy.constants import physical_constants
from scipy.integrate import quad

from modelbuilder.theory import alp_photon, constants

TABLE = Path(__file__).parent / "data" / "gamma_a_cross_section.csv"
MASSES = (0.01, 0.2, 1.0, 3.0, 6.85, 9.7, 10.5)


def test_constants() -> None:
    """Reference (CODATA, from scipy): catches a slip in a digit, or a wrong power of ten in a unit."""
    hbarc = physical_constants["reduced Planck constant times c in MeV fm"][0] * 1e-3 * 1e-13  # GeV cm
    assert pytest.approx(hbarc, rel=1e-8) == constants.HBARC
    assert pytest.approx(hbarc**2 * 1e39, rel=1e-8) == constants.HBARC_SQUARED  # 1 fb = 1e-39 cm^2
    assert pytest.approx(physical_constants["fine-structure constant"][0], rel=1e-6) == constants.ALPHA


@pytest.mark.parametrize("mass", MASSES)
def test_cross_section_is_the_integral_of_the_angular_distribution(mass: float) -> None:
    """Reference: catches a wrong factor in the total, by integrating alpha g^2/64 (1 + cos^2)(1 - m^2/s)^3."""
    sqrt_s, coupling = 10.58, 3e-4
    rate = constants.ALPHA * coupling**2 / 64.0 * (1.0 - mass**2 / sqrt_s**2) ** 3
    integral, _ = quad(lambda cos: rate * (1.0 + cos**2), -1.0, 1.0)
    expected = integral * constants.HBARC_SQUARED
    assert alp_photon.cross_section(sqrt_s, mass, coupling) == pytest.approx(expected, rel=1e-6)


def test_cross_section_agrees_with_the_table() -> None:
    """Reference: catches a change of constants, of s, or of the power of the phase space; the table has six digits."""
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    rows = list(csv.DictReader(lines))
    assert len(rows) == 29
    for row in rows:
        found = alp_photon.cross_section(10.58, float(row["m_GeV"]), 1.0)
        assert found == pytest.approx(float(row["sigma_gamma_a_fb_per_g2"]), rel=1e-5), row


def test_nothing_beyond_threshold() -> None:
    """Catches a cross section that turns negative where the process is closed."""
    assert alp_photon.cross_section(10.58, 10.58, 1.0) == 0.0
    assert alp_photon.cross_section(10.58, 12.0, 1.0) == 0.0


@pytest.mark.parametrize("mass", MASSES)
def test_decay_length(mass: float) -> None:
    """Reference: catches a wrong boost or width, with E and p of the two-body decay and ctau = hbar c 64 pi / g^2 m^3."""
    sqrt_s, coupling = 10.58, 1e-5
    energy = (sqrt_s**2 + mass**2) / (2.0 * sqrt_s)
    beta_gamma = math.sqrt((energy / mass) ** 2 - 1.0)
    ctau = physical_constants["reduced Planck constant times c in MeV fm"][0] * 1e-16  # GeV cm
    ctau *= 64.0 * math.pi / (coupling**2 * mass**3)
    assert alp_photon.decay_length(sqrt_s, mass, coupling) == pytest.approx(beta_gamma * ctau, rel=1e-7)


def test_decay_length_grows_with_the_fourth_power() -> None:
    """Invariant: catches a lost power of mass or coupling; far below sqrt(s) the length goes as 1 / (g^2 m^4)."""
    base = alp_photon.decay_length(10.58, 0.02, 1e-4)
    assert alp_photon.decay_length(10.58, 0.01, 1e-4) == pytest.approx(16.0 * base, rel=1e-5)
    assert alp_photon.decay_length(10.58, 0.02, 5e-5) == pytest.approx(4.0 * base, rel=1e-12)
