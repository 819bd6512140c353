"""Dark photon A' with kinetic mixing, L = -eps e A'_mu J_em^mu, that decays to Standard Model particles or dark matter.

Sources: physics notes, sections 7c, 8c and the table of branching fractions made with Darkcast (Ilten, Soreq, Williams,
Xue, arXiv:1801.04847), which is shipped in `data`; the cross sections are tested against integrals of the amplitude.
y = eps^2 alpha_D (m_chi/m_A')^4: physics notes, section 7c.
"""

from __future__ import annotations

import csv
import math
from bisect import bisect_left
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

from modelbuilder.errors import KinematicsError
from modelbuilder.theory.constants import (
    ALPHA,
    ELECTRON_MASS,
    HBARC,
    HBARC_SQUARED,
    MUON_MASS,
    TAU_MASS,
)
from modelbuilder.theory.model import Model, Parameter, Parameters

TABLE = "dark_photon_branching_fractions.csv"
NEUTRAL_PION_MASS = 0.1349768
"""GeV, PDG 2024: below it A' has no hadronic decay, A' -> pi0 gamma being the first that opens."""

CONTINUED_TO = 11.0
"""GeV: so far the ratio of hadronic and leptonic width of the last point of the table is taken to hold.

Derived: below the open b threshold at 10.56 GeV it changes by a few per cent; resonances are not in it.
"""


def cross_section(sqrt_s: float, mass: float, coupling: float, max_cos: float) -> float:
    """e+e- -> gamma A' with |cos theta*| of the photon below max_cos, fb, at lowest order; zero above threshold.

    coupling: eps. (2 pi alpha^2 eps^2/s)(1 - x) {2 (L - c0) + 4x/(1 - x)^2 L}, L = ln((1 + c0)/(1 - c0)), x = m^2/s:
    the integral of the angular law of massless electrons. Close to the beams their mass matters: with max_cos = 1, and
    where the integral exceeds it, `total_cross_section`.
    """
    if mass >= sqrt_s:
        return 0.0
    if max_cos == 1.0:
        return total_cross_section(sqrt_s, mass, coupling)
    x = (mass / sqrt_s) ** 2
    logarithm = 2.0 * math.atanh(max_cos)
    bracket = 2.0 * (logarithm - max_cos) + 4.0 * x / (1.0 - x) ** 2 * logarithm
    within = _unit(sqrt_s) * coupling**2 * (1.0 - x) * bracket
    return min(within, total_cross_section(sqrt_s, mass, coupling))


def total_cross_section(sqrt_s: float, mass: float, coupling: float) -> float:
    """The same over all angles, fb: (4 pi alpha^2 eps^2/s) (1 + x^2)/(1 - x) (ln(s/m_e^2) - 1), to O(m_e^2/s).

    Divergent at threshold, x -> 1, where soft photons would have to be summed.
    """
    if mass >= sqrt_s:
        return 0.0
    x = (mass / sqrt_s) ** 2
    logarithm = 2.0 * math.log(sqrt_s / ELECTRON_MASS) - 1.0
    return _unit(sqrt_s) * coupling**2 * 2.0 * (1.0 + x**2) / (1.0 - x) * logarithm


def lepton_width(mass: float, lepton_mass: float, coupling: float) -> float:
    """Gamma(A' -> l+ l-), GeV: alpha eps^2 m/3 (1 + 2r) sqrt(1 - 4r), r = m_l^2/m^2."""
    ratio = (lepton_mass / mass) ** 2
    if ratio >= 0.25:
        return 0.0
    return ALPHA * coupling**2 * mass / 3.0 * (1.0 + 2.0 * ratio) * math.sqrt(1.0 - 4.0 * ratio)


def hadron_width(mass: float, coupling: float) -> float:
    """Gamma(A' -> hadrons), GeV, linear in mass between the points of the table; an error above 11 GeV.

    From Darkcast: measured below 2 GeV, perturbative above. The points are 1 to 5 MeV apart at best, so that omega and
    phi are only sketched and J/psi, psi(2S) and Y are absent. Beyond the last point, 10.2 GeV: see CONTINUED_TO.
    """
    masses, widths = _hadron_table()
    if mass <= NEUTRAL_PION_MASS:
        return 0.0
    if mass > CONTINUED_TO:
        msg = f"dark photon of {mass:g} GeV: hadronic widths are known up to {CONTINUED_TO:g} GeV"
        raise KinematicsError(msg)
    if mass >= masses[-1]:
        return widths[-1] * mass / masses[-1] * coupling**2
    upper = bisect_left(masses, mass)
    fraction = (mass - masses[upper - 1]) / (masses[upper] - masses[upper - 1])
    return (widths[upper - 1] + fraction * (widths[upper] - widths[upper - 1])) * coupling**2


