"""Axion-like particle that couples to photons only, L = -(g/4) a F Ftilde.

Sources: Dolan, Ferber, Hearty, Kahlhoefer, Schmidt-Hoberg, arXiv:1709.00009, Eqs. (2) and (5).
"""

from __future__ import annotations

import math

from modelbuilder.theory.constants import ALPHA, HBARC, HBARC_SQUARED


def cross_section(sqrt_s: float, mass: float, coupling: float) -> float:
    """e+e- -> gamma a at lowest order, fb: alpha g^2 / 24 (1 - m^2/s)^3.

    sqrt_s, mass: GeV.    coupling: g_agammagamma, GeV^-1.    Zero above the threshold mass.
    Source: arXiv:1709.00009, Eq. (5), checked against the trace of the amplitude.
    """
    if mass >= sqrt_s:
        return 0.0
    return HBARC_SQUARED * ALPHA * coupling**2 / 24.0 * (1.0 - (mass / sqrt_s) ** 2) ** 3


def coupling_from_cross_section(sqrt_s: float, mass: float, cross_section_fb: float) -> float:
    """g_agammagamma in GeV^-1 that gives this cross section (fb); infinite where the process is not possible."""
    unit = cross_section(sqrt_s, mass, 1.0)
    return math.sqrt(cross_section_fb / unit) if unit > 0.0 else math.inf


def width(mass: float, coupling: float) -> float:
    """Gamma(a -> gamma gamma) in GeV: g^2 m^3 / (64 pi). Source: arXiv:1709.00009, Eq. (2)."""
    return coupling**2 * mass**3 / (64.0 * math.pi)


def decay_length(sqrt_s: float, mass: float, coupling: float) -> float:
    """Mean decay length in the centre-of-mass frame, cm: (p/m) hbar c / Gamma, in e+e- -> gamma a."""
    momentum = (sqrt_s**2 - mass**2) / (2.0 * sqrt_s)
    return momentum / mass * HBARC / width(mass, coupling)
