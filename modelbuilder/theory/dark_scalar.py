"""Scalar S that mixes with the Higgs, with couplings sin(theta) m/v: B -> K S, widths and lifetime.

Sources: Boiarska et al., arXiv:1904.10447 for the rates; Winkler, arXiv:1809.01876 for the hadronic widths, as a table
of lifetimes digitised by others. All by way of the physics notes, section 8.3. Between 0.5 and 2 GeV the hadronic
widths are uncertain by a factor of a few.
"""

from __future__ import annotations

import csv
import math
from bisect import bisect_left
from functools import cache
from importlib import resources

from modelbuilder.errors import KinematicsError
from modelbuilder.theory import b_to_kaon, leptophilic_scalar
from modelbuilder.theory.constants import ELECTRON_MASS, HBARC, HIGGS_VACUUM_VALUE, MUON_MASS, TAU_MASS

TABLE = "dark_scalar_lifetimes.csv"
PION_MASS = 0.1349768
"""GeV, of the neutral pion, the lightest hadron that S can decay to in pairs; PDG 2024."""


def branching_fraction(
    transition: str, mass: float, mixing: float, source: b_to_kaon.FormFactors = "ball-zwicky"
) -> float:
    """Of B -> K S; zero where it is closed.    transition: one of `b_to_kaon.TRANSITIONS`.    mixing: sin(theta).

    L = -m_b g S sbar_L b_R + h.c., g = sin(theta) 3 m_t^2 |V_ts V_tb|/(16 pi^2 v^3), by a loop with the pole mass of the top.
    """
    decay = b_to_kaon.TRANSITIONS[transition]
    coupling = 3.0 * mixing * b_to_kaon.TOP_MASS**2 * b_to_kaon.V_TS_V_TB
    coupling /= 16.0 * math.pi**2 * HIGGS_VACUUM_VALUE**3
    return b_to_kaon.branching_fraction(decay, b_to_kaon.derivative_width(decay, mass, coupling, source))


def lepton_width(mass: float, lepton_mass: float, mixing: float) -> float:
    """Gamma(S -> l+ l-), GeV: sin^2(theta) m_l^2 m/(8 pi v^2) (1 - 4r)^(3/2)."""
    return leptophilic_scalar.scalar_width(mass, lepton_mass, mixing * lepton_mass / HIGGS_VACUUM_VALUE)


def hadron_width(mass: float, mixing: float) -> float:
    """Gamma(S -> hadrons), GeV: zero below 2 m_pi, an error above 4.5 GeV.

    What the leptons leave of the lifetimes of the table, divided by the velocity of two pions and interpolated in the
    logarithm. Steps at the thresholds of two kaons and of charm are smeared over the distance of the points.
    """
    if mass <= 2.0 * PION_MASS:
        return 0.0
    masses, logarithms = _hadron_table()
    if mass > masses[-1]:
        msg = f"dark scalar of {mass:g} GeV: hadronic widths are known up to {masses[-1]:g} GeV"
        raise KinematicsError(msg)
    upper = max(bisect_left(masses, mass), 1)
    fraction = max((mass - masses[upper - 1]) / (masses[upper] - masses[upper - 1]), 0.0)
    logarithm = logarithms[upper - 1] + fraction * (logarithms[upper] - logarithms[upper - 1])
    return math.exp(logarithm) * _velocity(mass) * mixing**2


def total_width(mass: float, mixing: float) -> float:
    """GeV; decays to photons by loops are left out."""
    leptons = sum(lepton_width(mass, m, mixing) for m in (ELECTRON_MASS, MUON_MASS, TAU_MASS))
    return leptons + hadron_width(mass, mixing)


def decay_length(mass: float, mixing: float) -> float:
    """c tau in cm; infinite below 2 m_e."""
    total = total_width(mass, mixing)
    return HBARC / total if total > 0.0 else math.inf


def _velocity(mass: float) -> float:
    return math.sqrt(1.0 - (2.0 * PION_MASS / mass) ** 2)


@cache
def _hadron_table() -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Masses in GeV, and logarithms of hadronic width (GeV, sin(theta) = 1) over the velocity of two pions."""
    text = resources.files("modelbuilder.theory").joinpath("data", TABLE).read_text(encoding="utf-8")
    masses, logarithms = [], []
    for row in csv.DictReader(line for line in text.splitlines() if not line.startswith("#")):
        mass = float(row["m_GeV"])
        leptons = sum(lepton_width(mass, m, 1.0) for m in (ELECTRON_MASS, MUON_MASS, TAU_MASS))
        masses.append(mass)
        logarithms.append(math.log((HBARC / (100.0 * float(row["ctau_m"])) - leptons) / _velocity(mass)))
    return tuple(masses), tuple(logarithms)
