"""Darkonium: the 1-- bound state Y_D of a dark fermion pair, made in e+e- -> gamma Y_D, decaying to three A'.

Source: An, Echenard, Pospelov, Zhang, arXiv:1510.05020 for the model. The coupling is the Coulombic estimate of the
physics notes, section 10, which nobody has checked against that paper: use it for orders of magnitude.
"""

from __future__ import annotations

from modelbuilder.theory import dark_photon
from modelbuilder.theory.model import Model, Parameter, Parameters


def effective_mixing(mass: float, photon_mass: float, coupling: float, dark_alpha: float) -> float:
    """eps of a dark photon of the mass of Y_D that is made as often: eps alpha_D^2/2 m_Y^2/|m_Y^2 - m_A'^2|.

    mass: of Y_D; photon_mass: of A', GeV.    coupling: eps. Needs alpha_D m_Y well above m_A' to be Coulombic.
    """
    return coupling * dark_alpha**2 / 2.0 * mass**2 / abs(mass**2 - photon_mass**2)


def cross_section(
    sqrt_s: float, mass: float, photon_mass: float, coupling: float, dark_alpha: float, max_cos: float
) -> float:
    """e+e- -> gamma Y_D with |cos theta*| of the photon below max_cos, fb."""
    mixing = effective_mixing(mass, photon_mass, coupling, dark_alpha)
    return dark_photon.cross_section(sqrt_s, mass, mixing, max_cos)


def _three_photons(sqrt_s: float, masses: tuple[float, ...], coupling: float, parameters: Parameters) -> float:
    photon_mass, mass = masses
    if 3.0 * photon_mass >= mass:
        return 0.0
    produced = cross_section(
        sqrt_s, mass, photon_mass, coupling, float(parameters["alpha_d"]), float(parameters["max_cos"])
    )
    return produced * dark_photon.pair_fraction(photon_mass) ** 3 if produced > 0.0 else 0.0


DARKONIUM = Model(
    coupling="epsilon",
    unit="",
    symbol=r"$\varepsilon$",
    law="photon-vector",
    power=2,
    rate=_three_photons,
    masses=("m_Ap", "m_YD"),
    parameters={
        "alpha_d": Parameter(kind="number", description="alpha_D = g_D^2/(4 pi)"),
        "max_cos": dark_photon.MAX_COS,
    },
)
"""e+e- -> gamma Y_D at two masses, Y_D -> A' A' A' with a branching fraction of 1, each A' to a pair of tracks, prompt."""
