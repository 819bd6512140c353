"""Stages of the chain engine, each on fixed rows of the workspace: angles, two bodies, n bodies, masses, flight.

The rows of a particle depend on the topology, and with row numbers that are not constants LLVM vectorises nothing. So
`_chain` copies the operands of a stage to the rows that are named here, and the results from them. Copies cost less
than a nanosecond per event.

All momenta are in the rest frame of the e+e- that collide, third axis along the electron.
"""

import math

import numpy as np
import numpy.typing as npt

from modelbuilder.kinematics._annihilation import (
    direction,
    generate_three_photons,
    least_energy,
    nominal_energy,
)
from modelbuilder.kinematics._compile import inlined, kernel
from modelbuilder.kinematics._constants import ALPHA, ELECTRON_MASS, HBARC2
from modelbuilder.kinematics._frames import SCALE_MINUS, SCALE_PLUS, WEIGHT
from modelbuilder.kinematics._functions import log, sincos_turns
from modelbuilder.kinematics._matrix_elements import (
    Momentum,
    across,
    dot,
    heavy_to_light_pair,
    higgs_vector_law,
    leptonic_decay,
    neutral_lepton_decay,
    vector_current,
    vector_current_along,
)
from modelbuilder.kinematics._random import BLOCK, uniforms
from modelbuilder.kinematics._three_body import (
    GAMMA,
    GAMMA_INITIAL,
    MIXED_PSEUDOSCALAR,
    MIXED_VECTOR,
    PSEUDOSCALAR,
    SCALAR,
    VECTOR,
    generate_ll_gamma,
    generate_llx,
    generate_mixed,
)

Floats = npt.NDArray[np.float64]

# Rows: E, px, py, pz, mass of a particle are five rows. 0 to 2 are those of `_frames`.
MINUS = 3 * BLOCK  # light-cone factors of the way to the laboratory
PLUS = 4 * BLOCK
PARENT = 5 * BLOCK
ONE = 10 * BLOCK
TWO = 15 * BLOCK
THREE = 20 * BLOCK
AXIS = 25 * BLOCK  # unit vector
COSINE = 28 * BLOCK
FACTOR = 29 * BLOCK  # product of the momenta of the two-body steps
INNER = 30 * BLOCK  # masses of the inner systems of an n-body decay, 2 to 5 bodies in rows 2 to 5; sums in 6 to 11
TABLE = 42 * BLOCK  # normalisation of the phase space, if it depends on the mass of the parent
NODES = 44 * BLOCK  # nine rows for each node
P, MASS, LENGTH, POINT, PER_NODE = 0, 4 * BLOCK, 5 * BLOCK, 6 * BLOCK, 9 * BLOCK

# Laws of the angle of two bodies
FLAT, DIPOLE, SINE2, COSINE2, FERMION_PAIR, PHOTON_VECTOR, VECTOR_SCALAR, TWO_PHOTONS = 0, 1, 2, 3, 4, 5, 6, 7
# of a vector that decays to two fermions, polarised along the axis, or across it in both directions alike
FERMIONS_ALONG, FERMIONS_ACROSS = 8, 9
# How the cross section of a pair depends on s
PHASE_SPACE_S, SINE2_S, FERMION_PAIR_S, PSEUDOSCALAR_S, PHOTON_VECTOR_S, VECTOR_SCALAR_S, TWO_PHOTONS_S = (
    0,
    1,
    2,
    3,
    4,
    5,
    6,
)
THREE_PHOTONS = 8  # besides the codes of `_three_body`
# Matrix elements of three-body decays
LEPTONIC, NEUTRAL_LEPTON, DARK_CURRENT = 1, 2, 3

SIN2_THETA_W = 0.23129  # MS-bar at M_Z, PDG 2024 (recalled)


# ---------------------------------------------------------------------------------------------------------------------
# Angles and pairs


@inlined
def breakup_momentum(mass: float, one: float, two: float) -> float:
    """Momentum of either product in the rest frame, GeV; 0 below threshold. F. James, CERN 68-15 (1968), eq. 9.17."""
    product = (mass - one - two) * (mass + one + two) * (mass - one + two) * (mass + one - two)
    return math.sqrt(max(product, 0.0)) / (2.0 * mass)


@inlined
def pair_momenta(
    parent: tuple[float, float, float, float, float], one: float, two: float, kx: float, ky: float, kz: float, p: float
) -> tuple[float, float, float, float, float, float, float, float]:
    """Momenta of the products with k and -k in the rest frame of the parent, |k| = p."""
    e, x, y, z, mass = parent
    inverse = 1.0 / mass
    along = x * kx + y * ky + z * kz
    shift = along * inverse / (e + mass)
    rest1 = math.sqrt(p * p + one * one)
    rest2 = math.sqrt(p * p + two * two)
    a = rest1 * inverse + shift
    b = rest2 * inverse - shift
    return (
        (e * rest1 + along) * inverse,
        kx + x * a,
        ky + y * a,
        kz + z * a,
        (e * rest2 - along) * inverse,
        x * b - kx,
        y * b - ky,
        z * b - kz,
    )


