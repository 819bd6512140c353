"""Weighted events of e+e- -> l- l+ X, l- l'+ X and l- l+ gamma, from uniforms to momenta, by importance sampling.

A generator is a scalar function of uniforms
in (0, 1) that returns the weight and the momenta in the e+e- rest frame; the mean weight is the cross section in fb.
The kernels below run them over counters: `fill_events` stores, `add_weights` only sums.

Three bodies are X against the pair: s12 = (p1 + p2)^2, direction of X in the e+e- frame, direction of l- in the rest
frame of the pair to the direction of X there (cosine c). The two propagators are D1 = A - B c and D2 = A + B c with
A = (s - s12 + m_X^2)/2 and B^2 = A^2 - m_X^2 s - (m^2/s12) lambda(s, s12, m_X^2); c = tanh(Y v) A/B, v flat in (-1, 1),
Y = artanh(B/A), makes 1/(D1 D2) flat. Leptons of two masses: see `generate_mixed`.
"""

import math

import numpy as np
import numpy.typing as npt

from modelbuilder.kinematics._compile import inlined, kernel
from modelbuilder.kinematics._constants import ALPHA, HBARC2
from modelbuilder.kinematics._functions import exp, log, sincos_turns
from modelbuilder.kinematics._matrix_elements import (
    Momentum,
    across,
    emu_scalar,
    emu_vector,
    ll_gamma,
    ll_gamma_initial,
    scalar_current,
    vector_current,
)
from modelbuilder.kinematics._random import BLOCK, uniforms

Floats = npt.NDArray[np.float64]

VECTOR = 0
SCALAR = 1
PSEUDOSCALAR = 2
GAMMA = 3  # all diagrams of l l gamma
GAMMA_INITIAL = 4  # those with radiation of the beams
MIXED_VECTOR = 5
MIXED_SCALAR = 6
MIXED_PSEUDOSCALAR = 7

N_ROWS = 13  # weight and 12 components
SHARE = 0.8  # of l l gamma drawn as radiation of the beams, where all diagrams count

E2 = 4.0 * math.pi * ALPHA  # e^2 at zero momentum transfer


@inlined
def place_three_bodies(
    sqrt_s: float,
    s12: float,
    k: float,
    x_energy: float,
    rest1: float,
    rest2: float,
    momentum: float,
    cosine: float,
    sine: float,
    top_cosine: float,
    top_sine: float,
    u_azimuth: float,
    u_top_azimuth: float,
) -> tuple[Momentum, Momentum, Momentum]:
    """Momenta of l-, l+, X in the e+e- frame.

    k, x_energy: momentum and energy of X there.    rest1, rest2, momentum: energies of the leptons and their momentum
    in the rest frame of the pair.
    cosine, sine: of l- to the direction of X, in that frame.    top_*: of X to the electron, in the e+e- frame.
    """
    root = math.sqrt(s12)
    gamma = (sqrt_s - x_energy) / root
    boost = k / root  # gamma beta, against X
    sf, cf = sincos_turns(u_top_azimuth)
    sp, cp = sincos_turns(u_azimuth)
    along = momentum * cosine
    up = momentum * sine
    energy1 = gamma * rest1 - boost * along
    energy2 = gamma * rest2 + boost * along
    along1 = gamma * along - boost * rest1
    along2 = -gamma * along - boost * rest2
    # X along n = (st cf, st sf, c); (c cf, c sf, -st) and (-sf, cf, 0) are orthogonal to it
    ux = up * (cp * top_cosine * cf - sp * sf)
    uy = up * (cp * top_cosine * sf + sp * cf)
    uz = -up * cp * top_sine
    nx = top_sine * cf
    ny = top_sine * sf
    nz = top_cosine
    return (
        (energy1, along1 * nx + ux, along1 * ny + uy, along1 * nz + uz),
        (energy2, along2 * nx - ux, along2 * ny - uy, along2 * nz - uz),
        (x_energy, k * nx, k * ny, k * nz),
    )


