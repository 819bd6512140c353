"""The fast path for three photons: generators, response, selection, observables, fused over blocks of events.

Kernels compute; the callers in `simulate.py` check and name.

Events are made in blocks of `BLOCK`, structure of arrays. A shard owns one flat workspace; a *row* is the offset of
`BLOCK` consecutive numbers in it. With constant offsets LLVM sees that rows do not overlap and vectorises the loops,
which is why the arithmetic here has no library calls (`_functions` are polynomials) and no branches.

    collide -> _generate -> _pseudo_weights -> _survivors ... _normals -> _smear -> _select -> _observe -> _fill

Each stage reads rows that an earlier one wrote. At the dots the events that cannot be selected are dropped and the
others collected to full blocks in a second workspace. A new process is a new generator kernel that writes `TRUE` and
multiplies `WEIGHT`, and one line in `_generate`.

Random numbers are a pure function of (key, event index, draw block): see `_random`. Draw blocks are fixed per
purpose (`DRAW_*`), so that a stage that is switched off moves no number of another stage, an event has the same
numbers in every variation, and the result cannot depend on the number of threads.

Arguments come as plain tuples, unpacked on the first line of the stage that uses them:

    beams      (e_minus, e_plus, sin_half, cos_half, sqrt_s, spread_minus, spread_plus, isr_beta)
               GeV; half the crossing angle; relative energy spreads; isr_beta = 2 alpha/pi (ln(s/m_e^2) - 1), 0 = off
    process    six numbers, whose meaning each generator states
    response   (noise, stochastic, constant, angle, energy_scale, resolution_scale, energy_floor)
    selection  (min_energy, min_mass2, max_mass2, max_cos_opening)    GeV, GeV^2; see `_select`
"""

import math

import numpy as np
import numpy.typing as npt

from modelbuilder.kinematics._compile import inlined, kernel
from modelbuilder.kinematics._constants import ALPHA, HBARC2
from modelbuilder.kinematics._frames import SCALE_MINUS, SCALE_PLUS, WEIGHT, collide, to_laboratory
from modelbuilder.kinematics._functions import cos_dipole, exp, log, sincos_turns
from modelbuilder.kinematics._random import BLOCK, uniforms

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# ---------------------------------------------------------------------------------------------------------------------
# Layout of the workspace

TRUE = 3 * BLOCK  # E, px, py, pz of photons 0, 1, 2 in the laboratory, GeV
NORMAL = 15 * BLOCK  # ten standard normals
RECO = 25 * BLOCK  # E and unit vector of the reconstructed photons 0, 1, 2
CHORD2 = 37 * BLOCK  # |n_j - n_k|^2 of the pair opposite to photon 0, 1, 2
VALUE = 40 * BLOCK  # the observable, one row per entry
SUMS = 43 * BLOCK  # running sums of w and of w^2 after each step of the cut flow, one number per position in the block
N_STEPS = 5
WORKSPACE = SUMS + 2 * N_STEPS * BLOCK

# Draw blocks, each of two uniforms per event; those of the beams are in `_frames`
DRAW_GENERATOR = 0  # 0 to 7
DRAW_SMEAR = 16  # 16 to 20
DRAW_PSEUDO = 0  # with the key of the pseudo-data

GAMMA_ALP = 0
THREE_PHOTONS = 1

MASS2 = 0
RECOIL2 = 1


# ---------------------------------------------------------------------------------------------------------------------
# Generators


