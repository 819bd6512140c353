"""The models that a spec can name, each as a way between cross section and coupling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from modelbuilder.theory import alp_photon


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model with one coupling.

    coupling: column name, with unit.    symbol: for figures.
    cross_section(sqrt_s, mass, coupling): fb.    coupling_from_cross_section(sqrt_s, mass, fb): its inverse.
    """

    coupling: str
    symbol: str
    cross_section: Callable[[float, float, float], float]
    coupling_from_cross_section: Callable[[float, float, float], float]


MODELS = {
    "alp-photon": Model(
        coupling="g_agammagamma_per_gev",
        symbol=r"$g_{a\gamma\gamma}$ [GeV$^{-1}$]",
        cross_section=alp_photon.cross_section,
        coupling_from_cross_section=alp_photon.coupling_from_cross_section,
    ),
}
