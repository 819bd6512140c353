"""Inelastic dark matter with a dark Higgs: e+e- -> A' h', A' -> chi1 chi2, chi2 -> chi1 l+ l-, and h' -> x+ x- by sin(theta).

chi1 and chi2 are Majorana fermions with masses m1 < m2 and the vector current g_D A'_mu chi2bar gamma^mu chi1; A' couples
to charges by eps e. The dark Higgs h' mixes with that of the Standard Model and decays as in `dark_scalar`.
Sources: physics notes, section 8.6; Izaguirre, Krnjaic, Shuve, arXiv:1508.03050; Duerr, Ferber, Garcia-Cely, Hearty,
Schmidt-Hoberg, arXiv:2012.08595. The width of chi2 is derived here and tested against the trace of the amplitude.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial

import numpy as np

from modelbuilder.theory import dark_higgs, dark_photon, dark_scalar
from modelbuilder.theory.constants import ELECTRON_MASS, HBARC, MUON_MASS, TAU_MASS
from modelbuilder.theory.dark_photon import Widths
from modelbuilder.theory.model import Model, Parameter, Parameters

LIGHTEST = {
    "electrons": 2.0 * ELECTRON_MASS,
    "muons": 2.0 * MUON_MASS,
    "taus": 2.0 * TAU_MASS,
    "hadrons": dark_photon.NEUTRAL_PION_MASS,
}
"""Mass in GeV above which a virtual A' can go to each of these."""


def widths(mass: float, mass1: float, mass2: float, coupling: float, dark_alpha: float) -> Widths:
    """Of chi2.    mass: of A', GeV, above m2 - m1 or there is no virtual A'.    coupling: eps.

    The integral over the mass q of the virtual A', D = m2 - m1, S = m1 + m2:
    alpha_D Gamma_A'(q) (D^2 - q^2)(S^2 + 2 q^2) |p|/(pi m2^2 (q^2 - m^2)^2) dq, |p| the momentum of chi1 and Gamma_A'(q) the
    width of an A' of mass q to what is asked for. For m_e << D << m1, m: `dark_photon.inelastic_decay_width`.
    """
    found = _unit_widths(mass, mass1, mass2)
    factor = coupling**2 * dark_alpha
    electrons, muons, taus, hadrons = (value * factor for value in found)
    return Widths(electrons=electrons, muons=muons, taus=taus, hadrons=hadrons)


def decay_length(mass: float, mass1: float, mass2: float, coupling: float, dark_alpha: float) -> float:
    """c tau of chi2 in cm; infinite where nothing is open."""
    total = widths(mass, mass1, mass2, coupling, dark_alpha).total
    return HBARC / total if total > 0.0 else math.inf


def dark_fraction(mass: float, mass1: float, mass2: float, coupling: float, dark_alpha: float) -> float:
    """Branching fraction of A' -> chi1 chi2, the rest going to Standard Model particles; zero where it is closed."""
    dark = dark_photon.inelastic_width(mass, mass1, mass2, dark_alpha)
    return dark / (dark + dark_photon.widths(mass, coupling).total) if dark > 0.0 else 0.0


@lru_cache(maxsize=256)
def _unit_widths(mass: float, mass1: float, mass2: float) -> tuple[float, float, float, float]:
    """For eps = alpha_D = 1, GeV, in the order of `Widths`."""
    if not 0.0 <= mass2 - mass1 < mass:
        msg = f"chi2 of {mass2:g} GeV and chi1 of {mass1:g} GeV: their difference must be less than the {mass:g} GeV of A'"
        raise ValueError(msg)
    electrons, muons, taus = (
        _integral(mass, mass1, mass2, least, partial(_lepton_width, least))
        for least in (LIGHTEST["electrons"], LIGHTEST["muons"], LIGHTEST["taus"])
    )
    hadrons = _integral(mass, mass1, mass2, LIGHTEST["hadrons"], lambda q: dark_photon.hadron_width(q, 1.0))
    return electrons, muons, taus, hadrons


def _lepton_width(least: float, q: float) -> float:
    return dark_photon.lepton_width(q, 0.5 * least, 1.0)


def _integral(mass: float, mass1: float, mass2: float, least: float, width: Callable[[float], float]) -> float:
    """The integral of `widths` for alpha_D = 1, from `least` to m2 - m1, by Gauss-Legendre."""
    difference, total = mass2 - mass1, mass1 + mass2
    if least >= difference:
        return 0.0
    found = 0.0
    for angle, weight in zip(*_nodes(), strict=True):
        # roots at both ends are smooth in the angle
        q = least + (difference - least) * math.sin(angle) ** 2
        slope = (difference - least) * math.sin(2.0 * angle)
        gap = (difference - q) * (difference + q)
        momentum = math.sqrt(gap * (total**2 - q**2)) / (2.0 * mass2)
        dark = gap * (total**2 + 2.0 * q**2) * momentum / (math.pi * mass2**2)
        found += weight * slope * width(q) * dark / (q**2 - mass**2) ** 2
    return found