@kernel
def _generate_gamma_alp(
    w: Floats, first: int, key0: np.uint64, key1: np.uint64, beams: tuple[float, ...], process: tuple[float, ...]
) -> None:
    """e+e- -> gamma a, a -> gamma gamma: photon 0 recoils, photons 1 and 2 are the decay. process[0] = m_a, GeV.

    dsigma/dcos = 1 + cos^2 of photon 0 to the electron in the e+e- frame; isotropic decay. The weight is
    sigma(s')/sigma(s) = ((1 - m^2/s')/(1 - m^2/s))^3, with the cross section of arXiv:1709.00009.
    """
    mass = process[0]
    mass2 = mass * mass
    e_minus, e_plus, sin_half, cos_half, sqrt_s, _, _, _ = beams
    s_nominal = sqrt_s * sqrt_s
    threshold = mass2 / s_nominal
    share_minus = e_minus / sqrt_s
    share_plus = e_plus / sqrt_s
    half_inverse = 0.5 / sqrt_s
    for j in range(BLOCK):
        index = np.uint64(first + j)
        u0, u1 = uniforms(index, np.uint64(DRAW_GENERATOR), key0, key1)
        u2, u3 = uniforms(index, np.uint64(DRAW_GENERATOR + 1), key0, key1)
        open_ = s_nominal * (w[SCALE_MINUS + j] * w[SCALE_PLUS + j]) > mass2
        scale_minus = w[SCALE_MINUS + j] if open_ else 1.0
        scale_plus = w[SCALE_PLUS + j] if open_ else 1.0
        product = scale_minus * scale_plus
        inverse = 1.0 / math.sqrt(product)  # one root and one division for 1/sqrt(s), the tilt and 1/tilt
        ratio = (1.0 - threshold * (inverse * inverse)) / (1.0 - threshold)
        w[WEIGHT + j] *= ratio * ratio * ratio if open_ else 0.0
        minus = share_minus * (scale_minus * inverse)
        plus = share_plus * (scale_plus * inverse)
        s = s_nominal * product
        momentum = (s - mass2) * (half_inverse * inverse)
        energy = (s + mass2) * (half_inverse * inverse)

        c = cos_dipole(u0)
        st = math.sqrt(1.0 - c * c)
        sf, cf = sincos_turns(u1)
        e, x, y, z = to_laboratory(
            momentum, momentum * st * cf, momentum * st * sf, momentum * c, minus, plus, sin_half, cos_half
        )
        w[TRUE + j] = e
        w[TRUE + BLOCK + j] = x
        w[TRUE + 2 * BLOCK + j] = y
        w[TRUE + 3 * BLOCK + j] = z

        # decay: half the parent, plus or minus k; -n is the direction of a, (1) and (2) are orthogonal to it
        cd = 2.0 * u2 - 1.0
        sd = math.sqrt(1.0 - cd * cd)
        sp, cp = sincos_turns(u3)
        k_energy = 0.5 * momentum * cd
        k_along = -0.5 * energy * cd
        k1 = 0.5 * mass * sd * cp
        k2 = 0.5 * mass * sd * sp
        kx = k_along * st * cf + k1 * c * cf - k2 * sf
        ky = k_along * st * sf + k1 * c * sf + k2 * cf
        kz = k_along * c - k1 * st
        px = -0.5 * momentum * st * cf
        py = -0.5 * momentum * st * sf
        pz = -0.5 * momentum * c
        e, x, y, z = to_laboratory(0.5 * energy + k_energy, px + kx, py + ky, pz + kz, minus, plus, sin_half, cos_half)
        w[TRUE + 4 * BLOCK + j] = e
        w[TRUE + 5 * BLOCK + j] = x
        w[TRUE + 6 * BLOCK + j] = y
        w[TRUE + 7 * BLOCK + j] = z
        e, x, y, z = to_laboratory(0.5 * energy - k_energy, px - kx, py - ky, pz - kz, minus, plus, sin_half, cos_half)
        w[TRUE + 8 * BLOCK + j] = e
        w[TRUE + 9 * BLOCK + j] = x
        w[TRUE + 10 * BLOCK + j] = y
        w[TRUE + 11 * BLOCK + j] = z


@inlined
def _three_photon_shape(x1: float, x2: float, x3: float, c1: float, c2: float, c3: float) -> float:
    """|M|^2 of e+e- -> 3 gamma in units of 32 e^6/s, spin averaged, massless electrons; inf on a beam axis.

    x: energies in units of half sqrt(s); c: cosines to the electron, in the e+e- frame. With k_i = p_- . q_i,
    k'_i = p_+ . q_i it is e^6 s sum_i k_i k'_i (k_i^2 + k'_i^2) / prod_i k_i k'_i; a test compares it with the
    trace of the six diagrams.
    """
    t1 = x1 * x1 * (1.0 - c1) * (1.0 + c1)
    t2 = x2 * x2 * (1.0 - c2) * (1.0 + c2)
    t3 = x3 * x3 * (1.0 - c3) * (1.0 + c3)
    top = t1 * x1 * x1 * (1.0 + c1 * c1) + t2 * x2 * x2 * (1.0 + c2 * c2) + t3 * x3 * x3 * (1.0 + c3 * c3)
    return top / (t1 * t2 * t3)