@kernel
def decay_flat(w: Floats, first: int, draw: int, key0: np.uint64, key1: np.uint64) -> None:
    """PARENT to ONE and TWO, whose masses are set, isotropically; FACTOR times the momentum."""
    for j in range(BLOCK):
        u, v = uniforms(np.uint64(first + j), np.uint64(draw), key0, key1)
        c = 2.0 * u - 1.0
        st = math.sqrt(1.0 - c * c)
        sf, cf = sincos_turns(v)
        one = w[ONE + 4 * BLOCK + j]
        two = w[TWO + 4 * BLOCK + j]
        mass = w[PARENT + 4 * BLOCK + j]
        p = breakup_momentum(mass, one, two)
        parent = (w[PARENT + j], w[PARENT + BLOCK + j], w[PARENT + 2 * BLOCK + j], w[PARENT + 3 * BLOCK + j], mass)
        e1, x1, y1, z1, e2, x2, y2, z2 = pair_momenta(parent, one, two, p * st * cf, p * st * sf, p * c, p)
        w[FACTOR + j] *= p
        w[ONE + j] = e1
        w[ONE + BLOCK + j] = x1
        w[ONE + 2 * BLOCK + j] = y1
        w[ONE + 3 * BLOCK + j] = z1
        w[TWO + j] = e2
        w[TWO + BLOCK + j] = x2
        w[TWO + 2 * BLOCK + j] = y2
        w[TWO + 3 * BLOCK + j] = z2


@kernel
def decay_to_axis(w: Floats, first: int, draw: int, key0: np.uint64, key1: np.uint64) -> None:
    """The same with the cosine of ONE to AXIS from COSINE; AXIS in the rest frame of the parent."""
    for j in range(BLOCK):
        _, v = uniforms(np.uint64(first + j), np.uint64(draw), key0, key1)
        c = w[COSINE + j]
        st = math.sqrt(max((1.0 - c) * (1.0 + c), 0.0))
        sf, cf = sincos_turns(v)
        one = w[ONE + 4 * BLOCK + j]
        two = w[TWO + 4 * BLOCK + j]
        mass = w[PARENT + 4 * BLOCK + j]
        p = breakup_momentum(mass, one, two)
        x = w[AXIS + j]
        y = w[AXIS + BLOCK + j]
        z = w[AXIS + 2 * BLOCK + j]
        # an orthonormal pair for the axis without a singular direction: Duff et al., JCGT 6 (2017) 1
        sign = 1.0 if z >= 0.0 else -1.0
        a = -1.0 / (sign + z)
        b = x * y * a
        d1 = p * st * cf
        d2 = p * st * sf
        d3 = p * c
        kx = d3 * x + d1 * (1.0 + sign * x * x * a) + d2 * b
        ky = d3 * y + d1 * sign * b + d2 * (sign + y * y * a)
        kz = d3 * z - d1 * sign * x - d2 * y
        parent = (w[PARENT + j], w[PARENT + BLOCK + j], w[PARENT + 2 * BLOCK + j], w[PARENT + 3 * BLOCK + j], mass)
        e1, x1, y1, z1, e2, x2, y2, z2 = pair_momenta(parent, one, two, kx, ky, kz, p)
        w[FACTOR + j] *= p
        w[ONE + j] = e1
        w[ONE + BLOCK + j] = x1
        w[ONE + 2 * BLOCK + j] = y1
        w[ONE + 3 * BLOCK + j] = z1
        w[TWO + j] = e2
        w[TWO + BLOCK + j] = x2
        w[TWO + 2 * BLOCK + j] = y2
        w[TWO + 3 * BLOCK + j] = z2


@kernel
def set_helicity_axis(w: Floats) -> None:
    """AXIS: direction of PARENT as its own parent, in THREE, sees it; in the rest frame of PARENT.

    That is away from THREE there. A parent at rest has the electron as its axis.
    """
    for j in range(BLOCK):
        e = w[PARENT + j]
        x = w[PARENT + BLOCK + j]
        y = w[PARENT + 2 * BLOCK + j]
        z = w[PARENT + 3 * BLOCK + j]
        mass = w[PARENT + 4 * BLOCK + j]
        qe = w[THREE + j]
        qx = w[THREE + BLOCK + j]
        qy = w[THREE + 2 * BLOCK + j]
        qz = w[THREE + 3 * BLOCK + j]
        shift = ((qx * x + qy * y + qz * z) / (e + mass) - qe) / mass
        ax = -(qx + x * shift)
        ay = -(qy + y * shift)
        az = -(qz + z * shift)
        length2 = ax * ax + ay * ay + az * az
        moves = length2 > 1e-24 * qe * qe
        inverse = 1.0 / math.sqrt(length2) if moves else 0.0
        w[AXIS + j] = ax * inverse
        w[AXIS + BLOCK + j] = ay * inverse
        w[AXIS + 2 * BLOCK + j] = az * inverse if moves else 1.0


@kernel
def set_beam_axis(w: Floats) -> None:
    """AXIS: the electron."""
    for j in range(BLOCK):
        w[AXIS + j] = 0.0
        w[AXIS + BLOCK + j] = 0.0
        w[AXIS + 2 * BLOCK + j] = 1.0


@kernel
def set_radiated_axis(w: Floats, first: int, draw: int, key0: np.uint64, key1: np.uint64) -> None:
    """AXIS: one of the beams as PARENT, the vector of e+e- -> gamma V, sees them.

    The beam that has not radiated meets the rest of the other one: for massless electrons the density of the spin of V is
    (1 - w- n- n- - w+ n+ n+)/2, n- and n+ the directions of electron and positron in its rest frame, w as the squares of
    their energies there. So V is polarised across n- with probability w-, else across n+.
    """
    for j in range(BLOCK):
        u, _ = uniforms(np.uint64(first + j), np.uint64(draw), key0, key1)
        e = w[PARENT + j]
        x = w[PARENT + BLOCK + j]
        y = w[PARENT + 2 * BLOCK + j]
        z = w[PARENT + 3 * BLOCK + j]
        mass = w[PARENT + 4 * BLOCK + j]
        minus = (e - z) * (e - z)
        plus = (e + z) * (e + z)
        side = 1.0 if u * (minus + plus) < minus else -1.0
        ax, ay, az = seen_beam(e, x, y, z, mass, side)
        w[AXIS + j] = ax
        w[AXIS + BLOCK + j] = ay
        w[AXIS + 2 * BLOCK + j] = az


