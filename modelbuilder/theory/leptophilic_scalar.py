"""Scalars and pseudoscalars that couple to leptons: L = -y_l lbar l S.

leptophilic scalar phi_L: y_l = xi m_l/v, v = 246.22 GeV.    muonphilic scalar: y_mu = g_S alone.
ALP with (C_ll/2 Lambda) d_mu a lbar gamma^mu gamma5 l: on shell a pseudoscalar coupling y_l = m_l C_ll/Lambda.
Sources: physics notes, sections 5, 6a and 11.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from modelbuilder.theory import lepton_pair
from modelbuilder.theory.constants import ELECTRON_MASS, HBARC, HIGGS_VACUUM_VALUE, MUON_MASS, TAU_MASS


def cross_section(sqrt_s: float, mass: float, coupling: float, lepton_mass: float = TAU_MASS) -> float:
    """e+e- -> l+ l- phi_L in fb at lowest order; zero below threshold.    coupling: xi.    lepton_mass: mu or tau."""
    yukawa = coupling * lepton_mass / HIGGS_VACUUM_VALUE
    return lepton_pair.cross_section(sqrt_s, lepton_mass, mass, "scalar") * yukawa**2


def scalar_width(mass: float, lepton_mass: float, yukawa: float) -> float:
    """Gamma(S -> l+ l-), GeV: y^2 m/(8 pi) (1 - 4r)^(3/2), r = m_l^2/m^2."""
    ratio = (lepton_mass / mass) ** 2
    return yukawa**2 * mass / (8.0 * math.pi) * (1.0 - 4.0 * ratio) ** 1.5 if ratio < 0.25 else 0.0


def pseudoscalar_width(mass: float, lepton_mass: float, yukawa: float) -> float:
    """Gamma(P -> l+ l-), GeV: y^2 m/(8 pi) sqrt(1 - 4r)."""
    ratio = (lepton_mass / mass) ** 2
    return yukawa**2 * mass / (8.0 * math.pi) * math.sqrt(1.0 - 4.0 * ratio) if ratio < 0.25 else 0.0


@dataclass(frozen=True, kw_only=True)
class Widths:
    """Partial widths of phi_L, GeV."""

    electrons: float
    muons: float
    taus: float

    @property
    def total(self) -> float:
        """GeV."""
        return self.electrons + self.muons + self.taus


def widths(mass: float, coupling: float) -> Widths:
    """Of phi_L, proportional to m_l^2; branching fractions are ratios of these. Decays to photons are left out."""

    def partial(lepton_mass: float) -> float:
        return scalar_width(mass, lepton_mass, coupling * lepton_mass / HIGGS_VACUUM_VALUE)

    return Widths(electrons=partial(ELECTRON_MASS), muons=partial(MUON_MASS), taus=partial(TAU_MASS))


def decay_length(mass: float, coupling: float) -> float:
    """c tau of phi_L, cm; infinite below 2 m_e."""
    total = widths(mass, coupling).total
    return HBARC / total if total > 0.0 else math.inf
