"""Axion-like particle with flavour-changing couplings, L = (d_mu a/2 f_a) taubar gamma^mu (c_V + c_A gamma5) l: tau -> l a.

Source: physics notes, section 6.3, from the width of the public code alp-aca; tested against the amplitude.
"""

from __future__ import annotations

import math
from dataclasses import replace

from modelbuilder.theory.constants import ELECTRON_MASS, HBAR, MUON_MASS, TAU_LIFETIME, TAU_MASS
from modelbuilder.theory.model import Model, Parameter, Parameters

LEPTONS = {"electron": (ELECTRON_MASS, 0.1782), "muon": (MUON_MASS, 0.1739)}
"""Mass in GeV, and branching fraction of tau -> l nu nubar; PDG, recalled."""

CHIRALITIES = {"vector": (1.0, 0.0), "axial": (0.0, 1.0), "left": (1.0, -1.0), "right": (1.0, 1.0)}
"""c_V and c_A."""


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


def _branching_fraction(_: float, masses: tuple[float, ...], coupling: float, parameters: Parameters) -> float:
    lepton_mass, _fraction = LEPTONS[str(parameters["lepton"])]
    vector, axial = CHIRALITIES[str(parameters["chirality"])]
    return branching_fraction(masses[0], lepton_mass, vector * coupling, axial * coupling)


def _ratio(sqrt_s: float, masses: tuple[float, ...], coupling: float, parameters: Parameters) -> float:
    return _branching_fraction(sqrt_s, masses, coupling, parameters) / LEPTONS[str(parameters["lepton"])][1]


TAU_ALP = Model(
    coupling="inverse_f_a_per_gev",
    unit="GeV^-1",
    symbol="$1/f_a$ [GeV$^{-1}$]",
    law=None,
    limits="branching fraction",
    power=2,
    rate=_branching_fraction,
    parameters={
        "lepton": Parameter(kind="choice", description="lepton that tau goes to", choices=tuple(LEPTONS)),
        "chirality": Parameter(
            kind="choice",
            description="(c_V, c_A): vector (1, 0), axial (0, 1), left (1, -1), right (1, 1)",
            choices=tuple(CHIRALITIES),
        ),
    },
)
"""tau -> l a with an a that is not seen, because it decays to nothing visible or far away."""

TAU_ALP_RATIO = replace(TAU_ALP, limits="ratio", rate=_ratio)
"""The same as a ratio to tau -> l nu nubar."""
