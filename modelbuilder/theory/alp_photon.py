"""Axion-like particle that couples to photons only, L = -(g/4) a F Ftilde.

Sources: Dolan, Ferber, Hearty, Kahlhoefer, Schmidt-Hoberg, arXiv:1709.00009, Eqs. (2) and (5).
"""

from __future__ import annotations

import math

from modelbuilder.theory.constants import ALPHA, HBARC, HBARC_SQUARED
from modelbuilder.theory.model import Model


def cross_section(sqrt_s: float, mass: float, coupling: float) -> float:
    """e+e- -> gamma a at lowest order, fb: alpha g^2 / 24 (1 - m^2/s)^3.

    sqrt_s, mass: GeV.    coupling: g_agammagamma, GeV^-1.    Zero above the threshold mass.
    Source: arXiv:1709.00009, Eq. (5), checked against the trace of the amplitude.
    """
    if mass >= sqrt_s:
        return 0.0
    return HBARC_SQUARED * ALPHA * coupling**2 / 24.0 * (1.0 - (mass / sqrt_s) ** 2) ** 3


def width(mass: float, coupling: float) -> float:
    """Gamma(a -> gamma gamma) in GeV: g^2 m^3 / (64 pi). Source: arXiv:1709.00009, Eq. (2)."""
    return coupling**2 * mass**3 / (64.0 * math.pi)


def decay_length(sqrt_s: float, mass: float, coupling: float) -> float:
    """Mean decay length in the centre-of-mass frame, cm: (p/m) hbar c / Gamma, in e+e- -> gamma a."""
    momentum = (sqrt_s**2 - mass**2) / (2.0 * sqrt_s)
    return momentum / mass * HBARC / width(mass, coupling)


PROMPT = Model(
    coupling="g_agammagamma_per_gev",
    unit="GeV^-1",
    symbol=r"$g_{a\gamma\gamma}$ [GeV$^{-1}$]",
    law="photon-pseudoscalar",
    power=2,
    cross_section=lambda sqrt_s, masses, coupling, _: cross_section(sqrt_s, masses[0], coupling),
)
"""e+e- -> gamma a, a -> gamma gamma with a branching fraction of 1, all of it where the detector is."""