@kernel
def set_dark_higgs_axis(w: Floats, first: int, draw: int, key0: np.uint64, key1: np.uint64) -> None:
    """AXIS: the linear polarisation of PARENT, the vector of e+e- -> V h.

    With the directions n- and n+ of the beams in the rest frame of V, and x their product, the density of its spin is
    [(1 - x) + n- n+ + n+ n-]/(3 - x): along n- + n+ with probability 2/(3 - x), else across both.
    """
    for j in range(BLOCK):
        u, _ = uniforms(np.uint64(first + j), np.uint64(draw), key0, key1)
        e = w[PARENT + j]
        x = w[PARENT + BLOCK + j]
        y = w[PARENT + 2 * BLOCK + j]
        z = w[PARENT + 3 * BLOCK + j]
        mass = w[PARENT + 4 * BLOCK + j]
        ax, ay, az = seen_beam(e, x, y, z, mass, 1.0)
        bx, by, bz = seen_beam(e, x, y, z, mass, -1.0)
        product = ax * bx + ay * by + az * bz
        cx, cy, cz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
        size2 = cx * cx + cy * cy + cz * cz
        # of two beams that are opposite, any direction across them: both are as likely
        bent = size2 > 1e-20
        other = ax * ax < 0.5
        cx = cx if bent else (0.0 if other else az)
        cy = cy if bent else (-az if other else 0.0)
        cz = cz if bent else (ay if other else -ax)
        inverse = 1.0 / math.sqrt(cx * cx + cy * cy + cz * cz)
        cx, cy, cz = cx * inverse, cy * inverse, cz * inverse
        dx, dy, dz = ax - bx, ay - by, az - bz
        inverse = 1.0 / math.sqrt(dx * dx + dy * dy + dz * dz)
        normal = u * (3.0 - product) > 2.0
        w[AXIS + j] = cx if normal else (cy * dz - cz * dy) * inverse
        w[AXIS + BLOCK + j] = cy if normal else (cz * dx - cx * dz) * inverse
        w[AXIS + 2 * BLOCK + j] = cz if normal else (cx * dy - cy * dx) * inverse


@inlined
def seen_beam(e: float, x: float, y: float, z: float, mass: float, side: float) -> tuple[float, float, float]:
    """Direction of the electron (side 1) or positron (-1) in the rest frame of a particle, without a rotation."""
    shift = (side * z / (e + mass) - 1.0) / mass
    ax, ay, az = x * shift, y * shift, side + z * shift
    inverse = 1.0 / math.sqrt(ax * ax + ay * ay + az * az)
    return ax * inverse, ay * inverse, az * inverse


@inlined
def fermion_anisotropy(mass: float, one: float, two: float) -> float:
    """A of 1 + A cos^2 in V -> f1 f2 for a V polarised along the axis: `vector_to_fermions` with masses of one sign."""
    p = breakup_momentum(mass, one, two)
    split = one - two
    return -4.0 * p * p / max(mass * mass - split * split, 1e-300)


@kernel
def draw_fermion_cosine(w: Floats, law: int, first: int, draw: int, key0: np.uint64, key1: np.uint64) -> None:
    """COSINE of V -> f1 f2; the masses of PARENT, ONE and TWO are set. Uses two draw blocks."""
    for j in range(BLOCK):
        u1, u2 = uniforms(np.uint64(first + j), np.uint64(draw), key0, key1)
        u3, u4 = uniforms(np.uint64(first + j), np.uint64(draw + 1), key0, key1)
        own = fermion_anisotropy(w[PARENT + 4 * BLOCK + j], w[ONE + 4 * BLOCK + j], w[TWO + 4 * BLOCK + j])
        upward = law == FERMIONS_ACROSS
        a = -own / (2.0 + own) if upward else own
        flat = (1.0 if upward else 1.0 + a) / (1.0 + a / 3.0)
        w[COSINE + j] = cosine_of(u1, u2, u3, u4, flat, upward)


@inlined
def cosine_of(u1: float, u2: float, u3: float, u4: float, flat: float, upward: bool) -> float:
    """A cosine: flat with probability `flat`, else cos^2 (upward) or sin^2, from order statistics.

    The median of three uniforms has density 6 u (1 - u), that is sin^2; the largest has 3 u^2, that is cos^2.
    """
    largest = max(max(u1, u2), u3)
    median = max(min(u1, u2), min(max(u1, u2), u3))
    is_flat = u4 < flat
    side = 1.0 if 2.0 * (u4 - flat) < 1.0 - flat else -1.0
    c = side * largest if upward else 2.0 * median - 1.0
    return 2.0 * u1 - 1.0 if is_flat else c