@lru_cache(maxsize=1)
def _nodes() -> tuple[list[float], list[float]]:
    """Angles from 0 to pi/2 and their weights."""
    nodes, weights = np.polynomial.legendre.leggauss(300)
    return (0.25 * math.pi * (nodes + 1.0)).tolist(), (0.25 * math.pi * weights).tolist()


def _rate(sqrt_s: float, higgs_mass: float, epsilon: float, parameters: Parameters) -> float:
    given = {name: float(value) for name, value in parameters.items() if not isinstance(value, str)}
    mass, mass1, dark_alpha = given["m_dark_photon"], given["m_chi1"], given["alpha_d"]
    mass2 = mass1 + given["splitting"]
    if mass1 + mass2 >= mass or higgs_mass >= 2.0 * mass1:
        return 0.0
    charge2 = 4.0 if parameters["higgs_charge"] == "two" else 1.0
    produced = charge2 * dark_higgs.cross_section(sqrt_s, mass, higgs_mass, epsilon**2 * dark_alpha)
    found = widths(mass, mass1, mass2, epsilon, dark_alpha)
    if produced == 0.0 or found.electrons == 0.0:
        return 0.0
    reach = given["chi2_reach"]
    seen = math.expm1(-reach * found.total / HBARC) / math.expm1(-reach / given["chi2_lifetime"])
    produced *= dark_fraction(mass, mass1, mass2, epsilon, dark_alpha) * found.electrons / found.total * seen
    return produced * dark_scalar.fraction(higgs_mass, str(parameters["final"]))


def _with_epsilon(sqrt_s: float, masses: tuple[float, ...], _: float, parameters: Parameters) -> float:
    return _rate(sqrt_s, masses[0], float(parameters["epsilon"]), parameters)


def _of_epsilon(sqrt_s: float, masses: tuple[float, ...], coupling: float, parameters: Parameters) -> float:
    return _rate(sqrt_s, masses[0], coupling, parameters)


def _lifetime(masses: tuple[float, ...], coupling: float, _: Parameters) -> float:
    return dark_scalar.decay_length(masses[0], coupling)


def _fixed_lifetime(masses: tuple[float, ...], _: float, parameters: Parameters) -> float:
    return dark_scalar.decay_length(masses[0], float(parameters["sin_theta"]))


_COMMON = {
    "alpha_d": Parameter(kind="number", description="alpha_D = g_D^2/(4 pi) of chi1 and chi2"),
    "m_dark_photon": Parameter(kind="energy", description="mass of A'; above those of chi1 and chi2 together"),
    "m_chi1": Parameter(kind="energy", description="mass of chi1; above half of that of h', or h' goes to dark matter"),
    "splitting": Parameter(kind="energy", description="mass of chi2 less that of chi1"),
    "final": dark_scalar.FINAL,
    "higgs_charge": Parameter(
        kind="choice",
        description="dark charge of h' in units of that of chi: two where h' splits chi1 and chi2, with four times the rate",
        choices=("one", "two"),
        default="two",
    ),
    "chi2_lifetime": Parameter(kind="length", description="c tau of chi2 that the efficiency of the search is for"),
    "chi2_reach": Parameter(
        kind="length",
        description=(
            "how far chi2 may fly and be seen, over its beta gamma: where c tau is another one, the efficiency is taken to"
            " change as 1 - exp(-reach/c tau)"
        ),
    ),
}

DARK_HIGGS = Model(
    coupling="sin_theta",
    unit="",
    symbol=r"$\sin\theta$",
    law="vector-scalar",
    largest=1.0,
    power=0,
    rate=_with_epsilon,
    lifetime=_lifetime,
    parameters={"epsilon": Parameter(kind="number", description="kinetic mixing of A'"), **_COMMON},
)
"""sigma(e+e- -> A' h') BR(A' -> chi1 chi2) BR(chi2 -> chi1 e+ e-) BR(h' -> x+ x-), which theta does not change: it says how
far h' flies. The mass of the grid is that of h'.
"""

DARK_HIGGS_EPSILON = replace(
    DARK_HIGGS,
    coupling="epsilon",
    symbol=r"$\varepsilon$",
    power=None,
    rate=_of_epsilon,
    lifetime=_fixed_lifetime,
    parameters={"sin_theta": Parameter(kind="number", description="mixing of h', which gives its lifetime"), **_COMMON},
)
"""The same for a given theta: epsilon changes the rate, and by the lifetime of chi2 the efficiency."""
