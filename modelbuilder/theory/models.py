"""The models that a spec can name, each as a way between cross section and coupling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from modelbuilder.theory import alp_photon, z_prime


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model with one coupling.

    coupling: column name, with unit.    unit: of it, empty for a number.    symbol: for figures.
    cross_section(sqrt_s, mass, coupling): fb, times the branching fraction of the decay that is searched for.
    coupling_from_cross_section(sqrt_s, mass, fb): its inverse.
    """

    coupling: str
    unit: str
    symbol: str
    cross_section: Callable[[float, float, float], float]
    coupling_from_cross_section: Callable[[float, float, float], float]


def _to_neutrinos(mass: float) -> float:
    """Branching fraction of Z' -> nu nubar without decays to a dark sector."""
    widths = z_prime.widths(mass, 1.0)
    return widths.neutrinos / widths.total


MODELS = {
    "alp-photon": Model(
        coupling="g_agammagamma_per_gev",
        unit="GeV^-1",
        symbol=r"$g_{a\gamma\gamma}$ [GeV$^{-1}$]",
        cross_section=alp_photon.cross_section,
        coupling_from_cross_section=alp_photon.coupling_from_cross_section,
    ),
    # e+e- -> mu+ mu- Z', Z' -> invisible, with all decays to a dark sector
    "z-prime-invisible": Model(
        coupling="gprime",
        unit="",
        symbol=r"$g'$",
        cross_section=z_prime.cross_section,
        coupling_from_cross_section=z_prime.coupling_from_cross_section,
    ),
    # the same of L_mu - L_tau, where only the neutrinos are invisible
    "l-mu-l-tau-invisible": Model(
        coupling="gprime",
        unit="",
        symbol=r"$g'$",
        cross_section=lambda sqrt_s, mass, coupling: (
            z_prime.cross_section(sqrt_s, mass, coupling) * _to_neutrinos(mass)
        ),
        coupling_from_cross_section=lambda sqrt_s, mass, cross_section_fb: z_prime.coupling_from_cross_section(
            sqrt_s, mass, cross_section_fb / _to_neutrinos(mass)
        ),
    ),
}
