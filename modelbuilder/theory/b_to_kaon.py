"""B -> K X and B -> K* X with X of spin 0 from a flavour-changing coupling to b and s: form factors and widths.

Form factors: Ball, Zwicky, hep-ph/0406232 and hep-ph/0412079; lattice (FLAG) and Bharucha, Straub, Zwicky,
arXiv:1503.05534, with the parameters of flavio. All by way of the physics notes, section 8.1, which read them in public
codes. Ten per cent between the two sets is the size of their uncertainty.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from modelbuilder.theory.constants import HBAR
from modelbuilder.theory.model import Parameter, Parameters

FormFactors = Literal["ball-zwicky", "lattice"]

TOP_MASS = 172.6
"""GeV, pole mass, recalled. With the MS-bar mass of 163 GeV rates by way of the W are 11 % lower."""

V_TS_V_TB = 0.0411 * 0.999118
"""|V_ts* V_tb|, PDG, recalled."""


@dataclass(frozen=True, kw_only=True)
class Transition:
    """A B and the kaon that it goes to. Masses in GeV, lifetime of B in s; PDG, recalled."""

    b_mass: float
    b_lifetime: float
    kaon_mass: float
    spin: Literal[0, 1]


_CHARGED = {"b_mass": 5.27941, "b_lifetime": 1.638e-12}
_NEUTRAL = {"b_mass": 5.27972, "b_lifetime": 1.517e-12}
TRANSITIONS: Mapping[str, Transition] = MappingProxyType(
    {
        "B+ -> K+": Transition(**_CHARGED, kaon_mass=0.49368, spin=0),
        "B0 -> K0": Transition(**_NEUTRAL, kaon_mass=0.49761, spin=0),
        "B0 -> K*0": Transition(**_NEUTRAL, kaon_mass=0.89555, spin=1),
        "B+ -> K*+": Transition(**_CHARGED, kaon_mass=0.89167, spin=1),
    }
)

DECAYS: Mapping[str, tuple[str, float]] = MappingProxyType(
    {**{name: (name, 1.0) for name in TRANSITIONS}, "B0 -> K*0(-> K+ pi-)": ("B0 -> K*0", 2.0 / 3.0)}
)
"""What a limit is on: the transition, and the branching fraction of the decay of the kaon if the limit has it, by isospin."""

DECAY = Parameter(kind="choice", description="decay of B whose branching fraction is limited", choices=tuple(DECAYS))

FORM_FACTORS = Parameter(
    kind="choice",
    description="form factors: Ball and Zwicky, or the lattice for K with sum rules and lattice for K*",
    choices=("ball-zwicky", "lattice"),
    default="ball-zwicky",
)


def chosen(parameters: Parameters) -> tuple[str, float, FormFactors]:
    """Transition, branching fraction of the kaon and form factors of the parameters `decay` and `form_factors`."""
    transition, fraction = DECAYS[str(parameters["decay"])]
    return transition, fraction, "lattice" if parameters["form_factors"] == "lattice" else "ball-zwicky"


def momentum(transition: Transition, mass: float) -> float:
    """|p*| of X in the rest frame of B, GeV; 0 where the decay is closed."""
    return 0.5 * transition.b_mass * math.sqrt(_kallen(transition, mass))


def scalar_form_factor(q2: float, source: FormFactors = "ball-zwicky") -> float:
    """f_0 of B -> K: 0.330/(1 - q^2/37.46), or a z expansion with a pole at 5.630 GeV. q2: GeV^2."""
    if source == "ball-zwicky":
        return 0.330 / (1.0 - q2 / 37.46)
    z = _z(q2, TRANSITIONS["B+ -> K+"])
    return (0.292 + 0.281 * z + 0.150 * z**2) / (1.0 - q2 / 5.630**2)


def axial_form_factor(q2: float, source: FormFactors = "ball-zwicky") -> float:
    """A_0 of B -> K*: 1.364/(1 - q^2/5.28^2) - 0.990/(1 - q^2/36.78), or a z expansion with a pole at 5.367 GeV."""
    if source == "ball-zwicky":
        return 1.364 / (1.0 - q2 / 5.28**2) - 0.990 / (1.0 - q2 / 36.78)
    transition = TRANSITIONS["B0 -> K*0"]
    z = _z(q2, transition) - _z(0.0, transition)
    return (0.369 - 1.366 * z + 0.128 * z**2) / (1.0 - q2 / 5.367**2)


def derivative_width(
    transition: Transition, mass: float, coupling: float, source: FormFactors = "ball-zwicky"
) -> float:
    """Gamma(B -> K X), GeV, for L = -g (d_mu X) sbar gamma^mu P_L b with g in GeV^-1; 0 where it is closed.

    K: m_B^3 g^2/(64 pi) (1 - m_K^2/m_B^2)^2 f_0^2 lambda^(1/2).    K*: m_B^3 g^2/(64 pi) A_0^2 lambda^(3/2). The same for
    L = -m_b g X sbar_L b_R + h.c., by the equations of motion with m_s left out.
    """
    kallen, m = _kallen(transition, mass), transition.b_mass
    if kallen == 0.0:
        return 0.0
    unit = m**3 * coupling**2 / (64.0 * math.pi)
    if transition.spin == 1:
        return unit * axial_form_factor(mass**2, source) ** 2 * kallen * math.sqrt(kallen)
    hadronic = (1.0 - (transition.kaon_mass / m) ** 2) * scalar_form_factor(mass**2, source)
    return unit * hadronic**2 * math.sqrt(kallen)


def branching_fraction(transition: Transition, width: float) -> float:
    """Of a partial width (GeV) of B."""
    return width * transition.b_lifetime / HBAR


def _kallen(transition: Transition, mass: float) -> float:
    """lambda(1, m_K^2/m_B^2, m_X^2/m_B^2) as a product; 0 where the decay is closed."""
    m, kaon = transition.b_mass, transition.kaon_mass
    if mass + kaon >= m:
        return 0.0
    return (1.0 - ((mass + kaon) / m) ** 2) * (1.0 - ((mass - kaon) / m) ** 2)


def _z(q2: float, transition: Transition) -> float:
    """The conformal variable, with t_0 = t_+ (1 - sqrt(1 - t_-/t_+))."""
    most, least = ((transition.b_mass + sign * transition.kaon_mass) ** 2 for sign in (1.0, -1.0))
    middle = most * (1.0 - math.sqrt(1.0 - least / most))
    one, two = math.sqrt(most - q2), math.sqrt(most - middle)
    return (one - two) / (one + two)
