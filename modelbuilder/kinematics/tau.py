"""The mass of the hadrons in tau -> nu rho, nu K*, nu a_1: V - A, and resonances whose width depends on the mass.

dGamma/dQ^2 = (1 - Q^2/m_tau^2)^2 (1 + 2 Q^2/m_tau^2) g(Q^2)/Q^2 |BW(Q^2)|^2 with 1/BW = M^2 - Q^2 - i M Gamma g(Q^2)/g(M^2).
The conserved vector current, and the axial one without its small part of spin 0, give the first two factors: Tsai, Phys.
Rev. D 4 (1971) 2821. g: phase space and matrix element of the decay of the resonance.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from modelbuilder.kinematics import phase_space

Floats = npt.NDArray[np.float64]

PION, KAON = 0.13957039, 0.493677  # GeV, PDG
_PAIRS = {213: (PION, PION), 323: (KAON, PION)}  # rho, K*: in a P wave
A_1 = 20213
# Mass and width of the a_1, GeV, that belong to `three_pions`: Kuehn, Santamaria, Z. Phys. C 48 (1990) 445 (recalled)
A_1_MASS, A_1_WIDTH = 1.251, 0.599
_RHO_MASS = 0.773


def three_pions(s: npt.ArrayLike) -> Floats:
    """g of a_1 -> rho pi -> 3 pi, a fit of its own phase space; s in GeV^2, 0 below threshold.

    Kuehn, Santamaria, Z. Phys. C 48 (1990) 445, eq. 3.16 (recalled): the two parts differ by 6 % where they meet.
    """
    values = np.asarray(s, dtype=float)
    free = np.maximum(values - 9.0 * PION**2, 0.0)
    low = 4.1 * free**3 * (1.0 - 3.3 * free + 5.8 * free**2)
    above = np.maximum(values, (_RHO_MASS + PION) ** 2)
    high = 1.623 * above + 10.38 - 9.32 / above + 0.65 / above**2
    result: Floats = np.where(values < (_RHO_MASS + PION) ** 2, low, high)
    return result


def two_mesons(s: npt.ArrayLike, one: float, two: float) -> Floats:
    """g of a vector to two pseudoscalars, p^3/sqrt(s); masses in GeV."""
    root = np.sqrt(np.maximum(np.asarray(s, dtype=float), 1e-12))
    g: Floats = phase_space.breakup_momentum(root, one, two) ** 3 / root
    return g


def hadron_density(number: int, mass: float, width: float, q: npt.ArrayLike, tau_mass: float) -> Floats:
    """dGamma/dQ^2 at Q = q, GeV, up to a constant. number: of rho, K* or a_1 in the PDG.

    mass, width: of the table; the a_1 has its own.
    """
    s = np.asarray(q, dtype=float) ** 2
    if number == A_1:
        mass, width = A_1_MASS, A_1_WIDTH
        g, pole = three_pions(s), three_pions(mass**2)
    else:
        g, pole = two_mesons(s, *_PAIRS[number]), two_mesons(mass**2, *_PAIRS[number])
    x = np.minimum(s / tau_mass**2, 1.0)
    running = mass * width * g / pole
    density: Floats = (1.0 - x) ** 2 * (1.0 + 2.0 * x) * g / np.maximum(s, 1e-12) / ((mass**2 - s) ** 2 + running**2)
    return density
