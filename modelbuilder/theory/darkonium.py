"""Darkonium: the 1-- bound state Y_D of a dark fermion pair, made in e+e- -> gamma Y_D, decaying to three A'.

Source: An, Echenard, Pospelov, Zhang, arXiv:1510.05020 for the model. The coupling is the Coulombic estimate of the
physics notes, section 10, which nobody has checked against that paper: use it for orders of magnitude.
"""

from __future__ import annotations

from modelbuilder.theory import dark_photon


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
