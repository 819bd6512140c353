"""Dark photon A' with kinetic mixing: L = -eps e A'_mu J_em^mu.

Sources: physics notes, sections 7c, 8c and the table of branching fractions made with Darkcast (Ilten, Soreq, Williams,
Xue, arXiv:1801.04847), which is shipped in `data`; the cross sections are tested against
integrals of the amplitude.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from functools import cache
from importlib import resources

from modelbuilder.errors import KinematicsError
from modelbuilder.theory.constants import (
    ALPHA,
    ELECTRON_MASS,
    HBARC,
    HBARC_SQUARED,
    MUON_MASS,
    TAU_MASS,
)

TABLE = "dark_photon_branching_fractions.csv"


def cross_section(sqrt_s: float, mass: float, coupling: float, max_cos: float) -> float:
    """e+e- -> gamma A' with |cos theta*| of the photon below max_cos < 1, fb, at lowest order; zero above threshold.

    coupling: eps. (2 pi alpha^2 eps^2/s)(1 - x) {2 (L - c0) + 4x/(1 - x)^2 L}, L = ln((1 + c0)/(1 - c0)), x = m^2/s:
    the integral of the angular law of massless electrons.
    """
    if mass >= sqrt_s:
        return 0.0
    x = (mass / sqrt_s) ** 2
    logarithm = 2.0 * math.atanh(max_cos)
    bracket = 2.0 * (logarithm - max_cos) + 4.0 * x / (1.0 - x) ** 2 * logarithm
    return _unit(sqrt_s) * coupling**2 * (1.0 - x) * bracket


def total_cross_section(sqrt_s: float, mass: float, coupling: float) -> float:
    """The same over all angles, fb: (4 pi alpha^2 eps^2/s) (1 + x^2)/(1 - x) (ln(s/m_e^2) - 1), to O(m_e^2/s).

    Divergent at threshold, x -> 1, where soft photons would have to be summed.
    """
    if mass >= sqrt_s:
        return 0.0
    x = (mass / sqrt_s) ** 2
    logarithm = 2.0 * math.log(sqrt_s / ELECTRON_MASS) - 1.0
    return _unit(sqrt_s) * coupling**2 * 2.0 * (1.0 + x**2) / (1.0 - x) * logarithm


def lepton_width(mass: float, lepton_mass: float, coupling: float) -> float:
    """Gamma(A' -> l+ l-), GeV: alpha eps^2 m/3 (1 + 2r) sqrt(1 - 4r), r = m_l^2/m^2."""
    ratio = (lepton_mass / mass) ** 2
    if ratio >= 0.25:
        return 0.0
    return ALPHA * coupling**2 * mass / 3.0 * (1.0 + 2.0 * ratio) * math.sqrt(1.0 - 4.0 * ratio)


def hadron_width(mass: float, coupling: float) -> float:
    """Gamma(A' -> hadrons), GeV, linear in mass between the points of the table, an error outside of it.

    From Darkcast: measured below 2 GeV, perturbative above. The points are 1 to 5 MeV apart at best, so that omega and
    phi are only sketched and J/psi, psi(2S) and Y are absent.
    """
    masses, widths = _hadron_table()
    if not masses[0] <= mass <= masses[-1]:
        msg = f"dark photon of {mass:g} GeV: the table of hadronic widths covers {masses[0]:g} to {masses[-1]:g} GeV"
        raise KinematicsError(msg)
    upper = next(i for i, m in enumerate(masses) if m >= mass)
    if upper == 0 or masses[upper] == mass:
        return widths[upper] * coupling**2
    fraction = (mass - masses[upper - 1]) / (masses[upper] - masses[upper - 1])
    return (widths[upper - 1] + fraction * (widths[upper] - widths[upper - 1])) * coupling**2


@dataclass(frozen=True, kw_only=True)
class Widths:
    """Partial widths of a visible dark photon, GeV."""

    electrons: float
    muons: float
    taus: float
    hadrons: float

    @property
    def total(self) -> float:
        """GeV."""
        return self.electrons + self.muons + self.taus + self.hadrons


def widths(mass: float, coupling: float) -> Widths:
    """Of an A' that decays to Standard Model particles only; branching fractions are ratios of these."""
    return Widths(
        electrons=lepton_width(mass, ELECTRON_MASS, coupling),
        muons=lepton_width(mass, MUON_MASS, coupling),
        taus=lepton_width(mass, TAU_MASS, coupling),
        hadrons=hadron_width(mass, coupling),
    )


def decay_length(mass: float, coupling: float) -> float:
    """c tau of a visible A', cm."""
    return HBARC / widths(mass, coupling).total


def dirac_width(mass: float, fermion_mass: float, dark_alpha: float) -> float:
    """Gamma(A' -> chi chibar), GeV, chi a Dirac fermion of unit dark charge: alpha_D m/3 (1 + 2r) sqrt(1 - 4r)."""
    ratio = (fermion_mass / mass) ** 2
    return dark_alpha * mass / 3.0 * (1.0 + 2.0 * ratio) * math.sqrt(1.0 - 4.0 * ratio) if ratio < 0.25 else 0.0


def scalar_width(mass: float, scalar_mass: float, dark_alpha: float) -> float:
    """Gamma(A' -> phi phi*), GeV, phi a complex scalar of unit dark charge: alpha_D m/12 (1 - 4r)^(3/2)."""
    ratio = (scalar_mass / mass) ** 2
    return dark_alpha * mass / 12.0 * (1.0 - 4.0 * ratio) ** 1.5 if ratio < 0.25 else 0.0


def inelastic_width(mass: float, mass1: float, mass2: float, dark_alpha: float) -> float:
    """Gamma(A' -> chi1 chi2), GeV, of two Majorana fermions with the vector current of a split Dirac fermion.

    alpha_D m/3 sqrt(lambda) (1 - (x1 + x2)/2 - (x1 - x2)^2/2 + 3 sqrt(x1 x2)), x = m_i^2/m^2; m1 = m2: `dirac_width`.
    """
    if mass1 + mass2 >= mass:
        return 0.0
    x1, x2 = (mass1 / mass) ** 2, (mass2 / mass) ** 2
    kallen = (1.0 - x1 - x2) ** 2 - 4.0 * x1 * x2
    shape = 1.0 - 0.5 * (x1 + x2) - 0.5 * (x1 - x2) ** 2 + 3.0 * math.sqrt(x1 * x2)
    return dark_alpha * mass / 3.0 * math.sqrt(kallen) * shape


def inelastic_decay_width(mass: float, mass1: float, mass2: float, coupling: float, dark_alpha: float) -> float:
    """Gamma(chi2 -> chi1 e+ e-), GeV, for m_e << m2 - m1 << m1 and mass of A': 4 eps^2 alpha alpha_D D^5/(15 pi m^4).

    Izaguirre, Krnjaic, Shuve, arXiv:1508.03050. For D/m1 above 0.3 integrate the matrix element.
    """
    return 4.0 * coupling**2 * ALPHA * dark_alpha * (mass2 - mass1) ** 5 / (15.0 * math.pi * mass**4)


def lepton_pair_background(sqrt_s: float, mass: float, lepton_mass: float, max_cos: float) -> float:
    """dsigma/dm of e+e- -> gamma l+ l- by initial-state radiation, fb/GeV, photon in |cos theta*| < max_cos.

    [sigma(gamma A')/eps^2] (2 alpha/(3 pi m)) (1 + 2r) sqrt(1 - 4r): a virtual photon of mass m is a dark photon.
    """
    ratio = (lepton_mass / mass) ** 2
    if ratio >= 0.25:
        return 0.0
    splitting = 2.0 * ALPHA / (3.0 * math.pi * mass) * (1.0 + 2.0 * ratio) * math.sqrt(1.0 - 4.0 * ratio)
    return cross_section(sqrt_s, mass, 1.0, max_cos) * splitting


def _unit(sqrt_s: float) -> float:
    """2 pi alpha^2/s in fb."""
    return 2.0 * math.pi * ALPHA**2 * HBARC_SQUARED / sqrt_s**2


@cache
def _hadron_table() -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Masses and hadronic widths for eps = 1, GeV."""
    text = resources.files("modelbuilder.theory").joinpath("data", TABLE).read_text(encoding="utf-8")
    rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
    masses = tuple(float(row["m_GeV"]) for row in rows)
    return masses, tuple(float(row["BR_hadronic_total"]) * float(row["Gamma_total_eps1_GeV"]) for row in rows)
