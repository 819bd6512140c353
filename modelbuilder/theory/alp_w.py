"""Axion-like particle that couples to W, L = -(g_aW/4) a W^a Wtilde^a: a -> gamma gamma, made in B -> K a by a loop.

Source: Izaguirre, Lin, Shuve, arXiv:1611.09355, by way of the physics notes, section 8.1.
"""

from __future__ import annotations

import math

from modelbuilder.theory import alp_photon, b_to_kaon
from modelbuilder.theory.constants import FERMI, HBARC, SIN2_ON_SHELL, W_MASS
from modelbuilder.theory.model import Model, Parameters


def loop(x: float) -> float:
    """f(x) = x [1 + x (ln x - 1)]/(1 - x)^2 of x = m_t^2/m_W^2; 1/2 at x = 1."""
    step = x - 1.0
    if abs(step) < 1e-3:  # the same as a series, where numerator and denominator vanish
        return x * (0.5 - step / 6.0 + step**2 / 12.0)
    return x * (1.0 + x * (math.log(x) - 1.0)) / step**2


def flavour_coupling(coupling: float, top_mass: float = b_to_kaon.TOP_MASS) -> float:
    """|g_abs| in GeV^-1 of (d_mu a) sbar gamma^mu P_L b: 3 sqrt2 G_F m_W^2 g_aW/(16 pi^2) |V_ts V_tb| f(m_t^2/m_W^2)."""
    unit = 3.0 * math.sqrt(2.0) * FERMI * W_MASS**2 / (16.0 * math.pi**2)
    return unit * b_to_kaon.V_TS_V_TB * loop((top_mass / W_MASS) ** 2) * abs(coupling)


def branching_fraction(
    transition: str, mass: float, coupling: float, source: b_to_kaon.FormFactors = "ball-zwicky"
) -> float:
    """Of B -> K a; zero where it is closed.    transition: one of `b_to_kaon.TRANSITIONS`.    coupling: g_aW, GeV^-1."""
    decay = b_to_kaon.TRANSITIONS[transition]
    width = b_to_kaon.derivative_width(decay, mass, flavour_coupling(coupling), source)
    return b_to_kaon.branching_fraction(decay, width)


def width(mass: float, coupling: float) -> float:
    """Gamma(a -> gamma gamma) in GeV: that of g_agammagamma = g_aW sin^2 theta_W."""
    return alp_photon.width(mass, coupling * SIN2_ON_SHELL)


def decay_length(mass: float, coupling: float) -> float:
    """c tau in cm, the only decay being that to two photons; infinite without mass or coupling."""
    total = width(mass, coupling)
    return HBARC / total if total > 0.0 else math.inf


def _to_photons(_: float, masses: tuple[float, ...], coupling: float, parameters: Parameters) -> float:
    transition, fraction, source = b_to_kaon.chosen(parameters)
    return branching_fraction(transition, masses[0], coupling, source) * fraction


def _lifetime(masses: tuple[float, ...], coupling: float, _: Parameters) -> float:
    return decay_length(masses[0], coupling)


TO_PHOTONS = Model(
    coupling="g_aw_per_gev",
    unit="GeV^-1",
    symbol=r"$g_{aW}$ [GeV$^{-1}$]",
    law=None,
    limits="branching fraction",
    power=2,
    rate=_to_photons,
    lifetime=_lifetime,
    parameters={"decay": b_to_kaon.DECAY, "form_factors": b_to_kaon.FORM_FACTORS},
)
"""B -> K a with a -> gamma gamma, whose branching fraction is 1: decays to gamma Z or W W are closed."""