@inlined
def _inside_cuts(e: float, x: float, y: float, z: float, beams: tuple[float, ...], cuts: tuple[float, ...]) -> bool:
    """Whether a true photon is above cuts[0] GeV and below |cos| = cuts[1] in the rest frame of the nominal beams."""
    e_minus, e_plus, sin_half, cos_half, sqrt_s, _, _, _ = beams
    k_minus = e_minus * (e - x * sin_half - z * cos_half)
    k_plus = e_plus * (e - x * sin_half + z * cos_half)
    total = k_minus + k_plus  # sqrt(s) E*; the difference is that times cos
    return (total >= cuts[0] * sqrt_s) & (abs(k_plus - k_minus) <= cuts[1] * total)


@kernel
def _generate_three_photons(
    w: Floats, first: int, key0: np.uint64, key1: np.uint64, beams: tuple[float, ...], process: tuple[float, ...]
) -> None:
    """e+e- -> gamma gamma gamma at lowest order: photon 0 is the softest in the e+e- frame. Weight in fb.

    process[0], process[1]: generator cuts, least energy (GeV) and largest |cos| of every true photon in the rest frame
    of the nominal beams. An event outside has weight 0.

    sigma = 1/(2s) 1/3! int |M|^2 dPhi3, dPhi3 = dE1 dE2/(32 pi^3) with isotropic orientation. The softest energy is
    drawn from dx/x and the sharing of the rest is flat, which follows the soft pole: flat sharing has width x below
    x = 1/2, and |M|^2 goes as 1/x^2.
    """
    min_energy, max_cos = process[0], process[1]
    e_minus, e_plus, sin_half, cos_half, sqrt_s, _, _, _ = beams
    s_nominal = sqrt_s * sqrt_s
    coupling = 4.0 * math.pi * ALPHA
    # 1/(2s) 1/6 (3 choices of the softest) (s/4 of dE1 dE2) (32 e^6/s) 1/(32 pi^3), times s
    factor = HBARC2 * coupling * coupling * coupling / (16.0 * math.pi * math.pi * math.pi)
    log_two_thirds = math.log(2.0 / 3.0)
    for j in range(BLOCK):
        index = np.uint64(first + j)
        u0, u1 = uniforms(index, np.uint64(DRAW_GENERATOR), key0, key1)
        u2, u3 = uniforms(index, np.uint64(DRAW_GENERATOR + 1), key0, key1)
        u4, _ = uniforms(index, np.uint64(DRAW_GENERATOR + 2), key0, key1)
        s = s_nominal * (w[SCALE_MINUS + j] * w[SCALE_PLUS + j])
        live = s > 1e-6 * s_nominal
        s = s if live else s_nominal
        tilt = math.sqrt(w[SCALE_MINUS + j] / w[SCALE_PLUS + j]) if live else 1.0
        minus = e_minus / sqrt_s * tilt
        plus = e_plus / sqrt_s / tilt
        half = 0.5 * math.sqrt(s)
        # the least energy in the frame of the radiating beams that can pass the cut in the nominal frame
        forward = tilt * (1.0 - max_cos) + (1.0 + max_cos) / tilt
        backward = tilt * (1.0 + max_cos) + (1.0 - max_cos) / tilt
        log_least = log(0.5 * min_energy * min(forward, backward) / half)
        width = log_two_thirds - log_least
        live = live & (width > 0.0)
        width = width if live else 1.0
        x1 = exp(log_two_thirds - width * u0) if live else 0.5

        low = max(x1, 1.0 - x1)
        span = min(1.0, 2.0 - 2.0 * x1) - low
        x2 = low + span * u1
        x3 = (1.0 - x1) + (1.0 - x2)
        c1 = 2.0 * u2 - 1.0
        s1 = math.sqrt(1.0 - c1 * c1)
        sf, cf = sincos_turns(u3)
        sp, cp = sincos_turns(u4)
        # photon 1 along n; photon 2 at the angle fixed by the energies, turned by psi around n; photon 3 balances
        cos12 = 1.0 - 2.0 * (1.0 - x3) / (x1 * x2)
        across = 2.0 * math.sqrt(max((1.0 - x1) * (1.0 - x2) * (1.0 - x3), 0.0)) / x1
        along = x2 * cos12
        x2x = along * s1 * cf + across * (cp * c1 * cf - sp * sf)
        x2y = along * s1 * sf + across * (cp * c1 * sf + sp * cf)
        x2z = along * c1 - across * cp * s1
        x1x = x1 * s1 * cf
        x1y = x1 * s1 * sf
        x1z = x1 * c1
        c2 = x2z / x2
        c3 = -(x1z + x2z) / x3
        shape = _three_photon_shape(x1, x2, x3, c1, c2, c3)

        e, x, y, z = to_laboratory(half * x1, half * x1x, half * x1y, half * x1z, minus, plus, sin_half, cos_half)
        live = live & _inside_cuts(e, x, y, z, beams, process)
        w[TRUE + j] = e
        w[TRUE + BLOCK + j] = x
        w[TRUE + 2 * BLOCK + j] = y
        w[TRUE + 3 * BLOCK + j] = z
        e, x, y, z = to_laboratory(half * x2, half * x2x, half * x2y, half * x2z, minus, plus, sin_half, cos_half)
        live = live & _inside_cuts(e, x, y, z, beams, process)
        w[TRUE + 4 * BLOCK + j] = e
        w[TRUE + 5 * BLOCK + j] = x
        w[TRUE + 6 * BLOCK + j] = y
        w[TRUE + 7 * BLOCK + j] = z
        e, x, y, z = to_laboratory(
            half * x3, -half * (x1x + x2x), -half * (x1y + x2y), -half * (x1z + x2z), minus, plus, sin_half, cos_half
        )
        live = live & _inside_cuts(e, x, y, z, beams, process)
        w[TRUE + 8 * BLOCK + j] = e
        w[TRUE + 9 * BLOCK + j] = x
        w[TRUE + 10 * BLOCK + j] = y
        w[TRUE + 11 * BLOCK + j] = z
        w[WEIGHT + j] = w[WEIGHT + j] * (factor / s * shape * x1 * width * span) if live else 0.0


