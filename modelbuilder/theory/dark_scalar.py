"""Scalar S that mixes with the Higgs, with couplings sin(theta) m/v: B -> K S, widths and lifetime.

Sources: Boiarska et al., arXiv:1904.10447 for the rates; Winkler, arXiv:1809.01876 for the hadronic widths, as a table
of lifetimes and branching fractions digitised by others. All by way of the physics notes, section 8.3. Between 0.5 and
2 GeV the hadronic widths are uncertain by a factor of a few.
"""

from __future__ import annotations

import csv
import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType

from modelbuilder.errors import KinematicsError
from modelbuilder.theory import b_to_kaon, leptophilic_scalar
from modelbuilder.theory.constants import ELECTRON_MASS, HBARC, HIGGS_VACUUM_VALUE, MUON_MASS, TAU_MASS
from modelbuilder.theory.model import Model, Parameter, Parameters

TABLE = "dark_scalar_decays.csv"
NEUTRAL_PION_MASS, CHARGED_PION_MASS, KAON_MASS, D_MASS = 0.1349768, 0.13957039, 0.493677, 1.86484
"""GeV, PDG 2024: neutral and charged pion, charged kaon and neutral D, the lightest that S can decay to in pairs."""

EXCLUSIVE_UP_TO = 2.0
"""GeV. Above, hadrons are quarks and gluons, and how many of them are just two pions or two kaons is not known."""

CONTINUED_TO = 4.8
"""GeV, above the last point, 4.5 GeV, and the mass that B -> K S ends at: to here every part grows as at that point."""


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


@dataclass(frozen=True, kw_only=True)
class Widths:
    """Partial widths, GeV. pions, kaons: pi pi and K K of all charges; 0 above `EXCLUSIVE_UP_TO`, where `other` has them."""

    electrons: float
    muons: float
    taus: float
    pions: float
    kaons: float
    charm: float
    other: float

    @property
    def leptons(self) -> float:
        """GeV."""
        return self.electrons + self.muons + self.taus

    @property
    def hadrons(self) -> float:
        """GeV."""
        return self.pions + self.kaons + self.charm + self.other

    @property
    def total(self) -> float:
        """GeV; decays to photons by loops are left out."""
        return self.leptons + self.hadrons


def widths(mass: float, mixing: float) -> Widths:
    """Of S; an error above 4.8 GeV. Leptons by `lepton_width`; hadrons from the table.

    The lifetimes of the table, less the leptons, are shared among hadrons as its branching fractions say. Between the
    points the logarithm of each part is interpolated, after division by how its phase space opens, so that each ends at
    its threshold: 2 m_pi, 2 m_K, 4 m_pi for the rest, 2 m_D. Up to 2 GeV pi pi, K K and the rest are parts, above all
    hadrons without charm are one. Where K K opens, between points 0.1 GeV apart, the dip of pi pi is not resolved.
    """
    if mass > CONTINUED_TO:
        msg = f"dark scalar of {mass:g} GeV: hadronic widths are known up to {CONTINUED_TO:g} GeV"
        raise KinematicsError(msg)
    electrons, muons, taus = (lepton_width(mass, m, mixing) for m in (ELECTRON_MASS, MUON_MASS, TAU_MASS))
    parts = {name: part(mass) * mixing**2 for name, part in _parts().items()}
    exclusive = mass <= EXCLUSIVE_UP_TO
    return Widths(
        electrons=electrons,
        muons=muons,
        taus=taus,
        pions=parts["pions"] if exclusive else 0.0,
        kaons=parts["kaons"] if exclusive else 0.0,
        charm=parts["charm"],
        other=parts["other" if exclusive else "light"],
    )


def lepton_width(mass: float, lepton_mass: float, mixing: float) -> float:
    """Gamma(S -> l+ l-), GeV: sin^2(theta) m_l^2 m/(8 pi v^2) (1 - 4r)^(3/2)."""
    return leptophilic_scalar.scalar_width(mass, lepton_mass, mixing * lepton_mass / HIGGS_VACUUM_VALUE)


def decay_length(mass: float, mixing: float) -> float:
    """c tau in cm; infinite below 2 m_e, and without mixing."""
    total = widths(mass, mixing).total
    return HBARC / total if total > 0.0 else math.inf


FINAL_STATES: Mapping[str, Callable[[float, Widths], float]] = MappingProxyType(
    {
        "electrons": lambda mass, found: found.electrons,
        "muons": lambda mass, found: found.muons,
        "taus": lambda mass, found: found.taus,
        "pions": lambda mass, found: 2.0 / 3.0 * found.pions if mass > 2.0 * CHARGED_PION_MASS else 0.0,
        "kaons": lambda mass, found: 0.5 * found.kaons,
        "all": lambda mass, found: found.total,
    }
)
"""Widths of what a search looks for: pi+ pi- are 2/3 of pi pi, K+ K- 1/2 of K K, by isospin."""

