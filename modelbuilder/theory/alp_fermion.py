"""Axion-like particle with couplings to fermions like those of the Higgs, L = i g_Y sum_f (m_f/v) a fbar gamma5 f.

Made in B -> K a by the loop of top and W, which has no end without a scale Lambda above which there is more: with
L = (d_mu a/2) (g_Y/v) sum_f fbar gamma^mu gamma5 f, the same on shell, the coupling (d_mu a) sbar gamma^mu P_L b becomes
g_Y m_t^2/(16 pi^2 v^3) V_ts V_tb ln(Lambda^2/m_t^2). Sources: definition of g_Y, physics notes, section 3; the logarithm,
recalled from Dolan, Kahlhoefer, McCabe, Schmidt-Hoberg, arXiv:1412.5174, and Bauer, Neubert, Renner, Schnubel, Thamm,
arXiv:2012.12272. The top keeps its pole mass: with a Yukawa coupling that runs, rates are 0.7 of these at Lambda = 1 TeV and
0.56 at 12 TeV. Terms without the logarithm are left out: with Lambda near 1 TeV they may change rates by half.
"""

from __future__ import annotations

import math

from modelbuilder.theory import b_to_kaon, leptophilic_scalar
from modelbuilder.theory.constants import HBARC, HIGGS_VACUUM_VALUE
from modelbuilder.theory.model import Model, Parameter, Parameters


def flavour_coupling(coupling: float, cutoff: float) -> float:
    """|g| in GeV^-1 of (d_mu a) sbar gamma^mu P_L b; 0 for a cut-off, GeV, below the mass of the top."""
    logarithm = max(2.0 * math.log(cutoff / b_to_kaon.TOP_MASS), 0.0)
    unit = b_to_kaon.TOP_MASS**2 * b_to_kaon.V_TS_V_TB / (16.0 * math.pi**2 * HIGGS_VACUUM_VALUE**3)
    return unit * logarithm * abs(coupling)


def branching_fraction(
    transition: str, mass: float, coupling: float, cutoff: float, source: b_to_kaon.FormFactors = "ball-zwicky"
) -> float:
    """Of B -> K a; zero where it is closed.    transition: one of `b_to_kaon.TRANSITIONS`.    coupling: g_Y."""
    decay = b_to_kaon.TRANSITIONS[transition]
    width = b_to_kaon.derivative_width(decay, mass, flavour_coupling(coupling, cutoff), source)
    return b_to_kaon.branching_fraction(decay, width)


def widths(mass: float, coupling: float) -> leptophilic_scalar.Widths:
    """Into leptons, GeV: g_Y^2 m_l^2 m/(8 pi v^2) sqrt(1 - 4r)."""
    return leptophilic_scalar.alp_widths(mass, coupling / HIGGS_VACUUM_VALUE)


def decay_length(mass: float, coupling: float) -> float:
    """c tau in cm with decays to leptons only; infinite below 2 m_e."""
    total = widths(mass, coupling).total
    return HBARC / total if total > 0.0 else math.inf


def _searched_for(_: float, masses: tuple[float, ...], coupling: float, parameters: Parameters) -> float:
    (mass,) = masses
    if mass > float(parameters["leptons_up_to"]):
        return 0.0
    transition, kaon, source = b_to_kaon.chosen(parameters)
    produced = branching_fraction(transition, mass, coupling, float(parameters["cutoff"]), source) * kaon
    return produced * widths(mass, 1.0).fraction(str(parameters["final"]))


def _lifetime(masses: tuple[float, ...], coupling: float, _: Parameters) -> float:
    return decay_length(masses[0], coupling)


ALP_FERMION = Model(
    coupling="g_y",
    unit="",
    symbol="$g_Y$",
    law=None,
    limits="branching fraction",
    power=2,
    rate=_searched_for,
    lifetime=_lifetime,
    parameters={
        "decay": b_to_kaon.DECAY,
        "final": Parameter(
            kind="choice", description="leptons that it decays to in the search", choices=("electrons", "muons", "taus")
        ),
        "cutoff": Parameter(kind="energy", description="Lambda of the loop, such as 1 TeV; above the mass of the top"),
        "leptons_up_to": Parameter(
            kind="energy",
            description=(
                "mass above which the rate is 0, since decays to hadrons, which are left out, are then no longer few"
            ),
            default=1.0,
        ),
        "form_factors": b_to_kaon.FORM_FACTORS,
    },
)
"""B -> K a with a -> l+ l-. Widths are those of leptons alone, so that the model says nothing where hadrons matter.

Three pions, open from 0.41 GeV, are thought to be few below 1 GeV. Above, gluons and strange quarks would be several times the
muons: near 2 GeV, g_Y^2 alpha_s^2 m^3/(32 pi^3 v^2) for each heavy quark, squared as a sum, is 3 to 9 times the muons.
"""
