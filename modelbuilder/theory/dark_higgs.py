"""Dark Higgs h' of the dark photon, made in dark Higgsstrahlung e+e- -> A'* -> A' h'.

Source: Batell, Pospelov, Ritz, arXiv:0903.0363, in the form of e+e- -> Z h; h' of unit dark charge. Which decays h' has
follows from the masses (physics notes, section 9): none in the detector below m_A', A' A' above 2 m_A'.
"""

from __future__ import annotations

import math

from modelbuilder.theory import dark_photon
from modelbuilder.theory.constants import ALPHA, HBARC_SQUARED
from modelbuilder.theory.model import Model, Parameter, Parameters


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


def _searched_for(sqrt_s: float, masses: tuple[float, ...], coupling: float, parameters: Parameters) -> float:
    mass, higgs_mass = masses
    decay = str(parameters["decay"])
    invisible = decay == "muons+invisible"
    is_open = higgs_mass < mass if invisible else higgs_mass > 2.0 * mass
    produced = cross_section(sqrt_s, mass, higgs_mass, coupling) if is_open else 0.0
    if produced == 0.0:
        return produced
    if decay == "three-pairs":
        return produced * dark_photon.pair_fraction(mass) ** 3
    leptons = "electrons" if decay == "six-electrons" else "muons"
    return produced * dark_photon.branching_fraction(mass, leptons) ** (1 if invisible else 3)


HIGGSSTRAHLUNG = Model(
    coupling="eps2_alpha_d",
    unit="",
    symbol=r"$\varepsilon^2 \alpha_D$",
    law="vector-scalar",
    power=1,
    rate=_searched_for,
    masses=("m_Ap", "m_hp"),
    parameters={
        "decay": Parameter(
            kind="choice",
            description=(
                "muons+invisible: A' -> mu mu and h' lighter than A', which leaves the detector; three-pairs: h' -> A' A'"
                " and each of the three A' to a pair of tracks; six-muons, six-electrons: those of them"
            ),
            choices=("muons+invisible", "three-pairs", "six-muons", "six-electrons"),
        )
    },
)
"""e+e- -> A' h' at two masses, A' with decays to Standard Model particles only. Zero where h' has other decays."""