@kernel
def _generate(
    w: Floats,
    code: int,
    first: int,
    key0: np.uint64,
    key1: np.uint64,
    beams: tuple[float, ...],
    process: tuple[float, ...],
) -> None:
    """True laboratory momenta of one block, and its weights times that of the process."""
    if code == GAMMA_ALP:
        _generate_gamma_alp(w, first, key0, key1, beams, process)
    elif code == THREE_PHOTONS:
        _generate_three_photons(w, first, key0, key1, beams, process)


# ---------------------------------------------------------------------------------------------------------------------
# Pseudo-data


@kernel
def _pseudo_weights(w: Floats, first: int, key0: np.uint64, key1: np.uint64, events_per_weight: float) -> None:
    """Replace the weight by a Poisson number with mean weight * events_per_weight, by inversion of the distribution.

    A mean above 16 is a sum of independent parts of 16, with the further uniforms of the event.
    """
    for j in range(BLOCK):
        mean = w[WEIGHT + j] * events_per_weight
        if mean <= 0.0:
            w[WEIGHT + j] = 0.0
            continue
        total = 0
        draw = DRAW_PSEUDO
        while mean > 0.0:
            part = min(mean, 16.0)
            mean -= part
            u, _ = uniforms(np.uint64(first + j), np.uint64(draw), key0, key1)
            draw += 1
            term = math.exp(-part)
            cumulative = term
            k = 0
            while u > cumulative and k < 200:
                k += 1
                term *= part / k
                cumulative += term
            total += k
        w[WEIGHT + j] = float(total)


# ---------------------------------------------------------------------------------------------------------------------
# Detector response, selection, observables


