"""Frames: what the colliding beams are, event by event, and the way from their rest frame to the laboratory.

Every workspace begins with the three rows that are named here.
"""

import math

import numpy as np
import numpy.typing as npt

from modelbuilder.kinematics._compile import inlined, kernel
from modelbuilder.kinematics._functions import exp, log, sincos_turns
from modelbuilder.kinematics._random import BLOCK, uniforms

Floats = npt.NDArray[np.float64]

WEIGHT = 0 * BLOCK  # event weight; 0 after a failed cut
SCALE_MINUS = 1 * BLOCK  # momentum of the electron that collides, in units of the nominal one
SCALE_PLUS = 2 * BLOCK

DRAW_SPREAD = 8  # draw blocks, each of two uniforms per event
DRAW_ISR = 9


@kernel
def collide(w: Floats, first: int, last: int, key0: np.uint64, key1: np.uint64, beams: tuple[float, ...]) -> None:
    """Momenta of the colliding electron and positron in units of the nominal ones, and the weight of the radiation.

    Both beams are massless and keep their directions, so that spread and collinear radiation only scale them. Each
    loses the fraction x with density D(x) = b/2 x^(b/2-1) (1 + 3b/8) - b/4 (2 - x), b = isr_beta: the structure
    function after Kuraev and Fadin, Sov. J. Nucl. Phys. 41 (1985) 466, and Nicrosini and Trentadue, Phys. Lett. B 196
    (1987) 551, to O(b). Checked against `isr_tilde` of MadGraph5_aMC@NLO (vendor/eepdfgrid), whose beta is b/2, not
    against the papers; the b^2 terms there are dropped here. The integral is 1 exactly. x is drawn from b/2 x^(b/2-1).
    """
    _, _, _, _, _, spread_minus, spread_plus, isr_beta = beams
    for j in range(BLOCK):
        w[WEIGHT + j] = 1.0 if first + j < last else 0.0
        w[SCALE_MINUS + j] = 1.0
        w[SCALE_PLUS + j] = 1.0
    if spread_minus > 0.0 or spread_plus > 0.0:
        for j in range(BLOCK):
            u, v = uniforms(np.uint64(first + j), np.uint64(DRAW_SPREAD), key0, key1)
            radius = math.sqrt(-2.0 * log(u))
            sine, cosine = sincos_turns(v)
            w[SCALE_MINUS + j] += spread_minus * radius * cosine
            w[SCALE_PLUS + j] += spread_plus * radius * sine
    if isr_beta > 0.0:
        power = 2.0 / isr_beta
        for j in range(BLOCK):
            u, v = uniforms(np.uint64(first + j), np.uint64(DRAW_ISR), key0, key1)
            x_minus = exp(power * log(u))
            x_plus = exp(power * log(v))
            ratio_minus = 1.0 + 0.375 * isr_beta - 0.5 * (2.0 - x_minus) * (x_minus / u)
            ratio_plus = 1.0 + 0.375 * isr_beta - 0.5 * (2.0 - x_plus) * (x_plus / v)
            w[SCALE_MINUS + j] *= 1.0 - x_minus
            w[SCALE_PLUS + j] *= 1.0 - x_plus
            w[WEIGHT + j] *= ratio_minus * ratio_plus


@inlined
def to_laboratory(
    energy: float, x: float, y: float, along: float, minus: float, plus: float, sin_half: float, cos_half: float
) -> tuple[float, float, float, float]:
    """(E, px, py, pz) in the laboratory of a vector of the e+e- rest frame, whose third axis is the electron.

    No boost is needed: with massless beams the vector is a sum of the two nominal beam momenta and of the two unit
    vectors orthogonal to both, (tan h; 1/cos h, 0, 0) and (0; 0, 1, 0), h half the crossing angle. The light-cone
    parts are (E + along) minus and (E - along) plus, with minus = E_minus tilt/sqrt(s), plus = E_plus/(tilt sqrt(s)),
    tilt = sqrt(scale_minus/scale_plus) and the nominal energies and s.
    """
    forward = (energy + along) * minus
    backward = (energy - along) * plus
    total = forward + backward
    x_laboratory = x * (1.0 / cos_half)  # the quotient of two constants of the loop
    return (total + x_laboratory * sin_half, total * sin_half + x_laboratory, y, (forward - backward) * cos_half)
