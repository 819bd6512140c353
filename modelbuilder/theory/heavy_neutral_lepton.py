"""Heavy neutral lepton N that mixes with nu_tau alone: tau -> pi N, and its decays through the Z.

Source: Bondarenko, Boyarsky, Gorbunov, Ruchayskiy, arXiv:1805.08567, by way of the physics notes, section 8.7. Widths
are those of a Dirac N; every width of a Majorana N is twice as large. Decays with a tau need more mass than tau -> pi N
gives; above the mass of the omega single mesons stand for all hadrons.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from modelbuilder.theory.constants import (
    ELECTRON_MASS,
    FERMI,
    HBAR,
    HBARC,
    MUON_MASS,
    SIN2_EFFECTIVE,
    TAU_LIFETIME,
    TAU_MASS,
)
from modelbuilder.theory.model import Model, Parameter, Parameters

PION_CONSTANT = 0.1302
"""f_pi in GeV, PDG, recalled."""

ETA_CONSTANT = 0.082
"""f_eta in GeV for nu eta, from arXiv:1805.08567, recalled."""

V_UD = 0.97373
"""PDG, recalled."""

CHARGED_PION_MASS, NEUTRAL_PION_MASS, ETA_MASS = 0.13957039, 0.1349768, 0.547862
"""GeV, PDG, recalled."""

RHO, OMEGA = (0.77526, 0.162, 1.0 - 2.0 * SIN2_EFFECTIVE), (0.78266, 0.153, 4.0 / 3.0 * SIN2_EFFECTIVE)
"""Mass in GeV, decay constant g in GeV^2 and weak charge of the vectors; PDG and arXiv:1805.08567, recalled."""


@dataclass(frozen=True, kw_only=True)
class Widths:
    """Partial widths, GeV."""

    neutrinos: float
    electrons: float
    muons: float
    pion: float
    eta: float
    rho: float
    omega: float

    @property
    def total(self) -> float:
        """GeV."""
        return self.neutrinos + self.electrons + self.muons + self.pion + self.eta + self.rho + self.omega


def widths(mass: float, mixing2: float) -> Widths:
    """Of a Dirac N.    mixing2: |U_tau|^2."""
    return Widths(
        neutrinos=_three_fermions(mass) * mixing2,
        electrons=_pair(mass, ELECTRON_MASS) * mixing2,
        muons=_pair(mass, MUON_MASS) * mixing2,
        pion=_pseudoscalar(mass, NEUTRAL_PION_MASS, PION_CONSTANT) * mixing2,
        eta=_pseudoscalar(mass, ETA_MASS, ETA_CONSTANT) * mixing2,
        rho=_vector(mass, *RHO) * mixing2,
        omega=_vector(mass, *OMEGA) * mixing2,
    )


def decay_length(mass: float, mixing2: float) -> float:
    """c tau of a Dirac N in cm; infinite without mixing."""
    total = widths(mass, mixing2).total
    return HBARC / total if total > 0.0 else math.inf


def production(mass: float, mixing2: float) -> float:
    """Branching fraction of tau -> pi N; zero where it is closed.

    tau_tau G_F^2 |V_ud|^2 f_pi^2 |U|^2 m_tau^3/(16 pi) [(1 - y_N^2)^2 - y_pi^2 (1 + y_N^2)] sqrt(lambda(1, y_N^2, y_pi^2)),
    y = m/m_tau.
    """
    heavy, pion = mass / TAU_MASS, CHARGED_PION_MASS / TAU_MASS
    if heavy + pion >= 1.0:
        return 0.0
    kallen = (1.0 - (heavy + pion) ** 2) * (1.0 - (heavy - pion) ** 2)
    shape = ((1.0 - heavy**2) ** 2 - pion**2 * (1.0 + heavy**2)) * math.sqrt(kallen)
    unit = FERMI**2 * V_UD**2 * PION_CONSTANT**2 * TAU_MASS**3 / (16.0 * math.pi)
    return TAU_LIFETIME / HBAR * unit * shape * mixing2


def _three_fermions(mass: float) -> float:
    """G_F^2 m^5/(192 pi^3), the width into three neutrinos."""
    return FERMI**2 * mass**5 / (192.0 * math.pi**3)


def _pair(mass: float, lepton_mass: float) -> float:
    """N -> nu_tau l+ l- through the Z, l = e or mu; zero where it is closed."""
    x = lepton_mass / mass
    if x >= 0.5:
        return 0.0
    s2 = SIN2_EFFECTIVE
    c1, c2 = (1.0 - 4.0 * s2 + 8.0 * s2**2) / 4.0, s2 * (2.0 * s2 - 1.0) / 2.0
    root = math.sqrt(1.0 - 4.0 * x**2)
    # 1 - 3x^2 - (1 - x^2) root loses its digits for light leptons; multiplied by its conjugate it is 4 x^6
    logarithm = math.log(4.0 * x**4 / ((1.0 - 3.0 * x**2 + (1.0 - x**2) * root) * (1.0 + root)))
    first = (1.0 - 14.0 * x**2 - 2.0 * x**4 - 12.0 * x**6) * root + 12.0 * x**4 * (x**4 - 1.0) * logarithm
    second = x**2 * (2.0 + 10.0 * x**2 - 12.0 * x**4) * root
    second += 6.0 * x**4 * (1.0 - 2.0 * x**2 + 2.0 * x**4) * logarithm
    return _three_fermions(mass) * (c1 * first + 4.0 * c2 * second)


def _pseudoscalar(mass: float, meson_mass: float, constant: float) -> float:
    """N -> nu P: G_F^2 f^2 m^3/(32 pi) (1 - m_P^2/m^2)^2."""
    if meson_mass >= mass:
        return 0.0
    return FERMI**2 * constant**2 * mass**3 / (32.0 * math.pi) * (1.0 - (meson_mass / mass) ** 2) ** 2


def _vector(mass: float, meson_mass: float, constant: float, charge: float) -> float:
    """N -> nu V: G_F^2 g^2 charge^2 m^3/(16 pi m_V^2) (1 + 2 m_V^2/m^2)(1 - m_V^2/m^2)^2."""
    if meson_mass >= mass:
        return 0.0
    ratio = (meson_mass / mass) ** 2
    unit = FERMI**2 * constant**2 * charge**2 * mass**3 / (16.0 * math.pi * meson_mass**2)
    return unit * (1.0 + 2.0 * ratio) * (1.0 - ratio) ** 2


def _muons(_: float, masses: tuple[float, ...], coupling: float, __: Parameters) -> float:
    (mass,) = masses
    produced = production(mass, coupling)
    found = widths(mass, 1.0)
    return produced * found.muons / found.total


def _lifetime(masses: tuple[float, ...], coupling: float, parameters: Parameters) -> float:
    dirac = decay_length(masses[0], coupling)
    return dirac if parameters["nature"] == "dirac" else 0.5 * dirac


HEAVY_NEUTRAL_LEPTON = Model(
    coupling="u_tau_squared",
    unit="",
    symbol=r"$|U_{\tau N}|^2$",
    law=None,
    limits="branching fraction",
    largest=1.0,
    power=1,
    rate=_muons,
    lifetime=_lifetime,
    parameters={
        "nature": Parameter(
            kind="choice",
            description="a majorana N has twice the width into each channel, hence half the lifetime",
            choices=("dirac", "majorana"),
        )
    },
)
"""tau -> pi N with N -> mu+ mu- nu: the product of both branching fractions, the same for Dirac and Majorana."""
