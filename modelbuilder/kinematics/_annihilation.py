"""e+e- -> gamma gamma and gamma gamma gamma at lowest order, with cuts in the rest frame of the nominal beams.

What collides may move against that frame, since radiation takes different shares from the two beams: `shift` is the
rapidity of the frame of the collision in that of the nominal beams. A photon of rapidity eta = artanh(cos) here has
eta + shift there. So the cut |cos| < c0 there is an interval of rapidity here, and photons flat in rapidity, that is
as 1/(1 - cos^2), fall into it all.
"""

import math

from modelbuilder.kinematics._compile import inlined
from modelbuilder.kinematics._constants import ALPHA, HBARC2
from modelbuilder.kinematics._functions import exp, log, sincos_turns
from modelbuilder.kinematics._matrix_elements import Momentum

E6 = (4.0 * math.pi * ALPHA) ** 3
SOFTEST = 2.0 / 3.0  # the softest of three photons has less than this, in units of half sqrt(s)


@inlined
def direction(rapidity: float) -> tuple[float, float]:
    """Cosine and sine to the beams of a photon of this rapidity."""
    power = exp(rapidity)
    inverse = 1.0 / power
    norm = 1.0 / (power + inverse)
    return (power - inverse) * norm, 2.0 * norm


@inlined
def nominal_energy(energy: float, along: float, tilt: float) -> float:
    """Energy in the rest frame of the nominal beams, GeV. along: third component.    tilt: exp(shift)."""
    return 0.5 * ((energy + along) * tilt + (energy - along) / tilt)


@inlined
def least_energy(min_energy: float, max_cos: float, tilt: float) -> float:
    """Least energy in the frame of the collision of a photon within the cuts of the nominal frame, GeV."""
    forward = tilt * (1.0 - max_cos) + (1.0 + max_cos) / tilt
    backward = tilt * (1.0 + max_cos) + (1.0 - max_cos) / tilt
    return 0.5 * min_energy * min(forward, backward)


@inlined
def generate_three_photons(
    u0: float,
    u1: float,
    u2: float,
    u3: float,
    u4: float,
    u5: float,
    s: float,
    tilt: float,
    min_energy: float,
    max_cos: float,
) -> tuple[float, Momentum, Momentum, Momentum]:
    """Weight (fb) and momenta of three photons in no order, in the frame of the collision.

    Of two photons the first has its energy drawn from dx/x, x < 2/3, and both are flat in rapidity within the cuts; the
    third balances. With t = x^2 (1 - cos^2), and |M|^2 proportional to sum_k t_k x_k^2 (1 + c_k^2)/(t_1 t_2 t_3), the
    density of the drawing, averaged over which is which, is sum_i (1 - x_i)(t_j + t_k)/(t_1 t_2 t_3) over the photons
    with x_i < 2/3: no peak is left in the weight.
    """
    half = 0.5 * math.sqrt(s)
    rapidity = 0.5 * log((1.0 + max_cos) / (1.0 - max_cos))
    shift = log(tilt)
    least = least_energy(min_energy, max_cos, tilt) / half
    live = least < SOFTEST
    least = least if live else 0.5 * SOFTEST
    span = log(SOFTEST / least)
    x1 = least * exp(span * u0)
    x1 = min(x1, SOFTEST)
    c1, s1 = direction(rapidity * (2.0 * u1 - 1.0) - shift)
    c2, s2 = direction(rapidity * (2.0 * u2 - 1.0) - shift)
    sf1, cf1 = sincos_turns(u3)
    sf2, cf2 = sincos_turns(u4)
    cosine = c1 * c2 + s1 * s2 * (cf1 * cf2 + sf1 * sf2)
    x2 = (1.0 - x1) / (1.0 - 0.5 * x1 * (1.0 - cosine))
    x3 = 2.0 - x1 - x2
    p1x, p1y, p1z = x1 * s1 * cf1, x1 * s1 * sf1, x1 * c1
    p2x, p2y, p2z = x2 * s2 * cf2, x2 * s2 * sf2, x2 * c2
    p3x, p3y, p3z = -p1x - p2x, -p1y - p2y, -p1z - p2z
    t1 = x1 * x1 * s1 * s1
    t2 = x2 * x2 * s2 * s2
    t3 = p3x * p3x + p3y * p3y
    top = t1 * (x1 * x1 + p1z * p1z) + t2 * (x2 * x2 + p2z * p2z) + t3 * (x3 * x3 + p3z * p3z)
    density = (1.0 - x1) * (t2 + t3)
    density += (1.0 - x2) * (t1 + t3) if x2 < SOFTEST else 0.0
    density += (1.0 - x3) * (t1 + t2) if x3 < SOFTEST else 0.0
    # 1/(2s) 1/6 (32 e^6/s) top/(t1 t2 t3) over the density, dPhi3 = s/64 (2 pi)^-5 x1 x2^2/(1 - x1) dx1 dOmega1 dOmega2
    factor = HBARC2 * E6 / (32.0 * math.pi * math.pi * math.pi)
    weight = factor / s * span * (2.0 * rapidity) * (2.0 * rapidity) * top / density
    # cuts: the angles of photons 1 and 2 are within by construction
    forward, backward = (x3 + p3z) * tilt, (x3 - p3z) / tilt
    live = live & (abs(forward - backward) <= max_cos * (forward + backward))
    live = live & (half * nominal_energy(x1, p1z, tilt) >= min_energy)
    live = live & (half * nominal_energy(x2, p2z, tilt) >= min_energy)
    live = live & (half * nominal_energy(x3, p3z, tilt) >= min_energy)
    q1 = (half * x1, half * p1x, half * p1y, half * p1z)
    q2 = (half * x2, half * p2x, half * p2y, half * p2z)
    q3 = (half * x3, half * p3x, half * p3y, half * p3z)
    # each of the six orders as often
    place = 6.0 * u5
    one = q1 if place < 2.0 else (q2 if place < 4.0 else q3)
    two = (
        (q2 if place < 1.0 else q3)
        if place < 2.0
        else ((q1 if place < 3.0 else q3) if place < 4.0 else (q1 if place < 5.0 else q2))
    )
    three = (
        (q3 if place < 1.0 else q2)
        if place < 2.0
        else ((q3 if place < 3.0 else q1) if place < 4.0 else (q2 if place < 5.0 else q1))
    )
    return weight if live else 0.0, one, two, three
