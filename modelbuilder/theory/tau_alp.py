"""Axion-like particle with flavour-changing couplings, L = (d_mu a/2 f_a) taubar gamma^mu (c_V + c_A gamma5) l: tau -> l a.

Source: physics notes, section 6.3, from the width of the public code alp-aca; tested against the amplitude.
"""

from __future__ import annotations

import math

from modelbuilder.theory.constants import HBAR, TAU_LIFETIME, TAU_MASS


def width(mass: float, lepton_mass: float, vector: float, axial: float) -> float:
    """Gamma(tau -> l a), GeV; zero where it is closed.    vector, axial: c_V/f_a and c_A/f_a, GeV^-1.

    sqrt(lambda)/(64 pi m_tau^3) {c_A^2 (m_tau + m_l)^2 [(m_tau - m_l)^2 - m^2] + c_V^2 (m_tau - m_l)^2 [(m_tau + m_l)^2
    - m^2]}/f_a^2.
    """
    if mass + lepton_mass >= TAU_MASS:
        return 0.0
    total, difference = (TAU_MASS + lepton_mass) ** 2, (TAU_MASS - lepton_mass) ** 2
    kallen = (total - mass**2) * (difference - mass**2)
    squares = axial**2 * total * (difference - mass**2) + vector**2 * difference * (total - mass**2)
    return math.sqrt(kallen) / (64.0 * math.pi * TAU_MASS**3) * squares


def branching_fraction(mass: float, lepton_mass: float, vector: float, axial: float) -> float:
    """Of tau -> l a."""
    return width(mass, lepton_mass, vector, axial) * TAU_LIFETIME / HBAR


def lepton_energy(mass: float, lepton_mass: float) -> float:
    """x = 2 E_l/m_tau in the rest frame of tau: 1 + (m_l^2 - m^2)/m_tau^2."""
    return 1.0 + (lepton_mass**2 - mass**2) / TAU_MASS**2