@inlined
def generate_llx(
    u0: float, u1: float, u2: float, u3: float, u4: float, u5: float, s: float, mass: float, x_mass: float, kind: int
) -> tuple[float, Momentum, Momentum, Momentum]:
    """Weight and momenta of l-, l+, X in e+e- -> l- l+ X at lowest order; X radiated by the leptons.

    s: GeV^2.    x_mass: positive.    kind: VECTOR, SCALAR, PSEUDOSCALAR; a constant of the loop.    Weight: fb per
    coupling^2, 0 below threshold. u5 is for the scalar only. A and c as above, with densities that follow
    the matrix element at small m_X:
    vector: 1/A and 1/(D1 D2);    pseudoscalar: A and 1/(D1 D2);
    scalar: a share like the pseudoscalar, the rest 1/A and 1/D1^2 + 1/D2^2, its soft and collinear radiation.
    """
    sqrt_s = math.sqrt(s)
    x_mass2 = x_mass * x_mass
    mass2 = mass * mass
    live = sqrt_s > 2.0 * mass + x_mass
    least = sqrt_s * x_mass  # of A: the pair takes all it can
    most = 0.5 * (s - 4.0 * mass2 + x_mass2)
    most = most if live else least + s
    span = 0.5 * (most - least) * (most + least)
    soft = 0.0
    if kind == SCALAR:
        # radiated between A = s m_X/m, where X sees the lepton move, and s; the rest is the pseudoscalar
        logarithm = 0.5 * log(1.0 + mass2 / x_mass2)
        soft = logarithm / (logarithm + 0.35 * max(0.5 * log(s / mass2) - 1.0, 0.1))
    is_soft = (u5 < soft) | (kind == VECTOR)
    width = log(most / least)
    a = least * exp(width * u0) if is_soft else math.sqrt(least * least + 2.0 * span * u0)
    a = min(max(a, least), most)
    s12 = max(s + x_mass2 - 2.0 * a, 4.0 * mass2)
    lam = 4.0 * (a - least) * (a + least)  # lambda(s, s12, m_X^2) = 4 A^2 - 4 s m_X^2
    beta = math.sqrt(max(1.0 - 4.0 * mass2 / s12, 0.0))
    b = 0.5 * beta * math.sqrt(lam) + 1e-14 * a  # not 0 / 0 at the ends
    gap2 = s * x_mass2 + lam * mass2 / s12  # A^2 - B^2
    y = log((a + b) / math.sqrt(gap2))
    power = exp(2.0 * y * (2.0 * u1 - 1.0))
    d1 = 2.0 * a / (1.0 + power)
    d2 = d1 * power
    if kind == SCALAR:
        # 1/D1^2 from the first half of u1, 1/D2^2 from the other
        first = u1 < 0.5
        v = 2.0 * u1 if first else 2.0 * u1 - 1.0
        near = 1.0 / (1.0 / (a + b) + v * (2.0 * b / gap2))
        far = 2.0 * a - near
        d1 = (near if first else far) if is_soft else d1
        d2 = (far if first else near) if is_soft else d2
    cosine = min(max(0.5 * (d2 - d1) / b, -1.0), 1.0)
    sine = math.sqrt(1.0 - cosine * cosine)
    # 1/density of A and c
    inverse = 1.0 / (d1 * d2)
    if kind == VECTOR:
        spread = width * a * (2.0 * y / (a * b)) * (d1 * d2)
    elif kind == SCALAR:
        density_soft = 0.25 * gap2 * inverse * inverse * (d1 * d1 + d2 * d2) / (width * a)
        density_hard = a * b * inverse / (2.0 * y) * (a / span)
        spread = 1.0 / (soft * density_soft + (1.0 - soft) * density_hard)
    else:
        spread = (span / a) * (2.0 * y / (a * b)) * (d1 * d2)
    top_cosine = 2.0 * u2 - 1.0
    top_sine = math.sqrt(1.0 - top_cosine * top_cosine)
    k = math.sqrt(lam) / (2.0 * sqrt_s)
    x_energy = (s + x_mass2 - s12) / (2.0 * sqrt_s)
    half = 0.5 * math.sqrt(s12)
    p1, p2, px = place_three_bodies(
        sqrt_s, s12, k, x_energy, half, half, half * beta, cosine, sine, top_cosine, top_sine, u3, u4
    )
    p11 = across(p1, p1)
    p22 = across(p2, p2)
    p12 = across(p1, p2)
    if kind == VECTOR:
        current = vector_current(s, d1, d2, p11, p22, p12, mass2, x_mass2)
    elif kind == SCALAR:
        current = scalar_current(s, d1, d2, p11, p22, p12, x_mass2 - 4.0 * mass2)
    else:
        current = scalar_current(s, d1, d2, p11, p22, p12, x_mass2)
    # 1/(2s) e^4 current/(2s); dPhi3 = ds12/2pi sqrt(lam)/(8 pi s) beta/(8 pi) dc/2, ds12 = 2 dA, sqrt(lam) beta = 2B
    factor = HBARC2 * E2 * E2 / (256.0 * math.pi * math.pi * math.pi * s * s * s)
    weight = factor * current * b * spread
    return weight if live else 0.0, p1, p2, px


