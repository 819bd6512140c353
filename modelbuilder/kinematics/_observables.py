"""Observables of sums of momenta, one number per event, and the filling of histograms.

Momenta come component by component: shape (4, n_events), E, px, py, pz in the laboratory, GeV. `beams` is the tuple
(electron energy, positron energy, sin and cos of half the crossing angle), and what recoils does so against the nominal
beams.
"""

import math

import numpy as np
import numpy.typing as npt

from modelbuilder.kinematics._compile import inlined, kernel

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

(
    MASS,
    MASS2,
    REDUCED_MASS,
    MBC,
    DELTA_E,
    ENERGY,
    MOMENTUM,
    PT,
    THETA,
    PHI,
    OPENING_ANGLE,
    TRANSVERSE_OPENING_ANGLE,
    COS_HELICITY,
    TAU_X,
    CONSTRAINED_MASS,
) = range(15)


@kernel
def add_particles(momenta: Floats, members: Ints, total: Floats) -> None:
    """Sum of some particles, in the order of `members`; momenta: (n_particles, 4, n), total: (4, n)."""
    for axis in range(4):
        for j in range(total.shape[1]):
            total[axis, j] = 0.0
        for i in range(len(members)):
            row = momenta[members[i], axis]
            for j in range(total.shape[1]):
                total[axis, j] += row[j]


@kernel
def add_some(momenta: Floats, members: Ints, events: Ints, total: Floats) -> None:
    """The same of some events only, whose places are in `events`; total: (4, n_events)."""
    for axis in range(4):
        line = total[axis]
        for j in range(len(events)):
            line[j] = 0.0
        for i in range(len(members)):
            row = momenta[members[i], axis]
            for j in range(len(events)):
                line[j] += row[events[j]]


@kernel
def recoil(beams: tuple[float, ...], total: Floats) -> None:
    """What the nominal beams have and `total` has not, in its place."""
    e_minus, e_plus, sin_half, cos_half = beams
    for j in range(total.shape[1]):
        total[0, j] = (e_minus + e_plus) - total[0, j]
        total[1, j] = (e_minus + e_plus) * sin_half - total[1, j]
        total[2, j] = -total[2, j]
        total[3, j] = (e_minus - e_plus) * cos_half - total[3, j]


@kernel
def to_centre(beams: tuple[float, ...], total: Floats) -> None:
    """From the laboratory to the e+e- frame, whose third axis is the electron, in place.

    The products with the beams are the light-cone parts; the first axis is that of `_frames.to_laboratory`, inverted.
    """
    e_minus, e_plus, sin_half, cos_half = beams
    root = 2.0 * math.sqrt(e_minus * e_plus) * cos_half
    for j in range(total.shape[1]):
        e, x, z = total[0, j], total[1, j], total[3, j]
        across = e - x * sin_half
        with_electron = e_minus * (across - z * cos_half)
        with_positron = e_plus * (across + z * cos_half)
        total[0, j] = (with_electron + with_positron) / root
        total[1, j] = (x - e * sin_half) / cos_half
        total[3, j] = (with_positron - with_electron) / root


@inlined
def _mass2(e: float, x: float, y: float, z: float) -> float:
    p = math.sqrt(x * x + y * y + z * z)
    return (e - p) * (e + p)


@inlined
def _product(e1: float, x1: float, y1: float, z1: float, e2: float, x2: float, y2: float, z2: float) -> float:
    return e1 * e2 - x1 * x2 - y1 * y2 - z1 * z2


@inlined
def _cross_and_dot(x1: float, y1: float, z1: float, x2: float, y2: float, z2: float) -> tuple[float, float]:
    """Size of the vector product, and the scalar product."""
    cx, cy, cz = y1 * z2 - z1 * y2, z1 * x2 - x1 * z2, x1 * y2 - y1 * x2
    return math.sqrt(cx * cx + cy * cy + cz * cz), x1 * x2 + y1 * y2 + z1 * z2


@inlined
def _angle(x1: float, y1: float, z1: float, x2: float, y2: float, z2: float) -> float:
    """Between two vectors, rad; good to all digits near 0 and pi too."""
    across, along = _cross_and_dot(x1, y1, z1, x2, y2, z2)
    return math.atan2(across, along)