@kernel
def draw_cosine(w: Floats, law: int, parameter: float, first: int, draw: int, key0: np.uint64, key1: np.uint64) -> None:
    """COSINE by a law; the masses of PARENT, ONE and TWO are set. Uses two draw blocks."""
    if law in (PHOTON_VECTOR, TWO_PHOTONS):
        # flat in rapidity, that is from 1/(1 - c^2), within |cos| < parameter of the nominal frame; the weight is the
        # rest of dsigma/dcos over the density
        rapidity = 0.5 * math.log((1.0 + parameter) / (1.0 - parameter))
        for j in range(BLOCK):
            u, _ = uniforms(np.uint64(first + j), np.uint64(draw), key0, key1)
            shift = 0.5 * log(w[SCALE_MINUS + j] / w[SCALE_PLUS + j])
            half = rapidity if law == PHOTON_VECTOR else max(rapidity - abs(shift), 0.0)
            centre = shift if law == PHOTON_VECTOR else 0.0
            c, _ = direction(half * (2.0 * u - 1.0) - centre)
            ratio = w[TWO + 4 * BLOCK + j] / w[PARENT + 4 * BLOCK + j]
            x = ratio * ratio
            x = x if x < 1.0 else 0.5
            w[COSINE + j] = c
            w[WEIGHT + j] *= (1.0 + c * c + 4.0 * x / ((1.0 - x) * (1.0 - x))) * (2.0 * half)
        return
    # 1 + a c^2: flat with probability 1/(1 + a/3), or (1 + a)/(1 + a/3) if a < 0 and the rest is sin^2
    for j in range(BLOCK):
        u1, u2 = uniforms(np.uint64(first + j), np.uint64(draw), key0, key1)
        u3, u4 = uniforms(np.uint64(first + j), np.uint64(draw + 1), key0, key1)
        mass = w[PARENT + 4 * BLOCK + j]
        s = mass * mass
        one = w[ONE + 4 * BLOCK + j]
        flat = parameter
        upward = law == COSINE2
        if law == FERMION_PAIR:
            x = min(4.0 * one * one / s, 1.0)  # 1 + c^2 + x (1 - c^2)
            flat = (1.0 + x) / (1.0 + x + (1.0 - x) / 3.0)
            upward = True
        if law == VECTOR_SCALAR:
            two = w[TWO + 4 * BLOCK + j]
            top = higgs_vector_law(s, 0.0, one, two)
            flat = 2.0 * higgs_vector_law(s, 1.0, one, two)
            flat = flat if top > 0.0 else 1.0
            upward = False
        if law == DIPOLE:
            flat = 1.0 / (1.0 + parameter / 3.0) if parameter >= 0.0 else (1.0 + parameter) / (1.0 + parameter / 3.0)
            upward = parameter >= 0.0
        w[COSINE + j] = cosine_of(u1, u2, u3, u4, flat, upward)


@inlined
def pair_cross_section(code: int, mass: float, one: float, two: float) -> float:
    """Dependence on s of the cross section of a pair, up to a constant; 0 below threshold. mass: sqrt(s)."""
    s = mass * mass
    p = breakup_momentum(mass, one, two) if mass > one + two else 0.0
    result = p / (s * mass)
    if code == SINE2_S:
        result = p * p * p / (s * s * mass)
    elif code == FERMION_PAIR_S:
        result *= 1.0 + 2.0 * one * one / s
    elif code == PSEUDOSCALAR_S:
        result = p * p * p / (s * mass)
    elif code == PHOTON_VECTOR_S:
        # the rest is in the weight of the angle
        result = (1.0 - two * two / s) / s if p > 0.0 else 0.0
    elif code == TWO_PHOTONS_S:
        result = HBARC2 * math.pi * ALPHA * ALPHA / s  # fb; half, since the photons are alike
    elif code == VECTOR_SCALAR_S:
        y = min(one * one / s, 0.999999999999)
        x = two * two / s
        lam = (1.0 - x - y) * (1.0 - x - y) - 4.0 * x * y
        result = p / mass * (lam + 12.0 * y) / (s * (1.0 - y) * (1.0 - y))
    return result


@kernel
def weigh_pair(w: Floats, code: int, norm: float) -> None:
    """WEIGHT times the cross section of the pair at this energy and these masses, over `norm`."""
    for j in range(BLOCK):
        one = w[ONE + 4 * BLOCK + j]
        two = w[TWO + 4 * BLOCK + j]
        w[WEIGHT + j] *= pair_cross_section(code, w[PARENT + 4 * BLOCK + j], one, two) / norm


@kernel
def require_energy(w: Floats, least: float, both: bool) -> None:
    """WEIGHT 0 if photon ONE, or one of the photons ONE and TWO, has less in the nominal e+e- frame; GeV."""
    for j in range(BLOCK):
        live = w[WEIGHT + j] > 0.0
        tilt = math.sqrt(w[SCALE_MINUS + j] / w[SCALE_PLUS + j]) if live else 1.0
        live = live & (nominal_energy(w[ONE + j], w[ONE + 3 * BLOCK + j], tilt) >= least)
        second = nominal_energy(w[TWO + j], w[TWO + 3 * BLOCK + j], tilt)
        live = live & ((second >= least) | (not both))
        w[WEIGHT + j] = w[WEIGHT + j] if live else 0.0


@kernel
def weigh_resonance(w: Floats, mass: float, width: float, norm: float) -> None:
    """WEIGHT times the Breit-Wigner of PARENT in s, over `norm`."""
    for j in range(BLOCK):
        m = w[PARENT + 4 * BLOCK + j]
        gap = (m - mass) * (m + mass)
        w[WEIGHT + j] /= (gap * gap + mass * mass * width * width) * norm


# ---------------------------------------------------------------------------------------------------------------------
# n bodies


