"""Z' of L_mu - L_tau, with L = g' sum_l theta_l (lbar gamma^mu l + nubar_l gamma^mu P_L nu_l) Z'_mu.

theta = -1 for mu, 1 for tau.

Sources: physics notes, section 3; widths of the public L_mu-L_tau UFO model. Kinetic mixing by loops is left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from modelbuilder.theory import lepton_pair
from modelbuilder.theory.constants import MUON_MASS, TAU_MASS
from modelbuilder.theory.model import Model, Parameter, Parameters


def cross_section(sqrt_s: float, mass: float, coupling: float, lepton_mass: float = MUON_MASS) -> float:
    """e+e- -> l+ l- Z' in fb at lowest order; zero below threshold.    coupling: g'.    lepton_mass: of mu or tau."""
    return lepton_pair.cross_section(sqrt_s, lepton_mass, mass, "vector") * coupling**2


def lepton_width(mass: float, lepton_mass: float, coupling: float) -> float:
    """Gamma(Z' -> l+ l-), GeV: g'^2 m/(12 pi) (1 + 2r) sqrt(1 - 4r), r = m_l^2/m^2."""
    ratio = (lepton_mass / mass) ** 2
    if ratio >= 0.25:
        return 0.0
    return coupling**2 * mass / (12.0 * math.pi) * (1.0 + 2.0 * ratio) * math.sqrt(1.0 - 4.0 * ratio)


def neutrino_width(mass: float, coupling: float) -> float:
    """Gamma(Z' -> nu nubar) of both flavours together, GeV: g'^2 m/(24 pi) each, left-handed neutrinos only."""
    return coupling**2 * mass / (12.0 * math.pi)


@dataclass(frozen=True, kw_only=True)
class Widths:
    """Partial widths of Z', GeV."""

    muons: float
    taus: float
    neutrinos: float

    @property
    def total(self) -> float:
        """GeV."""
        return self.muons + self.taus + self.neutrinos


def widths(mass: float, coupling: float) -> Widths:
    """Of a Z' without decays to a dark sector; branching fractions are ratios of these."""
    return Widths(
        muons=lepton_width(mass, MUON_MASS, coupling),
        taus=lepton_width(mass, TAU_MASS, coupling),
        neutrinos=neutrino_width(mass, coupling),
    )


def branching_fraction(mass: float, decay: str) -> float:
    """Of the decay to `invisible` (neutrinos), `muons` or `taus`, without decays to a dark sector."""
    found = widths(mass, 1.0)
    return {"invisible": found.neutrinos, "muons": found.muons, "taus": found.taus}[decay] / found.total


def _searched_for(sqrt_s: float, masses: tuple[float, ...], coupling: float, parameters: Parameters) -> float:
    (mass,) = masses
    decay = str(parameters["decay"])
    if parameters["invisible_only"] == "yes":
        fraction = 1.0 if decay == "invisible" else 0.0
    else:
        fraction = branching_fraction(mass, decay)
    return cross_section(sqrt_s, mass, coupling) * fraction


L_MU_L_TAU = Model(
    coupling="gprime",
    unit="",
    symbol=r"$g'$",
    law="leptons-vector",
    power=2,
    rate=_searched_for,
    parameters={
        "decay": Parameter(
            kind="choice", description="decay that is searched for", choices=("invisible", "muons", "taus")
        ),
        "invisible_only": Parameter(
            kind="choice",
            description="yes: Z' decays to a light dark sector only, the second benchmark",
            default="no",
            choices=("no", "yes"),
        ),
    },
)
"""e+e- -> mu+ mu- Z' with the decay that is searched for."""