@inlined
def generate_mixed(
    u0: float,
    u1: float,
    u2: float,
    u3: float,
    u4: float,
    s: float,
    mass1: float,
    mass2: float,
    x_mass: float,
    kind: int,
) -> tuple[float, Momentum, Momentum, Momentum]:
    """Weight and momenta of l1-, l2+, X in e+e- -> l1- l2+ X of two flavours; X radiated by the leptons.

    x_mass: above |mass1 - mass2|, or D1 or D2 has a zero.    kind: MIXED_VECTOR, ..., which may change from event to
    event: one loop for all of them is compiled.    Weight: fb per coupling^2.
    D1 = A + G - B c and D2 = A - G + B c with A as above, B = p sqrt(lambda)/sqrt(s12), p the momentum of the leptons in
    their rest frame, and G = (mass1^2 - mass2^2)(s + s12 - m_X^2)/(2 s12). 1/(D1 D2) is flat in log(D2/D1). A has density
    1/A for the vector, A for the others.
    """
    sqrt_s = math.sqrt(s)
    x_mass2 = x_mass * x_mass
    low = (mass1 + mass2) * (mass1 + mass2)
    gap = (mass1 - mass2) * (mass1 + mass2)
    live = sqrt_s > mass1 + mass2 + x_mass
    least = sqrt_s * x_mass
    most = 0.5 * (s - low + x_mass2)
    most = most if live else least + s
    span = 0.5 * (most - least) * (most + least)
    width = log(most / least)
    is_vector = kind == MIXED_VECTOR
    soft = least * exp(width * u0)
    hard = math.sqrt(least * least + 2.0 * span * u0)
    a = min(max(soft if is_vector else hard, least), most)
    s12 = max(s + x_mass2 - 2.0 * a, low)
    root = math.sqrt(s12)
    lam = 4.0 * (a - least) * (a + least)
    split = mass1 - mass2
    momentum = 0.5 * math.sqrt((s12 - low) * (s12 - split * split)) / root
    b = momentum * math.sqrt(lam) / root + 1e-14 * a
    g = gap * (s + s12 - x_mass2) / (2.0 * s12)
    t_low = log((a - g - b) / (a + g + b))
    t_span = log((a - g + b) / (a + g - b)) - t_low
    power = exp(t_low + t_span * u1)
    d1 = 2.0 * a / (1.0 + power)
    d2 = d1 * power
    cosine = min(max((a + g - d1) / b, -1.0), 1.0)
    sine = math.sqrt(1.0 - cosine * cosine)
    spread = (width * a if is_vector else span / a) * t_span * d1 * d2 / (2.0 * a * b)
    top_cosine = 2.0 * u2 - 1.0
    top_sine = math.sqrt(1.0 - top_cosine * top_cosine)
    k = math.sqrt(lam) / (2.0 * sqrt_s)
    x_energy = (s + x_mass2 - s12) / (2.0 * sqrt_s)
    rest1 = 0.5 * (s12 + gap) / root
    rest2 = 0.5 * (s12 - gap) / root
    p1, p2, px = place_three_bodies(
        sqrt_s, s12, k, x_energy, rest1, rest2, momentum, cosine, sine, top_cosine, top_sine, u3, u4
    )
    vector = emu_vector(s, p1, p2, px, mass1, mass2, x_mass)
    scalar = emu_scalar(s, p1, p2, px, mass1, -mass2 if kind == MIXED_PSEUDOSCALAR else mass2, x_mass)
    square = vector if is_vector else scalar
    # as in `generate_llx`, with current = 2s |M|^2
    factor = HBARC2 * E2 * E2 / (128.0 * math.pi * math.pi * math.pi * s * s)
    weight = factor * square * b * spread
    return weight if live else 0.0, p1, p2, px