@kernel
def draw_inner_masses(w: Floats, n: int, first: int, draw: int, key0: np.uint64, key1: np.uint64) -> None:
    """INNER 2 ... n - 1: masses of the first k bodies, from ordered uniforms; FACTOR becomes T^(n-2)/M.

    INNER rows 6 ... 6 + n - 1: sums of the masses of the first 1 ... n bodies. T = M - their sum. Raubold and Lynch;
    F. James, CERN 68-15 (1968), section 3.
    """
    total = w[INNER + (5 + n) * BLOCK : INNER + (6 + n) * BLOCK]
    for j in range(BLOCK):
        w[TABLE + j] = total[j]
    for j in range(BLOCK):
        mass = w[PARENT + 4 * BLOCK + j]
        free = mass - w[TABLE + j]
        w[TABLE + j] = max(free, 0.0)
        w[FACTOR + j] = 1.0 / mass if free > 0.0 else 0.0
    for _ in range(n - 2):
        for j in range(BLOCK):
            w[FACTOR + j] *= w[TABLE + j]
    if n == 3:
        for j in range(BLOCK):
            u, _ = uniforms(np.uint64(first + j), np.uint64(draw), key0, key1)
            w[INNER + 2 * BLOCK + j] = u * w[TABLE + j] + w[INNER + 7 * BLOCK + j]
    elif n == 4:
        for j in range(BLOCK):
            u, v = uniforms(np.uint64(first + j), np.uint64(draw), key0, key1)
            w[INNER + 2 * BLOCK + j] = min(u, v) * w[TABLE + j] + w[INNER + 7 * BLOCK + j]
            w[INNER + 3 * BLOCK + j] = max(u, v) * w[TABLE + j] + w[INNER + 8 * BLOCK + j]
    else:
        for j in range(BLOCK):
            a, b = uniforms(np.uint64(first + j), np.uint64(draw), key0, key1)
            c, d = uniforms(np.uint64(first + j), np.uint64(draw + 1), key0, key1)
            d = d if n == 6 else 2.0  # a fourth number that comes last
            low1, high1 = min(a, b), max(a, b)
            low2, high2 = min(c, d), max(c, d)
            least, middle1 = min(low1, low2), max(low1, low2)
            middle2, most = min(high1, high2), max(high1, high2)
            free = w[TABLE + j]
            w[INNER + 2 * BLOCK + j] = least * free + w[INNER + 7 * BLOCK + j]
            w[INNER + 3 * BLOCK + j] = min(middle1, middle2) * free + w[INNER + 8 * BLOCK + j]
            w[INNER + 4 * BLOCK + j] = max(middle1, middle2) * free + w[INNER + 9 * BLOCK + j]
            w[INNER + 5 * BLOCK + j] = most * free + w[INNER + 10 * BLOCK + j]


@kernel
def weigh_factor(w: Floats, norm: float, power: int) -> None:
    """WEIGHT times FACTOR over `norm`, and over the mass of PARENT to `power` (0 or 2)."""
    inverse = 1.0 / norm
    if power == 0:
        for j in range(BLOCK):
            w[WEIGHT + j] *= w[FACTOR + j] * inverse
    else:
        for j in range(BLOCK):
            mass = w[PARENT + 4 * BLOCK + j]
            w[WEIGHT + j] *= w[FACTOR + j] * inverse / (mass * mass)


@kernel
def interpolate(w: Floats, table: Floats, least: float, most: float) -> None:
    """TABLE: linear interpolation at the mass of PARENT; table at equal steps from `least` to `most`."""
    last = len(table) - 1
    per_step = last / (most - least)
    for j in range(BLOCK):
        place = min(max((w[PARENT + 4 * BLOCK + j] - least) * per_step, 0.0), float(last))
        cell = min(int(place), last - 1)
        share = place - cell
        w[TABLE + j] = table[cell] * (1.0 - share) + table[cell + 1] * share


@kernel
def weigh_table(w: Floats, least: float, power: int) -> None:
    """WEIGHT times FACTOR over TABLE and over sqrt(M - least)^power; 0 where M is not above `least`."""
    for _ in range(power):
        for j in range(BLOCK):
            free = w[PARENT + 4 * BLOCK + j] - least
            w[TABLE + j] *= math.sqrt(max(free, 1e-30))
    for j in range(BLOCK):
        live = w[PARENT + 4 * BLOCK + j] > least
        w[WEIGHT + j] = w[WEIGHT + j] * w[FACTOR + j] / w[TABLE + j] if live else 0.0


@kernel
def weigh_mass(w: Floats) -> None:
    """WEIGHT times TABLE."""
    for j in range(BLOCK):
        w[WEIGHT + j] *= w[TABLE + j]


# ---------------------------------------------------------------------------------------------------------------------
# Matrix elements: a new one is a code, and a line here


@inlined
def decay_square(
    code: int,
    parent: tuple[float, float, float, float],
    one: tuple[float, float, float, float],
    two: tuple[float, float, float, float],
    three: tuple[float, float, float, float],
    parameter: float,
    mass: float,
) -> float:
    """|M|^2 of a three-body decay, in the order of the children. mass: of the second child.

    parameter: coupling of the left-handed lepton to N and its neutrino; mass of the dark photon.
    """
    if code == LEPTONIC:
        return leptonic_decay(parent, one, two, three)
    if code == NEUTRAL_LEPTON:
        return neutral_lepton_decay(parent, one, two, three, mass, parameter, SIN2_THETA_W)
    if code == DARK_CURRENT:
        return heavy_to_light_pair(parent, one, two, three, mass, parameter * parameter)
    return 1.0


@kernel
def weigh_decay(w: Floats, code: int, parameter: float, norm: float) -> None:
    """WEIGHT times |M|^2 of PARENT to ONE, TWO, THREE over `norm`."""
    for j in range(BLOCK):
        parent = (w[PARENT + j], w[PARENT + BLOCK + j], w[PARENT + 2 * BLOCK + j], w[PARENT + 3 * BLOCK + j])
        one = (w[ONE + j], w[ONE + BLOCK + j], w[ONE + 2 * BLOCK + j], w[ONE + 3 * BLOCK + j])
        two = (w[TWO + j], w[TWO + BLOCK + j], w[TWO + 2 * BLOCK + j], w[TWO + 3 * BLOCK + j])
        three = (w[THREE + j], w[THREE + BLOCK + j], w[THREE + 2 * BLOCK + j], w[THREE + 3 * BLOCK + j])
        w[WEIGHT + j] *= decay_square(code, parent, one, two, three, parameter, w[TWO + 4 * BLOCK + j]) / norm