@kernel
def _survivors(
    w: Floats, cos_low: Floats, cos_high: Floats, response: tuple[float, ...], keep_all: bool, passed: Ints
) -> int:
    """Positions of the events that smearing could bring into the polar angles, in `passed`; how many they are.

    Exact, not an approximation: a uniform is at least 2^-53, so a normal is at most sqrt(106 ln 2) = 8.572 and the two
    of a direction together at most 12.13. The end of a unit vector moves by less than its tangent displacement, that is
    reach/sqrt(E). All is compared times E, without a root or a quotient: sqrt(E) - 0.36 E is at most 1/1.44 < 0.7.
    """
    reach = 12.13 * response[3]
    for j in range(BLOCK):
        w[NORMAL + j] = 1.0 if (w[WEIGHT + j] != 0.0) | keep_all else 0.0
    for photon in range(3):
        row = TRUE + 4 * photon * BLOCK
        for j in range(BLOCK):
            w[VALUE + j] = 1.0 if keep_all else 0.0
        for interval in range(len(cos_low)):
            low = cos_low[interval] - 1e-9
            high = cos_high[interval] + 1e-9
            for j in range(BLOCK):
                energy = w[row + j]
                z = w[row + 3 * BLOCK + j]
                margin = reach * (0.36 * energy + 0.7)
                near = (z >= low * energy - margin) & (z <= high * energy + margin)
                w[VALUE + j] = 1.0 if near else w[VALUE + j]
        for j in range(BLOCK):
            w[NORMAL + j] *= w[VALUE + j]
    n = 0
    for j in range(BLOCK):
        passed[n] = j
        n += 1 if w[NORMAL + j] != 0.0 else 0
    return n


@kernel
def _collect(g: Floats, passed: Ints, start: int, n: int, first: int, w: Floats, filled: int, index: Ints) -> None:
    """Copy events passed[start:start + n] of workspace g, block from event `first`, to positions filled... of w."""
    for k in range(n):
        j = passed[start + k]
        index[filled + k] = first + j
        # unsigned: an index that could be negative costs more than the copy
        w[np.uint64(WEIGHT + filled + k)] = g[np.uint64(WEIGHT + j)]
        for row in range(12):
            w[np.uint64(TRUE + row * BLOCK + filled + k)] = g[np.uint64(TRUE + row * BLOCK + j)]


@kernel
def _normals(w: Floats, index: Ints, key0: np.uint64, key1: np.uint64) -> None:
    """Ten standard normals per event: Box and Muller, five pairs. index: number of each event, shape (BLOCK,)."""
    for pair in range(5):
        row = NORMAL + 2 * pair * BLOCK
        for j in range(BLOCK):
            u, v = uniforms(np.uint64(index[j]), np.uint64(DRAW_SMEAR + pair), key0, key1)
            radius = math.sqrt(-2.0 * log(u))
            sine, cosine = sincos_turns(v)
            w[row + j] = radius * cosine
            w[row + BLOCK + j] = radius * sine


@kernel
def _smear(w: Floats, response: tuple[float, ...]) -> None:
    """Reconstructed energy and unit vector of each photon.

    sigma(E)^2 = (noise^2 + stochastic^2 E^(3/2) + constant^2 E^2) resolution_scale^2, that is the quadratic sum
    noise/E (+) stochastic/E^(1/4) (+) constant for sigma(E)/E. The direction is moved in the plane tangent to the unit
    sphere by normals of width angle/sqrt(E) in two directions. Not below energy_floor.
    """
    noise, stochastic, constant, angle, energy_scale, resolution_scale, energy_floor = response
    for photon in range(3):
        true = TRUE + 4 * photon * BLOCK
        reco = RECO + 4 * photon * BLOCK
        normal = NORMAL + 3 * photon * BLOCK
        for j in range(BLOCK):
            energy = w[true + j]
            x = w[true + BLOCK + j]
            y = w[true + 2 * BLOCK + j]
            z = w[true + 3 * BLOCK + j]
            root = math.sqrt(energy)
            inverse = 1.0 / root
            sigma = math.sqrt(noise * noise + energy * (stochastic * stochastic * root + constant * constant * energy))
            smeared = energy_scale * (energy + resolution_scale * sigma * w[normal + j])
            w[reco + j] = max(smeared, energy_floor)
            # an orthonormal pair (b1, b2) for n without a singular direction: Duff et al., JCGT 6 (2017) 1
            x *= inverse * inverse
            y *= inverse * inverse
            z *= inverse * inverse
            sign = 1.0 if z >= 0.0 else -1.0
            d1 = angle * inverse * w[normal + BLOCK + j]
            d2 = angle * inverse * w[normal + 2 * BLOCK + j]
            length = math.sqrt(1.0 + d1 * d1 + d2 * d2)
            both = 1.0 / (length * (sign + z))  # one division for the two reciprocals
            a = -both * length
            b = x * y * a
            mx = x + d1 * (1.0 + sign * x * x * a) + d2 * b
            my = y + d1 * sign * b + d2 * (sign + y * y * a)
            mz = z - d1 * sign * x - d2 * y
            inverse = both * (sign + z)
            w[reco + BLOCK + j] = mx * inverse
            w[reco + 2 * BLOCK + j] = my * inverse
            w[reco + 3 * BLOCK + j] = mz * inverse


