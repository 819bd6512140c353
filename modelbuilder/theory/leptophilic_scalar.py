"""Scalars and pseudoscalars that couple to leptons, radiated by them: L = -y_l lbar l S, or -i y_l lbar gamma5 l P.

leptophilic scalar phi_L: y_l = xi m_l/v, v = 246.22 GeV.    muonphilic scalar: y_mu = g_S alone.
ALP with (C_ll/2 Lambda) d_mu a lbar gamma^mu gamma5 l, the same C for all l: on shell a pseudoscalar coupling
y_l = m_l C_ll/Lambda.
Sources: physics notes, sections 5, 6a and 11.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from modelbuilder.theory import lepton_pair
from modelbuilder.theory.constants import ELECTRON_MASS, HBARC, HIGGS_VACUUM_VALUE, MUON_MASS, TAU_MASS
from modelbuilder.theory.model import Model, Parameter, Parameters


def cross_section(sqrt_s: float, mass: float, coupling: float, lepton_mass: float = TAU_MASS) -> float:
    """e+e- -> l+ l- phi_L in fb at lowest order; zero below threshold.    coupling: xi.    lepton_mass: mu or tau."""
    yukawa = coupling * lepton_mass / HIGGS_VACUUM_VALUE
    return lepton_pair.cross_section(sqrt_s, lepton_mass, mass, "scalar") * yukawa**2


def scalar_width(mass: float, lepton_mass: float, yukawa: float) -> float:
    """Gamma(S -> l+ l-), GeV: y^2 m/(8 pi) (1 - 4r)^(3/2), r = m_l^2/m^2."""
    ratio = (lepton_mass / mass) ** 2
    return yukawa**2 * mass / (8.0 * math.pi) * (1.0 - 4.0 * ratio) ** 1.5 if ratio < 0.25 else 0.0


def pseudoscalar_width(mass: float, lepton_mass: float, yukawa: float) -> float:
    """Gamma(P -> l+ l-), GeV: y^2 m/(8 pi) sqrt(1 - 4r)."""
    ratio = (lepton_mass / mass) ** 2
    return yukawa**2 * mass / (8.0 * math.pi) * math.sqrt(1.0 - 4.0 * ratio) if ratio < 0.25 else 0.0


@dataclass(frozen=True, kw_only=True)
class Widths:
    """Partial widths into leptons, GeV."""

    electrons: float
    muons: float
    taus: float

    @property
    def total(self) -> float:
        """GeV."""
        return self.electrons + self.muons + self.taus

    def fraction(self, decay: str) -> float:
        """Branching fraction of the decay to `electrons`, `muons` or `taus`; 0 where nothing is open."""
        return float(getattr(self, decay)) / self.total if self.total > 0.0 else 0.0


def widths(mass: float, coupling: float) -> Widths:
    """Of phi_L, proportional to m_l^2; branching fractions are ratios of these. Decays to photons are left out."""
    return _widths(scalar_width, mass, coupling / HIGGS_VACUUM_VALUE)


def alp_widths(mass: float, coupling: float) -> Widths:
    """Of an ALP with C_ll/Lambda (GeV^-1), proportional to m_l^2.

    Decays to photons by loops, of the order of alpha^2 m^2/(8 pi^2 m_l^2) of those to the heaviest lepton that is open,
    are left out: a few per mille at most above 2 m_mu.
    """
    return _widths(pseudoscalar_width, mass, coupling)


def _widths(width: Callable[[float, float, float], float], mass: float, yukawa_per_mass: float) -> Widths:
    electrons, muons, taus = (width(mass, m, yukawa_per_mass * m) for m in (ELECTRON_MASS, MUON_MASS, TAU_MASS))
    return Widths(electrons=electrons, muons=muons, taus=taus)


def decay_length(mass: float, coupling: float) -> float:
    """c tau of phi_L, cm; infinite below 2 m_e."""
    total = widths(mass, coupling).total
    return HBARC / total if total > 0.0 else math.inf


RADIATED_BY = {"muons": MUON_MASS, "taus": TAU_MASS}


def _leptophilic(sqrt_s: float, masses: tuple[float, ...], coupling: float, parameters: Parameters) -> float:
    (mass,) = masses
    produced = cross_section(sqrt_s, mass, coupling, RADIATED_BY[str(parameters["radiated_by"])])
    return produced * widths(mass, 1.0).fraction(str(parameters["decay"]))


def _muonphilic(sqrt_s: float, masses: tuple[float, ...], coupling: float, parameters: Parameters) -> float:
    (mass,) = masses
    if parameters["decay"] == "muons" and mass <= 2.0 * MUON_MASS:
        return 0.0
    return lepton_pair.cross_section(sqrt_s, MUON_MASS, mass, "scalar") * coupling**2


def _alp(sqrt_s: float, masses: tuple[float, ...], coupling: float, parameters: Parameters) -> float:
    (mass,) = masses
    lepton_mass = RADIATED_BY[str(parameters["radiated_by"])]
    produced = lepton_pair.cross_section(sqrt_s, lepton_mass, mass, "pseudoscalar") * (lepton_mass * coupling) ** 2
    return produced * alp_widths(mass, 1.0).fraction(str(parameters["decay"]))


LEPTOPHILIC = Model(
    coupling="xi",
    unit="",
    symbol=r"$\xi$",
    law="leptons-scalar",
    power=2,
    rate=_leptophilic,
    parameters={
        "radiated_by": Parameter(
            kind="choice", description="the pair that is made with it", choices=("muons", "taus"), default="taus"
        ),
        "decay": Parameter(
            kind="choice", description="decay that is searched for", choices=("electrons", "muons", "taus")
        ),
    },
)
"""e+e- -> l+ l- phi_L with a decay to leptons, all of it where it is looked for: below 2 m_mu see `decay_length`."""

MUONPHILIC = Model(
    coupling="g_s",
    unit="",
    symbol="$g_S$",
    law="leptons-scalar",
    power=2,
    rate=_muonphilic,
    parameters={
        "decay": Parameter(
            kind="choice",
            description="the only decay: to muons, or invisible, to a dark sector",
            choices=("muons", "invisible"),
            default="muons",
        )
    },
)
"""e+e- -> mu+ mu- S."""

ALP = Model(
    coupling="c_ll_over_lambda_per_gev",
    unit="GeV^-1",
    symbol=r"$|C_{\ell\ell}|/\Lambda$ [GeV$^{-1}$]",
    law="leptons-pseudoscalar",
    power=2,
    rate=_alp,
    parameters={
        "radiated_by": Parameter(
            kind="choice", description="the pair that is made with it", choices=("muons", "taus"), default="muons"
        ),
        "decay": Parameter(
            kind="choice", description="decay that is searched for", choices=("muons", "taus"), default="taus"
        ),
    },
)
"""e+e- -> l+ l- a."""