@dataclass(frozen=True, kw_only=True)
class Widths:
    """Partial widths, GeV, by what a dark photon, or a virtual one, decays to."""

    electrons: float
    muons: float
    taus: float
    hadrons: float

    @property
    def total(self) -> float:
        """GeV."""
        return self.electrons + self.muons + self.taus + self.hadrons


def widths(mass: float, coupling: float) -> Widths:
    """Of an A' that decays to Standard Model particles only; branching fractions are ratios of these."""
    return Widths(
        electrons=lepton_width(mass, ELECTRON_MASS, coupling),
        muons=lepton_width(mass, MUON_MASS, coupling),
        taus=lepton_width(mass, TAU_MASS, coupling),
        hadrons=hadron_width(mass, coupling),
    )


def branching_fraction(mass: float, decay: str) -> float:
    """Of a visible A' into `electrons`, `muons`, `taus` or `hadrons`; 0 below 2 m_e, where nothing is open."""
    found = widths(mass, 1.0)
    return float(getattr(found, decay)) / found.total if found.total > 0.0 else 0.0


MOSTLY_PIONS = 0.95
"""GeV. Up to here nearly all hadronic decays of A' are pairs of charged pions (the rho), but in the narrow omega."""


def pair_fraction(mass: float) -> float:
    """Branching fraction of A' into a pair of tracks: e+ e-, mu+ mu-, and hadrons up to `MOSTLY_PIONS`.

    Above, pi+ pi- and K+ K- are a few per cent each and left out. An assumption: the table has no exclusive widths.
    """
    pions = branching_fraction(mass, "hadrons") if mass <= MOSTLY_PIONS else 0.0
    return branching_fraction(mass, "electrons") + branching_fraction(mass, "muons") + pions


def decay_length(mass: float, coupling: float) -> float:
    """c tau of a visible A', cm."""
    return HBARC / widths(mass, coupling).total


def dirac_width(mass: float, fermion_mass: float, dark_alpha: float) -> float:
    """Gamma(A' -> chi chibar), GeV, chi a Dirac fermion of unit dark charge: alpha_D m/3 (1 + 2r) sqrt(1 - 4r)."""
    ratio = (fermion_mass / mass) ** 2
    return dark_alpha * mass / 3.0 * (1.0 + 2.0 * ratio) * math.sqrt(1.0 - 4.0 * ratio) if ratio < 0.25 else 0.0


def scalar_width(mass: float, scalar_mass: float, dark_alpha: float) -> float:
    """Gamma(A' -> phi phi*), GeV, phi a complex scalar of unit dark charge: alpha_D m/12 (1 - 4r)^(3/2)."""
    ratio = (scalar_mass / mass) ** 2
    return dark_alpha * mass / 12.0 * (1.0 - 4.0 * ratio) ** 1.5 if ratio < 0.25 else 0.0


def inelastic_width(mass: float, mass1: float, mass2: float, dark_alpha: float) -> float:
    """Gamma(A' -> chi1 chi2), GeV, of two Majorana fermions with the vector current of a split Dirac fermion.

    alpha_D m/3 sqrt(lambda) (1 - (x1 + x2)/2 - (x1 - x2)^2/2 + 3 sqrt(x1 x2)), x = m_i^2/m^2; m1 = m2: `dirac_width`.
    """
    if mass1 + mass2 >= mass:
        return 0.0
    x1, x2 = (mass1 / mass) ** 2, (mass2 / mass) ** 2
    kallen = (1.0 - x1 - x2) ** 2 - 4.0 * x1 * x2
    shape = 1.0 - 0.5 * (x1 + x2) - 0.5 * (x1 - x2) ** 2 + 3.0 * math.sqrt(x1 * x2)
    return dark_alpha * mass / 3.0 * math.sqrt(kallen) * shape