@inlined
def generate_ll_gamma(
    u0: float,
    u1: float,
    u2: float,
    u3: float,
    u4: float,
    u5: float,
    s: float,
    mass: float,
    electron_mass: float,
    min_energy: float,
    low_cos: float,
    high_cos: float,
    share: float,
    kind: int,
) -> tuple[float, Momentum, Momentum, Momentum]:
    """Weight (fb) and momenta of l-, l+, gamma in e+e- -> l- l+ gamma at lowest order, photon above min_energy.

    min_energy: GeV, in the e+e- frame.    low_cos, high_cos: of the photon to the electron there.    share: of the events drawn as radiation of the beams; 1 with kind =
    GAMMA_INITIAL. Two ways of drawing, each event weighted with the density of both:
    beams: s12 with density 1/s12 + 1/(s - s12), photon with 1/(1 - beta^2 cos^2) to the beams, pair isotropic;
    leptons: s12 with density 1/(s - s12), photon isotropic, l- with 1/(D1 D2) to the photon.
    """
    sqrt_s = math.sqrt(s)
    mass2 = mass * mass
    low = 4.0 * mass2
    high = s - 2.0 * sqrt_s * min_energy
    live = high > low
    high = high if live else 0.5 * (low + s)
    beams = u5 < share
    # s12
    log_low = log(low / (s - low))
    width = log(high / (s - high)) - log_low
    odds = exp(log_low + width * u0)
    log_gap = log((s - low) / (s - high))
    gap = (s - low) * exp(-log_gap * u0)
    s12 = s * odds / (1.0 + odds) if beams else s - gap
    s12 = min(max(s12, low), high)
    density_beams = s / (s12 * (s - s12) * width)
    density_leptons = 1.0 / ((s - s12) * log_gap)
    # the photon to the beams; (1 - velocity c)(1 + velocity c) = 1 - velocity^2 c^2
    tiny = 4.0 * electron_mass * electron_mass / s
    velocity = math.sqrt(1.0 - tiny)
    y_low = 0.5 * log((1.0 + velocity * low_cos) / (1.0 - velocity * low_cos))
    y_high = 0.5 * log((1.0 + velocity * high_cos) / (1.0 - velocity * high_cos))
    power = exp(2.0 * (y_low + (y_high - y_low) * u1))
    cosh2 = 4.0 * power / ((1.0 + power) * (1.0 + power))  # 1 - tanh^2
    c_peaked = (power - 1.0) / ((power + 1.0) * velocity)
    c_flat = low_cos + (high_cos - low_cos) * u1
    flat2 = (1.0 - c_flat) * (1.0 + c_flat)  # 1 - c^2
    top_cosine = min(max(c_peaked if beams else c_flat, low_cos), high_cos)
    top_sine2 = (cosh2 - tiny) / (1.0 - tiny) if beams else flat2
    top_sine2 = max(top_sine2, 0.0)
    top_sine = math.sqrt(top_sine2)
    # to the flat one
    density_top = velocity * (high_cos - low_cos) / ((y_high - y_low) * (top_sine2 + tiny * (1.0 - top_sine2)))
    # l- to the photon in the rest frame of the pair
    beta = math.sqrt(max(1.0 - low / s12, 0.0))
    tiny_pair = low / s12
    y_pair = log((1.0 + beta) / math.sqrt(tiny_pair))
    power = exp(2.0 * y_pair * (2.0 * u2 - 1.0))
    c_pair = (power - 1.0) / ((power + 1.0) * (beta + 1e-30))
    cosine = min(max(2.0 * u2 - 1.0 if beams else c_pair, -1.0), 1.0)
    cosh2 = 4.0 * power / ((1.0 + power) * (1.0 + power))
    one_minus = 4.0 * u2 * (1.0 - u2) * (1.0 - tiny_pair) + tiny_pair if beams else cosh2  # 1 - beta^2 c^2
    sine = math.sqrt(max(1.0 - cosine * cosine, 0.0))
    density_pair = beta / (y_pair * one_minus)
    k = (s - s12) / (2.0 * sqrt_s)
    half = 0.5 * math.sqrt(s12)
    q1, q2, photon = place_three_bodies(
        sqrt_s, s12, k, k, half, half, half * beta, cosine, sine, top_cosine, top_sine, u3, u4
    )
    if kind == GAMMA:
        square = ll_gamma(s, q1, q2, photon, mass, electron_mass)
    else:
        square = ll_gamma_initial(s, q1, q2, photon, mass, electron_mass)
    density = share * density_beams * density_top + (1.0 - share) * density_leptons * density_pair
    # 1/(2s) |M|^2 ds12/2pi (s - s12)/(8 pi s) beta/(8 pi), share of the sphere that is within the cuts
    factor = HBARC2 * E2 * E2 * E2 / (512.0 * math.pi * math.pi * math.pi * s * s) * (high_cos - low_cos)
    # within the dead cone, |theta| << m_e/E of a beam, |M|^2 goes to 0 and rounding may take it below
    weight = factor * max(square, 0.0) * (s - s12) * beta / density
    return weight if live else 0.0, q1, q2, photon


