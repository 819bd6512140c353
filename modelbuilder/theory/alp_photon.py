"""Axion-like particle made by its coupling to photons, L = -(g/4) a F Ftilde: a -> gamma gamma, or invisible.

Sources: Dolan, Ferber, Hearty, Kahlhoefer, Schmidt-Hoberg, arXiv:1709.00009, Eqs. (2) and (5); physics notes,
sections 1 and 2.
"""

from __future__ import annotations

import math
from dataclasses import replace

from modelbuilder.theory.constants import ALPHA, HBARC, HBARC_SQUARED
from modelbuilder.theory.model import Model, Parameter, Parameters


def cross_section(sqrt_s: float, mass: float, coupling: float) -> float:
    """e+e- -> gamma a at lowest order, fb: alpha g^2 / 24 (1 - m^2/s)^3.

    sqrt_s, mass: GeV.    coupling: g_agammagamma, GeV^-1.    Zero above the threshold mass.
    Source: arXiv:1709.00009, Eq. (5), checked against the trace of the amplitude.
    """
    if mass >= sqrt_s:
        return 0.0
    return HBARC_SQUARED * ALPHA * coupling**2 / 24.0 * (1.0 - (mass / sqrt_s) ** 2) ** 3


def width(mass: float, coupling: float) -> float:
    """Gamma(a -> gamma gamma) in GeV: g^2 m^3 / (64 pi). Source: arXiv:1709.00009, Eq. (2)."""
    return coupling**2 * mass**3 / (64.0 * math.pi)


def decay_length(sqrt_s: float, mass: float, coupling: float) -> float:
    """Mean decay length in the centre-of-mass frame, cm: (p/m) hbar c / Gamma, in e+e- -> gamma a."""
    momentum = (sqrt_s**2 - mass**2) / (2.0 * sqrt_s)
    return momentum / mass * HBARC / width(mass, coupling)


def _photons(sqrt_s: float, masses: tuple[float, ...], coupling: float, _: Parameters) -> float:
    return cross_section(sqrt_s, masses[0], coupling)


def _invisible(sqrt_s: float, masses: tuple[float, ...], coupling: float, parameters: Parameters) -> float:
    return cross_section(sqrt_s, masses[0], coupling) * float(parameters["branching_fraction"])


def _escaping(sqrt_s: float, masses: tuple[float, ...], coupling: float, parameters: Parameters) -> float:
    (mass,) = masses
    produced = cross_section(sqrt_s, mass, coupling)
    if produced == 0.0 or mass == 0.0:
        return produced
    return produced * math.exp(-float(parameters["length"]) / decay_length(sqrt_s, mass, coupling))


PROMPT = Model(
    coupling="g_agammagamma_per_gev",
    unit="GeV^-1",
    symbol=r"$g_{a\gamma\gamma}$ [GeV$^{-1}$]",
    law="photon-pseudoscalar",
    power=2,
    rate=_photons,
)
"""a -> gamma gamma with a branching fraction of 1, all of it where the detector is."""

INVISIBLE = replace(
    PROMPT,
    rate=_invisible,
    parameters={
        "branching_fraction": Parameter(
            kind="fraction", description="of the decays to a dark sector, at every mass and coupling", default=1.0
        )
    },
)
"""Single photon: a decays to a dark sector."""

ESCAPING = replace(
    PROMPT,
    power=None,
    rate=_escaping,
    parameters={"length": Parameter(kind="length", description="from the collision to where a photon is last seen")},
)
"""Single photon: a -> gamma gamma behind the detector, exp(-L/(beta gamma c tau)) with beta gamma = p/m of the e+e- frame.

The boost of asymmetric beams, which changes beta gamma by a quarter between forward and backward, is left out. The
coupling makes more a, which decay earlier: excluded is an interval, up to where they no longer escape.
"""