def inelastic_decay_width(mass: float, mass1: float, mass2: float, coupling: float, dark_alpha: float) -> float:
    """Gamma(chi2 -> chi1 e+ e-), GeV, for m_e << m2 - m1 << m1 and mass of A': 4 eps^2 alpha alpha_D D^5/(15 pi m^4).

    Izaguirre, Krnjaic, Shuve, arXiv:1508.03050. For D/m1 above 0.3 integrate the matrix element.
    """
    return 4.0 * coupling**2 * ALPHA * dark_alpha * (mass2 - mass1) ** 5 / (15.0 * math.pi * mass**4)


def lepton_pair_background(sqrt_s: float, mass: float, lepton_mass: float, max_cos: float) -> float:
    """dsigma/dm of e+e- -> gamma l+ l- by initial-state radiation, fb/GeV, photon in |cos theta*| < max_cos.

    [sigma(gamma A')/eps^2] (2 alpha/(3 pi m)) (1 + 2r) sqrt(1 - 4r): a virtual photon of mass m is a dark photon.
    """
    ratio = (lepton_mass / mass) ** 2
    if ratio >= 0.25:
        return 0.0
    splitting = 2.0 * ALPHA / (3.0 * math.pi * mass) * (1.0 + 2.0 * ratio) * math.sqrt(1.0 - 4.0 * ratio)
    return cross_section(sqrt_s, mass, 1.0, max_cos) * splitting


def _unit(sqrt_s: float) -> float:
    """2 pi alpha^2/s in fb."""
    return 2.0 * math.pi * ALPHA**2 * HBARC_SQUARED / sqrt_s**2


@cache
def _hadron_table() -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Masses and hadronic widths for eps = 1, GeV."""
    text = resources.files("modelbuilder.theory").joinpath("data", TABLE).read_text(encoding="utf-8")
    rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
    masses = tuple(float(row["m_GeV"]) for row in rows)
    return masses, tuple(float(row["BR_hadronic_total"]) * float(row["Gamma_total_eps1_GeV"]) for row in rows)


def mixing_of_dark_matter(y: float, dark_alpha: float, mass_ratio: float) -> float:
    """eps of y = eps^2 alpha_D (m_chi/m_A')^4.    mass_ratio: m_A'/m_chi."""
    return math.sqrt(y / dark_alpha) * mass_ratio**2


MAX_COS = Parameter(
    kind="fraction",
    description="largest |cos theta*| of the photon in the cross section that is limited; 1: all angles",
)


def _invisible(sqrt_s: float, masses: tuple[float, ...], coupling: float, parameters: Parameters) -> float:
    return cross_section(sqrt_s, masses[0], coupling, float(parameters["max_cos"]))


def _dark_matter(sqrt_s: float, masses: tuple[float, ...], coupling: float, parameters: Parameters) -> float:
    ratio = float(parameters["mass_ratio"])
    if ratio <= 2.0:
        return 0.0
    epsilon = mixing_of_dark_matter(coupling, float(parameters["alpha_d"]), ratio)
    return cross_section(sqrt_s, masses[0], epsilon, float(parameters["max_cos"]))


def _visible(sqrt_s: float, masses: tuple[float, ...], coupling: float, parameters: Parameters) -> float:
    produced = cross_section(sqrt_s, masses[0], coupling, float(parameters["max_cos"]))
    return produced * branching_fraction(masses[0], str(parameters["decay"])) if produced > 0.0 else 0.0


INVISIBLE = Model(
    coupling="epsilon",
    unit="",
    symbol=r"$\varepsilon$",
    law="photon-vector",
    power=2,
    rate=_invisible,
    parameters={"max_cos": MAX_COS},
)
"""e+e- -> gamma A' with A' -> dark sector only."""

DARK_MATTER = replace(
    INVISIBLE,
    coupling="y",
    symbol="$y$",
    power=1,
    rate=_dark_matter,
    parameters={
        "alpha_d": Parameter(kind="number", description="alpha_D = g_D^2/(4 pi), such as 0.1 or 0.5"),
        "mass_ratio": Parameter(kind="number", description="m_A'/m_chi, such as 3; above 2, or A' has no dark decay"),
        "max_cos": MAX_COS,
    },
)
"""The same with A' -> chi chibar as the only decay, in y = eps^2 alpha_D (m_chi/m_A')^4; the mass is that of A'."""

VISIBLE = replace(
    INVISIBLE,
    rate=_visible,
    parameters={
        "decay": Parameter(
            kind="choice",
            description="decay that is searched for",
            choices=("electrons", "muons", "taus", "hadrons"),
        ),
        "max_cos": MAX_COS,
    },
)
"""e+e- -> gamma A' with decays to Standard Model particles only, all of them prompt."""