@kernel
def weigh_vector_spin(w: Floats, constant: float, slope: float) -> None:
    """WEIGHT times `constant` + `slope` R, for ONE (l-), TWO (l+), THREE (V) from e+e- and INNER, a product of V.

    R is the probability that V is polarised along the direction of INNER in its rest frame.
    """
    for j in range(BLOCK):
        p1 = (w[ONE + j], w[ONE + BLOCK + j], w[ONE + 2 * BLOCK + j], w[ONE + 3 * BLOCK + j])
        p2 = (w[TWO + j], w[TWO + BLOCK + j], w[TWO + 2 * BLOCK + j], w[TWO + 3 * BLOCK + j])
        k = (w[THREE + j], w[THREE + BLOCK + j], w[THREE + 2 * BLOCK + j], w[THREE + 3 * BLOCK + j])
        q = (w[INNER + j], w[INNER + BLOCK + j], w[INNER + 2 * BLOCK + j], w[INNER + 3 * BLOCK + j])
        mass2 = w[ONE + 4 * BLOCK + j] * w[ONE + 4 * BLOCK + j]
        x_mass2 = w[THREE + 4 * BLOCK + j] * w[THREE + 4 * BLOCK + j]
        along = dot(q, k) / x_mass2
        e0, e1, e2, e3 = q[0] - along * k[0], q[1] - along * k[1], q[2] - along * k[2], q[3] - along * k[3]
        inverse = 1.0 / math.sqrt(max(e1 * e1 + e2 * e2 + e3 * e3 - e0 * e0, 1e-300))
        eps = (e0 * inverse, e1 * inverse, e2 * inverse, e3 * inverse)
        energy = p1[0] + p2[0] + k[0]
        s = energy * energy
        d1 = x_mass2 + 2.0 * dot(p1, k)
        d2 = x_mass2 + 2.0 * dot(p2, k)
        total = vector_current(s, d1, d2, across(p1, p1), across(p2, p2), across(p1, p2), mass2, x_mass2)
        own = vector_current_along(d1, d2, p1, p2, k, eps, mass2)
        live = w[WEIGHT + j] > 0.0
        w[WEIGHT + j] = w[WEIGHT + j] * (constant + slope * own / total) if live else 0.0


@kernel
def draw_leptonic_pair(
    w: Floats, lepton: float, norm: float, first: int, draw: int, key0: np.uint64, key1: np.uint64
) -> None:
    """Mass of ONE, the lepton and the neutrino of L in L -> nu_L l nubar_l, by |M|^2; FACTOR 1. Uses two draw blocks.

    |M|^2 is (L . nubar_l)(l . nu_L), that is (1 - y)(y - r) with y = m_pair^2/m_L^2 and r = m_l^2/m_L^2, and phase space
    (1 - y)(y - r)/y: the rest is isotropic. The second of four uniforms has density t (1 - t)^2, t = (y - r)/(1 - r);
    the weight is (y - r)/y over `norm`.
    """
    for j in range(BLOCK):
        a, b = uniforms(np.uint64(first + j), np.uint64(draw), key0, key1)
        c, d = uniforms(np.uint64(first + j), np.uint64(draw + 1), key0, key1)
        second = min(max(min(a, b), min(c, d)), min(max(a, b), max(c, d)))
        mass = w[PARENT + 4 * BLOCK + j]
        ratio = lepton * lepton / (mass * mass)
        above = (1.0 - ratio) * second
        y = ratio + above
        w[ONE + 4 * BLOCK + j] = mass * math.sqrt(y)
        w[FACTOR + j] = 1.0
        w[WEIGHT + j] *= above / (y * norm)


@kernel
def tabulate_decay(code: int, parameter: float, momenta: Floats, mass: float, results: Floats) -> None:
    """`decay_square` on arrays: momenta, shape (n, 4, 4), of the parent and the three products."""
    for i in range(len(results)):
        q = momenta[i]
        parent = (q[0, 0], q[0, 1], q[0, 2], q[0, 3])
        one = (q[1, 0], q[1, 1], q[1, 2], q[1, 3])
        two = (q[2, 0], q[2, 1], q[2, 2], q[2, 3])
        three = (q[3, 0], q[3, 1], q[3, 2], q[3, 3])
        results[i] = decay_square(code, parent, one, two, three, parameter, mass)


@kernel
def produce_three(
    w: Floats,
    code: int,
    min_energy: float,
    max_cos: float,
    share: float,
    first: int,
    draw: int,
    key0: np.uint64,
    key1: np.uint64,
) -> None:
    """e+e- -> ONE TWO THREE by a generator; WEIGHT in fb per coupling^2. Uses three draw blocks.

    min_energy, max_cos: of the photons, in the rest frame of the nominal beams; for those that make photons.
    share: as in `generate_ll_gamma`.
    """
    # one loop for each that is used much, with the code as a constant
    if code == VECTOR:
        for j in range(BLOCK):
            _place_three(w, j, VECTOR, np.uint64(first + j), draw, key0, key1)
    elif code == SCALAR:
        for j in range(BLOCK):
            _place_three(w, j, SCALAR, np.uint64(first + j), draw, key0, key1)
    elif code == PSEUDOSCALAR:
        for j in range(BLOCK):
            _place_three(w, j, PSEUDOSCALAR, np.uint64(first + j), draw, key0, key1)
    elif MIXED_VECTOR <= code <= MIXED_PSEUDOSCALAR:
        for j in range(BLOCK):
            _place_mixed(w, j, code, np.uint64(first + j), draw, key0, key1)
    elif code == GAMMA:
        for j in range(BLOCK):
            _place_radiated(w, j, GAMMA, min_energy, max_cos, share, np.uint64(first + j), draw, key0, key1)
    elif code == GAMMA_INITIAL:
        for j in range(BLOCK):
            _place_radiated(w, j, GAMMA_INITIAL, min_energy, max_cos, 1.0, np.uint64(first + j), draw, key0, key1)
    elif code == THREE_PHOTONS:
        for j in range(BLOCK):
            _place_photons(w, j, min_energy, max_cos, np.uint64(first + j), draw, key0, key1)