@inlined
def _count(w: Floats, step: int) -> None:
    """Add the weights of the block to the cut flow, position by position: the order of a sum is fixed."""
    row = SUMS + 2 * step * BLOCK
    for j in range(BLOCK):
        weight = w[WEIGHT + j]
        w[row + j] += weight
        w[row + BLOCK + j] += weight * weight


@inlined
def _cuts_mass(selection: tuple[float, ...]) -> bool:
    return (selection[1] > -math.inf) | (selection[2] < math.inf)


@inlined
def _cuts_opening(selection: tuple[float, ...]) -> bool:
    return selection[3] < 1.0


@kernel
def _select(w: Floats, cos_low: Floats, cos_high: Floats, selection: tuple[float, ...]) -> None:
    """Set the weight to 0 where a cut fails; cut flow after each: (generated,) angles, energies, mass, opening angle.

    cos_low, cos_high: accepted intervals of the cosine of the laboratory polar angle, shape (n_intervals,).
    selection: least energy; bounds of M^2(3 gamma); largest cosine of the angle between two photons. A cut that cannot
    fail is skipped and not counted: `simulate_shard` repeats the step before.
    """
    min_energy, min_mass2, max_mass2, max_cos_opening = selection
    for photon in range(3):
        row = RECO + (4 * photon + 3) * BLOCK
        for j in range(BLOCK):
            w[VALUE + j] = 0.0
        for interval in range(len(cos_low)):
            low = cos_low[interval]
            high = cos_high[interval]
            for j in range(BLOCK):
                cosine = w[row + j]
                w[VALUE + j] = 1.0 if (cosine >= low) & (cosine <= high) else w[VALUE + j]
        for j in range(BLOCK):
            w[WEIGHT + j] *= w[VALUE + j]
    _count(w, 1)
    for j in range(BLOCK):
        least = min(min(w[RECO + j], w[RECO + 4 * BLOCK + j]), w[RECO + 8 * BLOCK + j])
        w[WEIGHT + j] = w[WEIGHT + j] if least > min_energy else 0.0
    _count(w, 2)
    for photon in range(3):
        one = RECO + (4 * ((photon + 1) % 3) + 1) * BLOCK
        two = RECO + (4 * ((photon + 2) % 3) + 1) * BLOCK
        for j in range(BLOCK):
            x = w[one + j] - w[two + j]
            y = w[one + BLOCK + j] - w[two + BLOCK + j]
            z = w[one + 2 * BLOCK + j] - w[two + 2 * BLOCK + j]
            w[CHORD2 + photon * BLOCK + j] = x * x + y * y + z * z
    if _cuts_mass(selection):
        for j in range(BLOCK):
            e0 = w[RECO + j]
            e1 = w[RECO + 4 * BLOCK + j]
            e2 = w[RECO + 8 * BLOCK + j]
            mass2 = e1 * e2 * w[CHORD2 + j] + e2 * e0 * w[CHORD2 + BLOCK + j] + e0 * e1 * w[CHORD2 + 2 * BLOCK + j]
            w[WEIGHT + j] = w[WEIGHT + j] if (mass2 >= min_mass2) & (mass2 <= max_mass2) else 0.0
        _count(w, 3)
    if _cuts_opening(selection):
        min_chord2 = 2.0 - 2.0 * max_cos_opening
        for j in range(BLOCK):
            least = min(min(w[CHORD2 + j], w[CHORD2 + BLOCK + j]), w[CHORD2 + 2 * BLOCK + j])
            w[WEIGHT + j] = w[WEIGHT + j] if least >= min_chord2 else 0.0
        _count(w, 4)