@kernel
def evaluate(code: int, number: float, first: Floats, second: Floats, third: Floats, values: Floats) -> None:
    """One observable of up to three sums of momenta; values: (n,). NaN where there is no answer.

    number: for REDUCED_MASS the sum of the two masses taken, for MBC and DELTA_E sqrt(s), for TAU_X the mass of the tau,
        for CONSTRAINED_MASS that of the parent.
    first, second, third: (4, n); for MBC, DELTA_E and TAU_X in the e+e- frame. A mass has the sign of its square: what
        falls below zero stays visible.
    """
    n = len(values)
    energy, px, py, pz = first[0], first[1], first[2], first[3]
    if code in (MASS, MASS2, REDUCED_MASS):
        # a loop of its own for each of what is asked most often: without branches it is vectorised
        for j in range(n):
            values[j] = _mass2(energy[j], px[j], py[j], pz[j])
        if code == REDUCED_MASS:
            for j in range(n):
                values[j] -= number * number
        if code != MASS2:
            for j in range(n):
                root = math.sqrt(abs(values[j]))
                values[j] = root if values[j] >= 0.0 else -root
    elif code == ENERGY:
        for j in range(n):
            values[j] = energy[j]
    elif code == MOMENTUM:
        for j in range(n):
            values[j] = math.sqrt(px[j] * px[j] + py[j] * py[j] + pz[j] * pz[j])
    elif code == PT:
        for j in range(n):
            values[j] = math.sqrt(px[j] * px[j] + py[j] * py[j])
    else:
        _evaluate_others(code, number, first, second, third, values)


@kernel
def _evaluate_others(code: int, number: float, first: Floats, second: Floats, third: Floats, values: Floats) -> None:
    for j in range(len(values)):
        e, x, y, z = first[0, j], first[1, j], first[2, j], first[3, j]
        if code == MBC:
            square = 0.25 * number * number - (x * x + y * y + z * z)
            values[j] = math.sqrt(square) if square >= 0.0 else math.nan
        elif code == DELTA_E:
            values[j] = e - 0.5 * number
        elif code == THETA:
            values[j] = math.atan2(math.sqrt(x * x + y * y), z)
        elif code == PHI:
            values[j] = math.atan2(y, x)
        elif code == OPENING_ANGLE:
            values[j] = _angle(x, y, z, second[1, j], second[2, j], second[3, j])
        elif code == TRANSVERSE_OPENING_ANGLE:
            values[j] = _angle(x, y, 0.0, second[1, j], second[2, j], 0.0)
        elif code == COS_HELICITY:
            values[j] = _cos_helicity(
                e, x, y, z,
                second[0, j], second[1, j], second[2, j], second[3, j],
                third[0, j], third[1, j], third[2, j], third[3, j],
            )  # fmt: skip
        elif code == TAU_X:
            values[j] = _tau_x(e, x, y, z, second[1, j], second[2, j], second[3, j], third[0, j], number)
        elif code == CONSTRAINED_MASS:
            values[j] = _constrained_mass(e, x, y, z, second[0, j], second[1, j], second[2, j], second[3, j], number)


@kernel
def angle_parts(code: int, first: Floats, second: Floats, sines: Floats, cosines: Floats) -> None:
    """What `evaluate` takes the arctangent of, for THETA, OPENING_ANGLE and TRANSVERSE_OPENING_ANGLE; shapes (n,).

    Both times the same positive number; sines are not negative, since these angles are from 0 to pi.
    """
    _, x1, y1, z1 = first
    _, x2, y2, z2 = second
    if code == THETA:
        for j in range(len(sines)):
            sines[j] = math.sqrt(x1[j] * x1[j] + y1[j] * y1[j])
            cosines[j] = z1[j]
    elif code == OPENING_ANGLE:
        for j in range(len(sines)):
            sines[j], cosines[j] = _cross_and_dot(x1[j], y1[j], z1[j], x2[j], y2[j], z2[j])
    else:
        for j in range(len(sines)):
            sines[j], cosines[j] = _cross_and_dot(x1[j], y1[j], 0.0, x2[j], y2[j], 0.0)