FINAL = Parameter(
    kind="choice",
    description="what it decays to in the search: pions and kaons are pi+ pi- and K+ K-, below 2 GeV only",
    choices=tuple(FINAL_STATES),
)


def fraction(mass: float, final: str) -> float:
    """Branching fraction of S into one of `FINAL_STATES`; 0 below 2 m_e, where nothing is open."""
    found = widths(mass, 1.0)
    return FINAL_STATES[final](mass, found) / found.total if found.total > 0.0 else 0.0


def _velocity(mass: float, least: float) -> float:
    """Of two equal particles whose masses add up to `least`; 0 where they do not fit."""
    return math.sqrt(1.0 - (least / mass) ** 2) if mass > least else 0.0


_OPENING: Mapping[str, Callable[[float], float]] = MappingProxyType(
    {
        "pions": lambda mass: _velocity(mass, 2.0 * NEUTRAL_PION_MASS),
        "kaons": lambda mass: _velocity(mass, 2.0 * KAON_MASS),
        "other": lambda mass: mass**3 * _velocity(mass, 4.0 * CHARGED_PION_MASS),
        "charm": lambda mass: mass * _velocity(mass, 2.0 * D_MASS) ** 3,
        "light": lambda mass: 1.0,
    }
)
"""How each part grows from its threshold; what is left is interpolated."""


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A hadronic width for sin(theta) = 1, GeV, by its points: masses and logarithms of width over `opening`."""

    opening: Callable[[float], float]
    masses: Sequence[float]
    logarithms: Sequence[float]

    def __call__(self, mass: float) -> float:
        opening = self.opening(mass)
        if opening == 0.0:
            return 0.0
        if mass <= self.masses[0]:
            return math.exp(self.logarithms[0]) * opening
        if mass >= self.masses[-1]:
            return math.exp(self.logarithms[-1]) * opening
        upper = bisect_left(self.masses, mass)
        share = (mass - self.masses[upper - 1]) / (self.masses[upper] - self.masses[upper - 1])
        low, high = self.logarithms[upper - 1], self.logarithms[upper]
        return math.exp(low + share * (high - low)) * opening


@cache
def _parts() -> Mapping[str, _Part]:
    """The parts of the table; `light` is all without charm, from 2 GeV on."""
    text = resources.files("modelbuilder.theory").joinpath("data", TABLE).read_text(encoding="utf-8")
    points: dict[str, list[tuple[float, float]]] = {name: [] for name in _OPENING}
    for row in csv.DictReader(line for line in text.splitlines() if not line.startswith("#")):
        mass = float(row["m_GeV"])
        leptons = sum(lepton_width(mass, m, 1.0) for m in (ELECTRON_MASS, MUON_MASS, TAU_MASS))
        shares = {name: float(row[name]) for name in ("pions", "kaons", "charm", "other")}
        hadrons = (HBARC / (100.0 * float(row["ctau_m"])) - leptons) / sum(shares.values())
        shares["light"] = shares["pions"] + shares["kaons"] + shares["other"] if mass >= EXCLUSIVE_UP_TO else 0.0
        if mass > EXCLUSIVE_UP_TO:
            shares["other"] = 0.0
        for name, share in shares.items():
            if share > 0.0:
                points[name].append((mass, math.log(hadrons * share / _OPENING[name](mass))))
    return {
        name: _Part(opening=_OPENING[name], masses=tuple(m for m, _ in some), logarithms=tuple(y for _, y in some))
        for name, some in points.items()
    }


def _searched_for(_: float, masses: tuple[float, ...], coupling: float, parameters: Parameters) -> float:
    (mass,) = masses
    transition, kaon, source = b_to_kaon.chosen(parameters)
    produced = branching_fraction(transition, mass, coupling, source) * kaon
    return produced * fraction(mass, str(parameters["final"])) if produced > 0.0 else 0.0


def _lifetime(masses: tuple[float, ...], coupling: float, _: Parameters) -> float:
    return decay_length(masses[0], coupling)


DARK_SCALAR = Model(
    coupling="sin_theta",
    unit="",
    symbol=r"$\sin\theta$",
    law=None,
    limits="branching fraction",
    largest=1.0,
    power=2,
    rate=_searched_for,
    lifetime=_lifetime,
    parameters={"decay": b_to_kaon.DECAY, "final": FINAL, "form_factors": b_to_kaon.FORM_FACTORS},
)
"""B -> K S with S -> x+ x-: the product of both branching fractions."""