@kernel
def _observe(w: Floats, code: int, beams: tuple[float, ...]) -> None:
    """The observable for photon 0, 1, 2, GeV^2: mass of the pair opposite to it, or recoil against it.

    The recoil is against the nominal beams, s - 2 sqrt(s) E* = s - 2 P . q, as in data.
    """
    e_minus, e_plus, sin_half, cos_half, sqrt_s, _, _, _ = beams
    for photon in range(3):
        row = VALUE + photon * BLOCK
        one = RECO + 4 * ((photon + 1) % 3) * BLOCK
        two = RECO + 4 * ((photon + 2) % 3) * BLOCK
        own = RECO + 4 * photon * BLOCK
        if code == MASS2:
            for j in range(BLOCK):
                w[row + j] = w[one + j] * w[two + j] * w[CHORD2 + photon * BLOCK + j]
        elif code == RECOIL2:
            for j in range(BLOCK):
                x = w[own + BLOCK + j]
                z = w[own + 3 * BLOCK + j]
                product = e_minus * (1.0 - x * sin_half - z * cos_half) + e_plus * (1.0 - x * sin_half + z * cos_half)
                w[row + j] = sqrt_s * sqrt_s - 2.0 * w[own + j] * product


@kernel
def _fill(
    w: Floats,
    passed: Ints,
    n_passed: int,
    n_entries: int,
    edges: Floats,
    guide: Ints,
    places: Ints,
    values: Floats,
    variances: Floats,
) -> None:
    """Add the entries of the passed events to values and variances, shape (n_bins + 2,): below, bins, above.

    A bin holds its lower edge and not its upper one. guide[k] is a bin at or below that of the k-th of len(guide)
    equal cells between the outer edges. An event with k entries in one bin adds (k w)^2 to its variance, since the
    entries of an event are not independent. places: room for 3 BLOCK numbers.

    Indices are unsigned, since one that could be negative costs more than the rest; and no array goes to a helper
    within a loop, which would count references to it there.
    """
    n_bins = len(edges) - 1
    low = edges[0]
    high = edges[n_bins]
    per_cell = len(guide) / (high - low)
    last_cell = len(guide) - 1
    for entry in range(n_entries):
        row = VALUE + entry * BLOCK
        for k in range(n_passed):
            value = w[np.uint64(row + passed[k])]
            place = n_bins + 1
            if value < high:
                place = 0
                if value >= low:
                    place = guide[np.uint64(min(int((value - low) * per_cell), last_cell))] + 1
                    place += 1 if value >= edges[np.uint64(place)] else 0  # mostly enough, and no branch
                    while value >= edges[np.uint64(place)]:
                        place += 1
            places[np.uint64(entry * BLOCK + k)] = place
    for k in range(n_passed):
        weight = w[np.uint64(WEIGHT + passed[k])]
        weight2 = weight * weight
        first = np.uint64(places[k])
        values[first] += weight
        variances[first] += weight2
        if n_entries == 3:
            second = np.uint64(places[np.uint64(BLOCK + k)])
            third = np.uint64(places[np.uint64(2 * BLOCK + k)])
            values[second] += weight
            variances[second] += weight2 * (3.0 if second == first else 1.0)
            same = (2.0 if third == first else 0.0) + (2.0 if third == second else 0.0)
            values[third] += weight
            variances[third] += weight2 * (1.0 + same)


# ---------------------------------------------------------------------------------------------------------------------
# Drivers


@kernel
def _store(w: Floats, j: int, event: int, before: float, true: Floats, reconstructed: Floats, weights: Floats) -> None:
    """Write the event at position j out: momenta (n, 3, 4), weights before and after the selection."""
    weights[event, 0] = before
    weights[event, 1] = w[WEIGHT + j]
    for photon in range(3):
        row = 4 * photon * BLOCK + j
        energy = w[RECO + row]
        reconstructed[event, photon, 0] = energy
        true[event, photon, 0] = w[TRUE + row]
        for axis in range(1, 4):
            true[event, photon, axis] = w[TRUE + row + axis * BLOCK]
            reconstructed[event, photon, axis] = energy * w[RECO + row + axis * BLOCK]