@kernel
def make_block(
    w: Floats, first: int, key0: np.uint64, key1: np.uint64, kind: int, parameters: tuple[float, ...]
) -> None:
    """Events first ... first + BLOCK - 1 into w, shape (N_ROWS * BLOCK,): row 0 weights, then E, px, py, pz of
    l-, l+ and the third. parameters: (s, mass, x_mass, min_energy, share)."""
    s, mass, x_mass, min_energy, share = parameters
    if kind == VECTOR:
        for j in range(BLOCK):
            u = draw_six(np.uint64(first + j), key0, key1)
            write(w, j, generate_llx(u[0], u[1], u[2], u[3], u[4], u[5], s, mass, x_mass, VECTOR))
    elif kind == SCALAR:
        for j in range(BLOCK):
            u = draw_six(np.uint64(first + j), key0, key1)
            write(w, j, generate_llx(u[0], u[1], u[2], u[3], u[4], u[5], s, mass, x_mass, SCALAR))
    elif kind == PSEUDOSCALAR:
        for j in range(BLOCK):
            u = draw_six(np.uint64(first + j), key0, key1)
            write(w, j, generate_llx(u[0], u[1], u[2], u[3], u[4], u[5], s, mass, x_mass, PSEUDOSCALAR))
    elif kind == GAMMA:
        for j in range(BLOCK):
            u = draw_six(np.uint64(first + j), key0, key1)
            event = generate_ll_gamma(
                u[0], u[1], u[2], u[3], u[4], u[5], s, mass, x_mass, min_energy, -1.0, 1.0, share, GAMMA
            )
            write(w, j, event)
    elif kind == GAMMA_INITIAL:
        for j in range(BLOCK):
            u = draw_six(np.uint64(first + j), key0, key1)
            event = generate_ll_gamma(
                u[0], u[1], u[2], u[3], u[4], u[5], s, mass, x_mass, min_energy, -1.0, 1.0, share, GAMMA_INITIAL
            )
            write(w, j, event)


@inlined
def draw_six(index: np.uint64, key0: np.uint64, key1: np.uint64) -> tuple[float, float, float, float, float, float]:
    """Six uniforms of an event: draw blocks 0, 1, 2."""
    u0, u1 = uniforms(index, np.uint64(0), key0, key1)
    u2, u3 = uniforms(index, np.uint64(1), key0, key1)
    u4, u5 = uniforms(index, np.uint64(2), key0, key1)
    return u0, u1, u2, u3, u4, u5


@inlined
def write(w: Floats, j: int, event: tuple[float, Momentum, Momentum, Momentum]) -> None:
    """One event to position j of a block."""
    weight, p1, p2, p3 = event
    w[j] = weight
    w[1 * BLOCK + j] = p1[0]
    w[2 * BLOCK + j] = p1[1]
    w[3 * BLOCK + j] = p1[2]
    w[4 * BLOCK + j] = p1[3]
    w[5 * BLOCK + j] = p2[0]
    w[6 * BLOCK + j] = p2[1]
    w[7 * BLOCK + j] = p2[2]
    w[8 * BLOCK + j] = p2[3]
    w[9 * BLOCK + j] = p3[0]
    w[10 * BLOCK + j] = p3[1]
    w[11 * BLOCK + j] = p3[2]
    w[12 * BLOCK + j] = p3[3]


@kernel
def fill_events(
    momenta: Floats,
    weights: Floats,
    first: int,
    key0: np.uint64,
    key1: np.uint64,
    kind: int,
    parameters: tuple[float, ...],
) -> None:
    """Events first, first + 1, ... into momenta, shape (n, 3, 4), and weights, shape (n,); GeV, fb per coupling^2.

    Third particle: X or the photon. parameters: (s, lepton mass, m_X or electron mass, min_energy, share); the last two
    for l l gamma. The cross section is the mean weight.
    """
    w = np.empty(N_ROWS * BLOCK)
    n = len(weights)
    for start in range(0, n, BLOCK):
        make_block(w, first + start, key0, key1, kind, parameters)
        for j in range(min(BLOCK, n - start)):
            weights[start + j] = w[j]
            for i in range(3):
                for axis in range(4):
                    momenta[start + j, i, axis] = w[(1 + 4 * i + axis) * BLOCK + j]


@kernel
def add_weights(
    n_blocks: int, first: int, key0: np.uint64, key1: np.uint64, kind: int, parameters: tuple[float, ...]
) -> tuple[float, float, float]:
    """Sum of weights, of squared weights, and largest weight of n_blocks * BLOCK events; nothing is stored."""
    w = np.empty(N_ROWS * BLOCK)
    total = 0.0
    squares = 0.0
    largest = 0.0
    for block in range(n_blocks):
        make_block(w, first + block * BLOCK, key0, key1, kind, parameters)
        for j in range(BLOCK):
            total += w[j]
            squares += w[j] * w[j]
            largest = max(largest, w[j])
    return total, squares, largest