@inlined
def _place_three(w: Floats, j: int, code: int, index: np.uint64, draw: int, key0: np.uint64, key1: np.uint64) -> None:
    u0, u1, u2, u3, u4, u5 = _six(index, draw, key0, key1)
    mass = w[PARENT + 4 * BLOCK + j]
    lepton = w[ONE + 4 * BLOCK + j]
    event = generate_llx(u0, u1, u2, u3, u4, u5, mass * mass, lepton, w[THREE + 4 * BLOCK + j], code)
    _write_three(w, j, event)


@inlined
def _place_mixed(w: Floats, j: int, code: int, index: np.uint64, draw: int, key0: np.uint64, key1: np.uint64) -> None:
    u0, u1, u2, u3, u4, _ = _six(index, draw, key0, key1)
    mass = w[PARENT + 4 * BLOCK + j]
    one, two = w[ONE + 4 * BLOCK + j], w[TWO + 4 * BLOCK + j]
    event = generate_mixed(u0, u1, u2, u3, u4, mass * mass, one, two, w[THREE + 4 * BLOCK + j], code)
    _write_three(w, j, event)


@inlined
def _place_radiated(
    w: Floats,
    j: int,
    code: int,
    min_energy: float,
    max_cos: float,
    share: float,
    index: np.uint64,
    draw: int,
    key0: np.uint64,
    key1: np.uint64,
) -> None:
    u0, u1, u2, u3, u4, u5 = _six(index, draw, key0, key1)
    mass = w[PARENT + 4 * BLOCK + j]
    ratio = w[SCALE_MINUS + j] / w[SCALE_PLUS + j]
    live = (w[WEIGHT + j] != 0.0) & (ratio > 0.0)
    ratio = ratio if live else 1.0
    tilt = math.sqrt(ratio)
    # the cosine c of the nominal frame is (c - v)/(1 - v c) in that of the collision, v = tanh(log(tilt))
    speed = (ratio - 1.0) / (ratio + 1.0)
    high = (max_cos - speed) / (1.0 - speed * max_cos)
    low = -(max_cos + speed) / (1.0 + speed * max_cos)
    high, low = min(high, 1.0), max(low, -1.0)
    least = least_energy(min_energy, max_cos, tilt)
    weight, one, two, three = generate_ll_gamma(
        u0,
        u1,
        u2,
        u3,
        u4,
        u5,
        mass * mass,
        w[ONE + 4 * BLOCK + j],
        ELECTRON_MASS,
        least,
        low,
        high,
        share,
        code,
    )
    live = live & (nominal_energy(three[0], three[3], tilt) >= min_energy * (1.0 - 1e-12))
    _write_three(w, j, (weight if live else 0.0, one, two, three))


@inlined
def _place_photons(
    w: Floats, j: int, min_energy: float, max_cos: float, index: np.uint64, draw: int, key0: np.uint64, key1: np.uint64
) -> None:
    u0, u1, u2, u3, u4, u5 = _six(index, draw, key0, key1)
    mass = w[PARENT + 4 * BLOCK + j]
    ratio = w[SCALE_MINUS + j] / w[SCALE_PLUS + j]
    live = (w[WEIGHT + j] != 0.0) & (ratio > 0.0)
    tilt = math.sqrt(ratio) if live else 1.0
    weight, one, two, three = generate_three_photons(u0, u1, u2, u3, u4, u5, mass * mass, tilt, min_energy, max_cos)
    _write_three(w, j, (weight if live else 0.0, one, two, three))


@inlined
def _six(
    index: np.uint64, draw: int, key0: np.uint64, key1: np.uint64
) -> tuple[float, float, float, float, float, float]:
    u0, u1 = uniforms(index, np.uint64(draw), key0, key1)
    u2, u3 = uniforms(index, np.uint64(draw + 1), key0, key1)
    u4, u5 = uniforms(index, np.uint64(draw + 2), key0, key1)
    return u0, u1, u2, u3, u4, u5


@inlined
def _write_three(w: Floats, j: int, event: tuple[float, Momentum, Momentum, Momentum]) -> None:
    weight, one, two, three = event
    w[WEIGHT + j] *= weight
    w[ONE + j] = one[0]
    w[ONE + BLOCK + j] = one[1]
    w[ONE + 2 * BLOCK + j] = one[2]
    w[ONE + 3 * BLOCK + j] = one[3]
    w[TWO + j] = two[0]
    w[TWO + BLOCK + j] = two[1]
    w[TWO + 2 * BLOCK + j] = two[2]
    w[TWO + 3 * BLOCK + j] = two[3]
    w[THREE + j] = three[0]
    w[THREE + BLOCK + j] = three[1]
    w[THREE + 2 * BLOCK + j] = three[2]
    w[THREE + 3 * BLOCK + j] = three[3]


# ---------------------------------------------------------------------------------------------------------------------
# Spins of two tau

# What tells the direction of the spin of a tau: a particle of full analysing power, the pion of tau -> pi nu, the
# vector meson of tau -> rho nu whose own decay is not looked at
FULL, PION, MESON = 1, 2, 3


@inlined
def analysing_power(kind: int, mass: float, own: float, other: float) -> float:
    """A of dGamma/dcos = (1 + A P cos)/2 in the decay of a tau- of this mass: cos of the particle to the spin, V - A.

    own, other: mass of the particle and of what it recoils against, GeV. PION: pi- and a neutrino of any mass, 1 if that
    is zero. MESON: a massless neutrino and a vector meson, (m^2 - 2 M^2)/(m^2 + 2 M^2); Tsai, Phys. Rev. D 4 (1971) 2821.
    """
    m2 = mass * mass
    own2 = own * own
    gap = m2 - other * other
    pion = 2.0 * mass * breakup_momentum(mass, own, other) * gap / (gap * gap - own2 * (m2 + other * other))
    meson = (m2 - 2.0 * own2) / (m2 + 2.0 * own2)
    return 1.0 if kind == FULL else (pion if kind == PION else meson)