@kernel
def simulate_shard(
    first: int,
    last: int,
    code: int,
    keys: npt.NDArray[np.uint64],
    beams: tuple[float, ...],
    process: tuple[float, ...],
    response: tuple[float, ...],
    cos_low: Floats,
    cos_high: Floats,
    selection: tuple[float, ...],
    events_per_weight: float,
    n_entries: int,
    observables: Ints,
    edges: Floats,
    edge_offsets: Ints,
    guide: Ints,
    guide_offsets: Ints,
    values: Floats,
    variances: Floats,
    sums: Floats,
    true: Floats,
    reconstructed: Floats,
    weights: Floats,
) -> None:
    """Simulate events first to last - 1 and add them to the outputs; `first` a multiple of BLOCK.

    keys: key of the simulation (2 words) and of the pseudo-data (2 words), 32 bits in each.
    events_per_weight: for pseudo-data, see `_pseudo_weights`; 0 for the weighted simulation.
    observables: codes; the edges (and guide, see `_fill`) of number i lie at edge_offsets[i] to edge_offsets[i + 1].
    values, variances: all observables one after the other, n_bins + 2 numbers each.
    sums: shape (N_STEPS, 2), sum of weights and of squared weights.
    true, reconstructed, weights: shapes (n, 3, 4), (n, 3, 4), (n, 2), or n = 0 to keep no events.
    """
    g = np.zeros(WORKSPACE)
    w = np.zeros(WORKSPACE)
    before = np.zeros(BLOCK)
    passed = np.zeros(BLOCK, dtype=np.int64)
    chosen = np.zeros(BLOCK, dtype=np.int64)
    index = np.zeros(BLOCK, dtype=np.int64)
    places = np.zeros(3 * BLOCK, dtype=np.int64)
    key0, key1, pseudo_key0, pseudo_key1 = keys[0], keys[1], keys[2], keys[3]
    keep = len(weights) > 0
    start = first
    block_start = first
    filled = 0
    n_survivors = 0
    collected = 0
    # one turn either generates a block or measures one that is full, or the rest
    while start < last or collected < n_survivors or filled > 0:
        if collected == n_survivors and start < last:
            stop = min(start + BLOCK, last)
            collide(g, start, stop, key0, key1, beams)
            _generate(g, code, start, key0, key1, beams, process)
            if events_per_weight > 0.0:
                _pseudo_weights(g, start, pseudo_key0, pseudo_key1, events_per_weight)
            _count(g, 0)
            n_survivors = _survivors(g, cos_low, cos_high, response, keep, passed)
            n_survivors = stop - start if keep else n_survivors
            collected = 0
            block_start = start
            start = stop
        n = min(n_survivors - collected, BLOCK - filled)
        _collect(g, passed, collected, n, block_start, w, filled, index)
        collected += n
        filled += n
        if filled < BLOCK and (start < last or collected < n_survivors):
            continue
        for j in range(filled, BLOCK):
            w[WEIGHT + j] = 0.0
        _normals(w, index, key0, key1)
        _smear(w, response)
        for j in range(BLOCK):
            before[j] = w[WEIGHT + j]
        _select(w, cos_low, cos_high, selection)
        if keep:
            for j in range(filled):
                _store(w, j, index[j], before[j], true, reconstructed, weights)
        n_chosen = 0
        for j in range(BLOCK):
            chosen[n_chosen] = j
            n_chosen += 1 if w[WEIGHT + j] != 0.0 else 0
        for i in range(len(observables)):
            _observe(w, observables[i], beams)
            low, high = edge_offsets[i], edge_offsets[i + 1]
            _fill(
                w,
                chosen,
                n_chosen,
                n_entries,
                edges[low:high],
                guide[guide_offsets[i] : guide_offsets[i + 1]],
                places,
                values[low + i : high + i + 1],
                variances[low + i : high + i + 1],
            )
        filled = 0
    for step in range(N_STEPS):
        row = SUMS + 2 * step * BLOCK
        for j in range(BLOCK):
            sums[step, 0] += g[row + j] + w[row + j]
            sums[step, 1] += g[row + BLOCK + j] + w[row + BLOCK + j]
    for i in range(2):
        if not _cuts_mass(selection):
            sums[3, i] = sums[2, i]
        if not _cuts_opening(selection):
            sums[4, i] = sums[3, i]


@kernel
def tabulate_three_photon_shape(arguments: Floats, results: Floats) -> None:
    """`_three_photon_shape` on arrays, for the tests. arguments: shape (n, 6); results: shape (n,)."""
    for i in range(len(arguments)):
        a = arguments[i]
        results[i] = _three_photon_shape(a[0], a[1], a[2], a[3], a[4], a[5])