@kernel
def _cos_helicity(
    e: float, x: float, y: float, z: float,
    e1: float, x1: float, y1: float, z1: float,
    e2: float, x2: float, y2: float, z2: float,
) -> float:  # fmt: skip
    """Cosine between a daughter and the reverse of its grandparent in the frame of the parent, from invariants.

    That is the angle of the daughter to the direction of the parent as the grandparent sees it.
    """
    parent2 = _mass2(e1, x1, y1, z1)
    to_daughter = _product(e, x, y, z, e1, x1, y1, z1)
    to_grandparent = _product(e2, x2, y2, z2, e1, x1, y1, z1)
    between = _product(e, x, y, z, e2, x2, y2, z2)
    daughter2 = to_daughter * to_daughter - parent2 * _mass2(e, x, y, z)
    grandparent2 = to_grandparent * to_grandparent - parent2 * _mass2(e2, x2, y2, z2)
    if not (parent2 > 0.0 and daughter2 > 0.0 and grandparent2 > 0.0):
        return math.nan
    cosine = (between * parent2 - to_daughter * to_grandparent) / math.sqrt(daughter2 * grandparent2)
    return min(max(cosine, -1.0), 1.0)


@kernel
def _tau_x(e: float, x: float, y: float, z: float, tx: float, ty: float, tz: float, beam: float, mass: float) -> float:
    """2 E/m of a lepton in the rest frame of a tau of energy `beam` that flies opposite to the tag, e+e- frame."""
    size = math.sqrt(tx * tx + ty * ty + tz * tz)
    momentum = math.sqrt((beam - mass) * (beam + mass))
    along = -(x * tx + y * ty + z * tz) / size
    return 2.0 * (e * beam - along * momentum) / (mass * mass)


@kernel
def _constrained_mass(
    e: float, x: float, y: float, z: float, e1: float, x1: float, y1: float, z1: float, mass: float
) -> float:  # fmt: skip
    """Mass of a part of a parent after its four-momentum is multiplied by what brings the parent to its `mass`.

    The factor f solves (rest + f part)^2 = mass^2.
    """
    part2 = _mass2(e, x, y, z)
    re, rx, ry, rz = e1 - e, x1 - x, y1 - y, z1 - z
    to_rest = _product(e, x, y, z, re, rx, ry, rz)
    missing = mass * mass - _mass2(re, rx, ry, rz)
    if not (part2 >= 0.0 and missing > 0.0):
        return math.nan
    return math.sqrt(part2) * missing / (to_rest + math.sqrt(to_rest * to_rest + part2 * missing))


@kernel
def flight(points: Floats, direction: Floats, what: int, values: Floats) -> None:
    """Of a decay point, cm, shape (3, n): 0 distance from the origin, 1 transverse distance, 2 angle to `direction`."""
    for j in range(len(values)):
        x, y, z = points[0, j], points[1, j], points[2, j]
        if what == 0:
            values[j] = math.sqrt(x * x + y * y + z * z)
        elif what == 1:
            values[j] = math.sqrt(x * x + y * y)
        else:
            values[j] = _angle(x, y, z, direction[1, j], direction[2, j], direction[3, j])


@kernel
def fill(
    entries: Floats, weights: Floats, edges: Floats, start: int, stop: int, values: Floats, variances: Floats
) -> None:
    """Add events start to stop - 1 to values and variances, shape (n_bins + 2,): below, bins, above.

    entries, weights: shape (n_entries, n), NaN for no entry. A bin holds its lower edge and not its upper one. Entries
    of an event in one bin add the square of the sum of their weights to its variance, since they are not independent.
    """
    n_entries = entries.shape[0]
    places = np.zeros(n_entries, dtype=np.int64)
    for j in range(start, stop):
        for i in range(n_entries):
            value, weight = entries[i, j], weights[i, j]
            places[i] = -1
            if math.isnan(value) or weight == 0.0:
                continue
            place = np.searchsorted(edges, value, side="right")
            others = 0.0
            for k in range(i):
                others += weights[k, j] if places[k] == place else 0.0
            places[i] = place
            values[place] += weight
            variances[place] += weight * (weight + 2.0 * others)
