"""e+e- -> l+ l- X with X radiated by the leptons: cross section and spectrum of the pair, l = mu or tau.

X is a vector (g lbar gamma^mu l X_mu), a scalar (y lbar l X) or a pseudoscalar (i y lbar gamma5 l X). Lowest order, one
virtual photon, alpha at zero momentum transfer, no initial-state radiation. Nobody has published a closed form with
masses that we know of: the trace, its integral over angles and the limits of zero mass are checked in the tests.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from modelbuilder.errors import KinematicsError
from modelbuilder.theory.constants import ALPHA, HBARC_SQUARED

Kind = Literal["vector", "scalar", "pseudoscalar"]
Floats = npt.NDArray[np.float64]

N_NODES = 48
"""Of Gauss and Legendre on each of the two halves; from 32 on the result is stable to 1e-9 for masses above 1 keV."""


def spectrum(sqrt_s: float, lepton_mass: float, mass: float, pair_mass2: Floats, kind: Kind) -> Floats:
    """dsigma/dM^2(ll) in fb GeV^-2 per squared coupling, shape of pair_mass2 (GeV^2); 0 where it cannot be."""
    low, high = (2.0 * lepton_mass) ** 2, (sqrt_s - mass) ** 2
    inside = (pair_mass2 > low) & (pair_mass2 < high)
    s12 = np.where(inside, pair_mass2, 0.5 * (low + high))
    a = 0.5 * (sqrt_s**2 + mass**2 - s12)
    momentum = np.sqrt(np.maximum((a - sqrt_s * mass) * (a + sqrt_s * mass), 0.0))
    velocity = np.sqrt(np.maximum(1.0 - low / s12, 0.0))
    # ds12 = 2 dA
    return np.where(inside, 0.5 * _density(sqrt_s, lepton_mass, mass, a, momentum, velocity, kind), 0.0)


@cache
def cross_section(sqrt_s: float, lepton_mass: float, mass: float, kind: Kind) -> float:
    """e+e- -> l+ l- X in fb per squared coupling; zero below threshold. Masses in GeV.

    Raises KinematicsError for a massless X: of soft ones there is no end.
    """
    if mass <= 0.0:
        msg = f"e+ e- -> l+ l- X with X of {mass:g} GeV: the cross section is finite for positive masses only"
        raise KinematicsError(msg)
    if 2.0 * lepton_mass + mass >= sqrt_s:
        return 0.0
    nodes, weights = _nodes()
    least, most = sqrt_s * mass, 0.5 * (sqrt_s**2 + mass**2) - 2.0 * lepton_mass**2
    middle = math.sqrt(least * most) if least > 0.1 * most else 0.3 * most
    # X soft: A = sqrt(s) m_X cosh(zeta), which is sqrt(s) times the energy of X
    top = math.acosh(middle / least)
    zeta = top * nodes
    a, momentum = least * np.cosh(zeta), least * np.sinh(zeta)
    s12 = sqrt_s**2 + mass**2 - 2.0 * a
    velocity = np.sqrt(1.0 - 4.0 * lepton_mass**2 / s12)
    soft = top * np.sum(weights * momentum * _density(sqrt_s, lepton_mass, mass, a, momentum, velocity, kind))
    # pair light: s12 = 4 m^2 cosh^2(eta)
    top = math.acosh(math.sqrt(sqrt_s**2 + mass**2 - 2.0 * middle) / (2.0 * lepton_mass))
    eta = top * nodes
    s12 = (2.0 * lepton_mass * np.cosh(eta)) ** 2
    a = 0.5 * (sqrt_s**2 + mass**2 - s12)
    momentum = np.sqrt((a - least) * (a + least))
    jacobian = 4.0 * lepton_mass**2 * np.cosh(eta) * np.sinh(eta)
    hard = top * np.sum(weights * jacobian * _density(sqrt_s, lepton_mass, mass, a, momentum, np.tanh(eta), kind))
    return float(soft + hard)


def _density(
    sqrt_s: float, lepton_mass: float, mass: float, a: Floats, momentum: Floats, velocity: Floats, kind: Kind
) -> Floats:
    """dsigma/dA in fb GeV^-2, A = (s - s12 + m_X^2)/2, per squared coupling.

    momentum: sqrt(A^2 - s m_X^2), sqrt(s) times that of X.    velocity: of the leptons in the rest frame of the pair.

    The propagators are D = A -+ B c with B = momentum * velocity, c the cosine there. Contracted with -g and integrated
    over c, sigma = e^2 H/(6 s^2) (physics notes, section 3) needs only the integrals of 1/(D1 D2) and 1/D1^2 + 1/D2^2.
    """
    s, m2, x2 = sqrt_s**2, lepton_mass**2, mass**2
    b = momentum * velocity
    gap2 = s * x2 + momentum**2 * (1.0 - velocity**2)  # A^2 - B^2
    product = 2.0 * np.log((a + b) / np.sqrt(gap2)) / a  # B times the integral of 1/(D1 D2)
    squares = 4.0 * b / gap2  # B times that of 1/D1^2 + 1/D2^2
    if kind == "vector":
        kappa = x2 + 2.0 * m2
        top = 16.0 * (s**2 - 2.0 * a * s + 2.0 * a**2) + 48.0 * s * x2 + 32.0 * s * m2
        top = top - 16.0 * kappa * (s + 2.0 * m2 - x2 + 2.0 * a)
        integral = product * top - 8.0 * kappa * (s + 2.0 * m2) * squares - 32.0 * b
    else:
        kappa = x2 - 4.0 * m2 if kind == "scalar" else x2
        top = 16.0 * a**2 + 8.0 * s * x2 - 8.0 * kappa * (s + 2.0 * m2 - x2 + 2.0 * a)
        integral = product * top - 4.0 * kappa * (s + 2.0 * m2) * squares
    e2 = 4.0 * math.pi * ALPHA
    return np.asarray(HBARC_SQUARED * e2**2 / (384.0 * math.pi**3 * s**3) * integral)


@cache
def _nodes() -> tuple[Floats, Floats]:
    """Of Gauss and Legendre on (0, 1)."""
    nodes, weights = np.polynomial.legendre.leggauss(N_NODES)
    return 0.5 * (nodes + 1.0), 0.5 * weights
