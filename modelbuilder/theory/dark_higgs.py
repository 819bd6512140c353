"""Dark Higgs h' of the dark photon, made in dark Higgsstrahlung e+e- -> A'* -> A' h'.

Source: Batell, Pospelov, Ritz, arXiv:0903.0363, in the form of e+e- -> Z h; h' of unit dark charge.
"""

from __future__ import annotations

import math

from modelbuilder.theory.constants import ALPHA, HBARC_SQUARED


def cross_section(sqrt_s: float, mass: float, higgs_mass: float, coupling2: float) -> float:
    """e+e- -> A' h' in fb, no branching fraction; zero below threshold and at s = m_A'^2 and beyond.

    mass: of A', GeV.    coupling2: eps^2 alpha_D.

    (pi alpha coupling2/3s) sqrt(lam)(lam + 12 y)/(1 - y)^2, y = m_A'^2/s. A dark Higgs of
    charge 2 gives four times as much.
    """
    if mass + higgs_mass >= sqrt_s:
        return 0.0
    y = (mass / sqrt_s) ** 2
    kallen = _kallen(sqrt_s, mass, higgs_mass)
    shape = math.sqrt(kallen) * (kallen + 12.0 * y) / (1.0 - y) ** 2
    return HBARC_SQUARED * math.pi * ALPHA * coupling2 / (3.0 * sqrt_s**2) * shape


def angular_density(sqrt_s: float, mass: float, higgs_mass: float, cosine: float) -> float:
    """Density of cos theta* of A' to the electron: lam sin^2 + 8 y over its integral 4/3 (lam + 12 y)."""
    y = (mass / sqrt_s) ** 2
    kallen = _kallen(sqrt_s, mass, higgs_mass)
    return (kallen * (1.0 - cosine**2) + 8.0 * y) / (4.0 / 3.0 * (kallen + 12.0 * y))


def _kallen(sqrt_s: float, mass: float, higgs_mass: float) -> float:
    """lambda(1, m_A'^2/s, m_h'^2/s) as a product, exact at threshold."""
    s = sqrt_s**2
    return (1.0 - (mass + higgs_mass) ** 2 / s) * (1.0 - (mass - higgs_mass) ** 2 / s)