@inlined
def in_rest_frame(p: tuple[float, float, float, float, float], q: Momentum) -> tuple[float, float, float]:
    """Unit vector of q in the rest frame of p (E, px, py, pz, mass), reached without a rotation."""
    shift = ((q[1] * p[1] + q[2] * p[2] + q[3] * p[3]) / (p[0] + p[4]) - q[0]) / p[4]
    x, y, z = q[1] + p[1] * shift, q[2] + p[2] * shift, q[3] + p[3] * shift
    inverse = 1.0 / math.sqrt(max(x * x + y * y + z * z, 1e-300))
    return x * inverse, y * inverse, z * inverse


@inlined
def pair_spins(
    p: tuple[float, float, float, float, float], h1: tuple[float, float, float], h2: tuple[float, float, float]
) -> float:
    """1 + sum_ij C_ij h1_i h2_j of e+e- -> gamma* -> f(p) fbar with spin directions h1 of f and h2 of fbar.

    Both in rest frames reached without a rotation from the e+e- frame, third axis along the electron; massless
    unpolarised beams. With c the cosine of f to the electron, a the parts along f, b those along the electron across f:
    (1 + c^2 + s^2/gamma^2) C = 2 [(c^2 + beta^2 s^2) a1 a2 + b1 b2 + c/gamma (a1 b2 + b1 a2)] - beta^2 s^2 h1.h2.
    """
    size = math.sqrt(max(p[1] * p[1] + p[2] * p[2] + p[3] * p[3], 1e-300))
    inverse = 1.0 / size
    nx, ny, nz = p[1] * inverse, p[2] * inverse, p[3] * inverse
    c = nz
    s2 = nx * nx + ny * ny
    gamma = p[4] / p[0]  # its inverse
    beta2 = 1.0 - gamma * gamma
    a1 = h1[0] * nx + h1[1] * ny + h1[2] * nz
    a2 = h2[0] * nx + h2[1] * ny + h2[2] * nz
    b1 = h1[2] - c * a1
    b2 = h2[2] - c * a2
    product = h1[0] * h2[0] + h1[1] * h2[1] + h1[2] * h2[2]
    top = 2.0 * ((c * c + beta2 * s2) * a1 * a2 + b1 * b2 + c * gamma * (a1 * b2 + b1 * a2)) - beta2 * s2 * product
    return 1.0 + top / (1.0 + c * c + s2 * gamma * gamma)


@kernel
def weigh_spins(w: Floats, kind1: int, other1: float, kind2: int, other2: float) -> None:
    """WEIGHT times the correlation of the spins of ONE (tau-) and TWO (tau+), seen by THREE and INNER: two rows of 5.

    other1, other2: mass of what THREE, and the particle in INNER, recoil against in the decays of the tau.
    """
    for j in range(BLOCK):
        one = (w[ONE + j], w[ONE + BLOCK + j], w[ONE + 2 * BLOCK + j], w[ONE + 3 * BLOCK + j], w[ONE + 4 * BLOCK + j])
        two = (w[TWO + j], w[TWO + BLOCK + j], w[TWO + 2 * BLOCK + j], w[TWO + 3 * BLOCK + j], w[TWO + 4 * BLOCK + j])
        q1 = (w[THREE + j], w[THREE + BLOCK + j], w[THREE + 2 * BLOCK + j], w[THREE + 3 * BLOCK + j])
        q2 = (w[INNER + j], w[INNER + BLOCK + j], w[INNER + 2 * BLOCK + j], w[INNER + 3 * BLOCK + j])
        power1 = analysing_power(kind1, one[4], w[THREE + 4 * BLOCK + j], other1)
        power2 = -analysing_power(kind2, two[4], w[INNER + 4 * BLOCK + j], other2)
        x1, y1, z1 = in_rest_frame(one, q1)
        x2, y2, z2 = in_rest_frame(two, q2)
        h1 = (power1 * x1, power1 * y1, power1 * z1)
        h2 = (power2 * x2, power2 * y2, power2 * z2)
        w[WEIGHT + j] *= pair_spins(one, h1, h2)


# ---------------------------------------------------------------------------------------------------------------------
# Masses and flight


@kernel
def draw_mass(
    w: Floats,
    mass: float,
    width: float,
    low: float,
    span: float,
    first: int,
    draw: int,
    key0: np.uint64,
    key1: np.uint64,
) -> None:
    """Mass of ONE: m^2 with a Breit-Wigner density, arctan((m^2 - M^2)/(M width)) flat from `low` over `span`, turns."""
    for j in range(BLOCK):
        u, _ = uniforms(np.uint64(first + j), np.uint64(draw), key0, key1)
        # turns from -1/4 to 1/4; the functions want them from 0
        sine, cosine = sincos_turns(0.25 + (low + span * u))
        # sin(x + quarter) = cos x, cos(x + quarter) = -sin x
        w[ONE + 4 * BLOCK + j] = math.sqrt(max(mass * (mass - width * cosine / sine), 0.0))


@kernel
def draw_length(w: Floats, ctaus: Floats, first: int, draw: int, key0: np.uint64, key1: np.uint64) -> None:
    """FACTOR: proper decay length, cm, from an equal mixture of exponentials with these ctau."""
    n = len(ctaus)
    if n == 1:
        ctau = ctaus[0]
        for j in range(BLOCK):
            _, v = uniforms(np.uint64(first + j), np.uint64(draw), key0, key1)
            w[FACTOR + j] = -ctau * log(v)
    else:
        for j in range(BLOCK):
            u, v = uniforms(np.uint64(first + j), np.uint64(draw), key0, key1)
            w[FACTOR + j] = -ctaus[min(int(u * n), n - 1)] * log(v)
